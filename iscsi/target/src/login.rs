//! From an accepted socket to a connection of a session.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use iscsi_proto::chap::ChapError;
use iscsi_proto::error::LoginError;
use iscsi_proto::login::{
    LoginConfig, LoginConnection, LoginDone, LoginIdentity, LoginOutcome, Peek, first_login_target,
};
use iscsi_proto::params::SessionType;
use iscsi_proto::session::{ConnectionParams, Session, SessionConfig};
use reactor::net::{StreamError, StreamParcel};
use reactor::poller::Progress;
use reactor::time::Time;
use scsi::NexusName;

use crate::core::TargetCore;
use crate::limits::{
    ACCEPTS_PER_TURN, CLOSE_LINGER, DATA_OUT_TIMEOUT, DISCOVERY_BACKLOG_BYTES, LOGINS_PER_CORE_MAX,
    LOGINS_PER_SOURCE_MAX, TX_BACKLOG_BYTES,
};
use crate::message::{CoreMessage, MovedConnection};
use crate::policy::Policy;
use crate::setup::ChapPause;
use crate::slots::Key;
use crate::state::{Connection, Phase, SessionEntry, Then};

impl TargetCore {
    /// Takes new connections from the portals.
    pub(crate) fn accept(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        if !self.accepting {
            return progress;
        }
        for at in 0..self.portals.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.portals[at].listener.try_accept() {
                    Ok((parcel, peer)) => {
                        self.open_connection(parcel, peer, now);
                        progress = Progress::Busy;
                    }
                    // Out of descriptors is not the listener's end: the next turn tries again.
                    Err(StreamError::WouldBlock | StreamError::Broken(_)) => break,
                }
            }
        }
        progress
    }

    /// A connection begins: fresh ones are looked at first, moved ones log in. Over the limit it is closed
    /// at once, so that a flood cannot take the place of sessions.
    fn open_connection(&mut self, parcel: StreamParcel, peer: SocketAddr, now: Time) -> Option<Key> {
        let of_source = self.login_sources.get(&peer.ip()).copied().unwrap_or_default();
        if self.logins >= LOGINS_PER_CORE_MAX || of_source >= LOGINS_PER_SOURCE_MAX || self.is_draining() {
            return None;
        }
        let index = self.connections.next_index()?;
        let stream = self.group.adopt(parcel, index).ok()?;
        let connection = Connection {
            local: stream.local(),
            stream,
            peer,
            phase: Phase::Peek(Vec::new()),
            preamble: VecDeque::new(),
            unread: Vec::new(),
            dirty: false,
            send_blocked: false,
            paused: false,
            deadline: now.after(self.settings.login_timeout),
        };
        let deadline = connection.deadline;
        let key = self.connections.insert(connection).unwrap_or_else(|_| unreachable!("room was checked"));
        assert_eq!(key.index(), index, "the stream's token is the slot's index");
        self.logins += 1;
        self.login_sources.insert(peer.ip(), of_source + 1);
        self.alarms.insert((deadline, key));
        Some(key)
    }

    /// A connection is no longer one that has not logged in.
    pub(crate) fn end_login(&mut self, source: IpAddr) {
        self.logins -= 1;
        let count = self.login_sources.get_mut(&source).expect("every login was counted");
        *count -= 1;
        if *count == 0 {
            self.login_sources.remove(&source);
        }
    }

    /// A connection that another core accepted for one of our targets.
    pub(crate) fn adopt_connection(&mut self, moved: MovedConnection, now: Time) {
        if let Some(key) = self.open_connection(moved.parcel, moved.peer, now) {
            self.begin_login(key, &moved.received, now);
        }
    }

    /// Bytes of a connection that is not in full feature phase.
    pub(crate) fn on_login_bytes(&mut self, key: Key, bytes: &[u8], now: Time) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match &mut connection.phase {
            Phase::Peek(received) => {
                received.extend_from_slice(bytes);
                match first_login_target(received) {
                    Peek::NeedMore => {}
                    Peek::Target(name) => {
                        let received = std::mem::take(received);
                        let owner = self.directory.get(&name).map(|entry| entry.core);
                        match owner.filter(|owner| *owner != self.endpoint.core()) {
                            Some(owner) => self.move_connection(key, owner, received),
                            None => self.begin_login(key, &received, now),
                        }
                    }
                    Peek::Discovery | Peek::Invalid => {
                        let received = std::mem::take(received);
                        self.begin_login(key, &received, now);
                    }
                }
            }
            Phase::Login(_) => self.drive_login(key, bytes, now),
            // It sends before it has our answer: kept for the session, within the bound of one receive call.
            Phase::Reinstating(_) if connection.unread.len() < 65_536 => {
                connection.unread.extend_from_slice(bytes)
            }
            Phase::Reinstating(_) => self.lose_connection(key),
            Phase::Closing | Phase::Full { .. } => {}
        }
    }

    fn move_connection(&mut self, key: Key, owner: usize, received: Vec<u8>) {
        self.group.remove(key.index());
        let connection = self.connections.remove(key).expect("looked up by the caller");
        self.alarms.remove(&(connection.deadline, key));
        self.end_login(connection.peer.ip());
        let parcel = connection.stream.into_parcel();
        let moved = MovedConnection { parcel, received, peer: connection.peer };
        // A full ring drops the connection: the initiator tries again.
        let _ = self.endpoint.send(owner, CoreMessage::Adopt(moved));
    }

    fn begin_login(&mut self, key: Key, received: &[u8], now: Time) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let config =
            LoginConfig { command_window: self.settings.queue_depth, offers: self.settings.offers.clone() };
        connection.phase = Phase::Login(Box::new(LoginConnection::new(config)));
        self.drive_login(key, received, now);
    }

    /// Gives bytes to the login and acts on where it stands then.
    fn drive_login(&mut self, key: Key, bytes: &[u8], now: Time) {
        let draining = self.is_draining();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let (Phase::Login(mut login) | Phase::Reinstating(mut login)) = phase else {
            unreachable!("only a login is driven");
        };
        let source = connection.peer.ip();
        let mut policy = Policy {
            targets: &self.targets,
            names: &self.target_names,
            sessions: &self.sessions,
            sessions_max: self.settings.sessions_max,
            next_tsih: &mut self.next_tsih,
            draining,
            guard: &self.guard,
            source,
            now,
            replaces: None,
            replaces_connection: None,
        };
        let mut random = self.core.random.borrow_mut();
        let progress = login.handle(bytes, &mut |out| random.fill(out), &mut policy);
        drop(random);
        let (replaces, replaces_connection) = (policy.replaces, policy.replaces_connection);
        let sent = login.tx().len();
        connection.preamble.extend(login.tx());
        login.tx_advance(sent);
        let rest = &bytes[progress.consumed..];
        match progress.outcome {
            LoginOutcome::NeedMore => connection.phase = Phase::Login(login),
            LoginOutcome::Waiting => {
                connection.unread.extend_from_slice(rest);
                connection.phase = Phase::Reinstating(login);
                self.replace(key, replaces, replaces_connection);
            }
            LoginOutcome::Done(done) => {
                if done.chap_user.is_some() {
                    self.guard.on_success(source, &done.identity.initiator_name, now);
                }
                self.enter(key, &done, rest, now);
            }
            LoginOutcome::Failed(error) => {
                self.note_failure(source, login.identity(), error, now);
                self.linger(key, now);
            }
        }
        self.touch(key);
    }

    /// Counts a login whose initiator did not prove who it is; those who guess have to wait from now on.
    fn note_failure(&mut self, source: IpAddr, who: Option<&LoginIdentity>, error: LoginError, now: Time) {
        let stats = &self.core.stats;
        let is_guess = match error {
            LoginError::Chap(error) => {
                stats.authentication_failures.add(1);
                matches!(error, ChapError::WrongResponse | ChapError::ReflectedChallenge)
            }
            LoginError::TooManyFailures => {
                stats.authentication_refusals.add(1);
                false
            }
            _ => false,
        };
        let Some(who) = who.filter(|_| is_guess) else { return };
        let Some(pause) = self.guard.on_failure(source, &who.initiator_name, now) else { return };
        if let Some(notices) = &self.settings.notices {
            let (initiator_name, target_name) = (who.initiator_name.clone(), who.target_name.clone());
            let target_name = target_name.unwrap_or_default();
            // Nobody waits here for who writes the log: what finds no room was counted.
            let _ = notices.try_send(ChapPause { address: source, initiator_name, target_name, pause });
        }
    }

    /// The login waits until what it replaces has ended with its last I/O.
    fn replace(&mut self, key: Key, session: Option<Key>, connection: Option<Key>) {
        let mut tasks = Vec::new();
        if let Some(session) = session {
            tasks = self.open_tasks_of(session, |_| true);
        }
        if let Some(connection) = connection {
            tasks.extend(self.open_tasks_on(connection));
        }
        if let Some(connection) = connection {
            self.lose_connection(connection);
        }
        if let Some(session) = session {
            self.kill_session(session);
        }
        self.abort_then(tasks, Then::Reinstate { connection: key }, None);
    }

    /// What the login replaces has ended: it asks again.
    pub(crate) fn finish_login(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if matches!(connection.phase, Phase::Reinstating(_)) {
            let unread = std::mem::take(&mut connection.unread);
            let now = self.core.clock.now();
            self.drive_login(key, &unread, now);
        }
    }

    /// Login is done: the connection joins its session, new or old.
    fn enter(&mut self, key: Key, done: &LoginDone, rest: &[u8], now: Time) {
        let session = if done.leading { self.new_session(done) } else { self.joined_session(done) };
        let params = ConnectionParams {
            cid: done.identity.cid,
            stat_sn: done.stat_sn,
            negotiated: done.negotiated.clone(),
        };
        let joined = session.and_then(|session| {
            let entry = self.sessions.get_mut(session)?;
            let index = entry.session.add_connection(&params, now.as_ns())?;
            entry.connections[usize::from(index.0)] = Some(key);
            Some((session, index))
        });
        let Some((session, index)) = joined else { return self.linger(key, now) };
        let connection = self.connections.get_mut(key).expect("it has just logged in");
        connection.phase = Phase::Full { session, index };
        self.alarms.remove(&(connection.deadline, key));
        connection.deadline = Time::NEVER;
        let source = connection.peer.ip();
        self.end_login(source);
        self.set_session_alarm(session);
        if !rest.is_empty() {
            self.feed_bytes(key, now, rest);
        }
    }

    fn new_session(&mut self, done: &LoginDone) -> Option<Key> {
        let identity = &done.identity;
        let target = identity.target_name.as_ref().and_then(|name| self.target_names.get(name)).copied();
        if identity.session_type == SessionType::Normal && target.is_none() {
            return None;
        }
        let nexus = match target {
            Some(target) => {
                let target = self.targets.get(target)?;
                let name = NexusName {
                    initiator_name: identity.initiator_name.clone(),
                    isid: identity.isid,
                    target_name: target.setup.name.clone(),
                    portal_group_tag: target.setup.portal_group_tag,
                    relative_target_port_id: target.relative_target_port_id,
                };
                let path = scsi::path_of(&name)?;
                Some((name, path))
            }
            None => None,
        };
        let config = SessionConfig {
            window_commands: self.settings.queue_depth,
            ping_interval_ns: self.settings.ping_interval.as_nanos() as u64,
            ping_timeout_ns: self.settings.ping_timeout.as_nanos() as u64,
            data_out_timeout_ns: DATA_OUT_TIMEOUT.as_nanos() as u64,
            tx_backlog_bytes: match identity.session_type {
                SessionType::Normal => TX_BACKLOG_BYTES,
                SessionType::Discovery => DISCOVERY_BACKLOG_BYTES,
            },
        };
        let entry = SessionEntry {
            session: Session::new(config, identity.session_type, &done.negotiated, done.cmd_sn),
            target,
            initiator_name: identity.initiator_name.clone(),
            isid: identity.isid,
            nexus,
            tsih: identity.tsih,
            chap_user: done.chap_user.clone(),
            max_connections: usize::from(done.negotiated.max_connections).min(8),
            connections: [None; 8],
            tasks: Vec::new(),
            held_bytes: std::rc::Rc::default(),
            open_tasks: Vec::new(),
            waiting_tasks: 0,
            ended: false,
            alarm: Time::NEVER,
        };
        let session = self.sessions.insert(entry).ok()?;
        self.attach_nexus(session);
        Some(session)
    }

    fn joined_session(&self, done: &LoginDone) -> Option<Key> {
        let target = *self.target_names.get(done.identity.target_name.as_ref()?)?;
        let found = self.sessions.iter().find(|(_, entry)| {
            !entry.ended && entry.tsih == done.identity.tsih && entry.target == Some(target)
        });
        found.map(|(key, _)| key)
    }

    /// The connection closes once its last bytes were taken, or soon.
    fn linger(&mut self, key: Key, now: Time) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase = Phase::Closing;
        self.alarms.remove(&(connection.deadline, key));
        connection.deadline = now.after(CLOSE_LINGER);
        self.alarms.insert((connection.deadline, key));
        self.touch(key);
    }
}

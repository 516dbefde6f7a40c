//! What a login may do: targets, allow lists, users and sessions, as the login asks for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use iscsi_proto::chap::{ChapAlgorithm, ChapCredentials};
use iscsi_proto::login::{Access, Admission, AuthPolicy, Establish, LoginIdentity, LoginPolicy};
use iscsi_proto::params::{Negotiated, SessionType};
use iscsi_proto::pdu::LoginStatus;
use reactor::time::Time;

use crate::guard::Guard;
use crate::limits::DISCOVERY_SESSIONS_MAX;
use crate::setup::{Auth, TargetSetup};
use crate::slots::{Key, Slots};
use crate::state::{SessionEntry, Target};

/// One core's answers to the login of one connection.
pub(crate) struct Policy<'a> {
    pub targets: &'a Slots<Target>,
    pub names: &'a BTreeMap<String, Key>,
    pub sessions: &'a Slots<SessionEntry>,
    pub sessions_max: usize,
    pub next_tsih: &'a mut u16,
    pub draining: bool,
    /// Wrong answers so far, and whose answer it would be.
    pub guard: &'a Guard,
    pub source: IpAddr,
    pub now: Time,
    /// Set when the login replaces that session, which must end first.
    pub replaces: Option<Key>,
    /// Set when the login replaces one connection (same CID) of that session.
    pub replaces_connection: Option<Key>,
}

impl Policy<'_> {
    fn target(&self, login: &LoginIdentity) -> Option<(Key, &TargetSetup)> {
        let key = *self.names.get(login.target_name.as_ref()?)?;
        Some((key, &self.targets.get(key)?.setup))
    }

    /// The session that a login joins. Not one on its way out: its connections may take a while for their last bytes, and
    /// its last I/O as well, but what joined it meanwhile would be closed by nobody.
    fn session_of(&self, login: &LoginIdentity) -> Option<(Key, &SessionEntry)> {
        let target = self.target(login)?.0;
        self.sessions.iter().find(|(_, entry)| {
            entry.tsih == login.tsih
                && !entry.ended
                && !entry.session.is_ending()
                && entry.target == Some(target)
                && entry.isid == login.isid
                && entry.initiator_name == login.initiator_name
        })
    }

    /// The session that a leading login with the same names and ISID replaces, even while it only ends its tasks.
    fn replaced_by(&self, login: &LoginIdentity) -> Option<Key> {
        let target = self.target(login)?.0;
        let old = self.sessions.iter().find(|(_, entry)| {
            entry.target == Some(target)
                && entry.isid == login.isid
                && entry.initiator_name == login.initiator_name
        });
        old.map(|(key, _)| key)
    }

    fn fresh_tsih(&mut self) -> u16 {
        loop {
            let tsih = *self.next_tsih;
            *self.next_tsih = tsih.checked_add(1).unwrap_or(1);
            if self.sessions.iter().all(|(_, entry)| entry.tsih != tsih) {
                return tsih;
            }
        }
    }
}

impl LoginPolicy for Policy<'_> {
    fn admit(&mut self, login: &LoginIdentity) -> Admission {
        if self.draining {
            return Admission::Refuse(LoginStatus::SERVICE_UNAVAILABLE);
        }
        if login.session_type == SessionType::Discovery {
            return Admission::Admit(Access::new(AuthPolicy::open(), 1));
        }
        let Some((_, setup)) = self.target(login) else {
            return Admission::Refuse(LoginStatus::NOT_FOUND);
        };
        if !setup.allows(&login.initiator_name) {
            return Admission::Refuse(LoginStatus::AUTHORIZATION_FAILURE);
        }
        if !login.is_leading() && self.session_of(login).is_none() {
            return Admission::Refuse(LoginStatus::SESSION_DOES_NOT_EXIST);
        }
        let authentication = match &setup.auth {
            Auth::None => AuthPolicy::open(),
            Auth::Chap(_) => AuthPolicy {
                chap_algorithms: ChapAlgorithm::PREFERENCE.to_vec(),
                none_allowed: false,
                // The target proves itself to an initiator that asks.
                mutual_required: false,
            },
        };
        Admission::Admit(Access {
            target_alias: setup.alias.clone(),
            header_digest: setup.header_digest,
            data_digest: setup.data_digest,
            ..Access::new(authentication, setup.portal_group_tag)
        })
    }

    fn may_answer(&self, login: &LoginIdentity) -> bool {
        !self.guard.is_paused(self.source, &login.initiator_name, self.now)
    }

    fn credentials(&self, login: &LoginIdentity, user: &str) -> Option<ChapCredentials<'_>> {
        let (_, setup) = self.target(login)?;
        let Auth::Chap(users) = &setup.auth else { return None };
        // A connection joins only the session of its own user.
        let owner = if login.is_leading() { None } else { self.session_of(login)?.1.chap_user.as_deref() };
        if owner.is_some_and(|owner| owner != user) {
            return None;
        }
        let user = users.iter().find(|entry| entry.name == user)?;
        let mutual = user.mutual.as_ref().map(|(name, secret)| (name.as_str(), secret));
        Some(ChapCredentials { secret: &user.secret, mutual })
    }

    fn establish(&mut self, login: &LoginIdentity, _: &Negotiated) -> Establish {
        if login.session_type == SessionType::Normal {
            let Some((_, setup)) = self.target(login) else {
                return Establish::Refuse(LoginStatus::TARGET_REMOVED);
            };
            if !setup.allows(&login.initiator_name) {
                return Establish::Refuse(LoginStatus::AUTHORIZATION_FAILURE);
            }
        } else if self.sessions.iter().filter(|(_, entry)| entry.target.is_none()).count()
            >= DISCOVERY_SESSIONS_MAX
        {
            return Establish::Refuse(LoginStatus::OUT_OF_RESOURCES);
        }
        if login.is_leading() {
            if let Some(old) = self.replaced_by(login) {
                self.replaces = Some(old);
                return Establish::Wait;
            }
            if self.sessions.len() >= self.sessions_max {
                return Establish::Refuse(LoginStatus::OUT_OF_RESOURCES);
            }
            return Establish::Session(self.fresh_tsih());
        }
        let Some((_, entry)) = self.session_of(login) else {
            return Establish::Refuse(LoginStatus::SESSION_DOES_NOT_EXIST);
        };
        let same = entry.session.connections().find(|(_, cid)| *cid == login.cid).map(|(index, _)| index);
        let replaced = same.and_then(|index| entry.connections[usize::from(index.0)]);
        if replaced.is_some() {
            self.replaces_connection = replaced;
            return Establish::Wait;
        }
        if !entry.has_room() {
            return Establish::Refuse(LoginStatus::TOO_MANY_CONNECTIONS);
        }
        Establish::Session(entry.tsih)
    }

    fn command_window(&self, login: &LoginIdentity) -> Option<(u32, u32)> {
        self.session_of(login).map(|(_, entry)| entry.session.command_window())
    }
}

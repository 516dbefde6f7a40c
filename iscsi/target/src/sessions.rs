//! Sessions come and go: joining, losing connections, ending, being closed from our side.

use iscsi_proto::session::{AsyncNotice, ConnectionIndex, TaskId};
use reactor::poller::Progress;
use reactor::time::Time;

use crate::core::TargetCore;
use crate::slots::Key;
use crate::state::{Phase, Task, nexus_of};

impl TargetCore {
    /// The connection in a slot of a session.
    pub(crate) fn connection_of(&self, session: Key, index: ConnectionIndex) -> Option<Key> {
        self.sessions.get(session)?.connections[usize::from(index.0)]
    }

    /// Makes the session's nexus known to every logical unit of its target.
    pub(crate) fn attach_nexus(&mut self, session: Key) {
        let Some(entry) = self.sessions.get(session) else { return };
        let Some(target) = entry.target.and_then(|target| self.targets.get(target)) else { return };
        let Some((name, _)) = &entry.nexus else { return };
        for (_, disk) in &target.luns {
            let disk = self.disks.get_mut(*disk).expect("a mapped disk is there");
            assert!(disk.unit.attach(nexus_of(session), name.clone()), "sessions are fewer than nexuses");
        }
    }

    fn detach_nexus(&mut self, session: Key) {
        let Some(target) = self.sessions.get(session).and_then(|entry| self.targets.get(entry.target?))
        else {
            return;
        };
        for (_, disk) in &target.luns {
            let disk = self.disks.get_mut(*disk).expect("a mapped disk is there");
            disk.unit.detach(nexus_of(session));
        }
    }

    /// A session has logged out. Its nexus goes with its last connection, which may take the initiator a while;
    /// but whoever knows that it has logged out must not meet its legacy reservations any more.
    pub(crate) fn release_units(&mut self, session: Key) {
        let target = self.sessions.get(session).and_then(|entry| self.targets.get(entry.target?));
        for (_, disk) in target.map_or(&[][..], |target| &target.luns) {
            let disk = self.disks.get_mut(*disk).expect("a mapped disk is there");
            disk.unit.release(nexus_of(session));
        }
    }

    /// A connection is gone, or is given up: forgets it, and its session with its last one.
    pub(crate) fn lose_connection(&mut self, key: Key) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.group.remove(key.index());
        self.alarms.remove(&(connection.deadline, key));
        let Phase::Full { session, index } = connection.phase else {
            self.end_login(connection.peer.ip());
            return;
        };
        let Some(entry) = self.sessions.get_mut(session) else { return };
        entry.session.remove_connection(index);
        entry.connections[usize::from(index.0)] = None;
        let last = entry.connections.iter().all(Option::is_none);
        self.drain_events(session);
        self.touch_session(session);
        if last {
            self.end_session(session);
        }
    }

    /// The session has no connection any more: its tasks end without an answer.
    fn end_session(&mut self, session: Key) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        if entry.ended {
            return;
        }
        entry.ended = true;
        for task in self.open_tasks_of(session, |_| true) {
            self.abort_task(task, None);
        }
        self.detach_nexus(session);
        self.forget_if_over(session);
    }

    /// The task at `place` of the session's list is over and has been removed.
    pub(crate) fn leave_session(&mut self, session: Key, place: usize, id: Option<TaskId>) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        if let Some(id) = id {
            entry.set_task(id, None);
        }
        entry.open_tasks.swap_remove(place);
        if let Some(moved) = entry.open_tasks.get(place) {
            self.tasks.get_mut(*moved).expect("an open task is there").place = place;
        }
        if entry.ended {
            self.forget_if_over(session);
        }
    }

    fn forget_if_over(&mut self, session: Key) {
        if self.sessions.get(session).is_some_and(|entry| entry.ended && entry.open_tasks.is_empty()) {
            let entry = self.sessions.remove(session).expect("looked up above");
            self.session_alarms.remove(&(entry.alarm, session));
        }
    }

    /// Ends a session from our side: the initiator is told, what is queued is sent, then it is closed.
    pub(crate) fn close_session(&mut self, session: Key) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let open: Vec<ConnectionIndex> = entry.session.connections().map(|(index, _)| index).collect();
        if let Some(first) = open.first() {
            entry.session.notify(*first, AsyncNotice::DropSession);
        }
        for index in open {
            entry.session.close(index);
        }
        self.drain_later(session);
        self.touch_session(session);
    }

    /// Drops every connection of a session at once.
    pub(crate) fn kill_session(&mut self, session: Key) {
        let connections = self.sessions.get(session).map(|entry| entry.connections);
        for key in connections.into_iter().flatten().flatten() {
            self.lose_connection(key);
        }
        self.end_session(session);
    }

    /// The tasks of a session that are not over, aborted ones included, as far as they are `wanted`.
    pub(crate) fn open_tasks_of(&self, session: Key, wanted: impl Fn(&Task) -> bool) -> Vec<Key> {
        let open = self.sessions.get(session).map_or(&[][..], |entry| &entry.open_tasks);
        let wanted = |key: &&Key| wanted(self.tasks.get(**key).expect("an open task is there"));
        open.iter().filter(wanted).copied().collect()
    }

    /// Looks at a session's timers again at its next deadline.
    pub(crate) fn set_session_alarm(&mut self, session: Key) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let next = entry.session.next_deadline().map_or(Time::NEVER, Time::from_ns);
        if next != entry.alarm {
            self.session_alarms.remove(&(entry.alarm, session));
            entry.alarm = next;
            if next != Time::NEVER {
                self.session_alarms.insert((next, session));
            }
        }
    }

    /// Serves the deadlines that have passed.
    pub(crate) fn run_alarms(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(&(at, key)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            // Too slow to log in, or to take its last bytes.
            self.lose_connection(key);
            progress = Progress::Busy;
        }
        while let Some(&(at, session)) = self.session_alarms.first()
            && at <= now
        {
            self.session_alarms.pop_first();
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            entry.alarm = Time::NEVER;
            entry.session.handle_timeout(now.as_ns());
            self.drain_events(session);
            self.touch_session(session);
            self.set_session_alarm(session);
            progress = Progress::Busy;
        }
        progress
    }
}

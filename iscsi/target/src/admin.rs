//! What control asks of a core: targets, sessions, shutting down.

use iscsi_proto::discovery::TargetRecords;
use iscsi_proto::session::{SendTargets, TextQuery};
use scsi::UnitAttention;

use crate::core::TargetCore;
use crate::limits::DRAIN_LINGER;
use crate::message::{Answer, CoreMessage, SessionReport};
use crate::slots::Key;
use crate::state::{Draining, Phase};

impl TargetCore {
    /// Does what a message says and answers it.
    pub(crate) fn on_message(&mut self, message: CoreMessage) {
        match message {
            CoreMessage::SetTarget { setup, answer } => {
                let set = self.set_target(*setup);
                answer(set);
            }
            CoreMessage::RemoveTarget { name, answer } => answer(self.remove_target(&name)),
            CoreMessage::Accept => self.accepting = true,
            CoreMessage::SetDirectory(directory) => self.directory = directory,
            CoreMessage::Sessions(answer) => answer(self.session_reports()),
            CoreMessage::DropSession { tsih, answer } => {
                let found = self.sessions.iter().find(|(_, entry)| entry.tsih == tsih && !entry.ended);
                let key = found.map(|(key, _)| key);
                if let Some(key) = key {
                    self.close_session(key);
                }
                answer(key.is_some());
            }
            CoreMessage::Adopt(moved) => {
                let now = self.core.clock.now();
                self.adopt_connection(moved, now);
            }
            CoreMessage::Drain(answer) => self.begin_draining(answer),
        }
    }

    /// Which targets an initiator may know.
    pub(crate) fn on_text(&mut self, session: Key, query: TextQuery) {
        let Some(entry) = self.sessions.get(session) else { return };
        let reached = self
            .connection_of(session, query.connection)
            .and_then(|key| self.connections.get(key))
            .map(|connection| connection.local);
        let own = entry.target.and_then(|target| self.targets.get(target)).map(|t| t.setup.name.as_str());
        let mut records = TargetRecords::new();
        for (name, visible) in self.directory.iter() {
            let asked = match &query.targets {
                SendTargets::All => true,
                SendTargets::Current => own == Some(name),
                // In a normal session only its own target may be asked for (RFC 7143 appendix C).
                SendTargets::Named(asked) => {
                    asked.eq_ignore_ascii_case(name) && own.is_none_or(|own| own == name)
                }
            };
            if !asked || !visible.allows(&entry.initiator_name) {
                continue;
            }
            records.target(name);
            for address in
                visible.advertised.iter().chain(reached.iter().filter(|_| visible.advertised.is_empty()))
            {
                records.address(*address, visible.portal_group_tag);
            }
        }
        let entry = self.sessions.get_mut(session).expect("looked up above");
        entry.session.complete_text(query.id, &records);
        self.touch_session(session);
    }

    fn session_reports(&self) -> Vec<SessionReport> {
        let live = self.sessions.iter().filter(|(_, entry)| !entry.ended);
        live.map(|(_, entry)| {
            let target = entry.target.and_then(|target| self.targets.get(target));
            let connections = entry.session.connections().filter_map(|(index, cid)| {
                let key = entry.connections[usize::from(index.0)]?;
                Some((cid, self.connections.get(key)?.peer))
            });
            SessionReport {
                tsih: entry.tsih,
                core: self.endpoint.core(),
                initiator_name: entry.initiator_name.clone(),
                isid: entry.isid.iter().map(|byte| format!("{byte:02x}")).collect(),
                target_name: target.map(|target| target.setup.name.clone()),
                connections: connections.collect(),
                tasks: entry.open_tasks.len(),
            }
        })
        .collect()
    }

    /// The tasks of one connection that are not over.
    pub(crate) fn open_tasks_on(&self, connection: Key) -> Vec<Key> {
        let Some(Phase::Full { session, index }) = self.connections.get(connection).map(|c| &c.phase) else {
            return Vec::new();
        };
        self.open_tasks_of(*session, |task| task.connection == *index)
    }

    fn begin_draining(&mut self, answer: Answer<()>) {
        self.portals.clear();
        let deadline = self.core.clock.now().after(DRAIN_LINGER);
        self.draining = Some(Draining { answer, deadline, closing: Vec::new() });
        for (key, connection) in self.connections.iter_mut() {
            // No more commands; those in flight still end and are answered.
            connection.paused = true;
            self.group.pause_recv(key.index(), true);
        }
    }

    /// Shutting down: commands in flight first, then the connections, then the volumes are let go of, then the answer.
    pub(crate) fn go_on_draining(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        let late = draining.deadline <= self.core.clock.now();
        let mut closing = std::mem::take(&mut draining.closing);
        for key in self.connections.keys() {
            let full = self.connections.get(key).is_some_and(|c| matches!(c.phase, Phase::Full { .. }));
            if late || !full {
                self.lose_connection(key);
            }
        }
        for session in self.sessions.keys() {
            let idle = self.sessions.get(session).is_some_and(|entry| entry.open_tasks.is_empty());
            if idle && !closing.contains(&session) {
                closing.push(session);
                self.close_session(session);
            }
        }
        self.draining.as_mut().expect("looked up above").closing = closing;
        if !self.sessions.is_empty() || !self.tasks.is_empty() {
            return;
        }
        for key in self.disks.keys() {
            self.leave_disk(key);
        }
        if self.disks.is_empty()
            && let Some(draining) = self.draining.take()
        {
            self.drained = true;
            (draining.answer)(());
        }
    }

    /// Tells the sessions of a target that its LUNs have changed.
    pub(crate) fn tell_luns_changed(&mut self, target: Key) {
        let luns = self.targets.get(target).map(|target| target.luns.clone()).unwrap_or_default();
        for (session, entry) in self.sessions.iter() {
            if entry.target != Some(target) {
                continue;
            }
            for (_, disk) in &luns {
                if let Some(disk) = self.disks.get_mut(*disk) {
                    let nexus = crate::state::nexus_of(session);
                    disk.unit.queue_unit_attention(nexus, UnitAttention::ReportedLunsChanged);
                }
            }
        }
    }
}

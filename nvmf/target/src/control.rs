//! What control asks of a core, and what time asks of it.

use reactor::poller::Progress;
use reactor::time::Time;

use crate::core::{NvmfCore, busy_if};
use crate::event::AsyncEvent;
use crate::limits::{DATA_TIMEOUT, DRAIN_LINGER, SEND_TIMEOUT, SWEEP_INTERVAL};
use crate::message::{Answer, ControllerReport, CoreMessage};
use crate::slots::Key;
use crate::state::{Connection, Draining, Phase};

impl NvmfCore {
    /// Does what a message says and answers it.
    pub(crate) fn on_message(&mut self, message: CoreMessage) {
        match message {
            CoreMessage::SetSubsystem { setup, answer } => {
                let set = self.set_subsystem(*setup);
                answer(set);
            }
            CoreMessage::RemoveSubsystem { nqn, answer } => self.remove_subsystem(&nqn, answer),
            CoreMessage::SetDirectory(directory) => {
                self.directory = directory;
                let discovery =
                    self.controllers.iter().filter(|(_, controller)| controller.subsystem.is_none());
                let keys: Vec<Key> = discovery.map(|(key, _)| key).collect();
                for key in keys {
                    self.raise(key, AsyncEvent::DiscoveryChange);
                }
            }
            CoreMessage::SetAnaState { nqn, port_id, group, state, answer } => {
                answer(self.set_ana_state(&nqn, port_id, group, state));
            }
            CoreMessage::Accept => self.accepting = true,
            CoreMessage::Controllers(answer) => answer(self.controller_reports()),
            CoreMessage::DropController { nqn, cntlid, answer } => {
                let key = self.subsystem_names.get(&nqn).copied();
                let found = self.controllers.iter().find(|(_, controller)| {
                    controller.subsystem == key
                        && key.is_some()
                        && controller.cntlid == cntlid
                        && !controller.ended
                });
                let found = found.map(|(key, _)| key);
                if let Some(key) = found {
                    self.end_controller(key);
                }
                answer(found.is_some());
            }
            CoreMessage::Adopt(moved) => self.adopt_connection(moved),
            CoreMessage::Drain(answer) => self.begin_draining(answer),
        }
    }

    fn controller_reports(&self) -> Vec<ControllerReport> {
        let live = self.controllers.iter().filter(|(_, controller)| !controller.ended);
        live.map(|(_, controller)| {
            let subsystem = controller.subsystem.and_then(|key| self.subsystems.get(key));
            let queues = (0..).zip(&controller.queues).filter_map(|(qid, key)| {
                let connection = self.connections.get((*key)?)?;
                Some((qid, connection.peer))
            });
            let keep_alive_ms = controller.keep_alive.map_or(0, |timeout| timeout.as_millis());
            ControllerReport {
                cntlid: controller.cntlid,
                core: self.endpoint.core(),
                subsystem_nqn: subsystem.map(|subsystem| subsystem.setup.nqn.clone()),
                host_nqn: controller.host_nqn.clone(),
                host_id: uuid::Uuid::from_bytes(controller.host_id),
                queues: queues.collect(),
                port_id: controller.port_id,
                keep_alive_ms: u32::try_from(keep_alive_ms).unwrap_or(u32::MAX),
                commands: controller.open_tasks,
            }
        })
        .collect()
    }

    fn begin_draining(&mut self, answer: Answer<()>) {
        self.portals.clear();
        let deadline = self.now.after(DRAIN_LINGER);
        self.draining = Some(Draining { answer, deadline });
        for (key, connection) in self.connections.iter_mut() {
            // No more commands; those in flight still end and are answered.
            connection.paused = true;
            self.group.pause_recv(key.index(), true);
        }
    }

    /// Shutting down: commands in flight first, then the connections, then the namespaces let go of their volumes.
    pub(crate) fn go_on_draining(&mut self) {
        let Some(draining) = &self.draining else { return };
        let late = draining.deadline <= self.core.clock.now();
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get(key) else { continue };
            let idle =
                connection.tasks.iter().all(Option::is_none) && connection.queue.tx_queued_bytes() == 0;
            let over = match connection.phase {
                // The association ends with its admin queue, so that one is the last.
                Phase::Live { controller, qid: 0 } => {
                    let controller = self.controllers.get(controller);
                    idle && controller.is_none_or(|c| c.open_tasks == 0 && !c.has_io_queues())
                }
                Phase::Live { .. } => idle,
                _ => true,
            };
            if late || over {
                self.lose_connection(key);
            }
        }
        self.release_barriers();
        let quiet = self.connections.is_empty() && self.tasks.is_empty();
        // What a device does not give back cannot be waited for any longer than that.
        let given_up = late && self.now.since(draining_deadline(self)) > DRAIN_LINGER;
        if (quiet || given_up)
            && let Some(draining) = self.draining.take()
        {
            for key in self.namespaces.keys() {
                self.namespaces.remove(key);
            }
            self.subsystem_names.clear();
            self.busy.clear();
            self.drained = true;
            (draining.answer)(());
        }
    }

    /// Serves the deadlines that have passed.
    pub(crate) fn run_alarms(&mut self) -> Progress {
        let now = self.now;
        let mut worked = false;
        while let Some(&(at, key)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            // Too slow to connect, or to take its last bytes.
            self.lose_connection(key);
            worked = true;
        }
        while let Some(&(at, key)) = self.controller_alarms.first()
            && at <= now
        {
            self.controller_alarms.pop_first();
            worked = true;
            let Some(controller) = self.controllers.get(key) else { continue };
            let silent =
                controller.keep_alive.is_some_and(|timeout| controller.heard_at.after(timeout) <= now);
            if silent {
                self.end_controller(key);
            } else {
                self.set_controller_alarm(key);
            }
        }
        if self.sweep_at <= now {
            self.sweep();
        }
        busy_if(worked)
    }

    /// Closes queues whose host takes nothing, or owes data and sends nothing.
    fn sweep(&mut self) {
        let now = self.now;
        let is_stuck = |connection: &Connection| {
            let queued = connection.queue.tx_queued_bytes() > 0;
            let takes_nothing = queued && now.since(connection.sent_at) > SEND_TIMEOUT;
            let collecting = connection.queue.command_count() > connection.executing && !queued;
            let ours = connection.paused || connection.queue.wants_memory();
            let sends_nothing = collecting && !ours && now.since(connection.received_at) > DATA_TIMEOUT;
            takes_nothing || sends_nothing
        };
        let stuck: Vec<Key> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_stuck(connection))
            .map(|(key, _)| key)
            .collect();
        for key in stuck {
            self.lose_connection(key);
        }
        self.sweep_at = if self.connections.is_empty() { Time::NEVER } else { now.after(SWEEP_INTERVAL) };
    }
}

fn draining_deadline(core: &NvmfCore) -> Time {
    core.draining.as_ref().map_or(Time::NEVER, |draining| draining.deadline)
}

//! Connect on the core of its subsystem: controllers come, queues join them, and both go.

use std::time::Duration;

use nvme_spec::fabrics::{CNTLID_DYNAMIC, ConnectResult};
use nvme_spec::{Cqe, DISCOVERY_NQN, Status};
use nvmf_proto::{CommandId, QueueParams};
use reactor::time::Time;
use zerocopy::little_endian::{U16, U32};

use crate::connect::{ConnectRefusal, ConnectRequest};
use crate::core::NvmfCore;
use crate::event::Events;
use crate::features::Features;
use crate::limits::{
    ADMIN_QUEUE_ENTRIES_MAX, CNTLID_MAX, CONNECTING_PER_CORE_MAX, DISCOVERY_CONTROLLERS_MAX,
    DISCOVERY_KEEP_ALIVE_DEFAULT, KEEP_ALIVE_GRANULARITY, QUEUE_ENTRIES_PER_CORE_MAX,
};
use crate::log_page::Logs;
use crate::registers::Registers;
use crate::reserve::path_of;
use crate::slots::Key;
use crate::state::{Controller, Phase, Then};

/// Where a Connect leads.
enum Admitted {
    /// A new controller; the tasks of earlier ones of the same host end first.
    Admin { subsystem: Option<Key>, wait_for: Vec<Key> },
    /// A queue of a controller; what is left of its queues ends first.
    Io { controller: Key, wait_for: Vec<Key> },
}

/// A keep alive timeout as the timer counts it.
pub(crate) fn keep_alive(kato_ms: u32, discovery: bool) -> Option<Duration> {
    match kato_ms {
        0 if discovery => Some(DISCOVERY_KEEP_ALIVE_DEFAULT),
        0 => None,
        kato_ms => {
            let unit_ms = KEEP_ALIVE_GRANULARITY.as_millis() as u64;
            Some(Duration::from_millis(u64::from(kato_ms).next_multiple_of(unit_ms)))
        }
    }
}

impl NvmfCore {
    /// A Connect with sound fields.
    pub(crate) fn on_connect(&mut self, key: Key, id: CommandId, request: ConnectRequest) {
        if self.lacks_digest(key, &request) {
            return self.refuse_connect(key, id, Status::CONNECT_INVALID_HOST.into());
        }
        let wait_for = match self.admit(&request) {
            Ok(Admitted::Admin { wait_for, .. } | Admitted::Io { wait_for, .. }) => wait_for,
            Err(refusal) => return self.refuse_connect(key, id, refusal),
        };
        if wait_for.is_empty() {
            return self.finish_connect(key, id, &request);
        }
        if self.waiting_connects >= CONNECTING_PER_CORE_MAX {
            return self.refuse_connect(key, id, ConnectRefusal::BUSY);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase = Phase::Waiting(Box::new(request), id);
        self.waiting_connects += 1;
        self.wait_then(wait_for, Then::Connect { connection: key });
    }

    /// True when the subsystem demands a digest that was not agreed on when the connection began.
    fn lacks_digest(&self, key: Key, request: &ConnectRequest) -> bool {
        let subsystem = self.subsystem_names.get(&request.subsystem_nqn);
        let Some(subsystem) = subsystem.and_then(|key| self.subsystems.get(*key)) else { return false };
        let connection = self.connections.get(key).expect("it has just asked");
        let agreed = connection.queue.negotiated().expect("ICReq comes before Connect");
        (subsystem.setup.require_header_digest && !agreed.header_digest)
            || (subsystem.setup.require_data_digest && !agreed.data_digest)
    }

    /// What a Connect waited for has ended: it is looked at again.
    pub(crate) fn resume_connect(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Connect) {
            Phase::Waiting(request, id) => self.on_connect(key, id, *request),
            other => connection.phase = other,
        }
    }

    fn admit(&self, request: &ConnectRequest) -> Result<Admitted, ConnectRefusal> {
        if self.is_draining() || self.queue_entries + request.entries as usize > QUEUE_ENTRIES_PER_CORE_MAX {
            return Err(ConnectRefusal::BUSY);
        }
        let discovery = request.subsystem_nqn == DISCOVERY_NQN;
        let subsystem = if discovery { None } else { Some(self.admit_subsystem(request)?) };
        if request.qid == 0 {
            return self.admit_admin(request, subsystem);
        }
        if discovery || request.qid > self.settings.io_queues_max {
            return Err(ConnectRefusal::qid());
        }
        let found = self.controllers.iter().find(|(_, controller)| {
            controller.subsystem == subsystem && controller.cntlid == request.cntlid && !controller.ended
        });
        let (key, controller) = found.ok_or(ConnectRefusal::cntlid())?;
        // A queue of somebody else's controller would be a way around the allow list and the reservations.
        if controller.host_nqn != request.host_nqn || controller.host_id != request.host_id {
            return Err(ConnectRefusal::host());
        }
        let taken = controller.queues.get(usize::from(request.qid)).copied().flatten().is_some();
        if taken || !controller.registers.is_enabled() {
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        Ok(Admitted::Io { controller: key, wait_for: controller.ending.clone() })
    }

    fn admit_subsystem(&self, request: &ConnectRequest) -> Result<Key, ConnectRefusal> {
        let key = *self.subsystem_names.get(&request.subsystem_nqn).ok_or(ConnectRefusal::subsystem())?;
        let subsystem = self.subsystems.get(key).expect("named subsystems are there");
        if subsystem.removing.is_some() {
            return Err(ConnectRefusal::subsystem());
        }
        if !subsystem.setup.allow.allows(&request.host_nqn) {
            return Err(Status::CONNECT_INVALID_HOST.into());
        }
        Ok(key)
    }

    fn admit_admin(
        &self,
        request: &ConnectRequest,
        subsystem: Option<Key>,
    ) -> Result<Admitted, ConnectRefusal> {
        if request.cntlid != CNTLID_DYNAMIC {
            return Err(ConnectRefusal::cntlid());
        }
        let discovering = || self.controllers.iter().filter(|(_, c)| c.subsystem.is_none()).count();
        let is_full = self.controllers.next_key().is_none()
            || (subsystem.is_none() && discovering() >= DISCOVERY_CONTROLLERS_MAX);
        if is_full {
            return Err(ConnectRefusal::BUSY);
        }
        // A host that comes back retries what it lost: none of that may still be under way (no write of an ended
        // association takes effect after the answer).
        let same_host = |controller: &&Controller| {
            subsystem.is_some()
                && controller.subsystem == subsystem
                && controller.host_id == request.host_id
                && controller.host_nqn == request.host_nqn
        };
        let wait_for = self.controllers.iter().map(|(_, controller)| controller).filter(same_host);
        let wait_for = wait_for.flat_map(|controller| controller.ending.iter().copied()).collect();
        Ok(Admitted::Admin { subsystem, wait_for })
    }

    fn finish_connect(&mut self, key: Key, id: CommandId, request: &ConnectRequest) {
        // Looked at again: it may have waited.
        let joined = self.admit(request).and_then(|admitted| match admitted {
            Admitted::Admin { subsystem, .. } => self.new_controller(key, request, subsystem),
            Admitted::Io { controller, .. } => Ok(controller),
        });
        let controller_key = match joined {
            Ok(controller) => controller,
            Err(refusal) => return self.refuse_connect(key, id, refusal),
        };
        let controller = self.controllers.get_mut(controller_key).expect("found or made just now");
        let qid = usize::from(request.qid);
        if controller.queues.len() <= qid {
            controller.queues.resize(qid + 1, None);
        }
        controller.queues[qid] = Some(key);
        let (cntlid, subsystem) = (controller.cntlid, controller.subsystem);
        let connection = self.connections.get_mut(key).expect("it has just asked");
        connection.subsystem = subsystem;
        connection.phase = Phase::Live { controller: controller_key, qid: request.qid };
        connection.entries = request.entries as usize;
        self.queue_entries += connection.entries;
        connection.queue.connected(QueueParams {
            entries: request.entries,
            in_capsule_bytes: self.settings.in_capsule_bytes as u32,
            sq_flow_control: !request.no_flow_control,
        });
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        cqe.dw0 = U32::new(ConnectResult { cntlid, authreq: 0 }.dword());
        cqe.sqhd = U16::new(if request.no_flow_control { 0xffff } else { 0 });
        connection.executing -= 1;
        connection.queue.complete(id, cqe);
        self.alarms.remove(&(connection.deadline, key));
        connection.deadline = Time::NEVER;
        let source = connection.peer.ip();
        self.end_connecting(source);
        self.touch(key);
    }

    fn new_controller(
        &mut self,
        key: Key,
        request: &ConnectRequest,
        subsystem: Option<Key>,
    ) -> Result<Key, ConnectRefusal> {
        let cntlid = self.fresh_cntlid(subsystem).ok_or(ConnectRefusal::BUSY)?;
        let connection = self.connections.get(key).expect("it has just asked");
        let discovery = subsystem.is_none();
        let entries_max = if discovery { ADMIN_QUEUE_ENTRIES_MAX } else { self.settings.queue_entries_max };
        let controller = Controller {
            subsystem,
            cntlid,
            host_nqn: request.host_nqn.clone(),
            host_id: request.host_id,
            path: path_of(&request.host_id),
            port_id: connection.port_id,
            registers: Registers::new(entries_max, discovery),
            features: Features::default(),
            events: Events::default(),
            logs: Logs::default(),
            queues: vec![None],
            keep_alive: keep_alive(request.kato_ms, discovery),
            heard_at: self.now,
            alarm: Time::NEVER,
            open_tasks: 0,
            resetting: false,
            shutting_down: false,
            ending: Vec::new(),
            ended: false,
        };
        let key = self.controllers.insert(controller).map_err(|_| ConnectRefusal::BUSY)?;
        self.set_controller_alarm(key);
        Ok(key)
    }

    /// An identifier that no controller of the subsystem has.
    fn fresh_cntlid(&mut self, subsystem: Option<Key>) -> Option<u16> {
        let range = match subsystem.and_then(|key| self.subsystems.get(key)) {
            Some(subsystem) => subsystem.setup.controller_ids.clone(),
            None => 1..=CNTLID_MAX,
        };
        let (first, last) = (*range.start(), (*range.end()).min(CNTLID_MAX));
        let mut next = match subsystem.and_then(|key| self.subsystems.get(key)) {
            Some(subsystem) => subsystem.next_cntlid,
            None => self.next_discovery_cntlid,
        };
        for _ in first..=last {
            if !(first..=last).contains(&next) {
                next = first;
            }
            let id = next;
            next = next.checked_add(1).unwrap_or(first);
            if self.controllers.iter().all(|(_, c)| c.subsystem != subsystem || c.cntlid != id) {
                match subsystem.and_then(|key| self.subsystems.get_mut(key)) {
                    Some(subsystem) => subsystem.next_cntlid = next,
                    None => self.next_discovery_cntlid = next,
                }
                return Some(id);
            }
        }
        None
    }

    /// Answers a Connect that did not succeed; the connection is of no use any more.
    pub(crate) fn refuse_connect(&mut self, key: Key, id: CommandId, refusal: ConnectRefusal) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut cqe = Cqe::new(0, refusal.status);
        cqe.dw0 = U32::new(refusal.result);
        connection.executing -= 1;
        connection.queue.complete(id, cqe);
        self.linger(key);
    }

    /// A connection is gone, or is given up: forgets it, and its controller with its admin queue.
    pub(crate) fn lose_connection(&mut self, key: Key) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.group.remove(key.index());
        self.alarms.remove(&(connection.deadline, key));
        self.queue_entries -= connection.entries;
        let Phase::Live { controller, qid } = connection.phase else {
            return self.end_connecting(connection.peer.ip());
        };
        for task in connection.tasks.iter().copied().flatten() {
            self.abort_task(task);
        }
        let Some(entry) = self.controllers.get_mut(controller) else { return };
        entry.queues[usize::from(qid)] = None;
        if qid == 0 {
            self.end_controller(controller);
        }
    }

    /// The association is over: its queues close, and it goes with its last task.
    pub(crate) fn end_controller(&mut self, key: Key) {
        let Some(controller) = self.controllers.get_mut(key) else { return };
        if controller.ended {
            return;
        }
        controller.ended = true;
        self.controller_alarms.remove(&(controller.alarm, key));
        let queues = std::mem::take(&mut controller.queues);
        controller.queues = vec![None; queues.len()];
        for queue in queues.into_iter().flatten() {
            self.lose_connection(queue);
        }
        self.forget_controller_if_over(key);
    }

    /// An ended controller goes when its last task has ended.
    pub(crate) fn forget_controller_if_over(&mut self, key: Key) {
        if self.controllers.get(key).is_some_and(|controller| controller.ended && controller.open_tasks == 0)
        {
            let controller = self.controllers.remove(key).expect("looked up above");
            if let Some(subsystem) = controller.subsystem {
                self.forget_subsystem_if_over(subsystem);
            }
        }
    }

    /// The queues of a controller close; the controller stays. Its tasks of those queues end.
    pub(crate) fn close_io_queues(&mut self, key: Key) {
        let Some(controller) = self.controllers.get(key) else { return };
        let queues: Vec<Key> = controller.queues.iter().skip(1).copied().flatten().collect();
        for queue in queues {
            self.lose_connection(queue);
        }
    }

    /// Looks at a controller's keep alive timer again when it may have run out.
    pub(crate) fn set_controller_alarm(&mut self, key: Key) {
        let Some(controller) = self.controllers.get_mut(key) else { return };
        self.controller_alarms.remove(&(controller.alarm, key));
        controller.alarm =
            controller.keep_alive.map_or(Time::NEVER, |timeout| controller.heard_at.after(timeout));
        if controller.alarm != Time::NEVER {
            self.controller_alarms.insert((controller.alarm, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reliability list, scenario 100: KATO 0, 1 and the largest.
    #[test]
    fn keep_alive_is_rounded_up_to_its_granularity() {
        assert_eq!(keep_alive(0, false), None);
        assert_eq!(keep_alive(0, true), Some(DISCOVERY_KEEP_ALIVE_DEFAULT));
        assert_eq!(keep_alive(1, false), Some(KEEP_ALIVE_GRANULARITY));
        assert_eq!(keep_alive(5000, false), Some(Duration::from_secs(5)));
        assert!(keep_alive(u32::MAX, false).unwrap() >= Duration::from_millis(u64::from(u32::MAX)));
    }
}

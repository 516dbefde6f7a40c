//! Reservation changes under way: in turn, durable before they are answered, and what they mean for others.
//!
//! ```text
//! command ─▶ ChangeQueued ─▶ port ─▶ Refused ─────────────────▶ answer
//!                             ├─▶ Now ──────────┬─▶ nobody loses commands ─▶ answer
//!                             └─▶ Pending ─▶ event └─▶ Held until they have ended ─▶ answer
//! ```

use nvme_spec::log::ReservationNotificationType;
use nvme_spec::{NSID_ALL, Status};
use volume::reservation::{Change, Outcome, Path};
use volume::shared::{Changed, Changing, Event};

use crate::core::NvmfCore;
use crate::event::AsyncEvent;
use crate::io::new_task;
use crate::nvm::Request;
use crate::reserve;
use crate::slots::Key;
use crate::state::{Data, HostCommand, Job, TaskPhase, Then};

impl NvmfCore {
    /// Reservation Register, Acquire or Release.
    pub(crate) fn change_reservations(
        &mut self,
        key: Key,
        controller: Key,
        namespace: Key,
        request: Request,
        command: &HostCommand,
    ) {
        let data = match &command.data {
            Some(Data::Blocks(sgl) | Data::Collecting(sgl, _)) => sgl.to_vec(),
            _ => Vec::new(),
        };
        let has_path = self.controllers.get(controller).is_some_and(|controller| controller.path.is_some());
        let change = match request {
            _ if !has_path => Err(Status::HOST_IDENTIFIER_NOT_INITIALIZED.with_dnr()),
            Request::ReservationRegister(dword) => reserve::register(dword, &data),
            Request::ReservationAcquire(dword) => reserve::acquire(dword, &data),
            Request::ReservationRelease(dword) => reserve::release(dword, &data),
            _ => unreachable!("only these change reservations"),
        };
        match change {
            Ok(change) => self.queue_change(key, controller, command, change, vec![namespace]),
            Err(status) => self.answer_failed(key, command, status),
        }
    }

    /// Set Features, Reservation Persistence: of one namespace or of all.
    pub(crate) fn set_persistence(
        &mut self,
        key: Key,
        controller: Key,
        command: &HostCommand,
        nsid: u32,
        change: Change,
    ) {
        let subsystem = self.controllers.get(controller).and_then(|controller| controller.subsystem);
        let subsystem = subsystem.and_then(|subsystem| self.subsystems.get(subsystem));
        let namespaces: Vec<Key> = subsystem.map_or_else(Vec::new, |subsystem| {
            let attached = subsystem.attached();
            attached.filter(|(other, _)| nsid == NSID_ALL || *other == nsid).map(|(_, key)| key).collect()
        });
        self.queue_change(key, controller, command, change, namespaces);
    }

    fn queue_change(
        &mut self,
        key: Key,
        controller: Key,
        command: &HostCommand,
        change: Change,
        mut namespaces: Vec<Key>,
    ) {
        let Some(namespace) = namespaces.pop() else {
            return self.answer(key, command.id, Status::SUCCESS, 0);
        };
        if self.tasks.next_key().is_none() {
            return self.answer(key, command.id, Status::COMMAND_INTERRUPTED, 0);
        }
        let job = Job::Reserve(Box::new(change), namespaces);
        let task = new_task(key, controller, command.id, namespace, job, self.tick);
        let task = self.park(task, TaskPhase::ChangeQueued);
        let entry = self.namespaces.get_mut(namespace).expect("an attached namespace is there");
        entry.changes.push_back(task);
        self.start_changes(namespace);
    }

    /// Hands changes to the volume, one after the other.
    pub(crate) fn start_changes(&mut self, namespace_key: Key) {
        while let Some(namespace) = self.namespaces.get_mut(namespace_key) {
            if namespace.changing.is_some() {
                return;
            }
            let Some(&key) = namespace.changes.front() else { return };
            let task = self.tasks.get_mut(key).expect("a queued task is there");
            let Job::Reserve(change, _) = &task.job else { unreachable!("only changes are queued") };
            let path = self.controllers.get(task.controller).and_then(|controller| controller.path.clone());
            let path = path.unwrap_or_else(|| Path::of_host([0; 16]));
            match namespace.port.change_reservations(&path, change) {
                // Another port's change is under way: the next turn asks again.
                Changing::Busy => return self.busy_namespace(namespace_key),
                Changing::Pending => {
                    namespace.changes.pop_front();
                    namespace.changing = Some(key);
                    task.phase = TaskPhase::Changing;
                }
                Changing::Now(changed) => {
                    namespace.changes.pop_front();
                    task.phase = TaskPhase::Running;
                    self.on_changed(namespace_key, key, &changed);
                }
                Changing::Refused(refused) => {
                    namespace.changes.pop_front();
                    task.phase = TaskPhase::Running;
                    self.end_change(key, reserve::refused(refused));
                }
            }
        }
    }

    /// Something that the volume of a namespace tells.
    pub(crate) fn on_volume_event(&mut self, namespace_key: Key, event: Event) {
        let namespace = self.namespaces.get_mut(namespace_key).expect("looked up by the caller");
        match event {
            Event::ReservationsChanged(changed) => {
                let key = namespace.changing.take().expect("one change at a time, and ours");
                match changed {
                    Some(changed) => self.on_changed(namespace_key, key, &changed),
                    // It could not be made durable, so it is not in force.
                    None => self.end_change(key, Status::INTERNAL_ERROR),
                }
            }
            Event::ReservationsChangedElsewhere { outcome, abort } => {
                self.tell(namespace_key, &outcome);
                if let Some(ticket) = abort {
                    let victims = self.stop_victims(namespace_key, &outcome.abort_tasks_of, None);
                    self.wait_then(victims, Then::Returned { namespace: namespace_key, ticket });
                }
            }
            Event::AbortsDone(ticket) => {
                if let Some(at) = namespace.tickets.iter().position(|(waiting, _)| *waiting == ticket) {
                    let (_, barrier) = namespace.tickets.swap_remove(at);
                    self.count_down(barrier);
                }
            }
            Event::Resized | Event::Returned => {
                namespace.info = namespace.port.info();
                let (subsystem, nsid) = (namespace.subsystem, namespace.nsid);
                if !namespace.detached {
                    self.tell_namespace_changed(subsystem, nsid);
                }
            }
        }
    }

    /// A change of ours is in force.
    fn on_changed(&mut self, namespace_key: Key, key: Key, changed: &Changed) {
        self.tell(namespace_key, &changed.outcome);
        let victims = self.stop_victims(namespace_key, &changed.outcome.abort_tasks_of, Some(key));
        if victims.is_empty() && changed.aborting.is_none() {
            return self.end_change(key, Status::SUCCESS);
        }
        let task = self.tasks.get_mut(key).expect("a task outlives its change");
        if task.aborted {
            // Nobody waits for the answer; the commands end all the same.
            return self.end_change(key, Status::SUCCESS);
        }
        task.phase = TaskPhase::Held;
        let more = usize::from(changed.aborting.is_some());
        let barrier = self.wait_for(victims, more, Then::Respond { task: key });
        if let Some(ticket) = changed.aborting {
            let namespace = self.namespaces.get_mut(namespace_key).expect("a namespace outlives its tasks");
            namespace.tickets.push((ticket, barrier));
        }
    }

    /// A change has ended in one namespace: it goes on in the next, or is answered.
    pub(crate) fn end_change(&mut self, key: Key, status: Status) {
        let task = self.tasks.get_mut(key).expect("a task ends once");
        let Job::Reserve(_, rest) = &mut task.job else { unreachable!("only changes end here") };
        let next = if status.is_success() && !task.aborted { rest.pop() } else { None };
        match next {
            Some(next) if self.move_task(key, next) => {
                self.tasks.get_mut(key).expect("moved just now").phase = TaskPhase::ChangeQueued;
                self.namespaces.get_mut(next).expect("moved just now").changes.push_back(key);
                self.busy_namespace(next);
            }
            Some(_) => self.end_change(key, status),
            None => self.end_task(key, status, None),
        }
    }

    /// Stops what the hosts of `paths` have under way in a namespace, aborted commands of queues that are gone
    /// included; all that has to be waited for.
    fn stop_victims(&mut self, namespace: Key, paths: &[Path], except: Option<Key>) -> Vec<Key> {
        if paths.is_empty() {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        for (_, controller) in self.controllers.iter() {
            if controller.path.as_ref().is_some_and(|path| paths.contains(path)) {
                tasks.extend(&controller.ending);
                let queues = controller.queues.iter().flatten();
                let queues = queues.filter_map(|queue| self.connections.get(*queue));
                tasks.extend(queues.flat_map(|connection| connection.tasks.iter().copied().flatten()));
            }
        }
        tasks.retain(|key| {
            let here = self
                .tasks
                .get(*key)
                .is_some_and(|task| task.namespace == namespace && !matches!(task.job, Job::Reserve(..)));
            here && Some(*key) != except
        });
        for key in &tasks {
            self.stop_task(*key, Status::ABORTED_PREEMPT_AND_ABORT);
        }
        tasks
    }

    /// Writes down for every controller what its host has lost.
    fn tell(&mut self, namespace_key: Key, outcome: &Outcome) {
        if outcome.is_empty() {
            return;
        }
        let Some(namespace) = self.namespaces.get(namespace_key).filter(|namespace| !namespace.detached)
        else {
            return;
        };
        let (subsystem, nsid) = (namespace.subsystem, namespace.nsid);
        let losses = [
            (&outcome.registrations_preempted, ReservationNotificationType::REGISTRATION_PREEMPTED),
            (&outcome.reservations_preempted, ReservationNotificationType::RESERVATION_PREEMPTED),
            (&outcome.reservations_released, ReservationNotificationType::RESERVATION_RELEASED),
        ];
        let mut told = Vec::new();
        for (key, controller) in self.controllers.iter_mut() {
            let Some(path) = controller.path.as_ref().filter(|_| controller.subsystem == Some(subsystem))
            else {
                continue;
            };
            for (paths, kind) in losses {
                if paths.contains(path) && controller.features.notifies(nsid, kind) {
                    controller.logs.notice(kind, nsid);
                    told.push(key);
                }
            }
        }
        for key in told {
            self.raise(key, AsyncEvent::ReservationLog);
        }
    }
}

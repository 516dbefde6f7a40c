//! Ending tasks early: task management, lost connections, PREEMPT AND ABORT, and who waits for the last I/O.
//!
//! A task that is aborted never answers and never starts another I/O. One that is in the volume
//! still has to come home: whoever asked for the abort waits behind a [`Barrier`], so that after the
//! answer no aborted write can take effect any more.

use iscsi_proto::pdu::{LogoutReason, TmfFunction, TmfResponse};
use iscsi_proto::session::{Logout, RequestId, TaskId, TaskManagement};
use scsi::{NexusId, UnitAttention};
use smallvec::SmallVec;
use volume::reservation::Path;
use volume::shared::Ticket;

use crate::core::TargetCore;
use crate::slots::Key;
use crate::state::{Barrier, SessionEntry, Task, TaskPhase, Then, nexus_of};

impl TargetCore {
    /// The session has forgotten a task: its connection or session went away.
    pub(crate) fn on_task_aborted(&mut self, session: Key, id: TaskId) {
        let task = self.sessions.get(session).and_then(|entry| entry.task(id));
        if let Some(task) = task {
            self.abort_task(task, None);
        }
    }

    /// A task management function that needs the logical units.
    pub(crate) fn on_task_management(&mut self, session: Key, request: TaskManagement) {
        if request.function == TmfFunction::ABORT_TASK {
            let task = request.referenced.and_then(|id| self.sessions.get(session)?.task(id));
            let then = self.answer_later(session, request.id);
            return self.abort_then(task.into_iter().collect(), then, None);
        }
        let target_wide =
            matches!(request.function, TmfFunction::TARGET_WARM_RESET | TmfFunction::TARGET_COLD_RESET);
        let disks = self.disks_of(session, (!target_wide).then_some(request.lun));
        if disks.is_empty() && !target_wide {
            return self.answer_task_management(session, request.id, TmfResponse::LUN_DOES_NOT_EXIST);
        }
        let nexus = nexus_of(session);
        let mut tasks = Vec::new();
        let own_only = request.function == TmfFunction::ABORT_TASK_SET;
        for &disk in &disks {
            self.collect_tasks(disk, own_only.then_some(session), &mut tasks);
            if !own_only {
                self.drop_collecting(disk, session);
            }
        }
        if let Some(entry) = self.sessions.get(session) {
            let acts_on = |task: &Task| task.session != session || entry.session.acts_on(request.id, task.id);
            tasks.retain(|key| self.tasks.get(*key).is_some_and(acts_on));
        }
        if request.function == TmfFunction::CLEAR_TASK_SET {
            self.tell_cleared(&tasks, nexus);
        }
        let reset = match request.function {
            TmfFunction::LOGICAL_UNIT_RESET
            | TmfFunction::TARGET_WARM_RESET
            | TmfFunction::TARGET_COLD_RESET => SmallVec::from_vec(disks),
            _ => SmallVec::new(),
        };
        let close_sessions = request.function == TmfFunction::TARGET_COLD_RESET;
        let then = Then::TaskManagement { session, id: request.id, reset, close_sessions };
        self.abort_then(tasks, then, Some(nexus));
    }

    /// The initiator leaves; its tasks were reported as aborted just before.
    pub(crate) fn on_logout(&mut self, session: Key, logout: Logout) {
        let whole = logout.reason == LogoutReason::CLOSE_SESSION;
        let tasks = self.open_tasks_of(session, |task| whole || logout.leaving == Some(task.connection));
        self.abort_then(tasks, Then::Logout { session, id: logout.id, whole }, None);
    }

    /// Aborts `tasks` and does `then` when the last of them has ended.
    pub(crate) fn abort_then(&mut self, tasks: Vec<Key>, then: Then, by: Option<NexusId>) {
        let barrier = self
            .barriers
            .insert(Barrier { remaining: tasks.len(), then, by })
            .unwrap_or_else(|_| unreachable!("fewer barriers than requests in progress"));
        for task in tasks {
            self.abort_task(task, Some(barrier));
        }
        self.release_if_done(barrier);
    }

    /// PREEMPT AND ABORT: true when the response of `task` has to wait for what it aborts, here and (`ticket`) through
    /// other protocols.
    pub(crate) fn hold_for_aborts(
        &mut self,
        task: Key,
        disk: Key,
        paths: &[Path],
        ticket: Option<Ticket>,
    ) -> bool {
        let victims = self.victims(disk, paths, Some(task));
        let barrier = self.wait_for_aborts(disk, &victims, ticket, Then::Respond { task });
        let Some(barrier) = barrier else { return false };
        self.held.push(barrier);
        for victim in victims {
            self.abort_task(victim, Some(barrier));
        }
        true
    }

    /// The tasks on a disk of those who came by one of these paths. Sessions that have ended are asked as well: their last
    /// I/O may still be in the volume. What still collects data for such a task vanishes here.
    pub(crate) fn victims(&mut self, disk: Key, paths: &[Path], except: Option<Key>) -> Vec<Key> {
        let named = |entry: &SessionEntry| entry.nexus.as_ref().is_some_and(|(_, path)| paths.contains(path));
        let sessions = self.sessions.iter().filter(|(_, entry)| named(entry));
        let sessions: Vec<Key> = sessions.map(|(key, _)| key).collect();
        let mut victims = Vec::new();
        for session in sessions {
            victims.extend(self.open_tasks_of(session, |task| task.disk == disk));
            self.drop_collecting_of(disk, nexus_of(session));
        }
        victims.retain(|key| Some(*key) != except);
        victims
    }

    /// Ends a task without an answer, as far as that can be done now.
    pub(crate) fn abort_task(&mut self, key: Key, barrier: Option<Key>) {
        let Some(task) = self.tasks.get_mut(key) else {
            return self.count_down(barrier);
        };
        task.barriers.extend(barrier);
        if task.aborted {
            return;
        }
        task.aborted = true;
        let (session, id, disk_key) = (task.session, task.id, task.disk);
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.session.abort_task(id);
            entry.set_task(id, None);
        }
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
        match std::mem::replace(&mut task.phase, TaskPhase::Aborting) {
            TaskPhase::Waiting(_) => {
                assert!(disk.tasks.withdraw(key), "a waiting task is in its task set");
                self.drop_task(key);
            }
            TaskPhase::Retry(_) | TaskPhase::RetryPending(_) | TaskPhase::RetryChange(_) => {
                disk.retry.retain(|other| *other != key);
                self.tried_again(session);
                self.end_aborted(key);
            }
            TaskPhase::Io(_) => {
                // One that still waits in the volume comes home aborted; one that runs, when it is done.
                disk.port.abort(key.to_u64());
                self.busy_disk(disk_key);
            }
            TaskPhase::Changing(change) => task.phase = TaskPhase::Changing(change),
            TaskPhase::Held(_) | TaskPhase::Background => self.end_aborted(key),
            TaskPhase::Aborting => {}
            TaskPhase::Running => unreachable!("a task does not abort itself"),
        }
    }

    /// An aborted task that counted as running has ended.
    pub(crate) fn end_aborted(&mut self, key: Key) {
        let task = self.tasks.get(key).expect("a task ends once");
        let (disk_key, order) = (task.disk, task.order);
        self.disks.get_mut(disk_key).expect("a disk outlives its tasks").tasks.finish(order);
        self.drop_task(key);
    }

    fn drop_task(&mut self, key: Key) {
        let task = self.tasks.remove(key).expect("a task ends once");
        self.leave_session(task.session, task.place, None);
        for barrier in task.barriers {
            self.count_down(Some(barrier));
        }
        self.unblock_disk(task.disk);
    }

    pub(crate) fn count_down(&mut self, barrier: Option<Key>) {
        let Some(key) = barrier else { return };
        let Some(entry) = self.barriers.get_mut(key) else { return };
        entry.remaining -= 1;
        // Not released here: whoever set it up may still be counting.
        self.held.push(key);
    }

    /// Does what the barriers without tasks wait to do. Called once per turn and after each set-up.
    pub(crate) fn release_barriers(&mut self) {
        while let Some(key) = self.held.pop() {
            self.release_if_done(key);
        }
    }

    fn release_if_done(&mut self, key: Key) {
        if self.barriers.get(key).is_none_or(|barrier| barrier.remaining > 0) {
            return;
        }
        let barrier = self.barriers.remove(key).expect("looked up above");
        match barrier.then {
            Then::TaskManagement { session, id, reset, close_sessions } => {
                for disk in reset {
                    if let Some(disk) = self.disks.get_mut(disk) {
                        disk.unit.reset(barrier.by);
                    }
                }
                self.answer_task_management(session, id, TmfResponse::COMPLETE);
                // TARGET COLD RESET: all sessions of the target end (RFC 7143 section 11.5.1).
                let target = self.sessions.get(session).and_then(|entry| entry.target);
                if let Some(target) = target.filter(|_| close_sessions) {
                    for session in self.sessions_of(target) {
                        self.close_session(session);
                    }
                }
            }
            Then::Logout { session, id, whole } => {
                if whole {
                    self.release_units(session);
                }
                if let Some(entry) = self.sessions.get_mut(session) {
                    entry.session.complete_logout(id);
                    self.touch_session(session);
                }
            }
            Then::Respond { task } => self.respond_held(task),
            Then::Return { disk, ticket } => {
                // A disk that has gone meanwhile has closed its port: that counts as well.
                if let Some(disk) = self.disks.get(disk) {
                    disk.port.aborted(ticket);
                }
            }
            Then::Reinstate { connection } => self.finish_login(connection),
        }
    }

    fn respond_held(&mut self, key: Key) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        match std::mem::replace(&mut task.phase, TaskPhase::Running) {
            TaskPhase::Held(response) => self.send_response(key, *response),
            _ => unreachable!("only a held response waits for a barrier"),
        }
    }

    fn answer_later(&self, session: Key, id: RequestId) -> Then {
        Then::TaskManagement { session, id, reset: SmallVec::new(), close_sessions: false }
    }

    fn answer_task_management(&mut self, session: Key, id: RequestId, response: TmfResponse) {
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.session.complete_task_management(id, response);
            self.touch_session(session);
        }
    }

    /// The disks that a session reaches: under one LUN, or all.
    fn disks_of(&self, session: Key, lun: Option<u64>) -> Vec<Key> {
        let target = self.sessions.get(session).and_then(|entry| self.targets.get(entry.target?));
        let Some(target) = target else { return Vec::new() };
        match lun {
            Some(lun) => target.disk(lun).into_iter().collect(),
            None => target.luns.iter().map(|(_, disk)| *disk).collect(),
        }
    }

    fn collect_tasks(&self, disk: Key, session: Option<Key>, out: &mut Vec<Key>) {
        let sessions = match session {
            Some(session) => vec![session],
            None => self.sessions.keys(),
        };
        for session in sessions {
            out.extend(self.open_tasks_of(session, |task| task.disk == disk));
        }
    }

    /// Commands of other sessions that still collect data for a disk vanish. (The session that asked
    /// has dropped its own.)
    fn drop_collecting(&mut self, disk: Key, except: Key) {
        for key in self.sessions.keys() {
            if key != except {
                self.drop_collecting_of(disk, nexus_of(key));
            }
        }
    }

    fn drop_collecting_of(&mut self, disk: Key, nexus: NexusId) {
        let Some((key, entry)) = self.sessions.at(nexus.0) else { return };
        let lun = entry.target.and_then(|target| self.targets.get(target)?.lun_of(disk));
        if let Some(lun) = lun {
            entry.session.abort_logical_unit(Some(lun));
            self.drain_later(key);
            self.touch_session(key);
        }
    }

    /// CLEAR TASK SET: the other nexuses that lost a task hear of it (TAS = 0, SAM-5 section 5.6.3).
    fn tell_cleared(&mut self, tasks: &[Key], by: NexusId) {
        for key in tasks {
            let Some(task) = self.tasks.get(*key) else { continue };
            let nexus = nexus_of(task.session);
            if nexus != by
                && let Some(disk) = self.disks.get_mut(task.disk)
            {
                disk.unit.queue_unit_attention(nexus, UnitAttention::CommandsCleared);
            }
        }
    }
}

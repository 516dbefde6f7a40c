//! Ending tasks: their answers, aborts, lost connections, and who waits for the last I/O.
//!
//! A task that is aborted never answers and never starts another I/O. One that is in the volume still has to come
//! home: whoever asked for the abort waits behind a [`Barrier`], so that after the answer no aborted write can take
//! effect any more.

use nvme_spec::Status;
use reactor::buffer::Sgl;

use crate::core::NvmfCore;
use crate::slots::Key;
use crate::state::{Barrier, Job, Phase, Quiescing, TaskPhase, Then};

impl NvmfCore {
    /// A task is over: it is answered, unless nobody waits for that.
    pub(crate) fn end_task(&mut self, key: Key, status: Status, sgl: Option<Sgl>) {
        let task = self.tasks.remove(key).expect("a task ends once");
        let is_work = !matches!(task.job, Job::Reserve(..));
        if let Some(namespace) = self.namespaces.get_mut(task.namespace) {
            namespace.open_tasks -= 1;
            if is_work {
                task.kind.record(&namespace.stats, task.status, task.bytes, self.tick.ns_since(task.started));
            }
            if namespace.detached {
                self.forget_namespace_if_over(task.namespace);
            }
        }
        if let Some(connection) = self.connections.get_mut(task.connection) {
            connection.set_task(task.id, None);
            if let Job::CompareAndWrite(second) = task.job {
                connection.set_task(second, None);
            }
        }
        if let Some(controller) = self.controllers.get_mut(task.controller) {
            controller.open_tasks -= 1;
            if task.aborted {
                controller.ending.retain(|ending| *ending != key);
                self.forget_controller_if_over(task.controller);
            }
        }
        for barrier in task.barriers {
            self.count_down(barrier);
        }
        if !task.aborted {
            match (task.job, sgl) {
                (Job::CompareAndWrite(second), _) => {
                    self.answer_fused(task.connection, task.id, second, status)
                }
                (_, Some(sgl)) => self.answer_blocks(task.connection, task.id, sgl, None),
                (_, None) => self.answer(task.connection, task.id, status, 0),
            }
        }
    }

    /// The task goes on in another namespace; false when that one is gone.
    pub(crate) fn move_task(&mut self, key: Key, to: Key) -> bool {
        let Some(namespace) = self.namespaces.get_mut(to).filter(|namespace| !namespace.detached) else {
            return false;
        };
        namespace.open_tasks += 1;
        let task = self.tasks.get_mut(key).expect("the caller's task");
        let from = std::mem::replace(&mut task.namespace, to);
        let namespace = self.namespaces.get_mut(from).expect("a namespace outlives its tasks");
        namespace.open_tasks -= 1;
        self.forget_namespace_if_over(from);
        true
    }

    /// The connection of a task is gone: it ends without an answer, as soon as that can be.
    pub(crate) fn abort_task(&mut self, key: Key) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.aborted {
            return;
        }
        task.aborted = true;
        if let Some(controller) = self.controllers.get_mut(task.controller) {
            controller.ending.push(key);
        }
        self.take_back(key, Status::ABORTED_SQ_DELETION);
    }

    /// Makes a task end early with `status`: what has had no effect is taken back, what runs ends by itself and
    /// starts nothing more. True when it is certain that nothing more takes effect.
    pub(crate) fn stop_task(&mut self, key: Key, status: Status) -> bool {
        let Some(task) = self.tasks.get_mut(key) else { return false };
        if matches!(task.job, Job::Reserve(..)) {
            return false;
        }
        if task.stop.is_none() {
            task.stop = Some(status);
        }
        // Earlier steps of several may have had effects; then only the rest is taken back.
        let is_single = task.status == volume::bdev::IoStatus::Good && is_single(&task.job);
        self.take_back(key, status) && is_single
    }

    /// True when the task has ended, or comes home aborted.
    fn take_back(&mut self, key: Key, status: Status) -> bool {
        let task = self.tasks.get_mut(key).expect("looked up by the caller");
        match task.phase {
            TaskPhase::Starved(_) | TaskPhase::StarvedBetween => {
                if matches!(task.phase, TaskPhase::Starved(_)) {
                    let connection = task.connection;
                    self.waits_no_more(connection);
                }
                self.hungry.retain(|other| *other != key);
                self.end_task(key, status, None);
                true
            }
            TaskPhase::Io => {
                let namespace_key = task.namespace;
                let namespace = self.namespaces.get(namespace_key).expect("a namespace outlives its tasks");
                let taken_back = namespace.port.abort(key.to_u64());
                self.busy_namespace(namespace_key);
                taken_back
            }
            TaskPhase::ChangeQueued => {
                let namespace =
                    self.namespaces.get_mut(task.namespace).expect("a namespace outlives its tasks");
                namespace.changes.retain(|other| *other != key);
                self.end_task(key, status, None);
                true
            }
            // What it changes is becoming durable, or is in force: it stands, whoever waits for the answer.
            TaskPhase::Changing => false,
            TaskPhase::Held => {
                if task.aborted {
                    self.end_task(key, status, None);
                }
                false
            }
            TaskPhase::Running => unreachable!("a task does not end itself"),
        }
    }

    /// Does `then` when the last of `tasks` has ended; tasks that are gone do not count.
    pub(crate) fn wait_then(&mut self, tasks: Vec<Key>, then: Then) {
        self.wait_for(tasks, 0, then);
    }

    /// As [`NvmfCore::wait_then`], and for `more` other things that are counted down by the barrier's key.
    pub(crate) fn wait_for(&mut self, tasks: Vec<Key>, more: usize, then: Then) -> Key {
        let barrier = self
            .barriers
            .insert(Barrier { remaining: more, then })
            .unwrap_or_else(|_| unreachable!("fewer barriers than requests in progress"));
        let mut remaining = more;
        for key in tasks {
            if let Some(task) = self.tasks.get_mut(key) {
                task.barriers.push(barrier);
                remaining += 1;
            }
        }
        self.barriers.get_mut(barrier).expect("made just now").remaining = remaining;
        self.held.push(barrier);
        barrier
    }

    /// One thing less to wait for.
    pub(crate) fn count_down(&mut self, key: Key) {
        let Some(barrier) = self.barriers.get_mut(key) else { return };
        barrier.remaining -= 1;
        // Not released here: whoever set it up may still be counting.
        self.held.push(key);
    }

    /// Does what the barriers without tasks wait to do. Called once per turn.
    pub(crate) fn release_barriers(&mut self) {
        while let Some(key) = self.held.pop() {
            if self.barriers.get(key).is_some_and(|barrier| barrier.remaining == 0) {
                let barrier = self.barriers.remove(key).expect("looked up above");
                self.release(barrier.then);
            }
        }
    }

    fn release(&mut self, then: Then) {
        match then {
            Then::Connect { connection } => {
                self.waiting_connects -= 1;
                self.resume_connect(connection);
            }
            Then::Disconnect { connection, id } => self.finish_disconnect(connection, id),
            Then::Quiesced { controller, what } => self.finish_quiescing(controller, what),
            Then::Respond { task } => {
                if self.tasks.get(task).is_some() {
                    self.end_change(task, Status::SUCCESS);
                }
            }
            Then::Returned { namespace, ticket } => {
                if let Some(namespace) = self.namespaces.get(namespace) {
                    namespace.port.aborted(ticket);
                }
            }
        }
    }

    /// A queue has no command left: it is answered and closes.
    fn finish_disconnect(&mut self, key: Key, id: nvmf_proto::CommandId) {
        if !self.is_live(key) {
            return;
        }
        self.answer(key, id, Status::SUCCESS, 0);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.queue.close();
            self.touch(key);
        }
    }

    /// A controller ends what it has under way.
    pub(crate) fn quiesce(&mut self, key: Key, what: Quiescing) {
        let Some(controller) = self.controllers.get_mut(key) else { return };
        if what == Quiescing::Reset {
            // The admin queue stays; its event requests are over, and with them what was configured.
            let admin = controller.admin();
            let requests = controller.events.reset();
            controller.features = crate::features::Features::default();
            for request in requests {
                if let Some(admin) = admin {
                    self.answer(admin, request, Status::ABORTED_SQ_DELETION, 0);
                }
            }
            self.close_io_queues(key);
        }
        let Some(controller) = self.controllers.get_mut(key) else { return };
        let under_way = match what {
            Quiescing::Reset => &mut controller.resetting,
            Quiescing::Shutdown => &mut controller.shutting_down,
        };
        if std::mem::replace(under_way, true) {
            // Its end looks again at what there is.
            return;
        }
        self.await_quiet(key, what);
    }

    fn await_quiet(&mut self, key: Key, what: Quiescing) {
        let Some(controller) = self.controllers.get(key) else { return };
        let mut tasks = controller.ending.clone();
        for queue in controller.queues.iter().copied().flatten() {
            if let Some(connection) = self.connections.get(queue)
                && matches!(connection.phase, Phase::Live { qid: 1.., .. })
            {
                tasks.extend(connection.tasks.iter().copied().flatten());
            }
        }
        self.wait_then(tasks, Then::Quiesced { controller: key, what });
    }

    fn finish_quiescing(&mut self, key: Key, what: Quiescing) {
        let Some(controller) = self.controllers.get_mut(key) else { return };
        if !controller.ending.is_empty() {
            return self.await_quiet(key, what);
        }
        match what {
            Quiescing::Reset => {
                controller.resetting = false;
                controller.registers.reset_done();
            }
            Quiescing::Shutdown => {
                controller.shutting_down = false;
                controller.registers.shutdown_done();
            }
        }
    }
}

/// It takes effect by one I/O.
fn is_single(job: &Job) -> bool {
    use crate::work::Work;
    match job {
        Job::Work(work) => !matches!(work, Work::Deallocate(_) | Work::Copy(_)),
        Job::CompareAndWrite(_) => true,
        Job::FlushAll(_) | Job::Reserve(..) => false,
    }
}

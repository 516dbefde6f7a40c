//! A command from the session to its response: task set, device server, volume, and back.

use iscsi_proto::pdu::TaskAttribute;
use iscsi_proto::session::{Command as SessionCommand, Completion, ConnectionIndex, TaskId};
use reactor::buffer::Sgl;
use scsi::{
    ChangeError, Command, Context, DataIn, Pending, ReservationChange, Response, Sense, Status, Step,
};
use smallvec::SmallVec;
use volume::bdev::{Done, Io, IoStatus, Op};
use volume::op_stats::OpKind;
use volume::shared::{Changed, Changing, Port, Ticket};

use crate::background::BACKGROUND_TAG;
use crate::core::TargetCore;
use crate::limits::{ANSWERS_BYTES_MAX, ANSWERS_BYTES_SCARCE, RESERVED_POOL_SHARE, RETRIES_PER_TURN};
use crate::slots::Key;
use crate::state::{Data, Task, TaskPhase, nexus_of};
use crate::task_set::Order;

impl TargetCore {
    /// A session has a command whose data is there.
    pub(crate) fn on_command(&mut self, session: Key, command: SessionCommand<Data>) {
        if command.read && command.write {
            // No CDB that we know moves data both ways (SPC-4 table 140).
            let refusal = Response::check(Sense::INVALID_OPCODE, false);
            return self.respond(session, command.task, command.data_out_wanted, refusal);
        }
        let entry = self.sessions.get(session).expect("an event comes from a live session");
        let target = entry.target.and_then(|target| self.targets.get(target));
        let Some(disk) = target.and_then(|target| target.disk(command.lun)) else {
            let luns = target.map_or(&[][..], |target| &target.lun_numbers);
            let response = scsi::no_such_lun(&command.cdb, luns);
            self.respond(session, command.task, command.data_out_wanted, response);
            return;
        };
        let unit = &self.disks.get(disk).expect("a mapped disk is there").unit;
        if unit.data_out_length(&command.cdb) != command.data_out_wanted {
            // The LUN was mapped to another volume after the command came.
            let refusal = Response::check(Sense::NO_SUCH_LUN, false);
            return self.respond(session, command.task, command.data_out_wanted, refusal);
        }
        let order = match command.attribute {
            TaskAttribute::ORDERED => Order::Ordered,
            TaskAttribute::HEAD_OF_QUEUE => Order::HeadOfQueue,
            _ => Order::Simple,
        };
        let task = Task {
            session,
            id: command.task,
            connection: command.connection,
            disk,
            place: entry.open_tasks.len(),
            order,
            phase: TaskPhase::Running,
            started: self.core.clock.now(),
            kind: OpKind::Other,
            bytes: 0,
            status: IoStatus::Good,
            aborted: false,
            barriers: SmallVec::new(),
        };
        let Ok(key) = self.tasks.insert(task) else {
            self.respond(session, command.task, 0, Response::with_status(Status::TaskSetFull));
            return;
        };
        let entry = self.sessions.get_mut(session).expect("looked up above");
        entry.set_task(command.task, Some(key));
        entry.open_tasks.push(key);
        let command = to_scsi(key, session, command);
        if self.disks.get_mut(disk).expect("a mapped disk is there").tasks.arrive(key, order) {
            self.start_task(key, disk, command);
        } else {
            self.tasks.get_mut(key).expect("inserted above").phase = TaskPhase::Waiting(command);
        }
    }

    /// True when a command may take buffers for its answer. A connection that does not take what it has is given no more,
    /// the less the fewer are left, and the last part of the pool is for sessions that hold nothing: so one that asks
    /// for much and reads nothing cannot hold up the others, and one that begins to read again gets on.
    #[inline]
    fn may_answer(&self, session: Key, connection: ConnectionIndex, command: &Command) -> bool {
        let wanted = command.expected_data_transfer_length as usize;
        let Some(entry) = self.sessions.get(session).filter(|_| command.read && wanted > 0) else {
            return true;
        };
        let queued_bytes = entry.session.tx_queued_bytes(connection);
        let (free_bytes, pool_bytes) = (self.core.buffers.available_bytes(), self.core.buffers.total_bytes());
        if free_bytes >= wanted.saturating_add(pool_bytes / 2) {
            return queued_bytes < ANSWERS_BYTES_MAX;
        }
        if free_bytes >= wanted.saturating_add(pool_bytes / RESERVED_POOL_SHARE) {
            return queued_bytes < ANSWERS_BYTES_SCARCE;
        }
        // The command itself is one of the open tasks.
        let mut open = entry.session.connections();
        entry.open_tasks.len() <= entry.waiting_tasks + 1
            && open.all(|(index, _)| entry.session.tx_queued_bytes(index) == 0)
    }

    /// Gives a command to the device server.
    pub(crate) fn start_task(&mut self, key: Key, disk_key: Key, command: Command) {
        let task = self.tasks.get(key).expect("a task starts once");
        if !self.may_answer(task.session, task.connection, &command) {
            return self.advance(key, disk_key, Step::Retry(command));
        }
        let target = self.sessions.get(task.session).and_then(|entry| entry.target);
        let luns = target.and_then(|target| self.targets.get(target)).map_or(&[][..], |t| &t.lun_numbers);
        let context = Context { buffers: &self.core.buffers, luns };
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
        let wants_alone = disk.unit.wants_alone(&command.cdb);
        if wants_alone && !disk.port.keep_others_out() {
            let refusal = Response::check(Sense::COMMAND_SEQUENCE_ERROR, false);
            return self.advance(key, disk_key, Step::Respond(refusal));
        }
        let step = disk.unit.start(command, &context);
        if wants_alone && !disk.unit.has_background() {
            disk.port.let_others_in();
        }
        self.advance(key, disk_key, step);
    }

    /// Follows the steps of a task until it waits for something or has ended.
    pub(crate) fn advance(&mut self, key: Key, disk_key: Key, mut step: Step) {
        loop {
            let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
            let task = self.tasks.get_mut(key).expect("a task that advances is there");
            match step {
                Step::Respond(response) => return self.finish_task(key, disk_key, response, None),
                Step::Io(io, pending) => {
                    if task.bytes == 0 {
                        task.kind = OpKind::of(&io.op);
                        task.bytes = io.op.payload_bytes(disk.unit.info().logical_block_bytes);
                    }
                    match submit(&disk.port, io, &pending) {
                        Some(done) => {
                            task.status = worse(task.status, done.status);
                            step = disk.unit.resume(pending, done, &self.core.buffers);
                        }
                        None => {
                            task.phase = TaskPhase::Io(pending);
                            return self.busy_disk(disk_key);
                        }
                    }
                }
                Step::Change(change) => return self.ask_for_change(key, disk_key, change),
                Step::Background(answer) => {
                    task.phase = TaskPhase::Background;
                    self.begin_background(disk_key);
                    match answer {
                        Some(response) => step = Step::Respond(response),
                        None => return,
                    }
                }
                Step::Retry(command) => return self.try_later(key, TaskPhase::Retry(command)),
                Step::RetryPending(pending) => return self.try_later(key, TaskPhase::RetryPending(pending)),
            }
        }
    }

    /// Puts a task into the queue of those that are tried again.
    fn try_later(&mut self, key: Key, phase: TaskPhase) {
        let task = self.tasks.get_mut(key).expect("a task that advances is there");
        task.phase = phase;
        let (session, disk_key) = (task.session, task.disk);
        self.disks.get_mut(disk_key).expect("a disk outlives its tasks").retry.push_back(key);
        self.sessions.get_mut(session).expect("a session outlives its tasks").waiting_tasks += 1;
        self.busy_disk(disk_key);
    }

    /// A task has left that queue.
    pub(crate) fn tried_again(&mut self, session: Key) {
        self.sessions.get_mut(session).expect("a session outlives its tasks").waiting_tasks -= 1;
    }

    /// An I/O of a task has come home.
    pub(crate) fn on_io_done(&mut self, disk_key: Key, done: Done) {
        if done.tag == BACKGROUND_TAG {
            return self.on_background_io(disk_key, done);
        }
        let key = Key::from_u64(done.tag);
        let task = self.tasks.get_mut(key).expect("a task outlives its I/O");
        match std::mem::replace(&mut task.phase, TaskPhase::Running) {
            TaskPhase::Io(pending) => {
                task.status = worse(task.status, done.status);
                let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
                let step = disk.unit.resume(pending, done, &self.core.buffers);
                self.advance(key, disk_key, step);
            }
            TaskPhase::Aborting => self.end_aborted(key),
            _ => unreachable!("only a task with an I/O in the volume gets one back"),
        }
    }

    /// Tries again the tasks of a disk that found no memory. True when one got on.
    pub(crate) fn retry_tasks(&mut self, disk_key: Key) -> bool {
        let waiting = self.disks.get(disk_key).map_or(0, |disk| disk.retry.len()).min(RETRIES_PER_TURN);
        let mut moved = false;
        for _ in 0..waiting {
            let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
            let Some(key) = disk.retry.pop_front() else { break };
            let task = self.tasks.get_mut(key).expect("a task that ends leaves the queue");
            let phase = std::mem::replace(&mut task.phase, TaskPhase::Running);
            let session = task.session;
            self.tried_again(session);
            match phase {
                TaskPhase::Retry(command) => self.start_task(key, disk_key, command),
                TaskPhase::RetryChange(change) => self.ask_for_change(key, disk_key, change),
                TaskPhase::RetryPending(pending) => {
                    // It may only have stepped aside for others: that is progress.
                    moved = true;
                    let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
                    let step = disk.unit.retry(pending, &self.core.buffers);
                    self.advance(key, disk_key, step);
                }
                _ => unreachable!("the queue holds tasks that wait to be tried again"),
            }
            // Back in the queue: still no memory. Others may want less.
            let disk = self.disks.get(disk_key).expect("a disk outlives its tasks");
            moved |= disk.retry.back() != Some(&key);
        }
        moved
    }

    /// Asks the volume for a change of its reservations, in the name of a task.
    fn ask_for_change(&mut self, key: Key, disk_key: Key, change: Box<ReservationChange>) {
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
        let task = self.tasks.get_mut(key).expect("a task that advances is there");
        match disk.port.change_reservations(&change.path, &change.change) {
            Changing::Now(changed) => self.finish_change(key, disk_key, &change, Ok(changed)),
            Changing::Refused(refused) => self.finish_change(key, disk_key, &change, Err(refused.into())),
            Changing::Pending => {
                assert!(disk.changing.is_none(), "the volume changes reservations one at a time");
                disk.changing = Some(key);
                task.phase = TaskPhase::Changing(change);
            }
            Changing::Busy => self.try_later(key, TaskPhase::RetryChange(change)),
        }
    }

    /// A change is in force, or was refused: answers the task that asked, after the aborts that it caused.
    pub(crate) fn finish_change(
        &mut self,
        key: Key,
        disk_key: Key,
        change: &ReservationChange,
        end: Result<Changed, ChangeError>,
    ) {
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its tasks");
        let outcome = end.as_ref().map(|changed| &*changed.outcome).map_err(|error| *error);
        let response = disk.unit.change_ended(change, outcome);
        let ticket = end.ok().and_then(|changed| changed.aborting);
        let task = self.tasks.get(key).expect("a task outlives its change");
        if !task.aborted {
            return self.finish_task(key, disk_key, response, ticket);
        }
        // Nobody waits for the answer, but what it did to others stands.
        if let Some(effects) = response.effects {
            self.hold_for_aborts(key, disk_key, &effects.abort_tasks_of, ticket);
        }
        self.end_aborted(key);
    }

    /// A task has its response; it is sent unless it must wait for tasks that it aborted.
    fn finish_task(&mut self, key: Key, disk_key: Key, mut response: Response, ticket: Option<Ticket>) {
        if let Some(effects) = response.effects.take()
            && self.hold_for_aborts(key, disk_key, &effects.abort_tasks_of, ticket)
        {
            let task = self.tasks.get_mut(key).expect("a task that finishes is there");
            task.phase = TaskPhase::Held(Box::new(response));
            return;
        }
        self.send_response(key, response);
    }

    /// Ends a task with its response and lets the next ones of its task set start.
    pub(crate) fn send_response(&mut self, key: Key, response: Response) {
        let task = self.tasks.remove(key).expect("a task ends once");
        let latency_ns = self.core.clock.now().ns_since(task.started);
        let disk = self.disks.get_mut(task.disk).expect("a disk outlives its tasks");
        task.kind.record(&disk.stats, task.status, task.bytes, latency_ns);
        disk.tasks.finish(task.order);
        self.leave_session(task.session, task.place, Some(task.id));
        assert!(task.barriers.is_empty(), "who waits for a task has aborted it");
        let answer_bytes = response.data_in.len();
        self.complete(task.session, task.id, response);
        if let Some(connection) = self.connection_of(task.session, task.connection) {
            self.touch_sender(connection, answer_bytes);
        }
        self.unblock_disk(task.disk);
    }

    /// Starts the tasks that their task set lets go.
    pub(crate) fn start_waiting(&mut self, disk_key: Key) {
        loop {
            let Some(disk) = self.disks.get_mut(disk_key) else { return };
            let Some(key) = disk.tasks.next() else { break };
            let task = self.tasks.get_mut(key).expect("a waiting task is there");
            match std::mem::replace(&mut task.phase, TaskPhase::Running) {
                TaskPhase::Waiting(command) => self.start_task(key, disk_key, command),
                _ => unreachable!("the task set holds back only waiting tasks"),
            }
        }
        self.close_if_idle(disk_key);
    }

    /// Answers a task whose logical unit is taken from under it, and ends it.
    pub(crate) fn refuse_task(&mut self, key: Key) {
        if let Some(task) = self.tasks.get(key).filter(|task| !task.aborted) {
            let (session, id) = (task.session, task.id);
            self.respond(session, id, 0, Response::check(Sense::NO_SUCH_LUN, false));
        }
        self.abort_task(key, None);
    }

    /// Answers a command that never became a task.
    fn respond(&mut self, session: Key, id: TaskId, data_out_length: u64, mut response: Response) {
        response.data_out_len = response.data_out_len.max(data_out_length);
        self.complete(session, id, response);
        self.touch_session(session);
    }

    fn complete(&mut self, session: Key, id: TaskId, response: Response) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let data_in = match response.data_in {
            DataIn::None => None,
            data => Some(Data::answer(data)),
        };
        let completion = Completion {
            status: response.status as u8,
            target_failure: false,
            sense: &response.sense,
            data_in,
            data_in_length: response.data_in_len,
            data_out_length: response.data_out_len,
        };
        // False for a task that was aborted meanwhile: then nobody waits for the answer.
        let _ = entry.session.complete(id, completion);
    }
}

fn to_scsi(key: Key, session: Key, command: SessionCommand<Data>) -> Command {
    let data_out = match command.data_out.map(Data::into_data) {
        Some(DataIn::Sgl(sgl)) => sgl,
        Some(_) => unreachable!("the session's buffers come from the pool"),
        None => Sgl::empty(),
    };
    Command {
        task: key.to_u64(),
        nexus: nexus_of(session),
        cdb: SmallVec::from_slice(&command.cdb),
        data_out,
        expected_data_transfer_length: command.expected_data_transfer_length,
        read: command.read,
        write: command.write,
    }
}

/// The status under which a task of several I/Os is counted.
fn worse(so_far: IoStatus, now: IoStatus) -> IoStatus {
    if so_far == IoStatus::Good { now } else { so_far }
}

/// Starts an I/O. What is only read for the initiator is shown where it lies, if the volume can.
#[inline]
fn submit(port: &Port, io: Io, pending: &Pending) -> Option<Done> {
    if let Op::Read(extent) = io.op
        && pending.is_read()
        && let Some(sgl) = port.show(extent)
    {
        return Some(Done { tag: io.tag, status: IoStatus::Good, sgl });
    }
    port.submit(io)
}

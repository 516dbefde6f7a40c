//! I/O commands: checks, the volume, the answer. A command that the volume answers on the spot never becomes a task.

use nvme_spec::{NSID_ALL, NvmOpcode, Status};
use nvmf_proto::CommandId;
use reactor::buffer::Sgl;
use reactor::time::Time;
use smallvec::SmallVec;
use volume::bdev::{Done, Extent, Io, IoStatus, Op};
use volume::op_stats::OpKind;
use volume::reservation::Path;

use crate::core::NvmfCore;
use crate::fused::Verdict;
use crate::limits::{COMPARE_AND_WRITE_BYTES_MAX, RESERVED_POOL_SHARE};
use crate::nvm::{Group, Request, bytes_of};
use crate::reserve;
use crate::slots::Key;
use crate::state::{Access, Data, HostCommand, Job, Namespace, Phase, Task, TaskPhase, path_status};
use crate::work::{Step, Work, status_of};

impl NvmfCore {
    /// A command of an I/O queue whose data is there.
    #[inline]
    pub(crate) fn on_io_command(&mut self, key: Key, controller: Key, command: HostCommand) {
        if command.sqe.fuse().0 != 0 {
            return self.on_fused(key, controller, command);
        }
        match self.check(key, controller, &command) {
            Ok((namespace, request)) => self.execute(key, controller, namespace, request, command),
            Err(status) if status == Status::SUCCESS => self.flush_all(key, controller, &command),
            Err(status) => self.answer_failed(key, &command, status),
        }
    }

    /// Namespace and request of a command that may be executed now. `Err(SUCCESS)` stands for a flush of everything.
    #[inline]
    fn check(&mut self, key: Key, controller: Key, command: &HostCommand) -> Result<(Key, Request), Status> {
        let sqe = &command.sqe;
        let nsid = sqe.nsid.get();
        if nsid == NSID_ALL && sqe.nvm_opcode() == NvmOpcode::FLUSH {
            return Err(Status::SUCCESS);
        }
        let access = self.access(key, controller, nsid)?;
        let namespace = self.namespaces.get(access.namespace).expect("an access is of an attached namespace");
        let info = &namespace.info;
        let request = Request::parse(sqe, info)?;
        if let Some(status) = access.path {
            return Err(status);
        }
        let allowed = match request.group() {
            Group::Read => access.read,
            Group::Write => access.write,
            Group::Reservation => true,
        };
        if !allowed {
            return Err(Status::RESERVATION_CONFLICT.with_dnr());
        }
        let sgl_bytes = command.sgl_bytes as usize;
        // Blocks are moved as long as the SGL says, exactly; lists may have room to spare.
        let fits = match &request {
            Request::Read { extent, .. } => bytes_of(*extent, info) == sgl_bytes,
            Request::Write { .. } | Request::Compare { .. } => request.host_bytes(info) == sgl_bytes,
            _ => request.host_bytes(info) <= sgl_bytes,
        };
        let arrived = command.data.as_ref().map_or(0, nvmf_proto::Payload::len);
        if !fits {
            return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr());
        }
        if arrived != request.host_bytes(info) {
            // The namespace changed while the data was on its way.
            return Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
        }
        Ok((access.namespace, request))
    }

    /// What commands of a queue may do in a namespace now.
    #[inline]
    fn access(&mut self, key: Key, controller: Key, nsid: u32) -> Result<Access, Status> {
        let connection = self.connections.get(key).expect("a command comes by a live connection");
        let kept = connection.access.get(nsid.wrapping_sub(1) as usize).copied().flatten();
        if let Some(access) = kept
            && let Some(subsystem) = connection.subsystem.and_then(|subsystem| self.subsystems.get(subsystem))
            && subsystem.epoch == access.subsystem_epoch
            && let Some(namespace) = self.namespaces.get(access.namespace)
            && namespace.port.reservation_epoch() == access.reservation_epoch
        {
            return Ok(access);
        }
        self.look_up_access(key, controller, nsid)
    }

    fn look_up_access(&mut self, key: Key, controller: Key, nsid: u32) -> Result<Access, Status> {
        let absent = Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr();
        let controller = self.controllers.get(controller).expect("a live queue has its controller");
        let subsystem =
            controller.subsystem.and_then(|subsystem| self.subsystems.get(subsystem)).ok_or(absent)?;
        let namespace_key = subsystem.namespace(nsid).ok_or(absent)?;
        let namespace = self.namespaces.get(namespace_key).expect("an attached namespace is there");
        // A host without an identifier is nobody's registrant.
        let nobody = Path::of_host([0; 16]);
        let allowed = namespace.port.access(controller.path.as_ref().unwrap_or(&nobody));
        let access = Access {
            namespace: namespace_key,
            reservation_epoch: namespace.port.reservation_epoch(),
            subsystem_epoch: subsystem.epoch,
            read: allowed.read,
            write: allowed.write,
            path: path_status(subsystem.ana_state(controller.port_id, nsid)),
        };
        let connection = self.connections.get_mut(key).expect("a command comes by a live connection");
        let at = nsid as usize - 1;
        if connection.access.len() <= at {
            connection.access.resize(at + 1, None);
        }
        connection.access[at] = Some(access);
        Ok(access)
    }

    #[inline]
    fn execute(&mut self, key: Key, controller: Key, namespace: Key, request: Request, command: HostCommand) {
        match request {
            Request::ReservationRegister(_)
            | Request::ReservationAcquire(_)
            | Request::ReservationRelease(_) => {
                self.change_reservations(key, controller, namespace, request, &command);
            }
            Request::ReservationReport(report) => {
                let namespace = self.namespaces.get(namespace).expect("checked by the caller");
                let page = reserve::report(report, &namespace.port.reservations());
                match page {
                    Ok(page) => self.answer_bytes(key, &command, page),
                    Err(status) => self.answer_failed(key, &command, status),
                }
            }
            _ => self.start(key, controller, namespace, request, command),
        }
    }

    /// True when a queue may take buffers for an answer: the last part of the pool is for queues that have nothing
    /// else under way, so that one that asks for much and takes nothing cannot hold up the others.
    fn may_answer(&self, key: Key, wanted_bytes: usize) -> bool {
        let buffers = &self.core.buffers;
        let kept_bytes = buffers.total_bytes() / RESERVED_POOL_SHARE;
        if buffers.available_bytes() >= wanted_bytes.saturating_add(kept_bytes) {
            return true;
        }
        // The command itself is one of those that execute. Those that wait hold nothing: counted as well, a queue that has
        // several waiting would wait for itself.
        self.connections.get(key).is_none_or(|connection| {
            connection.executing <= connection.waiting + 1 && connection.queue.tx_queued_bytes() == 0
        })
    }

    /// Starts a command that the volume executes.
    #[inline]
    fn start(
        &mut self,
        key: Key,
        controller: Key,
        namespace_key: Key,
        request: Request,
        command: HostCommand,
    ) {
        let id = command.id;
        let write_through =
            self.controllers.get(controller).is_some_and(|controller| controller.features.write_through());
        let namespace = self.namespaces.get(namespace_key).expect("checked by the caller");
        let info = &namespace.info;
        if let Request::Read { extent, fua } = request
            && !(fua && info.volatile_write_cache)
            && let Some(sgl) = namespace.port.show(extent)
        {
            return self.answer_shown(key, id, namespace_key, extent, sgl);
        }
        let Some(tag) = self.tasks.next_key() else {
            return self.answer(key, id, Status::COMMAND_INTERRUPTED, 0);
        };
        let starved = match &request {
            Request::Read { extent, .. } | Request::Verify { extent } => {
                !self.may_answer(key, bytes_of(*extent, info))
            }
            _ => false,
        };
        let data = command.data.map(Data::into_sgl);
        let mut work = match Work::new(&request, data.as_ref(), info) {
            Ok(work) => work,
            Err(status) => {
                let command = HostCommand { data: data.map(Data::Blocks), ..command };
                return self.answer_failed(key, &command, status);
            }
        };
        let started = self.tick;
        if starved {
            let task = new_task(key, controller, id, namespace_key, Job::Work(work), started);
            return self.starve(task, TaskPhase::Starved(request));
        }
        match work.start(&request, data, write_through, info, &self.core.buffers) {
            Step::Io(op, sgl) => {
                let task = new_task(key, controller, id, namespace_key, Job::Work(work), started);
                self.submit_first(task, tag, op, sgl);
            }
            Step::NoMemory => {
                let task = new_task(key, controller, id, namespace_key, Job::Work(work), started);
                self.starve(task, TaskPhase::StarvedBetween);
            }
            Step::End(status, _) => self.answer(key, id, status, 0),
        }
    }

    /// The CRC-32C of what has been read just now, for a connection with data digests: of a volume that keeps such values, so that it
    /// need not be worked out of the bytes.
    #[inline]
    fn crc32c(&self, key: Key, namespace: &Namespace, extent: Extent) -> Option<u32> {
        let digests = self.connections.get(key).is_some_and(|connection| connection.queue.has_data_digest());
        if digests { namespace.port.crc32c(extent) } else { None }
    }

    /// Answers a read with its blocks where they lie: nothing is copied, and it takes no buffers of the pool.
    #[inline]
    fn answer_shown(&mut self, key: Key, id: CommandId, namespace: Key, extent: Extent, sgl: Sgl) {
        let started = self.tick;
        self.tick = self.core.clock.now();
        let latency_ns = self.tick.ns_since(started);
        let namespace = self.namespaces.get(namespace).expect("checked by the caller");
        OpKind::Read.record(&namespace.stats, IoStatus::Good, sgl.len() as u64, latency_ns);
        let crc32c = self.crc32c(key, namespace, extent);
        self.answer_blocks(key, id, sgl, crc32c);
    }

    /// The first I/O of a command. `tag` is the key that the task will have if it has to be kept.
    #[inline]
    fn submit_first(&mut self, mut task: Task, tag: Key, op: Op, sgl: Sgl) {
        let namespace = self.namespaces.get(task.namespace).expect("checked by the caller");
        let info = &namespace.info;
        task.kind = OpKind::of(&op);
        task.bytes = op.payload_bytes(info.logical_block_bytes);
        let Some(done) = namespace.port.submit(Io { tag: tag.to_u64(), op, sgl }) else {
            let parked = self.park(task, TaskPhase::Io);
            debug_assert_eq!(parked, tag, "nothing was parked in between");
            return;
        };
        let Job::Work(work) = &mut task.job else { unreachable!("only machines start so") };
        match work.resume(done.status, done.sgl, info, &self.core.buffers) {
            Step::End(status, sgl) => {
                self.tick = self.core.clock.now();
                let latency_ns = self.tick.ns_since(task.started);
                task.kind.record(&namespace.stats, done.status, task.bytes, latency_ns);
                match sgl {
                    Some(sgl) => {
                        let crc32c = match op {
                            Op::Read(extent) => self.crc32c(task.connection, namespace, extent),
                            _ => None,
                        };
                        self.answer_blocks(task.connection, task.id, sgl, crc32c);
                    }
                    None => self.answer(task.connection, task.id, status, 0),
                }
            }
            step => self.advance(task, step),
        }
    }

    /// Keeps a task while it waits. Its key is the one that was told as the next.
    pub(crate) fn park(&mut self, mut task: Task, phase: TaskPhase) -> Key {
        task.phase = phase;
        let (connection, controller, namespace, id) =
            (task.connection, task.controller, task.namespace, task.id);
        let second = match &task.job {
            Job::CompareAndWrite(second) => Some(*second),
            _ => None,
        };
        let in_volume = matches!(task.phase, TaskPhase::Io);
        let key = self.tasks.insert(task).unwrap_or_else(|_| unreachable!("room was checked"));
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.set_task(id, Some(key));
            if let Some(second) = second {
                connection.set_task(second, Some(key));
            }
        }
        if let Some(controller) = self.controllers.get_mut(controller) {
            controller.open_tasks += 1;
        }
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.open_tasks += 1;
        }
        if in_volume {
            self.busy_namespace(namespace);
        }
        key
    }

    fn starve(&mut self, task: Task, phase: TaskPhase) {
        if matches!(phase, TaskPhase::Starved(_)) {
            self.waits_for_memory(task.connection);
        }
        let key = self.park(task, phase);
        self.hungry.push_back(key);
    }

    fn waits_for_memory(&mut self, connection: Key) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.waiting += 1;
        }
    }

    /// A command that found no memory is tried again, or ends.
    pub(crate) fn waits_no_more(&mut self, connection: Key) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.waiting -= 1;
        }
    }

    /// Follows the steps of a task that is not in the table yet.
    fn advance(&mut self, task: Task, step: Step) {
        let key = self.park(task, TaskPhase::Running);
        self.advance_parked(key, step);
    }

    /// Follows the steps of a task until it waits for something or has ended.
    pub(crate) fn advance_parked(&mut self, key: Key, mut step: Step) {
        loop {
            let task = self.tasks.get_mut(key).expect("a task that advances is there");
            if task.aborted || task.stop.is_some() {
                let status = match step {
                    // What has taken effect is not taken back.
                    Step::End(status, _) => status,
                    _ => task.stop.unwrap_or(Status::ABORT_REQUESTED),
                };
                return self.end_task(key, status, None);
            }
            let namespace = self.namespaces.get(task.namespace).expect("a namespace outlives its tasks");
            match step {
                Step::End(status, sgl) => return self.end_task(key, status, sgl),
                Step::NoMemory => {
                    task.phase = TaskPhase::StarvedBetween;
                    return self.hungry.push_back(key);
                }
                Step::Io(op, sgl) => {
                    if task.bytes == 0 {
                        task.kind = OpKind::of(&op);
                    }
                    task.bytes += op.payload_bytes(namespace.info.logical_block_bytes);
                    match namespace.port.submit(Io { tag: key.to_u64(), op, sgl }) {
                        Some(done) => {
                            task.status = worse(task.status, done.status);
                            let Job::Work(work) = &mut task.job else {
                                return self.resume_job(key, done.status);
                            };
                            step = work.resume(done.status, done.sgl, &namespace.info, &self.core.buffers);
                        }
                        None => {
                            task.phase = TaskPhase::Io;
                            let namespace = task.namespace;
                            return self.busy_namespace(namespace);
                        }
                    }
                }
            }
        }
    }

    /// An I/O of a task has come home.
    #[inline]
    pub(crate) fn on_io_done(&mut self, namespace: Key, done: Done) {
        let key = Key::from_u64(done.tag);
        let task = self.tasks.get_mut(key).expect("a task outlives its I/O");
        assert!(matches!(task.phase, TaskPhase::Io), "only a task with an I/O in the volume gets one back");
        task.phase = TaskPhase::Running;
        task.status = worse(task.status, done.status);
        let info = &self.namespaces.get(namespace).expect("a namespace outlives its tasks").info;
        let Job::Work(work) = &mut task.job else { return self.resume_job(key, done.status) };
        let step = match (done.status, task.stop) {
            (IoStatus::Aborted, Some(status)) => Step::End(status, None),
            _ => work.resume(done.status, done.sgl, info, &self.core.buffers),
        };
        self.advance_parked(key, step);
    }

    /// The I/O of a task that is not a machine has ended.
    fn resume_job(&mut self, key: Key, status: IoStatus) {
        let task = self.tasks.get_mut(key).expect("a task that advances is there");
        let stopped = task.stop.filter(|_| status == IoStatus::Aborted);
        match &mut task.job {
            Job::FlushAll(rest) if status.is_good() => match rest.pop() {
                Some(next) => self.flush_next(key, next),
                None => self.end_task(key, Status::SUCCESS, None),
            },
            _ => self.end_task(key, stopped.unwrap_or(status_of(status)), None),
        }
    }

    /// Tries again a task that found no memory.
    pub(crate) fn retry_task(&mut self, key: Key) {
        let Some(task) = self.tasks.get(key) else { return };
        let namespace_key = task.namespace;
        if let TaskPhase::Starved(Request::Read { extent, .. } | Request::Verify { extent }) = task.phase {
            let connection = task.connection;
            let info = &self.namespaces.get(namespace_key).expect("a namespace outlives its tasks").info;
            let wanted_bytes = bytes_of(extent, info);
            self.waits_no_more(connection);
            if !self.may_answer(connection, wanted_bytes) {
                self.waits_for_memory(connection);
                return self.hungry.push_back(key);
            }
        }
        let info = &self.namespaces.get(namespace_key).expect("a namespace outlives its tasks").info;
        let task = self.tasks.get_mut(key).expect("looked up above");
        let Job::Work(work) = &mut task.job else { unreachable!("only machines wait for memory") };
        task.phase = TaskPhase::Running;
        let step = work.retry(info, &self.core.buffers);
        self.advance_parked(key, step);
    }

    /// A flush of every namespace of the subsystem that the host may write (NVMe base, section 7.2).
    fn flush_all(&mut self, key: Key, controller: Key, command: &HostCommand) {
        let subsystem = self.connections.get(key).and_then(|connection| connection.subsystem);
        let attached = subsystem.and_then(|subsystem| self.subsystems.get(subsystem));
        let nsids: Vec<u32> =
            attached.map_or_else(Vec::new, |s| s.attached().map(|(nsid, _)| nsid).collect());
        let mut namespaces = Vec::new();
        for nsid in nsids {
            match self.access(key, controller, nsid) {
                Ok(access) if access.path.is_some() => {}
                Ok(access) if !access.write => {
                    return self.answer_failed(key, command, Status::RESERVATION_CONFLICT.with_dnr());
                }
                Ok(access) => namespaces.push(access.namespace),
                Err(_) => {}
            }
        }
        let Some(first) = namespaces.pop() else { return self.answer(key, command.id, Status::SUCCESS, 0) };
        if self.tasks.next_key().is_none() {
            return self.answer(key, command.id, Status::COMMAND_INTERRUPTED, 0);
        }
        let task = new_task(key, controller, command.id, first, Job::FlushAll(namespaces), self.tick);
        self.advance(task, Step::Io(Op::Flush, Sgl::empty()));
    }

    /// The task goes on in another namespace.
    fn flush_next(&mut self, key: Key, next: Key) {
        if !self.move_task(key, next) {
            // Detached meanwhile: nothing of it is left to flush.
            return self.resume_job(key, IoStatus::Good);
        }
        self.advance_parked(key, Step::Io(Op::Flush, Sgl::empty()));
    }

    /// A command that is half of a fused operation.
    fn on_fused(&mut self, key: Key, controller: Key, command: HostCommand) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let cid = command.sqe.cid.get();
        match connection.fused.on_command(cid, command) {
            Verdict::Wait => {}
            Verdict::Fail(command, status) => self.answer_failed(key, &command, status),
            Verdict::Run { first, second } => self.compare_and_write(key, controller, first, second),
        }
    }

    fn compare_and_write(&mut self, key: Key, controller: Key, first: HostCommand, second: HostCommand) {
        let missing = Status::ABORTED_MISSING_FUSED;
        let failed_fused = Status::ABORTED_FAILED_FUSED;
        if second.sequence != first.sequence.wrapping_add(1) {
            // A capsule stood between them that was faulty in itself.
            self.answer_failed(key, &first, missing);
            return self.answer_failed(key, &second, missing);
        }
        let checked = self.check(key, controller, &first);
        let checked = checked.and_then(|(namespace, compare)| match compare {
            Request::Compare { extent, .. } => Ok((namespace, extent)),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        });
        let (namespace, extent) = match checked {
            Ok(checked) => checked,
            Err(status) => {
                self.answer_failed(key, &first, status);
                return self.answer_failed(key, &second, failed_fused);
            }
        };
        let write = self.check(key, controller, &second).and_then(|(_, write)| match write {
            Request::Write { fua, .. } => Ok(fua),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        });
        let info = &self.namespaces.get(namespace).expect("checked above").info;
        let write = write.and_then(|fua| {
            let too_long = bytes_of(extent, info) > COMPARE_AND_WRITE_BYTES_MAX;
            if too_long { Err(Status::ATOMIC_WRITE_UNIT_EXCEEDED.with_dnr()) } else { Ok(fua) }
        });
        match write {
            Ok(fua) => self.start_compare_and_write(key, controller, namespace, (extent, fua), first, second),
            Err(status) => {
                self.answer_failed(key, &first, failed_fused);
                self.answer_failed(key, &second, status);
            }
        }
    }

    fn start_compare_and_write(
        &mut self,
        key: Key,
        controller: Key,
        namespace: Key,
        (extent, fua): (Extent, bool),
        first: HostCommand,
        second: HostCommand,
    ) {
        let entry = self.controllers.get(controller).expect("a live queue has its controller");
        let fua = fua || entry.features.write_through();
        let mut sgl = first.data.map(Data::into_sgl).unwrap_or_default();
        sgl.append(second.data.map(Data::into_sgl).unwrap_or_default());
        if self.tasks.next_key().is_none() {
            self.answer(key, first.id, Status::COMMAND_INTERRUPTED, 0);
            return self.answer(key, second.id, Status::ABORTED_FAILED_FUSED, 0);
        }
        let job = Job::CompareAndWrite(second.id);
        let task = new_task(key, controller, first.id, namespace, job, self.tick);
        self.advance(task, Step::Io(Op::CompareAndWrite { extent, fua }, sgl));
    }

    /// Answers both halves of a compare and write.
    pub(crate) fn answer_fused(&mut self, key: Key, first: CommandId, second: CommandId, status: Status) {
        let (compared, written) = match status.code() {
            Status::SUCCESS => (Status::SUCCESS, Status::SUCCESS),
            Status::COMPARE_FAILURE | Status::UNRECOVERED_READ_ERROR => {
                (status, Status::ABORTED_FAILED_FUSED)
            }
            _ => (Status::ABORTED_FAILED_FUSED, status),
        };
        self.answer(key, first, compared, 0);
        self.answer(key, second, written, 0);
    }
}

/// A task that is about to run.
pub(crate) fn new_task(
    connection: Key,
    controller: Key,
    id: CommandId,
    namespace: Key,
    job: Job,
    started: Time,
) -> Task {
    Task {
        connection,
        controller,
        id,
        namespace,
        job,
        phase: TaskPhase::Running,
        started,
        kind: OpKind::Other,
        bytes: 0,
        status: IoStatus::Good,
        stop: None,
        aborted: false,
        barriers: SmallVec::new(),
    }
}

/// The status under which a task of several I/Os is counted.
fn worse(so_far: IoStatus, now: IoStatus) -> IoStatus {
    if so_far == IoStatus::Good { now } else { so_far }
}

impl NvmfCore {
    /// True when the connection is a queue that takes commands.
    pub(crate) fn is_live(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|connection| matches!(connection.phase, Phase::Live { .. }))
    }
}

//! The controller: what it is made of, and the step that takes commands and completes them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::sqe::Fuse;
use nvme_spec::{Cqe, Sqe, Status};
use reactor::sim::SimRandom;
use reactor::time::Time;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use crate::config::ControllerConfig;
use crate::events::Events;
use crate::fault::{Action, Faults};
use crate::features::Features;
use crate::flight::Flights;
use crate::interrupt::Interrupts;
use crate::iommu::Iommu;
use crate::limits::ARBITRATION_BURST;
use crate::log::{Health, Log};
use crate::namespace::Namespace;
use crate::queue::{CompletionQueue, Queues, SQE_BYTES, SubmissionQueue};
use crate::registers::{Elapsed, FatalUntil, Registers};
use crate::shadow::Shadow;
use crate::transfer::Pieces;

/// Whether anybody answers at the function's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    On,
    /// It is there, without power.
    Off,
    /// It was pulled out.
    Removed,
}

/// What changes at the next Controller Level Reset, as a new firmware might change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AfterReset {
    /// Another MDTS.
    pub mdts: Option<u8>,
    /// Another number of blocks for this namespace.
    pub length_blocks: Option<(u32, u64)>,
    /// Another format for this namespace; its data is gone.
    pub format: Option<(u32, crate::config::Format)>,
    /// Another serial number.
    pub serial: Option<u64>,
}

/// What was counted since the controller was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands fetched.
    pub commands: u64,
    /// Completions posted.
    pub completions: u64,
    /// Writes of doorbell registers.
    pub doorbells: u64,
    /// Writes of doorbells that were not valid.
    pub doorbell_errors: u64,
    /// Other things the host did that the standard forbids: registers that are not there or not writable now, enabling a
    /// controller that is not disabled, a command identifier that is in use.
    pub violations: u64,
    /// Controller Level Resets by CC.EN.
    pub controller_resets: u64,
    /// Function-level resets and resets of the subsystem.
    pub function_resets: u64,
    /// Commands that were struck by a fault.
    pub faults: u64,
}

pub(crate) struct Controller {
    pub(crate) config: ControllerConfig,
    pub(crate) dma: Rc<RefCell<Iommu>>,
    pub(crate) registers: Registers,
    pub(crate) now: Time,
    pub(crate) presence: Presence,
    /// Raised when the function is pulled out: handles of before find nobody.
    pub(crate) insertion: u64,
    pub(crate) function_reset: Option<Time>,
    pub(crate) queues: Queues,
    pub(crate) flights: Flights,
    pub(crate) namespaces: BTreeMap<u32, Namespace>,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) log: Log,
    pub(crate) health: Health,
    /// Critical warnings that were there when health was last looked at.
    pub(crate) warnings: u8,
    pub(crate) faults: Faults,
    pub(crate) pieces: Pieces,
    pub(crate) shadow: Option<Shadow>,
    pub(crate) interrupts: Interrupts,
    pub(crate) random: SimRandom,
    pub(crate) counters: Counters,
    pub(crate) after_reset: Vec<AfterReset>,
    /// The first block that the last failed command was to blame for.
    pub(crate) failed_lba: Option<u64>,
    /// What is done now was on its way when power failed.
    pub(crate) is_losing_power: bool,
    /// A page of data on its way.
    pub(crate) page: Box<[u8; 4096]>,
}

/// How a command went: dword 0 or a status; `None` when it is completed later.
pub(crate) type Answer = Option<Result<u32, Status>>;

impl Controller {
    pub(crate) fn new(config: ControllerConfig) -> Self {
        let caching = config.volatile_write_cache;
        let make = |namespace: &crate::config::NamespaceConfig| {
            (namespace.nsid, Namespace::new(namespace, config.cache_bytes, caching, config.seed))
        };
        Self {
            dma: Rc::new(RefCell::new(Iommu::new())),
            registers: Registers::new(&config),
            now: Time::ZERO,
            presence: Presence::On,
            insertion: 0,
            function_reset: None,
            queues: Queues::new(config.io_queues),
            flights: Flights::new(),
            namespaces: config.namespaces.iter().map(make).collect(),
            features: Features::new(config.io_queues, caching),
            events: Events::default(),
            log: Log::default(),
            health: Health::default(),
            warnings: 0,
            faults: Faults::default(),
            pieces: Pieces::default(),
            shadow: None,
            interrupts: Interrupts::new(config.interrupt_vectors),
            random: SimRandom::new(config.seed),
            counters: Counters::default(),
            after_reset: Vec::new(),
            failed_lba: None,
            is_losing_power: false,
            page: Box::new([0; 4096]),
            config,
        }
    }

    #[inline]
    pub(crate) fn active(&self, nsid: u32) -> Option<&Namespace> {
        self.namespaces.get(&nsid).filter(|namespace| namespace.attached)
    }

    #[inline]
    pub(crate) fn active_mut(&mut self, nsid: u32) -> Option<&mut Namespace> {
        self.namespaces.get_mut(&nsid).filter(|namespace| namespace.attached)
    }

    pub(crate) fn active_namespaces(&self) -> impl Iterator<Item = u32> + '_ {
        self.namespaces.values().filter(|namespace| namespace.attached).map(|namespace| namespace.nsid)
    }

    /// Lets time pass to `now`, takes at most `budget` commands and completes what is done. How much was done.
    pub(crate) fn step(&mut self, now: Time, budget: u32) -> u32 {
        self.now = self.now.max(now);
        if self.presence != Presence::On {
            return 0;
        }
        let mut done = self.pass_time();
        let table = Rc::clone(&self.dma);
        let mut dma = table.borrow_mut();
        // A function that must not master the bus neither fetches nor posts.
        if self.registers.is_running() && dma.is_bus_master() {
            done += self.run_step(budget, &mut dma);
        }
        done
    }

    fn pass_time(&mut self) -> u32 {
        let elapsed = self.registers.elapse(self.now);
        match elapsed {
            Elapsed::Nothing => return 0,
            Elapsed::Ready => self.open_admin_queues(),
            Elapsed::ShutDown { normal: true } => self.flush_all(),
            Elapsed::ShutDown { normal: false } | Elapsed::Other => {}
        }
        1
    }

    fn open_admin_queues(&mut self) {
        let [(submission, submission_entries), (completion, completion_entries)] =
            self.registers.admin_queues();
        let vector = (self.config.interrupt_vectors > 0).then_some(0);
        self.queues.completion[0] = Some(CompletionQueue::new(completion, completion_entries, vector));
        self.queues.add_submission(0, SubmissionQueue::new(submission, submission_entries, 0));
    }

    fn flush_all(&mut self) {
        self.namespaces.values_mut().for_each(|namespace| namespace.media.flush());
    }

    fn run_step(&mut self, budget: u32, dma: &mut Iommu) -> u32 {
        let before = self.counters.completions;
        let mut done = 0;
        if self.queues.is_unsettled {
            done += self.mend(dma);
            self.post_waiting(dma);
            self.queues.review();
        }
        while done < budget && self.registers.is_running() {
            let Some(flight) = self.flights.take_due(self.now) else { break };
            self.run(flight.sqid, &flight.sqe, flight.action, dma);
            done += 1;
        }
        done += self.serve(0, budget.saturating_sub(done), dma);
        let mut idle = 0;
        while done < budget && idle < self.queues.order.len() && self.registers.is_running() {
            self.queues.turn %= self.queues.order.len();
            let qid = self.queues.order[self.queues.turn];
            self.queues.turn += 1;
            let burst = ARBITRATION_BURST.min(budget - done);
            let served = self.serve(qid, burst, dma);
            idle = if served == 0 { idle + 1 } else { 0 };
            done += served;
        }
        self.report_events(dma);
        self.interrupts.signal(self.registers.interrupt_mask());
        done + (self.counters.completions - before) as u32
    }

    /// Takes commands of one queue. How many.
    fn serve(&mut self, qid: u16, burst: u32, dma: &mut Iommu) -> u32 {
        let mut taken = 0;
        while taken < burst && self.registers.is_running() {
            if !self.has_command(qid, dma) {
                break;
            }
            let Some(sqe) = self.fetch(qid, dma) else { break };
            taken += 1;
            self.accept(qid, &sqe, dma);
        }
        taken
    }

    /// A command is there, and its completion has somewhere to go.
    #[inline]
    fn has_command(&mut self, qid: u16, dma: &mut Iommu) -> bool {
        if self.flights.is_full() {
            return false;
        }
        let Some(queue) = self.queues.sq(qid) else { return false };
        let cqid = queue.cqid;
        if queue.head == queue.tail && (self.shadow.is_none() || !self.follow_shadow_tail(qid, dma)) {
            return false;
        }
        let Some(target) = self.queues.cq(cqid) else { return false };
        if !target.waiting.is_empty() {
            return false;
        }
        !target.is_full() || self.shadow.is_some() && self.follow_shadow_head(cqid, dma)
    }

    #[inline]
    fn fetch(&mut self, qid: u16, dma: &mut Iommu) -> Option<Sqe> {
        let iova = self.queues.sq(qid)?.take();
        let mut bytes = [0; SQE_BYTES as usize];
        if dma.read(iova, &mut bytes).is_err() {
            self.registers.fail(FatalUntil::ControllerReset);
            return None;
        }
        self.counters.commands += 1;
        Some(Sqe::read_from_bytes(&bytes).expect("64 bytes are a command"))
    }

    #[inline]
    fn accept(&mut self, qid: u16, sqe: &Sqe, dma: &mut Iommu) {
        let cid = sqe.cid.get();
        if qid == 0 && self.events.is_requested_by(cid)
            || !self.flights.is_empty() && self.flights.is_busy(qid, cid)
        {
            self.counters.violations += 1;
            return self.complete(qid, sqe, Err(Status::COMMAND_ID_CONFLICT.with_dnr()), None, dma);
        }
        if sqe.fuse() != Fuse::NORMAL {
            return self.accept_fused(qid, sqe, dma);
        }
        let action =
            if self.faults.is_empty() { None } else { self.faults.strike(qid, sqe, &mut self.random) };
        self.counters.faults += u64::from(action.is_some());
        let due = match action {
            Some(Action::Delay(delay)) => self.now.after(delay),
            Some(Action::Hang(_)) => Time::NEVER,
            // An event request waits for its event and not for a clock.
            _ if qid == 0 => self.now,
            _ => self.now.after(self.config.delays.command),
        };
        if due > self.now {
            return self.flights.add(due, qid, *sqe, action);
        }
        self.run(qid, sqe, action, dma);
    }

    /// Compare and Write: both or neither, with nothing between them.
    fn accept_fused(&mut self, qid: u16, first: &Sqe, dma: &mut Iommu) {
        let missing = Err(Status::ABORTED_MISSING_FUSED);
        let is_half = [Fuse::FIRST, Fuse::SECOND].contains(&first.fuse());
        if qid == 0 || !self.config.fused || !is_half {
            return self.complete(qid, first, Err(Status::INVALID_FIELD.with_dnr()), None, dma);
        }
        let more = self.queues.sq(qid).is_some_and(|queue| queue.head != queue.tail);
        if first.fuse() != Fuse::FIRST || !more {
            return self.complete(qid, first, missing, None, dma);
        }
        let Some(second) = self.fetch(qid, dma) else { return };
        if second.fuse() != Fuse::SECOND {
            self.complete(qid, first, missing, None, dma);
            return self.accept(qid, &second, dma);
        }
        let [one, two] = self.compare_and_write(first, &second, dma);
        self.complete(qid, first, one, None, dma);
        self.complete(qid, &second, two, None, dma);
    }

    /// Does a command and completes it, unless the fault says otherwise.
    #[inline]
    pub(crate) fn run(&mut self, qid: u16, sqe: &Sqe, action: Option<Action>, dma: &mut Iommu) {
        let answer = match action {
            Some(Action::Fail(status)) => Some(Err(status)),
            Some(Action::Fatal(until)) => return self.registers.fail(until),
            Some(Action::Remove) => return self.remove(),
            _ => self.execute(qid, sqe, action, dma),
        };
        let Some(answer) = answer else { return };
        let answer = match action {
            Some(Action::DoneButFail(status)) => answer.and(Err(status)),
            _ => answer,
        };
        self.complete(qid, sqe, answer, action, dma);
    }

    #[inline]
    fn execute(&mut self, qid: u16, sqe: &Sqe, action: Option<Action>, dma: &mut Iommu) -> Answer {
        if qid == 0 { self.execute_admin(sqe, dma) } else { Some(self.execute_nvm(sqe, action, dma)) }
    }

    /// Completes a command, in the way that the fault says.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        qid: u16,
        sqe: &Sqe,
        answer: Result<u32, Status>,
        action: Option<Action>,
        dma: &mut Iommu,
    ) {
        // The queue may have been deleted by this very command's neighbour.
        let Some(queue) = self.queues.sq(qid) else { return };
        let (cqid, head) = (queue.cqid, queue.head);
        let mut cqe =
            Cqe { sqhd: U16::new(head as u16), sqid: U16::new(qid), cid: sqe.cid, ..Cqe::default() };
        match answer {
            Ok(dw0) => cqe.dw0 = U32::new(dw0),
            Err(status) => cqe.set_status(self.log_failure(qid, sqe, status)),
        }
        match action {
            None => self.post(cqid, cqe, false, dma),
            Some(Action::DropCompletion) => {}
            Some(Action::DuplicateCompletion) => {
                self.post(cqid, cqe, false, dma);
                self.post(cqid, cqe, false, dma);
            }
            Some(Action::InventCompletion { cid }) => {
                self.post(cqid, Cqe { cid: U16::new(cid), ..cqe }, false, dma);
                self.post(cqid, cqe, false, dma);
            }
            Some(Action::WrongQueue { sqid }) => {
                self.post(cqid, Cqe { sqid: U16::new(sqid), ..cqe }, false, dma);
            }
            Some(Action::LatePhase) => self.post(cqid, cqe, true, dma),
            Some(_) => self.post(cqid, cqe, false, dma),
        }
    }

    fn log_failure(&mut self, qid: u16, sqe: &Sqe, status: Status) -> Status {
        let lba = self.failed_lba.take();
        self.log.add_failed_command(qid, sqe, status, lba);
        status.with_more()
    }

    /// Posts a completion, or keeps it until there is room.
    #[inline]
    fn post(&mut self, cqid: u16, cqe: Cqe, late: bool, dma: &mut Iommu) {
        let Some(queue) = self.queues.cq(cqid) else { return };
        if !queue.waiting.is_empty() || queue.is_full() {
            queue.waiting.push_back(cqe);
            self.queues.is_unsettled = true;
            return;
        }
        self.queues.is_unsettled |= late;
        self.write_completion(cqid, cqe, late, dma);
    }

    /// Writes a completion where there is room.
    #[inline]
    fn write_completion(&mut self, cqid: u16, cqe: Cqe, late: bool, dma: &mut Iommu) {
        let Some(queue) = self.queues.cq(cqid) else { return };
        let vector = queue.vector;
        if queue.write(cqe, late, dma).is_err() {
            return self.registers.fail(FatalUntil::ControllerReset);
        }
        self.counters.completions += 1;
        if let Some(vector) = vector {
            self.interrupts.raise(vector);
        }
    }

    /// Turns the Phase Tags that were late.
    fn mend(&mut self, dma: &mut Iommu) -> u32 {
        let mut mended = 0;
        for cqid in 0..self.queues.completion.len() {
            let Some(queue) = &mut self.queues.completion[cqid] else { continue };
            match queue.mend(dma) {
                Ok(any) => mended += u32::from(any),
                Err(_) => self.registers.fail(FatalUntil::ControllerReset),
            }
        }
        mended
    }

    /// Posts what found no room before.
    fn post_waiting(&mut self, dma: &mut Iommu) {
        for cqid in 0..self.queues.completion.len() as u16 {
            while self.queues.cq(cqid).is_some_and(|queue| !queue.waiting.is_empty()) {
                let is_full = self.queues.cq(cqid).is_some_and(|queue| queue.is_full());
                if is_full && !self.follow_shadow_head(cqid, dma) {
                    break;
                }
                let next = self.queues.cq(cqid).and_then(|queue| queue.waiting.pop_front());
                let Some(cqe) = next else { break };
                self.write_completion(cqid, cqe, false, dma);
            }
        }
    }

    fn report_events(&mut self, dma: &mut Iommu) {
        while self.registers.is_running() {
            let Some((cid, event)) = self.events.next() else { break };
            let sqe = Sqe { cid: U16::new(cid), ..Sqe::default() };
            self.complete(0, &sqe, Ok(event.dword()), None, dma);
        }
    }

    pub(crate) fn raise(&mut self, event: AsynchronousEvent) {
        self.events.raise(event);
    }

    /// When the next step has something to do that no register write announces; the past when there is something now.
    pub(crate) fn deadline(&self) -> Time {
        if self.presence != Presence::On {
            return Time::NEVER;
        }
        let running = self.registers.is_running() && self.dma.borrow().is_bus_master();
        let shadowed = self.shadow.is_some() && self.queues.is_awake();
        if running && (self.queues.has_work() || self.events.is_ready() || shadowed) {
            return Time::ZERO;
        }
        let flights = if running { self.flights.deadline() } else { Time::NEVER };
        self.registers.deadline().min(flights).min(self.function_reset.unwrap_or(Time::NEVER))
    }
}

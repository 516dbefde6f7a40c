//! The driver of a core's generator over queue pairs of a controller of this machine.
//!
//! ```text
//!  Claiming ─▶ Creating ─▶ Looking ─▶ Live ─▶ Closing ─▶ Closed
//!  (tickets)   (queues)    (if it             (the controller shuts down,
//!                           writes)            queue pairs see that)
//! ```

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use nvme::device::Device;
use nvme::stats::QueueStats;
use nvme::{Controller, IoDone, IoOp, Namespace, Outcome, QueuePair, Readiness};
use nvme_emulated::{EmulatedController, EmulatedDevice};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::limits::BUFFER_ALIGN_BYTES;
use reactor::memory::MemoryRegion;
use reactor::time::Time;
use vfio::VfioDevice;

use crate::driver::{
    Answer, ControllerFacts, Doorbells, Driver, Failure, Geometry, Kind, Maintenance, Request,
};
use crate::error::{BenchError, LocalCause};
use crate::limits::{LOOK_BYTES, NAMESPACE_TIMEOUT_MS, SHUTDOWN_TIMEOUT_S};
use crate::local::keeper::{Door, Seat};
use crate::local::look::Look;
use crate::local::{Claimed, LocalTarget, claim, config};

/// The tag of a read that looks; requests have smaller ones.
const LOOK_TAG: u64 = u64::MAX;
/// Completions taken from one queue at once.
const COMPLETIONS_PER_POLL: usize = 256;
/// Commands that an emulated controller takes in one step.
const STEP_COMMANDS: u32 = 4096;

/// Who drives the controller itself.
enum Home<D: Device> {
    /// This core: the controller is in this process.
    Here { controller: Box<Controller<D>>, emulated: EmulatedController, ready_at: Option<Time> },
    /// A thread of its own, for all cores.
    Kept { door: Door, claimed: Option<Receiver<Result<Claimed, BenchError>>> },
}

enum Stage {
    Claiming,
    Creating,
    /// The look that is under way has its list lent, or is about to lend it.
    Looking {
        look: Box<Look>,
        asked: bool,
    },
    Live,
    /// Waits for the end of the controller.
    Closing,
    Closed,
}

/// See the module's documentation.
pub struct LocalDriver<D: Device> {
    target: LocalTarget,
    device: D,
    home: Home<D>,
    stage: Stage,
    /// Where the controller is kept for this core as well.
    seat: Option<Seat>,
    // Before the pool that it maps.
    queues: Vec<QueuePair<D>>,
    pool: BufferPool,
    stats: Vec<Arc<QueueStats>>,
    namespace: Option<Arc<Namespace>>,
    facts: Option<ControllerFacts>,
    done: Vec<IoDone>,
    geometry: Option<Geometry>,
    end: Option<BenchError>,
}

/// Buffers of the length of a request, and one to look with.
fn pool(target: &LocalTarget) -> Result<BufferPool, BenchError> {
    let bytes = (target.request_bytes as usize).next_multiple_of(BUFFER_ALIGN_BYTES);
    let count = usize::try_from(target.buffers).unwrap_or(usize::MAX);
    let classes = [SizeClass { bytes, count }, SizeClass { bytes: LOOK_BYTES, count: 1 }];
    let no_memory = |_| BenchError::Buffers { bytes: target.buffers * bytes as u64 };
    let region = MemoryRegion::new(SizeClass::total_bytes(&classes)).map_err(no_memory)?;
    Ok(BufferPool::new(region, &classes))
}

impl LocalDriver<EmulatedDevice> {
    /// Begins to bring an emulated controller up on this core.
    pub fn emulated(
        now: Time,
        target: LocalTarget,
        emulated: EmulatedController,
    ) -> Result<Self, BenchError> {
        let device = emulated.device();
        let controller = Controller::new(device.clone(), config(target.queues, target.depth), None);
        let mut controller = Box::new(controller.map_err(|error| target.refused(error))?);
        controller.start(now);
        Self::new(target, device, Home::Here { controller, emulated, ready_at: None })
    }
}

impl LocalDriver<VfioDevice> {
    /// Asks a controller that is kept for queue pairs of this core.
    pub fn kept(target: LocalTarget, device: VfioDevice, door: Door) -> Result<Self, BenchError> {
        let claimed = Some(door.claim(&target));
        Self::new(target, device, Home::Kept { door, claimed })
    }
}

impl<D: Device + Clone> LocalDriver<D> {
    fn new(target: LocalTarget, device: D, home: Home<D>) -> Result<Self, BenchError> {
        Ok(Self {
            pool: pool(&target)?,
            target,
            device,
            home,
            stage: Stage::Claiming,
            seat: None,
            queues: Vec::new(),
            stats: Vec::new(),
            namespace: None,
            facts: None,
            done: Vec::with_capacity(COMPLETIONS_PER_POLL),
            geometry: None,
            end: None,
        })
    }

    fn fail(&mut self, error: BenchError) {
        // The first end is the one to tell, and a leave is no failure.
        if self.end.is_none() && !matches!(self.stage, Stage::Closing | Stage::Closed) {
            self.end = Some(error);
        }
    }

    /// Looks whether the queue pairs can be had.
    fn poll_claim(&mut self, now: Time) -> Result<(), BenchError> {
        let claimed = match &mut self.home {
            Home::Here { controller, ready_at, .. } => {
                if controller.is_ready() && ready_at.is_none() {
                    *ready_at = Some(now);
                }
                let late_at = |at: Time| at.after(Duration::from_millis(NAMESPACE_TIMEOUT_MS));
                claim(controller, &self.target, ready_at.is_some_and(|at| now >= late_at(at)))?
            }
            Home::Kept { door, claimed } => match claimed.as_ref().map(Receiver::try_recv) {
                Some(Ok(answer)) => {
                    *claimed = None;
                    Some(answer?)
                }
                Some(Err(TryRecvError::Empty)) => None,
                Some(Err(TryRecvError::Disconnected)) | None => {
                    return Err(self.target.refused(door.fate().unwrap_or(LocalCause::Unkept)));
                }
            },
        };
        let Some(claimed) = claimed else { return Ok(()) };
        self.seat = claimed.seat;
        self.check_serial(&claimed.serial)?;
        let commands = claimed.tickets.iter().map(|ticket| u32::from(ticket.commands_max())).min();
        let commands_per_queue = commands.unwrap_or(0);
        if commands_per_queue < self.target.depth {
            return Err(BenchError::Depth { target: self.target.shown.clone(), entries: commands_per_queue });
        }
        for ticket in claimed.tickets {
            let queue = QueuePair::new(self.device.clone(), ticket, &self.pool);
            let mut queue = queue.map_err(|error| self.target.refused(error))?;
            queue.attach(Arc::clone(&claimed.namespace));
            self.stats.push(queue.stats());
            self.queues.push(queue);
        }
        self.namespace = Some(claimed.namespace);
        self.facts = Some(ControllerFacts {
            serial: claimed.serial,
            model: claimed.model,
            firmware: claimed.firmware,
            commands_per_queue,
            memory: self.pool.report().to_string(),
        });
        self.stage = Stage::Creating;
        Ok(())
    }

    /// A number that nobody has is a slip of the hand, and confirms nothing.
    fn check_serial(&self, found: &str) -> Result<(), BenchError> {
        match &self.target.confirm_serial {
            Some(given) if given.trim() != found || found.is_empty() => {
                let (given, found) = (given.clone(), found.to_owned());
                Err(self.target.refused(LocalCause::Serial { given, found }))
            }
            _ => Ok(()),
        }
    }

    fn on_created(&mut self) {
        let namespace = self.namespace.as_ref().expect("claimed with the queue pairs");
        let may_destroy = self.target.confirm_serial.is_some();
        if self.target.writes && self.target.looks && !may_destroy {
            let look = Box::new(Look::new(namespace.info()));
            self.stage = Stage::Looking { look, asked: false };
        } else {
            self.go_live();
        }
    }

    fn go_live(&mut self) {
        let info = *self.namespace.as_ref().expect("claimed with the queue pairs").info();
        self.geometry = Some(Geometry {
            logical_block_bytes: info.block_bytes,
            length_blocks: info.length_blocks,
            command_bytes_max: u64::from(info.transfer_blocks_max) * u64::from(info.block_bytes),
        });
        self.stage = Stage::Live;
    }

    /// Asks for the next piece of what is looked at, or judges it.
    fn poll_look(&mut self, now: Time) -> Result<(), BenchError> {
        let Stage::Looking { look, asked: false } = &mut self.stage else { return Ok(()) };
        let Some(step) = look.step() else {
            let serial = self.facts.as_ref().map_or("", |facts| facts.serial.as_str());
            look.judge(&self.target, serial)?;
            self.go_live();
            return Ok(());
        };
        let block_bytes = self.namespace.as_ref().map_or(0, |namespace| namespace.info().block_bytes);
        let Some(sgl) = self.pool.alloc(step.length_blocks as usize * block_bytes as usize) else {
            return Err(BenchError::Buffers { bytes: LOOK_BYTES as u64 });
        };
        let (op, lba, blocks) = (IoOp::Read, step.lba, step.length_blocks);
        if self.queues[0].readiness(0) == Readiness::Ready {
            self.queues[0].submit(now, nvme::Request { tag: LOOK_TAG, namespace: 0, op, lba, blocks, sgl });
            if let Stage::Looking { asked, .. } = &mut self.stage {
                *asked = true;
            }
        }
        Ok(())
    }

    fn on_looked(&mut self, done: IoDone) {
        let Stage::Looking { look, asked } = &mut self.stage else { return };
        *asked = false;
        match failure(done.outcome) {
            None => look.take(&done.sgl),
            // The controller is gone, which is told as such.
            Some(Failure::Lost) => {}
            Some(status) => {
                let lba = look.step().map_or(0, |step| step.lba);
                let target = self.target.shown.clone();
                self.fail(BenchError::Unreadable { target, lba, status });
            }
        }
    }

    fn poll_home(&mut self, now: Time) {
        if let Home::Here { controller, .. } = &mut self.home {
            controller.poll(now);
            while controller.next_event().is_some() {}
        }
    }

    /// How the controller ended, if it has.
    fn fate(&self) -> Option<LocalCause> {
        match &self.home {
            Home::Here { controller, .. } => controller.ended().map(LocalCause::Ended),
            Home::Kept { door, .. } => door.fate(),
        }
    }

    fn advance(&mut self, now: Time) -> Result<(), BenchError> {
        if matches!(self.stage, Stage::Creating | Stage::Looking { .. }) {
            if let Some(cause) = self.fate() {
                return Err(self.target.refused(cause));
            }
            let refused = |queue: &&QueuePair<D>| queue.readiness(0) == Readiness::Gone;
            let gone = self.queues.iter().filter(refused).count();
            if gone > 0 {
                let (granted, asked) = (self.queues.len() - gone, self.target.queues);
                return Err(BenchError::Queues { target: self.target.shown.clone(), granted, asked });
            }
        }
        match self.stage {
            Stage::Claiming => self.poll_claim(now),
            Stage::Creating if self.queues.iter().all(QueuePair::is_live) => {
                self.on_created();
                Ok(())
            }
            Stage::Looking { .. } => self.poll_look(now),
            _ => Ok(()),
        }
    }

    /// Starts one command; false when there is no room now.
    fn submit_plain(&mut self, now: Time, tag: u32, op: IoOp, (lba, blocks): (u64, u64)) -> bool {
        let index = tag as usize % self.queues.len();
        let is_ready = self.queues[index].readiness(0) == Readiness::Ready;
        if is_ready {
            let (tag, sgl) = (tag.into(), Sgl::empty());
            self.queues[index].submit(now, nvme::Request { tag, namespace: 0, op, lba, blocks, sgl });
        }
        is_ready
    }
}

fn failure(outcome: Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Success => None,
        Outcome::Failed { status, .. } => Some(Failure::Nvme(status)),
        Outcome::Unanswered { .. } => Some(Failure::Unanswered),
        Outcome::Gone => Some(Failure::Lost),
    }
}

impl<D: Device + Clone> Driver for LocalDriver<D> {
    type Data = Sgl;

    #[inline]
    fn poll(&mut self, now: Time, answers: &mut Vec<Answer<Sgl>>) {
        self.poll_home(now);
        let mut done = std::mem::take(&mut self.done);
        for queue in &mut self.queues {
            queue.poll(now, COMPLETIONS_PER_POLL, &mut done);
        }
        let mut is_lost = false;
        for one in done.drain(..) {
            is_lost |= one.outcome == Outcome::Gone;
            if one.tag == LOOK_TAG {
                self.on_looked(one);
                continue;
            }
            let tag = u32::try_from(one.tag).expect("what was given comes back");
            answers.push(Answer { tag, data: one.sgl, failure: failure(one.outcome) });
        }
        self.done = done;
        if is_lost {
            let cause = self.fate().unwrap_or(LocalCause::Unkept);
            self.fail(self.target.refused(cause));
        }
        if matches!(self.stage, Stage::Live) {
            return;
        }
        if let Err(error) = self.advance(now) {
            self.fail(error);
        }
        let is_over = matches!(self.stage, Stage::Closing) && self.fate().is_some();
        if is_over && self.queues.iter().all(|queue| queue.open_requests() == 0) {
            self.stage = Stage::Closed;
        }
    }

    fn geometry(&self) -> Option<Geometry> {
        self.geometry
    }

    fn buffer(&mut self, length_bytes: usize) -> Option<Sgl> {
        self.pool.alloc(length_bytes)
    }

    fn take_end(&mut self) -> Option<BenchError> {
        self.end.take()
    }

    #[inline]
    fn submit(&mut self, now: Time, request: Request, data: Sgl) -> Result<(), Sgl> {
        let queues = self.queues.len();
        let index = if queues == 1 { 0 } else { request.tag as usize % queues };
        let queue = &mut self.queues[index];
        if queue.readiness(0) != Readiness::Ready {
            return Err(data);
        }
        let op = match request.kind {
            Kind::Read => IoOp::Read,
            Kind::Write => IoOp::Write { fua: false },
        };
        let (tag, lba, blocks) = (request.tag.into(), request.lba, request.length_blocks.into());
        queue.submit(now, nvme::Request { tag, namespace: 0, op, lba, blocks, sgl: data });
        Ok(())
    }

    #[inline]
    fn flush(&mut self, now: Time) {
        for queue in &mut self.queues {
            queue.ring();
        }
        if let Home::Here { emulated, .. } = &self.home {
            // After the doorbells: what was submitted in this turn is at work in this turn.
            emulated.step(now, STEP_COMMANDS);
        }
    }

    fn close(&mut self, now: Time) {
        if matches!(self.stage, Stage::Closing | Stage::Closed) {
            return;
        }
        self.stage = Stage::Closing;
        match &mut self.home {
            Home::Here { controller, .. } => controller.shutdown(now),
            Home::Kept { claimed, .. } => {
                // What is handed out from now on is handed to nobody.
                *claimed = None;
                if self.seat.take().is_none() {
                    self.stage = Stage::Closed;
                }
            }
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    fn close_timeout(&self) -> Duration {
        Duration::from_secs(SHUTDOWN_TIMEOUT_S)
    }

    fn shares(&self) -> bool {
        matches!(self.home, Home::Kept { .. })
    }

    fn controller(&self) -> Option<ControllerFacts> {
        self.facts.clone()
    }

    fn doorbells(&self) -> Doorbells {
        let of = |stats: &Arc<QueueStats>| Doorbells {
            commands: stats.submitted.get(),
            submission: stats.submission_doorbells.get(),
            completion: stats.completion_doorbells.get(),
        };
        self.stats.iter().map(of).fold(Doorbells::default(), Doorbells::and)
    }
}

impl<D: Device + Clone> Maintenance for LocalDriver<D> {
    fn submit_flush(&mut self, now: Time, tag: u32) -> bool {
        self.submit_plain(now, tag, IoOp::Flush, (0, 0))
    }

    fn submit_deallocate(&mut self, now: Time, tag: u32, lba: u64, length_blocks: u32) -> bool {
        let op = IoOp::WriteZeroes { deallocate: true, fua: false };
        self.submit_plain(now, tag, op, (lba, length_blocks.into()))
    }
}

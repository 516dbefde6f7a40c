//! One controller on its core: brought up, its queue pair taken, its namespaces opened, its end awaited.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use control::bridge::{DeviceReport, PlaneError};
use control::model::{DeviceNamespace, DeviceQueuePair, DeviceState};
use nvme::device::{Device, DeviceError};
use nvme::stats::QueueStats;
use nvme::{Config, Controller, End, Fault, QueuePair, Remembered};
use nvme_emulated::EmulatedController;
use reactor::buffer::BufferPool;
use reactor::core::Core;
use reactor::poller::{Poller, Progress};
use reactor::time::{Clock, Time};
use reactor::wake::Waker;
use volume::label::Confirmed;
use volume::nvme::{NvmeChannel, NvmeCore, NvmePoller};
use volume::shared::Answer;

use super::away::{Away, Volumes};
use super::message::{OpenNamespace, OpenedNamespace};
use super::open::Opening;
use super::take::Facts;

/// Until then a device must be up, or a namespace there, for a volume that waits for it; control waits longer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(40);
/// A namespace that is not there so long after its device is up is not looked for any more.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks at the health log page: as often as metrics are usually read.
const HEALTH_INTERVAL: Duration = Duration::from_secs(15);
/// Each volume on a namespace takes two channels: one for its blocks, one for its reservations.
const CHANNELS_PER_VOLUME: usize = 2;

/// A device as its core's poller sees it, whatever it is made of.
pub(crate) trait Driven {
    fn facts(&self) -> &Facts;
    fn poll(&mut self, now: Time, budget: u32) -> Progress;
    fn deadline(&self) -> Time;
    fn may_sleep(&self) -> bool;
    fn before_sleep(&mut self);
    fn after_sleep(&mut self);
    fn wake_events(&self, out: &mut Vec<RawFd>);
    fn report(&self) -> DeviceReport;
    fn open(&mut self, now: Time, open: OpenNamespace, answer: Answer<Result<OpenedNamespace, PlaneError>>);
    fn shut_down(&mut self, now: Time);
    fn has_ended(&self) -> bool;
    /// It was pulled out, or is not the one that was: to be let go as soon as no volume holds it.
    fn is_gone(&self) -> bool;
    /// The volumes that were opened on it.
    fn volumes(&self) -> &Volumes;
    /// Lets go of the device, which no volume holds any more.
    fn depart(self: Box<Self>) -> Away;
}

/// The queue pair of this core.
struct Queue<D: Device> {
    core: NvmeCore<D>,
    poller: NvmePoller<D>,
    stats: Arc<QueueStats>,
    qid: u16,
    entries: u32,
}

/// A controller and everything of it on its core.
pub(crate) struct Drive<D: Device> {
    facts: Facts,
    controller: Controller<D>,
    /// The controller itself, where it is in this process: then it works when it is stepped.
    emulated: Option<EmulatedController>,
    queue: Option<Queue<D>>,
    /// Why there is no queue pair.
    queue_problem: Option<DeviceError>,
    openings: Vec<Opening<D>>,
    /// Those that were opened, by namespace.
    volumes: Volumes,
    /// Something else may be in its place: it was away.
    has_been_away: bool,
    ready_at: Option<Time>,
    clock: Rc<dyn Clock>,
    buffers: BufferPool,
    waker: Waker,
}

impl<D: Device + Clone + 'static> Drive<D> {
    /// Begins to bring the device up. One that comes back must be the one that is remembered.
    pub(crate) fn new(
        core: &Core,
        facts: Facts,
        device: D,
        emulated: Option<EmulatedController>,
        remembered: Option<Remembered>,
    ) -> Result<Self, DeviceError> {
        let config = Config { io_queues: 1, health_interval: HEALTH_INTERVAL, ..Config::default() };
        let mut controller = Controller::new(device, config, Some(core.waker.clone()))?;
        let has_been_away = remembered.is_some();
        if let Some(remembered) = remembered {
            controller.expect(remembered);
        }
        controller.start(core.clock.now());
        Ok(Self {
            facts,
            controller,
            emulated,
            queue: None,
            queue_problem: None,
            openings: Vec::new(),
            volumes: Volumes::default(),
            has_been_away,
            ready_at: None,
            clock: core.clock.clone(),
            buffers: core.buffers.clone(),
            waker: core.waker.clone(),
        })
    }

    /// Once the controller is up, this core takes its queue pair.
    fn take_queue(&mut self, now: Time) {
        if !self.controller.is_ready() || self.queue.is_some() || self.queue_problem.is_some() {
            return;
        }
        self.ready_at = Some(now);
        if let Some(identity) = self.controller.identity() {
            self.facts.presence.is_called(identity.serial.trim());
        }
        let Ok(ticket) = self.controller.claim_queue() else { return };
        let entries = u32::from(ticket.commands_max());
        match QueuePair::new(self.controller.device().clone(), ticket, &self.buffers) {
            Ok(mut queue) => {
                queue.set_waker(self.waker.clone());
                if let Some(shadow) = self.controller.shadow() {
                    queue.set_shadow(shadow);
                }
                let (stats, qid) = (queue.stats(), queue.qid());
                let core = NvmeCore::new(queue, self.clock.clone(), &self.buffers);
                let poller = NvmePoller::new(core.clone());
                self.queue = Some(Queue { core, poller, stats, qid, entries });
            }
            Err(error) => self.queue_problem = Some(error),
        }
    }

    fn poll_openings(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        for mut opening in std::mem::take(&mut self.openings) {
            if !opening.is_begun() {
                match self.begin(now, &mut opening) {
                    Ok(()) => {}
                    Err(error) => {
                        opening.fail(error);
                        progress = Progress::Busy;
                        continue;
                    }
                }
            }
            match (opening.poll(&self.buffers), &self.queue) {
                (None, _) => {
                    progress = if opening.is_begun() { Progress::Busy } else { progress };
                    self.openings.push(opening);
                }
                (Some(Ok(labelled)), Some(queue)) => {
                    let size_bytes = labelled.geometry.length_bytes();
                    if let Some(mut open) = opening.finish(labelled, &queue.core, &self.buffers) {
                        // As it is looked for, should it have to be opened again.
                        (open.request.size_bytes, open.request.growth) = (size_bytes, None);
                        self.volumes.insert(open.nsid, open);
                    }
                }
                (Some(Ok(_)), None) => unreachable!("a namespace was read, so there is a queue pair"),
                (Some(Err(error)), _) => opening.fail(error),
            }
        }
        progress
    }

    /// Begins when the device is up and has the namespace; refuses when it will not.
    fn begin(&mut self, now: Time, opening: &mut Opening<D>) -> Result<(), PlaneError> {
        let refused = |reason: String| PlaneError::Device { device: self.facts.name.to_string(), reason };
        if let (DeviceState::Faulted | DeviceState::Removed | DeviceState::Stopped, problem) = self.state() {
            return Err(refused(problem.unwrap_or_else(|| "it is no longer driven".to_owned())));
        }
        let nsid = opening.nsid();
        let live = self.queue.as_ref().filter(|queue| queue.core.is_live() && self.controller.is_ready());
        if let Some(queue) = live {
            if let Some(namespace) = self.controller.namespace(nsid) {
                if queue.core.channels_left() < CHANNELS_PER_VOLUME {
                    return Err(refused("its queue pair has no room for another volume".to_owned()));
                }
                return opening.begin(NvmeChannel::new(&queue.core, namespace.clone()));
            }
            if let Some((_, refusal)) = self.controller.refused().find(|(refused, _)| *refused == nsid) {
                return Err(refused(format!("namespace {nsid}: {refusal}")));
            }
            if self.ready_at.is_some_and(|ready_at| now >= ready_at.after(NAMESPACE_TIMEOUT)) {
                return Err(refused(format!(
                    "it has no namespace {nsid}; \"vega disk show {}\" lists those that it has",
                    self.facts.name
                )));
            }
        }
        if opening.is_late(now) {
            return Err(refused("it is not up in time; try again, or see \"vega disk show\"".to_owned()));
        }
        Ok(())
    }

    fn state(&self) -> (DeviceState, Option<String>) {
        match self.controller.ended() {
            Some(End::Removed) => {
                return (DeviceState::Removed, Some("the device has been removed".to_owned()));
            }
            Some(End::Faulted(fault)) => return (DeviceState::Faulted, Some(fault.to_string())),
            Some(End::ShutDown { .. }) => return (DeviceState::Stopped, None),
            None => {}
        }
        if let Some(error) = &self.queue_problem {
            return (DeviceState::Faulted, Some(error.to_string()));
        }
        let state = match (self.controller.is_ready(), self.ready_at) {
            (true, _) => DeviceState::Ready,
            (false, Some(_)) => DeviceState::Resetting,
            (false, None) => DeviceState::Starting,
        };
        (state, None)
    }

    fn namespaces(&self) -> Vec<DeviceNamespace> {
        let served = self.controller.namespaces().map(|namespace| {
            let block_size = namespace.info().block_bytes;
            let size_bytes = namespace.length_blocks() * u64::from(block_size);
            DeviceNamespace {
                nsid: namespace.info().nsid,
                size_bytes,
                block_size,
                volume: None,
                problem: None,
            }
        });
        let refused = self.controller.refused().map(|(nsid, refusal)| DeviceNamespace {
            nsid,
            size_bytes: 0,
            block_size: 0,
            volume: None,
            problem: Some(refusal.to_string()),
        });
        let mut all: Vec<_> = served.chain(refused).collect();
        all.sort_by_key(|namespace| namespace.nsid);
        all
    }

    fn events(&self) -> Vec<(&'static str, u64)> {
        let stats = self.controller.stats();
        let mut events = vec![
            ("controller-reset", stats.resets.get()),
            ("function-reset", stats.function_resets.get()),
            ("removal", stats.removals.get()),
            ("abort", stats.aborts.get()),
            ("admin-error", stats.admin_errors.get()),
            ("admin-spurious-completion", stats.admin_spurious.get()),
        ];
        if let Some(queue) = &self.queue {
            let stats = &queue.stats;
            events.extend([
                ("timeout", stats.timeouts.get()),
                ("retry", stats.retries.get()),
                ("unanswered", stats.unanswered.get()),
                ("stale-completion", stats.stale.get()),
                ("duplicate-completion", stats.duplicate.get()),
                ("unknown-completion", stats.unknown.get()),
            ]);
        }
        events
    }
}

impl<D: Device + Clone + 'static> Driven for Drive<D> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let mut progress = self.controller.poll(now);
        // What it tells is in its state as well, which is where it is read.
        while self.controller.next_event().is_some() {}
        self.take_queue(now);
        if let Some(queue) = &mut self.queue {
            progress = progress.or(queue.poller.poll(now, budget));
        }
        progress = progress.or(self.poll_openings(now));
        if let Some(emulated) = &self.emulated {
            // After the doorbells: what was submitted in this turn is at work in this turn.
            progress = progress.or(emulated.step(now, budget));
        }
        progress
    }

    fn deadline(&self) -> Time {
        let queue = self.queue.as_ref().map_or(Time::NEVER, |queue| queue.poller.deadline());
        let emulated = self.emulated.as_ref().map_or(Time::NEVER, EmulatedController::deadline);
        self.controller.deadline().min(queue).min(emulated)
    }

    fn may_sleep(&self) -> bool {
        self.openings.is_empty() && self.queue.as_ref().is_none_or(|queue| queue.poller.may_sleep())
    }

    fn before_sleep(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.poller.before_sleep();
        }
    }

    fn after_sleep(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.poller.after_sleep();
        }
    }

    fn wake_events(&self, out: &mut Vec<RawFd>) {
        if let Some(queue) = &self.queue {
            queue.poller.wake_events(out);
        }
    }

    fn report(&self) -> DeviceReport {
        let (state, problem) = self.state();
        let pages = self.controller.pages();
        let queue_pairs = self.queue.iter().map(|queue| {
            let pair = DeviceQueuePair {
                core: self.facts.core as u32,
                queue_id: queue.qid,
                entries: queue.entries,
                in_flight: queue.stats.in_flight.get(),
                commands: queue.stats.completed.get(),
                errors: queue.stats.failed.get(),
            };
            (pair, queue.stats.latency.snapshot())
        });
        DeviceReport {
            name: self.facts.name.clone(),
            kind: self.facts.kind,
            pci_address: self.facts.pci_address,
            core: self.facts.core as u32,
            state,
            problem,
            identify: pages.controller.as_deref().map(|identify| Arc::new(*identify)),
            health: pages.smart.as_deref().map(|health| Arc::new(*health)),
            namespaces: self.namespaces(),
            queue_pairs: queue_pairs.collect(),
            events: self.events(),
        }
    }

    fn open(
        &mut self,
        now: Time,
        mut open: OpenNamespace,
        answer: Answer<Result<OpenedNamespace, PlaneError>>,
    ) {
        let serial = self.controller.identity().map(|identity| identity.serial.trim().to_owned());
        // It is the one that was meant, whatever its address.
        if serial.is_none() || serial.as_deref() != self.facts.licence.serial() {
            open.request.confirmed = Confirmed::Nothing;
        }
        self.openings.push(Opening::new(open, answer, now.after(OPEN_TIMEOUT)));
    }

    fn shut_down(&mut self, now: Time) {
        self.controller.shutdown(now);
    }

    fn has_ended(&self) -> bool {
        self.controller.ended().is_some()
    }

    fn is_gone(&self) -> bool {
        let Some(end) = self.controller.ended() else { return false };
        if !self.openings.is_empty() {
            // They are refused at the next turn, and hold channels until then.
            return false;
        }
        match end {
            End::Removed => true,
            // Another one was put into its place.
            End::Faulted(Fault::Changed(_)) if self.has_been_away && self.ready_at.is_none() => true,
            // One that was given up or shut down may be pulled out as well, and then the slot waits for us.
            End::Faulted(_) | End::ShutDown { .. } => self.controller.device().is_removed(),
        }
    }

    fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    fn depart(self: Box<Self>) -> Away {
        let mut last = self.report();
        last.queue_pairs.clear();
        let mut away =
            Away::new(self.facts.clone(), last, self.controller.remembered(), self.volumes.clone());
        away.is_stranger = matches!(self.controller.ended(), Some(End::Faulted(Fault::Changed(_))));
        // The queue pair's memory is unmapped with it, then the controller's, then the last handle goes.
        drop(self);
        away
    }
}

//! A controller: bring-up, reset, shutdown and removal as one state machine that its owner polls. It never waits, and
//! everything it waits for has a bound.
//!
//! ```text
//!            ┌─────────────────────────── reset ───────────────────────────┐
//!            ▼                                                             │
//! start ─▶ LettingGo ─▶ Disabling ──RDY 0──▶ Enabling ──RDY 1──▶ Starting ─▶ Ready ─▶ shutdown
//!                          │  ▲                                                          │
//!                    late  ▼  │ asked for                                                ▼
//!                     FunctionReset ──late──▶ Ended(Faulted)       Ended(ShutDown) ◀─ ShuttingDown
//!                                               all ones read: Ended(Removed)
//! ```
//!
//! The ladder: a command that is late is aborted; one that does not end then resets the controller; resets that do not help
//! reset the function; and when that does not help either, the controller is given up, with its bus mastering off.
//!
//! Reading order: this file, `phases`, `jobs`, `scan`, `events`, `queues`.

mod events;
mod jobs;
mod phases;
mod queues;
mod scan;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nvme_spec::identify::IdentifyController;
use nvme_spec::log::{ErrorInformation, FirmwareSlot, SmartHealth};
use nvme_spec::register::{self, ControllerStatus};
use reactor::poller::Progress;
use reactor::time::Time;
use reactor::wake::Waker;

use crate::admin::{AdminQueue, Next};
use crate::config::Config;
use crate::device::{Device, DeviceError, DmaMemory};
use crate::error::{ClaimError, Fault, Refusal, ResetCause};
use crate::info::{Abilities, ControllerIdentity, ControllerInfo};
use crate::limits::{CONTROLLER_EVENTS_MAX, STATUS_LOOK_MS, STATUS_POLL_MS};
use crate::link::{Link, Standing, Word};
use crate::namespace::Namespace;
use crate::planted::Bugs;
use crate::queue::QueueTicket;
use crate::shadow::Shadow;
use crate::stats::ControllerStats;
use events::Events;
use jobs::Job;
use queues::Creating;
pub use scan::Remembered;
use scan::{Entry, Scan};

/// How a controller ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was shut down; `clean` when it said so itself in time.
    ShutDown {
        /// What it had is on its media.
        clean: bool,
    },
    /// It was pulled out.
    Removed,
    /// It was given up.
    Faulted(Fault),
}

/// Something that a controller's owner should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerEvent {
    /// It takes I/O.
    Ready,
    /// It is being reset.
    Reset(ResetCause),
    /// A namespace is served.
    NamespaceAdded {
        /// Namespace Identifier.
        nsid: u32,
    },
    /// A namespace has grown.
    NamespaceGrown {
        /// Namespace Identifier.
        nsid: u32,
        /// Its blocks now.
        length_blocks: u64,
    },
    /// A namespace is not served, or not any more.
    NamespaceRefused {
        /// Namespace Identifier.
        nsid: u32,
        /// Why.
        refusal: Refusal,
    },
    /// Its critical warnings have changed.
    CriticalWarning(u8),
    /// It is over.
    Ended(End),
}

/// What a controller told about itself, as it came: for those who print it.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// Identify Controller.
    pub controller: Option<Box<IdentifyController>>,
    /// SMART / Health Information.
    pub smart: Option<Box<SmartHealth>>,
    /// Firmware Slot Information.
    pub firmware: Option<Box<FirmwareSlot>>,
    /// Error Information, the newest first, valid entries only.
    pub errors: Vec<ErrorInformation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Idle,
    /// Queue pairs are told to submit no more.
    LettingGo {
        until: Time,
    },
    /// CC.EN is 0; waits for CSTS.RDY to follow.
    Disabling {
        until: Time,
    },
    /// Waits for the function's reset.
    FunctionReset {
        until: Time,
    },
    /// CC.EN is 1; waits for CSTS.RDY to follow.
    Enabling {
        until: Time,
    },
    /// Admin commands that everything else needs.
    Starting,
    Ready,
    /// CC.SHN was set; waits for CSTS.SHST.
    ShuttingDown {
        until: Time,
    },
    Ended(End),
}

/// What a controller is stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Run,
    ShutDown { clean: bool },
}

/// A controller and its admin queue. See the module's documentation.
pub struct Controller<D: Device> {
    device: D,
    config: Config,
    link: Arc<Link>,
    epoch: u64,
    stats: Arc<ControllerStats>,
    phase: Phase,
    goal: Goal,
    /// When CSTS is looked at next.
    look_at: Time,
    /// Taken out only to be leaked, when the controller may still touch it.
    admin: Option<AdminQueue<Job>>,
    shadow_pages: Option<(DmaMemory, DmaMemory)>,
    shadow_on: Rc<Cell<bool>>,
    abilities: Option<Abilities>,
    info: Option<ControllerInfo>,
    /// As it was when it was first ready: what later bring-ups are compared with.
    known: Option<ControllerInfo>,
    queues_granted: u16,
    pages: Pages,
    /// Power cycles and unexpected power losses when it was last ready.
    power_mark: Option<(u128, u128)>,
    namespaces: Vec<Entry>,
    scan: Option<Scan>,
    jobs: VecDeque<Job>,
    current: Option<Job>,
    creating: Option<Creating>,
    aborts_open: u8,
    seen_calls: Option<u32>,
    events: Events,
    health_at: Time,
    /// CSTS when it became ready: what is otherwise later was somebody else.
    ready_status: ControllerStatus,
    /// Resets in a row that did not help.
    strikes: u32,
    last_cause: ResetCause,
    ready_at: Time,
    was_ready: bool,
    lost_state: bool,
    told: VecDeque<ControllerEvent>,
}

impl<D: Device> std::fmt::Debug for Controller<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Controller({}, {:?}, epoch {})", self.device.name(), self.phase, self.epoch)
    }
}

fn after_ms(now: Time, ms: u64) -> Time {
    now.after(Duration::from_millis(ms))
}

impl<D: Device> Controller<D> {
    /// Takes the memory of the admin queue. `waker` wakes the core that polls this, for queue pairs of other cores.
    pub fn new(device: D, config: Config, waker: Option<Waker>) -> Result<Self, DeviceError> {
        let admin = AdminQueue::new(&device)?;
        let shadow_pages = if config.shadow_doorbells {
            let page = crate::limits::PAGE_BYTES;
            Some((device.allocate(page)?, device.allocate(page)?))
        } else {
            None
        };
        Ok(Self {
            device,
            config,
            link: Arc::new(Link::new(waker)),
            epoch: 0,
            stats: Arc::default(),
            phase: Phase::Idle,
            goal: Goal::Run,
            look_at: Time::ZERO,
            admin: Some(admin),
            shadow_pages,
            shadow_on: Rc::default(),
            abilities: None,
            info: None,
            known: None,
            queues_granted: 0,
            pages: Pages::default(),
            power_mark: None,
            namespaces: Vec::new(),
            scan: None,
            jobs: VecDeque::new(),
            current: None,
            creating: None,
            aborts_open: 0,
            seen_calls: None,
            events: Events::default(),
            health_at: Time::NEVER,
            ready_status: ControllerStatus::default(),
            strikes: 0,
            last_cause: ResetCause::Asked,
            ready_at: Time::NEVER,
            was_ready: false,
            lost_state: false,
            told: VecDeque::new(),
        })
    }

    /// Its counters and its health.
    pub fn stats(&self) -> Arc<ControllerStats> {
        Arc::clone(&self.stats)
    }

    /// The device below.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// True when it takes I/O.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// What it is; `None` before it was identified.
    pub fn info(&self) -> Option<&ControllerInfo> {
        self.info.as_ref()
    }

    /// Who it is, or was when it was first ready.
    pub fn identity(&self) -> Option<&ControllerIdentity> {
        self.known.as_ref().or(self.info.as_ref()).map(|info| &info.identity)
    }

    /// What it told about itself.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The namespaces that are served.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.iter().filter_map(Entry::live)
    }

    /// The namespace of this identifier, if it is served.
    pub fn namespace(&self, nsid: u32) -> Option<&Arc<Namespace>> {
        self.namespaces().find(|namespace| namespace.info().nsid == nsid)
    }

    /// The namespaces that are not served, and why.
    pub fn refused(&self) -> impl Iterator<Item = (u32, Refusal)> {
        self.namespaces.iter().filter_map(Entry::refused)
    }

    /// I/O queues that it granted.
    pub fn queues(&self) -> u16 {
        self.queues_granted
    }

    /// The right to one I/O queue pair, for whichever core shall have it.
    pub fn claim_queue(&self) -> Result<QueueTicket, ClaimError> {
        let (Phase::Ready, Some(abilities), Some(info)) = (self.phase, self.abilities, &self.info) else {
            return Err(ClaimError::NotReady);
        };
        let queues = self.queues_granted;
        let index = self.link.claim(queues).ok_or(ClaimError::NoneLeft { queues })?;
        let qid = index + 1;
        Ok(QueueTicket {
            link: Arc::clone(&self.link),
            index,
            entries: self
                .config
                .io_queue_entries
                .clamp(2, abilities.entries_max)
                .min(crate::limits::IO_QUEUE_ENTRIES_MAX),
            doorbell_stride: abilities.doorbell_stride,
            sgl: info.sgl,
            vector: (self.device.interrupt_vectors() > qid).then_some(qid),
            timeouts: self.config.timeouts,
            bugs: self.bugs(),
        })
    }

    #[cfg(feature = "planted")]
    fn bugs(&self) -> Bugs {
        Bugs { bug: self.config.planted }
    }

    #[cfg(not(feature = "planted"))]
    fn bugs(&self) -> Bugs {
        Bugs::default()
    }

    /// The shadow doorbells, if they are on: for each queue pair, before its first I/O.
    pub fn shadow(&self) -> Option<Shadow> {
        let (values, events) = self.shadow_pages.as_ref().filter(|_| self.shadow_on.get())?;
        let stride = self.abilities?.doorbell_stride;
        Some(Shadow::new(
            values.memory().clone(),
            events.memory().clone(),
            stride,
            Rc::clone(&self.shadow_on),
        ))
    }

    /// What has happened since the last call, oldest first.
    pub fn next_event(&mut self) -> Option<ControllerEvent> {
        self.told.pop_front()
    }

    fn tell(&mut self, event: ControllerEvent) {
        // Whoever does not listen loses the oldest; the state itself can always be asked for.
        if self.told.len() == CONTROLLER_EVENTS_MAX {
            self.told.pop_front();
        }
        self.told.push_back(event);
    }

    fn admin(&mut self) -> &mut AdminQueue<Job> {
        self.admin.as_mut().expect("taken out only by Drop")
    }

    fn set_standing(&mut self, standing: Standing) {
        self.link.set_word(Word { epoch: self.epoch, standing });
    }

    /// Works on what is due.
    pub fn poll(&mut self, now: Time) -> Progress {
        let before = self.phase;
        let answered = match self.phase {
            Phase::Idle | Phase::Ended(_) => return Progress::Idle,
            Phase::Starting | Phase::Ready => self.poll_admin(now),
            _ => false,
        };
        if now >= self.look_at {
            self.look(now);
        }
        match self.phase {
            Phase::LettingGo { until } => self.poll_letting_go(now, until),
            Phase::FunctionReset { until } => self.poll_function_reset(now, until),
            Phase::Starting | Phase::Ready => self.work(now),
            _ => {}
        }
        if answered || self.phase != before { Progress::Busy } else { Progress::Idle }
    }

    /// When [`Controller::poll`] must be called although nothing arrives.
    pub fn deadline(&self) -> Time {
        match self.phase {
            Phase::Idle | Phase::Ended(_) => Time::NEVER,
            Phase::Ready => {
                let admin = self.admin.as_ref().map_or(Time::NEVER, AdminQueue::deadline);
                let busy = self.current.is_some() || self.creating.is_some();
                let look = if busy { Time::ZERO } else { self.look_at };
                look.min(admin).min(self.health_at).min(self.events.armed_again_at())
            }
            // Every millisecond: nothing announces a register.
            _ => self.look_at,
        }
    }

    /// Looks at CSTS; it is read nowhere else.
    fn look(&mut self, now: Time) {
        let interval_ms = if self.phase == Phase::Ready { STATUS_LOOK_MS } else { STATUS_POLL_MS };
        self.look_at = after_ms(now, interval_ms);
        if matches!(self.phase, Phase::LettingGo { .. } | Phase::FunctionReset { .. }) {
            return;
        }
        let value = self.device.read_u32(register::CSTS);
        if value == u32::MAX {
            return self.on_removed(now);
        }
        let status = ControllerStatus(value);
        match self.phase {
            Phase::Disabling { until } => self.on_disabling(now, status, until),
            Phase::Enabling { until } => self.on_enabling(now, status, until),
            Phase::ShuttingDown { until } => self.on_shutting_down(now, status, until),
            Phase::Starting | Phase::Ready => self.on_working(now, status),
            _ => {}
        }
    }

    /// Takes what has completed on the admin queue; a bounded number a turn.
    fn poll_admin(&mut self, now: Time) -> bool {
        let mut any = false;
        for _ in 0..crate::limits::ADMIN_SLOTS {
            if !matches!(self.phase, Phase::Starting | Phase::Ready) {
                return true;
            }
            match self.admin().next() {
                None => break,
                Some(Next::Spurious) => self.on_admin_spurious(now),
                Some(Next::Answer(answer)) => self.on_answer(now, answer),
            }
            any = true;
        }
        if let Some(head) = self.admin().take_head()
            && matches!(self.phase, Phase::Starting | Phase::Ready)
        {
            self.ring(register::completion_doorbell, head);
        }
        any
    }

    fn ring(&self, doorbell: fn(u16, u32) -> u32, value: u16) {
        let stride = self.abilities.map_or(0, |abilities| abilities.doorbell_stride);
        self.device.write_u32(doorbell(0, stride), value.into());
    }

    /// What is done beside answering: deadlines, jobs, events, queues.
    fn work(&mut self, now: Time) {
        if now >= self.admin().deadline() {
            return self.begin_reset(now, ResetCause::AdminTimeout);
        }
        if self.phase == Phase::Ready {
            self.settle(now);
            self.poll_events(now);
            self.poll_queues(now);
        }
        if !matches!(self.phase, Phase::Starting | Phase::Ready) {
            return;
        }
        self.pump_jobs(now);
        if let Some(tail) = self.admin().take_tail() {
            self.ring(register::submission_doorbell, tail);
        }
    }

    /// A controller that stayed ready has recovered from whatever it was reset for.
    fn settle(&mut self, now: Time) {
        let timeouts = self.config.timeouts;
        let settled = Duration::from_millis(crate::limits::SETTLED_MS)
            .max(2 * (timeouts.io + timeouts.abort) + timeouts.admin);
        if self.strikes > 0 && self.creating.is_none() && now >= self.ready_at.after(settled) {
            self.strikes = 0;
        }
        if now >= self.health_at {
            self.health_at = now.after(self.config.health_interval);
            self.add_job(Job::Smart);
        }
    }
}

impl<D: Device> Drop for Controller<D> {
    fn drop(&mut self) {
        // A device that could not be stopped may write still.
        let is_lost = self.link.word().standing == Standing::Lost;
        if matches!(self.phase, Phase::Idle | Phase::Ended(_)) && !is_lost {
            return;
        }
        if is_lost || !self.stop_for_good() {
            // It may still write to this memory: rather leak it than give it to somebody else.
            std::mem::forget((self.admin.take(), self.shadow_pages.take()));
        }
    }
}

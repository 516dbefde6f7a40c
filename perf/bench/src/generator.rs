//! The poller that makes the load.
//!
//! ```text
//!  Starting ─▶ Sampling ─▶ Gathering ─▶ Running ─▶ Draining ─▶ Closing ─▶ Done
//!  (driver)    (if it       (the other   (warm-up,  (answers    (good
//!      │        writes)      generators)  measured)  to come)    leave)
//!      └───────────┴─────────────┴───────────┴──────────┴──────────▶ with an error
//! ```

mod load;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use reactor::poller::{Poller, Progress};
use reactor::time::{Clock, Time};

use crate::driver::{Answer, Driver, Geometry, Kind, Payload, Request};
use crate::error::BenchError;
use crate::ledger::Ledger;
use crate::limits::{LOOK_INTERVAL, SAMPLES, START_TIMEOUT_S, VERIFIED_PLACES_MAX};
use crate::pace::Pace;
use crate::places::{Places, Sequence};
use crate::plan::Plan;
use crate::stamp;
use crate::tally::Outcome;
use crate::team::{EndAsked, Member};
use load::Load;

pub type Finished = Result<Outcome, BenchError>;

enum Phase {
    Starting {
        deadline: Time,
    },
    /// Looks at a few places before anything is overwritten.
    Sampling {
        next: u64,
        in_flight: u64,
    },
    /// Waits until all generators of the run can begin.
    Gathering {
        deadline: Time,
    },
    Running(Box<Load>),
    /// The load is over; answers are awaited.
    Draining {
        load: Box<Load>,
        deadline: Time,
    },
    Closing {
        finished: Box<Finished>,
        deadline: Time,
    },
    Done,
}

/// One request in flight, or room for one.
struct Slot<D> {
    read: D,
    write: D,
    kind: Kind,
    place: u64,
    intended: Time,
}

/// Everything that is known once the target has said what it is.
struct Ground {
    geometry: Geometry,
    blocks_per_request: u32,
    /// The first block of this generator's share.
    first_block: u64,
    /// Places of that share.
    places: u64,
}

/// See the module's documentation.
pub struct Generator<D: Driver> {
    plan: Plan,
    member: Member,
    /// The target, for messages.
    shown: String,
    driver: D,
    clock: Rc<dyn Clock>,
    /// Distinguishes the blocks of this run from those of others.
    run: u64,
    phase: Phase,
    ground: Option<Ground>,
    slots: Vec<Slot<D::Data>>,
    /// Slots without a request, the longest idle first, so that all queues are used alike.
    free: VecDeque<u32>,
    answers: Vec<Answer<D::Data>>,
    result: Option<Sender<Finished>>,
}

impl<D: Driver> Generator<D> {
    /// A generator that sends what came of it to `result`.
    pub fn new(
        plan: Plan,
        member: Member,
        driver: D,
        clock: Rc<dyn Clock>,
        run: u64,
        result: Sender<Finished>,
    ) -> Self {
        let deadline = clock.now().after(Duration::from_secs(START_TIMEOUT_S));
        let slots = plan.slots();
        Self {
            shown: plan.target.to_string(),
            driver,
            clock,
            run,
            phase: Phase::Starting { deadline },
            ground: None,
            slots: Vec::new(),
            free: (0..slots).collect(),
            answers: Vec::with_capacity(slots as usize),
            plan,
            member,
            result: Some(result),
        }
    }

    /// The target is there: checks that the plan fits it.
    fn survey(&self, geometry: Geometry) -> Result<Ground, BenchError> {
        let target = self.shown.clone();
        let logical_block_bytes = geometry.logical_block_bytes;
        if !self.plan.request_bytes.is_multiple_of(logical_block_bytes) {
            return Err(BenchError::BlockSize { target, logical_block_bytes });
        }
        let blocks_per_request = self.plan.request_bytes / logical_block_bytes;
        let (first, places) = self.member.share(geometry.length_blocks / u64::from(blocks_per_request));
        let depth = self.plan.slots();
        // A verifying run has one request at a place at a time.
        let least = if self.plan.verify { 2 * u64::from(depth) } else { 1 };
        if places < least {
            return Err(BenchError::TooSmall { target, places, depth });
        }
        if self.plan.verify && places > VERIFIED_PLACES_MAX {
            return Err(BenchError::TooLarge { target });
        }
        let first_block = first * u64::from(blocks_per_request);
        Ok(Ground { geometry, blocks_per_request, first_block, places })
    }

    fn make_slots(&mut self, geometry: Geometry) -> Result<(), BenchError> {
        let bytes = self.plan.request_bytes as usize;
        let samples = self.plan.writes() && !self.plan.overwrite_data;
        let mut sequence = Sequence::new(self.run);
        for _ in 0..self.plan.slots() {
            let mut slot = Slot {
                read: D::Data::default(),
                write: D::Data::default(),
                kind: Kind::Read,
                place: 0,
                intended: Time::ZERO,
            };
            let no_memory = BenchError::Buffers { bytes: self.plan.buffer_bytes() };
            if self.plan.reads() || samples {
                slot.read = self.driver.buffer(bytes).ok_or(no_memory)?;
            }
            if self.plan.writes() {
                let no_memory = BenchError::Buffers { bytes: self.plan.buffer_bytes() };
                slot.write = self.driver.buffer(bytes).ok_or(no_memory)?;
                for run in slot.write.runs_mut() {
                    stamp::fill(run, geometry.logical_block_bytes as usize, &mut sequence);
                }
            }
            self.slots.push(slot);
        }
        Ok(())
    }

    fn poll_start(&mut self, now: Time, deadline: Time) {
        let Some(geometry) = self.driver.geometry() else {
            if now >= deadline {
                let error = BenchError::StartTimeout { target: self.shown.clone(), seconds: START_TIMEOUT_S };
                self.finish(Err(error), now);
            }
            return;
        };
        match self.survey(geometry) {
            Ok(ground) => self.ground = Some(ground),
            Err(error) => return self.finish(Err(error), now),
        }
        if let Err(error) = self.make_slots(geometry) {
            return self.finish(Err(error), now);
        }
        if self.plan.writes() && !self.plan.overwrite_data {
            self.phase = Phase::Sampling { next: 0, in_flight: 0 };
        } else {
            self.gather();
        }
    }

    /// This one could begin; making the buffers took time.
    fn gather(&mut self) {
        self.member.set_ready();
        let deadline = self.clock.now().after(Duration::from_secs(START_TIMEOUT_S));
        self.phase = Phase::Gathering { deadline };
        self.poll_gather(self.clock.now(), deadline);
    }

    fn poll_gather(&mut self, now: Time, deadline: Time) {
        if self.member.all_ready() {
            self.begin_load();
        } else if now >= deadline {
            let error = BenchError::StartTimeout { target: self.shown.clone(), seconds: START_TIMEOUT_S };
            self.finish(Err(error), now);
        }
    }

    fn begin_load(&mut self) {
        let ground = self.ground.as_ref().expect("the target was surveyed");
        let (plan, member) = (&self.plan, &self.member);
        let now = self.clock.now();
        let warm_up = if plan.bytes_max.is_some() { Duration::ZERO } else { plan.warm_up };
        let from = now.after(warm_up);
        let logical = ground.geometry.logical_block_bytes;
        let blocks = (ground.first_block, u64::from(ground.blocks_per_request));
        let ledger = plan.verify.then(|| Ledger::new(self.run, ground.places, blocks, logical));
        // Each generator makes its share, at places of its own sequence.
        let seed = plan.seed.wrapping_add(u64::from(member.index()) << 32);
        let request_bytes = u64::from(plan.request_bytes);
        let bytes_max = plan.bytes_max.map(|bytes| member.share(bytes / request_bytes).1 * request_bytes);
        let load = Load::new(
            ground,
            Places::new(plan, ground.places, seed),
            Pace::new(plan.pacing.share(member.count()), now, seed),
            ledger,
            bytes_max,
            (from, from.after(plan.runtime)),
        );
        self.phase = Phase::Running(Box::new(load));
    }

    /// Reads places that are spread over the whole target.
    fn sample(&mut self, now: Time) {
        let ground = self.ground.as_ref().expect("the target was surveyed");
        let (places, per_place) = (ground.places, u64::from(ground.blocks_per_request));
        let samples = SAMPLES.min(places);
        let Phase::Sampling { next, in_flight } = &mut self.phase else { return };
        while *next < samples
            && let Some(tag) = self.free.pop_front()
        {
            // The first and the last place are among them.
            let place = if samples == 1 { 0 } else { (places - 1) / (samples - 1) * *next };
            let place = if *next == samples - 1 { places - 1 } else { place };
            let slot = &mut self.slots[tag as usize];
            slot.place = place;
            let length_blocks = per_place as u32;
            let lba = ground.first_block + place * per_place;
            let request = Request { tag, kind: Kind::Read, lba, length_blocks };
            match self.driver.submit(now, request, std::mem::take(&mut slot.read)) {
                Ok(()) => (*next, *in_flight) = (*next + 1, *in_flight + 1),
                Err(data) => {
                    slot.read = data;
                    self.free.push_front(tag);
                    break;
                }
            }
        }
        if *next == samples && *in_flight == 0 {
            self.gather();
        }
    }

    fn on_sample(&mut self, answer: Answer<D::Data>) -> Result<(), BenchError> {
        let ground = self.ground.as_ref().expect("the target was surveyed");
        let slot = &mut self.slots[answer.tag as usize];
        let first = ground.first_block + slot.place * u64::from(ground.blocks_per_request);
        self.free.push_back(answer.tag);
        slot.read = answer.data;
        if let Phase::Sampling { in_flight, .. } = &mut self.phase {
            *in_flight -= 1;
        }
        if let Some(status) = answer.failure {
            return Err(BenchError::Unreadable { target: self.shown.clone(), lba: first, status });
        }
        let block_bytes = ground.geometry.logical_block_bytes as usize;
        match stamp::first_foreign(slot.read.runs(), block_bytes) {
            Some(at) => Err(BenchError::HoldsData { target: self.shown.clone(), lba: first + at }),
            None => Ok(()),
        }
    }

    /// Takes leave; the result is handed over afterwards.
    fn finish(&mut self, finished: Finished, now: Time) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            return;
        }
        if finished.is_err() {
            self.member.stop().raise(EndAsked::Failed);
        }
        self.driver.close(now);
        let deadline = now.after(self.driver.close_timeout());
        self.phase = Phase::Closing { finished: Box::new(finished), deadline };
    }

    fn poll_close(&mut self, now: Time) {
        let Phase::Closing { deadline, .. } = &self.phase else { return };
        if !self.driver.is_closed() && now < *deadline {
            return;
        }
        if let Phase::Closing { finished, .. } = std::mem::replace(&mut self.phase, Phase::Done)
            && let Some(result) = self.result.take()
        {
            // Nobody waits for it any more: then nobody wants it.
            drop(result.send(*finished));
        }
    }

    /// What was asked for is not wanted any more; a load that runs ends by itself then, with what it has counted.
    fn heed_stop(&mut self, now: Time) {
        let counts = matches!(self.phase, Phase::Running(_) | Phase::Draining { .. });
        match self.member.stop().asked() {
            Some(EndAsked::Interrupted) if !counts => self.finish(Err(BenchError::Interrupted), now),
            Some(EndAsked::Failed) => self.finish(Err(BenchError::Elsewhere), now),
            _ => {}
        }
    }

    fn take_answers(&mut self, now: Time) {
        let mut answers = std::mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            match &mut self.phase {
                Phase::Sampling { .. } => {
                    if let Err(error) = self.on_sample(answer) {
                        self.finish(Err(error), now);
                    }
                }
                Phase::Running(load) | Phase::Draining { load, .. } => {
                    let slot = &mut self.slots[answer.tag as usize];
                    self.free.push_back(answer.tag);
                    load.on_answer(slot, answer, now);
                }
                // Given up.
                _ => {}
            }
        }
        self.answers = answers;
    }
}

impl<D: Driver> Poller for Generator<D> {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn poll(&mut self, now: Time, _budget: u32) -> Progress {
        if matches!(self.phase, Phase::Done) {
            return Progress::Idle;
        }
        self.driver.poll(now, &mut self.answers);
        let progress = if self.answers.is_empty() { Progress::Idle } else { Progress::Busy };
        // Receiving took time: what is measured ends and begins here.
        let now = self.clock.now();
        self.take_answers(now);
        if let Some(error) = self.driver.take_end() {
            self.finish(Err(error), now);
        }
        self.heed_stop(now);
        match &self.phase {
            Phase::Starting { deadline } => {
                let deadline = *deadline;
                self.poll_start(now, deadline);
            }
            Phase::Sampling { .. } => self.sample(now),
            Phase::Gathering { deadline } => self.poll_gather(now, *deadline),
            Phase::Running(_) => self.start_requests(now),
            Phase::Draining { .. } => self.poll_drain(now),
            Phase::Closing { .. } => self.poll_close(now),
            Phase::Done => {}
        }
        self.driver.flush(now);
        progress
    }

    /// Answers wake a core that sleeps; what goes by the clock, and signals, do not.
    fn deadline(&self) -> Time {
        let now = self.clock.now();
        let look = now.after(LOOK_INTERVAL);
        match &self.phase {
            Phase::Done => Time::NEVER,
            Phase::Running(load) => load.next_start(now).map_or(look, |start| start.min(look)),
            _ => look,
        }
    }
}

#[cfg(test)]
mod tests;

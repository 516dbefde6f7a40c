//! The load itself: starting requests in their order and at their time, and counting their answers.

use std::time::Duration;

use reactor::time::Time;

use super::{Generator, Ground, Phase, Slot};
use crate::driver::{Answer, Doorbells, Driver, Failure, Kind, Payload, Request};
use crate::error::BenchError;
use crate::ledger::Ledger;
use crate::limits::{DRAIN_TIMEOUT_S, STARTS_PER_TURN};
use crate::pace::Pace;
use crate::places::Places;
use crate::tally::{Outcome, Tally, Verified};
use crate::team::EndAsked;

/// A load in progress.
pub struct Load {
    places: Places,
    pace: Pace,
    ledger: Option<Ledger>,
    /// What comes next, when it was chosen and could not be started yet.
    chosen: Option<(Kind, u64)>,
    from: Time,
    until: Time,
    started_bytes: u64,
    bytes_max: Option<u64>,
    /// The first block of the first place, and the blocks of each.
    first_block: u64,
    length_blocks: u32,
    /// What the controller had been told when the measured time began.
    rung_before: Option<Doorbells>,
    outcome: Outcome,
}

impl Load {
    pub fn new(
        ground: &Ground,
        places: Places,
        pace: Pace,
        ledger: Option<Ledger>,
        bytes_max: Option<u64>,
        (from, until): (Time, Time),
    ) -> Self {
        let outcome = Outcome {
            geometry: ground.geometry,
            elapsed: until.since(from),
            reads: Tally::default(),
            writes: Tally::default(),
            unstarted: 0,
            verified: ledger.is_some().then(Verified::default),
            first_failure: None,
            interrupted: false,
            controller: None,
            rung: Doorbells::default(),
        };
        Self {
            places,
            pace,
            ledger,
            chosen: None,
            from,
            until,
            started_bytes: 0,
            bytes_max,
            first_block: ground.first_block,
            length_blocks: ground.blocks_per_request,
            rung_before: None,
            outcome,
        }
    }

    /// When the clock, not an answer, starts the next request; nothing in a closed loop.
    pub fn next_start(&self, now: Time) -> Option<Time> {
        self.pace.is_open().then(|| self.pace.next(now))
    }

    fn tally(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Read => &mut self.outcome.reads,
            Kind::Write => &mut self.outcome.writes,
        }
    }

    /// The next request, at a place where no other is when that matters. `None` when none was found soon.
    fn choose(&mut self) -> Option<(Kind, u64)> {
        if let Some(chosen) = self.chosen.take() {
            return Some(chosen);
        }
        let kind = if self.places.next_reads() { Kind::Read } else { Kind::Write };
        // With at least twice as many places as requests in flight, each try finds a free one as often as not.
        for _ in 0..64 {
            let place = self.places.next();
            if self.ledger.as_mut().is_none_or(|ledger| ledger.claim(place)) {
                return Some((kind, place));
            }
        }
        None
    }

    /// A request is over.
    #[inline]
    pub fn on_answer<D: Payload>(&mut self, slot: &mut Slot<D>, answer: Answer<D>, now: Time) {
        let (kind, place) = (slot.kind, slot.place);
        let succeeded = answer.failure.is_none();
        if let Some(failure) = answer.failure {
            self.on_failure(kind, place, failure);
        }
        if let Some(ledger) = &mut self.ledger {
            match kind {
                Kind::Write => ledger.wrote(place, succeeded),
                Kind::Read if succeeded => {
                    let findings = ledger.check(place, &answer.data);
                    self.outcome.verified.get_or_insert_default().add(findings);
                }
                Kind::Read => ledger.gave_up(place),
            }
        }
        match kind {
            Kind::Read => slot.read = answer.data,
            Kind::Write => slot.write = answer.data,
        }
        let is_within = |at: Time| self.from <= at && at < self.until;
        let (in_time, counts) =
            (is_within(now), is_within(if self.pace.is_open() { slot.intended } else { now }));
        if succeeded {
            let latency = now.since(slot.intended);
            let tally = self.tally(kind);
            tally.completed += u64::from(in_time);
            if counts {
                tally.record(latency);
            }
        }
    }

    #[cold]
    fn on_failure(&mut self, kind: Kind, place: u64, failure: Failure) {
        self.tally(kind).failed += 1;
        let lba = self.lba_of(place);
        self.outcome.first_failure.get_or_insert((lba, failure));
    }

    fn lba_of(&self, place: u64) -> u64 {
        self.first_block + place * u64::from(self.length_blocks)
    }

    /// Ends the measured time now, because somebody has had enough of it.
    fn interrupt(&mut self, now: Time) {
        self.until = now.min(self.until);
        self.outcome.elapsed = self.until.since(self.from);
        self.outcome.interrupted = true;
    }

    /// Counts what was due and was not started, with the time that it has waited.
    fn count_unstarted(&mut self) {
        if !self.pace.is_open() {
            return;
        }
        while let Some(intended) = self.pace.due(Time::from_ns(self.until.as_ns().saturating_sub(1))) {
            self.pace.take();
            let kind = if self.places.next_reads() { Kind::Read } else { Kind::Write };
            if intended >= self.from {
                self.outcome.unstarted += 1;
                let waited = self.until.since(intended);
                self.tally(kind).record(waited);
            }
        }
    }
}

impl<D: Driver> Generator<D> {
    /// Starts what is due.
    pub(super) fn start_requests(&mut self, now: Time) {
        let Phase::Running(load) = &mut self.phase else { return };
        if load.rung_before.is_none() && now >= load.from {
            load.rung_before = Some(self.driver.doorbells());
        }
        let request_bytes = u64::from(self.plan.request_bytes);
        let mut ended = now >= load.until;
        if self.member.stop().asked() == Some(EndAsked::Interrupted) {
            load.interrupt(now);
            ended = true;
        }
        for _ in 0..STARTS_PER_TURN {
            if load.bytes_max.is_some_and(|max| load.started_bytes + request_bytes > max) && !ended {
                // The measured time lasts until the last answer.
                (load.until, ended) = (Time::NEVER, true);
            }
            if ended {
                break;
            }
            let Some(intended) = load.pace.due(now) else { break };
            let Some(&tag) = self.free.front() else { break };
            let Some((kind, place)) = load.choose() else { break };
            let slot = &mut self.slots[tag as usize];
            (slot.kind, slot.place, slot.intended) = (kind, place, intended);
            let mut data = match kind {
                Kind::Read => std::mem::take(&mut slot.read),
                Kind::Write => std::mem::take(&mut slot.write),
            };
            if let (Kind::Write, Some(ledger)) = (kind, &load.ledger) {
                ledger.stamp(place, &mut data);
            }
            let request = Request { tag, kind, lba: load.lba_of(place), length_blocks: load.length_blocks };
            if let Err(data) = self.driver.submit(now, request, data) {
                // The target's window is full; the same request is the next one.
                match kind {
                    Kind::Read => slot.read = data,
                    Kind::Write => slot.write = data,
                }
                load.chosen = Some((kind, place));
                break;
            }
            self.free.pop_front();
            load.pace.take();
            load.started_bytes += request_bytes;
        }
        if ended {
            self.begin_drain(now);
        }
    }

    fn begin_drain(&mut self, now: Time) {
        let Phase::Running(load) = std::mem::replace(&mut self.phase, Phase::Done) else {
            unreachable!("only a running load ends")
        };
        let deadline = now.after(Duration::from_secs(DRAIN_TIMEOUT_S));
        self.phase = Phase::Draining { load, deadline };
    }

    /// Ends the load when every answer has come.
    pub(super) fn poll_drain(&mut self, now: Time) {
        let left = self.slots.len() - self.free.len();
        let Phase::Draining { load, deadline } = &mut self.phase else { return };
        if left > 0 && now < *deadline {
            return;
        }
        if left > 0 {
            let target = self.shown.clone();
            return self.finish(Err(BenchError::Undrained { target, left, seconds: DRAIN_TIMEOUT_S }), now);
        }
        if load.until == Time::NEVER {
            load.outcome.elapsed = now.since(load.from);
        } else {
            load.count_unstarted();
        }
        // Commands of before the measured time and of after it are the same commands.
        load.outcome.rung = self.driver.doorbells().since(load.rung_before.unwrap_or_default());
        load.outcome.controller = self.driver.controller();
        let outcome = load.outcome.clone();
        self.finish(Ok(outcome), now);
    }
}

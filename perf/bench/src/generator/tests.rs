//! The generator against a target in memory, on a clock that is turned by hand.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::driver::Failure;
use crate::plan::{Order, Pacing};
use crate::team::Stop;

const BLOCK_BYTES: u32 = 512;
const BLOCKS: u64 = 64;
const TURN_NS: u64 = 10_000;

#[derive(Default)]
struct ManualClock(Cell<u64>);

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_ns(self.0.get())
    }
}

/// Answers everything in the turn after.
struct Memory {
    blocks: Vec<u8>,
    in_flight: VecDeque<(Request, Vec<u8>)>,
    /// Answers nothing before this instant.
    silent_until: Time,
    /// Forgets every so-manieth write.
    forgets: Option<u32>,
    writes: u32,
    fails: bool,
    ends: bool,
}

impl Memory {
    fn new(fill: u8) -> Self {
        Self {
            blocks: vec![fill; (BLOCKS * u64::from(BLOCK_BYTES)) as usize],
            in_flight: VecDeque::new(),
            silent_until: Time::ZERO,
            forgets: None,
            writes: 0,
            fails: false,
            ends: false,
        }
    }
}

impl Driver for Memory {
    type Data = Vec<u8>;

    fn poll(&mut self, now: Time, answers: &mut Vec<Answer<Vec<u8>>>) {
        if now < self.silent_until {
            return;
        }
        for (request, mut data) in self.in_flight.drain(..) {
            let start = request.lba as usize * BLOCK_BYTES as usize;
            let blocks = &mut self.blocks[start..start + data.len()];
            match request.kind {
                Kind::Read => data.copy_from_slice(blocks),
                Kind::Write => {
                    self.writes += 1;
                    if self.forgets.is_none_or(|every| !self.writes.is_multiple_of(every)) {
                        blocks.copy_from_slice(&data);
                    }
                }
            }
            let failure = self.fails.then_some(Failure::Scsi(2, None));
            answers.push(Answer { tag: request.tag, data, failure });
        }
    }

    fn geometry(&self) -> Option<Geometry> {
        Some(Geometry::unlimited(BLOCK_BYTES, BLOCKS))
    }

    fn buffer(&mut self, length_bytes: usize) -> Option<Vec<u8>> {
        Some(vec![0; length_bytes])
    }

    fn take_end(&mut self) -> Option<BenchError> {
        std::mem::take(&mut self.ends).then_some(BenchError::Lost)
    }

    fn submit(&mut self, _now: Time, request: Request, data: Vec<u8>) -> Result<(), Vec<u8>> {
        self.in_flight.push_back((request, data));
        Ok(())
    }

    fn flush(&mut self, _now: Time) {}

    fn close(&mut self, _now: Time) {}

    fn is_closed(&self) -> bool {
        true
    }
}

fn plan(read_percent: u8) -> Plan {
    Plan {
        read_percent,
        request_bytes: 1024,
        depth: 4,
        warm_up: Duration::from_millis(1),
        runtime: Duration::from_millis(10),
        ..Plan::new("nvme-tcp://h/nqn.a".parse().expect("a target"))
    }
}

fn run(plan: &Plan, memory: Memory) -> (Finished, Memory) {
    run_until(plan, memory, &Stop::default(), Time::NEVER)
}

/// As [`run`], and somebody ends it at `interrupt_at`.
fn run_until(plan: &Plan, memory: Memory, stop: &Stop, interrupt_at: Time) -> (Finished, Memory) {
    let clock = Rc::new(ManualClock::default());
    let (result, finished): (_, Receiver<Finished>) = channel();
    let member = Member::all(1, stop).remove(0);
    let mut generator = Generator::new(plan.clone(), member, memory, clock.clone(), 7, result);
    for _ in 0..100_000 {
        clock.0.set(clock.0.get() + TURN_NS);
        if clock.now() >= interrupt_at {
            stop.raise(EndAsked::Interrupted);
        }
        generator.poll(clock.now(), 64);
        if let Ok(finished) = finished.try_recv() {
            return (finished, generator.driver);
        }
    }
    panic!("a run ends");
}

fn good(plan: &Plan, memory: Memory) -> Outcome {
    run(plan, memory).0.expect("a good run")
}

#[test]
fn a_closed_loop_keeps_its_depth() {
    let outcome = good(&plan(100), Memory::new(0));
    // Four requests are answered in each of the thousand turns.
    assert_eq!(outcome.reads.completed, 4000);
    assert_eq!((outcome.reads.latency_ns.len(), outcome.reads.latency_ns.min() / 1000), (4000, 10));
    assert_eq!(outcome.writes.completed, 0);
}

#[test]
fn an_open_loop_counts_what_waited_behind_a_pause() {
    let pacing = Pacing::Constant(100_000.0);
    let mut memory = Memory::new(0);
    // Silent for half of the measured time.
    memory.silent_until = Time::from_ns(6_000_000);
    let outcome = good(&Plan { pacing, ..plan(100) }, memory);
    let latency = &outcome.reads.latency_ns;
    assert_eq!(latency.len() + outcome.reads.failed, 1000);
    // 4 in flight, all others queued behind them: half of the requests waited, up to the whole pause.
    assert!(latency.max() > 4_500_000, "{}", latency.max());
    assert!(latency.value_at_quantile(0.5) > 1_000_000, "{}", latency.value_at_quantile(0.5));
}

#[test]
fn what_never_started_counts_as_well() {
    let pacing = Pacing::Constant(1_000_000.0);
    let outcome = good(&Plan { pacing, ..plan(100) }, Memory::new(0));
    assert!(outcome.unstarted > 5000, "{}", outcome.unstarted);
    let recorded = outcome.reads.latency_ns.len();
    assert!((9_990..=10_010).contains(&recorded), "{recorded}");
}

#[test]
fn data_is_not_overwritten_without_a_word() {
    let (refused, memory) = run(&plan(0), Memory::new(9));
    assert!(matches!(refused, Err(BenchError::HoldsData { .. })), "{refused:?}");
    assert_eq!(memory.writes, 0);
    let (_, marked) = run(&Plan { overwrite_data: true, ..plan(0) }, memory);
    assert!(marked.writes > 0);
    // An earlier run's blocks are no data.
    let (again, _) = run(&plan(0), Memory { in_flight: VecDeque::new(), ..marked });
    let outcome = again.expect("a good run");
    assert_eq!(outcome.writes.failed, 0);
}

#[test]
fn a_target_that_forgets_writes_is_found_out() {
    let plan = Plan { verify: true, ..plan(50) };
    let honest = good(&plan, Memory::new(0)).verified.expect("it verifies").findings;
    assert!(honest.checked_blocks > 0 && honest.wrong_blocks == 0, "{honest:?}");
    let forgetful = Memory { forgets: Some(10), ..Memory::new(0) };
    let caught = good(&plan, forgetful).verified.expect("it verifies").findings;
    assert!(caught.wrong_blocks > 0, "{caught:?}");
}

#[test]
fn a_run_over_bytes_ends_with_them() {
    let plan = Plan { bytes_max: Some(64 * 1024), order: Order::Sequential, ..plan(0) };
    let (finished, memory) = run(&plan, Memory::new(0));
    assert_eq!((finished.expect("a good run").writes.completed, memory.writes), (64, 64));
    assert!(memory.blocks.chunks_exact(512).all(stamp::is_marked));
}

#[test]
fn failures_are_counted_and_an_end_is_told() {
    let fails = Memory { fails: true, ..Memory::new(0) };
    let outcome = good(&plan(100), fails);
    assert!(outcome.reads.failed > 0 && outcome.reads.completed == 0 && outcome.first_failure.is_some());
    let (ended, _) = run(&plan(100), Memory { ends: true, ..Memory::new(0) });
    assert!(matches!(ended, Err(BenchError::Lost)));
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    for (change, is_expected) in [
        (
            (|plan| plan.request_bytes = 512 * 128) as fn(&mut Plan),
            (|error| matches!(error, BenchError::TooSmall { .. })) as fn(&BenchError) -> bool,
        ),
        (|plan| (plan.verify, plan.depth) = (true, 17), |error| matches!(error, BenchError::TooSmall { .. })),
    ] {
        let mut plan = plan(100);
        change(&mut plan);
        let error = run(&plan, Memory::new(0)).0.expect_err("it does not fit");
        assert!(is_expected(&error), "{error}");
    }
}

#[test]
fn a_load_that_is_interrupted_tells_what_it_has_measured() {
    let (finished, _) = run_until(&plan(100), Memory::new(0), &Stop::default(), Time::from_ns(6_000_000));
    let outcome = finished.expect("it measured something");
    assert!(outcome.interrupted);
    // A millisecond of warm-up, and then half of what was asked for.
    assert!((4_900_000..5_100_000).contains(&outcome.elapsed.as_nanos()), "{:?}", outcome.elapsed);
    assert!((1900..2100).contains(&outcome.reads.completed), "{}", outcome.reads.completed);
    let early = run_until(&plan(100), Memory::new(0), &Stop::default(), Time::from_ns(500_000)).0;
    let early = early.expect("it had begun");
    assert_eq!((early.reads.completed, early.elapsed), (0, Duration::ZERO));
    let never = run_until(&plan(100), Memory::new(0), &Stop::default(), Time::ZERO).0;
    assert!(matches!(never, Err(BenchError::Interrupted)), "{never:?}");
}

#[test]
fn a_generator_ends_when_another_one_has_failed() {
    let stop = Stop::default();
    stop.raise(EndAsked::Failed);
    let (finished, _) = run_until(&plan(100), Memory::new(0), &stop, Time::NEVER);
    assert!(matches!(finished, Err(BenchError::Elsewhere)), "{finished:?}");
    let stop = Stop::default();
    let failed = run_until(&plan(100), Memory { ends: true, ..Memory::new(0) }, &stop, Time::NEVER).0;
    assert!(failed.is_err() && stop.asked() == Some(EndAsked::Failed));
}

#[test]
fn generators_share_a_target_and_leave_nothing_out() {
    let plan =
        Plan { bytes_max: Some(64 * 1024), order: Order::Sequential, processors: vec![0, 1], ..plan(0) };
    let stop = Stop::default();
    let clock = Rc::new(ManualClock::default());
    let (result, finished) = channel();
    let make =
        |member| Generator::new(plan.clone(), member, Memory::new(0), clock.clone(), 7, result.clone());
    let mut generators: Vec<_> = Member::all(2, &stop).into_iter().map(make).collect();
    // The second one begins later; the first waits for it.
    let mut outcomes = Vec::new();
    for turn in 0..10_000 {
        clock.0.set(clock.0.get() + TURN_NS);
        generators[0].poll(clock.now(), 64);
        if turn < 100 {
            assert_eq!(generators[0].driver.writes, 0);
        } else {
            generators[1].poll(clock.now(), 64);
        }
        outcomes.extend(finished.try_iter());
    }
    assert_eq!(outcomes.len(), 2);
    let counts: Vec<_> = outcomes.iter().map(|one| one.as_ref().expect("good").writes.completed).collect();
    assert_eq!(counts, [32, 32]);
    let wrote = |number: usize, place: usize| {
        stamp::is_marked(&generators[number].driver.blocks[place * 1024..][..512])
    };
    for place in 0..32 {
        assert_eq!((wrote(0, place), wrote(1, place)), (place < 16, place >= 16), "{place}");
    }
}

//! One turn of a core: every poller once, within its budget. The run loop and the simulator call
//! the same function.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{POLL_BUDGET_ITEMS, POLLERS_MAX};
use crate::poller::{Poller, Progress};
use crate::stall::StallWatchdog;
use crate::stats::CoreStats;
use crate::time::{Clock, Time};

/// The pollers of one core.
pub struct Reactor {
    pollers: Vec<Box<dyn Poller>>,
    clock: Rc<dyn Clock>,
    watchdog: StallWatchdog,
    stats: Arc<CoreStats>,
    /// The poller that has the core, to be named should it panic.
    current: Cell<usize>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pollers.iter().map(|poller| poller.name())).finish()
    }
}

impl Reactor {
    /// A reactor that polls `pollers` in this order (none: its set-up failed, and it waits to be stopped). A turn of one that is longer than `stall` is
    /// counted in `stats`.
    pub fn new(
        pollers: Vec<Box<dyn Poller>>,
        clock: Rc<dyn Clock>,
        stats: Arc<CoreStats>,
        stall: Duration,
    ) -> Self {
        assert!(pollers.len() <= POLLERS_MAX, "a poller group holds many objects; pollers are few");
        stats.set_pollers(pollers.iter().map(|poller| poller.name()));
        let watchdog = StallWatchdog::new(stall);
        Self { pollers, clock, watchdog, stats, current: Cell::new(0) }
    }

    /// One turn: busy when any poller was.
    pub fn poll_once(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        let mut before = now;
        for (index, (poller, stats)) in self.pollers.iter_mut().zip(self.stats.pollers()).enumerate() {
            self.current.set(index);
            let this = poller.poll(now, POLL_BUDGET_ITEMS);
            match this {
                Progress::Busy => stats.busy_turns.add(1),
                Progress::Idle => stats.idle_turns.add(1),
            }
            progress = progress.or(this);
            // Idle ones are timed as well: one that waits for something it should not is idle.
            let after = self.clock.now();
            self.watchdog.check(&self.stats, index, after.since(before));
            before = after;
        }
        self.stats.turns.add(1);
        progress
    }

    /// The earliest instant at which a poller wants the core although nothing arrives.
    pub fn deadline(&self) -> Time {
        self.pollers.iter().map(|poller| poller.deadline()).min().unwrap_or(Time::NEVER)
    }

    /// True when no poller has work that no wake-up announces.
    pub fn may_sleep(&self) -> bool {
        self.pollers.iter().all(|poller| poller.may_sleep())
    }

    /// Every poller arms what shall wake the core.
    pub fn before_sleep(&mut self) {
        self.pollers.iter_mut().for_each(|poller| poller.before_sleep());
    }

    /// The core is awake.
    pub fn after_sleep(&mut self) {
        self.pollers.iter_mut().for_each(|poller| poller.after_sleep());
    }

    /// Appends the events that wake the core while it sleeps.
    pub fn wake_events(&self, out: &mut Vec<RawFd>) {
        self.pollers.iter().for_each(|poller| poller.wake_events(out));
    }

    /// The poller that was called last.
    pub fn current_poller(&self) -> &'static str {
        self.pollers[self.current.get()].name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ManualClock(Cell<u64>);
    impl Clock for ManualClock {
        fn now(&self) -> Time {
            Time::from_ns(self.0.get())
        }
    }

    /// Takes `takes_ns` per turn and has work for `turns` turns.
    struct Worker {
        name: &'static str,
        clock: Rc<ManualClock>,
        takes_ns: u64,
        turns: u32,
    }
    impl Poller for Worker {
        fn name(&self) -> &'static str {
            self.name
        }
        fn poll(&mut self, _now: Time, budget: u32) -> Progress {
            assert_eq!(budget, POLL_BUDGET_ITEMS);
            if self.turns == 0 {
                return Progress::Idle;
            }
            self.turns -= 1;
            self.clock.0.set(self.clock.0.get() + self.takes_ns);
            Progress::Busy
        }
        fn deadline(&self) -> Time {
            Time::from_ns(self.takes_ns)
        }
        fn may_sleep(&self) -> bool {
            self.turns == 0
        }
    }

    fn reactor(workers: &[(&'static str, u64, u32)]) -> (Reactor, Arc<CoreStats>) {
        let clock = Rc::new(ManualClock(Cell::new(0)));
        let stats = Arc::new(CoreStats::new("test"));
        let pollers = workers.iter().map(|&(name, takes_ns, turns)| {
            Box::new(Worker { name, clock: Rc::clone(&clock), takes_ns, turns }) as Box<dyn Poller>
        });
        let stall = Duration::from_nanos(1000);
        (Reactor::new(pollers.collect(), clock.clone(), Arc::clone(&stats), stall), stats)
    }

    #[test]
    fn a_turn_is_busy_when_any_poller_is() {
        let (mut reactor, stats) = reactor(&[("a", 10, 1), ("b", 20, 2)]);
        let turns: Vec<_> = (0..4).map(|_| reactor.poll_once(Time::ZERO)).collect();
        assert_eq!(turns, [Progress::Busy, Progress::Busy, Progress::Idle, Progress::Idle]);
        assert_eq!(stats.turns.get(), 4);
        let per_poller =
            |at: usize| (stats.pollers()[at].busy_turns.get(), stats.pollers()[at].idle_turns.get());
        assert_eq!((per_poller(0), per_poller(1)), ((1, 3), (2, 2)));
        assert_eq!(stats.stalls.get(), 0);
        assert_eq!(reactor.deadline(), Time::from_ns(10));
    }

    #[test]
    fn the_poller_that_overran_is_named() {
        let (mut reactor, stats) = reactor(&[("quick", 10, 5), ("slow", 1001, 1), ("edge", 1000, 1)]);
        assert!(!reactor.may_sleep());
        let mut now = Time::ZERO;
        for _ in 0..5 {
            reactor.poll_once(now);
            now = reactor.clock.now();
        }
        assert_eq!(stats.stalls.get(), 1);
        assert_eq!(stats.worst_poller(), Some(("slow", 1001)));
        assert!(reactor.may_sleep());
        assert_eq!(reactor.current_poller(), "edge");
    }
}

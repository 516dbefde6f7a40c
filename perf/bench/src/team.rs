//! The generators of one run, one for each processor: what they share, and how they are told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SigSet, Signal};

/// A run that is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndAsked {
    /// Somebody wants no more of it.
    Interrupted,
    /// Another generator of it has failed.
    Failed,
}

const GO_ON: u32 = 0;
const INTERRUPTED: u32 = 1;
const FAILED: u32 = 2;

/// Tells every generator of a run to end: what is in flight is awaited, and the target is left in good order. A clone is
/// another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: Arc<AtomicU32>,
}

impl Stop {
    /// One that Ctrl-C and SIGTERM raise. To be made before any other thread is: the threads made later leave these signals to it.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let stop = Self::default();
        let raised = stop.clone();
        let wait = move || {
            // Whoever asks again is not heard: every wait that is left has a bound.
            while signals.wait().is_ok() {
                raised.raise(EndAsked::Interrupted);
            }
        };
        std::thread::Builder::new().name("vega-signals".to_owned()).spawn(wait)?;
        Ok(stop)
    }

    /// Ends the run. The first cause is the one that is told.
    pub fn raise(&self, cause: EndAsked) {
        let value = if cause == EndAsked::Interrupted { INTERRUPTED } else { FAILED };
        // Both orders of two causes are right.
        let _ = self.state.compare_exchange(GO_ON, value, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Why the run is to end, if it is.
    #[inline]
    pub fn asked(&self) -> Option<EndAsked> {
        match self.state.load(Ordering::Acquire) {
            INTERRUPTED => Some(EndAsked::Interrupted),
            FAILED => Some(EndAsked::Failed),
            _ => None,
        }
    }
}

/// One generator among those of its run.
#[derive(Clone, Debug)]
pub struct Member {
    index: u32,
    count: u32,
    ready: Arc<AtomicU32>,
    stop: Stop,
}

impl Member {
    /// All members of a run.
    pub fn all(count: u32, stop: &Stop) -> Vec<Self> {
        let ready = Arc::new(AtomicU32::new(0));
        let member = |index| Self { index, count, ready: Arc::clone(&ready), stop: stop.clone() };
        (0..count).map(member).collect()
    }

    /// Its number, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Ends all of them, or says why they are to end.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// This one could begin.
    pub fn set_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    /// All of them can begin.
    pub fn all_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) >= self.count
    }

    /// Its share of so many things: the first, and how many. Shares follow each other and leave nothing out.
    pub fn share(&self, things: u64) -> (u64, u64) {
        let at = |index: u32| {
            let part = u128::from(things) * u128::from(index) / u128::from(self.count);
            u64::try_from(part).expect("a part is no more than the whole")
        };
        (at(self.index), at(self.index + 1) - at(self.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (count, things) in [(1, 7), (3, 7), (4, 2), (5, u64::MAX)] {
            let mut next = 0;
            for member in Member::all(count, &Stop::default()) {
                let (first, length) = member.share(things);
                assert_eq!(first, next);
                next = first + length;
            }
            assert_eq!(next, things);
        }
    }

    #[test]
    fn the_first_cause_is_told_and_all_wait_for_the_last() {
        let stop = Stop::default();
        let members = Member::all(2, &stop);
        members[0].set_ready();
        assert!(!members[0].all_ready() && stop.asked().is_none());
        members[1].set_ready();
        assert!(members[0].all_ready());
        members[1].stop().raise(EndAsked::Failed);
        stop.raise(EndAsked::Interrupted);
        assert_eq!(members[0].stop().asked(), Some(EndAsked::Failed));
    }
}

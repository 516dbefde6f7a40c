//! When the next request is meant to start.

use std::time::Duration;

use reactor::time::Time;

use crate::places::Sequence;
use crate::plan::Pacing;

/// The clockwork of a load.
#[derive(Debug)]
pub struct Pace {
    pacing: Pacing,
    start: Time,
    /// Requests taken so far.
    taken: u64,
    /// Distance of the next arrival from the start, in nanoseconds (Poisson).
    arrival_ns: f64,
    sequence: Sequence,
}

impl Pace {
    /// A clockwork that starts at `start`.
    pub fn new(pacing: Pacing, start: Time, seed: u64) -> Self {
        let mut this = Self { pacing, start, taken: 0, arrival_ns: 0.0, sequence: Sequence::new(!seed) };
        this.draw();
        this
    }

    fn draw(&mut self) {
        if let Pacing::Poisson(rate) = self.pacing {
            self.arrival_ns += -self.sequence.unit().ln() * 1e9 / rate;
        }
    }

    /// When the next request is meant to start.
    pub fn next(&self, now: Time) -> Time {
        let distance_ns = match self.pacing {
            Pacing::Closed => return now,
            // From the start each time, so that nothing adds up.
            Pacing::Constant(rate) => self.taken as f64 * 1e9 / rate,
            Pacing::Poisson(_) => self.arrival_ns,
        };
        self.start.after(Duration::from_nanos(distance_ns as u64))
    }

    /// The intended start of the next request if that is not after `now`.
    #[inline]
    pub fn due(&self, now: Time) -> Option<Time> {
        let next = self.next(now);
        (next <= now).then_some(next)
    }

    /// The request that was due has been started.
    #[inline]
    pub fn take(&mut self) {
        self.taken += 1;
        self.draw();
    }

    /// True when the target does not set the pace.
    pub fn is_open(&self) -> bool {
        self.pacing != Pacing::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(pacing: Pacing, until: Time) -> Vec<u64> {
        let mut pace = Pace::new(pacing, Time::from_ns(1000), 1);
        let mut arrivals = Vec::new();
        while let Some(at) = pace.due(until) {
            arrivals.push(at.as_ns());
            pace.take();
        }
        arrivals
    }

    #[test]
    fn constant_arrivals_are_equally_far_apart() {
        let got = arrivals(Pacing::Constant(1e6), Time::from_ns(5999));
        assert_eq!(got, [1000, 2000, 3000, 4000, 5000]);
    }

    #[test]
    fn poisson_arrivals_come_at_the_rate_and_unevenly() {
        let got = arrivals(Pacing::Poisson(1e6), Time::from_ns(10_000_000));
        assert!((9_500..10_500).contains(&got.len()), "{}", got.len());
        let distances: Vec<u64> = got.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let long = distances.iter().filter(|ns| **ns > 2000).count();
        // e^-2 of them.
        assert!((1_100..1_600).contains(&long), "{long}");
    }

    #[test]
    fn a_closed_loop_is_always_due() {
        let pace = Pace::new(Pacing::Closed, Time::ZERO, 0);
        assert_eq!(pace.due(Time::from_ns(7)), Some(Time::from_ns(7)));
    }
}

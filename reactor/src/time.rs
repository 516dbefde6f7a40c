//! The one notion of time: nanoseconds on a monotonic clock, read once per turn.

use std::time::Duration;

/// An instant in nanoseconds since the clock's own origin. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);
    /// An instant that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the origin.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the origin.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// This instant plus `d`, never past [`Time::NEVER`].
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        let ns = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to this instant; zero when it is not after it.
    #[inline]
    pub const fn ns_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns_since(earlier))
    }
}

/// Where `now` comes from: the machine's monotonic clock, or the simulator's.
pub trait Clock {
    /// The current instant; never smaller than one returned before.
    fn now(&self) -> Time;
}

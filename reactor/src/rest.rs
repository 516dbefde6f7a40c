//! How long to let a large payload come, once a receive call has taken what there was of it.
//!
//! A call costs its microsecond whether it brings 4 KiB or 100, and holds the socket's lock, for which the kernel's side that brings the
//! rest has to wait. A core that spins would make such a call for each packet. So a stream in the middle of a large payload rests for
//! as long as a fast network needs for what is missing, at most a few microseconds.

use std::time::Duration;

use crate::time::Time;

/// Payloads that miss less are not worth waiting for.
const MISSING_BYTES_MIN: usize = 16 * 1024;
/// What a fast network brings in a microsecond.
const BYTES_PER_US: u64 = 16 * 1024;
/// More than this is not waited for at once.
const REST_US_MAX: u64 = 4;
/// How often a stream is passed over at most: where time stands still (the simulator's) as well, it is read in the end.
const PASSES_MAX: u8 = 64;

/// Whether one stream rests.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    until: Time,
    passes: u8,
}

impl Rest {
    /// It does not.
    pub const NONE: Self = Self { until: Time::ZERO, passes: 0 };

    /// A call has emptied the stream, and so many bytes are missing of what is received in place.
    #[inline]
    pub fn emptied(&mut self, now: Time, missing_bytes: usize) {
        if missing_bytes >= MISSING_BYTES_MIN {
            let rest_us = (missing_bytes as u64 / BYTES_PER_US).min(REST_US_MAX);
            *self = Self { until: now.after(Duration::from_micros(rest_us)), passes: PASSES_MAX };
        }
    }

    /// The stream was named: true when it is to be passed over. Then it has to be said that it may hold more
    /// ([`crate::net::StreamGroup::note_drained`]), so that it is named again.
    #[inline]
    pub fn passes_over(&mut self, now: Time) -> bool {
        if now >= self.until || self.passes == 0 {
            return false;
        }
        self.passes -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_as_long_as_what_is_missing_takes() {
        let mut rest = Rest::NONE;
        let at = Time::from_ns;
        assert!(!rest.passes_over(at(0)));
        rest.emptied(at(1000), MISSING_BYTES_MIN - 1);
        assert!(!rest.passes_over(at(1000)));
        rest.emptied(at(1000), 32 * 1024);
        assert!(rest.passes_over(at(1000)) && rest.passes_over(at(2999)) && !rest.passes_over(at(3000)));
        rest.emptied(at(1000), 8 << 20);
        assert!(rest.passes_over(at(4999)) && !rest.passes_over(at(5000)));
    }

    #[test]
    fn it_ends_although_time_stands_still() {
        let mut rest = Rest::NONE;
        rest.emptied(Time::ZERO, 1 << 20);
        assert_eq!((0..1000).filter(|_| rest.passes_over(Time::ZERO)).count(), usize::from(PASSES_MAX));
    }
}

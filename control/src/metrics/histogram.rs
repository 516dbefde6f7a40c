//! From our log-linear histogram to the two kinds that Prometheus has.
//!
//! A value is known to 1.6 %, so that it may lie by that much on the wrong side of a bucket bound; a bucket of ours
//! counts by its upper bound.

use std::time::SystemTime;

use prometheus_client::encoding::{NativeHistogram, NativeHistogramBuckets};
use reactor::stats::HistogramSnapshot;

const SECONDS_PER_NS: f64 = 1e-9;

/// Upper bounds of the classic buckets in nanoseconds: 10 µs to 10 s.
pub(super) const CLASSIC_BOUNDS_NS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A classic histogram: counts of each bucket by itself, the last one without bound.
pub(super) struct Classic {
    pub(super) sum_seconds: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Classic {
    pub(super) fn of(durations: &HistogramSnapshot) -> Self {
        let mut buckets: Vec<(f64, u64)> =
            CLASSIC_BOUNDS_NS.iter().map(|&bound_ns| (bound_ns as f64 / 1e9, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for (upper_ns, count) in durations.iter() {
            buckets[CLASSIC_BOUNDS_NS.partition_point(|&bound_ns| bound_ns < upper_ns)].1 += count;
        }
        let sum_seconds = durations.sum_ns() as f64 * SECONDS_PER_NS;
        Self { sum_seconds, count: durations.count(), buckets }
    }
}

/// 2^3 buckets for each power of two: 9 % wide, twelve times what our own resolution could blur.
const SCHEMA: i32 = 3;
const BUCKETS_PER_OCTAVE: f64 = (1 << SCHEMA) as f64;
/// Durations begin at 64 ns, so that nothing is ever in the zero bucket; this is the conventional width of it.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// A native histogram: spans of consecutive buckets, and the difference of each count to the one before it.
pub(super) struct Native {
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
}

impl Native {
    pub(super) fn of(durations: &HistogramSnapshot) -> Self {
        // Ours are in ascending order, so that equal indexes are neighbours.
        let mut buckets: Vec<(i32, u64)> = Vec::new();
        for (upper_ns, count) in durations.iter() {
            let index = index_of(upper_ns);
            match buckets.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => buckets.push((index, count)),
            }
        }
        let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
        let (mut next, mut previous) = (0, 0i64);
        for (index, count) in buckets {
            match spans.last_mut() {
                Some((_, length)) if index == next => *length += 1,
                _ => spans.push((index - next, 1)),
            }
            let count = i64::try_from(count).expect("63 bits count for centuries");
            deltas.push(count - previous);
            (next, previous) = (index + 1, count);
        }
        Self { spans, deltas }
    }

    pub(super) fn encoding(&self, created: SystemTime) -> NativeHistogram<'_> {
        NativeHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: 0,
            negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
            positive: NativeHistogramBuckets { spans: &self.spans, deltas: &self.deltas },
            created: Some(created),
        }
    }
}

/// The bucket `i` holds what is larger than 2^((i-1)/8) seconds and at most 2^(i/8) seconds.
fn index_of(ns: u64) -> i32 {
    ((ns as f64 * SECONDS_PER_NS).log2() * BUCKETS_PER_OCTAVE).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::stats::Histogram;

    #[test]
    fn classic_buckets_hold_every_value_once_and_the_last_one_the_rest() {
        let histogram = Histogram::default();
        for ns in [100, 9_000, 12_000, 1_000_000, 30_000_000_000] {
            histogram.record(ns);
        }
        let classic = Classic::of(&histogram.snapshot());
        assert_eq!(classic.count, 5);
        assert_eq!(classic.buckets[0], (0.000_01, 2));
        assert_eq!(classic.buckets[1], (0.000_025, 1));
        assert_eq!(classic.buckets.last().unwrap(), &(f64::INFINITY, 1));
        assert_eq!(classic.buckets.iter().map(|(_, count)| count).sum::<u64>(), 5);
        assert!((classic.sum_seconds - 30.001_021_1).abs() < 1e-9);
    }

    #[test]
    fn native_buckets_decode_to_what_was_recorded() {
        let histogram = Histogram::default();
        let values = [(1_000u64, 3u64), (1_050, 2), (70_000, 7), (1_000_000_000, 1), (2_000_000_000, 4)];
        for (ns, times) in values {
            histogram.record_many(ns, times);
        }
        let native = Native::of(&histogram.snapshot());
        let (mut index, mut count, mut deltas, mut decoded) = (0i32, 0i64, native.deltas.iter(), Vec::new());
        for (offset, length) in &native.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                let bound = |i: i32| 2f64.powf(f64::from(i) / BUCKETS_PER_OCTAVE);
                decoded.push((bound(index - 1), bound(index), count));
                index += 1;
            }
        }
        assert!(deltas.next().is_none());
        assert_eq!(decoded.iter().map(|(_, _, count)| count).sum::<i64>(), 17);
        for (ns, times) in values {
            let seconds = ns as f64 * SECONDS_PER_NS;
            let found =
                decoded.iter().find(|(low, high, _)| *low * 0.98 < seconds && seconds <= *high * 1.02);
            assert!(found.is_some_and(|(_, _, count)| *count >= times as i64), "{ns}");
        }
        assert!(Native::of(&HistogramSnapshot::default()).spans.is_empty());
    }

    #[test]
    fn bucket_bounds_are_inclusive_above() {
        assert_eq!(index_of(1_000_000_000), 0);
        assert_eq!(index_of(1_000_000_001), 1);
        assert_eq!(index_of(2_000_000_000), 8);
    }
}

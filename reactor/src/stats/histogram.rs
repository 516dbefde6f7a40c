//! A log-linear latency histogram: 64 steps per power of two, so a value is known to 1.6 %.

use std::sync::atomic::{AtomicU64, Ordering};

const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// Powers of two covered: 64 ns up to 2^36 ns, which is 68 s.
const OCTAVES: u64 = 30;
const VALUE_NS_MIN: u64 = STEPS;
const VALUE_NS_MAX: u64 = (1 << (STEP_BITS as u64 + OCTAVES)) - 1;

/// How many buckets a histogram has.
pub const BUCKETS: usize = (OCTAVES * STEPS) as usize;

const _: () = assert!(VALUE_NS_MIN <= 100 && VALUE_NS_MAX >= 60_000_000_000);

#[inline]
fn bucket_of(ns: u64) -> usize {
    let ns = ns.clamp(VALUE_NS_MIN, VALUE_NS_MAX);
    let octave = ns.ilog2() - STEP_BITS;
    let step = (ns >> octave) - STEPS;
    (u64::from(octave) * STEPS + step) as usize
}

/// The largest value that falls into a bucket.
fn upper_bound_ns(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    ((STEPS + step + 1) << octave) - 1
}

/// Latencies in nanoseconds, 64 ns to 68 s; what lies outside counts as the nearest of those.
/// 15 KiB. One writer, any number of readers.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Counts `times` equal values.
    #[inline]
    pub fn record_many(&self, ns: u64, times: u64) {
        let add = |cell: &AtomicU64, n: u64| {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        add(&self.buckets[bucket_of(ns)], times);
        add(&self.sum_ns, ns.wrapping_mul(times));
    }

    /// A copy to compute with. Values recorded meanwhile may or may not be in it.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets: Vec<u64> = self.buckets.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        HistogramSnapshot {
            count: buckets.iter().sum(),
            buckets,
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

/// A histogram at one moment, or the difference of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, sum_ns: 0 }
    }
}

impl HistogramSnapshot {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum in nanoseconds, modulo 2^64.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Their mean in nanoseconds, 0 without values.
    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 }
    }

    /// The least bucket bound, in nanoseconds, that at least the share `quantile` (0.0 ..= 1.0) of
    /// the values does not exceed; 0 without values.
    pub fn value_at_quantile(&self, quantile: f64) -> u64 {
        let wanted = ((quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bound_ns, count) in self.iter() {
            seen += count;
            if seen >= wanted {
                return bound_ns;
            }
        }
        self.max_ns()
    }

    /// The bound of the highest bucket that holds a value, in nanoseconds; 0 without values.
    pub fn max_ns(&self) -> u64 {
        self.buckets.iter().rposition(|&count| count > 0).map_or(0, upper_bound_ns)
    }

    /// The buckets that hold values: the largest value of the bucket in nanoseconds, and the count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = |(bucket, &count): (usize, &u64)| (count > 0).then(|| (upper_bound_ns(bucket), count));
        self.buckets.iter().enumerate().filter_map(filled)
    }

    /// How many values are at most `bound_ns`, to the resolution of the buckets: a bucket counts
    /// when all of it does.
    pub fn count_at_most(&self, bound_ns: u64) -> u64 {
        self.iter().take_while(|&(upper_ns, _)| upper_ns <= bound_ns).map(|(_, count)| count).sum()
    }

    /// Adds the values of `other`.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(to, from)| *to += from);
        self.count += other.count;
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// What came after `earlier`, an older snapshot of the same histogram.
    #[must_use]
    pub fn subtract(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        let buckets: Vec<u64> = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { count: buckets.iter().sum(), buckets, sum_ns: self.sum_ns.wrapping_sub(earlier.sum_ns) }
    }

    /// The same values as an `hdrhistogram`, in nanoseconds with two significant digits: for
    /// reports and interval logs.
    pub fn to_hdr(&self) -> hdrhistogram::Histogram<u64> {
        let mut hdr = hdrhistogram::Histogram::new_with_bounds(1, VALUE_NS_MAX, 2)
            .expect("constant bounds that the library accepts");
        for (bound_ns, count) in self.iter() {
            hdr.record_n(bound_ns, count).expect("every bucket lies within the bounds");
        }
        hdr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut previous = VALUE_NS_MIN - 1;
        for bucket in 0..BUCKETS {
            let upper = upper_bound_ns(bucket);
            assert_eq!(bucket_of(previous + 1), bucket);
            assert_eq!(bucket_of(upper), bucket);
            assert!(upper - previous <= (previous + 1).div_ceil(STEPS), "wider than 1/64");
            previous = upper;
        }
        assert_eq!(previous, VALUE_NS_MAX);
    }

    #[test]
    fn values_outside_count_as_the_nearest() {
        let h = Histogram::default();
        h.record(0);
        h.record(u64::MAX);
        let s = h.snapshot();
        assert_eq!(s.count(), 2);
        assert_eq!(s.iter().map(|(_, n)| n).sum::<u64>(), 2);
        assert_eq!(s.max_ns(), VALUE_NS_MAX);
    }

    #[test]
    fn quantiles_agree_with_sorting() {
        let h = Histogram::default();
        let mut values: Vec<u64> = (0..10_000_u64).map(|i| 200 + (i * 7919) % 1_000_003).collect();
        values.iter().for_each(|&v| h.record(v));
        values.sort_unstable();
        let s = h.snapshot();
        for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((q * values.len() as f64).ceil() as usize).max(1) - 1;
            let (exact, got) = (values[rank], s.value_at_quantile(q));
            assert!(got >= exact && got - exact <= exact / 64 + 1, "{q}: {exact} {got}");
        }
        assert_eq!(s.sum_ns(), values.iter().sum::<u64>());
        assert_eq!(s.to_hdr().len(), s.count());
    }

    #[test]
    fn an_interval_is_the_difference_and_adding_it_gives_the_whole() {
        let h = Histogram::default();
        h.record(1_000);
        let first = h.snapshot();
        h.record_many(5_000, 3);
        let interval = h.snapshot().subtract(&first);
        assert_eq!((interval.count(), interval.sum_ns()), (3, 15_000));
        assert_eq!(interval.count_at_most(4_000), 0);
        assert_eq!(interval.count_at_most(6_000), 3);
        let mut whole = first;
        whole.add(&interval);
        assert_eq!(whole, h.snapshot());
    }

    #[test]
    fn no_values_give_zeros() {
        let s = Histogram::default().snapshot();
        assert_eq!((s.count(), s.value_at_quantile(0.99), s.max_ns()), (0, 0, 0));
        assert_eq!(s.mean_ns(), 0.0);
        assert_eq!(s, HistogramSnapshot::default());
    }
}

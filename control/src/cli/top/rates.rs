//! From two readings of the counters to rates and percentiles.

use serde::Serialize;

use crate::service::{OpReading, StatsView, VolumeReading};

/// One operation of one volume over an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    pub(super) volume: String,
    pub(super) operation: String,
    pub(super) operations_per_second: f64,
    pub(super) megabytes_per_second: f64,
    pub(super) errors: u64,
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

pub(super) const HEADER: [&str; 10] =
    ["VOLUME", "OPERATION", "IOPS", "MB/S", "ERRORS", "MEAN", "P50", "P99", "P99.9", "MAX"];

/// Every operation that happened at all, and `read` and `write` always.
pub(super) fn between(earlier: &StatsView, later: &StatsView) -> Vec<Rates> {
    let seconds = later.at_ns.saturating_sub(earlier.at_ns).max(1) as f64 / 1e9;
    let mut rates = Vec::new();
    for volume in &later.volumes {
        let before = earlier.volumes.iter().find(|other| other.volume == volume.volume);
        for operation in &volume.operations {
            let total = difference(operation, before.and_then(|before| find(before, &operation.operation)));
            if total.operations > 0 || matches!(operation.operation.as_str(), "read" | "write") {
                rates.push(rates_of(&volume.volume, &total, seconds));
            }
        }
    }
    rates
}

fn find<'a>(volume: &'a VolumeReading, operation: &str) -> Option<&'a OpReading> {
    volume.operations.iter().find(|other| other.operation == operation)
}

/// What came after `before`. A volume that was created anew in between has smaller counters than before; then all
/// of it is new.
fn difference(now: &OpReading, before: Option<&OpReading>) -> OpReading {
    let Some(before) = before.filter(|before| before.operations <= now.operations) else {
        return now.clone();
    };
    let mut buckets = now.duration_buckets.clone();
    for (bound_ns, count) in &mut buckets {
        let earlier = before.duration_buckets.iter().find(|(other, _)| other == bound_ns);
        *count = count.saturating_sub(earlier.map_or(0, |(_, count)| *count));
    }
    OpReading {
        operation: now.operation.clone(),
        operations: now.operations - before.operations,
        bytes: now.bytes.saturating_sub(before.bytes),
        errors: now.errors.saturating_sub(before.errors),
        duration_sum_ns: now.duration_sum_ns.saturating_sub(before.duration_sum_ns),
        duration_buckets: buckets,
    }
}

fn rates_of(volume: &str, total: &OpReading, seconds: f64) -> Rates {
    let quantile_us = |quantile| value_at_quantile(&total.duration_buckets, quantile) as f64 / 1e3;
    Rates {
        volume: volume.to_owned(),
        operation: total.operation.clone(),
        operations_per_second: total.operations as f64 / seconds,
        megabytes_per_second: total.bytes as f64 / seconds / 1e6,
        errors: total.errors,
        mean_us: total.duration_sum_ns as f64 / total.operations.max(1) as f64 / 1e3,
        p50_us: quantile_us(0.5),
        p99_us: quantile_us(0.99),
        p999_us: quantile_us(0.999),
        max_us: quantile_us(1.0),
    }
}

/// The least bound that the share `quantile` of the values does not exceed; 0 without values.
fn value_at_quantile(buckets: &[(u64, u64)], quantile: f64) -> u64 {
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    let wanted = ((quantile * count as f64).ceil() as u64).max(1);
    let mut seen = 0;
    for (bound_ns, count) in buckets {
        seen += count;
        if seen >= wanted {
            return *bound_ns;
        }
    }
    0
}

impl Rates {
    /// The cells of a row under [`HEADER`].
    pub(super) fn cells(&self) -> Vec<String> {
        let duration = |us: f64| match us {
            0.0 => "-".to_owned(),
            us if us < 1e3 => format!("{us:.1}us"),
            us if us < 1e6 => format!("{:.2}ms", us / 1e3),
            us => format!("{:.2}s", us / 1e6),
        };
        vec![
            self.volume.clone(),
            self.operation.clone(),
            format!("{:.0}", self.operations_per_second),
            format!("{:.1}", self.megabytes_per_second),
            self.errors.to_string(),
            duration(self.mean_us),
            duration(self.p50_us),
            duration(self.p99_us),
            duration(self.p999_us),
            duration(self.max_us),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ns: u64, operations: u64, buckets: &[(u64, u64)]) -> StatsView {
        let read = OpReading {
            operation: "read".to_owned(),
            operations,
            bytes: operations * 4096,
            errors: 0,
            duration_sum_ns: operations * 10_000,
            duration_buckets: buckets.to_vec(),
        };
        let unmap = OpReading { operation: "unmap".to_owned(), ..OpReading::default() };
        let volume =
            VolumeReading { volume: "a".to_owned(), operations: vec![read, unmap], ..Default::default() };
        StatsView { at_ns, volumes: vec![volume], ..StatsView::default() }
    }

    #[test]
    fn rates_are_of_the_interval_only() {
        let earlier = reading(1_000_000_000, 100, &[(5_000, 100)]);
        let later = reading(3_000_000_000, 300, &[(5_000, 101), (10_000, 197), (90_000, 2)]);
        let rates = between(&earlier, &later);
        assert_eq!(rates.len(), 1, "an operation that did not happen is left out");
        assert_eq!(rates[0].operations_per_second, 100.0);
        assert_eq!(rates[0].megabytes_per_second, 0.4096);
        assert_eq!((rates[0].p50_us, rates[0].p99_us, rates[0].max_us), (10.0, 10.0, 90.0));
        assert_eq!(rates[0].mean_us, 10.0);
        let cells = rates[0].cells();
        assert_eq!(cells[2..], ["100", "0.4", "0", "10.0us", "10.0us", "10.0us", "90.0us", "90.0us"]);
        assert_eq!(cells.len(), HEADER.len());
    }

    #[test]
    fn counters_that_began_anew_are_taken_whole() {
        let rates = between(&reading(0, 500, &[(5_000, 500)]), &reading(1_000_000_000, 7, &[(5_000, 7)]));
        assert_eq!(rates[0].operations_per_second, 7.0);
    }
}

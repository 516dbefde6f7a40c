//! Metrics as plain data.

use reactor::stats::HistogramSnapshot;

/// What kind of metric a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations.
    Histogram,
}

/// One value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(f64),
    Durations(Box<HistogramSnapshot>),
}

/// One series.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

/// All series of one name. A counter's name is without `_total`, as OpenMetrics has it.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

impl Family {
    pub(super) fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// A family with one series without labels.
    pub(super) fn single(kind: Kind, name: &'static str, help: &'static str, value: f64) -> Self {
        let mut family = Self::new(kind, name, help);
        family.push(Vec::new(), value);
        family
    }

    pub(super) fn push(&mut self, labels: Vec<(&'static str, String)>, value: f64) {
        assert!(self.kind != Kind::Histogram, "a histogram has durations, not a number");
        self.samples.push(Sample { labels, value: Value::Number(value) });
    }

    pub(super) fn push_durations(
        &mut self,
        labels: Vec<(&'static str, String)>,
        durations: HistogramSnapshot,
    ) {
        assert!(self.kind == Kind::Histogram, "only a histogram has durations");
        self.samples.push(Sample { labels, value: Value::Durations(Box::new(durations)) });
    }
}

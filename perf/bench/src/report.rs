//! What a run tells: for programs as values with units in their names, for people as a table.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::driver::ControllerFacts;
use crate::ledger::Mismatch;
use crate::plan::{Order, Pacing, Plan};
use crate::tally::{Outcome, Tally, Verified};

/// The percentiles that are told.
const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999];
/// Steps of the curve between two halvings of the distance to 100 %.
const CURVE_STEPS: u32 = 8;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where the load went.
    pub target: String,
    /// What was asked for.
    pub load: LoadReport,
    /// Bytes of a logical block of the target.
    pub logical_block_bytes: u32,
    /// Number of logical blocks of the target.
    pub length_blocks: u64,
    /// The measured time.
    pub elapsed_s: f64,
    /// Reads and writes together.
    pub total: Line,
    /// Reads, if any were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Line>,
    /// Writes, if any were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Line>,
    /// Requests of an open loop that were due and never started; they count with the time that they had waited at the end.
    pub unstarted: u64,
    /// With `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// The first request that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<FirstFailure>,
    /// It was ended before its time; what was measured until then is told.
    #[serde(skip_serializing_if = "is_false")]
    pub interrupted: bool,
    /// A request is longer than the target's longest command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The controller, where the generator drives it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerReport>,
    /// What an operator should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Something that was taken could not be given back; the notes say what.
    #[serde(skip_serializing_if = "is_false")]
    pub left_undone: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the serializer hands in references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// How requests were cut.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Split {
    /// Bytes of the longest command.
    pub command_bytes_max: u64,
    /// Commands of one request, at least: a device may ask for cuts at boundaries of its own as well.
    pub commands_per_request: u64,
}

/// A controller that the generator drives itself.
#[derive(Clone, Debug, Serialize)]
pub struct ControllerReport {
    /// What it is.
    #[serde(flatten)]
    pub facts: ControllerFacts,
    /// Commands that were written to its queues while it was measured.
    pub commands: u64,
    /// Tail doorbells for them.
    pub submission_doorbells: u64,
    /// Head doorbells for their completions.
    pub completion_doorbells: u64,
    /// Doorbells of both kinds for one command.
    pub doorbells_per_command: f64,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// "sequential" or "random".
    pub order: &'static str,
    /// How many of 100 requests read.
    pub read_percent: u8,
    /// Bytes of a request.
    pub request_bytes: u32,
    /// Requests in flight per queue.
    pub depth: u32,
    /// Queues or sessions of each core.
    pub queues: u16,
    /// Cores that make the load, each with queues of its own.
    pub cores: u32,
    /// "closed", "constant" or "poisson".
    pub pacing: &'static str,
    /// Requests per second that an open loop was to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// Header digests were on.
    pub header_digest: bool,
    /// Data digests were on.
    pub data_digest: bool,
}

/// Requests of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Requests that succeeded within the measured time.
    pub completed: u64,
    /// The same per second.
    pub requests_per_second: f64,
    /// The same for each core that makes the load.
    pub requests_per_second_per_core: f64,
    /// Time of a core for one request: all of it is spent here, because the cores spin.
    pub core_ns_per_request: f64,
    /// The same in bytes.
    pub bytes_per_second: f64,
    /// Requests that failed.
    pub failed: u64,
    /// How long requests took.
    pub latency: Latency,
}

/// A distribution.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// The shortest.
    pub min_us: f64,
    /// The average.
    pub mean_us: f64,
    /// Standard deviation.
    pub stdev_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The longest of so many in a hundred.
    pub percentiles: Vec<Percentile>,
    /// The whole curve, for a plot.
    #[serde(skip)]
    pub curve: Vec<Percentile>,
}

/// One point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// So many in a hundred …
    pub percent: f64,
    /// … took at most so long.
    pub us: f64,
}

/// What verification has shown.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verification {
    /// Logical blocks that were proven right.
    pub checked_blocks: u64,
    /// Logical blocks of which nothing is known: neither this run nor an earlier verifying one wrote them.
    pub unknown_blocks: u64,
    /// Logical blocks that are wrong.
    pub wrong_blocks: u64,
    /// The first of them.
    pub first_wrong_lba: Option<u64>,
    /// What is wrong with it.
    pub mismatch: Option<Mismatch>,
}

/// The first request that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FirstFailure {
    /// Its first block.
    pub lba: u64,
    /// What the target said.
    pub status: String,
}

/// Microseconds; no more is known than whole nanoseconds.
fn us(ns: f64) -> f64 {
    ns.round() / 1000.0
}

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Self {
        let percentiles = PERCENTILES
            .iter()
            .map(|&percent| Percentile { percent, us: us(histogram.value_at_percentile(percent) as f64) });
        let curve = histogram.iter_quantiles(CURVE_STEPS).map(|step| Percentile {
            percent: step.quantile_iterated_to() * 100.0,
            us: us(step.value_iterated_to() as f64),
        });
        Self {
            min_us: us(histogram.min() as f64),
            mean_us: us(histogram.mean()),
            stdev_us: us(histogram.stdev()),
            max_us: us(histogram.max() as f64),
            percentiles: percentiles.collect(),
            curve: curve.collect(),
        }
    }

    /// The longest of `percent` in a hundred, if that is one of those that are told.
    pub fn at(&self, percent: f64) -> Option<f64> {
        self.percentiles.iter().find(|point| point.percent == percent).map(|point| point.us)
    }
}

impl Line {
    fn new(tally: &Tally, plan: &Plan, elapsed_s: f64) -> Self {
        let per_second = if elapsed_s > 0.0 { tally.completed as f64 / elapsed_s } else { 0.0 };
        let per_core = per_second / f64::from(plan.generators());
        Self {
            completed: tally.completed,
            requests_per_second: per_second,
            requests_per_second_per_core: per_core,
            core_ns_per_request: if per_core > 0.0 { (1e9 / per_core).round() } else { 0.0 },
            bytes_per_second: per_second * f64::from(plan.request_bytes),
            failed: tally.failed,
            latency: Latency::new(&tally.latency_ns),
        }
    }
}

impl Report {
    /// Reckons up an outcome.
    pub(crate) fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let elapsed_s = outcome.elapsed.as_secs_f64();
        let mut total = outcome.reads.clone();
        total.add(&outcome.writes);
        let line = |tally: &Tally| Line::new(tally, plan, elapsed_s);
        let controller = outcome.controller.clone().map(|facts| ControllerReport::new(facts, outcome));
        Self {
            target: plan.target.to_string(),
            load: LoadReport::new(plan),
            logical_block_bytes: outcome.geometry.logical_block_bytes,
            length_blocks: outcome.geometry.length_blocks,
            elapsed_s,
            total: line(&total),
            read: plan.reads().then(|| line(&outcome.reads)),
            write: plan.writes().then(|| line(&outcome.writes)),
            unstarted: outcome.unstarted,
            verification: outcome.verified.as_ref().map(Verification::new),
            first_failure: outcome
                .first_failure
                .map(|(lba, status)| FirstFailure { lba, status: status.to_string() }),
            interrupted: outcome.interrupted,
            split: Split::new(plan.request_bytes.into(), outcome.geometry.command_bytes_max),
            controller,
            notes: Vec::new(),
            left_undone: false,
        }
    }

    /// True when it ran to its end, nothing failed and nothing was wrong. A verification that could check nothing has proven nothing.
    pub fn is_good(&self) -> bool {
        let reads = self.load.read_percent > 0;
        let proven =
            self.verification.is_none_or(|it| it.wrong_blocks == 0 && (!reads || it.checked_blocks > 0));
        self.total.failed == 0 && proven && !self.interrupted && !self.left_undone
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.target, self.load.sentence());
        let mut rows = vec![
            ["", "IOPS", "MB/S", "FAILED", "MIN", "MEAN", "P50", "P90", "P99", "P99.9", "P99.99", "MAX"]
                .map(str::to_owned),
        ];
        for (name, line) in [("read", &self.read), ("write", &self.write)] {
            rows.extend(line.as_ref().map(|line| row(name, line)));
        }
        if self.read.is_some() && self.write.is_some() {
            rows.push(row("total", &self.total));
        }
        let widths: [usize; 12] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
        for row in &rows {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
        }
        let _ = writeln!(text, "\nLatencies in microseconds; measured for {:.1} s.", self.elapsed_s);
        self.write_notes(&mut text);
        text
    }

    fn write_notes(&self, text: &mut String) {
        if self.load.cores > 1 || self.controller.is_some() {
            let (total, cores) = (&self.total, self.load.cores);
            let _ = writeln!(
                text,
                "On each of {cores} core{}: {:.0} requests per second, {:.0} ns for each.",
                if cores == 1 { "" } else { "s" },
                total.requests_per_second_per_core,
                total.core_ns_per_request
            );
        }
        if let Some(it) = &self.controller {
            let facts = &it.facts;
            let _ = writeln!(
                text,
                "{} {} (firmware {}), {}: {:.3} doorbells per command.",
                facts.model, facts.serial, facts.firmware, facts.memory, it.doorbells_per_command
            );
        }
        if let Some(split) = &self.split {
            let _ = writeln!(
                text,
                "The target takes {} bytes in one command: each request was cut into {}.",
                split.command_bytes_max, split.commands_per_request
            );
        }
        if self.interrupted {
            let _ = writeln!(text, "Interrupted: what was measured until then.");
        }
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}.");
        }
        if self.unstarted > 0 {
            let _ = writeln!(
                text,
                "The target did not keep up: {} requests were due and never started. They count with the time they had waited.",
                self.unstarted
            );
        }
        if let Some(it) = &self.verification {
            let _ = writeln!(
                text,
                "Verified: {} blocks right, {} wrong, {} unknown.",
                it.checked_blocks, it.wrong_blocks, it.unknown_blocks
            );
            if let (Some(lba), Some(mismatch)) = (it.first_wrong_lba, it.mismatch) {
                let _ = writeln!(text, "First wrong block: {lba}: {mismatch:?}.");
            }
            if it.checked_blocks == 0 && self.read.is_some() {
                let _ = writeln!(text, "Nothing could be checked: write with --verify first.");
            }
        }
        if let Some(failure) = &self.first_failure {
            let _ = writeln!(text, "First failure: block {}: {}.", failure.lba, failure.status);
        }
    }
}

fn row(name: &str, line: &Line) -> [String; 12] {
    let latency = &line.latency;
    let at = |percent: f64| format!("{:.1}", latency.at(percent).unwrap_or_default());
    [
        name.to_owned(),
        format!("{:.0}", line.requests_per_second),
        format!("{:.1}", line.bytes_per_second / 1e6),
        line.failed.to_string(),
        format!("{:.1}", latency.min_us),
        format!("{:.1}", latency.mean_us),
        at(50.0),
        at(90.0),
        at(99.0),
        at(99.9),
        at(99.99),
        format!("{:.1}", latency.max_us),
    ]
}

impl LoadReport {
    fn new(plan: &Plan) -> Self {
        let (pacing, rate_per_second) = match plan.pacing {
            Pacing::Closed => ("closed", None),
            Pacing::Constant(rate) => ("constant", Some(rate)),
            Pacing::Poisson(rate) => ("poisson", Some(rate)),
        };
        Self {
            order: match plan.order {
                Order::Sequential => "sequential",
                Order::Random => "random",
            },
            read_percent: plan.read_percent,
            request_bytes: plan.request_bytes,
            depth: plan.depth,
            queues: plan.queues,
            cores: plan.generators(),
            pacing,
            rate_per_second,
            header_digest: plan.header_digest,
            data_digest: plan.data_digest,
        }
    }

    fn sentence(&self) -> String {
        let mix = match self.read_percent {
            100 => "reads".to_owned(),
            0 => "writes".to_owned(),
            percent => format!("{percent} % reads"),
        };
        let pacing = match self.rate_per_second {
            None => "closed loop".to_owned(),
            Some(rate) => format!("open loop ({}), {rate} per second", self.pacing),
        };
        let queues = if self.queues == 1 { "queue" } else { "queues" };
        let digests = match (self.header_digest, self.data_digest) {
            (false, false) => "",
            (true, false) => ", header digests",
            (false, true) => ", data digests",
            (true, true) => ", header and data digests",
        };
        let cores = if self.cores == 1 { String::new() } else { format!(" of each of {} cores", self.cores) };
        format!(
            "{} {mix} of {} bytes, depth {} on {} {queues}{cores}, {pacing}{digests}",
            self.order, self.request_bytes, self.depth, self.queues
        )
    }
}

impl Split {
    fn new(request_bytes: u64, command_bytes_max: u64) -> Option<Self> {
        let commands_per_request = request_bytes.div_ceil(command_bytes_max.max(1));
        (commands_per_request > 1).then_some(Self { command_bytes_max, commands_per_request })
    }
}

impl ControllerReport {
    fn new(facts: ControllerFacts, outcome: &Outcome) -> Self {
        let rung = outcome.rung;
        let doorbells = (rung.submission + rung.completion) as f64;
        Self {
            facts,
            commands: rung.commands,
            submission_doorbells: rung.submission,
            completion_doorbells: rung.completion,
            doorbells_per_command: if rung.commands > 0 { doorbells / rung.commands as f64 } else { 0.0 },
        }
    }
}

impl Verification {
    fn new(verified: &Verified) -> Self {
        let findings = verified.findings;
        Self {
            checked_blocks: findings.checked_blocks,
            unknown_blocks: findings.unknown_blocks,
            wrong_blocks: findings.wrong_blocks,
            first_wrong_lba: verified.first().map(|(lba, _)| lba),
            mismatch: verified.first().map(|(_, mismatch)| mismatch),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::{Doorbells, Geometry};

    fn outcome(read_percent: u8, command_bytes_max: u64) -> (Plan, Outcome) {
        let plan = Plan { read_percent, ..Plan::new("nvme-tcp://h/nqn.a".parse().expect("a target")) };
        let mut reads = Tally { completed: 1000, ..Tally::default() };
        for us in 1..=1000 {
            reads.record(Duration::from_micros(us));
        }
        let outcome = Outcome {
            geometry: Geometry { command_bytes_max, ..Geometry::unlimited(512, 1000) },
            elapsed: Duration::from_secs(2),
            writes: if read_percent < 100 { reads.clone() } else { Tally::default() },
            reads,
            unstarted: 0,
            verified: None,
            first_failure: None,
            interrupted: false,
            controller: None,
            rung: Doorbells { commands: 4000, submission: 500, completion: 500 },
        };
        (plan, outcome)
    }

    pub(crate) fn report(read_percent: u8) -> Report {
        let (plan, outcome) = outcome(read_percent, u64::MAX);
        Report::new(&plan, &outcome)
    }

    #[test]
    fn cores_doorbells_and_cuts_are_told() {
        let (plan, outcome) = outcome(100, 1024);
        let facts = ControllerFacts {
            serial: "S1".to_owned(),
            model: "M".to_owned(),
            firmware: "F".to_owned(),
            commands_per_queue: 127,
            memory: "heap".to_owned(),
        };
        let outcome = Outcome { controller: Some(facts), interrupted: true, ..outcome };
        let plan = Plan { processors: vec![0, 1], ..plan };
        let report = Report::new(&plan, &outcome);
        assert!(!report.is_good(), "it was interrupted");
        let json = serde_json::to_value(&report).expect("it is plain data");
        assert_eq!(
            (json["split"]["commands_per_request"].as_u64(), json["load"]["cores"].as_u64()),
            (Some(4), Some(2))
        );
        assert_eq!(
            (&json["controller"]["serial"], &json["controller"]["doorbells_per_command"]),
            (&"S1".into(), &0.25.into())
        );
        assert_eq!(
            (&json["total"]["requests_per_second_per_core"], &json["total"]["core_ns_per_request"]),
            (&250.0.into(), &4e6.into())
        );
        let table = report.table();
        for words in ["2 cores", "0.250 doorbells", "cut into 4", "Interrupted"] {
            assert!(table.contains(words), "{words}: {table}");
        }
    }

    #[test]
    fn a_report_says_what_was_counted() {
        let report = report(100);
        assert!(report.is_good());
        let read = report.read.as_ref().expect("it reads");
        assert_eq!((read.requests_per_second, read.bytes_per_second), (500.0, 2_048_000.0));
        let median_us = read.latency.at(50.0).expect("it is told");
        assert!((499.0..501.5).contains(&median_us), "{median_us}");
        let table = report.table();
        assert!(table.contains("random reads of 4096 bytes, depth 1 on 1 queue, closed loop"), "{table}");
        assert!(!table.contains("total"), "{table}");
    }

    #[test]
    fn a_mixture_has_a_total() {
        let report = report(50);
        assert_eq!(report.total.completed, 2000);
        assert!(report.table().contains("total"));
        let json = serde_json::to_value(&report).expect("it is plain data");
        assert_eq!(json["write"]["latency"]["percentiles"][0]["percent"], 50.0);
    }
}

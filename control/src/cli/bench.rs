//! `vega bench`: options in, an answer out; the load itself is made by the data plane's generator, which the caller of
//! [`run`](super::run) brings.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::args::Format;
use super::error::CliError;
use super::output::Printer;

/// What was asked for, as plain data; the generator checks it.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchOptions {
    /// The target: a URL, or the words of a transport identifier.
    pub target: String,
    /// Random places instead of one after the other.
    pub random: bool,
    /// Reads among 100 requests.
    pub read_percent: u8,
    /// Bytes of one request.
    pub request_bytes: u32,
    /// Requests in flight per queue.
    pub depth: u32,
    /// Queues or sessions.
    pub queues: u16,
    /// Requests per second of an open loop; `None` for a closed one.
    pub rate_per_second: Option<f64>,
    /// An open loop's requests arrive as a Poisson process.
    pub poisson: bool,
    /// Measured time.
    pub runtime: Duration,
    /// Load before that.
    pub warm_up: Duration,
    /// Ends the run earlier.
    pub bytes_max: Option<u64>,
    /// Processors of the generators; none is one that the system chooses.
    pub processors: Vec<usize>,
    /// Spinning without an answer before a processor sleeps, in microseconds; `None` for always.
    pub spin_us: Option<u64>,
    /// Header digests.
    pub header_digest: bool,
    /// Data digests.
    pub data_digest: bool,
    /// Host NQN or initiator name.
    pub client_name: Option<String>,
    /// Stamp and check blocks.
    pub verify: bool,
    /// Data may be destroyed.
    pub overwrite_data: bool,
    /// The serial number of a controller of this machine that may be taken with all that is on it.
    pub confirm_serial: Option<String>,
    /// It may be driven without an IOMMU.
    pub no_iommu: bool,
    /// Start of the random sequence.
    pub seed: u64,
    /// Where the picture goes.
    pub plot: Option<PathBuf>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchAnswer {
    /// For programs.
    pub value: Value,
    /// For people.
    pub table: String,
    /// SVG.
    pub plot: String,
    /// False when requests failed or blocks were wrong.
    pub good: bool,
}

/// Why there is no answer. The message says what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchRefusal {
    /// For people.
    pub message: String,
    /// The options are wrong.
    pub is_usage: bool,
}

/// A run that is to be made.
pub struct BenchStart {
    pub(super) options: BenchOptions,
    pub(super) format: Format,
}

/// Makes the run and prints its answer. The exit code: 0 done, 1 failed, 2 wrong usage.
pub(super) fn finish(
    start: &BenchStart,
    run: impl FnOnce(&BenchOptions) -> Result<BenchAnswer, BenchRefusal>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let done = run(&start.options).map_err(CliError::Bench).and_then(|answer| print(start, &answer, out));
    match done {
        Ok(good) => u8::from(!good),
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            error.exit_code()
        }
    }
}

fn print(start: &BenchStart, answer: &BenchAnswer, out: &mut dyn Write) -> Result<bool, CliError> {
    if let Some(path) = &start.options.plot {
        std::fs::write(path, &answer.plot).map_err(|source| CliError::Plot { path: path.clone(), source })?;
    }
    let mut printer = Printer::new(start.format, out);
    if printer.is_table() {
        printer.raw(answer.table.as_bytes())?;
    } else {
        printer.value(&answer.value)?;
    }
    Ok(answer.good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Outcome, Streams, execute};

    fn start(words: &str) -> BenchStart {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let streams =
            Streams { input: &mut std::io::empty(), out: &mut out, err: &mut err, interactive: false };
        match execute(words.split(' ').map(Into::into), streams) {
            Outcome::RunBench(start) => *start,
            _ => panic!("{}", String::from_utf8_lossy(&err)),
        }
    }

    fn run(words: &str, answer: Result<BenchAnswer, BenchRefusal>) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = finish(&start(words), |_| answer, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err))
    }

    #[test]
    fn options_reach_the_generator() {
        let options = start(
            "vega bench nvme-tcp://h/nqn.a --pattern randrw --read-percent 70 --block-size 8KiB --depth 32 --rate 1e4 \
             --arrival poisson --runtime 2m --spin-us 50 --verify",
        )
        .options;
        assert!(options.random && options.poisson && options.verify && !options.overwrite_data);
        assert_eq!((options.read_percent, options.request_bytes, options.depth), (70, 8192, 32));
        assert_eq!((options.rate_per_second, options.runtime), (Some(1e4), Duration::from_secs(120)));
        assert_eq!(options.spin_us, Some(50));
    }

    #[test]
    fn targets_may_be_words_and_processors_a_list() {
        let options = start(
            "vega bench trtype=pcie traddr=0000:01:00.0 ns=2 --core 2,3 --confirm-serial S1 --no-iommu",
        )
        .options;
        assert_eq!(options.target, "trtype=pcie traddr=0000:01:00.0 ns=2");
        assert_eq!((options.processors, options.confirm_serial.as_deref()), (vec![2, 3], Some("S1")));
        assert!(options.no_iommu);
    }

    #[test]
    fn answers_are_printed_as_asked_and_failures_have_their_codes() {
        let answer = BenchAnswer {
            value: serde_json::json!({"elapsed_s": 1}),
            table: "a table\n".to_owned(),
            plot: String::new(),
            good: true,
        };
        assert_eq!(run("vega bench t", Ok(answer.clone())).1, "a table\n");
        assert!(run("vega bench t -o json", Ok(answer.clone())).1.contains("\"elapsed_s\": 1"));
        assert_eq!(run("vega bench t", Ok(BenchAnswer { good: false, ..answer })).0, 1);
        let refusal = |is_usage| Err(BenchRefusal { message: "no".to_owned(), is_usage });
        assert_eq!(run("vega bench t", refusal(true)), (2, String::new(), "error: no\n".to_owned()));
        assert_eq!(run("vega bench t", refusal(false)).0, 1);
    }
}

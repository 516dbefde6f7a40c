//! What the programs share: words on the command line, one JSON line as the answer.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its purpose"
)]

use std::process::ExitCode;

/// What a program comes to.
pub type Finished<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs the program `name` on the words of its command line, and prints the line that it answers or why there is none.
pub fn main(name: &str, run: impl FnOnce(&[&str]) -> Finished<String>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The figures of a run of I/Os of `io_bytes` each, as the harness reads them: their rate per second, how many failed, and their
/// latencies at the `quantiles` as far as `latency_us` knows them.
pub fn figures(
    rate: f64,
    io_bytes: u32,
    failed: u64,
    quantiles: &[f64],
    latency_us: impl Fn(f64) -> Option<f64>,
) -> String {
    let percentile = |quantile: &f64| Some(format!("\"{}\":{:.2}", quantile * 100.0, latency_us(*quantile)?));
    let percentiles: Vec<String> = quantiles.iter().filter_map(percentile).collect();
    format!(
        "{{\"iops\":{rate:.1},\"bytes_per_second\":{:.0},\"failed\":{failed},\"latency_us\":{{{}}}}}",
        rate * f64::from(io_bytes),
        percentiles.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_leave_out_what_is_not_known() {
        let latency_us = |quantile: f64| (quantile < 0.99).then_some(quantile * 10.0);
        assert_eq!(
            figures(1000.0, 4096, 2, &[0.5, 0.9, 0.99], latency_us),
            r#"{"iops":1000.0,"bytes_per_second":4096000,"failed":2,"latency_us":{"50":5.00,"90":9.00}}"#
        );
        assert!(figures(0.0, 4096, 0, &[0.5], |_| None).ends_with(r#""latency_us":{}}"#));
    }
}

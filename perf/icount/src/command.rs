//! The command line of the programs that run cases.

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A case: its name, what one iteration is, and the function that runs it so often.
pub type Case = (&'static str, &'static str, fn(u64));

/// Does what the command line says with these cases.
pub fn run(cases: &[Case]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for (name, what, _) in cases {
                println!("{name}\t{what}");
            }
            ExitCode::SUCCESS
        }
        ["time", name] => match cases.iter().find(|case| case.0 == *name) {
            Some((_, _, run)) => {
                println!("{:.1}", time_ns(*run));
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        [name, iterations] => match (cases.iter().find(|case| case.0 == *name), iterations.parse()) {
            (Some((_, _, run)), Ok(iterations)) => {
                run(iterations);
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

/// Nanoseconds of one iteration, without what comes before the first one: the best of a few rounds, because whatever
/// disturbs one makes it longer.
fn time_ns(run: fn(u64)) -> f64 {
    let timed = |iterations: u64| {
        let start = Instant::now();
        run(iterations);
        start.elapsed()
    };
    let mut iterations = 1920;
    while timed(iterations) < TIMED {
        iterations *= 2;
    }
    let difference = |_| timed(2 * iterations).saturating_sub(timed(iterations));
    let best = (0..TIMED_ROUNDS).map(difference).min().unwrap_or_default();
    best.as_nanos() as f64 / iterations as f64
}

/// A timed round takes at least so long.
const TIMED: Duration = Duration::from_millis(150);
const TIMED_ROUNDS: u32 = 5;

fn usage() -> ExitCode {
    eprintln!("usage: icount list | icount CASE ITERATIONS | icount time CASE");
    ExitCode::FAILURE
}

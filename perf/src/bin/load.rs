//! A client that is not the bottleneck. One JSON line.
//!
//! `load ADDRESS TARGET LUN PATTERN BYTES DEPTH SECONDS`: `read`, `write`, `randread`, `randwrite` at a
//! steady depth;
//! `load ADDRESS TARGET LUN wake BYTES PAUSE_MS SECONDS`: one random read after every pause;
//! `load ADDRESS TARGET LUN fill BYTES DEPTH 0`: writes every block once;
//! `load ADDRESS TARGET LUN hold SESSIONS 0 SECONDS`: sessions that are logged in and silent.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command-line program: its output is its purpose")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use perf::initiator::Initiator;
use perf::load::{self, Load, Until};
use perf::program::{self, Finished};

const USAGE: &str = "usage: load ADDRESS TARGET LUN read|write|randread|randwrite|wake|fill|hold BYTES|SESSIONS DEPTH|PAUSE_MS SECONDS";
const NAME: &str = "iqn.2026-01.io.vega:load";
const QUANTILES: [f64; 10] = [0.01, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];
const WARM_UP: Duration = Duration::from_millis(500);
/// How often a silent session looks for the target's pings.
const HOLD_TURN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    program::main("load", run)
}

fn run(words: &[&str]) -> Finished<String> {
    let &[address, target, lun, pattern, bytes, depth, seconds] = words else {
        return Err(USAGE.into());
    };
    let (lun, bytes, depth): (u8, u32, u32) = (lun.parse()?, bytes.parse()?, depth.parse()?);
    let measured = Duration::try_from_secs_f64(seconds.parse()?)?;
    let timed = Until::Elapsed { warm_up: WARM_UP, measured };
    let steady = Load { write: false, random: false, bytes, depth, pause: Duration::ZERO };
    let (load, until) = match pattern {
        "read" => (steady, timed),
        "write" => (Load { write: true, ..steady }, timed),
        "randread" => (Load { random: true, ..steady }, timed),
        "randwrite" => (Load { random: true, write: true, ..steady }, timed),
        "fill" => (Load { write: true, ..steady }, Until::Covered),
        "wake" => {
            let pause = Duration::from_millis(u64::from(depth));
            (Load { random: true, depth: 1, pause, ..steady }, timed)
        }
        "hold" => return hold(address, target, lun, bytes, measured),
        _ => return Err(USAGE.into()),
    };
    let mut initiator = Initiator::login(address, NAME, target, lun, 0)?;
    let outcome = load::run(&mut initiator, load, until)?;
    Ok(program::figures(outcome.rate(), load.bytes, outcome.failed, &QUANTILES, |quantile| {
        outcome.latency_us(quantile)
    }))
}

fn hold(address: &str, target: &str, lun: u8, sessions: u32, time: Duration) -> Finished<String> {
    let sessions = u16::try_from(sessions)?;
    let mut held = (0..sessions)
        .map(|session| Initiator::login(address, NAME, target, lun, session))
        .collect::<Result<Vec<_>, _>>()?;
    println!("{{\"held\":{sessions}}}");
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::sleep(HOLD_TURN);
        for initiator in &mut held {
            initiator.turn(&mut Vec::new())?;
        }
    }
    Ok(format!("{{\"released\":{sessions}}}"))
}

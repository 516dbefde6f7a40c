//! `icount CASE ITERATIONS`: runs one hot function so often, to have its instructions counted from outside
//! (`run.sh`).
//!
//! The count of 2n iterations minus the count of n, divided by n, is the cost of one: start-up cancels out.
//! Counts do not depend on the neighbours of a shared machine, so a change of one percent is visible where a
//! clock shows noise of twenty. `icount list` names the cases. Reading order: this file, `blocks`, `pipe`,
//! `path` (iSCSI), `nvme` (NVMe/TCP), `driver` and `emulated` (user-space NVMe).
//!
//! `icount time CASE` says what the clock says of the same function, for reports that show both (`driver.py`).
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its purpose"
)]

mod blocks;
mod driver;
mod emulated;
mod nvme;
mod path;
mod pipe;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A case: its name, what one iteration is, and the function that runs it so often.
type Case = (&'static str, &'static str, fn(u64));

const CASES: &[Case] = &[
    ("ring-one", "one item pushed and popped", blocks::ring_one),
    ("ring-batch", "32 items pushed and popped, one store each way", blocks::ring_batch),
    ("buffer", "a 4 KiB payload taken from the pool and given back", blocks::buffer),
    ("timer", "a timer armed and cancelled", blocks::timer),
    (
        "pdu-command",
        "a SCSI command PDU of 48 bytes from the wire to the task, and its response",
        blocks::pdu_command,
    ),
    ("scsi-read", "READ (16) of 4 KiB in the device server, without the volume", blocks::scsi_read),
    ("volume-read", "a 4 KiB read of a memory volume", blocks::volume_read),
    ("volume-write", "a 4 KiB write to a memory volume", blocks::volume_write),
    ("path-read-1", "a 4 KiB read from wire to wire, alone", path::read_1),
    ("path-read-32", "a 4 KiB read from wire to wire, one of 32 that arrive together", path::read_32),
    ("path-write-1", "a 4 KiB write from wire to wire, alone", path::write_1),
    ("path-write-32", "a 4 KiB write from wire to wire, one of 32 that arrive together", path::write_32),
    ("nvme-read-1", "a 4 KiB read over NVMe/TCP from wire to wire, alone", nvme::read_1),
    ("nvme-read-32", "a 4 KiB read over NVMe/TCP, one of 32 that arrive together", nvme::read_32),
    ("nvme-write-1", "a 4 KiB write over NVMe/TCP from wire to wire, alone", nvme::write_1),
    ("nvme-write-32", "a 4 KiB write over NVMe/TCP, one of 32 that arrive together", nvme::write_32),
    ("driver-1", "a 4 KiB read by the NVMe driver, alone, the device included", driver::driver_1),
    (
        "driver-32",
        "a 4 KiB read by the NVMe driver, one of 32 in a turn, the device included",
        driver::driver_32,
    ),
    ("driver-device-32", "the device's part of that", driver::device_32),
    ("driver-shell-32", "the caller's part of that", driver::shell_32),
    ("emulated-copy", "4 KiB from a medium into a buffer lent to a device", emulated::copy),
    (
        "emulated-read-1",
        "a 4 KiB read by the NVMe driver from an emulated controller, alone",
        emulated::read_1,
    ),
    ("emulated-read-32", "the same, one of 32 in a turn", emulated::read_32),
    ("emulated-write-32", "a 4 KiB write, one of 32 in a turn", emulated::write_32),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for (name, what, _) in CASES {
                println!("{name}\t{what}");
            }
            ExitCode::SUCCESS
        }
        ["time", name] => match CASES.iter().find(|case| case.0 == *name) {
            Some((_, _, run)) => {
                println!("{:.1}", time_ns(*run));
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        [name, iterations] => match (CASES.iter().find(|case| case.0 == *name), iterations.parse()) {
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

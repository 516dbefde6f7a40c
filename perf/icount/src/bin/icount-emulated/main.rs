//! `icount-emulated CASE ITERATIONS`: as `icount`, for the user-space NVMe driver over an emulated controller.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its purpose"
)]

#[path = "../../bring_up.rs"]
mod bring_up;
#[path = "../../command.rs"]
mod command;
mod emulated;

use std::process::ExitCode;

use command::Case;

const CASES: &[Case] = &[
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
    command::run(CASES)
}

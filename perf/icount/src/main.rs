//! `icount CASE ITERATIONS`: runs one hot function so often, to have its instructions counted from outside
//! (`run.sh`).
//!
//! The count of 2n iterations minus the count of n, divided by n, is the cost of one: start-up cancels out.
//! Counts do not depend on the neighbours of a shared machine, so a change of one percent is visible where a
//! clock shows noise of twenty. `icount list` names the cases. Reading order: `command`, this file, `blocks`, `pipe`,
//! `path` (iSCSI), `nvme` (NVMe/TCP), `bring_up`, `driver` (user-space NVMe). `icount-emulated` has cases over another device: in one program
//! with these, functions that both share would be inlined into neither, and the counts would tell of the program.
//!
//! `icount time CASE` says what the clock says of the same function, for reports that show both (`driver.py`).
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its purpose"
)]

mod blocks;
mod bring_up;
mod command;
mod driver;
mod nvme;
mod path;
mod pipe;

use std::process::ExitCode;

use command::Case;

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
];

fn main() -> ExitCode {
    command::run(CASES)
}

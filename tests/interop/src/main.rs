//! The proof harness: a real target process against real and hostile peers.
//!
//! It is: one program that starts `vega node` on a port and in a directory of its own, lets a peer at it,
//! and reports one line per check. Suites: `conformance` (libiscsi's suite), `qemu` (QEMU's tools and a file
//! system), `crash` (kill -9 with a verifier that keeps its own log), `load` (a thousand connections, slow
//! and stuck peers), `hostile` (malformed and hostile PDUs), `restart` (data after a clean stop), `nvmf_load` and
//! `nvmf_hostile` (the same two over NVMe/TCP), `wire` (what we send, as tshark decodes it).
//! It is not: a unit test, a benchmark, or a place for knowledge about the inside of the target.
//!
//! Reading order: the crate `harness`, `server` (the target under test), then a suite.
//!
//! `--server tgt` runs the same suites against another target, which shows that the harness itself is right.

#![forbid(unsafe_code)]

mod conformance;
mod crash;
mod cunit;
mod hostile;
mod hostile_login;
mod hostile_scsi;
mod hostile_session;
mod iscsi_witness;
mod limits;
mod load;
mod metrics;
mod nvmf_hostile;
mod nvmf_hostile_command;
mod nvmf_hostile_pdu;
mod nvmf_load;
mod nvmf_witness;
mod options;
mod pcap;
mod qemu;
mod relay;
mod restart;
mod scene;
mod server;
mod slow_readers;
mod wire;
mod wire_runs;
mod witness;

use std::process::ExitCode;

use harness::{failure, process, report, seed};
use options::Options;
use report::Report;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(failure) => {
            report::say(&format!("interop: {failure}\n{}", options::USAGE));
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options.only.clone());
    for suite in &options.suites {
        report.suite(suite.name());
        suite.run(&mut report, &options);
    }
    report.finish()
}

//! NVMe controllers of the guest, driven from user space over VFIO.
//!
//! It is: a static program with one command for each thing that a driver must show on real registers and memory, and a
//! verified load whose journal outlives the process and the machine.
//! It is not: what checks the driver where everything can be made to go wrong (that is done on the emulated controller).
//!
//! Reading order: `journal`, `rig`, `load`, `checks`, `subject`, `raw`, this file.

#![forbid(unsafe_code)]

mod checks;
mod journal;
mod load;
mod raw;
mod rig;
mod subject;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use harness::failure::{Context, Failure, Outcome, fail};
use harness::report::say;
use journal::Journal;
use load::Load;

const USAGE: &str = "usage: vm_nvme registers ADDRESS
       vm_nvme stray-write ADDRESS
       vm_nvme identify ADDRESS
       vm_nvme conformance ADDRESS NSID
       vm_nvme media ADDRESS UNREADABLE UNWRITABLE
       vm_nvme slow ADDRESS
       vm_nvme load ADDRESS NSID JOURNAL STOP [resets | until-gone]
       vm_nvme load-disk DISK JOURNAL STOP
       vm_nvme flushed JOURNAL
       vm_nvme verify ADDRESS NSID JOURNAL
       vm_nvme verify-disk DISK JOURNAL";

/// Flushes between two resets of a load with resets.
const RESET_EVERY: u64 = 5;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody to tell is no reason to hide the exit code.
            let _ = writeln!(std::io::stderr(), "vm_nvme: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn number<N: std::str::FromStr>(word: &str) -> Outcome<N> {
    word.parse().map_err(|_| Failure::new(format!("{word:?} is no number")))
}

fn dispatch(words: &[&str]) -> Outcome {
    match *words {
        ["registers", address] => rig::open(address).and_then(raw::registers),
        ["stray-write", address] => rig::open(address).and_then(raw::stray_write),
        ["identify", address] => checks::identify(address),
        ["conformance", address, nsid] => checks::conformance(address, number(nsid)?),
        ["media", address, unreadable, unwritable] => {
            checks::media(address, number(unreadable)?, number(unwritable)?)
        }
        ["slow", address] => checks::slow(address),
        ["load", address, nsid, journal, stop, ref rest @ ..] => {
            let (reset_every, until_gone) = match rest {
                [] => (None, false),
                ["resets"] => (Some(RESET_EVERY), false),
                ["until-gone"] => (None, true),
                _ => return fail(USAGE),
            };
            let (journal, stop) = (Path::new(journal), Path::new(stop));
            load::run(Load { address, nsid: number(nsid)?, journal, stop, reset_every, until_gone })
        }
        ["load-disk", disk, journal, stop] => {
            load::run_on_disk(Path::new(disk), Path::new(journal), Path::new(stop))
        }
        ["flushed", journal] => {
            let journal = Journal::load(Path::new(journal)).context("the journal")?;
            say(&journal.flushed.saturating_sub(journal.first).to_string());
            Ok(())
        }
        ["verify", address, nsid, journal] => load::verify(address, number(nsid)?, Path::new(journal)),
        ["verify-disk", disk, journal] => load::verify_disk(Path::new(disk), Path::new(journal)),
        _ => fail(USAGE),
    }
}

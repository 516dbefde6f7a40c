//! Verified load on a block device, in the guest.
//!
//! It is: a static program that keeps stamped writes in flight on a device, past the page cache, and remembers which
//! were acknowledged. A block must hold the last acknowledged content, or that of a write whose end is unknown.
//! It is not: a benchmark, or anything that knows which protocol is below the device.
//!
//! Reading order: the crate `harness` (`ledger`), `options`, `device`, this file.

#![forbid(unsafe_code)]

mod device;
mod options;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

use device::Device;
use harness::failure::{Context, Outcome, ensure, fail};
use harness::ledger::{Ledger, ZEROS};
use harness::report::say;
use harness::seed::Seed;
use options::{Options, Verb};

/// The progress file is renewed after so many writes.
const PROGRESS_EVERY: u64 = 16;
/// Blocks of one read of the verification.
const READ_BLOCKS: u64 = 64;

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1)).and_then(|options| match options.verb {
        Verb::Write => write(&options, false),
        Verb::Verify => verify(&options, false),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody to tell is no reason to hide the exit code.
            let _ = writeln!(std::io::stderr(), "vm_load: {failure}\n{}", options::USAGE);
            ExitCode::FAILURE
        }
    }
}

/// What all writers share.
struct Shared {
    ledger: Ledger,
    chance: Seed,
    next_number: u64,
    acknowledged: u64,
    failed: u64,
    first_failure: Option<String>,
}

fn write(options: &Options, cached: bool) -> Outcome {
    let device = Device::open(&options.device, cached)?;
    let ledger = match std::fs::read_to_string(&options.ledger) {
        Ok(text) => Ledger::from_text(&text)?,
        Err(_) => Ledger::new(options.blocks, options.block_bytes),
    };
    // Numbers of an earlier run are not used again.
    let next_number = ledger.highest_number() + 1;
    let chance = Seed::new(options.seed ^ next_number);
    let shared = Shared { ledger, chance, next_number, acknowledged: 0, failed: 0, first_failure: None };
    let shared = Mutex::new(shared);
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..options.depth).map(|_| scope.spawn(|| write_until(options, &device, &shared))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer that fails says so"))
    })?;
    let shared = shared.into_inner().expect("no writer panicked");
    std::fs::write(&options.ledger, shared.ledger.to_text())?;
    report_progress(options, shared.acknowledged)?;
    say(&format!("{} writes acknowledged, {} failed", shared.acknowledged, shared.failed));
    match shared.first_failure {
        Some(failure) if !options.go_on => fail(format!("a write failed: {failure}")),
        _ => Ok(()),
    }
}

/// One writer: one write in flight.
fn write_until(options: &Options, device: &Device, shared: &Mutex<Shared>) -> Outcome {
    let lock = || shared.lock().expect("no writer panicked");
    loop {
        let told_to_stop = options.until.as_ref().is_some_and(|path| path.exists());
        let (extent, number, content, wants_flush) = {
            let mut shared = lock();
            let broken = shared.failed > 0 && !options.go_on;
            if told_to_stop || broken || shared.acknowledged >= options.writes {
                return Ok(());
            }
            let shared = &mut *shared;
            let Some(extent) = shared.ledger.draw_free(&mut shared.chance, options.blocks_per_io) else {
                return fail("so many writes failed that no block is left");
            };
            let kind = shared.chance.below(32);
            let number = if kind == 0 { ZEROS } else { shared.next_number };
            shared.next_number += 1;
            shared.ledger.begin(extent, number);
            (extent, number, shared.ledger.content(extent, number), kind == 1)
        };
        let outcome = device.write(&content, extent.lba * options.block_bytes as u64);
        let outcome = outcome.and_then(|()| if wants_flush { device.flush() } else { Ok(()) });
        let mut shared = lock();
        match outcome {
            Ok(()) => {
                shared.ledger.acknowledge(extent, number);
                shared.acknowledged += 1;
                if shared.acknowledged.is_multiple_of(PROGRESS_EVERY) {
                    report_progress(options, shared.acknowledged)?;
                }
            }
            Err(failure) => {
                shared.failed += 1;
                shared.first_failure.get_or_insert(failure.to_string());
            }
        }
    }
}

/// Replaced, not rewritten: whoever reads it finds a number.
fn report_progress(options: &Options, acknowledged: u64) -> Outcome {
    let Some(path) = &options.progress else { return Ok(()) };
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{acknowledged}\n"))?;
    Ok(std::fs::rename(beside, path)?)
}

fn verify(options: &Options, cached: bool) -> Outcome {
    let device = Device::open(&options.device, cached)?;
    let text = std::fs::read_to_string(&options.ledger).context("reading the ledger")?;
    let mut ledger = Ledger::from_text(&text)?;
    for round in ["first", "second"] {
        for lba in (0..ledger.blocks()).step_by(READ_BLOCKS as usize) {
            let blocks = READ_BLOCKS.min(ledger.blocks() - lba);
            let block_bytes = ledger.block_bytes();
            let content = device.read(blocks as usize * block_bytes, lba * block_bytes as u64);
            ledger.check(lba, &content?).context(&format!("{round} reading"))?;
        }
    }
    let written = ledger.highest_number();
    ensure(written > 0, || "the ledger is of no write".to_owned())?;
    std::fs::write(&options.ledger, ledger.to_text())?;
    say(&format!("{} blocks hold what was acknowledged", ledger.blocks()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &std::path::Path, verb: &str) -> Options {
        let device = directory.join("device");
        let ledger = directory.join("ledger");
        let line =
            format!("{verb} {} --ledger {} --writes 100 --depth 2", device.display(), ledger.display());
        Options::parse(line.split_whitespace().map(str::to_owned)).expect("a correct line")
    }

    /// A file in memory stands in for the device; not every file system of a temporary directory knows direct I/O.
    #[test]
    fn what_was_written_verifies_and_what_was_changed_does_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let device = directory.path().join("device");
        std::fs::File::create(&device).and_then(|file| file.set_len(8 << 20)).expect("a sparse file");
        write(&options(directory.path(), "write"), true).expect("100 writes");
        verify(&options(directory.path(), "verify"), true).expect("nothing is lost");
        write(&options(directory.path(), "write"), true).expect("100 more on top of them");
        verify(&options(directory.path(), "verify"), true).expect("nothing is lost");
        let ledger = std::fs::read_to_string(directory.path().join("ledger")).expect("a ledger");
        let line = ledger.lines().nth(1).expect("a block that was written");
        let lba: u64 = line.split(' ').next().and_then(|word| word.parse().ok()).expect("its address");
        let lost = Device::open(&device, true).expect("the device");
        lost.write(&[7; 4096], lba * 4096).expect("a block that loses its content");
        let failure = verify(&options(directory.path(), "verify"), true).expect_err("the change is seen");
        assert!(failure.to_string().contains(&format!("LBA {lba}")), "{failure}");
    }
}

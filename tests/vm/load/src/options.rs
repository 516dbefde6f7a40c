//! The command line of the load.

use std::path::PathBuf;

use harness::failure::{Failure, Outcome, ensure, fail};

/// What `--help` says.
pub const USAGE: &str = "usage: vm_load write DEVICE --ledger FILE [options]   writes until told to stop
       vm_load verify DEVICE --ledger FILE            checks every block of the ledger, twice
options of write:
  --writes N          stop after so many acknowledged writes [10000]
  --until FILE        stop as soon as this file exists
  --progress FILE     keep the number of acknowledged writes there
  --depth N           writes in flight [8]
  --blocks N          blocks that are written [2048]
  --block-bytes N     bytes of a block, a multiple of the logical block size [4096]
  --blocks-per-io N   blocks of one write at most [8]
  --seed N            where all chance comes from [1]
  --go-on             a failed write is one whose end is unknown, and no reason to stop";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Write,
    Verify,
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    pub verb: Verb,
    pub device: PathBuf,
    pub ledger: PathBuf,
    pub writes: u64,
    pub until: Option<PathBuf>,
    pub progress: Option<PathBuf>,
    pub depth: u64,
    pub blocks: u64,
    pub block_bytes: usize,
    pub blocks_per_io: u64,
    pub seed: u64,
    pub go_on: bool,
}

impl Options {
    /// Parses everything after the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let verb = match arguments.next().as_deref() {
            Some("write") => Verb::Write,
            Some("verify") => Verb::Verify,
            other => return fail(format!("write or verify, not {other:?}")),
        };
        let device = arguments.next().map(PathBuf::from).ok_or_else(|| Failure::new("which device?"))?;
        let mut options = Self {
            verb,
            device,
            ledger: PathBuf::new(),
            writes: 10_000,
            until: None,
            progress: None,
            depth: 8,
            blocks: 2048,
            block_bytes: 4096,
            blocks_per_io: 8,
            seed: 1,
            go_on: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")));
            match argument.as_str() {
                "--ledger" => options.ledger = value()?.into(),
                "--writes" => options.writes = value()?.parse()?,
                "--until" => options.until = Some(value()?.into()),
                "--progress" => options.progress = Some(value()?.into()),
                "--depth" => options.depth = value()?.parse()?,
                "--blocks" => options.blocks = value()?.parse()?,
                "--block-bytes" => options.block_bytes = value()?.parse()?,
                "--blocks-per-io" => options.blocks_per_io = value()?.parse()?,
                "--seed" => options.seed = value()?.parse()?,
                "--go-on" => options.go_on = true,
                other => return fail(format!("unknown argument {other:?}")),
            }
        }
        options.validate()?;
        Ok(options)
    }

    fn validate(&self) -> Outcome {
        ensure(!self.ledger.as_os_str().is_empty(), || "which ledger?".to_owned())?;
        ensure(self.depth >= 1 && self.blocks_per_io >= 1, || "nothing would be written".to_owned())?;
        // Otherwise there may be no place that is not in flight, and the load would only look for one.
        ensure(self.blocks >= 4 * self.depth * self.blocks_per_io, || {
            format!("{} blocks are too few for that depth", self.blocks)
        })?;
        ensure(self.block_bytes >= 512 && self.block_bytes.is_power_of_two(), || {
            "a block has 512 bytes, or a higher power of two".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn verbs_and_options_are_read() {
        let options =
            parse("write /dev/sda --ledger l --writes 5 --depth 4 --go-on").expect("a correct line");
        assert_eq!((options.verb, options.writes, options.depth, options.go_on), (Verb::Write, 5, 4, true));
        assert_eq!(parse("verify /dev/sda --ledger l").expect("a correct line").verb, Verb::Verify);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "write",
            "write /dev/sda",
            "read /dev/sda --ledger l",
            "write /dev/sda --ledger l --depth 0",
            "write /dev/sda --ledger l --blocks 10",
            "write /dev/sda --ledger l --block-bytes 1000",
            "write /dev/sda --ledger l --what 1",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}

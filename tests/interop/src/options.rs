//! The command line of the harness.

use std::path::PathBuf;

use crate::failure::{Failure, fail};
use crate::report::Report;
use crate::server::Kind;
use crate::{conformance, crash, hostile, load, nvmf_hostile, nvmf_load, qemu, restart, wire};

/// What `--help` says.
pub const USAGE: &str =
    "usage: interop [--server vega|tgt] [--vega PATH] [--quick] [--seed N] [--only TEXT] SUITE...
suites: conformance qemu crash load hostile restart nvmf_hostile nvmf_load wire all";

/// One suite of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Conformance,
    Qemu,
    Crash,
    Load,
    Hostile,
    Restart,
    NvmfHostile,
    NvmfLoad,
    Wire,
}

impl Suite {
    const ALL: [Self; 9] = [
        Self::Conformance,
        Self::Qemu,
        Self::Restart,
        Self::Wire,
        Self::Hostile,
        Self::NvmfHostile,
        Self::Load,
        Self::NvmfLoad,
        Self::Crash,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conformance => "conformance",
            Self::Qemu => "qemu",
            Self::Crash => "crash",
            Self::Load => "load",
            Self::Hostile => "hostile",
            Self::Restart => "restart",
            Self::NvmfHostile => "nvmf_hostile",
            Self::NvmfLoad => "nvmf_load",
            Self::Wire => "wire",
        }
    }

    /// Runs its checks.
    pub fn run(self, report: &mut Report, options: &Options) {
        match self {
            Self::Conformance => conformance::run(report, options),
            Self::Qemu => qemu::run(report, options),
            Self::Crash => crash::run(report, options),
            Self::Load => load::run(report, options),
            Self::Hostile => hostile::run(report, options),
            Self::Restart => restart::run(report, options),
            Self::NvmfHostile => nvmf_hostile::run(report, options),
            Self::NvmfLoad => nvmf_load::run(report, options),
            Self::Wire => wire::run(report, options),
        }
    }
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which target is under test.
    pub kind: Kind,
    /// The `vega` program.
    pub vega: PathBuf,
    /// Fewer rounds and connections.
    pub quick: bool,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Run only checks whose name contains this.
    pub only: Option<String>,
    /// What to run, in order.
    pub suites: Vec<Suite>,
}

impl Options {
    /// Parses everything after the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            kind: Kind::Vega,
            vega: PathBuf::from("target/release/vega"),
            quick: false,
            seed: 1,
            only: None,
            suites: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")));
            match argument.as_str() {
                "--server" => options.kind = Kind::parse(&value()?)?,
                "--vega" => options.vega = PathBuf::from(value()?),
                "--quick" => options.quick = true,
                "--seed" => options.seed = value()?.parse()?,
                "--only" => options.only = Some(value()?),
                "all" => options.suites.extend(Suite::ALL),
                name => match Suite::ALL.iter().find(|suite| suite.name() == name) {
                    Some(suite) => options.suites.push(*suite),
                    None => return fail(format!("unknown argument {name:?}")),
                },
            }
        }
        if options.suites.is_empty() { fail("which suite?") } else { Ok(options) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn suites_and_options_are_read() {
        let options = parse("--server tgt --seed 9 --quick crash load").expect("a correct line");
        assert_eq!((options.kind, options.seed, options.quick), (Kind::Tgt, 9, true));
        assert_eq!(options.suites, [Suite::Crash, Suite::Load]);
        assert_eq!(parse("all").expect("all suites").suites.len(), Suite::ALL.len());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "nonsense", "--seed", "--seed x all", "--server lio all"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}

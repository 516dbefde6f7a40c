//! The command line of the harness.

use std::path::PathBuf;

use harness::failure::{Failure, Outcome, ensure, fail};

/// What `--help` says.
pub const USAGE: &str = "usage: vm [options] prepare     make the image from the packages in the cache
       vm [options] run [GROUP...] run the cases of these groups [all]
       vm [options] list           name every case
       vm [options] shell [GROUP]  a guest with a shell on this terminal (and the group's devices); leave it with `exit`
groups: iscsi scsi nvmf nvme
options:
  --only TEXT      only cases whose name contains this
  --each           a guest for each case, instead of one until a case fails
  --kernel X.Y     with this kernel, or with \"all\" that are prepared [the newest]
  --vega PATH      the static vega
  --load PATH      the static vm_load
  --nvme PATH      the static vm_nvme
  --fio-engine PATH  the engine for the guest's fio; its case fails without one [target/libvega_fio.so]
  --cache DIR      where packages and images are [$VEGA_CACHE/vm or .cache/vm]
  --logs DIR       where what guests said is kept [target/vm-logs]";

/// The folders of `cases`.
pub const GROUPS: [&str; 4] = ["iscsi", "nvme", "nvmf", "scsi"];

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    Prepare,
    Run(Vec<String>),
    List,
    /// With the devices of a group.
    Shell(Option<String>),
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    pub verb: Verb,
    pub only: Option<String>,
    pub each: bool,
    pub kernel: Option<String>,
    pub vega: PathBuf,
    pub load: PathBuf,
    pub nvme: PathBuf,
    pub fio_engine: PathBuf,
    pub cache: PathBuf,
    pub logs: PathBuf,
}

impl Options {
    /// Parses everything after the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>, cache: Option<PathBuf>) -> Outcome<Self> {
        let programs = PathBuf::from("target/vm/x86_64-unknown-linux-gnu/guest");
        let mut options = Self {
            verb: Verb::List,
            only: None,
            each: false,
            kernel: None,
            vega: programs.join("vega"),
            load: programs.join("vm_load"),
            nvme: programs.join("vm_nvme"),
            fio_engine: PathBuf::from("target/libvega_fio.so"),
            cache: cache.unwrap_or_else(|| PathBuf::from(".cache")).join("vm"),
            logs: PathBuf::from("target/vm-logs"),
        };
        let mut words = Vec::new();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")));
            match argument.as_str() {
                "--only" => options.only = Some(value()?),
                "--each" => options.each = true,
                "--kernel" => options.kernel = Some(value()?),
                "--vega" => options.vega = value()?.into(),
                "--load" => options.load = value()?.into(),
                "--nvme" => options.nvme = value()?.into(),
                "--fio-engine" => options.fio_engine = value()?.into(),
                "--cache" => options.cache = value()?.into(),
                "--logs" => options.logs = value()?.into(),
                option if option.starts_with('-') => return fail(format!("unknown argument {option:?}")),
                _ => words.push(argument),
            }
        }
        options.verb = verb(words)?;
        // Programs of the cache are run with their own loader, which takes no relative path.
        options.cache = std::path::absolute(&options.cache)?;
        Ok(options)
    }
}

fn verb(words: Vec<String>) -> Outcome<Verb> {
    let mut words = words.into_iter();
    let verb = words.next();
    let groups: Vec<String> = words.collect();
    match (verb.as_deref(), groups.is_empty()) {
        (Some("prepare"), true) => Ok(Verb::Prepare),
        (Some("list"), true) => Ok(Verb::List),
        (Some("shell"), true) => Ok(Verb::Shell(None)),
        (Some("shell"), false) => {
            ensure(groups.len() == 1 && GROUPS.contains(&groups[0].as_str()), || {
                format!("no such group: {}", groups.join(" "))
            })?;
            Ok(Verb::Shell(groups.into_iter().next()))
        }
        (Some("run"), true) => Ok(Verb::Run(GROUPS.map(str::to_owned).to_vec())),
        (Some("run"), false) => {
            for group in &groups {
                ensure(GROUPS.contains(&group.as_str()), || format!("no such group: {group}"))?;
            }
            Ok(Verb::Run(groups))
        }
        _ => fail("what is to be done?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned), None)
    }

    #[test]
    fn verbs_groups_and_options_are_read() {
        let options = parse("--only chap --each run iscsi").expect("a correct line");
        assert_eq!(options.verb, Verb::Run(vec!["iscsi".to_owned()]));
        assert!(options.each && options.only.as_deref() == Some("chap"));
        assert_eq!(parse("run").expect("defaults").verb, Verb::Run(GROUPS.map(str::to_owned).to_vec()));
        assert!(parse("--cache x prepare").expect("a relative cache").cache.is_absolute());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "nonsense", "run nothing", "--only", "--what run", "list iscsi", "shell nothing"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}

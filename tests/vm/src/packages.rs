//! What `scripts/install.sh vm` left in the cache: unpacked packages, and how to use programs from them.
//!
//! Nothing of it is installed. A program runs with the dynamic loader and the libraries that were unpacked beside it,
//! so that the machine's own versions do not matter.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::failure::{Context, Failure, Outcome, ensure};
use harness::process::run_well;

use crate::limits;

/// The last has what librados is linked with, which finds it by a path of its own.
const LIBRARY_FOLDERS: [&str; 3] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/ceph"];
const PROGRAM_FOLDERS: [&str; 4] = ["usr/sbin", "sbin", "usr/bin", "bin"];
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
/// Written last, so that a folder which has it is whole.
const VERSIONS: &str = "versions";

/// One unpacked set of packages.
#[derive(Clone, Debug)]
pub struct Packages {
    root: PathBuf,
}

impl Packages {
    /// The set `name` below `cache`.
    pub fn find(cache: &Path, name: &str) -> Outcome<Self> {
        let packages = Self { root: cache.join(name) };
        ensure(packages.root.join(VERSIONS).exists(), || {
            format!("{} is missing; scripts/install.sh vm prepares it", packages.root.display())
        })?;
        Ok(packages)
    }

    /// Each package and its version, one per line.
    pub fn versions(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(self.root.join(VERSIONS))?)
    }

    /// Where it was unpacked.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a program.
    pub fn program(&self, name: &str) -> Outcome<PathBuf> {
        let found =
            PROGRAM_FOLDERS.iter().map(|folder| self.root.join(folder).join(name)).find(|path| path.exists());
        found.ok_or_else(|| Failure::new(format!("no package has the program {name}")))
    }

    /// A library that programs open by name at run time.
    pub fn library(&self, name: &str) -> Outcome<PathBuf> {
        let found =
            LIBRARY_FOLDERS.iter().map(|folder| self.root.join(folder).join(name)).find(|path| path.exists());
        found.ok_or_else(|| Failure::new(format!("no package has the library {name}")))
    }

    fn library_path(&self) -> String {
        LIBRARY_FOLDERS.map(|folder| self.root.join(folder).display().to_string()).join(":")
    }

    /// The dynamic loader with the libraries of this set, to be followed by a program.
    fn loader(&self) -> Command {
        let mut command = Command::new(self.root.join(LOADER));
        command.args(["--inhibit-cache", "--library-path", &self.library_path()]);
        command
    }

    /// A program of this set, to be run on this machine under the name `called`: some are many programs in one.
    pub fn command(&self, name: &str, called: &str) -> Outcome<Command> {
        let mut command = self.loader();
        command.args(["--argv0", called]).arg(self.program(name)?);
        Ok(command)
    }

    /// The libraries that `program` is linked with, the loader included, as paths below the root.
    pub fn libraries_of(&self, program: &Path) -> Outcome<Vec<PathBuf>> {
        let mut command = self.loader();
        let listing = run_well(command.arg("--list").arg(program), limits::PREPARE_PATIENCE)
            .context(&format!("the libraries of {}", program.display()))?;
        let mut libraries = vec![PathBuf::from(LOADER)];
        for line in listing.lines() {
            if let Some((name, place)) = line.split_once(" => ") {
                let place = Path::new(place.split_whitespace().next().unwrap_or_default());
                let relative = place.strip_prefix(&self.root);
                let relative =
                    relative.map_err(|_| Failure::new(format!("{} was not found", name.trim())))?;
                libraries.push(relative.to_owned());
            }
        }
        Ok(libraries)
    }
}

/// QEMU: the machine's own, or the one in the cache.
pub fn qemu(cache: &Path) -> Outcome<Command> {
    const PROGRAM: &str = "qemu-system-x86_64";
    if let Ok(packages) = Packages::find(cache, "qemu") {
        let share = packages.root().join("usr/share");
        let mut command = packages.command(PROGRAM, PROGRAM)?;
        command.env("QEMU_MODULE_DIR", packages.root().join("usr/lib/x86_64-linux-gnu/qemu"));
        command.arg("-L").arg(share.join("qemu")).arg("-L").arg(share.join("seabios"));
        return Ok(command);
    }
    run_well(Command::new(PROGRAM).arg("--version"), limits::PREPARE_PATIENCE)
        .context("there is no QEMU; scripts/install.sh vm prepares one")?;
    Ok(Command::new(PROGRAM))
}

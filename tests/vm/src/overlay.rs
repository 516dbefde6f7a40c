//! The small archive of one guest: the target, the load, the scripts, and the list of cases to run.

use std::path::Path;

use harness::failure::{Context, Outcome};

use crate::cases::Case;
use crate::cpio::Archive;
use crate::limits;

/// What goes into the guest beside the image.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// The static `vega`.
    pub vega: &'a Path,
    /// The static `vm_load`.
    pub load: &'a Path,
    /// The static `vm_nvme`.
    pub nvme: &'a Path,
    /// The engine for the guest's fio, where one was built.
    pub fio_engine: &'a Path,
    /// `tests/vm/guest`.
    pub scripts: &'a Path,
}

impl Contents<'_> {
    /// The archive of a guest that runs `cases`, or that waits for a person when there are none.
    /// `cuts` is how often the power was cut in the first of them.
    pub fn archive(&self, cases: &[Case], cuts: u32) -> Outcome<Vec<u8>> {
        let mut archive = Archive::default();
        let programs = [(self.vega, "/vm/vega"), (self.load, "/vm/vm_load"), (self.nvme, "/vm/vm_nvme")];
        for (program, path) in programs {
            let content = std::fs::read(program).context(&format!("reading {}", program.display()))?;
            archive.file(path, 0o755, &content)?;
        }
        if self.fio_engine.exists() {
            archive.file("/vm/libvega_fio.so", 0o755, &std::fs::read(self.fio_engine)?)?;
        }
        for entry in std::fs::read_dir(self.scripts)? {
            let path = entry?.path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let place = if name == "init" { "/init".to_owned() } else { format!("/vm/{name}") };
            archive.file(&place, 0o755, &std::fs::read(&path)?)?;
        }
        let mut list = String::new();
        for case in cases {
            archive.file(&case.guest_path(), 0o755, &std::fs::read(&case.path)?)?;
            list += &format!("{} {}\n", case.full_name(), case.guest_path());
        }
        archive.file("/vm/cases/list", 0o644, list.as_bytes())?;
        archive.file("/vm/cuts", 0o644, format!("{cuts}\n").as_bytes())?;
        archive.file("/vm/case-patience", 0o644, format!("{}\n", limits::CASE_PATIENCE_S).as_bytes())?;
        archive.finish()
    }
}

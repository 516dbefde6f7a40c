//! What is mounted from where, and what is swapped to.

use std::path::{Path, PathBuf};

use crate::attribute;
use crate::host::Roots;

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `major:minor`; that of a filesystem over several devices is made up.
    device: String,
    at: String,
    /// Where it says that it comes from: a path is followed, since a mount may name a link. Of a FUSE it is whatever the program
    /// that serves it says, and its number says nothing of a disk, so a user of a disk may be seen by this alone.
    source: String,
    /// The kind of filesystem.
    kind: String,
}

/// A place where a disk is mounted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MountedAt {
    pub(crate) at: String,
    /// A program serves it, not the kernel.
    pub(crate) by_program: bool,
}

/// Where a path leads, as far as it leads anywhere.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The mounts and swap areas of a machine, read once.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    mounts: Vec<Mount>,
    swaps: Vec<PathBuf>,
}

impl Mounts {
    pub(crate) fn read(roots: &Roots) -> Self {
        // Those of this process and, from inside a container, those of the machine.
        let mounts = ["self/mountinfo", "1/mountinfo"]
            .iter()
            .flat_map(|table| {
                let table = attribute::table(&roots.proc.join(table));
                table.lines().filter_map(mount).collect::<Vec<_>>()
            })
            .map(|mount| {
                // Links are made in /dev; following other sources could wait for a server that is away.
                let source = Path::new(&mount.source);
                let source =
                    if source.starts_with(&roots.dev) { resolved(source) } else { source.to_owned() };
                Mount { source: source.to_string_lossy().into_owned(), ..mount }
            })
            .collect();
        let swaps = attribute::table(&roots.proc.join("swaps"));
        let areas = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        Self { mounts, swaps: areas.map(|area| resolved(Path::new(&unescaped(area)))).collect() }
    }

    /// Where the device with that number or path is mounted.
    pub(crate) fn of(&self, number: Option<&str>, path: &Path) -> Vec<MountedAt> {
        let is_it = |mount: &&Mount| {
            number.is_some_and(|number| number == mount.device) || Path::new(&mount.source) == path
        };
        let place = |mount: &Mount| MountedAt {
            at: mount.at.clone(),
            by_program: mount.kind == "fuse" || mount.kind.starts_with("fuse."),
        };
        let mut places: Vec<_> = self.mounts.iter().filter(is_it).map(place).collect();
        places.sort();
        places.dedup();
        places
    }

    pub(crate) fn swaps_to(&self, path: &Path) -> bool {
        self.swaps.iter().any(|area| area == path)
    }
}

/// A line of `mountinfo`: fields, a dash, the kind, the source.
fn mount(line: &str) -> Option<Mount> {
    let (place, filesystem) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let device = place.next()?.to_owned();
    let at = unescaped(place.nth(1)?);
    let mut filesystem = filesystem.split(' ');
    let kind = filesystem.next()?.to_owned();
    let source = unescaped(filesystem.next()?);
    Some(Mount { device, at, source, kind })
}

/// Blanks and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line = r"36 35 259:3 / /mnt/a\040b rw,noatime master:1 - ext4 /dev/nvme0n1p2 rw,errors=continue";
        let (device, at, source) = ("259:3".into(), "/mnt/a b".into(), "/dev/nvme0n1p2".into());
        assert_eq!(mount(line), Some(Mount { device, at, source, kind: "ext4".into() }));
        let bare = mount("1 2 0:5 / /dev rw - devtmpfs udev rw").unwrap();
        assert_eq!((bare.device.as_str(), bare.at.as_str(), bare.source.as_str()), ("0:5", "/dev", "udev"));
        for broken in ["", "36 35", "36 35 259:3 / /mnt", "a - b"] {
            assert_eq!(mount(broken), None, "{broken}");
        }
        assert_eq!(unescaped(r"a\134b\9\04"), r"a\b\9\04");
    }
}

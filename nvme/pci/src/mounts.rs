//! What is mounted from where, and what is swapped to.

use std::path::PathBuf;

use crate::attribute;
use crate::host::Roots;

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `major:minor`; that of a filesystem over several devices is made up.
    device: String,
    at: String,
    source: String,
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
            .collect();
        let swaps = attribute::table(&roots.proc.join("swaps"));
        let areas = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        Self { mounts, swaps: areas.map(|area| unescaped(area).into()).collect() }
    }

    /// Where the device with that number or path is mounted.
    pub(crate) fn of(&self, number: Option<&str>, path: &std::path::Path) -> Vec<String> {
        let is_it = |mount: &&Mount| {
            number.is_some_and(|number| number == mount.device) || std::path::Path::new(&mount.source) == path
        };
        let mut places: Vec<String> =
            self.mounts.iter().filter(is_it).map(|mount| mount.at.clone()).collect();
        places.sort();
        places.dedup();
        places
    }

    pub(crate) fn swaps_to(&self, path: &std::path::Path) -> bool {
        self.swaps.iter().any(|area| area == path)
    }
}

/// A line of `mountinfo`: fields, a dash, the kind, the source.
fn mount(line: &str) -> Option<Mount> {
    let (place, filesystem) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let device = place.next()?.to_owned();
    let at = unescaped(place.nth(1)?);
    let source = unescaped(filesystem.split(' ').nth(1)?);
    Some(Mount { device, at, source })
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
        assert_eq!(mount(line), Some(Mount { device, at, source }));
        let bare = mount("1 2 0:5 / /dev rw - devtmpfs udev rw").unwrap();
        assert_eq!((bare.device.as_str(), bare.at.as_str(), bare.source.as_str()), ("0:5", "/dev", "udev"));
        for broken in ["", "36 35", "36 35 259:3 / /mnt", "a - b"] {
            assert_eq!(mount(broken), None, "{broken}");
        }
        assert_eq!(unescaped(r"a\134b\9\04"), r"a\b\9\04");
    }
}

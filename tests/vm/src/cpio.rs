//! The archive that Linux unpacks into its first file system ("newc": ASCII headers, 4-byte alignment).
//!
//! Archives that follow each other are unpacked one after the other, so that the large part is made once.

use std::collections::BTreeSet;

use harness::failure::{Outcome, ensure};

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const TRAILER: &str = "TRAILER!!!";

/// An archive in the making. Paths are absolute; their folders come by themselves.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    next_inode: u32,
}

impl Archive {
    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Outcome {
        self.folders_of(path)?;
        self.entry(path, FILE | mode, (0, 0), content)
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> Outcome {
        self.folders_of(path)?;
        if self.folders.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
        } else {
            Ok(())
        }
    }

    /// Adds a symbolic link at `path`.
    pub fn link(&mut self, path: &str, to: &str) -> Outcome {
        self.folders_of(path)?;
        self.entry(path, SYMBOLIC_LINK | 0o777, (0, 0), to.as_bytes())
    }

    /// Adds a character device, for the time before devices are mounted.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Outcome {
        self.folders_of(path)?;
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[])
    }

    fn folders_of(&mut self, path: &str) -> Outcome {
        ensure(path.starts_with('/'), || format!("{path:?} is not absolute"))?;
        match path.rsplit_once('/') {
            Some(("", _)) | None => Ok(()),
            Some((folder, _)) => self.folder(folder),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Outcome {
        let name = path.trim_start_matches('/');
        self.next_inode += 1;
        let length_bytes = u32::try_from(content.len())?;
        let name_bytes = u32::try_from(name.len() + 1)?;
        let inode = if name == TRAILER { 0 } else { self.next_inode };
        let fields = [inode, mode, 0, 0, 1, 0, length_bytes, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The finished archive, of a length that lets another follow.
    pub fn finish(mut self) -> Outcome<Vec<u8>> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", 0o755, b"content").expect("a file");
        archive.file("/a/b/d", 0o644, b"").expect("a file");
        archive.link("/a/l", "b/c").expect("a link");
        let bytes = archive.finish().expect("an archive");
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<&str> =
            text.split("070701").skip(1).map(|entry| entry[104..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "a/l", TRAILER]);
        assert!(text.contains("content") && text.contains("b/c"));
        assert!(text.starts_with("07070100000001000041ED"), "a folder that everybody may read");
    }

    #[test]
    fn a_path_that_is_relative_is_refused() {
        assert!(Archive::default().file("a", 0o644, b"").is_err());
    }
}

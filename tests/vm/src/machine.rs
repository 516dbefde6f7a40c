//! What the guests of a group have besides the usual: `cases/GROUP/machine`, arguments of QEMU and the images they name.

use std::fs::File;
use std::path::Path;

use harness::failure::{Context, Failure, Outcome};

/// What the folder of a guest is called in arguments.
const FOLDER: &str = "FOLDER";

/// The devices of one group's guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    arguments: Vec<String>,
    /// Names, and lengths in MiB.
    images: Vec<(String, u64)>,
}

impl Machine {
    /// Of `group` below `folder`; nothing besides the usual where there is no such file.
    pub fn find(folder: &Path, group: &str) -> Outcome<Self> {
        let path = folder.join(group).join("machine");
        if !path.exists() {
            return Ok(Self::default());
        }
        Self::parse(&std::fs::read_to_string(&path)?).context(&format!("reading {}", path.display()))
    }

    fn parse(text: &str) -> Outcome<Self> {
        let mut machine = Self::default();
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["image", name, mebibytes] => {
                    let mebibytes = mebibytes.parse().ok();
                    let mebibytes = mebibytes.ok_or_else(|| Failure::new(format!("no length: {line}")))?;
                    machine.images.push((name.to_owned(), mebibytes));
                }
                [option, ..] if option.starts_with('-') => {
                    machine.arguments.extend(words.into_iter().map(str::to_owned));
                }
                _ => return Err(Failure::new(format!("neither an image nor an option: {line}"))),
            }
        }
        Ok(machine)
    }

    /// Makes the images in `folder`, all zeros; those that an earlier guest of the same run left are kept as they are.
    pub fn make_images(&self, folder: &Path) -> Outcome {
        for (name, mebibytes) in &self.images {
            let path = folder.join(name);
            if !path.exists() {
                File::create(&path)?.set_len(mebibytes << 20)?;
            }
        }
        Ok(())
    }

    /// How QEMU is to emulate the processors. Behind an IOMMU, one that has a thread of its own may wait for another for ever
    /// when this machine is busy; taking turns costs a third more.
    pub fn accelerator(&self) -> &'static str {
        if self.arguments.is_empty() { "tcg,thread=multi" } else { "tcg,thread=single" }
    }

    /// QEMU's arguments for a guest whose files are in `folder`.
    pub fn arguments(&self, folder: &Path) -> Vec<String> {
        let folder = folder.display().to_string();
        self.arguments.iter().map(|argument| argument.replace(FOLDER, &folder)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_images_are_read_and_made() {
        let machine = Machine::parse(
            "# a comment\n\nimage disk 3\n-blockdev driver=file,filename=FOLDER/disk,node-name=a\n-device nvme,drive=a\n",
        );
        let machine = machine.expect("a correct file");
        let folder = tempfile::tempdir().expect("a folder");
        machine.make_images(folder.path()).expect("room");
        let disk = folder.path().join("disk");
        assert_eq!(std::fs::metadata(&disk).expect("it was made").len(), 3 << 20);
        let filename = format!("driver=file,filename={},node-name=a", disk.display());
        assert_eq!(
            machine.arguments(folder.path()),
            ["-blockdev", filename.as_str(), "-device", "nvme,drive=a"]
        );
        std::fs::write(&disk, "kept").expect("room");
        machine.make_images(folder.path()).expect("nothing to do");
        assert_eq!(std::fs::read(&disk).expect("it is there"), b"kept");
    }

    #[test]
    fn nonsense_is_refused_and_a_group_needs_no_machine() {
        for text in ["image disk", "image disk large", "device nvme"] {
            assert!(Machine::parse(text).is_err(), "{text}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Machine::find(folder.path(), "iscsi").expect("the usual"), Machine::default());
    }
}

//! Reading attributes: what is not there, or cannot be read, is `None`. What must be known is asked for elsewhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::limits::{ATTRIBUTE_BYTES_MAX, TABLE_BYTES_MAX};

fn read(path: &Path, max_bytes: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(max_bytes).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of an attribute without the blanks that pad it; `None` also when it is empty.
pub(crate) fn text(path: &Path) -> Option<String> {
    let text = read(path, ATTRIBUTE_BYTES_MAX)?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A number in decimal.
pub(crate) fn number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    text(path)?.parse().ok()
}

/// A number in hexadecimal after `0x`.
pub(crate) fn hexadecimal(path: &Path) -> Option<u32> {
    u32::from_str_radix(text(path)?.strip_prefix("0x")?, 16).ok()
}

/// A table of many lines.
pub(crate) fn table(path: &Path) -> String {
    read(path, TABLE_BYTES_MAX).unwrap_or_default()
}

/// The last part of where a link leads.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    Some(std::fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// Names in a folder, in order; none where there is no folder.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

//! Body of the fuzz target `journal`: recovery from whatever lies where a journal should, on disks that fail.
//!
//! Whatever is found, recovery does not panic. A journal that is refused is left alone, and so is the data. What is written to the data
//! is what an entry with a right checksum says, inside the volume and no longer than a write may be; afterwards the entry is gone.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

use std::io;

use uuid::Uuid;

use crate::bdev::Extent;
use crate::geometry::Geometry;
use crate::journal::{
    BlockingFile, DATA_OFFSET_BYTES, ENTRY_OFFSET_BYTES, Pending, RECORD_BYTES, RecoverError, length_bytes,
    recover,
};
use crate::limits::{FILE_ATOMIC_WRITE_BLOCKS, MIN_DEVICE_BYTES};

/// Bytes of an input that describe each record.
const FIELDS_BYTES: usize = 64;

/// A file in memory whose operations fail from some time on.
struct Memory {
    bytes: Vec<u8>,
    writes: Vec<(u64, Vec<u8>)>,
    operations_left: u32,
}

impl Memory {
    fn new(bytes: Vec<u8>, operations_left: u32) -> Self {
        Self { bytes, writes: Vec::new(), operations_left }
    }

    fn operate(&mut self) -> io::Result<()> {
        self.operations_left = self.operations_left.checked_sub(1).ok_or(io::ErrorKind::Other)?;
        Ok(())
    }
}

impl BlockingFile for Memory {
    fn read(&mut self, bytes: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        self.operate()?;
        let found = self.bytes.get(offset_bytes as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.operate()?;
        self.writes.push((offset_bytes, bytes.to_vec()));
        if let Some(to) = self.bytes.get_mut(offset_bytes as usize..).and_then(|to| to.get_mut(..bytes.len()))
        {
            to.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operate()
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A record with these fields; sealed with a right checksum when `is_whole`.
fn record(fields: &[u8], is_whole: bool) -> Vec<u8> {
    let mut record = vec![0; RECORD_BYTES];
    record[..fields.len()].copy_from_slice(fields);
    if is_whole {
        let crc = crc32c(&record[..RECORD_BYTES - 4]);
        record[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    record
}

/// Runs one input: flags, operations until a failure, the fields of the label, those of the entry, the data.
pub fn journal(input: &[u8]) {
    let Some(([flags, operations], rest)) = input.split_first_chunk::<2>() else { return };
    let is = |bit: u8| flags & bit != 0;
    let block_bytes = if is(1) { 4096 } else { 512 };
    let geometry =
        Geometry::new(Uuid::from_u128(1), block_bytes, MIN_DEVICE_BYTES).expect("a possible device");
    let (label, rest) = rest.split_at(rest.len().min(FIELDS_BYTES));
    let (entry, data) = rest.split_at(rest.len().min(FIELDS_BYTES));
    let mut bytes = vec![0; length_bytes(block_bytes) as usize];
    let data = &data[..data.len().min(bytes.len() - DATA_OFFSET_BYTES as usize)];
    bytes[DATA_OFFSET_BYTES as usize..][..data.len()].copy_from_slice(data);
    let mut entry = entry.to_vec();
    if is(2) && entry.len() == FIELDS_BYTES {
        // A right checksum over as many blocks as the entry names.
        let blocks = u32::from_le_bytes([entry[24], entry[25], entry[26], entry[27]]) as usize;
        let end = DATA_OFFSET_BYTES as usize + blocks.saturating_mul(block_bytes as usize);
        let content = bytes.get(DATA_OFFSET_BYTES as usize..end).unwrap_or(&[]);
        entry[28..32].copy_from_slice(&crc32c(content).to_le_bytes());
    }
    bytes[..RECORD_BYTES].copy_from_slice(&record(label, is(4)));
    bytes[ENTRY_OFFSET_BYTES as usize..][..RECORD_BYTES].copy_from_slice(&record(&entry, is(8)));
    if is(16) {
        bytes.truncate(input.len() * 16);
    }
    let pending = if is(32) { Pending::Forget } else { Pending::Complete };
    let before = bytes.clone();
    let left = if is(64) { u32::from(*operations) % 8 } else { u32::MAX };
    let (mut data, mut journal) = (Memory::new(Vec::new(), left), Memory::new(bytes, left));
    let result = recover(&mut data, &mut journal, &geometry, pending);
    check(&data, &before, &geometry, result.as_ref().ok().copied().flatten());
    match result {
        Ok(_) => {
            assert!(journal.bytes[ENTRY_OFFSET_BYTES as usize..].iter().all(|&byte| byte == 0));
            assert_eq!(journal.bytes[..RECORD_BYTES], before[..RECORD_BYTES], "the label stays");
            journal.operations_left = u32::MAX;
            let again = recover(&mut data, &mut journal, &geometry, pending);
            assert!(matches!(again, Ok(None)), "nothing is completed twice");
        }
        Err(RecoverError::Journal(_)) => {
            assert!(data.writes.is_empty() && journal.writes.is_empty(), "what is refused is left alone");
        }
        Err(RecoverError::DataIo(_)) => assert!(journal.writes.is_empty(), "the entry is still there"),
        Err(RecoverError::JournalIo(_)) => {}
    }
}

/// At most one write, of what the journal held, inside the volume.
fn check(data: &Memory, journal: &[u8], geometry: &Geometry, completed: Option<Extent>) {
    assert!(data.writes.len() <= 1);
    let Some((offset_bytes, content)) = data.writes.first() else {
        return assert_eq!(completed, None);
    };
    let block_bytes = u64::from(geometry.logical_block_bytes);
    let length = content.len() as u64;
    assert!((1..=u64::from(FILE_ATOMIC_WRITE_BLOCKS) * block_bytes).contains(&length));
    assert!(offset_bytes + length <= geometry.length_bytes());
    assert_eq!(content[..], journal[DATA_OFFSET_BYTES as usize..][..content.len()]);
    if let Some(extent) = completed {
        let named = (extent.lba * block_bytes, extent.length_blocks * block_bytes);
        assert_eq!(named, (*offset_bytes, length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_replayed() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/journal");
        let mut files: Vec<_> = std::fs::read_dir(corpus)
            .expect("the corpus is in the repository")
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        files.sort();
        assert!(files.len() > 5);
        for file in files {
            journal(&std::fs::read(file).expect("a readable file"));
        }
    }

    #[test]
    fn random_journals_are_survived() {
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u8
        };
        for _ in 0..300 {
            // A whole label and an entry that is nearly right, with some bytes changed.
            let mut input = vec![next(), next()];
            input.extend(b"VEGAatom\x01\0\0\0\0\x02\0\0");
            input.extend(Uuid::from_u128(1).as_bytes());
            input.resize(2 + FIELDS_BYTES, 0);
            input.extend(b"VEGAentr");
            input.extend([[0; 8], [next() & 7, 0, 0, 0, 0, 0, 0, 0]].concat());
            input.extend([next() & 3, next() & 1, 0, 0, 0, 0, 0, 0]);
            input.extend(Uuid::from_u128(1).as_bytes());
            input.resize(2 + 2 * FIELDS_BYTES, 0);
            input.extend((0..700).map(|_| next()));
            input[0] |= 12;
            if next() & 1 == 0 {
                let at = 2 + usize::from(next()) % (2 * FIELDS_BYTES);
                input[at] ^= next();
            }
            journal(&input);
        }
    }
}

use super::*;
use crate::geometry::Geometry;

const BLOCK: usize = 512;

fn geometry(number: u128) -> Geometry {
    Geometry::new(Uuid::from_u128(number), BLOCK as u32, 1 << 20).expect("a possible device")
}

fn extent(lba: u64, length_blocks: u64) -> Extent {
    Extent { lba, length_blocks }
}

/// The bytes from the entry on.
fn entry(lba: u64, data: &[u8]) -> Vec<u8> {
    let blocks = (data.len() / BLOCK) as u64;
    let entry = Entry { sequence: 3, extent: extent(lba, blocks), data_crc: crc32c(data) };
    let mut bytes = vec![0; length_bytes(BLOCK as u32) as usize - ENTRY_OFFSET_BYTES as usize];
    bytes[..RECORD_BYTES].copy_from_slice(&entry.encode(Uuid::from_u128(1)));
    bytes[PAGE_BYTES as usize..][..data.len()].copy_from_slice(data);
    bytes
}

fn journal(number: u128, rest: &[u8]) -> Bytes {
    let mut bytes = vec![0; ENTRY_OFFSET_BYTES as usize];
    bytes[..RECORD_BYTES].copy_from_slice(&encode_label(&geometry(number)));
    bytes.extend_from_slice(rest);
    Bytes { bytes, log: Vec::new(), fails: None }
}

/// A file that remembers what was done with it.
struct Bytes {
    bytes: Vec<u8>,
    log: Vec<&'static str>,
    /// Writes fail, with the first half done.
    fails: Option<std::io::ErrorKind>,
}

impl BlockingFile for Bytes {
    fn read(&mut self, bytes: &mut [u8], offset_bytes: u64) -> std::io::Result<()> {
        let from = self.bytes.get(offset_bytes as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset_bytes: u64) -> std::io::Result<()> {
        self.log.push("write");
        let length = if self.fails.is_some() { bytes.len() / 2 } else { bytes.len() };
        self.bytes[offset_bytes as usize..][..length].copy_from_slice(&bytes[..length]);
        self.fails.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.log.push("sync");
        Ok(())
    }
}

fn data() -> Bytes {
    Bytes { bytes: vec![0; 1 << 20], log: Vec::new(), fails: None }
}

#[test]
fn an_entry_reads_back_at_every_length_and_an_empty_journal_has_none() {
    for blocks in [1, 2, 255, 256] {
        let content: Vec<u8> = (0..blocks * BLOCK).map(|i| (i / 7) as u8).collect();
        let bytes = entry(9, &content);
        let (found, data) = Entry::decode(&bytes, &geometry(1)).expect("it fits").expect("it is whole");
        assert_eq!((found.extent, found.sequence, data), (extent(9, blocks as u64), 3, &content[..]));
    }
    let empty = vec![0; entry(0, &[0; BLOCK]).len()];
    assert_eq!(Entry::decode(&empty, &geometry(1)), Ok(None));
    assert_eq!(Entry::decode(&[], &geometry(1)), Ok(None));
}

#[test]
fn an_entry_with_any_byte_changed_is_none() {
    let content = vec![0xA5; 3 * BLOCK];
    let whole = entry(4, &content);
    let data = PAGE_BYTES as usize..PAGE_BYTES as usize + content.len();
    for at in (0..RECORD_BYTES).chain(data.step_by(61)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        assert_eq!(Entry::decode(&damaged, &geometry(1)), Ok(None), "byte {at}");
    }
    let cut = &whole[..PAGE_BYTES as usize + content.len() - 1];
    assert_eq!(Entry::decode(cut, &geometry(1)), Ok(None));
}

#[test]
fn an_entry_torn_at_any_sector_between_two_is_one_of_them_or_none() {
    let (old, new) = (entry(4, &[1; 8 * BLOCK]), entry(6, &[2; 6 * BLOCK]));
    let sectors = (PAGE_BYTES as usize + 8 * BLOCK) / RECORD_BYTES;
    for mask in 0..1_u32 << sectors {
        let mut torn = old.clone();
        for sector in (0..sectors).filter(|sector| mask & (1 << sector) != 0) {
            let at = sector * RECORD_BYTES..(sector + 1) * RECORD_BYTES;
            torn[at.clone()].copy_from_slice(&new[at]);
        }
        let found = Entry::decode(&torn, &geometry(1)).expect("both fit");
        if let Some((entry, data)) = found {
            let expected = if entry.extent.lba == 4 { vec![1; 8 * BLOCK] } else { vec![2; 6 * BLOCK] };
            assert_eq!(data, expected, "mask {mask:x}");
        }
    }
}

#[test]
fn an_entry_that_does_not_fit_its_volume_is_refused() {
    let content = vec![1; 2 * BLOCK];
    let last = (1 << 20) / BLOCK as u64 - 1;
    assert_eq!(Entry::decode(&entry(last, &content), &geometry(1)), Err(JournalError::Impossible));
    assert_eq!(Entry::decode(&entry(u64::MAX, &content), &geometry(1)), Err(JournalError::Impossible));
    assert_eq!(Entry::decode(&entry(0, &[]), &geometry(1)), Err(JournalError::Impossible));
    assert_eq!(Entry::decode(&entry(0, &content), &geometry(2)), Err(JournalError::Impossible));
    let long = Entry { sequence: 1, extent: extent(0, 257), data_crc: 0 };
    assert_eq!(Entry::decode(&long.encode(Uuid::from_u128(1)), &geometry(1)), Err(JournalError::Impossible));
}

#[test]
fn a_label_says_whose_the_journal_is() {
    let label = encode_label(&geometry(1));
    assert_eq!(check_label(&label, &geometry(1)), Ok(()));
    let (found, expected) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(check_label(&label, &geometry(2)), Err(JournalError::OtherVolume { found, expected }));
    assert_eq!(check_label(&label[..511], &geometry(1)), Err(JournalError::Foreign));
    assert_eq!(check_label(&[0; 512], &geometry(1)), Err(JournalError::Foreign));
    let other_blocks = Geometry { logical_block_bytes: 4096, ..geometry(1) };
    assert_eq!(check_label(&label, &other_blocks), Err(JournalError::Impossible));
    for at in 0..RECORD_BYTES {
        let mut damaged = label;
        damaged[at] ^= 1;
        let expected = if at < 8 { JournalError::Foreign } else { JournalError::Damaged };
        assert_eq!(check_label(&damaged, &geometry(1)), Err(expected));
    }
    let later = sealed(&[(0, &LABEL_MAGIC), (8, &2_u32.to_le_bytes())]);
    assert_eq!(check_label(&later, &geometry(1)), Err(JournalError::Version { found: 2 }));
}

#[test]
fn recovery_completes_what_is_whole_and_leaves_an_empty_journal() {
    let whole = entry(4, &[7; 2 * BLOCK]);
    let mut torn = whole.clone();
    torn[PAGE_BYTES as usize + 5] ^= 1;
    let empty = vec![0; whole.len()];
    let cases = [
        (&whole, Pending::Complete, Some(extent(4, 2))),
        (&whole, Pending::Forget, None),
        (&torn, Pending::Complete, None),
        (&empty, Pending::Complete, None),
    ];
    for (bytes, pending, expected) in cases {
        let (mut data, mut journal) = (data(), journal(1, bytes));
        let found = recover(&mut data, &mut journal, &geometry(1), pending).expect("nothing fails");
        assert_eq!(found, expected);
        let content = if expected.is_some() { 7 } else { 0 };
        assert!(data.bytes[4 * BLOCK..6 * BLOCK].iter().all(|&byte| byte == content));
        assert!(data.bytes[..4 * BLOCK].iter().chain(&data.bytes[6 * BLOCK..]).all(|&byte| byte == 0));
        assert!(journal.bytes[ENTRY_OFFSET_BYTES as usize..].iter().all(|&byte| byte == 0));
        assert_eq!(check_label(&journal.bytes, &geometry(1)), Ok(()));
        assert_eq!(journal.log.last(), Some(&"sync"));
        if expected.is_some() {
            assert_eq!((data.log, journal.log), (vec!["write", "sync"], vec!["sync", "write", "sync"]));
        }
    }
}

#[test]
fn recovery_that_fails_keeps_the_entry_and_another_volumes_journal_is_left_alone() {
    let whole = entry(4, &[7; 2 * BLOCK]);
    let (mut full, mut own) = (data(), journal(1, &whole));
    full.fails = Some(std::io::ErrorKind::StorageFull);
    let failed = recover(&mut full, &mut own, &geometry(1), Pending::Complete);
    assert!(matches!(failed, Err(RecoverError::DataIo(_))));
    full.fails = None;
    let again = recover(&mut full, &mut own, &geometry(1), Pending::Complete).expect("there is room now");
    assert_eq!(again, Some(extent(4, 2)));

    for (mut other, expected) in [
        (journal(2, &whole), "of volume"),
        (journal(1, &entry(2047, &[1; 2 * BLOCK])), "does not fit"),
        (Bytes { bytes: vec![3; 9000], log: Vec::new(), fails: None }, "not a journal"),
        (Bytes { bytes: journal(1, &whole[..100]).bytes, log: Vec::new(), fails: None }, "not a journal"),
    ] {
        let (mut data, before) = (data(), other.bytes.clone());
        let refused = recover(&mut data, &mut other, &geometry(1), Pending::Complete);
        let error = refused.expect_err("it is not this volume's");
        assert!(matches!(error, RecoverError::Journal(_)) && error.to_string().contains(expected), "{error}");
        assert!(other.bytes == before && other.log.is_empty() && data.log.is_empty());
    }
}

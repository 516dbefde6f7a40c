use reactor::sim::{DiskFaults, SimWorld};

use super::*;

const SLOTS_BYTES: u64 = 2 * METADATA_SLOT_BYTES;

fn load(disk: &reactor::sim::SimDisk) -> Option<Loaded> {
    let bytes = disk.peek(0, SLOTS_BYTES as usize);
    let (first, second) = bytes.split_at(METADATA_SLOT_BYTES as usize);
    Loaded::decode([first, second])
}

fn drain(store: &mut SlotStore) -> Vec<MetadataDone> {
    let mut out = Vec::new();
    for _ in 0..10_000 {
        store.poll(&mut out);
        if store.in_flight() == 0 {
            return out;
        }
    }
    panic!("the store never answered");
}

#[test]
fn a_slot_reads_back_at_every_length_that_matters() {
    for length in [0, 1, 4063, 4064, 4065, METADATA_BLOB_BYTES] {
        let blob: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let slot = encode_slot(9, &blob);
        assert!(slot.len() as u64 <= METADATA_SLOT_BYTES && slot.len().is_multiple_of(4096));
        assert_eq!(decode_slot(&slot), Some((9, blob)));
    }
}

#[test]
fn a_slot_cut_anywhere_leaves_the_older_blob() {
    let old = encode_slot(4, b"older");
    let new = encode_slot(5, &[7; 5000]);
    for cut in (0..new.len()).step_by(61).chain([new.len() - 1]) {
        let mut torn = encode_slot(3, &[1; 6000]);
        torn[..cut].copy_from_slice(&new[..cut]);
        let loaded = Loaded::decode([&old, &torn]).expect("one slot is whole");
        // Past the blob the page holds zeros in old and new alike; then the write was complete.
        let expected: &[u8] = if cut < HEADER_BYTES + 5000 { b"older" } else { &[7; 5000] };
        assert_eq!(loaded.blob.as_deref(), Some(expected), "cut at {cut}");
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let blob = [3; 100];
    let slot = encode_slot(1, &blob);
    for byte in (0..HEADER_BYTES + blob.len()).filter(|byte| !(24..32).contains(byte)) {
        let mut damaged = slot.clone();
        damaged[byte] ^= 1;
        assert_eq!(decode_slot(&damaged), None, "byte {byte}");
    }
    let mut both = slot.clone();
    both[40] ^= 1;
    assert_eq!(Loaded::decode([&both, &both]), None);
    assert_eq!(Loaded::decode([&both, &vec![0; slot.len()]]), Some(Loaded::default()));
}

#[test]
fn blobs_given_while_one_is_written_are_answered_by_the_last() {
    let world = SimWorld::new(1);
    let core = world.core("c");
    let disk = world.disk(SLOTS_BYTES);
    let mut store = SlotStore::over(Box::new(disk.open()), 0, &Loaded::default(), &core.buffers);
    for tag in 0..10 {
        store.submit(tag, vec![tag as u8; 100]);
    }
    assert_eq!(store.in_flight(), 10);
    let tags: Vec<u64> = drain(&mut store).iter().map(|done| done.tag).collect();
    assert_eq!(tags, (0..10).collect::<Vec<_>>());
    assert_eq!(load(&disk).and_then(|loaded| loaded.blob), Some(vec![9; 100]));
}

#[test]
fn after_a_power_cut_the_blob_is_the_last_answered_or_one_under_way() {
    for seed in 0..300 {
        let world = SimWorld::new(seed);
        let core = world.core("c");
        let disk = world.disk(SLOTS_BYTES);
        let mut store = SlotStore::over(Box::new(disk.open()), 0, &Loaded::default(), &core.buffers);
        let mut answered = None;
        let writes = seed % 7;
        for tag in 0..=writes {
            store.submit(tag, vec![tag as u8; 9000 + tag as usize]);
            if tag == writes {
                break;
            }
            for done in drain(&mut store) {
                assert_eq!(done.result, Ok(()));
                answered = Some(done.tag);
            }
        }
        let found = load(&disk.crash()).expect("never both damaged").blob.map(|blob| u64::from(blob[0]));
        assert!(found == answered || found == Some(writes), "seed {seed}: {found:?} after {answered:?}");
    }
}

#[test]
fn failed_writes_are_said_to_have_failed_and_never_cost_the_last_good_blob() {
    for seed in 0..200 {
        let world = SimWorld::new(seed);
        let core = world.core("c");
        let disk = world.disk(SLOTS_BYTES);
        let mut store = SlotStore::over(Box::new(disk.open()), 0, &Loaded::default(), &core.buffers);
        disk.set_faults(DiskFaults { write_error_permille: 400, ..disk.faults() });
        let mut answered = None;
        let mut since = Vec::new();
        for tag in 0..12 {
            store.submit(tag, vec![tag as u8; 8000]);
            since.push(tag);
            for done in drain(&mut store) {
                if done.result.is_ok() {
                    answered = Some(done.tag);
                    since.clear();
                }
            }
        }
        let found = load(&disk.crash()).expect("never both damaged").blob.map(|blob| u64::from(blob[0]));
        assert!(found == answered || found.is_some_and(|tag| since.contains(&tag)), "seed {seed}");
    }
}

#[test]
fn a_file_on_disk_opens_empty_and_then_with_its_blob() {
    let directory = tempfile::tempdir().expect("a place for files");
    let path = directory.path().join("v.state");
    let opened = open(&path).expect("it is made");
    assert_eq!(opened.loaded, Loaded::default());
    let file = StdFile::from(opened.fd);
    file.write_all_at(&encode_slot(1, b"hello"), METADATA_SLOT_BYTES).expect("room");
    let opened = open(&path).expect("it is there");
    assert_eq!(opened.loaded.blob.as_deref(), Some(&b"hello"[..]));
    file.write_all_at(b"x", 0).expect("room");
    file.write_all_at(b"x", METADATA_SLOT_BYTES).expect("room");
    assert!(matches!(open(&path), Err(MetadataError::Damaged { .. })));
}

//! Opening, refusing and growing sparse files.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use volume::bdev::Extent;
use volume::file_open::{self, FileOptions, identity_path, journal_path, state_path};
use volume::geometry::Geometry;
use volume::identity::{Identity, IdentityError};
use volume::journal::{DATA_OFFSET_BYTES, ENTRY_OFFSET_BYTES, Entry, JournalError, length_bytes};
use volume::open_error::OpenError;

const MIB: u64 = 1 << 20;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a place for files")
}

fn geometry(number: u128, length_bytes: u64) -> Geometry {
    Geometry::new(Uuid::from_u128(number), 512, length_bytes).expect("a possible device")
}

fn create(path: &Path, number: u128) {
    file_open::create(path, geometry(number, 64 * MIB), FileOptions::default())
        .expect("room for a sparse file");
}

fn open(path: &Path) -> Result<Geometry, OpenError> {
    file_open::open(path, FileOptions::default()).map(|opened| opened.geometry)
}

#[test]
fn a_created_file_is_sparse_and_opens_as_what_it_was_made() {
    let directory = directory();
    let path = directory.path().join("v");
    let opened = file_open::create(&path, geometry(1, 64 * MIB), FileOptions::default()).expect("room");
    assert!(!opened.mode.to_string().is_empty());
    let map = opened.allocation.clone().expect("a file has a map");
    assert_eq!(map.mapped_bytes(), 0);
    drop(opened);
    let metadata = path.metadata().expect("it is there");
    assert_eq!(metadata.len(), 64 * MIB);
    assert!(metadata.blocks() * 512 < MIB, "nothing was allocated for the blocks");
    File::options().write(true).open(&path).expect("there").write_all_at(&[1; 5000], 3 * MIB).expect("room");
    let opened = file_open::open(&path, FileOptions::default()).expect("nothing is wrong with it");
    assert_eq!(opened.geometry, geometry(1, 64 * MIB));
    let map = opened.allocation.expect("a file has a map");
    assert!(map.mapped_bytes() >= 5000 && map.mapped_bytes() < MIB, "the hole is known as one");
    assert!(!map.is_hole(3 * MIB, 5000) && map.is_hole(0, 2 * MIB));
}

#[test]
fn nothing_is_overwritten() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let again = file_open::create(&path, geometry(2, 64 * MIB), FileOptions::default());
    assert!(matches!(again, Err(OpenError::AlreadyExists { .. })));
    assert_eq!(open(&path).expect("as it was").uuid, Uuid::from_u128(1));
    // Files of a volume whose data was lost are in the way as well, and stay.
    for beside in [identity_path, state_path, journal_path] {
        let path = directory.path().join("w");
        std::fs::write(beside(&path), b"precious").expect("room");
        let refused = file_open::create(&path, geometry(2, 64 * MIB), FileOptions::default());
        assert!(matches!(refused, Err(OpenError::AlreadyExists { .. })));
        assert!(!path.exists());
        assert_eq!(std::fs::read(beside(&path)).expect("still there"), b"precious");
        std::fs::remove_file(beside(&path)).expect("there");
    }
}

#[test]
fn a_second_opener_is_told_who_was_first() {
    let directory = directory();
    let path = directory.path().join("v");
    let first = file_open::create(&path, geometry(1, 64 * MIB), FileOptions::default()).expect("room");
    let refused = open(&path).expect_err("it is open");
    let OpenError::InUse { path: named, holder } = &refused else { panic!("{refused}") };
    assert_eq!(named, &path);
    // Where the system has no list of locks, or shows device numbers of its own, there is no name.
    if let Some(holder) = holder {
        assert_eq!(holder.pid, std::process::id());
    }
    assert!(matches!(file_open::delete(&path), Err(OpenError::InUse { .. })));
    drop(first);
    open(&path).expect("it is free again");
    file_open::delete(&path).expect("it is free");
    assert!(matches!(open(&path), Err(OpenError::MissingData { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "nothing is left");
}

#[test]
fn a_truncated_or_lengthened_file_is_refused() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let data = File::options().write(true).open(&path).expect("there");
    data.set_len(63 * MIB).expect("a file is cut");
    let refused = open(&path).expect_err("data is lost");
    assert!(matches!(refused, OpenError::Truncated { found_bytes, expected_bytes, .. }
        if found_bytes == 63 * MIB && expected_bytes == 64 * MIB));
    let text = refused.to_string();
    assert!(text.contains("restore") && text.contains(path.to_str().expect("a plain path")), "{text}");
    data.set_len(65 * MIB).expect("a file is lengthened");
    assert!(matches!(open(&path), Err(OpenError::Grown { found_bytes, .. }) if found_bytes == 65 * MIB));
    data.set_len(64 * MIB).expect("a file is cut");
    open(&path).expect("all is well again");
}

fn swapped(directory: &Path) -> (PathBuf, PathBuf) {
    let (a, b) = (directory.join("a"), directory.join("b"));
    create(&a, 1);
    create(&b, 2);
    let aside = directory.join("aside");
    std::fs::rename(&a, &aside).expect("a rename");
    std::fs::rename(&b, &a).expect("a rename");
    std::fs::rename(&aside, &b).expect("a rename");
    (a, b)
}

#[test]
fn a_file_under_anothers_name_is_refused_until_it_is_adopted() {
    let directory = directory();
    let (a, b) = swapped(directory.path());
    for (path, expected) in [(&a, 1), (&b, 2)] {
        let refused = open(path).expect_err("it is the other's");
        assert!(
            matches!(refused, OpenError::OtherFile { expected: uuid, .. } if uuid == Uuid::from_u128(expected))
        );
    }
    let adopt = FileOptions { adopt: true, ..FileOptions::default() };
    let adopted = file_open::open(&a, adopt).expect("its size is right").geometry;
    assert_eq!(adopted.uuid, Uuid::from_u128(1));
    open(&a).expect("adopted once, it stays");
}

#[test]
fn a_foreign_file_a_damaged_identity_and_a_wrong_volume_are_told_apart() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let good = std::fs::read(identity_path(&path)).expect("it was written");
    std::fs::write(identity_path(&path), vec![0; good.len()]).expect("room");
    assert!(matches!(open(&path), Err(OpenError::Identity { source: IdentityError::Foreign, .. })));
    let mut damaged = good.clone();
    damaged[16] ^= 1;
    damaged[4096 + 16] ^= 1;
    std::fs::write(identity_path(&path), &damaged).expect("room");
    assert!(matches!(open(&path), Err(OpenError::Identity { source: IdentityError::Damaged, .. })));
    std::fs::remove_file(identity_path(&path)).expect("there");
    assert!(matches!(open(&path), Err(OpenError::MissingIdentity { .. })));
    std::fs::write(identity_path(&path), &good).expect("room");
    let options = FileOptions { expected: Some(Uuid::from_u128(9)), ..FileOptions::default() };
    assert!(matches!(file_open::open(&path, options), Err(OpenError::OtherVolume { .. })));
    assert!(matches!(open(directory.path()), Err(OpenError::Io { .. } | OpenError::Kind { .. })));
}

#[test]
fn a_raw_image_is_imported_with_its_bytes() {
    let directory = directory();
    let path = directory.path().join("image");
    std::fs::write(&path, vec![7; 2 * MIB as usize]).expect("room");
    let wrong = file_open::import(&path, geometry(5, 3 * MIB), FileOptions::default());
    assert!(matches!(wrong, Err(OpenError::Truncated { .. })));
    let opened =
        file_open::import(&path, geometry(5, 2 * MIB), FileOptions::default()).expect("its size is right");
    assert_eq!(opened.allocation.as_ref().expect("a map").mapped_bytes(), 2 * MIB);
    drop(opened);
    assert_eq!(open(&path).expect("it has an identity").uuid, Uuid::from_u128(5));
    assert_eq!(std::fs::read(&path).expect("there"), vec![7; 2 * MIB as usize]);
}

#[test]
fn growth_is_old_or_new_wherever_it_is_cut_short() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let before = Identity::decode(&std::fs::read(identity_path(&path)).expect("there")).expect("valid");
    let grown = file_open::grow(&path, 96 * MIB).expect("room for a longer hole");
    assert_eq!(grown, geometry(1, 96 * MIB));
    assert_eq!(open(&path).expect("it has grown"), grown);
    assert!(matches!(file_open::grow(&path, 95 * MIB), Err(OpenError::Shrink { .. })));
    assert!(matches!(file_open::grow(&path, 97 * MIB + 1), Err(OpenError::Geometry { .. })));

    // Cut short after each step: announced; announced and lengthened.
    let announced = Identity { growing_to_blocks: 96 * MIB / 512, sequence: 50, ..before };
    for (length, expected) in [(64 * MIB, 64 * MIB), (96 * MIB, 96 * MIB)] {
        std::fs::write(identity_path(&path), announced.encode_file()).expect("room");
        File::options().write(true).open(&path).expect("there").set_len(length).expect("a length");
        assert_eq!(open(&path).expect("it explains itself"), geometry(1, expected));
        let settled = Identity::decode(&std::fs::read(identity_path(&path)).expect("there")).expect("valid");
        assert_eq!(settled.growing_to_blocks, 0);
    }
    std::fs::write(identity_path(&path), announced.encode_file()).expect("room");
    File::options().write(true).open(&path).expect("there").set_len(80 * MIB).expect("a length");
    assert!(matches!(open(&path), Err(OpenError::Grown { .. })), "neither of the two");
}

#[test]
fn shared_memory_serves_as_well() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = directory.path().join("v");
    create(&path, 1);
    open(&path).expect("nothing is wrong with it");
}

/// Puts an atomic write of `blocks` blocks of `byte` into the journal at `path`, as a crash leaves it.
fn cut_short(path: &Path, number: u128, blocks: u64, byte: u8) {
    let data = vec![byte; blocks as usize * 512];
    let data_crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &data) as u32;
    let entry = Entry { sequence: 1, extent: Extent { lba: 100, length_blocks: blocks }, data_crc };
    let journal = File::options().write(true).open(path).expect("there");
    journal.write_all_at(&entry.encode(Uuid::from_u128(number)), ENTRY_OFFSET_BYTES).expect("room");
    journal.write_all_at(&data, DATA_OFFSET_BYTES).expect("room");
}

fn blocks_of(path: &Path, blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; blocks * 512];
    File::open(path).expect("there").read_exact_at(&mut bytes, 100 * 512).expect("inside");
    bytes
}

#[test]
fn an_atomic_write_that_was_cut_short_is_completed_before_anything_else() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let journal = journal_path(&path);
    assert_eq!(journal.metadata().expect("made with the volume").len(), length_bytes(512));
    let without = std::fs::read(&journal).expect("there");
    cut_short(&journal, 1, 9, 7);
    let opened = file_open::open(&path, FileOptions::default()).expect("it is completed");
    assert_eq!(
        opened.journal.as_ref().expect("it has one").completed,
        Some(Extent { lba: 100, length_blocks: 9 }),
        "it is said"
    );
    let map = opened.allocation.as_ref().expect("a file has a map");
    assert!(!map.is_hole(100 * 512, 9 * 512), "the map is made afterwards");
    assert_eq!(blocks_of(&path, 9), vec![7; 9 * 512]);
    assert_eq!(std::fs::read(&journal).expect("there"), without);
    drop(opened);
    let again = file_open::open(&path, FileOptions::default()).expect("nothing to do");
    assert_eq!(again.journal.expect("it has one").completed, None);
}

#[test]
fn a_volume_without_a_journal_gets_one_and_a_wrong_journal_is_refused() {
    let directory = directory();
    let (path, other) = (directory.path().join("v"), directory.path().join("w"));
    create(&path, 1);
    create(&other, 2);
    let journal = journal_path(&path);
    std::fs::remove_file(&journal).expect("there");
    open(&path).expect("it is made");
    assert_eq!(journal.metadata().expect("made").len(), length_bytes(512));

    cut_short(&journal_path(&other), 2, 3, 9);
    std::fs::copy(journal_path(&other), &journal).expect("room");
    let before = std::fs::read(&journal).expect("there");
    let refused = open(&path).expect_err("it is the other's");
    let OpenError::Journal { path: named, source } = &refused else { panic!("{refused}") };
    assert_eq!(named, &journal);
    assert!(matches!(source, JournalError::OtherVolume { found, .. } if *found == Uuid::from_u128(2)));
    let text = refused.to_string();
    assert!(text.contains(".atomic") && text.contains("move this one away"), "{text}");
    assert_eq!(std::fs::read(&journal).expect("there"), before, "nothing was overwritten");
    assert_eq!(blocks_of(&path, 3), vec![0; 3 * 512]);
    std::fs::write(&journal, b"something else").expect("room");
    assert!(matches!(open(&path), Err(OpenError::Journal { source: JournalError::Foreign, .. })));
}

#[test]
fn a_file_that_is_adopted_is_not_written_to_by_a_journal() {
    let directory = directory();
    let (a, _) = swapped(directory.path());
    cut_short(&journal_path(&a), 1, 3, 9);
    let adopt = FileOptions { adopt: true, ..FileOptions::default() };
    let opened = file_open::open(&a, adopt).expect("its size is right");
    assert_eq!(opened.journal.expect("it has one").completed, None);
    assert_eq!(blocks_of(&a, 3), vec![0; 3 * 512]);
}

#[test]
fn a_journal_that_somebody_holds_is_waited_for_or_refused() {
    let directory = directory();
    let path = directory.path().join("v");
    create(&path, 1);
    let held = File::open(journal_path(&path)).expect("there");
    held.try_lock().expect("nobody has it");
    assert!(matches!(open(&path), Err(OpenError::InUse { path, .. }) if path.ends_with("v.atomic")));
    drop(held);
    open(&path).expect("it is free");
}

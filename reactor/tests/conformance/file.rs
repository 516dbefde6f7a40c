//! The list for files.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::file::{File, FileDone, FileOp, FileSystem};
use reactor::sim::SimWorld;
use reactor::uring::Uring;
use reactor::wake::Waker;

const LENGTH: u64 = 1 << 20;

/// A place where files of `LENGTH` zero bytes can be opened.
struct Rig {
    files: Box<dyn FileSystem>,
    descriptor: Box<dyn Fn() -> OwnedFd>,
    pool: BufferPool,
    /// A few completions may be far away.
    polls_max: u32,
    _directory: Option<tempfile::TempDir>,
}

fn pool() -> BufferPool {
    BufferPool::heap(&[SizeClass { bytes: 4096, count: 2048 }, SizeClass { bytes: 65536, count: 64 }])
}

fn real() -> Rig {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("file");
    let descriptor = move || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.expect("a file");
        file.set_len(LENGTH).expect("sparse");
        file.into()
    };
    let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
    Rig {
        files: Box::new(uring),
        descriptor: Box::new(descriptor),
        pool: pool(),
        polls_max: u32::MAX,
        _directory: Some(directory),
    }
}

fn simulated(seed: u64) -> Rig {
    let world = SimWorld::new(seed);
    let files = Box::new(world.files());
    let descriptor = move || world.disk(LENGTH).descriptor().expect("a descriptor");
    Rig { files, descriptor: Box::new(descriptor), pool: pool(), polls_max: 10_000, _directory: None }
}

impl Rig {
    fn open(&self) -> Box<dyn File> {
        self.files.adopt((self.descriptor)()).expect("an open file is adopted")
    }

    fn wait(&self, file: &mut dyn File, count: usize) -> Vec<FileDone> {
        let mut out = Vec::new();
        for _ in 0..self.polls_max {
            file.poll(&mut out);
            if out.len() >= count {
                return out;
            }
            std::thread::yield_now();
        }
        panic!("{} of {count} operations completed", out.len());
    }

    fn run(&self, file: &mut dyn File, op: FileOp) -> (Result<(), i32>, Sgl) {
        assert_eq!(file.in_flight(), 0);
        file.submit(77, op).expect("there is room for one");
        assert_eq!(file.in_flight(), 1);
        let mut done = self.wait(file, 1);
        let done = done.pop().expect("one was submitted");
        assert_eq!((done.tag, file.in_flight()), (77, 0));
        (done.result, done.sgl)
    }

    fn read(&self, file: &mut dyn File, offset_bytes: u64, length: usize) -> Result<Vec<u8>, i32> {
        let mut sgl = self.pool.alloc(length).expect("the pool is large");
        sgl.fill(0, length, 0xee);
        let (result, sgl) = self.run(file, FileOp::Read { offset_bytes, sgl });
        assert_eq!(sgl.len(), length, "the list comes back as it went");
        result.map(|()| sgl.to_vec())
    }

    fn write(&self, file: &mut dyn File, offset_bytes: u64, bytes: &[u8], durable: bool) {
        let mut sgl = self.pool.alloc(bytes.len()).expect("the pool is large");
        sgl.copy_in(0, bytes);
        let (result, sgl) = self.run(file, FileOp::Write { offset_bytes, sgl, durable });
        assert_eq!((result, sgl.to_vec().as_slice()), (Ok(()), bytes));
    }
}

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| seed.wrapping_add((i * 7 + i / 253) as u8)).collect()
}

fn written_bytes_are_read_back(rig: &Rig) {
    let file = &mut *rig.open();
    let mut model = vec![0; 200_000];
    for (round, (offset, length)) in
        [(0, 4096), (4096, 65536), (100, 1), (5000, 20_000), (511, 513), (70_000, 120_000)].iter().enumerate()
    {
        let bytes = pattern(round as u8, *length);
        rig.write(file, *offset as u64, &bytes, round % 2 == 0);
        model[*offset..offset + length].copy_from_slice(&bytes);
    }
    assert_eq!(rig.read(file, 0, 200_000).expect("within the file"), model);
    assert_eq!(rig.read(file, 4321, 77_777).expect("within the file"), model[4321..82_098]);
}

fn the_end_of_the_file_is_an_error_for_reads_and_growth_for_writes(rig: &Rig) {
    let file = &mut *rig.open();
    assert_eq!(rig.read(file, LENGTH, 1), Err(libc::EIO));
    assert_eq!(rig.read(file, LENGTH - 4096, 8192), Err(libc::EIO));
    assert_eq!(rig.read(file, LENGTH - 4096, 4096), Ok(vec![0; 4096]));
    rig.write(file, LENGTH + 4096, &[5; 4096], false);
    let mut expected = vec![0; 8192];
    expected[4096..].fill(5);
    assert_eq!(rig.read(file, LENGTH, 8192), Ok(expected));
}

fn holes_and_zero_runs_read_zeros(rig: &Rig) {
    for hole in [true, false] {
        let file = &mut *rig.open();
        rig.write(file, 0, &pattern(9, 65536), false);
        let (offset_bytes, length_bytes) = (8192, 16384);
        let op = if hole {
            FileOp::PunchHole { offset_bytes, length_bytes }
        } else {
            FileOp::ZeroRange { offset_bytes, length_bytes }
        };
        let (result, sgl) = rig.run(file, op);
        assert!(sgl.is_empty());
        if result == Err(libc::EOPNOTSUPP) {
            continue;
        }
        assert_eq!(result, Ok(()));
        let mut expected = pattern(9, 65536);
        expected[8192..24576].fill(0);
        assert_eq!(rig.read(file, 0, 65536), Ok(expected));
    }
}

fn allocated_space_reads_as_before(rig: &Rig) {
    let file = &mut *rig.open();
    rig.write(file, 8192, &pattern(3, 8192), false);
    let (result, sgl) = rig.run(file, FileOp::Allocate { offset_bytes: 4096, length_bytes: 65536 });
    assert!(sgl.is_empty());
    assert!([Ok(()), Err(libc::EOPNOTSUPP)].contains(&result));
    let expected = [vec![0; 8192], pattern(3, 8192), vec![0; 65536]].concat();
    assert_eq!(rig.read(file, 0, expected.len()), Ok(expected));
}

fn a_hole_at_the_end_does_not_change_the_length(rig: &Rig) {
    let file = &mut *rig.open();
    let op = FileOp::PunchHole { offset_bytes: LENGTH - 4096, length_bytes: 8192 };
    if rig.run(file, op).0 == Ok(()) {
        assert_eq!(rig.read(file, LENGTH, 1), Err(libc::EIO));
    }
}

fn nothing_to_do_is_done(rig: &Rig) {
    let file = &mut *rig.open();
    assert_eq!(rig.read(file, 0, 0), Ok(Vec::new()));
    rig.write(file, 0, &[], true);
    let op = FileOp::PunchHole { offset_bytes: 0, length_bytes: 0 };
    assert_eq!(rig.run(file, op).0, Ok(()));
    assert_eq!(rig.run(file, FileOp::Sync).0, Ok(()));
}

fn every_operation_comes_back_once_with_its_own_buffers(rig: &Rig) {
    let file = &mut *rig.open();
    let (mut tags, mut submitted, mut refused) = (HashSet::new(), 0_u64, false);
    while submitted < 1500 {
        let mut sgl = rig.pool.alloc(512).expect("the pool is large");
        sgl.fill(0, 512, submitted as u8);
        let op = FileOp::Write { offset_bytes: submitted % 2000 * 512, sgl, durable: false };
        match file.submit(submitted, op) {
            Ok(()) => submitted += 1,
            Err(FileOp::Write { offset_bytes, sgl, .. }) => {
                refused = true;
                assert_eq!(offset_bytes, submitted % 2000 * 512);
                assert!(sgl.to_vec().iter().all(|&byte| byte == submitted as u8));
                for done in rig.wait(file, 1) {
                    assert_eq!((done.result, done.sgl.chunk(0)[0]), (Ok(()), done.tag as u8));
                    assert!(tags.insert(done.tag), "{} came twice", done.tag);
                }
            }
            Err(other) => panic!("a write came back as {other:?}"),
        }
    }
    assert!(refused, "a queue has an end");
    for done in rig.wait(file, 1500 - tags.len()) {
        assert!(tags.insert(done.tag));
    }
    assert_eq!((tags.len(), file.in_flight(), rig.pool.in_use()), (1500, 0, 0));
    for at in [0, 77, 1499_u64] {
        assert_eq!(rig.read(file, at * 512, 512), Ok(vec![at as u8; 512]));
    }
}

fn a_dropped_file_lets_its_operations_end(rig: &Rig) {
    let mut file = rig.open();
    for tag in 0..20 {
        let sgl = rig.pool.alloc(65536).expect("the pool is large");
        file.submit(tag, FileOp::Read { offset_bytes: 0, sgl }).expect("there is room");
    }
    drop(file);
    // Another file's polling is what reaps them, as any core's turn would.
    let other = &mut *rig.open();
    for _ in 0..100_000 {
        assert_eq!(rig.run(other, FileOp::Sync).0, Ok(()));
        if rig.pool.in_use() == 0 {
            return;
        }
    }
    panic!("{} buffers are still out", rig.pool.in_use());
}

fn files_on_one_core_do_not_mix(rig: &Rig) {
    let mut files = [rig.open(), rig.open()];
    for (index, file) in files.iter_mut().enumerate() {
        for tag in 0..10 {
            file.submit(tag * 2 + index as u64, FileOp::Sync).expect("there is room");
        }
    }
    for (index, file) in files.iter_mut().enumerate() {
        let done = rig.wait(&mut **file, 10);
        assert!(done.iter().all(|done| done.tag % 2 == index as u64));
        assert_eq!(done.len(), 10);
    }
}

type Check = (&'static str, fn(&Rig));

const LIST: [Check; 9] = [
    ("written bytes are read back", written_bytes_are_read_back),
    ("the end of the file", the_end_of_the_file_is_an_error_for_reads_and_growth_for_writes),
    ("holes and zero runs", holes_and_zero_runs_read_zeros),
    ("allocated space", allocated_space_reads_as_before),
    ("a hole at the end", a_hole_at_the_end_does_not_change_the_length),
    ("nothing to do", nothing_to_do_is_done),
    ("every operation once", every_operation_comes_back_once_with_its_own_buffers),
    ("a dropped file", a_dropped_file_lets_its_operations_end),
    ("files do not mix", files_on_one_core_do_not_mix),
];

#[test]
fn the_ring_behaves_as_listed() {
    for (name, check) in LIST {
        let rig = real();
        check(&rig);
        assert_eq!(rig.pool.in_use(), 0, "{name} leaked a buffer");
    }
}

#[test]
fn the_simulated_disk_behaves_as_listed() {
    for seed in 0..8 {
        for (name, check) in LIST {
            let rig = simulated(seed);
            check(&rig);
            assert_eq!(rig.pool.in_use(), 0, "{name} leaked a buffer with seed {seed}");
        }
    }
}

#[test]
fn a_descriptor_that_cannot_be_written_gives_the_systems_error() {
    let rig = real();
    let null = std::fs::File::open("/dev/zero").expect("it is there");
    let file = &mut *rig.files.adopt(null.into()).expect("an open file is adopted");
    let op = FileOp::Write { offset_bytes: 0, sgl: Sgl::from_slice_heap(&[1; 512]), durable: false };
    assert_eq!(rig.run(file, op).0, Err(libc::EBADF));
    let full = OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let file = &mut *rig.files.adopt(full.into()).expect("an open file is adopted");
    let op = FileOp::Write { offset_bytes: 0, sgl: Sgl::from_slice_heap(&[1; 512]), durable: false };
    assert_eq!(rig.run(file, op).0, Err(libc::ENOSPC));
}

use super::*;
use crate::buffer::Sgl;
use crate::file::{File, FileDone, FileOp, FileSystem};
use crate::net::{Network, Stream, StreamError};

fn run(file: &mut dyn File, op: FileOp) -> Result<Vec<u8>, i32> {
    file.submit(1, op).expect("there is room");
    let mut done: Vec<FileDone> = Vec::new();
    while done.is_empty() {
        file.poll(&mut done);
    }
    let done = done.pop().expect("one");
    done.result.map(|()| done.sgl.to_vec())
}

fn write(file: &mut dyn File, offset_bytes: u64, byte: u8, length: usize, durable: bool) -> Result<(), i32> {
    let sgl = Sgl::from_slice_heap(&vec![byte; length]);
    run(file, FileOp::Write { offset_bytes, sgl, durable }).map(drop)
}

fn read(file: &mut dyn File, offset_bytes: u64, length: usize) -> Result<Vec<u8>, i32> {
    run(file, FileOp::Read { offset_bytes, sgl: Sgl::from_slice_heap(&vec![9; length]) })
}

#[test]
fn one_seed_is_one_history() {
    let history = |seed| {
        let world = SimWorld::new(seed);
        let disk = world.disk(1 << 20);
        let mut file = disk.open();
        for tag in 0..50 {
            let op = FileOp::Read { offset_bytes: tag * 512, sgl: Sgl::from_slice_heap(&[0; 512]) };
            file.submit(tag, op).expect("there is room");
        }
        let mut order = Vec::new();
        while file.in_flight() > 0 {
            let mut done = Vec::new();
            file.poll(&mut done);
            order.extend(done.iter().map(|done| (done.tag, world.now())));
        }
        order
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
    let tags: Vec<_> = history(7).iter().map(|(tag, _)| *tag).collect();
    assert!(!tags.is_sorted(), "completions are reordered");
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_tears_the_rest() {
    let (mut kept, mut dropped, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let world = SimWorld::new(seed);
        let disk = world.disk(1 << 20);
        let mut file = disk.open();
        write(&mut file, 0, 1, 4096, false).expect("no faults");
        run(&mut file, FileOp::Sync).expect("no faults");
        write(&mut file, 0, 2, 4096, false).expect("no faults");
        write(&mut file, 8192, 3, 4096, true).expect("no faults");
        write(&mut file, 16384, 4, 512, false).expect("no faults");
        write(&mut file, 16384, 5, 512, true).expect("no faults");
        let after = disk.crash();
        let first = after.peek(0, 4096);
        assert!(first.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
        match (first[..] == [1; 4096], first[..] == [2; 4096]) {
            (true, _) => dropped += 1,
            (_, true) => kept += 1,
            _ => torn += 1,
        }
        assert_eq!(after.peek(8192, 4096), [3; 4096], "durable");
        assert_eq!(after.peek(16384, 512), [5; 512], "an older write does not come back over a durable one");
        let mut reopened = after.open();
        assert_eq!(read(&mut reopened, 0, 4096).expect("readable"), first);
    }
    assert!(kept > 10 && dropped > 10 && torn > 10, "{kept} {dropped} {torn}");
}

#[test]
fn a_sync_covers_what_had_completed_when_it_was_submitted() {
    for seed in 0..50 {
        let world = SimWorld::new(seed);
        let disk = world.disk(1 << 20);
        let mut file = disk.open();
        write(&mut file, 0, 1, 512, false).expect("no faults");
        file.submit(1, FileOp::Sync).expect("room");
        let sgl = Sgl::from_slice_heap(&[2; 512]);
        file.submit(2, FileOp::Write { offset_bytes: 512, sgl, durable: false }).expect("room");
        let mut done = Vec::new();
        while file.in_flight() > 0 {
            file.poll(&mut done);
        }
        assert_eq!(disk.crash().peek(0, 512), [1; 512]);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_completed() {
    let (mut in_flight_done, mut power_took_it) = (0, 0);
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let disk = world.disk(1 << 20);
        let mut file = disk.open();
        write(&mut file, 0, 1, 4096, false).expect("no faults");
        let sgl = Sgl::from_slice_heap(&[2; 4096]);
        file.submit(1, FileOp::Write { offset_bytes: 4096, sgl, durable: false }).expect("room");
        let after = disk.kill();
        assert_eq!(after.peek(0, 4096), [1; 4096]);
        in_flight_done += usize::from(after.peek(4096, 4096) == [2; 4096]);
        let mut done = Vec::new();
        file.poll(&mut done);
        assert!(done.is_empty(), "the old process hears nothing more");
        power_took_it += usize::from(after.crash().peek(0, 1) == [0]);
    }
    assert!((10..90).contains(&in_flight_done), "{in_flight_done}");
    assert!(power_took_it > 10, "it was still only in the cache");
}

#[test]
fn a_failed_sync_may_lose_what_a_later_sync_calls_safe() {
    let mut lost = 0;
    for seed in 0..50 {
        let world = SimWorld::new(seed);
        let disk = world.disk(1 << 20);
        let mut file = disk.open();
        write(&mut file, 0, 1, 512, false).expect("no faults yet");
        disk.set_faults(DiskFaults { sync_error_permille: 1000, ..DiskFaults::default() });
        assert_eq!(run(&mut file, FileOp::Sync), Err(libc::EIO));
        disk.set_faults(DiskFaults::default());
        assert_eq!(run(&mut file, FileOp::Sync), Ok(Vec::new()));
        assert_eq!(read(&mut file, 0, 512), Ok(vec![1; 512]), "the cache still shows it");
        lost += usize::from(disk.crash().peek(0, 1) == [0]);
    }
    assert!((5..45).contains(&lost), "{lost}");
}

#[test]
fn faults_are_the_systems_errors() {
    let world = SimWorld::new(1);
    let disk = world.disk(1 << 20);
    let mut file = disk.open();
    let set = |faults: DiskFaults| disk.set_faults(faults);
    set(DiskFaults { bad_ranges: vec![1024..2048, 4096..4608], ..DiskFaults::default() });
    assert_eq!(read(&mut file, 0, 1024), Ok(vec![0; 1024]));
    assert_eq!(read(&mut file, 512, 1024), Err(libc::EIO));
    write(&mut file, 1024, 7, 512, false).expect("a write heals");
    assert_eq!(read(&mut file, 1024, 512), Ok(vec![7; 512]));
    assert_eq!(disk.faults().bad_ranges, [1536..2048, 4096..4608]);
    set(DiskFaults { space_bytes: 1024, ..DiskFaults::default() });
    assert_eq!(write(&mut file, 8192, 1, 1024, false), Err(libc::ENOSPC));
    assert_eq!(write(&mut file, 1024, 1, 512, false), Ok(()), "no new space needed");
    set(DiskFaults { read_error_permille: 1000, write_error_permille: 1000, ..DiskFaults::default() });
    assert_eq!(read(&mut file, 0, 512), Err(libc::EIO));
    assert_eq!(write(&mut file, 0, 1, 512, false), Err(libc::EIO));
    set(DiskFaults { no_holes: true, ..DiskFaults::default() });
    let hole = FileOp::PunchHole { offset_bytes: 0, length_bytes: 512 };
    assert_eq!(run(&mut file, hole), Err(libc::EOPNOTSUPP));
}

#[test]
fn allocated_space_reads_as_before_and_writing_it_needs_no_more() {
    let world = SimWorld::new(1);
    let disk = world.disk(1 << 20);
    let mut file = disk.open();
    write(&mut file, 512, 7, 512, false).expect("no faults");
    disk.set_faults(DiskFaults { space_bytes: 2048, ..DiskFaults::default() });
    let allocate = |length_bytes| FileOp::Allocate { offset_bytes: 0, length_bytes };
    assert_eq!(run(&mut file, allocate(4096)), Err(libc::ENOSPC));
    assert_eq!(run(&mut file, allocate(2048)), Ok(Vec::new()));
    let expected = [[0; 512], [7; 512], [0; 512], [0; 512]].concat();
    assert_eq!(read(&mut file, 0, 2048), Ok(expected));
    assert_eq!(disk.allocated_bytes(), 2048);
    assert_eq!(write(&mut file, 0, 1, 2048, false), Ok(()));
    assert_eq!(write(&mut file, 4096, 1, 512, false), Err(libc::ENOSPC));
}

#[test]
fn a_write_in_flight_may_end_in_part_even_if_it_would_be_durable() {
    for power in [false, true] {
        let (mut none, mut whole, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let world = SimWorld::new(seed);
            let disk = world.disk(1 << 20);
            let mut file = disk.open();
            let sgl = Sgl::from_slice_heap(&[2; 4096]);
            file.submit(1, FileOp::Write { offset_bytes: 256, sgl, durable: true }).expect("room");
            let after = if power { disk.crash() } else { disk.kill() };
            match after.peek(256, 4096).iter().filter(|&&byte| byte == 2).count() {
                0 => none += 1,
                4096 => whole += 1,
                _ => torn += 1,
            }
        }
        assert!(none > 10 && whole > 10 && torn > 10, "{none} {whole} {torn}");
    }
}

#[test]
fn a_descriptor_of_nothing_is_refused() {
    let world = SimWorld::new(1);
    assert!(world.files().adopt(std::fs::File::open("/dev/null").expect("there").into()).is_err());
    let elsewhere = SimWorld::new(2).disk(512).descriptor().expect("a descriptor");
    assert!(world.files().adopt(elsewhere).is_err(), "this world has no disk");
}

#[test]
fn network_faults_happen_and_refusals_are_refusals() {
    let world = SimWorld::new(3);
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let error = world.connect(nowhere).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let network = world.network();
    let mut listener = network.listen("0.0.0.0:3260".parse().expect("an address")).expect("free");
    let portal = "127.0.0.1:3260".parse().expect("an address");
    world.set_net_faults(NetFaults { accept_error_permille: 1000, backlog: 1, ..NetFaults::none() });
    let client = world.connect(portal).expect("a place in the backlog");
    assert!(world.connect(portal).is_err(), "the backlog is full");
    assert_eq!(listener.try_accept().expect_err("a fault"), StreamError::Broken(libc::EMFILE));
    world.set_net_faults(NetFaults { reset_permille: 1000, ..NetFaults::none() });
    let (parcel, peer) = listener.try_accept().expect("it waited");
    assert_eq!(peer, client.local());
    let mut group = network.group();
    let mut stream = group.adopt(parcel, 1).expect("connected");
    let result = stream.try_recv(&mut [std::io::IoSliceMut::new(&mut [0; 8])]);
    assert_eq!(result, Err(StreamError::Broken(libc::ECONNRESET)));
    assert!(client.is_closed());
    let waiting = world.connect(portal).expect("a place in the backlog");
    drop(listener);
    assert!(waiting.is_closed(), "nobody will accept it any more");
}

#[test]
fn time_moves_only_when_it_is_moved() {
    let world = SimWorld::new(4);
    world.set_auto_advance(false);
    let disk = world.disk(4096);
    disk.set_faults(DiskFaults { latency_us: (100, 100), ..DiskFaults::default() });
    let mut file = disk.open();
    file.submit(1, FileOp::Sync).expect("room");
    let (start, mut done) = (world.now(), Vec::new());
    file.poll(&mut done);
    assert!(done.is_empty() && world.now() == start);
    assert_eq!(world.next_event(), start.after(Duration::from_micros(100)));
    assert!(world.advance_to_next(crate::time::Time::NEVER));
    file.poll(&mut done);
    assert_eq!((done.len(), world.next_event()), (1, crate::time::Time::NEVER));
    assert!(!world.advance_to_next(crate::time::Time::NEVER));
}

#[test]
fn a_simulated_core_has_everything() {
    let core = core(5);
    let before = core.clock.now();
    assert_eq!(core.clock.now(), before);
    let mut random = core.random.borrow_mut();
    assert_ne!(random.next_u64(), random.next_u64());
    assert!(core.buffers.alloc(1 << 20).is_some());
    assert!(core.network.listen("127.0.0.1:0".parse().expect("an address")).is_ok());
}

//! Block I/O over one path.

use std::cell::RefCell;
use std::rc::Rc;

use volume::conformance::{self, Subject};
use volume::volume::Volume;

use super::*;
use crate::Digest;
use crate::limits::COMMANDS_MAX;

#[test]
fn a_namespace_describes_itself_and_keeps_what_is_written() {
    let mut rig = Rig::new(1);
    let info = rig.namespace.info();
    assert_eq!((info.logical_block_bytes, info.length_blocks), (4096, 2048));
    assert_eq!(info.uuid, uuid::Uuid::from_bytes([0x5e; 16]));
    assert!(info.thin && !info.volatile_write_cache);
    for (lba, byte) in [(0, 1), (2047, 2), (17, 3)] {
        let tag = rig.write(lba, byte);
        rig.wait_good(tag);
        assert_eq!(rig.first_byte(lba), byte);
    }
    let tag = rig.submit(Op::Flush, &[]);
    rig.wait_good(tag);
    let unmap = rig.submit(Op::Unmap(Extent { lba: 16, length_blocks: 2 }), &[]);
    rig.wait_good(unmap);
    assert_eq!((rig.first_byte(17), rig.first_byte(0)), (0, 1));
}

#[test]
fn a_long_transfer_is_cut_into_commands_and_joined_again() {
    let mut rig = Rig::new(1);
    let blocks = 1024;
    let bytes: Vec<u8> = (0..blocks * 4096).map(|i: u32| (i / 4096 + i) as u8).collect();
    let extent = Extent { lba: 5, length_blocks: blocks.into() };
    let write = rig.submit(Op::Write { extent, fua: true }, &bytes);
    let sgl = rig.wait_good(write);
    assert_eq!(sgl.len(), bytes.len(), "all buffers come back");
    drop(sgl);
    let writes = rig.target.script(0).seen.iter().filter(|opcode| **opcode == 1).count();
    assert!(writes >= 4, "no command is longer than 1 MiB: {writes}");
    let read = rig.submit(Op::Read(extent), &[]);
    assert!(rig.wait_good(read).to_vec() == bytes);
    let all = rig.submit(Op::Unmap(Extent { lba: 0, length_blocks: 2048 }), &[]);
    rig.wait_good(all);
    let read = rig.submit(Op::Read(extent), &[]);
    assert!(rig.wait_good(read).is_zero());
}

#[test]
fn more_than_fits_waits_for_its_turn() {
    let mut rig = Rig::new(1);
    let count = COMMANDS_MAX as u64 + 200;
    let tags: Vec<u64> = (0..count)
        .map(|lba| {
            rig.submit(
                Op::WriteZeroes {
                    extent: Extent { lba: lba % 2048, length_blocks: 1 },
                    unmap: false,
                    fua: false,
                },
                &[],
            )
        })
        .collect();
    assert_eq!(rig.namespace.in_flight(), count as usize);
    for tag in tags {
        rig.wait_good(tag);
    }
    assert_eq!(rig.namespace.in_flight(), 0);
}

#[test]
fn a_passing_error_is_tried_again_and_a_lasting_one_told() {
    use nvme_spec::Status;
    let mut rig = Rig::new(1);
    rig.target.script(0).fail_next = Some(Status::COMMAND_INTERRUPTED);
    let tag = rig.write(3, 3);
    rig.wait_good(tag);
    assert_eq!(rig.first_byte(3), 3);
    rig.target.script(0).fail_next = Some(Status::UNRECOVERED_READ_ERROR);
    let tag = rig.read(3);
    assert_eq!(rig.wait(tag).status, IoStatus::ReadError { lba: 3 });
    rig.target.script(0).fail_next = Some(Status::CAPACITY_EXCEEDED.with_dnr());
    let tag = rig.write(3, 4);
    assert_eq!(rig.wait(tag).status, IoStatus::NoSpace);
    assert_eq!(rig.first_byte(3), 3);
    assert_eq!(rig.namespace.counters().retries, 1);
}

#[test]
fn a_resized_namespace_says_so() {
    let mut rig = Rig::new(2);
    rig.target.resize(3000);
    rig.until("the new size", |rig| rig.namespace.info().length_blocks == 3000);
    let tag = rig.write(2999, 7);
    rig.wait_good(tag);
}

/// The whole list of behaviours, over a network that cuts and stalls. `compare_bytes` of compare and write are the controllers'; 0: none
/// compares.
fn conforms(block_bytes: u32, digest: Digest, compare_bytes: u32) {
    let mut seed = 0;
    conformance::run_with(block_bytes, &mut |geometry| {
        seed += 1;
        let world = SimWorld::new(seed);
        let few = NetFaults { cut_permille: 50, stall_permille: 20, stall_us_max: 200, ..NetFaults::none() };
        world.set_net_faults(if seed % 4 == 0 { NetFaults::default() } else { few });
        let core = world.core("host");
        let mut target = TestTarget::new(&world, &addresses(2), block_bytes, geometry.length_bytes());
        target.shared.borrow_mut().length_blocks = geometry.length_blocks;
        target.shared.borrow_mut().compare_and_write_blocks = compare_bytes / block_bytes;
        let mut config = config(2);
        (config.header_digest, config.data_digest) = (digest, digest);
        let mut host = Host::new(&core);
        let namespace = host.handle().open(config).expect("a good configuration");
        for _ in 0..100_000 {
            if namespace.is_known() {
                break;
            }
            host.poll(world.now(), 32);
            target.poll();
            world.advance(Duration::from_micros(100));
        }
        assert!(namespace.is_known());
        let volume = Volume::new(Box::new(namespace), &core.buffers).expect("memory for scratch");
        let parts = Rc::new(RefCell::new((host, target)));
        let turn = move || {
            let (host, target) = &mut *parts.borrow_mut();
            host.poll(world.now(), 32);
            target.poll();
            world.advance(Duration::from_micros(20));
        };
        Subject { channel: Box::new(volume), turn: Box::new(turn) }
    });
}

#[test]
fn a_volume_over_a_remote_namespace_conforms() {
    conforms(512, Digest::Off, 64 << 10);
}

#[test]
fn a_volume_over_a_remote_namespace_with_digests_conforms() {
    conforms(4096, Digest::Required, 1 << 20);
}

#[test]
fn a_volume_over_a_remote_namespace_that_does_not_compare_conforms() {
    conforms(512, Digest::Off, 0);
}

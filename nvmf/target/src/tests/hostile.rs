//! Hosts that do what no host does: only their own connection ends.

use super::*;
use nvme_spec::fabrics::FabricsType;
use nvme_spec::nvm::IoControl;
use nvme_spec::{NvmOpcode, SglDescriptor};
use reactor::random::Random;
use zerocopy::FromBytes;

fn random_bytes(random: &mut impl Random, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A well-behaved host beside the others.
fn is_served(world: &World) {
    let admin = world.admin(&host(200));
    let mut io = world.io(&host(200), &admin, 1);
    let got = io.exec(Sqe::io(NvmOpcode::READ, 1, 0, 8, IoControl::NONE), read(4096));
    assert_eq!(got.cqe.status(), Status::SUCCESS);
}

fn assert_nothing_is_left(world: &World) {
    world.turns(50);
    world.sim.advance(Duration::from_secs(100));
    world.turns(50);
    let cores = world.cores.borrow();
    let core = &cores[0];
    assert_eq!((core.connections.len(), core.connecting, core.queue_entries), (0, 0, 0));
    assert_eq!((core.tasks.len(), core.controllers.len(), core.barriers.len()), (0, 0, 0));
    assert!(core.core.buffers.in_use() <= 2, "the reserves of two volumes");
    assert!(
        core.alarms.is_empty() && core.controller_alarms.is_empty() && core.connecting_sources.is_empty()
    );
}

/// Reliability list, scenario 98, and SPDK's crash by a port scanner.
#[test]
fn noise_ends_only_its_own_connection() {
    let world = World::served(1);
    let mut random = world.sim.fork_random();
    for round in 0..200 {
        let end = world.sim.connect(world.address).unwrap();
        let length = 1 + random.below(4000) as usize;
        let mut bytes = random_bytes(&mut random, length);
        if round % 2 == 0 {
            // A sound ICReq first.
            let ic_req = [0, 0, 128, 0, 128, 0, 0, 0];
            let mut front = vec![0; 128];
            front[..8].copy_from_slice(&ic_req);
            bytes.splice(0..0, front);
        }
        end.send_now(&bytes);
        world.turns(8);
        drop(end);
    }
    is_served(&world);
    assert_nothing_is_left(&world);
}

/// Reliability list, scenarios 99 and 101: every opcode with random dwords, on both kinds of queues.
#[test]
fn every_opcode_with_random_fields_is_answered() {
    for seed in 0..2 {
        let world = World::served(seed);
        world.sim.set_net_faults(quiet_network());
        let mut random = world.sim.fork_random();
        let mut admin = world.admin(&host(1));
        let mut io = world.io(&host(1), &admin, 1);
        for round in 0..2048u32 {
            let is_admin = round % 2 == 0;
            let mut sqe = Sqe::read_from_bytes(&random_bytes(&mut random, 64)).unwrap();
            sqe.opcode = (round / 2) as u8;
            sqe.flags = 0x40 | if random.below(8) == 0 { random.below(4) as u8 } else { 0 };
            // Mostly in range, so that more is reached.
            if random.below(4) > 0 {
                (sqe.nsid, sqe.cdw11) = (U32::new(1), U32::new(random.below(4) as u32));
                (sqe.cdw10, sqe.cdw12) =
                    (U32::new(random.below(64) as u32), U32::new(random.below(16) as u32));
            }
            let ends = sqe.fabrics_type() == Some(FabricsType::DISCONNECT)
                || sqe.fabrics_type() == Some(FabricsType::PROPERTY_SET);
            let event = is_admin && sqe.opcode == 0x0c;
            if ends || event {
                continue;
            }
            let length = random.below(8200) as usize;
            let data = match sqe.opcode & 3 {
                1 => write(&random_bytes(&mut random, length)),
                2 => HostData::ReadAtMost(Bytes(vec![0; length])),
                _ => none(),
            };
            let queue = if is_admin { &mut admin } else { &mut io };
            let cid = queue.submit(sqe, data);
            if sqe.flags & 3 != 0 && !is_admin {
                // Its other half comes never; the next command ends it.
                let flush = queue.submit(Sqe::flush(1), none());
                queue.wait(flush);
            }
            queue.wait(cid);
        }
        drop((admin, io));
        assert_nothing_is_left(&world);
    }
}

/// Disconnects in the middle of everything, with slow devices.
#[test]
fn connections_that_vanish_at_any_point_leave_nothing_behind() {
    for seed in 0..12 {
        let world = World::served(100 + seed);
        let mut random = world.sim.fork_random();
        for _ in 0..3 {
            let admin = world.admin(&host(1));
            let mut queues: Vec<Queue<'_>> = (1..=3).map(|qid| world.io(&host(1), &admin, qid)).collect();
            world.desk("v0").hold.set(random.below(2) == 0);
            for _ in 0..random.below(40) {
                let at = random.below(3) as usize;
                let blocks = 1 + random.below(64);
                let sqe = |opcode| Sqe::io(opcode, 1, 0, blocks as u32, IoControl::NONE);
                let bytes = vec![3; blocks as usize * BLOCK];
                match random.below(3) {
                    0 => queues[at].submit(sqe(NvmOpcode::READ), read(bytes.len())),
                    1 => queues[at].submit(sqe(NvmOpcode::WRITE), write(&bytes)),
                    _ => queues[at].submit(Sqe::flush(1), none()),
                };
                for _ in 0..random.below(4) {
                    queues[at].pump();
                }
            }
            match random.below(3) {
                0 => queues.iter().for_each(|queue| queue.end.reset()),
                1 => admin.end.reset(),
                _ => {}
            }
            drop((queues, admin));
            world.turns(20);
            world.desk("v0").release_all();
            world.turns(20);
        }
        is_served(&world);
        assert_nothing_is_left(&world);
    }
}

/// Reliability list, scenario 104.
#[test]
fn a_flood_of_one_address_leaves_room_and_goes_away() {
    let world = World::served(2);
    world.sim.set_net_faults(quiet_network());
    let flood: Vec<SimEnd> = (0..crate::limits::CONNECTING_PER_SOURCE_MAX + 50)
        .map(|_| {
            world.turn();
            world.sim.connect(world.address).unwrap()
        })
        .collect();
    world.turns(10);
    assert_eq!(world.cores.borrow()[0].connecting, crate::limits::CONNECTING_PER_SOURCE_MAX);
    drop(flood);
    world.turns(200);
    is_served(&world);
}

/// Reliability list, scenario 105.
#[test]
fn a_host_that_takes_nothing_is_dropped_and_holds_little() {
    let world = World::served(3);
    world.sim.set_net_faults(NetFaults { window_bytes: 64 << 10, ..quiet_network() });
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    for _ in 0..100 {
        io.submit(Sqe::io(NvmOpcode::READ, 1, 0, 2048, IoControl::NONE), read(1 << 20));
    }
    let mut vectors = [std::io::IoSlice::new(&[]); 64];
    let count = io.queue.tx_chunks(&mut vectors);
    let bytes: Vec<u8> = vectors[..count].iter().flat_map(|vector| vector.to_vec()).collect();
    io.end.send_now(&bytes);
    world.turns(50);
    {
        let cores = world.cores.borrow();
        let buffers = &cores[0].core.buffers;
        assert!(buffers.available_bytes() >= buffers.total_bytes() / 8, "others still find memory");
    }
    is_served(&world);
    for _ in 0..8 {
        world.sim.advance(5 * second());
        world.turns(5);
    }
    assert!(io.end.is_closed());
    assert!(!admin.end.is_closed(), "only the queue that takes nothing");
}

/// All of a queue's commands wait for memory at the same time: they hold none, so it is not for this queue to wait for itself.
#[test]
fn a_host_with_several_reads_gets_on_beside_one_that_takes_nothing() {
    let world = World::served(5);
    world.sim.set_net_faults(NetFaults { window_bytes: 64 << 10, ..quiet_network() });
    let long = |blocks: u32| Sqe::io(NvmOpcode::READ, 1, 0, blocks, IoControl::NONE);
    let admin = world.admin(&host(1));
    let mut stuck = world.io(&host(1), &admin, 1);
    for blocks in [2048, 128] {
        for _ in 0..50 {
            stuck.submit(long(blocks), read(blocks as usize * BLOCK));
        }
    }
    let mut vectors = [std::io::IoSlice::new(&[]); 64];
    let count = stuck.queue.tx_chunks(&mut vectors);
    let bytes: Vec<u8> = vectors[..count].iter().flat_map(|vector| vector.to_vec()).collect();
    stuck.end.send_now(&bytes);
    world.turns(50);

    let admin = world.admin(&host(2));
    let mut other = world.io(&host(2), &admin, 1);
    {
        let cores = world.cores.borrow();
        let buffers = &cores[0].core.buffers;
        assert!(
            buffers.available_bytes() < buffers.total_bytes() / 4 + 128 * BLOCK,
            "the others' part is left"
        );
    }
    for _ in 0..3 {
        let reads: Vec<u16> = (0..8).map(|_| other.submit(long(128), read(128 * BLOCK))).collect();
        for cid in reads {
            assert_eq!(other.wait(cid).cqe.status(), Status::SUCCESS);
        }
    }
    assert!(!stuck.end.is_closed(), "nobody waited until its patience was at an end");
    let cores = world.cores.borrow();
    assert_eq!(
        cores[0].connections.iter().map(|(_, each)| each.waiting).sum::<usize>(),
        cores[0].hungry.len()
    );
}

#[test]
fn data_that_is_owed_and_never_comes_ends_its_queue() {
    let world = World::served(4);
    world.sim.set_net_faults(quiet_network());
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    io.submit(Sqe::io(NvmOpcode::WRITE, 1, 0, 64, IoControl::NONE), write(&[1; 64 * BLOCK]));
    while io.queue.counters().r2ts == 0 {
        io.pump();
    }
    for _ in 0..8 {
        world.sim.advance(6 * second());
        world.turns(3);
    }
    assert!(io.end.is_closed());
    drop((admin, io));
    assert_nothing_is_left(&world);
}

#[test]
fn an_sgl_that_is_no_transport_sgl_is_refused() {
    let world = World::served(5);
    let mut end = world.queue();
    let cqe = end.connect_with(&connect_command(0, 32), &connect_data(&host(1), 0xffff));
    assert_eq!(cqe.status(), Status::SUCCESS);
    // The transport's own tests go through every descriptor; here one that the target sees as a fault.
    assert_eq!(SglDescriptor::in_capsule(4, 8).address.get(), 4);
    let mut sqe = Sqe::flush(1);
    sqe.opcode = 0x06;
    assert_eq!(end.status(sqe), Status::COMMAND_SEQUENCE_ERROR.with_dnr());
}

fn capsule(sqe: &Sqe, data: &[u8]) -> Vec<u8> {
    let pdo = if data.is_empty() { 0 } else { 72 };
    let mut bytes = vec![4, 0, 72, pdo];
    bytes.extend((72 + data.len() as u32).to_le_bytes());
    bytes.extend(sqe.as_bytes());
    bytes.extend(data);
    bytes
}

/// ICReq, Connect and commands in one go, cut anywhere: nothing is lost, and nothing runs before its time.
#[test]
fn a_host_that_does_not_wait_is_answered_all_the_same() {
    for seed in 0..12 {
        let world = World::with(seed, 2, Settings::default());
        world.set_on(seed as usize % 2, world.subsystem()).unwrap();
        let mut connect = connect_command(0, 32);
        connect.sgl = SglDescriptor::in_capsule(0, 1024);
        let mut bytes = vec![0; 128];
        bytes[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
        bytes.extend(capsule(connect.as_sqe(), connect_data(&host(1), 0xffff).as_bytes()));
        let mut early = Sqe::flush(1);
        early.set_sgl(SglDescriptor::transport(0));
        early.cid = U16::new(7);
        early.flags |= seed as u8 % 4;
        bytes.extend(capsule(&early, &[]));
        let end = world.sim.connect(world.address).unwrap();
        let mut random = world.sim.fork_random();
        let mut received = Vec::new();
        while !bytes.is_empty() {
            let now = (1 + random.below(300) as usize).min(bytes.len());
            end.send_now(&bytes[..now]);
            bytes.drain(..now);
            world.turns(1 + random.below(3) as usize);
            received.extend(end.recv_now());
        }
        world.turns(100);
        received.extend(end.recv_now());
        // ICResp, the answer to Connect and the one to the early command.
        assert_eq!(received.len(), 128 + 24 + 24, "seed {seed}");
        assert_eq!(received[128 + 22..128 + 24], [0, 0]);
        assert_ne!(received[152 + 22..152 + 24], [0, 0]);
    }
}

/// A Connect of an I/O queue with fused commands right behind it: they came before the queue took I/O.
#[test]
fn fused_commands_right_behind_connect_crash_nothing() {
    for seed in 0..6 {
        let world = World::served(seed);
        let admin = world.admin(&host(1));
        let mut connect = connect_command(1, 32);
        connect.sgl = SglDescriptor::in_capsule(0, 1024);
        let mut bytes = vec![0; 128];
        bytes[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
        bytes.extend(capsule(connect.as_sqe(), connect_data(&host(1), admin.cntlid).as_bytes()));
        for (cid, opcode, flags) in [(7, NvmOpcode::COMPARE, 0x41), (8, NvmOpcode::WRITE, 0x42)] {
            let mut sqe = Sqe::io(opcode, 1, 0, 1, IoControl::NONE);
            sqe.cid = U16::new(cid);
            sqe.set_sgl(SglDescriptor::in_capsule(0, 512));
            sqe.flags = flags;
            bytes.extend(capsule(&sqe, &[0; 512]));
        }
        let end = world.sim.connect(world.address).unwrap();
        end.send_now(&bytes);
        world.turns(100);
        assert_eq!(end.recv_now().len(), 128 + 3 * 24);
        is_served(&world);
    }
}

/// Requests that wait may be repeated as often as a host likes.
#[test]
fn repeated_resets_and_disconnects_wait_once() {
    let world = World::served(7);
    let mut admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    world.desk("v0").hold.set(true);
    io.submit(Sqe::io(NvmOpcode::WRITE, 1, 0, 1, IoControl::NONE), write(&[1; BLOCK]));
    while world.desk("v0").held() == 0 {
        io.pump();
    }
    let disconnect = *nvme_spec::fabrics::Disconnect::command().as_sqe();
    io.submit(disconnect, none());
    assert_eq!(io.exec(disconnect, none()).cqe.status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    for _ in 0..100 {
        admin.set_property(CC, 0);
        admin.set_property(CC, 1 | 6 << 16 | 4 << 20);
    }
    assert!(world.cores.borrow()[0].barriers.len() <= 2);
    admin.set_property(CC, 0);
    world.desk("v0").release_all();
    world.turns(5);
    assert_eq!(admin.property(CSTS), Ok(0));
    assert!(world.cores.borrow()[0].barriers.is_empty());
}

/// CVE-2023-5178: where a queue cannot be had, what was made for it is given up once.
#[test]
fn a_queue_beyond_what_a_core_holds_is_refused_and_leaves_nothing() {
    use crate::limits::{IO_QUEUES_MAX, QUEUE_ENTRIES_MAX, QUEUE_ENTRIES_PER_CORE_MAX};
    let world = World::served(21);
    world.sim.set_net_faults(quiet_network());
    let hosts = QUEUE_ENTRIES_PER_CORE_MAX / usize::from(IO_QUEUES_MAX) / usize::from(QUEUE_ENTRIES_MAX) + 1;
    let admins: Vec<Queue<'_>> = (0..hosts as u8).map(|number| world.admin(&host(number))).collect();
    let connect = |at: usize, qid| {
        let mut queue = world.queue();
        let data = connect_data(&host(at as u8), admins[at].cntlid);
        let status = queue.connect_with(&connect_command(qid, QUEUE_ENTRIES_MAX), &data).status();
        if status.is_success() { Ok(queue) } else { Err(status) }
    };
    let mut queues = Vec::new();
    let mut refused = 0;
    for at in 0..admins.len() {
        for qid in 1..=IO_QUEUES_MAX {
            match connect(at, qid) {
                Ok(queue) => queues.push((at, qid, queue)),
                Err(status) => {
                    assert_eq!(status.code(), Status::CONNECT_CONTROLLER_BUSY);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= usize::from(IO_QUEUES_MAX), "{refused} were refused");
    assert!(world.cores.borrow()[0].queue_entries <= QUEUE_ENTRIES_PER_CORE_MAX);
    // What goes makes room, for as much and no more.
    let (at, qid, queue) = queues.pop().expect("many were made");
    drop(queue);
    world.turns(20);
    let again = connect(at, qid);
    assert!(again.is_ok() && connect(admins.len() - 1, IO_QUEUES_MAX).is_err());
    drop((again, queues));
    world.turns(50);
    is_served(&world);
    drop(admins);
    assert_nothing_is_left(&world);
}

/// Reliability list, scenario 108, as far as it goes without authentication: nobody is led to believe that there is any.
#[test]
fn authentication_that_is_not_offered_is_refused() {
    let world = World::served(22);
    let mut queue = world.queue();
    let cqe = queue.connect_with(&connect_command(0, 32), &connect_data(&host(1), 0xffff));
    assert_eq!((cqe.status(), ConnectResult::of(&cqe).authreq), (Status::SUCCESS, 0));
    queue.enable();
    for fctype in [FabricsType::AUTHENTICATION_SEND, FabricsType::AUTHENTICATION_RECEIVE] {
        let mut sqe = *Connect::command().as_sqe();
        sqe.nsid = U32::new(u32::from(fctype.0));
        assert_eq!(sqe.fabrics_type(), Some(fctype));
        assert_eq!(queue.status(sqe), Status::INVALID_OPCODE.with_dnr());
    }
    assert!(queue.property(CSTS).is_ok(), "the connection goes on");
}

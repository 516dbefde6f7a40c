//! Connect, controllers and their ends.

use super::*;
use nvme_spec::fabrics::{Disconnect, InvalidParameter};
use nvme_spec::nvm::IoControl;
use nvme_spec::register::{CAP, SHN_NORMAL, SHST_COMPLETE, VS};
use nvme_spec::{AdminOpcode, DISCOVERY_NQN, NvmOpcode};

fn invalid(in_data: bool, ipo: u16) -> (Status, u32) {
    (Status::CONNECT_INVALID_PARAMETERS.with_dnr(), InvalidParameter { ipo, in_data }.dword())
}

#[test]
fn a_host_connects_enables_reads_and_leaves() {
    for seed in 0..8 {
        let world = World::served(seed);
        let mut admin = world.admin(&host(1));
        assert_eq!(admin.property(VS), Ok(0x0002_0100));
        let mut io = world.io(&host(1), &admin, 1);
        let got = io.exec(Sqe::io(NvmOpcode::READ, 1, 0, 8, IoControl::NONE), read(4096));
        assert_eq!((got.cqe.status(), got.data.unwrap().0), (Status::SUCCESS, vec![0; 4096]));
        assert!(io.queue.counters().success_flags > 0, "a plain success rides on the data");
        let report = world.controllers().pop().unwrap();
        assert_eq!((report.host_nqn, report.queues.len(), report.port_id), (host(1).nqn, 2, 1));
        assert_eq!(io.status(*Disconnect::command().as_sqe()), Status::SUCCESS);
        assert!(io.is_closed_soon());
        drop(admin);
        assert!((0..TURNS_MAX).any(|_| world.controllers().is_empty()), "the controller stays");
    }
}

/// Reliability list, scenario 100.
#[test]
fn connect_names_what_is_wrong() {
    let world = World::served(3);
    let mut closed = world.subsystem();
    closed.allow = allow(&[&host(1)]);
    world.set(closed).unwrap();
    let refused = |connect: Connect, data: ConnectData| {
        let mut queue = world.queue();
        let cqe = queue.connect_with(&connect, &data);
        assert!(queue.is_closed_soon());
        (cqe.status(), cqe.dw0.get())
    };
    let data = |number, cntlid| connect_data(&host(number), cntlid);
    assert_eq!(
        refused(connect_command(0, 32), data(2, 0xffff)),
        (Status::CONNECT_INVALID_HOST.with_dnr(), 0)
    );
    assert_eq!(refused(connect_command(0, 32), data(1, 1)), invalid(true, 16));
    let elsewhere = ConnectData { subnqn: nqn_field("nqn.x:none").unwrap(), ..data(1, 0xffff) };
    assert_eq!(refused(connect_command(0, 32), elsewhere), invalid(true, 256));
    assert_eq!(refused(connect_command(0, 1), data(1, 0xffff)), invalid(false, 44));
    assert_eq!(refused(connect_command(1, 32), data(1, 7)), invalid(true, 16));
    assert_eq!(refused(connect_command(0xffff, 32), data(1, 1)), invalid(false, 42));
    let discovery = ConnectData { subnqn: nqn_field(DISCOVERY_NQN).unwrap(), ..data(9, 1) };
    assert_eq!(refused(connect_command(1, 32), discovery), invalid(false, 42));
}

/// Reliability list, scenario 100: an I/O queue of somebody else's controller.
#[test]
fn a_queue_of_somebody_elses_controller_is_refused() {
    let world = World::served(4);
    let admin = world.admin(&host(1));
    let join = |name: &HostName, qid| {
        let mut queue = world.queue();
        queue.connect_with(&connect_command(qid, 32), &connect_data(name, admin.cntlid)).status()
    };
    let wrong = Status::CONNECT_INVALID_PARAMETERS.with_dnr();
    assert_eq!(join(&host(2), 1), wrong);
    let same_name = HostName { id: [2; 16], ..host(1) };
    assert_eq!(join(&same_name, 1), wrong);
    let same_id = HostName { id: [1; 16], ..host(2) };
    assert_eq!(join(&same_id, 1), wrong);
    let io = world.io(&host(1), &admin, 1);
    assert_eq!(join(&host(1), 1), Status::COMMAND_SEQUENCE_ERROR.with_dnr(), "the queue is there already");
    drop(io);
}

#[test]
fn commands_before_connect_and_before_enable_are_out_of_sequence() {
    let world = World::served(5);
    let mut queue = world.queue();
    while queue.queue.negotiated().is_none() {
        queue.pump();
    }
    let early = queue.submit(Sqe::admin(AdminOpcode::KEEP_ALIVE), none());
    assert_eq!(queue.wait(early).cqe.status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    assert!(queue.is_closed_soon());
    let mut admin = world.queue();
    let cqe = admin.connect_with(&connect_command(0, 32), &connect_data(&host(1), 0xffff));
    assert_eq!(cqe.status(), Status::SUCCESS);
    let error = Status::COMMAND_SEQUENCE_ERROR.with_dnr();
    assert_eq!(admin.status(Sqe::admin(AdminOpcode::KEEP_ALIVE)), error);
    let again = write(connect_data(&host(1), 0xffff).as_bytes());
    assert_eq!(admin.exec(*connect_command(0, 32).as_sqe(), again).cqe.status(), error, "QID 0 twice");
    let mut io = world.queue();
    let cqe =
        io.connect_with(&connect_command(1, 32), &connect_data(&host(1), ConnectResult::of(&cqe).cntlid));
    assert_eq!(cqe.status(), error, "an I/O queue of a controller that is not enabled");
}

#[test]
fn a_connection_moves_to_the_core_of_its_subsystem() {
    for seed in 0..8 {
        let world = World::with(seed, 3, Settings::default());
        world.set_on(2, world.subsystem()).unwrap();
        let mut admin = world.admin(&host(1));
        let mut io = world.io(&host(1), &admin, 1);
        assert_eq!(
            io.exec(Sqe::io(NvmOpcode::WRITE, 1, 5, 1, IoControl::NONE), write(&[7; BLOCK])).cqe.status(),
            Status::SUCCESS
        );
        assert!(world.controllers().is_empty());
        let reports = world.ask(2, CoreMessage::Controllers);
        assert_eq!((reports.len(), reports[0].core), (1, 2));
        assert_ne!(admin.property(CAP).unwrap_err(), Status::SUCCESS, "CAP has eight bytes");
    }
}

/// Reliability list, scenario 103.
#[test]
fn a_connection_that_says_nothing_is_closed_in_time() {
    let world = World::served(6);
    let mut silent = world.queue();
    let half = world.queue();
    half.end.send_now(&[0, 0, 128]);
    world.turns(10);
    world.sim.advance(Duration::from_secs(16));
    world.turns(10);
    assert!(half.end.is_closed() && silent.end.is_closed());
    silent.unsent.clear();
    assert_eq!(world.cores.borrow()[0].connecting, 0);
    assert!(world.cores.borrow()[0].connecting_sources.is_empty());
}

#[test]
fn keep_alive_runs_out_without_commands_and_not_with_them() {
    let world = World::served(7);
    world.sim.set_net_faults(quiet_network());
    let mut admin = world.admin_with(&host(1), 5000);
    let mut io = world.io(&host(1), &admin, 1);
    for _ in 0..4 {
        world.sim.advance(4 * second());
        // Traffic on any queue counts (TBKAS).
        assert_eq!(io.status(Sqe::flush(1)), Status::SUCCESS);
    }
    assert_eq!(admin.status(Sqe::admin(AdminOpcode::KEEP_ALIVE)), Status::SUCCESS);
    world.sim.advance(6 * second());
    world.turns(3);
    assert!(admin.end.is_closed() && io.end.is_closed());
    assert!(world.controllers().is_empty());
    let without = world.admin_with(&host(1), 0);
    world.sim.advance(Duration::from_secs(1000));
    world.turns(3);
    assert!(!without.end.is_closed());
}

#[test]
fn reset_closes_the_io_queues_and_the_controller_can_be_enabled_again() {
    let world = World::served(8);
    let mut admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    assert_eq!(admin.set_property(CC, 0), Status::SUCCESS);
    assert!(io.is_closed_soon());
    assert_eq!(admin.property(CSTS), Ok(0));
    admin.enable();
    let mut io = world.io(&host(1), &admin, 1);
    assert_eq!(io.status(Sqe::flush(1)), Status::SUCCESS);
    let shutdown = 1 | 6 << 16 | 4 << 20 | u64::from(SHN_NORMAL) << 14;
    assert_eq!(admin.set_property(CC, shutdown), Status::SUCCESS);
    assert_eq!(admin.property(CSTS), Ok(1 | u64::from(SHST_COMPLETE) << 2));
}

#[test]
fn disconnect_of_the_admin_queue_is_refused() {
    let world = World::served(9);
    let mut admin = world.admin(&host(1));
    assert_eq!(admin.status(*Disconnect::command().as_sqe()), Status::INVALID_QUEUE_TYPE.with_dnr());
}

#[test]
fn controller_identifiers_are_unique_and_stay_in_their_range() {
    let world = World::new(10);
    let mut setup = world.subsystem();
    setup.controller_ids = 100..=101;
    world.set(setup).unwrap();
    let first = world.admin(&host(1));
    let second = world.admin(&host(1));
    let mut ids = [first.cntlid, second.cntlid];
    ids.sort_unstable();
    assert_eq!(ids, [100, 101]);
    let mut third = world.queue();
    let cqe = third.connect_with(&connect_command(0, 32), &connect_data(&host(1), 0xffff));
    assert_eq!(cqe.status(), Status::CONNECT_CONTROLLER_BUSY);
}

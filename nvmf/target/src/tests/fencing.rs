//! No write of an ended association, queue or registration takes effect after the answer that ended it.

use super::*;
use nvme_spec::admin::GetLogPage;
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::fabrics::Disconnect;
use nvme_spec::log::{LogPageId, ReservationNotification};
use nvme_spec::nvm::IoControl;
use nvme_spec::reservation::{
    AcquireAction, AcquireData, ChangePersist, RegisterAction, RegisterData, RegisteredControllerExtended,
    ReleaseAction, ReleaseData, ReservationDword, ReservationReport, ReservationStatusExtended,
    ReservationType,
};
use nvme_spec::{AdminOpcode, NvmOpcode};
use volume::reservation::{Change, Kind, Path};
use volume::shared::{Bell, Changing, Event, Port};
use zerocopy::FromBytes;

fn write_one() -> Sqe {
    Sqe::io(NvmOpcode::WRITE, 1, 0, 1, IoControl::NONE)
}

fn read_one() -> Sqe {
    Sqe::io(NvmOpcode::READ, 1, 0, 1, IoControl::NONE)
}

/// A write that the device holds.
fn hold_a_write(world: &World, io: &mut Queue<'_>) -> u16 {
    world.desk("v0").hold.set(true);
    let before = world.desk("v0").held();
    let cid = io.submit(write_one(), write(&[1; BLOCK]));
    for _ in 0..TURNS_MAX {
        if world.desk("v0").held() > before {
            return cid;
        }
        io.pump();
    }
    panic!("the write does not arrive");
}

/// Begins a Connect of an admin queue; its CID.
fn begin_connect(queue: &mut Queue<'_>, name: &HostName) -> u16 {
    while queue.queue.negotiated().is_none() {
        queue.pump();
    }
    let data = connect_data(name, 0xffff);
    queue.submit(*connect_command(0, 32).as_sqe(), write(data.as_bytes()))
}

/// Reliability list, scenarios 65 and 67; the bug of a host that retries on a new path while the old write is under way.
#[test]
fn a_new_association_waits_for_the_writes_of_the_old_one() {
    let world = World::served(1);
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    hold_a_write(&world, &mut io);
    io.end.reset();
    admin.end.reset();
    world.turns(50);
    let mut other = world.admin(&host(2));
    let mut again = world.queue();
    let cid = begin_connect(&mut again, &host(1));
    assert!(!again.is_done(cid), "the old write may still take effect");
    assert_eq!(
        other.status(Sqe::admin(AdminOpcode::KEEP_ALIVE)),
        Status::SUCCESS,
        "another host does not wait"
    );
    world.desk("v0").release_all();
    assert_eq!(again.wait(cid).cqe.status(), Status::SUCCESS);
    assert_eq!(world.controllers().len(), 2);
}

#[test]
fn a_new_queue_waits_for_the_writes_of_the_lost_one() {
    let world = World::served(2);
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    hold_a_write(&world, &mut io);
    io.end.reset();
    world.turns(50);
    assert!(!admin.end.is_closed(), "the controller stays");
    let mut again = world.queue();
    while again.queue.negotiated().is_none() {
        again.pump();
    }
    let data = connect_data(&host(1), admin.cntlid);
    let cid = again.submit(*connect_command(1, 32).as_sqe(), write(data.as_bytes()));
    assert!(!again.is_done(cid));
    world.desk("v0").release_all();
    assert_eq!(again.wait(cid).cqe.status(), Status::SUCCESS);
}

#[test]
fn disconnect_is_answered_after_the_last_write() {
    let world = World::served(3);
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    let running = hold_a_write(&world, &mut io);
    let waiting = io.submit(write_one(), write(&[2; BLOCK]));
    let cid = io.submit(*Disconnect::command().as_sqe(), none());
    assert!(!io.is_done(cid));
    assert_eq!(io.wait(waiting).cqe.status(), Status::ABORTED_SQ_DELETION);
    world.desk("v0").release_all();
    assert_eq!(io.wait(running).cqe.status(), Status::SUCCESS);
    assert_eq!(io.wait(cid).cqe.status(), Status::SUCCESS);
    assert!(io.is_closed_soon());
}

#[test]
fn a_controller_that_is_reset_is_ready_until_its_last_write_has_ended() {
    let world = World::served(4);
    let mut admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    hold_a_write(&world, &mut io);
    assert_eq!(admin.set_property(CC, 0), Status::SUCCESS);
    assert_eq!(admin.property(CSTS), Ok(1));
    world.desk("v0").release_all();
    world.turns(5);
    assert_eq!(admin.property(CSTS), Ok(0));
}

#[test]
fn keep_alive_expiry_ends_what_waits_and_waits_for_what_runs() {
    let world = World::served(5);
    let admin = world.admin_with(&host(1), 1000);
    let mut io = world.io(&host(1), &admin, 1);
    hold_a_write(&world, &mut io);
    io.submit(write_one(), write(&[2; BLOCK]));
    for _ in 0..50 {
        io.pump();
    }
    world.sim.advance(2 * second());
    world.turns(5);
    assert!(io.end.is_closed());
    let mut again = world.queue();
    let cid = begin_connect(&mut again, &host(1));
    assert!(!again.is_done(cid));
    assert_eq!(world.desk("v0").held(), 1, "the one that waited never runs");
    world.desk("v0").release_all();
    assert_eq!(again.wait(cid).cqe.status(), Status::SUCCESS);
}

/// Data that was asked for and comes after the end of its queue goes nowhere.
#[test]
fn a_write_whose_data_is_late_never_runs() {
    let world = World::served(6);
    let admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    let long = Sqe::io(NvmOpcode::WRITE, 1, 0, 64, IoControl::NONE);
    io.submit(long, write(&[5; 64 * BLOCK]));
    // Command out, R2T in, and not a byte of the data.
    for _ in 0..20 {
        io.pump();
        if io.queue.counters().r2ts > 0 {
            break;
        }
    }
    io.end.reset();
    drop(io);
    world.turns(20);
    let mut next = world.io(&host(1), &admin, 1);
    let got = next.exec(read_one(), read(BLOCK));
    assert_eq!(got.data.unwrap().0, [0; BLOCK]);
}

fn register(queue: &mut Queue<'_>, action: RegisterAction, crkey: u64, nrkey: u64) -> Status {
    let dword = ReservationDword::register(action, false, ChangePersist::NO_CHANGE);
    let data = RegisterData { crkey: U64::new(crkey), nrkey: U64::new(nrkey) };
    queue.exec(dword.sqe(NvmOpcode::RESERVATION_REGISTER, 1), write(data.as_bytes())).cqe.status()
}

fn acquire_sqe(action: AcquireAction, kind: ReservationType) -> Sqe {
    ReservationDword::acquire(action, kind).sqe(NvmOpcode::RESERVATION_ACQUIRE, 1)
}

fn keys(crkey: u64, prkey: u64) -> HostData<Bytes> {
    write(AcquireData { crkey: U64::new(crkey), prkey: U64::new(prkey) }.as_bytes())
}

const EXCLUSIVE: ReservationType = ReservationType::EXCLUSIVE_ACCESS;

/// Two hosts, registered with keys 1 and 2.
fn two_registrants(world: &World) -> [(Queue<'_>, Queue<'_>); 2] {
    [1, 2].map(|number| {
        let admin = world.admin(&host(number));
        let mut io = world.io(&host(number), &admin, 1);
        assert_eq!(register(&mut io, RegisterAction::REGISTER, 0, u64::from(number)), Status::SUCCESS);
        (admin, io)
    })
}

#[test]
fn a_reservation_keeps_others_out_at_once_and_on_every_queue() {
    let world = World::served(7);
    let [(admin_a, mut a), (_admin_b, mut b)] = two_registrants(&world);
    let conflict = Status::RESERVATION_CONFLICT.with_dnr();
    assert_eq!(b.exec(write_one(), write(&[1; BLOCK])).cqe.status(), Status::SUCCESS);
    assert_eq!(
        a.exec(acquire_sqe(AcquireAction::ACQUIRE, EXCLUSIVE), keys(1, 0)).cqe.status(),
        Status::SUCCESS
    );
    assert_eq!(b.exec(write_one(), write(&[2; BLOCK])).cqe.status(), conflict);
    assert_eq!(b.exec(read_one(), read(BLOCK)).cqe.status(), conflict);
    assert_eq!(b.status(Sqe::flush(1)), conflict);
    // The same host by another queue and another controller holds it as well.
    let mut second = world.io(&host(1), &admin_a, 2);
    assert_eq!(second.exec(write_one(), write(&[3; BLOCK])).cqe.status(), Status::SUCCESS);
    let other_admin = world.admin(&host(1));
    let mut other = world.io(&host(1), &other_admin, 1);
    assert_eq!(other.exec(read_one(), read(BLOCK)).data.unwrap().0, [3; BLOCK]);
    let release =
        ReservationDword::release(ReleaseAction::RELEASE, EXCLUSIVE).sqe(NvmOpcode::RESERVATION_RELEASE, 1);
    let key = write(ReleaseData { crkey: U64::new(1) }.as_bytes());
    assert_eq!(other.exec(release, key).cqe.status(), Status::SUCCESS);
    assert_eq!(b.exec(read_one(), read(BLOCK)).cqe.status(), Status::SUCCESS);
}

#[test]
fn the_report_lists_every_registrant() {
    let world = World::served(8);
    let [(_admin, mut a), _b] = two_registrants(&world);
    a.exec(acquire_sqe(AcquireAction::ACQUIRE, ReservationType::WRITE_EXCLUSIVE), keys(1, 0));
    let sqe = ReservationReport { length_bytes: 4096, extended: true }.sqe(1);
    let got = a.exec(sqe, HostData::ReadAtMost(Bytes(vec![0; 4096])));
    assert_eq!(got.received_bytes, 64 + 2 * 64);
    let page = got.data.unwrap().0;
    let (head, rest) = ReservationStatusExtended::read_from_prefix(&page).unwrap();
    assert_eq!((head.status.regstrnt.get(), head.status.rtype), (2, ReservationType::WRITE_EXCLUSIVE));
    let entry = RegisteredControllerExtended::read_from_prefix(rest).unwrap().0;
    assert_eq!((entry.hostid, entry.rcsts, entry.rkey.get()), ([1; 16], 1, 1));
    let short = ReservationReport { length_bytes: 4096, extended: false }.sqe(1);
    let refused = a.exec(short, HostData::ReadAtMost(Bytes(vec![0; 4096]))).cqe.status();
    assert_eq!(refused, Status::HOST_IDENTIFIER_INCONSISTENT_FORMAT.with_dnr());
}

#[test]
fn preempt_and_abort_waits_for_the_victims_writes() {
    let world = World::served(9);
    let [(_admin_a, mut a), (mut admin_b, mut b)] = two_registrants(&world);
    b.exec(acquire_sqe(AcquireAction::ACQUIRE, EXCLUSIVE), keys(2, 0));
    let events = admin_b.submit(Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST), none());
    let running = hold_a_write(&world, &mut b);
    let waiting = b.submit(write_one(), write(&[2; BLOCK]));
    assert!(!b.is_done(waiting));
    let preempt = a.submit(acquire_sqe(AcquireAction::PREEMPT_AND_ABORT, EXCLUSIVE), keys(1, 2));
    assert!(!a.is_done(preempt), "the victim's write may still take effect");
    assert_eq!(b.wait(waiting).cqe.status(), Status::ABORTED_PREEMPT_AND_ABORT);
    let late = b.exec(write_one(), write(&[4; BLOCK])).cqe.status();
    assert_eq!(late, Status::RESERVATION_CONFLICT.with_dnr());
    world.desk("v0").release_all();
    assert_eq!(a.wait(preempt).cqe.status(), Status::SUCCESS);
    assert_eq!(b.wait(running).cqe.status(), Status::SUCCESS, "it took effect before the answer");
    let told = AsynchronousEvent::of(admin_b.wait(events).cqe.dw0.get());
    assert_eq!(told, AsynchronousEvent::RESERVATION_LOG_AVAILABLE);
    let request =
        GetLogPage { lid: LogPageId::RESERVATION_NOTIFICATION, length_bytes: 64, ..GetLogPage::default() };
    let page = admin_b.exec(request.sqe(), read(64)).data.unwrap().0;
    let notice = ReservationNotification::read_from_bytes(&page).unwrap();
    assert_eq!((notice.notification_type.0, notice.nsid.get()), (1, 1));
}

/// The victims' queues may be gone already; what they left in the volume counts all the same.
#[test]
fn preempt_and_abort_waits_for_victims_that_are_gone() {
    let world = World::served(10);
    let [(_admin_a, mut a), (admin_b, mut b)] = two_registrants(&world);
    hold_a_write(&world, &mut b);
    b.end.reset();
    admin_b.end.reset();
    world.turns(50);
    let preempt = a.submit(acquire_sqe(AcquireAction::PREEMPT_AND_ABORT, EXCLUSIVE), keys(1, 2));
    assert!(!a.is_done(preempt));
    world.desk("v0").release_all();
    assert_eq!(a.wait(preempt).cqe.status(), Status::SUCCESS);
}

/// Another protocol's way into the volume of namespace 1.
fn other_front_end(world: &World) -> (Port, Bell) {
    let bell = Bell::default();
    (world.registries[0].get("v0").unwrap().open_port(&bell, 0).unwrap(), bell)
}

fn scsi() -> Path {
    Path::new(b"iqn.x:i,i,0x1", b"iqn.x:t,t,0x1").unwrap()
}

fn change(world: &World, port: &Port, change: &Change) -> Option<volume::shared::Changed> {
    match port.change_reservations(&scsi(), change) {
        Changing::Now(changed) => Some(changed),
        Changing::Pending => {
            for _ in 0..100 {
                world.turn();
                if let Some(Event::ReservationsChanged(changed)) = port.next_event() {
                    return changed;
                }
            }
            panic!("no end of the change");
        }
        _ => None,
    }
}

#[test]
fn another_protocol_reserves_and_preempts_with_the_same_rules() {
    let world = World::served(11);
    let [(_admin_a, mut a), _b] = two_registrants(&world);
    let (port, _bell) = other_front_end(&world);
    let register = Change::Register {
        key: 0,
        new_key: 9,
        ignore_key: false,
        survives_power_loss: false,
        relative_target_port: 1,
    };
    change(&world, &port, &register).unwrap();
    change(&world, &port, &Change::Reserve { key: 9, kind: Kind::WriteExclusive }).unwrap();
    let conflict = Status::RESERVATION_CONFLICT.with_dnr();
    assert_eq!(a.exec(write_one(), write(&[1; BLOCK])).cqe.status(), conflict);
    assert_eq!(a.exec(read_one(), read(BLOCK)).cqe.status(), Status::SUCCESS);
    change(&world, &port, &Change::Release { key: 9, kind: Kind::WriteExclusive }).unwrap();
    let running = hold_a_write(&world, &mut a);
    let preempt = Change::Preempt { key: 9, victim_key: 1, kind: Kind::WriteExclusive, abort: true };
    let ticket = change(&world, &port, &preempt).unwrap().aborting.expect("NVMe has a task to end");
    world.turns(20);
    assert_eq!(port.next_event(), None);
    world.desk("v0").release_all();
    assert_eq!(a.wait(running).cqe.status(), Status::SUCCESS);
    world.turns(5);
    assert_eq!(port.next_event(), Some(Event::AbortsDone(ticket)));
}

#[test]
fn preempting_another_protocols_registrant_waits_for_its_tasks() {
    let world = World::served(12);
    let [(_admin_a, mut a), _b] = two_registrants(&world);
    let (port, _bell) = other_front_end(&world);
    let register = Change::Register {
        key: 0,
        new_key: 9,
        ignore_key: false,
        survives_power_loss: false,
        relative_target_port: 1,
    };
    change(&world, &port, &register).unwrap();
    while port.next_event().is_some() {}
    let preempt = a.submit(acquire_sqe(AcquireAction::PREEMPT_AND_ABORT, EXCLUSIVE), keys(1, 9));
    assert!(!a.is_done(preempt), "the other protocol has not said that it is done");
    let Some(Event::ReservationsChangedElsewhere { outcome, abort: Some(ticket) }) = port.next_event() else {
        panic!("it is told");
    };
    assert_eq!(outcome.abort_tasks_of, [scsi()]);
    port.aborted(ticket);
    assert_eq!(a.wait(preempt).cqe.status(), Status::SUCCESS);
}

#[test]
fn a_host_without_an_identifier_registers_nothing() {
    let world = World::served(13);
    let nobody = HostName { id: [0; 16], ..host(1) };
    let admin = world.admin(&nobody);
    let mut io = world.io(&nobody, &admin, 1);
    let status = register(&mut io, RegisterAction::REGISTER, 0, 5);
    assert_eq!(status, Status::HOST_IDENTIFIER_NOT_INITIALIZED.with_dnr());
}

/// CVE-2025-57275 of SPDK: more registrants than the table holds.
#[test]
fn one_registrant_too_many_is_refused() {
    let world = World::served(14);
    world.sim.set_net_faults(quiet_network());
    let most = volume::reservation::limits::REGISTRANTS_MAX as u8;
    for number in 1..=most {
        let admin = world.admin(&host(number));
        let mut io = world.io(&host(number), &admin, 1);
        assert_eq!(register(&mut io, RegisterAction::REGISTER, 0, 5), Status::SUCCESS, "{number}");
    }
    let admin = world.admin(&host(most + 1));
    let mut io = world.io(&host(most + 1), &admin, 1);
    assert_eq!(register(&mut io, RegisterAction::REGISTER, 0, 5), Status::INSUFFICIENT_RESOURCES.with_dnr());
}

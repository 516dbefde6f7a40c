//! Identify, log pages, features, events and aborts.

use super::*;
use nvme_spec::admin::{FeatureSelect, GetLogPage, Identify, NOT_ABORTED};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::FeatureId;
use nvme_spec::identify::{
    Cns, CommandSet, ControllerList, IdentifyController, IdentifyNamespace, NamespaceList,
};
use nvme_spec::log::{ErrorInformation, LogPageId, SmartHealth};
use nvme_spec::nvm::IoControl;
use nvme_spec::{AdminOpcode, DISCOVERY_NQN, NSID_ALL, NvmOpcode};
use zerocopy::FromBytes;

fn identify(queue: &mut Queue<'_>, cns: Cns, nsid: u32) -> Result<Vec<u8>, Status> {
    let request = Identify { cns, nsid, cntid: 0, ..Identify::default() };
    ask(queue, request.sqe(), 4096)
}

fn ask(queue: &mut Queue<'_>, sqe: Sqe, length: usize) -> Result<Vec<u8>, Status> {
    let got = queue.exec(sqe, read(length));
    if got.cqe.status().is_success() { Ok(got.data.unwrap().0) } else { Err(got.cqe.status()) }
}

fn log(queue: &mut Queue<'_>, lid: LogPageId, length: usize) -> Result<Vec<u8>, Status> {
    let request = GetLogPage { lid, length_bytes: length as u64, nsid: NSID_ALL, ..GetLogPage::default() };
    ask(queue, request.sqe(), length)
}

#[test]
fn identify_answers_what_hosts_ask() {
    let world = World::served(1);
    let mut admin = world.admin(&host(1));
    let data = identify(&mut admin, Cns::CONTROLLER, 0).unwrap();
    let controller = IdentifyController::read_from_bytes(&data).unwrap();
    assert_eq!(
        (controller.cntlid.get(), controller.nn.get(), &controller.sn[..4]),
        (admin.cntlid, 1024, &b"SN1 "[..])
    );
    let list = NamespaceList::read_from_bytes(&identify(&mut admin, Cns::ACTIVE_NAMESPACE_LIST, 0).unwrap())
        .unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [1]);
    let namespace = identify(&mut admin, Cns::NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::read_from_bytes(&namespace).unwrap().nsze_blocks.get(), 8192);
    assert_eq!(identify(&mut admin, Cns::NAMESPACE, 2).unwrap(), vec![0; 4096], "inactive");
    let absent = Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
    for nsid in [0, 1025, NSID_ALL] {
        assert_eq!(identify(&mut admin, Cns::NAMESPACE, nsid), absent);
    }
    assert_eq!(identify(&mut admin, Cns::ACTIVE_NAMESPACE_LIST, NSID_ALL), absent);
    let list =
        ControllerList::read_from_bytes(&identify(&mut admin, Cns::CONTROLLER_LIST, 0).unwrap()).unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [admin.cntlid]);
    for cns in [0x03, 0x05, 0x06, 0x07, 0x08, 0x10, 0x11, 0x12] {
        assert!(identify(&mut admin, Cns(cns), 1).is_ok() || cns == 0x07, "{cns:x}");
    }
    let sets = Identify { cns: Cns::COMMAND_SETS, cntid: 0xffff, ..Identify::default() };
    assert_eq!(ask(&mut admin, sets.sqe(), 4096).unwrap()[0], 1);
    let zoned = Identify { cns: Cns::COMMAND_SET_CONTROLLER, csi: CommandSet::ZNS, ..Identify::default() };
    assert_eq!(ask(&mut admin, zoned.sqe(), 4096), Err(Status::INVALID_IO_COMMAND_SET.with_dnr()));
    for cns in [0x04, 0x14, 0x15, 0x16, 0x18, 0x20, 0xff] {
        assert_eq!(identify(&mut admin, Cns(cns), 0), Err(Status::INVALID_FIELD.with_dnr()), "{cns:x}");
    }
    let request = Identify { cns: Cns::CONTROLLER, ..Identify::default() };
    assert_eq!(ask(&mut admin, request.sqe(), 512), Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr()));
}

#[test]
fn log_pages_answer_in_parts_and_refuse_what_is_not_there() {
    let world = World::served(2);
    let mut admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    io.exec(Sqe::io(NvmOpcode::WRITE, 1, 0, 8, IoControl::NONE), write(&[1; 4096]));
    io.exec(Sqe::io(NvmOpcode::READ, 1, 0, 8, IoControl::NONE), read(4096));
    let smart = SmartHealth::read_from_bytes(&log(&mut admin, LogPageId::SMART, 512).unwrap()).unwrap();
    assert_eq!((smart.host_read_commands.get(), smart.host_write_commands.get()), (1, 1));
    io.exec(Sqe::io(NvmOpcode::READ, 1, 9999, 8, IoControl::NONE), read(4096));
    let errors = log(&mut admin, LogPageId::ERROR, 1024).unwrap();
    let newest = ErrorInformation::read_from_bytes(&errors[..64]).unwrap();
    assert_eq!((newest.lba.get(), newest.sqid.get(), newest.status.get() >> 1), (9999, 1, 0x4080));
    for lid in [0x00, 0x03, 0x04, 0x05, 0x0c, 0x12, 0x80] {
        assert!(log(&mut admin, LogPageId(lid), 64).is_ok(), "{lid:x}");
    }
    for lid in [0x06, 0x07, 0x0d, 0x70, 0x81, 0xff] {
        assert_eq!(log(&mut admin, LogPageId(lid), 64), Err(Status::INVALID_LOG_PAGE.with_dnr()), "{lid:x}");
    }
    let errors = log(&mut admin, LogPageId::ERROR, 1024).unwrap();
    let part = GetLogPage { lid: LogPageId::ERROR, length_bytes: 64, offset: 64, ..GetLogPage::default() };
    assert_eq!(ask(&mut admin, part.sqe(), 64).unwrap(), errors[64..128]);
    for offset in [2, 1 << 20, u64::MAX - 3] {
        let wrong = GetLogPage { offset, ..part };
        assert_eq!(ask(&mut admin, wrong.sqe(), 64), Err(Status::INVALID_FIELD.with_dnr()));
    }
    let huge = GetLogPage { length_bytes: 1 << 34, offset: 0, ..part };
    assert_eq!(ask(&mut admin, huge.sqe(), 64), Err(Status::INVALID_FIELD.with_dnr()));
}

#[test]
fn event_requests_wait_and_the_fifth_is_refused() {
    let world = World::served(3);
    let mut admin = world.admin(&host(1));
    let config = Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, u32::MAX);
    assert_eq!(admin.status(config), Status::SUCCESS);
    let request = Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST);
    let waiting: Vec<u16> = (0..4).map(|_| admin.submit(request, none())).collect();
    assert_eq!(admin.status(request), Status::AER_LIMIT_EXCEEDED.with_dnr());
    let mut setup = world.subsystem();
    setup.namespaces.insert(2, NamespaceSetup::new("v1"));
    world.set(setup).unwrap();
    // Namespaces have changed, and so has their ANA group.
    let mut told: Vec<AsynchronousEvent> =
        waiting[..2].iter().map(|cid| AsynchronousEvent::of(admin.wait(*cid).cqe.dw0.get())).collect();
    told.sort_by_key(|event| event.information);
    assert_eq!(told, [AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED, AsynchronousEvent::ANA_CHANGE]);
    let changed = log(&mut admin, LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST, 4096).unwrap();
    assert_eq!(changed[..8], [2, 0, 0, 0, 0, 0, 0, 0]);
    let cid = admin.queue.in_flight();
    assert_eq!(cid, 2, "two requests wait on");
    let abort = admin.exec(Sqe::abort(0, waiting[3]), none()).cqe;
    assert_eq!((abort.status(), abort.dw0.get()), (Status::SUCCESS, 0));
    assert_eq!(admin.wait(waiting[3]).cqe.status(), Status::ABORT_REQUESTED);
    let nothing = admin.exec(Sqe::abort(7, 7), none()).cqe;
    assert_eq!(nothing.dw0.get(), NOT_ABORTED);
}

#[test]
fn abort_takes_back_what_waits_and_leaves_what_runs() {
    let world = World::served(4);
    let mut admin = world.admin(&host(1));
    let mut io = world.io(&host(1), &admin, 1);
    world.desk("v0").hold.set(true);
    let sqe = Sqe::io(NvmOpcode::WRITE, 1, 0, 1, IoControl::NONE);
    let running = io.submit(sqe, write(&[1; BLOCK]));
    let waiting = io.submit(sqe, write(&[2; BLOCK]));
    assert!(!io.is_done(waiting));
    let abort = |admin: &mut Queue<'_>, cid| admin.exec(Sqe::abort(1, cid), none()).cqe.dw0.get();
    assert_eq!(abort(&mut admin, waiting), 0);
    assert_eq!(io.wait(waiting).cqe.status(), Status::ABORT_REQUESTED);
    assert_eq!(abort(&mut admin, running), NOT_ABORTED);
    world.desk("v0").release_all();
    assert_eq!(io.wait(running).cqe.status(), Status::SUCCESS, "it took effect, so it says so");
    let got = io.exec(Sqe::io(NvmOpcode::READ, 1, 0, 1, IoControl::NONE), read(BLOCK));
    assert_eq!(got.data.unwrap().0, [1; BLOCK]);
}

#[test]
fn features_are_kept_per_controller() {
    let world = World::served(5);
    let mut one = world.admin(&host(1));
    let mut two = world.admin(&host(2));
    assert_eq!(one.status(Sqe::set_features(FeatureId::VOLATILE_WRITE_CACHE, 0, 0)), Status::SUCCESS);
    let get = Sqe::get_features(FeatureId::VOLATILE_WRITE_CACHE, 0, FeatureSelect::CURRENT);
    assert_eq!(one.exec(get, none()).cqe.dw0.get(), 0);
    assert_eq!(two.exec(get, none()).cqe.dw0.get(), 1);
    let mut host_id = Sqe::get_features(FeatureId::HOST_IDENTIFIER, 0, FeatureSelect::CURRENT);
    host_id.cdw11 = U32::new(1);
    assert_eq!(one.exec(host_id, read(16)).data.unwrap().0, [1; 16]);
    assert_eq!(two.exec(host_id, read(16)).data.unwrap().0, [2; 16]);
    let queues = one.exec(Sqe::set_features(FeatureId::NUMBER_OF_QUEUES, 0, 3 << 16 | 5), none()).cqe;
    assert_eq!(queues.dw0.get(), 3 << 16 | 3);
    let persist = Sqe::set_features(FeatureId::RESERVATION_PERSISTENCE, NSID_ALL, 1);
    assert_eq!(one.status(persist), Status::SUCCESS);
    let persists = Sqe::get_features(FeatureId::RESERVATION_PERSISTENCE, 1, FeatureSelect::CURRENT);
    assert_eq!(two.exec(persists, none()).cqe.dw0.get(), 1);
    let save = Sqe { cdw10: U32::new(1 << 31 | 1), ..Sqe::set_features(FeatureId::ARBITRATION, 0, 0) };
    assert_eq!(one.status(save), Status::FEATURE_NOT_SAVEABLE.with_dnr());
}

#[test]
fn a_discovery_controller_lists_what_the_host_may_use() {
    let world = World::served(6);
    let mut queue = world.queue();
    let data = ConnectData { subnqn: nqn_field(DISCOVERY_NQN).unwrap(), ..connect_data(&host(1), 0xffff) };
    let connect = Connect { kato_ms: U32::new(30_000), ..connect_command(0, 32) };
    assert_eq!(queue.connect_with(&connect, &data).status(), Status::SUCCESS);
    queue.enable();
    let controller =
        IdentifyController::read_from_bytes(&identify(&mut queue, Cns::CONTROLLER, 0).unwrap()).unwrap();
    assert_eq!(controller.cntrltype.0, 2);
    let page = log(&mut queue, LogPageId::DISCOVERY, 3072).unwrap();
    assert_eq!((page[0], page[8]), (1, 2), "generation and two records");
    assert_eq!(&page[2048 + 256..2048 + 256 + NQN.len()], NQN.as_bytes());
    assert_eq!(&page[2048 + 512..2048 + 520], b"10.0.0.1");
    let config = Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, 1 << 31);
    assert_eq!(queue.status(config), Status::SUCCESS);
    let request = queue.submit(Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST), none());
    world.set(world.subsystem()).unwrap();
    let event = AsynchronousEvent::of(queue.wait(request).cqe.dw0.get());
    assert_eq!(event, AsynchronousEvent::DISCOVERY_LOG_CHANGED);
    assert_eq!(identify(&mut queue, Cns::NAMESPACE, 1), Err(Status::INVALID_FIELD.with_dnr()));
    assert_eq!(log(&mut queue, LogPageId::ANA, 64), Err(Status::INVALID_LOG_PAGE.with_dnr()));
    let queues = Sqe::set_features(FeatureId::NUMBER_OF_QUEUES, 0, 0);
    assert_eq!(queue.status(queues), Status::INVALID_FIELD.with_dnr());
}

//! Subsystems and namespaces that change under I/O.

use super::*;
use crate::setup::AnaState;
use nvme_spec::admin::GetLogPage;
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::FeatureId;
use nvme_spec::identify::IdentifyNamespace;
use nvme_spec::log::{AnaGroup, AnaHeader, LogPageId};
use nvme_spec::nvm::IoControl;
use nvme_spec::{AdminOpcode, NvmOpcode};
use zerocopy::FromBytes;

fn io(opcode: NvmOpcode, nsid: u32) -> Sqe {
    Sqe::io(opcode, nsid, 0, 1, IoControl::NONE)
}

fn with_events<'w>(world: &'w World, name: &HostName) -> (Queue<'w>, u16) {
    let mut admin = world.admin(name);
    let config = Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, u32::MAX);
    assert_eq!(admin.status(config), Status::SUCCESS);
    let request = admin.submit(Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST), none());
    (admin, request)
}

/// Reliability list, scenario 70: a namespace that becomes another volume under I/O.
#[test]
fn a_remapped_namespace_never_serves_the_old_volume() {
    let world = World::served(1);
    let (mut admin, request) = with_events(&world, &host(1));
    let mut queue = world.io(&host(1), &admin, 1);
    queue.exec(io(NvmOpcode::WRITE, 1), write(&[1; BLOCK]));
    world.desk("v0").hold.set(true);
    let running = queue.submit(io(NvmOpcode::WRITE, 1), write(&[2; BLOCK]));
    let waiting = queue.submit(io(NvmOpcode::READ, 1), read(BLOCK));
    assert!(!queue.is_done(waiting));
    let mut setup = world.subsystem();
    setup.namespaces.insert(1, NamespaceSetup::new("v1"));
    world.set(setup.clone()).unwrap();
    let gone = Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr();
    assert_eq!(queue.wait(waiting).cqe.status(), gone);
    assert_eq!(queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).data.unwrap().0, [0; BLOCK], "the new volume");
    assert_eq!(world.namespaces(), 2, "the old one has a write under way");
    world.desk("v0").release_all();
    assert_eq!(queue.wait(running).cqe.status(), Status::SUCCESS);
    world.turns(5);
    assert_eq!(world.namespaces(), 1);
    let event = AsynchronousEvent::of(admin.wait(request).cqe.dw0.get());
    assert_eq!(event, AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED);
    setup.namespaces.clear();
    world.set(setup).unwrap();
    assert_eq!(queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).cqe.status(), gone);
    assert_eq!(world.namespaces(), 0);
    let removed = world.remove_volume("v1");
    assert_eq!(removed, Ok(()));
}

/// Data that was asked for while the NSID meant another volume does not reach the new one.
#[test]
fn data_that_comes_after_a_remap_is_not_written() {
    for seed in 0..4 {
        let world = World::served(20 + seed);
        let admin = world.admin(&host(1));
        let mut queue = world.io(&host(1), &admin, 1);
        let long = Sqe::io(NvmOpcode::WRITE, 1, 0, 64, IoControl::NONE);
        let cid = queue.submit(long, write(&[5; 64 * BLOCK]));
        while queue.queue.counters().r2ts == 0 {
            queue.pump();
        }
        let mut setup = world.subsystem();
        setup.namespaces.clear();
        world.set(setup).unwrap();
        let gone = Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr();
        assert_eq!(queue.wait(cid).cqe.status(), gone);
    }
}

#[test]
fn a_grown_volume_is_told_and_can_be_used_to_its_end() {
    let world = World::served(2);
    let (mut admin, request) = with_events(&world, &host(1));
    let mut queue = world.io(&host(1), &admin, 1);
    let beyond = Sqe::io(NvmOpcode::READ, 1, 8192, 1, IoControl::NONE);
    assert_eq!(queue.exec(beyond, read(BLOCK)).cqe.status(), Status::LBA_OUT_OF_RANGE.with_dnr());
    world.registries[0].resize("v0", 16384).unwrap();
    let event = AsynchronousEvent::of(admin.wait(request).cqe.dw0.get());
    assert_eq!(event, AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED);
    assert_eq!(queue.exec(beyond, read(BLOCK)).cqe.status(), Status::SUCCESS);
    let sqe = nvme_spec::admin::Identify { nsid: 1, ..Default::default() }.sqe();
    let data = admin.exec(sqe, read(4096)).data.unwrap().0;
    assert_eq!(IdentifyNamespace::read_from_bytes(&data).unwrap().nsze_blocks.get(), 16384);
}

#[test]
fn a_path_that_becomes_inaccessible_says_so() {
    let world = World::served(3);
    let (mut admin, request) = with_events(&world, &host(1));
    let mut queue = world.io(&host(1), &admin, 1);
    assert_eq!(queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).cqe.status(), Status::SUCCESS);
    let set = |port_id, state| {
        world.ask(0, |answer| CoreMessage::SetAnaState { nqn: NQN.into(), port_id, group: 1, state, answer })
    };
    assert_eq!(set(1, AnaState::Inaccessible), Ok(()));
    let event = AsynchronousEvent::of(admin.wait(request).cqe.dw0.get());
    assert_eq!(event, AsynchronousEvent::ANA_CHANGE);
    assert_eq!(queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).cqe.status(), Status::ANA_INACCESSIBLE);
    let log = GetLogPage { lid: LogPageId::ANA, length_bytes: 52, ..GetLogPage::default() };
    let page = admin.exec(log.sqe(), read(52)).data.unwrap().0;
    let (header, rest) = AnaHeader::read_from_prefix(&page).unwrap();
    let (group, nsids) = AnaGroup::read_from_prefix(rest).unwrap();
    assert_eq!((header.change_count.get(), header.groups.get(), group.change_count.get()), (1, 1, 1));
    assert_eq!((group.ana_state().0, nsids), (3, &[1, 0, 0, 0][..]));
    let states = [
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
        (AnaState::Change, Status::ANA_TRANSITION),
        (AnaState::NonOptimized, Status::SUCCESS),
    ];
    for (state, expected) in states {
        set(1, state).unwrap();
        assert_eq!(queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).cqe.status(), expected);
    }
    set(1, AnaState::Optimized).unwrap();
    set(2, AnaState::Inaccessible).unwrap();
    assert_eq!(
        queue.exec(io(NvmOpcode::READ, 1), read(BLOCK)).cqe.status(),
        Status::SUCCESS,
        "another port's"
    );
}

#[test]
fn hosts_that_are_no_longer_allowed_are_dropped() {
    let world = World::served(4);
    let mut stays = world.admin(&host(1));
    let mut goes = world.admin(&host(2));
    let mut setup = world.subsystem();
    setup.allow = allow(&[&host(1)]);
    world.set(setup).unwrap();
    assert!(goes.is_closed_soon());
    assert_eq!(stays.status(Sqe::admin(AdminOpcode::KEEP_ALIVE)), Status::SUCCESS);
}

#[test]
fn a_removed_subsystem_answers_when_its_last_write_has_ended() {
    let world = World::served(5);
    let admin = world.admin(&host(1));
    let mut queue = world.io(&host(1), &admin, 1);
    world.desk("v0").hold.set(true);
    queue.submit(io(NvmOpcode::WRITE, 1), write(&[2; BLOCK]));
    while world.desk("v0").held() == 0 {
        queue.pump();
    }
    let answer = world.begin(0, |answer| CoreMessage::RemoveSubsystem { nqn: NQN.into(), answer });
    world.turns(20);
    assert!(answer.try_recv().is_err());
    let removing = TargetError::Removing { nqn: NQN.into() };
    assert_eq!(world.set(world.subsystem()), Err(removing));
    world.desk("v0").release_all();
    world.turns(5);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(queue.is_closed_soon());
    assert_eq!(world.namespaces(), 0);
    assert_eq!(world.set(world.subsystem()), Ok(()));
}

#[test]
fn set_up_that_cannot_be_is_refused_whole() {
    let world = World::served(6);
    let mut setup = world.subsystem();
    setup.namespaces.insert(2, NamespaceSetup::new("v1"));
    setup.namespaces.insert(3, NamespaceSetup::new("nowhere"));
    assert_eq!(world.set(setup.clone()), Err(TargetError::NoSuchVolume { name: "nowhere".into() }));
    assert_eq!(world.namespaces(), 1, "nothing of it was done");
    setup.namespaces.clear();
    setup.namespaces.insert(1025, NamespaceSetup::new("v1"));
    assert!(matches!(world.set(setup.clone()), Err(TargetError::Nsid { nsid: 1025, .. })));
    setup.namespaces.clear();
    setup.namespaces.insert(1, NamespaceSetup { volume: "v1".into(), ana_group: 0 });
    assert!(matches!(world.set(setup), Err(TargetError::AnaGroup { group: 0, .. })));
    let missing = world.ask(0, |answer| CoreMessage::RemoveSubsystem { nqn: "nqn.x:none".into(), answer });
    assert!(matches!(missing, Err(TargetError::NoSuchSubsystem { .. })));
}

#[test]
fn a_dropped_controller_may_come_back() {
    let world = World::served(7);
    let mut admin = world.admin(&host(1));
    let drop_it =
        |cntlid| world.ask(0, |answer| CoreMessage::DropController { nqn: NQN.into(), cntlid, answer });
    assert!(!drop_it(999));
    assert!(drop_it(admin.cntlid));
    assert!(admin.is_closed_soon());
    drop(world.admin(&host(1)));
}

#[test]
fn draining_answers_what_runs_and_lets_the_volumes_go() {
    let world = World::served(8);
    let admin = world.admin(&host(1));
    let mut queue = world.io(&host(1), &admin, 1);
    world.desk("v0").hold.set(true);
    let cid = queue.submit(io(NvmOpcode::WRITE, 1), write(&[2; BLOCK]));
    while world.desk("v0").held() == 0 {
        queue.pump();
    }
    let drained = world.begin(0, CoreMessage::Drain);
    world.turns(10);
    assert!(drained.try_recv().is_err());
    world.desk("v0").release_all();
    for _ in 0..100 {
        queue.pump();
    }
    assert_eq!(queue.done.remove(&cid).unwrap().cqe.status(), Status::SUCCESS);
    assert_eq!(drained.try_recv(), Ok(()));
    assert!(queue.is_closed_soon() && admin.end.is_closed());
    assert_eq!(world.remove_volume("v0"), Ok(()));
}

impl World {
    fn namespaces(&self) -> usize {
        self.cores.borrow()[0].namespaces.len()
    }

    fn remove_volume(&self, name: &str) -> Result<(), volume::shared::VolumeError> {
        let (told, answer) = mpsc::channel();
        self.registries[0].remove(name, Box::new(move |result| drop(told.send(result))));
        for _ in 0..100 {
            self.turn();
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
        panic!("no answer");
    }
}

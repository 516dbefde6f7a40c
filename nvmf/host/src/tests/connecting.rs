//! How associations begin, and how they are kept and lost.

use nvme_spec::Status;

use super::*;
use crate::error::{ConfigError, EndCause, Unsuitable};

fn last_end(rig: &Rig) -> Option<EndCause> {
    rig.namespace.paths()[0].last_end
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let world = SimWorld::new(1);
    let host = Host::new(&world.core("host"));
    let refused = |change: &dyn Fn(&mut RemoteConfig)| {
        let mut config = config(1);
        change(&mut config);
        host.handle().open(config).expect_err("refused")
    };
    assert_eq!(refused(&|config| config.paths.clear()), ConfigError::Paths);
    assert_eq!(refused(&|config| config.paths.push(config.paths[0])), ConfigError::Paths);
    assert_eq!(refused(&|config| config.nsid = 0), ConfigError::Nsid);
    assert_eq!(refused(&|config| config.nsid = u32::MAX), ConfigError::Nsid);
    assert_eq!(refused(&|config| config.subsystem_nqn = "a".repeat(224)), ConfigError::Nqn);
    assert_eq!(refused(&|config| config.host.nqn.clear()), ConfigError::Nqn);
    assert_eq!(refused(&|config| config.host.id = [0; 16]), ConfigError::HostIdentifier);
    assert_eq!(refused(&|config| config.io_queues = 17), ConfigError::Queues);
    assert_eq!(refused(&|config| config.io_queue_entries = 1), ConfigError::Queues);
    assert_eq!(refused(&|config| config.timeouts.io = Duration::ZERO), ConfigError::Timeout);
}

#[test]
fn a_target_that_is_not_there_is_tried_with_growing_delays() {
    let mut rig = Rig::begin(1, |target, _| target.set_listening(0, false));
    rig.turns(3_000);
    let failures = rig.namespace.paths()[0].failures;
    assert!((4..=6).contains(&failures), "{failures} attempts in 3 s");
    assert!(matches!(last_end(&rig), Some(EndCause::Network(_))));
    rig.target.set_listening(0, true);
    rig.until("it is found", |rig| rig.namespace.is_known());
}

#[test]
fn a_path_is_given_up_after_the_controller_loss_timeout() {
    let mut rig = Rig::begin(1, |target, config| {
        target.script(0).refuse = Some(Status::CONNECT_INVALID_HOST.with_dnr());
        config.timeouts.controller_loss = Duration::from_secs(2);
    });
    rig.until("it is given up", |rig| rig.namespace.paths()[0].given_up);
    assert_eq!(last_end(&rig), Some(EndCause::Refused(Status::CONNECT_INVALID_HOST.with_dnr())));
    let connects = rig.target.script(0).connects;
    rig.turns(20_000);
    assert_eq!(rig.target.script(0).connects, connects);
}

#[test]
fn a_controller_that_never_gets_ready_is_left_in_its_own_time() {
    let mut rig = Rig::begin(1, |target, _| target.script(0).never_ready = true);
    let begun = rig.now();
    rig.until("it is left", |rig| last_end(rig) == Some(EndCause::NotReady));
    let waited = rig.now().since(begun);
    // CAP.TO says 1 s; half a second more because it is rounded.
    assert!(waited >= Duration::from_millis(1000) && waited < Duration::from_millis(1600), "{waited:?}");
}

#[test]
fn a_controller_that_allows_only_short_transfers_is_refused() {
    let mut rig = Rig::begin(1, |target, _| target.shared.borrow_mut().mdts = 7);
    rig.until("it is refused", |rig| last_end(rig).is_some());
    let limit = Unsuitable::TransferLimit { allowed_bytes: 512 << 10, needed_bytes: 1 << 20 };
    assert_eq!(last_end(&rig), Some(EndCause::Unsuitable(limit)));
}

#[test]
fn a_refused_connect_is_told_in_the_words_of_connect() {
    let words = |status: Status| EndCause::Refused(status.with_dnr()).to_string();
    assert_eq!(
        words(Status::CONNECT_INVALID_HOST),
        "connect was refused: 1h/84h Connect Invalid Host (do not retry)"
    );
    assert!(words(Status::CONNECT_INVALID_PARAMETERS).contains("Connect Invalid Parameters"));
    assert!(words(Status::AUTHENTICATION_REQUIRED).contains("Authentication Required"));
    assert!(words(Status::INVALID_FIELD).contains("Invalid Field in Command"));
}

#[test]
fn a_peer_that_says_nothing_is_given_up_in_time() {
    let world = SimWorld::new(3);
    world.set_auto_advance(false);
    let mut rig = Rig::begin_in(world, 1, 4096, |_, _| {});
    // The target is never polled: the stream is made, and nothing comes.
    let begun = rig.now();
    while last_end(&rig).is_none() {
        let now = rig.now();
        rig.host.poll(now, 32);
        rig.world.advance(STEP);
    }
    assert_eq!(last_end(&rig), Some(EndCause::ConnectTimeout));
    let waited = rig.now().since(begun);
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
}

#[test]
fn an_idle_association_is_kept_alive() {
    let mut rig = Rig::new(1);
    rig.turns(30_000);
    let keep_alives = rig.target.script(0).keep_alives;
    assert!((6..=13).contains(&keep_alives), "{keep_alives} in 30 s of 5 s");
    assert_eq!(rig.target.script(0).connects, 1);
}

#[test]
fn traffic_keeps_an_association_alive_only_where_the_controller_says_so() {
    for traffic_based in [true, false] {
        let mut rig = Rig::begin(1, |target, _| target.shared.borrow_mut().traffic_based = traffic_based);
        rig.until("it is live", |rig| rig.namespace.is_known());
        for _ in 0..200 {
            let tag = rig.read(0);
            rig.wait_good(tag);
            rig.turns(100);
        }
        let keep_alives = rig.target.script(0).keep_alives;
        assert_eq!(keep_alives > 2, !traffic_based, "{keep_alives}");
        assert_eq!(rig.target.script(0).connects, 1);
    }
}

#[test]
fn a_controller_that_does_not_answer_keep_alive_is_lost() {
    let mut rig = Rig::new(1);
    rig.target.script(0).silent_admin = true;
    let begun = rig.now();
    rig.until("it is lost", |rig| last_end(rig).is_some());
    assert_eq!(last_end(&rig), Some(EndCause::KeepAliveTimeout));
    // Traffic stands for one Keep Alive, the next is not answered.
    assert!(rig.now().since(begun) < Duration::from_millis(10_500));
    rig.target.script(0).silent_admin = false;
    rig.until("it is back", |rig| rig.namespace.paths()[0].access.is_some());
}

#[test]
fn a_lie_ends_the_connection_and_nothing_else() {
    let mut rig = Rig::new(1);
    rig.target.script(0).wrong_cid = true;
    let tag = rig.read(0);
    rig.wait_good(tag);
    assert!(matches!(last_end(&rig), Some(EndCause::Violation(_))));
    assert_eq!(rig.target.script(0).connects, 2);
}

#[test]
fn closing_shuts_the_controller_down_and_answers_everything() {
    let mut rig = Rig::new(2);
    rig.target.script(0).silent = true;
    rig.target.script(1).silent = true;
    let tags = [rig.read(0), rig.write(1, 1), rig.submit(Op::Flush, &[])];
    rig.turns(5);
    rig.namespace.close();
    for tag in tags {
        assert_eq!(rig.wait(tag).status, IoStatus::Gone);
    }
    rig.until("it is closed", |rig| rig.namespace.is_closed());
    let tag = rig.read(0);
    assert_eq!(rig.wait(tag).status, IoStatus::Gone);
}

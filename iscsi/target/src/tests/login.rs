//! Who may come in, and when.

use iscsi_proto::chap::Secret;
use iscsi_proto::login::{LoginIdentity, LoginPolicy};
use iscsi_proto::params::SessionType;

use super::*;
use crate::policy::Policy;
use crate::setup::User;

#[test]
fn connections_wait_until_the_targets_are_there() {
    let mut bench = Bench::with(Settings { starts_closed: true, ..Settings::default() });
    let mut client = Client::connect(&bench.world, 1);
    client.send_login();
    bench.turns();
    assert!(client.next().is_none() && !client.end.is_closed(), "neither served nor refused");
    assert!(bench.control.send(CoreMessage::Accept).is_ok());
    let answer = client.answer(&mut bench);
    assert_eq!((answer[0], answer[36]), (0x23, 0));
}

#[test]
fn a_connection_joins_only_the_session_of_its_own_user() {
    let mut bench = Bench::new();
    let _client = bench.client(1);
    let target = &mut bench.target;
    let session = target.sessions.keys()[0];
    let entry = target.sessions.get_mut(session).unwrap();
    entry.chap_user = Some("alice".into());
    let (tsih, window) = (entry.tsih, entry.session.command_window());
    let key = target.target_names[TARGET];
    let user = |name: &str| User {
        name: name.into(),
        secret: Secret::new(b"0123456789abcdef").expect("long enough"),
        mutual: None,
    };
    target.targets.get_mut(key).unwrap().setup.auth = Auth::Chap(vec![user("alice"), user("bob")]);
    let policy = Policy {
        targets: &target.targets,
        names: &target.target_names,
        sessions: &target.sessions,
        sessions_max: 10,
        next_tsih: &mut target.next_tsih,
        draining: false,
        guard: &target.guard,
        source: [10, 0, 0, 1].into(),
        now: reactor::time::Time::ZERO,
        replaces: None,
        replaces_connection: None,
    };
    let mut login = LoginIdentity {
        initiator_name: "iqn.2026-01.io.vega:i1".into(),
        initiator_alias: None,
        target_name: Some(TARGET.into()),
        session_type: SessionType::Normal,
        isid: [0x80, 0, 0, 0, 0, 1],
        tsih,
        cid: 1,
    };
    assert!(policy.credentials(&login, "alice").is_some() && policy.credentials(&login, "bob").is_none());
    assert_eq!(policy.command_window(&login), Some(window), "it is told where the session stands");
    // A session of one's own is another matter.
    login.tsih = 0;
    assert!(policy.credentials(&login, "bob").is_some());
}

#[test]
fn discovery_tells_only_what_the_initiator_may_see() {
    let mut bench = Bench::new();
    let entry = |allowed: &[&str]| DirectoryEntry {
        core: 0,
        portal_group_tag: 1,
        advertised: Vec::new(),
        allow: AllowList(allowed.iter().map(|name| (*name).to_owned()).collect()),
    };
    let directory = Directory::from([
        ("iqn.2026-01.io.vega:everyone".to_owned(), entry(&[])),
        ("iqn.2026-01.io.vega:mine".to_owned(), entry(&["iqn.2026-01.io.vega:i1"])),
        (
            "iqn.2026-01.io.vega:theirs".to_owned(),
            entry(&["iqn.2026-01.io.vega:i2", "iqn.2026-01.io.vega:i1x"]),
        ),
    ]);
    assert!(bench.control.send(CoreMessage::SetDirectory(Arc::new(directory))).is_ok());
    let mut client = Client::connect(&bench.world, 1);
    client.send_login_with("InitiatorName=iqn.2026-01.io.vega:i1\0SessionType=Discovery\0");
    let answer = client.answer(&mut bench);
    assert_eq!((answer[0], answer[1], answer[36]), (0x23, 0x87, 0), "discovery is open to everyone");
    let mut ask = |question: &str| {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x44, 0x80]);
        header[16..20].copy_from_slice(&7_u32.to_be_bytes());
        header[20..24].fill(0xff);
        header[24..28].copy_from_slice(&client.cmd_sn.to_be_bytes());
        client.send(&header, question.as_bytes());
        bench.turns();
        let (header, data) = client.next().expect("a text response");
        assert_eq!(header[0], 0x24);
        let told = String::from_utf8(data).expect("text");
        let names: Vec<_> = told.split('\0').filter_map(|pair| pair.strip_prefix("TargetName=")).collect();
        names.into_iter().map(|name| name["iqn.2026-01.io.vega:".len()..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask("SendTargets=All\0"), ["everyone", "mine"]);
    assert_eq!(ask("SendTargets=iqn.2026-01.io.vega:mine\0"), ["mine"]);
    assert_eq!(ask("SendTargets=iqn.2026-01.io.vega:theirs\0"), [""; 0], "as if it were not there");
}

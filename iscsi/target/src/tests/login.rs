//! Who may come in, and when.

use iscsi_proto::chap::Secret;
use iscsi_proto::login::{LoginIdentity, LoginPolicy};
use iscsi_proto::params::SessionType;
use iscsi_proto::pdu::LoginStatus;
use reactor::sim::NetFaults;

use super::*;
use crate::policy::Policy;
use crate::setup::{ChapPauses, User};

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

fn user(name: &str) -> User {
    User { name: name.into(), secret: Secret::new(b"0123456789abcdef").expect("long enough"), mutual: None }
}

/// The status of a login in which the challenge is answered wrongly.
fn guess(bench: &mut Bench) -> [u8; 2] {
    let mut client = Client::connect(&bench.world, 1);
    let names = format!("InitiatorName=iqn.2026-01.io.vega:i1\0TargetName={TARGET}\0AuthMethod=CHAP\0");
    let wrong = format!("CHAP_N=alice\0CHAP_R=0x{}\0", "00".repeat(16));
    let mut answer = [0; 48];
    // The security stage, and from its end to the operational one.
    for (flags, keys) in [(0x00, names.as_str()), (0x00, "CHAP_A=5\0"), (0x81, wrong.as_str())] {
        assert_eq!((answer[36], answer[37]), (0, 0), "it goes on to the challenge");
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, flags]);
        header[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
        client.send(&header, keys.as_bytes());
        answer = client.answer(bench);
    }
    [answer[36], answer[37]]
}

#[test]
fn who_guesses_waits_as_the_settings_say() {
    let [first, longest, forget] = [3, 4, 9].map(Duration::from_secs);
    let chap_pauses = ChapPauses { failures_until_pause: 2, first, longest, forget };
    let mut bench = Bench::with(Settings { chap_pauses, ..Settings::default() });
    let key = bench.target.target_names[TARGET];
    bench.target.targets.get_mut(key).unwrap().setup.auth = Auth::Chap(vec![user("alice")]);
    let (wrong, not_now) = (LoginStatus::AUTHENTICATION_FAILURE, LoginStatus::SERVICE_UNAVAILABLE);
    let (wrong, not_now) = ([wrong.class, wrong.detail], [not_now.class, not_now.detail]);
    assert_eq!([guess(&mut bench), guess(&mut bench), guess(&mut bench)], [wrong, wrong, not_now]);
    for pause in [first, longest, longest] {
        bench.pass(pause.saturating_sub(Duration::from_millis(1)));
        assert_eq!(guess(&mut bench), not_now);
        bench.pass(Duration::from_millis(1));
        assert_eq!([guess(&mut bench), guess(&mut bench)], [wrong, not_now]);
    }
    bench.pass(forget);
    assert_eq!([guess(&mut bench), guess(&mut bench), guess(&mut bench)], [wrong, wrong, not_now]);
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

/// A logout of the whole session, for immediate delivery.
fn send_logout(client: &Client) {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x46, 0x80]);
    header[16..20].copy_from_slice(&client.itt.to_be_bytes());
    header[24..28].copy_from_slice(&client.cmd_sn.to_be_bytes());
    client.send(&header, &[]);
}

/// A session of two connections, of which the second does not take what is sent to it.
fn session_with_a_slow_reader(bench: &mut Bench) -> ([Client; 2], u16) {
    bench.world.set_net_faults(NetFaults { window_bytes: 4096, ..NetFaults::none() });
    let mut first = Client::connect(&bench.world, 1);
    first.send_login_with(&format!("{}MaxConnections=4\0", first.keys()));
    let answer = first.answer(bench);
    let tsih = u16::from_be_bytes([answer[14], answer[15]]);
    let mut second = first.join(bench, tsih, 1);
    assert_eq!(second.answer(bench)[36], 0, "a living session takes another connection");
    // Behind the unit attention comes more than the window takes.
    second.command(bench, &[0; 6], Data::None);
    second.command(bench, &read_10(0, 64), Data::In(64 * BLOCK));
    first.cmd_sn = second.cmd_sn;
    ([first, second], tsih)
}

/// The answer to a login that finds its session on its way out.
fn assert_is_refused(bench: &mut Bench, mut late: Client) {
    let answer = late.answer(bench);
    assert_eq!((answer[0], answer[36], answer[37]), (0x23, 2, 0x0a), "session does not exist");
    assert!(late.end.is_closed());
}

/// The last connection of a session takes everything; then both are gone.
fn assert_ends_with_all_it_was_owed(bench: &mut Bench, last: &Client) {
    while !last.end.is_closed() {
        assert!(!last.end.recv_now().is_empty(), "whatever it was owed, and then the end");
        bench.turns();
    }
    assert!(bench.ask(CoreMessage::Sessions).is_empty());
}

#[test]
fn nothing_joins_a_session_that_has_logged_out() {
    let mut bench = Bench::new();
    let ([mut first, second], tsih) = session_with_a_slow_reader(&mut bench);
    send_logout(&first);
    let answer = first.answer(&mut bench);
    assert_eq!((answer[0], answer[2]), (0x26, 0), "the logout is answered");
    assert!(first.end.is_closed() && !second.end.is_closed(), "the second has not taken everything");
    let late = first.join(&bench, tsih, 2);
    assert_is_refused(&mut bench, late);
    assert_ends_with_all_it_was_owed(&mut bench, &second);
}

#[test]
fn nothing_joins_a_session_whose_logout_waits_for_its_last_io() {
    let mut bench = Bench::new();
    let mut first = Client::connect(&bench.world, 1);
    first.send_login_with(&format!("{}MaxConnections=4\0", first.keys()));
    let answer = first.answer(&mut bench);
    let tsih = u16::from_be_bytes([answer[14], answer[15]]);
    first.command(&mut bench, &[0; 6], Data::None);
    assert_eq!(first.answer(&mut bench)[3], 2, "it hears of the power-on");
    bench.close_gate();
    first.command(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK]));
    send_logout(&first);
    bench.turns();
    assert!(first.next().is_none(), "the write is with the device");
    let late = first.join(&bench, tsih, 1);
    assert_is_refused(&mut bench, late);
    bench.open_gate();
    assert_eq!(first.answer(&mut bench)[0], 0x26);
    assert!(bench.ask(CoreMessage::Sessions).is_empty());
}

#[test]
fn nothing_joins_a_session_that_the_target_closes() {
    let mut bench = Bench::new();
    let ([first, second], tsih) = session_with_a_slow_reader(&mut bench);
    assert!(bench.ask(|answer| CoreMessage::DropSession { tsih, answer }));
    assert!(first.end.is_closed() && !second.end.is_closed(), "the second has not taken everything");
    let late = first.join(&bench, tsih, 2);
    assert_is_refused(&mut bench, late);
    assert_ends_with_all_it_was_owed(&mut bench, &second);
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

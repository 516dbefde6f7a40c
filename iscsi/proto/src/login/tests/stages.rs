//! Stages, numbers, names, continuation, policy answers.

use super::*;
use crate::params::DigestType;

const OPERATIONAL_KEYS: &str = "HeaderDigest=CRC32C,None;InitialR2T=No;MaxRecvDataSegmentLength=65536;";

#[test]
fn operational_only_in_one_exchange() {
    let mut client = Client::new(Policy::open());
    let (outcome, response) =
        client.ask(OPERATIONAL_TO_FULL, &format!("{NAMES}SessionType=Normal;{OPERATIONAL_KEYS}"));
    let done = done(outcome);
    assert_eq!(response.header.flags, 0x87);
    assert_eq!(response.header.opcode, Opcode::LOGIN_RESPONSE);
    assert_eq!(response.header.itt.get(), 0x1234_5678);
    assert_eq!(response.header.isid, ISID);
    assert_eq!(response.header.tsih.get(), 0x2a);
    assert_eq!(response.header.stat_sn.get(), 500);
    assert_eq!(response.header.exp_cmd_sn.get(), 100);
    assert_eq!(response.header.max_cmd_sn.get(), 227);
    assert_eq!(response.value("TargetPortalGroupTag").as_deref(), Some("3"));
    assert_eq!(response.value("HeaderDigest").as_deref(), Some("CRC32C"));
    assert_eq!(response.value("MaxRecvDataSegmentLength").as_deref(), Some("262144"));
    assert_eq!(done.identity.initiator_name, INITIATOR);
    assert_eq!(done.identity.target_name.as_deref(), Some(TARGET));
    assert_eq!(done.identity.session_type, SessionType::Normal);
    assert_eq!((done.identity.isid, done.identity.tsih, done.identity.cid), (ISID, 0x2a, 7));
    assert_eq!((done.cmd_sn, done.stat_sn), (100, 501));
    assert!(done.leading && done.chap_user.is_none());
    assert_eq!(done.negotiated.header_digest, DigestType::Crc32c);
    assert_eq!(done.negotiated.their_max_recv_data_segment_length, 65536);
    assert!(!done.negotiated.initial_r2t);
    assert_eq!(client.policy.admitted.len(), 1);
    assert_eq!(client.policy.established[0].0.tsih, 0);
}

#[test]
fn both_stages_with_method_none() {
    let mut client = Client::new(Policy::open());
    let first = client.turn(SECURITY_TO_OPERATIONAL, &format!("{NAMES}AuthMethod=CHAP,None;"));
    assert_eq!(first.header.flags, 0x81);
    assert_eq!(first.header.tsih.get(), 0, "assigned with the last response");
    assert_eq!(first.value("AuthMethod").as_deref(), Some("None"));
    let (outcome, last) = client.ask(OPERATIONAL_TO_FULL, OPERATIONAL_KEYS);
    assert_eq!(last.header.flags, 0x87);
    assert_eq!(last.header.stat_sn.get(), 501);
    assert_eq!(last.value("TargetPortalGroupTag"), None, "said once");
    assert_eq!(done(outcome).stat_sn, 502);
}

#[test]
fn security_straight_to_full_feature_keeps_the_defaults() {
    let mut client = Client::new(Policy::open());
    let (outcome, response) = client.ask(SECURITY_TO_FULL, NAMES);
    assert_eq!(response.header.flags, 0x83);
    assert_eq!(done(outcome).negotiated, Negotiated::default());
}

#[test]
fn a_discovery_session_needs_no_target() {
    let mut client = Client::new(Policy::open());
    let (outcome, response) = client.ask(OPERATIONAL_TO_FULL, DISCOVERY);
    let done = done(outcome);
    assert_eq!(done.identity.session_type, SessionType::Discovery);
    assert_eq!(done.identity.target_name, None);
    assert_eq!(response.value("TargetPortalGroupTag"), None);
    // A target name in a discovery session says nothing.
    let mut client = Client::new(Policy::open());
    let (outcome, _) = client.ask(OPERATIONAL_TO_FULL, &format!("{NAMES}SessionType=Discovery;"));
    assert_eq!(super::done(outcome).identity.target_name, None);
}

#[test]
fn without_transit_the_stage_goes_on() {
    let mut client = Client::new(Policy::open());
    for _ in 0..3 {
        // NSG is reserved without T.
        let text = if client.policy.admitted.is_empty() { NAMES } else { "" };
        let response = client.turn(flags(false, false, 1, 3), text);
        assert_eq!(response.header.flags, 0x04);
    }
    done(client.ask(OPERATIONAL_TO_FULL, "").0);
    assert_eq!(client.policy.admitted.len(), 1);
}

/// A whole login as bytes, with what must come back.
fn conversations() -> Vec<(AuthPolicy, Vec<Vec<u8>>)> {
    let open = AuthPolicy::open();
    vec![
        (open.clone(), vec![request(OPERATIONAL_TO_FULL, &format!("{NAMES}{OPERATIONAL_KEYS}x=1;"))]),
        (
            open.clone(),
            vec![
                request(SECURITY_TO_OPERATIONAL, &format!("{NAMES}AuthMethod=None;")),
                request(OPERATIONAL, OPERATIONAL_KEYS),
                request(OPERATIONAL_TO_FULL, ""),
            ],
        ),
        (
            open,
            vec![
                request(flags(false, true, 1, 0), &NAMES[..40]),
                request(flags(false, true, 1, 0), ""),
                request(OPERATIONAL_TO_FULL, &format!("{}{OPERATIONAL_KEYS}", &NAMES[40..])),
            ],
        ),
    ]
}

#[test]
fn every_segmentation_gives_the_same_login() {
    for (authentication, requests) in conversations() {
        let all = requests.concat();
        let run = |cuts: &[usize]| {
            let mut client = Client::new(Policy::new(authentication.clone()));
            let mut sent = Vec::new();
            let mut from = 0;
            for &to in cuts.iter().chain([&all.len()]) {
                let progress = client.handle(&all[from..to]);
                assert_eq!(progress.consumed, to - from);
                sent.extend(client.responses().into_iter().map(|r| (r.header, r.text)));
                from = to;
                if from == all.len() {
                    return (sent, done(progress.outcome));
                }
                assert_eq!(progress.outcome, LoginOutcome::NeedMore);
            }
            unreachable!("the last cut is the end")
        };
        let whole = run(&[]);
        for cut in 0..all.len() {
            assert_eq!(run(&[cut]), whole, "cut at {cut}");
        }
        let bytewise: Vec<usize> = (1..all.len()).collect();
        assert_eq!(run(&bytewise), whole, "byte by byte");
    }
}

#[test]
fn bytes_behind_the_login_are_not_consumed() {
    let mut bytes = request(OPERATIONAL_TO_FULL, NAMES);
    let length = bytes.len();
    bytes.extend([0x01; 100]);
    let mut client = Client::new(Policy::open());
    let progress = client.handle(&bytes);
    assert_eq!(progress.consumed, length);
    done(progress.outcome);
}

#[test]
fn output_is_taken_in_pieces() {
    let mut client = Client::new(Policy::open());
    client.handle(&request(OPERATIONAL_TO_FULL, NAMES));
    let whole = client.login.tx().to_vec();
    let mut taken = Vec::new();
    while !client.login.tx().is_empty() {
        taken.push(client.login.tx()[0]);
        client.login.tx_advance(1);
    }
    assert_eq!(taken, whole);
    assert!(whole.len().is_multiple_of(4));
}

#[test]
fn a_continued_request_is_answered_empty_until_it_ends() {
    let text = format!("{NAMES}{OPERATIONAL_KEYS}");
    for cut in 0..text.len() {
        let mut client = Client::new(Policy::open());
        let first = client.turn(flags(false, true, 1, 0), &text[..cut]);
        assert_eq!((first.header.flags, first.text.as_str()), (0x04, ""));
        assert!(client.policy.admitted.is_empty());
        let (outcome, _) = client.ask(OPERATIONAL_TO_FULL, &text[cut..]);
        assert_eq!(done(outcome).negotiated.header_digest, DigestType::Crc32c);
    }
}

#[test]
fn a_long_reply_is_continued_and_taken_by_empty_requests() {
    let unknown: String = (0..1000).map(|n| format!("X-{n}=1;")).collect();
    let mut client = Client::new(Policy::open());
    let first = client.turn(OPERATIONAL_TO_FULL, &format!("{NAMES}{unknown}"));
    assert_eq!(first.header.flags, 0x44, "C, and no transit yet");
    let mut text = first.text;
    assert_eq!(text.len(), 8192);
    let last = loop {
        let (outcome, response) = client.ask(OPERATIONAL_TO_FULL, "");
        text.push_str(&response.text);
        if response.header.flags & FLAG_CONTINUE == 0 {
            break (outcome, response);
        }
        assert_eq!(outcome, LoginOutcome::NeedMore);
    };
    assert_eq!(last.1.header.flags, 0x87);
    done(last.0);
    assert_eq!(text.matches("=NotUnderstood;").count(), 1000);
}

#[test]
fn text_while_our_reply_goes_on_is_refused() {
    let unknown: String = (0..1000).map(|n| format!("X-{n}=1;")).collect();
    let mut client = Client::new(Policy::open());
    client.turn(OPERATIONAL_TO_FULL, &format!("{NAMES}{unknown}"));
    client.refused(OPERATIONAL_TO_FULL, "MaxConnections=1;", LoginError::UnexpectedText);
}

#[test]
fn names_are_compared_in_lower_case() {
    let mut client = Client::new(Policy::open());
    let (outcome, _) =
        client.ask(OPERATIONAL_TO_FULL, "InitiatorName=IQN.2024-01.COM:A;TargetName=iqn.2024-01.com:B;");
    let identity = done(outcome).identity;
    assert_eq!(identity.initiator_name, "iqn.2024-01.com:a");
    assert_eq!(identity.target_name.as_deref(), Some("iqn.2024-01.com:b"));
}

#[test]
fn aliases_go_both_ways() {
    let mut policy = Policy::open();
    let mut access = Access::new(AuthPolicy::open(), 1);
    access.target_alias = Some("database".into());
    policy.admission = Admission::Admit(access);
    let mut client = Client::new(policy);
    let (outcome, response) = client.ask(OPERATIONAL_TO_FULL, &format!("{NAMES}InitiatorAlias=rack 7;"));
    assert_eq!(done(outcome).identity.initiator_alias.as_deref(), Some("rack 7"));
    assert_eq!(response.value("TargetAlias").as_deref(), Some("database"));
}

#[test]
fn every_refusal_of_the_policy_reaches_the_initiator() {
    for status in [
        LoginStatus::AUTHORIZATION_FAILURE,
        LoginStatus::NOT_FOUND,
        LoginStatus::TARGET_REMOVED,
        LoginStatus::TOO_MANY_CONNECTIONS,
        LoginStatus::CANNOT_INCLUDE_IN_SESSION,
        LoginStatus::SESSION_DOES_NOT_EXIST,
        LoginStatus::TARGET_ERROR,
        LoginStatus::SERVICE_UNAVAILABLE,
        LoginStatus::OUT_OF_RESOURCES,
    ] {
        let mut client = Client::new(Policy::open());
        client.policy.admission = Admission::Refuse(status);
        client.refused(OPERATIONAL_TO_FULL, NAMES, LoginError::Refused(status));
        let mut client = Client::new(Policy::open());
        client.policy.establish = VecDeque::from([Establish::Refuse(status)]);
        client.refused(OPERATIONAL_TO_FULL, NAMES, LoginError::Refused(status));
    }
}

#[test]
fn redirections_name_the_address() {
    for (permanent, detail) in [(false, 1), (true, 2)] {
        let mut client = Client::new(Policy::open());
        client.policy.admission = Admission::Redirect { address: "192.0.2.7:3260,1".into(), permanent };
        let response = client.refused(SECURITY, NAMES, LoginError::Redirected { permanent });
        assert_eq!((response.header.status_class, response.header.status_detail), (1, detail));
        assert_eq!(response.text, "TargetAddress=192.0.2.7:3260,1;");
    }
}

#[test]
fn reinstatement_waits_until_the_old_tasks_have_ended() {
    let mut client = Client::new(Policy::open());
    client.policy.establish = VecDeque::from([Establish::Wait, Establish::Wait, Establish::Session(9)]);
    let mut bytes = request(OPERATIONAL_TO_FULL, NAMES);
    let length = bytes.len();
    bytes.extend([0; 48]);
    let progress = client.handle(&bytes);
    assert_eq!((progress.consumed, progress.outcome), (length, LoginOutcome::Waiting));
    assert!(client.login.tx().is_empty(), "no response before the tasks have ended");
    let progress = client.handle(&bytes[length..]);
    assert_eq!((progress.consumed, progress.outcome), (0, LoginOutcome::Waiting));
    let progress = client.handle(&[]);
    assert_eq!(done(progress.outcome).identity.tsih, 9);
    assert_eq!(client.responses().len(), 1);
    assert_eq!(client.policy.admitted.len(), 1);
}

#[test]
fn a_connection_that_joins_keeps_its_tsih_and_the_sessions_window() {
    let mut client = Client::new(Policy::open());
    client.policy.establish = VecDeque::from([Establish::Session(77)]);
    client.policy.window = Some((1000, 1031));
    let join = |flags, cmd_sn: u32, text: &str| {
        let header = LoginRequest { tsih: 77.into(), cmd_sn: cmd_sn.into(), ..header(flags) };
        pdu(header, text.replace(';', "\0").as_bytes())
    };
    let (_, first) = client.send(&join(SECURITY_TO_OPERATIONAL, 1000, NAMES));
    assert_eq!(first[0].header.tsih.get(), 77);
    assert_eq!((first[0].header.exp_cmd_sn.get(), first[0].header.max_cmd_sn.get()), (1000, 1031));
    // The session counts on meanwhile.
    let (outcome, last) =
        client.send(&join(OPERATIONAL_TO_FULL, 1004, "MaxConnections=8;HeaderDigest=None;"));
    assert_eq!(last[0].value("MaxConnections").as_deref(), Some("Irrelevant"));
    let done = done(outcome);
    assert!(!done.leading);
    assert_eq!(done.identity.tsih, 77);
}

#[test]
fn without_a_known_window_a_joining_connection_finds_it_closed() {
    let mut client = Client::new(Policy::open());
    let header = LoginRequest { tsih: 77.into(), ..header(OPERATIONAL) };
    let (_, responses) = client.send(&pdu(header, NAMES.replace(';', "\0").as_bytes()));
    let header = responses[0].header;
    assert_eq!((header.exp_cmd_sn.get(), header.max_cmd_sn.get()), (100, 99));
}

#[test]
fn numbers_wrap() {
    let mut client = Client::new(Policy::open());
    let header =
        LoginRequest { cmd_sn: u32::MAX.into(), exp_stat_sn: u32::MAX.into(), ..header(OPERATIONAL_TO_FULL) };
    let (outcome, responses) = client.send(&pdu(header, NAMES.replace(';', "\0").as_bytes()));
    assert_eq!(responses[0].header.max_cmd_sn.get(), 126);
    assert_eq!(done(outcome).stat_sn, 0);
}

#[test]
fn peek_finds_the_target_at_every_cut() {
    let bytes = request(OPERATIONAL, NAMES);
    for cut in 0..bytes.len() {
        assert_eq!(first_login_target(&bytes[..cut]), Peek::NeedMore, "{cut}");
    }
    assert_eq!(first_login_target(&bytes), Peek::Target(TARGET.into()));
    let more = [bytes.as_slice(), &[0xff; 9]].concat();
    assert_eq!(first_login_target(&more), Peek::Target(TARGET.into()));
    assert_eq!(first_login_target(&request(SECURITY, DISCOVERY)), Peek::Discovery);
}

#[test]
fn peek_reads_a_continued_first_request_up_to_its_last_whole_pair() {
    let continued = flags(false, true, 0, 0);
    let text = format!("{NAMES}AuthMet");
    assert_eq!(first_login_target(&request(continued, &text)), Peek::Target(TARGET.into()));
    assert_eq!(first_login_target(&request(continued, &NAMES[..50])), Peek::Invalid);
    assert_eq!(first_login_target(&request(continued, "")), Peek::Invalid);
}

#[test]
fn peek_refuses_what_is_no_login() {
    assert_eq!(first_login_target(b""), Peek::NeedMore);
    assert_eq!(first_login_target(b"GET / HTTP/1.1"), Peek::Invalid);
    assert_eq!(first_login_target(&[0x40; 48]), Peek::Invalid);
    assert_eq!(first_login_target(&request(SECURITY, "")), Peek::Invalid);
    assert_eq!(first_login_target(&request(SECURITY, "TargetName;")), Peek::Invalid);
    let mut long = header(SECURITY);
    long.data_segment_length = U24::new(8193);
    assert_eq!(first_login_target(long.as_bytes()), Peek::Invalid);
    let ahs = LoginRequest { total_ahs_length_words: 1, ..header(SECURITY) };
    assert_eq!(first_login_target(ahs.as_bytes()), Peek::Invalid);
}

#[test]
fn names_declared_again_with_the_next_stage_are_taken_when_they_are_the_same() {
    let mut client = Client::new(Policy::open());
    client.turn(
        SECURITY_TO_OPERATIONAL,
        &format!("{NAMES}SessionType=Normal;InitiatorAlias=a;AuthMethod=None;"),
    );
    let again = format!("{NAMES}SessionType=Normal;InitiatorAlias=a;{OPERATIONAL_KEYS}");
    done(client.ask(OPERATIONAL_TO_FULL, &again).0);
    assert_eq!(client.policy.admitted.len(), 1);

    let mut client = Client::new(Policy::open());
    client.turn(SECURITY_TO_OPERATIONAL, DISCOVERY);
    done(client.ask(OPERATIONAL_TO_FULL, &format!("{DISCOVERY}TargetName=x;")).0);
}

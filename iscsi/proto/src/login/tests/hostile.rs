//! What an initiator must not send. Each ends this login, with a status or in silence, and nothing else.

use super::*;
use crate::params::ParamError;
use crate::text::TextError;

fn raw(header: LoginRequest, text: &str) -> Vec<u8> {
    pdu(header, text.replace(';', "\0").as_bytes())
}

/// Sends bytes to a fresh connection; the error and the status of the only response.
fn first(bytes: &[u8]) -> (LoginError, Option<LoginStatus>) {
    failure(&mut Client::new(Policy::open()), bytes)
}

fn failure(client: &mut Client, bytes: &[u8]) -> (LoginError, Option<LoginStatus>) {
    let (outcome, responses) = client.send(bytes);
    let LoginOutcome::Failed(error) = outcome else { panic!("should fail: {outcome:?}") };
    assert!(responses.len() <= 1);
    let status = responses.first().map(Response::status);
    assert_eq!(status, error.status());
    assert!(client.policy.established.is_empty());
    (error, status)
}

#[test]
fn another_first_pdu_ends_the_connection_without_an_answer() {
    for opcode in (0..64u8).filter(|opcode| *opcode != 3) {
        for immediate in [0, 0x40] {
            let mut bytes = [0xffu8; 48];
            bytes[0] = opcode | immediate;
            assert_eq!(first(&bytes), (LoginError::NotALogin(Opcode(opcode)), None));
        }
    }
    assert_eq!(first(&[b'G'; 48]).1, None);
}

#[test]
fn another_pdu_during_login_is_020b() {
    for opcode in (0..64u8).filter(|opcode| *opcode != 3) {
        let mut client = Client::new(Policy::open());
        client.turn(OPERATIONAL, NAMES);
        let mut bytes = [0u8; 48];
        bytes[0] = opcode;
        let status = Some(LoginStatus { class: 2, detail: 0x0b });
        let error = LoginError::InvalidDuringLogin(Opcode(opcode));
        assert_eq!(failure(&mut client, &bytes), (error, status));
    }
}

#[test]
fn header_without_the_immediate_bit_or_with_an_ahs() {
    let plain = LoginRequest { opcode_and_immediate: 0x03, ..header(OPERATIONAL) };
    assert_eq!(first(&raw(plain, NAMES)).0, LoginError::BadHeader);
    for words in [1, 255] {
        let ahs = LoginRequest { total_ahs_length_words: words, ..header(OPERATIONAL) };
        assert_eq!(first(ahs.as_bytes()).0, LoginError::BadHeader);
    }
}

#[test]
fn data_segment_length_at_its_edges() {
    for length in [8193, 65536, 0x00ff_ffff] {
        let mut long = header(OPERATIONAL);
        long.data_segment_length = U24::new(length);
        // Refused by the header alone: no byte of data is waited for or kept.
        assert_eq!(first(long.as_bytes()).0, LoginError::SegmentTooLong(length));
    }
    let text = format!("{NAMES}{}", ";".repeat(8192 - NAMES.len()));
    let mut client = Client::new(Policy::open());
    done(client.ask(OPERATIONAL_TO_FULL, &text).0);
}

#[test]
fn a_pdu_shorter_than_its_header_is_waited_for() {
    let bytes = request(OPERATIONAL, NAMES);
    let mut client = Client::new(Policy::open());
    let progress = client.handle(&bytes[..bytes.len() - 1]);
    assert_eq!(progress.outcome, LoginOutcome::NeedMore);
    assert!(client.login.rx.capacity() < 2 * bytes.len(), "memory follows the bytes received");
}

#[test]
fn version_zero_is_the_only_one() {
    for version_min in [1, 2, 255] {
        let header = LoginRequest { version_min, version_max: 255, ..header(OPERATIONAL) };
        let (error, status) = first(&raw(header, NAMES));
        assert_eq!(error, LoginError::UnsupportedVersion(version_min));
        assert_eq!(status, Some(LoginStatus { class: 2, detail: 5 }));
    }
    let header = LoginRequest { version_max: 255, ..header(OPERATIONAL_TO_FULL) };
    let mut client = Client::new(Policy::open());
    let (outcome, responses) = client.send(&raw(header, NAMES));
    done(outcome);
    assert_eq!((responses[0].header.version_max, responses[0].header.version_active), (0, 0));
}

#[test]
fn identity_fields_stay_the_same() {
    let changed = [
        LoginRequest { isid: [9; 6], ..header(OPERATIONAL) },
        LoginRequest { tsih: 1.into(), ..header(OPERATIONAL) },
        LoginRequest { cid: 8.into(), ..header(OPERATIONAL) },
        LoginRequest { itt: 1.into(), ..header(OPERATIONAL) },
        LoginRequest { cmd_sn: 101.into(), ..header(OPERATIONAL) },
    ];
    for header in changed {
        let mut client = Client::new(Policy::open());
        client.turn(OPERATIONAL, NAMES);
        assert_eq!(failure(&mut client, &raw(header, "")).0, LoginError::IdentityChanged);
    }
}

/// All flags of a first request: 16 stage pairs, with and without T and C.
#[test]
fn every_stage_and_flag_combination_of_a_first_request() {
    for bits in 0..=255u8 {
        let (transit, continued, csg, nsg) = (bits & 0x80 != 0, bits & 0x40 != 0, (bits >> 2) & 3, bits & 3);
        let mut client = Client::new(Policy::open());
        let (outcome, responses) = client.send(&request(bits, NAMES));
        let response = &responses[0];
        let good = csg < 2 && (!transit || (!continued && nsg > csg && nsg != 2));
        if !good {
            assert_eq!(outcome, LoginOutcome::Failed(LoginError::BadStage), "{bits:#04x}");
            assert_eq!(response.status(), LoginStatus { class: 2, detail: 0 });
            assert!(client.policy.established.is_empty());
            continue;
        }
        assert_eq!(response.status(), LoginStatus::SUCCESS);
        let granted = if transit { 0x80 | nsg } else { 0 };
        assert_eq!(response.header.flags, granted | csg << 2, "{bits:#04x}");
        assert_eq!(matches!(outcome, LoginOutcome::Done(_)), transit && nsg == 3);
    }
}

/// All flags of a second request, behind each stage.
#[test]
fn every_stage_and_flag_combination_of_a_second_request() {
    for (opening, stage) in [(SECURITY, 0), (OPERATIONAL, 1), (SECURITY_TO_OPERATIONAL, 1)] {
        for bits in 0..=255u8 {
            let (transit, continued, csg, nsg) =
                (bits & 0x80 != 0, bits & 0x40 != 0, (bits >> 2) & 3, bits & 3);
            let mut client = Client::new(Policy::open());
            client.turn(opening, NAMES);
            let (outcome, _) = client.send(&request(bits, ""));
            let good = csg == stage && (!transit || (!continued && nsg > csg && nsg != 2));
            let failed = outcome == LoginOutcome::Failed(LoginError::BadStage);
            assert_eq!(!failed, good, "{opening:#04x} then {bits:#04x}: {outcome:?}");
        }
    }
}

#[test]
fn missing_names_are_0207() {
    for text in [
        "",
        "SessionType=Normal;",
        "InitiatorName=iqn.a;",
        "TargetName=iqn.b;",
        "SessionType=Discovery;",
        "TargetName=iqn.b;SessionType=Discovery;",
        "HeaderDigest=None;",
    ] {
        for flags in [SECURITY, OPERATIONAL, OPERATIONAL_TO_FULL] {
            let (error, status) = first(&request(flags, text));
            assert_eq!(error, LoginError::MissingParameter, "{text}");
            assert_eq!(status, Some(LoginStatus { class: 2, detail: 7 }));
        }
    }
}

#[test]
fn session_type_that_nobody_knows_is_0209() {
    for kind in ["", "normal", "Both", "Reject"] {
        let (error, status) = first(&request(OPERATIONAL, &format!("{NAMES}SessionType={kind};")));
        assert_eq!(error, LoginError::SessionTypeNotSupported);
        assert_eq!(status, Some(LoginStatus { class: 2, detail: 9 }));
    }
}

#[test]
fn names_of_bad_form() {
    let long = "n".repeat(224);
    for name in ["", "iqn with space", "iqn\u{7}", "iqn\nfake log line", &long] {
        let text = format!("InitiatorName={name};TargetName=iqn.b;");
        assert_eq!(first(&request(OPERATIONAL, &text)).0, LoginError::BadName);
        let text = format!("InitiatorName=iqn.a;TargetName={name};");
        assert_eq!(first(&request(OPERATIONAL, &text)).0, LoginError::BadName);
    }
    let text = format!("InitiatorName={};TargetName=iqn.b;", "n".repeat(223));
    Client::new(Policy::open()).turn(OPERATIONAL, &text);
    let text = format!("{NAMES}InitiatorAlias=a\u{1b}[2J;");
    assert_eq!(first(&request(OPERATIONAL, &text)).0, LoginError::BadName);
}

#[test]
fn duplicate_keys() {
    let repeated = LoginError::Param(ParamError::Repeated);
    for pair in ["InitiatorName=iqn.a;", "TargetName=iqn.b;", "HeaderDigest=None;HeaderDigest=None;"] {
        let text = format!("{NAMES}{pair}");
        assert_eq!(first(&request(OPERATIONAL, &text)).0, repeated, "{pair}");
    }
    let text = format!("{NAMES}SessionType=Normal;SessionType=Discovery;");
    assert_eq!(first(&request(OPERATIONAL, &text)).0, repeated);
    // In a later request.
    for pair in [
        "InitiatorName=iqn.other;",
        "InitiatorAlias=other;",
        "TargetName=iqn.other;",
        "SessionType=Discovery;",
        "MaxConnections=1;",
    ] {
        let mut client = Client::new(Policy::open());
        client.turn(OPERATIONAL, &format!("{NAMES}MaxConnections=1;"));
        assert_eq!(failure(&mut client, &request(OPERATIONAL, pair)).0, repeated);
    }
}

#[test]
fn malformed_text() {
    for (text, error) in [
        ("NoEquals;", TextError::MissingEquals),
        ("Last=1", TextError::MissingNul),
        ("=1;", TextError::EmptyKey),
        ("a\tb=1;", TextError::BadKey),
    ] {
        for text in [format!("{NAMES}{text}"), text.to_owned()] {
            assert_eq!(first(&request(OPERATIONAL, &text)).0, LoginError::Text(error), "{text}");
        }
    }
    let long_key = format!("{NAMES}{}=1;", "k".repeat(64));
    assert_eq!(first(&request(OPERATIONAL, &long_key)).0, TextError::KeyTooLong.into());
    let long_value = format!("{NAMES}HeaderDigest={};", "v".repeat(256));
    assert_eq!(first(&request(OPERATIONAL, &long_value)).0, TextError::ValueTooLong.into());
    let no_utf8 = [NAMES.replace(';', "\0").as_bytes(), b"Key=\xff\xfe\0"].concat();
    assert_eq!(first(&pdu(header(OPERATIONAL), &no_utf8)).0, TextError::NotUtf8.into());
}

#[test]
fn no_data_with_every_flag_combination_does_not_harm() {
    for bits in 0..=255u8 {
        let mut client = Client::new(Policy::open());
        client.send(&request(bits, ""));
        client.send(&request(bits, ""));
        assert!(client.policy.admitted.is_empty());
        assert!(client.policy.established.is_empty());
    }
}

#[test]
fn a_continuation_that_never_ends_is_bounded_by_requests() {
    let mut client = Client::new(Policy::open());
    for _ in 0..LOGIN_PDUS_MAX {
        client.turn(flags(false, true, 1, 0), "");
    }
    let (error, _) = failure(&mut client, &request(flags(false, true, 1, 0), ""));
    assert_eq!(error, LoginError::TooManyPdus);
}

#[test]
fn a_continuation_that_never_ends_is_bounded_by_bytes() {
    let mut client = Client::new(Policy::open());
    let fill = "x".repeat(8192);
    for _ in 0..8 {
        client.turn(flags(false, true, 1, 0), &fill);
    }
    let (error, _) = failure(&mut client, &request(flags(false, true, 1, 0), "x"));
    assert_eq!(error, TextError::TextTooLong.into());
}

#[test]
fn text_over_many_requests_is_bounded_too() {
    let mut client = Client::new(Policy::open());
    client.turn(OPERATIONAL, NAMES);
    let fill = ";".repeat(8192);
    let errors = (0..LOGIN_PDUS_MAX).find_map(|_| match client.ask(OPERATIONAL, &fill).0 {
        LoginOutcome::Failed(error) => Some(error),
        _ => None,
    });
    assert_eq!(errors, Some(TextError::TextTooLong.into()));
}

#[test]
fn a_small_request_cannot_ask_for_a_huge_reply() {
    // 64 KiB of three-byte pairs would be answered by more than 300 KiB.
    let mut client = Client::new(Policy::open());
    let pairs = "a=;".repeat(2730);
    client.turn(flags(false, true, 1, 0), &format!("{NAMES};"));
    let mut outcome = LoginOutcome::NeedMore;
    for round in 0..7 {
        let continued = round < 6;
        outcome = client.ask(flags(false, continued, 1, 0), &pairs).0;
    }
    assert_eq!(outcome, LoginOutcome::Failed(TextError::TextTooLong.into()));
}

#[test]
fn a_required_digest_that_is_not_agreed_is_refused_at_the_end() {
    let mut client = Client::new(Policy::open());
    let mut access = Access::new(AuthPolicy::open(), 1);
    access.data_digest = crate::params::DigestPolicy::Require;
    client.policy.admission = Admission::Admit(access);
    let error = LoginError::Param(ParamError::DigestRequired);
    client.refused(OPERATIONAL_TO_FULL, &format!("{NAMES}DataDigest=None;"), error);
    assert!(client.policy.established.is_empty());
}

#[test]
fn keys_of_the_target_end_the_login() {
    for key in ["TargetAddress", "TargetPortalGroupTag", "TargetAlias"] {
        let (error, _) = first(&request(OPERATIONAL, &format!("{NAMES}{key}=1;")));
        assert_eq!(error, LoginError::Param(ParamError::NotAllowed));
    }
}

#[test]
fn nothing_is_taken_after_a_failure() {
    let mut client = Client::new(Policy::open());
    let (error, _) = failure(&mut client, &request(OPERATIONAL, ""));
    for _ in 0..3 {
        let progress = client.handle(&request(OPERATIONAL_TO_FULL, NAMES));
        assert_eq!((progress.consumed, progress.outcome), (0, LoginOutcome::Failed(error)));
        assert!(client.login.tx().is_empty());
    }
}

#[test]
fn dropping_a_login_at_every_byte_does_not_harm() {
    let bytes = [
        request(SECURITY_TO_OPERATIONAL, &format!("{NAMES}AuthMethod=None;")),
        request(OPERATIONAL, "MaxConnections=1;"),
    ]
    .concat();
    for cut in 0..=bytes.len() {
        let mut client = Client::new(Policy::open());
        client.handle(&bytes[..cut]);
        drop(client);
    }
}

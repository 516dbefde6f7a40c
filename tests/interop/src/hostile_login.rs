//! Attacks before and during login (RFC 7143, 6 and 11.12).

use initiator::chap::{self, Credentials};
use initiator::login::{FULL_FEATURE, OPERATIONAL, SECURITY, exchange, value};
use initiator::pdu::{Digests, FINAL, IMMEDIATE, Pdu, opcode, parse_text, text_segment};
use initiator::{Login, LoginOutcome, Wire, WireError};

use crate::failure::{Context, Failure, Outcome, ensure, fail};
use crate::hostile::volley;
use crate::limits;
use crate::load::OTHER_ADDRESS;
use crate::options::Options;
use crate::process::eventually;
use crate::scene::Attack;
use crate::seed::Seed;
use crate::server::{INITIATOR_NAME, Offer, Server, TARGET_NAME, Unit};

/// The attacks on a target without authentication.
pub const ATTACKS: &[Attack] = &[
    ("login_every_opcode_first", every_opcode_first),
    ("login_every_stage_pair", every_stage_pair),
    ("login_every_length", every_length),
    ("login_cut_at_every_byte", cut_at_every_byte),
    ("login_other_protocols", other_protocols),
    ("login_random_bytes", random_bytes),
    ("login_bad_text", bad_text),
    ("login_continues_for_ever", continues_for_ever),
    ("login_steps_for_ever", steps_for_ever),
    ("login_unknown_keys_are_not_understood", unknown_keys),
    ("login_bad_names_are_refused", bad_names),
    ("login_bad_session_handle_is_refused", bad_session_handle),
    ("login_session_handle_of_another_is_refused", handle_of_another),
    ("login_version_is_refused", bad_version),
    ("login_reinstatement_ends_the_old_session", reinstatement),
    ("login_full_feature_pdus_too_early", full_feature_too_early),
];

/// A named attack on a target that wants CHAP.
type ChapAttack = (&'static str, fn(&Server) -> Outcome);

/// The attacks on a target that wants CHAP.
pub const CHAP_ATTACKS: &[ChapAttack] = &[
    ("chap_security_stage_skipped", chap_skip),
    ("chap_bad_responses", chap_bad_responses),
    ("chap_reflection_and_replay", chap_reflection),
    ("chap_challenges_differ", chap_challenges_differ),
    ("chap_commands_before_the_proof", chap_commands_before_proof),
    ("chap_guesses_have_to_wait", chap_guesses),
];

const SECRET: &str = "initiator-secret-1";
/// Far more guesses than are looked at without a pause. Pauses double, so one of them is longer than a guess takes, even here.
const GUESSES: usize = 64;

fn chap_server(options: &Options) -> Outcome<Server> {
    let chap = Credentials { name: "front".into(), secret: SECRET.into() };
    Server::start(options, Offer { chap: Some(chap), ..Offer::of(&[Unit::memory(64)]) })
}

/// Runs a CHAP attack on a server of its own, which must then still admit who knows the secret, at once or when the pause is
/// over that wrong answers brought, and has not told it.
pub fn with_chap(options: &Options, attack: fn(&Server) -> Outcome) -> Outcome {
    let mut server = chap_server(options)?;
    attack(&server)?;
    server.ensure_alive()?;
    let mut session = None;
    eventually(limits::STATE_PATIENCE, "who knows the secret gets in", || {
        session = server.session(9).ok();
        Ok(session.is_some())
    })?;
    let session = session.ok_or_else(|| Failure::new("it did not get in"))?;
    session.logout()?;
    ensure(!server.log().contains(SECRET), || "the log contains the secret".to_owned())
}

/// A target that starts again does not ask what it asked before.
pub fn challenges_of_two_lives(options: &Options) -> Outcome {
    let mut server = chap_server(options)?;
    let mut seen = Vec::new();
    for life in 0..3 {
        for _ in 0..8 {
            let (_, bytes) = challenge(&mut Wire::connect(server.portal)?, &server.login(1))?;
            ensure(!seen.contains(&bytes), || {
                format!("a challenge of an earlier start came again in start {life}")
            })?;
            seen.push(bytes);
        }
        server.kill()?;
        server.start_again()?;
    }
    Ok(())
}

fn first_request(server: &Server) -> Pdu {
    let login = server.login(0x66);
    let pairs = [login.names(), vec![("AuthMethod".to_owned(), "None".to_owned())]].concat();
    login.request(SECURITY, Some(OPERATIONAL), text_segment(&pairs))
}

fn encode(pdu: &Pdu) -> Vec<u8> {
    pdu.encode(Digests::default())
}

fn every_opcode_first(server: &Server, _: u64) -> Outcome {
    let opcodes = (0..=0x7fu8).filter(|first| first & 0x3f != opcode::LOGIN);
    volley(server, opcodes.clone().map(|first| encode(&Pdu::new(first, FINAL))))?;
    volley(server, opcodes.map(|first| encode(&Pdu::new(first, 0xff).with_data(vec![0xff; 64]))))
}

fn every_stage_pair(server: &Server, _: u64) -> Outcome {
    let mut shots = Vec::new();
    for flags in 0..=0xffu8 {
        let mut pdu = first_request(server);
        pdu.bhs[1] = flags;
        shots.push(encode(&pdu));
        pdu.data.clear();
        shots.push(encode(&pdu));
    }
    // Also in the second step.
    volley(server, shots)?;
    let second = (0..=0xffu8).map(|flags| {
        let mut pdu = first_request(server);
        let mut bytes = encode(&pdu);
        pdu.bhs[1] = flags;
        pdu.data.clear();
        bytes.extend_from_slice(&encode(&pdu));
        bytes
    });
    volley(server, second)
}

fn every_length(server: &Server, _: u64) -> Outcome {
    let mut shots = Vec::new();
    let good = encode(&first_request(server));
    for length in [0u32, 1, 7, 8191, 8192, 8193, 65_535, 0x007f_ffff, 0x0080_0000, 0x00ff_ffff] {
        let mut bytes = good.clone();
        bytes[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        shots.push(bytes);
    }
    for ahs_words in [1u8, 2, 63, 127, 128, 255] {
        let mut bytes = good.clone();
        bytes[4] = ahs_words;
        shots.push(bytes.clone());
        bytes.extend_from_slice(&vec![0xaa; 4096]);
        shots.push(bytes);
    }
    let mut long = first_request(server);
    long.data = vec![b'a'; 60_000];
    shots.push(encode(&long));
    volley(server, shots)
}

/// Half of a login, and then the end: a length that a header promised never comes.
fn cut_at_every_byte(server: &Server, _: u64) -> Outcome {
    let good = encode(&first_request(server));
    for cut in 0..good.len() {
        let mut wire = Wire::connect(server.portal)?;
        wire.send_bytes(&good[..cut])?;
        wire.finish_sending()?;
        if cut % 2 == 0 {
            wire.drain_until_closed().context(&format!("cut after {cut} bytes"))?;
        } else {
            wire.reset();
        }
    }
    Ok(())
}

fn other_protocols(server: &Server, _: u64) -> Outcome {
    let texts: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    volley(server, texts.iter().flat_map(|text| [text.to_vec(), text.repeat(1000)]))
}

fn random_bytes(server: &Server, seed: u64) -> Outcome {
    let mut chance = Seed::new(seed);
    let good = encode(&first_request(server));
    let mut shots = Vec::new();
    for round in 0..600 {
        let mut bytes = good.clone();
        if round % 3 == 0 {
            bytes.fill_with(|| chance.draw() as u8);
            bytes[0] = opcode::LOGIN | IMMEDIATE;
        } else {
            for _ in 0..1 + chance.below(6) {
                let position = chance.below(bytes.len() as u64) as usize;
                bytes[position] = chance.draw() as u8;
            }
        }
        shots.push(bytes);
    }
    volley(server, shots).context(&format!("seed {seed}"))
}

fn bad_text(server: &Server, _: u64) -> Outcome {
    let names = text_segment(&server.login(0x66).names());
    let tails: Vec<Vec<u8>> = vec![
        b"NoEqualsSign\0".to_vec(),
        b"=NoKey\0".to_vec(),
        b"=\0=\0=\0".to_vec(),
        vec![0; 4000],
        b"NoNulAtTheEnd=1".to_vec(),
        b"AuthMethod=None\0AuthMethod=None\0AuthMethod=CHAP\0".to_vec(),
        [b"X-long=".as_slice(), &[b'v'; 6000], b"\0"].concat(),
        [&[b'K'; 6000][..], b"=1\0"].concat(),
        b"MaxBurstLength=-1\0MaxRecvDataSegmentLength=99999999999999999999\0".to_vec(),
        b"MaxConnections=0x7fffffffffffffffffffff\0ErrorRecoveryLevel=9\0".to_vec(),
        b"HeaderDigest=\0DataDigest=,,,,\0AuthMethod=,\0".to_vec(),
        b"InitiatorName=again\0TargetName=again\0SessionType=Discovery\0".to_vec(),
        (0..700).flat_map(|index| format!("X-k{index}=1\0").into_bytes()).collect(),
        vec![0xff; 3000],
    ];
    let shots = tails.iter().flat_map(|tail| {
        let login = server.login(0x66);
        let data = [names.clone(), tail.clone()].concat();
        [
            login.request(SECURITY, Some(OPERATIONAL), data.clone()),
            login.request(OPERATIONAL, Some(FULL_FEATURE), data),
        ]
        .map(|pdu| encode(&pdu))
    });
    volley(server, shots.collect::<Vec<_>>())
}

/// The C bit without end: a bounded amount of text, then the end of the connection.
fn continues_for_ever(server: &Server, _: u64) -> Outcome {
    for piece in [vec![], b"X-a=1\0".to_vec(), vec![b'a'; 8000]] {
        let mut wire = Wire::connect(server.portal)?;
        let mut request = first_request(server);
        request.bhs[1] = 0x40;
        request.data.extend_from_slice(&piece);
        let ended = (0..10_000).any(|_| {
            let answer = wire.send(&request).and_then(|()| wire.recv());
            request.data.clone_from(&piece);
            answer.is_err()
        });
        ensure(ended, || "ten thousand pieces of one request were accepted".to_owned())?;
    }
    Ok(())
}

/// Empty steps without end, never asking for the next stage.
fn steps_for_ever(server: &Server, _: u64) -> Outcome {
    let mut wire = Wire::connect(server.portal)?;
    let mut request = first_request(server);
    request.bhs[1] = 0;
    let ended = (0..10_000).any(|_| {
        let answer = wire.send(&request).and_then(|()| wire.recv());
        request.data.clear();
        !matches!(answer, Ok(reply) if reply.opcode() == opcode::LOGIN_RESPONSE && reply.bhs[36] == 0)
    });
    ensure(ended, || "ten thousand steps of one login were accepted".to_owned())
}

fn unknown_keys(server: &Server, _: u64) -> Outcome {
    let mut login = server.login(0x66);
    login.extra_keys = vec![("X-com.example.Nothing".into(), "1".into()), ("NoSuchKey".into(), "2".into())];
    let session = login.session(server.portal)?;
    for key in ["X-com.example.Nothing", "NoSuchKey"] {
        let answer = value(&session.agreed.keys, key);
        ensure(answer == Some("NotUnderstood"), || format!("{key} was answered {answer:?}"))?;
    }
    Ok(session.logout()?)
}

fn refused_with(login: &Login, server: &Server, expected: &[(u8, u8)]) -> Outcome {
    match login.run(Wire::connect(server.portal)?) {
        Ok(LoginOutcome::Refused(class, detail)) if expected.contains(&(class, detail)) => Ok(()),
        Ok(LoginOutcome::Refused(class, detail)) => fail(format!("refused as {class:02x}{detail:02x}")),
        Ok(LoginOutcome::Session(_)) => fail("admitted"),
        Err(error) => fail(format!("{error} instead of a status")),
    }
}

fn bad_names(server: &Server, _: u64) -> Outcome {
    let unknown = format!("{TARGET_NAME}:nobody");
    refused_with(&Login::normal(INITIATOR_NAME, &unknown), server, &[(2, 3)]).context("unknown target")?;
    let long = format!("iqn.2026-11.io.vega:{}", "x".repeat(250));
    for (initiator, target) in
        [(INITIATOR_NAME, long.as_str()), (INITIATOR_NAME, ""), (INITIATOR_NAME, "\u{1}\u{2}")]
    {
        refused_with(&Login::normal(initiator, target), server, &[(2, 0), (2, 3), (2, 7)]).context(target)?;
    }
    for initiator in ["", long.as_str(), "no name at all"] {
        let outcome = Login::normal(initiator, TARGET_NAME).run(Wire::connect(server.portal)?);
        // An odd initiator name may be admitted where anyone may log in; it may not hurt.
        if let Ok(LoginOutcome::Session(session)) = outcome {
            session.logout()?;
        }
    }
    Ok(())
}

fn bad_session_handle(server: &Server, _: u64) -> Outcome {
    let mut login = server.login(0x66);
    login.tsih = 0xfffe;
    login.cid = 7;
    refused_with(&login, server, &[(2, 10)])
}

/// A handle that is right, but of a session of another initiator, or of the same one with another ISID.
fn handle_of_another(server: &Server, _: u64) -> Outcome {
    let mut victim = server.session(0x67)?;
    victim.settle(server.lun(0))?;
    let mut other_name = Login::normal(&format!("{INITIATOR_NAME}-thief"), TARGET_NAME).with_qualifier(0x67);
    let mut other_isid = server.login(0x68);
    for login in [&mut other_name, &mut other_isid] {
        login.tsih = victim.agreed.tsih;
        login.cid = 1;
        refused_with(login, server, &[(2, 10)])?;
    }
    // It has not noticed.
    victim.settle(server.lun(0))?;
    Ok(victim.logout()?)
}

fn bad_version(server: &Server, _: u64) -> Outcome {
    let mut pdu = first_request(server);
    (pdu.bhs[2], pdu.bhs[3]) = (0xff, 0xff);
    let mut wire = Wire::connect(server.portal)?;
    let mut status_sn = 0;
    match exchange(&mut wire, pdu, &mut status_sn)? {
        Err((2, 5)) => Ok(()),
        other => fail(format!("answered {other:?}, not 0205")),
    }
}

/// The same name and session qualifier again: the old session ends before the new one begins (6.3.5).
fn reinstatement(server: &Server, _: u64) -> Outcome {
    let mut old = server.session(0x66)?;
    let session = server.session(0x66)?;
    old.wire.drain_until_closed().context("the old connection stays open")?;
    Ok(session.logout()?)
}

fn full_feature_too_early(server: &Server, _: u64) -> Outcome {
    let shots =
        [opcode::SCSI_COMMAND, opcode::NOP_OUT, opcode::TEXT, opcode::DATA_OUT, opcode::LOGOUT].map(|kind| {
            let mut bytes = encode(&first_request(server));
            bytes.extend_from_slice(&encode(&Pdu::new(kind | IMMEDIATE, 0xff).with_data(vec![1; 512])));
            bytes
        });
    volley(server, shots)
}

fn chap_skip(server: &Server) -> Outcome {
    let login = server.login(1);
    let pairs = [login.names(), login.operational_keys()].concat();
    let request = login.request(OPERATIONAL, Some(FULL_FEATURE), text_segment(&pairs));
    let mut wire = Wire::connect(server.portal)?;
    match exchange(&mut wire, request, &mut 0) {
        Ok(Err((2, 1))) | Err(WireError::Closed) => Ok(()),
        other => fail(format!("security was skipped: {other:?}")),
    }
}

/// Logs in up to the challenge; identifier and challenge.
fn challenge(wire: &mut Wire, login: &Login) -> Outcome<(u8, Vec<u8>)> {
    let mut status_sn = 0;
    let pairs = [login.names(), vec![("AuthMethod".to_owned(), "CHAP".to_owned())]].concat();
    let request = login.request(SECURITY, None, text_segment(&pairs));
    exchange(wire, request, &mut status_sn)?.map_err(|status| WireError::Rejected(status.0))?;
    let request = login.request(SECURITY, None, text_segment(&[("CHAP_A", "5")]));
    let reply = exchange(wire, request, &mut status_sn)?.map_err(|status| WireError::Rejected(status.0))?;
    let keys = parse_text(&reply.data);
    let identifier = value(&keys, "CHAP_I").and_then(|text| text.parse().ok());
    let bytes = value(&keys, "CHAP_C").and_then(chap::decode_hex);
    identifier.zip(bytes).ok_or_else(|| crate::failure::Failure::new("no challenge"))
}

/// Sends `answer` to a fresh challenge; fails if that opens the door.
fn ensure_locked(server: &Server, answer: &[(&str, &str)]) -> Outcome {
    let login = server.login(1);
    let mut wire = Wire::connect(server.portal)?;
    challenge(&mut wire, &login)?;
    let request = login.request(SECURITY, Some(OPERATIONAL), text_segment(answer));
    let what: Vec<String> =
        answer.iter().map(|(key, value)| format!("{key}={}", &value[..value.len().min(24)])).collect();
    match exchange(&mut wire, request, &mut 0) {
        Ok(Err((2, _))) | Err(WireError::Closed | WireError::Rejected(_)) => Ok(()),
        other => fail(format!("{what:?} was answered {other:?}")),
    }
}

fn chap_bad_responses(server: &Server) -> Outcome {
    let long_hex = format!("0x{}", "41".repeat(3000));
    let bad = [
        "",
        "0x",
        "0x0",
        "0xzz",
        "0b",
        "0b====",
        "0bAAAAAAAAAAAAAAAAAAAAAA==",
        "12",
        "-1",
        long_hex.as_str(),
    ];
    for response in bad {
        ensure_locked(server, &[("CHAP_N", "front"), ("CHAP_R", response)])?;
    }
    let right_length = "0x00112233445566778899aabbccddeeff";
    let seventeen = "0x00112233445566778899aabbccddeeff00";
    ensure_locked(server, &[("CHAP_N", "front"), ("CHAP_R", right_length)])?;
    ensure_locked(server, &[("CHAP_N", "front"), ("CHAP_R", seventeen)])?;
    ensure_locked(server, &[("CHAP_R", right_length)])?;
    ensure_locked(server, &[("CHAP_N", "front")])?;
    ensure_locked(server, &[])?;
    // A right answer wipes the wrong ones: the rest of them is looked at as well.
    server.session(2)?.logout()?;
    for identifier in ["256", "99999999999999999999", "-1", "x"] {
        let answer =
            [("CHAP_N", "front"), ("CHAP_R", right_length), ("CHAP_I", identifier), ("CHAP_C", "0x00")];
        ensure_locked(server, &answer)?;
    }
    Ok(())
}

/// The target's own challenge must not be answered by the target, and an old answer must not fit again.
fn chap_reflection(server: &Server) -> Outcome {
    let login = server.login(1);
    let mut first = Wire::connect(server.portal)?;
    let (identifier, bytes) = challenge(&mut first, &login)?;
    let recorded = chap::response(identifier, "initiator-secret-1", &bytes);
    let mut second = Wire::connect(server.portal)?;
    challenge(&mut second, &login)?;
    let answer = [("CHAP_N", "front"), ("CHAP_R", recorded.as_str())];
    let replay = login.request(SECURITY, Some(OPERATIONAL), text_segment(&answer));
    match exchange(&mut second, replay, &mut 0) {
        Ok(Err((2, 1))) | Err(WireError::Closed) => {}
        other => return fail(format!("a recorded response was answered {other:?}")),
    }
    let reflected = chap::encode_hex(&bytes);
    let number = identifier.to_string();
    let answer = [
        ("CHAP_N", "front"),
        ("CHAP_R", recorded.as_str()),
        ("CHAP_I", number.as_str()),
        ("CHAP_C", &reflected),
    ];
    let request = login.request(SECURITY, Some(OPERATIONAL), text_segment(&answer));
    match exchange(&mut first, request, &mut 0) {
        Ok(Ok(reply)) => {
            let keys = parse_text(&reply.data);
            let proof = value(&keys, "CHAP_R");
            ensure(proof != Some(recorded.as_str()), || "the target answered its own challenge".to_owned())
        }
        Ok(Err((2, _))) | Err(WireError::Closed) => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

/// Guesses without end: soon no answer is looked at, not even the right one; elsewhere the right one is, all the time.
fn chap_guesses(server: &Server) -> Outcome {
    let guess = "0x00112233445566778899aabbccddeeff";
    let login = server.login(1);
    let mut looked_at = 0;
    let refusal = loop {
        ensure(looked_at < GUESSES, || format!("{GUESSES} guesses in a row were looked at"))?;
        let mut wire = Wire::connect(server.portal)?;
        challenge(&mut wire, &login)?;
        let answer = text_segment(&[("CHAP_N", "front"), ("CHAP_R", guess)]);
        let request = login.request(SECURITY, Some(OPERATIONAL), answer);
        match exchange(&mut wire, request, &mut 0)? {
            Err((2, 1)) => looked_at += 1,
            Err(status) => break status,
            Ok(reply) => return fail(format!("a guess was answered {reply:?}")),
        }
    };
    ensure(refusal == (3, 1) && looked_at > 1, || format!("after {looked_at} guesses: {refusal:?}"))?;
    let elsewhere = Wire::connect_from(OTHER_ADDRESS, server.portal)?;
    let LoginOutcome::Session(session) = server.login(2).run(elsewhere)? else {
        return fail("guesses lock out who knows the secret and comes from elsewhere");
    };
    session.logout()?;
    let (failures, refusals) = (
        server.metric("vega_authentication_failures_total")?,
        server.metric("vega_authentication_refusals_total")?,
    );
    ensure(failures == looked_at as f64 && refusals == 1.0, || {
        format!("{looked_at} guesses were looked at, {failures} counted, and {refusals} refused")
    })?;
    eventually(limits::STATE_PATIENCE, "the log says so", || Ok(server.log().contains("wrong CHAP answers")))
}

fn chap_challenges_differ(server: &Server) -> Outcome {
    let mut seen = Vec::new();
    for _ in 0..32 {
        let mut wire = Wire::connect(server.portal)?;
        let (_, bytes) = challenge(&mut wire, &server.login(1))?;
        ensure(bytes.len() >= 16, || format!("a challenge of {} bytes", bytes.len()))?;
        ensure(!seen.contains(&bytes), || "a challenge came twice".to_owned())?;
        seen.push(bytes);
    }
    Ok(())
}

fn chap_commands_before_proof(server: &Server) -> Outcome {
    let login = server.login(1);
    let mut wire = Wire::connect(server.portal)?;
    challenge(&mut wire, &login)?;
    wire.send(&Pdu::new(opcode::SCSI_COMMAND | IMMEDIATE, FINAL))?;
    let before = wire.drain_until_closed()?;
    ensure(before.iter().all(|pdu| pdu.opcode() != opcode::SCSI_RESPONSE), || {
        "a command was executed".to_owned()
    })
}

//! Attacks in full feature phase (RFC 7143, 11).

use initiator::pdu::{Digests, FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};
use initiator::scsi::{self, status};
use initiator::{Command, Session, WireError};

use crate::failure::{Context, Outcome, ensure, fail};
use crate::hostile::{Reaction, reaction};
use crate::restart::good;
use crate::scene::Attack;
use crate::seed::Seed;
use crate::server::Server;

/// The attacks.
pub const ATTACKS: &[Attack] = &[
    ("session_every_opcode", every_opcode),
    ("session_every_flag_byte", every_flag_byte),
    ("session_lengths", lengths),
    ("session_cut_at_every_byte", cut_at_every_byte),
    ("session_flipped_bytes", flipped_bytes),
    ("session_header_digest_error_drops", header_digest_error),
    ("session_data_digest_error_is_rejected", data_digest_error),
    ("session_commands_outside_the_window", outside_the_window),
    ("session_numbers_wrap", numbers_wrap),
    ("session_tags", tags),
    ("session_data_out_without_a_task", data_out_without_task),
    ("session_data_out_wrong", data_out_wrong),
    ("session_no_ghost_write_after_abort", no_ghost_write),
    ("session_tags_of_another_session", tags_of_another),
    ("session_behind_a_logout", behind_a_logout),
    ("session_text_abuse", text_abuse),
    ("session_task_management", task_management),
    ("session_strange_luns", strange_luns),
];

pub fn session(server: &Server) -> Outcome<Session> {
    let mut session = server.session(0x66)?;
    session.settle(server.lun(0))?;
    Ok(session)
}

/// A fresh session for each PDU; whatever it causes, it ends in an answer or in the end of the connection.
fn each_alone(server: &Server, pdus: impl IntoIterator<Item = Pdu>) -> Outcome {
    for pdu in pdus {
        let mut session = server.session(0x66)?;
        let mut pdu = pdu;
        session.stamp(&mut pdu);
        send_pdu(&mut session, &pdu)?;
        reaction(&mut session).context(&format!("after {:02x?}", pdu.bhs))?;
    }
    Ok(())
}

fn send(session: &mut Session, bytes: &[u8]) -> Outcome {
    match session.wire.send_bytes(bytes) {
        Ok(()) | Err(WireError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn send_pdu(session: &mut Session, pdu: &Pdu) -> Outcome {
    let bytes = pdu.encode(session.wire.digests);
    send(session, &bytes)
}

fn every_opcode(server: &Server, _: u64) -> Outcome {
    let empty = (0..=0x7f).map(|first| Pdu::new(first, FINAL));
    let full = (0..=0x7f).map(|first| Pdu::new(first, 0xff).with_data(vec![0xff; 100]));
    each_alone(server, empty.chain(full))
}

fn every_flag_byte(server: &Server, _: u64) -> Outcome {
    let kinds =
        [opcode::SCSI_COMMAND, opcode::DATA_OUT, opcode::TEXT, opcode::LOGOUT, opcode::TASK_MANAGEMENT];
    let pdus = kinds.into_iter().flat_map(|kind| {
        // Functions 6 and 7 reset the whole target, and so everyone's commands: no attack.
        let harmless = move |flags: &u8| kind != opcode::TASK_MANAGEMENT || !matches!(flags & 0x7f, 6 | 7);
        (0..=0xffu8).step_by(5).filter(harmless).map(move |flags| {
            let mut pdu = Pdu::new(kind | IMMEDIATE, flags);
            pdu.set_itt(0x100 + u32::from(flags));
            pdu
        })
    });
    each_alone(server, pdus)
}

/// Lengths that the target did not allow, and lengths whose bytes never come.
fn lengths(server: &Server, _: u64) -> Outcome {
    for length in [1u32, 0x4_0001, 0x10_0001, 0x7f_ffff, 0x80_0000, 0xff_ffff] {
        for ahs_words in [0u8, 1, 2, 255] {
            let mut session = server.session(0x66)?;
            let mut pdu = Pdu::new(opcode::NOP_OUT | IMMEDIATE, FINAL);
            session.stamp(&mut pdu);
            pdu.set_itt(5).set_word(20, NO_TAG);
            let mut bytes = pdu.encode(Digests::default());
            bytes[4] = ahs_words;
            bytes[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
            bytes.extend_from_slice(&[0xcc; 600]);
            send(&mut session, &bytes)?;
            session
                .wire
                .finish_sending()
                .or_else(|error| if matches!(error, WireError::Closed) { Ok(()) } else { Err(error) })?;
            session.wire.drain_until_closed().context(&format!("length {length:#x}, AHS {ahs_words}"))?;
        }
    }
    Ok(())
}

fn cut_at_every_byte(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    for cut in (0..120).chain([511, 512, 559, 560]) {
        let mut session = session(server)?;
        let write = Command::write(lun, scsi::write_16(0, 1), vec![0x5a; 512]);
        let bytes = session.command_pdu(&write).encode(session.wire.digests);
        session.wire.send_bytes(&bytes[..cut.min(bytes.len())])?;
        if cut % 2 == 0 {
            session.wire.reset();
        } else {
            session.wire.finish_sending()?;
            session.wire.drain_until_closed().context(&format!("cut after {cut} bytes"))?;
        }
    }
    Ok(())
}

/// Correct traffic with a few bytes changed, many times.
fn flipped_bytes(server: &Server, seed: u64) -> Outcome {
    let mut chance = Seed::new(seed);
    let lun = server.lun(0);
    for round in 0..1500 {
        let mut session = server.session(0x66)?;
        let mut bytes = Vec::new();
        let digests = session.wire.digests;
        for index in 0..3 {
            let command = match chance.below(3) {
                0 => Command::write(lun, scsi::write_16(index, 2), vec![1; 1024]),
                1 => Command::read(lun, scsi::read_16(index, 2), 1024),
                _ => Command::read(lun, scsi::inquiry(None, 96), 96),
            };
            bytes.extend_from_slice(&session.command_pdu(&command).encode(digests));
        }
        for _ in 0..1 + chance.below(4) {
            let position = chance.below(bytes.len() as u64) as usize;
            bytes[position] = chance.draw() as u8;
        }
        send(&mut session, &bytes)?;
        if round % 2 == 0 {
            session.wire.reset();
        } else {
            // A longer length would swallow a ping, so the end of the stream is what makes it an end.
            let finished = session.wire.finish_sending();
            if finished.is_ok() {
                match session.wire.drain_until_closed() {
                    Ok(_) | Err(WireError::TooLong(_)) => {}
                    Err(error) => return Err(error).context(&format!("seed {seed}, round {round}")),
                }
            }
        }
    }
    Ok(())
}

fn digest_session(server: &Server) -> Outcome<Option<Session>> {
    let mut login = server.login(0x66);
    login.digests = Digests { header: true, data: true };
    let mut session = login.session(server.portal)?;
    session.settle(server.lun(0))?;
    // A target may be configured without digests; then there is nothing to attack.
    Ok((session.wire.digests == login.digests).then_some(session))
}

/// Error recovery level 0: nothing after a wrong header digest can be trusted (7.7).
fn header_digest_error(server: &Server, _: u64) -> Outcome {
    let Some(mut session) = digest_session(server)? else { return Ok(()) };
    let read = Command::read(server.lun(0), scsi::read_16(0, 1), 512);
    let mut bytes = session.command_pdu(&read).encode(session.wire.digests);
    bytes[50] ^= 1;
    session.wire.send_bytes(&bytes)?;
    let pdus = session.wire.drain_until_closed()?;
    ensure(
        pdus.iter().all(|pdu| pdu.opcode() != opcode::SCSI_RESPONSE && pdu.opcode() != opcode::DATA_IN),
        || "the command was executed".to_owned(),
    )
}

/// A wrong data digest is answered with Reject "data digest error", and nothing is written (7.8, 11.17.1).
fn data_digest_error(server: &Server, _: u64) -> Outcome {
    let Some(mut session) = digest_session(server)? else { return Ok(()) };
    let lun = server.lun(0);
    good(&mut session, Command::write(lun, scsi::write_16(40, 1), vec![0x11; 512]))?;
    let write = Command::write(lun, scsi::write_16(40, 1), vec![0x22; 512]);
    let mut bytes = session.command_pdu(&write).encode(session.wire.digests);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    session.wire.send_bytes(&bytes)?;
    let reaction = reaction(&mut session)?;
    ensure(reaction.reject_reason() == Some(2) || matches!(reaction, Reaction::Closed(_)), || {
        format!("neither rejected nor dropped: {reaction:?}")
    })?;
    ensure_content(server, 40, 0x11)
}

fn ensure_content(server: &Server, lba: u64, byte: u8) -> Outcome {
    let mut session = session(server)?;
    let data = good(&mut session, Command::read(server.lun(0), scsi::read_16(lba, 1), 512))?;
    ensure(data == vec![byte; 512], || format!("LBA {lba} holds {:02x?}, not {byte:#04x}", &data[..4]))?;
    Ok(session.logout()?)
}

/// Commands outside the window are ignored without a word (4.2.2.1), and the session goes on.
fn outside_the_window(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    good(&mut session, Command::write(lun, scsi::write_16(48, 1), vec![0x11; 512]))?;
    let right = session.cmd_sn;
    for wrong in
        [right.wrapping_sub(1), right.wrapping_sub(1000), session.max_cmd_sn.wrapping_add(1), right ^ 1 << 31]
    {
        session.cmd_sn = wrong;
        let write = Command::write(lun, scsi::write_16(48, 1), vec![0x22; 512]);
        let bytes = session.command_pdu(&write).encode(session.wire.digests);
        session.wire.send_bytes(&bytes)?;
        session.cmd_sn = right;
        let reaction = reaction(&mut session)?;
        let answered = reaction.pdus().iter().any(|pdu| pdu.opcode() == opcode::SCSI_RESPONSE);
        ensure(!answered, || format!("CmdSN {wrong:#x} was executed, expected was {right:#x}"))?;
        if matches!(reaction, Reaction::Closed(_)) {
            return fail(format!("CmdSN {wrong:#x} ended the session instead of being ignored"));
        }
    }
    let data = good(&mut session, Command::read(lun, scsi::read_16(48, 1), 512))?;
    ensure(data == vec![0x11; 512], || "an ignored command wrote".to_owned())?;
    Ok(session.logout()?)
}

/// CmdSN and StatSN are serial numbers (RFC 1982): nothing happens at the wrap.
fn numbers_wrap(server: &Server, _: u64) -> Outcome {
    for first in [u32::MAX - 20, 0x7fff_ffff - 20, 0] {
        let mut login = server.login(0x66);
        login.cmd_sn = first;
        let mut session = login.session(server.portal)?;
        session.settle(server.lun(0))?;
        for lba in 0..200 {
            let read = Command::read(server.lun(0), scsi::read_16(lba, 1), 512);
            good(&mut session, read).context(&format!("CmdSN began at {first:#x}"))?;
        }
        session.logout()?;
    }
    Ok(())
}

/// The reserved tag, and a tag that is in use.
fn tags(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    let mut pdu = session.command_pdu(&Command::read(lun, scsi::read_16(0, 1), 512));
    pdu.set_itt(NO_TAG);
    session.wire.send(&pdu)?;
    reaction(&mut session).context("tag ffffffff")?;
    let mut session = self::session(server)?;
    let write = Command::write(lun, scsi::write_16(64, 4096), vec![0; 2 << 20]);
    let mut first = session.command_pdu(&write);
    first.data.clear();
    session.wire.send(&first)?;
    let mut second = session.command_pdu(&Command::read(lun, scsi::read_16(0, 1), 512));
    second.set_itt(first.itt());
    session.wire.send(&second)?;
    reaction(&mut session).context("a tag that is in use")?;
    Ok(())
}

fn data_out(itt: u32, ttt: u32, offset_bytes: u32, data: Vec<u8>) -> Pdu {
    let mut pdu = Pdu::new(opcode::DATA_OUT, FINAL).with_data(data);
    pdu.set_itt(itt).set_word(20, ttt).set_word(40, offset_bytes);
    pdu
}

fn data_out_without_task(server: &Server, _: u64) -> Outcome {
    let tags = [0, 1, 0x1234_5678, NO_TAG];
    let pdus = tags.iter().flat_map(|itt| tags.map(|ttt| data_out(*itt, ttt, 0, vec![9; 512])));
    each_alone(server, pdus)
}

/// Asks for a write without data, and returns the R2T that comes back.
fn await_r2t(session: &mut Session, lun: u64, lba: u64) -> Outcome<(Pdu, Pdu)> {
    let write = Command::write(lun, scsi::write_16(lba, 256), vec![0x22; 128 * 1024]);
    let mut command = session.command_pdu(&write);
    command.data.clear();
    session.wire.send(&command)?;
    loop {
        let pdu = session.wire.recv()?;
        if pdu.opcode() == opcode::R2T {
            return Ok((command, pdu));
        }
        session.handle(&pdu)?;
    }
}

/// Answers an R2T wrongly in every field; nothing of it may be written.
fn data_out_wrong(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut owner = session(server)?;
    good(&mut owner, Command::write(lun, scsi::write_16(1024, 256), vec![0x11; 128 * 1024]))?;
    owner.logout()?;
    type Spoil = fn(&mut Pdu);
    let spoils: [(&str, Spoil); 10] = [
        ("target transfer tag", |pdu| {
            pdu.set_word(20, 0x0bad_0bad);
        }),
        ("reserved transfer tag", |pdu| {
            pdu.set_word(20, NO_TAG);
        }),
        ("offset beyond the burst", |pdu| {
            pdu.set_word(40, 1 << 20);
        }),
        ("offset at the end of numbers", |pdu| {
            pdu.set_word(40, u32::MAX - 100);
        }),
        ("offset inside the burst", |pdu| {
            pdu.set_word(40, 512);
        }),
        ("sequence number", |pdu| {
            pdu.set_word(36, 7);
        }),
        ("task tag", |pdu| {
            pdu.set_itt(0x00c0_ffee);
        }),
        ("no data", |pdu| pdu.data.clear()),
        ("final too early", |pdu| pdu.data.truncate(512)),
        ("more than was asked for", |pdu| pdu.data.resize(160 * 1024, 0x22)),
    ];
    for (what, spoil) in spoils {
        let mut session = session(server)?;
        let (command, r2t) = await_r2t(&mut session, lun, 1024)?;
        let asked = (r2t.word(44) as usize).min(session.agreed.send_data_segment_bytes_max);
        let mut pdu = data_out(command.itt(), r2t.word(20), r2t.word(40), vec![0x22; asked]);
        pdu.set_lun(lun);
        session.stamp(&mut pdu);
        spoil(&mut pdu);
        send_pdu(&mut session, &pdu)?;
        let reaction = reaction(&mut session).context(what)?;
        let good = reaction
            .pdus()
            .iter()
            .any(|pdu| pdu.opcode() == opcode::SCSI_RESPONSE && pdu.bhs[3] == status::GOOD);
        ensure(!good, || format!("wrong {what}: the write was acknowledged"))?;
        drop(session);
        ensure_content(server, 1024, 0x11).context(what)?;
    }
    Ok(())
}

/// After the answer to ABORT TASK, data that comes late must not be written (G4).
fn no_ghost_write(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut owner = session(server)?;
    good(&mut owner, Command::write(lun, scsi::write_16(2048, 256), vec![0x11; 128 * 1024]))?;
    owner.logout()?;
    // ABORT TASK names the task; ABORT TASK SET and LOGICAL UNIT RESET mean it as well.
    for function in [1, 2, 5] {
        let mut session = session(server)?;
        let (command, r2t) = await_r2t(&mut session, lun, 2048)?;
        let referenced = if function == 1 { command.itt() } else { NO_TAG };
        let mut request = session.request_pdu(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | function);
        request.set_lun(lun).set_word(20, referenced).set_word(32, command.word(24));
        let answer = session.ask(&request, opcode::TASK_MANAGEMENT_RESPONSE)?;
        ensure(answer.bhs[2] == 0, || format!("function {function} was answered {}", answer.bhs[2]))?;
        let asked = r2t.word(44) as usize;
        let mut offset = r2t.word(40);
        for piece in vec![0x22; asked].chunks(session.agreed.send_data_segment_bytes_max.min(65_536)) {
            let mut pdu = data_out(command.itt(), r2t.word(20), offset, piece.to_vec());
            pdu.set_lun(lun);
            session.stamp(&mut pdu);
            offset += piece.len() as u32;
            send_pdu(&mut session, &pdu)?;
        }
        reaction(&mut session).context(&format!("function {function}"))?;
        drop(session);
        ensure_content(server, 2048, 0x11).context(&format!("function {function}"))?;
    }
    Ok(())
}

/// Task tags and transfer tags are of one session: what another session sends with them reaches nobody.
fn tags_of_another(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut victim = server.session(0x67)?;
    victim.settle(lun)?;
    good(&mut victim, Command::write(lun, scsi::write_16(3072, 256), vec![0x11; 128 * 1024]))?;
    let (command, r2t) = await_r2t(&mut victim, lun, 3072)?;
    let asked = (r2t.word(44) as usize).min(victim.agreed.send_data_segment_bytes_max);
    let mut data = data_out(command.itt(), r2t.word(20), r2t.word(40), vec![0x66; asked]);
    data.set_lun(lun);
    let mut abort = Pdu::new(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | 1);
    abort.set_lun(lun).set_itt(0x77).set_word(20, command.itt()).set_word(32, command.word(24));
    each_alone(server, [data, abort])?;
    // The victim's task is still there, and takes the victim's data only.
    let mut data = data_out(command.itt(), r2t.word(20), r2t.word(40), vec![0x33; r2t.word(44) as usize]);
    data.set_lun(lun);
    victim.stamp(&mut data);
    victim.wire.send(&data)?;
    loop {
        let pdu = victim.wire.recv().context("the victim's write")?;
        match pdu.opcode() {
            opcode::SCSI_RESPONSE => {
                ensure(pdu.bhs[3] == status::GOOD, || format!("status {:#04x}", pdu.bhs[3]))?;
                break;
            }
            opcode::R2T => {
                let mut data =
                    data_out(command.itt(), pdu.word(20), pdu.word(40), vec![0x33; pdu.word(44) as usize]);
                data.set_lun(lun);
                victim.wire.send(&data)?;
            }
            _ => {}
        }
    }
    let data = good(&mut victim, Command::read(lun, scsi::read_16(3072, 256), 128 * 1024))?;
    ensure(data == vec![0x33; 128 * 1024], || "another session's data was written".to_owned())?;
    Ok(victim.logout()?)
}

/// What comes behind a logout in the same breath is not executed, and ends nobody else (11.14).
fn behind_a_logout(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut owner = session(server)?;
    good(&mut owner, Command::write(lun, scsi::write_16(56, 1), vec![0x11; 512]))?;
    owner.logout()?;
    for garbage in [false, true] {
        let mut session = session(server)?;
        let logout = session.request_pdu(opcode::LOGOUT | IMMEDIATE, FINAL);
        let mut bytes = logout.encode(session.wire.digests);
        for _ in 0..4 {
            let write = Command::write(lun, scsi::write_16(56, 1), vec![0x22; 512]);
            bytes.extend_from_slice(&session.command_pdu(&write).encode(session.wire.digests));
        }
        if garbage {
            bytes.extend_from_slice(&[0xff; 4096]);
        }
        send(&mut session, &bytes)?;
        let pdus = session.wire.drain_until_closed().context("after a logout")?;
        ensure(pdus.iter().all(|pdu| pdu.opcode() != opcode::SCSI_RESPONSE), || {
            "a command behind the logout was answered".to_owned()
        })?;
        ensure_content(server, 56, 0x11)?;
    }
    Ok(())
}

fn text_abuse(server: &Server, _: u64) -> Outcome {
    let text = |flags: u8, ttt: u32, data: &[u8]| {
        let mut pdu = Pdu::new(opcode::TEXT | IMMEDIATE, flags).with_data(data);
        pdu.set_itt(9).set_word(20, ttt);
        pdu
    };
    let all = b"SendTargets=All\0";
    let shots = [
        text(0x40, NO_TAG, b""),
        text(0xc0, NO_TAG, b""),
        text(0x00, NO_TAG, b""),
        text(FINAL, NO_TAG, b""),
        text(FINAL, 0x1234, all),
        text(0x40, NO_TAG, all),
        text(FINAL, NO_TAG, b"SendTargets"),
        text(FINAL, NO_TAG, b"=\0=\0\0\0"),
        text(FINAL, NO_TAG, &[b'x'; 9000]),
        text(FINAL, NO_TAG, &b"SendTargets=All\0".repeat(400)),
        text(FINAL, NO_TAG, b"InitiatorName=another\0MaxBurstLength=512\0"),
    ];
    each_alone(server, shots)?;
    let mut session = session(server)?;
    let mut request = text(0x40, NO_TAG, &[b'x'; 4096]);
    let mut ended = false;
    for _ in 0..5000 {
        session.stamp(&mut request);
        match session.wire.send(&request).and_then(|()| session.wire.recv()) {
            Ok(answer) if answer.opcode() == opcode::TEXT_RESPONSE => {
                request.set_word(20, answer.word(20));
                session.exp_stat_sn = answer.word(24).wrapping_add(1);
            }
            _ => {
                ended = true;
                break;
            }
        }
    }
    ensure(ended, || "text without end was accepted".to_owned())
}

fn task_management(server: &Server, _: u64) -> Outcome {
    let mut pdus = Vec::new();
    for function in [0u8, 3, 4, 8, 9, 0x3f, 0x7f] {
        for referenced in [0, 77, NO_TAG] {
            let mut pdu = Pdu::new(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | function);
            pdu.set_itt(3).set_word(20, referenced).set_word(32, 0xdead_beef);
            pdus.push(pdu);
        }
    }
    for reason in [1u8, 2, 3, 0x7f] {
        let mut pdu = Pdu::new(opcode::LOGOUT | IMMEDIATE, FINAL | reason);
        pdu.set_itt(4).set_word(20, 0xffff_0000);
        pdus.push(pdu);
    }
    for kind in 0..16u8 {
        let mut pdu = Pdu::new(opcode::SNACK | IMMEDIATE, FINAL | kind);
        pdu.set_itt(5).set_word(20, 6).set_word(40, u32::MAX).set_word(44, u32::MAX);
        pdus.push(pdu);
    }
    each_alone(server, pdus)
}

/// LUNs that do not exist, in every addressing method: an answer, and never another unit's data.
fn strange_luns(server: &Server, _: u64) -> Outcome {
    let mut session = session(server)?;
    let mut luns: Vec<[u8; 8]> = (0..=255u8).map(|first| [first, 0x77, 0, 0, 0, 0, 0, 0]).collect();
    luns.extend([[0xff; 8], [0, 0, 0, 0, 0, 0, 0, 1], [0, server.lun(0) as u8, 0, 1, 0, 0, 0, 0]]);
    for lun in luns {
        for cdb in [scsi::test_unit_ready(), scsi::read_16(0, 1)] {
            let read = Command::read(0, cdb, if cdb[0] == 0x88 { 512 } else { 0 });
            let mut pdu = session.command_pdu(&read);
            pdu.bhs[8..16].copy_from_slice(&lun);
            let answer = session.ask(&pdu, opcode::SCSI_RESPONSE);
            match answer {
                Ok(answer) => ensure(answer.bhs[3] == status::CHECK_CONDITION, || {
                    format!("LUN {lun:02x?}: status {:#04x}", answer.bhs[3])
                })?,
                Err(error) => return Err(error).context(&format!("LUN {lun:02x?}")),
            }
        }
    }
    Ok(session.logout()?)
}

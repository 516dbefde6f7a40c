//! Many, slow and stuck peers: the target keeps serving the others, and everything they held goes home.
//!
//! "Others are not stalled" is said in completions of a witness session, never in seconds.

use std::time::Duration;

use initiator::pdu::{FINAL, IMMEDIATE, Pdu, opcode};
use initiator::scsi::{self, status};
use initiator::{Command, Session, Wire, WireError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::failure::{Context, Failure, Outcome, ensure};
use crate::limits;
use crate::options::Options;
use crate::process::Held;
use crate::report::Report;
use crate::restart::good;
use crate::server::{Offer, Server, Unit};
use crate::witness::Witness;

/// Completions of the witness that each storm must leave room for.
const PROGRESS: u64 = 1000;
/// What many stuck readers may make the target keep, beyond its start: far less than they asked for.
const BACKLOG_KIB_MAX: u64 = 256 * 1024;

/// A server, what it held at first, and a witness on its second unit.
struct Scene {
    server: Server,
    held: Held,
    witness: Witness,
}

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let scaled = |count: usize| if options.quick { count / 10 } else { count };
    let connections = scaled(limits::CONNECTIONS);
    let logins = scaled(limits::LOGINS);
    report.check("connections_at_once", || scene(options, |scene| many_sessions(scene, connections)));
    report.check("logins_in_a_row", || scene(options, |scene| many_logins(scene, logins)));
    report.check("silent_connections", || scene(options, |scene| silent_connections(scene, connections)));
    report.check("slow_readers", || scene(options, slow_readers));
    report.check("pings_never_read", || scene(options, pings_never_read));
    report.check("slow_writers", || scene(options, slow_writers));
    report.check("slow_login", || scene(options, slow_login));
    report.check("resets_under_load", || scene(options, |scene| resets(scene, scaled(500))));
}

/// Sets a scene, lets `storm` loose, and looks whether everything is as before.
fn scene(options: &Options, storm: impl FnOnce(&mut Scene) -> Outcome) -> Outcome {
    raise_descriptor_limit()?;
    let server = Server::start(options, Offer::of(&[Unit::memory(64), Unit::memory(64)]))?;
    let witness = Witness::start(&server, 1)?;
    // Buffers that are used for the first time are no leak; so the baseline is taken in full motion.
    witness.ensure_progress(PROGRESS)?;
    let held = server.held()?;
    let mut scene = Scene { server, held, witness };
    storm(&mut scene)?;
    scene.server.ensure_alive()?;
    scene.witness.ensure_progress(PROGRESS).context("after the storm")?;
    scene.server.ensure_returned(scene.held)?;
    scene.witness.finish()?;
    let mut session = scene.server.session(1).context("after the storm")?;
    session.settle(scene.server.lun(0))?;
    Ok(session.logout()?)
}

/// A thousand connections are more than the usual soft limit allows both ends.
fn raise_descriptor_limit() -> Outcome {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

fn many_sessions(scene: &mut Scene, connections: usize) -> Outcome {
    let lun = scene.server.lun(0);
    let mut sessions = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut session = scene.server.session(index as u16 + 1).context(&format!("session {index}"))?;
        session.settle(lun)?;
        sessions.push(session);
    }
    scene.witness.ensure_progress(PROGRESS).context("with all of them idle")?;
    for (index, session) in sessions.iter_mut().enumerate() {
        let block = (index as u64).to_le_bytes().repeat(64);
        session.submit(Command::write(lun, scsi::write_16(index as u64, 1), block))?;
    }
    for session in &mut sessions {
        let completion = session.complete_one()?;
        ensure(completion.status == status::GOOD, || format!("{completion:?}"))?;
    }
    for (index, session) in sessions.iter_mut().enumerate() {
        let data = good(session, Command::read(lun, scsi::read_16(index as u64, 1), 512))?;
        ensure(data == (index as u64).to_le_bytes().repeat(64), || format!("session {index} reads wrong"))?;
    }
    // Half of them leave politely, half just go.
    for (index, session) in sessions.into_iter().enumerate() {
        if index % 2 == 0 {
            session.logout()?;
        }
    }
    Ok(())
}

fn many_logins(scene: &mut Scene, logins: usize) -> Outcome {
    for round in 0..logins {
        let session = scene.server.session(round as u16 % 4).context(&format!("login {round}"))?;
        session.logout().context(&format!("logout {round}"))?;
    }
    Ok(())
}

fn silent_connections(scene: &mut Scene, connections: usize) -> Outcome {
    let wires = (0..connections)
        .map(|_| Wire::connect(scene.server.portal))
        .collect::<Result<Vec<_>, WireError>>()?;
    scene.witness.ensure_progress(PROGRESS).context("with all of them silent")?;
    for wire in wires {
        ensure_dropped(wire)?;
    }
    Ok(())
}

/// The target closes this connection by itself, in bounded time.
pub fn ensure_dropped(mut wire: Wire) -> Outcome {
    wire.set_patience(limits::LOGIN_DROP_PATIENCE)?;
    wire.drain_until_closed().context("the target keeps a connection that it should drop")?;
    Ok(())
}

/// Sessions that ask for all the data their window allows, and do not read it: each with the number of its commands.
fn stalled_readers(scene: &Scene) -> Result<Vec<(Session, usize)>, Failure> {
    let lun = scene.server.lun(0);
    let mut sessions = Vec::new();
    for qualifier in 1..=32 {
        let mut session = scene.server.session(qualifier)?;
        session.settle(lun)?;
        session.wire.shrink_receive_buffer()?;
        let mut asked = 0;
        while session.window_open() && asked < 128 {
            session.submit(Command::read(lun, scsi::read_16(0, 512), 512 * 512))?;
            asked += 1;
        }
        sessions.push((session, asked));
    }
    Ok(sessions)
}

/// Others get on beside readers that never read.
fn slow_readers(scene: &mut Scene) -> Outcome {
    let _sessions = stalled_readers(scene)?;
    scene.witness.ensure_progress(PROGRESS).context("beside readers that do not read")?;
    let neighbour = Witness::start(&scene.server, 0).context("a new session on the unit they read")?;
    neighbour.ensure_progress(PROGRESS).context("on the unit that is read by readers that do not read")?;
    neighbour.finish()?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("stuck readers made the target keep {grown} KiB more"))
}

/// Sessions that send pings as long as the target takes them, and never read an answer.
fn pings_never_read(scene: &mut Scene) -> Outcome {
    let mut sessions = Vec::new();
    for qualifier in 1..=8 {
        let mut session = scene.server.session(qualifier)?;
        session.wire.shrink_receive_buffer()?;
        session.wire.set_patience(Duration::from_millis(200))?;
        let mut pdu = session.request_pdu(opcode::NOP_OUT | IMMEDIATE, FINAL).with_data(vec![7; 4096]);
        pdu.set_word(20, initiator::pdu::NO_TAG);
        let bytes = pdu.encode(session.wire.digests);
        // 32 MiB of pings: the target must stop taking them long before.
        for _ in 0..8192 {
            match session.wire.send_some(&bytes) {
                Ok(sent) if sent == bytes.len() => {}
                Ok(_) | Err(WireError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        sessions.push(session);
    }
    scene.witness.ensure_progress(PROGRESS).context("beside peers that only ping")?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("unread pings made the target keep {grown} KiB more"))
}

/// Sessions that stop in the middle of a PDU: in its header, and in its data.
fn slow_writers(scene: &mut Scene) -> Outcome {
    let lun = scene.server.lun(0);
    let mut sessions: Vec<(Session, Vec<u8>)> = Vec::new();
    for (qualifier, cut) in (1..).zip([1, 17, 47, 48, 49, 200, 4095]) {
        let mut session = scene.server.session(qualifier)?;
        session.settle(lun)?;
        let write =
            Command::write(lun, scsi::write_16(u64::from(qualifier) * 8, 8), vec![qualifier as u8; 4096]);
        let mut bytes = session.command_pdu(&write).encode(session.wire.digests);
        let rest = bytes.split_off(cut);
        session.wire.send_slowly(&bytes, Duration::ZERO)?;
        sessions.push((session, rest));
    }
    scene.witness.ensure_progress(PROGRESS).context("beside writers that stopped")?;
    for (session, rest) in &mut sessions {
        session.wire.send_slowly(rest, Duration::ZERO)?;
        let answer = loop {
            let pdu = session.wire.recv().context("a writer that went on")?;
            if pdu.opcode() == opcode::SCSI_RESPONSE {
                break pdu;
            }
            ensure(pdu.opcode() == opcode::NOP_IN, || format!("opcode {:#04x}", pdu.opcode()))?;
        };
        ensure(answer.bhs[3] == status::GOOD, || format!("status {:#04x}", answer.bhs[3]))?;
    }
    for (session, _) in sessions {
        session.logout()?;
    }
    Ok(())
}

/// Logins that come a byte at a time: at full speed they succeed, at a crawl they are dropped.
fn slow_login(scene: &mut Scene) -> Outcome {
    let login = scene.server.login(1);
    let pairs = [login.names(), vec![("AuthMethod".to_owned(), "None".to_owned())]].concat();
    let request = login.request(0, Some(1), initiator::pdu::text_segment(&pairs));
    let bytes = request.encode(Default::default());
    let mut wire = Wire::connect(scene.server.portal)?;
    wire.send_slowly(&bytes, Duration::ZERO)?;
    let answer: Pdu = wire.recv().context("a login that came byte by byte")?;
    ensure(answer.opcode() == opcode::LOGIN_RESPONSE && answer.bhs[36] == 0, || "it was refused".to_owned())?;
    drop(wire);
    let mut wire = Wire::connect(scene.server.portal)?;
    let crawl = wire.send_slowly(&bytes, Duration::from_secs(1));
    // The drop may be noticed while sending or only afterwards.
    match crawl {
        Err(WireError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => ensure_dropped(wire),
    }
}

/// Connections that break with commands in flight, at every stage of a write.
fn resets(scene: &mut Scene, rounds: usize) -> Outcome {
    let lun = scene.server.lun(0);
    for round in 0..rounds {
        let mut session = scene.server.session(1)?;
        session.settle(lun)?;
        for index in 0..8u64 {
            let write = Command::write(lun, scsi::write_16(index * 1024, 1024), vec![0xee; 512 * 1024]);
            let bytes = session.command_pdu(&write).encode(session.wire.digests);
            let cut = if index == 7 { 1 + round * 97 % bytes.len() } else { bytes.len() };
            session.wire.send_bytes(&bytes[..cut])?;
            session
                .submit(Command::read(lun, scsi::read_16(index * 8, 8), 4096))
                .map(drop)
                .or_else(closed_is_fine)?;
        }
        if round % 2 == 0 {
            session.wire.reset();
        }
    }
    Ok(())
}

/// A peer that was wrong may be cut off at any moment.
fn closed_is_fine(error: WireError) -> Result<(), WireError> {
    if matches!(error, WireError::Closed) { Ok(()) } else { Err(error) }
}

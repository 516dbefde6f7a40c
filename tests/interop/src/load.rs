//! Many, slow and stuck peers: the target keeps serving the others, and everything they held goes home.
//!
//! "Others are not stalled" is said in completions of a witness session, never in seconds.

use std::net::Ipv4Addr;
use std::time::Duration;

use initiator::pdu::{Pdu, opcode};
use initiator::scsi::{self, status};
use initiator::{Command, LoginOutcome, Session, Wire, WireError};

use crate::failure::{Context, Outcome, ensure, fail};
use crate::limits;
use crate::options::Options;
use crate::report::Report;
use crate::restart::good;
use crate::scene::{self, BACKLOG_KIB_MAX, PROGRESS, Scene};
use crate::server::{Offer, Server, Unit};
use crate::{iscsi_witness, slow_readers};

/// What the target may keep for each connection that has said nothing yet.
const SILENT_KIB_MAX: u64 = 32;
/// Connections of one address in a flood: more than one address may have.
const FLOOD: usize = 3000;
/// An address of this machine that is not the one everything else comes from.
pub const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let scaled = |count: usize| if options.quick { count / 10 } else { count };
    let connections = scaled(limits::CONNECTIONS);
    let logins = scaled(limits::LOGINS);
    report.check("connections_at_once", || scene(options, |scene| many_sessions(scene, connections)));
    report.check("logins_in_a_row", || scene(options, |scene| many_logins(scene, logins)));
    report.check("silent_connections", || scene(options, |scene| silent_connections(scene, connections)));
    report.check("connection_flood", || scene(options, connection_flood));
    report.check("announced_writes", || scene(options, announced_writes));
    report.check("slow_readers", || scene(options, slow_readers::slow_readers));
    report.check("pings_never_read", || scene(options, slow_readers::pings_never_read));
    report.check("slow_writers", || scene(options, slow_writers));
    report.check("slow_login", || scene(options, slow_login));
    report.check("resets_under_load", || scene(options, |scene| resets(scene, scaled(500))));
}

/// Sets a scene with the witness on the second unit, lets `storm` loose, and looks whether everything is as before.
fn scene(options: &Options, storm: impl FnOnce(&mut Scene) -> Outcome) -> Outcome {
    scene::raise_descriptor_limit()?;
    let server = Server::start(options, Offer::of(&[Unit::memory(64), Unit::memory(64)]))?;
    let witness = iscsi_witness::start(&server, 1)?;
    let mut scene = Scene::of(server, witness)?;
    storm(&mut scene)?;
    let server = scene.close().context("after the storm")?;
    let mut session = server.session(1).context("after the storm")?;
    session.settle(server.lun(0))?;
    Ok(session.logout()?)
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
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < SILENT_KIB_MAX * connections as u64, || {
        format!("{connections} connections that said nothing made the target keep {grown} KiB more")
    })?;
    for wire in wires {
        ensure_dropped(wire)?;
    }
    Ok(())
}

/// More connections of one address than it may have before it has logged in: the target takes its share, closes the rest at
/// once, and another address is served as ever.
fn connection_flood(scene: &mut Scene) -> Outcome {
    let wires =
        (0..FLOOD).map(|_| Wire::connect(scene.server.portal)).collect::<Result<Vec<_>, WireError>>()?;
    let login = scene.server.login(1);
    let other = Wire::connect_from(OTHER_ADDRESS, scene.server.portal)?;
    let LoginOutcome::Session(mut session) = login.run(other).context("a login from another address")? else {
        return fail("a login from another address was refused during a flood");
    };
    session.settle(scene.server.lun(0))?;
    session.logout()?;
    scene.witness.ensure_progress(PROGRESS).context("during a flood of connections")?;
    for wire in wires {
        ensure_dropped(wire)?;
    }
    Ok(())
}

/// Sessions that announce as many and as large writes as their windows allow, and never send the data that they are asked for:
/// the target bounds what it keeps for them, others get on, and it is all free when they are gone.
fn announced_writes(scene: &mut Scene) -> Outcome {
    let lun = scene.server.lun(0);
    let mut sessions = Vec::new();
    for qualifier in 1..=32 {
        let mut session = scene.server.session(qualifier)?;
        session.settle(lun)?;
        let mut bytes = Vec::new();
        for _ in 0..128 {
            if !session.window_open() {
                break;
            }
            let write = Command::write(lun, scsi::write_16(8192, 2048), vec![0x77; 1 << 20]);
            let mut pdu = session.command_pdu(&write);
            pdu.data.clear();
            bytes.extend_from_slice(&pdu.encode(session.wire.digests));
        }
        session.wire.send_bytes(&bytes)?;
        sessions.push(session);
    }
    scene.witness.ensure_progress(PROGRESS).context("beside writers that only announce")?;
    let mut neighbour = scene.server.session(100).context("a new session")?;
    neighbour.settle(lun)?;
    let block = vec![0x5a; 512];
    good(&mut neighbour, Command::write(lun, scsi::write_16(0, 1), block.clone()))?;
    let data = good(&mut neighbour, Command::read(lun, scsi::read_16(0, 1), 512))?;
    ensure(data == block, || "a new session reads wrong".to_owned())?;
    neighbour.logout()?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("announced writes made the target keep {grown} KiB more"))
}

/// The target closes this connection by itself, in bounded time.
pub fn ensure_dropped(mut wire: Wire) -> Outcome {
    wire.set_patience(limits::LOGIN_DROP_PATIENCE)?;
    wire.drain_until_closed().context("the target keeps a connection that it should drop")?;
    Ok(())
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

//! Malformed and hostile PDUs over NVMe/TCP, sent to the real process: only the connection that sent them may suffer.
//!
//! Every check runs beside a witness on another namespace that must make progress, and at the end descriptors and
//! memory must be what they were. What a check demands of the answer is what the standard demands: a status, or
//! C2HTermReq and the end of the connection, in bounded time.

use nvme_host::sqe::{opcode, status};
use nvme_host::{Association, Command, Pdu, Queue, Sqe, Wire, WireError, kind};

use crate::failure::{Context, Outcome, ensure};
use crate::limits;
use crate::options::Options;
use crate::report::Report;
use crate::scene::{self, Attack, Scene};
use crate::server::{Offer, Server, Unit};
use crate::{nvmf_hostile_command, nvmf_hostile_pdu, nvmf_witness};

/// The host that attacks.
pub const HOST: u16 = 1;
/// The namespace that is attacked; the witness has the other one.
pub const NSID: u32 = 1;
const WITNESS_NSID: u32 = 2;

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let attacks: Vec<Attack> = [nvmf_hostile_pdu::ATTACKS, nvmf_hostile_command::ATTACKS].concat();
    scene::attack(report, options, set, &attacks);
}

fn set(options: &Options) -> Outcome<Scene> {
    let units = [Unit::file(64), Unit::memory(64)];
    let server = Server::start(options, Offer::of(&units).with_listeners(2))?;
    let witness = nvmf_witness::start(&server, WITNESS_NSID)?;
    Scene::of(server, witness)
}

/// How a connection took what it was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The target closed it; the PDUs that came before.
    Closed(Vec<Pdu>),
    /// It still answers; the PDUs that came before the answer.
    Alive(Vec<Pdu>),
}

impl Reaction {
    /// The PDUs that the target sent.
    pub fn pdus(&self) -> &[Pdu] {
        match self {
            Self::Closed(pdus) | Self::Alive(pdus) => pdus,
        }
    }

    /// Closed, with the reason said before.
    pub fn ensure_terminated(&self) -> Outcome {
        let Self::Closed(pdus) = self else { return crate::failure::fail("it was accepted") };
        let told = pdus.last().is_some_and(|pdu| {
            pdu.pdu_type() == kind::C2H_TERM_REQ && (1..=6).contains(&pdu.u16(8)) && pdu.data.len() <= 128
        });
        ensure(told, || format!("closed without C2HTermReq: {pdus:02x?}"))
    }

    /// The status of the response to `cid`, if there was one.
    pub fn status_of(&self, cid: u16) -> Option<u16> {
        let response = |pdu: &&Pdu| pdu.pdu_type() == kind::CAPSULE_RESP && pdu.u16(20) == cid;
        self.pdus().iter().find(response).map(|pdu| pdu.u16(22) >> 1 & 0x7ff)
    }
}

/// The CID of pings, which `Queue` never gives.
const PING: u16 = 0xfffe;

/// Sends a command that every queue answers, and waits for its answer or for the end of the connection. Silence is a
/// failure.
pub fn reaction(wire: &mut Wire, is_admin: bool) -> Outcome<Reaction> {
    let ping = Sqe::new(if is_admin { opcode::KEEP_ALIVE } else { opcode::FLUSH }, NSID);
    let ping = Pdu::capsule(&ping.with_cid(PING).with_sgl(0, false).0, Vec::new());
    match wire.send(&ping) {
        Ok(()) | Err(WireError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    let mut pdus = Vec::new();
    loop {
        match wire.recv() {
            Ok(pdu) if pdu.pdu_type() == kind::CAPSULE_RESP && pdu.u16(20) == PING => {
                return Ok(Reaction::Alive(pdus));
            }
            Ok(pdu) => pdus.push(pdu),
            Err(WireError::Closed) => return Ok(Reaction::Closed(pdus)),
            Err(error) => return Err(error).context("neither an answer nor the end of the connection"),
        }
    }
}

/// Sends bytes; that the peer has closed already is no failure.
pub fn shoot(wire: &mut Wire, bytes: &[u8]) -> Outcome {
    match wire.send_bytes(bytes) {
        Ok(()) | Err(WireError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends `bytes` on a connection of their own; the target must close it, at the latest when Connect is overdue.
pub fn volley(server: &Server, shots: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
    let mut wires = Vec::new();
    for bytes in shots {
        let mut wire = Wire::connect(server.listeners[0])?;
        shoot(&mut wire, &bytes)?;
        wires.push((wire, bytes));
    }
    // All of them wait at the same time, so that a timeout is waited for once.
    for (mut wire, bytes) in wires {
        wire.set_patience(limits::LOGIN_DROP_PATIENCE)?;
        wire.drain_until_closed().map_err(|error| {
            let head = &bytes[..bytes.len().min(48)];
            crate::failure::Failure::from(error).within(&format!("{} bytes sent, {head:02x?}", bytes.len()))
        })?;
    }
    Ok(())
}

/// An association of the attacker with one I/O queue.
pub fn queues(server: &Server) -> Outcome<(Association, Queue)> {
    let association = server.association(HOST)?;
    let queue = association.io(1)?;
    Ok((association, queue))
}

/// Fails unless the command succeeds.
pub fn good(queue: &mut Queue, command: Command) -> Outcome<Vec<u8>> {
    let completion = queue.execute(command)?;
    ensure(completion.status == status::SUCCESS, || format!("not successful: {completion:x?}"))?;
    Ok(completion.data)
}

/// Fails unless `blocks` blocks from `lba` on hold nothing but `byte`.
pub fn ensure_content(server: &Server, lba: u64, blocks: u32, byte: u8) -> Outcome {
    let (association, mut queue) = queues(server)?;
    let read = Command::read(Sqe::blocks(opcode::READ, NSID, lba, blocks), blocks as usize * 512);
    let data = good(&mut queue, read)?;
    ensure(data.iter().all(|found| *found == byte), || {
        format!("blocks from {lba} on were written: {:02x?}", &data[..16])
    })?;
    Ok(association.end()?)
}

/// Fills `blocks` blocks from `lba` on.
pub fn fill(server: &Server, lba: u64, blocks: u32, byte: u8) -> Outcome {
    let (association, mut queue) = queues(server)?;
    let sqe = Sqe::blocks(opcode::WRITE, NSID, lba, blocks);
    good(&mut queue, Command::write(sqe, vec![byte; blocks as usize * 512]))?;
    Ok(association.end()?)
}

/// Sends a write that is too long for its capsule, and returns its CID and the R2T that comes back.
pub fn await_r2t(queue: &mut Queue, lba: u64, blocks: u32, byte: u8) -> Outcome<(u16, Pdu)> {
    let sqe = Sqe::blocks(opcode::WRITE, NSID, lba, blocks);
    let (cid, pdu) = queue.prepare(Command::write(sqe, vec![byte; blocks as usize * 512]));
    queue.wire.send(&pdu)?;
    let answer = queue.wire.recv()?;
    ensure(answer.pdu_type() == kind::R2T && answer.u16(8) == cid, || format!("no R2T: {answer:02x?}"))?;
    Ok((cid, answer))
}

//! Malformed and hostile PDUs, sent to the real process: only the connection that sent them may suffer.
//!
//! Every check runs beside a witness session that must make progress, and at the end descriptors and memory
//! must be what they were. What a check demands of the answer is what RFC 7143 demands: a rejection, a status,
//! or the end of the connection, in bounded time; silence only where the standard says "ignore".

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};
use initiator::{Session, Wire, WireError};

use crate::failure::{Context, Outcome};
use crate::limits;
use crate::options::Options;
use crate::report::Report;
use crate::scene::{self, Attack, Scene};
use crate::server::{Offer, Server, Unit};
use crate::{hostile_login, hostile_scsi, hostile_session, iscsi_witness};

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let attacks: Vec<Attack> =
        [hostile_login::ATTACKS, hostile_session::ATTACKS, hostile_scsi::ATTACKS].concat();
    scene::attack(report, options, set, &attacks);
    for (name, attack) in hostile_login::CHAP_ATTACKS {
        report.check(name, || hostile_login::with_chap(options, *attack));
    }
    report.check("chap_challenges_differ_over_a_restart", || hostile_login::challenges_of_two_lives(options));
}

fn set(options: &Options) -> Outcome<Scene> {
    let server = Server::start(options, Offer::of(&[Unit::file(64), Unit::memory(64)]))?;
    let witness = iscsi_witness::start(&server, 1)?;
    Scene::of(server, witness)
}

/// How a connection took what it was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The target closed it; the PDUs that came before.
    Closed(Vec<Pdu>),
    /// It still answers a ping; the PDUs that came before the answer.
    Alive(Vec<Pdu>),
}

impl Reaction {
    /// The PDUs that the target sent.
    pub fn pdus(&self) -> &[Pdu] {
        match self {
            Self::Closed(pdus) | Self::Alive(pdus) => pdus,
        }
    }

    /// The reason of the first Reject.
    pub fn reject_reason(&self) -> Option<u8> {
        self.pdus().iter().find(|pdu| pdu.opcode() == opcode::REJECT).map(|pdu| pdu.bhs[2])
    }
}

/// Sends a ping and waits for its answer or for the end of the connection. Silence is a failure.
pub fn reaction(session: &mut Session) -> Outcome<Reaction> {
    let mut ping = session.request_pdu(opcode::NOP_OUT | IMMEDIATE, FINAL);
    ping.set_itt(0x7fff_0001).set_word(20, NO_TAG);
    let mut pdus = Vec::new();
    let sent = session.wire.send(&ping);
    if !matches!(sent, Ok(()) | Err(WireError::Closed)) {
        sent?;
    }
    loop {
        match session.wire.recv() {
            Ok(pdu) if pdu.opcode() == opcode::NOP_IN && pdu.itt() == ping.itt() => {
                return Ok(Reaction::Alive(pdus));
            }
            Ok(pdu) => {
                // Keeps ExpStatSN and the window right, whatever the PDU answers.
                let _ = session.handle(&pdu);
                pdus.push(pdu);
            }
            Err(WireError::Closed) => return Ok(Reaction::Closed(pdus)),
            Err(error) => return Err(error).context("neither an answer nor the end of the connection"),
        }
    }
}

/// Sends `bytes` on a connection of their own; the target must close it, at the latest when a login times out.
pub fn volley(server: &Server, shots: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
    let mut wires = Vec::new();
    for bytes in shots {
        let mut wire = Wire::connect(server.portal)?;
        match wire.send_bytes(&bytes) {
            Ok(()) | Err(WireError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        wires.push((wire, bytes));
    }
    // All of them wait at the same time, so that a login timeout is waited for once.
    for (mut wire, bytes) in wires {
        wire.set_patience(limits::LOGIN_DROP_PATIENCE)?;
        await_end(&mut wire).map_err(|failure| {
            let head = &bytes[..bytes.len().min(48)];
            failure.within(&format!("{} bytes sent, {head:02x?}", bytes.len()))
        })?;
    }
    Ok(())
}

/// Waits until the target closes the connection, or has let it into full feature phase after all: some of what
/// is shot at it is a correct login.
fn await_end(wire: &mut Wire) -> Outcome {
    loop {
        match wire.recv() {
            Ok(pdu)
                if pdu.opcode() == opcode::LOGIN_RESPONSE
                    && pdu.bhs[36] == 0
                    && pdu.bhs[1] & 0x83 == 0x83 =>
            {
                return Ok(());
            }
            Ok(_) => {}
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

//! Command capsules: what comes with them, and where their data comes from (TCP 3.3.1.2, 3.3.2.1).

use nvme_spec::opcode::FABRICS;
use nvme_spec::sgl::SglIdentifier;
use nvme_spec::sqe::Psdt;
use nvme_spec::tcp::{CapsuleCmd, FatalErrorStatus, IcReq, PduType, TermReq};
use nvme_spec::{Sqe, Status};
use zerocopy::IntoBytes;

use super::command::State;
use super::event::{Admission, Purpose};
use super::{Action, Standing, TargetQueue};
use crate::connection;
use crate::error::{CloseCause, TermReqCause, Violation};
use crate::limits::TRANSFER_BYTES_MAX;
use crate::payload::Payload;
use crate::receive::Phase;

/// Where the data that a command's SGL describes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    InCapsule,
    /// Moved by R2T and H2CData, or by C2HData.
    Transport,
}

/// Place and length of a command's data. The capsule has `capsule_bytes` of data.
fn locate(sqe: &Sqe, capsule_bytes: u32) -> Result<(Place, u32), Status> {
    let sgl = &sqe.dptr;
    let sgl_bytes = sgl.length_bytes.get();
    let nothing = capsule_bytes == 0 && sgl.as_bytes().iter().all(|byte| *byte == 0);
    match sqe.psdt() {
        Psdt::SGL | Psdt::SGL_WITH_METADATA_SGL => {}
        // Fabrics commands had these bits reserved once.
        _ if sqe.opcode == FABRICS => {}
        Psdt::PRP if nothing => return Ok((Place::Nowhere, 0)),
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    }
    match sgl.identifier {
        SglIdentifier::DATA_BLOCK_OFFSET if sgl.address.get() != 0 => {
            // ICDOFF is 0, and there is one descriptor: its data begins where the capsule's data begins.
            Err(Status::SGL_OFFSET_INVALID.with_dnr())
        }
        SglIdentifier::DATA_BLOCK_OFFSET if sgl_bytes == capsule_bytes => Ok((Place::InCapsule, sgl_bytes)),
        SglIdentifier::TRANSPORT_DATA_BLOCK if capsule_bytes == 0 => Ok((Place::Transport, sgl_bytes)),
        SglIdentifier::DATA_BLOCK_OFFSET | SglIdentifier::TRANSPORT_DATA_BLOCK => {
            Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr())
        }
        _ if nothing => Ok((Place::Nowhere, 0)),
        _ => Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr()),
    }
}

/// How many bytes the command takes from the host.
fn ask<A: Admission>(admission: &mut A, sqe: &Sqe, sgl_bytes: u32) -> Result<u32, Status> {
    match admission.host_data_bytes(sqe, sgl_bytes)? {
        wanted if wanted > sgl_bytes => Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr()),
        wanted if wanted > TRANSFER_BYTES_MAX => Err(Status::INVALID_FIELD.with_dnr()),
        wanted => Ok(wanted),
    }
}

impl<P: Payload> TargetQueue<P> {
    /// A header is there and sound: decides what becomes of the PDU.
    #[inline]
    pub(super) fn begin_pdu<A: Admission<Payload = P>>(
        &mut self,
        admission: &mut A,
    ) -> Result<(), Violation> {
        match self.rx.frame.pdu_type {
            PduType::CAPSULE_CMD => self.begin_capsule(admission),
            PduType::H2C_DATA => self.begin_h2c_data(),
            PduType::IC_REQ => self.initialize(),
            _ => {
                let term_req: &TermReq = self.rx.view();
                let cause =
                    TermReqCause { fes: FatalErrorStatus(term_req.fes.get()), fei: term_req.fei.get() };
                self.tx.clear();
                self.begin_close(CloseCause::PeerTerminated(cause));
                Ok(())
            }
        }
    }

    fn initialize(&mut self) -> Result<(), Violation> {
        let (negotiated, response) = connection::answer(self.rx.view::<IcReq>(), &self.config)?;
        self.tx.push_bytes(response.as_bytes());
        self.open(negotiated);
        self.announce_initialized = true;
        self.rx.skip_to_next();
        Ok(())
    }

    #[inline]
    fn begin_capsule<A: Admission<Payload = P>>(&mut self, admission: &mut A) -> Result<(), Violation> {
        let capsule_bytes = self.rx.frame.data_bytes as u32;
        if capsule_bytes > self.in_capsule_bytes_max {
            return Err(Violation::DataLimit);
        }
        let sqe = self.rx.view::<CapsuleCmd>().sqe;
        let is_twice = self.commands.find(sqe.cid.get()).is_some();
        let slot = self.commands.take(&sqe, self.sequence).ok_or(Violation::QueueOverflow)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.action = Action::Capsule(slot);
        let command = self.commands.get_mut(slot);
        let found = if is_twice {
            Err(Status::COMMAND_ID_CONFLICT.with_dnr())
        } else {
            locate(&sqe, capsule_bytes).and_then(|(place, sgl_bytes)| {
                command.sgl_bytes = sgl_bytes;
                Ok((place, ask(admission, &sqe, sgl_bytes)?))
            })
        };
        match found {
            Ok((Place::InCapsule, wanted_bytes @ 1..)) => {
                command.wanted_bytes = wanted_bytes;
                self.serve_capsule(slot, admission);
            }
            Ok((Place::Transport, wanted_bytes @ 1..)) => {
                command.wanted_bytes = wanted_bytes;
                command.state = State::Waiting;
                self.waiters.push_back(slot);
                if self.waiters.len() == 1 {
                    self.serve_waiters(admission);
                }
                self.rx.skip_to_next();
            }
            found => {
                command.fault = found.err();
                self.rx.begin_data(0, 0);
            }
        }
        Ok(())
    }

    /// Takes memory for data that comes with its capsule, or stops the stream in front of it.
    fn serve_capsule<A: Admission<Payload = P>>(&mut self, slot: u16, admission: &mut A) {
        let command = self.commands.get_mut(slot);
        let wanted_bytes = command.wanted_bytes as usize;
        if let Some(payload) = admission.alloc(wanted_bytes, Purpose::InCapsule) {
            assert_eq!(payload.len(), wanted_bytes, "a buffer has the length that was asked for");
            command.payload = Some(payload);
            self.rx.begin_data(0, wanted_bytes);
        } else {
            self.rx.phase = Phase::Parked;
        }
    }

    /// Takes memory for commands whose data is still at the host, in order, and asks for the data.
    fn serve_waiters<A: Admission<Payload = P>>(&mut self, admission: &mut A) {
        while let Some(slot) = self.waiters.front().copied() {
            let command = self.commands.get_mut(slot);
            let wanted_bytes = command.wanted_bytes as usize;
            let Some(payload) = admission.alloc(wanted_bytes, Purpose::Solicited) else { return };
            assert_eq!(payload.len(), wanted_bytes, "a buffer has the length that was asked for");
            command.payload = Some(payload);
            command.state = State::Soliciting;
            self.waiters.pop_front();
            self.solicit(slot);
        }
    }

    /// Memory may have come back: serves the commands that wait for it. Then give the rest of its bytes to a queue that is not
    /// [`TargetQueue::blocked`] any more. Does nothing when nobody waits, so it may be called at every turn.
    pub fn retry<A: Admission<Payload = P>>(&mut self, admission: &mut A) {
        if self.standing != Standing::Open {
            return;
        }
        if self.rx.phase == Phase::Parked {
            let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
            self.serve_capsule(slot, admission);
        }
        // R2Ts while the stream is stopped would ask for data that cannot get past it.
        if self.rx.phase != Phase::Parked {
            self.serve_waiters(admission);
        }
    }

    /// Ends a wait for memory that takes too long: the command that stops the stream ([`Blocked::Memory`]) is given out with this
    /// status as its fault, and its data is dropped. False when nothing stops the stream.
    ///
    /// [`Blocked::Memory`]: super::Blocked::Memory
    pub fn interrupt(&mut self, status: Status) -> bool {
        let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
        let is_parked = self.rx.phase == Phase::Parked;
        if is_parked {
            self.commands.get_mut(slot).set_fault(status);
            self.counters.interrupted += 1;
            self.rx.begin_data(0, 0);
        }
        is_parked
    }

    /// True when [`TargetQueue::retry`] has something to try.
    pub fn wants_memory(&self) -> bool {
        self.rx.phase == Phase::Parked || !self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::SglDescriptor;
    use zerocopy::little_endian::U64;

    use super::*;

    #[test]
    fn every_descriptor_and_psdt_is_placed_or_refused() {
        for identifier in 0..=255u8 {
            for (length_bytes, capsule_bytes) in [(0, 0), (512, 512), (512, 0), (0, 512), (512, 1024)] {
                let mut sqe = Sqe::default();
                let identifier = SglIdentifier(identifier);
                sqe.set_sgl(SglDescriptor { identifier, ..SglDescriptor::transport(length_bytes) });
                let placed = locate(&sqe, capsule_bytes);
                let expected = match identifier {
                    SglIdentifier::DATA_BLOCK_OFFSET if length_bytes == capsule_bytes => {
                        Ok((Place::InCapsule, length_bytes))
                    }
                    SglIdentifier::TRANSPORT_DATA_BLOCK if capsule_bytes == 0 => {
                        Ok((Place::Transport, length_bytes))
                    }
                    SglIdentifier::DATA_BLOCK_OFFSET | SglIdentifier::TRANSPORT_DATA_BLOCK => {
                        Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr())
                    }
                    SglIdentifier(0) if length_bytes == 0 && capsule_bytes == 0 => Ok((Place::Nowhere, 0)),
                    _ => Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr()),
                };
                assert_eq!(placed, expected, "{identifier:?} {length_bytes} {capsule_bytes}");
            }
        }
        let mut sqe = Sqe::default();
        assert_eq!(locate(&sqe, 0), Ok((Place::Nowhere, 0)), "PRP without data");
        assert_eq!(locate(&sqe, 512), Err(Status::INVALID_FIELD.with_dnr()));
        sqe.set_prp(4096, 0);
        assert_eq!(locate(&sqe, 0), Err(Status::INVALID_FIELD.with_dnr()));
        sqe.set_sgl(SglDescriptor { address: U64::new(4), ..SglDescriptor::in_capsule(0, 512) });
        assert_eq!(locate(&sqe, 512), Err(Status::SGL_OFFSET_INVALID.with_dnr()));
        sqe.set_sgl(SglDescriptor::in_capsule(0, 512));
        sqe.flags |= 0xc0;
        assert_eq!(locate(&sqe, 512), Err(Status::INVALID_FIELD.with_dnr()), "PSDT 11b");
        sqe.opcode = FABRICS;
        sqe.flags = 0;
        assert_eq!(locate(&sqe, 512), Ok((Place::InCapsule, 512)));
    }
}

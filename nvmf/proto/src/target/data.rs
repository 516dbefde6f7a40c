//! R2T and H2CData (TCP 3.6.2.8, 3.6.2.10), the end of every PDU, and aborts.

use nvme_spec::Status;
use nvme_spec::tcp::{H2cData, PduType, R2t};
use zerocopy::little_endian::{U16, U32};

use super::command::{Solicited, State};
use super::event::Aborted;
use super::{Action, TargetQueue};
use crate::error::Violation;
use crate::payload::Payload;
use crate::receive::Phase;

/// Byte offsets of the fields of H2CData, for reports.
const CCCID: u32 = 8;
const TTAG: u32 = 10;
const DATAL: u32 = 16;

impl<P: Payload> TargetQueue<P> {
    /// Asks for the next data of a command, as far as the host takes R2Ts.
    pub(super) fn solicit(&mut self, slot: u16) {
        let negotiated = self.negotiated.as_ref().expect("commands come after ICReq");
        let r2ts_max = negotiated.r2ts_max.min(u32::from(self.config.r2ts_max));
        let command = self.commands.get_mut(slot);
        while u32::from(command.r2ts_live) < r2ts_max && command.solicited_bytes < command.wanted_bytes {
            let next_bytes = command.solicited_bytes;
            let length_bytes = (command.wanted_bytes - next_bytes).min(self.config.r2t_bytes_max);
            let end_bytes = next_bytes + length_bytes;
            let index = command.r2ts.iter().position(|r2t| !r2t.live).expect("r2ts_max is at most as many");
            command.r2ts[index] = Solicited { live: true, next_bytes, end_bytes };
            command.r2ts_live += 1;
            command.solicited_bytes = end_bytes;
            let header = R2t {
                ch: self.tx.common_header::<R2t>(PduType::R2T, 0, 0),
                cccid: command.sqe.cid,
                ttag: U16::new(command.ttag(slot, index)),
                r2to: U32::new(next_bytes),
                r2tl: U32::new(length_bytes),
                reserved20: [0; 4],
            };
            self.tx.push_header(&header);
            self.counters.r2ts += 1;
        }
    }

    /// Checks an H2CData header against the R2T that it answers.
    #[inline]
    pub(super) fn begin_h2c_data(&mut self) -> Result<(), Violation> {
        let header: H2cData = *self.rx.view();
        let negotiated = self.negotiated.as_ref().expect("a PDU before ICReq was refused");
        let Some((slot, index, command)) = self.commands.find_r2t(header.ttag.get()) else {
            return Err(Violation::Field(TTAG));
        };
        if header.cccid != command.sqe.cid {
            return Err(Violation::Field(CCCID));
        }
        let (offset_bytes, length_bytes) = (header.datao.get(), header.datal.get());
        if length_bytes == 0 || length_bytes as usize != self.rx.frame.data_bytes {
            return Err(Violation::Field(DATAL));
        }
        if length_bytes > negotiated.h2c_data_bytes_max {
            return Err(Violation::DataLimit);
        }
        let r2t = &mut command.r2ts[usize::from(index)];
        let end_bytes = offset_bytes.checked_add(length_bytes).filter(|end| *end <= r2t.end_bytes);
        let Some(end_bytes) = end_bytes else { return Err(Violation::OutOfRange) };
        if offset_bytes != r2t.next_bytes {
            return Err(Violation::DataOrder);
        }
        if self.rx.frame.is_last() != (end_bytes == r2t.end_bytes) {
            return Err(Violation::LastPdu);
        }
        r2t.next_bytes = end_bytes;
        self.action = Action::H2cData { slot, r2t: index };
        self.rx.begin_data(offset_bytes as usize, end_bytes as usize);
        Ok(())
    }

    /// A whole PDU is there.
    #[inline]
    pub(super) fn finish_pdu(&mut self) {
        let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
        let command = self.commands.get_mut(slot);
        if !self.rx.data_is_sound() {
            self.counters.data_digest_errors += 1;
            command.set_fault(Status::TRANSIENT_TRANSPORT_ERROR);
        }
        match self.action {
            Action::Capsule(_) => {
                command.state = State::Ready;
                self.ready.push_back(slot);
            }
            Action::H2cData { r2t, .. } => {
                let r2t = &mut command.r2ts[usize::from(r2t)];
                if r2t.next_bytes < r2t.end_bytes {
                    return;
                }
                r2t.live = false;
                command.r2ts_live -= 1;
                if command.fault.is_none() {
                    self.solicit(slot);
                }
                self.finish_collecting(slot);
            }
        }
    }

    /// Gives a command out when nothing more comes for it.
    fn finish_collecting(&mut self, slot: u16) {
        let command = self.commands.get_mut(slot);
        if command.is_collected() {
            command.state = State::Ready;
            self.ready.push_back(slot);
        }
    }

    /// Aborts the command with this CID as far as the queue itself has it; it is still given out, with a fault, and must
    /// be completed.
    pub fn abort(&mut self, cid: u16) -> Aborted {
        let Some(slot) = self.commands.find(cid) else { return Aborted::NotFound };
        let command = self.commands.get_mut(slot);
        match command.state {
            State::Executing => return Aborted::Executing(self.commands.id(slot)),
            State::Sending => return Aborted::Completed,
            State::Free | State::Ready | State::Collecting | State::Waiting | State::Soliciting => {}
        }
        command.set_fault(Status::ABORT_REQUESTED);
        match command.state {
            State::Waiting => {
                self.waiters.retain(|waiter| *waiter != slot);
                self.finish_collecting(slot);
            }
            State::Collecting if self.rx.phase == Phase::Parked => self.rx.begin_data(0, 0),
            _ => {}
        }
        Aborted::Marked
    }
}

//! From a completion to C2HData and CapsuleResp (TCP 3.3.2.2), and the end of a queue.

use nvme_spec::Cqe;
use nvme_spec::tcp::{C2hData, CapsuleResp, FLAG_LAST_PDU, FLAG_SUCCESS, PduType};
use zerocopy::little_endian::{U16, U32};

use super::command::State;
use super::event::{Command, CommandId};
use super::{Standing, TargetQueue};
use crate::error::{CloseCause, Violation};
use crate::limits::TX_COPY_BYTES_MAX;
use crate::payload::Payload;
use crate::receive::Phase;
use crate::transmit::Stretch;

impl<P: Payload> TargetQueue<P> {
    #[inline]
    pub(super) fn give_out(&mut self, slot: u16) -> Command<P> {
        let id = self.commands.id(slot);
        let command = self.commands.get_mut(slot);
        command.state = State::Executing;
        Command {
            id,
            sqe: command.sqe,
            sequence: command.sequence,
            sgl_bytes: command.sgl_bytes,
            data: command.payload.take(),
            fault: command.fault,
        }
    }

    /// Answers a command without data for the host. CID and SQHD are filled in here (SQHD only with flow control). False when the id
    /// is stale or the queue has ended: then nobody waits for the answer.
    pub fn complete(&mut self, id: CommandId, cqe: Cqe) -> bool {
        let Some(slot) = self.to_answer(id) else { return false };
        self.push_response(slot, cqe);
        self.commands.release(slot);
        true
    }

    /// Answers a command with data for the host, from offset 0 of its buffer, as long as `data`. Without flow control of the
    /// submission queue a plain success (status and result zero) rides on the last data. As [`TargetQueue::complete`] otherwise.
    ///
    /// # Panics
    /// When the data is longer than [`Command::sgl_bytes`].
    pub fn complete_read(&mut self, id: CommandId, cqe: Cqe, data: P) -> bool {
        if data.is_empty() {
            return self.complete(id, cqe);
        }
        let Some(slot) = self.to_answer(id) else { return false };
        let rides = self.entries > 0 && !self.sq_flow_control && is_plain_success(&cqe);
        let is_copied = data.len() <= TX_COPY_BYTES_MAX;
        self.push_data(slot, &data, rides, is_copied);
        self.counters.success_flags += u64::from(rides);
        if !rides {
            self.push_response(slot, cqe);
        }
        if is_copied {
            self.commands.release(slot);
        } else {
            let command = self.commands.get_mut(slot);
            command.payload = Some(data);
            command.state = State::Sending;
        }
        true
    }

    fn to_answer(&self, id: CommandId) -> Option<u16> {
        if self.standing == Standing::Open { self.commands.executing_slot(id) } else { None }
    }

    #[inline]
    fn push_data(&mut self, slot: u16, data: &P, rides: bool, is_copied: bool) {
        let command = self.commands.get_mut(slot);
        let total_bytes = u32::try_from(data.len()).expect("no command has so much data");
        assert!(total_bytes <= command.sgl_bytes, "no more data than the host has room for");
        let cccid = command.sqe.cid;
        let mut offset_bytes = 0;
        while offset_bytes < total_bytes {
            let length_bytes = (total_bytes - offset_bytes).min(self.config.c2h_data_bytes_max);
            let last = offset_bytes + length_bytes == total_bytes;
            let flags = match (last, rides) {
                (false, _) => 0,
                (true, false) => FLAG_LAST_PDU,
                (true, true) => FLAG_LAST_PDU | FLAG_SUCCESS,
            };
            let header = C2hData {
                ch: self.tx.common_header::<C2hData>(PduType::C2H_DATA, flags, length_bytes as usize),
                cccid,
                reserved10: [0; 2],
                datao: U32::new(offset_bytes),
                datal: U32::new(length_bytes),
                reserved20: [0; 4],
            };
            self.tx.push_header(&header);
            if is_copied {
                self.tx.push_copy(data);
            } else {
                self.tx.push_payload(Stretch { slot, offset_bytes, length_bytes, last }, data);
            }
            offset_bytes += length_bytes;
        }
    }

    #[inline]
    fn push_response(&mut self, slot: u16, mut cqe: Cqe) {
        cqe.cid = self.commands.get_mut(slot).sqe.cid;
        if self.sq_flow_control {
            cqe.sqhd = U16::new((self.sequence % self.entries) as u16);
        }
        let ch = self.tx.common_header::<CapsuleResp>(PduType::CAPSULE_RESP, 0, 0);
        self.tx.push_header(&CapsuleResp { ch, cqe });
    }

    /// Tells the host what it did wrong, and ends.
    pub(super) fn fail(&mut self, violation: Violation) {
        if let Some(cause) = violation.report() {
            self.tx.push_term_req(PduType::C2H_TERM_REQ, cause, self.rx.header_so_far());
        }
        self.begin_close(CloseCause::Violation(violation));
    }

    pub(super) fn begin_close(&mut self, cause: CloseCause) {
        if matches!(self.standing, Standing::Closing(_) | Standing::Closed) {
            return;
        }
        self.standing = Standing::Closing(cause);
        self.rx.phase = Phase::Header;
        self.ready.clear();
        self.waiters.clear();
        self.commands.drop_unborn();
    }
}

/// What the SUCCESS flag can say: it carries neither status nor result.
fn is_plain_success(cqe: &Cqe) -> bool {
    cqe.dw0.get() == 0 && cqe.dw1.get() == 0 && cqe.status().bits() == 0
}

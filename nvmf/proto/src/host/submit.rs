//! Commands on their way to the controller (TCP 3.3.1.2, 3.3.2.1), and the end of a queue.

use nvme_spec::tcp::{CapsuleCmd, FLAG_LAST_PDU, H2cData, PduType};
use nvme_spec::{SglDescriptor, Sqe};
use zerocopy::little_endian::{U16, U32};

use super::command::Transfer;
use super::event::HostData;
use super::{HostQueue, Standing};
use crate::error::{CloseCause, Violation};
use crate::limits::{TRANSFER_BYTES_MAX, TX_COPY_BYTES_MAX};
use crate::payload::Payload;
use crate::receive::Phase;
use crate::transmit::Stretch;

/// An R2T that was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) slot: u16,
    pub(super) cccid: U16,
    pub(super) ttag: U16,
    pub(super) offset_bytes: u32,
    pub(super) end_bytes: u32,
}

impl<P: Payload> HostQueue<P> {
    /// Sends a command. CID, PSDT and the SGL are filled in here; the CID that it got is returned. The data comes back when
    /// no command is taken now ([`HostQueue::can_submit`]).
    ///
    /// # Panics
    /// When the data is longer than 32 MiB.
    #[inline]
    pub fn submit(&mut self, mut sqe: Sqe, data: HostData<P>) -> Result<u16, HostData<P>> {
        if self.standing != Standing::Open {
            return Err(data);
        }
        let Some(slot) = self.commands.take() else { return Err(data) };
        let cid = self.commands.cid(slot);
        sqe.cid = U16::new(cid);
        let command = self.commands.get_mut(slot);
        command.begins_at = self.tx.position();
        let (payload, read) = match data {
            HostData::None => (None, None),
            HostData::Write(payload) => (Some(payload), None),
            HostData::Read(payload) => (Some(payload), Some(Transfer::Read { exact: true })),
            HostData::ReadAtMost(payload) => (Some(payload), Some(Transfer::Read { exact: false })),
        };
        let data_bytes = payload.as_ref().map_or(0, Payload::len);
        assert!(data_bytes <= TRANSFER_BYTES_MAX as usize, "no command has so much data");
        command.length_bytes = data_bytes as u32;
        let is_in_capsule =
            read.is_none() && data_bytes > 0 && data_bytes <= self.config.in_capsule_bytes as usize;
        if is_in_capsule {
            sqe.set_sgl(SglDescriptor::in_capsule(0, data_bytes as u32));
        } else {
            sqe.set_sgl(SglDescriptor::transport(data_bytes as u32));
            command.transfer = match read {
                _ if data_bytes == 0 => Transfer::None,
                Some(read) => read,
                None => Transfer::Solicited,
            };
        }
        let capsule_bytes = if is_in_capsule { data_bytes } else { 0 };
        let ch = self.tx.common_header::<CapsuleCmd>(PduType::CAPSULE_CMD, 0, capsule_bytes);
        self.tx.push_header(&CapsuleCmd { ch, sqe });
        if let (true, Some(payload)) = (is_in_capsule, &payload) {
            if data_bytes <= TX_COPY_BYTES_MAX {
                self.tx.push_copy(payload);
            } else {
                command.segments_left = 1;
                let length_bytes = data_bytes as u32;
                self.tx.push_payload(Stretch { slot, offset_bytes: 0, length_bytes, last: false }, payload);
            }
        }
        command.payload = payload;
        Ok(cid)
    }

    /// Sends the data that an R2T asks for.
    #[inline]
    pub(super) fn push_h2c_data(&mut self, demand: Demand) {
        let Demand { slot, cccid, ttag, mut offset_bytes, end_bytes } = demand;
        let negotiated = self.negotiated.as_ref().expect("commands are in flight");
        let command = self.commands.get_mut(slot);
        let payload = command.payload.as_ref().expect("a write keeps its data until it is done");
        while offset_bytes < end_bytes {
            let length_bytes = (end_bytes - offset_bytes).min(negotiated.h2c_data_bytes_max);
            let last = offset_bytes + length_bytes == end_bytes;
            let flags = if last { FLAG_LAST_PDU } else { 0 };
            let header = H2cData {
                ch: self.tx.common_header::<H2cData>(PduType::H2C_DATA, flags, length_bytes as usize),
                cccid,
                ttag,
                datao: U32::new(offset_bytes),
                datal: U32::new(length_bytes),
                reserved20: [0; 4],
            };
            self.tx.push_header(&header);
            command.segments_left += 1;
            self.tx.push_payload(Stretch { slot, offset_bytes, length_bytes, last }, payload);
            offset_bytes += length_bytes;
        }
    }

    /// Tells the controller what it did wrong, and ends.
    pub(super) fn fail(&mut self, violation: Violation) {
        if let Some(cause) = violation.report() {
            self.tx.push_term_req(PduType::H2C_TERM_REQ, cause, self.rx.header_so_far());
        }
        self.begin_close(CloseCause::Violation(violation));
    }

    pub(super) fn begin_close(&mut self, cause: CloseCause) {
        if matches!(self.standing, Standing::Initializing | Standing::Open) {
            self.standing = Standing::Closing(cause);
            self.rx.phase = Phase::Header;
        }
    }

    /// Nothing is sent any more: completed commands need not wait for their data to be taken.
    pub(super) fn clear_transmit(&mut self) {
        self.tx.clear();
        self.ready.extend(self.commands.lingering());
    }
}

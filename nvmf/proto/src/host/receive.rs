//! What the controller sends, and whether it may (TCP 3.6.2).

use nvme_spec::tcp::{C2hData, CapsuleResp, FatalErrorStatus, IcResp, PduType, R2t, TermReq};
use nvme_spec::{Cqe, Status};

use super::command::Transfer;
use super::submit::Demand;
use super::{HostQueue, Standing};
use crate::connection;
use crate::error::{CloseCause, TermReqCause, Violation};
use crate::payload::Payload;
use crate::receive::Rules;

/// Byte offsets of the fields of C2HData, R2T and CapsuleResp, for reports.
const CCCID: u32 = 8;
const LENGTH: u32 = 16;
const CQE_CID: u32 = 20;

impl<P: Payload> HostQueue<P> {
    /// A header is there and sound: decides what becomes of the PDU.
    #[inline]
    pub(super) fn begin_pdu(&mut self) -> Result<(), Violation> {
        match self.rx.frame.pdu_type {
            PduType::C2H_DATA => return self.begin_c2h_data(),
            PduType::CAPSULE_RESP => self.on_response()?,
            PduType::R2T => self.on_r2t()?,
            PduType::IC_RESP => self.on_ic_resp()?,
            _ => {
                let term_req: &TermReq = self.rx.view();
                let cause =
                    TermReqCause { fes: FatalErrorStatus(term_req.fes.get()), fei: term_req.fei.get() };
                self.clear_transmit();
                self.begin_close(CloseCause::PeerTerminated(cause));
            }
        }
        self.rx.skip_to_next();
        Ok(())
    }

    fn on_ic_resp(&mut self) -> Result<(), Violation> {
        let negotiated = connection::accept(self.rx.view::<IcResp>(), &self.config)?;
        self.negotiated = Some(negotiated);
        self.rx.set_rules(Rules::of(&negotiated, false));
        self.tx.set_rules(&negotiated);
        self.standing = Standing::Open;
        self.announce_initialized = true;
        Ok(())
    }

    #[inline]
    fn on_response(&mut self) -> Result<(), Violation> {
        let cqe = self.rx.view::<CapsuleResp>().cqe;
        let taken = self.tx.taken_position();
        let Some((slot, _)) = self.commands.find(cqe.cid.get(), taken) else {
            return Err(Violation::Field(CQE_CID));
        };
        self.complete(slot, cqe)
    }

    /// Ends a command, if that can be true.
    #[inline]
    fn complete(&mut self, slot: u16, mut cqe: Cqe) -> Result<(), Violation> {
        let command = self.commands.get_mut(slot);
        if cqe.status().is_success() {
            let is_short = command.moved_bytes < command.length_bytes;
            let missing = match command.transfer {
                Transfer::None | Transfer::Read { exact: false } => false,
                Transfer::Read { exact: true } => is_short,
                Transfer::Solicited => is_short || command.r2ts_live > 0,
            };
            if missing {
                return Err(Violation::DataMissing);
            }
            if command.digest_error {
                cqe.set_status(Status::TRANSIENT_TRANSPORT_ERROR);
            }
        }
        if command.set_completion(cqe) {
            self.ready.push_back(slot);
        }
        Ok(())
    }

    fn on_r2t(&mut self) -> Result<(), Violation> {
        let header: R2t = *self.rx.view();
        let r2ts_max = self.config.r2ts_max;
        let taken = self.tx.taken_position();
        let Some((slot, command)) = self.commands.find(header.cccid.get(), taken) else {
            return Err(Violation::Field(CCCID));
        };
        if command.transfer != Transfer::Solicited {
            return Err(Violation::UnexpectedTransfer);
        }
        let (offset_bytes, length_bytes) = (header.r2to.get(), header.r2tl.get());
        if length_bytes == 0 {
            return Err(Violation::Field(LENGTH));
        }
        let end_bytes = offset_bytes.checked_add(length_bytes).filter(|end| *end <= command.length_bytes);
        let Some(end_bytes) = end_bytes else { return Err(Violation::OutOfRange) };
        // Each byte is asked for once, and in order.
        if offset_bytes != command.moved_bytes {
            return Err(Violation::DataOrder);
        }
        if command.r2ts_live >= r2ts_max {
            return Err(Violation::R2tLimit);
        }
        command.moved_bytes = end_bytes;
        command.r2ts_live += 1;
        self.counters.r2ts += 1;
        self.push_h2c_data(Demand { slot, cccid: header.cccid, ttag: header.ttag, offset_bytes, end_bytes });
        Ok(())
    }

    #[inline]
    fn begin_c2h_data(&mut self) -> Result<(), Violation> {
        let header: C2hData = *self.rx.view();
        let frame = self.rx.frame;
        let taken = self.tx.taken_position();
        let Some((slot, command)) = self.commands.find(header.cccid.get(), taken) else {
            return Err(Violation::Field(CCCID));
        };
        if !matches!(command.transfer, Transfer::Read { .. }) || command.data_ended {
            return Err(Violation::UnexpectedTransfer);
        }
        let (offset_bytes, length_bytes) = (header.datao.get(), header.datal.get());
        if length_bytes == 0 || length_bytes as usize != frame.data_bytes {
            return Err(Violation::Field(LENGTH));
        }
        let end_bytes = offset_bytes.checked_add(length_bytes).filter(|end| *end <= command.length_bytes);
        let Some(end_bytes) = end_bytes else { return Err(Violation::OutOfRange) };
        if offset_bytes != command.moved_bytes {
            return Err(Violation::DataOrder);
        }
        if end_bytes == command.length_bytes && !frame.is_last() {
            return Err(Violation::LastPdu);
        }
        command.moved_bytes = end_bytes;
        command.data_ended = frame.is_last();
        self.data_slot = slot;
        self.rx.begin_data(offset_bytes as usize, end_bytes as usize);
        Ok(())
    }

    /// A whole C2HData is there.
    #[inline]
    pub(super) fn finish_pdu(&mut self) -> Result<(), Violation> {
        let slot = self.data_slot;
        let command = self.commands.get_mut(slot);
        if !self.rx.data_is_sound() {
            command.digest_error = true;
            self.counters.data_digest_errors += 1;
        }
        if !self.rx.frame.is_success() {
            return Ok(());
        }
        self.counters.success_flags += 1;
        let cqe = Cqe::new(self.commands.cid(slot), Status::SUCCESS);
        self.complete(slot, cqe)
    }
}

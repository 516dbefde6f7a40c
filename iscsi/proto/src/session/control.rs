//! NOP-Out and NOP-In, logout, SNACK, Reject and asynchronous messages (RFC 7143 sections 11.9, 11.14 to 11.19).

use super::connection::Standing;
use super::event::{CloseCause, ConnectionIndex, Event, Fatal, Logout, RequestId};
use super::host::{Host, Payload};
use super::limits::{CONNECTIONS_MAX, SENSE_BYTES_MAX};
use super::request::{Body, Request};
use super::transmit::{StatusPdu, Waiting};
use super::{AsyncNotice, Queued, Session};
use crate::pdu::{
    AsyncEvent, AsyncMessage, BHS_BYTES, Bhs, LogoutReason, LogoutRequest, LogoutResponse,
    LogoutResponseCode, NopIn, NopOut, Opcode, RESERVED_TAG, Reject, RejectReason, TextResponse, U24,
};
use zerocopy::{IntoBytes, transmute};

impl<P: Payload> Session<P> {
    /// A PDU that is neither command nor Data-Out is complete.
    pub(super) fn finish_control<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        host: &mut H,
    ) -> Result<(), Fatal> {
        match self.open(index).rx.bhs.opcode() {
            Opcode::NOP_OUT => self.on_nop_out(index, host),
            Opcode::TMF_REQUEST => self.on_task_management(index, host),
            Opcode::TEXT_REQUEST => self.on_text(index, host),
            Opcode::LOGOUT_REQUEST => self.on_logout(index, host),
            // Nothing is kept for a resend at error recovery level 0 (section 11.16).
            Opcode::SNACK_REQUEST => self.send_reject(index, RejectReason::SNACK_REJECT),
            _ => unreachable!("only these are collected as control PDUs"),
        }
        Ok(())
    }

    /// Common to all of these: reserved tags, discovery sessions, then the window.
    pub(super) fn accept_control<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        itt: u32,
        cmd_sn: u32,
        body: Body,
        host: &mut H,
    ) {
        let bhs = self.open(index).rx.bhs;
        let immediate = bhs.is_immediate();
        if itt == RESERVED_TAG {
            return self.send_reject(index, RejectReason::INVALID_PDU_FIELD);
        }
        if self.rules.discovery && matches!(body, Body::TaskManagement { .. }) {
            return self.send_reject(index, RejectReason::PROTOCOL_ERROR);
        }
        let request = Request { connection: index as u8, immediate, itt, cmd_sn, running: false, bhs, body };
        self.accept_request(request, host);
    }

    fn on_nop_out<H: Host<Payload = P>>(&mut self, index: usize, host: &mut H) {
        let rx = &mut self.open(index).rx;
        let header = *NopOut::view(&rx.bhs);
        let immediate = rx.bhs.is_immediate();
        let data = std::mem::take(&mut rx.scratch);
        let itt = header.itt.get();
        if itt != RESERVED_TAG && immediate {
            self.send_ping_answer(index, itt, &data);
            // Its memory serves the next ping.
            self.open(index).rx.scratch = data;
        } else if itt != RESERVED_TAG {
            self.accept_control(index, itt, header.cmd_sn.get(), Body::Ping { data }, host);
        } else if !immediate {
            //= RFC 7143 section 11.18: without a task tag it must be immediate
            self.send_reject(index, RejectReason::INVALID_PDU_FIELD);
        }
        // Else it answers our ping or just acknowledges: any input counts as a sign of life.
    }

    pub(super) fn run_ping(&mut self, id: RequestId) {
        let Some(request) = self.end_request(id) else { return };
        if let Body::Ping { data } = request.body {
            self.send_ping_answer(usize::from(request.connection), request.itt, &data);
        }
    }

    /// Echoes ping data, as much as the initiator takes.
    fn send_ping_answer(&mut self, index: usize, itt: u32, data: &[u8]) {
        let echo = &data[..data.len().min(self.open(index).segment_bytes_max)];
        let header = NopIn { itt: itt.into(), data_segment_length: U24::new(echo.len()), ..NopIn::new() };
        self.send_status(index, transmute!(header), echo);
    }

    /// A NOP-In of our own: a question with a tag, or just news about the window.
    pub(super) fn send_nop_in(&mut self, index: usize, ttt: Option<u32>) {
        let (exp_cmd_sn, max_cmd_sn) = (self.window.exp_cmd_sn(), self.window.max_cmd_sn());
        let connection = self.open(index);
        let header = NopIn {
            ttt: ttt.unwrap_or(RESERVED_TAG).into(),
            stat_sn: connection.stat_sn().into(),
            exp_cmd_sn: exp_cmd_sn.into(),
            max_cmd_sn: max_cmd_sn.into(),
            ..NopIn::new()
        };
        connection.tx.push_pdu(&transmute!(header), &[]);
    }

    /// Queues a PDU that carries a status: fills StatSN, ExpCmdSN and MaxCmdSN, which lie at the same place in all.
    pub(super) fn send_status(&mut self, index: usize, header: [u8; BHS_BYTES], data: &[u8]) {
        let (exp_cmd_sn, max_cmd_sn) = (self.window.exp_cmd_sn(), self.window.max_cmd_sn());
        let connection = self.open(index);
        let mut header: TextResponse = transmute!(header);
        header.stat_sn = connection.take_stat_sn().into();
        header.exp_cmd_sn = exp_cmd_sn.into();
        header.max_cmd_sn = max_cmd_sn.into();
        connection.tx.push_pdu(&transmute!(header), data);
    }

    /// As `send_status`, but never ahead of reads that were completed before.
    pub(super) fn send_behind_reads(&mut self, index: usize, header: [u8; BHS_BYTES]) {
        let tx = &mut self.open(index).tx;
        if tx.is_waiting() {
            tx.push_waiting(Waiting::Status(Box::new(StatusPdu { header, data: Vec::new() })));
        } else {
            self.send_status(index, header, &[]);
        }
    }

    /// Rejects the PDU in progress, quoting its header (section 11.17).
    pub(super) fn send_reject(&mut self, index: usize, reason: RejectReason) {
        let bhs = self.open(index).rx.bhs;
        self.send_reject_of(index, reason, &bhs);
    }

    /// Rejects a PDU that was kept.
    pub(super) fn send_reject_of(&mut self, index: usize, reason: RejectReason, bhs: &Bhs) {
        self.counters.rejects += 1;
        let header = Reject { data_segment_length: U24::new(BHS_BYTES), ..Reject::new(reason) };
        self.send_status(index, transmute!(header), bhs.as_bytes());
    }

    /// Sends an asynchronous message. Nothing is sent on a connection that closes.
    pub fn notify(&mut self, connection: ConnectionIndex, notice: AsyncNotice<'_>) {
        let index = usize::from(connection.0);
        let Some(live) = self.connections.get(index).and_then(Option::as_ref).filter(|live| live.sends())
        else {
            return;
        };
        let cid = live.cid;
        let mut data = Vec::new();
        let mut header = match notice {
            AsyncNotice::Scsi { lun, sense } => {
                let sense = &sense[..sense.len().min(SENSE_BYTES_MAX)];
                data.extend((sense.len() as u16).to_be_bytes());
                data.extend(sense);
                AsyncMessage { lun: lun.into(), ..AsyncMessage::new(AsyncEvent::SCSI_EVENT) }
            }
            AsyncNotice::LogoutRequest { within_s } => {
                AsyncMessage { parameter3: within_s.into(), ..AsyncMessage::new(AsyncEvent::REQUEST_LOGOUT) }
            }
            AsyncNotice::DropConnection => {
                AsyncMessage { parameter1: cid.into(), ..AsyncMessage::new(AsyncEvent::DROP_CONNECTION) }
            }
            AsyncNotice::DropSession => AsyncMessage::new(AsyncEvent::DROP_SESSION),
        };
        header.data_segment_length = U24::new(data.len());
        self.send_status(index, transmute!(header), &data);
    }

    fn on_logout<H: Host<Payload = P>>(&mut self, index: usize, host: &mut H) {
        let header = *LogoutRequest::view(&self.open(index).rx.bhs);
        let body = Body::Logout { reason: header.reason(), cid: header.cid.get() };
        self.accept_control(index, header.itt.get(), header.cmd_sn.get(), body, host);
    }

    pub(super) fn run_logout(&mut self, id: RequestId) {
        let request = self.requests.get(id).expect("the caller looked");
        let Body::Logout { reason, cid } = request.body else {
            unreachable!("the caller looked at the body")
        };
        match reason {
            LogoutReason::CLOSE_SESSION => {
                for index in 0..CONNECTIONS_MAX {
                    self.leave(index, id);
                }
                self.events.push_back(Queued::Request(id));
            }
            LogoutReason::CLOSE_CONNECTION => match self.by_cid(cid) {
                None => self.answer_logout(id, LogoutResponseCode::CID_NOT_FOUND),
                Some(leaving) => {
                    self.leave(leaving, id);
                    self.events.push_back(Queued::Request(id));
                }
            },
            LogoutReason::REMOVE_FOR_RECOVERY => {
                self.answer_logout(id, LogoutResponseCode::RECOVERY_NOT_SUPPORTED)
            }
            _ => self.answer_logout(id, LogoutResponseCode::CLEANUP_FAILED),
        }
    }

    fn by_cid(&self, cid: u16) -> Option<usize> {
        let with_cid =
            |slot: &Option<super::connection::Connection<P>>| slot.as_ref().is_some_and(|c| c.cid == cid);
        self.connections.iter().position(with_cid)
    }

    /// Stops a connection's input and ends its tasks and requests, all but the logout itself.
    fn leave(&mut self, index: usize, logout: RequestId) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        if connection.standing != Standing::Open {
            return;
        }
        connection.standing = Standing::Leaving;
        // A command that waits for memory must not come back to life.
        connection.rx.finish();
        self.abort_where(|task| usize::from(task.connection) == index, true);
        self.drop_requests_of(index, Some(logout));
        self.note_memory();
    }

    fn answer_logout(&mut self, id: RequestId, response: LogoutResponseCode) {
        if let Some(request) = self.end_request(id) {
            let header = LogoutResponse::new(request.itt, response);
            self.send_behind_reads(usize::from(request.connection), transmute!(header));
        }
    }

    /// Answers a [`Logout`]; the connections concerned are closed after the response. False when it is stale.
    pub fn complete_logout(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id) else { return false };
        let Body::Logout { reason, cid } = request.body else { return false };
        self.answer_logout(id, LogoutResponseCode::CLOSED);
        if reason == LogoutReason::CLOSE_SESSION {
            for index in 0..CONNECTIONS_MAX {
                self.begin_close(index, CloseCause::LoggedOut);
            }
        } else if let Some(index) = self.by_cid(cid)
            && self.open(index).standing == Standing::Leaving
        {
            // One that is open has taken the place of the one that was meant (section 6.3.4).
            self.begin_close(index, CloseCause::LoggedOut);
        }
        true
    }

    /// The event for a request that the layer above answers, unless it became stale.
    pub(super) fn request_event(&self, id: RequestId) -> Option<Event<P>> {
        let request = self.requests.get(id)?;
        match &request.body {
            Body::TaskManagement { .. } => self.management_event(id, request).map(Event::TaskManagement),
            Body::Text { .. } => self.text_event(id, request).map(Event::Text),
            Body::Logout { reason, cid } => {
                let whole_session = *reason == LogoutReason::CLOSE_SESSION;
                let leaving = if whole_session { None } else { self.by_cid(*cid) };
                Some(Event::Logout(Logout {
                    id,
                    connection: ConnectionIndex(request.connection),
                    reason: *reason,
                    leaving: leaving.map(|index| ConnectionIndex(index as u8)),
                }))
            }
            Body::Ping { .. } => None,
        }
    }
}

//! One session of one connection, without its socket: PDUs in, PDUs out, commands and their buffers in between.
//!
//! ```text
//!  LoggingIn ─▶ Clearing ─▶ Measuring ─▶ Live ─▶ LoggingOut ─▶ Out
//!   (keys)      (attentions)  (capacity)
//! ```

use super::outbox::{Outbox, Source};
use super::wire::{
    self, DATA_IN, DATA_OUT, FINAL, Header, LOGIN_KEYS, LOGIN_REQUEST, LOGIN_RESPONSE, LOGOUT_REQUEST,
    LOGOUT_RESPONSE, NO_TAG, NOP_IN, NOP_OUT, OPERATIONAL_TO_FULL, R2T, SCSI_COMMAND, SCSI_RESPONSE,
    SEGMENT_BYTES_MAX, STATUS,
};
use crate::driver::{Failure, Geometry, Kind, Request};
use crate::error::SessionEnd;

/// Requests of a login before it is given up.
const LOGIN_ROUNDS_MAX: u32 = 8;
/// Unit attentions that are cleared before the unit counts as unwilling.
const ATTENTIONS_MAX: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    LoggingIn { round: u32 },
    Clearing { tries: u32 },
    Measuring,
    Live,
    LoggingOut,
    Out,
}

/// A command in flight, or room for one. The last slot is the session's own, for what it asks before the load.
#[derive(Debug, Default)]
pub struct Slot {
    in_flight: bool,
    reads: bool,
    pub tag: u32,
    pub data: Vec<u8>,
    received: usize,
    /// PDUs with its data that wait to be sent.
    waiting: u32,
    /// Answered; `None` inside for GOOD.
    answer: Option<Option<Failure>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session {
    pub standing: Standing,
    pub outbox: Outbox,
    pub slots: Vec<Slot>,
    /// Slots whose commands are over, to be taken by the driver.
    pub over: Vec<u32>,
    pub geometry: Option<Geometry>,
    /// Commands of the load in flight.
    pub in_flight: usize,
    pub keys: Vec<u8>,
    keys_bytes: u32,
    isid: [u8; 6],
    lun: u8,
    command_sn: u32,
    max_command_sn: u32,
    expected_stat_sn: u32,
    immediate_max: u32,
    segment_max: u32,
}

/// A command of the load that is over: its tag, its buffer, and what went wrong.
pub type Over = (u32, Vec<u8>, Option<Failure>);

impl Session {
    /// A session that waits to send its login; `commands` may be in flight.
    pub fn new(initiator: &str, target: &str, lun: u8, isid: [u8; 6], commands: usize) -> Self {
        let text = format!("InitiatorName={initiator}\0TargetName={target}\0{LOGIN_KEYS}");
        let keys_bytes = text.len() as u32;
        let mut keys = text.into_bytes();
        keys.resize(keys.len().next_multiple_of(4), 0);
        let mut slots = Vec::new();
        slots.resize_with(commands + 1, Slot::default);
        let mut this = Self {
            standing: Standing::LoggingIn { round: 0 },
            outbox: Outbox::default(),
            slots,
            over: Vec::with_capacity(commands + 1),
            geometry: None,
            in_flight: 0,
            keys,
            keys_bytes,
            isid,
            lun,
            command_sn: 1,
            max_command_sn: 1,
            expected_stat_sn: 0,
            immediate_max: 0,
            segment_max: 8192,
        };
        this.push_login(Source::Keys { length: this.keys_bytes });
        this
    }

    fn push_login(&mut self, source: Source) {
        let mut header = Header::new(LOGIN_REQUEST, FINAL | OPERATIONAL_TO_FULL, 0).immediate();
        header.0[8..14].copy_from_slice(&self.isid);
        header.set_word(24, self.command_sn);
        header.set_word(28, self.expected_stat_sn);
        self.outbox.push(header, source);
    }

    fn own_slot(&self) -> u32 {
        self.slots.len() as u32 - 1
    }

    /// True when the target takes one more command.
    #[inline]
    pub fn may_submit(&self) -> bool {
        self.max_command_sn.wrapping_sub(self.command_sn) < 1 << 31
    }

    /// Takes a request into a free slot.
    #[inline]
    pub fn submit(&mut self, slot: u32, request: Request, data: Vec<u8>) {
        let write = request.kind == Kind::Write;
        let cdb = wire::transfer_cdb(write, request.lba, request.length_blocks);
        self.slots[slot as usize].tag = request.tag;
        self.in_flight += 1;
        self.start(slot, cdb, write, data);
    }

    fn start(&mut self, slot: u32, cdb: [u8; 16], write: bool, data: Vec<u8>) {
        let length = data.len() as u32;
        let direction = match (length, write) {
            (0, _) => 0,
            (_, true) => 0x20,
            (_, false) => 0x40,
        };
        // Final: no unsolicited data follows. Simple task attribute.
        let mut header = Header::new(SCSI_COMMAND, FINAL | direction | 0x01, slot);
        header.0[9] = self.lun;
        header.set_word(20, length);
        header.set_word(24, self.command_sn);
        header.set_word(28, self.expected_stat_sn);
        header.0[32..].copy_from_slice(&cdb);
        self.command_sn = self.command_sn.wrapping_add(1);
        let immediate = if write { length.min(self.immediate_max) } else { 0 };
        let command = &mut self.slots[slot as usize];
        assert!(!command.in_flight, "a slot holds one command");
        (command.in_flight, command.reads, command.data) = (true, !write, data);
        (command.received, command.waiting, command.answer) = (0, u32::from(immediate > 0), None);
        let source =
            if immediate > 0 { Source::Slot { slot, offset: 0, length: immediate } } else { Source::Nothing };
        self.outbox.push(header, source);
    }

    /// So many bytes of the outbox have left.
    pub fn advance(&mut self, bytes: usize) {
        let (slots, over) = (&mut self.slots, &mut self.over);
        self.outbox.advance(bytes, |slot| {
            let command = &mut slots[slot as usize];
            command.waiting -= 1;
            if command.waiting == 0 && command.answer.is_some() {
                over.push(slot);
            }
        });
    }

    /// A whole PDU came.
    pub fn handle(&mut self, header: &Header, data: &[u8]) -> Result<(), SessionEnd> {
        let is_login = header.opcode() == LOGIN_RESPONSE;
        if is_login != matches!(self.standing, Standing::LoggingIn { .. }) {
            return Err(SessionEnd::Violation(header.opcode()));
        }
        match header.opcode() {
            LOGIN_RESPONSE => return self.on_login(header, data),
            SCSI_RESPONSE => self.on_response(header, data)?,
            DATA_IN => self.on_data(header, data)?,
            R2T => self.on_r2t(header)?,
            NOP_IN => self.on_nop(header),
            LOGOUT_RESPONSE => self.standing = Standing::Out,
            opcode => return Err(SessionEnd::Violation(opcode)),
        }
        self.note_numbers(header);
        Ok(())
    }

    fn note_numbers(&mut self, header: &Header) {
        // R2T and Data-In without status have no StatSN of their own (RFC 7143, 11.7.4 and 11.8.3), nor has a NOP-In that is no
        // answer and wants none.
        let has_status = match header.opcode() {
            R2T => false,
            DATA_IN => header.0[1] & STATUS != 0,
            NOP_IN => header.tag() != NO_TAG,
            _ => true,
        };
        if has_status {
            self.expected_stat_sn = header.word(24).wrapping_add(1);
        }
        let max = header.word(32);
        if max.wrapping_sub(self.max_command_sn) < 1 << 31 {
            self.max_command_sn = max;
        }
    }

    fn on_login(&mut self, header: &Header, data: &[u8]) -> Result<(), SessionEnd> {
        match (header.0[36], header.0[37]) {
            (0, _) => {}
            (2, 1) => return Err(SessionEnd::AuthenticationRequired),
            (class, detail) => return Err(SessionEnd::Refused(class, detail)),
        }
        self.note_numbers(header);
        self.segment_max = wire::number_of(data, "MaxRecvDataSegmentLength")
            .unwrap_or(self.segment_max)
            .clamp(512, SEGMENT_BYTES_MAX);
        if let Some(value) = wire::value_of(data, "ImmediateData") {
            self.immediate_max = if value == b"Yes" { SEGMENT_BYTES_MAX } else { 0 };
        }
        if let Some(burst) = wire::number_of(data, "FirstBurstLength") {
            self.immediate_max = self.immediate_max.min(burst);
        }
        self.immediate_max = self.immediate_max.min(self.segment_max);
        let Standing::LoggingIn { round } = self.standing else { return Ok(()) };
        if header.0[1] & 0x83 == FINAL | 0x03 {
            self.standing = Standing::Clearing { tries: 0 };
            let slot = self.own_slot();
            self.start(slot, [0; 16], false, Vec::new());
        } else if round == LOGIN_ROUNDS_MAX {
            return Err(SessionEnd::Violation(LOGIN_RESPONSE));
        } else {
            self.standing = Standing::LoggingIn { round: round + 1 };
            self.push_login(Source::Nothing);
        }
        Ok(())
    }

    /// The command that a PDU speaks of.
    fn command(&mut self, header: &Header) -> Result<&mut Slot, SessionEnd> {
        let slot = self.slots.get_mut(header.tag() as usize);
        slot.filter(|slot| slot.in_flight && slot.answer.is_none())
            .ok_or(SessionEnd::Violation(header.opcode()))
    }

    fn on_response(&mut self, header: &Header, data: &[u8]) -> Result<(), SessionEnd> {
        // Response 0: completed at the target; anything else is a failure of the target's.
        let failure = match (header.0[2], header.0[3]) {
            (0, 0) => None,
            (_, status) => Some(Failure::Scsi(status, wire::sense(data))),
        };
        self.answer(header, failure)
    }

    fn answer(&mut self, header: &Header, failure: Option<Failure>) -> Result<(), SessionEnd> {
        let slot = header.tag();
        let command = self.command(header)?;
        let is_short = command.reads && command.received < command.data.len();
        // An underflow of a read inside of the unit: it says that it is done and has brought less.
        let underflow = is_short.then_some(Failure::Scsi(0, None));
        command.answer = Some(failure.or(underflow));
        if command.waiting == 0 {
            self.over.push(slot);
        }
        Ok(())
    }

    fn on_data(&mut self, header: &Header, data: &[u8]) -> Result<(), SessionEnd> {
        let command = self.command(header)?;
        let offset = header.word(40) as usize;
        let end = offset.checked_add(data.len()).filter(|end| *end <= command.data.len());
        let (Some(end), true) = (end, command.reads && offset == command.received) else {
            return Err(SessionEnd::Violation(DATA_IN));
        };
        command.data[offset..end].copy_from_slice(data);
        command.received = end;
        if header.0[1] & STATUS == 0 {
            return Ok(());
        }
        let failure = if header.0[3] == 0 { None } else { Some(Failure::Scsi(header.0[3], None)) };
        self.answer(header, failure)
    }

    fn on_r2t(&mut self, r2t: &Header) -> Result<(), SessionEnd> {
        let (segment_max, stat_sn) = (self.segment_max, self.expected_stat_sn);
        let slot = r2t.tag();
        let command = self.command(r2t)?;
        let (start, wanted) = (r2t.word(40), r2t.word(44));
        let end = start.checked_add(wanted).filter(|end| *end as usize <= command.data.len());
        let (Some(end), false) = (end, command.reads || wanted == 0) else {
            return Err(SessionEnd::Violation(R2T));
        };
        command.waiting += wanted.div_ceil(segment_max);
        for (data_sn, offset) in (0_u32..).zip((start..end).step_by(segment_max as usize)) {
            let length = (end - offset).min(segment_max);
            let last = if offset + length == end { FINAL } else { 0 };
            let mut header = Header::new(DATA_OUT, last, slot);
            // LUN and target transfer tag as the target gave them.
            header.0[8..16].copy_from_slice(&r2t.0[8..16]);
            header.0[20..24].copy_from_slice(&r2t.0[20..24]);
            header.set_word(28, stat_sn);
            header.set_word(36, data_sn);
            header.set_word(40, offset);
            self.outbox.push(header, Source::Slot { slot, offset, length });
        }
        Ok(())
    }

    fn on_nop(&mut self, ping: &Header) {
        if ping.word(20) == NO_TAG {
            return;
        }
        let mut header = Header::new(NOP_OUT, FINAL, NO_TAG).immediate();
        header.0[8..16].copy_from_slice(&ping.0[8..16]);
        header.0[20..24].copy_from_slice(&ping.0[20..24]);
        header.set_word(24, self.command_sn);
        header.set_word(28, self.expected_stat_sn);
        self.outbox.push(header, Source::Nothing);
    }

    /// Gives back a command that is over; `None` when it was one of the session's own.
    pub fn take(&mut self, slot: u32) -> Result<Option<Over>, SessionEnd> {
        let own = slot == self.own_slot();
        let command = &mut self.slots[slot as usize];
        let answer = command.answer.take().expect("the command is over");
        command.in_flight = false;
        let data = std::mem::take(&mut command.data);
        if !own {
            self.in_flight -= 1;
            return Ok(Some((command.tag, data, answer)));
        }
        self.on_own(answer, &data).map(|()| None)
    }

    /// An answer to what the session asked before the load.
    fn on_own(&mut self, failure: Option<Failure>, data: &[u8]) -> Result<(), SessionEnd> {
        let slot = self.own_slot();
        match (self.standing, failure) {
            (Standing::Clearing { tries }, Some(_)) if tries < ATTENTIONS_MAX => {
                self.standing = Standing::Clearing { tries: tries + 1 };
                self.start(slot, [0; 16], false, Vec::new());
            }
            (_, Some(failure)) => return Err(SessionEnd::Unit(failure)),
            (Standing::Clearing { .. }, None) => {
                self.standing = Standing::Measuring;
                let answer = vec![0; wire::CAPACITY_BYTES as usize];
                self.start(slot, wire::capacity_cdb(), false, answer);
            }
            (_, None) => {
                let (length_blocks, logical_block_bytes) = wire::capacity(data)
                    .filter(|(_, bytes)| *bytes >= 512)
                    .ok_or(SessionEnd::Violation(DATA_IN))?;
                self.geometry = Some(Geometry::unlimited(logical_block_bytes, length_blocks));
                self.standing = Standing::Live;
            }
        }
        Ok(())
    }

    /// Every command that is still in flight, when the connection has ended.
    pub fn take_lost(&mut self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        let own = self.slots.len() - 1;
        self.over.clear();
        self.in_flight = 0;
        self.slots[..own].iter_mut().filter(|slot| slot.in_flight).map(|slot| {
            slot.in_flight = false;
            (slot.tag, std::mem::take(&mut slot.data))
        })
    }

    /// Takes leave.
    pub fn log_out(&mut self) {
        if self.standing != Standing::Live {
            self.standing = Standing::Out;
            return;
        }
        self.standing = Standing::LoggingOut;
        let tag = self.slots.len() as u32;
        // Reason 0: close the session.
        let mut header = Header::new(LOGOUT_REQUEST, FINAL, tag).immediate();
        header.set_word(24, self.command_sn);
        header.set_word(28, self.expected_stat_sn);
        self.outbox.push(header, Source::Nothing);
    }
}

#[cfg(test)]
mod tests;

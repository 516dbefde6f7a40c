//! A session in full feature phase: many commands in flight on one connection, answers in any order.

use std::collections::HashMap;

use crate::login::{Agreed, Login};
use crate::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode, parse_text, text_segment};
use crate::scsi::{self, Capacity, Cdb, Sense, status};
use crate::wire::{Wire, WireError};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const SIMPLE: u8 = 1;

/// A SCSI command to be sent.
#[derive(Clone, Debug)]
pub struct Command {
    /// LUN number.
    pub lun: u64,
    /// Command descriptor block.
    pub cdb: Cdb,
    /// Data to the target.
    pub data_out: Vec<u8>,
    /// Bytes expected from the target.
    pub data_in_bytes: u32,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The tag that [`Session::submit`] returned.
    pub itt: u32,
    /// SCSI status.
    pub status: u8,
    /// Sense key and code, if there was sense data.
    pub sense: Option<Sense>,
    /// Data from the target.
    pub data: Vec<u8>,
    /// Residual count: negative for underflow.
    pub residual: i64,
}

#[derive(Debug)]
struct InFlight {
    lun: u64,
    data_out: Vec<u8>,
    data_in: Vec<u8>,
}

/// Where a burst of Data-Out PDUs belongs.
struct Burst {
    lun: u64,
    itt: u32,
    ttt: u32,
    offset_bytes: usize,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The connection, open to abuse.
    pub wire: Wire,
    /// What the login agreed.
    pub agreed: Agreed,
    /// Next CmdSN.
    pub cmd_sn: u32,
    /// Next expected StatSN.
    pub exp_stat_sn: u32,
    /// The last MaxCmdSN seen: the end of the command window.
    pub max_cmd_sn: u32,
    next_itt: u32,
    in_flight: HashMap<u32, InFlight>,
}

impl Session {
    pub(crate) fn new(wire: Wire, login: &Login, agreed: Agreed, last_reply: &Pdu) -> Self {
        Self {
            wire,
            agreed,
            cmd_sn: login.cmd_sn,
            exp_stat_sn: last_reply.word(24).wrapping_add(1),
            max_cmd_sn: last_reply.word(32),
            next_itt: 1,
            in_flight: HashMap::new(),
        }
    }

    /// Commands submitted and not yet completed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// True while the target's window takes another command.
    #[must_use]
    pub fn window_open(&self) -> bool {
        // Serial number arithmetic (RFC 1982): the window may lie across the wrap.
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
    }

    /// A fresh initiator task tag.
    pub fn take_itt(&mut self) -> u32 {
        let itt = self.next_itt;
        self.next_itt = if itt == NO_TAG - 1 { 1 } else { itt + 1 };
        itt
    }

    /// The SCSI Command PDU of `command` with immediate data as agreed. CmdSN and ExpStatSN are filled in
    /// and CmdSN is taken; a test may spoil the PDU before it sends it.
    pub fn command_pdu(&mut self, command: &Command) -> Pdu {
        let mut flags = FINAL | SIMPLE;
        if command.data_in_bytes > 0 {
            flags |= READ;
        }
        if !command.data_out.is_empty() {
            flags |= WRITE;
        }
        let mut pdu = Pdu::new(opcode::SCSI_COMMAND, flags);
        pdu.set_lun(command.lun);
        let itt = self.take_itt();
        pdu.set_itt(itt);
        pdu.set_word(20, command.data_in_bytes.max(command.data_out.len() as u32));
        pdu.bhs[32..48].copy_from_slice(&command.cdb);
        if self.agreed.immediate_data {
            let immediate = self.agreed.first_burst_bytes_max.min(self.agreed.send_data_segment_bytes_max);
            pdu.data = command.data_out[..command.data_out.len().min(immediate)].to_vec();
        }
        self.stamp(&mut pdu);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        pdu
    }

    /// Writes the current CmdSN and ExpStatSN into `pdu`.
    pub fn stamp(&self, pdu: &mut Pdu) {
        pdu.set_word(24, self.cmd_sn).set_word(28, self.exp_stat_sn);
    }

    /// Sends `command` and returns its tag. Unsolicited data follows as far as was agreed.
    pub fn submit(&mut self, command: Command) -> Result<u32, WireError> {
        let mut pdu = self.command_pdu(&command);
        let immediate_bytes = pdu.data.len();
        let unsolicited_end = match self.agreed.initial_r2t {
            true => immediate_bytes,
            false => command.data_out.len().min(self.agreed.first_burst_bytes_max),
        };
        let mut bytes = Vec::new();
        if unsolicited_end > immediate_bytes {
            pdu.bhs[1] &= !FINAL;
            bytes.extend_from_slice(&pdu.encode(self.wire.digests));
            let burst =
                Burst { lun: command.lun, itt: pdu.itt(), ttt: NO_TAG, offset_bytes: immediate_bytes };
            self.append_burst(&mut bytes, &burst, &command.data_out[immediate_bytes..unsolicited_end]);
        } else {
            bytes.extend_from_slice(&pdu.encode(self.wire.digests));
        }
        let entry = InFlight { lun: command.lun, data_out: command.data_out, data_in: Vec::new() };
        self.in_flight.insert(pdu.itt(), entry);
        self.wire.send_bytes(&bytes)?;
        Ok(pdu.itt())
    }

    /// Appends the Data-Out PDUs of one burst, the last one with the final bit.
    fn append_burst(&self, bytes: &mut Vec<u8>, burst: &Burst, data: &[u8]) {
        let pieces = data.chunks(self.agreed.send_data_segment_bytes_max);
        let last = pieces.len().saturating_sub(1);
        let mut offset_bytes = burst.offset_bytes;
        for (index, piece) in pieces.enumerate() {
            let flags = if index == last { FINAL } else { 0 };
            let mut pdu = Pdu::new(opcode::DATA_OUT, flags).with_data(piece);
            pdu.set_lun(burst.lun).set_itt(burst.itt).set_word(20, burst.ttt);
            pdu.set_word(28, self.exp_stat_sn).set_word(36, index as u32).set_word(40, offset_bytes as u32);
            offset_bytes += piece.len();
            bytes.extend_from_slice(&pdu.encode(self.wire.digests));
        }
    }

    /// Waits for any command to end; serves R2Ts and pings meanwhile.
    pub fn complete_one(&mut self) -> Result<Completion, WireError> {
        loop {
            let pdu = self.wire.recv()?;
            if let Some(completion) = self.handle(&pdu)? {
                return Ok(completion);
            }
        }
    }

    /// Sends `command` and waits for its end.
    pub fn execute(&mut self, command: Command) -> Result<Completion, WireError> {
        let itt = self.submit(command)?;
        loop {
            let completion = self.complete_one()?;
            if completion.itt == itt {
                return Ok(completion);
            }
        }
    }

    /// Handles one PDU of the target.
    pub fn handle(&mut self, pdu: &Pdu) -> Result<Option<Completion>, WireError> {
        self.note_sequence(pdu);
        match pdu.opcode() {
            opcode::DATA_IN => return self.on_data_in(pdu),
            opcode::SCSI_RESPONSE => return self.on_response(pdu).map(Some),
            opcode::R2T => self.on_r2t(pdu)?,
            opcode::NOP_IN => self.on_nop_in(pdu)?,
            opcode::REJECT => return Err(WireError::Rejected(pdu.bhs[2])),
            opcode::ASYNC_MESSAGE => {}
            _ => return Err(WireError::Protocol("a PDU that no request asked for")),
        }
        Ok(None)
    }

    fn note_sequence(&mut self, pdu: &Pdu) {
        let carries_status = match pdu.opcode() {
            opcode::DATA_IN => pdu.bhs[1] & 1 != 0,
            opcode::R2T => false,
            opcode::NOP_IN => pdu.itt() != NO_TAG,
            _ => true,
        };
        if carries_status {
            self.exp_stat_sn = pdu.word(24).wrapping_add(1);
        }
        let max_cmd_sn = pdu.word(32);
        if max_cmd_sn.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    fn on_data_in(&mut self, pdu: &Pdu) -> Result<Option<Completion>, WireError> {
        let offset = pdu.word(40) as usize;
        let entry = self.in_flight.get_mut(&pdu.itt()).ok_or(WireError::Protocol("Data-In without task"))?;
        if offset != entry.data_in.len() {
            return Err(WireError::Protocol("Data-In out of order"));
        }
        entry.data_in.extend_from_slice(&pdu.data);
        if pdu.bhs[1] & 1 == 0 {
            return Ok(None);
        }
        self.finish(pdu, None).map(Some)
    }

    fn on_response(&mut self, pdu: &Pdu) -> Result<Completion, WireError> {
        let sense_bytes =
            pdu.data.get(..2).map_or(0, |prefix| usize::from(prefix[0]) << 8 | usize::from(prefix[1]));
        let sense = pdu.data.get(2..2 + sense_bytes).and_then(scsi::parse_sense);
        self.finish(pdu, sense)
    }

    fn finish(&mut self, pdu: &Pdu, sense: Option<Sense>) -> Result<Completion, WireError> {
        let entry = self.in_flight.remove(&pdu.itt()).ok_or(WireError::Protocol("answer without task"))?;
        let count = i64::from(pdu.word(44));
        let residual = match pdu.bhs[1] & 0x06 {
            0x02 => -count,
            0x04 => count,
            _ => 0,
        };
        Ok(Completion { itt: pdu.itt(), status: pdu.bhs[3], sense, data: entry.data_in, residual })
    }

    fn on_r2t(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let offset = pdu.word(40) as usize;
        let length = pdu.word(44) as usize;
        let entry = self.in_flight.get(&pdu.itt()).ok_or(WireError::Protocol("R2T without task"))?;
        let end = offset.saturating_add(length);
        let data = entry.data_out.get(offset..end).ok_or(WireError::Protocol("R2T beyond the data"))?;
        let burst = Burst { lun: entry.lun, itt: pdu.itt(), ttt: pdu.word(20), offset_bytes: offset };
        let mut bytes = Vec::with_capacity(length + 64);
        self.append_burst(&mut bytes, &burst, data);
        self.wire.send_bytes(&bytes)
    }

    fn on_nop_in(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let ttt = pdu.word(20);
        if ttt == NO_TAG {
            return Ok(());
        }
        let mut answer = Pdu::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with_data(pdu.data.clone());
        answer.bhs[8..16].copy_from_slice(&pdu.bhs[8..16]);
        answer.set_itt(NO_TAG).set_word(20, ttt);
        self.stamp(&mut answer);
        self.wire.send(&answer)
    }

    /// Sends `pdu` and waits for the answer with this opcode; other answers are handled as usual.
    pub fn ask(&mut self, pdu: &Pdu, answer_opcode: u8) -> Result<Pdu, WireError> {
        self.wire.send(pdu)?;
        loop {
            let answer = self.wire.recv()?;
            if answer.opcode() == answer_opcode && answer.itt() == pdu.itt() {
                self.note_sequence(&answer);
                return Ok(answer);
            }
            self.handle(&answer)?;
        }
    }

    /// A request PDU with a fresh tag and a CmdSN of its own (not taken when `first_byte` is immediate).
    pub fn request_pdu(&mut self, first_byte: u8, flags: u8) -> Pdu {
        let mut pdu = Pdu::new(first_byte, flags);
        let itt = self.take_itt();
        pdu.set_itt(itt);
        self.stamp(&mut pdu);
        if first_byte & IMMEDIATE == 0 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        pdu
    }

    /// Pings and checks that the bytes come back.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut pdu = self.request_pdu(opcode::NOP_OUT, FINAL).with_data(payload);
        pdu.set_word(20, NO_TAG);
        let answer = self.ask(&pdu, opcode::NOP_IN)?;
        if answer.data == payload { Ok(()) } else { Err(WireError::Protocol("ping data changed")) }
    }

    /// SendTargets=`what`; the pairs of the answer.
    pub fn send_targets(&mut self, what: &str) -> Result<Vec<(String, String)>, WireError> {
        let mut pdu = self.request_pdu(opcode::TEXT, FINAL).with_data(text_segment(&[("SendTargets", what)]));
        pdu.set_word(20, NO_TAG);
        Ok(parse_text(&self.ask(&pdu, opcode::TEXT_RESPONSE)?.data))
    }

    /// A task management request; the response code.
    pub fn task_management(&mut self, function: u8, lun: u64, referenced_itt: u32) -> Result<u8, WireError> {
        let mut pdu = self.request_pdu(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | function);
        pdu.set_lun(lun).set_word(20, referenced_itt);
        Ok(self.ask(&pdu, opcode::TASK_MANAGEMENT_RESPONSE)?.bhs[2])
    }

    /// Closes the session with a logout.
    pub fn logout(mut self) -> Result<(), WireError> {
        let pdu = self.request_pdu(opcode::LOGOUT | IMMEDIATE, FINAL);
        let answer = self.ask(&pdu, opcode::LOGOUT_RESPONSE)?;
        if answer.bhs[2] == 0 { Ok(()) } else { Err(WireError::Protocol("logout refused")) }
    }

    /// Takes pending unit attentions away, then READ CAPACITY (16).
    pub fn settle(&mut self, lun: u64) -> Result<Capacity, WireError> {
        for _ in 0..16 {
            let ready = self.execute(Command::bare(lun, scsi::test_unit_ready()))?;
            if ready.status == status::GOOD {
                let answer = self.execute(Command::read(lun, scsi::read_capacity_16(), 32))?;
                return scsi::parse_capacity(&answer.data).ok_or(WireError::Protocol("no capacity"));
            }
        }
        Err(WireError::Protocol("the unit does not become ready"))
    }
}

impl Command {
    /// A command without data.
    #[must_use]
    pub fn bare(lun: u64, cdb: Cdb) -> Self {
        Self { lun, cdb, data_out: Vec::new(), data_in_bytes: 0 }
    }

    /// A command that expects data.
    #[must_use]
    pub fn read(lun: u64, cdb: Cdb, data_in_bytes: u32) -> Self {
        Self { lun, cdb, data_out: Vec::new(), data_in_bytes }
    }

    /// A command that carries data.
    #[must_use]
    pub fn write(lun: u64, cdb: Cdb, data_out: Vec<u8>) -> Self {
        Self { lun, cdb, data_out, data_in_bytes: 0 }
    }
}

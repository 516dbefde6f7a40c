//! A queue pair: ICReq and Connect, then commands in flight, their data in both directions.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::host::Identity;
use crate::pdu::{Digests, LAST, Pdu, SUCCESS, kind};
use crate::sqe::Sqe;
use crate::wire::{Wire, WireError};

/// A command with its data.
#[derive(Clone, Debug)]
pub struct Command {
    /// What to do.
    pub sqe: Sqe,
    /// Data for the controller.
    pub write: Vec<u8>,
    /// Room for data from the controller.
    pub read_bytes: usize,
}

impl Command {
    /// Without data.
    pub fn bare(sqe: Sqe) -> Self {
        Self { sqe, write: Vec::new(), read_bytes: 0 }
    }

    /// With data for the controller.
    pub fn write(sqe: Sqe, data: impl Into<Vec<u8>>) -> Self {
        Self { sqe, write: data.into(), read_bytes: 0 }
    }

    /// With room for data from the controller.
    pub fn read(sqe: Sqe, read_bytes: usize) -> Self {
        Self { sqe, write: Vec::new(), read_bytes }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which command.
    pub cid: u16,
    /// Status code and type, without flags.
    pub status: u16,
    /// Dwords 0 and 1.
    pub result: u64,
    /// What it read.
    pub data: Vec<u8>,
}

impl Completion {
    /// Fails unless it succeeded.
    pub fn good(self) -> Result<Self, WireError> {
        if self.status == 0 { Ok(self) } else { Err(WireError::Status(self.status)) }
    }
}

#[derive(Debug, Default)]
struct Pending {
    write: Vec<u8>,
    read: Vec<u8>,
    received_bytes: usize,
}

/// A queue pair.
#[derive(Debug)]
pub struct Queue {
    /// Its connection.
    pub wire: Wire,
    /// Most bytes of data in one H2CData (MAXH2CDATA).
    pub h2c_data_bytes_max: usize,
    /// Writes up to so many bytes go in the capsule.
    pub in_capsule_bytes: usize,
    /// Commands that the target may have at once.
    pub entries: u16,
    next_cid: u16,
    pending: BTreeMap<u16, Pending>,
}

impl Queue {
    /// A connection after ICReq and ICResp.
    pub fn open(address: SocketAddr, digests: Digests) -> Result<Self, WireError> {
        let mut wire = Wire::connect(address)?;
        wire.send(&Pdu::ic_req(digests, 1))?;
        let answer = wire.recv()?;
        if answer.pdu_type() != kind::IC_RESP || answer.header.len() != 128 || answer.u16(8) != 0 {
            return Err(WireError::Protocol("ICResp"));
        }
        if answer.header[11] != u8::from(digests.header) | u8::from(digests.data) << 1 {
            return Err(WireError::Protocol("ICResp grants other digests"));
        }
        if answer.header[10] > 31 || answer.u32(12) < 4096 {
            return Err(WireError::Protocol("CPDA or MAXH2CDATA"));
        }
        (wire.digests, wire.alignment_bytes) = (digests, (usize::from(answer.header[10]) + 1) * 4);
        Ok(Self {
            wire,
            h2c_data_bytes_max: answer.u32(12) as usize,
            in_capsule_bytes: 8192,
            entries: 2,
            next_cid: 1,
            pending: BTreeMap::new(),
        })
    }

    /// The data of Connect.
    pub fn connect_data(subsystem_nqn: &str, host: &Identity, cntlid: u16) -> Vec<u8> {
        let mut data = vec![0; 1024];
        data[..16].copy_from_slice(&host.id);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + subsystem_nqn.len()].copy_from_slice(subsystem_nqn.as_bytes());
        data[512..512 + host.nqn.len()].copy_from_slice(host.nqn.as_bytes());
        data
    }

    /// Connect; the controller's identifier.
    pub fn connect(&mut self, sqe: Sqe, data: Vec<u8>) -> Result<u16, WireError> {
        self.entries = u16::from_le_bytes([sqe.0[44], sqe.0[45]]).saturating_add(1);
        let completion = self.execute(Command::write(sqe, data))?.good()?;
        Ok(completion.result as u16)
    }

    /// Another command may be sent.
    pub fn has_room(&self) -> bool {
        self.pending.len() + 1 < usize::from(self.entries)
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// The capsule of a command, which counts as sent from now on; its CID.
    pub fn prepare(&mut self, command: Command) -> (u16, Pdu) {
        let cid = self.next_cid;
        self.next_cid = if cid == 0x7fff { 1 } else { cid + 1 };
        let in_capsule = !command.write.is_empty() && command.write.len() <= self.in_capsule_bytes;
        let length_bytes = command.write.len().max(command.read_bytes) as u32;
        let sqe = command.sqe.with_cid(cid).with_sgl(length_bytes, in_capsule);
        let mut pending = Pending { read: vec![0; command.read_bytes], ..Pending::default() };
        let data = if in_capsule {
            command.write
        } else {
            pending.write = command.write;
            Vec::new()
        };
        self.pending.insert(cid, pending);
        (cid, Pdu::capsule(&sqe.0, data))
    }

    /// Sends a command; its CID.
    pub fn submit(&mut self, command: Command) -> Result<u16, WireError> {
        let (cid, pdu) = self.prepare(command);
        self.wire.send(&pdu)?;
        Ok(cid)
    }

    /// Takes PDUs until a command has ended.
    pub fn complete_one(&mut self) -> Result<Completion, WireError> {
        loop {
            let pdu = self.wire.recv()?;
            if let Some(completion) = self.handle(&pdu)? {
                return Ok(completion);
            }
        }
    }

    /// One command, alone.
    pub fn execute(&mut self, command: Command) -> Result<Completion, WireError> {
        let cid = self.submit(command)?;
        let completion = self.complete_one()?;
        if completion.cid == cid {
            Ok(completion)
        } else {
            Err(WireError::Protocol("an answer to no command"))
        }
    }

    /// Takes a PDU of the controller: answers R2Ts, collects data.
    pub fn handle(&mut self, pdu: &Pdu) -> Result<Option<Completion>, WireError> {
        match pdu.pdu_type() {
            kind::R2T => self.on_r2t(pdu).map(|()| None),
            kind::C2H_DATA => self.on_data(pdu),
            kind::CAPSULE_RESP => self.on_response(pdu).map(Some),
            kind::C2H_TERM_REQ => Err(WireError::Terminated(pdu.u16(8), pdu.u32(10))),
            _ => Err(WireError::Protocol("a PDU of a type that no controller sends now")),
        }
    }

    fn on_r2t(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let (cid, ttag, offset, length) =
            (pdu.u16(8), pdu.u16(10), pdu.u32(12) as usize, pdu.u32(16) as usize);
        let pending = self.pending.get(&cid).ok_or(WireError::Protocol("an R2T for no command"))?;
        let asked = pending.write.get(offset..).and_then(|rest| rest.get(..length));
        let asked = asked.filter(|asked| !asked.is_empty()).ok_or(WireError::Protocol("R2T out of range"))?;
        let mut pdus = Vec::new();
        let pieces = asked.len().div_ceil(self.h2c_data_bytes_max);
        for (index, piece) in asked.chunks(self.h2c_data_bytes_max).enumerate() {
            let at = (offset + index * self.h2c_data_bytes_max) as u32;
            pdus.push(Pdu::h2c_data(cid, ttag, at, index + 1 == pieces, piece));
        }
        pdus.iter().try_for_each(|pdu| self.wire.send(pdu))
    }

    fn on_data(&mut self, pdu: &Pdu) -> Result<Option<Completion>, WireError> {
        let (cid, offset, length) = (pdu.u16(8), pdu.u32(12) as usize, pdu.u32(16) as usize);
        let pending = self.pending.get_mut(&cid).ok_or(WireError::Protocol("data for no command"))?;
        if length != pdu.data.len() || offset != pending.received_bytes {
            return Err(WireError::Protocol("DATAL or DATAO of C2HData"));
        }
        let room = pending.read.get_mut(offset..).and_then(|rest| rest.get_mut(..length));
        room.ok_or(WireError::Protocol("more data than was asked for"))?.copy_from_slice(&pdu.data);
        pending.received_bytes += length;
        if !pdu.has(SUCCESS) {
            return Ok(None);
        }
        if !pdu.has(LAST) {
            return Err(WireError::Protocol("SUCCESS without LAST"));
        }
        self.finish(cid, 0, 0).map(Some)
    }

    fn on_response(&mut self, pdu: &Pdu) -> Result<Completion, WireError> {
        if pdu.header.len() != 24 || !pdu.data.is_empty() {
            return Err(WireError::Protocol("CapsuleResp"));
        }
        self.finish(pdu.u16(20), pdu.u16(22) >> 1 & 0x7ff, pdu.u64(8))
    }

    fn finish(&mut self, cid: u16, status: u16, result: u64) -> Result<Completion, WireError> {
        let pending = self.pending.remove(&cid).ok_or(WireError::Protocol("an answer to no command"))?;
        let mut data = pending.read;
        data.truncate(pending.received_bytes);
        Ok(Completion { cid, status, result, data })
    }
}

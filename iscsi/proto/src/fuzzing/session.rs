//! Body of the fuzz target `session`: a whole full-feature phase from any bytes, with disconnects anywhere.
//!
//! The input is a program for an initiator and a layer above. Whatever it does: buffers are not lost, tasks end once,
//! output consists of whole PDUs, and once the connections are gone nothing stays behind.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::rc::Rc;

use zerocopy::{FromZeros, IntoBytes};

use crate::digest::digest;
use crate::discovery::TargetRecords;
use crate::params::{DigestType, Negotiated, SessionType};
use crate::pdu::{
    BHS_BYTES, Bhs, DataOut, OPCODE_MASK, Opcode, R2t, RESERVED_TAG, ScsiCommand, TmfResponse, U24, pad_bytes,
};
use crate::session::{
    AsyncNotice, Command, Completion, ConnectionIndex, ConnectionParams, Event, Host, Payload, RequestId,
    Session, SessionConfig, TaskId,
};

const CMD_SN: u32 = 0xffff_fff0;
const OPCODES: [u8; 16] =
    [0x01, 0x01, 0x41, 0x05, 0x05, 0x00, 0x40, 0x42, 0x02, 0x04, 0x44, 0x46, 0x06, 0x10, 0x03, 0x1c];

/// A buffer that is counted while it lives, in chunks of seven bytes.
#[derive(Debug)]
struct Counted {
    bytes: Vec<u8>,
    live_bytes: Rc<Cell<usize>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live_bytes.set(self.live_bytes.get() - self.bytes.len());
    }
}

impl Payload for Counted {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        &self.bytes[offset_bytes..(offset_bytes / 7 * 7 + 7).min(self.bytes.len())]
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        let end = (offset_bytes / 7 * 7 + 7).min(self.bytes.len());
        &mut self.bytes[offset_bytes..end]
    }
}

struct Pool {
    live_bytes: Rc<Cell<usize>>,
    limit_bytes: usize,
}

impl Pool {
    fn take(&self, length_bytes: usize) -> Counted {
        self.live_bytes.set(self.live_bytes.get() + length_bytes);
        Counted { bytes: vec![0; length_bytes], live_bytes: Rc::clone(&self.live_bytes) }
    }
}

impl Host for Pool {
    type Payload = Counted;

    fn data_out_length(&mut self, _lun: u64, cdb: &[u8]) -> u64 {
        // Bounded by what the pool can ever give, as promised to the session.
        (u64::from(cdb[0]) * 16).min(self.limit_bytes as u64)
    }

    fn alloc(&mut self, length_bytes: usize) -> Option<Counted> {
        (self.live_bytes.get() + length_bytes <= self.limit_bytes).then(|| self.take(length_bytes))
    }
}

/// The program, read byte by byte.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> u32 {
        let edges = [0, 1, 2, 7, 64, 512, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
        match self.byte().unwrap_or(0) {
            index @ 0..=9 => edges[usize::from(index)],
            other => u32::from(other),
        }
    }
}

struct World {
    session: Session<Counted>,
    pool: Pool,
    negotiated: Negotiated,
    executing: Vec<Command<Counted>>,
    given_out: BTreeSet<TaskId>,
    requests: Vec<RequestId>,
    unread: [Vec<u8>; 8],
    sent: [Vec<u8>; 8],
    last_r2t: Option<R2t>,
    cmd_sn: u32,
    now_ns: u64,
}

/// Byte 0: what is negotiated; the rest is steps.
pub fn session(data: &[u8]) {
    let mut program = Program(data);
    let Some(mode) = program.byte() else { return };
    let mut world = World::new(mode);
    for _ in 0..400 {
        let Some(step) = program.byte() else { break };
        world.step(step, &mut program);
    }
    world.end();
}

impl World {
    fn new(mode: u8) -> Self {
        let bit = |n: u8| mode & (1 << n) != 0;
        let digest_type = |on| if on { DigestType::Crc32c } else { DigestType::None };
        let negotiated = Negotiated {
            header_digest: digest_type(bit(0)),
            data_digest: digest_type(bit(1)),
            our_max_recv_data_segment_length: 1024,
            their_max_recv_data_segment_length: 512,
            max_burst_length: 1024,
            first_burst_length: 600,
            initial_r2t: bit(2),
            immediate_data: !bit(3),
            max_connections: 3,
            max_outstanding_r2t: if bit(4) { 1 } else { 3 },
            ..Negotiated::default()
        };
        let session_type = if mode & 0xe0 == 0xe0 { SessionType::Discovery } else { SessionType::Normal };
        let config = SessionConfig { window_commands: 6, tx_backlog_bytes: 8192, ..SessionConfig::default() };
        let limit_bytes = if bit(5) { 5000 } else { 1 << 20 };
        let mut world = Self {
            session: Session::new(config, session_type, &negotiated, CMD_SN),
            pool: Pool { live_bytes: Rc::default(), limit_bytes },
            negotiated,
            executing: Vec::new(),
            given_out: BTreeSet::new(),
            requests: Vec::new(),
            unread: Default::default(),
            sent: Default::default(),
            last_r2t: None,
            cmd_sn: CMD_SN,
            now_ns: 0,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let cid = self.session.connections().count() as u16;
        let params = ConnectionParams { cid, stat_sn: u32::MAX, negotiated: self.negotiated.clone() };
        if let Some(index) = self.session.add_connection(&params, self.now_ns) {
            self.unread[usize::from(index.0)].clear();
            self.sent[usize::from(index.0)].clear();
        }
    }

    fn step(&mut self, step: u8, program: &mut Program<'_>) {
        let connection = ConnectionIndex(step >> 6);
        match step & 0x1f {
            0..=11 => self.send(connection, step, program),
            12 | 13 => self.deliver(connection, usize::from(program.byte().unwrap_or(1))),
            14 | 15 => self.take(connection, usize::from(program.byte().unwrap_or(1)) * 8),
            16..=18 => self.events(),
            19..=22 => self.complete(program),
            23 => {
                self.events();
                let task = self.executing.pop().map(|command| command.task);
                task.inspect(|task| assert!(self.session.abort_task(*task)));
            }
            24 => {
                self.session.retry_blocked(&mut self.pool);
            }
            25 => self.connect(),
            26 => self.session.remove_connection(connection),
            27 => self.session.close(connection),
            28 => {
                self.now_ns += u64::from(program.byte().unwrap_or(0)) << 28;
                self.session.handle_timeout(self.now_ns);
                assert!(self.session.next_deadline().is_none_or(|deadline_ns| deadline_ns > self.now_ns));
            }
            29 => self.session.notify(connection, AsyncNotice::LogoutRequest { within_s: 1 }),
            30 => self.session.abort_logical_unit((step & 0x20 != 0).then_some(0)),
            _ => self.answer(program),
        }
    }

    /// Queues a PDU that is mostly sound: the program says what is not.
    fn send(&mut self, connection: ConnectionIndex, step: u8, program: &mut Program<'_>) {
        let opcode = OPCODES[usize::from(program.byte().unwrap_or(0) % 16)];
        let flags = program.byte().unwrap_or(0x80);
        let length = usize::from(program.byte().unwrap_or(0)) * 5;
        let mut header = ScsiCommand::new_zeroed();
        header.opcode_and_immediate = opcode;
        header.flags = flags;
        header.data_segment_length = U24::new(length);
        header.itt = u32::from(program.byte().unwrap_or(0) % 16).into();
        header.expected_data_transfer_length = program.word().into();
        header.cmd_sn = self.cmd_sn.into();
        header.cdb[0] = program.byte().unwrap_or(0);
        if opcode & 0x40 == 0 && Opcode(opcode & OPCODE_MASK) != Opcode::DATA_OUT {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        let mut bytes = header.as_bytes().to_vec();
        if Opcode(opcode & OPCODE_MASK) == Opcode::DATA_OUT {
            self.shape_data_out(&mut bytes, step, program);
        }
        if step & 0x20 != 0 {
            let at = 1 + usize::from(program.byte().unwrap_or(0)) % 47;
            bytes[at] = program.byte().unwrap_or(0);
        }
        let announced = usize::from(bytes[4]) * 4;
        bytes.extend((0..announced).map(|_| program.byte().unwrap_or(0)));
        self.append(connection, bytes, length);
    }

    /// Data-Out that answers the last R2T, or is unsolicited.
    fn shape_data_out(&mut self, bytes: &mut [u8], step: u8, program: &mut Program<'_>) {
        let mut header = DataOut::new_zeroed();
        header.as_mut_bytes().copy_from_slice(bytes);
        header.ttt = RESERVED_TAG.into();
        header.data_sn = u32::from(program.byte().unwrap_or(0) % 4).into();
        header.buffer_offset_bytes = (u32::from(program.byte().unwrap_or(0)) * 5).into();
        if let Some(r2t) = self.last_r2t
            && step & 1 != 0
        {
            header.itt = r2t.itt;
            header.ttt = r2t.ttt;
            header.buffer_offset_bytes = r2t.buffer_offset_bytes;
            let wanted = r2t.desired_length_bytes.get() as usize;
            header.data_segment_length = U24::new(wanted.min(1024));
            header.flags = if wanted <= 1024 { 0x80 } else { 0 };
            header.data_sn = 0.into();
        }
        bytes.copy_from_slice(header.as_bytes());
    }

    fn append(&mut self, connection: ConnectionIndex, mut bytes: Vec<u8>, salt: usize) {
        if self.negotiated.header_digest.is_on() {
            let sum = digest(&bytes);
            bytes.extend(sum);
        }
        let length = Bhs::from_prefix(&bytes).expect("a header").0.data_bytes().min(1100);
        let start = bytes.len();
        bytes.extend((0..length).map(|n| b"SendTargets=All\0"[(n + salt) % 16]));
        bytes.extend(vec![0; pad_bytes(length)]);
        if self.negotiated.data_digest.is_on() && length > 0 {
            let mut sum = digest(&bytes[start..]);
            // Now and then a wrong one.
            sum[0] ^= u8::from(salt % 11 == 10);
            bytes.extend(sum);
        }
        self.unread[usize::from(connection.0)].extend(bytes);
    }

    fn deliver(&mut self, connection: ConnectionIndex, units: usize) {
        let unread = &mut self.unread[usize::from(connection.0)];
        let mut given = (units * 8).max(1).min(unread.len());
        if units & 1 != 0
            && let Some(destination) = self.session.payload_destination(connection)
        {
            let direct = destination.len().min(given);
            destination[..direct].copy_from_slice(&unread[..direct]);
            self.session.payload_received(connection, self.now_ns, direct);
            unread.drain(..direct);
            given -= direct;
        }
        match self.session.handle_bytes(connection, self.now_ns, &unread[..given], &mut self.pool) {
            Ok(consumed) => {
                assert!(consumed == given || self.session.blocked(connection).is_some());
                unread.drain(..consumed);
            }
            Err(_) => unread.clear(),
        }
    }

    /// Takes output; what was taken so far must be whole PDUs and the start of one.
    fn take(&mut self, connection: ConnectionIndex, most: usize) {
        let mut slices = [IoSlice::new(&[]); 5];
        let filled = self.session.tx_slices(connection, &mut slices);
        let shown = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
        let taken: Vec<u8> = shown.take(most).collect();
        self.session.tx_advance(connection, taken.len());
        let sent = &mut self.sent[usize::from(connection.0)];
        sent.extend(taken);
        let (header_digest, data_digest) =
            (self.negotiated.header_digest.is_on(), self.negotiated.data_digest.is_on());
        while let Some((bhs, _)) = Bhs::from_prefix(sent) {
            assert!(bhs.opcode().0 >= 0x20, "a target's opcode");
            let layout = bhs.layout(header_digest, data_digest);
            if sent.len() < layout.total_bytes {
                return;
            }
            if header_digest {
                assert_eq!(sent[BHS_BYTES..BHS_BYTES + 4], digest(&sent[..BHS_BYTES]));
            }
            if bhs.opcode() == Opcode::R2T {
                self.last_r2t = Some(*R2t::view(bhs));
            }
            sent.drain(..layout.total_bytes);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(command) => {
                    assert!(self.given_out.insert(command.task), "a task is given out once");
                    let expected =
                        u64::from(command.expected_data_transfer_length).min(command.data_out_wanted);
                    let held = command.data_out.as_ref().map_or(0, |data| data.len() as u64);
                    assert_eq!(held, if command.write { expected } else { 0 });
                    self.executing.push(command);
                }
                Event::TaskAborted { task } => self.executing.retain(|command| command.task != task),
                Event::TaskManagement(request) => self.requests.push(request.id),
                Event::Text(query) => self.requests.push(query.id),
                Event::Logout(request) => self.requests.push(request.id),
                Event::CloseConnection { connection, .. } => self.session.remove_connection(connection),
            }
        }
    }

    fn complete(&mut self, program: &mut Program<'_>) {
        self.events();
        if self.executing.is_empty() {
            return;
        }
        let index = usize::from(program.byte().unwrap_or(0)) % self.executing.len();
        let command = self.executing.swap_remove(index);
        let length = usize::from(program.byte().unwrap_or(0)) * 9;
        let sense = [0x70, 0, 5];
        let completion = Completion {
            status: program.byte().unwrap_or(0) & 2,
            target_failure: length == 9,
            sense: if length % 2 == 0 { &[] } else { &sense },
            data_in: (length > 0).then(|| self.pool.take(length)),
            data_in_length: length as u64,
            data_out_length: command.data_out_wanted,
        };
        assert!(self.session.complete(command.task, completion), "an executing task is not stale");
    }

    fn answer(&mut self, program: &mut Program<'_>) {
        let Some(id) = self.requests.pop() else { return };
        let mut records = TargetRecords::new();
        for _ in 0..program.byte().unwrap_or(0) {
            records.target("iqn.2026-01.io.example:target");
        }
        // Only one of these knows the id.
        let answered = [
            self.session.complete_text(id, &records),
            self.session.complete_logout(id),
            self.session.complete_task_management(id, TmfResponse::COMPLETE),
        ];
        assert!(answered.iter().filter(|answered| **answered).count() <= 1);
    }

    fn end(mut self) {
        self.events();
        for index in 0..8 {
            self.session.remove_connection(ConnectionIndex(index));
            self.session.remove_connection(ConnectionIndex(index));
        }
        self.events();
        assert!(self.executing.is_empty(), "every task that was given out is reported");
        assert_eq!(self.session.task_count(), 0);
        assert!(!self.session.wants_memory() && self.session.next_deadline().is_none());
        assert_eq!(self.pool.live_bytes.get(), 0, "no buffer is lost");
    }
}

#[cfg(test)]
mod tests {
    /// A few thousand random programs without a fuzzer.
    #[test]
    fn random_programs() {
        let mut state = 1u64;
        for _ in 0..3000 {
            let mut program = Vec::with_capacity(400);
            for _ in 0..400 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                program.push((state >> 33) as u8);
            }
            super::session(&program);
        }
    }
}

//! A whole target queue under a hostile host, a layer above that completes in any order, and too little memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;

use nvme_spec::tcp::PduType;
use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};
use zerocopy::little_endian::{U16, U32};

use super::input::Input;
use super::pdu::negotiated;
use crate::connection::TargetConfig;
use crate::target::{CloseCause, CommandId, Event, QueueParams, TargetQueue};
use crate::testing::wire::{Pdu, Wire};
use crate::testing::{Chunks, TestAdmission};

const ENTRIES: u32 = 8;
const POOL_BYTES: usize = 20_000;

/// All bytes to send.
pub(super) fn drain(queue: &mut TargetQueue<Chunks>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while queue.tx_queued_bytes() > 0 {
        let mut out = [IoSlice::new(&[]); 4];
        let filled = queue.tx_chunks(&mut out);
        let before = bytes.len();
        out[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        assert!(bytes.len() > before);
        queue.tx_advance(bytes.len() - before);
    }
    bytes
}

struct World {
    queue: TargetQueue<Chunks>,
    admission: TestAdmission,
    host: Wire,
    target: Wire,
    /// Everything that was sent.
    sent: Vec<u8>,
    /// Bytes that the queue has not taken.
    unread: Vec<u8>,
    executing: BTreeMap<u32, (u16, u32)>,
    /// CIDs and how often each was sent as the answer's.
    given_out: usize,
    answered: usize,
    sequences: BTreeSet<u32>,
    violated: bool,
    closed: bool,
}

impl World {
    fn new(choice: u8) -> Self {
        let negotiated = negotiated(choice);
        let wire = |alignment_bytes: u8| Wire {
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: usize::from(alignment_bytes),
        };
        let config = TargetConfig {
            h2c_data_bytes_max: 4096,
            c2h_data_bytes_max: 1000,
            r2t_bytes_max: 2000,
            r2ts_max: 3,
            tx_backlog_bytes: 10_000,
            ..TargetConfig::default()
        };
        let mut queue = TargetQueue::resume(config, negotiated);
        let sq_flow_control = choice & 0x80 != 0;
        queue.connected(QueueParams { entries: ENTRIES, in_capsule_bytes: 0, sq_flow_control });
        let mut admission = TestAdmission::default();
        admission.chunk_bytes = 300;
        admission.set_budget(POOL_BYTES);
        Self {
            queue,
            admission,
            host: wire(negotiated.receive_alignment_bytes),
            target: wire(negotiated.send_alignment_bytes),
            sent: Vec::new(),
            unread: Vec::new(),
            executing: BTreeMap::new(),
            given_out: 0,
            answered: 0,
            sequences: BTreeSet::new(),
            violated: false,
            closed: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let mut taken = 0;
        if self.unread.len().is_multiple_of(2)
            && let Some(room) = self.queue.wanted()
        {
            taken = room.len().min(self.unread.len());
            room[..taken].copy_from_slice(&self.unread[..taken]);
            self.queue.received(taken);
        }
        match self.queue.handle_bytes(&self.unread[taken..], &mut self.admission) {
            Ok(consumed) => {
                assert!(taken + consumed == self.unread.len() || self.queue.blocked().is_some());
                self.unread.drain(..taken + consumed);
            }
            Err(_) => {
                assert!(!self.violated, "a queue ends once");
                self.violated = true;
                self.unread.clear();
            }
        }
        assert!(self.queue.command_count() <= ENTRIES as usize);
    }

    /// A capsule that is sound as a PDU.
    fn send_capsule(&mut self, input: &mut Input<'_>) {
        let (cid, opcode, kind) = (input.u8() & 15, input.u8() & 3, input.u8());
        let length = usize::from(input.u16()) % 9000;
        let mut sqe = Sqe { opcode, cid: U16::new(u16::from(cid)), ..Sqe::default() };
        sqe.cdw15 = U32::new(if kind & 0x80 != 0 { length as u32 / 2 } else { 0 });
        let length = length.min(8192);
        let in_capsule = kind & 1 == 0;
        sqe.set_sgl(match in_capsule {
            true => SglDescriptor::in_capsule(u64::from(kind >> 5 & 1), length as u32),
            false => SglDescriptor::transport(length as u32),
        });
        let data = if in_capsule { vec![cid; length] } else { Vec::new() };
        let mut wire = self.host.capsule(&sqe, &data);
        if kind & 0x1e == 0x1e {
            let at = wire.len() - 1;
            wire[at] ^= 1;
        }
        self.feed(&wire);
    }

    /// An answer to one of the R2Ts that were ever sent, sound or nearly so.
    fn send_data(&mut self, input: &mut Input<'_>) {
        self.sent.extend(drain(&mut self.queue));
        let (which, kind, part) = (input.u8(), input.u8(), input.u16());
        let r2ts: Vec<(u16, u16, u32, u32)> = self
            .target
            .parse_all(&self.sent[..Wire::whole_bytes(&self.sent)])
            .into_iter()
            .filter_map(|pdu| match pdu {
                Pdu::R2t { cccid, ttag, r2to, r2tl } => Some((cccid, ttag, r2to, r2tl)),
                _ => None,
            })
            .collect();
        let Some(back) = r2ts.len().checked_sub(1 + usize::from(which & 7)) else { return };
        let (cccid, ttag, r2to, r2tl) = r2ts[back];
        let first = match kind & 1 {
            0 => r2tl,
            _ => u32::from(part) % r2tl + 1,
        };
        let change = u16::from(kind & 0x1e == 0x1e);
        let last = if first == r2tl { 4 } else { 0 };
        let mut wire = self.host.h2c_data(cccid, ttag ^ change, r2to, last, &vec![which; first as usize]);
        if kind & 0x60 == 0x60 {
            let at = wire.len() - 1;
            wire[at] ^= 1;
        }
        if first < r2tl && kind & 0x80 == 0 {
            let rest = (r2tl - first) as usize;
            wire.extend(self.host.h2c_data(cccid, ttag, r2to + first, 4, &vec![which; rest]));
        }
        self.feed(&wire);
    }

    fn next_event(&mut self) {
        match self.queue.next_event() {
            Some(Event::Command(command)) => {
                assert!(!self.closed && !self.violated, "nothing new after the end");
                assert!(command.fault.is_none() || command.data.is_none());
                assert!(self.sequences.insert(command.sequence), "each command is given out once");
                assert!(command.id.slot() < ENTRIES as usize);
                let before =
                    self.executing.insert(command.id.to_u32(), (command.sqe.cid.get(), command.sgl_bytes));
                assert!(before.is_none());
                self.given_out += 1;
            }
            Some(Event::Close(cause)) => {
                assert!(!self.closed && matches!(cause, CloseCause::Violation(_)) == self.violated);
                self.closed = true;
            }
            Some(Event::Initialized(_)) => panic!("it was before"),
            None => {}
        }
    }

    fn complete(&mut self, input: &mut Input<'_>) {
        let (which, kind) = (usize::from(input.u8()), input.u8());
        let Some((&id, &(_, sgl_bytes))) = self.executing.iter().nth(which % self.executing.len().max(1))
        else {
            assert!(!self.queue.complete(CommandId::from_u32(which as u32), Cqe::default()));
            return;
        };
        self.executing.remove(&id);
        let id = CommandId::from_u32(id);
        let status = if kind & 1 == 0 { Status::SUCCESS } else { Status::INTERNAL_ERROR };
        let length = (usize::from(kind) * 17).min(sgl_bytes as usize);
        let answered = if kind & 2 == 0 {
            self.queue.complete(id, Cqe::new(0, status))
        } else {
            self.queue.complete_read(id, Cqe::new(0, status), Chunks::blank(length, 100))
        };
        assert!(answered || self.violated || self.queue.blocked().is_some());
        self.answered += usize::from(answered);
        assert!(!self.queue.complete(id, Cqe::new(0, status)), "the id is stale");
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 12 {
            0 | 1 => self.send_capsule(input),
            2 | 3 => self.send_data(input),
            4 => {
                let length = usize::from(input.u8());
                let bytes = input.take(length);
                self.feed(bytes);
            }
            5 | 6 => self.next_event(),
            7 => self.complete(input),
            8 => {
                let wanted = usize::from(input.u16());
                let mut out = [IoSlice::new(&[]); 2];
                let filled = self.queue.tx_chunks(&mut out);
                let before = self.sent.len();
                let bytes = out[..filled].iter().flat_map(|slice| slice.iter().copied());
                self.sent.extend(bytes.take(wanted));
                self.queue.tx_advance(self.sent.len() - before);
            }
            9 => drop(self.queue.abort(u16::from(input.u8() & 15))),
            10 => {
                if input.u8() == 0xff {
                    self.queue.interrupt(Status::NAMESPACE_NOT_READY);
                }
                self.queue.retry(&mut self.admission);
                self.feed(&[]);
            }
            _ if input.u8() == 0xff => self.queue.close(),
            _ => {}
        }
    }

    /// The host reads everything and sends nothing more.
    fn end(mut self) {
        for _ in 0..200 {
            self.next_event();
        }
        while !self.executing.is_empty() {
            self.complete(&mut Input::new(&[]));
        }
        self.sent.extend(drain(&mut self.queue));
        for _ in 0..20 {
            self.next_event();
        }
        let executing = self.executing.len();
        while !self.executing.is_empty() {
            self.complete(&mut Input::new(&[]));
        }
        assert_eq!(self.closed, self.queue.blocked() == Some(crate::Blocked::Closing));
        self.sent.extend(drain(&mut self.queue));
        // A host that ends the connection gets no more, not even the rest of a PDU.
        let whole_bytes = Wire::whole_bytes(&self.sent);
        assert!(whole_bytes == self.sent.len() || self.closed && !self.violated);
        let mut answers = 0;
        for pdu in self.target.parse_all(&self.sent[..whole_bytes]) {
            match pdu {
                Pdu::CapsuleResp(_) => answers += 1,
                Pdu::C2hData { flags, .. } => answers += usize::from(flags & 8 != 0),
                Pdu::TermReq { pdu_type, .. } => assert!(self.violated && pdu_type == PduType::C2H_TERM_REQ),
                Pdu::R2t { .. } => {}
                other => panic!("a controller does not send {other:?}"),
            }
        }
        assert!(answers == self.answered || self.closed && !self.violated && answers <= self.answered);
        assert!(self.answered <= self.given_out && executing <= ENTRIES as usize);
        let Self { queue, admission, .. } = self;
        drop(queue);
        assert_eq!(admission.budget_bytes(), POOL_BYTES, "every buffer comes back");
    }
}

/// Any host, any order of completions, any end.
pub fn target_queue(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.u8());
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.end();
}

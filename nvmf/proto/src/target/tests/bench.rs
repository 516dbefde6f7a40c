//! The driver's part in a test: feeds bytes, drains events, parses what is sent.

use std::io::IoSlice;

use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use crate::connection;
use crate::target::*;
pub use crate::testing::pattern;
use crate::testing::wire::{Pdu, Wire};
use crate::testing::{Chunks, TestAdmission};
use crate::{HostConfig, Violation};

/// An opcode that takes data from the host.
pub const WRITE: u8 = 0x01;
/// An opcode that gives data to the host.
pub const READ: u8 = 0x02;

pub fn sqe(cid: u16, opcode: u8, sgl: SglDescriptor) -> Sqe {
    let mut sqe = Sqe { opcode, cid: U16::new(cid), ..Sqe::default() };
    sqe.set_sgl(sgl);
    sqe
}

/// How a test wants its connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub host: HostConfig,
    pub target: TargetConfig,
    pub sq_flow_control: bool,
}

impl Options {
    pub fn with_digests() -> Self {
        let mut options = Self::default();
        options.host.header_digest = true;
        options.host.data_digest = true;
        options
    }
}

pub struct Bench {
    pub queue: TargetQueue<Chunks>,
    pub admission: TestAdmission,
    /// As the host sends.
    pub host: Wire,
    /// As the queue sends.
    pub target: Wire,
    /// Bytes that were not consumed yet.
    pub unread: Vec<u8>,
    /// Bytes per call.
    pub cut: usize,
    /// Receive in place what wants to be.
    pub in_place: bool,
}

impl Bench {
    /// Behind ICReq, before Connect.
    pub fn initialized(options: Options) -> Self {
        let mut queue = TargetQueue::new(options.target);
        let mut admission = TestAdmission::default();
        let request = connection::request(&options.host);
        queue.handle_bytes(request.as_bytes(), &mut admission).expect("a sound ICReq");
        let Some(Event::Initialized(negotiated)) = queue.next_event() else { panic!("it is answered") };
        let wire = |alignment_bytes: u8| Wire {
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: usize::from(alignment_bytes),
        };
        let mut bench = Self {
            host: wire(negotiated.receive_alignment_bytes),
            target: wire(negotiated.send_alignment_bytes),
            queue,
            admission,
            unread: Vec::new(),
            cut: usize::MAX,
            in_place: false,
        };
        assert!(matches!(bench.sent()[..], [Pdu::IcResp(_)]));
        bench
    }

    /// Behind Connect, with 16 entries and 16 KiB in capsules.
    pub fn connected(options: Options) -> Self {
        let mut bench = Self::initialized(options);
        bench.queue.connected(QueueParams {
            entries: 16,
            in_capsule_bytes: 16384,
            sq_flow_control: options.sq_flow_control,
        });
        bench
    }

    /// Gives bytes to the queue, as many as it takes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.unread.extend_from_slice(bytes);
        while !self.unread.is_empty() {
            let before = self.unread.len();
            if self.in_place
                && let Some(room) = self.queue.wanted()
            {
                let taken = room.len().min(before).min(self.cut);
                room[..taken].copy_from_slice(&self.unread[..taken]);
                self.unread.drain(..taken);
                self.queue.received(taken);
                self.queue.handle_bytes(&[], &mut self.admission)?;
                continue;
            }
            let piece: Vec<u8> = self.unread[..before.min(self.cut)].to_vec();
            let consumed = self.queue.handle_bytes(&piece, &mut self.admission)?;
            self.unread.drain(..consumed);
            if consumed < piece.len() {
                assert!(self.queue.blocked().is_some());
                break;
            }
        }
        Ok(())
    }

    pub fn capsule(&mut self, sqe: &Sqe, data: &[u8]) -> Result<(), Violation> {
        self.feed(&self.host.capsule(sqe, data))
    }

    /// The next event, a command.
    pub fn command(&mut self) -> Command<Chunks> {
        match self.queue.next_event() {
            Some(Event::Command(command)) => command,
            other => panic!("a command is expected, not {other:?}"),
        }
    }

    pub fn no_event(&mut self) {
        let event = self.queue.next_event();
        assert!(event.is_none(), "{event:?}");
    }

    /// Takes all bytes to send, a few at a time.
    pub fn sent_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.queue.tx_queued_bytes() > 0 {
            let mut out = [IoSlice::new(&[]); 3];
            let filled = self.queue.tx_chunks(&mut out);
            let shown: usize = out[..filled].iter().map(|slice| slice.len()).sum();
            let taken = shown.min(1000);
            bytes.extend(out[..filled].iter().flat_map(|slice| slice.iter().copied()).take(taken));
            self.queue.tx_advance(taken);
        }
        bytes
    }

    pub fn sent(&mut self) -> Vec<Pdu> {
        let bytes = self.sent_bytes();
        self.target.parse_all(&bytes)
    }

    pub fn complete(&mut self, id: CommandId) {
        assert!(self.queue.complete(id, cqe(Status::SUCCESS)));
    }
}

pub fn cqe(status: Status) -> Cqe {
    Cqe::new(0, status)
}

/// A completion queue entry as the host sees it.
pub fn answered(cid: u16, status: Status) -> Pdu {
    Pdu::CapsuleResp(Cqe::new(cid, status))
}

pub fn with_length(mut sqe: Sqe, length_bytes: u32) -> Sqe {
    sqe.cdw15 = U32::new(length_bytes);
    sqe
}

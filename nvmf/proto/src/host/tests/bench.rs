//! The driver's part in a test: submits, feeds bytes, drains events, parses what is sent.

use std::io::IoSlice;

use nvme_spec::{Cqe, Sqe, Status};
use zerocopy::IntoBytes;

use crate::connection;
use crate::host::*;
use crate::testing::Chunks;
pub use crate::testing::pattern;
use crate::testing::wire::{PLAIN, Pdu, Wire};
use crate::{HostConfig, TargetConfig, Violation};

pub fn with_digests() -> HostConfig {
    HostConfig { header_digest: true, data_digest: true, ..HostConfig::default() }
}

pub struct Bench {
    pub queue: HostQueue<Chunks>,
    /// As the queue sends.
    pub host: Wire,
    /// As the controller sends.
    pub target: Wire,
    /// Bytes per call.
    pub cut: usize,
    pub in_place: bool,
}

impl Bench {
    /// Behind ICResp.
    pub fn open(config: HostConfig, target: TargetConfig) -> Self {
        let queue = HostQueue::new(config);
        let mut bench = Self { queue, host: PLAIN, target: PLAIN, cut: usize::MAX, in_place: false };
        let [Pdu::IcReq(request)] = &bench.sent()[..] else { panic!("ICReq comes first") };
        let (negotiated, response) = connection::answer(request, &target).expect("it is sound");
        bench.feed(response.as_bytes()).unwrap();
        let Some(HostEvent::Initialized(agreed)) = bench.queue.next_event() else { panic!() };
        assert_eq!(Some(&agreed), bench.queue.negotiated());
        let wire = |alignment_bytes: u8| Wire {
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: usize::from(alignment_bytes),
        };
        bench.host = wire(negotiated.receive_alignment_bytes);
        bench.target = wire(negotiated.send_alignment_bytes);
        bench
    }

    pub fn new(config: HostConfig) -> Self {
        Self::open(config, TargetConfig::default())
    }

    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if self.in_place
                && let Some(room) = self.queue.wanted()
            {
                let (now, rest) = bytes.split_at(room.len().min(bytes.len()).min(self.cut));
                room[..now.len()].copy_from_slice(now);
                bytes = rest;
                self.queue.received(now.len());
                self.queue.handle_bytes(&[])?;
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.cut));
            bytes = rest;
            self.queue.handle_bytes(now)?;
        }
        Ok(())
    }

    /// Submits a command and takes what it sends.
    pub fn submit(&mut self, data: HostData<Chunks>) -> (u16, Vec<Pdu>) {
        let cid = self.queue.submit(Sqe::default(), data).expect("there is room");
        (cid, self.sent())
    }

    pub fn completed(&mut self) -> Completion<Chunks> {
        match self.queue.next_event() {
            Some(HostEvent::Completed(completion)) => completion,
            other => panic!("a completion is expected, not {other:?}"),
        }
    }

    pub fn no_event(&mut self) {
        let event = self.queue.next_event();
        assert!(event.is_none(), "{event:?}");
    }

    pub fn respond(&mut self, cid: u16, status: Status) -> Result<(), Violation> {
        self.feed(&self.target.response(Cqe::new(cid, status)))
    }

    pub fn sent(&mut self) -> Vec<Pdu> {
        let mut bytes = Vec::new();
        while self.queue.tx_queued_bytes() > 0 {
            bytes.extend(self.take(1000));
        }
        self.host.parse_all(&bytes)
    }

    /// Takes up to so many bytes to send.
    pub fn take(&mut self, at_most: usize) -> Vec<u8> {
        let mut out = [IoSlice::new(&[]); 3];
        let filled = self.queue.tx_chunks(&mut out);
        let bytes: Vec<u8> =
            out[..filled].iter().flat_map(|slice| slice.iter().copied()).take(at_most).collect();
        self.queue.tx_advance(bytes.len());
        bytes
    }
}

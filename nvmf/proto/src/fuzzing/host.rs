//! A whole host queue under a hostile controller that breaks off at any point.

use std::collections::BTreeMap;
use std::io::IoSlice;

use nvme_spec::{Cqe, Sqe, Status};
use zerocopy::IntoBytes;

use super::input::Input;
use crate::connection::{HostConfig, TargetConfig, answer, request};
use crate::host::{HostData, HostEvent, HostQueue};
use crate::testing::Chunks;
use crate::testing::wire::{Pdu, Wire};

struct World {
    queue: HostQueue<Chunks>,
    host: Wire,
    target: Wire,
    /// Bytes that were sent, from the first whole PDU that was not looked at.
    sent: Vec<u8>,
    /// What was submitted: by CID, whether it is a read and how long its buffer is.
    in_flight: BTreeMap<u16, (bool, usize)>,
    violated: bool,
    closed: bool,
}

impl World {
    fn new(choice: u8) -> Self {
        let config = HostConfig {
            header_digest: choice & 1 != 0,
            data_digest: choice & 2 != 0,
            hpda: choice >> 2 & 7,
            r2ts_max: u32::from(choice >> 5 & 1) + 1,
            commands_max: 6,
            in_capsule_bytes: 1000,
        };
        let target = TargetConfig { cpda: choice >> 6, h2c_data_bytes_max: 4096, ..TargetConfig::default() };
        let (negotiated, response) = answer(&request(&config), &target).expect("both are sound");
        let wire = |alignment_bytes: u8| Wire {
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: usize::from(alignment_bytes),
        };
        let mut queue = HostQueue::new(config);
        let mut world_sent = 0;
        while queue.tx_queued_bytes() > 0 {
            queue.tx_advance(1);
            world_sent += 1;
        }
        assert_eq!(world_sent, 128);
        queue.handle_bytes(response.as_bytes()).expect("it is sound");
        assert!(matches!(queue.next_event(), Some(HostEvent::Initialized(_))));
        Self {
            queue,
            host: wire(negotiated.receive_alignment_bytes),
            target: wire(negotiated.send_alignment_bytes),
            sent: Vec::new(),
            in_flight: BTreeMap::new(),
            violated: false,
            closed: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        if bytes.len().is_multiple_of(2)
            && let Some(room) = self.queue.wanted()
        {
            let (now, rest) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.queue.received(now.len());
            bytes = rest;
        }
        if self.queue.handle_bytes(bytes).is_err() {
            assert!(!self.violated, "a queue ends once");
            self.violated = true;
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let (kind, length) = (input.u8(), usize::from(input.u16()) % 10_000);
        let data = match kind & 3 {
            0 => HostData::None,
            1 => HostData::Write(Chunks::blank(length, 400)),
            2 => HostData::Read(Chunks::blank(length, 400)),
            _ => HostData::ReadAtMost(Chunks::blank(length, 400)),
        };
        let can_submit = self.queue.can_submit();
        let length = if kind & 3 == 0 { 0 } else { length };
        match self.queue.submit(Sqe::default(), data) {
            Ok(cid) => {
                assert!(can_submit && HostQueue::<Chunks>::slot_of(cid) < 6);
                let before = self.in_flight.insert(cid, (kind & 2 != 0, length));
                assert!(before.is_none(), "a CID names one command");
            }
            Err(_) => assert!(!can_submit),
        }
    }

    /// What a controller sends about one of the commands in flight, sound or nearly so.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (what, which, flags) = (input.u8(), usize::from(input.u8()), input.u8() & 12);
        let (offset, length) = (u32::from(input.u16() % 10_500), usize::from(input.u16()) % 10_500);
        let cid = self.in_flight.keys().nth(which % self.in_flight.len().max(1)).copied();
        let cid = cid.unwrap_or(0) ^ if which > 250 { 1 << (which - 246) } else { 0 };
        let mut wire = match what % 4 {
            0 => self.target.response(Cqe::new(cid, Status::SUCCESS)),
            1 => self.target.response(Cqe::new(cid, Status::INTERNAL_ERROR)),
            2 => self.target.c2h_data(cid, offset, flags, &vec![1; length]),
            _ => self.target.r2t(cid, 0x1234, offset, length as u32),
        };
        if what & 0xfc == 0xfc {
            let at = wire.len() - 1;
            wire[at] ^= 1;
        }
        self.feed(&wire);
    }

    /// A read that is served well.
    fn serve(&mut self, input: &mut Input<'_>) {
        let cut = usize::from(input.u8()) + 1;
        let reads = |(_, (is_read, length)): &(&u16, &(bool, usize))| *is_read && *length > 0;
        let Some((&cid, &(_, length))) = self.in_flight.iter().find(reads) else { return };
        for piece in self.target.c2h_data(cid, 0, 12, &vec![7; length]).chunks(cut) {
            self.feed(piece);
        }
    }

    fn next_event(&mut self) {
        match self.queue.next_event() {
            Some(HostEvent::Completed(completion)) => {
                let (is_read, length) =
                    self.in_flight.remove(&completion.cid).expect("a command completes once");
                let data = completion.data;
                assert_eq!(data.as_ref().map_or(0, |data| data.bytes().len()), length);
                assert!(completion.received_bytes as usize <= length);
                assert!(is_read || completion.received_bytes == 0);
                assert_eq!(completion.cqe.cid.get(), completion.cid);
            }
            Some(HostEvent::Close(_)) => {
                assert!(!self.closed);
                self.closed = true;
            }
            Some(HostEvent::Initialized(_)) => panic!("it was before"),
            None => {}
        }
    }

    fn take(&mut self, at_most: usize) {
        let mut out = [IoSlice::new(&[]); 3];
        let filled = self.queue.tx_chunks(&mut out);
        let before = self.sent.len();
        let bytes = out[..filled].iter().flat_map(|slice| slice.iter().copied());
        self.sent.extend(bytes.take(at_most));
        self.queue.tx_advance(self.sent.len() - before);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 10 {
            0 | 1 => self.submit(input),
            2 | 3 => self.answer(input),
            4 => self.serve(input),
            5 => self.next_event(),
            6 => {
                let length = usize::from(input.u16());
                self.take(length);
            }
            7 => self.take(usize::MAX),
            8 => {
                let length = usize::from(input.u8());
                let bytes = input.take(length);
                self.feed(bytes);
            }
            _ if input.u8() == 0xff => self.queue.close(),
            _ => {}
        }
    }

    fn end(mut self, breaks_off: bool) {
        if !breaks_off {
            while self.queue.tx_queued_bytes() > 0 {
                self.take(usize::MAX);
            }
            // A controller that ends the connection gets no more, not even the rest of a PDU.
            let whole_bytes = Wire::whole_bytes(&self.sent);
            assert!(whole_bytes == self.sent.len() || !self.violated);
            for pdu in self.host.parse_all(&self.sent[..whole_bytes]) {
                let of_host =
                    matches!(pdu, Pdu::CapsuleCmd { .. } | Pdu::H2cData { .. } | Pdu::TermReq { .. });
                assert!(of_host, "{pdu:?}");
            }
        }
        self.queue.disconnected();
        for _ in 0..20 {
            self.next_event();
        }
        while let Some(unfinished) = self.queue.take_unfinished() {
            let (_, length) = self.in_flight.remove(&unfinished.cid).expect("it was submitted");
            assert_eq!(unfinished.data.map_or(0, |data| data.bytes().len()), length);
        }
        assert!(self.in_flight.is_empty(), "every command comes back");
        assert_eq!((self.queue.in_flight(), self.queue.tx_queued_bytes()), (0, 0));
    }
}

/// Any controller, any end. Its ICResp is sound; those that are not are for [`super::pdu`].
pub fn host_queue(data: &[u8]) {
    let mut input = Input::new(data);
    let breaks_off = input.u8() & 1 != 0;
    let mut world = World::new(input.u8());
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.end(breaks_off);
}

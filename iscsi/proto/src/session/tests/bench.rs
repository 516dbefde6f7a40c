//! The driver's part in a test: feeds bytes, drains events, parses what is sent.

use std::io::IoSlice;

use zerocopy::{FromZeros, IntoBytes};

use crate::digest::digest;
use crate::params::{DigestType, Negotiated, SessionType};
use crate::pdu::*;
use crate::session::testing::{Chunks, TestHost};
use crate::session::*;

pub const LUN: u64 = 0x0001_0000_0000_0000;
pub const FIRST_CMD_SN: u32 = 0xffff_fffe;
pub const FIRST_STAT_SN: u32 = 0xffff_fff0;

/// A PDU in the making or as parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    pub bhs: [u8; BHS_BYTES],
    pub ahs: Vec<u8>,
    pub data: Vec<u8>,
}

impl Pdu {
    pub fn new(header: impl IntoBytes + zerocopy::Immutable, data: &[u8]) -> Self {
        let mut bhs = [0; BHS_BYTES];
        bhs.copy_from_slice(header.as_bytes());
        bhs[5..8].copy_from_slice(&U24::new(data.len()).0);
        Self { bhs, ahs: Vec::new(), data: data.to_vec() }
    }

    pub fn header<T>(&self) -> T
    where
        T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable,
    {
        T::read_from_bytes(&self.bhs).expect("every header is 48 bytes")
    }

    pub fn opcode(&self) -> Opcode {
        Opcode(self.bhs[0] & OPCODE_MASK)
    }

    pub fn wire(&self, header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut bytes = self.bhs.to_vec();
        bytes[4] = (self.ahs.len() / 4) as u8;
        bytes.extend(&self.ahs);
        if header_digest {
            let sum = digest(&bytes);
            bytes.extend(sum);
        }
        let start = bytes.len();
        bytes.extend(&self.data);
        bytes.extend(vec![0; pad_bytes(self.data.len())]);
        if data_digest && !self.data.is_empty() {
            let sum = digest(&bytes[start..]);
            bytes.extend(sum);
        }
        bytes
    }

    /// All PDUs of a stream; it must end with a whole one.
    pub fn parse_all(mut bytes: &[u8], header_digest: bool, data_digest: bool) -> Vec<Self> {
        let mut pdus = Vec::new();
        while !bytes.is_empty() {
            let (bhs, _) = Bhs::from_prefix(bytes).expect("a whole header");
            let layout = bhs.layout(header_digest, data_digest);
            assert!(bytes.len() >= layout.total_bytes, "a whole PDU");
            if header_digest {
                assert_eq!(bytes[48..52], digest(&bytes[..48]), "header digest");
            }
            let data = &bytes[layout.data_start..layout.data_start + layout.data_bytes];
            if data_digest && layout.data_bytes > 0 {
                let padded = &bytes[layout.data_start..layout.data_end];
                assert_eq!(bytes[layout.data_end..layout.total_bytes], digest(padded), "data digest");
            }
            pdus.push(Self {
                bhs: bytes[..48].try_into().expect("48"),
                ahs: Vec::new(),
                data: data.to_vec(),
            });
            bytes = &bytes[layout.total_bytes..];
        }
        pdus
    }
}

/// Values that let everything through: no initial R2T, small bursts so that tests meet the limits.
pub fn negotiated() -> Negotiated {
    Negotiated {
        our_max_recv_data_segment_length: 8192,
        their_max_recv_data_segment_length: 4096,
        max_burst_length: 16384,
        first_burst_length: 8192,
        initial_r2t: false,
        max_connections: 8,
        max_outstanding_r2t: 2,
        ..Negotiated::default()
    }
}

pub fn with_digests(negotiated: Negotiated) -> Negotiated {
    Negotiated { header_digest: DigestType::Crc32c, data_digest: DigestType::Crc32c, ..negotiated }
}

/// A session with its driver.
pub struct Bench {
    pub session: Session<Chunks>,
    pub host: TestHost,
    pub now_ns: u64,
    pub negotiated: Negotiated,
    pub cmd_sn: u32,
    /// Bytes per connection that were not consumed yet.
    pending: [Vec<u8>; 8],
}

pub const C0: ConnectionIndex = ConnectionIndex(0);
pub const C1: ConnectionIndex = ConnectionIndex(1);

impl Bench {
    pub fn new() -> Self {
        Self::with(negotiated(), SessionConfig::default())
    }

    pub fn with(negotiated: Negotiated, config: SessionConfig) -> Self {
        Self::of_type(SessionType::Normal, negotiated, config)
    }

    pub fn of_type(session_type: SessionType, negotiated: Negotiated, config: SessionConfig) -> Self {
        let mut bench = Self {
            session: Session::new(config, session_type, &negotiated, FIRST_CMD_SN),
            host: TestHost::default(),
            now_ns: 0,
            negotiated,
            cmd_sn: FIRST_CMD_SN,
            pending: Default::default(),
        };
        bench.connect(10);
        bench
    }

    pub fn connect(&mut self, cid: u16) -> ConnectionIndex {
        let params = ConnectionParams { cid, stat_sn: FIRST_STAT_SN, negotiated: self.negotiated.clone() };
        self.session.add_connection(&params, self.now_ns).expect("room for a connection")
    }

    pub fn digests(&self) -> (bool, bool) {
        (self.negotiated.header_digest.is_on(), self.negotiated.data_digest.is_on())
    }

    pub fn send(&mut self, connection: ConnectionIndex, pdu: &Pdu) -> Result<(), Fatal> {
        let (header_digest, data_digest) = self.digests();
        self.feed(connection, &pdu.wire(header_digest, data_digest))
    }

    /// Sends what must be fine.
    pub fn ok(&mut self, pdu: &Pdu) {
        self.send(C0, pdu).expect("a sound PDU");
    }

    pub fn feed(&mut self, connection: ConnectionIndex, bytes: &[u8]) -> Result<(), Fatal> {
        let pending = &mut self.pending[usize::from(connection.0)];
        pending.extend(bytes);
        let consumed = self.session.handle_bytes(connection, self.now_ns, pending, &mut self.host)?;
        assert!(consumed == pending.len() || self.session.blocked(connection).is_some(), "all or blocked");
        pending.drain(..consumed);
        Ok(())
    }

    /// Memory came back.
    pub fn retry(&mut self) {
        self.session.retry_blocked(&mut self.host);
        for index in 0..8 {
            if self.session.blocked(ConnectionIndex(index)).is_none() {
                let _ = self.feed(ConnectionIndex(index), &[]);
            }
        }
    }

    pub fn unconsumed(&self, connection: ConnectionIndex) -> usize {
        self.pending[usize::from(connection.0)].len()
    }

    pub fn next_cmd_sn(&mut self) -> u32 {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.wrapping_add(1);
        cmd_sn
    }

    /// A command; `edit` changes what the usual one has. CmdSN is the next one.
    pub fn command(&mut self, itt: u32, flags: u8, edtl: u32, cdb: [u8; 16], data: &[u8]) -> Pdu {
        let cmd_sn = self.next_cmd_sn();
        command(itt, cmd_sn, flags, edtl, cdb, data)
    }

    /// A write of `take` bytes that brings `data` along, with F.
    pub fn write(&mut self, itt: u32, take: u32, data: &[u8]) -> Pdu {
        self.command(itt, W | F, take, TestHost::write_cdb(take), data)
    }

    pub fn read(&mut self, itt: u32, edtl: u32) -> Pdu {
        self.command(itt, R | F, edtl, [0; 16], &[])
    }

    pub fn events(&mut self) -> Vec<Event<Chunks>> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// The only event.
    pub fn event(&mut self) -> Event<Chunks> {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    pub fn expect_command(&mut self) -> Command<Chunks> {
        match self.event() {
            Event::Command(command) => command,
            other => panic!("a command, not {other:?}"),
        }
    }

    /// The tasks given out, nothing else.
    pub fn commands(&mut self) -> Vec<Command<Chunks>> {
        let command = |event| match event {
            Event::Command(command) => command,
            other => panic!("a command, not {other:?}"),
        };
        self.events().into_iter().map(command).collect()
    }

    pub fn good(&mut self, task: TaskId) {
        assert!(self.session.complete(task, Completion::good(0)));
    }

    /// Everything that the connection sends now, as bytes.
    pub fn take_bytes(&mut self, connection: ConnectionIndex) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 64];
            let filled = self.session.tx_slices(connection, &mut slices);
            let before = bytes.len();
            slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
            if bytes.len() == before {
                return bytes;
            }
            self.session.tx_advance(connection, bytes.len() - before);
        }
    }

    pub fn sent_on(&mut self, connection: ConnectionIndex) -> Vec<Pdu> {
        let (header_digest, data_digest) = self.digests();
        Pdu::parse_all(&self.take_bytes(connection), header_digest, data_digest)
    }

    pub fn sent(&mut self) -> Vec<Pdu> {
        self.sent_on(C0)
    }

    /// The only PDU sent.
    pub fn reply(&mut self) -> Pdu {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    pub fn expect_reject(&mut self, reason: RejectReason) {
        let reply = self.reply();
        assert_eq!(reply.opcode(), Opcode::REJECT);
        assert_eq!(reply.header::<Reject>().reason, reason);
        assert_eq!(reply.data.len(), BHS_BYTES, "the header is quoted");
    }

    /// Nothing is in progress and nothing waits to be sent.
    pub fn assert_idle(&mut self) {
        assert_eq!(self.session.task_count(), 0);
        assert!(self.events().is_empty());
        assert!(!self.session.wants_memory());
    }
}

pub const F: u8 = 0x80;
pub const R: u8 = 0x40;
pub const W: u8 = 0x20;
pub const IMMEDIATE: u8 = 0x40;

pub fn command(itt: u32, cmd_sn: u32, flags: u8, edtl: u32, cdb: [u8; 16], data: &[u8]) -> Pdu {
    let header = ScsiCommand {
        opcode_and_immediate: Opcode::SCSI_COMMAND.0,
        flags: flags | TaskAttribute::SIMPLE.0,
        lun: LUN.into(),
        itt: itt.into(),
        expected_data_transfer_length: edtl.into(),
        cmd_sn: cmd_sn.into(),
        exp_stat_sn: FIRST_STAT_SN.into(),
        cdb,
        ..ScsiCommand::new_zeroed()
    };
    Pdu::new(header, data)
}

pub fn data_out(itt: u32, ttt: u32, data_sn: u32, offset: u32, data: &[u8], is_final: bool) -> Pdu {
    let header = DataOut {
        opcode: Opcode::DATA_OUT.0,
        flags: if is_final { F } else { 0 },
        lun: if ttt == RESERVED_TAG { 0.into() } else { LUN.into() },
        itt: itt.into(),
        ttt: ttt.into(),
        exp_stat_sn: FIRST_STAT_SN.into(),
        data_sn: data_sn.into(),
        buffer_offset_bytes: offset.into(),
        ..DataOut::new_zeroed()
    };
    Pdu::new(header, data)
}

/// A request whose bytes 20..24 are `specific` (TTT, CID, referenced task tag).
pub fn request(opcode: Opcode, flags: u8, itt: u32, specific: u32, cmd_sn: u32, data: &[u8]) -> Pdu {
    let header = TextRequest {
        opcode_and_immediate: opcode.0,
        flags,
        itt: itt.into(),
        ttt: specific.into(),
        cmd_sn: cmd_sn.into(),
        exp_stat_sn: FIRST_STAT_SN.into(),
        ..TextRequest::new_zeroed()
    };
    Pdu::new(header, data)
}

pub fn immediate(mut pdu: Pdu) -> Pdu {
    pdu.bhs[0] |= IMMEDIATE;
    pdu
}

/// An immediate task management request.
pub fn management(function: TmfFunction, itt: u32, tag: u32, cmd_sn: u32, ref_cmd_sn: u32) -> Pdu {
    let header = TmfRequest {
        opcode_and_immediate: Opcode::TMF_REQUEST.0 | IMMEDIATE,
        flags: F | function.0,
        lun: LUN.into(),
        itt: itt.into(),
        referenced_task_tag: tag.into(),
        cmd_sn: cmd_sn.into(),
        exp_stat_sn: FIRST_STAT_SN.into(),
        ref_cmd_sn: ref_cmd_sn.into(),
        ..TmfRequest::new_zeroed()
    };
    Pdu::new(header, &[])
}

/// Bytes whose value tells their offset.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|offset| (offset % 251) as u8 ^ (offset / 251) as u8).collect()
}

/// The R2Ts of `pdus`.
pub fn r2ts(pdus: &[Pdu]) -> Vec<R2t> {
    pdus.iter().filter(|pdu| pdu.opcode() == Opcode::R2T).map(Pdu::header).collect()
}

/// Answers an R2T with Data-Out PDUs of at most `segment` bytes out of `data`.
pub fn answer(r2t: &R2t, data: &[u8], segment: usize) -> Vec<Pdu> {
    let start = r2t.buffer_offset_bytes.get() as usize;
    let length = r2t.desired_length_bytes.get() as usize;
    let pieces = data[start..start + length].chunks(segment);
    let last = pieces.len() - 1;
    pieces
        .enumerate()
        .map(|(n, piece)| {
            let offset = (start + n * segment) as u32;
            data_out(r2t.itt.get(), r2t.ttt.get(), n as u32, offset, piece, n == last)
        })
        .collect()
}

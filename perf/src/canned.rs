//! The emptiest possible iSCSI target: what a given client could reach if the target cost nothing.
//!
//! It logs anyone in, says that it is a disk of 1 GiB, answers every read with zeros and takes every write, both at once and in one PDU, many
//! per system call, and keeps nothing. It checks nothing either: it is for a client under measurement on loopback and for nothing else.
//! Layouts: RFC 7143, 11.3 (command), 11.4 (response), 11.7 (Data-In), 11.12 and 11.13 (login).

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::TcpStream;

use crate::spin;

const HEADER_BYTES: usize = 48;
/// The longest data segment either way; announced at login.
const DATA_SEGMENT_MAX_BYTES: usize = 256 << 10;
const RECEIVE_BYTES: usize = 4 << 20;
/// Command numbers that the client may use ahead.
const COMMAND_WINDOW: u32 = 128;
const BLOCKS: u64 = (1 << 30) / 512;
/// Vectors of one send: 32 answers with their data.
const VECTORS: usize = 64;
const OPERATIONAL_KEYS: &[u8] = b"HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
MaxBurstLength=262144\0FirstBurstLength=262144\0MaxRecvDataSegmentLength=262144\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0TargetPortalGroupTag=1\0";
const SECURITY_KEYS: &[u8] = b"AuthMethod=None\0";

/// What follows a header.
#[derive(Clone, Copy, Debug)]
enum Payload {
    Zeros(usize),
    Keys(&'static [u8]),
    Small([u8; 36], usize),
}

impl Payload {
    fn length_bytes(&self) -> usize {
        match self {
            Self::Zeros(length) | Self::Small(_, length) => *length,
            Self::Keys(keys) => keys.len(),
        }
    }

    /// The data with its padding to a multiple of four. The key lists are chosen to need none.
    fn padded<'a>(&'a self, zeros: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Zeros(length) => &zeros[..length.next_multiple_of(4)],
            Self::Keys(keys) => keys,
            Self::Small(bytes, length) => &bytes[..length.next_multiple_of(4)],
        }
    }
}

/// An answer that waits to be sent.
#[derive(Clone, Copy, Debug)]
struct Answer {
    header: [u8; HEADER_BYTES],
    payload: Payload,
}

/// One client.
#[derive(Debug)]
pub struct Canned {
    received: Vec<u8>,
    filled: usize,
    answers: VecDeque<Answer>,
    /// Bytes of the first answer that have left.
    sent_of_first: usize,
    zeros: Vec<u8>,
    stat_sn: u32,
    expected_command_sn: u32,
}

impl Default for Canned {
    fn default() -> Self {
        Self {
            received: vec![0; RECEIVE_BYTES],
            filled: 0,
            answers: VecDeque::with_capacity(1024),
            sent_of_first: 0,
            zeros: vec![0; DATA_SEGMENT_MAX_BYTES],
            stat_sn: 1,
            expected_command_sn: 0,
        }
    }
}

/// Serves one client until it closes.
pub fn serve(mut stream: TcpStream) -> Result<()> {
    spin::prepare(&stream)?;
    let mut canned = Canned::default();
    loop {
        match spin::try_read(&mut stream, &mut canned.received[canned.filled..]) {
            Ok(Some(n)) => {
                canned.filled += n;
                canned.take_whole_pdus()?;
            }
            Ok(None) => std::hint::spin_loop(),
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        canned.flush(&mut stream)?;
    }
}

impl Canned {
    fn take_whole_pdus(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(header) = self.received[at..self.filled].first_chunk::<HEADER_BYTES>().copied() {
            let total = pdu_bytes(&header);
            if total > RECEIVE_BYTES {
                return Err(Error::from(ErrorKind::InvalidData));
            }
            if self.filled - at < total {
                break;
            }
            at += total;
            self.answer(&header)?;
        }
        self.received.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn answer(&mut self, request: &[u8; HEADER_BYTES]) -> Result<()> {
        let immediate = request[0] & 0x40 != 0;
        let command_sn = word(request, 24);
        let opcode = request[0] & 0x3f;
        if opcode != 0x05 {
            self.expected_command_sn = if immediate { command_sn } else { command_sn.wrapping_add(1) };
        }
        match opcode {
            0x00 if word(request, 16) == u32::MAX => {}
            0x00 => self.push(request, 0x20, 0x80, Payload::Zeros(0)),
            0x01 => self.answer_command(request)?,
            0x02 => self.push(request, 0x22, 0x80, Payload::Zeros(0)),
            0x03 => {
                let keys = if (request[1] >> 2) & 3 == 0 { SECURITY_KEYS } else { OPERATIONAL_KEYS };
                self.push(request, 0x23, request[1], Payload::Keys(keys));
            }
            0x05 => {}
            0x06 => self.push(request, 0x26, 0x80, Payload::Zeros(0)),
            _ => return Err(Error::from(ErrorKind::Unsupported)),
        }
        Ok(())
    }

    fn answer_command(&mut self, request: &[u8; HEADER_BYTES]) -> Result<()> {
        let wanted = word(request, 20) as usize;
        if wanted > DATA_SEGMENT_MAX_BYTES {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        let reads = request[1] & 0x40 != 0;
        let mut small = [0; 36];
        let payload = match request[32] {
            _ if !reads => {
                self.push(request, 0x21, 0x80, Payload::Zeros(0));
                return Ok(());
            }
            // INQUIRY: a disk, SPC-3, vendor and product.
            0x12 => {
                small[2..5].copy_from_slice(&[5, 2, 31]);
                small[8..].copy_from_slice(b"PERF    CANNED          0   ");
                Payload::Small(small, 36.min(wanted))
            }
            0x25 => {
                small[..4].copy_from_slice(&(BLOCKS as u32 - 1).to_be_bytes());
                small[4..8].copy_from_slice(&512_u32.to_be_bytes());
                Payload::Small(small, 8.min(wanted))
            }
            0x9e => {
                small[..8].copy_from_slice(&(BLOCKS - 1).to_be_bytes());
                small[8..12].copy_from_slice(&512_u32.to_be_bytes());
                Payload::Small(small, 32.min(wanted))
            }
            _ => Payload::Zeros(wanted),
        };
        self.push(request, 0x25, 0x81, payload);
        let residual = (wanted - payload.length_bytes()) as u32;
        if residual > 0 {
            let header = &mut self.answers.back_mut().expect("just pushed").header;
            header[1] |= 0x02;
            header[44..].copy_from_slice(&residual.to_be_bytes());
        }
        Ok(())
    }

    fn push(&mut self, request: &[u8; HEADER_BYTES], opcode: u8, flags: u8, payload: Payload) {
        let mut header = [0; HEADER_BYTES];
        header[0] = opcode;
        header[1] = flags;
        header[4..8].copy_from_slice(&(payload.length_bytes() as u32).to_be_bytes());
        header[16..20].copy_from_slice(&request[16..20]);
        match opcode {
            // ISID as the client chose it, and a session handle.
            0x23 => {
                header[8..14].copy_from_slice(&request[8..14]);
                header[15] = 1;
            }
            0x20 | 0x25 => header[20..24].fill(0xff),
            _ => {}
        }
        header[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.expected_command_sn.to_be_bytes());
        header[32..36].copy_from_slice(&self.expected_command_sn.wrapping_add(COMMAND_WINDOW).to_be_bytes());
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.answers.push_back(Answer { header, payload });
    }

    fn flush(&mut self, stream: &mut TcpStream) -> Result<()> {
        while !self.answers.is_empty() {
            let mut vectors = [IoSlice::new(&[]); VECTORS];
            let mut skip = self.sent_of_first;
            for (pair, answer) in vectors.chunks_exact_mut(2).zip(&self.answers) {
                let data = answer.payload.padded(&self.zeros);
                let in_header = skip.min(HEADER_BYTES);
                pair[0] = IoSlice::new(&answer.header[in_header..]);
                pair[1] = IoSlice::new(&data[skip - in_header..]);
                skip = 0;
            }
            let sent = spin::try_write(stream, &vectors)?;
            if sent == 0 {
                return Ok(());
            }
            self.drop_sent(sent);
        }
        Ok(())
    }

    fn drop_sent(&mut self, sent: usize) {
        self.sent_of_first += sent;
        while let Some(first) = self.answers.front() {
            let total = HEADER_BYTES + first.payload.padded(&self.zeros).len();
            if self.sent_of_first < total {
                return;
            }
            self.sent_of_first -= total;
            self.answers.pop_front();
        }
    }
}

fn word(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// A whole PDU without digests: header, additional header segments, data, padding.
fn pdu_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    let data = (word(header, 4) & 0x00ff_ffff) as usize;
    HEADER_BYTES + usize::from(header[4]) * 4 + data.next_multiple_of(4)
}

const _: () = assert!(DATA_SEGMENT_MAX_BYTES.is_multiple_of(4) && RECEIVE_BYTES > 2 * DATA_SEGMENT_MAX_BYTES);
const _: () = assert!(
    OPERATIONAL_KEYS.len().is_multiple_of(4) && SECURITY_KEYS.len().is_multiple_of(4),
    "a key list would need padding"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn command(opcode: u8, flags: u8, wanted: u32, cdb: u8, data: usize) -> Vec<u8> {
        let mut pdu = vec![0; HEADER_BYTES + data];
        pdu[0] = opcode;
        pdu[1] = flags;
        pdu[4..8].copy_from_slice(&(data as u32).to_be_bytes());
        pdu[16..20].copy_from_slice(&7_u32.to_be_bytes());
        pdu[20..24].copy_from_slice(&wanted.to_be_bytes());
        pdu[32] = cdb;
        pdu
    }

    fn feed(canned: &mut Canned, bytes: &[u8]) {
        canned.received[canned.filled..canned.filled + bytes.len()].copy_from_slice(bytes);
        canned.filled += bytes.len();
        canned.take_whole_pdus().expect("valid PDUs");
    }

    #[test]
    fn answers_reads_and_writes_cut_anywhere() {
        let mut bytes = command(0x01, 0xc1, 4096, 0x88, 0);
        bytes.extend(command(0x01, 0xa1, 4096, 0x8a, 4096));
        for cut in 0..bytes.len() {
            let mut canned = Canned::default();
            feed(&mut canned, &bytes[..cut]);
            feed(&mut canned, &bytes[cut..]);
            let opcodes: Vec<u8> = canned.answers.iter().map(|answer| answer.header[0]).collect();
            assert_eq!((opcodes, canned.filled), (vec![0x25, 0x21], 0));
            assert_eq!(canned.answers[0].payload.length_bytes(), 4096);
        }
    }

    #[test]
    fn a_short_answer_says_how_much_is_missing() {
        let mut canned = Canned::default();
        feed(&mut canned, &command(0x01, 0xc1, 255, 0x12, 0));
        let header = canned.answers[0].header;
        assert_eq!((header[1], word(&header, 44), word(&header, 4)), (0x83, 219, 36));
    }

    #[test]
    fn a_partial_send_continues_where_it_stopped() {
        let mut canned = Canned::default();
        feed(&mut canned, &command(0x01, 0xc1, 4096, 0x88, 0));
        feed(&mut canned, &command(0x01, 0xc1, 512, 0x88, 0));
        canned.drop_sent(HEADER_BYTES + 4095);
        assert_eq!((canned.answers.len(), canned.sent_of_first), (2, HEADER_BYTES + 4095));
        canned.drop_sent(1 + HEADER_BYTES + 512);
        assert_eq!((canned.answers.len(), canned.sent_of_first), (0, 0));
    }

    #[test]
    fn a_segment_that_is_too_long_ends_the_connection() {
        let mut canned = Canned::default();
        let pdu = command(0x01, 0xc1, 1 << 20, 0x88, 0);
        canned.received[..pdu.len()].copy_from_slice(&pdu);
        canned.filled = pdu.len();
        assert!(canned.take_whole_pdus().is_err());
    }
}

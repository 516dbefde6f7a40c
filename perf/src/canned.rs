//! The emptiest possible iSCSI target: what a given client could reach if the target cost nothing.
//!
//! It logs anyone in, says that it is a disk of 1 GiB, answers every read with zeros and takes every write,
//! both at once and in one PDU, many per system call, and keeps nothing. It checks nothing either: it is for
//! a client under measurement on loopback and for nothing else. Layouts: RFC 7143, 11.3 (command), 11.4
//! (response), 11.7 (Data-In), 11.12 and 11.13 (login).

use std::io::{Error, ErrorKind, Result};
use std::net::TcpStream;

use crate::outbox::{DATA_SEGMENT_MAX_BYTES, HEADER_BYTES, Inbox, Outbox, Payload, word};
use crate::spin;

/// Command numbers that the client may use ahead.
const COMMAND_WINDOW: u32 = 128;
const BLOCKS: u64 = (1 << 30) / 512;
const OPERATIONAL_KEYS: &[u8] = b"HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
MaxBurstLength=262144\0FirstBurstLength=262144\0MaxRecvDataSegmentLength=262144\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0TargetPortalGroupTag=1\0";
const SECURITY_KEYS: &[u8] = b"AuthMethod=None\0";

const _: () = assert!(OPERATIONAL_KEYS.len().is_multiple_of(4) && SECURITY_KEYS.len().is_multiple_of(4));

/// The protocol side of one client.
#[derive(Debug)]
struct Canned {
    answers: Outbox,
    stat_sn: u32,
    expected_command_sn: u32,
}

/// Serves one client until it closes.
pub fn serve(stream: TcpStream) -> Result<()> {
    match answer_until_closed(stream) {
        Err(e) if spin::is_closed(&e) => Ok(()),
        other => other,
    }
}

fn answer_until_closed(mut stream: TcpStream) -> Result<()> {
    spin::prepare(&stream)?;
    let mut canned = Canned::new();
    let mut inbox = Inbox::default();
    loop {
        if inbox.receive(&mut stream)? {
            while let Some((header, _)) = inbox.next_pdu()? {
                canned.answer(&header)?;
            }
        } else {
            std::hint::spin_loop();
        }
        canned.answers.flush(&mut stream)?;
    }
}

impl Canned {
    fn new() -> Self {
        Self { answers: Outbox::new(|_| 0), stat_sn: 1, expected_command_sn: 0 }
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
            0x00 => self.push(request, 0x20, 0x80, Payload::Filler(0)),
            0x01 => self.answer_command(request)?,
            0x02 => self.push(request, 0x22, 0x80, Payload::Filler(0)),
            0x03 => {
                let keys = if (request[1] >> 2) & 3 == 0 { SECURITY_KEYS } else { OPERATIONAL_KEYS };
                self.push(request, 0x23, request[1], Payload::Keys(keys));
            }
            0x05 => {}
            0x06 => self.push(request, 0x26, 0x80, Payload::Filler(0)),
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
                self.push(request, 0x21, 0x80, Payload::Filler(0));
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
            _ => Payload::Filler(wanted),
        };
        self.push(request, 0x25, 0x81, payload);
        Ok(())
    }

    fn push(&mut self, request: &[u8; HEADER_BYTES], opcode: u8, flags: u8, payload: Payload) {
        let mut header = [0; HEADER_BYTES];
        header[0] = opcode;
        header[1] = flags;
        header[16..20].copy_from_slice(&request[16..20]);
        match opcode {
            // ISID as the client chose it, and a session handle.
            0x23 => {
                header[8..14].copy_from_slice(&request[8..14]);
                header[15] = 1;
            }
            0x20 => header[20..24].fill(0xff),
            0x25 => {
                header[20..24].fill(0xff);
                let residual = word(request, 20) - payload.length_bytes() as u32;
                if residual > 0 {
                    header[1] |= 0x02;
                    header[44..].copy_from_slice(&residual.to_be_bytes());
                }
            }
            _ => {}
        }
        header[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.expected_command_sn.to_be_bytes());
        header[32..36].copy_from_slice(&self.expected_command_sn.wrapping_add(COMMAND_WINDOW).to_be_bytes());
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.answers.push(header, payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(flags: u8, wanted: u32, cdb: u8) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = 0x01;
        header[1] = flags;
        header[16..20].copy_from_slice(&7_u32.to_be_bytes());
        header[20..24].copy_from_slice(&wanted.to_be_bytes());
        header[32] = cdb;
        header
    }

    fn answer(request: &[u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let mut canned = Canned::new();
        canned.answer(request).expect("a known command");
        canned.answers.waiting().next().expect("one answer").header
    }

    #[test]
    fn reads_get_data_and_status_in_one_pdu_and_writes_a_response() {
        let read = answer(&command(0xc1, 4096, 0x88));
        assert_eq!((read[0], read[1], word(&read, 4), word(&read, 16)), (0x25, 0x81, 4096, 7));
        let write = answer(&command(0xa1, 4096, 0x8a));
        assert_eq!((write[0], write[1], word(&write, 4)), (0x21, 0x80, 0));
    }

    #[test]
    fn a_short_answer_says_how_much_is_missing() {
        let header = answer(&command(0xc1, 255, 0x12));
        assert_eq!((header[1], word(&header, 44), word(&header, 4)), (0x83, 219, 36));
    }

    #[test]
    fn a_segment_that_is_too_long_ends_the_connection() {
        assert!(Canned::new().answer(&command(0xc1, 1 << 20, 0x88)).is_err());
    }
}

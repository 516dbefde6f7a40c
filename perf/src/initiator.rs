//! The smallest iSCSI initiator that can load a target: one connection, many commands, many PDUs per system
//! call.
//!
//! It speaks to well-behaved targets only (RFC 7143, error recovery level 0, no digests, no authentication);
//! whatever it does not know ends the connection with an error. Writes go out as far as the target allows as
//! immediate data, the rest when it asks (R2T).

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};

use crate::outbox::{DATA_SEGMENT_MAX_BYTES, HEADER_BYTES, Inbox, Outbox, Payload, word};
use crate::spin;

const LOGIN_KEYS: &str = "SessionType=Normal\0HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
MaxBurstLength=262144\0FirstBurstLength=262144\0MaxRecvDataSegmentLength=262144\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0";

/// A command that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// SCSI command descriptor block.
    pub cdb: [u8; 16],
    /// Data to the target, in bytes; 0 for none. Its content is the outbox's filler.
    pub write_bytes: u32,
    /// Data from the target, in bytes; 0 for none.
    pub read_bytes: u32,
}

/// A command that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The caller's number of the command.
    pub tag: u32,
    /// SCSI status; 0 is GOOD.
    pub status: u8,
}

/// A logged-in session of one connection.
#[derive(Debug)]
pub struct Initiator {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
    lun: u8,
    command_sn: u32,
    max_command_sn: u32,
    expected_stat_sn: u32,
    immediate_max_bytes: u32,
    target_segment_max_bytes: u32,
    /// The data of the last Data-In, for the few commands whose answer is looked at.
    last_data: Vec<u8>,
}

impl Initiator {
    /// Connects and logs in. `session` keeps the sessions of one process apart (it goes into the ISID).
    /// Errors: the system's, or `ConnectionRefused` when the target refuses the login.
    pub fn login(
        address: impl ToSocketAddrs,
        name: &str,
        target: &str,
        lun: u8,
        session: u16,
    ) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        spin::prepare(&stream)?;
        let mut this = Self {
            stream,
            inbox: Inbox::default(),
            // Bytes that are neither all equal nor alike per block, so that nothing can be left out as zeros.
            outbox: Outbox::new(|at| (at.wrapping_mul(0x9e37) >> 7) as u8 | 1),
            lun,
            command_sn: 1,
            max_command_sn: 1,
            expected_stat_sn: 0,
            immediate_max_bytes: 0,
            target_segment_max_bytes: 8192,
            last_data: Vec::new(),
        };
        let mut keys = format!("InitiatorName={name}\0TargetName={target}\0{LOGIN_KEYS}").into_bytes();
        let length = keys.len() as u32;
        keys.resize(keys.len().next_multiple_of(4), 0);
        let mut header = [0; HEADER_BYTES];
        // Immediate, transit from the operational stage to full feature phase.
        header[..2].copy_from_slice(&[0x43, 0x87]);
        header[4..8].copy_from_slice(&length.to_be_bytes());
        // ISID: of the random kind, the process's number and the session's (RFC 7143, 11.12.5).
        header[8] = 0x80;
        header[9..12].copy_from_slice(&std::process::id().to_be_bytes()[1..]);
        header[12..14].copy_from_slice(&session.to_be_bytes());
        header[24..28].copy_from_slice(&this.command_sn.to_be_bytes());
        spin::write_all(&mut this.stream, &header)?;
        spin::write_all(&mut this.stream, &keys)?;
        let (answer, data) = this.wait_pdu()?;
        if answer[0] & 0x3f != 0x23 || answer[36] != 0 || answer[1] & 0x83 != 0x83 {
            return Err(Error::from(ErrorKind::ConnectionRefused));
        }
        this.note_numbers(&answer);
        this.take_keys(&data);
        Ok(this)
    }

    fn take_keys(&mut self, data: &[u8]) {
        let value = |key: &[u8]| {
            data.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(key)?.strip_prefix(b"="))
        };
        let number = |key: &[u8]| std::str::from_utf8(value(key)?).ok()?.parse::<u32>().ok();
        let segment_max = DATA_SEGMENT_MAX_BYTES as u32;
        self.target_segment_max_bytes = number(b"MaxRecvDataSegmentLength").unwrap_or(8192).min(segment_max);
        let first_burst = number(b"FirstBurstLength").unwrap_or(65536);
        let immediate = value(b"ImmediateData").is_none_or(|text| text == b"Yes");
        self.immediate_max_bytes = if immediate { first_burst.min(self.target_segment_max_bytes) } else { 0 };
    }

    fn wait_pdu(&mut self) -> Result<([u8; HEADER_BYTES], Vec<u8>)> {
        loop {
            if let Some((header, data)) = self.inbox.next_pdu()? {
                return Ok((header, data.to_vec()));
            }
            self.inbox.receive(&mut self.stream)?;
            std::hint::spin_loop();
        }
    }

    /// True when the target's window has room for one more command.
    pub fn may_submit(&self) -> bool {
        self.max_command_sn.wrapping_sub(self.command_sn) < 1 << 31
    }

    /// Queues a command under the caller's number `tag`; [`Initiator::turn`] sends it.
    pub fn submit(&mut self, tag: u32, command: &Command) {
        let immediate = command.write_bytes.min(self.immediate_max_bytes);
        let mut header = [0; HEADER_BYTES];
        header[0] = 0x01;
        // Final (no unsolicited Data-Out follows), direction, simple task attribute.
        header[1] = 0x81
            | if command.read_bytes > 0 { 0x40 } else { 0 }
            | if command.write_bytes > 0 { 0x20 } else { 0 };
        header[9] = self.lun;
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&command.write_bytes.max(command.read_bytes).to_be_bytes());
        header[24..28].copy_from_slice(&self.command_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.expected_stat_sn.to_be_bytes());
        header[32..].copy_from_slice(&command.cdb);
        self.command_sn = self.command_sn.wrapping_add(1);
        self.outbox.push(header, Payload::Filler(immediate as usize));
    }

    /// Sends what waits, receives once, appends what was answered; false when nothing came.
    pub fn turn(&mut self, answered: &mut Vec<Answered>) -> Result<bool> {
        self.outbox.flush(&mut self.stream)?;
        if !self.inbox.receive(&mut self.stream)? {
            return Ok(false);
        }
        while let Some((header, data)) = self.inbox.next_pdu()? {
            if header[0] == 0x25 && data.len() <= 64 {
                self.last_data.clear();
                self.last_data.extend_from_slice(data);
            }
            self.take(&header, answered)?;
        }
        Ok(true)
    }

    fn take(&mut self, header: &[u8; HEADER_BYTES], answered: &mut Vec<Answered>) -> Result<()> {
        self.note_numbers(header);
        let tag = word(header, 16);
        match header[0] & 0x3f {
            0x21 => answered.push(Answered { tag, status: header[3] }),
            0x25 if header[1] & 1 != 0 => answered.push(Answered { tag, status: header[3] }),
            0x25 => {}
            0x31 => self.send_solicited(header),
            0x20 if word(header, 20) == u32::MAX => {}
            0x20 => self.answer_ping(header),
            _ => return Err(Error::from(ErrorKind::Unsupported)),
        }
        Ok(())
    }

    fn note_numbers(&mut self, header: &[u8; HEADER_BYTES]) {
        // Data-In without status and R2T carry no StatSN of their own (RFC 7143, 11.7.4 and 11.8.3).
        let has_status =
            !matches!(header[0] & 0x3f, 0x31) && (header[0] & 0x3f != 0x25 || header[1] & 1 != 0);
        if has_status {
            self.expected_stat_sn = word(header, 24).wrapping_add(1);
        }
        let max = word(header, 32);
        if max.wrapping_sub(self.max_command_sn) < 1 << 31 {
            self.max_command_sn = max;
        }
    }

    fn send_solicited(&mut self, r2t: &[u8; HEADER_BYTES]) {
        let (start, wanted) = (word(r2t, 40), word(r2t, 44));
        let (mut sent, mut data_sn) = (0, 0_u32);
        while sent < wanted {
            let length = (wanted - sent).min(self.target_segment_max_bytes);
            let mut header = [0; HEADER_BYTES];
            header[0] = 0x05;
            header[1] = if sent + length == wanted { 0x80 } else { 0 };
            // LUN, initiator task tag and target transfer tag as the target gave them.
            header[8..24].copy_from_slice(&r2t[8..24]);
            header[28..32].copy_from_slice(&self.expected_stat_sn.to_be_bytes());
            header[36..40].copy_from_slice(&data_sn.to_be_bytes());
            header[40..44].copy_from_slice(&start.wrapping_add(sent).to_be_bytes());
            self.outbox.push(header, Payload::Filler(length as usize));
            sent += length;
            data_sn += 1;
        }
    }

    fn answer_ping(&mut self, ping: &[u8; HEADER_BYTES]) {
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&[0x40, 0x80]);
        header[8..16].copy_from_slice(&ping[8..16]);
        header[16..20].fill(0xff);
        header[20..24].copy_from_slice(&ping[20..24]);
        header[24..28].copy_from_slice(&self.command_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.expected_stat_sn.to_be_bytes());
        self.outbox.push(header, Payload::Filler(0));
    }

    /// Runs one command alone and returns its status and its data (at most 64 bytes of it are kept).
    pub fn run(&mut self, command: &Command) -> Result<(u8, Vec<u8>)> {
        self.submit(0, command);
        self.last_data.clear();
        let mut answered = Vec::new();
        while answered.is_empty() {
            self.turn(&mut answered)?;
        }
        Ok((answered[0].status, std::mem::take(&mut self.last_data)))
    }

    /// Clears pending unit attentions and returns (number of blocks, bytes of a block) (SBC-4, READ CAPACITY
    /// (16)).
    pub fn capacity(&mut self) -> Result<(u64, u32)> {
        let ready = Command { cdb: [0; 16], write_bytes: 0, read_bytes: 0 };
        for _ in 0..8 {
            if self.run(&ready)?.0 == 0 {
                break;
            }
        }
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let (status, data) = self.run(&Command { cdb, write_bytes: 0, read_bytes: 32 })?;
        let (Some(last), Some(block)) =
            (data.first_chunk::<8>(), data.get(8..).and_then(|rest| rest.first_chunk::<4>()))
        else {
            return Err(Error::from(ErrorKind::InvalidData));
        };
        let blocks = u64::from_be_bytes(*last).checked_add(1);
        match (status, blocks) {
            (0, Some(blocks)) => Ok((blocks, u32::from_be_bytes(*block))),
            _ => Err(Error::from(ErrorKind::InvalidData)),
        }
    }
}

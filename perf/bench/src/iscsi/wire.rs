//! The PDUs that the client sends and what it reads of those that it gets (RFC 7143, section 11).

/// Bytes of a basic header segment.
pub const HEADER_BYTES: usize = 48;
/// The longest data segment that is announced and sent.
pub const SEGMENT_BYTES_MAX: u32 = 256 << 10;

pub const NOP_OUT: u8 = 0x00;
pub const SCSI_COMMAND: u8 = 0x01;
pub const LOGIN_REQUEST: u8 = 0x03;
pub const DATA_OUT: u8 = 0x05;
pub const LOGOUT_REQUEST: u8 = 0x06;
pub const NOP_IN: u8 = 0x20;
pub const SCSI_RESPONSE: u8 = 0x21;
pub const LOGIN_RESPONSE: u8 = 0x23;
pub const DATA_IN: u8 = 0x25;
pub const LOGOUT_RESPONSE: u8 = 0x26;
pub const R2T: u8 = 0x31;

/// Immediate delivery.
const IMMEDIATE: u8 = 0x40;
/// Final PDU of a sequence; the T bit of a login.
pub const FINAL: u8 = 0x80;
/// Data-In carries the status.
pub const STATUS: u8 = 0x01;
/// From the operational stage to the full feature phase.
pub const OPERATIONAL_TO_FULL: u8 = 0x07;
/// A tag of no task.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Keys of the login; names are put before them.
pub const LOGIN_KEYS: &str = "SessionType=Normal\0HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
MaxBurstLength=1048576\0FirstBurstLength=262144\0MaxRecvDataSegmentLength=262144\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0\
MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0";

/// A basic header segment.
#[derive(Clone, Copy, Debug)]
pub struct Header(pub [u8; HEADER_BYTES]);

impl Header {
    pub fn new(opcode: u8, flags: u8, tag: u32) -> Self {
        let mut this = Self([0; HEADER_BYTES]);
        (this.0[0], this.0[1]) = (opcode, flags);
        this.set_word(16, tag);
        this
    }

    pub fn immediate(mut self) -> Self {
        self.0[0] |= IMMEDIATE;
        self
    }

    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// A 32-bit field.
    #[inline]
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    #[inline]
    pub fn set_word(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub fn tag(&self) -> u32 {
        self.word(16)
    }

    /// DataSegmentLength.
    #[inline]
    pub fn data_bytes(&self) -> usize {
        (self.word(4) & 0x00ff_ffff) as usize
    }

    /// Bytes before the data: this header and the additional ones.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.0[4]) * 4
    }
}

/// Looks for `key=` in the keys of a login.
pub fn value_of<'a>(keys: &'a [u8], key: &str) -> Option<&'a [u8]> {
    keys.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
}

/// A number among the keys of a login.
pub fn number_of(keys: &[u8], key: &str) -> Option<u32> {
    std::str::from_utf8(value_of(keys, key)?).ok()?.parse().ok()
}

/// READ (16) or WRITE (16) (SBC-4).
pub fn transfer_cdb(write: bool, lba: u64, length_blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = if write { 0x8a } else { 0x88 };
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&length_blocks.to_be_bytes());
    cdb
}

/// Bytes of the answer to READ CAPACITY (16).
pub const CAPACITY_BYTES: u32 = 32;

/// READ CAPACITY (16).
pub fn capacity_cdb() -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, CAPACITY_BYTES as u8);
    cdb
}

/// Number of blocks and bytes of one.
pub fn capacity(answer: &[u8]) -> Option<(u64, u32)> {
    let last = u64::from_be_bytes(*answer.first_chunk()?);
    let block_bytes = u32::from_be_bytes(*answer.get(8..)?.first_chunk()?);
    Some((last.checked_add(1)?, block_bytes))
}

/// Sense key, additional sense code and qualifier of the data of a SCSI Response (SPC-4 4.5).
pub fn sense(data: &[u8]) -> Option<(u8, u8, u8)> {
    let sense = data.get(2..)?;
    match sense.first()? & 0x7f {
        0x70 | 0x71 => Some((sense.get(2)? & 0x0f, *sense.get(12)?, *sense.get(13)?)),
        0x72 | 0x73 => Some((sense.get(1)? & 0x0f, *sense.get(2)?, *sense.get(3)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_capacity_and_sense_are_read() {
        let keys = b"A=1\0MaxRecvDataSegmentLength=65536\0ImmediateData=Yes\0";
        assert_eq!(number_of(keys, "MaxRecvDataSegmentLength"), Some(65536));
        assert_eq!(value_of(keys, "ImmediateData"), Some(&b"Yes"[..]));
        assert_eq!(number_of(keys, "Max"), None);
        let answer = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 2, 0];
        assert_eq!(capacity(&answer), Some((10, 512)));
        assert_eq!(capacity(&[0xff; 12]), None);
        assert_eq!(capacity(&answer[..11]), None);
        let mut fixed = [0; 20];
        (fixed[2], fixed[4], fixed[14], fixed[15]) = (0x70, 6, 0x29, 1);
        assert_eq!(sense(&fixed), Some((6, 0x29, 1)));
        assert_eq!(sense(&[0, 8, 0x72, 5, 0x20, 0, 0, 0]), Some((5, 0x20, 0)));
        assert_eq!(sense(&[]), None);
    }
}

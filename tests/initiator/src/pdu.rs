//! A PDU as bytes: the 48-byte basic header, additional headers, data. Nothing is checked, so that a test
//! can say anything; `encode` computes lengths and digests, which a test may then spoil.

/// Opcodes of the initiator (RFC 7143, 11.2.1.2).
pub mod opcode {
    /// NOP-Out.
    pub const NOP_OUT: u8 = 0x00;
    /// SCSI Command.
    pub const SCSI_COMMAND: u8 = 0x01;
    /// SCSI Task Management Function Request.
    pub const TASK_MANAGEMENT: u8 = 0x02;
    /// Login Request.
    pub const LOGIN: u8 = 0x03;
    /// Text Request.
    pub const TEXT: u8 = 0x04;
    /// SCSI Data-Out.
    pub const DATA_OUT: u8 = 0x05;
    /// Logout Request.
    pub const LOGOUT: u8 = 0x06;
    /// SNACK Request.
    pub const SNACK: u8 = 0x10;
    /// NOP-In.
    pub const NOP_IN: u8 = 0x20;
    /// SCSI Response.
    pub const SCSI_RESPONSE: u8 = 0x21;
    /// Task Management Function Response.
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    /// Login Response.
    pub const LOGIN_RESPONSE: u8 = 0x23;
    /// Text Response.
    pub const TEXT_RESPONSE: u8 = 0x24;
    /// SCSI Data-In.
    pub const DATA_IN: u8 = 0x25;
    /// Logout Response.
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    /// Ready To Transfer.
    pub const R2T: u8 = 0x31;
    /// Asynchronous Message.
    pub const ASYNC_MESSAGE: u8 = 0x32;
    /// Reject.
    pub const REJECT: u8 = 0x3f;
}

/// The immediate-delivery bit beside the opcode.
pub const IMMEDIATE: u8 = 0x40;
/// The final bit (the transit bit of a login).
pub const FINAL: u8 = 0x80;
/// The tag that stands for "none".
pub const NO_TAG: u32 = 0xffff_ffff;
/// Length of the basic header segment.
pub const BHS_BYTES: usize = 48;

/// Which digests a connection carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC-32C after the headers.
    pub header: bool,
    /// CRC-32C after a data segment.
    pub data: bool,
}

/// One PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// The basic header segment. Lengths in it are written by [`Pdu::encode`].
    pub bhs: [u8; BHS_BYTES],
    /// Additional header segments, a multiple of four bytes.
    pub ahs: Vec<u8>,
    /// The data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// An empty PDU of this first byte (opcode and immediate bit) and these flags.
    #[must_use]
    pub fn new(first_byte: u8, flags: u8) -> Self {
        let mut bhs = [0; BHS_BYTES];
        bhs[0] = first_byte;
        bhs[1] = flags;
        Self { bhs, ahs: Vec::new(), data: Vec::new() }
    }

    /// The opcode without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    /// A big-endian word of the header.
    #[must_use]
    pub fn word(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bhs[offset..offset + 4]);
        u32::from_be_bytes(word)
    }

    /// Sets a big-endian word of the header.
    pub fn set_word(&mut self, offset: usize, value: u32) -> &mut Self {
        self.bhs[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    /// The initiator task tag.
    #[must_use]
    pub fn itt(&self) -> u32 {
        self.word(16)
    }

    /// Sets the initiator task tag.
    pub fn set_itt(&mut self, itt: u32) -> &mut Self {
        self.set_word(16, itt)
    }

    /// Sets the eight LUN bytes, flat addressing below 256 (SAM-5, 4.7).
    pub fn set_lun(&mut self, lun: u64) -> &mut Self {
        self.bhs[8..16].copy_from_slice(&encode_lun(lun));
        self
    }

    /// Sets the data segment.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// The bytes on the wire: lengths filled in, data padded to four bytes, digests appended.
    #[must_use]
    pub fn encode(&self, digests: Digests) -> Vec<u8> {
        let mut out = Vec::with_capacity(BHS_BYTES + self.ahs.len() + self.data.len() + 12);
        out.extend_from_slice(&self.bhs);
        out[4] = (self.ahs.len() / 4) as u8;
        let length = (self.data.len() as u32).to_be_bytes();
        out[5..8].copy_from_slice(&length[1..]);
        out.extend_from_slice(&self.ahs);
        if digests.header {
            let digest = crc32c(&out);
            out.extend_from_slice(&digest);
        }
        if !self.data.is_empty() {
            let start = out.len();
            out.extend_from_slice(&self.data);
            out.resize(start + self.data.len().next_multiple_of(4), 0);
            if digests.data {
                let digest = crc32c(&out[start..]);
                out.extend_from_slice(&digest);
            }
        }
        out
    }
}

/// The eight bytes of a LUN: peripheral addressing below 256, flat space above.
#[must_use]
pub fn encode_lun(lun: u64) -> [u8; 8] {
    let first = if lun < 256 { lun as u16 } else { 0x4000 | (lun as u16 & 0x3fff) };
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&first.to_be_bytes());
    bytes
}

/// CRC-32C as iSCSI sends it: least significant byte first (RFC 7143, 13.1).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_le_bytes()
}

/// `key=value` pairs as a data segment of login and text PDUs.
#[must_use]
pub fn text_segment<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        out.extend_from_slice(key.as_ref().as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_ref().as_bytes());
        out.push(0);
    }
    out
}

/// The pairs of a text data segment, in order; a piece without `=` has an empty value.
#[must_use]
pub fn parse_text(data: &[u8]) -> Vec<(String, String)> {
    data.split(|byte| *byte == 0)
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let text = String::from_utf8_lossy(piece);
            match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (text.into_owned(), String::new()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_examples_of_the_standard() {
        // RFC 7143 refers to RFC 3720 B.4.
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    }

    #[test]
    fn encode_fills_in_lengths_padding_and_digests() {
        let pdu = Pdu::new(opcode::NOP_OUT, FINAL).with_data([1, 2, 3, 4, 5]);
        let plain = pdu.encode(Digests::default());
        assert_eq!((plain.len(), &plain[4..8]), (56, &[0, 0, 0, 5][..]));
        let both = pdu.encode(Digests { header: true, data: true });
        assert_eq!(both.len(), 64);
        assert_eq!(both[48..52], crc32c(&both[..48]));
        assert_eq!(both[60..], crc32c(&both[52..60]));
    }

    #[test]
    fn text_comes_back_as_it_went() {
        let pairs = [("InitiatorName", "iqn.x"), ("Empty", "")];
        let parsed = parse_text(&text_segment(&pairs));
        assert_eq!(parsed, [("InitiatorName".into(), "iqn.x".into()), ("Empty".into(), String::new())]);
    }

    #[test]
    fn luns_above_255_use_flat_space() {
        assert_eq!(encode_lun(7)[..2], [0, 7]);
        assert_eq!(encode_lun(300)[..2], [0x41, 0x2c]);
    }
}

//! PDUs as bytes (NVMe/TCP 1.0, 3.6): a header whose every byte may be set, and data.

/// PDU types.
pub mod kind {
    /// ICReq.
    pub const IC_REQ: u8 = 0x00;
    /// ICResp.
    pub const IC_RESP: u8 = 0x01;
    /// H2CTermReq.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// C2HTermReq.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// CapsuleCmd.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// CapsuleResp.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// H2CData.
    pub const H2C_DATA: u8 = 0x06;
    /// C2HData.
    pub const C2H_DATA: u8 = 0x07;
    /// R2T.
    pub const R2T: u8 = 0x09;
}

/// Flag: a header digest is there.
pub const HDGST: u8 = 1;
/// Flag: a data digest is there.
pub const DDGST: u8 = 2;
/// Flag of data PDUs: the last one.
pub const LAST: u8 = 4;
/// Flag of C2HData: no response follows.
pub const SUCCESS: u8 = 8;

/// Bytes of the common header.
pub const COMMON_BYTES: usize = 8;

/// Which digests a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Of headers.
    pub header: bool,
    /// Of data.
    pub data: bool,
}

/// CRC-32C as it stands on the wire.
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_le_bytes()
}

/// A PDU without digests and padding, which [`Pdu::encode`] puts where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// The header; its lengths are set when it is encoded.
    pub header: Vec<u8>,
    /// The data.
    pub data: Vec<u8>,
}

impl Pdu {
    /// A header of so many bytes.
    pub fn new(pdu_type: u8, flags: u8, header_bytes: usize) -> Self {
        let mut header = vec![0; header_bytes];
        (header[0], header[1]) = (pdu_type, flags);
        Self { header, data: Vec::new() }
    }

    /// The same with data.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// ICReq: no alignment, so many R2Ts of a command at once.
    pub fn ic_req(digests: Digests, r2ts: u32) -> Self {
        let mut pdu = Self::new(kind::IC_REQ, 0, 128);
        pdu.header[11] = u8::from(digests.header) | u8::from(digests.data) << 1;
        pdu.set_u32(12, r2ts - 1);
        pdu
    }

    /// CapsuleCmd.
    pub fn capsule(sqe: &[u8; 64], data: impl Into<Vec<u8>>) -> Self {
        let mut pdu = Self::new(kind::CAPSULE_CMD, 0, 72).with_data(data);
        pdu.header[COMMON_BYTES..].copy_from_slice(sqe);
        pdu
    }

    /// H2CData.
    pub fn h2c_data(cccid: u16, ttag: u16, offset_bytes: u32, last: bool, data: &[u8]) -> Self {
        let mut pdu = Self::new(kind::H2C_DATA, if last { LAST } else { 0 }, 24).with_data(data);
        pdu.set_u16(8, cccid).set_u16(10, ttag).set_u32(12, offset_bytes).set_u32(16, data.len() as u32);
        pdu
    }

    /// H2CTermReq with what was wrong.
    pub fn h2c_term_req(fatal_error_status: u16, header: &[u8]) -> Self {
        let mut pdu = Self::new(kind::H2C_TERM_REQ, 0, 24).with_data(header);
        pdu.set_u16(8, fatal_error_status);
        pdu
    }

    /// The type.
    pub fn pdu_type(&self) -> u8 {
        self.header[0]
    }

    /// A flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.header[1] & flag != 0
    }

    /// A field of two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.header[at], self.header[at + 1]])
    }

    /// A field of four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// A field of eight bytes.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// Sets a field of two bytes.
    pub fn set_u16(&mut self, at: usize, value: u16) -> &mut Self {
        self.header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets a field of four bytes.
    pub fn set_u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// The bytes on the wire. ICReq, ICResp and terminations never have digests.
    pub fn encode(&self, digests: Digests, alignment_bytes: usize) -> Vec<u8> {
        let plain = self.pdu_type() <= kind::C2H_TERM_REQ;
        let digests = if plain { Digests::default() } else { digests };
        let mut bytes = self.header.clone();
        let whole_header_bytes = bytes.len() + if digests.header { 4 } else { 0 };
        bytes[2] = self.header.len() as u8;
        bytes[1] |= if digests.header { HDGST } else { 0 };
        let mut plen = whole_header_bytes + self.data.len();
        if !self.data.is_empty() && !plain {
            let pdo = whole_header_bytes.next_multiple_of(alignment_bytes);
            bytes[3] = pdo as u8;
            plen = pdo + self.data.len();
            if digests.data {
                bytes[1] |= DDGST;
                plen += 4;
            }
        }
        bytes[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
        if digests.header {
            let sum = crc32c(&bytes);
            bytes.extend(sum);
        }
        if !self.data.is_empty() {
            bytes.resize(usize::from(bytes[3]).max(whole_header_bytes), 0);
            bytes.extend(&self.data);
            if digests.data {
                bytes.extend(crc32c(&self.data));
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_digests_and_padding_stand_where_they_belong() {
        let sqe = [7; 64];
        let both = Digests { header: true, data: true };
        let bytes = Pdu::capsule(&sqe, vec![9; 512]).encode(both, 128);
        assert_eq!(bytes[..8], [4, 3, 72, 128, 132, 2, 0, 0]);
        assert_eq!(bytes.len(), 128 + 512 + 4);
        assert_eq!(bytes[72..76], crc32c(&bytes[..72]));
        assert_eq!(bytes[640..], crc32c(&[9; 512]));
        assert_eq!(Pdu::ic_req(both, 1).encode(both, 4)[..12], [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 3]);
        // A known sum of 32 zeros, RFC 7143.
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    }
}

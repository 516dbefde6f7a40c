//! CRC-32C digests of header and data (RFC 7143 section 13.1; polynomial 0x11edc6f41, reflected).
//!
//! The header digest covers BHS and AHS; the data digest covers the data segment and its padding.
//! On the wire the four bytes come least significant first.

use crc_fast::{CrcAlgorithm, Digest as CrcState};

use crate::pdu::{DIGEST_BYTES, pad_bytes};

/// A digest that is fed piece by piece.
#[derive(Clone, Debug)]
pub struct Crc32c {
    state: CrcState,
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32c {
    /// A digest of no bytes.
    pub fn new() -> Self {
        Self { state: CrcState::new(CrcAlgorithm::Crc32Iscsi) }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// Adds the zero padding that follows a data segment of `data_bytes` which we send.
    pub fn update_padding(&mut self, data_bytes: usize) {
        self.state.update(&[0; 3][..pad_bytes(data_bytes)]);
    }

    /// Starts again.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// The number.
    pub fn value(&self) -> u32 {
        self.state.finalize() as u32
    }

    /// The four bytes that go on the wire.
    pub fn to_wire(&self) -> [u8; DIGEST_BYTES] {
        self.value().to_le_bytes()
    }
}

/// CRC-32C of one slice.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Wire form of the digest of one slice: of BHS and AHS, or of a data segment with its padding.
pub fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    crc32c(bytes).to_le_bytes()
}

/// Wire form of the digest of a data segment in several pieces, its zero padding included.
pub fn digest_of_segments(segments: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut crc = Crc32c::new();
    let mut data_bytes = 0;
    for segment in segments {
        crc.update(segment);
        data_bytes += segment.len();
    }
    crc.update_padding(data_bytes);
    crc.to_wire()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The SCSI READ (10) command PDU of the examples.
    const READ_PDU: [u8; 48] = [
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0,
        0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn examples_of_the_standard() {
        // RFC 3720 appendix B.4.
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(digest(&ascending), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(digest(&descending), [0x5c, 0xdb, 0x3f, 0x11]);
        assert_eq!(digest(&READ_PDU), [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn every_split_gives_the_same_digest() {
        let bytes: Vec<u8> = (0..300u32).map(|n| (n * 7) as u8).collect();
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let mut crc = Crc32c::new();
            crc.update(a);
            crc.update(b);
            assert_eq!(crc.value(), crc32c(&bytes));
        }
    }

    #[test]
    fn padding_is_covered() {
        for length in 0..9usize {
            let mut padded = vec![0x5a; length];
            padded.resize(length.next_multiple_of(4), 0);
            let segment = vec![0x5a; length];
            let (a, b) = segment.split_at(length / 2);
            assert_eq!(digest_of_segments(&[a, b]), digest(&padded), "{length}");
        }
    }

    #[test]
    fn reset_forgets() {
        let mut crc = Crc32c::new();
        crc.update(b"something");
        crc.reset();
        crc.update(&[0; 32]);
        assert_eq!(crc.to_wire(), [0xaa, 0x36, 0x91, 0x8a]);
    }
}

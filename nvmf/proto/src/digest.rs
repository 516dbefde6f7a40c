//! CRC-32C digests of header and data (TCP 3.3.1.1; polynomial 11EDC6F41h, reflected).
//!
//! The header digest covers common and specific header, the data digest the data; neither covers the padding between them.
//! On the wire the four bytes come least significant first.

use crc_fast::{CrcAlgorithm, Digest as CrcState};
use nvme_spec::tcp::DIGEST_BYTES;

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

    /// Starts again.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// The four bytes that go on the wire.
    pub fn to_wire(&self) -> [u8; DIGEST_BYTES] {
        (self.state.finalize() as u32).to_le_bytes()
    }
}

/// Wire form of the digest of one slice.
pub fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    crc_fast::crc32_iscsi(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_every_split() {
        assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let bytes: Vec<u8> = (0..300u32).map(|n| (n * 7) as u8).collect();
        let mut crc = Crc32c::new();
        for cut in 0..=bytes.len() {
            crc.reset();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            assert_eq!(crc.to_wire(), digest(&bytes));
        }
    }
}

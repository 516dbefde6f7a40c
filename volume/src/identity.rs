//! The record that says which volume some bytes belong to.
//!
//! A file back end keeps it beside the data (`<name>.meta`), so the data file holds nothing but the
//! volume's blocks and any tool reads it as a raw image. A block device keeps it in the label area
//! at its end. Either way there are two copies, each with its own CRC-32C.
//!
//! ```text
//! byte   0  magic "VEGAvol1"      40  uuid (16)
//!        8  format version (4)    56  sequence (8)
//!       12  logical block (4)     64  length to be, in blocks, or 0 (8)
//!       16  length, in blocks (8) 72  inode (8)
//!       24  flags (4), zeros      80  zeros … CRC-32C of all before it in the last 4 of 512
//! ```
//! Numbers are little-endian.

use uuid::Uuid;

use crate::geometry::{Geometry, GeometryError};

/// The length of an encoded record.
pub const RECORD_BYTES: usize = 512;
/// Where the copies lie from the start of the identity file or the label area.
pub const COPY_OFFSETS_BYTES: [u64; 2] = [0, 4096];
/// The length of an identity file.
pub const IDENTITY_FILE_BYTES: usize = 8192;
/// The format this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"VEGAvol1";
const FLAG_MARKED: u32 = 1;

/// Who some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identity, block size and length.
    pub geometry: Geometry,
    /// Of two valid copies, the one with the higher number counts.
    pub sequence: u64,
    /// A growth that was begun: the length in blocks that the data may already have; 0 without.
    pub growing_to_blocks: u64,
    /// The data carries the volume's uuid as an attribute; else its inode number is what tells it.
    pub marked: bool,
    /// The inode number of the data when the record was written; 0 on a block device.
    pub inode: u64,
}

/// Why bytes are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No copy starts like one.
    #[error("no volume identity")]
    Foreign,
    /// A copy starts like one, and none has the right checksum.
    #[error("the volume identity is damaged in every copy")]
    Damaged,
    /// Written by a later release.
    #[error("identity format {found}, and this release knows formats up to {FORMAT_VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
    /// The checksum is right and the content makes no sense.
    #[error("the identity describes an impossible device: {0}")]
    Geometry(#[from] GeometryError),
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

impl Identity {
    /// One copy.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &self.geometry.logical_block_bytes.to_le_bytes());
        put(16, &self.geometry.length_blocks.to_le_bytes());
        put(24, &(if self.marked { FLAG_MARKED } else { 0 }).to_le_bytes());
        put(40, self.geometry.uuid.as_bytes());
        put(56, &self.sequence.to_le_bytes());
        put(64, &self.growing_to_blocks.to_le_bytes());
        put(72, &self.inode.to_le_bytes());
        let crc = crc32c(&record[..RECORD_BYTES - 4]);
        record[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        record
    }

    /// A whole identity file: both copies.
    pub fn encode_file(&self) -> Vec<u8> {
        let mut file = vec![0; IDENTITY_FILE_BYTES];
        for offset in COPY_OFFSETS_BYTES {
            file[offset as usize..][..RECORD_BYTES].copy_from_slice(&self.encode());
        }
        file
    }

    fn decode_copy(record: &[u8; RECORD_BYTES]) -> Result<Self, IdentityError> {
        if record[..8] != MAGIC {
            return Err(IdentityError::Foreign);
        }
        let u32_at = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(RECORD_BYTES - 4) != crc32c(&record[..RECORD_BYTES - 4]) {
            return Err(IdentityError::Damaged);
        }
        if u32_at(8) > FORMAT_VERSION {
            return Err(IdentityError::Version { found: u32_at(8) });
        }
        let uuid = Uuid::from_slice(&record[40..56]).expect("sixteen bytes");
        let block_bytes = u32_at(12);
        let length_bytes = u64_at(16).saturating_mul(u64::from(block_bytes));
        Ok(Self {
            geometry: Geometry::new(uuid, block_bytes, length_bytes)?,
            sequence: u64_at(56),
            growing_to_blocks: u64_at(64),
            marked: u32_at(24) & FLAG_MARKED != 0,
            inode: u64_at(72),
        })
    }

    /// The newest valid copy in the first bytes of an identity file or a label area.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let copies = COPY_OFFSETS_BYTES.map(|offset| {
            let record = bytes.get(offset as usize..).and_then(|rest| rest.first_chunk::<RECORD_BYTES>());
            record.map_or(Err(IdentityError::Foreign), Self::decode_copy)
        });
        match copies {
            [Ok(a), Ok(b)] => Ok(if b.sequence > a.sequence { b } else { a }),
            [Ok(identity), Err(_)] | [Err(_), Ok(identity)] => Ok(identity),
            // What says most: a later format, then damage, then nothing there.
            [Err(a), Err(IdentityError::Foreign)] => Err(a),
            [Err(IdentityError::Foreign), Err(b)] => Err(b),
            [Err(IdentityError::Damaged), Err(b)] => Err(b),
            [Err(a), Err(_)] => Err(a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(sequence: u64) -> Identity {
        let geometry = Geometry::new(Uuid::from_u128(7), 512, 1 << 30).expect("a good shape");
        Identity { geometry, sequence, growing_to_blocks: 9, marked: true, inode: 11 }
    }

    #[test]
    fn it_survives_the_loss_of_either_copy_at_every_byte() {
        let file = identity(3).encode_file();
        assert_eq!(Identity::decode(&file), Ok(identity(3)));
        for copy in COPY_OFFSETS_BYTES {
            for byte in 0..RECORD_BYTES {
                let mut damaged = file.clone();
                damaged[copy as usize + byte] ^= 0x40;
                assert_eq!(Identity::decode(&damaged), Ok(identity(3)), "copy {copy} byte {byte}");
            }
        }
        assert_eq!(Identity::decode(&file[..RECORD_BYTES]), Ok(identity(3)));
    }

    #[test]
    fn damage_to_both_is_told_from_a_foreign_file() {
        let mut file = identity(3).encode_file();
        file[20] ^= 1;
        file[4096 + 20] ^= 1;
        assert_eq!(Identity::decode(&file), Err(IdentityError::Damaged));
        assert_eq!(Identity::decode(&vec![0; IDENTITY_FILE_BYTES]), Err(IdentityError::Foreign));
        assert_eq!(Identity::decode(b"{}"), Err(IdentityError::Foreign));
        assert_eq!(Identity::decode(&[]), Err(IdentityError::Foreign));
    }

    #[test]
    fn the_newer_copy_counts_and_a_later_format_is_refused() {
        let mut file = identity(3).encode_file();
        file[4096..][..RECORD_BYTES].copy_from_slice(&identity(4).encode());
        assert_eq!(Identity::decode(&file).map(|i| i.sequence), Ok(4));
        for offset in COPY_OFFSETS_BYTES {
            let record = &mut file[offset as usize..][..RECORD_BYTES];
            record[8] = 2;
            let crc = crc32c(&record[..RECORD_BYTES - 4]);
            record[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        assert_eq!(Identity::decode(&file), Err(IdentityError::Version { found: 2 }));
    }
}

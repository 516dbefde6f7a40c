//! What hosts write: every sector says which operation wrote it and where it belongs.

use crate::limits::SECTOR_BYTES;

/// What a sector was found to hold: the operation that wrote it, or 0 for zeros.
pub type Value = u32;

const MAGIC: [u8; 4] = *b"VgSi";
/// The place of a sector that WRITE SAME puts anywhere: only its offset in the block counts.
const ANYWHERE: u32 = 1 << 31;
const SECTOR: usize = SECTOR_BYTES as usize;

/// Sectors that are not what anybody wrote there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// The number of the sector on the unit.
    pub sector: u64,
}

/// Fills `out` with what operation `value` writes from `first_sector` of unit `lun` on.
pub fn fill(out: &mut [u8], value: Value, lun: u8, first_sector: u64) {
    for (sector, piece) in (first_sector as u32..).zip(out.chunks_mut(SECTOR)) {
        fill_sector(piece, value, lun, sector);
    }
}

/// The block that WRITE SAME operation `value` writes everywhere.
pub fn fill_same(out: &mut [u8], value: Value, lun: u8) {
    for (sector, piece) in (0u32..).zip(out.chunks_mut(SECTOR)) {
        fill_sector(piece, value, lun, ANYWHERE | sector);
    }
}

fn fill_sector(out: &mut [u8], value: Value, lun: u8, place: u32) {
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&value.to_le_bytes());
    out[8..12].copy_from_slice(&place.to_le_bytes());
    out[12..16].copy_from_slice(&[lun; 4]);
    let mut state = (u64::from(value) << 32) ^ u64::from(place) ^ 0x9e37_79b9_7f4a_7c15;
    for piece in out[16..].chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        piece.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..piece.len()]);
    }
}

/// The values of the sectors in `bytes`, read from `first_sector` of unit `lun` on.
pub fn values(bytes: &[u8], lun: u8, first_sector: u64, block_bytes: u32) -> Result<Vec<Value>, Garbage> {
    let per_block = u64::from(block_bytes / SECTOR_BYTES);
    let sectors = (first_sector..).zip(bytes.chunks(SECTOR));
    sectors.map(|(sector, piece)| value_of(piece, lun, sector, per_block).ok_or(Garbage { sector })).collect()
}

fn value_of(piece: &[u8], lun: u8, sector: u64, per_block: u64) -> Option<Value> {
    if piece.iter().all(|&byte| byte == 0) {
        return Some(0);
    }
    let word = |at: usize| u32::from_le_bytes([piece[at], piece[at + 1], piece[at + 2], piece[at + 3]]);
    let (value, place) = (word(4), word(8));
    let right = place == sector as u32 || place == ANYWHERE | (sector % per_block) as u32;
    let mut expected = [0; SECTOR];
    fill_sector(&mut expected, value, lun, place);
    (right && piece == expected).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_recognised_and_nothing_else() {
        let mut bytes = vec![0; 4096];
        fill(&mut bytes[..1024], 7, 1, 16);
        fill_same(&mut bytes[2048..], 9, 1);
        // Sector 16 is the first of a block of two sectors.
        assert_eq!(values(&bytes, 1, 16, 2048), Ok(vec![7, 7, 0, 0, 9, 9, 9, 9]));
        assert_eq!(values(&bytes[512..1024], 1, 16, 2048), Err(Garbage { sector: 16 }), "misplaced");
        assert_eq!(values(&bytes[..512], 0, 16, 2048), Err(Garbage { sector: 16 }), "another unit's");
        bytes[100] ^= 1;
        assert_eq!(values(&bytes[..512], 1, 16, 2048), Err(Garbage { sector: 16 }), "torn");
    }
}

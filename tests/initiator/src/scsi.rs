//! Command descriptor blocks (SPC-4, SBC-4) and the parts of answers that tests look at.

/// A CDB padded to 16 bytes.
pub type Cdb = [u8; 16];

/// Status bytes (SAM-5, 5.3).
pub mod status {
    /// GOOD.
    pub const GOOD: u8 = 0x00;
    /// CHECK CONDITION.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// RESERVATION CONFLICT.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// TASK SET FULL.
    pub const TASK_SET_FULL: u8 = 0x28;
    /// TASK ABORTED.
    pub const TASK_ABORTED: u8 = 0x40;
}

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready() -> Cdb {
    [0; 16]
}

/// INQUIRY; `page` asks for vital product data.
#[must_use]
pub fn inquiry(page: Option<u8>, allocation_length: u16) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x12;
    cdb[1] = u8::from(page.is_some());
    cdb[2] = page.unwrap_or(0);
    cdb[3..5].copy_from_slice(&allocation_length.to_be_bytes());
    cdb
}

/// REPORT LUNS.
#[must_use]
pub fn report_luns(allocation_length: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0xa0;
    cdb[6..10].copy_from_slice(&allocation_length.to_be_bytes());
    cdb
}

/// READ CAPACITY (16), a service action of 9Eh.
#[must_use]
pub fn read_capacity_16() -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x9e;
    cdb[1] = 0x10;
    cdb[10..14].copy_from_slice(&32u32.to_be_bytes());
    cdb
}

fn block_cdb_16(operation_code: u8, lba: u64, length_blocks: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = operation_code;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&length_blocks.to_be_bytes());
    cdb
}

/// READ (16).
#[must_use]
pub fn read_16(lba: u64, length_blocks: u32) -> Cdb {
    block_cdb_16(0x88, lba, length_blocks)
}

/// WRITE (16).
#[must_use]
pub fn write_16(lba: u64, length_blocks: u32) -> Cdb {
    block_cdb_16(0x8a, lba, length_blocks)
}

/// WRITE (16) with FUA.
#[must_use]
pub fn write_16_fua(lba: u64, length_blocks: u32) -> Cdb {
    let mut cdb = write_16(lba, length_blocks);
    cdb[1] = 0x08;
    cdb
}

/// WRITE ATOMIC (16) without a boundary; at most 65,535 blocks.
#[must_use]
pub fn write_atomic_16(lba: u64, length_blocks: u32) -> Cdb {
    block_cdb_16(0x9c, lba, length_blocks)
}

/// SYNCHRONIZE CACHE (16) of the whole unit.
#[must_use]
pub fn synchronize_cache_16() -> Cdb {
    block_cdb_16(0x91, 0, 0)
}

/// COMPARE AND WRITE; the data is twice `length_blocks`.
#[must_use]
pub fn compare_and_write(lba: u64, length_blocks: u8) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x89;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[13] = length_blocks;
    cdb
}

/// UNMAP with a parameter list of this length.
#[must_use]
pub fn unmap(parameter_list_length: u16) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x42;
    cdb[7..9].copy_from_slice(&parameter_list_length.to_be_bytes());
    cdb
}

/// An UNMAP parameter list.
#[must_use]
pub fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = (ranges.len() * 16) as u16;
    let mut list = Vec::with_capacity(8 + ranges.len() * 16);
    list.extend_from_slice(&(descriptors + 6).to_be_bytes());
    list.extend_from_slice(&descriptors.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, length_blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&length_blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

/// Number of blocks and bytes per block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Blocks of the logical unit.
    pub blocks: u64,
    /// Bytes of one block.
    pub block_bytes: u32,
}

/// READ CAPACITY (16) data; `None` when it is too short.
#[must_use]
pub fn parse_capacity(data: &[u8]) -> Option<Capacity> {
    let last_lba = u64::from_be_bytes(data.get(..8)?.try_into().ok()?);
    let block_bytes = u32::from_be_bytes(data.get(8..12)?.try_into().ok()?);
    Some(Capacity { blocks: last_lba.checked_add(1)?, block_bytes })
}

/// Sense key, additional sense code and qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// ASC and ASCQ as one number: 0x2400 is INVALID FIELD IN CDB.
    pub code: u16,
}

/// Sense data in fixed or descriptor format (SPC-4, 4.5).
#[must_use]
pub fn parse_sense(bytes: &[u8]) -> Option<Sense> {
    let at = |index: usize| bytes.get(index).copied();
    let (key, asc, ascq) = match at(0)? & 0x7f {
        0x70 | 0x71 => (at(2)?, at(12)?, at(13)?),
        0x72 | 0x73 => (at(1)?, at(2)?, at(3)?),
        _ => return None,
    };
    Some(Sense { key: key & 0x0f, code: u16::from_be_bytes([asc, ascq]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_is_read_in_both_formats() {
        let mut fixed = [0; 18];
        (fixed[0], fixed[2], fixed[12]) = (0x70, 5, 0x24);
        assert_eq!(parse_sense(&fixed), Some(Sense { key: 5, code: 0x2400 }));
        assert_eq!(parse_sense(&[0x72, 6, 0x29, 3]), Some(Sense { key: 6, code: 0x2903 }));
        assert_eq!(parse_sense(&[0x70, 0]), None);
    }

    #[test]
    fn capacity_is_one_more_than_the_last_block() {
        let mut data = [0; 32];
        (data[7], data[10]) = (99, 2);
        assert_eq!(parse_capacity(&data), Some(Capacity { blocks: 100, block_bytes: 512 }));
        assert_eq!(parse_capacity(&data[..11]), None);
    }
}

//! MODE SELECT (SPC-4 sections 6.12 and 6.13): all of a parameter list, or nothing of it.

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::limits::PARAMETER_LIST_BYTES_MAX;
use crate::mode::READ_WRITE_ERROR_RECOVERY;
use crate::mode::{
    CACHING, CONTROL, CONTROL_EXTENSION, Changeable, INFORMATIONAL_EXCEPTIONS, PageControl, PageId,
};
use crate::sense::Sense;
use crate::start::{Outcome, good};
use crate::unit::LogicalUnit;

/// INVALID FIELD IN PARAMETER LIST at a byte of the list.
fn wrong(byte: usize) -> Sense {
    Sense::parameter_byte(u16::try_from(byte).unwrap_or(u16::MAX))
}

impl LogicalUnit {
    pub(crate) fn mode_select(&mut self, command: &Command, cdb: &Cdb, data_out_len: u64) -> Outcome {
        let long = cdb.opcode() == opcode::MODE_SELECT_10;
        let length = if long { usize::from(cdb.u16(7)) } else { usize::from(cdb.u8(4)) };
        // SP: nothing is saved. PF 0 would be vendor-specific pages.
        if cdb.bit(1, 0) {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        if !cdb.bit(1, 4) {
            return Err(Sense::cdb_bit(1, 4).into());
        }
        if length == 0 {
            return good();
        }
        if length as u64 > PARAMETER_LIST_BYTES_MAX || command.data_out.len() < length {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        }
        let mut list = vec![0; length];
        command.data_out.copy_out(0, &mut list);
        let pages_at = self.check_mode_header(&list, long)?;
        let mut new = self.mode.changeable();
        self.parse_mode_pages(&list, pages_at, &mut new)?;
        if self.mode.write_cache_enabled && !new.write_cache_enabled {
            return Ok(self.turn_cache_off(command.task, command.nexus, data_out_len, new));
        }
        self.change_mode(new, command.nexus);
        good()
    }

    /// Checks header and block descriptor; where the pages start.
    fn check_mode_header(&self, list: &[u8], long: bool) -> Result<usize, Sense> {
        let header_bytes = if long { 8 } else { 4 };
        let header = list.get(..header_bytes).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let (descriptor_bytes, long_lba) = if long {
            (usize::from(u16::from_be_bytes([header[6], header[7]])), header[4] & 1 != 0)
        } else {
            (usize::from(header[3]), false)
        };
        let end = header_bytes + descriptor_bytes;
        let descriptor = list.get(header_bytes..end).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        if descriptor_bytes > 0 {
            let current = self.block_descriptor(long_lba);
            if descriptor_bytes != current.len() {
                return Err(wrong(header_bytes - 1));
            }
            // The number of blocks: all of them, in the forms 0 and "as many as fit". Their size is fixed.
            let (blocks, rest) = descriptor.split_at(current.len() / 2);
            let same = blocks == &current[..blocks.len()]
                || blocks.iter().all(|byte| *byte == 0)
                || blocks.iter().all(|byte| *byte == 0xff);
            if !same {
                return Err(wrong(header_bytes));
            }
            if rest != &current[blocks.len()..] {
                return Err(wrong(header_bytes + blocks.len()));
            }
        }
        Ok(end)
    }

    fn parse_mode_pages(&self, list: &[u8], mut at: usize, new: &mut Changeable) -> Result<(), Sense> {
        while at < list.len() {
            let (id, header_bytes, length) = page_header(&list[at..]).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
            let known =
                [READ_WRITE_ERROR_RECOVERY, CACHING, CONTROL, CONTROL_EXTENSION, INFORMATIONAL_EXCEPTIONS];
            if !known.contains(&id) {
                return Err(wrong(at));
            }
            let current = self.mode_page(id, PageControl::Current);
            if header_bytes + length != current.len() {
                return Err(wrong(at + header_bytes - 1));
            }
            let page = list.get(at..at + current.len()).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
            let mask = self.mode_page(id, PageControl::Changeable);
            for byte in header_bytes..current.len() {
                if (page[byte] ^ current[byte]) & !mask[byte] != 0 {
                    return Err(wrong(at + byte));
                }
            }
            match id {
                CACHING => new.write_cache_enabled = page[2] & 0x04 != 0,
                CONTROL => {
                    new.descriptor_sense = page[2] & 0x04 != 0;
                    new.software_write_protect = page[4] & 0x08 != 0;
                }
                _ => {}
            }
            at += current.len();
        }
        Ok(())
    }
}

/// Which page it is, how long its header is, and how much follows the header.
fn page_header(page: &[u8]) -> Option<(PageId, usize, usize)> {
    let code = page.first()? & 0x3f;
    if page[0] & 0x40 == 0 {
        return Some(((code, 0), 2, usize::from(*page.get(1)?)));
    }
    let length = u16::from_be_bytes([*page.get(2)?, *page.get(3)?]);
    Some(((code, *page.get(1)?), 4, usize::from(length)))
}

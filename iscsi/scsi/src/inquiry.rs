//! INQUIRY (SPC-4 section 6.6): standard data and the way to the VPD pages.

use crate::cdb::Cdb;
use crate::command::Command;
use crate::sense::Sense;
use crate::start::{Outcome, bytes};
use crate::unit::LogicalUnit;
use crate::vpd;

/// Standard INQUIRY data with room for the version descriptors.
const STANDARD_BYTES: usize = 96;

/// SAM-5, SPC-4, SBC-3 and iSCSI, no version claimed (SPC-4 table 143).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

/// ASCII, left-aligned, cut or padded with blanks to `N`; other characters become blanks, because
/// hosts print this.
pub(crate) fn ascii<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = if (0x20..=0x7e).contains(&from) { from } else { b' ' };
    }
    field
}

impl LogicalUnit {
    pub(crate) fn inquiry(&mut self, command: &Command, cdb: &Cdb) -> Outcome {
        let allocation_length = cdb.u16(3);
        let page = cdb.u8(2);
        if cdb.bit(1, 0) {
            let name = self.nexuses.get(command.nexus).name.clone();
            let data = vpd::page(self, &name, page).ok_or(Sense::cdb_byte(2))?;
            return bytes(data, allocation_length);
        }
        // CMDDT is obsolete, and a page without EVPD has no meaning.
        if cdb.bit(1, 1) {
            return Err(Sense::cdb_bit(1, 1).into());
        }
        if page != 0 {
            return Err(Sense::cdb_byte(2).into());
        }
        bytes(self.standard_inquiry(), allocation_length)
    }

    fn standard_inquiry(&self) -> Vec<u8> {
        let mut data = vec![0; STANDARD_BYTES];
        data[2] = 0x06; // SPC-4
        data[3] = 0x12; // HISUP, response data format 2
        data[4] = (STANDARD_BYTES - 5) as u8;
        data[5] = 0x10; // TPGS: implicit asymmetric access
        data[6] = 0x10; // MULTIP
        data[7] = 0x02; // CMDQUE
        data[8..16].copy_from_slice(&ascii::<8>(&self.config.vendor));
        data[16..32].copy_from_slice(&ascii::<16>(&self.config.product));
        data[32..36].copy_from_slice(&ascii::<4>(&self.config.revision));
        for (at, descriptor) in (58..).step_by(2).zip(VERSION_DESCRIPTORS) {
            data[at..at + 2].copy_from_slice(&descriptor.to_be_bytes());
        }
        data
    }
}

//! The command descriptor block as fields: big-endian, zero beyond what was sent.

use crate::sense::Sense;

/// Operation codes (SPC-4 annex E). Only those that are looked at.
pub(crate) mod opcode {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const RESERVE_6: u8 = 0x16;
    pub const RELEASE_6: u8 = 0x17;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const PREVENT_ALLOW: u8 = 0x1e;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const WRITE_AND_VERIFY_10: u8 = 0x2e;
    pub const VERIFY_10: u8 = 0x2f;
    pub const PRE_FETCH_10: u8 = 0x34;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const READ_DEFECT_DATA_10: u8 = 0x37;
    pub const WRITE_SAME_10: u8 = 0x41;
    pub const UNMAP: u8 = 0x42;
    pub const SANITIZE: u8 = 0x48;
    pub const LOG_SENSE: u8 = 0x4d;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
    pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
    pub const READ_16: u8 = 0x88;
    pub const COMPARE_AND_WRITE: u8 = 0x89;
    pub const WRITE_16: u8 = 0x8a;
    pub const ORWRITE: u8 = 0x8b;
    pub const WRITE_AND_VERIFY_16: u8 = 0x8e;
    pub const VERIFY_16: u8 = 0x8f;
    pub const PRE_FETCH_16: u8 = 0x90;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const WRITE_SAME_16: u8 = 0x93;
    pub const WRITE_ATOMIC_16: u8 = 0x9c;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const MAINTENANCE_IN: u8 = 0xa3;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
    pub const WRITE_AND_VERIFY_12: u8 = 0xae;
    pub const VERIFY_12: u8 = 0xaf;
    pub const READ_DEFECT_DATA_12: u8 = 0xb7;
}

/// A CDB of at most 16 bytes; longer ones (variable length) have no command here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cdb([u8; 16]);

impl Cdb {
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let mut cdb = [0; 16];
        match bytes.first_chunk::<16>() {
            Some(whole) => cdb = *whole,
            None => cdb[..bytes.len()].copy_from_slice(bytes),
        }
        Self(cdb)
    }

    #[inline]
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    #[inline]
    pub fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    #[inline]
    pub fn bit(&self, at: usize, bit: u8) -> bool {
        self.0[at] & 1 << bit != 0
    }

    #[inline]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    #[inline]
    pub fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at + 4))
    }

    /// The service action, for the operation codes that have one.
    pub fn service_action(&self) -> u8 {
        self.0[1] & 0x1f
    }

    /// The length that the operation code's group stands for; 16 for groups without one.
    pub fn length(&self) -> usize {
        match self.0[0] >> 5 {
            0 => 6,
            1 | 2 => 10,
            5 => 12,
            _ => 16,
        }
    }

    /// NACA is not supported: nobody holds an ACA condition here.
    #[inline]
    pub fn check_control(&self) -> Result<(), Sense> {
        let at = self.length() - 1;
        if self.0[at] & 0x04 != 0 { Err(Sense::cdb_bit(at as u16, 2)) } else { Ok(()) }
    }
}

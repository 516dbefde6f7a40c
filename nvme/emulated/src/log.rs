//! What the controller remembers for its log pages.

use std::collections::{BTreeSet, VecDeque};

use nvme_spec::log::ErrorInformation;
use nvme_spec::{Sqe, Status};
use zerocopy::little_endian::{U16, U32, U64};

use crate::limits::ERROR_LOG_ENTRIES;

/// What a person or a machine asks about the health of a device (Base 5.1.12.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Composite temperature in kelvins.
    pub temperature_kelvins: u16,
    /// Available spare in percent.
    pub spare_percent: u8,
    /// Spare below which a warning is raised.
    pub spare_threshold_percent: u8,
    /// Percentage of its life that was used.
    pub used_percent: u8,
    /// The media are read only.
    pub is_read_only: bool,
    /// Reliability is degraded.
    pub is_degraded: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            temperature_kelvins: 273 + 30,
            spare_percent: 100,
            spare_threshold_percent: 10,
            used_percent: 0,
            is_read_only: false,
            is_degraded: false,
        }
    }
}

/// Counters of the SMART log page, as they are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Smart {
    pub(crate) read_bytes: u128,
    pub(crate) written_bytes: u128,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) power_cycles: u64,
    pub(crate) unsafe_shutdowns: u64,
    pub(crate) media_errors: u64,
}

#[derive(Default)]
pub(crate) struct Log {
    /// The newest first.
    pub(crate) errors: VecDeque<ErrorInformation>,
    pub(crate) error_count: u64,
    pub(crate) smart: Smart,
    /// Namespaces that changed since the page was read.
    pub(crate) changed: BTreeSet<u32>,
}

impl Log {
    fn add(&mut self, entry: ErrorInformation) {
        self.error_count += 1;
        if self.errors.len() == ERROR_LOG_ENTRIES {
            self.errors.pop_back();
        }
        self.errors.push_front(ErrorInformation { error_count: U64::new(self.error_count), ..entry });
    }

    /// A command failed. `lba`: the first block that was to blame.
    pub(crate) fn add_failed_command(&mut self, sqid: u16, sqe: &Sqe, status: Status, lba: Option<u64>) {
        self.add(ErrorInformation {
            sqid: U16::new(sqid),
            cid: sqe.cid,
            status: U16::new(status.bits() << 1),
            parameter_error_location: U16::new(0xffff),
            lba: U64::new(lba.unwrap_or(0)),
            nsid: sqe.nsid,
            opcode: sqe.opcode,
            log_page_version: 1,
            ..ErrorInformation::default()
        });
    }

    /// Something failed that no command is to blame for.
    pub(crate) fn add_error(&mut self) {
        let none = U16::new(0xffff);
        self.add(ErrorInformation {
            sqid: none,
            cid: none,
            parameter_error_location: none,
            nsid: U32::ZERO,
            ..ErrorInformation::default()
        });
    }
}

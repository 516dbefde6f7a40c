//! Reservation commands and their data (Base 7.5 to 7.8, 8.1.22).

use zerocopy::little_endian::{U16, U32, U64};

use crate::{NvmOpcode, Sqe};

open_enum! {
    /// Reservation Register Action (RREGA).
    pub enum RegisterAction(u8) {
        /// Register a key.
        REGISTER = 0,
        /// Unregister.
        UNREGISTER = 1,
        /// Replace the key.
        REPLACE = 2,
    }
}

open_enum! {
    /// Reservation Acquire Action (RACQA).
    pub enum AcquireAction(u8) {
        /// Acquire.
        ACQUIRE = 0,
        /// Preempt.
        PREEMPT = 1,
        /// Preempt and abort.
        PREEMPT_AND_ABORT = 2,
    }
}

open_enum! {
    /// Reservation Release Action (RRELA).
    pub enum ReleaseAction(u8) {
        /// Release.
        RELEASE = 0,
        /// Clear.
        CLEAR = 1,
    }
}

open_enum! {
    /// Reservation Type (Base figure "Reservation Type Encoding").
    #[derive(zerocopy::Unaligned)]
    pub enum ReservationType(u8) {
        /// None is held (only in a status data structure).
        NONE = 0,
        /// Write Exclusive.
        WRITE_EXCLUSIVE = 1,
        /// Exclusive Access.
        EXCLUSIVE_ACCESS = 2,
        /// Write Exclusive - Registrants Only.
        WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 3,
        /// Exclusive Access - Registrants Only.
        EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 4,
        /// Write Exclusive - All Registrants.
        WRITE_EXCLUSIVE_ALL_REGISTRANTS = 5,
        /// Exclusive Access - All Registrants.
        EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 6,
    }
}

open_enum! {
    /// Change Persist Through Power Loss State (CPTPL of Register).
    pub enum ChangePersist(u8) {
        /// No change.
        NO_CHANGE = 0b00,
        /// Reservations are released and registrants cleared by a power loss.
        CLEAR = 0b10,
        /// Reservations and registrants persist.
        SET = 0b11,
    }
}

/// Command dword 10 of Reservation Register, Acquire and Release; each has some of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationDword(pub u32);

impl ReservationDword {
    /// Of a command.
    pub fn of(sqe: &Sqe) -> Self {
        Self(sqe.cdw10.get())
    }

    /// Register: what to do.
    pub const fn register_action(self) -> RegisterAction {
        RegisterAction(self.0 as u8 & 0b111)
    }

    /// Acquire: what to do.
    pub const fn acquire_action(self) -> AcquireAction {
        AcquireAction(self.0 as u8 & 0b111)
    }

    /// Release: what to do.
    pub const fn release_action(self) -> ReleaseAction {
        ReleaseAction(self.0 as u8 & 0b111)
    }

    /// Ignore Existing Key. Set in Acquire or Release it makes the command invalid.
    pub const fn ignore_existing_key(self) -> bool {
        self.0 & 1 << 3 != 0
    }

    /// Register: Disperse Namespace Reservation Support.
    pub const fn dispersed_namespace(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// Acquire, Release: Reservation Type.
    pub const fn reservation_type(self) -> ReservationType {
        ReservationType((self.0 >> 8) as u8)
    }

    /// Register: change of persistence.
    pub const fn change_persist(self) -> ChangePersist {
        ChangePersist((self.0 >> 30) as u8)
    }

    /// Dword of Register.
    pub const fn register(action: RegisterAction, ignore_existing_key: bool, persist: ChangePersist) -> Self {
        Self(action.0 as u32 | (ignore_existing_key as u32) << 3 | (persist.0 as u32) << 30)
    }

    /// Dword of Acquire.
    pub const fn acquire(action: AcquireAction, kind: ReservationType) -> Self {
        Self(action.0 as u32 | (kind.0 as u32) << 8)
    }

    /// Dword of Release.
    pub const fn release(action: ReleaseAction, kind: ReservationType) -> Self {
        Self(action.0 as u32 | (kind.0 as u32) << 8)
    }

    /// The command with this dword, without data pointer.
    pub fn sqe(self, opcode: NvmOpcode, nsid: u32) -> Sqe {
        Sqe { opcode: opcode.0, nsid: U32::new(nsid), cdw10: U32::new(self.0), ..Sqe::default() }
    }
}

/// Fields of Reservation Report (Base 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationReport {
    /// Bytes that the host takes: NUMD plus one dwords.
    pub length_bytes: u64,
    /// Extended Data Structure: must agree with the size of the host identifier.
    pub extended: bool,
}

impl ReservationReport {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        Self { length_bytes: (u64::from(sqe.cdw10.get()) + 1) * 4, extended: sqe.cdw11.get() & 1 != 0 }
    }

    /// The command without data pointer; `length_bytes` is rounded down to dwords.
    ///
    /// # Panics
    /// When `length_bytes` is less than 4 or does not fit NUMD.
    pub fn sqe(&self, nsid: u32) -> Sqe {
        let dwords = self.length_bytes / 4;
        let numd = u32::try_from(dwords - 1).expect("a report that fits the number of dwords");
        Sqe {
            opcode: NvmOpcode::RESERVATION_REPORT.0,
            nsid: U32::new(nsid),
            cdw10: U32::new(numd),
            cdw11: U32::new(u32::from(self.extended)),
            ..Sqe::default()
        }
    }
}

wire! {
    /// Data of Reservation Register.
    pub struct RegisterData[16] {
        /// Current Reservation Key.
        pub crkey: U64,
        /// New Reservation Key.
        pub nrkey: U64,
    }
}

wire! {
    /// Data of Reservation Acquire.
    pub struct AcquireData[16] {
        /// Current Reservation Key.
        pub crkey: U64,
        /// Preempt Reservation Key.
        pub prkey: U64,
    }
}

wire! {
    /// Data of Reservation Release.
    pub struct ReleaseData[8] {
        /// Current Reservation Key.
        pub crkey: U64,
    }
}

wire! {
    /// Head of the Reservation Status data structure; [`RegisteredController`] entries follow.
    pub struct ReservationStatus[24] {
        /// Generation.
        pub generation: U32,
        /// Reservation Type.
        pub rtype: ReservationType,
        /// Number of Registrants.
        pub regstrnt: U16,
        /// Reserved.
        pub reserved7: [u8; 2],
        /// Persist Through Power Loss State (0 or 1).
        pub ptpls: u8,
        /// Reserved.
        pub reserved10: [u8; 14],
    }
}

wire! {
    /// Head of the extended Reservation Status data structure; [`RegisteredControllerExtended`] entries follow.
    pub struct ReservationStatusExtended[64] {
        /// As in the short form.
        pub status: ReservationStatus,
        /// Reserved.
        pub reserved24: [u8; 40],
    }
}

wire! {
    /// A registered controller, for a 64-bit host identifier.
    pub struct RegisteredController[24] {
        /// Controller Identifier; FFFFh for a controller that is not of this subsystem.
        pub cntlid: U16,
        /// Reservation Status: bit 0 says that this controller's host holds the reservation.
        pub rcsts: u8,
        /// Reserved.
        pub reserved3: [u8; 5],
        /// Host Identifier.
        pub hostid: U64,
        /// Reservation Key.
        pub rkey: U64,
    }
}

wire! {
    /// A registered controller, for a 128-bit host identifier.
    pub struct RegisteredControllerExtended[64] {
        /// Controller Identifier; FFFFh for a controller that is not of this subsystem.
        pub cntlid: U16,
        /// Reservation Status: bit 0 says that this controller's host holds the reservation.
        pub rcsts: u8,
        /// Reserved.
        pub reserved3: [u8; 5],
        /// Reservation Key.
        pub rkey: U64,
        /// Host Identifier.
        pub hostid: [u8; 16],
        /// Reserved.
        pub reserved32: [u8; 32],
    }
}

/// Bit of RCSTS: the host of this controller holds the reservation.
pub const RCSTS_HOLDS_RESERVATION: u8 = 1;

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!((offset_of!(ReservationStatus, regstrnt), offset_of!(ReservationStatus, ptpls)), (5, 9));
        assert_eq!(
            (offset_of!(RegisteredController, hostid), offset_of!(RegisteredController, rkey)),
            (8, 16)
        );
        assert_eq!(offset_of!(RegisteredControllerExtended, rkey), 8);
        assert_eq!(offset_of!(RegisteredControllerExtended, hostid), 16);
    }

    #[test]
    fn dword_10_round_trips() {
        let dword = ReservationDword::register(RegisterAction::REPLACE, true, ChangePersist::SET);
        assert_eq!(dword.0, 0xc000_000a);
        assert_eq!(dword.register_action(), RegisterAction::REPLACE);
        assert!(dword.ignore_existing_key() && !dword.dispersed_namespace());
        assert_eq!(dword.change_persist(), ChangePersist::SET);
        let dword = ReservationDword::acquire(
            AcquireAction::PREEMPT_AND_ABORT,
            ReservationType::WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
        );
        assert_eq!(dword.0, 0x302);
        assert_eq!(dword.reservation_type(), ReservationType::WRITE_EXCLUSIVE_REGISTRANTS_ONLY);
        let report = ReservationReport { length_bytes: 4096, extended: true };
        assert_eq!(ReservationReport::of(&report.sqe(1)), report);
    }
}

//! Log pages (Base 5.1.12.1); the Discovery log page is in [`crate::discovery`].

use core::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::discovery::TransportType;

open_enum! {
    /// Log Page Identifier.
    pub enum LogPageId(u8) {
        /// Supported Log Pages.
        SUPPORTED_LOG_PAGES = 0x00,
        /// Error Information.
        ERROR = 0x01,
        /// SMART / Health Information.
        SMART = 0x02,
        /// Firmware Slot Information.
        FIRMWARE_SLOT = 0x03,
        /// Changed Attached Namespace List.
        CHANGED_ATTACHED_NAMESPACE_LIST = 0x04,
        /// Commands Supported and Effects.
        COMMANDS_SUPPORTED_AND_EFFECTS = 0x05,
        /// Device Self-test.
        DEVICE_SELF_TEST = 0x06,
        /// Telemetry Host-Initiated.
        TELEMETRY_HOST_INITIATED = 0x07,
        /// Telemetry Controller-Initiated.
        TELEMETRY_CONTROLLER_INITIATED = 0x08,
        /// Endurance Group Information.
        ENDURANCE_GROUP = 0x09,
        /// Predictable Latency Per NVM Set.
        PREDICTABLE_LATENCY_PER_NVM_SET = 0x0a,
        /// Predictable Latency Event Aggregate.
        PREDICTABLE_LATENCY_EVENT_AGGREGATE = 0x0b,
        /// Asymmetric Namespace Access.
        ANA = 0x0c,
        /// Persistent Event Log.
        PERSISTENT_EVENT_LOG = 0x0d,
        /// Endurance Group Event Aggregate.
        ENDURANCE_GROUP_EVENT_AGGREGATE = 0x0f,
        /// Feature Identifiers Supported and Effects.
        FEATURES_SUPPORTED_AND_EFFECTS = 0x12,
        /// Changed Allocated Namespace List.
        CHANGED_ALLOCATED_NAMESPACE_LIST = 0x1c,
        /// Discovery.
        DISCOVERY = 0x70,
        /// Reservation Notification.
        RESERVATION_NOTIFICATION = 0x80,
        /// Sanitize Status.
        SANITIZE_STATUS = 0x81,
    }
}

wire! {
    /// An entry of the Error Information log page, the newest first; an entry of count 0 is not valid.
    pub struct ErrorInformation[64] {
        /// Error Count: a number of its own for each error.
        pub error_count: U64,
        /// Submission Queue ID.
        pub sqid: U16,
        /// Command ID.
        pub cid: U16,
        /// Status of the command, as in a completion with the Phase Tag in bit 0.
        pub status: U16,
        /// Parameter Error Location: byte in bits 7:0, bit in bits 10:8; FFFFh if there is none.
        pub parameter_error_location: U16,
        /// First LBA that had the error.
        pub lba: U64,
        /// Namespace.
        pub nsid: U32,
        /// Vendor Specific Information Available.
        pub vendor_log_page: u8,
        /// Transport Type.
        pub trtype: TransportType,
        /// Command Set Indicator.
        pub csi: u8,
        /// Opcode.
        pub opcode: u8,
        /// Command Specific Information.
        pub command_specific: U64,
        /// Transport Type Specific Information.
        pub transport_specific: U16,
        /// Reserved.
        pub reserved42: [u8; 21],
        /// Log Page Version: 1 when opcode, transport type and command set are there.
        pub log_page_version: u8,
    }
}

wire! {
    /// SMART / Health Information.
    pub struct SmartHealth[512] {
        /// Critical Warning: [`CRITICAL_WARNING_SPARE`] and others.
        pub critical_warning: u8,
        /// Composite Temperature in kelvins.
        pub composite_temperature_kelvins: U16,
        /// Available Spare in percent.
        pub available_spare: u8,
        /// Available Spare Threshold in percent.
        pub available_spare_threshold: u8,
        /// Percentage Used; may exceed 100.
        pub percentage_used: u8,
        /// Endurance Group Critical Warning Summary.
        pub endurance_group_critical_warning: u8,
        /// Reserved.
        pub reserved7: [u8; 25],
        /// Data Units Read: thousands of 512 bytes, rounded up.
        pub data_units_read: U128,
        /// Data Units Written: thousands of 512 bytes, rounded up.
        pub data_units_written: U128,
        /// Host Read Commands.
        pub host_read_commands: U128,
        /// Host Write Commands.
        pub host_write_commands: U128,
        /// Controller Busy Time in minutes.
        pub controller_busy_minutes: U128,
        /// Power Cycles.
        pub power_cycles: U128,
        /// Power On Hours.
        pub power_on_hours: U128,
        /// Unexpected Power Losses.
        pub unsafe_shutdowns: U128,
        /// Media and Data Integrity Errors.
        pub media_errors: U128,
        /// Number of Error Information Log Entries.
        pub error_log_entries: U128,
        /// Warning Composite Temperature Time in minutes.
        pub warning_temperature_minutes: U32,
        /// Critical Composite Temperature Time in minutes.
        pub critical_temperature_minutes: U32,
        /// Temperature Sensors 1 to 8 in kelvins; 0 is not implemented.
        pub temperature_sensor_kelvins: [U16; 8],
        /// Thermal management and energy.
        pub thermal: [u8; 296],
    }
}

/// Critical warning: available spare fell below the threshold.
pub const CRITICAL_WARNING_SPARE: u8 = 1 << 0;
/// Critical warning: temperature.
pub const CRITICAL_WARNING_TEMPERATURE: u8 = 1 << 1;
/// Critical warning: reliability is degraded.
pub const CRITICAL_WARNING_RELIABILITY: u8 = 1 << 2;
/// Critical warning: the media are read only.
pub const CRITICAL_WARNING_READ_ONLY: u8 = 1 << 3;
/// Critical warning: backup of the volatile memory failed.
pub const CRITICAL_WARNING_VOLATILE_BACKUP: u8 = 1 << 4;

wire! {
    /// Firmware Slot Information.
    pub struct FirmwareSlot[512] {
        /// Active Firmware Info: active slot in bits 2:0, slot at the next reset in bits 6:4.
        pub afi: u8,
        /// Reserved.
        pub reserved1: [u8; 7],
        /// Firmware Revision of slots 1 to 7, ASCII.
        pub revision: [[u8; 8]; 7],
        /// Reserved.
        pub reserved64: [u8; 448],
    }
}

/// Namespaces in the Changed Attached Namespace List; when more changed, the first entry is FFFFFFFFh.
pub const CHANGED_NAMESPACES_MAX: usize = 1024;

wire! {
    /// Commands Supported and Effects: a dword of `EFFECT_` bits for each opcode.
    pub struct CommandEffects[4096] {
        /// Admin commands by opcode.
        pub admin: [U32; 256],
        /// I/O commands by opcode.
        pub io: [U32; 256],
        /// Reserved.
        pub reserved2048: [u8; 2048],
    }
}

/// Command effect: supported.
pub const EFFECT_SUPPORTED: u32 = 1 << 0;
/// Command effect: logical block content may change.
pub const EFFECT_CONTENT_CHANGE: u32 = 1 << 1;
/// Command effect: namespace capability may change.
pub const EFFECT_NAMESPACE_CAPABILITY_CHANGE: u32 = 1 << 2;
/// Command effect: namespaces may come and go.
pub const EFFECT_NAMESPACE_INVENTORY_CHANGE: u32 = 1 << 3;
/// Command effect: controller capability may change.
pub const EFFECT_CONTROLLER_CAPABILITY_CHANGE: u32 = 1 << 4;
/// Command effect, bits 18:16 = 1: no other command for the same namespace at the same time.
pub const EFFECT_EXCLUSIVE_NAMESPACE: u32 = 1 << 16;
/// Command effect, bits 18:16 = 2: no other command for any namespace at the same time.
pub const EFFECT_EXCLUSIVE_CONTROLLER: u32 = 2 << 16;
/// Command effect: scope is one namespace.
pub const EFFECT_SCOPE_NAMESPACE: u32 = 1 << 20;
/// Command effect: scope is the controller.
pub const EFFECT_SCOPE_CONTROLLER: u32 = 1 << 21;

/// Entry of Supported Log Pages: supported.
pub const LOG_SUPPORTED: u32 = 1 << 0;

open_enum! {
    /// Asymmetric Namespace Access state (Base 8.1.1.4 and following).
    #[derive(zerocopy::Unaligned)]
    pub enum AnaState(u8) {
        /// ANA Optimized.
        OPTIMIZED = 0x01,
        /// ANA Non-Optimized.
        NON_OPTIMIZED = 0x02,
        /// ANA Inaccessible.
        INACCESSIBLE = 0x03,
        /// ANA Persistent Loss.
        PERSISTENT_LOSS = 0x04,
        /// ANA Change.
        CHANGE = 0x0f,
    }
}

/// Log Specific Parameter of the ANA log page: return groups only, without lists of namespaces.
pub const ANA_RETURN_GROUPS_ONLY: u8 = 1;

wire! {
    /// Head of the Asymmetric Namespace Access log page; [`AnaGroup`] descriptors follow, each with its list of namespaces.
    pub struct AnaHeader[16] {
        /// Change Count.
        pub change_count: U64,
        /// Number of ANA Group Descriptors.
        pub groups: U16,
        /// Reserved.
        pub reserved10: [u8; 6],
    }
}

wire! {
    /// ANA Group Descriptor; `namespaces` namespace identifiers (4 bytes each) follow.
    pub struct AnaGroup[32] {
        /// ANA Group ID.
        pub anagrpid: U32,
        /// Number of namespace identifiers that follow; 0 when groups only were asked for.
        pub namespaces: U32,
        /// Change Count.
        pub change_count: U64,
        /// State in bits 3:0 ([`AnaGroup::ana_state`]).
        pub state: AnaState,
        /// Reserved.
        pub reserved17: [u8; 15],
    }
}

impl AnaGroup {
    /// The state without reserved bits.
    pub const fn ana_state(&self) -> AnaState {
        AnaState(self.state.0 & 0x0f)
    }
}

open_enum! {
    /// Reservation Notification Log Page Type.
    #[derive(zerocopy::Unaligned)]
    pub enum ReservationNotificationType(u8) {
        /// There is nothing to tell.
        EMPTY = 0,
        /// Registration Preempted.
        REGISTRATION_PREEMPTED = 1,
        /// Reservation Released.
        RESERVATION_RELEASED = 2,
        /// Reservation Preempted.
        RESERVATION_PREEMPTED = 3,
    }
}

wire! {
    /// Reservation Notification.
    pub struct ReservationNotification[64] {
        /// Log Page Count: raised by one for each notification; 0 is none yet.
        pub log_page_count: U64,
        /// What happened.
        pub notification_type: ReservationNotificationType,
        /// Number of Available Log Pages that wait after this one, at most 255.
        pub available_log_pages: u8,
        /// Reserved.
        pub reserved10: [u8; 2],
        /// Namespace.
        pub nsid: U32,
        /// Reserved.
        pub reserved16: [u8; 48],
    }
}

const _: () = assert!(offset_of!(SmartHealth, data_units_read) == 32);
const _: () = assert!(offset_of!(SmartHealth, error_log_entries) == 176);
const _: () = assert!(offset_of!(SmartHealth, temperature_sensor_kelvins) == 200);
const _: () =
    assert!(offset_of!(ErrorInformation, lba) == 16 && offset_of!(ErrorInformation, command_specific) == 32);
const _: () = assert!(offset_of!(ErrorInformation, log_page_version) == 63);
const _: () = assert!(offset_of!(FirmwareSlot, revision) == 8);
const _: () = assert!(offset_of!(CommandEffects, io) == 1024);
const _: () = assert!(offset_of!(AnaHeader, groups) == 8 && offset_of!(AnaGroup, state) == 16);
const _: () = assert!(offset_of!(ReservationNotification, nsid) == 12);

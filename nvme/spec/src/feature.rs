//! Features: identifiers, and the values that have fields (Base 5.1.25).

use zerocopy::little_endian::U16;

open_enum! {
    /// Feature Identifier.
    pub enum FeatureId(u8) {
        /// Arbitration.
        ARBITRATION = 0x01,
        /// Power Management.
        POWER_MANAGEMENT = 0x02,
        /// LBA Range Type.
        LBA_RANGE_TYPE = 0x03,
        /// Temperature Threshold.
        TEMPERATURE_THRESHOLD = 0x04,
        /// Error Recovery.
        ERROR_RECOVERY = 0x05,
        /// Volatile Write Cache.
        VOLATILE_WRITE_CACHE = 0x06,
        /// Number of Queues.
        NUMBER_OF_QUEUES = 0x07,
        /// Interrupt Coalescing.
        INTERRUPT_COALESCING = 0x08,
        /// Interrupt Vector Configuration.
        INTERRUPT_VECTOR_CONFIGURATION = 0x09,
        /// Write Atomicity Normal.
        WRITE_ATOMICITY_NORMAL = 0x0a,
        /// Asynchronous Event Configuration.
        ASYNCHRONOUS_EVENT_CONFIGURATION = 0x0b,
        /// Autonomous Power State Transition.
        AUTONOMOUS_POWER_STATE_TRANSITION = 0x0c,
        /// Host Memory Buffer.
        HOST_MEMORY_BUFFER = 0x0d,
        /// Timestamp.
        TIMESTAMP = 0x0e,
        /// Keep Alive Timer.
        KEEP_ALIVE_TIMER = 0x0f,
        /// Host Controlled Thermal Management.
        HOST_CONTROLLED_THERMAL_MANAGEMENT = 0x10,
        /// Non-Operational Power State Config.
        NON_OPERATIONAL_POWER_STATE_CONFIG = 0x11,
        /// Read Recovery Level Config.
        READ_RECOVERY_LEVEL_CONFIG = 0x12,
        /// Predictable Latency Mode Config.
        PREDICTABLE_LATENCY_MODE_CONFIG = 0x13,
        /// Predictable Latency Mode Window.
        PREDICTABLE_LATENCY_MODE_WINDOW = 0x14,
        /// Host Behavior Support.
        HOST_BEHAVIOR_SUPPORT = 0x16,
        /// Sanitize Config.
        SANITIZE_CONFIG = 0x17,
        /// Endurance Group Event Configuration.
        ENDURANCE_GROUP_EVENT_CONFIGURATION = 0x18,
        /// I/O Command Set Profile.
        IO_COMMAND_SET_PROFILE = 0x19,
        /// Spinup Control.
        SPINUP_CONTROL = 0x1a,
        /// Power Loss Signaling Config.
        POWER_LOSS_SIGNALING_CONFIG = 0x1b,
        /// Flexible Data Placement.
        FLEXIBLE_DATA_PLACEMENT = 0x1d,
        /// Flexible Data Placement Events.
        FLEXIBLE_DATA_PLACEMENT_EVENTS = 0x1e,
        /// Namespace Admin Label.
        NAMESPACE_ADMIN_LABEL = 0x1f,
        /// Software Progress Marker.
        SOFTWARE_PROGRESS_MARKER = 0x80,
        /// Host Identifier.
        HOST_IDENTIFIER = 0x81,
        /// Reservation Notification Mask.
        RESERVATION_NOTIFICATION_MASK = 0x82,
        /// Reservation Persistence.
        RESERVATION_PERSISTENCE = 0x83,
        /// Namespace Write Protection Config.
        NAMESPACE_WRITE_PROTECTION_CONFIG = 0x84,
        /// Boot Partition Write Protection Config.
        BOOT_PARTITION_WRITE_PROTECTION_CONFIG = 0x85,
    }
}

/// Number of Queues: what a host asks for and what a controller grants (Base 5.1.25.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberOfQueues {
    /// I/O submission queues, a true count from 1 to 65536.
    pub submission: u32,
    /// I/O completion queues, a true count from 1 to 65536.
    pub completion: u32,
}

impl NumberOfQueues {
    /// From dword 11 of Set Features, or dword 0 of its completion. FFFFh in either half is an invalid request.
    pub const fn of(dword: u32) -> Self {
        Self { submission: (dword & 0xffff) + 1, completion: (dword >> 16) + 1 }
    }

    /// As a dword.
    ///
    /// # Panics
    /// When a count is 0 or above 65536.
    pub fn dword(self) -> u32 {
        let field = |count: u32| {
            assert!((1..=0x1_0000).contains(&count), "from 1 to 65536 queues, not {count}");
            count - 1
        };
        field(self.submission) | field(self.completion) << 16
    }
}

/// Bits of Asynchronous Event Configuration, and of OAES in Identify Controller (Base 5.1.25.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventConfiguration(pub u32);

impl EventConfiguration {
    /// SMART / health critical warnings: bits 7:0, as in the log page.
    pub const SMART: Self = Self(0xff);
    /// Attached Namespace Attribute Notices.
    pub const NAMESPACE_ATTRIBUTE: Self = Self(1 << 8);
    /// Firmware Activation Notices.
    pub const FIRMWARE_ACTIVATION: Self = Self(1 << 9);
    /// Telemetry Log Notices.
    pub const TELEMETRY_LOG: Self = Self(1 << 10);
    /// Asymmetric Namespace Access Change Notices.
    pub const ANA_CHANGE: Self = Self(1 << 11);
    /// Predictable Latency Event Aggregate Log Change Notices.
    pub const PREDICTABLE_LATENCY: Self = Self(1 << 12);
    /// LBA Status Information Notices.
    pub const LBA_STATUS: Self = Self(1 << 13);
    /// Endurance Group Event Aggregate Log Change Notices.
    pub const ENDURANCE_GROUP: Self = Self(1 << 14);
    /// Normal NVM Subsystem Shutdown.
    pub const NORMAL_SUBSYSTEM_SHUTDOWN: Self = Self(1 << 15);
    /// Discovery Log Page Change Notices.
    pub const DISCOVERY_LOG_CHANGE: Self = Self(1 << 31);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is any of these bits set?
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }
}

/// Volatile Write Cache: bit 0 enables it.
pub const VWC_ENABLE: u32 = 1;

/// Write Atomicity Normal: bit 0 disables the atomic write unit of normal operation (AWUN, NAWUN); that of power fail stays.
pub const WRITE_ATOMICITY_DISABLE_NORMAL: u32 = 1;

/// Host Identifier: bit 0 of dword 11 says that it has 16 bytes and not 8.
pub const HOST_IDENTIFIER_EXTENDED: u32 = 1;

/// Reservation Persistence: bit 0, persist through power loss.
pub const PERSIST_THROUGH_POWER_LOSS: u32 = 1;

/// Reservation Notification Mask: registrations preempted are not told.
pub const MASK_REGISTRATION_PREEMPTED: u32 = 1 << 1;
/// Reservation Notification Mask: reservations released are not told.
pub const MASK_RESERVATION_RELEASED: u32 = 1 << 2;
/// Reservation Notification Mask: reservations preempted are not told.
pub const MASK_RESERVATION_PREEMPTED: u32 = 1 << 3;

/// Temperature Threshold: dword 11 (Base 5.1.25.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureThreshold {
    /// Threshold in kelvins.
    pub kelvins: u16,
    /// Which sensor: 0 is the composite temperature, 15 all of them.
    pub sensor: u8,
    /// Under-temperature threshold; else over-temperature.
    pub under: bool,
}

impl TemperatureThreshold {
    /// From dword 11; `None` for a reserved Threshold Type Select.
    pub const fn of(dword: u32) -> Option<Self> {
        let under = match dword >> 20 & 0b11 {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { kelvins: dword as u16, sensor: (dword >> 16) as u8 & 0x0f, under })
    }

    /// As dword 11.
    pub const fn dword(self) -> u32 {
        self.kelvins as u32 | (self.sensor as u32 & 0x0f) << 16 | (self.under as u32) << 20
    }
}

/// Error Recovery: dword 11 (NVM 4.1.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRecovery {
    /// Time Limited Error Recovery, in units of 100 ms; 0 is no limit.
    pub tler_100ms: u16,
    /// Deallocated or Unwritten Logical Block Error Enable.
    pub dulbe: bool,
}

impl ErrorRecovery {
    /// From dword 11.
    pub const fn of(dword: u32) -> Self {
        Self { tler_100ms: dword as u16, dulbe: dword & 1 << 16 != 0 }
    }

    /// As dword 11.
    pub const fn dword(self) -> u32 {
        self.tler_100ms as u32 | (self.dulbe as u32) << 16
    }
}

/// Interrupt Vector Configuration: the vector in bits 15:0 of dword 11, and this bit, Coalescing Disable.
pub const COALESCING_DISABLE: u32 = 1 << 16;

/// Power Management: power state in bits 4:0 of dword 11, workload hint in bits 7:5.
pub const POWER_STATE: u32 = 0x1f;

wire! {
    /// Data of Host Behavior Support (Base 5.1.25.1.14).
    pub struct HostBehaviorSupport[512] {
        /// Advanced Command Retry Enable: the host understands Command Interrupted and the retry delay.
        pub acre: u8,
        /// Extended Telemetry Data Area 4 Supported.
        pub etdas: u8,
        /// LBA Format Extension Enable.
        pub lbafee: u8,
        /// Host Dispersed Namespace Support.
        pub hdisns: u8,
        /// Copy Descriptor Formats Enable.
        pub cdfe: U16,
        /// Reserved.
        pub reserved6: [u8; 506],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let queues = NumberOfQueues { submission: 4, completion: 0x1_0000 };
        assert_eq!(queues.dword(), 0xffff_0003);
        assert_eq!(NumberOfQueues::of(queues.dword()), queues);
        let threshold = TemperatureThreshold { kelvins: 300, sensor: 15, under: true };
        assert_eq!(TemperatureThreshold::of(threshold.dword()), Some(threshold));
        assert_eq!(TemperatureThreshold::of(0b10 << 20), None);
        let recovery = ErrorRecovery { tler_100ms: 7, dulbe: true };
        assert_eq!(ErrorRecovery::of(recovery.dword()), recovery);
        let events = EventConfiguration::NAMESPACE_ATTRIBUTE.with(EventConfiguration::ANA_CHANGE);
        assert_eq!(events.0, 0x900);
        assert!(events.has(EventConfiguration::ANA_CHANGE) && !events.has(EventConfiguration::SMART));
    }
}

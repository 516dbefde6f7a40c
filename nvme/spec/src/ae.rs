//! Asynchronous events: what the completion of an Asynchronous Event Request says (Base 5.1.2).

use crate::log::LogPageId;

open_enum! {
    /// Asynchronous Event Type.
    pub enum EventType(u8) {
        /// Error status.
        ERROR = 0,
        /// SMART / Health status.
        SMART = 1,
        /// Notice.
        NOTICE = 2,
        /// Immediate.
        IMMEDIATE = 3,
        /// One Shot.
        ONE_SHOT = 4,
        /// I/O Command specific status.
        IO_COMMAND = 6,
        /// Vendor specific.
        VENDOR_SPECIFIC = 7,
    }
}

/// Dword 0 of the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsynchronousEvent {
    /// Asynchronous Event Type (3 bits).
    pub event_type: EventType,
    /// Asynchronous Event Information: its meaning depends on the type.
    pub information: u8,
    /// The log page that tells more, and which, read without Retain, re-arms the event.
    pub lid: LogPageId,
}

impl AsynchronousEvent {
    /// Error: Write to Invalid Doorbell Register.
    pub const ERROR_INVALID_DOORBELL_REGISTER: Self = Self::new(EventType::ERROR, 0x00, LogPageId::ERROR);
    /// Error: Invalid Doorbell Write Value.
    pub const ERROR_INVALID_DOORBELL_VALUE: Self = Self::new(EventType::ERROR, 0x01, LogPageId::ERROR);
    /// Error: Diagnostic Failure.
    pub const ERROR_DIAGNOSTIC_FAILURE: Self = Self::new(EventType::ERROR, 0x02, LogPageId::ERROR);
    /// Error: Persistent Internal Error.
    pub const ERROR_PERSISTENT_INTERNAL: Self = Self::new(EventType::ERROR, 0x03, LogPageId::ERROR);
    /// Error: Transient Internal Error.
    pub const ERROR_TRANSIENT_INTERNAL: Self = Self::new(EventType::ERROR, 0x04, LogPageId::ERROR);
    /// SMART: NVM subsystem Reliability.
    pub const SMART_RELIABILITY: Self = Self::new(EventType::SMART, 0x00, LogPageId::SMART);
    /// SMART: Temperature Threshold.
    pub const SMART_TEMPERATURE: Self = Self::new(EventType::SMART, 0x01, LogPageId::SMART);
    /// SMART: Spare Below Threshold.
    pub const SMART_SPARE: Self = Self::new(EventType::SMART, 0x02, LogPageId::SMART);
    /// Notice: Attached Namespace Attribute Changed.
    pub const NAMESPACE_ATTRIBUTE_CHANGED: Self =
        Self::new(EventType::NOTICE, 0x00, LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST);
    /// Notice: Firmware Activation Starting.
    pub const FIRMWARE_ACTIVATION_STARTING: Self =
        Self::new(EventType::NOTICE, 0x01, LogPageId::FIRMWARE_SLOT);
    /// Notice: Telemetry Log Changed.
    pub const TELEMETRY_LOG_CHANGED: Self =
        Self::new(EventType::NOTICE, 0x02, LogPageId::TELEMETRY_CONTROLLER_INITIATED);
    /// Notice: Asymmetric Namespace Access Change.
    pub const ANA_CHANGE: Self = Self::new(EventType::NOTICE, 0x03, LogPageId::ANA);
    /// Notice: Discovery Log Page Change.
    pub const DISCOVERY_LOG_CHANGED: Self = Self::new(EventType::NOTICE, 0xf0, LogPageId::DISCOVERY);
    /// I/O Command: Reservation Log Page Available.
    pub const RESERVATION_LOG_AVAILABLE: Self =
        Self::new(EventType::IO_COMMAND, 0x00, LogPageId::RESERVATION_NOTIFICATION);
    /// I/O Command: Sanitize Operation Completed.
    pub const SANITIZE_COMPLETED: Self = Self::new(EventType::IO_COMMAND, 0x01, LogPageId::SANITIZE_STATUS);

    /// An event of these parts.
    pub const fn new(event_type: EventType, information: u8, lid: LogPageId) -> Self {
        Self { event_type, information, lid }
    }

    /// From dword 0 of a completion.
    pub const fn of(dword: u32) -> Self {
        Self::new(EventType(dword as u8 & 0b111), (dword >> 8) as u8, LogPageId((dword >> 16) as u8))
    }

    /// As dword 0.
    pub const fn dword(self) -> u32 {
        self.event_type.0 as u32 & 0b111 | (self.information as u32) << 8 | (self.lid.0 as u32) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_round_trip() {
        assert_eq!(AsynchronousEvent::ANA_CHANGE.dword(), 0x000c_0302);
        assert_eq!(AsynchronousEvent::RESERVATION_LOG_AVAILABLE.dword(), 0x0080_0006);
        let event = AsynchronousEvent::DISCOVERY_LOG_CHANGED;
        assert_eq!(AsynchronousEvent::of(event.dword()), event);
    }
}

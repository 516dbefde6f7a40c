//! Opcodes (Base 5, NVM 3).
//!
//! Bits 1:0 of every opcode say which way data goes: 00b none, 01b host to controller, 10b controller to host, 11b both.

/// Which way the data of a command goes, from the low bits of its opcode (Base 3.3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDirection {
    /// No data.
    None,
    /// Host to controller.
    HostToController,
    /// Controller to host.
    ControllerToHost,
    /// Both ways.
    Both,
}

impl DataDirection {
    /// The direction that an opcode (or a Fabrics command type) carries in its low two bits.
    pub const fn of(opcode: u8) -> Self {
        match opcode & 0b11 {
            0b00 => Self::None,
            0b01 => Self::HostToController,
            0b10 => Self::ControllerToHost,
            _ => Self::Both,
        }
    }
}

/// The opcode of every Fabrics command, on admin and I/O queues alike (Base 6).
pub const FABRICS: u8 = 0x7f;

open_enum! {
    /// Opcodes of the admin queue (Base 5).
    #[derive(zerocopy::Unaligned)]
    pub enum AdminOpcode(u8) {
        /// Delete I/O Submission Queue.
        DELETE_IO_SUBMISSION_QUEUE = 0x00,
        /// Create I/O Submission Queue.
        CREATE_IO_SUBMISSION_QUEUE = 0x01,
        /// Get Log Page.
        GET_LOG_PAGE = 0x02,
        /// Delete I/O Completion Queue.
        DELETE_IO_COMPLETION_QUEUE = 0x04,
        /// Create I/O Completion Queue.
        CREATE_IO_COMPLETION_QUEUE = 0x05,
        /// Identify.
        IDENTIFY = 0x06,
        /// Abort.
        ABORT = 0x08,
        /// Set Features.
        SET_FEATURES = 0x09,
        /// Get Features.
        GET_FEATURES = 0x0a,
        /// Asynchronous Event Request.
        ASYNCHRONOUS_EVENT_REQUEST = 0x0c,
        /// Namespace Management.
        NAMESPACE_MANAGEMENT = 0x0d,
        /// Firmware Commit.
        FIRMWARE_COMMIT = 0x10,
        /// Firmware Image Download.
        FIRMWARE_IMAGE_DOWNLOAD = 0x11,
        /// Device Self-test.
        DEVICE_SELF_TEST = 0x14,
        /// Namespace Attachment.
        NAMESPACE_ATTACHMENT = 0x15,
        /// Keep Alive.
        KEEP_ALIVE = 0x18,
        /// Directive Send.
        DIRECTIVE_SEND = 0x19,
        /// Directive Receive.
        DIRECTIVE_RECEIVE = 0x1a,
        /// Virtualization Management.
        VIRTUALIZATION_MANAGEMENT = 0x1c,
        /// NVMe-MI Send.
        NVME_MI_SEND = 0x1d,
        /// NVMe-MI Receive.
        NVME_MI_RECEIVE = 0x1e,
        /// Capacity Management.
        CAPACITY_MANAGEMENT = 0x20,
        /// Discovery Information Management.
        DISCOVERY_INFORMATION_MANAGEMENT = 0x21,
        /// Fabric Zoning Receive.
        FABRIC_ZONING_RECEIVE = 0x22,
        /// Lockdown.
        LOCKDOWN = 0x24,
        /// Fabric Zoning Lookup.
        FABRIC_ZONING_LOOKUP = 0x25,
        /// Clear Exported NVM Resource Configuration.
        CLEAR_EXPORTED_NVM_RESOURCE_CONFIGURATION = 0x28,
        /// Fabric Zoning Send.
        FABRIC_ZONING_SEND = 0x29,
        /// Create Exported NVM Subsystem.
        CREATE_EXPORTED_NVM_SUBSYSTEM = 0x2a,
        /// Manage Exported NVM Subsystem.
        MANAGE_EXPORTED_NVM_SUBSYSTEM = 0x2d,
        /// Manage Exported Namespace.
        MANAGE_EXPORTED_NAMESPACE = 0x31,
        /// Manage Exported Port.
        MANAGE_EXPORTED_PORT = 0x35,
        /// Send Discovery Log Page.
        SEND_DISCOVERY_LOG_PAGE = 0x39,
        /// Track Send.
        TRACK_SEND = 0x3d,
        /// Track Receive.
        TRACK_RECEIVE = 0x3e,
        /// Migration Send.
        MIGRATION_SEND = 0x41,
        /// Migration Receive.
        MIGRATION_RECEIVE = 0x42,
        /// Controller Data Queue.
        CONTROLLER_DATA_QUEUE = 0x45,
        /// Doorbell Buffer Config.
        DOORBELL_BUFFER_CONFIG = 0x7c,
        /// Fabrics commands: the command type is in byte 4.
        FABRICS = FABRICS,
        /// Format NVM.
        FORMAT_NVM = 0x80,
        /// Security Send.
        SECURITY_SEND = 0x81,
        /// Security Receive.
        SECURITY_RECEIVE = 0x82,
        /// Sanitize.
        SANITIZE = 0x84,
        /// Get LBA Status.
        GET_LBA_STATUS = 0x86,
    }
}

open_enum! {
    /// Opcodes of an I/O queue with the NVM Command Set (NVM 3.3, Base 7).
    #[derive(zerocopy::Unaligned)]
    pub enum NvmOpcode(u8) {
        /// Flush.
        FLUSH = 0x00,
        /// Write.
        WRITE = 0x01,
        /// Read.
        READ = 0x02,
        /// Write Uncorrectable.
        WRITE_UNCORRECTABLE = 0x04,
        /// Compare.
        COMPARE = 0x05,
        /// Write Zeroes.
        WRITE_ZEROES = 0x08,
        /// Dataset Management.
        DATASET_MANAGEMENT = 0x09,
        /// Verify.
        VERIFY = 0x0c,
        /// Reservation Register.
        RESERVATION_REGISTER = 0x0d,
        /// Reservation Report.
        RESERVATION_REPORT = 0x0e,
        /// Reservation Acquire.
        RESERVATION_ACQUIRE = 0x11,
        /// I/O Management Receive.
        IO_MANAGEMENT_RECEIVE = 0x12,
        /// Reservation Release.
        RESERVATION_RELEASE = 0x15,
        /// Cancel.
        CANCEL = 0x18,
        /// Copy.
        COPY = 0x19,
        /// I/O Management Send.
        IO_MANAGEMENT_SEND = 0x1d,
        /// Fabrics commands: the command type is in byte 4.
        FABRICS = FABRICS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_carry_the_direction_of_their_data() {
        assert_eq!(DataDirection::of(NvmOpcode::WRITE.0), DataDirection::HostToController);
        assert_eq!(DataDirection::of(NvmOpcode::READ.0), DataDirection::ControllerToHost);
        assert_eq!(DataDirection::of(NvmOpcode::FLUSH.0), DataDirection::None);
        assert_eq!(DataDirection::of(NvmOpcode::WRITE_ZEROES.0), DataDirection::None);
        assert_eq!(DataDirection::of(NvmOpcode::DATASET_MANAGEMENT.0), DataDirection::HostToController);
        assert_eq!(DataDirection::of(NvmOpcode::COPY.0), DataDirection::HostToController);
        assert_eq!(DataDirection::of(NvmOpcode::RESERVATION_REPORT.0), DataDirection::ControllerToHost);
        assert_eq!(DataDirection::of(AdminOpcode::IDENTIFY.0), DataDirection::ControllerToHost);
        assert_eq!(DataDirection::of(AdminOpcode::SET_FEATURES.0), DataDirection::HostToController);
    }
}

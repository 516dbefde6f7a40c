//! Code values of RFC 7143 (and RFC 7144 task management), as open enumerations.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::open_enum;

open_enum! {
    /// Task attribute of a SCSI Command (section 11.3.1).
    pub enum TaskAttribute {
        /// Untagged.
        UNTAGGED = 0,
        /// Simple.
        SIMPLE = 1,
        /// Ordered.
        ORDERED = 2,
        /// Head of queue.
        HEAD_OF_QUEUE = 3,
        /// Auto contingent allegiance.
        ACA = 4,
    }
}

open_enum! {
    /// iSCSI service response of a SCSI Response (section 11.4.3).
    pub enum ScsiResponseCode {
        /// The command completed at the target; the SCSI status is valid.
        COMPLETED = 0x00,
        /// The target failed before the device server could answer.
        TARGET_FAILURE = 0x01,
    }
}

open_enum! {
    /// Function of a task management request (section 11.5.1, RFC 7144 section 5.2).
    pub enum TmfFunction {
        /// Abort the referenced task.
        ABORT_TASK = 1,
        /// Abort all tasks of this nexus on the logical unit.
        ABORT_TASK_SET = 2,
        /// Clear the auto contingent allegiance.
        CLEAR_ACA = 3,
        /// Abort all tasks of the task set.
        CLEAR_TASK_SET = 4,
        /// Reset the logical unit.
        LOGICAL_UNIT_RESET = 5,
        /// Reset all logical units.
        TARGET_WARM_RESET = 6,
        /// Reset all logical units and close all sessions.
        TARGET_COLD_RESET = 7,
        /// Reassign a task to this connection.
        TASK_REASSIGN = 8,
        /// Ask whether a task exists.
        QUERY_TASK = 9,
        /// Ask whether any task exists on the logical unit.
        QUERY_TASK_SET = 10,
        /// Reset the I_T nexus.
        I_T_NEXUS_RESET = 11,
        /// Ask whether unit attentions wait.
        QUERY_ASYNCHRONOUS_EVENT = 12,
    }
}

open_enum! {
    /// Response of a task management request (section 11.6.1).
    pub enum TmfResponse {
        /// The function is done.
        COMPLETE = 0,
        /// The referenced task does not exist.
        TASK_DOES_NOT_EXIST = 1,
        /// The LUN does not exist.
        LUN_DOES_NOT_EXIST = 2,
        /// The task still belongs to another connection.
        TASK_STILL_ALLEGIANT = 3,
        /// Reassignment is not supported.
        REASSIGN_NOT_SUPPORTED = 4,
        /// The function is not supported.
        NOT_SUPPORTED = 5,
        /// The initiator may not do that.
        AUTHORIZATION_FAILED = 6,
        /// The query found something (RFC 7144).
        SUCCEEDED = 7,
        /// Rejected.
        REJECTED = 255,
    }
}

open_enum! {
    /// Reason of a logout (section 11.14.1).
    pub enum LogoutReason {
        /// Close the session with all its connections.
        CLOSE_SESSION = 0,
        /// Close the named connection.
        CLOSE_CONNECTION = 1,
        /// Remove the named connection for recovery.
        REMOVE_FOR_RECOVERY = 2,
    }
}

open_enum! {
    /// Response of a logout (section 11.15.1).
    pub enum LogoutResponseCode {
        /// Closed.
        CLOSED = 0,
        /// No such connection in the session.
        CID_NOT_FOUND = 1,
        /// Connection recovery is not supported.
        RECOVERY_NOT_SUPPORTED = 2,
        /// Clean-up failed.
        CLEANUP_FAILED = 3,
    }
}

open_enum! {
    /// What a SNACK asks for (section 11.16.1).
    pub enum SnackType {
        /// Data-In or R2T again.
        DATA_OR_R2T = 0,
        /// Status again.
        STATUS = 1,
        /// Acknowledges Data-In.
        DATA_ACK = 2,
        /// Data-In again under a new tag.
        R_DATA = 3,
    }
}

open_enum! {
    /// Reason of a Reject (section 11.17.1).
    pub enum RejectReason {
        /// The data digest was wrong; the PDU may be sent again.
        DATA_DIGEST_ERROR = 0x02,
        /// The SNACK cannot be served.
        SNACK_REJECT = 0x03,
        /// The PDU broke the protocol.
        PROTOCOL_ERROR = 0x04,
        /// The opcode is not supported.
        COMMAND_NOT_SUPPORTED = 0x05,
        /// Too many immediate commands.
        IMMEDIATE_COMMAND_REJECT = 0x06,
        /// The task tag is in use.
        TASK_IN_PROGRESS = 0x07,
        /// The data acknowledgement is not valid.
        INVALID_DATA_ACK = 0x08,
        /// A field of the PDU is not valid.
        INVALID_PDU_FIELD = 0x09,
        /// Out of target transfer tags or memory.
        LONG_OPERATION_REJECT = 0x0a,
        /// A logout was asked for and nothing else is served.
        WAITING_FOR_LOGOUT = 0x0c,
    }
}

open_enum! {
    /// Event of an asynchronous message (section 11.9.1).
    pub enum AsyncEvent {
        /// A SCSI asynchronous event, with sense data.
        SCSI_EVENT = 0,
        /// The target asks for a logout of this connection.
        REQUEST_LOGOUT = 1,
        /// The target drops the connection.
        DROP_CONNECTION = 2,
        /// The target drops all connections of the session.
        DROP_SESSION = 3,
        /// The target asks for a parameter negotiation.
        NEGOTIATION_REQUEST = 4,
        /// All tasks of the logical unit are terminated (fast abort).
        TASKS_TERMINATED = 5,
        /// Vendor-specific.
        VENDOR = 255,
    }
}

/// Status class and detail of a login response (section 11.13.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LoginStatus {
    /// 0 success, 1 redirection, 2 initiator error, 3 target error.
    pub class: u8,
    /// Meaning by class.
    pub detail: u8,
}

impl LoginStatus {
    const fn new(class: u8, detail: u8) -> Self {
        Self { class, detail }
    }

    /// The login goes on, or is done.
    pub const SUCCESS: Self = Self::new(0x00, 0x00);
    /// The target lives elsewhere for now; TargetAddress says where.
    pub const MOVED_TEMPORARILY: Self = Self::new(0x01, 0x01);
    /// The target lives elsewhere for good; TargetAddress says where.
    pub const MOVED_PERMANENTLY: Self = Self::new(0x01, 0x02);
    /// Miscellaneous initiator error: protocol errors.
    pub const INITIATOR_ERROR: Self = Self::new(0x02, 0x00);
    /// Authentication failed.
    pub const AUTHENTICATION_FAILURE: Self = Self::new(0x02, 0x01);
    /// The initiator may not use this target.
    pub const AUTHORIZATION_FAILURE: Self = Self::new(0x02, 0x02);
    /// No such target.
    pub const NOT_FOUND: Self = Self::new(0x02, 0x03);
    /// The target was removed and no address is known.
    pub const TARGET_REMOVED: Self = Self::new(0x02, 0x04);
    /// The version is not supported.
    pub const UNSUPPORTED_VERSION: Self = Self::new(0x02, 0x05);
    /// Too many connections in the session.
    pub const TOO_MANY_CONNECTIONS: Self = Self::new(0x02, 0x06);
    /// InitiatorName or TargetName is missing.
    pub const MISSING_PARAMETER: Self = Self::new(0x02, 0x07);
    /// The connection cannot be put into the session.
    pub const CANNOT_INCLUDE_IN_SESSION: Self = Self::new(0x02, 0x08);
    /// The session type is not supported.
    pub const SESSION_TYPE_NOT_SUPPORTED: Self = Self::new(0x02, 0x09);
    /// No session has that TSIH.
    pub const SESSION_DOES_NOT_EXIST: Self = Self::new(0x02, 0x0a);
    /// A PDU other than a login request came.
    pub const INVALID_DURING_LOGIN: Self = Self::new(0x02, 0x0b);
    /// The target has a hardware or software error.
    pub const TARGET_ERROR: Self = Self::new(0x03, 0x00);
    /// The target is not operational now.
    pub const SERVICE_UNAVAILABLE: Self = Self::new(0x03, 0x01);
    /// The target lacks resources.
    pub const OUT_OF_RESOURCES: Self = Self::new(0x03, 0x02);

    /// True for class 0.
    pub const fn is_success(self) -> bool {
        self.class == 0
    }
}

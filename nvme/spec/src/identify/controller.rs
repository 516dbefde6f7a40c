//! Identify Controller (Base 5.1.13.2.1) and its part for the NVM Command Set (NVM 4.1.5.4).

use core::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::NQN_FIELD_BYTES;

wire! {
    /// Identify Controller (CNS 01h).
    pub struct IdentifyController[4096] {
        /// PCI Vendor ID.
        pub vid: U16,
        /// PCI Subsystem Vendor ID.
        pub ssvid: U16,
        /// Serial Number, ASCII, space-padded.
        pub sn: [u8; 20],
        /// Model Number, ASCII, space-padded.
        pub mn: [u8; 40],
        /// Firmware Revision, ASCII, space-padded.
        pub fr: [u8; 8],
        /// Recommended Arbitration Burst.
        pub rab: u8,
        /// IEEE OUI Identifier.
        pub ieee: [u8; 3],
        /// Controller Multi-Path I/O and Namespace Sharing Capabilities: `CMIC_` bits.
        pub cmic: u8,
        /// Maximum Data Transfer Size: 2 to the power of this, in units of the minimum memory page; 0 is no limit.
        pub mdts: u8,
        /// Controller ID.
        pub cntlid: U16,
        /// Version, as [`crate::register::Version`].
        pub ver: U32,
        /// RTD3 Resume Latency.
        pub rtd3r: U32,
        /// RTD3 Entry Latency.
        pub rtd3e: U32,
        /// Optional Asynchronous Events Supported, as [`crate::feature::EventConfiguration`].
        pub oaes: U32,
        /// Controller Attributes: `CTRATT_` bits.
        pub ctratt: U32,
        /// Read Recovery Levels Supported.
        pub rrls: U16,
        /// Boot Partition Capabilities.
        pub bpcap: u8,
        /// Reserved.
        pub reserved103: u8,
        /// NVM Subsystem Shutdown Latency.
        pub nssl: U32,
        /// Reserved.
        pub reserved108: [u8; 2],
        /// Power Loss Signaling Information.
        pub plsi: u8,
        /// Controller Type.
        pub cntrltype: ControllerType,
        /// FRU Globally Unique Identifier.
        pub fguid: [u8; 16],
        /// Command Retry Delay Time 1 to 3, in units of 100 ms.
        pub crdt_100ms: [U16; 3],
        /// Controller Reachability Capabilities.
        pub crcap: u8,
        /// Reserved.
        pub reserved135: [u8; 118],
        /// NVM Subsystem Report (management interface).
        pub nvmsr: u8,
        /// VPD Write Cycle Information (management interface).
        pub vwci: u8,
        /// Management Endpoint Capabilities.
        pub mec: u8,
        /// Optional Admin Command Support.
        pub oacs: U16,
        /// Abort Command Limit, less one.
        pub acl: u8,
        /// Asynchronous Event Request Limit, less one.
        pub aerl: u8,
        /// Firmware Updates.
        pub frmw: u8,
        /// Log Page Attributes: `LPA_` bits.
        pub lpa: u8,
        /// Error Log Page Entries, less one.
        pub elpe: u8,
        /// Number of Power States Support, less one.
        pub npss: u8,
        /// Admin Vendor Specific Command Configuration.
        pub avscc: u8,
        /// Autonomous Power State Transition Attributes.
        pub apsta: u8,
        /// Warning Composite Temperature Threshold in kelvins.
        pub wctemp_kelvins: U16,
        /// Critical Composite Temperature Threshold in kelvins.
        pub cctemp_kelvins: U16,
        /// Maximum Time for Firmware Activation.
        pub mtfa_100ms: U16,
        /// Host Memory Buffer Preferred Size.
        pub hmpre: U32,
        /// Host Memory Buffer Minimum Size.
        pub hmmin: U32,
        /// Total NVM Capacity in bytes.
        pub tnvmcap_bytes: U128,
        /// Unallocated NVM Capacity in bytes.
        pub unvmcap_bytes: U128,
        /// Replay Protected Memory Block Support.
        pub rpmbs: U32,
        /// Extended Device Self-test Time in minutes.
        pub edstt_minutes: U16,
        /// Device Self-test Options.
        pub dsto: u8,
        /// Firmware Update Granularity.
        pub fwug: u8,
        /// Keep Alive Support: granularity of the timer in units of 100 ms; 0 is no support.
        pub kas_100ms: U16,
        /// Host Controlled Thermal Management Attributes.
        pub hctma: U16,
        /// Minimum Thermal Management Temperature.
        pub mntmt: U16,
        /// Maximum Thermal Management Temperature.
        pub mxtmt: U16,
        /// Sanitize Capabilities.
        pub sanicap: U32,
        /// Host Memory Buffer Minimum Descriptor Entry Size.
        pub hmminds: U32,
        /// Host Memory Maximum Descriptors Entries.
        pub hmmaxd: U16,
        /// NVM Set Identifier Maximum.
        pub nsetidmax: U16,
        /// Endurance Group Identifier Maximum.
        pub endgidmax: U16,
        /// ANA Transition Time in seconds: the longest time that state Change lasts.
        pub anatt_seconds: u8,
        /// ANA Capabilities: `ANACAP_` bits.
        pub anacap: u8,
        /// ANA Group Identifier Maximum.
        pub anagrpmax: U32,
        /// Number of ANA Group Identifiers.
        pub nanagrpid: U32,
        /// Persistent Event Log Size.
        pub pels: U32,
        /// Domain Identifier.
        pub domid: U16,
        /// Key Per I/O Capabilities.
        pub kpioc: u8,
        /// Reserved.
        pub reserved359: u8,
        /// Maximum Processing Time for Firmware Activation Without Reset.
        pub mptfawr_100ms: U16,
        /// Reserved.
        pub reserved362: [u8; 6],
        /// Max Endurance Group Capacity.
        pub megcap: U128,
        /// Temperature Threshold Hysteresis Attributes.
        pub tmpthha: u8,
        /// Reserved.
        pub reserved385: u8,
        /// Command Quiesce Time in milliseconds: after loss of communication, the longest time until no command of this
        /// controller has any more effect; 0 is not reported.
        pub cqt_ms: U16,
        /// Reserved.
        pub reserved388: [u8; 124],
        /// Submission Queue Entry Size: required in bits 3:0, maximum in bits 7:4, as powers of two (66h).
        pub sqes: u8,
        /// Completion Queue Entry Size: required in bits 3:0, maximum in bits 7:4, as powers of two (44h).
        pub cqes: u8,
        /// Maximum Outstanding Commands of one queue.
        pub maxcmd: U16,
        /// Number of Namespaces: the largest valid namespace identifier.
        pub nn: U32,
        /// Optional NVM Command Support: `ONCS_` bits.
        pub oncs: U16,
        /// Fused Operation Support: [`FUSES_COMPARE_AND_WRITE`].
        pub fuses: U16,
        /// Format NVM Attributes.
        pub fna: u8,
        /// Volatile Write Cache: `VWC_` bits.
        pub vwc: u8,
        /// Atomic Write Unit Normal in blocks, less one.
        pub awun: U16,
        /// Atomic Write Unit Power Fail in blocks, less one.
        pub awupf: U16,
        /// I/O Command Set Vendor Specific Command Configuration.
        pub icsvscc: u8,
        /// Namespace Write Protection Capabilities.
        pub nwpc: u8,
        /// Atomic Compare & Write Unit in blocks, less one.
        pub acwu: U16,
        /// Copy Descriptor Formats Supported: bit n is format n.
        pub cdfs: U16,
        /// SGL Support: `SGLS_` bits.
        pub sgls: U32,
        /// Maximum Number of Allowed Namespaces.
        pub mnan: U32,
        /// Maximum Domain Namespace Attachments.
        pub maxdna: U128,
        /// Maximum I/O Controller Namespace Attachments.
        pub maxcna: U32,
        /// Optimal Aggregated Queue Depth.
        pub oaqd: U32,
        /// Recommended Host-Initiated Refresh Interval.
        pub rhiri: u8,
        /// Host-Initiated Refresh Time.
        pub hirt: u8,
        /// Migration, tracking and the like.
        pub migration: [u8; 18],
        /// Reserved.
        pub reserved588: [u8; 180],
        /// NVM Subsystem NVMe Qualified Name, NUL-terminated.
        pub subnqn: [u8; NQN_FIELD_BYTES],
        /// Reserved.
        pub reserved1024: [u8; 768],
        /// I/O Queue Command Capsule Supported Size in units of 16 bytes: 64 bytes of command and the in-capsule data.
        pub ioccsz: U32,
        /// I/O Queue Response Capsule Supported Size in units of 16 bytes: 1.
        pub iorcsz: U32,
        /// In Capsule Data Offset in units of 16 bytes; 0 for TCP.
        pub icdoff: U16,
        /// Fabrics Controller Attributes: bit 0 is the static controller model.
        pub fcatt: u8,
        /// Maximum SGL Data Block Descriptors in a capsule: 1 for TCP.
        pub msdbd: u8,
        /// Optional Fabrics Commands Support: [`OFCS_DISCONNECT`].
        pub ofcs: U16,
        /// Discovery Controller Type.
        pub dctype: u8,
        /// Reserved.
        pub reserved1807: [u8; 241],
        /// Power State Descriptors.
        pub psd: [[u8; 32]; 32],
        /// Vendor specific.
        pub vendor: [u8; 1024],
    }
}

open_enum! {
    /// Controller Type (CNTRLTYPE).
    #[derive(zerocopy::Unaligned)]
    pub enum ControllerType(u8) {
        /// Not reported.
        NOT_REPORTED = 0,
        /// I/O controller.
        IO = 1,
        /// Discovery controller.
        DISCOVERY = 2,
        /// Administrative controller.
        ADMINISTRATIVE = 3,
    }
}

/// CMIC: more than one port.
pub const CMIC_MULTI_PORT: u8 = 1 << 0;
/// CMIC: more than one controller.
pub const CMIC_MULTI_CONTROLLER: u8 = 1 << 1;
/// CMIC: an SR-IOV virtual function.
pub const CMIC_SRIOV: u8 = 1 << 2;
/// CMIC: asymmetric namespace access reporting.
pub const CMIC_ANA: u8 = 1 << 3;

/// CTRATT: 128-bit host identifiers.
pub const CTRATT_HOST_IDENTIFIER_128: u32 = 1 << 0;
/// CTRATT: traffic based keep alive.
pub const CTRATT_TRAFFIC_BASED_KEEP_ALIVE: u32 = 1 << 6;
/// CTRATT: namespace granularity list.
pub const CTRATT_NAMESPACE_GRANULARITY: u32 = 1 << 7;
/// CTRATT: extended LBA formats.
pub const CTRATT_EXTENDED_LBA_FORMATS: u32 = 1 << 15;

/// OACS: Security Send and Security Receive.
pub const OACS_SECURITY: u16 = 1 << 0;
/// OACS: Format NVM.
pub const OACS_FORMAT_NVM: u16 = 1 << 1;
/// OACS: Firmware Commit and Firmware Image Download.
pub const OACS_FIRMWARE: u16 = 1 << 2;
/// OACS: Namespace Management and Namespace Attachment.
pub const OACS_NAMESPACE_MANAGEMENT: u16 = 1 << 3;
/// OACS: Device Self-test.
pub const OACS_DEVICE_SELF_TEST: u16 = 1 << 4;
/// OACS: Doorbell Buffer Config.
pub const OACS_DOORBELL_BUFFER_CONFIG: u16 = 1 << 8;

/// LPA: the SMART log page of each namespace.
pub const LPA_SMART_PER_NAMESPACE: u8 = 1 << 0;
/// LPA: Commands Supported and Effects.
pub const LPA_COMMAND_EFFECTS: u8 = 1 << 1;
/// LPA: 32-bit lengths and offsets in Get Log Page.
pub const LPA_EXTENDED_DATA: u8 = 1 << 2;
/// LPA: Supported Log Pages and the like.
pub const LPA_SUPPORTED_LOG_PAGES: u8 = 1 << 5;

/// ANACAP: reports state Optimized.
pub const ANACAP_OPTIMIZED: u8 = 1 << 0;
/// ANACAP: reports state Non-Optimized.
pub const ANACAP_NON_OPTIMIZED: u8 = 1 << 1;
/// ANACAP: reports state Inaccessible.
pub const ANACAP_INACCESSIBLE: u8 = 1 << 2;
/// ANACAP: reports state Persistent Loss.
pub const ANACAP_PERSISTENT_LOSS: u8 = 1 << 3;
/// ANACAP: reports state Change.
pub const ANACAP_CHANGE: u8 = 1 << 4;
/// ANACAP: the group of a namespace does not change while it is attached.
pub const ANACAP_GROUP_FIXED: u8 = 1 << 6;
/// ANACAP: a non-zero group may be given at creation.
pub const ANACAP_GROUP_MANAGED: u8 = 1 << 7;

/// ONCS: Compare.
pub const ONCS_COMPARE: u16 = 1 << 0;
/// ONCS: Write Uncorrectable.
pub const ONCS_WRITE_UNCORRECTABLE: u16 = 1 << 1;
/// ONCS: Dataset Management.
pub const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
/// ONCS: Write Zeroes.
pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;
/// ONCS: Save and Select of features.
pub const ONCS_SAVE_SELECT: u16 = 1 << 4;
/// ONCS: reservations.
pub const ONCS_RESERVATIONS: u16 = 1 << 5;
/// ONCS: timestamp.
pub const ONCS_TIMESTAMP: u16 = 1 << 6;
/// ONCS: Verify.
pub const ONCS_VERIFY: u16 = 1 << 7;
/// ONCS: Copy.
pub const ONCS_COPY: u16 = 1 << 8;
/// ONCS: NVM Copy within one namespace is a single atomic operation.
pub const ONCS_COPY_SINGLE_ATOMIC: u16 = 1 << 9;
/// ONCS: every Copy is fast.
pub const ONCS_ALL_FAST_COPY: u16 = 1 << 10;
/// ONCS: Write Zeroes with Deallocate has a size limit of its own (WZDSL).
pub const ONCS_MAX_WRITE_ZEROES_WITH_DEALLOCATE: u16 = 1 << 11;
/// ONCS: Write Zeroes of a whole namespace.
pub const ONCS_NAMESPACE_ZEROES: u16 = 1 << 12;

/// FUSES: Compare and Write.
pub const FUSES_COMPARE_AND_WRITE: u16 = 1 << 0;

/// VWC: a volatile write cache is present.
pub const VWC_PRESENT: u8 = 1 << 0;
/// VWC, bits 2:1 = 10b: Flush does not take the namespace identifier FFFFFFFFh.
pub const VWC_FLUSH_ALL_NOT_SUPPORTED: u8 = 0b10 << 1;
/// VWC, bits 2:1 = 11b: Flush takes the namespace identifier FFFFFFFFh.
pub const VWC_FLUSH_ALL_SUPPORTED: u8 = 0b11 << 1;

/// SGLS, bits 1:0 = 1: SGLs are supported without requirement on alignment.
pub const SGLS_SUPPORTED: u32 = 0b01;
/// SGLS: bit bucket descriptors.
pub const SGLS_BIT_BUCKET: u32 = 1 << 16;
/// SGLS: an SGL may describe more bytes than the command transfers.
pub const SGLS_LONGER_THAN_DATA: u32 = 1 << 18;
/// SGLS: keyed SGL data block descriptor.
pub const SGLS_KEYED: u32 = 1 << 2;
/// SGLS: the address of a data block descriptor may be an offset (in-capsule data).
pub const SGLS_OFFSET: u32 = 1 << 20;
/// SGLS: transport SGL data block descriptor.
pub const SGLS_TRANSPORT: u32 = 1 << 21;

/// OFCS: Disconnect of an I/O queue.
pub const OFCS_DISCONNECT: u16 = 1 << 0;

impl IdentifyController {
    /// Bytes of in-capsule data that an I/O queue takes, from IOCCSZ.
    pub fn in_capsule_bytes(&self) -> u64 {
        (u64::from(self.ioccsz.get()) * 16).saturating_sub(64)
    }

    /// Sets IOCCSZ for an I/O queue that takes this many bytes in a capsule (rounded down to 16).
    pub fn set_in_capsule_bytes(&mut self, bytes: u32) {
        self.ioccsz = U32::new(4 + bytes / 16);
    }
}

wire! {
    /// Identify Controller of the NVM Command Set (CNS 06h, CSI 00h).
    pub struct IdentifyControllerNvm[4096] {
        /// Verify Size Limit, in the unit of MDTS; 0 is no limit.
        pub vsl: u8,
        /// Write Zeroes Size Limit, in the unit of MDTS; 0 is no limit.
        pub wzsl: u8,
        /// Write Uncorrectable Size Limit, in the unit of MDTS; 0 is no limit.
        pub wusl: u8,
        /// Dataset Management Ranges Limit; 0 is no limit.
        pub dmrl: u8,
        /// Dataset Management Range Size Limit in blocks; 0 is no limit.
        pub dmrsl_blocks: U32,
        /// Dataset Management Size Limit in blocks; 0 is no limit.
        pub dmsl_blocks: U64,
        /// Key Per I/O Capabilities.
        pub kpiocap: u8,
        /// Write Zeroes With Deallocate Size Limit, in the unit of MDTS; 0 is as WZSL.
        pub wzdsl: u8,
        /// Admin Optional Command Support.
        pub aocs: U16,
        /// Version of the NVM Command Set.
        pub ver: U32,
        /// Reserved.
        pub reserved24: [u8; 4072],
    }
}

const _: () = assert!(offset_of!(IdentifyController, mdts) == 77);
const _: () =
    assert!(offset_of!(IdentifyController, oaes) == 92 && offset_of!(IdentifyController, cntrltype) == 111);
const _: () =
    assert!(offset_of!(IdentifyController, nvmsr) == 253 && offset_of!(IdentifyController, oacs) == 256);
const _: () = assert!(offset_of!(IdentifyController, tnvmcap_bytes) == 280);
const _: () = assert!(offset_of!(IdentifyController, kas_100ms) == 320);
const _: () = assert!(offset_of!(IdentifyController, anatt_seconds) == 342);
const _: () =
    assert!(offset_of!(IdentifyController, cqt_ms) == 386 && offset_of!(IdentifyController, sqes) == 512);
const _: () =
    assert!(offset_of!(IdentifyController, vwc) == 525 && offset_of!(IdentifyController, sgls) == 536);
const _: () = assert!(offset_of!(IdentifyController, migration) == 570);
const _: () =
    assert!(offset_of!(IdentifyController, subnqn) == 768 && offset_of!(IdentifyController, ioccsz) == 1792);
const _: () =
    assert!(offset_of!(IdentifyController, dctype) == 1806 && offset_of!(IdentifyController, psd) == 2048);
const _: () = assert!(offset_of!(IdentifyControllerNvm, dmsl_blocks) == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capsule_size_counts_the_command() {
        let mut controller = IdentifyController::default();
        assert_eq!(controller.in_capsule_bytes(), 0);
        controller.set_in_capsule_bytes(16384);
        assert_eq!((controller.ioccsz.get(), controller.in_capsule_bytes()), (1028, 16384));
    }
}

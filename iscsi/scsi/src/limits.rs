//! Every bound of the device server, with the relations between them checked by the compiler.

/// The longest data transfer of one command. Reported as MAXIMUM TRANSFER LENGTH.
pub const TRANSFER_BYTES_MAX: u64 = volume::limits::MAX_TRANSFER_BYTES;
/// Reported as OPTIMAL TRANSFER LENGTH.
pub const TRANSFER_BYTES_OPTIMAL: u64 = 1 << 20;
/// Blocks of one COMPARE AND WRITE; its field in the block limits page has 8 bits.
pub const COMPARE_AND_WRITE_BLOCKS_MAX: u8 = 128;
/// The payload that WRITE SAME makes of its one block, and that VERIFY reads, per step.
pub const STEP_BYTES: u64 = 1 << 20;
/// What one step of an unmap or of writing zeros covers.
pub const CLEAR_STEP_BYTES: u64 = 256 << 20;
/// What the steps of one operation may cost when each is answered on the spot; then the operation lets
/// the core do other work. The unit is a small step, such as freeing an extent: about a microsecond.
pub const TURN_COST: u32 = 512;
/// What a step costs that carries [`STEP_BYTES`] of payload.
pub const PAYLOAD_STEP_COST: u32 = TURN_COST / 4;
/// Reported as MAXIMUM WRITE SAME LENGTH, in blocks. Below 2^16, so that no host meets a length
/// that WRITE SAME takes and WRITE does not merely by being 16 bits wide.
pub const WRITE_SAME_BLOCKS_MAX: u64 = 1 << 15;
/// All descriptors of one UNMAP together, in blocks. Reported as MAXIMUM UNMAP LBA COUNT.
pub const UNMAP_BLOCKS_MAX: u64 = 1 << 20;
/// Reported as MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
pub const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// The longest parameter list that is taken; a longer one is refused unread.
pub const PARAMETER_LIST_BYTES_MAX: u64 = 8192;
/// Descriptors in one answer to GET LBA STATUS.
pub const LBA_STATUS_DESCRIPTORS_MAX: usize = 64;
/// I_T nexuses of one logical unit.
pub const NEXUSES_MAX: usize = 4096;
/// Target port groups, and ports of one group.
pub const PORT_GROUPS_MAX: usize = 32;
/// Sense data of iSCSI and SPC-4 is never longer.
pub const SENSE_BYTES_MAX: usize = 252;

const _: () = {
    assert!(TRANSFER_BYTES_OPTIMAL <= TRANSFER_BYTES_MAX);
    assert!(STEP_BYTES <= TRANSFER_BYTES_MAX);
    assert!(CLEAR_STEP_BYTES <= volume::limits::MAX_UNMAP_BYTES);
    // Both payloads of the largest COMPARE AND WRITE fit one transfer.
    assert!(2 * COMPARE_AND_WRITE_BLOCKS_MAX as u64 * 4096 <= TRANSFER_BYTES_MAX);
    // The UNMAP parameter list with all its descriptors is taken.
    assert!(8 + 16 * UNMAP_DESCRIPTORS_MAX as u64 <= PARAMETER_LIST_BYTES_MAX);
    assert!(PAYLOAD_STEP_COST > 0);
};

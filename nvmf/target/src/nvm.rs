//! I/O commands of the NVM Command Set: from a submission queue entry to a request in the words of the block interface.

use nvme_spec::nvm::{Copy, CopyFormat, CopyRange, DatasetManagement, DsmRange, IoControl};
use nvme_spec::reservation::{ReservationDword, ReservationReport};
use nvme_spec::{NvmOpcode, Sqe, Status};
use volume::bdev::{BdevInfo, Extent};
use zerocopy::FromBytes;

use crate::limits::{COPY_BYTES_MAX, COPY_RANGES_MAX, DSM_RANGES_MAX, TRANSFER_BYTES_MAX};

/// What an I/O command asks. Extents lie on the namespace and lengths within MDTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Read { extent: Extent, fua: bool },
    Write { extent: Extent, fua: bool },
    WriteZeroes { extent: Extent, unmap: bool, fua: bool },
    Compare { extent: Extent, fua: bool },
    Verify { extent: Extent },
    Flush,
    DatasetManagement { ranges: usize, deallocate: bool },
    Copy { ranges: usize, destination_lba: u64, fua: bool },
    ReservationRegister(ReservationDword),
    ReservationAcquire(ReservationDword),
    ReservationRelease(ReservationDword),
    ReservationReport(ReservationReport),
}

/// How reservations look at a command (NVMe base, section 8.1.22.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Reads the medium.
    Read,
    /// Writes the medium; flushes belong here.
    Write,
    /// Has rules of its own.
    Reservation,
}

impl Request {
    /// Reads a command of a namespace. The data direction and the lengths that the command itself names are
    /// checked here; what stands in its data is not.
    #[inline]
    pub fn parse(sqe: &Sqe, info: &BdevInfo) -> Result<Self, Status> {
        match sqe.nvm_opcode() {
            NvmOpcode::READ => Ok(Self::Read { extent: transfer(sqe, info)?, fua: fua(sqe) }),
            NvmOpcode::WRITE => {
                if sqe.io_control().directive_type() != 0 {
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                Ok(Self::Write { extent: transfer(sqe, info)?, fua: fua(sqe) })
            }
            _ => Self::parse_other(sqe, info),
        }
    }

    fn parse_other(sqe: &Sqe, info: &BdevInfo) -> Result<Self, Status> {
        Ok(match sqe.nvm_opcode() {
            NvmOpcode::FLUSH => Self::Flush,
            NvmOpcode::COMPARE => Self::Compare { extent: transfer(sqe, info)?, fua: fua(sqe) },
            NvmOpcode::VERIFY => Self::Verify { extent: transfer(sqe, info)? },
            NvmOpcode::WRITE_ZEROES => {
                let control = sqe.io_control();
                if control.has(IoControl::NAMESPACE_ZEROES) {
                    // Not announced in ONCS or NSFEAT.
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                let unmap = control.has(IoControl::DEALLOCATE);
                Self::WriteZeroes { extent: extent(sqe, info)?, unmap, fua: fua(sqe) }
            }
            NvmOpcode::DATASET_MANAGEMENT => {
                let command = DatasetManagement::of(sqe);
                let ranges = usize::from(command.ranges);
                assert!(ranges <= DSM_RANGES_MAX, "eight bits count at most 256 ranges");
                Self::DatasetManagement { ranges, deallocate: command.deallocates() }
            }
            NvmOpcode::COPY => {
                let command = Copy::of(sqe);
                if command.format != CopyFormat::FORMAT_0 || sqe.io_control().directive_type() != 0 {
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                let ranges = usize::from(command.ranges);
                if ranges > COPY_RANGES_MAX {
                    return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr());
                }
                Self::Copy { ranges, destination_lba: sqe.slba(), fua: fua(sqe) }
            }
            NvmOpcode::RESERVATION_REGISTER => Self::ReservationRegister(ReservationDword::of(sqe)),
            NvmOpcode::RESERVATION_ACQUIRE => Self::ReservationAcquire(ReservationDword::of(sqe)),
            NvmOpcode::RESERVATION_RELEASE => Self::ReservationRelease(ReservationDword::of(sqe)),
            NvmOpcode::RESERVATION_REPORT => Self::ReservationReport(ReservationReport::of(sqe)),
            _ => return Err(Status::INVALID_OPCODE.with_dnr()),
        })
    }

    /// The bytes that the command takes from the host.
    #[inline]
    pub fn host_bytes(&self, info: &BdevInfo) -> usize {
        match self {
            Self::Write { extent, .. } | Self::Compare { extent, .. } => bytes_of(*extent, info),
            Self::DatasetManagement { ranges, .. } => ranges * size_of::<DsmRange>(),
            Self::Copy { ranges, .. } => ranges * size_of::<CopyRange>(),
            Self::ReservationRegister(_) | Self::ReservationAcquire(_) => 16,
            Self::ReservationRelease(_) => 8,
            Self::Read { .. }
            | Self::WriteZeroes { .. }
            | Self::Verify { .. }
            | Self::Flush
            | Self::ReservationReport(_) => 0,
        }
    }

    /// What reservations say about it.
    #[inline]
    pub fn group(&self) -> Group {
        match self {
            Self::Read { .. } | Self::Compare { .. } | Self::Verify { .. } => Group::Read,
            Self::Write { .. }
            | Self::WriteZeroes { .. }
            | Self::Flush
            | Self::DatasetManagement { .. }
            | Self::Copy { .. } => Group::Write,
            Self::ReservationRegister(_)
            | Self::ReservationAcquire(_)
            | Self::ReservationRelease(_)
            | Self::ReservationReport(_) => Group::Reservation,
        }
    }
}

/// Bytes of an extent that was checked against MDTS.
#[inline]
pub(crate) fn bytes_of(extent: Extent, info: &BdevInfo) -> usize {
    extent.length_blocks as usize * info.logical_block_bytes as usize
}

fn fua(sqe: &Sqe) -> bool {
    sqe.io_control().has(IoControl::FORCE_UNIT_ACCESS)
}

/// SLBA and NLB, on the namespace. 2^64 does not wrap.
#[inline]
fn extent(sqe: &Sqe, info: &BdevInfo) -> Result<Extent, Status> {
    Extent::new(sqe.slba(), u64::from(sqe.length_blocks()), info.length_blocks)
        .ok_or(Status::LBA_OUT_OF_RANGE.with_dnr())
}

/// As [`extent`], of a command that moves the blocks: within MDTS.
#[inline]
fn transfer(sqe: &Sqe, info: &BdevInfo) -> Result<Extent, Status> {
    if u64::from(sqe.length_blocks()) * u64::from(info.logical_block_bytes) > TRANSFER_BYTES_MAX as u64 {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    extent(sqe, info)
}

/// The extents of a range list of Dataset Management; empty ones are left out (NVM, section 3.3.3).
pub(crate) fn dsm_extents(list: &[u8], info: &BdevInfo) -> Result<Vec<Extent>, Status> {
    let (ranges, _) = list.as_chunks::<{ size_of::<DsmRange>() }>();
    let mut extents = Vec::with_capacity(ranges.len());
    for range in ranges {
        let range = DsmRange::read_from_bytes(range).expect("a chunk has the size of a range");
        let extent = Extent::new(range.slba.get(), u64::from(range.length_blocks.get()), info.length_blocks);
        let extent = extent.ok_or(Status::LBA_OUT_OF_RANGE.with_dnr())?;
        if extent.length_blocks > 0 {
            extents.push(extent);
        }
    }
    Ok(extents)
}

/// The sources of a Copy command, and the destination that they fill together.
pub(crate) fn copy_extents(
    list: &[u8],
    destination_lba: u64,
    info: &BdevInfo,
) -> Result<(Vec<Extent>, Extent), Status> {
    let (ranges, _) = list.as_chunks::<{ size_of::<CopyRange>() }>();
    let mut sources = Vec::with_capacity(ranges.len());
    let mut length_blocks = 0;
    for range in ranges {
        let range = CopyRange::read_from_bytes(range).expect("a chunk has the size of a range");
        let blocks = u64::from(range.length_blocks());
        length_blocks += blocks;
        if length_blocks * u64::from(info.logical_block_bytes) > COPY_BYTES_MAX as u64 {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr());
        }
        let source = Extent::new(range.slba.get(), blocks, info.length_blocks);
        sources.push(source.ok_or(Status::LBA_OUT_OF_RANGE.with_dnr())?);
    }
    let destination = Extent::new(destination_lba, length_blocks, info.length_blocks);
    let destination = destination.ok_or(Status::LBA_OUT_OF_RANGE.with_dnr())?;
    if sources.iter().any(|source| source.overlaps(destination)) {
        return Err(Status::OVERLAPPING_IO_RANGE.with_dnr());
    }
    Ok((sources, destination))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::nvm::COMMAND_BLOCKS_MAX;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32, U64};

    fn info(block_bytes: u32, length_blocks: u64) -> BdevInfo {
        BdevInfo {
            logical_block_bytes: block_bytes,
            physical_block_bytes: 4096,
            length_blocks,
            volatile_write_cache: false,
            thin: true,
            unmap_granularity_blocks: 1,
            write_unit_blocks: 1,
            atomic_write_blocks: 1,
            uuid: uuid::Uuid::nil(),
        }
    }

    fn io(opcode: NvmOpcode, slba: u64, blocks: u32) -> Sqe {
        Sqe::io(opcode, 1, slba, blocks, IoControl::NONE)
    }

    #[test]
    fn a_range_that_ends_past_the_namespace_or_past_2_to_the_64_is_refused() {
        let info = info(512, 100);
        let out = Err(Status::LBA_OUT_OF_RANGE.with_dnr());
        assert!(Request::parse(&io(NvmOpcode::READ, 99, 1), &info).is_ok());
        for (slba, blocks) in [(99, 2), (100, 1), (u64::MAX, 1), (u64::MAX, 2), (u64::MAX - 7, 8)] {
            assert_eq!(Request::parse(&io(NvmOpcode::READ, slba, blocks), &info), out);
            assert_eq!(Request::parse(&io(NvmOpcode::WRITE, slba, blocks), &info), out);
            assert_eq!(Request::parse(&io(NvmOpcode::WRITE_ZEROES, slba, blocks), &info), out);
        }
    }

    #[test]
    fn the_longest_transfer_is_what_mdts_says() {
        for block_bytes in [512, 4096] {
            let info = info(block_bytes, 1 << 20);
            let most = (TRANSFER_BYTES_MAX as u32) / block_bytes;
            let longest = Request::parse(&io(NvmOpcode::WRITE, 0, most), &info).unwrap();
            assert_eq!(longest.host_bytes(&info), TRANSFER_BYTES_MAX);
            let refused = Request::parse(&io(NvmOpcode::WRITE, 0, most + 1), &info);
            assert_eq!(refused, Err(Status::INVALID_FIELD.with_dnr()));
            // Nothing is transferred, so MDTS does not bound it.
            assert!(Request::parse(&io(NvmOpcode::WRITE_ZEROES, 0, COMMAND_BLOCKS_MAX), &info).is_ok());
        }
    }

    #[test]
    fn what_is_not_announced_is_refused() {
        let info = info(512, 100);
        for opcode in (0..=255).map(NvmOpcode) {
            let known = Request::parse(&io(opcode, 0, 1), &info).is_ok();
            let announced =
                matches!(opcode.0, 0 | 1 | 2 | 5 | 8 | 9 | 0x0c | 0x0d | 0x0e | 0x11 | 0x15 | 0x19);
            assert_eq!(known, announced, "opcode {:02x}h", opcode.0);
        }
        let streams = Sqe::io(NvmOpcode::WRITE, 1, 0, 1, IoControl(1 << 20));
        assert_eq!(Request::parse(&streams, &info), Err(Status::INVALID_FIELD.with_dnr()));
    }

    #[test]
    fn the_range_lists_are_checked_range_by_range() {
        let info = info(512, 100);
        let range = |slba, blocks| DsmRange {
            context_attributes: U32::ZERO,
            length_blocks: U32::new(blocks),
            slba: U64::new(slba),
        };
        let list = [range(0, 0), range(99, 1), range(100, 0)];
        assert_eq!(dsm_extents(list.as_bytes(), &info).unwrap(), [Extent { lba: 99, length_blocks: 1 }]);
        let beyond = [range(0, 1), range(u64::MAX, u32::MAX)];
        assert_eq!(dsm_extents(beyond.as_bytes(), &info), Err(Status::LBA_OUT_OF_RANGE.with_dnr()));
    }

    #[test]
    fn a_copy_stays_within_its_limits_and_does_not_run_over_itself() {
        let info = info(4096, 1 << 20);
        let range =
            |slba, nlb| CopyRange { slba: U64::new(slba), nlb: U16::new(nlb), ..CopyRange::default() };
        let list = [range(0, 7), range(100, 0)];
        let (sources, destination) = copy_extents(list.as_bytes(), 50, &info).unwrap();
        assert_eq!((sources.len(), destination), (2, Extent { lba: 50, length_blocks: 9 }));
        let copy = |list: &[CopyRange], to| copy_extents(list.as_bytes(), to, &info).map(|_| ());
        assert_eq!(copy(&list, 92), Err(Status::OVERLAPPING_IO_RANGE.with_dnr()));
        assert_eq!(
            copy(&[range(0, 255), range(512, 0)], 4096),
            Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr())
        );
        assert_eq!(copy(&[range(u64::MAX, 0)], 0), Err(Status::LBA_OUT_OF_RANGE.with_dnr()));
        assert_eq!(copy(&[range(0, 0)], u64::MAX), Err(Status::LBA_OUT_OF_RANGE.with_dnr()));
    }
}

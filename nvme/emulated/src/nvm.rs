//! The commands of an I/O queue: the NVM Command Set (NVM 3.3).

use nvme_spec::nvm::{DatasetManagement, DsmRange, IoControl};
use nvme_spec::{NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::FromBytes;

use crate::controller::Controller;
use crate::fault::Action;
use crate::iommu::Iommu;
use crate::limits::TRANSFER_BYTES_MAX;
use crate::media::{Extent, Fate};
use crate::namespace::{Blocks, Namespace};
use crate::transfer::{Cursor, Direction};

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr();
const INVALID_NAMESPACE: Status = Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr();

/// What a command goes to: a namespace's blocks and where they are.
#[derive(Clone, Debug)]
struct Span {
    nsid: u32,
    blocks: Blocks,
    extent: Extent,
}

impl Span {
    fn length_bytes(&self) -> u64 {
        self.extent.end - self.extent.start
    }
}

impl Controller {
    #[inline]
    pub(crate) fn execute_nvm(
        &mut self,
        sqe: &Sqe,
        action: Option<Action>,
        dma: &mut Iommu,
    ) -> Result<u32, Status> {
        let is_offered = match sqe.nvm_opcode() {
            NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::FLUSH => true,
            NvmOpcode::COMPARE => self.config.compare,
            NvmOpcode::WRITE_ZEROES => self.config.write_zeroes,
            NvmOpcode::DATASET_MANAGEMENT => self.config.dataset_management,
            NvmOpcode::VERIFY => self.config.verify,
            _ => false,
        };
        if !is_offered {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        match sqe.nvm_opcode() {
            NvmOpcode::READ => self.read(sqe, action, dma),
            NvmOpcode::WRITE => self.write(sqe, action, dma),
            NvmOpcode::FLUSH => self.flush(sqe),
            NvmOpcode::COMPARE => self.compare(sqe, dma),
            NvmOpcode::WRITE_ZEROES => self.write_zeroes(sqe, action),
            NvmOpcode::DATASET_MANAGEMENT => self.manage_dataset(sqe, dma),
            _ => self.verify(sqe),
        }
        .map(|()| 0)
    }

    /// The namespace that a command with data or blocks names: active, and of a format without metadata, which is all
    /// that is served here.
    #[inline]
    fn usable(&self, sqe: &Sqe) -> Result<&Namespace, Status> {
        let namespace = self.active(sqe.nsid.get()).ok_or(INVALID_NAMESPACE)?;
        if namespace.format.metadata_bytes() != 0 { Err(INVALID_NAMESPACE) } else { Ok(namespace) }
    }

    #[inline]
    fn span(&self, sqe: &Sqe) -> Result<Span, Status> {
        let namespace = self.usable(sqe)?;
        let blocks = namespace.blocks(sqe.slba(), sqe.length_blocks().into())?;
        Ok(Span { nsid: namespace.nsid, blocks, extent: namespace.extent(blocks) })
    }

    /// The span of a command that moves its data: not longer than MDTS allows.
    #[inline]
    fn data_span(&self, sqe: &Sqe) -> Result<Span, Status> {
        let span = self.span(sqe)?;
        if span.length_bytes() > self.transfer_bytes_max() { Err(INVALID_FIELD) } else { Ok(span) }
    }

    pub(crate) fn transfer_bytes_max(&self) -> u64 {
        match self.config.mdts {
            0 => TRANSFER_BYTES_MAX,
            mdts => 4096 << self.config.page_size_min << mdts,
        }
    }

    #[inline]
    fn find_data(
        &mut self,
        sqe: &Sqe,
        length_bytes: u64,
        direction: Direction,
        dma: &mut Iommu,
    ) -> Result<Cursor, Status> {
        let sgl = self.config.sgl.then_some(direction);
        self.pieces.find(sqe, length_bytes, self.registers.page_bytes(), sgl, dma)
    }

    /// Says that the medium failed at this byte.
    fn media_error(&mut self, nsid: u32, byte: u64, status: Status) -> Status {
        self.log.smart.media_errors += 1;
        self.failed_lba = self.active(nsid).map(|namespace| namespace.block_of(byte));
        status
    }

    fn check_readable(&mut self, span: &Span) -> Result<(), Status> {
        let namespace = self.active(span.nsid).ok_or(INVALID_NAMESPACE)?;
        let (dulbe, media) = (namespace.deallocated_error, &namespace.media);
        if let Some(byte) = media.unreadable_in(&span.extent) {
            return Err(self.media_error(span.nsid, byte, Status::UNRECOVERED_READ_ERROR));
        }
        if dulbe && !media.is_allocated(&span.extent) {
            return Err(Status::DEALLOCATED_OR_UNWRITTEN_LOGICAL_BLOCK.with_dnr());
        }
        Ok(())
    }

    fn check_writable(&mut self, span: &Span) -> Result<(), Status> {
        if self.health.is_read_only {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.with_dnr());
        }
        let bad = self.active(span.nsid).and_then(|namespace| namespace.media.unwritable_in(&span.extent));
        bad.map_or(Ok(()), |byte| Err(self.media_error(span.nsid, byte, Status::WRITE_FAULT)))
    }

    fn read(&mut self, sqe: &Sqe, action: Option<Action>, dma: &mut Iommu) -> Result<(), Status> {
        let span = self.data_span(sqe)?;
        self.check_readable(&span)?;
        let mut cursor = self.find_data(sqe, span.length_bytes(), Direction::ToHost, dma)?;
        let namespace = self.namespaces.get_mut(&span.nsid).ok_or(INVALID_NAMESPACE)?;
        if sqe.io_control().has(IoControl::FORCE_UNIT_ACCESS) {
            // It reads from the medium, so what is newer in the cache goes there first.
            namespace.media.flush();
        }
        namespace.media.settle();
        let pieces = &self.pieces;
        let mut corrupt = action == Some(Action::CorruptData);
        let (page, random) = (&mut self.page, &mut self.random);
        namespace.media.read(&span.extent, |bytes| {
            if std::mem::take(&mut corrupt) {
                page[..bytes.len()].copy_from_slice(bytes);
                turn_a_bit(&mut page[..bytes.len()], random);
                return pieces.scatter(&mut cursor, &page[..bytes.len()], dma);
            }
            pieces.scatter(&mut cursor, bytes, dma);
        });
        self.log.smart.reads += 1;
        self.log.smart.read_bytes += u128::from(span.length_bytes());
        Ok(())
    }

    fn write(&mut self, sqe: &Sqe, action: Option<Action>, dma: &mut Iommu) -> Result<(), Status> {
        let span = self.data_span(sqe)?;
        self.check_writable(&span)?;
        let mut cursor = self.find_data(sqe, span.length_bytes(), Direction::FromHost, dma)?;
        let fate = self.fate(sqe, action);
        let namespace = self.namespaces.get_mut(&span.nsid).ok_or(INVALID_NAMESPACE)?;
        let mut extent = span.extent.clone();
        match action {
            Some(Action::LoseWrite) => return Ok(()),
            Some(Action::MisdirectWrite { blocks }) => {
                let first = span.blocks.first.saturating_add(blocks);
                if let Ok(elsewhere) = namespace.blocks(first, span.blocks.count) {
                    extent = namespace.extent(elsewhere);
                }
            }
            _ => {}
        }
        let mut corrupt = action == Some(Action::CorruptData);
        let (pieces, random) = (&self.pieces, &mut self.random);
        namespace.media.write(&extent, fate, |bytes| {
            pieces.gather(&mut cursor, bytes, dma);
            if std::mem::take(&mut corrupt) {
                turn_a_bit(bytes, random);
            }
        });
        self.log.smart.writes += 1;
        self.log.smart.written_bytes += u128::from(span.length_bytes());
        Ok(())
    }

    fn flush(&mut self, sqe: &Sqe) -> Result<(), Status> {
        if sqe.nsid.get() == NSID_ALL {
            self.namespaces.values_mut().for_each(|namespace| namespace.media.flush());
            return Ok(());
        }
        self.active_mut(sqe.nsid.get()).ok_or(INVALID_NAMESPACE)?.media.flush();
        Ok(())
    }

    fn compare(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<(), Status> {
        let span = self.data_span(sqe)?;
        self.check_readable(&span)?;
        let mut cursor = self.find_data(sqe, span.length_bytes(), Direction::FromHost, dma)?;
        let namespace = self.namespaces.get_mut(&span.nsid).ok_or(INVALID_NAMESPACE)?;
        namespace.media.settle();
        let (pieces, page) = (&self.pieces, &mut self.page);
        let mut is_equal = true;
        namespace.media.read(&span.extent, |bytes| {
            let theirs = &mut page[..bytes.len()];
            pieces.gather(&mut cursor, theirs, dma);
            is_equal &= theirs == bytes;
        });
        self.log.smart.reads += 1;
        if is_equal { Ok(()) } else { Err(Status::COMPARE_FAILURE.with_dnr()) }
    }

    /// The fused operation. Its two answers.
    pub(crate) fn compare_and_write(
        &mut self,
        first: &Sqe,
        second: &Sqe,
        dma: &mut Iommu,
    ) -> [Result<u32, Status>; 2] {
        let failed = Err(Status::ABORTED_FAILED_FUSED);
        let opcodes = (first.nvm_opcode(), second.nvm_opcode());
        let same = first.nsid == second.nsid
            && first.slba() == second.slba()
            && first.length_blocks() == second.length_blocks();
        if opcodes != (NvmOpcode::COMPARE, NvmOpcode::WRITE) || !same {
            return [Err(INVALID_FIELD), failed];
        }
        // What would fail in the write must not be found after the comparison was answered well.
        let writable = self.data_span(second).and_then(|span| self.check_writable(&span));
        if u64::from(first.length_blocks()) > u64::from(self.config.atomic_blocks) {
            return [Err(Status::ATOMIC_WRITE_UNIT_EXCEEDED.with_dnr()), failed];
        }
        match self.compare(first, dma) {
            Err(status) => [Err(status), failed],
            Ok(()) => {
                let written = writable.and_then(|()| self.write(second, None, dma));
                [Ok(0), written.map(|()| 0)]
            }
        }
    }

    /// How sure a write is of being on the medium.
    #[inline]
    fn fate(&self, sqe: &Sqe, action: Option<Action>) -> Fate {
        if self.is_losing_power || action == Some(Action::DropCompletion) {
            Fate::Unacknowledged
        } else if sqe.io_control().has(IoControl::FORCE_UNIT_ACCESS) {
            Fate::Durable
        } else {
            Fate::Cached
        }
    }

    fn write_zeroes(&mut self, sqe: &Sqe, action: Option<Action>) -> Result<(), Status> {
        let span = self.span(sqe)?;
        self.check_writable(&span)?;
        let fate = self.fate(sqe, action);
        let keep = !sqe.io_control().has(IoControl::DEALLOCATE);
        let namespace = self.namespaces.get_mut(&span.nsid).ok_or(INVALID_NAMESPACE)?;
        namespace.media.zero(&span.extent, fate, keep);
        Ok(())
    }

    fn manage_dataset(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<(), Status> {
        let command = DatasetManagement::of(sqe);
        self.usable(sqe)?;
        let bytes = command.data_bytes() as usize;
        let mut cursor = self.find_data(sqe, bytes as u64, Direction::FromHost, dma)?;
        self.pieces.gather(&mut cursor, &mut self.page[..bytes], dma);
        let namespace = self.namespaces.get_mut(&sqe.nsid.get()).ok_or(INVALID_NAMESPACE)?;
        let ranges = <[DsmRange]>::ref_from_bytes(&self.page[..bytes]).expect("whole ranges were read");
        let blocks = |range: &DsmRange| namespace.blocks(range.slba.get(), range.length_blocks.get().into());
        // All are looked at before the first is done.
        if let Some(error) = ranges.iter().find_map(|range| blocks(range).err()) {
            return Err(error);
        }
        if command.deallocates() {
            for range in ranges {
                let blocks = namespace.blocks(range.slba.get(), range.length_blocks.get().into())?;
                let extent = namespace.extent(blocks);
                namespace.media.zero(&extent, Fate::Cached, false);
            }
        }
        Ok(())
    }

    fn verify(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let span = self.span(sqe)?;
        self.check_readable(&span)
    }
}

fn turn_a_bit(bytes: &mut [u8], random: &mut reactor::sim::SimRandom) {
    let bit = random.below(bytes.len() as u64 * 8) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
}

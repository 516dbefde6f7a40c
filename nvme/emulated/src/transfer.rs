//! Where the data of a command is in the host's memory: PRP entries and lists (Base 4.3.1), SGLs (Base 4.3.2).
//!
//! Everything is looked up before the first byte is moved, so a command whose data cannot be reached has no effect at all.

use nvme_spec::sgl::{SglDescriptor, SglIdentifier};
use nvme_spec::sqe::Psdt;
use nvme_spec::{Sqe, Status};
use zerocopy::FromBytes;

use crate::iommu::{Iommu, PAGE_BYTES, Place, Stopped};
use crate::limits::SGL_DESCRIPTORS_MAX;

/// A run of bytes in one page of memory, or bytes that are thrown away.
#[derive(Clone, Copy, Debug)]
struct Piece {
    place: Option<Place>,
    length_bytes: u32,
}

/// The pieces of one command; the list is used again for the next.
#[derive(Default)]
pub(crate) struct Pieces {
    list: Vec<Piece>,
}

/// How far the data has been moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    index: usize,
    offset_bytes: usize,
}

impl From<Stopped> for Status {
    fn from(_: Stopped) -> Self {
        Self::DATA_TRANSFER_ERROR
    }
}

/// Which part of an SGL a descriptor stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Command,
    Middle,
    Last,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToHost,
    FromHost,
}

impl Pieces {
    /// Finds `length_bytes` of data of an admin command, or of an I/O command of a controller without SGLs: PRPs only.
    #[inline]
    pub(crate) fn find_prp(
        &mut self,
        sqe: &Sqe,
        length_bytes: u64,
        page_bytes: u64,
        dma: &mut Iommu,
    ) -> Result<Cursor, Status> {
        if sqe.psdt() != Psdt::PRP {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.list.clear();
        let [first, second] = sqe.prp().map(|entry| entry.get());
        if first & 0b11 != 0 {
            return Err(Status::PRP_OFFSET_INVALID.with_dnr());
        }
        let in_first = (page_bytes - first % page_bytes).min(length_bytes);
        self.push(first, in_first, dma)?;
        let left = length_bytes - in_first;
        if left > page_bytes {
            self.walk_list(second, left, page_bytes, dma)?;
        } else if left > 0 {
            if !second.is_multiple_of(page_bytes) {
                return Err(Status::PRP_OFFSET_INVALID.with_dnr());
            }
            self.push(second, left, dma)?;
        }
        Ok(Cursor::default())
    }

    /// Finds `length_bytes` of data of an I/O command, by PRPs or by an SGL.
    #[inline]
    pub(crate) fn find(
        &mut self,
        sqe: &Sqe,
        length_bytes: u64,
        page_bytes: u64,
        sgl: Option<Direction>,
        dma: &mut Iommu,
    ) -> Result<Cursor, Status> {
        match (sqe.psdt(), sgl) {
            (Psdt::SGL | Psdt::SGL_WITH_METADATA_SGL, Some(direction)) => {
                self.walk_sgl(sqe.dptr, length_bytes, direction, dma)?;
                Ok(Cursor::default())
            }
            _ => self.find_prp(sqe, length_bytes, page_bytes, dma),
        }
    }

    /// Adds a run, cut at pages.
    #[inline]
    fn push(&mut self, mut iova: u64, mut length_bytes: u64, dma: &mut Iommu) -> Result<(), Status> {
        while length_bytes > 0 {
            let step = (PAGE_BYTES - iova % PAGE_BYTES).min(length_bytes);
            let place = dma.find(iova, step)?;
            self.list.push(Piece { place: Some(place), length_bytes: step as u32 });
            iova = iova.wrapping_add(step);
            length_bytes -= step;
        }
        Ok(())
    }

    fn walk_list(
        &mut self,
        list: u64,
        mut left: u64,
        page_bytes: u64,
        dma: &mut Iommu,
    ) -> Result<(), Status> {
        // The first list begins at any entry of its page; those it is continued by, at the first.
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET_INVALID.with_dnr());
        }
        let mut at = list;
        while left > 0 {
            let mut bytes = [0; 8];
            dma.read(at, &mut bytes)?;
            let entry = u64::from_le_bytes(bytes);
            if !entry.is_multiple_of(page_bytes) {
                return Err(Status::PRP_OFFSET_INVALID.with_dnr());
            }
            let is_last_of_page = at.wrapping_add(8).is_multiple_of(page_bytes);
            if is_last_of_page && left > page_bytes {
                at = entry;
                continue;
            }
            let step = page_bytes.min(left);
            self.push(entry, step, dma)?;
            left -= step;
            at = at.wrapping_add(8);
        }
        Ok(())
    }

    fn walk_sgl(
        &mut self,
        mut descriptor: SglDescriptor,
        mut left: u64,
        direction: Direction,
        dma: &mut Iommu,
    ) -> Result<(), Status> {
        const SEGMENT_ERROR: Status = Status::INVALID_SGL_SEGMENT_DESCRIPTOR.with_dnr();
        self.list.clear();
        // The descriptors that are left in the current segment; the command's own descriptor is like a segment of one.
        let (mut at, mut count, mut segment) = (0_u64, 1_u64, Segment::Command);
        let mut seen = 0;
        loop {
            seen += 1;
            if seen > SGL_DESCRIPTORS_MAX {
                return Err(Status::INVALID_NUMBER_OF_SGL_DESCRIPTORS.with_dnr());
            }
            count -= 1;
            let (address, bytes) = (descriptor.address.get(), u64::from(descriptor.length_bytes.get()));
            match descriptor.identifier {
                SglIdentifier::DATA_BLOCK_ADDRESS => {
                    left = left.checked_sub(bytes).ok_or(Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
                    self.push(address, bytes, dma)?;
                }
                SglIdentifier::BIT_BUCKET => {
                    // Bytes that the host does not want; in a write it stands for none (Base 4.3.2).
                    if direction == Direction::ToHost {
                        left = left.checked_sub(bytes).ok_or(Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
                        self.list.push(Piece { place: None, length_bytes: bytes as u32 });
                    }
                }
                SglIdentifier::SEGMENT | SglIdentifier::LAST_SEGMENT => {
                    let whole = bytes > 0 && bytes.is_multiple_of(16);
                    if segment == Segment::Last || count > 0 || !whole {
                        return Err(SEGMENT_ERROR);
                    }
                    let is_last = descriptor.identifier == SglIdentifier::LAST_SEGMENT;
                    segment = if is_last { Segment::Last } else { Segment::Middle };
                    (at, count) = (address, bytes / 16);
                }
                _ => return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr()),
            }
            if count == 0 {
                break;
            }
            descriptor = Self::read_descriptor(at, dma)?;
            at = at.wrapping_add(16);
        }
        if segment == Segment::Middle {
            // A segment that is not the last one must lead to another.
            return Err(SEGMENT_ERROR);
        }
        if left > 0 { Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr()) } else { Ok(()) }
    }

    fn read_descriptor(iova: u64, dma: &mut Iommu) -> Result<SglDescriptor, Status> {
        let mut bytes = [0; 16];
        dma.read(iova, &mut bytes)?;
        Ok(SglDescriptor::read_from_bytes(&bytes).expect("16 bytes are a descriptor"))
    }

    /// Moves `bytes` to where the data goes next.
    #[inline]
    pub(crate) fn scatter(&self, cursor: &mut Cursor, mut bytes: &[u8], dma: &Iommu) {
        while !bytes.is_empty() {
            let (piece, within) = self.next(cursor);
            let step = bytes.len().min(piece.length_bytes as usize - within);
            let (head, rest) = bytes.split_at(step);
            if let Some(place) = piece.place {
                dma.store(place, within, head);
            }
            cursor.offset_bytes += step;
            bytes = rest;
        }
    }

    /// Fills `out` with the data that comes next.
    #[inline]
    pub(crate) fn gather(&self, cursor: &mut Cursor, out: &mut [u8], dma: &Iommu) {
        let mut done = 0;
        while done < out.len() {
            let (piece, within) = self.next(cursor);
            let step = (out.len() - done).min(piece.length_bytes as usize - within);
            let place = piece.place.expect("data from the host has no bit buckets");
            dma.load(place, within, &mut out[done..done + step]);
            cursor.offset_bytes += step;
            done += step;
        }
    }

    /// The piece that the cursor stands in, and how far.
    #[inline]
    fn next(&self, cursor: &mut Cursor) -> (Piece, usize) {
        while cursor.offset_bytes == self.list[cursor.index].length_bytes as usize {
            (cursor.index, cursor.offset_bytes) = (cursor.index + 1, 0);
        }
        (self.list[cursor.index], cursor.offset_bytes)
    }
}

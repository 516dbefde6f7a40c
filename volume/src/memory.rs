//! Blocks in memory: sparse, thin, answered on the spot.
//!
//! Memory is taken in zeroed chunks at the first write into each, in huge pages where the system gives them, and goes back when
//! the last page of a chunk is unmapped. A volume that may be too large for that (one write of 4 KiB would take 2 MiB) is kept in
//! small pages instead, which come one by one. Inside a chunk, a page that is not mapped holds zeros, so a read never
//! looks at the map.
//!
//! **What it reports.** `volatile_write_cache` is false: there is no cache in front of the medium
//! and a flush would change nothing. The medium itself ends with the process, which is what the
//! administrator chose with the back end's name.

use reactor::buffer::Sgl;
use reactor::memory::{Block, Upcoming, copy};

use crate::ahead::{Ahead, Place};
use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::geometry::Geometry;
use crate::limits::{
    BLOCK_STATUS_STEPS_MAX, MEMORY_ATOMIC_WRITE_BYTES, MEMORY_CHUNK_BYTES, MEMORY_CHUNKS_FREED_PER_POLL,
    MEMORY_COPY_AHEAD_BYTES, PAGE_BYTES,
};
use crate::memory_budget::MemoryBudget;

const PAGE: usize = PAGE_BYTES as usize;
const MAP_WORDS: usize = MEMORY_CHUNK_BYTES / PAGE / 64;

/// One run of memory and which of its pages hold data.
struct Chunk {
    memory: Block,
    /// One bit per page. A page without its bit is all zeros.
    mapped: [u64; MAP_WORDS],
}

impl Chunk {
    /// `None` when the system has no memory to give.
    fn new(small_pages: bool) -> Option<Self> {
        let taken = if small_pages { Block::small_pages } else { Block::new };
        Some(Self { memory: taken(MEMORY_CHUNK_BYTES).ok()?, mapped: [0; MAP_WORDS] })
    }

    fn unmapped_pages(&self, offset: usize, length: usize) -> usize {
        (offset / PAGE..=(offset + length - 1) / PAGE).filter(|page| !self.is_mapped(*page)).count()
    }

    #[inline]
    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        debug_assert!(offset + length <= MEMORY_CHUNK_BYTES);
        &self.memory.bytes()[offset..][..length]
    }

    #[inline]
    fn bytes_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        debug_assert!(offset + length <= MEMORY_CHUNK_BYTES);
        &mut self.memory.bytes_mut()[offset..][..length]
    }

    #[inline]
    fn is_mapped(&self, page: usize) -> bool {
        self.mapped[page / 64] & (1 << (page % 64)) != 0
    }

    #[inline]
    fn map_range(&mut self, offset: usize, length: usize) {
        for page in offset / PAGE..=(offset + length - 1) / PAGE {
            self.mapped[page / 64] |= 1 << (page % 64);
        }
    }

    /// Zeros the range and unmaps the pages that lie wholly inside it. True when no page is left.
    fn unmap_range(&mut self, offset: usize, length: usize) -> bool {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let page = at / PAGE;
            let piece_end = end.min((page + 1) * PAGE);
            if self.is_mapped(page) {
                self.bytes_mut(at, piece_end - at).fill(0);
                if piece_end - at == PAGE {
                    self.mapped[page / 64] &= !(1 << (page % 64));
                }
            }
            at = piece_end;
        }
        self.mapped == [0; MAP_WORDS]
    }
}

/// A part of an extent that lies in one chunk.
#[derive(Clone, Copy)]
struct Piece {
    chunk: usize,
    /// Where in the chunk, in bytes.
    offset: usize,
    length: usize,
    /// Where in the extent, in bytes.
    at: usize,
}

impl Piece {
    fn place(self) -> Place {
        // A table of chunks is far shorter than its index could count.
        Place { chunk: self.chunk as u32, offset: self.offset as u32, length: self.length as u32 }
    }
}

/// A sparse device in memory, on one core.
pub struct MemoryDevice {
    info: BdevInfo,
    budget: MemoryBudget,
    /// Memory comes a page at a time.
    small_pages: bool,
    chunks: Vec<Option<Chunk>>,
    /// Chunks on their way back to the system, a few per poll: giving one back costs tens of
    /// microseconds, and an unmap may free hundreds.
    freed: Vec<Chunk>,
    ahead: Ahead,
}

impl MemoryDevice {
    /// An empty device: every block reads zeros.
    pub fn new(geometry: Geometry) -> Self {
        Self::within(geometry, MemoryBudget::default(), false)
    }

    /// An empty device that takes no more than the budget has. With small pages it takes what is written and no more; with large
    /// ones it is faster, and takes up to 2 MiB for each write that is far from the others.
    pub fn within(geometry: Geometry, budget: MemoryBudget, small_pages: bool) -> Self {
        let block_bytes = u64::from(geometry.logical_block_bytes);
        let info = BdevInfo {
            logical_block_bytes: geometry.logical_block_bytes,
            // Memory is kept and given back by the page, so that is what hosts should align to.
            physical_block_bytes: (PAGE_BYTES as u32).max(geometry.logical_block_bytes),
            length_blocks: geometry.length_blocks,
            volatile_write_cache: false,
            thin: true,
            unmap_granularity_blocks: (PAGE_BYTES / block_bytes) as u32,
            atomic_write_blocks: (MEMORY_ATOMIC_WRITE_BYTES / block_bytes) as u32,
            uuid: geometry.uuid,
        };
        let (chunks, freed, ahead) = (Vec::new(), Vec::new(), Ahead::new());
        let mut device = Self { info, budget, small_pages, chunks, freed, ahead };
        device.resize_table();
        device
    }

    /// Bytes of the pages that hold data.
    pub fn mapped_bytes(&self) -> u64 {
        let pages = |chunk: &Chunk| chunk.mapped.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.chunks.iter().flatten().map(pages).sum::<u64>() * PAGE_BYTES
    }

    fn resize_table(&mut self) {
        let bytes = self.info.length_blocks * u64::from(self.info.logical_block_bytes);
        let chunks = usize::try_from(bytes.div_ceil(MEMORY_CHUNK_BYTES as u64));
        self.chunks.resize_with(chunks.expect("a table of the largest device fits an index"), || None);
    }

    #[inline]
    fn pieces(&self, extent: Extent) -> impl Iterator<Item = Piece> + use<> {
        assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
        let block_bytes = u64::from(self.info.logical_block_bytes);
        let start = (extent.lba * block_bytes) as usize;
        let end = (extent.end() * block_bytes) as usize;
        let mut next = start;
        std::iter::from_fn(move || {
            if next == end {
                return None;
            }
            let (chunk, offset) = (next / MEMORY_CHUNK_BYTES, next % MEMORY_CHUNK_BYTES);
            let length = (MEMORY_CHUNK_BYTES - offset).min(end - next);
            let piece = Piece { chunk, offset, length, at: next - start };
            next += length;
            Some(piece)
        })
    }

    /// The memory of the command after that for `piece`.
    #[inline]
    fn upcoming(&self, piece: Piece) -> Upcoming {
        let Some(place) = self.ahead.after(piece.place()) else { return Upcoming::NOTHING };
        match self.chunks.get(place.chunk as usize) {
            Some(Some(chunk)) => Upcoming::run(chunk.bytes(place.offset as usize, place.length as usize)),
            _ => Upcoming::NOTHING,
        }
    }

    #[inline]
    fn read(&self, extent: Extent, sgl: &mut Sgl) {
        for piece in self.pieces(extent) {
            let Some(chunk) = &self.chunks[piece.chunk] else {
                sgl.fill(piece.at, piece.length, 0);
                continue;
            };
            let mut from = chunk.bytes(piece.offset, piece.length);
            if piece.length > MEMORY_COPY_AHEAD_BYTES {
                sgl.copy_in(piece.at, from);
                continue;
            }
            let mut next = self.upcoming(piece);
            for to in sgl.range_mut(piece.at, piece.length) {
                let (head, tail) = from.split_at(to.len());
                copy(to, head, next);
                (from, next) = (tail, Upcoming::NOTHING);
            }
        }
    }

    /// Writes the part of `sgl` that starts `skip` bytes in.
    #[inline]
    fn write(&mut self, extent: Extent, sgl: &Sgl, skip: usize) {
        for piece in self.pieces(extent) {
            // Lines that are written are fetched as well, but asking for each of them between the stores holds the stores up.
            if piece.length <= MEMORY_COPY_AHEAD_BYTES {
                self.upcoming(piece).prefetch();
            }
            let chunk = self.chunks[piece.chunk].as_mut().expect("taken before anything is written");
            chunk.map_range(piece.offset, piece.length);
            sgl.copy_out(skip + piece.at, chunk.bytes_mut(piece.offset, piece.length));
        }
    }

    fn or_write(&mut self, extent: Extent, sgl: &Sgl) {
        for piece in self.pieces(extent) {
            let chunk = self.chunks[piece.chunk].as_mut().expect("taken before anything is written");
            chunk.map_range(piece.offset, piece.length);
            let mut to = chunk.bytes_mut(piece.offset, piece.length);
            for from in sgl.range(piece.at, piece.length) {
                let (head, tail) = to.split_at_mut(from.len());
                head.iter_mut().zip(from).for_each(|(to, from)| *to |= from);
                to = tail;
            }
        }
    }

    fn unmap(&mut self, extent: Extent) {
        for piece in self.pieces(extent) {
            let slot = &mut self.chunks[piece.chunk];
            let whole = piece.length == MEMORY_CHUNK_BYTES;
            let empty =
                slot.as_mut().is_some_and(|chunk| whole || chunk.unmap_range(piece.offset, piece.length));
            if empty {
                self.freed.extend(slot.take());
            }
        }
    }

    fn zero(&mut self, extent: Extent) {
        for piece in self.pieces(extent) {
            let slot = &mut self.chunks[piece.chunk];
            let whole = piece.length == MEMORY_CHUNK_BYTES;
            // A fresh chunk reads zeros and costs nothing until it is touched.
            if whole && let Some(fresh) = Chunk::new(self.small_pages) {
                self.freed.extend(slot.replace(fresh));
            } else {
                let chunk = slot.as_mut().expect("taken before anything is written");
                chunk.bytes_mut(piece.offset, piece.length).fill(0);
            }
            let chunk = slot.as_mut().expect("taken before anything is written");
            chunk.map_range(piece.offset, piece.length);
        }
    }

    /// Sees to it that every chunk of the extent is there. False, and nothing was written, when the system has no memory.
    #[inline]
    fn take_chunks(&mut self, extent: Extent) -> bool {
        self.pieces(extent).all(|piece| {
            let slot = &mut self.chunks[piece.chunk];
            if slot.is_none() && (self.small_pages || self.budget.take(MEMORY_CHUNK_BYTES)) {
                *slot = Chunk::new(self.small_pages);
            }
            let Some(chunk) = slot else { return false };
            if !self.small_pages {
                return true;
            }
            let pages = chunk.unmapped_pages(piece.offset, piece.length);
            pages == 0 || self.budget.take(pages * PAGE)
        })
    }

    /// The first byte at which the blocks and the payload differ.
    fn first_difference(&self, extent: Extent, sgl: &Sgl) -> Option<u64> {
        self.pieces(extent).find_map(|piece| {
            let offset = match &self.chunks[piece.chunk] {
                Some(chunk) => first_difference(
                    chunk.bytes(piece.offset, piece.length),
                    sgl.range(piece.at, piece.length),
                ),
                None => first_nonzero(sgl.range(piece.at, piece.length)),
            };
            offset.map(|offset| (piece.at + offset) as u64)
        })
    }

    /// The run of pages from the start of `extent` that share one state, as far as a bounded look goes.
    fn block_status(&self, extent: Extent) -> IoStatus {
        let block_bytes = u64::from(self.info.logical_block_bytes);
        let (mut state, mut run_bytes, mut steps) = (None, 0_u64, 0);
        'run: for piece in self.pieces(extent) {
            let mut within = 0;
            while within < piece.length {
                let offset = piece.offset + within;
                let chunk = self.chunks[piece.chunk].as_ref();
                let mapped = chunk.is_some_and(|chunk| chunk.is_mapped(offset / PAGE));
                if *state.get_or_insert(mapped) != mapped || steps == BLOCK_STATUS_STEPS_MAX {
                    break 'run;
                }
                steps += 1;
                let step = match chunk {
                    Some(_) => (PAGE - offset % PAGE).min(piece.length - within),
                    None => piece.length - within,
                };
                within += step;
                run_bytes += step as u64;
            }
        }
        IoStatus::Mapped { mapped: state.unwrap_or(false), length_blocks: run_bytes / block_bytes }
    }

    fn execute(&mut self, op: Op, sgl: &mut Sgl) -> IoStatus {
        assert_eq!(
            sgl.len() as u64,
            op.payload_bytes(self.info.logical_block_bytes),
            "a payload of another length"
        );
        if let Op::Write { extent, .. }
        | Op::WriteZeroes { extent, unmap: false, .. }
        | Op::OrWrite { extent, .. }
        | Op::CompareAndWrite { extent, .. } = op
            && !self.take_chunks(extent)
        {
            return IoStatus::NoSpace;
        }
        match op {
            Op::Read(extent) => self.read(extent, sgl),
            Op::Write { extent, .. } => self.write(extent, sgl, 0),
            Op::Flush => {}
            Op::Unmap(extent) | Op::WriteZeroes { extent, unmap: true, .. } => self.unmap(extent),
            Op::WriteZeroes { extent, unmap: false, .. } => self.zero(extent),
            Op::OrWrite { extent, .. } => self.or_write(extent, sgl),
            Op::BlockStatus(extent) => return self.block_status(extent),
            Op::Compare(extent) => {
                if let Some(offset_bytes) = self.first_difference(extent, sgl) {
                    return IoStatus::Miscompare { offset_bytes };
                }
            }
            Op::CompareAndWrite { extent, .. } => {
                if let Some(offset_bytes) = self.first_difference(extent, sgl) {
                    return IoStatus::Miscompare { offset_bytes };
                }
                self.write(extent, sgl, sgl.len() / 2);
            }
        }
        IoStatus::Good
    }
}

impl IoChannel for MemoryDevice {
    fn info(&self) -> BdevInfo {
        self.info
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        let Io { tag, op, mut sgl } = io;
        // The caller need not poll a device that answers on the spot, so freeing goes on here.
        drop(self.freed.pop());
        let status = self.execute(op, &mut sgl);
        Some(Done { tag, status, sgl })
    }

    fn poll(&mut self, _out: &mut Vec<Done>, _budget: usize) {
        let keep = self.freed.len().saturating_sub(MEMORY_CHUNKS_FREED_PER_POLL);
        self.freed.truncate(keep);
    }

    fn allocated_bytes(&self) -> Option<u64> {
        Some(self.mapped_bytes())
    }

    #[inline]
    fn prefetch(&self, extent: Extent) {
        if let Some(piece) = self.pieces(extent).next()
            && let Some(chunk) = &self.chunks[piece.chunk]
        {
            // A short one is fetched while the one before it is copied.
            if piece.length > MEMORY_COPY_AHEAD_BYTES || self.ahead.announce(piece.place()) {
                Upcoming::run(chunk.bytes(piece.offset, piece.length)).prefetch();
            }
        }
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn answers_compare(&self) -> bool {
        true
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        if length_blocks < self.info.length_blocks {
            return false;
        }
        self.info.length_blocks = length_blocks;
        self.resize_table();
        true
    }
}

/// The first byte at which `bytes` and the pieces, taken together, differ.
pub(crate) fn first_difference<'a>(bytes: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut at = 0;
    for piece in pieces {
        let own = &bytes[at..][..piece.len()];
        // Whole runs at memory speed; byte by byte only in the one that differs.
        let runs = own.chunks(512).zip(piece.chunks(512));
        for (index, (own, piece)) in runs.enumerate() {
            if own != piece {
                let within = own.iter().zip(piece).position(|(a, b)| a != b);
                return within.map(|within| at + index * 512 + within);
            }
        }
        at += piece.len();
    }
    None
}

fn first_nonzero<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut at = 0;
    for piece in pieces {
        if let Some(offset) = piece.iter().position(|&byte| byte != 0) {
            return Some(at + offset);
        }
        at += piece.len();
    }
    None
}

//! Blocks in memory: sparse, thin, answered on the spot.
//!
//! Memory is taken in zeroed chunks at the first write into each, in huge pages where the system gives them, and goes back when
//! the last page of a chunk is unmapped. A volume that may be too large for that (one write of 4 KiB would take 2 MiB) is kept in
//! small pages instead, which come one by one. Inside a chunk, a page that is not mapped holds zeros, so a read never
//! looks at the map.
//!
//! A read may be shown its blocks where they lie instead of a copy ([`IoChannel::show`]). They stay as they were: a page that is written
//! while it is shown goes elsewhere meanwhile (`spare`).
//!
//! **What it reports.** `volatile_write_cache` is false: there is no cache in front of the medium
//! and a flush would change nothing. The medium itself ends with the process, which is what the
//! administrator chose with the back end's name.

use reactor::buffer::Sgl;
use reactor::memory::{ShownCount, Upcoming};

use crate::ahead::{Ahead, Place};
use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::geometry::Geometry;
use crate::limits::{
    BLOCK_STATUS_STEPS_MAX, MEMORY_ATOMIC_WRITE_BYTES, MEMORY_CHUNK_BYTES, MEMORY_CHUNKS_FREED_PER_POLL,
    MEMORY_COPY_AHEAD_BYTES, MEMORY_PAGES_HOME_PER_SUBMIT, MEMORY_SHOW_BYTES, MEMORY_SHOWN_BYTES, PAGE_BYTES,
};
use crate::memory_budget::MemoryBudget;

mod checksum;
mod chunk;
mod place;
mod spare;

use checksum::{ZERO_PAGE, append_page};
use chunk::Chunk;
use spare::Spare;

const PAGE: usize = PAGE_BYTES as usize;
const CHUNK_PAGES: usize = MEMORY_CHUNK_BYTES / PAGE;

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

    /// The numbers of the pages of its chunk on the device.
    fn pages_of_chunk(self) -> std::ops::Range<u64> {
        (self.chunk * CHUNK_PAGES) as u64..((self.chunk + 1) * CHUNK_PAGES) as u64
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
    shown: ShownCount,
    spare: Spare,
    /// Where the next look for pages that can move home begins.
    homeward: u64,
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
            // Nothing runs beside a submit, and what a kill cuts short is gone as a whole.
            write_unit_blocks: (MEMORY_ATOMIC_WRITE_BYTES / block_bytes) as u32,
            atomic_write_blocks: (MEMORY_ATOMIC_WRITE_BYTES / block_bytes) as u32,
            uuid: geometry.uuid,
        };
        let mut device = Self {
            info,
            budget,
            small_pages,
            chunks: Vec::new(),
            freed: Vec::new(),
            ahead: Ahead::new(),
            shown: ShownCount::default(),
            spare: Spare::new(),
            homeward: 0,
        };
        device.resize_table();
        device
    }

    /// Bytes of the pages that hold data.
    pub fn mapped_bytes(&self) -> u64 {
        self.chunks.iter().flatten().map(Chunk::mapped_pages).sum::<u64>() * PAGE_BYTES
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

    /// Asks for the memory of the write after that for `piece`.
    #[inline]
    fn fetch_next(&self, piece: Piece) {
        if let Some(place) = self.ahead.after(piece.place())
            && let Some(Some(chunk)) = self.chunks.get(place.chunk as usize)
        {
            Upcoming::run(chunk.memory.bytes(place.offset as usize, place.length as usize)).prefetch_rest();
        }
    }

    #[inline]
    fn read(&self, extent: Extent, sgl: &mut Sgl) {
        for piece in self.pieces(extent) {
            if self.chunks[piece.chunk].is_none() {
                sgl.fill(piece.at, piece.length, 0);
                continue;
            }
            for run in self.runs(piece) {
                sgl.copy_in(run.at, self.bytes(run));
            }
        }
    }

    /// The blocks where they lie, unless some are holes, or they are long or too much is shown already.
    #[inline]
    fn show_blocks(&mut self, extent: Extent) -> Option<Sgl> {
        let length = extent.length_blocks as usize * self.info.logical_block_bytes as usize;
        let fits = (self.shown.pages() + length / PAGE + 2) * PAGE <= MEMORY_SHOWN_BYTES;
        if length > MEMORY_SHOW_BYTES || !fits || !self.spare.is_ready(&self.shown) {
            return None;
        }
        let mut sgl = Sgl::empty();
        for piece in self.pieces(extent) {
            self.chunks[piece.chunk].as_ref()?;
            for run in self.runs(piece) {
                Upcoming::run(self.bytes(run)).prefetch_rest();
                let shown = self.memory(run.home).show(run.offset, run.length);
                if run.length == length {
                    return Some(shown);
                }
                sgl.append(shown);
            }
        }
        Some(sgl)
    }

    /// Writes the part of `sgl` that starts `skip` bytes in.
    #[inline]
    fn write(&mut self, extent: Extent, sgl: &Sgl, skip: usize) {
        for piece in self.pieces(extent) {
            if piece.length <= MEMORY_COPY_AHEAD_BYTES {
                self.fetch_next(piece);
            }
            self.map(piece);
            self.overwrite(piece, |to, at| sgl.copy_out(skip + at, to));
        }
    }

    /// The CRC-32C of some bytes, which is given, and the pages of `piece` behind them.
    #[inline]
    fn append_checksums(&self, before: u32, piece: Piece) -> u32 {
        let Some(chunk) = &self.chunks[piece.chunk] else {
            return (0..piece.length / PAGE).fold(before, |before, _| append_page(before, ZERO_PAGE));
        };
        self.runs(piece).fold(before, |before, run| {
            let first = (piece.offset + run.at - piece.at) / PAGE;
            let pages = (first..).zip(self.bytes(run).chunks_exact(PAGE));
            pages.fold(before, |before, (page, bytes)| {
                append_page(before, chunk.checksums.of_page(page, bytes))
            })
        })
    }

    fn or_write(&mut self, extent: Extent, sgl: &Sgl) {
        for piece in self.pieces(extent) {
            self.map(piece);
            self.change(piece, |mut to, at| {
                for from in sgl.range(at, to.len()) {
                    let (head, tail) = to.split_at_mut(from.len());
                    head.iter_mut().zip(from).for_each(|(to, from)| *to |= from);
                    to = tail;
                }
            });
        }
    }

    fn map(&mut self, piece: Piece) {
        let chunk = self.chunks[piece.chunk].as_mut().expect("taken before anything is written");
        chunk.map_range(piece.offset, piece.length);
    }

    fn unmap(&mut self, extent: Extent) {
        for piece in self.pieces(extent) {
            if piece.length == MEMORY_CHUNK_BYTES || self.unmap_pages(piece) {
                self.spare.clear_range(piece.pages_of_chunk());
                self.freed.extend(self.chunks[piece.chunk].take());
            }
        }
    }

    /// Zeros the range and unmaps the pages that lie wholly inside it. True when no page is left.
    fn unmap_pages(&mut self, piece: Piece) -> bool {
        let mut empty = false;
        let mut done = 0;
        while done < piece.length {
            let page = (piece.offset + done) / PAGE;
            let length = piece.rest_of_page(done);
            let Some(chunk) = &self.chunks[piece.chunk] else { return false };
            if chunk.is_mapped(page) {
                let part = Piece { offset: piece.offset + done, length, at: piece.at + done, ..piece };
                self.overwrite(part, |to, _| to.fill(0));
                if length == PAGE {
                    empty = self.chunks[piece.chunk].as_mut().is_some_and(|chunk| chunk.unmap(page));
                }
            }
            done += length;
        }
        empty
    }

    fn zero(&mut self, extent: Extent) {
        for piece in self.pieces(extent) {
            let whole = piece.length == MEMORY_CHUNK_BYTES;
            // A fresh chunk reads zeros and costs nothing until it is touched.
            if whole && let Some(fresh) = Chunk::new(self.small_pages, &self.shown) {
                self.spare.clear_range(piece.pages_of_chunk());
                self.freed.extend(self.chunks[piece.chunk].replace(fresh));
            } else {
                self.overwrite(piece, |to, _| to.fill(0));
            }
            self.map(piece);
        }
    }

    /// Sees to it that every chunk of the extent is there. False, and nothing was written, when the system has no memory.
    #[inline]
    fn take_chunks(&mut self, extent: Extent) -> bool {
        self.pieces(extent).all(|piece| {
            let slot = &mut self.chunks[piece.chunk];
            if slot.is_none() && (self.small_pages || self.budget.take(MEMORY_CHUNK_BYTES)) {
                *slot = Chunk::new(self.small_pages, &self.shown);
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
            if self.chunks[piece.chunk].is_none() {
                let offset = first_nonzero(sgl.range(piece.at, piece.length));
                return offset.map(|offset| (piece.at + offset) as u64);
            }
            self.runs(piece).find_map(|run| {
                let offset = first_difference(self.bytes(run), sgl.range(run.at, run.length));
                offset.map(|offset| (run.at + offset) as u64)
            })
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
                    Some(_) => piece.rest_of_page(within),
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
        | Op::AtomicWrite { extent, .. }
        | Op::WriteZeroes { extent, unmap: false, .. }
        | Op::OrWrite { extent, .. }
        | Op::CompareAndWrite { extent, .. } = op
            && !self.take_chunks(extent)
        {
            return IoStatus::NoSpace;
        }
        match op {
            Op::Read(extent) => self.read(extent, sgl),
            Op::Write { extent, .. } | Op::AtomicWrite { extent, .. } => self.write(extent, sgl, 0),
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
        if !self.spare.is_empty() {
            self.move_home(MEMORY_PAGES_HOME_PER_SUBMIT);
        }
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
    fn prefetch(&self, op: Op) {
        let Some(piece) = op.extent().and_then(|extent| self.pieces(extent).next()) else { return };
        let Some(chunk) = &self.chunks[piece.chunk] else { return };
        let bytes = chunk.memory.bytes(piece.offset, piece.length);
        match op {
            Op::Write { .. } if piece.length <= MEMORY_COPY_AHEAD_BYTES => {
                self.ahead.announce(piece.place());
                if self.shown.pages() > 0 {
                    chunk.memory.prefetch_count(piece.offset);
                }
            }
            Op::Read(_) if piece.length <= MEMORY_SHOW_BYTES => {
                chunk.memory.prefetch_count(piece.offset);
                chunk.checksums.prefetch(piece.offset / PAGE);
            }
            _ => {}
        }
        Upcoming::run(bytes).prefetch_first();
    }

    #[inline]
    fn show(&mut self, extent: Extent) -> Option<Sgl> {
        self.show_blocks(extent)
    }

    #[inline]
    fn crc32c(&self, extent: Extent) -> Option<u32> {
        let page_blocks = u64::from(self.info.unmap_granularity_blocks);
        let in_pages =
            extent.lba.is_multiple_of(page_blocks) && extent.length_blocks.is_multiple_of(page_blocks);
        in_pages.then(|| self.pieces(extent).fold(0, |before, piece| self.append_checksums(before, piece)))
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

#[cfg(test)]
mod tests;

//! What a namespace holds: a thin store, and before it a volatile cache of which a loss of power leaves what chance decides.
//!
//! The store always has the newest content, so reads do not look at the cache. The cache is a list of the writes that are not
//! yet on the medium, each with what it replaced. A loss of power goes back through the list to what is on the medium, and
//! then forward again, doing those writes once more that had reached it.

mod store;
mod undo;

use std::ops::Range;

use reactor::random::Random;
use reactor::sim::SimRandom;

pub(crate) use store::Store;
use undo::{Record, Undo};

/// A run of bytes on the medium.
pub(crate) type Extent = Range<u64>;

/// A run of bytes and what a record of it holds.
type Captured = (Extent, Vec<u8>);

/// How sure a write is of being on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the cache, or on the medium where there is no cache.
    Cached,
    /// It is on the medium when it is completed.
    Durable,
    /// Nobody was told that it is done: a loss of power may undo or cut it, cache or not.
    Unacknowledged,
}

/// The medium and the cache of one namespace.
pub(crate) struct Media {
    store: Store,
    undo: Undo,
    /// The cache is on; off, every write is on the medium at once.
    caching: bool,
    unreadable: Vec<Extent>,
    unwritable: Vec<Extent>,
}

/// Cuts `extent` out of each of `extents`.
fn subtract(extents: &mut Vec<Extent>, extent: &Extent) {
    if extents.is_empty() {
        return;
    }
    let parts = |bad: Extent| {
        let before = bad.start..bad.end.min(extent.start);
        let after = bad.start.max(extent.end)..bad.end;
        [before, after].into_iter().filter(|part| part.start < part.end)
    };
    *extents = std::mem::take(extents).into_iter().flat_map(parts).collect();
}

fn first_overlap(extents: &[Extent], extent: &Extent) -> Option<u64> {
    let overlaps = extents.iter().filter(|bad| bad.start < extent.end && extent.start < bad.end);
    overlaps.map(|bad| bad.start.max(extent.start)).min()
}

impl Media {
    pub(crate) fn new(length_bytes: u64, cache_bytes: usize, caching: bool) -> Self {
        Self {
            store: Store::new(length_bytes),
            undo: Undo::new(cache_bytes),
            caching,
            unreadable: Vec::new(),
            unwritable: Vec::new(),
        }
    }

    /// Bytes that are allocated.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.store.allocated_bytes()
    }

    /// The namespace has another length now; what lies past a shorter one is gone.
    pub(crate) fn resize(&mut self, length_bytes: u64) {
        self.flush();
        self.store.resize(length_bytes);
    }

    /// The cache is switched; what it held goes to the medium first.
    pub(crate) fn set_caching(&mut self, on: bool) {
        self.flush();
        self.caching = on;
    }

    /// Everything that was written is on the medium.
    pub(crate) fn flush(&mut self) {
        self.undo.clear();
    }

    /// Somebody looks: what a medium without cache shows stays.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.caching {
            self.undo.clear();
        }
    }

    /// Writes that are not on the medium for sure.
    pub(crate) fn unflushed(&self) -> usize {
        self.undo.len()
    }

    /// Where the first byte that cannot be read is, in this run.
    #[inline]
    pub(crate) fn unreadable_in(&self, extent: &Extent) -> Option<u64> {
        if self.unreadable.is_empty() { None } else { first_overlap(&self.unreadable, extent) }
    }

    /// Where the first byte that cannot be written is, in this run.
    #[inline]
    pub(crate) fn unwritable_in(&self, extent: &Extent) -> Option<u64> {
        if self.unwritable.is_empty() { None } else { first_overlap(&self.unwritable, extent) }
    }

    /// The run cannot be read until it is written again.
    pub(crate) fn spoil_reads(&mut self, extent: Extent) {
        self.unreadable.push(extent);
    }

    /// The run cannot be written.
    pub(crate) fn spoil_writes(&mut self, extent: Extent) {
        self.unwritable.push(extent);
    }

    /// All that was spoiled is well again.
    pub(crate) fn mend(&mut self) {
        self.unreadable.clear();
        self.unwritable.clear();
    }

    /// Gives the content of a run to `sink`, piece by piece; what is not allocated is zeros.
    #[inline]
    pub(crate) fn read(&self, extent: &Extent, sink: impl FnMut(&[u8])) {
        self.store.read(extent, sink);
    }

    /// True when every sector of the run is allocated.
    pub(crate) fn is_allocated(&self, extent: &Extent) -> bool {
        self.store.is_allocated(extent)
    }

    /// Replaces a run by what `source` fills in, piece by piece.
    #[inline]
    pub(crate) fn write(&mut self, extent: &Extent, fate: Fate, source: impl FnMut(&mut [u8])) {
        self.remember(extent, fate);
        self.store.write(extent, source);
        subtract(&mut self.unreadable, extent);
    }

    /// Makes a run zeros; without `keep`, its space is given back.
    pub(crate) fn zero(&mut self, extent: &Extent, fate: Fate, keep: bool) {
        self.remember(extent, fate);
        self.store.zero(extent, keep);
        subtract(&mut self.unreadable, extent);
    }

    #[inline]
    fn remember(&mut self, extent: &Extent, fate: Fate) {
        let durable = match fate {
            Fate::Cached => !self.caching,
            Fate::Durable => true,
            Fate::Unacknowledged => false,
        };
        // Even a durable write is remembered while an older one may be undone beneath it.
        if !(durable && self.undo.is_empty()) {
            self.undo.record(&self.store, extent, durable);
        }
    }

    /// Power fails: of the writes that were not flushed, chance says which are there afterwards. A write of at most
    /// `atomic_bytes` is there as a whole or not at all, a longer one in units of so many bytes.
    pub(crate) fn lose_power(&mut self, random: &mut SimRandom, atomic_bytes: u64) {
        // One style for all finds what independent coin flips for each would hide.
        let style = random.below(4);
        let records: Vec<Record> = self.undo.take();
        let mut done_again: Vec<Vec<Captured>> = Vec::with_capacity(records.len());
        for record in records.iter().rev() {
            let units = (record.extent.start..record.extent.end).step_by(atomic_bytes as usize);
            let unit = |start: u64| start..(start + atomic_bytes).min(record.extent.end);
            done_again.push(units.map(|start| self.store.capture_vec(unit(start))).collect());
            self.undo.restore(&mut self.store, record);
        }
        for (record, units) in records.iter().zip(done_again.into_iter().rev()) {
            let whole = style == 1 || style == 2 && random.next_u64() & 1 == 0;
            for (extent, content) in units {
                let keep = whole || record.durable || style == 3 && random.next_u64() & 1 == 0;
                if keep {
                    self.store.restore_slice(&extent, &content);
                }
            }
        }
        self.undo.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 512;

    fn media(cache_bytes: usize) -> Media {
        Media::new(1 << 20, cache_bytes, true)
    }

    fn extent(block: u64, blocks: u64) -> Extent {
        block * BLOCK..(block + blocks) * BLOCK
    }

    fn write(media: &mut Media, block: u64, blocks: u64, value: u8, durable: bool) {
        let fate = if durable { Fate::Durable } else { Fate::Cached };
        media.write(&extent(block, blocks), fate, |piece| piece.fill(value));
    }

    fn block(media: &Media, block: u64) -> u8 {
        let mut bytes = Vec::new();
        media.read(&extent(block, 1), |piece| bytes.extend_from_slice(piece));
        assert_eq!(bytes.len(), 512);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a block is never torn");
        bytes[0]
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_old_or_new() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut media = media(1 << 20);
            write(&mut media, 0, 4, 1, false);
            media.flush();
            write(&mut media, 0, 4, 2, false);
            write(&mut media, 2, 8, 3, false);
            write(&mut media, 20, 1, 4, true);
            assert_eq!(media.unflushed(), 3);
            media.lose_power(&mut SimRandom::new(seed), 4 * BLOCK);
            let got: Vec<u8> = (0..10).map(|index| block(&media, index)).collect();
            assert_eq!(block(&media, 20), 4, "what was written durably stays");
            assert!(got[..2] == [1, 1] || got[..2] == [2, 2], "at most an atomic unit: all or nothing");
            // The second write covers blocks 2 to 9 in units 2..6 and 6..10.
            assert!(got[2..4] == got[..2] || got[2..4] == [3, 3]);
            assert_eq!(got[4..6] == [3, 3], got[2..4] == [3, 3]);
            assert!(got[6..] == [0; 4] || got[6..] == [3; 4]);
            seen.insert((got[0], got[2], got[6]));
            assert_eq!(media.unflushed(), 0);
        }
        assert!(seen.len() >= 6, "chance finds most of the eight outcomes: {seen:?}");
    }

    #[test]
    fn a_full_cache_lets_the_oldest_go_to_the_medium() {
        let mut media = media(3 * 4096 + 100);
        for index in 0..8 {
            write(&mut media, index * 8, 8, 1, false);
        }
        media.flush();
        for index in 0..8 {
            write(&mut media, index * 8, 8, 2, false);
        }
        assert_eq!(media.unflushed(), 3);
        // Seeds are tried until one loses everything that can be lost.
        let lost = (0..100).any(|seed| {
            let mut copy = Media::new(1 << 20, 3 * 4096 + 100, true);
            for index in 0..8 {
                write(&mut copy, index * 8, 8, 1, false);
            }
            copy.flush();
            for index in 0..8 {
                write(&mut copy, index * 8, 8, 2, false);
            }
            copy.lose_power(&mut SimRandom::new(seed), 4096);
            let got: Vec<u8> = (0..8).map(|index| block(&copy, index * 8)).collect();
            assert_eq!(got[..5], [2; 5], "they had to make room");
            got[5..] == [1; 3]
        });
        assert!(lost);
        // What does not fit at all is written through.
        write(&mut media, 0, 256, 9, false);
        assert_eq!(media.unflushed(), 0);
    }

    #[test]
    fn deallocation_is_undone_as_well() {
        let mut media = media(1 << 20);
        write(&mut media, 0, 8, 5, false);
        media.flush();
        media.zero(&extent(1, 3), Fate::Cached, false);
        media.zero(&extent(4, 2), Fate::Cached, true);
        assert!(!media.is_allocated(&extent(1, 1)) && media.is_allocated(&extent(4, 2)));
        assert_eq!((media.allocated_bytes(), block(&media, 2), block(&media, 5)), (5 * BLOCK, 0, 0));
        let back = (0..100).any(|seed| {
            let mut copy = Media::new(1 << 20, 1 << 20, true);
            write(&mut copy, 0, 8, 5, false);
            copy.flush();
            copy.zero(&extent(1, 3), Fate::Cached, false);
            copy.lose_power(&mut SimRandom::new(seed), 8 * BLOCK);
            let blocks: Vec<u8> = (0..8).map(|index| block(&copy, index)).collect();
            assert!(blocks == [5; 8] || blocks == [5, 0, 0, 0, 5, 5, 5, 5]);
            assert_eq!(copy.is_allocated(&extent(0, 8)), blocks == [5; 8]);
            blocks == [5; 8]
        });
        assert!(back);
    }

    #[test]
    fn spoiled_runs_are_found_and_healed_by_writing() {
        let mut media = media(0);
        media.spoil_reads(extent(4, 4));
        media.spoil_writes(extent(9, 1));
        assert_eq!(media.unreadable_in(&extent(0, 4)), None);
        assert_eq!(media.unreadable_in(&extent(0, 6)), Some(4 * BLOCK));
        assert_eq!(media.unwritable_in(&extent(0, 20)), Some(9 * BLOCK));
        write(&mut media, 5, 1, 1, false);
        assert_eq!(media.unreadable_in(&extent(5, 1)), None);
        assert_eq!(media.unreadable_in(&extent(5, 2)), Some(6 * BLOCK));
        assert_eq!(media.unreadable_in(&extent(4, 1)), Some(4 * BLOCK));
        media.mend();
        assert_eq!(media.unreadable_in(&extent(0, 100)), None);
    }

    #[test]
    fn a_write_that_nobody_was_told_of_may_be_cut_without_a_cache() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut media = Media::new(1 << 20, 1 << 16, false);
            write(&mut media, 0, 4, 1, false);
            media.write(&extent(0, 4), Fate::Unacknowledged, |piece| piece.fill(2));
            write(&mut media, 1, 1, 3, false);
            if seed % 2 == 0 {
                // Whoever has seen it can rely on it.
                media.settle();
            }
            media.lose_power(&mut SimRandom::new(seed), BLOCK);
            let found: Vec<u8> = (0..4).map(|index| block(&media, index)).collect();
            assert_eq!(found[1], 3, "a later write that was acknowledged stays");
            assert!(seed % 2 == 1 || found == [2, 3, 2, 2]);
            seen.insert(found);
        }
        assert!(seen.contains(&vec![1, 3, 1, 1]) && seen.contains(&vec![2, 3, 2, 2]) && seen.len() > 2);
    }

    #[test]
    fn without_caching_everything_is_on_the_medium() {
        let mut media = media(1 << 20);
        write(&mut media, 0, 1, 1, false);
        media.set_caching(false);
        write(&mut media, 0, 1, 2, false);
        assert_eq!(media.unflushed(), 0);
        media.lose_power(&mut SimRandom::new(1), BLOCK);
        assert_eq!(block(&media, 0), 2);
    }
}

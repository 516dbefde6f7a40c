//! Which I/Os of a volume may run at once: reads share blocks, anything that changes them does not.
//!
//! Conflicting I/Os run in the order in which they came. Each waiting one knows how many earlier
//! ones it conflicts with, running or waiting; it starts when that number reaches zero, so nothing
//! overtakes and nothing starves.
//!
//! ```text
//! admit ──no conflict──▶ running ──release──▶ gone
//!   └──n conflicts──▶ waiting(n) ──n releases──▶ running
//!                          └──release (abort)──▶ gone
//! ```

use crate::bdev::Extent;

/// What an I/O does to its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks at them: shares them with other readers.
    Read,
    /// Changes them: alone.
    Write,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    access: Access,
    extent: Extent,
}

impl Entry {
    #[inline]
    fn conflicts(&self, other: &Self) -> bool {
        (self.access == Access::Write || other.access == Access::Write) && self.extent.overlaps(other.extent)
    }
}

#[derive(Debug)]
struct Waiting {
    entry: Entry,
    /// Earlier conflicting entries that have not been released.
    blockers: u32,
}

/// The extents of one volume's I/Os, each under a small number of the caller's.
#[derive(Debug, Default)]
pub struct RangeTable {
    running: Vec<Entry>,
    /// Oldest first.
    waiting: Vec<Waiting>,
    /// Running and waiting entries that write. While there is none, readers need no look.
    writers: usize,
    filter: Filter,
}

impl RangeTable {
    /// A table with room for `expected` entries before it must grow.
    pub fn with_capacity(expected: usize) -> Self {
        Self { running: Vec::with_capacity(expected), ..Self::default() }
    }

    /// Enters an extent that is not empty. True when its I/O may start now; else a later
    /// [`RangeTable::release`] names `id`.
    pub fn admit(&mut self, id: u32, extent: Extent, access: Access) -> bool {
        assert!(extent.length_blocks > 0, "an empty extent has nothing to protect");
        let entry = Entry { id, access, extent };
        let alone = (access == Access::Read && self.writers == 0) || !self.filter.may_overlap(extent);
        self.filter.add(extent);
        self.writers += usize::from(access == Access::Write);
        let blockers = if alone { 0 } else { self.count_blockers(&entry) };
        if blockers == 0 {
            self.running.push(entry);
        } else {
            self.waiting.push(Waiting { entry, blockers });
        }
        blockers == 0
    }

    fn count_blockers(&self, entry: &Entry) -> u32 {
        let running = self.running.iter().filter(|other| other.conflicts(entry)).count();
        let waiting = self.waiting.iter().filter(|other| other.entry.conflicts(entry)).count();
        u32::try_from(running + waiting).expect("ids are 32 bits wide")
    }

    /// Takes `id` out, whether it ran or waited, and appends to `ready` those that may start now,
    /// oldest first.
    pub fn release(&mut self, id: u32, ready: &mut Vec<u32>) {
        let (entry, later) = match self.running.iter().position(|entry| entry.id == id) {
            // All that conflict with a running entry came after it.
            Some(index) => (self.running.swap_remove(index), 0),
            None => {
                let index = self.waiting.iter().position(|waiting| waiting.entry.id == id);
                let index = index.expect("only an admitted id is released");
                (self.waiting.remove(index).entry, index)
            }
        };
        self.filter.remove(entry.extent);
        self.writers -= usize::from(entry.access == Access::Write);
        let mut freed = false;
        for waiting in self.waiting[later..].iter_mut().filter(|waiting| waiting.entry.conflicts(&entry)) {
            waiting.blockers -= 1;
            freed |= waiting.blockers == 0;
        }
        if freed {
            let start = |waiting: &mut Waiting| waiting.blockers == 0;
            for waiting in self.waiting.extract_if(.., start) {
                ready.push(waiting.entry.id);
                self.running.push(waiting.entry);
            }
        }
    }

    /// Entries that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// True when nothing runs and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }
}

/// A region of the device that the filter counts as one: 128 KiB of 512-byte blocks.
const REGION_SHIFT: u32 = 8;
/// Extents over more regions are not entered one by one.
const REGIONS_MAX: u64 = 9;
const BUCKETS: usize = 256;

/// Counts of extents per hashed region: a zero proves that nothing overlaps.
#[derive(Debug)]
struct Filter {
    buckets: Box<[u32; BUCKETS]>,
    wide: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), wide: 0 }
    }
}

impl Filter {
    /// The buckets of an extent; `None` when it covers too many regions.
    #[inline]
    fn buckets_of(extent: Extent) -> Option<impl Iterator<Item = usize>> {
        let first = extent.lba >> REGION_SHIFT;
        let last = (extent.end() - 1) >> REGION_SHIFT;
        // Multiplying by an odd constant and taking high bits spreads neighbours and strides alike.
        let bucket = |region: u64| (region.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize;
        (last - first < REGIONS_MAX).then(|| (first..=last).map(bucket))
    }

    #[inline]
    fn may_overlap(&self, extent: Extent) -> bool {
        self.wide > 0
            || Self::buckets_of(extent)
                .is_none_or(|mut buckets| buckets.any(|bucket| self.buckets[bucket] > 0))
    }

    #[inline]
    fn add(&mut self, extent: Extent) {
        match Self::buckets_of(extent) {
            Some(buckets) => buckets.for_each(|bucket| self.buckets[bucket] += 1),
            None => self.wide += 1,
        }
    }

    #[inline]
    fn remove(&mut self, extent: Extent) {
        match Self::buckets_of(extent) {
            Some(buckets) => buckets.for_each(|bucket| self.buckets[bucket] -= 1),
            None => self.wide -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(lba: u64, length_blocks: u64) -> Extent {
        Extent { lba, length_blocks }
    }

    #[test]
    fn readers_share_and_writers_wait_in_order() {
        let mut table = RangeTable::default();
        let mut ready = Vec::new();
        assert!(table.admit(0, extent(0, 8), Access::Read));
        assert!(table.admit(1, extent(4, 8), Access::Read));
        assert!(!table.admit(2, extent(7, 1), Access::Write));
        assert!(!table.admit(3, extent(7, 1), Access::Read), "a reader does not overtake a writer");
        assert!(table.admit(4, extent(8, 1), Access::Read));
        table.release(0, &mut ready);
        assert!(ready.is_empty());
        table.release(1, &mut ready);
        assert_eq!(ready, [2]);
        ready.clear();
        table.release(2, &mut ready);
        assert_eq!(ready, [3]);
        ready.clear();
        table.release(3, &mut ready);
        table.release(4, &mut ready);
        assert!(ready.is_empty() && table.is_empty());
    }

    #[test]
    fn an_aborted_waiter_lets_those_behind_it_go() {
        let mut table = RangeTable::default();
        let mut ready = Vec::new();
        assert!(table.admit(0, extent(0, 4), Access::Read));
        assert!(!table.admit(1, extent(0, 8), Access::Write));
        assert!(!table.admit(2, extent(6, 2), Access::Read));
        assert!(!table.admit(3, extent(0, 1), Access::Read));
        table.release(1, &mut ready);
        assert_eq!(ready, [2, 3]);
    }

    #[test]
    fn extents_that_only_touch_do_not_conflict() {
        let mut table = RangeTable::default();
        assert!(table.admit(0, extent(0, 4), Access::Write));
        assert!(table.admit(1, extent(4, 4), Access::Write));
        assert!(table.admit(2, extent(u64::MAX - 1, 1), Access::Write));
        assert!(!table.admit(3, extent(0, u64::MAX), Access::Read));
    }

    /// All entries in one list, oldest first; an entry runs when nothing older conflicts.
    #[derive(Default)]
    struct Naive {
        entries: Vec<(Entry, bool)>,
    }

    impl Naive {
        fn settle(&mut self) -> Vec<u32> {
            let mut started = Vec::new();
            for index in 0..self.entries.len() {
                let entry = self.entries[index].0;
                let free = self.entries[..index].iter().all(|(older, _)| !older.conflicts(&entry));
                if free && !self.entries[index].1 {
                    self.entries[index].1 = true;
                    started.push(entry.id);
                }
            }
            started
        }
    }

    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn the_table_and_the_naive_model_agree() {
        for seed in 1..=200_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (mut table, mut naive) = (RangeTable::default(), Naive::default());
            let space = [8, 64, 4096, 1 << 20][seed as usize % 4];
            let mut id = 0;
            for _ in 0..400 {
                let r = next(&mut random);
                if !r.is_multiple_of(3) && naive.entries.len() < 40 {
                    let length = 1 + next(&mut random) % (space / 4);
                    let lba = next(&mut random) % (space - length);
                    let access = if r.is_multiple_of(2) { Access::Read } else { Access::Write };
                    let extent = extent(lba, length);
                    naive.entries.push((Entry { id, access, extent }, false));
                    assert_eq!(table.admit(id, extent, access), naive.settle() == [id], "seed {seed}");
                    id += 1;
                } else if !naive.entries.is_empty() {
                    let index = next(&mut random) as usize % naive.entries.len();
                    let gone = naive.entries.remove(index).0.id;
                    let mut ready = Vec::new();
                    table.release(gone, &mut ready);
                    assert_eq!(ready, naive.settle(), "seed {seed}");
                }
                assert_eq!(table.waiting(), naive.entries.iter().filter(|(_, runs)| !runs).count());
            }
        }
    }
}

//! Which parts of a sparse file hold data, without asking the system.
//!
//! One bit per granule: set means "may hold data", clear proves "reads zeros". A bit is set before
//! a write is handed to the system and cleared only after a hole was punched and nothing was
//! written there meanwhile; so a clear bit is never stale, and a set one costs at most a read.

use crate::limits::{ALLOCATION_MAP_MAX_BYTES, BLOCK_STATUS_STEPS_MAX, PAGE_BYTES};

/// The allocation state of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationMap {
    words: Vec<u64>,
    granule_shift: u32,
    length_bytes: u64,
}

impl AllocationMap {
    /// A map that says "may hold data" nowhere, for a file that is one hole.
    pub fn empty(length_bytes: u64) -> Self {
        let mut granule_shift = PAGE_BYTES.trailing_zeros();
        while (length_bytes >> granule_shift) / 8 > ALLOCATION_MAP_MAX_BYTES {
            granule_shift += 1;
        }
        let mut map = Self { words: Vec::new(), granule_shift, length_bytes };
        map.grow(length_bytes);
        map
    }

    /// Makes room for a longer file; the new part is a hole. The granule stays what it is.
    pub fn grow(&mut self, length_bytes: u64) {
        assert!(length_bytes >= self.length_bytes, "a file under a volume never shrinks");
        self.length_bytes = length_bytes;
        let granules = length_bytes.div_ceil(1 << self.granule_shift);
        let words =
            usize::try_from(granules.div_ceil(64)).expect("the map of the largest device fits memory");
        self.words.resize(words, 0);
    }

    /// The unit of the map in bytes.
    pub fn granule_bytes(&self) -> u64 {
        1 << self.granule_shift
    }

    /// Says that the range may hold data.
    #[inline]
    pub fn mark(&mut self, offset_bytes: u64, length_bytes: u64) {
        if length_bytes > 0 {
            let first = offset_bytes >> self.granule_shift;
            let last = (offset_bytes + length_bytes - 1) >> self.granule_shift;
            self.change(first, last + 1, true);
        }
    }

    /// Says that the range reads zeros; granules that lie only partly in it keep their bit. The
    /// last granule of the file is whole when the range reaches the end.
    pub fn clear(&mut self, offset_bytes: u64, length_bytes: u64) {
        let end_bytes = offset_bytes + length_bytes;
        let first = offset_bytes.div_ceil(self.granule_bytes());
        let end = if end_bytes == self.length_bytes {
            end_bytes.div_ceil(self.granule_bytes())
        } else {
            end_bytes >> self.granule_shift
        };
        self.change(first, end.max(first), false);
    }

    fn change(&mut self, first: u64, end: u64, set: bool) {
        let mut granule = first;
        while granule < end {
            let (word, bit) = ((granule / 64) as usize, granule % 64);
            let count = (64 - bit).min(end - granule);
            let mask = (u64::MAX >> (64 - count)) << bit;
            if set {
                self.words[word] |= mask;
            } else {
                self.words[word] &= !mask;
            }
            granule += count;
        }
    }

    /// True when the whole range reads zeros.
    #[inline]
    pub fn is_hole(&self, offset_bytes: u64, length_bytes: u64) -> bool {
        let (mapped, run_bytes) = self.run(offset_bytes, length_bytes);
        !mapped && run_bytes == length_bytes
    }

    /// The state at `offset_bytes` and how many bytes share it, at most `length_bytes` (above 0)
    /// and at most as far as a bounded look goes.
    pub fn run(&self, offset_bytes: u64, length_bytes: u64) -> (bool, u64) {
        let end_bytes = offset_bytes + length_bytes;
        let first = offset_bytes >> self.granule_shift;
        let mapped = self.words[(first / 64) as usize] & (1 << (first % 64)) != 0;
        let mut granule = first;
        for _ in 0..BLOCK_STATUS_STEPS_MAX {
            let (word, bit) = ((granule / 64) as usize, granule % 64);
            let same = if mapped { self.words[word] } else { !self.words[word] };
            let run = u64::from((!(same >> bit)).trailing_zeros()).min(64 - bit);
            granule += run;
            if run < 64 - bit || granule << self.granule_shift >= end_bytes {
                break;
            }
        }
        (mapped, (granule << self.granule_shift).min(end_bytes) - offset_bytes)
    }

    /// Bytes of the granules that may hold data.
    pub fn mapped_bytes(&self) -> u64 {
        let granules: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        (granules << self.granule_shift).min(self.length_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte per granule.
    struct Naive(Vec<bool>);

    #[test]
    fn the_map_agrees_with_one_flag_per_granule() {
        let granules = 300_u64;
        let length = granules * PAGE_BYTES - 512;
        let mut map = AllocationMap::empty(length);
        let mut naive = Naive(vec![false; granules as usize]);
        let mut random = 7_u64;
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        for step in 0..5_000 {
            let offset = next(length / 512) * 512;
            let bytes = (next(200) + 1) * 512 * (1 + 100 * (step % 2));
            let bytes = bytes.min(length - offset);
            let (from, to) = (offset, offset + bytes);
            match next(3) {
                0 => {
                    map.mark(offset, bytes);
                    for g in from / PAGE_BYTES..to.div_ceil(PAGE_BYTES) {
                        naive.0[g as usize] = true;
                    }
                }
                1 => {
                    map.clear(offset, bytes);
                    let end = if to == length { granules } else { to / PAGE_BYTES };
                    for g in from.div_ceil(PAGE_BYTES)..end {
                        naive.0[g as usize] = false;
                    }
                }
                _ => {
                    let state = naive.0[(from / PAGE_BYTES) as usize];
                    let mut g = from / PAGE_BYTES;
                    while g * PAGE_BYTES < to && naive.0[g as usize] == state {
                        g += 1;
                    }
                    let run = (g * PAGE_BYTES).min(to) - from;
                    assert_eq!(map.run(offset, bytes), (state, run), "step {step}");
                    assert_eq!(map.is_hole(offset, bytes), !state && run == bytes);
                }
            }
        }
    }

    #[test]
    fn large_files_get_larger_granules_and_growing_adds_a_hole() {
        assert_eq!(AllocationMap::empty(1 << 40).granule_bytes(), PAGE_BYTES);
        assert_eq!(AllocationMap::empty((1 << 40) + PAGE_BYTES * 8).granule_bytes(), 2 * PAGE_BYTES);
        let mut map = AllocationMap::empty(1 << 20);
        map.mark(0, 1 << 20);
        map.grow(2 << 20);
        assert_eq!(map.run(0, 2 << 20), (true, 1 << 20));
        assert_eq!(map.run(1 << 20, 1 << 20), (false, 1 << 20));
        assert_eq!(map.mapped_bytes(), 1 << 20);
    }
}

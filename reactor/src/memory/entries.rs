//! Shared memory as a ring has it: entries of some words, one after the other.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use crate::memory::SharedMemory;

/// Entries of `N` words of 64 bits in memory that is shared with a device. Length and alignment are looked at once, so that an
/// access looks at the entry's number only. Volatile, as every access to such memory.
pub struct SharedEntries<const N: usize> {
    base: NonNull<u64>,
    count: usize,
    /// Keeps the memory alive.
    memory: SharedMemory,
}

impl<const N: usize> fmt::Debug for SharedEntries<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedEntries({} of {N} words, {:?})", self.count, self.memory)
    }
}

impl<const N: usize> SharedEntries<N> {
    /// Bytes of one entry.
    pub const BYTES: usize = N * size_of::<u64>();

    /// The first `count` entries of `memory`.
    ///
    /// # Panics
    /// When they do not lie inside, or it does not begin at a word.
    pub fn new(memory: SharedMemory, count: usize) -> Self {
        let length_bytes = count.checked_mul(Self::BYTES).expect("entries that fit an address space");
        let base = memory.at(0, length_bytes).cast::<u64>();
        assert!(base.is_aligned(), "entries begin at a word");
        Self { base, count, memory }
    }

    /// All of the memory, entries or not.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    #[inline]
    fn entry(&self, index: usize) -> *mut u64 {
        assert!(index < self.count, "an access past the last entry");
        self.base.as_ptr().wrapping_add(index * N)
    }

    #[inline]
    fn word(&self, index: usize, word: usize) -> *mut u64 {
        assert!(word < N, "an access past the entry's last word");
        self.entry(index).wrapping_add(word)
    }

    /// Stores the little-endian words of an entry, one after the other.
    #[inline]
    pub fn store(&self, index: usize, words: &[u64; N]) {
        let entry = self.entry(index);
        for (at, word) in words.iter().enumerate() {
            // SAFETY: a word of an entry that lies in the memory, by `new` and the check in `entry`, and aligned as the base
            // is; volatile because the device may read it at any time.
            unsafe { entry.wrapping_add(at).write_volatile(word.to_le()) };
        }
    }

    /// Loads a little-endian word of an entry.
    #[inline]
    pub fn load(&self, index: usize, word: usize) -> u64 {
        let pointer = self.word(index, word);
        // SAFETY: a word of an entry that lies in the memory, by `new` and the checks in `word`, and aligned as the base is;
        // volatile because the device may write it at any time.
        u64::from_le(unsafe { pointer.read_volatile() })
    }

    /// As [`SharedEntries::load`], of a word that the device writes last: what it wrote before is seen by every access after
    /// this one.
    #[inline]
    pub fn load_acquire(&self, index: usize, word: usize) -> u64 {
        let value = self.load(index, word);
        fence(Ordering::Acquire);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryRegion;

    fn entries() -> SharedEntries<2> {
        SharedEntries::new(SharedMemory::new(MemoryRegion::heap(4096)).part(64, 160), 10)
    }

    #[test]
    fn entries_follow_each_other_in_the_byte_order_of_a_device() {
        let entries = entries();
        for index in 0..10 {
            entries.store(index, &[index as u64, 0x0102_0304_0506_0708 + index as u64]);
        }
        for index in 0..10 {
            let mut bytes = [0; 16];
            entries.memory().read(index * 16, &mut bytes);
            assert_eq!(bytes, [index as u8, 0, 0, 0, 0, 0, 0, 0, 8 + index as u8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!(
                (entries.load(index, 0), entries.load_acquire(index, 1) as u8),
                (index as u64, bytes[8])
            );
        }
    }

    #[test]
    #[should_panic(expected = "past the last entry")]
    fn an_entry_past_the_last_is_our_bug() {
        entries().store(10, &[0; 2]);
    }

    #[test]
    #[should_panic(expected = "past the entry's last word")]
    fn a_word_of_the_next_entry_is_our_bug() {
        let _ = entries().load(0, 2);
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn more_entries_than_fit_are_our_bug() {
        let memory = SharedMemory::new(MemoryRegion::heap(4096)).part(0, 159);
        let _ = SharedEntries::<2>::new(memory, 10);
    }

    #[test]
    #[should_panic(expected = "begin at a word")]
    fn entries_between_words_are_our_bug() {
        let memory = SharedMemory::new(MemoryRegion::heap(4096)).part(4, 160);
        let _ = SharedEntries::<2>::new(memory, 10);
    }
}

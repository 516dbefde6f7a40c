//! Memory that a device and its driver both touch while it is in use: rings, lists of pages, pages of answers.
//!
//! No reference to its bytes is ever made, because the other side may write at any time: every access is a volatile copy,
//! and the two that order others (`load_u32_acquire`, `store_u32_release`) say so.

use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use crate::memory::MemoryRegion;

/// A run of memory shared with a device; a clone is another handle to it. Stays on its core.
#[derive(Clone)]
pub struct SharedMemory {
    region: Rc<MemoryRegion>,
    offset_bytes: usize,
    length_bytes: usize,
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({:#x}, {} bytes)", self.address(), self.length_bytes)
    }
}

impl SharedMemory {
    /// The whole of `region`. Its bytes are zero, as regions start.
    pub fn new(region: MemoryRegion) -> Self {
        let length_bytes = region.len();
        Self { region: Rc::new(region), offset_bytes: 0, length_bytes }
    }

    /// A part of it that keeps the whole alive.
    ///
    /// # Panics
    /// When the part does not lie inside.
    #[must_use]
    pub fn part(&self, offset_bytes: usize, length_bytes: usize) -> Self {
        self.check(offset_bytes, length_bytes);
        let offset_bytes = self.offset_bytes + offset_bytes;
        Self { region: Rc::clone(&self.region), offset_bytes, length_bytes }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length_bytes
    }

    /// True for a part of no bytes.
    pub fn is_empty(&self) -> bool {
        self.length_bytes == 0
    }

    /// Where it starts in this process: what a device is given where it sees the process's own addresses, and a key to
    /// translate from where it does not.
    pub fn address(&self) -> usize {
        self.region.base().as_ptr() as usize + self.offset_bytes
    }

    #[inline]
    fn check(&self, offset_bytes: usize, length_bytes: usize) {
        let end = offset_bytes.checked_add(length_bytes);
        assert!(end.is_some_and(|end| end <= self.length_bytes), "an access past the end of shared memory");
    }

    #[inline]
    pub(super) fn at(&self, offset_bytes: usize, length_bytes: usize) -> NonNull<u8> {
        self.check(offset_bytes, length_bytes);
        // SAFETY: the access lies inside this part by the check above, and the part inside the region.
        unsafe { self.region.base().add(self.offset_bytes + offset_bytes) }
    }

    #[inline]
    fn pointer<T>(&self, offset_bytes: usize) -> *mut T {
        let pointer = self.at(offset_bytes, size_of::<T>()).as_ptr();
        assert!((pointer as usize).is_multiple_of(align_of::<T>()), "an unaligned access to shared memory");
        pointer.cast()
    }

    /// Copies bytes out, eight at a time where place and length allow.
    #[inline]
    pub fn read(&self, offset_bytes: usize, out: &mut [u8]) {
        let base = self.at(offset_bytes, out.len()).as_ptr();
        let mut done = 0;
        if (base as usize).is_multiple_of(align_of::<u64>()) {
            let (words, _) = out.as_chunks_mut::<8>();
            for word in words {
                // SAFETY: inside the checked range, and aligned because the base is and `done` counts eights.
                *word = unsafe { base.wrapping_add(done).cast::<u64>().read_volatile() }.to_ne_bytes();
                done += 8;
            }
        }
        for byte in &mut out[done..] {
            // SAFETY: inside the checked range.
            *byte = unsafe { base.wrapping_add(done).read_volatile() };
            done += 1;
        }
    }

    /// Copies bytes in, eight at a time where place and length allow.
    #[inline]
    pub fn write(&self, offset_bytes: usize, bytes: &[u8]) {
        let base = self.at(offset_bytes, bytes.len()).as_ptr();
        let mut done = 0;
        if (base as usize).is_multiple_of(align_of::<u64>()) {
            let (words, _) = bytes.as_chunks::<8>();
            for word in words {
                let word = u64::from_ne_bytes(*word);
                // SAFETY: inside the checked range, and aligned because the base is and `done` counts eights.
                unsafe { base.wrapping_add(done).cast::<u64>().write_volatile(word) };
                done += 8;
            }
        }
        for byte in &bytes[done..] {
            // SAFETY: inside the checked range.
            unsafe { base.wrapping_add(done).write_volatile(*byte) };
            done += 1;
        }
    }

    /// Sets a range to zero.
    pub fn zero(&self, offset_bytes: usize, length_bytes: usize) {
        const ZEROS: [u8; 64] = [0; 64];
        let mut done = 0;
        while done < length_bytes {
            let step = (length_bytes - done).min(ZEROS.len());
            self.write(offset_bytes + done, &ZEROS[..step]);
            done += step;
        }
    }

    /// A little-endian word that the device writes last: what it wrote before is seen by every access after this one.
    #[inline]
    pub fn load_u32_acquire(&self, offset_bytes: usize) -> u32 {
        let pointer = self.pointer::<u32>(offset_bytes);
        // SAFETY: inside this part and aligned; volatile because the device may write it at any time.
        let value = unsafe { pointer.read_volatile() };
        fence(Ordering::Acquire);
        u32::from_le(value)
    }

    /// As [`SharedMemory::load_u32_acquire`], of 64 bits that the device writes at once.
    #[inline]
    pub fn load_u64_acquire(&self, offset_bytes: usize) -> u64 {
        let value = self.load_u64(offset_bytes);
        fence(Ordering::Acquire);
        value
    }

    /// A little-endian word that tells the device to look: it sees everything written before this one.
    #[inline]
    pub fn store_u32_release(&self, offset_bytes: usize, value: u32) {
        let pointer = self.pointer::<u32>(offset_bytes);
        fence(Ordering::Release);
        // SAFETY: inside this part and aligned; volatile because the device may read it at any time.
        unsafe { pointer.write_volatile(value.to_le()) };
    }

    /// Stores a little-endian word of 64 bits.
    #[inline]
    pub fn store_u64(&self, offset_bytes: usize, value: u64) {
        let pointer = self.pointer::<u64>(offset_bytes);
        // SAFETY: inside this part and aligned; volatile because the device may read it at any time.
        unsafe { pointer.write_volatile(value.to_le()) };
    }

    /// Loads a little-endian word of 64 bits.
    #[inline]
    pub fn load_u64(&self, offset_bytes: usize) -> u64 {
        let pointer = self.pointer::<u64>(offset_bytes);
        // SAFETY: inside this part and aligned; volatile because the device may write it at any time.
        u64::from_le(unsafe { pointer.read_volatile() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> SharedMemory {
        SharedMemory::new(MemoryRegion::heap(4096))
    }

    #[test]
    fn bytes_come_back_from_every_offset_and_length() {
        let memory = memory();
        let pattern: Vec<u8> = (0..80).map(|i| i as u8 ^ 0x5a).collect();
        for offset in 0..17 {
            for length in 0..pattern.len() {
                memory.zero(0, 128);
                memory.write(offset, &pattern[..length]);
                let mut out = vec![0xff; length];
                memory.read(offset, &mut out);
                assert_eq!(out, pattern[..length]);
                let mut around = [0; 128];
                memory.read(0, &mut around);
                let outside = around[..offset].iter().chain(&around[offset + length..]);
                assert!(outside.copied().all(|byte| byte == 0), "nothing outside was touched");
            }
        }
    }

    #[test]
    fn words_are_little_endian_and_seen_by_every_handle() {
        let memory = memory();
        let part = memory.part(64, 64);
        part.store_u64(8, 0x0102_0304_0506_0708);
        part.store_u32_release(0, 0xa0b0_c0d0);
        let mut bytes = [0; 16];
        memory.read(64, &mut bytes);
        assert_eq!(bytes[..4], [0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(bytes[8..], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(memory.load_u32_acquire(64), 0xa0b0_c0d0);
        assert_eq!(memory.load_u64(72), 0x0102_0304_0506_0708);
        assert_eq!(part.address(), memory.address() + 64);
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn an_access_past_the_end_is_our_bug() {
        memory().part(0, 64).read(60, &mut [0; 8]);
    }

    #[test]
    #[should_panic(expected = "unaligned")]
    fn an_unaligned_word_is_our_bug() {
        let _ = memory().load_u64(4);
    }
}

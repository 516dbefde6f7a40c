//! Lists of buffers against a walk over what a controller would read.

use nvme_spec::sqe::Psdt;
use reactor::buffer::{BufferPool, SizeClass};
use reactor::memory::MemoryRegion;
use zerocopy::FromBytes;

use super::*;

const LIST_IOVA: u64 = 0x9_0000_0800;
const POOL_IOVA: u64 = 0x5_0000_0000;

struct Rig {
    pool: BufferPool,
    mapping: PoolMapping,
    memory: SharedMemory,
}

impl Rig {
    fn new() -> Self {
        let pool = BufferPool::heap(&[
            SizeClass { bytes: 4096, count: 300 },
            SizeClass { bytes: 16384, count: 16 },
            SizeClass { bytes: 1 << 20, count: 2 },
        ]);
        let (base, length_bytes) = pool.region_range();
        let mapping = PoolMapping::new(base.as_ptr() as usize, length_bytes, POOL_IOVA, Box::new(()));
        Self { pool, mapping, memory: SharedMemory::new(MemoryRegion::heap(8192)) }
    }

    fn list(&self) -> List<'_> {
        List { memory: &self.memory, offset_bytes: 2048, iova: LIST_IOVA }
    }

    fn sgl(&self, lengths: &[usize]) -> Sgl {
        lengths.iter().fold(Sgl::empty(), |mut all, length| {
            all.append(self.pool.alloc(*length).expect("room"));
            all
        })
    }

    /// The bytes that the part is, one address each page or run, merged where they follow each other.
    fn expected(&self, part: Part<'_>) -> Vec<(u64, usize)> {
        merge(part.runs(&self.mapping))
    }

    /// What PRP entries name, as a controller walks them (Base 4.3.1).
    fn walk_prp(&self, sqe: &Sqe, length_bytes: usize) -> Vec<(u64, usize)> {
        assert_eq!(sqe.psdt(), Psdt::PRP);
        let [first, second] = sqe.prp().map(|entry| entry.get());
        let mut pages = vec![(first, length_bytes.min(PAGE_BYTES - first as usize % PAGE_BYTES))];
        let mut left = length_bytes - pages[0].1;
        let in_list = left > PAGE_BYTES;
        let mut index = 0;
        while left > 0 {
            let iova = if in_list { self.memory.load_u64(2048 + index * 8) } else { second };
            assert!(iova.is_multiple_of(PAGE), "only the first entry has an offset");
            pages.push((iova, left.min(PAGE_BYTES)));
            left -= left.min(PAGE_BYTES);
            index += 1;
        }
        if in_list {
            assert_eq!(second, LIST_IOVA);
        } else if pages.len() == 1 {
            assert_eq!(second, 0);
        }
        merge(pages.into_iter())
    }

    fn walk_sgl(&self, sqe: &Sqe) -> Vec<(u64, usize)> {
        assert_eq!(sqe.psdt(), Psdt::SGL);
        let run = |block: SglDescriptor| {
            assert_eq!(block.identifier, SglIdentifier::DATA_BLOCK_ADDRESS);
            (block.address.get(), block.length_bytes.get() as usize)
        };
        if sqe.dptr.identifier == SglIdentifier::DATA_BLOCK_ADDRESS {
            return vec![run(sqe.dptr)];
        }
        assert_eq!((sqe.dptr.identifier, sqe.dptr.address.get()), (SglIdentifier::LAST_SEGMENT, LIST_IOVA));
        let mut bytes = vec![0; sqe.dptr.length_bytes.get() as usize];
        self.memory.read(2048, &mut bytes);
        let blocks =
            bytes.chunks(DESCRIPTOR_BYTES).map(|block| SglDescriptor::read_from_bytes(block).unwrap());
        merge(blocks.map(run))
    }
}

fn merge(runs: impl Iterator<Item = (u64, usize)>) -> Vec<(u64, usize)> {
    let mut merged: Vec<(u64, usize)> = Vec::new();
    for (iova, length) in runs {
        match merged.last_mut() {
            Some(last) if last.0 + last.1 as u64 == iova => last.1 += length,
            _ => merged.push((iova, length)),
        }
    }
    merged
}

#[test]
fn every_part_of_a_list_of_pages_is_described_by_prp_entries() {
    let rig = Rig::new();
    for lengths in [&[512][..], &[4096], &[8192], &[12288, 512], &[16384, 16384, 4096, 1536], &[1 << 20]] {
        let sgl = rig.sgl(lengths);
        assert!(fits_prp(&sgl));
        let total = sgl.len();
        let lent = sgl.lend();
        let step = if total > 100_000 { 65536 } else { 512 };
        for offset_bytes in (0..total).step_by(step) {
            for end in (offset_bytes + step..=total).step_by(step).chain([total]) {
                let length_bytes = end - offset_bytes;
                let part = Part { lent: &lent, offset_bytes, length_bytes };
                let mut sqe = Sqe::default();
                assert!(set_prp(&mut sqe, part, &rig.mapping, rig.list()));
                assert_eq!(rig.walk_prp(&sqe, length_bytes), rig.expected(part));
                if let Some((first, second)) = short_prp(part, &rig.mapping) {
                    assert_eq!(
                        sqe.prp().map(|entry| entry.get()),
                        [first, second],
                        "the short way is the same"
                    );
                }
            }
        }
        drop(lent.reclaim());
    }
}

#[test]
fn a_buffer_that_ends_inside_a_page_needs_an_sgl() {
    let rig = Rig::new();
    let sgl = rig.sgl(&[4096, 512, 8192, 1024, 512]);
    assert!(!fits_prp(&sgl));
    let total = sgl.len();
    let lent = sgl.lend();
    let whole = Part { lent: &lent, offset_bytes: 0, length_bytes: total };
    let mut sqe = Sqe::default();
    assert!(!set_prp(&mut sqe, whole, &rig.mapping, rig.list()));
    for offset_bytes in (0..total).step_by(512) {
        for length_bytes in (512..=total - offset_bytes).step_by(512) {
            let part = Part { lent: &lent, offset_bytes, length_bytes };
            set_sgl(&mut sqe, part, &rig.mapping, rig.list());
            assert_eq!(rig.walk_sgl(&sqe), rig.expected(part));
        }
    }
    drop(lent.reclaim());
}

#[test]
fn the_longest_transfer_of_single_pages_fills_its_list() {
    let rig = Rig::new();
    let sgl = rig.sgl(&[4096; 128]);
    let lent = sgl.lend();
    let part = Part { lent: &lent, offset_bytes: 0, length_bytes: 128 * 4096 };
    let mut sqe = Sqe::default();
    assert!(set_prp(&mut sqe, part, &rig.mapping, rig.list()));
    assert_eq!(rig.walk_prp(&sqe, part.length_bytes), rig.expected(part));
    set_sgl(&mut sqe, part, &rig.mapping, rig.list());
    assert_eq!(rig.walk_sgl(&sqe), rig.expected(part));
    drop(lent.reclaim());
}

#[test]
fn zeros_come_from_one_page() {
    let rig = Rig::new();
    for length_bytes in [512, 4096, 8192, 12288, 1 << 20] {
        let mut sqe = Sqe::default();
        set_zeros(&mut sqe, 0x7000, length_bytes, rig.list());
        let [first, second] = sqe.prp().map(|entry| entry.get());
        assert_eq!(first, 0x7000);
        match length_bytes.div_ceil(PAGE) {
            1 => assert_eq!(second, 0),
            2 => assert_eq!(second, 0x7000),
            pages => {
                assert_eq!(second, LIST_IOVA);
                assert!((0..pages as usize - 1).all(|i| rig.memory.load_u64(2048 + i * 8) == 0x7000));
            }
        }
    }
}

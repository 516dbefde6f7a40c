use reactor::buffer::{BufferPool, SizeClass};

use super::*;
use crate::conformance::model::Numbers;

const BLOCK: u64 = 512;
const DEVICE_BLOCKS: u64 = 3 * MEMORY_CHUNK_BYTES as u64 / BLOCK;
/// Most I/O goes to a few pages, so that much of what is written is being shown.
const HOT_BLOCKS: u64 = 16 * PAGE_BYTES / BLOCK;

struct Rig {
    device: MemoryDevice,
    buffers: BufferPool,
    model: Vec<u8>,
    numbers: Numbers,
}

impl Rig {
    fn new(seed: u64, small_pages: bool) -> Self {
        let geometry =
            Geometry::new(uuid::Uuid::nil(), BLOCK as u32, DEVICE_BLOCKS * BLOCK).expect("a device of 6 MiB");
        Self {
            device: MemoryDevice::within(geometry, MemoryBudget::default(), small_pages),
            buffers: BufferPool::heap(&[SizeClass { bytes: 1 << 20, count: 8 }]),
            model: vec![0; (DEVICE_BLOCKS * BLOCK) as usize],
            numbers: Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        }
    }

    fn extent(&mut self) -> Extent {
        let (start, space) = if self.numbers.below(8) > 0 {
            (MEMORY_CHUNK_BYTES as u64 / BLOCK - HOT_BLOCKS / 2, HOT_BLOCKS)
        } else {
            (0, DEVICE_BLOCKS)
        };
        let longest = if self.numbers.below(4) == 0 { 128 } else { 16 };
        let length_blocks = 1 + self.numbers.below(longest.min(space));
        let lba = start + self.numbers.below(space - length_blocks + 1);
        Extent { lba, length_blocks }
    }

    fn range(extent: Extent) -> std::ops::Range<usize> {
        (extent.lba * BLOCK) as usize..(extent.end() * BLOCK) as usize
    }

    fn submit(&mut self, op: Op, payload: &[u8]) -> Done {
        let mut sgl = self.buffers.alloc(op.payload_bytes(BLOCK as u32) as usize).expect("the pool is empty");
        if !payload.is_empty() {
            sgl.copy_in(0, payload);
        }
        self.device.submit(Io { tag: 0, op, sgl }).expect("memory answers on the spot")
    }

    fn good(&mut self, op: Op, payload: &[u8]) -> Vec<u8> {
        let done = self.submit(op, payload);
        assert_eq!(done.status, IoStatus::Good, "{op:?}");
        done.sgl.to_vec()
    }

    /// One random change of the blocks, in the device and in the model.
    fn change(&mut self) {
        let extent = self.extent();
        let range = Self::range(extent);
        let byte = self.numbers.below(256) as u8;
        let payload: Vec<u8> = (0..range.len()).map(|at| byte.wrapping_add((at / 64) as u8)).collect();
        match self.numbers.below(10) {
            0..6 => {
                self.good(Op::Write { extent, fua: false }, &payload);
                self.model[range].copy_from_slice(&payload);
            }
            6 => {
                self.good(Op::OrWrite { extent, fua: false }, &payload);
                self.model[range].iter_mut().zip(&payload).for_each(|(to, from)| *to |= from);
            }
            7 => {
                self.good(Op::WriteZeroes { extent, unmap: false, fua: false }, &[]);
                self.model[range].fill(0);
            }
            8 => {
                self.good(Op::Unmap(extent), &[]);
                self.model[range].fill(0);
            }
            _ => {
                let both = [&self.model[range.clone()], &payload].concat();
                self.good(Op::CompareAndWrite { extent, fua: false }, &both);
                self.model[range].copy_from_slice(&payload);
            }
        }
    }

    /// The device knows the value of a run of pages, and says nothing about any other run.
    fn check_crc32c(&mut self) {
        let page_blocks = PAGE_BYTES / BLOCK;
        let extent = self.extent();
        let lba = extent.lba - extent.lba % page_blocks;
        let length_blocks = extent.length_blocks.next_multiple_of(page_blocks).min(DEVICE_BLOCKS - lba);
        let pages = Extent { lba, length_blocks };
        let expected = crc_fast::crc32_iscsi(&self.model[Self::range(pages)]);
        assert_eq!(self.device.crc32c(pages), Some(expected), "{pages:?}");
        if extent != pages {
            assert_eq!(self.device.crc32c(extent), None, "{extent:?}");
        }
    }

    fn check_all(&mut self) {
        for lba in (0..DEVICE_BLOCKS).step_by(1024) {
            let extent = Extent { lba, length_blocks: 1024 };
            assert!(
                self.good(Op::Read(extent), &[]) == self.model[Self::range(extent)],
                "blocks from {lba} on"
            );
            let expected = self.model[Self::range(extent)].to_vec();
            self.good(Op::Compare(extent), &expected);
        }
    }
}

#[test]
fn what_is_shown_stays_and_what_is_written_is_there() {
    for seed in 1..8 {
        let mut rig = Rig::new(seed, seed % 2 == 0);
        let mut shown: Vec<(Sgl, Vec<u8>)> = Vec::new();
        for step in 0..1500 {
            match rig.numbers.below(4) {
                0 => {
                    let extent = rig.extent();
                    let expected = rig.model[Rig::range(extent)].to_vec();
                    if let Some(sgl) = rig.device.show(extent) {
                        assert!(sgl.to_vec() == expected, "seed {seed}, step {step}: {extent:?}");
                        shown.push((sgl, expected));
                    }
                }
                1 if !shown.is_empty() => {
                    let index = rig.numbers.below(shown.len() as u64) as usize;
                    let (sgl, expected) = shown.swap_remove(index);
                    assert!(sgl.to_vec() == expected, "seed {seed}, step {step}");
                }
                2 if rig.numbers.below(200) == 0 => {
                    // A whole chunk goes, with pages that are shown and pages that are away.
                    let blocks = MEMORY_CHUNK_BYTES as u64 / BLOCK;
                    let extent = Extent { lba: rig.numbers.below(3) * blocks, length_blocks: blocks };
                    let op = if rig.numbers.below(2) == 0 {
                        Op::Unmap(extent)
                    } else {
                        Op::WriteZeroes { extent, unmap: false, fua: false }
                    };
                    rig.good(op, &[]);
                    rig.model[Rig::range(extent)].fill(0);
                }
                2 => rig.check_crc32c(),
                _ => rig.change(),
            }
        }
        for (sgl, expected) in &shown {
            assert!(sgl.to_vec() == *expected, "seed {seed}");
        }
        rig.check_all();
        drop(shown);
        rig.check_all();
        for _ in 0..300 {
            rig.change();
        }
        assert!(rig.device.spare.is_empty() && rig.device.shown.pages() == 0, "everything is at home again");
        rig.check_all();
    }
}

#[test]
fn holes_and_more_than_may_be_shown_are_read_instead() {
    let blocks = MEMORY_CHUNK_BYTES as u64 / BLOCK;
    let geometry =
        Geometry::new(uuid::Uuid::nil(), BLOCK as u32, 20 * blocks * BLOCK).expect("a device of 40 MiB");
    let mut rig = Rig { device: MemoryDevice::new(geometry), ..Rig::new(1, false) };
    assert!(rig.device.show(Extent { lba: 0, length_blocks: 1 }).is_none(), "nothing was ever written here");
    for chunk in 0..20 {
        rig.good(
            Op::Write { extent: Extent { lba: chunk * blocks, length_blocks: 1 }, fua: false },
            &[chunk as u8; 512],
        );
    }
    let longest = MEMORY_SHOW_BYTES as u64 / BLOCK;
    let part = |index: usize| Extent { lba: index as u64 * longest, length_blocks: longest };
    let too_long = Extent { lba: 0, length_blocks: longest + 1 };
    assert!(rig.device.show(too_long).is_none(), "a copy is faster");
    let mut shown = Vec::new();
    while let Some(sgl) = rig.device.show(part(shown.len())) {
        shown.push(sgl);
    }
    assert_eq!(shown.len() * MEMORY_SHOW_BYTES, MEMORY_SHOWN_BYTES - MEMORY_SHOW_BYTES);
    // Every page that is shown is written, one by one and twice: there is a spare page for each.
    for _ in 0..2 {
        for lba in (0..shown.len() as u64 * longest).step_by(PAGE / BLOCK as usize) {
            let extent = Extent { lba: lba + 1, length_blocks: 1 };
            rig.good(Op::Write { extent, fua: false }, &[0xEE; 512]);
        }
    }
    let parts_of_chunk = MEMORY_CHUNK_BYTES / MEMORY_SHOW_BYTES;
    for (index, sgl) in shown.iter().enumerate() {
        let first = if index % parts_of_chunk == 0 { (index / parts_of_chunk) as u8 } else { 0 };
        let bytes = sgl.to_vec();
        assert!(bytes[..512] == [first; 512] && bytes[512..].iter().all(|byte| *byte == 0));
    }
    // What stands for them is shown as well, and is written again.
    drop(shown.pop());
    let again = rig.device.show(Extent { lba: 0, length_blocks: 8 }).expect("there is room for a little");
    rig.good(Op::Write { extent: Extent { lba: 1, length_blocks: 1 }, fua: false }, &[0xDD; 512]);
    assert!(again.to_vec()[512..1024] == [0xEE; 512]);
    shown.clear();
    let read = rig.good(Op::Read(Extent { lba: 0, length_blocks: 10 }), &[]);
    assert!(read[..512] == [0; 512] && read[512..1024] == [0xDD; 512] && read[4608..] == [0xEE; 512]);
    let scattered = rig.device.show(part(3)).expect("four pieces at most");
    assert!(scattered.segment_count() > 1 && scattered.to_vec()[512..1024] == [0xEE; 512]);
}

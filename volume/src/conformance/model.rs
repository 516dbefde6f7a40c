//! Random I/O, many at once and overlapping, against an array of bytes.
//!
//! A volume runs conflicting I/Os in the order in which they came, so the array changes at
//! submission and already knows what every read must return.

use super::Rig;
use crate::bdev::{IoStatus, Op};

const STEPS: u64 = 400;
const DEPTH: usize = 24;

/// Numbers that look random; the same for the same seed.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What an I/O must answer.
struct Expected {
    tag: u64,
    op: Op,
    status: IoStatus,
    data: Option<Vec<u8>>,
}

pub(super) fn random_io(rig: &mut Rig, seed: u64) {
    let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut bytes = vec![0_u8; (rig.length_blocks * rig.block_bytes) as usize];
    let mut waiting: Vec<Expected> = Vec::new();
    // Most I/O goes to a small region, so that much of it overlaps.
    let hot_blocks = 4 * 4096 / rig.block_bytes * 8;
    for step in 0..STEPS {
        if waiting.len() == DEPTH {
            let index = numbers.below(DEPTH as u64) as usize;
            check(rig, waiting.swap_remove(index));
        }
        let hot = numbers.below(4) > 0;
        let (start, space) = if hot { (rig.length_blocks / 3, hot_blocks) } else { (0, rig.length_blocks) };
        let longest = if numbers.below(8) == 0 { hot_blocks } else { 20.min(space) };
        let length = 1 + numbers.below(longest);
        let lba = start + numbers.below(space - length + 1);
        waiting.push(submit(rig, &mut numbers, &mut bytes, lba, length, step));
    }
    for expected in waiting {
        check(rig, expected);
    }
    let per_read = 512;
    for lba in (0..rig.length_blocks).step_by(per_read) {
        let length = (per_read as u64).min(rig.length_blocks - lba);
        let from = (lba * rig.block_bytes) as usize;
        let expected = bytes[from..from + (length * rig.block_bytes) as usize].to_vec();
        rig.expect(lba, &expected);
    }
}

fn submit(
    rig: &mut Rig,
    numbers: &mut Numbers,
    bytes: &mut [u8],
    lba: u64,
    length: u64,
    step: u64,
) -> Expected {
    let extent = rig.extent(lba, length);
    let from = (lba * rig.block_bytes) as usize;
    let now = &mut bytes[from..from + (length * rig.block_bytes) as usize];
    let new = rig.pattern(lba, length, step);
    let fua = numbers.below(10) == 0;
    let mut status = IoStatus::Good;
    let mut data = None;
    let (op, payload) = match numbers.below(16) {
        0..5 => {
            data = Some(now.to_vec());
            (Op::Read(extent), Vec::new())
        }
        8..10 if length <= u64::from(rig.subject.channel.info().atomic_write_blocks) => {
            now.copy_from_slice(&new);
            (Op::AtomicWrite { extent, fua }, new)
        }
        5..10 => {
            now.copy_from_slice(&new);
            (Op::Write { extent, fua }, new)
        }
        10 => {
            now.fill(0);
            (Op::Unmap(extent), Vec::new())
        }
        11 => {
            now.fill(0);
            (Op::WriteZeroes { extent, unmap: numbers.below(2) == 0, fua }, Vec::new())
        }
        12 => {
            now.iter_mut().zip(&new).for_each(|(now, new)| *now |= new);
            (Op::OrWrite { extent, fua }, new)
        }
        13 => (Op::Flush, Vec::new()),
        kind => {
            let mut guess = now.to_vec();
            if numbers.below(2) == 0 {
                let offset = numbers.below(guess.len() as u64);
                guess[offset as usize] ^= 0x10;
                status = IoStatus::Miscompare { offset_bytes: offset };
            }
            if kind == 14 {
                (Op::Compare(extent), guess)
            } else {
                if status == IoStatus::Good {
                    now.copy_from_slice(&new);
                }
                (Op::CompareAndWrite { extent, fua }, [guess, new].concat())
            }
        }
    };
    Expected { tag: rig.submit(op, &payload), op, status, data }
}

fn check(rig: &mut Rig, expected: Expected) {
    let done = rig.wait(expected.tag);
    assert_eq!(done.status, expected.status, "{}: {:?}", rig.name, expected.op);
    if let Some(data) = expected.data {
        assert!(done.sgl.to_vec() == data, "{}: {:?} returned other bytes", rig.name, expected.op);
    }
}

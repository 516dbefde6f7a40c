//! Where the next request goes, and whether it reads.

use crate::plan::{Order, Plan};

/// SplitMix64: small, and the same sequence in every run.
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, each as likely as the others up to one part in 2^64 / `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// The places of a target: runs of blocks, each as long as a request.
#[derive(Clone, Debug)]
pub struct Places {
    order: Order,
    count: u64,
    read_percent: u8,
    at: u64,
    sequence: Sequence,
}

impl Places {
    /// `seed` differs between the generators of a run.
    pub fn new(plan: &Plan, count: u64, seed: u64) -> Self {
        assert!(count > 0, "a target without room was refused");
        let sequence = Sequence::new(seed);
        Self { order: plan.order, count, read_percent: plan.read_percent, at: 0, sequence }
    }

    /// The next place.
    #[inline]
    pub fn next(&mut self) -> u64 {
        match self.order {
            Order::Random => self.sequence.below(self.count),
            Order::Sequential => {
                let place = self.at;
                self.at = if place + 1 == self.count { 0 } else { place + 1 };
                place
            }
        }
    }

    /// True when the next request reads.
    #[inline]
    pub fn next_reads(&mut self) -> bool {
        match self.read_percent {
            0 => false,
            100 => true,
            percent => self.sequence.below(100) < u64::from(percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(order: Order, read_percent: u8, count: u64) -> Places {
        let plan = Plan::new("nvme-tcp://h/nqn.a".parse().expect("a target"));
        Places::new(&Plan { order, read_percent, ..plan }, count, 0)
    }

    #[test]
    fn sequential_places_come_in_order_and_again() {
        let mut places = places(Order::Sequential, 100, 3);
        assert_eq!(std::array::from_fn(|_| places.next()), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn random_places_reach_everything_evenly() {
        let mut places = places(Order::Random, 30, 16);
        let (mut visits, mut reads) = ([0_u32; 16], 0_u32);
        for _ in 0..16_000 {
            visits[places.next() as usize] += 1;
            reads += u32::from(places.next_reads());
        }
        assert!(visits.iter().all(|count| (850..1150).contains(count)), "{visits:?}");
        assert!((4500..5100).contains(&reads), "{reads}");
    }
}

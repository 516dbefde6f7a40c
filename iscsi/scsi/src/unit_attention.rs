//! Unit attention conditions: a bounded set per I_T_L nexus, each kept once.

use crate::sense::{Sense, SenseKey};

/// A condition that the next command of a nexus reports. Declared in order of precedence
/// (SAM-5 section 5.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum UnitAttention {
    /// 29/00 power on, reset, or bus device reset occurred: the first thing a new nexus hears.
    PowerOn,
    /// 29/03 bus device reset function occurred: a logical unit reset.
    LogicalUnitReset,
    /// 29/07 I_T nexus loss occurred.
    NexusLoss,
    /// 3F/03 inquiry data has changed.
    InquiryDataChanged,
    /// 3F/0E reported LUNs data has changed.
    ReportedLunsChanged,
    /// 2A/01 mode parameters changed.
    ModeParametersChanged,
    /// 2A/03 reservations preempted.
    ReservationsPreempted,
    /// 2A/04 reservations released.
    ReservationsReleased,
    /// 2A/05 registrations preempted.
    RegistrationsPreempted,
    /// 2A/06 asymmetric access state changed.
    AsymmetricAccessChanged,
    /// 2A/09 capacity data has changed.
    CapacityChanged,
    /// 2F/00 commands cleared by another initiator.
    CommandsCleared,
}

/// All of them, in order of precedence.
const ALL: [(UnitAttention, u8, u8); 12] = [
    (UnitAttention::PowerOn, 0x29, 0x00),
    (UnitAttention::LogicalUnitReset, 0x29, 0x03),
    (UnitAttention::NexusLoss, 0x29, 0x07),
    (UnitAttention::InquiryDataChanged, 0x3f, 0x03),
    (UnitAttention::ReportedLunsChanged, 0x3f, 0x0e),
    (UnitAttention::ModeParametersChanged, 0x2a, 0x01),
    (UnitAttention::ReservationsPreempted, 0x2a, 0x03),
    (UnitAttention::ReservationsReleased, 0x2a, 0x04),
    (UnitAttention::RegistrationsPreempted, 0x2a, 0x05),
    (UnitAttention::AsymmetricAccessChanged, 0x2a, 0x06),
    (UnitAttention::CapacityChanged, 0x2a, 0x09),
    (UnitAttention::CommandsCleared, 0x2f, 0x00),
];

impl UnitAttention {
    /// The sense data that reports it.
    pub fn sense(self) -> Sense {
        let (_, asc, ascq) = ALL[self as usize];
        Sense::new(SenseKey::UnitAttention, asc, ascq)
    }
}

/// The conditions that wait for one nexus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue(u16);

impl Queue {
    /// Adds a condition, or does nothing when it waits already. A reset makes what was pending
    /// before it moot.
    pub fn push(&mut self, attention: UnitAttention) {
        self.0 |= 1 << attention as u8;
    }

    /// The first condition, and forgets it.
    pub fn pop(&mut self) -> Option<UnitAttention> {
        let first = self.peek()?;
        self.0 &= !(1 << first as u8);
        Some(first)
    }

    /// The first condition.
    pub fn peek(self) -> Option<UnitAttention> {
        ALL.get(self.0.trailing_zeros() as usize).map(|entry| entry.0)
    }

    /// Forgets one condition.
    pub fn remove(&mut self, attention: UnitAttention) {
        self.0 &= !(1 << attention as u8);
    }

    /// True when nothing waits.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, entry) in ALL.iter().enumerate() {
            assert_eq!(entry.0 as usize, index);
        }
        assert!(ALL.len() <= 16, "the queue is 16 bits wide");
    }

    #[test]
    fn each_condition_waits_once_and_comes_in_order() {
        let mut queue = Queue::default();
        assert_eq!(queue.pop(), None);
        for _ in 0..3 {
            queue.push(UnitAttention::CapacityChanged);
            queue.push(UnitAttention::PowerOn);
        }
        assert_eq!(queue.pop(), Some(UnitAttention::PowerOn));
        assert_eq!(queue.peek(), Some(UnitAttention::CapacityChanged));
        queue.remove(UnitAttention::CapacityChanged);
        assert!(queue.is_empty());
    }
}

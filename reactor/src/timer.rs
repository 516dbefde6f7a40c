//! Timers as plain data: a hierarchical wheel. Insert and cancel take constant time, whatever the
//! number of timers; nothing fires early, and nothing is late but by the owner's own turn.
//!
//! Ticks are numbers of base 64. A timer lives on the level of the highest digit in which its tick
//! differs from the current one, in the slot of that digit. So everything on a lower level is due
//! before everything on a higher one, and moving the current tick to a slot of a higher level only
//! spreads that one slot over the levels below.

use crate::time::Time;

/// A tick is 2^16 ns, about 66 us. Within a tick timers fire in no particular order.
const TICK_BITS: u32 = 16;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
const NIL: u32 = u32::MAX;

const _: () = assert!(TICK_BITS + DIGIT_BITS * LEVELS as u32 == u64::BITS);

/// Names one timer; of no use once it has fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    previous: u32,
    next: u32,
    deadline: Time,
    level: u8,
    slot: u8,
    value: Option<T>,
}

/// Values that are due at instants.
#[derive(Debug)]
pub struct TimerWheel<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit per slot that is not empty.
    occupied: [u64; LEVELS],
    current_tick: u64,
}

impl<T> Default for TimerWheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn tick_of(deadline: Time) -> u64 {
    deadline.as_ns() >> TICK_BITS
}

fn digit(tick: u64, level: usize) -> usize {
    (tick >> (DIGIT_BITS as usize * level)) as usize & (SLOTS - 1)
}

impl<T> TimerWheel<T> {
    /// A wheel without timers.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            current_tick: 0,
        }
    }

    /// How many timers wait.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// True without timers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `value` is due at `deadline`; in the past means at the next `expire`.
    pub fn insert(&mut self, deadline: Time, value: T) -> TimerId {
        let index = self.free.pop().unwrap_or_else(|| {
            let (level, slot) = (0, 0);
            let entry = Entry { generation: 0, previous: NIL, next: NIL, deadline, level, slot, value: None };
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer timers than 2^32")
        });
        let entry = &mut self.entries[index as usize];
        entry.deadline = deadline;
        entry.value = Some(value);
        let generation = entry.generation;
        self.link(index);
        TimerId { index, generation }
    }

    /// Takes the timer back; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(id.index);
        Some(self.release(id.index))
    }

    /// Calls `on_due` for timers with a deadline at or before `now`, at most `budget` of them; how
    /// many it was. What is left over fires at the next call.
    pub fn expire(&mut self, now: Time, budget: u32, mut on_due: impl FnMut(T)) -> u32 {
        let now_tick = tick_of(now).max(self.current_tick);
        let mut fired = 0;
        while let Some((level, slot, start_tick)) = self.first_slot() {
            if start_tick > now_tick {
                break;
            }
            self.current_tick = start_tick.max(self.current_tick);
            if level > 0 {
                self.spread(level, slot);
                continue;
            }
            let mut index = self.heads[0][slot];
            while index != NIL {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].deadline <= now {
                    if fired == budget {
                        return fired;
                    }
                    self.unlink(index);
                    fired += 1;
                    on_due(self.release(index));
                }
                index = next;
            }
            if self.heads[0][slot] != NIL {
                // The rest of this slot is due later within the present tick.
                break;
            }
        }
        self.current_tick = now_tick;
        fired
    }

    /// The earliest deadline; [`Time::NEVER`] without timers.
    pub fn next_deadline(&self) -> Time {
        let Some((level, slot, _)) = self.first_slot() else { return Time::NEVER };
        let mut earliest = Time::NEVER;
        let mut index = self.heads[level][slot];
        while index != NIL {
            let entry = &self.entries[index as usize];
            earliest = earliest.min(entry.deadline);
            index = entry.next;
        }
        earliest
    }

    /// The slot that is due first: level, slot and the first tick it stands for.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = DIGIT_BITS as usize * level;
        let above = self.current_tick.checked_shr((shift + DIGIT_BITS as usize) as u32).unwrap_or(0);
        let start_tick = above.checked_shl((shift + DIGIT_BITS as usize) as u32).unwrap_or(0);
        Some((level, slot, start_tick | (slot as u64) << shift))
    }

    fn spread(&mut self, level: usize, slot: usize) {
        let mut index = std::mem::replace(&mut self.heads[level][slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let tick = tick_of(self.entries[index as usize].deadline).max(self.current_tick);
        let differing = tick ^ self.current_tick;
        let level = if differing == 0 { 0 } else { (differing.ilog2() / DIGIT_BITS) as usize };
        let slot = digit(tick, level);
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next) = (NIL, head);
        (entry.level, entry.slot) = (level as u8, slot as u8);
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (previous, next) = (entry.previous, entry.next);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
            return;
        }
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
        }
    }

    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        let value = entry.value.take().expect("a linked timer has a value");
        self.free.push(index);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::sim::SimRandom;
    use std::collections::BTreeMap;

    /// Random inserts, cancels and steps of the clock, against an ordered map.
    #[test]
    fn the_wheel_agrees_with_an_ordered_map() {
        for seed in 0..60 {
            let mut random = SimRandom::new(seed);
            let mut wheel = TimerWheel::new();
            let mut model = BTreeMap::new();
            let mut ids = Vec::new();
            let mut now = random.below(1 << 40);
            for step in 0..600_u64 {
                match random.below(10) {
                    0..5 => {
                        // Near, far, past, and for ever.
                        let reach = random.below(50);
                        let deadline = match random.below(20) {
                            0 => now.saturating_sub(random.below(1 << reach)),
                            1 => u64::MAX,
                            _ => now + random.below(1 << reach),
                        };
                        let id = wheel.insert(Time::from_ns(deadline), step);
                        model.insert((deadline, step), ());
                        ids.push((id, deadline, step));
                    }
                    5..7 if !ids.is_empty() => {
                        let at = random.below(ids.len() as u64) as usize;
                        let (id, deadline, value) = ids.swap_remove(at);
                        let expected = model.remove(&(deadline, value)).map(|()| value);
                        assert_eq!(wheel.cancel(id), expected);
                        assert_eq!(wheel.cancel(id), None);
                    }
                    _ => {
                        now += match random.below(3) {
                            0 => random.below(1 << 14),
                            _ => {
                                let reach = random.below(46);
                                random.below(1 << reach)
                            }
                        };
                        let budget = random.below(8) as u32;
                        let mut fired = Vec::new();
                        let count = wheel.expire(Time::from_ns(now), budget, |value| fired.push(value));
                        assert_eq!(count as usize, fired.len());
                        let due = model.range(..=(now, u64::MAX)).count();
                        assert_eq!(fired.len(), due.min(budget as usize));
                        for value in fired {
                            let key = model.keys().copied().find(|key| key.1 == value).expect("set");
                            assert!(key.0 <= now, "early");
                            model.remove(&key);
                        }
                    }
                }
                assert_eq!(wheel.len(), model.len());
                let earliest = model.keys().next().map_or(u64::MAX, |key| key.0);
                assert_eq!(wheel.next_deadline(), Time::from_ns(earliest));
            }
            assert!(random.next_u64() != 0);
        }
    }

    #[test]
    fn a_timer_is_not_a_nanosecond_early() {
        let mut wheel = TimerWheel::new();
        wheel.insert(Time::from_ns(1_000_000), ());
        assert_eq!(wheel.expire(Time::from_ns(999_999), 10, |()| {}), 0);
        assert_eq!(wheel.expire(Time::from_ns(1_000_000), 10, |()| {}), 1);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), Time::NEVER);
    }

    #[test]
    fn an_old_name_does_not_cancel_a_new_timer() {
        let mut wheel = TimerWheel::new();
        let old = wheel.insert(Time::from_ns(5), "old");
        assert_eq!(wheel.expire(Time::from_ns(5), 1, drop), 1);
        let new = wheel.insert(Time::from_ns(50), "new");
        assert_eq!(wheel.cancel(old), None);
        assert_eq!(wheel.cancel(new), Some("new"));
    }
}

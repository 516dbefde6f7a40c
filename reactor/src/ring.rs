//! A bounded ring from one thread to one other: no lock, no allocation after start.
//!
//! Both sides keep a copy of the other's index and look at the shared one only when the copy says
//! full or empty, so in steady state a cache line moves once per batch and not once per item. A
//! batch becomes visible by one release store.

// The island: slots are written by the producer and read by the consumer, never at once.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Items ever popped; wraps. Written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// Items ever pushed; wraps. Written by the producer.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: an item is moved in by the one producer and moved out by the one consumer; the indices
// hand each slot over with release and acquire, so items may come from another thread if `Send`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; no reference to an item is ever shared.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // The length is a power of two, so the mask keeps the index inside.
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: the pointer comes from a live cell, and both ends are gone.
                let slot = unsafe { &mut *slot };
                // SAFETY: slots from head to tail hold items.
                unsafe { slot.assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that pushes.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The end that pops.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer(tail {})", self.tail)
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer(head {})", self.head)
    }
}

/// A ring of `capacity` items, a power of two.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "the index is masked, not divided");
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    let producer = Producer { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

impl<T> Producer<T> {
    /// Pushes one item and makes it visible; gives it back when the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.room(1) == 0 {
            return Err(item);
        }
        self.write(item);
        self.publish();
        Ok(())
    }

    /// Pushes items until the ring is full or there are none, and makes them visible together.
    /// Items that did not fit stay in `items`. Returns how many went.
    pub fn push_batch(&mut self, items: &mut std::collections::VecDeque<T>) -> usize {
        let count = self.room(items.len()).min(items.len());
        for item in items.drain(..count) {
            self.write(item);
        }
        if count > 0 {
            self.publish();
        }
        count
    }

    /// Free slots; looks at the consumer's index only when the copy shows fewer than `wanted`.
    fn room(&mut self, wanted: usize) -> usize {
        let capacity = self.shared.slots.len();
        let used = self.tail.wrapping_sub(self.head_seen);
        if capacity - used >= wanted {
            return capacity - used;
        }
        // Acquire: the consumer has moved the items out before it gave the slots back.
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        capacity - self.tail.wrapping_sub(self.head_seen)
    }

    fn write(&mut self, item: T) {
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: `room` showed that the consumer is done with this slot, and the consumer
            // does not look at it before `publish`.
            unsafe { (*slot).write(item) };
        });
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> Consumer<T> {
    /// The oldest item.
    pub fn pop(&mut self) -> Option<T> {
        if self.filled(1) == 0 {
            return None;
        }
        let item = self.read();
        self.release();
        Some(item)
    }

    /// Appends up to `max` items to `out`, oldest first, and gives their slots back together.
    pub fn pop_batch(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        let count = self.filled(max).min(max);
        for _ in 0..count {
            let item = self.read();
            out.push(item);
        }
        if count > 0 {
            self.release();
        }
        count
    }

    /// True when nothing waits.
    pub fn is_empty(&mut self) -> bool {
        self.filled(1) == 0
    }

    fn filled(&mut self, wanted: usize) -> usize {
        let seen = self.tail_seen.wrapping_sub(self.head);
        if seen >= wanted {
            return seen;
        }
        // Acquire: what the producer wrote before it published.
        self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }

    fn read(&mut self) -> T {
        let item = self.shared.slot(self.head).with_mut(|slot| {
            // SAFETY: the pointer comes from a live cell that the producer does not touch before
            // `release`.
            let slot = unsafe { &*slot };
            // SAFETY: `filled` showed that the producer has published an item here, and `head`
            // moves on, so it is read once.
            unsafe { slot.assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        item
    }

    fn release(&mut self) {
        self.shared.head.store(self.head, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// All sequences of `DEPTH` steps out of push, push two, pop, pop two, against a `VecDeque`.
    #[test]
    fn every_short_history_agrees_with_a_queue() {
        const DEPTH: u32 = if cfg!(miri) { 3 } else { 8 };
        for capacity in [1, 2, 4] {
            for history in 0..4_u32.pow(DEPTH) {
                let (mut producer, mut consumer) = ring::<u32>(capacity);
                let mut model = VecDeque::new();
                for step in 0..DEPTH {
                    match (history / 4_u32.pow(step)) % 4 {
                        0 => {
                            let full = model.len() == capacity;
                            assert_eq!(producer.push(step).is_err(), full);
                            if !full {
                                model.push_back(step);
                            }
                        }
                        1 => {
                            let mut items = VecDeque::from([step + 100, step + 200]);
                            let went = producer.push_batch(&mut items);
                            assert_eq!(went, 2.min(capacity - model.len()));
                            model.extend([step + 100, step + 200].iter().take(went));
                            assert_eq!(items.len(), 2 - went);
                        }
                        2 => assert_eq!(consumer.pop(), model.pop_front()),
                        _ => {
                            let mut out = Vec::new();
                            let count = consumer.pop_batch(&mut out, 2);
                            assert_eq!(count, model.len().min(2));
                            assert_eq!(out, model.drain(..count).collect::<Vec<_>>());
                        }
                    }
                    assert_eq!(consumer.is_empty(), model.is_empty());
                }
            }
        }
    }

    #[test]
    fn items_left_behind_are_dropped_once() {
        let item = std::sync::Arc::new(());
        let (mut producer, mut consumer) = ring(4);
        for _ in 0..3 {
            producer.push(std::sync::Arc::clone(&item)).expect("there is room");
        }
        drop(consumer.pop());
        drop((producer, consumer));
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    #[test]
    fn two_threads_pass_everything_in_order() {
        const COUNT: u32 = if cfg!(miri) { 200 } else { 100_000 };
        let (mut producer, mut consumer) = ring(8);
        let sender = std::thread::spawn(move || {
            let mut waiting = VecDeque::new();
            let mut next = 0;
            while next < COUNT || !waiting.is_empty() {
                while next < COUNT && waiting.len() < 5 {
                    waiting.push_back(next);
                    next += 1;
                }
                if producer.push_batch(&mut waiting) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut got = Vec::new();
        while got.len() < COUNT as usize {
            if consumer.pop_batch(&mut got, 3) == 0 {
                std::thread::yield_now();
            }
        }
        assert!(got.iter().copied().eq(0..COUNT));
        sender.join().expect("the sender ends");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_items_arrive_once_in_order_and_whole() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<Box<u32>>(2);
            let sender = loom::thread::spawn(move || {
                let mut items: std::collections::VecDeque<_> = (0..3).map(Box::new).collect();
                while producer.push_batch(&mut items) == 0 || !items.is_empty() {
                    loom::thread::yield_now();
                }
            });
            let mut got = Vec::new();
            while got.len() < 3 {
                if consumer.pop_batch(&mut got, 2) == 0 {
                    loom::thread::yield_now();
                }
            }
            assert_eq!(got.iter().map(|item| **item).collect::<Vec<_>>(), [0, 1, 2]);
            sender.join().expect("the sender ends");
        });
    }
}

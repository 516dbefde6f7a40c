//! Which tasks of a logical unit may run: SIMPLE, ORDERED and HEAD OF QUEUE (SAM-5, 8).
//!
//! One task set per logical unit for all I_T nexuses (control mode page, TST = 0). A SIMPLE task may
//! run beside others; an ORDERED one waits for every older task and holds back every younger one;
//! a HEAD OF QUEUE task runs at once.

use std::collections::VecDeque;

use crate::slots::Key;

/// How a task wants to be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Beside others.
    Simple,
    /// After everything older, before everything younger.
    Ordered,
    /// At once.
    HeadOfQueue,
}

/// The tasks of one logical unit: how many run, and which wait in order of arrival.
#[derive(Debug, Default)]
pub struct TaskSet {
    running: usize,
    ordered_running: bool,
    waiting: VecDeque<(Key, Order)>,
}

impl TaskSet {
    /// A task arrives; true when it may start now, else it waits and `next` will name it.
    pub fn arrive(&mut self, task: Key, order: Order) -> bool {
        if order == Order::HeadOfQueue || (self.waiting.is_empty() && self.may_start(order)) {
            self.start(order);
            return true;
        }
        self.waiting.push_back((task, order));
        false
    }

    /// A task that ran has ended.
    pub fn finish(&mut self, order: Order) {
        assert!(self.running > 0, "only a running task ends");
        self.running -= 1;
        if order == Order::Ordered {
            self.ordered_running = false;
        }
    }

    /// The next waiting task that may start now; it counts as running from here on.
    pub fn next(&mut self) -> Option<Key> {
        let (task, order) = *self.waiting.front()?;
        if !self.may_start(order) {
            return None;
        }
        self.waiting.pop_front();
        self.start(order);
        Some(task)
    }

    /// Takes a waiting task out; false when it does not wait.
    pub fn withdraw(&mut self, task: Key) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(key, _)| *key != task);
        self.waiting.len() < before
    }

    /// Tasks that run or wait.
    pub fn len(&self) -> usize {
        self.running + self.waiting.len()
    }

    /// True when a task waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True when nothing runs and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn may_start(&self, order: Order) -> bool {
        match order {
            Order::HeadOfQueue => true,
            Order::Simple => !self.ordered_running,
            Order::Ordered => self.running == 0,
        }
    }

    fn start(&mut self, order: Order) {
        self.running += 1;
        if order == Order::Ordered {
            self.ordered_running = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::from_u64(n)
    }

    #[test]
    fn an_ordered_task_is_a_fence() {
        let mut set = TaskSet::default();
        assert!(set.arrive(key(1), Order::Simple));
        assert!(set.arrive(key(2), Order::Simple));
        assert!(!set.arrive(key(3), Order::Ordered));
        assert!(!set.arrive(key(4), Order::Simple));
        assert!(set.arrive(key(5), Order::HeadOfQueue));
        set.finish(Order::Simple);
        set.finish(Order::HeadOfQueue);
        assert_eq!(set.next(), None);
        set.finish(Order::Simple);
        assert_eq!(set.next(), Some(key(3)));
        assert_eq!(set.next(), None);
        set.finish(Order::Ordered);
        assert_eq!(set.next(), Some(key(4)));
        set.finish(Order::Simple);
        assert!(set.is_empty());
    }

    #[test]
    fn a_withdrawn_fence_lets_the_younger_ones_go() {
        let mut set = TaskSet::default();
        assert!(set.arrive(key(1), Order::Simple));
        assert!(!set.arrive(key(2), Order::Ordered));
        assert!(!set.arrive(key(3), Order::Simple));
        assert!(set.withdraw(key(2)));
        assert!(!set.withdraw(key(2)));
        assert_eq!(set.next(), Some(key(3)));
    }
}

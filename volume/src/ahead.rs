//! Which blocks of a device will be written soon, in that order.
//!
//! Commands that were announced may never come (a check fails), and may come by another way. Neither matters: what is kept here only
//! says what to fetch from memory early.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::limits::ANNOUNCED_MAX;

/// A place in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    /// Bytes from the chunk's start.
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The announced places, soonest first.
#[derive(Debug)]
pub(crate) struct Ahead {
    places: RefCell<VecDeque<Place>>,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { places: RefCell::new(VecDeque::with_capacity(ANNOUNCED_MAX)) }
    }

    /// Adds one; the oldest is forgotten when there are too many.
    #[inline]
    pub(crate) fn announce(&self, place: Place) {
        let mut places = self.places.borrow_mut();
        if places.len() == ANNOUNCED_MAX {
            places.pop_front();
        }
        places.push_back(place);
    }

    /// The command for `place` is here: what comes after it.
    #[inline]
    pub(crate) fn after(&self, place: Place) -> Option<Place> {
        let mut places = self.places.borrow_mut();
        if places.front() == Some(&place) {
            places.pop_front();
        } else if let Some(position) = places.iter().position(|announced| *announced == place) {
            places.drain(..=position);
        }
        places.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(chunk: u32) -> Place {
        Place { chunk, offset: 0, length: 4096 }
    }

    #[test]
    fn each_is_followed_by_the_next() {
        let ahead = Ahead::new();
        (0..3).for_each(|chunk| ahead.announce(place(chunk)));
        let after: Vec<_> = (0..3).map(|chunk| ahead.after(place(chunk))).collect();
        assert_eq!(after, [Some(place(1)), Some(place(2)), None]);
    }

    #[test]
    fn those_that_never_come_are_forgotten() {
        let ahead = Ahead::new();
        for chunk in 0..4 {
            ahead.announce(place(chunk));
        }
        assert_eq!(ahead.after(place(2)), Some(place(3)));
        assert_eq!(ahead.after(place(9)), Some(place(3)), "not announced: what waits goes on waiting");
        for chunk in 0..10 * ANNOUNCED_MAX as u32 {
            ahead.announce(place(chunk));
        }
        assert!(ahead.places.borrow().len() <= ANNOUNCED_MAX);
    }
}

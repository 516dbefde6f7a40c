//! Commands that were fetched and are not yet done, by the instant at which they are.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use nvme_spec::Sqe;
use reactor::time::Time;

use crate::fault::{Action, Hang};
use crate::limits::OUTSTANDING_MAX;

/// One command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) due: Time,
    order: u64,
    pub(crate) sqid: u16,
    pub(crate) sqe: Sqe,
    pub(crate) action: Option<Action>,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// What Abort found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aborted {
    /// The command has ended; this is what it was.
    Ended(Flight),
    /// There is no such command, or it does not end.
    Not,
}

pub(crate) struct Flights {
    heap: BinaryHeap<Reverse<Flight>>,
    /// The identifiers in use, by queue.
    busy: BTreeSet<(u16, u16)>,
    order: u64,
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(64), busy: BTreeSet::new(), order: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.heap.len() >= OUTSTANDING_MAX
    }

    pub(crate) fn is_busy(&self, sqid: u16, cid: u16) -> bool {
        self.busy.contains(&(sqid, cid))
    }

    pub(crate) fn add(&mut self, due: Time, sqid: u16, sqe: Sqe, action: Option<Action>) {
        self.order += 1;
        self.busy.insert((sqid, sqe.cid.get()));
        self.heap.push(Reverse(Flight { due, order: self.order, sqid, sqe, action }));
    }

    pub(crate) fn deadline(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |Reverse(first)| first.due)
    }

    /// The next command that is done by now.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Flight> {
        let Reverse(first) = self.heap.peek()?;
        if first.due > now || first.due == Time::NEVER {
            return None;
        }
        let Reverse(flight) = self.heap.pop().expect("it was seen just now");
        self.busy.remove(&(flight.sqid, flight.sqe.cid.get()));
        Some(flight)
    }

    /// How many commands match.
    pub(crate) fn count(&self, matches: impl Fn(&Flight) -> bool) -> usize {
        self.heap.iter().filter(|Reverse(flight)| matches(flight)).count()
    }

    /// Takes all commands that match, the oldest first.
    pub(crate) fn take_all(&mut self, matches: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let all = std::mem::take(&mut self.heap).into_vec();
        let (mut taken, kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|Reverse(flight)| matches(flight));
        self.heap = kept.into();
        taken.sort_by_key(|Reverse(flight)| flight.order);
        let taken: Vec<Flight> = taken.into_iter().map(|Reverse(flight)| flight).collect();
        for flight in &taken {
            self.busy.remove(&(flight.sqid, flight.sqe.cid.get()));
        }
        taken
    }

    /// Tries to end a command.
    pub(crate) fn abort(&mut self, sqid: u16, cid: u16, now: Time) -> Aborted {
        if !self.is_busy(sqid, cid) {
            return Aborted::Not;
        }
        let is_it = |flight: &Flight| flight.sqid == sqid && flight.sqe.cid.get() == cid;
        let found = self.take_all(is_it).pop().expect("a busy identifier has its command");
        match found.action {
            Some(Action::Hang(Hang::UntilReset)) => self.put_back(found, Time::NEVER),
            Some(Action::Hang(Hang::LateAfterAbort(late))) => {
                let late = if late == Duration::MAX { Time::NEVER } else { now.after(late) };
                self.put_back(Flight { action: None, ..found }, late);
            }
            _ => return Aborted::Ended(found),
        }
        Aborted::Not
    }

    fn put_back(&mut self, flight: Flight, due: Time) {
        self.busy.insert((flight.sqid, flight.sqe.cid.get()));
        self.heap.push(Reverse(Flight { due, ..flight }));
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.busy.clear();
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::Sqe;
    use zerocopy::little_endian::U16;

    use super::*;

    fn sqe(cid: u16) -> Sqe {
        Sqe { cid: U16::new(cid), ..Sqe::default() }
    }

    #[test]
    fn commands_come_back_in_the_order_of_their_time() {
        let mut flights = Flights::new();
        for (cid, due) in [(1, 30), (2, 10), (3, 10), (4, u64::MAX)] {
            flights.add(Time::from_ns(due), 1, sqe(cid), None);
        }
        assert!(flights.is_busy(1, 4) && !flights.is_busy(2, 4));
        assert_eq!(flights.deadline(), Time::from_ns(10));
        let mut order = Vec::new();
        while let Some(flight) = flights.take_due(Time::NEVER) {
            order.push(flight.sqe.cid.get());
        }
        assert_eq!((order, flights.len()), (vec![2, 3, 1], 1));
    }

    #[test]
    fn abort_does_what_the_hang_says() {
        let mut flights = Flights::new();
        let hang = |hang| Some(Action::Hang(hang));
        let late = Duration::from_nanos(5);
        flights.add(Time::NEVER, 1, sqe(1), hang(Hang::UntilAborted));
        flights.add(Time::NEVER, 1, sqe(2), hang(Hang::UntilReset));
        flights.add(Time::NEVER, 1, sqe(3), hang(Hang::LateAfterAbort(late)));
        let now = Time::from_ns(100);
        assert!(matches!(flights.abort(1, 9, now), Aborted::Not));
        assert!(matches!(flights.abort(2, 1, now), Aborted::Not));
        assert!(matches!(flights.abort(1, 1, now), Aborted::Ended(flight) if flight.sqe.cid.get() == 1));
        assert!(matches!(flights.abort(1, 2, now), Aborted::Not));
        assert!(matches!(flights.abort(1, 3, now), Aborted::Not));
        assert!(!flights.is_busy(1, 1) && flights.is_busy(1, 2) && flights.is_busy(1, 3));
        assert!(flights.take_due(Time::from_ns(104)).is_none());
        assert_eq!(flights.take_due(Time::from_ns(105)).map(|flight| flight.sqe.cid.get()), Some(3));
        assert_eq!(flights.take_all(|flight| flight.sqid == 1).len(), 1);
        assert!(flights.is_empty());
    }
}

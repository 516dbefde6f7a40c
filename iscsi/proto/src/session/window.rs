//! The command window: which CmdSN is next, which may come, and what came early (RFC 7143 section 4.2.2.1).
//!
//! Commands of all connections of the session meet here. One that is ahead of a hole waits in a ring, indexed by its
//! number; the ring is as large as the window, so nothing that was accepted can fail to fit.
//! Numbers are compared as in RFC 1982: only differences count.

use super::limits::WINDOW_COMMANDS_MAX;

/// The window of one session; `T` is what waits in it.
#[derive(Debug)]
pub(crate) struct CommandWindow<T> {
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// Entries at `cmd_sn & mask`; filled only for numbers within the window.
    early: Box<[Option<Entry<T>>]>,
    /// Credits of finished commands that are kept back while memory is short.
    withheld: u32,
    withholding: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry<T> {
    Arrived(T),
    /// Considered received because it was aborted before it came.
    Plugged,
}

impl<T: Copy> CommandWindow<T> {
    /// A window that is open for `size` commands from `cmd_sn` on.
    pub(crate) fn new(cmd_sn: u32, size: u32) -> Self {
        assert!((1..=WINDOW_COMMANDS_MAX).contains(&size), "the configuration was checked");
        let early = vec![None; size.next_power_of_two() as usize].into_boxed_slice();
        let max_cmd_sn = cmd_sn.wrapping_add(size - 1);
        Self { exp_cmd_sn: cmd_sn, max_cmd_sn, early, withheld: 0, withholding: false }
    }

    /// The number of the next command in order.
    #[inline]
    pub(crate) const fn exp_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
    }

    /// The last number that may be used; `exp_cmd_sn - 1` while the window is closed.
    #[inline]
    pub(crate) const fn max_cmd_sn(&self) -> u32 {
        self.max_cmd_sn
    }

    /// How many numbers the window is open for.
    #[inline]
    pub(crate) const fn open_for(&self) -> u32 {
        self.max_cmd_sn.wrapping_add(1).wrapping_sub(self.exp_cmd_sn)
    }

    #[inline]
    fn index(&self, cmd_sn: u32) -> usize {
        cmd_sn as usize & (self.early.len() - 1)
    }

    /// True when `cmd_sn` lies in the window, received or not.
    #[inline]
    pub(crate) const fn contains(&self, cmd_sn: u32) -> bool {
        cmd_sn.wrapping_sub(self.exp_cmd_sn) < self.open_for()
    }

    /// True when a command with this number would be taken: inside the window and not there yet.
    #[inline]
    pub(crate) fn accepts(&self, cmd_sn: u32) -> bool {
        self.contains(cmd_sn) && self.early[self.index(cmd_sn)].is_none()
    }

    /// Takes a command for which [`CommandWindow::accepts`] holds.
    #[inline]
    pub(crate) fn admit(&mut self, cmd_sn: u32, what: T) {
        assert!(self.accepts(cmd_sn), "the caller asked before");
        let index = self.index(cmd_sn);
        self.early[index] = Some(Entry::Arrived(what));
    }

    /// Considers a number received whose command was aborted before it came. False when it is there already.
    pub(crate) fn plug(&mut self, cmd_sn: u32) -> bool {
        let free = self.accepts(cmd_sn);
        if free {
            let index = self.index(cmd_sn);
            self.early[index] = Some(Entry::Plugged);
        }
        free
    }

    /// The next command in order, if it is there.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        loop {
            let index = self.index(self.exp_cmd_sn);
            let entry = self.early[index].take()?;
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            match entry {
                Entry::Arrived(what) => return Some(what),
                // Nobody works on it, so its place is free again at once.
                Entry::Plugged => self.credit(),
            }
        }
    }

    /// A command that was taken out is done: the initiator may send one more.
    #[inline]
    pub(crate) fn credit(&mut self) {
        if self.withholding {
            self.withheld += 1;
        } else {
            self.max_cmd_sn = self.max_cmd_sn.wrapping_add(1);
        }
        debug_assert!(self.open_for() as usize <= self.early.len());
    }

    /// While memory is short, the window closes as commands come. True when this reopened it.
    pub(crate) fn withhold(&mut self, short_of_memory: bool) -> bool {
        self.withholding = short_of_memory;
        if short_of_memory || self.withheld == 0 {
            return false;
        }
        let was_closed = self.open_for() == 0;
        self.max_cmd_sn = self.max_cmd_sn.wrapping_add(self.withheld);
        self.withheld = 0;
        was_closed
    }
}

/// True when `number` comes before `other` in serial arithmetic.
#[inline]
pub(crate) const fn serial_before(number: u32, other: u32) -> bool {
    number != other && other.wrapping_sub(number) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes out now.
    fn drain(window: &mut CommandWindow<u32>) -> Vec<u32> {
        std::iter::from_fn(|| window.pop()).collect()
    }

    #[test]
    fn serial_comparison_wraps() {
        assert!(serial_before(u32::MAX, 0));
        assert!(serial_before(0, 1));
        assert!(!serial_before(1, 1));
        assert!(!serial_before(0, u32::MAX));
        assert!(serial_before(0, (1 << 31) - 1));
    }

    #[test]
    fn in_order_commands_pass_straight_through_the_wrap() {
        let mut window = CommandWindow::new(u32::MAX - 1, 3);
        for cmd_sn in [u32::MAX - 1, u32::MAX, 0, 1, 2] {
            window.admit(cmd_sn, cmd_sn);
            assert_eq!(window.pop(), Some(cmd_sn));
            window.credit();
        }
        assert_eq!((window.exp_cmd_sn(), window.max_cmd_sn()), (3, 5));
    }

    #[test]
    fn the_window_closes_when_full_and_opens_with_credit() {
        let mut window = CommandWindow::new(7, 2);
        for cmd_sn in [7, 8] {
            window.admit(cmd_sn, cmd_sn);
        }
        assert_eq!(drain(&mut window), [7, 8]);
        assert_eq!(window.open_for(), 0);
        assert_eq!(window.max_cmd_sn(), window.exp_cmd_sn() - 1, "closed is MaxCmdSN = ExpCmdSN - 1");
        assert!(!window.accepts(9));
        window.credit();
        assert!(window.accepts(9) && !window.accepts(10));
    }

    #[test]
    fn outside_and_duplicates_are_not_accepted() {
        let mut window = CommandWindow::new(100, 4);
        for cmd_sn in [99, 104, 100u32.wrapping_add(1 << 31), u32::MAX, 0] {
            assert!(!window.accepts(cmd_sn), "{cmd_sn}");
        }
        window.admit(102, 102);
        assert!(!window.accepts(102));
        assert_eq!(window.pop(), None);
        window.admit(100, 100);
        window.admit(101, 101);
        assert_eq!(drain(&mut window), [100, 101, 102]);
        assert!(!window.accepts(101), "received long ago");
    }

    #[test]
    fn every_arrival_order_of_five_gives_the_same_order() {
        let mut order = [0u32, 1, 2, 3, 4];
        let mut checked = 0;
        permutations(&mut order, 0, &mut |order| {
            let first = u32::MAX - 1;
            let mut window = CommandWindow::new(first, 5);
            let mut out = Vec::new();
            for &n in order {
                window.admit(first.wrapping_add(n), n);
                out.extend(drain(&mut window));
            }
            assert_eq!(out, [0, 1, 2, 3, 4]);
            checked += 1;
        });
        assert_eq!(checked, 120);
    }

    fn permutations(items: &mut [u32], from: usize, check: &mut dyn FnMut(&[u32])) {
        if from == items.len() {
            return check(items);
        }
        for other in from..items.len() {
            items.swap(from, other);
            permutations(items, from + 1, check);
            items.swap(from, other);
        }
    }

    #[test]
    fn a_plugged_hole_lets_the_rest_through() {
        let mut window = CommandWindow::new(1, 4);
        window.admit(2, 2);
        assert!(window.plug(1));
        assert!(!window.plug(2) && !window.plug(9));
        assert_eq!(drain(&mut window), [2]);
        assert_eq!(window.open_for(), 3, "the plugged number gave its place back");
        assert!(!window.accepts(1), "the command itself is a duplicate when it comes");
    }

    #[test]
    fn short_memory_keeps_credits_back() {
        let mut window = CommandWindow::new(0, 1);
        window.admit(0, 0);
        assert_eq!(window.pop(), Some(0));
        assert!(!window.withhold(true));
        window.credit();
        assert_eq!(window.open_for(), 0);
        assert!(window.withhold(false), "that reopened it");
        assert_eq!(window.open_for(), 1);
    }

    #[test]
    fn the_largest_window_fits_its_ring() {
        let mut window = CommandWindow::new(u32::MAX - 3, WINDOW_COMMANDS_MAX);
        for n in (0..WINDOW_COMMANDS_MAX).rev() {
            window.admit((u32::MAX - 3).wrapping_add(n), n);
        }
        assert_eq!(drain(&mut window).len(), WINDOW_COMMANDS_MAX as usize);
    }
}

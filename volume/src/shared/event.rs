//! What a port hears, and how it learns that there is something to hear.

use std::cell::RefCell;
use std::rc::Rc;

use super::change::Changed;
use crate::reservation::Outcome;

/// Names one change whose aborts are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// One thing that a port hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The end of this port's own change that was [`super::Changing::Pending`]. `None`: it could not be made
    /// durable, and nothing has changed.
    ReservationsChanged(Option<Changed>),
    /// Somebody on another port changed the reservations. Not told when it concerns nobody: the epoch says enough.
    ReservationsChangedElsewhere {
        /// Who lost what: unit attentions, reservation log pages.
        outcome: Rc<Outcome>,
        /// End the tasks of [`Outcome::abort_tasks_of`] on this port, then give this back by
        /// [`super::Port::aborted`].
        abort: Option<Ticket>,
    },
    /// Every other port has ended the tasks that this port's change aborted.
    AbortsDone(Ticket),
    /// The volume has grown; [`super::Port::info`] says how far.
    Resized,
    /// The device under the volume had been pulled out and is there again.
    Returned,
}

#[derive(Debug, Default)]
struct Rung {
    tokens: Vec<u32>,
    /// One bit per token: it is in `tokens`.
    present: Vec<u64>,
}

/// Where the ports of one front end announce that they have completions or events. The tokens are the front end's own
/// small numbers, such as slot indexes; one that it no longer knows means nothing.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<RefCell<Rung>>);

impl Bell {
    /// The next port to look at.
    pub fn take(&self) -> Option<u32> {
        let mut rung = self.0.borrow_mut();
        let token = rung.tokens.pop()?;
        rung.present[token as usize / 64] &= !(1 << (token % 64));
        Some(token)
    }

    /// True when no port has anything: the core may sleep.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().tokens.is_empty()
    }

    pub(super) fn ring(&self, token: u32) {
        let mut rung = self.0.borrow_mut();
        let (word, bit) = (token as usize / 64, 1 << (token % 64));
        if rung.present.len() <= word {
            rung.present.resize(word + 1, 0);
        }
        if rung.present[word] & bit == 0 {
            rung.present[word] |= bit;
            rung.tokens.push(token);
        }
    }
}

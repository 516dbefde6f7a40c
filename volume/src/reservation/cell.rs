//! The reservations in force, as everybody on the volume's core sees them.

use std::cell::{Cell, Ref, RefCell};

use super::state::{Access, Path, Reservations};

/// The state in force with its epoch: whoever keeps an [`Access`] compares epochs before using it, so a
/// change is obeyed by the next command of every protocol, in the same turn.
#[derive(Debug, Default)]
pub struct ReservationCell {
    state: RefCell<Reservations>,
    /// Who has the whole unit by RESERVE(6) of SPC-2; ends with its session, is never stored.
    exclusive: RefCell<Option<Path>>,
    epoch: Cell<u64>,
}

impl ReservationCell {
    /// The state of a volume that is opened.
    pub fn new(state: Reservations) -> Self {
        Self { state: RefCell::new(state), ..Self::default() }
    }

    /// The persistent reservations. Not to be held over a call that may change them.
    pub fn read(&self) -> Ref<'_, Reservations> {
        self.state.borrow()
    }

    /// Raised with each change.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// What `path` may do now, the exclusive holder considered.
    pub fn access(&self, path: &Path) -> Access {
        let access = self.state.borrow().access(path);
        if self.is_exclusive_of_other(path) { Access { read: false, write: false, ..access } } else { access }
    }

    /// True when somebody else has the unit by RESERVE(6).
    pub fn is_exclusive_of_other(&self, path: &Path) -> bool {
        self.exclusive.borrow().as_ref().is_some_and(|holder| holder != path)
    }

    /// Puts a state in force.
    pub fn replace(&self, next: Reservations) {
        *self.state.borrow_mut() = next;
        self.epoch.set(self.epoch.get() + 1);
    }

    /// Gives the whole unit to one path, or to nobody.
    pub fn set_exclusive(&self, holder: Option<Path>) {
        *self.exclusive.borrow_mut() = holder;
        self.epoch.set(self.epoch.get() + 1);
    }
}

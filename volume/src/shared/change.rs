//! Reservation changes: one at a time, durable before they are in force, aborts of other ports waited for.
//!
//! ```text
//! change_reservations ─▶ Refused | Busy
//!        │ same durable form ──────────────────────────▶ in force ─▶ Now
//!        └─▶ Pending ─ store ─▶ durable ─▶ in force ─▶ Event::ReservationsChanged
//!                       └─▶ failed ─▶ Event::ReservationsChanged(None)
//! in force with aborts: a ticket to every other port ─▶ all returned ─▶ Event::AbortsDone
//! ```

use std::rc::Rc;

use super::event::{Event, Ticket};
use super::limits::TICKETS_PER_VOLUME_MAX;
use super::port::Port;
use super::state::{Shared, State};
use crate::reservation::{Change, Outcome, Path, Refused, Reservations};

/// A change that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whom it concerns. Their tasks on the asking port are the asker's to end.
    pub outcome: Rc<Outcome>,
    /// Other ports are ending tasks for it: [`Event::AbortsDone`] with this ticket follows.
    pub aborting: Option<Ticket>,
}

/// What became of a request for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changing {
    /// In force already.
    Now(Changed),
    /// Being made durable: [`Event::ReservationsChanged`] follows.
    Pending,
    /// Another change is under way; ask again at a later turn.
    Busy,
    /// Not allowed.
    Refused(Refused),
}

/// A change that is being made durable.
pub(super) struct InProgress {
    by: u8,
    next: Reservations,
    outcome: Outcome,
}

/// A change in force whose aborts are under way.
pub(super) struct Waiting {
    ticket: Ticket,
    by: u8,
    /// Ports that have not returned it.
    ports: Vec<u8>,
}

impl Port {
    /// Asks for a change in the name of `path`.
    pub fn change_reservations(&self, path: &Path, change: &Change) -> Changing {
        let mut state = self.shared.state.borrow_mut();
        if state.frozen {
            return Changing::Busy;
        }
        let full = state.waiting.len() >= TICKETS_PER_VOLUME_MAX || !state.has_room_for_events(self.id);
        if state.change.is_some() || full || state.closing.is_closing() {
            return Changing::Busy;
        }
        if self.shared.reservations.is_exclusive_of_other(path) {
            return Changing::Refused(Refused::Conflict);
        }
        let current = self.shared.reservations.read();
        let (next, outcome) = match current.apply(path, change) {
            Ok(applied) => applied,
            Err(refused) => return Changing::Refused(refused),
        };
        let durable = next.encode();
        let stored = durable == current.encode();
        drop(current);
        let change = InProgress { by: self.id, next, outcome };
        if stored {
            return Changing::Now(self.shared.put_in_force(&mut state, change));
        }
        state.metadata.submit(0, durable);
        state.change = Some(change);
        drop(state);
        self.shared.list();
        Changing::Pending
    }
}

impl Shared {
    /// Asks the store; true when a change has ended.
    pub(super) fn poll_change(&self, done: &mut Vec<crate::metadata::MetadataDone>) -> bool {
        let mut state = self.state.borrow_mut();
        if state.change.is_none() {
            return false;
        }
        state.metadata.poll(done);
        let Some(ended) = done.pop() else { return false };
        assert!(done.is_empty(), "one change at a time");
        let change = state.change.take().expect("looked up above");
        let by = change.by;
        let changed = ended.result.is_ok().then(|| self.put_in_force(&mut state, change));
        let port = state.port(by);
        if port.open {
            port.tell(Event::ReservationsChanged(changed));
        }
        true
    }

    fn put_in_force(&self, state: &mut State, change: InProgress) -> Changed {
        let InProgress { by, next, outcome } = change;
        self.reservations.replace(next);
        let outcome = Rc::new(outcome);
        if outcome.is_empty() {
            return Changed { outcome, aborting: None };
        }
        let others: Vec<u8> =
            (0..).zip(&state.ports).filter(|(id, port)| *id != by && port.open).map(|(id, _)| id).collect();
        let aborts = !outcome.abort_tasks_of.is_empty() && !others.is_empty();
        let abort = aborts.then_some(Ticket(state.next_ticket));
        for &id in &others {
            let outcome = Rc::clone(&outcome);
            state.port(id).tell(Event::ReservationsChangedElsewhere { outcome, abort });
        }
        if let Some(ticket) = abort {
            state.next_ticket += 1;
            state.waiting.push(Waiting { ticket, by, ports: others });
        }
        Changed { outcome, aborting: abort }
    }
}

impl State {
    /// A port has ended the tasks of a ticket.
    pub(super) fn returned(&mut self, ticket: Ticket, id: u8) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else { return };
        let waiting = &mut self.waiting[at];
        waiting.ports.retain(|port| *port != id);
        if waiting.ports.is_empty() {
            let by = self.waiting.swap_remove(at).by;
            let port = self.port(by);
            if port.open {
                port.tell(Event::AbortsDone(ticket));
            }
        }
    }

    /// A port goes: nobody waits for it, and it waits for nobody. (Its I/O in flight was the front end's to await
    /// before; a front end that drops a port with tasks in it ends with its process.)
    pub(super) fn forget(&mut self, id: u8) {
        let tickets: Vec<Ticket> = self.waiting.iter().map(|waiting| waiting.ticket).collect();
        for ticket in tickets {
            self.returned(ticket, id);
        }
        self.waiting.retain(|waiting| waiting.by != id);
    }
}

//! A front end's way into a volume.

use std::cell::Ref;
use std::rc::Rc;

use reactor::buffer::Sgl;

use super::event::{Event, Ticket};
use super::limits::EVENTS_PER_PORT_MAX;
use super::registry::SharedVolume;
use super::state::{Shared, tag_of};
use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::reservation::{Access, Path, ReservationCell, Reservations};

/// One front end's way in: an iSCSI logical unit, an NVMe namespace. Dropped when it is not needed any more; what is
/// then still in flight ends by itself and is thrown away.
pub struct Port {
    pub(super) shared: Rc<Shared>,
    pub(super) id: u8,
}

impl Port {
    /// The volume.
    pub fn volume(&self) -> SharedVolume {
        SharedVolume::over(&self.shared)
    }

    /// Starts an I/O as [`crate::volume::Volume`] does. Its tag is this port's own, below 2^56; an answer on the spot is
    /// returned, any other comes by [`Port::poll`].
    #[inline]
    pub fn submit(&self, io: Io) -> Option<Done> {
        let Io { tag, op, sgl } = io;
        let mut state = self.shared.state.borrow_mut();
        if op == Op::Flush && state.owes_failure(self.id) {
            return Some(Done { tag, status: IoStatus::WriteError { lba: 0 }, sgl });
        }
        match state.volume.submit(Io { tag: tag_of(self.id, tag), op, sgl }) {
            Some(done) => Some(Done { tag, ..done }),
            None => {
                state.port(self.id).in_flight += 1;
                None
            }
        }
    }

    /// The blocks where they lie, as [`IoChannel::show`]: instead of a read, when the volume can.
    #[inline]
    pub fn show(&self, extent: Extent) -> Option<Sgl> {
        self.shared.state.borrow_mut().volume.show(extent)
    }

    /// The CRC-32C of the blocks as they are now, as [`IoChannel::crc32c`]: that of what a read has just brought when it was answered on
    /// the spot.
    #[inline]
    pub fn crc32c(&self, extent: Extent) -> Option<u32> {
        self.shared.state.borrow().volume.crc32c(extent)
    }

    /// A hint that this I/O comes in this turn, as [`IoChannel::prefetch`].
    #[inline]
    pub fn prefetch(&self, op: Op) {
        self.shared.state.borrow().volume.prefetch(op);
    }

    /// Appends this port's I/Os that have ended. What belongs to other ports is kept for them and rings their bell.
    pub fn poll(&self, out: &mut Vec<Done>, budget: usize) {
        let mut state = self.shared.state.borrow_mut();
        out.extend(state.port(self.id).done.drain(..));
        state.poll_volume(self.id, out, budget);
    }

    /// Takes back an I/O that has had no effect yet, as [`crate::volume::Volume::abort`]: if true, `poll` gives it back
    /// as aborted; if false, it ends by itself.
    pub fn abort(&self, tag: u64) -> bool {
        self.shared.state.borrow_mut().volume.abort(tag_of(self.id, tag))
    }

    /// This port's I/Os that were submitted and not given back.
    pub fn in_flight(&self) -> usize {
        let mut state = self.shared.state.borrow_mut();
        let port = state.port(self.id);
        port.in_flight + port.done.len()
    }

    /// True while the port has to be polled, or has events.
    pub fn has_work(&self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let port = state.port(self.id);
        port.in_flight > 0 || !port.done.is_empty() || !port.events.is_empty()
    }

    /// What the volume is now.
    pub fn info(&self) -> BdevInfo {
        self.shared.state.borrow().volume.info()
    }

    /// The next thing to hear.
    pub fn next_event(&self) -> Option<Event> {
        self.shared.state.borrow_mut().port(self.id).events.pop_front()
    }

    /// The persistent reservations in force. Not to be held over [`Port::change_reservations`].
    pub fn reservations(&self) -> Ref<'_, Reservations> {
        self.shared.reservations.read()
    }

    /// The same for a device server that keeps a handle.
    pub fn reservation_cell(&self) -> Rc<ReservationCell> {
        Rc::clone(&self.shared.reservations)
    }

    /// What `path` may do now.
    pub fn access(&self, path: &Path) -> Access {
        self.shared.reservations.access(path)
    }

    /// Raised with each change of what any path may do.
    #[inline]
    pub fn reservation_epoch(&self) -> u64 {
        self.shared.reservations.epoch()
    }

    /// The tasks that `ticket` named have ended on this port, their I/O included.
    pub fn aborted(&self, ticket: Ticket) {
        self.shared.state.borrow_mut().returned(ticket, self.id);
    }

    /// From now on no other port can be opened, until [`Port::let_others_in`]. False, and nothing changed, while there is
    /// another one.
    pub fn keep_others_out(&self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let mut others = state.ports.iter().enumerate().filter(|(id, _)| *id != usize::from(self.id));
        if others.any(|(_, port)| port.open) {
            return false;
        }
        state.alone = Some(self.id);
        true
    }

    /// Ends what [`Port::keep_others_out`] began.
    pub fn let_others_in(&self) {
        let mut state = self.shared.state.borrow_mut();
        if state.alone == Some(self.id) {
            state.alone = None;
        }
    }

    /// Says whether the front end still serves the volume. False: it only ends what it has begun, and the volume may
    /// be removed meanwhile. Returns false when it is too late to serve again: the volume is being closed.
    pub fn set_in_use(&self, in_use: bool) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let allowed = !in_use || !state.closing.is_closing();
        if allowed {
            state.port(self.id).in_use = in_use;
        }
        allowed
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.let_others_in();
        let mut state = self.shared.state.borrow_mut();
        state.forget(self.id);
        let port = state.port(self.id);
        port.open = false;
        port.done.clear();
        port.events = std::collections::VecDeque::new();
        if state.closing.is_closing() {
            drop(state);
            self.shared.list();
        }
    }
}

impl super::state::State {
    /// True when every port but `except` has room for another event.
    pub(super) fn has_room_for_events(&self, except: u8) -> bool {
        let mut others = self.ports.iter().enumerate().filter(|(id, _)| *id != usize::from(except));
        others.all(|(_, port)| port.events.len() < EVENTS_PER_PORT_MAX / 2)
    }
}

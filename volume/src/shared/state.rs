//! What there is of one shared volume, and how answers find the port that asked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use reactor::stats::StatsSet;

use super::change::{InProgress, Waiting};
use super::closing::Closing;
use super::event::{Bell, Event};
use super::limits::{OWN_PORT, PORTS_PER_VOLUME_MAX, TAG_BITS};
use super::registry::RegistryState;
use crate::bdev::{Done, IoChannel, IoStatus};
use crate::metadata::MetadataStore;
use crate::reservation::ReservationCell;
use crate::volume::Volume;

/// The part of a volume's tag that is the port's own.
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// One volume. Handles point here; the registry holds it until it is closed.
pub(super) struct Shared {
    pub name: String,
    pub serial: String,
    pub stats: Arc<StatsSet>,
    pub reservations: Rc<ReservationCell>,
    pub state: RefCell<State>,
    pub registry: Weak<RegistryState>,
    /// It is in the registry's list of volumes with something to do.
    pub listed: Cell<bool>,
}

/// What changes.
pub(super) struct State {
    pub volume: Volume,
    pub ports: Vec<PortState>,
    pub metadata: Box<dyn MetadataStore>,
    /// The reservation change that is being made durable.
    pub change: Option<InProgress>,
    /// Changes that wait for the aborts of other ports.
    pub waiting: Vec<Waiting>,
    pub next_ticket: u64,
    pub closing: Closing,
    /// The port that keeps others out.
    pub alone: Option<u8>,
    /// Reservations do not change: their store is being moved.
    pub frozen: bool,
    /// The device was pulled out.
    pub lost: bool,
    /// How often a device was lost that had not written out everything that was acknowledged.
    pub losses: u32,
    polled: Vec<Done>,
}

/// One port. A slot is used again when its port is gone and its last I/O is home.
pub(super) struct PortState {
    /// False once the handle was dropped: what still comes home is thrown away.
    pub open: bool,
    /// False: the front end is leaving and the volume may be closed after it.
    pub in_use: bool,
    /// I/Os with the volume.
    pub in_flight: usize,
    pub done: VecDeque<Done>,
    pub events: VecDeque<Event>,
    /// Of the losses of the volume, those that a flush of this port has failed for.
    pub losses_told: u32,
    bell: Bell,
    token: u32,
}

impl PortState {
    pub fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        self.bell.ring(self.token);
    }
}

/// The number under which the volume knows an I/O of a port.
#[inline]
pub(super) fn tag_of(port: u8, tag: u64) -> u64 {
    assert!(tag <= TAG_MASK, "the tags of a front end are below 2^56");
    u64::from(port) << TAG_BITS | tag
}

impl State {
    pub fn new(volume: Volume, metadata: Box<dyn MetadataStore>) -> Self {
        Self {
            volume,
            ports: Vec::new(),
            metadata,
            change: None,
            waiting: Vec::new(),
            next_ticket: 0,
            closing: Closing::No,
            alone: None,
            frozen: false,
            lost: false,
            losses: 0,
            polled: Vec::new(),
        }
    }

    /// A slot for a port; `None` when there are too many or the volume is being closed.
    pub fn add_port(&mut self, bell: &Bell, token: u32) -> Option<u8> {
        if !matches!(self.closing, Closing::No) || self.alone.is_some() {
            return None;
        }
        let port = PortState {
            open: true,
            in_use: true,
            in_flight: 0,
            done: VecDeque::new(),
            events: VecDeque::new(),
            losses_told: self.losses,
            bell: bell.clone(),
            token,
        };
        let free = self.ports.iter().position(|port| !port.open && port.in_flight == 0);
        let id = match free {
            Some(id) => {
                self.ports[id] = port;
                id
            }
            None if self.ports.len() < PORTS_PER_VOLUME_MAX => {
                self.ports.push(port);
                self.ports.len() - 1
            }
            None => return None,
        };
        Some(u8::try_from(id).expect("fewer ports than a byte counts"))
    }

    /// The port of a live handle.
    #[inline]
    pub fn port(&mut self, id: u8) -> &mut PortState {
        &mut self.ports[usize::from(id)]
    }

    /// Asks the volume what has ended. Answers to `port` go to `out`, the others to those that asked.
    pub fn poll_volume(&mut self, port: u8, out: &mut Vec<Done>, budget: usize) {
        let Self { volume, ports, polled, closing, .. } = self;
        volume.poll(polled, budget);
        for mut done in polled.drain(..) {
            let owner = (done.tag >> TAG_BITS) as u8;
            done.tag &= TAG_MASK;
            if owner == OWN_PORT {
                closing.on_flushed(done.status);
                continue;
            }
            let entry = &mut ports[usize::from(owner)];
            entry.in_flight -= 1;
            if owner == port {
                out.push(done);
            } else if entry.open {
                entry.done.push_back(done);
                entry.bell.ring(entry.token);
            }
        }
    }

    /// True when neither the volume nor the store of its reservations has anything under way.
    pub fn is_idle(&self) -> bool {
        self.volume.is_drained() && self.change.is_none()
    }

    /// True while a handle is there.
    pub fn has_ports(&self) -> bool {
        self.ports.iter().any(|port| port.open)
    }
}

impl Shared {
    /// Has the registry look at this volume at its next poll.
    pub fn list(self: &Rc<Self>) {
        let Some(registry) = self.registry.upgrade() else { return };
        registry.woken.set(true);
        if !self.listed.replace(true) {
            registry.listed.borrow_mut().push(Rc::clone(self));
        }
    }
}

impl Closing {
    fn on_flushed(&mut self, _: IoStatus) {
        // A failed flush was counted by the back end; there is nobody to tell.
        if let Self::Flushing(answer) = std::mem::replace(self, Self::No) {
            *self = Self::Flushed(answer);
        }
    }
}

//! A volume whose device was pulled out, and the same volume when the device is there again.
//!
//! ```text
//! serving ──lose: the last I/O is home──▶ lost: everything ends as Gone ──restore──▶ serving
//!                                           the device is not held any more
//! ```
//!
//! Ports, reservations and the order of overlapping I/O stay, so a host that asks again after the return goes on where it was.
//! What a volatile cache lost with its power is not passed over: when writes had been acknowledged that no flush covered, the
//! next flush of every port fails, once, as a failed write-back does.

use super::event::Event;
use super::registry::{Registry, SharedVolume};
use super::state::State;
use super::{VolumeError, limits::OWN_PORT};
use crate::bdev::{BdevInfo, Done, Io, IoChannel, IoStatus};
use crate::metadata::{MetadataDone, MetadataStore};

/// Linux's number for "no such device", which is what the answers of a store carry.
const ENODEV: i32 = 19;

/// What stands in for a device that is not there.
pub(super) struct Gone(pub(super) BdevInfo);

impl IoChannel for Gone {
    fn info(&self) -> BdevInfo {
        self.0
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        Some(Done { tag: io.tag, status: IoStatus::Gone, sgl: io.sgl })
    }

    fn poll(&mut self, _: &mut Vec<Done>, _: usize) {}

    fn in_flight(&self) -> usize {
        0
    }

    fn has_unflushed(&self) -> bool {
        false
    }

    fn answers_compare(&self) -> bool {
        true
    }
}

/// What stands in for its store: no reservation changes while nothing can be made durable.
#[derive(Default)]
struct GoneStore(Vec<u64>);

impl MetadataStore for GoneStore {
    fn submit(&mut self, tag: u64, _: Vec<u8>) {
        self.0.push(tag);
    }

    fn poll(&mut self, out: &mut Vec<MetadataDone>) {
        out.extend(self.0.drain(..).map(|tag| MetadataDone { tag, result: Err(ENODEV) }));
    }

    fn in_flight(&self) -> usize {
        self.0.len()
    }
}

impl Registry {
    /// The device under a volume was pulled out: lets go of it. False while the volume's last I/O, which the device has ended,
    /// is not home; ask again at the next turn. A volume that is not here, or is another one, holds nothing.
    pub fn lose(&self, name: &str, uuid: uuid::Uuid) -> bool {
        let Ok(volume) = self.get(name) else { return true };
        let shared = volume.shared();
        shared.poll_change(&mut Vec::new());
        let mut state = shared.state.borrow_mut();
        if state.lost || state.volume.info().uuid != uuid {
            return true;
        }
        state.poll_volume(OWN_PORT, &mut Vec::new(), usize::MAX);
        if !state.is_idle() {
            return false;
        }
        state.lose();
        true
    }

    /// True for a volume whose device was pulled out and is not there again.
    pub fn is_lost(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|volume| volume.is_lost())
    }

    /// The device is there again, and is the one that it was: goes on with it.
    pub fn restore(
        &self,
        name: &str,
        channel: Box<dyn IoChannel>,
        metadata: Box<dyn MetadataStore>,
    ) -> Result<(), VolumeError> {
        let volume = self.get(name)?;
        let mut state = volume.shared().state.borrow_mut();
        let (before, now) = (state.volume.info(), channel.info());
        // A longer device may carry a longer volume; whoever asked for more blocks has not been told of them yet.
        let promises_less = BdevInfo { length_blocks: before.length_blocks, ..now } != before
            || now.length_blocks < before.length_blocks;
        if !state.lost || promises_less {
            return Err(VolumeError::NotTheSame { name: name.into() });
        }
        state.volume.replace(channel);
        state.metadata = metadata;
        (state.lost, state.frozen) = (false, false);
        let unaware =
            |port: &&mut super::state::PortState| port.open && !port.events.contains(&Event::Returned);
        state.ports.iter_mut().filter(unaware).for_each(|port| port.tell(Event::Returned));
        Ok(())
    }
}

impl SharedVolume {
    /// True while the device under it is not there.
    pub fn is_lost(&self) -> bool {
        self.shared().state.borrow().lost
    }
}

impl State {
    fn lose(&mut self) {
        let info = self.volume.info();
        let device = self.volume.replace(Box::new(Gone(info)));
        if device.has_unflushed() {
            self.losses += 1;
        }
        self.metadata = Box::<GoneStore>::default();
        self.lost = true;
    }

    /// True once for each port after writes were lost: its next flush must not say that all is well.
    #[cold]
    pub(super) fn owes_failure(&mut self, id: u8) -> bool {
        let losses = self.losses;
        // While the device is away every flush fails by itself, and tells nothing of what it has lost.
        !self.lost && std::mem::replace(&mut self.port(id).losses_told, losses) != losses
    }
}

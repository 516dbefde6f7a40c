//! The open volumes of one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use reactor::core::Core;
use reactor::poller::Progress;
use reactor::stats::StatsSet;

use super::error::VolumeError;
use super::event::{Bell, Event};
use super::limits::VOLUMES_PER_CORE_MAX;
use super::message::Answer;
use super::port::Port;
use super::setup::VolumeSetup;
use super::state::{Shared, State};
use crate::bdev::{BdevInfo, IoChannel};
use crate::metadata::MetadataStore;
use crate::op_stats::OpKind;
use crate::reservation::{ReservationCell, Reservations};
use crate::volume::Volume;

/// The open volumes of one core by name; a clone is another handle.
#[derive(Clone, Default)]
pub struct Registry(Rc<RegistryState>);

#[derive(Default)]
pub(super) struct RegistryState {
    pub volumes: RefCell<BTreeMap<String, Rc<Shared>>>,
    /// Volumes with something to do: a change to be made durable, or their end.
    pub listed: RefCell<Vec<Rc<Shared>>>,
    /// Something happened since the last poll that no wake-up announces.
    pub woken: Cell<bool>,
}

/// An open volume. Only ports keep it open: this handle answers from the last state when it has been closed.
#[derive(Clone)]
pub struct SharedVolume {
    shared: Rc<Shared>,
}

impl Registry {
    /// No volumes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a volume on this core.
    pub fn add(&self, core: &Core, setup: VolumeSetup) -> Result<SharedVolume, VolumeError> {
        let VolumeSetup { name, serial, channel, metadata, reservations } = setup;
        let mut volumes = self.0.volumes.borrow_mut();
        if volumes.contains_key(&name) {
            return Err(VolumeError::VolumeExists { name });
        }
        if volumes.len() >= VOLUMES_PER_CORE_MAX {
            return Err(VolumeError::Full { limit: VOLUMES_PER_CORE_MAX });
        }
        let stored = match reservations.as_slice() {
            [] => Reservations::default(),
            stored => {
                Reservations::decode(stored).map_err(|_| VolumeError::Reservations { name: name.clone() })?
            }
        };
        let adopt = |error: std::io::Error| VolumeError::Adopt { name: name.clone(), reason: error.kind() };
        let channel = channel(core).map_err(adopt)?;
        let metadata = metadata(core).map_err(adopt)?;
        let volume =
            Volume::new(channel, &core.buffers).map_err(|_| VolumeError::NoMemory { name: name.clone() })?;
        let shared = Rc::new(Shared {
            stats: Arc::new(OpKind::stats_set(name.clone())),
            name: name.clone(),
            serial,
            reservations: Rc::new(ReservationCell::new(stored)),
            state: RefCell::new(State::new(volume, metadata)),
            registry: Rc::downgrade(&self.0),
            listed: Cell::new(false),
        });
        volumes.insert(name, Rc::clone(&shared));
        Ok(SharedVolume { shared })
    }

    /// The volume of that name.
    pub fn get(&self, name: &str) -> Result<SharedVolume, VolumeError> {
        let volumes = self.0.volumes.borrow();
        let found = volumes.get(name).map(SharedVolume::over);
        found.ok_or_else(|| VolumeError::NoSuchVolume { name: name.into() })
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.volumes.borrow().keys().cloned().collect()
    }

    /// True without volumes.
    pub fn is_empty(&self) -> bool {
        self.0.volumes.borrow().is_empty()
    }

    /// Flushes and closes a volume, then answers. Refused while a port uses it.
    pub fn remove(&self, name: &str, answer: Answer<Result<(), VolumeError>>) {
        let volume = match self.get(name) {
            Ok(volume) => volume,
            Err(error) => return answer(Err(error)),
        };
        let mut state = volume.shared.state.borrow_mut();
        let name = || name.to_owned();
        if state.closing.is_closing() {
            drop(state);
            return answer(Err(VolumeError::Closing { name: name() }));
        }
        if state.ports.iter().any(|port| port.open && port.in_use) {
            drop(state);
            return answer(Err(VolumeError::InUse { name: name() }));
        }
        state.closing.begin(answer);
        drop(state);
        volume.shared.list();
    }

    /// Takes note that a volume has grown; its ports hear of it.
    pub fn resize(&self, name: &str, length_blocks: u64) -> Result<(), VolumeError> {
        let volume = self.get(name)?;
        let mut state = volume.shared.state.borrow_mut();
        let current = state.volume.info().length_blocks;
        if length_blocks < current || !state.volume.grow(length_blocks) {
            return Err(VolumeError::Shrinks { name: name.into(), current, asked: length_blocks });
        }
        if length_blocks > current {
            // A port that has not heard of the growth before hears of both at once.
            let unaware =
                |port: &&mut super::state::PortState| port.open && !port.events.contains(&Event::Resized);
            state.ports.iter_mut().filter(unaware).for_each(|port| port.tell(Event::Resized));
        }
        Ok(())
    }

    /// Keeps the reservations of a volume as they are until [`Registry::grown`] or [`Registry::thaw`], and answers what there is
    /// of them; `None` while a change is on its way: ask again at the next turn.
    pub fn freeze(&self, name: &str) -> Result<Option<Vec<u8>>, VolumeError> {
        let volume = self.get(name)?;
        let mut state = volume.shared().state.borrow_mut();
        if state.change.is_some() {
            return Ok(None);
        }
        state.frozen = true;
        Ok(Some(volume.shared().reservations.read().encode()))
    }

    /// Reservations may change again.
    pub fn thaw(&self, name: &str) {
        if let Ok(volume) = self.get(name) {
            volume.shared().state.borrow_mut().frozen = false;
        }
    }

    /// A volume that was frozen has been made longer on its device; its metadata may have been moved there.
    pub fn grown(
        &self,
        name: &str,
        length_blocks: u64,
        metadata: Option<Box<dyn MetadataStore>>,
    ) -> Result<(), VolumeError> {
        self.resize(name, length_blocks)?;
        let volume = self.get(name)?;
        let mut state = volume.shared().state.borrow_mut();
        if let Some(metadata) = metadata {
            state.metadata = metadata;
        }
        state.frozen = false;
        Ok(())
    }

    /// Goes on with what is under way: changes that become durable, volumes that are being closed. [`super::VolumeCore`]
    /// calls it once per turn; whoever has a registry without one does.
    pub fn poll(&self) -> Progress {
        self.0.woken.set(false);
        let mut listed = std::mem::take(&mut *self.0.listed.borrow_mut());
        if listed.is_empty() {
            return Progress::Idle;
        }
        let mut progress = Progress::Idle;
        let mut done = Vec::new();
        for shared in listed.drain(..) {
            shared.listed.set(false);
            if shared.poll_change(&mut done) {
                progress = Progress::Busy;
            }
            let (again, closed) = shared.poll_closing();
            if let Some(answer) = closed {
                self.0.volumes.borrow_mut().remove(&shared.name);
                answer(Ok(()));
                progress = Progress::Busy;
            }
            if (again || shared.state.borrow().change.is_some()) && !shared.listed.replace(true) {
                self.0.listed.borrow_mut().push(shared);
            }
        }
        progress
    }

    /// False while something waits for the next [`Registry::poll`] that no wake-up announces.
    pub fn may_sleep(&self) -> bool {
        !self.0.woken.get()
    }

    pub(super) fn volumes(&self) -> Vec<SharedVolume> {
        self.0.volumes.borrow().values().map(SharedVolume::over).collect()
    }
}

impl SharedVolume {
    pub(super) fn over(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared) }
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its serial number.
    pub fn serial(&self) -> &str {
        &self.shared.serial
    }

    /// What it is now.
    pub fn info(&self) -> BdevInfo {
        self.shared.state.borrow().volume.info()
    }

    /// Its counters, written by every front end of this core ([`OpKind::record`]).
    pub fn stats(&self) -> Arc<StatsSet> {
        Arc::clone(&self.shared.stats)
    }

    /// Bytes that it occupies, where the back end knows.
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.shared.state.borrow().volume.allocated_bytes()
    }

    /// Another way in. `token` goes into `bell` when the port has something to hear. `None` when there are too many
    /// ports, or the volume is being closed.
    pub fn open_port(&self, bell: &Bell, token: u32) -> Option<Port> {
        let id = self.shared.state.borrow_mut().add_port(bell, token)?;
        Some(Port { shared: Rc::clone(&self.shared), id })
    }
}

//! What the plane does for volumes: files first, then the core, then what is remembered.

use std::path::PathBuf;

use control::bridge::{ObjectKind, PlaneError, VolumeFacts};
use control::model::{Backing, VolumeSpec};
use volume::shared::VolumeMessage;

use crate::files;
use crate::plane::{OpenVolume, Worker, size_bytes};

impl Worker {
    pub(crate) fn open_volume(
        &self,
        spec: VolumeSpec,
        path: Option<PathBuf>,
        create: bool,
    ) -> Result<VolumeFacts, PlaneError> {
        let name = spec.name.to_string();
        // The lock is let go before `facts` takes it.
        let known = self.state().volumes.get(&name).map(|open| open.spec.uuid);
        if let Some(uuid) = known {
            if uuid == spec.uuid {
                return self.facts(&name);
            }
            let found = format!("a volume with identity {uuid}");
            return Err(PlaneError::AlreadyExists { kind: ObjectKind::Volume, name, found });
        }
        let cores = self.core_count();
        let core = match (self.device_core(&spec)?, spec.core) {
            (Some(core), _) => core,
            (None, Some(core)) if (core as usize) < cores => core as usize,
            (None, Some(core)) => {
                let reason = format!("this node has cores 0 to {}, not {core}", cores - 1);
                return Err(PlaneError::Unsupported { field: "core", reason });
            }
            (None, None) => self.state().placement.least_loaded(cores),
        };
        self.open_on(core, spec, path, create)?;
        self.facts(&name)
    }

    fn open_on(
        &self,
        core: usize,
        spec: VolumeSpec,
        path: Option<PathBuf>,
        create: bool,
    ) -> Result<(), PlaneError> {
        let name = spec.name.to_string();
        let prepared = match &spec.backing {
            Backing::Nvme { .. } => self.prepare_namespace(&spec, create)?,
            _ => files::prepare(&spec, path.as_deref(), &self.memory, create)?,
        };
        let setup = Box::new(prepared.setup);
        let (info, stats) = self.ask_volumes(core, |answer| VolumeMessage::Add { setup, answer })?;
        let mut state = self.state();
        state.placement.set_volume(&name, core);
        state.volumes.insert(name, OpenVolume { spec, path, info, stats, notes: prepared.notes });
        Ok(())
    }

    fn facts(&self, name: &str) -> Result<VolumeFacts, PlaneError> {
        let state = self.state();
        let open = state.volumes.get(name).ok_or_else(|| no_such_volume(name))?;
        Ok(VolumeFacts {
            core: state.placement.volume(name).unwrap_or_default() as u32,
            size_bytes: size_bytes(&open.info),
            volatile_write_cache: open.info.volatile_write_cache,
            notes: open.notes.clone(),
        })
    }

    pub(crate) fn close_volume(&self, name: &str) -> Result<(), PlaneError> {
        let Some(core) = self.state().placement.volume(name) else { return Ok(()) };
        let owned = name.to_owned();
        gone(self.ask_volumes(core, |answer| VolumeMessage::Remove { name: owned, answer }))?;
        let mut state = self.state();
        state.placement.remove_volume(name);
        state.volumes.remove(name);
        Ok(())
    }

    pub(crate) fn delete_volume(&self, spec: &VolumeSpec, path: Option<PathBuf>) -> Result<(), PlaneError> {
        self.close_volume(spec.name.as_str())?;
        files::destroy(spec, path.as_deref())
    }

    pub(crate) fn grow_volume(&self, name: &str, asked_bytes: u64) -> Result<VolumeFacts, PlaneError> {
        let (spec, path, core, current) = {
            let state = self.state();
            let open = state.volumes.get(name).ok_or_else(|| no_such_volume(name))?;
            let core = state.placement.volume(name).unwrap_or_default();
            (open.spec.clone(), open.path.clone(), core, size_bytes(&open.info))
        };
        if asked_bytes != current {
            if asked_bytes < current {
                let reason =
                    format!("{asked_bytes} bytes is less than the present {current}; a volume only grows");
                return Err(PlaneError::Unsupported { field: "size_bytes", reason });
            }
            let length_blocks = if let Backing::Nvme { .. } = spec.backing {
                self.grow_namespace(&spec, asked_bytes)?
            } else {
                files::grow(&spec, path.as_deref(), asked_bytes)?;
                let (length_blocks, name) = (asked_bytes / u64::from(spec.block_size), name.to_owned());
                self.ask_volumes(core, |answer| VolumeMessage::Resize { name, length_blocks, answer })?;
                length_blocks
            };
            let mut state = self.state();
            if let Some(open) = state.volumes.get_mut(name) {
                open.info.length_blocks = length_blocks;
                open.spec.size_bytes = length_blocks * u64::from(spec.block_size);
            }
        }
        self.facts(name)
    }

    /// Closes a volume that nobody serves and opens it on another core, for the sake of `field` of a request.
    pub(crate) fn move_volume(&self, name: &str, core: usize, field: &'static str) -> Result<(), PlaneError> {
        let (spec, path) = {
            let state = self.state();
            let open = state.volumes.get(name).ok_or_else(|| no_such_volume(name))?;
            (open.spec.clone(), open.path.clone())
        };
        if let Some((device, _)) = spec.backing.namespace() {
            let reason = format!(
                "volume {name} is on device {device}, which another core drives than the one that has the other volumes; \
                 volumes that are served together must be on one core"
            );
            return Err(PlaneError::Unsupported { field, reason });
        }
        if spec.backing == Backing::Memory {
            let reason = format!(
                "memory volume {name} lives on another core than the other volumes and would be empty after a move; \
                 create it with core {core}"
            );
            return Err(PlaneError::Unsupported { field, reason });
        }
        self.close_volume(name)?;
        self.open_on(core, spec, path, false)
    }
}

/// What an earlier request removed after we stopped waiting for it is gone all the same.
pub(crate) fn gone(removed: Result<(), PlaneError>) -> Result<(), PlaneError> {
    match removed {
        Ok(()) | Err(PlaneError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn no_such_volume(name: &str) -> PlaneError {
    PlaneError::NotFound { kind: ObjectKind::Volume, name: name.to_owned() }
}

//! What the plane does for volumes and targets: files first, then the core, then what is remembered.

use std::collections::BTreeSet;
use std::path::PathBuf;

use control::bridge::{ObjectKind, PlaneError, VolumeFacts};
use control::model::{AuthMethod, Backing, DigestPolicy, ResolvedTarget, ResolvedUser, VolumeSpec};
use iscsi_proto::chap::Secret;
use iscsi_proto::params;
use iscsi_target::message::{CoreMessage, DirectoryEntry};
use iscsi_target::setup::{AllowList, Auth, TargetSetup, User};

use crate::files;
use crate::placement::PlacementError;
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
        let core = match spec.core {
            Some(core) if (core as usize) < cores => core as usize,
            Some(core) => {
                let reason = format!("this node has cores 0 to {}, not {core}", cores - 1);
                return Err(PlaneError::Unsupported { field: "core", reason });
            }
            None => self.state().placement.least_loaded(cores),
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
        let prepared = files::prepare(&spec, path.as_deref(), create)?;
        let setup = Box::new(prepared.setup);
        let (info, stats) = self.ask_target(core, |answer| CoreMessage::AddVolume { setup, answer })?;
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
        gone(self.ask_target(core, |answer| CoreMessage::RemoveVolume { name: owned, answer }))?;
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
            files::grow(&spec, path.as_deref(), asked_bytes)?;
            let length_blocks = asked_bytes / u64::from(spec.block_size);
            let owned = name.to_owned();
            self.ask_target(core, |answer| CoreMessage::ResizeVolume { name: owned, length_blocks, answer })?;
            let mut state = self.state();
            if let Some(open) = state.volumes.get_mut(name) {
                open.info.length_blocks = length_blocks;
                open.spec.size_bytes = asked_bytes;
            }
        }
        self.facts(name)
    }

    pub(crate) fn set_target(&self, target: ResolvedTarget) -> Result<(), PlaneError> {
        let name = target.spec.name.to_string();
        let volumes: BTreeSet<String> = target.spec.luns.values().map(ToString::to_string).collect();
        let plan = self.state().placement.plan(&name, &volumes).map_err(|error| misplaced(&name, error))?;
        for volume in &plan.moves {
            self.move_volume(volume, plan.core)?;
        }
        let setup = Box::new(target_setup(&target)?);
        let entry = self.directory_entry(&setup, plan.core);
        self.ask_target(plan.core, |answer| CoreMessage::SetTarget { setup, answer })?;
        let mut state = self.state();
        state.placement.set_target(&name, plan.core, volumes);
        state.directory.insert(name, entry);
        drop(state);
        self.publish_directory()
    }

    fn directory_entry(&self, setup: &TargetSetup, core: usize) -> DirectoryEntry {
        let group = self.groups.iter().find(|group| group.tag == setup.portal_group_tag);
        DirectoryEntry {
            core,
            portal_group_tag: setup.portal_group_tag,
            advertised: group.map(|group| group.advertised.clone()).unwrap_or_default(),
            allow: setup.allow.clone(),
        }
    }

    /// Closes a volume that no target maps and opens it on another core.
    fn move_volume(&self, name: &str, core: usize) -> Result<(), PlaneError> {
        let (spec, path) = {
            let state = self.state();
            let open = state.volumes.get(name).ok_or_else(|| no_such_volume(name))?;
            (open.spec.clone(), open.path.clone())
        };
        if spec.backing == Backing::Memory {
            let reason = format!(
                "memory volume {name} lives on another core than the target and would be empty after a move; \
                 create it with core {core}"
            );
            return Err(PlaneError::Unsupported { field: "luns", reason });
        }
        self.close_volume(name)?;
        self.open_on(core, spec, path, false)
    }

    pub(crate) fn remove_target(&self, name: &str) -> Result<(), PlaneError> {
        let Some(core) = self.state().placement.target(name) else { return Ok(()) };
        self.state().directory.remove(name);
        self.publish_directory()?;
        let owned = name.to_owned();
        gone(self.ask_target(core, |answer| CoreMessage::RemoveTarget { name: owned, answer }))?;
        self.state().placement.remove_target(name);
        Ok(())
    }
}

/// What an earlier request removed after we stopped waiting for it is gone all the same.
fn gone(removed: Result<(), PlaneError>) -> Result<(), PlaneError> {
    match removed {
        Ok(()) | Err(PlaneError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn no_such_volume(name: &str) -> PlaneError {
    PlaneError::NotFound { kind: ObjectKind::Volume, name: name.to_owned() }
}

fn misplaced(target: &str, error: PlacementError) -> PlaneError {
    match error {
        PlacementError::NoSuchVolume(volume) => no_such_volume(&volume),
        PlacementError::Elsewhere { volume, target: other } => PlaneError::Unsupported {
            field: "luns",
            reason: format!(
                "volume {volume} is served on another core through target {other}; the volumes of {target} live \
                 on one core: remove it from {other} first, or create the volumes with the same core"
            ),
        },
    }
}

fn target_setup(target: &ResolvedTarget) -> Result<TargetSetup, PlaneError> {
    let spec = &target.spec;
    let own = target.own.as_ref().map(|own| Ok((own.name.to_string(), secret(own)?))).transpose()?;
    let auth = match spec.auth_method {
        AuthMethod::None => Auth::None,
        AuthMethod::Chap | AuthMethod::Mutual => {
            let mutual = if spec.auth_method == AuthMethod::Mutual { own } else { None };
            let users = target.users.iter().map(|user| {
                Ok(User { name: user.name.to_string(), secret: secret(user)?, mutual: mutual.clone() })
            });
            Auth::Chap(users.collect::<Result<_, PlaneError>>()?)
        }
    };
    Ok(TargetSetup {
        name: spec.name.to_string(),
        alias: spec.alias.clone(),
        portal_group_tag: spec.portal_group_tag,
        luns: spec.luns.iter().map(|(lun, volume)| (lun.get(), volume.to_string())).collect(),
        auth,
        allow: AllowList(spec.allow.iter().map(ToString::to_string).collect()),
        header_digest: digest(spec.header_digest),
        data_digest: digest(spec.data_digest),
    })
}

fn digest(policy: DigestPolicy) -> params::DigestPolicy {
    match policy {
        DigestPolicy::Initiator => params::DigestPolicy::Any,
        DigestPolicy::Prefer => params::DigestPolicy::Prefer,
        DigestPolicy::Require => params::DigestPolicy::Require,
        DigestPolicy::Off => params::DigestPolicy::Refuse,
    }
}

fn secret(user: &ResolvedUser) -> Result<Secret, PlaneError> {
    Secret::new(user.secret.reveal_bytes()).map_err(|error| PlaneError::Unsupported {
        field: "users",
        reason: format!("user {}: {error}", user.name),
    })
}

//! The desired state of the node, durable: volumes, targets, LUN maps, users, subsystems, namespaces, allow lists.
//!
//! One JSON document, `catalog.json`, replaced atomically; the one before it is kept as `catalog.json.previous`.
//! Secrets are in `secrets.json`, readable by the owner only, and have no previous copy: a secret that was removed is
//! gone. The data directory is locked, so that one process at a time works on it.
//!
//! A change that must not be lost half-way is written down before it is begun: [`Phase`] says how far a volume
//! has come, and a restart goes on from there.

mod document;
mod error;
mod file;
mod lock;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::CatalogError;

use crate::model::{
    Backing, ChapRole, ChapUserName, DeviceName, IscsiName, ModelError, Nqn, Nsid, ResolvedTarget,
    ResolvedUser, Secret, SubsystemSpec, TargetSpec, VolumeName, VolumeSpec,
};
use document::Loaded;
use lock::DataDirLock;
use secrets::Secrets;

/// How far a volume has come. It is written before the step that it names, so that a restart can repeat the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its data may or may not exist yet.
    Creating,
    /// It is served.
    Ready,
    /// It is made larger, and may already be.
    Growing {
        /// The size that it will have.
        size_bytes: u64,
    },
    /// It goes away.
    Deleting {
        /// Whether its data goes, too.
        delete_data: bool,
    },
}

/// A volume and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The volume.
    pub spec: VolumeSpec,
    /// How far it has come.
    pub phase: Phase,
}

/// Everything desired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Volumes by name.
    pub volumes: BTreeMap<VolumeName, VolumeRecord>,
    /// Targets by name.
    pub targets: BTreeMap<IscsiName, TargetSpec>,
    /// Subsystems by name. A document of version 1 has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subsystems: BTreeMap<Nqn, SubsystemSpec>,
}

impl State {
    /// The targets that map a volume, each with the first of its LUNs that does.
    pub fn mapped_by(&self, volume: &VolumeName) -> Vec<(IscsiName, u16)> {
        let lun_of = |target: &TargetSpec| {
            target.luns.iter().find(|(_, name)| *name == volume).map(|(lun, _)| lun.get())
        };
        self.targets.values().filter_map(|target| Some((target.name.clone(), lun_of(target)?))).collect()
    }

    /// The volume that lives on a namespace of a device.
    pub fn volume_on(&self, device: &DeviceName, nsid: u32) -> Option<&VolumeName> {
        let lives_there = |record: &&VolumeRecord| record.spec.backing.namespace() == Some((device, nsid));
        self.volumes.values().find(lives_there).map(|record| &record.spec.name)
    }

    /// The namespace that a volume is, if it is one.
    pub fn namespace_of(&self, volume: &VolumeName) -> Option<(&Nqn, Nsid)> {
        let found = |subsystem: &SubsystemSpec| subsystem.nsid_of(volume);
        self.subsystems.iter().find_map(|(nqn, subsystem)| Some((nqn, found(subsystem)?)))
    }
}

/// The open catalog of a data directory.
pub struct Catalog {
    data_dir: PathBuf,
    state: State,
    generation: u64,
    secrets: Secrets,
    recovered: Option<String>,
    _lock: DataDirLock,
}

impl Catalog {
    /// Creates the data directory if there is none, locks it and reads what is there.
    pub fn open(data_dir: &Path) -> Result<Self, CatalogError> {
        file::create_private_dir(data_dir)?;
        file::create_private_dir(&data_dir.join("volumes"))?;
        let lock = DataDirLock::take(data_dir)?;
        let Loaded { state, generation, recovered } = document::load(data_dir)?;
        let mut secrets = Secrets::load(data_dir)?;
        secrets.keep_only(&state);
        Ok(Self { data_dir: data_dir.to_owned(), state, generation, secrets, recovered, _lock: lock })
    }

    /// The desired state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many changes there were.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Says so when the newest document was unusable and the one before it was taken.
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }

    /// The data file of a volume that has one.
    pub fn volume_path(&self, spec: &VolumeSpec) -> Option<PathBuf> {
        volume_path(&self.data_dir, spec)
    }

    /// Changes the desired state: durable and visible, or, on an error, neither. Blocks on the disk.
    ///
    /// After an error of the directory sync it is not known whether the change will survive power loss; the memory
    /// then keeps the old state, and the next change writes the whole document again.
    pub fn change<T, E: From<CatalogError>>(
        &mut self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.state.clone();
        let value = change(&mut state)?;
        if state != self.state {
            let generation = self.generation + 1;
            document::store(&self.data_dir, &state, generation)?;
            self.state = state;
            self.generation = generation;
            self.recovered = None;
        }
        Ok(value)
    }

    /// Stores the secret of a user; before the user itself is added, so that no user is ever without one.
    pub fn put_secret(
        &mut self,
        target: &IscsiName,
        user: &ChapUserName,
        secret: Secret,
    ) -> Result<(), CatalogError> {
        let mut secrets = self.secrets.clone();
        secrets.put(target, user, secret);
        secrets.store(&self.data_dir)?;
        self.secrets = secrets;
        Ok(())
    }

    /// Forgets the secrets of users that no longer exist; after the users were removed.
    pub fn forget_secrets(&mut self) -> Result<(), CatalogError> {
        let mut secrets = self.secrets.clone();
        if secrets.keep_only(&self.state) {
            secrets.store(&self.data_dir)?;
            self.secrets = secrets;
        }
        Ok(())
    }

    /// The secret of a user, to compare with.
    pub fn secret(&self, target: &IscsiName, user: &ChapUserName) -> Option<&Secret> {
        self.secrets.get(target, user)
    }

    /// Joins a target with its secrets. A user without a secret is an error: the target must not become easier to
    /// enter because a file was lost.
    pub fn resolve(&self, spec: &TargetSpec) -> Result<ResolvedTarget, CatalogError> {
        let mut users = Vec::new();
        let mut own = None;
        for user in &spec.users {
            let secret = self.secrets.get(&spec.name, &user.name).cloned().ok_or_else(|| {
                CatalogError::SecretMissing { target: spec.name.clone(), user: user.name.clone() }
            })?;
            let resolved = ResolvedUser { name: user.name.clone(), secret };
            match user.role {
                ChapRole::Initiator => users.push(resolved),
                ChapRole::Target => own = Some(resolved),
            }
        }
        Ok(ResolvedTarget { spec: spec.clone(), users, own })
    }

    /// Refuses a secret that the other direction of the same target uses (RFC 7143, section 9.2.1).
    pub fn check_secret(
        &self,
        spec: &TargetSpec,
        user: &ChapUserName,
        role: ChapRole,
        secret: &Secret,
    ) -> Result<(), ModelError> {
        let other_way = spec.users.iter().filter(|other| other.role != role && other.name != *user);
        for other in other_way {
            if self.secrets.get(&spec.name, &other.name).is_some_and(|theirs| theirs.same_as(secret)) {
                return Err(ModelError::SameSecretBothWays {
                    target: spec.name.to_string(),
                    user: user.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// The data file of a volume that has one.
pub fn volume_path(data_dir: &Path, spec: &VolumeSpec) -> Option<PathBuf> {
    let file = || data_dir.join("volumes").join(format!("{}.data", spec.name));
    matches!(spec.backing, Backing::File).then(file)
}

#[cfg(test)]
mod tests;

//! From the catalog to the data plane: at start, and again for what did not work.

use super::{NewSubsystem, NewTarget, NewVolume, Service, ServiceError};
use crate::bridge::Request;
use crate::catalog::{Phase, VolumeRecord, volume_path};
use crate::config::{Config, ConfigError, SubsystemConfig, TargetConfig, VolumeConfig};
use crate::limits::RESTORES_AT_ONCE;
use crate::model::{IscsiName, Nqn, Secret, TargetSpec, VolumeName, VolumeSpec};

impl Service {
    /// Opens every volume, then serves every target and subsystem. What cannot be opened is reported and the others are served.
    pub async fn restore(&self) {
        let state = self.state();
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(RESTORES_AT_ONCE));
        let mut running = tokio::task::JoinSet::new();
        for name in state.volumes.keys() {
            let (service, places, name) = (self.clone(), places.clone(), name.clone());
            running.spawn(async move {
                let _place = places.acquire().await.expect("the semaphore is never closed");
                service.restore_volume(&name).await;
            });
        }
        while let Some(joined) = running.join_next().await {
            joined.expect("restoring a volume does not panic and is not cancelled");
        }
        for name in self.state().targets.keys() {
            let (service, name) = (self.clone(), name.clone());
            running.spawn(async move { service.restore_target(&name).await });
        }
        for nqn in self.state().subsystems.keys() {
            let (service, nqn) = (self.clone(), nqn.clone());
            running.spawn(async move { service.restore_subsystem(&nqn).await });
        }
        while let Some(joined) = running.join_next().await {
            joined.expect("restoring a target or subsystem does not panic and is not cancelled");
        }
        self.observe(|observed| observed.restored = true);
    }

    /// Brings one volume to where the catalog says it should be. The catalog is read under the volume's lock: the
    /// API is open, and the volume may have been changed or deleted a moment ago.
    async fn restore_volume(&self, name: &VolumeName) {
        let _turn = self.inner.volume_locks.lock(name.as_str()).await;
        let Some(VolumeRecord { spec, phase }) = self.state().volumes.get(name).cloned() else { return };
        let result = match phase {
            Phase::Creating => self.finish_create(spec).await,
            Phase::Ready => self.open_volume(spec, phase).await,
            Phase::Growing { size_bytes } => match self.open_volume(spec, phase).await {
                Ok(()) => self.finish_grow(name, size_bytes, Phase::Ready).await,
                Err(error) => Err(error),
            },
            Phase::Deleting { delete_data } => self.finish_delete(spec, delete_data, phase).await.map(drop),
        };
        if let Err(error) = result {
            tracing::error!(volume = %name, error = %error, "the volume is not served as it should be");
            self.observe(|observed| observed.volume_failed(name, error.to_string()));
        }
    }

    async fn open_volume(&self, spec: VolumeSpec, phase: Phase) -> Result<(), ServiceError> {
        let name = spec.name.clone();
        let path = volume_path(&self.facts().data_dir, &spec);
        let facts = self.bridge().volume(Request::OpenVolume { spec, path }).await?;
        self.serve(&name, facts, phase).await
    }

    async fn restore_target(&self, name: &IscsiName) {
        let _turn = self.inner.target_locks.lock(name.as_str()).await;
        if let Some(spec) = self.state().targets.get(name) {
            // A failure is kept with the target, and tried again.
            let _ = self.serve_target(spec).await;
        }
    }

    async fn restore_subsystem(&self, nqn: &Nqn) {
        let _turn = self.inner.subsystem_locks.lock(nqn.as_str()).await;
        if let Some(spec) = self.state().subsystems.get(nqn) {
            // A failure is kept with the subsystem, and tried again.
            let _ = self.serve_subsystem(spec).await;
        }
    }

    /// Tries again what is not as it should be. Called now and then; does nothing when all is well.
    pub async fn retry_failed(&self) {
        let volumes: Vec<VolumeName> =
            self.observed(|observed| observed.volume_problems.keys().cloned().collect());
        for name in volumes {
            self.restore_volume(&name).await;
        }
        let targets: Vec<IscsiName> =
            self.observed(|observed| observed.target_problems.keys().cloned().collect());
        for name in targets {
            self.restore_target(&name).await;
        }
        let subsystems: Vec<Nqn> =
            self.observed(|observed| observed.subsystem_problems.keys().cloned().collect());
        for nqn in subsystems {
            self.restore_subsystem(&nqn).await;
        }
    }

    /// Creates what the configuration names and the catalog does not have; what exists is left as it is.
    pub async fn create_missing(&self, config: &Config) {
        for volume in &config.volumes {
            if self.state().volumes.contains_key(&volume.name) {
                continue;
            }
            if let Err(error) = self.create_volume(new_volume(volume)).await {
                tracing::error!(volume = %volume.name, error = %error, "cannot create the configured volume");
                self.observe(|observed| observed.volume_failed(&volume.name, error.to_string()));
            }
        }
        for target in &config.targets {
            if self.state().targets.contains_key(&target.name) {
                continue;
            }
            if let Err(error) = self.create_configured_target(target).await {
                tracing::error!(target_name = %target.name, error = %error, "cannot create the configured target");
            }
        }
        for subsystem in &config.subsystems {
            if self.state().subsystems.contains_key(&subsystem.nqn) {
                continue;
            }
            if let Err(error) = self.create_subsystem(new_subsystem(subsystem)).await {
                tracing::error!(subsystem = %subsystem.nqn, error = %error, "cannot create the configured subsystem");
                self.observe(|observed| observed.subsystem_is(&subsystem.nqn, Some(error.to_string())));
            }
        }
    }

    async fn create_configured_target(&self, config: &TargetConfig) -> Result<(), SetupError> {
        let secrets = config.users.iter().map(|user| {
            let secret = read_secret(&user.secret_file)?;
            Ok((user.name.clone(), user.role, secret))
        });
        let secrets: Vec<_> = secrets.collect::<Result<_, SetupError>>()?;
        let spec = config.to_spec()?;
        self.create_target(new_target(&spec)).await?;
        for (name, role, secret) in secrets {
            self.put_user(&spec.name, name, role, secret).await?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("cannot read the secret file {path}: {source}")]
    SecretFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("secret file {path}: {source}")]
    Secret { path: std::path::PathBuf, source: crate::model::ModelError },
}

fn read_secret(path: &std::path::Path) -> Result<Secret, SetupError> {
    let content =
        std::fs::read(path).map_err(|source| SetupError::SecretFile { path: path.to_owned(), source })?;
    Secret::from_line(content).map_err(|source| SetupError::Secret { path: path.to_owned(), source })
}

fn new_volume(config: &VolumeConfig) -> NewVolume {
    NewVolume {
        name: config.name.clone(),
        size_bytes: config.size.0,
        block_size: config.block_size,
        backing: config.backing.clone(),
        uuid: config.uuid,
        core: config.core,
    }
}

fn new_target(spec: &TargetSpec) -> NewTarget {
    NewTarget {
        name: spec.name.clone(),
        alias: spec.alias.clone(),
        portal_group_tag: spec.portal_group_tag,
        luns: spec.luns.clone(),
        auth_method: spec.auth_method,
        allow: spec.allow.clone(),
        header_digest: spec.header_digest,
        data_digest: spec.data_digest,
    }
}

fn new_subsystem(config: &SubsystemConfig) -> NewSubsystem {
    NewSubsystem {
        nqn: config.nqn.clone(),
        serial_number: config.serial_number.clone(),
        model_number: config.model_number.clone(),
        namespaces: config.namespaces.clone(),
        allow: config.allow.clone(),
        ana: config.ana.clone(),
        header_digest: config.header_digest,
        data_digest: config.data_digest,
    }
}

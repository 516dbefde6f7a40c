//! Create, show, grow and delete volumes.

use super::views::{Attachment, Mapping};
use super::{Created, NewVolume, Service, ServiceError, VolumeDeleted, VolumeState, VolumeView, devices};
use crate::bridge::{ObjectKind, PlaneError, Request, StatsReport, VolumeFacts};
use crate::catalog::{Phase, State, VolumeRecord, volume_path};
use crate::limits::VOLUMES_MAX;
use crate::model::{Backing, VolumeName, VolumeSpec};

impl Service {
    /// Every volume, by name.
    pub async fn volumes(&self) -> Vec<VolumeView> {
        let state = self.state();
        let (live, _) = self.stats_report().await;
        let view = |record| self.volume_view(&state, record, &live);
        state.volumes.values().map(view).collect()
    }

    /// One volume.
    pub async fn volume(&self, name: &VolumeName) -> Result<VolumeView, ServiceError> {
        let state = self.state();
        let record = state.volumes.get(name).ok_or_else(|| no_volume(name))?;
        let (live, _) = self.stats_report().await;
        Ok(self.volume_view(&state, record, &live))
    }

    /// A volume with what the data plane says of it now. The report is empty when that does not answer: a list is better without
    /// than never.
    fn volume_view(&self, state: &State, record: &VolumeRecord, live: &StatsReport) -> VolumeView {
        let spec = record.spec.clone();
        let (facts, problem) = self.observed(|observed| {
            (observed.open.get(&spec.name).cloned(), observed.volume_problems.get(&spec.name).cloned())
        });
        let device_problem = devices::problem_of_volume(&live.devices, &spec);
        let state_now = match (record.phase, &facts, &problem) {
            (Phase::Deleting { .. }, ..) => VolumeState::Deleting,
            (_, None, Some(_)) => VolumeState::Failed,
            // It is open and answers errors.
            (_, Some(_), _) if device_problem.is_some() => VolumeState::Failed,
            (Phase::Growing { .. }, ..) => VolumeState::Growing,
            (_, Some(_), _) => VolumeState::Online,
            (_, None, None) => VolumeState::Creating,
        };
        let problem = problem.or(device_problem);
        let counted = live.volumes.iter().find(|volume| volume.name == spec.name);
        let allocated_bytes = counted.and_then(|volume| volume.allocated_bytes);
        let path = volume_path(&self.facts().data_dir, &spec);
        VolumeView {
            state: state_now,
            problem,
            allocated_bytes,
            owner_core: facts.as_ref().map(|facts| facts.core),
            volatile_write_cache: facts.as_ref().map(|facts| facts.volatile_write_cache),
            data_path: path.map(|path| path.display().to_string()),
            mapped_by: mappings(state, &spec.name),
            namespace: attachment(state, &spec.name),
            notes: facts.map(|facts| facts.notes).unwrap_or_default(),
            spec,
        }
    }

    /// Creates a volume and serves it. The same again is the same volume.
    pub async fn create_volume(&self, new: NewVolume) -> Result<(VolumeView, Created), ServiceError> {
        new.to_spec().validate()?;
        self.refuse_when_draining()?;
        let service = self.clone();
        self.to_the_end(async move {
            let name = new.name.clone();
            let _turn = service.inner.volume_locks.lock(name.as_str()).await;
            let created = service.create_locked(new).await?;
            Ok((service.volume(&name).await?, created))
        })
        .await
    }

    async fn create_locked(&self, new: NewVolume) -> Result<Created, ServiceError> {
        let begun = self
            .change(move |state| {
                let Some(record) = state.volumes.get(&new.name) else {
                    if state.volumes.len() >= VOLUMES_MAX {
                        return Err(ServiceError::TooMany { what: "volumes", max: VOLUMES_MAX });
                    }
                    refuse_taken_namespace(state, &new)?;
                    let record = VolumeRecord { spec: new.to_spec(), phase: Phase::Creating };
                    state.volumes.insert(new.name.clone(), record.clone());
                    return Ok(record);
                };
                let differs = new.differences(&record.spec);
                if matches!(record.phase, Phase::Deleting { .. }) {
                    return Err(unfinished(record));
                }
                if differs.is_empty() {
                    return Ok(record.clone());
                }
                let (kind, name) = (ObjectKind::Volume, new.name.to_string());
                Err(ServiceError::ExistsDifferently { kind, name, differs: differs.join(", ") })
            })
            .await?;
        if begun.phase != Phase::Creating {
            return Ok(Created::Existing);
        }
        self.finish_create(begun.spec).await?;
        Ok(Created::New)
    }

    /// The second half of a creation, also after a restart.
    pub(super) async fn finish_create(&self, spec: VolumeSpec) -> Result<(), ServiceError> {
        let name = spec.name.clone();
        let path = volume_path(&self.facts().data_dir, &spec);
        match self.bridge().volume(Request::CreateVolume { spec, path }).await {
            Ok(facts) => self.serve(&name, facts, Phase::Ready).await,
            Err(error) if error.is_certain() => {
                let gone = name.clone();
                self.change(move |state| {
                    state.volumes.remove(&gone);
                    Ok(())
                })
                .await?;
                self.observe(|observed| observed.volume_is_gone(&name));
                Err(error.into())
            }
            Err(error) => Err(self.note_failed(&name, error)),
        }
    }

    /// A volume is open: it is what the data plane says it is. Its data knows its size better than a catalog that
    /// was taken from before a change, or than a request that adopts kept data.
    pub(super) async fn serve(
        &self,
        name: &VolumeName,
        facts: VolumeFacts,
        phase: Phase,
    ) -> Result<(), ServiceError> {
        for note in &facts.notes {
            tracing::info!(volume = %name, "{note}");
        }
        let size_bytes = facts.size_bytes;
        self.observe(|observed| observed.volume_is_open(name, facts));
        self.stats_changed();
        let wanted = name.clone();
        self.change(move |state| {
            let record = state.volumes.get_mut(&wanted).ok_or_else(|| no_volume(&wanted))?;
            record.spec.size_bytes = size_bytes;
            record.phase = phase;
            Ok(())
        })
        .await
    }

    pub(super) fn note_failed(&self, name: &VolumeName, error: PlaneError) -> ServiceError {
        tracing::error!(volume = %name, error = %error, "volume");
        self.observe(|observed| observed.volume_failed(name, error.to_string()));
        error.into()
    }

    pub(super) async fn set_phase(&self, name: &VolumeName, phase: Phase) -> Result<(), ServiceError> {
        let name = name.clone();
        self.change(move |state| {
            let record = state.volumes.get_mut(&name).ok_or_else(|| no_volume(&name))?;
            record.phase = phase;
            Ok(())
        })
        .await
    }

    /// Makes a volume larger; the same size again is no change.
    pub async fn grow_volume(&self, name: &VolumeName, size_bytes: u64) -> Result<VolumeView, ServiceError> {
        self.refuse_when_draining()?;
        let (service, name) = (self.clone(), name.clone());
        self.to_the_end(async move {
            let _turn = service.inner.volume_locks.lock(name.as_str()).await;
            let wanted = name.clone();
            let before = service.change(move |state| begin_grow(state, &wanted, size_bytes)).await?;
            if let Some(before) = before {
                service.finish_grow(&name, size_bytes, before).await?;
            }
            service.volume(&name).await
        })
        .await
    }

    /// The second half of growing, also after a restart. `before` is where a refusal leads back to.
    pub(super) async fn finish_grow(
        &self,
        name: &VolumeName,
        size_bytes: u64,
        before: Phase,
    ) -> Result<(), ServiceError> {
        match self.bridge().volume(Request::GrowVolume { name: name.clone(), size_bytes }).await {
            Ok(facts) => self.serve(name, facts, Phase::Ready).await,
            Err(error) if error.is_certain() => {
                self.set_phase(name, before).await?;
                Err(error.into())
            }
            Err(error) => Err(self.note_failed(name, error)),
        }
    }

    /// Takes a volume out of service. Its data stays, unless the name is repeated in `confirm`.
    pub async fn delete_volume(
        &self,
        name: &VolumeName,
        delete_data: bool,
        confirm: Option<&str>,
    ) -> Result<VolumeDeleted, ServiceError> {
        self.refuse_when_draining()?;
        let confirmed = delete_data && confirm == Some(name.as_str());
        let (service, name) = (self.clone(), name.clone());
        self.to_the_end(async move {
            let _turn = service.inner.volume_locks.lock(name.as_str()).await;
            let wanted = name.clone();
            let begun = service.change(move |state| begin_delete(state, &wanted, delete_data, confirmed));
            let (spec, before) = begun.await?;
            service.finish_delete(spec, delete_data, before).await
        })
        .await
    }

    /// The second half of a deletion, also after a restart. `before` is where a refusal leads back to.
    pub(super) async fn finish_delete(
        &self,
        spec: VolumeSpec,
        delete_data: bool,
        before: Phase,
    ) -> Result<VolumeDeleted, ServiceError> {
        let name = spec.name.clone();
        let path = volume_path(&self.facts().data_dir, &spec);
        let kept = path.as_ref().filter(|_| !delete_data).map(|path| path.display().to_string());
        let uuid = spec.uuid;
        let request = match delete_data {
            true => Request::DeleteVolume { spec, path },
            false => Request::CloseVolume { name: name.clone() },
        };
        if let Err(error) = self.bridge().done(request).await {
            if error.is_certain() {
                self.set_phase(&name, before).await?;
            }
            return Err(self.note_failed(&name, error));
        }
        let gone = name.clone();
        self.change(move |state| {
            state.volumes.remove(&gone);
            Ok(())
        })
        .await?;
        self.observe(|observed| observed.volume_is_gone(&name));
        self.stats_changed();
        Ok(VolumeDeleted { name, uuid, data_deleted: delete_data, data_path: kept })
    }
}

/// Two volumes on one namespace would be one volume.
fn refuse_taken_namespace(state: &State, new: &NewVolume) -> Result<(), ServiceError> {
    let taken = new
        .backing
        .namespace()
        .and_then(|(device, nsid)| Some((device, nsid, state.volume_on(device, nsid)?)));
    let Some((device, nsid, volume)) = taken else { return Ok(()) };
    let (kind, name, by) =
        (ObjectKind::Device, device.to_string(), format!("volume {volume} on its namespace {nsid}"));
    let remedy =
        format!("choose another namespace (\"vega disk show {device}\"), or delete that volume first");
    Err(ServiceError::InUse { kind, name, by, remedy })
}

pub(super) fn no_volume(name: &VolumeName) -> ServiceError {
    ServiceError::NotFound { kind: ObjectKind::Volume, name: name.to_string() }
}

fn mappings(state: &State, name: &VolumeName) -> Vec<Mapping> {
    state.mapped_by(name).into_iter().map(|(target, lun)| Mapping { target, lun }).collect()
}

fn attachment(state: &State, name: &VolumeName) -> Option<Attachment> {
    let (subsystem, nsid) = state.namespace_of(name)?;
    Some(Attachment { subsystem: subsystem.clone(), nsid: nsid.get() })
}

/// Everybody who uses a volume, and how they are made to let go.
fn users(state: &State, name: &VolumeName) -> Option<(String, String)> {
    let mut users: Vec<(String, String)> = Vec::new();
    for (target, lun) in state.mapped_by(name) {
        let remedy = format!("unmap it with \"vega target lun remove {target} {lun}\"");
        users.push((format!("LUN {lun} of target {target}"), remedy));
    }
    if let Some((nqn, nsid)) = state.namespace_of(name) {
        let remedy = format!("remove it with \"vega subsystem remove-namespace {nqn} {nsid}\"");
        users.push((format!("namespace {nsid} of subsystem {nqn}"), remedy));
    }
    let joined =
        |part: fn(&(String, String)) -> &str| users.iter().map(part).collect::<Vec<_>>().join(" and ");
    (!users.is_empty()).then(|| (joined(|(by, _)| by), joined(|(_, remedy)| remedy)))
}

pub(super) fn unfinished(record: &VolumeRecord) -> ServiceError {
    let phase = match record.phase {
        Phase::Creating => "being created",
        Phase::Growing { .. } => "being made larger",
        Phase::Deleting { .. } => "being deleted",
        Phase::Ready => "ready",
    };
    ServiceError::Unfinished { name: record.spec.name.to_string(), phase }
}

/// The phase before, when there is something to do in the data plane.
fn begin_grow(
    state: &mut State,
    name: &VolumeName,
    wanted_bytes: u64,
) -> Result<Option<Phase>, ServiceError> {
    let record = state.volumes.get_mut(name).ok_or_else(|| no_volume(name))?;
    crate::model::check_size(wanted_bytes, record.spec.block_size)?;
    let least = match record.phase {
        Phase::Ready => record.spec.size_bytes,
        Phase::Growing { size_bytes } => size_bytes,
        Phase::Creating | Phase::Deleting { .. } => return Err(unfinished(record)),
    };
    if wanted_bytes < least {
        let name = name.to_string();
        return Err(ServiceError::Shrink { name, size_bytes: least, wanted_bytes });
    }
    if wanted_bytes == record.spec.size_bytes {
        return Ok(None);
    }
    let phase = Phase::Growing { size_bytes: wanted_bytes };
    Ok(Some(std::mem::replace(&mut record.phase, phase)))
}

fn begin_delete(
    state: &mut State,
    name: &VolumeName,
    delete_data: bool,
    confirmed: bool,
) -> Result<(VolumeSpec, Phase), ServiceError> {
    let users = users(state, name);
    let record = state.volumes.get_mut(name).ok_or_else(|| no_volume(name))?;
    if let Some((by, remedy)) = users {
        let (kind, name) = (ObjectKind::Volume, name.to_string());
        return Err(ServiceError::InUse { kind, name, by, remedy });
    }
    // The content of a memory volume ends with it, so that taking it out of service destroys data as well.
    let destroys = delete_data || record.spec.backing == Backing::Memory;
    if destroys && !confirmed {
        let command = format!("vega volume delete {name} --delete-data");
        return Err(ServiceError::NotConfirmed { name: name.to_string(), command });
    }
    let before = std::mem::replace(&mut record.phase, Phase::Deleting { delete_data });
    Ok((record.spec.clone(), before))
}

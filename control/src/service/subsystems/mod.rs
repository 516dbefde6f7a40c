//! Create, show, change and delete subsystems, with their namespaces and allow lists.

mod ana;
mod views;

use super::targets::mappable;
use super::{Created, Service, ServiceError};
use crate::bridge::{ObjectKind, Request};
use crate::catalog::State;
use crate::limits::SUBSYSTEMS_MAX;
use crate::model::{HostPattern, Nqn, Nsid, ResolvedSubsystem, SubsystemSpec, VolumeName};

pub use views::{ListenerView, NewSubsystem, SubsystemChange, SubsystemView};

impl Service {
    /// Every subsystem, by name.
    pub fn subsystems(&self) -> Vec<SubsystemView> {
        self.state().subsystems.values().map(|spec| self.subsystem_view(spec)).collect()
    }

    /// One subsystem.
    pub fn subsystem(&self, nqn: &Nqn) -> Result<SubsystemView, ServiceError> {
        let state = self.state();
        state.subsystems.get(nqn).map(|spec| self.subsystem_view(spec)).ok_or_else(|| no_subsystem(nqn))
    }

    fn subsystem_view(&self, spec: &SubsystemSpec) -> SubsystemView {
        let problem = self.observed(|observed| observed.subsystem_problems.get(&spec.nqn).cloned());
        let listeners = self.facts().listeners.iter().map(|listener| ListenerView {
            tag: listener.tag,
            address: listener.address.clone(),
            ana: spec.ana_state(listener.tag),
        });
        let listeners: Vec<_> = listeners.collect();
        let mut warnings = spec.warnings();
        if listeners.is_empty() {
            warnings.push(format!(
                "nobody can connect to {}: NVMe/TCP is switched off; add an [[nvmf.listener]] to the configuration and \
                 start the node again",
                spec.nqn
            ));
        }
        SubsystemView { spec: spec.clone(), listeners, problem, warnings }
    }

    /// Creates a subsystem and serves it. The same again is the same subsystem.
    pub async fn create_subsystem(
        &self,
        new: NewSubsystem,
    ) -> Result<(SubsystemView, Created), ServiceError> {
        self.refuse_when_draining()?;
        let spec = new.to_spec();
        spec.validate()?;
        new.ana.keys().try_for_each(|tag| self.known_listener(*tag))?;
        let service = self.clone();
        self.to_the_end(async move {
            let _turn = service.inner.subsystem_locks.lock(spec.nqn.as_str()).await;
            let (wanted, nqn) = (spec.clone(), spec.nqn.clone());
            let created = service.change(move |state| insert_subsystem(state, &new, wanted)).await?;
            if created == Created::New {
                service.serve_subsystem_or_take_back(None, spec).await?;
            }
            Ok((service.subsystem(&nqn)?, created))
        })
        .await
    }

    /// Changes what is not a list.
    pub async fn change_subsystem(
        &self,
        nqn: &Nqn,
        change: SubsystemChange,
    ) -> Result<SubsystemView, ServiceError> {
        self.update_subsystem(nqn, move |spec, _| {
            let SubsystemChange { header_digest, data_digest } = change;
            spec.header_digest = header_digest.unwrap_or(spec.header_digest);
            spec.data_digest = data_digest.unwrap_or(spec.data_digest);
            Ok(())
        })
        .await
    }

    /// Makes a volume a namespace, under the lowest free NSID when none is given. The same again changes nothing. An
    /// NSID that is another volume is refused: a host must not find other data under it.
    pub async fn add_namespace(
        &self,
        nqn: &Nqn,
        nsid: Option<Nsid>,
        volume: VolumeName,
    ) -> Result<SubsystemView, ServiceError> {
        self.update_subsystem(nqn, move |spec, state| {
            attachable(state, &spec.nqn, &volume)?;
            let nsid = match nsid.or_else(|| spec.nsid_of(&volume)) {
                Some(nsid) => nsid,
                None => spec.free_nsid()?,
            };
            match spec.namespaces.get(&nsid) {
                Some(attached) if *attached != volume => Err(ServiceError::InUse {
                    kind: ObjectKind::Subsystem,
                    name: format!("{} namespace {nsid}", spec.nqn),
                    by: format!("volume {attached}"),
                    remedy: format!("remove it with \"vega subsystem remove-namespace {} {nsid}\"", spec.nqn),
                }),
                _ => {
                    spec.namespaces.insert(nsid, volume);
                    Ok(())
                }
            }
        })
        .await
    }

    /// Detaches a namespace; its volume stays.
    pub async fn remove_namespace(&self, nqn: &Nqn, nsid: Nsid) -> Result<SubsystemView, ServiceError> {
        self.update_subsystem(nqn, move |spec, _| match spec.namespaces.remove(&nsid) {
            Some(_) => Ok(()),
            None => Err(no_entry(spec, "namespace", nsid)),
        })
        .await
    }

    /// Adds an entry to the allow list.
    pub async fn allow_host(&self, nqn: &Nqn, pattern: HostPattern) -> Result<SubsystemView, ServiceError> {
        self.update_subsystem(nqn, move |spec, _| {
            spec.allow.insert(pattern);
            Ok(())
        })
        .await
    }

    /// Removes an entry from the allow list; hosts that only it admitted are disconnected. An empty list admits every
    /// host, so that the last entry goes only when `admit_all` says that this is meant.
    pub async fn deny_host(
        &self,
        nqn: &Nqn,
        pattern: HostPattern,
        admit_all: bool,
    ) -> Result<SubsystemView, ServiceError> {
        self.update_subsystem(nqn, move |spec, _| {
            if !spec.allow.remove(&pattern) {
                return Err(no_entry(spec, "host", pattern));
            }
            if spec.allow.is_empty() && !admit_all {
                return Err(ServiceError::LastHost { nqn: spec.nqn.to_string(), host: pattern.to_string() });
            }
            Ok(())
        })
        .await
    }

    /// Disconnects the controllers of a subsystem and removes it; its volumes stay.
    pub async fn delete_subsystem(&self, nqn: &Nqn) -> Result<(), ServiceError> {
        self.refuse_when_draining()?;
        let (service, nqn) = (self.clone(), nqn.clone());
        self.to_the_end(async move {
            let _turn = service.inner.subsystem_locks.lock(nqn.as_str()).await;
            if !service.state().subsystems.contains_key(&nqn) {
                return Err(no_subsystem(&nqn));
            }
            service.bridge().done(Request::RemoveSubsystem { nqn: nqn.clone() }).await?;
            let gone = nqn.clone();
            service
                .change(move |state| {
                    state.subsystems.remove(&gone);
                    Ok(())
                })
                .await?;
            service.observe(|observed| observed.subsystem_is(&nqn, None));
            service.stats_changed();
            Ok(())
        })
        .await
    }

    async fn update_subsystem(
        &self,
        nqn: &Nqn,
        update: impl FnOnce(&mut SubsystemSpec, &State) -> Result<(), ServiceError> + Send + 'static,
    ) -> Result<SubsystemView, ServiceError> {
        self.refuse_when_draining()?;
        let (service, nqn) = (self.clone(), nqn.clone());
        self.to_the_end(async move {
            let _turn = service.inner.subsystem_locks.lock(nqn.as_str()).await;
            let wanted = nqn.clone();
            let updated = service.change(move |state| {
                let before = state.subsystems.get(&wanted).cloned().ok_or_else(|| no_subsystem(&wanted))?;
                let mut after = before.clone();
                update(&mut after, state)?;
                after.validate()?;
                state.subsystems.insert(wanted, after.clone());
                Ok((before, after))
            });
            let (before, after) = updated.await?;
            service.serve_subsystem_or_take_back(Some(before), after).await?;
            service.subsystem(&nqn)
        })
        .await
    }

    /// Gives the subsystem to the data plane; what it certainly refused is not desired any longer.
    async fn serve_subsystem_or_take_back(
        &self,
        before: Option<SubsystemSpec>,
        after: SubsystemSpec,
    ) -> Result<(), ServiceError> {
        let nqn = after.nqn.clone();
        let Err(error) = self.serve_subsystem(&after).await else { return Ok(()) };
        if error.is_certain() {
            let gone = nqn.clone();
            self.change(move |state| {
                match before {
                    Some(before) => state.subsystems.insert(gone, before),
                    None => state.subsystems.remove(&gone),
                };
                Ok(())
            })
            .await?;
            self.observe(|observed| observed.subsystem_is(&nqn, None));
        }
        Err(error)
    }

    /// Gives a subsystem to the data plane, without the namespaces whose volume is not open.
    pub(super) async fn serve_subsystem(&self, spec: &SubsystemSpec) -> Result<(), ServiceError> {
        let mut served = spec.clone();
        let missing = self.observed(|observed| {
            let all = std::mem::take(&mut served.namespaces).into_iter();
            let (open, missing): (Vec<_>, Vec<_>) =
                all.partition(|(_, volume)| observed.open.contains_key(volume));
            served.namespaces = open.into_iter().collect();
            missing
        });
        let ana = self.facts().listeners.iter().map(|listener| (listener.tag, spec.ana_state(listener.tag)));
        let subsystem = Box::new(ResolvedSubsystem { spec: served, ana: ana.collect() });
        let result = self.bridge().done(Request::SetSubsystem { subsystem }).await;
        let list = || {
            missing.iter().map(|(nsid, volume)| format!("{nsid} ({volume})")).collect::<Vec<_>>().join(", ")
        };
        let problem = match &result {
            Err(error) => Some(error.to_string()),
            Ok(()) if !missing.is_empty() => {
                Some(format!("served without namespace {}: the volume is not open", list()))
            }
            Ok(()) => None,
        };
        if let Some(problem) = &problem {
            tracing::warn!(subsystem = %spec.nqn, "{problem}");
        }
        self.observe(|observed| observed.subsystem_is(&spec.nqn, problem));
        self.stats_changed();
        Ok(result?)
    }
}

pub(super) fn no_subsystem(nqn: &Nqn) -> ServiceError {
    ServiceError::NotFound { kind: ObjectKind::Subsystem, name: nqn.to_string() }
}

fn no_entry(spec: &SubsystemSpec, what: &'static str, name: impl std::fmt::Display) -> ServiceError {
    let (kind, of) = (ObjectKind::Subsystem, spec.nqn.to_string());
    ServiceError::NoSuchEntry { kind, of, what, name: name.to_string() }
}

/// A volume that can be mapped can be a namespace, of one subsystem: its identifiers are unique among namespaces, and
/// a host that finds them in two subsystems uses neither.
fn attachable(state: &State, nqn: &Nqn, volume: &VolumeName) -> Result<(), ServiceError> {
    mappable(state, volume)?;
    match state.namespace_of(volume).filter(|(other, _)| *other != nqn) {
        None => Ok(()),
        Some((other, nsid)) => Err(ServiceError::InUse {
            kind: ObjectKind::Volume,
            name: volume.to_string(),
            by: format!("subsystem {other} as namespace {nsid}"),
            remedy: format!("remove it there with \"vega subsystem remove-namespace {other} {nsid}\""),
        }),
    }
}

fn insert_subsystem(
    state: &mut State,
    new: &NewSubsystem,
    wanted: SubsystemSpec,
) -> Result<Created, ServiceError> {
    if let Some(existing) = state.subsystems.get(&wanted.nqn) {
        let differs = new.differences(existing);
        if differs.is_empty() {
            return Ok(Created::Existing);
        }
        let (kind, name) = (ObjectKind::Subsystem, wanted.nqn.to_string());
        return Err(ServiceError::ExistsDifferently { kind, name, differs: differs.join(", ") });
    }
    if state.subsystems.len() >= SUBSYSTEMS_MAX {
        return Err(ServiceError::TooMany { what: "subsystems", max: SUBSYSTEMS_MAX });
    }
    wanted.namespaces.values().try_for_each(|volume| attachable(state, &wanted.nqn, volume))?;
    state.subsystems.insert(wanted.nqn.clone(), wanted);
    Ok(Created::New)
}

#[cfg(test)]
mod tests;

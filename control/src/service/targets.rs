//! Create, show, change and delete targets, with their units, users and allow lists.

use serde::{Deserialize, Serialize};

use super::volumes::{no_volume, unfinished};
use super::{Created, NewTarget, Service, ServiceError, TargetView};
use crate::bridge::{ObjectKind, Request};
use crate::catalog::{Catalog, Phase, State};
use crate::limits::TARGETS_MAX;
use crate::model::{
    AuthMethod, ChapRole, ChapUser, ChapUserName, DigestPolicy, InitiatorPattern, IscsiName, Lun, Secret,
    TargetSpec, VolumeName,
};

/// What may be changed about a target as a whole; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetChange {
    /// Text that initiators show to people; empty takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The portals that reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal_group_tag: Option<u16>,
    /// How initiators prove who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<AuthMethod>,
    /// Header digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_digest: Option<DigestPolicy>,
    /// Data digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<DigestPolicy>,
}

impl Service {
    /// Every target, by name.
    pub fn targets(&self) -> Vec<TargetView> {
        self.state().targets.values().map(|spec| self.target_view(spec)).collect()
    }

    /// One target.
    pub fn target(&self, name: &IscsiName) -> Result<TargetView, ServiceError> {
        let state = self.state();
        state.targets.get(name).map(|spec| self.target_view(spec)).ok_or_else(|| no_target(name))
    }

    fn target_view(&self, spec: &TargetSpec) -> TargetView {
        let problem = self.observed(|observed| observed.target_problems.get(&spec.name).cloned());
        TargetView { spec: spec.clone(), problem, warnings: spec.warnings() }
    }

    /// Creates a target and serves it. The same again is the same target.
    pub async fn create_target(&self, new: NewTarget) -> Result<(TargetView, Created), ServiceError> {
        self.refuse_when_draining()?;
        let spec = new.to_spec();
        spec.validate()?;
        let service = self.clone();
        self.to_the_end(async move {
            let _turn = service.inner.target_locks.lock(spec.name.as_str()).await;
            let (wanted, name) = (spec.clone(), spec.name.clone());
            let created = service.change(move |state| insert_target(state, wanted)).await?;
            if created == Created::New {
                service.serve_or_take_back(None, spec).await?;
            }
            Ok((service.target(&name)?, created))
        })
        .await
    }

    /// Changes what is not a list.
    pub async fn change_target(
        &self,
        name: &IscsiName,
        change: TargetChange,
    ) -> Result<TargetView, ServiceError> {
        self.update_target(name, move |spec, _| {
            let TargetChange { alias, portal_group_tag, auth_method, header_digest, data_digest } = change;
            if let Some(alias) = alias {
                spec.alias = Some(alias).filter(|alias| !alias.is_empty());
            }
            spec.portal_group_tag = portal_group_tag.unwrap_or(spec.portal_group_tag);
            spec.auth_method = auth_method.unwrap_or(spec.auth_method);
            spec.header_digest = header_digest.unwrap_or(spec.header_digest);
            spec.data_digest = data_digest.unwrap_or(spec.data_digest);
            Ok(())
        })
        .await
    }

    /// Maps a volume. A LUN that maps another volume is refused: an initiator must not find other data under it.
    pub async fn put_lun(
        &self,
        target: &IscsiName,
        lun: Lun,
        volume: VolumeName,
    ) -> Result<TargetView, ServiceError> {
        self.update_target(target, move |spec, state| {
            mappable(state, &volume)?;
            match spec.luns.get(&lun) {
                Some(mapped) if *mapped != volume => Err(ServiceError::InUse {
                    kind: ObjectKind::Target,
                    name: format!("{} LUN {lun}", spec.name),
                    by: format!("volume {mapped}"),
                    remedy: format!("unmap it with \"vega target lun remove {} {lun}\"", spec.name),
                }),
                _ => {
                    spec.luns.insert(lun, volume);
                    Ok(())
                }
            }
        })
        .await
    }

    /// Unmaps a volume.
    pub async fn remove_lun(&self, target: &IscsiName, lun: Lun) -> Result<TargetView, ServiceError> {
        self.update_target(target, move |spec, _| match spec.luns.remove(&lun) {
            Some(_) => Ok(()),
            None => Err(no_entry(spec, "LUN", lun)),
        })
        .await
    }

    /// Adds a CHAP user, or gives it another secret or role.
    pub async fn put_user(
        &self,
        target: &IscsiName,
        user: ChapUserName,
        role: ChapRole,
        secret: Secret,
    ) -> Result<TargetView, ServiceError> {
        self.refuse_when_draining()?;
        let (service, target) = (self.clone(), target.clone());
        self.to_the_end(async move {
            let _turn = service.inner.target_locks.lock(target.as_str()).await;
            let (name, of) = (user.clone(), target.clone());
            // The secret first: a listed user always has one.
            let before = service
                .with_catalog(move |catalog| {
                    let before = catalog.secret(&of, &name).cloned();
                    let spec = catalog.state().targets.get(&of).ok_or_else(|| no_target(&of))?;
                    let mut wanted = spec.clone();
                    set_user(&mut wanted, &name, role);
                    wanted.validate()?;
                    catalog.check_secret(&wanted, &name, role, &secret)?;
                    catalog.put_secret(&of, &name, secret)?;
                    Ok(before)
                })
                .await?;
            let name = user.clone();
            let updated = service.update_locked(&target, move |spec, _| {
                set_user(spec, &name, role);
                Ok(())
            });
            let result = updated.await;
            if result.is_err() {
                service.take_secret_back(target, user, before).await?;
            }
            result
        })
        .await
    }

    async fn take_secret_back(
        &self,
        target: IscsiName,
        user: ChapUserName,
        before: Option<Secret>,
    ) -> Result<(), ServiceError> {
        self.with_catalog(move |catalog| match before {
            Some(secret) => Ok(catalog.put_secret(&target, &user, secret)?),
            None => Ok(catalog.forget_secrets()?),
        })
        .await
    }

    /// Removes a CHAP user and its secret.
    pub async fn remove_user(
        &self,
        target: &IscsiName,
        user: ChapUserName,
    ) -> Result<TargetView, ServiceError> {
        let view = self
            .update_target(target, move |spec, _| {
                let before = spec.users.len();
                spec.users.retain(|listed| listed.name != user);
                if spec.users.len() == before { Err(no_entry(spec, "user", user)) } else { Ok(()) }
            })
            .await?;
        self.with_catalog(|catalog| Ok(catalog.forget_secrets()?)).await?;
        Ok(view)
    }

    /// Adds an entry to the allow list.
    pub async fn allow_initiator(
        &self,
        target: &IscsiName,
        pattern: InitiatorPattern,
    ) -> Result<TargetView, ServiceError> {
        self.update_target(target, move |spec, _| {
            spec.allow.insert(pattern);
            Ok(())
        })
        .await
    }

    /// Removes an entry from the allow list.
    pub async fn disallow_initiator(
        &self,
        target: &IscsiName,
        pattern: InitiatorPattern,
    ) -> Result<TargetView, ServiceError> {
        self.update_target(target, move |spec, _| match spec.allow.remove(&pattern) {
            true => Ok(()),
            false => Err(no_entry(spec, "initiator", pattern)),
        })
        .await
    }

    /// Closes the sessions of a target and removes it; its volumes stay.
    pub async fn delete_target(&self, name: &IscsiName) -> Result<(), ServiceError> {
        self.refuse_when_draining()?;
        let (service, name) = (self.clone(), name.clone());
        self.to_the_end(async move {
            let _turn = service.inner.target_locks.lock(name.as_str()).await;
            if !service.state().targets.contains_key(&name) {
                return Err(no_target(&name));
            }
            service.bridge().done(Request::RemoveTarget { name: name.clone() }).await?;
            let gone = name.clone();
            let forget = move |catalog: &mut Catalog| {
                catalog.change(|state| {
                    state.targets.remove(&gone);
                    Ok::<(), ServiceError>(())
                })?;
                Ok(catalog.forget_secrets()?)
            };
            service.with_catalog(forget).await?;
            service.observe(|observed| observed.target_is(&name, None));
            Ok(())
        })
        .await
    }

    async fn update_target(
        &self,
        name: &IscsiName,
        update: impl FnOnce(&mut TargetSpec, &State) -> Result<(), ServiceError> + Send + 'static,
    ) -> Result<TargetView, ServiceError> {
        self.refuse_when_draining()?;
        let (service, name) = (self.clone(), name.clone());
        self.to_the_end(async move {
            let _turn = service.inner.target_locks.lock(name.as_str()).await;
            service.update_locked(&name, update).await
        })
        .await
    }

    async fn update_locked(
        &self,
        name: &IscsiName,
        update: impl FnOnce(&mut TargetSpec, &State) -> Result<(), ServiceError> + Send + 'static,
    ) -> Result<TargetView, ServiceError> {
        let wanted = name.clone();
        let (before, after) = self
            .change(move |state| {
                let before = state.targets.get(&wanted).cloned().ok_or_else(|| no_target(&wanted))?;
                let mut after = before.clone();
                update(&mut after, state)?;
                after.validate()?;
                state.targets.insert(wanted, after.clone());
                Ok((before, after))
            })
            .await?;
        self.serve_or_take_back(Some(before), after).await?;
        self.target(name)
    }

    /// Gives the target to the data plane; what it certainly refused is not desired any longer.
    async fn serve_or_take_back(
        &self,
        before: Option<TargetSpec>,
        after: TargetSpec,
    ) -> Result<(), ServiceError> {
        let name = after.name.clone();
        let Err(error) = self.serve_target(&after).await else { return Ok(()) };
        if error.is_certain() {
            let gone = name.clone();
            self.change(move |state| {
                match before {
                    Some(before) => state.targets.insert(gone, before),
                    None => state.targets.remove(&gone),
                };
                Ok(())
            })
            .await?;
            self.observe(|observed| observed.target_is(&name, None));
        }
        Err(error)
    }

    /// Gives a target to the data plane, without the units whose volume is not open.
    pub(super) async fn serve_target(&self, spec: &TargetSpec) -> Result<(), ServiceError> {
        let mut served = spec.clone();
        let missing = self.observed(|observed| {
            let (open, missing): (Vec<_>, Vec<_>) =
                served.luns.clone().into_iter().partition(|(_, volume)| observed.open.contains_key(volume));
            served.luns = open.into_iter().collect();
            missing
        });
        let resolved = self.with_catalog(move |catalog| Ok(catalog.resolve(&served)?)).await;
        let result = match resolved {
            Ok(target) => {
                let request = Request::SetTarget { target: Box::new(target) };
                self.bridge().done(request).await.map_err(ServiceError::from)
            }
            Err(error) => Err(error),
        };
        let list =
            || missing.iter().map(|(lun, volume)| format!("{lun} ({volume})")).collect::<Vec<_>>().join(", ");
        let problem = match &result {
            Err(error) => Some(error.to_string()),
            Ok(()) if !missing.is_empty() => {
                Some(format!("served without LUN {}: the volume is not open", list()))
            }
            Ok(()) => None,
        };
        if let Some(problem) = &problem {
            tracing::warn!(target_name = %spec.name, "{problem}");
        }
        self.observe(|observed| observed.target_is(&spec.name, problem));
        result
    }
}

pub(super) fn no_target(name: &IscsiName) -> ServiceError {
    ServiceError::NotFound { kind: ObjectKind::Target, name: name.to_string() }
}

fn no_entry(spec: &TargetSpec, what: &'static str, name: impl std::fmt::Display) -> ServiceError {
    let (kind, of) = (ObjectKind::Target, spec.name.to_string());
    ServiceError::NoSuchEntry { kind, of, what, name: name.to_string() }
}

fn set_user(spec: &mut TargetSpec, name: &ChapUserName, role: ChapRole) {
    match spec.users.iter_mut().find(|user| user.name == *name) {
        Some(user) => user.role = role,
        None => spec.users.push(ChapUser { name: name.clone(), role }),
    }
}

/// A volume that goes away or has no data yet cannot be mapped.
pub(super) fn mappable(state: &State, volume: &VolumeName) -> Result<(), ServiceError> {
    let record = state.volumes.get(volume).ok_or_else(|| no_volume(volume))?;
    match record.phase {
        Phase::Ready | Phase::Growing { .. } => Ok(()),
        Phase::Creating | Phase::Deleting { .. } => Err(unfinished(record)),
    }
}

fn insert_target(state: &mut State, wanted: TargetSpec) -> Result<Created, ServiceError> {
    if let Some(existing) = state.targets.get(&wanted.name) {
        let pairs = [
            ("alias", existing.alias == wanted.alias),
            ("portal group tag", existing.portal_group_tag == wanted.portal_group_tag),
            ("authentication method", existing.auth_method == wanted.auth_method),
            ("LUN map", wanted.luns.is_empty() || existing.luns == wanted.luns),
            ("allow list", wanted.allow.is_empty() || existing.allow == wanted.allow),
            ("header digest", existing.header_digest == wanted.header_digest),
            ("data digest", existing.data_digest == wanted.data_digest),
        ];
        let differs: Vec<_> = pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect();
        if differs.is_empty() {
            return Ok(Created::Existing);
        }
        let (kind, name) = (ObjectKind::Target, wanted.name.to_string());
        return Err(ServiceError::ExistsDifferently { kind, name, differs: differs.join(", ") });
    }
    if state.targets.len() >= TARGETS_MAX {
        return Err(ServiceError::TooMany { what: "targets", max: TARGETS_MAX });
    }
    wanted.luns.values().try_for_each(|volume| mappable(state, volume))?;
    state.targets.insert(wanted.name.clone(), wanted);
    Ok(Created::New)
}

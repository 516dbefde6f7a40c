//! What the plane does for iSCSI targets: placement, the core that serves them, the map for discovery.

use std::collections::BTreeSet;

use control::bridge::PlaneError;
use control::model::{AuthMethod, DigestPolicy, ResolvedTarget, ResolvedUser};
use iscsi_proto::chap::Secret;
use iscsi_proto::params;
use iscsi_target::message::{CoreMessage, DirectoryEntry};
use iscsi_target::setup::{AllowList, Auth, TargetSetup, User};

use crate::placement::PlacementError;
use crate::plane::Worker;
use crate::volumes::{gone, no_such_volume};

impl Worker {
    pub(crate) fn set_target(&self, target: ResolvedTarget) -> Result<(), PlaneError> {
        let name = target.spec.name.to_string();
        let volumes: BTreeSet<String> = target.spec.luns.values().map(ToString::to_string).collect();
        let plan = self.state().placement.plan(&name, &volumes).map_err(|error| misplaced(&name, error))?;
        for volume in &plan.moves {
            self.move_volume(volume, plan.core, "luns")?;
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
        let group = self.addresses.groups.iter().find(|group| group.tag == setup.portal_group_tag);
        DirectoryEntry {
            core,
            portal_group_tag: setup.portal_group_tag,
            advertised: group.map(|group| group.advertised.clone()).unwrap_or_default(),
            allow: setup.allow.clone(),
        }
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

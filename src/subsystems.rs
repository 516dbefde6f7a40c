//! What the plane does for subsystems and controllers: placement, the core that serves them, the map for discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use control::bridge::{ObjectKind, PlaneError, SubsystemStats};
use control::model::{
    AnaState, ControllerId, ControllerInfo, ControllerKind, HostDigest, Nqn, PortId, QueueInfo,
    ResolvedSubsystem,
};
use nvmf_target::TargetError;
use nvmf_target::limits::CNTLID_MAX;
use nvmf_target::message::{Answer, ControllerReport, CoreMessage, DirectoryEntry, ListenerAddress};
use nvmf_target::setup::{self, AllowList, NamespaceSetup, SubsystemSetup};

use crate::placement::PlacementError;
use crate::plane::{ANSWER_TIMEOUT, QUESTION_TIMEOUT, Worker, wait_for};
use crate::volumes::{gone, no_such_volume};

/// Control knows one ANA group: a subsystem is in one state as reached by a listener.
const ANA_GROUP: u32 = 1;

/// A listener of NVMe/TCP, as the discovery log tells it; one for each address that its name stands for.
#[derive(Clone, Debug)]
pub(crate) struct NvmfListener {
    pub tag: PortId,
    pub addresses: Vec<SocketAddr>,
}

impl Worker {
    /// As [`Worker::ask`], for the NVMe/TCP side of a core.
    fn ask_nvmf<T: Send + 'static>(
        &self,
        core: usize,
        timeout: std::time::Duration,
        message: impl FnOnce(Answer<T>) -> CoreMessage,
    ) -> Result<T, PlaneError> {
        wait_for(timeout, |answer| self.tell_nvmf(core, message(answer)))
    }

    fn change_nvmf<T: Send + 'static>(
        &self,
        core: usize,
        message: impl FnOnce(Answer<Result<T, TargetError>>) -> CoreMessage,
    ) -> Result<T, PlaneError> {
        self.ask_nvmf(core, ANSWER_TIMEOUT, message)?.map_err(refused)
    }

    fn tell_nvmf(&self, core: usize, message: CoreMessage) -> Result<(), PlaneError> {
        self.with_core(core, |handle| handle.nvmf.send(message).is_ok())
    }

    pub(crate) fn drain_nvmf(&self, core: usize, answer: Answer<()>) -> Result<(), PlaneError> {
        self.tell_nvmf(core, CoreMessage::Drain(answer))
    }

    pub(crate) fn accept_nvmf(&self, core: usize) -> Result<(), PlaneError> {
        self.tell_nvmf(core, CoreMessage::Accept)
    }

    pub(crate) fn set_subsystem(&self, subsystem: ResolvedSubsystem) -> Result<(), PlaneError> {
        let name = subsystem.spec.nqn.to_string();
        let volumes: BTreeSet<String> = subsystem.spec.namespaces.values().map(ToString::to_string).collect();
        let plan = self.state().placement.plan(&name, &volumes);
        let plan = plan.map_err(|error| misplaced(&name, error))?;
        for volume in &plan.moves {
            self.move_volume(volume, plan.core, "namespaces")?;
        }
        let setup = subsystem_setup(&subsystem);
        let entry = DirectoryEntry {
            core: plan.core,
            allow: setup.allow.clone(),
            listeners: self.listener_addresses(),
        };
        let setup = Box::new(setup);
        self.change_nvmf(plan.core, |answer| CoreMessage::SetSubsystem { setup, answer })?;
        let mut state = self.state();
        state.placement.set_target(&name, plan.core, volumes);
        state.subsystems.subsystems.insert(name, entry);
        drop(state);
        self.publish_subsystems()
    }

    fn listener_addresses(&self) -> Vec<ListenerAddress> {
        let each = self.addresses.listeners.iter().flat_map(|listener| {
            let port_id = listener.tag.get();
            listener.addresses.iter().map(move |address| ListenerAddress { address: *address, port_id })
        });
        each.collect()
    }

    /// Gives every core the present map of subsystems.
    fn publish_subsystems(&self) -> Result<(), PlaneError> {
        let directory = {
            let mut state = self.state();
            state.subsystems.generation += 1;
            Arc::new(state.subsystems.clone())
        };
        for core in 0..self.core_count() {
            self.tell_nvmf(core, CoreMessage::SetDirectory(directory.clone()))?;
        }
        Ok(())
    }

    pub(crate) fn remove_subsystem(&self, name: &str) -> Result<(), PlaneError> {
        let Some(core) = self.state().placement.target(name) else { return Ok(()) };
        self.state().subsystems.subsystems.remove(name);
        self.publish_subsystems()?;
        let nqn = name.to_owned();
        gone(self.change_nvmf(core, |answer| CoreMessage::RemoveSubsystem { nqn, answer }))?;
        self.state().placement.remove_target(name);
        Ok(())
    }

    pub(crate) fn set_ana_state(
        &self,
        listener: PortId,
        subsystem: Option<&Nqn>,
        state: AnaState,
    ) -> Result<(), PlaneError> {
        if !self.addresses.listeners.iter().any(|known| known.tag == listener) {
            return Err(PlaneError::NotFound { kind: ObjectKind::Listener, name: listener.to_string() });
        }
        let all: BTreeMap<String, usize> = {
            let state = self.state();
            let all = state.subsystems.subsystems.iter();
            all.map(|(name, entry)| (name.clone(), entry.core)).collect()
        };
        if let Some(nqn) = subsystem.filter(|nqn| !all.contains_key(nqn.as_str())) {
            return Err(no_such_subsystem(nqn.as_str()));
        }
        for (nqn, core) in all {
            if subsystem.is_none_or(|wanted| wanted.as_str() == nqn) {
                self.change_nvmf(core, |answer| CoreMessage::SetAnaState {
                    nqn,
                    port_id: listener.get(),
                    group: ANA_GROUP,
                    state: ana_state(state),
                    answer,
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn controllers(&self) -> Result<Vec<ControllerInfo>, PlaneError> {
        let mut all = Vec::new();
        for core in 0..self.core_count() {
            let reports = self.ask_nvmf(core, QUESTION_TIMEOUT, CoreMessage::Controllers)?;
            all.extend(reports.into_iter().map(controller_info));
        }
        Ok(all)
    }

    pub(crate) fn drop_controller(&self, id: &ControllerId) -> Result<(), PlaneError> {
        let core = id.core as usize;
        let missing = || PlaneError::NotFound { kind: ObjectKind::Controller, name: id.to_string() };
        if core >= self.core_count() {
            return Err(missing());
        }
        let dropped = self.ask_nvmf(core, ANSWER_TIMEOUT, |answer| CoreMessage::DropController {
            nqn: id.subsystem.to_string(),
            cntlid: id.cntlid,
            answer,
        })?;
        if dropped { Ok(()) } else { Err(missing()) }
    }

    /// Who is connected: every subsystem on its core, discovery where somebody uses it.
    pub(crate) fn subsystem_stats(&self) -> Result<Vec<SubsystemStats>, PlaneError> {
        let mut counts = BTreeMap::<(String, u32), (u64, u64)>::new();
        for (name, entry) in &self.state().subsystems.subsystems {
            counts.insert((name.clone(), entry.core as u32), (0, 0));
        }
        for controller in self.controllers()? {
            let key = (controller.id.subsystem.to_string(), controller.id.core);
            let (controllers, connections) = counts.entry(key).or_default();
            *controllers += 1;
            *connections += controller.queues.len() as u64;
        }
        let stats = counts.into_iter().filter_map(|((name, core), (controllers, connections))| {
            Some(SubsystemStats { nqn: name.parse().ok()?, core, controllers, connections })
        });
        Ok(stats.collect())
    }
}

fn controller_info(report: ControllerReport) -> ControllerInfo {
    let kind = if report.subsystem_nqn.is_some() { ControllerKind::Io } else { ControllerKind::Discovery };
    let subsystem = report.subsystem_nqn.and_then(|nqn| nqn.parse().ok()).unwrap_or_else(Nqn::discovery);
    let queues = report.queues.into_iter();
    ControllerInfo {
        id: ControllerId { subsystem, core: report.core as u32, cntlid: report.cntlid },
        kind,
        host_nqn: report.host_nqn,
        host_id: report.host_id,
        listener: PortId::try_from(u64::from(report.port_id)).expect("a listener's tag is not 0"),
        keep_alive_ms: report.keep_alive_ms,
        queues: queues.map(|(queue_id, peer)| QueueInfo { queue_id, peer }).collect(),
        commands: report.commands as u64,
    }
}

fn subsystem_setup(subsystem: &ResolvedSubsystem) -> SubsystemSetup {
    let spec = &subsystem.spec;
    let namespaces = spec.namespaces.iter().map(|(nsid, volume)| {
        (nsid.get(), NamespaceSetup { volume: volume.to_string(), ana_group: ANA_GROUP })
    });
    let ana = subsystem.ana.iter().map(|(tag, state)| ((tag.get(), ANA_GROUP), ana_state(*state)));
    SubsystemSetup {
        nqn: spec.nqn.to_string(),
        serial: spec.serial_number.to_string(),
        model: spec.model_number.to_string(),
        namespaces: namespaces.collect(),
        allow: AllowList(spec.allow.iter().map(ToString::to_string).collect()),
        ana: ana.collect(),
        require_header_digest: spec.header_digest == HostDigest::Require,
        require_data_digest: spec.data_digest == HostDigest::Require,
        controller_ids: 1..=CNTLID_MAX,
    }
}

fn ana_state(state: AnaState) -> setup::AnaState {
    match state {
        AnaState::Optimized => setup::AnaState::Optimized,
        AnaState::NonOptimized => setup::AnaState::NonOptimized,
        AnaState::Inaccessible => setup::AnaState::Inaccessible,
        AnaState::PersistentLoss => setup::AnaState::PersistentLoss,
        AnaState::Change => setup::AnaState::Change,
    }
}

fn no_such_subsystem(name: &str) -> PlaneError {
    PlaneError::NotFound { kind: ObjectKind::Subsystem, name: name.to_owned() }
}

fn misplaced(subsystem: &str, error: PlacementError) -> PlaneError {
    match error {
        PlacementError::NoSuchVolume(volume) => no_such_volume(&volume),
        PlacementError::Elsewhere { volume, target: other } => PlaneError::Unsupported {
            field: "namespaces",
            reason: format!(
                "volume {volume} is served on another core through {other}; the volumes of {subsystem} live on one \
                 core: remove it from {other} first, or create the volumes with the same core"
            ),
        },
    }
}

/// A refusal of the target in control's words.
fn refused(error: TargetError) -> PlaneError {
    let reason = error.to_string();
    match error {
        TargetError::NoSuchVolume { name } => no_such_volume(&name),
        TargetError::NoSuchSubsystem { nqn } => no_such_subsystem(&nqn),
        TargetError::Closing { name } => PlaneError::InUse {
            kind: ObjectKind::Volume,
            name,
            by: "its last I/O; it is still being closed".into(),
        },
        TargetError::Removing { nqn } => PlaneError::InUse {
            kind: ObjectKind::Subsystem,
            name: nqn,
            by: "its last I/O; it is still being removed".into(),
        },
        TargetError::Nsid { .. } | TargetError::AnaGroup { .. } => {
            PlaneError::Unsupported { field: "namespaces", reason }
        }
        TargetError::Full { .. } => PlaneError::NoSpace { what: "it on the core".into(), detail: reason },
        TargetError::Draining => PlaneError::ShuttingDown,
    }
}

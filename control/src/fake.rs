//! A data plane without data: it keeps what it was told and answers at once.
//!
//! For tests of everything above the bridge, here and elsewhere, and to try the API without cores. It is strict where
//! the contract of [`Request`] is: a volume that is used must be open, an existing file is never taken over.

mod device;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reactor::stats::{CoreStats, StatsSet};
use uuid::Uuid;

use crate::bridge::{
    CoreReport, DataPlane, DeviceReport, ObjectKind, PlaneError, Reply, Request, Responder, StatsReport,
    SubsystemStats, VolumeFacts, VolumeStats,
};
use crate::model::{
    AnaState, ControllerId, ControllerInfo, DeviceName, DeviceState, IscsiName, Nqn, PortId,
    ResolvedSubsystem, ResolvedTarget, SessionInfo, VolumeName, VolumeSpec,
};

pub use device::fake_device;

/// What survives a restart of the data plane: identity and size of each data file.
pub type FakeDisk = Arc<Mutex<BTreeMap<PathBuf, (Uuid, u64)>>>;

/// What happens to the next request of a kind instead of being done.
pub enum Fault {
    /// It is refused.
    Fail(PlaneError),
    /// It is done, and the answer is lost.
    DoneButSilent,
    /// It is forgotten.
    Silent,
}

/// A volume that is served.
struct OpenVolume {
    spec: VolumeSpec,
    path: Option<PathBuf>,
    stats: Arc<StatsSet>,
}

#[derive(Default)]
struct Inner {
    volumes: BTreeMap<VolumeName, OpenVolume>,
    targets: BTreeMap<IscsiName, ResolvedTarget>,
    subsystems: BTreeMap<Nqn, ResolvedSubsystem>,
    sessions: Vec<SessionInfo>,
    controllers: Vec<ControllerInfo>,
    devices: Vec<DeviceReport>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    log: Vec<&'static str>,
    /// Responders of requests that are never answered; dropping one would be an answer.
    unanswered: Vec<Responder>,
    drained: bool,
}

/// The data plane without data.
#[derive(Default)]
pub struct FakeDataPlane {
    inner: Mutex<Inner>,
    disk: FakeDisk,
    core: Arc<CoreStats>,
}

impl FakeDataPlane {
    /// With the data files of an earlier one.
    pub fn on_disk(disk: FakeDisk) -> Self {
        Self { disk, ..Self::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next request called `request` go wrong.
    pub fn inject(&self, request: &'static str, fault: Fault) {
        self.inner().faults.entry(request).or_default().push_back(fault);
    }

    /// Names of all requests except questions for counters, in order.
    pub fn log(&self) -> Vec<&'static str> {
        self.inner().log.iter().filter(|name| **name != "stats").copied().collect()
    }

    /// A target as it was last set.
    pub fn target(&self, name: &IscsiName) -> Option<ResolvedTarget> {
        self.inner().targets.get(name).cloned()
    }

    /// A subsystem as it was last set.
    pub fn subsystem(&self, nqn: &Nqn) -> Option<ResolvedSubsystem> {
        self.inner().subsystems.get(nqn).cloned()
    }

    /// Names of the volumes that are served.
    pub fn volumes(&self) -> Vec<String> {
        self.inner().volumes.keys().map(ToString::to_string).collect()
    }

    /// Pretends that an initiator has logged in.
    pub fn add_session(&self, session: SessionInfo) {
        self.inner().sessions.push(session);
    }

    /// Pretends that a host has connected.
    pub fn add_controller(&self, controller: ControllerInfo) {
        self.inner().controllers.push(controller);
    }

    /// Pretends that the node drives a device; one of that name is replaced.
    pub fn set_device(&self, device: DeviceReport) {
        let mut inner = self.inner();
        inner.devices.retain(|known| known.name != device.name);
        inner.devices.push(device);
    }

    /// Pretends that I/O was done on a volume that is served.
    pub fn record(&self, volume: &str, operation: &str, bytes: u64, latency_ns: u64) {
        let inner = self.inner();
        let open = inner.volumes.values().find(|open| open.spec.name.as_str() == volume);
        let stats =
            open.and_then(|open| open.stats.op(operation)).expect("the volume is open and has the operation");
        stats.record(bytes, latency_ns);
    }

    fn perform(&self, inner: &mut Inner, request: Request) -> Result<Reply, PlaneError> {
        if inner.drained {
            return Err(PlaneError::ShuttingDown);
        }
        match request {
            Request::OpenVolume { spec, path } => self.open(inner, spec, path, false),
            Request::CreateVolume { spec, path } => self.open(inner, spec, path, true),
            Request::CloseVolume { name } => {
                inner.close(&name)?;
                Ok(Reply::Done)
            }
            Request::DeleteVolume { spec, path } => {
                inner.close(&spec.name)?;
                if let Some(path) = path {
                    self.disk().remove(&path);
                }
                Ok(Reply::Done)
            }
            Request::GrowVolume { name, size_bytes } => self.grow(inner, &name, size_bytes),
            Request::SetTarget { target } => {
                for volume in target.spec.luns.values() {
                    inner.volume(volume)?;
                }
                inner.targets.insert(target.spec.name.clone(), *target);
                Ok(Reply::Done)
            }
            Request::RemoveTarget { name } => {
                inner.targets.remove(&name);
                inner.sessions.retain(|session| session.target.as_ref() != Some(&name));
                Ok(Reply::Done)
            }
            Request::Accept => Ok(Reply::Done),
            Request::Sessions => Ok(Reply::Sessions(inner.sessions.clone())),
            Request::DropSession { id } => {
                let before = inner.sessions.len();
                inner.sessions.retain(|session| session.id != id);
                match inner.sessions.len() == before {
                    true => Err(PlaneError::NotFound { kind: ObjectKind::Session, name: id.to_string() }),
                    false => Ok(Reply::Done),
                }
            }
            Request::SetSubsystem { subsystem } => {
                for volume in subsystem.spec.namespaces.values() {
                    inner.volume(volume)?;
                }
                inner.subsystems.insert(subsystem.spec.nqn.clone(), *subsystem);
                Ok(Reply::Done)
            }
            Request::RemoveSubsystem { nqn } => {
                inner.subsystems.remove(&nqn);
                inner.controllers.retain(|controller| controller.id.subsystem != nqn);
                Ok(Reply::Done)
            }
            Request::SetAnaState { listener, subsystem, state } => {
                inner.set_ana_state(listener, subsystem.as_ref(), state)?;
                Ok(Reply::Done)
            }
            Request::Controllers => Ok(Reply::Controllers(inner.controllers.clone())),
            Request::DropController { id } => inner.drop_controller(&id).map(|()| Reply::Done),
            Request::Stats => Ok(Reply::Stats(self.stats(inner))),
            Request::Drain { .. } => {
                inner.drained = true;
                Ok(Reply::Done)
            }
        }
    }

    fn disk(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (Uuid, u64)>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(
        &self,
        inner: &mut Inner,
        mut spec: VolumeSpec,
        path: Option<PathBuf>,
        create: bool,
    ) -> Result<Reply, PlaneError> {
        if let Some((device, nsid)) = spec.backing.namespace() {
            inner.namespace(device, nsid)?;
        }
        if let Some(path) = &path {
            let mut disk = self.disk();
            match disk.get(path) {
                Some((uuid, size_bytes)) if *uuid == spec.uuid => spec.size_bytes = *size_bytes,
                Some((uuid, _)) => {
                    let (kind, name) = (ObjectKind::Volume, spec.name.to_string());
                    let found = format!("{} with uuid {uuid}", path.display());
                    return Err(PlaneError::AlreadyExists { kind, name, found });
                }
                None if create => {
                    disk.insert(path.clone(), (spec.uuid, spec.size_bytes));
                }
                None => {
                    let reason = "the data file is missing".to_owned();
                    return Err(PlaneError::BackEnd { path: path.clone(), reason });
                }
            }
        }
        let stats =
            Arc::new(StatsSet::new(spec.name.as_str(), &["read", "write", "flush", "unmap", "other"]));
        let facts = facts_of(&spec);
        inner.volumes.insert(spec.name.clone(), OpenVolume { spec, path, stats });
        Ok(Reply::Volume(facts))
    }

    fn grow(&self, inner: &mut Inner, name: &VolumeName, size_bytes: u64) -> Result<Reply, PlaneError> {
        let open = inner.volume(name)?;
        open.spec.size_bytes = size_bytes;
        if let Some(path) = &open.path {
            self.disk().insert(path.clone(), (open.spec.uuid, size_bytes));
        }
        Ok(Reply::Volume(facts_of(&open.spec)))
    }

    fn stats(&self, inner: &Inner) -> StatsReport {
        let volumes = inner.volumes.values().map(|open| VolumeStats {
            name: open.spec.name.clone(),
            stats: open.stats.clone(),
            core: 0,
            size_bytes: open.spec.size_bytes,
            allocated_bytes: Some(0),
        });
        let sessions = inner.sessions.len() as u64;
        let core = CoreReport { core: 0, cpu: None, stats: self.core.clone(), sessions };
        let connected_to = inner.controllers.iter().map(|controller| &controller.id.subsystem);
        let names: BTreeSet<&Nqn> = inner.subsystems.keys().chain(connected_to).collect();
        let subsystems = names.into_iter().map(|nqn| {
            let of_subsystem =
                || inner.controllers.iter().filter(|controller| controller.id.subsystem == *nqn);
            SubsystemStats {
                nqn: nqn.clone(),
                core: 0,
                controllers: of_subsystem().count() as u64,
                connections: of_subsystem().map(|controller| controller.queues.len() as u64).sum(),
            }
        });
        let subsystems = subsystems.collect();
        let devices = inner.devices.clone();
        StatsReport { volumes: volumes.collect(), subsystems, devices, cores: vec![core] }
    }
}

fn facts_of(spec: &VolumeSpec) -> VolumeFacts {
    let notes = Vec::new();
    VolumeFacts { core: 0, size_bytes: spec.size_bytes, volatile_write_cache: true, notes }
}

impl Inner {
    fn volume(&mut self, name: &VolumeName) -> Result<&mut OpenVolume, PlaneError> {
        let missing = || PlaneError::NotFound { kind: ObjectKind::Volume, name: name.to_string() };
        self.volumes.get_mut(name).ok_or_else(missing)
    }

    /// A volume lives on a namespace only while its device takes I/O.
    fn namespace(&self, name: &DeviceName, nsid: u32) -> Result<(), PlaneError> {
        let missing = || PlaneError::NotFound { kind: ObjectKind::Device, name: name.to_string() };
        let device = self.devices.iter().find(|device| device.name == *name).ok_or_else(missing)?;
        let refused = |reason: String| PlaneError::Device { device: name.to_string(), reason };
        if device.state != DeviceState::Ready {
            return Err(refused(device.problem.clone().unwrap_or_else(|| device.state.as_str().to_owned())));
        }
        match device.namespaces.iter().any(|namespace| namespace.nsid == nsid) {
            true => Ok(()),
            false => Err(refused(format!("it has no namespace {nsid}"))),
        }
    }

    fn close(&mut self, name: &VolumeName) -> Result<(), PlaneError> {
        let mapped =
            self.targets.values().find(|target| target.spec.luns.values().any(|volume| volume == name));
        if let Some(target) = mapped {
            let (kind, name) = (ObjectKind::Volume, name.to_string());
            return Err(PlaneError::InUse { kind, name, by: format!("target {}", target.spec.name) });
        }
        let attached = self.subsystems.values().find(|subsystem| subsystem.spec.nsid_of(name).is_some());
        if let Some(subsystem) = attached {
            let (kind, name) = (ObjectKind::Volume, name.to_string());
            return Err(PlaneError::InUse { kind, name, by: format!("subsystem {}", subsystem.spec.nqn) });
        }
        self.volumes.remove(name);
        Ok(())
    }

    fn drop_controller(&mut self, id: &ControllerId) -> Result<(), PlaneError> {
        let before = self.controllers.len();
        self.controllers.retain(|controller| controller.id != *id);
        match self.controllers.len() == before {
            true => Err(PlaneError::NotFound { kind: ObjectKind::Controller, name: id.to_string() }),
            false => Ok(()),
        }
    }

    fn set_ana_state(
        &mut self,
        listener: PortId,
        subsystem: Option<&Nqn>,
        state: AnaState,
    ) -> Result<(), PlaneError> {
        if let Some(nqn) = subsystem.filter(|nqn| !self.subsystems.contains_key(*nqn)) {
            return Err(PlaneError::NotFound { kind: ObjectKind::Subsystem, name: nqn.to_string() });
        }
        let chosen = self.subsystems.values_mut();
        for served in chosen.filter(|served| subsystem.is_none_or(|nqn| *nqn == served.spec.nqn)) {
            let missing = || PlaneError::NotFound { kind: ObjectKind::Listener, name: listener.to_string() };
            *served.ana.get_mut(&listener).ok_or_else(missing)? = state;
        }
        Ok(())
    }
}

impl DataPlane for FakeDataPlane {
    fn submit(&self, request: Request, responder: Responder) {
        let mut inner = self.inner();
        let name = request.name();
        inner.log.push(name);
        let fault = inner.faults.get_mut(name).and_then(VecDeque::pop_front);
        match fault {
            None => {
                let answer = self.perform(&mut inner, request);
                responder.answer(answer);
            }
            Some(Fault::Fail(error)) => responder.answer(Err(error)),
            Some(Fault::DoneButSilent) => {
                let _lost = self.perform(&mut inner, request);
                inner.unanswered.push(responder);
            }
            Some(Fault::Silent) => inner.unanswered.push(responder),
        }
    }
}

//! Carries control's requests to the cores and their answers back.
//!
//! Two threads: one makes changes, in order, and may block on files; one answers questions, so that a long change
//! delays none. Neither ever waits for a core without a bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::bridge::{
    DataPlane, ObjectKind, PlaneError, Reply, Request, Responder, StatsReport, VolumeStats,
};
use control::model::{ConnectionInfo, SessionId, SessionInfo, VolumeSpec};
use iscsi_target::TargetError;
use iscsi_target::message::{Answer, CoreMessage, Directory, SessionReport};
use reactor::stats::StatsSet;
use volume::bdev::BdevInfo;
use volume::shared::{VolumeError, VolumeMessage};

use crate::devices::plane::Home;
use crate::memory::NodeMemory;
use crate::placement::Placement;
use crate::subsystems::NvmfListener;
use crate::wiring::{CoreHandle, SharedCores, stop_cores};

/// A core that has not answered by then is stuck; control has given up before.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A question must not wait behind a stuck core.
pub(crate) const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);
/// What a device gets at least to write out what it holds.
const DEVICE_SHUTDOWN: Duration = Duration::from_secs(10);
/// Requests that may wait for a thread; control's own bound is lower.
const QUEUE_REQUESTS: usize = 256;

/// The portals with one tag.
#[derive(Clone, Debug)]
pub(crate) struct PortalGroup {
    pub tag: u16,
    pub advertised: Vec<SocketAddr>,
}

/// Where the node is reached, as discovery tells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// iSCSI.
    pub groups: Vec<PortalGroup>,
    /// NVMe/TCP.
    pub listeners: Vec<NvmfListener>,
}

/// An open volume, as the plane remembers it.
pub(crate) struct OpenVolume {
    pub spec: VolumeSpec,
    pub path: Option<PathBuf>,
    pub info: BdevInfo,
    pub stats: Arc<StatsSet>,
    pub notes: Vec<String>,
}

/// What both threads know.
#[derive(Default)]
pub(crate) struct State {
    pub volumes: BTreeMap<String, OpenVolume>,
    pub placement: Placement,
    pub directory: Directory,
    pub subsystems: nvmf_target::message::Directory,
    pub drained: bool,
}

type Work = (Request, Responder);

/// The data plane of this node.
pub(crate) struct NodePlane {
    changes: mpsc::SyncSender<Work>,
    questions: mpsc::SyncSender<Work>,
    cores: SharedCores,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One thread's view.
pub(crate) struct Worker {
    pub cores: SharedCores,
    pub state: Arc<Mutex<State>>,
    pub addresses: Addresses,
    pub devices: Arc<[Home]>,
    pub memory: NodeMemory,
}

impl NodePlane {
    /// Starts the two threads over running cores.
    pub fn start(
        cores: Vec<CoreHandle>,
        addresses: Addresses,
        devices: Vec<Home>,
        memory: &NodeMemory,
    ) -> Self {
        let devices: Arc<[Home]> = devices.into();
        let cores = Arc::new(Mutex::new(cores));
        let state = Arc::new(Mutex::new(State::default()));
        let mut threads = Vec::new();
        let mut spawn = |name: &str| {
            let worker = Worker {
                cores: cores.clone(),
                state: state.clone(),
                addresses: addresses.clone(),
                devices: devices.clone(),
                memory: memory.clone(),
            };
            let (sender, receiver) = mpsc::sync_channel::<Work>(QUEUE_REQUESTS);
            let run = move || {
                while let Ok((request, responder)) = receiver.recv() {
                    responder.answer(worker.serve(request));
                }
            };
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            threads.push(thread.expect("the process may start two threads"));
            sender
        };
        let (changes, questions) = (spawn("vega-changes"), spawn("vega-questions"));
        Self { changes, questions, cores, threads: Mutex::new(threads) }
    }

    /// The cores, for the thread that keeps their devices.
    pub fn shared_cores(&self) -> SharedCores {
        Arc::clone(&self.cores)
    }

    /// Stops the cores and waits for them. Everything was drained before, or is given up.
    pub fn stop(&self) {
        stop_cores(std::mem::take(&mut *self.cores.lock().expect("no thread panics with the cores")));
        // The threads end with the process: they may be waiting on a slow file system.
        drop(self.threads.lock());
    }
}

impl DataPlane for NodePlane {
    fn submit(&self, request: Request, responder: Responder) {
        let queue = match request {
            Request::Sessions | Request::Controllers | Request::Stats => &self.questions,
            _ => &self.changes,
        };
        if let Err(
            mpsc::TrySendError::Full((_, responder)) | mpsc::TrySendError::Disconnected((_, responder)),
        ) = queue.try_send((request, responder))
        {
            responder.answer(Err(PlaneError::Overloaded { in_flight: QUEUE_REQUESTS }));
        }
    }
}

impl Worker {
    fn serve(&self, request: Request) -> Result<Reply, PlaneError> {
        if self.state().drained
            && !matches!(request, Request::Sessions | Request::Controllers | Request::Stats)
        {
            return Err(PlaneError::ShuttingDown);
        }
        match request {
            Request::OpenVolume { spec, path } => self.open_volume(spec, path, false).map(Reply::Volume),
            Request::CreateVolume { spec, path } => self.open_volume(spec, path, true).map(Reply::Volume),
            Request::CloseVolume { name } => self.close_volume(name.as_str()).map(|()| Reply::Done),
            Request::DeleteVolume { spec, path } => self.delete_volume(&spec, path).map(|()| Reply::Done),
            Request::GrowVolume { name, size_bytes } => {
                self.grow_volume(name.as_str(), size_bytes).map(Reply::Volume)
            }
            Request::SetTarget { target } => self.set_target(*target).map(|()| Reply::Done),
            Request::RemoveTarget { name } => self.remove_target(name.as_str()).map(|()| Reply::Done),
            Request::Accept => self.accept().map(|()| Reply::Done),
            Request::Sessions => self.sessions().map(Reply::Sessions),
            Request::DropSession { id } => self.drop_session(id).map(|()| Reply::Done),
            Request::SetSubsystem { subsystem } => self.set_subsystem(*subsystem).map(|()| Reply::Done),
            Request::RemoveSubsystem { nqn } => self.remove_subsystem(nqn.as_str()).map(|()| Reply::Done),
            Request::SetAnaState { listener, subsystem, state } => {
                self.set_ana_state(listener, subsystem.as_ref(), state).map(|()| Reply::Done)
            }
            Request::Controllers => self.controllers().map(Reply::Controllers),
            Request::DropController { id } => self.drop_controller(&id).map(|()| Reply::Done),
            Request::Stats => self.stats().map(Reply::Stats),
            Request::Drain { grace } => self.drain(grace).map(|()| Reply::Done),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the state")
    }

    pub fn core_count(&self) -> usize {
        self.cores.lock().expect("no thread panics with the cores").len()
    }

    /// Sends a message that carries an answer to a core and waits for it.
    pub fn ask<T: Send + 'static>(
        &self,
        core: usize,
        timeout: Duration,
        message: impl FnOnce(Answer<T>) -> CoreMessage,
    ) -> Result<T, PlaneError> {
        wait_for(timeout, |answer| self.tell(core, message(answer)))
    }

    /// Asks the volumes of a core.
    pub fn ask_volumes<T: Send + 'static>(
        &self,
        core: usize,
        message: impl FnOnce(Answer<Result<T, VolumeError>>) -> VolumeMessage,
    ) -> Result<T, PlaneError> {
        let answered = wait_for(ANSWER_TIMEOUT, |answer| self.tell_volumes(core, message(answer)))?;
        answered.map_err(|error| self.refused_volume(error))
    }

    /// As [`Worker::ask`], for answers that may be a refusal by the target.
    pub fn ask_target<T: Send + 'static>(
        &self,
        core: usize,
        message: impl FnOnce(Answer<Result<T, TargetError>>) -> CoreMessage,
    ) -> Result<T, PlaneError> {
        self.ask(core, ANSWER_TIMEOUT, message)?.map_err(refused)
    }

    /// Sends a message to a core.
    pub fn tell(&self, core: usize, message: CoreMessage) -> Result<(), PlaneError> {
        self.with_core(core, |handle| handle.sender.send(message).is_ok())
    }

    /// Sends a message to the volumes of a core.
    pub fn tell_volumes(&self, core: usize, message: VolumeMessage) -> Result<(), PlaneError> {
        self.with_core(core, |handle| handle.volumes.send(message).is_ok())
    }

    /// Sends something to a core; false is a full mailbox.
    pub fn with_core(&self, core: usize, send: impl FnOnce(&CoreHandle) -> bool) -> Result<(), PlaneError> {
        let cores = self.cores.lock().expect("no thread panics with the cores");
        let handle = cores.get(core).ok_or(PlaneError::ShuttingDown)?;
        if send(handle) { Ok(()) } else { Err(PlaneError::Overloaded { in_flight: QUEUE_REQUESTS }) }
    }

    /// Gives every core the present map of targets.
    pub fn publish_directory(&self) -> Result<(), PlaneError> {
        let directory = Arc::new(self.state().directory.clone());
        for core in 0..self.core_count() {
            self.tell(core, CoreMessage::SetDirectory(directory.clone()))?;
        }
        Ok(())
    }

    fn accept(&self) -> Result<(), PlaneError> {
        (0..self.core_count()).try_for_each(|core| {
            self.tell(core, CoreMessage::Accept)?;
            self.accept_nvmf(core)
        })
    }

    fn sessions(&self) -> Result<Vec<SessionInfo>, PlaneError> {
        let mut all = Vec::new();
        for core in 0..self.core_count() {
            let reports = self.ask(core, QUESTION_TIMEOUT, CoreMessage::Sessions)?;
            all.extend(reports.into_iter().map(session_info));
        }
        Ok(all)
    }

    fn drop_session(&self, id: SessionId) -> Result<(), PlaneError> {
        let core = id.core as usize;
        let missing = || PlaneError::NotFound { kind: ObjectKind::Session, name: id.to_string() };
        if core >= self.core_count() {
            return Err(missing());
        }
        let dropped =
            self.ask(core, ANSWER_TIMEOUT, |answer| CoreMessage::DropSession { tsih: id.tsih, answer })?;
        if dropped { Ok(()) } else { Err(missing()) }
    }

    fn stats(&self) -> Result<StatsReport, PlaneError> {
        let mut sessions = vec![0; self.core_count()];
        for (core, count) in sessions.iter_mut().enumerate() {
            *count = self.ask(core, QUESTION_TIMEOUT, CoreMessage::Sessions)?.len() as u64;
        }
        let mut volumes: Vec<VolumeStats> = {
            let state = self.state();
            let open = state.volumes.iter();
            open.map(|(name, volume)| VolumeStats {
                name: volume.spec.name.clone(),
                stats: volume.stats.clone(),
                core: state.placement.volume(name).unwrap_or_default() as u32,
                size_bytes: size_bytes(&volume.info),
                allocated_bytes: None,
            })
            .collect()
        };
        for volume in &mut volumes {
            let name = volume.name.to_string();
            let core = volume.core as usize;
            let asked: Result<Result<Option<u64>, VolumeError>, PlaneError> =
                wait_for(QUESTION_TIMEOUT, |answer| {
                    self.tell_volumes(core, VolumeMessage::AllocatedBytes { name, answer })
                });
            // A volume that went away meanwhile simply has no number.
            volume.allocated_bytes = asked?.ok().flatten();
        }
        let subsystems = self.subsystem_stats()?;
        let devices = self.device_reports()?;
        let cores = self.cores.lock().expect("no thread panics with the cores");
        let cores = cores.iter().zip(sessions).enumerate();
        let cores = cores.map(|(index, (core, sessions))| core.report(index, sessions)).collect();
        Ok(StatsReport { volumes, subsystems, devices, cores })
    }

    /// The front ends end first, then the volumes below them are flushed and closed, then devices are shut down.
    fn drain(&self, grace: Duration) -> Result<(), PlaneError> {
        self.state().drained = true;
        let end = Instant::now() + grace;
        let left = || end.saturating_duration_since(Instant::now());
        self.on_all_cores(left(), |core, answer| self.tell(core, CoreMessage::Drain(answer)))?;
        self.on_all_cores(left(), |core, answer| self.drain_nvmf(core, answer))?;
        self.on_all_cores(left(), |core, answer| self.tell_volumes(core, VolumeMessage::Drain(answer)))?;
        // Devices that had no time to shut down count this as a loss of power.
        self.on_all_cores(left().max(DEVICE_SHUTDOWN), |core, answer| self.drain_devices(core, answer))
    }

    /// Sends something to every core and waits until all of them have answered, side by side.
    fn on_all_cores(
        &self,
        grace: Duration,
        tell: impl Fn(usize, Answer<()>) -> Result<(), PlaneError>,
    ) -> Result<(), PlaneError> {
        let end = Instant::now() + grace;
        let (sender, receiver) = mpsc::channel();
        let cores = self.core_count();
        for core in 0..cores {
            let sender = sender.clone();
            let answer = Box::new(move |()| {
                // Nobody waits any more when the grace has passed.
                let _ = sender.send(());
            });
            tell(core, answer)?;
        }
        let after_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..cores {
            receiver
                .recv_timeout(end.saturating_duration_since(Instant::now()))
                .map_err(|_| PlaneError::DeadlineExceeded { request: "drain", after_ms })?;
        }
        Ok(())
    }

    /// A refusal of the volumes in control's words.
    fn refused_volume(&self, error: VolumeError) -> PlaneError {
        let reason = error.to_string();
        match error {
            VolumeError::NoSuchVolume { name } => PlaneError::NotFound { kind: ObjectKind::Volume, name },
            VolumeError::VolumeExists { name } => {
                PlaneError::AlreadyExists { kind: ObjectKind::Volume, name, found: reason }
            }
            VolumeError::InUse { name } => {
                let user = self.state().placement.user(&name).map(|user| format!("target {user}"));
                let by = user.unwrap_or_else(|| "a front end that is still ending".into());
                PlaneError::InUse { kind: ObjectKind::Volume, name, by }
            }
            VolumeError::Closing { name } => closing(name),
            VolumeError::Draining => PlaneError::ShuttingDown,
            VolumeError::Shrinks { .. } => PlaneError::Unsupported { field: "size_bytes", reason },
            VolumeError::Full { .. } | VolumeError::NoMemory { .. } => no_space(reason),
            VolumeError::Adopt { .. } | VolumeError::Reservations { .. } | VolumeError::NotTheSame { .. } => {
                PlaneError::Unsupported { field: "volume", reason }
            }
        }
    }
}

/// Sends what carries an answer and waits for it.
pub(crate) fn wait_for<T: Send + 'static>(
    timeout: Duration,
    tell: impl FnOnce(Answer<T>) -> Result<(), PlaneError>,
) -> Result<T, PlaneError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The receiver is gone when we stopped waiting: then nobody wants the answer.
    tell(Box::new(move |value| drop(sender.try_send(value))))?;
    let after_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    receiver
        .recv_timeout(timeout)
        .map_err(|_| PlaneError::DeadlineExceeded { request: "core-message", after_ms })
}

fn closing(name: String) -> PlaneError {
    PlaneError::InUse { kind: ObjectKind::Volume, name, by: "its last I/O; it is still being closed".into() }
}

fn no_space(detail: String) -> PlaneError {
    PlaneError::NoSpace { what: "it on the core".into(), detail }
}

/// The size of a device in bytes.
pub(crate) fn size_bytes(info: &BdevInfo) -> u64 {
    info.length_blocks * u64::from(info.logical_block_bytes)
}

fn session_info(report: SessionReport) -> SessionInfo {
    let connections = report.connections.into_iter();
    SessionInfo {
        id: SessionId { core: report.core as u32, tsih: report.tsih },
        initiator: report.initiator_name,
        isid: report.isid,
        target: report.target_name.and_then(|name| name.parse().ok()),
        connections: connections
            .map(|(connection_id, peer)| ConnectionInfo { connection_id, peer })
            .collect(),
        tasks: report.tasks as u64,
    }
}

/// A refusal of the target in control's words.
fn refused(error: TargetError) -> PlaneError {
    let reason = error.to_string();
    match error {
        TargetError::NoSuchVolume { name } => PlaneError::NotFound { kind: ObjectKind::Volume, name },
        TargetError::NoSuchTarget { name } => PlaneError::NotFound { kind: ObjectKind::Target, name },
        TargetError::Closing { name } => closing(name),
        TargetError::Draining => PlaneError::ShuttingDown,
        TargetError::Full { .. } => no_space(reason),
    }
}

//! Starts the cores, binds the portals and hands everything to control.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use control::bridge::CoreReport;
use control::cli::NodeStart;
use control::config::{Config, Cores, IdlePolicy as ConfiguredIdle, ListenerConfig, PortalConfig};
use control::model::Listener;
use control::run::{NodeControl, run_node};
use iscsi_proto::params::Offers;
use iscsi_target::message::CoreMessage;
use iscsi_target::setup::{ChapPause, ChapPauses, Settings};
use iscsi_target::{Portal, TargetCore};
use nvmf_target::NvmfCore;
use reactor::core::{Core, CoreConfig, CoreError, CoreId, CoreThread, available_cores, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::mesh::{ControlSender, Endpoint, Mesh};
use reactor::poller::Poller;
use reactor::wake::Waker;
use volume::shared::{Registry, VolumeCore, VolumeMessage};

use crate::devices::keeper::Keeper;
use crate::devices::message::DeviceMessage;
use crate::devices::plane::{Home, homes};
use crate::devices::poller::DeviceCore;
use crate::devices::take::{Facts, Source, take_all};

use crate::memory::NodeMemory;
use crate::plane::{Addresses, NodePlane, PortalGroup};
use crate::subsystems::NvmfListener;

/// Messages that may wait between two cores, or between control and a core.
const MAILBOX_MESSAGES: usize = 1024;

/// How often an address that is in use is tried again at start, and the pause between two tries.
const LISTEN_TRIES: u32 = 60;
const LISTEN_PAUSE: Duration = Duration::from_millis(50);

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(
        "processor {processor} in reactor.cores is not one this process may use ({usable}); change reactor.cores"
    )]
    NoSuchProcessor { processor: u32, usable: String },
    #[error("cannot start core {index}: {source}")]
    Core { index: usize, source: CoreError },
    #[error("cannot make an eventfd: {0}; raise the limit on open files (ulimit -n)")]
    Waker(std::io::Error),
    #[error("cannot listen on {address}: {source}; is another target running there? Change {key} or stop it")]
    Listen { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("{key} advertises {address:?}, which is no address:port ({source})")]
    Advertise { key: &'static str, address: String, source: std::io::Error },
    #[error("the core ended before it had bound its portals")]
    Lost,
}

/// A core as the plane reaches it.
pub(crate) struct CoreHandle {
    pub sender: ControlSender<CoreMessage>,
    pub nvmf: ControlSender<nvmf_target::message::CoreMessage>,
    pub volumes: ControlSender<VolumeMessage>,
    pub devices: ControlSender<DeviceMessage>,
    pub thread: CoreThread,
    pub processor: Option<u32>,
}

impl CoreHandle {
    /// What control shows of it.
    pub fn report(&self, index: usize, sessions: u64) -> CoreReport {
        CoreReport { core: index as u32, cpu: self.processor, sessions, stats: self.thread.stats() }
    }
}

/// Starts a node and runs it until it is told to stop.
pub fn start_node(start: NodeStart) -> ExitCode {
    let NodeStart { config, log, config_file } = start;
    let processors = match choose_processors(&config.reactor.cores) {
        Ok(processors) => processors,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (taken, loans) = take_all(&config, processors.len(), nvme_pci::Host::this());
    let (devices, sources) = homes(taken, processors.len());
    let memory = NodeMemory::new(Path::new("/"));
    let (data_plane, bound) = match start_plane(&config, &processors, sources, devices, &memory) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("{error}");
            // No core runs any more, so what was taken goes back to the kernel here.
            return ExitCode::FAILURE;
        }
    };
    let keeper = Keeper::start(loans, data_plane.shared_cores(), memory);
    let data_plane = Arc::new(data_plane);
    let portals = bound.portals.iter().map(|(address, tag)| format!("{address},{tag}")).collect();
    let listeners = bound.listeners;
    let code = run_node(NodeControl {
        config,
        data_plane: data_plane.clone(),
        portals,
        listeners,
        log,
        config_file,
    });
    // Before the cores, so that no device comes to them any more; after them what was taken goes back to the kernel.
    let loans = keeper.stop();
    data_plane.stop();
    drop(loans);
    code
}

/// The cores, and the threads that ask them. When one of them does not start, none is left running.
pub(crate) fn start_plane(
    config: &Config,
    processors: &[Option<CoreId>],
    sources: Vec<Vec<(Facts, Source)>>,
    devices: Vec<Home>,
    memory: &NodeMemory,
) -> Result<(NodePlane, Bound), StartError> {
    let (cores, bound) = start_cores(config, processors, sources)?;
    let addresses = addresses(config, &bound)?;
    for (index, core) in cores.0.iter().enumerate() {
        announce_memory(index, core);
    }
    Ok((NodePlane::start(cores.run(), addresses, devices, memory), bound))
}

/// Cores that are to end again unless everything starts.
struct Starting(Vec<CoreHandle>);

impl Starting {
    fn run(mut self) -> Vec<CoreHandle> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        stop_cores(std::mem::take(&mut self.0));
    }
}

/// Stops cores and waits until they have ended, with everything on them.
pub(crate) fn stop_cores(cores: Vec<CoreHandle>) {
    for core in &cores {
        core.thread.stop();
    }
    for core in cores {
        core.thread.join();
    }
}

/// What the cores listen on.
#[derive(Default)]
pub(crate) struct Bound {
    /// iSCSI: address and portal group.
    portals: Vec<(SocketAddr, u16)>,
    /// NVMe/TCP, as hosts are told.
    listeners: Vec<Listener>,
}

fn start_cores(
    config: &Config,
    processors: &[Option<CoreId>],
    sources: Vec<Vec<(Facts, Source)>>,
) -> Result<(Starting, Bound), StartError> {
    let wakers: Vec<Waker> =
        processors.iter().map(|_| Waker::new()).collect::<Result<_, _>>().map_err(StartError::Waker)?;
    let volumes = Mesh::with_wakers(&wakers, MAILBOX_MESSAGES);
    let iscsi = Mesh::with_wakers(&wakers, MAILBOX_MESSAGES);
    let nvmf = Mesh::with_wakers(&wakers, MAILBOX_MESSAGES);
    let devices = Mesh::with_wakers(&wakers, MAILBOX_MESSAGES);
    let endpoints = volumes.into_iter().zip(iscsi).zip(nvmf).zip(devices.into_iter().zip(sources));
    let notices = crate::notices::listen();
    let mut cores = Starting(Vec::with_capacity(processors.len()));
    let mut bound = Bound::default();
    for (index, ((processor, waker), endpoints)) in processors.iter().zip(wakers).zip(endpoints).enumerate() {
        let (((volumes, iscsi), nvmf), (devices, sources)) = endpoints;
        let (sender, nvmf_sender) = (iscsi.control_sender(), nvmf.control_sender());
        let (volumes_sender, devices_sender) = (volumes.control_sender(), devices.control_sender());
        let core_config = CoreConfig {
            core: *processor,
            idle: idle_policy(config),
            buffer_bytes: usize::try_from(config.reactor.buffer_bytes.0).unwrap_or(usize::MAX),
            name: format!("vega-core-{index}"),
            stall_us: config.reactor.stall_us,
            waker: Some(waker),
        };
        // The first core accepts; each connection moves to the core of its target or subsystem.
        let accepts = index == 0;
        let setup = CoreSetup {
            settings: settings(config, processors.len(), notices.clone()),
            nvmf_settings: nvmf_settings(config),
            volumes,
            iscsi,
            nvmf,
            devices,
            sources,
            portals: if accepts { config.iscsi.portals.clone() } else { Vec::new() },
            listeners: if accepts { config.nvmf.listeners.clone() } else { Vec::new() },
        };
        let (told, listening) = mpsc::channel();
        let thread = spawn_core(core_config, move |core: &Core| {
            let set_up = setup.pollers(core);
            let (pollers, result) = match set_up {
                Ok((pollers, bound)) => (pollers, Ok(bound)),
                Err(error) => (Vec::new(), Err(error)),
            };
            told.send(result).expect("the starter waits for this");
            pollers
        });
        let thread = thread.map_err(|source| StartError::Core { index, source })?;
        let processor = processor.map(|CoreId(id)| id as u32);
        cores.0.push(CoreHandle {
            sender,
            nvmf: nvmf_sender,
            volumes: volumes_sender,
            devices: devices_sender,
            thread,
            processor,
        });
        let here = listening.recv().map_err(|_| StartError::Lost)??;
        bound.portals.extend(here.portals);
        bound.listeners.extend(here.listeners);
    }
    Ok((cores, bound))
}

/// What a core's own thread needs to make its pollers.
struct CoreSetup {
    settings: Settings,
    nvmf_settings: nvmf_target::setup::Settings,
    volumes: Endpoint<VolumeMessage>,
    iscsi: Endpoint<CoreMessage>,
    nvmf: Endpoint<nvmf_target::message::CoreMessage>,
    devices: Endpoint<DeviceMessage>,
    sources: Vec<(Facts, Source)>,
    portals: Vec<PortalConfig>,
    listeners: Vec<ListenerConfig>,
}

impl CoreSetup {
    /// Runs on the core's own thread: binds what it listens on and makes its pollers.
    fn pollers(self, core: &Core) -> Result<(Vec<Box<dyn Poller>>, Bound), StartError> {
        let mut bound = Bound::default();
        let mut portals = Vec::new();
        for portal in &self.portals {
            let listener = listen(core, "iscsi.portal", portal.listen)?;
            bound.portals.push((listener.local(), portal.tag));
            portals.push(Portal { listener, portal_group_tag: portal.tag });
        }
        let mut nvmf_portals = Vec::new();
        for configured in &self.listeners {
            let listener = listen(core, "nvmf.listener", configured.listen)?;
            bound.listeners.push(configured.listener(listener.local()));
            nvmf_portals.push(nvmf_target::Portal { listener, port_id: configured.tag });
        }
        let registry = Registry::new();
        let iscsi = TargetCore::new(core, self.settings, registry.clone(), self.iscsi, portals);
        let nvmf = NvmfCore::new(core, self.nvmf_settings, self.nvmf, nvmf_portals, registry.clone());
        // The devices come last: what all the others have submitted goes out by one doorbell.
        let devices = DeviceCore::new(core, registry.clone(), self.sources, self.devices);
        // The volumes come first: what they have to say is then heard in the same turn.
        let volumes = VolumeCore::new(core, registry, self.volumes);
        Ok((vec![Box::new(volumes), Box::new(iscsi), Box::new(nvmf), Box::new(devices)], bound))
    }
}

/// Binds, on the core's own thread before its loop begins. An address in use is tried again for a while: the kernel takes the
/// io_uring of a process that was killed apart in the background, and until then its listening sockets are there.
fn listen(
    core: &Core,
    key: &'static str,
    address: SocketAddr,
) -> Result<Box<dyn reactor::net::Listener>, StartError> {
    let mut tries = 0;
    loop {
        match core.network.listen(address) {
            Ok(listener) => return Ok(listener),
            Err(source) if source.kind() == ErrorKind::AddrInUse && tries < LISTEN_TRIES => {
                if tries == 0 {
                    tracing::warn!("{address} is in use; trying again for a while");
                }
                tries += 1;
                std::thread::sleep(LISTEN_PAUSE);
            }
            Err(source) => return Err(StartError::Listen { key, address, source }),
        }
    }
}

fn settings(config: &Config, cores: usize, notices: SyncSender<ChapPause>) -> Settings {
    let limits = &config.iscsi.limits;
    let timeouts = &config.iscsi.timeouts;
    let chap = &config.iscsi.chap;
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    // The configuration was checked: these fit.
    let bytes = |size: control::model::ByteSize| u32::try_from(size.0).unwrap_or(u32::MAX);
    Settings {
        offers: Offers {
            max_recv_data_segment_length: bytes(limits.max_recv_data_segment_bytes),
            max_burst_length: bytes(limits.max_burst_bytes),
            first_burst_length: bytes(limits.first_burst_bytes),
            max_connections: limits.connections_per_session,
            max_outstanding_r2t: limits.outstanding_r2t,
            ..Offers::default()
        },
        queue_depth: u32::from(limits.queue_depth),
        sessions_max: (limits.sessions as usize).div_ceil(cores),
        login_timeout: seconds(timeouts.login_s),
        ping_interval: seconds(timeouts.nop_interval_s),
        ping_timeout: seconds(timeouts.nop_answer_s),
        chap_pauses: ChapPauses {
            failures_until_pause: chap.failures_until_pause,
            first: seconds(chap.pause_first_s),
            longest: seconds(chap.pause_longest_s),
            forget: seconds(chap.forget_s),
        },
        starts_closed: true,
        notices: Some(notices),
    }
}

fn nvmf_settings(config: &Config) -> nvmf_target::setup::Settings {
    let limits = &config.nvmf.limits;
    nvmf_target::setup::Settings {
        io_queues_max: limits.io_queues_per_controller,
        queue_entries_max: limits.queue_depth,
        // The configuration was checked: it fits.
        in_capsule_bytes: usize::try_from(limits.in_capsule_data_bytes.0).unwrap_or(0),
        connect_timeout: Duration::from_secs(u64::from(config.nvmf.timeouts.connect_s)),
        starts_closed: true,
        ..nvmf_target::setup::Settings::default()
    }
}

fn idle_policy(config: &Config) -> IdlePolicy {
    match config.reactor.idle {
        ConfiguredIdle::Adaptive => IdlePolicy::Adaptive { spin_us: config.reactor.spin_us },
        ConfiguredIdle::Poll => IdlePolicy::Poll,
    }
}

/// Every second processor by default, at least one; `None` where the system names none.
pub(crate) fn choose_processors(cores: &Cores) -> Result<Vec<Option<CoreId>>, StartError> {
    let usable = available_cores();
    match cores {
        Cores::Auto => {
            let chosen: Vec<_> =
                usable.iter().step_by(2).take(usable.len().div_ceil(2)).map(|c| Some(*c)).collect();
            Ok(if chosen.is_empty() { vec![None] } else { chosen })
        }
        Cores::List(list) => list
            .iter()
            .map(|processor| {
                let wanted = CoreId(*processor as usize);
                if usable.contains(&wanted) {
                    return Ok(Some(wanted));
                }
                let names: Vec<String> = usable.iter().map(|CoreId(id)| id.to_string()).collect();
                Err(StartError::NoSuchProcessor { processor: *processor, usable: names.join(", ") })
            })
            .collect(),
    }
}

/// What discovery tells. A portal without an advertised address is told as reached; so is a listener that is bound to all
/// addresses.
fn addresses(config: &Config, bound: &Bound) -> Result<Addresses, StartError> {
    let mut all = Addresses::default();
    for portal in &config.iscsi.portals {
        let advertised = match &portal.advertise {
            Some(address) => resolve("iscsi.portal", address)?,
            None => Vec::new(),
        };
        match all.groups.iter_mut().find(|group| group.tag == portal.tag) {
            Some(group) => group.advertised.extend(advertised),
            None => all.groups.push(PortalGroup { tag: portal.tag, advertised }),
        }
    }
    for listener in &bound.listeners {
        let addresses = resolve("nvmf.listener", &listener.address)?;
        all.listeners.push(NvmfListener { tag: listener.tag, addresses });
    }
    Ok(all)
}

fn resolve(key: &'static str, address: &str) -> Result<Vec<SocketAddr>, StartError> {
    let resolved = address.to_socket_addrs();
    let refused = |source| StartError::Advertise { key, address: address.to_owned(), source };
    Ok(resolved.map_err(refused)?.collect())
}

fn announce_memory(index: usize, core: &CoreHandle) {
    if let Some(report) = core.thread.stats().memory() {
        tracing::info!(core = index, "buffers: {report}");
    }
}

/// The cores, shared by the plane's threads; taken out to be joined when the node stops.
pub(crate) type SharedCores = Arc<Mutex<Vec<CoreHandle>>>;

#[cfg(test)]
mod tests {
    use super::*;

    /// The target's own defaults hold in tests and simulations: what those prove is what a node without a configuration does.
    #[test]
    fn the_configured_pauses_reach_the_target_and_are_its_own_by_default() {
        let mut config = Config::default();
        let pauses = |config: &Config| settings(config, 1, mpsc::sync_channel(1).0).chap_pauses;
        assert_eq!(pauses(&config), ChapPauses::default());
        let chap = &mut config.iscsi.chap;
        (chap.failures_until_pause, chap.pause_first_s, chap.pause_longest_s, chap.forget_s) = (7, 8, 9, 10);
        let [first, longest, forget] = [8, 9, 10].map(Duration::from_secs);
        assert_eq!(pauses(&config), ChapPauses { failures_until_pause: 7, first, longest, forget });
    }
}

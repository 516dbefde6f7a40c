//! Starts the cores, binds the portals and hands everything to control.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use control::bridge::CoreReport;
use control::cli::NodeStart;
use control::config::{Config, Cores, IdlePolicy as ConfiguredIdle, PortalConfig};
use control::run::{NodeControl, run_node};
use iscsi_proto::params::Offers;
use iscsi_target::message::CoreMessage;
use iscsi_target::setup::Settings;
use iscsi_target::{Portal, TargetCore};
use reactor::core::{Core, CoreConfig, CoreError, CoreId, CoreThread, available_cores, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::mesh::{ControlSender, Endpoint, Mesh};
use reactor::poller::Poller;
use reactor::wake::Waker;

use crate::plane::{NodePlane, PortalGroup};

/// Messages that may wait between two cores, or between control and a core.
const MAILBOX_MESSAGES: usize = 1024;

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(
        "processor {processor} in reactor.cores is not one this process may use ({usable}); change reactor.cores"
    )]
    NoSuchProcessor { processor: u32, usable: String },
    #[error("cannot start core {index}: {source}")]
    Core { index: usize, source: CoreError },
    #[error("cannot make an eventfd: {0}; raise the limit on open files (ulimit -n)")]
    Waker(std::io::Error),
    #[error(
        "cannot listen on {address}: {source}; is another target running there? Change iscsi.portal or stop it"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("iscsi.portal advertises {address:?}, which is no address:port ({source})")]
    Advertise { address: String, source: std::io::Error },
    #[error("the core ended before it had bound its portals")]
    Lost,
}

/// A core as the plane reaches it.
pub(crate) struct CoreHandle {
    pub sender: ControlSender<CoreMessage>,
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
    let started = start_cores(&config);
    let (cores, bound, groups) = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for (index, core) in cores.iter().enumerate() {
        announce_memory(index, core);
    }
    let portals = bound.iter().map(|(address, tag)| format!("{address},{tag}")).collect();
    let data_plane = Arc::new(NodePlane::start(cores, groups));
    let code = run_node(NodeControl { config, data_plane: data_plane.clone(), portals, log, config_file });
    data_plane.stop();
    code
}

type Started = (Vec<CoreHandle>, Vec<(SocketAddr, u16)>, Vec<PortalGroup>);

fn start_cores(config: &Config) -> Result<Started, StartError> {
    let groups = portal_groups(config)?;
    let processors = choose_processors(&config.reactor.cores)?;
    let wakers: Vec<Waker> =
        processors.iter().map(|_| Waker::new()).collect::<Result<_, _>>().map_err(StartError::Waker)?;
    let endpoints = Mesh::<CoreMessage>::with_wakers(&wakers, MAILBOX_MESSAGES);
    let mut cores = Vec::with_capacity(processors.len());
    let mut bound = Vec::new();
    for (index, ((processor, waker), endpoint)) in processors.iter().zip(wakers).zip(endpoints).enumerate() {
        // The first core accepts; each connection moves to the core of its target.
        let portals = if index == 0 { config.iscsi.portals.clone() } else { Vec::new() };
        let sender = endpoint.control_sender();
        let core_config = CoreConfig {
            core: *processor,
            idle: idle_policy(config),
            buffer_bytes: usize::try_from(config.reactor.buffer_bytes.0).unwrap_or(usize::MAX),
            name: format!("vega-core-{index}"),
            stall_us: config.reactor.stall_us,
            waker: Some(waker),
        };
        let settings = settings(config, processors.len());
        let (told, listening) = mpsc::channel();
        let setup = move |core: &Core| set_up(core, settings, endpoint, &portals, &told);
        let thread = spawn_core(core_config, setup).map_err(|source| StartError::Core { index, source })?;
        bound.extend(listening.recv().map_err(|_| StartError::Lost)??);
        let processor = processor.map(|CoreId(id)| id as u32);
        cores.push(CoreHandle { sender, thread, processor });
    }
    Ok((cores, bound, groups))
}

type Listening = Result<Vec<(SocketAddr, u16)>, StartError>;

/// Runs on the core's own thread: binds its portals and makes its poller.
fn set_up(
    core: &Core,
    settings: Settings,
    endpoint: Endpoint<CoreMessage>,
    portals: &[PortalConfig],
    told: &mpsc::Sender<Listening>,
) -> Vec<Box<dyn Poller>> {
    let mut listeners = Vec::new();
    for portal in portals {
        match core.network.listen(portal.listen) {
            Ok(listener) => listeners.push(Portal { listener, portal_group_tag: portal.tag }),
            Err(source) => {
                let error = StartError::Listen { address: portal.listen, source };
                told.send(Err(error)).expect("the starter waits for this");
                return Vec::new();
            }
        }
    }
    let bound = listeners.iter().map(|portal| (portal.listener.local(), portal.portal_group_tag)).collect();
    told.send(Ok(bound)).expect("the starter waits for this");
    vec![Box::new(TargetCore::new(core, settings, endpoint, listeners))]
}

fn settings(config: &Config, cores: usize) -> Settings {
    let limits = &config.iscsi.limits;
    let timeouts = &config.iscsi.timeouts;
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
    }
}

fn idle_policy(config: &Config) -> IdlePolicy {
    match config.reactor.idle {
        ConfiguredIdle::Adaptive => IdlePolicy::Adaptive { spin_us: config.reactor.spin_us },
        ConfiguredIdle::Poll => IdlePolicy::Poll,
    }
}

/// Every second processor by default, at least one; `None` where the system names none.
fn choose_processors(cores: &Cores) -> Result<Vec<Option<CoreId>>, StartError> {
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

/// The addresses that discovery tells, by portal group; a portal without an advertised address is told as reached.
fn portal_groups(config: &Config) -> Result<Vec<PortalGroup>, StartError> {
    let mut groups: Vec<PortalGroup> = Vec::new();
    for portal in &config.iscsi.portals {
        let mut advertised = Vec::new();
        if let Some(address) = &portal.advertise {
            let resolved = address.to_socket_addrs();
            let resolved =
                resolved.map_err(|source| StartError::Advertise { address: address.clone(), source })?;
            advertised.extend(resolved);
        }
        match groups.iter_mut().find(|group| group.tag == portal.tag) {
            Some(group) => group.advertised.extend(advertised),
            None => groups.push(PortalGroup { tag: portal.tag, advertised }),
        }
    }
    Ok(groups)
}

fn announce_memory(index: usize, core: &CoreHandle) {
    let Some(report) = core.thread.stats().memory() else { return };
    match (report.cost(), report.remedy()) {
        (Some(cost), Some(remedy)) => {
            tracing::info!(core = index, "buffers: {report}; cost: {cost}; to change it: {remedy}");
        }
        _ => tracing::info!(core = index, "buffers: {report}"),
    }
}

/// The cores, shared by the plane's threads; taken out to be joined when the node stops.
pub(crate) type SharedCores = Arc<Mutex<Vec<CoreHandle>>>;

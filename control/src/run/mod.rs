//! Life of a node: restore, serve, drain.
//!
//! Order of a start: lock and read the catalog, open the API, open volumes, targets and subsystems, create what the
//! configuration names, say "ready". The API answers from its first moment, `/readyz` says how far things are. Order of a stop:
//! refuse changes, drain the data plane, close the API. A second signal ends the process at once; what was
//! acknowledged is then as safe as after a crash.

mod notify;
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::{self, ApiServer, BindError, Binding, Bound};
use crate::bridge::{Bridge, DataPlane, Request};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, ConfigError, Environment};
use crate::limits::{API_STOP_GRACE, CONTROL_THREADS, RETRY_INTERVAL};
use crate::logging::LogHandle;
use crate::model::Listener;
use crate::service::{NodeFacts, Service};
use signals::{Signal, Signals};

/// What a node is run with.
pub struct NodeControl {
    /// The checked configuration.
    pub config: Config,
    /// The data plane; its cores run and serve nothing yet.
    pub data_plane: Arc<dyn DataPlane>,
    /// The portals as they were really bound (port 0 resolved), `address:port,tag`.
    pub portals: Vec<String>,
    /// The listeners of NVMe/TCP as they were really bound
    /// ([`ListenerConfig::listener`](crate::config::ListenerConfig::listener)); none when it is switched off.
    pub listeners: Vec<Listener>,
    /// From [`NodeStart`](crate::cli::NodeStart).
    pub log: LogHandle,
    /// From [`NodeStart`](crate::cli::NodeStart).
    pub config_file: Option<PathBuf>,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime of the control plane cannot start.
    #[error("cannot start the threads of the control plane: {0}")]
    Runtime(std::io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The data directory.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The API's addresses.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Drained,
    DrainFailed,
    Interrupted,
}

/// Runs control until the node is told to stop, and drains the data plane. Blocks; call it on the main thread.
/// The exit code is 0 after a drain, 1 when it cannot start or the drain failed, 130 after a second signal.
pub fn run_node(node: NodeControl) -> ExitCode {
    let result = runtime().map_err(RunError::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(live(node));
        // Threads that still wait for a disk are not waited for.
        runtime.shutdown_background();
        ended
    });
    match result {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::DrainFailed) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) => {
            tracing::error!(error = %error, "the node does not start");
            ExitCode::FAILURE
        }
    }
}

/// Few threads, of low priority: control must never take time from a core that serves I/O.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .max_blocking_threads(CONTROL_THREADS * 4)
        .thread_name("vega-control")
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
}

fn lower_priority() {
    // On Linux this is the calling thread. Without permission it runs at the priority that it has.
    let _ = rustix::process::nice(19);
}

async fn live(node: NodeControl) -> Result<Ended, RunError> {
    let NodeControl { config, data_plane, portals, listeners, log, config_file } = node;
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    let data_dir = config.node.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Catalog::open(&data_dir)).await;
    let catalog = opened.expect("opening the catalog does not panic and is not cancelled")?;
    if let Some(recovered) = catalog.recovered() {
        tracing::error!("{recovered}");
    }
    let facts = NodeFacts {
        name: config.node.effective_name(),
        data_dir: config.node.data_dir.clone(),
        portals: portals.clone(),
        listeners: listeners.clone(),
        started_at: jiff::Timestamp::now(),
    };
    let service = Service::new(catalog, Bridge::new(data_plane), facts);
    let binding = Binding {
        socket: config.api_socket(),
        listen: config.api.listen,
        allow_remote: config.api.allow_remote,
    };
    let server = ApiServer::bind(&binding).await?;
    announce(&config, server.bound(), &portals, &listeners);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(api::router(service.clone()), stopped, API_STOP_GRACE));

    let restoring = tokio::spawn(restore_and_keep(service.clone(), config.clone()));
    let mut log_source = LogSource { log, config_file };
    while signals.next().await == Signal::Reload {
        log_source.reload();
    }
    restoring.abort();
    let ended = drain(&service, &config, &mut signals).await;
    stop.send_replace(true);
    if ended != Ended::Interrupted {
        // It ends by itself within its grace; a panic in it has been printed.
        let _ = serving.await;
    }
    Ok(ended)
}

/// Every door that the process opens, in plain words.
fn announce(config: &Config, bound: &Bound, portals: &[String], listeners: &[Listener]) {
    let version = crate::version::VERSION_AND_COMMIT;
    tracing::info!(version, data_dir = %config.node.data_dir.display(), "vega node {}", config.node.effective_name());
    tracing::info!(socket = %bound.socket.display(), "API on unix socket {}", bound.socket.display());
    if let Some(address) = bound.listen {
        tracing::info!(%address, "API and metrics on http://{address}");
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the API can be reached from other machines and has no authentication of its own");
        }
    }
    for portal in portals {
        tracing::info!(portal, "iSCSI portal {portal}");
    }
    for Listener { tag, address } in listeners {
        tracing::info!(address, %tag, "NVMe/TCP on {address}, listener tag {tag}");
    }
    if listeners.is_empty() {
        tracing::info!("NVMe/TCP is switched off: there is no listener");
    }
}

async fn restore_and_keep(service: Service, config: Config) {
    service.restore().await;
    service.create_missing(&config).await;
    while let Err(error) = service.bridge().done(Request::Accept).await {
        tracing::error!(error = %error, "the cores do not take connections yet; trying again");
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    for target in service.targets() {
        for warning in &target.warnings {
            tracing::warn!(target_name = %target.spec.name, "{warning}");
        }
    }
    for subsystem in service.subsystems() {
        for warning in &subsystem.warnings {
            tracing::warn!(subsystem = %subsystem.spec.nqn, "{warning}");
        }
    }
    let readiness = service.readiness().await;
    for check in readiness.checks.iter().filter(|check| !check.ok) {
        tracing::error!(check = check.name, "not ready: {}", check.detail.as_deref().unwrap_or("unknown"));
    }
    tracing::info!(ready = readiness.ready, "volumes, targets and subsystems are served");
    notify::tell("READY=1");
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        service.retry_failed().await;
    }
}

async fn drain(service: &Service, config: &Config, signals: &mut Signals) -> Ended {
    let grace = config.iscsi.timeouts.drain();
    tracing::info!(grace_s = grace.as_secs(), "draining; a second signal ends the process at once");
    notify::tell("STOPPING=1");
    service.begin_drain();
    let drained = service.bridge().done(Request::Drain { grace });
    tokio::pin!(drained);
    loop {
        tokio::select! {
            result = &mut drained => return match result {
                Ok(()) => {
                    tracing::info!("drained");
                    Ended::Drained
                }
                Err(error) => {
                    tracing::error!(error = %error, "the drain failed");
                    Ended::DrainFailed
                }
            },
            signal = signals.next() => if signal == Signal::Stop {
                tracing::warn!("ended at once by a second signal");
                return Ended::Interrupted;
            },
        }
    }
}

/// Where the level of the log comes from when it is read again.
struct LogSource {
    log: LogHandle,
    config_file: Option<PathBuf>,
}

impl LogSource {
    fn reload(&mut self) {
        let read = crate::config::load(self.config_file.as_deref(), &Environment::of_process());
        let set = read.map_err(ReloadError::from).and_then(|config| {
            self.log.set_level(&config.log.level).map_err(ReloadError::from)?;
            Ok(config.log.level)
        });
        match set {
            Ok(level) => tracing::info!(level, "log level was read again; other changes need a restart"),
            Err(error) => tracing::error!(error = %error, "the configuration was not read again"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Level(#[from] crate::logging::LevelError),
}

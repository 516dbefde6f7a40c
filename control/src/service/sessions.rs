//! Questions that go to the data plane: sessions, controllers, counters, status, readiness.

use std::collections::BTreeSet;
use std::time::Instant;

use reactor::stats::HistogramSnapshot;

use super::{
    DeviceQueueReading, DeviceReading, LastStats, OpReading, Service, ServiceError, StatsView,
    SubsystemReading, VolumeReading, guard,
};
use crate::bridge::{
    CoreReport, DeviceReport, PlaneError, Request, StatsReport, SubsystemStats, VolumeStats,
};
use crate::limits::STATS_FRESH;
use crate::model::{
    ControllerId, ControllerInfo, CoreStatus, DeviceQueuePair, NodeStatus, Readiness, ReadinessCheck,
    SessionId, SessionInfo,
};
use crate::version;

const NS_PER_SECOND: f64 = 1e9;

impl Service {
    /// The sessions that are logged in.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ServiceError> {
        let mut sessions = self.bridge().sessions().await?;
        sessions.sort_by_key(|session| session.id);
        Ok(sessions)
    }

    /// Closes a session; its initiator may log in again.
    pub async fn drop_session(&self, id: SessionId) -> Result<(), ServiceError> {
        Ok(self.bridge().done(Request::DropSession { id }).await?)
    }

    /// The controllers that hosts are connected to.
    pub async fn controllers(&self) -> Result<Vec<ControllerInfo>, ServiceError> {
        let mut controllers = self.bridge().controllers().await?;
        controllers.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(controllers)
    }

    /// Disconnects a controller; its host may connect again.
    pub async fn drop_controller(&self, id: ControllerId) -> Result<(), ServiceError> {
        Ok(self.bridge().done(Request::DropController { id }).await?)
    }

    /// Counters, at most a moment old, and why they are older if they are. The counters themselves are shared, so
    /// that also an old list of them shows current numbers while the data plane does not answer.
    pub(crate) async fn stats_report(&self) -> (StatsReport, Option<PlaneError>) {
        {
            let last = guard(&self.inner.last_stats);
            if last.at.is_some_and(|at| at.elapsed() < STATS_FRESH) {
                return (last.report.clone(), None);
            }
        }
        match self.bridge().stats().await {
            Ok(report) => {
                *guard(&self.inner.last_stats) =
                    LastStats { at: Some(Instant::now()), report: report.clone() };
                (report, None)
            }
            Err(error) => (guard(&self.inner.last_stats).report.clone(), Some(error)),
        }
    }

    /// The list of volumes has changed, so that the next reader asks anew.
    pub(crate) fn stats_changed(&self) {
        guard(&self.inner.last_stats).at = None;
    }

    /// All counters.
    pub async fn stats(&self) -> Result<StatsView, ServiceError> {
        let (report, error) = self.stats_report().await;
        if let Some(error) = error {
            return Err(error.into());
        }
        let at_ns = u64::try_from(self.inner.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(StatsView {
            at_ns,
            volumes: report.volumes.iter().map(reading_of).collect(),
            cores: report.cores.iter().map(core_status).collect(),
            subsystems: report.subsystems.iter().map(subsystem_reading).collect(),
            devices: report.devices.iter().map(device_reading).collect(),
            sessions: report.cores.iter().map(|core| core.sessions).sum(),
            controllers: report.subsystems.iter().map(|subsystem| subsystem.controllers).sum(),
            connections: report.cores.iter().map(|core| core.stats.connections.get()).sum(),
        })
    }

    /// The node in one answer; without cores while the data plane does not answer.
    pub async fn node(&self) -> NodeStatus {
        let (report, _) = self.stats_report().await;
        let (state, facts) = (self.state(), self.facts());
        NodeStatus {
            name: facts.name.clone(),
            version: version::VERSION.to_owned(),
            git_commit: version::GIT_COMMIT.to_owned(),
            started_at: facts.started_at.to_string(),
            uptime_seconds: self.inner.started.elapsed().as_secs(),
            data_dir: facts.data_dir.display().to_string(),
            portals: facts.portals.clone(),
            listeners: facts.listeners.clone(),
            volumes: state.volumes.len() as u64,
            targets: state.targets.len() as u64,
            subsystems: state.subsystems.len() as u64,
            sessions: report.cores.iter().map(|core| core.sessions).sum(),
            controllers: report.subsystems.iter().map(|subsystem| subsystem.controllers).sum(),
            draining: self.draining(),
            cores: report.cores.iter().map(core_status).collect(),
        }
    }

    /// Whether everything desired is served.
    pub async fn readiness(&self) -> Readiness {
        let (report, error) = self.stats_report().await;
        let answers = error.map(|error| error.to_string());
        let state = self.state();
        let recovered = self.inner.recovered.clone();
        let stopping = self.draining().then(|| "the node is about to stop".to_owned());
        let mut checks = vec![
            check("data-plane".to_owned(), answers),
            check("catalog".to_owned(), recovered),
            check("not-draining".to_owned(), stopping),
        ];
        for device in &report.devices {
            checks.push(check(format!("device/{}", device.name), super::devices::problem_of(device)));
        }
        self.observed(|observed| {
            let waiting = (!observed.restored)
                .then(|| "volumes, targets and subsystems are still being opened".to_owned());
            checks.push(check("restored".to_owned(), waiting));
            for name in state.volumes.keys() {
                let unopened = || (!observed.open.contains_key(name)).then(|| "not open yet".to_owned());
                let problem = observed.volume_problems.get(name).cloned().or_else(unopened);
                checks.push(check(format!("volume/{name}"), problem));
            }
            // What the configuration asked for and could not be created.
            let uncreated =
                observed.volume_problems.iter().filter(|(name, _)| !state.volumes.contains_key(*name));
            checks.extend(
                uncreated.map(|(name, problem)| check(format!("volume/{name}"), Some(problem.clone()))),
            );
            for name in state.targets.keys() {
                checks.push(check(format!("target/{name}"), observed.target_problems.get(name).cloned()));
            }
            // With what the configuration asked for and could not be created.
            let uncreated = observed.subsystem_problems.keys();
            let subsystems: BTreeSet<_> = state.subsystems.keys().chain(uncreated).collect();
            for nqn in subsystems {
                let problem = observed.subsystem_problems.get(nqn).cloned();
                checks.push(check(format!("subsystem/{nqn}"), problem));
            }
        });
        Readiness { ready: checks.iter().all(|check| check.ok), checks }
    }
}

fn check(name: String, problem: Option<String>) -> ReadinessCheck {
    ReadinessCheck { name, ok: problem.is_none(), detail: problem }
}

fn device_reading(device: &DeviceReport) -> DeviceReading {
    let reading = |(pair, latency): &(DeviceQueuePair, HistogramSnapshot)| DeviceQueueReading {
        core: pair.core,
        commands: pair.commands,
        errors: pair.errors,
        duration_sum_ns: latency.sum_ns(),
        duration_buckets: latency.iter().collect(),
    };
    DeviceReading {
        device: device.name.clone(),
        in_flight: device.queue_pairs.iter().map(|(pair, _)| pair.in_flight).sum(),
        queue_pairs: device.queue_pairs.iter().map(reading).collect(),
    }
}

fn reading_of(volume: &VolumeStats) -> VolumeReading {
    let operations = volume.stats.ops.iter().map(|(name, op)| {
        let durations = op.latency.snapshot();
        OpReading {
            operation: (*name).to_owned(),
            operations: op.operations.get(),
            bytes: op.bytes.get(),
            errors: op.errors.get(),
            duration_sum_ns: durations.sum_ns(),
            duration_buckets: durations.iter().collect(),
        }
    });
    VolumeReading {
        volume: volume.name.to_string(),
        core: volume.core,
        size_bytes: volume.size_bytes,
        allocated_bytes: volume.allocated_bytes,
        operations: operations.collect(),
    }
}

fn subsystem_reading(stats: &SubsystemStats) -> SubsystemReading {
    let SubsystemStats { nqn, core, controllers, connections } = stats.clone();
    SubsystemReading { subsystem: nqn, core, controllers, connections }
}

fn core_status(report: &CoreReport) -> CoreStatus {
    let stats = &report.stats;
    let total = stats.buffer_total_bytes.get();
    CoreStatus {
        core: report.core,
        cpu: report.cpu,
        busy_seconds: stats.busy_ns.get() as f64 / NS_PER_SECOND,
        idle_seconds: stats.idle_ns.get() as f64 / NS_PER_SECOND,
        stalls: stats.stalls.get(),
        memory: stats.memory().map(|memory| memory.to_string()).unwrap_or_default(),
        buffer_bytes: total,
        buffer_in_use_bytes: total.saturating_sub(stats.buffer_available_bytes.get()),
    }
}

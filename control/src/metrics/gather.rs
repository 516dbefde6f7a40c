//! What is measured, under which name.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use reactor::stats::CoreStats;

use super::Gathered;
use super::family::{Family, Kind};
use crate::bridge::{CoreReport, SubsystemStats, VolumeStats};
use crate::catalog::State;
use crate::service::Service;
use crate::version;

const NS: f64 = 1e-9;

/// Reads everything once. Counters of volumes and cores are there as long as the data plane has ever answered.
pub async fn gather(service: &Service) -> Gathered {
    let (report, error) = service.stats_report().await;
    let state = service.state();
    let readiness = service.readiness().await;
    let gauge = |name, help, value: f64| Family::single(Kind::Gauge, name, help, value);
    let mut families = vec![
        build_info(),
        gauge("vega_node_ready", "1 when everything desired is served, else 0", flag(readiness.ready)),
        gauge("vega_data_plane_up", "1 when the data plane answers control, else 0", flag(error.is_none())),
        gauge("vega_volumes", "Volumes in the catalog", state.volumes.len() as f64),
        gauge("vega_targets", "iSCSI targets in the catalog", state.targets.len() as f64),
        gauge("vega_subsystems", "NVMe/TCP subsystems in the catalog", state.subsystems.len() as f64),
    ];
    families.extend(volumes(&report.volumes));
    families.extend(subsystems(&report.subsystems));
    families.push(ana_states(service, &state));
    families.extend(super::devices::families(&report.devices));
    families.extend(cores(&report.cores));
    families.extend(process(service.facts().started_at));
    let started = service.facts().started_at.as_second().try_into().unwrap_or(0);
    Gathered { families, created: SystemTime::UNIX_EPOCH + Duration::from_secs(started) }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn build_info() -> Family {
    let mut family = Family::new(Kind::Gauge, "vega_build_info", "Version of the running program; always 1");
    let labels = [("version", version::VERSION), ("git_commit", version::GIT_COMMIT)];
    family.push(labels.map(|(name, value)| (name, value.to_owned())).to_vec(), 1.0);
    family
}

fn volumes(volumes: &[VolumeStats]) -> Vec<Family> {
    let gauge = |name, help| Family::new(Kind::Gauge, name, help);
    let counter = |name, help| Family::new(Kind::Counter, name, help);
    let mut size = gauge("vega_volume_size_bytes", "Size of the volume as initiators and hosts see it");
    let mut allocated = gauge("vega_volume_allocated_bytes", "What the volume occupies in its back end");
    let mut operations = counter("vega_volume_operations", "Operations that ended, well or not");
    let mut bytes = counter("vega_volume_bytes", "Payload of operations that ended well");
    let mut errors = counter("vega_volume_errors", "Operations that ended in an error");
    let mut durations = Family::new(
        Kind::Histogram,
        "vega_volume_operation_duration_seconds",
        "Time from submission to completion of an operation in the data plane",
    );
    for volume in volumes {
        let of_volume = || vec![("volume", volume.name.to_string())];
        size.push(of_volume(), volume.size_bytes as f64);
        if let Some(allocated_bytes) = volume.allocated_bytes {
            allocated.push(of_volume(), allocated_bytes as f64);
        }
        for (name, op) in &volume.stats.ops {
            let labels = || vec![("volume", volume.name.to_string()), ("operation", (*name).to_owned())];
            operations.push(labels(), op.operations.get() as f64);
            bytes.push(labels(), op.bytes.get() as f64);
            errors.push(labels(), op.errors.get() as f64);
            durations.push_durations(labels(), op.latency.snapshot());
        }
    }
    vec![size, allocated, operations, bytes, errors, durations]
}

/// Labels are names of the catalog and cores; who is connected is a matter of the API.
fn subsystems(subsystems: &[SubsystemStats]) -> [Family; 2] {
    let gauge = |name, help| Family::new(Kind::Gauge, name, help);
    let mut controllers =
        gauge("vega_controllers", "NVMe/TCP controllers, those of discovery under its well-known name");
    let mut connections = gauge("vega_controller_connections", "TCP connections (queues) of controllers");
    for subsystem in subsystems {
        let labels = || vec![("subsystem", subsystem.nqn.to_string()), ("core", subsystem.core.to_string())];
        controllers.push(labels(), subsystem.controllers as f64);
        connections.push(labels(), subsystem.connections as f64);
    }
    [controllers, connections]
}

/// One series for each way to each subsystem; its state is a label, so that an alert names it.
fn ana_states(service: &Service, state: &State) -> Family {
    let help = "ANA state of the subsystem as reached by the listener; always 1";
    let mut family = Family::new(Kind::Gauge, "vega_subsystem_ana_state", help);
    let tags: BTreeSet<_> = service.facts().listeners.iter().map(|listener| listener.tag).collect();
    for (nqn, spec) in &state.subsystems {
        for tag in &tags {
            let state = spec.ana_state(*tag).as_str().to_owned();
            let labels =
                vec![("subsystem", nqn.to_string()), ("listener", tag.to_string()), ("state", state)];
            family.push(labels, 1.0);
        }
    }
    family
}

type CoreReading = fn(&CoreStats) -> f64;

/// Name, help, and how it is read.
const CORE_COUNTERS: &[(&str, &str, CoreReading)] = &[
    ("vega_core_busy_seconds", "Time in turns with work", |core| core.busy_ns.get() as f64 * NS),
    ("vega_core_idle_seconds", "Time in turns without work, spinning or asleep", |core| {
        core.idle_ns.get() as f64 * NS
    }),
    ("vega_core_asleep_seconds", "Time asleep in the kernel, a part of the idle time", |core| {
        core.asleep_ns.get() as f64 * NS
    }),
    ("vega_core_turns", "Turns of the poll loop", |core| core.turns.get() as f64),
    ("vega_core_sleeps", "Times the core went to sleep", |core| core.sleeps.get() as f64),
    ("vega_core_stalls", "Turns of a poller that held the core longer than allowed", |core| {
        core.stalls.get() as f64
    }),
    ("vega_core_messages", "Messages from other threads", |core| core.messages.get() as f64),
    ("vega_core_accept_failures", "Times accept failed for want of descriptors or memory", |core| {
        core.accept_failures.get() as f64
    }),
    ("vega_authentication_failures", "Logins that could not prove who they are", |core| {
        core.authentication_failures.get() as f64
    }),
    (
        "vega_authentication_refusals",
        "Logins that were not looked at because too many before had failed",
        |core| core.authentication_refusals.get() as f64,
    ),
];

const CORE_GAUGES: &[(&str, &str, CoreReading)] = &[
    ("vega_core_longest_stall_seconds", "The longest turn that was counted as a stall", |core| {
        core.longest_stall_ns.get() as f64 * NS
    }),
    ("vega_connections", "TCP connections of both protocols, logged in or not", |core| {
        core.connections.get() as f64
    }),
    ("vega_core_file_operations", "File operations in flight", |core| core.file_operations.get() as f64),
    ("vega_buffer_pool_bytes", "Buffer memory of the core", |core| core.buffer_total_bytes.get() as f64),
    ("vega_buffer_pool_available_bytes", "Buffer memory of the core that is free", |core| {
        core.buffer_available_bytes.get() as f64
    }),
];

fn cores(cores: &[CoreReport]) -> Vec<Family> {
    let counters = CORE_COUNTERS.iter().map(|(name, help, read)| (Kind::Counter, *name, *help, *read));
    let gauges = CORE_GAUGES.iter().map(|(name, help, read)| (Kind::Gauge, *name, *help, *read));
    let mut families: Vec<Family> = counters
        .chain(gauges)
        .map(|(kind, name, help, read)| {
            let mut family = Family::new(kind, name, help);
            cores.iter().for_each(|core| family.push(of_core(core), read(&core.stats)));
            family
        })
        .collect();
    let mut sessions = Family::new(Kind::Gauge, "vega_sessions", "iSCSI sessions that are logged in");
    cores.iter().for_each(|core| sessions.push(of_core(core), core.sessions as f64));
    families.push(sessions);
    families.extend(pollers(cores));
    families
}

fn of_core(core: &CoreReport) -> Vec<(&'static str, String)> {
    vec![("core", core.core.to_string())]
}

fn pollers(cores: &[CoreReport]) -> [Family; 2] {
    let mut turns =
        Family::new(Kind::Counter, "vega_poller_turns", "Turns of one poller, with and without work");
    let mut stalls =
        Family::new(Kind::Counter, "vega_poller_stalls", "Turns in which the poller took too long");
    for core in cores {
        for poller in core.stats.pollers() {
            let of_poller = || vec![("core", core.core.to_string()), ("poller", poller.name.to_owned())];
            for (state, count) in [("busy", &poller.busy_turns), ("idle", &poller.idle_turns)] {
                let mut labels = of_poller();
                labels.push(("state", state.to_owned()));
                turns.push(labels, count.get() as f64);
            }
            stalls.push(of_poller(), poller.stalls.get() as f64);
        }
    }
    [turns, stalls]
}

/// The conventional metrics of a process; left out where the system does not tell.
fn process(started_at: jiff::Timestamp) -> Vec<Family> {
    static PAGE_BYTES: OnceLock<f64> = OnceLock::new();
    let page_bytes = *PAGE_BYTES.get_or_init(|| rustix::param::page_size() as f64);
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident_pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let gauge = |name, help, value| Family::single(Kind::Gauge, name, help, value);
    let start = started_at.as_second() as f64;
    let mut families =
        vec![gauge("process_start_time_seconds", "Start time of the process since the epoch", start)];
    families.extend(
        resident_pages
            .map(|pages| gauge("process_resident_memory_bytes", "Resident memory", pages * page_bytes)),
    );
    families.extend(descriptors.map(|count| gauge("process_open_fds", "Open file descriptors", count)));
    families
}

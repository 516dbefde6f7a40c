//! NVMe devices that the node drives: health, queues, latency of each controller.

use nvme_spec::log::SmartHealth;

use super::family::{Family, Kind};
use crate::bridge::DeviceReport;
use crate::model::DeviceState;
use crate::nvme_cli::{critical_warnings, kelvins_to_celsius, padded_text};

type Reading = fn(&SmartHealth) -> f64;

/// Name, help, and how it is read from the health log page. What a device does not tell has no series.
const GAUGES: &[(&str, &str, Reading)] = &[
    ("vega_device_temperature_celsius", "Composite temperature", |health| {
        f64::from(kelvins_to_celsius(health.composite_temperature_kelvins.get()))
    }),
    ("vega_device_available_spare_ratio", "Spare that is left", |health| {
        f64::from(health.available_spare) / 100.0
    }),
    ("vega_device_available_spare_threshold_ratio", "Spare below which the device warns", |health| {
        f64::from(health.available_spare_threshold) / 100.0
    }),
    ("vega_device_endurance_used_ratio", "Estimate of the life that is used; may exceed 1", |health| {
        f64::from(health.percentage_used) / 100.0
    }),
];

const COUNTERS: &[(&str, &str, Reading)] = &[
    ("vega_device_media_errors", "Errors of data or media that the device did not correct", |health| {
        health.media_errors.get() as f64
    }),
    ("vega_device_error_log_entries", "Entries that the device ever made in its error log", |health| {
        health.error_log_entries.get() as f64
    }),
    ("vega_device_unsafe_shutdowns", "Times the device lost its power without a shutdown", |health| {
        health.unsafe_shutdowns.get() as f64
    }),
    ("vega_device_power_on_seconds", "Time with power, in whole hours", |health| {
        health.power_on_hours.get() as f64 * 3600.0
    }),
    (
        "vega_device_media_read_bytes",
        "Data read from the device in its life, in units of 512000 bytes",
        |health| health.data_units_read.get() as f64 * 512_000.0,
    ),
    (
        "vega_device_media_written_bytes",
        "Data written to the device in its life, in units of 512000 bytes",
        |health| health.data_units_written.get() as f64 * 512_000.0,
    ),
];

/// All families of devices.
pub(super) fn families(devices: &[DeviceReport]) -> Vec<Family> {
    let mut families = vec![info(devices), states(devices), warnings(devices), events(devices)];
    families.extend(health(Kind::Gauge, GAUGES, devices));
    families.extend(health(Kind::Counter, COUNTERS, devices));
    families.extend(queues(devices));
    families
}

fn of_device(device: &DeviceReport) -> Vec<(&'static str, String)> {
    vec![("device", device.name.to_string())]
}

fn with(device: &DeviceReport, label: &'static str, value: impl ToString) -> Vec<(&'static str, String)> {
    let mut labels = of_device(device);
    labels.push((label, value.to_string()));
    labels
}

fn info(devices: &[DeviceReport]) -> Family {
    let mut family = Family::new(Kind::Gauge, "vega_device_info", "What a device is; always 1");
    for device in devices {
        let text = |bytes: &[u8]| padded_text(bytes).trim().to_owned();
        let identify = device.identify.as_deref();
        let mut labels = with(device, "kind", device.kind.as_str());
        labels.push(("pci_address", device.pci_address.map(|at| at.to_string()).unwrap_or_default()));
        labels.push(("serial", identify.map(|identify| text(&identify.sn)).unwrap_or_default()));
        labels.push(("model", identify.map(|identify| text(&identify.mn)).unwrap_or_default()));
        labels.push(("firmware", identify.map(|identify| text(&identify.fr)).unwrap_or_default()));
        family.push(labels, 1.0);
    }
    family
}

fn states(devices: &[DeviceReport]) -> Family {
    let help = "1 for the state that the device is in, 0 for the others";
    let mut family = Family::new(Kind::Gauge, "vega_device_state", help);
    for device in devices {
        for state in DeviceState::ALL {
            family.push(with(device, "state", state.as_str()), f64::from(u8::from(device.state == state)));
        }
    }
    family
}

fn warnings(devices: &[DeviceReport]) -> Family {
    let help = "1 while the device gives this critical warning";
    let mut family = Family::new(Kind::Gauge, "vega_device_critical_warning", help);
    for device in devices {
        for (warning, given) in device.health.iter().flat_map(|health| critical_warnings(health)) {
            family.push(with(device, "warning", warning), f64::from(u8::from(given)));
        }
    }
    family
}

fn events(devices: &[DeviceReport]) -> Family {
    let help =
        "What went wrong with the device and was dealt with: aborts, resets, late and unknown completions";
    let mut family = Family::new(Kind::Counter, "vega_device_events", help);
    for device in devices {
        for (event, count) in &device.events {
            family.push(with(device, "event", event), *count as f64);
        }
    }
    family
}

fn health<'a>(
    kind: Kind,
    table: &'a [(&'static str, &'static str, Reading)],
    devices: &'a [DeviceReport],
) -> impl Iterator<Item = Family> + 'a {
    table.iter().map(move |(name, help, read)| {
        let mut family = Family::new(kind, name, help);
        for device in devices {
            if let Some(health) = &device.health {
                family.push(of_device(device), read(health));
            }
        }
        family
    })
}

fn queues(devices: &[DeviceReport]) -> [Family; 5] {
    let gauge = |name, help| Family::new(Kind::Gauge, name, help);
    let counter = |name, help| Family::new(Kind::Counter, name, help);
    let mut in_flight =
        gauge("vega_device_commands_in_flight", "Commands that the device has not answered yet");
    let mut entries = gauge("vega_device_queue_entries", "Commands that the queue pair of a core can hold");
    let mut commands = counter("vega_device_commands", "Commands that the device answered");
    let mut errors = counter("vega_device_errors", "I/Os that ended without success");
    let mut durations = Family::new(
        Kind::Histogram,
        "vega_device_command_duration_seconds",
        "Time from submission of a command to its completion by the device",
    );
    for device in devices {
        for (pair, latency) in &device.queue_pairs {
            let labels = || with(device, "core", pair.core);
            in_flight.push(labels(), pair.in_flight as f64);
            entries.push(labels(), f64::from(pair.entries));
            commands.push(labels(), pair.commands as f64);
            errors.push(labels(), pair.errors as f64);
            durations.push_durations(labels(), latency.clone());
        }
    }
    [in_flight, entries, commands, errors, durations]
}

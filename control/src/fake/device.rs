//! A device as a data plane reports it.

use std::sync::Arc;

use nvme_spec::identify::IdentifyController;
use nvme_spec::log::SmartHealth;
use reactor::stats::Histogram;

use crate::bridge::DeviceReport;
use crate::model::{DeviceKind, DeviceNamespace, DeviceQueuePair, DeviceState};

/// A controller called `name` that is up, with namespaces 1 and 2, 38 °C and some use.
///
/// # Panics
/// When `name` is none that a device can have.
pub fn fake_device(name: &str) -> DeviceReport {
    let mut identify = IdentifyController {
        sn: *b"S6P2NS0T123456      ",
        mn: [b' '; 40],
        fr: *b"2B2QEXM7",
        ..Default::default()
    };
    identify.mn[..11].copy_from_slice(b"Example 1TB");
    let mut health = SmartHealth { available_spare: 97, ..Default::default() };
    health.composite_temperature_kelvins.set(311);
    health.available_spare_threshold = 10;
    health.percentage_used = 3;
    health.media_errors.set(2);
    health.data_units_written.set(1_000);
    health.power_on_hours.set(5);
    let namespace = |nsid, block_size| DeviceNamespace {
        nsid,
        size_bytes: 1 << 30,
        block_size,
        volume: None,
        problem: None,
    };
    let pair = DeviceQueuePair { core: 0, queue_id: 1, entries: 255, in_flight: 7, commands: 1, errors: 0 };
    let latency = Histogram::default();
    latency.record(20_000);
    DeviceReport {
        name: name.parse().expect("a test gives a good name"),
        kind: DeviceKind::Pci,
        pci_address: Some("0000:01:00.0".parse().expect("a PCI address")),
        core: 0,
        state: DeviceState::Ready,
        problem: None,
        identify: Some(Arc::new(identify)),
        health: Some(Arc::new(health)),
        namespaces: vec![namespace(1, 512), namespace(2, 4096)],
        queue_pairs: vec![(pair, latency.snapshot())],
        events: vec![("reset", 1)],
    }
}

//! A device is pulled out from under the volumes of a core, and put in again: nothing of it is held in between, and its hosts go on.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use control::bridge::{DeviceReport, PlaneError};
use control::model::{DeviceKind, DeviceState};
use nvme_emulated::{ControllerConfig, EmulatedController, Format, NamespaceConfig};
use reactor::buffer::Sgl;
use reactor::core::Core;
use reactor::mesh::{ControlSender, Mesh};
use reactor::poller::Poller;
use reactor::sim::SimWorld;
use uuid::Uuid;
use volume::bdev::{Done, Extent, Io, IoStatus, Op};
use volume::label::{Confirmed, LabelRequest};
use volume::shared::{Bell, Event, Port, Registry, VolumeSetup};

use crate::devices::away::Presence;
use crate::devices::drive::Drive;
use crate::devices::licence::{Licence, Licences};
use crate::devices::message::{DeviceMessage, OpenNamespace, OpenedNamespace};
use crate::devices::open;
use crate::devices::poller::DeviceCore;
use crate::devices::take::Facts;

pub(super) const UUID: Uuid = Uuid::from_u128(7);

pub(super) struct Bench {
    pub(super) world: SimWorld,
    pub(super) core: Core,
    pub(super) registry: Registry,
    pub(super) devices: DeviceCore,
    pub(super) control: ControlSender<DeviceMessage>,
    pub(super) emulated: EmulatedController,
    pub(super) presence: Arc<Presence>,
}

impl Bench {
    /// A core that drives one device with one namespace.
    pub(super) fn new() -> Self {
        let config = ControllerConfig {
            serial: "LOOSE".to_owned(),
            namespaces: vec![NamespaceConfig::new(1, 32 << 11, Format::Block512)],
            ..ControllerConfig::default()
        };
        let emulated = EmulatedController::new(config).unwrap();
        let world = SimWorld::new(1);
        let core = world.core("core");
        let registry = Registry::new();
        let endpoint = Mesh::new(1, 16).pop().unwrap();
        let control = endpoint.control_sender();
        let devices = DeviceCore::new(&core, registry.clone(), Vec::new(), endpoint);
        let mut bench = Self { world, core, registry, devices, control, emulated, presence: Arc::default() };
        bench.drive(None);
        bench
    }

    pub(super) fn drive(&mut self, remembered: Option<nvme::Remembered>) {
        let facts = Facts {
            name: "loose".parse().unwrap(),
            kind: DeviceKind::Pci,
            pci_address: None,
            core: 0,
            licence: Licence::new(Licences::new(std::path::Path::new("/nonexistent")), None),
            presence: Arc::clone(&self.presence),
        };
        let device = self.emulated.device();
        let drive = Drive::new(&self.core, facts, device, Some(self.emulated.clone()), remembered).unwrap();
        self.devices.drive_again(self.world.now(), Box::new(drive));
    }

    /// Whatever is in the slot now comes to the core, as the keeper brings it.
    pub(super) fn bring_back(&mut self) {
        let remembered = self.devices.away[0].remembered.clone();
        self.presence.come();
        self.drive(remembered);
    }

    pub(super) fn turn(&mut self) {
        self.world.advance(Duration::from_micros(200));
        self.devices.poll(self.world.now(), 64);
        self.registry.poll();
    }

    pub(super) fn until(&mut self, words: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..400_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("never {words}");
    }

    pub(super) fn report(&self) -> DeviceReport {
        self.devices.reports().remove(0)
    }

    pub(super) fn open(&mut self, create: bool) -> Result<OpenedNamespace, PlaneError> {
        let request = LabelRequest {
            uuid: UUID,
            logical_block_bytes: 512,
            size_bytes: 16 << 20,
            create,
            confirmed: Confirmed::Nothing,
            growth: None,
        };
        let open = OpenNamespace { device: "loose".to_owned(), nsid: 1, volume: "hot".to_owned(), request };
        let (sender, receiver) = mpsc::channel();
        let answer = Box::new(move |result| drop(sender.send(result)));
        assert!(self.control.send(DeviceMessage::Open { open, answer }).is_ok());
        let mut result = None;
        self.until("answered", |_| {
            result = receiver.try_recv().ok();
            result.is_some()
        });
        result.unwrap()
    }

    /// The volume, made and served.
    pub(super) fn serve(&mut self, bell: &Bell) -> Port {
        self.open(true).map(drop).unwrap();
        let setup = VolumeSetup {
            name: "hot".to_owned(),
            serial: "1".to_owned(),
            channel: Box::new(|_| open::take_channel("hot")),
            metadata: Box::new(|_| open::take_metadata("hot")),
            reservations: Vec::new(),
        };
        self.registry.add(&self.core, setup).unwrap().open_port(bell, 0).unwrap()
    }

    pub(super) fn io(&mut self, port: &Port, op: Op, sgl: Sgl) -> Done {
        let mut done: Vec<Done> = port.submit(Io { tag: 1, op, sgl }).into_iter().collect();
        self.until("ended", |_| {
            port.poll(&mut done, 32);
            !done.is_empty()
        });
        done.remove(0)
    }

    pub(super) fn write(&mut self, port: &Port, byte: u8, fua: bool) -> IoStatus {
        let mut sgl = self.core.buffers.alloc(4096).unwrap();
        sgl.fill(0, 4096, byte);
        self.io(port, Op::Write { extent: EXTENT, fua }, sgl).status
    }

    pub(super) fn pull_out(&mut self) {
        self.emulated.remove();
        let presence = Arc::clone(&self.presence);
        self.until("let go", |_| presence.is_away());
    }
}

pub(super) const EXTENT: Extent = Extent { lba: 64, length_blocks: 8 };

#[test]
fn a_device_that_is_pulled_out_is_let_go_and_taken_again() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    assert!(bench.emulated.mappings() > 0 && bench.presence.serial() == Some("LOOSE"));
    for round in 1..=3_u8 {
        assert_eq!(bench.write(&port, round, true), IoStatus::Good);
        // With an I/O on its way.
        let sgl = bench.core.buffers.alloc(4096).unwrap();
        assert!(port.submit(Io { tag: 9, op: Op::Read(EXTENT), sgl }).is_none());
        bench.pull_out();
        let mut done = Vec::new();
        port.poll(&mut done, 32);
        assert_eq!(
            done.iter().map(|done| (done.tag, done.status)).collect::<Vec<_>>(),
            [(9, IoStatus::Gone)]
        );
        assert_eq!(bench.emulated.mappings(), 0, "the device still sees memory: round {round}");
        assert!(bench.devices.drives.is_empty() && bench.registry.is_lost("hot"));
        let report = bench.report();
        assert_eq!((report.state, report.namespaces.len()), (DeviceState::Removed, 1));
        assert!(report.problem.unwrap().contains("taken again when it is back"));
        assert_eq!(bench.write(&port, 99, true), IoStatus::Gone);
        let refused = bench.open(false).map(drop).unwrap_err().to_string();
        assert!(refused.contains("has been removed"), "{refused}");

        bench.emulated.insert();
        bench.bring_back();
        bench.until("served again", |bench| !bench.registry.is_lost("hot"));
        let events: Vec<_> = std::iter::from_fn(|| port.next_event()).collect();
        assert_eq!(events, [Event::Returned]);
        let sgl = bench.core.buffers.alloc(4096).unwrap();
        let read = bench.io(&port, Op::Read(EXTENT), sgl);
        assert_eq!((read.status, read.sgl.to_vec()), (IoStatus::Good, vec![round; 4096]));
        let report = bench.report();
        assert_eq!((report.state, report.problem), (DeviceState::Ready, None));
        assert!(report.namespaces.iter().all(|namespace| namespace.problem.is_none()));
    }
}

#[test]
fn what_a_cache_lost_with_its_device_is_not_flushed_over() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    assert_eq!(bench.write(&port, 1, false), IoStatus::Good);
    bench.pull_out();
    bench.emulated.insert();
    bench.bring_back();
    bench.until("served again", |bench| !bench.registry.is_lost("hot"));
    let flush = |bench: &mut Bench| bench.io(&port, Op::Flush, Sgl::empty()).status;
    assert_eq!(flush(&mut bench), IoStatus::WriteError { lba: 0 }, "a write may be lost");
    assert_eq!(flush(&mut bench), IoStatus::Good);
    // What was flushed is there, and nobody is alarmed.
    assert_eq!(bench.write(&port, 2, false), IoStatus::Good);
    assert_eq!(flush(&mut bench), IoStatus::Good);
    bench.pull_out();
    bench.emulated.insert();
    bench.bring_back();
    bench.until("served again", |bench| !bench.registry.is_lost("hot"));
    assert_eq!(flush(&mut bench), IoStatus::Good);
    let sgl = bench.core.buffers.alloc(4096).unwrap();
    assert_eq!(bench.io(&port, Op::Read(EXTENT), sgl).sgl.to_vec(), vec![2; 4096]);
}

#[test]
fn another_device_in_its_place_is_let_go_without_a_write_to_it() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    bench.pull_out();
    bench.emulated.insert_another("OTHER");
    bench.bring_back();
    let presence = Arc::clone(&bench.presence);
    bench.until("let go", |_| presence.is_away());
    assert!(presence.is_stranger() && bench.registry.is_lost("hot"));
    assert_eq!(bench.emulated.allocated_bytes(1), Ok(0), "nothing was written to it");
    assert_eq!(bench.report().state, DeviceState::Removed);
    assert_eq!(bench.write(&port, 1, true), IoStatus::Gone);
    // The right one at last.
    bench.emulated.remove();
    bench.emulated.insert_another("LOOSE");
    bench.bring_back();
    bench.until("up", |bench| bench.report().state == DeviceState::Ready);
    for _ in 0..20_000 {
        bench.turn();
    }
    let namespace = &bench.report().namespaces[0];
    // Its serial number is right, and there is no volume on it.
    assert!(bench.registry.is_lost("hot") && namespace.problem.is_some(), "{namespace:?}");
}

#[test]
fn a_volume_that_is_closed_meanwhile_is_not_waited_for() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    bench.pull_out();
    drop(port);
    let (sender, receiver) = mpsc::channel();
    bench.registry.remove("hot", Box::new(move |result| drop(sender.send(result))));
    bench.until("closed", |_| receiver.try_recv().is_ok());
    bench.emulated.insert();
    bench.bring_back();
    bench.until("up", |bench| bench.report().state == DeviceState::Ready);
    assert!(bench.report().namespaces[0].problem.is_none());
    bench.open(false).map(drop).unwrap();
}

/// A volume whose device is not found is tried again every few seconds: for hours, and nothing runs out.
#[test]
fn two_thousand_failures_take_nothing_from_those_that_come_after() {
    let mut bench = Bench::new();
    bench.open(true).map(drop).unwrap();
    open::forget("hot");
    for round in 0..2000 {
        let request = LabelRequest {
            uuid: Uuid::from_u128(8),
            // Refused before it is looked at, or after.
            logical_block_bytes: if round % 100 == 0 { 512 } else { 4096 },
            size_bytes: 16 << 20,
            create: round % 200 == 0,
            confirmed: Confirmed::Nothing,
            growth: None,
        };
        let open = OpenNamespace { device: "loose".to_owned(), nsid: 1, volume: "other".to_owned(), request };
        let (sender, receiver) = mpsc::channel();
        let answer = Box::new(move |result: Result<OpenedNamespace, _>| drop(sender.send(result.map(drop))));
        assert!(bench.control.send(DeviceMessage::Open { open, answer }).is_ok());
        let mut refusal = None;
        bench.until("answered", |_| {
            refusal = receiver.try_recv().ok();
            refusal.is_some()
        });
        let text = refusal.unwrap().unwrap_err().to_string();
        assert!(text.contains("it holds") || text.contains("it has blocks of"), "round {round}: {text}");
    }
    bench.serve(&Bell::default());
}

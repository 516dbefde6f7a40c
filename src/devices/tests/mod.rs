//! Volumes on devices through the whole data plane, and devices that cannot be had.

mod away;
mod growth;

use control::bridge::{
    DataPlane, ObjectKind, PlaneError, Reply, Request, Responder, StatsReport, VolumeFacts,
};
use control::config::{Config, Environment, load_text};
use control::model::{Backing, DeviceKind, DeviceState, VolumeSpec};
use nvme_pci::testing::{FakeController, FakeMachine};
use uuid::Uuid;

use super::plane::homes;
use super::take::{Loans, take_all};
use crate::memory::NodeMemory;
use crate::plane::NodePlane;
use crate::wiring::{choose_processors, start_plane};

fn config(text: &str) -> Config {
    let ports = "[[iscsi.portal]]\nlisten = '127.0.0.1:0'\n[nvmf]\nlistener = []\n[reactor]\nbuffer_bytes = '16MiB'\n";
    load_text(&(ports.to_owned() + text), "test.toml", &Environment::default()).unwrap()
}

/// A node without control, on a machine made of files.
struct Node {
    plane: NodePlane,
    machine: FakeMachine,
    _folder: tempfile::TempDir,
    loans: Option<Loans>,
}

impl Node {
    fn start(text: &str, controllers: &[FakeController]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = FakeMachine::new(folder.path());
        controllers.iter().for_each(|controller| machine.add_controller(controller));
        let config = config(text);
        let processors = choose_processors(&config.reactor.cores).unwrap();
        let (taken, loans) = take_all(&config, processors.len(), machine.host());
        let (devices, sources) = homes(taken, processors.len());
        let (plane, _) =
            start_plane(&config, &processors, sources, devices, &NodeMemory::new(std::path::Path::new("/")))
                .unwrap();
        Self { plane, machine, _folder: folder, loans: Some(loans) }
    }

    fn ask(&self, request: Request) -> Result<Reply, PlaneError> {
        let (responder, answer) = Responder::pair();
        self.plane.submit(request, responder);
        answer().expect("the plane answers")
    }

    fn volume(&self, request: Request) -> Result<VolumeFacts, PlaneError> {
        match self.ask(request)? {
            Reply::Volume(facts) => Ok(facts),
            _ => panic!("another answer"),
        }
    }

    fn create(&self, spec: VolumeSpec) -> Result<VolumeFacts, PlaneError> {
        self.volume(Request::CreateVolume { spec, path: None })
    }

    /// What the device says of a volume that it does not serve.
    fn refusal(&self, spec: VolumeSpec) -> String {
        match self.create(spec) {
            Err(PlaneError::Device { reason, .. }) => reason,
            other => panic!("{:?}", other.map(|facts| facts.notes)),
        }
    }

    fn stats(&self) -> StatsReport {
        match self.ask(Request::Stats).unwrap() {
            Reply::Stats(report) => report,
            _ => panic!("another answer"),
        }
    }

    fn done(&self, request: Request) {
        assert!(matches!(self.ask(request), Ok(Reply::Done)));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.plane.stop();
        drop(self.loans.take());
    }
}

fn on(device: &str, namespace: u32) -> VolumeSpec {
    VolumeSpec {
        name: "hot".parse().unwrap(),
        uuid: Uuid::from_u128(7),
        size_bytes: 16 << 20,
        block_size: 512,
        backing: Backing::Nvme { device: device.parse().unwrap(), namespace },
        core: None,
    }
}

const TOYS: &str = "[[device]]\nname = 'toy'\nemulated_size = '32MiB'\n\
                    [[device]]\nname = 'toy-4k'\nemulated_size = '32MiB'\nblock_size = 4096\n";

#[test]
fn a_volume_lives_on_an_emulated_device_until_it_is_drained() {
    let node = Node::start(TOYS, &[]);
    let facts = node.create(on("toy", 1)).unwrap();
    assert_eq!((facts.size_bytes, facts.volatile_write_cache), (16 << 20, true));
    assert!(facts.notes.iter().any(|note| note.contains("empty again")), "{:?}", facts.notes);
    let report = node.stats();
    let names: Vec<_> = report.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["toy", "toy-4k"]);
    let toy = &report.devices[0];
    assert_eq!(
        (toy.state, toy.kind, toy.problem.as_deref()),
        (DeviceState::Ready, DeviceKind::Emulated, None)
    );
    assert_eq!(toy.core, facts.core);
    let namespace = &toy.namespaces[0];
    assert_eq!((namespace.nsid, namespace.size_bytes, namespace.block_size), (1, 32 << 20, 512));
    assert!(toy.identify.as_ref().unwrap().sn.starts_with(b"VEGA-toy "));
    let (pair, latency) = &toy.queue_pairs[0];
    assert!(pair.commands > 0 && pair.errors == 0 && latency.count() == pair.commands, "{pair:?}");

    // The same again is the same volume; closed and opened it is found by its label.
    assert_eq!(node.create(on("toy", 1)).unwrap(), facts);
    node.done(Request::CloseVolume { name: "hot".parse().unwrap() });
    let opened = node.volume(Request::OpenVolume { spec: on("toy", 1), path: None }).unwrap();
    assert!(opened.notes[0].starts_with("opened") && facts.notes[0].starts_with("formatted"));
    node.done(Request::Drain { grace: std::time::Duration::from_secs(10) });
    assert!(matches!(node.create(on("toy", 1)), Err(PlaneError::ShuttingDown)));
    let stopped = node.stats();
    assert!(stopped.devices.iter().all(|device| device.state == DeviceState::Stopped));
}

#[test]
fn what_a_device_cannot_serve_is_said_in_its_words() {
    let node = Node::start(TOYS, &[]);
    node.create(on("toy", 1)).unwrap();
    node.done(Request::CloseVolume { name: "hot".parse().unwrap() });
    let other = VolumeSpec { uuid: Uuid::from_u128(8), ..on("toy", 1) };
    let occupied = node.refusal(other);
    assert!(occupied.contains("it holds a Vega volume") && occupied.contains("confirm_serial"), "{occupied}");
    assert!(node.refusal(on("toy-4k", 1)).contains("blocks of 4096 bytes, not 512"));
    assert!(
        node.refusal(VolumeSpec { size_bytes: 32 << 20, ..on("toy", 1) }).contains("room for a volume of")
    );
    assert!(node.refusal(on("toy", 9)).contains("no namespace 9"));
    let unknown = node.create(on("nothing", 1)).unwrap_err();
    assert_eq!(unknown, PlaneError::NotFound { kind: ObjectKind::Device, name: "nothing".into() });
    let elsewhere = node.create(VolumeSpec { core: Some(63), ..on("toy", 1) }).unwrap_err();
    assert!(matches!(elsewhere, PlaneError::Unsupported { field: "core", .. }), "{elsewhere}");
    let grown = node.create(on("toy", 1)).unwrap().size_bytes * 2;
    let grow = |size_bytes| node.volume(Request::GrowVolume { name: "hot".parse().unwrap(), size_bytes });
    let full = grow(grown).unwrap_err().to_string();
    assert!(full.contains("room for a volume of 32505856 bytes"), "{full}");
    assert_eq!(grow(24 << 20).unwrap().size_bytes, 24 << 20);
}

#[test]
fn a_device_that_cannot_be_had_says_why_and_goes_back_to_the_kernel() {
    let free = FakeController::default();
    let used = FakeController {
        address: "0000:02:00.0",
        instance: 1,
        serial: "USED",
        group: Some(15),
        ..FakeController::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    machine.add_controller(&used);
    machine.put("nvme1n1", 0, b"XFSB");
    let config = config("[[device]]\nname = 'used'\npci_address = '0000:02:00.0'\n");
    let (taken, _loans) = take_all(&config, 1, machine.host());
    let error = taken[0].source.as_ref().err().unwrap().to_string();
    assert!(
        error.contains("nvme1n1 holds an XFS filesystem") && machine.kernel().written().is_empty(),
        "{error}"
    );

    // The machine made of files gives the controller away, and the kernel below this test knows nothing of it.
    let text = "[[device]]\nname = 'fast'\npci_address = '0000:01:00.0'\n\
                [[device]]\nname = 'gone'\npath = '/nonexistent/nvme0n1'\n";
    let node = Node::start(text, &[free]);
    let report = node.stats();
    assert!(report.devices.iter().all(|device| device.state == DeviceState::Faulted));
    assert!(report.devices[0].problem.as_ref().unwrap().contains("0000:01:00.0"));
    assert!(report.devices[1].problem.as_ref().unwrap().contains("/nonexistent/nvme0n1"));
    assert!(node.refusal(on("gone", 1)).contains("/nonexistent/nvme0n1"));
    let function = node.machine.host().functions().remove(0);
    assert_eq!((function.driver.as_deref(), function.driver_override), (Some("nvme"), None));
    assert!(node.machine.kernel().written().len() > 4, "it was taken, and given back");
}

#[test]
fn what_does_not_start_leaves_no_core_and_no_device_behind() {
    let advertised = "[[iscsi.portal]]\nlisten = '127.0.0.1:0'\nadvertise = '[::1]:0'\n[nvmf]\nlistener = []\n[reactor]\nbuffer_bytes = '16MiB'\n";
    let no_such_processor = Some(reactor::core::CoreId(1023));
    for (text, second) in [(advertised, None), ("", Some(no_such_processor))] {
        let mut config = if text.is_empty() {
            config(TOYS)
        } else {
            load_text(&(text.to_owned() + TOYS), "test.toml", &Environment::default()).unwrap()
        };
        if second.is_none() {
            config.iscsi.portals[0].advertise = Some("nowhere".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let host = FakeMachine::new(folder.path()).host();
        let processors: Vec<_> = std::iter::once(None).chain(second).collect();
        let (taken, _loans) = take_all(&config, processors.len(), host);
        let presences: Vec<_> = taken.iter().map(|taken| taken.facts.presence.clone()).collect();
        let (devices, sources) = homes(taken, processors.len());
        let error =
            start_plane(&config, &processors, sources, devices, &NodeMemory::new(std::path::Path::new("/")))
                .map(drop)
                .unwrap_err()
                .to_string();
        assert!(error.contains(if second.is_some() { "cannot pin" } else { "nowhere" }), "{error}");
        for presence in presences {
            assert_eq!(std::sync::Arc::strong_count(&presence), 1, "a core still has a device: {error}");
        }
    }
}

#[test]
fn a_typed_serial_number_counts_for_what_was_there_when_it_was_used() {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    machine.add_controller(&FakeController::default());
    machine.put("nvme0n1", 0, b"XFSB");
    let text = format!(
        "[node]\ndata_dir = '{}'\n[[device]]\nname = 'used'\npci_address = '0000:01:00.0'\n\
         confirm_serial = 'S6P2NS0T123456'\n",
        folder.path().join("data").display()
    );
    let config = config(&text);
    let refusal = || {
        let (taken, _loans) = take_all(&config, 1, machine.host());
        taken[0].source.as_ref().err().unwrap().to_string()
    };
    // The kernel below this test knows nothing of the controller; it was taken from the one in the files.
    for _ in 0..2 {
        let error = refusal();
        assert!(!error.contains("XFS") && machine.kernel().written().len() > 4, "{error}");
    }
    let before = machine.kernel().written().len();
    machine.put("nvme0n1", 0, b"LUKS\xBA\xBE");
    let error = refusal();
    assert!(
        error.contains("was given for what was there") && error.contains("now nvmen1 holds a LUKS volume"),
        "{error}"
    );
    assert_eq!(machine.kernel().written().len(), before, "it stays where it is");
}

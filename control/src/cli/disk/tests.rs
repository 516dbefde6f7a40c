//! Commands on a machine made of files, with and without a node.

use nvme_pci::testing::{FakeController, FakeMachine};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::tests::{Node, Ran, run_on};
use crate::fake::fake_device;
use crate::model::{DeviceKind, DeviceState};

const ADDRESS: &str = "0000:01:00.0";
const SERIAL: &str = "S6P2NS0T123456";

struct Machine {
    folder: TempDir,
    fake: FakeMachine,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeMachine::new(folder.path());
        fake.add_controller(&FakeController::default());
        let second = FakeController {
            address: "0000:02:00.0",
            instance: 1,
            serial: "USED",
            group: Some(15),
            ..Default::default()
        };
        fake.add_controller(&second);
        fake.put("nvme1n1", 0, b"XFSB");
        Self { folder, fake }
    }

    /// Where no node is; a test must not find one that happens to run here.
    fn run(&self, line: &str) -> Ran {
        run_on(&self.fake.host(), &[], line, "", false)
    }

    fn with(&self, node: &Node, line: &str) -> Ran {
        run_on(&self.fake.host(), &["--api", &node.api()], line, "", false)
    }
}

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn controllers_are_listed_with_who_uses_them() {
    let machine = Machine::new();
    let expected = "ADDRESS        DRIVER   DISK      SERIAL           MODEL                          SIZE   NUMA     GROUP   USED BY\n\
                    0000:01:00.0   nvme     nvme0n1   S6P2NS0T123456   Samsung SSD 970 EVO Plus 1TB   4MiB   <none>   14      <none>\n\
                    0000:02:00.0   nvme     nvme1n1   USED             Samsung SSD 970 EVO Plus 1TB   4MiB   <none>   15      nvme1n1 holds an XFS filesystem (its mark is at byte 0)\n";
    assert_eq!(machine.run("disk list").out, expected);
    let value = json(&machine.run("disk list -o json"));
    assert_eq!(value[0]["controller"]["address"], ADDRESS);
    assert_eq!(value[1]["used_by"][0]["use"], "labelled");
    assert_eq!(value[1]["used_by"][0]["text"], "nvme1n1 holds an XFS filesystem (its mark is at byte 0)");
    assert_eq!(value[0]["device"], Value::Null);
    assert!(machine.run("disk list -o yaml").out.contains("0000:01:00.0"));
    let empty = tempfile::tempdir().unwrap();
    let none = run_on(&FakeMachine::new(empty.path()).host(), &[], "disk list", "", false);
    assert_eq!(none.out, "No NVMe controllers on the PCI buses.\n");
    assert!(machine.folder.path().exists());
}

#[test]
fn a_controller_is_shown_with_all_that_the_machine_knows() {
    let machine = Machine::new();
    for disk in [ADDRESS.to_owned(), machine.fake.roots().dev.join("nvme0n1").display().to_string()] {
        let shown = machine.run(&format!("disk show {disk}")).out;
        for line in [
            "Address:          0000:01:00.0",
            "PCI ID:           144d:a808",
            "Link:             8.0 GT/s PCIe x2 (the controller could do 8.0 GT/s PCIe x4)",
            "IOMMU group:      14",
            "Serial number:    S6P2NS0T123456",
            "Disk:             nvme0n1: 4MiB, blocks of 512 bytes, partitions <none>",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
        }
    }
    assert!(machine.run("disk show 02:00.0").out.contains("Used by:          nvme1n1 holds an XFS"));
    let gone = machine.run("disk show 0000:09:00.0");
    assert_eq!((gone.code, gone.err.contains("there is no PCI function 0000:09:00.0")), (1, true));
    let untold = machine.run("disk show 01:00.0 --only smart-log");
    assert_eq!((untold.code, untold.err.contains("no node drives it")), (1, true), "{}", untold.err);
    assert_eq!(machine.run("disk show dev/nvme0n1").code, 2);
}

#[test]
fn a_controller_goes_to_user_space_and_back() {
    let machine = Machine::new();
    let dry = machine.run("disk bind 01:00.0 --dry-run");
    assert!(dry.out.contains("echo vfio-pci > ") && dry.out.ends_with("nothing was changed (--dry-run)\n"));
    assert_eq!(machine.fake.kernel().written(), []);
    assert_eq!(machine.run("disk bind 01:00.0").out, "0000:01:00.0 is driven by vfio-pci now\n");
    assert_eq!(machine.run("disk bind 01:00.0").out, "0000:01:00.0 is driven by vfio-pci already\n");
    assert!(machine.run("disk list").out.contains("0000:01:00.0   vfio-pci   <none>"));
    let back = json(&machine.run("disk unbind 01:00.0 -o json"));
    assert_eq!((&back["moved"][0], &back["driver"]), (&ADDRESS.into(), &"nvme".into()));
    // Nothing that was not named was touched.
    let touched = machine.fake.kernel().written();
    assert!(
        touched
            .iter()
            .all(|(path, value)| !path.to_string_lossy().contains("02:00.0") && !value.contains("02:00.0"))
    );
}

#[test]
fn a_used_controller_stays_unless_its_serial_number_is_typed() {
    let machine = Machine::new();
    let refused = machine.run("disk bind 01:00.0 02:00.0");
    assert_eq!((refused.code, machine.fake.kernel().written()), (1, vec![]));
    assert!(
        refused.err.contains("nvme1n1 holds an XFS filesystem")
            && refused.err.contains("--confirm-serial USED")
    );
    let slip = machine.run("disk bind 02:00.0 --confirm-serial USEd");
    assert_eq!((slip.code, slip.err.contains("theirs: USED")), (2, true), "{}", slip.err);
    let other = machine.run(&format!("disk bind 01:00.0 02:00.0 --confirm-serial {SERIAL}"));
    assert_eq!((other.code, machine.fake.kernel().written()), (1, vec![]));
    let done = machine.run("disk bind 02:00.0 --confirm-serial USED");
    assert_eq!((done.code, done.out.as_str()), (0, "0000:02:00.0 is driven by vfio-pci now\n"));
    assert!(done.err.contains("warning: 0000:02:00.0 is taken although nvme1n1 holds"), "{}", done.err);
    assert_eq!(machine.run("disk bind").code, 2);
    assert_eq!(machine.run("disk bind fast-1").code, 2);
}

#[test]
fn what_a_node_drives_is_shown_with_its_identify_and_health_data() {
    let (machine, node) = (Machine::new(), Node::start());
    node.plane.set_device(fake_device("fast-1"));
    let mut toy = fake_device("toy");
    (toy.kind, toy.pci_address) = (DeviceKind::Emulated, None);
    node.plane.set_device(toy);
    let created = machine.with(&node, "volume create hot --size 1GiB --device fast-1 --namespace 2");
    assert_eq!(created.code, 0, "{}", created.err);
    assert!(machine.with(&node, "volume show hot").out.contains("namespace 2 of NVMe device fast-1"));
    assert_eq!(machine.run("disk bind 01:00.0").code, 0);

    let list = machine.with(&node, "disk list").out;
    assert!(list.contains("0000:01:00.0   vfio-pci   fast-1"), "{list}");
    assert!(
        list.contains("this node as fast-1 (ready)") && list.contains("<none>         emulated   toy"),
        "{list}"
    );
    for disk in ["01:00.0", "fast-1"] {
        let shown = machine.with(&node, &format!("disk show {disk}")).out;
        for line in [
            "Address:          0000:01:00.0",
            "Device:           fast-1 (pci, core 0)",
            "Namespace:        1: 1GiB, blocks of 512 bytes, free",
            "Namespace:        2: 1GiB, blocks of 4096 bytes, volume hot",
            "Queue pair:       1 on core 0: 7 of 255 in flight",
            "sn        : S6P2NS0T123456",
            "percentage_used                         : 3%",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
        }
        assert!(shown.contains("38 °C, spare 97 % (warns below 10 %), 3 % of its life used, 2 media errors"));
    }
    // Exactly what nvme-cli prints, for what reads that.
    let smart = json(&machine.with(&node, "disk show fast-1 --only smart-log -o json"));
    assert_eq!((&smart["percent_used"], &smart["temperature"]), (&3.into(), &311.into()));
    assert_eq!(smart["critical_warning"], 0);
    let identify = json(&machine.with(&node, "disk show 01:00.0 --only id-ctrl -o json"));
    assert_eq!(identify["sn"], "S6P2NS0T123456      ");
    assert!(
        machine.with(&node, "disk show fast-1 --only id-ctrl").out.starts_with("NVME Identify Controller:\n")
    );
    let whole = json(&machine.with(&node, "disk show toy -o json"));
    assert_eq!((&whole["controller"], &whole["device"]["name"]), (&Value::Null, &"toy".into()));
    assert_eq!(whole["device"]["smart_log"]["media_errors"], 2);
    let missing = machine.with(&node, "disk show slow-1");
    assert_eq!(
        (missing.code, missing.err.contains("device slow-1 does not exist; \"vega disk list\"")),
        (1, true)
    );
}

#[test]
fn a_namespace_holds_one_volume_and_a_device_that_is_down_holds_none() {
    let (machine, node) = (Machine::new(), Node::start());
    node.plane.set_device(fake_device("fast-1"));
    let mut down = fake_device("fast-2");
    (down.state, down.problem) = (DeviceState::Faulted, Some("it did not recover after 5 resets".to_owned()));
    (down.identify, down.health, down.pci_address) = (None, None, None);
    node.plane.set_device(down);
    assert_eq!(machine.with(&node, "volume create a --size 1GiB --backing nvme --device fast-1").code, 0);
    let taken = machine.with(&node, "volume create b --size 1GiB --device fast-1");
    assert_eq!(taken.code, 1);
    assert!(taken.err.contains("in use by volume a on its namespace 1"), "{}", taken.err);
    let absent = machine.with(&node, "volume create b --size 1GiB --device fast-1 --namespace 9");
    assert!(absent.code == 1 && absent.err.contains("it has no namespace 9"), "{}", absent.err);
    assert_eq!(machine.with(&node, "volume create b --size 1GiB --device fast-1 --namespace 0").code, 2);
    assert_eq!(machine.with(&node, "volume create b --size 1GiB --device Fast").code, 2);
    assert_eq!(machine.with(&node, "volume create b --size 1GiB --backing nvme").code, 2);
    assert_eq!(machine.with(&node, "volume create b --size 1GiB --namespace 1").code, 2);
    let refused = machine.with(&node, "volume create c --size 1GiB --device fast-2");
    assert!(refused.err.contains("device fast-2: it did not recover after 5 resets"), "{}", refused.err);
    assert!(machine.with(&node, "disk list").out.contains("this node as fast-2 (faulted)"));
    let shown = machine.with(&node, "disk show fast-2").out;
    assert!(shown.contains("Problem:        it did not recover"), "{shown}");
    assert_eq!(machine.with(&node, "disk show fast-2 --only id-ctrl").code, 1);
}

#[test]
fn the_doctor_says_what_is_missing_and_what_mends_it() {
    let machine = Machine::new();
    let sick = machine.run("doctor");
    assert_eq!(sick.code, 1);
    assert!(
        sick.out.contains("MISSING  iommu") && sick.out.contains("ok       vfio-pci        loaded"),
        "{}",
        sick.out
    );
    assert!(sick.err.contains("vega doctor --script | sudo sh"), "{}", sick.err);
    let value = machine.run("doctor -o json");
    let read: Value = serde_json::from_str(&value.out).unwrap();
    assert_eq!((value.code, &read["ready"]), (1, &Value::Bool(false)));
    assert!(read["checks"].as_array().unwrap().len() >= 8);
    let script = machine.run("doctor --script");
    assert!(script.code == 0 && script.out.starts_with("#!/bin/sh\n"));
    let (sys, proc) = (&machine.fake.roots().sys, &machine.fake.roots().proc);
    machine.fake.file(&proc.join("sys/kernel/osrelease"), "6.12.0");
    machine.fake.file(&sys.join("class/iommu/dmar0/x"), "");
    let limits = "Max open files 1048576 1048576 files\nMax locked memory unlimited unlimited bytes\n";
    machine.fake.file(&proc.join("self/limits"), limits);
    let well = machine.run("doctor");
    assert_eq!((well.code, well.err.as_str()), (0, ""), "{}", well.out);
    assert!(well.out.contains("better   hugepages"), "{}", well.out);
    assert_eq!(machine.run("doctor --strict").code, 1);
    assert_eq!(machine.run("doctor --config /nonexistent.toml").code, 2);
}

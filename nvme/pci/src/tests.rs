//! Controllers are found, users are named, and nothing is moved that should stay.

use std::collections::BTreeSet;

use tempfile::TempDir;

use crate::plan::{BindOptions, Warning};
use crate::testing::{FakeController, FakeMachine};
use crate::usage::Use;
use crate::{Host, PciAddress, PciError, Process};

const ADDRESS: &str = "0000:01:00.0";
const SERIAL: &str = "S6P2NS0T123456";

fn machine() -> (TempDir, FakeMachine, Host) {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    machine.add_controller(&FakeController::default());
    let host = machine.host();
    (folder, machine, host)
}

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn bind(host: &Host, addresses: &[&str], options: &BindOptions) -> Result<Vec<Warning>, PciError> {
    let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
    let plan = host.plan_bind(&addresses, options)?;
    let warnings = plan.warnings().to_vec();
    plan.execute()?;
    Ok(warnings)
}

fn confirmed(serial: &str) -> BindOptions {
    BindOptions { confirmed_serials: BTreeSet::from([serial.to_owned()]), ..Default::default() }
}

fn uses(host: &Host) -> Vec<String> {
    let function = host.function(address(ADDRESS)).unwrap();
    host.uses(&[function])[0].iter().map(ToString::to_string).collect()
}

fn driver(host: &Host) -> Option<String> {
    host.function(address(ADDRESS)).unwrap().driver
}

/// A controller that is refused for exactly this, stays with the kernel, and goes with its serial number only.
fn refused_for(machine: &FakeMachine, host: &Host, reason: &str) {
    let error = bind(host, &[ADDRESS], &BindOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PciError::InUse { .. }), "{text}");
    assert!(text.contains(reason) && text.contains(&format!("--confirm-serial {SERIAL}")), "{text}");
    assert_eq!((driver(host).as_deref(), machine.kernel().written().len()), (Some("nvme"), 0));
    let wrong = bind(host, &[ADDRESS], &confirmed("S6P2NS0T123457")).unwrap_err();
    assert!(matches!(wrong, PciError::SerialUnknown { .. }) && wrong.is_usage(), "{wrong}");
    assert_eq!(machine.kernel().written(), []);
    let warnings = bind(host, &[ADDRESS], &confirmed(SERIAL)).unwrap();
    assert!(warnings.iter().any(|warning| warning.to_string().contains(reason)), "{warnings:?}");
    assert_eq!(driver(host).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_controller_is_found_with_all_that_the_machine_says_of_it() {
    let (_folder, machine, host) = machine();
    machine.add_function("0000:00:1f.0", "0x060100\n", Some(9), None);
    machine.add_function("0000:02:00.0", "0x010601\n", Some(15), Some("ahci"));
    let found = host.functions();
    assert_eq!(found.len(), 1);
    let function = &found[0];
    assert_eq!(function.address.to_string(), ADDRESS);
    assert_eq!((function.vendor_id, function.device_id), (0x144d, 0xa808));
    assert_eq!((function.subsystem_vendor_id, function.subsystem_device_id), (Some(0x144d), Some(0xa801)));
    assert_eq!((function.numa_node, function.virtual_functions), (None, 0));
    assert_eq!((function.driver.as_deref(), function.driver_override.as_deref()), (Some("nvme"), None));
    let link = function.link.as_ref().unwrap();
    assert_eq!((link.width, link.max_width, link.is_reduced()), (2, 4, true));
    let group = function.iommu_group.as_ref().unwrap();
    assert_eq!((group.number, group.no_iommu, group.members.len()), (14, false, 1));
    let controller = function.controller.as_ref().unwrap();
    assert_eq!((controller.name.as_str(), controller.serial.as_str()), ("nvme0", SERIAL));
    assert_eq!(controller.model, "Samsung SSD 970 EVO Plus 1TB");
    assert_eq!((controller.firmware.as_str(), controller.state.as_str()), ("2B2QEXM7", "live"));
    let disk = &controller.disks[0];
    assert_eq!((disk.name.as_str(), disk.nsid, disk.size_bytes), ("nvme0n1", Some(1), 4 << 20));
    assert_eq!((disk.block_size, disk.partitions.len()), (Some(512), 0));
    assert!(matches!(host.function(address("0000:00:1f.0")), Err(PciError::NotNvme { class: 0x060100, .. })));
    assert!(matches!(host.function(address("0000:09:00.0")), Err(PciError::NotThere { .. })));
    let disk = host.function_of_disk(&machine.roots().dev.join("nvme0n1")).unwrap();
    assert_eq!(disk.address, function.address);
    let missing = host.function_of_disk(&machine.roots().dev.join("nvme7n1")).unwrap_err();
    assert!(missing.to_string().contains("vega disk list"), "{missing}");
    machine.file(&machine.roots().dev.join("sda"), "");
    let other = host.function_of_disk(&machine.roots().dev.join("sda"));
    assert!(matches!(other, Err(PciError::NotAnNvmeDisk { .. })));
    // A file, or a mount point, that only has the name of a disk.
    let namesake = machine.roots().proc.join("nvme0n1");
    machine.file(&namesake, "");
    assert!(matches!(host.function_of_disk(&namesake), Err(PciError::NotAnNvmeDisk { .. })));
}

#[test]
fn the_disk_of_a_shared_subsystem_is_seen_through_its_path() {
    let (_folder, machine, host) = machine();
    let own = machine.function(ADDRESS).join("nvme/nvme0");
    std::fs::rename(own.join("nvme0n1"), own.join("nvme0c0n1")).unwrap();
    let controller = host.function(address(ADDRESS)).unwrap().controller.unwrap();
    assert_eq!(controller.disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["nvme0n1"]);
    machine.put("nvme0n1", 0, b"XFSB");
    refused_for(&machine, &host, "nvme0n1 holds an XFS filesystem");
}

#[test]
fn an_unused_controller_goes_to_user_space_and_back() {
    let (_folder, machine, host) = machine();
    assert_eq!(uses(&host), Vec::<String>::new());
    assert_eq!(bind(&host, &[ADDRESS], &BindOptions::default()).unwrap(), []);
    let function = host.function(address(ADDRESS)).unwrap();
    let driver_and_override = (function.driver.as_deref(), function.driver_override.as_deref());
    assert_eq!(driver_and_override, (Some("vfio-pci"), Some("vfio-pci")));
    assert_eq!(function.controller, None);
    // Asked for again, there is nothing to do; also with the serial number, which nobody tells any more.
    for options in [BindOptions::default(), confirmed(SERIAL)] {
        let again = host.plan_bind(&[address(ADDRESS)], &options).unwrap();
        assert_eq!((again.already(), again.writes()), (&[address(ADDRESS)][..], vec![]));
    }
    host.plan_unbind(&[address(ADDRESS)]).unwrap().execute().unwrap();
    let function = host.function(address(ADDRESS)).unwrap();
    assert_eq!((function.driver.as_deref(), function.driver_override), (Some("nvme"), None));
    assert_eq!(function.controller.unwrap().serial, SERIAL);
    assert!(host.plan_unbind(&[address(ADDRESS)]).unwrap().writes().is_empty());
    let names: Vec<String> = machine
        .kernel()
        .written()
        .into_iter()
        .map(|(path, value)| format!("{}={}", path.file_name().unwrap().to_string_lossy(), value.trim()))
        .collect();
    assert_eq!(
        names,
        [
            "driver_override=vfio-pci",
            "unbind=0000:01:00.0",
            "drivers_probe=0000:01:00.0",
            "driver_override=nvme",
            "unbind=0000:01:00.0",
            "drivers_probe=0000:01:00.0",
            "driver_override=",
        ]
    );
}

#[test]
fn a_plan_says_what_it_writes_and_changes_nothing() {
    let (_folder, machine, host) = machine();
    let plan = host.plan_bind(&[address(ADDRESS)], &BindOptions::default()).unwrap();
    let writes: Vec<String> = plan.writes().iter().map(ToString::to_string).collect();
    assert_eq!(writes.len(), 3);
    assert!(
        writes[0].starts_with("echo vfio-pci > ") && writes[0].ends_with("/0000:01:00.0/driver_override")
    );
    assert!(writes[1].ends_with("/driver/unbind") && writes[2].ends_with("/drivers_probe"), "{writes:?}");
    drop(plan);
    assert_eq!((driver(&host).as_deref(), machine.kernel().written()), (Some("nvme"), vec![]));
}

#[test]
fn a_mounted_partition_is_named_by_number_and_by_path() {
    let (_folder, machine, host) = machine();
    machine.add_partition("nvme0n1", 2, "259:2");
    let proc = &machine.roots().proc;
    machine.file(
        &proc.join("self/mountinfo"),
        "36 35 259:2 / /srv/data\\040base rw shared:1 - ext4 /dev/root rw\n",
    );
    // A filesystem over several devices has a number of its own.
    let path = machine.roots().dev.join("nvme0n1p2");
    machine
        .file(&proc.join("1/mountinfo"), &format!("37 1 0:41 / /btrfs rw - btrfs {} rw\n", path.display()));
    let expected = [
        "nvme0n1p2 is mounted at /btrfs",
        "nvme0n1p2 is mounted at /srv/data base",
        "nvme0n1 has a partition",
    ];
    assert_eq!(uses(&host), expected);
    // The kernel has the disk exclusively for each mount, which says nothing new.
    machine.kernel().hold("nvme0n1");
    let Err(PciError::InUse { uses, .. }) = bind(&host, &[ADDRESS], &BindOptions::default()) else {
        panic!()
    };
    assert_eq!(uses.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    refused_for(&machine, &host, "nvme0n1p2 is mounted at /srv/data base");
}

#[test]
fn swap_and_partitions_are_named() {
    let (_folder, machine, host) = machine();
    let path = machine.roots().dev.join("nvme0n1p1");
    machine.add_partition("nvme0n1", 1, "259:1");
    let table = format!("Filename\tType\tSize\tUsed\tPriority\n{} partition 8388604 0 -2\n", path.display());
    machine.file(&machine.roots().proc.join("swaps"), &table);
    assert_eq!(uses(&host), ["nvme0n1p1 is swapped to", "nvme0n1 has a partition"]);
    refused_for(&machine, &host, "nvme0n1p1 is swapped to");
}

#[test]
fn volume_managers_raids_and_caches_are_named() {
    for (holder, file, name, said) in [
        ("dm-3", "dm/name", "vg0-data", "nvme0n1 is claimed by dm-3 (vg0-data)"),
        ("md127", "md/uuid", "5d1f0f1e", "nvme0n1 is claimed by md127 (5d1f0f1e)"),
        ("bcache0", "size", "8", "nvme0n1 is claimed by bcache0"),
    ] {
        let (_folder, machine, host) = machine();
        let block = machine.roots().sys.join("class/block");
        machine.file(&block.join("nvme0n1/holders").join(holder), "");
        machine.file(&block.join(holder).join(file), name);
        assert_eq!(uses(&host), [said]);
        refused_for(&machine, &host, said);
    }
}

#[test]
fn whoever_has_a_disk_open_is_named() {
    let (_folder, machine, host) = machine();
    machine.add_process(4711, "qemu-system-x86", &machine.roots().dev.join("nvme0n1"));
    machine.add_process(4712, "smartd", &machine.roots().dev.join("nvme0"));
    let controller = "nvme0 is open in smartd (process 4712)";
    assert_eq!(uses(&host), [controller, "nvme0n1 is open in qemu-system-x86 (process 4711)"]);
    refused_for(&machine, &host, "nvme0n1 is open in qemu-system-x86 (process 4711)");
}

#[test]
fn a_disk_that_is_held_exclusively_is_refused_when_it_is_taken_and_not_probed_before() {
    let (_folder, machine, host) = machine();
    machine.kernel().hold("nvme0n1");
    assert_eq!(uses(&host), Vec::<String>::new());
    refused_for(&machine, &host, "nvme0n1 is opened exclusively");
}

#[test]
fn what_lies_on_a_disk_is_named() {
    for (offset, mark, what) in [
        (1080, &[0x53, 0xEF][..], "an ext2, ext3 or ext4 filesystem"),
        (512, b"EFI PART", "a GUID partition table"),
        ((4 << 20) - 512, b"EFI PART", "the backup of a GUID partition table"),
        ((4 << 20) - (1 << 20), b"VEGAvol1", "a Vega volume"),
    ] {
        let (_folder, machine, host) = machine();
        machine.put("nvme0n1", offset, mark);
        let said = format!("nvme0n1 holds {what} (its mark is at byte {offset})");
        assert_eq!(uses(&host), [said.as_str()]);
        refused_for(&machine, &host, &said);
    }
}

#[test]
fn a_node_takes_its_own_volumes_back_with_what_their_users_made_of_them() {
    let (_folder, machine, host) = machine();
    machine.put("nvme0n1", 512, b"EFI PART");
    machine.add_partition("nvme0n1", 1, "259:1");
    let node = BindOptions { own_volumes: true, ..BindOptions::default() };
    let error = bind(&host, &[ADDRESS], &node).unwrap_err();
    assert!(error.to_string().contains("a GUID partition table"), "no volume of ours: {error}");
    machine.put("nvme0n1", (4 << 20) - (1 << 20), b"VEGAvol1");
    assert!(matches!(bind(&host, &[ADDRESS], &BindOptions::default()), Err(PciError::InUse { .. })));
    // Whoever uses it on this machine is in the way all the same.
    let mounts = machine.roots().proc.join("self/mountinfo");
    machine.file(&mounts, "36 35 259:1 / /mnt rw - ext4 /dev/root rw\n");
    let error = bind(&host, &[ADDRESS], &node).unwrap_err().to_string();
    assert!(error.contains("nvme0n1p1 is mounted at /mnt") && !error.contains("GUID"), "{error}");
    machine.file(&mounts, "");
    assert_eq!(bind(&host, &[ADDRESS], &node).unwrap(), []);
}

#[test]
fn a_disk_that_cannot_be_looked_at_counts_as_used() {
    let (_folder, machine, host) = machine();
    std::fs::remove_file(machine.roots().dev.join("nvme0n1")).unwrap();
    assert_eq!(uses(&host), ["nvme0n1 cannot be looked at: No such file or directory (os error 2)"]);
    refused_for(&machine, &host, "nvme0n1 cannot be looked at");
}

#[test]
fn a_group_with_a_function_of_the_kernel_is_refused_unless_all_are_named() {
    let (_folder, machine, host) = machine();
    machine.add_function("0000:00:01.0", "0x060400\n", Some(14), Some("pcieport"));
    let second =
        FakeController { address: "0000:02:00.0", instance: 1, serial: "OTHER", ..Default::default() };
    machine.add_controller(&second);
    let error = bind(&host, &[ADDRESS], &BindOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PciError::GroupShared { group: 14, .. }), "{text}");
    assert!(text.contains("0000:02:00.0 (class 010802, nvme)") && !text.contains("0000:00:01.0"), "{text}");
    // The serial number is about the disk, not about the group.
    assert!(matches!(bind(&host, &[ADDRESS], &confirmed(SERIAL)), Err(PciError::GroupShared { .. })));
    assert_eq!(machine.kernel().written(), []);
    bind(&host, &["02:00.0", ADDRESS, ADDRESS], &BindOptions::default()).unwrap();
    assert!(host.functions().iter().all(|function| function.driver.as_deref() == Some("vfio-pci")));
}

#[test]
fn one_that_is_refused_keeps_all_that_were_named_where_they_are() {
    let (_folder, machine, host) = machine();
    let second = FakeController {
        address: "0000:02:00.0",
        instance: 1,
        serial: "B",
        group: Some(15),
        ..Default::default()
    };
    machine.add_controller(&second);
    machine.put("nvme1n1", 0, b"LUKS\xBA\xBE");
    let error = bind(&host, &[ADDRESS, "0000:02:00.0"], &BindOptions::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("0000:02:00.0 (serial number B) is in use: nvme1n1 holds a LUKS volume")
    );
    // The serial number of one is no confirmation for the other.
    assert!(bind(&host, &[ADDRESS, "0000:02:00.0"], &confirmed(SERIAL)).is_err());
    assert_eq!(machine.kernel().written(), []);
    bind(&host, &[ADDRESS, "0000:02:00.0"], &confirmed("B")).unwrap();
}

#[test]
fn work_without_an_iommu_must_be_asked_for_and_be_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    machine.add_controller(&FakeController { group: None, ..Default::default() });
    let host = machine.host();
    let options = BindOptions { no_iommu: true, ..Default::default() };
    assert!(matches!(bind(&host, &[ADDRESS], &BindOptions::default()), Err(PciError::NoIommu { .. })));
    assert!(matches!(bind(&host, &[ADDRESS], &options), Err(PciError::NoIommuForbidden)));
    let allowed = machine.roots().sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode");
    machine.file(&allowed, "N\n");
    assert!(matches!(bind(&host, &[ADDRESS], &options), Err(PciError::NoIommuForbidden)));
    machine.file(&allowed, "Y\n");
    let warnings = bind(&host, &[ADDRESS], &options).unwrap();
    assert_eq!(warnings, [Warning::NoIommu { address: address(ADDRESS) }]);
}

#[test]
fn other_drivers_missing_drivers_and_virtual_functions_are_refused() {
    let options = confirmed(SERIAL);
    let (_folder, machine, host) = machine();
    machine.file(&machine.function(ADDRESS).join("sriov_numvfs"), "4\n");
    let error = bind(&host, &[ADDRESS], &options).unwrap_err();
    assert!(matches!(error, PciError::VirtualFunctions { count: 4, .. }));
    machine.file(&machine.function(ADDRESS).join("sriov_numvfs"), "0\n");
    machine.file(&machine.function(ADDRESS).join("nvme/nvme0/serial"), "\n");
    let error = bind(&host, &[ADDRESS], &BindOptions::default()).unwrap_err();
    assert!(matches!(error, PciError::NoController { .. }), "{error}");
    std::fs::remove_dir_all(machine.function(ADDRESS).join("nvme")).unwrap();
    assert!(matches!(bind(&host, &[ADDRESS], &BindOptions::default()), Err(PciError::NoController { .. })));

    machine.add_function("0000:03:00.0", "0x010802\n", Some(20), None);
    machine.add_function("0000:04:00.0", "0x010802\n", Some(21), Some("uio_pci_generic"));
    let refusal = |at: &str| bind(&host, &[at], &BindOptions::default()).unwrap_err();
    assert!(matches!(refusal("0000:03:00.0"), PciError::Undriven { .. }));
    assert!(matches!(refusal("0000:04:00.0"), PciError::OtherDriver { .. }));
    let back = host.plan_unbind(&[address("0000:04:00.0")]).map(|plan| plan.moved());
    assert!(matches!(back, Err(PciError::OtherDriver { .. })));
    // What no driver has may go to the kernel.
    host.plan_unbind(&[address("0000:03:00.0")]).unwrap().execute().unwrap();
    assert_eq!(host.function(address("0000:03:00.0")).unwrap().driver.as_deref(), Some("nvme"));
    std::fs::remove_dir_all(machine.roots().sys.join("bus/pci/drivers/vfio-pci")).unwrap();
    let error = refusal("0000:03:00.0");
    assert!(error.to_string().contains("modprobe vfio-pci"), "{error}");
}

#[test]
fn a_driver_that_does_not_take_it_leaves_it_with_the_one_that_had_it() {
    let (_folder, machine, host) = machine();
    machine.kernel().spoil("vfio-pci");
    let error = bind(&host, &[ADDRESS], &BindOptions::default()).unwrap_err();
    assert!(matches!(error, PciError::NotTaken { .. }), "{error}");
    let function = host.function(address(ADDRESS)).unwrap();
    assert_eq!((function.driver.as_deref(), function.driver_override), (Some("nvme"), None));
    assert_eq!(function.controller.unwrap().serial, SERIAL);
}

#[test]
fn what_cannot_be_written_is_said_and_undone() {
    for attribute in ["driver_override", "unbind", "drivers_probe"] {
        let (_folder, machine, host) = machine();
        machine.kernel().forbid(attribute);
        let error = bind(&host, &[ADDRESS], &BindOptions::default()).unwrap_err();
        assert!(error.to_string().ends_with("run this as root"), "{error}");
        let has_it = driver(&host);
        // Without a way to probe it stays with nobody, and the way out is to give it back.
        assert_eq!(has_it.as_deref(), if attribute == "drivers_probe" { None } else { Some("nvme") });
    }
}

#[test]
fn a_controller_is_not_taken_from_a_process_that_drives_it() {
    let (_folder, machine, host) = machine();
    bind(&host, &[ADDRESS], &BindOptions::default()).unwrap();
    machine.add_process(99, "vega", &machine.roots().dev.join("vfio/14"));
    let function = host.function(address(ADDRESS)).unwrap();
    assert_eq!(host.holders(&function), [Process { pid: 99, name: "vega".into() }]);
    let error = host.plan_unbind(&[address(ADDRESS)]).map(|plan| plan.moved()).unwrap_err();
    assert_eq!(error.to_string(), "0000:01:00.0 is driven by vega (process 99); stop that first");
    std::fs::remove_dir_all(machine.roots().proc.join("99")).unwrap();
    // The same through the function's own device.
    machine.file(&machine.function(ADDRESS).join("vfio-dev/vfio0/dev"), "511:0\n");
    machine.add_process(98, "vega", &machine.roots().dev.join("vfio/devices/vfio0"));
    assert!(matches!(host.plan_unbind(&[address(ADDRESS)]), Err(PciError::Held { .. })));
    std::fs::remove_dir_all(machine.roots().proc.join("98")).unwrap();
    host.plan_unbind(&[address(ADDRESS)]).unwrap().execute().unwrap();
}

#[test]
fn a_use_is_written_with_its_kind() {
    let one = Use::Claimed { device: "nvme0n1".into(), by: "dm-0".into(), name: None };
    let process = Use::Open { device: "nvme0n1".into(), process: Process { pid: 1, name: "init".into() } };
    assert!(!one.explains(&process) && one.explains(&Use::OpenedExclusively { device: "nvme0n1".into() }));
    assert!(!one.explains(&Use::OpenedExclusively { device: "nvme0n".into() }));
}

#[test]
fn users_inside_the_kernel_are_named() {
    let nvmet = |machine: &FakeMachine, place: &str, path: &str, enable: &str| {
        let place = machine.roots().sys.join("kernel/config/nvmet/subsystems/nqn.a").join(place);
        machine.file(&place.join("device_path"), &format!("{path}\n"));
        machine.file(&place.join("enable"), enable);
    };
    let dev = |machine: &FakeMachine, name: &str| machine.roots().dev.join(name).display().to_string();
    let (_folder, machine, host) = machine();
    // A link, as it is usually written there; one that is switched off uses nothing.
    machine.file(&machine.roots().dev.join("disk/by-id/keep"), "");
    let link = machine.roots().dev.join("disk/by-id/nvme-one");
    std::os::unix::fs::symlink(machine.roots().dev.join("nvme0n1"), &link).unwrap();
    nvmet(&machine, "namespaces/3", &link.display().to_string(), "0\n");
    assert_eq!(uses(&host), Vec::<String>::new());
    nvmet(&machine, "namespaces/3", &link.display().to_string(), "1\n");
    let said = "nvme0n1 is exported by the kernel's NVMe target as namespace 3 of nqn.a";
    assert_eq!(uses(&host), [said]);
    refused_for(&machine, &host, said);

    let (_folder, machine, host) = self::machine();
    nvmet(&machine, "passthru", &dev(&machine, "nvme0"), "1\n");
    refused_for(
        &machine,
        &host,
        "nvme0 is exported by the kernel's NVMe target as the passed-through controller",
    );

    let (_folder, machine, host) = self::machine();
    machine.add_partition("nvme0n1", 2, "259:2");
    let unit = machine.roots().sys.join("kernel/config/target/core/iblock_0/fast");
    machine.file(&unit.join("udev_path"), &format!("{}\n", dev(&machine, "nvme0n1p2")));
    machine.file(&unit.join("enable"), "1\n");
    refused_for(&machine, &host, "nvme0n1p2 is exported by the kernel's SCSI target as iblock_0/fast");

    let (_folder, machine, host) = self::machine();
    let block = machine.roots().sys.join("class/block");
    machine.file(&block.join("loop3/loop/backing_file"), &format!("{}\n", dev(&machine, "nvme0n1")));
    machine.file(&block.join("loop4/loop/backing_file"), "/srv/image\n");
    assert_eq!(uses(&host), ["nvme0n1 is under the loop device loop3"]);
    refused_for(&machine, &host, "nvme0n1 is under the loop device loop3");
}

#[test]
fn processes_are_seen_past_the_block_layer_and_under_other_names() {
    for name in ["nvme0", "ng0n1", "nvme0n1"] {
        let (_folder, machine, host) = machine();
        machine.add_process(77, "smartd", &machine.roots().dev.join(name));
        refused_for(&machine, &host, &format!("{name} is open in smartd (process 77)"));
    }
    // A node of another name with the same number, as containers have them.
    for (class, name) in [("nvme", "nvme0"), ("nvme-generic", "ng0n1")] {
        let (_folder, machine, host) = machine();
        let dev = machine.roots().sys.join("class").join(class).join(name).join("dev");
        machine.file(&dev, "1:3\n");
        machine.add_process(78, "qemu", std::path::Path::new("/dev/null"));
        refused_for(&machine, &host, &format!("{name} is open in qemu (process 78)"));
    }
    // The number of a block device is another one.
    let (_folder, machine, host) = machine();
    machine.file(&machine.roots().sys.join("class/block/nvme0n1/dev"), "1:3\n");
    machine.add_process(78, "qemu", std::path::Path::new("/dev/null"));
    assert_eq!(uses(&host), Vec::<String>::new());
}

#[test]
fn a_mount_is_found_by_number_by_source_and_by_a_link_to_it() {
    let (_folder, machine, host) = machine();
    machine.file(&machine.roots().dev.join("disk/by-id/keep"), "");
    let link = machine.roots().dev.join("disk/by-id/nvme-one");
    std::os::unix::fs::symlink(machine.roots().dev.join("nvme0n1"), &link).unwrap();
    let mounts = machine.roots().proc.join("self/mountinfo");
    for (number, kind, source, said) in [
        ("259:0", "ext4", "/dev/root".to_owned(), "nvme0n1 is mounted at /mnt"),
        ("0:77", "btrfs", link.display().to_string(), "nvme0n1 is mounted at /mnt"),
        (
            "0:77",
            "fuse.ext4fuse",
            link.display().to_string(),
            "nvme0n1 is mounted at /mnt by a program (FUSE)",
        ),
        ("0:77", "fuse", machine.roots().dev.join("nvme0n1").display().to_string(), "by a program (FUSE)"),
    ] {
        machine.file(&mounts, &format!("36 35 {number} / /mnt rw - {kind} {source} rw\n"));
        let seen = uses(&host);
        assert!(seen.len() == 1 && seen[0].ends_with(said), "{kind}: {seen:?}");
    }
    machine.file(&mounts, "36 35 0:77 / /mnt rw - fuse.sshfs host:/dev/nvme0n1 rw\n");
    assert_eq!(uses(&host), Vec::<String>::new());
}

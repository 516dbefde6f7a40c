//! Machines that lack one thing each.

use std::path::Path;

use nvme_pci::testing::{FakeController, FakeMachine};
use tempfile::TempDir;

use super::*;
use crate::config::Environment;
use crate::config::load_text;

const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1048576              1048576              files     \n\
                      Max locked memory         unlimited            unlimited            bytes     \n";

/// A machine of eight processors on which nothing is missing for cores 4 to 7.
fn prepared() -> (TempDir, FakeMachine) {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    let (sys, proc) = (machine.roots().sys.clone(), machine.roots().proc.clone());
    for (path, content) in [
        (proc.join("sys/kernel/osrelease"), "6.12.43-amd64\n"),
        (proc.join("sys/kernel/io_uring_disabled"), "0\n"),
        (proc.join("cpuinfo"), "vendor_id\t: GenuineIntel\n"),
        (proc.join("cmdline"), "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n"),
        (proc.join("self/limits"), LIMITS),
        (proc.join("self/status"), "Name:\tvega\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-7\n"),
        (sys.join("class/iommu/dmar0/intel-iommu/version"), "1:0\n"),
        (sys.join("kernel/iommu_groups/0/type"), "DMA\n"),
        (sys.join("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), "256\n"),
        (sys.join("devices/system/cpu/isolated"), "4-7\n"),
    ] {
        machine.file(&path, content);
    }
    (folder, machine)
}

fn config(text: &str) -> Config {
    let cores = if text.contains("[reactor]") { "" } else { "[reactor]\ncores = [4, 5, 6, 7]\n" };
    load_text(&format!("{cores}{text}"), "test.toml", &Environment::default()).unwrap()
}

fn check(machine: &FakeMachine, config: &Config, name: &str) -> Check {
    let diagnosis = diagnose(&machine.host(), config);
    let found = diagnosis.checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in {diagnosis:?}")).clone()
}

/// The one check that is not as it should be after `content` was written to `path`.
#[track_caller]
fn spoiled(path: impl Fn(&FakeMachine) -> std::path::PathBuf, content: Option<&str>) -> Check {
    let (_folder, machine) = prepared();
    let path = path(&machine);
    match content {
        Some(content) => machine.file(&path, content),
        None if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
    let diagnosis = diagnose(&machine.host(), &config(""));
    let bad: Vec<_> = diagnosis.checks.into_iter().filter(|check| check.outcome != Outcome::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    bad.into_iter().next().unwrap()
}

fn sys(path: &str) -> impl Fn(&FakeMachine) -> std::path::PathBuf + '_ {
    move |machine| machine.roots().sys.join(path)
}

fn proc(path: &str) -> impl Fn(&FakeMachine) -> std::path::PathBuf + '_ {
    move |machine| machine.roots().proc.join(path)
}

#[track_caller]
fn is(check: &Check, name: &str, outcome: Outcome, detail: &str, fix: &str) {
    assert_eq!((check.name.as_str(), check.outcome), (name, outcome), "{check:?}");
    assert!(check.detail.contains(detail), "{check:?}");
    assert!(check.fix.iter().any(|command| command.contains(fix)), "{check:?}");
}

#[test]
fn a_prepared_machine_passes_everything() {
    let (_folder, machine) = prepared();
    let diagnosis = diagnose(&machine.host(), &config(""));
    assert!(diagnosis.ready && diagnosis.failed(true) == 0, "{diagnosis:?}");
    assert_eq!(diagnosis.checks.len(), 8);
    assert!(diagnosis.checks.iter().all(|check| check.fix.is_empty() && !check.reboot));
    assert!(!diagnosis.script().contains("Restart"));
}

#[test]
fn old_kernels_are_refused_and_new_ones_are_not() {
    for (release, outcome) in [
        ("5.15.0-101-generic", Outcome::Missing),
        ("6.0.9", Outcome::Missing),
        ("nonsense", Outcome::Missing),
        ("6.1.0-13-amd64", Outcome::Ok),
        ("6.12.43", Outcome::Ok),
        ("10.0", Outcome::Ok),
    ] {
        let (_folder, machine) = prepared();
        machine.file(&machine.roots().proc.join("sys/kernel/osrelease"), release);
        let check = check(&machine, &config(""), "kernel");
        assert_eq!(check.outcome, outcome, "{release}");
        assert!(check.detail.contains(release));
    }
}

#[test]
fn io_uring_may_be_switched_off() {
    let path = proc("sys/kernel/io_uring_disabled");
    let fix = "sysctl -w kernel.io_uring_disabled=0";
    is(&spoiled(&path, Some("2\n")), "io_uring", Outcome::Missing, "for nobody", fix);
    is(&spoiled(&path, Some("1\n")), "io_uring", Outcome::Missing, "io_uring_group", fix);
    // A kernel that has no such switch.
    let (_folder, machine) = prepared();
    std::fs::remove_file(machine.roots().proc.join("sys/kernel/io_uring_disabled")).unwrap();
    assert_eq!(check(&machine, &config(""), "io_uring").outcome, Outcome::Ok);
}

#[test]
fn an_iommu_that_is_off_is_said_in_the_words_of_its_maker() {
    let missing = spoiled(sys("class/iommu/dmar0"), None);
    is(&missing, "iommu", Outcome::Missing, "VT-d", "intel_iommu=on iommu=pt");
    assert!(missing.reboot);
    let groups = spoiled(sys("kernel/iommu_groups"), None);
    is(&groups, "iommu", Outcome::Missing, "firmware", "update-grub");
    let (_folder, machine) = prepared();
    std::fs::remove_dir_all(machine.roots().sys.join("class/iommu")).unwrap();
    machine.file(&machine.roots().proc.join("cpuinfo"), "vendor_id\t: AuthenticAMD\n");
    machine.file(&machine.roots().proc.join("cmdline"), "ro amd_iommu=off quiet\n");
    let off = check(&machine, &config(""), "iommu");
    is(&off, "iommu", Outcome::Missing, "kernel argument amd_iommu=off", "amd_iommu=on");
    // A configuration that says of every device that it does without.
    let without = config("[[device]]\nname = 'a'\npci_address = '0000:01:00.0'\nno_iommu = true\n");
    assert_eq!(check(&machine, &without, "iommu").outcome, Outcome::Recommended);
    let mode = check(&machine, &without, "no-iommu");
    is(&mode, "no-iommu", Outcome::Missing, "does not allow it", "enable_unsafe_noiommu_mode");
    machine.file(&machine.roots().sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode"), "Y\n");
    assert_eq!(check(&machine, &without, "no-iommu").outcome, Outcome::Ok);
}

#[test]
fn the_driver_for_user_space_must_be_loaded() {
    let missing = spoiled(sys("bus/pci/drivers/vfio-pci"), None);
    is(&missing, "vfio-pci", Outcome::Missing, "not loaded", "modprobe vfio-pci");
    assert!(missing.fix.iter().any(|command| command.contains("/etc/modules-load.d/")) && !missing.reboot);
}

#[test]
fn limits_are_compared_with_what_the_configuration_needs() {
    let locked = |amount: &str| LIMITS.replacen("unlimited", amount, 1);
    let small = spoiled(proc("self/limits"), Some(&locked("8388608")));
    is(
        &small,
        "memlock",
        Outcome::Missing,
        "8MiB may be locked; 4 cores with buffers of 128MiB need 576MiB",
        "memlock unlimited",
    );
    let files = spoiled(proc("self/limits"), Some(&LIMITS.replacen("1048576", "1024", 1)));
    is(&files, "nofile", Outcome::Missing, "1024 open files", "nofile 1048576");
    let (_folder, machine) = prepared();
    let enough = locked(&(576 << 20).to_string());
    machine.file(&machine.roots().proc.join("self/limits"), &enough);
    assert_eq!(check(&machine, &config(""), "memlock").outcome, Outcome::Ok);
    let less = locked(&((576 << 20) - 1).to_string());
    machine.file(&machine.roots().proc.join("self/limits"), &less);
    assert_eq!(check(&machine, &config(""), "memlock").outcome, Outcome::Missing);
    // Who may lock anything has no limit.
    let status = "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-7\n";
    machine.file(&machine.roots().proc.join("self/status"), status);
    assert_eq!(check(&machine, &config(""), "memlock").outcome, Outcome::Ok);
}

#[test]
fn huge_pages_are_counted_for_the_buffers_of_all_cores() {
    let pages = sys("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    let few = spoiled(&pages, Some("255\n"));
    is(
        &few,
        "hugepages",
        Outcome::Recommended,
        "510MiB reserved; the buffers of 4 cores take 512MiB",
        "vm.nr_hugepages=256",
    );
    let none = spoiled(&pages, None);
    is(&none, "hugepages", Outcome::Recommended, "0B reserved", "/etc/sysctl.d/");
    let (_folder, machine) = prepared();
    machine.file(&pages(&machine), "0\n");
    machine.file(&machine.roots().sys.join("kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"), "1\n");
    assert_eq!(check(&machine, &config(""), "hugepages").outcome, Outcome::Ok);
}

#[test]
fn processors_are_set_aside_or_the_way_to_it_is_told() {
    let shared = spoiled(sys("devices/system/cpu/isolated"), Some("\n"));
    is(
        &shared,
        "isolated-cores",
        Outcome::Recommended,
        "processors 4-7 are shared",
        "isolcpus=managed_irq,domain,4-7 nohz_full=4-7",
    );
    assert!(shared.reboot);
    let part = spoiled(sys("devices/system/cpu/isolated"), Some("4-6\n"));
    assert_eq!(part.outcome, Outcome::Recommended);
    let (_folder, machine) = prepared();
    let auto = config("[reactor]\ncores = 'auto'\n");
    let unused = check(&machine, &auto, "isolated-cores");
    assert!(unused.detail.contains("reactor.cores = [4, 5, 6, 7]") && unused.outcome == Outcome::Recommended);
    machine.file(&machine.roots().sys.join("devices/system/cpu/isolated"), "\n");
    let advice = check(&machine, &auto, "isolated-cores");
    is(&advice, "isolated-cores", Outcome::Recommended, "set reactor.cores = [4, 5, 6, 7]", "isolcpus=");
    machine.file(&machine.roots().proc.join("self/status"), "CapEff:\t0\nCpus_allowed_list:\t0-1\n");
    let few = check(&machine, &auto, "isolated-cores");
    assert!(few.outcome == Outcome::Ok && few.detail.contains("too few"));
}

#[test]
fn devices_of_the_configuration_are_looked_at_and_left_alone() {
    let (_folder, machine) = prepared();
    machine.add_controller(&FakeController::default());
    machine.add_controller(&FakeController {
        address: "0000:02:00.0",
        instance: 1,
        serial: "USED",
        group: Some(15),
        ..Default::default()
    });
    machine.put("nvme1n1", 0, b"XFSB");
    let disk = machine.roots().dev.join("nvme1n1");
    let text = format!(
        "[[device]]\nname = 'free'\npci_address = '0000:01:00.0'\n\
         [[device]]\nname = 'used'\npath = '{}'\n\
         [[device]]\nname = 'gone'\npci_address = '0000:09:00.0'\n\
         [[device]]\nname = 'toy'\nemulated_size = '1GiB'\n",
        disk.display()
    );
    let wanted = config(&text);
    let diagnosis = diagnose(&machine.host(), &wanted);
    let ends: Vec<_> =
        diagnosis.checks[8..].iter().map(|check| (check.name.as_str(), check.outcome)).collect();
    let (ok, missing) = (Outcome::Ok, Outcome::Missing);
    assert_eq!(ends, [("device/free", ok), ("device/used", missing), ("device/gone", missing)]);
    assert!(!diagnosis.ready && diagnosis.failed(false) == 2);
    assert!(diagnosis.checks[9].detail.contains("nvme1n1 holds an XFS filesystem"));
    assert!(diagnosis.checks[10].detail.contains("no PCI function 0000:09:00.0"));
    assert_eq!(machine.kernel().written(), []);
    let confirmed = text.replace("name = 'used'", "name = 'used'\nconfirm_serial = 'USED'");
    let check = check(&machine, &config(&confirmed), "device/used");
    assert!(
        check.outcome == Outcome::Ok && check.detail.contains("is taken although nvme1n1 holds"),
        "{check:?}"
    );
}

#[test]
fn the_script_has_every_command_once_and_is_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(folder.path());
    std::fs::remove_dir_all(machine.roots().sys.join("bus/pci/drivers/vfio-pci")).unwrap();
    let diagnosis = diagnose(&machine.host(), &config(""));
    let script = diagnosis.script();
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("set -u\n"));
    for command in diagnosis.checks.iter().flat_map(|check| &check.fix) {
        assert_eq!(script.lines().filter(|line| line == command).count(), 1, "{command}");
    }
    assert!(script.contains("kernel arguments have changed.'\n"), "{script}");
    let file = folder.path().join("script.sh");
    std::fs::write(&file, &script).unwrap();
    assert!(is_well_formed(&file), "{script}");
}

#[test]
fn nothing_that_was_found_becomes_a_command_of_the_script() {
    let check = Check {
        name: "device/fast-1".to_owned(),
        outcome: Outcome::Missing,
        detail: "mounted at /tmp/x\ntouch /tmp/owned\r\n#".to_owned(),
        fix: vec!["true".to_owned()],
        reboot: false,
    };
    let script = Diagnosis { ready: false, checks: vec![check] }.script();
    assert!(script.contains("# device/fast-1: mounted at /tmp/x touch /tmp/owned"), "{script}");
    assert!(!script.lines().any(|line| line.starts_with("touch")), "{script}");
}

#[test]
fn a_command_that_reads_its_input_does_not_swallow_the_rest_of_a_script_from_a_pipe() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let (greedy, after) = (folder.path().join("greedy"), folder.path().join("after"));
    let check = Check {
        name: "kernel".to_owned(),
        outcome: Outcome::Missing,
        detail: String::new(),
        fix: vec![format!("cat >'{}'", greedy.display()), format!("echo done >'{}'", after.display())],
        reboot: true,
    };
    let script = Diagnosis { ready: false, checks: vec![check] }.script();
    let pipe = std::process::Stdio::piped;
    let mut shell =
        std::process::Command::new("sh").stdin(pipe()).stdout(std::process::Stdio::null()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    assert_eq!(
        (std::fs::read_to_string(greedy).unwrap(), std::fs::read_to_string(after).unwrap()),
        ("".into(), "done\n".into())
    );
    // One line is what an operator copies, and installs without a question as well.
    let old = spoiled(|machine| machine.roots().proc.join("sys/kernel/osrelease"), Some("5.4.0-1-amd64\n"));
    for command in
        old.fix.iter().flat_map(|fix| fix.split("&&")).filter(|command| command.contains("apt-get"))
    {
        assert!(command.contains("</dev/null"), "{command}");
        assert!(
            command.contains("update") || command.contains("DEBIAN_FRONTEND=noninteractive"),
            "{command}"
        );
    }
    assert!(old.fix.concat().contains("apt-get"));
}

/// Read by a shell, not run.
fn is_well_formed(script: &Path) -> bool {
    std::process::Command::new("sh").arg("-n").arg(script).status().unwrap().success()
}

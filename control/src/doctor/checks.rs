//! The checks, each over the files that say how it is.

use std::collections::BTreeSet;

use super::Check;
use super::machine::{Machine, list_of, list_text};
use crate::model::ByteSize;

/// The first kernel with everything that a core asks io_uring for: a single issuer and deferred work.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Sockets, files and events of a node with some thousand sessions.
const OPEN_FILES_MIN: u64 = 16_384;
/// What queues, lists and rings take beside the buffers, for each core.
const QUEUE_BYTES: u64 = 16 << 20;
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// With fewer processors there is none to set aside.
const PROCESSORS_MIN: usize = 4;

pub(super) fn kernel(machine: &Machine) -> Check {
    let release = machine.text(&machine.proc("sys/kernel/osrelease")).unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = numbers.next().zip(numbers.next());
    match found {
        Some(version) if version >= KERNEL_MIN => Check::ok("kernel", format!("Linux {release}")),
        _ => Check::missing(
            "kernel",
            format!("Linux {release}; {}.{} or later is needed", KERNEL_MIN.0, KERNEL_MIN.1),
        )
        // A question of a package's would be answered by what comes next on standard input.
        .fix(
            "apt-get update </dev/null && DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes </dev/null  \
             # or a release with a newer kernel: Debian 12, Ubuntu 24.04, RHEL 10",
        )
        .after_reboot(),
    }
}

pub(super) fn io_uring(machine: &Machine) -> Check {
    // Kernels before 6.6 have no such switch and no restriction.
    match machine.text(&machine.proc("sys/kernel/io_uring_disabled")).as_deref() {
        None | Some("0") => Check::ok("io_uring", "allowed"),
        Some(value) => {
            let who = if value == "1" {
                "only for root and the group of kernel.io_uring_group"
            } else {
                "for nobody"
            };
            Check::missing("io_uring", format!("allowed {who} (kernel.io_uring_disabled = {value})"))
                .fix("sysctl -w kernel.io_uring_disabled=0")
                .fix("echo 'kernel.io_uring_disabled = 0' > /etc/sysctl.d/60-vega-io-uring.conf")
        }
    }
}

pub(super) fn iommu(machine: &Machine, done_without: bool) -> Check {
    let (units, groups) = (machine.sys("class/iommu"), machine.sys("kernel/iommu_groups"));
    let (units, groups) = (machine.has_entries(&units), machine.has_entries(&groups));
    if units && groups {
        return Check::ok("iommu", "on: each device reaches only the memory that it is given");
    }
    if done_without {
        let detail = "off, and every device of the configuration is set to do without (no_iommu)";
        return Check::recommended("iommu", detail);
    }
    let cpu = machine.text(&machine.proc("cpuinfo")).unwrap_or_default();
    let arguments = machine.text(&machine.proc("cmdline")).unwrap_or_default();
    let (technology, argument) = match cpu.as_str() {
        cpu if cpu.contains("AuthenticAMD") => ("AMD-Vi (IOMMU)", "amd_iommu=on iommu=pt"),
        cpu if cpu.contains("GenuineIntel") => ("VT-d", "intel_iommu=on iommu=pt"),
        _ => ("the IOMMU (SMMU)", "iommu.passthrough=1"),
    };
    let off = ["intel_iommu=off", "amd_iommu=off", "iommu=off"];
    let detail = match off.iter().find(|off| arguments.split(' ').any(|given| given == **off)) {
        Some(off) => format!(
            "switched off by the kernel argument {off}; take it away, and see that {technology} is on in the firmware"
        ),
        None => format!("not there: switch on {technology} in the firmware setup, then in the kernel"),
    };
    Check::missing("iommu", detail).fix(kernel_arguments(argument)).after_reboot()
}

/// Adds arguments, once, where Debian, Ubuntu and others keep them, or says that it has to be done by hand.
fn kernel_arguments(arguments: &str) -> String {
    format!(
        "if [ -f /etc/default/grub ]; then grep -qF '{arguments}' /etc/default/grub || \
         sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{arguments} /' /etc/default/grub; update-grub; \
         else echo 'add to the kernel command line: {arguments}'; fi"
    )
}

pub(super) fn vfio(machine: &Machine) -> Check {
    if machine.sys("bus/pci/drivers/vfio-pci").exists() {
        return Check::ok("vfio-pci", "loaded");
    }
    Check::missing("vfio-pci", "not loaded; it is what hands a controller to user space")
        .fix("modprobe vfio-pci")
        .fix("echo vfio-pci > /etc/modules-load.d/vega.conf")
}

pub(super) fn no_iommu_mode(machine: &Machine) -> Check {
    let switch = machine.sys("module/vfio/parameters/enable_unsafe_noiommu_mode");
    match machine.text(&switch).as_deref() {
        Some("Y" | "1") => Check::ok("no-iommu", "allowed by the kernel, and asked for by a device"),
        _ => Check::missing(
            "no-iommu",
            "a device is to work without an IOMMU, and the kernel does not allow it",
        )
        .fix("modprobe vfio && echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
        .fix("echo 'options vfio enable_unsafe_noiommu_mode=1' > /etc/modprobe.d/vega.conf"),
    }
}

pub(super) fn memory(machine: &Machine) -> Check {
    let needed = machine.buffer_bytes + machine.cores * QUEUE_BYTES;
    let amount = ByteSize(needed);
    if machine.locks_without_limit() {
        return Check::ok("memlock", "this user may lock any amount of memory");
    }
    match machine.limit("Max locked memory") {
        None => Check::ok("memlock", "unlimited"),
        Some(limit) if limit >= needed => Check::ok("memlock", format!("{} of the {amount} that are needed", ByteSize(limit))),
        Some(limit) => Check::missing(
            "memlock",
            format!(
                "{} may be locked; {} cores with buffers of {} need {amount} (limits of a service: LimitMEMLOCK=infinity)",
                ByteSize(limit),
                machine.cores,
                ByteSize(machine.buffer_bytes / machine.cores),
            ),
        )
        .fix("printf '* - memlock unlimited\\nroot - memlock unlimited\\n' > /etc/security/limits.d/60-vega-memlock.conf  # log in again"),
    }
}

pub(super) fn open_files(machine: &Machine) -> Check {
    match machine.limit("Max open files") {
        None => Check::ok("nofile", "unlimited"),
        Some(limit) if limit >= OPEN_FILES_MIN => Check::ok("nofile", format!("{limit} open files")),
        Some(limit) => Check::missing(
            "nofile",
            format!("{limit} open files; {OPEN_FILES_MIN} are needed (limits of a service: LimitNOFILE=1048576)"),
        )
        .fix("printf '* - nofile 1048576\\nroot - nofile 1048576\\n' > /etc/security/limits.d/60-vega-nofile.conf  # log in again"),
    }
}

pub(super) fn huge_pages(machine: &Machine) -> Check {
    let reserved = |folder: &str, bytes: u64| {
        let count = machine.number(&machine.sys(&format!("kernel/mm/hugepages/{folder}/nr_hugepages")));
        count.unwrap_or(0) * bytes
    };
    let found = reserved("hugepages-2048kB", HUGE_PAGE_BYTES) + reserved("hugepages-1048576kB", 1 << 30);
    // Each core takes its own, rounded up.
    let each = (machine.buffer_bytes / machine.cores).div_ceil(HUGE_PAGE_BYTES);
    let pages = each * machine.cores;
    let needed = ByteSize(pages * HUGE_PAGE_BYTES);
    if found >= needed.0 {
        return Check::ok("hugepages", format!("{} reserved, {needed} needed", ByteSize(found)));
    }
    Check::recommended(
        "hugepages",
        format!(
            "{} reserved; the buffers of {} cores take {needed}. Without them locked pages of 4 KiB are used, which costs \
             address translations",
            ByteSize(found),
            machine.cores
        ),
    )
    .fix(format!("sysctl -w vm.nr_hugepages={pages}"))
    .fix(format!("echo 'vm.nr_hugepages = {pages}' > /etc/sysctl.d/60-vega-hugepages.conf"))
}

pub(super) fn isolated_processors(machine: &Machine) -> Check {
    const NAME: &str = "isolated-cores";
    let isolated = machine.text(&machine.sys("devices/system/cpu/isolated")).unwrap_or_default();
    let isolated = list_of(&isolated);
    let wanted: BTreeSet<u32> = match &machine.chosen {
        Some(chosen) => chosen.iter().copied().collect(),
        None if !isolated.is_empty() => {
            // The scheduler gives a process no isolated processor by itself.
            return Check::recommended(
                NAME,
                format!(
                    "processors {} are isolated and the node does not use them: set reactor.cores = [{}] in its configuration",
                    list_text(&isolated),
                    isolated.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                ),
            );
        }
        None => machine.usable.iter().rev().take(machine.usable.len() / 2).copied().collect(),
    };
    if machine.usable.len() < PROCESSORS_MIN && machine.chosen.is_none() {
        return Check::ok(NAME, format!("{} processors are too few to set some aside", machine.usable.len()));
    }
    let list = list_text(&wanted);
    if wanted.is_subset(&isolated) {
        return Check::ok(NAME, format!("processors {list} run nothing but the node"));
    }
    let cores = wanted.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let then = match machine.chosen {
        Some(_) => String::new(),
        None => format!("; then set reactor.cores = [{cores}] in the configuration of the node"),
    };
    Check::recommended(
        NAME,
        format!("processors {list} are shared with everything else, which costs latency{then}"),
    )
    .fix(kernel_arguments(&format!("isolcpus=managed_irq,domain,{list} nohz_full={list} rcu_nocbs={list}")))
    .after_reboot()
}

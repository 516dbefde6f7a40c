//! Whether a machine is prepared to run a node that drives NVMe controllers itself, and what prepares it.
//!
//! Every check reads files below [`Roots`] and changes nothing; each that fails brings the commands that mend it. What the
//! node cannot do without is required; what makes it faster or safer is recommended.

mod checks;
mod machine;

use std::collections::BTreeSet;

use nvme_pci::Host;
use serde::{Deserialize, Serialize};

use crate::config::{Config, DeviceConfig, DevicePlace};
use machine::Machine;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It would be better otherwise.
    Recommended,
    /// The node needs it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `iommu`, `hugepages`, `device/NAME`, …
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, and what it means.
    pub detail: String,
    /// Shell commands that mend it, for root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    /// True when the machine has to be started again afterwards.
    #[serde(default)]
    pub reboot: bool,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, detail)
    }

    fn missing(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Missing, detail)
    }

    fn recommended(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Recommended, detail)
    }

    fn new(name: &str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, detail: detail.into(), fix: Vec::new(), reboot: false }
    }

    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix.push(command.into());
        self
    }

    fn after_reboot(mut self) -> Self {
        self.reboot = true;
        self
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// True when nothing that is required is missing.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// How many checks ended worse than allowed.
    pub fn failed(&self, strict: bool) -> usize {
        let bad = |check: &&Check| match check.outcome {
            Outcome::Ok => false,
            Outcome::Recommended => strict,
            Outcome::Missing => true,
        };
        self.checks.iter().filter(bad).count()
    }

    /// A shell script of all fixes; each command once, and the machine is not started again by it.
    pub fn script(&self) -> String {
        // The shell may read this from a pipe: it must have all of it before a command that reads its input is run, and that
        // command must not be given the rest of it.
        let mut script =
            "#!/bin/sh\n# Prepares this machine for a Vega node. Run it as root.\nset -u\nprepare() {\n"
                .to_owned();
        let mut seen = BTreeSet::new();
        for check in self.checks.iter().filter(|check| check.outcome != Outcome::Ok) {
            // What was found may hold anything, a mount point's line break for one: nothing of it may become a command.
            let about = format!("{}: {}", check.name, check.detail).replace(char::is_control, " ");
            script.push_str(&format!("\n# {about}\n"));
            for command in check.fix.iter().filter(|command| seen.insert(command.as_str())) {
                script.push_str(&format!("{command}\n"));
            }
        }
        if self.checks.iter().any(|check| check.reboot && check.outcome != Outcome::Ok) {
            script.push_str("\necho 'Restart this machine now: kernel arguments have changed.'\n");
        }
        // One command that fails keeps no other from being run, so somebody has to look.
        script.push_str("\necho 'Run \"vega doctor\" again to see what is left.'\n}\nprepare </dev/null\n");
        script
    }
}

/// Looks at a machine on which a node with this configuration is to run.
pub fn diagnose(host: &Host, config: &Config) -> Diagnosis {
    let machine = Machine::read(host.roots(), config);
    // A node whose devices need no hardware needs no IOMMU either.
    let pci: Vec<&DeviceConfig> =
        config.devices.iter().filter(|device| device.emulated_size.is_none()).collect();
    let all_without_iommu = !pci.is_empty() && pci.iter().all(|device| device.no_iommu);
    let mut checks = vec![
        checks::kernel(&machine),
        checks::io_uring(&machine),
        checks::iommu(&machine, all_without_iommu),
        checks::vfio(&machine),
        checks::memory(&machine),
        checks::open_files(&machine),
        checks::huge_pages(&machine),
        checks::isolated_processors(&machine),
    ];
    if pci.iter().any(|device| device.no_iommu) {
        checks.push(checks::no_iommu_mode(&machine));
    }
    checks.extend(pci.into_iter().map(|device| device_check(host, device)));
    let ready = checks.iter().all(|check| check.outcome != Outcome::Missing);
    Diagnosis { ready, checks }
}

/// Whether the node could take the device now.
fn device_check(host: &Host, device: &DeviceConfig) -> Check {
    let name = format!("device/{}", device.name);
    let address = match device.place() {
        DevicePlace::Pci(address) => Ok(address),
        DevicePlace::Disk(path) => host.function_of_disk(&path).map(|function| function.address),
        DevicePlace::Emulated { .. } => unreachable!("only devices with hardware are checked"),
    };
    let options = nvme_pci::BindOptions {
        confirmed_serials: device.confirm_serial.iter().cloned().collect(),
        no_iommu: device.no_iommu,
        own_volumes: true,
        undriven: false,
    };
    let planned = address.and_then(|address| Ok((address, host.plan_bind(&[address], &options)?)));
    match planned {
        Ok((address, plan)) if plan.already().is_empty() => {
            let warnings: Vec<String> = plan.warnings().iter().map(ToString::to_string).collect();
            let warned =
                if warnings.is_empty() { String::new() } else { format!("; {}", warnings.join("; ")) };
            Check::ok(&name, format!("{address} is free to be taken from the kernel{warned}"))
        }
        Ok((address, _)) => Check::ok(&name, format!("{address} is driven by {}", nvme_pci::VFIO_DRIVER)),
        Err(error) => Check::missing(&name, error.to_string()),
    }
}

#[cfg(test)]
mod tests;

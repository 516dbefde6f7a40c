//! Definitions of `vega disk` and `vega doctor`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use nvme_pci::PciAddress;

use crate::model::DeviceName;

/// What a person calls a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum DiskName {
    /// Its place on the PCI buses.
    Address(PciAddress),
    /// A disk of the kernel's driver.
    Path(PathBuf),
    /// A device of a node's configuration.
    Device(DeviceName),
}

/// The text is none of the three.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is neither a PCI address (0000:01:00.0), nor the path of a disk (/dev/nvme0n1), nor the name of a device of \
     a node; \"vega disk list\" shows all of them"
)]
pub(in crate::cli) struct DiskNameError {
    input: String,
}

impl FromStr for DiskName {
    type Err = DiskNameError;

    fn from_str(input: &str) -> Result<Self, DiskNameError> {
        if input.starts_with('/') {
            return Ok(Self::Path(input.into()));
        }
        let wrong = |_| DiskNameError { input: input.to_owned() };
        input.parse().map(Self::Address).or_else(|_| input.parse().map(Self::Device).map_err(wrong))
    }
}

/// Part of what a device says of itself, exactly as nvme-cli prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum NvmeShape {
    /// As "nvme id-ctrl"
    IdCtrl,
    /// As "nvme smart-log"
    SmartLog,
}

#[derive(Subcommand)]
pub(in crate::cli) enum DiskCommand {
    /// List the NVMe controllers of this machine, who uses them, and the devices of a node that runs here
    #[command(visible_alias = "ls")]
    List,
    /// Show a controller of this machine, and what it says of itself when a node drives it
    Show {
        /// PCI address, path of a disk, or name of a device of a node
        disk: DiskName,
        /// Only this, as nvme-cli prints it; the device must be one of a node
        #[arg(long, value_enum)]
        only: Option<NvmeShape>,
    },
    /// Take controllers from the kernel, so that a node can drive them; refuses those that somebody uses
    Bind {
        /// PCI addresses, or paths of disks; nothing that is not named is touched
        #[arg(required = true)]
        disks: Vec<DiskName>,
        /// Serial number of a controller that is used, and is to be taken all the same; may be repeated
        #[arg(long, value_name = "SERIAL")]
        confirm_serial: Vec<String>,
        /// Accept that there is no IOMMU: an error can then overwrite any memory of the machine
        #[arg(long)]
        no_iommu: bool,
        /// Check everything and show what would be written, but change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give controllers back to the kernel
    Unbind {
        /// PCI addresses
        #[arg(required = true)]
        disks: Vec<DiskName>,
        /// Check everything and show what would be written, but change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(in crate::cli) struct DoctorArgs {
    /// Configuration of the node that is to run here: its cores, its memory and its devices are checked as well
    #[arg(long, env = "VEGA_CONFIG", value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Fail also for what is only recommended
    #[arg(long)]
    pub(in crate::cli) strict: bool,
    /// Print a shell script with the commands that fix what is missing, and nothing else
    #[arg(long)]
    pub(in crate::cli) script: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_their_shape() {
        let address = "0000:01:00.0".parse().unwrap();
        assert_eq!("01:00.0".parse(), Ok(DiskName::Address(address)));
        assert_eq!("/dev/nvme0n1".parse(), Ok(DiskName::Path("/dev/nvme0n1".into())));
        assert_eq!("fast-1".parse(), Ok(DiskName::Device("fast-1".parse().unwrap())));
        let error = "dev/nvme0n1".parse::<DiskName>().unwrap_err().to_string();
        assert!(error.contains("vega disk list"), "{error}");
    }
}

//! `vega disk`: the NVMe controllers of this machine, with or without a node that runs on it.

mod list;
mod moves;
mod show;

use std::io::Write;

use nvme_pci::{Function, Host, PciAddress};
use serde_json::Value;

use super::args::{DiskCommand, DiskName, Global};
use super::client::Client;
use super::error::CliError;
use super::output::Printer;
use crate::service::DeviceView;

pub(super) fn run(
    command: DiskCommand,
    global: &Global,
    host: &Host,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        DiskCommand::List => list::run(host, &Node::find(global)?, printer),
        DiskCommand::Show { disk, only } => show::run(&disk, only, host, &Node::find(global)?, printer),
        DiskCommand::Bind { disks, confirm_serial, no_iommu, dry_run } => {
            let options = nvme_pci::BindOptions {
                confirmed_serials: confirm_serial.into_iter().collect(),
                no_iommu,
                ..nvme_pci::BindOptions::default()
            };
            let plan = host.plan_bind(&addresses(&disks, host)?, &options)?;
            moves::run(plan, nvme_pci::VFIO_DRIVER, dry_run, printer, err)
        }
        DiskCommand::Unbind { disks, dry_run } => {
            let plan = host.plan_unbind(&addresses(&disks, host)?)?;
            moves::run(plan, nvme_pci::KERNEL_DRIVER, dry_run, printer, err)
        }
    }
}

fn addresses(disks: &[DiskName], host: &Host) -> Result<Vec<PciAddress>, CliError> {
    let address = |disk: &DiskName| match disk {
        DiskName::Address(address) => Ok(*address),
        DiskName::Path(path) => Ok(host.function_of_disk(path)?.address),
        DiskName::Device(name) => Err(CliError::NoDiskOfMachine { name: name.to_string() }),
    };
    disks.iter().map(address).collect()
}

/// The node that drives devices here, if there is one.
struct Node {
    client: Option<Client>,
    /// Its devices, as the API wrote them and as they are read.
    devices: Vec<(Value, DeviceView)>,
}

impl Node {
    /// A machine without a node is no error, unless the node was named.
    fn find(global: &Global) -> Result<Self, CliError> {
        let asked = Client::new(global).and_then(|client| {
            let value = client.get("/v1/devices")?;
            let values: Vec<Value> = client.read(value)?;
            let devices = values.into_iter().map(|value| Ok((value.clone(), client.read(value)?)));
            let devices = devices.collect::<Result<_, CliError>>()?;
            Ok(Self { client: Some(client), devices })
        });
        match asked {
            Err(CliError::NoNode { .. } | CliError::Connect { .. }) if global.api.is_none() => {
                Ok(Self { client: None, devices: Vec::new() })
            }
            asked => asked,
        }
    }

    /// The device that a controller is.
    fn device_at(&self, function: &Function) -> Option<&(Value, DeviceView)> {
        let address = function.address.to_string();
        self.devices.iter().find(|(_, view)| view.pci_address.as_deref() == Some(address.as_str()))
    }
}

#[cfg(test)]
mod tests;

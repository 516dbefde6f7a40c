//! `vega disk show`.

use nvme_pci::{Function, Host};
use serde_json::{Value, json};

use super::{Node, list};
use crate::cli::args::{DiskName, NvmeShape};
use crate::cli::client::segment;
use crate::cli::error::CliError;
use crate::cli::output::{NONE, Printer, joined, or_none};
use crate::model::{ByteSize, DeviceName};
use crate::service::{DeviceDetails, DeviceView};

pub(super) fn run(
    disk: &DiskName,
    only: Option<NvmeShape>,
    host: &Host,
    node: &Node,
    printer: &mut Printer<'_>,
) -> Result<(), CliError> {
    let (function, name) = match disk {
        DiskName::Device(name) => {
            let view = node.devices.iter().map(|(_, view)| view).find(|view| view.name == *name);
            let address =
                view.and_then(|view| view.pci_address.as_deref()).and_then(|text| text.parse().ok());
            let function = address.and_then(|address| host.function(address).ok());
            (function, Some(name.clone()))
        }
        DiskName::Address(address) => with_device(host.function(*address)?, node),
        DiskName::Path(path) => with_device(host.function_of_disk(path)?, node),
    };
    let details = name.map(|name| details_of(&name, node)).transpose()?;
    if let Some(shape) = only {
        return print_shape(shape, disk, details, printer);
    }
    let uses = function.as_ref().map(|function| host.uses(std::slice::from_ref(function)).remove(0));
    let uses = uses.unwrap_or_default();
    let holders = function.as_ref().map(|function| host.holders(function)).unwrap_or_default();
    let value = json!({
        "controller": function,
        "used_by": list::used_by(&uses),
        "driven_by": holders,
        "device": details.as_ref().map(|(value, _)| value),
    });
    let mut lines = Vec::new();
    if let Some(function) = &function {
        lines.extend(function_lines(function));
        lines.extend(uses.iter().map(|one| ("Used by", one.to_string())));
        lines.extend(holders.iter().map(|process| ("Driven by", process.to_string())));
    }
    if let Some((_, details)) = &details {
        lines.extend(device_lines(&details.device));
    }
    printer.details(&value, &lines)?;
    match details.filter(|_| printer.is_table()) {
        Some((_, details)) => {
            let texts = [details.id_ctrl_text, details.smart_log_text].into_iter().flatten();
            texts.map(|text| "\n".to_owned() + &text).try_for_each(|text| printer.raw(text.as_bytes()))
        }
        None => Ok(()),
    }
}

fn with_device(function: Function, node: &Node) -> (Option<Function>, Option<DeviceName>) {
    let name = node.device_at(&function).map(|(_, view)| view.name.clone());
    (Some(function), name)
}

fn details_of(name: &DeviceName, node: &Node) -> Result<(Value, DeviceDetails), CliError> {
    let client = node.client.as_ref().ok_or_else(|| CliError::NoDevice { name: name.to_string() })?;
    let value = client.get(&format!("/v1/devices/{}", segment(name)))?;
    Ok((value.clone(), client.read(value)?))
}

fn print_shape(
    shape: NvmeShape,
    disk: &DiskName,
    details: Option<(Value, DeviceDetails)>,
    printer: &mut Printer<'_>,
) -> Result<(), CliError> {
    let (value, text) = match (shape, details.map(|(_, details)| details)) {
        (_, None) => (None, None),
        (NvmeShape::IdCtrl, Some(details)) => (details.id_ctrl, details.id_ctrl_text),
        (NvmeShape::SmartLog, Some(details)) => (details.smart_log, details.smart_log_text),
    };
    let (Some(value), Some(text)) = (value, text) else {
        let disk = match disk {
            DiskName::Address(address) => address.to_string(),
            DiskName::Path(path) => path.display().to_string(),
            DiskName::Device(name) => name.to_string(),
        };
        return Err(CliError::NotTold { disk });
    };
    if printer.is_table() { printer.raw(text.as_bytes()) } else { printer.value(&value) }
}

fn function_lines(function: &Function) -> Vec<(&'static str, String)> {
    let id = |vendor: u32, device: u32| format!("{vendor:04x}:{device:04x}");
    let subsystem = function.subsystem_vendor_id.zip(function.subsystem_device_id);
    let link = function.link.as_ref().map(|link| {
        let reduced = if link.is_reduced() {
            format!(" (the controller could do {} x{})", link.max_speed, link.max_width)
        } else {
            String::new()
        };
        format!("{} x{}{reduced}", link.speed, link.width)
    });
    let mut lines = vec![
        ("Address", function.address.to_string()),
        ("Driver", or_none(function.driver.as_ref())),
        ("Driver override", or_none(function.driver_override.as_ref())),
        ("PCI ID", id(function.vendor_id, function.device_id)),
        ("Subsystem ID", or_none(subsystem.map(|(vendor, device)| id(vendor, device)))),
        ("NUMA node", or_none(function.numa_node)),
        ("Link", or_none(link)),
    ];
    match &function.iommu_group {
        None => lines.push(("IOMMU group", NONE.to_owned())),
        Some(group) => {
            let mode = if group.no_iommu { " (no IOMMU)" } else { "" };
            lines.push(("IOMMU group", format!("{}{mode}", group.number)));
            let others = group.members.iter().filter(|member| member.address != function.address);
            lines.extend(others.map(|member| ("Shared with", member.to_string())));
        }
    }
    if let Some(controller) = &function.controller {
        lines.extend([
            ("Controller", format!("{} ({})", controller.name, controller.state)),
            ("Serial number", controller.serial.clone()),
            ("Model", controller.model.clone()),
            ("Firmware", controller.firmware.clone()),
        ]);
        for disk in &controller.disks {
            let size = ByteSize(disk.size_bytes);
            let parts = joined(&disk.partitions);
            let block = or_none(disk.block_size);
            lines.push((
                "Disk",
                format!("{}: {size}, blocks of {block} bytes, partitions {parts}", disk.name),
            ));
        }
    }
    lines
}

fn device_lines(device: &DeviceView) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Device", format!("{} ({}, core {})", device.name, device.kind.as_str(), device.core)),
        ("State", device.state.as_str().to_owned()),
    ];
    lines.extend(device.problem.iter().map(|problem| ("Problem", problem.clone())));
    lines.extend([
        ("Serial number", or_none(device.serial.as_ref())),
        ("Model", or_none(device.model.as_ref())),
        ("Firmware", or_none(device.firmware.as_ref())),
    ]);
    for namespace in &device.namespaces {
        let user = match (&namespace.problem, &namespace.volume) {
            (Some(problem), _) => problem.clone(),
            (None, Some(volume)) => format!("volume {volume}"),
            (None, None) => "free".to_owned(),
        };
        let size = ByteSize(namespace.size_bytes);
        let text = format!("{}: {size}, blocks of {} bytes, {user}", namespace.nsid, namespace.block_size);
        lines.push(("Namespace", text));
    }
    if let Some(health) = &device.health {
        let warnings = joined(&health.critical_warnings);
        lines.push((
            "Health",
            format!(
                "{} °C, spare {} % (warns below {} %), {} % of its life used, {} media errors, warnings {warnings}",
                health.temperature_celsius,
                health.available_spare_percent,
                health.available_spare_threshold_percent,
                health.percentage_used,
                health.media_errors,
            ),
        ));
    }
    for pair in &device.queue_pairs {
        let text = format!(
            "{} on core {}: {} of {} in flight",
            pair.queue_id, pair.core, pair.in_flight, pair.entries
        );
        lines.push(("Queue pair", text));
    }
    lines
}

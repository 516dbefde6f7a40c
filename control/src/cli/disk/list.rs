//! `vega disk list`.

use nvme_pci::{Function, Host, Process, Use};
use serde_json::{Value, json};

use super::Node;
use crate::cli::error::CliError;
use crate::cli::output::{NONE, Printer, joined, or_none};
use crate::model::ByteSize;
use crate::service::DeviceView;

/// A controller of the machine, or a device that is none.
struct Row<'a> {
    function: Option<Function>,
    uses: Vec<Use>,
    holders: Vec<Process>,
    device: Option<&'a (Value, DeviceView)>,
}

pub(super) fn run(host: &Host, node: &Node, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let functions = host.functions();
    let uses = host.uses(&functions);
    let mut rows: Vec<Row<'_>> = functions
        .into_iter()
        .zip(uses)
        .map(|(function, uses)| {
            let (holders, device) = (host.holders(&function), node.device_at(&function));
            Row { function: Some(function), uses, holders, device }
        })
        .collect();
    let elsewhere = |device: &&(Value, DeviceView)| {
        !rows.iter().any(|row| row.device.is_some_and(|known| known.1.name == device.1.name))
    };
    // Emulated devices, and those whose controller is gone.
    let others: Vec<_> = node.devices.iter().filter(elsewhere).collect();
    rows.extend(others.into_iter().map(|device| Row {
        function: None,
        uses: Vec::new(),
        holders: Vec::new(),
        device: Some(device),
    }));
    let value = Value::Array(rows.iter().map(value_of).collect());
    let header = ["ADDRESS", "DRIVER", "DISK", "SERIAL", "MODEL", "SIZE", "NUMA", "GROUP", "USED BY"];
    printer.table(&value, &header, rows.iter().map(cells).collect(), "No NVMe controllers on the PCI buses.")
}

fn value_of(row: &Row<'_>) -> Value {
    json!({
        "controller": row.function,
        "used_by": used_by(&row.uses),
        "driven_by": row.holders,
        "device": row.device.map(|(value, _)| value),
    })
}

/// Uses with the words that people read.
pub(super) fn used_by(uses: &[Use]) -> Vec<Value> {
    let value = |one: &Use| {
        let mut value = serde_json::to_value(one).expect("a use is plain data");
        value["text"] = Value::String(one.to_string());
        value
    };
    uses.iter().map(value).collect()
}

fn cells(row: &Row<'_>) -> Vec<String> {
    let function = row.function.as_ref();
    let controller = function.and_then(|function| function.controller.as_ref());
    let view = row.device.map(|(_, view)| view);
    let driver =
        function.map_or_else(|| view.map(|view| view.kind.as_str().to_owned()), |one| one.driver.clone());
    let kernel_disks = controller.map(|controller| joined(controller.disks.iter().map(|disk| &disk.name)));
    let size_bytes = match (controller, view) {
        (Some(controller), _) => Some(controller.disks.iter().map(|disk| disk.size_bytes).sum()),
        (None, view) => view.map(|view| view.namespaces.iter().map(|namespace| namespace.size_bytes).sum()),
    };
    let serial =
        controller.map(|one| one.serial.clone()).or_else(|| view.and_then(|view| view.serial.clone()));
    let model = controller.map(|one| one.model.clone()).or_else(|| view.and_then(|view| view.model.clone()));
    vec![
        or_none(function.map(|function| function.address).map(|address| address.to_string()))
            .replace(NONE, view.and_then(|view| view.pci_address.as_deref()).unwrap_or(NONE)),
        or_none(driver),
        or_none(view.map(|view| view.name.to_string()).or(kernel_disks)),
        or_none(serial),
        or_none(model),
        or_none(size_bytes.filter(|bytes| *bytes > 0).map(ByteSize)),
        or_none(function.and_then(|function| function.numa_node)),
        or_none(function.and_then(|function| function.iommu_group.as_ref()).map(|group| group.number)),
        users(row),
    ]
}

fn users(row: &Row<'_>) -> String {
    let mut users: Vec<String> = row.uses.iter().map(ToString::to_string).collect();
    match row.device {
        Some((_, view)) => users.push(format!("this node as {} ({})", view.name, view.state.as_str())),
        None => users.extend(row.holders.iter().map(ToString::to_string)),
    }
    if users.is_empty() { NONE.to_owned() } else { users.join("; ") }
}

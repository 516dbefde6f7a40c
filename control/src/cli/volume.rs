//! `vega volume`.

use std::io::{Read, Write};

use axum::http::Method;
use serde_json::{Value, json};

use super::args::{BackingKind, VolumeCommand};
use super::client::{Client, segment};
use super::error::CliError;
use super::output::{NONE, Printer, joined, or_none};
use crate::model::{Backing, ByteSize, VolumeName};
use crate::service::{NewVolume, VolumeDeleted, VolumeView};

pub(super) fn run(
    command: VolumeCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    input: &mut dyn Read,
    err: &mut dyn Write,
    interactive: bool,
) -> Result<(), CliError> {
    match command {
        VolumeCommand::Create {
            name,
            size,
            block_size,
            backing,
            device,
            namespace,
            confirm_serial,
            uuid,
            core,
        } => {
            let backing = backing_of(backing, device, namespace, confirm_serial)?;
            let size_bytes = size.0;
            let new = NewVolume { name, size_bytes, block_size, backing, uuid, core };
            new.to_spec().validate()?;
            let body = serde_json::to_value(&new).expect("a volume can be written as JSON");
            let value = client.request(Method::POST, "/v1/volumes", Some(&body))?;
            let view: VolumeView = client.read(value.clone())?;
            notes(&view, err);
            let line =
                format!("volume/{} {}, {size}, uuid {}", new.name, view.state.as_str(), view.spec.uuid);
            printer.done(&value, &line)
        }
        VolumeCommand::List => {
            let value = client.get("/v1/volumes")?;
            let views: Vec<VolumeView> = client.read(value.clone())?;
            let header = ["NAME", "STATE", "SIZE", "ALLOCATED", "BLOCK", "BACKING", "CORE", "MAPPED BY"];
            printer.table(
                &value,
                &header,
                views.iter().map(row).collect(),
                "No volumes; create one with \"vega volume create\".",
            )
        }
        VolumeCommand::Show { name } => {
            let value = client.get(&path_of(&name))?;
            let view: VolumeView = client.read(value.clone())?;
            printer.details(&value, &details(&view))
        }
        VolumeCommand::Grow { name, size } => {
            let body = json!({ "size_bytes": size.0 });
            let value = client.request(Method::PATCH, &path_of(&name), Some(&body))?;
            printer.done(&value, &format!("volume/{name} grown to {size}"))
        }
        VolumeCommand::Delete { name, delete_data, yes } => {
            if delete_data && !yes {
                confirm(&name, input, err, interactive)?;
            }
            let value = delete(client, &name, delete_data)?;
            let deleted: VolumeDeleted = client.read(value.clone())?;
            printer.done(&value, &epitaph(&deleted))
        }
    }
}

/// A device that is a path is a block device of the kernel; a name is a device of the node.
fn backing_of(
    kind: BackingKind,
    device: Option<String>,
    namespace: Option<u32>,
    confirm_serial: Option<String>,
) -> Result<Backing, CliError> {
    match (kind, device) {
        (BackingKind::Memory, _) => Ok(Backing::Memory),
        (_, None) => Ok(Backing::File),
        (BackingKind::Device, Some(path)) => Ok(Backing::Device { path: path.into(), confirm_serial }),
        (BackingKind::File, Some(path)) if path.contains('/') => {
            Ok(Backing::Device { path: path.into(), confirm_serial })
        }
        (BackingKind::File | BackingKind::Nvme, Some(name)) => {
            Ok(Backing::Nvme { device: name.parse()?, namespace: namespace.unwrap_or(1) })
        }
    }
}

fn path_of(name: &VolumeName) -> String {
    format!("/v1/volumes/{}", segment(name))
}

fn delete(client: &Client, name: &VolumeName, delete_data: bool) -> Result<Value, CliError> {
    let query = if delete_data { format!("?delete_data=true&confirm={name}") } else { String::new() };
    client.request(Method::DELETE, &format!("{}{query}", path_of(name)), None)
}

/// Destroying data takes the name once more from a person, or `--yes` from a script.
fn confirm(
    name: &VolumeName,
    input: &mut dyn Read,
    err: &mut dyn Write,
    interactive: bool,
) -> Result<(), CliError> {
    let refused = || CliError::NotConfirmed { name: name.to_string() };
    if !interactive {
        return Err(refused());
    }
    let asked = write!(err, "This destroys all data of volume {name}. Type its name to go on: ");
    asked.and_then(|()| err.flush()).map_err(CliError::Write)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 256 && input.read(&mut byte).map_err(CliError::Read)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    if String::from_utf8_lossy(&line).trim() == name.as_str() { Ok(()) } else { Err(refused()) }
}

fn epitaph(deleted: &VolumeDeleted) -> String {
    let VolumeDeleted { name, uuid, data_deleted, data_path } = deleted;
    match (data_deleted, data_path) {
        (true, _) => format!("volume/{name} deleted with its data"),
        (false, Some(path)) => format!(
            "volume/{name} deleted; its data is kept in {path}: \"vega volume create {name} --size … --uuid {uuid}\" \
             takes it into service again"
        ),
        (false, None) => format!("volume/{name} deleted; its data was not touched"),
    }
}

/// What an operator should know goes beside the answer, not into it.
fn notes(view: &VolumeView, err: &mut dyn Write) {
    for note in view.notes.iter().chain(&view.problem) {
        let _ = writeln!(err, "note: {note}");
    }
}

fn mapped(view: &VolumeView) -> String {
    let units = view.mapped_by.iter().map(|mapping| format!("{}/{}", mapping.target, mapping.lun));
    let namespace =
        view.namespace.iter().map(|namespace| format!("{}/{}", namespace.subsystem, namespace.nsid));
    joined(units.chain(namespace))
}

fn row(view: &VolumeView) -> Vec<String> {
    vec![
        view.spec.name.to_string(),
        view.state.as_str().to_owned(),
        ByteSize(view.spec.size_bytes).to_string(),
        or_none(view.allocated_bytes.map(ByteSize)),
        view.spec.block_size.to_string(),
        view.spec.backing.kind().to_owned(),
        or_none(view.owner_core),
        mapped(view),
    ]
}

fn details(view: &VolumeView) -> Vec<(&'static str, String)> {
    let spec = &view.spec;
    let backing = match &spec.backing {
        Backing::Device { path, .. } => format!("device {}", path.display()),
        Backing::Nvme { device, namespace } => format!("namespace {namespace} of NVMe device {device}"),
        other => other.kind().to_owned(),
    };
    let cache = match view.volatile_write_cache {
        Some(true) => "volatile: acknowledged writes survive power loss once flushed".to_owned(),
        Some(false) => "none: acknowledged writes survive power loss".to_owned(),
        None => NONE.to_owned(),
    };
    let mut lines = vec![
        ("Name", spec.name.to_string()),
        ("UUID", spec.uuid.to_string()),
        ("State", view.state.as_str().to_owned()),
        ("Size", format!("{} ({} bytes)", ByteSize(spec.size_bytes), spec.size_bytes)),
        ("Allocated", or_none(view.allocated_bytes.map(ByteSize))),
        ("Block size", spec.block_size.to_string()),
        ("Backing", backing),
        ("Data file", or_none(view.data_path.as_ref())),
        ("Core", or_none(view.owner_core)),
        ("Write cache", cache),
        ("Mapped by", mapped(view)),
    ];
    lines.extend(view.problem.iter().map(|problem| ("Problem", problem.clone())));
    lines.extend(view.notes.iter().map(|note| ("Note", note.clone())));
    lines
}

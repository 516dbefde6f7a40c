//! `vega subsystem`.

use std::collections::BTreeMap;
use std::io::Write;

use axum::http::Method;
use serde_json::{Value, json};

use super::args::{SubsystemCommand, SubsystemOptions};
use super::client::{Client, segment};
use super::error::CliError;
use super::output::{Printer, joined};
use crate::model::{HostPattern, ModelNumber, Nqn, Nsid, PortId, SerialNumber, VolumeName};
use crate::service::{NewSubsystem, SubsystemChange, SubsystemView};

pub(super) fn run(
    command: SubsystemCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        SubsystemCommand::Create { nqn, namespaces, allow, serial_number, model_number, options } => {
            let new = new_subsystem(&nqn, &namespaces, allow, serial_number, model_number, options)?;
            let body = serde_json::to_value(&new).expect("a subsystem can be written as JSON");
            let value = client.request(Method::POST, "/v1/subsystems", Some(&body))?;
            let view: SubsystemView = client.read(value.clone())?;
            let hints = connect_commands(&view);
            let hints: String = hints.iter().map(|hint| format!("\nconnect a host with: {hint}")).collect();
            tell(client, printer, err, value, &format!("subsystem/{nqn} created{hints}"))
        }
        SubsystemCommand::List => {
            let value = client.get("/v1/subsystems")?;
            let views: Vec<SubsystemView> = client.read(value.clone())?;
            let header = ["NQN", "NAMESPACES", "HOSTS", "LISTENERS", "STATE"];
            printer.table(
                &value,
                &header,
                views.iter().map(row).collect(),
                "No subsystems; create one with \"vega subsystem create\".",
            )
        }
        SubsystemCommand::Show { nqn } => {
            let value = client.get(&path_of(&nqn))?;
            let view: SubsystemView = client.read(value.clone())?;
            printer.details(&value, &details(&view))
        }
        SubsystemCommand::Set { nqn, options } => {
            let SubsystemOptions { header_digest, data_digest } = options;
            let change = SubsystemChange { header_digest, data_digest };
            let body = serde_json::to_value(change).expect("a change can be written as JSON");
            if body.as_object().is_some_and(serde_json::Map::is_empty) {
                return Err(CliError::NothingToSet { kind: "subsystem" });
            }
            let value = client.request(Method::PATCH, &path_of(&nqn), Some(&body))?;
            tell(client, printer, err, value, &format!("subsystem/{nqn} changed"))
        }
        SubsystemCommand::Delete { nqn } => {
            let value = client.request(Method::DELETE, &path_of(&nqn), None)?;
            printer.done(&value, &format!("subsystem/{nqn} deleted; its volumes stay"))
        }
        change => change_list(change, client, printer, err),
    }
}

/// Namespaces, hosts and states: one entry at a time.
fn change_list(
    command: SubsystemCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let (value, line) = match command {
        SubsystemCommand::AddNamespace { nqn, volume, nsid } => {
            let nsid = nsid.map(Nsid::try_from).transpose()?;
            let path = format!("{}/namespaces", path_of(&nqn));
            let body = json!({ "volume": volume, "nsid": nsid });
            let value = client.request(Method::POST, &path, Some(&body))?;
            let view: SubsystemView = client.read(value.clone())?;
            let nsid = view.spec.nsid_of(&volume).map_or_else(|| "?".to_owned(), |nsid| nsid.to_string());
            (value, format!("subsystem/{nqn} namespace {nsid} is volume {volume}"))
        }
        SubsystemCommand::RemoveNamespace { nqn, nsid } => {
            let path = format!("{}/namespaces/{}", path_of(&nqn), Nsid::try_from(nsid)?);
            let value = client.request(Method::DELETE, &path, None)?;
            (value, format!("subsystem/{nqn} namespace {nsid} removed; its volume stays"))
        }
        SubsystemCommand::AllowHost { nqn, host } => {
            let path = format!("{}/hosts/{}", path_of(&nqn), segment(&host));
            let value = client.request(Method::PUT, &path, None)?;
            (value, format!("subsystem/{nqn} admits {host}"))
        }
        SubsystemCommand::DenyHost { nqn, host, admit_all } => {
            let query = if admit_all { "?admit_all=true" } else { "" };
            let path = format!("{}/hosts/{}{query}", path_of(&nqn), segment(&host));
            let value = client.request(Method::DELETE, &path, None)?;
            (value, format!("subsystem/{nqn} no longer lists {host}"))
        }
        SubsystemCommand::SetAna { nqn, all: _, listener, state } => {
            let listener = PortId::try_from(listener)?;
            let body = json!({ "state": state });
            let (path, whose) = match &nqn {
                Some(nqn) => (format!("{}/ana/{listener}", path_of(nqn)), format!("subsystem/{nqn}")),
                None => (format!("/v1/listeners/{listener}/ana"), "every subsystem".to_owned()),
            };
            let value = client.request(Method::PUT, &path, Some(&body))?;
            let line = format!("{whose} is {} by listener {listener}", state.as_str());
            if nqn.is_none() {
                return printer.done(&value, &line);
            }
            (value, line)
        }
        SubsystemCommand::Create { .. }
        | SubsystemCommand::List
        | SubsystemCommand::Show { .. }
        | SubsystemCommand::Set { .. }
        | SubsystemCommand::Delete { .. } => unreachable!("handled before the lists are looked at"),
    };
    tell(client, printer, err, value, &line)
}

fn path_of(nqn: &Nqn) -> String {
    format!("/v1/subsystems/{}", segment(nqn))
}

fn new_subsystem(
    nqn: &Nqn,
    namespaces: &[String],
    allow: Vec<HostPattern>,
    serial_number: Option<SerialNumber>,
    model_number: ModelNumber,
    options: SubsystemOptions,
) -> Result<NewSubsystem, CliError> {
    let mut new = NewSubsystem {
        nqn: nqn.clone(),
        serial_number,
        model_number,
        namespaces: BTreeMap::new(),
        allow: allow.into_iter().collect(),
        ana: BTreeMap::new(),
        header_digest: options.header_digest.unwrap_or_default(),
        data_digest: options.data_digest.unwrap_or_default(),
    };
    // Those with an NSID first, so that no other takes it.
    let (given, free): (Vec<&String>, Vec<&String>) = namespaces.iter().partition(|text| text.contains('='));
    for text in given {
        let wrong = || CliError::Namespace { input: text.clone() };
        let (nsid, volume) = text.split_once('=').ok_or_else(wrong)?;
        let nsid = Nsid::try_from(nsid.parse::<u64>().map_err(|_| wrong())?)?;
        if new.namespaces.insert(nsid, volume.parse::<VolumeName>()?).is_some() {
            return Err(wrong());
        }
    }
    for text in free {
        let nsid = new.to_spec().free_nsid()?;
        new.namespaces.insert(nsid, text.parse::<VolumeName>()?);
    }
    new.to_spec().validate()?;
    Ok(new)
}

/// One line, and what the operator should know about the subsystem beside it.
fn tell(
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
    value: Value,
    line: &str,
) -> Result<(), CliError> {
    let view: SubsystemView = client.read(value.clone())?;
    for warning in view.problem.iter().chain(&view.warnings) {
        let _ = writeln!(err, "warning: {warning}");
    }
    printer.done(&value, line)
}

/// What to type on a Linux host, for each way to the subsystem.
fn connect_commands(view: &SubsystemView) -> Vec<String> {
    let command = |address: &str| {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "4420"));
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            // It listens on every address of the node; only the operator knows which one the host reaches.
            "0.0.0.0" | "::" => "ADDRESS-OF-THIS-NODE",
            host => host,
        };
        format!("nvme connect -t tcp -a {host} -s {port} -n {}", view.spec.nqn)
    };
    view.listeners.iter().map(|listener| command(&listener.address)).collect()
}

fn namespaces(view: &SubsystemView) -> String {
    joined(view.spec.namespaces.iter().map(|(nsid, volume)| format!("{nsid}={volume}")))
}

fn hosts(view: &SubsystemView) -> String {
    if view.spec.allow.is_empty() { "<any>".to_owned() } else { joined(&view.spec.allow) }
}

fn row(view: &SubsystemView) -> Vec<String> {
    let state = if view.problem.is_some() { "failed" } else { "online" };
    // Listeners that share a tag are in one state.
    let states: BTreeMap<_, _> =
        view.listeners.iter().map(|listener| (listener.tag, listener.ana.as_str())).collect();
    vec![
        view.spec.nqn.to_string(),
        namespaces(view),
        hosts(view),
        joined(states.iter().map(|(tag, state)| format!("{tag}={state}"))),
        state.to_owned(),
    ]
}

fn details(view: &SubsystemView) -> Vec<(&'static str, String)> {
    let spec = &view.spec;
    let mut lines = vec![
        ("NQN", spec.nqn.to_string()),
        ("Serial number", spec.serial_number.to_string()),
        ("Model number", spec.model_number.to_string()),
        ("Namespaces", namespaces(view)),
        ("Hosts", hosts(view)),
        ("Header digest", spec.header_digest.as_str().to_owned()),
        ("Data digest", spec.data_digest.as_str().to_owned()),
    ];
    lines.extend(view.listeners.iter().map(|listener| {
        ("Listener", format!("{} on {}: {}", listener.tag, listener.address, listener.ana.as_str()))
    }));
    lines.extend(connect_commands(view).into_iter().map(|command| ("Connect", command)));
    lines.extend(view.problem.iter().map(|problem| ("Problem", problem.clone())));
    lines.extend(view.warnings.iter().map(|warning| ("Warning", warning.clone())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AnaState, SubsystemSpec};
    use crate::service::ListenerView;

    #[test]
    fn the_hint_is_a_command_that_a_host_can_run() {
        let nqn: Nqn = "nqn.2026-11.io.vega:s".parse().unwrap();
        let at = |address: &str| {
            let tag = 1.try_into().unwrap();
            let listener = ListenerView { tag, address: address.to_owned(), ana: AnaState::Optimized };
            let spec = SubsystemSpec::new(nqn.clone());
            let view = SubsystemView { spec, listeners: vec![listener], problem: None, warnings: Vec::new() };
            connect_commands(&view).remove(0)
        };
        assert_eq!(
            at("192.0.2.10:4420"),
            "nvme connect -t tcp -a 192.0.2.10 -s 4420 -n nqn.2026-11.io.vega:s"
        );
        assert!(at("[2001:db8::1]:4421").contains("-a 2001:db8::1 -s 4421 "));
        assert!(at("storage.example:4420").contains("-a storage.example -s 4420 "));
        assert!(at("0.0.0.0:4420").contains("-a ADDRESS-OF-THIS-NODE "));
        assert!(at("[::]:4420").contains("-a ADDRESS-OF-THIS-NODE "));
    }

    #[test]
    fn namespaces_without_a_number_take_what_the_others_leave() {
        let nqn: Nqn = "nqn.2026-11.io.vega:s".parse().unwrap();
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let options = SubsystemOptions { header_digest: None, data_digest: None };
            new_subsystem(&nqn, &texts, Vec::new(), None, ModelNumber::default(), options)
        };
        let new = read(&["a", "1=b", "c", "4=d"]).unwrap();
        let map: Vec<_> = new.namespaces.iter().map(|(nsid, volume)| format!("{nsid}={volume}")).collect();
        assert_eq!(map, ["1=b", "2=a", "3=c", "4=d"]);
        for bad in [&["1=a", "1=b"][..], &["0=a"], &["x=a"], &["a", "a"], &["1="], &["A"]] {
            assert!(read(bad).is_err_and(|error| error.exit_code() == 2), "{bad:?}");
        }
    }
}

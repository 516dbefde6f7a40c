//! `vega target`.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use axum::http::Method;
use serde_json::{Value, json};

use super::args::{AllowCommand, LunCommand, TargetCommand, TargetOptions, UserCommand};
use super::client::{Client, segment};
use super::error::CliError;
use super::output::{Printer, joined, or_none};
use super::secret;
use crate::model::{AuthMethod, ChapRole, IscsiName, Lun, VolumeName};
use crate::service::{NewTarget, TargetChange, TargetView};

pub(super) fn run(
    command: TargetCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    input: &mut dyn Read,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        TargetCommand::Create { iqn, luns, allow, options } => {
            let new = new_target(&iqn, &luns, allow, options)?;
            let body = serde_json::to_value(&new).expect("a target can be written as JSON");
            let value = client.request(Method::POST, "/v1/targets", Some(&body))?;
            tell(client, printer, err, value, &format!("target/{iqn} created"))
        }
        TargetCommand::List => {
            let value = client.get("/v1/targets")?;
            let views: Vec<TargetView> = client.read(value.clone())?;
            let header = ["NAME", "LUNS", "AUTH", "USERS", "INITIATORS", "STATE"];
            printer.table(
                &value,
                &header,
                views.iter().map(row).collect(),
                "No targets; create one with \"vega target create\".",
            )
        }
        TargetCommand::Show { iqn } => {
            let value = client.get(&path_of(&iqn))?;
            let view: TargetView = client.read(value.clone())?;
            printer.details(&value, &details(&view))
        }
        TargetCommand::Set { iqn, options } => {
            let TargetOptions { alias, portal_group_tag, auth, header_digest, data_digest } = options;
            let change =
                TargetChange { alias, portal_group_tag, auth_method: auth, header_digest, data_digest };
            let body = serde_json::to_value(change).expect("a change can be written as JSON");
            if body.as_object().is_some_and(serde_json::Map::is_empty) {
                return Err(CliError::NothingToSet { kind: "target" });
            }
            let value = client.request(Method::PATCH, &path_of(&iqn), Some(&body))?;
            tell(client, printer, err, value, &format!("target/{iqn} changed"))
        }
        TargetCommand::Delete { iqn } => {
            let value = client.request(Method::DELETE, &path_of(&iqn), None)?;
            printer.done(&value, &format!("target/{iqn} deleted; its volumes stay"))
        }
        TargetCommand::Lun(command) => lun(command, client, printer, err),
        TargetCommand::User(command) => user(command, client, printer, input, err),
        TargetCommand::Allow(command) => allow(command, client, printer, err),
    }
}

fn lun(
    command: LunCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        LunCommand::Add { iqn, lun, volume } => {
            let path = format!("{}/luns/{}", path_of(&iqn), Lun::try_from(lun)?);
            let value = client.request(Method::PUT, &path, Some(&json!({ "volume": volume })))?;
            tell(client, printer, err, value, &format!("target/{iqn} LUN {lun} is volume {volume}"))
        }
        LunCommand::Remove { iqn, lun } => {
            let path = format!("{}/luns/{}", path_of(&iqn), Lun::try_from(lun)?);
            let value = client.request(Method::DELETE, &path, None)?;
            tell(client, printer, err, value, &format!("target/{iqn} LUN {lun} removed; its volume stays"))
        }
    }
}

fn user(
    command: UserCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    input: &mut dyn Read,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        UserCommand::Add { iqn, user, role, secret_file, secret_env } => {
            let secret = secret::read(secret_file.as_deref(), secret_env.as_deref(), input, err)?;
            let text = String::from_utf8_lossy(secret.reveal_bytes());
            let path = format!("{}/chap-users/{}", path_of(&iqn), segment(&user));
            let value = client.request(Method::PUT, &path, Some(&json!({ "secret": text, "role": role })))?;
            tell(client, printer, err, value, &format!("target/{iqn} user {user} set"))
        }
        UserCommand::Remove { iqn, user } => {
            let path = format!("{}/chap-users/{}", path_of(&iqn), segment(&user));
            let value = client.request(Method::DELETE, &path, None)?;
            tell(client, printer, err, value, &format!("target/{iqn} user {user} removed"))
        }
    }
}

fn allow(
    command: AllowCommand,
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        AllowCommand::Add { iqn, initiator } => {
            let path = format!("{}/initiators/{}", path_of(&iqn), segment(&initiator));
            let value = client.request(Method::PUT, &path, None)?;
            tell(client, printer, err, value, &format!("target/{iqn} admits {initiator}"))
        }
        AllowCommand::Remove { iqn, initiator } => {
            let path = format!("{}/initiators/{}", path_of(&iqn), segment(&initiator));
            let value = client.request(Method::DELETE, &path, None)?;
            tell(client, printer, err, value, &format!("target/{iqn} no longer lists {initiator}"))
        }
        AllowCommand::List { iqn } => {
            let value = client.get(&format!("{}/initiators", path_of(&iqn)))?;
            let entries: Vec<String> = client.read(value.clone())?;
            let rows = entries.into_iter().map(|entry| vec![entry]).collect();
            printer.table(&value, &["INITIATOR"], rows, "No entries: every initiator may log in.")
        }
    }
}

fn path_of(iqn: &IscsiName) -> String {
    format!("/v1/targets/{}", segment(iqn))
}

fn new_target(
    iqn: &IscsiName,
    luns: &[String],
    allow: Vec<crate::model::InitiatorPattern>,
    options: TargetOptions,
) -> Result<NewTarget, CliError> {
    let mut map = BTreeMap::new();
    for text in luns {
        let wrong = || CliError::LunMapping { input: text.clone() };
        let (lun, volume) = text.split_once('=').ok_or_else(wrong)?;
        let lun = Lun::try_from(lun.parse::<u64>().map_err(|_| wrong())?)?;
        if map.insert(lun, volume.parse::<VolumeName>()?).is_some() {
            return Err(wrong());
        }
    }
    let new = NewTarget {
        name: iqn.clone(),
        alias: options.alias,
        portal_group_tag: options.portal_group_tag.unwrap_or(1),
        luns: map,
        auth_method: options.auth.unwrap_or_default(),
        allow: allow.into_iter().collect(),
        header_digest: options.header_digest.unwrap_or_default(),
        data_digest: options.data_digest.unwrap_or_default(),
    };
    new.to_spec().validate()?;
    Ok(new)
}

/// One line, and what the operator should know about the target beside it.
fn tell(
    client: &Client,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
    value: Value,
    line: &str,
) -> Result<(), CliError> {
    let view: TargetView = client.read(value.clone())?;
    for warning in view.problem.iter().chain(&view.warnings) {
        let _ = writeln!(err, "warning: {warning}");
    }
    printer.done(&value, line)
}

fn auth(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::None => "none",
        AuthMethod::Chap => "chap",
        AuthMethod::Mutual => "mutual",
    }
}

fn luns(view: &TargetView) -> String {
    joined(view.spec.luns.iter().map(|(lun, volume)| format!("{lun}={volume}")))
}

fn users(view: &TargetView) -> String {
    joined(view.spec.users.iter().map(|user| match user.role {
        ChapRole::Initiator => user.name.to_string(),
        ChapRole::Target => format!("{} (target)", user.name),
    }))
}

fn initiators(view: &TargetView) -> String {
    if view.spec.allow.is_empty() { "<any>".to_owned() } else { joined(&view.spec.allow) }
}

fn row(view: &TargetView) -> Vec<String> {
    let state = if view.problem.is_some() { "failed" } else { "online" };
    vec![
        view.spec.name.to_string(),
        luns(view),
        auth(view.spec.auth_method).to_owned(),
        users(view),
        initiators(view),
        state.to_owned(),
    ]
}

fn details(view: &TargetView) -> Vec<(&'static str, String)> {
    let spec = &view.spec;
    let digest = |policy| {
        serde_json::to_value(policy).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let mut lines = vec![
        ("Name", spec.name.to_string()),
        ("Alias", or_none(spec.alias.as_ref())),
        ("Portal group", spec.portal_group_tag.to_string()),
        ("LUNs", luns(view)),
        ("Authentication", auth(spec.auth_method).to_owned()),
        ("Users", users(view)),
        ("Initiators", initiators(view)),
        ("Header digest", digest(spec.header_digest)),
        ("Data digest", digest(spec.data_digest)),
    ];
    lines.extend(view.problem.iter().map(|problem| ("Problem", problem.clone())));
    lines.extend(view.warnings.iter().map(|warning| ("Warning", warning.clone())));
    lines
}

//! `vega session` and `vega status`.

use axum::http::Method;

use super::args::SessionCommand;
use super::client::{Client, segment};
use super::error::CliError;
use super::output::{Printer, joined, or_none};
use crate::model::{NodeStatus, SessionInfo};

pub(super) fn run(
    command: SessionCommand,
    client: &Client,
    printer: &mut Printer<'_>,
) -> Result<(), CliError> {
    match command {
        SessionCommand::List => {
            let value = client.get("/v1/sessions")?;
            let sessions: Vec<SessionInfo> = client.read(value.clone())?;
            let header = ["ID", "INITIATOR", "TARGET", "CONNECTIONS", "TASKS"];
            printer.table(&value, &header, sessions.iter().map(row).collect(), "No sessions.")
        }
        SessionCommand::Drop { id } => {
            let value = client.request(Method::DELETE, &format!("/v1/sessions/{}", segment(id)), None)?;
            printer.done(&value, &format!("session/{id} closed; its initiator may log in again"))
        }
    }
}

fn row(session: &SessionInfo) -> Vec<String> {
    let target = session.target.as_ref().map_or_else(|| "<discovery>".to_owned(), ToString::to_string);
    let peers = session.connections.iter().map(|connection| connection.peer);
    vec![session.id.to_string(), session.initiator.clone(), target, joined(peers), session.tasks.to_string()]
}

/// `vega status`.
pub(super) fn status(client: &Client, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let value = client.get("/v1/node")?;
    let node: NodeStatus = client.read(value.clone())?;
    let listeners = node.listeners.iter().map(|listener| format!("{},{}", listener.address, listener.tag));
    let mut lines = vec![
        ("Name", node.name),
        ("Version", format!("{} ({})", node.version, node.git_commit)),
        ("Started", format!("{} ({} s ago)", node.started_at, node.uptime_seconds)),
        ("State", if node.draining { "draining" } else { "serving" }.to_owned()),
        ("Data directory", node.data_dir),
        ("Portals", joined(node.portals)),
        ("Listeners", joined(listeners)),
        ("Volumes", node.volumes.to_string()),
        ("Targets", node.targets.to_string()),
        ("Sessions", node.sessions.to_string()),
        ("Subsystems", node.subsystems.to_string()),
        ("Controllers", node.controllers.to_string()),
    ];
    for core in node.cores {
        let all_seconds = core.busy_seconds + core.idle_seconds;
        let busy_percent = if all_seconds > 0.0 { 100.0 * core.busy_seconds / all_seconds } else { 0.0 };
        lines.push((
            "Core",
            format!(
                "{} on processor {}: {busy_percent:.1} % busy, {} stalls, {}",
                core.core,
                or_none(core.cpu),
                core.stalls,
                core.memory
            ),
        ));
    }
    printer.details(&value, &lines)
}

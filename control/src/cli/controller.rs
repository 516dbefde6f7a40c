//! `vega controller`.

use std::collections::BTreeSet;

use axum::http::Method;

use super::args::ControllerCommand;
use super::client::{Client, segment};
use super::error::CliError;
use super::output::{NONE, Printer, joined};
use crate::model::ControllerInfo;

pub(super) fn run(
    command: ControllerCommand,
    client: &Client,
    printer: &mut Printer<'_>,
) -> Result<(), CliError> {
    match command {
        ControllerCommand::List => {
            let value = client.get("/v1/controllers")?;
            let controllers: Vec<ControllerInfo> = client.read(value.clone())?;
            let header = ["ID", "KIND", "HOST", "LISTENER", "QUEUES", "PEER", "KEEP-ALIVE", "COMMANDS"];
            printer.table(&value, &header, controllers.iter().map(row).collect(), "No controllers.")
        }
        ControllerCommand::Drop { id } => {
            let path = format!("/v1/controllers/{}", segment(&id));
            let value = client.request(Method::DELETE, &path, None)?;
            printer.done(&value, &format!("controller/{id} disconnected; its host may connect again"))
        }
    }
}

fn row(controller: &ControllerInfo) -> Vec<String> {
    // Every queue has a port of its own, which tells a person nothing.
    let peers: BTreeSet<_> = controller.queues.iter().map(|queue| queue.peer.ip()).collect();
    let keep_alive = match controller.keep_alive_ms {
        0 => NONE.to_owned(),
        ms => format!("{}s", f64::from(ms) / 1e3),
    };
    vec![
        controller.id.to_string(),
        controller.kind.as_str().to_owned(),
        controller.host_nqn.clone(),
        controller.listener.to_string(),
        controller.queues.len().to_string(),
        joined(peers),
        keep_alive,
        controller.commands.to_string(),
    ]
}

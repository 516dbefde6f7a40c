//! `vega top`: what each volume does, live or once.

mod rates;
mod screen;

use std::time::Duration;

use super::args::TopArgs;
use super::client::Client;
use super::error::CliError;
use super::output::{Printer, table_text};
use crate::service::{StatsView, SubsystemReading};

/// The live view when a person watches; one plain table with `--once`.
pub(super) fn run(options: TopArgs, client: &Client, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let interval = Duration::from_secs(options.interval);
    if options.once {
        return once(interval, client, printer);
    }
    screen::run(interval.max(Duration::from_secs(1)), || read(client))
}

fn read(client: &Client) -> Result<StatsView, CliError> {
    client.read(client.get("/v1/stats")?)
}

fn once(interval: Duration, client: &Client, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let earlier = if interval.is_zero() { StatsView::default() } else { read(client)? };
    if !interval.is_zero() {
        std::thread::sleep(interval);
    }
    let later = read(client)?;
    let rates = rates::between(&earlier, &later);
    let value = serde_json::to_value(&rates).expect("rates are finite numbers and text");
    if !printer.is_table() {
        return printer.value(&value);
    }
    let rows = rates.iter().map(rates::Rates::cells).collect();
    printer.table(&value, &rates::HEADER, rows, "No volumes.")?;
    subsystems(&later, printer)
}

/// Who is connected over NVMe/TCP, below the volumes; nothing when nobody is.
fn subsystems(stats: &StatsView, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let used = stats.subsystems.iter().filter(|reading| reading.controllers > 0);
    let cells = |reading: &SubsystemReading| {
        let numbers = [u64::from(reading.core), reading.controllers, reading.connections];
        let numbers = numbers.iter().map(ToString::to_string);
        std::iter::once(reading.subsystem.to_string()).chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = used.map(cells).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let table = table_text(&["SUBSYSTEM", "CORE", "CONTROLLERS", "CONNECTIONS"], rows);
    printer.raw(format!("\n{table}").as_bytes())
}

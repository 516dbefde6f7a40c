//! `vega disk bind` and `vega disk unbind`.

use std::io::Write;

use nvme_pci::Plan;
use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::output::Printer;

/// Says what will be done, does it unless it is only looked at, and says what was done.
pub(super) fn run(
    plan: Plan,
    driver: &str,
    dry_run: bool,
    printer: &mut Printer<'_>,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    for warning in plan.warnings() {
        writeln!(err, "warning: {warning}").map_err(CliError::Write)?;
    }
    let (moved, already, writes) = (plan.moved(), plan.already().to_vec(), plan.writes());
    let value = json!({
        "driver": driver,
        "moved": moved,
        "already": already,
        "writes": writes,
        "warnings": plan.warnings(),
        "dry_run": dry_run,
    });
    let mut lines: Vec<String> =
        already.iter().map(|at| format!("{at} is driven by {driver} already")).collect();
    if dry_run {
        lines.extend(writes.iter().map(ToString::to_string));
        lines.push("nothing was changed (--dry-run)".to_owned());
    } else {
        plan.execute()?;
        lines.extend(moved.iter().map(|at| format!("{at} is driven by {driver} now")));
    }
    printer.done(&value, &lines.join("\n"))
}

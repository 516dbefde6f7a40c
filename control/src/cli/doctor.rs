//! `vega doctor`.

use nvme_pci::Host;

use super::args::DoctorArgs;
use super::error::CliError;
use super::output::Printer;
use crate::config::{self, Environment};
use crate::doctor::{Diagnosis, Outcome, diagnose};

pub(super) fn run(args: &DoctorArgs, host: &Host, printer: &mut Printer<'_>) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &Environment::of_process())?;
    let diagnosis = diagnose(host, &config);
    if args.script {
        return printer.raw(diagnosis.script().as_bytes());
    }
    if printer.is_table() {
        printer.raw(text(&diagnosis).as_bytes())?;
    } else {
        printer.value(&serde_json::to_value(&diagnosis).expect("a diagnosis is plain data"))?;
    }
    match diagnosis.failed(args.strict) {
        0 => Ok(()),
        missing => Err(CliError::NotPrepared { missing }),
    }
}

/// One line for each check, and the commands below those that failed.
fn text(diagnosis: &Diagnosis) -> String {
    let width = diagnosis.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &diagnosis.checks {
        let mark = match check.outcome {
            Outcome::Ok => "ok     ",
            Outcome::Recommended => "better ",
            Outcome::Missing => "MISSING",
        };
        text.push_str(&format!("{mark}  {:width$}  {}\n", check.name, check.detail));
        for command in &check.fix {
            text.push_str(&format!("         {:width$}  # {command}\n", ""));
        }
        if check.reboot {
            text.push_str(&format!("         {:width$}  then restart the machine\n", ""));
        }
    }
    text
}

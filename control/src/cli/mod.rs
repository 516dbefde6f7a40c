//! The `vega` command line: definitions, the client of the API, tables, and everything of `vega node` that is not
//! the data plane.
//!
//! A command is one or a few requests to the API, so that it can do nothing that a program could not. Answers go to
//! standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 124 too late.

mod args;
mod bench;
mod client;
mod controller;
mod disk;
mod doctor;
mod error;
mod output;
mod secret;
mod session;
mod subsystem;
mod target;
mod top;
mod volume;

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use nvme_pci::Host;

use crate::config::{self, Config, Environment};
use crate::logging::{self, LogHandle};
use args::{Cli, Command, NodeArgs};
pub use bench::{BenchAnswer, BenchOptions, BenchRefusal, BenchStart};
use client::Client;
use error::CliError;
use output::Printer;

/// What `vega node` was told, checked; the log runs.
pub struct NodeStart {
    /// The whole configuration.
    pub config: Config,
    /// Changes the log level while the node runs; goes into [`NodeControl`](crate::run::NodeControl).
    pub log: LogHandle,
    /// The configuration file, if one was given; read again on SIGHUP for the log level.
    pub config_file: Option<PathBuf>,
}

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// True when a person is there to answer a question.
    pub interactive: bool,
}

/// Runs the command line of this process. `start_node` starts the cores and calls
/// [`run_node`](crate::run::run_node); it is called for `vega node` only. `run_bench` makes the load of `vega bench`.
pub fn run(
    start_node: impl FnOnce(NodeStart) -> ExitCode,
    run_bench: impl FnOnce(&BenchOptions) -> Result<BenchAnswer, BenchRefusal>,
) -> ExitCode {
    let interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let (mut input, mut out, mut err) = (std::io::stdin().lock(), std::io::stdout(), std::io::stderr());
    let streams = Streams { input: &mut input, out: &mut out, err: &mut err, interactive };
    match execute(std::env::args_os(), streams) {
        Outcome::Exit(code) => ExitCode::from(code),
        Outcome::StartNode(start) => {
            // A node does not read its input, and its log must not wait for this lock.
            drop(input);
            start_node(*start)
        }
        Outcome::RunBench(start) => ExitCode::from(bench::finish(&start, run_bench, &mut out, &mut err)),
    }
}

/// What is left to do when a command line has been executed.
pub enum Outcome {
    /// Nothing; the process ends with this code.
    Exit(u8),
    /// Run a node.
    StartNode(Box<NodeStart>),
    /// Make a load.
    RunBench(Box<BenchStart>),
}

/// Executes a command line, first word being the program's name.
pub fn execute(args: impl IntoIterator<Item = OsString>, streams: Streams<'_>) -> Outcome {
    execute_on(&Host::this(), args, streams)
}

/// The same on another machine.
fn execute_on(host: &Host, args: impl IntoIterator<Item = OsString>, mut streams: Streams<'_>) -> Outcome {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let to = if error.use_stderr() { &mut *streams.err } else { &mut *streams.out };
            // Nobody reads it: there is nobody to tell that, either.
            let _ = write!(to, "{}", error.render());
            return Outcome::Exit(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Command::Node(node) => return start(*node, &mut streams),
        Command::Bench(args) => {
            let start = BenchStart { options: args.options(), format: cli.global.output };
            return Outcome::RunBench(Box::new(start));
        }
        _ => command(cli, host, &mut streams),
    };
    match result {
        Ok(()) => Outcome::Exit(0),
        // The reader has seen enough ("vega volume list | head").
        Err(CliError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Outcome::Exit(0),
        Err(error) => {
            let _ = writeln!(streams.err, "error: {error}");
            Outcome::Exit(error.exit_code())
        }
    }
}

fn command(cli: Cli, host: &Host, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    let mut printer = Printer::new(global.output, &mut *streams.out);
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vega", &mut script);
            printer.raw(&script)
        }
        Command::Openapi => printer.raw(crate::api::openapi_json().as_bytes()),
        Command::Disk(command) => disk::run(command, &global, host, &mut printer, streams.err),
        Command::Doctor(args) => doctor::run(&args, host, &mut printer),
        command => {
            let client = Client::new(&global)?;
            ask_node(command, &client, &mut printer, streams.input, streams.err, streams.interactive)
        }
    }
}

/// Commands that are requests to a node.
fn ask_node(
    command: Command,
    client: &Client,
    printer: &mut Printer<'_>,
    input: &mut dyn Read,
    err: &mut dyn Write,
    interactive: bool,
) -> Result<(), CliError> {
    match command {
        Command::Volume(command) => volume::run(command, client, printer, input, err, interactive),
        Command::Target(command) => target::run(command, client, printer, input, err),
        Command::Session(command) => session::run(command, client, printer),
        Command::Subsystem(command) => subsystem::run(command, client, printer, err),
        Command::Controller(command) => controller::run(command, client, printer),
        Command::Status => session::status(client, printer),
        Command::Top(options) => top::run(options, client, printer),
        Command::Node(_)
        | Command::Bench(_)
        | Command::Disk(_)
        | Command::Doctor(_)
        | Command::Completions { .. }
        | Command::Openapi => unreachable!("handled before a client is made"),
    }
}

/// Reads the configuration and starts the log; what is wrong is said before anything else begins.
fn start(node: NodeArgs, streams: &mut Streams<'_>) -> Outcome {
    let prepared = prepare(node);
    match prepared {
        Ok(start) => Outcome::StartNode(Box::new(start)),
        Err(error) => {
            let _ = writeln!(streams.err, "error: {error}");
            Outcome::Exit(error.exit_code())
        }
    }
}

fn prepare(node: NodeArgs) -> Result<NodeStart, CliError> {
    let mut config = config::load(node.config.as_deref(), &Environment::of_process())?;
    node.apply(&mut config)?;
    let log = logging::init(&config.log)?;
    Ok(NodeStart { config, log, config_file: node.config })
}

#[cfg(test)]
mod tests;

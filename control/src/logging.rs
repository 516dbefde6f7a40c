//! The log: one line per event on standard error, JSON for machines, plain for people.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Changes the level of the running log.
#[derive(Clone)]
pub struct LogHandle {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

/// The level is neither a level nor a list of directives.
#[derive(Debug, thiserror::Error)]
#[error(
    "log level {level:?}: {source}; use error, warn, info, debug, trace, or directives such as info,control=debug"
)]
pub struct LevelError {
    level: String,
    source: tracing_subscriber::filter::ParseError,
}

impl LogHandle {
    /// A handle that changes nothing, for tests and for programs with a log of their own.
    pub fn none() -> Self {
        Self { filter: None }
    }

    /// Sets another level from now on.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let new = parse_level(level)?;
        if let Some(handle) = &self.filter {
            // It fails only when the subscriber is gone, and then there is no log to change.
            let _ = handle.reload(new);
        }
        Ok(())
    }
}

fn parse_level(level: &str) -> Result<EnvFilter, LevelError> {
    let wrong = |source| LevelError { level: level.to_owned(), source };
    EnvFilter::builder().parse(level).map_err(wrong)
}

/// Starts the log of this process. A second call changes nothing and returns a handle without effect.
pub fn init(config: &LogConfig) -> Result<LogHandle, LevelError> {
    let (filter, handle) = reload::Layer::new(parse_level(&config.level)?);
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(lines.with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_ansi(colour).with_writer(std::io::stderr)).try_init()
    };
    Ok(LogHandle { filter: started.is_ok().then_some(handle) })
}

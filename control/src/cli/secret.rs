//! Secrets come from standard input, a file or the environment; never from the command line, which every user of the
//! machine can read.

use std::io::{Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::CliError;
use crate::limits::SECRET_BYTES_MAX;
use crate::model::Secret;

/// Reads a secret from wherever it was said to be.
pub(super) fn read(
    file: Option<&Path>,
    variable: Option<&str>,
    input: &mut dyn Read,
    err: &mut dyn Write,
) -> Result<Secret, CliError> {
    if let Some(path) = file {
        let content = std::fs::read(path);
        let content = content.map_err(|source| CliError::SecretFile { path: path.to_owned(), source })?;
        return Ok(Secret::from_line(content)?);
    }
    if let Some(name) = variable {
        let value = std::env::var(name).map_err(|_| CliError::SecretVariable { name: name.to_owned() })?;
        return Ok(Secret::from_line(value.into_bytes())?);
    }
    from_input(input, err)
}

/// One line of standard input; a person is asked, and does not see what is typed.
fn from_input(input: &mut dyn Read, err: &mut dyn Write) -> Result<Secret, CliError> {
    let hidden = Hidden::begin();
    if hidden.is_some() {
        // A question that cannot be shown may still be answered.
        let _ = write!(err, "Secret: ").and_then(|()| err.flush());
    }
    let mut line = Zeroizing::new(Vec::new());
    let mut byte = [0];
    while input.read(&mut byte).map_err(CliError::Read)? == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' || line.len() > SECRET_BYTES_MAX + 2 {
            break;
        }
    }
    if hidden.is_some() {
        let _ = writeln!(err);
    }
    Ok(Secret::from_line(line.to_vec())?)
}

/// Switches the terminal's echo off until it is dropped.
struct Hidden {
    before: rustix::termios::Termios,
}

impl Hidden {
    fn begin() -> Option<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &silent).ok()?;
        Some(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Best effort: the shell restores its terminal as well.
        let _ =
            rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.before);
    }
}

//! What a check says when it fails: a sentence for the person who reads the report.

use std::fmt;

/// Why a check failed.
#[derive(Debug)]
pub struct Failure {
    text: String,
}

/// The result of a check.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that says `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn within(self, context: &str) -> Self {
        Self { text: format!("{context}: {}", self.text) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Fails with `text`.
pub fn fail<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::new(text))
}

/// Fails with `text` unless `condition` holds.
pub fn ensure(condition: bool, text: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { fail(text()) }
}

/// Puts what was being done in front of an error.
pub trait Context<T> {
    /// `context: error`.
    fn context(self, context: &str) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, context: &str) -> Outcome<T> {
        self.map_err(|error| error.into().within(context))
    }
}

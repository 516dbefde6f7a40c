//! The simulator of the whole target: shipped code on a simulated network, simulated disks and one clock.
//!
//! It is: worlds drawn from a seed (cores, volumes, faults, crashes), initiators that use and abuse a target, and
//! checkers that look at everything they saw. One seed is one history, on one thread, without a sleep.
//! It is not: a model of the target, or of its speed. Nothing of the target is replaced but the world around it.
//!
//! Reading order: `options` (what a seed decides), `world` (nodes that crash and come back), `host` and below
//! (an initiator), `history`, `content` and `register` (what blocks may hold), `planted` (bugs made on purpose),
//! `run` (one seed from start to verdict). Beside them `atomic`: the atomic writes of one file, cut short at every step.

#![forbid(unsafe_code)]

pub mod atomic;
pub mod content;
pub mod history;
pub mod host;
pub mod limits;
pub mod log;
pub mod options;
pub mod planted;
pub mod register;
pub mod run;
pub mod world;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// Which rule, in a few words.
    pub rule: &'static str,
    /// Where and how.
    pub detail: String,
}

impl Violation {
    /// The rule `rule` was broken as `detail` says.
    pub fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

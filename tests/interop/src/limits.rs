//! The bounds of the harness. Each wait ends; none is an expectation about speed.

use std::time::Duration;

pub use harness::limits::{COMMAND_PATIENCE, RESIDENT_SLACK_KIB, STATE_PATIENCE};

/// One suite of the conformance program.
pub const SUITE_PATIENCE: Duration = Duration::from_secs(300);
/// The target under test is told to drop a connection that has not logged in after so many seconds.
pub const LOGIN_TIMEOUT_S: u64 = 5;
/// A login that never ends must be dropped within this time.
pub const LOGIN_DROP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a patient target waits for a peer that takes nothing: longer than any scene lasts.
pub const TARGET_PATIENCE_S: u32 = 240;
/// Rounds of a witness's progress within which readers that do not read must have used up the buffers, as the target tells.
pub const SHORTAGE_ROUNDS: u32 = 20;
/// Connections at once.
pub const CONNECTIONS: usize = 1000;
/// Logins and logouts in a row.
pub const LOGINS: usize = 10_000;
/// Rounds of the kill loop.
pub const CRASH_ROUNDS: u32 = 50;

const _: () = {
    // A leak of one page per login would show.
    assert!(RESIDENT_SLACK_KIB < LOGINS as u64 * 4);
    assert!(LOGIN_TIMEOUT_S * 2 < LOGIN_DROP_PATIENCE.as_secs());
    assert!(LOGIN_DROP_PATIENCE.as_secs() < STATE_PATIENCE.as_secs());
};

//! The bounds of the harness. Each wait ends; none is an expectation about speed.

use std::time::Duration;

/// A program that sets something up (a tool, a command of the CLI).
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(120);
/// One suite of the conformance program.
pub const SUITE_PATIENCE: Duration = Duration::from_secs(300);
/// A state that must come about: a port that opens, descriptors that go home.
pub const STATE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at a state.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The target under test is told to drop a connection that has not logged in after so many seconds.
pub const LOGIN_TIMEOUT_S: u64 = 5;
/// A login that never ends must be dropped within this time.
pub const LOGIN_DROP_PATIENCE: Duration = Duration::from_secs(30);
/// Memory that may stay with the target after a storm: allocator slack, not a leak per connection.
pub const RESIDENT_SLACK_KIB: u64 = 24 * 1024;
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

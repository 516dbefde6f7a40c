//! The bounds that all harnesses share. Each wait ends; none is an expectation about speed.

use std::time::Duration;

/// A program that sets something up (a tool, a command of the CLI).
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(120);
/// A state that must come about: a port that opens, descriptors that go home.
pub const STATE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at a state.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Memory that may stay with the target after a storm: allocator slack, not a leak per connection.
pub const RESIDENT_SLACK_KIB: u64 = 24 * 1024;

const _: () = assert!(LOOK_EVERY.as_millis() * 100 < STATE_PATIENCE.as_millis());

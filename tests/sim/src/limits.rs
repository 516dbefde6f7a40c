//! Bounds of the simulator.

use std::time::Duration;

/// Length of every volume: the smallest that a volume may have.
pub const VOLUME_BYTES: u64 = 1 << 20;
/// Turns of one world at most; a world that needs more does not come to an end.
pub const TURNS_MAX: u64 = 400_000;
/// A command that is not answered by then is aborted by its host.
pub const TASK_PATIENCE: Duration = Duration::from_secs(20);
/// A task management function, a login or a logout that is not answered by then ends its session.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(40);
/// The connections of a session that was replaced are closed by then.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Data that is held back is held back so long at most.
pub const HOLD_MAX: Duration = Duration::from_millis(400);
/// A host that lost its session waits so long at most before it logs in again.
pub const RETRY_MAX: Duration = Duration::from_millis(50);
/// The longest turn of a node that was told to stop.
pub const STOPPING_TURN: Duration = Duration::from_millis(1);
/// Writes whose end is unknown that may overlap in one block.
pub const OVERLAP_MAX: usize = 4;
/// The smallest piece that a power loss leaves whole.
pub const SECTOR_BYTES: u32 = 512;
/// States that the register checker may hold for one block.
pub const STATES_MAX: usize = 20_000;
/// States above which those are merged that differ only in what a power loss may bring back.
pub const STATES_SHARP_MAX: usize = 200;
/// Lines of a history that a failure prints.
pub const HISTORY_LINES: usize = 60;

const _: () = {
    assert!(STATES_SHARP_MAX < STATES_MAX);
    assert!(TASK_PATIENCE.as_secs() < REQUEST_PATIENCE.as_secs());
    assert!(VOLUME_BYTES.is_multiple_of(4096) && 4096_u32.is_multiple_of(SECTOR_BYTES));
};

//! Every bound of the driver, and the relations between them that must hold.

use reactor::limits::{BUFFER_ALIGN_BYTES, SEGMENTS_MAX};

/// The page that PRP entries count in: CC.MPS is 0.
pub const PAGE_BYTES: usize = 4096;

/// The longest data of one command: what controllers allow beyond this is not used.
pub const TRANSFER_BYTES_MAX: u64 = 1 << 20;

/// Memory of one command for its PRP list, its SGL segment or its range list.
pub const LIST_BYTES: usize = 2048;

/// I/O queue pairs of one controller: one for each core.
pub const IO_QUEUES_MAX: u16 = 64;

/// Entries of an I/O queue.
pub const IO_QUEUE_ENTRIES_MAX: u16 = 4096;

/// Entries of an I/O queue, unless the configuration says otherwise.
pub const IO_QUEUE_ENTRIES_DEFAULT: u16 = 256;

/// Entries of the admin queue.
pub const ADMIN_QUEUE_ENTRIES: u16 = 32;

/// Admin commands in flight, each with a page for its data.
pub const ADMIN_SLOTS: u16 = 16;

/// Asynchronous Event Requests kept with the controller, if it takes as many.
pub const EVENT_REQUESTS_MAX: u8 = 4;

/// Events that are answered by a new request at once within one second; a controller that tells more is heard again in the
/// next second.
pub const EVENTS_PER_SECOND_MAX: u32 = 64;

/// Aborts under way at once; a controller may allow fewer (ACL).
pub const ABORTS_MAX: u8 = 4;

/// Namespaces of one controller that are looked at; more are ignored and counted.
pub const NAMESPACES_MAX: usize = 128;

/// Namespaces that one queue pair is attached to at once.
pub const ATTACHMENTS_MAX: usize = 1024;

/// I/Os of one queue pair that are more than one command.
pub const LONG_REQUESTS_MAX: usize = 256;

/// Commands that one long I/O has in flight at once.
pub const LONG_PIECES_MAX: u32 = 32;

/// Completions that no command waits for, since the last reset, after which the controller is reset.
pub const SPURIOUS_MAX: u32 = 8;

/// Times that a command is sent again: once after a reset or an abort, once because the controller asked for it.
pub const ATTEMPTS_MAX: u8 = 2;

/// Commands that look for the first unreadable block of a failed read.
pub const PROBES_MAX: u8 = 64;

/// Controller resets in a row that did not help, before the function is reset.
pub const RESETS_BEFORE_FUNCTION_RESET: u32 = 2;

/// Resets in a row, of either kind, before the controller is given up.
pub const RESETS_MAX: u32 = 4;

/// A controller that was ready for so long has recovered: its resets are forgotten.
pub const SETTLED_MS: u64 = 10_000;

/// Time for CSTS.RDY, when the controller claims to need more than this.
pub const READY_TIMEOUT_MS_MAX: u64 = 120_000;
/// Time between two looks at CSTS while something is awaited there.
pub const STATUS_POLL_MS: u64 = 1;
/// Time between two looks at CSTS of a controller at work.
pub const STATUS_LOOK_MS: u64 = 100;
/// Time that queue pairs of other cores get to let go of a controller that is about to be disabled.
pub const LET_GO_MS: u64 = 100;
/// Time for a function-level reset (PCIe gives 100 ms; systems wait longer).
pub const FUNCTION_RESET_TIMEOUT_MS: u64 = 5_000;
/// Time for a shutdown, when the controller claims to need less or says nothing.
pub const SHUTDOWN_TIMEOUT_MS_MIN: u64 = 5_000;
/// Time for a shutdown, when the controller claims to need more.
pub const SHUTDOWN_TIMEOUT_MS_MAX: u64 = 60_000;
/// Time between two looks at the deadlines of commands in flight.
pub const DEADLINE_SCAN_MS: u64 = 50;

/// Time for an I/O command before it is aborted, by default.
pub const IO_TIMEOUT_MS_DEFAULT: u64 = 8_000;
/// Time for an aborted command to end before the controller is reset, by default.
pub const ABORT_TIMEOUT_MS_DEFAULT: u64 = 2_000;
/// Time for an admin command, by default.
pub const ADMIN_TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Time between two looks at the health log page, by default.
pub const HEALTH_INTERVAL_MS_DEFAULT: u64 = 60_000;

/// What a controller has to tell and nobody has asked for; beyond it the oldest is dropped.
pub const CONTROLLER_EVENTS_MAX: usize = 256;

/// Entries of the error log page that are kept.
pub const ERROR_ENTRIES_MAX: usize = PAGE_BYTES / 64;

const _: () = {
    assert!(PAGE_BYTES == BUFFER_ALIGN_BYTES, "buffers begin on a page of the controller");
    // PRP1 names the first page, the list the others.
    assert!((TRANSFER_BYTES_MAX as usize / PAGE_BYTES - 1) * 8 <= LIST_BYTES);
    assert!(SEGMENTS_MAX * 16 <= LIST_BYTES);
    assert!(PAGE_BYTES.is_multiple_of(LIST_BYTES), "a list does not cross a page");
    assert!(ADMIN_SLOTS < ADMIN_QUEUE_ENTRIES && ADMIN_QUEUE_ENTRIES <= 4096);
    assert!((EVENT_REQUESTS_MAX as u16) + (ABORTS_MAX as u16) + 2 <= ADMIN_SLOTS);
    assert!(IO_QUEUE_ENTRIES_DEFAULT <= IO_QUEUE_ENTRIES_MAX && IO_QUEUE_ENTRIES_MAX.is_power_of_two());
    assert!(RESETS_BEFORE_FUNCTION_RESET < RESETS_MAX);
    assert!(DEADLINE_SCAN_MS * 4 <= ABORT_TIMEOUT_MS_DEFAULT);
    assert!(SHUTDOWN_TIMEOUT_MS_MIN <= SHUTDOWN_TIMEOUT_MS_MAX);
    // Initiators in front of us give up after 30 s.
    assert!(2 * (IO_TIMEOUT_MS_DEFAULT + ABORT_TIMEOUT_MS_DEFAULT) < 30_000);
};

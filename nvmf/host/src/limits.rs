//! Bounds of the host side, with their relations checked by the compiler.

use nvmf_proto::limits::{COMMANDS_MAX as QUEUE_COMMANDS_MAX, TX_CHUNKS_MAX};
use volume::limits::MAX_TRANSFER_BYTES;

/// Entries of the admin submission queue: the least that every controller has (Base 3.3.1.2 asks for 32 on Fabrics).
pub const ADMIN_QUEUE_ENTRIES: u16 = 32;
/// Entries of an I/O submission queue, unless the configuration says otherwise.
pub const IO_QUEUE_ENTRIES_DEFAULT: u16 = 128;
/// I/O queues of one controller.
pub const IO_QUEUES_MAX: u16 = 16;
/// Queue numbers that a controller's tokens are spread over: its admin queue and its I/O queues.
pub const TOKENS_PER_CONTROLLER: u32 = 32;
/// Namespaces of one controller that are looked at; more are ignored.
pub const NAMESPACES_MAX: usize = 128;
/// ANA groups of one controller that are looked at; a namespace of another group counts as inaccessible.
pub const ANA_GROUPS_MAX: u32 = 128;
/// Asynchronous Event Requests that are kept with the controller, if it takes as many.
pub const EVENT_REQUESTS_MAX: u8 = 4;
/// Records of a discovery log page that are read; more is taken as a lie.
pub const DISCOVERY_RECORDS_MAX: u64 = 1024;
/// Records that one command reads.
pub const DISCOVERY_RECORDS_PER_READ: u64 = 8;
/// Times that a discovery log page is read again because it changed in between.
pub const DISCOVERY_ATTEMPTS_MAX: u32 = 8;

/// Paths to one subsystem.
pub const PATHS_MAX: usize = 8;
/// Subsystems of one core.
pub const SUBSYSTEMS_MAX: usize = 1024;
/// Commands that a subsystem has open at once, waiting ones included. Beyond it `submit` keeps I/Os in their order.
pub const COMMANDS_MAX: usize = 4096;
/// Free commands that must be there before an I/O is started: a list has no more buffers, so it has no more pieces.
pub const BACKLOG_ROOM: usize = reactor::limits::SEGMENTS_MAX;
/// Commands that one long I/O is cut into and has in flight at once.
pub const PIECES_IN_FLIGHT_MAX: u32 = 8;
/// Times that a command is sent again after the controller asked for it.
pub const ATTEMPTS_MAX: u8 = 8;

/// Scratch memory that a core receives into, in bytes.
pub const SCRATCH_BYTES: usize = 256 << 10;
/// Scratch window while a large payload is received in place: room for the headers that follow it.
pub const SCRATCH_BESIDE_PAYLOAD_BYTES: usize = 4096;
/// A rest of a payload that is shorter is followed by the whole scratch memory: more of the same kind comes behind it.
pub const LARGE_PAYLOAD_BYTES: usize = 32 << 10;
/// So many bytes take so long to look at that more has come meanwhile: worth another call in the same turn, because what is answered
/// together is followed by commands that go together. 2 % more reads from a target that sends 16 answers of 4 KiB at a time.
pub const LONG_RECV_BYTES: usize = 32 << 10;
/// Receive calls for one stream in one turn.
pub const RECV_CALLS_PER_TURN: u32 = 4;
/// Send calls for one stream in one turn.
pub const SEND_CALLS_PER_TURN: u32 = 16;
/// Vectors of one send call.
pub const SEND_VECTORS: usize = TX_CHUNKS_MAX;

/// Time for a stream, ICResp and the answer to Connect, by default.
pub const CONNECT_TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Time for an admin command, by default.
pub const ADMIN_TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Time for an I/O command on one path, by default: less than the 30 s of initiators in front of us.
pub const IO_TIMEOUT_MS_DEFAULT: u64 = 12_000;
/// Time that an I/O waits for any path before it fails, by default.
pub const NO_PATH_TIMEOUT_MS_DEFAULT: u64 = 20_000;
/// Keep Alive Timeout, by default.
pub const KEEP_ALIVE_MS_DEFAULT: u32 = 5_000;
/// Time that the commands of a lost association are taken to have effects, beyond the controller's keep-alive expiry, when
/// the controller does not report its Command Quiesce Time, by default.
pub const QUIESCE_UNREPORTED_MS_DEFAULT: u64 = 5_000;
/// Time for CSTS.RDY, when the controller claims to need more than this.
pub const READY_TIMEOUT_MS_MAX: u64 = 60_000;
/// Time between two looks at CSTS.
pub const READY_POLL_MS: u64 = 10;
/// Time for the reset that ends an association whose admin queue still works.
pub const RESET_TIMEOUT_MS: u64 = 2_000;
/// Delay before a command is sent again that the controller wants later (Command Retry Delay is not looked up).
pub const RETRY_DELAY_MS: u64 = 50;
/// Time between two looks at the ANA states while one is not usable, in case an event was lost.
pub const ANA_LOOK_MS: u64 = 1_000;
/// Time between two looks at the deadlines of commands in flight.
pub const DEADLINE_SCAN_MS: u64 = 250;

/// An association that was live for less counts as an attempt that failed.
pub const SETTLED_MS: u64 = 1_000;
/// First delay after a failed attempt to connect; the very first attempt after a loss is made at once.
pub const RECONNECT_DELAY_MS_FIRST: u64 = 100;
/// Longest delay between two attempts.
pub const RECONNECT_DELAY_MS_MAX: u64 = 10_000;
/// Time without an association after which a path is given up, by default.
pub const CONTROLLER_LOSS_MS_DEFAULT: u64 = 600_000;

/// The longest command of a remote namespace, which a controller must allow: no segment of a buffer is longer, so an I/O can be cut
/// between segments.
pub const TRANSFER_BYTES: u64 = 1 << 20;

const _: () = {
    assert!((IO_QUEUES_MAX as u32) < TOKENS_PER_CONTROLLER);
    assert!(IO_QUEUE_ENTRIES_DEFAULT as usize <= QUEUE_COMMANDS_MAX);
    assert!(ADMIN_QUEUE_ENTRIES as usize <= QUEUE_COMMANDS_MAX);
    assert!((EVENT_REQUESTS_MAX as u16) < ADMIN_QUEUE_ENTRIES);
    assert!(reactor::limits::CLASS_BYTES[reactor::limits::CLASS_BYTES.len() - 1] as u64 <= TRANSFER_BYTES);
    assert!(TRANSFER_BYTES <= MAX_TRANSFER_BYTES);
    assert!(SCRATCH_BESIDE_PAYLOAD_BYTES <= SCRATCH_BYTES && LARGE_PAYLOAD_BYTES <= SCRATCH_BYTES);
    assert!(IO_TIMEOUT_MS_DEFAULT < NO_PATH_TIMEOUT_MS_DEFAULT && NO_PATH_TIMEOUT_MS_DEFAULT < 30_000);
    assert!(COMMANDS_MAX >= 2 * BACKLOG_ROOM && PIECES_IN_FLIGHT_MAX as usize <= BACKLOG_ROOM);
    assert!(RECONNECT_DELAY_MS_FIRST <= RECONNECT_DELAY_MS_MAX);
    assert!(RECONNECT_DELAY_MS_MAX < CONTROLLER_LOSS_MS_DEFAULT);
    assert!(DISCOVERY_RECORDS_PER_READ <= DISCOVERY_RECORDS_MAX);
    assert!(SUBSYSTEMS_MAX * PATHS_MAX * (TOKENS_PER_CONTROLLER as usize) < u32::MAX as usize);
};

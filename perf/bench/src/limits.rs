//! Bounds of a run, with their relations checked by the compiler.

use std::time::Duration;

/// Requests in flight on one queue or connection. One less than the largest NVMe queue: a full one has a free entry.
pub const DEPTH_MAX: u32 = 1023;
/// Queues or connections of one run: as many as a controller of `nvmf_host` has.
pub const QUEUES_MAX: u16 = nvmf_host::limits::IO_QUEUES_MAX;
/// Processors of one run, each with a generator of its own.
pub const PROCESSORS_MAX: usize = 64;
/// Bytes of one request; a target that takes less in one command gets several.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// The smallest logical block.
pub const LOGICAL_BLOCK_BYTES_MIN: u32 = 512;
/// Memory for buffers: depth times queues times bytes of a request, twice when a load reads and writes.
pub const BUFFER_BYTES_MAX: u64 = 8 << 30;
/// Requests per second of an open loop.
pub const RATE_MAX: f64 = 100e6;
/// The longest run, warm-up included, in seconds.
pub const RUNTIME_S_MAX: u64 = 7 * 24 * 3600;
/// Places whose last write is remembered when a run verifies: one word each.
pub const VERIFIED_PLACES_MAX: u64 = 1 << 30;
/// Places that are looked at before a run writes.
pub const SAMPLES: u64 = 32;
/// The longest sleep of a generator that may sleep: signals and the end of its time do not wake it.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Requests that are started in one turn, so that answers are taken in between.
pub const STARTS_PER_TURN: u32 = 4096;
/// Time to connect and to learn what the target is.
pub const START_TIMEOUT_S: u64 = 30;
/// Time for what is in flight when the load ends.
pub const DRAIN_TIMEOUT_S: u64 = 30;
/// Time to take leave of the target.
pub const CLOSE_TIMEOUT_S: u64 = 5;
/// Time for a controller of our own to shut down: a little more than the driver gives it.
pub const SHUTDOWN_TIMEOUT_S: u64 = 65;
/// Time for a namespace to be there after its controller is.
pub const NAMESPACE_TIMEOUT_MS: u64 = 2_000;
/// Bytes of an emulated controller's namespace.
pub const EMULATED_BYTES_MAX: u64 = 1 << 40;
/// Bytes that one read of the look at a namespace's ends takes.
pub const LOOK_BYTES: usize = 64 << 10;
/// Commands that are kept with an NVMe/TCP queue at least for a request in flight that may be cut into several.
pub const CUT_BYTES: u32 = 128 << 10;
/// Turns of the thread that keeps a controller: while something is awaited of it, and else.
pub const KEEPER_BUSY_MS: u64 = 1;
/// See [`KEEPER_BUSY_MS`].
pub const KEEPER_IDLE_MS: u64 = 20;
/// The longest latency that is told apart from longer ones.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Buffer memory of the core itself; a generator has its own.
pub const CORE_BUFFER_BYTES: usize = reactor::limits::BUFFER_BUDGET_BYTES_MIN;

const _: () = {
    assert!(REQUEST_BYTES_MAX.is_multiple_of(4096) && LOGICAL_BLOCK_BYTES_MIN.is_multiple_of(512));
    assert!((DEPTH_MAX as usize) < nvmf_proto::limits::COMMANDS_MAX);
    assert!(SHUTDOWN_TIMEOUT_S * 1000 > nvme::limits::SHUTDOWN_TIMEOUT_MS_MAX);
    assert!(
        QUEUES_MAX <= nvme::limits::IO_QUEUES_MAX && DEPTH_MAX < nvme::limits::IO_QUEUE_ENTRIES_MAX as u32
    );
    assert!(LOOK_BYTES.is_multiple_of(4096) && KEEPER_BUSY_MS < KEEPER_IDLE_MS);
    // A controller that never answers is given up by its driver before we give up waiting for it.
    assert!(START_TIMEOUT_S < SHUTDOWN_TIMEOUT_S);
    assert!(DEPTH_MAX as u64 * QUEUES_MAX as u64 <= u32::MAX as u64);
    assert!(RUNTIME_S_MAX * 1_000_000_000 < u64::MAX / 2);
};

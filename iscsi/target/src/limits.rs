//! Every bound of the target, with the relations between them checked by the compiler.

use std::time::Duration;

/// Connections that one core holds, logged in or not.
pub const CONNECTIONS_PER_CORE_MAX: usize = 4096;
/// Connections that one core holds before they have logged in; a flood of them cannot crowd out sessions.
pub const LOGINS_PER_CORE_MAX: usize = 2048;
/// Sessions on one core.
pub const SESSIONS_PER_CORE_MAX: usize = 4096;
/// Commands that one core works on at once, over all sessions.
pub const TASKS_PER_CORE_MAX: usize = 65536;
/// Volumes on one core, and targets.
pub const VOLUMES_PER_CORE_MAX: usize = volume::shared::limits::VOLUMES_PER_CORE_MAX;
/// Logical units of one target.
pub const LUNS_PER_TARGET_MAX: usize = 256;
/// A connection must have logged in by then (RFC 7143 leaves the value to the target).
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that we close is given this long to take the last response.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// When the core shuts down, commands in flight and last bytes are given this long.
pub const DRAIN_LINGER: Duration = Duration::from_secs(4);
/// How many bytes one receive call may put into the core's scratch buffer.
pub const SCRATCH_BYTES: usize = 256 * 1024;
/// Receive calls per stream and turn: a busy stream must not starve its neighbours.
pub const RECV_CALLS_PER_TURN: usize = 2;
/// Connections accepted per turn.
pub const ACCEPTS_PER_TURN: usize = 16;
/// Vectors per send call (the kernel takes 1024; more than this wins nothing).
pub const SEND_VECTORS: usize = 64;
/// One part in so many of the buffer pool is kept for sessions that hold no buffer yet.
pub const RESERVED_POOL_SHARE: usize = 4;
/// A connection with so much to send starts no more reads: what its commands read would wait behind that. Below
/// [`TX_BACKLOG_BYTES`], so that a slow reader is slowed down, not cut off.
pub const ANSWERS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same while less than half of the pool is free: a reader that has stopped must not keep what others could use.
pub const ANSWERS_BYTES_SCARCE: usize = 512 * 1024;
/// A connection is closed when the data of one of its commands does not get on for so long: it would keep the buffer.
pub const DATA_OUT_TIMEOUT: Duration = Duration::from_secs(60);
/// How fast a background operation of one logical unit may be: what it takes from its neighbours.
pub const BACKGROUND_BYTES_PER_SECOND: u64 = 64 << 20;
/// What unmapping counts as, per I/O: it moves no payload, but it is work.
pub const BACKGROUND_UNMAP_COST_BYTES: u64 = 1 << 20;
/// I/Os without cost (looking for holes, flushing) that a background operation may do in one turn.
pub const BACKGROUND_STEPS_PER_TURN: u32 = 16;
/// When a background operation that found no memory tries again.
pub const BACKGROUND_PAUSE: Duration = Duration::from_millis(10);
/// Tasks of one disk that are tried again for memory per turn.
pub const RETRIES_PER_TURN: usize = 32;
/// Requests that wait for the end of tasks, over all sessions of a core: each session's window and its
/// immediate requests, and one response for each task.
pub const BARRIERS_PER_CORE_MAX: usize =
    TASKS_PER_CORE_MAX + CONNECTIONS_PER_CORE_MAX + SESSIONS_PER_CORE_MAX * (1024 + 64);
/// Discovery sessions on one core: they need no secret, so they cannot take the place of others.
pub const DISCOVERY_SESSIONS_MAX: usize = 64;
/// What a discovery session may have to send before it takes no more input.
pub const DISCOVERY_BACKLOG_BYTES: usize = 64 * 1024;
/// Wrong CHAP answers in a row until the first pause, unless the settings say otherwise; likewise the next three.
pub const CHAP_FAILURES_UNTIL_PAUSE: u32 = 5;
/// The first pause; each further wrong answer doubles it.
pub const CHAP_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause: initiators try a login for longer than that, so one with the right secret gets in by itself.
pub const CHAP_PAUSE_LONGEST: Duration = Duration::from_secs(32);
/// Failures are forgotten after so long without a wrong answer.
pub const CHAP_FORGET: Duration = Duration::from_secs(600);
/// Addresses, and names at them, whose answers one core remembers.
pub const CHAP_PEERS_MAX: usize = 4096;
/// Names at one address that are known to have proven themselves.
pub const CHAP_PROVEN_MAX: usize = 64;
/// Connections of one address that have not logged in; half of the places stay for others.
pub const LOGINS_PER_SOURCE_MAX: usize = LOGINS_PER_CORE_MAX / 2;

const _: () = {
    assert!(CHAP_FAILURES_UNTIL_PAUSE > 0);
    assert!(CHAP_PAUSE_FIRST.as_nanos() <= CHAP_PAUSE_LONGEST.as_nanos());
    assert!(CHAP_PAUSE_LONGEST.as_nanos() < CHAP_FORGET.as_nanos(), "a pause is remembered until it ends");
    assert!(CHAP_PROVEN_MAX < CHAP_PEERS_MAX);
    assert!(LOGINS_PER_CORE_MAX < CONNECTIONS_PER_CORE_MAX);
    assert!(volume::limits::SANITIZE_STEP_BYTES <= BACKGROUND_BYTES_PER_SECOND / 8, "pauses are short");
    assert!(SESSIONS_PER_CORE_MAX <= u16::MAX as usize, "a TSIH is 16 bits wide and 0 is reserved");
    assert!(SEND_VECTORS <= 1024);
    assert!(ANSWERS_BYTES_SCARCE < ANSWERS_BYTES_MAX);
    // With one more answer of the largest size it is still below what stops input, and with it the reader.
    assert!(ANSWERS_BYTES_MAX + volume::limits::MAX_TRANSFER_BYTES as usize <= TX_BACKLOG_BYTES);
};
/// A connection that was silent for so long is pinged.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A connection that answers no ping, or takes no byte, for so long is closed.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection with more bytes than this to send takes no input: a slow reader holds this much at most.
pub const TX_BACKLOG_BYTES: usize = 12 * 1024 * 1024;
/// Commands that a session may send at once.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;

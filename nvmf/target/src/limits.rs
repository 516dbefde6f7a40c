//! Every bound of the target, with the relations between them checked by the compiler.

use std::time::Duration;

/// Connections (queue pairs) that one core holds, whatever their state.
pub const CONNECTIONS_PER_CORE_MAX: usize = 8192;
/// Connections that one core holds before their Connect was answered; a flood cannot crowd out queues.
pub const CONNECTING_PER_CORE_MAX: usize = 2048;
/// The same of one address; half of the places stay for others.
pub const CONNECTING_PER_SOURCE_MAX: usize = CONNECTING_PER_CORE_MAX / 2;
/// ICReq and Connect must be there by then.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// What a connection may have sent before its Connect is whole: ICReq, then the largest Connect capsule with digests.
pub const CONNECT_BYTES_MAX: usize = 8192;
/// A connection that we close is given this long to take the last response.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// When the core shuts down, commands in flight and last bytes are given this long.
pub const DRAIN_LINGER: Duration = Duration::from_secs(4);
/// Connections accepted per turn.
pub const ACCEPTS_PER_TURN: usize = 16;

/// Subsystems on one core.
pub const SUBSYSTEMS_PER_CORE_MAX: usize = 1024;
/// Namespaces of one subsystem, and the largest NSID (NN).
pub const NAMESPACES_PER_SUBSYSTEM_MAX: u32 = 1024;
/// Namespaces on one core.
pub const NAMESPACES_PER_CORE_MAX: usize = 4096;
/// ANA groups of one subsystem (NANAGRPID), and the largest group identifier (ANAGRPMAX).
pub const ANA_GROUPS_MAX: u32 = 32;
/// Controllers on one core, the discovery controllers included.
pub const CONTROLLERS_PER_CORE_MAX: usize = 2048;
/// Discovery controllers on one core: anybody may have one, so they cannot take the place of others.
pub const DISCOVERY_CONTROLLERS_MAX: usize = 256;
/// The largest controller identifier that the dynamic model hands out (NVMe base, section 5.1.13.2.1).
pub const CNTLID_MAX: u16 = 0xffef;

/// I/O queues of one controller.
pub const IO_QUEUES_MAX: u16 = 64;
/// Entries of one queue (CAP.MQES is one less).
pub const QUEUE_ENTRIES_MAX: u16 = 1024;
/// Entries of an admin queue, as the discovery log says (ASQSZ; at least 32).
pub const ADMIN_QUEUE_ENTRIES_MAX: u16 = 128;
/// Entries over all queues of a core: their tables are memory.
pub const QUEUE_ENTRIES_PER_CORE_MAX: usize = 256 * 1024;
/// Commands that one core works on at once, over all queues.
pub const COMMANDS_PER_CORE_MAX: usize = 65536;

/// The longest transfer of one command (MDTS): 1 MiB.
pub const TRANSFER_BYTES_MAX: usize = 1 << 20;
/// The same as MDTS says it: a power of two of 4 KiB pages.
pub const MDTS: u8 = 8;
/// In-capsule data offered on I/O queues.
pub const IN_CAPSULE_BYTES: usize = 16 * 1024;
/// In-capsule data taken on admin queues (NVMe/TCP, section 3.3.2: 8 KiB).
pub const ADMIN_IN_CAPSULE_BYTES: usize = 8192;
/// The longest answer of an admin command; Get Log Page is refused beyond it.
pub const ADMIN_TRANSFER_BYTES_MAX: usize = 256 * 1024;
/// H2CData PDUs carry at most this (MAXH2CDATA).
pub const MAXH2CDATA_BYTES: u32 = 1 << 20;
/// Ranges of one Dataset Management command.
pub const DSM_RANGES_MAX: usize = 256;
/// Source ranges of one Copy command.
pub const COPY_RANGES_MAX: usize = 128;
/// Bytes of one Copy command, over all ranges.
pub const COPY_BYTES_MAX: usize = TRANSFER_BYTES_MAX;
/// Bytes of a fused Compare and Write.
pub const COMPARE_AND_WRITE_BYTES_MAX: usize = 128 * 1024;

/// Asynchronous Event Request commands that wait on one controller (AERL is one less).
pub const ASYNC_EVENTS_MAX: usize = 4;
/// Abort commands in progress (ACL is one less).
pub const ABORTS_MAX: u8 = 4;
/// Changed namespaces that the log page lists before it says "more than that".
pub const CHANGED_NAMESPACES_MAX: usize = 1024;
/// Reservation notifications that a controller keeps; older ones are dropped and counted in the page.
pub const RESERVATION_NOTICES_MAX: usize = 32;
/// Entries of the error log (ELPE is one less).
pub const ERROR_LOG_ENTRIES: usize = 16;

/// Keep alive timers count in this unit (KAS is 10 times 100 ms).
pub const KEEP_ALIVE_GRANULARITY: Duration = Duration::from_secs(1);
/// KAS: the granularity in units of 100 ms.
pub const KAS: u16 = 10;
/// The keep alive of a persistent discovery controller is at least this (NVMe base, section 3.1.3.3.2).
pub const DISCOVERY_KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(120);
/// What a lost connection's commands need at most to end, as controllers report it (CQT).
pub const QUIESCE_TIME: Duration = Duration::from_secs(10);

/// How many bytes one receive call may put into the core's scratch buffer: 32 commands with 4 KiB of data each. Of more, the first have left
/// the cache before the last are looked at: 256 KiB took a tenth longer for each command at depth 128.
pub const SCRATCH_BYTES: usize = 136 * 1024;
/// Receive calls per stream and turn: a busy stream must not starve its neighbours.
pub const RECV_CALLS_PER_TURN: usize = 2;
/// Vectors per send call (the kernel takes 1024; more than this wins nothing).
pub const SEND_VECTORS: usize = 64;
/// A queue with more bytes than this to send takes no input: a slow reader holds this much at most.
pub const TX_BACKLOG_BYTES: usize = 8 * 1024 * 1024;
/// A discovery controller's queue may have this much to send.
pub const DISCOVERY_BACKLOG_BYTES: usize = 512 * 1024;
/// A connection that takes no byte of what waits for so long is closed.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Data that was asked for and does not come for so long ends its connection.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// One part in so many of the buffer pool is kept for queues that hold no buffer yet.
pub const RESERVED_POOL_SHARE: usize = 4;
/// One part in so many of the buffer pool is kept for data that comes with its command.
pub const IN_CAPSULE_POOL_SHARE: usize = 8;
/// Commands of a core that are tried again for memory per turn.
pub const RETRIES_PER_TURN: usize = 64;
/// Requests that wait for the end of commands, over a core.
pub const BARRIERS_PER_CORE_MAX: usize = 2 * COMMANDS_PER_CORE_MAX
    + CONNECTIONS_PER_CORE_MAX
    + CONNECTING_PER_CORE_MAX
    + 2 * CONTROLLERS_PER_CORE_MAX
    + NAMESPACES_PER_CORE_MAX * volume::shared::limits::TICKETS_PER_VOLUME_MAX;

const _: () = {
    assert!(CONNECTING_PER_CORE_MAX < CONNECTIONS_PER_CORE_MAX);
    assert!(DISCOVERY_CONTROLLERS_MAX < CONTROLLERS_PER_CORE_MAX);
    assert!(CONTROLLERS_PER_CORE_MAX < CNTLID_MAX as usize, "each controller has an identifier");
    assert!(TRANSFER_BYTES_MAX == 4096 << MDTS);
    assert!(COPY_BYTES_MAX <= TRANSFER_BYTES_MAX);
    assert!(TRANSFER_BYTES_MAX as u64 <= volume::limits::MAX_TRANSFER_BYTES);
    assert!(COMPARE_AND_WRITE_BYTES_MAX as u64 <= volume::limits::MAX_COMPARE_AND_WRITE_BYTES);
    assert!(IN_CAPSULE_BYTES.is_multiple_of(16) && IN_CAPSULE_BYTES <= SCRATCH_BYTES);
    assert!(ADMIN_QUEUE_ENTRIES_MAX >= 32 && ADMIN_QUEUE_ENTRIES_MAX <= QUEUE_ENTRIES_MAX);
    assert!(QUEUE_ENTRIES_MAX as usize <= QUEUE_ENTRIES_PER_CORE_MAX);
    assert!(CONNECT_BYTES_MAX >= 128 + 72 + 4 + 1024 + 4);
    assert!(KEEP_ALIVE_GRANULARITY.as_millis() == KAS as u128 * 100);
    assert!(SEND_VECTORS <= 1024);
    assert!(
        RESERVED_POOL_SHARE < IN_CAPSULE_POOL_SHARE,
        "the part for those that hold nothing is the larger one"
    );
    assert!(NAMESPACES_PER_SUBSYSTEM_MAX as usize <= CHANGED_NAMESPACES_MAX);
    assert!(DSM_RANGES_MAX * 16 <= IN_CAPSULE_BYTES, "a whole range list fits a capsule");
};
/// Those that wait for memory are looked at again after so long, when nothing happens before.
pub const MEMORY_RETRY: Duration = Duration::from_millis(1);
/// Silent connections are looked for so often.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

//! Every bound of the core loop in one place, with the relations between them checked by the compiler.

/// A poller hands the core back after this many items, or its neighbours' tails grow.
pub const POLL_BUDGET_ITEMS: u32 = 32;

/// Buffers start on a page: direct I/O and DMA need it, and a copy never straddles one more page.
pub const BUFFER_ALIGN_BYTES: usize = 4096;

/// One list never has more segments than this: it must fit one vectored system call with room for headers.
pub const SEGMENTS_MAX: usize = 128;

/// The kernel's own limit on vectors per call (`UIO_MAXIOV`).
pub const IOVECS_MAX: usize = 1024;

/// The size classes of a pool that is cut from a byte budget, smallest first.
pub const CLASS_BYTES: [usize; 4] = [8 << 10, 64 << 10, 256 << 10, 1 << 20];

/// The smallest budget that still gives every class a buffer and a few large transfers room.
pub const BUFFER_BUDGET_BYTES_MIN: usize = 8 << 20;

/// What a core gets when nobody says otherwise.
pub const BUFFER_BUDGET_BYTES_DEFAULT: usize = 64 << 20;

/// Submission queue entries of one core's io_uring.
pub const URING_ENTRIES: u32 = 1024;

/// Completion queue entries: every file operation and every armed socket may complete in one turn.
pub const URING_COMPLETIONS: u32 = 8192;

/// File operations that wait for each other on their way to the kernel are at most one for so many that it has already: a disk that has little to
/// do gets the next at once and works while others are prepared, which takes the kernel about 4 us each; one that has much to do
/// does not notice that some wait, and together they cost the kernel less. Beside two at a time always, 20 % more writes of 4 KiB at
/// depth 32, 14 % more at depth 128.
pub const URING_BATCH_SHARE: usize = 2;

/// The most that wait for each other.
pub const URING_BATCH_MAX: usize = 8;

/// With so many bytes none waits any more: what large operations cost is their transfer, which is better begun early.
pub const URING_BATCH_BYTES: usize = 64 << 10;

/// File operations in flight on one core.
pub const FILE_OPERATIONS_MAX: usize = 4096;

/// File operations in flight on one file; beyond it `submit` gives the operation back.
pub const FILE_OPERATIONS_PER_FILE_MAX: usize = 1024;

/// Bytes one read or write call is asked to move; the rest is continued.
pub const FILE_TRANSFER_BYTES_MAX: usize = 1 << 30;

/// Streams of one group that are tried every turn because they had traffic lately.
pub const HOT_STREAMS_MAX: usize = 8;

/// Turns without traffic after which a hot stream is armed with the kernel instead. An empty
/// receive costs about 270 ns, arming and one wake-up about 1.5 us.
pub const HOT_TURNS_MAX: u32 = 512;

/// Streams of one core.
pub const STREAMS_PER_CORE_MAX: usize = 1 << 16;

/// Connections the kernel may complete before they are accepted.
pub const LISTEN_BACKLOG: i32 = 4096;

/// What a socket asks for in each direction; the system may give less.
pub const SOCKET_BUFFER_BYTES: usize = 2 << 20;

/// How long a listener that ran out of descriptors or memory is left alone.
pub const ACCEPT_PAUSE_US: u64 = 100_000;

/// Spinning after the last work before the core sleeps, by default.
pub const SPIN_US_DEFAULT: u64 = 150;

/// With file operations in flight a core spins so many times as long: most disks answer within that, and a core that sleeps then hears of it
/// late, by its own wake-up, some 25 us after the answer.
pub const SPIN_FACTOR_FILES: u64 = 3;

/// A poller that holds the core longer than this is counted as a stall, by default.
pub const STALL_US_DEFAULT: u64 = 10_000;

/// The longest sleep: bounds what a forgotten wake-up could cost.
pub const SLEEP_US_MAX: u64 = 1_000_000;

/// Pollers on one core.
pub const POLLERS_MAX: usize = 32;

/// Messages one core takes from its mailboxes per turn.
pub const MAILBOX_BATCH_MAX: usize = 64;

const _: () = {
    let mut i = 0;
    let mut sum = 0;
    while i < CLASS_BYTES.len() {
        assert!(CLASS_BYTES[i].is_multiple_of(BUFFER_ALIGN_BYTES));
        assert!(i == 0 || CLASS_BYTES[i - 1] < CLASS_BYTES[i]);
        sum += CLASS_BYTES[i];
        i += 1;
    }
    assert!(sum * 4 <= BUFFER_BUDGET_BYTES_MIN);
    assert!(BUFFER_BUDGET_BYTES_MIN <= BUFFER_BUDGET_BYTES_DEFAULT);
    assert!(SEGMENTS_MAX < IOVECS_MAX);
    // A segment's length is kept in 32 bits.
    assert!(CLASS_BYTES[CLASS_BYTES.len() - 1] <= u32::MAX as usize);
    // A transfer is a signed 32-bit number in a completion.
    assert!(FILE_TRANSFER_BYTES_MAX <= i32::MAX as usize);
    // The ring must hold a completion for everything that can be outstanding at once.
    assert!(FILE_OPERATIONS_MAX <= URING_COMPLETIONS as usize);
    assert!(FILE_OPERATIONS_PER_FILE_MAX <= FILE_OPERATIONS_MAX);
    assert!(URING_ENTRIES.is_power_of_two() && URING_COMPLETIONS.is_power_of_two());
    assert!(SPIN_US_DEFAULT < STALL_US_DEFAULT && STALL_US_DEFAULT < SLEEP_US_MAX);
};

//! Every bound of the emulated controller in one place, with the relations between them checked by the compiler.

/// I/O queue pairs.
pub const IO_QUEUES_MAX: u16 = 256;

/// Entries of a queue: a 0's based 16-bit field.
pub const QUEUE_ENTRIES_MAX: u32 = 0x1_0000;

/// Entries of the smallest queue: one of them is always free.
pub const QUEUE_ENTRIES_MIN: u32 = 2;

/// Entries of an admin queue: a 0's based 12-bit field.
pub const ADMIN_ENTRIES_MAX: u32 = 0x1000;

/// Commands fetched and not completed, over all queues; beyond it nothing more is fetched.
pub const OUTSTANDING_MAX: usize = 8192;

/// Commands taken from one queue before the next one has its turn.
pub const ARBITRATION_BURST: u32 = 32;

/// Namespaces (NN).
pub const NAMESPACES_MAX: u32 = 128;

/// Bytes of one namespace: its table of regions takes 8 bytes for each 64 MiB.
pub const NAMESPACE_BYTES_MAX: u64 = 4 << 40;

/// Largest MDTS: 2 to the power of it, in pages of 4 KiB; bounds the work of one command.
pub const MDTS_MAX: u8 = 13;

/// Bytes of the largest transfer of one command where MDTS is 0, "no limit": what 65536 blocks of 4 KiB are.
pub const TRANSFER_BYTES_MAX: u64 = 256 << 20;

/// Descriptors in the SGL of one command, segments included.
pub const SGL_DESCRIPTORS_MAX: usize = 1024;

/// Asynchronous Event Requests that may be outstanding (AERL plus one).
pub const ASYNC_EVENTS_MAX: usize = 16;

/// Events that wait for a request or for the host to read a log page; more of them are dropped, the oldest first.
pub const EVENTS_WAITING_MAX: usize = 32;

/// Abort commands that may be outstanding (ACL plus one).
pub const ABORTS_MAX: usize = 4;

/// Entries of the Error Information log page (ELPE plus one).
pub const ERROR_LOG_ENTRIES: usize = 64;

/// Writes that the volatile cache keeps apart; the oldest goes to the medium when there are more.
pub const CACHE_RECORDS_MAX: usize = 4096;

/// Bytes of the volatile cache.
pub const CACHE_BYTES_MAX: usize = 1 << 30;

/// Faults that may be armed at the same time.
pub const FAULTS_MAX: usize = 1024;

/// Changes that wait for the next reset.
pub const CHANGES_MAX: usize = 64;

/// Commands taken at the write of a doorbell, where that takes them.
pub const EAGER_COMMANDS_MAX: u32 = 64;

/// Accesses outside of what is mapped that are kept for whoever asks; all are counted.
pub const IOMMU_FAULTS_KEPT: usize = 64;

/// Ranges of memory mapped at the same time.
pub const MAPPINGS_MAX: usize = 1 << 16;

/// Bytes of one piece of shared memory.
pub const ALLOCATION_BYTES_MAX: usize = 256 << 20;

/// The first address that the IOMMU gives out. No process has memory there, so an address used in place of a mapped one faults.
pub const IOVA_FIRST: u64 = 1 << 56;

/// The IOMMU gives out addresses below this one, each once.
pub const IOVA_END: u64 = 1 << 57;

/// Bytes that stay unmapped after each mapping, so that an overrun faults.
pub const IOVA_GUARD_BYTES: u64 = 64 << 10;

/// Interrupt vectors.
pub const INTERRUPT_VECTORS_MAX: u16 = 32;

const _: () = {
    assert!(QUEUE_ENTRIES_MIN >= 2 && ADMIN_ENTRIES_MAX <= QUEUE_ENTRIES_MAX);
    assert!((4096_u64 << MDTS_MAX) <= TRANSFER_BYTES_MAX);
    assert!(TRANSFER_BYTES_MAX <= u32::MAX as u64);
    // Fields that are counted less one in a byte.
    assert!(ASYNC_EVENTS_MAX <= 256 && ABORTS_MAX <= 256 && ERROR_LOG_ENTRIES <= 256);
    // User space ends far below: 2 to the power of 47, or of 56 with five levels of page tables.
    assert!(IOVA_FIRST >= 1 << 56 && IOVA_FIRST < IOVA_END);
    // The masks of INTMS and INTMC have a bit for each vector.
    assert!(INTERRUPT_VECTORS_MAX <= 32);
    // A doorbell for each queue and one page of shadows for all of them at the default stride.
    assert!((IO_QUEUES_MAX as usize + 1) * 8 <= 4096);
};

//! The bounds of this crate.

/// The most interrupt vectors that are asked for: one for the admin queue and one for each of 128 cores.
pub(crate) const INTERRUPT_VECTORS_MAX: u32 = 129;

/// The most bytes that the kernel may have to say about a region, an address space or a hot reset; more is not read.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The most capabilities that are looked at in one answer.
pub(crate) const CAPABILITIES_MAX: usize = 64;

/// Mappings that one address space holds where the kernel does not say: the default of `vfio_iommu_type1`.
pub(crate) const DMA_ENTRIES_DEFAULT: u32 = 65_535;

/// Nothing is mapped below this address, so that a pointer which was never filled in, or one plus a small offset, hits
/// nothing.
pub(crate) const IOVA_FLOOR: u64 = 1 << 20;

/// The highest address where the kernel does not say: the narrowest width of Intel's and AMD's tables.
pub(crate) const IOVA_LAST_DEFAULT: u64 = (1 << 39) - 1;

/// The most members of a group that an error names.
pub(crate) const NAMED_MEMBERS_MAX: usize = 16;

/// The most processes that an error names.
pub(crate) const NAMED_HOLDERS_MAX: usize = 4;

/// How often a reset is tried that the kernel is too busy for.
pub(crate) const RESET_TRIES: u32 = 20;

/// The pause between two tries.
pub(crate) const RESET_PAUSE_MS: u16 = 50;

const _: () = {
    assert!(IOVA_FLOOR < IOVA_LAST_DEFAULT);
    // The largest answer that is expected, a hot reset of a full bus, fits.
    assert!(12 + 256 * 8 < ANSWER_BYTES_MAX);
    // An eventfd for each vector fits one request.
    assert!(INTERRUPT_VECTORS_MAX as usize * 4 + 20 < ANSWER_BYTES_MAX);
};

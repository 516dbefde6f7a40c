//! Every bound of this crate, and the relations between them that must hold.

/// The longest payload of one I/O. What protocols offer to their initiators must not exceed it.
pub const MAX_TRANSFER_BYTES: u64 = 8 * 1024 * 1024;

/// The longest run that one unmap or write-zeroes may cover: it bounds the work of one submit.
pub const MAX_UNMAP_BYTES: u64 = 1024 * 1024 * 1024;

/// The longest extent of a compare-and-write: its payload is twice this.
pub const MAX_COMPARE_AND_WRITE_BYTES: u64 = MAX_TRANSFER_BYTES / 2;

/// What a memory device promises to write all or nothing. It could promise a whole transfer, for
/// nothing runs beside a submit; 256 blocks of either size are as much as anybody asks for.
pub const MEMORY_ATOMIC_WRITE_BYTES: u64 = 1024 * 1024;

/// What a file promises to write all or nothing, in logical blocks of either size: its journal holds one such write.
pub const FILE_ATOMIC_WRITE_BLOCKS: u32 = 256;

/// The unit that every disk writes whole, whatever its logical block: no disk has a smaller one, its error correction covers at least
/// that much at once, and NVMe makes it a promise (AWUPF counts from one logical block). A file system passes it on as it is.
pub const SECTOR_BYTES: u64 = 512;

/// The unit in which memory is taken and given back.
pub const MEMORY_CHUNK_BYTES: usize = 2 * 1024 * 1024;

/// The unit in which allocation is tracked: the page of memory, and of nearly every filesystem.
pub const PAGE_BYTES: u64 = 4096;

/// Freed chunks that one `poll` of a memory device returns to the system (about 50 µs each).
pub const MEMORY_CHUNKS_FREED_PER_POLL: usize = 8;

/// Up to this length, the memory of the next write is fetched while this one is copied. Longer runs keep the processor's own
/// prefetcher busy, and push out of the cache what was fetched early.
pub const MEMORY_COPY_AHEAD_BYTES: usize = 16 * 1024;

/// Up to this length, blocks of a memory device are shown. Copying a longer run out of main memory is faster with the processor's own
/// prefetcher, which the kernel's way of copying (`rep movsb`) does not use: it took an eighth longer over 128 KiB.
pub const MEMORY_SHOW_BYTES: usize = 16 * 1024;

/// How much of a memory device is shown to front ends at a time; what they ask for beyond is copied. It is also the most that pages take
/// which are written meanwhile.
pub const MEMORY_SHOWN_BYTES: usize = 32 * 1024 * 1024;

/// Pages that are away from home at which each I/O of a memory device looks.
pub const MEMORY_PAGES_HOME_PER_SUBMIT: usize = 4;

/// Announced commands that a memory device keeps in mind: as many as a large queue announces before the first of them runs.
pub const ANNOUNCED_MAX: usize = 256;

/// The smallest and the largest device, in bytes.
pub const MIN_DEVICE_BYTES: u64 = 1024 * 1024;
/// See [`MIN_DEVICE_BYTES`].
pub const MAX_DEVICE_BYTES: u64 = 64 * 1024 * 1024 * 1024 * 1024;

/// The largest allocation map of a file back end: past one tebibyte a bit stands for more bytes.
pub const ALLOCATION_MAP_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// How many steps (a page, or a hole) one block-status question may take.
pub const BLOCK_STATUS_STEPS_MAX: usize = 16 * 1024;

/// The piece in which zeros are written where the system cannot zero a range by itself.
pub const ZERO_PIECE_BYTES: u64 = 64 * 1024;

/// The scratch that each volume holds in reserve, so that a compare always ends however empty the
/// pool is.
pub const SCRATCH_RESERVE_BYTES: u64 = 4096;

/// The scratch that a compare takes from the pool when there is enough.
pub const SCRATCH_BYTES: u64 = 256 * 1024;

/// What one I/O of a sanitize operation writes.
pub const SANITIZE_STEP_BYTES: u64 = 1024 * 1024;

/// What one I/O of a sanitize operation unmaps.
pub const SANITIZE_UNMAP_STEP_BYTES: u64 = 256 * 1024 * 1024;

/// The pattern of a sanitize operation is kept repeated to this length, so that a payload is filled in
/// few copies.
pub const SANITIZE_TILE_BYTES: u64 = 64 * 1024;

/// I/Os in flight on one volume for which room is made at start.
pub const IN_FLIGHT_EXPECTED: usize = 256;

/// How long an I/O whose list must be copied waits for a core whose buffers are all out. What holds them may be what waits.
pub const COPY_WAIT_MS: u64 = 2_000;

/// The longest blob of a metadata store.
pub const METADATA_BLOB_BYTES: usize = 64 * 1024;

/// One slot of a metadata store: a header page and the blob.
pub const METADATA_SLOT_BYTES: u64 = METADATA_BLOB_BYTES as u64 + PAGE_BYTES;

/// What a block device keeps at its end for its label and its metadata.
pub const LABEL_AREA_BYTES: u64 = 1024 * 1024;

/// Where the metadata slots lie in the label area.
pub const LABEL_METADATA_OFFSET_BYTES: u64 = 64 * 1024;

/// The piece in which both ends of a device are read for its label.
pub const LABEL_PIECE_BYTES: u64 = 64 * 1024;

/// Pieces of that work in one turn of its core.
pub const LABEL_STEPS_PER_POLL: usize = 4;

/// How often a file is tried to lock whose holder has ended: the kernel lets it go soon.
pub const LOCK_TRIES: u32 = 100;

/// The pause between two tries.
pub const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

const _: () = {
    assert!(LABEL_PIECE_BYTES.is_multiple_of(PAGE_BYTES) && LABEL_PIECE_BYTES <= MAX_TRANSFER_BYTES);
    assert!(LABEL_AREA_BYTES.is_multiple_of(LABEL_PIECE_BYTES));
    assert!(MEMORY_ATOMIC_WRITE_BYTES <= MAX_TRANSFER_BYTES);
    assert!(FILE_ATOMIC_WRITE_BLOCKS as u64 * PAGE_BYTES <= MAX_TRANSFER_BYTES);
    assert!(FILE_ATOMIC_WRITE_BLOCKS as u64 * PAGE_BYTES <= MIN_DEVICE_BYTES, "no device is shorter");
    assert!(MAX_COMPARE_AND_WRITE_BYTES * 2 <= MAX_TRANSFER_BYTES);
    assert!((MEMORY_CHUNK_BYTES as u64).is_multiple_of(PAGE_BYTES));
    assert!(MEMORY_CHUNK_BYTES as u64 / PAGE_BYTES == 512, "a chunk's map is eight words");
    // Every page may lie elsewhere, and the first and the last be cut.
    assert!(MEMORY_SHOW_BYTES / (PAGE_BYTES as usize) < reactor::limits::SEGMENTS_MAX);
    assert!(MEMORY_SHOWN_BYTES.is_multiple_of(MEMORY_CHUNK_BYTES), "address space comes in whole huge pages");
    assert!(SCRATCH_RESERVE_BYTES >= PAGE_BYTES, "one logical block must fit the reserve");
    assert!(SCRATCH_BYTES >= SCRATCH_RESERVE_BYTES && SCRATCH_BYTES <= MAX_TRANSFER_BYTES);
    assert!(ZERO_PIECE_BYTES.is_multiple_of(PAGE_BYTES));
    assert!(SANITIZE_STEP_BYTES <= MAX_TRANSFER_BYTES && SANITIZE_UNMAP_STEP_BYTES <= MAX_UNMAP_BYTES);
    assert!(SANITIZE_TILE_BYTES.is_multiple_of(PAGE_BYTES), "a tile is whole logical blocks");
    assert!(MAX_TRANSFER_BYTES <= MAX_UNMAP_BYTES);
    assert!(LABEL_METADATA_OFFSET_BYTES + 2 * METADATA_SLOT_BYTES <= LABEL_AREA_BYTES);
    assert!(MIN_DEVICE_BYTES >= PAGE_BYTES && MIN_DEVICE_BYTES < MAX_DEVICE_BYTES);
};

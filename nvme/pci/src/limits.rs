//! How much is read of what the system shows.

/// Largest attribute of a device: sysfs gives a page at most.
pub const ATTRIBUTE_BYTES_MAX: u64 = 4096;
/// Largest table of mounts or swap areas; a busy container host has some hundred KiB.
pub const TABLE_BYTES_MAX: u64 = 64 << 20;
/// Largest NVMe serial number: 20 bytes of ASCII.
pub const SERIAL_BYTES_MAX: usize = 20;

const _: () =
    assert!(ATTRIBUTE_BYTES_MAX < TABLE_BYTES_MAX && SERIAL_BYTES_MAX < ATTRIBUTE_BYTES_MAX as usize);

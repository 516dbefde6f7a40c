//! What the system says about an open file or block device. All of it may block: it is called
//! before a file is adopted, never on a reactor.

// The island: system calls for which there is no safe wrapper among the dependencies.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What direct I/O on a file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectIo {
    /// Buffers must start at a multiple of this.
    pub memory_align_bytes: u32,
    /// Offsets and lengths must be multiples of this.
    pub offset_align_bytes: u32,
}

/// The block sizes of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// The unit of addressing.
    pub logical_bytes: u32,
    /// The unit below which a write costs the device a read.
    pub physical_bytes: u32,
}

/// What the filesystem says about direct I/O on `fd`: `Ok(None)` when it does none, an error of
/// kind `Unsupported` when it does not say (kernels before 6.1, some filesystems).
pub fn direct_io(fd: BorrowedFd<'_>) -> io::Result<Option<DirectIo>> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a NUL-terminated constant and the buffer is a whole `statx`.
    let rc = unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            buffer.as_mut_ptr(),
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `statx` is plain integers, all of them zeroed above, so any content is valid.
    let stat = unsafe { buffer.assume_init() };
    if stat.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok((stat.stx_dio_offset_align != 0).then_some(DirectIo {
        memory_align_bytes: stat.stx_dio_mem_align,
        offset_align_bytes: stat.stx_dio_offset_align,
    }))
}

/// The block sizes of the block device `fd`.
pub fn block_sizes(fd: BorrowedFd<'_>) -> io::Result<BlockSizes> {
    let mut logical_bytes: libc::c_int = 0;
    // SAFETY: the request stores one `int` through the pointer, which points to one.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::BLKSSZGET, &raw mut logical_bytes) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut physical_bytes: libc::c_uint = 0;
    // SAFETY: the request stores one `unsigned int` through the pointer, which points to one.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::BLKPBSZGET, &raw mut physical_bytes) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let logical_bytes = u32::try_from(logical_bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(BlockSizes { logical_bytes, physical_bytes })
}

/// The extended attribute `name` of `fd`, if it is there and fits `value`: its length.
pub fn attribute(fd: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the name is NUL-terminated, and the call stores at most `value.len()` bytes there.
    let length =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            error => Err(error),
        },
    }
}

/// Sets the extended attribute `name` of `fd`.
pub fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated, and the call reads `value.len()` bytes from `value`.
    let rc = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_has_no_block_sizes_and_keeps_its_attributes() {
        let file = std::fs::File::open("/proc/self/exe").expect("a running program has a file");
        assert!(block_sizes(file.as_fd()).is_err());
        let mut value = [0; 16];
        let absent = attribute(file.as_fd(), c"user.no.such.attribute", &mut value);
        assert!(matches!(absent, Ok(None) | Err(_)));
    }

    #[test]
    fn alignments_of_direct_io_are_powers_of_two() {
        let file = std::fs::File::open("/proc/self/exe").expect("a running program has a file");
        if let Ok(Some(direct)) = direct_io(file.as_fd()) {
            assert!(direct.offset_align_bytes.is_power_of_two());
            assert!(direct.memory_align_bytes.is_power_of_two());
        }
    }
}

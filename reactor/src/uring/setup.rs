//! Making a ring: the best flags that this kernel knows, and an error that says what is missing.

use io_uring::IoUring;

use crate::limits::{URING_COMPLETIONS, URING_ENTRIES};

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UringError {
    /// Switched off or filtered.
    #[error(
        "io_uring is not permitted here (errno {errno}): set kernel.io_uring_disabled=0, and in a \
         container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    Forbidden {
        /// The system's error number.
        errno: i32,
    },
    /// The kernel is older than 5.11.
    #[error("this kernel has no io_uring with timeouts: Linux 5.11 or newer is needed, 6.1 is best")]
    TooOld,
    /// The locked-memory limit, on kernels before 5.12.
    #[error("no memory for an io_uring (errno {errno}): raise the limit (ulimit -l unlimited)")]
    NoMemory {
        /// The system's error number.
        errno: i32,
    },
    /// Anything else.
    #[error("io_uring cannot be set up (errno {errno})")]
    Other {
        /// The system's error number.
        errno: i32,
    },
}

/// From the newest kernel's flags to the oldest's.
#[derive(Clone, Copy, Debug)]
enum Flags {
    /// 6.1: completions are posted only when this thread asks, by this thread alone.
    Deferred,
    /// 5.19: completions do not interrupt this thread.
    Cooperative,
    /// 5.11.
    Plain,
}

pub(super) fn build() -> Result<IoUring, UringError> {
    let mut last = None;
    for flags in [Flags::Deferred, Flags::Cooperative, Flags::Plain] {
        match build_with(flags) {
            Ok(ring) if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() => {
                return Ok(ring);
            }
            Ok(_) => return Err(UringError::TooOld),
            // This kernel does not know the flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = Some(error),
            Err(error) => return Err(explain(&error)),
        }
    }
    Err(last.map_or(UringError::TooOld, |error| explain(&error)))
}

fn build_with(flags: Flags) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(URING_COMPLETIONS);
    match flags {
        Flags::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_taskrun_flag()
        }
        Flags::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
        Flags::Plain => &mut builder,
    };
    builder.build(URING_ENTRIES)
}

fn explain(error: &std::io::Error) -> UringError {
    let errno = error.raw_os_error().unwrap_or(0);
    match errno {
        libc::EPERM | libc::EACCES => UringError::Forbidden { errno },
        // Filters answer ENOSYS as well; both remedies are worth saying, the kernel's age first.
        libc::ENOSYS => UringError::TooOld,
        libc::ENOMEM => UringError::NoMemory { errno },
        errno => UringError::Other { errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_flags_that_this_kernel_knows_builds() {
        build().expect("this machine has io_uring");
        for flags in [Flags::Cooperative, Flags::Plain] {
            build_with(flags).expect("older flags work on newer kernels");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |errno| explain(&std::io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("seccomp"));
        assert!(text(libc::ENOSYS).contains("5.11"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
    }
}

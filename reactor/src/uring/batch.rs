//! How many file operations wait for each other before a system call takes them to the kernel.

use crate::limits::{URING_BATCH_BYTES, URING_BATCH_MAX, URING_BATCH_SHARE};

/// Those that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    operations: usize,
    bytes: usize,
}

impl Batch {
    /// One more that moves `bytes`.
    pub(super) fn add(&mut self, bytes: usize) {
        self.operations += 1;
        self.bytes += bytes;
    }

    /// True when they shall wait no longer. `running`: all file operations that have not completed, these among them.
    pub(super) fn is_due(self, running: usize) -> bool {
        let at_work = running - self.operations;
        let most = (at_work / URING_BATCH_SHARE).clamp(1, URING_BATCH_MAX);
        self.operations >= most || self.bytes >= URING_BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` operations go in each call while the kernel completes none.
    fn calls(count: usize, bytes: usize) -> Vec<usize> {
        let (mut batch, mut calls) = (Batch::default(), Vec::new());
        for running in 1..=count {
            batch.add(bytes);
            if batch.is_due(running) {
                calls.push(std::mem::take(&mut batch).operations);
            }
        }
        calls
    }

    #[test]
    fn the_busier_the_disk_the_more_go_together() {
        assert_eq!(calls(32, 4096), [1, 1, 1, 1, 2, 3, 4, 6, 8]);
        assert_eq!(calls(51, 4096)[9..], [8, 8, 8], "no more than the most");
    }

    #[test]
    fn large_ones_do_not_wait() {
        assert_eq!(calls(20, URING_BATCH_BYTES), [1; 20]);
        assert_eq!(calls(40, URING_BATCH_BYTES / 2)[4..], [2; 18]);
    }
}

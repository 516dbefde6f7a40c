//! How much memory volumes in memory may still take.
//!
//! One number for a whole process: its owner looks at the system now and then and sets it, volumes take from it in between. What is
//! given back is seen by the owner's next look. So a volume answers "no space" before the system has to end a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clone is another handle to the same number.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<AtomicI64>);

impl Default for MemoryBudget {
    /// Without a bound.
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl MemoryBudget {
    /// So much is left from now on.
    pub fn set(&self, left_bytes: u64) {
        self.0.store(i64::try_from(left_bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Takes so much; false when there is less, and then nothing was taken.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as i64;
        // Between two looks of the owner it only shrinks, so what is taken twice at once is taken back at most.
        if self.0.fetch_sub(bytes, Ordering::Relaxed) >= bytes {
            return true;
        }
        self.0.fetch_add(bytes, Ordering::Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_is_left() {
        let budget = MemoryBudget::default();
        assert!(budget.take(1 << 40));
        budget.set(3 << 20);
        assert!(budget.clone().take(2 << 20) && !budget.take(2 << 20) && budget.take(1 << 20));
        assert!(!budget.take(1));
        budget.set(1);
        assert!(budget.take(1));
    }
}

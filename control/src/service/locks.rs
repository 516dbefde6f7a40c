//! One lock per name, so that work on one object is serialised and work on others is not held up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Locks by name; a lock exists while somebody holds it or waits for it.
#[derive(Default)]
pub(super) struct KeyedLocks {
    locks: Mutex<BTreeMap<String, Weak<Lock>>>,
}

impl KeyedLocks {
    /// Waits for the lock called `name`.
    pub(super) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = super::guard(&self.locks);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(name).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Lock::default());
                    locks.insert(name.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn same_name_waits_other_name_does_not_and_nothing_is_kept() {
        let locks = Arc::new(KeyedLocks::default());
        let held = locks.lock("a").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("a").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(locks.lock("b").await);
        drop(held);
        waiting.await.unwrap();
        drop(locks.lock("c").await);
        assert_eq!(locks.locks.lock().unwrap().len(), 1);
    }
}

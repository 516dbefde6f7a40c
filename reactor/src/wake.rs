//! Waking a core that sleeps, and only one that sleeps: a flag decides, an eventfd does it.
//!
//! The sleeper raises the flag, looks at its mailboxes once more and sleeps. The sender puts its
//! message into the mailbox and looks at the flag. A sequentially consistent fence between the two
//! steps of each makes it impossible that both miss the other's first step.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
// The standard `Arc` also under loom: the model checks the flag, not the descriptor.
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sync::{AtomicBool, Ordering, fence};

/// The protocol without the descriptor, as loom checks it.
#[derive(Debug)]
pub(crate) struct SleepFlag {
    sleeping: AtomicBool,
}

impl SleepFlag {
    pub(crate) fn new() -> Self {
        Self { sleeping: AtomicBool::new(false) }
    }

    /// The sleeper is about to look at its mailboxes for the last time.
    pub(crate) fn arm(&self) {
        // All changes of the flag are read-modify-writes: each follows the one it saw, which leaves
        // no room for a late `must_wake` that undoes this one unseen.
        self.sleeping.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake.
    pub(crate) fn disarm(&self) {
        self.sleeping.swap(false, Ordering::AcqRel);
    }

    /// Called after the message was put into the mailbox: true when this caller must wake the
    /// sleeper; of several callers one is told so.
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }
}

struct Inner {
    flag: SleepFlag,
    event: EventFd,
}

/// A handle that wakes one core from any thread.
#[derive(Clone)]
pub struct Waker {
    inner: Arc<Inner>,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waker({:?})", self.inner.event)
    }
}

impl Waker {
    /// A waker for one core; give it to that core's configuration. Fails when the process is out of
    /// descriptors.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { inner: Arc::new(Inner { flag: SleepFlag::new(), event }) })
    }

    /// Wakes the core if it sleeps. Call it after the message is in the mailbox.
    #[inline]
    pub fn wake(&self) {
        if self.inner.flag.must_wake() {
            // Full counter: then the core is woken already.
            let _ = self.inner.event.write(1);
        }
    }

    pub(crate) fn arm(&self) {
        self.inner.flag.arm();
    }

    /// The core is awake; what the eventfd collected is thrown away.
    pub(crate) fn disarm(&self) {
        self.inner.flag.disarm();
    }

    /// Empties the eventfd, after it was seen readable.
    pub(crate) fn drain(&self) {
        let _ = self.inner.event.read();
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let waker = Waker::new().expect("a descriptor is free");
        waker.wake();
        assert!(waker.inner.event.read().is_err(), "awake: no system call");
        waker.arm();
        waker.wake();
        waker.wake();
        assert_eq!(waker.inner.event.read().expect("written"), 1);
        waker.arm();
        waker.disarm();
        waker.wake();
        assert!(waker.inner.event.read().is_err());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::{Condvar, Mutex};

    /// Sender and sleeper share the flag and an eventfd made of a lock, which loom understands.
    struct Shared {
        flag: SleepFlag,
        event: Mutex<bool>,
        changed: Condvar,
    }

    impl Shared {
        fn wake(&self) {
            if self.flag.must_wake() {
                *self.event.lock().expect("no panic") = true;
                self.changed.notify_one();
            }
        }

        fn sleep(&self) {
            let mut event = self.event.lock().expect("no panic");
            while !*event {
                event = self.changed.wait(event).expect("no panic");
            }
            *event = false;
        }
    }

    #[test]
    fn loom_no_wake_up_is_lost() {
        loom::model(|| {
            let event = Mutex::new(false);
            let shared =
                loom::sync::Arc::new(Shared { flag: SleepFlag::new(), event, changed: Condvar::new() });
            let (mut producer, mut consumer) = crate::ring::ring::<u32>(2);
            let theirs = loom::sync::Arc::clone(&shared);
            let sender = loom::thread::spawn(move || {
                for item in 0..2 {
                    producer.push(item).expect("there is room for both");
                    theirs.wake();
                }
            });
            let mut got = Vec::new();
            while got.len() < 2 {
                if consumer.pop_batch(&mut got, 2) > 0 {
                    continue;
                }
                shared.flag.arm();
                // The last look: a message pushed before the sender saw the flag is found here, one
                // pushed after it wakes us. A lost wake-up would leave `sleep` without end, which
                // loom reports as a deadlock.
                if consumer.is_empty() {
                    shared.sleep();
                }
                shared.flag.disarm();
            }
            assert_eq!(got, [0, 1]);
            sender.join().expect("the sender ends");
        });
    }
}

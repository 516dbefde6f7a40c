//! Events that wake a sleeping core: eventfds of others, such as the interrupts of a device.
//!
//! They are watched only while the core sleeps: a core that polls costs nothing here.

use std::os::fd::{BorrowedFd, RawFd};

use super::Uring;
use super::polls::{PollKey, PollQueue};

#[derive(Debug, Default)]
pub(super) struct Events {
    watched: Vec<(RawFd, PollKey)>,
    raised: PollQueue,
}

impl Uring {
    /// Watches exactly these events until the next call; what was raised since the last one is emptied. The descriptors stay
    /// open until they are not named any more.
    pub(crate) fn watch_events(&self, events: &[RawFd]) {
        let (mut watched, raised) = {
            let inner = &mut *self.inner.borrow_mut();
            (std::mem::take(&mut inner.events.watched), std::rc::Rc::clone(&inner.events.raised))
        };
        watched.retain(|(fd, key)| {
            let stays = events.contains(fd);
            if !stays {
                self.unregister_poll(*key);
            }
            stays
        });
        for event in raised.borrow_mut().drain(..) {
            if let Some((fd, _)) = watched.iter().find(|(fd, _)| *fd as u32 == event.index) {
                empty(*fd);
            }
        }
        for fd in events {
            let known = watched.iter().find(|(other, _)| other == fd).map(|(_, key)| *key);
            let key = known.unwrap_or_else(|| {
                let key = self.register_poll(&raised, *fd as u32);
                watched.push((*fd, key));
                key
            });
            self.arm_poll(key, *fd, false);
        }
        self.inner.borrow_mut().events.watched = watched;
    }
}

/// An eventfd that does not block: one read takes everything.
fn empty(fd: RawFd) {
    // SAFETY: it is open as long as it is watched, and borrowed for this call only.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = nix::unistd::read(fd, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;
    use crate::wake::Waker;

    fn event() -> EventFd {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).expect("a descriptor is free")
    }

    #[test]
    fn a_raised_event_ends_a_sleep_and_is_emptied() {
        let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
        let (first, second) = (event(), event());
        let both = [first.as_raw_fd(), second.as_raw_fd()];
        for raised in [&first, &second, &first] {
            uring.watch_events(&both);
            raised.write(1).expect("it has room");
            // Far longer than any test: the event ends it.
            uring.sleep(Duration::from_secs(3600));
            assert!(uring.reap() > 0);
            uring.watch_events(&both);
            assert!(raised.read().is_err(), "it was emptied");
        }
        // One that is not watched any more is left alone.
        uring.watch_events(&both[1..]);
        first.write(1).expect("it has room");
        uring.submit();
        uring.reap();
        uring.watch_events(&both[1..]);
        assert_eq!(first.read().expect("it was not emptied"), 1);
        assert!(first.as_fd().as_raw_fd() >= 0);
    }
}

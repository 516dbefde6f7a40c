//! Socket readiness through the ring: one-shot polls, each naming a slot.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

use io_uring::opcode;
use io_uring::types::{Fd, Timespec};

use super::{GENERATION_MASK, Kind, Token, Uring};
use crate::limits::ACCEPT_PAUSE_US;

/// How long [`Uring::arm_pause`] lasts. Static, because the kernel reads it at submission.
static PAUSE: Timespec =
    Timespec::new().sec(ACCEPT_PAUSE_US / 1_000_000).nsec((ACCEPT_PAUSE_US % 1_000_000 * 1000) as u32);

/// Something that was armed has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollEvent {
    /// The owner's own number.
    pub(crate) index: u32,
    /// Writable, else readable (or the pause is over).
    pub(crate) send: bool,
}

/// Where the events of one owner are collected.
pub(crate) type PollQueue = Rc<RefCell<Vec<PollEvent>>>;

/// A slot, held by whoever polls one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollKey {
    slot: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The owner's queue and number; none in a free slot.
    owner: Option<(PollQueue, u32)>,
    recv_armed: bool,
    send_armed: bool,
    pause_armed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Polls {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Polls {
    fn slot(&mut self, key: PollKey) -> &mut Slot {
        let slot = &mut self.slots[key.slot as usize];
        assert!(slot.owner.is_some(), "a key is used only while it is registered");
        slot
    }

    pub(super) fn complete(&mut self, token: Token, result: i32) {
        let Some(slot) = self.slots.get_mut(token.index as usize) else { return };
        let Some((queue, index)) = &slot.owner else { return };
        if slot.generation != token.generation {
            return;
        }
        let send = token.kind == Kind::PollSend;
        match token.kind {
            Kind::PollSend => slot.send_armed = false,
            Kind::Pause => slot.pause_armed = false,
            _ => slot.recv_armed = false,
        }
        // An error of the poll itself is reported as readiness: the call that follows will say it.
        let _ = result;
        queue.borrow_mut().push(PollEvent { index: *index, send });
    }
}

impl Uring {
    /// A slot whose events go to `queue` under `index`.
    pub(crate) fn register_poll(&self, queue: &PollQueue, index: u32) -> PollKey {
        let polls = &mut self.inner.borrow_mut().polls;
        let owner = Some((Rc::clone(queue), index));
        if let Some(slot) = polls.free.pop() {
            let entry = &mut polls.slots[slot as usize];
            assert!(entry.owner.is_none(), "a free slot has no owner");
            entry.owner = owner;
            return PollKey { slot };
        }
        let slot = u32::try_from(polls.slots.len()).expect("fewer polls than 2^32");
        polls.slots.push(Slot {
            generation: 0,
            owner,
            recv_armed: false,
            send_armed: false,
            pause_armed: false,
        });
        PollKey { slot }
    }

    /// Asks for one event when `fd` is readable (or writable); asking twice asks once.
    pub(crate) fn arm_poll(&self, key: PollKey, fd: RawFd, send: bool) {
        let inner = &mut *self.inner.borrow_mut();
        let slot = inner.polls.slot(key);
        let armed = if send { &mut slot.send_armed } else { &mut slot.recv_armed };
        if std::mem::replace(armed, true) {
            return;
        }
        let (kind, events) =
            if send { (Kind::PollSend, libc::POLLOUT) } else { (Kind::PollRecv, libc::POLLIN) };
        let token = Token { kind, generation: slot.generation, index: key.slot };
        let entry = opcode::PollAdd::new(Fd(fd), events as u32).build().user_data(token.pack());
        // SAFETY: a poll entry points to nothing. Should the descriptor be closed before the
        // submission, the entry polls nothing or a stranger, and its stale generation is ignored.
        unsafe { inner.queue.push(entry) };
    }

    /// Asks for one readable event after a fixed pause, whatever the descriptor does.
    pub(crate) fn arm_pause(&self, key: PollKey) {
        let inner = &mut *self.inner.borrow_mut();
        let slot = inner.polls.slot(key);
        if std::mem::replace(&mut slot.pause_armed, true) {
            return;
        }
        let token = Token { kind: Kind::Pause, generation: slot.generation, index: key.slot };
        let entry = opcode::Timeout::new(&raw const PAUSE).build().user_data(token.pack());
        // SAFETY: the time it points to is static.
        unsafe { inner.queue.push(entry) };
    }

    /// Gives the slot back; what is armed is cancelled, because it keeps the socket open, and what
    /// still arrives is ignored.
    pub(crate) fn unregister_poll(&self, key: PollKey) {
        let inner = &mut *self.inner.borrow_mut();
        let slot = inner.polls.slot(key);
        slot.owner = None;
        let armed = [
            (Kind::PollRecv, std::mem::take(&mut slot.recv_armed)),
            (Kind::PollSend, std::mem::take(&mut slot.send_armed)),
            (Kind::Pause, std::mem::take(&mut slot.pause_armed)),
        ];
        let generation = slot.generation;
        slot.generation = (generation + 1) & GENERATION_MASK;
        inner.polls.free.push(key.slot);
        for (kind, armed) in armed {
            if !armed {
                continue;
            }
            let target = Token { kind, generation, index: key.slot }.pack();
            let ignored = Token { kind: Kind::Ignored, generation: 0, index: 0 }.pack();
            let entry = opcode::AsyncCancel::new(target).build().user_data(ignored);
            // SAFETY: a cancellation points to nothing.
            unsafe { inner.queue.push(entry) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::Waker;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn wait(uring: &Uring, queue: &PollQueue) -> Vec<PollEvent> {
        for _ in 0..1000 {
            uring.submit();
            uring.reap();
            if !queue.borrow().is_empty() {
                break;
            }
            uring.sleep(Duration::from_millis(10));
        }
        queue.borrow_mut().drain(..).collect()
    }

    #[test]
    fn one_arming_gives_one_event_and_a_removed_slot_gives_none() {
        let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
        let queue = PollQueue::default();
        let (near, mut far) = UnixStream::pair().expect("a socket pair");
        let key = uring.register_poll(&queue, 5);
        uring.arm_poll(key, near.as_raw_fd(), true);
        assert_eq!(wait(&uring, &queue), [PollEvent { index: 5, send: true }]);
        uring.arm_poll(key, near.as_raw_fd(), false);
        uring.arm_poll(key, near.as_raw_fd(), false);
        far.write_all(b"x").expect("the pair is open");
        assert_eq!(wait(&uring, &queue), [PollEvent { index: 5, send: false }]);
        uring.arm_poll(key, near.as_raw_fd(), false);
        uring.unregister_poll(key);
        let again = uring.register_poll(&queue, 6);
        assert_eq!(again.slot, key.slot);
        uring.arm_poll(again, near.as_raw_fd(), true);
        assert_eq!(wait(&uring, &queue), [PollEvent { index: 6, send: true }]);
    }

    #[test]
    fn a_cancelled_poll_does_not_keep_the_socket_open() {
        let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
        let queue = PollQueue::default();
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let key = uring.register_poll(&queue, 0);
        uring.arm_poll(key, near.as_raw_fd(), false);
        uring.submit();
        uring.unregister_poll(key);
        drop(near);
        uring.submit();
        let other = uring.register_poll(&queue, 1);
        uring.arm_poll(other, far.as_raw_fd(), false);
        assert_eq!(wait(&uring, &queue), [PollEvent { index: 1, send: false }], "the far end sees the end");
    }
}

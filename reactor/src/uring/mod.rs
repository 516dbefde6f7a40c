//! One io_uring per core: file operations, socket readiness and the core's sleep.
//!
//! Sockets are read and written by plain calls (`tcp`); the ring only says when a quiet one is
//! worth a call. Entries are collected and submitted by one system call at the end of a turn; those of files by one for every few (`batch`).
//! A look at an idle ring costs no system call.
//!
//! Reading order: `setup`, this file, `batch`, `files`, `polls`.

// The island: entries carry raw addresses to the kernel. What they point to is owned by a slot
// (`files`) or lives for ever until the completion that names the slot has been seen.
#![allow(unsafe_code)]

mod batch;
mod events;
mod files;
mod polls;
mod setup;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

pub use files::UringFile;
pub(crate) use polls::{PollEvent, PollKey, PollQueue};
pub use setup::UringError;

use crate::file::{File, FileSystem};
use crate::limits::SLEEP_US_MAX;
use crate::wake::Waker;

/// What a completion belongs to; the upper byte of the entry's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nobody waits for it: a cancellation.
    Ignored = 0,
    /// The core's eventfd.
    Wake = 1,
    /// A slot of `files`.
    File = 2,
    /// A slot of `polls`, readable.
    PollRecv = 3,
    /// A slot of `polls`, writable.
    PollSend = 4,
    /// A slot of `polls`, a pause is over.
    Pause = 5,
}

/// Slots are reused; the generation tells a late completion from one of the slot's present owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) generation: u32,
    pub(crate) index: u32,
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Token {
    fn pack(self) -> u64 {
        debug_assert!(self.generation <= GENERATION_MASK);
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpack(user_data: u64) -> Self {
        let kind = match user_data >> 56 {
            1 => Kind::Wake,
            2 => Kind::File,
            3 => Kind::PollRecv,
            4 => Kind::PollSend,
            5 => Kind::Pause,
            _ => Kind::Ignored,
        };
        Self { kind, generation: (user_data >> 32) as u32 & GENERATION_MASK, index: user_data as u32 }
    }
}

/// The entries of one ring on their way to the kernel.
struct Queue {
    ring: IoUring,
    /// Entries that found the submission queue full; bounded, like the queue, by the slots.
    waiting: VecDeque<squeue::Entry>,
    /// What has come together for files.
    batch: batch::Batch,
}

impl Queue {
    /// Queues `entry` for the next submission.
    ///
    /// # Safety
    /// What the entry points to stays valid until its completion, or, where the kernel copies it,
    /// until the submission.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(entry);
        }
        // SAFETY: passed on to the caller.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.enter();
        // SAFETY: passed on to the caller.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.waiting.push_back(entry);
        }
    }

    /// Gives everything that was queued to the kernel and lets it post what has completed.
    fn enter(&mut self) {
        self.batch = batch::Batch::default();
        loop {
            while let Some(entry) = self.waiting.front() {
                // SAFETY: whoever queued it promised validity until its completion.
                if unsafe { self.ring.submission().push(entry) }.is_err() {
                    break;
                }
                self.waiting.pop_front();
            }
            match self.ring.submit() {
                Ok(_) if self.waiting.is_empty() => return,
                Ok(0) => return,
                Ok(_) => {}
                // Out of room for completions or memory: what was not taken stays queued and goes
                // at the next turn, after completions were reaped.
                Err(error) if is_passing(&error) => return,
                Err(error) => panic!("the kernel takes what the ring holds: {error}"),
            }
        }
    }

    /// Gives the submission queue to the kernel and waits for a completion, for `limit` at most.
    fn wait(&mut self, limit: Duration) -> io::Result<usize> {
        self.batch = batch::Batch::default();
        let timeout = Timespec::from(limit);
        self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.waiting.is_empty() || !self.ring.submission().is_empty()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME | libc::ENOMEM)
    )
}

struct Inner {
    queue: Queue,
    files: files::Files,
    polls: polls::Polls,
    waker: Waker,
    wake_armed: bool,
    events: events::Events,
    /// Scratch space for completions, so that handling one may queue new entries.
    reaped: Vec<(u64, i32)>,
}

impl Inner {
    /// Handles what has completed; how much that was.
    fn reap(&mut self) -> usize {
        let submission = self.queue.ring.submission();
        let must_enter = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if must_enter {
            self.queue.enter();
        }
        let completions = self.queue.ring.completion();
        if completions.is_empty() {
            return 0;
        }
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(completions.map(|entry| (entry.user_data(), entry.result())));
        let count = reaped.len();
        for (user_data, result) in reaped.drain(..) {
            self.complete(Token::unpack(user_data), result);
        }
        self.reaped = reaped;
        count
    }

    fn complete(&mut self, token: Token, result: i32) {
        match token.kind {
            Kind::File => self.files.complete(&mut self.queue, token, result),
            Kind::PollRecv | Kind::PollSend | Kind::Pause => self.polls.complete(token, result),
            Kind::Wake => {
                self.wake_armed = false;
                self.waker.drain();
            }
            Kind::Ignored => {}
        }
    }

    fn arm_wake(&mut self) {
        if self.wake_armed {
            return;
        }
        let token = Token { kind: Kind::Wake, generation: 0, index: 0 };
        let fd = Fd(self.waker.event().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(token.pack());
        // SAFETY: a poll entry points to nothing; the waker, which owns the descriptor, lives as
        // long as the ring.
        unsafe { self.queue.push(entry) };
        self.wake_armed = true;
    }

    fn sleep(&mut self, limit: Duration) {
        self.arm_wake();
        if !self.queue.waiting.is_empty() {
            // More to submit than the queue holds: no time to sleep.
            return self.queue.enter();
        }
        match self.queue.wait(limit.min(Duration::from_micros(SLEEP_US_MAX))) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => panic!("the kernel lets a core sleep: {error}"),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The kernel may still write into the buffers of running operations: wait for them, and
        // rather leak buffers than free them under it.
        self.files.close_all();
        self.files.cancel_running(&mut self.queue);
        self.queue.enter();
        for _ in 0..files::CLOSE_WAITS_MAX {
            if self.files.running() == 0 {
                break;
            }
            let _ = self.queue.wait(files::CLOSE_WAIT);
            self.reap();
        }
        self.files.leak_running();
    }
}

/// A core's ring; a clone is another handle to it. Everything that came from it works without a
/// core loop as well: `File::poll` submits and reaps what there is.
#[derive(Clone)]
pub struct Uring {
    inner: Rc<RefCell<Inner>>,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uring")
    }
}

impl Uring {
    /// A ring for the calling thread, which must be the only one to use it. `waker` ends its sleep.
    pub fn new(waker: Waker) -> Result<Self, UringError> {
        let inner = Inner {
            queue: Queue { ring: setup::build()?, waiting: VecDeque::new(), batch: batch::Batch::default() },
            files: files::Files::default(),
            polls: polls::Polls::default(),
            waker,
            wake_armed: false,
            events: events::Events::default(),
            reaped: Vec::new(),
        };
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// Handles what has completed; how much that was. Without completions it costs no system call.
    pub fn reap(&self) -> usize {
        self.inner.borrow_mut().reap()
    }

    /// Gives what was queued this turn to the kernel, by one system call if there is any.
    pub fn submit(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.queue.has_unsubmitted() {
            inner.queue.enter();
        }
    }

    /// Submits, then sleeps until something completes, the waker is used or `limit` is over.
    pub fn sleep(&self, limit: Duration) {
        self.inner.borrow_mut().sleep(limit);
    }

    /// File operations in flight, over all files.
    pub fn file_operations(&self) -> usize {
        self.inner.borrow().files.running()
    }
}

impl FileSystem for Uring {
    fn adopt(&self, fd: OwnedFd) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UringFile::adopt(self, fd)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        for kind in [Kind::Ignored, Kind::Wake, Kind::File, Kind::PollRecv, Kind::PollSend, Kind::Pause] {
            for (generation, index) in [(0, 0), (GENERATION_MASK, u32::MAX), (77, 1 << 31)] {
                let token = Token { kind, generation, index };
                assert_eq!(Token::unpack(token.pack()), token);
            }
        }
    }

    #[test]
    fn a_sleeper_is_woken_from_another_thread() {
        let waker = Waker::new().expect("a descriptor is free");
        let uring = Uring::new(waker.clone()).expect("this machine has io_uring");
        for _ in 0..3 {
            waker.arm();
            let theirs = waker.clone();
            let thread = std::thread::spawn(move || theirs.wake());
            while uring.reap() == 0 {
                uring.sleep(Duration::from_secs(60));
            }
            waker.disarm();
            thread.join().expect("no panic");
        }
    }

    #[test]
    fn a_sleep_ends_at_its_limit() {
        let uring = Uring::new(Waker::new().expect("a descriptor is free")).expect("io_uring is there");
        uring.sleep(Duration::from_micros(10));
        uring.sleep(Duration::ZERO);
        assert_eq!(uring.reap(), 0);
    }
}

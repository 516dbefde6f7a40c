//! One core's queue pair, shared by the channels of its namespaces.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use nvme::device::Device;
use nvme::{IoDone, Namespace, QueuePair, Readiness, Request};
use reactor::buffer::{BufferPool, Sgl};
use reactor::poller::Progress;
use reactor::time::{Clock, Time};

use crate::limits::IN_FLIGHT_EXPECTED;

/// What has come for one channel.
struct Mailbox {
    done: VecDeque<IoDone>,
    /// I/Os of this channel that were not taken out of here.
    open: usize,
}

pub(super) struct Inner<D: Device> {
    pub(super) queue: QueuePair<D>,
    clock: Rc<dyn Clock>,
    buffers: BufferPool,
    /// Read once a turn.
    now: Time,
    mailboxes: Vec<Mailbox>,
    /// Mailboxes of channels that went while I/O was open: given back when the last of it has come.
    abandoned: Vec<u16>,
    reaped: Vec<IoDone>,
    /// When a channel has to be polled although nothing arrives.
    pub(super) wake_at: Time,
    pub(super) has_poller: bool,
}

/// A queue pair on its core. A clone is another handle to it.
pub struct NvmeCore<D: Device> {
    pub(super) inner: Rc<RefCell<Inner<D>>>,
}

impl<D: Device> Clone for NvmeCore<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<D: Device> std::fmt::Debug for NvmeCore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NvmeCore({:?})", self.inner.borrow().queue)
    }
}

impl<D: Device> NvmeCore<D> {
    /// Shares `queue`, whose buffers are `buffers`.
    pub fn new(queue: QueuePair<D>, clock: Rc<dyn Clock>, buffers: &BufferPool) -> Self {
        let now = clock.now();
        let inner = Inner {
            queue,
            clock,
            buffers: buffers.clone(),
            now,
            mailboxes: Vec::new(),
            abandoned: Vec::new(),
            reaped: Vec::with_capacity(IN_FLIGHT_EXPECTED),
            wake_at: Time::NEVER,
            has_poller: false,
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// The counters of the queue pair.
    pub fn stats(&self) -> Arc<nvme::stats::QueueStats> {
        self.inner.borrow().queue.stats()
    }

    /// True when I/O is taken.
    pub fn is_live(&self) -> bool {
        self.inner.borrow().queue.is_live()
    }

    pub(super) fn attach(&self, namespace: Arc<Namespace>) -> u16 {
        let inner = &mut *self.inner.borrow_mut();
        let number = inner.queue.attach(namespace);
        let index = usize::from(number);
        if index == inner.mailboxes.len() {
            inner.mailboxes.push(Mailbox { done: VecDeque::with_capacity(IN_FLIGHT_EXPECTED), open: 0 });
        }
        let is_fresh = inner.mailboxes.get(index).is_some_and(|mailbox| mailbox.open == 0);
        assert!(is_fresh, "namespaces are attached only here, and detached when all is home");
        number
    }

    /// The channel of that number goes. What it has open ends by itself and is thrown away.
    pub(super) fn detach(&self, number: u16) {
        let inner = &mut *self.inner.borrow_mut();
        inner.abandoned.push(number);
        inner.sweep();
    }

    /// How many more channels there can be.
    pub fn channels_left(&self) -> usize {
        self.inner.borrow().queue.attachments_left()
    }

    #[inline]
    pub(super) fn readiness(&self, number: u16) -> Readiness {
        self.inner.borrow().queue.readiness(number)
    }

    #[inline]
    pub(super) fn describes(&self, sgl: &Sgl) -> bool {
        self.inner.borrow().queue.describes(sgl)
    }

    pub(super) fn buffers(&self) -> BufferPool {
        self.inner.borrow().buffers.clone()
    }

    /// The time of this turn.
    pub(super) fn now(&self) -> Time {
        self.inner.borrow().now
    }

    /// A channel wants to be polled at `time`, whatever arrives until then.
    pub(super) fn wake_at(&self, time: Time) {
        let inner = &mut *self.inner.borrow_mut();
        inner.wake_at = inner.wake_at.min(time);
    }

    #[inline]
    pub(super) fn submit(&self, request: Request) {
        let inner = &mut *self.inner.borrow_mut();
        inner.mailboxes[usize::from(request.namespace)].open += 1;
        inner.queue.submit(inner.now, request);
    }

    /// Takes completions for all channels, unless the core's poller does.
    #[inline]
    pub(super) fn reap(&self, budget: usize) {
        let inner = &mut *self.inner.borrow_mut();
        if !inner.has_poller {
            let now = inner.clock.now();
            inner.turn(now, budget);
        }
    }

    /// Rings the doorbell, unless the core's poller does at the end of the turn.
    #[inline]
    pub(super) fn ring_without_poller(&self) {
        let inner = &mut *self.inner.borrow_mut();
        if !inner.has_poller {
            inner.queue.ring();
        }
    }

    /// The next answer for a channel.
    #[inline]
    pub(super) fn take(&self, number: u16) -> Option<IoDone> {
        let inner = &mut *self.inner.borrow_mut();
        let mailbox = &mut inner.mailboxes[usize::from(number)];
        let done = mailbox.done.pop_front()?;
        mailbox.open -= 1;
        Some(done)
    }

    pub(super) fn open(&self, number: u16) -> usize {
        self.inner.borrow().mailboxes[usize::from(number)].open
    }
}

impl<D: Device> Inner<D> {
    /// Takes completions and puts them where they belong.
    #[inline]
    pub(super) fn turn(&mut self, now: Time, budget: usize) -> Progress {
        self.now = now;
        let mut progress = self.queue.poll(now, budget, &mut self.reaped);
        if now >= self.wake_at {
            // Channels are polled before this, with the time of the turn before: they see it in the next one, at once.
            self.wake_at = Time::NEVER;
            progress = Progress::Busy;
        }
        for done in self.reaped.drain(..) {
            self.mailboxes[usize::from(done.namespace)].done.push_back(done);
        }
        if !self.abandoned.is_empty() {
            self.sweep();
        }
        progress
    }

    /// Throws away what came for channels that are gone, and gives their numbers back when nothing is open any more.
    #[cold]
    fn sweep(&mut self) {
        let Self { queue, mailboxes, abandoned, .. } = self;
        abandoned.retain(|&number| {
            let mailbox = &mut mailboxes[usize::from(number)];
            mailbox.open -= mailbox.done.drain(..).count();
            if mailbox.open == 0 {
                queue.detach(number);
            }
            mailbox.open > 0
        });
    }

    /// True when nothing lies here that a channel has not taken.
    pub(super) fn is_taken(&self) -> bool {
        self.mailboxes.iter().all(|mailbox| mailbox.done.is_empty())
    }
}

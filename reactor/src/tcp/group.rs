//! The streams of one poller: which of them are worth a call this turn.
//!
//! ```text
//!            adopt                 event                  quiet for HOT_TURNS_MAX,
//!   (new) ─────────▶ ready ◀──────────────── armed ◀───── or pushed out, or the core sleeps
//!                      │  ▲                    ▲  │
//!              named   │  │ may hold more      │  │ event, and a hot place is free
//!                      ▼  │                    │  ▼
//!                     named ──── drained ──────┘  hot: named every turn
//! ```

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::stream::{Signals, TcpEnd};
use crate::limits::{HOT_STREAMS_MAX, HOT_TURNS_MAX, STREAMS_PER_CORE_MAX};
use crate::net::{Ready, Stream, StreamGroup, StreamParcel};
use crate::stats::CoreStats;
use crate::uring::{PollEvent, PollKey, PollQueue, Uring};

/// A hot stream that was quiet this long gives its place to one that is not.
const REPLACEABLE_TURNS: u32 = 16;

/// Tokens are numbers of our own, so spreading their bits is enough.
#[derive(Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a token is one u32");
    }

    fn write_u32(&mut self, token: u32) {
        self.0 = u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// Where a stream's next receive comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Named every turn.
    Hot { quiet_turns: u32 },
    /// In the queue to be named.
    Ready,
    /// Named; what the receive said is looked at in the next turn.
    Named,
    /// The kernel says when.
    Armed,
    /// Readable, but paused: queued when the pause ends.
    Held,
    /// Nothing will arrive any more.
    Ended,
}

struct Entry {
    token: u32,
    fd: i32,
    poll: PollKey,
    signals: Rc<Signals>,
    place: Place,
    paused: bool,
}

pub(super) struct Inner {
    uring: Uring,
    stats: Arc<CoreStats>,
    events: PollQueue,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_token: HashMap<u32, u32, BuildHasherDefault<TokenHasher>>,
    hot: Vec<u32>,
    hot_start: usize,
    ready: VecDeque<u32>,
    named: Vec<u32>,
    can_send: VecDeque<u32>,
    scratch: Vec<PollEvent>,
}

impl Inner {
    fn entry(&mut self, index: u32) -> &mut Entry {
        self.entries[index as usize].as_mut().expect("lists name registered streams only")
    }

    fn index_of(&self, token: u32) -> u32 {
        *self.by_token.get(&token).expect("a token is used only while it is registered")
    }

    /// Puts a stream that may hold bytes into the queue, unless it is paused.
    fn make_ready(&mut self, index: u32) {
        let entry = self.entry(index);
        entry.place = if entry.paused { Place::Held } else { Place::Ready };
        if entry.place == Place::Ready {
            self.ready.push_back(index);
        }
    }

    fn arm(&mut self, index: u32) {
        let entry = self.entry(index);
        if entry.signals.ended.get() {
            entry.place = Place::Ended;
            return;
        }
        entry.place = Place::Armed;
        let (poll, fd) = (entry.poll, entry.fd);
        self.uring.arm_poll(poll, fd, false);
    }

    /// Streams named last turn: armed when the receive emptied them, else named again.
    fn settle_named(&mut self) {
        let mut named = std::mem::take(&mut self.named);
        for index in named.drain(..) {
            let Some(entry) = self.entries[index as usize].as_mut() else { continue };
            if entry.place != Place::Named {
                continue;
            }
            if entry.signals.drained.get() || entry.signals.ended.get() {
                self.arm(index);
            } else {
                self.make_ready(index);
            }
        }
        self.named = named;
    }

    fn take_events(&mut self) {
        let mut events = std::mem::take(&mut self.scratch);
        std::mem::swap(&mut events, &mut self.events.borrow_mut());
        for event in events.drain(..) {
            if self.entries[event.index as usize].is_none() {
                continue;
            }
            if event.send {
                self.can_send.push_back(event.index);
            } else if self.entry(event.index).place == Place::Armed && !self.make_hot(event.index) {
                self.make_ready(event.index);
            }
        }
        self.scratch = events;
    }

    /// Gives the stream a hot place if one is free or held by a quiet stream.
    fn make_hot(&mut self, index: u32) -> bool {
        if self.entry(index).paused {
            return false;
        }
        if self.hot.len() == HOT_STREAMS_MAX {
            let quiet = |inner: &mut Self, at: usize| match inner.entry(inner.hot[at]).place {
                Place::Hot { quiet_turns } => quiet_turns,
                _ => unreachable!("the hot list holds hot streams only"),
            };
            let quietest = (0..self.hot.len()).max_by_key(|&at| quiet(self, at));
            let quietest = quietest.expect("the list is full, not empty");
            if quiet(self, quietest) < REPLACEABLE_TURNS {
                return false;
            }
            let victim = self.hot.swap_remove(quietest);
            self.arm(victim);
        }
        self.entry(index).place = Place::Hot { quiet_turns: 0 };
        self.hot.push(index);
        true
    }

    fn name_hot(&mut self, out: &mut Vec<Ready>, limit: usize) {
        let mut at = 0;
        self.hot_start = self.hot_start.wrapping_add(1);
        let start = self.hot_start;
        let count = self.hot.len();
        let mut cooled = [0; HOT_STREAMS_MAX];
        let mut cooled_count = 0;
        while at < count && out.len() < limit {
            // Another one is first each turn.
            let index = self.hot[(start + at) % count];
            at += 1;
            let entry = self.entry(index);
            let active = entry.signals.active.take();
            let Place::Hot { quiet_turns } = &mut entry.place else {
                unreachable!("the hot list holds hot streams only")
            };
            *quiet_turns = if active || entry.paused { 0 } else { *quiet_turns + 1 };
            if *quiet_turns > HOT_TURNS_MAX || entry.signals.ended.get() {
                cooled[cooled_count] = index;
                cooled_count += 1;
            } else if !entry.paused {
                out.push(Ready { token: entry.token, send: false });
            }
        }
        for &index in &cooled[..cooled_count] {
            self.hot.retain(|&hot| hot != index);
            self.arm(index);
        }
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, max: usize) {
        let limit = out.len() + max;
        self.settle_named();
        self.take_events();
        // Neither kind may starve the other: the few hot ones go first when they leave room.
        let hot_first = max > HOT_STREAMS_MAX || self.hot_start.is_multiple_of(2);
        if hot_first {
            self.name_hot(out, limit);
            self.name_queued(out, limit);
        } else {
            self.name_queued(out, limit);
            self.name_hot(out, limit);
        }
    }

    fn name_queued(&mut self, out: &mut Vec<Ready>, limit: usize) {
        while out.len() < limit
            && let Some(index) = self.can_send.pop_front()
        {
            if let Some(entry) = self.entries[index as usize].as_ref() {
                out.push(Ready { token: entry.token, send: true });
            }
        }
        while out.len() < limit
            && let Some(index) = self.ready.pop_front()
        {
            let Some(entry) = self.entries[index as usize].as_mut() else { continue };
            if entry.place != Place::Ready {
                continue;
            }
            if entry.paused {
                entry.place = Place::Held;
                continue;
            }
            entry.place = Place::Named;
            entry.signals.drained.set(false);
            out.push(Ready { token: entry.token, send: false });
            self.named.push(index);
        }
    }

    /// Hands every stream to the kernel. True when none is worth a try now.
    pub(super) fn arm_all(&mut self) -> bool {
        self.settle_named();
        for index in std::mem::take(&mut self.hot) {
            // A paused one is not to wake the core; its readiness is looked at when it goes on.
            if self.entry(index).paused {
                self.entry(index).place = Place::Held;
            } else {
                self.arm(index);
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|&index| {
            let entry = self.entry(index);
            if entry.paused && entry.place == Place::Ready {
                entry.place = Place::Held;
            }
            entry.place == Place::Ready
        });
        self.ready = ready;
        self.ready.is_empty() && self.can_send.is_empty() && self.events.borrow().is_empty()
    }

    fn adopt(&mut self, fd: std::os::fd::OwnedFd, token: u32) -> io::Result<Box<dyn Stream>> {
        assert!(self.by_token.len() < STREAMS_PER_CORE_MAX, "the owner bounds its connections");
        assert!(!self.by_token.contains_key(&token), "a token names one stream");
        let signals = Rc::new(Signals::default());
        let end = TcpEnd::new(fd, Rc::clone(&signals))?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("bounded above")
        });
        let poll = self.uring.register_poll(&self.events, index);
        let entry = Entry { token, fd: end.raw_fd(), poll, signals, place: Place::Ready, paused: false };
        self.entries[index as usize] = Some(entry);
        self.by_token.insert(token, index);
        self.ready.push_back(index);
        self.stats.connections.add(1);
        Ok(Box::new(end))
    }

    fn remove(&mut self, token: u32) {
        let index = self.by_token.remove(&token).expect("a token is removed once");
        let entry = self.entries[index as usize].take().expect("registered");
        self.uring.unregister_poll(entry.poll);
        // The index is reused, so no list may name it any more. Removal is rare, lists are short.
        self.hot.retain(|&other| other != index);
        self.ready.retain(|&other| other != index);
        self.named.retain(|&other| other != index);
        self.can_send.retain(|&other| other != index);
        self.events.borrow_mut().retain(|event| event.index != index);
        self.free.push(index);
        self.stats.connections.sub(1);
    }

    fn pause(&mut self, token: u32, paused: bool) {
        let index = self.index_of(token);
        let entry = self.entry(index);
        entry.paused = paused;
        if !paused && entry.place == Place::Held {
            self.make_ready(index);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for entry in self.entries.drain(..).flatten() {
            self.uring.unregister_poll(entry.poll);
            self.stats.connections.sub(1);
        }
    }
}

pub(super) struct TcpGroup {
    inner: Rc<RefCell<Inner>>,
}

impl TcpGroup {
    pub(super) fn new(uring: Uring, stats: Arc<CoreStats>) -> Self {
        let inner = Inner {
            uring,
            stats,
            events: PollQueue::default(),
            entries: Vec::new(),
            free: Vec::new(),
            by_token: HashMap::default(),
            hot: Vec::with_capacity(HOT_STREAMS_MAX),
            hot_start: 0,
            ready: VecDeque::new(),
            named: Vec::new(),
            can_send: VecDeque::new(),
            scratch: Vec::new(),
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    pub(super) fn downgrade(&self) -> Weak<RefCell<Inner>> {
        Rc::downgrade(&self.inner)
    }
}

impl StreamGroup for TcpGroup {
    fn adopt(&mut self, parcel: StreamParcel, token: u32) -> io::Result<Box<dyn Stream>> {
        let StreamParcel::Socket(fd) = parcel else {
            panic!("a simulated stream belongs to a simulated network")
        };
        self.inner.borrow_mut().adopt(fd, token)
    }

    fn want_send(&mut self, token: u32) {
        let inner = &mut *self.inner.borrow_mut();
        let index = inner.index_of(token);
        let (poll, fd) = (inner.entry(index).poll, inner.entry(index).fd);
        inner.uring.arm_poll(poll, fd, true);
    }

    fn pause_recv(&mut self, token: u32, paused: bool) {
        self.inner.borrow_mut().pause(token, paused);
    }

    fn note_drained(&mut self, token: u32, drained: bool) {
        let inner = &mut *self.inner.borrow_mut();
        let index = inner.index_of(token);
        inner.entry(index).signals.drained.set(drained);
    }

    fn remove(&mut self, token: u32) {
        self.inner.borrow_mut().remove(token);
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, max: usize) {
        self.inner.borrow_mut().take_ready(out, max);
    }
}

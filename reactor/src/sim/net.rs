//! A simulated network: streams that cut anywhere, stall, half close and break, by the seed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

use super::{NetFaults, SimWorld};
use crate::net::{Connector, Listener, Network, Ready, Stream, StreamError, StreamGroup, StreamParcel};
use crate::time::Time;

const CLIENT: usize = 0;
const SERVER: usize = 1;
const FIRST_PORT: u16 = 40_000;

/// The bytes that one side sent and the other has not received yet.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The sender will send no more.
    finished: bool,
    /// Nothing arrives before.
    stalled_until: Time,
}

struct Link {
    addresses: [SocketAddr; 2],
    /// By the side that sends.
    pipes: [Pipe; 2],
    /// By side: its end was dropped.
    closed: [bool; 2],
    /// By side: it has seen the end of the other's bytes.
    ended: [bool; 2],
    reset: bool,
}

impl Link {
    /// What `side` would receive now is not nothing.
    fn recv_ready(&self, side: usize, now: Time) -> bool {
        let pipe = &self.pipes[1 - side];
        let waits = !pipe.bytes.is_empty() || pipe.finished;
        !self.ended[side] && (self.reset || waits && pipe.stalled_until <= now)
    }

    fn send_ready(&self, side: usize, window_bytes: usize) -> bool {
        self.reset || self.closed[1 - side] || self.pipes[side].bytes.len() < window_bytes
    }
}

struct ListenerState {
    address: SocketAddr,
    backlog: VecDeque<usize>,
    open: bool,
}

#[derive(Default)]
pub(super) struct State {
    faults: NetFaults,
    links: Vec<Link>,
    listeners: Vec<ListenerState>,
    ports: u16,
}

impl State {
    /// The end of the next stall.
    pub(super) fn next_due(&self, now: Time) -> Time {
        let pipes = self.links.iter().filter(|link| !link.reset).flat_map(|link| &link.pipes);
        let waiting = pipes.filter(|pipe| !pipe.bytes.is_empty() || pipe.finished);
        waiting.map(|pipe| pipe.stalled_until).filter(|&until| until > now).min().unwrap_or(Time::NEVER)
    }

    fn new_port(&mut self) -> u16 {
        self.ports += 1;
        FIRST_PORT + self.ports
    }
}

impl SimWorld {
    /// What the network does wrong from now on.
    pub fn set_net_faults(&self, faults: NetFaults) {
        self.inner.net.borrow_mut().faults = faults;
    }

    /// Connects to a listener of this world; the client's end of the connection.
    /// `ConnectionRefused` when nobody listens there or its backlog is full.
    pub fn connect(&self, to: SocketAddr) -> io::Result<SimEnd> {
        let state = &mut *self.inner.net.borrow_mut();
        let (port, backlog_max) = (state.new_port(), state.faults.backlog);
        let hears = |listener: &&mut ListenerState| {
            let address = listener.address;
            listener.open
                && address.port() == to.port()
                && (address.ip() == to.ip() || address.ip().is_unspecified())
        };
        let listener = state.listeners.iter_mut().find(hears);
        let listener = listener.filter(|listener| listener.backlog.len() < backlog_max);
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let link = state.links.len();
        listener.backlog.push_back(link);
        state.links.push(Link {
            addresses: [SocketAddr::from(([127, 0, 0, 1], port)), to],
            pipes: Default::default(),
            closed: [false; 2],
            ended: [false; 2],
            reset: false,
        });
        Ok(SimEnd::new(self, link, CLIENT))
    }
}

/// One end of a simulated connection. Dropping it closes the connection from this side.
#[derive(Debug)]
pub struct SimEnd {
    world: SimWorld,
    link: usize,
    side: usize,
    parcelled: bool,
}

impl SimEnd {
    fn new(world: &SimWorld, link: usize, side: usize) -> Self {
        Self { world: world.clone(), link, side, parcelled: false }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Link, NetFaults) -> R) -> R {
        let state = &mut *self.world.inner.net.borrow_mut();
        let faults = state.faults;
        f(&mut state.links[self.link], faults)
    }

    /// Sends as much as the window takes, without cuts or stalls: for the test's side.
    pub fn send_now(&self, bytes: &[u8]) -> usize {
        self.with(|link, faults| {
            let pipe = &mut link.pipes[self.side];
            let count = bytes.len().min(faults.window_bytes.saturating_sub(pipe.bytes.len()));
            pipe.bytes.extend(&bytes[..count]);
            count
        })
    }

    /// Receives everything that was sent, without cuts or stalls: for the test's side.
    pub fn recv_now(&self) -> Vec<u8> {
        self.with(|link, _| link.pipes[1 - self.side].bytes.drain(..).collect())
    }

    /// Sends the end of the stream; receiving goes on.
    pub fn close_send(&self) {
        self.with(|link, _| link.pipes[self.side].finished = true);
    }

    /// Breaks the connection for both sides; what was on its way is lost.
    pub fn reset(&self) {
        self.with(|link, _| break_link(link));
    }

    /// True when the other side has closed, or either has broken the connection.
    pub fn is_closed(&self) -> bool {
        self.with(|link, _| link.reset || link.pipes[1 - self.side].finished)
    }
}

/// See [`Stream::segment_bytes`].
const SEGMENT_BYTES: usize = 4 * 1448;

fn break_link(link: &mut Link) {
    link.reset = true;
    link.pipes.iter_mut().for_each(|pipe| pipe.bytes.clear());
}

/// How many of `possible` bytes one call moves.
fn amount(world: &SimWorld, faults: &NetFaults, possible: usize) -> usize {
    if !world.chance(faults.cut_permille) {
        return possible;
    }
    // Half of the cuts are near the start, where headers are.
    let bound = if world.chance(500) { possible.min(64) } else { possible };
    1 + world.below(bound as u64) as usize
}

impl Stream for SimEnd {
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
        let (world, side) = (self.world.clone(), self.side);
        self.with(|link, faults| {
            if world.chance(faults.reset_permille) {
                break_link(link);
            }
            if link.reset {
                link.ended[side] = true;
                return Err(StreamError::Broken(libc::ECONNRESET));
            }
            let pipe = &mut link.pipes[1 - side];
            if pipe.stalled_until > world.now() || pipe.bytes.is_empty() && !pipe.finished {
                return Err(StreamError::WouldBlock);
            }
            let room = into.iter().map(|slice| slice.len()).sum::<usize>();
            let possible = room.min(pipe.bytes.len());
            if possible == 0 {
                link.ended[side] = pipe.bytes.is_empty();
                return Ok(0);
            }
            let count = amount(&world, &faults, possible);
            let mut taken = pipe.bytes.drain(..count);
            for slice in into {
                slice.iter_mut().zip(&mut taken).for_each(|(to, from)| *to = from);
            }
            drop(taken);
            if world.chance(faults.stall_permille) {
                pipe.stalled_until = world.delay(1, faults.stall_us_max.max(1));
            }
            Ok(count)
        })
    }

    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        let (world, side) = (self.world.clone(), self.side);
        self.with(|link, faults| {
            if world.chance(faults.reset_permille) {
                break_link(link);
            }
            if link.reset || link.closed[1 - side] {
                return Err(StreamError::Broken(libc::EPIPE));
            }
            let pipe = &mut link.pipes[side];
            assert!(!pipe.finished, "the sender said that it would send no more");
            let offered = from.iter().map(|slice| slice.len()).sum::<usize>();
            let possible = offered.min(faults.window_bytes.saturating_sub(pipe.bytes.len()));
            if possible == 0 {
                return Err(StreamError::WouldBlock);
            }
            let count = amount(&world, &faults, possible);
            pipe.bytes.extend(from.iter().flat_map(|slice| slice.iter()).take(count));
            if world.chance(faults.stall_permille) {
                pipe.stalled_until = world.delay(1, faults.stall_us_max.max(1));
            }
            Ok(count)
        })
    }

    fn segment_bytes(&self) -> usize {
        // Small, so that little traffic makes full pieces and leaves rests.
        SEGMENT_BYTES
    }

    fn peer(&self) -> SocketAddr {
        self.with(|link, _| link.addresses[1 - self.side])
    }

    fn local(&self) -> SocketAddr {
        self.with(|link, _| link.addresses[self.side])
    }

    fn into_parcel(mut self: Box<Self>) -> StreamParcel {
        self.parcelled = true;
        StreamParcel::Simulated((self.link * 2 + self.side) as u64)
    }
}

impl Drop for SimEnd {
    fn drop(&mut self) {
        if !self.parcelled {
            self.with(|link, _| {
                link.pipes[self.side].finished = true;
                link.closed[self.side] = true;
            });
        }
    }
}

/// The network of one simulated core.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    world: SimWorld,
}

impl SimNetwork {
    pub(super) fn new(world: &SimWorld) -> Self {
        Self { world: world.clone() }
    }
}

impl Network for SimNetwork {
    fn listen(&self, mut address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let state = &mut *self.world.inner.net.borrow_mut();
        if address.port() == 0 {
            address.set_port(state.new_port());
        }
        if state.listeners.iter().any(|listener| listener.open && listener.address == address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.push(ListenerState { address, backlog: VecDeque::new(), open: true });
        let number = state.listeners.len() - 1;
        Ok(Box::new(SimListener { world: self.world.clone(), number, address }))
    }

    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Connector>> {
        let outcome = match self.world.connect(to) {
            Ok(end) => Ok(Box::new(end).into_parcel()),
            Err(_) => Err(StreamError::Broken(libc::ECONNREFUSED)),
        };
        // The answer is never there at once, so nobody learns to expect that.
        Ok(Box::new(SimConnector { world: self.world.clone(), asked: false, outcome: Some(outcome) }))
    }

    fn group(&self) -> Box<dyn StreamGroup> {
        Box::new(SimGroup { world: self.world.clone(), streams: BTreeMap::new(), next: 0 })
    }
}

struct SimConnector {
    world: SimWorld,
    asked: bool,
    /// Gone once it was given.
    outcome: Option<Result<StreamParcel, StreamError>>,
}

impl Connector for SimConnector {
    fn try_finish(&mut self) -> Result<StreamParcel, StreamError> {
        if !std::mem::replace(&mut self.asked, true) {
            return Err(StreamError::WouldBlock);
        }
        self.outcome.take().unwrap_or(Err(StreamError::Broken(libc::ENOTCONN)))
    }
}

impl Drop for SimConnector {
    fn drop(&mut self) {
        if let Some(Ok(StreamParcel::Simulated(number))) = self.outcome.take() {
            // An end that is dropped closes its side.
            drop(SimEnd::new(&self.world, number as usize / 2, number as usize % 2));
        }
    }
}

struct SimListener {
    world: SimWorld,
    number: usize,
    address: SocketAddr,
}

impl Listener for SimListener {
    fn local(&self) -> SocketAddr {
        self.address
    }

    fn try_accept(&mut self) -> Result<(StreamParcel, SocketAddr), StreamError> {
        let state = &mut *self.world.inner.net.borrow_mut();
        let backlog = &mut state.listeners[self.number].backlog;
        if backlog.is_empty() {
            return Err(StreamError::WouldBlock);
        }
        if self.world.chance(state.faults.accept_error_permille) {
            return Err(StreamError::Broken(libc::EMFILE));
        }
        let link = backlog.pop_front().expect("looked at above");
        let parcel = StreamParcel::Simulated((link * 2 + SERVER) as u64);
        Ok((parcel, state.links[link].addresses[CLIENT]))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let state = &mut *self.world.inner.net.borrow_mut();
        let listener = &mut state.listeners[self.number];
        listener.open = false;
        for link in std::mem::take(&mut listener.backlog) {
            break_link(&mut state.links[link]);
        }
    }
}

struct Member {
    link: usize,
    side: usize,
    /// Not named yet since the adoption.
    fresh: bool,
    paused: bool,
    wants_send: bool,
}

struct SimGroup {
    world: SimWorld,
    streams: BTreeMap<u32, Member>,
    /// Who is looked at first.
    next: u32,
}

impl SimGroup {
    fn collect(&mut self, out: &mut Vec<Ready>, limit: usize) -> usize {
        let (world, before) = (self.world.clone(), out.len());
        let state = &*world.inner.net.borrow();
        let tokens: Vec<u32> =
            self.streams.range(self.next..).chain(self.streams.range(..self.next)).map(|(&t, _)| t).collect();
        for token in tokens {
            if out.len() == limit {
                // The one that found no room is first next time.
                self.next = token;
                break;
            }
            let member = self.streams.get_mut(&token).expect("listed above");
            let link = &state.links[member.link];
            if member.wants_send && link.send_ready(member.side, state.faults.window_bytes) {
                member.wants_send = false;
                out.push(Ready { token, send: true });
            }
            let spurious = world.chance(state.faults.spurious_permille) && !link.ended[member.side];
            let ready = member.fresh || spurious || link.recv_ready(member.side, world.now());
            if ready && !member.paused && out.len() < limit {
                member.fresh = false;
                out.push(Ready { token, send: false });
            }
        }
        out.len() - before
    }

    fn member(&mut self, token: u32) -> &mut Member {
        self.streams.get_mut(&token).expect("a token is used only while it is registered")
    }
}

impl StreamGroup for SimGroup {
    fn adopt(&mut self, parcel: StreamParcel, token: u32) -> io::Result<Box<dyn Stream>> {
        let StreamParcel::Simulated(number) = parcel else {
            panic!("a socket belongs to a network of sockets")
        };
        let (link, side) = (number as usize / 2, number as usize % 2);
        let end = SimEnd::new(&self.world, link, side);
        if end.with(|link, _| link.reset) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let member = Member { link, side, fresh: true, paused: false, wants_send: false };
        assert!(self.streams.insert(token, member).is_none(), "a token names one stream");
        Ok(Box::new(end))
    }

    fn want_send(&mut self, token: u32) {
        self.member(token).wants_send = true;
    }

    fn pause_recv(&mut self, token: u32, paused: bool) {
        self.member(token).paused = paused;
    }

    fn note_drained(&mut self, token: u32, _drained: bool) {
        // Readiness is looked up, not remembered, so there is nothing to note.
        self.member(token);
    }

    fn remove(&mut self, token: u32) {
        self.streams.remove(&token).expect("a token is removed once");
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, max: usize) {
        let limit = out.len() + max;
        if self.collect(out, limit) == 0 && self.world.inner.auto_advance.get() {
            // Only stalls of this group's own streams: others advance for themselves.
            let now = self.world.now();
            let due = {
                let state = self.world.inner.net.borrow();
                let incoming =
                    |member: &Member| state.links[member.link].pipes[1 - member.side].stalled_until;
                self.streams.values().map(incoming).filter(|&until| until > now).min()
            };
            if let Some(due) = due {
                self.world.advance_to(due);
                self.collect(out, limit);
            }
        }
    }
}

//! The driver over iSCSI: one session of one connection per queue (RFC 7143, error recovery level 0, no digests, no
//! authentication).
//!
//! Reading order: [`wire`], [`outbox`], [`session`], this file.

mod outbox;
mod session;
mod wire;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::core::Core;
use reactor::gather::{Behind, Gather};
use reactor::net::{Connector, Network, Ready, Stream, StreamError, StreamGroup};
use reactor::time::Time;

use crate::driver::{Answer, Driver, Failure, Geometry, Request};
use crate::error::{BenchError, SessionEnd};
use crate::limits::{DRAIN_TIMEOUT_S, QUEUES_MAX};
use crate::plan::Plan;
use outbox::VECTORS;
use session::{Session, Standing};
use wire::{HEADER_BYTES, Header, SEGMENT_BYTES_MAX};

/// Bytes of one connection that were received and are not understood yet: at least one whole PDU of the longest kind.
const INBOX_BYTES: usize = 1 << 20;
const _: () = assert!(INBOX_BYTES > 2 * (SEGMENT_BYTES_MAX as usize + 2048));
/// Receive calls for one connection in one turn.
const RECEIVES_PER_TURN: u32 = 4;
/// The name of an initiator that has none.
const INITIATOR: &str = "iqn.2026-11.io.vega:bench";

/// What is logged in to.
#[derive(Clone, Debug)]
pub struct IscsiTarget {
    /// For messages.
    shown: String,
    address: SocketAddr,
    initiator: String,
    name: String,
    lun: u8,
    /// Tells this process's sessions from others of the same name.
    qualifier: [u8; 5],
    sessions: u16,
    depth: u32,
}

impl IscsiTarget {
    /// The sessions that a plan asks for.
    pub fn new(plan: &Plan, address: SocketAddr, name: &str, lun: u8, random: [u8; 16]) -> Self {
        Self {
            shown: plan.target.to_string(),
            address,
            initiator: plan.client_name.clone().unwrap_or_else(|| INITIATOR.to_owned()),
            name: name.to_owned(),
            lun,
            qualifier: std::array::from_fn(|index| random[index]),
            sessions: plan.queues,
            depth: plan.depth,
        }
    }

    fn session(&self, index: u16) -> Session {
        // ISID of the random kind (RFC 7143, 11.12.5); the last byte tells the sessions apart.
        const _: () = assert!(QUEUES_MAX <= 1 << 8);
        let [a, b, c, d, _] = self.qualifier;
        let isid = [0x80, a, b, c, d, index as u8];
        Session::new(&self.initiator, &self.name, self.lun, isid, self.depth as usize)
    }
}

enum Link {
    Connecting(Box<dyn Connector>),
    Open(Box<dyn Stream>),
    Closed,
}

/// Bytes received and not yet understood.
struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

struct Connection {
    link: Link,
    session: Session,
    inbox: Inbox,
    send_blocked: bool,
    heard_at: Time,
}

/// See the module's documentation.
pub struct IscsiDriver {
    target: IscsiTarget,
    network: Rc<dyn Network>,
    group: Box<dyn StreamGroup>,
    ready: Vec<Ready>,
    connections: Vec<Connection>,
    end: Option<BenchError>,
    /// A connection that broke while it was sent to.
    broken: Option<(usize, SessionEnd)>,
    closing: bool,
}

impl IscsiDriver {
    /// Begins to connect.
    pub fn new(core: &Core, target: IscsiTarget) -> Self {
        let network = Rc::clone(&core.network);
        let group = network.group();
        let mut this = Self {
            network,
            group,
            ready: Vec::new(),
            connections: Vec::new(),
            end: None,
            broken: None,
            closing: false,
            target,
        };
        for index in 0..this.target.sessions {
            let link = match this.network.connect(this.target.address) {
                Ok(connector) => Link::Connecting(connector),
                Err(error) => {
                    this.fail(SessionEnd::Network(error.raw_os_error().unwrap_or(0)));
                    Link::Closed
                }
            };
            this.connections.push(Connection {
                link,
                session: this.target.session(index),
                inbox: Inbox { bytes: vec![0; INBOX_BYTES], filled: 0 },
                send_blocked: false,
                heard_at: core.clock.now(),
            });
        }
        this
    }

    /// The first end is the one to tell.
    fn fail(&mut self, cause: SessionEnd) {
        if !self.closing && self.end.is_none() {
            self.end = Some(BenchError::Session { target: self.target.shown.clone(), cause });
        }
    }

    /// Ends a connection: its commands are lost.
    fn drop_connection(&mut self, index: usize, cause: SessionEnd, answers: &mut Vec<Answer<Vec<u8>>>) {
        let connection = &mut self.connections[index];
        if matches!(connection.link, Link::Open(_)) {
            self.group.remove(index as u32);
        }
        connection.link = Link::Closed;
        connection.session.standing = Standing::Out;
        for (tag, data) in connection.session.take_lost() {
            answers.push(Answer { tag, data, failure: Some(Failure::Lost) });
        }
        self.fail(cause);
    }

    fn poll_connects(&mut self, answers: &mut Vec<Answer<Vec<u8>>>) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let Link::Connecting(connector) = &mut connection.link else { continue };
            let adopted = match connector.try_finish() {
                Err(StreamError::WouldBlock) => continue,
                Err(StreamError::Broken(errno)) => Err(errno),
                Ok(parcel) => {
                    self.group.adopt(parcel, index as u32).map_err(|error| error.raw_os_error().unwrap_or(0))
                }
            };
            match adopted {
                Ok(stream) => connection.link = Link::Open(stream),
                Err(errno) => self.drop_connection(index, SessionEnd::Network(errno), answers),
            }
        }
    }

    /// Commands are in flight and nothing was heard for too long.
    fn has_waited(&self, index: usize, now: Time) -> bool {
        let connection = &self.connections[index];
        connection.session.in_flight > 0
            && now.since(connection.heard_at) > Duration::from_secs(DRAIN_TIMEOUT_S)
    }

    fn take_over(&mut self, index: usize, answers: &mut Vec<Answer<Vec<u8>>>) -> Result<(), SessionEnd> {
        let session = &mut self.connections[index].session;
        while let Some(slot) = session.over.pop() {
            if let Some((tag, data, failure)) = session.take(slot)? {
                answers.push(Answer { tag, data, failure });
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Receives what there is, within the turn's bound.
    fn receive(&mut self, now: Time) -> Result<bool, SessionEnd> {
        for _ in 0..RECEIVES_PER_TURN {
            let Link::Open(stream) = &mut self.link else { return Ok(true) };
            let inbox = &mut self.inbox;
            let room = inbox.bytes.len() - inbox.filled;
            let received = match stream.try_recv(&mut [IoSliceMut::new(&mut inbox.bytes[inbox.filled..])]) {
                Ok(0) => return Err(SessionEnd::PeerClosed),
                Ok(received) => received,
                Err(StreamError::WouldBlock) => return Ok(true),
                Err(StreamError::Broken(errno)) => return Err(SessionEnd::Network(errno)),
            };
            inbox.filled += received;
            self.heard_at = now;
            self.handle()?;
            if received < room {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands on every PDU that is whole.
    fn handle(&mut self) -> Result<(), SessionEnd> {
        let inbox = &mut self.inbox;
        let mut taken = 0;
        while let Some(bytes) = inbox.bytes[taken..inbox.filled].first_chunk::<HEADER_BYTES>() {
            let header = Header(*bytes);
            let (before, data) = (header.header_bytes(), header.data_bytes());
            let total = before + data.next_multiple_of(4);
            if data > SEGMENT_BYTES_MAX as usize {
                return Err(SessionEnd::Violation(header.opcode()));
            }
            if inbox.filled - taken < total {
                break;
            }
            self.session.handle(&header, &inbox.bytes[taken + before..taken + before + data])?;
            taken += total;
        }
        inbox.bytes.copy_within(taken..inbox.filled, 0);
        inbox.filled -= taken;
        Ok(())
    }

    /// Sends as much as the stream takes now, less what should wait for the next turn.
    fn send(&mut self) -> Result<(), SessionEnd> {
        let Link::Open(stream) = &mut self.link else { return Ok(()) };
        let session = &mut self.session;
        let mut gather = Gather::new(&**stream);
        while !session.outbox.is_empty() && !self.send_blocked {
            let mut vectors = [IoSlice::new(&[]); VECTORS];
            let data = |slot: u32| &session.slots[slot as usize].data[..];
            let count = session.outbox.chunks(data, &session.keys, &mut vectors);
            match gather.send(&mut **stream, &vectors, count, Behind::Nothing) {
                Ok(0) => break,
                Ok(sent) => session.advance(sent),
                Err(StreamError::WouldBlock) => self.send_blocked = true,
                Err(StreamError::Broken(errno)) => return Err(SessionEnd::Network(errno)),
            }
        }
        Ok(())
    }
}

impl Driver for IscsiDriver {
    type Data = Vec<u8>;

    fn poll(&mut self, now: Time, answers: &mut Vec<Answer<Vec<u8>>>) {
        if let Some((index, cause)) = self.broken.take() {
            self.drop_connection(index, cause, answers);
        }
        self.poll_connects(answers);
        let mut ready = std::mem::take(&mut self.ready);
        self.group.take_ready(&mut ready, usize::from(QUEUES_MAX) * 2);
        for ready in ready.drain(..) {
            let index = ready.token as usize;
            let connection = &mut self.connections[index];
            if ready.send {
                connection.send_blocked = false;
                continue;
            }
            match connection.receive(now) {
                Ok(drained) => {
                    if matches!(connection.link, Link::Open(_)) {
                        self.group.note_drained(ready.token, drained);
                    }
                }
                Err(cause) => self.drop_connection(index, cause, answers),
            }
        }
        for index in 0..self.connections.len() {
            let taken = self.take_over(index, answers);
            let silent = self.has_waited(index, now).then_some(SessionEnd::Timeout);
            if let Some(cause) = taken.err().or(silent) {
                self.drop_connection(index, cause, answers);
            }
        }
        self.ready = ready;
    }

    fn geometry(&self) -> Option<Geometry> {
        let mut all = self.connections.iter().map(|connection| connection.session.geometry);
        let first = all.next()??;
        all.all(|geometry| geometry.is_some()).then_some(first)
    }

    fn buffer(&mut self, length_bytes: usize) -> Option<Vec<u8>> {
        Some(vec![0; length_bytes])
    }

    fn take_end(&mut self) -> Option<BenchError> {
        self.end.take()
    }

    fn submit(&mut self, now: Time, request: Request, data: Vec<u8>) -> Result<(), Vec<u8>> {
        let count = self.connections.len() as u32;
        let connection = &mut self.connections[(request.tag % count) as usize];
        if connection.session.standing != Standing::Live || !connection.session.may_submit() {
            return Err(data);
        }
        if connection.session.in_flight == 0 {
            connection.heard_at = now;
        }
        connection.session.submit(request.tag / count, request, data);
        Ok(())
    }

    fn flush(&mut self, _now: Time) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let was_blocked = connection.send_blocked;
            let sent = connection.send();
            if connection.send_blocked && !was_blocked {
                self.group.want_send(index as u32);
            }
            if let Err(cause) = sent {
                // What it had in flight is answered in the next turn.
                self.broken = Some((index, cause));
            }
        }
    }

    fn close(&mut self, _now: Time) {
        self.closing = true;
        for connection in &mut self.connections {
            connection.session.log_out();
        }
    }

    fn is_closed(&self) -> bool {
        self.connections.iter().all(|connection| connection.session.standing == Standing::Out)
    }
}

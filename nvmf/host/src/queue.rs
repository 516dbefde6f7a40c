//! A queue pair: one stream, from the first packet to the last completion.
//!
//! ```text
//!  open ─▶ Connecting ─▶ Initializing ─▶ Associating ─▶ Live
//!            (stream)     (ICReq/ICResp)   (Connect)      │
//!               └──────────────┴───────────────┴──────────┴─▶ Ended(cause)
//! ```
//!
//! A load generator uses it directly: submit many commands, send once per turn, take completions. Nothing is allocated per
//! command. The owner polls; the queue pair itself never waits.

mod connect;
mod stream;

use nvme_spec::{Cqe, Sqe};
use nvmf_proto::host::Unfinished;
use nvmf_proto::{Completion, HostConfig, HostData, HostEvent, HostQueue};
use reactor::net::{Connector, Stream};
use reactor::time::Time;

pub use connect::ConnectRequest;

use crate::config::Digest;
use crate::data::Data;
use crate::error::EndCause;
use crate::turn::Turn;

enum Link {
    Connecting(Box<dyn Connector>),
    Open(Box<dyn Stream>),
    Closed,
}

/// How far a queue pair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Connecting,
    Initializing,
    Associating { cid: u16 },
    Live,
    Ended(EndCause),
}

/// A queue pair of a controller. See the module's documentation.
pub struct QueuePair {
    queue: HostQueue<Data>,
    link: Link,
    standing: Standing,
    request: ConnectRequest,
    token: u32,
    /// When each command in flight was submitted, by the slot of its CID; [`Time::NEVER`] in a free slot.
    submitted_at: Vec<Time>,
    connect_deadline: Time,
    send_blocked: bool,
    /// CNTLID that Connect gave.
    cntlid: u16,
    /// Bytes came from the controller since somebody asked.
    heard: bool,
}

impl QueuePair {
    /// Begins to connect. From now on `token` belongs to this queue pair until it has ended.
    pub fn open(request: ConnectRequest, token: u32, turn: &mut Turn<'_>) -> Self {
        let config = HostConfig {
            header_digest: request.header_digest == Digest::Required,
            data_digest: request.data_digest == Digest::Required,
            commands_max: request.entries - 1,
            ..HostConfig::default()
        };
        let (link, standing) = match turn.network.connect(request.address) {
            Ok(connector) => (Link::Connecting(connector), Standing::Connecting),
            Err(error) => {
                let cause = EndCause::Network(error.raw_os_error().unwrap_or(0));
                (Link::Closed, Standing::Ended(cause))
            }
        };
        Self {
            queue: HostQueue::new(config),
            link,
            standing,
            submitted_at: vec![Time::NEVER; usize::from(request.entries)],
            connect_deadline: turn.now.after(request.timeout),
            request,
            token,
            send_blocked: false,
            cntlid: 0,
            heard: false,
        }
    }

    /// Commands are taken.
    pub fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }

    /// Why it ended, once it has.
    pub fn ended(&self) -> Option<EndCause> {
        match self.standing {
            Standing::Ended(cause) => Some(cause),
            _ => None,
        }
    }

    /// The Controller Identifier that Connect gave; meaningful once live.
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The token that names its stream.
    pub fn token(&self) -> u32 {
        self.token
    }

    /// True when a command would be taken now.
    #[inline]
    pub fn can_submit(&self) -> bool {
        self.room() > 0
    }

    /// Commands that would be taken now, one after the other.
    #[inline]
    pub fn room(&self) -> usize {
        if self.standing == Standing::Live { self.queue.room() } else { 0 }
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// Write data up to this many bytes goes in the capsule from now on (IOCCSZ).
    pub fn set_in_capsule_bytes(&mut self, length_bytes: u32) {
        self.queue.set_in_capsule_bytes(length_bytes);
    }

    /// Takes a command; it is sent by the next [`QueuePair::send`]. Its CID, or the data back when none is taken now.
    #[inline]
    pub fn submit(&mut self, now: Time, sqe: Sqe, data: HostData<Data>) -> Result<u16, HostData<Data>> {
        if self.standing != Standing::Live {
            return Err(data);
        }
        let cid = self.queue.submit(sqe, data)?;
        self.submitted_at[HostQueue::<Data>::slot_of(cid)] = now;
        Ok(cid)
    }

    /// The slot of a CID: below the queue's entries and unique among the commands in flight.
    #[inline]
    pub fn slot_of(cid: u16) -> usize {
        HostQueue::<Data>::slot_of(cid)
    }

    /// The next completion, until there is none. Completions that came before the end are given after it, too.
    #[inline]
    pub fn next_completion(&mut self, turn: &mut Turn<'_>) -> Option<Completion<Data>> {
        loop {
            match self.queue.next_event()? {
                HostEvent::Completed(completion) => {
                    self.submitted_at[HostQueue::<Data>::slot_of(completion.cid)] = Time::NEVER;
                    match self.standing {
                        Standing::Associating { cid } if cid == completion.cid => {
                            self.on_connected(&completion.cqe, turn);
                        }
                        _ => return Some(completion),
                    }
                }
                HostEvent::Initialized(negotiated) => self.on_initialized(&negotiated, turn),
                HostEvent::Close(cause) => self.end(stream::end_cause(cause), turn),
            }
        }
    }

    /// After the end: a command that got no completion, with its data, until there is none. What the controller did with it is
    /// unknown unless [`Unfinished::sent`] is false.
    pub fn take_unfinished(&mut self) -> Option<Unfinished<Data>> {
        self.ended()?;
        let unfinished = self.queue.take_unfinished()?;
        self.submitted_at[HostQueue::<Data>::slot_of(unfinished.cid)] = Time::NEVER;
        Some(unfinished)
    }

    /// True when a command in flight was submitted at or before `before`.
    pub fn has_older_than(&self, before: Time) -> bool {
        self.submitted_at.iter().any(|at| *at <= before)
    }

    /// Bytes came from the controller since the last call.
    pub fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// True when bytes wait that the stream may take.
    #[inline]
    pub fn wants_send(&self) -> bool {
        !self.send_blocked && matches!(self.link, Link::Open(_)) && self.queue.tx_queued_bytes() > 0
    }

    /// The stream has room again.
    pub fn on_send_ready(&mut self) {
        self.send_blocked = false;
    }

    /// Drives the stream and Connect: a call in every turn until it is live or has ended.
    pub fn poll_connect(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.standing, Standing::Live | Standing::Ended(_)) {
            return;
        }
        self.poll_stream(turn);
        if !matches!(self.standing, Standing::Live | Standing::Ended(_)) && turn.now >= self.connect_deadline
        {
            self.end(EndCause::ConnectTimeout, turn);
        }
    }

    /// When [`QueuePair::poll_connect`] must be called although nothing arrives.
    pub fn deadline(&self) -> Time {
        match self.standing {
            Standing::Live | Standing::Ended(_) => Time::NEVER,
            _ => self.connect_deadline,
        }
    }

    /// Ends it: the stream is closed at once and the token is free.
    pub fn end(&mut self, cause: EndCause, turn: &mut Turn<'_>) {
        if self.ended().is_some() {
            return;
        }
        if let Link::Open(_) = self.link {
            turn.group.remove(self.token);
        }
        self.link = Link::Closed;
        self.queue.disconnected();
        self.standing = Standing::Ended(cause);
    }

    fn on_connected(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        match self.request.accept(cqe) {
            Ok(cntlid) => {
                self.cntlid = cntlid;
                self.standing = Standing::Live;
            }
            Err(cause) => self.end(cause, turn),
        }
    }
}

//! The host's end of a queue pair.
//!
//! A [`HostQueue`] takes commands with their buffers, gives each a CID, sends it, moves its data, and gives the completion out with
//! the buffer. It believes nothing that the controller says: an unknown CID, data outside of what was asked for, out of order,
//! or missing, an R2T too many or beyond the data: each is a [`Violation`], which is reported with H2CTermReq and ends the queue.
//!
//! The host speaks first: ICReq waits to be sent from the start, and commands are taken after [`HostEvent::Initialized`].

mod command;
mod event;
mod receive;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;

pub use event::{Completion, HostCounters, HostData, HostEvent, Unfinished};

use crate::connection::{self, HostConfig, Negotiated};
use crate::error::{CloseCause, Violation};
use crate::payload::Payload;
use crate::receive::{Phase, Receive, Rules};
use crate::transmit::Transmit;
use command::CommandTable;
use zerocopy::IntoBytes;

/// How far a queue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Waits for ICResp.
    Initializing,
    Open,
    /// Takes no input; ends when what is queued was sent.
    Closing(CloseCause),
    /// The end was reported.
    Closed,
}

/// The host's end of one queue pair. See the module's documentation.
#[derive(Debug)]
pub struct HostQueue<P: Payload> {
    config: HostConfig,
    standing: Standing,
    negotiated: Option<Negotiated>,
    rx: Receive,
    /// Slot of the command whose C2HData is in progress.
    data_slot: u16,
    tx: Transmit,
    commands: CommandTable<P>,
    /// Slots of commands to give out.
    ready: VecDeque<u16>,
    announce_initialized: bool,
    counters: HostCounters,
}

impl<P: Payload> HostQueue<P> {
    /// A queue that waits to send its ICReq.
    ///
    /// # Panics
    /// When the configuration is out of its documented bounds.
    pub fn new(config: HostConfig) -> Self {
        config.check();
        let mut tx = Transmit::new();
        tx.push_bytes(connection::request(&config).as_bytes());
        Self {
            config,
            standing: Standing::Initializing,
            negotiated: None,
            rx: Receive::new(Rules::before_initialization(false)),
            data_slot: 0,
            tx,
            commands: CommandTable::new(usize::from(config.commands_max)),
            ready: VecDeque::with_capacity(usize::from(config.commands_max)),
            announce_initialized: false,
            counters: HostCounters::default(),
        }
    }

    /// What was agreed on, once ICResp came.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// From now on, write data up to this many bytes is sent in the capsule: IOCCSZ * 16 - 64 of an I/O queue's controller.
    pub fn set_in_capsule_bytes(&mut self, length_bytes: u32) {
        self.config.in_capsule_bytes = length_bytes;
    }

    /// Slot of a CID that [`HostQueue::submit`] gave: unique among the commands in flight and below
    /// [`HostConfig::commands_max`], an index for tables beside the queue.
    pub const fn slot_of(cid: u16) -> usize {
        command::slot_of(cid) as usize
    }

    /// Where the next bytes of the stream belong, when that is the buffer of a read. They may be received there, in
    /// front of the scratch buffer; then say so with [`HostQueue::received`].
    pub fn wanted(&mut self) -> Option<&mut [u8]> {
        if self.standing != Standing::Open || self.rx.phase != Phase::Data {
            return None;
        }
        self.rx.wanted(self.commands.get_mut(self.data_slot).payload.as_mut()?)
    }

    /// The first `length_bytes` of [`HostQueue::wanted`] were received. Then go on with [`HostQueue::handle_bytes`] (an empty slice will
    /// do).
    ///
    /// # Panics
    /// When anything else than `wanted` happened in between and it was shorter.
    pub fn received(&mut self, length_bytes: usize) {
        let payload = self.commands.get_mut(self.data_slot).payload.as_ref().expect("wanted() showed it");
        self.rx.received_in_place(payload, length_bytes);
    }

    /// Takes received bytes, all of them. After an error the queue takes nothing more: send what is left until
    /// [`HostEvent::Close`] comes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut input = bytes;
        self.take_input(&mut input).inspect_err(|violation| self.fail(*violation))
    }

    fn take_input(&mut self, input: &mut &[u8]) -> Result<(), Violation> {
        loop {
            if !matches!(self.standing, Standing::Initializing | Standing::Open) {
                return Ok(());
            }
            let goes_on = match self.rx.phase {
                Phase::Header => {
                    let complete = self.rx.collect_header(input)?;
                    if complete {
                        self.begin_pdu()?;
                    }
                    complete
                }
                Phase::Parked => unreachable!("a host has its buffers before its data comes"),
                Phase::Padding => self.rx.skip_padding(input),
                Phase::Data => {
                    let payload = self.commands.get_mut(self.data_slot).payload.as_mut();
                    self.rx.take_data(input, payload)
                }
                Phase::Digest => self.rx.collect_digest(input),
                Phase::Done => {
                    self.finish_pdu()?;
                    self.rx.phase = Phase::Header;
                    true
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The next event, until there is none. Drain it after every call that changes the queue.
    pub fn next_event(&mut self) -> Option<HostEvent<P>> {
        if std::mem::take(&mut self.announce_initialized) {
            return self.negotiated.map(HostEvent::Initialized);
        }
        if let Some(slot) = self.ready.pop_front() {
            return Some(HostEvent::Completed(self.commands.complete(slot)));
        }
        match self.standing {
            Standing::Closing(cause) if self.tx.queued_bytes() == 0 => {
                self.standing = Standing::Closed;
                Some(HostEvent::Close(cause))
            }
            _ => None,
        }
    }

    /// Fills `out` from the start with what to send next; how many were filled. [`crate::limits::TX_CHUNKS_MAX`] are plenty for a call.
    pub fn tx_chunks<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.tx.chunks(|slot| self.commands.payload(slot), out)
    }

    /// The stream took the first `length_bytes` of what [`HostQueue::tx_chunks`] showed.
    ///
    /// # Panics
    /// When more was taken than shown.
    pub fn tx_advance(&mut self, length_bytes: usize) {
        let (commands, ready) = (&mut self.commands, &mut self.ready);
        self.tx.advance(length_bytes, |slot, ends_transfer| {
            if commands.sent(slot, ends_transfer) {
                ready.push_back(slot);
            }
        });
    }

    /// Bytes that wait to be sent.
    pub fn tx_queued_bytes(&self) -> usize {
        self.tx.queued_bytes()
    }

    /// Ends the queue from our side: no more input; [`HostEvent::Close`] comes once what is queued was sent.
    pub fn close(&mut self) {
        self.begin_close(CloseCause::Requested);
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.commands.in_use()
    }

    /// True when a command would be taken now.
    pub fn can_submit(&self) -> bool {
        self.room() > 0
    }

    /// Commands that would be taken now, one after the other.
    pub fn room(&self) -> usize {
        if self.standing == Standing::Open { self.commands.room() } else { 0 }
    }

    /// After the end: takes back one command that got no completion, with its buffer, until there is none. What the controller did
    /// with it is unknown.
    pub fn take_unfinished(&mut self) -> Option<Unfinished<P>> {
        match self.standing {
            Standing::Closed => self.commands.take_unfinished(self.tx.taken_position()),
            _ => None,
        }
    }

    /// The stream is gone: nothing more can be sent or received. [`HostQueue::take_unfinished`] works from now on.
    pub fn disconnected(&mut self) {
        self.standing = Standing::Closed;
        self.clear_transmit();
    }

    /// Counters since the queue began.
    pub fn counters(&self) -> HostCounters {
        self.counters
    }
}

//! The controller's end of a queue pair.
//!
//! A [`TargetQueue`] takes received bytes, collects the data that commands bring, gives commands out as [`Event`]s, takes
//! completions, and shows what to send. Each command that came is given out exactly once and completed exactly once.
//!
//! **Order.** Commands are given out when their data is complete, which may be another order than that of the submission queue;
//! [`Command::sequence`] tells the latter (fused commands need it).
//!
//! **Memory.** A command's buffer is taken when its first byte needs it, and before an R2T is sent. Without one, a command whose data
//! is still at the host waits aside and holds nobody up; a command whose data sits in its capsule stops the stream
//! ([`Blocked::Memory`]). [`TargetQueue::retry`] tries again. How a pool that is too small slows hosts down and never
//! locks them up is said at [`Admission::alloc`].
//!
//! **Faults.** What is wrong with a single command (its SGL, the digest of its data) is [`Command::fault`]: the layer above completes
//! it with that status. What is wrong with the stream is a [`Violation`] and ends the queue.

mod capsule;
mod command;
mod data;
mod event;
mod respond;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;

pub use crate::error::CloseCause;
pub use event::{
    Aborted, Admission, Blocked, Command, CommandId, Event, Purpose, QueueParams, TargetCounters,
};

use crate::connection::{Negotiated, TargetConfig};
use crate::error::Violation;
use crate::limits::{COMMANDS_BEFORE_CONNECT, COMMANDS_MAX, IN_CAPSULE_BYTES_MAX};
use crate::payload::Payload;
use crate::receive::{Phase, Receive, Rules};
use crate::transmit::Transmit;
use command::CommandTable;
use nvme_spec::tcp::ADMIN_IN_CAPSULE_BYTES;

/// How far a queue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Waits for ICReq.
    Initializing,
    Open,
    /// Takes no input; ends when what is queued was sent.
    Closing(CloseCause),
    /// The end was reported.
    Closed,
}

/// What the PDU in progress is, decided at its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A command capsule; its data goes to the command in this slot.
    Capsule(u16),
    /// H2CData for an R2T.
    H2cData { slot: u16, r2t: u8 },
}

/// The controller's end of one queue pair. See the module's documentation.
#[derive(Debug)]
pub struct TargetQueue<P: Payload> {
    config: TargetConfig,
    standing: Standing,
    negotiated: Option<Negotiated>,
    rx: Receive,
    action: Action,
    tx: Transmit,
    commands: CommandTable<P>,
    /// Slots of commands to give out.
    ready: VecDeque<u16>,
    /// Slots of commands that wait for memory, their data being at the host.
    waiters: VecDeque<u16>,
    announce_initialized: bool,
    in_capsule_bytes_max: u32,
    /// Entries of the submission queue, for SQHD; 0 before Connect.
    entries: u32,
    sq_flow_control: bool,
    /// Commands taken since the connection began.
    sequence: u32,
    counters: TargetCounters,
}

impl<P: Payload> TargetQueue<P> {
    /// A queue whose first PDU will be an ICReq.
    ///
    /// # Panics
    /// When the configuration is out of its documented bounds.
    pub fn new(config: TargetConfig) -> Self {
        config.check();
        Self {
            config,
            standing: Standing::Initializing,
            negotiated: None,
            rx: Receive::new(Rules::before_initialization(true)),
            action: Action::Capsule(0),
            tx: Transmit::new(),
            commands: CommandTable::new(COMMANDS_BEFORE_CONNECT),
            ready: VecDeque::with_capacity(COMMANDS_BEFORE_CONNECT),
            waiters: VecDeque::with_capacity(COMMANDS_BEFORE_CONNECT),
            announce_initialized: false,
            in_capsule_bytes_max: ADMIN_IN_CAPSULE_BYTES,
            entries: 0,
            sq_flow_control: false,
            sequence: 0,
            counters: TargetCounters::default(),
        }
    }

    /// A queue on a connection that another queue (or core) has initialized: the first PDU is a capsule.
    pub fn resume(config: TargetConfig, negotiated: Negotiated) -> Self {
        let mut queue = Self::new(config);
        queue.open(negotiated);
        queue
    }

    fn open(&mut self, negotiated: Negotiated) {
        self.standing = Standing::Open;
        self.negotiated = Some(negotiated);
        self.rx.set_rules(Rules::of(&negotiated, true));
        self.tx.set_rules(&negotiated);
    }

    /// What was agreed on, once ICReq was answered.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Connect was accepted: sizes the queue. To be called before Connect is completed, at most once.
    ///
    /// # Panics
    /// When the parameters are out of their documented bounds.
    pub fn connected(&mut self, params: QueueParams) {
        assert!((2..=COMMANDS_MAX as u32).contains(&params.entries), "Connect was checked");
        assert!(params.in_capsule_bytes <= IN_CAPSULE_BYTES_MAX && self.entries == 0);
        self.entries = params.entries;
        self.sq_flow_control = params.sq_flow_control;
        self.in_capsule_bytes_max = params.in_capsule_bytes.max(ADMIN_IN_CAPSULE_BYTES);
        self.commands.grow(params.entries as usize);
        self.ready.reserve(params.entries as usize);
        self.waiters.reserve(params.entries as usize);
    }

    /// Where the next bytes of the stream belong, when that is the buffer of a command. They may be received there, in
    /// front of the scratch buffer; then say so with [`TargetQueue::received`].
    pub fn wanted(&mut self) -> Option<&mut [u8]> {
        if self.standing != Standing::Open || self.rx.phase != Phase::Data {
            return None;
        }
        let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
        self.rx.wanted(self.commands.get_mut(slot).payload.as_mut()?)
    }

    /// The first `length_bytes` of [`TargetQueue::wanted`] were received. Then go on with [`TargetQueue::handle_bytes`] (an empty slice
    /// will do) so that a PDU that is complete now is acted on.
    ///
    /// # Panics
    /// When anything else than `wanted` happened in between and it was shorter.
    pub fn received(&mut self, length_bytes: usize) {
        let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
        let payload = self.commands.get_mut(slot).payload.as_ref().expect("wanted() showed it");
        self.rx.received_in_place(payload, length_bytes);
    }

    /// Takes received bytes. Returns how many were consumed: fewer than given only while [`TargetQueue::blocked`] says why (give
    /// the rest again later, first). After an error the queue takes nothing more: send what is left until [`Event::Close`]
    /// comes.
    pub fn handle_bytes<A: Admission<Payload = P>>(
        &mut self,
        bytes: &[u8],
        admission: &mut A,
    ) -> Result<usize, Violation> {
        let mut input = bytes;
        match self.take_input(&mut input, admission) {
            Ok(()) => Ok(bytes.len() - input.len()),
            Err(violation) => {
                self.counters.header_digest_errors +=
                    u64::from(matches!(violation, Violation::HeaderDigest(_)));
                self.fail(violation);
                Err(violation)
            }
        }
    }

    fn take_input<A: Admission<Payload = P>>(
        &mut self,
        input: &mut &[u8],
        admission: &mut A,
    ) -> Result<(), Violation> {
        loop {
            if !matches!(self.standing, Standing::Initializing | Standing::Open) {
                *input = &[];
                return Ok(());
            }
            match self.rx.phase {
                Phase::Header => {
                    if self.is_backlogged() || !self.rx.collect_header(input)? {
                        return Ok(());
                    }
                    self.begin_pdu(admission)?;
                }
                Phase::Parked => return Ok(()),
                Phase::Padding => {
                    if !self.rx.skip_padding(input) {
                        return Ok(());
                    }
                }
                Phase::Data => {
                    let (Action::Capsule(slot) | Action::H2cData { slot, .. }) = self.action;
                    if !self.rx.take_data(input, self.commands.get_mut(slot).payload.as_mut()) {
                        return Ok(());
                    }
                }
                Phase::Digest => {
                    if !self.rx.collect_digest(input) {
                        return Ok(());
                    }
                }
                Phase::Done => {
                    self.finish_pdu();
                    self.rx.phase = Phase::Header;
                }
            }
        }
    }

    fn is_backlogged(&self) -> bool {
        self.rx.phase == Phase::Header && self.tx.queued_bytes() > self.config.tx_backlog_bytes
    }

    /// Why the queue takes no input now.
    pub fn blocked(&self) -> Option<Blocked> {
        match self.standing {
            Standing::Closing(_) | Standing::Closed => Some(Blocked::Closing),
            _ if self.rx.phase == Phase::Parked => Some(Blocked::Memory),
            _ if self.is_backlogged() => Some(Blocked::Backlog),
            _ => None,
        }
    }

    /// The next event, until there is none. Drain it after every call that changes the queue.
    pub fn next_event(&mut self) -> Option<Event<P>> {
        if std::mem::take(&mut self.announce_initialized) {
            return self.negotiated.map(Event::Initialized);
        }
        if let Some(slot) = self.ready.pop_front() {
            return Some(Event::Command(self.give_out(slot)));
        }
        match self.standing {
            Standing::Closing(cause) if self.tx.queued_bytes() == 0 => {
                self.standing = Standing::Closed;
                Some(Event::Close(cause))
            }
            _ => None,
        }
    }

    /// Fills `out` from the start with what to send next; how many were filled. [`crate::limits::TX_CHUNKS_MAX`] are plenty for a call.
    pub fn tx_chunks<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.tx.chunks(|slot| self.commands.payload(slot), out)
    }

    /// The stream took the first `length_bytes` of what [`TargetQueue::tx_chunks`] showed.
    ///
    /// # Panics
    /// When more was taken than shown.
    pub fn tx_advance(&mut self, length_bytes: usize) {
        let commands = &mut self.commands;
        self.tx.advance(length_bytes, |slot, last| {
            if last {
                commands.release(slot);
            }
        });
    }

    /// True when the data of its PDUs carries digests.
    pub fn has_data_digest(&self) -> bool {
        self.tx.has_data_digest()
    }

    /// Bytes that wait to be sent.
    pub fn tx_queued_bytes(&self) -> usize {
        self.tx.queued_bytes()
    }

    /// Ends the queue from our side: no more input; [`Event::Close`] comes once what is queued was sent. Commands that were not
    /// given out are forgotten; completions of those that were are ignored from now on.
    pub fn close(&mut self) {
        self.begin_close(CloseCause::Requested);
    }

    /// Commands in progress: waiting, collecting data, executing, or sending data.
    pub fn command_count(&self) -> usize {
        self.commands.in_use()
    }

    /// Commands that were given out and are not completed.
    pub fn executing(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.commands.executing()
    }

    /// Counters since the queue began.
    pub fn counters(&self) -> TargetCounters {
        self.counters
    }
}

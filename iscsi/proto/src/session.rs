//! The full-feature phase of one session (RFC 7143 section 11), target side, without a socket or a clock.
//!
//! A [`Session`] takes received bytes of up to eight connections, gives out [`Event`]s in the order of CmdSN, takes
//! completions, and shows what to send. It is error recovery level 0: a broken connection loses its tasks.
//! What it is not: it does no login (that is [`crate::login`]), understands no CDB beyond the question it
//! asks its [`Host`], and keeps no medium: it never touches data after the command was given out.
//!
//! ```text
//!  bytes ──> receive ──> command / data_out ──> window (CmdSN order) ──> flow (memory, R2T) ──> Event::Command
//!                └─────> request (NOP, text, logout, task management) ──┘                            │
//!  bytes <── transmit <── respond (Data-In, response, residuals) <───────────────────── complete() <─┘
//! ```
//!
//! **Order.** Commands enter the task set in CmdSN order over all connections; R2Ts go out at that moment, for many
//! commands at once. A command is given out when its data is complete and all before it were given out.
//! Commands for immediate delivery do not wait for others. Requests are acted on when their number comes up.
//!
//! **Memory.** A command's buffer is taken when its first byte needs it. When there is none, the command waits, but only
//! while no data that others need sits behind it in the stream; else it ends with TASK SET FULL. So a
//! pool that is too small slows initiators down and never locks them up.
//!
//! Reading order: [`event`], [`host`], [`limits`]; then `window`, `transfer`, `task`, `flow`; then the rest as needed.

pub mod event;
pub mod host;
pub mod limits;

mod command;
mod connection;
mod control;
mod data_out;
mod flow;
mod management;
mod receive;
mod request;
mod respond;
mod task;
mod text;
mod timer;
mod transfer;
mod transmit;
mod window;

#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;

pub use event::{
    Cdb, CloseCause, Command, Completion, ConnectionIndex, Event, Fatal, Logout, RequestId, SendTargets,
    TaskId, TaskManagement, TextQuery,
};
pub use host::{Host, Payload};

use crate::params::{Negotiated, SessionType};
use connection::{Connection, Standing};
use limits::{
    CONNECTIONS_MAX, DATA_OUT_TIMEOUT_NS_DEFAULT, IMMEDIATE_TASKS_MAX, OUTSTANDING_R2T_MAX,
    PING_INTERVAL_NS_DEFAULT, PING_TIMEOUT_NS_DEFAULT, TX_BACKLOG_BYTES_DEFAULT, WINDOW_COMMANDS_DEFAULT,
    WINDOW_COMMANDS_MAX,
};
use receive::{Action, Phase};
use request::RequestTable;
use task::{TaskState, TaskTable};
use window::CommandWindow;

/// What the target decides about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Command window: commands in progress at once, 1..=1024.
    pub window_commands: u32,
    /// A connection that was silent for so long is pinged.
    pub ping_interval_ns: u64,
    /// A connection that answers no ping, or takes no byte, for so long is closed.
    pub ping_timeout_ns: u64,
    /// A connection is closed when the data of one of its commands does not get on for so long. This is looked at
    /// when pings are, so it may take their interval longer.
    pub data_out_timeout_ns: u64,
    /// A connection with more bytes than this to send takes no input.
    pub tx_backlog_bytes: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            window_commands: WINDOW_COMMANDS_DEFAULT,
            ping_interval_ns: PING_INTERVAL_NS_DEFAULT,
            ping_timeout_ns: PING_TIMEOUT_NS_DEFAULT,
            data_out_timeout_ns: DATA_OUT_TIMEOUT_NS_DEFAULT,
            tx_backlog_bytes: TX_BACKLOG_BYTES_DEFAULT,
        }
    }
}

/// What a connection brings from its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionParams {
    /// The initiator's connection id.
    pub cid: u16,
    /// StatSN of the next PDU that carries a status.
    pub stat_sn: u32,
    /// What was negotiated (digests and segment lengths are taken from here).
    pub negotiated: Negotiated,
}

/// How often something worth counting happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Reject PDUs sent.
    pub rejects: u64,
    /// Header or data digests that were wrong.
    pub digest_errors: u64,
    /// Commands outside of the window or twice: ignored.
    pub commands_ignored: u64,
    /// Data-Out PDUs of tasks that are gone: dropped.
    pub data_out_discarded: u64,
    /// Commands refused with TASK SET FULL for want of memory.
    pub task_set_full: u64,
}

/// Why a connection takes no input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A command's data finds no memory: call [`Session::retry_blocked`] when some came back.
    Memory,
    /// Too much waits to be sent.
    Backlog,
    /// It is being closed or logged out: what comes is dropped.
    Closing,
}

/// An event about the initiator's session (section 11.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncNotice<'a> {
    /// A unit attention or other asynchronous SCSI event, as sense data.
    Scsi {
        /// LUN field as a big-endian number.
        lun: u64,
        /// Sense data without the length prefix.
        sense: &'a [u8],
    },
    /// Please log out within that many seconds.
    LogoutRequest {
        /// Seconds.
        within_s: u16,
    },
    /// The target is about to drop this connection.
    DropConnection,
    /// The target is about to drop all connections of the session.
    DropSession,
}

/// What waits to be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    Command(TaskId),
    Aborted(TaskId),
    /// Task management, text or logout, by what the request is.
    Request(RequestId),
    Close(u8, CloseCause),
}

/// Session-wide values of the leading login.
#[derive(Clone, Copy, Debug)]
struct Rules {
    discovery: bool,
    initial_r2t: bool,
    immediate_data: bool,
    first_burst_bytes: u32,
    max_burst_bytes: u32,
    outstanding_r2t_max: u16,
}

/// One session in full-feature phase. See the module's documentation.
#[derive(Debug)]
pub struct Session<P: Payload> {
    config: SessionConfig,
    rules: Rules,
    connections_max: usize,
    window: CommandWindow<flow::InWindow>,
    tasks: TaskTable<P>,
    requests: RequestTable,
    connections: [Option<Connection<P>>; CONNECTIONS_MAX],
    /// Tasks in CmdSN order that entered the task set and were not given out.
    order: VecDeque<TaskId>,
    /// Tasks in order that wait for memory.
    waiters: VecDeque<TaskId>,
    /// Task management requests that wait for commands before them.
    barriers: Vec<RequestId>,
    events: VecDeque<Queued>,
    immediate_tasks: usize,
    /// Source of target transfer tags.
    next_tag: u32,
    counters: SessionCounters,
}

impl<P: Payload> Session<P> {
    /// A session with the values of the leading login. `cmd_sn` is the CmdSN of that login: the first command's.
    pub fn new(
        config: SessionConfig,
        session_type: SessionType,
        negotiated: &Negotiated,
        cmd_sn: u32,
    ) -> Self {
        assert!((1..=WINDOW_COMMANDS_MAX).contains(&config.window_commands), "the configuration was checked");
        let tasks_max = config.window_commands as usize + IMMEDIATE_TASKS_MAX;
        Self {
            rules: Rules {
                discovery: session_type == SessionType::Discovery,
                initial_r2t: negotiated.initial_r2t,
                immediate_data: negotiated.immediate_data,
                first_burst_bytes: negotiated.first_burst_length,
                max_burst_bytes: negotiated.max_burst_length,
                outstanding_r2t_max: negotiated.max_outstanding_r2t.clamp(1, OUTSTANDING_R2T_MAX),
            },
            connections_max: usize::from(negotiated.max_connections).clamp(1, CONNECTIONS_MAX),
            window: CommandWindow::new(cmd_sn, config.window_commands),
            tasks: TaskTable::new(tasks_max),
            requests: RequestTable::default(),
            connections: std::array::from_fn(|_| None),
            order: VecDeque::new(),
            waiters: VecDeque::new(),
            barriers: Vec::new(),
            events: VecDeque::new(),
            immediate_tasks: 0,
            next_tag: 0,
            counters: SessionCounters::default(),
            config,
        }
    }

    /// Adds a connection that has logged in. `None` when there are as many as negotiated (at most eight), or the session
    /// [is ending](Session::is_ending).
    pub fn add_connection(&mut self, params: &ConnectionParams, now_ns: u64) -> Option<ConnectionIndex> {
        if self.is_ending() || self.connections().count() >= self.connections_max {
            return None;
        }
        let index = self.connections.iter().position(Option::is_none)?;
        self.connections[index] = Some(Connection::new(params, now_ns));
        Some(ConnectionIndex(index as u8))
    }

    /// The stream is gone (or about to be dropped): forgets the connection. Each executing task of it is reported with
    /// [`Event::TaskAborted`]. May be called twice.
    pub fn remove_connection(&mut self, connection: ConnectionIndex) {
        self.drop_connection(usize::from(connection.0));
    }

    /// True when every connection is on its way out: logged out, closed from our side, or broken off. Nothing may join any
    /// more: it would outlive the logout, and keep alive what the initiator was told is gone.
    pub fn is_ending(&self) -> bool {
        let mut connections = self.connections.iter().flatten().peekable();
        connections.peek().is_some() && connections.all(|connection| connection.standing != Standing::Open)
    }

    /// Ends a connection from our side: no more input; `CloseConnection` comes once what is queued was sent.
    pub fn close(&mut self, connection: ConnectionIndex) {
        self.begin_close(usize::from(connection.0), CloseCause::Requested);
    }

    /// Takes received bytes. Returns how many were consumed: fewer than given only while [`Session::blocked`] says why
    /// (give the rest again later). An error ends the connection: stop reading, send what is left until
    /// [`Event::CloseConnection`] comes.
    pub fn handle_bytes<H: Host<Payload = P>>(
        &mut self,
        connection: ConnectionIndex,
        now_ns: u64,
        bytes: &[u8],
        host: &mut H,
    ) -> Result<usize, Fatal> {
        let index = usize::from(connection.0);
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut)
            && !bytes.is_empty()
        {
            connection.received_ns = now_ns;
            connection.ping = None;
        }
        let mut input = bytes;
        match self.take_input(index, &mut input, host) {
            Ok(()) => Ok(bytes.len() - input.len()),
            Err(fatal) => {
                self.counters.digest_errors += u64::from(fatal == Fatal::HeaderDigest);
                self.begin_close(index, CloseCause::Fatal(fatal));
                Err(fatal)
            }
        }
    }

    fn take_input<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        input: &mut &[u8],
        host: &mut H,
    ) -> Result<(), Fatal> {
        loop {
            let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
                *input = &[];
                return Ok(());
            };
            if connection.standing != Standing::Open {
                *input = &[];
                return Ok(());
            }
            match connection.rx.phase {
                Phase::Header => {
                    let backlogged = connection.tx.queued_bytes() > self.config.tx_backlog_bytes;
                    if backlogged || !connection.rx.collect_header(input)? {
                        return Ok(());
                    }
                    self.begin_pdu(index, host)?;
                }
                Phase::Parked => return Ok(()),
                Phase::Data => {
                    self.store_data(index, input);
                    let rx = &mut self.open(index).rx;
                    if rx.data_left_bytes > 0 {
                        return Ok(());
                    }
                    rx.phase = Phase::Trailer;
                }
                Phase::Trailer => {
                    if !connection.rx.collect_trailer(input) {
                        return Ok(());
                    }
                    self.finish_pdu(index, host)?;
                }
            }
        }
    }

    /// A connection that is known to be there.
    #[inline]
    fn open(&mut self, index: usize) -> &mut Connection<P> {
        self.connections[index].as_mut().expect("the connection is in use")
    }

    /// Copies data of the segment in progress to where its header said.
    fn store_data(&mut self, index: usize, input: &mut &[u8]) {
        let rx = &mut self.connections[index].as_mut().expect("the connection is in use").rx;
        let payload = match rx.action {
            Action::Command(id) | Action::DataOut(id) => {
                self.tasks.get_mut(id).and_then(|task| task.payload.as_mut())
            }
            Action::Control | Action::Ignore => None,
        };
        let mut payload = payload;
        while rx.data_left_bytes > 0 && !input.is_empty() {
            let mut taken_bytes = input.len().min(rx.data_left_bytes);
            match &mut payload {
                Some(payload) if rx.offset_bytes < payload.len() => {
                    let chunk = payload.chunk_mut(rx.offset_bytes);
                    taken_bytes = taken_bytes.min(chunk.len());
                    chunk[..taken_bytes].copy_from_slice(&input[..taken_bytes]);
                }
                _ if rx.action == Action::Control => rx.scratch.extend_from_slice(&input[..taken_bytes]),
                // What a command does not want, or what belongs to a task that is gone.
                _ => {}
            }
            let (taken, rest) = input.split_at(taken_bytes);
            rx.took_data(taken);
            *input = rest;
        }
    }

    /// Where the next bytes of the stream may be received without a copy: the rest of a data segment within one chunk
    /// of a command's buffer. `None` when the next byte belongs to anything else.
    pub fn payload_destination(&mut self, connection: ConnectionIndex) -> Option<&mut [u8]> {
        let connection = self.connections.get_mut(usize::from(connection.0))?.as_mut()?;
        let rx = &connection.rx;
        let (Action::Command(id) | Action::DataOut(id)) = rx.action else { return None };
        if connection.standing != Standing::Open || rx.phase != Phase::Data || rx.data_left_bytes == 0 {
            return None;
        }
        let payload = self.tasks.get_mut(id)?.payload.as_mut()?;
        if rx.offset_bytes >= payload.len() {
            return None;
        }
        let chunk = payload.chunk_mut(rx.offset_bytes);
        let length_bytes = chunk.len().min(rx.data_left_bytes);
        Some(&mut chunk[..length_bytes])
    }

    /// The first `length_bytes` of [`Session::payload_destination`] were received. Then go on with `handle_bytes`
    /// (an empty slice will do) so that a PDU that is complete now is acted on.
    ///
    /// # Panics
    /// When nothing else than `payload_destination` happened in between and it was shorter.
    pub fn payload_received(&mut self, connection: ConnectionIndex, now_ns: u64, length_bytes: usize) {
        let index = usize::from(connection.0);
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        connection.received_ns = now_ns;
        connection.ping = None;
        let (Action::Command(id) | Action::DataOut(id)) = connection.rx.action else { return };
        let Some(payload) = self.tasks.get(id).and_then(|task| task.payload.as_ref()) else { return };
        let chunk = payload.chunk(connection.rx.offset_bytes);
        assert!(length_bytes <= chunk.len().min(connection.rx.data_left_bytes), "no more room was shown");
        connection.rx.took_data(&chunk[..length_bytes]);
    }

    /// Why a connection takes no input now.
    pub fn blocked(&self, connection: ConnectionIndex) -> Option<Blocked> {
        let connection = self.connections.get(usize::from(connection.0))?.as_ref()?;
        if connection.standing != Standing::Open {
            Some(Blocked::Closing)
        } else if connection.rx.phase == Phase::Parked {
            Some(Blocked::Memory)
        } else {
            let backlogged = connection.tx.queued_bytes() > self.config.tx_backlog_bytes;
            (backlogged && connection.rx.phase == Phase::Header).then_some(Blocked::Backlog)
        }
    }

    /// Memory may have come back: serves the commands that wait for it, on all connections, in order. Then give the
    /// rest of their bytes to the connections that are not [`Session::blocked`] any more. Does nothing when
    /// nobody waits, so it may be called at every turn. True when one of them got on.
    pub fn retry_blocked<H: Host<Payload = P>>(&mut self, host: &mut H) -> bool {
        self.serve_waiters(host)
    }

    /// ExpCmdSN and MaxCmdSN now, for the login of a connection that joins.
    pub fn command_window(&self) -> (u32, u32) {
        (self.window.exp_cmd_sn(), self.window.max_cmd_sn())
    }

    /// True when [`Session::retry_blocked`] has something to try.
    pub fn wants_memory(&self) -> bool {
        let parked = |connection: &Connection<P>| connection.rx.phase == Phase::Parked;
        !self.waiters.is_empty() || self.connections.iter().flatten().any(parked)
    }

    /// The next event, until there is none. Drain it after every call that changes the session.
    pub fn poll_event(&mut self) -> Option<Event<P>> {
        loop {
            match self.events.pop_front()? {
                Queued::Command(id) => {
                    if let Some(command) = self.give_out(id) {
                        return Some(Event::Command(command));
                    }
                }
                Queued::Aborted(task) => return Some(Event::TaskAborted { task }),
                Queued::Request(id) => {
                    if let Some(event) = self.request_event(id) {
                        return Some(event);
                    }
                }
                Queued::Close(connection, cause) => {
                    return Some(Event::CloseConnection { connection: ConnectionIndex(connection), cause });
                }
            }
        }
    }

    fn give_out(&mut self, id: TaskId) -> Option<Command<P>> {
        let task = self.tasks.get_mut(id)?;
        task.state = TaskState::Executing;
        Some(Command {
            task: id,
            connection: ConnectionIndex(task.connection),
            lun: task.lun,
            attribute: task.attribute,
            cdb: std::mem::take(&mut task.cdb),
            expected_data_transfer_length: task.expected_bytes,
            read: task.read,
            write: task.write,
            bidirectional_read_length: task.bidirectional_read_bytes,
            data_out: task.payload.take(),
            data_out_wanted: task.data_out_wanted,
            immediate: task.immediate,
        })
    }

    /// Forgets an executing task without a response (task management). False when the id is stale.
    pub fn abort_task(&mut self, task: TaskId) -> bool {
        let executing = self.tasks.get(task).is_some_and(|task| task.state == TaskState::Executing);
        if executing {
            self.drop_task(task);
        }
        executing
    }

    /// Aborts what this session has of a logical unit (`None`: of all), for a CLEAR TASK SET or reset that came through
    /// any session: tasks that still collect data vanish, executing ones are reported with [`Event::TaskAborted`].
    pub fn abort_logical_unit(&mut self, lun: Option<u64>) {
        let was_closed = self.window.open_for() == 0;
        self.abort_where(|task| lun.is_none_or(|lun| task.is_for(lun)), true);
        if was_closed {
            self.announce_window();
        }
    }

    /// The executing tasks (of a logical unit, or all).
    pub fn executing_tasks(&self, lun: Option<u64>) -> impl Iterator<Item = TaskId> + '_ {
        let wanted = move |task: &task::Task<P>| {
            task.state == TaskState::Executing && lun.is_none_or(|lun| task.is_for(lun))
        };
        self.tasks.iter().filter(move |(_, task)| wanted(task)).map(|(id, _)| id)
    }

    /// Fills `out` from the start with what to send next; how many were filled.
    pub fn tx_slices<'a>(&'a mut self, connection: ConnectionIndex, out: &mut [IoSlice<'a>]) -> usize {
        let index = usize::from(connection.0);
        self.build_ahead(index);
        match self.connections.get(index).and_then(Option::as_ref) {
            Some(connection) if connection.standing != Standing::Closed => connection.tx.slices(out),
            _ => 0,
        }
    }

    /// The stream took the first `length_bytes` of what `tx_slices` showed.
    pub fn tx_advance(&mut self, connection: ConnectionIndex, length_bytes: usize) {
        let index = usize::from(connection.0);
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            connection.tx.advance(length_bytes);
            self.close_if_sent(index);
        }
    }

    /// Bytes that wait to be sent (without the headers of Data-In that is not built yet).
    pub fn tx_queued_bytes(&self, connection: ConnectionIndex) -> usize {
        let connection = self.connections.get(usize::from(connection.0)).and_then(Option::as_ref);
        connection.map_or(0, |connection| connection.tx.queued_bytes())
    }

    /// The connections in use, each with the initiator's connection id.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionIndex, u16)> + '_ {
        let indexed = self.connections.iter().enumerate();
        indexed.filter_map(|(index, slot)| Some((ConnectionIndex(index as u8), slot.as_ref()?.cid)))
    }

    /// Tasks in progress: executing or collecting data.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks in progress on one connection.
    pub fn connection_task_count(&self, connection: ConnectionIndex) -> usize {
        let connection = self.connections.get(usize::from(connection.0)).and_then(Option::as_ref);
        connection.map_or(0, |connection| connection.tasks)
    }

    /// Statuses that were queued on a connection and not acknowledged by the initiator's ExpStatSN.
    pub fn unacknowledged_statuses(&self, connection: ConnectionIndex) -> u32 {
        let connection = self.connections.get(usize::from(connection.0)).and_then(Option::as_ref);
        connection.map_or(0, Connection::unacknowledged)
    }

    /// Counters since the session began.
    pub fn counters(&self) -> SessionCounters {
        self.counters
    }
}

//! The full-feature phase of one session, up to eight connections, without a socket or a clock.
pub mod event;
pub mod host;
pub mod limits;

use std::io::IoSlice;

pub use event::{
    Cdb, CloseCause, Command, Completion, ConnectionIndex, Event, Fatal, Logout, RequestId, SendTargets, TaskId,
    TaskManagement, TextQuery,
};
pub use host::{Host, Payload};

use crate::discovery::TargetRecords;
use crate::params::{Negotiated, SessionType};
use crate::pdu::TmfResponse;

/// What the target decides about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Command window: commands in progress at once, 1..=1024.
    pub window_commands: u32,
    /// A connection that was silent for so long is pinged.
    pub ping_interval_ns: u64,
    /// A connection that answers no ping, or takes no byte, for so long is closed.
    pub ping_timeout_ns: u64,
    /// A connection with more bytes than this to send takes no input.
    pub tx_backlog_bytes: usize,
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
    /// It is being closed: what comes is thrown away by the driver.
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

/// One session in full-feature phase. See the module's documentation.
#[derive(Debug)]
pub struct Session<P: Payload> {
    _p: std::marker::PhantomData<P>,
}

impl<P: Payload> Session<P> {
    /// A session with the values of the leading login. `cmd_sn` is the CmdSN of that login: the first command's.
    pub fn new(
        _config: SessionConfig,
        _session_type: SessionType,
        _negotiated: &Negotiated,
        _cmd_sn: u32,
    ) -> Self {
        unimplemented!()
    }

    /// Adds a connection that has logged in. `None` when there are as many as negotiated (or eight).
    pub fn add_connection(&mut self, _params: ConnectionParams, _now_ns: u64) -> Option<ConnectionIndex> {
        unimplemented!()
    }

    /// The stream is gone (or about to be dropped): forgets the connection. Each executing task of it is reported with
    /// [`Event::TaskAborted`]. May be called twice.
    pub fn remove_connection(&mut self, _connection: ConnectionIndex) {}

    /// Ends a connection from our side: no more input; `CloseConnection` comes once what is queued was sent.
    pub fn close(&mut self, _connection: ConnectionIndex) {}

    /// Takes received bytes. Returns how many were consumed: fewer than given only while [`Session::blocked`] says why
    /// (give the rest again later). An error ends the connection: stop reading, send what is left until
    /// [`Event::CloseConnection`] comes.
    pub fn handle_bytes<H: Host<Payload = P>>(
        &mut self,
        _connection: ConnectionIndex,
        _now_ns: u64,
        _bytes: &[u8],
        _host: &mut H,
    ) -> Result<usize, Fatal> {
        unimplemented!()
    }

    /// Where the next bytes of the stream may be received without a copy: the rest of a data segment within one chunk
    /// of a command's buffer. `None` when the next byte belongs to anything else.
    pub fn payload_destination(&mut self, _connection: ConnectionIndex) -> Option<&mut [u8]> {
        unimplemented!()
    }

    /// The first `length_bytes` of [`Session::payload_destination`] were received. Then go on with `handle_bytes`
    /// (an empty slice will do) so that a PDU that is complete now is acted on.
    pub fn payload_received(&mut self, _connection: ConnectionIndex, _now_ns: u64, _length_bytes: usize) {}

    /// Why a connection takes no input now.
    pub fn blocked(&self, _connection: ConnectionIndex) -> Option<Blocked> {
        None
    }

    /// Memory may have come back: serves the commands that wait for it, on all connections, in order. Then give the
    /// rest of their bytes to the connections that are not [`Session::blocked`] any more.
    pub fn retry_blocked<H: Host<Payload = P>>(&mut self, _host: &mut H) {}

    /// The next event, until there is none. Drain it after every call that changes the session.
    pub fn poll_event(&mut self) -> Option<Event<P>> {
        unimplemented!()
    }

    /// Ends a task: queues its Data-In and response. False when the id is stale (aborted): the data is dropped.
    pub fn complete(&mut self, _task: TaskId, _completion: Completion<'_, P>) -> bool {
        unimplemented!()
    }

    /// Forgets an executing task without a response (task management). False when the id is stale.
    pub fn abort_task(&mut self, _task: TaskId) -> bool {
        unimplemented!()
    }

    /// Aborts what this session has of a logical unit (`None`: of all), for a CLEAR TASK SET or reset that came through any
    /// session: tasks that still collect data vanish, executing ones are reported with [`Event::TaskAborted`].
    pub fn abort_logical_unit(&mut self, _lun: Option<u64>) {}

    /// The executing tasks (of a logical unit, or all).
    pub fn executing_tasks(&self, _lun: Option<u64>) -> impl Iterator<Item = TaskId> + '_ {
        std::iter::empty()
    }

    /// Answers a [`TaskManagement`]. False when its connection is gone.
    pub fn complete_task_management(&mut self, _id: RequestId, _response: TmfResponse) -> bool {
        unimplemented!()
    }

    /// Answers a [`TextQuery`].
    pub fn complete_text(&mut self, _id: RequestId, _records: &TargetRecords) -> bool {
        unimplemented!()
    }

    /// Answers a [`Logout`]; the connections concerned are closed after the response.
    pub fn complete_logout(&mut self, _id: RequestId) -> bool {
        unimplemented!()
    }

    /// Sends an asynchronous message.
    pub fn notify(&mut self, _connection: ConnectionIndex, _notice: AsyncNotice<'_>) {}

    /// Fills `out` from the start with what to send next; how many were filled.
    pub fn tx_slices<'a>(&'a mut self, _connection: ConnectionIndex, _out: &mut [IoSlice<'a>]) -> usize {
        unimplemented!()
    }

    /// The stream took the first `length_bytes` of what `tx_slices` showed.
    pub fn tx_advance(&mut self, _connection: ConnectionIndex, _length_bytes: usize) {}

    /// Bytes that wait to be sent.
    pub fn tx_queued_bytes(&self, _connection: ConnectionIndex) -> usize {
        0
    }

    /// When `handle_timeout` wants to be called, if at all.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// Pings idle connections and gives up dead ones.
    pub fn handle_timeout(&mut self, _now_ns: u64) {}

    /// The connections in use.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionIndex, u16)> + '_ {
        std::iter::empty()
    }

    /// Tasks in progress: executing or collecting data.
    pub fn task_count(&self) -> usize {
        0
    }

    /// Tasks in progress on one connection.
    pub fn connection_task_count(&self, _connection: ConnectionIndex) -> usize {
        0
    }

    /// Counters since the session began.
    pub fn counters(&self) -> SessionCounters {
        SessionCounters::default()
    }
}

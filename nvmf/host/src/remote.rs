//! A namespace of a remote subsystem, over all its paths: where each command goes, and what becomes of it when a path is lost.
//!
//! ```text
//!                 no room, no path                        ┌── read, flush, or never sent
//!  I/O ─▶ command ─────────────▶ waiting ─▶ in flight ────┤ path lost
//!                                  ▲  ▲                   └── write: in doubt ─▶ fenced ─┐
//!                                  │  └───── asked to retry (delayed) ◀── status         │
//!                                  └──────────── the lost association is quiesced ───────┘
//! ```
//!
//! A write whose answer was lost may still be executed by the controller it was sent to. It is neither sent again nor reported as
//! failed before that association is quiesced: else the old write could fall on top of a newer one. A compare and write is not sent
//! again then either, but failed.

mod dispatch;
mod fused;
mod io;
mod path;
mod table;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use nvme_spec::log::AnaState;
use reactor::buffer::Sgl;
use reactor::net::Ready;
use reactor::poller::Progress;
use reactor::time::Time;
use volume::bdev::{BdevInfo, Done, Io, IoStatus};

use crate::config::{Compare, ControllerConfig, Digest, HostIdentity, Timeouts};
use crate::error::{ConfigError, EndCause, Unsuitable};
use crate::limits::{DEADLINE_SCAN_MS, IO_QUEUE_ENTRIES_DEFAULT, PATHS_MAX, TOKENS_PER_CONTROLLER};
use crate::turn::Turn;
use io::LongIo;
use path::{Path, PathOffer};
use table::Table;

/// A namespace to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// NQN of the subsystem.
    pub subsystem_nqn: String,
    /// Namespace Identifier.
    pub nsid: u32,
    /// Who we are.
    pub host: HostIdentity,
    /// Where controllers of the subsystem listen.
    pub paths: Vec<SocketAddr>,
    /// I/O queues on each path.
    pub io_queues: u16,
    /// Entries of each I/O queue.
    pub io_queue_entries: u16,
    /// Header digests.
    pub header_digest: Digest,
    /// Data digests.
    pub data_digest: Digest,
    /// Who compares.
    pub compare: Compare,
    /// How long is waited.
    pub timeouts: Timeouts,
}

impl RemoteConfig {
    /// The defaults: one I/O queue of 128 entries on each path, no digests, compares where the controllers offer it.
    pub fn new(
        subsystem_nqn: impl Into<String>,
        nsid: u32,
        host: HostIdentity,
        paths: Vec<SocketAddr>,
    ) -> Self {
        Self {
            subsystem_nqn: subsystem_nqn.into(),
            nsid,
            host,
            paths,
            io_queues: 1,
            io_queue_entries: IO_QUEUE_ENTRIES_DEFAULT,
            header_digest: Digest::Off,
            data_digest: Digest::Off,
            compare: Compare::default(),
            timeouts: Timeouts::default(),
        }
    }

    fn controller(&self, address: SocketAddr) -> ControllerConfig {
        ControllerConfig {
            io_queues: self.io_queues,
            io_queue_entries: self.io_queue_entries,
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            timeouts: self.timeouts,
            ..ControllerConfig::new(address, self.subsystem_nqn.clone(), self.host.clone())
        }
    }

    /// Checks every bound that is documented.
    pub fn check(&self) -> Result<(), ConfigError> {
        let is_twice = |(at, path): (usize, &SocketAddr)| self.paths[..at].contains(path);
        if !(1..=PATHS_MAX).contains(&self.paths.len()) || self.paths.iter().enumerate().any(is_twice) {
            return Err(ConfigError::Paths);
        }
        if [0, nvme_spec::NSID_ALL].contains(&self.nsid) {
            return Err(ConfigError::Nsid);
        }
        self.controller(self.paths[0]).check()
    }
}

/// A path, for whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// Where its controller listens.
    pub address: SocketAddr,
    /// The access state of the namespace; `None` while it cannot be reached on this path.
    pub access: Option<AnaState>,
    /// Commands in flight.
    pub in_flight: usize,
    /// Attempts to connect that failed since it was live.
    pub failures: u32,
    /// Why its last association ended.
    pub last_end: Option<EndCause>,
    /// It is not tried any more.
    pub given_up: bool,
    /// Why the namespace is not used on it although its controller has one.
    pub refused: Option<Unsuitable>,
}

/// How often something worth counting happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteCounters {
    /// Commands sent again, for whatever reason.
    pub retries: u64,
    /// Writes that had to wait until a lost association was quiesced.
    pub fenced: u64,
    /// I/Os that failed because no path came back in time.
    pub no_path: u64,
}

pub(crate) struct Remote {
    config: RemoteConfig,
    paths: Vec<Path>,
    table: Table,
    /// Commands without a place, oldest first.
    waiting: VecDeque<u32>,
    /// Commands that wait for an instant: until an old association is quiesced, or until a controller may be asked again.
    timed: Vec<(Time, u32)>,
    /// I/Os that found no free command.
    backlog: VecDeque<Io>,
    long: Vec<Option<LongIo>>,
    done: VecDeque<Done>,
    /// I/Os submitted and not yet given back.
    in_flight: usize,
    info: Option<BdevInfo>,
    deallocates: bool,
    no_path_since: Option<Time>,
    scan_at: Time,
    look_again_at: Time,
    closing: bool,
    abandoned: bool,
    counters: RemoteCounters,
    now: Time,
}

impl Remote {
    pub(crate) fn new(config: RemoteConfig, token_base: u32, turn: &mut Turn<'_>) -> Self {
        let make = |(index, address): (usize, &SocketAddr)| {
            let tokens = token_base + index as u32 * TOKENS_PER_CONTROLLER;
            Path::new(config.controller(*address), tokens, turn.now)
        };
        let paths = config.paths.iter().enumerate().map(make).collect();
        Self {
            paths,
            config,
            table: Table::default(),
            waiting: VecDeque::new(),
            timed: Vec::new(),
            backlog: VecDeque::new(),
            long: Vec::new(),
            done: VecDeque::new(),
            in_flight: 0,
            info: None,
            deallocates: false,
            no_path_since: Some(turn.now),
            scan_at: turn.now,
            look_again_at: turn.now,
            closing: false,
            abandoned: false,
            counters: RemoteCounters::default(),
            now: turn.now,
        }
    }

    /// What the namespace is, once a path has shown it.
    pub(crate) fn info(&self) -> Option<BdevInfo> {
        self.info
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn counters(&self) -> RemoteCounters {
        self.counters
    }

    pub(crate) fn reports(&self) -> Vec<PathReport> {
        self.paths.iter().map(Path::report).collect()
    }

    /// Gives back what is done.
    pub(crate) fn take_done(&mut self, out: &mut Vec<Done>, budget: usize) {
        let count = self.done.len().min(budget);
        self.in_flight -= count;
        out.extend(self.done.drain(..count));
    }

    /// One of its streams was named.
    pub(crate) fn on_ready(&mut self, path: usize, ready: Ready, turn: &mut Turn<'_>) -> bool {
        self.now = turn.now;
        let worked = self.paths[path].on_ready(ready, turn);
        if worked {
            self.take_completions(path, turn);
        }
        worked
    }

    /// Whatever is due, and what can go out now. Once per turn, after the streams.
    pub(crate) fn poll(&mut self, turn: &mut Turn<'_>) -> Progress {
        self.now = turn.now;
        let mut progress = Progress::Idle;
        for index in 0..self.paths.len() {
            progress = progress.or(self.poll_path(index, turn));
        }
        if self.timed.iter().any(|(at, _)| *at <= turn.now) {
            self.release_timed(turn.now);
        }
        if turn.now >= self.scan_at.min(self.look_again_at) {
            self.scan_at = turn.now.after(Duration::from_millis(DEADLINE_SCAN_MS));
            self.scan(turn);
        }
        self.pump(turn.now);
        for path in &mut self.paths {
            progress = progress.or(path.flush(turn));
        }
        progress
    }

    /// When [`Remote::poll`] must be called although nothing arrives.
    pub(crate) fn deadline(&self) -> Time {
        let paths = self.paths.iter().map(Path::deadline).min().unwrap_or(Time::NEVER);
        let timed = self.timed.iter().map(|(at, _)| *at).min().unwrap_or(Time::NEVER);
        let scan = if self.in_flight > 0 { self.scan_at } else { Time::NEVER };
        let look = if self.paths.iter().any(Path::is_set_aside) { self.look_again_at } else { Time::NEVER };
        paths.min(timed).min(scan).min(look)
    }

    /// True when a submitted command has not been offered to its stream yet.
    pub(crate) fn wants_flush(&self) -> bool {
        self.paths.iter().any(Path::wants_flush)
    }

    /// Ends everything: what is in flight ends with [`IoStatus::Gone`].
    pub(crate) fn close(&mut self, turn: &mut Turn<'_>) {
        self.closing = true;
        for path in &mut self.paths {
            path.close(turn);
        }
        self.fail_waiting(IoStatus::Gone);
    }

    /// Closed, and nothing goes on any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing && self.in_flight == self.done.len() && self.paths.iter().all(Path::is_closed)
    }

    /// Nobody takes answers any more.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Closed for good, and nobody has a handle.
    pub(crate) fn is_abandoned(&mut self) -> bool {
        if self.abandoned {
            self.in_flight -= self.done.len();
            self.done.clear();
        }
        self.abandoned && self.is_closed()
    }

    fn finish_io(&mut self, tag: u64, status: IoStatus, sgl: Sgl) {
        self.done.push_back(Done { tag, status, sgl });
    }
}

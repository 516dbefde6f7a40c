//! Bytes from the streams to the sessions.
//!
//! One receive call fills first the rest of a payload, in place, and then the core's scratch buffer.
//! While a large payload is on its way the scratch window is small, so that its bytes are not copied.

use std::cell::Cell;
use std::io::IoSliceMut;
use std::rc::Rc;

use iscsi_proto::session::{Blocked, Event, Host};
use reactor::buffer::BufferPool;
use reactor::net::StreamError;
use reactor::poller::Progress;
use reactor::time::Time;
use volume::bdev::Op;

use crate::core::TargetCore;
use crate::limits::{RECV_CALLS_PER_TURN, RESERVED_POOL_SHARE, SCRATCH_BYTES};
use crate::slots::{Key, Slots};
use crate::state::{Data, Disk, Phase, Target};

/// Scratch window while a large payload is received in place: room for the headers that follow it.
const SCRATCH_BESIDE_PAYLOAD_BYTES: usize = 4096;
/// A rest of a payload that is shorter is followed by the whole scratch buffer: behind it come more commands of
/// the same kind, and copying their data is cheaper than a call for each.
const LARGE_PAYLOAD_BYTES: usize = 32 * 1024;

/// What one receive call gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Took {
    Nothing,
    /// Everything that was there.
    All,
    /// As much as there was room for; there may be more.
    Part,
}

fn took(received: usize, room: usize) -> Took {
    if received < room { Took::All } else { Took::Part }
}

/// What a session may ask while it parses.
struct View<'a> {
    target: Option<&'a Target>,
    disks: &'a Slots<Disk>,
    buffers: &'a BufferPool,
    /// Bytes that the session holds for data that has not come yet.
    held_bytes: Rc<Cell<usize>>,
}

impl View<'_> {
    /// The last part of the pool is for sessions that hold nothing yet: one that announces writes and never
    /// sends their data cannot take all memory from the others.
    fn may_take(&self, length_bytes: usize) -> bool {
        let kept_bytes = self.buffers.total_bytes() / RESERVED_POOL_SHARE;
        self.held_bytes.get() == 0 || self.buffers.available_bytes() >= length_bytes + kept_bytes
    }
}

impl Host for View<'_> {
    type Payload = Data;

    fn data_out_length(&mut self, lun: u64, cdb: &[u8]) -> u64 {
        let disk = self.target.and_then(|target| self.disks.get(target.disk(lun)?));
        let Some(disk) = disk else { return 0 };
        let data_out_length = disk.unit.data_out_length(cdb);
        // It runs after what came before it: until then its blocks are on their way into the cache.
        if let Some(extent) = disk.unit.transfer_extent(cdb) {
            let op = if data_out_length > 0 { Op::Write { extent, fua: false } } else { Op::Read(extent) };
            disk.port.prefetch(op);
        }
        data_out_length
    }

    fn alloc(&mut self, length_bytes: usize) -> Option<Data> {
        if !self.may_take(length_bytes) {
            return None;
        }
        self.buffers.alloc(length_bytes).map(|sgl| Data::collecting(sgl, &self.held_bytes))
    }
}

impl TargetCore {
    /// A stream was named as ready: takes what it has, within the turn's bound.
    /// True when it had anything.
    pub(crate) fn receive(&mut self, key: Key, now: Time) -> bool {
        let mut worked = false;
        for _ in 0..RECV_CALLS_PER_TURN {
            let Some(connection) = self.connections.get_mut(key) else { return worked };
            if connection.paused {
                return worked;
            }
            let took = match connection.phase {
                Phase::Full { .. } => self.receive_session(key, now),
                _ => self.receive_other(key, now),
            };
            worked |= took != Took::Nothing;
            if self.connections.get(key).is_none() {
                return worked;
            }
            if took != Took::Part {
                self.group.note_drained(key.index(), true);
                return worked;
            }
        }
        self.group.note_drained(key.index(), false);
        worked
    }

    fn receive_session(&mut self, key: Key, now: Time) -> Took {
        let connection = self.connections.get_mut(key).expect("looked up by the caller");
        let Phase::Full { session, index } = connection.phase else { return Took::Nothing };
        let entry =
            self.sessions.get_mut(session).expect("a connection in full feature phase has its session");
        let scratch = &mut self.scratch;
        let (received, payload_room, room) = match entry.session.payload_destination(index) {
            Some(payload) => {
                let payload_room = payload.len();
                let is_large = payload_room >= LARGE_PAYLOAD_BYTES;
                let window = if is_large { SCRATCH_BESIDE_PAYLOAD_BYTES } else { SCRATCH_BYTES };
                let room = payload_room + window;
                let window = &mut scratch[..window];
                let mut vectors = [IoSliceMut::new(payload), IoSliceMut::new(window)];
                (connection.stream.try_recv(&mut vectors), payload_room, room)
            }
            None => {
                let mut vectors = [IoSliceMut::new(&mut scratch[..SCRATCH_BYTES])];
                (connection.stream.try_recv(&mut vectors), 0, SCRATCH_BYTES)
            }
        };
        let received = match received {
            Ok(0) | Err(StreamError::Broken(_)) => {
                self.lose_connection(key);
                return Took::All;
            }
            Err(StreamError::WouldBlock) => return Took::Nothing,
            Ok(received) => received,
        };
        let in_place = received.min(payload_room);
        if in_place > 0 {
            entry.session.payload_received(index, now.as_ns(), in_place);
        }
        self.feed(key, now, received - in_place);
        took(received, room)
    }

    /// Gives the first `length_bytes` of the scratch buffer to the connection's session.
    fn feed(&mut self, key: Key, now: Time, length_bytes: usize) {
        let connection = self.connections.get_mut(key).expect("a connection that received is there");
        let Phase::Full { session, index } = connection.phase else { return };
        let entry =
            self.sessions.get_mut(session).expect("a connection in full feature phase has its session");
        let target = entry.target.and_then(|target| self.targets.get(target));
        let held_bytes = entry.held_bytes.clone();
        let mut view = View { target, disks: &self.disks, buffers: &self.core.buffers, held_bytes };
        let bytes = &self.scratch[..length_bytes];
        if let Ok(consumed) = entry.session.handle_bytes(index, now.as_ns(), bytes, &mut view)
            && consumed < length_bytes
        {
            connection.unread.extend_from_slice(&self.scratch[consumed..length_bytes]);
        }
        // An error ends the connection: the session says so once its last bytes were taken.
        self.settle_input(key);
        self.drain_events(session);
        self.note_hungry(session);
        // Not only this connection: a command may have opened the window for one that came on another.
        self.touch_session(session);
    }

    /// Pauses or resumes receiving as the session demands.
    fn settle_input(&mut self, key: Key) {
        let draining = self.is_draining();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Full { session, index } = connection.phase else { return };
        let Some(entry) = self.sessions.get(session) else { return };
        let blocked = entry.session.blocked(index);
        let paused =
            matches!(blocked, Some(Blocked::Memory | Blocked::Backlog)) || !connection.unread.is_empty();
        if paused != connection.paused && !draining {
            connection.paused = paused;
            self.group.pause_recv(key.index(), paused);
        }
        if paused && !self.starved.contains(&key) {
            self.starved.push(key);
        }
    }

    /// Memory may have come back: serves the commands that wait for it without holding their connection up
    /// (their data is still to be asked for).
    pub(crate) fn feed_hungry(&mut self) -> Progress {
        let mut progress = Progress::Idle;
        for session in std::mem::take(&mut self.hungry) {
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let target = entry.target.and_then(|target| self.targets.get(target));
            let held_bytes = entry.held_bytes.clone();
            let mut view = View { target, disks: &self.disks, buffers: &self.core.buffers, held_bytes };
            // Nothing is touched for one that still finds none: that would keep the core awake for nothing.
            if entry.session.retry_blocked(&mut view) {
                progress = Progress::Busy;
                self.drain_events(session);
                self.touch_session(session);
            }
            self.note_hungry(session);
        }
        progress
    }

    fn note_hungry(&mut self, session: Key) {
        let wants = self.sessions.get(session).is_some_and(|entry| entry.session.wants_memory());
        if wants && !self.hungry.contains(&session) {
            self.hungry.push(session);
        }
    }

    /// Gives held-back bytes to the connections whose session takes input again.
    pub(crate) fn resume_starved(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        if self.starved.is_empty() {
            return progress;
        }
        let starved = std::mem::take(&mut self.starved);
        for key in starved {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Phase::Full { session, index } = connection.phase else { continue };
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let target = entry.target.and_then(|target| self.targets.get(target));
            let held_bytes = entry.held_bytes.clone();
            let mut view = View { target, disks: &self.disks, buffers: &self.core.buffers, held_bytes };
            let mut moved = entry.session.retry_blocked(&mut view);
            match entry.session.blocked(index) {
                Some(Blocked::Memory | Blocked::Backlog) => self.starved.push(key),
                Some(Blocked::Closing) => {
                    moved = true;
                    connection.unread.clear();
                }
                None => {
                    moved = true;
                    let unread = std::mem::take(&mut connection.unread);
                    let consumed = entry.session.handle_bytes(index, now.as_ns(), &unread, &mut view);
                    if let Ok(consumed) = consumed {
                        connection.unread.extend_from_slice(&unread[consumed..]);
                    }
                    self.settle_input(key);
                }
            }
            if moved {
                progress = Progress::Busy;
                self.drain_events(session);
                self.touch_session(session);
            }
            self.note_hungry(session);
        }
        progress
    }

    /// Acts on everything a session says.
    pub(crate) fn drain_events(&mut self, session: Key) {
        while let Some(entry) = self.sessions.get_mut(session) {
            let Some(event) = entry.session.poll_event() else { return };
            match event {
                Event::Command(command) => self.on_command(session, command),
                Event::TaskAborted { task } => self.on_task_aborted(session, task),
                Event::TaskManagement(request) => self.on_task_management(session, request),
                Event::Text(query) => self.on_text(session, query),
                Event::Logout(logout) => self.on_logout(session, logout),
                Event::CloseConnection { connection, .. } => {
                    if let Some(key) = self.connection_of(session, connection) {
                        self.lose_connection(key);
                    }
                }
            }
        }
    }

    /// Receives for a connection that has not logged in, or is on its way out.
    fn receive_other(&mut self, key: Key, now: Time) -> Took {
        let connection = self.connections.get_mut(key).expect("looked up by the caller");
        // Small steps: nobody has proved anything yet.
        let window = &mut self.scratch[..8192];
        let room = window.len();
        match connection.stream.try_recv(&mut [IoSliceMut::new(window)]) {
            Ok(0) | Err(StreamError::Broken(_)) => {
                self.lose_connection(key);
                Took::All
            }
            Err(StreamError::WouldBlock) => Took::Nothing,
            Ok(received) => {
                let bytes = self.scratch[..received].to_vec();
                self.on_login_bytes(key, &bytes, now);
                took(received, room)
            }
        }
    }

    /// Bytes that came behind the last login request, or with a moved connection.
    pub(crate) fn feed_bytes(&mut self, key: Key, now: Time, bytes: &[u8]) {
        for part in bytes.chunks(SCRATCH_BYTES) {
            self.scratch[..part.len()].copy_from_slice(part);
            if self.connections.get(key).is_none() {
                return;
            }
            self.feed(key, now, part.len());
        }
    }
}

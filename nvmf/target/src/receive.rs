//! Bytes from the streams to the queues.
//!
//! One receive call fills first the rest of a payload, in place, and then the core's scratch buffer.
//! While a large payload is on its way the scratch window is small, so that its bytes are not copied.

use std::cell::Cell;
use std::io::IoSliceMut;
use std::rc::Rc;

use nvme_spec::fabrics::FabricsType;
use nvme_spec::{AdminOpcode, NvmOpcode, Sqe, Status};
use nvmf_proto::target::Purpose;
use nvmf_proto::{Admission, Blocked, Event, TargetQueue};
use reactor::buffer::BufferPool;
use reactor::net::StreamError;
use reactor::poller::Progress;
use volume::bdev::Op;

use crate::connect::CONNECT_DATA_BYTES;
use crate::core::{NvmfCore, busy_if};
use crate::features::Features;
use crate::fused::Fused;
use crate::limits::{
    IN_CAPSULE_POOL_SHARE, RECV_CALLS_PER_TURN, RESERVED_POOL_SHARE, RETRIES_PER_TURN, SCRATCH_BYTES,
};
use crate::nvm::Request;
use crate::slots::{Key, Slots};
use crate::state::{Connection, Data, HostCommand, Namespace, Phase, Subsystem};

/// Scratch window while a large payload is received in place: room for the headers that follow it.
const SCRATCH_BESIDE_PAYLOAD_BYTES: usize = 4096;
/// A rest of a payload that is shorter is followed by the whole scratch buffer: behind it come more commands of
/// the same kind, and copying their data is cheaper than a call for each.
const LARGE_PAYLOAD_BYTES: usize = 32 * 1024;
/// Receive window of a connection that has not connected: nobody has proved anything yet.
const CONNECTING_BYTES: usize = 8192;

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

/// What a queue may ask while it parses.
pub(crate) struct View<'a> {
    /// None before Connect, and for discovery.
    subsystem: Option<&'a Subsystem>,
    namespaces: &'a Slots<Namespace>,
    buffers: &'a BufferPool,
    /// Bytes that the connection holds for data that has not come yet.
    held_bytes: &'a Rc<Cell<usize>>,
    fused: &'a mut Fused<HostCommand>,
    /// Commands that fail because of another capsule.
    failed: Vec<(HostCommand, Status)>,
    /// The queue takes I/O commands.
    io: bool,
}

impl View<'_> {
    /// Data that is still at the host leaves an eighth of the pool to data that is in a stream already, behind which
    /// it may have to come; and the last part of the pool is for queues that hold nothing yet: one that announces
    /// writes and never sends their data cannot take all memory from the others.
    fn may_take(&self, length_bytes: usize, purpose: Purpose) -> bool {
        let share = match purpose {
            Purpose::InCapsule => return true,
            Purpose::Solicited if self.held_bytes.get() == 0 => IN_CAPSULE_POOL_SHARE,
            Purpose::Solicited => RESERVED_POOL_SHARE,
        };
        self.buffers.available_bytes() >= length_bytes + self.buffers.total_bytes() / share
    }

    /// Bytes that an I/O command takes; whatever is wrong with it is said when it is executed.
    #[inline]
    fn io_bytes(&mut self, sqe: &Sqe) -> usize {
        if sqe.fuse().0 != 0 || !self.fused.is_idle() {
            self.failed.extend(self.fused.on_capsule(sqe));
        }
        // The low bits of an opcode say which way its data goes.
        if sqe.opcode & 0b01 == 0 && sqe.nvm_opcode() != NvmOpcode::READ {
            return 0;
        }
        let namespace = self.subsystem.and_then(|subsystem| subsystem.namespace(sqe.nsid.get()));
        let Some(namespace) = namespace.and_then(|key| self.namespaces.get(key)) else { return 0 };
        let Ok(request) = Request::parse(sqe, &namespace.info) else { return 0 };
        // It runs after what came before it: until then its blocks are on their way into the cache.
        match request {
            Request::Read { extent, .. } => namespace.port.prefetch(Op::Read(extent)),
            Request::Write { extent, fua } => namespace.port.prefetch(Op::Write { extent, fua }),
            _ => {}
        }
        request.host_bytes(&namespace.info)
    }
}

impl Admission for View<'_> {
    type Payload = Data;

    #[inline]
    fn host_data_bytes(&mut self, sqe: &Sqe, _: u32) -> Result<u32, Status> {
        let bytes = match sqe.fabrics_type() {
            Some(FabricsType::CONNECT) => CONNECT_DATA_BYTES,
            Some(_) => 0,
            None if self.io => self.io_bytes(sqe),
            None if sqe.admin_opcode() == AdminOpcode::SET_FEATURES => Features::host_bytes(sqe.feature_id()),
            None => 0,
        };
        Ok(bytes as u32)
    }

    #[inline]
    fn alloc(&mut self, length_bytes: usize, purpose: Purpose) -> Option<Data> {
        if !self.may_take(length_bytes, purpose) {
            return None;
        }
        self.buffers.alloc(length_bytes).map(|sgl| Data::collecting(sgl, self.held_bytes))
    }
}

impl NvmfCore {
    /// A stream was named as ready: takes what it has, within the turn's bound.
    /// True when it had anything.
    pub(crate) fn receive(&mut self, key: Key) -> bool {
        let mut worked = false;
        for _ in 0..RECV_CALLS_PER_TURN {
            let Some(connection) = self.connections.get(key) else { return worked };
            if connection.paused {
                return worked;
            }
            let took = match connection.phase {
                Phase::Live { .. } => self.receive_live(key),
                _ => self.receive_other(key),
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

    fn receive_live(&mut self, key: Key) -> Took {
        let connection = self.connections.get_mut(key).expect("looked up by the caller");
        let scratch = &mut self.scratch;
        let (received, payload_room, room) = match connection.queue.wanted() {
            Some(payload) => {
                let payload_room = payload.len();
                let is_large = payload_room >= LARGE_PAYLOAD_BYTES;
                let window = if is_large { SCRATCH_BESIDE_PAYLOAD_BYTES } else { SCRATCH_BYTES };
                let room = payload_room + window;
                let mut vectors = [IoSliceMut::new(payload), IoSliceMut::new(&mut scratch[..window])];
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
        connection.received_at = self.now;
        let in_place = received.min(payload_room);
        if in_place > 0 {
            connection.queue.received(in_place);
        }
        self.hear(key);
        self.feed_scratch(key, received - in_place);
        took(received, room)
    }

    /// The host of a queue is alive.
    fn hear(&mut self, key: Key) {
        let Some(Connection { phase: Phase::Live { controller, .. }, .. }) = self.connections.get(key) else {
            return;
        };
        if let Some(controller) = self.controllers.get_mut(*controller) {
            controller.heard_at = self.now;
        }
    }

    /// Gives the first `length_bytes` of the scratch buffer to the connection's queue.
    pub(crate) fn feed_scratch(&mut self, key: Key, length_bytes: usize) {
        let scratch = std::mem::take(&mut self.scratch);
        self.feed_bytes(key, &scratch[..length_bytes]);
        self.scratch = scratch;
    }

    /// Gives bytes to the connection's queue; what it does not take waits.
    pub(crate) fn feed_bytes(&mut self, key: Key, bytes: &[u8]) {
        self.with_view(key, |queue, unread, view| {
            // An error ends the queue: it says so once its last bytes were taken.
            if let Ok(consumed) = queue.handle_bytes(bytes, view) {
                unread.extend_from_slice(&bytes[consumed..]);
            }
        });
    }

    /// Calls `act` with a queue, its bytes that wait, and what the queue may ask; then acts on what the queue says.
    fn with_view(&mut self, key: Key, act: impl FnOnce(&mut TargetQueue<Data>, &mut Vec<u8>, &mut View<'_>)) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let io = matches!(connection.phase, Phase::Live { qid: 1.., .. });
        let Connection { queue, fused, held_bytes, unread, subsystem, .. } = connection;
        let mut view = View {
            subsystem: subsystem.and_then(|subsystem| self.subsystems.get(subsystem)),
            namespaces: &self.namespaces,
            buffers: &self.core.buffers,
            held_bytes,
            fused,
            failed: Vec::new(),
            io,
        };
        act(queue, unread, &mut view);
        for (command, status) in view.failed {
            self.answer_failed(key, &command, status);
        }
        self.settle_input(key);
        self.drain_queue(key);
        self.touch(key);
    }

    /// Pauses or resumes receiving as the queue demands.
    fn settle_input(&mut self, key: Key) {
        let draining = self.is_draining();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let blocked = connection.queue.blocked();
        let paused =
            matches!(blocked, Some(Blocked::Memory | Blocked::Backlog)) || !connection.unread.is_empty();
        if paused != connection.paused && !draining {
            connection.paused = paused;
            self.group.pause_recv(key.index(), paused);
        }
        if (paused || connection.queue.wants_memory()) && !connection.starved {
            connection.starved = true;
            self.starved.push(key);
        }
    }

    /// Acts on everything a queue says.
    pub(crate) fn drain_queue(&mut self, key: Key) {
        while let Some(connection) = self.connections.get_mut(key) {
            let Some(event) = connection.queue.next_event() else { return };
            match event {
                Event::Initialized(_) => {}
                Event::Command(command) => {
                    connection.executing += 1;
                    self.on_command(key, command);
                }
                Event::Close(_) => return self.lose_connection(key),
            }
        }
    }

    /// Memory may have come back, or room to send: tries those that wait for it.
    pub(crate) fn feed(&mut self) -> Progress {
        let moved = self.feed_hungry();
        let starved = std::mem::take(&mut self.starved);
        let mut progress = busy_if(moved);
        for key in starved {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.starved = false;
            let before = (connection.unread.len(), connection.queue.command_count());
            self.with_view(key, |queue, unread, view| {
                queue.retry(view);
                if matches!(queue.blocked(), Some(Blocked::Memory | Blocked::Backlog)) {
                    return;
                }
                let bytes = std::mem::take(unread);
                if let Ok(consumed) = queue.handle_bytes(&bytes, view) {
                    unread.extend_from_slice(&bytes[consumed..]);
                }
            });
            let Some(connection) = self.connections.get(key) else { continue };
            if before != (connection.unread.len(), connection.queue.command_count()) {
                progress = Progress::Busy;
            }
        }
        progress
    }

    /// Tries again the tasks that found no memory. True when one got on.
    fn feed_hungry(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..self.hungry.len().min(RETRIES_PER_TURN) {
            let Some(key) = self.hungry.pop_front() else { break };
            self.retry_task(key);
            // Back in the queue: still no memory. Others may want less.
            moved |= self.hungry.back() != Some(&key);
        }
        moved
    }

    /// Receives for a connection that has not connected, or is on its way out.
    fn receive_other(&mut self, key: Key) -> Took {
        let connection = self.connections.get_mut(key).expect("looked up by the caller");
        let window = &mut self.scratch[..CONNECTING_BYTES];
        let room = window.len();
        match connection.stream.try_recv(&mut [IoSliceMut::new(window)]) {
            Ok(0) | Err(StreamError::Broken(_)) => {
                self.lose_connection(key);
                Took::All
            }
            Err(StreamError::WouldBlock) => Took::Nothing,
            Ok(received) => {
                connection.received_at = self.now;
                let bytes = self.scratch[..received].to_vec();
                self.on_connecting_bytes(key, &bytes);
                took(received, room)
            }
        }
    }
}

//! From an accepted socket to the core that owns its subsystem.
//!
//! The acceptor answers ICReq and looks at the capsule behind it, to learn which subsystem is meant; then the socket
//! goes to the core that owns it, with the bytes, and Connect is executed there from its first byte.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use nvme_spec::fabrics::nqn;
use nvme_spec::tcp::IcReq;
use nvmf_proto::peek::{Peek, first_capsule};
use nvmf_proto::{Negotiated, TargetQueue};
use reactor::gather::Behind;
use reactor::net::{StreamError, StreamParcel};
use reactor::poller::Progress;
use reactor::time::Time;

use crate::core::NvmfCore;
use crate::fused::Fused;
use crate::limits::{
    ACCEPTS_PER_TURN, CLOSE_LINGER, CONNECT_BYTES_MAX, CONNECTING_PER_CORE_MAX, CONNECTING_PER_SOURCE_MAX,
    SWEEP_INTERVAL,
};
use crate::message::{CoreMessage, MovedConnection};
use crate::slots::Key;
use crate::state::{Connection, Phase};

/// The bytes of an ICReq, which come first.
const IC_REQ_BYTES: usize = size_of::<IcReq>();

impl NvmfCore {
    /// Takes new connections from the portals.
    pub(crate) fn accept(&mut self) -> Progress {
        let mut progress = Progress::Idle;
        if !self.accepting {
            return progress;
        }
        for at in 0..self.portals.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let portal = &mut self.portals[at];
                match portal.listener.try_accept() {
                    Ok((parcel, peer)) => {
                        let port_id = portal.port_id;
                        let queue = TargetQueue::new(self.config);
                        self.open_connection(
                            parcel,
                            peer,
                            port_id,
                            queue,
                            Phase::Peek { given: 0, kept: Vec::new() },
                        );
                        progress = Progress::Busy;
                    }
                    // Out of descriptors is not the listener's end: the next turn tries again.
                    Err(StreamError::WouldBlock | StreamError::Broken(_)) => break,
                }
            }
        }
        progress
    }

    /// A connection begins. Over the limit it is closed at once, so that a flood cannot take the place of queues.
    fn open_connection(
        &mut self,
        parcel: StreamParcel,
        peer: SocketAddr,
        port_id: u16,
        queue: TargetQueue<crate::state::Data>,
        phase: Phase,
    ) -> Option<Key> {
        let of_source = self.connecting_sources.get(&peer.ip()).copied().unwrap_or_default();
        let is_full = self.connecting >= CONNECTING_PER_CORE_MAX || of_source >= CONNECTING_PER_SOURCE_MAX;
        if is_full || self.is_draining() {
            return None;
        }
        let index = self.connections.next_key()?.index();
        let stream = self.group.adopt(parcel, index).ok()?;
        let deadline = self.now.after(self.settings.connect_timeout);
        let connection = Connection {
            local: stream.local(),
            stream,
            queue,
            peer,
            port_id,
            phase,
            subsystem: None,
            access: Vec::new(),
            fused: Fused::default(),
            tasks: Vec::new(),
            executing: 0,
            waiting: 0,
            held_bytes: Rc::new(Cell::new(0)),
            disconnecting: false,
            entries: 0,
            unread: Vec::new(),
            dirty: false,
            send_blocked: false,
            paused: false,
            starved: false,
            deadline,
            received_at: self.now,
            sent_at: self.now,
        };
        let key = self.connections.insert(connection).unwrap_or_else(|_| unreachable!("room was checked"));
        assert_eq!(key.index(), index, "the stream's token is the slot's index");
        self.connecting += 1;
        self.connecting_sources.insert(peer.ip(), of_source + 1);
        self.alarms.insert((deadline, key));
        if self.sweep_at == Time::NEVER {
            self.sweep_at = self.now.after(SWEEP_INTERVAL);
        }
        Some(key)
    }

    /// A connection is no longer one whose Connect is to be answered.
    pub(crate) fn end_connecting(&mut self, source: IpAddr) {
        self.connecting -= 1;
        let count = self.connecting_sources.get_mut(&source).expect("every connection was counted");
        *count -= 1;
        if *count == 0 {
            self.connecting_sources.remove(&source);
        }
    }

    /// A connection that another core accepted for one of our subsystems.
    pub(crate) fn adopt_connection(&mut self, moved: MovedConnection) {
        let MovedConnection { parcel, negotiated, received, peer, port_id } = moved;
        let queue = TargetQueue::resume(self.config, negotiated);
        if let Some(key) = self.open_connection(parcel, peer, port_id, queue, Phase::Connect) {
            self.feed_bytes(key, &received);
        }
    }

    /// Bytes of a connection that is no queue of a controller.
    pub(crate) fn on_connecting_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match &mut connection.phase {
            Phase::Peek { kept, .. } => {
                kept.extend_from_slice(bytes);
                if kept.len() > IC_REQ_BYTES + CONNECT_BYTES_MAX + bytes.len() {
                    // Connect is long past: whatever this is, it is no host.
                    return self.lose_connection(key);
                }
                self.peek(key);
            }
            Phase::Connect | Phase::Waiting(..) => self.feed_bytes(key, bytes),
            Phase::Closing | Phase::Live { .. } => {}
        }
    }

    /// Answers ICReq as soon as it is whole, and decides as soon as the capsule behind it is.
    fn peek(&mut self, key: Key) {
        let connection = self.connections.get_mut(key).expect("looked up by the caller");
        if connection.queue.negotiated().is_none() {
            let Phase::Peek { given, kept } = &mut connection.phase else {
                unreachable!("only a peek is peeked at")
            };
            // A violation shows in the first bytes already; then there is nothing to wait for.
            let request: Vec<u8> = kept.drain(..kept.len().min(IC_REQ_BYTES - *given)).collect();
            *given += request.len();
            self.feed_bytes(key, &request);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(negotiated) = connection.queue.negotiated().copied() else { return };
        let Phase::Peek { kept, .. } = &connection.phase else { return };
        let owner = match first_capsule(kept, &negotiated) {
            Peek::NeedMore => return,
            Peek::Connect(_, data) => {
                let entry = nqn(&data.subnqn).and_then(|name| self.directory.subsystems.get(name));
                entry.map_or(self.endpoint.core(), |entry| entry.core)
            }
            // Answered here as it deserves.
            Peek::Other | Peek::Violation(_) => self.endpoint.core(),
        };
        let phase = std::mem::replace(&mut connection.phase, Phase::Connect);
        let Phase::Peek { kept, .. } = phase else { unreachable!("looked at above") };
        if owner == self.endpoint.core() {
            return self.feed_bytes(key, &kept);
        }
        self.move_connection(key, owner, negotiated, kept);
    }

    fn move_connection(&mut self, key: Key, owner: usize, negotiated: Negotiated, received: Vec<u8>) {
        // A host that did not wait for the ICResp may find it unsent; it is short.
        self.send(key, Behind::Nothing);
        let Some(connection) = self.connections.get(key) else { return };
        if connection.queue.tx_queued_bytes() > 0 {
            return self.lose_connection(key);
        }
        self.group.remove(key.index());
        let connection = self.connections.remove(key).expect("looked up above");
        self.alarms.remove(&(connection.deadline, key));
        self.end_connecting(connection.peer.ip());
        let parcel = connection.stream.into_parcel();
        let (peer, port_id) = (connection.peer, connection.port_id);
        let moved = MovedConnection { parcel, negotiated, received, peer, port_id };
        // A full ring drops the connection: the host tries again.
        let _ = self.endpoint.send(owner, CoreMessage::Adopt(moved));
    }

    /// The connection closes once its last bytes were taken, or soon.
    pub(crate) fn linger(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if matches!(connection.phase, Phase::Live { .. }) {
            return;
        }
        connection.phase = Phase::Closing;
        self.alarms.remove(&(connection.deadline, key));
        connection.deadline = self.now.after(CLOSE_LINGER);
        self.alarms.insert((connection.deadline, key));
        self.touch(key);
    }
}

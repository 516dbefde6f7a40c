//! Bytes from the queues to the streams: once per turn and connection, vectored.

use std::io::IoSlice;

use nvmf_proto::Event;
use reactor::gather::{Behind, Gather, goes_early};
use reactor::net::StreamError;

use crate::core::NvmfCore;
use crate::limits::SEND_VECTORS;
use crate::slots::Key;
use crate::state::Phase;

impl NvmfCore {
    /// Puts a connection on the list of those with something to send.
    #[inline]
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// As [`NvmfCore::touch`], and sends at once when much waits behind and with an answer of `answer_bytes`.
    #[inline]
    pub(crate) fn touch_sender(&mut self, key: Key, answer_bytes: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(key);
        }
        if !connection.send_blocked && goes_early(connection.queue.tx_queued_bytes(), answer_bytes) {
            self.send(key, Behind::More);
        }
    }

    /// Sends what waits, on every connection of the list.
    pub(crate) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.dirty = false;
                if !connection.send_blocked {
                    self.send(key, Behind::Nothing);
                }
            }
        }
        // Sending may have put connections on the list again; keep those.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// The stream has room again.
    pub(crate) fn on_send_ready(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.send_blocked = false;
            self.touch(key);
        }
    }

    /// Sends until nothing waits that should not wait for the next turn, or the stream takes no more. `behind`: what is still to
    /// come in this turn.
    pub(crate) fn send(&mut self, key: Key, behind: Behind) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut gather = Gather::new(&*connection.stream);
        loop {
            let mut vectors = [IoSlice::new(&[]); SEND_VECTORS];
            let count = connection.queue.tx_chunks(&mut vectors);
            if count == 0 {
                break;
            }
            match gather.send(&mut *connection.stream, &vectors, count, behind) {
                Ok(0) => return self.touch(key),
                Ok(sent) => {
                    connection.queue.tx_advance(sent);
                    connection.sent_at = self.now;
                }
                Err(StreamError::WouldBlock) => {
                    connection.send_blocked = true;
                    self.group.want_send(key.index());
                    return;
                }
                Err(StreamError::Broken(_)) => return self.lose_connection(key),
            }
        }
        connection.sent_at = self.now;
        self.after_send(key);
    }

    /// Everything was taken: a connection on its way out closes.
    fn after_send(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let closed = match connection.phase {
            Phase::Closing => true,
            _ if connection.queue.blocked() == Some(nvmf_proto::Blocked::Closing) => {
                matches!(connection.queue.next_event(), Some(Event::Close(_)))
            }
            _ => false,
        };
        if closed {
            self.lose_connection(key);
        }
    }
}

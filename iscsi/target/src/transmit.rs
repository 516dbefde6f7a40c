//! Bytes from the sessions to the streams: once per turn and connection, vectored.

use std::io::IoSlice;

use reactor::gather::{Behind, Gather, goes_early};
use reactor::net::StreamError;

use crate::core::TargetCore;
use crate::limits::SEND_VECTORS;
use crate::slots::Key;
use crate::state::Phase;

impl TargetCore {
    /// Puts a connection on the list of those with something to send.
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// As [`TargetCore::touch`], and sends at once when much waits behind and with an answer of `answer_bytes`.
    pub(crate) fn touch_sender(&mut self, key: Key, answer_bytes: usize) {
        self.touch(key);
        let Some(connection) = self.connections.get(key) else { return };
        let Phase::Full { session, index } = connection.phase else { return };
        if !connection.send_blocked
            && self
                .sessions
                .get(session)
                .is_some_and(|entry| goes_early(entry.session.tx_queued_bytes(index), answer_bytes))
        {
            self.send(key, Behind::More);
        }
    }

    /// Puts every connection of a session on the list.
    pub(crate) fn touch_session(&mut self, session: Key) {
        let connections = self.sessions.get(session).map(|entry| entry.connections);
        for key in connections.into_iter().flatten().flatten() {
            self.touch(key);
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
        // Sending may have put connections on the list again (a session's events); keep those.
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
    fn send(&mut self, key: Key, behind: Behind) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut gather = Gather::new(&*connection.stream);
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let sent = if connection.preamble.is_empty() {
                let Phase::Full { session, index } = connection.phase else { break };
                let Some(entry) = self.sessions.get_mut(session) else { break };
                let mut vectors = [IoSlice::new(&[]); SEND_VECTORS];
                let count = entry.session.tx_slices(index, &mut vectors);
                if count == 0 {
                    break;
                }
                let sent = gather.send(&mut *connection.stream, &vectors, count, behind);
                if let Ok(sent) = sent {
                    entry.session.tx_advance(index, sent);
                }
                sent
            } else {
                let (front, back) = connection.preamble.as_slices();
                let sent = connection.stream.try_send(&[IoSlice::new(front), IoSlice::new(back)]);
                if let Ok(sent) = sent {
                    connection.preamble.drain(..sent);
                }
                sent
            };
            match sent {
                Ok(0) => return self.touch(key),
                Ok(_) => {}
                Err(StreamError::WouldBlock) => {
                    connection.send_blocked = true;
                    self.group.want_send(key.index());
                    return;
                }
                Err(StreamError::Broken(_)) => return self.lose_connection(key),
            }
        }
        self.after_send(key);
    }

    /// Everything was taken: a connection on its way out closes, a session may say that one shall.
    fn after_send(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        match connection.phase {
            Phase::Closing => self.lose_connection(key),
            Phase::Full { session, .. } => self.drain_later(session),
            _ => {}
        }
    }
}

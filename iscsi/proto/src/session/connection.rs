//! What a session keeps of one connection.

use super::ConnectionParams;
use super::event::CloseCause;
use super::host::Payload;
use super::receive::Receive;
use super::text::TextExchange;
use super::transmit::Transmit;
use super::window::serial_before;

/// Life of a connection in full-feature phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// PDUs are exchanged.
    Open,
    /// A logout was received: input is dropped, the response is still to come.
    Leaving,
    /// What is queued is sent, then the stream is closed.
    Closing(CloseCause),
    /// `CloseConnection` was said.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection<P> {
    pub(crate) cid: u16,
    pub(crate) standing: Standing,
    pub(crate) rx: Receive,
    pub(crate) tx: Transmit<P>,
    stat_sn: u32,
    /// ExpStatSN as the initiator said it: everything before it has arrived there.
    acknowledged_stat_sn: u32,
    /// Largest data segment that the initiator takes.
    pub(crate) segment_bytes_max: usize,
    pub(crate) tasks: usize,
    pub(crate) text: Option<TextExchange>,
    pub(crate) received_ns: u64,
    /// A ping that was not answered: its tag and when it was sent.
    pub(crate) ping: Option<(u32, u64)>,
    pub(crate) stalled_ns: u64,
    pub(crate) backlogged_ns: Option<u64>,
    /// Since when the timers know that the connection is on its way out.
    pub(crate) ending_ns: Option<u64>,
}

impl<P: Payload> Connection<P> {
    pub(crate) fn new(params: &ConnectionParams, now_ns: u64) -> Self {
        let negotiated = &params.negotiated;
        let (header, data) = (negotiated.header_digest.is_on(), negotiated.data_digest.is_on());
        Self {
            cid: params.cid,
            standing: Standing::Open,
            rx: Receive::new(header, data, negotiated.our_max_recv_data_segment_length as usize),
            tx: Transmit::new(header, data),
            stat_sn: params.stat_sn,
            acknowledged_stat_sn: params.stat_sn,
            segment_bytes_max: negotiated.their_max_recv_data_segment_length as usize,
            tasks: 0,
            text: None,
            received_ns: now_ns,
            ping: None,
            stalled_ns: now_ns,
            backlogged_ns: None,
            ending_ns: None,
        }
    }

    /// True while responses make sense.
    pub(crate) fn sends(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::Leaving)
    }

    /// It is on its way out.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.standing, Standing::Leaving | Standing::Closing(_))
    }

    /// StatSN of the next status, not advanced.
    #[inline]
    pub(crate) const fn stat_sn(&self) -> u32 {
        self.stat_sn
    }

    /// StatSN for a PDU that carries a status.
    #[inline]
    pub(crate) fn take_stat_sn(&mut self) -> u32 {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.wrapping_add(1);
        stat_sn
    }

    /// Notes the initiator's ExpStatSN. Nothing is kept for a resend at error recovery level 0, so a value that makes no
    /// sense is just not believed.
    #[inline]
    pub(crate) fn acknowledge(&mut self, exp_stat_sn: u32) {
        let beyond = serial_before(self.stat_sn, exp_stat_sn);
        if serial_before(self.acknowledged_stat_sn, exp_stat_sn) && !beyond {
            self.acknowledged_stat_sn = exp_stat_sn;
        }
    }

    /// Statuses that were sent and not acknowledged.
    pub(crate) const fn unacknowledged(&self) -> u32 {
        self.stat_sn.wrapping_sub(self.acknowledged_stat_sn)
    }
}

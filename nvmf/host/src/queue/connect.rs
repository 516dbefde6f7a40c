//! Connect: which queue of which controller a stream becomes (Base 6.3).

use std::net::SocketAddr;
use std::time::Duration;

use nvme_spec::fabrics::{
    AUTHREQ_SECURE_CHANNEL, AUTHREQ_TRANSACTION, CATTR_DISABLE_SQ_FLOW_CONTROL, CNTLID_DYNAMIC, CNTLID_MAX,
    Connect, ConnectData, ConnectResult, nqn_field,
};
use nvme_spec::{Cqe, Sqe};
use nvmf_proto::{HostData, Negotiated};
use reactor::net::StreamError;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::{Link, QueuePair, Standing};
use crate::config::{ControllerConfig, Digest};
use crate::data::Data;
use crate::error::EndCause;
use crate::limits::ADMIN_QUEUE_ENTRIES;
use crate::turn::Turn;

/// What a queue pair is to become.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Where the controller listens.
    pub address: SocketAddr,
    /// Queue Identifier; 0 is the admin queue.
    pub qid: u16,
    /// Controller Identifier: that of the association, or `None` to make one (admin queue).
    pub cntlid: Option<u16>,
    /// Entries of the submission queue (2..=1024); one less command is in flight at most.
    pub entries: u16,
    /// Keep Alive Timeout in milliseconds (admin queue).
    pub keep_alive_ms: u32,
    /// Header digests.
    pub header_digest: Digest,
    /// Data digests.
    pub data_digest: Digest,
    /// Time for everything until Connect is answered.
    pub timeout: Duration,
    /// Data of Connect.
    data: Box<ConnectData>,
}

impl ConnectRequest {
    /// The admin queue of a new association.
    ///
    /// # Panics
    /// When the configuration was not checked.
    pub fn admin(config: &ControllerConfig) -> Self {
        Self::new(config, 0, None, ADMIN_QUEUE_ENTRIES)
    }

    /// I/O queue `qid` of the association that has controller `cntlid`.
    ///
    /// # Panics
    /// When `qid` is 0, or the configuration was not checked.
    pub fn io(config: &ControllerConfig, cntlid: u16, qid: u16, entries: u16) -> Self {
        assert!(qid > 0, "queue 0 is the admin queue");
        Self::new(config, qid, Some(cntlid), entries)
    }

    fn new(config: &ControllerConfig, qid: u16, cntlid: Option<u16>, entries: u16) -> Self {
        assert!((2..=1024).contains(&entries), "the configuration was checked");
        let field = |nqn: &str| nqn_field(nqn).expect("the configuration was checked");
        let mut data = Box::<ConnectData>::default();
        data.hostid = config.host.id;
        data.cntlid = U16::new(cntlid.unwrap_or(CNTLID_DYNAMIC));
        data.subnqn = field(&config.subsystem_nqn);
        data.hostnqn = field(&config.host.nqn);
        Self {
            address: config.address,
            qid,
            cntlid,
            entries,
            keep_alive_ms: if qid == 0 { config.timeouts.keep_alive.as_millis() as u32 } else { 0 },
            header_digest: config.header_digest,
            data_digest: config.data_digest,
            timeout: config.timeouts.connect,
            data,
        }
    }

    fn sqe(&self) -> Sqe {
        // Without flow control of the submission queue a read may end without a response capsule. The queue pair never has
        // more commands in flight than entries, so nothing is given up.
        let connect = Connect {
            qid: U16::new(self.qid),
            sqsize: U16::new(self.entries - 1),
            cattr: CATTR_DISABLE_SQ_FLOW_CONTROL,
            kato_ms: U32::new(self.keep_alive_ms),
            ..Connect::command()
        };
        *connect.as_sqe()
    }

    /// The CNTLID that an answer gives, or why it is no good.
    pub(super) fn accept(&self, cqe: &Cqe) -> Result<u16, EndCause> {
        if !cqe.status().is_success() {
            return Err(EndCause::Refused(cqe.status()));
        }
        let result = ConnectResult::of(cqe);
        if result.authreq & (AUTHREQ_TRANSACTION | AUTHREQ_SECURE_CHANNEL) != 0 {
            return Err(EndCause::AuthenticationRequired);
        }
        let is_meant = self.cntlid.is_none_or(|cntlid| cntlid == result.cntlid);
        if !is_meant || result.cntlid > CNTLID_MAX {
            return Err(EndCause::Unsuitable(crate::error::Unsuitable::ControllerId));
        }
        Ok(result.cntlid)
    }
}

impl QueuePair {
    /// Takes the stream once it is connected.
    pub(super) fn poll_stream(&mut self, turn: &mut Turn<'_>) {
        let Link::Connecting(connector) = &mut self.link else { return };
        match connector.try_finish() {
            Err(StreamError::WouldBlock) => {}
            Err(StreamError::Broken(errno)) => self.end(EndCause::Network(errno), turn),
            Ok(parcel) => match turn.group.adopt(parcel, self.token) {
                Ok(stream) => {
                    self.link = Link::Open(stream);
                    self.standing = Standing::Initializing;
                }
                Err(error) => self.end(EndCause::Network(error.raw_os_error().unwrap_or(0)), turn),
            },
        }
    }

    pub(super) fn on_initialized(&mut self, negotiated: &Negotiated, turn: &mut Turn<'_>) {
        let declined = self.request.header_digest == Digest::Required && !negotiated.header_digest
            || self.request.data_digest == Digest::Required && !negotiated.data_digest;
        if declined {
            return self.end(EndCause::DigestsDeclined, turn);
        }
        let data = Data::Heap(self.request.data.as_bytes().to_vec());
        let cid = self.queue.submit(self.request.sqe(), HostData::Write(data));
        let cid = cid.expect("an initialized queue without commands takes one");
        self.standing = Standing::Associating { cid };
    }
}

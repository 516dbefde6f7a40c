//! A look at the first capsule of a connection, for an acceptor that must know the subsystem before it chooses a core.
//!
//! The acceptor gives a [`crate::TargetQueue`] of its own the first 128 bytes (an ICReq is that long), keeps the bytes that follow, and
//! asks here until they hold a whole Connect. Then it hands stream, [`Negotiated`] and all those bytes to the core that will own the queue, where
//! [`crate::TargetQueue::resume`] starts from their first one. Nothing is consumed here.

use nvme_spec::fabrics::{Connect, ConnectData, FabricsType};
use nvme_spec::sgl::SglIdentifier;
use nvme_spec::tcp::{CapsuleCmd, DIGEST_BYTES, PduType};
use zerocopy::FromBytes;

use crate::connection::Negotiated;
use crate::error::Violation;
use crate::receive::{Receive, Rules};

/// The longest first capsule that is worth waiting for: header with padding up to the largest PDO, the data of Connect, digests.
pub const CONNECT_BYTES_MAX: usize = u8::MAX as usize + size_of::<ConnectData>() + 2 * DIGEST_BYTES;

/// What the bytes after ICReq are so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// Too few to tell; never at [`CONNECT_BYTES_MAX`] bytes.
    NeedMore,
    /// A whole Connect with its data. The digest of the data is not checked.
    Connect(&'a Connect, &'a ConnectData),
    /// Something else than a Connect whose data is in its capsule. A queue on any core answers it as it should be answered.
    Other,
    /// No PDU at all; a queue on any core answers it with a terminate connection request.
    Violation(Violation),
}

/// Looks at the bytes that came after ICReq.
pub fn first_capsule<'a>(bytes: &'a [u8], negotiated: &Negotiated) -> Peek<'a> {
    let mut rx = Receive::new(Rules::of(negotiated, true));
    let mut input = bytes;
    match rx.collect_header(&mut input) {
        Ok(true) => {}
        Ok(false) => return Peek::NeedMore,
        Err(violation) => return Peek::Violation(violation),
    }
    if rx.frame.pdu_type != PduType::CAPSULE_CMD {
        return Peek::Other;
    }
    let (capsule, _) = CapsuleCmd::ref_from_prefix(bytes).expect("a whole header is there");
    let sgl = &capsule.sqe.dptr;
    let is_connect = capsule.sqe.fabrics_type() == Some(FabricsType::CONNECT)
        && sgl.identifier == SglIdentifier::DATA_BLOCK_OFFSET
        && rx.frame.data_bytes == size_of::<ConnectData>();
    if !is_connect {
        return Peek::Other;
    }
    match input.get(rx.frame.padding_bytes..).map(ConnectData::ref_from_prefix) {
        Some(Ok((data, _))) => Peek::Connect(Connect::view(&capsule.sqe), data),
        _ => Peek::NeedMore,
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::{SglDescriptor, Sqe};
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::testing::wire::Wire;

    fn negotiated(digests: bool, receive_alignment_bytes: u8) -> Negotiated {
        Negotiated {
            header_digest: digests,
            data_digest: digests,
            send_alignment_bytes: 4,
            receive_alignment_bytes,
            r2ts_max: 1,
            h2c_data_bytes_max: 4096,
        }
    }

    fn wire(negotiated: &Negotiated) -> Wire {
        Wire {
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: usize::from(negotiated.receive_alignment_bytes),
        }
    }

    fn connect(sgl: SglDescriptor) -> Sqe {
        let mut connect = Connect::command();
        connect.sgl = sgl;
        *connect.as_sqe()
    }

    #[test]
    fn connect_is_seen_when_its_data_is_there_and_not_before() {
        for (digests, alignment_bytes) in [(false, 4), (true, 4), (false, 128), (true, 128)] {
            let negotiated = negotiated(digests, alignment_bytes);
            let mut data = ConnectData::new_zeroed();
            data.subnqn[..3].copy_from_slice(b"nqn");
            let sqe = connect(SglDescriptor::in_capsule(0, 1024));
            let bytes = wire(&negotiated).capsule(&sqe, data.as_bytes());
            assert!(bytes.len() <= CONNECT_BYTES_MAX);
            let trailer = if digests { 4 } else { 0 };
            for cut in 0..bytes.len() - trailer {
                assert_eq!(first_capsule(&bytes[..cut], &negotiated), Peek::NeedMore, "{cut}");
            }
            let Peek::Connect(command, seen) = first_capsule(&bytes, &negotiated) else { panic!() };
            assert_eq!((command.as_sqe(), seen), (&sqe, &data));
        }
    }

    #[test]
    fn anything_else_is_named_as_such() {
        let plain = negotiated(false, 4);
        let others = [
            (connect(SglDescriptor::transport(1024)), 0),
            (connect(SglDescriptor::in_capsule(0, 512)), 512),
            (Sqe::default(), 0),
        ];
        for (sqe, data_bytes) in others {
            let bytes = wire(&plain).capsule(&sqe, &vec![0; data_bytes]);
            assert_eq!(first_capsule(&bytes, &plain), Peek::Other);
        }
        let data = wire(&plain).h2c_data(0, 0, 0, 0, &[0; 8]);
        assert_eq!(first_capsule(&data, &plain), Peek::Other);
        let digests = negotiated(true, 4);
        let mut bytes = wire(&digests).capsule(&Sqe::default(), &[]);
        bytes[20] ^= 1;
        assert!(matches!(first_capsule(&bytes, &digests), Peek::Violation(Violation::HeaderDigest(_))));
        assert_eq!(first_capsule(&[0xff; 8], &plain), Peek::Violation(Violation::PduType(0xff)));
        assert_eq!(first_capsule(&[0; 8], &plain), Peek::Violation(Violation::InitializedTwice));
    }
}

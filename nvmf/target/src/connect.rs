//! Connect: what a host asks for, and every wrong field by its place (NVMe base, section 6.3).

use std::mem::offset_of;

use nvme_spec::fabrics::{
    CATTR_DISABLE_SQ_FLOW_CONTROL, Connect, ConnectData, FabricsType, InvalidParameter, nqn,
};
use nvme_spec::{Sqe, Status};
use zerocopy::FromBytes;

use crate::limits::{ADMIN_QUEUE_ENTRIES_MAX, IO_QUEUES_MAX};

/// The data of Connect.
pub(crate) const CONNECT_DATA_BYTES: usize = size_of::<ConnectData>();

/// A Connect whose fields make sense by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    /// 0 for the admin queue.
    pub qid: u16,
    /// Entries of the queue, at least 2.
    pub entries: u32,
    /// The host asks for a queue without flow control.
    pub no_flow_control: bool,
    pub kato_ms: u32,
    pub cntlid: u16,
    pub host_id: [u8; 16],
    pub subsystem_nqn: String,
    pub host_nqn: String,
}

/// An answer to a Connect that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectRefusal {
    pub status: Status,
    pub result: u32,
}

impl From<Status> for ConnectRefusal {
    fn from(status: Status) -> Self {
        Self { status: status.with_dnr(), result: 0 }
    }
}

impl From<InvalidParameter> for ConnectRefusal {
    fn from(place: InvalidParameter) -> Self {
        Self { status: Status::CONNECT_INVALID_PARAMETERS.with_dnr(), result: place.dword() }
    }
}

impl ConnectRefusal {
    /// The core or the subsystem has no room; the host may try again.
    pub const BUSY: Self = Self { status: Status::CONNECT_CONTROLLER_BUSY, result: 0 };

    /// A field of the command.
    pub fn command(offset_bytes: usize) -> Self {
        InvalidParameter::command(offset_bytes).into()
    }

    /// A field of the data.
    pub fn data(offset_bytes: usize) -> Self {
        InvalidParameter::data(offset_bytes).into()
    }

    /// SUBNQN names nothing here.
    pub fn subsystem() -> Self {
        Self::data(offset_of!(ConnectData, subnqn))
    }

    /// CNTLID is not one that this host may use here.
    pub fn cntlid() -> Self {
        Self::data(offset_of!(ConnectData, cntlid))
    }

    /// The host is not the one that the controller belongs to.
    pub fn host() -> Self {
        Self::data(offset_of!(ConnectData, hostnqn))
    }

    /// The queue identifier is not one of this controller.
    pub fn qid() -> Self {
        Self::command(offset_of!(Connect, qid))
    }
}

/// True when the command is a Connect.
pub(crate) fn is_connect(sqe: &Sqe) -> bool {
    sqe.fabrics_type() == Some(FabricsType::CONNECT)
}

/// Reads command and data. `entries_max` is the largest I/O queue (MQES + 1).
pub(crate) fn parse(sqe: &Sqe, data: &[u8], entries_max: u16) -> Result<ConnectRequest, ConnectRefusal> {
    let command = Connect::view(sqe);
    if command.recfmt.get() != 0 {
        return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.into());
    }
    let data = ConnectData::ref_from_bytes(data)
        .map_err(|_| ConnectRefusal::from(Status::DATA_SGL_LENGTH_INVALID))?;
    let qid = command.qid.get();
    if qid > IO_QUEUES_MAX {
        return Err(ConnectRefusal::qid());
    }
    let entries_max = if qid == 0 { ADMIN_QUEUE_ENTRIES_MAX.min(entries_max) } else { entries_max };
    let entries = u32::from(command.sqsize.get()) + 1;
    if entries < 2 || entries > u32::from(entries_max) {
        return Err(ConnectRefusal::command(offset_of!(Connect, sqsize)));
    }
    let Some(subsystem_nqn) = nqn(&data.subnqn) else { return Err(ConnectRefusal::subsystem()) };
    let Some(host_nqn) = nqn(&data.hostnqn) else { return Err(ConnectRefusal::host()) };
    Ok(ConnectRequest {
        qid,
        entries,
        no_flow_control: command.cattr & CATTR_DISABLE_SQ_FLOW_CONTROL != 0,
        kato_ms: command.kato_ms.get(),
        cntlid: data.cntlid.get(),
        host_id: data.hostid,
        subsystem_nqn: subsystem_nqn.into(),
        host_nqn: host_nqn.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::fabrics::nqn_field;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::U16;

    fn good() -> (Connect, ConnectData) {
        let command = Connect { sqsize: U16::new(31), ..Connect::command() };
        let data = ConnectData {
            hostid: [7; 16],
            cntlid: U16::new(0xffff),
            subnqn: nqn_field("nqn.2024-01.io.x:s").unwrap(),
            hostnqn: nqn_field("nqn.2024-01.io.x:h").unwrap(),
            ..ConnectData::default()
        };
        (command, data)
    }

    fn ask(command: &Connect, data: &ConnectData) -> Result<ConnectRequest, ConnectRefusal> {
        parse(command.as_sqe(), data.as_bytes(), 1024)
    }

    #[test]
    fn a_good_connect_is_read() {
        let (command, data) = good();
        let request = ask(&command, &data).unwrap();
        assert_eq!((request.qid, request.entries, request.cntlid), (0, 32, 0xffff));
        assert_eq!(request.host_nqn, "nqn.2024-01.io.x:h");
        assert!(is_connect(command.as_sqe()) && !request.no_flow_control);
    }

    /// Reliability list, scenario 100.
    #[test]
    fn each_wrong_field_is_named_by_its_place() {
        type Spoil = fn(&mut Connect, &mut ConnectData);
        let invalid =
            |in_data: u32, ipo: u32| (Status::CONNECT_INVALID_PARAMETERS.with_dnr(), in_data << 16 | ipo);
        let cases: [(Spoil, (Status, u32)); 9] = [
            (|c, _| c.recfmt = U16::new(1), (Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr(), 0)),
            (|c, _| c.sqsize = U16::ZERO, invalid(0, 44)),
            (|c, _| c.sqsize = U16::new(ADMIN_QUEUE_ENTRIES_MAX), invalid(0, 44)),
            (|c, _| (c.qid, c.sqsize) = (U16::new(1), U16::new(1024)), invalid(0, 44)),
            (|c, _| c.qid = U16::new(IO_QUEUES_MAX + 1), invalid(0, 42)),
            (|_, d| d.hostnqn = [b'n'; 256], invalid(1, 512)),
            (|_, d| d.hostnqn = [0; 256], invalid(1, 512)),
            (|_, d| d.hostnqn[..240].fill(b'n'), invalid(1, 512)),
            (|_, d| d.subnqn = [0xff; 256], invalid(1, 256)),
        ];
        for (number, (spoil, expected)) in cases.into_iter().enumerate() {
            let (mut command, mut data) = good();
            spoil(&mut command, &mut data);
            let refusal = ask(&command, &data).unwrap_err();
            assert_eq!((refusal.status, refusal.result), expected, "case {number}");
        }
    }

    #[test]
    fn data_of_another_length_is_no_connect() {
        let (command, data) = good();
        for length in [0, 1, 1023] {
            let refusal = parse(command.as_sqe(), &data.as_bytes()[..length], 1024).unwrap_err();
            assert_eq!(refusal.status, Status::DATA_SGL_LENGTH_INVALID.with_dnr());
        }
    }
}

//! Log pages of one controller, whole; [`cut`] gives the part that a host asks for (NVMe base, section 5.1.12).

use nvme_spec::admin::GetLogPage;
use nvme_spec::discovery::TransportType;
use nvme_spec::feature::FeatureId;
use nvme_spec::log::{
    AnaGroup, AnaHeader, AnaState as WireAnaState, CommandEffects, EFFECT_CONTENT_CHANGE, EFFECT_SUPPORTED,
    ErrorInformation, FirmwareSlot, LOG_SUPPORTED, LogPageId, ReservationNotification,
    ReservationNotificationType, SmartHealth,
};
use nvme_spec::{AdminOpcode, NvmOpcode, Sqe, Status};
use reactor::stats::StatsSet;
use std::collections::{BTreeSet, VecDeque};
use volume::op_stats::OpKind;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::features::{Context, capabilities};
use crate::limits::{
    ADMIN_TRANSFER_BYTES_MAX, ANA_GROUPS_MAX, CHANGED_NAMESPACES_MAX, ERROR_LOG_ENTRIES,
    NAMESPACES_PER_SUBSYSTEM_MAX, RESERVATION_NOTICES_MAX,
};
use crate::setup::AnaState;

/// Composite temperature that is reported: there is no sensor, and 0 K would alarm whoever watches.
const TEMPERATURE_KELVINS: u16 = 273 + 25;

/// Header, NANAGRPID groups and MNAN namespaces (Base 5.1.12.1.14).
const ANA_PAGE_BYTES: usize = size_of::<AnaHeader>()
    + ANA_GROUPS_MAX as usize * size_of::<AnaGroup>()
    + NAMESPACES_PER_SUBSYSTEM_MAX as usize * size_of::<u32>();

/// Offset Type "index" is announced by no page here.
pub(crate) fn check(request: &GetLogPage) -> Result<usize, Status> {
    let length =
        usize::try_from(request.length_bytes).ok().filter(|length| *length <= ADMIN_TRANSFER_BYTES_MAX);
    let aligned = request.offset.is_multiple_of(4);
    length.filter(|_| aligned && !request.offset_is_index).ok_or(Status::INVALID_FIELD.with_dnr())
}

/// The part of a page that is asked for. An offset past its end is refused; a length past it is filled with zeros.
pub(crate) fn cut(mut page: Vec<u8>, offset: u64, length_bytes: usize) -> Result<Vec<u8>, Status> {
    let offset = usize::try_from(offset).ok().filter(|offset| *offset <= page.len());
    let offset = offset.ok_or(Status::INVALID_FIELD.with_dnr())?;
    page.drain(..offset);
    page.resize(length_bytes, 0);
    Ok(page)
}

/// LID 00h.
pub(crate) fn supported_pages(discovery: bool) -> Vec<u8> {
    let mut page = [U32::ZERO; 256];
    let common = [
        LogPageId::SUPPORTED_LOG_PAGES,
        LogPageId::ERROR,
        LogPageId::SMART,
        LogPageId::FIRMWARE_SLOT,
        LogPageId::FEATURES_SUPPORTED_AND_EFFECTS,
    ];
    let io = [
        LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST,
        LogPageId::COMMANDS_SUPPORTED_AND_EFFECTS,
        LogPageId::ANA,
        LogPageId::RESERVATION_NOTIFICATION,
    ];
    let own: &[LogPageId] = if discovery { &[LogPageId::DISCOVERY] } else { &io };
    for lid in common.iter().chain(own) {
        page[usize::from(lid.0)] = U32::new(LOG_SUPPORTED);
    }
    page.as_bytes().to_vec()
}

/// LID 12h.
pub(crate) fn features_supported(context: &Context<'_>) -> Vec<u8> {
    let entry = |id| U32::new(u32::from(capabilities(FeatureId(id), context).is_some()));
    let page: Vec<U32> = (0..=255).map(entry).collect();
    page.as_bytes().to_vec()
}

/// LID 05h.
pub(crate) fn command_effects() -> Vec<u8> {
    let mut page = CommandEffects::default();
    let admin = [
        AdminOpcode::GET_LOG_PAGE,
        AdminOpcode::IDENTIFY,
        AdminOpcode::ABORT,
        AdminOpcode::SET_FEATURES,
        AdminOpcode::GET_FEATURES,
        AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST,
        AdminOpcode::KEEP_ALIVE,
    ];
    for opcode in admin {
        page.admin[usize::from(opcode.0)] = U32::new(EFFECT_SUPPORTED);
    }
    let reading = [
        NvmOpcode::FLUSH,
        NvmOpcode::READ,
        NvmOpcode::COMPARE,
        NvmOpcode::VERIFY,
        NvmOpcode::RESERVATION_REGISTER,
        NvmOpcode::RESERVATION_REPORT,
        NvmOpcode::RESERVATION_ACQUIRE,
        NvmOpcode::RESERVATION_RELEASE,
    ];
    for opcode in reading {
        page.io[usize::from(opcode.0)] = U32::new(EFFECT_SUPPORTED);
    }
    for opcode in [NvmOpcode::WRITE, NvmOpcode::WRITE_ZEROES, NvmOpcode::DATASET_MANAGEMENT, NvmOpcode::COPY]
    {
        page.io[usize::from(opcode.0)] = U32::new(EFFECT_SUPPORTED | EFFECT_CONTENT_CHANGE);
    }
    page.as_bytes().to_vec()
}

/// LID 03h.
pub(crate) fn firmware_slot() -> Vec<u8> {
    let mut page = FirmwareSlot { afi: 1, ..FirmwareSlot::default() };
    page.revision[0] = nvme_spec::discovery::pad_text(env!("CARGO_PKG_VERSION")).unwrap_or([b' '; 8]);
    page.as_bytes().to_vec()
}

/// LID 02h, over the volumes of a subsystem (or of one namespace).
pub(crate) fn smart<'a>(
    volumes: impl Iterator<Item = &'a StatsSet>,
    power_on_hours: u64,
    errors: u64,
) -> Vec<u8> {
    let (mut reads, mut writes, mut read_bytes, mut write_bytes, mut failed) = (0, 0, 0, 0, 0);
    for stats in volumes {
        let (read, write) = (OpKind::Read.entry(stats), OpKind::Write.entry(stats));
        reads += read.operations.get();
        writes += write.operations.get();
        read_bytes += read.bytes.get();
        write_bytes += write.bytes.get();
        failed += stats.ops.iter().map(|(_, op)| op.errors.get()).sum::<u64>();
    }
    let units = |bytes: u64| U128::new(u128::from(bytes.div_ceil(512 * 1000)));
    let page = SmartHealth {
        composite_temperature_kelvins: U16::new(TEMPERATURE_KELVINS),
        available_spare: 100,
        available_spare_threshold: 10,
        data_units_read: units(read_bytes),
        data_units_written: units(write_bytes),
        host_read_commands: U128::new(u128::from(reads)),
        host_write_commands: U128::new(u128::from(writes)),
        power_on_hours: U128::new(u128::from(power_on_hours)),
        media_errors: U128::new(u128::from(failed)),
        error_log_entries: U128::new(u128::from(errors)),
        ..SmartHealth::default()
    };
    page.as_bytes().to_vec()
}

/// A group for the ANA page.
pub(crate) struct GroupView {
    pub group: u32,
    pub state: AnaState,
    pub change_count: u64,
    pub nsids: Vec<u32>,
}

fn wire_state(state: AnaState) -> WireAnaState {
    match state {
        AnaState::Optimized => WireAnaState::OPTIMIZED,
        AnaState::NonOptimized => WireAnaState::NON_OPTIMIZED,
        AnaState::Inaccessible => WireAnaState::INACCESSIBLE,
        AnaState::PersistentLoss => WireAnaState::PERSISTENT_LOSS,
        AnaState::Change => WireAnaState::CHANGE,
    }
}

/// LID 0Ch. The page has the size that Identify Controller implies, whatever there is to say: hosts take it in parts up to there, and
/// an offset past the end of a page is an error.
pub(crate) fn ana(groups: &[GroupView], change_count: u64, groups_only: bool) -> Vec<u8> {
    let header = AnaHeader {
        change_count: U64::new(change_count),
        groups: U16::new(groups.len() as u16),
        ..AnaHeader::default()
    };
    let mut page = header.as_bytes().to_vec();
    for view in groups {
        let nsids: &[u32] = if groups_only { &[] } else { &view.nsids };
        let group = AnaGroup {
            anagrpid: U32::new(view.group),
            namespaces: U32::new(nsids.len() as u32),
            change_count: U64::new(view.change_count),
            state: wire_state(view.state),
            ..AnaGroup::default()
        };
        page.extend_from_slice(group.as_bytes());
        page.extend(nsids.iter().flat_map(|nsid| nsid.to_le_bytes()));
    }
    page.resize(ANA_PAGE_BYTES, 0);
    page
}

/// What a controller has written down for its host.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    changed_namespaces: BTreeSet<u32>,
    notices: VecDeque<ReservationNotification>,
    notice_count: u64,
    errors: VecDeque<ErrorInformation>,
    error_count: u64,
}

impl Logs {
    /// A namespace was attached, detached or changed.
    pub fn namespace_changed(&mut self, nsid: u32) {
        if self.changed_namespaces.len() <= CHANGED_NAMESPACES_MAX {
            self.changed_namespaces.insert(nsid);
        }
    }

    /// LID 04h; reading it forgets it, unless the event is retained.
    pub fn changed_namespaces(&mut self, retain: bool) -> Vec<u8> {
        let changed = self.changed_namespaces.clone();
        if !retain {
            self.changed_namespaces.clear();
        }
        let mut list = [U32::ZERO; CHANGED_NAMESPACES_MAX];
        if changed.len() > CHANGED_NAMESPACES_MAX {
            list[0] = U32::new(u32::MAX);
        } else {
            for (slot, nsid) in list.iter_mut().zip(changed) {
                *slot = U32::new(nsid);
            }
        }
        list.as_bytes().to_vec()
    }

    /// Writes a reservation notification down; the oldest goes when there are too many.
    pub fn notice(&mut self, kind: ReservationNotificationType, nsid: u32) {
        self.notice_count = self.notice_count.checked_add(1).unwrap_or(1);
        if self.notices.len() == RESERVATION_NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(ReservationNotification {
            log_page_count: U64::new(self.notice_count),
            notification_type: kind,
            nsid: U32::new(nsid),
            ..ReservationNotification::default()
        });
    }

    /// LID 80h: the oldest notification, which is then gone unless the event is retained; an empty page when there
    /// is none.
    pub fn notice_page(&mut self, retain: bool) -> Vec<u8> {
        let mut page = self.notices.front().copied().unwrap_or_default();
        page.available_log_pages = self.notices.len().saturating_sub(1) as u8;
        if !retain {
            self.notices.pop_front();
        }
        page.as_bytes().to_vec()
    }

    /// True while notifications wait.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// A command failed for a reason that the host may want to look up.
    pub fn error(&mut self, sqid: u16, sqe: &Sqe, status: Status) {
        self.error_count += 1;
        if self.errors.len() == ERROR_LOG_ENTRIES {
            self.errors.pop_back();
        }
        self.errors.push_front(ErrorInformation {
            error_count: U64::new(self.error_count),
            sqid: U16::new(sqid),
            cid: sqe.cid,
            status: U16::new(status.bits() << 1),
            parameter_error_location: U16::new(0xffff),
            lba: U64::new(sqe.slba()),
            nsid: sqe.nsid,
            trtype: TransportType::TCP,
            opcode: sqe.opcode,
            log_page_version: 1,
            ..ErrorInformation::default()
        });
    }

    /// Errors since the controller was made.
    pub fn error_count(&self) -> u64 {
        self.error_count
    }

    /// LID 01h, the newest first.
    pub fn error_page(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.errors.iter().flat_map(|entry| entry.as_bytes().to_vec()).collect();
        page.resize(ERROR_LOG_ENTRIES * size_of::<ErrorInformation>(), 0);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    /// Reliability list, scenario 101: offset and length overflow.
    #[test]
    fn a_page_is_cut_to_what_is_asked_for() {
        let page: Vec<u8> = (0..100).collect();
        assert_eq!(cut(page.clone(), 96, 8).unwrap(), [96, 97, 98, 99, 0, 0, 0, 0]);
        assert_eq!(cut(page.clone(), 100, 4).unwrap(), [0; 4]);
        assert!(cut(page.clone(), 104, 4).is_err());
        assert!(cut(page, u64::MAX, 4).is_err());
        let request = |length_bytes, offset| GetLogPage { length_bytes, offset, ..GetLogPage::default() };
        assert_eq!(check(&request(512, 0)), Ok(512));
        for wrong in [request(1 << 34, 0), request(512, 2), request(512, u64::MAX)] {
            assert_eq!(check(&wrong), Err(Status::INVALID_FIELD.with_dnr()));
        }
        let index = GetLogPage { offset_is_index: true, ..request(512, 0) };
        assert!(check(&index).is_err());
    }

    #[test]
    fn too_many_changed_namespaces_are_all_of_them() {
        let mut logs = Logs::default();
        logs.namespace_changed(5);
        logs.namespace_changed(3);
        logs.namespace_changed(5);
        assert_eq!(logs.changed_namespaces(true)[..4], [3, 0, 0, 0]);
        assert_eq!(logs.changed_namespaces(false)[..12], [3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(logs.changed_namespaces(false)[..4], [0; 4]);
        for nsid in 0..2000 {
            logs.namespace_changed(nsid);
        }
        assert_eq!(logs.changed_namespaces(false)[..8], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn notifications_come_one_by_one_and_the_oldest_goes_first() {
        let mut logs = Logs::default();
        let kind = ReservationNotificationType::RESERVATION_RELEASED;
        for nsid in 0..=RESERVATION_NOTICES_MAX as u32 {
            logs.notice(kind, nsid);
        }
        let page = ReservationNotification::read_from_bytes(&logs.notice_page(false)).unwrap();
        assert_eq!((page.log_page_count.get(), page.nsid.get()), (2, 1));
        assert_eq!(usize::from(page.available_log_pages), RESERVATION_NOTICES_MAX - 1);
        while logs.has_notices() {
            logs.notice_page(false);
        }
        let empty = ReservationNotification::read_from_bytes(&logs.notice_page(false)).unwrap();
        assert_eq!(empty, ReservationNotification::default());
    }

    #[test]
    fn the_error_log_keeps_the_newest() {
        let mut logs = Logs::default();
        for _ in 0..20 {
            logs.error(1, &Sqe::flush(1), Status::INVALID_FIELD);
        }
        let page = logs.error_page();
        let first = ErrorInformation::read_from_bytes(&page[..64]).unwrap();
        assert_eq!((first.error_count.get(), first.sqid.get(), first.status.get()), (20, 1, 4));
        assert_eq!((page.len(), logs.error_count()), (1024, 20));
    }

    #[test]
    fn groups_are_listed_with_their_namespaces_unless_only_groups_are_asked_for() {
        let groups =
            [GroupView { group: 2, state: AnaState::Inaccessible, change_count: 4, nsids: vec![1, 3] }];
        let page = ana(&groups, 9, false);
        assert_eq!(page[48..56], [1, 0, 0, 0, 3, 0, 0, 0]);
        let group = AnaGroup::read_from_bytes(&page[16..48]).unwrap();
        assert_eq!((group.ana_state(), group.namespaces.get()), (WireAnaState::INACCESSIBLE, 2));
        let groups_only = ana(&groups, 9, true);
        assert!(groups_only[44..].iter().all(|byte| *byte == 0) && page[56..].iter().all(|byte| *byte == 0));
        // nvme-cli reads the longest page that Identify allows, 4 KiB at a time.
        assert_eq!((page.len(), groups_only.len()), (16 + 32 * 32 + 1024 * 4, 5136));
        assert!(cut(page, 4096, 1040).is_ok());
    }
}

//! The data of Identify, built from what a subsystem is (NVMe base, section 5.1.13; NVM, section 4.1.5).

use nvme_spec::discovery::pad_text;
use nvme_spec::fabrics::nqn_field;
use nvme_spec::identify::controller::{
    ANACAP_CHANGE, ANACAP_INACCESSIBLE, ANACAP_NON_OPTIMIZED, ANACAP_OPTIMIZED, ANACAP_PERSISTENT_LOSS,
    CMIC_ANA, CMIC_MULTI_CONTROLLER, CMIC_MULTI_PORT, CTRATT_HOST_IDENTIFIER_128,
    CTRATT_TRAFFIC_BASED_KEEP_ALIVE, ControllerType, FUSES_COMPARE_AND_WRITE, IdentifyController,
    IdentifyControllerNvm, LPA_COMMAND_EFFECTS, LPA_EXTENDED_DATA, LPA_SUPPORTED_LOG_PAGES, OFCS_DISCONNECT,
    ONCS_COMPARE, ONCS_COPY, ONCS_DATASET_MANAGEMENT, ONCS_RESERVATIONS, ONCS_SAVE_SELECT, ONCS_VERIFY,
    ONCS_WRITE_ZEROES, SGLS_OFFSET, SGLS_SUPPORTED, SGLS_TRANSPORT, VWC_FLUSH_ALL_SUPPORTED, VWC_PRESENT,
};
use nvme_spec::identify::namespace::{
    DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES_DEALLOCATES, IdentifyNamespace, IdentifyNamespaceIndependent,
    LbaFormat, NMIC_SHARED, NSFEAT_ATOMIC, NSFEAT_OPTIMAL_PERFORMANCE, NSFEAT_THIN,
    NSFEAT_UNIQUE_IDS_NOT_REUSED, NSTAT_READY, RESCAP_ALL_TYPES, RESCAP_IGNORE_EXISTING_KEY,
    RESCAP_PERSIST_THROUGH_POWER_LOSS,
};
use nvme_spec::identify::{
    CONTROLLER_LIST_MAX, CommandSet, CommandSetVectors, ControllerList, NAMESPACE_LIST_MAX, NamespaceIdType,
    NamespaceList, put_namespace_descriptor,
};
use volume::bdev::BdevInfo;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::features::supported_events;
use crate::limits::{
    ABORTS_MAX, ANA_GROUPS_MAX, ASYNC_EVENTS_MAX, COMPARE_AND_WRITE_BYTES_MAX, COPY_BYTES_MAX,
    COPY_RANGES_MAX, ERROR_LOG_ENTRIES, KAS, MDTS, NAMESPACES_PER_SUBSYSTEM_MAX,
};
use crate::registers::VERSION;
use crate::setup::Settings;

/// The firmware revision: this program's version.
const REVISION: &str = env!("CARGO_PKG_VERSION");
/// ANA state Change lasts at most so long.
const ANA_TRANSITION_SECONDS: u8 = 10;

/// What a controller says of itself.
pub(crate) struct ControllerView<'a> {
    pub settings: &'a Settings,
    pub discovery: bool,
    pub cntlid: u16,
    pub nqn: &'a str,
    pub serial: &'a str,
    pub model: &'a str,
    /// Some namespace has a volatile write cache.
    pub volatile_write_cache: bool,
}

/// ASCII, padded with spaces; what is too long is cut and what is not ASCII becomes a question mark.
fn text<const BYTES: usize>(value: &str) -> [u8; BYTES] {
    let plain: String =
        value.chars().take(BYTES).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    pad_text(&plain).expect("cut to ASCII of the right length")
}

/// CNS 01h.
pub(crate) fn controller(view: &ControllerView<'_>) -> Vec<u8> {
    let mut data = IdentifyController {
        sn: text(view.serial),
        mn: text(view.model),
        fr: text(REVISION),
        mdts: MDTS,
        cntlid: U16::new(view.cntlid),
        ver: U32::new(VERSION.0),
        oaes: U32::new(supported_events(view.discovery).0),
        ctratt: U32::new(CTRATT_HOST_IDENTIFIER_128 | CTRATT_TRAFFIC_BASED_KEEP_ALIVE),
        cntrltype: if view.discovery { ControllerType::DISCOVERY } else { ControllerType::IO },
        acl: ABORTS_MAX - 1,
        aerl: (ASYNC_EVENTS_MAX - 1) as u8,
        // One slot, read only: the revision is what runs.
        frmw: 0x03,
        lpa: LPA_EXTENDED_DATA | LPA_SUPPORTED_LOG_PAGES,
        elpe: (ERROR_LOG_ENTRIES - 1) as u8,
        kas_100ms: U16::new(KAS),
        cqt_ms: U16::new(u16::try_from(view.settings.quiesce_time.as_millis()).unwrap_or(u16::MAX)),
        maxcmd: U16::new(view.settings.queue_entries_max),
        sgls: U32::new(SGLS_SUPPORTED | SGLS_OFFSET | SGLS_TRANSPORT),
        subnqn: nqn_field(view.nqn).unwrap_or([0; 256]),
        ..IdentifyController::default()
    };
    if !view.discovery {
        add_io_part(&mut data, view);
    }
    data.as_bytes().to_vec()
}

/// What only controllers with namespaces have.
fn add_io_part(data: &mut IdentifyController, view: &ControllerView<'_>) {
    data.cmic = CMIC_MULTI_PORT | CMIC_MULTI_CONTROLLER | CMIC_ANA;
    data.lpa |= LPA_COMMAND_EFFECTS;
    data.anatt_seconds = ANA_TRANSITION_SECONDS;
    data.anacap = ANACAP_OPTIMIZED
        | ANACAP_NON_OPTIMIZED
        | ANACAP_INACCESSIBLE
        | ANACAP_PERSISTENT_LOSS
        | ANACAP_CHANGE;
    data.anagrpmax = U32::new(ANA_GROUPS_MAX);
    data.nanagrpid = U32::new(ANA_GROUPS_MAX);
    (data.sqes, data.cqes) = (0x66, 0x44);
    data.nn = U32::new(NAMESPACES_PER_SUBSYSTEM_MAX);
    data.mnan = U32::new(NAMESPACES_PER_SUBSYSTEM_MAX);
    data.oncs = U16::new(
        ONCS_COMPARE
            | ONCS_DATASET_MANAGEMENT
            | ONCS_WRITE_ZEROES
            | ONCS_SAVE_SELECT
            | ONCS_RESERVATIONS
            | ONCS_VERIFY
            | ONCS_COPY,
    );
    data.fuses = U16::new(FUSES_COMPARE_AND_WRITE);
    data.vwc = VWC_FLUSH_ALL_SUPPORTED | if view.volatile_write_cache { VWC_PRESENT } else { 0 };
    // Copy descriptor format 0. The atomic units hold for every namespace: one block; each namespace says its own.
    data.cdfs = U16::new(1);
    data.set_in_capsule_bytes(view.settings.in_capsule_bytes as u32);
    data.iorcsz = U32::new(1);
    data.msdbd = 1;
    data.ofcs = U16::new(OFCS_DISCONNECT);
    // The maximum power of the one power state is not known; its latencies are none.
}

/// CNS 06h, CSI 00h. Verify reads as much as MDTS; the rest has no limit but that of its fields.
pub(crate) fn controller_nvm() -> Vec<u8> {
    IdentifyControllerNvm { vsl: MDTS, ..IdentifyControllerNvm::default() }.as_bytes().to_vec()
}

/// What a namespace says of itself.
pub(crate) struct NamespaceView<'a> {
    pub info: &'a BdevInfo,
    pub ana_group: u32,
    /// Bytes that it occupies, where that is known.
    pub allocated_bytes: Option<u64>,
}

/// A true count as a field that counts from 0, cut to what the field holds.
fn less_one(blocks: u64) -> U16 {
    U16::new(u16::try_from(blocks.saturating_sub(1)).unwrap_or(u16::MAX))
}

/// CNS 00h.
pub(crate) fn namespace(view: &NamespaceView<'_>) -> Vec<u8> {
    let info = view.info;
    let block_bytes = u64::from(info.logical_block_bytes);
    let used = view.allocated_bytes.filter(|_| info.thin).map(|bytes| bytes.div_ceil(block_bytes));
    // What every Write does; NVMe has no command that asks for more.
    let atomic = less_one(u64::from(info.write_unit_blocks));
    let preferred = less_one(u64::from(info.physical_block_bytes) / block_bytes);
    let unmapped = less_one(u64::from(info.unmap_granularity_blocks));
    let copy_blocks = COPY_BYTES_MAX as u64 / block_bytes;
    let mut data = IdentifyNamespace {
        nsze_blocks: U64::new(info.length_blocks),
        ncap_blocks: U64::new(info.length_blocks),
        nuse_blocks: U64::new(used.unwrap_or(info.length_blocks).min(info.length_blocks)),
        nsfeat: NSFEAT_ATOMIC
            | NSFEAT_OPTIMAL_PERFORMANCE
            | NSFEAT_UNIQUE_IDS_NOT_REUSED
            | if info.thin { NSFEAT_THIN } else { 0 },
        nmic: NMIC_SHARED,
        rescap: RESCAP_PERSIST_THROUGH_POWER_LOSS | RESCAP_ALL_TYPES | RESCAP_IGNORE_EXISTING_KEY,
        dlfeat: DLFEAT_READS_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATES,
        nawun: atomic,
        nawupf: atomic,
        nacwu: less_one(COMPARE_AND_WRITE_BYTES_MAX as u64 / block_bytes),
        nvmcap_bytes: U128::new(u128::from(info.length_blocks) * u128::from(block_bytes)),
        npwg: preferred,
        npwa: preferred,
        npdg: unmapped,
        npda: unmapped,
        mssrl_blocks: U16::new(u16::try_from(copy_blocks).unwrap_or(u16::MAX)),
        mcl_blocks: U32::new(copy_blocks as u32),
        msrc: (COPY_RANGES_MAX - 1) as u8,
        anagrpid: U32::new(view.ana_group),
        nguid: *info.uuid.as_bytes(),
        ..IdentifyNamespace::default()
    };
    data.lbaf[0] =
        LbaFormat { lbads: info.logical_block_bytes.trailing_zeros() as u8, ..LbaFormat::default() };
    data.as_bytes().to_vec()
}

/// CNS 08h.
pub(crate) fn namespace_independent(view: &NamespaceView<'_>) -> Vec<u8> {
    let data = IdentifyNamespaceIndependent {
        nsfeat: NSFEAT_UNIQUE_IDS_NOT_REUSED,
        nmic: NMIC_SHARED,
        rescap: RESCAP_PERSIST_THROUGH_POWER_LOSS | RESCAP_ALL_TYPES | RESCAP_IGNORE_EXISTING_KEY,
        anagrpid: U32::new(view.ana_group),
        nstat: NSTAT_READY,
        ..IdentifyNamespaceIndependent::default()
    };
    data.as_bytes().to_vec()
}

/// CNS 03h: UUID, the same as NGUID, and the command set.
pub(crate) fn namespace_descriptors(info: &BdevInfo) -> Vec<u8> {
    let mut data = vec![0; 4096];
    let uuid = info.uuid.as_bytes();
    let fields: [(NamespaceIdType, &[u8]); 3] = [
        (NamespaceIdType::UUID, uuid),
        (NamespaceIdType::NGUID, uuid),
        (NamespaceIdType::COMMAND_SET, &[CommandSet::NVM.0]),
    ];
    let mut at = 0;
    for (id_type, id) in fields {
        at = put_namespace_descriptor(&mut data, at, id_type, id).expect("three descriptors fit");
    }
    data
}

/// CNS 02h, 07h, 10h, 1Ah: identifiers above `after`, in order.
pub(crate) fn namespace_list(nsids: impl Iterator<Item = u32>, after: u32) -> Vec<u8> {
    let mut data = NamespaceList::default();
    for (slot, nsid) in data.nsid.iter_mut().zip(nsids.filter(|nsid| *nsid > after).take(NAMESPACE_LIST_MAX))
    {
        *slot = U32::new(nsid);
    }
    data.as_bytes().to_vec()
}

/// CNS 12h, 13h: controllers from `first` on, in order.
pub(crate) fn controller_list(sorted: &[u16], first: u16) -> Vec<u8> {
    let mut data = ControllerList::default();
    let listed: Vec<u16> =
        sorted.iter().copied().filter(|id| *id >= first).take(CONTROLLER_LIST_MAX).collect();
    data.count = U16::new(listed.len() as u16);
    for (slot, cntlid) in data.cntlid.iter_mut().zip(&listed) {
        *slot = U16::new(*cntlid);
    }
    data.as_bytes().to_vec()
}

/// CNS 1Ch: one combination, the NVM Command Set alone.
pub(crate) fn command_sets() -> Vec<u8> {
    let mut data = CommandSetVectors::default();
    data.vector[0] = U64::new(1 << CommandSet::NVM.0);
    data.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    fn info() -> BdevInfo {
        BdevInfo {
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            length_blocks: 1 << 21,
            volatile_write_cache: true,
            thin: true,
            unmap_granularity_blocks: 8,
            write_unit_blocks: 4,
            atomic_write_blocks: 256,
            uuid: uuid::Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
        }
    }

    #[test]
    fn a_controller_says_what_it_can() {
        let settings = Settings::default();
        let view = ControllerView {
            settings: &settings,
            discovery: false,
            cntlid: 7,
            nqn: "nqn.x:s",
            serial: "SERIAL\u{e9}-that-is-longer-than-twenty",
            model: "Vega",
            volatile_write_cache: true,
        };
        let data = IdentifyController::read_from_bytes(&controller(&view)).unwrap();
        assert_eq!(&data.sn, b"SERIAL?-that-is-long");
        assert_eq!((data.mdts, data.cntlid.get(), data.vwc), (8, 7, 0b111));
        assert_eq!(data.in_capsule_bytes(), 16 * 1024);
        assert_eq!(data.oncs.get() & 2, 0, "Write Uncorrectable is not offered");
        assert_eq!((data.sqes, data.cqes, data.nn.get()), (0x66, 0x44, 1024));
        assert_eq!(data.cqt_ms.get(), 10_000);
        let discovery = ControllerView { discovery: true, volatile_write_cache: false, ..view };
        let data = IdentifyController::read_from_bytes(&controller(&discovery)).unwrap();
        assert_eq!((data.cntrltype, data.oncs.get(), data.nn.get()), (ControllerType::DISCOVERY, 0, 0));
        assert_eq!(data.oaes.get(), 1 << 31);
    }

    #[test]
    fn a_namespace_reports_its_device_truthfully() {
        let info = info();
        let view = NamespaceView { info: &info, ana_group: 3, allocated_bytes: Some(1_000_000) };
        let data = IdentifyNamespace::read_from_bytes(&namespace(&view)).unwrap();
        assert_eq!((data.nsze_blocks.get(), data.nuse_blocks.get()), (1 << 21, 1954));
        assert_eq!((data.nawun.get(), data.nawupf.get(), data.npwg.get(), data.npdg.get()), (3, 3, 7, 7));
        assert_eq!((data.block_bytes(), data.anagrpid.get(), data.dlfeat), (Some(512), 3, 0b1001));
        assert_eq!((data.mssrl_blocks.get(), data.mcl_blocks.get(), data.msrc), (2048, 2048, 127));
        assert_eq!(data.nguid, *info.uuid.as_bytes());
        let thick = BdevInfo { thin: false, ..info };
        let view = NamespaceView { info: &thick, ana_group: 1, allocated_bytes: Some(0) };
        let data = IdentifyNamespace::read_from_bytes(&namespace(&view)).unwrap();
        assert_eq!((data.nuse_blocks.get(), data.nsfeat & NSFEAT_THIN), (1 << 21, 0));
    }

    #[test]
    fn lists_begin_where_the_host_says() {
        let list = NamespaceList::read_from_bytes(&namespace_list([1, 2, 9].into_iter(), 1)).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [2, 9]);
        let list = ControllerList::read_from_bytes(&controller_list(&[3, 4, 8], 4)).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [4, 8]);
        let list = namespace_descriptors(&info());
        let kinds: Vec<_> =
            nvme_spec::identify::namespace_descriptors(&list).map(|(kind, id)| (kind.0, id.len())).collect();
        assert_eq!(kinds, [(3, 16), (2, 16), (4, 1)]);
    }
}

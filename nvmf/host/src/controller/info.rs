//! What Identify says, checked: nothing that a controller or namespace claims is used before it has passed here.

use std::time::Duration;

use nvme_spec::fabrics;
use nvme_spec::feature::EventConfiguration;
use nvme_spec::identify::controller::{
    CMIC_ANA, CTRATT_TRAFFIC_BASED_KEEP_ALIVE, ControllerType, FUSES_COMPARE_AND_WRITE, ONCS_COMPARE,
    ONCS_WRITE_ZEROES, VWC_PRESENT,
};
use nvme_spec::identify::namespace::{
    DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES_DEALLOCATES, NSFEAT_ATOMIC, NSFEAT_OPTIMAL_PERFORMANCE,
};
use nvme_spec::identify::{IdentifyController, IdentifyNamespace, NamespaceIdType, namespace_descriptors};
use uuid::Uuid;
use volume::bdev::BdevInfo;

use crate::config::ControllerConfig;
use crate::error::Unsuitable;
use crate::limits::{ANA_GROUPS_MAX, EVENT_REQUESTS_MAX, TRANSFER_BYTES};

/// Page size behind MDTS: CAP.MPSMIN of a Fabrics controller as it was read.
const PAGE_BYTES_LOG2_MIN: u32 = 12;

/// A controller, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Controller Identifier.
    pub cntlid: u16,
    /// Serial, model and firmware, as it calls itself.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// Most bytes of one command.
    pub transfer_bytes_max: u64,
    /// Write data that goes in the capsule of an I/O command, in bytes.
    pub in_capsule_bytes: u32,
    /// Any command counts as keep alive.
    pub traffic_based_keep_alive: bool,
    /// Command Quiesce Time; `None` when it is not reported.
    pub command_quiesce_time: Option<Duration>,
    /// Reports ANA states.
    pub ana: bool,
    /// ANA groups that it may have.
    pub ana_groups: u32,
    /// Events that it can report.
    pub events: EventConfiguration,
    /// Asynchronous Event Requests that are kept with it.
    pub event_requests: u8,
    /// Volatile write cache.
    pub volatile_write_cache: bool,
    /// AWUPF: blocks that are written all or nothing across a power failure.
    pub atomic_write_blocks: u32,
    /// Compare is supported.
    pub compares: bool,
    /// ACWU: blocks of a fused compare and write, of a namespace that says nothing else; 0 where it is not supported.
    pub compare_and_write_blocks: u32,
}

impl ControllerInfo {
    /// Checks what Identify Controller said. `page_shift` is CAP.MPSMIN.
    pub fn new(
        identify: &IdentifyController,
        config: &ControllerConfig,
        cntlid: u16,
        page_shift: u32,
    ) -> Result<Self, Unsuitable> {
        let info = Self::read(identify, page_shift);
        if info.cntlid != cntlid {
            return Err(Unsuitable::ControllerId);
        }
        let wanted = if config.is_discovery() { ControllerType::DISCOVERY } else { ControllerType::IO };
        if ![wanted, ControllerType::NOT_REPORTED].contains(&identify.cntrltype) {
            return Err(Unsuitable::ControllerType);
        }
        if config.is_discovery() {
            return Ok(info);
        }
        if fabrics::nqn(&identify.subnqn) != Some(&config.subsystem_nqn) {
            return Err(Unsuitable::SubsystemName);
        }
        if identify.kas_100ms.get() == 0 {
            return Err(Unsuitable::KeepAlive);
        }
        let capsules = identify.sqes & 0x0f == 6 && identify.cqes & 0x0f == 4 && identify.icdoff.get() == 0;
        if !capsules || identify.ioccsz.get() < 4 {
            return Err(Unsuitable::Capsules);
        }
        if info.transfer_bytes_max < config.transfer_bytes {
            let (allowed_bytes, needed_bytes) = (info.transfer_bytes_max, config.transfer_bytes);
            return Err(Unsuitable::TransferLimit { allowed_bytes, needed_bytes });
        }
        if identify.oncs.get() & ONCS_WRITE_ZEROES == 0 {
            return Err(Unsuitable::WriteZeroes);
        }
        Ok(info)
    }

    fn read(identify: &IdentifyController, page_shift: u32) -> Self {
        let shift = u32::from(identify.mdts) + page_shift + PAGE_BYTES_LOG2_MIN;
        // What is beyond 32 bits is no limit.
        let has_limit = identify.mdts > 0 && shift < 32;
        let quiesce_ms = identify.cqt_ms.get();
        let compares = identify.oncs.get() & ONCS_COMPARE != 0;
        let fuses = compares && identify.fuses.get() & FUSES_COMPARE_AND_WRITE != 0;
        Self {
            cntlid: identify.cntlid.get(),
            serial: text(&identify.sn),
            model: text(&identify.mn),
            firmware: text(&identify.fr),
            transfer_bytes_max: if has_limit { 1 << shift } else { u64::MAX },
            in_capsule_bytes: u32::try_from(identify.in_capsule_bytes()).unwrap_or(0),
            traffic_based_keep_alive: identify.ctratt.get() & CTRATT_TRAFFIC_BASED_KEEP_ALIVE != 0,
            command_quiesce_time: (quiesce_ms > 0).then(|| Duration::from_millis(quiesce_ms.into())),
            ana: identify.cmic & CMIC_ANA != 0,
            ana_groups: identify.nanagrpid.get().min(ANA_GROUPS_MAX),
            events: EventConfiguration(identify.oaes.get()),
            event_requests: identify.aerl.saturating_add(1).min(EVENT_REQUESTS_MAX),
            volatile_write_cache: identify.vwc & VWC_PRESENT != 0,
            atomic_write_blocks: u32::from(identify.awupf.get()) + 1,
            compares,
            compare_and_write_blocks: if fuses { u32::from(identify.acwu.get()) + 1 } else { 0 },
        }
    }
}

fn text(field: &[u8]) -> String {
    let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    field.iter().map(printable).collect::<String>().trim_end_matches([' ', '?']).to_owned()
}

/// A namespace, as one controller describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Namespace Identifier.
    pub nsid: u32,
    /// What it is as a block device.
    pub bdev: BdevInfo,
    /// ANA Group Identifier.
    pub anagrpid: u32,
    /// Write Zeroes with Deallocate frees blocks.
    pub deallocates: bool,
    /// Compare is supported.
    pub compares: bool,
    /// Blocks of a fused compare and write that are one operation; 0 where it is not supported.
    pub compare_and_write_blocks: u32,
}

/// The identity of a namespace: its UUID, else its NGUID; `None` when it has neither.
pub fn identity(descriptors: &[u8]) -> Option<Uuid> {
    let find = |wanted: NamespaceIdType| {
        let mut all = namespace_descriptors(descriptors);
        let id = all.find(|(id_type, id)| *id_type == wanted && id.len() == 16)?.1;
        Uuid::from_slice(id).ok().filter(|uuid| !uuid.is_nil())
    };
    find(NamespaceIdType::UUID).or_else(|| find(NamespaceIdType::NGUID))
}

impl NamespaceInfo {
    /// Checks what Identify Namespace said; `None` when the namespace cannot be used (block size, metadata, size, identity).
    pub fn new(
        nsid: u32,
        identify: &IdentifyNamespace,
        uuid: Option<Uuid>,
        controller: &ControllerInfo,
    ) -> Option<Self> {
        let block_bytes = identify.block_bytes().filter(|bytes| [512, 4096].contains(bytes))?;
        let has_metadata = identify.lbaf[identify.format_index()].metadata_bytes.get() != 0;
        let length_blocks = identify.nsze_blocks.get();
        // The last byte must have an offset.
        length_blocks.checked_mul(block_bytes.into())?;
        if has_metadata || length_blocks == 0 {
            return None;
        }
        let has = |bit: u8| identify.nsfeat & bit != 0;
        let granule =
            |less_one: u16| if has(NSFEAT_OPTIMAL_PERFORMANCE) { u32::from(less_one) + 1 } else { 1 };
        let own_atomic = has(NSFEAT_ATOMIC).then(|| u32::from(identify.nawupf.get()) + 1);
        // With boundaries a run of that length is atomic only where it crosses none: promise one block.
        let has_boundary = has(NSFEAT_ATOMIC) && identify.nabspf.get() != 0;
        let atomic = own_atomic.unwrap_or(controller.atomic_write_blocks);
        let fused = match controller.compare_and_write_blocks {
            0 => 0,
            // NABSN: across a boundary it would not be one operation.
            _ if has(NSFEAT_ATOMIC) && identify.nabsn.get() != 0 => 1,
            _ if has(NSFEAT_ATOMIC) => u32::from(identify.nacwu.get()) + 1,
            blocks => blocks,
        };
        let zeroes = identify.dlfeat & 0b111 == DLFEAT_READS_ZEROES;
        let deallocates = identify.dlfeat & DLFEAT_WRITE_ZEROES_DEALLOCATES != 0 && zeroes;
        Some(Self {
            nsid,
            bdev: BdevInfo {
                logical_block_bytes: block_bytes,
                physical_block_bytes: granule(identify.npwg.get()).checked_mul(block_bytes)?,
                length_blocks,
                volatile_write_cache: controller.volatile_write_cache,
                thin: deallocates,
                unmap_granularity_blocks: granule(identify.npdg.get()),
                write_unit_blocks: if has_boundary { 1 } else { atomic },
                atomic_write_blocks: if has_boundary { 1 } else { atomic },
                uuid: uuid?,
            },
            anagrpid: identify.anagrpid.get(),
            deallocates,
            compares: controller.compares,
            compare_and_write_blocks: fused.min(TRANSFER_BYTES as u32 / block_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::fabrics::nqn_field;
    use zerocopy::little_endian::{U16, U32};

    use super::*;
    use crate::config::HostIdentity;

    /// SPDK's target takes 128 KiB in one command (MDTS 5).
    #[test]
    fn a_controller_must_take_what_is_asked_for_in_one_command_and_no_more() {
        let nqn = "nqn.x:s";
        let mut page = IdentifyController {
            cntlid: U16::new(3),
            cntrltype: ControllerType::IO,
            mdts: 5,
            kas_100ms: U16::new(1),
            sqes: 0x66,
            cqes: 0x44,
            oncs: U16::new(ONCS_WRITE_ZEROES),
            ioccsz: U32::new(4),
            subnqn: nqn_field(nqn).unwrap(),
            ..IdentifyController::default()
        };
        let host = HostIdentity { nqn: "nqn.x:h".into(), id: [1; 16] };
        let config = |transfer_bytes| {
            let address = "10.0.0.1:4420".parse().unwrap();
            ControllerConfig { transfer_bytes, ..ControllerConfig::new(address, nqn, host.clone()) }
        };
        let look = |page: &IdentifyController, transfer_bytes| {
            ControllerInfo::new(page, &config(transfer_bytes), 3, 0).map(|info| info.transfer_bytes_max)
        };
        assert_eq!(look(&page, 128 << 10), Ok(128 << 10));
        let limit = Unsuitable::TransferLimit { allowed_bytes: 128 << 10, needed_bytes: 256 << 10 };
        assert_eq!(look(&page, 256 << 10), Err(limit));
        page.mdts = 0;
        assert_eq!(look(&page, 256 << 10), Ok(u64::MAX), "no limit is reported");
    }
}

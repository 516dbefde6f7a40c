//! A namespace: what it is, checked, and where it stands now.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use nvme_spec::identify::namespace::{
    DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES_DEALLOCATES, NSATTR_WRITE_PROTECTED, NSFEAT_ATOMIC,
    NSFEAT_OPTIMAL_PERFORMANCE,
};
use nvme_spec::identify::{CommandSet, IdentifyNamespace, NamespaceIdType, namespace_descriptors};
use nvme_spec::nvm::COMMAND_BLOCKS_MAX;

use crate::error::Refusal;
use crate::info::{ControllerIdentity, ControllerInfo};

/// The largest namespace, in bytes: its offsets fit a signed number.
const LENGTH_BYTES_MAX: u64 = 1 << 62;

/// The globally unique identifiers of a namespace; zeros where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceIds {
    /// UUID, in the byte order of RFC 9562.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
    /// IEEE Extended Unique Identifier.
    pub eui64: [u8; 8],
}

/// How blocks are made to read zeros, and freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroMeans {
    /// Write Zeroes is there; else zeros are written.
    pub write_zeroes: bool,
    /// Write Zeroes frees the blocks when told to, and they read zeros whether it does or not.
    pub deallocates: bool,
    /// Dataset Management may free blocks, and freed ones read zeros. It may also do nothing, so the blocks are zeroed before.
    pub dsm: bool,
}

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Namespace Identifier.
    pub nsid: u32,
    /// Who it is.
    pub ids: NamespaceIds,
    /// 512 or 4096.
    pub block_bytes: u32,
    /// Blocks when it was looked at; [`Namespace::length_blocks`] says how many now.
    pub length_blocks: u64,
    /// Most blocks of one command with data.
    pub transfer_blocks_max: u32,
    /// Most blocks of one Write Zeroes.
    pub zero_blocks_max: u32,
    /// Most blocks of one Verify.
    pub verify_blocks_max: u32,
    /// Most blocks of one range of Dataset Management.
    pub dsm_blocks_max: u32,
    /// Commands do not cross a multiple of so many blocks, unless they are short enough to be atomic; 0 is no boundary.
    pub boundary_blocks: u32,
    /// Any run of so many blocks is written all or nothing, also when the power fails.
    pub atomic_write_blocks: u32,
    /// The unit in which writes cost no read.
    pub physical_block_bytes: u32,
    /// The unit in which blocks are freed.
    pub deallocate_blocks: u32,
    /// How blocks are made to read zeros.
    pub zero: ZeroMeans,
    /// Acknowledged writes may be lost with the power until a flush.
    pub volatile_write_cache: bool,
    /// It takes no writes.
    pub write_protected: bool,
}

impl NamespaceInfo {
    /// Checks what Identify Namespace and the descriptor list (if there is one) said.
    pub(crate) fn new(
        nsid: u32,
        identify: &IdentifyNamespace,
        descriptors: Option<&[u8]>,
        controller: &ControllerInfo,
    ) -> Result<Self, Refusal> {
        let (ids, csi) = identity(identify, descriptors.unwrap_or_default());
        if csi != CommandSet::NVM {
            return Err(Refusal::CommandSet { csi: csi.0 });
        }
        let metadata = identify.lbaf[identify.format_index()].metadata_bytes.get();
        if metadata != 0 {
            return Err(Refusal::Metadata { bytes: metadata });
        }
        if identify.dps & 0b111 != 0 {
            return Err(Refusal::Protection);
        }
        let block_bytes = identify.block_bytes().unwrap_or(0);
        if !matches!(block_bytes, 512 | 4096) {
            return Err(Refusal::BlockSize { bytes: block_bytes });
        }
        let blocks = identify.nsze_blocks.get();
        if blocks == 0 || blocks > LENGTH_BYTES_MAX / u64::from(block_bytes) {
            return Err(Refusal::Size { blocks });
        }
        Ok(Self::checked(nsid, identify, ids, block_bytes, controller))
    }

    fn checked(
        nsid: u32,
        identify: &IdentifyNamespace,
        ids: NamespaceIds,
        block_bytes: u32,
        controller: &ControllerInfo,
    ) -> Self {
        let in_blocks = |bytes: Option<u64>| {
            let blocks = bytes.unwrap_or(u64::MAX) / u64::from(block_bytes);
            blocks.clamp(1, u64::from(COMMAND_BLOCKS_MAX)) as u32
        };
        let transfer_blocks_max = in_blocks(Some(controller.transfer_bytes_max));
        let reads_zeros = identify.dlfeat & 0b111 == DLFEAT_READS_ZEROES;
        let frees = identify.dlfeat & DLFEAT_WRITE_ZEROES_DEALLOCATES != 0;
        let deallocates = controller.write_zeroes && reads_zeros && frees;
        let preferred = |value: u16| match identify.nsfeat & NSFEAT_OPTIMAL_PERFORMANCE {
            0 => 1,
            _ => u32::from(value) + 1,
        };
        Self {
            nsid,
            ids,
            block_bytes,
            length_blocks: identify.nsze_blocks.get(),
            transfer_blocks_max,
            zero_blocks_max: in_blocks(controller.zero_bytes_max),
            verify_blocks_max: in_blocks(controller.verify_bytes_max),
            dsm_blocks_max: controller.dsm_blocks_max.map_or(u32::MAX, |max| max.min(u32::MAX.into()) as u32),
            boundary_blocks: identify.noiob_blocks.get().into(),
            atomic_write_blocks: atomic_write_blocks(identify, controller).min(transfer_blocks_max),
            physical_block_bytes: physical_block_bytes(preferred(identify.npwg.get()), block_bytes),
            deallocate_blocks: preferred(identify.npdg.get()),
            zero: ZeroMeans {
                write_zeroes: controller.write_zeroes,
                deallocates,
                dsm: !deallocates && controller.dataset_management && reads_zeros,
            },
            volatile_write_cache: controller.volatile_write_cache,
            write_protected: identify.nsattr & NSATTR_WRITE_PROTECTED != 0,
        }
    }

    /// Why this is not what `before` was.
    pub(crate) fn difference(&self, before: &Self, length_blocks: u64, may_grow: bool) -> Option<Refusal> {
        if self.ids != before.ids {
            return Some(Refusal::IdentityChanged);
        }
        if self.block_bytes != before.block_bytes {
            let (expected, found) = (before.block_bytes, self.block_bytes);
            return Some(Refusal::BlockSizeChanged { expected, found });
        }
        let promises_less = self.volatile_write_cache && !before.volatile_write_cache
            || self.zero != before.zero
            || self.zero_blocks_max < before.zero_blocks_max
            || self.transfer_blocks_max < before.transfer_blocks_max
            || self.atomic_write_blocks < before.atomic_write_blocks;
        if promises_less {
            return Some(Refusal::PromisesChanged);
        }
        let found = self.length_blocks;
        let same = found == length_blocks || may_grow && found > length_blocks;
        (!same).then_some(Refusal::SizeChanged { expected: length_blocks, found })
    }
}

/// A unit of writing that is of use: whole blocks, a power of two, at most a mebibyte.
fn physical_block_bytes(preferred_blocks: u32, block_bytes: u32) -> u32 {
    let bytes = u64::from(preferred_blocks) * u64::from(block_bytes);
    if bytes.is_power_of_two() && bytes <= 1 << 20 { bytes as u32 } else { block_bytes }
}

/// Across a power failure; the unit of normal operation is never smaller on a controller that obeys the standard, and the
/// smaller counts on one that does not. A boundary cuts even the shortest run that crosses it, so with one only single blocks
/// are sure.
fn atomic_write_blocks(identify: &IdentifyNamespace, controller: &ControllerInfo) -> u32 {
    if identify.nabspf.get() != 0 || identify.nabsn.get() != 0 {
        return 1;
    }
    if identify.nsfeat & NSFEAT_ATOMIC == 0 {
        return controller.atomic_write_blocks;
    }
    // 0 is not "one block" here: the value of the controller holds.
    let own = |value: u16| if value == 0 { controller.atomic_write_blocks } else { u32::from(value) + 1 };
    own(identify.nawupf.get()).min(own(identify.nawun.get()))
}

fn identity(identify: &IdentifyNamespace, descriptors: &[u8]) -> (NamespaceIds, CommandSet) {
    let mut ids = NamespaceIds { nguid: identify.nguid, eui64: identify.eui64, ..NamespaceIds::default() };
    let mut csi = CommandSet::NVM;
    for (id_type, id) in namespace_descriptors(descriptors) {
        match (id_type, id) {
            (NamespaceIdType::UUID, id) => ids.uuid = id.try_into().unwrap_or_default(),
            (NamespaceIdType::NGUID, id) => ids.nguid = id.try_into().unwrap_or_default(),
            (NamespaceIdType::EUI64, id) => ids.eui64 = id.try_into().unwrap_or_default(),
            (NamespaceIdType::COMMAND_SET, [value, ..]) => csi = CommandSet(*value),
            _ => {}
        }
    }
    (ids, csi)
}

/// A namespace that is served, for every core. It is the one it was for as long as [`Namespace::is_live`] says so, and never
/// again after that.
#[derive(Debug)]
pub struct Namespace {
    controller: ControllerIdentity,
    info: NamespaceInfo,
    length_blocks: AtomicU64,
    gone: AtomicU8,
    /// A flush has failed: what was in the cache may be lost, and no later flush can say otherwise, whoever asks.
    flush_failed: AtomicBool,
}

impl Namespace {
    pub(crate) fn new(controller: ControllerIdentity, info: NamespaceInfo) -> Self {
        let length_blocks = AtomicU64::new(info.length_blocks);
        Self { controller, info, length_blocks, gone: AtomicU8::new(0), flush_failed: AtomicBool::new(false) }
    }

    /// What it is.
    pub fn info(&self) -> &NamespaceInfo {
        &self.info
    }

    /// The controller that it is attached to.
    pub fn controller(&self) -> &ControllerIdentity {
        &self.controller
    }

    /// Blocks now: a namespace can grow.
    pub fn length_blocks(&self) -> u64 {
        self.length_blocks.load(Ordering::Acquire)
    }

    /// False when it is gone for good: taken away, changed, or its controller was lost.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.gone.load(Ordering::Acquire) == 0
    }

    /// True after a flush has failed, on whatever channel.
    #[inline]
    pub fn has_failed_flush(&self) -> bool {
        self.flush_failed.load(Ordering::Acquire)
    }

    /// A flush has failed.
    pub fn fail_flush(&self) {
        self.flush_failed.store(true, Ordering::Release);
    }

    pub(crate) fn grow(&self, length_blocks: u64) {
        self.length_blocks.store(length_blocks, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.gone.store(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::identify::{IdentifyController, put_namespace_descriptor};
    use zerocopy::little_endian::{U16, U64};

    use super::*;

    fn controller() -> ControllerInfo {
        let identify = IdentifyController {
            sqes: 0x66,
            cqes: 0x44,
            mdts: 2,
            awun: U16::new(15),
            awupf: U16::new(7),
            ..IdentifyController::default()
        };
        ControllerInfo::new(&identify).expect("an ordinary controller")
    }

    fn identify() -> IdentifyNamespace {
        let mut identify = IdentifyNamespace { nsze_blocks: U64::new(1000), ..IdentifyNamespace::default() };
        identify.lbaf[0].lbads = 9;
        identify
    }

    fn new(change: fn(&mut IdentifyNamespace)) -> Result<NamespaceInfo, Refusal> {
        let mut identify = identify();
        change(&mut identify);
        NamespaceInfo::new(1, &identify, None, &controller())
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        assert_eq!(new(|ns| ns.lbaf[0].metadata_bytes = U16::new(8)), Err(Refusal::Metadata { bytes: 8 }));
        assert_eq!(new(|ns| ns.dps = 1), Err(Refusal::Protection));
        assert_eq!(new(|ns| ns.lbaf[0].lbads = 13), Err(Refusal::BlockSize { bytes: 8192 }));
        assert_eq!(new(|ns| ns.lbaf[0].lbads = 0), Err(Refusal::BlockSize { bytes: 0 }));
        assert_eq!(new(|ns| ns.nsze_blocks = U64::ZERO), Err(Refusal::Size { blocks: 0 }));
        assert_eq!(new(|ns| ns.nsze_blocks = U64::MAX_VALUE), Err(Refusal::Size { blocks: u64::MAX }));
        let mut list = [0; 64];
        put_namespace_descriptor(&mut list, 0, NamespaceIdType::COMMAND_SET, &[2]);
        let zoned = NamespaceInfo::new(1, &identify(), Some(&list), &controller());
        assert_eq!(zoned, Err(Refusal::CommandSet { csi: 2 }));
        let metadata = Refusal::Metadata { bytes: 8 }.to_string();
        assert!(metadata.contains("8 bytes of metadata") && metadata.contains("nvme format"));
    }

    #[test]
    fn atomic_units_are_those_that_hold_whatever_happens() {
        let atomic = |change: fn(&mut IdentifyNamespace)| new(change).map(|info| info.atomic_write_blocks);
        assert_eq!(atomic(|_| {}), Ok(8), "AWUPF");
        assert_eq!(atomic(|ns| (ns.nsfeat, ns.nawupf) = (NSFEAT_ATOMIC, U16::new(3))), Ok(4), "NAWUPF");
        assert_eq!(
            atomic(|ns| (ns.nsfeat, ns.nawun) = (NSFEAT_ATOMIC, U16::new(1))),
            Ok(2),
            "a smaller NAWUN"
        );
        assert_eq!(atomic(|ns| ns.nawupf = U16::new(3)), Ok(8), "NSFEAT does not vouch for it");
        assert_eq!(atomic(|ns| ns.nabsn = U16::new(7)), Ok(1), "NABSN");
        assert_eq!(atomic(|ns| ns.nabspf = U16::new(7)), Ok(1), "NABSPF");
        // A write longer than a transfer is cut, so it is not atomic.
        let huge = |ns: &mut IdentifyNamespace| {
            (ns.nsfeat, ns.nawupf, ns.nawun) = (NSFEAT_ATOMIC, U16::new(999), U16::new(999));
        };
        assert_eq!(atomic(huge), Ok(32));
    }

    #[test]
    fn only_what_surely_reads_zeros_is_said_to() {
        let zero = |dlfeat: u8, write_zeroes: bool, dataset_management: bool| {
            let controller = ControllerInfo { write_zeroes, dataset_management, ..controller() };
            let identify = IdentifyNamespace { dlfeat, ..identify() };
            let info = NamespaceInfo::new(1, &identify, None, &controller).expect("an ordinary namespace");
            (info.zero.write_zeroes, info.zero.deallocates, info.zero.dsm)
        };
        assert_eq!(
            zero(DLFEAT_READS_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATES, true, true),
            (true, true, false)
        );
        assert_eq!(zero(DLFEAT_READS_ZEROES, true, true), (true, false, true));
        assert_eq!(zero(DLFEAT_WRITE_ZEROES_DEALLOCATES | 2, true, true), (true, false, false), "reads ones");
        assert_eq!(zero(0, true, true), (true, false, false));
        assert_eq!(zero(DLFEAT_READS_ZEROES, false, true), (false, false, true));
        assert_eq!(zero(DLFEAT_READS_ZEROES, false, false), (false, false, false));
    }

    #[test]
    fn a_namespace_that_is_another_is_recognised() {
        let before = new(|ns| ns.nguid = [7; 16]).expect("an ordinary namespace");
        let other = new(|ns| ns.nguid = [8; 16]).expect("an ordinary namespace");
        assert_eq!(other.difference(&before, 1000, true), Some(Refusal::IdentityChanged));
        let resized = NamespaceInfo { length_blocks: 2000, ..before };
        assert_eq!(resized.difference(&before, 1000, true), None);
        let changed = Some(Refusal::SizeChanged { expected: 1000, found: 2000 });
        assert_eq!(resized.difference(&before, 1000, false), changed);
        assert!(before.difference(&resized, 2000, true).is_some(), "it never shrinks");
        let formatted = NamespaceInfo { block_bytes: 4096, ..before };
        assert!(formatted.difference(&before, 1000, true).is_some());
    }
}

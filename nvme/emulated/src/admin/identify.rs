//! Identify (Base 5.1.13, NVM 4.1.5).

use nvme_spec::admin::Identify;
use nvme_spec::discovery::pad_text;
use nvme_spec::fabrics::nqn_field;
use nvme_spec::identify::controller::{
    ControllerType, FUSES_COMPARE_AND_WRITE, IdentifyController, IdentifyControllerNvm, LPA_COMMAND_EFFECTS,
    LPA_EXTENDED_DATA, LPA_SUPPORTED_LOG_PAGES, OACS_DOORBELL_BUFFER_CONFIG, OACS_FORMAT_NVM, ONCS_COMPARE,
    ONCS_DATASET_MANAGEMENT, ONCS_SAVE_SELECT, ONCS_VERIFY, ONCS_WRITE_ZEROES, SGLS_BIT_BUCKET,
    SGLS_SUPPORTED, VWC_FLUSH_ALL_SUPPORTED, VWC_PRESENT,
};
use nvme_spec::identify::namespace::{
    DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES_DEALLOCATES, FLBAS_EXTENDED, IdentifyNamespace,
    IdentifyNamespaceIndependent, IdentifyNamespaceNvm, MC_EXTENDED, MC_SEPARATE, NSFEAT_DULBE, NSFEAT_THIN,
    NSTAT_READY,
};
use nvme_spec::identify::{
    Cns, CommandSet, CommandSetVectors, ControllerList, NAMESPACE_LIST_MAX, NamespaceIdType, NamespaceList,
    put_namespace_descriptor,
};
use nvme_spec::register::Version;
use nvme_spec::{NSID_ALL, Sqe, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::config::Format;
use crate::controller::Controller;
use crate::features::{CRITICAL_KELVINS, SUPPORTED_EVENTS, WARNING_KELVINS};
use crate::iommu::Iommu;
use crate::limits::{ABORTS_MAX, ASYNC_EVENTS_MAX, ERROR_LOG_ENTRIES};
use crate::namespace::Namespace;

/// The firmware revision: this program's version.
pub(super) const REVISION: &str = env!("CARGO_PKG_VERSION");

/// ASCII, padded with spaces; what is too long is cut and what is not ASCII becomes a question mark.
pub(super) fn text<const BYTES: usize>(value: &str) -> [u8; BYTES] {
    let plain: String =
        value.chars().take(BYTES).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    pad_text(&plain).expect("cut to ASCII of the right length")
}

fn less_one(blocks: u32) -> U16 {
    U16::new(u16::try_from(blocks - 1).expect("an atomic unit fits its field"))
}

impl Controller {
    pub(super) fn identify(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<u32, Status> {
        let command = Identify::of(sqe);
        let data = self.identify_data(&command)?;
        self.send(sqe, &data, dma)
    }

    fn identify_data(&self, command: &Identify) -> Result<Vec<u8>, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let is_nvm = command.csi == CommandSet::NVM;
        match command.cns {
            Cns::NAMESPACE => self.identify_namespace(command.nsid, true),
            Cns::ALLOCATED_NAMESPACE => self.identify_namespace(command.nsid, false),
            Cns::CONTROLLER => Ok(self.identify_controller()),
            Cns::ACTIVE_NAMESPACE_LIST => self.namespace_list(command.nsid, true),
            Cns::COMMAND_SET_ACTIVE_NAMESPACE_LIST if is_nvm => self.namespace_list(command.nsid, true),
            Cns::ALLOCATED_NAMESPACE_LIST => self.namespace_list(command.nsid, false),
            Cns::COMMAND_SET_ALLOCATED_NAMESPACE_LIST if is_nvm => self.namespace_list(command.nsid, false),
            Cns::NAMESPACE_DESCRIPTOR_LIST => Ok(descriptors(self.known(command.nsid)?)),
            Cns::COMMAND_SET_NAMESPACE if is_nvm => {
                self.known(command.nsid)?;
                Ok(IdentifyNamespaceNvm::default().as_bytes().to_vec())
            }
            Cns::COMMAND_SET_CONTROLLER if is_nvm => Ok(IdentifyControllerNvm::default().as_bytes().to_vec()),
            Cns::INDEPENDENT_NAMESPACE => {
                self.known(command.nsid)?;
                let data = IdentifyNamespaceIndependent {
                    nstat: NSTAT_READY,
                    ..IdentifyNamespaceIndependent::default()
                };
                Ok(data.as_bytes().to_vec())
            }
            Cns::NAMESPACE_CONTROLLER_LIST => {
                let is_attached = self.allocated(command.nsid)?.attached;
                Ok(controllers(is_attached && command.cntid == 0))
            }
            Cns::CONTROLLER_LIST => Ok(controllers(command.cntid == 0)),
            Cns::COMMAND_SETS => {
                let mut data = CommandSetVectors::default();
                data.vector[0] = U64::new(1 << CommandSet::NVM.0);
                Ok(data.as_bytes().to_vec())
            }
            _ => Err(invalid),
        }
    }

    /// An active namespace; the identifier of all is none.
    fn known(&self, nsid: u32) -> Result<&Namespace, Status> {
        self.active(nsid).ok_or(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr())
    }

    fn allocated(&self, nsid: u32) -> Result<&Namespace, Status> {
        self.namespaces.get(&nsid).ok_or(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr())
    }

    /// Zeros for an identifier that is valid and inactive (Base 5.1.13.2.1); FFFFFFFFh asks what all have in common, which
    /// only a controller with Namespace Management tells.
    fn identify_namespace(&self, nsid: u32, active: bool) -> Result<Vec<u8>, Status> {
        if nsid == 0 || nsid == NSID_ALL || nsid > self.config.namespaces_max {
            return Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
        }
        let found = self.namespaces.get(&nsid).filter(|namespace| namespace.attached || !active);
        Ok(found.map_or_else(|| vec![0; 4096], |namespace| self.describe_namespace(namespace)))
    }

    fn describe_namespace(&self, namespace: &Namespace) -> Vec<u8> {
        let bits = namespace.format.block_bits();
        let mut nsfeat = NSFEAT_THIN;
        if self.config.deallocated_error {
            nsfeat |= NSFEAT_DULBE;
        }
        let mut data = IdentifyNamespace {
            nsze_blocks: U64::new(namespace.length_blocks),
            ncap_blocks: U64::new(namespace.length_blocks),
            nuse_blocks: U64::new((namespace.media.allocated_bytes() >> bits).min(namespace.length_blocks)),
            nsfeat,
            nlbaf: Format::ALL.len() as u8 - 1,
            flbas: namespace.format.index() | if namespace.extended { FLBAS_EXTENDED } else { 0 },
            mc: MC_EXTENDED | MC_SEPARATE,
            dlfeat: DLFEAT_READS_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATES,
            noiob_blocks: U16::new(namespace.optimal_boundary_blocks),
            nvmcap_bytes: U128::new(u128::from(namespace.length_blocks) << bits),
            nguid: namespace.uuid,
            ..IdentifyNamespace::default()
        };
        for (slot, format) in data.lbaf.iter_mut().zip(Format::ALL) {
            *slot = format.wire();
        }
        data.as_bytes().to_vec()
    }

    fn namespace_list(&self, after: u32, active: bool) -> Result<Vec<u8>, Status> {
        if after >= NSID_ALL - 1 {
            return Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
        }
        let mut data = NamespaceList::default();
        let listed = self.namespaces.values().filter(|ns| ns.nsid > after && (ns.attached || !active));
        for (slot, namespace) in data.nsid.iter_mut().zip(listed.take(NAMESPACE_LIST_MAX)) {
            *slot = U32::new(namespace.nsid);
        }
        Ok(data.as_bytes().to_vec())
    }

    fn identify_controller(&self) -> Vec<u8> {
        let config = &self.config;
        let if_offered = |is_offered: bool, bit: u16| if is_offered { bit } else { 0 };
        let cache = if config.volatile_write_cache { VWC_PRESENT } else { 0 };
        let capacity =
            self.namespaces.values().map(|ns| u128::from(ns.length_blocks) << ns.format.block_bits());
        let mut data = IdentifyController {
            sn: text(&config.serial),
            mn: text(&config.model),
            fr: text(REVISION),
            mdts: config.mdts,
            ver: U32::new(Version::V2_1.0),
            rtd3e: U32::new(config.delays.shutdown.as_micros().try_into().unwrap_or(u32::MAX)),
            oaes: U32::new(SUPPORTED_EVENTS.0 & !0xff),
            cntrltype: ControllerType::IO,
            oacs: U16::new(
                if_offered(config.format_nvm, OACS_FORMAT_NVM)
                    | if_offered(config.shadow_doorbells, OACS_DOORBELL_BUFFER_CONFIG),
            ),
            acl: ABORTS_MAX as u8 - 1,
            aerl: ASYNC_EVENTS_MAX as u8 - 1,
            // One slot, read only: the revision is what runs.
            frmw: 0x03,
            lpa: LPA_COMMAND_EFFECTS | LPA_EXTENDED_DATA | LPA_SUPPORTED_LOG_PAGES,
            elpe: (ERROR_LOG_ENTRIES - 1) as u8,
            wctemp_kelvins: U16::new(WARNING_KELVINS),
            cctemp_kelvins: U16::new(CRITICAL_KELVINS),
            tnvmcap_bytes: U128::new(capacity.sum()),
            sqes: 0x66,
            cqes: 0x44,
            nn: U32::new(config.namespaces_max),
            oncs: U16::new(
                ONCS_SAVE_SELECT
                    | if_offered(config.compare, ONCS_COMPARE)
                    | if_offered(config.dataset_management, ONCS_DATASET_MANAGEMENT)
                    | if_offered(config.write_zeroes, ONCS_WRITE_ZEROES)
                    | if_offered(config.verify, ONCS_VERIFY),
            ),
            fuses: U16::new(if_offered(config.fused, FUSES_COMPARE_AND_WRITE)),
            vwc: VWC_FLUSH_ALL_SUPPORTED | cache,
            awun: less_one(config.atomic_blocks),
            awupf: less_one(config.atomic_power_fail_blocks),
            acwu: less_one(config.atomic_blocks),
            sgls: U32::new(if config.sgl { SGLS_SUPPORTED | SGLS_BIT_BUCKET } else { 0 }),
            subnqn: nqn_field(&format!("nqn.2026-01.io.vega:emulated:{}", config.serial)).unwrap_or([0; 256]),
            ..IdentifyController::default()
        };
        // The one power state draws at most 25 W, in units of 10 mW.
        data.psd[0][..2].copy_from_slice(&2500_u16.to_le_bytes());
        data.as_bytes().to_vec()
    }
}

fn controllers(listed: bool) -> Vec<u8> {
    // This controller has the identifier 0.
    ControllerList { count: U16::new(u16::from(listed)), ..ControllerList::default() }.as_bytes().to_vec()
}

fn descriptors(namespace: &Namespace) -> Vec<u8> {
    let mut data = vec![0; 4096];
    let fields: [(NamespaceIdType, &[u8]); 3] = [
        (NamespaceIdType::NGUID, &namespace.uuid),
        (NamespaceIdType::UUID, &namespace.uuid),
        (NamespaceIdType::COMMAND_SET, &[CommandSet::NVM.0]),
    ];
    let mut at = 0;
    for (id_type, id) in fields {
        at = put_namespace_descriptor(&mut data, at, id_type, id).expect("three descriptors fit");
    }
    data
}

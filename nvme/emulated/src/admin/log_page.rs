//! Get Log Page (Base 5.1.12).

use nvme_spec::admin::GetLogPage;
use nvme_spec::log::{
    CHANGED_NAMESPACES_MAX, CommandEffects, EFFECT_CONTENT_CHANGE, EFFECT_EXCLUSIVE_CONTROLLER,
    EFFECT_NAMESPACE_CAPABILITY_CHANGE, EFFECT_SUPPORTED, FirmwareSlot, LOG_SUPPORTED, LogPageId,
    SmartHealth,
};
use nvme_spec::{AdminOpcode, NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U128};

use super::identify::{REVISION, text};
use crate::controller::Controller;
use crate::iommu::Iommu;
use crate::limits::ERROR_LOG_ENTRIES;

const INVALID: Status = Status::INVALID_FIELD.with_dnr();

/// The pages that there are.
const PAGES: [LogPageId; 6] = [
    LogPageId::SUPPORTED_LOG_PAGES,
    LogPageId::ERROR,
    LogPageId::SMART,
    LogPageId::FIRMWARE_SLOT,
    LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST,
    LogPageId::COMMANDS_SUPPORTED_AND_EFFECTS,
];

impl Controller {
    pub(super) fn get_log_page(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<u32, Status> {
        let command = GetLogPage::of(sqe);
        if !PAGES.contains(&command.lid) {
            return Err(Status::INVALID_LOG_PAGE.with_dnr());
        }
        // Pages are of the controller; SMART of one namespace is not offered.
        if !matches!(command.nsid, 0 | NSID_ALL) || command.offset_is_index {
            return Err(INVALID);
        }
        if command.length_bytes > self.transfer_bytes_max() || !command.offset.is_multiple_of(4) {
            return Err(INVALID);
        }
        let page = self.log_page(command.lid);
        let offset = usize::try_from(command.offset).ok().filter(|offset| *offset <= page.len());
        let page_bytes = self.registers.page_bytes();
        let rest = &page[offset.ok_or(INVALID)?..];
        let length = command.length_bytes as usize;
        let mut cursor = self.pieces.find_prp(sqe, command.length_bytes, page_bytes, dma)?;
        let there = rest.len().min(length);
        self.pieces.scatter(&mut cursor, &rest[..there], dma);
        // What is asked for past the end is zeros.
        for _ in 0..(length - there) / 4 {
            self.pieces.scatter(&mut cursor, &[0; 4], dma);
        }
        if !command.retain_event {
            self.events.log_was_read(command.lid);
            if command.lid == LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST {
                self.log.changed.clear();
            }
        }
        Ok(0)
    }

    fn log_page(&self, lid: LogPageId) -> Vec<u8> {
        match lid {
            LogPageId::SUPPORTED_LOG_PAGES => {
                let mut page = [U32::ZERO; 256];
                PAGES.iter().for_each(|lid| page[usize::from(lid.0)] = U32::new(LOG_SUPPORTED));
                page.as_bytes().to_vec()
            }
            LogPageId::ERROR => {
                let mut page: Vec<u8> =
                    self.log.errors.iter().flat_map(|entry| entry.as_bytes()).copied().collect();
                page.resize(ERROR_LOG_ENTRIES * 64, 0);
                page
            }
            LogPageId::SMART => self.smart().as_bytes().to_vec(),
            LogPageId::FIRMWARE_SLOT => {
                let mut page = FirmwareSlot { afi: 1, ..FirmwareSlot::default() };
                page.revision[0] = text(REVISION);
                page.as_bytes().to_vec()
            }
            LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST => self.changed_namespaces(),
            _ => self.command_effects().as_bytes().to_vec(),
        }
    }

    fn smart(&self) -> SmartHealth {
        let (health, smart) = (&self.health, &self.log.smart);
        // Thousands of units of 512 bytes, rounded up.
        let units = |bytes: u128| U128::new(bytes.div_ceil(512_000));
        let mut page = SmartHealth {
            critical_warning: self.critical_warnings(),
            composite_temperature_kelvins: U16::new(health.temperature_kelvins),
            available_spare: health.spare_percent,
            available_spare_threshold: health.spare_threshold_percent,
            percentage_used: health.used_percent,
            data_units_read: units(smart.read_bytes),
            data_units_written: units(smart.written_bytes),
            host_read_commands: U128::new(smart.reads.into()),
            host_write_commands: U128::new(smart.writes.into()),
            power_cycles: U128::new(smart.power_cycles.into()),
            unsafe_shutdowns: U128::new(smart.unsafe_shutdowns.into()),
            media_errors: U128::new(smart.media_errors.into()),
            error_log_entries: U128::new(self.log.error_count.into()),
            ..SmartHealth::default()
        };
        page.temperature_sensor_kelvins[0] = U16::new(health.temperature_kelvins);
        page
    }

    fn changed_namespaces(&self) -> Vec<u8> {
        let mut page = [U32::ZERO; CHANGED_NAMESPACES_MAX];
        for (slot, nsid) in page.iter_mut().zip(&self.log.changed) {
            *slot = U32::new(*nsid);
        }
        page.as_bytes().to_vec()
    }

    fn command_effects(&self) -> CommandEffects {
        let config = &self.config;
        let mut page = CommandEffects::default();
        let admin = [
            (AdminOpcode::DELETE_IO_SUBMISSION_QUEUE, true),
            (AdminOpcode::CREATE_IO_SUBMISSION_QUEUE, true),
            (AdminOpcode::GET_LOG_PAGE, true),
            (AdminOpcode::DELETE_IO_COMPLETION_QUEUE, true),
            (AdminOpcode::CREATE_IO_COMPLETION_QUEUE, true),
            (AdminOpcode::IDENTIFY, true),
            (AdminOpcode::ABORT, true),
            (AdminOpcode::SET_FEATURES, true),
            (AdminOpcode::GET_FEATURES, true),
            (AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST, true),
            (AdminOpcode::DOORBELL_BUFFER_CONFIG, config.shadow_doorbells),
        ];
        for (opcode, _) in admin.into_iter().filter(|(_, is_offered)| *is_offered) {
            page.admin[usize::from(opcode.0)] = U32::new(EFFECT_SUPPORTED);
        }
        if config.format_nvm {
            let format = EFFECT_SUPPORTED
                | EFFECT_CONTENT_CHANGE
                | EFFECT_NAMESPACE_CAPABILITY_CHANGE
                | EFFECT_EXCLUSIVE_CONTROLLER;
            page.admin[usize::from(AdminOpcode::FORMAT_NVM.0)] = U32::new(format);
        }
        let changes = EFFECT_SUPPORTED | EFFECT_CONTENT_CHANGE;
        let io = [
            (NvmOpcode::FLUSH, true, EFFECT_SUPPORTED),
            (NvmOpcode::WRITE, true, changes),
            (NvmOpcode::READ, true, EFFECT_SUPPORTED),
            (NvmOpcode::COMPARE, config.compare, EFFECT_SUPPORTED),
            (NvmOpcode::WRITE_ZEROES, config.write_zeroes, changes),
            (NvmOpcode::DATASET_MANAGEMENT, config.dataset_management, changes),
            (NvmOpcode::VERIFY, config.verify, EFFECT_SUPPORTED),
        ];
        for (opcode, _, effects) in io.into_iter().filter(|(_, is_offered, _)| *is_offered) {
            page.io[usize::from(opcode.0)] = U32::new(effects);
        }
        page
    }
}

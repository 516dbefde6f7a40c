//! Commands that report: capacity, LUNs, port groups, defects, logs; and the ones that do nothing.

use volume::bdev::Op;

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::limits::PORT_GROUPS_MAX;
use crate::sense::Sense;
use crate::start::{Outcome, bytes, good};
use crate::unit::{AccessState, LogicalUnit, PortGroup};
use crate::unit_attention::UnitAttention;

/// The group of every port as long as nobody has set groups.
const DEFAULT_GROUP: u16 = 1;

/// The LUN list of REPORT LUNS (SPC-4 section 6.33).
pub(crate) fn luns(cdb: &Cdb, luns: &[u64]) -> Result<Vec<u8>, Sense> {
    let listed: &[u64] = match cdb.u8(2) {
        0x00 | 0x02 => luns,
        // Well-known and administrative logical units: there are none.
        0x01 | 0x10..=0x12 => &[],
        _ => return Err(Sense::cdb_byte(2)),
    };
    let mut data = ((listed.len() * 8) as u32).to_be_bytes().to_vec();
    data.extend_from_slice(&[0; 4]);
    for lun in listed {
        data.extend_from_slice(&lun.to_be_bytes());
    }
    Ok(data)
}

impl LogicalUnit {
    pub(crate) fn report_luns(&mut self, command: &Command, cdb: &Cdb, all: &[u64]) -> Outcome {
        let data = luns(cdb, all)?;
        // Whoever has the list knows that it has changed (SPC-4 section 6.33.1).
        self.nexuses.get(command.nexus).attention.remove(UnitAttention::ReportedLunsChanged);
        bytes(data, cdb.u32(6))
    }

    pub(crate) fn read_capacity_10(&self, cdb: &Cdb) -> Outcome {
        // PMI is obsolete, and without it there is no LBA.
        if cdb.u32(2) != 0 {
            return Err(Sense::cdb_byte(2).into());
        }
        let last = u32::try_from(self.info.length_blocks - 1).unwrap_or(u32::MAX);
        let mut data = last.to_be_bytes().to_vec();
        data.extend_from_slice(&self.info.logical_block_bytes.to_be_bytes());
        bytes(data, u32::MAX)
    }

    pub(crate) fn read_capacity_16(&self, cdb: &Cdb) -> Outcome {
        if cdb.u64(2) != 0 {
            return Err(Sense::cdb_byte(2).into());
        }
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&(self.info.length_blocks - 1).to_be_bytes());
        data[8..12].copy_from_slice(&self.info.logical_block_bytes.to_be_bytes());
        let physical_blocks = self.info.physical_block_bytes / self.info.logical_block_bytes;
        data[13] = physical_blocks.max(1).trailing_zeros() as u8;
        // LBPME, LBPRZ.
        data[14] = if self.info.thin { 0xc0 } else { 0 };
        bytes(data, cdb.u32(10))
    }

    /// The group of a relative target port.
    pub(crate) fn port_group(&self, relative_target_port_id: u16) -> u16 {
        let mut groups = self.port_groups.iter();
        let group = groups.find(|group| group.ports.contains(&relative_target_port_id));
        group.map_or(DEFAULT_GROUP, |group| group.group)
    }

    pub(crate) fn maintenance_in(&mut self, cdb: &Cdb) -> Outcome {
        match cdb.service_action() {
            0x0a => self.report_target_port_groups(cdb),
            0x0c => self.report_supported_operation_codes(cdb),
            0x0d => self.report_supported_task_management(cdb),
            _ => Err(Sense::cdb_bit(1, 4).into()),
        }
    }

    /// REPORT TARGET PORT GROUPS (SPC-4 section 6.37).
    fn report_target_port_groups(&self, cdb: &Cdb) -> Outcome {
        let extended = match cdb.u8(1) >> 5 {
            0 => false,
            1 => true,
            _ => return Err(Sense::cdb_bit(1, 7).into()),
        };
        let default;
        let groups = if self.port_groups.is_empty() {
            default = [self.default_group()];
            &default[..]
        } else {
            &self.port_groups[..self.port_groups.len().min(PORT_GROUPS_MAX)]
        };
        let mut data = vec![0; 4];
        if extended {
            data.extend_from_slice(&[0x10, 0, 0, 0]);
        }
        for group in groups {
            let ports = &group.ports[..group.ports.len().min(PORT_GROUPS_MAX)];
            data.push(u8::from(group.preferred) << 7 | group.state as u8);
            data.push(0x8f); // T, U, S, AN, AO: the states there can be
            data.extend_from_slice(&group.group.to_be_bytes());
            data.extend_from_slice(&[0, 0x02, 0, ports.len() as u8]); // STATUS CODE: changed implicitly
            for port in ports {
                data.extend_from_slice(&[0, 0]);
                data.extend_from_slice(&port.to_be_bytes());
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        bytes(data, cdb.u32(6))
    }

    /// One group with every port that a nexus has come by.
    fn default_group(&self) -> PortGroup {
        let mut ports: Vec<u16> =
            self.nexuses.iter().map(|nexus| nexus.name.relative_target_port_id).collect();
        ports.sort_unstable();
        ports.dedup();
        PortGroup { group: DEFAULT_GROUP, state: AccessState::ActiveOptimized, preferred: false, ports }
    }

    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 section 6.36).
    fn report_supported_task_management(&self, cdb: &Cdb) -> Outcome {
        // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET.
        let functions = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
        let mut data = vec![functions, 0, 0, 0];
        if cdb.bit(2, 7) {
            // REPD: the extended form, without timeouts.
            data[3] = 12;
            data.resize(16, 0);
        }
        bytes(data, cdb.u32(6))
    }

    /// START STOP UNIT: the unit is shared, so nobody stops it for the others; what a host wants
    /// before it leaves is its data on the medium, and that is done. Power conditions and loading do
    /// not exist.
    pub(crate) fn start_stop(&mut self, command: &Command, cdb: &Cdb) -> Outcome {
        if cdb.u8(4) & 0xf0 != 0 {
            return Err(Sense::cdb_bit(4, 7).into());
        }
        if cdb.bit(4, 1) {
            return Err(Sense::cdb_bit(4, 1).into());
        }
        let (start, no_flush) = (cdb.bit(4, 0), cdb.bit(4, 2));
        if start || no_flush { good() } else { self.simple_io(command, Op::Flush) }
    }

    /// PREVENT ALLOW MEDIUM REMOVAL: the medium cannot be removed anyway.
    pub(crate) fn prevent_allow(&self, cdb: &Cdb) -> Outcome {
        if cdb.u8(4) & 0x02 != 0 { Err(Sense::cdb_bit(4, 1).into()) } else { good() }
    }

    /// READ DEFECT DATA: the lists asked for, both empty.
    pub(crate) fn read_defect_data(&self, cdb: &Cdb) -> Outcome {
        let (lists, allocation_length, header_bytes) = if cdb.opcode() == opcode::READ_DEFECT_DATA_10 {
            (cdb.u8(2), u32::from(cdb.u16(7)), 4)
        } else {
            (cdb.u8(1), cdb.u32(6), 8)
        };
        let mut data = vec![0; header_bytes];
        data[1] = lists & 0x1f;
        bytes(data, allocation_length)
    }

    /// LOG SENSE: the page that lists the pages.
    pub(crate) fn log_sense(&self, cdb: &Cdb) -> Outcome {
        if cdb.bit(1, 0) {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        match (cdb.u8(2) & 0x3f, cdb.u8(3)) {
            (0, 0) => bytes(vec![0, 0, 0, 1, 0], cdb.u16(7)),
            (0, 0xff) => bytes(vec![0x40, 0xff, 0, 4, 0, 0, 0, 0xff], cdb.u16(7)),
            (0, _) => Err(Sense::cdb_byte(3).into()),
            _ => Err(Sense::cdb_byte(2).into()),
        }
    }
}

//! REPORT SUPPORTED OPERATION CODES (SPC-4 section 6.35).

use crate::cdb::Cdb;
use crate::opcode::{ENTRIES, Entry, entries_of};
use crate::sense::Sense;
use crate::start::{Outcome, bytes};
use crate::unit::LogicalUnit;

/// The command timeouts descriptor: no timeout is stated.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// SUPPORT: the command is as the standard says.
const SUPPORTED: u8 = 0x03;
/// SUPPORT: there is no such command.
const NOT_SUPPORTED: u8 = 0x01;

impl LogicalUnit {
    pub(crate) fn report_supported_operation_codes(&self, cdb: &Cdb) -> Outcome {
        let timeouts = cdb.bit(2, 7);
        let (operation_code, service_action) = (cdb.u8(3), cdb.u16(4));
        let data = match cdb.u8(2) & 0x07 {
            0 => self.all_commands(timeouts),
            option @ 1..=3 => {
                let entry = self.one_entry(option, operation_code, service_action)?;
                one_command(entry, timeouts)
            }
            _ => return Err(Sense::cdb_bit(2, 2).into()),
        };
        bytes(data, cdb.u32(6))
    }

    fn all_commands(&self, timeouts: bool) -> Vec<u8> {
        let mut data = vec![0; 4];
        for entry in ENTRIES.iter().filter(|entry| entry.is_supported(&self.info)) {
            let service_action = u16::from(entry.service_action.unwrap_or(0)).to_be_bytes();
            // CTDP, SERVACTV.
            let flags = u8::from(timeouts) << 1 | u8::from(entry.service_action.is_some());
            data.extend_from_slice(&[entry.opcode, 0, service_action[0], service_action[1], 0, flags]);
            data.extend_from_slice(&(entry.usage.len() as u16).to_be_bytes());
            if timeouts {
                data.extend_from_slice(&TIMEOUTS);
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        data
    }

    /// The entry that reporting options 1 to 3 ask for; `None` for a command that is not supported.
    fn one_entry(
        &self,
        option: u8,
        operation_code: u8,
        service_action: u16,
    ) -> Result<Option<&'static Entry>, Sense> {
        let first = entries_of(operation_code, &self.info).next();
        let Some(first) = first else { return Ok(None) };
        match (option, first.service_action.is_some()) {
            // Option 1 is for commands without service actions, option 2 for those with.
            (1, true) | (2, false) => Err(Sense::cdb_bit(2, 2)),
            (_, false) if option == 3 && service_action != 0 => Ok(None),
            (_, false) => Ok(Some(first)),
            (_, true) => {
                let mut entries = entries_of(operation_code, &self.info);
                Ok(entries.find(|entry| entry.service_action.map(u16::from) == Some(service_action)))
            }
        }
    }
}

fn one_command(entry: Option<&Entry>, timeouts: bool) -> Vec<u8> {
    let Some(entry) = entry else { return vec![0, NOT_SUPPORTED, 0, 0] };
    let mut data = vec![0, u8::from(timeouts) << 7 | SUPPORTED];
    data.extend_from_slice(&(entry.usage.len() as u16).to_be_bytes());
    let usage_at = data.len();
    data.extend_from_slice(entry.usage);
    if let Some(service_action) = entry.service_action {
        // Operation code and service action stand there as they are, not as masks.
        let byte = &mut data[usage_at + 1];
        *byte = *byte & 0xe0 | service_action;
    }
    if timeouts {
        data.extend_from_slice(&TIMEOUTS);
    }
    data
}

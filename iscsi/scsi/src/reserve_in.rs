//! PERSISTENT RESERVE IN (SPC-4 section 6.15), and RESERVE(6) and RELEASE(6) of SPC-2.

use volume::reservation::{Kind, Path};

use crate::cdb::Cdb;
use crate::command::Command;
use crate::sense::Sense;
use crate::start::{Outcome, Refusal, bytes, good};
use crate::unit::LogicalUnit;

/// Scope and type byte: the scope is always the logical unit (0).
fn scope_and_type(kind: Kind) -> u8 {
    kind as u8
}

/// The TransportID of an initiator port (SPC-4 section 7.6.4.6), format 01b. For an NVMe host, which the standard has no
/// form for, it is in the same form the name that the host's identifier makes, so that an administrator sees who it is.
fn transport_id(path: &Path) -> Vec<u8> {
    let mut name = match path.host_identifier() {
        Some(identifier) => {
            let uuid = uuid::Uuid::from_bytes(identifier);
            format!("nqn.2014-08.org.nvmexpress:uuid:{uuid},i,0x000000000000").into_bytes()
        }
        None => path.initiator_port().to_vec(),
    };
    name.push(0);
    // At least 20 bytes, a multiple of four.
    name.resize(name.len().next_multiple_of(4).max(20), 0);
    let mut id = vec![0x45, 0];
    id.extend_from_slice(&(name.len() as u16).to_be_bytes());
    id.extend_from_slice(&name);
    id
}

impl LogicalUnit {
    pub(crate) fn persistent_reserve_in(&self, cdb: &Cdb) -> Outcome {
        let data = match cdb.service_action() {
            0 => self.read_keys(),
            1 => self.read_reservation(),
            2 => report_capabilities(self.reservations.read().survives_power_loss()),
            3 => self.read_full_status(),
            _ => return Err(Sense::cdb_bit(1, 4).into()),
        };
        bytes(data, cdb.u16(7))
    }

    /// PRGENERATION and the length of what follows.
    fn reservation_header(&self, length: usize) -> Vec<u8> {
        let mut data = self.reservations.read().generation().to_be_bytes().to_vec();
        data.extend_from_slice(&(length as u32).to_be_bytes());
        data
    }

    fn read_keys(&self) -> Vec<u8> {
        let reservations = self.reservations.read();
        let mut data = self.reservation_header(reservations.registrants().len() * 8);
        for registrant in reservations.registrants() {
            data.extend_from_slice(&registrant.key.to_be_bytes());
        }
        data
    }

    fn read_reservation(&self) -> Vec<u8> {
        let reservations = self.reservations.read();
        let Some(kind) = reservations.kind() else { return self.reservation_header(0) };
        let mut data = self.reservation_header(16);
        data.extend_from_slice(&reservations.holder_key().to_be_bytes());
        data.extend_from_slice(&[0, 0, 0, 0, 0, scope_and_type(kind), 0, 0]);
        data
    }

    fn read_full_status(&self) -> Vec<u8> {
        let mut list = Vec::new();
        let reservations = self.reservations.read();
        for registrant in reservations.registrants() {
            let holder = reservations.is_holder(&registrant.path);
            let kind = reservations.kind().filter(|_| holder);
            let id = transport_id(&registrant.path);
            // ALL_TG_PT: the registration of an NVMe host is not one of a port.
            let all_ports = u8::from(registrant.path.host_identifier().is_some()) << 1;
            list.extend_from_slice(&registrant.key.to_be_bytes());
            list.extend_from_slice(&[
                0,
                0,
                0,
                0,
                all_ports | u8::from(holder),
                kind.map_or(0, scope_and_type),
            ]);
            list.extend_from_slice(&[0, 0, 0, 0]);
            list.extend_from_slice(&registrant.relative_target_port.to_be_bytes());
            list.extend_from_slice(&(id.len() as u32).to_be_bytes());
            list.extend_from_slice(&id);
        }
        let mut data = self.reservation_header(list.len());
        data.extend_from_slice(&list);
        data
    }

    /// RESERVE(6) of the whole unit (SPC-2 section 7.21).
    pub(crate) fn reserve_6(&mut self, command: &Command, cdb: &Cdb) -> Outcome {
        // Third-party and extent reservations are obsolete.
        if cdb.u8(1) & 0x11 != 0 {
            return Err(Sense::cdb_bit(1, 4).into());
        }
        if self.reservations.read().registrants().is_empty() {
            self.reserve_for(Some(command.nexus));
            return good();
        }
        self.compatible_reservation(command)
    }

    /// RELEASE(6): GOOD for everybody, with an effect for the holder.
    pub(crate) fn release_6(&mut self, command: &Command) -> Outcome {
        if self.reserved_by == Some(command.nexus) {
            self.reserve_for(None);
        }
        good()
    }

    /// CRH (SPC-4 section 5.13.3): beside persistent reservations the old command does nothing; it
    /// succeeds for those who have the access that it would have given.
    fn compatible_reservation(&mut self, command: &Command) -> Outcome {
        let access = self.nexuses.get(command.nexus).access;
        if access.holder || (access.registered && access.admits_registrants) {
            good()
        } else {
            Err(Refusal::Conflict)
        }
    }
}

fn report_capabilities(survives_power_loss: bool) -> Vec<u8> {
    let mut data = vec![0; 8];
    data[1] = 8;
    data[2] = 0x11; // CRH, PTPL_C; neither SIP_C nor ATP_C
    data[3] = 0x80 | u8::from(survives_power_loss); // TMV, PTPL_A
    // All six types.
    data[4] = 0xea;
    data[5] = 0x01;
    data
}

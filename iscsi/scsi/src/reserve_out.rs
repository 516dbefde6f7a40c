//! PERSISTENT RESERVE OUT (SPC-4 section 6.16): asks the volume for a change of its reservations, then answers and
//! tells whom it concerns.

use volume::reservation::{self, Kind, Path, Refused};

use crate::cdb::Cdb;
use crate::command::{Command, NexusId};
use crate::limits::PARAMETER_LIST_BYTES_MAX;
use crate::response::{Effects, Response, Status, Step};
use crate::sense::Sense;
use crate::start::{Outcome, Refusal};
use crate::unit::LogicalUnit;
use crate::unit_attention::UnitAttention;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;

/// Bytes of the parameter list, without what SPEC_I_PT and REGISTER AND MOVE add.
const LIST_BYTES: usize = 24;

/// A change that a command asks of the volume.
#[derive(Debug)]
pub struct ReservationChange {
    /// In whose name.
    pub path: Path,
    /// What.
    pub change: reservation::Change,
    by: NexusId,
    data_out_len: u64,
}

/// Why a change did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The reservations in force do not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be made durable.
    #[error("the reservations could not be stored")]
    NotDurable,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Conflict => Self::Conflict,
            Refused::InvalidRelease => Sense::INVALID_RELEASE.into(),
            Refused::InvalidParameter => Sense::INVALID_FIELD_IN_PARAMETER_LIST.into(),
            Refused::Full(_) => Sense::NO_REGISTRATION_RESOURCES.into(),
        }
    }
}

fn be64(list: &[u8], at: usize) -> u64 {
    list[at..at + 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl LogicalUnit {
    pub(crate) fn persistent_reserve_out(&mut self, command: Command, cdb: &Cdb) -> Outcome {
        let length = cdb.u32(5) as usize;
        if length as u64 > PARAMETER_LIST_BYTES_MAX || length < LIST_BYTES || command.data_out.len() < length
        {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        }
        let mut list = vec![0; length];
        command.data_out.copy_out(0, &mut list);
        let action = cdb.service_action();
        let nexus = self.nexuses.get(command.nexus);
        let (path, port) = (nexus.path.clone(), nexus.name.relative_target_port_id);
        let change = if action == REGISTER_AND_MOVE {
            self.parse_move(&list, port, &path)?
        } else {
            parse_change(cdb, &list, port)?
        };
        let data_out_len = length as u64;
        Ok(Step::Change(Box::new(ReservationChange { path, change, by: command.nexus, data_out_len })))
    }

    /// The change of [`Step::Change`] is in force, or was refused. The response is of the task that asked; when that was
    /// aborted meanwhile there is nobody to answer, and the effects are to be carried out all the same.
    pub fn change_ended(
        &mut self,
        change: &ReservationChange,
        end: Result<&reservation::Outcome, ChangeError>,
    ) -> Response {
        let refusal = match end {
            Ok(outcome) => {
                self.tell_outcome(outcome, Some(change.by));
                let abort_tasks_of = outcome.abort_tasks_of.clone();
                let effects = (!abort_tasks_of.is_empty()).then(|| Box::new(Effects { abort_tasks_of }));
                return Response { data_out_len: change.data_out_len, effects, ..Response::good() };
            }
            Err(ChangeError::Refused(refused)) => Refusal::from(refused),
            Err(ChangeError::NotDurable) => Sense::INTERNAL_FAILURE.into(),
        };
        let response = match refusal {
            Refusal::Sense(sense) => self.check(sense),
            Refusal::Conflict => Response::with_status(Status::ReservationConflict),
        };
        Response { data_out_len: change.data_out_len, ..response }
    }

    /// Unit attentions for those whom a change concerns.
    pub(crate) fn tell_outcome(&mut self, outcome: &reservation::Outcome, by: Option<NexusId>) {
        let notices = [
            (&outcome.reservations_preempted, UnitAttention::ReservationsPreempted),
            (&outcome.reservations_released, UnitAttention::ReservationsReleased),
            (&outcome.registrations_preempted, UnitAttention::RegistrationsPreempted),
        ];
        for (paths, attention) in notices {
            self.nexuses.tell(paths, attention, by);
        }
    }

    /// REGISTER AND MOVE: the other path is a relative target port and a TransportID.
    fn parse_move(&self, list: &[u8], own_port: u16, own: &Path) -> Result<reservation::Change, Sense> {
        let port = u16::from_be_bytes([list[18], list[19]]);
        let id_length = u32::from_be_bytes([list[20], list[21], list[22], list[23]]) as usize;
        let id = list[LIST_BYTES..].get(..id_length).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let initiator_port = initiator_port_of(id).ok_or(Sense::parameter_byte(LIST_BYTES as u16))?;
        let target_port =
            if port == own_port { Some(own.target_port().to_vec()) } else { self.target_port_name(port) };
        let target_port = target_port.ok_or(Sense::parameter_byte(18))?;
        let to = Path::new(&initiator_port, &target_port).ok_or(Sense::parameter_byte(LIST_BYTES as u16))?;
        Ok(reservation::Change::RegisterAndMove {
            key: be64(list, 0),
            new_key: be64(list, 8),
            to,
            to_relative_target_port: port,
            unregister: list[17] & 0x02 != 0,
            survives_power_loss: list[17] & 0x01 != 0,
        })
    }

    /// The target port that some nexus or registrant reaches by this number.
    fn target_port_name(&self, port: u16) -> Option<Vec<u8>> {
        let mut nexuses = self.nexuses.iter();
        let nexus = nexuses.find(|nexus| nexus.name.relative_target_port_id == port).map(|nexus| &nexus.path);
        let reservations = self.reservations.read();
        // An NVMe host is registered without a port.
        let mut registrants =
            reservations.registrants().iter().filter(|known| known.relative_target_port != 0);
        let registrant =
            || registrants.find(|known| known.relative_target_port == port).map(|known| &known.path);
        nexus.or_else(registrant).map(|path| path.target_port().to_vec())
    }
}

/// Every service action but REGISTER AND MOVE.
fn parse_change(cdb: &Cdb, list: &[u8], port: u16) -> Result<reservation::Change, Sense> {
    let action = cdb.service_action();
    let (key, new_key) = (be64(list, 0), be64(list, 8));
    // SPEC_I_PT and ALL_TG_PT are not supported, as REPORT CAPABILITIES says.
    let registers = matches!(action, REGISTER | REGISTER_AND_IGNORE);
    if registers && list[20] & 0x0c != 0 {
        return Err(Sense::parameter_byte(20));
    }
    if list.len() != LIST_BYTES {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let kind = || {
        if cdb.u8(2) & 0xf0 != 0 {
            return Err(Sense::cdb_bit(2, 7));
        }
        Kind::from_scsi(cdb.u8(2) & 0x0f).ok_or(Sense::cdb_bit(2, 3))
    };
    Ok(match action {
        REGISTER | REGISTER_AND_IGNORE => reservation::Change::Register {
            key,
            new_key,
            ignore_key: action == REGISTER_AND_IGNORE,
            survives_power_loss: list[20] & 0x01 != 0,
            relative_target_port: port,
        },
        RESERVE => reservation::Change::Reserve { key, kind: kind()? },
        RELEASE => reservation::Change::Release { key, kind: kind()? },
        CLEAR => reservation::Change::Clear { key },
        PREEMPT | PREEMPT_AND_ABORT => {
            let abort = action == PREEMPT_AND_ABORT;
            reservation::Change::Preempt { key, victim_key: new_key, kind: kind()?, abort }
        }
        _ => return Err(Sense::cdb_bit(1, 4)),
    })
}

/// The name of the initiator port in an iSCSI TransportID of format 01b, in the form in which names
/// are kept; `None` for any other.
fn initiator_port_of(id: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = id.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] != 0x45 || rest.len() != length {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(length);
    let text = std::str::from_utf8(&rest[..end]).ok()?.to_ascii_lowercase();
    let (name, isid) = text.split_once(",i,0x")?;
    let isid = u64::from_str_radix(isid, 16).ok().filter(|isid| *isid < 1 << 48)?;
    (!name.is_empty()).then(|| format!("{name},i,0x{isid:012x}").into_bytes())
}

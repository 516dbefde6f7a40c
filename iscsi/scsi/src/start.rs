//! The start of a command: what is checked for all of them, and the way to each.

use volume::bdev::{Extent, Io, Op};

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::limits::PARAMETER_LIST_BYTES_MAX;
use crate::opcode::{Class, class_of};
use crate::plan::{Pending, Plan};
use crate::response::{Response, Status, Step};
use crate::sense::Sense;
use crate::unit::{AccessState, Context, LogicalUnit};
use crate::unit_attention::UnitAttention;

/// Why a command does not run.
#[derive(Debug)]
pub(crate) enum Refusal {
    Sense(Sense),
    Conflict,
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

/// What a handler gives back.
pub(crate) type Outcome = Result<Step, Refusal>;

/// GOOD without data.
pub(crate) fn good() -> Outcome {
    Ok(Step::Respond(Response::good()))
}

/// GOOD with as much of `bytes` as the initiator has room for.
pub(crate) fn bytes(bytes: Vec<u8>, allocation_length: impl Into<u64>) -> Outcome {
    Ok(Step::Respond(Response::bytes(bytes, allocation_length.into())))
}

impl LogicalUnit {
    /// Starts a command of an attached nexus.
    ///
    /// # Panics
    /// When the nexus is not attached: a bug of the caller.
    pub fn start(&mut self, command: Command, context: &Context<'_>) -> Step {
        let cdb = Cdb::new(&command.cdb);
        let data_out_len = self.data_out_length(&command.cdb);
        let outcome = match self.admit(&command, &cdb) {
            Ok(()) => self.dispatch(command, &cdb, data_out_len, context),
            Err(refusal) => Err(refusal),
        };
        let response = match outcome {
            Ok(Step::Respond(response)) => response,
            Ok(step) => return step,
            Err(Refusal::Sense(sense)) => self.check(sense),
            Err(Refusal::Conflict) => Response::with_status(Status::ReservationConflict),
        };
        Step::Respond(Response { data_out_len, ..response })
    }

    /// The checks that come before the command's own, in the order of SAM-5 and SPC-4: operation
    /// code, unit attention, target port state, reservations, write protection.
    #[inline]
    fn admit(&mut self, command: &Command, cdb: &Cdb) -> Result<(), Refusal> {
        let class = class_of(cdb, &self.info).ok_or(Sense::INVALID_OPCODE)?;
        self.refresh_access();
        let nexus = self.nexuses.get(command.nexus);
        if !nexus.attention.is_empty() && !class.reports_attention_itself() {
            let attention = nexus.attention.pop().expect("the queue is not empty");
            return Err(attention.sense().into());
        }
        let access = nexus.access;
        let port = nexus.name.relative_target_port_id;
        if !self.port_groups.is_empty() {
            self.check_port_state(port, class)?;
        }
        if !self.condition.is_normal() {
            self.condition.admit(class, cdb)?;
        }
        let reserved_by_other = self.reserved_by.is_some_and(|holder| holder != command.nexus);
        let conflict = match class {
            Class::Always | Class::ReserveOut => false,
            Class::Information => false,
            Class::Own => reserved_by_other,
            Class::Read => reserved_by_other || !access.read,
            Class::Write | Class::Setting => reserved_by_other || !access.write,
        };
        if conflict || (reserved_by_other && class == Class::ReserveOut) {
            return Err(Refusal::Conflict);
        }
        if class == Class::Write && self.mode.software_write_protect {
            return Err(Sense::WRITE_PROTECTED.into());
        }
        Ok(cdb.check_control()?)
    }

    fn check_port_state(&self, port: u16, class: Class) -> Result<(), Sense> {
        let medium = matches!(class, Class::Read | Class::Write);
        match self.access_state(port) {
            AccessState::ActiveOptimized | AccessState::ActiveNonOptimized => Ok(()),
            AccessState::Standby if medium => Err(Sense::STANDBY),
            AccessState::Standby => Ok(()),
            _ if class == Class::Always => Ok(()),
            AccessState::Unavailable => Err(Sense::UNAVAILABLE),
            AccessState::Transitioning => Err(Sense::TRANSITION),
        }
    }

    #[inline]
    fn dispatch(&mut self, command: Command, cdb: &Cdb, data_out_len: u64, context: &Context<'_>) -> Outcome {
        match cdb.opcode() {
            opcode::READ_6 | opcode::READ_10 | opcode::READ_12 | opcode::READ_16 => {
                self.read(command, cdb, context)
            }
            opcode::WRITE_6 | opcode::WRITE_10 | opcode::WRITE_12 | opcode::WRITE_16 => {
                self.write(command, cdb, data_out_len, context)
            }
            _ => self.dispatch_rare(command, cdb, data_out_len, context),
        }
    }

    fn dispatch_rare(
        &mut self,
        command: Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        match cdb.opcode() {
            opcode::TEST_UNIT_READY => good(),
            opcode::REQUEST_SENSE => self.request_sense(&command, cdb),
            opcode::INQUIRY => self.inquiry(&command, cdb),
            opcode::MODE_SELECT_6 | opcode::MODE_SELECT_10 => self.mode_select(&command, cdb, data_out_len),
            opcode::MODE_SENSE_6 | opcode::MODE_SENSE_10 => self.mode_sense(cdb),
            opcode::RESERVE_6 => self.reserve_6(&command, cdb),
            opcode::RELEASE_6 => self.release_6(&command),
            opcode::START_STOP_UNIT => self.start_stop(&command, cdb),
            opcode::PREVENT_ALLOW => self.prevent_allow(cdb),
            opcode::READ_CAPACITY_10 => self.read_capacity_10(cdb),
            opcode::SERVICE_ACTION_IN_16 => match cdb.service_action() {
                0x10 => self.read_capacity_16(cdb),
                0x12 => self.get_lba_status(&command, cdb, context),
                _ => Err(Sense::cdb_bit(1, 4).into()),
            },
            opcode::WRITE_AND_VERIFY_10 | opcode::WRITE_AND_VERIFY_12 | opcode::WRITE_AND_VERIFY_16 => {
                self.write_and_verify(command, cdb, data_out_len, context)
            }
            opcode::VERIFY_10 | opcode::VERIFY_12 | opcode::VERIFY_16 => {
                self.verify(command, cdb, data_out_len, context)
            }
            opcode::PRE_FETCH_10 | opcode::PRE_FETCH_16 => self.pre_fetch(cdb),
            opcode::SYNCHRONIZE_CACHE_10 | opcode::SYNCHRONIZE_CACHE_16 => {
                self.synchronize_cache(&command, cdb)
            }
            opcode::READ_DEFECT_DATA_10 | opcode::READ_DEFECT_DATA_12 => self.read_defect_data(cdb),
            opcode::WRITE_SAME_10 | opcode::WRITE_SAME_16 => {
                self.write_same(command, cdb, data_out_len, context)
            }
            opcode::SANITIZE => self.sanitize(&command, cdb, data_out_len),
            opcode::UNMAP => self.unmap(&command, cdb, data_out_len, context),
            opcode::LOG_SENSE => self.log_sense(cdb),
            opcode::PERSISTENT_RESERVE_IN => self.persistent_reserve_in(cdb),
            opcode::PERSISTENT_RESERVE_OUT => self.persistent_reserve_out(command, cdb),
            opcode::COMPARE_AND_WRITE => self.compare_and_write(command, cdb, data_out_len),
            opcode::ORWRITE => self.or_write(command, cdb, data_out_len),
            opcode::WRITE_ATOMIC_16 => self.write_atomic(command, cdb, data_out_len),
            opcode::REPORT_LUNS => self.report_luns(&command, cdb, context.luns),
            opcode::MAINTENANCE_IN => self.maintenance_in(cdb),
            _ => Err(Sense::INVALID_OPCODE.into()),
        }
    }

    /// Bytes that the CDB takes from the initiator: 0 for a CDB that will be refused without its data.
    #[inline]
    pub fn data_out_length(&self, cdb: &[u8]) -> u64 {
        let cdb = Cdb::new(cdb);
        let blocks = match cdb.opcode() {
            opcode::WRITE_10 => u64::from(cdb.u16(7)),
            opcode::WRITE_16 => u64::from(cdb.u32(10)),
            opcode::READ_10 | opcode::READ_16 => return 0,
            _ => return self.data_out_length_rare(&cdb),
        };
        self.data_out_bytes(blocks)
    }

    fn data_out_bytes(&self, blocks: u64) -> u64 {
        if blocks <= self.transfer_blocks_max() { blocks << self.block_shift } else { 0 }
    }

    fn data_out_length_rare(&self, cdb: &Cdb) -> u64 {
        let compares = matches!(cdb.u8(1) & 0x06, 0x02);
        let list = |bytes: u64| if bytes <= PARAMETER_LIST_BYTES_MAX { bytes } else { 0 };
        let blocks = match cdb.opcode() {
            opcode::WRITE_6 => match cdb.u8(4) {
                0 => 256,
                blocks => u64::from(blocks),
            },
            opcode::WRITE_AND_VERIFY_10 => u64::from(cdb.u16(7)),
            opcode::WRITE_12 | opcode::WRITE_AND_VERIFY_12 => u64::from(cdb.u32(6)),
            opcode::WRITE_AND_VERIFY_16 | opcode::ORWRITE => u64::from(cdb.u32(10)),
            opcode::WRITE_ATOMIC_16 => u64::from(cdb.u16(12)),
            opcode::VERIFY_10 if compares => u64::from(cdb.u16(7)),
            opcode::VERIFY_12 if compares => u64::from(cdb.u32(6)),
            opcode::VERIFY_16 if compares => u64::from(cdb.u32(10)),
            opcode::COMPARE_AND_WRITE => 2 * u64::from(cdb.u8(13)),
            opcode::WRITE_SAME_10 => 1,
            opcode::WRITE_SAME_16 => u64::from(!cdb.bit(1, 0)),
            opcode::UNMAP | opcode::MODE_SELECT_10 => return list(u64::from(cdb.u16(7))),
            opcode::MODE_SELECT_6 => return list(u64::from(cdb.u8(4))),
            opcode::PERSISTENT_RESERVE_OUT => return list(u64::from(cdb.u32(5))),
            opcode::SANITIZE => return self.sanitize_list_bytes(cdb),
            _ => 0,
        };
        self.data_out_bytes(blocks)
    }

    /// One I/O without payload whose good end is GOOD.
    pub(crate) fn simple_io(&self, command: &Command, op: Op) -> Outcome {
        let io = Io { tag: command.task, op, sgl: reactor::buffer::Sgl::empty() };
        Ok(Step::Io(io, Pending(Plan::Simple { data_out_len: 0, cached: false })))
    }

    /// The extent of a command, or why there is none.
    #[inline]
    pub(crate) fn extent(&self, lba: u64, blocks: u64) -> Result<Extent, Sense> {
        Extent::new(lba, blocks, self.info.length_blocks).ok_or(Sense::LBA_OUT_OF_RANGE)
    }

    /// REQUEST SENSE (SPC-4 section 6.39): a waiting unit attention, else why the unit is not ready.
    fn request_sense(&mut self, command: &Command, cdb: &Cdb) -> Outcome {
        let attention = self.nexuses.get(command.nexus).attention.pop();
        let sense = attention.map(UnitAttention::sense).or(self.condition.sense()).unwrap_or(Sense::NONE);
        bytes(sense.encode(cdb.bit(1, 0)), cdb.u8(4))
    }
}

/// The answer to a command for a LUN that is not there: INQUIRY says so, REPORT LUNS and REQUEST SENSE
/// work, anything else is refused (SPC-4 section 6.6.2 and SAM-5 section 5.11).
pub fn no_such_lun(cdb: &[u8], luns: &[u64]) -> Response {
    let cdb = Cdb::new(cdb);
    match cdb.opcode() {
        opcode::INQUIRY if !cdb.bit(1, 0) && cdb.u8(2) == 0 => {
            let mut data = vec![0; 36];
            // Peripheral qualifier 3, device type 1Fh: no device here and none possible.
            data[..5].copy_from_slice(&[0x7f, 0, 0x06, 0x02, 31]);
            data[8..36].fill(b' ');
            Response::bytes(data, u64::from(cdb.u16(3)))
        }
        opcode::REPORT_LUNS => match crate::report::luns(&cdb, luns) {
            Ok(list) => Response::bytes(list, u64::from(cdb.u32(6))),
            Err(sense) => Response::check(sense, false),
        },
        opcode::REQUEST_SENSE => {
            Response::bytes(Sense::NO_SUCH_LUN.encode(cdb.bit(1, 0)), u64::from(cdb.u8(4)))
        }
        _ => Response::check(Sense::NO_SUCH_LUN, false),
    }
}

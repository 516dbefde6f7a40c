//! SANITIZE (SBC-4 sections 4.11 and 5.30): OVERWRITE, BLOCK ERASE and EXIT FAILURE MODE.
//!
//! ```text
//!            SANITIZE                    every block is done
//! Normal ──────────────▶ Running ─────────────────────────────▶ Normal
//!    ▲                      │  an I/O failed
//!    │ EXIT FAILURE MODE    ▼                  SANITIZE
//!    └──(AUSE was 1)───── Failed ─────────────────────────────▶ Running
//! ```
//!
//! The operation belongs to the logical unit, not to the command that asked for it: no abort, reset or
//! lost nexus ends it. It runs in the background, one I/O at a time: the owner of the unit calls
//! [`LogicalUnit::background`] and gives each answer to [`LogicalUnit::background_done`]. While it runs,
//! and after it has failed, only commands that do not touch the medium are processed.
//!
//! **When the process ends meanwhile** the operation ends with it and is not taken up again: the condition is
//! not kept anywhere. A command whose IMMED is 0 has then not been answered, so nothing was reported as done.
//! Who started it with IMMED 1 and only polls finds a unit that is ready after 29/00 (power on occurred):
//! that means that the operation has to be started again, not that it is over.
//!
//! CRYPTOGRAPHIC ERASE is not offered: nothing is encrypted here, so there is no key to throw away.
//! What the other two are worth, and where their reach ends, is said in [`volume::sanitize`].

use reactor::buffer::BufferPool;
use volume::bdev::{Done, Io};
use volume::sanitize::{Method, Next, Sanitize};

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::opcode::Class;
use crate::read_write::WRONG_DATA_LENGTH;
use crate::response::{Response, Step};
use crate::sense::Sense;
use crate::start::{Outcome, good};
use crate::unit::LogicalUnit;

/// Service actions (SBC-4 table 84).
const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const EXIT_FAILURE_MODE: u8 = 0x1f;

/// The OVERWRITE parameter list without its pattern.
const OVERWRITE_HEADER_BYTES: usize = 4;

/// What the background operation of a logical unit does next.
#[derive(Debug)]
pub enum Background {
    /// Submit it and give its answer to [`LogicalUnit::background_done`].
    Io(Io),
    /// No buffer, or its I/O is still out: ask again later.
    Wait,
    /// It is over, or there is none. The command that waited for it, if any, and its response; it may
    /// have been aborted meanwhile.
    End(Option<(u64, Response)>),
}

/// Whether the medium may be used.
#[derive(Debug, Default)]
pub(crate) enum Condition {
    #[default]
    Normal,
    Running(Box<Running>),
    Failed {
        /// AUSE was 0: only another sanitize operation ends this.
        restricted: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Running {
    operation: Sanitize,
    restricted: bool,
    failed: bool,
    io_is_out: bool,
    waiter: Option<Waiter>,
}

/// The command that is answered at the end, because its IMMED was 0.
#[derive(Debug)]
struct Waiter {
    task: u64,
    data_out_len: u64,
}

impl Condition {
    #[inline]
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// Why the medium cannot be used now (also what REQUEST SENSE reports).
    pub fn sense(&self) -> Option<Sense> {
        match self {
            Self::Normal => None,
            Self::Running(running) => {
                Some(Sense::SANITIZE_IN_PROGRESS.with_progress(running.operation.progress()))
            }
            Self::Failed { .. } => Some(Sense::SANITIZE_FAILED),
        }
    }

    /// Refuses the commands that have to wait for the end of the operation.
    pub fn admit(&self, class: Class, cdb: &Cdb) -> Result<(), Sense> {
        let harmless =
            class == Class::Always || matches!(cdb.opcode(), opcode::LOG_SENSE | opcode::MAINTENANCE_IN);
        let another = cdb.opcode() == opcode::SANITIZE && matches!(self, Self::Failed { .. });
        match self.sense() {
            Some(sense) if !harmless && !another => Err(sense),
            _ => Ok(()),
        }
    }
}

impl LogicalUnit {
    /// Bytes of the parameter list of a SANITIZE; 0 for one that will be refused.
    pub(crate) fn sanitize_list_bytes(&self, cdb: &Cdb) -> u64 {
        let length = usize::from(cdb.u16(7));
        let takes_it = cdb.service_action() == OVERWRITE && self.is_overwrite_length(length);
        if takes_it { length as u64 } else { 0 }
    }

    fn is_overwrite_length(&self, length: usize) -> bool {
        let block_bytes = self.info.logical_block_bytes as usize;
        (OVERWRITE_HEADER_BYTES + 1..=OVERWRITE_HEADER_BYTES + block_bytes).contains(&length)
    }

    pub(crate) fn sanitize(&mut self, command: &Command, cdb: &Cdb, data_out_len: u64) -> Outcome {
        // ZNR is for zoned devices.
        if cdb.bit(1, 6) {
            return Err(Sense::cdb_bit(1, 6).into());
        }
        if let Some(reserved) = (2..=6).find(|byte| cdb.u8(*byte) != 0) {
            return Err(Sense::cdb_byte(reserved as u16).into());
        }
        let length = usize::from(cdb.u16(7));
        let action = cdb.service_action();
        let method = match action {
            OVERWRITE if !self.is_overwrite_length(length) => return Err(Sense::cdb_byte(7).into()),
            OVERWRITE => self.overwrite_method(command, length)?,
            BLOCK_ERASE | EXIT_FAILURE_MODE if length != 0 => return Err(Sense::cdb_byte(7).into()),
            BLOCK_ERASE if self.info.thin => Method::Erase,
            EXIT_FAILURE_MODE => return self.exit_failure_mode(),
            _ => return Err(Sense::cdb_bit(1, 4).into()),
        };
        let restricted = !cdb.bit(1, 5);
        if !restricted && matches!(self.condition, Condition::Failed { restricted: true }) {
            return Err(Sense::cdb_bit(1, 5).into());
        }
        let immediate = cdb.bit(1, 7);
        let waiter = (!immediate).then_some(Waiter { task: command.task, data_out_len });
        let operation = Sanitize::new(method, &self.info);
        let running = Running { operation, restricted, failed: false, io_is_out: false, waiter };
        self.condition = Condition::Running(Box::new(running));
        let answer = immediate.then(|| Response { data_out_len, ..Response::good() });
        Ok(Step::Background(answer))
    }

    /// The OVERWRITE parameter list (SBC-4 table 85).
    fn overwrite_method(&self, command: &Command, length: usize) -> Result<Method, Sense> {
        if command.data_out.len() != length {
            return Err(WRONG_DATA_LENGTH);
        }
        let mut list = vec![0; length];
        command.data_out.copy_out(0, &mut list);
        let (header, pattern) = list.split_at(OVERWRITE_HEADER_BYTES);
        let passes = header[0] & 0x1f;
        // TEST: there are no vendor-specific tests.
        if passes == 0 || header[0] & 0x60 != 0 {
            return Err(Sense::parameter_byte(0));
        }
        if header[1] != 0 {
            return Err(Sense::parameter_byte(1));
        }
        let pattern_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let block_bytes = self.info.logical_block_bytes as usize;
        if pattern_bytes == 0 || pattern_bytes > block_bytes {
            return Err(Sense::parameter_byte(2));
        }
        let pattern = pattern.get(..pattern_bytes).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        // Each block begins with the first byte of the pattern.
        let block = pattern.iter().copied().cycle().take(block_bytes).collect();
        Ok(Method::Overwrite { block, passes, invert: header[0] & 0x80 != 0 })
    }

    fn exit_failure_mode(&mut self) -> Outcome {
        match self.condition {
            Condition::Failed { restricted: true } => Err(Sense::cdb_bit(1, 4).into()),
            Condition::Failed { restricted: false } => {
                self.condition = Condition::Normal;
                good()
            }
            // Nothing has failed: there is nothing to leave.
            Condition::Normal => good(),
            Condition::Running(_) => unreachable!("no other command starts while an operation runs"),
        }
    }

    /// True for a command that may begin an operation during which nobody else may use the volume.
    #[inline]
    pub fn wants_alone(&self, cdb: &[u8]) -> bool {
        cdb.first() == Some(&opcode::SANITIZE) && !self.has_background()
    }

    /// True while an operation runs in the background.
    pub fn has_background(&self) -> bool {
        matches!(self.condition, Condition::Running(_))
    }

    /// The next I/O of the background operation, with `tag` as its tag.
    pub fn background(&mut self, tag: u64, buffers: &BufferPool) -> Background {
        let Condition::Running(running) = &mut self.condition else { return Background::End(None) };
        if running.io_is_out {
            return Background::Wait;
        }
        if !running.failed {
            match running.operation.next(buffers) {
                Next::Memory => return Background::Wait,
                Next::Finished => {}
                Next::Io(op, sgl) => {
                    running.io_is_out = true;
                    return Background::Io(Io { tag, op, sgl });
                }
            }
        }
        let end = if running.failed {
            Condition::Failed { restricted: running.restricted }
        } else {
            Condition::Normal
        };
        let waiter = running.waiter.take();
        self.condition = end;
        let response = self.condition.sense().map_or_else(Response::good, |sense| self.check(sense));
        let answer =
            |waiter: Waiter| (waiter.task, Response { data_out_len: waiter.data_out_len, ..response });
        Background::End(waiter.map(answer))
    }

    /// Takes the end of the background I/O.
    ///
    /// # Panics
    /// When none is out: a bug of the caller.
    pub fn background_done(&mut self, done: Done) {
        let Condition::Running(running) = &mut self.condition else {
            unreachable!("an operation outlives its I/O")
        };
        assert!(running.io_is_out, "only an I/O that was asked for ends");
        running.io_is_out = false;
        running.failed = running.operation.on_done(done.status).is_err();
    }
}

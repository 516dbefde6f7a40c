//! SCSI Command PDUs (RFC 7143 section 11.3): judged at the header, entered when complete.

use smallvec::SmallVec;

use super::Session;
use super::event::{Cdb, Fatal, TaskId};
use super::flow::InWindow;
use super::host::{Host, Payload};
use super::limits::{CDB_BYTES_MAX, IMMEDIATE_TASKS_MAX};
use super::receive::{Action, Phase};
use super::task::TaskState;
use super::transfer::Failure;
use crate::pdu::{Ahs, AhsWalk, Opcode, RESERVED_TAG, RejectReason, ScsiCommand};

/// What the additional header segments said.
struct Extended {
    cdb: Cdb,
    bidirectional_read_bytes: u32,
}

impl<P: Payload> Session<P> {
    /// A command's header is there.
    #[inline]
    pub(super) fn begin_command<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        host: &mut H,
    ) -> Result<(), Fatal> {
        let header = *ScsiCommand::view(&self.open(index).rx.bhs);
        if self.rules.discovery {
            return self.refuse_pdu(index, RejectReason::PROTOCOL_ERROR);
        }
        if !header.is_immediate() && !self.window.accepts(header.cmd_sn.get()) {
            //= RFC 7143 section 4.2.2.1: ignored in silence, outside of the window or a duplicate
            self.counters.commands_ignored += 1;
            self.open(index).rx.begin_data(Action::Ignore, 0);
            return Ok(());
        }
        if header.is_immediate() && self.immediate_tasks >= IMMEDIATE_TASKS_MAX {
            return self.refuse_pdu(index, RejectReason::IMMEDIATE_COMMAND_REJECT);
        }
        let itt = header.itt.get();
        if itt == RESERVED_TAG {
            return self.refuse_pdu(index, RejectReason::INVALID_PDU_FIELD);
        }
        if self.tag_in_use(itt) {
            return self.refuse_pdu(index, RejectReason::TASK_IN_PROGRESS);
        }
        self.check_data_flags(index, &header)?;
        let Some(extended) = self.extended(index, &header)? else {
            return self.refuse_pdu(index, RejectReason::INVALID_PDU_FIELD);
        };
        self.begin_task(index, &header, extended, host);
        Ok(())
    }

    /// True when the tag is one of a task or request in progress.
    pub(super) fn tag_in_use(&self, itt: u32) -> bool {
        self.tasks.find(itt).is_some() || self.requests.has_tag(itt)
    }

    /// Data that was not negotiated, or flags that contradict each other, end the connection (section 7.7).
    fn check_data_flags(&mut self, index: usize, header: &ScsiCommand) -> Result<(), Fatal> {
        let data_bytes = header.data_segment_length.get() as u32;
        let format = Fatal::Format { opcode: Opcode::SCSI_COMMAND.0 };
        let fatal = if !header.is_write() {
            (data_bytes > 0 || !header.is_final()).then_some(format)
        } else if data_bytes > header.expected_data_transfer_length.get() {
            Some(format)
        } else {
            let immediate = data_bytes > 0 && !self.rules.immediate_data;
            let unsolicited = !header.is_final() && self.rules.initial_r2t;
            let too_long = data_bytes > self.rules.first_burst_bytes;
            (immediate || unsolicited || too_long).then_some(Fatal::UnsolicitedData)
        };
        match fatal {
            None => Ok(()),
            Some(fatal) => {
                self.send_reject(index, RejectReason::PROTOCOL_ERROR);
                Err(fatal)
            }
        }
    }

    /// CDB and bidirectional length, with the additional header segments. `Ok(None)` when one is not known.
    fn extended(&mut self, index: usize, header: &ScsiCommand) -> Result<Option<Extended>, Fatal> {
        let mut extended = Extended { cdb: SmallVec::from_slice(&header.cdb), bidirectional_read_bytes: 0 };
        if header.total_ahs_length_words == 0 {
            return Ok(Some(extended));
        }
        let format = Fatal::Format { opcode: Opcode::SCSI_COMMAND.0 };
        let mut known = true;
        for segment in AhsWalk::new(self.open(index).rx.ahs()) {
            match segment.map_err(|_| format)? {
                Ahs::ExtendedCdb(rest) if extended.cdb.len() + rest.len() <= CDB_BYTES_MAX => {
                    extended.cdb.extend_from_slice(rest);
                }
                Ahs::BidirectionalReadLength(bytes) => extended.bidirectional_read_bytes = bytes,
                Ahs::ExtendedCdb(_) | Ahs::Unknown { .. } => known = false,
            }
        }
        Ok(known.then_some(extended))
    }

    fn begin_task<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        header: &ScsiCommand,
        extended: Extended,
        host: &mut H,
    ) {
        let (lun, expected_bytes) = (header.lun.get(), header.expected_data_transfer_length.get());
        let immediate_bytes = header.data_segment_length.get() as u32;
        let unsolicited_open = header.is_write() && !header.is_final();
        let data_out_wanted = host.data_out_length(lun, &extended.cdb);
        let take_bytes = match header.is_write() {
            true => u32::try_from(data_out_wanted).unwrap_or(u32::MAX).min(expected_bytes),
            false => 0,
        };
        let mut payload = None;
        let mut failure = None;
        if take_bytes > 0 && (immediate_bytes > 0 || unsolicited_open) {
            payload = if self.waiters.is_empty() { host.alloc(take_bytes as usize) } else { None };
            if payload.is_none() && !self.must_not_park() {
                self.open(index).rx.phase = Phase::Parked;
                return self.note_memory();
            }
            failure = payload.is_none().then_some(Failure::TaskSetFull);
        }
        let id = self.tasks.insert(header.itt.get());
        let task = self.tasks.get_mut(id).expect("just made");
        task.connection = index as u8;
        task.immediate = header.is_immediate();
        task.read = header.is_read();
        task.write = header.is_write();
        task.attribute = header.attribute();
        task.cmd_sn = header.cmd_sn.get();
        task.lun = lun;
        task.expected_bytes = expected_bytes;
        task.bidirectional_read_bytes = extended.bidirectional_read_bytes;
        task.data_out_wanted = data_out_wanted;
        task.cdb = extended.cdb;
        task.payload = payload;
        let first_burst_bytes = self.rules.first_burst_bytes;
        task.transfer.begin(take_bytes, expected_bytes, immediate_bytes, unsolicited_open, first_burst_bytes);
        if let Some(failure) = failure {
            self.counters.task_set_full += 1;
            task.transfer.fail(failure);
        }
        self.immediate_tasks += usize::from(header.is_immediate());
        let connection = self.open(index);
        connection.tasks += 1;
        connection.rx.begin_data(Action::Command(id), 0);
    }

    /// The whole command PDU is there.
    #[inline]
    pub(super) fn finish_command<H: Host<Payload = P>>(&mut self, id: TaskId, host: &mut H) {
        // An abort may have taken it while its data came.
        let Some(task) = self.tasks.get_mut(id) else { return self.run_window(host) };
        if task.immediate {
            return self.enter(id, host);
        }
        let cmd_sn = task.cmd_sn;
        if !self.window.accepts(cmd_sn) {
            // The same number came whole on another connection meanwhile.
            self.counters.commands_ignored += 1;
            return self.drop_task(id);
        }
        task.state = TaskState::Held;
        self.window.admit(cmd_sn, InWindow::Task(id));
        self.run_window(host);
    }
}

//! Data-Out PDUs (RFC 7143 section 11.7), and the start and end of every PDU.

use super::Session;
use super::event::Fatal;
use super::host::{Host, Payload};
use super::receive::Action;
use super::task::TaskState;
use super::transfer::{DataOutHeader, Failure, Violation};
use crate::pdu::{DataOut, NopOut, Opcode, RESERVED_TAG, RejectReason};

impl<P: Payload> Session<P> {
    /// A header is there and sound: decides what becomes of the PDU.
    #[inline]
    pub(super) fn begin_pdu<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        host: &mut H,
    ) -> Result<(), Fatal> {
        let connection = self.open(index);
        let bhs = connection.rx.bhs;
        // ExpStatSN lies at the same place in every PDU of an initiator.
        connection.acknowledge(NopOut::view(&bhs).exp_stat_sn.get());
        match bhs.opcode() {
            Opcode::SCSI_COMMAND => self.begin_command(index, host),
            Opcode::DATA_OUT => self.begin_data_out(index),
            Opcode::NOP_OUT
            | Opcode::TMF_REQUEST
            | Opcode::TEXT_REQUEST
            | Opcode::LOGOUT_REQUEST
            | Opcode::SNACK_REQUEST => {
                connection.rx.begin_data(Action::Control, 0);
                Ok(())
            }
            Opcode::LOGIN_REQUEST => {
                self.send_reject(index, RejectReason::PROTOCOL_ERROR);
                Err(Fatal::UnexpectedLogin)
            }
            opcode if opcode.is_from_initiator() => {
                self.refuse_pdu(index, RejectReason::COMMAND_NOT_SUPPORTED)
            }
            // Reserved, or an opcode that only a target sends.
            _ => self.refuse_pdu(index, RejectReason::PROTOCOL_ERROR),
        }
    }

    /// Rejects the PDU in progress and reads over its data.
    pub(super) fn refuse_pdu(&mut self, index: usize, reason: RejectReason) -> Result<(), Fatal> {
        self.send_reject(index, reason);
        self.open(index).rx.begin_data(Action::Ignore, 0);
        Ok(())
    }

    #[inline]
    fn begin_data_out(&mut self, index: usize) -> Result<(), Fatal> {
        let rx = &mut self.connections[index].as_mut().expect("the connection is in use").rx;
        let header = *DataOut::view(&rx.bhs);
        let Some(id) = self.tasks.find(header.itt.get()) else {
            // Late data of a task that was aborted or refused: its buffer is gone, and nothing is written.
            self.counters.data_out_discarded += 1;
            rx.begin_data(Action::Ignore, 0);
            return Ok(());
        };
        let task = self.tasks.get_mut(id).expect("found");
        let data_out = parse(&header);
        let own = usize::from(task.connection) == index;
        // The LUN is only valid together with a target transfer tag.
        let same_lun = data_out.ttt.is_none() || header.lun.get() == task.lun;
        let judged = match own && same_lun {
            true => task.transfer.accept(data_out),
            false => Err(Violation::Solicited),
        };
        match judged {
            Ok(offset_bytes) => {
                rx.begin_data(Action::DataOut(id), offset_bytes as usize);
                Ok(())
            }
            Err(violation) => {
                self.send_reject(index, RejectReason::PROTOCOL_ERROR);
                Err(match violation {
                    Violation::Unsolicited => Fatal::UnsolicitedData,
                    Violation::Solicited => Fatal::DataOut,
                })
            }
        }
    }

    /// A whole PDU is there.
    #[inline]
    pub(super) fn finish_pdu<H: Host<Payload = P>>(
        &mut self,
        index: usize,
        host: &mut H,
    ) -> Result<(), Fatal> {
        let rx = &mut self.open(index).rx;
        let action = rx.action;
        if !rx.data_is_sound() {
            self.on_damaged_data(index, action, host);
        } else {
            match action {
                Action::Ignore => {}
                Action::Command(id) => self.finish_command(id, host),
                Action::DataOut(_) => self.finish_data_out(index, action),
                Action::Control => self.finish_control(index, host)?,
            }
        }
        if let Some(connection) = self.connections[index].as_mut() {
            connection.rx.finish();
        }
        Ok(())
    }

    #[inline]
    fn finish_data_out(&mut self, index: usize, action: Action) {
        let header = parse(DataOut::view(&self.open(index).rx.bhs));
        let Action::DataOut(id) = action else { return };
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.transfer.finish(header.ttt, header.is_final);
        if task.state == TaskState::Collecting {
            self.advance_transfer(id);
        }
    }

    /// Section 7.8: a damaged data segment is rejected. A command with it counts as not received; a task whose
    /// Data-Out it was fails, behind the rest of its data.
    fn on_damaged_data<H: Host<Payload = P>>(&mut self, index: usize, action: Action, host: &mut H) {
        self.counters.digest_errors += 1;
        self.send_reject(index, RejectReason::DATA_DIGEST_ERROR);
        match action {
            Action::Command(id) => {
                if self.tasks.get(id).is_some() {
                    self.drop_task(id);
                }
                self.run_window(host);
            }
            Action::DataOut(id) => {
                if let Some(task) = self.tasks.get_mut(id) {
                    task.transfer.fail(Failure::ProtocolServiceCrc);
                    task.payload = None;
                }
                self.finish_data_out(index, action);
            }
            Action::Control | Action::Ignore => {}
        }
    }
}

fn parse(header: &DataOut) -> DataOutHeader {
    let ttt = header.ttt.get();
    DataOutHeader {
        ttt: (ttt != RESERVED_TAG).then_some(ttt),
        data_sn: header.data_sn.get(),
        offset_bytes: header.buffer_offset_bytes.get(),
        length_bytes: header.data_segment_length.get() as u32,
        is_final: header.is_final(),
    }
}

//! Commands from the queues: where each goes, and how each is answered.

use nvme_spec::opcode::FABRICS;
use nvme_spec::{Cqe, Sqe, Status};
use nvmf_proto::CommandId;
use reactor::buffer::Sgl;

use crate::core::NvmfCore;
use crate::slots::Key;
use crate::state::{Data, HostCommand, Phase};

impl NvmfCore {
    /// A queue has a command whose data is there.
    #[inline]
    pub(crate) fn on_command(&mut self, key: Key, command: HostCommand) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let live = match connection.phase {
            Phase::Live { controller, qid } => Some((controller, qid)),
            _ => None,
        };
        if let Some(status) = command.fault {
            // The other half of a fused operation fails with it.
            let partner = connection.fused.on_lost(command.sqe.cid.get()).filter(|_| live.is_some());
            if let Some((partner, status)) = partner {
                self.answer_failed(key, &partner, status);
            }
            self.answer_failed(key, &command, status);
            if live.is_none() {
                self.linger(key);
            }
            return;
        }
        match live {
            Some((controller, qid)) if qid > 0 && command.sqe.opcode != FABRICS => {
                self.on_io_command(key, controller, command);
            }
            Some((controller, _)) if command.sqe.opcode != FABRICS => {
                self.on_admin_command(key, controller, command)
            }
            _ => self.on_fabrics_command(key, live, command),
        }
    }

    /// Answers a command with a status and, in dwords 0 and 1, a result.
    #[inline]
    pub(crate) fn answer(&mut self, key: Key, id: CommandId, status: Status, result: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.executing -= 1;
        let mut cqe = Cqe::new(0, status);
        if result != 0 {
            cqe.set_result64(result);
        }
        // False for a queue that has ended: then nobody waits for the answer.
        let _ = connection.queue.complete(id, cqe);
        self.touch_sender(key, 0);
    }

    /// Answers a command with data, of which the CRC-32C may be known.
    #[inline]
    pub(crate) fn answer_blocks(&mut self, key: Key, id: CommandId, sgl: Sgl, crc32c: Option<u32>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.executing -= 1;
        let answer_bytes = sgl.len();
        let data = match crc32c {
            Some(crc32c) => Data::Checked(sgl, crc32c),
            None => Data::Blocks(sgl),
        };
        let _ = connection.queue.complete_read(id, Cqe::new(0, Status::SUCCESS), data);
        self.touch_sender(key, answer_bytes);
    }

    /// Answers a command with what the controller says: as much of it as the host has room for.
    pub(crate) fn answer_bytes(&mut self, key: Key, command: &HostCommand, mut bytes: Vec<u8>) {
        if (command.sgl_bytes as usize) < bytes.len() {
            return self.answer_failed(key, command, Status::DATA_SGL_LENGTH_INVALID.with_dnr());
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.executing -= 1;
        bytes.shrink_to_fit();
        let _ = connection.queue.complete_read(command.id, Cqe::new(0, Status::SUCCESS), Data::Bytes(bytes));
        self.touch(key);
    }

    /// Answers a command that failed, and writes it down.
    pub(crate) fn answer_failed(&mut self, key: Key, command: &HostCommand, status: Status) {
        self.note_error(key, &command.sqe, status);
        self.answer(key, command.id, status, 0);
    }

    /// Puts a failure into the error log of its controller.
    fn note_error(&mut self, key: Key, sqe: &Sqe, status: Status) {
        let Some(Phase::Live { controller, qid }) =
            self.connections.get(key).map(|connection| &connection.phase)
        else {
            return;
        };
        if let Some(controller) = self.controllers.get_mut(*controller) {
            controller.logs.error(*qid, sqe, status);
        }
    }
}

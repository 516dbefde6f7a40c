//! Fabrics commands: Connect, properties, Disconnect (NVMe base, section 6).

use nvme_spec::Status;
use nvme_spec::fabrics::{Disconnect, FabricsType, PropertyGet, PropertySet};

use crate::connect;
use crate::core::NvmfCore;
use crate::registers::Effect;
use crate::slots::Key;
use crate::state::{HostCommand, Phase, Quiescing, Then};

impl NvmfCore {
    /// A Fabrics command, or any command before Connect.
    pub(crate) fn on_fabrics_command(&mut self, key: Key, live: Option<(Key, u16)>, command: HostCommand) {
        let Some((controller, qid)) = live else { return self.on_first_command(key, command) };
        let invalid = Status::INVALID_FIELD.with_dnr();
        match command.sqe.fabrics_type() {
            Some(FabricsType::CONNECT) => {
                self.answer_failed(key, &command, Status::COMMAND_SEQUENCE_ERROR.with_dnr());
            }
            Some(FabricsType::PROPERTY_GET) if qid == 0 => {
                let request = PropertyGet::view(&command.sqe);
                let entry = self.controllers.get(controller).expect("a live queue has its controller");
                match entry.registers.get(request.attrib, request.offset.get()) {
                    Ok(value) => self.answer(key, command.id, Status::SUCCESS, value),
                    Err(status) => self.answer_failed(key, &command, status),
                }
            }
            Some(FabricsType::PROPERTY_SET) if qid == 0 => self.set_property(key, controller, &command),
            Some(FabricsType::DISCONNECT) if qid == 0 => {
                self.answer_failed(key, &command, Status::INVALID_QUEUE_TYPE.with_dnr());
            }
            Some(FabricsType::DISCONNECT) if Disconnect::view(&command.sqe).recfmt.get() != 0 => {
                self.answer_failed(key, &command, Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr());
            }
            Some(FabricsType::DISCONNECT) => self.disconnect(key, &command),
            Some(FabricsType::PROPERTY_GET | FabricsType::PROPERTY_SET) => {
                self.answer_failed(key, &command, invalid)
            }
            // Authentication is not offered (AUTHREQ of Connect is 0), nor is anything newer.
            _ => self.answer_failed(key, &command, Status::INVALID_OPCODE.with_dnr()),
        }
    }

    /// The first command of a connection has to be Connect.
    fn on_first_command(&mut self, key: Key, mut command: HostCommand) {
        let waiting = self
            .connections
            .get(key)
            .is_some_and(|connection| matches!(connection.phase, Phase::Waiting(..)));
        if waiting || !connect::is_connect(&command.sqe) {
            return self.refuse_connect(key, command.id, Status::COMMAND_SEQUENCE_ERROR.into());
        }
        let data = command.data.take().map(|data| data.into_sgl().to_vec()).unwrap_or_default();
        match connect::parse(&command.sqe, &data, self.settings.queue_entries_max) {
            Ok(request) => self.on_connect(key, command.id, request),
            Err(refusal) => self.refuse_connect(key, command.id, refusal),
        }
    }

    fn set_property(&mut self, key: Key, controller: Key, command: &HostCommand) {
        let request = PropertySet::view(&command.sqe);
        let entry = self.controllers.get_mut(controller).expect("a live queue has its controller");
        match entry.registers.set(request.attrib, request.offset.get(), request.value.get()) {
            Ok(effect) => {
                self.answer(key, command.id, Status::SUCCESS, 0);
                match effect {
                    Effect::None => {}
                    Effect::Reset => self.quiesce(controller, Quiescing::Reset),
                    Effect::Shutdown => self.quiesce(controller, Quiescing::Shutdown),
                }
            }
            Err(status) => self.answer_failed(key, command, status),
        }
    }

    /// Disconnect of an I/O queue: what it has under way ends before the answer.
    fn disconnect(&mut self, key: Key, command: &HostCommand) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if std::mem::replace(&mut connection.disconnecting, true) {
            return self.answer_failed(key, command, Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        let tasks: Vec<Key> = connection.tasks.iter().copied().flatten().collect();
        for task in &tasks {
            self.stop_task(*task, Status::ABORTED_SQ_DELETION);
        }
        self.wait_then(tasks, Then::Disconnect { connection: key, id: command.id });
    }
}

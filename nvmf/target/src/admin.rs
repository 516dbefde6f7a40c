//! Admin commands of a controller (NVMe base, section 5).

use nvme_spec::admin::{GetLogPage, Identify, NOT_ABORTED};
use nvme_spec::identify::{Cns, CommandSet};
use nvme_spec::log::{ANA_RETURN_GROUPS_ONLY, LogPageId};
use nvme_spec::{AdminOpcode, DISCOVERY_NQN, NSID_ALL, Status};
use nvmf_proto::CommandId;
use nvmf_proto::target::Aborted;
use reactor::stats::StatsSet;
use volume::reservation::Change;

use crate::core::NvmfCore;
use crate::event::AsyncEvent;
use crate::features::{Context, Set};
use crate::identify::{self, ControllerView, NamespaceView};
use crate::log_page::{self, GroupView};
use crate::slots::Key;
use crate::state::{Controller, HostCommand, Namespace, Subsystem};
use crate::{discovery, limits};

impl NvmfCore {
    /// A command of the admin queue.
    pub(crate) fn on_admin_command(&mut self, key: Key, controller_key: Key, command: HostCommand) {
        let controller = self.controllers.get_mut(controller_key).expect("a live queue has its controller");
        let refusal = if !controller.registers.is_enabled() {
            Some(Status::COMMAND_SEQUENCE_ERROR.with_dnr())
        } else if command.sqe.fuse().0 != 0 {
            Some(Status::INVALID_FIELD.with_dnr())
        } else {
            None
        };
        if let Some(status) = refusal {
            return self.answer_failed(key, &command, status);
        }
        let answered = match command.sqe.admin_opcode() {
            AdminOpcode::KEEP_ALIVE => {
                self.answer(key, command.id, Status::SUCCESS, 0);
                Ok(None)
            }
            AdminOpcode::IDENTIFY => self.identify(controller_key, &command).map(Some),
            AdminOpcode::GET_LOG_PAGE => self.get_log_page(key, controller_key, &command).map(Some),
            AdminOpcode::GET_FEATURES => self.get_features(key, controller_key, &command),
            AdminOpcode::SET_FEATURES => self.set_features(key, controller_key, &command).map(|()| None),
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => {
                self.request_event(key, controller_key, command.id).map(|()| None)
            }
            AdminOpcode::ABORT => {
                let result = self.abort_command(controller_key, &command);
                self.answer(key, command.id, Status::SUCCESS, u64::from(result));
                Ok(None)
            }
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        };
        match answered {
            Ok(Some(bytes)) => self.answer_bytes(key, &command, bytes),
            Ok(None) => {}
            Err(status) => self.answer_failed(key, &command, status),
        }
    }

    fn subsystem_of(&self, controller: &Controller) -> Option<&Subsystem> {
        self.subsystems.get(controller.subsystem?)
    }

    /// The namespaces of a controller's subsystem, with their NSIDs.
    fn namespaces_of<'a>(
        &'a self,
        controller: &Controller,
    ) -> impl Iterator<Item = (u32, &'a Namespace)> + use<'a> {
        let subsystem = controller.subsystem.and_then(|key| self.subsystems.get(key));
        let attached = subsystem.into_iter().flat_map(Subsystem::attached);
        attached.filter_map(|(nsid, key)| Some((nsid, self.namespaces.get(key)?)))
    }

    fn has_volatile_cache(&self, controller: &Controller) -> bool {
        self.namespaces_of(controller).any(|(_, namespace)| namespace.info.volatile_write_cache)
    }

    fn identify(&self, controller_key: Key, command: &HostCommand) -> Result<Vec<u8>, Status> {
        let request = Identify::of(&command.sqe);
        let controller = self.controllers.get(controller_key).expect("looked up by the caller");
        if request.cns == Cns::CONTROLLER {
            return Ok(self.identify_controller(controller));
        }
        let invalid = Err(Status::INVALID_FIELD.with_dnr());
        let Some(subsystem) = self.subsystem_of(controller) else { return invalid };
        let nsids = || subsystem.attached().map(|(nsid, _)| nsid);
        let is_nvm = request.csi == CommandSet::NVM;
        match request.cns {
            Cns::NAMESPACE
            | Cns::ALLOCATED_NAMESPACE
            | Cns::INDEPENDENT_NAMESPACE
            | Cns::INDEPENDENT_ALLOCATED_NAMESPACE => self.identify_namespace(subsystem, &request),
            Cns::ACTIVE_NAMESPACE_LIST | Cns::ALLOCATED_NAMESPACE_LIST => list_after(nsids(), request.nsid),
            Cns::COMMAND_SET_ACTIVE_NAMESPACE_LIST | Cns::COMMAND_SET_ALLOCATED_NAMESPACE_LIST if is_nvm => {
                list_after(nsids(), request.nsid)
            }
            Cns::NAMESPACE_DESCRIPTOR_LIST => {
                let namespace = self.namespace_at(subsystem, request.nsid)?;
                Ok(identify::namespace_descriptors(&namespace.info))
            }
            // Nothing there is not zero without extended formats.
            Cns::COMMAND_SET_NAMESPACE | Cns::COMMAND_SET_ALLOCATED_NAMESPACE if is_nvm => {
                if request.nsid != NSID_ALL {
                    self.namespace_at(subsystem, request.nsid)?;
                }
                Ok(vec![0; 4096])
            }
            Cns::COMMAND_SET_CONTROLLER if is_nvm => Ok(identify::controller_nvm()),
            Cns::NAMESPACE_CONTROLLER_LIST | Cns::CONTROLLER_LIST => {
                if request.cns == Cns::NAMESPACE_CONTROLLER_LIST {
                    self.namespace_at(subsystem, request.nsid)?;
                }
                let same = self.controllers.iter().map(|(_, other)| other);
                let same = same.filter(|other| other.subsystem == controller.subsystem && !other.ended);
                let mut ids: Vec<u16> = same.map(|other| other.cntlid).collect();
                ids.sort_unstable();
                Ok(identify::controller_list(&ids, request.cntid))
            }
            Cns::COMMAND_SETS if matches!(request.cntid, 0xffff) || request.cntid == controller.cntlid => {
                Ok(identify::command_sets())
            }
            Cns::COMMAND_SET_NAMESPACE | Cns::COMMAND_SET_CONTROLLER => {
                Err(Status::INVALID_IO_COMMAND_SET.with_dnr())
            }
            _ => invalid,
        }
    }

    fn identify_controller(&self, controller: &Controller) -> Vec<u8> {
        let setup = self.subsystem_of(controller).map(|subsystem| &subsystem.setup);
        identify::controller(&ControllerView {
            settings: &self.settings,
            discovery: controller.subsystem.is_none(),
            cntlid: controller.cntlid,
            nqn: setup.map_or(DISCOVERY_NQN, |setup| &setup.nqn),
            serial: setup.map_or("", |setup| &setup.serial),
            model: setup.map_or("Vega discovery", |setup| &setup.model),
            volatile_write_cache: self.has_volatile_cache(controller),
        })
    }

    /// An attached namespace; the status of the host for one that is not.
    fn namespace_at(&self, subsystem: &Subsystem, nsid: u32) -> Result<&Namespace, Status> {
        let key = subsystem.namespace(nsid).ok_or(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr())?;
        Ok(self.namespaces.get(key).expect("an attached namespace is there"))
    }

    fn identify_namespace(&self, subsystem: &Subsystem, request: &Identify) -> Result<Vec<u8>, Status> {
        let independent =
            matches!(request.cns, Cns::INDEPENDENT_NAMESPACE | Cns::INDEPENDENT_ALLOCATED_NAMESPACE);
        let valid = (1..=limits::NAMESPACES_PER_SUBSYSTEM_MAX).contains(&request.nsid);
        if valid && subsystem.namespace(request.nsid).is_none() {
            // A valid identifier of an inactive namespace: a structure of zeros (NVM, section 4.1.5.1).
            return Ok(vec![0; 4096]);
        }
        let namespace = self.namespace_at(subsystem, request.nsid)?;
        let group = subsystem.setup.namespaces.get(&request.nsid).map_or(1, |setup| setup.ana_group);
        let view = NamespaceView {
            info: &namespace.info,
            ana_group: group,
            allocated_bytes: namespace.volume.allocated_bytes(),
        };
        Ok(if independent { identify::namespace_independent(&view) } else { identify::namespace(&view) })
    }

    fn get_log_page(
        &mut self,
        key: Key,
        controller_key: Key,
        command: &HostCommand,
    ) -> Result<Vec<u8>, Status> {
        let request = GetLogPage::of(&command.sqe);
        let length = log_page::check(&request)?;
        let connection = self.connections.get(key).expect("a command comes by a live connection");
        let (reached, port_id) = (connection.local, connection.port_id);
        let controller = self.controllers.get(controller_key).expect("looked up by the caller");
        let is_discovery = controller.subsystem.is_none();
        let invalid = Status::INVALID_LOG_PAGE.with_dnr();
        let page = match request.lid {
            LogPageId::SUPPORTED_LOG_PAGES => log_page::supported_pages(is_discovery),
            LogPageId::ERROR => controller.logs.error_page(),
            LogPageId::SMART => self.smart_page(controller, request.nsid)?,
            LogPageId::FIRMWARE_SLOT => log_page::firmware_slot(),
            LogPageId::FEATURES_SUPPORTED_AND_EFFECTS => {
                log_page::features_supported(&self.feature_context(controller, &|_| None))
            }
            LogPageId::DISCOVERY if is_discovery => {
                discovery::log_page(&self.directory, &controller.host_nqn, reached, port_id)
            }
            _ if is_discovery => return Err(invalid),
            LogPageId::COMMANDS_SUPPORTED_AND_EFFECTS if request.csi == CommandSet::NVM => {
                log_page::command_effects()
            }
            LogPageId::ANA => self.ana_page(controller, request.lsp & ANA_RETURN_GROUPS_ONLY != 0),
            LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST => self
                .controllers
                .get_mut(controller_key)
                .expect("there")
                .logs
                .changed_namespaces(request.retain_event),
            LogPageId::RESERVATION_NOTIFICATION => self
                .controllers
                .get_mut(controller_key)
                .expect("there")
                .logs
                .notice_page(request.retain_event),
            _ => return Err(invalid),
        };
        let part = log_page::cut(page, request.offset, length)?;
        if (command.sgl_bytes as usize) < part.len() {
            return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr());
        }
        if !request.retain_event {
            self.clear_event(controller_key, request.lid);
        }
        Ok(part)
    }

    /// Reading the page of an event re-arms the event.
    fn clear_event(&mut self, controller_key: Key, lid: LogPageId) {
        let event = match lid {
            LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST => AsyncEvent::NamespaceAttributes,
            LogPageId::ANA => AsyncEvent::AnaChange,
            LogPageId::DISCOVERY => AsyncEvent::DiscoveryChange,
            LogPageId::RESERVATION_NOTIFICATION => AsyncEvent::ReservationLog,
            _ => return,
        };
        let controller = self.controllers.get_mut(controller_key).expect("looked up by the caller");
        controller.events.clear(event);
        if event == AsyncEvent::ReservationLog && controller.logs.has_notices() {
            // One notification per page: the next one is announced anew.
            self.raise(controller_key, event);
        }
    }

    fn smart_page(&self, controller: &Controller, nsid: u32) -> Result<Vec<u8>, Status> {
        // Of the controller as a whole; pages of single namespaces are not announced (LPA bit 0).
        if !matches!(nsid, 0 | NSID_ALL) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let stats: Vec<&StatsSet> =
            self.namespaces_of(controller).map(|(_, namespace)| &*namespace.stats).collect();
        let hours = self.now.since(self.started).as_secs() / 3600;
        Ok(log_page::smart(stats.into_iter(), hours, controller.logs.error_count()))
    }

    fn ana_page(&self, controller: &Controller, groups_only: bool) -> Vec<u8> {
        let Some(subsystem) = self.subsystem_of(controller) else { return log_page::ana(&[], 0, true) };
        let mut groups: Vec<GroupView> = Vec::new();
        for (nsid, namespace) in &subsystem.setup.namespaces {
            let group = namespace.ana_group;
            match groups.iter_mut().find(|view| view.group == group) {
                Some(view) => view.nsids.push(*nsid),
                None => groups.push(GroupView {
                    group,
                    state: subsystem.setup.ana_state(controller.port_id, group),
                    change_count: subsystem.group_changes.get(&group).copied().unwrap_or(0),
                    nsids: vec![*nsid],
                }),
            }
        }
        groups.sort_by_key(|view| view.group);
        log_page::ana(&groups, subsystem.ana_changes, groups_only)
    }

    fn feature_context<'a>(
        &self,
        controller: &Controller,
        persistence: &'a dyn Fn(u32) -> Option<bool>,
    ) -> Context<'a> {
        let keep_alive_ms = controller.keep_alive.map_or(0, |timeout| timeout.as_millis());
        Context {
            discovery: controller.subsystem.is_none(),
            io_queues_max: self.settings.io_queues_max,
            has_io_queues: controller.has_io_queues(),
            volatile_write_cache: self.has_volatile_cache(controller),
            host_id: controller.host_id,
            keep_alive_ms: u32::try_from(keep_alive_ms).unwrap_or(u32::MAX),
            persistence,
        }
    }

    /// Whether the reservations of a namespace survive power loss.
    fn persistence(&self, controller: &Controller, nsid: u32) -> Option<bool> {
        let key = self.subsystem_of(controller)?.namespace(nsid)?;
        Some(self.namespaces.get(key)?.port.reservations().survives_power_loss())
    }

    fn get_features(
        &mut self,
        key: Key,
        controller_key: Key,
        command: &HostCommand,
    ) -> Result<Option<Vec<u8>>, Status> {
        let controller = self.controllers.get(controller_key).expect("looked up by the caller");
        let persistence = |nsid| self.persistence(controller, nsid);
        let context = self.feature_context(controller, &persistence);
        let got = controller.features.get(&command.sqe, &context)?;
        if got.data.is_none() {
            self.answer(key, command.id, Status::SUCCESS, u64::from(got.dword));
        }
        Ok(got.data)
    }

    fn set_features(&mut self, key: Key, controller_key: Key, command: &HostCommand) -> Result<(), Status> {
        let data = match &command.data {
            Some(crate::state::Data::Blocks(sgl) | crate::state::Data::Collecting(sgl, _)) => sgl.to_vec(),
            _ => Vec::new(),
        };
        let controller = self.controllers.get(controller_key).expect("looked up by the caller");
        let mut features = controller.features.clone();
        let persistence = |nsid| self.persistence(controller, nsid);
        let context = self.feature_context(controller, &persistence);
        let set = features.set(&command.sqe, &data, &context)?;
        let controller = self.controllers.get_mut(controller_key).expect("looked up by the caller");
        controller.features = features;
        match set {
            Set::Done(dword) => self.answer(key, command.id, Status::SUCCESS, u64::from(dword)),
            Set::KeepAlive(kato_ms) => {
                controller.keep_alive =
                    crate::association::keep_alive(kato_ms, controller.subsystem.is_none());
                self.set_controller_alarm(controller_key);
                self.answer(key, command.id, Status::SUCCESS, 0);
            }
            Set::Persistence { nsid, survives_power_loss } => {
                let change = Change::SetPersistence { survives_power_loss };
                self.set_persistence(key, controller_key, command, nsid, change);
            }
        }
        Ok(())
    }

    fn request_event(&mut self, key: Key, controller_key: Key, id: CommandId) -> Result<(), Status> {
        let controller = self.controllers.get_mut(controller_key).expect("looked up by the caller");
        if let Some(told) = controller.events.request(id)? {
            self.answer(key, told.request, Status::SUCCESS, u64::from(told.dword));
        }
        Ok(())
    }

    /// Something has happened that the host of a controller may want to hear.
    pub(crate) fn raise(&mut self, controller_key: Key, event: AsyncEvent) {
        let Some(controller) = self.controllers.get_mut(controller_key) else { return };
        if event.config_bit().is_some_and(|bit| !controller.features.events.has(bit)) {
            return;
        }
        if let (Some(told), Some(key)) = (controller.events.raise(event), controller.admin()) {
            self.answer(key, told.request, Status::SUCCESS, u64::from(told.dword));
        }
    }

    /// Abort: dword 0 of its completion. A command that waits is taken back; one that runs is not.
    fn abort_command(&mut self, controller_key: Key, command: &HostCommand) -> u32 {
        let (sqid, cid) = command.sqe.abort_of();
        let controller = self.controllers.get_mut(controller_key).expect("looked up by the caller");
        let queue = controller.queues.get(usize::from(sqid)).copied().flatten();
        let Some(connection) = queue.and_then(|queue| self.connections.get_mut(queue)) else {
            return NOT_ABORTED;
        };
        let queue = queue.expect("looked up above");
        match connection.queue.abort(cid) {
            Aborted::Marked => 0,
            Aborted::Executing(id) if id == command.id && sqid == 0 => NOT_ABORTED,
            Aborted::Executing(id) => {
                if sqid == 0 && controller.events.withdraw(&id) {
                    self.answer(queue, id, Status::ABORT_REQUESTED, 0);
                    return 0;
                }
                let task = connection.task(id);
                u32::from(!task.is_some_and(|task| self.stop_task(task, Status::ABORT_REQUESTED)))
            }
            Aborted::NotFound | Aborted::Completed => NOT_ABORTED,
        }
    }
}

/// A list of namespaces above `after`, which must be one that can be followed.
fn list_after(nsids: impl Iterator<Item = u32>, after: u32) -> Result<Vec<u8>, Status> {
    if after >= NSID_ALL - 1 {
        return Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
    }
    Ok(identify::namespace_list(nsids, after))
}

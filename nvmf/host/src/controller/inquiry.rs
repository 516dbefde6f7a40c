//! What is asked one after another: the list of namespaces, what each is, and the ANA states. At start-up and after events.

use nvme_spec::Sqe;
use nvme_spec::admin::{GetLogPage, Identify};
use nvme_spec::identify::{Cns, IdentifyNamespace, NamespaceList};
use nvme_spec::log::LogPageId;
use nvmf_proto::{Completion, HostData};
use uuid::Uuid;
use zerocopy::FromBytes;

use super::admin::{AdminCommand, Purpose};
use super::ana::{AnaTable, log_bytes};
use super::info::{NamespaceInfo, identity};
use super::startup::received;
use super::{Controller, ControllerEvent, Phase};
use crate::data::Data;
use crate::limits::NAMESPACES_MAX;
use crate::turn::Turn;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inquiry {
    /// Changed Attached Namespace List: reading it lets the event be reported again.
    ChangedList,
    /// Active Namespace ID list.
    ActiveList,
    /// Namespace Identification Descriptor list of a namespace.
    Descriptors { nsid: u32 },
    /// Identify Namespace.
    Namespace { nsid: u32, uuid: Option<Uuid> },
    /// The ANA log page.
    Ana,
}

impl Inquiry {
    fn command(self, ana_groups: u32) -> (Sqe, usize) {
        let identify =
            |cns, nsid| (Identify { cns, nsid, ..Identify::default() }.sqe(), Identify::DATA_BYTES as usize);
        let log = |lid, lsp, length_bytes: usize| {
            let get = GetLogPage { lid, lsp, length_bytes: length_bytes as u64, ..GetLogPage::default() };
            (get.sqe(), length_bytes)
        };
        match self {
            Self::ChangedList => log(LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST, 0, 4096),
            Self::ActiveList => identify(Cns::ACTIVE_NAMESPACE_LIST, 0),
            Self::Descriptors { nsid } => identify(Cns::NAMESPACE_DESCRIPTOR_LIST, nsid),
            Self::Namespace { nsid, .. } => identify(Cns::NAMESPACE, nsid),
            Self::Ana => log(LogPageId::ANA, nvme_spec::log::ANA_RETURN_GROUPS_ONLY, log_bytes(ana_groups)),
        }
    }
}

impl Controller {
    pub(super) fn inquiries_done(&self) -> bool {
        self.inquiries.is_empty() && !self.inquiry_in_flight
    }

    /// Asks for the namespaces, again.
    pub(super) fn inquire_namespaces(&mut self, turn: &mut Turn<'_>) {
        // However many events come: what waits to be asked will see them all.
        if self.inquiries.contains(&Inquiry::ActiveList) {
            return;
        }
        if self.phase == Phase::Live {
            self.inquiries.push_back(Inquiry::ChangedList);
        }
        self.inquiries.push_back(Inquiry::ActiveList);
        self.pump_inquiries(turn);
    }

    /// Asks for the ANA states, where there are any. An inquiry that waits already will do.
    pub(super) fn inquire_ana(&mut self, turn: &mut Turn<'_>) {
        let reports = self.info.as_ref().is_some_and(|info| info.ana);
        if reports && !self.inquiries.contains(&Inquiry::Ana) {
            self.inquiries.push_back(Inquiry::Ana);
            self.pump_inquiries(turn);
        }
    }

    /// An I/O command was answered with an ANA state: the states are worth another look.
    pub fn on_path_status(&mut self, turn: &mut Turn<'_>) {
        match &self.info {
            Some(info) if info.ana => self.inquire_ana(turn),
            _ => self.announce(ControllerEvent::AnaChanged),
        }
    }

    /// An I/O command was answered with Invalid Namespace: the namespaces are worth another look.
    pub fn on_namespace_status(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Live {
            self.inquire_namespaces(turn);
        }
    }

    pub(super) fn pump_inquiries(&mut self, turn: &mut Turn<'_>) {
        if self.inquiry_in_flight || matches!(self.phase, Phase::Resetting { .. } | Phase::Ended(_)) {
            return;
        }
        let Some(inquiry) = self.inquiries.pop_front() else { return };
        self.inquiry_in_flight = true;
        let ana_groups = self.info.as_ref().map_or(0, |info| info.ana_groups);
        let (sqe, length_bytes) = inquiry.command(ana_groups);
        let data = HostData::ReadAtMost(Data::zeros(length_bytes));
        self.send_admin(AdminCommand { purpose: Purpose::Inquiry(inquiry), sqe, data }, turn);
    }

    pub(super) fn on_inquiry(
        &mut self,
        inquiry: Inquiry,
        completion: &Completion<Data>,
        turn: &mut Turn<'_>,
    ) {
        self.inquiry_in_flight = false;
        let good = completion.cqe.status().is_success();
        let bytes = if good { received(completion) } else { &[] };
        match inquiry {
            Inquiry::ChangedList => {}
            Inquiry::ActiveList => self.on_active_list(bytes),
            Inquiry::Descriptors { nsid } => {
                // Without descriptors the namespace has no identity, which the next answer finds out.
                self.inquiries.push_front(Inquiry::Namespace { nsid, uuid: identity(bytes) });
            }
            Inquiry::Namespace { nsid, uuid } => self.on_namespace(nsid, uuid, bytes),
            Inquiry::Ana => {
                // Told also when nothing changed: the owner may have set the path aside on an answer's word.
                if good {
                    self.ana = AnaTable::read(bytes);
                    self.announce(ControllerEvent::AnaChanged);
                }
            }
        }
        self.pump_inquiries(turn);
    }

    fn on_active_list(&mut self, bytes: &[u8]) {
        let Ok(list) = NamespaceList::ref_from_bytes(bytes) else { return };
        let active: Vec<u32> = list.iter().take(NAMESPACES_MAX).collect();
        let before = self.namespaces.len();
        self.namespaces.retain(|nsid, _| active.contains(nsid));
        if self.namespaces.len() != before {
            self.announce(ControllerEvent::NamespacesChanged);
        }
        for &nsid in active.iter().rev() {
            self.inquiries.push_front(Inquiry::Descriptors { nsid });
        }
    }

    fn on_namespace(&mut self, nsid: u32, uuid: Option<Uuid>, bytes: &[u8]) {
        let info = self.info.as_ref().expect("namespaces are asked for after the controller");
        let identify = IdentifyNamespace::ref_from_bytes(bytes).ok();
        let found = identify.and_then(|identify| NamespaceInfo::new(nsid, identify, uuid, info));
        match found {
            Some(namespace) => self.namespaces.insert(nsid, namespace),
            None => self.namespaces.remove(&nsid),
        };
        // Told also when nothing changed, as ANA states are.
        self.announce(ControllerEvent::NamespacesChanged);
    }

    /// Tells the owner, once it knows the controller at all.
    fn announce(&mut self, event: ControllerEvent) {
        if self.phase == Phase::Live {
            self.events.push_back(event);
        }
    }
}

//! The admin side of a test port: Connect, properties, Identify, features, log pages, events.

use nvme_spec::admin::{GetLogPage, Identify};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::discovery::{DiscoveryEntry, DiscoveryHeader, pad_text};
use nvme_spec::fabrics::{
    Connect, ConnectData, ConnectResult, FabricsType, PropertyGet, PropertySet, nqn, nqn_field,
};
use nvme_spec::feature::{EventConfiguration, FeatureId, NumberOfQueues};
use nvme_spec::identify::controller::{
    CMIC_ANA, CTRATT_TRAFFIC_BASED_KEEP_ALIVE, ControllerType, FUSES_COMPARE_AND_WRITE, ONCS_COMPARE,
    ONCS_WRITE_ZEROES,
};
use nvme_spec::identify::namespace::{DLFEAT_READS_ZEROES, DLFEAT_WRITE_ZEROES_DEALLOCATES};
use nvme_spec::identify::{
    Cns, IdentifyController, IdentifyNamespace, NamespaceIdType, NamespaceList, put_namespace_descriptor,
};
use nvme_spec::log::{AnaGroup, AnaHeader, LogPageId};
use nvme_spec::register::{CAP, CC, CSTS, Capabilities, Configuration, ControllerStatus, SHST_COMPLETE};
use nvme_spec::{AdminOpcode, Cqe, DISCOVERY_NQN, Sqe, Status};
use nvmf_proto::{CommandId, QueueParams};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::port::Port;
use super::{SUBSYSTEM_NQN, UUID};
use crate::data::Data;

const IN_CAPSULE_BYTES: u32 = 16 * 1024;

pub(super) struct TestController {
    pub(super) cntlid: u16,
    cc: Configuration,
    /// Asynchronous Event Requests that wait, and an event that found none.
    event_requests: Vec<(usize, CommandId)>,
    event: Option<AsynchronousEvent>,
}

impl TestController {
    pub(super) fn take_event_request(&mut self, event: AsynchronousEvent) -> Option<(usize, CommandId)> {
        let request = self.event_requests.pop();
        if request.is_none() {
            self.event = Some(event);
        }
        request
    }
}

impl Port {
    pub(super) fn on_admin(&mut self, index: usize, id: CommandId, sqe: &Sqe, data: &[u8], sgl_bytes: u32) {
        match sqe.fabrics_type() {
            Some(FabricsType::CONNECT) => return self.on_connect(index, id, sqe, data),
            Some(_) if self.script.silent_admin => {}
            Some(FabricsType::PROPERTY_GET) => self.on_property_get(index, id, sqe),
            Some(FabricsType::PROPERTY_SET) => self.on_property_set(index, id, sqe),
            Some(other) => panic!("a Fabrics command that the host does not use: {other:?}"),
            None => {}
        }
        if sqe.fabrics_type().is_some() {
            return;
        }
        let cqe = Cqe::new(0, Status::SUCCESS);
        match sqe.admin_opcode() {
            AdminOpcode::KEEP_ALIVE => {
                self.script.keep_alives += 1;
                if !self.script.silent_admin {
                    self.answer(index, id, cqe);
                }
            }
            _ if self.script.silent_admin => {}
            AdminOpcode::IDENTIFY => {
                let page = self.identify(index, &Identify::of(sqe));
                self.answer_with(index, id, page, sgl_bytes);
            }
            AdminOpcode::GET_LOG_PAGE => {
                let page = self.log_page(&GetLogPage::of(sqe));
                self.answer_with(index, id, page, sgl_bytes);
            }
            AdminOpcode::SET_FEATURES if sqe.feature_id() == FeatureId::NUMBER_OF_QUEUES => {
                let mut cqe = cqe;
                cqe.dw0 = U32::new(NumberOfQueues { submission: 4, completion: 4 }.dword());
                self.answer(index, id, cqe);
            }
            AdminOpcode::SET_FEATURES => self.answer(index, id, cqe),
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => self.on_event_request(index, id),
            other => panic!("an admin command that the host does not use: {other:?}"),
        }
    }

    fn cntlid(&self, index: usize) -> u16 {
        self.connections[index].as_ref().map_or(0, |connection| connection.cntlid)
    }

    fn controller(&mut self, index: usize) -> &mut TestController {
        let cntlid = self.cntlid(index);
        let found = self.controllers.iter_mut().find(|controller| controller.cntlid == cntlid);
        found.expect("an admin queue has its controller")
    }

    fn on_connect(&mut self, index: usize, id: CommandId, sqe: &Sqe, data: &[u8]) {
        let connect = Connect::view(sqe);
        let data = ConnectData::ref_from_bytes(data).expect("1024 bytes of data");
        assert!([SUBSYSTEM_NQN, DISCOVERY_NQN].contains(&nqn(&data.subnqn).expect("a name")));
        self.is_discovery = nqn(&data.subnqn) == Some(DISCOVERY_NQN);
        assert_eq!(nqn(&data.hostnqn), Some("nqn.2014-08.org.example:host"));
        let qid = connect.qid.get();
        self.script.connects += u32::from(qid == 0);
        if let Some(status) = self.script.refuse {
            return self.answer(index, id, Cqe::new(0, status));
        }
        let cntlid = if qid == 0 {
            assert_eq!(data.cntlid.get(), 0xffff);
            let cntlid = std::mem::replace(&mut self.shared.borrow_mut().next_cntlid, 0);
            self.shared.borrow_mut().next_cntlid = cntlid + 1;
            self.controllers.push(TestController {
                cntlid,
                cc: Configuration::default(),
                event_requests: Vec::new(),
                event: None,
            });
            cntlid
        } else {
            let cntlid = data.cntlid.get();
            let controller = self.controllers.iter().find(|controller| controller.cntlid == cntlid);
            // The host was told another identifier, or the controller is gone.
            let Some(controller) = controller else {
                return self.answer(index, id, Cqe::new(0, Status::CONNECT_INVALID_PARAMETERS));
            };
            assert_eq!(controller.cc.en(), 1);
            cntlid
        };
        let connection = self.connections[index].as_mut().expect("it gave the command");
        (connection.qid, connection.cntlid) = (Some(qid), cntlid);
        connection.queue.connected(QueueParams {
            entries: u32::from(connect.sqsize.get()) + 1,
            in_capsule_bytes: IN_CAPSULE_BYTES,
            sq_flow_control: connect.cattr & 4 == 0,
        });
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        cqe.dw0 = U32::new(ConnectResult { cntlid, authreq: self.script.authreq }.dword());
        self.answer(index, id, cqe);
    }

    fn on_property_get(&mut self, index: usize, id: CommandId, sqe: &Sqe) {
        let script_ready = !self.script.never_ready;
        let stuck = self.script.never_resets;
        let cc = self.controller(index).cc;
        let rdy = u32::from(cc.en() == 1 && script_ready || stuck);
        let shst = if cc.shn() != 0 && !stuck { SHST_COMPLETE } else { 0 };
        let value = match PropertyGet::view(sqe).offset.get() {
            CAP => Capabilities::default().with_mqes(63).with_timeout_500ms(2).with_css(1).0,
            CSTS => ControllerStatus::default().with_rdy(rdy).with_shst(shst).0.into(),
            other => panic!("a property that the host does not use: {other:#x}"),
        };
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        cqe.set_result64(value);
        self.answer(index, id, cqe);
    }

    fn on_property_set(&mut self, index: usize, id: CommandId, sqe: &Sqe) {
        let set = PropertySet::view(sqe);
        assert_eq!(set.offset.get(), CC);
        self.controller(index).cc = Configuration(set.value.get() as u32);
        if self.controller(index).cc.en() == 0 && !self.script.never_resets {
            // A reset ends what the controller has in progress.
            self.drop_held();
        }
        self.answer(index, id, Cqe::new(0, Status::SUCCESS));
    }

    fn on_event_request(&mut self, index: usize, id: CommandId) {
        let controller = self.controller(index);
        match controller.event.take() {
            Some(event) => {
                let mut cqe = Cqe::new(0, Status::SUCCESS);
                cqe.dw0 = U32::new(event.dword());
                self.answer(index, id, cqe);
            }
            None => controller.event_requests.push((index, id)),
        }
    }

    fn answer_with(&mut self, index: usize, id: CommandId, page: Result<Vec<u8>, Status>, sgl_bytes: u32) {
        match page {
            Ok(mut page) => {
                page.resize(sgl_bytes as usize, 0);
                if let Some(spoil) = &mut self.script.spoil {
                    spoil.page(&mut page);
                }
                let connection = self.connections[index].as_mut().expect("it gave the command");
                connection.queue.complete_read(id, Cqe::new(0, Status::SUCCESS), Data::Heap(page));
            }
            Err(status) => self.answer(index, id, Cqe::new(0, status)),
        }
    }

    fn identify(&mut self, index: usize, identify: &Identify) -> Result<Vec<u8>, Status> {
        match identify.cns {
            Cns::CONTROLLER => Ok(self.identify_controller(index).as_bytes().to_vec()),
            Cns::ACTIVE_NAMESPACE_LIST => {
                let mut list = NamespaceList::default();
                list.nsid[0] = U32::new(1);
                Ok(list.as_bytes().to_vec())
            }
            _ if identify.nsid != 1 => Err(Status::INVALID_NAMESPACE_OR_FORMAT),
            Cns::NAMESPACE_DESCRIPTOR_LIST => {
                let mut page = vec![0; 4096];
                let uuid = self.script.other_uuid.unwrap_or(UUID);
                put_namespace_descriptor(&mut page, 0, NamespaceIdType::UUID, &uuid).expect("it fits");
                Ok(page)
            }
            Cns::NAMESPACE => {
                let shared = self.shared.borrow();
                let blocks = U64::new(shared.length_blocks);
                let mut namespace = IdentifyNamespace {
                    nsze_blocks: blocks,
                    ncap_blocks: blocks,
                    nuse_blocks: blocks,
                    dlfeat: DLFEAT_READS_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATES,
                    anagrpid: U32::new(1),
                    ..IdentifyNamespace::default()
                };
                namespace.lbaf[0].lbads = shared.block_bytes.trailing_zeros() as u8;
                Ok(namespace.as_bytes().to_vec())
            }
            _ => Err(Status::INVALID_FIELD),
        }
    }

    fn identify_controller(&mut self, index: usize) -> IdentifyController {
        let shared = self.shared.borrow();
        let compares = shared.compare_and_write_blocks > 0 && !self.script.no_compare;
        let mut page = IdentifyController {
            cntlid: U16::new(self.cntlid(index)),
            cntrltype: if self.is_discovery { ControllerType::DISCOVERY } else { ControllerType::IO },
            mdts: shared.mdts,
            cmic: if shared.ana { CMIC_ANA } else { 0 },
            nanagrpid: U32::new(1),
            anagrpmax: U32::new(1),
            ctratt: U32::new(if shared.traffic_based { CTRATT_TRAFFIC_BASED_KEEP_ALIVE } else { 0 }),
            oaes: U32::new(EventConfiguration::ANA_CHANGE.with(EventConfiguration::NAMESPACE_ATTRIBUTE).0),
            kas_100ms: U16::new(1),
            cqt_ms: U16::new(shared.cqt_ms),
            aerl: 3,
            sqes: 0x66,
            cqes: 0x44,
            oncs: U16::new(ONCS_WRITE_ZEROES | if compares { ONCS_COMPARE } else { 0 }),
            fuses: U16::new(if compares { FUSES_COMPARE_AND_WRITE } else { 0 }),
            acwu: U16::new(shared.compare_and_write_blocks.saturating_sub(1) as u16),
            subnqn: nqn_field(SUBSYSTEM_NQN).expect("a name"),
            ..IdentifyController::default()
        };
        page.set_in_capsule_bytes(IN_CAPSULE_BYTES);
        page
    }

    fn discovery_page(&mut self, get: &GetLogPage) -> Vec<u8> {
        if get.offset > 0 {
            let first = (get.offset - 1024) / 1024;
            let record = |portid: u64| DiscoveryEntry {
                portid: U16::new(portid as u16),
                trsvcid: pad_text("4420").expect("it fits"),
                ..DiscoveryEntry::default()
            };
            return (first..first + get.length_bytes / 1024)
                .flat_map(|at| record(at).as_bytes().to_vec())
                .collect();
        }
        let header = DiscoveryHeader {
            genctr: U64::new(self.script.generation),
            numrec: U64::new(self.script.discovery_records),
            ..DiscoveryHeader::default()
        };
        if self.script.discovery_changes > 0 {
            self.script.discovery_changes -= 1;
            self.script.generation += 1;
        }
        header.as_bytes().to_vec()
    }

    fn log_page(&mut self, get: &GetLogPage) -> Result<Vec<u8>, Status> {
        match get.lid {
            LogPageId::ANA => {
                let mut page = AnaHeader { groups: U16::new(1), ..AnaHeader::default() }.as_bytes().to_vec();
                let group = AnaGroup { anagrpid: U32::new(1), state: self.ana_state, ..AnaGroup::default() };
                page.extend_from_slice(group.as_bytes());
                Ok(page)
            }
            LogPageId::DISCOVERY => Ok(self.discovery_page(get)),
            LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST => Ok(vec![1, 0, 0, 0]),
            _ => Err(Status::INVALID_LOG_PAGE),
        }
    }
}

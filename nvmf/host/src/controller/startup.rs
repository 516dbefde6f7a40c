//! From Connect to a controller that takes I/O: properties, Identify, features, I/O queues (Base 3.5.1, 3.3.2.2).

use std::time::Duration;

use nvme_spec::admin::Identify;
use nvme_spec::fabrics::{PROPERTY_4_BYTES, PROPERTY_8_BYTES, PropertyGet, PropertySet};
use nvme_spec::feature::{EventConfiguration, FeatureId, NumberOfQueues};
use nvme_spec::identify::{Cns, IdentifyController};
use nvme_spec::register::{CAP, CC, CSTS, Capabilities, Configuration, ControllerStatus};
use nvme_spec::{AdminOpcode, Cqe, Sqe, opcode};
use nvmf_proto::{Completion, HostData};
use reactor::time::Time;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

use super::admin::{AdminCommand, Purpose};
use super::info::ControllerInfo;
use super::{Controller, ControllerEvent, Phase};
use crate::data::Data;
use crate::error::{EndCause, Unsuitable};
use crate::limits::{READY_POLL_MS, READY_TIMEOUT_MS_MAX};
use crate::queue::{ConnectRequest, QueuePair};
use crate::turn::Turn;

/// A Property Get.
pub(super) fn property_get(offset: u32, attrib: u8) -> Sqe {
    *PropertyGet { attrib, offset: U32::new(offset), ..PropertyGet::command() }.as_sqe()
}

/// A Property Set of CC.
pub(super) fn set_configuration(value: Configuration) -> Sqe {
    let value = U64::new(value.0.into());
    *PropertySet { attrib: PROPERTY_4_BYTES, offset: U32::new(CC), value, ..PropertySet::command() }.as_sqe()
}

/// CC of a controller at work.
pub(super) fn enabled() -> Configuration {
    Configuration::default().with_en(1).with_iosqes(6).with_iocqes(4)
}

pub(super) fn after_ms(now: Time, ms: u64) -> Time {
    now.after(Duration::from_millis(ms))
}

/// The bytes of a completion's data that came.
pub(super) fn received(completion: &Completion<Data>) -> &[u8] {
    match &completion.data {
        Some(Data::Heap(bytes)) => &bytes[..bytes.len().min(completion.received_bytes as usize)],
        _ => &[],
    }
}

impl Controller {
    /// Goes on where a phase waits for nothing but itself.
    pub(super) fn poll_phase(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Associating if self.admin.is_live() => {
                self.phase = Phase::Enabling { deadline: Time::NEVER, look_at: Time::NEVER };
                self.send_plain(Purpose::Capabilities, property_get(CAP, PROPERTY_8_BYTES), turn);
            }
            Phase::Enabling { deadline, .. } if turn.now >= deadline => self.fail(EndCause::NotReady, turn),
            Phase::Enabling { deadline, look_at } if turn.now >= look_at => {
                self.phase = Phase::Enabling { deadline, look_at: Time::NEVER };
                self.send_plain(Purpose::Ready, property_get(CSTS, PROPERTY_4_BYTES), turn);
            }
            Phase::SettingUp => self.finish_setting_up(turn),
            Phase::Resetting { .. } => self.poll_reset(turn),
            _ => {}
        }
    }

    /// Ends the association when a command of the start-up failed. True when it did.
    fn refuse(&mut self, opcode: u8, cqe: &Cqe, turn: &mut Turn<'_>) -> bool {
        let status = cqe.status();
        if !status.is_success() {
            self.fail(EndCause::Admin { opcode, status }, turn);
        }
        !status.is_success()
    }

    pub(super) fn on_capabilities(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        if self.refuse(opcode::FABRICS, cqe, turn) {
            return;
        }
        let cap = Capabilities(cqe.result64());
        self.page_shift = cap.mpsmin() as u32;
        // The queues are as long as both ends like.
        let entries_max = u16::try_from(cap.mqes() + 1).unwrap_or(u16::MAX).max(2);
        self.config.io_queue_entries = self.config.io_queue_entries.min(entries_max);
        let timeout_ms = ((cap.timeout_500ms() + 1) * 500).min(READY_TIMEOUT_MS_MAX);
        let deadline = after_ms(turn.now, timeout_ms);
        self.phase = Phase::Enabling { deadline, look_at: Time::NEVER };
        self.send_plain(Purpose::Enable, set_configuration(enabled()), turn);
    }

    pub(super) fn on_enable(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        if self.refuse(opcode::FABRICS, cqe, turn) {
            return;
        }
        if let Phase::Enabling { look_at, .. } = &mut self.phase {
            *look_at = turn.now;
        }
    }

    pub(super) fn on_ready_status(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        if self.refuse(opcode::FABRICS, cqe, turn) {
            return;
        }
        let status = ControllerStatus(cqe.dw0.get());
        if status.cfs() == 1 {
            return self.finish(EndCause::ControllerFatal, None, turn);
        }
        let Phase::Enabling { look_at, .. } = &mut self.phase else { return };
        if status.rdy() == 0 {
            *look_at = after_ms(turn.now, READY_POLL_MS);
            return;
        }
        self.phase = Phase::SettingUp;
        let sqe = Identify { cns: Cns::CONTROLLER, ..Identify::default() }.sqe();
        let data = HostData::Read(Data::zeros(Identify::DATA_BYTES as usize));
        self.send_admin(AdminCommand { purpose: Purpose::Identify, sqe, data }, turn);
    }

    pub(super) fn on_identify(&mut self, completion: &Completion<Data>, turn: &mut Turn<'_>) {
        if self.refuse(AdminOpcode::IDENTIFY.0, &completion.cqe, turn) {
            return;
        }
        let identify = IdentifyController::ref_from_bytes(received(completion));
        let identify = identify.expect("success with less data is a breach of the protocol");
        let info = ControllerInfo::new(identify, &self.config, self.admin.cntlid(), self.page_shift);
        let info = match info {
            Ok(info) => info,
            Err(unsuitable) => return self.fail(EndCause::Unsuitable(unsuitable), turn),
        };
        if info.traffic_based_keep_alive {
            self.keep_alive.set_traffic_based();
        }
        self.configure_events(&info, turn);
        self.info = Some(info);
        if !self.config.is_discovery() {
            let queues = u32::from(self.config.io_queues);
            let value = NumberOfQueues { submission: queues, completion: queues }.dword();
            let sqe = Sqe::set_features(FeatureId::NUMBER_OF_QUEUES, 0, value);
            self.send_plain(Purpose::NumberOfQueues, sqe, turn);
        }
    }

    fn configure_events(&mut self, info: &ControllerInfo, turn: &mut Turn<'_>) {
        let wanted = EventConfiguration::NAMESPACE_ATTRIBUTE
            .with(EventConfiguration::ANA_CHANGE)
            .with(EventConfiguration::DISCOVERY_LOG_CHANGE);
        let granted = EventConfiguration(info.events.0 & wanted.0);
        if granted.0 == 0 {
            return;
        }
        let sqe = Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, granted.0);
        self.send_plain(Purpose::EventConfiguration, sqe, turn);
        for _ in 0..info.event_requests {
            self.request_event(turn);
        }
    }

    pub(super) fn on_number_of_queues(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        if self.refuse(AdminOpcode::SET_FEATURES.0, cqe, turn) {
            return;
        }
        // A count less one cannot say "none", so at least one was granted.
        let granted = NumberOfQueues::of(cqe.dw0.get());
        let count = granted.submission.min(granted.completion).min(self.config.io_queues.into());
        let Ok(count) = u16::try_from(count) else {
            return self.fail(EndCause::Unsuitable(Unsuitable::NoQueues), turn);
        };
        let cntlid = self.admin.cntlid();
        for qid in 1..=count {
            let request = ConnectRequest::io(&self.config, cntlid, qid, self.config.io_queue_entries);
            let queue = QueuePair::open(request, self.token(qid), turn);
            self.io.push(queue);
        }
        self.inquire_namespaces(turn);
        self.inquire_ana(turn);
    }

    pub(super) fn poll_io_connects(&mut self, turn: &mut Turn<'_>) {
        let in_capsule_bytes = self.info.as_ref().map_or(0, |info| info.in_capsule_bytes);
        for queue in &mut self.io {
            if queue.is_live() {
                continue;
            }
            queue.poll_connect(turn);
            if queue.ended().is_some() {
                continue;
            }
            // The answer to Connect is taken here; before it the queue has no other completion.
            let early = queue.next_completion(turn);
            assert!(early.is_none(), "a queue that is not live has no command of ours");
            if queue.is_live() {
                queue.set_in_capsule_bytes(in_capsule_bytes);
                self.served = true;
            }
        }
    }

    fn finish_setting_up(&mut self, turn: &mut Turn<'_>) {
        let is_set = if self.config.is_discovery() {
            self.info.is_some()
        } else {
            !self.io.is_empty() && self.io.iter().all(QueuePair::is_live) && self.inquiries_done()
        };
        if is_set {
            self.phase = Phase::Live;
            self.events.push_back(ControllerEvent::Live);
            self.pump_inquiries(turn);
        }
    }
}

//! Admin commands: what each is for, how long it may take, and who hears its answer.

use nvme_spec::ae::{AsynchronousEvent, EventType};
use nvme_spec::{AdminOpcode, Sqe};
use nvmf_proto::{Completion, HostData};

use super::inquiry::Inquiry;
use super::{Controller, ControllerEvent, Phase};
use crate::data::Data;
use crate::error::EndCause;
use crate::queue::QueuePair;
use crate::turn::Turn;

/// What an admin command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Property Get of CAP.
    Capabilities,
    /// Property Set of CC with EN.
    Enable,
    /// Property Get of CSTS after that.
    Ready,
    Identify,
    NumberOfQueues,
    EventConfiguration,
    KeepAlive,
    /// Asynchronous Event Request: answered when something happens, so without a deadline.
    Event,
    Inquiry(Inquiry),
    /// Property Set of CC without EN, or with a shutdown notification.
    Disable,
    /// Property Get of CSTS after that.
    Disabled,
    /// A command of the owner, with its number.
    Owner(u64),
}

/// An admin command on its way to the queue.
#[derive(Debug)]
pub(super) struct AdminCommand {
    pub(super) purpose: Purpose,
    pub(super) sqe: Sqe,
    pub(super) data: HostData<Data>,
}

impl Controller {
    /// Sends an admin command, at once or when there is room.
    pub(super) fn send_admin(&mut self, command: AdminCommand, turn: &mut Turn<'_>) {
        self.waiting.push_back(command);
        self.pump_admin(turn);
    }

    /// Sends an admin command without data.
    pub(super) fn send_plain(&mut self, purpose: Purpose, sqe: Sqe, turn: &mut Turn<'_>) {
        self.send_admin(AdminCommand { purpose, sqe, data: HostData::None }, turn);
    }

    fn pump_admin(&mut self, turn: &mut Turn<'_>) {
        while self.admin.can_submit()
            && let Some(AdminCommand { purpose, sqe, data }) = self.waiting.pop_front()
        {
            let cid = self.admin.submit(turn.now, sqe, data).expect("the queue said that it takes one");
            self.purposes[QueuePair::slot_of(cid)] = Some((purpose, turn.now));
        }
    }

    pub(super) fn take_admin_completions(&mut self, turn: &mut Turn<'_>) {
        while let Some(completion) = self.admin.next_completion(turn) {
            let slot = QueuePair::slot_of(completion.cid);
            // What came before the end of the association, and was not looked at before it, has no purpose any more.
            if let Some((purpose, _)) = self.purposes[slot].take() {
                self.on_admin(purpose, completion, turn);
            }
        }
        self.pump_admin(turn);
    }

    fn on_admin(&mut self, purpose: Purpose, completion: Completion<Data>, turn: &mut Turn<'_>) {
        let is_resetting = matches!(self.phase, Phase::Resetting { .. });
        match purpose {
            Purpose::Disable if is_resetting => self.on_disable(&completion.cqe, turn),
            Purpose::Disabled if is_resetting => self.on_disabled(&completion.cqe, turn),
            // Everything else is of no more interest.
            _ if is_resetting || self.ended().is_some() => {}
            Purpose::Capabilities => self.on_capabilities(&completion.cqe, turn),
            Purpose::Enable => self.on_enable(&completion.cqe, turn),
            Purpose::Ready => self.on_ready_status(&completion.cqe, turn),
            Purpose::Identify => self.on_identify(&completion, turn),
            Purpose::NumberOfQueues => self.on_number_of_queues(&completion.cqe, turn),
            // A controller that refuses the events it advertises reports none; ANA states are still told by failing commands.
            Purpose::EventConfiguration => {}
            Purpose::KeepAlive if !completion.cqe.status().is_success() => {
                let status = completion.cqe.status();
                self.fail(EndCause::Admin { opcode: AdminOpcode::KEEP_ALIVE.0, status }, turn);
            }
            Purpose::KeepAlive => {}
            Purpose::Event => self.on_event(&completion, turn),
            Purpose::Inquiry(inquiry) => self.on_inquiry(inquiry, &completion, turn),
            Purpose::Owner(tag) => self.events.push_back(ControllerEvent::AdminDone { tag, completion }),
            Purpose::Disable | Purpose::Disabled => unreachable!("sent only while resetting"),
        }
    }

    pub(super) fn request_event(&mut self, turn: &mut Turn<'_>) {
        self.send_plain(Purpose::Event, Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST), turn);
    }

    fn on_event(&mut self, completion: &Completion<Data>, turn: &mut Turn<'_>) {
        if !completion.cqe.status().is_success() {
            // More requests than it takes, or none at all: it keeps the ones it has.
            return;
        }
        let event = AsynchronousEvent::of(completion.cqe.dw0.get());
        let is = |other: AsynchronousEvent| {
            (event.event_type, event.information) == (other.event_type, other.information)
        };
        if is(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED) {
            self.inquire_namespaces(turn);
        } else if is(AsynchronousEvent::ANA_CHANGE) {
            self.inquire_ana(turn);
        } else if is(AsynchronousEvent::DISCOVERY_LOG_CHANGED) {
            self.events.push_back(ControllerEvent::DiscoveryChanged);
        } else if event.event_type == EventType::ERROR || event.event_type == EventType::SMART {
            // Not reported again until its log page was read; nobody here acts on it, so it may stay so.
        }
        self.request_event(turn);
    }

    pub(super) fn poll_keep_alive(&mut self, turn: &mut Turn<'_>) {
        let is_served = !matches!(self.phase, Phase::Associating | Phase::Resetting { .. } | Phase::Ended(_));
        if !is_served || turn.now < self.keep_alive.next_at() {
            return;
        }
        let mut heard = self.admin.take_heard();
        for queue in &mut self.io {
            heard |= queue.take_heard();
        }
        if self.keep_alive.is_due(turn.now, heard) {
            self.send_plain(Purpose::KeepAlive, Sqe::admin(AdminOpcode::KEEP_ALIVE), turn);
        }
    }

    /// Looks for commands that took too long.
    pub(super) fn scan_deadlines(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Resetting { .. } | Phase::Ended(_)) {
            return;
        }
        let timeouts = self.config.timeouts;
        let is_late = |limit: std::time::Duration, at: reactor::time::Time| at.after(limit) <= turn.now;
        let late_admin = self.purposes.iter().flatten().find_map(|(purpose, at)| match purpose {
            Purpose::Event => None,
            Purpose::KeepAlive => is_late(timeouts.keep_alive, *at).then_some(EndCause::KeepAliveTimeout),
            _ => is_late(timeouts.admin, *at).then_some(EndCause::CommandTimeout),
        });
        if let Some(cause) = late_admin {
            // A silent admin queue cannot be asked to reset.
            return self.finish(cause, None, turn);
        }
        let io_ns = u64::try_from(timeouts.io.as_nanos()).unwrap_or(u64::MAX);
        let Some(before_ns) = turn.now.as_ns().checked_sub(io_ns) else { return };
        let before = reactor::time::Time::from_ns(before_ns);
        if self.io.iter().any(|queue| queue.has_older_than(before)) {
            self.fail(EndCause::CommandTimeout, turn);
        }
    }
}

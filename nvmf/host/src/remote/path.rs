//! One path: an address, its association when there is one, and what its commands are.

use std::time::Duration;

use nvme_spec::Sqe;
use nvme_spec::log::AnaState;
use nvmf_proto::host::Unfinished;
use nvmf_proto::{Completion, HostData};
use reactor::net::Ready;
use reactor::poller::Progress;
use reactor::time::Time;

use super::PathReport;
use crate::command::Kind;
use crate::config::ControllerConfig;
use crate::controller::{Controller, ControllerEvent, NamespaceInfo};
use crate::data::Data;
use crate::error::{EndCause, Unsuitable};
use crate::ladder::Ladder;
use crate::limits::{COMMANDS_MAX, SETTLED_MS};
use crate::queue::QueuePair;
use crate::turn::Turn;

/// No command.
const NOBODY: u32 = u32::MAX;
/// Bit of an owner: the second command of a pair.
pub(super) const SECOND: u32 = 1 << 31;

const _: () = assert!((COMMANDS_MAX as u32) < SECOND);

/// What a controller compares for the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathOffer {
    pub(super) compares: bool,
    /// 0 where compare and write is not one operation, or finds no room for both its commands.
    pub(super) compare_and_write_blocks: u32,
}

pub(super) struct Path {
    config: ControllerConfig,
    token_base: u32,
    controller: Option<Controller>,
    ladder: Ladder,
    /// When to make an association; `NEVER` while there is one, and after the path was given up.
    connect_at: Time,
    given_up: bool,
    closing: bool,
    /// When commands were first taken.
    live_since: Option<Time>,
    last_end: Option<EndCause>,
    /// The access state of the namespace; none while it is not there.
    pub(super) access: Option<AnaState>,
    /// Why the namespace is not used on it although it is there.
    pub(super) refused: Option<Unsuitable>,
    /// While the namespace is used on it.
    pub(super) offer: Option<PathOffer>,
    /// The command behind each CID in flight, by queue and slot, with [`SECOND`] of a pair.
    owners: Vec<Vec<u32>>,
    /// Commands of the lost association that may still be executed.
    pub(super) in_doubt: Vec<u32>,
}

impl Path {
    pub(super) fn new(config: ControllerConfig, token_base: u32, now: Time) -> Self {
        Self {
            ladder: Ladder::new(config.timeouts.controller_loss, now),
            config,
            token_base,
            controller: None,
            connect_at: now,
            given_up: false,
            closing: false,
            live_since: None,
            last_end: None,
            access: None,
            refused: None,
            offer: None,
            owners: Vec::new(),
            in_doubt: Vec::new(),
        }
    }

    pub(super) fn report(&self) -> PathReport {
        PathReport {
            address: self.config.address,
            access: self.access,
            in_flight: self.controller.as_ref().map_or(0, Controller::io_in_flight),
            failures: self.ladder.failures(),
            last_end: self.last_end,
            given_up: self.given_up,
            refused: self.refused,
        }
    }

    pub(super) fn controller(&mut self) -> Option<&mut Controller> {
        self.controller.as_mut()
    }

    /// The namespace on this path's controller.
    pub(super) fn namespace(&self, nsid: u32) -> Option<(NamespaceInfo, AnaState)> {
        let controller = self.controller.as_ref().filter(|controller| controller.is_live())?;
        let namespace = *controller.namespaces().get(&nsid)?;
        Some((namespace, controller.ana_state(&namespace)))
    }

    /// The namespace is used from now on as its controller shows it, or is not.
    pub(super) fn take_offer(&mut self, namespace: Option<&NamespaceInfo>) {
        let entries = self.controller.as_ref().map_or(0, |controller| controller.config().io_queue_entries);
        // A queue has room for one command less than it has entries.
        let has_room = usize::from(entries) > Kind::CompareAndWrite.commands();
        self.offer = namespace.map(|namespace| PathOffer {
            compares: namespace.compares,
            compare_and_write_blocks: if has_room { namespace.compare_and_write_blocks } else { 0 },
        });
    }

    /// Makes an association when it is time, and drives it.
    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) -> Progress {
        if self.controller.is_none() && turn.now >= self.connect_at && !self.closing {
            self.connect_at = Time::NEVER;
            self.controller = Some(Controller::new(self.config.clone(), self.token_base, turn));
            self.live_since = None;
        }
        self.controller.as_mut().map_or(Progress::Idle, |controller| controller.poll(turn))
    }

    pub(super) fn next_event(&mut self, now: Time) -> Option<ControllerEvent> {
        let event = self.controller.as_mut()?.next_event();
        if matches!(event, Some(ControllerEvent::Live)) {
            self.live_since = Some(now);
            let entries = usize::from(self.config.io_queue_entries);
            let queues = self.controller.as_ref().map_or(0, Controller::io_queues);
            self.owners = vec![vec![NOBODY; entries]; queues];
        }
        event
    }

    /// The association is over and everything unfinished was taken: when to try again.
    pub(super) fn on_ended(&mut self, cause: EndCause, now: Time) {
        self.controller = None;
        self.owners.clear();
        (self.access, self.offer) = (None, None);
        self.last_end = Some(cause);
        if self.closing {
            return;
        }
        // One that is lost as soon as it is made is an attempt that failed, or it would be made over and over without a pause.
        let settled = Duration::from_millis(SETTLED_MS);
        let was_settled = self.live_since.take().is_some_and(|since| now.since(since) >= settled);
        let next = if was_settled { Some(self.ladder.on_lost(now)) } else { self.ladder.on_failure(now) };
        self.given_up = next.is_none();
        self.connect_at = next.unwrap_or(Time::NEVER);
    }

    pub(super) fn on_ready(&mut self, ready: Ready, turn: &mut Turn<'_>) -> bool {
        self.controller.as_mut().is_some_and(|controller| controller.on_ready(ready, turn))
    }

    /// Room for so many commands: their queue, and how many they would stand behind.
    #[inline]
    pub(super) fn room(&mut self, commands: usize) -> Option<(usize, usize)> {
        let controller = self.controller.as_mut()?;
        let queue = controller.best_queue(commands)?;
        Some((queue, controller.io_queue(queue).in_flight()))
    }

    /// Sends a command on a queue that has room.
    #[inline]
    pub(super) fn submit(&mut self, queue: usize, owner: u32, now: Time, sqe: Sqe, data: HostData<Data>) {
        let controller = self.controller.as_mut().expect("a path with room has a controller");
        let cid = controller.submit_io(queue, now, sqe, data).expect("the queue said that it has room");
        self.owners[queue][QueuePair::slot_of(cid)] = owner;
    }

    pub(super) fn queues(&self) -> usize {
        self.owners.len()
    }

    #[inline]
    pub(super) fn next_completion(
        &mut self,
        queue: usize,
        turn: &mut Turn<'_>,
    ) -> Option<(u32, Completion<Data>)> {
        let completion = self.controller.as_mut()?.next_io_completion(queue, turn)?;
        Some((self.take_owner(queue, completion.cid), completion))
    }

    pub(super) fn next_unfinished(&mut self, queue: usize) -> Option<(u32, Unfinished<Data>)> {
        let unfinished = self.controller.as_mut()?.take_unfinished(queue)?;
        Some((self.take_owner(queue, unfinished.cid), unfinished))
    }

    #[inline]
    fn take_owner(&mut self, queue: usize, cid: u16) -> u32 {
        let owner = &mut self.owners[queue][QueuePair::slot_of(cid)];
        let owner = std::mem::replace(owner, NOBODY);
        assert!(owner != NOBODY, "a command in flight has an owner");
        owner
    }

    /// There is an association, and the namespace is not usable on it.
    pub(super) fn is_set_aside(&self) -> bool {
        let is_usable = matches!(self.access, Some(AnaState::OPTIMIZED | AnaState::NON_OPTIMIZED));
        !is_usable && self.controller.as_ref().is_some_and(Controller::is_live)
    }

    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) -> Progress {
        self.controller.as_mut().map_or(Progress::Idle, |controller| controller.flush(turn))
    }

    pub(super) fn wants_flush(&self) -> bool {
        self.controller.as_ref().is_some_and(Controller::wants_flush)
    }

    pub(super) fn deadline(&self) -> Time {
        self.controller.as_ref().map_or(self.connect_at, Controller::deadline)
    }

    pub(super) fn close(&mut self, turn: &mut Turn<'_>) {
        self.closing = true;
        self.connect_at = Time::NEVER;
        if let Some(controller) = &mut self.controller {
            controller.shutdown(turn);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.controller.is_none()
    }
}

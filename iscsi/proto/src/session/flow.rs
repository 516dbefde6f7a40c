//! From "received" to "given out": command order, memory, R2Ts; and the ways out: abort and connection loss.

use super::connection::Standing;
use super::event::{CloseCause, RequestId, TaskId};
use super::host::{Host, Payload};
use super::limits::{CONNECTIONS_MAX, TASK_SLOT_BITS};
use super::receive::Phase;
use super::task::{Task, TaskState};
use super::transfer::Failure;
use super::{Queued, Session};
use crate::pdu::R2t;
use zerocopy::transmute;

/// What waits in the command window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InWindow {
    Task(TaskId),
    Request(RequestId),
}

/// The slot bits of tags that belong to no task; no task has them (see `limits`).
const NO_SLOT: u32 = (1 << TASK_SLOT_BITS) - 1;

impl<P: Payload> Session<P> {
    /// A target transfer tag for the task in `slot`: unique over the last million tags, so a late answer to an
    /// old one is known as such. Never 0xffffffff.
    pub(super) fn new_tag(&mut self, slot: Option<usize>) -> u32 {
        // The upper part never has all bits set.
        self.next_tag = (self.next_tag + 1) % ((1 << (32 - TASK_SLOT_BITS)) - 1);
        self.next_tag << TASK_SLOT_BITS | slot.map_or(NO_SLOT, |slot| slot as u32)
    }

    /// Acts on everything whose turn has come.
    pub(super) fn run_window<H: Host<Payload = P>>(&mut self, host: &mut H) {
        while let Some(next) = self.window.pop() {
            match next {
                InWindow::Task(id) if self.tasks.get(id).is_some() => self.enter(id, host),
                InWindow::Request(id) if self.requests.get(id).is_some() => self.run_request(id, host),
                // Its connection went away while it waited.
                InWindow::Task(_) | InWindow::Request(_) => self.window.credit(),
            }
        }
        self.run_barriers(host);
    }

    /// A task's turn has come: it enters the task set.
    pub(super) fn enter<H: Host<Payload = P>>(&mut self, id: TaskId, host: &mut H) {
        let free_for_new = self.waiters.is_empty();
        let task = self.tasks.get_mut(id).expect("a live task");
        let take_bytes = task.transfer.take_bytes() as usize;
        let mut waits = false;
        if take_bytes > 0 && task.payload.is_none() && task.transfer.failure().is_none() {
            task.payload = if free_for_new { host.alloc(take_bytes) } else { None };
            waits = task.payload.is_none();
        }
        task.state = TaskState::Collecting;
        if !task.immediate {
            self.order.push_back(id);
        }
        if waits && self.tasks.iter().any(|(_, task)| is_ahead_with_memory(task)) {
            // Those cannot be given out before this one, and this one might wait for the memory they hold.
            self.counters.task_set_full += 1;
            self.tasks.get_mut(id).expect("a live task").transfer.fail(Failure::TaskSetFull);
        } else if waits {
            self.tasks.get_mut(id).expect("a live task").state = TaskState::Waiting;
            self.waiters.push_back(id);
            return self.note_memory();
        }
        self.advance_transfer(id);
    }

    /// Asks for data that is missing, or moves on when none is.
    pub(super) fn advance_transfer(&mut self, id: TaskId) {
        let outstanding_max = self.rules.outstanding_r2t_max;
        loop {
            let task = self.tasks.get_mut(id).expect("a live task");
            if task.transfer.failure().is_some() {
                task.payload = None;
            }
            if !task.transfer.wants_r2t(outstanding_max) {
                break;
            }
            self.send_r2t(id);
        }
        let task = self.tasks.get_mut(id).expect("a live task");
        if task.state != TaskState::Collecting || !task.transfer.is_done() {
            return;
        }
        task.state = TaskState::Ready;
        if task.immediate {
            self.release(id);
        } else {
            self.release_in_order();
        }
    }

    fn send_r2t(&mut self, id: TaskId) {
        let ttt = self.new_tag(Some(id.slot()));
        let task = self.tasks.get_mut(id).expect("a live task");
        let span = task.transfer.next_r2t(ttt, self.rules.max_burst_bytes);
        let (exp_cmd_sn, max_cmd_sn) = (self.window.exp_cmd_sn(), self.window.max_cmd_sn());
        let Some(connection) = self.connections[usize::from(task.connection)].as_mut() else { return };
        if !connection.sends() {
            return;
        }
        let r2t = R2t {
            lun: task.lun.into(),
            stat_sn: connection.stat_sn().into(),
            exp_cmd_sn: exp_cmd_sn.into(),
            max_cmd_sn: max_cmd_sn.into(),
            r2t_sn: span.r2t_sn.into(),
            buffer_offset_bytes: span.offset_bytes.into(),
            desired_length_bytes: span.length_bytes.into(),
            ..R2t::new(task.itt, ttt)
        };
        connection.tx.push_pdu(&transmute!(r2t), &[]);
    }

    /// Gives out what is ready at the head of the order.
    pub(super) fn release_in_order(&mut self) {
        while let Some(&id) = self.order.front() {
            match self.tasks.get(id) {
                Some(task) if task.state != TaskState::Ready => break,
                Some(_) => {
                    self.order.pop_front();
                    self.release(id);
                }
                None => {
                    self.order.pop_front();
                }
            }
        }
    }

    fn release(&mut self, id: TaskId) {
        let task = self.tasks.get(id).expect("a live task");
        match task.transfer.failure() {
            None => self.events.push_back(Queued::Command(id)),
            Some(failure) => self.respond_failure(id, failure),
        }
    }

    /// True when a command must not wait for memory with its connection stopped: data that frees memory may sit behind it.
    pub(super) fn must_not_park(&self) -> bool {
        self.tasks.iter().any(|(_, task)| task.holds_memory_for_input())
    }

    /// Memory may have come back. True when somebody got some.
    pub(super) fn serve_waiters<H: Host<Payload = P>>(&mut self, host: &mut H) -> bool {
        if !self.wants_memory() {
            return false;
        }
        let mut moved = false;
        while let Some(&id) = self.waiters.front() {
            let task = self.tasks.get_mut(id).expect("an aborted task leaves the waiters");
            let Some(payload) = host.alloc(task.transfer.take_bytes() as usize) else { break };
            task.payload = Some(payload);
            task.state = TaskState::Collecting;
            self.waiters.pop_front();
            self.advance_transfer(id);
            moved = true;
        }
        for index in 0..CONNECTIONS_MAX {
            let parked = |rx: &super::receive::Receive| rx.phase == Phase::Parked;
            if self.connections[index].as_ref().is_some_and(|connection| parked(&connection.rx)) {
                // The header was judged when it came; only the memory was missing.
                let resumed =
                    self.begin_pdu(index, host).and_then(|()| self.take_input(index, &mut &[][..], host));
                if let Err(fatal) = resumed {
                    self.begin_close(index, CloseCause::Fatal(fatal));
                }
                moved |= !self.connections[index].as_ref().is_some_and(|connection| parked(&connection.rx));
            }
        }
        self.note_memory();
        moved
    }

    /// Opens or holds the window as memory allows.
    pub(super) fn note_memory(&mut self) {
        if self.window.withhold(self.wants_memory()) {
            self.announce_window();
        }
    }

    /// Says that the window is open when no response is left that would say so.
    pub(super) fn announce_window(&mut self) {
        let silent = self.tasks.len() == 0 && self.requests.is_empty();
        if silent && self.window.open_for() > 0 {
            let open = |slot: &Option<super::connection::Connection<P>>| {
                slot.as_ref().is_some_and(|connection| connection.standing == Standing::Open)
            };
            if let Some(index) = self.connections.iter().position(open) {
                self.send_nop_in(index, None);
            }
        }
    }

    /// Frees a task in whatever state it is.
    pub(super) fn drop_task(&mut self, id: TaskId) {
        let task = self.tasks.get(id).expect("a live task");
        let (state, immediate, connection) = (task.state, task.immediate, usize::from(task.connection));
        if state == TaskState::Waiting {
            self.waiters.retain(|waiter| *waiter != id);
        }
        if matches!(state, TaskState::Waiting | TaskState::Collecting | TaskState::Ready) {
            self.order.retain(|waiter| *waiter != id);
        }
        self.tasks.remove(id);
        if immediate {
            self.immediate_tasks -= 1;
        } else if !matches!(state, TaskState::Arriving | TaskState::Held) {
            // A held one gives its place back when its number comes up.
            self.window.credit();
        }
        if let Some(connection) = self.connections[connection].as_mut() {
            connection.tasks -= 1;
        }
        if state == TaskState::Waiting {
            self.note_memory();
        }
    }

    /// Drops the tasks for which `concerned` holds. Those given out are reported when `report` is set, else they stay.
    pub(super) fn abort_where(&mut self, concerned: impl Fn(&Task<P>) -> bool, report: bool) {
        let ids: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| concerned(task)).map(|(id, _)| id).collect();
        for id in ids {
            let task = self.tasks.get(id).expect("a live task");
            let (executing, arriving) =
                (task.state == TaskState::Executing, task.state == TaskState::Arriving);
            if executing && !report {
                continue;
            }
            let (cmd_sn, immediate) = (task.cmd_sn, task.immediate);
            self.drop_task(id);
            if executing {
                self.events.push_back(Queued::Aborted(id));
            } else if arriving && !immediate {
                // Its command PDU will be read to its end and forgotten: the number must not leave a hole.
                self.window.plug(cmd_sn);
            }
        }
        self.release_in_order();
    }

    /// Forgets a connection and everything on it.
    pub(super) fn drop_connection(&mut self, index: usize) {
        if self.connections.get(index).is_none_or(Option::is_none) {
            return;
        }
        let was_closed = self.window.open_for() == 0;
        let on_it: Vec<TaskId> = self.tasks.iter().filter_map(|(id, task)| on(index, id, task)).collect();
        for id in on_it {
            let executing = self.tasks.get(id).is_some_and(|task| task.state == TaskState::Executing);
            self.drop_task(id);
            if executing {
                self.events.push_back(Queued::Aborted(id));
            }
        }
        self.drop_requests_of(index, None);
        self.events
            .retain(|event| !matches!(event, Queued::Close(closed, _) if usize::from(*closed) == index));
        self.connections[index] = None;
        self.release_in_order();
        self.note_memory();
        if was_closed {
            self.announce_window();
        }
    }

    /// Stops input; the stream is closed once what is queued was sent.
    pub(super) fn begin_close(&mut self, index: usize, cause: CloseCause) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        if matches!(connection.standing, Standing::Open | Standing::Leaving) {
            connection.standing = Standing::Closing(cause);
            connection.rx.finish();
            if matches!(cause, CloseCause::Fatal(_)) {
                connection.tx.drop_unbuilt();
            }
            self.close_if_sent(index);
            self.note_memory();
        }
    }

    /// Says `CloseConnection` when a closing connection has nothing left to send.
    pub(super) fn close_if_sent(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        if let Standing::Closing(cause) = connection.standing
            && connection.tx.queued_bytes() == 0
        {
            connection.standing = Standing::Closed;
            self.events.push_back(Queued::Close(index as u8, cause));
        }
    }
}

fn on<P>(index: usize, id: TaskId, task: &Task<P>) -> Option<TaskId> {
    (usize::from(task.connection) == index).then_some(id)
}

/// Not in the task set yet, with a buffer.
fn is_ahead_with_memory<P>(task: &Task<P>) -> bool {
    matches!(task.state, TaskState::Arriving | TaskState::Held) && task.payload.is_some()
}

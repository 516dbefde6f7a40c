//! Which path a command takes, and what its answer (or the lack of one) means.

use std::time::Duration;

use nvme_spec::Status;
use nvme_spec::log::AnaState;
use nvme_spec::status::StatusCodeType;
use nvmf_proto::host::Unfinished;
use nvmf_proto::{Completion, HostData};
use reactor::buffer::Sgl;
use reactor::poller::Progress;
use reactor::time::Time;
use volume::bdev::IoStatus;

use super::Remote;
use super::path::SECOND;
use crate::command::{Kind, Verdict, judge};
use crate::controller::ControllerEvent;
use crate::data::Data;
use crate::fused::Half;
use crate::limits::{ANA_LOOK_MS, ATTEMPTS_MAX, RETRY_DELAY_MS};
use crate::turn::Turn;

impl Remote {
    /// Sends a command on the best path, or lets it wait.
    #[inline]
    pub(super) fn dispatch(&mut self, index: u32) {
        let commands = self.table.get_mut(index).kind.commands();
        if self.waiting.is_empty()
            && let Some((path, queue)) = self.best_path(commands)
        {
            return self.send(index, path, queue);
        }
        self.waiting.push_back(index);
    }

    /// The path to take: of those in the best state the one with the fewest commands before these, which go to one queue. None
    /// when all of them are full; a path in a worse state is no way out.
    #[inline]
    fn best_path(&mut self, commands: usize) -> Option<(usize, usize)> {
        let wanted = self.best_access()?;
        let mut best: Option<(usize, usize, usize)> = None;
        for (index, path) in self.paths.iter_mut().enumerate() {
            if path.access != Some(wanted) {
                continue;
            }
            if let Some((queue, before)) = path.room(commands)
                && best.is_none_or(|(_, _, least)| before < least)
            {
                best = Some((index, queue, before));
            }
        }
        best.map(|(path, queue, _)| (path, queue))
    }

    fn best_access(&self) -> Option<AnaState> {
        let has = |state| self.paths.iter().any(|path| path.access == Some(state));
        [AnaState::OPTIMIZED, AnaState::NON_OPTIMIZED].into_iter().find(|state| has(*state))
    }

    #[inline]
    fn send(&mut self, index: u32, path: usize, queue: usize) {
        let command = self.table.get_mut(index);
        if command.kind == Kind::CompareAndWrite {
            return self.send_pair(index, path, queue);
        }
        let data = Data::Pool(std::mem::take(&mut command.sgl));
        let data = match command.kind {
            Kind::Read => HostData::Read(data),
            Kind::Write | Kind::Compare => HostData::Write(data),
            Kind::Zero | Kind::Flush => HostData::None,
            Kind::CompareAndWrite => unreachable!("sent above"),
        };
        self.paths[path].submit(queue, index, self.now, command.sqe, data);
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn pump(&mut self, now: Time) {
        self.note_paths(now);
        while let Some(&index) = self.waiting.front() {
            let commands = self.table.get_mut(index).kind.commands();
            let Some((path, queue)) = self.best_path(commands) else { break };
            self.waiting.pop_front();
            self.send(index, path, queue);
        }
    }

    fn note_paths(&mut self, now: Time) {
        if self.best_access().is_some() {
            self.no_path_since = None;
        } else if self.no_path_since.is_none() {
            self.no_path_since = Some(now);
        }
    }

    pub(super) fn take_completions(&mut self, path: usize, turn: &mut Turn<'_>) {
        for queue in 0..self.paths[path].queues() {
            while let Some((owner, completion)) = self.paths[path].next_completion(queue, turn) {
                self.on_completion(path, owner, completion, turn);
            }
        }
    }

    #[inline]
    fn on_completion(&mut self, path: usize, owner: u32, completion: Completion<Data>, turn: &mut Turn<'_>) {
        let status = completion.cqe.status();
        let index = owner & !SECOND;
        let command = self.table.get_mut(index);
        let sgl = completion.data.map_or_else(Sgl::empty, Data::into_sgl);
        if command.pair.is_some() {
            let verdict = self.on_half(path, owner, Half::Answered(status));
            return verdict.map_or((), |verdict| self.on_verdict(path, index, verdict, status, turn));
        }
        let verdict = judge(status, command.kind, command.sqe.slba());
        if let Verdict::Done(status) = verdict {
            return self.finish_command(index, status, sgl);
        }
        command.sgl = sgl;
        self.on_verdict(path, index, verdict, status, turn);
    }

    /// A command, which has its buffers, was answered: `status` is why this is the verdict.
    fn on_verdict(&mut self, path: usize, index: u32, verdict: Verdict, status: Status, turn: &mut Turn<'_>) {
        if let Verdict::Done(status) = verdict {
            return self.fail(index, status);
        }
        let command = self.table.get_mut(index);
        command.attempts += 1;
        if command.attempts >= ATTEMPTS_MAX || self.closing {
            let status = command.kind.failure(command.sqe.slba());
            return self.fail(index, status);
        }
        self.counters.retries += 1;
        let at = turn.now.after(Duration::from_millis(RETRY_DELAY_MS));
        self.timed.push((at, index));
        if verdict == Verdict::OtherPath {
            let is_ana = status.status_code_type() == StatusCodeType::PATH;
            // Until the controller has told its states again this path is not taken.
            self.paths[path].access = Some(AnaState::CHANGE);
            if let Some(controller) = self.paths[path].controller() {
                if is_ana { controller.on_path_status(turn) } else { controller.on_namespace_status(turn) }
            }
        }
    }

    pub(super) fn poll_path(&mut self, index: usize, turn: &mut Turn<'_>) -> Progress {
        let mut progress = self.paths[index].poll(turn);
        while let Some(event) = self.paths[index].next_event(turn.now) {
            progress = Progress::Busy;
            match event {
                ControllerEvent::Live | ControllerEvent::NamespacesChanged | ControllerEvent::AnaChanged => {
                    self.look_at(index);
                }
                ControllerEvent::Ended { cause, quiesced_at } => {
                    self.take_lost(index, turn);
                    self.fence(index, quiesced_at);
                    self.paths[index].on_ended(cause, turn.now);
                }
                ControllerEvent::DiscoveryChanged | ControllerEvent::AdminDone { .. } => {}
            }
        }
        self.take_lost(index, turn);
        progress
    }

    /// Takes what the controller says about the namespace.
    fn look_at(&mut self, index: usize) {
        let found = self.paths[index].namespace(self.config.nsid);
        let refused = found.as_ref().and_then(|(namespace, _)| self.objection(namespace));
        let found = found.filter(|_| refused.is_none());
        if let Some((namespace, _)) = &found {
            self.info = Some(namespace.bdev);
            self.deallocates = namespace.deallocates;
        }
        let path = &mut self.paths[index];
        path.refused = refused;
        path.take_offer(found.as_ref().map(|(namespace, _)| namespace));
        path.access = found.map(|(_, state)| state);
    }

    /// Takes the commands of queues that have ended. What came before the end is taken as usual.
    fn take_lost(&mut self, index: usize, turn: &mut Turn<'_>) {
        self.take_completions(index, turn);
        for queue in 0..self.paths[index].queues() {
            while let Some((owner, unfinished)) = self.paths[index].next_unfinished(queue) {
                self.on_unfinished(index, owner, unfinished, turn);
            }
        }
    }

    fn on_unfinished(&mut self, path: usize, owner: u32, unfinished: Unfinished<Data>, turn: &mut Turn<'_>) {
        let index = owner & !SECOND;
        let command = self.table.get_mut(index);
        let sgl = unfinished.data.map_or_else(Sgl::empty, Data::into_sgl);
        if command.pair.is_some() {
            let verdict = self.on_half(path, owner, Half::Lost { sent: unfinished.sent });
            // The status that told of the path was heard when it came.
            let status = Status::SUCCESS;
            return verdict.map_or((), |verdict| self.on_verdict(path, index, verdict, status, turn));
        }
        command.sgl = sgl;
        if unfinished.sent && command.kind.changes_blocks() {
            self.counters.fenced += 1;
            self.paths[path].in_doubt.push(index);
            return;
        }
        self.counters.retries += 1;
        self.wait_again(index);
    }

    /// The lost association of a path is quiesced at `quiesced_at`: its writes wait until then.
    fn fence(&mut self, index: usize, quiesced_at: Time) {
        let in_doubt = std::mem::take(&mut self.paths[index].in_doubt);
        self.timed.extend(in_doubt.into_iter().map(|command| (quiesced_at, command)));
    }

    pub(super) fn release_timed(&mut self, now: Time) {
        let mut at = 0;
        while at < self.timed.len() {
            if self.timed[at].0 > now {
                at += 1;
                continue;
            }
            let (_, index) = self.timed.remove(at);
            self.wait_again(index);
        }
    }

    /// Every now and then: commands that have waited for a path too long, and states that may have changed unheard.
    pub(super) fn scan(&mut self, turn: &mut Turn<'_>) {
        self.note_paths(turn.now);
        let limit = self.config.timeouts.no_path;
        if self.no_path_since.is_some_and(|since| turn.now.since(since) >= limit) && !self.waiting.is_empty()
        {
            self.counters.no_path += self.waiting.len() as u64;
            let waiting = std::mem::take(&mut self.waiting);
            for index in waiting {
                let command = self.table.get_mut(index);
                let status = command.kind.failure(command.sqe.slba());
                self.fail(index, status);
            }
        }
        if turn.now < self.look_again_at {
            return;
        }
        self.look_again_at = turn.now.after(Duration::from_millis(ANA_LOOK_MS));
        for path in &mut self.paths {
            if path.is_set_aside()
                && let Some(controller) = path.controller()
            {
                controller.on_path_status(turn);
            }
        }
    }

    /// Ends a command that no queue has.
    pub(super) fn fail(&mut self, index: u32, status: IoStatus) {
        let sgl = std::mem::take(&mut self.table.get_mut(index).sgl);
        self.finish_command(index, status, sgl);
    }

    /// Ends what waits, the backlog included.
    pub(super) fn fail_waiting(&mut self, status: IoStatus) {
        let backlog = std::mem::take(&mut self.backlog);
        for io in backlog {
            self.finish_io(io.tag, status, io.sgl);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for index in waiting {
            self.fail(index, status);
        }
    }
}

//! Task management (RFC 7143 sections 4.2.3, 11.5 and 11.6).

use super::event::{ConnectionIndex, RequestId, TaskId, TaskManagement};
use super::host::{Host, Payload};
use super::request::{Body, Request};
use super::task::TaskState;
use super::window::serial_before;
use super::{Queued, Session};
use crate::pdu::{TmfFunction, TmfRequest, TmfResponse, TmfResponsePdu};
use zerocopy::transmute;

impl<P: Payload> Session<P> {
    /// A task management request is complete.
    pub(super) fn on_task_management<H: Host<Payload = P>>(&mut self, index: usize, host: &mut H) {
        let header = *TmfRequest::view(&self.open(index).rx.bhs);
        let body = Body::TaskManagement {
            function: header.function(),
            lun: header.lun.get(),
            referenced_task_tag: header.referenced_task_tag.get(),
            ref_cmd_sn: header.ref_cmd_sn.get(),
            referenced: None,
        };
        self.accept_control(index, header.itt.get(), header.cmd_sn.get(), body, host);
    }

    /// Its turn has come.
    pub(super) fn run_task_management<H: Host<Payload = P>>(&mut self, id: RequestId, host: &mut H) {
        let request = self.requests.get(id).expect("the caller looked").clone();
        let Body::TaskManagement { function, lun, referenced_task_tag, ref_cmd_sn, .. } = request.body else {
            unreachable!("the caller looked at the body")
        };
        match function {
            TmfFunction::ABORT_TASK => {
                if let Some(response) = self.abort_referenced(id, lun, referenced_task_tag, ref_cmd_sn) {
                    self.complete_task_management(id, response);
                    self.run_window(host);
                }
            }
            TmfFunction::ABORT_TASK_SET | TmfFunction::CLEAR_TASK_SET | TmfFunction::LOGICAL_UNIT_RESET => {
                if request.immediate && self.commands_missing_before(request.cmd_sn) {
                    //= RFC 7143 section 4.2.3.3: commands before it are waited for
                    return self.barriers.push(id);
                }
                self.abort_before(request.cmd_sn, Some(lun));
                self.events.push_back(Queued::Request(id));
            }
            TmfFunction::TARGET_WARM_RESET | TmfFunction::TARGET_COLD_RESET => {
                self.plug_before(request.cmd_sn);
                self.abort_before(request.cmd_sn, None);
                self.events.push_back(Queued::Request(id));
                self.run_window(host);
            }
            TmfFunction::TASK_REASSIGN => {
                self.complete_task_management(id, TmfResponse::REASSIGN_NOT_SUPPORTED);
            }
            _ => {
                self.complete_task_management(id, TmfResponse::NOT_SUPPORTED);
            }
        }
    }

    /// ABORT TASK. `None`: the task is executing, so the layer above answers.
    fn abort_referenced(
        &mut self,
        id: RequestId,
        lun: u64,
        tag: u32,
        ref_cmd_sn: u32,
    ) -> Option<TmfResponse> {
        if let Some(task_id) = self.tasks.find(tag) {
            let task = self.tasks.get(task_id).expect("found");
            if !task.is_for(lun) {
                return Some(TmfResponse::TASK_DOES_NOT_EXIST);
            }
            if task.state == TaskState::Executing {
                let request = self.requests.get_mut(id).expect("it is being served");
                if let Body::TaskManagement { referenced, .. } = &mut request.body {
                    *referenced = Some(task_id);
                }
                self.events.push_back(Queued::Request(id));
                return None;
            }
            self.abort_where(|task| task.itt == tag, false);
            return Some(TmfResponse::COMPLETE);
        }
        //= RFC 7143 section 11.6.1: within the window and before the function itself it counts as received and
        //= aborted, else it does not exist
        let request = self.requests.get(id).expect("it is being served");
        // An immediate command bears the number of the next one, which is not the one that is meant.
        let is_missing = serial_before(ref_cmd_sn, request.cmd_sn) && self.window.plug(ref_cmd_sn);
        match is_missing {
            true => Some(TmfResponse::COMPLETE),
            false => Some(TmfResponse::TASK_DOES_NOT_EXIST),
        }
    }

    /// True while commands before `cmd_sn` are on their way. A number that no window reaches is not waited for.
    fn commands_missing_before(&self, cmd_sn: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(self.window.exp_cmd_sn());
        ahead > 0 && ahead <= self.window.open_for()
    }

    /// Considers the commands before `cmd_sn` received and aborted.
    fn plug_before(&mut self, cmd_sn: u32) {
        if self.commands_missing_before(cmd_sn) {
            let first = self.window.exp_cmd_sn();
            for ahead in 0..cmd_sn.wrapping_sub(first) {
                self.window.plug(first.wrapping_add(ahead));
            }
        }
    }

    /// Drops what is not given out of the commands before `cmd_sn`; what is given out is the layer above's to end.
    fn abort_before(&mut self, cmd_sn: u32, lun: Option<u64>) {
        let before = |task: &super::task::Task<P>| {
            lun.is_none_or(|lun| task.is_for(lun)) && (task.immediate || serial_before(task.cmd_sn, cmd_sn))
        };
        self.abort_where(before, false);
    }

    /// Runs the requests that waited for commands which are there now.
    pub(super) fn run_barriers<H: Host<Payload = P>>(&mut self, host: &mut H) {
        if self.barriers.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.barriers) {
            // It goes back to the barriers when it still has to wait.
            if self.requests.get(id).is_some() {
                self.run_task_management(id, host);
            }
        }
    }

    /// The event for a request, unless it became stale.
    pub(super) fn management_event(&self, id: RequestId, request: &Request) -> Option<TaskManagement> {
        let Body::TaskManagement { function, lun, referenced, .. } = request.body else { return None };
        // It may have completed since; then there is nothing to abort.
        let referenced = referenced.filter(|task| self.tasks.get(*task).is_some());
        Some(TaskManagement {
            id,
            connection: ConnectionIndex(request.connection),
            function,
            lun,
            referenced,
        })
    }

    /// True when a function for many tasks acts on `task`: it does on the commands numbered before it, and on
    /// immediate ones, but not on one that overtook it on another connection (section 11.5.1).
    pub fn acts_on(&self, id: RequestId, task: TaskId) -> bool {
        let (Some(request), Some(task)) = (self.requests.get(id), self.tasks.get(task)) else { return true };
        task.immediate || serial_before(task.cmd_sn, request.cmd_sn)
    }

    /// Answers a [`TaskManagement`]. False when its connection is gone.
    pub fn complete_task_management(&mut self, id: RequestId, response: TmfResponse) -> bool {
        let Some(request) = self.end_request(id) else { return false };
        let header = TmfResponsePdu::new(request.itt, response);
        // Behind the responses of tasks that were completed before it (section 4.2.3.3).
        self.send_behind_reads(usize::from(request.connection), transmute!(header));
        true
    }
}

//! Requests that are not SCSI commands: kept from their PDU until their answer.

use super::Session;
use super::event::{RequestId, TaskId};
use super::flow::InWindow;
use super::host::{Host, Payload};
use super::limits::REQUESTS_MAX;
use crate::pdu::{Bhs, LogoutReason, RejectReason, TmfFunction};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A ping that takes a command number.
    Ping {
        data: Vec<u8>,
    },
    TaskManagement {
        function: TmfFunction,
        lun: u64,
        referenced_task_tag: u32,
        ref_cmd_sn: u32,
        /// The executing task that the tag turned out to mean.
        referenced: Option<TaskId>,
    },
    Text {
        is_final: bool,
        is_continued: bool,
        ttt: u32,
        data: Vec<u8>,
    },
    Logout {
        reason: LogoutReason,
        cid: u16,
    },
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) connection: u8,
    pub(crate) immediate: bool,
    pub(crate) itt: u32,
    pub(crate) cmd_sn: u32,
    /// Its number has come up, so it gives a place in the window back.
    pub(crate) running: bool,
    /// Its header, to be quoted in a Reject.
    pub(crate) bhs: Bhs,
    pub(crate) body: Body,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u16,
    request: Option<Request>,
}

/// The requests of a session.
#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    slots: Vec<Slot>,
    used: usize,
}

impl RequestTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        let slot = self.slots.get((id.0 & 0xffff) as usize)?;
        if u32::from(slot.generation) == id.0 >> 16 { slot.request.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        let slot = self.slots.get_mut((id.0 & 0xffff) as usize)?;
        if u32::from(slot.generation) == id.0 >> 16 { slot.request.as_mut() } else { None }
    }

    fn insert(&mut self, request: Request) -> RequestId {
        let index = self.slots.iter().position(|slot| slot.request.is_none()).unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.request = Some(request);
        self.used += 1;
        RequestId(u32::from(slot.generation) << 16 | index as u32)
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let slot = self.slots.get_mut((id.0 & 0xffff) as usize)?;
        if u32::from(slot.generation) != id.0 >> 16 {
            return None;
        }
        let request = slot.request.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.used -= 1;
        Some(request)
    }

    pub(crate) fn has_tag(&self, itt: u32) -> bool {
        self.used > 0 && self.iter().any(|(_, request)| request.itt == itt)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = RequestId(u32::from(slot.generation) << 16 | index as u32);
            Some((id, slot.request.as_ref()?))
        })
    }

    fn immediate_count(&self) -> usize {
        self.iter().filter(|(_, request)| request.immediate).count()
    }
}

impl<P: Payload> Session<P> {
    /// Takes a request whose PDU is complete: acts on it now or when its number comes up.
    pub(super) fn accept_request<H: Host<Payload = P>>(&mut self, request: Request, host: &mut H) {
        let index = usize::from(request.connection);
        if request.immediate {
            // Those with a number are bounded by the window.
            if self.requests.immediate_count() >= REQUESTS_MAX {
                return self.send_reject(index, RejectReason::IMMEDIATE_COMMAND_REJECT);
            }
        } else if !self.window.accepts(request.cmd_sn) {
            self.counters.commands_ignored += 1;
            return;
        }
        if self.tag_in_use(request.itt) {
            return self.send_reject(index, RejectReason::TASK_IN_PROGRESS);
        }
        let (immediate, cmd_sn) = (request.immediate, request.cmd_sn);
        let id = self.requests.insert(request);
        if immediate {
            self.run_request(id, host);
        } else {
            self.window.admit(cmd_sn, InWindow::Request(id));
        }
        self.run_window(host);
    }

    /// A request's turn has come.
    pub(super) fn run_request<H: Host<Payload = P>>(&mut self, id: RequestId, host: &mut H) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.running = true;
        match request.body {
            Body::Ping { .. } => self.run_ping(id),
            Body::TaskManagement { .. } => self.run_task_management(id, host),
            Body::Text { .. } => self.run_text(id),
            Body::Logout { .. } => self.run_logout(id),
        }
    }

    /// Takes a request off the table for its answer; its place in the window is free again. `None` when it is stale or its
    /// connection sends nothing more.
    pub(super) fn end_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        if request.running && !request.immediate {
            self.window.credit();
        }
        let connection = self.connections[usize::from(request.connection)].as_ref();
        connection.is_some_and(|connection| connection.sends()).then_some(request)
    }

    /// Forgets the requests of a connection, all but one.
    pub(super) fn drop_requests_of(&mut self, index: usize, except: Option<RequestId>) {
        let of_it = |(id, request): (RequestId, &Request)| {
            (usize::from(request.connection) == index && Some(id) != except).then_some(id)
        };
        let ids: Vec<RequestId> = self.requests.iter().filter_map(of_it).collect();
        for id in ids {
            self.end_request(id);
            self.barriers.retain(|barrier| *barrier != id);
        }
    }
}

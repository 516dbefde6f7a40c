//! Looking at the namespaces: at every start, and when the controller says that some have changed.
//!
//! A namespace that was handed out is either still what it was (it may have grown, unless a reset lies in between) or it is
//! ended, and what is there instead is refused until the owner has looked: old data is never attributed to another namespace.

use std::sync::Arc;

use nvme_spec::identify::{IdentifyNamespace, NamespaceList};
use reactor::time::Time;

use super::jobs::Job;
use super::{Controller, ControllerEvent, Phase};
use crate::admin::Answer;
use crate::device::Device;
use crate::error::Refusal;
use crate::info::ControllerInfo;
use crate::limits::NAMESPACES_MAX;
use crate::namespace::{Namespace, NamespaceInfo};

#[derive(Debug)]
enum State {
    Live(Arc<Namespace>),
    /// It was served, and its controller ended: what must be found again.
    Ended {
        info: NamespaceInfo,
        length_blocks: u64,
    },
    /// Not served. What it was before it was refused for a change, if that is why.
    Refused {
        refusal: Refusal,
        before: Option<(NamespaceInfo, u64)>,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    nsid: u32,
    state: State,
}

impl Entry {
    pub(super) fn live(&self) -> Option<&Arc<Namespace>> {
        match &self.state {
            State::Live(namespace) => Some(namespace),
            _ => None,
        }
    }

    pub(super) fn refused(&self) -> Option<(u32, Refusal)> {
        match self.state {
            State::Refused { refusal, .. } => Some((self.nsid, refusal)),
            _ => None,
        }
    }
}

/// Who a controller and its namespaces were.
#[derive(Clone, Debug)]
pub struct Remembered {
    info: ControllerInfo,
    namespaces: Vec<(NamespaceInfo, u64)>,
}

impl Remembered {
    /// Its namespaces as they were.
    pub fn namespaces(&self) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces.iter().map(|(info, _)| info)
    }
}

/// A look at the namespaces that is under way.
#[derive(Debug)]
pub(super) struct Scan {
    /// Still to be looked at, the next one last.
    left: Vec<u32>,
    identify: Option<Box<IdentifyNamespace>>,
    found: Vec<(u32, Result<NamespaceInfo, Refusal>)>,
}

impl<D: Device> Controller<D> {
    pub(super) fn on_namespace_list(&mut self, now: Time, answer: &Answer<Job>) {
        let list: Box<NamespaceList> = self.admin().data(answer);
        let mut left: Vec<u32> = Vec::new();
        for nsid in list.iter().take(NAMESPACES_MAX) {
            // Ascending, says the standard; a list that is not is cut where it stops to be.
            if left.last().is_some_and(|last| *last >= nsid) || nsid == nvme_spec::NSID_ALL {
                break;
            }
            left.push(nsid);
        }
        left.reverse();
        self.scan = Some(Scan { left, identify: None, found: Vec::new() });
        self.look_at_next(now);
    }

    fn look_at_next(&mut self, _now: Time) {
        match self.scan.as_ref().map(|scan| scan.left.last().copied()) {
            // In front of everything else, so that a look is not mixed with another.
            Some(Some(nsid)) => self.jobs.push_front(Job::Namespace(nsid)),
            Some(None) => self.finish_scan(),
            None => {}
        }
    }

    pub(super) fn on_namespace(&mut self, _now: Time, nsid: u32, answer: &Answer<Job>) {
        let data = self.admin().data(answer);
        if let Some(scan) = &mut self.scan {
            scan.identify = Some(data);
            self.jobs.push_front(Job::Descriptors(nsid));
        }
    }

    /// It went away between the list and the look.
    pub(super) fn on_namespace_failed(&mut self, _nsid: u32) {
        if let Some(scan) = &mut self.scan {
            scan.left.pop();
        }
        self.look_at_next(Time::ZERO);
    }

    /// The descriptors are not there on old controllers.
    pub(super) fn on_descriptors(&mut self, now: Time, nsid: u32, answer: Option<&Answer<Job>>) {
        let bytes = answer.map(|answer| self.admin().bytes(answer));
        let (Some(scan), Some(info)) = (&mut self.scan, &self.info) else { return };
        if let Some(identify) = scan.identify.take() {
            scan.found.push((nsid, NamespaceInfo::new(nsid, &identify, bytes.as_deref(), info)));
        }
        scan.left.pop();
        self.look_at_next(now);
    }

    fn finish_scan(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        let gone = |entry: &Entry| !scan.found.iter().any(|(nsid, _)| *nsid == entry.nsid);
        let removed: Vec<u32> =
            self.namespaces.iter().filter(|entry| gone(entry)).map(|entry| entry.nsid).collect();
        for nsid in removed {
            self.refuse(nsid, Refusal::Removed);
        }
        // Without a reset in between a namespace may grow: its owner has been told by the event that began this look.
        let may_grow = self.phase == Phase::Ready;
        for (nsid, found) in scan.found {
            self.settle_namespace(nsid, found, may_grow);
        }
    }

    fn settle_namespace(&mut self, nsid: u32, found: Result<NamespaceInfo, Refusal>, may_grow: bool) {
        let position = self.namespaces.iter().position(|entry| entry.nsid == nsid);
        let Some(position) = position else { return self.admit(nsid, found) };
        let (before, length_blocks) = match &self.namespaces[position].state {
            State::Live(namespace) => (*namespace.info(), namespace.length_blocks()),
            State::Ended { info, length_blocks } => (*info, *length_blocks),
            // What was refused for a change stays refused: its owner has to look.
            State::Refused { before: Some(_), .. } => return,
            State::Refused { before: None, refusal } => {
                if found.err() != Some(*refusal) {
                    self.namespaces.remove(position);
                    self.admit(nsid, found);
                }
                return;
            }
        };
        let info = match found {
            Ok(info) => info,
            Err(refusal) => return self.refuse(nsid, refusal),
        };
        if let Some(refusal) = info.difference(&before, length_blocks, may_grow) {
            return self.refuse(nsid, refusal);
        }
        match &self.namespaces[position].state {
            State::Live(namespace) if info.length_blocks > length_blocks => {
                namespace.grow(info.length_blocks);
                self.tell(ControllerEvent::NamespaceGrown { nsid, length_blocks: info.length_blocks });
            }
            State::Live(_) => {}
            _ => {
                self.namespaces.remove(position);
                self.admit(nsid, Ok(info));
            }
        }
    }

    fn admit(&mut self, nsid: u32, found: Result<NamespaceInfo, Refusal>) {
        let (state, event) = match found {
            Ok(info) => {
                let identity = self.info.as_ref().expect("identified before its namespaces").identity.clone();
                let state = State::Live(Arc::new(Namespace::new(identity, info)));
                (state, ControllerEvent::NamespaceAdded { nsid })
            }
            Err(refusal) => (
                State::Refused { refusal, before: None },
                ControllerEvent::NamespaceRefused { nsid, refusal },
            ),
        };
        if self.namespaces.len() == NAMESPACES_MAX {
            // Those that were taken away make room.
            self.namespaces.retain(|entry| entry.refused().is_none_or(|(_, why)| why != Refusal::Removed));
        }
        self.namespaces.push(Entry { nsid, state });
        self.tell(event);
    }

    /// The namespace is not served any more; what it was is remembered.
    fn refuse(&mut self, nsid: u32, refusal: Refusal) {
        let Some(entry) = self.namespaces.iter_mut().find(|entry| entry.nsid == nsid) else { return };
        let before = match &entry.state {
            State::Live(namespace) => {
                namespace.end();
                Some((*namespace.info(), namespace.length_blocks()))
            }
            State::Ended { info, length_blocks } => Some((*info, *length_blocks)),
            State::Refused { refusal: known, .. } if *known == refusal => return,
            State::Refused { before, .. } => *before,
        };
        entry.state = State::Refused { refusal, before };
        self.tell(ControllerEvent::NamespaceRefused { nsid, refusal });
    }

    pub(super) fn refuse_all(&mut self, refusal: Refusal) {
        let live: Vec<u32> =
            self.namespaces.iter().filter(|entry| entry.live().is_some()).map(|entry| entry.nsid).collect();
        for nsid in live {
            self.refuse(nsid, refusal);
        }
    }

    /// The controller is over: those that were handed out are ended, and must be found again by a later start.
    pub(super) fn end_namespaces(&mut self) {
        for entry in &mut self.namespaces {
            if let State::Live(namespace) = &entry.state {
                namespace.end();
                let (info, length_blocks) = (*namespace.info(), namespace.length_blocks());
                entry.state = State::Ended { info, length_blocks };
            }
        }
    }

    /// What must be found again when the same device is driven by another controller of ours: after it was pulled out and put
    /// in again, say. `None` when it was never ready.
    pub fn remembered(&self) -> Option<Remembered> {
        let namespaces = self.namespaces.iter().filter_map(|entry| match &entry.state {
            State::Live(namespace) => Some((*namespace.info(), namespace.length_blocks())),
            State::Ended { info, length_blocks } => Some((*info, *length_blocks)),
            State::Refused { before, .. } => *before,
        });
        let namespaces =
            namespaces.map(|(info, length_blocks)| (NamespaceInfo { length_blocks, ..info }, length_blocks));
        Some(Remembered { info: self.known.clone()?, namespaces: namespaces.collect() })
    }

    /// It must be who another one was, and so must its namespaces; call it before the start.
    pub fn expect(&mut self, remembered: Remembered) {
        self.known = Some(remembered.info);
        let entry = |(info, length_blocks): (NamespaceInfo, u64)| Entry {
            nsid: info.nsid,
            state: State::Ended { info, length_blocks },
        };
        self.namespaces = remembered.namespaces.into_iter().map(entry).collect();
    }

    /// The owner has looked at a namespace that was refused because something about it changed, and takes it as it is now. It
    /// is looked at again and handed out anew.
    pub fn readmit(&mut self, nsid: u32) {
        if self.phase != Phase::Ready {
            return;
        }
        self.namespaces.retain(|entry| entry.nsid != nsid || entry.refused().is_none());
        self.add_job(Job::NamespaceList);
    }
}

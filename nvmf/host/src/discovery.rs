//! Asking a discovery controller which subsystems there are (Base 3.1.3.3, 5.1.12.3.1).
//!
//! The log page may change while it is read in parts: its generation is read before and after, and a change starts over. The
//! association may be kept, to hear of later changes.

use nvme_spec::admin::GetLogPage;
use nvme_spec::discovery::{DiscoveryEntry, DiscoveryHeader};
use nvme_spec::log::LogPageId;
use nvmf_proto::{Completion, HostData};
use reactor::net::Ready;
use reactor::poller::Progress;
use reactor::time::Time;
use zerocopy::FromBytes;

use crate::config::ControllerConfig;
use crate::controller::{Controller, ControllerEvent};
use crate::data::Data;
use crate::error::EndCause;
use crate::limits::{DISCOVERY_ATTEMPTS_MAX, DISCOVERY_RECORDS_MAX, DISCOVERY_RECORDS_PER_READ};
use crate::turn::Turn;

const HEADER_BYTES: u64 = size_of::<DiscoveryHeader>() as u64;
const RECORD_BYTES: u64 = size_of::<DiscoveryEntry>() as u64;

/// What a discovery found, or that it found nothing.
#[derive(Debug)]
pub enum DiscoveryEvent {
    /// The log page, complete and of one generation.
    Found(Vec<DiscoveryEntry>),
    /// The log page has changed: [`Discovery::read`] reads it again.
    Changed,
    /// The association is over.
    Ended(EndCause),
}

/// What the answer that is awaited is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The header, before.
    Header,
    /// Records from this one on.
    Records(u64),
    /// The header, after.
    Check,
}

/// An association with a discovery controller.
pub struct Discovery {
    controller: Controller,
    step: Step,
    generation: u64,
    records: u64,
    found: Vec<DiscoveryEntry>,
    attempts: u32,
    is_reading: bool,
    events: Vec<DiscoveryEvent>,
}

impl Discovery {
    /// Connects and reads the log page. The token rules are those of [`Controller::new`].
    ///
    /// # Panics
    /// When the configuration is not one of [`ControllerConfig::discovery`], or was not checked.
    pub fn new(config: ControllerConfig, token_base: u32, turn: &mut Turn<'_>) -> Self {
        assert!(config.is_discovery(), "only a discovery subsystem has this log page");
        Self {
            controller: Controller::new(config, token_base, turn),
            step: Step::Header,
            generation: 0,
            records: 0,
            found: Vec::new(),
            attempts: 0,
            is_reading: false,
            events: Vec::new(),
        }
    }

    /// One of its streams was named.
    pub fn on_ready(&mut self, ready: Ready, turn: &mut Turn<'_>) -> bool {
        self.controller.on_ready(ready, turn)
    }

    /// Drives it, once per turn; sends what waits.
    pub fn poll(&mut self, turn: &mut Turn<'_>) -> Progress {
        let progress = self.controller.poll(turn);
        while let Some(event) = self.controller.next_event() {
            match event {
                ControllerEvent::Live => self.read(turn),
                ControllerEvent::AdminDone { completion, .. } => self.on_answer(&completion, turn),
                ControllerEvent::DiscoveryChanged => self.events.push(DiscoveryEvent::Changed),
                ControllerEvent::Ended { cause, .. } => self.events.push(DiscoveryEvent::Ended(cause)),
                ControllerEvent::NamespacesChanged | ControllerEvent::AnaChanged => {}
            }
        }
        progress.or(self.controller.flush(turn))
    }

    /// The oldest event, until there is none.
    pub fn next_event(&mut self) -> Option<DiscoveryEvent> {
        if self.events.is_empty() { None } else { Some(self.events.remove(0)) }
    }

    /// When [`Discovery::poll`] must be called although nothing arrives.
    pub fn deadline(&self) -> Time {
        self.controller.deadline()
    }

    /// Ends the association; [`DiscoveryEvent::Ended`] follows.
    pub fn close(&mut self, turn: &mut Turn<'_>) {
        self.controller.shutdown(turn);
    }

    /// Reads the log page again. While one is being read that one will do: a change in between starts it over.
    pub fn read(&mut self, turn: &mut Turn<'_>) {
        if !self.is_reading {
            self.attempts = 0;
            self.start_over(turn);
        }
    }

    fn start_over(&mut self, turn: &mut Turn<'_>) {
        self.attempts += 1;
        if self.attempts > DISCOVERY_ATTEMPTS_MAX {
            // A log page that never stands still: the association is of no use.
            return self.close(turn);
        }
        self.found.clear();
        self.ask(Step::Header, turn);
    }

    fn ask(&mut self, step: Step, turn: &mut Turn<'_>) {
        self.step = step;
        let (offset, length_bytes) = match step {
            Step::Header | Step::Check => (0, HEADER_BYTES),
            Step::Records(first) => {
                let count = (self.records - first).min(DISCOVERY_RECORDS_PER_READ);
                (HEADER_BYTES + first * RECORD_BYTES, count * RECORD_BYTES)
            }
        };
        let get = GetLogPage { lid: LogPageId::DISCOVERY, offset, length_bytes, ..GetLogPage::default() };
        let data = HostData::Read(Data::zeros(length_bytes as usize));
        self.is_reading = self.controller.submit_admin(0, get.sqe(), data, turn);
    }

    fn on_answer(&mut self, completion: &Completion<Data>, turn: &mut Turn<'_>) {
        let bytes = match &completion.data {
            Some(Data::Heap(bytes)) if completion.cqe.status().is_success() => bytes,
            // It asks to start over, or refuses.
            _ => return self.start_over(turn),
        };
        if let Step::Records(first) = self.step {
            let (records, _) = bytes.as_chunks::<{ RECORD_BYTES as usize }>();
            for record in records {
                let record = DiscoveryEntry::read_from_bytes(record).expect("a chunk is as long as a record");
                self.found.push(record);
            }
            let next = first + records.len() as u64;
            let step = if next < self.records { Step::Records(next) } else { Step::Check };
            return self.ask(step, turn);
        }
        let header = DiscoveryHeader::ref_from_bytes(bytes).expect("as long as it was asked for");
        let (generation, records) = (header.genctr.get(), header.numrec.get());
        if self.step == Step::Check && generation == self.generation {
            self.is_reading = false;
            self.events.push(DiscoveryEvent::Found(std::mem::take(&mut self.found)));
            return;
        }
        if self.step == Step::Check {
            return self.start_over(turn);
        }
        if records > DISCOVERY_RECORDS_MAX || header.recfmt.get() != 0 {
            return self.close(turn);
        }
        (self.generation, self.records) = (generation, records);
        self.ask(if records == 0 { Step::Check } else { Step::Records(0) }, turn);
    }
}

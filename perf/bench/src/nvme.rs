//! The driver over NVMe/TCP: an association of `nvmf_host`, its queue pairs used directly.

mod cut;

use std::rc::Rc;
use std::time::Duration;

use nvme_spec::nvm::IoControl;
use nvme_spec::{NvmOpcode, Sqe};
use nvmf_host::controller::ControllerEvent;
use nvmf_host::{Controller, ControllerConfig, Data, Digest, EndCause, HostIdentity, QueuePair, Turn};
use nvmf_proto::{Completion, HostData};
use reactor::net::{Network, Ready, StreamGroup};
use reactor::time::Time;

use crate::driver::{Answer, Driver, Failure, Geometry, Kind, Maintenance, Request};
use crate::error::BenchError;
use crate::limits::{CUT_BYTES, DRAIN_TIMEOUT_S, REQUEST_BYTES_MAX};
use crate::plan::Plan;
pub use cut::Pieces;
use cut::{Cuts, Part, Run};

/// Streams that are looked at in one turn: all there are.
const READY_PER_TURN: usize = 64;
const _: () = assert!(READY_PER_TURN > nvmf_host::limits::IO_QUEUES_MAX as usize);
/// What every controller takes in one command: the smallest page that MDTS counts in.
const COMMAND_BYTES_MIN: u64 = 4096;
/// Entries of the longest queue that is asked for.
const ENTRIES_MAX: u32 = 1024;

/// What one association is asked for.
#[derive(Clone, Debug)]
pub struct NvmeTarget {
    /// For messages.
    pub shown: String,
    /// The association; number and length of the queues follow from the plan.
    pub config: ControllerConfig,
    /// Namespace Identifier.
    pub nsid: u32,
    /// Requests in flight on each queue.
    pub depth: u32,
    /// No command is longer, whatever the controller takes.
    pub command_bytes_max: u64,
}

impl NvmeTarget {
    /// The association that a plan asks for.
    pub fn new(
        plan: &Plan,
        address: std::net::SocketAddr,
        subsystem_nqn: &str,
        nsid: u32,
        host_id: [u8; 16],
    ) -> Self {
        let digest = |wanted: bool| if wanted { Digest::Required } else { Digest::Off };
        let nqn = plan.client_name.clone().unwrap_or_else(|| host_nqn(host_id));
        // Some targets take no more than 128 KiB in one command, and how much is not known yet: then a request is several.
        let commands = plan.depth * plan.request_bytes.div_ceil(CUT_BYTES);
        let mut config = ControllerConfig {
            io_queues: plan.queues,
            // One entry of a queue stays free.
            io_queue_entries: u16::try_from((commands + 1).min(ENTRIES_MAX)).expect("it is bounded"),
            transfer_bytes: COMMAND_BYTES_MIN,
            header_digest: digest(plan.header_digest),
            data_digest: digest(plan.data_digest),
            ..ControllerConfig::new(address, subsystem_nqn, HostIdentity { nqn, id: host_id })
        };
        config.timeouts.io = Duration::from_secs(DRAIN_TIMEOUT_S);
        Self {
            shown: plan.target.to_string(),
            config,
            nsid,
            depth: plan.depth,
            command_bytes_max: REQUEST_BYTES_MAX.into(),
        }
    }
}

/// The NQN of a host that has only its identifier (Base 4.7).
fn host_nqn(id: [u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range: std::ops::Range<usize>| &hex[range];
    format!(
        "nqn.2014-08.org.nvmexpress:uuid:{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}

/// See the module's documentation.
pub struct NvmeDriver {
    target: NvmeTarget,
    network: Rc<dyn Network>,
    group: Box<dyn StreamGroup>,
    scratch: Vec<u8>,
    ready: Vec<Ready>,
    controller: Controller,
    /// What each command in flight is of, by queue and slot of its CID.
    parts: Vec<Vec<Part>>,
    cuts: Cuts,
    /// What is written goes with data digests.
    data_digest: bool,
    geometry: Option<Geometry>,
    end: Option<BenchError>,
    closing: bool,
    closed: bool,
}

impl NvmeDriver {
    /// Begins to connect. `target`'s configuration has been checked.
    pub fn new(network: Rc<dyn Network>, now: Time, target: NvmeTarget) -> Self {
        let mut group = network.group();
        let mut scratch = vec![0; nvmf_host::limits::SCRATCH_BYTES];
        let mut turn = Turn { now, network: &*network, group: &mut *group, scratch: &mut scratch };
        let controller = Controller::new(target.config.clone(), 0, &mut turn);
        let entries = usize::from(target.config.io_queue_entries);
        let queues = usize::from(target.config.io_queues);
        Self {
            parts: vec![vec![Part::default(); entries]; queues],
            cuts: Cuts::new(target.depth as usize * queues, queues),
            data_digest: target.config.data_digest != Digest::Off,
            target,
            network,
            group,
            scratch,
            ready: Vec::with_capacity(READY_PER_TURN),
            controller,
            geometry: None,
            end: None,
            closing: false,
            closed: false,
        }
    }

    fn split(&mut self, now: Time) -> (&mut Controller, Turn<'_>) {
        let turn = Turn { now, network: &*self.network, group: &mut *self.group, scratch: &mut self.scratch };
        (&mut self.controller, turn)
    }

    fn submit_plain(&mut self, now: Time, tag: u32, sqe: Sqe) -> bool {
        let index = tag as usize % self.parts.len();
        let submitted = self.controller.submit_io(index, now, sqe, HostData::None);
        if let Ok(cid) = submitted {
            self.parts[index][QueuePair::slot_of(cid)] = Part::whole(tag);
        }
        submitted.is_ok()
    }

    /// Writes one command to queue `index`.
    #[inline]
    fn send(&mut self, now: Time, index: usize, part: Part, request: Request, data: Run) -> Result<(), Run> {
        let (opcode, data) = match request.kind {
            Kind::Read => (NvmOpcode::READ, HostData::Read(data.into_read())),
            Kind::Write => (NvmOpcode::WRITE, HostData::Write(data.into_write(self.data_digest))),
        };
        let sqe = Sqe::io(opcode, self.target.nsid, request.lba, request.length_blocks, IoControl::NONE);
        match self.controller.submit_io(index, now, sqe, data) {
            Ok(cid) => {
                self.parts[index][QueuePair::slot_of(cid)] = part;
                Ok(())
            }
            Err(HostData::Read(data) | HostData::Write(data)) => Err(Run::back(data)),
            Err(_) => unreachable!("what was given comes back"),
        }
    }

    /// Sends what waits of requests that are several commands, as far as there is room.
    fn pump(&mut self, now: Time, index: usize) {
        while let Some((part, request, data)) = self.cuts.next(index) {
            if let Err(data) = self.send(now, index, part, request, data) {
                return self.cuts.put_back(index, part, data);
            }
        }
    }

    fn take_completions(&mut self, now: Time, answers: &mut Vec<Answer<Pieces>>) {
        for index in 0..self.controller.io_queues() {
            let mut turn =
                Turn { now, network: &*self.network, group: &mut *self.group, scratch: &mut self.scratch };
            while let Some(completion) = self.controller.next_io_completion(index, &mut turn) {
                let part = self.parts[index][QueuePair::slot_of(completion.cid)];
                answers.extend(answer(&mut self.cuts, part, completion));
            }
            if self.cuts.has_waiting(index) {
                self.pump(now, index);
            }
        }
    }

    fn take_events(&mut self, answers: &mut Vec<Answer<Pieces>>) {
        while let Some(event) = self.controller.next_event() {
            match event {
                ControllerEvent::Live => match self.learn() {
                    Ok(geometry) => self.geometry = Some(geometry),
                    Err(error) => self.end = Some(error),
                },
                ControllerEvent::Ended { cause, .. } => self.on_ended(cause, answers),
                _ => {}
            }
        }
    }

    /// What the namespace is, if the association is what was asked for.
    fn learn(&self) -> Result<Geometry, BenchError> {
        let target = self.target.shown.clone();
        let (granted, asked) = (self.controller.io_queues(), self.target.config.io_queues);
        if granted < usize::from(asked) {
            return Err(BenchError::Queues { target, granted, asked });
        }
        let entries = self.controller.config().io_queue_entries;
        if u32::from(entries) < self.target.depth + 1 {
            return Err(BenchError::Depth { target, entries: u32::from(entries) - 1 });
        }
        let namespaces = self.controller.namespaces();
        let info = self.controller.info().expect("a live controller was identified");
        let Some(namespace) = namespaces.get(&self.target.nsid) else {
            let (nsid, present) = (self.target.nsid, namespaces.keys().copied().collect());
            return Err(BenchError::NoNamespace { target, nsid, present });
        };
        Ok(Geometry {
            logical_block_bytes: namespace.bdev.logical_block_bytes,
            length_blocks: namespace.bdev.length_blocks,
            command_bytes_max: info.transfer_bytes_max.min(self.target.command_bytes_max),
        })
    }

    fn on_ended(&mut self, cause: EndCause, answers: &mut Vec<Answer<Pieces>>) {
        for index in 0..self.controller.io_queues() {
            while let Some(unfinished) = self.controller.take_unfinished(index) {
                let part = self.parts[index][QueuePair::slot_of(unfinished.cid)];
                let failure = Some(Failure::Lost);
                answers.extend(over(&mut self.cuts, part, memory(unfinished.data), failure));
            }
        }
        self.cuts.lose_waiting(answers);
        self.closed = true;
        if !self.closing && self.end.is_none() {
            self.end = Some(BenchError::Ended { target: self.target.shown.clone(), cause });
        }
    }
}

/// The memory of a command that is over; flushes have none.
fn memory(data: Option<Data>) -> Run {
    data.map_or_else(Run::default, Run::back)
}

/// A command is over: the answer to its request, if that is over as well.
#[inline]
fn over(cuts: &mut Cuts, part: Part, data: Run, failure: Option<Failure>) -> Option<Answer<Pieces>> {
    if part.piece == Part::WHOLE {
        return Some(Answer { tag: part.tag, data: Pieces::One(data), failure });
    }
    cuts.finish(part, data, failure)
}

#[inline]
fn answer(cuts: &mut Cuts, part: Part, completion: Completion<Data>) -> Option<Answer<Pieces>> {
    let status = completion.cqe.status();
    let failure = if status.is_success() { None } else { Some(Failure::Nvme(status)) };
    over(cuts, part, memory(completion.data), failure)
}

impl Driver for NvmeDriver {
    type Data = Pieces;

    fn poll(&mut self, now: Time, answers: &mut Vec<Answer<Pieces>>) {
        let mut ready = std::mem::take(&mut self.ready);
        self.group.take_ready(&mut ready, READY_PER_TURN);
        let (controller, mut turn) = self.split(now);
        for ready in ready.drain(..) {
            controller.on_ready(ready, &mut turn);
        }
        controller.poll(&mut turn);
        self.ready = ready;
        self.take_completions(now, answers);
        self.take_events(answers);
    }

    fn geometry(&self) -> Option<Geometry> {
        self.geometry
    }

    fn take_end(&mut self) -> Option<BenchError> {
        self.end.take()
    }

    fn buffer(&mut self, length_bytes: usize) -> Option<Pieces> {
        let command_bytes_max = self.geometry?.command_bytes_max;
        Some(Pieces::new(length_bytes, usize::try_from(command_bytes_max).unwrap_or(usize::MAX)))
    }

    #[inline]
    fn submit(&mut self, now: Time, request: Request, data: Pieces) -> Result<(), Pieces> {
        let index = request.tag as usize % self.parts.len();
        match data {
            // What has waited longer goes first.
            Pieces::One(_) if self.cuts.has_waiting(index) => Err(data),
            Pieces::One(data) => {
                self.send(now, index, Part::whole(request.tag), request, data).map_err(Pieces::One)
            }
            Pieces::Many(pieces) if !self.closed => {
                self.cuts.begin(index, request, pieces);
                self.pump(now, index);
                Ok(())
            }
            data @ Pieces::Many(_) => Err(data),
        }
    }

    fn flush(&mut self, now: Time) {
        let (controller, mut turn) = self.split(now);
        controller.flush(&mut turn);
    }

    fn close(&mut self, now: Time) {
        if !self.closing && !self.closed {
            self.closing = true;
            let (controller, mut turn) = self.split(now);
            controller.shutdown(&mut turn);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Maintenance for NvmeDriver {
    fn submit_flush(&mut self, now: Time, tag: u32) -> bool {
        self.submit_plain(now, tag, Sqe::flush(self.target.nsid))
    }

    /// A Write Zeroes that frees the blocks.
    fn submit_deallocate(&mut self, now: Time, tag: u32, lba: u64, length_blocks: u32) -> bool {
        let nsid = self.target.nsid;
        let sqe = Sqe::io(NvmOpcode::WRITE_ZEROES, nsid, lba, length_blocks, IoControl::DEALLOCATE);
        self.submit_plain(now, tag, sqe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_after_its_identifier() {
        let id = std::array::from_fn(|index| index as u8 * 0x11);
        assert_eq!(host_nqn(id), "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff");
    }
}

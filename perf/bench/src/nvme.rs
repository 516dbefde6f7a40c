//! The driver over NVMe/TCP: an association of `nvmf_host`, its queue pairs used directly.

use std::rc::Rc;
use std::time::Duration;

use nvme_spec::nvm::IoControl;
use nvme_spec::{NvmOpcode, Sqe};
use nvmf_host::controller::ControllerEvent;
use nvmf_host::{Controller, ControllerConfig, Data, Digest, EndCause, HostIdentity, QueuePair, Turn};
use nvmf_proto::{Completion, HostData};
use reactor::net::{Network, Ready, StreamGroup};
use reactor::time::Time;

use crate::driver::{Answer, Driver, Failure, Geometry, Kind, Request};
use crate::error::BenchError;
use crate::limits::DRAIN_TIMEOUT_S;
use crate::plan::Plan;

/// Streams that are looked at in one turn: all there are.
const READY_PER_TURN: usize = 64;
const _: () = assert!(READY_PER_TURN > nvmf_host::limits::IO_QUEUES_MAX as usize);

/// What one association is asked for.
#[derive(Clone, Debug)]
pub struct NvmeTarget {
    /// For messages.
    pub shown: String,
    /// The association; number and length of the queues follow from the plan.
    pub config: ControllerConfig,
    /// Namespace Identifier.
    pub nsid: u32,
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
        let mut config = ControllerConfig {
            io_queues: plan.queues,
            // One entry of a queue stays free.
            io_queue_entries: u16::try_from(plan.depth + 1).expect("the depth is bounded"),
            // Some targets take no more than 128 KiB in one command; what is asked for is what they must take.
            transfer_bytes: plan.request_bytes.into(),
            header_digest: digest(plan.header_digest),
            data_digest: digest(plan.data_digest),
            ..ControllerConfig::new(address, subsystem_nqn, HostIdentity { nqn, id: host_id })
        };
        config.timeouts.io = Duration::from_secs(DRAIN_TIMEOUT_S);
        Self { shown: plan.target.to_string(), config, nsid }
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
    /// The tag of each command in flight, by queue and slot of its CID.
    tags: Vec<Vec<u32>>,
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
        Self {
            tags: vec![vec![0; entries]; usize::from(target.config.io_queues)],
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

    /// The longest request that the controller takes; nothing is known before it is ready.
    pub fn transfer_bytes_max(&self) -> u64 {
        self.controller.info().map_or(u64::MAX, |info| info.transfer_bytes_max)
    }

    /// Takes a Flush; it is answered with an empty buffer. False when the target's window is full.
    pub fn submit_flush(&mut self, now: Time, tag: u32) -> bool {
        self.submit_plain(now, tag, Sqe::flush(self.target.nsid))
    }

    /// Takes a Write Zeroes that frees the blocks; answered like a Flush.
    pub fn submit_deallocate(&mut self, now: Time, tag: u32, lba: u64, length_blocks: u32) -> bool {
        let nsid = self.target.nsid;
        let sqe = Sqe::io(NvmOpcode::WRITE_ZEROES, nsid, lba, length_blocks, IoControl::DEALLOCATE);
        self.submit_plain(now, tag, sqe)
    }

    fn submit_plain(&mut self, now: Time, tag: u32, sqe: Sqe) -> bool {
        let index = tag as usize % self.tags.len();
        let submitted = self.controller.submit_io(index, now, sqe, HostData::None);
        if let Ok(cid) = submitted {
            self.tags[index][QueuePair::slot_of(cid)] = tag;
        }
        submitted.is_ok()
    }

    fn take_completions(&mut self, now: Time, answers: &mut Vec<Answer>) {
        for index in 0..self.controller.io_queues() {
            let mut turn =
                Turn { now, network: &*self.network, group: &mut *self.group, scratch: &mut self.scratch };
            while let Some(completion) = self.controller.next_io_completion(index, &mut turn) {
                answers.push(answer(self.tags[index][QueuePair::slot_of(completion.cid)], completion));
            }
        }
    }

    fn take_events(&mut self, answers: &mut Vec<Answer>) {
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
        if entries < self.target.config.io_queue_entries {
            return Err(BenchError::Depth { target, entries: u32::from(entries) - 1 });
        }
        let namespaces = self.controller.namespaces();
        let Some(namespace) = namespaces.get(&self.target.nsid) else {
            let (nsid, present) = (self.target.nsid, namespaces.keys().copied().collect());
            return Err(BenchError::NoNamespace { target, nsid, present });
        };
        Ok(Geometry {
            logical_block_bytes: namespace.bdev.logical_block_bytes,
            length_blocks: namespace.bdev.length_blocks,
        })
    }

    fn on_ended(&mut self, cause: EndCause, answers: &mut Vec<Answer>) {
        for index in 0..self.controller.io_queues() {
            while let Some(unfinished) = self.controller.take_unfinished(index) {
                let tag = self.tags[index][QueuePair::slot_of(unfinished.cid)];
                answers.push(Answer { tag, data: bytes(unfinished.data), failure: Some(Failure::Lost) });
            }
        }
        self.closed = true;
        if !self.closing && self.end.is_none() {
            self.end = Some(BenchError::Ended { target: self.target.shown.clone(), cause });
        }
    }
}

fn bytes(data: Option<Data>) -> Vec<u8> {
    match data {
        Some(Data::Heap(bytes)) => bytes,
        None => Vec::new(),
        Some(Data::Pool(_) | Data::Part { .. }) => {
            unreachable!("every request brings its buffer on the heap")
        }
    }
}

#[inline]
fn answer(tag: u32, completion: Completion<Data>) -> Answer {
    let status = completion.cqe.status();
    let failure = if status.is_success() { None } else { Some(Failure::Nvme(status)) };
    Answer { tag, data: bytes(completion.data), failure }
}

impl Driver for NvmeDriver {
    fn poll(&mut self, now: Time, answers: &mut Vec<Answer>) {
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

    #[inline]
    fn submit(&mut self, now: Time, request: Request, data: Vec<u8>) -> Result<(), Vec<u8>> {
        let index = request.tag as usize % self.tags.len();
        let (opcode, data) = match request.kind {
            Kind::Read => (NvmOpcode::READ, HostData::Read(Data::Heap(data))),
            Kind::Write => (NvmOpcode::WRITE, HostData::Write(Data::Heap(data))),
        };
        let sqe = Sqe::io(opcode, self.target.nsid, request.lba, request.length_blocks, IoControl::NONE);
        match self.controller.submit_io(index, now, sqe, data) {
            Ok(cid) => {
                self.tags[index][QueuePair::slot_of(cid)] = request.tag;
                Ok(())
            }
            Err(HostData::Read(Data::Heap(data)) | HostData::Write(Data::Heap(data))) => Err(data),
            Err(_) => unreachable!("what was given comes back"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_after_its_identifier() {
        let id = std::array::from_fn(|index| index as u8 * 0x11);
        assert_eq!(host_nqn(id), "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff");
    }
}

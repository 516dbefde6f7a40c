//! The driver over NVMe controllers of this machine: the user-space driver `nvme`, without a network and without the kernel.
//!
//! A PCI Express controller is taken from the kernel under the rules of `vega disk bind` ([`take`]) and kept by a thread
//! ([`keeper`]) that drives its admin queue; each core has queue pairs of its own. An emulated one lives on its core, which
//! steps it in every turn. Before anything is written, both ends of the namespace are looked at ([`look`]).
//!
//! Reading order: this file, [`take`], [`keeper`], [`look`], [`driver`].

pub mod driver;
pub mod keeper;
mod look;
pub mod take;

use std::sync::Arc;

use nvme::device::Device;
use nvme::{ClaimError, Controller, Namespace, QueueTicket};
use nvme_emulated::{ControllerConfig, EmulatedController, Format, NamespaceConfig};

use crate::error::{BenchError, LocalCause};
use crate::plan::Plan;

pub use driver::LocalDriver;
pub use keeper::{Keeper, Seat};
pub use take::{Borrowed, take};

/// The namespace of an emulated controller.
pub const EMULATED_NSID: u32 = 1;

/// What is asked of a controller for one core.
#[derive(Clone, Debug)]
pub struct LocalTarget {
    /// For messages.
    pub shown: String,
    /// Namespace Identifier.
    pub nsid: u32,
    /// Queue pairs of this core.
    pub queues: u16,
    /// Requests in flight on each.
    pub depth: u32,
    /// Bytes of the longest request.
    pub request_bytes: u32,
    /// Buffers of that length.
    pub buffers: u64,
    /// Something will be written.
    pub writes: bool,
    /// Data of a kind that is not known may be destroyed.
    pub overwrite_data: bool,
    /// The serial number that was typed: whatever lies there may be destroyed.
    pub confirm_serial: Option<String>,
    /// Whether this core is the one that looks at what would be destroyed.
    pub looks: bool,
}

impl Claimed {
    /// Bytes of the namespace.
    pub fn size_bytes(&self) -> u64 {
        self.namespace.length_blocks() * u64::from(self.namespace.info().block_bytes)
    }
}

impl LocalTarget {
    /// What a plan asks for, on one of its cores.
    pub fn new(plan: &Plan, nsid: u32, looks: bool) -> Self {
        Self {
            shown: plan.target.to_string(),
            nsid,
            queues: plan.queues,
            depth: plan.depth,
            request_bytes: plan.request_bytes,
            buffers: plan.buffer_bytes() / u64::from(plan.request_bytes),
            writes: plan.writes(),
            overwrite_data: plan.overwrite_data,
            confirm_serial: plan.confirm_serial.clone(),
            looks,
        }
    }

    fn refused(&self, cause: impl Into<LocalCause>) -> BenchError {
        BenchError::Local { target: self.shown.clone(), cause: cause.into() }
    }
}

/// How the driver is set up for so many queue pairs of so many requests.
pub fn config(queues: u16, depth: u32) -> nvme::Config {
    // One entry of a queue stays free.
    let entries = u16::try_from(depth + 1).expect("the depth is bounded").max(2);
    nvme::Config { io_queues: queues, io_queue_entries: entries, ..nvme::Config::default() }
}

/// A controller in this process.
pub fn emulated(size_bytes: u64, block_bytes: u32) -> Result<EmulatedController, BenchError> {
    let format = if block_bytes == 4096 { Format::Block4096 } else { Format::Block512 };
    let length_blocks = size_bytes / u64::from(block_bytes);
    let config = ControllerConfig {
        namespaces: vec![NamespaceConfig::new(EMULATED_NSID, length_blocks, format)],
        // What holds writes back costs time of ours, and no power will fail.
        cache_bytes: 0,
        ..ControllerConfig::default()
    };
    Ok(EmulatedController::new(config).expect("sizes are bounded with the target"))
}

/// Queue pairs of a controller that is ready, and what they lead to.
#[derive(Debug)]
pub struct Claimed {
    /// Where the controller is kept for several.
    seat: Option<Seat>,
    tickets: Vec<QueueTicket>,
    namespace: Arc<Namespace>,
    serial: String,
    model: String,
    firmware: String,
}

/// Asks a controller for what one core needs. `Ok(None)` while it may come; `is_late` says that it had its time.
fn claim<D: Device>(
    controller: &Controller<D>,
    target: &LocalTarget,
    is_late: bool,
) -> Result<Option<Claimed>, BenchError> {
    if let Some(end) = controller.ended() {
        return Err(target.refused(LocalCause::Ended(end)));
    }
    let (true, Some(info)) = (controller.is_ready(), controller.info()) else { return Ok(None) };
    let nsid = target.nsid;
    let Some(namespace) = controller.namespace(nsid) else {
        if let Some((_, refusal)) = controller.refused().find(|(refused, _)| *refused == nsid) {
            return Err(target.refused(LocalCause::Namespace { nsid, refusal }));
        }
        let present = controller.namespaces().map(|namespace| namespace.info().nsid).collect();
        let missing = BenchError::NoNamespace { target: target.shown.clone(), nsid, present };
        return if is_late { Err(missing) } else { Ok(None) };
    };
    if target.writes && namespace.info().write_protected {
        return Err(target.refused(LocalCause::WriteProtected { nsid }));
    }
    let mut tickets = Vec::new();
    for _ in 0..target.queues {
        match controller.claim_queue() {
            Ok(ticket) => tickets.push(ticket),
            Err(ClaimError::NotReady) => return Ok(None),
            Err(ClaimError::NoneLeft { .. }) => {
                let (granted, asked) = (tickets.len(), target.queues);
                return Err(BenchError::Queues { target: target.shown.clone(), granted, asked });
            }
        }
    }
    let identity = &info.identity;
    Ok(Some(Claimed {
        seat: None,
        tickets,
        namespace: Arc::clone(namespace),
        serial: identity.serial.trim().to_owned(),
        model: identity.model.trim().to_owned(),
        firmware: info.firmware.trim().to_owned(),
    }))
}

#[cfg(test)]
mod tests;

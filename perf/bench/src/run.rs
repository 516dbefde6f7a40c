//! A run from its plan to its report.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};

use reactor::core::{Core, CoreConfig, CoreId, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::poller::Poller;

use crate::driver::Driver;
use crate::error::BenchError;
use crate::generator::{Finished, Generator};
use crate::iscsi::{IscsiDriver, IscsiTarget};
use crate::limits::CORE_BUFFER_BYTES;
use crate::nvme::{NvmeDriver, NvmeTarget};
use crate::plan::Plan;
use crate::report::Report;
use crate::target::Target;

/// The making of slots and the look at a large histogram are long turns of a core that serves nobody.
const STALL_US: u64 = 10_000_000;

/// Runs a plan on a core of its own, and waits for it.
pub fn run(plan: &Plan) -> Result<Report, BenchError> {
    plan.check()?;
    let address = plan.target.resolve()?;
    let config = CoreConfig {
        core: plan.processor.map(CoreId),
        idle: IdlePolicy::Poll,
        buffer_bytes: CORE_BUFFER_BYTES,
        stall_us: STALL_US,
        ..CoreConfig::new("vega-bench")
    };
    let (result, finished) = mpsc::channel();
    let its_plan = plan.clone();
    let thread = spawn_core(config, move |core: &Core| vec![poller(core, its_plan, address, result)])?;
    let finished = finished.recv();
    thread.stop();
    thread.join();
    let outcome = finished.map_err(|_| BenchError::Lost)??;
    Ok(Report::new(plan, &outcome))
}

/// Makes the generator, on its core.
fn poller(core: &Core, plan: Plan, address: SocketAddr, result: Sender<Finished>) -> Box<dyn Poller> {
    let mut host_id = [0; 16];
    core.random.borrow_mut().fill(&mut host_id);
    // An identifier of zeros would be no identifier.
    host_id[0] |= 1;
    match &plan.target {
        Target::NvmeTcp { subsystem_nqn, nsid, .. } => {
            let target = NvmeTarget::new(&plan, address, subsystem_nqn, *nsid, host_id);
            generator(core, NvmeDriver::new(core.network.clone(), core.clock.now(), target), plan, result)
        }
        Target::Iscsi { name, lun, .. } => {
            let target = IscsiTarget::new(&plan, address, name, *lun, host_id);
            generator(core, IscsiDriver::new(core, target), plan, result)
        }
    }
}

fn generator<D: Driver + 'static>(
    core: &Core,
    driver: D,
    plan: Plan,
    result: Sender<Finished>,
) -> Box<dyn Poller> {
    let run = core.random.borrow_mut().next_u64() | 1;
    Box::new(Generator::new(plan, driver, core.clock.clone(), run, result))
}

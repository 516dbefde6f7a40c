//! A run from its plan to its report.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};

use nvme_pci::Host;
use reactor::core::{Core, CoreConfig, CoreId, CoreThread, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::poller::Poller;
use vfio::VfioDevice;

use crate::driver::Driver;
use crate::error::BenchError;
use crate::generator::{Finished, Generator};
use crate::iscsi::{IscsiDriver, IscsiTarget};
use crate::limits::CORE_BUFFER_BYTES;
use crate::local::keeper::Door;
use crate::local::{self, Borrowed, Keeper, LocalDriver, LocalTarget};
use crate::nvme::{NvmeDriver, NvmeTarget};
use crate::plan::Plan;
use crate::report::Report;
use crate::tally::Outcome;
use crate::target::Target;
use crate::team::{EndAsked, Member, Stop};

/// The making of slots and the look at a large histogram are long turns of a core that serves nobody.
const STALL_US: u64 = 10_000_000;

/// A controller of this machine, for the time of a run.
struct Loan {
    keeper: Keeper<VfioDevice>,
    borrowed: Borrowed,
}

/// How a core reaches its target.
#[derive(Clone)]
enum Way {
    Network(SocketAddr),
    Kept(VfioDevice, Door),
    InProcess,
}

/// Runs a plan on cores of its own, and waits for them. A controller that was taken from the kernel goes back to it, however
/// the run ends.
pub fn run(plan: &Plan, stop: &Stop) -> Result<Report, BenchError> {
    plan.check()?;
    // Typing the serial number says that what is there may be destroyed.
    let plan = Plan { overwrite_data: plan.overwrite_data || plan.confirm_serial.is_some(), ..plan.clone() };
    let address = plan.target.resolve()?;
    let loan = borrow(&plan)?;
    let way = match (&loan, address) {
        (Some(loan), _) => Way::Kept(loan.keeper.device(), loan.keeper.door()),
        (None, Some(address)) => Way::Network(address),
        (None, None) => Way::InProcess,
    };
    let (threads, finished) = start(&plan, &way, stop);
    drop(way);
    // Everybody says something, or is gone.
    let finished: Vec<Finished> = finished.iter().collect();
    let (mut errors, mut outcomes) = (Vec::new(), Vec::new());
    for one in finished {
        match one {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => errors.push(error),
        }
    }
    threads.iter().for_each(CoreThread::stop);
    threads.into_iter().for_each(CoreThread::join);
    let (notes, given_back) = loan.map_or((Vec::new(), Ok(())), Loan::end);
    if let Some(error) = first_cause(errors) {
        return Err(error);
    }
    let total = sum(&outcomes).filter(|_| outcomes.len() == plan.generators() as usize);
    let mut report = Report::new(&plan, &total.ok_or(BenchError::Lost)?);
    report.notes = notes;
    if let Err(left) = given_back {
        report.left_undone = true;
        report.notes.push(left);
    }
    Ok(report)
}

/// Takes the controller of a plan, if it names one.
fn borrow(plan: &Plan) -> Result<Option<Loan>, BenchError> {
    let Target::Pcie { address, .. } = plan.target else { return Ok(None) };
    let borrowed = local::take(Host::this(), address, plan.confirm_serial.as_deref(), plan.no_iommu)?;
    let queues = u16::try_from(u32::from(plan.queues) * plan.generators()).unwrap_or(u16::MAX);
    let config = local::config(queues.min(nvme::limits::IO_QUEUES_MAX), plan.depth);
    let keeper = Keeper::start(borrowed.device(), config);
    let keeper = keeper.map_err(|error| BenchError::Core(reactor::core::CoreError::Thread(error)))?;
    Ok(Some(Loan { keeper, borrowed }))
}

impl Loan {
    /// Ends the controller and gives it back: what is to be told, and what could not be done.
    fn end(self) -> (Vec<String>, Result<(), String>) {
        let Self { keeper, borrowed } = self;
        drop(keeper);
        let notes = borrowed.notes().to_vec();
        (notes, borrowed.give_back())
    }
}

/// What stopped the others is told; what they say of that is not.
fn first_cause(mut errors: Vec<BenchError>) -> Option<BenchError> {
    let cause = errors.iter().position(|error| !matches!(error, BenchError::Elsewhere)).unwrap_or(0);
    (cause < errors.len()).then(|| errors.swap_remove(cause))
}

fn sum(outcomes: &[Outcome]) -> Option<Outcome> {
    let (first, others) = outcomes.split_first()?;
    let mut total = first.clone();
    others.iter().for_each(|other| total.add(other));
    Some(total)
}

/// Starts every core; the receiver ends when all have said what came of them.
fn start(plan: &Plan, way: &Way, stop: &Stop) -> (Vec<CoreThread>, mpsc::Receiver<Finished>) {
    let (result, finished) = mpsc::channel();
    let mut threads = Vec::new();
    for member in Member::all(plan.generators(), stop) {
        let index = member.index();
        let config = CoreConfig {
            core: plan.processors.get(index as usize).copied().map(CoreId),
            idle: plan.spin_us.map_or(IdlePolicy::Poll, |spin_us| IdlePolicy::Adaptive { spin_us }),
            buffer_bytes: CORE_BUFFER_BYTES,
            stall_us: STALL_US,
            ..CoreConfig::new(format!("vega-bench-{index}"))
        };
        let (plan, way, its_result) = (plan.clone(), way.clone(), result.clone());
        let thread = spawn_core(config, move |core: &Core| pollers(core, plan, way, member, its_result));
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop.raise(EndAsked::Failed);
                // The receiver is here.
                let _ = result.send(Err(error.into()));
                break;
            }
        }
    }
    (threads, finished)
}

/// Makes the generator, on its core.
fn pollers(
    core: &Core,
    plan: Plan,
    way: Way,
    member: Member,
    result: Sender<Finished>,
) -> Vec<Box<dyn Poller>> {
    let stop = member.stop().clone();
    match poller(core, plan, way, member, &result) {
        Ok(poller) => vec![poller],
        Err(error) => {
            stop.raise(EndAsked::Failed);
            // Whoever made this core waits for the answer.
            let _ = result.send(Err(error));
            Vec::new()
        }
    }
}

fn poller(
    core: &Core,
    plan: Plan,
    way: Way,
    member: Member,
    result: &Sender<Finished>,
) -> Result<Box<dyn Poller>, BenchError> {
    let mut host_id = [0; 16];
    core.random.borrow_mut().fill(&mut host_id);
    // An identifier of zeros would be no identifier.
    host_id[0] |= 1;
    let looks = member.index() == 0;
    let now = core.clock.now();
    match (&plan.target, way) {
        (Target::NvmeTcp { subsystem_nqn, nsid, .. }, Way::Network(address)) => {
            let target = NvmeTarget::new(&plan, address, subsystem_nqn, *nsid, host_id);
            let driver = NvmeDriver::new(core.network.clone(), now, target);
            Ok(generator(core, driver, plan, member, result))
        }
        (Target::Iscsi { name, lun, .. }, Way::Network(address)) => {
            let target = IscsiTarget::new(&plan, address, name, *lun, host_id);
            Ok(generator(core, IscsiDriver::new(core, target), plan, member, result))
        }
        (Target::Pcie { nsid, .. }, Way::Kept(device, door)) => {
            let driver = LocalDriver::kept(LocalTarget::new(&plan, *nsid, looks), device, door)?;
            Ok(generator(core, driver, plan, member, result))
        }
        (Target::Emulated { size_bytes, block_bytes }, Way::InProcess) => {
            let emulated = local::emulated(*size_bytes, *block_bytes)?;
            let target = LocalTarget::new(&plan, local::EMULATED_NSID, looks);
            let driver = LocalDriver::emulated(now, target, emulated)?;
            Ok(generator(core, driver, plan, member, result))
        }
        _ => unreachable!("the way was chosen by the target"),
    }
}

fn generator<D: Driver + 'static>(
    core: &Core,
    driver: D,
    plan: Plan,
    member: Member,
    result: &Sender<Finished>,
) -> Box<dyn Poller> {
    let run = core.random.borrow_mut().next_u64() | 1;
    Box::new(Generator::new(plan, member, driver, core.clock.clone(), run, result.clone()))
}

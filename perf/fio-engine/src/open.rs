//! From a file name to an engine that takes requests.

use std::rc::Rc;
use std::time::Duration;

use bench::driver::{Driver, Geometry};
use bench::error::LocalCause;
use bench::local::{self, LocalDriver, LocalTarget};
use bench::nvme::{NvmeDriver, NvmeTarget};
use bench::{BenchError, Plan, Target};
use nvme::End;
use nvme_pci::PciAddress;
use reactor::clock::MonotonicClock;
use reactor::time::{Clock, Time};

use crate::engine::{Engine, Work};
use crate::network::SpinNetwork;
use crate::shared::{self, Share, Terms};

/// Time to connect, or for a controller to come up.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest request of a job on a controller of this machine.
const REQUEST_BYTES_MAX: u64 = 64 << 20;
const BLOCK_BYTES_MIN: u64 = 512;
const PAGE_BYTES: u64 = 4096;
/// Times that a job finds a controller on its way down.
const JOIN_TRIES: u32 = 3;

/// What a job is.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Requests in flight.
    pub depth: u32,
    /// Bytes of the longest one.
    pub request_bytes: u64,
    /// It writes or trims.
    pub writes: bool,
    /// It is a thread of fio's, and no process of its own.
    pub is_thread: bool,
}

/// Why a job cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No random bytes for a host identifier.
    #[error("the system has no random bytes")]
    Random,
    /// A controller is driven by one process only.
    #[error("jobs on a PCI Express controller share it and must be threads of one process: add --thread")]
    Processes,
    /// The file name means another kind of target.
    #[error("the engine reaches NVMe namespaces only")]
    Transport,
    /// The requests are too long.
    #[error("a block size of {bytes} bytes is more than 64 MiB")]
    RequestBytes {
        /// The longest.
        bytes: u64,
    },
    /// The file name, the association or the controller.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Nothing was heard in time.
    #[error("the controller was not ready within 30 s")]
    Timeout,
}

/// What a file name means for a job.
fn plan_of(filename: &str, job: Job) -> Result<Plan, OpenError> {
    if job.request_bytes > REQUEST_BYTES_MAX {
        return Err(OpenError::RequestBytes { bytes: job.request_bytes });
    }
    let name = Plan::for_text(filename)?;
    let whole = job.request_bytes.next_multiple_of(BLOCK_BYTES_MIN).max(BLOCK_BYTES_MIN);
    let longest = u64::from(bench::limits::REQUEST_BYTES_MAX);
    let plan = Plan {
        depth: job.depth,
        request_bytes: u32::try_from(whole.min(longest)).expect("no more than the longest"),
        read_percent: if job.writes { 50 } else { 100 },
        // What fio wrote bears no mark: only what is recognised is kept from it.
        overwrite_data: true,
        ..name
    };
    plan.check()?;
    Ok(plan)
}

/// Connects, or takes a controller, and waits until requests are taken.
pub fn open<T: 'static>(filename: &str, job: Job) -> Result<Box<dyn Work<T>>, OpenError> {
    let plan = plan_of(filename, job)?;
    let start = MonotonicClock.now();
    match &plan.target {
        Target::NvmeTcp { subsystem_nqn, nsid, .. } => {
            let address = plan.target.resolve()?.ok_or(OpenError::Transport)?;
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|_| OpenError::Random)?;
            id[0] |= 1;
            let target = NvmeTarget::new(&plan, address, subsystem_nqn, *nsid, id);
            finish(NvmeDriver::new(Rc::new(SpinNetwork), start, target), start, job)
        }
        Target::Emulated { size_bytes, block_bytes } => {
            let emulated = local::emulated(*size_bytes, *block_bytes)?;
            let target = local_target(&plan, local::EMULATED_NSID, false, job);
            finish(LocalDriver::emulated(start, target, emulated)?, start, job)
        }
        Target::Pcie { address, nsid } => open_pcie(&plan, *address, *nsid, job),
        Target::Iscsi { .. } => Err(OpenError::Transport),
    }
}

/// Takes the controller, or joins the jobs that have it.
fn open_pcie<T: 'static>(
    plan: &Plan,
    address: PciAddress,
    nsid: u32,
    job: Job,
) -> Result<Box<dyn Work<T>>, OpenError> {
    let mut tries = 0;
    loop {
        let Share { device, door, looks } = share(plan, address, nsid, job)?;
        let target = local_target(plan, nsid, looks, job);
        let opened = finish(LocalDriver::kept(target, device, door)?, MonotonicClock.now(), job);
        tries += 1;
        match opened {
            // The last of the jobs before has just left, and it went down with them: once more, on a new one.
            Err(OpenError::Bench(BenchError::Local {
                cause: LocalCause::Ended(End::ShutDown { .. }),
                ..
            })) if tries < JOIN_TRIES => {}
            Ok(opened) => {
                if job.writes {
                    shared::note_looked(address, nsid);
                }
                return Ok(opened);
            }
            Err(error) => return Err(error),
        }
    }
}

fn share(plan: &Plan, address: PciAddress, nsid: u32, job: Job) -> Result<Share, OpenError> {
    if !job.is_thread {
        return Err(OpenError::Processes);
    }
    let terms = Terms { confirm_serial: plan.confirm_serial.as_deref(), no_iommu: plan.no_iommu };
    Ok(shared::share(address, nsid, terms)?)
}

/// Bytes of the namespace of a job that is to begin later.
pub fn size_bytes(filename: &str, job: Job) -> Result<u64, OpenError> {
    let plan = plan_of(filename, job)?;
    if let Target::Pcie { address, nsid } = plan.target {
        let share = share(&plan, address, nsid, job)?;
        let target = local_target(&plan, nsid, false, job);
        return Ok(shared::size_bytes(&share, &target, START_TIMEOUT)?);
    }
    // It asks with one request in flight, whatever it will do later.
    let mut work = open::<()>(filename, Job { depth: 1, request_bytes: PAGE_BYTES, ..job })?;
    let bytes = work.size_bytes();
    work.close();
    Ok(bytes)
}

fn local_target(plan: &Plan, nsid: u32, looks: bool, job: Job) -> LocalTarget {
    let request_bytes = job.request_bytes.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
    LocalTarget {
        request_bytes: u32::try_from(request_bytes).expect("no more than the longest"),
        buffers: job.depth.into(),
        ..LocalTarget::new(plan, nsid, looks)
    }
}

fn finish<T: 'static, D: bench::driver::Maintenance + 'static>(
    mut driver: D,
    start: Time,
    job: Job,
) -> Result<Box<dyn Work<T>>, OpenError> {
    match wait_ready(&mut driver, start) {
        Ok(geometry) => Ok(Box::new(Engine::new(driver, geometry, job.depth))),
        Err(error) => {
            crate::engine::leave(&mut driver);
            Err(error)
        }
    }
}

fn wait_ready<D: Driver>(driver: &mut D, start: Time) -> Result<Geometry, OpenError> {
    let mut none = Vec::new();
    loop {
        let now = MonotonicClock.now();
        driver.poll(now, &mut none);
        driver.flush(now);
        if let Some(error) = driver.take_end() {
            return Err(error.into());
        }
        if let Some(geometry) = driver.geometry() {
            return Ok(geometry);
        }
        if now.since(start) > START_TIMEOUT {
            return Err(OpenError::Timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Job = Job { depth: 1, request_bytes: 4096, writes: false, is_thread: true };

    fn refused(filename: &str, job: Job) -> String {
        open::<u64>(filename, job).err().expect(filename).to_string()
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        assert!(refused("/dev/nvme0n1", JOB).contains("no target"));
        assert!(refused("iscsi://127.0.0.1/iqn.a/0", JOB).contains("NVMe namespaces only"));
        let process = Job { is_thread: false, ..JOB };
        assert!(refused("trtype=PCIe traddr=0000.01.00.0", process).contains("--thread"));
        let huge = Job { request_bytes: 65 << 20, ..JOB };
        assert!(refused("trtype=emulated size=1GiB", huge).contains("64 MiB"));
        let deep = Job { depth: 1024, ..JOB };
        assert!(refused("trtype=emulated size=1GiB", deep).contains("--depth"));
    }
}

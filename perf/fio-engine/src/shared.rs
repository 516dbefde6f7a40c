//! Controllers of this machine that were taken for the jobs of this process: each once, however many jobs it has, from the
//! first question until fio ends. It is brought up for the first of jobs that run at the same time, and shut down with the last.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bench::BenchError;
use bench::error::LocalCause;
use bench::limits::DEPTH_MAX;
use bench::local::keeper::Door;
use bench::local::{self, Borrowed, Keeper, LocalTarget};
use nvme_pci::{Host, PciAddress};
use vfio::VfioDevice;

struct Controller {
    address: PciAddress,
    /// Namespaces that were looked at before something was written to them.
    looked: Vec<u32>,
    // Ended before the function is given back.
    keeper: Option<Keeper<VfioDevice>>,
    borrowed: Borrowed,
}

impl Controller {
    /// The keeper, a new one when there is none or the one before has ended with its jobs.
    fn keeper(&mut self) -> Result<&Keeper<VfioDevice>, BenchError> {
        let kept = self.keeper.take().filter(|keeper| keeper.door().fate().is_none());
        let keeper = match kept {
            Some(keeper) => keeper,
            None => {
                // Jobs come one by one, and each has a queue pair of its own.
                let config = local::config(nvme::limits::IO_QUEUES_MAX, DEPTH_MAX);
                let keeper = Keeper::start(self.borrowed.device(), config);
                keeper.map_err(|error| BenchError::Core(reactor::core::CoreError::Thread(error)))?
            }
        };
        Ok(self.keeper.insert(keeper))
    }
}

/// No job does I/O under this lock.
static CONTROLLERS: Mutex<Vec<Controller>> = Mutex::new(Vec::new());

/// How a controller may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The serial number that was typed.
    pub confirm_serial: Option<&'a str>,
    /// Without an IOMMU.
    pub no_iommu: bool,
}

/// A controller, as a job reaches it.
pub struct Share {
    /// For its queue pairs.
    pub device: VfioDevice,
    /// Who hands them out.
    pub door: Door,
    /// Nobody has looked at this namespace yet.
    pub looks: bool,
}

/// The controller at `address`, taken from the kernel when this is the first job on it.
pub fn share(address: PciAddress, nsid: u32, terms: Terms<'_>) -> Result<Share, BenchError> {
    let mut controllers = CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = controllers.iter().position(|one| one.address == address);
    let index = match known {
        Some(index) => index,
        None => {
            controllers.push(take(address, terms)?);
            controllers.len() - 1
        }
    };
    let one = &mut controllers[index];
    let looks = !one.looked.contains(&nsid);
    let keeper = one.keeper()?;
    Ok(Share { device: keeper.device(), door: keeper.door(), looks })
}

fn take(address: PciAddress, terms: Terms<'_>) -> Result<Controller, BenchError> {
    let borrowed = local::take(Host::this(), address, terms.confirm_serial, terms.no_iommu)?;
    Ok(Controller { address, looked: Vec::new(), keeper: None, borrowed })
}

/// Bytes of a namespace: asked for without queue pairs, before jobs begin.
pub fn size_bytes(share: &Share, target: &LocalTarget, patience: Duration) -> Result<u64, BenchError> {
    let asked = share.door.claim(&LocalTarget { queues: 0, ..target.clone() });
    let unkept = |_| BenchError::Local { target: target.shown.clone(), cause: LocalCause::Unkept };
    Ok(asked.recv_timeout(patience).map_err(unkept)??.size_bytes())
}

/// What lies on a namespace was looked at; what jobs write there from now on is theirs.
pub fn note_looked(address: PciAddress, nsid: u32) {
    let mut controllers = CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(one) = controllers.iter_mut().find(|one| one.address == address)
        && !one.looked.contains(&nsid)
    {
        one.looked.push(nsid);
    }
}

/// Ends every controller and gives it back; what could not be done.
pub fn give_back_all() -> Vec<String> {
    let controllers = std::mem::take(&mut *CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner));
    let give_back = |Controller { keeper, borrowed, .. }| {
        drop(keeper);
        borrowed.give_back().err()
    };
    controllers.into_iter().filter_map(give_back).collect()
}

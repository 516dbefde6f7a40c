//! One controller, driven by one thread: the driver, one queue pair, and huge pages for its buffers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use harness::failure::{Failure, Outcome, ensure, fail};
use harness::report::say;
use nvme::{Config, Controller, ControllerEvent, End, Namespace, QueuePair};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::clock::MonotonicClock;
use reactor::memory::{MemoryKind, MemoryRegion};
use reactor::poller::Poller;
use reactor::time::{Clock, Time};
use vfio::{PciAddress, VfioDevice, Way};
use volume::bdev::{Done, Io, IoChannel, IoStatus, Op};
use volume::conformance::PAYLOAD_CLASSES;
use volume::nvme::{NvmeChannel, NvmeCore, NvmePoller};

/// For what takes moments; the guest may be on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Completions taken at once.
const BUDGET: usize = 64;

/// The way that is to be taken: `VFIO_WAY` is `group`, `iommufd` or `noiommu`; the best there is when nobody says.
fn way() -> Outcome<Option<Way>> {
    match std::env::var("VFIO_WAY").ok().as_deref() {
        None => Ok(None),
        Some("group") => Ok(Some(Way::Group)),
        Some("iommufd") => Ok(Some(Way::Iommufd)),
        Some("noiommu") => Ok(Some(Way::NoIommu)),
        Some(other) => fail(format!("VFIO_WAY={other:?} is no way to a function")),
    }
}

/// The function at `address`, as it is.
pub fn open(address: &str) -> Outcome<VfioDevice> {
    let address: PciAddress =
        address.parse().map_err(|error| Failure::new(format!("{address:?}: {error}")))?;
    let device = VfioDevice::open(address, way()?).map_err(|error| Failure::new(error.to_string()))?;
    say(&device.report().to_string());
    Ok(device)
}

/// A controller that takes I/O.
pub struct Rig {
    poller: NvmePoller<VfioDevice>,
    core: NvmeCore<VfioDevice>,
    controller: Controller<VfioDevice>,
    device: VfioDevice,
    pool: BufferPool,
    clock: Rc<MonotonicClock>,
}

impl Rig {
    /// Brings the controller at `address` up.
    pub fn start(address: &str, config: Config) -> Outcome<Self> {
        let device = open(address)?;
        let bytes = SizeClass::total_bytes(&PAYLOAD_CLASSES);
        // In one piece, which only a page of 1 GiB promises.
        let bytes = if way()? == Some(Way::NoIommu) { bytes.max(1 << 30) } else { bytes };
        let region = MemoryRegion::new(bytes).map_err(|error| Failure::new(error.to_string()))?;
        let report = region.report();
        ensure(matches!(report.kind, MemoryKind::Huge2M | MemoryKind::Huge1G), || {
            format!("no huge pages: {report}")
        })?;
        let pool = BufferPool::new(region, &PAYLOAD_CLASSES);
        let clock = Rc::new(MonotonicClock);
        let mut controller = Controller::new(device.clone(), config, None)?;
        let deadline = clock.now().after(PATIENCE);
        controller.start(clock.now());
        while !controller.is_ready() {
            let now = clock.now();
            controller.poll(now);
            ensure(controller.ended().is_none(), || format!("it ended: {:?}", controller.ended()))?;
            ensure(now < deadline, || format!("it is not ready: {controller:?}"))?;
        }
        let ticket = controller.claim_queue().map_err(|error| Failure::new(error.to_string()))?;
        let queue = QueuePair::new(device.clone(), ticket, &pool)?;
        let core = NvmeCore::new(queue, Rc::<MonotonicClock>::clone(&clock), &pool);
        let poller = NvmePoller::new(core.clone());
        let mut rig = Self { poller, core, controller, device, pool, clock };
        while !rig.core.is_live() {
            rig.turn();
            ensure(rig.now() < deadline, || {
                let errors = rig.controller.stats().admin_errors.get();
                format!("no queue pair: {:?}, {:?}, {errors} admin errors", rig.core, rig.controller)
            })?;
        }
        Ok(rig)
    }

    /// The driver.
    pub fn controller(&mut self) -> &mut Controller<VfioDevice> {
        &mut self.controller
    }

    /// The queue pair.
    pub fn core(&self) -> &NvmeCore<VfioDevice> {
        &self.core
    }

    /// The buffers that the controller reaches.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A namespace that is served.
    pub fn namespace(&self, nsid: u32) -> Outcome<Arc<Namespace>> {
        let namespace = self.controller.namespace(nsid).cloned();
        namespace.ok_or_else(|| Failure::new(format!("namespace {nsid} is not served")))
    }

    /// A way to the blocks of a namespace.
    pub fn channel(&self, nsid: u32) -> Outcome<NvmeChannel<VfioDevice>> {
        Ok(NvmeChannel::new(&self.core, self.namespace(nsid)?))
    }

    /// A turn of the core.
    pub fn turn(&mut self) {
        let now = self.clock.now();
        self.controller.poll(now);
        self.poller.poll(now, BUDGET as u32);
        while let Some(event) = self.controller.next_event() {
            match event {
                ControllerEvent::Reset(cause) => say(&format!("reset because of {cause}")),
                ControllerEvent::Ended(end) => say(&format!("the controller ended: {end:?}")),
                _ => {}
            }
        }
    }

    /// One I/O from its beginning to its end.
    pub fn run(&mut self, channel: &mut impl IoChannel, op: Op, sgl: Sgl) -> Outcome<Done> {
        if let Some(done) = channel.submit(Io { tag: 0, op, sgl }) {
            return Ok(done);
        }
        let deadline = self.now().after(PATIENCE);
        let mut out = Vec::new();
        loop {
            channel.poll(&mut out, BUDGET);
            self.turn();
            if let Some(done) = out.pop() {
                return Ok(done);
            }
            ensure(self.now() < deadline, || format!("{op:?} has no answer"))?;
        }
    }

    /// As [`Rig::run`], and it must end well.
    pub fn run_well(&mut self, channel: &mut impl IoChannel, op: Op, sgl: Sgl) -> Outcome<Sgl> {
        let done = self.run(channel, op, sgl)?;
        ensure(done.status == IoStatus::Good, || format!("{op:?} ended with {:?}", done.status))?;
        Ok(done.sgl)
    }

    /// Buffers for `bytes`.
    pub fn buffer(&self, bytes: usize) -> Outcome<Sgl> {
        self.pool.alloc(bytes).ok_or_else(|| Failure::new("the pool is empty"))
    }

    /// Shuts the controller down and hands the function back. Every channel was dropped before.
    pub fn release(mut self) -> Outcome<Option<End>> {
        let deadline = self.now().after(PATIENCE);
        self.controller.shutdown(self.now());
        while self.controller.ended().is_none() {
            self.turn();
            ensure(self.now() < deadline, || format!("it does not shut down: {:?}", self.controller))?;
        }
        // The queue pair sees that it is over, and takes its buffers back.
        self.turn();
        let end = self.controller.ended();
        ensure(self.pool.in_use() == 0, || format!("{} buffers are lost", self.pool.in_use()))?;
        let Self { poller, core, controller, device, .. } = self;
        drop((poller, core, controller));
        ensure(device.release(), || "another handle is left".to_owned())?;
        Ok(end)
    }
}

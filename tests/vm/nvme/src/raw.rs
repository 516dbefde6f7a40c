//! A function without its driver: what the device seam itself does, and what happens to one that is told nonsense.

use harness::failure::{Failure, Outcome, ensure};
use harness::process::eventually;
use harness::report::say;
use nvme::device::{Device, DmaMemory};
use nvme_spec::register::{ACQ, AQA, ASQ, CC, CSTS};
use reactor::buffer::{BufferPool, SizeClass};
use reactor::memory::MemoryRegion;
use vfio::VfioDevice;

use crate::rig::PATIENCE;

/// Everything that needs no driver: registers, memory, interrupts, a reset, and giving it back.
pub fn registers(device: VfioDevice) -> Outcome {
    let failed = |what: &'static str| move |error| Failure::new(format!("{what}: {error}"));
    let (cap, version) = (device.read_u64(0), device.read_u32(8));
    say(&format!("CAP {cap:016x} VS {version:08x}"));
    ensure(cap & 0xffff > 0 && version >> 16 >= 1, || "these are no registers of a controller".to_owned())?;
    let memory = device.allocate(2 * 4096).map_err(failed("allocate"))?;
    // Where its admin queue is, may be written while the controller is disabled.
    device.write_u64(ASQ, memory.iova());
    ensure(device.read_u64(ASQ) == memory.iova(), || "ASQ did not keep its value".to_owned())?;
    let region = MemoryRegion::new(16 << 20).map_err(|error| Failure::new(error.to_string()))?;
    say(&region.report().to_string());
    let pool = BufferPool::new(region, &[SizeClass { bytes: 4096, count: 1024 }]);
    let mapping = device.map_pool(&pool).map_err(failed("map_pool"))?;
    let (start, length) = pool.region_range();
    let (pool_at, memory_at) = (mapping.iova_of(start.as_ptr() as usize, length), memory.iova());
    say(&format!("memory at {memory_at:#x}, the pool at {pool_at:#x}"));
    ensure(pool_at.is_multiple_of(2 << 20), || "the pool is not at a large page".to_owned())?;
    device.set_bus_master(true).map_err(failed("set_bus_master"))?;
    let vectors = device.interrupt_vectors();
    ensure(vectors > 0, || "there are no interrupts".to_owned())?;
    for vector in [0, vectors - 1, 0] {
        let event = device.interrupt(vector).map_err(failed("interrupt"))?;
        ensure(event.is_some(), || format!("interrupt {vector} has no event"))?;
    }
    ensure(device.interrupt(vectors) == Ok(None), || "there is an interrupt too many".to_owned())?;
    enable(&device, memory.iova())?;
    interrupts(&device, &memory)?;
    device.begin_function_reset().map_err(failed("begin_function_reset"))?;
    let mut looks = 0u64;
    let outcome = loop {
        if let Some(outcome) = device.poll_function_reset() {
            break outcome;
        }
        looks += 1;
        std::thread::yield_now();
    };
    outcome.map_err(failed("poll_function_reset"))?;
    ensure(device.read_u32(CSTS) & 1 == 0, || "the reset left the controller enabled".to_owned())?;
    say(&format!("reset, seen to be under way {looks} times"));
    ensure(device.read_u64(0) == cap, || "CAP changed".to_owned())?;
    drop((memory, mapping));
    ensure(device.release(), || "another handle is left".to_owned())
}

/// The admin queue's completions raise the event of vector 0, and only while it is armed.
fn interrupts(device: &VfioDevice, queues: &DmaMemory) -> Outcome {
    let failed = |what: &'static str| move |error| Failure::new(format!("{what}: {error}"));
    let event = device.interrupt(0).map_err(failed("interrupt"))?;
    let event = event.ok_or_else(|| Failure::new("interrupt 0 has no event"))?;
    // How often it was raised and not heard of, without hearing of it.
    let raised = || -> Outcome<bool> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{event}"))?;
        let count = text.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
        Ok(count.is_some_and(|count| count.trim() != "0"))
    };
    device.arm_interrupt(0, false);
    ensure(!raised()?, || "an interrupt came before the first command".to_owned())?;
    let page = device.allocate(4096).map_err(failed("allocate"))?;
    ensure(identify(device, queues, 0, page.iova())? == 0, || "identify failed".to_owned())?;
    ensure(!raised()?, || "a vector that is not armed raised its event".to_owned())?;
    device.arm_interrupt(0, true);
    ensure(identify(device, queues, 1, page.iova())? == 0, || "identify failed".to_owned())?;
    eventually(PATIENCE, "the interrupt is raised", raised)
}

/// Enables the controller with admin queues of 16 entries at `iova` and in the page after it.
fn enable(device: &VfioDevice, iova: u64) -> Outcome {
    device.write_u32(AQA, 0x000f_000f);
    device.write_u64(ASQ, iova);
    device.write_u64(ACQ, iova + 4096);
    device.write_u32(CC, 0x0046_0001);
    let ready = || Ok(device.read_u32(CSTS) & 1 == 1);
    eventually(PATIENCE, "the controller is ready", ready)
}

/// An address that nothing is mapped at, within what the IOMMU can map.
const NOWHERE: u64 = 0x6_6666_6000;
/// What lies beside the queues, and stays.
const CANARY: u64 = 0x5ca1_ab1e_0ddb_a115;

/// Tells the controller to write what it identifies itself with to an address that was never mapped. The IOMMU stops it;
/// whether the controller notices is its own affair, but nothing of ours may change.
pub fn stray_write(device: VfioDevice) -> Outcome {
    let failed = |what: &'static str| move |error| Failure::new(format!("{what}: {error}"));
    let queues = device.allocate(2 * 4096).map_err(failed("allocate"))?;
    let canaries = device.allocate(16 * 4096).map_err(failed("allocate"))?;
    let words = || (0..canaries.memory().len()).step_by(8);
    words().for_each(|at| canaries.memory().store_u64(at, CANARY ^ at as u64));
    device.set_bus_master(true).map_err(failed("set_bus_master"))?;
    enable(&device, queues.iova())?;
    let status = identify(&device, &queues, 0, NOWHERE)?;
    say(&format!("a page to {NOWHERE:#x}: the controller says status {status:#x}"));
    // The same command with memory that is there: so it was the address, and the controller still works.
    let page = device.allocate(4096).map_err(failed("allocate"))?;
    let status = identify(&device, &queues, 1, page.iova())?;
    ensure(status == 0, || format!("identify ended with status {status:#x}"))?;
    ensure(page.memory().load_u64(0) != 0, || "identify wrote nothing".to_owned())?;
    let kept = words().all(|at| canaries.memory().load_u64(at) == CANARY ^ at as u64);
    ensure(kept, || "it wrote to memory that it was not told of".to_owned())?;
    device.set_bus_master(false).map_err(failed("set_bus_master"))?;
    drop((queues, canaries, page));
    ensure(device.release(), || "another handle is left".to_owned())
}

/// Sends Identify Controller as entry `index` of an admin queue that is otherwise empty; its status.
fn identify(device: &VfioDevice, queues: &DmaMemory, index: u16, prp1: u64) -> Outcome<u16> {
    let (memory, at) = (queues.memory(), usize::from(index) * 64);
    memory.zero(at, 64);
    memory.store_u32_release(at, 0x06 | u32::from(index) << 16);
    memory.store_u64(at + 24, prp1);
    memory.store_u64(at + 40, 1);
    device.write_u32(0x1000, u32::from(index) + 1);
    let completion = 4096 + usize::from(index) * 16 + 12;
    let answered = || Ok(memory.load_u32_acquire(completion) & 1 << 16 != 0);
    eventually(PATIENCE, "the controller answers", answered)?;
    Ok((memory.load_u32_acquire(completion) >> 17) as u16)
}

//! The thread that keeps a controller: it brings it up, drives its admin queue, hands out queue pairs to the cores, and shuts
//! it down when the last core that has some leaves. Nothing of an I/O passes through it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use nvme::device::{Device, DeviceError};
use nvme::{Config, Controller};
use reactor::clock::MonotonicClock;
use reactor::time::{Clock, Time};

use crate::error::{BenchError, LocalCause};
use crate::limits::{KEEPER_BUSY_MS, KEEPER_IDLE_MS, NAMESPACE_TIMEOUT_MS, START_TIMEOUT_S};
use crate::local::{Claimed, LocalTarget, claim};

/// Queues are created and commands aborted on request of the cores; after each claim it looks more often for so long.
const BUSY: Duration = Duration::from_secs(2);

/// What is asked for, and who waits for it.
type Claim = (Box<LocalTarget>, Sender<Result<Claimed, BenchError>>);

enum Ask {
    Claim(Claim),
    Leave,
    End,
}

/// A controller that is kept. Dropping it shuts the controller down and waits for that.
#[derive(Debug)]
pub struct Keeper<D> {
    device: D,
    door: Door,
    thread: Option<JoinHandle<()>>,
}

/// The way to a keeper, for a core.
#[derive(Clone, Debug)]
pub struct Door {
    asks: Sender<Ask>,
    fate: Arc<OnceLock<LocalCause>>,
}

/// The right to queue pairs. Whoever drops it wants nothing more of them, and keeps them until the controller has ended
/// ([`Door::fate`]), which it does when the last one has left: until then it may use their memory.
#[derive(Debug)]
pub struct Seat {
    asks: Sender<Ask>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A keeper that is gone counts nobody.
        let _ = self.asks.send(Ask::Leave);
    }
}

impl<D: Device + Clone + Send + 'static> Keeper<D> {
    /// Begins to bring the controller up.
    pub fn start(device: D, config: Config) -> std::io::Result<Self> {
        let (asks, asked) = mpsc::channel();
        let fate = Arc::new(OnceLock::new());
        let (its_device, its_fate, for_seats) = (device.clone(), Arc::clone(&fate), asks.clone());
        let builder = std::thread::Builder::new().name("vega-keeper".to_owned());
        let thread = builder.spawn(move || match Keeping::new(its_device, config, for_seats) {
            Ok(keeping) => keeping.run(&asked, &its_fate),
            // Nobody else sets it.
            Err(error) => drop(its_fate.set(LocalCause::Device(error))),
        })?;
        Ok(Self { device, door: Door { asks, fate }, thread: Some(thread) })
    }

    /// The way to it, for a core.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// The device, for the queue pairs of a core.
    pub fn device(&self) -> D {
        self.device.clone()
    }
}

impl<D> Drop for Keeper<D> {
    fn drop(&mut self) {
        // One that is gone has ended.
        let _ = self.door.asks.send(Ask::End);
        if let Some(thread) = self.thread.take() {
            // A panic was printed; the device stops when its last handle goes.
            let _ = thread.join();
        }
    }
}

impl Door {
    /// Asks for queue pairs; the answer comes when the controller is ready.
    pub fn claim(&self, target: &LocalTarget) -> Receiver<Result<Claimed, BenchError>> {
        let (answer, answered) = mpsc::channel();
        // A keeper that is gone has dropped its end, which the receiver sees.
        let _ = self.asks.send(Ask::Claim((Box::new(target.clone()), answer)));
        answered
    }

    /// How the controller ended, once it has, or why it never began.
    pub fn fate(&self) -> Option<LocalCause> {
        self.fate.get().cloned()
    }
}

/// The controller on its thread.
struct Keeping<D: Device> {
    controller: Controller<D>,
    /// Its own door, for seats.
    asks: Sender<Ask>,
    claims: Vec<Claim>,
    ready_at: Option<Time>,
    busy_until: Time,
    /// Who has queue pairs and has not left.
    users: u32,
}

impl<D: Device> Keeping<D> {
    fn new(device: D, config: Config, asks: Sender<Ask>) -> Result<Self, DeviceError> {
        let controller = Controller::new(device, config, None)?;
        let busy_until = MonotonicClock.now().after(Duration::from_secs(START_TIMEOUT_S));
        Ok(Self { controller, asks, claims: Vec::new(), ready_at: None, busy_until, users: 0 })
    }

    fn run(mut self, asked: &Receiver<Ask>, fate: &OnceLock<LocalCause>) {
        self.controller.start(MonotonicClock.now());
        let mut ending = false;
        loop {
            let now = MonotonicClock.now();
            self.controller.poll(now);
            while self.controller.next_event().is_some() {}
            if self.ready_at.is_none() && self.controller.is_ready() {
                self.ready_at = Some(now);
            }
            self.answer(now);
            if let Some(end) = self.controller.ended() {
                // Nobody else sets it.
                fate.get_or_init(|| LocalCause::Ended(end));
                if ending {
                    return;
                }
            }
            let is_busy = ending || now < self.busy_until || !self.controller.is_ready();
            let pause = Duration::from_millis(if is_busy { KEEPER_BUSY_MS } else { KEEPER_IDLE_MS });
            match asked.recv_timeout(pause) {
                Ok(Ask::Leave) => {
                    self.users = self.users.saturating_sub(1);
                    if self.users == 0 {
                        ending = true;
                        self.controller.shutdown(MonotonicClock.now());
                    }
                }
                Ok(Ask::Claim(claim)) => {
                    self.busy_until = now.after(BUSY);
                    self.claims.push(claim);
                }
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => {
                    ending = true;
                    self.controller.shutdown(MonotonicClock.now());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Answers the claims that can be answered.
    fn answer(&mut self, now: Time) {
        let late_at = |ready_at: Time| ready_at.after(Duration::from_millis(NAMESPACE_TIMEOUT_MS));
        let is_late = self.ready_at.is_some_and(|ready_at| now >= late_at(ready_at));
        self.claims.retain(|(target, answer)| match claim(&self.controller, target, is_late) {
            Ok(None) => true,
            Ok(Some(mut claimed)) => {
                if !claimed.tickets.is_empty() {
                    self.users += 1;
                    claimed.seat = Some(Seat { asks: self.asks.clone() });
                }
                // Whoever asked may be gone; then the seat is free again.
                let _ = answer.send(Ok(claimed));
                false
            }
            Err(error) => {
                let _ = answer.send(Err(error));
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    use nvme::End;
    use nvme::device::{DmaMemory, PoolMapping};
    use reactor::buffer::BufferPool;
    use reactor::memory::{MemoryRegion, SharedMemory};

    use super::*;
    use crate::plan::Plan;

    /// A slot out of which the controller was pulled; with or without memory for whoever does not know.
    #[derive(Clone, Copy)]
    struct EmptySlot {
        has_memory: bool,
    }

    impl Device for EmptySlot {
        fn name(&self) -> &str {
            "empty"
        }

        fn registers_bytes(&self) -> u32 {
            8192
        }

        fn read_u32(&self, _offset_bytes: u32) -> u32 {
            u32::MAX
        }

        fn read_u64(&self, _offset_bytes: u32) -> u64 {
            u64::MAX
        }

        fn write_u32(&self, _offset_bytes: u32, _value: u32) {}

        fn write_u64(&self, _offset_bytes: u32, _value: u64) {}

        fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError> {
            if !self.has_memory {
                return Err(DeviceError::NoMemory { length_bytes, errno: 12 });
            }
            let memory = SharedMemory::new(MemoryRegion::heap(length_bytes.next_multiple_of(4096)));
            Ok(DmaMemory::new(memory, 4096, Box::new(())))
        }

        fn map_pool(&self, _pool: &BufferPool) -> Result<PoolMapping, DeviceError> {
            Err(DeviceError::Removed)
        }

        fn set_bus_master(&self, _enabled: bool) -> Result<(), DeviceError> {
            Err(DeviceError::Removed)
        }

        fn begin_function_reset(&self) -> Result<(), DeviceError> {
            Err(DeviceError::Removed)
        }

        fn poll_function_reset(&self) -> Option<Result<(), DeviceError>> {
            Some(Err(DeviceError::Removed))
        }

        fn interrupt_vectors(&self) -> u16 {
            0
        }

        fn interrupt(&self, _vector: u16) -> Result<Option<RawFd>, DeviceError> {
            Ok(None)
        }
    }

    fn target() -> LocalTarget {
        LocalTarget::new(&Plan::for_text("nvme-pcie://01:00.0").unwrap(), 1, true)
    }

    #[test]
    fn whoever_asks_for_a_controller_that_is_gone_is_told_so() {
        let keeper = Keeper::start(EmptySlot { has_memory: true }, crate::local::config(1, 1)).unwrap();
        let door = keeper.door();
        let answer = door.claim(&target()).recv().expect("the keeper answers");
        let removed = LocalCause::Ended(End::Removed);
        assert!(matches!(answer, Err(BenchError::Local { cause, .. }) if cause == removed));
        assert_eq!(door.fate(), Some(removed));
        drop(keeper);
        assert!(door.claim(&target()).recv().is_err(), "nobody keeps it any more");
    }

    #[test]
    fn a_controller_that_cannot_begin_says_why() {
        let keeper = Keeper::start(EmptySlot { has_memory: false }, crate::local::config(1, 1)).unwrap();
        let door = keeper.door();
        assert!(door.claim(&target()).recv().is_err());
        drop(keeper);
        assert!(matches!(door.fate(), Some(LocalCause::Device(DeviceError::NoMemory { .. }))));
    }
}

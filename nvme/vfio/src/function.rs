//! One open PCI function: its configuration space, its interrupts, its resets.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nvme_pci::PciAddress;
use vfio_bindings::bindings::vfio;

use crate::chain::{Dependents, Region};
use crate::error::{Request, VfioError};
use crate::limits::INTERRUPT_VECTORS_MAX;
use crate::open::Refusals;
use crate::space::Space;
use crate::sys::{self, Errno};

/// The command register (PCI Local Bus 3.0, 6.2.2), its memory and bus-master bits.
const COMMAND: u64 = 4;
const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;

/// Reasons to keep from the registers.
const WITHDRAWN: u32 = 1;
const RESETTING: u32 = 2;

const MSIX: u32 = vfio::VFIO_PCI_MSIX_IRQ_INDEX;
const REQUEST: u32 = vfio::VFIO_PCI_REQ_IRQ_INDEX;

/// How the function can be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// By itself.
    Function,
    /// With its slot or bus, on which nothing is that is not of its group.
    Hot,
    /// Not at all.
    None,
}

/// An eventfd for interrupts; reading it never waits.
pub(crate) fn event() -> Result<EventFd, Errno> {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map_err(|errno| errno as Errno)
}

/// An interrupt that was asked for.
#[derive(Debug)]
struct Vector {
    event: EventFd,
    armed: bool,
}

/// What all handles of a function and its attendant share.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) address: PciAddress,
    pub(crate) registers: Region,
    pub(crate) vectors: u32,
    pub(crate) reset: Reset,
    configuration: Region,
    /// Of each vector, once it was asked for.
    events: Mutex<Vec<Option<Vector>>>,
    /// Why its registers are not to be touched, a bit for each reason; 0 when they may be.
    closed: AtomicU32,
    // Closed before its address space: the kernel then stops and resets it, and nothing of it is left that could see memory.
    device: File,
    space: Arc<Space>,
}

impl Function {
    /// Asks the kernel everything that has to be known about it.
    pub(crate) fn new(address: PciAddress, device: File, space: Space) -> Result<Self, VfioError> {
        let refused = |request| Refusals { address }.of(request);
        let info = sys::device_info(device.as_fd()).map_err(refused(Request::DeviceInfo))?;
        let region = |index| {
            let answer = sys::region_info(device.as_fd(), index).map_err(refused(Request::RegionInfo))?;
            Ok(Region::parse(&answer).unwrap_or_default())
        };
        let registers = region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
        let configuration = region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let (flags, count) =
            sys::interrupt_info(device.as_fd(), MSIX).map_err(refused(Request::InterruptInfo))?;
        let usable =
            if flags & vfio::VFIO_IRQ_INFO_EVENTFD != 0 { count.min(INTERRUPT_VECTORS_MAX) } else { 0 };
        let vectors = set_up_vectors(device.as_fd(), usable).map_err(refused(Request::SetInterrupts))?;
        let reset = if info.flags & vfio::VFIO_DEVICE_FLAGS_RESET != 0 {
            Reset::Function
        } else {
            hot_reset(device.as_fd())
        };
        Ok(Self {
            address,
            registers,
            vectors,
            reset,
            configuration,
            events: Mutex::new((0..vectors).map(|_| None).collect()),
            closed: AtomicU32::new(0),
            device,
            space: Arc::new(space),
        })
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Lets it read and write memory, or stops it.
    pub(crate) fn set_bus_master(&self, enabled: bool) -> Result<(), Errno> {
        let at = self.configuration.offset_bytes + COMMAND;
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let mut bytes = [0; 2];
        self.device.read_exact_at(&mut bytes, at).map_err(errno)?;
        let before = u16::from_le_bytes(bytes);
        // Its registers must stay in reach: the kernel takes the mapped pages away with this bit.
        let command = (before | MEMORY_SPACE) & !BUS_MASTER | if enabled { BUS_MASTER } else { 0 };
        if command != before {
            self.device.write_all_at(&command.to_le_bytes(), at).map_err(errno)?;
        }
        Ok(())
    }

    /// Whether its registers may be touched.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.closed.load(Ordering::Acquire) == 0
    }

    /// Whether a reset is under way: until its end, whoever asks the kernel for anything about the function waits.
    #[inline]
    pub(crate) fn is_resetting(&self) -> bool {
        self.closed.load(Ordering::Acquire) & RESETTING != 0
    }

    /// Whether it was pulled out, or the kernel wants it back.
    #[inline]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.closed.load(Ordering::Acquire) & WITHDRAWN != 0
    }

    /// Keeps everybody from its registers while it is reset, because an access would wait for the end of that.
    pub(crate) fn close_for_reset(&self) {
        self.closed.fetch_or(RESETTING, Ordering::AcqRel);
    }

    /// The reset is over.
    pub(crate) fn open_after_reset(&self) {
        self.closed.fetch_and(!RESETTING, Ordering::AcqRel);
    }

    /// It goes away. Stopped first, so that whoever sees that it is withdrawn knows that it touches no memory.
    pub(crate) fn withdraw(&self) {
        // One that was pulled out cannot be stopped any more, nor does it have to be.
        let _ = self.set_bus_master(false);
        self.closed.fetch_or(WITHDRAWN, Ordering::AcqRel);
    }

    /// The event with which the kernel asks for the function back.
    pub(crate) fn watch_requests(&self, event: &EventFd) -> Result<(), Errno> {
        match sys::set_interrupts(self.file(), REQUEST, 0, &[Some(event.as_fd())]) {
            // Kernels before 4.0 take it away by force instead.
            Ok(_) | Err(libc::EINVAL | libc::ENOTTY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The event of interrupt `vector`, made and armed at the first call; `None` where there is none.
    pub(crate) fn interrupt(&self, vector: u32) -> Result<Option<RawFd>, Errno> {
        let mut vectors = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = vectors.get_mut(vector as usize) else { return Ok(None) };
        if let Some(vector) = slot {
            return Ok(Some(vector.event.as_fd().as_raw_fd()));
        }
        let event = event()?;
        sys::set_interrupts(self.file(), MSIX, vector, &[Some(event.as_fd())])?;
        Ok(Some(slot.insert(Vector { event, armed: true }).event.as_fd().as_raw_fd()))
    }

    /// Unmasks or masks a vector that was asked for. What happens while it is masked is not lost: the function keeps it and
    /// raises the interrupt when it is unmasked.
    pub(crate) fn arm(&self, vector: u32, armed: bool) {
        let mut vectors = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(slot)) = vectors.get_mut(vector as usize) else { return };
        if slot.armed == armed {
            return;
        }
        let event = armed.then(|| slot.event.as_fd());
        if sys::set_interrupts(self.file(), MSIX, vector, &[event]).is_ok() {
            slot.armed = armed;
        } else if armed {
            // Nobody will wake the core that is about to sleep, so it must not.
            let _ = slot.event.write(1);
        }
    }

    /// Resets it. Takes 100 ms and more, and up to a minute with one that does not come back.
    pub(crate) fn reset_now(&self) -> Result<(), Errno> {
        match self.reset {
            Reset::Function => sys::reset(self.file()),
            Reset::Hot => {
                let groups: Vec<BorrowedFd<'_>> = self.space.group().into_iter().map(AsFd::as_fd).collect();
                sys::hot_reset(self.file(), &groups)
            }
            Reset::None => Err(libc::EOPNOTSUPP),
        }
    }
}

/// Sets `wanted` vectors up, without events, and answers how many there are. At once, because a controller refuses queues with
/// vectors while MSI-X is off, and because kernels before 6.5 cannot add any later. One without an event is masked: it costs
/// nothing.
fn set_up_vectors(device: BorrowedFd<'_>, mut wanted: u32) -> Result<u32, Errno> {
    while wanted > 0 {
        let events = vec![None; wanted as usize];
        match sys::set_interrupts(device, MSIX, 0, &events)? {
            0 => break,
            // The machine has fewer left.
            possible if possible < wanted => wanted = possible,
            _ => return Err(libc::EIO),
        }
    }
    Ok(wanted)
}

/// Whether slot or bus may be reset: only if everything on it is of the function's own group, which is ours.
fn hot_reset(device: BorrowedFd<'_>) -> Reset {
    let functions = sys::hot_reset_info(device).ok().and_then(|answer| Dependents::parse(&answer));
    if functions.is_some_and(|functions| functions.are_ours()) { Reset::Hot } else { Reset::None }
}

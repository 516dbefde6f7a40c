//! The thread that attends to a function: it does what takes long, and hears when the kernel wants the function back.
//!
//! It sleeps, and is the last to let go of the function: closing one resets it, which no core should wait for.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::error::{Request, VfioError};
use crate::function::{Function, event};
use crate::limits::{RESET_PAUSE_MS, RESET_TRIES};
use crate::open::Refusals;
use crate::sys::Errno;

/// What a reset is at.
const AT_REST: u32 = 0;
const WANTED: u32 = 1;
const ENDED: u32 = 2;

#[derive(Debug)]
struct Orders {
    /// Raised with every order.
    event: EventFd,
    /// One of the three above.
    reset: AtomicU32,
    /// How the last one ended; 0 for well.
    errno: AtomicI32,
    /// 1 once the function is to be let go.
    over: AtomicU32,
}

/// Whether the kernel has a function back.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Closed {
    fn set(&self) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_closed, timeout, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The way to a function's attendant; whoever drops it has let go of the function before, so that the attendant is the last.
/// Dropping it lets the attendant let go of the function, and does not wait for that.
#[derive(Debug)]
pub(crate) struct Attendant {
    orders: Arc<Orders>,
    closed: Arc<Closed>,
    thread: Option<JoinHandle<()>>,
}

impl Attendant {
    /// Starts the thread.
    pub(crate) fn start(function: Arc<Function>) -> Result<Self, VfioError> {
        let address = function.address;
        let refused = |request| Refusals { address }.of(request);
        let event_of = || event().map_err(refused(Request::Attendant));
        let orders = Arc::new(Orders {
            event: event_of()?,
            reset: AtomicU32::new(AT_REST),
            errno: AtomicI32::new(0),
            over: AtomicU32::new(0),
        });
        let requests = event_of()?;
        function.watch_requests(&requests).map_err(refused(Request::SetInterrupts))?;
        let name = format!("vfio {address}");
        let builder = std::thread::Builder::new().name(name);
        let theirs = Arc::clone(&orders);
        let closed = Arc::<Closed>::default();
        let told = Arc::clone(&closed);
        let thread = builder.spawn(move || {
            attend(&function, &theirs, &requests);
            // The last one: with it the kernel gets the function back.
            drop(function);
            told.set();
        });
        let thread = thread
            .map_err(|error| refused(Request::Attendant)(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(Self { orders, closed, thread: Some(thread) })
    }

    /// Says when the attendant has let go of the function.
    pub(crate) fn closed(&self) -> Arc<Closed> {
        Arc::clone(&self.closed)
    }

    /// Orders a reset. Until it has ended, the registers are closed.
    pub(crate) fn begin_reset(&self, function: &Function) {
        function.close_for_reset();
        let before = self.orders.reset.swap(WANTED, Ordering::AcqRel);
        assert!(before != WANTED, "a reset is begun when the one before has ended");
        self.orders.raise();
    }

    /// How the reset has ended that was begun; `None` while it goes on.
    pub(crate) fn poll_reset(&self) -> Option<Result<(), Errno>> {
        let at = self.orders.reset.load(Ordering::Acquire);
        assert!(at != AT_REST, "nobody has begun a reset");
        if at == WANTED {
            return None;
        }
        self.orders.reset.store(AT_REST, Ordering::Release);
        match self.orders.errno.load(Ordering::Acquire) {
            0 => Some(Ok(())),
            errno => Some(Err(errno)),
        }
    }

    /// Lets go of the function, and waits until the kernel has it.
    pub(crate) fn join(mut self) {
        let thread = self.thread.take().expect("it is joined once");
        drop(self);
        thread.join().expect("an attendant does not panic");
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.orders.over.store(1, Ordering::Release);
        self.orders.raise();
    }
}

impl Orders {
    fn raise(&self) {
        // It fails only when 2^64 - 2 orders wait.
        let raised = self.event.write(1);
        raised.expect("an order is one more count of an eventfd");
    }
}

fn attend(function: &Function, orders: &Orders, requests: &EventFd) {
    while orders.over.load(Ordering::Acquire) == 0 {
        let both = [&orders.event, requests];
        // Once it was asked for, the kernel repeats itself, and there is nothing to add.
        let watched = if function.is_withdrawn() { 1 } else { 2 };
        let mut files = both.map(|event| PollFd::new(event.as_fd(), PollFlags::POLLIN));
        if poll(&mut files[..watched], PollTimeout::NONE).is_err() {
            // Interrupted by a signal.
            continue;
        }
        // Reading an eventfd only takes its count back; one without a count has nothing to say.
        let _ = orders.event.read();
        if watched == 2 && requests.read().is_ok() {
            function.withdraw();
        }
        if orders.reset.load(Ordering::Acquire) == WANTED {
            let errno = reset(function).err().unwrap_or(0);
            function.open_after_reset();
            orders.errno.store(errno, Ordering::Release);
            orders.reset.store(ENDED, Ordering::Release);
        }
    }
}

fn reset(function: &Function) -> Result<(), Errno> {
    for _ in 0..RESET_TRIES {
        match function.reset_now() {
            // Somebody else is at the function's bus.
            Err(libc::EAGAIN | libc::EBUSY) => {
                let _ = poll(&mut [], PollTimeout::from(RESET_PAUSE_MS));
            }
            outcome => return outcome,
        }
    }
    Err(libc::EBUSY)
}

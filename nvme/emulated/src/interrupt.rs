//! Interrupts: each vector is an event that a core watches while it sleeps.

use std::os::fd::{AsRawFd, RawFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nvme::device::DeviceError;

#[derive(Default)]
struct Vector {
    event: Option<EventFd>,
    is_raised: bool,
}

pub(crate) struct Interrupts {
    vectors: Vec<Vector>,
    any: bool,
}

impl Interrupts {
    pub(crate) fn new(vectors: u16) -> Self {
        Self { vectors: (0..vectors).map(|_| Vector::default()).collect(), any: false }
    }

    pub(crate) fn count(&self) -> u16 {
        self.vectors.len() as u16
    }

    /// The event of a vector, made at the first call.
    pub(crate) fn event(&mut self, vector: u16) -> Result<Option<RawFd>, DeviceError> {
        let Some(vector) = self.vectors.get_mut(usize::from(vector)) else { return Ok(None) };
        if vector.event.is_none() {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
            let event = event.map_err(|errno| DeviceError::NotConfigured { errno: errno as i32 })?;
            vector.event = Some(event);
        }
        Ok(vector.event.as_ref().map(AsRawFd::as_raw_fd))
    }

    #[inline]
    pub(crate) fn raise(&mut self, vector: u16) {
        if let Some(vector) = self.vectors.get_mut(usize::from(vector)) {
            vector.is_raised = true;
            self.any = true;
        }
    }

    /// Signals what was raised and is not masked; what is masked stays raised.
    #[inline]
    pub(crate) fn signal(&mut self, mask: u32) {
        if !self.any {
            return;
        }
        self.any = false;
        for (number, vector) in self.vectors.iter_mut().enumerate() {
            if !vector.is_raised {
                continue;
            }
            if mask & 1 << number != 0 {
                self.any = true;
                continue;
            }
            vector.is_raised = false;
            if let Some(event) = &vector.event {
                // A full counter has woken whoever listens already.
                let _ = event.write(1);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.any = false;
        self.vectors.iter_mut().for_each(|vector| vector.is_raised = false);
    }
}

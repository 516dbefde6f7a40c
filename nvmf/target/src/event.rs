//! Asynchronous events of one controller: requests that wait, and what there is to tell (NVMe base, section 5.1.2).
//!
//! An event is told once and then masked until the host has read its log page, so that a burst of changes costs one
//! completion. A change behind a mask needs no second completion: reading the page clears all before it.

use nvme_spec::Status;
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::EventConfiguration;
use smallvec::SmallVec;

use crate::limits::ASYNC_EVENTS_MAX;

/// What a controller tells without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsyncEvent {
    /// Namespaces were attached, detached or changed.
    NamespaceAttributes,
    /// Asymmetric namespace access has changed.
    AnaChange,
    /// The discovery log page has changed.
    DiscoveryChange,
    /// A reservation notification is in the log.
    ReservationLog,
}

impl AsyncEvent {
    const ALL: [Self; 4] =
        [Self::NamespaceAttributes, Self::AnaChange, Self::DiscoveryChange, Self::ReservationLog];

    /// Dword 0 of the completion.
    pub const fn dword(self) -> u32 {
        let event = match self {
            Self::NamespaceAttributes => AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED,
            Self::AnaChange => AsynchronousEvent::ANA_CHANGE,
            Self::DiscoveryChange => AsynchronousEvent::DISCOVERY_LOG_CHANGED,
            Self::ReservationLog => AsynchronousEvent::RESERVATION_LOG_AVAILABLE,
        };
        event.dword()
    }

    /// The bit of the Asynchronous Event Configuration feature that turns it on; none: it has a mask of its own.
    pub const fn config_bit(self) -> Option<EventConfiguration> {
        match self {
            Self::NamespaceAttributes => Some(EventConfiguration::NAMESPACE_ATTRIBUTE),
            Self::AnaChange => Some(EventConfiguration::ANA_CHANGE),
            Self::DiscoveryChange => Some(EventConfiguration::DISCOVERY_LOG_CHANGE),
            Self::ReservationLog => None,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A request that can be completed, and dword 0 of its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told<R> {
    pub request: R,
    pub dword: u32,
}

/// The events of one controller; `R` names a request that waits.
#[derive(Debug)]
pub(crate) struct Events<R> {
    waiting: SmallVec<[R; ASYNC_EVENTS_MAX]>,
    pending: u8,
    masked: u8,
}

impl<R> Default for Events<R> {
    fn default() -> Self {
        Self { waiting: SmallVec::new(), pending: 0, masked: 0 }
    }
}

impl<R: PartialEq> Events<R> {
    /// A request has come: it waits, or can be completed.
    pub fn request(&mut self, request: R) -> Result<Option<Told<R>>, Status> {
        if self.waiting.len() == ASYNC_EVENTS_MAX {
            return Err(Status::AER_LIMIT_EXCEEDED.with_dnr());
        }
        self.waiting.push(request);
        Ok(self.tell())
    }

    /// Something has happened.
    pub fn raise(&mut self, event: AsyncEvent) -> Option<Told<R>> {
        self.pending |= event.bit();
        self.tell()
    }

    /// The host has read the log page of an event: what happened before is known to it.
    pub fn clear(&mut self, event: AsyncEvent) {
        self.pending &= !event.bit();
        self.masked &= !event.bit();
    }

    /// Takes a waiting request back (Abort); false when it does not wait.
    pub fn withdraw(&mut self, request: &R) -> bool {
        let found = self.waiting.iter().position(|waiting| waiting == request);
        found.map(|at| self.waiting.remove(at)).is_some()
    }

    /// Forgets everything (reset); the requests that waited are returned, to be ended by the caller.
    pub fn reset(&mut self) -> SmallVec<[R; ASYNC_EVENTS_MAX]> {
        (self.pending, self.masked) = (0, 0);
        std::mem::take(&mut self.waiting)
    }

    fn tell(&mut self) -> Option<Told<R>> {
        let open = self.pending & !self.masked;
        let event = AsyncEvent::ALL.into_iter().find(|event| open & event.bit() != 0)?;
        if self.waiting.is_empty() {
            return None;
        }
        self.pending &= !event.bit();
        self.masked |= event.bit();
        Some(Told { request: self.waiting.remove(0), dword: event.dword() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_once_until_its_page_was_read() {
        let mut events = Events::default();
        assert_eq!(events.raise(AsyncEvent::AnaChange), None);
        let told = events.request(1).unwrap().unwrap();
        assert_eq!((told.request, told.dword), (1, 0x000c_0302));
        assert_eq!(events.request(2), Ok(None));
        assert_eq!(events.raise(AsyncEvent::AnaChange), None);
        assert_eq!(
            events.raise(AsyncEvent::NamespaceAttributes),
            Some(Told { request: 2, dword: 0x0004_0002 })
        );
        assert_eq!(events.request(3), Ok(None));
        events.clear(AsyncEvent::AnaChange);
        // What happened behind the mask was in the page that the host has read.
        assert_eq!(events.request(4), Ok(None));
        assert_eq!(events.raise(AsyncEvent::AnaChange).map(|told| told.request), Some(3));
    }

    #[test]
    fn one_request_too_many_is_refused_and_the_others_stay() {
        let mut events = Events::default();
        for request in 0..ASYNC_EVENTS_MAX {
            assert_eq!(events.request(request), Ok(None));
        }
        assert_eq!(events.request(99), Err(Status::AER_LIMIT_EXCEEDED.with_dnr()));
        assert!(events.withdraw(&1) && !events.withdraw(&1));
        assert_eq!(events.request(99), Ok(None));
        assert_eq!(events.reset().len(), ASYNC_EVENTS_MAX);
        assert_eq!(events.raise(AsyncEvent::ReservationLog), None);
        let told = events.request(5).unwrap().unwrap();
        assert_eq!(told.dword, 0x0080_0006);
    }
}

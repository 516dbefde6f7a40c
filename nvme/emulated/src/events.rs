//! Asynchronous events: requests that wait for one, events that wait for a request, and types that wait for a log page to be
//! read (Base 5.1.2).

use std::collections::VecDeque;

use nvme_spec::ae::{AsynchronousEvent, EventType};
use nvme_spec::log::LogPageId;

use crate::limits::{ASYNC_EVENTS_MAX, EVENTS_WAITING_MAX};

#[derive(Default)]
pub(crate) struct Events {
    /// Identifiers of the requests that are outstanding, the oldest first.
    requests: VecDeque<u16>,
    waiting: VecDeque<AsynchronousEvent>,
    /// For each type that was reported: the log page that unmasks it.
    masked: [Option<LogPageId>; 8],
    /// This event is reported for every request, whatever is masked.
    pub(crate) storm: Option<AsynchronousEvent>,
}

impl Events {
    /// Takes a request; `false` when there are too many.
    pub(crate) fn request(&mut self, cid: u16) -> bool {
        let taken = self.requests.len() < ASYNC_EVENTS_MAX;
        if taken {
            self.requests.push_back(cid);
        }
        taken
    }

    pub(crate) fn is_requested_by(&self, cid: u16) -> bool {
        self.requests.contains(&cid)
    }

    /// Takes a request back.
    pub(crate) fn abort(&mut self, cid: u16) -> bool {
        let before = self.requests.len();
        self.requests.retain(|other| *other != cid);
        self.requests.len() < before
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.requests.len()
    }

    /// Something happened. The same event waits once.
    pub(crate) fn raise(&mut self, event: AsynchronousEvent) {
        if self.waiting.contains(&event) {
            return;
        }
        if self.waiting.len() == EVENTS_WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    fn mask_of(&mut self, event_type: EventType) -> &mut Option<LogPageId> {
        &mut self.masked[usize::from(event_type.0 & 0b111)]
    }

    /// The next event to report, and the request that reports it.
    pub(crate) fn next(&mut self) -> Option<(u16, AsynchronousEvent)> {
        if self.requests.is_empty() {
            return None;
        }
        if let Some(event) = self.storm {
            return Some((self.requests.pop_front()?, event));
        }
        let is_open =
            |event: &AsynchronousEvent| self.masked[usize::from(event.event_type.0 & 0b111)].is_none();
        let at = self.waiting.iter().position(is_open)?;
        let event = self.waiting.remove(at)?;
        *self.mask_of(event.event_type) = Some(event.lid);
        Some((self.requests.pop_front()?, event))
    }

    /// Something can be reported now.
    pub(crate) fn is_ready(&self) -> bool {
        let open = |event: &AsynchronousEvent| self.masked[usize::from(event.event_type.0 & 0b111)].is_none();
        !self.requests.is_empty() && (self.storm.is_some() || self.waiting.iter().any(open))
    }

    /// A log page was read without Retain Asynchronous Event.
    pub(crate) fn log_was_read(&mut self, lid: LogPageId) {
        for mask in &mut self.masked {
            *mask = mask.filter(|unmasked_by| *unmasked_by != lid);
        }
    }

    /// A reset: nothing is outstanding, nothing waits.
    pub(crate) fn clear(&mut self) {
        *self = Self { storm: self.storm, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: AsynchronousEvent = AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED;
    const HOT: AsynchronousEvent = AsynchronousEvent::SMART_TEMPERATURE;

    #[test]
    fn a_type_is_reported_once_until_its_log_page_is_read() {
        let mut events = Events::default();
        events.raise(CHANGED);
        events.raise(CHANGED);
        assert!(events.next().is_none() && !events.is_ready());
        assert!(events.request(7) && events.request(8) && events.request(9));
        assert_eq!(events.next(), Some((7, CHANGED)));
        events.raise(CHANGED);
        events.raise(HOT);
        assert_eq!(events.next(), Some((8, HOT)), "another type is open");
        assert_eq!(events.next(), None);
        events.log_was_read(LogPageId::SMART);
        assert_eq!(events.next(), None, "it is the other page that is awaited");
        events.log_was_read(LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST);
        assert_eq!(events.next(), Some((9, CHANGED)));
        assert_eq!(events.outstanding(), 0);
    }

    #[test]
    fn requests_and_events_are_bounded() {
        let mut events = Events::default();
        for cid in 0..ASYNC_EVENTS_MAX as u16 {
            assert!(events.request(cid));
        }
        assert!(!events.request(100));
        assert!(events.abort(3) && !events.abort(3));
        assert!(events.request(100) && events.is_requested_by(100));
        for information in 0..=255 {
            events.raise(AsynchronousEvent::new(EventType::NOTICE, information, LogPageId::FIRMWARE_SLOT));
        }
        assert_eq!(events.waiting.len(), EVENTS_WAITING_MAX);
        events.storm = Some(HOT);
        assert_eq!((0..100).map_while(|_| events.next()).count(), ASYNC_EVENTS_MAX);
    }
}

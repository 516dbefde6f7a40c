//! What control hands over to make a subsystem: everything resolved and checked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits::{
    CNTLID_MAX, CONNECT_TIMEOUT, IN_CAPSULE_BYTES, IO_QUEUES_MAX, QUEUE_ENTRIES_MAX, QUIESCE_TIME,
};

/// What the target offers and how long it waits; the same on every core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// I/O queues of one controller, 1 to [`IO_QUEUES_MAX`].
    pub io_queues_max: u16,
    /// Entries of one I/O queue, 2 to [`QUEUE_ENTRIES_MAX`].
    pub queue_entries_max: u16,
    /// In-capsule data on I/O queues: a multiple of 16, at most [`IN_CAPSULE_BYTES`]. 0 turns it off.
    pub in_capsule_bytes: usize,
    /// Accept a header digest when the host asks for it.
    pub header_digest: bool,
    /// Accept a data digest when the host asks for it.
    pub data_digest: bool,
    /// ICReq and Connect must be there by then.
    pub connect_timeout: Duration,
    /// What a lost connection's commands need at most to end (CQT).
    pub quiesce_time: Duration,
    /// Take no connection before [`crate::message::CoreMessage::Accept`], so that nobody is told that a subsystem does
    /// not exist which merely has not been restored yet.
    pub starts_closed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            io_queues_max: IO_QUEUES_MAX,
            queue_entries_max: QUEUE_ENTRIES_MAX,
            in_capsule_bytes: IN_CAPSULE_BYTES,
            header_digest: true,
            data_digest: true,
            connect_timeout: CONNECT_TIMEOUT,
            quiesce_time: QUIESCE_TIME,
            starts_closed: false,
        }
    }
}

impl Settings {
    /// The settings with every value inside its bounds.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        self.io_queues_max = self.io_queues_max.clamp(1, IO_QUEUES_MAX);
        self.queue_entries_max = self.queue_entries_max.clamp(2, QUEUE_ENTRIES_MAX);
        self.in_capsule_bytes = self.in_capsule_bytes.min(IN_CAPSULE_BYTES) / 16 * 16;
        self.connect_timeout = self.connect_timeout.min(CONNECT_TIMEOUT);
        self
    }
}

/// How well a listener reaches a group of namespaces (NVMe base, section 8.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnaState {
    /// Use it.
    #[default]
    Optimized,
    /// Works, another path is better.
    NonOptimized,
    /// Takes no I/O now; another path may.
    Inaccessible,
    /// Takes no I/O until somebody intervenes.
    PersistentLoss,
    /// Between two states.
    Change,
}

/// A namespace as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSetup {
    /// The volume behind it.
    pub volume: String,
    /// Its ANA group, from 1.
    pub ana_group: u32,
}

impl NamespaceSetup {
    /// A namespace over a volume, in ANA group 1.
    pub fn new(volume: impl Into<String>) -> Self {
        Self { volume: volume.into(), ana_group: 1 }
    }
}

/// A subsystem as it shall be from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemSetup {
    /// Its NQN.
    pub nqn: String,
    /// Serial number, at most 20 characters of ASCII; the same for the life of the subsystem.
    pub serial: String,
    /// Model number, at most 40 characters of ASCII.
    pub model: String,
    /// Namespace by NSID.
    pub namespaces: BTreeMap<u32, NamespaceSetup>,
    /// Host NQNs that may connect.
    pub allow: AllowList,
    /// State of (listener's port, ANA group), where it is not optimized.
    pub ana: BTreeMap<(u16, u32), AnaState>,
    /// Connections without a header digest are refused at Connect.
    pub require_header_digest: bool,
    /// Connections without a data digest are refused at Connect.
    pub require_data_digest: bool,
    /// The controller identifiers to hand out. Nodes that serve the same subsystem have ranges of their own.
    pub controller_ids: RangeInclusive<u16>,
}

impl SubsystemSetup {
    /// A subsystem without namespaces that anybody may use.
    pub fn new(nqn: impl Into<String>, serial: impl Into<String>) -> Self {
        Self {
            nqn: nqn.into(),
            serial: serial.into(),
            model: "Vega volume".into(),
            namespaces: BTreeMap::new(),
            allow: AllowList::default(),
            ana: BTreeMap::new(),
            require_header_digest: false,
            require_data_digest: false,
            controller_ids: 1..=CNTLID_MAX,
        }
    }

    /// How the listener of a port reaches a group.
    pub fn ana_state(&self, port_id: u16, group: u32) -> AnaState {
        self.ana.get(&(port_id, group)).copied().unwrap_or_default()
    }
}

/// Host NQNs, exact or ending in `*`; empty: anybody. NQNs compare byte by byte (NVMe base, section 4.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<String>);

impl AllowList {
    /// True when `host` is on the list, or the list is empty.
    pub fn allows(&self, host: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => host.starts_with(prefix),
                None => host == entry,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_list_is_exact_unless_it_says_prefix() {
        let list = |entries: &[&str]| AllowList(entries.iter().map(|entry| (*entry).to_string()).collect());
        assert!(list(&[]).allows("nqn.x:a"));
        let listed = list(&["nqn.x:a", "nqn.y:*"]);
        assert!(listed.allows("nqn.x:a") && !listed.allows("nqn.x:ab") && !listed.allows("nqn.X:a"));
        assert!(listed.allows("nqn.y:") && listed.allows("nqn.y:z") && !listed.allows("nqn.z:a"));
    }

    #[test]
    fn settings_are_brought_into_their_bounds() {
        let wild = Settings {
            io_queues_max: 0,
            queue_entries_max: 1,
            in_capsule_bytes: 1000,
            ..Settings::default()
        };
        let clamped = wild.clamped();
        assert_eq!((clamped.io_queues_max, clamped.queue_entries_max, clamped.in_capsule_bytes), (1, 2, 992));
    }
}

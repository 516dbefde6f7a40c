//! How often one peer may answer a CHAP challenge wrongly before it has to wait.
//!
//! Failures are counted by address, which nobody can claim falsely, unlike the name of an initiator: so a stranger elsewhere
//! locks nobody out by using that name. A name that has proven itself from an address is judged by its own failures from then
//! on, so that others behind the same address, the wrong guesses of a neighbour, are not held against it. A pause is bounded and
//! what is refused during a pause does not prolong it, so the right secret gets in again whatever others do. Nothing here knows
//! a secret or an answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use reactor::time::Time;

use crate::limits::{CHAP_PEERS_MAX, CHAP_PROVEN_MAX};
use crate::setup::ChapPauses;

/// What failures are counted of: an address (of IPv6 its network), or one name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    address: IpAddr,
    /// Only of an initiator that has proven itself from there.
    initiator_name: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// In a row.
    failures: u32,
    /// No answer is looked at before.
    paused_until: Time,
    /// When it answered last.
    seen: Time,
}

/// The failures of a core.
#[derive(Debug)]
pub(crate) struct Guard {
    pauses: ChapPauses,
    records: BTreeMap<Peer, Record>,
}

impl Guard {
    pub fn new(pauses: ChapPauses) -> Self {
        assert!(pauses.failures_until_pause > 0, "a pause comes after a wrong answer");
        assert!(pauses.first <= pauses.longest && pauses.longest < pauses.forget, "{pauses:?}");
        Self { pauses, records: BTreeMap::new() }
    }

    /// True while an answer of this peer is not looked at.
    pub fn is_paused(&self, address: IpAddr, initiator_name: &str, now: Time) -> bool {
        let record = self.records.get(&self.peer(address, initiator_name));
        record.is_some_and(|record| now < record.paused_until)
    }

    /// A wrong answer. The pause that it brings, if any.
    pub fn on_failure(&mut self, address: IpAddr, initiator_name: &str, now: Time) -> Option<Duration> {
        let peer = self.peer(address, initiator_name);
        self.make_room(&peer, now);
        let fresh = Record { failures: 0, paused_until: Time::ZERO, seen: now };
        let record = self.records.entry(peer).or_insert(fresh);
        if now.since(record.seen) >= self.pauses.forget {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.seen = now;
        let pause = pause_after(self.pauses, record.failures)?;
        record.paused_until = now.after(pause);
        Some(pause)
    }

    /// A right answer: the name is known at this address from now on, without failures. Those of others there stay.
    pub fn on_success(&mut self, address: IpAddr, initiator_name: &str, now: Time) {
        let peer = Peer { address: network(address), initiator_name: Some(initiator_name.to_owned()) };
        let is_name_there = |known: &&Peer| known.address == peer.address && known.initiator_name.is_some();
        let is_known = self.records.contains_key(&peer);
        if !is_known && self.records.keys().filter(is_name_there).count() >= CHAP_PROVEN_MAX {
            return;
        }
        self.make_room(&peer, now);
        self.records.insert(peer, Record { failures: 0, paused_until: Time::ZERO, seen: now });
    }

    fn peer(&self, address: IpAddr, initiator_name: &str) -> Peer {
        let named = Peer { address: network(address), initiator_name: Some(initiator_name.to_owned()) };
        if self.records.contains_key(&named) { named } else { Peer { initiator_name: None, ..named } }
    }

    /// Forgets the one that was not seen for the longest time. A pause is much shorter than it takes to connect from so many
    /// addresses that one in a pause would be that.
    fn make_room(&mut self, peer: &Peer, now: Time) {
        if self.records.len() < CHAP_PEERS_MAX || self.records.contains_key(peer) {
            return;
        }
        let is_free = |record: &Record| now >= record.paused_until;
        let oldest = self.records.iter().min_by_key(|(_, record)| (!is_free(record), record.seen));
        if let Some(oldest) = oldest.map(|(peer, _)| peer.clone()) {
            self.records.remove(&oldest);
        }
    }
}

/// The first failures are free: a typing error. Then each pause is twice as long as the one before, up to the longest.
fn pause_after(pauses: ChapPauses, failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(pauses.failures_until_pause)?;
    let pause = 1u32.checked_shl(doublings).and_then(|factor| pauses.first.checked_mul(factor));
    Some(pause.unwrap_or(pauses.longest).min(pauses.longest))
}

/// Who has one address of an IPv6 network has all of its last 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(test)]
mod tests;

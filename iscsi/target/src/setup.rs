//! What control hands over to make a target: everything resolved and checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use iscsi_proto::chap::Secret;
use iscsi_proto::params::{DigestPolicy, Offers};

use crate::limits::{
    CHAP_FAILURES_UNTIL_PAUSE, CHAP_FORGET, CHAP_PAUSE_FIRST, CHAP_PAUSE_LONGEST, LOGIN_TIMEOUT,
    PING_INTERVAL, PING_TIMEOUT, QUEUE_DEPTH_DEFAULT, SESSIONS_PER_CORE_MAX,
};

/// What the target offers and how long it waits; the same on every core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our side of the parameter negotiation.
    pub offers: Offers,
    /// Commands that a session may send at once, 1 to 1024.
    pub queue_depth: u32,
    /// Sessions on one core.
    pub sessions_max: usize,
    /// A connection must have logged in by then.
    pub login_timeout: Duration,
    /// A connection that was silent for so long is pinged.
    pub ping_interval: Duration,
    /// A connection that answers no ping, or takes no byte, for so long is closed.
    pub ping_timeout: Duration,
    /// How long wrong answers to CHAP challenges make wait.
    pub chap_pauses: ChapPauses,
    /// Take no connection before [`crate::message::CoreMessage::Accept`], so that nobody is told that a target does not
    /// exist which merely has not been restored yet.
    pub starts_closed: bool,
    /// Who writes the log hears of pauses here. What finds no room is only counted.
    pub notices: Option<SyncSender<ChapPause>>,
}

/// What wrong answers to CHAP challenges, counted for each address, bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChapPauses {
    /// With so many in a row the first pause begins; at least one.
    pub failures_until_pause: u32,
    /// The first pause; each further wrong answer doubles it.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Wrong answers are forgotten after so long without another. Longer than [`Self::longest`]: a pause is remembered until
    /// it ends.
    pub forget: Duration,
}

impl Default for ChapPauses {
    fn default() -> Self {
        Self {
            failures_until_pause: CHAP_FAILURES_UNTIL_PAUSE,
            first: CHAP_PAUSE_FIRST,
            longest: CHAP_PAUSE_LONGEST,
            forget: CHAP_FORGET,
        }
    }
}

/// Wrong answers to CHAP challenges, after which no answer of the same peer is looked at for a while. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapPause {
    /// The address that the last of them came from.
    pub address: IpAddr,
    /// The initiator that it named.
    pub initiator_name: String,
    /// The target that it wanted.
    pub target_name: String,
    /// How long.
    pub pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offers: Offers::default(),
            queue_depth: QUEUE_DEPTH_DEFAULT,
            sessions_max: SESSIONS_PER_CORE_MAX,
            login_timeout: LOGIN_TIMEOUT,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            chap_pauses: ChapPauses::default(),
            starts_closed: false,
            notices: None,
        }
    }
}

/// Who may log in, and how.
#[derive(Clone)]
pub enum Auth {
    /// Anybody who is on the allow list.
    None,
    /// CHAP: the initiator proves one of the users; where the user has a mutual secret the target
    /// proves itself as well.
    Chap(Vec<User>),
}

/// One CHAP user.
#[derive(Clone)]
pub struct User {
    /// The name that the initiator gives (CHAP_N).
    pub name: String,
    /// The initiator's secret.
    pub secret: Secret,
    /// The target's own name and secret, for mutual CHAP.
    pub mutual: Option<(String, Secret)>,
}

/// A target as it shall be from now on.
#[derive(Clone)]
pub struct TargetSetup {
    /// Its iSCSI name, in lower case.
    pub name: String,
    /// A text for people (TargetAlias).
    pub alias: Option<String>,
    /// The tag of the portal group that serves it.
    pub portal_group_tag: u16,
    /// Volume by LUN.
    pub luns: BTreeMap<u16, String>,
    /// Who may log in, and how.
    pub auth: Auth,
    /// Initiator names that may log in.
    pub allow: AllowList,
    /// Header digest.
    pub header_digest: DigestPolicy,
    /// Data digest.
    pub data_digest: DigestPolicy,
}

impl TargetSetup {
    /// True when `initiator` may log in.
    pub fn allows(&self, initiator: &str) -> bool {
        self.allow.allows(initiator)
    }
}

/// Initiator names, exact or ending in `*`; empty: anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<String>);

impl AllowList {
    /// True when `initiator` is on the list, or the list is empty. Names are in lower case.
    pub fn allows(&self, initiator: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => initiator.starts_with(prefix),
                None => initiator == entry,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_list_is_exact_unless_it_says_prefix() {
        let list = |entries: &[&str]| AllowList(entries.iter().map(|entry| (*entry).to_string()).collect());
        assert!(list(&[]).allows("iqn.x:a"));
        let listed = list(&["iqn.x:a", "iqn.y:*"]);
        assert!(listed.allows("iqn.x:a"));
        assert!(!listed.allows("iqn.x:ab"));
        assert!(!listed.allows("iqn.x:"));
        assert!(listed.allows("iqn.y:"));
        assert!(listed.allows("iqn.y:z"));
        assert!(!listed.allows("iqn.z:a"));
    }
}

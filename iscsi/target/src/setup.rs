//! What control hands over to make a volume or a target: everything opened, resolved and checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use iscsi_proto::chap::Secret;
use reactor::core::Core;
use volume::bdev::IoChannel;
use volume::metadata::MetadataStore;

/// Builds a back end on the core that will own it.
pub type OpenChannel = Box<dyn FnOnce(&Core) -> std::io::Result<Box<dyn IoChannel>> + Send>;
/// Builds the store of a volume's reservations on the core that will own it.
pub type OpenMetadata = Box<dyn FnOnce(&Core) -> std::io::Result<Box<dyn MetadataStore>> + Send>;

/// A volume with everything that blocks already done.
pub struct VolumeSetup {
    /// The volume's name.
    pub name: String,
    /// The back end.
    pub channel: OpenChannel,
    /// Where its reservations are kept.
    pub metadata: OpenMetadata,
    /// The reservations found there; empty for none.
    pub reservations: Vec<u8>,
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

/// Whether a digest is offered, or demanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    /// What the initiator prefers.
    #[default]
    Offered,
    /// CRC-32C or no session.
    Required,
}

/// A target as it shall be from now on.
#[derive(Clone)]
pub struct TargetSetup {
    /// Its iSCSI name.
    pub name: String,
    /// A text for people (TargetAlias).
    pub alias: Option<String>,
    /// The tag of the portal group that serves it.
    pub portal_group_tag: u16,
    /// Addresses told in SendTargets; empty: the address that the initiator reached.
    pub advertised: Vec<SocketAddr>,
    /// Volume by LUN.
    pub luns: BTreeMap<u16, String>,
    /// Who may log in, and how.
    pub auth: Auth,
    /// Initiator names that may log in, exact or ending in `*`; empty: anybody.
    pub allow: Vec<String>,
    /// Header digest.
    pub header_digest: DigestPolicy,
    /// Data digest.
    pub data_digest: DigestPolicy,
    /// Immediate and queued commands of one session, at most.
    pub queue_depth: u16,
}

impl TargetSetup {
    /// True when `initiator` is on the allow list, or the list is empty.
    pub fn allows(&self, initiator: &str) -> bool {
        self.allow.is_empty()
            || self.allow.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => initiator.starts_with(prefix),
                None => initiator == entry,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(allow: &[&str]) -> TargetSetup {
        TargetSetup {
            name: "iqn.2026-01.io.vega:t".into(),
            alias: None,
            portal_group_tag: 1,
            advertised: Vec::new(),
            luns: BTreeMap::new(),
            auth: Auth::None,
            allow: allow.iter().map(|s| (*s).to_string()).collect(),
            header_digest: DigestPolicy::Offered,
            data_digest: DigestPolicy::Offered,
            queue_depth: 128,
        }
    }

    #[test]
    fn the_allow_list_is_exact_unless_it_says_prefix() {
        assert!(setup(&[]).allows("iqn.x:a"));
        let listed = setup(&["iqn.x:a", "iqn.y:*"]);
        assert!(listed.allows("iqn.x:a"));
        assert!(!listed.allows("iqn.x:ab"));
        assert!(!listed.allows("iqn.x:"));
        assert!(listed.allows("iqn.y:"));
        assert!(listed.allows("iqn.y:z"));
        assert!(!listed.allows("iqn.z:a"));
    }
}

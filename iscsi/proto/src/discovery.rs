//! Answers to SendTargets (RFC 7143 appendix C): `TargetName` and `TargetAddress` records.

use std::fmt::Write;
use std::net::SocketAddr;

/// A list of targets with their portals, as the text that goes on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetRecords {
    text: String,
}

impl TargetRecords {
    /// An empty list: the answer about targets that the initiator may not see.
    pub const fn new() -> Self {
        Self { text: String::new() }
    }

    /// Starts the record of a target. The name is one of ours, so it was checked when it was made.
    pub fn target(&mut self, name: &str) -> &mut Self {
        assert!(!name.bytes().any(|byte| byte == 0), "a target's name holds no NUL");
        self.text.push_str("TargetName=");
        self.text.push_str(name);
        self.text.push('\0');
        self
    }

    /// Adds a portal to the target named last.
    pub fn address(&mut self, portal: SocketAddr, portal_group_tag: u16) -> &mut Self {
        assert!(!self.text.is_empty(), "an address belongs to a target");
        // `SocketAddr` prints IPv6 addresses in brackets, as the standard wants.
        write!(self.text, "TargetAddress={portal},{portal_group_tag}\0").expect("a String takes any text");
        self
    }

    /// The records as they are sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_targets_and_portals() {
        let mut records = TargetRecords::new();
        let v4 = "10.0.0.1:3260".parse().expect("an address");
        let v6 = "[fe80::1]:3260".parse().expect("an address");
        records.target("iqn.2026-01.io.example:a").address(v4, 1).address(v6, 2);
        records.target("iqn.2026-01.io.example:b");
        assert_eq!(
            records.as_bytes(),
            b"TargetName=iqn.2026-01.io.example:a\0TargetAddress=10.0.0.1:3260,1\0\
              TargetAddress=[fe80::1]:3260,2\0TargetName=iqn.2026-01.io.example:b\0"
        );
    }

    #[test]
    fn no_target_is_an_empty_answer() {
        assert!(TargetRecords::new().as_bytes().is_empty());
    }
}

//! `[iscsi]`: where initiators connect, what they are offered there, and how long they are waited for.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, default_tag};
use crate::model::ByteSize;

/// A portal (RFC 7143, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Address that discovery tells initiators, where it differs (NAT, a service address): `host:port`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Portal group that it belongs to.
    #[serde(default = "default_tag")]
    pub tag: u16,
}

impl PortalConfig {
    /// What discovery answers: `address:port,tag`.
    pub fn target_address(&self) -> String {
        match &self.advertise {
            Some(address) => format!("{address},{}", self.tag),
            None => format!("{},{}", self.listen, self.tag),
        }
    }
}

/// `[iscsi]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IscsiConfig {
    /// Where it listens.
    #[serde(rename = "portal")]
    pub portals: Vec<PortalConfig>,
    /// `[iscsi.limits]`.
    pub limits: IscsiLimits,
    /// `[iscsi.timeouts]`.
    pub timeouts: IscsiTimeouts,
    /// `[iscsi.chap]`.
    pub chap: IscsiChap,
}

impl Default for IscsiConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 3260));
        Self {
            portals: vec![PortalConfig { listen, advertise: None, tag: 1 }],
            limits: IscsiLimits::default(),
            timeouts: IscsiTimeouts::default(),
            chap: IscsiChap::default(),
        }
    }
}

impl IscsiConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_portals()?;
        self.limits.validate()?;
        self.chap.validate()?;
        self.timeouts.validate()
    }

    fn validate_portals(&self) -> Result<(), ConfigError> {
        let portals = &self.portals;
        ConfigError::check("iscsi.portal", !portals.is_empty(), || {
            "at least one portal is needed".to_owned()
        })?;
        for (at, portal) in portals.iter().enumerate() {
            ConfigError::check(format!("iscsi.portal[{at}].tag"), portal.tag != 0, || {
                "portal group tag 0 is reserved; use 1 to 65535".to_owned()
            })?;
            let twice =
                portals[..at].iter().any(|other| other.listen == portal.listen && portal.listen.port() != 0);
            ConfigError::check(format!("iscsi.portal[{at}].listen"), !twice, || {
                format!("{} is listed twice", portal.listen)
            })?;
        }
        Ok(())
    }
}

/// `[iscsi.limits]`: what the target offers at login (RFC 7143, section 13) and holds at most.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IscsiLimits {
    /// `MaxConnections`, 1 to 8.
    pub connections_per_session: u16,
    /// Sessions of the node.
    pub sessions: u32,
    /// `MaxRecvDataSegmentLength` that the target declares.
    pub max_recv_data_segment_bytes: ByteSize,
    /// `MaxBurstLength`.
    pub max_burst_bytes: ByteSize,
    /// `FirstBurstLength`.
    pub first_burst_bytes: ByteSize,
    /// `MaxOutstandingR2T`.
    pub outstanding_r2t: u16,
    /// Width of the command window of a session.
    pub queue_depth: u16,
}

impl Default for IscsiLimits {
    fn default() -> Self {
        Self {
            connections_per_session: 8,
            sessions: 4096,
            max_recv_data_segment_bytes: ByteSize(256 << 10),
            max_burst_bytes: ByteSize(1 << 20),
            first_burst_bytes: ByteSize(256 << 10),
            outstanding_r2t: 4,
            queue_depth: 128,
        }
    }
}

impl IscsiLimits {
    fn validate(&self) -> Result<(), ConfigError> {
        let connections = self.connections_per_session.into();
        ConfigError::check_ranges([("iscsi.limits.connections_per_session", connections, 1..=8, "")])?;
        // RFC 7143, sections 13.12 to 13.14: 512 to 2^24 - 1, and FirstBurstLength <= MaxBurstLength.
        for (key, value) in [
            ("iscsi.limits.max_recv_data_segment_bytes", self.max_recv_data_segment_bytes),
            ("iscsi.limits.max_burst_bytes", self.max_burst_bytes),
            ("iscsi.limits.first_burst_bytes", self.first_burst_bytes),
        ] {
            ConfigError::check(key, (512..1 << 24).contains(&value.0), || {
                format!("{value} is outside of 512 to 16777215 bytes (RFC 7143, section 13)")
            })?;
        }
        ConfigError::check(
            "iscsi.limits.first_burst_bytes",
            self.first_burst_bytes <= self.max_burst_bytes,
            || "it must not exceed iscsi.limits.max_burst_bytes (RFC 7143, section 13.14)".to_owned(),
        )?;
        ConfigError::check_ranges([
            ("iscsi.limits.queue_depth", self.queue_depth.into(), 1..=1024, ""),
            ("iscsi.limits.outstanding_r2t", self.outstanding_r2t.into(), 1..=64, ""),
            ("iscsi.limits.sessions", self.sessions, 1..=4096, ""),
        ])
    }
}

/// `[iscsi.timeouts]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IscsiTimeouts {
    /// A connection must have logged in by then, in seconds.
    pub login_s: u32,
    /// A connection that was silent for so long is asked with NOP-In, in seconds.
    pub nop_interval_s: u32,
    /// It is closed when it has not answered by then, in seconds.
    pub nop_answer_s: u32,
    /// How long commands in flight, of either protocol, may take when the node stops, in seconds.
    pub drain_s: u32,
}

impl Default for IscsiTimeouts {
    fn default() -> Self {
        Self { login_s: 15, nop_interval_s: 10, nop_answer_s: 20, drain_s: 10 }
    }
}

impl IscsiTimeouts {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check_ranges([
            ("iscsi.timeouts.login_s", self.login_s, 1..=300, " seconds"),
            ("iscsi.timeouts.nop_interval_s", self.nop_interval_s, 1..=3600, " seconds"),
            ("iscsi.timeouts.nop_answer_s", self.nop_answer_s, 1..=3600, " seconds"),
            // 0: what is in flight is not waited for.
            ("iscsi.timeouts.drain_s", self.drain_s, 0..=3600, " seconds"),
        ])
    }

    /// [`Self::drain_s`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain_s))
    }
}

/// `[iscsi.chap]`: how often an initiator may answer a challenge wrongly. Counted for each address, on each core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IscsiChap {
    /// With so many wrong answers in a row the first pause begins, in which none of that peer is looked at.
    pub failures_until_pause: u32,
    /// How long the first pause is, in seconds; each further wrong answer doubles it.
    pub pause_first_s: u32,
    /// The longest pause, in seconds.
    pub pause_longest_s: u32,
    /// Wrong answers are forgotten after so long without another, in seconds.
    pub forget_s: u32,
}

impl Default for IscsiChap {
    fn default() -> Self {
        Self { failures_until_pause: 5, pause_first_s: 1, pause_longest_s: 32, forget_s: 600 }
    }
}

impl IscsiChap {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check_ranges([
            ("iscsi.chap.failures_until_pause", self.failures_until_pause, 1..=1000, ""),
            // Who guesses has to wait, however short; who mistyped a secret waits for an hour at most.
            ("iscsi.chap.pause_first_s", self.pause_first_s, 1..=3600, " seconds"),
            ("iscsi.chap.pause_longest_s", self.pause_longest_s, 1..=3600, " seconds"),
            ("iscsi.chap.forget_s", self.forget_s, 1..=86_400, " seconds"),
        ])?;
        ConfigError::check("iscsi.chap.pause_longest_s", self.pause_first_s <= self.pause_longest_s, || {
            let (longest, first) = (self.pause_longest_s, self.pause_first_s);
            format!(
                "{longest} is shorter than iscsi.chap.pause_first_s, {first}; raise it or lower pause_first_s"
            )
        })?;
        ConfigError::check("iscsi.chap.forget_s", self.pause_longest_s < self.forget_s, || {
            let (forget, longest) = (self.forget_s, self.pause_longest_s);
            format!(
                "{forget} is not longer than iscsi.chap.pause_longest_s, {longest}, so that a pause would be forgotten \
                 before it ends; raise it or lower pause_longest_s"
            )
        })
    }
}

//! `[nvmf]`: where hosts connect over NVMe/TCP, and what they are offered there.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{ConfigError, default_tag};
use crate::limits::LISTENERS_MAX;
use crate::model::{ByteSize, Listener, PortId};

/// A listener (`[[nvmf.listener]]`). Discovery is served by each of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Address that the discovery log tells hosts, where it differs (NAT, a service address): `host:port`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Port identifier, 1 to 65535. ANA states are set by it: listeners with one tag are in one state.
    #[serde(default = "default_tag")]
    pub tag: u16,
}

impl ListenerConfig {
    /// What hosts are told of it; `bound` is where it really listens (port 0 resolved).
    pub fn listener(&self, bound: SocketAddr) -> Listener {
        let tag = PortId::try_from(u64::from(self.tag)).expect("tag 0 was refused with the configuration");
        Listener { tag, address: self.advertise.clone().unwrap_or_else(|| bound.to_string()) }
    }
}

/// `[nvmf]`. Without a listener there is no NVMe/TCP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvmfConfig {
    /// Where it listens.
    #[serde(rename = "listener")]
    pub listeners: Vec<ListenerConfig>,
    /// `[nvmf.limits]`.
    pub limits: NvmfLimits,
    /// `[nvmf.timeouts]`.
    pub timeouts: NvmfTimeouts,
}

impl Default for NvmfConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4420));
        Self {
            listeners: vec![ListenerConfig { listen, advertise: None, tag: default_tag() }],
            limits: NvmfLimits::default(),
            timeouts: NvmfTimeouts::default(),
        }
    }
}

/// `[nvmf.limits]`: what controllers offer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvmfLimits {
    /// I/O queues of one controller, beside its admin queue. Linux asks for one per processor and takes what it gets.
    /// All of them are served by one core, so that more of them bring nothing.
    pub io_queues_per_controller: u16,
    /// Entries of an I/O queue (`CAP.MQES` + 1). Linux asks for 128.
    pub queue_depth: u16,
    /// Write data that an I/O command may carry in its capsule (`IOCCSZ` without the 64 bytes of the command); what
    /// is larger is asked for with R2T, with 0 everything. Admin queues always take 8 KiB.
    pub in_capsule_data_bytes: ByteSize,
}

impl Default for NvmfLimits {
    fn default() -> Self {
        Self { io_queues_per_controller: 16, queue_depth: 128, in_capsule_data_bytes: ByteSize(16 << 10) }
    }
}

/// `[nvmf.timeouts]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvmfTimeouts {
    /// A connection must have sent ICReq and Connect by then, in seconds.
    pub connect_s: u32,
}

impl Default for NvmfTimeouts {
    fn default() -> Self {
        Self { connect_s: 15 }
    }
}

impl NvmfConfig {
    /// True when there is NVMe/TCP at all.
    pub fn enabled(&self) -> bool {
        !self.listeners.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_listeners()?;
        let (limits, timeouts) = (&self.limits, &self.timeouts);
        ConfigError::check_ranges([
            ("nvmf.limits.io_queues_per_controller", limits.io_queues_per_controller.into(), 1..=64, ""),
            // A submission queue has at least two entries; one command at a time would be no queue.
            ("nvmf.limits.queue_depth", limits.queue_depth.into(), 2..=1024, ""),
            ("nvmf.timeouts.connect_s", timeouts.connect_s, 1..=15, " seconds"),
        ])?;
        // IOCCSZ counts 16 bytes, and blocks are at least 512.
        let capsule = limits.in_capsule_data_bytes.0;
        ConfigError::check(
            "nvmf.limits.in_capsule_data_bytes",
            capsule <= 16 << 10 && capsule.is_multiple_of(512),
            || format!("{} is not a multiple of 512 up to 16KiB", limits.in_capsule_data_bytes),
        )
    }

    fn validate_listeners(&self) -> Result<(), ConfigError> {
        let count = self.listeners.len();
        ConfigError::check("nvmf.listener", count <= LISTENERS_MAX, || {
            format!("{count} listeners are too many; the limit is {LISTENERS_MAX}")
        })?;
        for (at, listener) in self.listeners.iter().enumerate() {
            ConfigError::check(format!("nvmf.listener[{at}].tag"), listener.tag != 0, || {
                "tag 0 is reserved; use 1 to 65535".to_owned()
            })?;
            let earlier = &self.listeners[..at];
            let twice = listener.listen.port() != 0 && earlier.iter().any(|o| o.listen == listener.listen);
            ConfigError::check(format!("nvmf.listener[{at}].listen"), !twice, || {
                format!("{} is listed twice", listener.listen)
            })?;
            if let Some(address) = &listener.advertise {
                let parts = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
                let good = matches!(parts, Some((host, Ok(1..))) if !host.is_empty());
                ConfigError::check(format!("nvmf.listener[{at}].advertise"), good, || {
                    format!("{address:?} is not host:port, for example \"192.0.2.10:4420\"")
                })?;
            }
        }
        Ok(())
    }
}

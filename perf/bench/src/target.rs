//! Where the load goes: addresses as URLs.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::error::BenchError;

const NVME_SCHEME: &str = "nvme-tcp://";
const ISCSI_SCHEME: &str = "iscsi://";
const NVME_PORT: u16 = 4420;
const ISCSI_PORT: u16 = 3260;

/// A namespace or a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `nvme-tcp://HOST[:PORT]/NQN[?nsid=N]`; the namespace is 1 unless said.
    NvmeTcp {
        /// Host and port.
        host: String,
        /// NQN of the subsystem.
        subsystem_nqn: String,
        /// Namespace Identifier.
        nsid: u32,
    },
    /// `iscsi://HOST[:PORT]/TARGET/LUN`.
    Iscsi {
        /// Host and port.
        host: String,
        /// iSCSI name of the target.
        name: String,
        /// Logical unit number.
        lun: u8,
    },
}

impl Target {
    /// The first address of its host. This waits for the resolver.
    pub fn resolve(&self) -> Result<SocketAddr, BenchError> {
        let (Self::NvmeTcp { host, .. } | Self::Iscsi { host, .. }) = self;
        let resolved = host.to_socket_addrs();
        let mut addresses = resolved.map_err(|source| BenchError::Resolve { host: host.clone(), source })?;
        addresses.next().ok_or_else(|| BenchError::NoAddress { host: host.clone() })
    }
}

impl FromStr for Target {
    type Err = BenchError;

    fn from_str(input: &str) -> Result<Self, BenchError> {
        let parsed = match (input.strip_prefix(NVME_SCHEME), input.strip_prefix(ISCSI_SCHEME)) {
            (Some(rest), _) => nvme_tcp(rest),
            (_, Some(rest)) => iscsi(rest),
            _ => Err("it begins neither with nvme-tcp:// nor with iscsi://"),
        };
        parsed.map_err(|reason| BenchError::Target { input: input.to_owned(), reason })
    }
}

fn nvme_tcp(rest: &str) -> Result<Target, &'static str> {
    let (host, path) = rest.split_once('/').ok_or("the NQN is missing")?;
    let (nqn, query) = path.split_once('?').unwrap_or((path, ""));
    if !nqn.starts_with("nqn.") || nqn.len() > nvme_spec::NQN_BYTES_MAX {
        return Err("what follows the host is no NQN");
    }
    let mut nsid = 1;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let value = pair.strip_prefix("nsid=").ok_or("only nsid may follow the question mark")?;
        nsid = value.parse().map_err(|_| "nsid is no number")?;
    }
    if [0, nvme_spec::NSID_ALL].contains(&nsid) {
        return Err("nsid is not one of a namespace");
    }
    Ok(Target::NvmeTcp { host: with_port(host, NVME_PORT)?, subsystem_nqn: nqn.to_owned(), nsid })
}

fn iscsi(rest: &str) -> Result<Target, &'static str> {
    let (host, path) = rest.split_once('/').ok_or("the target's name is missing")?;
    let (name, lun) = path.rsplit_once('/').ok_or("the LUN is missing")?;
    if !["iqn.", "eui.", "naa."].iter().any(|start| name.starts_with(start)) || name.len() > 223 {
        return Err("what follows the host is no iSCSI name");
    }
    let lun = lun.parse().map_err(|_| "the LUN is no number from 0 to 255")?;
    Ok(Target::Iscsi { host: with_port(host, ISCSI_PORT)?, name: name.to_owned(), lun })
}

/// Adds the port that is meant when none is given. IPv6 addresses stand in brackets.
fn with_port(host: &str, port: u16) -> Result<String, &'static str> {
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    let is_bracketed = host.starts_with('[') == host.contains(']');
    if host.is_empty() || !is_bracketed || after_address.matches(':').count() > 1 {
        return Err("the host is missing or malformed");
    }
    match after_address.rsplit_once(':') {
        Some((_, given)) if given.parse::<u16>().is_ok_and(|port| port > 0) => Ok(host.to_owned()),
        Some(_) => Err("the port is no number from 1 to 65535"),
        None => Ok(format!("{host}:{port}")),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvmeTcp { host, subsystem_nqn, nsid } => {
                write!(f, "{NVME_SCHEME}{host}/{subsystem_nqn}?nsid={nsid}")
            }
            Self::Iscsi { host, name, lun } => write!(f, "{ISCSI_SCHEME}{host}/{name}/{lun}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (input, written) in [
            ("nvme-tcp://h/nqn.2026-11.io.vega:a", "nvme-tcp://h:4420/nqn.2026-11.io.vega:a?nsid=1"),
            ("nvme-tcp://[::1]:5/nqn.a:b/c?nsid=7", "nvme-tcp://[::1]:5/nqn.a:b/c?nsid=7"),
            ("nvme-tcp://[::1]/nqn.a", "nvme-tcp://[::1]:4420/nqn.a?nsid=1"),
            ("iscsi://1.2.3.4/iqn.2026-11.io.vega:a/3", "iscsi://1.2.3.4:3260/iqn.2026-11.io.vega:a/3"),
        ] {
            let target: Target = input.parse().expect(input);
            assert_eq!(target.to_string(), written);
            assert_eq!(written.parse::<Target>().expect(written), target);
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_reason() {
        for input in [
            "",
            "http://h/x",
            "nvme-tcp://h",
            "nvme-tcp:///nqn.a",
            "nvme-tcp://h/iqn.a",
            "nvme-tcp://h/nqn.a?nsid=0",
            "nvme-tcp://h/nqn.a?nsid=x",
            "nvme-tcp://h/nqn.a?ns=1",
            "nvme-tcp://h:0/nqn.a",
            "nvme-tcp://h:66000/nqn.a",
            "nvme-tcp://::1/nqn.a",
            "nvme-tcp://[::1/nqn.a",
            "iscsi://h/iqn.a",
            "iscsi://h/iqn.a/256",
            "iscsi://h/nqn.a/0",
        ] {
            let error = input.parse::<Target>().expect_err(input);
            assert!(error.is_usage(), "{error}");
        }
    }
}

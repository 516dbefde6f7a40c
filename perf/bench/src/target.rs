//! Where the load goes: addresses as URLs; the same as words are in [`words`](crate::words).

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use nvme_pci::PciAddress;

use crate::error::BenchError;
use crate::limits::EMULATED_BYTES_MAX;

const NVME_SCHEME: &str = "nvme-tcp://";
const ISCSI_SCHEME: &str = "iscsi://";
const PCIE_SCHEME: &str = "nvme-pcie://";
const EMULATED_SCHEME: &str = "nvme-emulated://";
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
    /// `nvme-pcie://ADDRESS[?nsid=N]`: a controller of this machine, driven from user space.
    Pcie {
        /// Its place on the PCI buses.
        address: PciAddress,
        /// Namespace Identifier.
        nsid: u32,
    },
    /// `nvme-emulated://SIZE[?block=512]`: a controller in this process, for the same driver.
    Emulated {
        /// Bytes of its namespace.
        size_bytes: u64,
        /// Bytes of a logical block: 512 or 4096.
        block_bytes: u32,
    },
}

impl Target {
    /// The first address of its host; `None` where there is no host. This waits for the resolver.
    pub fn resolve(&self) -> Result<Option<SocketAddr>, BenchError> {
        let (Self::NvmeTcp { host, .. } | Self::Iscsi { host, .. }) = self else { return Ok(None) };
        let resolved = host.to_socket_addrs();
        let mut addresses = resolved.map_err(|source| BenchError::Resolve { host: host.clone(), source })?;
        addresses.next().map(Some).ok_or_else(|| BenchError::NoAddress { host: host.clone() })
    }

    /// True when the driver of this process drives it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Pcie { .. } | Self::Emulated { .. })
    }
}

/// Reads what follows a scheme; else says what is wrong with it.
type Reader = fn(&str) -> Result<Target, &'static str>;

impl FromStr for Target {
    type Err = BenchError;

    fn from_str(input: &str) -> Result<Self, BenchError> {
        let schemes: [(&str, Reader); 4] = [
            (NVME_SCHEME, nvme_tcp),
            (ISCSI_SCHEME, iscsi),
            (PCIE_SCHEME, pcie),
            (EMULATED_SCHEME, |rest| {
                let (size, query) = rest.split_once('?').unwrap_or((rest, ""));
                let block = query.strip_prefix("block=");
                if block.is_none() && !query.is_empty() {
                    return Err("only block may follow the question mark");
                }
                emulated(size, block)
            }),
        ];
        let found = schemes.iter().find_map(|(scheme, read)| input.strip_prefix(scheme).map(read));
        let parsed = found.unwrap_or(Err("it begins with none of the known schemes"));
        parsed.map_err(|reason| BenchError::Target { input: input.to_owned(), reason })
    }
}

fn nvme_tcp(rest: &str) -> Result<Target, &'static str> {
    let (host, path) = rest.split_once('/').ok_or("the NQN is missing")?;
    let (nqn, query) = path.split_once('?').unwrap_or((path, ""));
    check_nqn(nqn)?;
    let nsid = nsid_of_query(query)?;
    Ok(Target::NvmeTcp { host: with_port(host, NVME_PORT)?, subsystem_nqn: nqn.to_owned(), nsid })
}

fn pcie(rest: &str) -> Result<Target, &'static str> {
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok(Target::Pcie { address: pci_address(address)?, nsid: nsid_of_query(query)? })
}

/// A PCI address. fio cuts file names at colons, so the words of its plugins have points instead.
pub(crate) fn pci_address(text: &str) -> Result<PciAddress, &'static str> {
    let with_colons = || match text.rsplit_once('.') {
        Some((before, function)) => format!("{}.{function}", before.replace('.', ":")),
        None => text.to_owned(),
    };
    with_colons().parse().map_err(|_| "the address is no PCI address such as 0000:01:00.0")
}

/// An emulated controller's size and blocks.
pub(crate) fn emulated(size: &str, block: Option<&str>) -> Result<Target, &'static str> {
    let block_bytes = match block {
        None | Some("4096") => 4096,
        Some("512") => 512,
        Some(_) => return Err("the blocks of an emulated controller are of 512 or 4096 bytes"),
    };
    let size_bytes = size_bytes(size).ok_or("the size is no number of bytes such as 1GiB")?;
    if !size_bytes.is_multiple_of(4096) || !(1..=EMULATED_BYTES_MAX).contains(&size_bytes) {
        return Err("the size is no multiple of 4 KiB, or more than 1 TiB");
    }
    Ok(Target::Emulated { size_bytes, block_bytes })
}

const UNITS: [(&str, u32); 5] = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Bytes with a binary unit, written out or as its first letter.
fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let is = |name: &str| {
        unit.eq_ignore_ascii_case(name) || unit.eq_ignore_ascii_case(name.get(..1).unwrap_or(""))
    };
    let (_, shift) = UNITS.iter().find(|(name, _)| is(name))?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |shift: u32| self.0.is_multiple_of(1 << shift) && self.0 > 0;
        let (name, shift) = UNITS.iter().rev().find(|(_, shift)| whole(*shift)).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", self.0 >> shift)
    }
}

pub(crate) fn check_nqn(nqn: &str) -> Result<(), &'static str> {
    let is_one = nqn.starts_with("nqn.") && nqn.len() <= nvme_spec::NQN_BYTES_MAX;
    if is_one { Ok(()) } else { Err("the subsystem's name is no NQN") }
}

pub(crate) fn nsid(text: &str) -> Result<u32, &'static str> {
    let nsid = text.parse().map_err(|_| "the namespace identifier is no number")?;
    if [0, nvme_spec::NSID_ALL].contains(&nsid) { Err("no namespace has that identifier") } else { Ok(nsid) }
}

fn nsid_of_query(query: &str) -> Result<u32, &'static str> {
    let mut found = 1;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        found = nsid(pair.strip_prefix("nsid=").ok_or("only nsid may follow the question mark")?)?;
    }
    Ok(found)
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
pub(crate) fn with_port(host: &str, port: u16) -> Result<String, &'static str> {
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
            Self::Pcie { address, nsid } => write!(f, "{PCIE_SCHEME}{address}?nsid={nsid}"),
            Self::Emulated { size_bytes, block_bytes } => {
                write!(f, "{EMULATED_SCHEME}{}?block={block_bytes}", Size(*size_bytes))
            }
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
            ("nvme-pcie://01:00.0", "nvme-pcie://0000:01:00.0?nsid=1"),
            ("nvme-pcie://0000.01.00.0?nsid=2", "nvme-pcie://0000:01:00.0?nsid=2"),
            ("nvme-emulated://1g", "nvme-emulated://1GiB?block=4096"),
            ("nvme-emulated://1536kib?block=512", "nvme-emulated://1536KiB?block=512"),
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
            "nvme-pcie://",
            "nvme-pcie://1",
            "nvme-pcie://01:00.0?nsid=0",
            "nvme-emulated://",
            "nvme-emulated://0",
            "nvme-emulated://1XiB",
            "nvme-emulated://4097",
            "nvme-emulated://2TiB",
            "nvme-emulated://1GiB?nsid=1",
            "nvme-emulated://1GiB?block=8192",
            "iscsi://h/iqn.a",
            "iscsi://h/iqn.a/256",
            "iscsi://h/nqn.a/0",
        ] {
            let error = input.parse::<Target>().expect_err(input);
            assert!(error.is_usage(), "{error}");
        }
    }
}

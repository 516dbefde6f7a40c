//! File names: the words of an NVMe transport identifier.

use std::net::{IpAddr, SocketAddr};

/// What a file name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filename {
    /// Where the controller listens.
    pub address: SocketAddr,
    /// NQN of the subsystem.
    pub subsystem_nqn: String,
    /// Namespace Identifier.
    pub nsid: u32,
    /// Host NQN, when one is given.
    pub host_nqn: Option<String>,
    /// Header digests.
    pub header_digest: bool,
    /// Data digests.
    pub data_digest: bool,
}

/// Why a file name means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilenameError {
    /// A word is not KEY=VALUE.
    #[error("the file name is not made of KEY=VALUE words")]
    Word,
    /// A key that is not known.
    #[error("a key is none of trtype, adrfam, traddr, trsvcid, subnqn, hostnqn, ns, hdgst, ddgst")]
    Key,
    /// Another transport.
    #[error("trtype must be tcp")]
    Transport,
    /// No address, or none that is understood.
    #[error("traddr must be an IPv4 or IPv6 address, trsvcid a port")]
    Address,
    /// No subsystem.
    #[error("subnqn is missing")]
    Subsystem,
    /// No namespace identifier.
    #[error("ns must be a namespace identifier")]
    Namespace,
    /// Neither on nor off.
    #[error("hdgst and ddgst are 0 or 1")]
    Digest,
}

impl Filename {
    /// Reads a file name.
    pub fn parse(text: &str) -> Result<Self, FilenameError> {
        let (mut address, mut port, mut nqn, mut host_nqn) = (None, 4420, None, None);
        let (mut nsid, mut header_digest, mut data_digest) = (1, false, false);
        for word in text.split_whitespace() {
            let (key, value) = word.split_once(['=', ':']).ok_or(FilenameError::Word)?;
            match key.to_ascii_lowercase().as_str() {
                "trtype" if value.eq_ignore_ascii_case("tcp") => {}
                "trtype" => return Err(FilenameError::Transport),
                // The address says it.
                "adrfam" => {}
                "traddr" => {
                    address = Some(value.parse::<IpAddr>().map_err(|_| FilenameError::Address)?);
                }
                "trsvcid" => port = value.parse().map_err(|_| FilenameError::Address)?,
                "subnqn" => nqn = Some(value.to_owned()),
                "hostnqn" => host_nqn = Some(value.to_owned()),
                "ns" => nsid = value.parse().map_err(|_| FilenameError::Namespace)?,
                "hdgst" => header_digest = switch(value)?,
                "ddgst" => data_digest = switch(value)?,
                _ => return Err(FilenameError::Key),
            }
        }
        if [0, u32::MAX].contains(&nsid) {
            return Err(FilenameError::Namespace);
        }
        Ok(Self {
            address: SocketAddr::new(address.ok_or(FilenameError::Address)?, port),
            subsystem_nqn: nqn.ok_or(FilenameError::Subsystem)?,
            nsid,
            host_nqn,
            header_digest,
            data_digest,
        })
    }
}

fn switch(value: &str) -> Result<bool, FilenameError> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(FilenameError::Digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_those_of_spdk() {
        let name = Filename::parse(
            "trtype=TCP adrfam=IPv4 traddr=127.0.0.1 trsvcid=4421 subnqn=nqn.2026-11.io.vega:a ns=2 ddgst=1",
        )
        .expect("it is whole");
        assert_eq!(name.address.to_string(), "127.0.0.1:4421");
        assert_eq!((name.subsystem_nqn.as_str(), name.nsid), ("nqn.2026-11.io.vega:a", 2));
        assert_eq!((name.header_digest, name.data_digest), (false, true));
        for (wrong, error) in [
            ("traddr=127.0.0.1", FilenameError::Subsystem),
            ("subnqn=nqn.a", FilenameError::Address),
            ("trtype=rdma traddr=127.0.0.1 subnqn=nqn.a", FilenameError::Transport),
            ("traddr=host subnqn=nqn.a", FilenameError::Address),
            ("traddr=127.0.0.1 subnqn=nqn.a ns=0", FilenameError::Namespace),
            ("traddr=127.0.0.1 subnqn=nqn.a path=1", FilenameError::Key),
            ("/dev/nvme0n1", FilenameError::Word),
        ] {
            assert_eq!(Filename::parse(wrong), Err(error), "{wrong}");
        }
    }
}

//! Targets as the words of an NVMe transport identifier, as SPDK's programs and fio plugins take them:
//! `trtype=pcie traddr=0000:01:00.0 ns=1`, `trtype=tcp traddr=192.0.2.1 trsvcid=4420 subnqn=… ns=1`, and
//! `trtype=emulated size=1GiB`. Keys stand before `=` or `:`, in any case.

use crate::error::BenchError;
use crate::plan::Plan;
use crate::target::{Target, emulated, pci_address, with_port};

const TCP_PORT: &str = "4420";

/// What the words say, as far as they have been read.
#[derive(Default)]
struct Words<'a> {
    transport: Option<Transport>,
    address: Option<&'a str>,
    service: Option<&'a str>,
    subsystem_nqn: Option<&'a str>,
    nsid: Option<&'a str>,
    size: Option<&'a str>,
    block: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Pcie,
    Emulated,
}

/// True when the text is made of words rather than a URL.
pub(crate) fn is_words(text: &str) -> bool {
    text.split_whitespace().any(|word| word.split_once(['=', ':']).is_some_and(|(key, _)| is_key(key)))
}

fn is_key(key: &str) -> bool {
    ["trtype", "traddr", "subnqn"].iter().any(|known| key.eq_ignore_ascii_case(known))
}

/// The target of the words, and what else they say of the plan.
pub(crate) fn read(text: &str) -> Result<Plan, BenchError> {
    let mut plan = Plan::new(Target::Emulated { size_bytes: 0, block_bytes: 0 });
    let refused = |reason| BenchError::Target { input: text.to_owned(), reason };
    let words = collect(text, &mut plan).map_err(refused)?;
    plan.target = words.target().map_err(refused)?;
    Ok(plan)
}

fn collect<'a>(text: &'a str, plan: &mut Plan) -> Result<Words<'a>, &'static str> {
    let mut words = Words::default();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once(['=', ':']).ok_or("a word is not KEY=VALUE")?;
        match key.to_ascii_lowercase().as_str() {
            "trtype" => words.transport = Some(transport(value)?),
            // The address says it.
            "adrfam" => {}
            "traddr" => words.address = Some(value),
            "trsvcid" => words.service = Some(value),
            "subnqn" => words.subsystem_nqn = Some(value),
            "ns" => words.nsid = Some(value),
            "size" => words.size = Some(value),
            "block" => words.block = Some(value),
            "hostnqn" => plan.client_name = Some(value.to_owned()),
            "hdgst" => plan.header_digest = switch(value)?,
            "ddgst" => plan.data_digest = switch(value)?,
            "confirm_serial" => plan.confirm_serial = Some(value.to_owned()),
            "no_iommu" => plan.no_iommu = switch(value)?,
            _ => {
                return Err(
                    "a key is none of trtype, adrfam, traddr, trsvcid, subnqn, hostnqn, ns, hdgst, ddgst, \
                            confirm_serial, no_iommu, size, block",
                );
            }
        }
    }
    Ok(words)
}

fn transport(value: &str) -> Result<Transport, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Transport::Tcp),
        "pcie" => Ok(Transport::Pcie),
        "emulated" => Ok(Transport::Emulated),
        _ => Err("trtype is none of tcp, pcie, emulated"),
    }
}

fn switch(value: &str) -> Result<bool, &'static str> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("hdgst, ddgst and no_iommu are 0 or 1"),
    }
}

impl Words<'_> {
    fn target(&self) -> Result<Target, &'static str> {
        let nsid = crate::target::nsid(self.nsid.unwrap_or("1"))?;
        // SPDK's plugins take words without a transport for TCP's when they name a subsystem.
        match self.transport.unwrap_or(Transport::Tcp) {
            Transport::Emulated if nsid != 1 => Err("an emulated controller has namespace 1 only"),
            Transport::Emulated => emulated(self.size.ok_or("size is missing")?, self.block),
            _ if self.size.is_some() || self.block.is_some() => {
                Err("size and block are of emulated controllers")
            }
            Transport::Pcie => {
                let address = pci_address(self.address.ok_or("traddr is missing")?)?;
                Ok(Target::Pcie { address, nsid })
            }
            Transport::Tcp => {
                let address = self.address.ok_or("traddr is missing")?;
                let is_bare = address.contains(':') && !address.starts_with('[');
                let host = if is_bare { format!("[{address}]") } else { address.to_owned() };
                let host = format!("{host}:{}", self.service.unwrap_or(TCP_PORT));
                let nqn = self.subsystem_nqn.ok_or("subnqn is missing")?;
                crate::target::check_nqn(nqn)?;
                Ok(Target::NvmeTcp { host: with_port(&host, 0)?, subsystem_nqn: nqn.to_owned(), nsid })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_spdk() {
        let shown = |text: &str| read(text).expect(text).target.to_string();
        assert_eq!(shown("trtype:PCIe traddr:0000:04:00.0"), "nvme-pcie://0000:04:00.0?nsid=1");
        assert_eq!(shown("trtype=pcie traddr=0000.04.00.0 ns=3"), "nvme-pcie://0000:04:00.0?nsid=3");
        assert_eq!(shown("trtype=emulated size=64MiB block=512"), "nvme-emulated://64MiB?block=512");
        let tcp = read(
            "trtype=TCP adrfam=IPv4 traddr=127.0.0.1 trsvcid=4421 subnqn=nqn.2026-11.io.vega:a ns=2 ddgst=1 hostnqn=nqn.h",
        )
        .expect("it is whole");
        assert_eq!(tcp.target.to_string(), "nvme-tcp://127.0.0.1:4421/nqn.2026-11.io.vega:a?nsid=2");
        assert_eq!((tcp.header_digest, tcp.data_digest), (false, true));
        assert_eq!(tcp.client_name.as_deref(), Some("nqn.h"));
        assert_eq!(shown("traddr=::1 subnqn=nqn.a"), "nvme-tcp://[::1]:4420/nqn.a?nsid=1");
        let pcie = read("trtype=pcie traddr=01:00.0 confirm_serial=S1 no_iommu=1").expect("it is whole");
        assert_eq!((pcie.confirm_serial.as_deref(), pcie.no_iommu), (Some("S1"), true));
    }

    #[test]
    fn wrong_words_are_refused_with_a_reason() {
        for (wrong, reason) in [
            ("traddr=127.0.0.1", "subnqn"),
            ("subnqn=nqn.a", "traddr"),
            ("trtype=rdma traddr=127.0.0.1 subnqn=nqn.a", "trtype"),
            ("traddr=127.0.0.1 trsvcid=0 subnqn=nqn.a", "port"),
            ("traddr=127.0.0.1 subnqn=nqn.a ns=0", "namespace"),
            ("traddr=127.0.0.1 subnqn=nqn.a path=1", "key"),
            ("traddr=127.0.0.1 subnqn=nqn.a size=1GiB", "emulated"),
            ("trtype=pcie", "traddr"),
            ("trtype=pcie traddr=4", "PCI"),
            ("trtype=emulated", "size"),
            ("trtype=emulated size=1GiB ns=2", "namespace 1"),
            ("trtype=emulated size=1GiB block=1024", "512 or 4096"),
            ("trtype=pcie traddr=01:00.0 /dev/nvme0", "KEY=VALUE"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.is_usage() && error.to_string().contains(reason), "{wrong}: {error}");
        }
        assert!(!is_words("nvme-tcp://h/nqn.trtype") && !is_words("/dev/nvme0n1") && is_words("TRTYPE:PCIe"));
    }
}

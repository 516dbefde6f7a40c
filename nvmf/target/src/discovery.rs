//! The discovery log page: what a host may reach, and where (NVMe base, section 5.1.12.3.1).

use std::net::SocketAddr;

use nvme_spec::DISCOVERY_NQN;
use nvme_spec::discovery::{
    AddressFamily, DiscoveryEntry, DiscoveryHeader, EFLAGS_DUPLICATE_RETURNED_INFORMATION,
    EFLAGS_EXPLICIT_PERSISTENT_CONNECTION, SubsystemType, TREQ_DISABLE_SQ_FLOW_CONTROL, TcpSecurity,
    TransportType, pad_text,
};
use nvme_spec::fabrics::{CNTLID_DYNAMIC, nqn_field};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use crate::limits::ADMIN_QUEUE_ENTRIES_MAX;
use crate::message::{Directory, ListenerAddress};

/// The page for `host`, which reached us at `reached` (port `port_id`).
pub(crate) fn log_page(directory: &Directory, host: &str, reached: SocketAddr, port_id: u16) -> Vec<u8> {
    let own = ListenerAddress { address: reached, port_id };
    let mut entries = vec![entry(DISCOVERY_NQN, own, reached, SubsystemType::CURRENT_DISCOVERY)];
    for (nqn, subsystem) in directory.subsystems.iter().filter(|(_, subsystem)| subsystem.allows(host)) {
        for listener in &subsystem.listeners {
            entries.push(entry(nqn, *listener, reached, SubsystemType::NVM));
        }
    }
    let header = DiscoveryHeader {
        genctr: U64::new(directory.generation),
        numrec: U64::new(entries.len() as u64),
        ..DiscoveryHeader::default()
    };
    let mut page = header.as_bytes().to_vec();
    page.extend_from_slice(entries.as_bytes());
    page
}

fn entry(
    nqn: &str,
    listener: ListenerAddress,
    reached: SocketAddr,
    subtype: SubsystemType,
) -> DiscoveryEntry {
    let mut address = listener.address;
    if address.ip().is_unspecified() {
        address.set_ip(reached.ip());
    }
    let (adrfam, traddr) = match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => (AddressFamily::IPV4, ip.to_string()),
        std::net::IpAddr::V6(ip) => (AddressFamily::IPV6, ip.to_string()),
    };
    let mut tsas = [0; 256];
    tsas[0] = TcpSecurity::NONE.0;
    let eflags = match subtype {
        SubsystemType::CURRENT_DISCOVERY => {
            EFLAGS_DUPLICATE_RETURNED_INFORMATION | EFLAGS_EXPLICIT_PERSISTENT_CONNECTION
        }
        _ => 0,
    };
    DiscoveryEntry {
        trtype: TransportType::TCP,
        adrfam,
        subtype,
        // Nothing is said about a secure channel, because none is offered: hosts take "not required" for an offer of TLS.
        treq: TREQ_DISABLE_SQ_FLOW_CONTROL,
        portid: U16::new(listener.port_id),
        cntlid: U16::new(CNTLID_DYNAMIC),
        asqsz: U16::new(ADMIN_QUEUE_ENTRIES_MAX),
        eflags: U16::new(eflags),
        trsvcid: pad_text(&address.port().to_string()).expect("a port number fits"),
        subnqn: nqn_field(nqn).unwrap_or([0; 256]),
        traddr: pad_text(&traddr).expect("an address fits"),
        tsas,
        ..DiscoveryEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::DirectoryEntry;
    use crate::setup::AllowList;
    use nvme_spec::discovery::padded_text;
    use nvme_spec::fabrics::nqn;
    use zerocopy::FromBytes;

    fn directory() -> Directory {
        let listener =
            |address: &str, port_id| ListenerAddress { address: address.parse().unwrap(), port_id };
        let entry = |allow: &[&str], listeners| DirectoryEntry {
            core: 0,
            allow: AllowList(allow.iter().map(|nqn| (*nqn).to_string()).collect()),
            listeners,
        };
        let two = vec![listener("0.0.0.0:4420", 1), listener("[2001:db8::1]:4421", 2)];
        let subsystems = [
            ("nqn.x:open".to_string(), entry(&[], two)),
            ("nqn.x:closed".to_string(), entry(&["nqn.x:friend"], vec![listener("10.0.0.9:4420", 1)])),
        ];
        Directory { generation: 7, subsystems: subsystems.into() }
    }

    fn read(host: &str) -> (DiscoveryHeader, Vec<DiscoveryEntry>) {
        let page = log_page(&directory(), host, "10.0.0.1:4420".parse().unwrap(), 1);
        let (header, rest) = DiscoveryHeader::read_from_prefix(&page).unwrap();
        let entries = <[DiscoveryEntry]>::ref_from_bytes(rest).unwrap().to_vec();
        (header, entries)
    }

    #[test]
    fn each_listener_is_an_entry_and_an_unspecified_address_is_the_one_reached() {
        let (header, entries) = read("nqn.x:anybody");
        assert_eq!((header.genctr.get(), header.numrec.get()), (7, 3));
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| {
                let text = |field| padded_text(field).unwrap().to_string();
                (nqn(&entry.subnqn).unwrap().to_string(), text(&entry.traddr), text(&entry.trsvcid))
            })
            .collect();
        let expect = |nqn: &str, address: &str, port: &str| (nqn.into(), address.into(), port.into());
        assert_eq!(
            seen,
            [
                expect(DISCOVERY_NQN, "10.0.0.1", "4420"),
                expect("nqn.x:open", "10.0.0.1", "4420"),
                expect("nqn.x:open", "2001:db8::1", "4421"),
            ]
        );
        assert_eq!(entries[2].adrfam, AddressFamily::IPV6);
        assert!(
            entries.iter().all(|entry| entry.treq == TREQ_DISABLE_SQ_FLOW_CONTROL),
            "no TLS is spoken of"
        );
        assert_eq!(entries[0].subtype, SubsystemType::CURRENT_DISCOVERY);
    }

    #[test]
    fn a_host_sees_only_what_it_may_use() {
        assert_eq!(read("nqn.x:friend").1.len(), 4);
        assert!(read("nqn.x:stranger").1.iter().all(|entry| nqn(&entry.subnqn) != Some("nqn.x:closed")));
    }
}

//! The admin commands (Base 5).

use nvme_spec::admin::{GetLogPage, Identify};
use nvme_spec::identify::{
    Cns, IdentifyController, IdentifyNamespace, NamespaceIdType, NamespaceList, namespace_descriptors,
};
use nvme_spec::log::{LogPageId, SmartHealth};
use nvme_spec::{AdminOpcode, NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::FromBytes;

use crate::nvm::io;
use crate::rig::{Rig, config};

fn identify(rig: &mut Rig, command: Identify) -> Result<Vec<u8>, Status> {
    rig.fill(0, &[0xee; 4096]);
    let sqe = rig.with_data(command.sqe(), 0);
    let status = rig.status_of(0, sqe);
    if status.is_success() { Ok(rig.seen(0, 4096)) } else { Err(status) }
}

pub fn log_page(rig: &mut Rig, lid: LogPageId, length_bytes: u64, retain_event: bool) -> Vec<u8> {
    let command = GetLogPage { lid, length_bytes, retain_event, nsid: NSID_ALL, ..GetLogPage::default() };
    let sqe = rig.with_data(command.sqe(), 0);
    rig.admin(sqe);
    rig.seen(0, length_bytes as usize)
}

#[test]
fn identify_controller_says_what_it_can() {
    let mut rig = Rig::ready(config());
    let command = Identify { cns: Cns::CONTROLLER, ..Identify::default() };
    let data = identify(&mut rig, command).expect("every controller has it");
    let data = IdentifyController::read_from_bytes(&data).expect("4096 bytes");
    assert_eq!(&data.sn, b"VEGA0000000000000001");
    assert_eq!((data.mdts, data.sqes, data.cqes, data.nn.get(), data.vwc), (8, 0x66, 0x44, 16, 0b111));
    assert_eq!((data.awun.get(), data.awupf.get(), data.fuses.get(), data.oacs.get()), (7, 0, 1, 0x102));
    assert_eq!((data.oncs.get(), data.aerl, data.acl), (0b1001_1101, 15, 3));
}

#[test]
fn identify_namespace_lists_and_descriptors_agree() {
    let mut rig = Rig::ready(config());
    let list = |rig: &mut Rig, nsid| {
        let data = identify(rig, Identify { cns: Cns::ACTIVE_NAMESPACE_LIST, nsid, ..Identify::default() });
        let list = NamespaceList::read_from_bytes(&data.expect("a list")).expect("4096 bytes");
        list.iter().collect::<Vec<_>>()
    };
    assert_eq!((list(&mut rig, 0), list(&mut rig, 1), list(&mut rig, 2)), (vec![1, 2], vec![2], vec![]));
    for (nsid, blocks, block_bytes) in [(1, 32768, 512), (2, 4096, 4096)] {
        let data = identify(&mut rig, Identify { cns: Cns::NAMESPACE, nsid, ..Identify::default() });
        let data = IdentifyNamespace::read_from_bytes(&data.expect("active")).expect("4096 bytes");
        assert_eq!((data.nsze_blocks.get(), data.block_bytes()), (blocks, Some(block_bytes)));
        let list =
            identify(&mut rig, Identify { cns: Cns::NAMESPACE_DESCRIPTOR_LIST, nsid, ..Identify::default() });
        let list = list.expect("active");
        let uuid = namespace_descriptors(&list).find(|(kind, _)| *kind == NamespaceIdType::UUID);
        assert_eq!(uuid.map(|(_, id)| id), Some(&data.nguid[..]));
    }
    // Inactive is zeros; what cannot be is an error.
    let inactive = Identify { cns: Cns::NAMESPACE, nsid: 9, ..Identify::default() };
    assert_eq!(identify(&mut rig, inactive), Ok(vec![0; 4096]));
    for nsid in [0, 17, NSID_ALL] {
        let wrong = Identify { nsid, ..inactive };
        assert_eq!(identify(&mut rig, wrong), Err(Status::INVALID_NAMESPACE_OR_FORMAT));
    }
    let unknown = Identify { cns: Cns(0x7f), ..Identify::default() };
    assert_eq!(identify(&mut rig, unknown), Err(Status::INVALID_FIELD));
}

#[test]
fn smart_counts_what_was_done() {
    let mut rig = Rig::with_io(config(), 8);
    let write = rig.with_data(io(NvmOpcode::WRITE, 2, 0, 2), 0);
    let read = rig.with_data(io(NvmOpcode::READ, 2, 0, 1), 0);
    for sqe in [write, write, read] {
        assert!(rig.status_of(1, sqe).is_success());
    }
    let page = log_page(&mut rig, LogPageId::SMART, 512, false);
    let page = SmartHealth::read_from_bytes(&page).expect("512 bytes");
    assert_eq!((page.host_write_commands.get(), page.host_read_commands.get()), (2, 1));
    assert_eq!((page.data_units_written.get(), page.data_units_read.get()), (1, 1));
    assert_eq!((page.critical_warning, page.available_spare), (0, 100));
}

#[test]
fn what_is_not_offered_is_an_invalid_opcode() {
    let mut rig = Rig::ready(config());
    for opcode in [
        AdminOpcode::NAMESPACE_MANAGEMENT,
        AdminOpcode::FIRMWARE_COMMIT,
        AdminOpcode::DEVICE_SELF_TEST,
        AdminOpcode::KEEP_ALIVE,
        AdminOpcode::SECURITY_SEND,
        AdminOpcode::SANITIZE,
        AdminOpcode::FABRICS,
        AdminOpcode(0xc0),
    ] {
        let status = rig.command(0, Sqe::admin(opcode)).status();
        assert_eq!(status.code(), Status::INVALID_OPCODE, "{opcode:?}");
        assert!(status.dnr() && status.more());
    }
}

//! Attacks on the device server: every CDB, parameter list and length that no initiator means (SPC-4; SBC-4).

use initiator::pdu::NO_TAG;
use initiator::scsi::{self, status};
use initiator::{Command, Session};

use crate::failure::{Context, Outcome, ensure};
use crate::hostile_session::session;
use crate::restart::good;
use crate::scene::Attack;
use crate::server::Server;

/// The attacks.
pub const ATTACKS: &[Attack] = &[
    ("scsi_every_opcode", every_scsi_opcode),
    ("scsi_every_service_action", every_service_action),
    ("scsi_lengths_and_addresses", scsi_lengths),
    ("scsi_write_same_edges", write_same_edges),
    ("scsi_mode_select_lists", mode_select_lists),
    ("scsi_unmap_lists", unmap_lists),
    ("scsi_reservation_lists", reservation_lists),
    ("scsi_expected_length_mismatch", expected_length_mismatch),
];

/// Sends a CDB and fails unless it is answered, with no more data than the initiator has room for.
fn answered(session: &mut Session, command: Command) -> Outcome<u8> {
    let room = command.data_in_bytes as usize;
    let cdb = command.cdb;
    let completion = session.execute(command).context(&format!("CDB {cdb:02x?}"))?;
    ensure(completion.data.len() <= room, || {
        format!("CDB {cdb:02x?}: {} bytes for a room of {room}", completion.data.len())
    })?;
    Ok(completion.status)
}

fn every_scsi_opcode(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    for fill in [0u8, 1, 0x7f, 0x80, 0xff] {
        let mut session = session(server)?;
        for operation_code in 0..=255u8 {
            let mut cdb = [fill; 16];
            cdb[0] = operation_code;
            for command in [
                Command::bare(lun, cdb),
                Command::read(lun, cdb, 4096),
                Command::write(lun, cdb, vec![fill; 512]),
            ] {
                answered(&mut session, command)?;
            }
        }
        session.logout()?;
    }
    forget_reservations(server)
}

/// The sweeps may have reserved or registered; a reset and a clear make the unit usable again.
fn forget_reservations(server: &Server) -> Outcome {
    let mut session = server.session(0x66)?;
    session.task_management(5, server.lun(0), NO_TAG)?;
    session.settle(server.lun(0))?;
    Ok(session.logout()?)
}

fn every_service_action(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    for operation_code in
        [0x12, 0x1a, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0x7f, 0x83, 0x84, 0x9e, 0x9f, 0xa0, 0xa3, 0xa4]
    {
        for service_action in 0..32u8 {
            for allocation_length in [0u32, 1, 3, 7, 255, 4096, u32::MAX] {
                let mut cdb = [0; 16];
                (cdb[0], cdb[1]) = (operation_code, service_action);
                cdb[6..10].copy_from_slice(&allocation_length.to_be_bytes());
                answered(&mut session, Command::read(lun, cdb, allocation_length.min(4096)))?;
            }
        }
    }
    session.logout()?;
    forget_reservations(server)
}

/// Addresses and lengths around every edge: an error or a success, never data of elsewhere.
fn scsi_lengths(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    let capacity = session.settle(lun)?;
    let last = capacity.blocks - 1;
    for lba in [last, last + 1, u64::from(u32::MAX), 1 << 62, u64::MAX - 1, u64::MAX] {
        for blocks in [0u32, 1, 2, 0x7fff_ffff, u32::MAX] {
            let beyond = u128::from(lba) + u128::from(blocks) > u128::from(capacity.blocks);
            for operation_code in [0x88u8, 0x8f, 0x90, 0x91] {
                let mut cdb = scsi::read_16(lba, blocks);
                cdb[0] = operation_code;
                let got = answered(&mut session, Command::read(lun, cdb, 4096))?;
                let refused = got == status::CHECK_CONDITION;
                ensure(refused || !beyond, || format!("CDB {cdb:02x?} beyond the end: status {got:#04x}"))?;
            }
            let cdb = scsi::write_16(lba, blocks);
            let got = answered(&mut session, Command::write(lun, cdb, vec![3; 512]))?;
            ensure(got == status::CHECK_CONDITION || !beyond, || {
                format!("CDB {cdb:02x?}: status {got:#04x}")
            })?;
        }
    }
    Ok(session.logout()?)
}

/// Lengths of nothing, of all there is and beyond, with and without UNMAP and NDOB: only what lies inside is touched.
fn write_same_edges(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    let capacity = session.settle(lun)?;
    good(&mut session, Command::write(lun, scsi::write_16(capacity.blocks - 1, 1), vec![0x11; 512]))?;
    for lba in [capacity.blocks, capacity.blocks - 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        for blocks in [2u32, 0x1_0000, u32::MAX] {
            for flags in [0u8, 0x08, 0x09, 0x01, 0x10, 0xe0] {
                let mut cdb = scsi::write_16(lba, blocks);
                (cdb[0], cdb[1]) = (0x93, flags);
                let got = answered(&mut session, Command::write(lun, cdb, vec![0; 512]))?;
                ensure(got == status::CHECK_CONDITION, || format!("CDB {cdb:02x?}: status {got:#04x}"))?;
            }
        }
    }
    // No blocks at all means up to the end: more than one command may write, or exactly that.
    let mut cdb = scsi::write_16(capacity.blocks, 0);
    cdb[0] = 0x93;
    answered(&mut session, Command::write(lun, cdb, vec![0; 512]))?;
    let read = Command::read(lun, scsi::read_16(capacity.blocks - 1, 1), 512);
    ensure(good(&mut session, read)? == vec![0x11; 512], || "the last block was written".to_owned())?;
    Ok(session.logout()?)
}

/// Parameter lists that are cut, lie about their lengths, name pages that are not there or change what cannot be
/// changed: refused, and the pages stay as they are.
fn mode_select_lists(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    let mut sense = [0; 16];
    (sense[0], sense[2], sense[4]) = (0x1a, 0x3f, 255);
    let before = session.execute(Command::read(lun, sense, 255))?.data;
    ensure(before.len() > 4, || "MODE SENSE tells nothing".to_owned())?;
    for page in 0..0x40u8 {
        for claimed in [0u8, 1, 0x0a, 0x12, 0xff] {
            for length in [0usize, 1, 3, 4, 5, 6, 12, 24, 64] {
                let mut list = vec![0u8; length];
                // No block descriptor; then the page with a length that need not be its own, of bits that may not change.
                list.iter_mut().skip(4).for_each(|byte| *byte = 0xa5);
                if let [page_code, page_length, ..] = &mut list[length.min(4)..] {
                    (*page_code, *page_length) = (page, claimed);
                }
                let mut cdb = [0; 16];
                (cdb[0], cdb[1], cdb[4]) = (0x15, 0x10, length as u8);
                answered(&mut session, Command::write(lun, cdb, list.clone()))?;
                let mut cdb = [0; 16];
                (cdb[0], cdb[1], cdb[8]) = (0x55, 0x11, length as u8);
                answered(&mut session, Command::write(lun, cdb, list))?;
            }
        }
    }
    let after = session.execute(Command::read(lun, sense, 255))?.data;
    ensure(after == before, || "a wrong list changed a page".to_owned())?;
    Ok(session.logout()?)
}

fn unmap_lists(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    let mut lists = vec![
        vec![],
        vec![0; 7],
        vec![0xff; 8],
        vec![0xff; 24],
        scsi::unmap_list(&[]),
        scsi::unmap_list(&[(u64::MAX, u32::MAX)]),
        scsi::unmap_list(&[(0, u32::MAX)]),
        scsi::unmap_list(&vec![(0, 0); 300]),
        scsi::unmap_list(&vec![(5, 1); 4000]),
    ];
    let mut lying = scsi::unmap_list(&[(0, 1)]);
    lying[2..4].copy_from_slice(&0xfff0u16.to_be_bytes());
    lists.push(lying);
    for list in lists {
        for claimed in [list.len(), list.len().saturating_sub(1), list.len() + 16, 0, 0xffff] {
            let command = Command::write(lun, scsi::unmap(claimed.min(0xffff) as u16), list.clone());
            answered(&mut session, command)?;
        }
    }
    Ok(session.logout()?)
}

fn reservation_lists(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    for service_action in 0..32u8 {
        for list_length in [0u32, 1, 23, 24, 25, 28, 200, 4096, u32::MAX] {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1], cdb[2]) = (0x5f, service_action, 0x01);
            cdb[5..9].copy_from_slice(&list_length.to_be_bytes());
            answered(&mut session, Command::write(lun, cdb, vec![0xab; list_length.min(4096) as usize]))?;
        }
    }
    session.logout()?;
    forget_reservations(server)
}

/// Expected length and CDB disagree, in both directions: residuals, and the right bytes (11.4.5).
fn expected_length_mismatch(server: &Server, _: u64) -> Outcome {
    let lun = server.lun(0);
    let mut session = session(server)?;
    good(&mut session, Command::write(lun, scsi::write_16(4096, 8), vec![0x44; 4096]))?;
    for (blocks, room) in [(1u32, 0u32), (1, 1), (1, 511), (1, 513), (8, 512), (1, 4096), (0, 512)] {
        let completion = session.execute(Command::read(lun, scsi::read_16(4096, blocks), room))?;
        let wanted = i64::from(blocks) * 512;
        let short = completion.status == status::GOOD;
        ensure(!short || completion.residual == wanted - i64::from(room), || {
            format!("{blocks} blocks into {room} bytes: residual {}", completion.residual)
        })?;
        ensure(completion.data.len() as u64 <= u64::from(room), || "more data than room".to_owned())?;
        ensure(completion.data.iter().all(|byte| *byte == 0x44), || "bytes of elsewhere".to_owned())?;
    }
    Ok(session.logout()?)
}

//! The runs that are recorded for tshark: every kind of PDU that the target sends, with and without digests, and those
//! of our own host side.

use std::net::SocketAddr;
use std::process::Command as Process;

use initiator::pdu::{FINAL, IMMEDIATE, opcode as iscsi_opcode};
use initiator::{Login, WireError, scsi};
use nvme_host::host::DISCOVERY_NQN;
use nvme_host::sqe::opcode;
use nvme_host::{Association, Command, Digests, Identity, Pdu, Queue, Sqe, kind};

use crate::failure::{Failure, Outcome, ensure};
use crate::limits;
use crate::options::Options;
use crate::process::run_well;
use crate::server::{INITIATOR_NAME, SUBSYSTEM_NQN, Server, TARGET_NAME};
use crate::wire::Protocol;

/// One recorded run.
pub struct Run {
    /// Of the check.
    pub name: &'static str,
    /// Which dissector.
    pub protocol: Protocol,
    /// What happens, through the relay at this address.
    pub body: fn(&Server, SocketAddr, &Options) -> Outcome,
    /// PDUs that the run must have had: from the target, and type.
    pub wanted: &'static [(bool, u8)],
    /// Preferences of tshark.
    pub preferences: &'static [&'static str],
    /// What an iSCSI login of this run agrees on.
    pub iscsi_digests: initiator::pdu::Digests,
}

const CHECKED: &[&str] = &["nvme-tcp.check_hdgst:TRUE", "nvme-tcp.check_ddgst:TRUE"];
const NO_DIGESTS: initiator::pdu::Digests = initiator::pdu::Digests { header: false, data: false };
/// Everything that an I/O queue carries, and what opens it.
const NVME_IO: &[(bool, u8)] = &[
    (true, kind::IC_RESP),
    (true, kind::CAPSULE_RESP),
    (true, kind::C2H_DATA),
    (true, kind::R2T),
    (false, kind::IC_REQ),
    (false, kind::CAPSULE_CMD),
    (false, kind::H2C_DATA),
];
const ISCSI_IO: &[(bool, u8)] = &[
    (true, iscsi_opcode::LOGIN_RESPONSE),
    (true, iscsi_opcode::SCSI_RESPONSE),
    (true, iscsi_opcode::DATA_IN),
    (true, iscsi_opcode::R2T),
    (true, iscsi_opcode::NOP_IN),
    (true, iscsi_opcode::TASK_MANAGEMENT_RESPONSE),
    (true, iscsi_opcode::TEXT_RESPONSE),
    (true, iscsi_opcode::LOGOUT_RESPONSE),
    (true, iscsi_opcode::REJECT),
];

const fn nvme(name: &'static str, body: fn(&Server, SocketAddr, &Options) -> Outcome) -> Run {
    let (protocol, wanted) = (Protocol::NvmeTcp, NVME_IO);
    Run { name, protocol, body, wanted, preferences: CHECKED, iscsi_digests: NO_DIGESTS }
}

const fn iscsi(
    name: &'static str,
    header: bool,
    data: bool,
    body: fn(&Server, SocketAddr, &Options) -> Outcome,
) -> Run {
    let preferences: &[&str] = &[];
    let iscsi_digests = initiator::pdu::Digests { header, data };
    Run { name, protocol: Protocol::Iscsi, body, wanted: ISCSI_IO, preferences, iscsi_digests }
}

/// All of them.
pub const RUNS: &[Run] = &[
    nvme("nvme_without_digests", |_, at, _| nvme_io(at, Digests { header: false, data: false })),
    nvme("nvme_with_header_digests", |_, at, _| nvme_io(at, Digests { header: true, data: false })),
    nvme("nvme_with_data_digests", |_, at, _| nvme_io(at, Digests { header: false, data: true })),
    nvme("nvme_with_both_digests", |_, at, _| nvme_io(at, Digests { header: true, data: true })),
    Run { wanted: &[(true, kind::C2H_DATA)], ..nvme("nvme_discovery", |_, at, _| nvme_discovery(at)) },
    Run {
        wanted: &[(true, kind::C2H_TERM_REQ), (false, kind::H2C_TERM_REQ)],
        ..nvme("nvme_terminations", |_, at, _| nvme_terminations(at))
    },
    nvme("nvme_of_our_own_host", |_, at, options| {
        let digests = [(false, false), (true, false), (false, true), (true, true)];
        bench(options, &format!("nvme-tcp://{at}/{SUBSYSTEM_NQN}"), &digests)
    }),
    iscsi("iscsi_without_digests", false, false, |server, at, _| iscsi_io(server, at, false, false)),
    iscsi("iscsi_with_header_digests", true, false, |server, at, _| iscsi_io(server, at, true, false)),
    iscsi("iscsi_with_data_digests", false, true, |server, at, _| iscsi_io(server, at, false, true)),
    iscsi("iscsi_with_both_digests", true, true, |server, at, _| iscsi_io(server, at, true, true)),
    Run {
        wanted: &[(false, iscsi_opcode::SCSI_COMMAND), (true, iscsi_opcode::DATA_IN)],
        ..iscsi("iscsi_of_our_own_load", false, false, |_, at, options| {
            bench(options, &format!("iscsi://{at}/{TARGET_NAME}/0"), &[(false, false)])
        })
    },
];

/// A command that must succeed.
fn good(queue: &mut Queue, command: Command) -> Outcome<Vec<u8>> {
    Ok(queue.execute(command)?.good()?.data)
}

/// A command that must not.
fn bad(queue: &mut Queue, command: Command) -> Outcome {
    let completion = queue.execute(command)?;
    ensure(completion.status != 0, || format!("it succeeded: {completion:x?}"))
}

fn nvme_io(address: SocketAddr, digests: Digests) -> Outcome {
    let mut association =
        Association::begin(address, SUBSYSTEM_NQN, &Identity::numbered(1), digests, 30_000)?;
    for (cns, nsid) in [(0, 1), (1, 0), (2, 0), (3, 1), (6, 0), (8, 1)] {
        association.identify(cns, nsid)?;
    }
    // Of the error log more than one entry: tshark 4.0 reads past the end of a single one.
    for (lid, length) in
        [(0u8, 1024u32), (1, 1024), (2, 512), (3, 512), (4, 1024), (5, 4096), (0x0c, 64), (0x80, 64)]
    {
        association.log_page(lid, length)?;
    }
    let admin = &mut association.admin;
    for feature in [0x07u32, 0x0b, 0x0f] {
        good(admin, Command::bare(Sqe::new(opcode::GET_FEATURES, 0).with_u32(40, feature)))?;
    }
    good(admin, Command::bare(Sqe::new(opcode::SET_FEATURES, 0).with_u32(40, 0x0b).with_u32(44, 0x100)))?;
    good(admin, Command::bare(Sqe::new(opcode::KEEP_ALIVE, 0)))?;
    bad(admin, Command::bare(Sqe::new(0xc0, 0)))?;
    let waits = admin.submit(Command::bare(Sqe::new(opcode::ASYNC_EVENT, 0)))?;
    let abort =
        admin.submit(Command::bare(Sqe::new(opcode::ABORT, 0).with_u32(40, u32::from(waits) << 16)))?;
    let ended = [admin.complete_one()?.cid, admin.complete_one()?.cid];
    ensure(ended.contains(&waits) && ended.contains(&abort), || "the event request was not aborted".into())?;
    let mut queue = association.io(1)?;
    for (lba, blocks) in [(0u64, 1u32), (8, 8), (64, 256), (512, 2048)] {
        let bytes: Vec<u8> = (0..blocks * 512).map(|at| (at / 512 + at) as u8).collect();
        good(&mut queue, Command::write(Sqe::blocks(opcode::WRITE, 1, lba, blocks), bytes.clone()))?;
        good(&mut queue, Command::write(Sqe::blocks(opcode::COMPARE, 1, lba, blocks), bytes.clone()))?;
        let found = good(&mut queue, Command::read(Sqe::blocks(opcode::READ, 1, lba, blocks), bytes.len()))?;
        ensure(found == bytes, || format!("{blocks} blocks from {lba} on read wrong"))?;
    }
    bad(&mut queue, Command::write(Sqe::blocks(opcode::COMPARE, 1, 0, 1), vec![0xff; 512]))?;
    bad(&mut queue, Command::read(Sqe::blocks(opcode::READ, 1, 64 << 11, 1), 512))?;
    good(&mut queue, Command::bare(Sqe::blocks(opcode::WRITE_ZEROES, 1, 0, 16)))?;
    let mut range = vec![0; 16];
    range[4] = 8;
    good(&mut queue, Command::write(Sqe::new(opcode::DATASET_MANAGEMENT, 1).with_u32(44, 4), range))?;
    let keys = [[0; 8], 7u64.to_le_bytes()].concat();
    good(&mut queue, Command::write(Sqe::new(0x0d, 1), keys))?;
    good(&mut queue, Command::read(Sqe::new(0x0e, 1).with_u32(40, 63).with_u32(44, 1), 256))?;
    good(&mut queue, Command::bare(Sqe::new(opcode::FLUSH, 1)))?;
    drop(queue);
    Ok(association.end()?)
}

fn nvme_discovery(address: SocketAddr) -> Outcome {
    let host = Identity::numbered(1);
    let mut association = Association::begin(address, DISCOVERY_NQN, &host, Digests::default(), 0)?;
    association.identify(1, 0)?;
    let header = association.log_page(0x70, 1024)?;
    let records = u64::from_le_bytes(header[8..16].try_into().map_err(|_| Failure::new("a short header"))?);
    ensure(records == 2, || format!("{records} records"))?;
    let log = association.log_page(0x70, 1024 * 3)?;
    let named = log.windows(SUBSYSTEM_NQN.len()).any(|window| window == SUBSYSTEM_NQN.as_bytes());
    ensure(named, || "the subsystem is not listed".into())?;
    association.admin.submit(Command::bare(Sqe::new(opcode::ASYNC_EVENT, 0)))?;
    Ok(association.end()?)
}

fn nvme_terminations(address: SocketAddr) -> Outcome {
    let association =
        Association::begin(address, SUBSYSTEM_NQN, &Identity::numbered(1), Digests::default(), 0)?;
    let sound = Pdu::h2c_data(7, 9, 0, true, &[1; 64]);
    let wrong_length = {
        let mut pdu = sound.clone();
        pdu.set_u32(16, 60);
        pdu
    };
    for pdu in [sound, wrong_length] {
        let mut queue = association.io(1)?;
        queue.wire.send(&pdu)?;
        let answers = queue.wire.drain_until_closed()?;
        ensure(answers.last().is_some_and(|pdu| pdu.pdu_type() == kind::C2H_TERM_REQ), || {
            "no reason".into()
        })?;
    }
    let mut queue = association.io(1)?;
    queue.wire.send(&Pdu::h2c_term_req(2, &[5, 0, 24, 0, 24, 0, 0, 0]))?;
    queue.wire.drain_until_closed()?;
    Ok(association.end()?)
}

/// Our own host side, in a process of its own: it writes with stamps, and checks them when it reads.
fn bench(options: &Options, target: &str, digests: &[(bool, bool)]) -> Outcome {
    for (header, data) in digests {
        for (pattern, block) in [("write", "4KiB"), ("write", "64KiB"), ("read", "64KiB"), ("read", "4KiB")] {
            let mut command = Process::new(&options.vega);
            command.args(["bench", target, "--verify", "--overwrite-data", "--depth", "8", "--queues", "2"]);
            command.args(["--pattern", pattern, "--block-size", block, "--bytes", "1MiB"]);
            // Between its answers it sleeps, in half of the runs.
            if *header {
                command.args(["--spin-us", "0"]);
            }
            for (wanted, option) in [(header, "--header-digest"), (data, "--data-digest")] {
                if *wanted {
                    command.arg(option);
                }
            }
            run_well(&mut command, limits::COMMAND_PATIENCE)?;
        }
    }
    Ok(())
}

fn iscsi_io(server: &Server, address: SocketAddr, header: bool, data: bool) -> Outcome {
    let digests = initiator::pdu::Digests { header, data };
    let lun = server.lun(0);
    let mut discovery = Login { digests, ..Login::discovery(INITIATOR_NAME) }.session(address)?;
    let named = discovery.send_targets("All")?;
    ensure(named.iter().any(|(_, value)| value == TARGET_NAME), || format!("{named:?}"))?;
    discovery.logout()?;
    for (initial_r2t, immediate_data) in [(false, true), (true, true), (true, false), (false, false)] {
        let login = Login { digests, initial_r2t, immediate_data, ..server.login(1) };
        let mut session = login.session(address)?;
        session.settle(lun)?;
        for (lba, blocks) in [(0u64, 1u32), (8, 8), (64, 256), (512, 2048)] {
            let bytes: Vec<u8> = (0..blocks * 512).map(|at| (at / 512 + at) as u8).collect();
            let write = initiator::Command::write(lun, scsi::write_16(lba, blocks), bytes.clone());
            crate::restart::good(&mut session, write)?;
            let read = initiator::Command::read(lun, scsi::read_16(lba, blocks), blocks * 512);
            ensure(crate::restart::good(&mut session, read)? == bytes, || "it reads wrong".into())?;
        }
        for cdb in [scsi::inquiry(None, 255), scsi::inquiry(Some(0x83), 255), scsi::inquiry(Some(0xb0), 64)] {
            crate::restart::good(&mut session, initiator::Command::read(lun, cdb, 255))?;
        }
        let beyond = session.execute(initiator::Command::read(lun, scsi::read_16(64 << 11, 1), 512))?;
        ensure(beyond.sense.is_some(), || "a read past the end has sense data".into())?;
        let list = scsi::unmap_list(&[(0, 8)]);
        let unmap = initiator::Command::write(lun, scsi::unmap(list.len() as u16), list);
        crate::restart::good(&mut session, unmap)?;
        session.ping(b"what is sent back")?;
        session.task_management(2, lun, initiator::pdu::NO_TAG)?;
        // A SNACK is rejected: error recovery level 0 has none.
        let mut snack = session.request_pdu(iscsi_opcode::SNACK | IMMEDIATE, FINAL);
        snack.set_itt(0x55);
        let answer = session.ask(&snack, iscsi_opcode::REJECT);
        ensure(matches!(answer, Err(WireError::Rejected(_))), || format!("SNACK: {answer:?}"))?;
        session.logout()?;
    }
    Ok(())
}

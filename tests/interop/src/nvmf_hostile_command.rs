//! Attacks with commands: SGLs, Connect and properties, every opcode, log pages, edges of numbers, reservations, too many
//! of anything.

use harness::seed::Seed;
use nvme_host::host::{CC, CC_ENABLED, CSTS};
use nvme_host::sqe::{opcode, status};
use nvme_host::{Command, Digests, Identity, Pdu, Queue, Sqe, WireError, kind};

use crate::failure::{Context, Outcome, ensure};
use crate::nvmf_hostile::{
    HOST, NSID, Reaction, ensure_content, fill, good, queues, reaction, shoot, volley,
};
use crate::scene::Attack;
use crate::server::{SUBSYSTEM_NQN, Server};

/// In this order.
pub const ATTACKS: &[Attack] = &[
    ("sgl_of_every_type_and_length", sgls),
    ("sgl_offsets_and_capsules_that_are_too_long", capsules_too_long),
    ("connect_fields", connect_fields),
    ("connect_lengths", connect_lengths),
    ("names_without_end", names_without_end),
    ("queues_of_somebody_elses_controller", foreign_controller),
    ("commands_before_connect_and_enable", out_of_sequence),
    ("properties_of_every_offset", properties),
    ("keep_alive_extremes", keep_alive_extremes),
    ("every_admin_opcode", |server, seed| every_opcode(server, seed, true)),
    ("every_io_opcode", |server, seed| every_opcode(server, seed, false)),
    ("every_identify_and_log_page", pages),
    ("addresses_around_every_edge", edges),
    ("fused_halves", fused_halves),
    ("more_events_and_aborts_than_there_may_be", too_many_admin_commands),
    ("more_commands_than_entries", too_many_commands),
    ("identifiers_in_use", identifiers_in_use),
    ("range_lists_and_reservations", lists),
];

/// Sends a command as it is, and waits for its answer, or R2T, or the end of the connection; and for that of a command
/// behind it.
fn fire(queue: &mut Queue, sqe: Sqe, data: Vec<u8>, is_admin: bool) -> Outcome<Reaction> {
    let bytes = queue.wire.encode(&Pdu::capsule(&sqe.with_cid(0xaaaa).0, data));
    shoot(&mut queue.wire, &bytes)?;
    let mut pdus = match reaction(&mut queue.wire, is_admin)? {
        Reaction::Alive(pdus) => pdus,
        closed @ Reaction::Closed(_) => return Ok(closed),
    };
    while !pdus.iter().any(is_answer) {
        match queue.wire.recv() {
            Ok(pdu) => pdus.push(pdu),
            Err(WireError::Closed) => return Ok(Reaction::Closed(pdus)),
            Err(error) => return Err(error).context("the command behind it was answered, this one was not"),
        }
    }
    Ok(Reaction::Alive(pdus))
}

fn is_answer(pdu: &Pdu) -> bool {
    match pdu.pdu_type() {
        kind::CAPSULE_RESP => pdu.u16(20) == 0xaaaa,
        kind::C2H_DATA => pdu.u16(8) == 0xaaaa && pdu.has(nvme_host::pdu::SUCCESS),
        kind::R2T => pdu.u16(8) == 0xaaaa,
        _ => false,
    }
}

/// Type and subtype, lengths and PSDT: a write is answered with an error, or was right.
fn sgls(server: &Server, _: u64) -> Outcome {
    fill(server, 512, 8, 0x11)?;
    let association = server.association(HOST)?;
    let mut queue = association.io(1)?;
    let write = Sqe::blocks(opcode::WRITE, NSID, 512, 1);
    for descriptor in 0..=255u8 {
        for length in [0u32, 1, 511, 512, 513, u32::MAX] {
            let mut sqe = write.with_sgl(length, false);
            sqe.0[39] = descriptor;
            let with_data = if descriptor == 0x01 { vec![0x11; 512] } else { Vec::new() };
            // A transport descriptor with room enough asks for its data.
            if descriptor == 0x5a && length >= 512 {
                continue;
            }
            let got = fire(&mut queue, sqe, with_data, false)?;
            let is_right = descriptor == 0x01 && length == 512;
            let is_refused =
                matches!(&got, Reaction::Closed(_)) || got.status_of(0xaaaa).is_some_and(|s| s != 0);
            ensure(is_refused != is_right, || format!("SGL {descriptor:#x} of {length} bytes: {got:02x?}"))?;
            if matches!(got, Reaction::Closed(_)) {
                queue = association.io(1)?;
            }
        }
    }
    for psdt in [0x00u8, 0x80, 0xc0] {
        let mut sqe = write.with_sgl(512, true);
        sqe.0[1] = psdt;
        let got = fire(&mut queue, sqe, vec![0x22; 512], false)?;
        let refused = matches!(&got, Reaction::Closed(_)) || got.status_of(0xaaaa) != Some(0);
        // 10b is an SGL with an SGL for metadata, of which there is none.
        ensure(refused || psdt == 0x80, || format!("PSDT {psdt:#x}: {got:02x?}"))?;
        if matches!(got, Reaction::Closed(_)) {
            queue = association.io(1)?;
        }
    }
    drop(queue);
    fill(server, 512, 8, 0x11)?;
    Ok(association.end()?)
}

fn capsules_too_long(server: &Server, _: u64) -> Outcome {
    fill(server, 512, 256, 0x11)?;
    let association = server.association(HOST)?;
    for (offset, length, data_bytes) in [
        (1u64, 512u32, 512usize),
        (512, 512, 512),
        (u64::MAX, 512, 512),
        (0, 512, 0),
        (0, 512, 511),
        (0, 512, 516),
        (0, 512, 8192),
        (0, 16_384 + 512, 16_384 + 512),
        (0, 65_536, 65_536),
        (0, 131_072, 131_072),
    ] {
        let mut queue = association.io(1)?;
        let blocks = (length / 512).max(1);
        let mut sqe = Sqe::blocks(opcode::WRITE, NSID, 512, blocks).with_sgl(length, true);
        sqe.0[24..32].copy_from_slice(&offset.to_le_bytes());
        let got = fire(&mut queue, sqe, vec![0x22; data_bytes], false)?;
        let what = format!("offset {offset}, SGL of {length}, {data_bytes} bytes of data");
        ensure(got.status_of(0xaaaa) != Some(status::SUCCESS), || format!("{what}: {got:02x?}"))?;
        ensure_content(server, 512, 256, 0x11).context(&what)?;
    }
    Ok(association.end()?)
}

fn connect(sqe: Sqe, data: Vec<u8>, server: &Server) -> Outcome<Result<u16, WireError>> {
    let mut queue = Queue::open(server.listeners[0], Digests::default())?;
    Ok(queue.connect(sqe, data))
}

fn is_refused<T: std::fmt::Debug>(what: &str, outcome: &Result<T, WireError>) -> Outcome {
    let refused =
        matches!(outcome, Err(WireError::Status(_) | WireError::Closed | WireError::Terminated(..)));
    ensure(refused, || format!("{what}: {outcome:02x?}"))
}

fn connect_fields(server: &Server, _: u64) -> Outcome {
    let host = Identity::numbered(HOST);
    let association = server.association(HOST)?;
    let data = |cntlid| Queue::connect_data(SUBSYSTEM_NQN, &host, cntlid);
    for qid in [0u16, 1, 65, 1024, 0x8000, 0xffff] {
        for sqsize in [0u16, 1, 31, 0x3fff, 0xffff] {
            for cntlid in [0u16, association.cntlid, 0xffef, 0xfffe, 0xffff] {
                let sqe = Sqe::connect(qid, 2, 0).with_u16(44, sqsize);
                let got = connect(sqe, data(cntlid), server)?;
                let is_right = matches!(sqsize, 1 | 31)
                    && (qid == 0 && cntlid == 0xffff || qid == 1 && cntlid == association.cntlid);
                let what = format!("QID {qid}, SQSIZE {sqsize:#x}, CNTLID {cntlid:#x}");
                if is_right { got.context(&what).map(drop)? } else { is_refused(&what, &got)? }
            }
        }
    }
    let sqe = Sqe::connect(0, 32, 0);
    is_refused("another record format", &connect(sqe.with_u16(40, 1), data(0xffff), server)?)?;
    let unknown = Queue::connect_data("nqn.2026-11.io.vega:nothing", &host, 0xffff);
    is_refused("an unknown subsystem", &connect(sqe, unknown, server)?)?;
    // The admin queue that exists, connected a second time on its own connection.
    let mut association = association;
    let again = association.admin.connect(sqe, data(0xffff));
    is_refused("Connect on a queue that is connected", &again)
}

fn connect_lengths(server: &Server, _: u64) -> Outcome {
    let data = Queue::connect_data(SUBSYSTEM_NQN, &Identity::numbered(HOST), 0xffff);
    for length in [0usize, 4, 512, 1020, 1023, 1028, 2048, 8192, 8196] {
        let mut bytes = data.clone();
        bytes.resize(length, 0);
        let got = connect(Sqe::connect(0, 32, 0), bytes, server)?;
        // More than Connect has is no harm to it.
        if length < 1024 {
            is_refused(&format!("Connect with {length} bytes"), &got)?;
        }
    }
    Ok(())
}

fn names_without_end(server: &Server, _: u64) -> Outcome {
    let sound = Queue::connect_data(SUBSYSTEM_NQN, &Identity::numbered(HOST), 0xffff);
    for field in [256usize, 512] {
        for length in [0usize, 224, 255, 256] {
            let mut data = sound.clone();
            data[field..field + 256].fill(0);
            data[field..field + length].fill(b'x');
            is_refused(&format!("a name of {length}"), &connect(Sqe::connect(0, 32, 0), data, server)?)?;
        }
    }
    // 223 bytes are a name, and a host may be called so.
    let mut data = sound.clone();
    data[512..768].fill(0);
    data[512..512 + 223].fill(b'y');
    connect(Sqe::connect(0, 32, 0), data, server)?.context("a host whose name has 223 bytes")?;
    Ok(())
}

fn foreign_controller(server: &Server, _: u64) -> Outcome {
    let owner = server.association(HOST)?;
    let thief = Identity::numbered(HOST + 1);
    let liar = Identity { nqn: thief.nqn.clone(), id: Identity::numbered(HOST).id };
    for identity in [&thief, &liar] {
        let data = Queue::connect_data(SUBSYSTEM_NQN, identity, owner.cntlid);
        let got = connect(Sqe::connect(1, 32, 0), data, server)?;
        is_refused(&format!("{identity:?}"), &got)?;
    }
    Ok(owner.end()?)
}

/// Commands before Connect and before the controller is enabled have no effect.
fn out_of_sequence(server: &Server, _: u64) -> Outcome {
    fill(server, 512, 8, 0x11)?;
    let write = Sqe::blocks(opcode::WRITE, NSID, 512, 8).with_sgl(4096, true);
    let mut shots = Vec::new();
    for code in 0..=255u8 {
        let mut front = Pdu::ic_req(Digests::default(), 1).encode(Digests::default(), 4);
        let mut sqe = write;
        sqe.0[0] = code;
        front.extend(Pdu::capsule(&sqe.with_cid(1).0, vec![0x22; 4096]).encode(Digests::default(), 4));
        shots.push(front);
    }
    volley(server, shots)?;
    ensure_content(server, 512, 8, 0x11)?;
    // Connected, and not enabled.
    let mut admin = Queue::open(server.listeners[0], Digests::default())?;
    let host = Identity::numbered(HOST);
    let cntlid = admin.connect(Sqe::connect(0, 32, 0), Queue::connect_data(SUBSYSTEM_NQN, &host, 0xffff))?;
    let got = admin.execute(Command::read(Sqe::new(opcode::IDENTIFY, 0).with_u32(40, 1), 4096))?;
    ensure(got.status == status::SEQUENCE_ERROR, || format!("Identify before the enable: {got:x?}"))?;
    let got = connect(Sqe::connect(1, 32, 0), Queue::connect_data(SUBSYSTEM_NQN, &host, cntlid), server)?;
    is_refused("an I/O queue before the enable", &got)
}

fn properties(server: &Server, _: u64) -> Outcome {
    let mut association = server.association(HOST)?;
    for offset in (0..0x80u32).chain([0x1000, 0x1008, 0x7fff_fffc, 0xffff_fffc, u32::MAX]) {
        for attributes in [0u8, 1, 2, 7, 0xff] {
            let mut get = Sqe::property_get(offset);
            get.0[40] = attributes;
            let got = association.admin.execute(Command::bare(get))?;
            let known = matches!((offset, attributes & 7), (0, 1) | (8 | 0x14 | 0x1c, 0));
            ensure(!known || got.status == 0, || format!("property {offset:#x}: {got:x?}"))?;
            if offset != CC {
                let mut set = Sqe::property_set(offset, 0xffff_ffff);
                set.0[40] = attributes;
                association.admin.execute(Command::bare(set))?;
            }
        }
    }
    // It may have been told to reset the subsystem; whatever it is now, the next association works.
    drop(association);
    let mut association = server.association(HOST)?;
    for value in
        [0u32, u32::MAX, CC_ENABLED | 7 << 4, CC_ENABLED | 0xf << 7, CC_ENABLED & !(0xf << 16), 3 << 14]
    {
        let sqe = Sqe::property_set(CC, value);
        association.admin.execute(Command::bare(sqe)).context(&format!("CC {value:#x}"))?;
        association.property(CSTS)?;
    }
    Ok(())
}

fn keep_alive_extremes(server: &Server, _: u64) -> Outcome {
    for keep_alive_ms in [0u32, 1, 999, 1000, u32::MAX - 1, u32::MAX] {
        let host = Identity::numbered(HOST);
        let data = Queue::connect_data(SUBSYSTEM_NQN, &host, 0xffff);
        let mut queue = Queue::open(server.listeners[0], Digests::default())?;
        let got = queue.connect(Sqe::connect(0, 32, keep_alive_ms), data);
        if !matches!(got, Err(WireError::Status(_))) {
            got.context(&format!("KATO {keep_alive_ms}"))?;
        }
    }
    let mut association = server.association(HOST)?;
    for keep_alive_ms in [0u32, 1, 999, 1000, u32::MAX] {
        let set = Sqe::new(opcode::SET_FEATURES, 0).with_u32(40, 0x0f).with_u32(44, keep_alive_ms);
        association.admin.execute(Command::bare(set))?;
        association.admin.execute(Command::bare(Sqe::new(opcode::KEEP_ALIVE, 0)))?.good()?;
    }
    Ok(association.end()?)
}

/// Every opcode with fixed and with random dwords: each is answered, or ends nothing but its own connection.
fn every_opcode(server: &Server, seed: u64, is_admin: bool) -> Outcome {
    let mut chance = Seed::new(seed);
    let (mut association, mut queue) = queues(server)?;
    for round in 0..8u32 {
        for code in 0..=255u8 {
            // Events are not answered, and Fabrics commands have checks of their own.
            if is_admin && code == opcode::ASYNC_EVENT || code == opcode::FABRICS {
                continue;
            }
            let mut sqe = Sqe::new(code, [NSID, 0, u32::MAX, 0x7fff_ffff][chance.below(4) as usize]);
            for at in (40..64).step_by(4) {
                let bits = [4, 12, 20, 32][chance.below(4) as usize];
                let value = match round {
                    0 => 0,
                    1 => 1,
                    2 => 0x7fff_ffff,
                    3 => u32::MAX,
                    _ => chance.below(1 << bits) as u32,
                };
                sqe = sqe.with_u32(at, value);
            }
            let (in_capsule, data) = match code & 3 {
                1 => (true, vec![chance.below(256) as u8; 512 * chance.below(9) as usize]),
                _ => (false, Vec::new()),
            };
            let length = if in_capsule { data.len() as u32 } else { 4096 * u32::from(code & 3 == 2) };
            let sqe = sqe.with_sgl(length, in_capsule && length > 0);
            let target = if is_admin { &mut association.admin } else { &mut queue };
            let got =
                fire(target, sqe, data, is_admin).context(&format!("opcode {code:#x}, round {round}"))?;
            if matches!(got, Reaction::Closed(_)) {
                drop(queue);
                (association, queue) = queues(server)?;
            }
        }
        // It may have set a short keep alive, or reserved the namespace.
        drop(queue);
        forget_reservations(server)?;
        (association, queue) = queues(server)?;
    }
    drop(queue);
    association.end()?;
    forget_reservations(server)
}

/// The sweeps may have registered and reserved; a known key and a clear make the namespace usable again.
fn forget_reservations(server: &Server) -> Outcome {
    const KEY: u64 = 0xabcd;
    let (association, mut queue) = queues(server)?;
    let keys = [KEY.to_le_bytes(), KEY.to_le_bytes()].concat();
    // Register, or replace whatever key there is (IEKEY).
    for action in [0u32, 2 | 1 << 3] {
        let register = Sqe::new(0x0d, NSID).with_u32(40, action);
        queue.execute(Command::write(register, keys.clone()))?;
    }
    let clear = Sqe::new(0x15, NSID).with_u32(40, 1);
    queue.execute(Command::write(clear, KEY.to_le_bytes()))?;
    let write = Command::write(Sqe::blocks(opcode::WRITE, NSID, 0, 1), vec![0; 512]);
    good(&mut queue, write).context("after all reservations were cleared")?;
    drop(queue);
    Ok(association.end()?)
}

fn pages(server: &Server, _: u64) -> Outcome {
    let (mut association, queue) = queues(server)?;
    for nsid in [0u32, NSID, 0xffff, u32::MAX - 1, u32::MAX] {
        for low in 0..=255u32 {
            for csi in [0u32, 2, 0xff] {
                let sqe = Sqe::new(opcode::IDENTIFY, nsid).with_u32(40, low).with_u32(44, csi << 24);
                association.admin.execute(Command::read(sqe, 4096)).context(&format!("CNS {low:#x}"))?;
            }
            for (dwords, offset) in
                [(0u32, 0u64), (127, 0), (1023, 4096), (127, 3), (127, 1 << 40), (127, u64::MAX)]
            {
                let sqe = Sqe::new(opcode::GET_LOG_PAGE, nsid).with_u32(40, low | dwords << 16);
                let sqe = sqe.with_u32(48, offset as u32).with_u32(52, (offset >> 32) as u32);
                association.admin.execute(Command::read(sqe, 4096)).context(&format!("LID {low:#x}"))?;
            }
        }
    }
    // NUMD says more than the SGL has room for, up to 16 GiB.
    for dwords in [1024u32, 0xffff, 0x0100_0000, u32::MAX] {
        let sqe = Sqe::new(opcode::GET_LOG_PAGE, u32::MAX).with_u32(40, 2 | dwords << 16);
        let got = association.admin.execute(Command::read(sqe.with_u32(44, dwords >> 16), 4096))?;
        ensure(got.status != 0 && got.data.is_empty(), || format!("NUMD {dwords:#x}: {got:x?}"))?;
    }
    drop(queue);
    Ok(association.end()?)
}

/// Blocks and counts around the end of the namespace and of all numbers: never a success beyond the end.
fn edges(server: &Server, _: u64) -> Outcome {
    const BLOCKS: u64 = 64 << 11;
    let (association, mut queue) = queues(server)?;
    for lba in [BLOCKS - 1, BLOCKS, u64::from(u32::MAX), 1 << 62, u64::MAX - 1, u64::MAX] {
        for count in [1u32, 2, 16, 2048, 0x1_0000] {
            let beyond = u128::from(lba) + u128::from(count) > u128::from(BLOCKS);
            let bytes = (count as usize * 512).min(1 << 20);
            for code in [opcode::READ, opcode::WRITE, opcode::COMPARE, opcode::WRITE_ZEROES, 0x0c, 0x04] {
                let sqe = Sqe::blocks(code, NSID, lba, count);
                let command = match code {
                    opcode::READ => Command::read(sqe, bytes),
                    opcode::WRITE | opcode::COMPARE => Command::write(sqe, vec![0; bytes]),
                    _ => Command::bare(sqe),
                };
                let got = queue.execute(command).context(&format!("opcode {code}, {count} from {lba}"))?;
                ensure(!beyond || got.status != 0, || {
                    format!("opcode {code}: {count} from {lba}: {got:x?}")
                })?;
                ensure(!beyond || got.data.is_empty(), || "data of elsewhere".to_owned())?;
            }
        }
    }
    for nsid in [0u32, 3, 1024, 1025, 0x7fff_ffff, u32::MAX] {
        for code in [opcode::READ, opcode::WRITE, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT] {
            let sqe = Sqe::blocks(code, nsid, 0, 1);
            let command = match code {
                opcode::READ => Command::read(sqe, 512),
                opcode::WRITE => Command::write(sqe, vec![0xbb; 512]),
                opcode::DATASET_MANAGEMENT => Command::write(sqe.with_u32(40, 0), vec![0; 16]),
                _ => Command::bare(sqe),
            };
            let got = queue.execute(command)?;
            ensure(got.status != 0, || format!("opcode {code} on namespace {nsid:#x}: {got:x?}"))?;
        }
    }
    drop(queue);
    Ok(association.end()?)
}

/// Halves of fused commands alone, in the wrong order, on the admin queue, and with the reserved value.
fn fused_halves(server: &Server, _: u64) -> Outcome {
    fill(server, 512, 8, 0x11)?;
    let (mut association, mut queue) = queues(server)?;
    for flags in [0x41u8, 0x42, 0x43] {
        for code in [opcode::WRITE, opcode::READ, opcode::FLUSH, opcode::COMPARE] {
            let (in_capsule, data) = match code {
                opcode::WRITE | opcode::COMPARE => (true, vec![0x22; 4096]),
                _ => (false, Vec::new()),
            };
            let length = if code == opcode::FLUSH { 0 } else { 4096 };
            let mut sqe = Sqe::blocks(code, NSID, 512, 8).with_sgl(length, in_capsule);
            sqe.0[1] = flags;
            let got = fire(&mut queue, sqe, data, false).context(&format!("{flags:#x}, opcode {code}"))?;
            // The ping behind it is not its other half, so both halves are over.
            let ended = got.status_of(0xaaaa);
            ensure(ended.is_some_and(|status| status != 0), || {
                format!("{flags:#x}, opcode {code}: {got:02x?}")
            })?;
        }
        let mut sqe = Sqe::new(opcode::KEEP_ALIVE, 0).with_sgl(0, false);
        sqe.0[1] = flags;
        fire(&mut association.admin, sqe, Vec::new(), true)?;
    }
    drop(queue);
    ensure_content(server, 512, 8, 0x11)?;
    Ok(association.end()?)
}

fn too_many_admin_commands(server: &Server, _: u64) -> Outcome {
    let mut association = server.association(HOST)?;
    let mut refused = 0;
    for _ in 0..30 {
        association.admin.submit(Command::bare(Sqe::new(opcode::ASYNC_EVENT, 0)))?;
        let cid = association.admin.submit(Command::bare(Sqe::new(opcode::KEEP_ALIVE, 0)))?;
        while association.admin.complete_one()?.cid != cid {
            refused += 1;
        }
    }
    ensure(refused >= 20, || format!("only {refused} of 30 event requests were refused"))?;
    for target in 0..2000u32 {
        let sqe = Sqe::new(opcode::ABORT, 0).with_u32(40, (target << 16) | (target % 3));
        let cid = association.admin.submit(Command::bare(sqe))?;
        // The event requests that wait are among those that are aborted.
        while association.admin.complete_one()?.cid != cid {}
    }
    Ok(association.end()?)
}

/// More commands than the queue has entries: a status for what is too much, or the end of the connection.
fn too_many_commands(server: &Server, _: u64) -> Outcome {
    let association = server.association(HOST)?;
    let mut queue = association.io_at(server.listeners[0], 1, 4)?;
    let mut bytes = Vec::new();
    for cid in 0..200u16 {
        let sqe = Sqe::blocks(opcode::WRITE, NSID, 4096, 256).with_cid(cid).with_sgl(131_072, false);
        bytes.extend(Pdu::capsule(&sqe.0, Vec::new()).encode(Digests::default(), 4));
    }
    shoot(&mut queue.wire, &bytes)?;
    let got = reaction(&mut queue.wire, false)?;
    let r2ts = got.pdus().iter().filter(|pdu| pdu.pdu_type() == kind::R2T).count();
    ensure(r2ts <= 4, || format!("{r2ts} writes were taken by a queue of 4 entries"))?;
    Ok(association.end()?)
}

/// A command with the identifier of one that waits for its data.
fn identifiers_in_use(server: &Server, _: u64) -> Outcome {
    let association = server.association(HOST)?;
    for code in [opcode::READ, opcode::WRITE, opcode::FLUSH] {
        let mut queue = association.io(1)?;
        let (cid, _) = crate::nvmf_hostile::await_r2t(&mut queue, 4096, 256, 1)?;
        let sqe = Sqe::blocks(code, NSID, 4096, 1).with_cid(cid).with_sgl(512, false);
        let bytes = queue.wire.encode(&Pdu::capsule(&sqe.0, Vec::new()));
        shoot(&mut queue.wire, &bytes)?;
        let got = reaction(&mut queue.wire, false)?;
        ensure(got.status_of(cid) != Some(0), || format!("opcode {code}: {got:02x?}"))?;
    }
    Ok(association.end()?)
}

fn lists(server: &Server, seed: u64) -> Outcome {
    let mut chance = Seed::new(seed);
    let (association, mut queue) = queues(server)?;
    for ranges in [0u32, 1, 2, 127, 255, 256, u32::MAX] {
        for bytes in [0usize, 16, 15, 4080, 4096] {
            for fill in [0u8, 0xff] {
                let dsm = Sqe::new(opcode::DATASET_MANAGEMENT, NSID).with_u32(40, ranges).with_u32(44, 4);
                queue.execute(Command::write(dsm, vec![fill; bytes]))?;
            }
        }
    }
    // Register, report, acquire, release with every action and random keys.
    for round in 0..400u32 {
        let code = [0x0d, 0x0e, 0x11, 0x15][round as usize % 4];
        let dword = chance.below(1 << 16) as u32 | (chance.below(4) as u32) << 30;
        let sqe = Sqe::new(code, NSID).with_u32(40, dword).with_u32(44, chance.below(3) as u32);
        let length = [0usize, 4, 8, 16, 24, 4096][chance.below(6) as usize];
        let command = if code == 0x0e {
            Command::read(sqe, length)
        } else {
            Command::write(sqe, vec![chance.below(3) as u8; length])
        };
        queue.execute(command).context(&format!("opcode {code:#x}, dword {dword:#x}, {length} bytes"))?;
    }
    drop(queue);
    association.end()?;
    forget_reservations(server)
}

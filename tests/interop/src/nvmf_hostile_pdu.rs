//! Attacks with PDUs: common headers, ICReq, data, digests, terminations, and connections that break off anywhere.

use harness::seed::Seed;
use nvme_host::host::CC;
use nvme_host::pdu::{DDGST, HDGST};
use nvme_host::sqe::opcode;
use nvme_host::{Command, Digests, Pdu, Queue, Sqe, Wire, WireError, kind};

use crate::failure::{Context, Outcome, ensure};
use crate::nvmf_hostile::{
    HOST, NSID, Reaction, await_r2t, ensure_content, fill, good, queues, reaction, shoot, volley,
};
use crate::scene::Attack;
use crate::server::{SUBSYSTEM_NQN, Server};

/// In this order.
pub const ATTACKS: &[Attack] = &[
    ("noise_before_and_after_ic_req", noise),
    ("common_header_before_ic_req", |server, _| headers_without_queue(server, &[])),
    ("common_header_before_connect", |server, _| headers_without_queue(server, &ic_req())),
    ("common_header_on_an_admin_queue", |server, _| headers_on_a_queue(server, true)),
    ("common_header_on_an_io_queue", |server, _| headers_on_a_queue(server, false)),
    ("ic_req_fields", ic_req_fields),
    ("data_without_command", data_without_command),
    ("data_wrong_in_every_field", data_wrong),
    ("data_after_its_command_has_ended", data_replayed),
    ("data_of_another_connection", data_of_another),
    ("digests_wrong", digests_wrong),
    ("digests_that_were_not_agreed_on", digest_flags),
    ("terminations_of_every_shape", terminations),
    ("breaks_at_every_byte", breaks_at_every_byte),
    ("no_write_after_a_reset", no_ghost_write),
    ("late_data_of_an_expired_path", late_data_of_an_expired_path),
];

fn ic_req() -> Vec<u8> {
    Pdu::ic_req(Digests::default(), 1).encode(Digests::default(), 4)
}

/// A command that every queue answers, as bytes.
fn sound(is_admin: bool) -> Vec<u8> {
    let sqe = Sqe::new(if is_admin { opcode::KEEP_ALIVE } else { opcode::FLUSH }, NSID);
    Pdu::capsule(&sqe.with_cid(0xaaaa).with_sgl(0, false).0, Vec::new()).encode(Digests::default(), 4)
}

fn noise(server: &Server, seed: u64) -> Outcome {
    let mut chance = Seed::new(seed);
    let shots: Vec<Vec<u8>> = (0..100)
        .map(|round| {
            let mut bytes = if round % 2 == 0 { ic_req() } else { Vec::new() };
            let length = 1 + chance.below(4000) as usize;
            bytes.extend(std::iter::repeat_with(|| chance.below(256) as u8).take(length));
            bytes
        })
        .collect();
    volley(server, shots)
}

/// Every value that a field of the common header is tried with: what, and the header of `sound` with it.
fn spoiled_headers(sound: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |what: String, at: usize, value: &[u8]| {
        let mut bytes = sound.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        all.push((what, bytes));
    };
    for value in 0..=255u8 {
        add(format!("type {value:#x}"), 0, &[value]);
        add(format!("flags {value:#x}"), 1, &[value]);
        add(format!("hlen {value}"), 2, &[value]);
        add(format!("pdo {value}"), 3, &[value]);
    }
    for plen in [
        0u32,
        1,
        7,
        8,
        23,
        24,
        71,
        73,
        76,
        127,
        128,
        129,
        8264,
        1 << 20,
        1 << 24,
        1 << 31,
        u32::MAX - 3,
        u32::MAX,
    ] {
        add(format!("plen {plen}"), 4, &plen.to_le_bytes());
        // With an offset of data; but data that fits a capsule would be waited for.
        if plen != 8264 {
            add(format!("pdo 72, plen {plen}"), 3, &[&[72], &plen.to_le_bytes()[..]].concat());
        }
    }
    all
}

/// Nothing but ICReq, and then nothing but Connect, keeps a connection for longer than Connect may take.
fn headers_without_queue(server: &Server, front: &[u8]) -> Outcome {
    let base = if front.is_empty() { ic_req() } else { sound(true) };
    volley(server, spoiled_headers(&base).into_iter().map(|(_, bytes)| [front, &bytes].concat()))
}

/// On a queue every header is either as it was agreed on, or ends it with a reason.
fn headers_on_a_queue(server: &Server, is_admin: bool) -> Outcome {
    let association = server.association(HOST + 1)?;
    for (what, bytes) in spoiled_headers(&sound(is_admin)) {
        let (mut own, mut queue) = (None, None);
        if is_admin {
            own = Some(server.association(HOST)?);
        } else {
            queue = Some(association.io(1)?);
        }
        let wire = match (&mut own, &mut queue) {
            (Some(own), _) => &mut own.admin.wire,
            (_, Some(queue)) => &mut queue.wire,
            _ => unreachable!("one of them was made"),
        };
        shoot(wire, &bytes)?;
        let got = reaction(wire, is_admin).context(&what)?;
        let plen = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        // The flag of a data digest says nothing without data, nor does PDO; reserved flags are left alone.
        let is_sound = bytes[0] == kind::CAPSULE_CMD && bytes[2] == 72 && plen == 72 && bytes[1] & HDGST == 0;
        if is_sound {
            ensure(matches!(got, Reaction::Alive(_)) && got.status_of(0xaaaa) == Some(0), || {
                format!("{what}: a sound command was not answered: {got:02x?}")
            })?;
        } else if bytes[0] == kind::H2C_TERM_REQ {
            ensure(matches!(got, Reaction::Closed(_)), || format!("{what}: it goes on"))?;
        } else if let Reaction::Alive(pdus) = &got {
            // A capsule with data that nobody asked for may be refused with a status.
            ensure(pdus.iter().any(|pdu| pdu.u16(22) >> 1 != 0), || format!("{what}: accepted"))?;
        } else {
            got.ensure_terminated().context(&what)?;
        }
    }
    Ok(association.end()?)
}

fn ic_req_fields(server: &Server, _: u64) -> Outcome {
    let sound = ic_req();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let mut shots = vec![[sound.clone(), sound.clone()].concat(), sound[..127].to_vec(), vec![0; 128]];
    for value in 0..=255u8 {
        // Alignment that is asked for, digests with reserved bits.
        shots.push(with(10, &[value]));
        shots.push(with(11, &[value]));
    }
    for pfv in [1u16, 2, 0x8000, 0xffff] {
        shots.push(with(8, &pfv.to_le_bytes()));
    }
    for r2ts in [0u32, 1, 0xffff, u32::MAX - 1, u32::MAX] {
        shots.push(with(12, &r2ts.to_le_bytes()));
    }
    // The PDUs that only a controller sends, and each that may come only later.
    for pdu_type in 1..=11u8 {
        shots.push([sound.clone(), with(0, &[pdu_type])].concat());
    }
    volley(server, shots)?;
    // The largest alignment that there is, with every digest: reads still carry their data.
    let mut wire = Wire::connect(server.listeners[0])?;
    wire.send_bytes(&with(10, &[31, 0]))?;
    let answer = wire.recv()?;
    ensure(answer.pdu_type() == kind::IC_RESP, || format!("HPDA 31 is refused: {answer:02x?}"))
}

fn data_without_command(server: &Server, _: u64) -> Outcome {
    let association = server.association(HOST)?;
    for (cccid, ttag) in [(0, 0), (1, 0), (0xffff, 0xffff), (1, 0x1234)] {
        for (offset, length) in [(0u32, 512usize), (0, 4), (u32::MAX, 512), (512, 0)] {
            let mut queue = association.io(1)?;
            let bytes = queue.wire.encode(&Pdu::h2c_data(cccid, ttag, offset, true, &vec![9; length]));
            shoot(&mut queue.wire, &bytes)?;
            reaction(&mut queue.wire, false)?.ensure_terminated()?;
        }
    }
    Ok(association.end()?)
}

/// Answers an R2T wrongly in every field; nothing of it may be written.
fn data_wrong(server: &Server, _: u64) -> Outcome {
    fill(server, 1024, 256, 0x11)?;
    type Spoil = fn(&mut Pdu);
    let spoils: [(&str, Spoil); 14] = [
        ("transfer tag", |pdu| _ = pdu.set_u16(10, pdu.u16(10) ^ 0x5555)),
        ("transfer tag, one bit", |pdu| _ = pdu.set_u16(10, pdu.u16(10) ^ 0x8000)),
        ("command identifier", |pdu| _ = pdu.set_u16(8, pdu.u16(8) ^ 0x1111)),
        ("offset beyond the transfer", |pdu| _ = pdu.set_u32(12, 1 << 20)),
        ("offset at the end of numbers", |pdu| _ = pdu.set_u32(12, u32::MAX - 100)),
        ("offset inside the transfer", |pdu| _ = pdu.set_u32(12, 512)),
        ("a length above the data", |pdu| _ = pdu.set_u32(16, pdu.u32(16) + 4)),
        ("a length below the data", |pdu| _ = pdu.set_u32(16, pdu.u32(16) - 4)),
        ("a length of nothing", |pdu| _ = pdu.set_u32(16, 0)),
        ("a length at the end of numbers", |pdu| _ = pdu.set_u32(16, u32::MAX)),
        ("no data", |pdu| pdu.data.clear()),
        ("no data and no length", |pdu| {
            pdu.data.clear();
            pdu.set_u32(16, 0);
        }),
        ("the last one too early", |pdu| {
            pdu.data.truncate(512);
            pdu.set_u32(16, 512);
        }),
        ("more than was asked for", |pdu| {
            pdu.data.resize(160 * 1024, 0x22);
            pdu.set_u32(16, 160 * 1024);
        }),
    ];
    let association = server.association(HOST)?;
    for (what, spoil) in spoils {
        let mut queue = association.io(1)?;
        let (cid, r2t) = await_r2t(&mut queue, 1024, 256, 0x22)?;
        let asked = (r2t.u32(16) as usize).min(queue.h2c_data_bytes_max);
        let mut pdu = Pdu::h2c_data(cid, r2t.u16(10), r2t.u32(12), true, &vec![0x22; asked]);
        spoil(&mut pdu);
        let bytes = queue.wire.encode(&pdu);
        shoot(&mut queue.wire, &bytes)?;
        let got = reaction(&mut queue.wire, false).context(what)?;
        got.ensure_terminated().context(what)?;
        ensure(got.status_of(cid).is_none(), || format!("wrong {what}: the write was answered"))?;
        ensure_content(server, 1024, 256, 0x11).context(what)?;
    }
    // Everything is there, and the last one does not say so.
    let mut queue = association.io(1)?;
    let (cid, r2t) = await_r2t(&mut queue, 1024, 256, 0x22)?;
    let pdu = Pdu::h2c_data(cid, r2t.u16(10), r2t.u32(12), false, &vec![0x22; r2t.u32(16) as usize]);
    let bytes = queue.wire.encode(&pdu);
    shoot(&mut queue.wire, &bytes)?;
    reaction(&mut queue.wire, false)?.ensure_terminated().context("LAST_PDU is missing")?;
    Ok(association.end()?)
}

/// The same data once more, after the write has ended and its blocks were written anew.
fn data_replayed(server: &Server, _: u64) -> Outcome {
    let (association, mut queue) = queues(server)?;
    let (cid, r2t) = await_r2t(&mut queue, 1024, 256, 0x22)?;
    let bytes = vec![0x22; r2t.u32(16) as usize];
    let data = queue.wire.encode(&Pdu::h2c_data(cid, r2t.u16(10), r2t.u32(12), true, &bytes));
    queue.wire.send_bytes(&data)?;
    queue.complete_one()?.good()?;
    fill(server, 1024, 256, 0x33)?;
    shoot(&mut queue.wire, &data)?;
    reaction(&mut queue.wire, false)?.ensure_terminated()?;
    ensure_content(server, 1024, 256, 0x33)?;
    Ok(association.end()?)
}

/// The tag of a write that waits on another queue, of the same host and of another one.
fn data_of_another(server: &Server, _: u64) -> Outcome {
    fill(server, 1024, 256, 0x11)?;
    for thief in [HOST, HOST + 1] {
        let (association, mut owner) = queues(server)?;
        let (cid, r2t) = await_r2t(&mut owner, 1024, 256, 0x22)?;
        let other = server.association(thief)?;
        let mut queue = other.io(2)?;
        let pdu = Pdu::h2c_data(cid, r2t.u16(10), 0, true, &vec![0x44; r2t.u32(16) as usize]);
        let bytes = queue.wire.encode(&pdu);
        shoot(&mut queue.wire, &bytes)?;
        reaction(&mut queue.wire, false)?.ensure_terminated()?;
        // The owner is not concerned.
        let sound = Pdu::h2c_data(cid, r2t.u16(10), 0, true, &vec![0x22; r2t.u32(16) as usize]);
        owner.wire.send(&sound)?;
        owner.complete_one()?.good()?;
        ensure_content(server, 1024, 256, 0x22)?;
        fill(server, 1024, 256, 0x11)?;
        other.end()?;
        association.end()?;
    }
    Ok(())
}

/// A header digest that is wrong ends the connection; a data digest that is wrong ends the command (3.3.2).
fn digests_wrong(server: &Server, _: u64) -> Outcome {
    fill(server, 1024, 16, 0x11)?;
    let both = Digests { header: true, data: true };
    let association = server.association_with(0, HOST, both, 0)?;
    let write = || Command::write(Sqe::blocks(opcode::WRITE, NSID, 1024, 16), vec![0x22; 8192]);
    for byte in [8, 40, 72, 75] {
        let mut queue = association.io(1)?;
        let (_, pdu) = queue.prepare(write());
        let mut bytes = queue.wire.encode(&pdu);
        bytes[byte] ^= 0x10;
        shoot(&mut queue.wire, &bytes)?;
        let got = reaction(&mut queue.wire, false)?;
        got.ensure_terminated().context(&format!("header, byte {byte}"))?;
        ensure(got.pdus().last().is_some_and(|pdu| pdu.u16(8) == 3), || "not as a digest error".into())?;
    }
    let mut queue = association.io(2)?;
    let (cid, pdu) = queue.prepare(write());
    let mut bytes = queue.wire.encode(&pdu);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    shoot(&mut queue.wire, &bytes)?;
    let got = reaction(&mut queue.wire, false)?;
    ensure(matches!(got, Reaction::Alive(_)) && got.status_of(cid) == Some(0x22), || {
        format!("data in a capsule: {got:02x?}")
    })?;
    let mut queue = association.io(3)?;
    let (cid, r2t) = await_r2t(&mut queue, 1024, 64, 0x22)?;
    let pdu = Pdu::h2c_data(cid, r2t.u16(10), 0, true, &vec![0x22; r2t.u32(16) as usize]);
    let mut bytes = queue.wire.encode(&pdu);
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    shoot(&mut queue.wire, &bytes)?;
    let got = reaction(&mut queue.wire, false)?;
    ensure(got.status_of(cid) != Some(0), || format!("H2CData: {got:02x?}"))?;
    ensure_content(server, 1024, 16, 0x11)?;
    Ok(association.end()?)
}

/// Flags of digests against what ICReq and ICResp said.
fn digest_flags(server: &Server, _: u64) -> Outcome {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let association = server.association_with(0, HOST, Digests { header, data }, 0)?;
        for flag in [HDGST, DDGST, HDGST | DDGST] {
            let mut queue = association.io(1)?;
            let sqe = Sqe::blocks(opcode::WRITE, NSID, 4096, 1);
            let (_, pdu) = queue.prepare(Command::write(sqe, vec![1; 512]));
            let mut bytes = queue.wire.encode(&pdu);
            bytes[1] ^= flag;
            if header {
                let sum = nvme_host::pdu::crc32c(&bytes[..72]);
                bytes[72..76].copy_from_slice(&sum);
            }
            shoot(&mut queue.wire, &bytes)?;
            let got = reaction(&mut queue.wire, false)?;
            got.ensure_terminated().context(&format!("digests {header} {data}, flags ^ {flag}"))?;
        }
        association.end()?;
    }
    Ok(())
}

fn terminations(server: &Server, _: u64) -> Outcome {
    let association = server.association(HOST)?;
    for status in [0u16, 1, 5, 6, 7, 0xffff] {
        for length in [0usize, 1, 8, 128, 129, 152, 4096] {
            let mut queue = association.io(1)?;
            let pdu = Pdu::h2c_term_req(status, &vec![4; length]);
            let bytes = queue.wire.encode(&pdu);
            shoot(&mut queue.wire, &bytes)?;
            let got = reaction(&mut queue.wire, false)?;
            ensure(matches!(got, Reaction::Closed(_)), || format!("{status:#x} with {length} bytes: alive"))?;
        }
    }
    association.end()?;
    // On the admin queue it ends the association.
    let mut association = server.association(HOST)?;
    let mut queue = association.io(1)?;
    shoot(&mut association.admin.wire, &Pdu::h2c_term_req(1, &[4; 72]).encode(Digests::default(), 4))?;
    association.admin.wire.drain_until_closed()?;
    queue.wire.drain_until_closed().context("an I/O queue without its controller")?;
    Ok(())
}

/// A whole exchange in one piece: ICReq, Connect of an admin queue, commands with and without data.
fn exchange() -> Vec<u8> {
    let host = nvme_host::Identity::numbered(HOST);
    let data = Queue::connect_data(SUBSYSTEM_NQN, &host, 0xffff);
    let connect = Sqe::connect(0, 32, 0).with_cid(1).with_sgl(1024, true);
    let enable = Sqe::property_set(CC, nvme_host::host::CC_ENABLED).with_cid(2).with_sgl(0, false);
    let events = Sqe::new(opcode::ASYNC_EVENT, 0).with_cid(3).with_sgl(0, false);
    let identify = Sqe::new(opcode::IDENTIFY, 0).with_u32(40, 1).with_cid(4).with_sgl(4096, false);
    let mut bytes = ic_req();
    for (sqe, data) in [(connect, data), (enable, vec![]), (events, vec![]), (identify, vec![])] {
        bytes.extend(Pdu::capsule(&sqe.0, data).encode(Digests::default(), 4));
    }
    bytes
}

/// The exchange breaks off after every single byte, with FIN and with RST.
fn breaks_at_every_byte(server: &Server, _: u64) -> Outcome {
    let bytes = exchange();
    // The 1,024 bytes of Connect's data are all alike to a parser.
    let cuts = (1..bytes.len()).filter(|cut| !(208..1216).contains(cut) || cut % 64 == 0);
    for cut in cuts {
        for reset in [false, true] {
            let mut wire = Wire::connect(server.listeners[0])?;
            wire.send_bytes(&bytes[..cut])?;
            if reset {
                wire.reset();
            }
        }
    }
    // The same on an I/O queue, within a write and its data.
    let association = server.association(HOST)?;
    for cut in (0..72).chain([73, 96, 200, 4096, 65_536]) {
        for reset in [false, true] {
            let mut queue = association.io(1)?;
            let (cid, r2t) = await_r2t(&mut queue, 8192, 256, 0x5a)?;
            let data = vec![0x5a; r2t.u32(16) as usize];
            let bytes = queue.wire.encode(&Pdu::h2c_data(cid, r2t.u16(10), 0, true, &data));
            queue.wire.send_bytes(&bytes[..cut])?;
            if reset {
                queue.wire.reset();
            }
        }
    }
    Ok(association.end()?)
}

/// After the reset of the controller, data that comes late must not be written.
fn no_ghost_write(server: &Server, _: u64) -> Outcome {
    fill(server, 2048, 256, 0x11)?;
    let (mut association, mut queue) = queues(server)?;
    let (cid, r2t) = await_r2t(&mut queue, 2048, 256, 0x22)?;
    association.reset()?;
    let data = vec![0x22; r2t.u32(16) as usize];
    let bytes = queue.wire.encode(&Pdu::h2c_data(cid, r2t.u16(10), 0, true, &data));
    shoot(&mut queue.wire, &bytes)?;
    queue.wire.drain_until_closed().context("an I/O queue after the reset")?;
    ensure_content(server, 2048, 256, 0x11)
}

/// Two paths of one host. A write's data is held back on the first; the keep alive of that path runs out; the write is
/// done on the second path, and then a newer one. When the old data comes at last, the newer write must survive.
fn late_data_of_an_expired_path(server: &Server, _: u64) -> Outcome {
    fill(server, 3072, 256, 0x11)?;
    let old = server.association_with(0, HOST, Digests::default(), 1000)?;
    let mut old_queue = old.io(1)?;
    let (cid, r2t) = await_r2t(&mut old_queue, 3072, 256, 0x22)?;
    let data = vec![0x22; r2t.u32(16) as usize];
    let bytes = old_queue.wire.encode(&Pdu::h2c_data(cid, r2t.u16(10), 0, true, &data));
    let (front, rest) = bytes.split_at(bytes.len() / 2);
    old_queue.wire.send_bytes(front)?;
    let new = server.association_with(1, HOST, Digests::default(), 0)?;
    let mut new_queue = new.io(1)?;
    // Nothing is heard from the first path any more. Its end is the proof that its writes are over.
    let patient = crate::limits::LOGIN_DROP_PATIENCE;
    old_queue.wire.set_patience(patient)?;
    old_queue.wire.drain_until_closed().context("the keep alive of the first path runs out")?;
    for byte in [0x22, 0x33] {
        let sqe = Sqe::blocks(opcode::WRITE, NSID, 3072, 256);
        good(&mut new_queue, Command::write(sqe, vec![byte; 256 * 512]))?;
    }
    match old_queue.wire.send_bytes(rest) {
        Ok(()) | Err(WireError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    for _ in 0..50 {
        let read = Command::read(Sqe::blocks(opcode::READ, NSID, 3072, 256), 256 * 512);
        let found = good(&mut new_queue, read)?;
        ensure(found.iter().all(|byte| *byte == 0x33), || "old data has fallen on newer data".into())?;
    }
    Ok(new.end()?)
}

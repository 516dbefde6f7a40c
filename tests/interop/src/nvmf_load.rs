//! Many, slow and stuck hosts over NVMe/TCP: the target keeps serving the others, and everything they held goes home.
//!
//! "Others are not stalled" is said in completions of a witness, never in seconds.

use std::time::Duration;

use nvme_host::sqe::opcode;
use nvme_host::{Association, Command, Digests, Pdu, Queue, Sqe, Wire, WireError};

use crate::failure::{Context, Outcome, ensure};
use crate::limits;
use crate::nvmf_hostile::good;
use crate::nvmf_witness;
use crate::options::Options;
use crate::process::Held;
use crate::report::Report;
use crate::scene::{self, BACKLOG_KIB_MAX, PROGRESS, Scene};
use crate::server::{Offer, Server, Unit};

const NSID: u32 = 1;
const WITNESS_NSID: u32 = 2;

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let scaled = |count: usize| if options.quick { count / 10 } else { count };
    let connections = scaled(limits::CONNECTIONS);
    let logins = scaled(limits::LOGINS);
    report.check("connections_at_once", || scene(options, |scene| many_queues(scene, connections)));
    report.check("associations_in_a_row", || scene(options, |scene| many_associations(scene, logins)));
    report.check("silent_connections", || scene(options, |scene| silent_connections(scene, connections)));
    report.check("slow_readers", || scene(options, slow_readers));
    report.check("answers_never_read", || scene(options, answers_never_read));
    report.check("slow_writers", || scene(options, slow_writers));
    report.check("slow_connect", || scene(options, slow_connect));
    report.check("resets_under_load", || scene(options, |scene| resets(scene, scaled(500))));
}

/// Sets a scene with the witness on the second namespace, lets `storm` loose, and looks whether everything is as before.
fn scene(options: &Options, storm: impl FnOnce(&mut Scene) -> Outcome) -> Outcome {
    scene::raise_descriptor_limit()?;
    let server = Server::start(options, Offer::of(&[Unit::memory(64), Unit::memory(64)]).with_listeners(1))?;
    let witness = nvmf_witness::start(&server, WITNESS_NSID)?;
    let mut scene = Scene::of(server, witness)?;
    storm(&mut scene)?;
    let server = scene.close().context("after the storm")?;
    let mut association = server.association(1).context("after the storm")?;
    association.identify(1, 0)?;
    Ok(association.end()?)
}

/// The same storm twice: what the allocator keeps after the first is no leak, what it has to add in the second is one.
fn many_queues(scene: &mut Scene, connections: usize) -> Outcome {
    queues_at_once(scene, connections)?;
    let descriptors_only = Held { resident_kib: u64::MAX / 2, ..scene.held };
    scene.server.ensure_returned(descriptors_only)?;
    scene.held = scene.server.held()?;
    queues_at_once(scene, connections).context("the second time")
}

/// Half as many associations, each with an I/O queue, all at once.
fn queues_at_once(scene: &mut Scene, connections: usize) -> Outcome {
    let mut hosts: Vec<(Association, Queue)> = Vec::new();
    for index in 0..connections / 2 {
        let association = scene.server.association(index as u16 + 1).context(&format!("host {index}"))?;
        let queue = association.io(1).context(&format!("I/O queue of host {index}"))?;
        hosts.push((association, queue));
    }
    scene.witness.ensure_progress(PROGRESS).context("with all of them idle")?;
    for (index, (_, queue)) in hosts.iter_mut().enumerate() {
        let block = (index as u64).to_le_bytes().repeat(64);
        queue.submit(Command::write(Sqe::blocks(opcode::WRITE, NSID, index as u64, 1), block))?;
    }
    for (_, queue) in &mut hosts {
        queue.complete_one()?.good()?;
    }
    for (index, (_, queue)) in hosts.iter_mut().enumerate() {
        let read = Command::read(Sqe::blocks(opcode::READ, NSID, index as u64, 1), 512);
        let found = good(queue, read)?;
        ensure(found == (index as u64).to_le_bytes().repeat(64), || format!("host {index} reads wrong"))?;
    }
    // Half of them leave politely, half just go.
    for (index, (association, queue)) in hosts.into_iter().enumerate() {
        drop(queue);
        if index % 2 == 0 {
            association.end()?;
        }
    }
    Ok(())
}

fn many_associations(scene: &mut Scene, count: usize) -> Outcome {
    for round in 0..count {
        let association =
            scene.server.association(round as u16 % 4).context(&format!("association {round}"))?;
        if round % 2 == 0 {
            association.end().context(&format!("shutdown {round}"))?;
        }
    }
    Ok(())
}

fn silent_connections(scene: &mut Scene, connections: usize) -> Outcome {
    let mut wires = Vec::new();
    for index in 0..connections {
        let mut wire = Wire::connect(scene.server.listeners[0])?;
        // Every other one has said who speaks, and then nothing more.
        if index % 2 == 0 {
            wire.send(&Pdu::ic_req(Digests::default(), 1))?;
        }
        wires.push(wire);
    }
    scene.witness.ensure_progress(PROGRESS).context("with all of them silent")?;
    for mut wire in wires {
        wire.set_patience(limits::LOGIN_DROP_PATIENCE)?;
        wire.drain_until_closed().context("the target keeps a connection that it should drop")?;
    }
    Ok(())
}

/// Hosts that ask for all the data their queues allow, and do not read it. Others get on, on both namespaces.
fn slow_readers(scene: &mut Scene) -> Outcome {
    let mut stuck = Vec::new();
    for host in 1..=32 {
        let association = scene.server.association(host)?;
        let mut queue = association.io(1)?;
        queue.wire.shrink_receive_buffer()?;
        while queue.has_room() {
            queue.submit(Command::read(Sqe::blocks(opcode::READ, NSID, 0, 512), 512 * 512))?;
        }
        stuck.push((association, queue));
    }
    scene
        .server
        .ensure_buffers_short(|| scene.witness.ensure_progress(PROGRESS))
        .context("beside readers that do not read")?;
    let neighbour = nvmf_witness::start(&scene.server, NSID).context("a new host where nobody reads")?;
    neighbour
        .ensure_progress(PROGRESS)
        .context("on the namespace that is read by readers that do not read")?;
    neighbour.finish()?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("stuck readers made the target keep {grown} KiB more"))
}

/// Hosts that send commands as long as the target takes them, and never read an answer.
fn answers_never_read(scene: &mut Scene) -> Outcome {
    let mut stuck = Vec::new();
    for host in 1..=8 {
        let association = scene.server.association(host)?;
        let mut queue = association.io(1)?;
        queue.wire.shrink_receive_buffer()?;
        queue.wire.set_patience(Duration::from_millis(200))?;
        let sqe = Sqe::new(opcode::FLUSH, NSID).with_sgl(0, false);
        let bytes = queue.wire.encode(&Pdu::capsule(&sqe.0, Vec::new())).repeat(512);
        // 18 MiB of commands: the target must stop taking them long before, or end a host that keeps to no limit.
        for _ in 0..512 {
            match queue.wire.send_some(&bytes) {
                Ok(sent) if sent == bytes.len() => {}
                Ok(_) | Err(WireError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        stuck.push((association, queue));
    }
    scene.witness.ensure_progress(PROGRESS).context("beside hosts that read no answer")?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("unread answers made the target keep {grown} KiB more"))
}

/// Hosts that stop in the middle of a PDU: in its header, and in its data.
fn slow_writers(scene: &mut Scene) -> Outcome {
    let mut stopped: Vec<(Association, Queue, Vec<u8>)> = Vec::new();
    for (host, cut) in (1..).zip([1, 7, 8, 17, 71, 72, 73, 200, 4095]) {
        let association = scene.server.association(host)?;
        let mut queue = association.io(1)?;
        let sqe = Sqe::blocks(opcode::WRITE, NSID, u64::from(host) * 8, 8);
        let (_, pdu) = queue.prepare(Command::write(sqe, vec![host as u8; 4096]));
        let mut bytes = queue.wire.encode(&pdu);
        let rest = bytes.split_off(cut);
        queue.wire.send_slowly(&bytes, Duration::ZERO)?;
        stopped.push((association, queue, rest));
    }
    scene.witness.ensure_progress(PROGRESS).context("beside writers that stopped")?;
    for (_, queue, rest) in &mut stopped {
        queue.wire.send_slowly(rest, Duration::ZERO)?;
        queue.complete_one().context("a writer that went on")?.good()?;
    }
    for (association, queue, _) in stopped {
        drop(queue);
        association.end()?;
    }
    Ok(())
}

/// ICReq and Connect that come a byte at a time: at full speed they succeed, at a crawl they are dropped.
fn slow_connect(scene: &mut Scene) -> Outcome {
    let host = nvme_host::Identity::numbered(1);
    let data = Queue::connect_data(crate::server::SUBSYSTEM_NQN, &host, 0xffff);
    let sqe = Sqe::connect(0, 32, 0).with_cid(1).with_sgl(1024, true);
    let mut bytes = Pdu::ic_req(Digests::default(), 1).encode(Digests::default(), 4);
    bytes.extend(Pdu::capsule(&sqe.0, data).encode(Digests::default(), 4));
    let mut wire = Wire::connect(scene.server.listeners[0])?;
    wire.send_slowly(&bytes, Duration::ZERO)?;
    let answers = [wire.recv()?, wire.recv().context("a Connect that came byte by byte")?];
    ensure(answers[1].u16(22) >> 1 == 0, || format!("it was refused: {:02x?}", answers[1]))?;
    drop(wire);
    let mut wire = Wire::connect(scene.server.listeners[0])?;
    match wire.send_slowly(&bytes, Duration::from_secs(1)) {
        // The drop may be noticed while sending or only afterwards.
        Err(WireError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => crate::failure::fail("a connection at a crawl was not dropped"),
    }
}

/// Connections that break with commands in flight, at every stage of a write.
fn resets(scene: &mut Scene, rounds: usize) -> Outcome {
    for round in 0..rounds {
        let association = scene.server.association(1)?;
        let mut queue = association.io(1)?;
        for index in 0..8u64 {
            let sqe = Sqe::blocks(opcode::WRITE, NSID, index * 1024, 16);
            let (_, pdu) = queue.prepare(Command::write(sqe, vec![0xee; 8192]));
            let bytes = queue.wire.encode(&pdu);
            let cut = if index == 7 { 1 + round * 97 % bytes.len() } else { bytes.len() };
            queue.wire.send_bytes(&bytes[..cut])?;
            if index < 7 {
                queue.submit(Command::read(Sqe::blocks(opcode::READ, NSID, index * 8, 512), 512 * 512))?;
                queue
                    .submit(Command::write(Sqe::blocks(opcode::WRITE, NSID, 0, 1024), vec![1; 512 * 1024]))?;
            }
        }
        match round % 3 {
            0 => queue.wire.reset(),
            1 => association.admin.wire.reset(),
            _ => {}
        }
    }
    Ok(())
}

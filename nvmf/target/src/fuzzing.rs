//! The body of the fuzz target `core`: the whole target of a core, and hosts that do whatever the bytes of an input say,
//! disconnecting anywhere. For any bytes: nothing panics, what the target sends is framed as the standard says, and when
//! all hosts are gone nothing of them is left.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use nvme_spec::SglDescriptor;
use nvme_spec::Sqe;
use nvme_spec::fabrics::{CATTR_DISABLE_SQ_FLOW_CONTROL, Connect, ConnectData, PropertySet, nqn_field};
use nvme_spec::register::CC;
use reactor::sim::SimEnd;
use world::{NQN, World};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Steps of one input: enough for several associations.
const STEPS_MAX: usize = 300;
/// Connections at once.
const CONNECTIONS_MAX: usize = 6;
/// CC of a controller that is enabled.
const ENABLED: u64 = 1 | 6 << 16 | 4 << 20;

/// The bytes that lead the hosts; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front.to_vec()
    }
}

/// One connection of a host.
struct Peer {
    end: SimEnd,
    /// What it has not sent yet, for PDUs that come in two parts.
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// CCCID, TTAG, offset and length of the last R2T.
    asked: Option<(u16, u16, u32, u32)>,
}

/// Hosts and the target before them.
struct Play {
    world: World,
    peers: BTreeMap<usize, Peer>,
    /// The last controller identifier that a Connect was answered with.
    cntlid: u16,
    next_cid: u16,
    seen: Seen,
}

/// Plays what the input says.
pub fn core(data: &[u8]) {
    play(data);
}

/// How often the target sent what: PDUs by type.
type Seen = BTreeMap<u8, usize>;

fn play(data: &[u8]) -> Seen {
    let mut input = Input(data);
    let world = World::new(input.byte().into());
    let mut play = Play { world, peers: BTreeMap::new(), cntlid: 1, next_cid: 1, seen: Seen::new() };
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            break;
        }
        play.step(&mut input);
        play.receive();
    }
    play.peers.clear();
    play.world.assert_nothing_is_left();
    play.seen
}

impl Play {
    fn step(&mut self, input: &mut Input<'_>) {
        let step = input.below(16);
        let at = input.below(CONNECTIONS_MAX);
        match step {
            0 => return self.open(at),
            1 => return self.world.turns(input.below(16)),
            2 => return self.world.gate.set_closed(at.is_multiple_of(2)),
            3 => return self.world.sim.advance(Duration::from_millis(u64::from(input.byte()) * 50)),
            4 => return self.world.set_namespace(!at.is_multiple_of(4)),
            5 => {
                if let Some(peer) = self.peers.remove(&at)
                    && input.byte().is_multiple_of(2)
                {
                    peer.end.reset();
                }
                return;
            }
            _ => {}
        }
        if !self.peers.contains_key(&at) {
            return self.open(at);
        }
        let bytes = self.message(step, at, input);
        // Most messages are sent whole.
        let cut = match input.byte() {
            cut @ 0..64 => usize::from(cut),
            _ => bytes.len(),
        };
        let peer = self.peers.get_mut(&at).expect("looked up above");
        peer.unsent.extend_from_slice(&bytes);
        let now = peer.unsent.len() - (bytes.len() - cut.min(bytes.len()));
        let sent = peer.end.send_now(&peer.unsent[..now]);
        peer.unsent.drain(..sent);
        self.world.turns(1);
    }

    fn open(&mut self, at: usize) {
        if let Ok(end) = self.world.sim.connect(self.world.address) {
            let (unsent, received) = (ic_req(), Vec::new());
            self.peers.insert(at, Peer { end, unsent, received, asked: None });
        }
    }

    /// What is sent next on the connection.
    fn message(&mut self, step: usize, at: usize, input: &mut Input<'_>) -> Vec<u8> {
        match step {
            6 => self.connect(0, 0xffff, input),
            7 | 8 => {
                let qid = input.below(4) as u16;
                self.connect(qid, self.cntlid.wrapping_add(input.below(2) as u16), input)
            }
            9 => {
                let value = if input.byte() < 200 { ENABLED } else { u64::from(input.byte()) << 14 };
                let set =
                    PropertySet { offset: U32::new(CC), value: U64::new(value), ..PropertySet::command() };
                self.capsule(*set.as_sqe(), &[], None)
            }
            10..=12 => self.command(input),
            13 => self.data(at, input),
            14 => {
                let count = input.below(64);
                input.take(count)
            }
            _ => Vec::new(),
        }
    }

    fn connect(&mut self, qid: u16, cntlid: u16, input: &mut Input<'_>) -> Vec<u8> {
        let host = 1 + input.byte() % 2;
        let command = Connect {
            qid: U16::new(qid),
            sqsize: U16::new(1 + u16::from(input.byte() % 32)),
            cattr: if host == 1 { CATTR_DISABLE_SQ_FLOW_CONTROL } else { 0 },
            kato_ms: U32::new(u32::from(input.byte() % 4) * 1000),
            ..Connect::command()
        };
        let data = ConnectData {
            hostid: [host; 16],
            cntlid: U16::new(cntlid),
            subnqn: nqn_field(NQN).expect("a name"),
            hostnqn: nqn_field(if host == 1 { "nqn.x:a" } else { "nqn.x:b" }).expect("a name"),
            ..ConnectData::default()
        };
        self.capsule(*command.as_sqe(), data.as_bytes(), Some(1024))
    }

    /// A command whose bytes are those of the input, in range more often than not.
    fn command(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let mut bytes = input.take(24);
        bytes.resize(24, 0);
        let mut sqe = Sqe::default();
        (sqe.opcode, sqe.flags) = (bytes[0], bytes[1] & 3);
        sqe.nsid = U32::new(if bytes[2] < 200 { 1 } else { u32::from(bytes[3]).wrapping_sub(2) });
        let dword = |at: usize| {
            U32::new(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
        };
        sqe.cdw10 = U32::new(dword(4).get() & if bytes[2] < 128 { 0x3ff } else { u32::MAX });
        sqe.cdw11 = if bytes[2] < 150 { U32::new(0) } else { dword(8) };
        sqe.cdw12 = U32::new(dword(12).get() & if bytes[2] < 128 { 0x3f } else { u32::MAX });
        (sqe.cdw13, sqe.cdw14) = (dword(16), U32::new(u32::from(bytes[20])));
        let length = u32::from(bytes[21]) * 512;
        // Writes bring their data with them, or are asked for it.
        let data = vec![bytes[22]; if bytes[23] < 128 && sqe.opcode & 3 == 1 { length as usize } else { 0 }];
        let in_capsule = (!data.is_empty()).then_some(length);
        if in_capsule.is_none() {
            sqe.set_sgl(SglDescriptor::transport(length));
        }
        self.capsule(sqe, &data, in_capsule)
    }

    /// Data for the last R2T, right or wrong.
    fn data(&mut self, at: usize, input: &mut Input<'_>) -> Vec<u8> {
        let asked = self.peers.get_mut(&at).and_then(|peer| peer.asked.take());
        let (mut cccid, mut ttag, mut offset, mut length) = asked.unwrap_or((1, 1, 0, 512));
        match input.byte() {
            0 => cccid ^= 1,
            1 => ttag ^= 0x400,
            2 => offset += 512,
            3 => length /= 2,
            _ => {}
        }
        let mut bytes = vec![6, if input.byte() < 230 { 4 } else { 0 }, 24, 24];
        bytes.extend((24 + length).to_le_bytes());
        bytes.extend(cccid.to_le_bytes());
        bytes.extend(ttag.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.resize(24 + length as usize, 0);
        bytes
    }

    /// A command capsule with the next identifier; with `in_capsule` its SGL says that the data is inside.
    fn capsule(&mut self, mut sqe: Sqe, data: &[u8], in_capsule: Option<u32>) -> Vec<u8> {
        sqe.cid = U16::new(self.next_cid);
        self.next_cid = self.next_cid.wrapping_add(1) & 0x3f;
        sqe.flags |= 0x40;
        if let Some(length) = in_capsule {
            sqe.set_sgl(SglDescriptor::in_capsule(0, length));
        }
        let mut bytes = vec![4, 0, 72, if data.is_empty() { 0 } else { 72 }];
        bytes.extend((72 + data.len() as u32).to_le_bytes());
        bytes.extend(sqe.as_bytes());
        bytes.extend(data);
        bytes
    }

    /// Takes what the target sent; it must be framed well.
    fn receive(&mut self) {
        for peer in self.peers.values_mut() {
            peer.received.extend(peer.end.recv_now());
            while let Some((header, plen)) = whole_pdu(&peer.received) {
                *self.seen.entry(header[0]).or_default() += 1;
                match header[0] {
                    5 => {
                        let cqe = &header[8..24];
                        // Of a Connect that succeeded this is the controller; of others it does no harm.
                        if cqe[14..16] == [0, 0] && cqe[0] != 0 {
                            self.cntlid = u16::from_le_bytes([cqe[0], cqe[1]]);
                        }
                    }
                    9 => {
                        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
                        let long = |at: usize| u32::from(word(at)) | u32::from(word(at + 2)) << 16;
                        assert!(long(16) > 0, "an R2T for nothing");
                        peer.asked = Some((word(8), word(10), long(12), long(16)));
                    }
                    _ => {}
                }
                peer.received.drain(..plen);
            }
        }
    }
}

/// The header of the first PDU, padded to the longest, and the PDU's length, when it is whole.
fn whole_pdu(bytes: &[u8]) -> Option<([u8; 24], usize)> {
    let (head, _) = <[u8; 8]>::read_from_prefix(bytes).ok()?;
    let plen = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let hlen = match head[0] {
        1 => 128,
        3 | 5 | 7 | 9 => 24,
        other => panic!("a controller sends no PDU of type {other}"),
    };
    assert!(usize::from(head[2]) == hlen && plen >= hlen, "lengths of {head:?}");
    assert!(matches!(head[0], 3 | 7) || plen == hlen, "data where there is none: {head:?}");
    if bytes.len() < plen {
        return None;
    }
    Some((bytes[..24].try_into().expect("24 bytes"), plen))
}

fn ic_req() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nvmf_proto::testing::noise::Noise;

    use super::{Seen, core, play};

    fn seeds() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/core");
        let entries = std::fs::read_dir(&folder).expect("the corpus is part of the tree");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "the corpus is empty");
        paths.iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
    }

    #[test]
    fn the_corpus_and_every_cut_of_it() {
        let mut seen = Seen::new();
        for seed in seeds() {
            for (pdu_type, count) in play(&seed) {
                *seen.entry(pdu_type).or_default() += count;
            }
            for cut in (0..seed.len()).step_by(5) {
                core(&seed[..cut]);
            }
        }
        // Every PDU that a controller sends, so the seeds reach what they are about.
        let enough = [(1, 20), (3, 2), (5, 40), (7, 3), (9, 4)];
        assert!(enough.iter().all(|(pdu_type, least)| seen.get(pdu_type) >= Some(least)), "{seen:?}");
    }

    /// Long, and unlike the seeds.
    #[test]
    fn noise() {
        let mut noise = Noise::default();
        for round in 0..60 {
            core(&noise.bytes(16 + round * 16));
        }
    }
}

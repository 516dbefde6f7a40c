//! Every operation code with every service action and every odd length (reliability row 102, and the
//! leak and the overflow of other targets): no panic, no reply longer than its room, nothing stale.

use super::*;
use crate::fuzzing;

/// A small generator: the same sequence every time.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn every_operation_code_and_service_action_has_an_answer() {
    let mut bench = bench();
    let payload = vec![0; 4096];
    for opcode in 0..=255 {
        for action in 0..32 {
            for fill in [0x00, 0x01, 0xff] {
                let mut cdb = [fill; 16];
                (cdb[0], cdb[1]) = (opcode, action | fill & 0xe0);
                cdb[15] = 0;
                drop(bench.run(1, &cdb, &payload));
                drop(bench.run(1, &cdb, &[]));
                drop(bench.run(2, &[0; 6], &[]));
                // Write protection or a reservation would hide what follows.
                bench.unit.reset(None);
                drop(bench.run(1, &[0; 6], &[]));
                drop(bench.run(2, &[0; 6], &[]));
            }
        }
    }
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn replies_are_cut_at_every_allocation_length_and_hold_no_stale_byte() {
    let commands: [(&[u8], usize, usize); 11] = [
        (&[0x12, 0, 0, 0, 0, 0], 3, 2),
        (&[0x12, 1, 0x83, 0, 0, 0], 3, 2),
        (&[0x12, 1, 0xb0, 0, 0, 0], 3, 2),
        (&[0x03, 1, 0, 0, 0, 0], 4, 1),
        (&[0x1a, 0, 0x3f, 0xff, 0, 0], 4, 1),
        (&[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 0, 0, 0], 7, 2),
        (&[0x5e, 3, 0, 0, 0, 0, 0, 0, 0, 0], 7, 2),
        (&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
        (&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
        (&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, 4),
        (&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, 4),
    ];
    let mut bench = bench();
    for (cdb, at, bytes) in commands {
        let with = |room: u64| {
            let mut cdb = cdb.to_vec();
            cdb[at..at + bytes].copy_from_slice(&room.to_be_bytes()[8 - bytes..]);
            cdb
        };
        let most = (1_u64 << (8 * bytes.min(2))) - 1;
        let whole = data(&bench.run(1, &with(most), &[]));
        for room in [0, 1, 2, 3, 5, 7, 8, 11, 24, 31, 97, 254, 255].into_iter().filter(|room| *room <= most) {
            let reply = data(&bench.run(1, &with(room), &[]));
            assert_eq!(reply.len(), whole.len().min(room as usize), "{cdb:02x?} with {room}");
            if cdb[..2] != [0x9e, 0x12] {
                assert_eq!(reply, whole[..reply.len()], "{cdb:02x?} with {room}");
            }
        }
    }
}

#[test]
fn a_short_cdb_counts_as_padded_with_zeros() {
    let mut bench = bench();
    for length in 1..16 {
        for opcode in 0..=255 {
            let mut cdb = vec![0xff; length];
            cdb[0] = opcode;
            drop(bench.run(1, &cdb, &[]));
            bench.unit.reset(None);
            drop(bench.run(1, &[0; 6], &[]));
        }
    }
    // A variable-length CDB is a command that is not there.
    sense(&bench.run(1, &[0x7f; 260], &[]), 5, 0x20, 0);
}

#[test]
fn arbitrary_commands_in_arbitrary_order_break_nothing() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let known = [
        0x28, 0x2a, 0x41, 0x42, 0x48, 0x5e, 0x5f, 0x15, 0x55, 0x1a, 0x5a, 0x89, 0x93, 0x9e, 0xa3, 0x16, 0x8f,
    ];
    for _ in 0..200 {
        let mut input: Vec<u8> = (0..20 * 40 + 1).map(|_| random.next() as u8).collect();
        for command in input[1..].chunks_exact_mut(20) {
            if command[0] & 0x20 == 0 {
                command[4] = known[usize::from(command[4]) % known.len()];
                // Ranges that are often inside the device.
                command[6..12].fill(0);
            }
        }
        fuzzing::cdb(&input);
    }
}

#[test]
fn the_corpus_is_replayed() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/cdb");
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .expect("the corpus is in the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        fuzzing::cdb(&std::fs::read(file).expect("a readable file"));
    }
}

//! A capture file written from bytes that a relay saw: the TCP packets around them are made up, so nothing needs the
//! right to capture.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::failure::Outcome;
use crate::relay::Chunk;

/// Raw IP: no Ethernet around it.
const LINK_TYPE_RAW: u32 = 101;
/// Bytes of data in one packet.
const SEGMENT_BYTES: usize = 16 * 1024;
const FIRST_CLIENT_PORT: usize = 40_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const PUSH: u8 = 8;
const ACK: u8 = 16;

/// One end of a connection that is made up.
#[derive(Clone, Copy, Debug)]
struct End {
    address: [u8; 4],
    port: u16,
    sequence: u32,
}

struct File {
    out: BufWriter<std::fs::File>,
    packets: u32,
}

impl File {
    fn create(path: &Path) -> Outcome<Self> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        out.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0])?;
        for word in [0, 0, 1 << 18, LINK_TYPE_RAW] {
            out.write_all(&u32::to_le_bytes(word))?;
        }
        Ok(Self { out, packets: 0 })
    }

    /// A packet of `from`, which moves on.
    fn packet(&mut self, from: &mut End, to: &End, flags: u8, data: &[u8]) -> Outcome {
        let length = 40 + data.len();
        let mut bytes = vec![0x45, 0];
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend(from.address);
        bytes.extend(to.address);
        bytes.extend(from.port.to_be_bytes());
        bytes.extend(to.port.to_be_bytes());
        bytes.extend(from.sequence.to_be_bytes());
        bytes.extend(if flags & ACK == 0 { [0; 4] } else { to.sequence.to_be_bytes() });
        bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(data);
        for word in [self.packets / 1_000_000, self.packets % 1_000_000, length as u32, length as u32] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&bytes)?;
        self.packets += 1;
        let phantom = u32::from(flags & (SYN | FIN) != 0);
        from.sequence = from.sequence.wrapping_add(data.len() as u32 + phantom);
        Ok(())
    }
}

/// Writes what a relay saw, as connections to `port`.
pub fn write(path: &Path, port: u16, chunks: &[Chunk]) -> Outcome {
    let mut file = File::create(path)?;
    let mut ends: BTreeMap<usize, (End, End)> = BTreeMap::new();
    for chunk in chunks {
        let is_new = !ends.contains_key(&chunk.connection);
        let (client, target) = ends.entry(chunk.connection).or_insert_with(|| {
            let client_port = (FIRST_CLIENT_PORT + chunk.connection) as u16;
            let client = End { address: [10, 0, 0, 1], port: client_port, sequence: 1000 };
            (client, End { address: [10, 0, 0, 2], port, sequence: 2000 })
        });
        if is_new {
            file.packet(client, target, SYN, &[])?;
            file.packet(target, client, SYN | ACK, &[])?;
            file.packet(client, target, ACK, &[])?;
        }
        let (from, to) = if chunk.from_target { (target, client) } else { (client, target) };
        for piece in chunk.bytes.chunks(SEGMENT_BYTES) {
            file.packet(from, to, PUSH | ACK, piece)?;
            file.packet(to, from, ACK, &[])?;
        }
        if chunk.bytes.is_empty() {
            file.packet(from, to, FIN | ACK, &[])?;
        }
    }
    Ok(file.out.flush()?)
}

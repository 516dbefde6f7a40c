//! The durable form: little-endian, versioned, closed by a CRC-32C.
//!
//! ```text
//! 0  magic "VEGA-PR\0"   8  version u16   10 flags u8 (bit 0: a reservation, bit 1: one holder,
//!    bit 2: survives power loss)
//! 11 type u8   12 index of the holder u32   16 registrants u32
//! then per registrant: key u64, relative target port u16, two lengths u16, the two names
//! last: CRC-32C u32 of everything before
//! ```

use super::limits::{BLOB_BYTES_MAX, REGISTRANTS_MAX};
use super::state::{Held, Kind, Path, Registrant, Reservations};

const MAGIC: [u8; 8] = *b"VEGA-PR\0";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 20;
const HAS_RESERVATION: u8 = 1;
const HAS_ONE_HOLDER: u8 = 2;
/// Kept for its own sake, so that a host's choice holds although nobody is registered at the moment.
const SURVIVES: u8 = 4;

/// Why a stored state cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not a reservation state at all.
    #[error("not a reservation state")]
    Foreign,
    /// A newer program wrote it.
    #[error("the reservation state has format version {0}; this program knows versions up to 1")]
    Version(u16),
    /// The checksum does not match.
    #[error("the reservation state is damaged (checksum)")]
    Checksum,
    /// The checksum matches and the content contradicts itself.
    #[error("the reservation state contradicts itself")]
    Inconsistent,
}

impl Reservations {
    /// The durable form. A state that does not survive power loss is stored as an empty one, so that
    /// an older one is forgotten too. The generation starts at 0 after a restart and is not stored.
    pub fn encode(&self) -> Vec<u8> {
        let kept = self.survives_power_loss;
        let registrants: &[Registrant] = if kept { &self.registrants } else { &[] };
        let held = self.held.as_ref().filter(|_| kept);
        let (mut flags, mut kind, mut index) = (if kept { SURVIVES } else { 0 }, 0, 0);
        if let Some(held) = held {
            flags |= HAS_RESERVATION;
            kind = held.kind as u8;
            if let Some(holder) = &held.holder {
                flags |= HAS_ONE_HOLDER;
                let at = registrants.iter().position(|registrant| registrant.path == *holder);
                index = at.expect("the holder of a reservation is registered") as u32;
            }
        }
        let mut blob = Vec::with_capacity(256);
        blob.extend_from_slice(&MAGIC);
        blob.extend_from_slice(&VERSION.to_le_bytes());
        blob.extend_from_slice(&[flags, kind]);
        blob.extend_from_slice(&index.to_le_bytes());
        blob.extend_from_slice(&(registrants.len() as u32).to_le_bytes());
        for registrant in registrants {
            let (initiator, target) = (registrant.path.initiator_port(), registrant.path.target_port());
            blob.extend_from_slice(&registrant.key.to_le_bytes());
            blob.extend_from_slice(&registrant.relative_target_port.to_le_bytes());
            blob.extend_from_slice(&(initiator.len() as u16).to_le_bytes());
            blob.extend_from_slice(&(target.len() as u16).to_le_bytes());
            blob.extend_from_slice(initiator);
            blob.extend_from_slice(target);
        }
        blob.extend_from_slice(&crc32c(&blob).to_le_bytes());
        assert!(blob.len() <= BLOB_BYTES_MAX, "the limits of names and registrants bound the blob");
        blob
    }

    /// The state of a durable form.
    pub fn decode(blob: &[u8]) -> Result<Self, DecodeError> {
        if blob.len() < HEADER_BYTES + 4 || blob[..8] != MAGIC {
            return Err(DecodeError::Foreign);
        }
        let (body, checksum) = blob.split_at(blob.len() - 4);
        if checksum != crc32c(body).to_le_bytes() {
            return Err(DecodeError::Checksum);
        }
        let mut reader = Reader(&body[8..]);
        let version = reader.u16()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let (flags, kind) = (reader.u8()?, reader.u8()?);
        let (holder, count) = (reader.u32()? as usize, reader.u32()? as usize);
        if count > REGISTRANTS_MAX {
            return Err(DecodeError::Inconsistent);
        }
        let registrants = (0..count).map(|_| reader.registrant()).collect::<Result<Vec<_>, _>>()?;
        if !reader.0.is_empty() {
            return Err(DecodeError::Inconsistent);
        }
        let held = decode_held(flags, kind, registrants.get(holder))?;
        let survives_power_loss = !registrants.is_empty() || flags & SURVIVES != 0;
        let state = Self { registrants, held, generation: 0, survives_power_loss };
        if state.is_consistent() { Ok(state) } else { Err(DecodeError::Inconsistent) }
    }

    fn is_consistent(&self) -> bool {
        let paths_differ = self.registrants.iter().enumerate().all(|(index, registrant)| {
            registrant.key != 0 && self.registrants[..index].iter().all(|other| other.path != registrant.path)
        });
        paths_differ && (self.held.is_none() || !self.registrants.is_empty())
    }
}

fn decode_held(flags: u8, kind: u8, holder: Option<&Registrant>) -> Result<Option<Held>, DecodeError> {
    if flags & HAS_RESERVATION == 0 {
        return Ok(None);
    }
    let kind = Kind::from_scsi(kind).ok_or(DecodeError::Inconsistent)?;
    let one_holder = flags & HAS_ONE_HOLDER != 0;
    if one_holder == kind.held_by_all() || (one_holder && holder.is_none()) {
        return Err(DecodeError::Inconsistent);
    }
    let holder = holder.filter(|_| one_holder).map(|registrant| registrant.path.clone());
    Ok(Some(Held { kind, holder }))
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(DecodeError::Inconsistent)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn registrant(&mut self) -> Result<Registrant, DecodeError> {
        let key = self.u64()?;
        let relative_target_port = self.u16()?;
        let (initiator, target) = (usize::from(self.u16()?), usize::from(self.u16()?));
        let path = Path::new(self.take(initiator)?, self.take(target)?);
        let path = path.ok_or(DecodeError::Inconsistent)?;
        Ok(Registrant { path, key, relative_target_port })
    }
}

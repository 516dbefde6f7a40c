//! What a simulated medium holds: sectors, each with the number of the change that wrote it.

use std::collections::BTreeMap;

/// The unit a power cut tears at.
pub const SECTOR_BYTES: usize = 512;
const SECTOR: u64 = SECTOR_BYTES as u64;

type Sector = Box<[u8; SECTOR_BYTES]>;

/// What a change does to its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The range holds these bytes.
    Bytes(Vec<u8>),
    /// The range is freed and reads zeros.
    Hole,
    /// The range reads zeros and stays allocated.
    Zeros,
}

/// One write, hole or zero run, in the order in which the disk took them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Its number, from 1.
    pub(super) sequence: u64,
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u64,
    pub(super) content: Content,
}

impl Change {
    /// Its part in one of its sectors.
    pub(super) fn in_sector(&self, number: u64) -> Self {
        let from = self.offset_bytes.max(number * SECTOR);
        let to = (self.offset_bytes + self.length_bytes).min((number + 1) * SECTOR);
        let content = match &self.content {
            Content::Bytes(bytes) => {
                let first = (from - self.offset_bytes) as usize;
                Content::Bytes(bytes[first..first + (to - from) as usize].to_vec())
            }
            content => content.clone(),
        };
        Self { sequence: self.sequence, offset_bytes: from, length_bytes: to - from, content }
    }

    /// The sectors it touches.
    pub(super) fn sectors(&self) -> std::ops::Range<u64> {
        let end = (self.offset_bytes + self.length_bytes).div_ceil(SECTOR);
        self.offset_bytes / SECTOR..end
    }
}

/// Sectors that were never written read zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    sectors: BTreeMap<u64, (u64, Option<Sector>)>,
    allocated: u64,
}

impl Image {
    pub(super) fn read(&self, offset_bytes: u64, out: &mut [u8]) {
        out.fill(0);
        let end = offset_bytes + out.len() as u64;
        for (&number, (_, sector)) in self.sectors.range(offset_bytes / SECTOR..end.div_ceil(SECTOR)) {
            let Some(sector) = sector else { continue };
            let start = number * SECTOR;
            let (from, to) = (start.max(offset_bytes), (start + SECTOR).min(end));
            out[(from - offset_bytes) as usize..(to - offset_bytes) as usize]
                .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
        }
    }

    /// Applies one sector's part of `change`, unless a newer change wrote that sector.
    pub(super) fn apply_sector(&mut self, change: &Change, number: u64) {
        let (newest, slot) = self.sectors.entry(number).or_insert((0, None));
        if *newest > change.sequence {
            return;
        }
        *newest = change.sequence;
        let start = number * SECTOR;
        let from = change.offset_bytes.max(start);
        let to = (change.offset_bytes + change.length_bytes).min(start + SECTOR);
        let within = (from - start) as usize..(to - start) as usize;
        let was_allocated = slot.is_some();
        if change.content == Content::Hole && within.len() == SECTOR_BYTES {
            *slot = None;
        } else if slot.is_some() || change.content != Content::Hole {
            let sector = slot.get_or_insert_with(|| Box::new([0; SECTOR_BYTES]));
            match &change.content {
                Content::Bytes(bytes) => {
                    let first = (from - change.offset_bytes) as usize;
                    sector[within.clone()].copy_from_slice(&bytes[first..first + within.len()]);
                }
                Content::Hole | Content::Zeros => sector[within].fill(0),
            }
        }
        self.allocated = self.allocated + u64::from(slot.is_some()) - u64::from(was_allocated);
    }

    pub(super) fn apply(&mut self, change: &Change) {
        change.sectors().for_each(|number| self.apply_sector(change, number));
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated * SECTOR
    }

    /// The numbers of the sectors of a range that are not allocated yet.
    pub(super) fn missing_sectors(&self, offset_bytes: u64, length_bytes: u64) -> Vec<u64> {
        let numbers = offset_bytes / SECTOR..(offset_bytes + length_bytes).div_ceil(SECTOR);
        let is_missing = |number: &u64| self.sectors.get(number).is_none_or(|(_, sector)| sector.is_none());
        numbers.filter(is_missing).collect()
    }

    /// Bytes of the sectors of the range that are not allocated yet.
    pub(super) fn missing_bytes(&self, change: &Change) -> u64 {
        let numbers = change.sectors();
        let total = numbers.end - numbers.start;
        let there = self.sectors.range(numbers).filter(|(_, (_, sector))| sector.is_some()).count();
        (total - there as u64) * SECTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(sequence: u64, offset_bytes: u64, content: Content, length_bytes: u64) -> Change {
        Change { sequence, offset_bytes, length_bytes, content }
    }

    #[test]
    fn bytes_zeros_and_holes_at_odd_places() {
        let mut image = Image::default();
        let mut model = vec![0_u8; 4096];
        let steps = [
            (100, Content::Bytes(vec![7; 1000]), 1000),
            (600, Content::Hole, 900),
            (511, Content::Zeros, 2),
            (3000, Content::Hole, 1000),
            (3500, Content::Bytes(vec![9; 100]), 100),
        ];
        for (sequence, (offset, content, length)) in steps.into_iter().enumerate() {
            let range = offset as usize..(offset + length) as usize;
            match &content {
                Content::Bytes(bytes) => model[range].copy_from_slice(bytes),
                Content::Hole | Content::Zeros => model[range].fill(0),
            }
            image.apply(&change(sequence as u64 + 1, offset, content, length));
            let mut out = vec![1; 4096];
            image.read(0, &mut out);
            assert_eq!(out, model);
            let mut part = vec![1; 777];
            image.read(555, &mut part);
            assert_eq!(part, model[555..1332]);
        }
    }

    #[test]
    fn an_older_change_cannot_undo_a_newer_one() {
        let mut image = Image::default();
        image.apply(&change(2, 0, Content::Bytes(vec![2; 512]), 512));
        image.apply(&change(1, 0, Content::Bytes(vec![1; 1024]), 1024));
        let mut out = [0; 1024];
        image.read(0, &mut out);
        assert_eq!((out[0], out[511], out[512]), (2, 2, 1));
        assert_eq!(image.allocated_bytes(), 1024);
        image.apply(&change(3, 0, Content::Hole, 1024));
        assert_eq!(image.allocated_bytes(), 0);
    }
}

//! What every block may hold.

use nvme_emulated::EmulatedController;
use reactor::buffer::Sgl;

/// One write of a block, oldest first.
#[derive(Clone, Copy, Debug)]
struct Version {
    /// 0 is zeros.
    value: u32,
    /// When it was answered with success; 0 while it is not, or never.
    acknowledged: u64,
    /// It was answered, without success: it may have been done or not.
    doubtful: bool,
}

#[derive(Clone, Debug)]
struct Block {
    /// The first is surely on the medium.
    versions: Vec<Version>,
}

pub struct Model {
    blocks: Vec<Block>,
}

/// Fills one block with a value that names itself.
pub fn fill(sgl: &mut Sgl, offset_bytes: usize, block_bytes: usize, value: u32, lba: u64) {
    sgl.fill(offset_bytes, block_bytes, value as u8);
    sgl.copy_in(offset_bytes, &pattern(value, lba));
    sgl.copy_in(offset_bytes + block_bytes - 16, &pattern(value, lba));
}

fn pattern(value: u32, lba: u64) -> [u8; 16] {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..12].copy_from_slice(&lba.to_le_bytes());
    bytes
}

/// The value that a block holds, if it is one.
fn value_of(bytes: &[u8], lba: u64) -> Option<u32> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let value = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let (head, tail) = (&bytes[..16], &bytes[bytes.len() - 16..]);
    let middle = bytes[16..bytes.len() - 16].iter().all(|byte| *byte == value as u8);
    (head == pattern(value, lba) && tail == pattern(value, lba) && middle).then_some(value)
}

impl Model {
    pub fn new(blocks: usize) -> Self {
        let zero = Version { value: 0, acknowledged: 1, doubtful: false };
        Self { blocks: vec![Block { versions: vec![zero] }; blocks] }
    }

    fn range(&mut self, lba: u64, blocks: u64) -> &mut [Block] {
        &mut self.blocks[lba as usize..(lba + blocks) as usize]
    }

    pub fn begin_write(&mut self, lba: u64, blocks: u64, value: u32) {
        for block in self.range(lba, blocks) {
            block.versions.push(Version { value, acknowledged: 0, doubtful: false });
        }
    }

    pub fn end_write(
        &mut self,
        lba: u64,
        blocks: u64,
        value: u32,
        is_good: bool,
        sequence: u64,
        durable: bool,
    ) {
        for block in self.range(lba, blocks) {
            let last = block.versions.last_mut().expect("begun before");
            assert_eq!(last.value, value, "writes of a block do not overlap");
            if is_good {
                last.acknowledged = sequence;
            } else {
                last.doubtful = true;
            }
            if durable {
                let last = *last;
                block.versions = vec![last];
            }
        }
    }

    /// A flush that was submitted then has succeeded.
    pub fn flushed(&mut self, submitted: u64) {
        for block in &mut self.blocks {
            let is_durable =
                |version: &Version| version.acknowledged != 0 && version.acknowledged <= submitted;
            if let Some(last) = block.versions.iter().rposition(is_durable) {
                block.versions.drain(..last);
            }
        }
    }

    /// A read has succeeded: each block holds its last acknowledged value, or one of the doubtful ones that came after; and
    /// from now on only what was seen.
    pub fn check_read(&mut self, lba: u64, sgl: &Sgl, block_bytes: usize) -> Result<(), String> {
        let mut bytes = vec![0; block_bytes];
        for at in 0..sgl.len() / block_bytes {
            sgl.copy_out(at * block_bytes, &mut bytes);
            let lba = lba + at as u64;
            let found = value_of(&bytes, lba)
                .ok_or_else(|| format!("block {lba} holds no value: {:x?}", &bytes[..16]))?;
            let block = &mut self.blocks[lba as usize];
            let from = block.versions.iter().rposition(|version| version.acknowledged != 0).unwrap_or(0);
            let seen = (from..block.versions.len()).rev().find(|at| block.versions[*at].value == found);
            let Some(seen) = seen else {
                return Err(format!("block {lba} holds {found} and may hold {:?}", &block.versions[from..]));
            };
            // Doubt is over: what was not seen was not done, and will not be.
            let kept = block.versions[seen];
            block.versions.truncate(from + 1);
            if seen > from {
                block.versions.push(Version { acknowledged: u64::MAX - 1, doubtful: false, ..kept });
            }
        }
        Ok(())
    }

    /// The power went: each block holds what was durable or anything that was written since.
    pub fn check_media(&self, emulated: &EmulatedController, block_bytes: usize) -> Result<(), String> {
        let bytes = emulated.peek(1, 0, self.blocks.len() as u64);
        for (lba, (block, bytes)) in self.blocks.iter().zip(bytes.chunks(block_bytes)).enumerate() {
            let found =
                value_of(bytes, lba as u64).ok_or_else(|| format!("block {lba} is mixed on the medium"))?;
            if !block.versions.iter().any(|version| version.value == found) {
                return Err(format!(
                    "block {lba} lost what was flushed: {found}, not one of {:?}",
                    block.versions
                ));
            }
        }
        Ok(())
    }
}

//! A block device without the page cache: what is read was read from the target.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use harness::failure::{Context, Outcome};

/// What the kernel asks of buffers and offsets at most.
const ALIGNMENT_BYTES: usize = 4096;

/// An open device.
#[derive(Debug)]
pub struct Device {
    file: File,
}

impl Device {
    /// Opens `path`, past the page cache unless `cached`.
    pub fn open(path: &Path, cached: bool) -> Outcome<Self> {
        let flags = if cached { 0 } else { libc::O_DIRECT };
        let file = File::options().read(true).write(true).custom_flags(flags).open(path);
        Ok(Self { file: file.context(&format!("opening {}", path.display()))? })
    }

    /// Writes `content` at `offset_bytes`.
    pub fn write(&self, content: &[u8], offset_bytes: u64) -> Outcome {
        let mut buffer = Aligned::new(content.len());
        buffer.bytes().copy_from_slice(content);
        Ok(self.file.write_all_at(buffer.bytes(), offset_bytes)?)
    }

    /// Reads `length_bytes` at `offset_bytes`.
    pub fn read(&self, length_bytes: usize, offset_bytes: u64) -> Outcome<Vec<u8>> {
        let mut buffer = Aligned::new(length_bytes);
        self.file.read_exact_at(buffer.bytes(), offset_bytes)?;
        Ok(buffer.bytes().to_vec())
    }

    /// Everything acknowledged so far survives a power cut.
    pub fn flush(&self) -> Outcome {
        Ok(self.file.sync_data()?)
    }
}

/// Memory that begins where direct I/O wants it to.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length_bytes: usize,
}

impl Aligned {
    fn new(length_bytes: usize) -> Self {
        let memory = vec![0; length_bytes + ALIGNMENT_BYTES];
        let start = memory.as_ptr().align_offset(ALIGNMENT_BYTES);
        assert!(start < ALIGNMENT_BYTES, "memory of bytes can be aligned");
        Self { memory, start, length_bytes }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length_bytes]
    }
}

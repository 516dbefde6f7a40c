//! Opening and formatting a device that only a channel reaches: no path, no descriptor, no blocking call.
//!
//! The layout is that of [`crate::block_device`]: the last mebibyte is Vega's, the blocks before it are the volume's. What is
//! there is read before anything is written, and what is recognised is overwritten only when that was confirmed.
//!
//! ```text
//! read the end ─▶ the volume's label ──────────────────────────────────────▶ opened
//!        └─────▶ another label, or none ─▶ read the start ─▶ nothing known there, or confirmed
//!                                               └▶ refused     └▶ zero start and end ─▶ label, twice ─▶ flush ─▶ opened
//! ```

use disk_signature::{Found, HEAD_BYTES, recognise_any};
use reactor::buffer::BufferPool;
use uuid::Uuid;

use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::geometry::{Geometry, GeometryError};
use crate::identity::{COPY_OFFSETS_BYTES, Identity, IdentityError};
use crate::limits::{
    LABEL_AREA_BYTES, LABEL_METADATA_OFFSET_BYTES, LABEL_PIECE_BYTES, LABEL_STEPS_PER_POLL,
    METADATA_SLOT_BYTES, PAGE_BYTES,
};
use crate::metadata::Loaded;

/// What is to be opened or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequest {
    /// Identity of the volume.
    pub uuid: Uuid,
    /// Its block size, which must be the device's.
    pub logical_block_bytes: u32,
    /// Its size, when it is made.
    pub size_bytes: u64,
    /// Make it when it is not there.
    pub create: bool,
    /// What is on the device may be destroyed.
    pub confirmed: bool,
}

/// Why a device is not opened as the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It did not read or write.
    #[error("it cannot be {}: {status:?}", if *.writing { "written" } else { "read" })]
    Io {
        /// True for a write.
        writing: bool,
        /// How the I/O ended.
        status: IoStatus,
    },
    /// It has other blocks.
    #[error("it has blocks of {found} bytes, not {wanted}; create the volume with --block-size {found}")]
    BlockSize {
        /// What it has.
        found: u32,
        /// What the volume is to have.
        wanted: u32,
    },
    /// The volume does not fit.
    #[error("it has room for a volume of {usable_bytes} bytes, not of {wanted_bytes}")]
    TooSmall {
        /// What there is without the label.
        usable_bytes: u64,
        /// What was asked for.
        wanted_bytes: u64,
    },
    /// The volume's size is none that a volume can have.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Somebody's data is on it.
    #[error("it holds {found}")]
    Occupied {
        /// What was recognised.
        found: Found,
    },
    /// Another volume is on it.
    #[error("it holds the volume {found}, not {expected}")]
    OtherVolume {
        /// What is there.
        found: Uuid,
        /// What was looked for.
        expected: Uuid,
    },
    /// No volume is on it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It has become smaller than the volume on it.
    #[error(
        "it has room for {usable_bytes} bytes, and the volume on it has {volume_bytes}; is it the right device?"
    )]
    Truncated {
        /// What there is.
        usable_bytes: u64,
        /// What there was.
        volume_bytes: u64,
    },
    /// The reservations cannot be read.
    #[error("both copies of the volume's reservations are damaged")]
    Reservations,
}

/// An opened device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The volume on it.
    pub geometry: Geometry,
    /// Where its metadata slots begin.
    pub metadata_base_bytes: u64,
    /// What they hold.
    pub metadata: Loaded,
    /// True when it was made just now.
    pub is_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ReadEnd,
    ReadStart,
    ZeroStart,
    ZeroEnd,
    WriteLabel(usize),
    Flush,
}

/// The work, one I/O after the other; nobody else uses the channel meanwhile.
pub struct LabelWork {
    request: LabelRequest,
    geometry: Geometry,
    length_bytes: u64,
    usable_bytes: u64,
    step: Step,
    /// Bytes of the step that are done.
    done_bytes: u64,
    start: Vec<u8>,
    end: Vec<u8>,
    in_flight: bool,
    answers: Vec<Done>,
}

type End = Result<Labelled, LabelError>;

impl LabelWork {
    /// Checks what can be checked without reading.
    pub fn new(request: LabelRequest, info: &BdevInfo) -> Result<Self, LabelError> {
        let (found, wanted) = (info.logical_block_bytes, request.logical_block_bytes);
        if found != wanted {
            return Err(LabelError::BlockSize { found, wanted });
        }
        let length_bytes = info.length_blocks * u64::from(found);
        let usable_bytes = length_bytes.saturating_sub(LABEL_AREA_BYTES) / PAGE_BYTES * PAGE_BYTES;
        let wanted_bytes = request.size_bytes;
        if usable_bytes < wanted_bytes.max(PAGE_BYTES) {
            return Err(LabelError::TooSmall { usable_bytes, wanted_bytes });
        }
        let geometry = Geometry::new(request.uuid, wanted, wanted_bytes)?;
        Ok(Self {
            request,
            geometry,
            length_bytes,
            usable_bytes,
            step: Step::ReadEnd,
            done_bytes: 0,
            start: Vec::new(),
            end: Vec::new(),
            in_flight: false,
            answers: Vec::new(),
        })
    }

    /// Goes on; the end, once. Called once a turn.
    pub fn poll(&mut self, channel: &mut dyn IoChannel, buffers: &BufferPool) -> Option<End> {
        for _ in 0..LABEL_STEPS_PER_POLL {
            if self.in_flight {
                channel.poll(&mut self.answers, 1);
            } else {
                let io = self.next_io(buffers)?;
                self.in_flight = true;
                self.answers.extend(channel.submit(io));
            }
            let done = self.answers.pop()?;
            self.in_flight = false;
            if let Some(end) = self.on_done(&done) {
                return Some(end);
            }
        }
        None
    }

    fn extent(&self, start_bytes: u64, length_bytes: u64) -> Extent {
        let block_bytes = u64::from(self.geometry.logical_block_bytes);
        Extent { lba: start_bytes / block_bytes, length_blocks: length_bytes / block_bytes }
    }

    /// Where the step reads or writes, and how much of it is left.
    fn range(&self) -> (u64, u64) {
        let head_bytes = HEAD_BYTES.min(self.usable_bytes);
        match self.step {
            Step::ReadEnd => (self.usable_bytes, self.length_bytes - self.usable_bytes),
            Step::ReadStart | Step::ZeroStart => (0, head_bytes),
            // What lies before the label is the end of what was there, with marks of its own.
            Step::ZeroEnd => {
                let start = self.usable_bytes - head_bytes;
                (start, self.length_bytes - start)
            }
            Step::WriteLabel(copy) => (self.usable_bytes + COPY_OFFSETS_BYTES[copy], PAGE_BYTES),
            Step::Flush => (0, 0),
        }
    }

    /// The next I/O; `None` while there is no memory for it.
    fn next_io(&self, buffers: &BufferPool) -> Option<Io> {
        let (start_bytes, length_bytes) = self.range();
        let (tag, empty) = (self.done_bytes, reactor::buffer::Sgl::empty());
        match self.step {
            Step::ReadEnd | Step::ReadStart => {
                let piece_bytes = LABEL_PIECE_BYTES.min(length_bytes - self.done_bytes);
                let op = Op::Read(self.extent(start_bytes + self.done_bytes, piece_bytes));
                Some(Io { tag, op, sgl: buffers.alloc(piece_bytes as usize)? })
            }
            Step::ZeroStart | Step::ZeroEnd => {
                let extent = self.extent(start_bytes, length_bytes);
                Some(Io { tag, op: Op::WriteZeroes { extent, unmap: false, fua: true }, sgl: empty })
            }
            Step::WriteLabel(_) => {
                let mut sgl = buffers.alloc(PAGE_BYTES as usize)?;
                sgl.fill(0, PAGE_BYTES as usize, 0);
                sgl.copy_in(0, &self.identity().encode());
                let extent = self.extent(start_bytes, length_bytes);
                Some(Io { tag, op: Op::Write { extent, fua: true }, sgl })
            }
            Step::Flush => Some(Io { tag, op: Op::Flush, sgl: empty }),
        }
    }

    fn identity(&self) -> Identity {
        Identity { geometry: self.geometry, sequence: 1, growing_to_blocks: 0, marked: false, inode: 0 }
    }

    fn on_done(&mut self, done: &Done) -> Option<End> {
        if done.status != IoStatus::Good {
            let writing = !matches!(self.step, Step::ReadEnd | Step::ReadStart);
            return Some(Err(LabelError::Io { writing, status: done.status }));
        }
        let (_, length_bytes) = self.range();
        match self.step {
            Step::ReadEnd | Step::ReadStart => {
                let into = if self.step == Step::ReadEnd { &mut self.end } else { &mut self.start };
                into.extend(done.sgl.to_vec());
                self.done_bytes = into.len() as u64;
                if self.done_bytes < length_bytes {
                    return None;
                }
                if self.step == Step::ReadEnd { self.on_end_read() } else { self.on_start_read() }
            }
            Step::ZeroStart => self.go(Step::ZeroEnd),
            Step::ZeroEnd => self.go(Step::WriteLabel(0)),
            Step::WriteLabel(copy) if copy + 1 < COPY_OFFSETS_BYTES.len() => {
                self.go(Step::WriteLabel(copy + 1))
            }
            Step::WriteLabel(_) => self.go(Step::Flush),
            Step::Flush => Some(Ok(Labelled {
                geometry: self.geometry,
                metadata_base_bytes: self.metadata_base_bytes(),
                metadata: Loaded::default(),
                is_new: true,
            })),
        }
    }

    fn go(&mut self, step: Step) -> Option<End> {
        (self.step, self.done_bytes) = (step, 0);
        None
    }

    fn metadata_base_bytes(&self) -> u64 {
        self.usable_bytes + LABEL_METADATA_OFFSET_BYTES
    }

    fn on_end_read(&mut self) -> Option<End> {
        match Identity::decode(&self.end) {
            Ok(identity) if identity.geometry.uuid == self.request.uuid => Some(self.open(&identity)),
            // A volume that is made looks for the marks of others; one that is opened is there or is not.
            _ if self.request.create => self.go(Step::ReadStart),
            Ok(identity) => {
                let (found, expected) = (identity.geometry.uuid, self.request.uuid);
                Some(Err(LabelError::OtherVolume { found, expected }))
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn open(&self, identity: &Identity) -> End {
        let geometry = identity.geometry;
        let (found, wanted) = (geometry.logical_block_bytes, self.request.logical_block_bytes);
        if found != wanted {
            return Err(LabelError::BlockSize { found, wanted });
        }
        let (usable_bytes, volume_bytes) = (self.usable_bytes, geometry.length_bytes());
        if volume_bytes > usable_bytes {
            return Err(LabelError::Truncated { usable_bytes, volume_bytes });
        }
        let slots = self.end.get(LABEL_METADATA_OFFSET_BYTES as usize..).unwrap_or_default();
        let (first, rest) = slots.split_at(METADATA_SLOT_BYTES as usize);
        let second = &rest[..METADATA_SLOT_BYTES as usize];
        let metadata = Loaded::decode([first, second]).ok_or(LabelError::Reservations)?;
        let metadata_base_bytes = self.metadata_base_bytes();
        Ok(Labelled { geometry, metadata_base_bytes, metadata, is_new: false })
    }

    fn on_start_read(&mut self) -> Option<End> {
        let found = recognise_any(&self.start, &self.end, self.length_bytes);
        match found.filter(|_| !self.request.confirmed) {
            Some(found) => Some(Err(LabelError::Occupied { found })),
            None => self.go(Step::ZeroStart),
        }
    }
}

#[cfg(test)]
mod tests;

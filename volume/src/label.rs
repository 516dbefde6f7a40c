//! Opening and formatting a device that only a channel reaches: no path, no descriptor, no blocking call.
//!
//! The layout is that of [`crate::block_device`]: the last mebibyte is Vega's, the blocks before it are the volume's. What is
//! there is read before anything is written, and what is recognised is overwritten only when that was confirmed.
//!
//! ```text
//! read the end ─▶ the volume's label ──────────────────────────────────────▶ opened
//!        └─────▶ another label, or none ─▶ read behind the volume ─▶ its label: the device has grown ─▶ moved to the end
//!                                                   └▶ read the start ─▶ nothing known there, or confirmed
//!                                               └▶ refused     └▶ zero start and end ─▶ label, twice ─▶ flush ─▶ opened
//! ```
//!
//! A device that grows leaves the label behind. It is found again where the volume ends: either it lies there itself, or an
//! *anchor* does, one more copy of the identity that says where the label is. It is written whole at the new end before the old one
//! is zeroed. A volume grows in the same way, on a device that has grown or has room.

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
use crate::metadata::{Loaded, encode_slot};

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
    /// What on the device may be destroyed.
    pub confirmed: Confirmed,
    /// The volume, which is open, is to become larger.
    pub growth: Option<Growth>,
}

/// What somebody agreed to lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirmed {
    /// Nothing that is recognised.
    #[default]
    Nothing,
    /// Whatever lies there.
    Anything,
    /// That volume with what is in it, and nothing else.
    Volume(Uuid),
}

/// What an open volume is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its new size.
    pub size_bytes: u64,
    /// Its reservations, which do not change meanwhile.
    pub reservations: Vec<u8>,
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
    /// It has become a little larger than it was.
    #[error(
        "it has grown by less than the mebibyte that its label takes, which cannot be moved so; let it grow further"
    )]
    GrownTooLittle,
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
    /// What was recognised there and is no more.
    pub destroyed: Option<Found>,
    /// The label has another place than before, and with it the metadata slots.
    pub moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ReadEnd,
    ReadBehind,
    ReadStart,
    ZeroStart,
    ZeroEnd,
    ZeroArea,
    WriteSlot,
    WriteLabel(usize),
    WriteAnchor,
    Flush,
    ZeroOld,
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
    /// What lies at `behind_bytes`: behind the volume, or where the anchor there points.
    behind: Vec<u8>,
    behind_bytes: u64,
    /// The label is at `behind_bytes` and goes to the end.
    moves: bool,
    sequence: u64,
    metadata: Loaded,
    is_new: bool,
    destroyed: Option<Found>,
    /// The old place is blank again.
    is_zeroed: bool,
    in_flight: bool,
    answers: Vec<Done>,
}

type End = Result<Labelled, LabelError>;

/// Where the anchor of a volume lies, if there is room between it and the label.
fn anchor_bytes(geometry: &Geometry) -> u64 {
    geometry.length_bytes().next_multiple_of(PAGE_BYTES)
}

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
            behind: Vec::new(),
            behind_bytes: anchor_bytes(&geometry),
            moves: false,
            sequence: 1,
            metadata: Loaded::default(),
            is_new: false,
            destroyed: None,
            is_zeroed: false,
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
            Step::ReadEnd | Step::ZeroArea => (self.usable_bytes, self.length_bytes - self.usable_bytes),
            Step::ReadBehind => (self.behind_bytes, LABEL_AREA_BYTES),
            // The anchor may have taken the place of the old label.
            Step::ZeroOld => {
                let kept_bytes =
                    if anchor_bytes(&self.geometry) == self.behind_bytes { PAGE_BYTES } else { 0 };
                (self.behind_bytes + kept_bytes, LABEL_AREA_BYTES - kept_bytes)
            }
            Step::WriteSlot => {
                let slot_bytes = encode_slot(1, self.metadata.blob.as_deref().unwrap_or_default()).len();
                (self.metadata_base_bytes(), slot_bytes as u64)
            }
            Step::WriteAnchor => (anchor_bytes(&self.geometry), PAGE_BYTES),
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
            Step::ReadEnd | Step::ReadBehind | Step::ReadStart => {
                let piece_bytes = LABEL_PIECE_BYTES.min(length_bytes - self.done_bytes);
                let op = Op::Read(self.extent(start_bytes + self.done_bytes, piece_bytes));
                Some(Io { tag, op, sgl: buffers.alloc(piece_bytes as usize)? })
            }
            Step::ZeroStart | Step::ZeroEnd | Step::ZeroArea | Step::ZeroOld => {
                let extent = self.extent(start_bytes, length_bytes);
                Some(Io { tag, op: Op::WriteZeroes { extent, unmap: false, fua: true }, sgl: empty })
            }
            Step::WriteSlot => {
                let slot = encode_slot(1, self.metadata.blob.as_deref().unwrap_or_default());
                let mut sgl = buffers.alloc(slot.len())?;
                sgl.copy_in(0, &slot);
                let extent = self.extent(start_bytes, length_bytes);
                Some(Io { tag, op: Op::Write { extent, fua: true }, sgl })
            }
            Step::WriteLabel(_) | Step::WriteAnchor => {
                let mut sgl = buffers.alloc(PAGE_BYTES as usize)?;
                sgl.fill(0, PAGE_BYTES as usize, 0);
                let points_to = if self.step == Step::WriteAnchor { self.usable_bytes } else { 0 };
                sgl.copy_in(0, &Identity { inode: points_to, ..self.identity() }.encode());
                let extent = self.extent(start_bytes, length_bytes);
                Some(Io { tag, op: Op::Write { extent, fua: true }, sgl })
            }
            Step::Flush => Some(Io { tag, op: Op::Flush, sgl: empty }),
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            geometry: self.geometry,
            sequence: self.sequence,
            growing_to_blocks: 0,
            marked: false,
            inode: 0,
        }
    }

    fn on_done(&mut self, done: &Done) -> Option<End> {
        if done.status != IoStatus::Good {
            let writing = !matches!(self.step, Step::ReadEnd | Step::ReadBehind | Step::ReadStart);
            return Some(Err(LabelError::Io { writing, status: done.status }));
        }
        let (_, length_bytes) = self.range();
        match self.step {
            Step::ReadEnd | Step::ReadBehind | Step::ReadStart => {
                let into = match self.step {
                    Step::ReadEnd => &mut self.end,
                    Step::ReadBehind => &mut self.behind,
                    _ => &mut self.start,
                };
                into.extend(done.sgl.to_vec());
                self.done_bytes = into.len() as u64;
                if self.done_bytes < length_bytes {
                    return None;
                }
                match self.step {
                    Step::ReadEnd => self.on_end_read(),
                    Step::ReadBehind => self.on_behind_read(),
                    _ => self.on_start_read(),
                }
            }
            Step::ZeroStart => self.go(Step::ZeroEnd),
            Step::ZeroEnd => self.go(Step::WriteLabel(0)),
            Step::ZeroArea if self.metadata.blob.is_some() => self.go(Step::WriteSlot),
            Step::ZeroArea | Step::WriteSlot => self.go(Step::WriteLabel(0)),
            Step::WriteLabel(copy) if copy + 1 < COPY_OFFSETS_BYTES.len() => {
                self.go(Step::WriteLabel(copy + 1))
            }
            Step::WriteLabel(_) if anchor_bytes(&self.geometry) + PAGE_BYTES <= self.usable_bytes => {
                self.go(Step::WriteAnchor)
            }
            Step::WriteAnchor if self.is_zeroed => Some(Ok(self.labelled())),
            Step::WriteLabel(_) | Step::WriteAnchor => self.go(Step::Flush),
            // From here on the old place is nothing but blocks.
            Step::Flush if self.moves => self.go(Step::ZeroOld),
            Step::ZeroOld if self.anchor_was_zeroed() => {
                self.is_zeroed = true;
                self.go(Step::WriteAnchor)
            }
            Step::Flush | Step::ZeroOld => Some(Ok(self.labelled())),
        }
    }

    /// A volume that grew by less than a label has its anchor in the middle of the old one.
    fn anchor_was_zeroed(&self) -> bool {
        let at = anchor_bytes(&self.geometry);
        self.behind_bytes < at && at < self.behind_bytes + LABEL_AREA_BYTES
    }

    fn labelled(&self) -> Labelled {
        Labelled {
            geometry: self.geometry,
            metadata_base_bytes: self.metadata_base_bytes(),
            metadata: self.metadata.clone(),
            is_new: self.is_new,
            destroyed: self.destroyed,
            moved: self.moves,
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
            Ok(identity) if identity.geometry.uuid == self.request.uuid => {
                let slots = self.end.get(LABEL_METADATA_OFFSET_BYTES as usize..).unwrap_or_default();
                let metadata = read_slots(slots);
                self.open(&identity, metadata)
            }
            _ if self.behind_bytes + LABEL_AREA_BYTES <= self.length_bytes
                && self.behind_bytes < self.usable_bytes =>
            {
                self.go(Step::ReadBehind)
            }
            _ => self.on_no_label(),
        }
    }

    /// A volume that is made looks for the marks of others; one that is opened is there or is not.
    fn on_no_label(&mut self) -> Option<End> {
        match Identity::decode(&self.end) {
            _ if self.request.create && self.request.growth.is_none() => self.go(Step::ReadStart),
            Ok(identity) => {
                let (found, expected) = (identity.geometry.uuid, self.request.uuid);
                Some(Err(LabelError::OtherVolume { found, expected }))
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn on_behind_read(&mut self) -> Option<End> {
        let found = Identity::decode(&self.behind).ok();
        let Some(identity) = found.filter(|found| found.geometry.uuid == self.request.uuid) else {
            return self.on_no_label();
        };
        let is_anchor = identity.inode != 0;
        if is_anchor {
            let is_first = self.behind_bytes == anchor_bytes(&self.geometry);
            let is_inside =
                identity.inode.checked_add(LABEL_AREA_BYTES).is_some_and(|end| end <= self.length_bytes);
            if !is_first || !is_inside || identity.inode == self.behind_bytes {
                return self.on_no_label();
            }
            self.behind = Vec::new();
            self.behind_bytes = identity.inode;
            return self.go(Step::ReadBehind);
        }
        if self.usable_bytes < self.behind_bytes + LABEL_AREA_BYTES {
            return Some(Err(LabelError::GrownTooLittle));
        }
        self.moves = true;
        let metadata =
            read_slots(self.behind.get(LABEL_METADATA_OFFSET_BYTES as usize..).unwrap_or_default());
        self.open(&identity, metadata)
    }

    /// The label was found: the volume is as it says, or becomes what it is to become.
    fn open(&mut self, identity: &Identity, metadata: Option<Loaded>) -> Option<End> {
        let geometry = identity.geometry;
        let (found, wanted) = (geometry.logical_block_bytes, self.request.logical_block_bytes);
        if found != wanted {
            return Some(Err(LabelError::BlockSize { found, wanted }));
        }
        let (usable_bytes, volume_bytes) = (self.usable_bytes, geometry.length_bytes());
        if volume_bytes > usable_bytes {
            return Some(Err(LabelError::Truncated { usable_bytes, volume_bytes }));
        }
        let Some(metadata) = metadata else { return Some(Err(LabelError::Reservations)) };
        (self.geometry, self.metadata, self.sequence) = (geometry, metadata, identity.sequence + 1);
        let grows = match &self.request.growth {
            Some(growth) if growth.size_bytes > volume_bytes => {
                if growth.size_bytes > usable_bytes {
                    let wanted_bytes = growth.size_bytes;
                    return Some(Err(LabelError::TooSmall { usable_bytes, wanted_bytes }));
                }
                match Geometry::new(geometry.uuid, wanted, growth.size_bytes) {
                    Ok(grown) => self.geometry = grown,
                    Err(error) => return Some(Err(error.into())),
                }
                true
            }
            _ => false,
        };
        if self.moves {
            // The slots are written anew, from what the volume knows where it is open.
            let known = self.request.growth.as_ref().map(|growth| growth.reservations.clone());
            let blob = known.filter(|blob| !blob.is_empty()).or(self.metadata.blob.take());
            self.metadata = Loaded::first(blob);
            return self.go(Step::ZeroArea);
        }
        if grows { self.go(Step::WriteLabel(0)) } else { Some(Ok(self.labelled())) }
    }

    fn on_start_read(&mut self) -> Option<End> {
        let found = recognise_any(&self.start, &self.end, self.length_bytes);
        let is_confirmed = match self.request.confirmed {
            Confirmed::Nothing => false,
            Confirmed::Anything => true,
            Confirmed::Volume(uuid) => {
                Identity::decode(&self.end).is_ok_and(|identity| identity.geometry.uuid == uuid)
            }
        };
        match found.filter(|_| !is_confirmed) {
            Some(found) => Some(Err(LabelError::Occupied { found })),
            None => {
                (self.is_new, self.destroyed) = (true, found);
                self.go(Step::ZeroStart)
            }
        }
    }
}

fn read_slots(slots: &[u8]) -> Option<Loaded> {
    let (first, rest) = slots.split_at_checked(METADATA_SLOT_BYTES as usize)?;
    Loaded::decode([first, rest.get(..METADATA_SLOT_BYTES as usize)?])
}

#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod tests;

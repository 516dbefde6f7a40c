//! One I/O command as steps of the block interface: most take one, some several.
//!
//! ```text
//! start ─▶ Step::Io ─▶ (volume) ─▶ resume ─▶ Step::Io … ─▶ Step::End
//!            └─ Step::NoMemory ─▶ retry
//! ```
//! A machine has no effect before its first `Step::Io`, so one without memory can be tried again from where it stands.

use nvme_spec::Status;
use reactor::buffer::{BufferPool, Sgl};
use volume::bdev::{BdevInfo, Extent, IoStatus, Op};
use volume::limits::MAX_UNMAP_BYTES;

use crate::nvm::{Request, bytes_of, copy_extents, dsm_extents};

/// What the volume is to do next for a command.
#[derive(Debug)]
pub(crate) enum Step {
    /// An I/O; its end goes to [`Work::resume`].
    Io(Op, Sgl),
    /// There is no buffer now; try [`Work::retry`] later.
    NoMemory,
    /// The command is over.
    End(Status, Option<Sgl>),
}

/// What is left of a command.
#[derive(Debug)]
pub(crate) enum Work {
    /// One I/O whose payload goes to the host when it is good.
    Read(Extent),
    /// One I/O without an answer but its status.
    Single,
    /// A flush, then a read: FUA of a read (what is newer in a cache is made durable first).
    FlushThenRead(Extent),
    /// Reads whose content nobody wants.
    Verify(Extent),
    /// Extents to be freed, the last one first.
    Deallocate(Vec<Extent>),
    /// Reads into one buffer after another, then one write.
    Copy(Box<Gathering>),
}

/// A copy under way.
#[derive(Debug)]
pub(crate) struct Gathering {
    sources: Vec<Extent>,
    /// How many of them are read.
    at: usize,
    gathered: Sgl,
    destination: Extent,
    fua: bool,
}

/// The status of the host for the end of an I/O.
pub(crate) fn status_of(status: IoStatus) -> Status {
    match status {
        IoStatus::Good | IoStatus::Mapped { .. } => Status::SUCCESS,
        IoStatus::Miscompare { .. } => Status::COMPARE_FAILURE.with_dnr(),
        IoStatus::ReadError { .. } => Status::UNRECOVERED_READ_ERROR,
        IoStatus::WriteError { .. } => Status::WRITE_FAULT,
        IoStatus::NoSpace => Status::CAPACITY_EXCEEDED.with_dnr(),
        IoStatus::Aborted => Status::ABORT_REQUESTED,
        // Another path may still reach the data.
        IoStatus::Gone => Status::INTERNAL_PATH_ERROR,
    }
}

impl Work {
    /// The machine of a command, with the data that came with it. Reservation commands and flushes of several
    /// namespaces are not for the volume alone and have no machine here.
    pub fn new(request: &Request, data: Option<&Sgl>, info: &BdevInfo) -> Result<Self, Status> {
        Ok(match *request {
            Request::Read { extent, fua: true } if info.volatile_write_cache => Self::FlushThenRead(extent),
            Request::Read { extent, .. } => Self::Read(extent),
            Request::Verify { extent } => Self::Verify(extent),
            Request::DatasetManagement { deallocate: true, .. } => {
                let mut extents = dsm_extents(&list_of(data), info)?;
                extents.reverse();
                Self::Deallocate(extents)
            }
            Request::Copy { destination_lba, fua, .. } => {
                let (sources, destination) = copy_extents(&list_of(data), destination_lba, info)?;
                Self::Copy(Box::new(Gathering { sources, at: 0, gathered: Sgl::empty(), destination, fua }))
            }
            _ => Self::Single,
        })
    }

    /// The first step. `data` is the payload of a command that brings the content of blocks.
    pub fn start(
        &mut self,
        request: &Request,
        data: Option<Sgl>,
        write_through: bool,
        info: &BdevInfo,
        buffers: &BufferPool,
    ) -> Step {
        let fua_or = |fua| fua || write_through;
        match *request {
            Request::Write { extent, fua } => {
                Step::Io(Op::Write { extent, fua: fua_or(fua) }, data.unwrap_or_default())
            }
            Request::Compare { extent, .. } => Step::Io(Op::Compare(extent), data.unwrap_or_default()),
            Request::WriteZeroes { extent, unmap, fua } => {
                Step::Io(Op::WriteZeroes { extent, unmap, fua: fua_or(fua) }, Sgl::empty())
            }
            Request::Flush => Step::Io(Op::Flush, Sgl::empty()),
            // Hints without an effect here.
            Request::DatasetManagement { deallocate: false, .. } => Step::End(Status::SUCCESS, None),
            _ => {
                if let Self::Copy(copy) = self {
                    copy.fua |= write_through;
                }
                self.retry(info, buffers)
            }
        }
    }

    /// The next step of a machine that found no memory (or has not begun).
    pub fn retry(&mut self, info: &BdevInfo, buffers: &BufferPool) -> Step {
        match self {
            Self::FlushThenRead(_) => Step::Io(Op::Flush, Sgl::empty()),
            Self::Read(extent) | Self::Verify(extent) => match buffers.alloc(bytes_of(*extent, info)) {
                Some(sgl) => Step::Io(Op::Read(*extent), sgl),
                None => Step::NoMemory,
            },
            Self::Deallocate(extents) => match extents.pop() {
                Some(extent) => {
                    let most = MAX_UNMAP_BYTES / u64::from(info.logical_block_bytes);
                    let now = Extent { length_blocks: extent.length_blocks.min(most), ..extent };
                    if now.length_blocks < extent.length_blocks {
                        let length_blocks = extent.length_blocks - now.length_blocks;
                        extents.push(Extent { lba: now.end(), length_blocks });
                    }
                    Step::Io(Op::Unmap(now), Sgl::empty())
                }
                None => Step::End(Status::SUCCESS, None),
            },
            Self::Copy(copy) => match copy.sources.get(copy.at) {
                Some(source) => match buffers.alloc(bytes_of(*source, info)) {
                    Some(sgl) => Step::Io(Op::Read(*source), sgl),
                    None => Step::NoMemory,
                },
                None => {
                    let op = Op::Write { extent: copy.destination, fua: copy.fua };
                    Step::Io(op, std::mem::take(&mut copy.gathered))
                }
            },
            Self::Single => unreachable!("a single I/O brings its memory"),
        }
    }

    /// An I/O of the command has come home with its payload.
    pub fn resume(&mut self, status: IoStatus, sgl: Sgl, info: &BdevInfo, buffers: &BufferPool) -> Step {
        if !status.is_good() {
            return Step::End(status_of(status), None);
        }
        match self {
            Self::Read(_) => Step::End(Status::SUCCESS, Some(sgl)),
            Self::Single | Self::Verify(_) => Step::End(Status::SUCCESS, None),
            Self::FlushThenRead(extent) => {
                *self = Self::Read(*extent);
                self.retry(info, buffers)
            }
            Self::Deallocate(_) => self.retry(info, buffers),
            Self::Copy(copy) => {
                if copy.at == copy.sources.len() {
                    return Step::End(Status::SUCCESS, None);
                }
                copy.at += 1;
                if copy.at == 1 {
                    copy.gathered = sgl;
                } else {
                    copy.gathered.append(sgl);
                }
                self.retry(info, buffers)
            }
        }
    }
}

fn list_of(data: Option<&Sgl>) -> Vec<u8> {
    data.map(Sgl::to_vec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::nvm::{CopyRange, DsmRange};
    use reactor::buffer::SizeClass;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32, U64};

    fn info() -> BdevInfo {
        BdevInfo {
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            length_blocks: 1 << 33,
            volatile_write_cache: true,
            thin: true,
            unmap_granularity_blocks: 8,
            write_unit_blocks: 1,
            atomic_write_blocks: 1,
            uuid: uuid::Uuid::nil(),
        }
    }

    fn pool(count: usize) -> BufferPool {
        BufferPool::heap(&[SizeClass { bytes: 4096, count }])
    }

    fn extent(lba: u64, length_blocks: u64) -> Extent {
        Extent { lba, length_blocks }
    }

    #[test]
    fn a_read_with_fua_flushes_first_and_waits_for_memory() {
        let (info, buffers) = (info(), pool(1));
        let request = Request::Read { extent: extent(8, 8), fua: true };
        let mut work = Work::new(&request, None, &info).unwrap();
        assert!(matches!(work.start(&request, None, false, &info, &buffers), Step::Io(Op::Flush, _)));
        let taken = buffers.alloc(4096).unwrap();
        assert!(matches!(work.resume(IoStatus::Good, Sgl::empty(), &info, &buffers), Step::NoMemory));
        drop(taken);
        let Step::Io(Op::Read(_), sgl) = work.retry(&info, &buffers) else { panic!("memory is back") };
        let end = work.resume(IoStatus::Good, sgl, &info, &buffers);
        assert!(matches!(end, Step::End(Status::SUCCESS, Some(sgl)) if sgl.len() == 4096));
    }

    #[test]
    fn ranges_are_freed_in_order_and_long_ones_in_pieces() {
        let (info, buffers) = (info(), pool(1));
        let piece = MAX_UNMAP_BYTES / 512;
        let range = |slba: u64, blocks: u64| DsmRange {
            context_attributes: U32::ZERO,
            length_blocks: U32::new(blocks as u32),
            slba: U64::new(slba),
        };
        let list = [range(0, 1), range(100, piece + 5), range(7, 0)];
        let data = Sgl::from_slice_heap(list.as_bytes());
        let request = Request::DatasetManagement { ranges: 3, deallocate: true };
        let mut work = Work::new(&request, Some(&data), &info).unwrap();
        let mut freed = Vec::new();
        let mut step = work.start(&request, Some(data), false, &info, &buffers);
        while let Step::Io(Op::Unmap(extent), sgl) = step {
            freed.push(extent);
            step = work.resume(IoStatus::Good, sgl, &info, &buffers);
        }
        assert!(matches!(step, Step::End(Status::SUCCESS, None)));
        assert_eq!(freed, [extent(0, 1), extent(100, piece), extent(100 + piece, 5)]);
        let hint = Request::DatasetManagement { ranges: 1, deallocate: false };
        let mut work = Work::new(&hint, None, &info).unwrap();
        assert!(matches!(work.start(&hint, None, false, &info, &buffers), Step::End(Status::SUCCESS, None)));
    }

    #[test]
    fn a_copy_reads_everything_before_it_writes() {
        let (info, buffers) = (info(), pool(4));
        let range =
            |slba, nlb| CopyRange { slba: U64::new(slba), nlb: U16::new(nlb), ..CopyRange::default() };
        let list = [range(0, 0), range(20, 1)];
        let data = Sgl::from_slice_heap(list.as_bytes());
        let request = Request::Copy { ranges: 2, destination_lba: 50, fua: false };
        let mut work = Work::new(&request, Some(&data), &info).unwrap();
        let mut step = work.start(&request, Some(data), true, &info, &buffers);
        for byte in [1, 2] {
            let Step::Io(Op::Read(_), mut sgl) = step else { panic!("two sources") };
            let length = sgl.len();
            sgl.fill(0, length, byte);
            step = work.resume(IoStatus::Good, sgl, &info, &buffers);
        }
        let Step::Io(op, sgl) = step else { panic!("then the write") };
        assert_eq!(op, Op::Write { extent: extent(50, 3), fua: true });
        assert_eq!(sgl.to_vec(), [vec![1; 512], vec![2; 1024]].concat());
        assert!(matches!(
            work.resume(IoStatus::NoSpace, sgl, &info, &buffers),
            Step::End(status, None) if status == Status::CAPACITY_EXCEEDED.with_dnr()
        ));
    }
}

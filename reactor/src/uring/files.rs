//! File operations through the ring. A slot owns buffers and vectors from submission to completion.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use smallvec::SmallVec;

use super::{GENERATION_MASK, Kind, Queue, Token, Uring};
use crate::buffer::Sgl;
use crate::file::{File, FileDone, FileOp};
use crate::limits::{FILE_OPERATIONS_MAX, FILE_OPERATIONS_PER_FILE_MAX, FILE_TRANSFER_BYTES_MAX};

/// How long, and how often, a closing ring waits for operations that still run: 30 s together.
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(100);
pub(super) const CLOSE_WAITS_MAX: u32 = 300;

/// A passing error is tried again this often; a device that always says so must not hold the core.
const RETRIES_MAX: u32 = 64;

struct Running {
    file: u32,
    tag: u64,
    op: FileOp,
    done_bytes: usize,
    retries: u32,
}

struct Slot {
    generation: u32,
    running: Option<Running>,
    /// The kernel reads these until the entry has been submitted; they do not move with the table,
    /// because a slot is boxed.
    vectors: SmallVec<[libc::iovec; 4]>,
}

struct OpenFile {
    fd: OwnedFd,
    in_flight: usize,
    done: VecDeque<FileDone>,
    /// The handle is gone; the entry goes when nothing is in flight.
    closing: bool,
}

#[derive(Default)]
pub(super) struct Files {
    // Boxed on purpose: the address of a slot is known to the kernel.
    #[expect(clippy::vec_box)]
    slots: Vec<Box<Slot>>,
    free: Vec<u32>,
    files: Vec<Option<OpenFile>>,
}

impl Files {
    pub(super) fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn close_all(&mut self) {
        self.files.iter_mut().flatten().for_each(|file| file.closing = true);
    }

    /// Asks the kernel to end what runs; what it cannot end it finishes.
    pub(super) fn cancel_running(&mut self, queue: &mut Queue) {
        for (index, slot) in (0_u32..).zip(&self.slots) {
            if slot.running.is_some() {
                let target = Token { kind: Kind::File, generation: slot.generation, index };
                let ignored = Token { kind: Kind::Ignored, generation: 0, index: 0 };
                let entry = opcode::AsyncCancel::new(target.pack()).build().user_data(ignored.pack());
                // SAFETY: a cancellation points to nothing.
                unsafe { queue.push(entry) };
            }
        }
    }

    /// What still runs keeps its buffers for ever.
    pub(super) fn leak_running(&mut self) {
        for slot in &mut self.slots {
            std::mem::forget(slot.running.take());
            std::mem::forget(std::mem::take(&mut slot.vectors));
        }
    }

    fn insert(&mut self, fd: OwnedFd) -> u32 {
        let file = OpenFile { fd, in_flight: 0, done: VecDeque::new(), closing: false };
        let index = self.files.iter().position(Option::is_none).unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() - 1
        });
        self.files[index] = Some(file);
        u32::try_from(index).expect("fewer files than 2^32")
    }

    fn file(&mut self, index: u32) -> &mut OpenFile {
        self.files[index as usize].as_mut().expect("a file lives as long as its handle and its operations")
    }

    fn close(&mut self, index: u32) {
        let file = self.file(index);
        file.closing = true;
        file.in_flight -= file.done.len();
        file.done.clear();
        if file.in_flight == 0 {
            self.files[index as usize] = None;
        }
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.slots.len() == FILE_OPERATIONS_MAX {
            return None;
        }
        self.slots.push(Box::new(Slot { generation: 0, running: None, vectors: SmallVec::new() }));
        u32::try_from(self.slots.len() - 1).ok()
    }

    fn begin(&mut self, queue: &mut Queue, file: u32, tag: u64, op: FileOp) -> Result<(), FileOp> {
        if op_length(&op) == 0 {
            let sgl = into_sgl(op);
            self.file(file).done.push_back(FileDone { tag, result: Ok(()), sgl });
            self.file(file).in_flight += 1;
            return Ok(());
        }
        if self.file(file).in_flight == FILE_OPERATIONS_PER_FILE_MAX {
            return Err(op);
        }
        let Some(index) = self.take_slot() else { return Err(op) };
        let slot = &mut self.slots[index as usize];
        assert!(slot.running.is_none(), "a free slot owns nothing");
        slot.running = Some(Running { file, tag, op, done_bytes: 0, retries: 0 });
        self.file(file).in_flight += 1;
        self.push(queue, index);
        Ok(())
    }

    /// Queues what the slot has still to do.
    fn push(&mut self, queue: &mut Queue, index: u32) {
        let slot = &mut self.slots[index as usize];
        let running = slot.running.as_ref().expect("only a running slot is pushed");
        let file = self.files[running.file as usize].as_ref().expect("a file outlives its operations");
        let fd = Fd(file.fd.as_raw_fd());
        let entry = build(fd, running, &mut slot.vectors);
        let token = Token { kind: Kind::File, generation: slot.generation, index };
        // SAFETY: buffers and vectors belong to the slot, which gives them up only when the
        // completion with this token has been seen; the descriptor belongs to the file entry,
        // which outlives its operations.
        unsafe { queue.push(entry.user_data(token.pack())) };
        let bytes = if has_data(&running.op) { op_length(&running.op) - running.done_bytes } else { 0 };
        queue.batch.add(bytes);
        if queue.batch.is_due(self.running()) {
            queue.enter();
        }
    }

    pub(super) fn complete(&mut self, queue: &mut Queue, token: Token, result: i32) {
        let slot = self.slots.get_mut(token.index as usize).expect("the kernel returns our tokens");
        assert_eq!(slot.generation, token.generation, "one completion per submission");
        let running = slot.running.as_mut().expect("a completion belongs to a running slot");
        let missing = op_length(&running.op) - running.done_bytes;
        let result = match result {
            r if r == -libc::EINTR || r == -libc::EAGAIN => {
                running.retries += 1;
                if running.retries <= RETRIES_MAX {
                    return self.push(queue, token.index);
                }
                Err(libc::EIO)
            }
            r if r < 0 => Err(-r),
            _ if !has_data(&running.op) => Ok(()),
            // The end of the file, or a device that takes nothing.
            0 => Err(libc::EIO),
            r => {
                let moved = usize::try_from(r).expect("not negative");
                assert!(moved <= missing, "the kernel moves no more than it was asked to");
                running.done_bytes += moved;
                if moved < missing {
                    return self.push(queue, token.index);
                }
                Ok(())
            }
        };
        self.finish(token.index, result);
    }

    fn finish(&mut self, index: u32, result: Result<(), i32>) {
        let slot = &mut self.slots[index as usize];
        let running = slot.running.take().expect("checked by the caller");
        slot.vectors.clear();
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(index);
        let file = self.file(running.file);
        if file.closing {
            file.in_flight -= 1;
            if file.in_flight == 0 {
                self.files[running.file as usize] = None;
            }
            return;
        }
        file.done.push_back(FileDone { tag: running.tag, result, sgl: into_sgl(running.op) });
    }
}

fn has_data(op: &FileOp) -> bool {
    matches!(op, FileOp::Read { .. } | FileOp::Write { .. })
}

/// How much there is to move; 1 for operations that move nothing.
fn op_length(op: &FileOp) -> usize {
    match op {
        FileOp::Read { sgl, .. } | FileOp::Write { sgl, .. } => sgl.len(),
        FileOp::Sync => 1,
        FileOp::PunchHole { length_bytes, .. }
        | FileOp::Allocate { length_bytes, .. }
        | FileOp::ZeroRange { length_bytes, .. } => usize::from(*length_bytes > 0),
    }
}

fn into_sgl(op: FileOp) -> Sgl {
    match op {
        FileOp::Read { sgl, .. } | FileOp::Write { sgl, .. } => sgl,
        FileOp::Sync | FileOp::PunchHole { .. } | FileOp::Allocate { .. } | FileOp::ZeroRange { .. } => {
            Sgl::empty()
        }
    }
}

fn build(fd: Fd, running: &Running, vectors: &mut SmallVec<[libc::iovec; 4]>) -> squeue::Entry {
    vectors.clear();
    match &running.op {
        FileOp::Read { offset_bytes, sgl } => {
            sgl.append_iovecs(running.done_bytes, vectors);
            let at = offset_bytes + running.done_bytes as u64;
            if let [one] = vectors[..] {
                let length = one.iov_len.min(FILE_TRANSFER_BYTES_MAX) as u32;
                opcode::Read::new(fd, one.iov_base.cast(), length).offset(at).build()
            } else {
                opcode::Readv::new(fd, vectors.as_ptr(), vectors.len() as u32).offset(at).build()
            }
        }
        FileOp::Write { offset_bytes, sgl, durable } => {
            sgl.append_iovecs(running.done_bytes, vectors);
            let at = offset_bytes + running.done_bytes as u64;
            let flags = if *durable { libc::RWF_DSYNC } else { 0 };
            if let [one] = vectors[..] {
                let length = one.iov_len.min(FILE_TRANSFER_BYTES_MAX) as u32;
                let write = opcode::Write::new(fd, one.iov_base.cast_const().cast(), length);
                write.offset(at).rw_flags(flags).build()
            } else {
                let write = opcode::Writev::new(fd, vectors.as_ptr(), vectors.len() as u32);
                write.offset(at).rw_flags(flags).build()
            }
        }
        FileOp::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        FileOp::PunchHole { offset_bytes, length_bytes } => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            opcode::Fallocate::new(fd, *length_bytes).offset(*offset_bytes).mode(mode).build()
        }
        FileOp::Allocate { offset_bytes, length_bytes } => {
            let mode = libc::FALLOC_FL_KEEP_SIZE;
            opcode::Fallocate::new(fd, *length_bytes).offset(*offset_bytes).mode(mode).build()
        }
        FileOp::ZeroRange { offset_bytes, length_bytes } => {
            let mode = libc::FALLOC_FL_ZERO_RANGE;
            opcode::Fallocate::new(fd, *length_bytes).offset(*offset_bytes).mode(mode).build()
        }
    }
}

/// A file served by a core's ring.
#[derive(Debug)]
pub struct UringFile {
    uring: Uring,
    file: u32,
}

impl UringFile {
    pub(super) fn adopt(uring: &Uring, fd: OwnedFd) -> Self {
        let file = uring.inner.borrow_mut().files.insert(fd);
        Self { uring: uring.clone(), file }
    }
}

impl File for UringFile {
    fn submit(&mut self, tag: u64, op: FileOp) -> Result<(), FileOp> {
        let inner = &mut *self.uring.inner.borrow_mut();
        inner.files.begin(&mut inner.queue, self.file, tag, op)
    }

    fn poll(&mut self, out: &mut Vec<FileDone>) {
        let inner = &mut *self.uring.inner.borrow_mut();
        let file = inner.files.file(self.file);
        if file.in_flight == 0 {
            return;
        }
        if file.done.is_empty() {
            // Without a core loop, or in its first turn: nobody else has submitted or looked.
            if inner.queue.has_unsubmitted() {
                inner.queue.enter();
            }
            inner.reap();
        }
        let file = inner.files.file(self.file);
        file.in_flight -= file.done.len();
        out.extend(file.done.drain(..));
    }

    fn in_flight(&self) -> usize {
        self.uring.inner.borrow_mut().files.file(self.file).in_flight
    }
}

impl Drop for UringFile {
    fn drop(&mut self) {
        self.uring.inner.borrow_mut().files.close(self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BufferPool, SizeClass};
    use crate::file::FileSystem;
    use crate::wake::Waker;
    use std::io::Write;

    fn uring() -> Uring {
        Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there")
    }

    fn wait(file: &mut dyn File) -> FileDone {
        let mut done = Vec::new();
        while done.is_empty() {
            file.poll(&mut done);
            std::thread::yield_now();
        }
        done.pop().expect("one")
    }

    #[test]
    fn what_a_sleep_has_submitted_waits_no_longer() {
        let uring = uring();
        let zeros = std::fs::File::open("/dev/zero").expect("every system has it");
        let mut file = uring.adopt(zeros.into()).expect("open");
        let read = || FileOp::Read { offset_bytes: 0, sgl: Sgl::from_slice_heap(&[1; 512]) };
        // The fifth waits for a sixth.
        for tag in 0..5 {
            file.submit(tag, read()).expect("room");
        }
        let mut done = Vec::new();
        while done.len() < 5 {
            uring.sleep(Duration::from_secs(60));
            uring.reap();
            file.poll(&mut done);
        }
        file.submit(5, read()).expect("room");
        assert_eq!(wait(&mut *file).tag, 5);
    }

    #[test]
    fn a_short_transfer_is_continued() {
        // A pipe gives what is in it, so a long read comes in pieces.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut writer = std::fs::File::from(OwnedFd::from(writer));
        let uring = uring();
        let mut file = uring.adopt(reader.into()).expect("open");
        let mut sgl = Sgl::from_slice_heap(&[0; 1000]);
        sgl.append(Sgl::from_slice_heap(&[0; 500]));
        file.submit(3, FileOp::Read { offset_bytes: 0, sgl }).expect("room");
        for piece in [&[1; 700][..], &[2; 500], &[3; 300]] {
            let mut done = Vec::new();
            file.poll(&mut done);
            assert!(done.is_empty());
            writer.write_all(piece).expect("the pipe is open");
        }
        let done = wait(&mut *file);
        assert_eq!((done.tag, done.result), (3, Ok(())));
        let expected = [vec![1; 700], vec![2; 500], vec![3; 300]].concat();
        assert_eq!(done.sgl.to_vec(), expected);
    }

    #[test]
    fn a_ring_that_closes_gets_its_buffers_back_first() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let uring = uring();
        let pool = BufferPool::heap(&[SizeClass { bytes: 4096, count: 8 }]);
        let mut file = uring.adopt(reader.into()).expect("open");
        for tag in 0..8 {
            let sgl = pool.alloc(4096).expect("free");
            file.submit(tag, FileOp::Read { offset_bytes: 0, sgl }).expect("room");
        }
        let mut done = Vec::new();
        file.poll(&mut done);
        assert_eq!((done.len(), pool.in_use()), (0, 8), "nothing will ever come through this pipe");
        drop(file);
        drop(uring);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_table_of_operations_has_an_end() {
        let uring = uring();
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let mut files: Vec<_> = (0..5)
            .map(|_| uring.adopt(reader.try_clone().expect("a descriptor").into()).expect("open"))
            .collect();
        let pool = BufferPool::heap(&[SizeClass { bytes: 4096, count: FILE_OPERATIONS_MAX + 1 }]);
        let mut taken = 0;
        for file in &mut files {
            loop {
                let sgl = pool.alloc(1).expect("as many as operations");
                if file.submit(0, FileOp::Read { offset_bytes: 0, sgl }).is_err() {
                    break;
                }
                taken += 1;
            }
            assert!(file.in_flight() <= FILE_OPERATIONS_PER_FILE_MAX);
        }
        assert_eq!((taken, uring.file_operations()), (FILE_OPERATIONS_MAX, FILE_OPERATIONS_MAX));
        uring.submit();
        drop(files);
        drop(uring);
        assert_eq!(pool.in_use(), 0);
    }
}

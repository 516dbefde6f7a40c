//! The C interface; `shim/vega_fio.c` declares the same.

// The island: fio's buffers are raw addresses. fio leaves the buffer of a request alone from `queue` until the request has
// been returned by `vega_fio_event`, and calls all functions of one handle from one thread.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::engine::{Mover, Operation, Taken, Work};
use crate::open;
use crate::shared;

/// fio's side of a request.
struct Owner {
    cookie: *mut c_void,
    buffer: *mut u8,
    length: usize,
}

/// A job.
pub struct Job {
    work: Box<dyn Work<Owner>>,
    events: Events,
}

/// What is over and was not looked at yet: fio's cookie, and whether it failed.
#[derive(Default)]
struct Events(Vec<(*mut c_void, bool)>);

impl Owner {
    /// The part of fio's buffer for a run of `length` bytes at `offset`, as far as there is one.
    fn part(&self, offset: usize, length: usize) -> (*mut u8, usize) {
        let start = offset.min(self.length);
        (self.buffer.wrapping_add(start), length.min(self.length - start))
    }
}

impl Mover<Owner> for Events {
    fn fill(&mut self, owner: &Owner, offset_bytes: usize, run: &mut [u8]) {
        let (start, length) = owner.part(offset_bytes, run.len());
        // SAFETY: fio's buffer has that many bytes there and rests while the request is in flight.
        let source = unsafe { std::slice::from_raw_parts(start, length) };
        run[..length].copy_from_slice(source);
    }

    fn drain(&mut self, owner: &Owner, offset_bytes: usize, run: &[u8]) {
        let (start, length) = owner.part(offset_bytes, run.len());
        // SAFETY: fio's buffer has that many bytes there and rests until the request is returned.
        unsafe { std::ptr::copy_nonoverlapping(run.as_ptr(), start, length) };
    }

    fn over(&mut self, owner: Owner, failed: bool) {
        self.0.push((owner.cookie, failed));
    }
}

/// Writes `text` to `error`, ended by NUL.
///
/// # Safety
/// `error` has room for `error_bytes`.
unsafe fn tell(text: &str, error: *mut c_char, error_bytes: usize) {
    let length = text.len().min(error_bytes.saturating_sub(1));
    if error_bytes > 0 {
        // SAFETY: `length` and the NUL behind it fit into what the caller hands in.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), error, length) };
        // SAFETY: as above: there are more than `length` bytes.
        let end = unsafe { error.add(length) };
        // SAFETY: as above.
        unsafe { end.write(0) };
    }
}

/// Connects, or takes a controller. Null when that fails; then `error` holds why, ended by NUL. `flags`: 1 the job writes,
/// 2 it is a thread.
///
/// # Safety
/// `filename` is a string that ends with NUL; `error` has room for `error_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_open(
    filename: *const c_char,
    depth: u32,
    request_bytes: u64,
    flags: u32,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut Job {
    // SAFETY: the caller hands in a string.
    let name = unsafe { CStr::from_ptr(filename) };
    let (writes, is_thread) = (flags & 1 != 0, flags & 2 != 0);
    let job = open::Job { depth: depth.max(1), request_bytes, writes, is_thread };
    match open::open(&name.to_string_lossy(), job) {
        Ok(work) => Box::into_raw(Box::new(Job { work, events: Events::default() })),
        Err(cause) => {
            // SAFETY: the caller's promise.
            unsafe { tell(&cause.to_string(), error, error_bytes) };
            std::ptr::null_mut()
        }
    }
}

/// Bytes of the namespace of a job that is to begin later. 0 when they cannot be had; then `error` holds why.
///
/// # Safety
/// As for [`vega_fio_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_size(
    filename: *const c_char,
    flags: u32,
    error: *mut c_char,
    error_bytes: usize,
) -> u64 {
    // SAFETY: the caller hands in a string.
    let name = unsafe { CStr::from_ptr(filename) };
    let (writes, is_thread) = (flags & 1 != 0, flags & 2 != 0);
    let job = open::Job { depth: 1, request_bytes: 0, writes, is_thread };
    match open::size_bytes(&name.to_string_lossy(), job) {
        Ok(bytes) => bytes,
        Err(cause) => {
            // SAFETY: the caller's promise.
            unsafe { tell(&cause.to_string(), error, error_bytes) };
            0
        }
    }
}

/// Gives back what the jobs of this process have taken, when none of them is left. 0 when that was done; else 1, and `error`
/// says what is left to do.
///
/// # Safety
/// `error` has room for `error_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_give_back(error: *mut c_char, error_bytes: usize) -> c_int {
    let left = shared::give_back_all();
    if left.is_empty() {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { tell(&left.join("; "), error, error_bytes) };
    1
}

/// Takes a request: 0 when it was taken, 1 when there is no room now, -1 when it cannot be done.
/// `operation`: 0 read, 1 write, 2 flush, 3 trim.
///
/// # Safety
/// `job` came from `vega_fio_open` and was not closed; `buffer` has `length` bytes that nobody else touches until the request is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_queue(
    job: *mut Job,
    operation: c_int,
    buffer: *mut c_void,
    offset: u64,
    length: u32,
    cookie: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job };
    let operation = match operation {
        0 => Operation::Read,
        1 => Operation::Write,
        2 => Operation::Flush,
        _ => Operation::Trim,
    };
    let owner = Owner { cookie, buffer: buffer.cast(), length: length as usize };
    let taken = job.work.queue(operation, (offset, length), owner, &mut job.events);
    match taken {
        Taken::Queued => 0,
        Taken::Busy => 1,
        Taken::Invalid => -1,
    }
}

/// Sends what was queued.
///
/// # Safety
/// As for `vega_fio_queue`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_commit(job: *mut Job) {
    // SAFETY: the caller's promise.
    unsafe { &mut *job }.work.commit();
}

/// One turn; how many requests are over and not returned yet, or -1 when the association has ended and nothing is left.
///
/// # Safety
/// As for `vega_fio_queue`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_poll(job: *mut Job) -> c_int {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job };
    job.work.poll(&mut job.events);
    let events = &job.events.0;
    if events.is_empty() && job.work.is_broken() { -1 } else { events.len() as c_int }
}

/// Returns a request that is over: its cookie. `failed` is set to 1 when it failed, else to 0. Null when there is none.
///
/// # Safety
/// As for `vega_fio_queue`; `failed` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_event(job: *mut Job, failed: *mut c_int) -> *mut c_void {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job };
    let Some((cookie, is_failed)) = job.events.0.pop() else { return std::ptr::null_mut() };
    // SAFETY: the caller's promise.
    unsafe { *failed = c_int::from(is_failed) };
    cookie
}

/// Takes leave and forgets the job.
///
/// # Safety
/// As for `vega_fio_queue`; `job` is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_close(job: *mut Job) {
    // SAFETY: it was made by `vega_fio_open` and comes back once.
    let mut job = unsafe { Box::from_raw(job) };
    job.work.close();
}

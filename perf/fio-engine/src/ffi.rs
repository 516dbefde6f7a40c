//! The C interface; `shim/vega_fio.c` declares the same.

// The island: fio's buffers are raw addresses. fio leaves the buffer of a request alone from `queue` until the request has
// been returned by `vega_fio_event`, and calls all functions of one handle from one thread.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::engine::{Engine, Operation, Taken};

/// fio's side of a request.
struct Owner {
    cookie: *mut c_void,
    buffer: *mut u8,
    length: usize,
}

/// A job.
pub struct Job {
    engine: Engine<Owner>,
    /// What is over and was not looked at yet: fio's cookie, and whether it failed.
    events: Vec<(*mut c_void, bool)>,
}

/// Connects. Null when that fails; then `error` holds why, ended by NUL.
///
/// # Safety
/// `filename` is a string that ends with NUL; `error` has room for `error_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_open(
    filename: *const c_char,
    depth: u32,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut Job {
    // SAFETY: the caller hands in a string.
    let name = unsafe { CStr::from_ptr(filename) };
    match Engine::open(&name.to_string_lossy(), depth.max(1)) {
        Ok(engine) => Box::into_raw(Box::new(Job { engine, events: Vec::new() })),
        Err(cause) => {
            let text = cause.to_string();
            let length = text.len().min(error_bytes.saturating_sub(1));
            if error_bytes > 0 {
                // SAFETY: `length` and the NUL behind it fit into what the caller hands in.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), error, length) };
                // SAFETY: as above: there are more than `length` bytes.
                let end = unsafe { error.add(length) };
                // SAFETY: as above.
                unsafe { end.write(0) };
            }
            std::ptr::null_mut()
        }
    }
}

/// Bytes of the namespace.
///
/// # Safety
/// `job` came from `vega_fio_open` and was not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_size(job: *const Job) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { &*job }.engine.size_bytes()
}

/// Takes a request: 0 when it was taken, 1 when there is no room now, -1 when it cannot be done.
/// `operation`: 0 read, 1 write, 2 flush, 3 trim.
///
/// # Safety
/// As for `vega_fio_size`; `buffer` has `length` bytes that nobody else touches until the request is returned.
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
    let taken = job.engine.queue(operation, (offset, length), owner, |owner, data| {
        // SAFETY: fio's buffer has that many bytes and rests while the request is in flight.
        let source = unsafe { std::slice::from_raw_parts(owner.buffer, owner.length) };
        data.copy_from_slice(source);
    });
    match taken {
        Taken::Queued => 0,
        Taken::Busy => 1,
        Taken::Invalid => -1,
    }
}

/// Sends what was queued.
///
/// # Safety
/// As for `vega_fio_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_commit(job: *mut Job) {
    // SAFETY: the caller's promise.
    unsafe { &mut *job }.engine.commit();
}

/// One turn; how many requests are over and not returned yet, or -1 when the association has ended and nothing is left.
///
/// # Safety
/// As for `vega_fio_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_poll(job: *mut Job) -> c_int {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job };
    let events = &mut job.events;
    job.engine.poll(|owner: Owner, data, failed| {
        if let Some(data) = data {
            let length = data.len().min(owner.length);
            // SAFETY: fio's buffer has that many bytes and rests until the request is returned.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), owner.buffer, length) };
        }
        events.push((owner.cookie, failed));
    });
    if events.is_empty() && job.engine.is_broken() { -1 } else { events.len() as c_int }
}

/// Returns a request that is over: its cookie. `failed` is set to 1 when it failed, else to 0. Null when there is none.
///
/// # Safety
/// As for `vega_fio_size`; `failed` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_event(job: *mut Job, failed: *mut c_int) -> *mut c_void {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job };
    let Some((cookie, is_failed)) = job.events.pop() else { return std::ptr::null_mut() };
    // SAFETY: the caller's promise.
    unsafe { *failed = c_int::from(is_failed) };
    cookie
}

/// Takes leave and forgets the job.
///
/// # Safety
/// As for `vega_fio_size`; `job` is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vega_fio_close(job: *mut Job) {
    // SAFETY: it was made by `vega_fio_open` and comes back once.
    let mut job = unsafe { Box::from_raw(job) };
    job.engine.close();
}

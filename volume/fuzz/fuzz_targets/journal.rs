#![no_main]
//! Arbitrary bytes as the journal of a file's atomic writes, recovered with failures.

libfuzzer_sys::fuzz_target!(|data: &[u8]| volume::fuzzing::journal(data));

#![no_main]
//! Arbitrary commands, data and I/O failures against one logical unit.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scsi::fuzzing::cdb(data));

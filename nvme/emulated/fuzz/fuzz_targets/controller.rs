#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nvme_emulated::fuzzing::controller(data));

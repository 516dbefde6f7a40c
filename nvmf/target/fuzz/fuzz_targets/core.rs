#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nvmf_target::fuzzing::core(data));

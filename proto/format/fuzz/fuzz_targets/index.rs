#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| taf_format::fuzz::index(data));

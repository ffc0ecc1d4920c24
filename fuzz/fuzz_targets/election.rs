#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zooid_fuzz::election(input));

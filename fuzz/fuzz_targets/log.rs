#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| zooid_fuzz::log(input));

// One in eight keeps its wrong checksums.
fuzz_mutator!(|file: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(file, size, max_size);
    if !seed.is_multiple_of(8) {
        zooid_fuzz::mend_log(&mut file[..size]);
    }
    size
});

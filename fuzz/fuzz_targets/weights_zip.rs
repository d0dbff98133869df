//! Any bytes are an archive of PyTorch's or a sentence: `cargo +nightly fuzz run weights_zip`.
#![no_main]

mod weights;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    weights::answer(bytes);
    weights::answer(&[b"PK\x03\x04", bytes].concat());
});

//! Any bytes are a file of PyTorch before 1.6 or a sentence: `cargo +nightly fuzz run weights_legacy`.
#![no_main]

mod weights;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    weights::answer(bytes);
    weights::answer(&[b"\x80\x02", bytes].concat());
});

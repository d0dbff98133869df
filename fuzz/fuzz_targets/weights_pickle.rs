//! Any pickle in a whole archive, and in a file of PyTorch before 1.6, is weights or a sentence: `cargo +nightly fuzz run weights_pickle`.
#![no_main]

#[path = "../../crates/foreign-weights/tests/it/build/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod build;
mod weights;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|pickle: &[u8]| {
    let numbers = [0x3c; 64];
    for pickle in [pickle, &[b"\x80\x02", pickle].concat()] {
        weights::answer(&build::torch_zip(pickle, &numbers));
        weights::answer(&build::torch_legacy(pickle, &numbers));
    }
});

//! Any bytes are weights of safetensors or a sentence: `cargo +nightly fuzz run weights_safetensors`.
#![no_main]

mod weights;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    weights::answer(bytes);
    // As a header with the right length in front and some numbers behind, so that what is said in it is looked at.
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(bytes);
    file.extend_from_slice(&[0x3c; 256]);
    weights::answer(&file);
});

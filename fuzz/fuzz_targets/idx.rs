//! Any bytes are a good IDX file or a sentence: `cargo +nightly fuzz run idx`.
#![no_main]

use imageset::idx::{IdxImages, parse_labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(images) = IdxImages::parse(bytes.to_vec()) {
        assert_eq!(images.gray.len(), images.count * images.width as usize * images.height as usize);
    }
    if let Ok(labels) = parse_labels(bytes.to_vec()) {
        assert_eq!(labels.len() + 8, bytes.len());
    }
});

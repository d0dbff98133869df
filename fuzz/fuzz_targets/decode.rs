//! Any bytes are an image within the limits or an error, never a panic: `cargo +nightly fuzz run decode`.
#![no_main]

use imageset::{DecodeError, DecodeLimits, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = DecodeLimits { max_pixels: 1 << 20, max_bytes: 1 << 26 };
    match decode(bytes, &limits) {
        Ok(image) => {
            let pixels = u64::from(image.width) * u64::from(image.height);
            assert!(pixels <= limits.max_pixels);
            assert_eq!(image.pixels.len() as u64, pixels * 3);
        }
        Err(DecodeError::Panicked { message }) => panic!("a decoder panicked: {message}"),
        Err(_) => {}
    }
});

//! Every entry of any archive lies inside of it: `cargo +nightly fuzz run tar_index`.
#![no_main]

use std::io::Cursor;

use imageset::archive::index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = index(Cursor::new(bytes)) {
        for entry in entries {
            assert!(entry.offset + entry.len <= bytes.len() as u64);
        }
    }
});

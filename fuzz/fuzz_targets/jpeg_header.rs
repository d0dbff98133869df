//! Every place that a JPEG header names lies inside of the file: `cargo +nightly fuzz run jpeg_header`.
#![no_main]

use imageset::decode::jpeg_header::JpegHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // With the marker that is asked for at the beginning, and an end.
    check(&[b"\xff\xd8", bytes, b"\xff\xd9"].concat());
});

fn check(bytes: &[u8]) {
    let Ok(header) = JpegHeader::read(bytes) else { return };
    let mut end = 0;
    for range in &header.stray {
        assert!(end <= range.start && range.start < range.end && range.end <= bytes.len());
        end = range.end;
    }
    for scan in &header.scans {
        assert!(scan.start < scan.data.start && scan.data.start <= scan.data.end && scan.data.end <= bytes.len());
        assert!(scan.tables_before <= header.tables.len());
        assert!(scan.components.iter().all(|component| component.index < header.frame.components.len()));
    }
    let tables = header.tables.iter().map(|table| &table.payload);
    for range in tables.chain(&header.exif).chain(&header.xmp).chain(header.adobe.iter().map(|adobe| &adobe.segment)) {
        assert!(range.start <= range.end && range.end <= bytes.len());
    }
}

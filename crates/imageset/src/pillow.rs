//! Numbers made by Pillow, for tests: see `tests/pillow_reference.py`, which holds the rule of the picture and writes the files.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::image::RgbImage;
use crate::transform::Interpolation;

/// The content of `reference.json`.
#[derive(Deserialize)]
pub(crate) struct Reference {
    picture_sum: u64,
    pub(crate) resized: Vec<Resized>,
    pub(crate) recoloured: Vec<Recoloured>,
}

/// A picture at another size.
#[derive(Deserialize)]
pub(crate) struct Resized {
    /// Width and height of the original.
    pub(crate) from: [u32; 2],
    /// Width and height of the result.
    pub(crate) to: [u32; 2],
    pub(crate) interpolation: Interpolation,
    /// Checksum of all levels.
    pub(crate) crc32: u32,
    /// Each `step`-th level is in `levels`.
    pub(crate) step: usize,
    pub(crate) levels: Vec<u8>,
}

/// The picture of 16 x 9 pixels with one property changed.
#[derive(Deserialize)]
pub(crate) struct Recoloured {
    pub(crate) property: String,
    pub(crate) factor: f64,
    pub(crate) levels: Vec<u8>,
}

pub(crate) fn reference() -> Reference {
    serde_json::from_str(include_str!("../tests/pillow/reference.json")).unwrap()
}

/// Pixels of each file as Pillow decodes it, from `files.json`.
pub(crate) fn decoded_files() -> BTreeMap<String, Vec<u8>> {
    serde_json::from_str(include_str!("../tests/pillow/files.json")).unwrap()
}

/// A file in `tests/pillow`.
pub(crate) fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/pillow/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The formula of the script.
pub(crate) fn picture(width: u32, height: u32) -> RgbImage {
    let mut pixels = Vec::new();
    for y in 0..u64::from(height) {
        for x in 0..u64::from(width) {
            for channel in 0..3 {
                let ramp = (x * (3 + channel) + y * (5 - channel)) % 256;
                let stripes = (x / 3 + y / 5 + channel) % 2 * 90;
                let edge = if (x / 16 + y / 11) % 3 == channel { 255 } else { 0 };
                let noise = (x * 2_654_435_761 + y * 40503 + channel * 97) % (1 << 32) / (1 << 26);
                pixels.push(((ramp + stripes + edge + noise) / 3 % 256) as u8);
            }
        }
    }
    RgbImage { width, height, pixels }
}

/// The largest difference of two lists of levels of the same length.
pub(crate) fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0)
}

#[test]
fn the_picture_is_the_one_of_the_script() {
    let sum: u64 = picture(97, 61).pixels.iter().map(|&level| u64::from(level)).sum();
    assert_eq!(sum, reference().picture_sum);
}

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
    pub(crate) changed: Vec<Changed>,
    pub(crate) strengths: Vec<Strengths>,
    /// The operations among which a policy of timm chooses, by timm's names.
    pub(crate) kinds: BTreeMap<String, Vec<String>>,
    /// Pairs of timm's steps, by the policy's name.
    pub(crate) policies: BTreeMap<String, Vec<[PolicyStep; 2]>>,
    /// What torchvision's `TrivialAugmentWide` may do, by its number of magnitudes.
    pub(crate) trivial: BTreeMap<u32, Vec<Trivial>>,
    pub(crate) mixed: Vec<Mixed>,
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

/// The picture after one of timm's operations.
#[derive(Deserialize)]
pub(crate) struct Changed {
    /// Width and height.
    pub(crate) size: [u32; 2],
    /// By timm's name.
    pub(crate) operation: String,
    pub(crate) argument: Option<f64>,
    /// For operations that move pixels; the fill colour is ImageNet's mean.
    pub(crate) interpolation: Option<Interpolation>,
    /// Checksum of all levels.
    pub(crate) crc32: u32,
    /// Each 31st level, or none at all.
    pub(crate) levels: Vec<u8>,
}

/// What one of timm's operations makes of magnitudes.
#[derive(Deserialize)]
pub(crate) struct Strengths {
    /// By timm's name.
    pub(crate) kind: String,
    pub(crate) magnitudes: Vec<f64>,
    /// Arguments of the operation in one direction, or in the only one.
    pub(crate) positive: Vec<f64>,
    /// Arguments in the other direction.
    pub(crate) negative: Vec<f64>,
}

/// timm's operation, its probability and its magnitude.
pub(crate) type PolicyStep = (String, f64, f64);

/// An operation of TrivialAugment.
#[derive(Deserialize)]
pub(crate) struct Trivial {
    /// By torchvision's name.
    pub(crate) operation: String,
    /// By magnitude; negative magnitudes follow the positive ones.
    pub(crate) arguments: Vec<f64>,
}

/// AugMix of the picture of 97 x 61 pixels: inverted, equalized and posterized to 3 bits.
#[derive(Deserialize)]
pub(crate) struct Mixed {
    pub(crate) weights: [f32; 3],
    /// How much of the mixture there is in the result.
    pub(crate) part: f32,
    /// Checksum of all levels.
    pub(crate) crc32: u32,
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

/// The checksum of all levels.
pub(crate) fn crc32(levels: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(levels);
    crc.sum()
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

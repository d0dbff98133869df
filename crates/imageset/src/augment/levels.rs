//! Operations that give each level of a channel another one: a table of 256 levels, applied to all pixels.
//!
//! The tables are those of Pillow's `ImageOps`.

use crate::color_jitter::{level_table, map_levels};
use crate::image::RgbImage;

/// Keeps the highest bits of each level. With 0 bits the picture is black.
pub(crate) fn posterize(image: &mut RgbImage, bits: u32) {
    let mask = (0xFF_u32 << (8 - bits.min(8))) as u8;
    for level in &mut image.pixels {
        *level &= mask;
    }
}

/// Inverts the levels from the threshold on.
pub(crate) fn solarize(image: &mut RgbImage, threshold: f64) {
    map_levels(image, |level| if f64::from(level) < threshold { level } else { 255 - level });
}

/// Adds to the levels below 128, which is not in Pillow but in timm.
pub(crate) fn solarize_add(image: &mut RgbImage, add: u8) {
    map_levels(image, |level| if level < 128 { level.saturating_add(add) } else { level });
}

/// Inverts all levels.
pub(crate) fn invert(image: &mut RgbImage) {
    for level in &mut image.pixels {
        *level = 255 - *level;
    }
}

/// Spreads each channel so that its darkest level becomes 0 and its lightest 255.
pub(crate) fn auto_contrast(image: &mut RgbImage) {
    let tables = histograms(image).map(|histogram| {
        let darkest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let lightest = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        if lightest <= darkest {
            return level_table(|level| level);
        }
        let scale = 255.0 / (lightest - darkest) as f64;
        let offset = -(darkest as f64) * scale;
        // A cast truncates and clips, as Pillow does by hand.
        level_table(|level| (f64::from(level) * scale + offset) as u8)
    });
    map_channels(image, &tables);
}

/// Spreads each channel so that its levels become about equally frequent.
pub(crate) fn equalize(image: &mut RgbImage) {
    let tables = histograms(image).map(|histogram| {
        let total: u64 = histogram.iter().sum();
        let of_lightest = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        // 0 for a channel of one level, too.
        let step = (total - of_lightest) / 255;
        if step == 0 {
            return level_table(|level| level);
        }
        let mut count = step / 2;
        level_table(|level| {
            let equalized = count / step;
            count += histogram[usize::from(level)];
            equalized.min(255) as u8
        })
    });
    map_channels(image, &tables);
}

fn map_channels(image: &mut RgbImage, tables: &[[u8; 256]; 3]) {
    for pixel in image.pixels.chunks_exact_mut(3) {
        for (level, table) in pixel.iter_mut().zip(tables) {
            *level = table[usize::from(*level)];
        }
    }
}

/// How often each level occurs, by channel.
fn histograms(image: &RgbImage) -> [[u64; 256]; 3] {
    let mut histograms = [[0; 256]; 3];
    for pixel in image.pixels.chunks_exact(3) {
        for (&level, histogram) in pixel.iter().zip(&mut histograms) {
            histogram[usize::from(level)] += 1;
        }
    }
    histograms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_of_one_level_is_left_alone() {
        let plain = RgbImage::filled(5, 4, [7, 0, 255]);
        for change in [auto_contrast, equalize] {
            let mut image = plain.clone();
            change(&mut image);
            assert_eq!(image, plain);
        }
    }

    #[test]
    fn without_bits_a_picture_is_black() {
        let mut image = RgbImage::filled(2, 1, [7, 128, 255]);
        posterize(&mut image, 0);
        assert_eq!(image, RgbImage::filled(2, 1, [0; 3]));
    }
}

//! Random erasing, arXiv:1708.04896, with timm's draws (`timm.data.random_erasing`, version 1.0.31), on bytes.
//!
//! timm erases after normalisation, on the device, where 0 is the mean colour and noise is normal. Here that is done in bytes and
//! with ImageNet's mean and deviation, whatever a recipe normalises with, and noise beyond black and white is clipped.

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::image::RgbImage;
use crate::random::{below, normal, uniform};

/// What an erased box is filled with, by timm's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseMode {
    /// ImageNet's mean colour.
    #[default]
    Const,
    /// One colour, drawn from a normal distribution with ImageNet's mean and standard deviation.
    Rand,
    /// A colour of its own for each pixel, drawn likewise.
    Pixel,
}

/// ImageNet's mean colour and its standard deviation, in levels of 255.
const MEAN: [f64; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];
const STANDARD_DEVIATION: [f64; 3] = [0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0];

/// Boxes that are tried before a picture is left as it is.
const TRIES: usize = 10;

/// Erases one box: its area is a part of the picture's between `area`'s ends, its height by its width between `ratio`'s.
pub(crate) fn erase(
    mut image: RgbImage,
    area: [f64; 2],
    ratio: [f64; 2],
    mode: EraseMode,
    rng: &mut ChaCha8Rng,
) -> RgbImage {
    let (width, height) = (image.width, image.height);
    let whole = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let target = whole * uniform(rng, area[0], area[1]);
        let aspect = uniform(rng, ratio[0].ln(), ratio[1].ln()).exp();
        // Python's round(): halves to the even number.
        let h = (target * aspect).sqrt().round_ties_even();
        let w = (target / aspect).sqrt().round_ties_even();
        if w >= f64::from(width) || h >= f64::from(height) {
            continue;
        }
        let (w, h) = (w as u32, h as u32);
        let top = below(rng, u64::from(height - h) + 1) as u32;
        let left = below(rng, u64::from(width - w) + 1) as u32;
        let one_color = match mode {
            EraseMode::Const => Some(MEAN.map(level)),
            EraseMode::Rand => Some(normal_color(rng)),
            EraseMode::Pixel => None,
        };
        for y in top..top + h {
            let start = (y as usize * width as usize + left as usize) * 3;
            for pixel in image.pixels[start..start + w as usize * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&one_color.unwrap_or_else(|| noise(rng)));
            }
        }
        return image;
    }
    image
}

fn level(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn normal_color(rng: &mut ChaCha8Rng) -> [u8; 3] {
    let mut channel = 0;
    [0; 3].map(|_: u8| {
        let value = MEAN[channel] + STANDARD_DEVIATION[channel] * normal(rng);
        channel += 1;
        level(value)
    })
}

/// Levels by channel, each as often among the 65,536 as a normal distribution with ImageNet's mean and deviation has it, rounded and
/// clipped.
static QUANTILES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let below = |level: usize, channel: usize| {
        let deviations = (level as f64 + 0.5 - MEAN[channel]) / STANDARD_DEVIATION[channel];
        0.5 * libm::erfc(-deviations / std::f64::consts::SQRT_2)
    };
    std::array::from_fn(|channel| {
        let mut level = 0;
        let quantile = |index: u32| {
            while level < 255 && below(level, channel) * 65_536.0 < f64::from(index) + 0.5 {
                level += 1;
            }
            level as u8
        };
        (0..65_536).map(quantile).collect()
    })
});

/// The colour of a pixel of noise: one `u64` drawn. From a table, since there are tens of thousands in a picture.
fn noise(rng: &mut ChaCha8Rng) -> [u8; 3] {
    let bits = rng.next_u64();
    std::array::from_fn(|channel| QUANTILES[channel][usize::from((bits >> (16 * channel)) as u16)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    /// Columns and rows that differ from a white picture.
    fn erased(mode: EraseMode, number: u64, area: [f64; 2]) -> (RgbImage, Vec<(u32, u32)>) {
        let white = RgbImage::filled(60, 40, [255; 3]);
        let image = erase(white, area, [0.3, 1.0 / 0.3], mode, &mut stream("test", &[number]));
        let changed = (0..40).flat_map(|y| (0..60).map(move |x| (x, y)));
        let changed = changed.filter(|&(x, y)| image.pixel(x, y) != [255; 3]).collect();
        (image, changed)
    }

    #[test]
    fn one_box_of_the_asked_size_and_shape_is_erased_and_nothing_else() {
        let mut places = std::collections::BTreeSet::new();
        for number in 0..200 {
            let (image, changed) = erased(EraseMode::Const, number, [0.02, 1.0 / 3.0]);
            let (xs, ys): (Vec<u32>, Vec<u32>) = changed.iter().copied().unzip();
            let (left, top) = (*xs.iter().min().expect("a box"), *ys.iter().min().expect("a box"));
            let width = xs.iter().max().expect("a box") - left + 1;
            let height = ys.iter().max().expect("a box") - top + 1;
            assert_eq!(changed.len() as u32, width * height, "a box without holes");
            assert!(changed.iter().all(|&(x, y)| image.pixel(x, y) == [124, 116, 104]), "ImageNet's mean colour");
            let share = f64::from(width * height) / 2400.0;
            assert!((0.015..0.36).contains(&share), "{share}");
            assert!((0.25..4.0).contains(&(f64::from(height) / f64::from(width))));
            places.insert((left, top));
        }
        assert!(places.len() > 150, "boxes lie anywhere");
    }

    #[test]
    fn noise_has_imagenets_mean_and_deviation() {
        let (image, changed) = erased(EraseMode::Pixel, 1, [0.4, 0.4]);
        for channel in 0..3 {
            let values: Vec<f64> = changed.iter().map(|&(x, y)| f64::from(image.pixel(x, y)[channel])).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            // Clipping takes some of it away.
            assert!((mean - MEAN[channel]).abs() < 8.0, "{mean}");
            assert!((variance.sqrt() - STANDARD_DEVIATION[channel]).abs() < 8.0, "{}", variance.sqrt());
        }
        let (image, changed) = erased(EraseMode::Rand, 1, [0.4, 0.4]);
        let (x, y) = changed[0];
        assert!(changed.iter().all(|&(other_x, other_y)| image.pixel(other_x, other_y) == image.pixel(x, y)));
    }

    #[test]
    fn levels_of_noise_are_as_frequent_as_those_of_the_normal_distribution() {
        let mut rng = stream("test", &[7]);
        for (channel, quantiles) in QUANTILES.iter().enumerate() {
            let mut drawn = [0.0; 256];
            (0..200_000).for_each(|_| drawn[usize::from(normal_color(&mut rng)[channel])] += 1.0 / 200_000.0);
            let mut table = [0.0; 256];
            quantiles.iter().for_each(|&level| table[usize::from(level)] += 1.0 / 65_536.0);
            for (level, (drawn, table)) in drawn.into_iter().zip(table).enumerate() {
                // Five standard deviations of the draws, and one entry of the table.
                let tolerance = 5.0 * (drawn / 200_000.0_f64).sqrt() + 1.0 / 65_536.0 + 5.0 / 200_000.0;
                assert!((drawn - table).abs() < tolerance, "channel {channel}, level {level}: {drawn} {table}");
            }
        }
    }

    #[test]
    fn a_picture_that_no_box_fits_is_left_alone() {
        let dot = RgbImage::filled(1, 1, [7; 3]);
        assert_eq!(erase(dot.clone(), [0.5, 1.0], [1.0, 1.0], EraseMode::Pixel, &mut stream("test", &[])), dot);
    }
}

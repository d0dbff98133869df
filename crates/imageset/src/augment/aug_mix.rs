//! AugMix, arXiv:1912.02781, as timm has it (`augment_and_mix_transform`); without the paper's loss.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::IMAGENET_MEAN;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::kind::Kind;
use crate::augment::step::{Common, Step};
use crate::color_jitter::blend;
use crate::image::RgbImage;
use crate::random::{below, gamma};

/// The picture, blended with a mixture of several versions of it, each changed by a chain of operations.
///
/// timm's `augmix-m3-w3-d1-mstd0.5` is `{ magnitude = 3, width = 3, depth = 1, magnitude_std = 0.5 }`. Its faster approximate
/// mode (`b1`) is not here.
///
/// Draws: the weights of the chains (a gamma number each), the weight of the mixture (two gamma numbers); for each chain its
/// length, if it is random, and its operations; then for each of them, in this order and each only where there is a choice:
/// the magnitude (1 draw if it is even, 2 if it is normal); the direction; the filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugMix {
    /// How strong the operations are, 0 to 10.
    pub magnitude: f64,
    /// How many chains are mixed.
    pub width: u32,
    /// How many operations a chain has; -1 draws 1 to 3 for each.
    pub depth: i32,
    /// How even the weights are: of the Dirichlet distribution among chains and the beta distribution against the picture.
    pub alpha: f64,
    /// Standard deviation of the magnitude, which is then kept between 0 and 10; `inf` draws it evenly from 0 to `magnitude`.
    pub magnitude_std: f64,
    /// The filter where pixels move.
    pub interpolation: AugmentInterpolation,
    /// Red, green and blue of empty corners.
    pub fill: [u8; 3],
}

impl Default for AugMix {
    fn default() -> Self {
        Self {
            magnitude: 3.0,
            width: 3,
            depth: -1,
            alpha: 1.0,
            magnitude_std: f64::INFINITY,
            interpolation: AugmentInterpolation::Random,
            fill: IMAGENET_MEAN,
        }
    }
}

/// Unlike timm's, the paper's list has no `Color`, `Contrast`, `Brightness` and `Sharpness`.
const KINDS: [Kind; 13] = [
    Kind::AutoContrast,
    Kind::ColorIncreasing,
    Kind::ContrastIncreasing,
    Kind::BrightnessIncreasing,
    Kind::SharpnessIncreasing,
    Kind::Equalize,
    Kind::Rotate,
    Kind::PosterizeIncreasing,
    Kind::SolarizeIncreasing,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
];

/// The longest chain of random length.
const MAX_RANDOM_DEPTH: u64 = 3;

impl AugMix {
    pub(crate) fn apply(&self, image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let common = Common {
            magnitude_std: self.magnitude_std,
            translate_part: 0.3,
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let (weights, part) = self.draw_weights(rng);
        let chains = weights.into_iter().map(|weight| {
            let steps = self.draw_chain(rng);
            (weight, steps.iter().fold(image.clone(), |image, step| step.apply(image, &common, rng)))
        });
        let mixture = mixture(chains, image.pixels.len());
        blended(image, &mixture, part)
    }

    /// The weights of the chains, which sum to 1, and that of the mixture.
    fn draw_weights(&self, rng: &mut ChaCha8Rng) -> (Vec<f32>, f32) {
        // Numbers so small that they are 0 must not become 0 / 0.
        let mut draw = || gamma(rng, self.alpha).max(f64::MIN_POSITIVE);
        let shares: Vec<f64> = (0..self.width).map(|_| draw()).collect();
        let sum: f64 = shares.iter().sum();
        let (mixture, original) = (draw(), draw());
        (shares.iter().map(|share| (share / sum) as f32).collect(), (mixture / (mixture + original)) as f32)
    }

    fn draw_chain(&self, rng: &mut ChaCha8Rng) -> Vec<Step> {
        let depth = u64::try_from(self.depth).unwrap_or_else(|_| 1 + below(rng, MAX_RANDOM_DEPTH));
        let kind = |_| KINDS[below(rng, KINDS.len() as u64) as usize];
        let step = |kind| Step { kind, probability: 1.0, magnitude: self.magnitude };
        (0..depth).map(kind).map(step).collect()
    }
}

/// The weighted sum of pictures with `len` levels, in timm's single precision.
fn mixture(pictures: impl Iterator<Item = (f32, RgbImage)>, len: usize) -> Vec<f32> {
    let mut mixture = vec![0.0; len];
    for (weight, picture) in pictures {
        for (sum, &level) in mixture.iter_mut().zip(&picture.pixels) {
            *sum += weight * f32::from(level);
        }
    }
    mixture
}

/// Blends from the picture (0) to the mixture (1).
fn blended(mut image: RgbImage, mixture: &[f32], part: f32) -> RgbImage {
    for (level, &mixed) in image.pixels.iter_mut().zip(mixture) {
        // A cast truncates and clips.
        *level = blend(*level, mixed as u8, part);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::levels::{equalize, invert, posterize};
    use crate::pillow::{crc32, picture, reference};
    use crate::random::stream;

    #[test]
    fn the_operations_are_timms() {
        let theirs: Vec<Kind> = reference().kinds["aug_mix"].iter().map(|name| Kind::of_name(name)).collect();
        assert_eq!(theirs, KINDS);
    }

    #[test]
    fn mixtures_are_those_of_timm() {
        for expected in reference().mixed {
            let image = picture(97, 61);
            let mut versions = [image.clone(), image.clone(), image.clone()];
            invert(&mut versions[0]);
            equalize(&mut versions[1]);
            posterize(&mut versions[2], 3);
            let mixture = mixture(expected.weights.into_iter().zip(versions), image.pixels.len());
            let ours = blended(image, &mixture, expected.part);
            assert_eq!(crc32(&ours.pixels), expected.crc32, "{:?} {}", expected.weights, expected.part);
        }
    }

    #[test]
    fn weights_sum_to_1_and_are_as_even_as_alpha_says() {
        let mut rng = stream("test", &[12]);
        let mut spread = |alpha| {
            let augment = AugMix { alpha, ..AugMix::default() };
            let drawn: Vec<_> = (0..2000).map(|_| augment.draw_weights(&mut rng)).collect();
            assert!(drawn.iter().all(|(weights, _)| (weights.iter().sum::<f32>() - 1.0).abs() < 1e-5));
            let part = drawn.iter().map(|(_, part)| part).sum::<f32>() / 2000.0;
            assert!((part - 0.5).abs() < 0.045, "{part}");
            drawn.iter().map(|(weights, _)| (weights[0] - 1.0 / 3.0).powi(2)).sum::<f32>() / 2000.0
        };
        // The variance of a Dirichlet weight: 1/3 * 2/3 / (3 alpha + 1).
        assert!((spread(1.0) - 0.0556).abs() < 0.006);
        assert!((spread(0.01) - 0.2157).abs() < 0.02);
        assert!(spread(1000.0) < 0.0002);
    }

    #[test]
    fn chains_have_1_to_3_operations_or_as_many_as_asked() {
        let mut rng = stream("test", &[13]);
        let mut counts = [0; 4];
        for _ in 0..3000 {
            counts[AugMix::default().draw_chain(&mut rng).len()] += 1;
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|&count: &i32| (count - 1000).abs() < 104), "{counts:?}");
        let fixed = AugMix { depth: 5, ..AugMix::default() };
        assert_eq!(fixed.draw_chain(&mut rng).len(), 5);
    }

    #[test]
    fn nearly_every_picture_changes_and_keeps_its_size() {
        let image = picture(16, 9);
        let mut rng = stream("test", &[14]);
        let mixed: Vec<RgbImage> = (0..100).map(|_| AugMix::default().apply(image.clone(), &mut rng)).collect();
        assert!(mixed.iter().all(|mixed| (mixed.width, mixed.height, mixed.pixels.len()) == (16, 9, 432)));
        assert!(mixed.iter().filter(|&mixed| *mixed != image).count() > 95);
    }
}

//! AugMix, arXiv:1912.02781, as timm has it (`augment_and_mix_transform`); without the paper's loss.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::IMAGENET_MEAN;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::step::{Common, Kind, Step};
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

//! RandAugment, arXiv:1909.13719, as timm has it (`rand_augment_transform`).

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::IMAGENET_MEAN;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::step::{Common, Kind, Step};
use crate::image::RgbImage;
use crate::random::below;

/// A few of 15 operations, each drawn anew and as likely as the others, all with the same magnitude.
///
/// timm's `rand-m9-n2-p0.5-mstd0.5-inc1` is
/// `{ magnitude = 9, num_ops = 2, probability = 0.5, magnitude_std = 0.5, increasing = true }`. What is left out there is
/// what is left out here, but for `m`: timm then takes 10.
///
/// Draws: the operations; then for each of them, in this order and each only where there is a choice: whether; the magnitude
/// (1 draw if it is even, 2 if it is normal); the direction; the filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// How strong the operations are, 0 to 10.
    pub magnitude: f64,
    /// How many operations are drawn.
    pub num_ops: u32,
    /// Standard deviation of the magnitude, which is then kept between 0 and 10; `inf` draws it evenly from 0 to `magnitude`.
    pub magnitude_std: f64,
    /// Whether all operations grow stronger with the magnitude. Without it some grow weaker, as in the first implementation.
    pub increasing: bool,
    /// How often a drawn operation is applied, 0 to 1.
    pub probability: f64,
    /// The filter where pixels move.
    pub interpolation: AugmentInterpolation,
    /// Red, green and blue of empty corners.
    pub fill: [u8; 3],
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            magnitude: 9.0,
            num_ops: 2,
            magnitude_std: 0.0,
            increasing: false,
            probability: 0.5,
            interpolation: AugmentInterpolation::Random,
            fill: IMAGENET_MEAN,
        }
    }
}

const KINDS: [Kind; 15] = [
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Invert,
    Kind::Rotate,
    Kind::Posterize,
    Kind::Solarize,
    Kind::SolarizeAdd,
    Kind::Color,
    Kind::Contrast,
    Kind::Brightness,
    Kind::Sharpness,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
];

const INCREASING_KINDS: [Kind; 15] = [
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Invert,
    Kind::Rotate,
    Kind::PosterizeIncreasing,
    Kind::SolarizeIncreasing,
    Kind::SolarizeAdd,
    Kind::ColorIncreasing,
    Kind::ContrastIncreasing,
    Kind::BrightnessIncreasing,
    Kind::SharpnessIncreasing,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
];

impl RandAugment {
    pub(crate) fn apply(&self, image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let common = Common {
            magnitude_std: self.magnitude_std,
            translate_part: 0.45,
            interpolation: self.interpolation,
            fill: self.fill,
        };
        self.draw(rng).iter().fold(image, |image, step| step.apply(image, &common, rng))
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<Step> {
        let &Self { magnitude, probability, .. } = self;
        let kinds = if self.increasing { &INCREASING_KINDS } else { &KINDS };
        let kind = |_| kinds[below(rng, kinds.len() as u64) as usize];
        (0..self.num_ops).map(kind).map(|kind| Step { kind, probability, magnitude }).collect()
    }
}

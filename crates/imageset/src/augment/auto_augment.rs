//! AutoAugment, arXiv:1805.09501: pairs of operations that were searched on ImageNet, by timm's names.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::IMAGENET_MEAN;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::kind::Kind;
use crate::augment::kind::Kind::{
    AutoContrast, Color, Contrast, Equalize, Invert, Posterize, PosterizeIncreasing, PosterizeOriginal, Rotate,
    Sharpness, ShearX, ShearY, Solarize, SolarizeAdd, TranslateY,
};
use crate::augment::step::{Common, Step};
use crate::image::RgbImage;
use crate::random::below;

/// One of 25 pairs of operations, each with a probability and a magnitude of its own (timm's `auto_augment_transform`).
///
/// timm's `original-mstd0.5` is `{ policy = "original", magnitude_std = 0.5 }`.
///
/// Draws: the pair; then for each of its two, in this order and each only where there is a choice: whether; the magnitude
/// (1 draw if it is even, 2 if it is normal); the direction; the filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoAugment {
    /// Which 25 pairs.
    pub policy: AutoAugmentPolicy,
    /// Standard deviation of the magnitudes, which are then kept between 0 and 10; `inf` draws them evenly from 0 on.
    pub magnitude_std: f64,
    /// The filter where pixels move.
    pub interpolation: AugmentInterpolation,
    /// Red, green and blue of empty corners.
    pub fill: [u8; 3],
}

impl Default for AutoAugment {
    fn default() -> Self {
        Self {
            policy: AutoAugmentPolicy::Original,
            magnitude_std: 0.0,
            interpolation: AugmentInterpolation::Random,
            fill: IMAGENET_MEAN,
        }
    }
}

/// The pairs of [`AutoAugment`], by timm's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoAugmentPolicy {
    /// Those of the paper.
    Original,
    /// Those of the paper, but posterizing loses more bits with a higher magnitude.
    Originalr,
    /// Those of the first EfficientNets. Posterizing keeps 0 to 4 bits and may make a picture black.
    V0,
    /// Those of the first EfficientNets, but posterizing loses more bits with a higher magnitude.
    V0r,
}

/// Two steps: kind, probability, magnitude.
type Pair = [(Kind, f64, f64); 2];

const ORIGINAL: [Pair; 25] = [
    [(PosterizeOriginal, 0.4, 8.0), (Rotate, 0.6, 9.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
    [(PosterizeOriginal, 0.6, 7.0), (PosterizeOriginal, 0.6, 6.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Equalize, 0.4, 4.0), (Rotate, 0.8, 8.0)],
    [(Solarize, 0.6, 3.0), (Equalize, 0.6, 7.0)],
    [(PosterizeOriginal, 0.8, 5.0), (Equalize, 1.0, 2.0)],
    [(Rotate, 0.2, 3.0), (Solarize, 0.6, 8.0)],
    [(Equalize, 0.6, 8.0), (PosterizeOriginal, 0.4, 6.0)],
    [(Rotate, 0.8, 8.0), (Color, 0.4, 0.0)],
    [(Rotate, 0.4, 9.0), (Equalize, 0.6, 2.0)],
    [(Equalize, 0.0, 7.0), (Equalize, 0.8, 8.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Rotate, 0.8, 8.0), (Color, 1.0, 2.0)],
    [(Color, 0.8, 8.0), (Solarize, 0.8, 7.0)],
    [(Sharpness, 0.4, 7.0), (Invert, 0.6, 8.0)],
    [(ShearX, 0.6, 5.0), (Equalize, 1.0, 9.0)],
    [(Color, 0.4, 0.0), (Equalize, 0.6, 3.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
];

const V0: [Pair; 25] = [
    [(Equalize, 0.8, 1.0), (ShearY, 0.8, 4.0)],
    [(Color, 0.4, 9.0), (Equalize, 0.6, 3.0)],
    [(Color, 0.4, 1.0), (Rotate, 0.6, 8.0)],
    [(Solarize, 0.8, 3.0), (Equalize, 0.4, 7.0)],
    [(Solarize, 0.4, 2.0), (Solarize, 0.6, 2.0)],
    [(Color, 0.2, 0.0), (Equalize, 0.8, 8.0)],
    [(Equalize, 0.4, 8.0), (SolarizeAdd, 0.8, 3.0)],
    [(ShearX, 0.2, 9.0), (Rotate, 0.6, 8.0)],
    [(Color, 0.6, 1.0), (Equalize, 1.0, 2.0)],
    [(Invert, 0.4, 9.0), (Rotate, 0.6, 0.0)],
    [(Equalize, 1.0, 9.0), (ShearY, 0.6, 3.0)],
    [(Color, 0.4, 7.0), (Equalize, 0.6, 0.0)],
    [(Posterize, 0.4, 6.0), (AutoContrast, 0.4, 7.0)],
    [(Solarize, 0.6, 8.0), (Color, 0.6, 9.0)],
    [(Solarize, 0.2, 4.0), (Rotate, 0.8, 9.0)],
    [(Rotate, 1.0, 7.0), (TranslateY, 0.8, 9.0)],
    [(ShearX, 0.0, 0.0), (Solarize, 0.8, 4.0)],
    [(ShearY, 0.8, 0.0), (Color, 0.6, 4.0)],
    [(Color, 1.0, 0.0), (Rotate, 0.6, 2.0)],
    [(Equalize, 0.8, 4.0), (Equalize, 0.0, 8.0)],
    [(Equalize, 1.0, 4.0), (AutoContrast, 0.6, 2.0)],
    [(ShearY, 0.4, 7.0), (SolarizeAdd, 0.6, 7.0)],
    [(Posterize, 0.8, 2.0), (Solarize, 0.6, 10.0)],
    [(Solarize, 0.6, 8.0), (Equalize, 0.6, 1.0)],
    [(Color, 0.8, 6.0), (Rotate, 0.4, 5.0)],
];

impl AutoAugmentPolicy {
    fn pair(self, index: usize) -> [Step; 2] {
        let pairs = match self {
            Self::Original | Self::Originalr => &ORIGINAL,
            Self::V0 | Self::V0r => &V0,
        };
        pairs[index].map(|(kind, probability, magnitude)| {
            let kind = match (self, kind) {
                (Self::Originalr | Self::V0r, Posterize | PosterizeOriginal) => PosterizeIncreasing,
                _ => kind,
            };
            Step { kind, probability, magnitude }
        })
    }
}

impl AutoAugment {
    pub(crate) fn apply(&self, image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let common = Common {
            magnitude_std: self.magnitude_std,
            translate_part: 0.45,
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let pair = self.policy.pair(below(rng, ORIGINAL.len() as u64) as usize);
        pair.iter().fold(image, |image, step| step.apply(image, &common, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::{picture, reference};
    use crate::random::stream;

    const POLICIES: [AutoAugmentPolicy; 4] =
        [AutoAugmentPolicy::Original, AutoAugmentPolicy::Originalr, AutoAugmentPolicy::V0, AutoAugmentPolicy::V0r];

    #[test]
    fn the_pairs_are_timms() {
        let mut policies = reference().policies;
        for policy in POLICIES {
            let name = serde_json::to_value(policy).unwrap();
            let theirs = policies.remove(name.as_str().unwrap()).unwrap();
            assert_eq!(theirs.len(), 25);
            for (index, pair) in theirs.into_iter().enumerate() {
                let theirs = pair.map(|(name, probability, magnitude)| Step {
                    kind: Kind::of_name(&name),
                    probability,
                    magnitude,
                });
                assert_eq!(policy.pair(index), theirs, "{name} {index}");
            }
        }
        assert!(policies.is_empty());
    }

    #[test]
    fn a_picture_of_any_size_keeps_it() {
        for policy in POLICIES {
            let augment = AutoAugment { policy, magnitude_std: 1.0, ..AutoAugment::default() };
            for (width, height) in [(1, 1), (2, 5), (16, 9)] {
                let mut rng = stream("test", &[9]);
                let images = (0..100).map(|_| augment.apply(picture(width, height), &mut rng));
                assert!(images.map(|image| image.pixels.len()).all(|len| len == (width * height * 3) as usize));
            }
        }
    }
}

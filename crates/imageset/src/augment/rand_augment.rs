//! RandAugment, arXiv:1909.13719, as timm has it (`rand_augment_transform`).

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::IMAGENET_MEAN;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::kind::Kind;
use crate::augment::step::{Common, Step};
use crate::image::RgbImage;
use crate::random::below;

/// A few of 15 operations, each drawn independently and as likely as the others, all with the same magnitude.
///
/// timm's `rand-m9-n2-p0.5-mstd0.5-inc1` is
/// `{ magnitude = 9, num_ops = 2, probability = 0.5, magnitude_std = 0.5, increasing = true }`. What is left out there is
/// what is left out here, but for `m`: timm then takes 10. Its `t` (other lists of operations) and `mmax` (magnitudes above 10)
/// are not here.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::{picture, reference};
    use crate::random::stream;

    #[test]
    fn the_operations_are_timms() {
        let kinds = reference().kinds;
        for (name, ours) in [("rand_augment", KINDS), ("rand_augment_increasing", INCREASING_KINDS)] {
            let theirs: Vec<Kind> = kinds[name].iter().map(|name| Kind::of_name(name)).collect();
            assert_eq!(theirs, ours, "{name}");
        }
    }

    #[test]
    fn each_operation_is_drawn_as_often_as_the_others() {
        let mut rng = stream("test", &[7]);
        let augment = RandAugment { num_ops: 3, increasing: true, magnitude: 7.0, ..RandAugment::default() };
        let mut counts = [0; 15];
        for _ in 0..5000 {
            let steps = augment.draw(&mut rng);
            assert_eq!(steps.len(), 3);
            for step in steps {
                assert_eq!((step.probability, step.magnitude), (0.5, 7.0));
                counts[INCREASING_KINDS.iter().position(|&kind| kind == step.kind).unwrap()] += 1;
            }
        }
        // Four standard deviations: 4 * sqrt(15000 * 1/15 * 14/15) = 122.
        assert!(counts.iter().all(|&count: &i32| (count - 1000).abs() < 122), "{counts:?}");
    }

    #[test]
    fn about_a_quarter_of_the_pictures_stay_as_they_are() {
        let image = picture(16, 9);
        let mut rng = stream("test", &[8]);
        let same = (0..1000).filter(|_| RandAugment::default().apply(image.clone(), &mut rng) == image).count();
        // Both operations are left out; some of those that are not change nothing. 250 + 4 standard deviations is 305.
        assert!((195..360).contains(&same), "{same}");
        let never = RandAugment { probability: 0.0, ..RandAugment::default() };
        assert_eq!(never.apply(image.clone(), &mut rng), image);
    }
}

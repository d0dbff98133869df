//! One step of a policy: a kind of operation, how often it happens and how strongly, by timm's scale from 0 to 10.

use rand_chacha::ChaCha8Rng;

use crate::augment::affine::Warp;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::operation::Operation;
use crate::image::RgbImage;
use crate::random::{normal, uniform, unit};

/// The strongest magnitude; what is drawn beyond is cut off.
pub(crate) const MAX_MAGNITUDE: f64 = 10.0;

/// timm's operations before their strength is known: the same operation may follow the magnitude in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) enum Kind {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    /// Keeps 0 to 4 bits.
    Posterize,
    /// Keeps 4 to 0 bits.
    PosterizeIncreasing,
    /// Keeps 4 to 8 bits, as the paper of AutoAugment has it.
    PosterizeOriginal,
    /// From all levels inverted to none.
    Solarize,
    /// From no level inverted to all.
    SolarizeIncreasing,
    SolarizeAdd,
    /// From 0.1, almost gray, to 1.9. So are the other three.
    Color,
    /// From 1, no change, down to 0.1 or up to 1.9. So are the other three.
    ColorIncreasing,
    Contrast,
    ContrastIncreasing,
    Brightness,
    BrightnessIncreasing,
    Sharpness,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    /// A part of the width.
    #[cfg_attr(test, serde(rename = "TranslateXRel"))]
    TranslateX,
    /// A part of the height.
    #[cfg_attr(test, serde(rename = "TranslateYRel"))]
    TranslateY,
}

impl Kind {
    /// Whether it goes in one of two directions.
    fn has_direction(self) -> bool {
        matches!(
            self,
            Self::Rotate
                | Self::ColorIncreasing
                | Self::ContrastIncreasing
                | Self::BrightnessIncreasing
                | Self::SharpnessIncreasing
                | Self::ShearX
                | Self::ShearY
                | Self::TranslateX
                | Self::TranslateY
        )
    }

    /// timm's `LEVEL_TO_ARG`. `direction` is 1 or -1; `reach` is the farthest shift to the right and down, in pixels.
    fn operation(self, magnitude: f64, direction: f64, reach: [f64; 2]) -> Operation {
        let part = magnitude / MAX_MAGNITUDE;
        let factor = || part * 1.8 + 0.1;
        let increasing_factor = || (1.0 + direction * (part * 0.9)).max(0.1);
        // Casts truncate, as Python's int() does.
        let bits = (part * 4.0) as u32;
        let threshold = (part * 256.0).trunc().min(256.0);
        match self {
            Self::AutoContrast => Operation::AutoContrast,
            Self::Equalize => Operation::Equalize,
            Self::Invert => Operation::Invert,
            Self::Rotate => Operation::Rotate(direction * (part * 30.0)),
            Self::Posterize => Operation::Posterize(bits),
            Self::PosterizeIncreasing => Operation::Posterize(4 - bits),
            Self::PosterizeOriginal => Operation::Posterize(4 + bits),
            Self::Solarize => Operation::Solarize(threshold),
            Self::SolarizeIncreasing => Operation::Solarize(256.0 - threshold),
            Self::SolarizeAdd => Operation::SolarizeAdd((part * 110.0) as u8),
            Self::Color => Operation::Color(factor()),
            Self::ColorIncreasing => Operation::Color(increasing_factor()),
            Self::Contrast => Operation::Contrast(factor()),
            Self::ContrastIncreasing => Operation::Contrast(increasing_factor()),
            Self::Brightness => Operation::Brightness(factor()),
            Self::BrightnessIncreasing => Operation::Brightness(increasing_factor()),
            Self::Sharpness => Operation::Sharpness(factor()),
            Self::SharpnessIncreasing => Operation::Sharpness(increasing_factor()),
            Self::ShearX => Operation::ShearX(direction * (part * 0.3)),
            Self::ShearY => Operation::ShearY(direction * (part * 0.3)),
            Self::TranslateX => Operation::TranslateX(direction * (part * reach[0])),
            Self::TranslateY => Operation::TranslateY(direction * (part * reach[1])),
        }
    }
}

/// One step of a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    /// How often it happens, 0 to 1.
    pub(crate) probability: f64,
    /// How strongly, 0 to [`MAX_MAGNITUDE`].
    pub(crate) magnitude: f64,
}

/// What all steps of a policy have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    /// Standard deviation of the magnitude; if it is infinite, the magnitude is drawn evenly from 0 to the given one.
    pub(crate) magnitude_std: f64,
    /// The farthest shift, as a part of the picture's side.
    pub(crate) translate_part: f64,
    pub(crate) interpolation: AugmentInterpolation,
    pub(crate) fill: [u8; 3],
}

impl Step {
    /// Draws and applies it, see [`Self::draw`].
    pub(crate) fn apply(&self, image: RgbImage, common: &Common, rng: &mut ChaCha8Rng) -> RgbImage {
        match self.draw([image.width, image.height], common, rng) {
            Some((operation, warp)) => operation.apply(image, warp),
            None => image,
        }
    }

    /// What happens to a picture of the given width and height; None if nothing does.
    ///
    /// Draws, in this order and each only where there is a choice: whether; the magnitude (1 draw if it is even, 2 if it is
    /// normal); the direction; the filter.
    fn draw(&self, size: [u32; 2], common: &Common, rng: &mut ChaCha8Rng) -> Option<(Operation, Warp)> {
        if self.probability < 1.0 && unit(rng) >= self.probability {
            return None;
        }
        let magnitude = match common.magnitude_std {
            0.0 => self.magnitude,
            f64::INFINITY => uniform(rng, 0.0, self.magnitude),
            deviation => self.magnitude + deviation * normal(rng),
        };
        let direction = if self.kind.has_direction() && unit(rng) >= 0.5 { -1.0 } else { 1.0 };
        let reach = size.map(|side| common.translate_part * f64::from(side));
        let operation = self.kind.operation(magnitude.clamp(0.0, MAX_MAGNITUDE), direction, reach);
        let interpolation = match operation.is_geometric() {
            true => common.interpolation.draw(rng),
            false => Default::default(),
        };
        Some((operation, Warp { interpolation, fill: common.fill }))
    }
}

#[cfg(test)]
impl Kind {
    /// By timm's name.
    pub(crate) fn of_name(name: &str) -> Self {
        serde_json::from_value(name.into()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::reference;
    use crate::random::stream;
    use crate::transform::Interpolation;

    const COMMON: Common =
        Common { magnitude_std: 0.0, translate_part: 0.45, interpolation: AugmentInterpolation::Random, fill: [0; 3] };

    fn argument(operation: Operation) -> f64 {
        match operation {
            Operation::Identity | Operation::AutoContrast | Operation::Equalize | Operation::Invert => 0.0,
            Operation::Posterize(bits) => bits.into(),
            Operation::SolarizeAdd(add) => add.into(),
            Operation::Rotate(x)
            | Operation::Solarize(x)
            | Operation::Color(x)
            | Operation::Contrast(x)
            | Operation::Brightness(x)
            | Operation::Sharpness(x)
            | Operation::ShearX(x)
            | Operation::ShearY(x)
            | Operation::TranslateX(x)
            | Operation::TranslateY(x) => x,
        }
    }

    #[test]
    fn magnitudes_mean_what_they_mean_to_timm() {
        let mut compared = 0;
        for expected in reference().strengths {
            let kind = Kind::of_name(&expected.kind);
            for (i, &magnitude) in expected.magnitudes.iter().enumerate() {
                let ours = |direction| argument(kind.operation(magnitude, direction, [0.45; 2]));
                assert_eq!(ours(1.0), expected.positive[i], "{kind:?} {magnitude}");
                let other = if kind.has_direction() { -1.0 } else { 1.0 };
                assert_eq!(ours(other), expected.negative[i], "{kind:?} {magnitude}");
                compared += 1;
            }
            // What has no direction is the same in both.
            assert_eq!(kind.has_direction(), expected.positive != expected.negative, "{kind:?}");
        }
        assert_eq!(compared, 19 * 14);
    }

    /// The degrees of 4000 rotations.
    fn rotations(magnitude: f64, magnitude_std: f64) -> Vec<f64> {
        let mut rng = stream("test", &[5]);
        let step = Step { kind: Kind::Rotate, probability: 1.0, magnitude };
        let common = Common { magnitude_std, ..COMMON };
        (0..4000).map(|_| argument(step.draw([8, 8], &common, &mut rng).unwrap().0)).collect()
    }

    #[test]
    fn magnitudes_are_fixed_or_normal_or_even() {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let fixed = rotations(9.0, 0.0);
        assert!(fixed.iter().all(|degrees| degrees.abs() == 27.0));
        // Three degrees are one magnitude.
        let magnitudes = |std| rotations(5.0, std).iter().map(|degrees| degrees.abs() / 3.0).collect::<Vec<_>>();
        let normal = magnitudes(0.5);
        let deviation = mean(&normal.iter().map(|m| (m - 5.0).powi(2)).collect::<Vec<_>>()).sqrt();
        assert!((mean(&normal) - 5.0).abs() < 0.032 && (deviation - 0.5).abs() < 0.023, "{deviation}");
        let even = magnitudes(f64::INFINITY);
        let quarters: Vec<usize> = (0..4).map(|i| even.iter().filter(|&&m| (m / 1.25) as usize == i).count()).collect();
        assert!(quarters.iter().all(|&count| (890..1110).contains(&count)), "{quarters:?}");
        // Beyond the ends it is cut off.
        let wide = magnitudes(20.0);
        assert!(wide.iter().all(|m| (0.0..=10.0).contains(m)));
        assert!(wide.contains(&0.0) && wide.contains(&10.0));
    }

    #[test]
    fn both_directions_both_filters_and_the_probability_are_met() {
        let mut rng = stream("test", &[6]);
        let step = Step { kind: Kind::ShearX, probability: 0.3, magnitude: 10.0 };
        let drawn: Vec<_> = (0..4000).filter_map(|_| step.draw([8, 8], &COMMON, &mut rng)).collect();
        // Four standard deviations: 4 * sqrt(4000 * 0.3 * 0.7) = 116.
        assert!((1084..1316).contains(&drawn.len()), "{}", drawn.len());
        let left = drawn.iter().filter(|(operation, _)| argument(*operation) < 0.0).count();
        let bilinear = drawn.iter().filter(|(_, warp)| warp.interpolation == Interpolation::Bilinear).count();
        let half = drawn.len() / 2;
        assert!(left.abs_diff(half) < 70 && bilinear.abs_diff(half) < 70, "{left} {bilinear} {half}");
    }

    #[test]
    fn a_shift_is_a_part_of_its_own_side() {
        let mut rng = stream("test", &[]);
        for (kind, expected) in [(Kind::TranslateX, 45.0), (Kind::TranslateY, 9.0)] {
            let step = Step { kind, probability: 1.0, magnitude: 10.0 };
            let (operation, _) = step.draw([100, 20], &COMMON, &mut rng).unwrap();
            assert_eq!(argument(operation).abs(), expected);
        }
    }
}

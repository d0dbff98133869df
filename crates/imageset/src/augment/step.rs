//! One step of a policy: a kind of operation, how often it happens and how strongly.

use rand_chacha::ChaCha8Rng;

use crate::augment::affine::Warp;
use crate::augment::interpolation::AugmentInterpolation;
use crate::augment::kind::{Kind, MAX_MAGNITUDE};
use crate::augment::operation::Operation;
use crate::image::RgbImage;
use crate::random::{normal, uniform, unit};
use crate::transform::Interpolation;

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
        let interpolation =
            if operation.is_geometric() { common.interpolation.draw(rng) } else { Interpolation::Nearest };
        Some((operation, Warp { interpolation, fill: common.fill }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    const COMMON: Common =
        Common { magnitude_std: 0.0, translate_part: 0.45, interpolation: AugmentInterpolation::Random, fill: [0; 3] };

    /// The degrees of 4000 rotations.
    fn rotations(magnitude: f64, magnitude_std: f64) -> Vec<f64> {
        let mut rng = stream("test", &[5]);
        let step = Step { kind: Kind::Rotate, probability: 1.0, magnitude };
        let common = Common { magnitude_std, ..COMMON };
        (0..4000).map(|_| step.draw([8, 8], &common, &mut rng).unwrap().0.argument()).collect()
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
        let left = drawn.iter().filter(|(operation, _)| operation.argument() < 0.0).count();
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
            assert_eq!(operation.argument().abs(), expected);
        }
    }
}

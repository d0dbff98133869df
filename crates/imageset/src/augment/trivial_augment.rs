//! TrivialAugment, arXiv:2103.10158, with its wide space and torchvision's arithmetic (`TrivialAugmentWide` on PIL images).

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::affine::Warp;
use crate::augment::operation::Operation;
use crate::image::RgbImage;
use crate::random::below;
use crate::transform::Interpolation;

/// One of 14 operations, the identity among them, with a magnitude from all that make sense (torchvision's
/// `TrivialAugmentWide`).
///
/// Draws: the operation; its magnitude and its direction, if it has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrivialAugment {
    /// How many magnitudes there are to draw from, at least 2.
    pub num_magnitude_bins: u32,
    /// The filter where pixels move.
    pub interpolation: Interpolation,
    /// Red, green and blue of empty corners.
    pub fill: [u8; 3],
}

impl Default for TrivialAugment {
    fn default() -> Self {
        Self { num_magnitude_bins: 31, interpolation: Interpolation::Nearest, fill: [0; 3] }
    }
}

/// What a magnitude means.
#[derive(Clone, Copy, Debug)]
enum Magnitude {
    /// Nothing.
    None,
    /// From 0 to this, in one of two directions.
    Signed(f32),
    /// From 8 bits to 2.
    Bits,
    /// From 255 to 0.
    Threshold,
}

/// An operation without its magnitude.
#[derive(Clone, Copy, Debug)]
struct Kind {
    magnitude: Magnitude,
    operation: fn(f64) -> Operation,
}

const KINDS: [Kind; 14] = {
    use Magnitude::{Bits, None, Signed, Threshold};
    const fn kind(magnitude: Magnitude, operation: fn(f64) -> Operation) -> Kind {
        Kind { magnitude, operation }
    }
    [
        kind(None, |_| Operation::Identity),
        // torchvision makes angles of the shears and the shears of angles: that shows in the last bit.
        kind(Signed(0.99), |shear| Operation::ShearX(there_and_back(shear).tan())),
        kind(Signed(0.99), |shear| Operation::ShearY(there_and_back(shear).sin() / there_and_back(shear).cos())),
        // A positive shift moves the picture right or down.
        kind(Signed(32.0), |columns| Operation::TranslateX(-columns.trunc())),
        kind(Signed(32.0), |rows| Operation::TranslateY(-rows.trunc())),
        kind(Signed(135.0), Operation::Rotate),
        kind(Signed(0.99), |change| Operation::Brightness(1.0 + change)),
        kind(Signed(0.99), |change| Operation::Color(1.0 + change)),
        kind(Signed(0.99), |change| Operation::Contrast(1.0 + change)),
        kind(Signed(0.99), |change| Operation::Sharpness(1.0 + change)),
        kind(Bits, |bits| Operation::Posterize(bits as u32)),
        kind(Threshold, Operation::Solarize),
        kind(None, |_| Operation::AutoContrast),
        kind(None, |_| Operation::Equalize),
    ]
};

/// The angle of a shear in radians, by way of degrees.
fn there_and_back(shear: f64) -> f64 {
    shear.atan().to_degrees().to_radians()
}

impl TrivialAugment {
    pub(crate) fn apply(&self, image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        self.draw(rng).apply(image, Warp { interpolation: self.interpolation, fill: self.fill })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Operation {
        let kind = KINDS[below(rng, KINDS.len() as u64) as usize];
        let bin = match kind.magnitude {
            Magnitude::None => 0,
            _ => below(rng, self.num_magnitude_bins.into()) as u32,
        };
        let magnitude = self.magnitude(kind, bin);
        let is_negative = matches!(kind.magnitude, Magnitude::Signed(_)) && below(rng, 2) == 1;
        (kind.operation)(if is_negative { -magnitude } else { magnitude })
    }

    /// The magnitude of a bin, in torchvision's single precision.
    fn magnitude(&self, kind: Kind, bin: u32) -> f64 {
        let last = self.num_magnitude_bins - 1;
        match kind.magnitude {
            Magnitude::None => 0.0,
            Magnitude::Signed(end) => f64::from(linspace(0.0, end, bin, last)),
            Magnitude::Threshold => f64::from(linspace(255.0, 0.0, bin, last)),
            Magnitude::Bits => f64::from(8.0 - (bin as f32 / (f64::from(last) / 6.0) as f32).round_ties_even()),
        }
    }
}

/// An item of `torch.linspace`: each half is counted from its own end.
///
/// torch rounds once less where the processor has fused instructions, which can be a shift by a pixel less. Here it is not so.
fn linspace(start: f32, end: f32, index: u32, last: u32) -> f32 {
    let step = (end - start) / last as f32;
    if index < last.div_ceil(2) { start + step * index as f32 } else { end - step * (last - index) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::reference;
    use crate::random::stream;

    /// The operation's name, as torchvision has it.
    fn name(operation: Operation) -> String {
        format!("{operation:?}").chars().take_while(|&letter| letter != '(').collect()
    }

    #[test]
    fn the_operations_and_their_strengths_are_torchvisions() {
        for (num_magnitude_bins, expected) in reference().trivial {
            let augment = TrivialAugment { num_magnitude_bins, ..TrivialAugment::default() };
            assert_eq!(expected.len(), KINDS.len());
            for (kind, expected) in KINDS.into_iter().zip(expected) {
                let bins = if matches!(kind.magnitude, Magnitude::None) { 1 } else { num_magnitude_bins };
                let mut magnitudes: Vec<f64> = (0..bins).map(|bin| augment.magnitude(kind, bin)).collect();
                if matches!(kind.magnitude, Magnitude::Signed(_)) {
                    magnitudes.extend(magnitudes.clone().iter().map(|magnitude| -magnitude));
                }
                assert_eq!(magnitudes.len(), expected.arguments.len());
                for (magnitude, theirs) in magnitudes.into_iter().zip(expected.arguments) {
                    let operation = (kind.operation)(magnitude);
                    assert_eq!(name(operation), expected.operation);
                    // The last bit of a tangent is not the same on all systems; all others are.
                    let difference = (operation.argument() - theirs).abs();
                    assert!(difference <= theirs.abs() * f64::EPSILON, "{operation:?} {theirs}");
                }
            }
        }
    }

    #[test]
    fn operations_magnitudes_and_directions_are_alike_likely() {
        let mut rng = stream("test", &[10]);
        let drawn: Vec<_> = (0..28_000).map(|_| TrivialAugment::default().draw(&mut rng)).collect();
        let count = |name: &str, is_counted: &dyn Fn(f64) -> bool| {
            drawn.iter().filter(|other| self::name(**other) == name && is_counted(other.argument())).count()
        };
        for kind in KINDS {
            let name = name((kind.operation)(0.0));
            // Four standard deviations: 4 * sqrt(28000 * 1/14 * 13/14) = 173.
            assert!(count(&name, &|_| true).abs_diff(2000) < 173, "{name}");
        }
        // 2000 rotations: 30 of 31 magnitudes are not 0, half of them negative; 15 of 31 are above the middle.
        assert!(count("Rotate", &|degrees| degrees < 0.0).abs_diff(968) < 120);
        assert!(count("Rotate", &|degrees| degrees.abs() > 67.5).abs_diff(968) < 120);
    }
}

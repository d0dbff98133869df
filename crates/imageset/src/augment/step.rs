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

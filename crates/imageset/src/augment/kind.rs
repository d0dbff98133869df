//! The kinds of operations that timm's policies choose among, and what a magnitude means to each.

use crate::augment::operation::Operation;

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
    pub(crate) fn has_direction(self) -> bool {
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
    pub(crate) fn operation(self, magnitude: f64, direction: f64, reach: [f64; 2]) -> Operation {
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

    #[test]
    fn magnitudes_mean_what_they_mean_to_timm() {
        let mut compared = 0;
        for expected in reference().strengths {
            let kind = Kind::of_name(&expected.kind);
            for (i, &magnitude) in expected.magnitudes.iter().enumerate() {
                let ours = |direction| kind.operation(magnitude, direction, [0.45; 2]).argument();
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
}

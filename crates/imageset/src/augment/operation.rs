//! One change of a picture: what every automatic augmentation chooses among.

use crate::augment::affine::{Warp, affine, rotate};
use crate::augment::levels::{auto_contrast, equalize, invert, posterize, solarize, solarize_add};
use crate::augment::sharpness::sharpness;
use crate::color_jitter::{brightness, contrast, saturation};
use crate::image::RgbImage;

/// A change with all that is needed to make it.
///
/// A positive shear or shift takes pixels from further right or further down, so that the picture moves left or up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Nothing.
    Identity,
    /// Each channel is spread over all levels.
    AutoContrast,
    /// Each channel's levels become about equally frequent.
    Equalize,
    /// All levels are inverted.
    Invert,
    /// Counter-clockwise, in degrees.
    Rotate(f64),
    /// The bits that are kept.
    Posterize(u32),
    /// The lowest level that is inverted.
    Solarize(f64),
    /// What is added to the levels below 128.
    SolarizeAdd(u8),
    /// Blended from gray (0) to the picture (1) and beyond.
    Color(f64),
    /// Blended from its mean gray (0) to the picture (1) and beyond.
    Contrast(f64),
    /// Blended from black (0) to the picture (1) and beyond.
    Brightness(f64),
    /// Blended from a smooth version (0) to the picture (1) and beyond.
    Sharpness(f64),
    /// Columns by row.
    ShearX(f64),
    /// Rows by column.
    ShearY(f64),
    /// Columns.
    TranslateX(f64),
    /// Rows.
    TranslateY(f64),
}

impl Operation {
    /// Whether it moves pixels, so that there is something to fill and to interpolate.
    pub(crate) fn is_geometric(self) -> bool {
        matches!(self, Self::Rotate(_) | Self::ShearX(_) | Self::ShearY(_) | Self::TranslateX(_) | Self::TranslateY(_))
    }

    /// Makes the change; `warp` is for those that move pixels.
    pub(crate) fn apply(self, mut image: RgbImage, warp: Warp) -> RgbImage {
        match self {
            Self::Identity => {}
            Self::AutoContrast => auto_contrast(&mut image),
            Self::Equalize => equalize(&mut image),
            Self::Invert => invert(&mut image),
            Self::Posterize(bits) => posterize(&mut image, bits),
            Self::Solarize(threshold) => solarize(&mut image, threshold),
            Self::SolarizeAdd(add) => solarize_add(&mut image, add),
            Self::Color(factor) => saturation(&mut image, factor as f32),
            Self::Contrast(factor) => contrast(&mut image, factor as f32),
            Self::Brightness(factor) => brightness(&mut image, factor as f32),
            Self::Sharpness(factor) => sharpness(&mut image, factor as f32),
            Self::Rotate(degrees) => return rotate(image, degrees, warp),
            Self::ShearX(shear) => return affine(&image, [1.0, shear, 0.0, 0.0, 1.0, 0.0], warp),
            Self::ShearY(shear) => return affine(&image, [1.0, 0.0, 0.0, shear, 1.0, 0.0], warp),
            Self::TranslateX(columns) => return affine(&image, [1.0, 0.0, columns, 0.0, 1.0, 0.0], warp),
            Self::TranslateY(rows) => return affine(&image, [1.0, 0.0, 0.0, 0.0, 1.0, rows], warp),
        }
        image
    }
}

#[cfg(test)]
impl Operation {
    /// Its number, 0 where it has none.
    pub(crate) fn argument(self) -> f64 {
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            Self::Posterize(bits) => bits.into(),
            Self::SolarizeAdd(add) => add.into(),
            Self::Rotate(x)
            | Self::Solarize(x)
            | Self::Color(x)
            | Self::Contrast(x)
            | Self::Brightness(x)
            | Self::Sharpness(x)
            | Self::ShearX(x)
            | Self::ShearY(x)
            | Self::TranslateX(x)
            | Self::TranslateY(x) => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::IMAGENET_MEAN;
    use crate::augment::blur::gaussian_blur;
    use crate::pillow::{Changed, crc32, picture, reference};
    use crate::transform::Interpolation;

    fn operation(expected: &Changed) -> Operation {
        let argument = expected.argument.unwrap_or_default();
        match expected.operation.as_str() {
            "AutoContrast" => Operation::AutoContrast,
            "Equalize" => Operation::Equalize,
            "Invert" => Operation::Invert,
            "Rotate" => Operation::Rotate(argument),
            "Posterize" => Operation::Posterize(argument as u32),
            "Solarize" => Operation::Solarize(argument),
            "SolarizeAdd" => Operation::SolarizeAdd(argument as u8),
            "Color" => Operation::Color(argument),
            "Contrast" => Operation::Contrast(argument),
            "Brightness" => Operation::Brightness(argument),
            "Sharpness" => Operation::Sharpness(argument),
            "ShearX" => Operation::ShearX(argument),
            "ShearY" => Operation::ShearY(argument),
            "TranslateX" => Operation::TranslateX(argument),
            "TranslateY" => Operation::TranslateY(argument),
            other => panic!("no operation `{other}`"),
        }
    }

    #[test]
    fn changed_pictures_are_those_of_pillow() {
        let mut wrong = Vec::new();
        for expected in reference().changed {
            let image = picture(expected.size[0], expected.size[1]);
            let interpolation = expected.interpolation.unwrap_or(Interpolation::Nearest);
            let ours = match expected.operation.as_str() {
                "GaussianBlur" => gaussian_blur(&image, expected.argument.unwrap() as f32),
                _ => operation(&expected).apply(image, Warp { interpolation, fill: IMAGENET_MEAN }),
            };
            let Changed { size, operation, argument, .. } = expected;
            let what = format!("{operation} {argument:?} {size:?} {interpolation:?}");
            let some = ours.pixels.iter().copied().step_by(31).take(expected.levels.len());
            assert_eq!(some.collect::<Vec<_>>(), expected.levels, "{what}");
            if crc32(&ours.pixels) != expected.crc32 {
                wrong.push(what);
            }
        }
        assert_eq!(wrong, [""; 0]);
    }
}

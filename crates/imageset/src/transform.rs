//! What happens to a picture between decoder and network, as a recipe writes it.
//!
//! A [`Transform`] is one line of a recipe, with torchvision's and timm's defaults. A [`Pipeline`] is the checked list of
//! them: whatever picture goes in, a square of the recipe's size comes out. Random choices come from the generator that
//! [`Pipeline::apply`] and [`Pipeline::erasure`] are given and from nowhere else; each transform documents the order in which it draws.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::{AugMix, AutoAugment, RandAugment, ThreeAugment, TrivialAugment};
use crate::color_jitter;
use crate::image::RgbImage;
use crate::random::{below, shuffle, uniform, unit};
use crate::random_erasing::{Erasure, RandomErasing};
use crate::resize::{Resized, resize};

/// How a resized pixel is computed from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Pillow's `BILINEAR`, antialiased: torchvision's default.
    Bilinear,
    /// Pillow's `BICUBIC`, antialiased: what timm's GhostNet weights were trained and are evaluated with.
    #[default]
    Bicubic,
    /// The nearest pixel: for pixel art and masks.
    Nearest,
}

/// One step from the decoded picture to the network's input.
///
/// Where a `size` is left out, it is the recipe's `image_size`. All sizes are in pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// A random part of the picture, resized to a square (torchvision's `RandomResizedCrop`).
    ///
    /// Up to ten times an area and a shape are drawn; if none fits, the largest central part of an allowed shape is taken.
    /// Draws per try: area, logarithm of the shape, and for the one that fits top, left.
    RandomResizedCrop {
        /// Side of the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
        /// Smallest and largest part of the picture's area.
        #[serde(default = "default_scale")]
        scale: [f64; 2],
        /// Smallest and largest width divided by height, drawn evenly in the logarithm.
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
        /// Filter.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// The whole picture, its shorter side resized to `size` (torchvision's `Resize`).
    Resize {
        /// The shorter side of the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
        /// Filter.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// The central square; black is added to a smaller picture (torchvision's `CenterCrop`).
    CenterCrop {
        /// Side of the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
    },
    /// The usual preparation for evaluation: shorter side to `size / crop_pct`, then the central square (timm).
    ResizeCenterCrop {
        /// Side of the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
        /// The square's side as a part of the resized picture's shorter side.
        #[serde(default = "default_crop_pct")]
        crop_pct: f64,
        /// Filter.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Left and right swapped. Draws: whether.
    HorizontalFlip {
        /// How often, 0 to 1.
        #[serde(default = "default_probability")]
        probability: f64,
    },
    /// Other light and colours (torchvision's `ColorJitter` on PIL images).
    ///
    /// Brightness, contrast and saturation are multiplied by a factor from `max(0, 1 - x)` to `1 + x`, hue is turned by
    /// `-x` to `x` of a circle; a value of 0 leaves that property alone. Draws: the order of the four (3 draws), then the
    /// factors of those that are not 0 as they are listed here.
    ColorJitter {
        /// Strength for brightness.
        #[serde(default = "default_jitter")]
        brightness: f64,
        /// Strength for contrast.
        #[serde(default = "default_jitter")]
        contrast: f64,
        /// Strength for saturation.
        #[serde(default = "default_jitter")]
        saturation: f64,
        /// Strength for hue, at most 0.5.
        #[serde(default)]
        hue: f64,
    },
    /// A random square of the picture with a black border around it, the usual augmentation of CIFAR
    /// (torchvision's `RandomCrop` with `padding`). Draws: top, left.
    ///
    /// A picture that is still too small gets a wider border.
    PadRandomCrop {
        /// Side of the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
        /// Width of the border.
        #[serde(default = "default_padding")]
        padding: u32,
    },
    /// A box of the normalised image is painted over (timm's `RandomErasing`): the last transform, once. See [`Pipeline::erasure`].
    RandomErasing(RandomErasing),
    /// A few random operations of one strength (timm's `rand_augment_transform`).
    RandAugment(RandAugment),
    /// A pair of operations from a searched list (timm's `auto_augment_transform`).
    AutoAugment(AutoAugment),
    /// One operation of any strength (torchvision's `TrivialAugmentWide`).
    TrivialAugment(TrivialAugment),
    /// A mixture of several versions, each changed by a chain of operations (timm's `augment_and_mix_transform`).
    AugMix(AugMix),
    /// Gray, solarized or blurred (DeiT III's 3-Augment, without its colour jitter).
    ThreeAugment(ThreeAugment),
}

impl Transform {
    /// Leaves the size of the result to the recipe's `image_size`, whatever size was written.
    pub fn clear_size(&mut self) {
        if let Some(size) = self.size_mut() {
            *size = None;
        }
    }
}

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn default_crop_pct() -> f64 {
    0.875
}

fn default_probability() -> f64 {
    0.5
}

fn default_jitter() -> f64 {
    0.4
}

fn default_padding() -> u32 {
    4
}

/// Why a list of transforms makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TransformError {
    /// A size of 0, or one that no picture has.
    #[error("`{transform}` has a size of {size} pixels, but it must be from 1 to {MAX_SIZE}")]
    Size {
        /// The transform's name in a recipe.
        transform: &'static str,
        /// The size.
        size: u32,
    },
    /// A number outside of what makes sense.
    #[error("`{transform}` has `{field} = {value}`, but it must be {expected}")]
    OutOfRange {
        /// The transform's name in a recipe.
        transform: &'static str,
        /// The field's name.
        field: &'static str,
        /// The number.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// A range with its ends swapped.
    #[error("`{transform}` has `{field} = [{low}, {high}]`: the smaller number must come first")]
    RangeOrder {
        /// The transform's name in a recipe.
        transform: &'static str,
        /// The field's name.
        field: &'static str,
        /// First number.
        low: f64,
        /// Second number.
        high: f64,
    },
    /// What happens to the normalised image would come before what happens to the picture, or twice.
    #[error(
        "`{after}` comes after `random_erasing`, which paints on the finished image: it must be the last transform, and come once"
    )]
    ErasingNotLast {
        /// The transform that follows, by its name in a recipe.
        after: &'static str,
    },
    /// More is cut out than there is.
    #[error(
        "`{transform}` cuts {size} x {size} pixels out of pictures whose shorter side `{before}` brings to {side}, and the rest would be \
         black: set `size` of `{before}` to {enough} or more"
    )]
    BlackRest {
        /// The transform that cuts, by its name in a recipe.
        transform: &'static str,
        /// What it cuts out.
        size: u32,
        /// The transform that decides how large pictures are, by its name in a recipe.
        before: &'static str,
        /// Their shorter side, pixels.
        side: u32,
        /// What would do, with the border that the transform adds.
        enough: u32,
    },
    /// Pictures would keep sizes of their own.
    #[error(
        "after the transforms pictures do not all have {image_size} x {image_size} pixels: add `resize_center_crop`, or \
         `random_resized_crop` or `pad_random_crop` for training"
    )]
    NoFixedSize {
        /// The recipe's image size.
        image_size: u32,
    },
    /// Pictures would get another size than the network's input.
    #[error(
        "the transforms give pictures of {size} x {size} pixels, but the image size is {image_size}: leave out `size` in \
         `{transform}`, or set it to {image_size}"
    )]
    OtherSize {
        /// The transform that decides, by its name in a recipe.
        transform: &'static str,
        /// What it gives.
        size: u32,
        /// The recipe's image size.
        image_size: u32,
    },
}

/// Larger inputs are a typing error.
const MAX_SIZE: u32 = 16_384;

/// More operations on one picture leave nothing of it.
const MAX_OPERATIONS: u32 = 16;

impl Transform {
    /// The name in a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RandomResizedCrop { .. } => "random_resized_crop",
            Self::Resize { .. } => "resize",
            Self::CenterCrop { .. } => "center_crop",
            Self::ResizeCenterCrop { .. } => "resize_center_crop",
            Self::HorizontalFlip { .. } => "horizontal_flip",
            Self::ColorJitter { .. } => "color_jitter",
            Self::PadRandomCrop { .. } => "pad_random_crop",
            Self::RandomErasing(_) => "random_erasing",
            Self::RandAugment(_) => "rand_augment",
            Self::AutoAugment(_) => "auto_augment",
            Self::TrivialAugment(_) => "trivial_augment",
            Self::AugMix(_) => "aug_mix",
            Self::ThreeAugment(_) => "three_augment",
        }
    }

    /// The side or the shorter side that it gives; None where it changes no size.
    fn size_mut(&mut self) -> Option<&mut Option<u32>> {
        match self {
            Self::RandomResizedCrop { size, .. }
            | Self::Resize { size, .. }
            | Self::CenterCrop { size }
            | Self::ResizeCenterCrop { size, .. }
            | Self::PadRandomCrop { size, .. } => Some(size),
            Self::HorizontalFlip { .. }
            | Self::ColorJitter { .. }
            | Self::RandomErasing(_)
            | Self::RandAugment(_)
            | Self::AutoAugment(_)
            | Self::TrivialAugment(_)
            | Self::AugMix(_)
            | Self::ThreeAugment(_) => None,
        }
    }

    fn check(&self) -> Result<(), TransformError> {
        let transform = self.name();
        let in_range = |field, value: f64, is_good: bool, expected| {
            if is_good { Ok(()) } else { Err(TransformError::OutOfRange { transform, field, value, expected }) }
        };
        let ordered = |field, [low, high]: [f64; 2]| {
            if low <= high { Ok(()) } else { Err(TransformError::RangeOrder { transform, field, low, high }) }
        };
        let good_magnitude = |value| in_range("magnitude", value, (0.0..=10.0).contains(&value), "from 0 to 10");
        let good_deviation = |value| in_range("magnitude_std", value, value >= 0.0, "at least 0, or `inf`");
        let good_count =
            |field, value: u32| in_range(field, value.into(), (1..=MAX_OPERATIONS).contains(&value), "from 1 to 16");
        match *self {
            Self::RandomResizedCrop { scale, ratio, .. } => {
                for value in scale {
                    in_range("scale", value, value > 0.0 && value <= 1.0, "above 0 and at most 1")?;
                }
                for value in ratio {
                    in_range("ratio", value, value > 0.0 && value.is_finite(), "above 0")?;
                }
                ordered("scale", scale)?;
                ordered("ratio", ratio)
            }
            Self::ResizeCenterCrop { crop_pct, .. } => {
                // A part below a hundredth would enlarge the picture a hundredfold.
                in_range("crop_pct", crop_pct, (0.01..=1.0).contains(&crop_pct), "from 0.01 to 1")
            }
            Self::HorizontalFlip { probability } => {
                in_range("probability", probability, (0.0..=1.0).contains(&probability), "from 0 to 1")
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                for (field, value) in [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)] {
                    in_range(field, value, value >= 0.0 && value.is_finite(), "at least 0")?;
                }
                in_range("hue", hue, (0.0..=0.5).contains(&hue), "from 0 to 0.5")
            }
            Self::PadRandomCrop { padding, .. } => {
                in_range("padding", f64::from(padding), padding <= MAX_SIZE, "at most 16384")
            }
            Self::RandomErasing(RandomErasing { probability, area, ratio, .. }) => {
                in_range("probability", probability, (0.0..=1.0).contains(&probability), "from 0 to 1")?;
                for value in area {
                    in_range("area", value, value > 0.0 && value <= 1.0, "above 0 and at most 1")?;
                }
                for value in ratio {
                    in_range("ratio", value, value > 0.0 && value.is_finite(), "above 0")?;
                }
                ordered("area", area)?;
                ordered("ratio", ratio)
            }
            Self::RandAugment(RandAugment { magnitude, num_ops, magnitude_std, probability, .. }) => {
                good_magnitude(magnitude)?;
                good_deviation(magnitude_std)?;
                good_count("num_ops", num_ops)?;
                in_range("probability", probability, (0.0..=1.0).contains(&probability), "from 0 to 1")
            }
            Self::AutoAugment(AutoAugment { magnitude_std, .. }) => good_deviation(magnitude_std),
            Self::TrivialAugment(TrivialAugment { num_magnitude_bins: bins, .. }) => {
                in_range("num_magnitude_bins", bins.into(), (2..=1000).contains(&bins), "from 2 to 1000")
            }
            Self::AugMix(AugMix { magnitude, width, depth, alpha, magnitude_std, .. }) => {
                good_magnitude(magnitude)?;
                good_deviation(magnitude_std)?;
                good_count("width", width)?;
                let is_good = depth == -1 || (1..=MAX_OPERATIONS as i32).contains(&depth);
                in_range("depth", depth.into(), is_good, "from 1 to 16, or -1 for 1 to 3 at random")?;
                // Below, numbers of the gamma distribution are too small to be divided.
                in_range("alpha", alpha, (0.01..=1000.0).contains(&alpha), "from 0.01 to 1000")
            }
            Self::ThreeAugment(ThreeAugment { blur_radius, .. }) => {
                for value in blur_radius {
                    in_range("blur_radius", value, value > 0.0 && value <= 100.0, "above 0 and at most 100")?;
                }
                ordered("blur_radius", blur_radius)
            }
            Self::Resize { .. } | Self::CenterCrop { .. } => Ok(()),
        }
    }

    fn is_random(&self) -> bool {
        match *self {
            Self::RandomResizedCrop { .. } | Self::PadRandomCrop { .. } => true,
            Self::HorizontalFlip { probability } | Self::RandomErasing(RandomErasing { probability, .. }) => {
                probability > 0.0
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                brightness > 0.0 || contrast > 0.0 || saturation > 0.0 || hue > 0.0
            }
            Self::RandAugment(RandAugment { probability, .. }) => probability > 0.0,
            Self::AutoAugment(_) | Self::TrivialAugment(_) | Self::AugMix(_) | Self::ThreeAugment(_) => true,
            Self::Resize { .. } | Self::CenterCrop { .. } | Self::ResizeCenterCrop { .. } => false,
        }
    }

    /// `size` is the resolved one of this transform, 0 where it has none.
    fn apply(&self, image: RgbImage, size: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        match *self {
            Self::RandomResizedCrop { scale, ratio, interpolation, .. } => {
                let (left, top, width, height) = draw_crop(image.width, image.height, scale, ratio, rng);
                let part = image.window(left.into(), top.into(), width, height);
                resize(&part, size, size, interpolation)
            }
            Self::Resize { interpolation, .. } => {
                let (width, height) = with_shorter_side(&image, size, MAX_LONGER_SIDE);
                resize(&image, width, height, interpolation)
            }
            Self::CenterCrop { .. } => center_crop(&image, size),
            Self::ResizeCenterCrop { crop_pct, interpolation, .. } => {
                // timm: math.floor(size / crop_pct).
                let shorter = (f64::from(size) / crop_pct).floor() as u32;
                center_of_resized(&image, shorter, size, interpolation)
            }
            Self::HorizontalFlip { probability } => {
                if unit(rng) < probability {
                    image.mirrored()
                } else {
                    image
                }
            }
            // Painted after the normalisation, see `Pipeline::erasure`.
            Self::RandomErasing(_) => image,
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                jitter(image, [brightness, contrast, saturation, hue], rng)
            }
            Self::RandAugment(augment) => augment.apply(image, rng),
            Self::AutoAugment(augment) => augment.apply(image, rng),
            Self::TrivialAugment(augment) => augment.apply(image, rng),
            Self::AugMix(augment) => augment.apply(image, rng),
            Self::ThreeAugment(augment) => augment.apply(image, rng),
            Self::PadRandomCrop { padding, .. } => {
                // What the border leaves to choose from; a picture that is too small is centred.
                let (left, top) = {
                    let mut draw = |side: u32| {
                        let free = i64::from(side) + 2 * i64::from(padding) - i64::from(size);
                        if free >= 0 {
                            below(rng, free as u64 + 1) as i64 - i64::from(padding)
                        } else {
                            below(rng, 1);
                            (i64::from(side) - i64::from(size)).div_euclid(2)
                        }
                    };
                    let top = draw(image.height);
                    (draw(image.width), top)
                };
                image.window(left, top, size, size)
            }
        }
    }
}

/// Left, top, width and height of torchvision's `RandomResizedCrop.get_params`.
fn draw_crop(width: u32, height: u32, scale: [f64; 2], ratio: [f64; 2], rng: &mut ChaCha8Rng) -> (u32, u32, u32, u32) {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * uniform(rng, scale[0], scale[1]);
        let aspect = uniform(rng, ratio[0].ln(), ratio[1].ln()).exp();
        // Python's round(): halves to the even number.
        let w = (target * aspect).sqrt().round_ties_even();
        let h = (target / aspect).sqrt().round_ties_even();
        if w >= 1.0 && w <= f64::from(width) && h >= 1.0 && h <= f64::from(height) {
            let (w, h) = (w as u32, h as u32);
            let top = below(rng, u64::from(height - h) + 1) as u32;
            let left = below(rng, u64::from(width - w) + 1) as u32;
            return (left, top, w, h);
        }
    }
    let aspect = f64::from(width) / f64::from(height);
    let (w, h) = if aspect < ratio[0] {
        (width, (f64::from(width) / ratio[0]).round_ties_even() as u32)
    } else if aspect > ratio[1] {
        ((f64::from(height) * ratio[1]).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    ((width - w) / 2, (height - h) / 2, w, h)
}

/// The middle `crop` x `crop` pixels of a picture whose shorter side becomes `shorter`, which is at least `crop`. The rest of it is
/// not computed, so a picture may have any length.
fn center_of_resized(image: &RgbImage, shorter: u32, crop: u32, interpolation: Interpolation) -> RgbImage {
    let (width, height) = with_shorter_side(image, shorter, u32::MAX);
    // No side is below `crop`, so all of the square lies inside.
    let [left, top] = [width, height].map(|side| center_corner(side, crop) as u32);
    Resized { image, width, height, interpolation }.part(left..left + crop, top..top + crop)
}

/// Width and height of torchvision's `Resize`: the longer side is `int(size * longer / shorter)`, and here at most `max_longer`.
fn with_shorter_side(image: &RgbImage, size: u32, max_longer: u32) -> (u32, u32) {
    let longer = |long: u32, short: u32| {
        let side = u64::from(size) * u64::from(long) / u64::from(short);
        side.clamp(1, u64::from(max_longer)) as u32
    };
    if image.width <= image.height {
        (size, longer(image.height, image.width))
    } else {
        (longer(image.width, image.height), size)
    }
}

/// A picture of one row must not grow beyond memory when that row becomes `size` rows and all of it is needed.
const MAX_LONGER_SIDE: u32 = 65_535;

/// torchvision's `center_crop`: first the black border, then the window, each with its own rounding.
fn center_crop(image: &RgbImage, size: u32) -> RgbImage {
    image.window(center_corner(image.width, size), center_corner(image.height, size), size, size)
}

/// Where the centre of `size` pixels begins.
fn center_corner(side: u32, size: u32) -> i64 {
    let (side, size) = (i64::from(side), i64::from(size));
    if side < size {
        // The border on the left: (size - side) // 2.
        -((size - side) / 2)
    } else {
        // int(round((side - size) / 2)): halves to the even number.
        ((side - size) as f64 / 2.0).round_ties_even() as i64
    }
}

fn jitter(mut image: RgbImage, strengths: [f64; 4], rng: &mut ChaCha8Rng) -> RgbImage {
    let mut order = [0, 1, 2, 3];
    shuffle(rng, &mut order);
    let mut factors = [None; 4];
    for (property, (factor, &strength)) in factors.iter_mut().zip(&strengths).enumerate() {
        if strength > 0.0 {
            *factor = Some(match property {
                3 => uniform(rng, -strength, strength),
                _ => uniform(rng, (1.0 - strength).max(0.0), 1.0 + strength),
            });
        }
    }
    for property in order {
        let Some(factor) = factors[property] else { continue };
        match property {
            0 => color_jitter::brightness(&mut image, factor as f32),
            1 => color_jitter::contrast(&mut image, factor as f32),
            2 => color_jitter::saturation(&mut image, factor as f32),
            _ => color_jitter::hue(&mut image, factor),
        }
    }
    image
}

/// A checked list of transforms that turns any picture into a square of one size.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Each with its resolved size, 0 where it has none.
    steps: Vec<(Transform, u32)>,
    image_size: u32,
}

impl Pipeline {
    /// Checks the transforms and resolves their sizes.
    ///
    /// # Errors
    ///
    /// [`TransformError`] if a number is out of range, if something comes after random erasing, or if not every picture would come out
    /// as a square of `image_size` pixels.
    pub fn new(transforms: &[Transform], image_size: u32) -> Result<Self, TransformError> {
        let check_size = |transform, size| {
            if (1..=MAX_SIZE).contains(&size) { Ok(size) } else { Err(TransformError::Size { transform, size }) }
        };
        check_size("image_size", image_size)?;
        let mut steps = Vec::with_capacity(transforms.len());
        // The side of the square that all pictures are at this point, and who made it so.
        let mut square = None;
        for transform in transforms {
            transform.check()?;
            if let Some((Transform::RandomErasing(_), _)) = steps.last() {
                return Err(TransformError::ErasingNotLast { after: transform.name() });
            }
            let mut transform = transform.clone();
            let name = transform.name();
            let mut resolved = 0;
            if let Some(size) = transform.size_mut() {
                resolved = check_size(name, size.unwrap_or(image_size))?;
                *size = Some(resolved);
            }
            square = match transform {
                Transform::HorizontalFlip { .. }
                | Transform::ColorJitter { .. }
                | Transform::RandomErasing(_)
                | Transform::RandAugment(_)
                | Transform::AutoAugment(_)
                | Transform::TrivialAugment(_)
                | Transform::AugMix(_)
                | Transform::ThreeAugment(_) => square,
                // A square stays one; other pictures keep their shape.
                Transform::Resize { .. } => square.map(|_| (resolved, name)),
                Transform::RandomResizedCrop { .. }
                | Transform::CenterCrop { .. }
                | Transform::ResizeCenterCrop { .. }
                | Transform::PadRandomCrop { .. } => Some((resolved, name)),
            };
            steps.push((transform, resolved));
        }
        match square {
            None => Err(TransformError::NoFixedSize { image_size }),
            Some((size, transform)) if size != image_size => {
                Err(TransformError::OtherSize { transform, size, image_size })
            }
            Some(_) => Ok(Self { steps, image_size }),
        }
    }

    /// Whether no transform cuts out more than an earlier one left, so that the rest would be black. For recipes only: a model that was trained
    /// in this way needs its images prepared in this way.
    ///
    /// # Errors
    ///
    /// [`TransformError::BlackRest`] for the first that does.
    pub fn check_cuts(&self) -> Result<(), TransformError> {
        // The least that the shorter side of any picture is at this point, and who made it so.
        let mut shorter: Option<(u32, &'static str)> = None;
        for (transform, size) in &self.steps {
            let border = match transform {
                Transform::PadRandomCrop { padding, .. } => Some(*padding),
                Transform::CenterCrop { .. } => Some(0),
                _ => None,
            };
            if let (Some(border), Some((side, before))) = (border, shorter)
                && side + 2 * border < *size
            {
                let enough = size - 2 * border;
                return Err(TransformError::BlackRest {
                    transform: transform.name(),
                    size: *size,
                    before,
                    side,
                    enough,
                });
            }
            if *size > 0 {
                shorter = Some((*size, transform.name()));
            }
        }
        Ok(())
    }

    /// Applies all transforms in order, but for what [`erasure`](Self::erasure) draws.
    ///
    /// # Shapes
    ///
    /// `[height, width, 3]` of any size to `[image_size, image_size, 3]`.
    pub fn apply(&self, mut image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let mut steps = self.steps.iter().peekable();
        while let Some((transform, size)) = steps.next() {
            image = match (transform, steps.peek().copied()) {
                // The levels are the same in one step as in two, and what is cut away is not computed.
                (&Transform::Resize { interpolation, .. }, Some((Transform::CenterCrop { .. }, crop)))
                    if crop <= size =>
                {
                    steps.next();
                    center_of_resized(&image, *size, *crop, interpolation)
                }
                _ => transform.apply(image, *size, rng),
            };
        }
        image
    }

    /// What is painted over the picture that [`apply`](Self::apply) made, once it is normalised; drawn after it, from the same generator.
    pub fn erasure(&self, rng: &mut ChaCha8Rng) -> Option<Erasure> {
        match self.steps.last() {
            Some((Transform::RandomErasing(erasing), _)) => erasing.draw(self.image_size, self.image_size, rng),
            _ => None,
        }
    }

    /// Whether the same picture may come out differently another time.
    pub fn is_random(&self) -> bool {
        self.steps.iter().any(|(transform, _)| transform.is_random())
    }

    /// The side of the pictures that come out, in pixels.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::picture;
    use crate::random::{sample_stream, stream};

    #[derive(Deserialize, Serialize)]
    struct Recipe {
        train: Vec<Transform>,
    }

    fn parse(train: &str) -> Result<Vec<Transform>, String> {
        toml::from_str::<Recipe>(&format!("train = [{train}]"))
            .map(|recipe| recipe.train)
            .map_err(|error| error.message().to_owned())
    }

    fn pipeline(train: &str, image_size: u32) -> Result<Pipeline, String> {
        Pipeline::new(&parse(train)?, image_size).map_err(|error| error.to_string())
    }

    fn apply(train: &str, image_size: u32, image: RgbImage, sample: usize) -> RgbImage {
        pipeline(train, image_size).unwrap().apply(image, &mut sample_stream(0, 0, sample))
    }

    #[test]
    fn a_recipe_may_leave_everything_to_the_defaults() {
        let all = "{ random_resized_crop = {} }, { resize = {} }, { center_crop = {} }, { resize_center_crop = {} }, \
                   { horizontal_flip = {} }, { color_jitter = {} }, { pad_random_crop = {} }, { random_erasing = {} }, \
                   { rand_augment = {} }, { auto_augment = {} }, { trivial_augment = {} }, { aug_mix = {} }, \
                   { three_augment = {} }";
        let interpolation = Interpolation::Bicubic;
        let expected = [
            Transform::RandomResizedCrop { size: None, scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], interpolation },
            Transform::Resize { size: None, interpolation },
            Transform::CenterCrop { size: None },
            Transform::ResizeCenterCrop { size: None, crop_pct: 0.875, interpolation },
            Transform::HorizontalFlip { probability: 0.5 },
            Transform::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.0 },
            Transform::PadRandomCrop { size: None, padding: 4 },
            Transform::RandomErasing(RandomErasing::default()),
            Transform::RandAugment(RandAugment::default()),
            Transform::AutoAugment(AutoAugment::default()),
            Transform::TrivialAugment(TrivialAugment::default()),
            Transform::AugMix(AugMix::default()),
            Transform::ThreeAugment(ThreeAugment::default()),
        ];
        assert_eq!(parse(all).unwrap(), expected);
        // Written out with every default, it is read back the same.
        let written = toml::to_string(&Recipe { train: expected.to_vec() }).unwrap();
        assert_eq!(toml::from_str::<Recipe>(&written).unwrap().train, expected);
    }

    #[test]
    fn an_augmentation_is_one_line_of_a_recipe() {
        let written = toml::to_string(&Recipe {
            train: parse(
                "{ rand_augment = { magnitude = 7, num_ops = 3, magnitude_std = inf, increasing = true, probability = 1, \
                 interpolation = \"bicubic\", fill = [1, 2, 3] } }, \
                 { auto_augment = { policy = \"v0r\", magnitude_std = 0.5, interpolation = \"nearest\" } }, \
                 { trivial_augment = { interpolation = \"bilinear\" } }, { aug_mix = { depth = 2, magnitude_std = 0 } }, \
                 { three_augment = { blur_radius = [0.5, 1] } }",
            )
            .unwrap(),
        })
        .unwrap();
        for line in [
            "magnitude = 7.0\nnum_ops = 3\nmagnitude_std = inf\nincreasing = true\nprobability = 1.0\n\
             interpolation = \"bicubic\"\nfill = [1, 2, 3]\n",
            "policy = \"v0r\"\nmagnitude_std = 0.5\ninterpolation = \"nearest\"\nfill = [124, 116, 104]\n",
            "num_magnitude_bins = 31\ninterpolation = \"bilinear\"\nfill = [0, 0, 0]\n",
            "magnitude = 3.0\nwidth = 3\ndepth = 2\nalpha = 1.0\nmagnitude_std = 0.0\ninterpolation = \"random\"\n",
            "solarize_threshold = 128\nblur_radius = [0.5, 1.0]\n",
        ] {
            assert!(written.contains(line), "{written}");
        }
        let error = parse("{ rand_augment = { magnitud = 9 } }").unwrap_err();
        assert!(error.contains("unknown field `magnitud`, expected one of `magnitude`, `num_ops`"), "{error}");
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = parse("{ horizontal_flop = {} }").unwrap_err();
        assert!(error.contains("unknown variant `horizontal_flop`, expected one of `random_resized_crop`"), "{error}");
        let error = parse("{ horizontal_flip = { probabilty = 1.0 } }").unwrap_err();
        assert!(error.contains("probabilty") && error.contains("available keys: probability"), "{error}");
    }

    #[test]
    fn numbers_without_sense_are_refused() {
        let crop = "{ random_resized_crop = {} }";
        for (bad, expected) in [
            (
                "{ random_resized_crop = { scale = [0.0, 1.0] } }",
                "`random_resized_crop` has `scale = 0`, but it must be above 0 and at most 1",
            ),
            (
                "{ random_resized_crop = { scale = [0.5, 0.2] } }",
                "`random_resized_crop` has `scale = [0.5, 0.2]`: the smaller number must come first",
            ),
            (
                "{ random_resized_crop = { ratio = [0.0, 2.0] } }",
                "`random_resized_crop` has `ratio = 0`, but it must be above 0",
            ),
            (
                "{ random_resized_crop = { size = 0 } }",
                "`random_resized_crop` has a size of 0 pixels, but it must be from 1 to 16384",
            ),
            (
                "{ horizontal_flip = { probability = 1.5 } }",
                "`horizontal_flip` has `probability = 1.5`, but it must be from 0 to 1",
            ),
            (
                "{ horizontal_flip = { probability = nan } }",
                "`horizontal_flip` has `probability = NaN`, but it must be from 0 to 1",
            ),
            ("{ color_jitter = { hue = 0.6 } }", "`color_jitter` has `hue = 0.6`, but it must be from 0 to 0.5"),
            ("{ color_jitter = { contrast = -1.0 } }", "`color_jitter` has `contrast = -1`, but it must be at least 0"),
            (
                "{ resize_center_crop = { crop_pct = 0.0 } }",
                "`resize_center_crop` has `crop_pct = 0`, but it must be from 0.01 to 1",
            ),
            (
                "{ rand_augment = { magnitude = 11 } }",
                "`rand_augment` has `magnitude = 11`, but it must be from 0 to 10",
            ),
            ("{ rand_augment = { num_ops = 0 } }", "`rand_augment` has `num_ops = 0`, but it must be from 1 to 16"),
            (
                "{ rand_augment = { probability = 2.0 } }",
                "`rand_augment` has `probability = 2`, but it must be from 0 to 1",
            ),
            (
                "{ auto_augment = { magnitude_std = -1.0 } }",
                "`auto_augment` has `magnitude_std = -1`, but it must be at least 0, or `inf`",
            ),
            (
                "{ trivial_augment = { num_magnitude_bins = 1 } }",
                "`trivial_augment` has `num_magnitude_bins = 1`, but it must be from 2 to 1000",
            ),
            (
                "{ aug_mix = { depth = 0 } }",
                "`aug_mix` has `depth = 0`, but it must be from 1 to 16, or -1 for 1 to 3 at random",
            ),
            ("{ aug_mix = { width = 17 } }", "`aug_mix` has `width = 17`, but it must be from 1 to 16"),
            ("{ aug_mix = { alpha = 0.0 } }", "`aug_mix` has `alpha = 0`, but it must be from 0.01 to 1000"),
            (
                "{ three_augment = { blur_radius = [2.0, 0.1] } }",
                "`three_augment` has `blur_radius = [2, 0.1]`: the smaller number must come first",
            ),
        ] {
            assert_eq!(pipeline(&format!("{bad}, {crop}"), 32).unwrap_err(), expected);
        }
        assert_eq!(
            pipeline(crop, 0).unwrap_err(),
            "`image_size` has a size of 0 pixels, but it must be from 1 to 16384"
        );
    }

    #[test]
    fn every_picture_must_come_out_as_a_square_of_the_image_size() {
        let not_fixed = "after the transforms pictures do not all have 32 x 32 pixels: add `resize_center_crop`, or \
                         `random_resized_crop` or `pad_random_crop` for training";
        for open in ["", "{ horizontal_flip = {} }", "{ resize = {} }"] {
            assert_eq!(pipeline(open, 32).unwrap_err(), not_fixed);
        }
        assert_eq!(
            pipeline("{ center_crop = { size = 40 } }, { horizontal_flip = {} }", 32).unwrap_err(),
            "the transforms give pictures of 40 x 40 pixels, but the image size is 32: leave out `size` in `center_crop`, or \
             set it to 32"
        );
        for good in [
            "{ center_crop = { size = 40 } }, { resize = {} }",
            "{ resize = {} }, { center_crop = {} }",
            "{ pad_random_crop = {} }",
        ] {
            let pipeline = pipeline(good, 32).unwrap();
            for (width, height) in [(1, 1), (5, 90), (97, 61), (32, 32), (33, 31)] {
                let image = pipeline.apply(picture(width, height), &mut sample_stream(0, 0, 0));
                assert_eq!((image.width, image.height), (32, 32), "{good}");
            }
        }
    }

    #[test]
    fn what_keeps_the_size_may_come_before_and_after_the_crop() {
        for keeps in [
            "{ horizontal_flip = {} }",
            "{ color_jitter = {} }",
            "{ rand_augment = {} }",
            "{ auto_augment = {} }",
            "{ trivial_augment = {} }",
            "{ aug_mix = {} }",
            "{ three_augment = {} }",
        ] {
            for order in [format!("{{ center_crop = {{}} }}, {keeps}"), format!("{keeps}, {{ center_crop = {{}} }}")] {
                let pipeline = pipeline(&order, 32).unwrap();
                assert!(pipeline.is_random());
                for sample in 0..20 {
                    let image = pipeline.apply(picture(40, 31), &mut sample_stream(0, 0, sample));
                    assert_eq!((image.width, image.height, image.pixels.len()), (32, 32, 3072), "{order}");
                }
            }
            assert!(pipeline(keeps, 32).unwrap_err().starts_with("after the transforms pictures do not all have"));
        }
    }

    #[test]
    fn nothing_larger_is_cut_out_than_there_is() {
        let cuts = |train: &str| pipeline(train, 32).unwrap().check_cuts().map_err(|error| error.to_string());
        for (crop, enough) in [("center_crop", 32), ("pad_random_crop", 24)] {
            assert_eq!(
                cuts(&format!("{{ resize = {{ size = 20 }} }}, {{ {crop} = {{}} }}")).unwrap_err(),
                format!(
                    "`{crop}` cuts 32 x 32 pixels out of pictures whose shorter side `resize` brings to 20, and the rest would be black: \
                     set `size` of `resize` to {enough} or more"
                )
            );
            assert_eq!(cuts(&format!("{{ resize = {{ size = {enough} }} }}, {{ {crop} = {{}} }}")), Ok(()));
            // Nobody knows how large pictures come.
            assert_eq!(cuts(&format!("{{ horizontal_flip = {{}} }}, {{ {crop} = {{}} }}")), Ok(()));
        }
    }

    #[test]
    fn nothing_comes_after_random_erasing() {
        let erases = pipeline("{ center_crop = {} }, { random_erasing = { probability = 1.0 } }", 32).unwrap();
        assert!(erases.is_random());
        let mut rng = sample_stream(0, 0, 0);
        let image = picture(40, 31);
        assert_eq!(erases.apply(image.clone(), &mut rng), apply("{ center_crop = {} }", 32, image, 0));
        let erasure = erases.erasure(&mut rng).unwrap();
        assert!(erasure.left + erasure.width <= 32 && erasure.top + erasure.height <= 32);
        let plain = pipeline("{ center_crop = {} }", 32).unwrap();
        assert_eq!(plain.erasure(&mut rng), None);
        for (after, name) in [("{ center_crop = {} }", "center_crop"), ("{ random_erasing = {} }", "random_erasing")] {
            assert_eq!(
                pipeline(&format!("{{ center_crop = {{}} }}, {{ random_erasing = {{}} }}, {after}"), 32).unwrap_err(),
                format!(
                    "`{name}` comes after `random_erasing`, which paints on the finished image: it must be the last transform, and come \
                     once"
                )
            );
        }
    }

    #[test]
    fn only_transforms_that_draw_are_random() {
        for (transforms, expected) in [
            ("{ resize_center_crop = {} }", false),
            ("{ resize_center_crop = {} }, { horizontal_flip = {} }", true),
            ("{ resize_center_crop = {} }, { horizontal_flip = { probability = 0.0 } }", false),
            (
                "{ resize_center_crop = {} }, { color_jitter = { brightness = 0.0, contrast = 0.0, saturation = 0.0 } }",
                false,
            ),
            ("{ random_resized_crop = {} }", true),
            ("{ resize_center_crop = {} }, { rand_augment = { probability = 0 } }", false),
        ] {
            assert_eq!(pipeline(transforms, 8).unwrap().is_random(), expected, "{transforms}");
        }
    }

    #[test]
    fn the_centre_is_torchvisions() {
        let image = picture(97, 61);
        // (97 - 32) / 2 = 32.5 and (61 - 32) / 2 = 14.5: both go to the even number.
        assert_eq!(apply("{ center_crop = {} }", 32, image.clone(), 0), image.window(32, 14, 32, 32));
        // 32 / 0.875 = 36.57: the shorter side is 36, the longer one 36 * 97 / 61 = 57.2.
        let resized = resize(&image, 57, 36, Interpolation::Bicubic);
        assert_eq!(apply("{ resize_center_crop = {} }", 32, image.clone(), 0), resized.window(12, 2, 32, 32));
        // A smaller picture gets a border: 2 above, 1 (3 / 2) to the left.
        let small = picture(5, 4);
        assert_eq!(apply("{ center_crop = {} }", 8, small.clone(), 0), small.window(-1, -2, 8, 8));
    }

    #[test]
    fn a_random_crop_keeps_to_its_area_and_shape() {
        let mut rng = stream("test", &[3]);
        let (mut smallest, mut largest) = (1.0f64, 0.0f64);
        for _ in 0..2000 {
            let (left, top, w, h) = draw_crop(400, 300, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            assert!(left + w <= 400 && top + h <= 300);
            let area = f64::from(w * h) / 120_000.0;
            let aspect = f64::from(w) / f64::from(h);
            // Sides are rounded to whole pixels.
            assert!((0.078..=1.0).contains(&area) && (0.73..=1.37).contains(&aspect), "{w} x {h}");
            smallest = smallest.min(area);
            largest = largest.max(area);
        }
        assert!(smallest < 0.1 && largest > 0.95, "{smallest} {largest}");
    }

    #[test]
    fn where_no_crop_fits_the_centre_is_taken() {
        let mut rng = stream("test", &[4]);
        assert_eq!(draw_crop(100, 10, [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng), (43, 0, 13, 10));
        assert_eq!(draw_crop(10, 100, [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng), (0, 43, 10, 13));
    }

    #[test]
    fn a_flip_happens_as_often_as_it_should() {
        let image = picture(4, 4);
        let flips = |probability: f64| {
            let train =
                format!("{{ center_crop = {{}} }}, {{ horizontal_flip = {{ probability = {probability:?} }} }}");
            (0..1000).filter(|&sample| apply(&train, 4, image.clone(), sample) != image).count()
        };
        assert_eq!((flips(0.0), flips(1.0)), (0, 1000));
        assert!((220..280).contains(&flips(0.25)), "{}", flips(0.25));
    }

    #[test]
    fn a_padded_crop_shows_every_shift() {
        let image = RgbImage::from_gray(1, 1, &[200]);
        let mut seen = std::collections::BTreeSet::new();
        for sample in 0..500 {
            let crop = apply("{ pad_random_crop = { padding = 1 } }", 2, image.clone(), sample);
            seen.insert(crop.pixels.iter().position(|&level| level == 200));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [Some(0), Some(3), Some(6), Some(9)]);
    }

    #[test]
    fn the_same_stream_gives_the_same_picture() {
        let train = "{ random_resized_crop = {} }, { horizontal_flip = {} }, { color_jitter = { hue = 0.1 } }";
        let once = apply(train, 24, picture(97, 61), 5);
        assert_eq!(once, apply(train, 24, picture(97, 61), 5));
        assert_ne!(once, apply(train, 24, picture(97, 61), 6));
    }
}

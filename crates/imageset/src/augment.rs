//! The automatic augmentations of a recipe: RandAugment, AutoAugment, TrivialAugment, AugMix and 3-Augment.
//!
//! They all choose among the same [operations](operation::Operation), which compute what Pillow computes, bit for bit. What
//! they choose, how often and how strongly is timm's (`timm.data.auto_augment`, version 1.0.31) or, for TrivialAugment,
//! torchvision's. Random choices come from the generator that a policy is given; each documents the order in which it draws.

mod affine;
mod aug_mix;
mod auto_augment;
mod blur;
mod interpolation;
mod kind;
mod levels;
mod operation;
mod rand_augment;
mod sharpness;
mod step;
mod three_augment;
mod trivial_augment;

pub use aug_mix::AugMix;
pub use auto_augment::{AutoAugment, AutoAugmentPolicy};
pub use interpolation::AugmentInterpolation;
pub use rand_augment::RandAugment;
pub use three_augment::ThreeAugment;
pub use trivial_augment::TrivialAugment;

/// ImageNet's mean colour as whole levels, `min(255, round(255 * mean))`: what timm fills empty corners with.
const IMAGENET_MEAN: [u8; 3] = [124, 116, 104];

//! How the images of a network are prepared, and the card of a model file that says so.

use anyhow::Context;
use ghostnet::Variant;
use imageset::{Interpolation, Pipeline, Transform};

use crate::batch::Normalization;
use crate::weights::ModelCard;

/// How images are prepared for a network, as far as it is known; the rest is as its authors have it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preparation {
    /// Height and width, pixels.
    pub image_size: Option<u32>,
    /// Filter of the resizing.
    pub interpolation: Option<Interpolation>,
    /// The side of the central square as a part of the resized picture's shorter side.
    pub crop_pct: Option<f64>,
    /// Applied to the square.
    pub normalization: Option<Normalization>,
}

impl Preparation {
    /// Fills in what is not said here from a description.
    pub(super) fn or(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            image_size: self.image_size.or(other.image_size),
            interpolation: self.interpolation.or(other.interpolation),
            crop_pct: self.crop_pct.or(other.crop_pct),
            normalization: self.normalization.or(other.normalization),
        }
    }

    /// The card of a network whose images are prepared in this way. The defaults are ImageNet's mean and standard deviation, and 224 of 256
    /// pixels. timm's weights expect bicubic resizing. PaddleClas leaves its
    /// `ResizeImage` at OpenCV's bilinear filter, which is not antialiased; Pillow's is the nearest one that is available here.
    pub(super) fn card(self, variant: Variant, width: f64, classes: Vec<String>) -> anyhow::Result<ModelCard> {
        let Self { image_size, interpolation, crop_pct, normalization } = self;
        let interpolation = interpolation.unwrap_or(match variant {
            Variant::Ghostnet | Variant::GhostnetV2 | Variant::GhostnetV3 => Interpolation::Bicubic,
            Variant::GhostnetPaddle => Interpolation::Bilinear,
        });
        let transforms =
            vec![Transform::ResizeCenterCrop { size: None, crop_pct: crop_pct.unwrap_or(0.875), interpolation }];
        let image_size = image_size.unwrap_or(224);
        Pipeline::new(&transforms, image_size).context("the preparation of the images")?;
        let imagenet = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
        Ok(ModelCard {
            card_version: ModelCard::VERSION,
            variant,
            width,
            dropout: 0.2,
            stem_stride: 2,
            independent_classes: classes.len() == 1,
            classes,
            image_size,
            transforms,
            normalization: normalization.unwrap_or(imagenet),
            val_fraction: 0.2,
            seed: 0,
            data_fingerprint: None,
            folded: false,
            step: 0,
            recipe_hash: String::new(),
        })
    }
}

//! The section `[model]`: which network is built.

use ghostnet::{GhostNetConfig, Variant};
use serde::{Deserialize, Serialize};

use super::violation::{Violation, require};

/// Which network is built. Every key has a default, and so has the section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Which of the published networks: `ghostnet`, `ghostnet_paddle`, `ghostnetv2` or `ghostnetv3`.
    pub variant: Variant,
    /// The width multiplier. Published: 0.5, 1.0 and 1.3; of GhostNetV2 1.0, 1.3 and 1.6; of GhostNetV3 all four.
    pub width: f64,
    /// The number of classes; taken from the data if absent.
    pub num_classes: Option<usize>,
    /// The probability with which a feature in front of the classifier is dropped in training. Stochastic depth is not offered: none
    /// of the published networks has it.
    pub dropout: f64,
    /// The stride of the first convolution: 2 as published, 1 for images of about 32 pixels.
    pub stem_stride: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self { variant: Variant::Ghostnet, width: 1.0, num_classes: None, dropout: 0.2, stem_stride: 2 }
    }
}

impl Model {
    /// The network for a number of classes.
    pub fn network(&self, num_classes: usize) -> GhostNetConfig {
        GhostNetConfig::new(num_classes)
            .with_width(self.width)
            .with_dropout(self.dropout)
            .with_stem_stride(self.stem_stride)
            .with_variant(self.variant)
    }

    /// Whether the network can see images of so many pixels, in the value of `key`.
    pub(super) fn check_image_size(&self, image_size: u32, key: &str) -> Result<(), Violation> {
        let least = self.network(1).least_image_side();
        require(image_size as usize >= least, key, || {
            format!(
                "`image_size` must be {least} pixels or more for `{}` with a stem stride of {}, but is {image_size}: its attention \
                 halves maps, and nothing would be left of the last ones",
                self.variant.key(),
                self.stem_stride
            )
        })
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        require(self.width.is_finite() && self.width > 0.0, "model.width", || {
            format!("`width` must be finite and above 0, but is {}", self.width)
        })?;
        require(self.num_classes != Some(0), "model.num_classes", || {
            "`num_classes` must be 1 or more; leave it out to take it from the data".to_owned()
        })?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", || {
            format!("`dropout` must be at least 0 and below 1, but is {}", self.dropout)
        })?;
        require(matches!(self.stem_stride, 1 | 2), "model.stem_stride", || {
            format!("`stem_stride` must be 1 or 2, but is {}", self.stem_stride)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_written_as_its_key() {
        for variant in Variant::ALL {
            assert_eq!(serde_json::to_value(variant).expect("JSON"), variant.key());
        }
    }
}

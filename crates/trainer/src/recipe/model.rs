//! The section `[model]`: which network is built.

use ghostnet::Lineage;
use serde::{Deserialize, Serialize};

use super::violation::{Violation, require};

/// Which network is built. Every key has a default, and so has the section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The family of the network.
    pub variant: Variant,
    /// The width multiplier: 0.5, 1.0 and 1.3 are the published ones.
    pub width: f64,
    /// The number of classes; taken from the data if absent.
    pub num_classes: Option<usize>,
    /// The probability with which a feature in front of the classifier is dropped in training. Stochastic depth is not offered: none
    /// of the published networks has it.
    pub dropout: f64,
    /// The stride of the first convolution: 2 as published, 1 for images of about 32 pixels.
    pub stem_stride: usize,
}

/// A family of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// GhostNet of 2020, arXiv:1911.11907, as in the official PyTorch code and timm.
    Ghostnet,
    /// The same as in PaddleClas, with another gate, other squeezed widths and another head.
    GhostnetPaddle,
}

impl Variant {
    /// The variant of a lineage.
    pub fn of(lineage: Lineage) -> Self {
        match lineage {
            Lineage::Official => Self::Ghostnet,
            Lineage::Paddle => Self::GhostnetPaddle,
        }
    }

    /// The lineage that it stands for.
    pub fn lineage(self) -> Lineage {
        match self {
            Self::Ghostnet => Lineage::Official,
            Self::GhostnetPaddle => Lineage::Paddle,
        }
    }

    /// Its value in a recipe.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ghostnet => "ghostnet",
            Self::GhostnetPaddle => "ghostnet_paddle",
        }
    }

    /// Its name for people; a width follows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ghostnet => "GhostNet",
            Self::GhostnetPaddle => "GhostNet of PaddleClas",
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self { variant: Variant::Ghostnet, width: 1.0, num_classes: None, dropout: 0.2, stem_stride: 2 }
    }
}

impl Model {
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
    fn a_variant_is_written_as_its_key_and_stands_for_one_lineage() {
        for variant in [Variant::Ghostnet, Variant::GhostnetPaddle] {
            assert_eq!(serde_json::to_value(variant).expect("JSON"), variant.key());
            assert_eq!(Variant::of(variant.lineage()), variant);
        }
    }
}

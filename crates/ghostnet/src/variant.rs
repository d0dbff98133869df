//! The networks that are published as GhostNet. They have the same table and widths, and differ in a few places.

use ghostnet_kernels::Gate;
use serde::{Deserialize, Serialize};

use crate::make_divisible;

/// Squeeze-and-excite keeps a quarter of the expanded channels.
const SQUEEZE_RATIO: f64 = 0.25;
/// Bottlenecks at the beginning of the table that have no attention in GhostNetV2 and GhostNetV3.
const BLOCKS_WITHOUT_ATTENTION: usize = 2;

/// Which of them. Weights of one are not weights of another, though most of their shapes agree.
///
/// A further one, d-li14/ghostnet.pytorch, has the gate and the head of [`GhostnetPaddle`](Self::GhostnetPaddle) and shortcuts with
/// 3×3 kernels and a ReLU; it is not built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variant {
    /// GhostNet of 2020, arXiv:1911.11907, as in the official PyTorch code, timm, torch.hub and mindcv: a hard sigmoid in
    /// squeeze-and-excite, squeezed widths rounded to multiples of 4, a head with bias and without norm.
    #[serde(rename = "ghostnet")]
    Ghostnet,
    /// The same as in PaddleClas, iamhankai/ghostnet.pytorch and, at width 1, the official TensorFlow code: a gate clipped to 0 … 1,
    /// squeezed widths cut to whole numbers, a head without bias and with batch norm. TensorFlow rounds the other widths in another
    /// way.
    #[serde(rename = "ghostnet_paddle")]
    GhostnetPaddle,
    /// GhostNetV2 of 2022, arXiv:2211.12905: [`Ghostnet`](Self::Ghostnet) with attention over rows and columns in all blocks but two.
    #[serde(rename = "ghostnetv2")]
    GhostnetV2,
    /// GhostNetV3 of 2024, arXiv:2404.11202: [`GhostnetV2`](Self::GhostnetV2) whose convolutions have parallel branches while it
    /// trains. Merged, it is a [`GhostnetV2`](Self::GhostnetV2).
    #[serde(rename = "ghostnetv3")]
    GhostnetV3,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ghostnet, Self::GhostnetPaddle, Self::GhostnetV2, Self::GhostnetV3];

    /// Its value in a recipe.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ghostnet => "ghostnet",
            Self::GhostnetPaddle => "ghostnet_paddle",
            Self::GhostnetV2 => "ghostnetv2",
            Self::GhostnetV3 => "ghostnetv3",
        }
    }

    /// Its name for people; a width follows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ghostnet => "GhostNet",
            Self::GhostnetPaddle => "GhostNet of PaddleClas",
            Self::GhostnetV2 => "GhostNetV2",
            Self::GhostnetV3 => "GhostNetV3",
        }
    }

    /// Channels of the squeezed vector for so many expanded channels.
    pub(crate) fn squeeze_channels(self, expanded: usize, divisor: usize) -> usize {
        match self {
            Self::GhostnetPaddle => expanded / 4,
            Self::Ghostnet | Self::GhostnetV2 | Self::GhostnetV3 => {
                make_divisible(expanded as f64 * SQUEEZE_RATIO, divisor)
            }
        }
    }

    /// The gate of squeeze-and-excite.
    pub fn gate(self) -> Gate {
        match self {
            Self::GhostnetPaddle => Gate::Clip,
            Self::Ghostnet | Self::GhostnetV2 | Self::GhostnetV3 => Gate::HardSigmoid,
        }
    }

    /// Whether the head has a batch norm, and then no bias.
    pub fn has_head_norm(self) -> bool {
        self == Self::GhostnetPaddle
    }

    /// Whether any block has attention.
    pub fn has_attention(self) -> bool {
        matches!(self, Self::GhostnetV2 | Self::GhostnetV3)
    }

    /// Whether the block with this number, counted from 0, has attention in its first Ghost module.
    pub(crate) fn has_attention_in(self, block: usize) -> bool {
        self.has_attention() && block >= BLOCKS_WITHOUT_ATTENTION
    }

    /// Whether convolutions have parallel branches, which [`GhostNet::merge_branches`](crate::GhostNet::merge_branches) merges.
    pub fn has_branches(self) -> bool {
        self == Self::GhostnetV3
    }

    /// What it is when its branches are merged.
    pub fn merged(self) -> Self {
        if self.has_branches() { Self::GhostnetV2 } else { self }
    }
}

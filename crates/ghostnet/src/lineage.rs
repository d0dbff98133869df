//! Two networks are published as GhostNet. They have the same table and widths, and differ in three places.

use burn::config::Config;
use ghostnet_kernels::Gate;

use crate::make_divisible;

/// Squeeze-and-excite keeps a quarter of the expanded channels.
const SQUEEZE_RATIO: f64 = 0.25;

/// Which of them. Weights of one are not weights of the other, though most of their shapes agree.
///
/// A third, d-li14/ghostnet.pytorch, has the gate and the head of [`Paddle`](Self::Paddle) and shortcuts with 3×3 kernels and a
/// ReLU; it is not built here.
#[derive(Config, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The official PyTorch code, timm, torch.hub, mindcv: a hard sigmoid in squeeze-and-excite, squeezed widths rounded to
    /// multiples of 4, a head with bias and without norm.
    Official,
    /// PaddleClas, iamhankai/ghostnet.pytorch and, at width 1, the official TensorFlow code: a gate clipped to 0 … 1, squeezed
    /// widths cut to whole numbers, a head without bias and with batch norm. TensorFlow rounds the other widths in another way.
    Paddle,
}

impl Lineage {
    /// Channels of the squeezed vector for so many expanded channels.
    pub(crate) fn squeeze_channels(self, expanded: usize, divisor: usize) -> usize {
        match self {
            Self::Official => make_divisible(expanded as f64 * SQUEEZE_RATIO, divisor),
            Self::Paddle => expanded / 4,
        }
    }

    /// The gate of squeeze-and-excite.
    pub fn gate(self) -> Gate {
        match self {
            Self::Official => Gate::HardSigmoid,
            Self::Paddle => Gate::Clip,
        }
    }

    /// Whether the head has a batch norm, and then no bias.
    pub fn has_head_norm(self) -> bool {
        self == Self::Paddle
    }
}

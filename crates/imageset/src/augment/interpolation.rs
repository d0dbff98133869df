//! The filter of timm's geometric operations: a fixed one, or one of two at random.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::random::below;
use crate::transform::Interpolation;

/// How a pixel of a rotated, sheared or shifted picture is computed from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentInterpolation {
    /// Bilinear or bicubic, drawn again for each operation: timm's default for training.
    #[default]
    Random,
    /// Pillow's `BILINEAR`: 2 x 2 pixels.
    Bilinear,
    /// Pillow's `BICUBIC`: 4 x 4 pixels.
    Bicubic,
    /// The nearest pixel.
    Nearest,
}

impl AugmentInterpolation {
    /// The filter for one operation. Draws: which, where it is random.
    pub(crate) fn draw(self, rng: &mut ChaCha8Rng) -> Interpolation {
        match self {
            Self::Random if below(rng, 2) == 0 => Interpolation::Bilinear,
            Self::Random | Self::Bicubic => Interpolation::Bicubic,
            Self::Bilinear => Interpolation::Bilinear,
            Self::Nearest => Interpolation::Nearest,
        }
    }
}

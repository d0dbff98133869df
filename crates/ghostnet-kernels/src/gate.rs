//! The gate of squeeze-and-excite: what makes a factor between 0 and 1 of its second layer's output.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::hard_sigmoid;

/// Which gate. The networks that were published under one name differ in it.
#[derive(Config, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `relu6(x + 3) / 6`: the official PyTorch code and timm.
    HardSigmoid,
    /// `min(max(x, 0), 1)`: the official TensorFlow code and PaddleClas.
    Clip,
}

impl Gate {
    /// In burn's operations.
    pub(crate) fn apply(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::HardSigmoid => hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Self::Clip => x.clamp(0.0, 1.0),
        }
    }

    /// The value of the gate at `x` and its derivative. NaN stays NaN. Where the gate begins to saturate, the derivative of the hard sigmoid
    /// is 0 and that of the clip is 1, as in PyTorch.
    #[doc(hidden)] // Public for `tests/it/gate.rs`.
    #[cfg(feature = "cpu")]
    #[inline]
    pub fn value_and_slope(self, x: f32) -> (f32, f32) {
        match self {
            Self::HardSigmoid => {
                let value = x / 6.0 + 0.5;
                if value <= 0.0 {
                    (0.0, 0.0)
                } else if value >= 1.0 {
                    (1.0, 0.0)
                } else {
                    (value, 1.0 / 6.0)
                }
            }
            Self::Clip => {
                if x < 0.0 {
                    (0.0, 0.0)
                } else if x > 1.0 {
                    (1.0, 0.0)
                } else {
                    (x, 1.0)
                }
            }
        }
    }
}

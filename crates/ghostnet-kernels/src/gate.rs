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

    /// Its value and its slope. NaN is clipped on neither side. At the ends the hard sigmoid has no slope and the clip has its own,
    /// as both have in PyTorch.
    #[cfg(feature = "cpu")]
    #[inline]
    pub(crate) fn value_and_slope(self, x: f32) -> (f32, f32) {
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn values_and_slopes_are_those_of_pytorch_at_the_ends_too() {
        // `torch.nn.functional.hardsigmoid` and `torch.clamp(x, 0, 1)`, with the gradient of their sum.
        let cases = [
            (Gate::HardSigmoid, [(-3.0, 0.0, 0.0), (0.0, 0.5, 1.0 / 6.0), (3.0, 1.0, 0.0), (-9.0, 0.0, 0.0)]),
            (Gate::Clip, [(0.0, 0.0, 1.0), (0.25, 0.25, 1.0), (1.0, 1.0, 1.0), (-0.5, 0.0, 0.0)]),
        ];
        for (gate, points) in cases {
            for (x, value, slope) in points {
                assert_eq!(gate.value_and_slope(x), (value, slope), "{gate:?} at {x}");
            }
            assert_eq!(gate.value_and_slope(50.0), (1.0, 0.0), "{gate:?}");
            assert!(gate.value_and_slope(f32::NAN).0.is_nan(), "{gate:?}");
        }
    }
}

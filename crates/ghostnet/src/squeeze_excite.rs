//! Squeeze-and-excite. Its gate is the hard sigmoid `relu6(x + 3) / 6`, or clipped in networks of PaddleClas.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{Gate, SqueezeExciteTensors};

/// Configuration of a [`SqueezeExcite`].
#[derive(Config, Debug)]
pub struct SqueezeExciteConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Channels of the squeezed vector.
    pub squeeze_channels: usize,
    /// What follows the second layer.
    #[config(default = "Gate::HardSigmoid")]
    pub gate: Gate,
}

/// Scales every channel by a gate computed from the mean of all channels.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// 1×1 with bias, channels → squeezed.
    pub conv_reduce: Conv2d,
    /// 1×1 with bias, squeezed → channels.
    pub conv_expand: Conv2d,
    /// What follows it.
    #[module(skip)]
    pub gate: Gate,
}

impl SqueezeExciteConfig {
    /// Weights and biases uniform in ± 1 / sqrt(fan_in), PyTorch's default.
    pub fn init(&self, device: &Device) -> SqueezeExcite {
        SqueezeExcite {
            conv_reduce: Conv2dConfig::new([self.channels, self.squeeze_channels], [1, 1]).with_bias(true).init(device),
            conv_expand: Conv2dConfig::new([self.squeeze_channels, self.channels], [1, 1]).with_bias(true).init(device),
            gate: self.gate,
        }
    }
}

impl SqueezeExcite {
    /// # Shapes
    /// - `x`: `[batch, channels, height, width]`
    /// - output: the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ghostnet_kernels::squeeze_excite(x, self.tensors())
    }

    pub(crate) fn tensors(&self) -> SqueezeExciteTensors {
        let bias = |conv: &Conv2d| match &conv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([conv.weight.dims()[0]], &conv.weight.device()),
        };
        SqueezeExciteTensors {
            reduce: self.conv_reduce.weight.val(),
            reduce_bias: bias(&self.conv_reduce),
            expand: self.conv_expand.weight.val(),
            expand_bias: bias(&self.conv_expand),
            gate: self.gate,
        }
    }
}

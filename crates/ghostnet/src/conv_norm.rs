//! A convolution without bias and the batch norm behind it: the pair that GhostNet is made of, and the unit that a fused
//! kernel replaces. Padding is symmetric, `kernel_size / 2`, everywhere in these networks.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::ConvNormTensors;

use crate::{BatchNorm, BatchNormConfig};

/// Configuration of a [`ConvNorm`].
#[derive(Config, Debug)]
pub struct ConvNormConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Height and width of the kernel; odd, for the padding to keep the size.
    pub kernel_size: [usize; 2],
    /// Stride in both directions.
    #[config(default = 1)]
    pub stride: usize,
    /// Groups; `groups == in_channels` is a depthwise convolution.
    #[config(default = 1)]
    pub groups: usize,
}

/// Convolution without bias, then batch norm.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution, weight `[out, in / groups, kernel height, kernel width]`.
    pub conv: Conv2d,
    /// The norm over `out` channels.
    pub norm: BatchNorm,
}

impl ConvNormConfig {
    /// A depthwise convolution that keeps its channels.
    pub fn depthwise(channels: usize, kernel_size: [usize; 2], stride: usize) -> Self {
        Self::new(channels, channels, kernel_size).with_stride(stride).with_groups(channels)
    }

    /// Weights uniform in ± 1 / sqrt(fan_in), PyTorch's default: neither the official code nor timm initialises anything.
    /// It is burn's default too.
    ///
    /// # Panics
    /// If the kernel has no centre.
    pub fn init(&self, device: &Device) -> ConvNorm {
        assert!(
            self.kernel_size.iter().all(|side| side % 2 == 1),
            "the kernel of a convolution with norm must be odd, got {:?}",
            self.kernel_size
        );
        let [vertical, horizontal] = self.kernel_size.map(|side| side / 2);
        ConvNorm {
            conv: Conv2dConfig::new([self.in_channels, self.out_channels], self.kernel_size)
                .with_stride([self.stride; 2])
                .with_padding(PaddingConfig2d::Explicit(vertical, horizontal, vertical, horizontal))
                .with_groups(self.groups)
                .with_bias(false)
                .init(device),
            norm: BatchNormConfig::new(self.out_channels).init(device),
        }
    }
}

impl ConvNorm {
    /// # Shapes
    /// - `x`: `[batch, in_channels, height, width]`
    /// - output: `[batch, out_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_activated(x, false)
    }

    /// [`forward`](Self::forward), then a ReLU.
    pub fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_activated(x, true)
    }

    /// [`forward`](Self::forward), then a ReLU or none.
    pub(crate) fn forward_activated(&self, x: Tensor<4>, relu: bool) -> Tensor<4> {
        let normed = ghostnet_kernels::conv_norm(x.clone(), self.tensors(), relu);
        self.norm.update(normed.statistics.into_iter().next().flatten());
        normed.output
    }

    /// What the kernels take.
    pub(crate) fn tensors(&self) -> ConvNormTensors {
        ConvNormTensors {
            weight: self.conv.weight.val(),
            norm: self.norm.tensors(),
            stride: self.conv.stride[0],
            groups: self.conv.groups,
        }
    }
}

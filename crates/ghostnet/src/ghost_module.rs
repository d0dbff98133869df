//! The Ghost module (section 3.1 of arXiv:1911.11907): a few intrinsic maps from an ordinary convolution, and the rest of the
//! output, the ghosts, from a cheap depthwise convolution over them.

use alloc::vec::Vec;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{GhostModuleTensors, ParallelGhostModuleTensors};

use crate::{BatchNorm, ConvNormConfig, Convolution, DfcAttention, DfcAttentionConfig};

/// Configuration of a [`GhostModule`].
#[derive(Config, Debug)]
pub struct GhostModuleConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Kernel of the primary convolution.
    #[config(default = 1)]
    pub kernel_size: usize,
    /// `s` of the paper: the primary convolution makes `ceil(out / s)` maps. At least 2; with 1 there would be no ghosts.
    #[config(default = 2)]
    pub ratio: usize,
    /// `d` of the paper: kernel of the cheap depthwise convolution.
    #[config(default = 3)]
    pub cheap_kernel_size: usize,
    /// Stride of the primary convolution.
    #[config(default = 1)]
    pub stride: usize,
    /// ReLU behind each half. The first module of a bottleneck has it, the second has none.
    #[config(default = true)]
    pub relu: bool,
    /// Attention over the output: the first module of most bottlenecks of GhostNetV2 and GhostNetV3.
    #[config(default = false)]
    pub attention: bool,
    /// Parallel branches in place of both convolutions: GhostNetV3 while it trains.
    #[config(default = false)]
    pub branches: bool,
}

/// Primary convolution, cheap operation on its output, both concatenated.
#[derive(Module, Debug)]
pub struct GhostModule {
    /// Makes the intrinsic maps.
    pub primary_conv: Convolution,
    /// Makes the ghosts: depthwise, on the primary's output after its activation.
    pub cheap_operation: Convolution,
    /// Multiplies the output.
    pub attention: Option<DfcAttention>,
    /// ReLU behind each half.
    pub relu: bool,
    /// Channels out; fewer than the two halves have together if the ratio does not divide them.
    pub out_channels: usize,
}

impl GhostModuleConfig {
    /// Maps made by the primary convolution.
    pub fn primary_channels(&self) -> usize {
        self.out_channels.div_ceil(self.ratio)
    }

    /// Maps made by the cheap operation, before the cut to `out_channels`.
    pub fn cheap_channels(&self) -> usize {
        self.primary_channels() * (self.ratio - 1)
    }

    pub(crate) fn primary_conv(&self) -> ConvNormConfig {
        ConvNormConfig::new(self.in_channels, self.primary_channels(), [self.kernel_size; 2]).with_stride(self.stride)
    }

    pub(crate) fn cheap_operation(&self) -> ConvNormConfig {
        let primary = self.primary_channels();
        ConvNormConfig::new(primary, self.cheap_channels(), [self.cheap_kernel_size; 2]).with_groups(primary)
    }

    /// # Panics
    /// If the ratio is below 2, or a kernel has no centre.
    pub fn init(&self, device: &Device) -> GhostModule {
        assert!(self.ratio >= 2, "the ratio of a Ghost module must be at least 2, got {}", self.ratio);
        assert!(self.cheap_kernel_size % 2 == 1, "the cheap kernel must be odd, got {}", self.cheap_kernel_size);
        GhostModule {
            primary_conv: Convolution::new(&self.primary_conv(), self.branches, device),
            cheap_operation: Convolution::new(&self.cheap_operation(), self.branches, device),
            attention: self
                .attention
                .then(|| DfcAttentionConfig::new(self.in_channels, self.out_channels).init(device)),
            relu: self.relu,
            out_channels: self.out_channels,
        }
    }
}

impl GhostModule {
    /// # Shapes
    /// - `x`: `[batch, in_channels, height, width]`
    /// - output: `[batch, out_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let normed = match (self.tensors(), self.parallel_tensors()) {
            (Some(tensors), _) => ghostnet_kernels::ghost_module(x.clone(), tensors),
            (None, Some(tensors)) => ghostnet_kernels::parallel_ghost_module(x.clone(), tensors),
            (None, None) => unreachable!("both convolutions have branches, or neither has"),
        };
        for (norm, statistics) in self.norms().into_iter().zip(normed.statistics) {
            norm.update(statistics);
        }
        let maps = normed.output;
        match &self.attention {
            Some(attention) => attention.forward(maps, x),
            None => maps,
        }
    }

    /// What the kernels take of its convolutions; `None` if they have branches.
    pub(crate) fn tensors(&self) -> Option<GhostModuleTensors> {
        Some(GhostModuleTensors {
            primary: self.primary_conv.single()?.tensors(),
            cheap: self.cheap_operation.single()?.tensors(),
            relu: self.relu,
            out_channels: self.out_channels,
        })
    }

    /// The same of its branches; `None` if there are none.
    fn parallel_tensors(&self) -> Option<ParallelGhostModuleTensors> {
        Some(ParallelGhostModuleTensors {
            primary: self.primary_conv.parallel()?.tensors(),
            cheap: self.cheap_operation.parallel()?.tensors(),
            relu: self.relu,
            out_channels: self.out_channels,
        })
    }

    pub(crate) fn merge_branches(&mut self) {
        self.primary_conv.merge();
        self.cheap_operation.merge();
    }

    /// Its norms, those of the convolutions first and in the kernels' order.
    pub(crate) fn norms(&self) -> Vec<&BatchNorm> {
        let attention = self.attention.iter().flat_map(DfcAttention::norms);
        [&self.primary_conv, &self.cheap_operation].into_iter().flat_map(Convolution::norms).chain(attention).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_ratio_and_cheap_kernel_gives_the_channels_asked_for() {
        let device = Device::flex();
        for ratio in 2..=5 {
            for cheap_kernel_size in [1, 3, 5, 7] {
                for out_channels in [5, 8, 12, 13] {
                    let config = GhostModuleConfig::new(6, out_channels)
                        .with_ratio(ratio)
                        .with_cheap_kernel_size(cheap_kernel_size)
                        .with_stride(2);
                    let maps = config.init(&device).forward(Tensor::ones([2, 6, 9, 7], &device));
                    assert_eq!(maps.dims(), [2, out_channels, 5, 4], "ratio {ratio}, d {cheap_kernel_size}");
                }
            }
        }
    }
}

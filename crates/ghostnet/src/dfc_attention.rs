//! Attention of GhostNetV2 (section 3.2 of arXiv:2211.12905): "decoupled fully connected", a long-range gate for every pixel from one
//! pass along its row and one along its column, both computed at half the size.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{AttentionTensors, attend, halve};

use crate::{BatchNorm, ConvNorm, ConvNormConfig};

/// Pixels that a pass reaches along a row or a column.
const REACH: usize = 5;
/// Factor by which the map is smaller than the input.
pub(crate) const SHRINK: usize = 2;

/// Configuration of a [`DfcAttention`].
#[derive(Config, Debug)]
pub struct DfcAttentionConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
}

/// Average of 2×2 pixels, 1×1 convolution, a depthwise pass along the rows, one along the columns, sigmoid, each value repeated to
/// the size wanted. No activation stands between the convolutions.
#[derive(Module, Debug)]
pub struct DfcAttention {
    /// 1×1.
    pub pointwise: ConvNorm,
    /// Depthwise, kernel 1×5.
    pub horizontal: ConvNorm,
    /// Depthwise, kernel 5×1.
    pub vertical: ConvNorm,
}

impl DfcAttentionConfig {
    /// Its convolutions in order.
    pub(crate) fn convs(&self) -> [ConvNormConfig; 3] {
        let channels = self.out_channels;
        [
            ConvNormConfig::new(self.in_channels, channels, [1, 1]),
            ConvNormConfig::depthwise(channels, [1, REACH], 1),
            ConvNormConfig::depthwise(channels, [REACH, 1], 1),
        ]
    }

    /// Weights as of [`ConvNormConfig::init`].
    pub fn init(&self, device: &Device) -> DfcAttention {
        let [pointwise, horizontal, vertical] = self.convs().map(|conv| conv.init(device));
        DfcAttention { pointwise, horizontal, vertical }
    }
}

impl DfcAttention {
    /// Multiplies `maps`, which were made of `x`, by the gate of `x`.
    ///
    /// # Shapes
    /// - `maps`: `[batch, out_channels, map height, map width]`
    /// - `x`: `[batch, in_channels, height, width]`, both sides at least 2
    /// - output: that of `maps`
    ///
    /// # Panics
    /// If a side of `x` is 1: nothing is left of it at half the size.
    pub fn forward(&self, maps: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let map = self.convs().into_iter().fold(halve(x), |map, conv| conv.forward(map));
        attend(maps, map)
    }

    /// What the kernels take.
    pub(crate) fn tensors(&self) -> AttentionTensors {
        let [pointwise, horizontal, vertical] = self.convs().map(|conv| conv.tensors());
        AttentionTensors { pointwise, horizontal, vertical }
    }

    pub(crate) fn norms(&self) -> [&BatchNorm; 3] {
        self.convs().map(|conv| &conv.norm)
    }

    fn convs(&self) -> [&ConvNorm; 3] {
        [&self.pointwise, &self.horizontal, &self.vertical]
    }
}

//! The Ghost bottleneck (figure 3 of arXiv:1911.11907): a Ghost module expands, another one projects, with a strided depthwise
//! convolution and squeeze-and-excite between them where the table says so. Nothing is activated after the addition.

use alloc::vec::Vec;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{Gate, GhostBottleneckTensors, add};

use crate::{
    BatchNorm, BlockSpec, ConvNorm, ConvNormConfig, Convolution, GhostModule, GhostModuleConfig, SqueezeExcite,
    SqueezeExciteConfig,
};

/// Configuration of a [`GhostBottleneck`]; the architecture's rows make it with [`GhostBottleneckConfig::from_spec`].
#[derive(Config, Debug)]
pub struct GhostBottleneckConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels between the two Ghost modules.
    pub expanded_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Kernel of the strided and of the shortcut's depthwise convolution.
    #[config(default = 3)]
    pub kernel_size: usize,
    /// Stride.
    #[config(default = 1)]
    pub stride: usize,
    /// Squeezed channels, if there is squeeze-and-excite.
    pub squeeze_channels: Option<usize>,
    /// Gate of squeeze-and-excite.
    #[config(default = "Gate::HardSigmoid")]
    pub gate: Gate,
    /// Ratio `s` of both Ghost modules.
    #[config(default = 2)]
    pub ratio: usize,
    /// Kernel `d` of the cheap operations.
    #[config(default = 3)]
    pub cheap_kernel_size: usize,
    /// Attention in the first Ghost module: GhostNetV2 and GhostNetV3.
    #[config(default = false)]
    pub attention: bool,
    /// Parallel branches in the Ghost modules and the strided convolution: GhostNetV3 while it trains.
    #[config(default = false)]
    pub branches: bool,
}

/// Convolutional shortcut: depthwise with the block's kernel and stride, then 1×1, with no activation anywhere.
#[derive(Module, Debug)]
pub struct Shortcut {
    /// Depthwise, strided.
    pub depthwise: ConvNorm,
    /// 1×1 to the block's output channels.
    pub pointwise: ConvNorm,
}

/// Expand, stride, squeeze, project, add.
#[derive(Module, Debug)]
pub struct GhostBottleneck {
    /// Expands, with ReLU.
    pub ghost1: GhostModule,
    /// Strided depthwise convolution, without activation, if the stride is above 1.
    pub depthwise: Option<Convolution>,
    /// Squeeze-and-excite.
    pub se: Option<SqueezeExcite>,
    /// Projects, without activation in either half.
    pub ghost2: GhostModule,
    /// `None` is the identity.
    pub shortcut: Option<Shortcut>,
}

impl GhostBottleneckConfig {
    /// The configuration of a row of the architecture.
    pub fn from_spec(spec: &BlockSpec) -> Self {
        Self::new(spec.in_channels, spec.expanded_channels, spec.out_channels)
            .with_kernel_size(spec.kernel_size)
            .with_stride(spec.stride)
            .with_squeeze_channels(spec.squeeze_channels)
            .with_attention(spec.attention)
            .with_branches(spec.branches)
    }

    /// Builds the block.
    pub fn init(&self, device: &Device) -> GhostBottleneck {
        let ghost = |in_channels, out_channels| {
            GhostModuleConfig::new(in_channels, out_channels)
                .with_ratio(self.ratio)
                .with_cheap_kernel_size(self.cheap_kernel_size)
                .with_branches(self.branches)
        };
        let depthwise = |channels| ConvNormConfig::depthwise(channels, [self.kernel_size; 2], self.stride);
        let identity = self.in_channels == self.out_channels && self.stride == 1;
        GhostBottleneck {
            ghost1: ghost(self.in_channels, self.expanded_channels).with_attention(self.attention).init(device),
            depthwise: (self.stride > 1)
                .then(|| Convolution::new(&depthwise(self.expanded_channels), self.branches, device)),
            se: self.squeeze_channels.map(|squeeze| {
                SqueezeExciteConfig::new(self.expanded_channels, squeeze).with_gate(self.gate).init(device)
            }),
            ghost2: ghost(self.expanded_channels, self.out_channels).with_relu(false).init(device),
            shortcut: (!identity).then(|| Shortcut {
                depthwise: depthwise(self.in_channels).init(device),
                pointwise: ConvNormConfig::new(self.in_channels, self.out_channels, [1, 1]).init(device),
            }),
        }
    }
}

impl GhostBottleneck {
    /// # Shapes
    /// - `x`: `[batch, in_channels, height, width]`
    /// - output: `[batch, out_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.tensors().filter(|tensors| tensors.attention.is_none()) {
            Some(tensors) => {
                let normed = ghostnet_kernels::ghost_bottleneck(x, tensors);
                for (norm, statistics) in self.norms().into_iter().zip(normed.statistics) {
                    norm.update(statistics);
                }
                normed.output
            }
            None => self.forward_by_parts(x),
        }
    }

    /// With attention or branches.
    fn forward_by_parts(&self, x: Tensor<4>) -> Tensor<4> {
        let mut map = self.ghost1.forward(x.clone()); // [batch, expanded, height, width]
        if let Some(depthwise) = &self.depthwise {
            map = depthwise.forward(map, false); // [batch, expanded, height / stride, width / stride]
        }
        if let Some(se) = &self.se {
            map = se.forward(map);
        }
        let map = self.ghost2.forward(map); // [batch, out, height / stride, width / stride]
        let shortcut = self.shortcut.iter().flat_map(Shortcut::convs).fold(x, |map, conv| conv.forward(map));
        add(map, shortcut)
    }

    /// What the kernels take; `None` if there are branches.
    pub(crate) fn tensors(&self) -> Option<GhostBottleneckTensors> {
        let shortcut = self.shortcut.as_ref();
        let depthwise = match &self.depthwise {
            Some(depthwise) => Some(depthwise.single()?.tensors()),
            None => None,
        };
        Some(GhostBottleneckTensors {
            expand: self.ghost1.tensors()?,
            attention: self.ghost1.attention.as_ref().map(|attention| attention.tensors()),
            depthwise,
            squeeze_excite: self.se.as_ref().map(SqueezeExcite::tensors),
            project: self.ghost2.tensors()?,
            shortcut: shortcut.map(|shortcut| shortcut.convs().map(|conv| conv.tensors())),
        })
    }

    pub(crate) fn merge_branches(&mut self) {
        self.ghost1.merge_branches();
        self.ghost2.merge_branches();
        if let Some(depthwise) = &mut self.depthwise {
            depthwise.merge();
        }
    }

    /// Its norms, in the kernels' order if there are neither branches nor attention.
    pub(crate) fn norms(&self) -> Vec<&BatchNorm> {
        let shortcut = self.shortcut.iter().flat_map(Shortcut::convs).map(|conv| &conv.norm);
        let depthwise = self.depthwise.iter().flat_map(Convolution::norms);
        self.ghost1.norms().into_iter().chain(depthwise).chain(self.ghost2.norms()).chain(shortcut).collect()
    }
}

impl Shortcut {
    pub(crate) fn convs(&self) -> [&ConvNorm; 2] {
        [&self.depthwise, &self.pointwise]
    }
}

//! The Ghost bottleneck (figure 3 of arXiv:1911.11907): a Ghost module expands, another one projects, with a strided depthwise
//! convolution and squeeze-and-excite between them where the table says so. Nothing is activated after the addition.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{Gate, GhostBottleneckTensors};

use crate::{BlockSpec, ConvNorm, ConvNormConfig, GhostModule, GhostModuleConfig, SqueezeExcite, SqueezeExciteConfig};

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
    pub depthwise: Option<ConvNorm>,
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
    }

    /// Builds the block.
    pub fn init(&self, device: &Device) -> GhostBottleneck {
        let ghost = |in_channels, out_channels| {
            GhostModuleConfig::new(in_channels, out_channels)
                .with_ratio(self.ratio)
                .with_cheap_kernel_size(self.cheap_kernel_size)
        };
        let identity = self.in_channels == self.out_channels && self.stride == 1;
        GhostBottleneck {
            ghost1: ghost(self.in_channels, self.expanded_channels).init(device),
            depthwise: (self.stride > 1)
                .then(|| ConvNormConfig::depthwise(self.expanded_channels, self.kernel_size, self.stride).init(device)),
            se: self.squeeze_channels.map(|squeeze| {
                SqueezeExciteConfig::new(self.expanded_channels, squeeze).with_gate(self.gate).init(device)
            }),
            ghost2: ghost(self.expanded_channels, self.out_channels).with_relu(false).init(device),
            shortcut: (!identity).then(|| Shortcut {
                depthwise: ConvNormConfig::depthwise(self.in_channels, self.kernel_size, self.stride).init(device),
                pointwise: ConvNormConfig::new(self.in_channels, self.out_channels, 1).init(device),
            }),
        }
    }
}

impl GhostBottleneck {
    /// # Shapes
    /// - `x`: `[batch, in_channels, height, width]`
    /// - output: `[batch, out_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let tensors = self.tensors(x.device().is_autodiff());
        let normed = ghostnet_kernels::ghost_bottleneck(x, tensors);
        let shortcut = self.shortcut.iter().flat_map(|shortcut| shortcut.convs().map(|conv| &conv.norm));
        let norms = self.ghost1.norms().into_iter().chain(self.depthwise.as_ref().map(|conv| &conv.norm));
        for (norm, statistics) in norms.chain(self.ghost2.norms()).chain(shortcut).zip(normed.statistics) {
            norm.update(statistics);
        }
        normed.output
    }

    /// What the kernels take, for an input with autodiff or without.
    pub(crate) fn tensors(&self, autodiff: bool) -> GhostBottleneckTensors {
        let shortcut = self.shortcut.as_ref();
        GhostBottleneckTensors {
            expand: self.ghost1.tensors(autodiff),
            depthwise: self.depthwise.as_ref().map(|conv| conv.tensors(autodiff)),
            squeeze_excite: self.se.as_ref().map(SqueezeExcite::tensors),
            project: self.ghost2.tensors(autodiff),
            shortcut: shortcut.map(|shortcut| shortcut.convs().map(|conv| conv.tensors(autodiff))),
        }
    }
}

impl Shortcut {
    fn convs(&self) -> [&ConvNorm; 2] {
        [&self.depthwise, &self.pointwise]
    }
}

//! Parameters and multiply-adds, counted over the architecture.
//!
//! The papers' convention: multiply-adds of convolutions and linear layers; biases, norms, activations, pooling and the gate's
//! products are not counted. burn's own `num_params` also counts running statistics, so it is of no use here.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::dfc_attention::SHRINK;
use crate::parallel_conv::{BRANCHES, Beside};
use crate::{Architecture, BlockSpec, ConvNormConfig, DfcAttentionConfig, GhostModuleConfig, GhostNetConfig};

/// What a counted layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Convolution over all channels, kernel above 1×1.
    Convolution,
    /// 1×1 convolution.
    Pointwise,
    /// Convolution with as many groups as input channels.
    Depthwise,
    /// Linear layer.
    Linear,
    /// Batch norm without a convolution of its own.
    Norm,
}

impl LayerKind {
    /// The kind in one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Pointwise => "pointwise",
            Self::Depthwise => "depthwise",
            Self::Linear => "linear",
            Self::Norm => "norm",
        }
    }
}

/// One convolution or linear layer with the norm behind it, or a norm alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCount {
    /// Name of the layer's tensors without `.weight`, as in timm.
    pub name: String,
    /// What it is.
    pub kind: LayerKind,
    /// Channels in.
    pub in_channels: usize,
    /// Shape of the output for one image, `[channels, height, width]`.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Trainable parameters, those of a norm behind the layer included.
    pub parameters: usize,
    /// Tensors in a state: the weight, and the bias or the five of a norm.
    pub tensors: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
}

impl LayerCount {
    /// Whether a norm is behind the layer, or is the layer.
    pub fn has_norm(&self) -> bool {
        self.tensors >= Extra::Norm.tensors()
    }
}

/// Collects layers while it follows the map's size through the network.
struct Counter {
    layers: Vec<LayerCount>,
    size: [usize; 2],
}

/// What a convolution adds to its weights.
#[derive(Clone, Copy)]
enum Extra {
    /// Batch norm: scale and shift.
    Norm,
    /// Bias.
    Bias,
}

impl Extra {
    fn parameters(self, channels: usize) -> usize {
        match self {
            Self::Norm => 2 * channels,
            Self::Bias => channels,
        }
    }

    /// A norm has scale, shift, running mean, running variance and PyTorch's count of batches.
    fn tensors(self) -> usize {
        match self {
            Self::Norm => 5,
            Self::Bias => 1,
        }
    }
}

/// A convolution to be counted.
struct Convolution {
    channels: [usize; 2],
    kernel_size: [usize; 2],
    stride: usize,
    groups: usize,
    extra: Extra,
}

impl Convolution {
    fn pointwise(in_channels: usize, out_channels: usize, extra: Extra) -> Self {
        Self { channels: [in_channels, out_channels], kernel_size: [1, 1], stride: 1, groups: 1, extra }
    }
}

impl From<ConvNormConfig> for Convolution {
    fn from(conv: ConvNormConfig) -> Self {
        let ConvNormConfig { in_channels, out_channels, kernel_size, stride, groups } = conv;
        Self { channels: [in_channels, out_channels], kernel_size, stride, groups, extra: Extra::Norm }
    }
}

impl Counter {
    fn convolution(&mut self, name: String, convolution: &Convolution) {
        let Convolution { channels: [in_channels, out_channels], kernel_size, stride, groups, extra } = *convolution;
        self.size = self.size.map(|side| side.div_ceil(stride));
        let weights = out_channels * (in_channels / groups) * kernel_size[0] * kernel_size[1];
        let kind = match (groups, kernel_size) {
            (1, [1, 1]) => LayerKind::Pointwise,
            (1, _) => LayerKind::Convolution,
            _ => LayerKind::Depthwise,
        };
        self.layers.push(LayerCount {
            name,
            kind,
            in_channels,
            output: [out_channels, self.size[0], self.size[1]],
            kernel_size,
            parameters: weights + extra.parameters(out_channels),
            tensors: 1 + extra.tensors(),
            multiply_adds: weights * self.size[0] * self.size[1],
        });
    }

    /// Layers that take the same input: the size is that of the input again, until the last one.
    fn beside(&mut self, layers: impl IntoIterator<Item = (String, Convolution)>) {
        let size = self.size;
        for (name, layer) in layers {
            self.size = size;
            self.convolution(name, &layer);
        }
    }

    /// A convolution with its norm, or branches of its shape, whose names begin with `branches`.
    fn branched(&mut self, single: String, branches: Option<String>, conv: ConvNormConfig) {
        let Some(name) = branches else {
            return self.convolution(single, &conv.into());
        };
        let Beside { scale, skip } = Beside::of(&conv);
        if skip {
            self.norm(format!("{name}_skip"), conv.in_channels);
        }
        let convs = (0..BRANCHES).map(|branch| (format!("{name}_conv.{branch}.conv"), conv.clone().into()));
        let scale = scale.map(|conv| (format!("{name}_scale.conv"), conv.into()));
        self.beside(convs.chain(scale));
    }

    /// A norm alone.
    fn norm(&mut self, name: String, channels: usize) {
        self.layers.push(LayerCount {
            name,
            kind: LayerKind::Norm,
            in_channels: channels,
            output: [channels, self.size[0], self.size[1]],
            kernel_size: [1, 1],
            parameters: Extra::Norm.parameters(channels),
            tensors: Extra::Norm.tensors(),
            multiply_adds: 0,
        });
    }

    fn ghost_module(&mut self, name: &str, config: &GhostModuleConfig) {
        let size = self.size;
        let branches = |part: &str| config.branches.then(|| format!("{name}.{part}_rpr"));
        self.branched(format!("{name}.primary_conv.0"), branches("primary"), config.primary_conv());
        self.branched(format!("{name}.cheap_operation.0"), branches("cheap"), config.cheap_operation());
        if config.attention {
            let out_size = core::mem::replace(&mut self.size, size.map(|side| side / SHRINK));
            for (conv, config) in
                DfcAttentionConfig::new(config.in_channels, config.out_channels).convs().into_iter().enumerate()
            {
                self.convolution(format!("{name}.short_conv.{}", 2 * conv), &config.into());
            }
            self.size = out_size;
        }
    }

    fn bottleneck(&mut self, block: &BlockSpec, config: &GhostNetConfig) {
        let name = format!("blocks.{}.{}", block.stage, block.index);
        let ghost = |in_channels, out_channels| {
            GhostModuleConfig::new(in_channels, out_channels)
                .with_ratio(config.ratio)
                .with_cheap_kernel_size(config.cheap_kernel_size)
                .with_branches(block.branches)
        };
        let depthwise = |channels| ConvNormConfig::depthwise(channels, [block.kernel_size; 2], block.stride);
        let input_size = self.size;
        let expanded = block.expanded_channels;
        let expand = ghost(block.in_channels, expanded).with_attention(block.attention);
        self.ghost_module(&format!("{name}.ghost1"), &expand);
        if block.stride > 1 {
            let branches = block.branches.then(|| format!("{name}.dw_rpr"));
            self.branched(format!("{name}.conv_dw"), branches, depthwise(expanded));
        }
        if let Some(squeeze) = block.squeeze_channels {
            let size = core::mem::replace(&mut self.size, [1, 1]);
            let reduce = Convolution::pointwise(expanded, squeeze, Extra::Bias);
            self.convolution(format!("{name}.se.conv_reduce"), &reduce);
            let expand = Convolution::pointwise(squeeze, expanded, Extra::Bias);
            self.convolution(format!("{name}.se.conv_expand"), &expand);
            self.size = size;
        }
        self.ghost_module(&format!("{name}.ghost2"), &ghost(expanded, block.out_channels));
        if !block.has_identity_shortcut() {
            self.size = input_size;
            self.convolution(format!("{name}.shortcut.0"), &depthwise(block.in_channels).into());
            let pointwise = Convolution::pointwise(block.in_channels, block.out_channels, Extra::Norm);
            self.convolution(format!("{name}.shortcut.2"), &pointwise);
        }
    }
}

impl GhostNetConfig {
    /// Every layer that has weights, in the order of the tensors, for images of `height`×`width` pixels.
    pub fn layers(&self, height: usize, width: usize) -> Vec<LayerCount> {
        let architecture = Architecture::new(self);
        let mut counter = Counter { layers: Vec::new(), size: [height, width] };
        counter.convolution(
            "conv_stem".to_string(),
            &Convolution {
                channels: [self.in_channels, architecture.stem_channels],
                kernel_size: [3, 3],
                stride: self.stem_stride,
                groups: 1,
                extra: Extra::Norm,
            },
        );
        for block in &architecture.blocks {
            counter.bottleneck(block, self);
        }
        counter.convolution(
            format!("blocks.{}.0.conv", architecture.num_stages()),
            &Convolution::pointwise(architecture.trunk_channels(), architecture.last_channels, Extra::Norm),
        );
        counter.size = [1, 1];
        counter.convolution(
            "conv_head".to_string(),
            &Convolution::pointwise(
                architecture.last_channels,
                architecture.head_channels,
                if self.variant.has_head_norm() { Extra::Norm } else { Extra::Bias },
            ),
        );
        let weights = architecture.head_channels * self.num_classes;
        counter.layers.push(LayerCount {
            name: "classifier".to_string(),
            kind: LayerKind::Linear,
            in_channels: architecture.head_channels,
            output: [self.num_classes, 1, 1],
            kernel_size: [1, 1],
            parameters: weights + Extra::Bias.parameters(self.num_classes),
            tensors: 1 + Extra::Bias.tensors(),
            multiply_adds: weights,
        });
        counter.layers
    }

    /// Trainable parameters. Running statistics are not among them.
    pub fn parameters(&self) -> usize {
        self.layers(32, 32).iter().map(|layer| layer.parameters).sum()
    }

    /// Multiply-adds for one image of `height`×`width` pixels.
    pub fn multiply_adds(&self, height: usize, width: usize) -> usize {
        self.layers(height, width).iter().map(|layer| layer.multiply_adds).sum()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use burn::module::{Module, ModuleVisitor, Param, ParamId};
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{GhostNet, Variant, parameter_names};

    /// Width, parameters, multiply-adds. Counted by PyTorch over timm's modules, 1000 classes, 224×224; the papers print 42, 141 and
    /// 226 M multiply-adds for GhostNet, 167, 269 and 399 M for GhostNetV2. GhostNetV3 is as it trains. PaddleClas's are over
    /// `tests/fixtures/gen/lineages.py`.
    const PUBLISHED: [(Variant, f64, usize, usize); 13] = [
        (Variant::Ghostnet, 0.5, 2_587_292, 42_328_152),
        (Variant::Ghostnet, 1.0, 5_182_508, 141_150_512),
        (Variant::Ghostnet, 1.3, 7_358_820, 227_003_256),
        (Variant::GhostnetPaddle, 0.5, 2_588_232, 42_327_816),
        (Variant::GhostnetPaddle, 1.0, 5_183_016, 141_149_744),
        (Variant::GhostnetPaddle, 1.3, 7_352_622, 226_995_784),
        (Variant::GhostnetV2, 1.0, 6_156_908, 167_048_288),
        (Variant::GhostnetV2, 1.3, 8_960_404, 269_322_976),
        (Variant::GhostnetV2, 1.6, 12_392_698, 398_607_224),
        (Variant::GhostnetV3, 0.5, 3_395_384, 117_528_000),
        (Variant::GhostnetV3, 1.0, 8_129_028, 404_128_320),
        (Variant::GhostnetV3, 1.3, 12_217_720, 654_842_824),
        (Variant::GhostnetV3, 1.6, 17_275_700, 971_574_612),
    ];

    #[test]
    fn parameters_and_multiply_adds_are_the_published_ones() {
        for (variant, width, parameters, multiply_adds) in PUBLISHED {
            let config = GhostNetConfig::new(1000).with_variant(variant).with_width(width);
            assert_eq!(config.parameters(), parameters, "{variant:?}, width {width}");
            assert_eq!(config.multiply_adds(224, 224), multiply_adds, "{variant:?}, width {width}");
        }
    }

    #[test]
    fn convolutions_and_linear_layers_norms_and_tensors_are_as_many_as_in_timm() {
        for (variant, layers, norms, tensors) in [
            (Variant::Ghostnet, 96, 80, 512),
            (Variant::GhostnetPaddle, 96, 81, 516),
            (Variant::GhostnetV2, 138, 122, 764),
            (Variant::GhostnetV3, 310, 326, 1956),
        ] {
            let counted = GhostNetConfig::new(1000).with_variant(variant).layers(224, 224);
            let alone = counted.iter().filter(|layer| layer.kind == LayerKind::Norm).count();
            assert_eq!(counted.len() - alone, layers, "{variant:?}");
            assert_eq!(alone + counted.iter().filter(|layer| layer.tensors == 6).count(), norms, "{variant:?}");
            assert_eq!(counted.iter().map(|layer| layer.tensors).sum::<usize>(), tensors, "{variant:?}");
        }
    }

    /// How many values the parameters have. Does not read them, because burn would first draw random values for them.
    fn num_values(network: &GhostNet) -> usize {
        struct Count(BTreeSet<ParamId>, usize);
        impl ModuleVisitor for Count {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                if self.0.remove(&parameter.id) {
                    self.1 += parameter.lazy_shape().num_elements();
                }
            }
        }
        let mut count = Count(parameter_names(network).into_iter().map(|(id, _)| id).collect(), 0);
        network.visit(&mut count);
        assert!(count.0.is_empty(), "all parameters were visited");
        count.1
    }

    #[test]
    fn the_counter_counts_what_the_modules_hold() {
        for width in [0.25, 0.5, 1.0, 1.3, 1.6] {
            for (ratio, cheap_kernel_size, stem_stride) in [(2, 3, 2), (3, 1, 1), (4, 5, 2)] {
                for variant in Variant::ALL {
                    let config = GhostNetConfig::new(7)
                        .with_variant(variant)
                        .with_width(width)
                        .with_ratio(ratio)
                        .with_cheap_kernel_size(cheap_kernel_size)
                        .with_stem_stride(stem_stride)
                        .with_in_channels(2);
                    let held = num_values(&config.build(&Device::flex()));
                    assert_eq!(config.parameters(), held, "{variant:?}, width {width}, ratio {ratio}");
                }
            }
        }
    }
}

//! Parameters and multiply-adds, counted over the architecture.
//!
//! The papers' convention: multiply-adds of convolutions and linear layers; biases, norms, activations, pooling and the gate's
//! products are not counted. burn's own `num_params` also counts running statistics, so it is of no use here.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::{Architecture, BlockSpec, GhostModuleConfig, GhostNetConfig};

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
}

impl LayerKind {
    /// The kind in one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Pointwise => "pointwise",
            Self::Depthwise => "depthwise",
            Self::Linear => "linear",
        }
    }
}

/// One convolution or linear layer with the norm behind it.
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
    pub kernel_size: usize,
    /// Trainable parameters, those of a norm behind the layer included.
    pub parameters: usize,
    /// Tensors in a state: the weight, and the bias or the five of a norm.
    pub tensors: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
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
    kernel_size: usize,
    stride: usize,
    groups: usize,
    extra: Extra,
}

impl Convolution {
    fn pointwise(in_channels: usize, out_channels: usize, extra: Extra) -> Self {
        Self { channels: [in_channels, out_channels], kernel_size: 1, stride: 1, groups: 1, extra }
    }

    fn depthwise(in_channels: usize, out_channels: usize, kernel_size: usize, stride: usize) -> Self {
        Self { channels: [in_channels, out_channels], kernel_size, stride, groups: in_channels, extra: Extra::Norm }
    }
}

impl Counter {
    fn convolution(&mut self, name: String, convolution: &Convolution) {
        let Convolution { channels: [in_channels, out_channels], kernel_size, stride, groups, extra } = *convolution;
        self.size = self.size.map(|side| side.div_ceil(stride));
        let weights = out_channels * (in_channels / groups) * kernel_size * kernel_size;
        let kind = match (groups, kernel_size) {
            (1, 1) => LayerKind::Pointwise,
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

    fn ghost_module(&mut self, name: &str, config: &GhostModuleConfig) {
        let (primary, cheap) = (config.primary_channels(), config.cheap_channels());
        self.convolution(
            format!("{name}.primary_conv.0"),
            &Convolution::pointwise(config.in_channels, primary, Extra::Norm),
        );
        self.convolution(
            format!("{name}.cheap_operation.0"),
            &Convolution::depthwise(primary, cheap, config.cheap_kernel_size, 1),
        );
    }

    fn bottleneck(&mut self, block: &BlockSpec, config: &GhostNetConfig) {
        let name = format!("blocks.{}.{}", block.stage, block.index);
        let ghost = |in_channels, out_channels| {
            GhostModuleConfig::new(in_channels, out_channels)
                .with_ratio(config.ratio)
                .with_cheap_kernel_size(config.cheap_kernel_size)
        };
        let input_size = self.size;
        let expanded = block.expanded_channels;
        self.ghost_module(&format!("{name}.ghost1"), &ghost(block.in_channels, expanded));
        if block.stride > 1 {
            let depthwise = Convolution::depthwise(expanded, expanded, block.kernel_size, block.stride);
            self.convolution(format!("{name}.conv_dw"), &depthwise);
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
            let depthwise =
                Convolution::depthwise(block.in_channels, block.in_channels, block.kernel_size, block.stride);
            self.convolution(format!("{name}.shortcut.0"), &depthwise);
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
                kernel_size: 3,
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
                if self.lineage.has_head_norm() { Extra::Norm } else { Extra::Bias },
            ),
        );
        let weights = architecture.head_channels * self.num_classes;
        counter.layers.push(LayerCount {
            name: "classifier".to_string(),
            kind: LayerKind::Linear,
            in_channels: architecture.head_channels,
            output: [self.num_classes, 1, 1],
            kernel_size: 1,
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
    use super::*;
    use crate::Lineage;

    /// Counted by PyTorch over timm's modules, 1000 classes, 224×224; the papers print 42, 141 and 226 M multiply-adds.
    const PUBLISHED: [(f64, usize, usize); 3] =
        [(0.5, 2_587_292, 42_328_152), (1.0, 5_182_508, 141_150_512), (1.3, 7_358_820, 227_003_256)];
    /// The same of the other lineage, over `tests/fixtures/gen/lineages.py`.
    const PADDLE: [(f64, usize, usize); 3] =
        [(0.5, 2_588_232, 42_327_816), (1.0, 5_183_016, 141_149_744), (1.3, 7_352_622, 226_995_784)];

    #[test]
    fn parameters_and_multiply_adds_are_the_published_ones() {
        let official = PUBLISHED.map(|row| (Lineage::Official, row));
        for (lineage, (width, parameters, multiply_adds)) in
            official.into_iter().chain(PADDLE.map(|row| (Lineage::Paddle, row)))
        {
            let config = GhostNetConfig::new(1000).with_lineage(lineage).with_width(width);
            assert_eq!(config.parameters(), parameters, "{lineage:?}, width {width}");
            assert_eq!(config.multiply_adds(224, 224), multiply_adds, "{lineage:?}, width {width}");
        }
    }

    #[test]
    fn there_are_96_layers_with_weights_and_512_tensors_or_516_with_a_norm_in_the_head() {
        for (lineage, tensors) in [(Lineage::Official, 512), (Lineage::Paddle, 516)] {
            let layers = GhostNetConfig::new(1000).with_lineage(lineage).layers(224, 224);
            assert_eq!(layers.len(), 96, "{lineage:?}");
            assert_eq!(layers.iter().map(|layer| layer.tensors).sum::<usize>(), tensors, "{lineage:?}");
        }
    }
}

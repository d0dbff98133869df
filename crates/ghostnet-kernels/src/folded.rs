//! Layers for inference, their norms folded into the convolutions before them.
//!
//! A convolution followed by `(z − mean) / sqrt(variance + ε) · weight + bias` is a convolution with other weights and a bias. On
//! the CPU the weights are also laid out for the kernels here, once, and activation and bias are applied as results are stored.

use alloc::boxed::Box;
#[cfg(feature = "cpu")]
use alloc::sync::Arc;
use alloc::vec;

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::convolution::convolution;
use crate::{
    ConvNormTensors, Gate, GhostBottleneckTensors, GhostModuleTensors, NormTensors, Reference, SqueezeExciteTensors,
};

/// A convolution with bias, padded by half of its odd kernel, and a ReLU or none.
#[derive(Clone, Debug)]
pub struct FoldedConv {
    body: ConvBody,
}

#[derive(Clone, Debug)]
enum ConvBody {
    #[cfg(feature = "cpu")]
    Packed(Arc<crate::cpu::PackedConv>),
    Tensors(Box<ConvTensors>),
}

/// What a folded convolution is made of.
#[derive(Clone, Debug)]
pub struct ConvTensors {
    /// `[out, in / groups, kernel height, kernel width]`.
    pub weight: Tensor<4>,
    /// `[out]`.
    pub bias: Tensor<1>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// In both directions.
    pub stride: usize,
    /// As of [`ConvNormTensors`].
    pub groups: usize,
}

impl ConvTensors {
    /// Folds a norm with running statistics into the convolution before it.
    ///
    /// # Panics
    /// If the norm is training: its statistics are then another batch's every time.
    pub fn fold(conv: ConvNormTensors, relu: bool) -> Self {
        let ConvNormTensors { weight, norm, stride, groups } = conv;
        let NormTensors { weight: scale, bias, running, epsilon } = norm;
        let Some([mean, variance]) = running else {
            panic!("a norm that is training cannot be folded: take the network for inference (`valid()`)");
        };
        let channels = scale.dims()[0];
        let scale = scale / (variance + epsilon).sqrt();
        let bias = bias - mean * scale.clone();
        Self { weight: weight * scale.reshape([channels, 1, 1, 1]), bias, relu, stride, groups }
    }

    #[cfg(feature = "cpu")]
    pub(crate) fn is_depthwise(&self) -> bool {
        let [out, per_group, ..] = self.weight.dims();
        self.groups > 1 && (self.groups, per_group) == (out, 1)
    }

    #[cfg(feature = "cpu")]
    pub(crate) fn is_padded_by_half(&self) -> bool {
        let [out, _, height, width] = self.weight.dims();
        height == width && height % 2 == 1 && self.stride > 0 && self.bias.dims() == [out]
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = convolution(x, self.weight.clone(), Some(self.bias.clone()), self.stride, self.groups);
        if self.relu { relu(y) } else { y }
    }
}

impl FoldedConv {
    /// Lays the weights out for the device that they are on. From then on the input must be there too, and of their type.
    pub fn new(conv: ConvTensors) -> Self {
        #[cfg(feature = "cpu")]
        if crate::cpu::is_supported(&conv.weight) {
            let square = ConvTensors { weight: crate::operations::square(conv.weight.clone()), ..conv.clone() };
            if let Some(packed) = crate::cpu::PackedConv::new(&square) {
                return Self { body: ConvBody::Packed(Arc::new(packed)) };
            }
        }
        Self { body: ConvBody::Tensors(Box::new(conv)) }
    }

    /// # Shapes
    /// - `x`: `[batch, in, height, width]`
    /// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`
    ///
    /// The output has no gradient.
    ///
    /// # Panics
    /// If the input has other channels or a side of 0, or another type or device than the weights.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.body {
            #[cfg(feature = "cpu")]
            ConvBody::Packed(conv) => conv.forward(x),
            ConvBody::Tensors(conv) => conv.forward(x),
        }
    }
}

/// A Ghost bottleneck without norms.
#[derive(Clone, Debug)]
pub struct FoldedGhostBottleneck {
    body: BottleneckBody,
}

#[derive(Clone, Debug)]
enum BottleneckBody {
    #[cfg(feature = "cpu")]
    Packed(Arc<crate::cpu::PackedBottleneck>),
    Layers(Box<BottleneckLayers>),
}

#[derive(Clone, Debug)]
struct BottleneckLayers {
    expand: GhostLayers,
    attention: Option<[FoldedConv; 3]>,
    depthwise: Option<FoldedConv>,
    /// The two layers of squeeze-and-excite, and what follows them.
    squeeze_excite: Option<([FoldedConv; 2], Gate)>,
    project: GhostLayers,
    /// Depthwise, pointwise; `None` is the identity.
    shortcut: Option<[FoldedConv; 2]>,
}

#[derive(Clone, Debug)]
struct GhostLayers {
    primary: FoldedConv,
    cheap: FoldedConv,
    out_channels: usize,
}

impl FoldedGhostBottleneck {
    /// Folds the block's norms and lays the weights out for the device that they are on. From then on the input must be there
    /// too, and of their type.
    ///
    /// # Panics
    /// If a norm is training.
    pub fn new(block: GhostBottleneckTensors) -> Self {
        #[cfg(feature = "cpu")]
        if let Some(packed) = crate::cpu::PackedBottleneck::new(&block) {
            return Self { body: BottleneckBody::Packed(Arc::new(packed)) };
        }
        let GhostBottleneckTensors { expand, attention, depthwise, squeeze_excite, project, shortcut } = block;
        let folded = |conv, relu| FoldedConv::new(ConvTensors::fold(conv, relu));
        let ghost = |ghost: GhostModuleTensors| GhostLayers {
            primary: folded(ghost.primary, ghost.relu),
            cheap: folded(ghost.cheap, ghost.relu),
            out_channels: ghost.out_channels,
        };
        let layers = BottleneckLayers {
            expand: ghost(expand),
            attention: attention.map(|attention| attention.convs().map(|conv| folded(conv, false))),
            depthwise: depthwise.map(|conv| folded(conv, false)),
            squeeze_excite: squeeze_excite.map(|squeeze| {
                let gate = squeeze.gate;
                (squeeze.layers().map(FoldedConv::new), gate)
            }),
            project: ghost(project),
            shortcut: shortcut.map(|convs| convs.map(|conv| folded(conv, false))),
        };
        Self { body: BottleneckBody::Layers(Box::new(layers)) }
    }

    /// # Shapes
    /// - `x`: `[batch, in, height, width]`
    /// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`
    ///
    /// The output has no gradient.
    ///
    /// # Panics
    /// If the input has other channels or a side of 0, or another type or device than the weights.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.body {
            #[cfg(feature = "cpu")]
            BottleneckBody::Packed(block) => block.forward(x),
            BottleneckBody::Layers(layers) => layers.forward(x),
        }
    }
}

impl SqueezeExciteTensors {
    /// Its two layers, the first with a ReLU.
    pub(crate) fn layers(self) -> [ConvTensors; 2] {
        let Self { reduce, reduce_bias, expand, expand_bias, gate: _ } = self;
        let layer = |weight, bias, relu| ConvTensors { weight, bias, relu, stride: 1, groups: 1 };
        [layer(reduce, reduce_bias, true), layer(expand, expand_bias, false)]
    }
}

impl GhostLayers {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let primary = self.primary.forward(x);
        let both = Tensor::cat(vec![primary.clone(), self.cheap.forward(primary)], 1);
        if both.dims()[1] == self.out_channels { both } else { both.narrow(1, 0, self.out_channels) }
    }
}

impl BottleneckLayers {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut map = self.expand.forward(x.clone()); // [batch, expanded, height, width]
        if let Some(convs) = &self.attention {
            let logits = convs.iter().fold(Reference.halve(x.clone()), |logits, conv| conv.forward(logits));
            map = Reference.attend(map, logits);
        }
        if let Some(depthwise) = &self.depthwise {
            map = depthwise.forward(map); // [batch, expanded, height / stride, width / stride]
        }
        if let Some(([reduce, expand], gate)) = &self.squeeze_excite {
            let mean = Reference.global_average_pool(map.clone()); // [batch, expanded, 1, 1]
            map = map * gate.apply(expand.forward(reduce.forward(mean)));
        }
        let map = self.project.forward(map); // [batch, out, height / stride, width / stride]
        let shortcut = match &self.shortcut {
            Some([depthwise, pointwise]) => pointwise.forward(depthwise.forward(x)),
            None => x,
        };
        map + shortcut
    }
}

//! The operations: what they take, what they give, and who computes them.

use alloc::vec::Vec;

use burn::tensor::Tensor;
#[cfg(feature = "cpu")]
use burn::tensor::activation::relu;

use crate::Gate;
#[cfg(feature = "gpu")]
use crate::reference::{Layers, composed_bottleneck};
use crate::reference::{Reference, plus};

/// Parameters of a batch norm over channels, `[channels]` each.
#[derive(Clone, Debug)]
pub struct NormTensors {
    /// Scale.
    pub weight: Tensor<1>,
    /// Shift.
    pub bias: Tensor<1>,
    /// Running mean and variance, to be used in place of the batch's own. Without them the norm is training.
    pub running: Option<[Tensor<1>; 2]>,
    /// Added to the variance before the square root.
    pub epsilon: f64,
}

/// A convolution without bias, padded by half of its odd kernel, and the batch norm behind it.
#[derive(Clone, Debug)]
pub struct ConvNormTensors {
    /// `[out, in / groups, kernel height, kernel width]`.
    pub weight: Tensor<4>,
    /// Over the convolution's `out` channels.
    pub norm: NormTensors,
    /// In both directions.
    pub stride: usize,
    /// 1, or the number of channels in a depthwise convolution, or anything between.
    pub groups: usize,
}

/// A Ghost module (section 3.1 of arXiv:1911.11907).
#[derive(Clone, Debug)]
pub struct GhostModuleTensors {
    /// Makes the intrinsic maps.
    pub primary: ConvNormTensors,
    /// Makes the ghosts from them.
    pub cheap: ConvNormTensors,
    /// Whether a ReLU follows each of the two.
    pub relu: bool,
    /// Channels of the output, at most those that the two make together.
    pub out_channels: usize,
}

/// Parallel branches in place of a convolution: GhostNetV3 while it trains (arXiv:2404.11202).
#[derive(Clone, Debug)]
pub struct ParallelConvTensors {
    /// At least one, all of one shape.
    pub convs: Vec<ConvNormTensors>,
    /// A 1×1 convolution with the stride and the groups of the others.
    pub scale: Option<ConvNormTensors>,
    /// A norm of the input itself.
    pub skip: Option<NormTensors>,
}

/// A Ghost module with parallel branches.
#[derive(Clone, Debug)]
pub struct ParallelGhostModuleTensors {
    /// Makes the intrinsic maps.
    pub primary: ParallelConvTensors,
    /// Makes the ghosts from them.
    pub cheap: ParallelConvTensors,
    /// Whether a ReLU follows each of the two.
    pub relu: bool,
    /// Channels of the output, at most those that the two make together.
    pub out_channels: usize,
}

/// Squeeze-and-excite.
#[derive(Clone, Debug)]
pub struct SqueezeExciteTensors {
    /// `[squeezed, channels, 1, 1]`.
    pub reduce: Tensor<4>,
    /// `[squeezed]`.
    pub reduce_bias: Tensor<1>,
    /// `[channels, squeezed, 1, 1]`.
    pub expand: Tensor<4>,
    /// `[channels]`.
    pub expand_bias: Tensor<1>,
    /// What follows the second layer.
    pub gate: Gate,
}

/// Attention of GhostNetV2 (section 3.2 of arXiv:2211.12905): [`halve`], three convolutions, [`attend`].
#[derive(Clone, Debug)]
pub struct AttentionTensors {
    /// 1×1, to as many channels as are multiplied.
    pub pointwise: ConvNormTensors,
    /// Depthwise, along the rows.
    pub horizontal: ConvNormTensors,
    /// Depthwise, along the columns.
    pub vertical: ConvNormTensors,
}

impl AttentionTensors {
    /// In the order in which they run.
    pub(crate) fn convs(self) -> [ConvNormTensors; 3] {
        [self.pointwise, self.horizontal, self.vertical]
    }
}

/// A Ghost bottleneck (figure 3 of arXiv:1911.11907).
#[derive(Clone, Debug)]
pub struct GhostBottleneckTensors {
    /// The first Ghost module.
    pub expand: GhostModuleTensors,
    /// Multiplies what the first module makes, by what the block's input says.
    pub attention: Option<AttentionTensors>,
    /// The strided convolution between the modules.
    pub depthwise: Option<ConvNormTensors>,
    /// Before the second module.
    pub squeeze_excite: Option<SqueezeExciteTensors>,
    /// The second Ghost module.
    pub project: GhostModuleTensors,
    /// The shortcut's depthwise and pointwise convolution; without them it is the identity.
    pub shortcut: Option<[ConvNormTensors; 2]>,
}

/// A dense layer.
#[derive(Clone, Debug)]
pub struct LinearTensors {
    /// `[out, in]`, or `[in, out]`.
    pub weight: Tensor<2>,
    /// Whether the weight is `[in, out]`, burn's order, rather than PyTorch's.
    pub weight_in_out: bool,
    /// `[out]`.
    pub bias: Option<Tensor<1>>,
}

/// Mean and variance of a batch, which move the running statistics of a norm that is training. Outside autodiff.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[channels]`.
    pub mean: Tensor<1>,
    /// Biased, `[channels]`.
    pub variance: Tensor<1>,
    /// Over how many values they are taken; PyTorch's running variance is `n / (n − 1)` times the biased one.
    pub values_per_channel: usize,
}

impl Statistics {
    pub(crate) fn new(mean: Tensor<1>, variance: Tensor<1>, [batch, height, width]: [usize; 3]) -> Self {
        let values_per_channel = batch * height * width;
        assert!(
            values_per_channel > 1,
            "batch norm needs more than one value per channel to train, got an input of shape [{batch}, _, {height}, {width}]; \
             use a larger batch or larger images"
        );
        Self { mean, variance, values_per_channel }
    }
}

/// What an operation with norms gives.
#[derive(Clone, Debug)]
pub struct Normed {
    /// `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// Of each norm, in the order in which the fields of the operation's tensors are declared; `None` if it is not training.
    pub statistics: Vec<Option<Statistics>>,
}

/// Batch norm alone; on the CPU in burn's own operations.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - output: the same
///
/// # Panics
/// As [`conv_norm`].
pub fn norm(x: Tensor<4>, norm: NormTensors) -> Normed {
    #[cfg(feature = "gpu")]
    if crate::gpu::is_supported(&x) && norm.is_fusable_on_gpu(x.dims()[1]) {
        return crate::gpu::norm(x, norm, false);
    }
    Reference.norm(x, norm)
}

/// Convolution, batch norm and, if `relu`, a ReLU.
///
/// # Shapes
/// - `x`: `[batch, in, height, width]`
/// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`
///
/// # Panics
/// When a norm is training on one value per channel, whose variance is not defined (PyTorch refuses it too).
pub fn conv_norm(x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
    #[cfg(feature = "cpu")]
    let conv = if crate::cpu::is_supported(&x) {
        let conv = ConvNormTensors { weight: square(conv.weight), ..conv };
        if conv.is_fusable(x.dims()[1]) {
            return crate::cpu::conv_norm(x, conv, relu);
        }
        conv
    } else {
        conv
    };
    #[cfg(feature = "gpu")]
    if crate::gpu::is_supported(&x) && conv.is_fusable_on_gpu() {
        return crate::gpu::conv_norm(x, conv, relu);
    }
    Reference.conv_norm(x, conv, relu)
}

/// Ghost module. Fused are those of the paper: a 1×1 primary convolution, and as many ghosts as intrinsic maps.
///
/// # Shapes
/// - `x`: `[batch, in, height, width]`
/// - output: `[batch, out_channels, ceil(height / stride), ceil(width / stride)]`, where the stride is the primary's
///
/// # Panics
/// As [`conv_norm`].
pub fn ghost_module(x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && ghost.is_fusable(x.dims()[1]) {
        return crate::cpu::ghost_module(x, ghost);
    }
    #[cfg(feature = "gpu")]
    if crate::gpu::is_supported(&x) && ghost.is_fusable_on_gpu() {
        return crate::gpu::ghost_module(x, ghost);
    }
    Reference.ghost_module(x, ghost)
}

/// The sum of parallel convolutions with their norms, and a ReLU if `relu`. Fused are pointwise and depthwise ones.
///
/// # Shapes
/// As of [`conv_norm`].
///
/// # Panics
/// As [`conv_norm`]; and if there is no convolution.
pub fn parallel_conv(x: Tensor<4>, conv: ParallelConvTensors, relu: bool) -> Normed {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && conv.is_fusable(x.dims()[1]) {
        return crate::cpu::parallel_conv(x, conv, relu);
    }
    Reference.parallel_conv(x, conv, relu)
}

/// Ghost module with parallel branches. Fused are those of the paper, as in [`ghost_module`].
///
/// # Shapes
/// As of [`ghost_module`].
///
/// # Panics
/// As [`parallel_conv`].
pub fn parallel_ghost_module(x: Tensor<4>, ghost: ParallelGhostModuleTensors) -> Normed {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && ghost.is_fusable(x.dims()[1]) {
        return crate::cpu::parallel_ghost_module(x, ghost);
    }
    Reference.parallel_ghost_module(x, ghost)
}

/// Squeeze-and-excite alone; [`ghost_bottleneck`] has it fused.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - output: the same
pub fn squeeze_excite(x: Tensor<4>, squeeze_excite: SqueezeExciteTensors) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && squeeze_excite.fits(x.dims()[1]) {
        let SqueezeExciteTensors { reduce, reduce_bias, expand, expand_bias, gate } = squeeze_excite;
        let dense = |x: Tensor<2>, weight: Tensor<4>, bias| {
            linear(x, LinearTensors { weight: weight.flatten(1, 3), weight_in_out: false, bias: Some(bias) })
        };
        let mean = global_average_pool(x.clone()).flatten(1, 3); // [batch, channels]
        let squeezed = relu(dense(mean, reduce, reduce_bias)); // [batch, squeezed]
        let gate = gate.apply(dense(squeezed, expand, expand_bias).unsqueeze_dims(&[2, 3])); // [batch, channels, 1, 1]
        return crate::cpu::scale(x, gate, crate::cpu::ScaleOptions { sigmoid: false });
    }
    Reference.squeeze_excite(x, squeeze_excite)
}

/// Dense layer.
///
/// # Shapes
/// - `x`: `[batch, in]`
/// - output: `[batch, out]`
///
/// # Panics
/// If the shapes do not fit; the message is burn's.
pub fn linear(x: Tensor<2>, linear: LinearTensors) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && linear.fits(x.dims()[1]) {
        return crate::cpu::linear(x, linear);
    }
    Reference.linear(x, linear)
}

/// Mean of every channel of every image: global average pooling.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, 1, 1]`, in 32 bits where the map has 16
pub fn global_average_pool(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) {
        return crate::cpu::global_average_pool(x);
    }
    Reference.global_average_pool(x)
}

/// Sum of two maps: a shortcut that is added.
///
/// # Shapes
/// All `[batch, channels, height, width]`
///
/// # Panics
/// If the shapes do not fit; the message is burn's.
pub fn add(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&a) && crate::cpu::is_supported(&b) && a.dims() == b.dims() {
        return crate::cpu::add(a, b);
    }
    plus(a, b)
}

/// Means of 2×2 pixels; an odd side loses its last row or column.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`, both sides at least 2
/// - output: `[batch, channels, height / 2, width / 2]`, rounded down
///
/// # Panics
/// If a side is 1: nothing would be left.
pub fn halve(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) {
        let [_, _, height, width] = x.dims();
        check_halvable([height, width]);
        return crate::cpu::halve(x);
    }
    Reference.halve(x)
}

pub(crate) fn check_halvable([height, width]: [usize; 2]) {
    assert!(
        height.min(width) >= 2,
        "attention needs maps of at least 2x2 pixels, got {height}x{width}; use larger images"
    );
}

/// Multiplies maps by the sigmoid of others, each value of which is repeated for as many pixels as it takes: pixel `i` is multiplied
/// by the value at `floor(i · gate size / size)`, as with PyTorch's `nearest`.
///
/// # Shapes
/// - `maps`: `[batch, channels, height, width]`
/// - `logits`: `[batch, channels, gate height, gate width]`, no larger
/// - output: that of `maps`
///
/// # Panics
/// If the shapes do not fit; the message is burn's.
pub fn attend(maps: Tensor<4>, logits: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&maps) && crate::cpu::is_supported(&logits) && gates(logits.dims(), maps.dims()) {
        return crate::cpu::scale(maps, logits, crate::cpu::ScaleOptions { sigmoid: true });
    }
    Reference.attend(maps, logits)
}

/// Ghost bottleneck. Fused if it is the paper's: both modules as in [`ghost_module`] and with one cheap kernel, a ReLU in the
/// first only, one kernel and stride for both branches, no attention. On the GPU its layers are, each for itself.
///
/// # Shapes
/// - `x`: `[batch, in, height, width]`
/// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`
///
/// # Panics
/// As [`conv_norm`].
pub fn ghost_bottleneck(x: Tensor<4>, block: GhostBottleneckTensors) -> Normed {
    #[cfg(feature = "cpu")]
    if crate::cpu::is_supported(&x) && block.attention.is_none() && block.is_fusable(x.dims()[1]) {
        return crate::cpu::ghost_bottleneck(x, block);
    }
    #[cfg(feature = "gpu")]
    if crate::gpu::is_supported(&x) {
        return composed_bottleneck(&Fused, x, block);
    }
    Reference.ghost_bottleneck(x, block)
}

/// The layers as this crate's operations.
#[cfg(feature = "gpu")]
struct Fused;

#[cfg(feature = "gpu")]
impl Layers for Fused {
    fn conv_norm(&self, x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
        conv_norm(x, conv, relu)
    }

    fn ghost_module(&self, x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
        ghost_module(x, ghost)
    }
}

/// A kernel that is odd and not square, with zeros around it that make it so: the kernels here know no others.
#[cfg(feature = "cpu")]
pub(crate) fn square(weight: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = weight.dims();
    if height == width || height % 2 == 0 || width % 2 == 0 {
        return weight;
    }
    let side = height.max(width);
    let (vertical, horizontal) = ((side - height) / 2, (side - width) / 2);
    weight.pad((horizontal, horizontal, vertical, vertical), 0.0)
}

#[cfg(feature = "cpu")]
fn gates([batch, channels, gate_height, gate_width]: [usize; 4], maps: [usize; 4]) -> bool {
    let [_, _, height, width] = maps;
    maps[..2] == [batch, channels] && gate_height <= height && gate_width <= width
}

// What does not fit is left to the reference, whose errors name the shapes.

#[cfg(feature = "cpu")]
impl NormTensors {
    fn fits(&self, channels: usize) -> bool {
        let mut vectors = [&self.weight, &self.bias].into_iter().chain(self.running.iter().flatten());
        vectors.all(|vector| vector.dims() == [channels])
    }
}

#[cfg(feature = "cpu")]
impl ConvNormTensors {
    fn is_square_odd(&self) -> bool {
        let [_, _, height, width] = self.weight.dims();
        height == width && height % 2 == 1
    }

    /// Whether every one of the `channels` has a kernel of its own.
    fn is_depthwise_of(&self, channels: usize) -> bool {
        let [out, per_group, ..] = self.weight.dims();
        let fits = self.is_square_odd() && self.norm.fits(out) && self.stride > 0;
        fits && (self.groups, out, per_group) == (channels, channels, 1)
    }

    fn is_pointwise_of(&self, channels: usize) -> bool {
        let [out, per_group, height, width] = self.weight.dims();
        self.norm.fits(out) && [per_group, height, width, self.stride, self.groups] == [channels, 1, 1, 1, 1]
    }

    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1
    }

    fn is_fusable(&self, in_channels: usize) -> bool {
        let [out, per_group, ..] = self.weight.dims();
        let ordinary = self.groups == 1 && per_group == in_channels && self.is_square_odd() && self.norm.fits(out);
        self.stride > 0 && (ordinary || self.is_depthwise_of(in_channels))
    }
}

#[cfg(feature = "cpu")]
impl ParallelConvTensors {
    fn is_fusable(&self, in_channels: usize) -> bool {
        let Self { convs, scale, skip } = self;
        let Some(first) = convs.first() else { return false };
        let fits = match first.is_depthwise() {
            true => convs.iter().chain(scale).all(|conv| conv.is_depthwise_of(in_channels)),
            false => convs.iter().chain(scale).all(|conv| conv.is_pointwise_of(in_channels)),
        };
        let shape = |conv: &ConvNormTensors| (conv.weight.dims(), conv.stride);
        fits && convs.iter().all(|conv| shape(conv) == shape(first))
            && scale.as_ref().is_none_or(|scale| scale.weight.dims()[2] == 1 && scale.stride == first.stride)
            // The kernels make a skip of a depthwise convolution.
            && skip.as_ref().is_none_or(|norm| first.is_depthwise() && first.stride == 1 && norm.fits(in_channels))
    }
}

#[cfg(feature = "cpu")]
impl ParallelGhostModuleTensors {
    fn is_fusable(&self, in_channels: usize) -> bool {
        let (Some(primary), Some(cheap)) = (self.primary.convs.first(), self.cheap.convs.first()) else { return false };
        let half = primary.weight.dims()[0];
        // One channel is depthwise of itself.
        !primary.is_depthwise()
            && cheap.is_depthwise()
            && cheap.stride == 1
            && self.out_channels == 2 * half
            && self.primary.is_fusable(in_channels)
            && self.cheap.is_fusable(half)
    }
}

#[cfg(feature = "cpu")]
impl GhostModuleTensors {
    fn is_fusable(&self, in_channels: usize) -> bool {
        let half = self.primary.weight.dims()[0];
        self.primary.is_pointwise_of(in_channels)
            && self.cheap.is_depthwise_of(half)
            && self.cheap.stride == 1
            && self.out_channels == 2 * half
    }
}

#[cfg(feature = "cpu")]
impl GhostBottleneckTensors {
    /// Whether it is the paper's, whatever its attention.
    pub(crate) fn is_fusable(&self, in_channels: usize) -> bool {
        let Self { expand, attention: _, depthwise, squeeze_excite, project, shortcut } = self;
        let geometry = |conv: &ConvNormTensors| (conv.weight.dims()[2], conv.stride);
        let expanded = expand.out_channels;
        let branches_fit = match (depthwise, shortcut) {
            (Some(main), Some([other, _])) => geometry(main) == geometry(other),
            (Some(conv), None) | (None, Some([conv, _])) => conv.stride == 1,
            (None, None) => true,
        };
        let shortcut_fits = match shortcut {
            Some([depthwise, pointwise]) => {
                depthwise.is_depthwise_of(in_channels)
                    && pointwise.is_pointwise_of(in_channels)
                    && pointwise.weight.dims()[0] == project.out_channels
            }
            None => in_channels == project.out_channels,
        };
        expand.is_fusable(in_channels)
            && project.is_fusable(expanded)
            && (expand.relu, project.relu) == (true, false)
            && geometry(&expand.cheap) == geometry(&project.cheap)
            && depthwise.as_ref().is_none_or(|conv| conv.is_depthwise_of(expanded))
            && squeeze_excite.as_ref().is_none_or(|squeeze| squeeze.fits(expanded))
            && branches_fit
            && shortcut_fits
    }
}

#[cfg(feature = "cpu")]
impl SqueezeExciteTensors {
    fn fits(&self, channels: usize) -> bool {
        let squeezed = self.reduce.dims()[0];
        self.reduce.dims() == [squeezed, channels, 1, 1]
            && self.expand.dims() == [channels, squeezed, 1, 1]
            && self.reduce_bias.dims() == [squeezed]
            && self.expand_bias.dims() == [channels]
    }
}

#[cfg(feature = "cpu")]
impl LinearTensors {
    fn fits(&self, in_channels: usize) -> bool {
        let [out, input] = self.weight.dims();
        let (out, input) = if self.weight_in_out { (input, out) } else { (out, input) };
        input == in_channels && self.bias.as_ref().is_none_or(|bias| bias.dims() == [out])
    }
}

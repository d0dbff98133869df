//! The operations as burn knows them: on the CPU backend, with a gradient of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::{
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::{Autodiff, AutodiffBackend, Bytes, DType, Flex, Shape, TensorMetadata, tensor::FloatTensor};
use burn::tensor::ops::ConvOptions;

use crate::Gate;
use crate::cpu::attention::{Gated, halve, halve_backward, halved, sigmoid};
use crate::cpu::block::{
    Bottleneck, BottleneckMaps, Conv, ConvNormParameters, Ghost, GhostGradient, Images, NormedMap, ShortcutParameters,
    add, means, spread,
};
use crate::cpu::branches::{Branches, BranchesInput, BranchesOptions, write_sum, write_where_positive};
use crate::cpu::buffer::Buffer;
use crate::cpu::dense::{DenseGradients, DenseLayer};
use crate::cpu::norm::{GradientSums, NormParameters};
use crate::cpu::patches::Patches;
use crate::cpu::pointwise::{InputGradient, MapPixels, Sums};
use crate::cpu::rows::{Source, View};
use crate::cpu::simd::InstructionSet;
use crate::cpu::squeeze::SqueezeParameters;

/// What a convolution with norm is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvNormOptions {
    pub(crate) kernel_size: usize,
    pub(crate) stride: usize,
    pub(crate) depthwise: bool,
    pub(crate) relu: bool,
}

/// What a Ghost module is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GhostOptions {
    pub(crate) cheap_kernel_size: usize,
    pub(crate) relu: bool,
}

/// What a Ghost bottleneck is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BottleneckOptions {
    /// Of the strided and of the shortcut's depthwise convolution.
    pub(crate) kernel_size: usize,
    pub(crate) stride: usize,
    pub(crate) cheap_kernel_size: usize,
    pub(crate) depthwise: bool,
    /// The gate of squeeze-and-excite, if there is one.
    pub(crate) squeeze: Option<Gate>,
    pub(crate) shortcut: bool,
}

/// What a dense layer is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearOptions {
    pub(crate) weight_in_out: bool,
}

/// What a Ghost module with parallel branches is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchedGhostOptions {
    pub(crate) primary: BranchesOptions,
    pub(crate) cheap: BranchesOptions,
    pub(crate) relu: bool,
    /// Channels that either makes.
    pub(crate) half: usize,
}

/// What a product with a gate is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaleOptions {
    /// Whether the sigmoid of the gate is meant.
    pub(crate) sigmoid: bool,
}

/// A fused operation. Parameters come in the order of the layers: of a convolution its weight, the norm's weight and bias; of
/// squeeze-and-excite its two weights, each with its bias.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    ConvNorm(ConvNormOptions),
    Linear(LinearOptions),
    GhostModule(GhostOptions),
    GhostBottleneck(BottleneckOptions),
    GlobalAveragePool,
    /// A sum of convolutions.
    Branches(BranchesOptions, bool),
    /// A Ghost module of such sums.
    BranchedGhost(BranchedGhostOptions),
    /// Plus the one parameter, which is another map.
    Add,
    /// Means of 2×2 pixels.
    Halve,
    /// Times the one parameter, which is another map, see [`Gated`].
    Scale(ScaleOptions),
}

static CONVERSIONS: AtomicUsize = AtomicUsize::new(0);

/// How many maps have been brought from another layout to channels-last, which is a copy, since the program started.
pub fn layout_conversions() -> usize {
    CONVERSIONS.load(Ordering::Relaxed)
}

/// A map in channels-last order, with its images and channels.
pub(crate) struct MapIn {
    tensor: FlexTensor,
    /// Whether the tensor's dimensions are in the order of memory too, because it was copied.
    copied: bool,
    pub(crate) images: Images,
    pub(crate) channels: usize,
}

impl MapIn {
    /// Copies if the tensor is not channels-last already.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let [batch, channels, height, width] = tensor.shape().dims();
        let strides = channels_last([batch, channels, height, width]);
        let layout = tensor.layout();
        let same = layout.strides().iter().zip(&strides).zip([batch, channels, height, width]);
        let copied = layout.start_offset() != 0 || !same.into_iter().all(|((a, b), size)| size == 1 || a == b);
        let tensor = if copied {
            CONVERSIONS.fetch_add(1, Ordering::Relaxed);
            Flex::float_permute(tensor, &[0, 2, 3, 1]).to_contiguous()
        } else {
            tensor
        };
        Self { tensor, copied, images: Images { batch, size: [height, width] }, channels }
    }

    /// The tensor in the usual order of dimensions, channels last in memory.
    fn into_tensor(self) -> FlexTensor {
        if self.copied { Flex::float_permute(self.tensor, &[0, 3, 1, 2]) } else { self.tensor }
    }

    /// Runs a way back, which writes the gradient of this map if it is wanted, and gives those of the parameters.
    fn gradients(
        &self,
        wanted: bool,
        run: impl FnOnce(Option<View>) -> Vec<Vec<f32>>,
    ) -> (Option<FlexTensor>, Vec<Vec<f32>>) {
        if !wanted {
            return (None, run(None));
        }
        let mut gradients = Vec::new();
        let dx = map_out(self.images, self.channels, |to| gradients = run(Some(to)));
        (Some(dx), gradients)
    }

    fn as_input(&self) -> BranchesInput {
        BranchesInput { view: self.view(), images: self.images }
    }

    fn values(&self) -> &[f32] {
        &self.tensor.storage::<f32>()[..self.images.pixels() * self.channels]
    }

    pub(crate) fn pixels(&self) -> MapPixels<'_> {
        MapPixels { source: Source::plain(self.view()), pixels_per_image: self.images.pixels_per_image() }
    }

    pub(crate) fn view(&self) -> View {
        View::of(self.values(), self.channels)
    }
}

fn channels_last([_, channels, height, width]: [usize; 4]) -> [isize; 4] {
    [(height * width * channels) as isize, 1, (width * channels) as isize, channels as isize]
}

/// Writes a map in channels-last order, behind a view of the usual order.
pub(crate) fn map_out(images: Images, channels: usize, write: impl FnOnce(View)) -> FlexTensor {
    let mut values = Buffer::new(images.pixels() * channels);
    write(values.view_mut(channels));
    let dims = [images.batch, channels, images.size[0], images.size[1]];
    let layout = Layout::new(Shape::from(dims), channels_last(dims).to_vec(), 0);
    FlexTensor::new(values.into_bytes(), layout, DType::F32)
}

pub(crate) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    assert!(values.len() == shape.num_elements(), "a tensor of shape {shape:?} of {} values", values.len());
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

fn statistics<'a>(maps: impl IntoIterator<Item = &'a NormedMap>) -> FlexTensor {
    let values: Vec<f32> = maps.into_iter().flat_map(NormedMap::statistics).collect();
    let len = values.len();
    tensor(values, Shape::from([len]))
}

/// Parameters one after the other.
struct Parameters<'a> {
    values: std::slice::Iter<'a, FlexTensor>,
    norms: std::slice::Iter<'a, NormInputs>,
}

impl<'a> Parameters<'a> {
    fn new(inputs: &'a Inputs) -> Self {
        Self { values: inputs.parameters.iter(), norms: inputs.norms.iter() }
    }

    fn next(&mut self) -> &'a [f32] {
        values(self.values.next().expect("a parameter for each place"))
    }

    fn conv_norm(&mut self) -> ConvNormParameters<'a> {
        let weight = self.next();
        self.norm_behind(weight)
    }

    /// The next norm, behind a convolution with this weight.
    fn norm_behind(&mut self, weight: &'a [f32]) -> ConvNormParameters<'a> {
        let NormInputs { epsilon, running } = self.norms.next().expect("as many norms as convolutions");
        let norm = NormParameters { weight: self.next(), bias: self.next(), epsilon: *epsilon };
        let running = running.as_ref().map(|[mean, variance]| (values(mean), values(variance)));
        ConvNormParameters { weight, norm, running }
    }

    /// `ones` has a 1 for each channel of the input.
    fn branches(&mut self, options: BranchesOptions, ones: &'a [f32]) -> Branches<'a> {
        let count = options.convs + usize::from(options.scale);
        let mut convs: Vec<ConvNormParameters> = (0..count).map(|_| self.conv_norm()).collect();
        if options.skip {
            convs.push(self.norm_behind(ones));
        }
        Branches { options, convs }
    }

    fn ghost(&mut self, cheap_kernel: usize, relu: bool) -> Ghost<'a> {
        Ghost { primary: self.conv_norm(), cheap: self.conv_norm(), cheap_kernel, relu }
    }

    fn bottleneck(&mut self, options: &BottleneckOptions) -> Bottleneck<'a> {
        let &BottleneckOptions { kernel_size, stride, cheap_kernel_size, depthwise, squeeze, shortcut } = options;
        Bottleneck {
            expand: self.ghost(cheap_kernel_size, true),
            depthwise: depthwise.then(|| self.conv_norm()),
            squeeze: squeeze.map(|gate| SqueezeParameters {
                reduce: self.next(),
                reduce_bias: self.next(),
                expand: self.next(),
                expand_bias: self.next(),
                gate,
            }),
            project: self.ghost(cheap_kernel_size, false),
            shortcut: shortcut.then(|| ShortcutParameters { depthwise: self.conv_norm(), pointwise: self.conv_norm() }),
            kernel: kernel_size,
            stride,
        }
    }
}

/// Contiguous, see [`Inputs::new`].
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.layout().num_elements()]
}

/// A norm, but for its weight and bias.
#[derive(Clone)]
pub(crate) struct NormInputs {
    pub(crate) epsilon: f64,
    /// Mean and variance to be used in place of the batch's own.
    pub(crate) running: Option<[FlexTensor; 2]>,
}

/// What an operation was called with, but for its input map.
#[derive(Clone)]
pub(crate) struct Inputs {
    parameters: Vec<FlexTensor>,
    norms: Vec<NormInputs>,
}

impl Inputs {
    pub(crate) fn new(operation: Operation, parameters: Vec<FlexTensor>, norms: Vec<NormInputs>) -> Self {
        let lay_out = |parameter: FlexTensor| match operation {
            // A map, which is brought into its layout as the input is.
            Operation::Scale(_) | Operation::Add => parameter,
            _ => parameter.to_contiguous(),
        };
        Self {
            parameters: parameters.into_iter().map(lay_out).collect(),
            norms: norms
                .into_iter()
                .map(|norm| NormInputs {
                    running: norm.running.map(|tensors| tensors.map(|tensor| tensor.to_contiguous())),
                    ..norm
                })
                .collect(),
        }
    }

    /// Gradients with the shapes of the parameters.
    fn shaped(&self, gradients: Vec<Vec<f32>>) -> Vec<FlexTensor> {
        gradients.into_iter().zip(&self.parameters).map(|(gradient, of)| tensor(gradient, of.shape())).collect()
    }
}

// ---------------------------------------------------------------------------------------------------------- forward

/// A convolution's input in the form that its kernel reads.
enum ConvInput {
    Map(MapIn),
    /// To be gathered into patches.
    Any(FlexTensor),
}

impl ConvInput {
    fn new(x: FlexTensor, options: &ConvNormOptions) -> Self {
        if options.depthwise || (options.kernel_size == 1 && options.stride == 1) {
            Self::Map(MapIn::new(x))
        } else {
            Self::Any(x)
        }
    }

    /// Calls with the convolution.
    fn with<T>(&self, options: &ConvNormOptions, work: impl FnOnce(ConvRef) -> T) -> T {
        let &ConvNormOptions { kernel_size: kernel, stride, depthwise, .. } = options;
        match self {
            Self::Map(map) if depthwise => work(ConvRef::Map(Conv::Depthwise {
                input: Source::plain(map.view()),
                images: map.images,
                kernel,
                stride,
            })),
            Self::Map(map) => work(ConvRef::Map(Conv::Pointwise { input: &map.pixels(), images: map.images })),
            Self::Any(x) => {
                let patches = patches(x, kernel, stride);
                work(ConvRef::Any(Conv::Pointwise { input: &patches, images: patches.out_images() }))
            }
        }
    }
}

/// An ordinary convolution's windows of the images `x`.
pub(crate) fn patches(x: &FlexTensor, kernel: usize, stride: usize) -> Patches<'_> {
    let [batch, in_channels, height, width] = x.shape().dims();
    let strides = x.layout().strides();
    Patches {
        data: x.storage::<f32>(),
        strides: [strides[0], strides[1], strides[2], strides[3]],
        start: x.layout().start_offset(),
        in_channels,
        images: Images { batch, size: [height, width] },
        kernel,
        stride,
    }
}

enum ConvRef<'a> {
    Map(Conv<'a, MapPixels<'a>>),
    Any(Conv<'a, Patches<'a>>),
}

impl Operation {
    /// The output; mean and biased variance of every norm, one after the other; and what the way back needs.
    pub(crate) fn forward(self, x: FlexTensor, inputs: Inputs) -> (FlexTensor, FlexTensor, Arc<dyn Saved>) {
        // Inside the pool, a layer's threads need not be called and waited for from outside it.
        rayon::scope(|_| self.forward_in_pool(x, inputs))
    }

    fn forward_in_pool(self, x: FlexTensor, inputs: Inputs) -> (FlexTensor, FlexTensor, Arc<dyn Saved>) {
        let set = InstructionSet::current();
        match self {
            Self::Linear(options) => {
                let x = x.to_contiguous();
                let batch = x.shape()[0];
                let layer = dense_layer(&x, &inputs, options);
                let (out, y) = (layer.channels[1], layer.forward(set, values(&x)));
                let y = tensor(y, Shape::from([batch, out]));
                (y, statistics([]), Arc::new(SavedLinear { x, inputs, options }))
            }
            Self::GlobalAveragePool => {
                let x = MapIn::new(x);
                let (images, channels) = (x.images, x.channels);
                let means = means(set, Source::plain(x.view()), images);
                let y = tensor(means, Shape::from([images.batch, channels, 1, 1]));
                (y, statistics([]), Arc::new(SavedPool { images, channels }))
            }
            Self::Branches(options, relu) => {
                let x = MapIn::new(x);
                let ones = vec![1.0; x.channels];
                let maps = Parameters::new(&inputs).branches(options, &ones).forward(set, x.as_input());
                let y = map_out(maps[0].images, maps[0].channels, |to| write_sum(set, &maps, relu, to));
                let saved = SavedBranches { x, inputs, ones, maps, y: relu.then(|| y.clone()), options };
                (y, statistics(&saved.maps), Arc::new(saved))
            }
            Self::BranchedGhost(options) => {
                let x = MapIn::new(x);
                let ones = vec![1.0; options.half];
                let mut parameters = Parameters::new(&inputs);
                let primary = parameters.branches(options.primary, &ones).forward(set, x.as_input());
                let cheap = parameters.branches(options.cheap, &ones);
                let (images, half) = (primary[0].images, options.half);
                let mut maps = primary;
                let y = map_out(images, 2 * half, |to| {
                    let view = to.narrow(0, half);
                    write_sum(set, &maps, options.relu, view);
                    let of_cheap = cheap.forward(set, BranchesInput { view, images });
                    write_sum(set, &of_cheap, options.relu, to.narrow(half, half));
                    maps.extend(of_cheap);
                });
                let saved = SavedBranchedGhost { x, inputs, ones, maps, y: y.clone(), options };
                (y, statistics(&saved.maps), Arc::new(saved))
            }
            Self::Add => {
                let [a, b] = [x, inputs.parameters[0].clone()].map(MapIn::new);
                let y = map_out(a.images, a.channels, |to| {
                    add(set, [Source::plain(a.view()), Source::plain(b.view())], a.images.pixels(), to);
                });
                (y, statistics([]), Arc::new(SavedAdd))
            }
            Self::Halve => {
                let x = MapIn::new(x);
                let (images, channels) = (x.images, x.channels);
                let y = map_out(halved(images), channels, |to| halve(set, x.view(), images, to));
                (y, statistics([]), Arc::new(SavedHalve { images, channels }))
            }
            Self::Scale(options) => {
                let x = MapIn::new(x);
                let gate = MapIn::new(inputs.parameters[0].clone());
                let gate_size = gate.images.size;
                let gate =
                    if options.sigmoid { Factors::Sigmoid(sigmoid(gate.values())) } else { Factors::Plain(gate) };
                let saved = SavedScale { x, gate, gate_size };
                let y = map_out(saved.x.images, saved.x.channels, |to| saved.gated().forward(set, to));
                (y, statistics([]), Arc::new(saved))
            }
            Self::ConvNorm(options) => {
                let x = ConvInput::new(x, &options);
                let parameters = Parameters::new(&inputs).conv_norm();
                let map = x.with(&options, |conv| match conv {
                    ConvRef::Map(conv) => conv.forward(set, &parameters, options.relu),
                    ConvRef::Any(conv) => conv.forward(set, &parameters, options.relu),
                });
                let y = map_out(map.images, map.channels, |to| map.write(set, to));
                (y, statistics([&map]), Arc::new(SavedConv { x, inputs, map, options }))
            }
            Self::GhostModule(options) => {
                let x = MapIn::new(x);
                let ghost = Parameters::new(&inputs).ghost(options.cheap_kernel_size, options.relu);
                let map = ghost.forward(set, &x.pixels(), x.images);
                let y = map_out(map.images, map.channels, |to| map.write(set, to));
                (y, statistics([&map]), Arc::new(SavedGhost { x, inputs, map, options }))
            }
            Self::GhostBottleneck(options) => {
                let x = MapIn::new(x);
                let bottleneck = Parameters::new(&inputs).bottleneck(&options);
                let mut maps = None;
                let y = map_out(bottleneck.out_images(x.images), bottleneck.out_channels(), |to| {
                    maps = Some(bottleneck.forward(set, x.view(), x.images, to));
                });
                let Some(maps) = maps else { unreachable!("the map was written") };
                (y, statistics(maps.maps()), Arc::new(SavedBottleneck { x, inputs, maps, options }))
            }
        }
    }
}

// --------------------------------------------------------------------------------------------------------- backward

/// An operation that can be run backward: what its forward pass kept.
pub(crate) trait Saved: Send + Sync + 'static {
    /// Gradients of the input, if it is wanted, and of the parameters.
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>);
}

struct SavedConv {
    x: ConvInput,
    inputs: Inputs,
    map: NormedMap,
    options: ConvNormOptions,
}

impl Saved for SavedConv {
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let set = InstructionSet::current();
        let parameters = Parameters::new(&self.inputs).conv_norm();
        let dy = MapIn::new(dy);
        let run = |to: Option<View>| {
            let wanted = to.map(|to| InputGradient { to, prior: None, prior_gated: None, sums: Sums::None });
            self.x.with(&self.options, |conv| match conv {
                ConvRef::Map(conv) => conv.backward(set, &parameters, &self.map, dy.view(), None, wanted).0,
                ConvRef::Any(conv) => conv.backward(set, &parameters, &self.map, dy.view(), None, wanted).0,
            })
        };
        match &self.x {
            _ if !wanted => (None, self.inputs.shaped(run(None))),
            ConvInput::Map(x) => {
                let (dx, gradients) = x.gradients(wanted, run);
                (dx, self.inputs.shaped(gradients))
            }
            // An ordinary convolution's input gradient is needed once in a network, where its images are to be changed: burn's
            // own operation does it.
            ConvInput::Any(x) => {
                let gradients = run(None);
                let dz = map_out(self.map.images, self.map.channels, |to| {
                    self.map.write_gradient(set, dy.view(), to);
                });
                let ConvNormOptions { kernel_size, stride, .. } = self.options;
                let options = ConvOptions::new([stride; 2], [kernel_size / 2; 2], [1, 1], 1);
                let weight = self.inputs.parameters[0].clone();
                (Some(Flex::conv2d_x_backward(x.clone(), weight, dz, options)), self.inputs.shaped(gradients))
            }
        }
    }
}

fn dense_layer<'a>(x: &FlexTensor, inputs: &'a Inputs, options: LinearOptions) -> DenseLayer<'a> {
    let mut parameters = Parameters::new(inputs);
    let weight = parameters.next();
    let bias = (inputs.parameters.len() > 1).then(|| parameters.next());
    let input = x.shape()[1];
    DenseLayer { weight, weight_in_out: options.weight_in_out, channels: [input, weight.len() / input], bias }
}

struct SavedLinear {
    x: FlexTensor,
    inputs: Inputs,
    options: LinearOptions,
}

impl Saved for SavedLinear {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let layer = dense_layer(&self.x, &self.inputs, self.options);
        let DenseGradients { x, weight, bias } =
            layer.backward(InstructionSet::current(), values(&self.x), values(&dy.to_contiguous()));
        (Some(tensor(x, self.x.shape())), self.inputs.shaped(vec![weight, bias]))
    }
}

struct SavedPool {
    images: Images,
    channels: usize,
}

impl Saved for SavedPool {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let dy = dy.to_contiguous();
        let pixels = self.images.pixels_per_image() as f32;
        let shares: Vec<f32> = values(&dy).iter().map(|gradient| gradient / pixels).collect();
        (
            Some(map_out(self.images, self.channels, |to| spread(InstructionSet::current(), &shares, self.images, to))),
            Vec::new(),
        )
    }
}

struct SavedBranches {
    x: MapIn,
    inputs: Inputs,
    ones: Vec<f32>,
    maps: Vec<NormedMap>,
    /// The output, if a ReLU made it.
    y: Option<FlexTensor>,
    options: BranchesOptions,
}

/// A map that was written here, to be read.
fn written(y: &FlexTensor) -> View {
    View::of(y.storage::<f32>(), y.shape()[1])
}

impl Saved for SavedBranches {
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let set = InstructionSet::current();
        let dy = MapIn::new(dy);
        let branches = Parameters::new(&self.inputs).branches(self.options, &self.ones);
        let pixels = self.maps[0].images.pixels();
        let mut masked = Buffer::new(if self.y.is_some() { pixels * dy.channels } else { 0 });
        let gradient = match &self.y {
            Some(y) => {
                let to = masked.view_mut(dy.channels);
                write_where_positive(set, written(y), dy.view(), pixels, to);
                to
            }
            None => dy.view(),
        };
        let run =
            |to: Option<View>| branches.backward(set, self.x.as_input(), &self.maps, gradient, to.map(|to| (to, None)));
        let (dx, gradients) = self.x.gradients(wanted, run);
        (dx, self.inputs.shaped(gradients))
    }
}

struct SavedBranchedGhost {
    x: MapIn,
    inputs: Inputs,
    ones: Vec<f32>,
    /// Of the primary's branches, then of the cheap operation's.
    maps: Vec<NormedMap>,
    y: FlexTensor,
    options: BranchedGhostOptions,
}

impl Saved for SavedBranchedGhost {
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let set = InstructionSet::current();
        let dy = MapIn::new(dy);
        let BranchedGhostOptions { primary, cheap, relu, half } = self.options;
        let mut parameters = Parameters::new(&self.inputs);
        let (primary, cheap) = (parameters.branches(primary, &self.ones), parameters.branches(cheap, &self.ones));
        let (of_primary, of_cheap) = self.maps.split_at(primary.convs.len());
        let (images, pixels) = (dy.images, dy.images.pixels());
        let halves = |view: View| [view.narrow(0, half), view.narrow(half, half)];
        let ([y_primary, y_cheap], [dy_primary, dy_cheap]) = (halves(written(&self.y)), halves(dy.view()));
        let [mut first, mut second] = [pixels * half, if relu { pixels * half } else { 0 }].map(Buffer::new);
        let (first, second) = (first.view_mut(half), second.view_mut(half));
        // Where the ReLU of the cheap operation let through, back to the primary's output, and through its ReLU.
        let of_output = if relu {
            write_where_positive(set, y_cheap, dy_cheap, pixels, second);
            second
        } else {
            dy_cheap
        };
        let input = BranchesInput { view: y_primary, images };
        let cheap_gradients = cheap.backward(set, input, of_cheap, of_output, Some((first, Some(dy_primary))));
        if relu {
            write_where_positive(set, y_primary, first, pixels, first);
        }
        let run =
            |to: Option<View>| primary.backward(set, self.x.as_input(), of_primary, first, to.map(|to| (to, None)));
        let (dx, mut gradients) = self.x.gradients(wanted, run);
        gradients.extend(cheap_gradients);
        (dx, self.inputs.shaped(gradients))
    }
}

struct SavedAdd;

impl Saved for SavedAdd {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        // Brought into its layout once for both.
        let dy = MapIn::new(dy).into_tensor();
        (Some(dy.clone()), vec![dy])
    }
}

struct SavedHalve {
    images: Images,
    channels: usize,
}

impl Saved for SavedHalve {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let dy = MapIn::new(dy);
        let write = |to| halve_backward(InstructionSet::current(), dy.view(), self.images, to);
        (Some(map_out(self.images, self.channels, write)), Vec::new())
    }
}

enum Factors {
    Plain(MapIn),
    /// Made of other values by the sigmoid.
    Sigmoid(Buffer),
}

struct SavedScale {
    x: MapIn,
    gate: Factors,
    gate_size: [usize; 2],
}

impl SavedScale {
    fn gated(&self) -> Gated {
        let (gate, is_sigmoid) = match &self.gate {
            Factors::Plain(gate) => (gate.view(), false),
            Factors::Sigmoid(gate) => (gate.view(self.x.channels), true),
        };
        Gated { maps: self.x.view(), images: self.x.images, gate, gate_size: self.gate_size, is_sigmoid }
    }
}

impl Saved for SavedScale {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let (dy, channels) = (MapIn::new(dy), self.x.channels);
        let gate_images = Images { size: self.gate_size, ..self.x.images };
        let mut maps = None;
        let gate = map_out(gate_images, channels, |gate| {
            maps = Some(map_out(self.x.images, channels, |maps| {
                self.gated().backward(InstructionSet::current(), dy.view(), maps, gate);
            }));
        });
        (maps, vec![gate])
    }
}

struct SavedGhost {
    x: MapIn,
    inputs: Inputs,
    map: NormedMap,
    options: GhostOptions,
}

impl Saved for SavedGhost {
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let set = InstructionSet::current();
        let ghost = Parameters::new(&self.inputs).ghost(self.options.cheap_kernel_size, self.options.relu);
        let input = self.x.pixels();
        let dy = MapIn::new(dy);
        let half = self.map.channels / 2;
        let cheap_sums: GradientSums = self.map.gradient_sums(set, half..2 * half, dy.view().narrow(half, half));
        let mut primary = Buffer::new(self.map.images.pixels() * half);
        let gradient =
            GhostGradient { dy: dy.view(), cheap_sums: &cheap_sums, gated: None, primary: primary.view_mut(half) };
        let run = |to: Option<View>| {
            let wanted = to.map(|to| InputGradient { to, prior: None, prior_gated: None, sums: Sums::None });
            ghost.backward(set, &input, &self.map, gradient, wanted).0
        };
        let (dx, gradients) = self.x.gradients(wanted, run);
        (dx, self.inputs.shaped(gradients))
    }
}

struct SavedBottleneck {
    x: MapIn,
    inputs: Inputs,
    maps: BottleneckMaps,
    options: BottleneckOptions,
}

impl Saved for SavedBottleneck {
    fn backward(&self, dy: FlexTensor, _wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        let bottleneck = Parameters::new(&self.inputs).bottleneck(&self.options);
        let (x, images) = (self.x.view(), self.x.images);
        let dy = MapIn::new(dy);
        let mut gradients = Vec::new();
        let dx = map_out(images, self.x.channels, |dx| {
            gradients = bottleneck.backward(InstructionSet::current(), x, images, &self.maps, dy.view(), dx);
        });
        (Some(dx), self.inputs.shaped(gradients))
    }
}

/// The most parents that an operation has: the input, and a bottleneck's 26 parameters.
const PARENTS: usize = 27;

/// The one autodiff step of all operations.
#[derive(Clone, Copy, Debug)]
struct Fused;

/// State of a step; `Debug` because burn asks for it.
#[derive(Clone)]
struct State(Arc<dyn Saved>);

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("fused operation")
    }
}

impl Backward<Flex, PARENTS> for Fused {
    type State = State;

    fn backward(self, ops: Ops<State, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = gradients.consume::<Flex>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let x = parents.next().flatten();
        let (dx, parameters) = rayon::scope(|_| ops.state.0.backward(dy, x.is_some()));
        if let (Some(node), Some(dx)) = (x, dx) {
            gradients.register::<Flex>(node.id, dx);
        }
        for (parent, gradient) in parents.zip(parameters) {
            if let Some(node) = parent {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

pub(crate) type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// An operation that is to be run backward.
pub(crate) struct Recorded {
    pub(crate) operation: Operation,
    /// Whether its maps are made anew on the way back rather than kept.
    pub(crate) recompute: bool,
}

/// An operation of which nothing is kept but what went in. On the way back it is run again, to the same bits.
struct SavedInputs {
    operation: Operation,
    x: FlexTensor,
    inputs: Inputs,
}

impl Saved for SavedInputs {
    fn backward(&self, dy: FlexTensor, wanted: bool) -> (Option<FlexTensor>, Vec<FlexTensor>) {
        self.operation.forward_in_pool(self.x.clone(), self.inputs.clone()).2.backward(dy, wanted)
    }
}

/// Runs an operation and records its step.
pub(crate) fn record<C: CheckpointStrategy>(
    Recorded { operation, recompute }: Recorded,
    x: Tracked<C>,
    parameters: Vec<Tracked<C>>,
    norms: Vec<NormInputs>,
) -> (Tracked<C>, FlexTensor) {
    let constant = Autodiff::<Flex, C>::from_inner(tensor(Vec::new(), Shape::from([0])));
    let nodes = std::array::from_fn(|at| match at {
        0 => x.node(),
        at => parameters.get(at - 1).map_or_else(|| constant.node(), |parameter| parameter.node()),
    });
    let inputs = Inputs::new(operation, parameters.into_iter().map(|tensor| tensor.into_primitive()).collect(), norms);
    let x = x.into_primitive();
    let again = recompute.then(|| SavedInputs { operation, x: x.clone(), inputs: inputs.clone() });
    let (y, statistics, saved) = operation.forward(x, inputs);
    let saved = again.map_or(saved, |again| Arc::new(again) as Arc<dyn Saved>);
    match Fused.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => (step.finish(State(saved), y), statistics),
        OpsKind::UnTracked(step) => (step.finish(y), statistics),
    }
}

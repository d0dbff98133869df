//! The kernels of the CPU backend and their registration with burn.

mod attention;
mod block;
mod branches;
mod buffer;
mod dense;
mod depthwise;
mod folded;
mod matmul;
mod norm;
mod operation;
mod parallel;
mod patches;
mod pointwise;
mod rows;
mod simd;
mod squeeze;
mod update;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{DType, Device, GradientCheckpointingStrategy, Tensor};

use crate::folded::ConvTensors;
use crate::operations::{
    ConvNormTensors, GhostBottleneckTensors, GhostModuleTensors, LinearTensors, NormTensors, Normed,
    ParallelConvTensors, ParallelGhostModuleTensors, SqueezeExciteTensors, Statistics, square,
};
use crate::update::{AdamW, Lion, RmspropTf, Sgd};
use branches::BranchesOptions;
use operation::{
    BottleneckOptions, BranchedGhostOptions, ConvNormOptions, GhostOptions, Inputs, LinearOptions, NormInputs,
    Operation, Recorded, record, values,
};

pub(crate) use operation::ScaleOptions;
pub use operation::layout_conversions;
pub use simd::InstructionSet;

static ENABLED: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var("GHOSTNET_KERNELS").as_deref() != Ok("off")));

/// Turns the kernels off or on again for the whole program; the environment variable `GHOSTNET_KERNELS=off` does it from
/// outside. Without them everything runs on burn's own operations.
pub fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Whether the kernels can take this input: they are [on](set_enabled), and it is `f32`, not empty, and on the CPU backend, with
/// gradients or without.
pub fn is_supported<const D: usize>(x: &Tensor<D>) -> bool {
    ENABLED.load(Ordering::Relaxed) && is_computable(x)
}

fn is_computable<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.dims().iter().all(|&size| size > 0) && x.device().inner() == Device::flex()
}

pub(crate) fn conv_norm(x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
    let (kernel_size, stride, depthwise) = (conv.weight.dims()[2], conv.stride, conv.is_depthwise());
    let mut call = Call::new(&x);
    let out = call.images.map_size(|size| size.div_ceil(stride));
    call.conv_norm(conv, out);
    call.run(Operation::ConvNorm(ConvNormOptions { kernel_size, stride, depthwise, relu }), x)
}

pub(crate) fn ghost_module(x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
    let options = GhostOptions { cheap_kernel_size: ghost.cheap.weight.dims()[2], relu: ghost.relu };
    let mut call = Call::new(&x);
    call.ghost_module(ghost, call.images);
    call.run(Operation::GhostModule(options), x)
}

pub(crate) fn ghost_bottleneck(x: Tensor<4>, block: GhostBottleneckTensors) -> Normed {
    let GhostBottleneckTensors { expand, attention: _, depthwise, squeeze_excite, project, shortcut } = block;
    let strided = depthwise.as_ref().or(shortcut.as_ref().map(|[depthwise, _]| depthwise));
    let options = BottleneckOptions {
        kernel_size: strided.map_or(1, |conv| conv.weight.dims()[2]),
        stride: strided.map_or(1, |conv| conv.stride),
        cheap_kernel_size: expand.cheap.weight.dims()[2],
        depthwise: depthwise.is_some(),
        squeeze: squeeze_excite.as_ref().map(|squeeze| squeeze.gate),
        shortcut: shortcut.is_some(),
    };
    let mut call = Call::new(&x);
    let out = call.images.map_size(|size| size.div_ceil(options.stride));
    call.ghost_module(expand, call.images);
    if let Some(depthwise) = depthwise {
        call.conv_norm(depthwise, out);
    }
    if let Some(SqueezeExciteTensors { reduce, reduce_bias, expand, expand_bias, .. }) = squeeze_excite {
        call.parameters.extend([reduce.into(), reduce_bias.into(), expand.into(), expand_bias.into()]);
    }
    call.ghost_module(project, out);
    for conv in shortcut.into_iter().flatten() {
        call.conv_norm(conv, out);
    }
    call.run(Operation::GhostBottleneck(options), x)
}

pub(crate) fn linear(x: Tensor<2>, linear: LinearTensors) -> Tensor<2> {
    let LinearTensors { weight, bias, weight_in_out } = linear;
    let mut parameters = vec![Parameter::Matrix(weight)];
    parameters.extend(bias.map(Parameter::Vector));
    run(Operation::Linear(LinearOptions { weight_in_out }), x, parameters, Vec::new()).0
}

pub(crate) fn parallel_conv(x: Tensor<4>, conv: ParallelConvTensors, relu: bool) -> Normed {
    let options = conv.options();
    let mut call = Call::new(&x);
    let out = call.images.map_size(|size| size.div_ceil(options.stride));
    call.branches(conv, out);
    call.run(Operation::Branches(options, relu), x)
}

pub(crate) fn parallel_ghost_module(x: Tensor<4>, ghost: ParallelGhostModuleTensors) -> Normed {
    let ParallelGhostModuleTensors { primary, cheap, relu, out_channels } = ghost;
    let half = out_channels / 2;
    let options = BranchedGhostOptions { primary: primary.options(), cheap: cheap.options(), relu, half };
    let mut call = Call::new(&x);
    call.branches(primary, call.images);
    call.branches(cheap, call.images);
    call.run(Operation::BranchedGhost(options), x)
}

impl ParallelConvTensors {
    fn options(&self) -> BranchesOptions {
        let first = &self.convs[0];
        BranchesOptions {
            kernel_size: first.weight.dims()[2],
            stride: first.stride,
            depthwise: first.is_depthwise(),
            convs: self.convs.len(),
            scale: self.scale.is_some(),
            skip: self.skip.is_some(),
        }
    }
}

pub(crate) fn add(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    run(Operation::Add, a, vec![Parameter::Weight(b)], Vec::new()).0
}

pub(crate) fn halve(x: Tensor<4>) -> Tensor<4> {
    run(Operation::Halve, x, Vec::new(), Vec::new()).0
}

pub(crate) fn scale(maps: Tensor<4>, gate: Tensor<4>, options: ScaleOptions) -> Tensor<4> {
    run(Operation::Scale(options), maps, vec![Parameter::Weight(gate)], Vec::new()).0
}

pub(crate) fn global_average_pool(x: Tensor<4>) -> Tensor<4> {
    run(Operation::GlobalAveragePool, x, Vec::new(), Vec::new()).0
}

/// Runs `work`, which computes on `device`, on a thread of the kernels' pool if that is the CPU backend. Layers that run one after the other in there need not be handed over to the
/// pool and waited for one by one, which for a single image is a tenth of the time.
///
/// `work` must not run operations with gradients: burn holds a lock while it runs backward, and a thread that waits there may be
/// given this work.
pub fn in_thread_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if device.clone().inner() == Device::flex() { rayon::scope(|_| work()) } else { work() }
}

pub(crate) fn sgd(
    rule: &Sgd,
    value: Tensor<1>,
    gradient: Tensor<1>,
    buffer: Option<Tensor<1>>,
) -> (Tensor<1>, Option<Tensor<1>>) {
    let gradient = contiguous(gradient);
    let (value, buffer) =
        rayon::scope(|_| update::sgd(rule, contiguous(value), values(&gradient), buffer.map(contiguous)));
    (Tensor::from_primitive::<Flex>(value), buffer.map(Tensor::from_primitive::<Flex>))
}

pub(crate) fn adamw(
    rule: &AdamW,
    value: Tensor<1>,
    gradient: Tensor<1>,
    averages: Option<[Tensor<1>; 2]>,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let gradient = contiguous(gradient);
    let averages = averages.map(|averages| averages.map(contiguous));
    let (value, averages) = rayon::scope(|_| update::adamw(rule, contiguous(value), values(&gradient), averages));
    (Tensor::from_primitive::<Flex>(value), averages.map(Tensor::from_primitive::<Flex>))
}

pub(crate) fn rmsprop_tf(
    rule: &RmspropTf,
    value: Tensor<1>,
    gradient: Tensor<1>,
    state: Option<[Tensor<1>; 2]>,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let gradient = contiguous(gradient);
    let state = state.map(|state| state.map(contiguous));
    let (value, state) = rayon::scope(|_| update::rmsprop_tf(rule, contiguous(value), values(&gradient), state));
    (Tensor::from_primitive::<Flex>(value), state.map(Tensor::from_primitive::<Flex>))
}

pub(crate) fn lion(
    rule: &Lion,
    value: Tensor<1>,
    gradient: Tensor<1>,
    average: Option<Tensor<1>>,
) -> (Tensor<1>, Tensor<1>) {
    let gradient = contiguous(gradient);
    let average = average.map(contiguous);
    let (value, average) = rayon::scope(|_| update::lion(rule, contiguous(value), values(&gradient), average));
    (Tensor::from_primitive::<Flex>(value), Tensor::from_primitive::<Flex>(average))
}

pub(crate) fn global_norm(gradients: &[Tensor<1>]) -> f64 {
    rayon::scope(|_| {
        let squares = gradients.iter().map(|gradient| update::sum_of_squares(values(&contiguous(gradient.clone()))));
        squares.sum::<f64>().sqrt()
    })
}

/// The tensor as all of its memory, from the start and in order.
fn contiguous(tensor: Tensor<1>) -> FlexTensor {
    let tensor = untracked(tensor);
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.storage::<f32>().len() == tensor.layout().num_elements();
    if whole { tensor } else { FlexTensor::from_data(tensor.into_data()) }
}

/// Batch, height and width of a map.
#[derive(Clone, Copy)]
struct Size([usize; 3]);

impl Size {
    fn map_size(self, change: impl Fn(usize) -> usize) -> Self {
        let [batch, height, width] = self.0;
        Self([batch, change(height), change(width)])
    }
}

/// The tensors of a call one after the other, in the order of the layers.
struct Call {
    images: Size,
    parameters: Vec<Parameter>,
    norms: Vec<NormInputs>,
    /// Channels of each norm and the size of its map.
    maps: Vec<(usize, Size)>,
}

enum Parameter {
    Weight(Tensor<4>),
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

impl From<Tensor<4>> for Parameter {
    fn from(tensor: Tensor<4>) -> Self {
        Self::Weight(tensor)
    }
}

impl From<Tensor<1>> for Parameter {
    fn from(tensor: Tensor<1>) -> Self {
        Self::Vector(tensor)
    }
}

impl Parameter {
    fn device(&self) -> Device {
        match self {
            Self::Weight(tensor) => tensor.device(),
            Self::Matrix(tensor) => tensor.device(),
            Self::Vector(tensor) => tensor.device(),
        }
    }
}

impl Call {
    fn new(x: &Tensor<4>) -> Self {
        let [batch, _, height, width] = x.dims();
        Self { images: Size([batch, height, width]), parameters: Vec::new(), norms: Vec::new(), maps: Vec::new() }
    }

    fn conv_norm(&mut self, conv: ConvNormTensors, out: Size) {
        self.parameters.push(conv.weight.into());
        self.norm(conv.norm, out);
    }

    fn norm(&mut self, norm: NormTensors, out: Size) {
        let NormTensors { weight, bias, running, epsilon } = norm;
        self.maps.push((weight.dims()[0], out));
        self.norms.push(NormInputs { epsilon, running: running.map(|tensors| tensors.map(untracked)) });
        self.parameters.extend([weight.into(), bias.into()]);
    }

    fn branches(&mut self, conv: ParallelConvTensors, out: Size) {
        let ParallelConvTensors { convs, scale, skip } = conv;
        for conv in convs.into_iter().chain(scale) {
            self.conv_norm(conv, out);
        }
        if let Some(norm) = skip {
            self.norm(norm, out);
        }
    }

    fn ghost_module(&mut self, ghost: GhostModuleTensors, out: Size) {
        self.conv_norm(ghost.primary, out);
        self.conv_norm(ghost.cheap, out);
    }

    fn run(self, operation: Operation, x: Tensor<4>) -> Normed {
        let Self { parameters, norms, maps, .. } = self;
        let training: Vec<bool> = norms.iter().map(|norm| norm.running.is_none()).collect();
        let (output, statistics) = run(operation, x, parameters, norms);
        let statistics: Tensor<1> = Tensor::from_primitive::<Flex>(statistics);
        let mut start = 0;
        let statistics = maps.into_iter().zip(training).map(|((channels, Size(size)), training)| {
            let mut next = || {
                start += channels;
                statistics.clone().narrow(0, start - channels, channels)
            };
            let (mean, variance) = (next(), next());
            training.then(|| Statistics::new(mean, variance, size))
        });
        Normed { statistics: statistics.collect(), output }
    }
}

/// Runs an operation with or without recording it; also gives the norms' statistics.
fn run<const D: usize>(
    operation: Operation,
    x: Tensor<D>,
    parameters: Vec<Parameter>,
    norms: Vec<NormInputs>,
) -> (Tensor<D>, FlexTensor) {
    let mut devices = std::iter::once(x.device()).chain(parameters.iter().map(Parameter::device));
    match devices.find_map(|device| device.gradient_checkpointing_strategy()) {
        Some(strategy @ GradientCheckpointingStrategy::Balanced) => {
            return run_tracked::<BalancedCheckpointing, D>(operation, x, parameters, norms, strategy);
        }
        Some(strategy) => return run_tracked::<NoCheckpointing, D>(operation, x, parameters, norms, strategy),
        None => {}
    }
    let parameters = parameters.into_iter().map(|parameter| match parameter {
        Parameter::Weight(tensor) => untracked(tensor),
        Parameter::Matrix(tensor) => untracked(tensor),
        Parameter::Vector(tensor) => untracked(tensor),
    });
    let (y, statistics, _) = operation.forward(untracked(x), Inputs::new(operation, parameters.collect(), norms));
    (Tensor::from_primitive::<Flex>(y), statistics)
}

fn run_tracked<C: CheckpointStrategy, const D: usize>(
    operation: Operation,
    x: Tensor<D>,
    parameters: Vec<Parameter>,
    norms: Vec<NormInputs>,
    strategy: GradientCheckpointingStrategy,
) -> (Tensor<D>, FlexTensor)
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let parameters = parameters.into_iter().map(|parameter| match parameter {
        Parameter::Weight(tensor) => tracked::<C, 4>(tensor, strategy),
        Parameter::Matrix(tensor) => tracked::<C, 2>(tensor, strategy),
        Parameter::Vector(tensor) => tracked::<C, 1>(tensor, strategy),
    });
    let recompute = strategy == GradientCheckpointingStrategy::Balanced;
    let recorded = Recorded { operation, recompute };
    let (y, statistics) = record::<C>(recorded, tracked::<C, D>(x, strategy), parameters.collect(), norms);
    (Tensor::from_primitive::<Autodiff<Flex, C>>(y), statistics)
}

/// A tensor of the CPU backend, recorded as all of an operation's are.
fn tracked<C: CheckpointStrategy, const D: usize>(
    tensor: Tensor<D>,
    strategy: GradientCheckpointingStrategy,
) -> FloatTensor<Autodiff<Flex, C>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let tensor = tensor.autodiff().with_gradient_checkpointing_strategy(strategy);
    tensor.try_into_primitive::<Autodiff<Flex, C>>().unwrap_or_else(|error| foreign(error))
}

/// A tensor of the CPU backend, without its history.
fn untracked<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = if tensor.device().is_autodiff() { tensor.inner() } else { tensor };
    tensor.try_into_primitive::<Flex>().unwrap_or_else(|error| foreign(error))
}

fn foreign(error: impl core::fmt::Debug) -> ! {
    panic!("a parameter is not on the device of the input map, the CPU backend: {error:?}")
}

/// A convolution for inference, laid out for the kernels.
#[derive(Debug)]
pub(crate) struct PackedConv {
    conv: folded::Conv,
    in_channels: usize,
}

impl PackedConv {
    /// `None` if the kernels do not know it, or are off.
    pub(crate) fn new(conv: &ConvTensors) -> Option<Self> {
        let [_, per_group, ..] = conv.weight.dims();
        let depthwise = conv.is_depthwise();
        let known = is_supported(&conv.weight) && (depthwise || conv.groups == 1) && conv.is_padded_by_half();
        known.then(|| Self {
            conv: with_values(conv, |values| folded::Conv::new(values, depthwise)),
            in_channels: per_group * conv.groups,
        })
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        run_folded(x, self.in_channels, |x| self.conv.forward(x))
    }
}

/// A Ghost bottleneck for inference, laid out for the kernels.
#[derive(Debug)]
pub(crate) struct PackedBottleneck {
    block: folded::Bottleneck,
    in_channels: usize,
}

impl PackedBottleneck {
    /// `None` if the kernels do not know it, or are off.
    pub(crate) fn new(block: &GhostBottleneckTensors) -> Option<Self> {
        let in_channels = block.expand.primary.weight.dims()[1];
        if !is_supported(&block.expand.primary.weight) || !block.is_fusable(in_channels) {
            return None;
        }
        let set = InstructionSet::current();
        let dense = |conv: ConvTensors| with_values(&conv, |values| folded::Dense::new(set, values));
        let depthwise = |conv: ConvTensors| with_values(&conv, |values| folded::DepthwiseConv::new(set, values));
        let ghost = |ghost: &GhostModuleTensors| folded::Ghost {
            primary: dense(ConvTensors::fold(ghost.primary.clone(), ghost.relu)),
            cheap: depthwise(ConvTensors::fold(ghost.cheap.clone(), ghost.relu)),
        };
        let fold = |conv: &ConvNormTensors| ConvTensors::fold(conv.clone(), false);
        let block = folded::Bottleneck {
            expand: ghost(&block.expand),
            attention: block.attention.clone().map(|attention| {
                let [pointwise, horizontal, vertical] = attention.convs();
                let strip = |conv: ConvNormTensors| {
                    let conv = ConvTensors::fold(conv, false);
                    depthwise(ConvTensors { weight: square(conv.weight), ..conv })
                };
                folded::Attention {
                    pointwise: dense(ConvTensors::fold(pointwise, false)),
                    horizontal: strip(horizontal),
                    vertical: strip(vertical),
                }
            }),
            depthwise: block.depthwise.as_ref().map(|conv| depthwise(fold(conv))),
            squeeze: block.squeeze_excite.clone().map(|squeeze| {
                let gate = squeeze.gate;
                (squeeze.layers().map(dense), gate)
            }),
            project: ghost(&block.project),
            shortcut: block.shortcut.as_ref().map(|[first, second]| (depthwise(fold(first)), dense(fold(second)))),
        };
        Some(Self { block, in_channels })
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        run_folded(x, self.in_channels, |x| self.block.forward(x))
    }
}

fn with_values<T>(conv: &ConvTensors, work: impl FnOnce(&folded::ConvValues) -> T) -> T {
    let (weight, bias) = (untracked(conv.weight.clone()).to_contiguous(), untracked(conv.bias.clone()).to_contiguous());
    let (shape, relu, stride) = (conv.weight.dims(), conv.relu, conv.stride);
    work(&folded::ConvValues { weight: values(&weight), shape, bias: values(&bias), relu, stride })
}

fn run_folded(x: Tensor<4>, in_channels: usize, work: impl FnOnce(FlexTensor) -> FlexTensor + Send) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    assert!(
        channels == in_channels && is_computable(&x),
        "this layer expects an input of shape [batch, {in_channels}, height, width], none of them 0, of type f32 on the CPU, \
         got [{batch}, {channels}, {height}, {width}] of type {:?} on {:?}",
        x.dtype(),
        x.device()
    );
    let x = untracked(x);
    // As for the operations with a gradient: inside the pool, a layer's threads need not be called from outside it.
    Tensor::from_primitive::<Flex>(rayon::scope(|_| work(x)))
}

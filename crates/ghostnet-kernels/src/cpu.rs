//! The kernels of the CPU backend and their registration with burn.

mod block;
mod buffer;
mod dense;
mod depthwise;
mod matmul;
mod norm;
mod operation;
mod parallel;
mod patches;
mod pointwise;
mod rows;
mod simd;
mod squeeze;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{DType, Device, GradientCheckpointingStrategy, Tensor};

use crate::operations::{
    ConvNormTensors, GhostBottleneckTensors, GhostModuleTensors, LinearTensors, NormTensors, Normed,
    SqueezeExciteTensors, Statistics,
};
use operation::{
    BottleneckOptions, ConvNormOptions, GhostOptions, Inputs, LinearOptions, NormInputs, Operation, record,
};

pub use operation::layout_conversions;
pub use simd::InstructionSet;

static ENABLED: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var("GHOSTNET_KERNELS").as_deref() != Ok("off")));

/// Turns the kernels off or on again for the whole program; the environment variable `GHOSTNET_KERNELS=off` does it from
/// outside. Without them everything runs on burn's own operations.
pub fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Whether the kernels can take this input: they are [on](set_enabled), and it is `f32` on the CPU backend, with gradients or
/// without.
pub fn is_supported<const D: usize>(x: &Tensor<D>) -> bool {
    ENABLED.load(Ordering::Relaxed) && x.dtype() == DType::F32 && x.device().inner() == Device::flex()
}

pub(crate) fn conv_norm(x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
    let (kernel_size, stride, depthwise) = (conv.weight.dims()[2], conv.stride, conv.is_depthwise());
    let mut call = Call::new(&x);
    let out = call.images.map_size(|size| (size - 1) / stride + 1);
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
    let GhostBottleneckTensors { expand, depthwise, squeeze_excite, project, shortcut } = block;
    let strided = depthwise.as_ref().or(shortcut.as_ref().map(|[depthwise, _]| depthwise));
    let options = BottleneckOptions {
        kernel_size: strided.map_or(1, |conv| conv.weight.dims()[2]),
        stride: strided.map_or(1, |conv| conv.stride),
        cheap_kernel_size: expand.cheap.weight.dims()[2],
        depthwise: depthwise.is_some(),
        squeeze: squeeze_excite.is_some(),
        shortcut: shortcut.is_some(),
    };
    let mut call = Call::new(&x);
    let out = call.images.map_size(|size| (size - 1) / options.stride + 1);
    call.ghost_module(expand, call.images);
    if let Some(depthwise) = depthwise {
        call.conv_norm(depthwise, out);
    }
    if let Some(SqueezeExciteTensors { reduce, reduce_bias, expand, expand_bias }) = squeeze_excite {
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
    fn is_autodiff(&self) -> bool {
        match self {
            Self::Weight(tensor) => tensor.device().is_autodiff(),
            Self::Matrix(tensor) => tensor.device().is_autodiff(),
            Self::Vector(tensor) => tensor.device().is_autodiff(),
        }
    }
}

impl Call {
    fn new(x: &Tensor<4>) -> Self {
        let [batch, _, height, width] = x.dims();
        Self { images: Size([batch, height, width]), parameters: Vec::new(), norms: Vec::new(), maps: Vec::new() }
    }

    fn conv_norm(&mut self, conv: ConvNormTensors, out: Size) {
        let NormTensors { weight, bias, running, epsilon } = conv.norm;
        self.maps.push((weight.dims()[0], out));
        self.norms.push(NormInputs { epsilon, running: running.map(|tensors| tensors.map(untracked)) });
        self.parameters.extend([conv.weight.into(), weight.into(), bias.into()]);
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
    if x.device().is_autodiff() || parameters.iter().any(Parameter::is_autodiff) {
        return match x.device().gradient_checkpointing_strategy() {
            Some(GradientCheckpointingStrategy::Balanced) => {
                run_tracked::<BalancedCheckpointing, D>(operation, x, parameters, norms)
            }
            _ => run_tracked::<NoCheckpointing, D>(operation, x, parameters, norms),
        };
    }
    let parameters = parameters.into_iter().map(|parameter| match parameter {
        Parameter::Weight(tensor) => untracked(tensor),
        Parameter::Matrix(tensor) => untracked(tensor),
        Parameter::Vector(tensor) => untracked(tensor),
    });
    let (y, statistics, _) = operation.forward(untracked(x), Inputs::new(parameters.collect(), norms));
    (Tensor::from_primitive::<Flex>(y), statistics)
}

fn run_tracked<C: CheckpointStrategy, const D: usize>(
    operation: Operation,
    x: Tensor<D>,
    parameters: Vec<Parameter>,
    norms: Vec<NormInputs>,
) -> (Tensor<D>, FlexTensor)
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let parameters = parameters.into_iter().map(|parameter| match parameter {
        Parameter::Weight(tensor) => tracked::<C, 4>(tensor),
        Parameter::Matrix(tensor) => tracked::<C, 2>(tensor),
        Parameter::Vector(tensor) => tracked::<C, 1>(tensor),
    });
    let (y, statistics) = record::<C>(operation, tracked::<C, D>(x), parameters.collect(), norms);
    (Tensor::from_primitive::<Autodiff<Flex, C>>(y), statistics)
}

/// A tensor of the CPU backend, recorded.
fn tracked<C: CheckpointStrategy, const D: usize>(tensor: Tensor<D>) -> FloatTensor<Autodiff<Flex, C>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let tensor = if tensor.device().is_autodiff() { tensor } else { Tensor::from_inner(tensor) };
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

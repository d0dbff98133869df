//! The kernels of the GPU backend and their registration with burn. They are [off](set_enabled) at first.

mod backend;
pub mod border;
mod depthwise;
#[cfg(feature = "fusion")]
mod fusion;
mod moments;
mod norm;
mod operation;
mod sweep;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};

#[cfg(feature = "fusion")]
pub use fusion::{RegistryError, is_fusing, restrict_fusion};

/// Whether operations are fused, which this build does not do.
#[cfg(not(feature = "fusion"))]
pub fn is_fusing() -> bool {
    false
}

use crate::convolution::convolution;
use crate::operations::{ConvNormTensors, GhostModuleTensors, NormTensors, Normed, Statistics};
use crate::reference::in_format;
use operation::{
    DepthwiseOptions, DepthwiseOutput, DepthwiseParameters, FusedOps, GhostOptions, GhostOutput, GhostParameters,
    NormOptions, NormOutput, NormParameters, NormStatistics,
};

static ENABLED: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var("GHOSTNET_GPU_KERNELS").as_deref() == Ok("on")));

/// Turns the kernels of the GPU on or off again for the whole program; the environment variable `GHOSTNET_GPU_KERNELS=on` does it
/// from outside. They are off at first: nobody has measured yet whether they are faster than burn's own operations, tuned and fused.
pub fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Whether the kernels of the GPU are [on](set_enabled).
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Whether the kernels of the GPU can take this input: they are [on](set_enabled), and it is `f32` or `f16`, not empty, and on
/// burn's GPU backend, with gradients or without.
pub fn is_supported<const D: usize>(x: &Tensor<D>) -> bool {
    ENABLED.load(Ordering::Relaxed)
        && matches!(x.dtype(), DType::F32 | DType::F16)
        && x.dims().iter().all(|&size| size > 0)
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// Sides of a depthwise kernel that are known to be compiled in a reasonable time: the loops over it are unrolled.
const MAX_KERNEL_SIDE: usize = 7;

// What does not fit is left to the reference: norms that are not training, and kernels that are even or large.

impl NormTensors {
    pub(crate) fn is_fusable_on_gpu(&self, channels: usize) -> bool {
        let fits = |vector: &Tensor<1>| vector.dims() == [channels] && vector.dtype() == DType::F32;
        self.running.is_none() && fits(&self.weight) && fits(&self.bias)
    }

    fn into_parts(self, relu: bool) -> (NormParameters<Dispatch>, NormOptions) {
        let (weight, bias) = (self.weight.into_dispatch(), self.bias.into_dispatch());
        (NormParameters { weight, bias }, NormOptions { epsilon: self.epsilon, relu })
    }
}

impl ConvNormTensors {
    pub(crate) fn is_fusable_on_gpu(&self) -> bool {
        self.norm.is_fusable_on_gpu(self.weight.dims()[0])
    }

    /// Whether it is a depthwise convolution of these channels that the kernels know.
    fn is_depthwise_on_gpu(&self, channels: usize) -> bool {
        let [out, per_group, height, width] = self.weight.dims();
        let known = |side: usize| side % 2 == 1 && side <= MAX_KERNEL_SIDE;
        self.norm.is_fusable_on_gpu(channels)
            && (self.groups, out, per_group) == (channels, channels, 1)
            && known(height)
            && known(width)
            && self.stride > 0
    }

    fn into_depthwise(self, relu: bool) -> (DepthwiseParameters<Dispatch>, NormOptions) {
        let (norm, options) = self.norm.into_parts(relu);
        (DepthwiseParameters { kernel: self.weight.into_dispatch(), norm }, options)
    }
}

impl GhostModuleTensors {
    pub(crate) fn is_fusable_on_gpu(&self) -> bool {
        let half = self.primary.weight.dims()[0];
        self.primary.is_fusable_on_gpu()
            && self.cheap.is_depthwise_on_gpu(half)
            && self.cheap.stride == 1
            && self.out_channels == 2 * half
    }
}

/// Norm and, if `relu`, a ReLU.
pub(crate) fn norm(x: Tensor<4>, norm: NormTensors, relu: bool) -> Normed {
    let [batch, _, height, width] = x.dims();
    let (parameters, options) = norm.into_parts(relu);
    let NormOutput { y, statistics } = Dispatch::ghostnet_normalise(x.into_dispatch(), parameters, options);
    normed(y, [statistics], [batch, height, width])
}

pub(crate) fn conv_norm(x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
    let [batch, channels, height, width] = x.dims();
    if !conv.is_depthwise_on_gpu(channels) {
        let ConvNormTensors { weight, norm: parameters, stride, groups } = conv;
        return norm(convolved(x, weight, stride, groups), parameters, relu);
    }
    let stride = conv.stride;
    let (parameters, of_norm) = conv.into_depthwise(relu);
    let options = DepthwiseOptions { norm: of_norm, stride };
    let output = Dispatch::ghostnet_depthwise(x.into_dispatch(), parameters, options);
    let DepthwiseOutput { y, z: _, statistics } = output;
    normed(y, [statistics], [batch, height.div_ceil(stride), width.div_ceil(stride)])
}

pub(crate) fn ghost_module(x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
    let GhostModuleTensors { primary, cheap, relu, out_channels: _ } = ghost;
    let ConvNormTensors { weight, norm, stride, groups } = primary;
    let z = convolved(x, weight, stride, groups); // [batch, half, height, width]
    let [batch, _, height, width] = z.dims();
    let (primary, of_primary) = norm.into_parts(relu);
    let (cheap, of_cheap) = cheap.into_depthwise(relu);
    let parameters = GhostParameters { primary, cheap };
    let options = GhostOptions { primary: of_primary, cheap: of_cheap };
    let GhostOutput { y, z: _, primary, cheap } = Dispatch::ghostnet_ghost(z.into_dispatch(), parameters, options);
    normed(y, [primary, cheap], [batch, height, width])
}

/// The operations' convolution, padded by half of its kernel, by burn.
fn convolved(x: Tensor<4>, weight: Tensor<4>, stride: usize, groups: usize) -> Tensor<4> {
    let weight = in_format(weight, x.dtype());
    convolution(x, weight, None, stride, groups)
}

fn normed<const NORMS: usize>(
    y: <Dispatch as burn::backend::BackendTypes>::FloatTensorPrimitive,
    statistics: [NormStatistics<Dispatch>; NORMS],
    images: [usize; 3],
) -> Normed {
    let vector = |vector| Tensor::<1>::from_dispatch(vector).without_autodiff();
    let statistics = statistics.map(|statistics| {
        let NormStatistics { mean, variance, coefficients: _ } = statistics;
        Some(Statistics::new(vector(mean), vector(variance), images))
    });
    Normed { output: Tensor::from_dispatch(y), statistics: statistics.into() }
}

//! The border between the networks and burn's own convolutions and matrix products on a GPU. What crosses it can be recorded, the kernels that
//! tuning has chosen for it can be set aside, and sums of 16 bits can be taken in 32.
//!
//! Nothing crosses the border unless something is [recorded](record), [set aside](set_aside) or [widened](widen): the networks then call burn
//! directly, as they do on every other backend. Either way the same functions of burn compute the same kernels.

mod backend;
mod crossing;
#[cfg(feature = "planted-faults")]
pub mod fault;
mod operation;
mod state;
mod untuned;

use std::collections::BTreeSet;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};

use backend::BorderOps;
use operation::ConvolutionOptions;
pub use operation::{Convolution, Format, Kind, Layout, Operation, Pass, Product};
use state::change;

/// Does work and gives the operations that crossed the border meanwhile, each once, with what the work returned. The work must wait for the
/// device before it returns: operations are recorded when they are sent to it.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<Operation>) {
    /// Ends the recording, even if the work panics.
    struct Recording;
    impl Drop for Recording {
        fn drop(&mut self) {
            change(|state| state.recorded = None);
        }
    }
    change(|state| state.recorded = Some(BTreeSet::new()));
    let recording = Recording;
    let result = work();
    let recorded = change(|state| state.recorded.take()).unwrap_or_default();
    drop(recording);
    (result, recorded)
}

/// From now on this operation is computed by the kernel that needs no tuning, in whatever layout its operands come.
pub fn set_aside(kind: Kind, format: Format) {
    change(|state| state.set_aside.insert((kind, format)));
}

/// From now on all operations at the border are computed by kernels that need no tuning.
pub fn set_all_aside() {
    change(|state| state.all_set_aside = true);
}

/// From now on this operation is computed in `f32` where its operands are `f16`, and its result rounded to `f16`.
pub fn widen(kind: Kind) {
    change(|state| state.widened.insert(kind));
}

/// The opposite of [`set_aside`], [`set_all_aside`] and [`widen`].
pub fn reset() {
    change(|state| {
        state.all_set_aside = false;
        state.set_aside.clear();
        state.widened.clear();
    });
}

/// Whether the operations on this tensor cross the border.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    state::is_in_use()
        && matches!(x.dtype(), DType::F32 | DType::F16)
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// A convolution that crosses the border, with a gradient.
///
/// # Shapes
/// - `x`: `[batch, in, height, width]`
/// - `weight`: `[out, in / groups, kernel height, kernel width]`
/// - `bias`: `[out]`
pub(crate) fn convolution(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    groups: usize,
) -> Tensor<4> {
    let ([.., height, width], [.., kernel_height, kernel_width]) = (x.dims(), weight.dims());
    let options =
        ConvolutionOptions { stride, groups, kernel_size: [kernel_height, kernel_width], image_size: [height, width] };
    forward(x, weight, bias, options)
}

fn forward(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvolutionOptions) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::ghostnet_convolve_with_bias(x, weight, bias.into_dispatch(), options),
        None => Dispatch::ghostnet_convolve(x, weight, options),
    })
}

/// A product that crosses the border, with a gradient.
pub(crate) fn product(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::ghostnet_multiply(lhs.into_dispatch(), rhs.into_dispatch()))
}

/// Computes an operation on a GPU, across the border.
///
/// # Shapes
/// - `operands`: those of [`Convolution::operand_shapes`]
/// - `bias`: `[out]`, where the convolution has one
/// - output: `[batch, channels, height, width]`, or the shape of the weight
pub fn compute(convolution: &Convolution, operands: [Tensor<4>; 2], bias: Option<Tensor<1>>) -> Tensor<4> {
    let options = convolution.options();
    let [first, second] = operands;
    if convolution.pass == Pass::Forward {
        return forward(first, second, bias, options);
    }
    let (first, second) = (first.into_dispatch(), second.into_dispatch());
    Tensor::from_dispatch(match convolution.pass {
        Pass::Forward | Pass::InputGradient => Dispatch::ghostnet_convolve_input_gradient(first, second, options),
        Pass::WeightGradient => Dispatch::ghostnet_convolve_weight_gradient(first, second, options),
    })
}

/// Computes a product on a GPU, across the border.
pub fn multiply(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    product(lhs, rhs)
}

//! The border between the networks and burn's own convolutions and matrix products on a GPU: what crosses it can be recorded, and the
//! kernels that tuning has chosen for it can be set aside, and sums of 16 bits taken in 32.
//!
//! Nothing crosses the border unless something is [recorded](record), [set aside](set_aside) or [widened](widen): the networks then call burn directly, as they
//! do on every other backend. Either way the same functions of burn compute the same kernels.

#[cfg(feature = "planted-faults")]
pub mod fault;
mod operation;
mod untuned;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use operation::{BorderOps, ConvolutionOptions};

/// The number format of an operation's operands and result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl Format {
    fn of(format: DType) -> Self {
        if format == DType::F16 { Self::F16 } else { Self::F32 }
    }

    /// As burn calls it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// Which of the three computations of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The output, from the input and the weight.
    Forward,
    /// The gradient of the input, from the gradient of the output and the weight.
    InputGradient,
    /// The gradient of the weight, from the input and the gradient of the output.
    WeightGradient,
}

impl fmt::Display for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        })
    }
}

/// How the axes of an operand lie in memory, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[batch, channels, height, width]`, or the rows of a matrix, one after the other.
    RowsFirst,
    /// `[batch, height, width, channels]`, or the columns of a matrix.
    ChannelsLast,
    /// Any other: a part of a larger tensor, for example.
    Other,
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RowsFirst => "rows first",
            Self::ChannelsLast => "channels last",
            Self::Other => "other",
        })
    }
}

/// One computation of a convolution with square strides, padded by half of its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// In and out.
    pub channels: [usize; 2],
    /// Height and width of the input, pixels.
    pub image_size: [usize; 2],
    /// Height and width.
    pub kernel_size: [usize; 2],
    /// In both directions.
    pub stride: usize,
    /// The input's channels are split into so many groups.
    pub groups: usize,
    /// Whether a bias is added to the output; gradients have none.
    pub has_bias: bool,
    /// Which computation.
    pub pass: Pass,
}

impl Convolution {
    /// Height and width of the output, pixels.
    pub fn out_size(&self) -> [usize; 2] {
        // An odd kernel that is padded by half of it.
        self.image_size.map(|side| (side - 1) / self.stride + 1)
    }

    /// Of the input, `[batch, channels, height, width]`.
    pub fn input_shape(&self) -> [usize; 4] {
        let ([channels, _], [height, width]) = (self.channels, self.image_size);
        [self.batch, channels, height, width]
    }

    /// Of the output, `[batch, channels, height, width]`.
    pub fn output_shape(&self) -> [usize; 4] {
        let ([_, channels], [height, width]) = (self.channels, self.out_size());
        [self.batch, channels, height, width]
    }

    /// Of the weight, `[out, in / groups, kernel height, kernel width]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        let ([in_channels, out_channels], [height, width]) = (self.channels, self.kernel_size);
        [out_channels, in_channels / self.groups, height, width]
    }

    /// Of the two operands, in the order of [`Pass`]'s description.
    pub fn operand_shapes(&self) -> [[usize; 4]; 2] {
        match self.pass {
            Pass::Forward => [self.input_shape(), self.weight_shape()],
            Pass::InputGradient => [self.output_shape(), self.weight_shape()],
            Pass::WeightGradient => [self.input_shape(), self.output_shape()],
        }
    }

    fn options(&self) -> ConvolutionOptions {
        ConvolutionOptions {
            stride: self.stride,
            groups: self.groups,
            kernel_size: self.kernel_size,
            image_size: self.image_size,
        }
    }
}

impl fmt::Display for Convolution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, channels: [from, to], image_size, kernel_size, stride, groups, has_bias, pass } = self;
        let ([height, width], [kernel_height, kernel_width]) = (image_size, kernel_size);
        let depthwise = if groups == from { "depthwise " } else { "" };
        write!(
            formatter,
            "{depthwise}{kernel_height}×{kernel_width} convolution, {from} to {to} channels, {height}×{width} pixels, stride {stride}, \
             batch {batch}, {pass}{}",
            if *has_bias { " with bias" } else { "" }
        )?;
        if *groups > 1 && groups != from { write!(formatter, ", {groups} groups") } else { Ok(()) }
    }
}

/// A product of two matrices, `[rows, inner]` times `[inner, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Product {
    /// Of the first matrix.
    pub rows: usize,
    /// What is summed over.
    pub inner: usize,
    /// Of the second matrix.
    pub columns: usize,
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, inner, columns } = self;
        write!(formatter, "product of matrices, {rows}×{inner} by {inner}×{columns}")
    }
}

/// What crosses the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A convolution.
    Convolution(Convolution),
    /// A matrix product.
    Product(Product),
}

/// One operation as it crosses the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Operation {
    /// What is computed.
    pub kind: Kind,
    /// In which numbers.
    pub format: Format,
    /// How its two operands lie in memory.
    pub layouts: [Layout; 2],
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, format, layouts: [first, second] } = self;
        match kind {
            Kind::Convolution(convolution) => convolution.fmt(formatter)?,
            Kind::Product(product) => product.fmt(formatter)?,
        }
        write!(formatter, ", {format}, operands {first} and {second}")
    }
}

/// What is known of the border; one for the whole program, as burn's tuning is.
struct State {
    recorded: Option<BTreeSet<Operation>>,
    set_aside: BTreeSet<(Kind, Format)>,
    all_set_aside: bool,
    widened: BTreeSet<Kind>,
}

static STATE: Mutex<State> =
    Mutex::new(State { recorded: None, set_aside: BTreeSet::new(), all_set_aside: false, widened: BTreeSet::new() });

/// Whether the networks' operations cross the border rather than call burn directly.
static IN_USE: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(has_planted_faults()));

/// Whether there are faults at the border, for which everything must cross it.
fn has_planted_faults() -> bool {
    #[cfg(feature = "planted-faults")]
    return fault::is_planted();
    #[cfg(not(feature = "planted-faults"))]
    false
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the state, and keeps [`IN_USE`] true to it.
fn change<T>(change: impl FnOnce(&mut State) -> T) -> T {
    let mut state = state();
    let result = change(&mut state);
    let is_changed = state.all_set_aside || !state.set_aside.is_empty() || !state.widened.is_empty();
    let in_use = state.recorded.is_some() || is_changed;
    IN_USE.store(in_use || has_planted_faults(), Ordering::SeqCst);
    result
}

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
    let recorded = state().recorded.clone().unwrap_or_default();
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
    IN_USE.load(Ordering::SeqCst)
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

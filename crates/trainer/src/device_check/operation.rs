//! One operation of a network, as it crosses the border to burn, against what it must give.

use burn::tensor::{DType, Device, Tensor, TensorData};
use ghostnet_kernels::gpu::border::{self, Format, Kind, Layout, Operation};
use serde::{Deserialize, Serialize};

use super::exact::{Difference, Matrices, Numbers, Operand, Operands};
use super::training_pass::finite;

/// What was found about an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationResult {
    /// The operation.
    pub operation: Operation,
    /// The same for people.
    pub description: String,
    /// The length of the error, as a share of that of the result; the larger one of two draws.
    pub error: f64,
    /// The largest error of sums over the channels of a group, in root mean squares of such sums; the larger one of two draws.
    pub largest_error: f64,
    /// What is wrong, if anything is.
    pub fault: Option<String>,
}

/// How far an operation may be from what it must give.
struct Tolerance {
    /// The length of the error, as a share of that of the result.
    error: f64,
    /// The largest error, in root mean squares of the result.
    largest_error: f64,
    /// The largest error where sums of coarse numbers are exact.
    exact: Option<f64>,
    /// Steps from zero to one of fine numbers that the format holds exactly.
    fine_steps: u64,
}

/// Sums of `f32` are off by 2·10⁻⁵ of their length after a million terms, and by 3·10⁻⁴ where products are rounded to the ten bits of TF32,
/// as PyTorch allows. A product of coarse numbers is 2⁻¹² at least, so that half of that tells a missing term from none.
///
/// A result in `f16` is rounded by 2·10⁻⁴ of its length. Kernels that also sum in `f16` are off by 6·10⁻³ after a thousand terms, which is what
/// 8-bit mantissas (bf16) cost, and by a tenth after a hundred thousand, which hides small gradients.
fn tolerance(format: Format) -> Tolerance {
    match format {
        Format::F32 => Tolerance { error: 1e-3, largest_error: 8e-3, exact: Some(1.0 / 8192.0), fine_steps: 1 << 20 },
        Format::F16 => Tolerance { error: 1e-2, largest_error: 8e-2, exact: None, fine_steps: 1 << 10 },
    }
}

/// An operand on the device, laid out as the network's was.
fn tensor(operand: &Operand, layout: Layout, format: Format, device: &Device) -> Tensor<4> {
    let [batch, channels, height, width] = operand.shape;
    let options = || (device, format.dtype());
    match layout {
        Layout::ChannelsLast => {
            let data = TensorData::new(operand.channels_last(), [batch, height, width, channels]);
            Tensor::<4>::from_data(data, options()).permute([0, 3, 1, 2])
        }
        Layout::RowsFirst | Layout::Other => {
            Tensor::from_data(TensorData::new(operand.rows_first(), operand.shape), options())
        }
    }
}

fn matrix(operand: &Operand, layout: Layout, format: Format, device: &Device) -> Tensor<2> {
    let [_, _, rows, columns] = operand.shape;
    let options = || (device, format.dtype());
    match layout {
        Layout::ChannelsLast => {
            Tensor::<2>::from_data(TensorData::new(operand.transposed(), [columns, rows]), options()).transpose()
        }
        Layout::RowsFirst | Layout::Other => {
            Tensor::from_data(TensorData::new(operand.rows_first(), [rows, columns]), options())
        }
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_dtype(DType::F32).iter::<f32>().collect()
}

/// Computes the operation on the device with drawn numbers, and compares all of the result.
fn difference(operation: &Operation, device: &Device, seed: u64, numbers: Numbers) -> Difference {
    let Operation { kind, format, layouts: [first, second] } = *operation;
    match kind {
        Kind::Convolution(convolution) => {
            let drawn = Operands::draw(convolution, seed, numbers);
            let [a, b] = &drawn.operands;
            let operands = [tensor(a, first, format, device), tensor(b, second, format, device)];
            let bias = drawn.bias.clone().map(|bias| {
                let length = bias.len();
                Tensor::<1>::from_data(TensorData::new(bias, [length]), (device, format.dtype()))
            });
            drawn.compare(&values(border::compute(&convolution, operands, bias)))
        }
        Kind::Product(product) => {
            let drawn = Matrices::draw(product, seed, numbers);
            let [a, b] = &drawn.matrices;
            let operands = [matrix(a, first, format, device), matrix(b, second, format, device)];
            let [lhs, rhs] = operands;
            drawn.compare(&values(border::multiply(lhs, rhs)))
        }
    }
}

/// Checks an operation on a GPU with two draws of numbers: fine ones, whose error is that of the arithmetic, and coarse ones, whose sums are exact in
/// `f32`. The second draw also shows a result that was left from the first.
pub fn check_operation(operation: &Operation, device: &Device, seed: u64) -> OperationResult {
    let Tolerance { error, largest_error, exact, fine_steps } = tolerance(operation.format);
    let terms = match &operation.kind {
        Kind::Convolution(convolution) => Operands::root_of_squared_terms(convolution),
        Kind::Product(product) => Matrices::root_of_squared_terms(product),
    };
    let fine = difference(operation, device, seed, Numbers::Fine { steps: fine_steps });
    let coarse = difference(operation, device, seed.wrapping_add(100), Numbers::coarse(terms));
    let fault_of = |difference: &Difference, exact: Option<f64>| {
        let Difference { share, largest, absolute, place, is_finite, .. } = difference;
        if !is_finite {
            Some(format!("a value is not finite, {place}"))
        } else if exact.is_some_and(|exact| *absolute > exact) {
            Some(format!("sums that 32 bits hold exactly are off by up to {absolute:.2e}, {place}"))
        } else if *largest > largest_error {
            Some(format!(
                "an error of {largest:.1e} times the typical value, where {largest_error:.0e} is rounding, {place}"
            ))
        } else if *share > error {
            Some(format!("an error of {share:.1e} of the result, where {error:.0e} is rounding"))
        } else {
            None
        }
    };
    OperationResult {
        operation: *operation,
        description: operation.to_string(),
        error: finite(fine.share.max(coarse.share)),
        largest_error: finite(fine.largest.max(coarse.largest)),
        fault: fault_of(&coarse, exact).or_else(|| fault_of(&fine, None)),
    }
}

//! The operations of the border on the GPU backend: burn's own functions, by the kernels that burn chooses or by those that need no tuning.

use std::fmt::Debug;

use burn::backend::ops::FloatTensorOps;
use burn::backend::{DType, TensorMetadata};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_data_backward, conv_forward, conv_weight_backward};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

use super::backend::BorderOps;
use super::operation::{ConvolutionOptions, Format, Kind, Layout, Operation, Pass, Product};
use super::state::change;
use super::untuned;

/// The layout of a tensor of four axes, or of a matrix. An axis of the size one lies anywhere.
fn layout(tensor: &CubeTensor) -> Layout {
    let (shape, strides) = (tensor.shape(), tensor.meta.strides());
    let is_dense = |order: &[usize]| {
        let mut expected = 1;
        order.iter().rev().all(|&axis| {
            let fits = shape[axis] == 1 || strides[axis] == expected;
            expected *= shape[axis];
            fits
        })
    };
    let (rows_first, channels_last): (&[usize], &[usize]) =
        if shape.num_dims() == 4 { (&[0, 1, 2, 3], &[0, 2, 3, 1]) } else { (&[0, 1], &[1, 0]) };
    if is_dense(rows_first) {
        Layout::RowsFirst
    } else if is_dense(channels_last) {
        Layout::ChannelsLast
    } else {
        Layout::Other
    }
}

/// Which kernels compute an operation.
#[derive(Clone, Copy)]
enum Kernels {
    /// Those that burn chooses, by their time if it is built to tune.
    Chosen,
    /// Those that need no tuning.
    Untuned,
}

/// Why burn cannot launch a kernel.
fn described(error: impl Debug) -> String {
    format!("{error:?}")
}

/// Computes an operation: records it if operations are recorded, in `f32` if it is widened, and with kernels that need no tuning if the
/// tuned one has been set aside. What burn cannot launch panics, as in burn itself.
fn crossing(
    kind: Kind,
    operands: [CubeTensor; 2],
    compute: impl FnOnce([CubeTensor; 2], Kernels) -> Result<CubeTensor, String>,
) -> CubeTensor {
    let dtype = operands[0].dtype;
    let [first, second] = &operands;
    let operation = Operation { kind, format: Format::of(dtype), layouts: [layout(first), layout(second)] };
    let (is_widened, kernels) = change(|state| {
        if let Some(recorded) = &mut state.recorded {
            recorded.insert(operation);
        }
        let is_widened = operation.format == Format::F16 && state.widened.contains(&kind);
        let format = if is_widened { Format::F32 } else { operation.format };
        let is_untuned = state.all_set_aside || state.set_aside.contains(&(kind, format));
        (is_widened, if is_untuned { Kernels::Untuned } else { Kernels::Chosen })
    });
    let operands = if is_widened { operands.map(|operand| cast(operand, DType::F32)) } else { operands };
    let result =
        compute(operands, kernels).unwrap_or_else(|error| panic!("burn has no kernel for {operation}: {error}"));
    #[cfg(feature = "planted-faults")]
    let result = {
        let is_wide = is_widened || operation.format == Format::F32;
        let is_tuned = matches!(kernels, Kernels::Chosen);
        super::fault::planted(result, &super::fault::Circumstances { operation, is_wide, is_tuned })
    };
    if is_widened { cast(result, dtype) } else { result }
}

fn multiplied(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    let ([rows, inner], [_, columns]) = (lhs.shape().dims(), rhs.shape().dims());
    crossing(Kind::Product(Product { rows, inner, columns }), [lhs, rhs], |[lhs, rhs], kernels| match kernels {
        Kernels::Chosen => {
            let format = lhs.dtype;
            matmul(lhs, rhs, None, MatmulStrategy::default(), format).map_err(described)
        }
        Kernels::Untuned => untuned::product(lhs, rhs).map_err(described),
    })
}

fn convolved(x: CubeTensor, weight: CubeTensor, bias: Option<CubeTensor>, options: ConvolutionOptions) -> CubeTensor {
    let ([batch, from, ..], [to, ..]) = (x.shape().dims::<4>(), weight.shape().dims::<4>());
    let convolution = options.convolution(batch, [from, to], bias.is_some(), Pass::Forward);
    crossing(Kind::Convolution(convolution), [x, weight], |[x, weight], kernels| {
        let bias = bias.map(|bias| if bias.dtype == x.dtype { bias } else { cast(bias, x.dtype) });
        match kernels {
            Kernels::Chosen => {
                conv_forward::<2>(x, weight, bias, options.to_burn(), ConvStrategy::default()).map_err(described)
            }
            Kernels::Untuned => untuned::convolution(x, weight, bias, options).map_err(described),
        }
    })
}

impl BorderOps for CubeBackend {
    fn ghostnet_convolve(x: CubeTensor, weight: CubeTensor, options: ConvolutionOptions) -> CubeTensor {
        convolved(x, weight, None, options)
    }

    fn ghostnet_convolve_with_bias(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        options: ConvolutionOptions,
    ) -> CubeTensor {
        convolved(x, weight, Some(bias), options)
    }

    fn ghostnet_convolve_input_gradient(dy: CubeTensor, weight: CubeTensor, options: ConvolutionOptions) -> CubeTensor {
        let ([batch, to, ..], [_, per_group, ..]) = (dy.shape().dims::<4>(), weight.shape().dims::<4>());
        let convolution = options.convolution(batch, [per_group * options.groups, to], false, Pass::InputGradient);
        let shape = convolution.input_shape().into();
        crossing(Kind::Convolution(convolution), [dy, weight], |[dy, weight], kernels| match kernels {
            Kernels::Chosen => conv_data_backward::<2>(dy, weight, shape, options.to_burn(), ConvStrategy::default())
                .map_err(described),
            Kernels::Untuned => untuned::input_gradient(dy, weight, options).map_err(described),
        })
    }

    fn ghostnet_convolve_weight_gradient(x: CubeTensor, dy: CubeTensor, options: ConvolutionOptions) -> CubeTensor {
        let ([batch, from, ..], [_, to, ..]) = (x.shape().dims::<4>(), dy.shape().dims::<4>());
        let convolution = options.convolution(batch, [from, to], false, Pass::WeightGradient);
        let shape = convolution.weight_shape().into();
        crossing(Kind::Convolution(convolution), [x, dy], |[x, dy], kernels| match kernels {
            Kernels::Chosen => {
                conv_weight_backward::<2>(x, dy, shape, options.to_burn(), ConvStrategy::default()).map_err(described)
            }
            Kernels::Untuned => untuned::weight_gradient(x, dy, options).map_err(described),
        })
    }

    fn ghostnet_multiply(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        multiplied(lhs, rhs)
    }

    fn ghostnet_multiply_first_transposed(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        multiplied(Self::float_swap_dims(lhs, 0, 1), rhs)
    }

    fn ghostnet_multiply_second_transposed(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        multiplied(lhs, Self::float_swap_dims(rhs, 0, 1))
    }
}

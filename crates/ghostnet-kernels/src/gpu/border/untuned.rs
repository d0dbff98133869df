//! Convolutions and products by one kernel that needs no tuning: burn's direct convolution, and its transposed form for gradients of inputs.
//!
//! What burn itself does where it is told not to tune still tunes in part: its gradients are made of other operations, which choose their
//! kernels by time (`burn-cubecl` 0.22.1, `kernel/conv/backward_data/fallback.rs` and `backward_weight/fallback.rs`), and its matrix product
//! begins with cooperative matrices. So gradients and products are put in terms of direct convolutions here.

use std::fmt::Debug;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Slice;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::conv::{ConvStrategy, ConvTranspose2dStrategy, conv_forward, conv_transpose2d};
use burn_cubecl::tensor::CubeTensor;

use super::operation::ConvolutionOptions;

/// The output of a convolution, `[batch, out, height, width]`.
pub(super) fn convolution(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    options: ConvolutionOptions,
) -> Result<CubeTensor, impl Debug> {
    conv_forward::<2>(x, weight, bias, options.to_burn(), ConvStrategy::Direct)
}

/// The gradient of the input, `[batch, in, height, width]`: a transposed convolution.
pub(super) fn input_gradient(
    dy: CubeTensor,
    weight: CubeTensor,
    options: ConvolutionOptions,
) -> Result<CubeTensor, impl Debug> {
    let ConvolutionOptions { stride, groups, kernel_size, image_size } = options;
    let out_size = options.out_size();
    // Rows and columns of the input behind the last tap of the last output.
    let behind = [0, 1].map(|axis| image_size[axis] - 1 - (out_size[axis] - 1) * stride);
    let padding = kernel_size.map(|side| side / 2);
    let options = ConvTransposeOptions::new([stride; 2], padding, behind, [1, 1], groups);
    conv_transpose2d(dy, weight, None, options, ConvTranspose2dStrategy::Direct)
}

/// The gradient of the weight, `[out, in / groups, kernel height, kernel width]`: a convolution of the input with the gradient of the output as
/// its weight. What was the batch is summed over, so it takes the place of channels; the channels of a group become the batch; stride and
/// dilation change places, because the taps of the gradient are a stride apart.
pub(super) fn weight_gradient(
    x: CubeTensor,
    dy: CubeTensor,
    options: ConvolutionOptions,
) -> Result<CubeTensor, impl Debug> {
    let ConvolutionOptions { stride, groups, kernel_size: [rows, columns], .. } = options;
    let ([batch, channels, height, width], [_, out, ..]) = (x.shape().dims(), dy.shape().dims::<4>());
    let in_group = channels / groups;
    let x = CubeBackend::float_reshape(x, [batch, groups, in_group, height, width].into());
    let x = CubeBackend::float_permute(x, &[2, 1, 0, 3, 4]);
    let x = CubeBackend::float_reshape(x, [in_group, groups * batch, height, width].into());
    let dy = CubeBackend::float_swap_dims(dy, 0, 1);
    let options = ConvOptions::new([1, 1], [rows / 2, columns / 2], [stride; 2], groups);
    // Where the stride does not divide the input, there is room for more taps than the kernel has.
    let taps = [0..out, 0..in_group, 0..rows, 0..columns].map(Slice::from);
    let gradient = conv_forward::<2>(x, dy, None, options, ConvStrategy::Direct);
    gradient.map(|gradient| CubeBackend::float_slice(CubeBackend::float_swap_dims(gradient, 0, 1), &taps))
}

/// The product of two matrices, `[rows, columns]`: a convolution of images of one pixel.
pub(super) fn product(lhs: CubeTensor, rhs: CubeTensor) -> Result<CubeTensor, impl Debug> {
    let ([rows, inner], [_, columns]) = (lhs.shape().dims(), rhs.shape().dims::<2>());
    let x = CubeBackend::float_reshape(lhs, [rows, inner, 1, 1].into());
    let weight = CubeBackend::float_reshape(CubeBackend::float_swap_dims(rhs, 0, 1), [columns, inner, 1, 1].into());
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let product = conv_forward::<2>(x, weight, None, options, ConvStrategy::Direct);
    product.map(|product| CubeBackend::float_reshape(product, [rows, columns].into()))
}

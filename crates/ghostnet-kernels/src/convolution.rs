//! burn's own convolution and matrix product, as the networks call them: directly, or on a GPU across its border.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

/// A convolution that is padded by half of its kernel.
///
/// # Shapes
/// - `x`: `[batch, in, height, width]`
/// - `weight`: `[out, in / groups, kernel height, kernel width]`
/// - `bias`: `[out]`
/// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`
pub(crate) fn convolution(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    groups: usize,
) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::gpu::border::takes(&x) {
        return crate::gpu::border::convolution(x, weight, bias, stride, groups);
    }
    let [.., height, width] = weight.dims();
    conv2d(x, weight, bias, ConvOptions::new([stride; 2], [height / 2, width / 2], [1, 1], groups))
}

/// # Shapes
/// - `lhs`: `[rows, inner]`
/// - `rhs`: `[inner, columns]`
/// - output: `[rows, columns]`
pub(crate) fn product(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if crate::gpu::border::takes(&lhs) {
        return crate::gpu::border::product(lhs, rhs);
    }
    lhs.matmul(rhs)
}

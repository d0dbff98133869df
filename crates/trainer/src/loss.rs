//! Targets and the loss. Targets are always soft, a row of class probabilities for each image: label smoothing, Mixup and
//! CutMix then need no cases of their own.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// One-hot rows, smoothed: the class gets `1 − smoothing + smoothing / num_classes`, every other `smoothing / num_classes`.
/// The rule of PyTorch's `label_smoothing` and of timm's Mixup.
pub fn one_hot(labels: &[usize], num_classes: usize, label_smoothing: f64, device: &Device) -> Tensor<2> {
    let off = (label_smoothing / num_classes as f64) as f32;
    let on = (1.0 - label_smoothing + label_smoothing / num_classes as f64) as f32;
    let mut rows = vec![off; labels.len() * num_classes];
    for (row, &label) in rows.chunks_exact_mut(num_classes).zip(labels) {
        row[label] = on;
    }
    Tensor::from_data(TensorData::new(rows, [labels.len(), num_classes]), device)
}

/// Mean over the batch of `−Σ targets · log softmax(logits)`.
///
/// # Shapes
/// - `logits`, `targets`: `[batch, num_classes]`; rows of `targets` sum to one
/// - output: `[1]`
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (log_softmax(logits, 1) * targets).sum_dim(1).mean().neg()
}

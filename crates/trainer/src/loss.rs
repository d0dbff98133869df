//! Targets and the loss. Targets are always soft, a row of class probabilities for each image: label smoothing, Mixup and
//! CutMix then need no cases of their own.

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor, TensorData};

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// Of the classes as alternatives.
    #[default]
    CrossEntropy,
    /// Of every class as a question of its own, as in arXiv:2110.00476.
    BinaryCrossEntropy {
        /// Targets above it count as one, the others as zero; as they are without it.
        threshold: Option<f64>,
        /// Add up the classes rather than average over them.
        sum_classes: bool,
    },
}

impl Loss {
    /// # Shapes
    /// - `logits`, `targets`: `[batch, num_classes]`
    /// - output: `[1]`
    pub fn of(self, logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        match self {
            Self::CrossEntropy => soft_cross_entropy(logits, targets),
            Self::BinaryCrossEntropy { threshold, sum_classes } => {
                let targets = match threshold {
                    Some(threshold) => targets.greater_scalar(threshold).float(),
                    None => targets,
                };
                let losses = binary_cross_entropy(logits, targets);
                if sum_classes { losses.sum_dim(1).mean() } else { losses.mean() }
            }
        }
    }
}

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

/// `−t · log σ(x) − (1 − t) · log(1 − σ(x))`, in a form that no logit makes infinite.
///
/// # Shapes
/// - all: `[batch, num_classes]`
fn binary_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
    let tail = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()) - logits * targets + tail
}

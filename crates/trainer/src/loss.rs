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
                mean(if sum_classes { losses.sum_dim(1) } else { losses.mean_dim(1) })
            }
        }
    }
}

/// How the labels and a teacher share in the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation {
    /// Scores of both networks are divided by it.
    pub temperature: f64,
    /// Weight of the teacher's part.
    pub weight: f64,
    /// Weight of the labels' part.
    pub task_weight: f64,
}

impl Default for Distillation {
    /// As timm's.
    fn default() -> Self {
        Self { temperature: 1.0, weight: 1.0, task_weight: 1.0 }
    }
}

impl Distillation {
    /// The loss of the labels with that of the teacher added.
    ///
    /// # Shapes
    /// - `of_labels`, output: `[1]`
    /// - `logits`, `teacher`: `[batch, num_classes]`
    pub fn add(self, of_labels: Tensor<1>, logits: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        of_labels.mul_scalar(self.task_weight) + self.of_teacher(logits, teacher).mul_scalar(self.weight)
    }

    /// `T² · Σ p · (log p − log q)`, averaged over the batch, with `p` the teacher's probabilities and `q` the network's, both at
    /// the temperature `T`: the square keeps the gradients' size.
    ///
    /// # Shapes
    /// - `logits`, `teacher`: `[batch, num_classes]`
    /// - output: `[1]`
    pub fn of_teacher(self, logits: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let own = log_softmax(logits.div_scalar(self.temperature), 1);
        let wanted = log_softmax(teacher.div_scalar(self.temperature), 1);
        let divergence = mean((wanted.clone().exp() * (wanted - own)).sum_dim(1));
        divergence.mul_scalar(self.temperature * self.temperature)
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

/// Rows with a one for each label, smoothed as questions of their own: `1 − smoothing / 2` for a label, `smoothing / 2` for any other
/// class (the rule of Keras's `BinaryCrossentropy`).
pub fn many_hot(label_sets: &[Vec<usize>], num_classes: usize, label_smoothing: f64, device: &Device) -> Tensor<2> {
    let off = (label_smoothing / 2.0) as f32;
    let mut rows = vec![off; label_sets.len() * num_classes];
    for (row, labels) in rows.chunks_exact_mut(num_classes).zip(label_sets) {
        labels.iter().for_each(|&label| row[label] = 1.0 - off);
    }
    Tensor::from_data(TensorData::new(rows, [label_sets.len(), num_classes]), device)
}

/// Mean over the batch of `−Σ targets · log softmax(logits)`.
///
/// # Shapes
/// - `logits`, `targets`: `[batch, num_classes]`; rows of `targets` sum to one, but for the weights of their classes
/// - output: `[1]`
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    mean((log_softmax(logits, 1) * targets).sum_dim(1)).neg()
}

/// The mean of a column, `[batch, 1]`, as `[1]`. burn's mean of a whole tensor is not the same every time on a GPU, where groups of
/// threads add theirs as they come; that of a dimension is.
fn mean(column: Tensor<2>) -> Tensor<1> {
    column.mean_dim(0).reshape([1])
}

/// `−t · log σ(x) − (1 − t) · log(1 − σ(x))`, in a form that no logit makes infinite.
///
/// # Shapes
/// - all: `[batch, num_classes]`
fn binary_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
    let tail = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()) - logits * targets + tail
}

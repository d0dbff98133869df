//! Optimizer updates of one parameter: several passes over memory in a tensor library, one pass here.

use burn::tensor::{Tensor, TensorData};

use crate::reference::Reference;

/// An update of `torch.optim.SGD` with dampening 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Share of the previous direction.
    pub momentum: f64,
    /// Look ahead along the new direction.
    pub nesterov: bool,
    /// Times the value, added to the gradient.
    pub weight_decay: f64,
    /// Of this update.
    pub learning_rate: f64,
}

/// An update of `torch.optim.AdamW`: weight decay apart from the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub epsilon: f64,
    /// Times the learning rate, the share of the value that is taken away.
    pub weight_decay: f64,
    /// Of this update.
    pub learning_rate: f64,
    /// Number of this update, from 1.
    pub step: u64,
}

/// An update of timm's `RMSpropTF`, TensorFlow's RMSprop: unlike PyTorch's, the average of squares starts at one, `epsilon` is
/// inside the root, and the learning rate goes into the momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmspropTf {
    /// Decay of the average of squares.
    pub alpha: f64,
    /// Added to the average of squares before the root.
    pub epsilon: f64,
    /// Share of the previous direction.
    pub momentum: f64,
    /// Times the value, added to the gradient.
    pub weight_decay: f64,
    /// Of this update.
    pub learning_rate: f64,
}

/// An update of Lion, arXiv:2302.06675: the sign of an average of gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Share of the average in the direction, and decay of the average.
    pub betas: [f64; 2],
    /// Times the learning rate, the share of the value that is taken away.
    pub weight_decay: f64,
    /// Of this update.
    pub learning_rate: f64,
}

impl RmspropTf {
    /// The new value, and the new average of squares and direction.
    ///
    /// # Shapes
    /// - all: `[elements]`, outside autodiff
    pub fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Option<[Tensor<1>; 2]>,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        if crate::cpu::is_supported(&value) {
            return crate::cpu::rmsprop_tf(self, value, gradient, state);
        }
        Reference.rmsprop_tf(self, value, gradient, state)
    }
}

impl Lion {
    /// The new value and the new average of gradients, which starts at zero.
    ///
    /// # Shapes
    /// - all: `[elements]`, outside autodiff
    pub fn update(&self, value: Tensor<1>, gradient: Tensor<1>, average: Option<Tensor<1>>) -> (Tensor<1>, Tensor<1>) {
        if crate::cpu::is_supported(&value) {
            return crate::cpu::lion(self, value, gradient, average);
        }
        Reference.lion(self, value, gradient, average)
    }
}

impl Sgd {
    /// The new value and the new buffer of the momentum, if there is one.
    ///
    /// # Shapes
    /// - all: `[elements]`, outside autodiff
    pub fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        buffer: Option<Tensor<1>>,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        if crate::cpu::is_supported(&value) {
            return crate::cpu::sgd(self, value, gradient, buffer);
        }
        Reference.sgd(self, value, gradient, buffer)
    }
}

impl AdamW {
    /// The new value and the new averages of the gradient and of its square, which start at zero.
    ///
    /// # Shapes
    /// - all: `[elements]`, outside autodiff
    pub fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        averages: Option<[Tensor<1>; 2]>,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        if crate::cpu::is_supported(&value) {
            return crate::cpu::adamw(self, value, gradient, averages);
        }
        Reference.adamw(self, value, gradient, averages)
    }
}

/// The norm of all gradients together. Waits for the device.
///
/// # Shapes
/// - `gradients`: `[elements]` each
pub fn global_norm(gradients: &[Tensor<1>]) -> f64 {
    if gradients.iter().all(crate::cpu::is_supported) {
        return crate::cpu::global_norm(gradients);
    }
    Reference.global_norm(gradients)
}

/// The same where the gradients are, for nobody to wait for: `[1]`; `None` if there are none.
///
/// # Shapes
/// - `gradients`: `[elements]` each
pub fn global_norm_on_device(gradients: &[Tensor<1>]) -> Option<Tensor<1>> {
    let device = gradients.first()?.device();
    if gradients.iter().all(crate::cpu::is_supported) {
        let norm = crate::cpu::global_norm(gradients) as f32;
        return Some(Tensor::from_data(TensorData::from([norm]), &device));
    }
    Reference.global_norm_on_device(gradients)
}

impl Reference {
    /// See [`Sgd::update`].
    pub fn sgd(
        self,
        rule: &Sgd,
        value: Tensor<1>,
        gradient: Tensor<1>,
        buffer: Option<Tensor<1>>,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        let &Sgd { momentum, nesterov, weight_decay, learning_rate } = rule;
        let gradient = if weight_decay > 0.0 { gradient + value.clone().mul_scalar(weight_decay) } else { gradient };
        if momentum <= 0.0 {
            return (value - gradient.mul_scalar(learning_rate), None);
        }
        // The first buffer is the gradient itself, not a share of it.
        let buffer = match buffer {
            Some(buffer) => buffer.mul_scalar(momentum) + gradient.clone(),
            None => gradient.clone(),
        };
        let direction = if nesterov { gradient + buffer.clone().mul_scalar(momentum) } else { buffer.clone() };
        (value - direction.mul_scalar(learning_rate), Some(buffer))
    }

    /// See [`AdamW::update`].
    pub fn adamw(
        self,
        rule: &AdamW,
        value: Tensor<1>,
        gradient: Tensor<1>,
        averages: Option<[Tensor<1>; 2]>,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let &AdamW { betas, epsilon, weight_decay, learning_rate, step } = rule;
        let value = if weight_decay > 0.0 { value.mul_scalar(1.0 - learning_rate * weight_decay) } else { value };
        let new =
            [gradient.clone().mul_scalar(1.0 - betas[0]), (gradient.clone() * gradient).mul_scalar(1.0 - betas[1])];
        let [first, second] = match (averages, new) {
            (Some([first, second]), [new_first, new_second]) => {
                [first.mul_scalar(betas[0]) + new_first, second.mul_scalar(betas[1]) + new_second]
            }
            (None, new) => new,
        };
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let root = second.clone().sqrt().div_scalar(correction(betas[1]).sqrt()).add_scalar(epsilon);
        let value = value - (first.clone() / root).mul_scalar(learning_rate / correction(betas[0]));
        (value, [first, second])
    }

    /// See [`RmspropTf::update`].
    pub fn rmsprop_tf(
        self,
        rule: &RmspropTf,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Option<[Tensor<1>; 2]>,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let &RmspropTf { alpha, epsilon, momentum, weight_decay, learning_rate } = rule;
        let gradient = if weight_decay > 0.0 { gradient + value.clone().mul_scalar(weight_decay) } else { gradient };
        let [average, buffer] = state.unwrap_or_else(|| [value.ones_like(), value.zeros_like()]);
        let square = gradient.clone() * gradient.clone();
        let average = average.clone() + (square - average).mul_scalar(1.0 - alpha);
        let root = average.clone().add_scalar(epsilon).sqrt();
        let buffer = buffer.mul_scalar(momentum) + (gradient / root).mul_scalar(learning_rate);
        (value - buffer.clone(), [average, buffer])
    }

    /// See [`Lion::update`].
    pub fn lion(
        self,
        rule: &Lion,
        value: Tensor<1>,
        gradient: Tensor<1>,
        average: Option<Tensor<1>>,
    ) -> (Tensor<1>, Tensor<1>) {
        let &Lion { betas, weight_decay, learning_rate } = rule;
        let value = if weight_decay > 0.0 { value.mul_scalar(1.0 - learning_rate * weight_decay) } else { value };
        let average = average.unwrap_or_else(|| value.zeros_like());
        let blend = |average: Tensor<1>, beta: f64| average.mul_scalar(beta) + gradient.clone().mul_scalar(1.0 - beta);
        let direction = blend(average.clone(), betas[0]).sign();
        (value - direction.mul_scalar(learning_rate), blend(average, betas[1]))
    }

    /// See [`global_norm`](crate::global_norm).
    pub fn global_norm(self, gradients: &[Tensor<1>]) -> f64 {
        self.global_norm_on_device(gradients).map_or(0.0, |norm| f64::from(norm.into_scalar::<f32>()))
    }

    /// See [`global_norm_on_device`](crate::global_norm_on_device).
    ///
    /// The sum of a whole tensor is not the same every time on a GPU, where burn lets groups of threads add theirs as they come; the sum of
    /// a dimension is, and rows keep rounding small. Sums are added, not laid side by side: what a device could not compute for lack of
    /// memory carries its failure along, but not into a tensor that something else is written to later.
    pub fn global_norm_on_device(self, gradients: &[Tensor<1>]) -> Option<Tensor<1>> {
        const ROW: usize = 1024;
        let sum_of_squares = |gradient: &Tensor<1>| {
            let squares = gradient.clone().square();
            let [len] = squares.dims();
            let rows = len / ROW;
            let last = || squares.clone().slice(rows * ROW..len).sum_dim(0);
            if rows == 0 {
                return last();
            }
            let sum = squares.clone().slice(0..rows * ROW).reshape([rows, ROW]).sum_dim(1).sum_dim(0).reshape([1]);
            if rows * ROW == len { sum } else { sum + last() }
        };
        gradients.iter().map(sum_of_squares).reduce(|sum, squares| sum + squares).map(Tensor::sqrt)
    }
}

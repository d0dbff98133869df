//! Batch normalisation whose running variance follows PyTorch.
//!
//! burn's own layer writes the biased batch variance into its running statistics, PyTorch the unbiased one (n / (n − 1)).
//! The published recipes and weights come from PyTorch, and at the small maps of the last stages the two differ by percents,
//! so the networks here use this layer. Everything else is burn's: the operation, its gradient, the running state.

use burn::config::Config;
use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{NormTensors, Statistics};

/// Configuration of a [`BatchNorm`].
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// Number of channels.
    pub num_features: usize,
    /// Added to the variance before the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Share of the batch's statistics in the new running statistics.
    #[config(default = 0.1)]
    pub momentum: f64,
}

/// `y = (x − mean) / sqrt(variance + ε) · weight + bias` for each channel.
///
/// Where the norm itself is on an autodiff device, mean and variance are the batch's, and the running statistics move towards them,
/// whether the input is on one or not: images come without. Elsewhere, and when the module is frozen, the running statistics are
/// used. Clones share running statistics: copy a model with [`Module::valid`].
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Off in a frozen layer, which then uses its running statistics and leaves them alone.
    pub training: Param<Flag>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Share of the batch's statistics in the new running statistics.
    pub momentum: f64,
    /// Added to the variance before the square root.
    pub epsilon: f64,
}

impl BatchNormConfig {
    /// Scale 1, shift 0, running mean 0, running variance 1.
    pub fn init(&self, device: &Device) -> BatchNorm {
        BatchNorm {
            weight: Initializer::Ones.init([self.num_features], device),
            bias: Initializer::Zeros.init([self.num_features], device),
            training: Param::from_bool(true),
            running_mean: RunningState::new(Tensor::zeros([self.num_features], device)),
            running_var: RunningState::new(Tensor::ones([self.num_features], device)),
            momentum: self.momentum,
            epsilon: self.epsilon,
        }
    }

    /// The running variance with which a norm divides by exactly 1, in 32 bits too.
    pub fn neutral_variance(&self) -> f64 {
        1.0 - self.epsilon
    }
}

impl BatchNorm {
    /// A norm that adds `bias`, `[channels]`, to every channel and does nothing else until it is trained.
    pub(crate) fn adding(bias: Tensor<1>) -> Self {
        let [channels] = bias.dims();
        let (config, device) = (BatchNormConfig::new(channels), bias.device());
        let variance = Tensor::full([channels], config.neutral_variance(), &device);
        Self { bias: Param::from_tensor(bias), running_var: RunningState::new(variance), ..config.init(&device) }
    }

    /// Normalises over batch, height and width.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels, height, width]`
    /// - output: the same
    ///
    /// # Panics
    /// When training on one value per channel, whose variance is not defined (PyTorch refuses it too).
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let normed = ghostnet_kernels::norm(x.clone(), self.tensors());
        self.update(normed.statistics.into_iter().next().flatten());
        normed.output
    }

    /// What the kernels take: with the running statistics unless the norm is training.
    pub(crate) fn tensors(&self) -> NormTensors {
        let weight = self.weight.val();
        let training = weight.device().is_autodiff() && self.training.is_enabled();
        NormTensors {
            weight,
            bias: self.bias.val(),
            running: (!training).then(|| [self.running_mean.value_sync(), self.running_var.value_sync()]),
            epsilon: self.epsilon,
        }
    }

    /// Moves the running statistics towards those of a batch, if there are any.
    pub(crate) fn update(&self, statistics: Option<Statistics>) {
        let Some(Statistics { mean, variance, values_per_channel }) = statistics else { return };
        let unbias = values_per_channel as f64 / (values_per_channel - 1) as f64;
        let blend = |running: &RunningState<Tensor<1>>, batch: Tensor<1>| {
            let old = running.value_sync();
            let batch = batch.to_device(&old.device());
            running.update((old.mul_scalar(1.0 - self.momentum) + batch.mul_scalar(self.momentum)).detach());
        };
        blend(&self.running_mean, mean);
        blend(&self.running_var, variance.mul_scalar(unbias));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn running_variance_is_unbiased_as_in_pytorch() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        norm.forward(Tensor::<1>::from_floats([1.0, 3.0], &device).reshape([2, 1, 1, 1]));
        // Batch variance 1 biased, 2 unbiased: 0.9 · 1 + 0.1 · 2.
        norm.running_var.value_sync().to_data().assert_eq(&TensorData::from([1.1f32]), true);
        norm.running_mean.value_sync().to_data().assert_eq(&TensorData::from([0.2f32]), true);
    }

    #[test]
    fn a_norm_trains_on_inputs_that_come_without_autodiff() {
        let norm = BatchNormConfig::new(1).init(&Device::flex().autodiff());
        let output = norm.forward(Tensor::<1>::from_floats([1.0, 3.0], &Device::flex()).reshape([2, 1, 1, 1]));
        norm.running_mean.value_sync().to_data().assert_eq(&TensorData::from([0.2f32]), true);
        let sum = output.sum().into_scalar::<f32>();
        assert!(sum.abs() < 1e-6, "the batch's own mean was taken: {sum}");
    }

    #[test]
    #[should_panic(expected = "more than one value per channel")]
    fn training_on_one_value_per_channel_is_refused() {
        let device = Device::flex().autodiff();
        BatchNormConfig::new(2).init(&device).forward(Tensor::ones([1, 2, 1, 1], &device));
    }
}

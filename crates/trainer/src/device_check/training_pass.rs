//! Forward and backward pass of a network in training, on two devices: loss, gradients by tensor, running statistics.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ghostnet::{GhostNetConfig, NamedTensor, parameter_names};
use serde::{Deserialize, Serialize};

use crate::loss::soft_cross_entropy;
use crate::recipe::Precision;
use crate::step::training_device;

/// A network, and images to pass through it.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    /// The network; dropout is left out, since devices draw other random numbers.
    pub(crate) network: GhostNetConfig,
    pub(crate) weights: Vec<NamedTensor>,
    /// `[batch, channels, height, width]`
    pub(crate) images: TensorData,
    /// `[batch, num_classes]`
    pub(crate) targets: TensorData,
    pub(crate) checkpoint_activations: bool,
}

/// What a pass gives.
#[derive(Debug, Clone)]
pub(crate) struct PassResult {
    pub(crate) loss: f64,
    /// By the parameters' names.
    pub(crate) gradients: BTreeMap<String, Vec<f32>>,
    /// By name, in the network's order.
    pub(crate) statistics: Vec<(String, Vec<f32>)>,
}

/// What the loss is multiplied by in mixed precision, so that small gradients are numbers of 16 bits: scales at which runs settle. The next one
/// is tried where gradients are too large for 16 bits, as a run does.
const LOSS_SCALES: [f64; 3] = [1024.0, 32.0, 1.0];

impl Passage {
    /// Passes the images through the network and back on a device.
    pub(crate) fn on(&self, device: &Device, precision: Precision) -> anyhow::Result<PassResult> {
        if precision == Precision::F32 {
            return self.scaled(device, precision, 1.0);
        }
        let mut result = self.scaled(device, precision, LOSS_SCALES[0])?;
        for scale in &LOSS_SCALES[1..] {
            if result.gradients.values().flatten().all(|value| value.is_finite()) {
                break;
            }
            result = self.scaled(device, precision, *scale)?;
        }
        Ok(result)
    }

    /// The same with the loss multiplied by a number, and gradients divided by it.
    fn scaled(&self, device: &Device, precision: Precision, scale: f64) -> anyhow::Result<PassResult> {
        struct Collect {
            gradients: Gradients,
            names: BTreeMap<ParamId, String>,
            scale: f64,
            found: BTreeMap<String, Vec<f32>>,
        }
        impl ModuleVisitor for Collect {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                let gradient = parameter.val().grad_remove(&mut self.gradients);
                if let (Some(gradient), Some(name)) = (gradient, self.names.get(&parameter.id)) {
                    let values = gradient.div_scalar(self.scale).into_data();
                    self.found.insert(name.clone(), values.iter::<f32>().collect());
                }
            }
        }
        let training = training_device(device, self.checkpoint_activations);
        let model = self.network.clone().with_dropout(0.0).load(self.weights.clone(), &training)?;
        let images = Tensor::<4>::from_data(self.images.clone(), device).cast(precision.format());
        let targets = Tensor::from_data(self.targets.clone(), device);
        let loss = soft_cross_entropy(model.forward(images), targets);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let names = parameter_names(&model).into_iter().collect();
        let gradients = (loss * scale).backward();
        let mut collect = Collect { gradients, names, scale, found: BTreeMap::new() };
        model.visit(&mut collect);
        let statistics = model.valid().state(1).into_iter().filter(|tensor| tensor.name.contains(".running_"));
        let statistics = statistics.map(|tensor| (tensor.name, tensor.data.iter::<f32>().collect())).collect();
        Ok(PassResult { loss: value, gradients: collect.found, statistics })
    }
}

/// A name with a figure: the worst of several tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// The tensor.
    pub name: String,
    /// Its difference, as a share of its length.
    pub error: f64,
}

/// How two devices differ in a pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PassDifference {
    /// Of the loss, as a share of it.
    pub loss_error: f64,
    /// The gradient that differs most.
    pub worst_gradient: Worst,
    /// The running statistic that differs most.
    pub worst_statistic: Worst,
    /// What is wrong, if anything is.
    pub faults: Vec<String>,
    /// Whether some of it is no matter of degree: numbers that are not finite, or gradients that are gone.
    pub is_broken: bool,
}

/// A loss that is smaller than this, in nats, is compared with this instead: a network that is almost always right has rounding for a loss.
const SHORT_LOSS: f64 = 0.1;

/// A gradient that is longer than this share of all of them, in 32 and in 16 bits, cannot be zero by rounding.
const NONZERO: [f64; 2] = [1e-6, 1e-2];

/// Statistics that are shorter than this are compared with this instead; their typical value is one.
const SHORT_STATISTIC: f64 = 1e-2;

/// How far two devices may differ, as shares.
struct Tolerance {
    loss: f64,
    gradient: f64,
    /// Gradients that are shorter than this share of all of them are compared with that share instead: they are all but rounding. A norm that
    /// follows takes out what a shift adds, so that its gradient is a small difference of large numbers.
    short: f64,
    statistic: f64,
}

/// Where an activation lies on the corner of a ReLU, rounding decides which slope its gradient takes, and everything before it differs by a
/// hundredth, or by a twentieth where the last norms see few values, on the CPU alone as well. In mixed precision activations are rounded to 16 bits in every layer on the GPU and not at all on the
/// CPU, which turns gradients of the first layers of an untrained network by a third, and by 0.96 where the last norms see four values; gradients
/// that have nothing to do with each other differ by 1.4. There it is the operations, each for itself, that tell right from wrong.
fn tolerance(precision: Precision) -> Tolerance {
    match precision {
        Precision::F32 => Tolerance { loss: 1e-3, gradient: 0.2, short: 1e-2, statistic: 2e-3 },
        Precision::Mixed => Tolerance { loss: 2e-2, gradient: 1.2, short: 0.1, statistic: 0.1 },
    }
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The same, or the largest number there is: JSON has no other for what is none.
pub(super) fn finite(error: f64) -> f64 {
    if error.is_finite() { error } else { f64::MAX }
}

/// The difference of two tensors as a share of the length of the second, or of a least length.
pub(super) fn share(found: &[f32], expected: &[f32], least: f64) -> f64 {
    let difference = length(found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let share = difference / length(expected.iter().map(|value| f64::from(*value))).max(least);
    finite(share)
}

impl PassResult {
    /// Compares what a device gave with what the CPU gives for the same images.
    pub(crate) fn compare(&self, expected: &Self, precision: Precision) -> PassDifference {
        let Tolerance { loss, gradient, short, statistic } = tolerance(precision);
        let norm = length(expected.gradients.values().flatten().map(|value| f64::from(*value)));
        let none = || Worst { name: String::new(), error: 0.0 };
        let worst = |shares: &mut dyn Iterator<Item = (String, f64)>| {
            let worst = shares.max_by(|a, b| a.1.total_cmp(&b.1));
            worst.map_or_else(none, |(name, error)| Worst { name, error })
        };
        let empty = Vec::new();
        let size = |values: &[f32]| length(values.iter().map(|value| f64::from(*value)));
        // A gradient that is all but nothing may well be rounded to nothing.
        let [in_full, in_half] = NONZERO;
        let least_nonzero = norm * if precision == Precision::Mixed { in_half } else { in_full };
        let mut faults = Vec::new();
        for (name, expected) in &expected.gradients {
            let found = self.gradients.get(name).unwrap_or(&empty);
            let is_zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
            if !size(expected).is_finite() {
                // The network has diverged, on the CPU too.
            } else if found.iter().any(|value| !value.is_finite()) {
                faults.push(format!("the gradient of `{name}` is not finite"));
            } else if is_zero(found) && size(expected) > least_nonzero {
                faults.push(format!("the gradient of `{name}` is zero, and on the CPU it is not"));
            }
        }
        let is_broken = !faults.is_empty();
        let worst_gradient = worst(&mut expected.gradients.iter().map(|(name, expected)| {
            let found = self.gradients.get(name).unwrap_or(&empty);
            (name.clone(), share(found, expected, short * norm))
        }));
        let pairs = self.statistics.iter().zip(&expected.statistics);
        let worst_statistic = worst(&mut pairs.map(|((_, found), (name, expected))| {
            let least = SHORT_STATISTIC * (expected.len() as f64).sqrt();
            (name.clone(), share(found, expected, least))
        }));
        let loss_error = (self.loss - expected.loss).abs() / expected.loss.abs().max(SHORT_LOSS);
        let loss_error = finite(loss_error);
        if loss_error > loss {
            faults.push(format!("the loss is {} and on the CPU {}", self.loss, expected.loss));
        }
        for (what, Worst { name, error }, tolerance) in
            [("running statistic", &worst_statistic, statistic), ("gradient", &worst_gradient, gradient)]
        {
            if *error > tolerance && !faults.iter().any(|fault| fault.contains(&format!("`{name}`"))) {
                faults.push(format!(
                    "the {what} `{name}` differs by {error:.1e} of its length, where {tolerance:.0e} is rounding"
                ));
            }
        }
        PassDifference { loss_error, worst_gradient, worst_statistic, faults, is_broken }
    }
}

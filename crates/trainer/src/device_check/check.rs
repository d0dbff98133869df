//! The check itself: it finds out which operations the work is made of by doing it once, checks each of them, and compares the work with the
//! CPU's.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::{BatchNormConfig, FoldedGhostNet, GhostNetConfig, NamedTensor};
use ghostnet_kernels::gpu::border;
use serde::{Deserialize, Serialize};

use super::exact::noise;
use super::operation::{OperationResult, check_operation};
use super::training_pass::{PassDifference, PassResult, Passage, Worst};
use super::workload::{TrainingPasses, Workload};
use crate::device::ChosenDevice;
use crate::optimizer::Parameter;
use crate::plan;
use crate::recipe::{Optimizer, Precision};

/// What a check found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckResult {
    /// The operations of the network at their shapes, each once.
    pub operations: Vec<OperationResult>,
    /// A training pass at each size of the images.
    pub passes: Vec<PassDifference>,
    /// How much the logits of forward passes differ at each size of the batch, as shares of their length.
    pub logits: Vec<f64>,
    /// An update of all weights from the same gradients.
    pub update: Option<UpdateResult>,
    /// Everything that is wrong.
    pub faults: Vec<String>,
    /// What it took.
    pub seconds: f64,
}

impl CheckResult {
    /// The operations that are wrong.
    pub(super) fn wrong_operations(&self) -> impl Iterator<Item = border::Operation> {
        self.operations.iter().filter(|operation| operation.fault.is_some()).map(|operation| operation.operation)
    }

    /// Of a check in which the device failed.
    pub(super) fn failed(error: &anyhow::Error) -> Self {
        let fault = error.to_string().lines().next().unwrap_or_default().to_string();
        let (operations, passes, logits) = (Vec::new(), Vec::new(), Vec::new());
        Self { operations, passes, logits, update: None, faults: vec![fault], seconds: 0.0 }
    }
}

/// How two devices differ in an update of the weights from the same gradients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateResult {
    /// How many tensors were updated.
    pub tensors: usize,
    /// The weight that differs most, as a share of how far it moved.
    pub worst: Worst,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every operation, and whole passes.
    Whole,
    /// Whole passes alone, whose results say less and take a fraction of the time.
    PassesAlone,
}

/// Draws of images. What an activation on the corner of a ReLU does to gradients is chance; what is wrong with a device is wrong with all
/// images.
const DRAWS: u64 = 3;

/// Memory that the CPU's pass may take, bytes; images beyond that are left out of the comparison of whole passes.
const CPU_BYTES: usize = 2_000_000_000;

/// Memory of a value of an activation in a training pass on the CPU, with what belongs to it, bytes; the largest figure of
/// `plan::memory`'s, rounded up.
const BYTES_PER_OUTPUT: usize = 12;

/// The share of its length by which the logits of two devices may differ: 10⁻⁶ was measured, and kernels that round products to the ten bits
/// of TF32 leave some 3·10⁻⁴ in each of up to a hundred layers.
const LOGITS: f64 = 5e-3;

/// The share by which two devices' updates may differ: elementwise operations in 32 bits differ by some 10⁻⁶, the orthogonalisation of Muon by
/// 10⁻³.
const UPDATE: f64 = 1e-2;

/// Learning rate of the checked updates.
const LEARNING_RATE: f64 = 0.01;

/// Checks a GPU for its work, with what is in force there now. What fails there panics; see [`ChosenDevice::run`].
pub fn check(workload: &Workload, device: &ChosenDevice, extent: Extent) -> anyhow::Result<CheckResult> {
    let began = std::time::Instant::now();
    let mut check =
        Check { workload, device, weights: weights(workload), operations: BTreeSet::new(), faults: Vec::new() };
    let (mut passes, mut update) = (Vec::new(), None);
    if let Some(training) = &workload.training {
        for &size in &training.image_sizes {
            let (difference, expected) = check.training(training, size)?;
            passes.push(difference);
            if let (None, Some(optimizer)) = (&update, &training.optimizer) {
                update = Some(check.update(optimizer, &expected));
            }
        }
    }
    let logits = check.inference()?;
    let Check { operations, faults: of_passes, .. } = check;
    let operations = if extent == Extent::Whole { operations } else { BTreeSet::new() };
    let results = operations.iter().enumerate();
    let operations: Vec<OperationResult> = results
        .map(|(place, operation)| {
            check_operation(operation, &device.device, workload.seed.wrapping_mul(1_000_000) + place as u64 * 1_000)
        })
        .collect();
    let of_operations = operations
        .iter()
        .filter_map(|operation| operation.fault.as_ref().map(|fault| format!("{}: {fault}", operation.description)));
    // An operation explains what a whole pass only shows.
    let faults = of_operations.chain(of_passes).collect();
    Ok(CheckResult { operations, passes, logits, update, faults, seconds: began.elapsed().as_secs_f64() })
}

/// Images that the statistics of a network are taken from.
const STATISTICS_IMAGES: usize = 8;

/// The weights of a network that has not been trained, drawn on the CPU.
fn weights(workload: &Workload) -> Vec<NamedTensor> {
    let cpu = Device::flex();
    cpu.seed(workload.seed);
    workload.network.init(&cpu).state(0)
}

/// Images of a batch whose pass the CPU has memory for.
pub(crate) fn batch_on_cpu(network: &GhostNetConfig, size: usize, batch: usize) -> usize {
    let layers = network.layers(size, size);
    let outputs: usize = layers.iter().map(|layer| layer.output.iter().product::<usize>()).sum();
    (CPU_BYTES / (outputs * BYTES_PER_OUTPUT).max(1)).max(2).min(batch)
}

/// Images of a size, and targets for them.
fn passage(workload: &Workload, weights: &[NamedTensor], size: usize, batch: usize, draw: u64) -> Passage {
    let Workload { network, training, seed, .. } = workload;
    let (channels, classes) = (network.in_channels, network.num_classes);
    let images = TensorData::new(
        noise(seed.wrapping_mul(1_000) + draw, batch * channels * size * size),
        [batch, channels, size, size],
    );
    // Smoothed labels, as recipes have them.
    let targets = (0..batch * classes).map(|place| {
        let (image, class) = (place / classes, place % classes);
        0.1 / classes as f32 + if image * 7 % classes == class { 0.9 } else { 0.0 }
    });
    Passage {
        network: network.clone(),
        weights: weights.to_vec(),
        images,
        targets: TensorData::new(targets.collect::<Vec<f32>>(), [batch, classes]),
        checkpoint_activations: training.as_ref().is_some_and(|training| training.checkpoint_activations),
    }
}

struct Check<'a> {
    workload: &'a Workload,
    device: &'a ChosenDevice,
    weights: Vec<NamedTensor>,
    operations: BTreeSet<border::Operation>,
    faults: Vec<String>,
}

impl Check<'_> {
    fn passage(&self, size: usize, batch: usize, draw: u64) -> Passage {
        passage(self.workload, &self.weights, size, batch, draw)
    }

    /// A training pass, recorded, and what the CPU gives for the same one.
    fn training(&mut self, training: &TrainingPasses, size: usize) -> anyhow::Result<(PassDifference, PassResult)> {
        let (precision, whole) = (training.precision, training.batch_size);
        let batch = batch_on_cpu(&self.workload.network, size, whole);
        let passage = self.passage(size, whole, 0);
        let (found, operations) = border::record(|| passage.on(&self.device.device, precision));
        let found = found?;
        self.operations.extend(operations);
        for draw in 0..DRAWS {
            let passage = self.passage(size, batch, draw);
            let found =
                if draw == 0 && batch == whole { found.clone() } else { passage.on(&self.device.device, precision)? };
            let expected = passage.on(&Device::flex(), Precision::F32)?;
            let difference = found.compare(&expected, precision);
            if difference.faults.is_empty() || difference.is_broken || draw + 1 == DRAWS {
                self.faults.extend(
                    difference
                        .faults
                        .iter()
                        .map(|fault| format!("a training pass of {batch} images of {size} px in {precision}: {fault}")),
                );
                return Ok((difference, expected));
            }
        }
        unreachable!("the last draw returns")
    }

    /// The weights with running statistics of some images: with those that a network begins with, activations would dwindle from layer to
    /// layer, and all images would have the same logits.
    fn with_statistics(&self) -> anyhow::Result<Vec<NamedTensor>> {
        let passage = self.passage(self.workload.inference.image_size, STATISTICS_IMAGES, 0);
        let pass = passage.on(&Device::flex(), Precision::F32)?;
        let momentum = BatchNormConfig::new(1).momentum as f32;
        let mut weights = self.weights.clone();
        for (name, moved) in pass.statistics {
            let first = if name.ends_with(".running_var") { 1.0 } else { 0.0 };
            let of_images = moved.iter().map(|moved| (moved - (1.0 - momentum) * first) / momentum);
            if let Some(tensor) = weights.iter_mut().find(|tensor| tensor.name == name) {
                let shape = tensor.data.shape().clone();
                tensor.data = TensorData::new(of_images.collect::<Vec<f32>>(), shape);
            }
        }
        Ok(weights)
    }

    /// Forward passes of the folded network, recorded, and how their logits differ from the CPU's.
    fn inference(&mut self) -> anyhow::Result<Vec<f64>> {
        let (size, weights) = (self.workload.inference.image_size, self.with_statistics()?);
        let folded =
            |device: &Device| -> anyhow::Result<_> { Ok(self.workload.network.load(weights.clone(), device)?.fold()) };
        let [on_device, on_cpu] = [folded(&self.device.device)?, folded(&Device::flex())?];
        let mut errors = Vec::new();
        for &batch in &self.workload.inference.batch_sizes {
            let images = self.passage(size, batch, 0).images;
            let logits = |model: &FoldedGhostNet, device: &Device, images: TensorData| -> Vec<f32> {
                model.forward(Tensor::from_data(images, device)).into_data().iter::<f32>().collect()
            };
            let (found, operations) = border::record(|| logits(&on_device, &self.device.device, images.clone()));
            let expected = logits(&on_cpu, &Device::flex(), images);
            let error = super::training_pass::share(&found, &expected, f64::MIN_POSITIVE);
            self.operations.extend(operations);
            if error > LOGITS {
                self.faults.push(format!(
                    "the logits of {batch} images of {size} px differ by {error:.1e} of their length, where {LOGITS:.0e} is rounding"
                ));
            }
            errors.push(error);
        }
        Ok(errors)
    }

    /// Two updates of all weights from the same gradients, on both devices.
    fn update(&mut self, optimizer: &Optimizer, pass: &PassResult) -> UpdateResult {
        let tensors: Vec<&NamedTensor> =
            self.weights.iter().filter(|tensor| pass.gradients.contains_key(&tensor.name)).collect();
        let updated = |device: &Device| -> Vec<Vec<f32>> {
            let mut optimizer = plan::optimizer(optimizer);
            let vector = |values: Vec<f32>| {
                let length = values.len();
                Tensor::<1>::from_data(TensorData::new(values, [length]), device)
            };
            let mut values: Vec<Tensor<1>> =
                tensors.iter().map(|tensor| vector(tensor.data.iter::<f32>().collect())).collect();
            for _ in 0..2 {
                optimizer.begin_step();
                for (value, tensor) in values.iter_mut().zip(&tensors) {
                    let shape = tensor.data.shape();
                    let parameter = Parameter {
                        name: &tensor.name,
                        value: value.clone(),
                        gradient: vector(pass.gradients[&tensor.name].clone()),
                        outputs: (shape.num_dims() > 1).then(|| shape[0]),
                    };
                    *value = optimizer.update(parameter, LEARNING_RATE);
                }
            }
            values.into_iter().map(|value| value.into_data().iter::<f32>().collect()).collect()
        };
        let (found, expected) = (updated(&self.device.device), updated(&Device::flex()));
        let mut worst = Worst { name: String::new(), error: 0.0 };
        for ((tensor, found), expected) in tensors.iter().zip(&found).zip(&expected) {
            let before: Vec<f32> = tensor.data.iter::<f32>().collect();
            let moved =
                |after: &[f32]| after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<f32>>();
            // The rounding of the weights themselves.
            let rounding =
                f64::from(f32::EPSILON) * before.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let error =
                super::training_pass::share(&moved(found), &moved(expected), 100.0 * rounding + f64::MIN_POSITIVE);
            if error >= worst.error {
                worst = Worst { name: tensor.name.clone(), error };
            }
        }
        if worst.error > UPDATE {
            let Worst { name, error } = &worst;
            self.faults.push(format!(
                "an update of `{name}` from the same gradient differs by {error:.1e} of how far it moves the weight"
            ));
        }
        UpdateResult { tensors: tensors.len(), worst }
    }
}

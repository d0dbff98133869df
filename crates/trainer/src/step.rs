//! One optimizer step: forward, backward and update over as many micro-batches as the recipe accumulates.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor};
use ghostnet::{FoldedGhostNet, GhostNet, parameter_names};
use ghostnet_kernels::{Reference, global_norm, in_thread_pool};

use crate::ema::{Ema, EmaRule};
use crate::finetune::{CLASSIFIER, stages_to_head};
use crate::loss::{Distillation, Loss};
use crate::optimizer::{Optimizer, Parameter};

/// Images and soft targets on the device.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// `[batch, 3, height, width]`
    pub images: Tensor<4>,
    /// `[batch, num_classes]`
    pub targets: Tensor<2>,
    /// The scores of a network to learn from, `[batch, num_classes]`.
    pub teacher: Option<Tensor<2>>,
}

/// What a step needs beside the network and its data.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// What is minimised.
    pub loss: Loss,
    /// How a teacher's scores count, where a batch has them.
    pub distillation: Distillation,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Largest norm of a gradient as a share of its parameter's, output by output; see [`adaptive_clip`].
    pub adaptive_clip: Option<f64>,
    /// The rate of a stage is this much of that of the stage behind it.
    pub layer_decay: f64,
    /// How many of the first stages are frozen, the stem with them.
    pub frozen_stages: usize,
}

impl Default for StepSettings {
    /// Everything trains at one rate, which is 0, and nothing is clipped.
    fn default() -> Self {
        Self {
            learning_rate: 0.0,
            loss: Loss::default(),
            distillation: Distillation::default(),
            clip_norm: None,
            adaptive_clip: None,
            layer_decay: 1.0,
            frozen_stages: 0,
        }
    }
}

/// The device of a network in training: with autodiff, which keeps what it needs for the way back, or with `checkpoint_activations` makes
/// it anew.
pub fn training_device(device: &Device, checkpoint_activations: bool) -> Device {
    let device = device.clone().autodiff();
    if checkpoint_activations { device.gradient_checkpointing() } else { device }
}

/// What a step measured, on the CPU at once, and elsewhere when somebody waits for it.
#[derive(Debug, Clone)]
pub enum Measured {
    /// Known.
    Known(StepReport),
    /// Loss and gradient norm on the device, `[2]`.
    OnDevice(Box<Tensor<1>>),
}

impl Measured {
    /// Waits for the device once for all of them.
    ///
    /// # Errors
    /// The position of the first that is not finite, and what it was.
    pub fn read_all(measured: Vec<Self>) -> Result<Vec<StepReport>, (usize, NonFinite)> {
        let on_device = measured.iter().filter_map(|measured| match measured {
            Self::OnDevice(values) => Some((**values).clone()),
            Self::Known(_) => None,
        });
        let on_device: Vec<Tensor<1>> = on_device.collect();
        let values: Vec<f32> = match on_device.is_empty() {
            true => Vec::new(),
            false => Tensor::cat(on_device, 0).into_data().iter().collect(),
        };
        let mut read = values
            .as_chunks()
            .0
            .iter()
            .map(|[loss, norm]| StepReport { loss: f64::from(*loss), gradient_norm: f64::from(*norm) });
        let reports = measured.into_iter().enumerate().map(|(at, measured)| {
            let report = match measured {
                Self::Known(report) => report,
                Self::OnDevice(_) => read.next().unwrap_or(StepReport { loss: f64::NAN, gradient_norm: f64::NAN }),
            };
            report.checked().map_err(|error| (at, error))
        });
        reports.collect()
    }

    /// Waits for the device.
    pub fn read(self) -> Result<StepReport, NonFinite> {
        let reports = Self::read_all(vec![self]).map_err(|(_, error)| error)?;
        reports.into_iter().next().unwrap_or(StepReport { loss: f64::NAN, gradient_norm: f64::NAN }).checked()
    }

    /// Whether there is nothing to wait for.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// What a step measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss over the images of the step.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

impl StepReport {
    fn checked(self) -> Result<Self, NonFinite> {
        if self.loss.is_finite() && self.gradient_norm.is_finite() { Ok(self) } else { Err(NonFinite(self)) }
    }
}

/// A step whose loss or gradients are not finite.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the loss is {} and the gradient norm {}", .0.loss, .0.gradient_norm)]
pub struct NonFinite(pub StepReport);

/// A network in training.
#[derive(Debug)]
pub struct Trainee {
    /// On an autodiff device.
    pub model: GhostNet,
    /// State by tensor name.
    pub optimizer: Optimizer,
    /// The average of the weights, if there is one.
    pub ema: Option<Ema>,
    names: BTreeMap<ParamId, String>,
    frozen_stages: usize,
}

/// What gradients of a norm are multiplied by so that it is at most `max_norm`; the rule of `torch.nn.utils.clip_grad_norm_`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// Adaptive gradient clipping, arXiv:2102.06171 with timm's constants: each row of a gradient is made no longer than `factor`
/// times the same row of its parameter.
///
/// # Shapes
/// - `value`, `gradient`, output: `[outputs, values of an output]`
pub fn adaptive_clip(value: Tensor<2>, gradient: Tensor<2>, factor: f64) -> Tensor<2> {
    const LEAST_VALUE_NORM: f64 = 1e-3;
    const LEAST_GRADIENT_NORM: f64 = 1e-6;
    let length = |rows: Tensor<2>| rows.square().sum_dim(1).sqrt(); // [outputs, 1]
    let most = length(value).clamp_min(LEAST_VALUE_NORM).mul_scalar(factor);
    let found = length(gradient.clone()).clamp_min(LEAST_GRADIENT_NORM);
    gradient * (most / found).clamp_max(1.0)
}

impl Trainee {
    /// Pairs a network with its optimizer.
    pub fn new(model: GhostNet, optimizer: Optimizer) -> Self {
        let names = parameter_names(&model).into_iter().collect();
        Self { model, optimizer, ema: None, names, frozen_stages: 0 }
    }

    /// The same with an average of the weights that starts here.
    pub fn with_ema(mut self, rule: Option<EmaRule>) -> Self {
        self.ema = rule.map(|rule| Ema::new(self.model.valid(), rule));
        self
    }

    /// The network as it is now, for evaluation. The training network itself must not be evaluated: that would move its running
    /// statistics.
    pub fn folded(&self) -> FoldedGhostNet {
        self.model.fold()
    }

    /// One update from the mean gradient over all images.
    ///
    /// On the CPU, a loss or gradients that are not finite are an error, and the weights have not been touched. Elsewhere the device
    /// is not waited for: whoever reads what was measured hears of it then, and the weights are lost from that step on.
    pub fn step(mut self, batches: Vec<MicroBatch>, settings: StepSettings) -> Result<(Self, Measured), NonFinite> {
        if self.frozen_stages != settings.frozen_stages {
            self.model = self.model.freeze_stages(settings.frozen_stages);
            self.frozen_stages = settings.frozen_stages;
        }
        let mut gradients = GradientSum::default();
        let device = self.model.classifier.weight.val().device();
        let is_cpu = device.clone().inner() == Device::flex();
        let mut losses: Vec<Tensor<1>> = Vec::with_capacity(batches.len());
        let num_batches = batches.len() as f64;
        for MicroBatch { images, targets, teacher } in batches {
            let logits = self.model.forward(images);
            let loss = match teacher {
                None => settings.loss.of(logits, targets),
                Some(teacher) => {
                    let of_labels = settings.loss.of(logits.clone(), targets);
                    settings.distillation.add(of_labels, logits, teacher)
                }
            };
            let loss = loss.div_scalar(num_batches);
            losses.push(loss.clone().without_autodiff());
            gradients.add(&self.model, loss.backward());
        }
        let measured = if is_cpu {
            let loss = losses.into_iter().map(|loss| f64::from(loss.into_scalar::<f32>())).sum();
            let report = StepReport { loss, gradient_norm: gradients.norm() }.checked()?;
            if let Some(max_norm) = settings.clip_norm {
                gradients.scale(clip_factor(report.gradient_norm, max_norm));
            }
            Measured::Known(report)
        } else {
            let loss = Tensor::cat(losses, 0).sum();
            let norm = gradients.norm_on_device().unwrap_or_else(|| loss.zeros_like());
            if let Some(max_norm) = settings.clip_norm {
                gradients.clip_on_device(norm.clone(), max_norm);
            }
            Measured::OnDevice(Box::new(Tensor::cat(vec![loss, norm], 0)))
        };
        self.optimizer.begin_step();
        let mut update = Update { gradients, names: &self.names, optimizer: &mut self.optimizer, settings };
        // Handing each of the many small parameters over to the pool takes longer than their updates.
        self.model = in_thread_pool(&device, || self.model.map(&mut update));
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, self.optimizer.steps());
        }
        Ok((self, measured))
    }
}

/// Gradients by parameter, flattened to `[elements]`, summed over micro-batches.
#[derive(Debug, Default)]
struct GradientSum {
    by_parameter: BTreeMap<ParamId, Tensor<1>>,
    /// Parameters in the order of the network. Ids are drawn anew in every process, so a sum in their order would differ in
    /// its last bits from run to run.
    order: Vec<ParamId>,
}

impl GradientSum {
    fn add(&mut self, model: &GhostNet, gradients: Gradients) {
        struct Collect<'a> {
            sum: &'a mut GradientSum,
            gradients: Gradients,
        }
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                if let Some(gradient) = parameter.val().grad_remove(&mut self.gradients) {
                    self.sum.add_one(parameter.id, gradient.flatten(0, D - 1));
                }
            }
        }
        model.visit(&mut Collect { sum: self, gradients });
    }

    fn add_one(&mut self, parameter: ParamId, gradient: Tensor<1>) {
        let gradient = match self.by_parameter.remove(&parameter) {
            Some(sum) => sum + gradient,
            None => {
                self.order.push(parameter);
                gradient
            }
        };
        self.by_parameter.insert(parameter, gradient);
    }

    fn in_order(&self) -> Vec<Tensor<1>> {
        self.order.iter().filter_map(|parameter| self.by_parameter.get(parameter)).cloned().collect()
    }

    fn norm(&self) -> f64 {
        global_norm(&self.in_order())
    }

    fn norm_on_device(&self) -> Option<Tensor<1>> {
        Reference.norm_on_device(&self.in_order())
    }

    /// [`clip_factor`] where the gradients are; a factor of 1 changes nothing.
    fn clip_on_device(&mut self, norm: Tensor<1>, max_norm: f64) {
        let factor = norm.add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
        for gradient in self.by_parameter.values_mut() {
            *gradient = gradient.clone() * factor.clone();
        }
    }

    fn scale(&mut self, factor: f64) {
        if factor < 1.0 {
            for gradient in self.by_parameter.values_mut() {
                *gradient = gradient.clone().mul_scalar(factor);
            }
        }
    }
}

/// Walks the network and replaces every parameter that has a gradient.
struct Update<'a> {
    gradients: GradientSum,
    names: &'a BTreeMap<ParamId, String>,
    optimizer: &'a mut Optimizer,
    settings: StepSettings,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (Some(gradient), Some(name)) =
            (self.gradients.by_parameter.remove(&parameter.id), self.names.get(&parameter.id))
        else {
            return parameter;
        };
        parameter.map(|tensor| {
            let shape = tensor.dims();
            let strategy = tensor.device().gradient_checkpointing_strategy().unwrap_or_default();
            let value: Tensor<1> = tensor.without_autodiff().flatten(0, D - 1);
            let StepSettings { learning_rate, layer_decay, adaptive_clip: factor, .. } = self.settings;
            let outputs = (D > 1).then_some(shape[0]);
            // As in timm, the classifier is left out.
            let gradient = match factor.filter(|_| !name.starts_with(CLASSIFIER)) {
                Some(factor) => {
                    let outputs = outputs.unwrap_or(1);
                    let rows = [outputs, value.dims()[0] / outputs];
                    adaptive_clip(value.clone().reshape(rows), gradient.reshape(rows), factor).flatten(0, 1)
                }
                None => gradient,
            };
            let parameter = Parameter { name, value, gradient, outputs };
            let share = layer_decay.powi(stages_to_head(name) as i32);
            let value = self.optimizer.update(parameter, learning_rate * share);
            value.reshape(shape).autodiff().with_gradient_checkpointing_strategy(strategy).require_grad()
        })
    }
}

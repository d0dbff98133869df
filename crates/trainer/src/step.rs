//! One optimizer step: forward, backward and update over as many micro-batches as the recipe accumulates.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Device, Gradients, Tensor, Transaction};
use ghostnet::{FoldedGhostNet, GhostNet, parameter_names};
use ghostnet_kernels::{global_norm, global_norm_on_device, in_thread_pool};

use crate::device::is_cpu;
use crate::ema::{Ema, EmaRule};
use crate::finetune::{CLASSIFIER, stages_to_head};
use crate::loss::{Distillation, Loss};
use crate::optimizer::{Optimizer, Parameter};
use crate::precision::LossScale;
use crate::recipe::Precision;

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

/// What a step measured, known at once or when somebody waits for it.
#[derive(Debug, Clone)]
pub enum Measured {
    /// Known.
    Known(StepReport),
    /// On the device.
    OnDevice(Box<OnDevice>),
}

/// What a step measured, where it was measured; `[1]` each.
#[derive(Debug, Clone)]
pub struct OnDevice {
    loss: Tensor<1>,
    gradient_norm: Tensor<1>,
    loss_scale: Option<Tensor<1>>,
}

impl Measured {
    /// Waits for the device once for all of them.
    ///
    /// # Errors
    /// The position of the first step that failed, and how.
    pub fn read_all(measured: Vec<Self>) -> Result<Vec<StepReport>, (usize, NonFinite)> {
        // Not joined to one tensor: what a device could not compute for lack of memory must be heard of in each.
        let mut transaction = Transaction::default();
        for measured in &measured {
            if let Self::OnDevice(values) = measured {
                let OnDevice { loss, gradient_norm, loss_scale } = (**values).clone();
                for value in [loss, gradient_norm].into_iter().chain(loss_scale) {
                    transaction = transaction.register(value);
                }
            }
        }
        let mut values = transaction.execute().into_iter();
        let mut next = || values.next().and_then(|data| data.iter::<f64>().next()).unwrap_or(f64::NAN);
        let reports = measured.into_iter().enumerate().map(|(at, measured)| {
            let report = match measured {
                Self::Known(report) => report,
                Self::OnDevice(values) => StepReport {
                    loss: next(),
                    gradient_norm: next(),
                    loss_scale: values.loss_scale.is_some().then(&mut next),
                },
            };
            report.checked().map_err(|error| (at, error))
        });
        reports.collect()
    }

    /// Waits for the device.
    pub fn read(self) -> Result<StepReport, NonFinite> {
        match Self::read_all(vec![self]).map_err(|(_, error)| error)?.as_slice() {
            [report] => Ok(*report),
            _ => unreachable!("a report for each step"),
        }
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
    /// In mixed precision, what the loss was multiplied by.
    pub loss_scale: Option<f64>,
}

impl StepReport {
    /// Whether the gradients were out of the range of 16 bits, so that the weights stayed as they were.
    pub fn was_skipped(self) -> bool {
        self.loss_scale.is_some() && !self.gradient_norm.is_finite()
    }

    fn checked(self) -> Result<Self, NonFinite> {
        let may_be_skipped = self.loss_scale.is_some_and(|scale| scale > LossScale::LEAST);
        if self.loss.is_finite() && (self.gradient_norm.is_finite() || may_be_skipped) {
            Ok(self)
        } else {
            Err(NonFinite(self))
        }
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
    /// In mixed precision.
    pub loss_scale: Option<LossScale>,
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
        Self { model, optimizer, ema: None, loss_scale: None, names, frozen_stages: 0 }
    }

    /// The same with an average of the weights that starts here.
    pub fn with_ema(mut self, rule: Option<EmaRule>) -> Self {
        self.ema = rule.map(|rule| Ema::new(self.model.valid(), rule));
        self
    }

    /// The same in this precision. A scale of the loss that has settled is kept.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        let device = self.device().inner();
        self.loss_scale = match precision {
            Precision::F32 => None,
            Precision::Mixed => self.loss_scale.or_else(|| Some(LossScale::new(&device))),
        };
        self
    }

    fn device(&self) -> Device {
        self.model.classifier.weight.val().device()
    }

    /// The network as it is now, for evaluation. The training network itself must not be evaluated: that would move its running
    /// statistics.
    pub fn folded(&self) -> FoldedGhostNet {
        self.model.fold()
    }

    /// One update from the mean gradient over all images.
    ///
    /// On the CPU in 32 bits, a loss or gradients that are not finite are an error, and the weights have not been touched. Otherwise the
    /// device is not waited for: whoever reads what was measured hears of it then, and the weights are lost from that step on; but for
    /// gradients that are too large for 16 bits, see [`LossScale`].
    pub fn step(mut self, batches: Vec<MicroBatch>, settings: StepSettings) -> Result<(Self, Measured), NonFinite> {
        if self.frozen_stages != settings.frozen_stages {
            self.model = self.model.freeze_stages(settings.frozen_stages);
            self.frozen_stages = settings.frozen_stages;
        }
        let mut gradients = GradientSum::default();
        let device = self.device();
        let precision = if self.loss_scale.is_some() { Precision::Mixed } else { Precision::F32 };
        let mut losses: Vec<Tensor<1>> = Vec::with_capacity(batches.len());
        let num_images: usize = batches.iter().map(|batch| batch.images.dims()[0]).sum();
        for MicroBatch { images, targets, teacher } in batches {
            let batch_size = images.dims()[0];
            let images = if images.dtype() == precision.format() { images } else { images.cast(precision.format()) };
            let logits = self.model.forward(images);
            let loss = match teacher {
                None => settings.loss.of(logits, targets),
                Some(teacher) => {
                    let of_labels = settings.loss.of(logits.clone(), targets);
                    settings.distillation.add(of_labels, logits, teacher)
                }
            };
            let loss = loss.div_scalar(num_images as f64 / batch_size as f64);
            losses.push(loss.clone().without_autodiff());
            let loss = match &self.loss_scale {
                Some(scale) => loss * scale.value(),
                None => loss,
            };
            gradients.add(&self.model, loss.backward());
        }
        let mut is_finite = None;
        let measured = if is_cpu(&device) && self.loss_scale.is_none() {
            let loss = losses.into_iter().map(|loss| f64::from(loss.into_scalar::<f32>())).sum();
            let report = StepReport { loss, gradient_norm: gradients.norm(), loss_scale: None }.checked()?;
            if let Some(max_norm) = settings.clip_norm {
                gradients.scale(clip_factor(report.gradient_norm, max_norm));
            }
            Measured::Known(report)
        } else {
            let loss_scale = self.loss_scale.as_ref().map(LossScale::value);
            if let Some(scale) = &loss_scale {
                gradients.multiply(scale.clone().recip());
            }
            let gradient_norm =
                gradients.norm_on_device().unwrap_or_else(|| Tensor::zeros([1], &device.clone().inner()));
            if let Some(max_norm) = settings.clip_norm {
                gradients.clip_on_device(gradient_norm.clone(), max_norm);
            }
            if let Some(scale) = self.loss_scale.take() {
                let finite = gradient_norm.clone().is_finite();
                self.loss_scale = Some(scale.after(finite.clone()));
                is_finite = Some(finite);
            }
            let loss = losses.into_iter().reduce(|sum, loss| sum + loss);
            let loss = loss.unwrap_or_else(|| Tensor::zeros([1], &device.clone().inner()));
            Measured::OnDevice(Box::new(OnDevice { loss, gradient_norm, loss_scale }))
        };
        self.optimizer.begin_step();
        let mut update = Update { gradients, names: &self.names, optimizer: &mut self.optimizer, settings, is_finite };
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
        global_norm_on_device(&self.in_order())
    }

    /// [`clip_factor`] where the gradients are; a factor of 1 changes nothing.
    fn clip_on_device(&mut self, norm: Tensor<1>, max_norm: f64) {
        self.multiply(norm.add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0));
    }

    /// Times a number on the device, `[1]`.
    fn multiply(&mut self, factor: Tensor<1>) {
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
    /// Whether the gradients are finite, `[1]`, where the update depends on it.
    is_finite: Option<Tensor<1, Bool>>,
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
            let learning_rate = learning_rate * share;
            let value = match &self.is_finite {
                None => self.optimizer.update(parameter, learning_rate),
                Some(is_finite) => self.optimizer.update_if(is_finite.clone(), parameter, learning_rate),
            };
            value.reshape(shape).autodiff().with_gradient_checkpointing_strategy(strategy).require_grad()
        })
    }
}

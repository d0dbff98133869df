//! The plan: a recipe with everything resolved against the data: splits, classes, shapes, steps. After it nothing can be
//! misconfigured, and the loop asks no questions.

mod memory;
mod summary;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use ghostnet::GhostNetConfig;
use imageset::source::counted;
use imageset::{
    DataSet, ImageSource, Loader, LoaderConfig, OnCorrupt, OpenOptions, Pipeline, Sampling, SourceKind, Transform,
};

pub use self::summary::{PlanSummary, RateAt, StageAt};
use crate::batch::Normalization;
use crate::checkpoint::Progress;
use crate::distill::Teacher;
use crate::duration::{Cadence, Duration};
use crate::ema::EmaRule;
use crate::finetune::Pretrained;
use crate::loss::{Distillation, Loss};
use crate::mix::MixPolicy;
use crate::optimizer::{Optimizer, Rule};
use crate::recipe::{
    ClassWeights, Distill, Finetune, MOST_FROZEN_STAGES, OptimizerKind, Precision, Recipe, ScheduleKind, Stage,
};
use crate::schedule::Schedule;
use crate::step::StepSettings;
use crate::weights::ModelCard;

/// Sets up to this many images are decoded once before the first step, so that a damaged file is found now and not in an hour.
const MAX_CHECKED_IMAGES: usize = 5_000;

/// Batches decoded ahead of the step.
const PREFETCH_BATCHES: usize = 3;

/// The recipe asks for something that the data, or batch norm, cannot give.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// A split that is evaluated during the run.
pub struct EvaluatedSplit {
    /// `val` or `train`.
    pub name: String,
    /// Its images in order.
    pub loader: Loader,
    /// How many there are.
    pub num_images: usize,
}

/// A part of the run whose training images have a size of their own.
struct TrainStage {
    /// The step after its last.
    until: u64,
    loader: Loader,
    image_size: u32,
}

/// A run with nothing left open.
pub struct Plan {
    /// The recipe, with the data that was really used.
    pub recipe: Recipe,
    /// The data.
    pub data: DataSet,
    /// The network.
    pub model: GhostNetConfig,
    /// Number formats of the passes: what the recipe asks for, unless the device computes that wrongly.
    pub precision: Precision,
    /// Normalisation of the bytes.
    pub normalization: Normalization,
    /// Splits evaluated during the run; `val`, or the first if it is not among them, decides which checkpoint is the best.
    pub evaluated: Vec<EvaluatedSplit>,
    /// Fingerprint of what is trained and measured on.
    pub data_fingerprint: String,
    /// Optimizer steps in an epoch.
    pub steps_per_epoch: u64,
    /// Optimizer steps in the run.
    pub total_steps: u64,
    /// What the network starts from, if not from random weights.
    pub pretrained: Option<Pretrained>,
    /// What the network learns from beside the labels, if there is something.
    pub teacher: Option<Teacher>,
    /// In their order; the last one ends with the run.
    stages: Vec<TrainStage>,
    warmup_steps: u64,
    head_warmup_steps: u64,
    schedule: Schedule,
    mixup_off_after: u64,
    cutmix_off_after: u64,
}

/// What a run is given beside its recipe; what is absent is the recipe's own.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Takes the place of the recipe's source of images.
    pub data: Option<PathBuf>,
    /// Takes the place of `finetune.weights`.
    pub weights: Option<PathBuf>,
    /// Takes the place of `finetune.key`.
    pub key: Option<String>,
    /// Takes the place of `distill.teacher`.
    pub teacher: Option<PathBuf>,
    /// Whether the run has checkpoints to go on from: it then does without the weights that it began with.
    pub resumes: bool,
}

fn read_teacher(distill: &Distill, classes: &[String]) -> anyhow::Result<Teacher> {
    let Some(path) = &distill.teacher else {
        let message = "the recipe distills, and no teacher is named\n\n\
                       hint: `--teacher RUN`, the folder of a run, or a model file; or leave the section `[distill]` out";
        return Err(Unfit(message.to_string()).into());
    };
    Teacher::read(path, distill.key.as_deref(), classes)
}

fn read_weights(finetune: &Finetune, model: &GhostNetConfig, classes: &[String]) -> anyhow::Result<Pretrained> {
    let Some(path) = &finetune.weights else {
        let message = "the recipe fine-tunes, and no weights are named\n\n\
                       hint: `--weights RUN`, the folder of a run, or a model file; or leave the section `[finetune]` out";
        return Err(Unfit(message.to_string()).into());
    };
    Pretrained::read(path, finetune.key.as_deref(), model, classes)
}

/// Opens the data of a recipe; `data` takes the place of its source, of whatever kind.
pub fn open_data(recipe: &mut Recipe, data: Option<PathBuf>) -> anyhow::Result<DataSet> {
    open(&data_options(recipe, data))
}

/// Where the data of a recipe are; `data` takes the place of its source, of whatever kind.
pub fn data_options(recipe: &mut Recipe, data: Option<PathBuf>) -> OpenOptions {
    if let Some(path) = data {
        recipe.data.source = SourceKind::Auto;
        recipe.data.path = Some(path);
    }
    OpenOptions {
        kind: recipe.data.source,
        path: recipe.data.path.clone(),
        val_fraction: recipe.data.val_fraction,
        seed: recipe.seed,
        leave_out: recipe.data.leave_out.clone(),
        max_pixels: recipe.data.max_pixels,
    }
}

/// Opens a data set; where the split is ours, copies of the same picture lie on one side of it.
pub fn open(options: &OpenOptions) -> anyhow::Result<DataSet> {
    let data = DataSet::open(options).context("cannot open the data")?;
    Ok(data.without_duplicates_across(0, &|_| ()))
}

/// Fingerprint of what is trained and measured on.
pub fn data_fingerprint(data: &DataSet) -> String {
    let splits = [&data.train, &data.val].map(|split| DataSet::fingerprint(split.as_ref()));
    blake3::hash(splits.concat().as_bytes()).to_hex().to_string()
}

/// What to know before a model is measured on data that were split here: whether what it trained on may be among the images.
pub fn split_warning(card: &ModelCard, data: &DataSet) -> Option<&'static str> {
    let trained_on = card.data_fingerprint.as_ref().filter(|_| !data.has_own_split)?;
    (*trained_on != data_fingerprint(data)).then_some(
        "the images, or their split, are not those of the run: some that it was trained on may be among those measured",
    )
}

/// The optimizer of a recipe, which has seen nothing.
pub fn optimizer(optimizer: &crate::recipe::Optimizer) -> Optimizer {
    let rule = match optimizer.kind {
        OptimizerKind::Sgd => Rule::Sgd { momentum: optimizer.momentum(), nesterov: optimizer.nesterov() },
        OptimizerKind::Adamw => Rule::AdamW { betas: optimizer.betas(), epsilon: optimizer.epsilon() },
        OptimizerKind::RmspropTf => {
            Rule::RmspropTf { alpha: optimizer.alpha(), epsilon: optimizer.epsilon(), momentum: optimizer.momentum() }
        }
        OptimizerKind::Lamb => Rule::Lamb { betas: optimizer.betas(), epsilon: optimizer.epsilon() },
        OptimizerKind::Muon => Rule::Muon {
            momentum: optimizer.momentum(),
            nesterov: optimizer.nesterov(),
            betas: optimizer.betas(),
            epsilon: optimizer.epsilon(),
        },
        OptimizerKind::Lion => Rule::Lion { betas: optimizer.betas() },
    };
    Optimizer::new(rule, optimizer.weight_decay)
}

/// Threads that decode: what the recipe says, or one for each core up to 8.
pub fn workers(recipe: &Recipe) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    recipe.data.workers.unwrap_or(cores.min(8))
}

/// A loader that trains: shuffled, in whole batches.
pub fn training_loader(recipe: &Recipe, source: Arc<dyn ImageSource>) -> anyhow::Result<Loader> {
    let pipeline = Pipeline::new(&recipe.data.train, recipe.data.image_size).context("`data.train` of the recipe")?;
    let config = LoaderConfig {
        batch_size: recipe.data.batch_size,
        workers: workers(recipe),
        prefetch_batches: PREFETCH_BATCHES,
        seed: recipe.seed,
        shuffle: true,
        sampling: recipe.data.sampling,
        drop_last: true,
        on_corrupt: recipe.data.on_corrupt,
    };
    Ok(Loader::new(source, pipeline, config)?)
}

/// A loader that evaluates a split: in order, nothing dropped.
pub fn evaluation_loader(recipe: &Recipe, source: Arc<dyn ImageSource>) -> anyhow::Result<Loader> {
    let pipeline = Pipeline::new(&recipe.data.val, recipe.data.image_size).context("`data.val` of the recipe")?;
    if pipeline.is_random() {
        bail!("`data.val` of the recipe has a random transform, so no two evaluations would agree");
    }
    let config = LoaderConfig {
        batch_size: recipe.data.batch_size,
        workers: workers(recipe),
        prefetch_batches: PREFETCH_BATCHES,
        seed: recipe.seed,
        shuffle: false,
        drop_last: false,
        on_corrupt: recipe.data.on_corrupt,
        ..LoaderConfig::default()
    };
    Ok(Loader::new(source, pipeline, config)?)
}

/// Classes and batches against the data.
fn check_fit(recipe: &Recipe, data: &DataSet) -> Result<(), Unfit> {
    let (batch_size, num_images, num_classes) = (recipe.data.batch_size, data.train.len(), data.classes.len());
    if let Some(expected) = recipe.model.num_classes.filter(|expected| *expected != num_classes) {
        return Err(Unfit(format!(
            "the recipe's `model.num_classes` is {expected} and the data have {}\n\n\
             hint: leave the key out, and the head is sized by the data",
            counted(num_classes, "class")
        )));
    }
    check_threshold(recipe, data)?;
    check_labels(recipe, data)?;
    let sizes = [("data.batch_size", Some(batch_size)), ("train.micro_batch_size", recipe.train.micro_batch_size)];
    if let Some((key, _)) = sizes.into_iter().find(|(_, size)| size.is_some_and(|size| size < 2)) {
        return Err(Unfit(format!("`{key}` is 1, and batch norm cannot train on one image\n\nhint: use 2 or more")));
    }
    if batch_size > num_images {
        return Err(Unfit(format!(
            "`data.batch_size` is {batch_size} and the training set has {}\n\n\
             hint: `--set data.batch_size={}`",
            counted(num_images, "image"),
            num_images.div_ceil(4).max(2)
        )));
    }
    if data.val.is_empty() && recipe.eval.splits.iter().any(|split| split == "val") {
        return Err(Unfit(
            "there are no images to validate on\n\n\
             hint: give each class two images or more, or measure on the training images with `--set eval.splits=[\"train\"]`"
                .to_string(),
        ));
    }
    Ok(())
}

/// Some things are for images of one class each.
fn check_labels(recipe: &Recipe, data: &DataSet) -> Result<(), Unfit> {
    if !data.train.is_multi_label() {
        return Ok(());
    }
    let asked = [
        (
            recipe.train.class_weights != ClassWeights::Equal,
            "`train.class_weights`",
            "weighs the one class of each image",
        ),
        (
            recipe.data.sampling == Sampling::Balanced,
            "`data.sampling = \"balanced\"`",
            "counts the one class of each image",
        ),
        (recipe.distill.is_some(), "`[distill]`", "learns from a teacher which one class an image is of"),
    ];
    match asked.into_iter().find(|(is_asked, ..)| *is_asked) {
        Some((_, what, why)) => {
            Err(Unfit(format!("{what} {why}, and these images have several labels\n\nhint: leave it out")))
        }
        None => Ok(()),
    }
}

/// The threshold of binary cross-entropy must tell the targets of an image that is not mixed apart.
fn check_threshold(recipe: &Recipe, data: &DataSet) -> Result<(), Unfit> {
    let Some(threshold) = recipe.train.bce.and_then(|bce| bce.threshold) else { return Ok(()) };
    // As the targets are smoothed: see `loss::one_hot` and `loss::many_hot`.
    let sharing = if data.train.is_multi_label() { 2 } else { data.classes.len() };
    let off = recipe.train.label_smoothing / sharing as f64;
    let on = 1.0 - recipe.train.label_smoothing + off;
    if (off..on).contains(&threshold) {
        return Ok(());
    }
    Err(Unfit(format!(
        "`train.bce.threshold` is {threshold}, and with `train.label_smoothing` the targets are {off:.4} and {on:.4}, both on one side \
         of it\n\n\
         hint: choose a threshold between them, for instance 0.2"
    )))
}

/// The stages of a recipe and, behind them, the rest of the run with the images that it ends with.
fn train_stages(recipe: &Recipe, last: Loader, steps_per_epoch: u64) -> anyhow::Result<Vec<TrainStage>> {
    let total_steps = recipe.train.total_steps(steps_per_epoch).map_err(Unfit)?;
    let mut stages: Vec<TrainStage> = Vec::new();
    for Stage { until, image_size } in &recipe.train.stage {
        let until = until.to_whole_steps(steps_per_epoch);
        if stages.last().is_some_and(|before| until <= before.until) || until >= total_steps {
            return Err(Unfit(format!(
                "the stages of `train.stage` must end one after the other, and the last before step {total_steps}, the end of the \
                 run, but one ends at step {until}\n\n\
                 hint: `until` counts from the start of the run"
            ))
            .into());
        }
        let mut transforms = recipe.data.train.clone();
        transforms.iter_mut().for_each(Transform::clear_size);
        let pipeline = Pipeline::new(&transforms, *image_size).context("`train.stage` of the recipe")?;
        stages.push(TrainStage { until, loader: last.with_pipeline(pipeline), image_size: *image_size });
    }
    stages.push(TrainStage { until: total_steps, loader: last, image_size: recipe.data.image_size });
    Ok(stages)
}

impl Plan {
    /// Resolves a recipe with the data and weights that are given for it.
    pub fn new(mut recipe: Recipe, inputs: Inputs) -> anyhow::Result<Self> {
        if let Some(weights) = inputs.weights {
            let finetune = recipe.finetune.get_or_insert_default();
            finetune.weights = Some(weights);
            // The recipe's key is for the recipe's file.
            finetune.key = None;
        }
        if let Some(key) = inputs.key {
            recipe.finetune.get_or_insert_default().key = Some(key);
        }
        if let Some(teacher) = inputs.teacher {
            let distill = recipe.distill.get_or_insert_default();
            distill.teacher = Some(teacher);
            distill.key = None;
        }
        let data = open_data(&mut recipe, inputs.data)?;
        if data.train.is_multi_label() {
            // Its classes are no alternatives, so there is no other loss for it.
            recipe.train.bce.get_or_insert_default();
        }
        check_fit(&recipe, &data)?;
        let train_loader = training_loader(&recipe, Arc::clone(&data.train))?;
        let accumulate = recipe.train.accumulate;
        let steps_per_epoch = (train_loader.batches_per_epoch() / accumulate) as u64;
        if steps_per_epoch == 0 {
            let message = format!(
                "an epoch has {} and `train.accumulate` asks for {accumulate} in a step\n\n\
                 hint: make `train.accumulate` or `data.batch_size` smaller",
                counted(train_loader.batches_per_epoch(), "batch")
            );
            return Err(Unfit(message).into());
        }
        let evaluated = recipe
            .eval
            .splits
            .iter()
            .map(|name| {
                let source = if name == "train" { &data.train } else { &data.val };
                let loader = evaluation_loader(&recipe, Arc::clone(source))
                    .with_context(|| format!("cannot evaluate the split `{name}`"))?;
                Ok(EvaluatedSplit { name: name.clone(), loader, num_images: source.len() })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let total_steps = recipe.train.total_steps(steps_per_epoch).map_err(Unfit)?;
        let warmup_steps = recipe.schedule.warmup.map_or(0, |warmup| warmup.to_whole_steps(steps_per_epoch));
        if warmup_steps > total_steps {
            return Err(Unfit(format!(
                "`schedule.warmup` is {} long and the run only {total_steps}\n\n\
                 hint: make the warm-up shorter or `train.total` longer",
                counted(warmup_steps as usize, "step")
            ))
            .into());
        }
        let cooldown_steps = recipe.schedule.cooldown.map_or(0, |cooldown| cooldown.to_whole_steps(steps_per_epoch));
        if warmup_steps.saturating_add(cooldown_steps) > total_steps {
            return Err(Unfit(format!(
                "`schedule.warmup` and `schedule.cooldown` are {warmup_steps} and {cooldown_steps} steps long and the run only \
                 {total_steps}\n\n\
                 hint: make them shorter or `train.total` longer"
            ))
            .into());
        }
        let stages = train_stages(&recipe, train_loader, steps_per_epoch)?;
        let off_after = |mix: &Option<crate::recipe::Mix>| {
            let duration = mix.as_ref().and_then(|mix| mix.off_after);
            duration.map_or(u64::MAX, |duration| duration.to_whole_steps(steps_per_epoch))
        };
        let model = recipe.model.network(data.classes.len());
        let finetune = recipe.finetune.as_ref();
        let is_gone = |finetune: &&Finetune| finetune.weights.as_ref().is_some_and(|weights| !weights.exists());
        let needs_weights = |finetune: &&Finetune| !(inputs.resumes && is_gone(finetune));
        let pretrained =
            finetune.filter(needs_weights).map(|finetune| read_weights(finetune, &model, &data.classes)).transpose()?;
        let head_warmup = finetune.and_then(|finetune| finetune.head_warmup);
        let head_warmup_steps = head_warmup.map_or(0, |duration| duration.to_whole_steps(steps_per_epoch));
        if head_warmup_steps >= total_steps {
            return Err(Unfit(format!(
                "`finetune.head_warmup` is {} long and the run {total_steps}, so nothing but the head would train\n\n\
                 hint: make it shorter, or say so with `finetune.freeze_stages = {MOST_FROZEN_STAGES}`",
                counted(head_warmup_steps as usize, "step")
            ))
            .into());
        }
        let teacher = recipe.distill.as_ref().map(|distill| read_teacher(distill, &data.classes)).transpose()?;
        if let (Some(distill), Some(teacher)) = (&mut recipe.distill, &teacher) {
            distill.teacher = Some(std::path::absolute(&teacher.path)?);
        }
        // What was really used: a run that was named may get a better checkpoint later.
        if let (Some(finetune), Some(pretrained)) = (&mut recipe.finetune, &pretrained) {
            finetune.weights = Some(std::path::absolute(&pretrained.path)?);
        }
        Ok(Self {
            model,
            pretrained,
            teacher,
            stages,
            warmup_steps,
            head_warmup_steps,
            normalization: Normalization { mean: recipe.data.mean, std: recipe.data.std },
            evaluated,
            data_fingerprint: data_fingerprint(&data),
            steps_per_epoch,
            total_steps,
            schedule: Schedule::new(&recipe, steps_per_epoch, total_steps),
            mixup_off_after: off_after(&recipe.train.mixup),
            cutmix_off_after: off_after(&recipe.train.cutmix),
            data,
            precision: recipe.train.precision,
            recipe,
        })
    }

    /// Epochs done after a number of steps.
    pub fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }

    /// The epoch, counted from 0, that the step after `step` finished ones belongs to.
    pub fn epoch_of(&self, step: u64) -> u64 {
        step / self.steps_per_epoch
    }

    /// Whether step number `step` is the last of an epoch, or of the run.
    pub fn ends_epoch(&self, step: u64) -> bool {
        step > 0 && (step.is_multiple_of(self.steps_per_epoch) || step == self.total_steps)
    }

    /// The stage that the step after `step` finished ones belongs to, counted from 0.
    pub fn stage(&self, step: u64) -> usize {
        let stage = self.stages.iter().position(|stage| step < stage.until);
        stage.unwrap_or(self.stages.len().saturating_sub(1))
    }

    /// Finished steps at which the last stage begins, the one with the images that the run ends with.
    pub fn last_stage_begins(&self) -> u64 {
        self.stages.iter().rev().nth(1).map_or(0, |stage| stage.until)
    }

    /// Shuffled training batches, of the size that the step after `step` finished ones takes.
    pub fn train_loader(&self, step: u64) -> &Loader {
        &self.stages[self.stage(step)].loader
    }

    /// The rate of the step after `step` finished ones, for a plateau schedule as if there never were one.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate(step, 0)
    }

    /// How much each class counts in the loss, if they do not count the same.
    pub fn class_weights(&self) -> Option<Vec<f32>> {
        if self.recipe.train.class_weights == ClassWeights::Equal {
            return None;
        }
        let mut counts = vec![0usize; self.data.classes.len()];
        (0..self.data.train.len()).for_each(|index| counts[self.data.train.label(index)] += 1);
        let even = self.data.train.len() as f64 / counts.len() as f64;
        // Where targets are smoothed, a class without images has its share of each of them all the same.
        let weight = |count| if count == 0 { 0.0 } else { (even / count as f64) as f32 };
        Some(counts.into_iter().map(weight).collect())
    }

    /// Takes an evaluation into what a plateau schedule has seen. Those of a warm-up do not count, as in timm.
    pub fn observe_plateau(&self, progress: &mut Progress, figure: f64) {
        let schedule = &self.recipe.schedule;
        let counts = progress.step > self.warmup_steps && self.counts_for_patience(progress.step);
        if schedule.kind == ScheduleKind::Plateau && counts {
            let plateau = progress.plateau.get_or_insert_default();
            plateau.observe(figure, schedule.patience(), schedule.threshold());
        }
    }

    /// What a step does that trains all that will be trained; its rate is not that of any step.
    pub fn step_settings_past_head_warmup(&self) -> StepSettings {
        self.step_settings(self.head_warmup_steps, 0)
    }

    /// What the step after `step` finished ones is to do, after `decays` of a plateau schedule.
    pub fn step_settings(&self, step: u64, decays: u32) -> StepSettings {
        let finetune = self.recipe.finetune.clone().unwrap_or_default();
        let is_head_alone = step < self.head_warmup_steps;
        let distill = self.recipe.distill.clone().unwrap_or_default();
        StepSettings {
            learning_rate: self.schedule.learning_rate(step, decays),
            distillation: Distillation {
                temperature: distill.temperature,
                weight: distill.weight,
                task_weight: distill.task_weight,
            },
            loss: self.recipe.train.bce.map_or(Loss::CrossEntropy, |bce| Loss::BinaryCrossEntropy {
                threshold: bce.threshold,
                sum_classes: bce.sum_classes,
            }),
            clip_norm: self.recipe.train.clip_norm,
            adaptive_clip: self.recipe.train.adaptive_clip,
            layer_decay: finetune.layer_decay,
            frozen_stages: if is_head_alone { MOST_FROZEN_STAGES } else { finetune.freeze_stages },
        }
    }

    /// What may be drawn for the step after `step` finished ones.
    pub fn mix_policy(&self, step: u64) -> MixPolicy {
        let train = &self.recipe.train;
        let alpha = |mix: &Option<crate::recipe::Mix>, off_after: u64| {
            mix.as_ref().filter(|_| step < off_after).map_or(0.0, |mix| mix.alpha)
        };
        MixPolicy {
            mixup_alpha: alpha(&train.mixup, self.mixup_off_after),
            cutmix_alpha: alpha(&train.cutmix, self.cutmix_off_after),
            probability: train.mix_probability,
            switch_probability: train.switch_probability,
            mode: train.mix_mode,
        }
    }

    /// The rule of the average of the weights, if the recipe has one.
    pub fn ema(&self) -> Option<EmaRule> {
        self.recipe.train.ema.map(|ema| EmaRule { decay: ema.decay, warmup: ema.warmup })
    }

    /// An optimizer that has seen nothing.
    pub fn optimizer(&self) -> Optimizer {
        optimizer(&self.recipe.optimizer)
    }

    /// Whether a run is at its end: all steps are done, or evaluations have not been better for too long.
    pub fn is_complete(&self, progress: &Progress) -> bool {
        let is_out_of_patience =
            self.recipe.eval.patience.is_some_and(|patience| progress.evaluations_since_best >= patience);
        progress.evaluated && (progress.step >= self.total_steps || is_out_of_patience)
    }

    /// Whether an evaluation after `step` steps that is no better than the best tries the patience.
    pub fn counts_for_patience(&self, step: u64) -> bool {
        step > self.head_warmup_steps
    }

    /// Whether an evaluation follows step number `step`. The last step always has one.
    pub fn evaluates_at(&self, step: u64) -> bool {
        step > 0 && (step == self.total_steps || self.recipe.eval.every.is_due_at(step, self.steps_per_epoch))
    }

    /// Whether a checkpoint follows step number `step`, `minutes` after the one before. The last step always has one.
    pub fn saves_at(&self, step: u64, minutes: f64) -> bool {
        let due = match self.recipe.checkpoint.every {
            Cadence::Epochs(epochs) => Duration::Epochs(epochs).is_due_at(step, self.steps_per_epoch),
            Cadence::Steps(steps) => Duration::Steps(steps).is_due_at(step, self.steps_per_epoch),
            Cadence::Minutes(every) => minutes >= every,
        };
        due || step == self.total_steps
    }

    /// The card of the model after `step` steps.
    pub fn card(&self, step: u64) -> ModelCard {
        let recipe = &self.recipe;
        ModelCard {
            card_version: ModelCard::VERSION,
            variant: recipe.model.variant,
            width: recipe.model.width,
            dropout: recipe.model.dropout,
            stem_stride: recipe.model.stem_stride,
            classes: self.data.classes.clone(),
            independent_classes: recipe.train.bce.is_some(),
            image_size: recipe.data.image_size,
            transforms: recipe.data.val.clone(),
            normalization: self.normalization,
            val_fraction: recipe.data.val_fraction,
            seed: recipe.seed,
            data_fingerprint: Some(self.data_fingerprint.clone()),
            folded: false,
            step,
            recipe_hash: recipe.hash(),
        }
    }

    /// Decodes every image of a small set once. An error lists the damaged files, unless the recipe skips them; a warning says whether a
    /// picture is in several classes.
    pub fn check_images(&self, progress: &dyn Fn(usize)) -> anyhow::Result<Option<String>> {
        let is_large = self.data.train.len() + self.data.val.len() > MAX_CHECKED_IMAGES;
        if is_large || self.data.known_readable {
            return Ok(None);
        }
        let report = imageset::check_parts(&self.data, 0, progress);
        // Where a split was made, contradictions were looked for.
        let were_told = !self.data.has_own_split;
        let contradictions = if were_told { &[] } else { &report.contradictions[..] };
        let warning = imageset::contradiction_warning(contradictions);
        let corrupt = [report.train.corrupt, report.val.corrupt].concat();
        if self.recipe.data.on_corrupt == OnCorrupt::Skip || corrupt.is_empty() {
            return Ok(warning);
        }
        const SHOWN: usize = 20;
        let mut list = String::new();
        for image in corrupt.iter().take(SHOWN) {
            let _ = write!(list, "\n  `{}`: {}", image.name, image.reason.trim());
        }
        if corrupt.len() > SHOWN {
            let _ = write!(list, "\n  and {} more", corrupt.len() - SHOWN);
        }
        let noun = if corrupt.len() == 1 { "image is" } else { "images are" };
        bail!(
            "{} {noun} damaged:{list}\n\nhint: mend or remove them, or train without them with `--set data.on_corrupt=skip`",
            corrupt.len()
        )
    }
}

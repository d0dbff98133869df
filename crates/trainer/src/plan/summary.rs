//! The plan in figures, for people and programs: what `--dry-run` prints and a run begins with.

use ghostnet::Variant;
use imageset::source::counted;
use serde::Serialize;

use super::Plan;
use crate::device::Processor;
use crate::finetune::Pretrained;
use crate::text_chart::{COLUMNS, text_chart};

impl Plan {
    fn learning_rates(&self) -> Vec<RateAt> {
        let last = self.total_steps.saturating_sub(1);
        let points = (COLUMNS as u64).min(self.total_steps);
        (0..points)
            .map(|point| {
                // In 128 bits, since a run may have any number of steps.
                let step = (u128::from(last) * u128::from(point) / u128::from(points.saturating_sub(1).max(1))) as u64;
                RateAt { step, learning_rate: self.learning_rate(step) }
            })
            .collect()
    }

    /// The plan in figures, with the memory that it takes of what it will be computed on.
    pub fn summary(&self, processor: Processor) -> PlanSummary {
        let recipe = &self.recipe;
        let size = recipe.data.image_size as usize;
        PlanSummary {
            data: self.data.description.clone(),
            num_classes: self.data.classes.len(),
            num_train_images: self.data.train.len(),
            num_val_images: self.data.val.len(),
            image_size: recipe.data.image_size,
            stages: self
                .stages
                .iter()
                .map(|stage| StageAt { until_step: stage.until, image_size: stage.image_size })
                .collect(),
            batch_size: recipe.data.batch_size,
            accumulate: recipe.train.accumulate,
            images_per_step: recipe.data.batch_size * recipe.train.accumulate,
            steps_per_epoch: self.steps_per_epoch,
            total_steps: self.total_steps,
            total_epochs: self.epoch(self.total_steps),
            total_images: self.total_steps.saturating_mul((recipe.data.batch_size * recipe.train.accumulate) as u64),
            variant: recipe.model.variant,
            width: recipe.model.width,
            weights: self.pretrained.as_ref().map(Pretrained::summary),
            teacher: self.teacher.as_ref().map(|teacher| {
                let card = teacher.card();
                format!("{} {}x in `{}`", card.variant.title(), card.width, teacher.path.display())
            }),
            parameters: self.model.parameters(),
            multiply_adds: self.model.multiply_adds(size, size),
            first_learning_rate: self.learning_rate(0),
            highest_learning_rate: recipe.learning_rate(),
            last_learning_rate: self.learning_rate(self.total_steps.saturating_sub(1)),
            learning_rates: self.learning_rates(),
            memory_bytes: self.memory_bytes(processor),
            memory_of: processor,
            recipe_hash: recipe.hash(),
        }
    }
}

/// A point of the learning-rate curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateAt {
    /// Finished steps.
    pub step: u64,
    /// Rate of the step after them.
    pub learning_rate: f64,
}

/// A part of the run and the height and width of its training images, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageAt {
    /// The step after its last.
    pub until_step: u64,
    /// Height and width.
    pub image_size: u32,
}

/// The plan in figures, for `--dry-run`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanSummary {
    /// Where the images come from.
    pub data: String,
    /// Classes.
    pub num_classes: usize,
    /// Images in the training split.
    pub num_train_images: usize,
    /// Images in the validation split.
    pub num_val_images: usize,
    /// Height and width, pixels.
    pub image_size: u32,
    /// Sizes of the training images, one after the other; one alone where they do not change.
    pub stages: Vec<StageAt>,
    /// Images in a forward pass.
    pub batch_size: usize,
    /// Forward passes in a step.
    pub accumulate: usize,
    /// Images in a step.
    pub images_per_step: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Steps in the run.
    pub total_steps: u64,
    /// Epochs in the run.
    pub total_epochs: f64,
    /// Images in the run, each as often as it is seen.
    pub total_images: u64,
    /// Which network.
    pub variant: Variant,
    /// Width multiplier.
    pub width: f64,
    /// What the network starts from, if not from random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// What the network learns from beside the labels, if there is something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Trainable parameters.
    pub parameters: usize,
    /// Multiply-adds of one image.
    pub multiply_adds: usize,
    /// Learning rate of the first step.
    pub first_learning_rate: f64,
    /// Learning rate that the schedule scales.
    pub highest_learning_rate: f64,
    /// Learning rate of the last step.
    pub last_learning_rate: f64,
    /// Learning rates at even distances over the run, the first and the last step among them; those of a plateau schedule as if
    /// there never were one.
    pub learning_rates: Vec<RateAt>,
    /// Estimate of the memory that a step takes, bytes: of the program on the CPU, of the card on a GPU.
    pub memory_bytes: usize,
    /// Which of the two it is.
    pub memory_of: Processor,
    /// Hash of the recipe.
    pub recipe_hash: String,
}

/// An epoch with as many digits as a reader needs: `66.67`, and `3` for a whole number.
fn rounded(epoch: f64) -> f64 {
    (epoch * 100.0).round() / 100.0
}

impl std::fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { batch_size, accumulate, images_per_step, steps_per_epoch, total_epochs, total_steps, .. } = self;
        let [images, steps] = ["image", "step"].map(|noun| move |count: u64| counted(count as usize, noun));
        let mut rows = vec![
            ("data", self.data.clone()),
            (
                "images",
                format!(
                    "{} train, {} val, {}",
                    self.num_train_images,
                    self.num_val_images,
                    counted(self.num_classes, "class")
                ),
            ),
            ("model", format!("{} {}x at {} px", self.variant.title(), self.width, self.image_size)),
            ("parameters", self.parameters.to_string()),
            ("multiply-adds", self.multiply_adds.to_string()),
            ("step", format!("{batch_size} images x {accumulate} = {images_per_step} images")),
            (
                "epoch",
                format!("{} / {images_per_step} = {}", images(self.num_train_images as u64), steps(*steps_per_epoch)),
            ),
            (
                "run",
                format!(
                    "{} epoch{} x {steps_per_epoch} = {}, {}",
                    rounded(*total_epochs),
                    if *total_epochs == 1.0 { "" } else { "s" },
                    steps(*total_steps),
                    images(self.total_images)
                ),
            ),
            (
                "learning rate",
                format!(
                    "{:.3e} first, {:.3e} highest, {:.3e} last",
                    self.first_learning_rate, self.highest_learning_rate, self.last_learning_rate
                ),
            ),
            (
                "memory",
                format!("about {} MiB for a step on the {}", self.memory_bytes.div_ceil(1 << 20), self.memory_of),
            ),
            ("recipe", self.recipe_hash.chars().take(16).collect()),
        ];
        // From the last to the first, so that each finds its place.
        if self.stages.len() > 1 {
            let stage = |stage: &StageAt| format!("{} px to step {}", stage.image_size, stage.until_step);
            rows.insert(3, ("stages", self.stages.iter().map(stage).collect::<Vec<_>>().join(", ")));
        }
        if let Some(teacher) = &self.teacher {
            rows.insert(3, ("teacher", teacher.clone()));
        }
        if let Some(weights) = &self.weights {
            rows.insert(3, ("weights", weights.clone()));
        }
        for (index, (name, value)) in rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{name:<14} {value}")?;
        }
        Ok(())
    }
}

impl PlanSummary {
    /// The learning-rate curve as text.
    pub fn learning_rate_chart(&self) -> String {
        let rates: Vec<f64> = self.learning_rates.iter().map(|point| point.learning_rate).collect();
        text_chart(
            &rates,
            |rate| format!("{rate:.1e}"),
            ["learning rate", &format!("epoch {}", rounded(self.total_epochs))],
        )
    }
}

//! The work that a device is checked for.

use std::collections::BTreeSet;

use ghostnet::GhostNetConfig;
use serde::Serialize;

use crate::feed;
use crate::plan::Plan;
use crate::recipe::{Optimizer, Precision, Recipe};
use crate::weights::ModelCard;

/// The work that a device is checked for.
#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    /// The network.
    pub network: GhostNetConfig,
    /// Steps, if it is to train.
    pub training: Option<TrainingPasses>,
    /// What it computes for images without learning from them; of a run, those of its validation.
    pub inference: ForwardPasses,
    /// Whether the work must be deterministic, so that nothing may be worked around.
    pub deterministic: bool,
    /// What the numbers are drawn from.
    pub seed: u64,
}

/// Forward passes in `f32`, with the norms folded into the convolutions.
#[derive(Debug, Clone, Serialize)]
pub struct ForwardPasses {
    /// Height and width, pixels.
    pub image_size: usize,
    /// Images that pass through the network at a time, each number once.
    pub batch_sizes: Vec<usize>,
}

/// Steps: forward, backward, update.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingPasses {
    /// Number formats.
    pub precision: Precision,
    /// Heights and widths of the images, pixels, each once.
    pub image_sizes: Vec<usize>,
    /// Images that pass through the network at a time.
    pub batch_size: usize,
    /// Whether the backward pass recomputes activations.
    pub checkpoint_activations: bool,
    /// How weights are updated.
    pub optimizer: Option<Optimizer>,
}

impl Workload {
    /// That of a run.
    pub fn of_run(plan: &Plan) -> Self {
        let mut workload = Self::of_recipe(&plan.recipe, plan.model.clone());
        let of_split = |images: usize| ForwardPasses::sizes(images, plan.recipe.data.batch_size);
        workload.inference.batch_sizes = each_once(plan.evaluated.iter().flat_map(|split| of_split(split.num_images)));
        workload
    }

    /// That of a run of a recipe, with its network.
    pub fn of_recipe(recipe: &Recipe, network: GhostNetConfig) -> Self {
        let image_size = recipe.data.image_size as usize;
        let sizes = recipe.train.stage.iter().map(|stage| stage.image_size as usize).chain([image_size]);
        let batch_size = recipe.data.batch_size;
        Self {
            network,
            training: Some(TrainingPasses {
                precision: recipe.train.precision,
                image_sizes: each_once(sizes),
                batch_size: feed::largest_part(batch_size, recipe.train.micro_batch_size.unwrap_or(batch_size)),
                checkpoint_activations: recipe.train.checkpoint_activations,
                optimizer: Some(recipe.optimizer.clone()),
            }),
            inference: ForwardPasses { image_size, batch_sizes: vec![batch_size] },
            deterministic: recipe.train.deterministic,
            seed: 0,
        }
    }

    /// That of forward passes of a trained network, of so many images at a time.
    pub fn of_model(card: &ModelCard, batch_sizes: Vec<usize>) -> Self {
        Self {
            network: card.config(),
            training: None,
            inference: ForwardPasses { image_size: card.image_size as usize, batch_sizes },
            deterministic: false,
            seed: 0,
        }
    }

    /// Number formats of its passes.
    pub fn precision(&self) -> Precision {
        self.training.as_ref().map_or(Precision::F32, |training| training.precision)
    }

    /// The same with other number formats.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        if let Some(training) = &mut self.training {
            training.precision = precision;
        }
        self
    }

    /// The most images that pass through the network at a time.
    pub fn batch_size(&self) -> usize {
        let of_training = self.training.as_ref().map(|training| training.batch_size);
        self.inference.batch_sizes.iter().copied().chain(of_training).max().unwrap_or(0)
    }

    /// The same with at most so many images at a time.
    #[must_use]
    pub fn with_at_most(mut self, images: usize) -> Self {
        if let Some(training) = &mut self.training {
            training.batch_size = training.batch_size.min(images);
        }
        self.inference.batch_sizes = each_once(self.inference.batch_sizes.into_iter().map(|size| size.min(images)));
        self
    }
}

impl ForwardPasses {
    /// The sizes of the batches of so many images: those of whole ones and that of the last one.
    pub fn sizes(num_images: usize, batch_size: usize) -> Vec<usize> {
        each_once([num_images.min(batch_size), num_images % batch_size])
    }
}

/// In ascending order, without nothing.
fn each_once(sizes: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let sizes: BTreeSet<usize> = sizes.into_iter().filter(|size| *size > 0).collect();
    sizes.into_iter().collect()
}

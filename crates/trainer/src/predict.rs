//! Prediction: images in, class names and probabilities out, with the preprocessing that travels in the model file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use burn::tensor::activation::{sigmoid, softmax};
use ghostnet::{FoldedGhostNet, GhostNet};
use imageset::{Batch, DecodeLimits, Pipeline};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::batch;
use crate::weights::ModelCard;

/// A class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// Class name.
    pub class: String,
    /// Softmax of its score, or its sigmoid where classes are no alternatives; 0 to 1.
    pub probability: f32,
}

/// The guesses for one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The file.
    pub image: PathBuf,
    /// Most probable first.
    pub guesses: Vec<Guess>,
}

/// A network with its preprocessing.
#[derive(Debug)]
pub struct Predictor {
    model: FoldedGhostNet,
    card: ModelCard,
    pipeline: Pipeline,
    device: Device,
}

impl Predictor {
    /// Pairs a network with its card.
    pub fn new(model: &GhostNet, card: ModelCard, device: Device) -> anyhow::Result<Self> {
        let pipeline = Pipeline::new(&card.transforms, card.image_size).context("the model's preprocessing")?;
        Ok(Self { model: model.fold(), card, pipeline, device })
    }

    /// The `top` most probable classes of an image file.
    pub fn predict(&self, path: &Path, top: usize) -> anyhow::Result<Prediction> {
        let bytes = fs_err::read(path)?;
        let image = imageset::decode(&bytes, &DecodeLimits::default())
            .with_context(|| format!("cannot decode `{}`", path.display()))?;
        // Evaluation transforms draw nothing.
        let image = self.pipeline.apply(image, &mut ChaCha8Rng::seed_from_u64(0));
        let batch = Batch {
            pixels: image.pixels,
            labels: vec![0],
            label_sets: None,
            indices: vec![0],
            image_size: self.card.image_size,
            skipped: Vec::new(),
        };
        let logits = self.model.forward(batch::images(batch, &self.card.normalization, &self.device));
        let probabilities = if self.card.independent_classes { sigmoid(logits) } else { softmax(logits, 1) };
        let probabilities: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
        let mut guesses: Vec<Guess> = self
            .card
            .classes
            .iter()
            .zip(probabilities)
            .map(|(class, probability)| Guess { class: class.clone(), probability })
            .collect();
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses.truncate(top);
        Ok(Prediction { image: path.to_path_buf(), guesses })
    }
}

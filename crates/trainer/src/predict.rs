//! Prediction: images in, class names and probabilities out, with the preprocessing that travels in the model file.

pub mod inputs;

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use ghostnet::{FoldedGhostNet, GhostNet};
use imageset::name::path_text;
use imageset::{DecodeLimits, Pipeline, RgbImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use crate::batch;
use crate::export::OnnxFile;
use crate::onnx_runtime::{Input, Runtime};
use crate::weights::ModelCard;

/// A class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// Class name.
    pub class: String,
    /// Softmax of its score, or its sigmoid where classes are no alternatives or there is only one; 0 to 1.
    pub probability: f32,
    /// What the network gives.
    pub score: f32,
}

/// The guesses for one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The file.
    #[serde(flatten, serialize_with = "image_path")]
    pub image: PathBuf,
    /// Most probable first.
    pub guesses: Vec<Guess>,
}

/// Writes a path as `image`; one that is not UTF-8 with replacement characters, and as `image_escaped` with its bytes as `\xNN`.
fn image_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let escaped = path.to_str().is_none().then(|| ("image_escaped", path_text(path)));
    let lossy = ("image", path.to_string_lossy().into_owned());
    serializer.collect_map([lossy].into_iter().chain(escaped))
}

/// A network with its preprocessing.
pub struct Predictor {
    network: Network,
    card: ModelCard,
    pipeline: Pipeline,
    device: Device,
}

/// What gives the scores.
enum Network {
    Ours(Box<FoldedGhostNet>),
    /// Another runtime with a file that normalised images go into.
    Onnx(Runtime),
    /// The same with the bytes of a file that pictures of any size go into: it is planned anew for each size.
    OnnxOfPictures(Vec<u8>),
}

impl Predictor {
    /// Pairs a network with its card.
    pub fn new(model: &GhostNet, card: ModelCard, device: Device) -> anyhow::Result<Self> {
        Self::of(Network::Ours(Box::new(model.fold())), card, device)
    }

    /// Of the bytes of an exported file, run as others would run it.
    pub fn onnx(file: OnnxFile, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let size = file.card.image_size as usize;
        let network = if file.takes_pictures {
            Network::OnnxOfPictures(bytes)
        } else {
            Network::Onnx(Runtime::parse(&bytes, &Input::Images { shape: [1, 3, size, size], values: &[] }, None)?)
        };
        Self::of(network, file.card, Device::flex())
    }

    fn of(network: Network, card: ModelCard, device: Device) -> anyhow::Result<Self> {
        let pipeline = Pipeline::new(&card.transforms, card.image_size).context("the model's preprocessing")?;
        Ok(Self { network, card, pipeline, device })
    }

    /// The `top` most probable classes of a picture, which was read from `path`.
    pub fn predict(&self, path: &Path, picture: RgbImage, top: usize) -> anyhow::Result<Prediction> {
        let scores = match &self.network {
            Network::Ours(model) => model.forward(self.images(picture)),
            Network::Onnx(runtime) => {
                let images = self.images(picture);
                let (shape, values) = (images.dims(), images.into_data().iter().collect::<Vec<f32>>());
                self.scores(runtime.run(&Input::Images { shape, values: &values })?)
            }
            Network::OnnxOfPictures(bytes) => {
                let shape = [1, picture.height as usize, picture.width as usize, 3];
                let input = Input::Pictures { shape, levels: &picture.pixels };
                self.scores(Runtime::parse(bytes, &input, None)?.run(&input)?)
            }
        };
        let values: Vec<f32> = scores.clone().into_data().iter().collect();
        let probabilities = if self.card.is_sigmoid() { sigmoid(scores) } else { softmax(scores, 1) };
        let probabilities: Vec<f32> = probabilities.into_data().iter().collect();
        let mut guesses: Vec<Guess> = self
            .card
            .classes
            .iter()
            .zip(values)
            .zip(probabilities)
            .map(|((class, score), probability)| Guess { class: class.clone(), probability, score })
            .collect();
        guesses.sort_by(|a, b| b.score.total_cmp(&a.score));
        guesses.truncate(top);
        Ok(Prediction { image: path.to_path_buf(), guesses })
    }

    /// What the model says of itself.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The square that the network sees of a picture.
    pub fn prepared(&self, picture: RgbImage) -> RgbImage {
        // Evaluation transforms draw nothing.
        self.pipeline.apply(picture, &mut ChaCha8Rng::seed_from_u64(0))
    }

    /// `[1, 3, size, size]`
    fn images(&self, picture: RgbImage) -> Tensor<4> {
        batch::images(batch::of_picture(self.prepared(picture)), &self.card.normalization, &self.device)
    }

    /// `[1, num_classes]`
    fn scores(&self, outputs: Vec<Vec<f32>>) -> Tensor<2> {
        let values = outputs.concat();
        let num_classes = values.len();
        Tensor::from_data(TensorData::new(values, [1, num_classes]), &self.device)
    }
}

/// Reads a picture.
pub fn decode(path: &Path, limits: &DecodeLimits) -> anyhow::Result<RgbImage> {
    let bytes = fs_err::read(path)?;
    imageset::decode(&bytes, limits).with_context(|| format!("cannot decode `{}`", path.display()))
}

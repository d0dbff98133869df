//! What a written file gives beside what the network gives, on noise and on pictures.

use anyhow::{Context, bail};
use burn::tensor::{Tensor, TensorData};
use imageset::{DataSet, OpenOptions, Pipeline, RgbImage, SourceKind, load_image};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Exporter;
use crate::batch;
use crate::onnx_runtime::{self, Input, Runtime};

/// A comparison of the written file with the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What ran the file.
    pub runtime: String,
    /// How many images were compared.
    pub num_images: usize,
    /// Largest difference of a score.
    pub largest_difference: f32,
    /// Largest score by its absolute value.
    pub largest_score: f32,
    /// What the difference had to stay below, at scores of up to 1; in proportion at larger ones.
    pub tolerance: f32,
    /// Images for which the largest score is of the same class.
    pub same_top1: usize,
}

impl Exporter {
    pub(super) fn scores(&self, images: Tensor<4>) -> Vec<f32> {
        self.model.forward(images).into_data().iter().collect()
    }

    /// Normalised images to compare on, each `[1, 3, size, size]`: noise, and pictures of the bundled sample.
    pub(super) fn images(&self) -> anyhow::Result<Vec<Tensor<4>>> {
        let size = self.card.image_size as usize;
        let shape = [1, 3, size, size];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut images: Vec<Tensor<4>> = (0..2)
            .map(|_| {
                let noise = (0..3 * size * size).map(|_| rng.random_range(-2.0..2.0)).collect::<Vec<f32>>();
                Tensor::from_data(TensorData::new(noise, shape), &self.device)
            })
            .collect();
        for picture in sample_pictures()? {
            images.push(self.prepared(picture)?);
        }
        Ok(images)
    }

    /// `[1, 3, size, size]`
    fn prepared(&self, picture: RgbImage) -> anyhow::Result<Tensor<4>> {
        Ok(self.images_of(self.square(picture)?))
    }

    /// The square that the network sees of a picture.
    pub(super) fn square(&self, picture: RgbImage) -> anyhow::Result<RgbImage> {
        let pipeline =
            Pipeline::new(&self.card.transforms, self.card.image_size).context("the model's preprocessing")?;
        Ok(pipeline.apply(picture, &mut ChaCha8Rng::seed_from_u64(0)))
    }

    /// `[1, 3, size, size]` of such a square.
    pub(super) fn images_of(&self, square: RgbImage) -> Tensor<4> {
        batch::images(batch::of_picture(square), &self.card.normalization, &self.device)
    }

    pub(super) fn image_scores(&self, bytes: &[u8]) -> anyhow::Result<Scores> {
        let size = self.card.image_size as usize;
        let shape = [1, 3, size, size];
        let mut scores = Scores::new(onnx_runtime::NAME);
        let mut runtime = None;
        for images in self.images()? {
            let values = images.clone().into_data().iter().collect::<Vec<f32>>();
            let input = Input::Images { shape, values: &values };
            let runtime = match &runtime {
                Some(runtime) => runtime,
                None => runtime.insert(Runtime::parse(bytes, &input, None)?),
            };
            scores.add(&self.scores(images), &runtime.run(&input)?.concat());
        }
        Ok(scores)
    }

    /// Pictures of several shapes: those of the sample, and some that are wide and high.
    pub(super) fn picture_scores(&self, bytes: &[u8]) -> anyhow::Result<Scores> {
        let mut scores = Scores::new(onnx_runtime::NAME);
        let drawn = [(333, 250), (200, 401), (517, 300)].map(|(width, height)| drawn_picture(width, height));
        for picture in sample_pictures()?.into_iter().take(2).chain(drawn) {
            let shape = [1, picture.height as usize, picture.width as usize, 3];
            let input = Input::Pictures { shape, levels: &picture.pixels };
            let found = Runtime::parse(bytes, &input, None)?.run(&input)?.concat();
            scores.add(&self.scores(self.prepared(picture)?), &found);
        }
        Ok(scores)
    }
}

/// How far the scores of another runtime may be from ours, at scores of up to 1: a hundred roundings of 32-bit numbers.
pub(super) const ONNX_TOLERANCE: f32 = 1e-5;

/// The same with the resizing in the graph, where a level in a hundred differs by one.
pub(super) const PICTURE_TOLERANCE: f32 = 0.02;

/// The first pictures of the bundled sample.
fn sample_pictures() -> anyhow::Result<Vec<RgbImage>> {
    let options = OpenOptions { kind: SourceKind::FashionMnistSample, val_fraction: 0.2, ..OpenOptions::default() };
    let data = DataSet::open(&options).context("the bundled sample")?;
    (0..6).map(|index| Ok(load_image(data.val.as_ref(), index)?)).collect()
}

/// A picture with smooth and sharp parts.
fn drawn_picture(width: u32, height: u32) -> RgbImage {
    let level = |x: u32, y: u32, channel: u32| {
        let smooth = (x * 255 / width + y * 255 / height) / 2;
        let sharp = if (x / 7 + y / 11 + channel).is_multiple_of(2) { 60 } else { 0 };
        (smooth + sharp * (channel + 1) / 3).min(255) as u8
    };
    let pixels = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |channel| level(x, y, channel))))
        .collect();
    RgbImage { width, height, pixels }
}

/// The class of the largest score.
pub(super) fn top(scores: &[f32]) -> Option<usize> {
    scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
}

/// Scores of the network and of a file, image by image.
pub(super) struct Scores {
    comparison: Comparison,
}

impl Scores {
    pub(super) fn new(runtime: &str) -> Self {
        let comparison = Comparison {
            runtime: runtime.to_string(),
            num_images: 0,
            largest_difference: 0.0,
            largest_score: 0.0,
            tolerance: 0.0,
            same_top1: 0,
        };
        Self { comparison }
    }

    /// The scores of one image.
    pub(super) fn add(&mut self, expected: &[f32], found: &[f32]) {
        let comparison = &mut self.comparison;
        comparison.num_images += 1;
        if expected.len() != found.len() {
            comparison.largest_difference = f32::INFINITY;
        }
        for (expected, found) in expected.iter().zip(found) {
            let difference = (expected - found).abs();
            // A NaN is no small difference.
            if difference.is_nan() || difference > comparison.largest_difference {
                comparison.largest_difference = if difference.is_nan() { f32::INFINITY } else { difference };
            }
            comparison.largest_score = comparison.largest_score.max(expected.abs());
        }
        comparison.same_top1 += usize::from(top(expected) == top(found));
    }

    /// An error if the file does not give what the network gives.
    pub(super) fn within(self, tolerance: f32) -> anyhow::Result<Comparison> {
        let comparison = Comparison { tolerance, ..self.comparison };
        let Comparison { runtime, num_images, largest_difference, largest_score, .. } = &comparison;
        if *largest_difference > tolerance * largest_score.max(1.0) {
            bail!(
                "the file that was written does not give the scores of the network: run by {runtime} on {num_images} images, they \
                 differ by up to {largest_difference:.2e} where the largest score is {largest_score:.3}; nothing was put in place"
            );
        }
        Ok(comparison)
    }
}

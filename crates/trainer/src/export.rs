//! A trained network as a file for other programs: safetensors, which timm and all that speak PyTorch read, and ONNX, which the runtimes of
//! phones, browsers and servers read. Before a file is in place it is read back, run, and compared with the network that it came from.
//!
//! There is no writer of ONNX among burn's crates, only a reader, so the graph is built here and written with a library for protocol
//! buffers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use clap::ValueEnum;
use ghostnet::{GhostNet, NamedTensor};
use imageset::{DataSet, DecodeLimits, ImageSource, OpenOptions, Pipeline, RgbImage, SourceKind, load_image};
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::batch;
use crate::fold::fold;
use crate::onnx_runtime::{self, Input, Runtime};
use crate::relabel::Relabelled;
use crate::run_directory::replace_checked;
use crate::weights::{self, ModelCard, ModelFile};

mod graph;
mod network;
mod preprocessing;
mod proto;
mod quantize;

use graph::{Element, Graph, Side, value};
use network::{IMAGES, LOGITS};
use preprocessing::PICTURES;
use quantize::Observed;

/// Versions of the operators that can be asked for, and the IR version of the release of ONNX that brought each:
/// <https://github.com/onnx/onnx/blob/main/docs/Versioning.md>.
const OPSETS: [(i64, i64); 10] =
    [(13, 7), (14, 7), (15, 8), (16, 8), (17, 8), (18, 8), (19, 9), (20, 9), (21, 10), (22, 10)];

/// The one that is written if none is asked for: of 2022, and known to all runtimes that are kept up.
const DEFAULT_OPSET: i64 = 17;

/// The numbers of a safetensors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits, as trained
    #[default]
    F32,
    /// 16 bits, 11 of them precise; none above 65,504
    F16,
    /// 16 bits, 8 of them precise; as large as those of 32 bits
    Bf16,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// How far the scores may be from those of the network, as a part of the largest: some ten times what rounding does to networks
    /// with random weights. A file whose scores are further away is not what it should be.
    fn tolerance(self, folded: bool) -> f32 {
        match (self, folded) {
            // The same numbers through the same code.
            (Self::F32, false) => 0.0,
            (Self::F32, true) => 1e-5,
            (Self::F16, _) => 0.02,
            (Self::Bf16, _) => 0.1,
        }
    }
}

/// How to write safetensors.
#[derive(Debug, Clone, Copy, Default)]
pub struct SafetensorsOptions {
    /// Batch norms folded into the convolutions.
    pub fold: bool,
    /// The numbers.
    pub precision: Precision,
}

/// How to write ONNX.
#[derive(Debug, Clone, Copy)]
pub struct OnnxOptions {
    /// Batch norms folded into the convolutions.
    pub fold: bool,
    /// Version of the operators.
    pub opset: Option<i64>,
    /// Any number of images at a time, rather than one.
    pub dynamic_batch: bool,
    /// Decoded pictures go in, not normalised images.
    pub with_preprocessing: bool,
}

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

/// What 8 bits cost, measured by another runtime on images that the ranges were not chosen on, where the data have such.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantization {
    /// Images that the ranges of the maps were chosen on.
    pub num_calibration_images: usize,
    /// Images that the accuracy was measured on.
    pub num_images: usize,
    /// Share of right answers in 32-bit floating-point numbers.
    pub top1_f32: f64,
    /// The same in whole numbers throughout.
    pub top1_int8: f64,
    /// The same with the weights of depthwise convolutions as they were.
    pub top1_int8_depthwise_f32: f64,
    /// Whether the file has 8-bit depthwise convolutions: they may cost [`DEPTHWISE_COST`] at most.
    pub depthwise_int8: bool,
}

/// A file that was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: usize,
    /// Version of the operators, of ONNX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opset: Option<i64>,
    /// What was compared.
    pub comparison: Comparison,
    /// What whole numbers cost, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

/// A file of ONNX that was written here.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    /// The card of the network.
    pub card: ModelCard,
    /// Whether decoded pictures go in, rather than normalised images.
    pub takes_pictures: bool,
}

impl OnnxFile {
    /// What the bytes say of themselves; `None` if they are no ONNX of this program.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let model = proto::Model::decode(bytes).ok()?;
        let card = &model.metadata.iter().find(|entry| entry.key == CARD_KEY)?.value;
        let takes_pictures = model.graph?.inputs.first()?.name == PICTURES;
        Some(Self { card: serde_json::from_str(card).ok()?, takes_pictures })
    }
}

/// Key of the card among the metadata.
const CARD_KEY: &str = "ghostnet";

/// A network to export, on the CPU.
#[derive(Debug)]
pub struct Exporter {
    model: GhostNet,
    card: ModelCard,
    device: Device,
}

impl Exporter {
    /// Of a model file.
    pub fn new(file: ModelFile) -> anyhow::Result<Self> {
        let device = Device::flex();
        let (model, card) = file.into_model(&device)?;
        Ok(Self { model: model.valid(), card, device })
    }

    fn state(&self, folded: bool) -> Vec<NamedTensor> {
        let state = self.model.state(i64::try_from(self.card.step).unwrap_or(i64::MAX));
        if folded { fold(&state) } else { state }
    }

    /// Writes safetensors with timm's names, class names and preprocessing in its metadata.
    pub fn safetensors(&self, path: &Path, options: SafetensorsOptions) -> anyhow::Result<Exported> {
        let SafetensorsOptions { fold, precision } = options;
        let card = ModelCard { folded: fold, ..self.card.clone() };
        let tensors: Vec<(String, TensorData)> = self
            .state(fold)
            .into_iter()
            .map(|NamedTensor { name, data }| {
                let data = if data.dtype() == DType::F32 { data.convert_dtype(precision.dtype()) } else { data };
                (name, data)
            })
            .collect();
        let bytes = weights::encode(&tensors, Some(&card)).map_err(anyhow::Error::msg)?;
        let mut comparison = None;
        replace_checked(path, &bytes, |written| {
            let (model, _) = ModelFile::read(written)?.into_model(&self.device)?;
            let mut scores = Scores::new("this program");
            for images in self.images()? {
                let found = model.forward(images.clone()).into_data().iter().collect::<Vec<f32>>();
                scores.add(&self.scores(images), &found);
            }
            comparison = Some(scores.within(precision.tolerance(fold))?);
            Ok::<_, anyhow::Error>(())
        })?;
        let comparison = comparison.context("the file was not compared")?;
        Ok(Exported { path: path.to_path_buf(), bytes: bytes.len(), opset: None, comparison, quantization: None })
    }

    /// Writes ONNX.
    pub fn onnx(&self, path: &Path, options: OnnxOptions) -> anyhow::Result<Exported> {
        let (opset, model) = self.onnx_model(options)?;
        let bytes = model.encode_to_vec();
        let mut comparison = None;
        replace_checked(path, &bytes, |written| {
            comparison = Some(if options.with_preprocessing {
                self.picture_scores(written)?.within(PICTURE_TOLERANCE)?
            } else {
                self.image_scores(written)?.within(ONNX_TOLERANCE)?
            });
            Ok::<_, anyhow::Error>(())
        })?;
        let comparison = comparison.context("the file was not compared")?;
        let (path, bytes) = (path.to_path_buf(), bytes.len());
        Ok(Exported { path, bytes, opset: Some(opset), comparison, quantization: None })
    }

    /// Writes ONNX in whole numbers of 8 bits; the ranges of the maps are chosen on training images, and what it costs is measured on
    /// the others. `progress` hears of each step.
    pub fn onnx_int8(
        &self,
        path: &Path,
        options: OnnxOptions,
        data: &DataSet,
        progress: &dyn Fn(&str),
    ) -> anyhow::Result<Exported> {
        if !options.fold {
            bail!("whole numbers of 8 bits need batch norms that are folded; leave `--fold=false` out");
        }
        // Ranges are those of prepared images, wherever these are prepared.
        let (_, float) = self.onnx_model(OnnxOptions { with_preprocessing: false, ..options })?;
        let labelled =
            |split: &Arc<dyn ImageSource>| Relabelled::new(Arc::clone(split), &data.classes, &self.card.classes);
        let (train, val) = (labelled(&data.train)?, labelled(&data.val)?);
        let calibration = self.some_images(&train, NUM_CALIBRATION_IMAGES)?;
        let measured = self.some_images(if val.is_empty() { &train } else { &val }, NUM_MEASURED_IMAGES)?;
        if calibration.is_empty() || measured.is_empty() {
            bail!("there are no images to choose ranges on");
        }
        let graph = float.graph.as_ref().context("a graph")?;
        progress(&format!("choosing ranges on {} images", calibration.len()));
        let ranges = self.ranges(&float, &calibration)?;
        let quantized =
            |depthwise| proto::Model { graph: Some(quantize::quantize(graph, &ranges, depthwise)), ..float.clone() };
        progress(&format!(
            "measuring on {} images: 32-bit floating point, 8 bits, and 8 bits but for depthwise",
            measured.len()
        ));
        let accuracy = |model: &proto::Model| self.accuracy(model, &measured);
        let top1_f32 = accuracy(&float)?;
        let [top1_int8, top1_int8_depthwise_f32] = [accuracy(&quantized(true))?, accuracy(&quantized(false))?];
        let depthwise_int8 = top1_int8 >= top1_int8_depthwise_f32 - DEPTHWISE_COST;
        let quantization = Quantization {
            num_calibration_images: calibration.len(),
            num_images: measured.len(),
            top1_f32,
            top1_int8,
            top1_int8_depthwise_f32,
            depthwise_int8,
        };
        let (opset, model) = self.onnx_model(options)?;
        let graph = model.graph.as_ref().context("a graph")?;
        let model = proto::Model { graph: Some(quantize::quantize(graph, &ranges, depthwise_int8)), ..model };
        let bytes = model.encode_to_vec();
        let mut comparison = None;
        replace_checked(path, &bytes, |written| {
            let scores =
                if options.with_preprocessing { self.picture_scores(written)? } else { self.image_scores(written)? };
            // How near the scores are is a matter of accuracy, which was measured; that there are scores is not.
            comparison = Some(scores.within(f32::MAX)?);
            Ok::<_, anyhow::Error>(())
        })?;
        let comparison = comparison.context("the file was not compared")?;
        let (path, bytes) = (path.to_path_buf(), bytes.len());
        Ok(Exported { path, bytes, opset: Some(opset), comparison, quantization: Some(quantization) })
    }

    /// Prepared images spread over a split, with their labels; those that cannot be read are left out.
    fn some_images(&self, source: &dyn ImageSource, count: usize) -> anyhow::Result<Vec<(Vec<f32>, usize)>> {
        let count = count.min(source.len());
        let mut images = Vec::with_capacity(count);
        for at in 0..count {
            let index = at * source.len() / count;
            if let Ok(picture) = load_image(source, index, &DecodeLimits::default()) {
                images.push((self.prepared(picture)?.into_data().iter().collect(), source.label(index)));
            }
        }
        Ok(images)
    }

    /// Runs a model that is in no file yet.
    fn with_runtime<T>(
        &self,
        model: &proto::Model,
        outputs: Option<&[String]>,
        run: impl FnOnce(&dyn Fn(&[f32]) -> anyhow::Result<Vec<Vec<f32>>>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let size = self.card.image_size as usize;
        let shape = [1, 3, size, size];
        let runtime = Runtime::parse(&model.encode_to_vec(), &Input::Images { shape, values: &[] }, outputs)?;
        run(&|values| runtime.run(&Input::Images { shape, values }))
    }

    fn ranges(
        &self,
        model: &proto::Model,
        images: &[(Vec<f32>, usize)],
    ) -> anyhow::Result<HashMap<String, quantize::Range>> {
        let names = quantize::maps(model.graph.as_ref().context("a graph")?);
        // The input is known without running anything.
        let outputs = &names[1..];
        self.with_runtime(model, Some(outputs), |run| {
            let mut observed: Vec<Observed> = names.iter().map(|_| Observed::new()).collect();
            for see in [Observed::widen, Observed::count] {
                for (image, _) in images {
                    let maps = run(image)?;
                    let all = std::iter::once(image).chain(&maps);
                    observed.iter_mut().zip(all).for_each(|(observed, values)| see(observed, values));
                }
            }
            Ok(names.iter().cloned().zip(observed.iter().map(Observed::best_range)).collect())
        })
    }

    fn accuracy(&self, model: &proto::Model, images: &[(Vec<f32>, usize)]) -> anyhow::Result<f64> {
        self.with_runtime(model, None, |run| {
            let mut right = 0;
            for (image, label) in images {
                right += usize::from(top(&run(image)?.concat()) == Some(*label));
            }
            Ok(right as f64 / images.len() as f64)
        })
    }

    fn onnx_model(&self, options: OnnxOptions) -> anyhow::Result<(i64, proto::Model)> {
        let OnnxOptions { fold, opset, dynamic_batch, with_preprocessing } = options;
        let least = if with_preprocessing { preprocessing::MIN_OPSET } else { OPSETS[0].0 };
        let opset = opset.unwrap_or(DEFAULT_OPSET.max(least));
        let Some((_, ir_version)) = OPSETS.into_iter().find(|(known, _)| *known == opset && *known >= least) else {
            let last = OPSETS[OPSETS.len() - 1].0;
            let reason = if with_preprocessing { " with the preprocessing in the graph" } else { "" };
            bail!("operators of version {opset} are not written{reason}; versions {least} to {last} are");
        };
        let mut graph = Graph::default();
        let size = self.card.image_size;
        let batch = if dynamic_batch { Side::Named("batch") } else { Side::Fixed(1) };
        let input = if with_preprocessing {
            preprocessing::add(&mut graph, &self.card.transforms, size, &self.card.normalization)?;
            value(PICTURES, Element::U8, &[batch, Side::Named("height"), Side::Named("width"), Side::Fixed(3)])
        } else {
            let side = Side::Fixed(size as usize);
            value(IMAGES, Element::F32, &[batch, Side::Fixed(3), side, side])
        };
        network::add(&mut graph, &self.card.config(), &self.state(fold))?;
        let output = value(LOGITS, Element::F32, &[batch, Side::Fixed(self.card.classes.len())]);
        let model = proto::Model {
            ir_version,
            producer_name: "ghostnet".to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(proto::Graph {
                nodes: graph.nodes,
                name: format!("ghostnet_{}", self.card.width),
                initializers: graph.initializers,
                inputs: vec![input],
                outputs: vec![output],
            }),
            opset_import: vec![proto::OperatorSet { domain: String::new(), version: opset }],
            metadata: self.metadata()?,
        };
        Ok((opset, model))
    }

    /// What a program around the network has to know.
    fn metadata(&self) -> anyhow::Result<Vec<proto::Entry>> {
        let card = ModelCard { folded: false, ..self.card.clone() };
        let preprocessing = serde_json::json!({
            "image_size": card.image_size,
            "transforms": card.transforms,
            "mean": card.normalization.mean,
            "std": card.normalization.std,
        });
        let entries = [
            ("classes", serde_json::to_string(&card.classes)?),
            ("preprocessing", preprocessing.to_string()),
            (CARD_KEY, serde_json::to_string(&card)?),
        ];
        Ok(entries.map(|(key, value)| proto::Entry { key: key.to_string(), value }).to_vec())
    }

    fn scores(&self, images: Tensor<4>) -> Vec<f32> {
        self.model.forward(images).into_data().iter().collect()
    }

    /// Normalised images to compare on, each `[1, 3, size, size]`: noise, and pictures of the bundled sample.
    fn images(&self) -> anyhow::Result<Vec<Tensor<4>>> {
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
        let pipeline =
            Pipeline::new(&self.card.transforms, self.card.image_size).context("the model's preprocessing")?;
        let picture = pipeline.apply(picture, &mut ChaCha8Rng::seed_from_u64(0));
        Ok(batch::images(batch::of_picture(picture), &self.card.normalization, &self.device))
    }

    fn image_scores(&self, path: &Path) -> anyhow::Result<Scores> {
        let bytes = fs_err::read(path)?;
        let size = self.card.image_size as usize;
        let shape = [1, 3, size, size];
        let mut scores = Scores::new(onnx_runtime::NAME);
        let mut runtime = None;
        for images in self.images()? {
            let values = images.clone().into_data().iter().collect::<Vec<f32>>();
            let input = Input::Images { shape, values: &values };
            let runtime = match &runtime {
                Some(runtime) => runtime,
                None => runtime.insert(Runtime::parse(&bytes, &input, None)?),
            };
            scores.add(&self.scores(images), &runtime.run(&input)?.concat());
        }
        Ok(scores)
    }

    /// Pictures of several shapes: those of the sample, and some that are wide and high.
    fn picture_scores(&self, path: &Path) -> anyhow::Result<Scores> {
        let bytes = fs_err::read(path)?;
        let mut scores = Scores::new(onnx_runtime::NAME);
        let drawn = [(333, 250), (200, 401), (517, 300)].map(|(width, height)| drawn_picture(width, height));
        for picture in sample_pictures()?.into_iter().take(2).chain(drawn) {
            let shape = [1, picture.height as usize, picture.width as usize, 3];
            let input = Input::Pictures { shape, levels: &picture.pixels };
            let found = Runtime::parse(&bytes, &input, None)?.run(&input)?.concat();
            scores.add(&self.scores(self.prepared(picture)?), &found);
        }
        Ok(scores)
    }
}

/// How far the scores of another runtime may be from ours, at scores of up to 1: a hundred roundings of 32-bit numbers.
const ONNX_TOLERANCE: f32 = 1e-5;

/// The same with the resizing in the graph, where a level in a hundred differs by one.
const PICTURE_TOLERANCE: f32 = 0.02;

/// Images that ranges are chosen on; more change little.
const NUM_CALIBRATION_IMAGES: usize = 128;

/// Images that accuracy is measured on at most: with 500, it is known to some two points.
const NUM_MEASURED_IMAGES: usize = 500;

/// Accuracy that depthwise convolutions in whole numbers may cost; beyond, they stay in floating point.
pub const DEPTHWISE_COST: f64 = 0.005;

/// The first pictures of the bundled sample.
fn sample_pictures() -> anyhow::Result<Vec<RgbImage>> {
    let options = OpenOptions { kind: SourceKind::FashionMnistSample, path: None, val_fraction: 0.2, seed: 0 };
    let data = imageset::DataSet::open(&options).context("the bundled sample")?;
    (0..6).map(|index| Ok(load_image(data.val.as_ref(), index, &DecodeLimits::default())?)).collect()
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
fn top(scores: &[f32]) -> Option<usize> {
    scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
}

/// Scores of the network and of a file, image by image.
struct Scores {
    comparison: Comparison,
}

impl Scores {
    fn new(runtime: &str) -> Self {
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
    fn add(&mut self, expected: &[f32], found: &[f32]) {
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
    fn within(self, tolerance: f32) -> anyhow::Result<Comparison> {
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

//! A trained network as a file for other programs: safetensors, which timm and all that speak PyTorch read, and ONNX, which the runtimes of
//! phones, browsers and servers read. Before a file is put in place it is read as others read it, run, and compared with the network.
//!
//! There is no writer of ONNX among burn's crates, only a reader, so the graph is built here and written with a library for protocol
//! buffers.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{DType, Device, TensorData};
use clap::ValueEnum;
use ghostnet::{GhostNet, NamedTensor};
use prost::Message;
use serde::Serialize;

use crate::fold::fold;
use crate::run_directory::replace;
use crate::weights::{self, ModelCard, ModelFile};

mod compare;
mod graph;
mod int8;
mod network;
mod preprocessing;
mod proto;
mod quantize;

pub use compare::Comparison;
pub use int8::{DEPTHWISE_COST, Quantization};

use compare::{ONNX_TOLERANCE, PICTURE_TOLERANCE, Scores};
use graph::{Element, Graph, Side, value};
use network::{IMAGES, LOGITS};
use preprocessing::PICTURES;

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

impl OnnxOptions {
    /// Versions of the operators that such a graph can be written with.
    pub fn opsets(self) -> RangeInclusive<i64> {
        let least = if self.with_preprocessing { preprocessing::MIN_OPSET } else { OPSETS[0].0 };
        least..=OPSETS[OPSETS.len() - 1].0
    }
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
        Some(Self { card: ModelCard::parse(card).ok()?, takes_pictures })
    }
}

/// Key of the card among the metadata.
const CARD_KEY: &str = "ghostnet";

/// A network to export, on the CPU.
#[derive(Debug)]
pub struct Exporter {
    model: GhostNet,
    card: ModelCard,
    /// Whether it came from a folded file.
    is_folded: bool,
    device: Device,
}

/// Puts a file in place, and reads it back.
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace(path, bytes)?;
    if fs_err::read(path)? != bytes {
        bail!("what was written reads otherwise\n\nhint: the disk may be damaged");
    }
    Ok(())
}

impl Exporter {
    /// Of a model file.
    pub fn new(file: ModelFile) -> anyhow::Result<Self> {
        let device = Device::flex();
        let (model, card) = file.into_model(&device)?;
        let is_folded = card.folded;
        Ok(Self { model: model.valid(), card, is_folded, device })
    }

    /// The network for inference: its branches merged, its batch norms folded if that is wanted.
    fn deployed(&self, folded: bool) -> (ModelCard, Vec<NamedTensor>) {
        let card = ModelCard { folded, variant: self.card.variant.merged(), ..self.card.clone() };
        let state = self.state(&self.model.merge_branches());
        (card, if folded { fold(&state) } else { state })
    }

    fn state(&self, model: &GhostNet) -> Vec<NamedTensor> {
        model.state(i64::try_from(self.card.step).unwrap_or(i64::MAX))
    }

    /// Writes safetensors with timm's names, class names and preprocessing in its metadata.
    pub fn safetensors(&self, path: &Path, options: SafetensorsOptions) -> anyhow::Result<Exported> {
        let SafetensorsOptions { fold, precision } = options;
        if self.is_folded && !fold {
            bail!(
                "the batch norms of this network are folded already, and cannot be had back\n\n\
                 hint: export with `--fold`, or start from the checkpoint"
            );
        }
        let (card, state) = if fold { self.deployed(true) } else { (self.card.clone(), self.state(&self.model)) };
        let tensors: Vec<(String, TensorData)> = state
            .into_iter()
            .map(|NamedTensor { name, data }| {
                let data = if data.dtype() == DType::F32 { data.convert_dtype(precision.dtype()) } else { data };
                (name, data)
            })
            .collect();
        let bytes = weights::encode(&tensors, Some(&card)).map_err(anyhow::Error::msg)?;
        let (model, _) = ModelFile::parse(path, &bytes)?.into_model(&self.device)?;
        let mut scores = Scores::new("this program");
        for images in self.images()? {
            let found = model.forward(images.clone()).into_data().iter().collect::<Vec<f32>>();
            scores.add(&self.scores(images), &found);
        }
        let comparison = scores.within(precision.tolerance(fold))?;
        put(path, &bytes)?;
        Ok(Exported { path: path.to_path_buf(), bytes: bytes.len(), opset: None, comparison, quantization: None })
    }

    /// Writes ONNX.
    pub fn onnx(&self, path: &Path, options: OnnxOptions) -> anyhow::Result<Exported> {
        let (opset, model) = self.onnx_model(options)?;
        let bytes = model.encode_to_vec();
        let comparison = if options.with_preprocessing {
            self.picture_scores(&bytes)?.within(PICTURE_TOLERANCE)?
        } else {
            self.image_scores(&bytes)?.within(ONNX_TOLERANCE)?
        };
        put(path, &bytes)?;
        let (path, bytes) = (path.to_path_buf(), bytes.len());
        Ok(Exported { path, bytes, opset: Some(opset), comparison, quantization: None })
    }

    fn onnx_model(&self, options: OnnxOptions) -> anyhow::Result<(i64, proto::Model)> {
        let OnnxOptions { fold, opset, dynamic_batch, with_preprocessing } = options;
        let opset = opset.unwrap_or(DEFAULT_OPSET.max(*options.opsets().start()));
        let (_, ir_version) =
            OPSETS.into_iter().find(|(known, _)| *known == opset).context("a version of the operators")?;
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
        let (card, state) = self.deployed(fold);
        network::add(&mut graph, &card.config(), &state, size as usize)?;
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
            metadata: metadata(&ModelCard { folded: false, ..card })?,
        };
        Ok((opset, model))
    }
}

/// What a program around a network has to know.
fn metadata(card: &ModelCard) -> anyhow::Result<Vec<proto::Entry>> {
    let preprocessing = serde_json::json!({
        "image_size": card.image_size,
        "transforms": card.transforms,
        "mean": card.normalization.mean,
        "std": card.normalization.std,
    });
    let entries = [
        ("classes", serde_json::to_string(&card.classes)?),
        ("preprocessing", preprocessing.to_string()),
        (CARD_KEY, serde_json::to_string(card)?),
    ];
    Ok(entries.map(|(key, value)| proto::Entry { key: key.to_string(), value }).to_vec())
}

//! The model file: safetensors with timm's tensor names, and a card in its metadata that makes it usable alone: variant, class
//! names, preprocessing, the recipe it came from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, TensorData};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor, Variant};
use imageset::Transform;
use imageset::source::counted;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::batch::Normalization;
use crate::fold::unfold;

/// Key of the card in the metadata. It is the only key: safetensors writes several in no fixed order.
const CARD_KEY: &str = "ghostnet";

/// Larger widths and images are taken for damage.
const MAX_WIDTH: f64 = 64.0;
const MAX_IMAGE_SIZE: u32 = 16_384;

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Version of this layout.
    pub card_version: u32,
    /// Which network.
    pub variant: Variant,
    /// Width multiplier.
    pub width: f64,
    /// Dropout it was trained with.
    pub dropout: f64,
    /// Stride of the stem.
    pub stem_stride: usize,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Whether each class was trained as a question of its own: its probability is then the sigmoid of its score rather than a
    /// share of all. Ask [`is_sigmoid`](Self::is_sigmoid) how probabilities are made: a network with one output may lack this flag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub independent_classes: bool,
    /// Height and width of the images, pixels.
    pub image_size: u32,
    /// Applied to an image before it goes in, in order.
    pub transforms: Vec<Transform>,
    /// Applied after the transforms.
    pub normalization: Normalization,
    /// Share of the images that were held out, where the data came without a validation split.
    pub val_fraction: f64,
    /// Seed of the run, which also drew that split.
    pub seed: u64,
    /// Fingerprint of what was trained and measured on; absent in files of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_fingerprint: Option<String>,
    /// Whether the batch norms are folded into the convolutions: such a file is for inference alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// Optimizer steps done.
    pub step: u64,
    /// Hash of the recipe.
    pub recipe_hash: String,
}

impl ModelCard {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;

    /// Reads a card as it stands in a file, or says what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let version = serde_json::from_str::<serde_json::Value>(json)
            .ok()
            .and_then(|card| card.get("card_version")?.as_u64())
            .ok_or_else(|| "it has no `card_version`".to_string())?;
        if version > u64::from(Self::VERSION) {
            return Err(format!("it has version {version} and this program reads up to {}", Self::VERSION));
        }
        let card: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let Self { width, stem_stride, image_size, normalization, .. } = &card;
        let is_sound = (0.0..=MAX_WIDTH).contains(width)
            && *width > 0.0
            && (1..=2).contains(stem_stride)
            && (1..=MAX_IMAGE_SIZE).contains(image_size)
            && *image_size as usize >= card.config().least_image_side()
            && normalization.std.iter().all(|std| *std > 0.0 && std.is_finite())
            && !card.classes.is_empty();
        if !is_sound {
            return Err(format!(
                "it describes no network that can be used: width {width}, stem stride {stem_stride}, images of {image_size} pixels, std \
                 {:?}, {}",
                normalization.std,
                counted(card.classes.len(), "class")
            ));
        }
        Ok(card)
    }

    /// Whether the probability of a class is the sigmoid of its logit, and not its share in the softmax over all logits.
    ///
    /// A network with one output answers yes or no, as one that was trained with `BCEWithLogitsLoss` does. The softmax over a single
    /// logit is 1 whatever the logit is, so such a network is one of sigmoids even if its file was written without the flag.
    pub fn is_sigmoid(&self) -> bool {
        self.independent_classes || self.classes.len() == 1
    }

    /// The network that the card describes.
    pub fn config(&self) -> GhostNetConfig {
        GhostNetConfig::new(self.classes.len())
            .with_width(self.width)
            .with_dropout(self.dropout)
            .with_stem_stride(self.stem_stride)
            .with_variant(self.variant)
    }
}

/// Why a model file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not safetensors, or cut short.
    #[error("`{path}` is not a whole safetensors file: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// Safetensors, but not written by this program.
    #[error("`{path}` has no `{CARD_KEY}` entry in its metadata, so its classes and preprocessing are not known")]
    NoCard {
        /// The file.
        path: PathBuf,
    },
    /// The card cannot be understood.
    #[error("the `{CARD_KEY}` entry in the metadata of `{path}` cannot be read: {reason}")]
    Card {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor of a type that no network here has.
    #[error("tensor `{name}` of `{path}` has type {dtype}; only F32, F16, BF16 and I64 are read")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The tensors are another network's.
    #[error("`{path}` does not hold the network that its card describes")]
    State {
        /// The file.
        path: PathBuf,
        /// The difference.
        source: ghostnet::StateError,
    },
}

/// Tensors and metadata as bytes of a safetensors file.
pub fn encode(tensors: &[(String, TensorData)], card: Option<&ModelCard>) -> Result<Vec<u8>, String> {
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let dtype = match data.dtype() {
                DType::F32 | DType::F16 | DType::BF16 if data.iter::<f32>().any(|value| !value.is_finite()) => {
                    let hint =
                        if data.dtype() == DType::F16 { "\n\nhint: `--dtype bf16` takes larger values" } else { "" };
                    return Err(format!(
                        "tensor `{name}` holds values that are not finite in {:?}{hint}",
                        data.dtype()
                    ));
                }
                DType::F32 => Dtype::F32,
                DType::F16 => Dtype::F16,
                DType::BF16 => Dtype::BF16,
                DType::I64 => Dtype::I64,
                other => return Err(format!("tensor `{name}` has type {other:?}, which is not written")),
            };
            let view =
                TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).map_err(|error| error.to_string())?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let metadata = card
        .map(|card| serde_json::to_string(card).map(|card| HashMap::from([(CARD_KEY.to_string(), card)])))
        .transpose()
        .map_err(|error| error.to_string())?;
    safetensors::serialize(views, metadata).map_err(|error| error.to_string())
}

/// All tensors of a safetensors file, by name. Floating-point numbers of 16 bits become ones of 32.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<(String, TensorData)>, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(path, &error))?;
    let mut names = file.names();
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let view = file.tensor(name).map_err(|error| damaged(path, &error))?;
            let shape = view.shape().to_vec();
            let data = match view.dtype() {
                Dtype::F32 => {
                    let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    TensorData::new(values.collect::<Vec<_>>(), shape)
                }
                Dtype::F16 => half(view.data(), shape, DType::F16),
                Dtype::BF16 => half(view.data(), shape, DType::BF16),
                Dtype::I64 => {
                    let values = view.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
                    TensorData::new(values.collect::<Vec<_>>(), shape)
                }
                other => {
                    return Err(WeightsError::Type {
                        path: path.to_path_buf(),
                        name: name.to_string(),
                        dtype: format!("{other:?}"),
                    });
                }
            };
            Ok((name.to_string(), data))
        })
        .collect()
}

/// Numbers of 16 bits, little-endian, as ones of 32.
fn half(bytes: &[u8], shape: Vec<usize>, dtype: DType) -> TensorData {
    TensorData::from_bytes_vec(bytes.to_vec(), shape, dtype).convert_dtype(DType::F32)
}

fn damaged(path: &Path, error: &safetensors::SafeTensorError) -> WeightsError {
    WeightsError::Damaged { path: path.to_path_buf(), reason: error.to_string() }
}

/// The bytes of a model file.
pub fn encode_model(model: &GhostNet, card: &ModelCard) -> Result<Vec<u8>, String> {
    let steps = i64::try_from(card.step).unwrap_or(i64::MAX);
    let tensors: Vec<_> = model.state(steps).into_iter().map(|tensor| (tensor.name, tensor.data)).collect();
    encode(&tensors, Some(card))
}

/// A model file's contents before they become a network on a device.
#[derive(Debug, Clone)]
pub struct ModelFile {
    path: PathBuf,
    /// What the file says of itself.
    pub card: ModelCard,
    tensors: Vec<NamedTensor>,
}

impl ModelFile {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        Self::parse(path, &fs_err::read(path)?)
    }

    /// Checks the bytes of a file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, WeightsError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(path, &error))?;
        let card = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(CARD_KEY))
            .ok_or_else(|| WeightsError::NoCard { path: path.to_path_buf() })?;
        let card = ModelCard::parse(card).map_err(|reason| WeightsError::Card { path: path.to_path_buf(), reason })?;
        let tensors = decode(path, bytes)?.into_iter().map(|(name, data)| NamedTensor { name, data }).collect();
        Ok(Self { path: path.to_path_buf(), card, tensors })
    }

    /// A model file that is to be written; `path` is where its tensors came from, for messages.
    pub fn new(path: &Path, card: ModelCard, tensors: Vec<NamedTensor>) -> Self {
        Self { path: path.to_path_buf(), card, tensors }
    }

    /// Its bytes.
    pub fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let tensors: Vec<_> = self.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.data.clone())).collect();
        encode(&tensors, Some(&self.card)).map_err(anyhow::Error::msg)
    }

    /// The tensors alone.
    pub fn into_tensors(self) -> Vec<NamedTensor> {
        self.tensors
    }

    /// Builds the network on a device.
    pub fn into_model(self, device: &Device) -> Result<(GhostNet, ModelCard), WeightsError> {
        let network = self.card.config();
        let tensors =
            if self.card.folded { unfold(self.tensors, &network.init(&Device::flex()).state(0)) } else { self.tensors };
        let model = network.load(tensors, device).map_err(|source| WeightsError::State { path: self.path, source })?;
        Ok((model, self.card))
    }
}

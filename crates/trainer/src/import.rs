//! Weights of other programs as model files of this one: which network they are of is found from their names and shapes, and every
//! tensor is checked.

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::{Device, TensorData};
use foreign_weights::{ForeignWeights, Values};
use ghostnet::{GhostNetConfig, NamedTensor, StateError};
use imageset::{Interpolation, Transform};

use crate::batch::Normalization;
use crate::recipe::Variant;
use crate::weights::{ModelCard, ModelFile};

/// What a file of weights does not say.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The set to read, where a file has several.
    pub key: Option<String>,
    /// Names of the classes, in the order of the network's scores.
    pub classes: Option<Vec<String>>,
}

/// A network from elsewhere.
#[derive(Debug, Clone)]
pub struct Imported {
    /// As if it had been written here; classes without names are numbered.
    pub model: ModelFile,
    /// Sentences on what the file was and what was made of it.
    pub notes: Vec<String>,
}

/// Widths that are tried after the published ones: 0.1 to 3 in steps of a twentieth.
fn widths() -> impl Iterator<Item = f64> {
    [0.5, 1.0, 1.3].into_iter().chain((2..=60).map(|twentieth| f64::from(twentieth) / 20.0))
}

/// Reads the bytes of a file; `path` is for messages.
pub fn import(path: &Path, bytes: &[u8], hints: Hints) -> anyhow::Result<Imported> {
    let weights = ForeignWeights::parse(path, bytes, hints.key.as_deref())?;
    let mut notes = weights.notes.clone();
    if let [first, others @ ..] = weights.not_finite.as_slice() {
        bail!(
            "`{}` is damaged: values that are not finite are in tensor `{first}` and {} more",
            path.display(),
            others.len()
        );
    }
    refuse_other_networks(path, &weights)?;
    let shape = |name: &str| weights.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| &tensor.shape);
    let (Some(stem), Some(head), Some(classifier)) =
        (shape("conv_stem.weight"), shape("conv_head.weight"), shape("classifier.weight"))
    else {
        bail!(
            "`{}` is no GhostNet: of `conv_stem.weight`, `conv_head.weight` and `classifier.weight` not all are there; its first \
             tensors are {}",
            path.display(),
            weights.tensors.iter().take(5).map(|tensor| format!("`{}`", tensor.name)).collect::<Vec<_>>().join(", ")
        );
    };
    let num_classes = classifier.first().copied().unwrap_or(0);
    if num_classes == 0 {
        bail!("`{}` is for no classes: the shape of `classifier.weight` is {classifier:?}", path.display());
    }
    let fits = |config: &GhostNetConfig| {
        let architecture = ghostnet::Architecture::new(config);
        stem.first() == Some(&architecture.stem_channels) && head.get(1) == Some(&architecture.last_channels)
    };
    let config = |width| GhostNetConfig::new(num_classes).with_width(width);
    let candidates: Vec<f64> = widths().filter(|&width| fits(&config(width))).collect();
    let tensors: Vec<NamedTensor> = weights
        .tensors
        .into_iter()
        .map(|tensor| {
            let is_count = tensor.name.ends_with(".num_batches_tracked");
            let data = match tensor.values {
                Values::F32(values) => TensorData::new(values, tensor.shape),
                Values::I64(values) if is_count => TensorData::new(values, tensor.shape),
                // Weights that somebody kept as whole numbers.
                Values::I64(values) => {
                    TensorData::new(values.into_iter().map(|value| value as f32).collect::<Vec<_>>(), tensor.shape)
                }
            };
            NamedTensor { name: tensor.name, data }
        })
        .collect();
    let width = find_width(&candidates, config, &tensors)
        .with_context(|| format!("`{}` is not a GhostNet that is built here", path.display()))?;
    notes.push(format!(
        "it is GhostNet {width}x of 2020 (arXiv:1911.11907) for {num_classes} classes, and every tensor is there"
    ));
    let classes = match hints.classes {
        Some(classes) if classes.len() != num_classes => {
            bail!(
                "{} class names are given, and the network in `{}` has {num_classes} classes",
                classes.len(),
                path.display()
            )
        }
        Some(classes) => classes,
        None => {
            notes.push("it does not say what its classes are called, so they are numbered from 0".to_string());
            (0..num_classes).map(|class| format!("class {class}")).collect()
        }
    };
    let model = ModelFile::new(path, card(width, classes), tensors);
    Ok(Imported { model, notes })
}

/// Of the same family, but other networks.
fn refuse_other_networks(path: &Path, weights: &ForeignWeights) -> anyhow::Result<()> {
    for (part, network) in [("short_conv", "GhostNetV2"), ("rpr", "GhostNetV3"), ("reparam", "GhostNetV3, folded")] {
        if weights.tensors.iter().any(|tensor| tensor.name.contains(part)) {
            bail!("`{}` is a {network}, and only the GhostNet of 2020 is built here", path.display());
        }
    }
    Ok(())
}

/// The first width whose network takes the tensors; an error says what does not fit the most likely one.
fn find_width(
    candidates: &[f64],
    config: impl Fn(f64) -> GhostNetConfig,
    tensors: &[NamedTensor],
) -> anyhow::Result<f64> {
    let mut first_error: Option<StateError> = None;
    for &width in candidates {
        match config(width).init(&Device::flex()).load_state(tensors.to_vec()) {
            Ok(_) => return Ok(width),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        Some(error) => Err(error.into()),
        None => bail!("no width gives it so many channels in its first and last convolution"),
    }
}

/// The preparation of timm's weights: bicubic, 224 of 256 pixels, ImageNet's mean and deviation.
fn card(width: f64, classes: Vec<String>) -> ModelCard {
    let interpolation = Interpolation::Bicubic;
    ModelCard {
        card_version: ModelCard::VERSION,
        variant: Variant::Ghostnet,
        width,
        dropout: 0.2,
        stem_stride: 2,
        classes,
        independent_classes: false,
        image_size: 224,
        transforms: vec![Transform::ResizeCenterCrop { size: None, crop_pct: 0.875, interpolation }],
        normalization: Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
        val_fraction: 0.2,
        seed: 0,
        data_fingerprint: None,
        step: 0,
        recipe_hash: String::new(),
    }
}

//! Weights of other programs as model files of this one: which network they are of is found from their names and shapes, and every
//! tensor is checked.

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Device;
use foreign_weights::ForeignWeights;
use ghostnet::{Architecture, GhostNetConfig, Lineage, NamedTensor, StateError};
use imageset::{Interpolation, Pipeline, Transform};

use crate::batch::Normalization;
use crate::recipe::Variant;
use crate::weights::{ModelCard, ModelFile};

mod naming;
mod partial;

use naming::Naming;

/// What a file of weights does not say.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The set to read, where a file has several.
    pub key: Option<String>,
    /// Names of the classes, in the order of the network's scores.
    pub classes: Option<Vec<String>>,
    /// How images were prepared.
    pub preparation: Preparation,
    /// Take what fits: what is missing or of another shape starts random, what is unknown is left out.
    pub partial: bool,
}

impl Hints {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        let Self { key, classes, preparation, partial } = self;
        key.is_none() && classes.is_none() && *preparation == Preparation::default() && !partial
    }

    /// What is not said here, as `other` says it.
    pub fn or(self, other: Self) -> Self {
        let (ours, theirs) = (self.preparation, other.preparation);
        Self {
            key: self.key.or(other.key),
            classes: self.classes.or(other.classes),
            preparation: Preparation {
                image_size: ours.image_size.or(theirs.image_size),
                interpolation: ours.interpolation.or(theirs.interpolation),
                crop_pct: ours.crop_pct.or(theirs.crop_pct),
                normalization: ours.normalization.or(theirs.normalization),
            },
            partial: self.partial || other.partial,
        }
    }
}

/// How images are prepared for a network, as far as it is known; the rest is as its lineage has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preparation {
    /// Height and width, pixels.
    pub image_size: Option<u32>,
    /// Filter of the resizing.
    pub interpolation: Option<Interpolation>,
    /// The side of the central square as a part of the resized picture's shorter side.
    pub crop_pct: Option<f64>,
    /// Applied to the square.
    pub normalization: Option<Normalization>,
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
    let naming = Naming::of(&weights.tensors);
    let first: Vec<String> = weights.tensors.iter().take(5).map(|tensor| format!("`{}`", tensor.name)).collect();
    let tensors = naming.translate(weights.tensors).with_context(|| format!("`{}` is damaged", path.display()))?;
    let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.data.shape());
    let layers = ["conv_stem.weight", "conv_head.weight", "classifier.weight"];
    if hints.partial {
        return partial::import(path, tensors, hints, notes);
    }
    let [Some(stem), Some(head), Some(classifier)] = layers.map(shape) else {
        let [stem, head, classifier] = layers.map(|layer| naming.theirs(layer));
        bail!(
            "`{}` is no GhostNet: of `{stem}`, `{head}` and `{classifier}` not all are there; its first tensors are {}",
            path.display(),
            first.join(", ")
        );
    };
    refuse_other_shortcuts(path, shape(SHORTCUT).map(|shape| &shape[..]))?;
    let num_classes = classifier.first().copied().unwrap_or(0);
    if num_classes == 0 {
        bail!("`{}` is for no classes: the shape of `classifier.weight` is {:?}", path.display(), &classifier[..]);
    }
    let lineage = lineage(path, naming, shape)?;
    let config = |lineage, width| GhostNetConfig::new(num_classes).with_lineage(lineage).with_width(width);
    let fits = |width: &f64| {
        let architecture = Architecture::new(&config(lineage, *width));
        stem.first() == Some(&architecture.stem_channels) && head.get(1) == Some(&architecture.last_channels)
    };
    let candidates: Vec<f64> = widths().filter(fits).collect();
    if let Some([squeezed, ..]) = shape(SQUEEZE).map(|shape| &shape[..]) {
        let takes = |lineage| candidates.iter().any(|&width| first_squeeze(&config(lineage, width)) == Some(*squeezed));
        refuse_mixtures(path, lineage, *squeezed, takes)?;
    }
    let width =
        find_width(&candidates, |width| config(lineage, width), &tensors).with_context(|| match naming.is_timm() {
            true => format!("`{}` is not a GhostNet that is built here{HINT}", path.display()),
            false => format!(
                "`{}` has names of {} and is not a GhostNet that is built here; what follows are timm's names{HINT}",
                path.display(),
                naming.program
            ),
        })?;
    if !naming.is_timm() {
        notes.push(format!("its names are those of {}, and were changed to ours", naming.program));
    }
    notes.push(match lineage {
        Lineage::Official => format!(
            "it is GhostNet {width}x of 2020 (arXiv:1911.11907) for {num_classes} classes, and every tensor is there"
        ),
        Lineage::Paddle => format!(
            "it is GhostNet {width}x of 2020 as {} have it, `variant = \"{}\"`, for {num_classes} classes, and every tensor is there",
            of_whom(lineage),
            Variant::of(lineage).key()
        ),
    });
    let classes = class_names(path, hints.classes, num_classes, &mut notes)?;
    let model = ModelFile::new(path, card(lineage, width, classes, hints.preparation)?, tensors);
    Ok(Imported { model, notes })
}

/// The names that are given, or numbers.
fn class_names(
    path: &Path,
    given: Option<Vec<String>>,
    num_classes: usize,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<String>> {
    match given {
        Some(classes) if classes.len() != num_classes => {
            bail!(
                "{} class names are given, in `--classes` or in a `config.json` beside the file, and the network in `{}` has \
                 {num_classes} classes",
                classes.len(),
                path.display()
            )
        }
        Some(classes) => Ok(classes),
        None => {
            notes.push("it does not say what its classes are called, so they are numbered from 0".to_string());
            Ok((0..num_classes).map(|class| format!("class {class}")).collect())
        }
    }
}

const HINT: &str =
    "\n\nhint: if it is a part of one, or has other layers at its end, `ghostnet import --partial` takes what fits";

/// Of which lineage a network is, by its head: with a bias, or with a norm.
fn lineage<T>(path: &Path, naming: &Naming, shape: impl Fn(&str) -> Option<T>) -> anyhow::Result<Lineage> {
    match (naming.is_timm(), shape("bn2.weight").is_some(), shape("conv_head.bias").is_some()) {
        (true, true, true) => bail!(
            "`{}` is no GhostNet that was published: its head has both a bias, `conv_head.bias`, and a norm, `bn2`",
            path.display()
        ),
        (true, false, _) => Ok(Lineage::Official),
        _ => Ok(Lineage::Paddle),
    }
}

/// Refuses a network with the head of one lineage and the squeeze-and-excite of the other, as somebody makes who folds the head's norm
/// away: its weights would be taken, and its gate be the wrong one.
fn refuse_mixtures(
    path: &Path,
    lineage: Lineage,
    squeezed: usize,
    takes: impl Fn(Lineage) -> bool,
) -> anyhow::Result<()> {
    let other = if lineage == Lineage::Official { Lineage::Paddle } else { Lineage::Official };
    if !takes(lineage) && takes(other) {
        bail!(
            "`{}` mixes two networks: its head is that of {}, and its squeeze-and-excite, with {squeezed} channels in `{SQUEEZE}`, \
             that of {}; no gate is right for both",
            path.display(),
            of_whom(lineage),
            of_whom(other)
        );
    }
    Ok(())
}

/// Channels of the first squeezed vector.
fn first_squeeze(config: &GhostNetConfig) -> Option<usize> {
    Architecture::new(config).blocks.iter().find_map(|block| block.squeeze_channels)
}

/// Who published a lineage.
fn of_whom(lineage: Lineage) -> &'static str {
    match lineage {
        Lineage::Official => "the official PyTorch code and timm",
        Lineage::Paddle => "PaddleClas and iamhankai/ghostnet.pytorch",
    }
}

/// The first shortcut with convolutions whose block has a kernel of 5×5.
const SHORTCUT: &str = "blocks.3.0.shortcut.0.weight";
/// The first layer of squeeze-and-excite; its width tells the lineages apart at every published width.
const SQUEEZE: &str = "blocks.3.0.se.conv_reduce.weight";

/// The network of d-li14, which differs from that of iamhankai in its shortcuts alone, and in them by nothing but this shape.
fn refuse_other_shortcuts(path: &Path, shape: Option<&[usize]>) -> anyhow::Result<()> {
    if let Some([_, 1, 3, 3]) = shape {
        bail!(
            "`{}` is the network of d-li14/ghostnet.pytorch, or an early one of iamhankai/ghostnet.pytorch: its shortcuts have \
             kernels of 3x3, with a ReLU, where GhostNet's have 5x5, with none; it is not built here",
            path.display()
        );
    }
    Ok(())
}

/// Of the same family, but other networks.
fn refuse_other_networks(path: &Path, weights: &ForeignWeights) -> anyhow::Result<()> {
    let has = |part: &str| weights.tensors.iter().any(|tensor| tensor.name.contains(part));
    let network = match (has("_rpr_"), has(".short_conv."), has(".primary_conv.0.bias")) {
        (true, _, _) => "GhostNetV3 as it is trained, with parallel branches",
        (false, true, true) => "GhostNetV3 as it is deployed, its branches folded",
        (false, true, false) => "GhostNetV2",
        (false, false, _) => return Ok(()),
    };
    bail!("`{}` is a {network}, and only the GhostNet of 2020 is built here", path.display())
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

/// The defaults are ImageNet's mean and deviation and 224 of 256 pixels: timm's weights want them bicubic. PaddleClas leaves its
/// `ResizeImage` at OpenCV's bilinear, which is not antialiased; Pillow's is the nearest that there is here.
fn card(lineage: Lineage, width: f64, classes: Vec<String>, preparation: Preparation) -> anyhow::Result<ModelCard> {
    let Preparation { image_size, interpolation, crop_pct, normalization } = preparation;
    let interpolation = interpolation.unwrap_or(match lineage {
        Lineage::Official => Interpolation::Bicubic,
        Lineage::Paddle => Interpolation::Bilinear,
    });
    let transforms =
        vec![Transform::ResizeCenterCrop { size: None, crop_pct: crop_pct.unwrap_or(0.875), interpolation }];
    let image_size = image_size.unwrap_or(224);
    Pipeline::new(&transforms, image_size).context("the preparation of the images")?;
    let imagenet = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    Ok(ModelCard {
        card_version: ModelCard::VERSION,
        variant: Variant::of(lineage),
        width,
        dropout: 0.2,
        stem_stride: 2,
        classes,
        independent_classes: false,
        image_size,
        transforms,
        normalization: normalization.unwrap_or(imagenet),
        val_fraction: 0.2,
        seed: 0,
        data_fingerprint: None,
        folded: false,
        step: 0,
        recipe_hash: String::new(),
    })
}

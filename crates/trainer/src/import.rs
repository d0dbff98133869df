//! Weights of other programs as model files of this one: which network they are of is found from their names and shapes, and every
//! tensor is checked.

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Device;
use foreign_weights::ForeignWeights;
use ghostnet::{Architecture, GhostNetConfig, NamedTensor, StateError, Variant};
use imageset::{Interpolation, Pipeline, Transform};

use crate::batch::Normalization;
use crate::fold::unfold;
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

/// How images are prepared for a network, as far as it is known; the rest is as its authors have it.
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
    [0.5, 1.0, 1.3, 1.6].into_iter().chain((2..=60).map(|twentieth| f64::from(twentieth) / 20.0))
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
    let naming = Naming::of(&weights.tensors);
    let first: Vec<String> = weights.tensors.iter().take(5).map(|tensor| format!("`{}`", tensor.name)).collect();
    let tensors = naming.translate(weights.tensors).with_context(|| format!("`{}` is damaged", path.display()))?;
    let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.data.shape());
    let layers = ["conv_stem.weight", "conv_head.weight", "classifier.weight"];
    let has = |part: &str| tensors.iter().any(|tensor| tensor.name.contains(part));
    // The norms behind its merged branches are gone.
    let is_deployed_v3 = has(".short_conv.") && has(".primary_conv.0.bias");
    if hints.partial && is_deployed_v3 {
        bail!("`{}` is a GhostNetV3 as it is deployed, which is taken whole or not at all", path.display());
    }
    let variant = match (has("_rpr_"), has(".short_conv.")) {
        (true, _) => Variant::GhostnetV3,
        (false, true) => Variant::GhostnetV2,
        (false, false) => Variant::Ghostnet,
    };
    if hints.partial {
        return partial::import(path, tensors, variant, hints, notes);
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
    let variant = match variant {
        Variant::Ghostnet => first_variant(path, naming, shape)?,
        other => other,
    };
    let config = |variant, width| GhostNetConfig::new(num_classes).with_variant(variant).with_width(width);
    let fits = |width: &f64| {
        let architecture = Architecture::new(&config(variant, *width));
        stem.first() == Some(&architecture.stem_channels) && head.get(1) == Some(&architecture.last_channels)
    };
    let candidates: Vec<f64> = widths().filter(fits).collect();
    if let Some([squeezed, ..]) = shape(SQUEEZE).map(|shape| &shape[..]) {
        let takes = |variant| candidates.iter().any(|&width| first_squeeze(&config(variant, width)) == Some(*squeezed));
        refuse_mixtures(path, variant, *squeezed, takes)?;
    }
    let (width, tensors) = find_width(&candidates, |width| config(variant, width), &tensors, is_deployed_v3)
        .with_context(|| match naming.is_timm() {
            true if is_deployed_v3 => format!(
                "`{}` is a GhostNetV3 as it is deployed, and not a whole one; what follows are names of GhostNetV2, where norms stand \
                 in place of the biases",
                path.display()
            ),
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
    let what = match variant {
        Variant::Ghostnet => format!("GhostNet {width}x of 2020 (arXiv:1911.11907)"),
        Variant::GhostnetPaddle => {
            format!("GhostNet {width}x of 2020 as {} have it, {}", of_whom(variant), key(variant))
        }
        Variant::GhostnetV2 if is_deployed_v3 => format!(
            "GhostNetV3 {width}x as it is deployed, its branches merged (arXiv:2404.11202), which is a GhostNetV2 with other weights, {}",
            key(variant)
        ),
        Variant::GhostnetV2 => format!("GhostNetV2 {width}x (arXiv:2211.12905), {}", key(variant)),
        Variant::GhostnetV3 => format!("GhostNetV3 {width}x as it is trained (arXiv:2404.11202), {}", key(variant)),
    };
    notes.push(format!("it is {what} for {num_classes} classes, and every tensor is there"));
    let classes = class_names(path, hints.classes, num_classes, &mut notes)?;
    let model = ModelFile::new(path, card(variant, width, classes, hints.preparation)?, tensors);
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

/// How a recipe says it.
fn key(variant: Variant) -> String {
    format!("`variant = \"{}\"`,", variant.key())
}

/// Which GhostNet of 2020 a network is, by its head: with a bias, or with a norm.
fn first_variant<T>(path: &Path, naming: &Naming, shape: impl Fn(&str) -> Option<T>) -> anyhow::Result<Variant> {
    match (naming.is_timm(), shape("bn2.weight").is_some(), shape("conv_head.bias").is_some()) {
        (true, true, true) => bail!(
            "`{}` is no GhostNet that was published: its head has both a bias, `conv_head.bias`, and a norm, `bn2`",
            path.display()
        ),
        (true, false, _) => Ok(Variant::Ghostnet),
        _ => Ok(Variant::GhostnetPaddle),
    }
}

/// Refuses a network with the head of one GhostNet of 2020 and the squeeze-and-excite of the other, as somebody makes who folds the head's norm
/// away: its weights would be taken, and its gate be the wrong one.
fn refuse_mixtures(
    path: &Path,
    variant: Variant,
    squeezed: usize,
    takes: impl Fn(Variant) -> bool,
) -> anyhow::Result<()> {
    let other = match variant {
        Variant::Ghostnet => Variant::GhostnetPaddle,
        Variant::GhostnetPaddle => Variant::Ghostnet,
        Variant::GhostnetV2 | Variant::GhostnetV3 => return Ok(()),
    };
    if !takes(variant) && takes(other) {
        bail!(
            "`{}` mixes two networks: its head is that of {}, and its squeeze-and-excite, with {squeezed} channels in `{SQUEEZE}`, \
             that of {}; no gate is right for both",
            path.display(),
            of_whom(variant),
            of_whom(other)
        );
    }
    Ok(())
}

/// Channels of the first squeezed vector.
fn first_squeeze(config: &GhostNetConfig) -> Option<usize> {
    Architecture::new(config).blocks.iter().find_map(|block| block.squeeze_channels)
}

/// Who published a network.
fn of_whom(variant: Variant) -> &'static str {
    match variant {
        Variant::GhostnetPaddle => "PaddleClas and iamhankai/ghostnet.pytorch",
        Variant::Ghostnet | Variant::GhostnetV2 | Variant::GhostnetV3 => "the official PyTorch code and timm",
    }
}

/// The first shortcut with convolutions whose block has a kernel of 5×5.
const SHORTCUT: &str = "blocks.3.0.shortcut.0.weight";
/// The first layer of squeeze-and-excite; its width tells the networks apart at every published width.
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

/// The first width whose network takes the tensors, and those that it takes; an error says what does not fit the most likely one.
fn find_width(
    candidates: &[f64],
    config: impl Fn(f64) -> GhostNetConfig,
    tensors: &[NamedTensor],
    lacks_norms: bool,
) -> anyhow::Result<(f64, Vec<NamedTensor>)> {
    let mut first_error: Option<StateError> = None;
    for &width in candidates {
        let (network, device) = (config(width), Device::flex());
        let tensors =
            if lacks_norms { unfold(tensors.to_vec(), &network.init(&device).state(0)) } else { tensors.to_vec() };
        match network.load(tensors.clone(), &device) {
            Ok(_) => return Ok((width, tensors)),
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
fn card(variant: Variant, width: f64, classes: Vec<String>, preparation: Preparation) -> anyhow::Result<ModelCard> {
    let Preparation { image_size, interpolation, crop_pct, normalization } = preparation;
    let interpolation = interpolation.unwrap_or(match variant {
        Variant::Ghostnet | Variant::GhostnetV2 | Variant::GhostnetV3 => Interpolation::Bicubic,
        Variant::GhostnetPaddle => Interpolation::Bilinear,
    });
    let transforms =
        vec![Transform::ResizeCenterCrop { size: None, crop_pct: crop_pct.unwrap_or(0.875), interpolation }];
    let image_size = image_size.unwrap_or(224);
    Pipeline::new(&transforms, image_size).context("the preparation of the images")?;
    let imagenet = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    Ok(ModelCard {
        card_version: ModelCard::VERSION,
        variant,
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

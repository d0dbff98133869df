//! Weights of other programs as model files of this one: which network they are of is found from their names and shapes, wherever in the
//! file it is, and every tensor of it is checked.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Device;
use foreign_weights::{ForeignTensor, ForeignWeights, listed, shown};
use ghostnet::{Architecture, GhostNetConfig, NamedTensor, StateError, Variant};
use imageset::source::counted;

use crate::fold::unfold;
use crate::weights::ModelFile;

mod class_names;
mod description;
mod head;
mod hints;
mod imported;
mod naming;
mod other_network;
mod partial;
mod preparation;
mod stem;
mod trunk;
mod widths;

pub use class_names::ONE_OUTPUT;
pub use description::Description;
pub use hints::Hints;
pub use imported::Imported;
pub use preparation::Preparation;
pub use trunk::SeveralNetworks;

pub(crate) use class_names::are_numbered;

use class_names::class_names;
use head::{Filled, Head};
use naming::Naming;
use trunk::{Found, Trunk};
use widths::widths;

/// How much of a network is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The whole network, to classify images.
    Whole,
    /// Everything before the classifier, to start another network from; the rest is taken if it is there.
    Trunk,
}

/// The tensors of a file, divided into the network and the rest.
struct Parts {
    /// The tensors of the network, by timm's names.
    network: Vec<NamedTensor>,
    head: Head,
    /// The other tensors, by their names in the file.
    beside: Vec<ForeignTensor>,
    naming: &'static Naming,
}

/// Finds the network among the tensors of a file, and its classifier, and brings both under timm's names.
fn part(path: &Path, weights: ForeignWeights, trunk: Option<Trunk>) -> anyhow::Result<Parts> {
    let ForeignWeights { tensors, not_finite, .. } = weights;
    // Where no network is found, all tensors are taken as one, so that the error can name what is missing.
    let prefix = trunk.as_ref().map_or("", |trunk| trunk.prefix.as_str()).to_string();
    let naming = trunk.as_ref().map_or(Naming::TIMM, |trunk| trunk.naming);
    let (mut inside, mut beside) = match &trunk {
        Some(trunk) => trunk.part(tensors),
        None => (tensors, Vec::new()),
    };
    let head = match trunk {
        Some(_) => head::find(naming, &prefix, &mut inside, &mut beside),
        None => Head::Own,
    };
    // The tensors beside the network are not used, so they may hold any values.
    let damaged: Vec<&String> = {
        let names_beside: HashSet<&str> = beside.iter().map(|tensor| tensor.name.as_str()).collect();
        not_finite.iter().filter(|name| !names_beside.contains(name.as_str())).collect()
    };
    if let [first, others @ ..] = damaged.as_slice() {
        bail!(
            "`{}` is damaged: tensor {} and {} more hold values that are not finite",
            path.display(),
            shown(first),
            others.len()
        );
    }
    let network = naming.translate(inside).with_context(|| format!("`{}` is damaged", path.display()))?;
    Ok(Parts { network, head, beside, naming })
}

/// Reads the bytes of a file; `path` is for messages. What `hints` leave open is taken from a description, if there is one.
pub fn import(
    path: &Path,
    bytes: &[u8],
    hints: Hints,
    description: Option<&Description>,
    need: Need,
) -> anyhow::Result<Imported> {
    let Found { weights, trunk } = trunk::read(path, bytes, hints.key.as_deref())?;
    let mut notes = weights.notes.clone();
    let file_names: Vec<String> = weights.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let prefix = trunk.as_ref().map_or("", |trunk| trunk.prefix.as_str());
    if !prefix.is_empty() {
        notes.push(format!("the network consists of the tensors with names that begin with {}", shown(prefix)));
    }
    let has_trunk = trunk.is_some();
    let Parts { network: mut tensors, head, beside, naming } = part(path, weights, trunk)?;
    notes.extend(stem::adapt(path, &mut tensors)?);
    let has = |part: &str| tensors.iter().any(|tensor| tensor.name.contains(part));
    // The norms of its merged branches are gone.
    let is_deployed_v3 = has(".short_conv.") && has(".primary_conv.0.bias");
    if hints.partial && is_deployed_v3 {
        bail!("`{}` is a GhostNetV3 as it is deployed, which is taken whole or not at all", path.display());
    }
    let variant = match (has("_rpr_"), has(".short_conv.")) {
        (true, _) => Variant::GhostnetV3,
        (false, true) => Variant::GhostnetV2,
        (false, false) => Variant::Ghostnet,
    };
    if let Head::Renamed(layer) = &head {
        notes.push(format!("its classifier is called {}", shown(layer)));
    }
    let hints =
        Hints { preparation: hints.preparation.or(description.map(|description| &description.preparation)), ..hints };
    let beside: Vec<String> = beside.into_iter().map(|tensor| tensor.name).collect();
    if hints.partial {
        return partial::import(path, tensors, beside, variant, hints, description, notes);
    }
    if !beside.is_empty() {
        notes.push(format!("the file also holds other tensors, which were left out: {}", listed(&beside)));
    }
    if has_trunk && need == Need::Whole {
        refuse_other_heads(path, &head)?;
    }
    let shape = |tensors: &[NamedTensor], name: &str| {
        tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.data.shape().to_vec())
    };
    let first = |name: &str| shape(&tensors, name).and_then(|shape| shape.first().copied());
    let last_channels = first("blocks.9.0.conv.weight");
    let variant = match variant {
        Variant::Ghostnet if shape(&tensors, "conv_head.weight").is_some() => {
            first_variant(path, naming, |name| shape(&tensors, name))?
        }
        Variant::Ghostnet => headless_variant(first("conv_stem.weight"), last_channels, first(SQUEEZE)),
        other => other,
    };
    let is_built = |channels: usize| {
        widths().any(|width| {
            let config = GhostNetConfig::new(1).with_variant(variant).with_width(width);
            Architecture::new(&config).last_channels == channels
        })
    };
    let Filled { absent, replaced } = match last_channels.filter(|channels| is_built(*channels)) {
        Some(last_channels) if has_trunk && need == Need::Trunk => head::fill(variant, last_channels, &mut tensors),
        _ => Filled::default(),
    };
    if !replaced.is_empty() {
        notes.push(format!("layers of its head have other shapes here and were left out: {}", listed(&replaced)));
    }
    let layers = ["conv_stem.weight", "conv_head.weight", "classifier.weight"];
    let [Some(stem), Some(head), Some(classifier)] = layers.map(|layer| shape(&tensors, layer)) else {
        return Err(no_ghostnet(path, &layers.map(|layer| naming.theirs(layer)), &file_names));
    };
    refuse_other_shortcuts(path, shape(&tensors, SHORTCUT).as_deref())?;
    let num_classes = classifier.first().copied().unwrap_or(0);
    if num_classes == 0 {
        bail!("`{}` is for no classes: the shape of `classifier.weight` is {:?}", path.display(), &classifier[..]);
    }
    let config = |variant, width| GhostNetConfig::new(num_classes).with_variant(variant).with_width(width);
    let fits = |width: &f64| {
        let architecture = Architecture::new(&config(variant, *width));
        stem.first() == Some(&architecture.stem_channels) && head.get(1) == Some(&architecture.last_channels)
    };
    let candidates: Vec<f64> = widths().filter(fits).collect();
    if let Some([squeezed, ..]) = shape(&tensors, SQUEEZE).as_deref() {
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
    let tensors: Vec<NamedTensor> = tensors.into_iter().filter(|tensor| !absent.contains(&tensor.name)).collect();
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
    let is_absent = |layer: &str| absent.iter().any(|name| name == layer);
    let classes = if is_absent(layers[2]) {
        let lacks = if is_absent(layers[1]) { "head" } else { "classifier" };
        notes.push(format!("it is {what} without a {lacks}, and every other tensor is there"));
        Vec::new()
    } else if is_absent(layers[1]) {
        notes.push(format!("it is {what} without the hidden layer of its head, and every other tensor is there"));
        class_names(path, hints.classes, description, num_classes, &mut notes)?
    } else {
        notes.push(format!("it is {what} for {}, and every tensor is there", counted(num_classes, "class")));
        class_names(path, hints.classes, description, num_classes, &mut notes)?
    };
    let model = ModelFile::new(path, hints.preparation.card(variant, width, classes)?, tensors);
    notes.extend(description.into_iter().flat_map(|description| description.notes.iter().cloned()));
    Ok(Imported { model, absent, notes })
}

/// Refuses a network that has no classifier to compute with.
fn refuse_other_heads(path: &Path, head: &Head) -> anyhow::Result<()> {
    let what = match head {
        Head::Own | Head::Renamed(_) => return Ok(()),
        Head::Absent => "without a classifier".to_string(),
        Head::Other(modules) => {
            format!("with a head other than a single dense layer, which is not supported: {}", listed(modules))
        }
        Head::Several(layers) => {
            format!(
                "with several layers that may be its classifier, so it is not clear which one is: {}",
                listed(layers)
            )
        }
    };
    let path = path.display();
    bail!(
        "`{path}` holds a GhostNet {what}\n\n\
         hint: `ghostnet train --weights {path}` needs no classifier; `ghostnet import --partial` gives it a random one"
    )
}

/// The error for a file without a GhostNet, which names the network that it is most likely of.
fn no_ghostnet(path: &Path, layers: &[String; 3], names: &[String]) -> anyhow::Error {
    let [stem, head, classifier] = layers;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first: Vec<String> = names.iter().take(5).map(|name| shown(name)).collect();
    let likely = match other_network::likely(&names) {
        Some(network) => format!(", but most likely {network}, judging by its tensor names"),
        None => String::new(),
    };
    anyhow::anyhow!(
        "`{}` is not a GhostNet{likely}: it lacks one or more of `{stem}`, `{head}` and `{classifier}`; its first tensors are {}",
        path.display(),
        first.join(", ")
    )
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
            "`{}` is not a published GhostNet: its head has both a bias, `conv_head.bias`, and a norm, `bn2`",
            path.display()
        ),
        (true, false, _) => Ok(Variant::Ghostnet),
        _ => Ok(Variant::GhostnetPaddle),
    }
}

/// The same for a network without a head, by the channels of its squeeze-and-excite.
fn headless_variant(stem: Option<usize>, last: Option<usize>, squeezed: Option<usize>) -> Variant {
    let has = |variant| {
        widths().map(|width| GhostNetConfig::new(1).with_variant(variant).with_width(width)).any(|config| {
            let architecture = Architecture::new(&config);
            stem == Some(architecture.stem_channels)
                && last == Some(architecture.last_channels)
                && squeezed == first_squeeze(&config)
        })
    };
    if has(Variant::GhostnetPaddle) && !has(Variant::Ghostnet) { Variant::GhostnetPaddle } else { Variant::Ghostnet }
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
/// The first layer of squeeze-and-excite; its width distinguishes the networks at every published width.
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

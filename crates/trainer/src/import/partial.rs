//! Weights that are a part of a network, or of one with other layers at its end: what fits is taken, by name and shape.

use std::collections::HashMap;
use std::path::Path;

use anyhow::bail;
use burn::tensor::Device;
use foreign_weights::listed;
use ghostnet::{Architecture, GhostNetConfig, NamedTensor, Variant};

use super::class_names::class_names;
use super::description::Description;
use super::hints::Hints;
use super::imported::Imported;
use super::widths::widths;
use crate::weights::ModelFile;

/// Classes of a network that has no classifier and whose classes are not named: ImageNet's.
const DEFAULT_NUM_CLASSES: usize = 1000;

/// A network of which a part is given.
struct Completed {
    state: Vec<NamedTensor>,
    /// Names of what starts random.
    random: Vec<String>,
    /// Names of what was given and has no place.
    left_out: Vec<String>,
}

/// Tensors by timm's names as a whole network, the rest of it random. `beside` names what else is in the file.
pub(super) fn import(
    path: &Path,
    tensors: Vec<NamedTensor>,
    beside: Vec<String>,
    variant: Variant,
    hints: Hints,
    description: Option<&Description>,
    mut notes: Vec<String>,
) -> anyhow::Result<Imported> {
    let shape =
        |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.data.shape().to_vec());
    let Some(stem) = shape("conv_stem.weight").and_then(|shape| shape.first().copied()) else {
        bail!("`{}` has no `conv_stem.weight`, so its width is not known", path.display());
    };
    let variant = if shape("bn2.weight").is_some() { Variant::GhostnetPaddle } else { variant };
    let classifier = shape("classifier.weight").and_then(|shape| shape.first().copied()).filter(|classes| *classes > 0);
    let described = description.and_then(|description| description.classes.as_ref());
    let given = hints.classes.as_ref().map(Vec::len);
    let num_classes = given.or(classifier).or(described.map(Vec::len)).unwrap_or(DEFAULT_NUM_CLASSES);
    let config = |width| GhostNetConfig::new(num_classes).with_variant(variant).with_width(width);
    let fitting = widths().filter(|width| stem == Architecture::new(&config(*width)).stem_channels);
    // The first of those that leave the least to chance.
    let best =
        fitting.map(|width| (width, complete(&config(width), &tensors))).min_by_key(|(_, whole)| whole.random.len());
    let Some((width, Completed { state, random, mut left_out })) = best else {
        bail!("`{}` is not a GhostNet: no width has {stem} channels after the first convolution", path.display());
    };
    left_out.extend(beside);
    let weights = state.iter().filter(|tensor| !tensor.name.ends_with(".num_batches_tracked")).count();
    if random.len() * 2 > weights {
        bail!(
            "of the {weights} tensors of a {} {width}x, `{}` has {}: fewer than half",
            variant.title(),
            path.display(),
            weights - random.len()
        );
    }
    let taken = weights - random.len();
    notes.push(format!("{taken} of the {weights} tensors of a {} {width}x were taken", variant.title()));
    for (what, names) in [("these start random", random), ("these have no place in it and were left out", left_out)] {
        if !names.is_empty() {
            notes.push(format!("{what}: {}", listed(&names)));
        }
    }
    let classes = class_names(path, hints.classes, description, num_classes, &mut notes)?;
    let model = ModelFile::new(path, hints.preparation.card(variant, width, classes)?, state);
    notes.extend(description.into_iter().flat_map(|description| description.notes.iter().cloned()));
    Ok(Imported { model, absent: Vec::new(), notes })
}

fn complete(config: &GhostNetConfig, tensors: &[NamedTensor]) -> Completed {
    let device = Device::flex();
    device.seed(0);
    let mut given: HashMap<&str, &NamedTensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut random = Vec::new();
    let mut state = config.init(&device).state(0);
    for tensor in &mut state {
        match given.get(tensor.name.as_str()) {
            Some(found) if found.data.shape() == tensor.data.shape() => {
                *tensor = (*found).clone();
                given.remove(tensor.name.as_str());
            }
            _ if tensor.name.ends_with(".num_batches_tracked") => {}
            _ => random.push(tensor.name.clone()),
        }
    }
    let mut left_out: Vec<String> = given.into_keys().map(str::to_string).collect();
    left_out.sort_unstable();
    Completed { state, random, left_out }
}

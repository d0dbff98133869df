//! The classifier of a network, which people replace: by a dense layer of another name, by one inside of a `Sequential`, by several
//! layers, or by none.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use foreign_weights::ForeignTensor;
use ghostnet::{Architecture, GhostNetConfig, NamedTensor, Variant};

use super::naming::Naming;

/// What a file has in the place of the classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// The classifier, under its own name.
    Own,
    /// A dense layer of this name, which was taken for the classifier.
    Renamed(String),
    /// There is no classifier.
    Absent,
    /// Layers other than a single dense layer on the network's features, by their names.
    Other(Vec<String>),
    /// Several dense layers, by their names, none of which has the name of the classifier.
    Several(Vec<String>),
}

/// Finds the classifier of a network: among the tensors `inside` of it, whose names have lost `prefix`, or else among those `beside` it. A
/// layer of another name gets its own, and leaves `beside`. What else is in the place of the classifier leaves `inside` for `beside`.
pub(super) fn find(
    naming: &Naming,
    prefix: &str,
    inside: &mut Vec<ForeignTensor>,
    beside: &mut Vec<ForeignTensor>,
) -> Head {
    let classifier = naming.theirs("classifier.");
    let weight = format!("{classifier}weight");
    if let Some(own) = inside.iter().find(|tensor| tensor.name == weight) {
        let outputs = own.shape.get(usize::from(naming.is_in_out())).copied();
        // A network with its own classifier and another layer on top of it answers with what that layer gives.
        let on_top = outputs.and_then(|outputs| beside.iter().find(|tensor| takes(naming, tensor, outputs)));
        return match on_top {
            Some(tensor) => Head::Other(vec![module(&tensor.name, prefix).to_string()]),
            None => Head::Own,
        };
    }
    // By its name, `classifier.1.weight` is inside the network, but the network itself has no such tensor.
    let (head, rest): (Vec<_>, Vec<_>) =
        std::mem::take(inside).into_iter().partition(|tensor| tensor.name.starts_with(&classifier));
    *inside = rest;
    let renamed = |tensor: ForeignTensor| ForeignTensor { name: format!("{prefix}{}", tensor.name), ..tensor };
    beside.extend(head.into_iter().map(renamed));
    let (layers, others) = layers(naming, prefix, beside);
    let [layer] = layers.as_slice() else {
        return match (layers.is_empty(), others.is_empty()) {
            (true, true) => Head::Absent,
            (true, false) => Head::Other(others),
            (false, _) => Head::Several(layers),
        };
    };
    let names = [format!("{layer}.weight"), format!("{layer}.bias")];
    let (taken, rest): (Vec<_>, Vec<_>) =
        std::mem::take(beside).into_iter().partition(|tensor| names.contains(&tensor.name));
    *beside = rest;
    let renamed = |tensor: ForeignTensor| {
        let leaf = tensor.name.rsplit('.').next().unwrap_or_default();
        ForeignTensor { name: format!("{classifier}{leaf}"), ..tensor }
    };
    inside.extend(taken.into_iter().map(renamed));
    Head::Renamed(layer.clone())
}

/// Names of the dense layers that can be classifiers, each alone in its module, and of the modules that have such a layer and more.
fn layers(naming: &Naming, prefix: &str, beside: &[ForeignTensor]) -> (Vec<String>, Vec<String>) {
    let mut modules: BTreeMap<&str, Vec<&ForeignTensor>> = BTreeMap::new();
    for tensor in beside {
        modules.entry(module(&tensor.name, prefix)).or_default().push(tensor);
    }
    let features = Architecture::new(&GhostNetConfig::new(1)).head_channels;
    let outputs = |tensor: &ForeignTensor| match tensor.shape[..] {
        [inputs, outputs] if naming.is_in_out() && inputs == features => Some(outputs),
        [outputs, inputs] if !naming.is_in_out() && inputs == features => Some(outputs),
        _ => None,
    };
    let (mut layers, mut others) = (Vec::new(), Vec::new());
    for (module, tensors) in modules {
        let dense = tensors.iter().find_map(|tensor| Some((tensor.name.strip_suffix(".weight")?, outputs(tensor)?)));
        let Some((layer, outputs)) = dense else { continue };
        let bias = format!("{layer}.bias");
        let has_bias = tensors.iter().any(|tensor| tensor.name == bias && tensor.shape == [outputs]);
        // Layers in other modules, before or after the layer: a dense layer on its outputs, or a norm of the features or the outputs.
        let is_own = |tensor: &ForeignTensor| tensor.name == bias || tensor.name.strip_suffix(".weight") == Some(layer);
        let continues = beside.iter().filter(|tensor| !is_own(tensor)).any(|tensor| {
            takes(naming, tensor, outputs)
                || tensor.name.ends_with(".weight") && tensor.shape == [features]
                || tensor.name.ends_with(".running_mean") && (tensor.shape == [features] || tensor.shape == [outputs])
        });
        // Anything else in the module is computed with too.
        match has_bias && tensors.len() == 2 && outputs > 0 && !continues {
            true => layers.push(layer.to_string()),
            false => others.push(module.to_string()),
        }
    }
    (layers, others)
}

/// Whether a tensor is the weight of a dense layer with so many inputs.
fn takes(naming: &Naming, tensor: &ForeignTensor, inputs: usize) -> bool {
    let is_taken = match tensor.shape[..] {
        [first, second] => inputs == if naming.is_in_out() { first } else { second },
        _ => false,
    };
    is_taken && tensor.name.ends_with(".weight")
}

/// The module beside the network that a tensor belongs to: what its name begins with, up to the first part that it does not share with the
/// network's. Beside `model.backbone.` the module of `model.head.1.weight` is `model.head`.
fn module<'n>(name: &'n str, prefix: &str) -> &'n str {
    let mut shared = 0;
    for part in prefix.split_inclusive('.') {
        if !name[shared..].starts_with(part) {
            break;
        }
        shared += part.len();
    }
    let end = name[shared..].find('.').map_or(name.len(), |dot| shared + dot);
    &name[..end]
}

/// What was done so that a trunk is a whole network.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Names of the tensors that were added, which a network has to make for itself.
    pub(super) absent: Vec<String>,
    /// Names of the tensors that were taken out, because their layer is not one of this network's.
    pub(super) replaced: Vec<String>,
}

/// Adds zeros for what a head may lack where only the trunk is wanted: the hidden layer and the classifier, each as a whole. A layer under
/// the name of one of these with other shapes is taken out.
pub(super) fn fill(variant: Variant, last_channels: usize, tensors: &mut Vec<NamedTensor>) -> Filled {
    let features = Architecture::new(&GhostNetConfig::new(1)).head_channels;
    let mut hidden = vec![("conv_head.weight", vec![features, last_channels, 1, 1])];
    if variant.has_head_norm() {
        let leaves = ["bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"];
        hidden.extend(leaves.map(|name| (name, vec![features])));
    } else {
        hidden.push(("conv_head.bias", vec![features]));
    }
    let outputs = |tensor: &&NamedTensor| tensor.name == "classifier.weight" && !tensor.data.shape().is_empty();
    let outputs = tensors.iter().find(outputs).map_or(1, |tensor| tensor.data.shape()[0].max(1));
    let classifier = vec![("classifier.weight", vec![outputs, features]), ("classifier.bias", vec![outputs])];
    let mut filled = Filled::default();
    for (layers, expected) in [(&["conv_head.", "bn2."][..], hidden), (&["classifier."], classifier)] {
        let fits = |(name, shape): &(&str, Vec<usize>)| {
            tensors.iter().any(|tensor| tensor.name == *name && tensor.data.shape()[..] == shape[..])
        };
        if expected.iter().all(fits) {
            continue;
        }
        let is_part = |tensor: &NamedTensor| layers.iter().any(|layer| tensor.name.starts_with(layer));
        filled.replaced.extend(tensors.iter().filter(|tensor| is_part(tensor)).map(|tensor| tensor.name.clone()));
        tensors.retain(|tensor| !is_part(tensor));
        // Zeros for one class do for any: a new classifier is made for the classes of the data.
        let is_classifier = layers == ["classifier."];
        for (name, mut shape) in expected {
            if is_classifier {
                shape[0] = 1;
            }
            let data = TensorData::new(vec![0.0_f32; shape.iter().product()], shape);
            tensors.push(NamedTensor { name: name.to_string(), data });
            filled.absent.push(name.to_string());
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use foreign_weights::Values;

    use super::*;

    fn tensors(shapes: &[(&str, &[usize])]) -> Vec<ForeignTensor> {
        let tensor = |(name, shape): &(&str, &[usize])| ForeignTensor {
            name: (*name).to_string(),
            shape: shape.to_vec(),
            values: Values::F32(vec![0.0; shape.iter().product()]),
        };
        shapes.iter().map(tensor).collect()
    }

    /// What is found, the names in the network, and those beside it.
    fn found(
        prefix: &str,
        inside: &[(&str, &[usize])],
        beside: &[(&str, &[usize])],
    ) -> (Head, Vec<String>, Vec<String>) {
        let (mut inside, mut beside) = (tensors(inside), tensors(beside));
        let head = find(Naming::TIMM, prefix, &mut inside, &mut beside);
        let names = |tensors: Vec<ForeignTensor>| tensors.into_iter().map(|tensor| tensor.name).collect();
        (head, names(inside), names(beside))
    }

    #[test]
    fn a_dense_layer_of_another_name_is_the_classifier() {
        for (prefix, weight, bias, layer) in [
            ("", "head.weight", "head.bias", "head"),
            ("model.backbone.", "model.fc.1.weight", "model.fc.1.bias", "model.fc.1"),
            ("backbone.", "head.fc.weight", "head.fc.bias", "head.fc"),
        ] {
            let beside: [(&str, &[usize]); 3] = [(weight, &[5, 1280]), (bias, &[5]), ("criterion.weight", &[5])];
            let (head, inside, beside) = found(prefix, &[("conv_stem.weight", &[8, 3, 3, 3])], &beside);
            assert_eq!(head, Head::Renamed(layer.to_string()));
            assert_eq!(inside, ["conv_stem.weight", "classifier.weight", "classifier.bias"]);
            assert_eq!(beside, ["criterion.weight"]);
        }
        let sequential: [(&str, &[usize]); 2] = [("classifier.1.weight", &[5, 1280]), ("classifier.1.bias", &[5])];
        let (head, inside, beside) = found("module.", &sequential, &[]);
        assert_eq!(head, Head::Renamed("module.classifier.1".to_string()));
        assert_eq!((inside.len(), beside.len()), (2, 0));
    }

    #[test]
    fn layers_that_are_no_classifier_are_told_apart() {
        let several: [(&str, &[usize]); 4] =
            [("a.weight", &[5, 1280]), ("a.bias", &[5]), ("b.weight", &[2, 1280]), ("b.bias", &[2])];
        assert_eq!(found("", &[], &several).0, Head::Several(vec!["a".to_string(), "b".to_string()]));
        let two_layers: [(&str, &[usize]); 4] = [
            ("classifier.0.weight", &[64, 1280]),
            ("classifier.0.bias", &[64]),
            ("classifier.2.weight", &[5, 64]),
            ("classifier.2.bias", &[5]),
        ];
        let (head, inside, beside) = found("", &two_layers, &[]);
        assert_eq!(head, Head::Other(vec!["classifier".to_string()]));
        assert_eq!((inside.len(), beside.len()), (0, 4), "it is not part of the network");
        // A margin of angles has no bias, and a criterion no layer.
        assert_eq!(found("", &[], &[("arcface.weight", &[5, 1280])]).0, Head::Other(vec!["arcface".to_string()]));
        assert_eq!(found("", &[], &[("criterion.weight", &[5])]).0, Head::Absent);
        let own: [(&str, &[usize]); 2] = [("classifier.weight", &[5, 1280]), ("classifier.bias", &[5])];
        assert_eq!(found("", &own, &several).0, Head::Own);
        // Layers of a head in several modules.
        for beside in [
            &[("fc1.weight", &[256, 1280][..]), ("fc1.bias", &[256]), ("fc2.weight", &[5, 256]), ("fc2.bias", &[5])][..],
            &[
                ("neck.weight", &[1280][..]),
                ("neck.running_mean", &[1280]),
                ("fc.weight", &[5, 1280]),
                ("fc.bias", &[5]),
            ],
        ] {
            let (head, ..) = found("backbone.", &[], beside);
            assert!(matches!(head, Head::Other(_)), "{head:?}");
        }
        let (head, ..) = found("backbone.", &own, &[("head.weight", &[3, 5]), ("head.bias", &[3])]);
        assert_eq!(head, Head::Other(vec!["head".to_string()]));
    }
}

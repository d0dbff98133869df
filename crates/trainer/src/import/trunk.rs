//! Where the network is in a file. It is found by names that no other network has, whatever prefix they have: `model.` of a
//! class for training, `module.` of distributed training, `backbone.` of a class with a head of its own, the keys of dictionaries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreign_weights::{ForeignTensor, ForeignWeights, listed};

use super::naming::Naming;

/// A file of more than one network.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{path}` holds several GhostNets, so one of them must be chosen\n\nhint: name one with `--key`: {}",
    listed(keys)
)]
pub struct SeveralNetworks {
    /// The file.
    pub path: PathBuf,
    /// The prefixes of their tensor names.
    pub keys: Vec<String>,
}

/// A network in a file.
#[derive(Debug, Clone)]
pub(super) struct Trunk {
    /// What the names of its tensors begin with: nothing, or something that ends in a dot.
    pub(super) prefix: String,
    /// The naming of the tensors after the prefix.
    pub(super) naming: &'static Naming,
}

/// Tensors of a file, and the network among them, if there is one.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) weights: ForeignWeights,
    pub(super) trunk: Option<Trunk>,
}

/// Tensors of another dictionary than the network's, such as a head that was saved apart, that are still read.
const MAX_TENSORS_BESIDE: usize = 32;

/// Such dictionaries that are read, each of which takes another pass over the file.
const MAX_DICTIONARIES_BESIDE: usize = 16;

/// Values in them that are kept; a classifier of 1,000 classes has 1.3 million.
const MAX_VALUES_BESIDE: usize = 64 << 20;

impl Trunk {
    /// All networks in a file, by the names of its tensors, in the order of what these begin with.
    pub(super) fn find<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<Self> {
        // What comes in front, and the place in `Naming::ALL` of what follows.
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for name in names {
            for (place, naming) in Naming::ALL.iter().enumerate() {
                for mark in naming.marks {
                    let Some(prefix) = name.strip_suffix(*mark) else { continue };
                    if prefix.is_empty() || prefix.ends_with('.') {
                        let first = found.entry(prefix).or_insert(place);
                        *first = place.min(*first);
                    }
                }
            }
        }
        let trunk = |(prefix, place): (&str, usize)| Self { prefix: prefix.to_string(), naming: Naming::ALL[place] };
        found.into_iter().map(trunk).collect()
    }

    /// The name of a tensor in the network without the prefix; `None` if it is not part of it.
    pub(super) fn inside<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.prefix.as_str()).filter(|rest| self.naming.is_inside(rest))
    }

    /// Divides the tensors of a file into those of the network, under their names in it, and all others.
    pub(super) fn part(&self, tensors: Vec<ForeignTensor>) -> (Vec<ForeignTensor>, Vec<ForeignTensor>) {
        let (mut inside, mut beside) = (Vec::new(), Vec::new());
        for tensor in tensors {
            match self.inside(&tensor.name).map(str::to_string) {
                Some(name) => inside.push(ForeignTensor { name, ..tensor }),
                None => beside.push(tensor),
            }
        }
        (inside, beside)
    }
}

/// Reads the tensors under `key`. Without a key, reads those of the dictionary that programs keep the weights in, or, if there is no network
/// in it, of any other.
pub(super) fn read(path: &Path, bytes: &[u8], key: Option<&str>) -> anyhow::Result<Found> {
    let key = key.map(|key| key.trim_end_matches('.'));
    let usual = ForeignWeights::parse(path, bytes, key);
    let trunks = usual.as_ref().map(|weights| Trunk::find(names_of(weights))).unwrap_or_default();
    if key.is_some() || !trunks.is_empty() {
        let weights = usual?;
        return Ok(Found { trunk: one(path, trunks)?, weights });
    }
    let names = ForeignWeights::names(path, bytes).unwrap_or_default();
    let found = one(path, Trunk::find(names.iter().map(String::as_str)))?;
    let Some(Trunk { prefix, .. }) = found.filter(|trunk| !trunk.prefix.is_empty()) else {
        return Ok(Found { weights: usual?, trunk: None });
    };
    let mut weights = ForeignWeights::parse(path, bytes, Some(prefix.trim_end_matches('.')))?;
    let trunk = one(path, Trunk::find(names_of(&weights)))?;
    add_beside(path, bytes, &prefix, &names, &mut weights);
    Ok(Found { weights, trunk })
}

fn names_of(weights: &ForeignWeights) -> impl Iterator<Item = &str> {
    weights.tensors.iter().map(|tensor| tensor.name.as_str())
}

/// The network to take. One whose names have no prefix is the file's own, and any other one is beside it.
fn one(path: &Path, mut trunks: Vec<Trunk>) -> anyhow::Result<Option<Trunk>> {
    if trunks.len() > 1 && !trunks[0].prefix.is_empty() {
        let keys = trunks.into_iter().map(|trunk| trunk.prefix.trim_end_matches('.').to_string()).collect();
        return Err(SeveralNetworks { path: path.to_path_buf(), keys }.into());
    }
    trunks.truncate(1);
    Ok(trunks.pop())
}

/// Adds the few tensors that lie in dictionaries beside that of the network, such as a head that was saved separately. Whatever cannot be
/// read is not part of the network and is left out.
fn add_beside(path: &Path, bytes: &[u8], prefix: &str, names: &[String], weights: &mut ForeignWeights) {
    let mut beside: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names.iter().filter(|name| !name.starts_with(prefix)) {
        let key = name.split_once('.').map_or(name.as_str(), |(key, _)| key);
        *beside.entry(key).or_default() += 1;
    }
    let mut num_values = 0;
    for (key, _) in beside.into_iter().filter(|(_, count)| *count <= MAX_TENSORS_BESIDE).take(MAX_DICTIONARIES_BESIDE) {
        let Ok(others) = ForeignWeights::parse(path, bytes, Some(key)) else { continue };
        num_values += others.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum::<usize>();
        if num_values > MAX_VALUES_BESIDE {
            break;
        }
        weights.not_finite.extend(others.not_finite.iter().map(|name| format!("{key}.{name}")));
        let renamed = |tensor: ForeignTensor| ForeignTensor { name: format!("{key}.{}", tensor.name), ..tensor };
        weights.tensors.extend(others.tensors.into_iter().map(renamed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<(String, &'static str)> {
        let trunks = Trunk::find(names.iter().copied());
        trunks.into_iter().map(|trunk| (trunk.prefix, trunk.naming.program)).collect()
    }

    #[test]
    fn a_network_is_found_under_any_prefix_and_once() {
        let timm = "blocks.0.0.ghost1.primary_conv.0.weight";
        for prefix in ["", "model.", "module._orig_mod.", "student.encoder.0."] {
            let names =
                [format!("{prefix}conv_stem.weight"), format!("{prefix}{timm}"), "criterion.weight".to_string()];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(found(&names), [(prefix.to_string(), "timm")]);
        }
        assert_eq!(found(&[&format!("a.{timm}"), &format!("b.{timm}")]).len(), 2);
        assert!(found(&[&format!("my{timm}"), "conv_stem.weight", "blocks.0.0.conv_dw.weight"]).is_empty());
        let official = "net.blocks.0.0.ghost1.primary_rpr_conv.0.bn.weight";
        let expected = [("net.".to_string(), "the official GhostNetV3")];
        assert_eq!(found(&[official, "net.blocks.0.0.ghost1.primary_rpr_conv.0.conv.weight"]), expected);
    }

    #[test]
    fn what_is_beside_the_network_is_separated_from_it() {
        let tensor = |name: &str| ForeignTensor {
            name: name.to_string(),
            shape: vec![1],
            values: foreign_weights::Values::F32(vec![0.0]),
        };
        let trunk = Trunk { prefix: "model.".to_string(), naming: Naming::TIMM };
        let names = ["model.conv_stem.weight", "model.blocks.99.weight", "model.head.weight", "criterion.weight"];
        let (inside, beside) = trunk.part(names.map(tensor).to_vec());
        let names = |tensors: Vec<ForeignTensor>| tensors.into_iter().map(|tensor| tensor.name).collect::<Vec<_>>();
        assert_eq!(names(inside), ["conv_stem.weight", "blocks.99.weight"]);
        assert_eq!(names(beside), ["model.head.weight", "criterion.weight"]);
    }
}

//! Fine-tuning: a network that was trained before is taken over, but for the classifier if the classes are others.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor};
use imageset::source::counted;

use crate::model_source::{FoundModel, OpenedModel};
use crate::recipe::MOST_FROZEN_STAGES;

/// What depends on the number of classes.
pub(crate) const CLASSIFIER: &str = "classifier.";

/// Weights to start from.
#[derive(Debug)]
pub struct Pretrained {
    /// The file.
    pub path: PathBuf,
    tensors: Vec<NamedTensor>,
    /// Whether the classifier starts from random weights, because the classes are others.
    pub replaces_classifier: bool,
    /// How many classes the weights knew; 0 if they come without a classifier.
    pub num_classes: usize,
    /// Names of tensors of the head that the weights lack, which start from random ones.
    absent: Vec<String>,
    /// Notes on weights of another program.
    pub notes: Vec<String>,
    /// BLAKE3 of the file.
    pub fingerprint: String,
}

impl Pretrained {
    /// Reads the weights that a path stands for, to go into the network `model` for `classes`; `key` chooses among several in a file.
    pub fn read(path: &Path, key: Option<&str>, model: &GhostNetConfig, classes: &[String]) -> anyhow::Result<Self> {
        let found = FoundModel::read(path).context("cannot start from the weights")?;
        let fingerprint = found.fingerprint();
        // The classifier of weights of another program is replaced, so the names of its classes do not matter, nor whether there is one.
        let OpenedModel { file, path, notes, absent } =
            found.open_trunk(key.map(str::to_string)).context("cannot start from the weights")?;
        if file.card.folded {
            bail!(
                "the weights in `{}` are for inference alone: their batch norms are folded into the convolutions\n\n\
                 hint: start from the checkpoint, or from a file that was exported without `--fold`",
                path.display()
            );
        }
        let (card, found) = (&file.card, file.card.config());
        if found.variant != model.variant {
            let [found, wanted] = [found.variant, model.variant];
            bail!(
                "the weights in `{}` are of another network than the recipe's: `{}`, not `{}`\n\n\
                 hint: `--set model.variant={}`",
                path.display(),
                found.key(),
                wanted.key(),
                found.key()
            );
        }
        if (found.width, found.stem_stride) != (model.width, model.stem_stride) {
            bail!(
                "the weights in `{}` are of another network than the recipe's: width {} and stem stride {}, not {} and {}\n\n\
                 hint: `--set model.width={} --set model.stem_stride={}`",
                path.display(),
                found.width,
                found.stem_stride,
                model.width,
                model.stem_stride,
                found.width,
                found.stem_stride
            );
        }
        let (replaces_classifier, num_classes) = (card.classes != classes, card.classes.len());
        Ok(Self { path, tensors: file.into_tensors(), replaces_classifier, num_classes, absent, notes, fingerprint })
    }

    /// Puts the weights into a network fresh from its initialisation.
    pub fn load(&self, fresh: GhostNet) -> anyhow::Result<GhostNet> {
        let is_fresh = |tensor: &NamedTensor| {
            self.replaces_classifier && tensor.name.starts_with(CLASSIFIER) || self.absent.contains(&tensor.name)
        };
        let mut tensors: Vec<NamedTensor> = self.tensors.iter().filter(|tensor| !is_fresh(tensor)).cloned().collect();
        if self.replaces_classifier || !self.absent.is_empty() {
            tensors.extend(fresh.state(0).into_iter().filter(is_fresh));
        }
        fresh.load_state(tensors).with_context(|| format!("cannot start from the weights in `{}`", self.path.display()))
    }

    /// The file, for a message.
    pub fn place(&self) -> String {
        format!("`{}`", self.path.display())
    }

    /// In one line, what is taken over.
    pub fn summary(&self) -> String {
        let lacks_hidden_layer = self.absent.iter().any(|name| !name.starts_with(CLASSIFIER));
        let what = match (self.replaces_classifier, self.num_classes) {
            (true, 0) if lacks_hidden_layer => {
                "all of them; they come without a head, which starts from random values".to_string()
            }
            (true, 0) => "all of them; they come without a classifier, which starts from random values".to_string(),
            (true, classes) if lacks_hidden_layer => format!(
                "all but the head, which starts from random values: there was no hidden layer, and the classifier was for {} of other \
                 names",
                counted(classes, "class")
            ),
            (true, classes) => {
                let classes = counted(classes, "class");
                format!("all but the classifier, which was for {classes} of other names and starts from random values")
            }
            (false, _) if lacks_hidden_layer => {
                "all but the hidden layer of the head, which starts from random values; the classes are the same"
                    .to_string()
            }
            (false, _) => "all, the classifier included: the classes are the same".to_string(),
        };
        format!("`{}`: {what}", self.path.display())
    }
}

/// How far a parameter is from the head, in stages: 0 is the head, 10 the first stage, 11 the stem.
pub fn stages_to_head(parameter: &str) -> usize {
    let stage = parameter.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    match stage {
        Some(stage) => MOST_FROZEN_STAGES.saturating_sub(stage),
        None if parameter.starts_with("conv_stem.") || parameter.starts_with("bn1.") => MOST_FROZEN_STAGES + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn every_parameter_has_its_distance_from_the_head() {
        let model = GhostNetConfig::new(2).with_width(0.25).init(&Device::flex());
        let mut found: Vec<usize> =
            ghostnet::parameter_names(&model).iter().map(|(_, name)| stages_to_head(name)).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, (0..=11).collect::<Vec<_>>());
        for (name, distance) in [
            ("conv_stem.weight", 11),
            ("bn1.bias", 11),
            ("blocks.0.0.ghost1.primary_conv.0.weight", 10),
            ("blocks.9.0.conv.weight", 1),
            ("conv_head.bias", 0),
            ("bn2.weight", 0),
            ("classifier.weight", 0),
        ] {
            assert_eq!(stages_to_head(name), distance, "{name}");
        }
    }
}

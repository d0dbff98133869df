//! Fine-tuning: a network that was trained before is taken over, but for the classifier if the classes are others.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ghostnet::{GhostNet, GhostNetConfig, NamedTensor};

use crate::import::Hints;
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
    /// How many classes the weights knew.
    pub num_classes: usize,
    /// BLAKE3 of the file.
    pub fingerprint: String,
}

impl Pretrained {
    /// Reads the weights that a path stands for, to go into the network `model` for `classes`.
    pub fn read(path: &Path, model: &GhostNetConfig, classes: &[String]) -> anyhow::Result<Self> {
        let found = FoundModel::read(path).context("cannot start from the weights")?;
        let fingerprint = found.fingerprint();
        // The classifier of weights of another program is replaced, so the names of its classes do not matter.
        let OpenedModel { file, path, .. } = found.open(Hints::default()).context("cannot start from the weights")?;
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
        Ok(Self { path, tensors: file.into_tensors(), replaces_classifier, num_classes, fingerprint })
    }

    /// Puts the weights into a network fresh from its initialisation.
    pub fn load(&self, fresh: GhostNet) -> anyhow::Result<GhostNet> {
        let is_taken = |tensor: &NamedTensor| !self.replaces_classifier || !tensor.name.starts_with(CLASSIFIER);
        let mut tensors: Vec<NamedTensor> = self.tensors.iter().filter(|tensor| is_taken(tensor)).cloned().collect();
        if self.replaces_classifier {
            tensors.extend(fresh.state(0).into_iter().filter(|tensor| tensor.name.starts_with(CLASSIFIER)));
        }
        fresh.load_state(tensors).with_context(|| format!("cannot start from the weights in `{}`", self.path.display()))
    }

    /// The file, for a message.
    pub fn place(&self) -> String {
        format!("`{}`", self.path.display())
    }

    /// In one line, what is taken over.
    pub fn summary(&self) -> String {
        let what = if self.replaces_classifier {
            format!("all but the classifier, which was for {} classes of other names and starts anew", self.num_classes)
        } else {
            "all, the classifier included: the classes are the same".to_string()
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

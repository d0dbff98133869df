//! The section `[finetune]`: how a network that was trained before is taught other images.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::data::readable_path;
use super::violation::{Violation, require};
use crate::duration::Duration;

/// Parts that can be frozen, from the images on: the stem with the first stage, eight more stages, the last 1×1 convolution.
pub const MOST_FROZEN_STAGES: usize = 10;

/// How a network that was trained before is taught other images. Every key has a default; without the section, and without
/// `--weights`, a network starts from random weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Finetune {
    /// What to start from: a run (its best checkpoint), a checkpoint or a model file; the command line's `--weights` goes before
    /// it.
    #[serde(serialize_with = "readable_path", skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Which network of the file, where it holds several: what the names of its tensors begin with, up to a dot, or the key of its
    /// dictionary; the command line's `--key` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The stem and the first so many of the ten stages keep their weights and statistics: 0 trains everything, 10 the head alone.
    pub freeze_stages: usize,
    /// The learning rate of a stage is this much of that of the stage behind it; 1 is the same rate everywhere.
    pub layer_decay: f64,
    /// How long the head trains alone first; not at all if absent.
    pub head_warmup: Option<Duration>,
}

impl Default for Finetune {
    fn default() -> Self {
        Self { weights: None, key: None, freeze_stages: 0, layer_decay: 1.0, head_warmup: None }
    }
}

impl Finetune {
    pub(super) fn check(&self) -> Result<(), Violation> {
        require(self.freeze_stages <= MOST_FROZEN_STAGES, "finetune.freeze_stages", || {
            format!("`freeze_stages` must be at most {MOST_FROZEN_STAGES}, but is {}", self.freeze_stages)
        })?;
        let is_head_alone = self.freeze_stages == MOST_FROZEN_STAGES && self.head_warmup.is_some();
        require(!is_head_alone, "finetune.head_warmup", || {
            format!(
                "`head_warmup` does nothing where `freeze_stages` is {MOST_FROZEN_STAGES}: the head trains alone anyway"
            )
        })?;
        require(self.layer_decay > 0.0 && self.layer_decay <= 1.0, "finetune.layer_decay", || {
            format!("`layer_decay` must be above 0 and at most 1, but is {}", self.layer_decay)
        })
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::recipe::example::{set, set_message, small};
    use crate::recipe::{Finetune, RecipeError};

    #[test]
    fn the_path_of_the_weights_is_no_part_of_the_identity_and_the_rest_is() -> Result<(), RecipeError> {
        let here = set(&["finetune.weights=/a"])?;
        let there = set(&["finetune.weights=/b"])?;
        assert_eq!(here.hash(), there.hash());
        assert_ne!(here.hash(), small().hash(), "a network that knows something is another start");
        assert_ne!(here.hash(), set(&["finetune.weights=/a", "finetune.freeze_stages=3"])?.hash());
        assert_eq!(set(&["finetune={}"])?.finetune, Some(Finetune::default()));
        Ok(())
    }

    #[test]
    fn the_key_of_a_network_in_a_file_is_part_of_the_identity_and_absent_unless_it_is_given() -> Result<(), RecipeError>
    {
        let plain = set(&["finetune.weights=/a"])?;
        assert!(!plain.to_toml().contains("key"), "recipes of before stay as they were");
        assert_ne!(plain.hash(), set(&["finetune.weights=/a", "finetune.key=student"])?.hash());
        Ok(())
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_snapshot!(set_message(&["finetune.freeze_stages=11"]), @r"
        invalid argument `--set finetune.freeze_stages=11`
          |
          | finetune.freeze_stages=11
          |                        ^^
        `freeze_stages` must be at most 10, but is 11
        ");
        assert_snapshot!(set_message(&["finetune.layer_decay=0"]), @r"
        invalid argument `--set finetune.layer_decay=0`
          |
          | finetune.layer_decay=0
          |                      ^
        `layer_decay` must be above 0 and at most 1, but is 0
        ");
    }
}

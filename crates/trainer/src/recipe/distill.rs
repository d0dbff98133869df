//! The section `[distill]`: another network to learn from beside the labels.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::data::readable_path;
use super::violation::{Violation, require};
use crate::loss::Distillation;

/// A network to learn from, arXiv:1503.02531. Every key has a default, timm's; without the section, and without `--teacher`,
/// there is none.
///
/// The loss is `task_weight` times that of the labels plus `weight` times the Kullback-Leibler divergence from the teacher's
/// probabilities to the network's, both at `temperature`, times its square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// A run (its best checkpoint), a checkpoint or a model file; the command line's `--teacher` goes before it.
    #[serde(serialize_with = "readable_path", skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Which network of the file, where it holds several: what the names of its tensors begin with, up to a dot, or the key of its
    /// dictionary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Scores are divided by it: above 1 the classes that are not the best count for more.
    pub temperature: f64,
    /// Weight of the teacher's part of the loss.
    pub weight: f64,
    /// Weight of the labels' part of the loss.
    pub task_weight: f64,
}

impl Default for Distill {
    fn default() -> Self {
        let Distillation { temperature, weight, task_weight } = Distillation::default();
        Self { teacher: None, key: None, temperature, weight, task_weight }
    }
}

impl Distill {
    pub(super) fn check(&self) -> Result<(), Violation> {
        require(self.temperature.is_finite() && self.temperature > 0.0, "distill.temperature", || {
            format!("`temperature` must be finite and above 0, but is {}", self.temperature)
        })?;
        require(self.weight.is_finite() && self.weight > 0.0, "distill.weight", || {
            "`weight` must be finite and above 0; leave the section out to learn from the labels alone".to_owned()
        })?;
        require(self.task_weight.is_finite() && self.task_weight >= 0.0, "distill.task_weight", || {
            format!("`task_weight` must be finite and 0 or more, but is {}", self.task_weight)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::RecipeError;
    use crate::recipe::example::{set, set_message, small};

    #[test]
    fn the_path_of_the_teacher_is_no_part_of_the_identity_and_the_rest_is() -> Result<(), RecipeError> {
        let here = set(&["distill.teacher=/a"])?;
        assert_eq!(here.hash(), set(&["distill.teacher=/b"])?.hash());
        assert_ne!(here.hash(), small().hash());
        assert_ne!(here.hash(), set(&["distill.teacher=/a", "distill.temperature=2"])?.hash());
        Ok(())
    }

    #[test]
    fn weights_and_temperatures_that_cannot_be_meant_are_refused() {
        for (change, message) in [
            ("distill.temperature=0", "`temperature` must be finite and above 0, but is 0"),
            ("distill.weight=0", "`weight` must be finite and above 0; leave the section out"),
            ("distill.task_weight=-1", "`task_weight` must be finite and 0 or more, but is -1"),
        ] {
            let found = set_message(&[change]);
            assert!(found.contains(message), "{found}");
        }
    }
}

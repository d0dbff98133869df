//! The section `[eval]`: when the network is measured, and on what.

use serde::{Deserialize, Serialize};

use super::violation::{Violation, require};
use crate::duration::Duration;

/// When the network is measured, and on what. Every key has a default, and so has the section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    /// How often; the end of the run is always measured.
    pub every: Duration,
    /// Which parts of the data: `val`, `train` or both.
    pub splits: Vec<String>,
    /// The run ends when so many evaluations in a row were no better than the best; it goes on to its end if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

impl Default for Eval {
    fn default() -> Self {
        Self { every: Duration::Epochs(1.0), splits: vec!["val".to_owned()], patience: None }
    }
}

impl Eval {
    pub(super) fn check(&self) -> Result<(), Violation> {
        require(!self.every.is_zero(), "eval.every", || "`every` must be above 0".to_owned())?;
        require(self.patience != Some(0), "eval.patience", || {
            "`patience` must be 1 or more; leave it out to train to the end".to_owned()
        })?;
        require(!self.splits.is_empty(), "eval.splits", || "`splits` must name `train`, `val` or both".to_owned())?;
        for (index, split) in self.splits.iter().enumerate() {
            require(matches!(split.as_str(), "train" | "val"), format!("eval.splits.{index}"), || {
                format!("unknown split `{split}`, expected `train` or `val`")
            })?;
            require(!self.splits[..index].contains(split), format!("eval.splits.{index}"), || {
                format!("the split `{split}` is named twice")
            })?;
        }
        Ok(())
    }
}

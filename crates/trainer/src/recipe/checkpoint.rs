//! The section `[checkpoint]`: when a run is saved.

use serde::{Deserialize, Serialize};

use super::violation::{Violation, require};
use crate::duration::Cadence;

/// When a run is saved. Every key has a default, and so has the section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// How often.
    pub every: Cadence,
    /// How many of the latest checkpoints are kept; the best one is kept besides.
    pub keep: usize,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: Cadence::Epochs(1.0), keep: 2 }
    }
}

impl Checkpoint {
    pub(super) fn check(&self) -> Result<(), Violation> {
        require(!self.every.is_zero(), "checkpoint.every", || "`every` must be above 0".to_owned())?;
        require(self.keep > 0, "checkpoint.keep", || "`keep` must be 1 or more".to_owned())
    }
}

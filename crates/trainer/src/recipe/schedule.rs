//! The section `[schedule]`: how the learning rate changes over the run. The formulas are in [`crate::schedule`].

use serde::{Deserialize, Serialize};

use super::Recipe;
use super::violation::{Violation, require};
use crate::duration::Duration;

/// How the learning rate changes over the run. Every key has a default, and so has the section.
///
/// A key that the kind does not use is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// The shape of the curve.
    pub kind: ScheduleKind,
    /// How long the rate climbs to `optimizer.learning_rate` in a straight line; not at all if absent.
    pub warmup: Option<Duration>,
    /// The learning rate at step 0 of the warm-up.
    pub warmup_start: f64,
    /// Whether the curve starts after the warm-up (timm's meaning of the word) rather than underneath it.
    pub warmup_prefix: bool,
    /// The learning rate at the end of a cosine or a line, and the least one of a step schedule.
    pub minimum: f64,
    /// `step` only, and required there: how long the rate stays before the next decay.
    pub decay_every: Option<Duration>,
    /// `step` only: what a decay multiplies the rate with; [`Self::decay_rate`] knows the default.
    pub decay_rate: Option<f64>,
}

/// The shape of a learning rate curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine down to the minimum, arXiv:1608.03983 without restarts.
    Cosine,
    /// A straight line down to the minimum.
    Linear,
    /// Multiplied with the decay rate at regular intervals.
    Step,
    /// The same rate throughout, after the warm-up.
    Constant,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Cosine,
            warmup: None,
            warmup_start: 0.0,
            warmup_prefix: true,
            minimum: 0.0,
            decay_every: None,
            decay_rate: None,
        }
    }
}

impl ScheduleKind {
    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Step => "step",
            Self::Constant => "constant",
        }
    }
}

impl Schedule {
    /// What a decay of a step schedule multiplies the rate with, 0.1 if it is not written.
    pub fn decay_rate(&self) -> f64 {
        self.decay_rate.unwrap_or(0.1)
    }

    /// Writes out the defaults of the keys that the kind uses.
    pub(super) fn fill(&mut self) {
        if self.kind == ScheduleKind::Step {
            self.decay_rate = Some(self.decay_rate());
        }
    }

    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), Violation> {
        let step = self.kind == ScheduleKind::Step;
        for (key, written) in
            [("schedule.decay_every", self.decay_every.is_some()), ("schedule.decay_rate", self.decay_rate.is_some())]
        {
            if written && !step {
                let name = &key["schedule.".len()..];
                let kind = self.kind.name();
                return Err(Violation::of_key(key, format!("`{name}` is not used by the schedule `{kind}`")));
            }
        }
        require(!step || self.decay_every.is_some(), "schedule.kind", || {
            "the schedule `step` needs `decay_every`, for instance `{ epochs = 30 }`".to_owned()
        })?;
        require(self.decay_every.is_none_or(|every| !every.is_zero()), "schedule.decay_every", || {
            "`decay_every` must be above 0".to_owned()
        })?;
        require(self.decay_rate() > 0.0 && self.decay_rate() <= 1.0, "schedule.decay_rate", || {
            format!("`decay_rate` must be above 0 and at most 1, but is {}", self.decay_rate())
        })?;
        require(self.warmup_start.is_finite() && self.warmup_start >= 0.0, "schedule.warmup_start", || {
            format!("`warmup_start` must be finite and 0 or more, but is {}", self.warmup_start)
        })?;
        // Two lengths in different units can be compared only once the data has been counted.
        let too_long = match (self.warmup, recipe.train.total) {
            (Some(Duration::Epochs(warmup)), Duration::Epochs(total)) => warmup > total,
            (Some(Duration::Steps(warmup)), Duration::Steps(total)) => warmup > total,
            _ => false,
        };
        require(!too_long, "schedule.warmup", || "`warmup` is longer than `train.total`".to_owned())?;
        let rate = recipe.optimizer.learning_rate;
        require((0.0..=rate).contains(&self.minimum), "schedule.minimum", || {
            format!("`minimum` must be between 0 and the learning rate {rate}, but is {}", self.minimum)
        })
    }
}

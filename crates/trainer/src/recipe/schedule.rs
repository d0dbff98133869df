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
    /// The learning rate at the end of a cosine or a line, and the least one of the kinds that decay.
    pub minimum: f64,
    /// `step` and `exponential`, and required there: how long it takes to decay once.
    pub decay_every: Option<Duration>,
    /// `step`, `exponential` and `plateau`: what a decay multiplies the rate with; [`Self::decay_rate`] knows the default.
    pub decay_rate: Option<f64>,
    /// `plateau` only: a decay comes after more evaluations than this that were no better; [`Self::patience`] knows the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// `plateau` only: the share by which an evaluation must be above the best to be better; [`Self::threshold`] knows the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// `cosine` and `linear` only: how long the run stays at the minimum at its end; not at all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// A rate that is changed at random from epoch to epoch; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// Noise of the learning rate, as in timm's recipes for RMSpropTF.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// The share of the run at which it begins.
    #[serde(default)]
    pub from: f64,
    /// The share of the run at which it ends.
    #[serde(default = "default::noise_end")]
    pub to: f64,
    /// The rate is multiplied by one plus a normally distributed number, drawn again until it is smaller than this.
    #[serde(default = "default::noise_limit")]
    pub limit: f64,
}

/// The defaults of the section: timm's and PyTorch's.
mod default {
    pub(super) const DECAY_RATE: f64 = 0.1;
    pub(super) const PATIENCE: u64 = 10;
    pub(super) const THRESHOLD: f64 = 1e-4;

    pub(super) fn noise_end() -> f64 {
        1.0
    }

    pub(super) fn noise_limit() -> f64 {
        0.67
    }
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
    /// The same decay, spread over the interval.
    Exponential,
    /// Multiplied with the decay rate when evaluations get no better.
    Plateau,
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
            patience: None,
            threshold: None,
            cooldown: None,
            noise: None,
        }
    }
}

impl ScheduleKind {
    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Step => "step",
            Self::Exponential => "exponential",
            Self::Plateau => "plateau",
            Self::Constant => "constant",
        }
    }
}

impl ScheduleKind {
    /// The keys that not every kind has.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Cosine | Self::Linear => &["cooldown"],
            Self::Step | Self::Exponential => &["decay_every", "decay_rate"],
            Self::Plateau => &["decay_rate", "patience", "threshold"],
            Self::Constant => &[],
        }
    }
}

impl Schedule {
    /// What a decay multiplies the rate with, 0.1 if it is not written.
    pub fn decay_rate(&self) -> f64 {
        self.decay_rate.unwrap_or(default::DECAY_RATE)
    }

    /// The patience of a plateau schedule, 10 evaluations if it is not written.
    pub fn patience(&self) -> u64 {
        self.patience.unwrap_or(default::PATIENCE)
    }

    /// The threshold of a plateau schedule, 0.0001 if it is not written.
    pub fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(default::THRESHOLD)
    }

    /// Writes out the defaults of the keys that the kind uses.
    pub(super) fn fill(&mut self) {
        for key in self.kind.keys() {
            match *key {
                "decay_rate" => self.decay_rate = Some(self.decay_rate()),
                "patience" => self.patience = Some(self.patience()),
                "threshold" => self.threshold = Some(self.threshold()),
                _ => {}
            }
        }
    }

    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), Violation> {
        let kind = self.kind.name();
        for (key, written) in [
            ("schedule.decay_every", self.decay_every.is_some()),
            ("schedule.decay_rate", self.decay_rate.is_some()),
            ("schedule.patience", self.patience.is_some()),
            ("schedule.threshold", self.threshold.is_some()),
            ("schedule.cooldown", self.cooldown.is_some()),
        ] {
            let name = &key["schedule.".len()..];
            if written && !self.kind.keys().contains(&name) {
                return Err(Violation::of_key(key, format!("`{name}` is not used by the schedule `{kind}`")));
            }
        }
        let needs_every = self.kind.keys().contains(&"decay_every");
        require(!needs_every || self.decay_every.is_some(), "schedule.kind", || {
            format!("the schedule `{kind}` needs `decay_every`, for instance `{{ epochs = 30 }}`")
        })?;
        require(self.decay_every.is_none_or(|every| !every.is_zero()), "schedule.decay_every", || {
            "`decay_every` must be above 0".to_owned()
        })?;
        require(self.decay_rate() > 0.0 && self.decay_rate() <= 1.0, "schedule.decay_rate", || {
            format!("`decay_rate` must be above 0 and at most 1, but is {}", self.decay_rate())
        })?;
        require(self.threshold().is_finite() && self.threshold() >= 0.0, "schedule.threshold", || {
            format!("`threshold` must be finite and 0 or more, but is {}", self.threshold())
        })?;
        if let Some(Noise { from, to, limit }) = self.noise {
            require((0.0..=1.0).contains(&from) && from < to && to <= 1.0, "schedule.noise", || {
                format!("the noise must begin and end between 0 and 1, in this order, but is from {from} to {to}")
            })?;
            // Above, rates below 0 would follow; far below, hardly a number that is drawn is small enough.
            require((0.01..=1.0).contains(&limit), "schedule.noise.limit", || {
                format!("`limit` must be from 0.01 to 1, but is {limit}")
            })?;
        }
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
        let rate = recipe.learning_rate();
        require((0.0..=rate).contains(&self.minimum), "schedule.minimum", || {
            format!("`minimum` must be between 0 and the learning rate {rate}, but is {}", self.minimum)
        })
    }
}

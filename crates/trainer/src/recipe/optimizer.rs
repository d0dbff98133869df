//! The section `[optimizer]`: how a gradient becomes a change of the weights.

use serde::{Deserialize, Serialize};

use super::violation::{Violation, require};

/// How a gradient becomes a change of the weights. Required: `kind` and `learning_rate`.
///
/// A key that the kind does not use is an error. Weight decay skips one-dimensional parameters, that is, the weights
/// and biases of norms and all other biases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The update rule.
    pub kind: OptimizerKind,
    /// The rate that the schedule starts from, for a step of `data.batch_size` × `train.accumulate` images.
    pub learning_rate: f64,
    /// `sgd` only: how much of the last update is kept; [`Self::momentum`] knows the default.
    pub momentum: Option<f64>,
    /// `sgd` only: whether the gradient is taken ahead of the momentum; [`Self::nesterov`] knows the default.
    pub nesterov: Option<bool>,
    /// `adamw` only: decay of the two running averages; [`Self::betas`] knows the default.
    pub betas: Option<[f64; 2]>,
    /// `adamw` only: added to the root of the squared average; [`Self::epsilon`] knows the default.
    pub epsilon: Option<f64>,
    /// Weight decay: added to the gradient by `sgd`, applied apart from it and scaled by the rate by `adamw`.
    #[serde(default = "default::weight_decay")]
    pub weight_decay: f64,
}

/// An update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum, PyTorch's formula.
    Sgd,
    /// Adam with decoupled weight decay, arXiv:1711.05101.
    Adamw,
}

/// The defaults of the section.
mod default {
    pub(super) const MOMENTUM: f64 = 0.9;
    pub(super) const NESTEROV: bool = false;
    pub(super) const BETAS: [f64; 2] = [0.9, 0.999];
    pub(super) const EPSILON: f64 = 1e-8;

    pub(super) fn weight_decay() -> f64 {
        0.0
    }
}

impl OptimizerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adamw => "adamw",
        }
    }
}

impl Optimizer {
    /// The momentum of `sgd`, 0.9 if it is not written.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(default::MOMENTUM)
    }

    /// Whether `sgd` is Nesterov's, false if it is not written.
    pub fn nesterov(&self) -> bool {
        self.nesterov.unwrap_or(default::NESTEROV)
    }

    /// The betas of `adamw`, 0.9 and 0.999 if they are not written.
    pub fn betas(&self) -> [f64; 2] {
        self.betas.unwrap_or(default::BETAS)
    }

    /// The epsilon of `adamw`, 1e-8 if it is not written.
    pub fn epsilon(&self) -> f64 {
        self.epsilon.unwrap_or(default::EPSILON)
    }

    /// Writes out the defaults of the keys that the kind uses.
    pub(super) fn fill(&mut self) {
        match self.kind {
            OptimizerKind::Sgd => {
                self.momentum = Some(self.momentum());
                self.nesterov = Some(self.nesterov());
            }
            OptimizerKind::Adamw => {
                self.betas = Some(self.betas());
                self.epsilon = Some(self.epsilon());
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        for (key, written, of) in [
            ("optimizer.momentum", self.momentum.is_some(), OptimizerKind::Sgd),
            ("optimizer.nesterov", self.nesterov.is_some(), OptimizerKind::Sgd),
            ("optimizer.betas", self.betas.is_some(), OptimizerKind::Adamw),
            ("optimizer.epsilon", self.epsilon.is_some(), OptimizerKind::Adamw),
        ] {
            if written && of != self.kind {
                let name = &key["optimizer.".len()..];
                let kind = self.kind.name();
                return Err(Violation::of_key(key, format!("`{name}` is not used by the optimizer `{kind}`")));
            }
        }
        require(self.learning_rate.is_finite() && self.learning_rate >= 0.0, "optimizer.learning_rate", || {
            format!("`learning_rate` must be finite and 0 or more, but is {}", self.learning_rate)
        })?;
        let momentum = self.momentum();
        require((0.0..1.0).contains(&momentum), "optimizer.momentum", || {
            format!("`momentum` must be at least 0 and below 1, but is {momentum}")
        })?;
        require(!self.nesterov() || momentum > 0.0, "optimizer.nesterov", || {
            "`nesterov` needs a `momentum` above 0".to_owned()
        })?;
        require(self.betas().iter().all(|beta| (0.0..1.0).contains(beta)), "optimizer.betas", || {
            "`betas` must both be at least 0 and below 1".to_owned()
        })?;
        require(self.epsilon().is_finite() && self.epsilon() > 0.0, "optimizer.epsilon", || {
            format!("`epsilon` must be finite and above 0, but is {}", self.epsilon())
        })?;
        require(self.weight_decay.is_finite() && self.weight_decay >= 0.0, "optimizer.weight_decay", || {
            format!("`weight_decay` must be finite and 0 or more, but is {}", self.weight_decay)
        })
    }
}

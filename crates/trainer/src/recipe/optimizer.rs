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
    /// The images of a step that `learning_rate` is meant for: it is scaled in proportion, arXiv:1706.02677. Taken as it is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_per: Option<usize>,
    /// `sgd`, `rmsprop_tf` and `muon`: how much of the last update is kept; [`Self::momentum`] knows the default.
    pub momentum: Option<f64>,
    /// `sgd` and `muon`: whether the gradient is taken ahead of the momentum; [`Self::nesterov`] knows the default.
    pub nesterov: Option<bool>,
    /// `rmsprop_tf` only: decay of the average of squares; [`Self::alpha`] knows the default.
    pub alpha: Option<f64>,
    /// `adamw`, `lamb`, `lion` and `muon`: decay of the running averages; [`Self::betas`] knows the default.
    pub betas: Option<[f64; 2]>,
    /// `adamw`, `lamb`, `muon` and `rmsprop_tf`: keeps a divisor from zero; [`Self::epsilon`] knows the default.
    pub epsilon: Option<f64>,
    /// Weight decay: added to the gradient by `sgd` and `rmsprop_tf`, to the direction by `lamb`, and apart from both, scaled by the
    /// rate, by `adamw`, `lion` and `muon`.
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
    /// TensorFlow's RMSprop as in timm, that of the EfficientNet and MobileNetV3 recipes.
    RmspropTf,
    /// Steps as long as the parameter is, for large batches, arXiv:1904.00962, as in timm, where it clips gradients to a norm of 1
    /// by itself: here `train.clip_norm = 1.0` does.
    Lamb,
    /// The sign of an average of gradients, arXiv:2302.06675.
    Lion,
    /// The momentum of each matrix with its singular values brought near to one (kellerjordan.github.io/posts/muon), as long as
    /// Adam's steps; `adamw` for norms, biases and the classifier.
    Muon,
}

/// The defaults of the section: PyTorch's or timm's, but for the epsilon of `rmsprop_tf`, which is that of the published recipes.
mod default {
    use super::OptimizerKind;

    pub(super) fn momentum(kind: OptimizerKind) -> f64 {
        if kind == OptimizerKind::Muon { 0.95 } else { 0.9 }
    }

    pub(super) fn nesterov(kind: OptimizerKind) -> bool {
        kind == OptimizerKind::Muon
    }

    pub(super) const ALPHA: f64 = 0.9;

    pub(super) fn betas(kind: OptimizerKind) -> [f64; 2] {
        if kind == OptimizerKind::Lion { [0.9, 0.99] } else { [0.9, 0.999] }
    }

    pub(super) fn epsilon(kind: OptimizerKind) -> f64 {
        match kind {
            OptimizerKind::RmspropTf => 1e-3,
            OptimizerKind::Lamb => 1e-6,
            _ => 1e-8,
        }
    }

    pub(super) fn weight_decay() -> f64 {
        0.0
    }
}

impl OptimizerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adamw => "adamw",
            Self::RmspropTf => "rmsprop_tf",
            Self::Lamb => "lamb",
            Self::Lion => "lion",
            Self::Muon => "muon",
        }
    }

    /// The keys that not every kind has.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &["momentum", "nesterov"],
            Self::Adamw | Self::Lamb => &["betas", "epsilon"],
            Self::RmspropTf => &["momentum", "alpha", "epsilon"],
            Self::Lion => &["betas"],
            Self::Muon => &["momentum", "nesterov", "betas", "epsilon"],
        }
    }
}

impl Optimizer {
    /// The momentum; if it is not written 0.95 for `muon`, 0.9 for the others.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(default::momentum(self.kind))
    }

    /// Whether the momentum is Nesterov's; if it is not written true for `muon`, false for `sgd`.
    pub fn nesterov(&self) -> bool {
        self.nesterov.unwrap_or(default::nesterov(self.kind))
    }

    /// The decay of the average of squares of `rmsprop_tf`, 0.9 if it is not written.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(default::ALPHA)
    }

    /// The betas; if they are not written 0.9 and 0.99 for `lion`, 0.9 and 0.999 for the others.
    pub fn betas(&self) -> [f64; 2] {
        self.betas.unwrap_or(default::betas(self.kind))
    }

    /// The epsilon; if it is not written 1e-8 for `adamw` and `muon`, 1e-6 for `lamb`, 1e-3 for `rmsprop_tf`.
    pub fn epsilon(&self) -> f64 {
        self.epsilon.unwrap_or(default::epsilon(self.kind))
    }

    /// Writes out the defaults of the keys that the kind uses.
    pub(super) fn fill(&mut self) {
        for key in self.kind.keys() {
            match *key {
                "momentum" => self.momentum = Some(self.momentum()),
                "nesterov" => self.nesterov = Some(self.nesterov()),
                "alpha" => self.alpha = Some(self.alpha()),
                "betas" => self.betas = Some(self.betas()),
                _ => self.epsilon = Some(self.epsilon()),
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        for (key, written) in [
            ("optimizer.momentum", self.momentum.is_some()),
            ("optimizer.nesterov", self.nesterov.is_some()),
            ("optimizer.alpha", self.alpha.is_some()),
            ("optimizer.betas", self.betas.is_some()),
            ("optimizer.epsilon", self.epsilon.is_some()),
        ] {
            let name = &key["optimizer.".len()..];
            if written && !self.kind.keys().contains(&name) {
                let kind = self.kind.name();
                return Err(Violation::of_key(key, format!("`{name}` is not used by the optimizer `{kind}`")));
            }
        }
        require(self.learning_rate.is_finite() && self.learning_rate >= 0.0, "optimizer.learning_rate", || {
            format!("`learning_rate` must be finite and 0 or more, but is {}", self.learning_rate)
        })?;
        require(self.lr_per != Some(0), "optimizer.lr_per", || {
            "`lr_per` must be 1 or more images; leave it out to take `learning_rate` as it is".to_owned()
        })?;
        let momentum = self.momentum();
        require((0.0..1.0).contains(&momentum), "optimizer.momentum", || {
            format!("`momentum` must be at least 0 and below 1, but is {momentum}")
        })?;
        require(!self.nesterov() || momentum > 0.0, "optimizer.nesterov", || {
            "`nesterov` needs a `momentum` above 0".to_owned()
        })?;
        require((0.0..1.0).contains(&self.alpha()), "optimizer.alpha", || {
            format!("`alpha` must be at least 0 and below 1, but is {}", self.alpha())
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

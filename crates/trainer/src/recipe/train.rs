//! The section `[train]`: how long, on which targets, and how a step is taken.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::violation::{Violation, require};
use crate::duration::{Cadence, Duration};
use crate::mix::MixMode;

/// How long is trained, on which targets, and how a step is taken. Required: `total`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The length of the run.
    pub total: Duration,
    /// The run is made longer if it would be shorter: a few images make short epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest: Option<Duration>,
    /// The run is made shorter if it would be longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<Duration>,
    /// The share of each target that is spread evenly over all classes.
    #[serde(default = "default::label_smoothing")]
    pub label_smoothing: f64,
    /// Binary cross-entropy, each class a question of its own, in place of cross-entropy; arXiv:2110.00476. Off if absent, but
    /// for images with several labels, which need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bce: Option<Bce>,
    /// Mixup, arXiv:1710.09412: each image is blended with another. Off if absent.
    pub mixup: Option<Mix>,
    /// CutMix, arXiv:1905.04899: a box of each image is taken from another. Off if absent.
    pub cutmix: Option<Mix>,
    /// What is mixed in the same way: a `batch`, a `pair` of images, or each image on its own, `elem`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mix_mode: MixMode,
    /// The probability that what shares a draw is mixed at all.
    #[serde(default = "default::mix_probability")]
    pub mix_probability: f64,
    /// The probability that what is mixed gets CutMix rather than Mixup, where both are on.
    #[serde(default = "default::switch_probability")]
    pub switch_probability: f64,
    /// How much the images of each class count in the loss.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class_weights: ClassWeights,
    /// Parts of the run with images of another size, before those of `data.image_size`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<Stage>,
    /// Batches whose gradients are averaged into one step.
    #[serde(default = "default::accumulate")]
    pub accumulate: usize,
    /// The most images of a batch that go through the network at once, and one more where a single one would be left: a larger batch is cut
    /// into equal parts, whose gradients are averaged; norms see a part at a time. Whole batches if absent, but for GPUs without the memory for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// Gradients of a larger global norm are scaled down to it. Off if absent.
    pub clip_norm: Option<f64>,
    /// Adaptive gradient clipping, arXiv:2102.06171: a gradient may be this much of its parameter, output by output. Off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_clip: Option<f64>,
    /// Exponential moving average of the weights, evaluated and saved beside them. Off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
    /// Whether maps are made anew on the way back rather than kept: less memory, more time, the same numbers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checkpoint_activations: bool,
    /// Whether a device is refused on which the same run could differ in its last bits from one time to the next.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deterministic: bool,
    /// The number format: `f32`, or `mixed`, 16-bit floats in maps and products and 32-bit ones in weights, norms and the loss.
    #[serde(default = "default::precision")]
    pub precision: Precision,
    /// How often a run on a GPU computes the loss and the gradients of some images on the CPU too, and compares; so often that it takes 1 % of
    /// the time if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_every: Option<Cadence>,
    /// Steps between two step events.
    #[serde(default = "default::log_every")]
    pub log_every: usize,
}

/// How images are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// The share of the other image is drawn from Beta(alpha, alpha).
    pub alpha: f64,
    /// When it is switched off for the rest of the run; never if absent.
    pub off_after: Option<Duration>,
}

/// How much the images of each class count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// As much as any other.
    #[default]
    Equal,
    /// So much that all classes together count the same: `images / (classes · images of the class)`.
    Balanced,
}

/// A part of the run with images of another size, arXiv:2104.00298.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Where it ends, counted from the start of the run.
    pub until: Duration,
    /// The height and width of its training images, in pixels.
    pub image_size: u32,
}

/// Binary cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bce {
    /// Mixed or smoothed targets above it count as one, the others as zero; they stay as they are if absent.
    pub threshold: Option<f64>,
    /// Whether the losses of the classes are added up rather than averaged.
    pub sum_classes: bool,
}

/// An exponential moving average of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// The share of the average that stays at each step: 0.9999 looks back over some 10,000 steps.
    pub decay: f64,
    /// Whether it looks back less far in the beginning.
    #[serde(default = "default::ema_warmup")]
    pub warmup: bool,
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point in maps and products, 32-bit in everything that adds up over a run.
    Mixed,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Mixed => "mixed",
        })
    }
}

/// The defaults of the section.
mod default {
    use super::Precision;

    pub(super) fn label_smoothing() -> f64 {
        0.0
    }

    pub(super) fn mix_probability() -> f64 {
        1.0
    }

    pub(super) fn switch_probability() -> f64 {
        0.5
    }

    pub(super) fn accumulate() -> usize {
        1
    }

    pub(super) fn precision() -> Precision {
        Precision::F32
    }

    pub(super) fn ema_warmup() -> bool {
        true
    }

    pub(super) fn log_every() -> usize {
        20
    }
}

impl Train {
    /// The length of the run in steps; an error if `shortest` is above `longest`.
    pub fn total_steps(&self, steps_per_epoch: u64) -> Result<u64, String> {
        let to_steps = |duration: Duration| duration.to_whole_steps(steps_per_epoch);
        let (shortest, longest) = (self.shortest.map_or(0, to_steps), self.longest.map_or(u64::MAX, to_steps));
        if shortest > longest {
            return Err(format!(
                "`train.shortest` is {shortest} steps and `train.longest` {longest}\n\nhint: leave one of them out"
            ));
        }
        Ok(to_steps(self.total).clamp(shortest, longest))
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        require(!self.total.is_zero(), "train.total", || "`total` must be above 0".to_owned())?;
        require(self.longest.is_none_or(|longest| !longest.is_zero()), "train.longest", || {
            "`longest` must be above 0".to_owned()
        })?;
        require((0.0..1.0).contains(&self.label_smoothing), "train.label_smoothing", || {
            format!("`label_smoothing` must be at least 0 and below 1, but is {}", self.label_smoothing)
        })?;
        for (mix, key) in [(&self.mixup, "train.mixup.alpha"), (&self.cutmix, "train.cutmix.alpha")] {
            if let Some(Mix { alpha, .. }) = mix {
                require(alpha.is_finite() && *alpha > 0.0, key, || {
                    format!("`alpha` must be finite and above 0, but is {alpha}; leave the key out to switch it off")
                })?;
            }
        }
        for (value, key) in
            [(self.mix_probability, "train.mix_probability"), (self.switch_probability, "train.switch_probability")]
        {
            require((0.0..=1.0).contains(&value), key, || {
                format!("`{}` must be between 0 and 1, but is {value}", &key["train.".len()..])
            })?;
        }
        require(self.accumulate > 0, "train.accumulate", || "`accumulate` must be 1 or more".to_owned())?;
        require(self.micro_batch_size != Some(0), "train.micro_batch_size", || {
            "`micro_batch_size` must be 1 or more; leave it out to take whole batches".to_owned()
        })?;
        require(self.clip_norm.is_none_or(|norm| norm.is_finite() && norm > 0.0), "train.clip_norm", || {
            "`clip_norm` must be finite and above 0; leave it out to switch it off".to_owned()
        })?;
        let threshold = self.bce.and_then(|bce| bce.threshold);
        require(threshold.is_none_or(|threshold| (0.0..1.0).contains(&threshold)), "train.bce.threshold", || {
            "`threshold` must be at least 0 and below 1".to_owned()
        })?;
        require(self.ema.is_none_or(|ema| (0.0..1.0).contains(&ema.decay)), "train.ema.decay", || {
            "`decay` must be at least 0 and below 1, for instance 0.999".to_owned()
        })?;
        require(
            self.adaptive_clip.is_none_or(|share| share.is_finite() && share > 0.0),
            "train.adaptive_clip",
            || "`adaptive_clip` must be finite and above 0; leave it out to switch it off".to_owned(),
        )?;
        require(self.adaptive_clip.is_none() || self.clip_norm.is_none(), "train.adaptive_clip", || {
            "give `clip_norm` or `adaptive_clip`, not both".to_owned()
        })?;
        require(self.bce.is_none() || self.class_weights == ClassWeights::Equal, "train.class_weights", || {
            "`class_weights` goes with cross-entropy, not with `bce`; `data.sampling = \"balanced\"` goes with both"
                .to_owned()
        })?;
        for (index, Stage { until, image_size }) in self.stage.iter().enumerate() {
            let key = |name: &str| format!("train.stage.{index}.{name}");
            require(!until.is_zero(), key("until"), || "`until` must be above 0".to_owned())?;
            // The network halves the image five times.
            require(*image_size >= 32, key("image_size"), || {
                format!("`image_size` must be 32 pixels or more, but is {image_size}")
            })?;
        }
        require(self.audit_every.is_none_or(|every| !every.is_zero()), "train.audit_every", || {
            "`audit_every` must be above 0; `--no-device-check` switches audits off".to_owned()
        })?;
        require(self.log_every > 0, "train.log_every", || "`log_every` must be 1 or more".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::example::{set, set_message};

    #[test]
    fn averages_losses_and_clipping_that_cannot_be_meant_are_refused() {
        for (changes, message) in [
            (&["train.ema={decay=1}"][..], "`decay` must be at least 0 and below 1, for instance 0.999"),
            (&["train.bce={threshold=1}"], "`threshold` must be at least 0 and below 1"),
            (&["train.adaptive_clip=0"], "`adaptive_clip` must be finite and above 0; leave it out to switch it off"),
            (&["train.clip_norm=1", "train.adaptive_clip=0.02"], "give `clip_norm` or `adaptive_clip`, not both"),
            (&["eval.patience=0"], "`patience` must be 1 or more; leave it out to train to the end"),
            (&["optimizer.alpha=0.9"], "`alpha` is not used by the optimizer `sgd`"),
            (&["optimizer.kind=rmsprop_tf", "optimizer.alpha=1"], "`alpha` must be at least 0 and below 1, but is 1"),
            (&["optimizer.kind=lion", "optimizer.epsilon=1"], "`epsilon` is not used by the optimizer `lion`"),
        ] {
            let found = set_message(changes);
            assert!(found.contains(message), "{found}");
        }
        assert!(set(&["train.bce={}", "train.ema={decay=0.999}", "train.adaptive_clip=0.02"]).is_ok());
    }
}

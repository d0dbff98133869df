//! What happens in a run, as the loop tells it. Nothing in the loop prints or writes a log: it hands an [`Event`] to
//! each observer, and the observers ([`crate::observe`]) do the rest.
//!
//! The serialised names are a promise: `metrics.jsonl` is read by other people's scripts.

use serde::{Deserialize, Deserializer, Serialize};

/// What the name of a split has behind it where the average of the weights was measured.
pub const EMA_SUFFIX: &str = "_ema";

/// Something that happened in a run.
///
/// In each, `step` is the number of completed updates of the weights and `epoch` the number of completed passes over
/// the training set, with a fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The loop is about to take its first step.
    Start {
        /// Completed steps: above 0 in a run that goes on.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// Steps in the whole run.
        total_steps: u64,
        /// Steps in an epoch.
        steps_per_epoch: u64,
        /// Epochs in the whole run.
        total_epochs: f64,
        /// Whether the run goes on from a checkpoint.
        resumed: bool,
    },
    /// A step was taken; not every step is told, see `train.log_every`.
    Step {
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// The training loss, in nats. Not a number is `null` in JSON.
        #[serde(deserialize_with = "null_is_nan")]
        loss: f64,
        /// The rate that the step was taken with.
        learning_rate: f64,
        /// Training images per second of wall time since the last such event.
        images_per_second: f64,
        /// The global norm of the gradient before clipping, where it was computed and is finite.
        gradient_norm: Option<f64>,
        /// What the loss was multiplied by, in mixed precision; half of it after a step whose gradients were too large for 16 bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss_scale: Option<f64>,
        /// Steps since the last such event that changed no weight for that reason, in mixed precision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped_steps: Option<u64>,
    },
    /// The network was measured.
    Eval {
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// `val` or `train`.
        split: String,
        /// The cross-entropy without label smoothing, in nats, the mean binary one where images bear several labels. Not a number
        /// is `null` in JSON.
        #[serde(deserialize_with = "null_is_nan")]
        loss: f64,
        /// The share of images whose class, or one of whose labels, came first, 0 to 1.
        top1: f64,
        /// The share of images whose class, or one of whose labels, was among the first five, 0 to 1.
        top5: f64,
        /// The mean over the classes of their average precision, 0 to 1; only where images bear several labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean_average_precision: Option<f64>,
        /// How many images were measured.
        num_images: u64,
    },
    /// Files could not be decoded and were left out.
    Skipped {
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// How many.
        num_images: u64,
        /// Their names, or the first few of them.
        names: Vec<String>,
    },
    /// A checkpoint was written and is safe on disk.
    Checkpoint {
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// The checkpoint's directory.
        path: String,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The loop has ended.
    Finish {
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: f64,
        /// Why.
        reason: FinishReason,
    },
}

/// Why a loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// All steps were taken.
    Completed,
    /// As many evaluations as the recipe's patience were no better than the best.
    NoLongerBetter,
    /// Somebody stopped it, and it was saved.
    Interrupted,
    /// The loss was no longer a finite number.
    NonFiniteLoss,
    /// An image could not be read, and the run was saved.
    Failed,
    /// The GPU computes otherwise than the CPU, or its memory in use grows without end.
    DeviceFault,
}

impl Event {
    /// The number of completed steps.
    pub fn step(&self) -> u64 {
        match self {
            Self::Start { step, .. }
            | Self::Step { step, .. }
            | Self::Eval { step, .. }
            | Self::Skipped { step, .. }
            | Self::Checkpoint { step, .. }
            | Self::Finish { step, .. } => *step,
        }
    }
}

/// JSON has no word for a number that is none, and writes `null`.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_an_object_with_its_name_and_snake_case_keys() -> Result<(), serde_json::Error> {
        let event = Event::Step {
            step: 20,
            epoch: 0.5,
            loss: 2.25,
            learning_rate: 0.1,
            images_per_second: 512.0,
            gradient_norm: None,
            loss_scale: None,
            skipped_steps: None,
        };
        let json = serde_json::to_string(&event)?;
        assert_eq!(
            json,
            r#"{"event":"step","step":20,"epoch":0.5,"loss":2.25,"learning_rate":0.1,"images_per_second":512.0,"gradient_norm":null}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json)?, event);
        let finish = Event::Finish { step: 1, epoch: 1.0, reason: FinishReason::NonFiniteLoss };
        assert_eq!(
            serde_json::to_string(&finish)?,
            r#"{"event":"finish","step":1,"epoch":1.0,"reason":"non_finite_loss"}"#
        );
        Ok(())
    }

    #[test]
    fn a_loss_that_is_no_number_is_written_as_null_and_read_back() -> Result<(), serde_json::Error> {
        let event = Event::Eval {
            step: 1,
            epoch: 1.0,
            split: "val".to_owned(),
            loss: f64::NAN,
            top1: 0.0,
            top5: 0.0,
            mean_average_precision: None,
            num_images: 1,
        };
        let json = serde_json::to_string(&event)?;
        assert!(json.contains(r#""loss":null"#));
        assert!(matches!(serde_json::from_str(&json)?, Event::Eval { loss, .. } if loss.is_nan()));
        Ok(())
    }
}

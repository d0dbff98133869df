//! Lengths of training time as a recipe writes them: `{ epochs = 2.4 }` or `{ steps = 1000 }`.
//!
//! A step is one update of the weights by the optimizer, whatever number of batches it accumulates. The length of an
//! epoch in steps is known only once the data has been counted, so a recipe keeps the unit that was written and the
//! plan of the run resolves it once, by [`Duration::to_steps`]. Giving two units is an error, never a precedence rule.

use serde::{Deserialize, Serialize};

/// A length of training: exactly one of `{ epochs = N }`, fractions allowed, and `{ steps = N }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "WrittenDuration")]
pub enum Duration {
    /// Passes over the training set; never negative.
    Epochs(f64),
    /// Updates of the weights.
    Steps(u64),
}

/// How often something is done: a [`Duration`], or `{ minutes = N }` of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "WrittenCadence")]
pub enum Cadence {
    /// Every so many passes over the training set; never negative.
    Epochs(f64),
    /// Every so many updates of the weights.
    Steps(u64),
    /// Every so many minutes of training time; never negative.
    Minutes(f64),
}

/// The table as it stands in the file, before it is known to hold exactly one unit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDuration {
    epochs: Option<f64>,
    steps: Option<u64>,
}

/// The same for a cadence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCadence {
    epochs: Option<f64>,
    steps: Option<u64>,
    minutes: Option<f64>,
}

impl Duration {
    /// The length in steps, fractions kept: a schedule is continuous in time, and 2.4 epochs of 7 steps are 16.8 steps.
    pub fn to_steps(self, steps_per_epoch: u64) -> f64 {
        match self {
            Self::Epochs(epochs) => epochs * steps_per_epoch as f64,
            Self::Steps(steps) => steps as f64,
        }
    }

    /// The length in whole steps, rounded to the nearest; a length above zero is never rounded down to none.
    pub fn to_whole_steps(self, steps_per_epoch: u64) -> u64 {
        match (self.to_steps(steps_per_epoch), self.is_zero()) {
            (_, true) => 0,
            (steps, false) => (steps.round() as u64).max(1),
        }
    }

    /// Whether something that is done once every such length is due after `step` completed steps.
    ///
    /// True once per length even where the length is no whole number of steps, and never at step 0.
    pub fn is_due_at(self, step: u64, steps_per_epoch: u64) -> bool {
        let every = self.to_steps(steps_per_epoch);
        every > 0.0 && step > 0 && periods(step as f64, every) > periods((step - 1) as f64, every)
    }

    /// Whether the length is nothing.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Steps(0)) || matches!(self, Self::Epochs(epochs) if epochs <= 0.0)
    }
}

impl Cadence {
    /// The cadence as a length of training, or nothing if it goes by the clock.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Epochs(epochs) => Some(Duration::Epochs(epochs)),
            Self::Steps(steps) => Some(Duration::Steps(steps)),
            Self::Minutes(_) => None,
        }
    }

    /// Whether the cadence is nothing.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Minutes(minutes) => minutes <= 0.0,
            _ => self.duration().is_some_and(Duration::is_zero),
        }
    }
}

/// How many whole periods of length `every` fit into `time`.
///
/// A period that ends exactly at `time` counts, although the quotient may fall short of it by rounding: 84 steps hold
/// five periods of 2.4 epochs of 7 steps.
pub(crate) fn periods(time: f64, every: f64) -> f64 {
    (time / every + 1e-9).floor()
}

impl TryFrom<WrittenDuration> for Duration {
    type Error = String;

    fn try_from(WrittenDuration { epochs, steps }: WrittenDuration) -> Result<Self, String> {
        match (epochs, steps) {
            (Some(epochs), None) => Ok(Self::Epochs(amount("epochs", epochs)?)),
            (None, Some(steps)) => Ok(Self::Steps(steps)),
            _ => Err("give exactly one of `epochs` and `steps`".to_owned()),
        }
    }
}

impl TryFrom<WrittenCadence> for Cadence {
    type Error = String;

    fn try_from(written: WrittenCadence) -> Result<Self, String> {
        match (written.epochs, written.steps, written.minutes) {
            (Some(epochs), None, None) => Ok(Self::Epochs(amount("epochs", epochs)?)),
            (None, Some(steps), None) => Ok(Self::Steps(steps)),
            (None, None, Some(minutes)) => Ok(Self::Minutes(amount("minutes", minutes)?)),
            _ => Err("give exactly one of `epochs`, `steps` and `minutes`".to_owned()),
        }
    }
}

fn amount(unit: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(format!("`{unit}` must be finite and 0 or more, but is {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Table<T> {
        x: T,
    }

    fn duration(text: &str) -> Result<Duration, String> {
        toml::from_str::<Table<Duration>>(&format!("x = {text}"))
            .map(|table| table.x)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn one_unit_is_read_and_two_or_none_are_refused() {
        assert_eq!(duration("{ epochs = 2.4 }"), Ok(Duration::Epochs(2.4)));
        assert_eq!(duration("{ epochs = 90 }"), Ok(Duration::Epochs(90.0)));
        assert_eq!(duration("{ steps = 9000 }"), Ok(Duration::Steps(9000)));
        let one = Err("give exactly one of `epochs` and `steps`".to_owned());
        assert_eq!(duration("{ epochs = 1, steps = 2 }"), one);
        assert_eq!(duration("{}"), one);
        assert_eq!(duration("{ epochs = -1 }"), Err("`epochs` must be finite and 0 or more, but is -1".to_owned()));
        assert!(duration("{ minutes = 5 }").is_err());
    }

    #[test]
    fn a_cadence_also_goes_by_the_clock() -> Result<(), toml::de::Error> {
        let cadence = |text: &str| toml::from_str::<Table<Cadence>>(text).map(|table| table.x);
        assert_eq!(cadence("x = { minutes = 7.5 }")?, Cadence::Minutes(7.5));
        assert_eq!(cadence("x = { steps = 5 }")?.duration(), Some(Duration::Steps(5)));
        assert!(cadence("x = { minutes = 1, steps = 5 }").is_err());
        Ok(())
    }

    #[test]
    fn fractions_of_an_epoch_become_steps() {
        assert_eq!(Duration::Epochs(2.5).to_steps(7), 17.5);
        assert_eq!(Duration::Epochs(2.5).to_whole_steps(7), 18);
        assert_eq!(Duration::Epochs(0.01).to_whole_steps(7), 1);
        assert_eq!(Duration::Steps(9).to_whole_steps(7), 9);
    }

    #[test]
    fn what_is_due_every_two_and_a_half_epochs_is_due_twice_in_five() {
        let due = |every: Duration| (0..=35).filter(|&step| every.is_due_at(step, 7)).collect::<Vec<_>>();
        assert_eq!(due(Duration::Epochs(2.5)), [18, 35]);
        assert_eq!(due(Duration::Epochs(1.0)), [7, 14, 21, 28, 35]);
        assert_eq!(due(Duration::Steps(20)), [20]);
        assert!(due(Duration::Steps(0)).is_empty());
    }
}

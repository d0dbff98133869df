//! A run on a GPU is audited while it trains: every so often the loss and the gradients of the images at hand are computed once more, on the GPU and
//! on the CPU, from the weights as they are, and compared. An audit changes nothing of the run.

use std::time::{Duration, Instant};

use super::training_pass::{PassDifference, Passage};
use crate::device::{self, ChosenDevice};
use crate::duration::Cadence;
use crate::recipe::Precision;
use burn::tensor::Device;

/// What an audit, or a look at losses and memory, comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Good,
    /// Something is worth a warning.
    Warn(String),
    /// The run must not go on.
    Stop(String),
}

/// An audit may take this share of the time.
const SHARE: f64 = 0.01;

/// Time before the first audit, which comes after the check that precedes a run.
const FIRST: Duration = Duration::from_secs(60);

/// Audits in a row with a difference beyond rounding that end a run.
const MOST_IN_A_ROW: u32 = 3;

/// A difference of the loss, as a share of it, that ends a run at once.
const LOSS_BOUND: f64 = 0.1;

/// How often the last losses enter the mean that a jump is measured by.
const MEMORY_OF_LOSSES: f64 = 0.05;

/// A loss that is so many typical deviations above the mean has jumped.
const JUMP: f64 = 10.0;

/// Steps before a jump can be told.
const SETTLED: u64 = 20;

/// Growth of the memory in use, as a multiple of that at the end of the first epoch, that is a warning or the end of a run.
const GROWTH: [f64; 2] = [1.5, 4.0];

/// Growth below this is the runtime's own, bytes.
const LEAST_GROWTH: u64 = 64 << 20;

/// Watches one run.
#[derive(Debug)]
pub(crate) struct Auditor {
    every: Option<Cadence>,
    steps_per_epoch: u64,
    precision: Precision,
    /// When the last audit ended, or the run began.
    since: Instant,
    /// What the last one took.
    took: Duration,
    in_a_row: u32,
    is_off: bool,
    losses: Losses,
    memory: Memory,
}

/// Mean and typical deviation of the losses.
#[derive(Debug, Default)]
struct Losses {
    count: u64,
    mean: f64,
    deviation: f64,
    has_jumped: bool,
}

impl Losses {
    fn observe(&mut self, loss: f64) {
        let distance = loss - self.mean;
        self.has_jumped |= self.count >= SETTLED && distance > JUMP * self.deviation.max(0.02 * self.mean);
        self.count += 1;
        let share = MEMORY_OF_LOSSES.max(1.0 / self.count as f64);
        self.mean += share * distance;
        self.deviation += share * (distance.abs() - self.deviation);
    }
}

/// Memory in use at the ends of epochs.
#[derive(Debug, Default)]
struct Memory {
    first: Option<u64>,
    last: u64,
    growing: u32,
    has_warned: bool,
}

impl Memory {
    fn observe(&mut self, bytes: u64) -> Verdict {
        let Some(first) = self.first else {
            (self.first, self.last) = (Some(bytes), bytes);
            return Verdict::Good;
        };
        self.growing = if bytes > self.last { self.growing + 1 } else { 0 };
        self.last = bytes;
        if bytes < first + LEAST_GROWTH || self.growing < 2 {
            return Verdict::Good;
        }
        let [warning, end] = GROWTH;
        let growth = bytes as f64 / first.max(1) as f64;
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let text = format!(
            "the memory in use on the GPU grows from epoch to epoch: {} MB after the first one, {} MB now",
            megabytes(first),
            megabytes(bytes)
        );
        if growth > end {
            Verdict::Stop(text)
        } else if growth > warning && !std::mem::replace(&mut self.has_warned, true) {
            Verdict::Warn(text)
        } else {
            Verdict::Good
        }
    }
}

impl Auditor {
    /// Of a run on a GPU; of another, or of one whose device is not to be checked, there is none.
    pub(crate) fn new(
        device: &ChosenDevice,
        every: Option<Cadence>,
        steps_per_epoch: u64,
        precision: Precision,
    ) -> Option<Self> {
        let is_watched = device.is_gpu() && device.check.as_ref().is_some_and(|check| check.get("skipped").is_none());
        is_watched.then(|| Self {
            every,
            steps_per_epoch,
            precision,
            since: Instant::now(),
            took: Duration::ZERO,
            in_a_row: 0,
            is_off: false,
            losses: Losses::default(),
            memory: Memory::default(),
        })
    }

    /// Whether the step after `step` finished ones is to be audited.
    pub(crate) fn is_due(&self, step: u64) -> bool {
        let waited = self.since.elapsed();
        let is_due = match self.every {
            None if self.took.is_zero() => waited >= FIRST,
            None => waited.as_secs_f64() * SHARE >= self.took.as_secs_f64(),
            Some(Cadence::Minutes(minutes)) => waited.as_secs_f64() >= minutes * 60.0,
            Some(cadence) => {
                step > 0 && cadence.duration().is_some_and(|every| every.is_due_at(step, self.steps_per_epoch))
            }
        };
        !self.is_off && (is_due || self.losses.has_jumped)
    }

    /// Takes note of a step's loss.
    pub(crate) fn observe_loss(&mut self, loss: f64) {
        self.losses.observe(loss);
    }

    /// Takes note of the memory in use at the end of an epoch, bytes.
    pub(crate) fn observe_memory(&mut self, bytes: u64) -> Verdict {
        self.memory.observe(bytes)
    }

    /// Passes the images through the network and back on both devices.
    pub(crate) fn audit(&mut self, passage: &Passage, device: &ChosenDevice) -> anyhow::Result<Verdict> {
        let began = Instant::now();
        let found = match device.run(|| passage.on(&device.device, self.precision)) {
            Err(error) if device::is_out_of_memory(&error) => {
                self.is_off = true;
                device.device.memory_cleanup();
                return Ok(Verdict::Warn("there is no memory for audits, so there are none from here on".to_string()));
            }
            found => found?,
        };
        let expected = passage.on(&Device::flex(), Precision::F32)?;
        let difference = found.compare(&expected, self.precision);
        (self.since, self.took) = (Instant::now(), began.elapsed());
        let has_jumped = std::mem::take(&mut self.losses.has_jumped);
        Ok(self.judge(&difference, has_jumped))
    }

    fn judge(&mut self, difference: &PassDifference, has_jumped: bool) -> Verdict {
        let PassDifference { loss_error, faults, is_broken, .. } = difference;
        // Where a network is almost always right, its gradients are all but the rounding to 16 bits.
        let is_rounding = |fault: &&String| self.precision == Precision::Mixed && fault.starts_with("the gradient `");
        let faults: Vec<&str> = faults.iter().filter(|fault| !is_rounding(fault)).map(String::as_str).collect();
        if faults.is_empty() {
            self.in_a_row = 0;
            return match has_jumped {
                true => Verdict::Warn(
                    "the loss has jumped, and the CPU computes the same: it is the training's own".to_string(),
                ),
                false => Verdict::Good,
            };
        }
        self.in_a_row += 1;
        let text = format!("the GPU computes otherwise than the CPU: {}", faults.join("; "));
        if *loss_error > LOSS_BOUND || *is_broken || self.in_a_row >= MOST_IN_A_ROW {
            Verdict::Stop(text)
        } else {
            Verdict::Warn(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_jumps_is_noticed_and_one_that_falls_or_wavers_is_not() {
        let mut losses = Losses::default();
        for step in 0..500 {
            // Falls from 7, and wavers by a tenth.
            losses.observe(7.0 * f64::exp(-f64::from(step) / 200.0) * (1.0 + 0.1 * f64::from(step).sin()));
        }
        assert!(!losses.has_jumped, "{losses:?}");
        losses.observe(losses.mean * 6.0);
        assert!(losses.has_jumped, "{losses:?}");
    }

    #[test]
    fn memory_that_grows_from_epoch_to_epoch_is_a_warning_and_then_the_end() {
        let mut flat = Memory::default();
        let megabyte = 1_000_000;
        for bytes in [500, 510, 505, 511, 507, 900, 500] {
            assert_eq!(flat.observe(bytes * megabyte), Verdict::Good);
        }
        let mut grows = Memory::default();
        let verdicts: Vec<Verdict> = (1..12).map(|epoch| grows.observe(500 * epoch * megabyte)).collect();
        assert_eq!(verdicts[..2], [Verdict::Good, Verdict::Good]);
        assert!(
            matches!(&verdicts[2], Verdict::Warn(text) if text.contains("500 MB after the first one, 1500 MB now"))
        );
        assert_eq!(verdicts[3], Verdict::Good, "told once");
        assert!(matches!(verdicts[4], Verdict::Stop(_)));
    }
}

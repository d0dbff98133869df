//! The learning rate as a pure function of the optimizer step.
//!
//! The formulas are timm's (`timm.scheduler`, version 1.0.31), evaluated per step where timm's scripts evaluate per
//! epoch: at an epoch boundary both agree, in between the curve is smooth. With `s` the step, `W` the warm-up, `T` the
//! steps in all, `b` the base rate and `m` the minimum:
//!
//! * warm-up, `s < W`: `w + s · (b − w) / W`, from the rate `w` at step 0 in a straight line towards `b`;
//! * cosine: `m + (b − m) · (1 + cos(π · t / L)) / 2`, and `m` from `t = L` on;
//! * linear: `m + (b − m) · (1 − t / L)`, and `m` from `t = L` on (timm's `poly` of power 1);
//! * step: `b · rate^⌊t / every⌋`, but not below `m`;
//! * constant: `b`.
//!
//! With `warmup_prefix` the schedule starts after the warm-up: `t = s − W`, `L = T − W`. Without, it runs underneath
//! the warm-up and is joined where it has got to: `t = s`, `L = T`.

use std::f64::consts::PI;

use crate::duration::periods;
use crate::recipe;
use crate::recipe::ScheduleKind;

/// A learning rate schedule with every length resolved to steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    curve: Curve,
    base: f64,
    minimum: f64,
    warmup_start: f64,
    warmup_steps: f64,
    /// How many steps after step 0 the curve starts.
    offset: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Curve {
    Constant,
    Cosine { length: f64 },
    Linear { length: f64 },
    Step { every: f64, rate: f64 },
}

impl Schedule {
    /// Resolves the recipe's section for a run of `total_steps` with epochs of `steps_per_epoch`.
    pub fn new(schedule: &recipe::Schedule, base_learning_rate: f64, steps_per_epoch: u64, total_steps: u64) -> Self {
        let warmup_steps = schedule.warmup.map_or(0.0, |warmup| warmup.to_steps(steps_per_epoch));
        let offset = if schedule.warmup_prefix { warmup_steps } else { 0.0 };
        let curve = match schedule.kind {
            ScheduleKind::Constant => Curve::Constant,
            ScheduleKind::Cosine => Curve::Cosine { length: total_steps as f64 - offset },
            ScheduleKind::Linear => Curve::Linear { length: total_steps as f64 - offset },
            ScheduleKind::Step => Curve::Step {
                // A recipe that was checked has the key; without it the rate never decays.
                every: schedule.decay_every.map_or(f64::INFINITY, |every| every.to_steps(steps_per_epoch)),
                rate: schedule.decay_rate(),
            },
        };
        Self {
            curve,
            base: base_learning_rate,
            minimum: schedule.minimum,
            warmup_start: schedule.warmup_start,
            warmup_steps,
            offset,
        }
    }

    /// The learning rate of the update that follows `step` completed ones: the first update asks for step 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup_steps {
            return self.warmup_start + step * (self.base - self.warmup_start) / self.warmup_steps;
        }
        let time = step - self.offset;
        match self.curve {
            Curve::Constant => self.base,
            Curve::Cosine { length } | Curve::Linear { length } if time >= length => self.minimum,
            Curve::Cosine { length } => {
                self.minimum + 0.5 * (self.base - self.minimum) * (1.0 + (PI * time / length).cos())
            }
            Curve::Linear { length } => self.minimum + (self.base - self.minimum) * (1.0 - time / length),
            Curve::Step { every, rate } => (self.base * rate.powf(periods(time, every))).max(self.minimum),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::duration::Duration;

    /// One curve of timm's, the rate at epochs 0, 1, 2, …; timm 1.0.31, recorded with twelve significant digits.
    #[derive(Deserialize)]
    struct Trace {
        lr: f64,
        warmup_prefix: bool,
        t_initial: Option<f64>,
        lr_min: Option<f64>,
        warmup_t: f64,
        warmup_lr_init: f64,
        decay_t: Option<f64>,
        decay_rate: Option<f64>,
        values: Vec<f64>,
    }

    impl Trace {
        fn schedule(&self, steps_per_epoch: u64) -> Schedule {
            let section = recipe::Schedule {
                kind: if self.t_initial.is_some() { ScheduleKind::Cosine } else { ScheduleKind::Step },
                warmup: Some(Duration::Epochs(self.warmup_t)),
                warmup_start: self.warmup_lr_init,
                warmup_prefix: self.warmup_prefix,
                minimum: self.lr_min.unwrap_or(0.0),
                decay_every: self.decay_t.map(Duration::Epochs),
                decay_rate: self.decay_rate,
            };
            // timm's length leaves a warm-up that is a prefix out; ours is the whole run.
            let epochs = self.t_initial.unwrap_or(100.0) + if self.warmup_prefix { self.warmup_t } else { 0.0 };
            Schedule::new(&section, self.lr, steps_per_epoch, epochs as u64 * steps_per_epoch)
        }
    }

    fn traces() -> BTreeMap<String, Trace> {
        serde_json::from_str(include_str!("../tests/fixtures/schedules.json")).expect("the fixture is valid")
    }

    #[test]
    fn every_curve_is_that_of_timm_at_the_epoch_boundaries() {
        let traces = traces();
        assert_eq!(traces.len(), 4);
        for (name, trace) in traces {
            for steps_per_epoch in [1, 7, 100, 1251] {
                let schedule = trace.schedule(steps_per_epoch);
                for (epoch, &expected) in trace.values.iter().enumerate() {
                    let actual = schedule.learning_rate(epoch as u64 * steps_per_epoch);
                    assert!(
                        (actual - expected).abs() <= 1e-9 * expected,
                        "{name}, {steps_per_epoch} steps an epoch, epoch {epoch}: {actual} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_warm_up_is_a_straight_line_in_steps() {
        let trace = &traces()["cosine"];
        let schedule = trace.schedule(10);
        assert_eq!(schedule.learning_rate(0), 0.1);
        assert!((schedule.learning_rate(25) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_step_schedule_stops_at_its_minimum_and_a_constant_one_stays() {
        let mut section = recipe::Schedule {
            kind: ScheduleKind::Step,
            minimum: 0.02,
            decay_every: Some(Duration::Steps(10)),
            decay_rate: Some(0.1),
            ..recipe::Schedule::default()
        };
        let rates = |section: &recipe::Schedule| {
            [0, 9, 10, 25, 1000].map(|step| Schedule::new(section, 0.5, 10, 100).learning_rate(step))
        };
        assert_eq!(rates(&section), [0.5, 0.5, 0.05, 0.02, 0.02]);
        section.kind = ScheduleKind::Constant;
        assert_eq!(rates(&section), [0.5; 5]);
    }

    #[test]
    fn a_line_goes_from_the_rate_to_the_minimum() {
        // timm 1.0.31: PolyLRScheduler(t_initial=20, power=1, lr_min=0.1, warmup_t=5, warmup_lr_init=0, warmup_prefix=True) of
        // rate 0.5, whose length leaves out the warm-up.
        let section = recipe::Schedule {
            kind: ScheduleKind::Linear,
            minimum: 0.1,
            warmup: Some(Duration::Steps(5)),
            ..recipe::Schedule::default()
        };
        let schedule = Schedule::new(&section, 0.5, 1, 25);
        for (step, expected) in [(0, 0.0), (4, 0.4), (5, 0.5), (6, 0.48), (15, 0.3), (24, 0.12), (25, 0.1), (30, 0.1)] {
            assert!((schedule.learning_rate(step) - expected).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_never_leaves_the_line() {
        let section = recipe::Schedule { warmup: Some(Duration::Steps(10)), ..recipe::Schedule::default() };
        let schedule = Schedule::new(&section, 1.0, 10, 10);
        assert!((schedule.learning_rate(9) - 0.9).abs() < 1e-12);
        assert_eq!(schedule.learning_rate(10), 0.0);
    }
}

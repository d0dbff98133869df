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
//! * exponential: `b · rate^(t / every)`, but not below `m`: the step schedule without its steps (PyTorch's `ExponentialLR`);
//! * plateau: `b · rate^n`, but not below `m`, after `n` times that the measurements got no better, see [`Plateau`];
//! * constant: `b`.
//!
//! With `warmup_prefix` the schedule starts after the warm-up: `t = s − W`, `L = T − W − C`. Without, it runs underneath
//! the warm-up and is joined where it has got to: `t = s`, `L = T − C`. `C` is the cool-down, the steps at `m` at the end.
//!
//! Noise, between two shares of the run, changes the rate by a normally distributed share of itself, a new one each epoch.
//! timm draws it from PyTorch's generator; here it comes from the run's own streams, so its values are others.

use std::f64::consts::PI;

use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::duration::{Duration, periods};
use crate::random::{self, Purpose};
use crate::recipe::{Recipe, ScheduleKind};

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
    noise: Option<Noise>,
}

/// Noise with its range resolved to epochs.
#[derive(Debug, Clone, PartialEq)]
struct Noise {
    first_epoch: f64,
    end_epoch: f64,
    limit: f64,
    seed: u64,
    steps_per_epoch: u64,
}

impl Noise {
    /// What the rate is multiplied by.
    fn factor(&self, step: u64) -> f64 {
        let epoch = step / self.steps_per_epoch.max(1);
        if !(self.first_epoch..self.end_epoch).contains(&(epoch as f64)) {
            return 1.0;
        }
        let mut random = random::stream(self.seed, Purpose::LearningRateNoise, epoch);
        loop {
            let noise: f64 = StandardNormal.sample(&mut random);
            if noise.abs() < self.limit {
                return 1.0 + noise;
            }
        }
    }
}

/// What a plateau schedule has seen: the rule of PyTorch's `ReduceLROnPlateau` for a figure that should grow.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Plateau {
    /// The best measurement so far.
    pub best: Option<f64>,
    /// Measurements since then, or since the last decay, that were no better.
    pub no_better: u64,
    /// Decays so far.
    pub decays: u32,
}

impl Plateau {
    /// Takes in a measurement; more than `patience` in a row that are not better by the share `threshold` are a decay.
    pub fn observe(&mut self, top1: f64, patience: u64, threshold: f64) {
        if self.best.is_none_or(|best| top1 > best * (1.0 + threshold)) {
            self.best = Some(top1);
            self.no_better = 0;
        } else {
            self.no_better += 1;
        }
        if self.no_better > patience {
            self.decays += 1;
            self.no_better = 0;
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Curve {
    Constant,
    Cosine { length: f64 },
    Linear { length: f64 },
    Step { every: f64, rate: f64 },
    Exponential { every: f64, rate: f64 },
    Plateau { rate: f64 },
}

impl Schedule {
    /// Resolves the recipe's section for a run of `total_steps` with epochs of `steps_per_epoch`.
    pub fn new(recipe: &Recipe, steps_per_epoch: u64, total_steps: u64) -> Self {
        let schedule = &recipe.schedule;
        let to_steps = |length: Option<Duration>| length.map_or(0.0, |length| length.to_steps(steps_per_epoch));
        let warmup_steps = to_steps(schedule.warmup);
        let offset = if schedule.warmup_prefix { warmup_steps } else { 0.0 };
        let length = total_steps as f64 - offset - to_steps(schedule.cooldown);
        // A recipe that was checked has the key; without it the rate never decays.
        let every = schedule.decay_every.map_or(f64::INFINITY, |every| every.to_steps(steps_per_epoch));
        let rate = schedule.decay_rate();
        let curve = match schedule.kind {
            ScheduleKind::Constant => Curve::Constant,
            ScheduleKind::Cosine => Curve::Cosine { length },
            ScheduleKind::Linear => Curve::Linear { length },
            ScheduleKind::Step => Curve::Step { every, rate },
            ScheduleKind::Exponential => Curve::Exponential { every, rate },
            ScheduleKind::Plateau => Curve::Plateau { rate },
        };
        let epochs = total_steps as f64 / steps_per_epoch as f64;
        Self {
            curve,
            base: recipe.learning_rate(),
            minimum: schedule.minimum,
            warmup_start: schedule.warmup_start,
            warmup_steps,
            offset,
            noise: schedule.noise.map(|noise| Noise {
                first_epoch: noise.from * epochs,
                end_epoch: noise.to * epochs,
                limit: noise.limit,
                seed: recipe.seed,
                steps_per_epoch,
            }),
        }
    }

    /// The learning rate of the update that follows `step` completed ones: the first update asks for step 0. `decays` are those
    /// of a plateau schedule so far.
    pub fn learning_rate(&self, step: u64, decays: u32) -> f64 {
        self.smooth_rate(step as f64, decays) * self.noise.as_ref().map_or(1.0, |noise| noise.factor(step))
    }

    fn smooth_rate(&self, step: f64, decays: u32) -> f64 {
        if step < self.warmup_steps {
            return self.warmup_start + step * (self.base - self.warmup_start) / self.warmup_steps;
        }
        let time = step - self.offset;
        let decayed = |rate: f64, times: f64| (self.base * rate.powf(times)).max(self.minimum);
        match self.curve {
            Curve::Constant => self.base,
            Curve::Cosine { length } | Curve::Linear { length } if time >= length => self.minimum,
            Curve::Cosine { length } => {
                self.minimum + 0.5 * (self.base - self.minimum) * (1.0 + (PI * time / length).cos())
            }
            Curve::Linear { length } => self.minimum + (self.base - self.minimum) * (1.0 - time / length),
            Curve::Step { every, rate } => decayed(rate, periods(time, every)),
            Curve::Exponential { every, rate } => decayed(rate, time / every),
            Curve::Plateau { rate } => decayed(rate, f64::from(decays)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::recipe::example::{set, small};
    use crate::recipe::{self, RecipeError};

    /// A schedule with `section` and a base rate, for epochs of `steps_per_epoch`.
    fn schedule(section: recipe::Schedule, rate: f64, steps_per_epoch: u64, total_steps: u64) -> Schedule {
        let mut recipe = Recipe { schedule: section, ..small() };
        recipe.optimizer.learning_rate = rate;
        Schedule::new(&recipe, steps_per_epoch, total_steps)
    }

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
                ..recipe::Schedule::default()
            };
            // timm's length leaves a warm-up that is a prefix out; ours is the whole run.
            let epochs = self.t_initial.unwrap_or(100.0) + if self.warmup_prefix { self.warmup_t } else { 0.0 };
            schedule(section, self.lr, steps_per_epoch, epochs as u64 * steps_per_epoch)
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
                    let actual = schedule.learning_rate(epoch as u64 * steps_per_epoch, 0);
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
        assert_eq!(schedule.learning_rate(0, 0), 0.1);
        assert!((schedule.learning_rate(25, 0) - 0.25).abs() < 1e-12);
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
            [0, 9, 10, 25, 1000].map(|step| schedule(section.clone(), 0.5, 10, 100).learning_rate(step, 0))
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
        let schedule = schedule(section, 0.5, 1, 25);
        for (step, expected) in [(0, 0.0), (4, 0.4), (5, 0.5), (6, 0.48), (15, 0.3), (24, 0.12), (25, 0.1), (30, 0.1)] {
            assert!((schedule.learning_rate(step, 0) - expected).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_never_leaves_the_line() {
        let section = recipe::Schedule { warmup: Some(Duration::Steps(10)), ..recipe::Schedule::default() };
        let schedule = schedule(section, 1.0, 10, 10);
        assert!((schedule.learning_rate(9, 0) - 0.9).abs() < 1e-12);
        assert_eq!(schedule.learning_rate(10, 0), 0.0);
    }

    #[test]
    fn an_exponential_schedule_goes_through_the_corners_of_the_steps() {
        let section = |kind| recipe::Schedule {
            kind,
            decay_every: Some(Duration::Epochs(2.4)),
            decay_rate: Some(0.973),
            warmup: Some(Duration::Steps(10)),
            ..recipe::Schedule::default()
        };
        let step = schedule(section(ScheduleKind::Step), 0.064, 10, 1000);
        let smooth = schedule(section(ScheduleKind::Exponential), 0.064, 10, 1000);
        for decays in 0..20 {
            let corner = 10 + 24 * decays;
            let [stepped, smooth_there] = [&step, &smooth].map(|schedule| schedule.learning_rate(corner, 0));
            assert!((stepped - smooth_there).abs() < 1e-15);
            assert!(smooth.learning_rate(corner + 12, 0) < step.learning_rate(corner + 12, 0));
        }
    }

    #[test]
    fn a_cool_down_stays_at_the_minimum() {
        let section = recipe::Schedule {
            minimum: 0.1,
            warmup: Some(Duration::Steps(10)),
            cooldown: Some(Duration::Steps(20)),
            ..recipe::Schedule::default()
        };
        let schedule = schedule(section, 0.5, 10, 100);
        assert!((schedule.learning_rate(45, 0) - 0.3).abs() < 1e-12, "half of the way of 70 steps");
        assert!(schedule.learning_rate(79, 0) > 0.1);
        assert!([80, 90, 99].iter().all(|&step| schedule.learning_rate(step, 0) == 0.1));
    }

    #[test]
    fn a_plateau_decays_when_pytorch_does() {
        // torch 2.15: ReduceLROnPlateau(mode="max", factor=0.1, patience=1, threshold=0.01) of rate 1, after each figure.
        let figures = [0.5, 0.502, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.6];
        let expected = [0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3];
        let mut plateau = Plateau::default();
        let decays = figures.map(|top1| {
            plateau.observe(top1, 1, 0.01);
            plateau.decays
        });
        assert_eq!(decays, expected);
        let section = recipe::Schedule {
            kind: ScheduleKind::Plateau,
            minimum: 0.02,
            decay_rate: Some(0.1),
            ..recipe::Schedule::default()
        };
        let schedule = schedule(section, 1.0, 10, 100);
        assert_eq!([0, 1, 2].map(|decays| schedule.learning_rate(50, decays)), [1.0, 0.1, 0.02]);
    }

    #[test]
    fn noise_stays_in_its_range_changes_by_the_epoch_and_repeats() -> Result<(), RecipeError> {
        let noisy = |seed: &str| set(&["schedule.noise={from=0.4,to=0.9,limit=0.67}", "schedule.kind=constant", seed]);
        let schedule = Schedule::new(&noisy("seed=1")?, 10, 1000);
        let rate = |step| schedule.learning_rate(step, 0);
        let shares: Vec<f64> = (0..100).map(|epoch| rate(epoch * 10) / 0.1 - 1.0).collect();
        assert!(shares[..40].iter().chain(&shares[90..]).all(|share| *share == 0.0));
        let noise = &shares[40..90];
        assert!(noise.iter().all(|share| share.abs() < 0.67 && *share != 0.0));
        let deviation = (noise.iter().map(|share| share * share).sum::<f64>() / 50.0).sqrt();
        // A normal distribution cut off at 0.67 has a deviation of 0.37.
        assert!((0.27..0.47).contains(&deviation), "{deviation}");
        assert_eq!(rate(500), rate(509), "one draw an epoch");
        assert_eq!(rate(500), Schedule::new(&noisy("seed=1")?, 10, 1000).learning_rate(500, 0));
        assert_ne!(rate(500), Schedule::new(&noisy("seed=2")?, 10, 1000).learning_rate(500, 0));
        Ok(())
    }
}

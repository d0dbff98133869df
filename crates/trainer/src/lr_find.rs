//! The range test for the learning rate, arXiv:1506.01186: a short run whose rate grows from step to step until the loss does.

use burn::tensor::Device;
use serde::Serialize;

use crate::feed::Feed;
use crate::plan::Plan;
use crate::step::StepSettings;
use crate::text_chart::{COLUMNS, text_chart};
use crate::train::first_trainee;

/// The rate of the first step.
const LOWEST: f64 = 1e-6;
/// The rate that the last step would have.
const HIGHEST: f64 = 10.0;
/// Steps from one to the other: 14 in a decade.
pub const STEPS: u64 = 100;
/// Share of the smoothed loss that stays at each step.
const SMOOTHING: f64 = 0.9;
/// The test ends when the smoothed loss is so many times the lowest.
const DIVERGED: f64 = 4.0;
/// What is suggested is so much below the rate of the lowest loss.
const MARGIN: f64 = 10.0;

/// A step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The rate that it was taken with.
    pub learning_rate: f64,
    /// The loss before it.
    pub loss: f64,
    /// Average of the losses so far, of which the last ones count most.
    pub smoothed_loss: f64,
}

/// What a test found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RangeTest {
    /// Height and width of its images, pixels: those that the run ends with.
    pub image_size: u32,
    /// Its steps.
    pub points: Vec<Point>,
    /// A tenth of the rate at which the smoothed loss was lowest, as `optimizer.learning_rate` wants it; absent if the loss never
    /// fell.
    pub suggestion: Option<f64>,
    /// `optimizer.learning_rate` of the recipe.
    pub recipe: f64,
}

/// Takes the steps, on a network of its own that is then forgotten. `None` if `stop` said so between two steps.
pub fn find_learning_rate(plan: &Plan, device: &Device, stop: &dyn Fn() -> bool) -> anyhow::Result<Option<RangeTest>> {
    let mut trainee = first_trainee(plan, device)?;
    trainee.ema = None;
    let mut feed = Feed::new(plan, device, plan.recipe.train.micro_batch_size)?;
    let settings = plan.step_settings_past_head_warmup();
    let mut losses = Losses::default();
    for step in 0..STEPS {
        if stop() {
            return Ok(None);
        }
        let learning_rate = LOWEST * (HIGHEST / LOWEST).powf(step as f64 / (STEPS - 1) as f64);
        let input = feed.next(plan.last_stage_begins() + step)?;
        let settings = StepSettings { learning_rate, ..settings };
        let step = trainee.step(input.micro_batches, settings);
        let Ok((stepped, report)) = step.and_then(|(stepped, measured)| Ok((stepped, measured.read()?))) else {
            break;
        };
        trainee = stepped;
        if losses.add(learning_rate, report.loss) {
            break;
        }
    }
    // The rate of a step is that of the recipe, times this.
    let scale = plan.recipe.learning_rate_scale();
    Ok(Some(RangeTest {
        image_size: plan.recipe.data.image_size,
        suggestion: losses.suggestion().map(|rate| rate / scale),
        points: losses.points,
        recipe: plan.recipe.optimizer.learning_rate,
    }))
}

#[derive(Debug, Default)]
struct Losses {
    average: f64,
    points: Vec<Point>,
}

impl Losses {
    /// Notes a step; returns whether the loss has left all bounds.
    fn add(&mut self, learning_rate: f64, loss: f64) -> bool {
        self.average = SMOOTHING * self.average + (1.0 - SMOOTHING) * loss;
        // The average began at 0: without this it would be too low at first.
        let smoothed_loss = self.average / (1.0 - SMOOTHING.powi(self.points.len() as i32 + 1));
        self.points.push(Point { learning_rate, loss, smoothed_loss });
        let lowest = self.points.iter().map(|point| point.smoothed_loss).fold(f64::INFINITY, f64::min);
        smoothed_loss > DIVERGED * lowest
    }

    fn suggestion(&self) -> Option<f64> {
        let lowest = self.points.iter().min_by(|a, b| a.smoothed_loss.total_cmp(&b.smoothed_loss))?;
        let first = self.points.first()?;
        (lowest.smoothed_loss < first.smoothed_loss).then_some(lowest.learning_rate / MARGIN)
    }
}

impl std::fmt::Display for RangeTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return write!(f, "even at the lowest rate the loss is not finite, so there is nothing to see");
        };
        // Where the loss shoots up at the end there is nothing to learn, and the rest would be flat.
        let highest = first.smoothed_loss * 1.5;
        let columns: Vec<f64> = (0..COLUMNS.min(self.points.len()))
            .map(|column| {
                let index = column * (self.points.len() - 1) / (COLUMNS.min(self.points.len()) - 1).max(1);
                self.points[index].smoothed_loss.min(highest)
            })
            .collect();
        let ends = [first.learning_rate, last.learning_rate].map(|rate| format!("{rate:.1e}"));
        let chart = text_chart(&columns, |loss| format!("{loss:.3}"), [&ends[0], &ends[1]]);
        let size = self.image_size;
        writeln!(f, "smoothed loss by learning rate of a step, on a logarithmic scale, at {size} px\n\n{chart}\n")?;
        match self.suggestion {
            Some(rate) => write!(
                f,
                "suggestion: --set optimizer.learning_rate={:.1e}, a tenth of the rate with the lowest loss; the recipe has {:.1e}",
                rate, self.recipe
            ),
            None => write!(f, "the loss never fell, so there is no suggestion; the recipe has {:.1e}", self.recipe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(values: impl IntoIterator<Item = f64>) -> (Losses, usize) {
        let mut losses = Losses::default();
        let mut taken = 0;
        for (step, loss) in values.into_iter().enumerate() {
            taken += 1;
            if losses.add(10f64.powf(step as f64 / 10.0 - 6.0), loss) {
                break;
            }
        }
        (losses, taken)
    }

    #[test]
    fn the_first_smoothed_loss_is_the_first_loss() {
        let (losses, _) = losses([2.5, 2.0]);
        assert!((losses.points[0].smoothed_loss - 2.5).abs() < 1e-12);
        assert!((losses.points[1].smoothed_loss - (2.5 * 0.9 + 2.0) / 1.9).abs() < 1e-12);
    }

    #[test]
    fn the_test_ends_where_the_loss_shoots_up_and_suggests_a_tenth_of_the_best_rate() {
        // Falls until step 49 and then doubles at every step.
        let curve = (0..100).map(|step| if step < 50 { 2.0 - f64::from(step) / 50.0 } else { 2f64.powi(step - 48) });
        let (losses, taken) = losses(curve);
        assert!((51..58).contains(&taken), "{taken}");
        let suggestion = losses.suggestion().expect("it fell");
        let best = losses.points[49].learning_rate;
        assert!((suggestion * 10.0 / best - 1.0).abs() < 0.3, "{suggestion}");
    }

    #[test]
    fn a_loss_that_never_falls_suggests_nothing() {
        assert_eq!(losses([1.0, 1.1, 1.2]).0.suggestion(), None);
        assert_eq!(losses([]).0.suggestion(), None);
    }
}

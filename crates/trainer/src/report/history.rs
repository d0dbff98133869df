//! What a run tells of itself in `metrics.jsonl`: its curves, its best measurement, how it ended.
//!
//! A line that cannot be read is counted and passed over: a report of the rest is better than none.

use std::io;
use std::path::Path;

use crate::event::{EMA_SUFFIX, Event, FinishReason};
use crate::observe::Line;

/// A value at a time in the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Completed epochs.
    pub epoch: f64,
    /// The value; finite.
    pub value: f64,
}

/// The measurements of a split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitCurves {
    /// `val` or `train`, with `_ema` behind it for the average of the weights.
    pub split: String,
    /// Cross-entropy, nats.
    pub loss: Vec<Point>,
    /// The figure that decides, 0 to 1: see [`History::figure_name`].
    pub figure: Vec<Point>,
    /// Images measured the last time.
    pub num_images: u64,
}

/// The best measurement of the split that decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Completed epochs.
    pub epoch: f64,
    /// The figure that decides, 0 to 1: see [`History::figure_name`].
    pub figure: f64,
    /// Images measured.
    pub num_images: u64,
}

/// A run from its log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Training loss, nats.
    pub train_loss: Vec<Point>,
    /// Learning rate.
    pub learning_rate: Vec<Point>,
    /// Training images per second.
    pub images_per_second: Vec<Point>,
    /// What was measured, in the order of its first measurement.
    pub splits: Vec<SplitCurves>,
    /// Time the run has taken, seconds.
    pub seconds: f64,
    /// Completed epochs.
    pub epoch: f64,
    /// Epochs of the whole run, if it has begun.
    pub total_epochs: Option<f64>,
    /// How it ended; none if it is at work or was killed.
    pub finish: Option<FinishReason>,
    /// Damaged images that were left out, each as often as it was met.
    pub num_skipped: u64,
    /// Lines that could not be read.
    pub num_unreadable: usize,
    /// Whether images bear several labels.
    pub is_multi_label: bool,
}

impl History {
    /// Reads a log.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&String::from_utf8_lossy(&fs_err::read(path)?)))
    }

    /// The run that a log tells of. A last line without its end, as a crash can leave it, is no damage.
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            match serde_json::from_str::<Line>(line) {
                Ok(line) => history.add(line),
                Err(_) => history.num_unreadable += 1,
            }
        }
        history
    }

    fn add(&mut self, line: Line) {
        let point = |epoch: f64, value: f64| value.is_finite().then_some(Point { epoch, value });
        self.seconds = self.seconds.max(line.seconds);
        match line.event {
            Event::Start { total_epochs, epoch, .. } => {
                self.total_epochs = Some(total_epochs);
                self.epoch = epoch;
                self.finish = None;
            }
            Event::Step { epoch, loss, learning_rate, images_per_second, .. } => {
                self.epoch = epoch;
                self.train_loss.extend(point(epoch, loss));
                self.learning_rate.extend(point(epoch, learning_rate));
                self.images_per_second.extend(point(epoch, images_per_second));
            }
            Event::Eval { epoch, split, loss, top1, mean_average_precision, num_images, .. } => {
                self.epoch = epoch;
                let place = self.splits.iter().position(|curves| curves.split == split).unwrap_or_else(|| {
                    self.splits.push(SplitCurves { split, ..SplitCurves::default() });
                    self.splits.len() - 1
                });
                let curves = &mut self.splits[place];
                curves.loss.extend(point(epoch, loss));
                curves.figure.extend(point(epoch, mean_average_precision.unwrap_or(top1)));
                self.is_multi_label |= mean_average_precision.is_some();
                curves.num_images = num_images;
            }
            Event::Skipped { num_images, .. } => self.num_skipped += num_images,
            Event::Checkpoint { .. } => {}
            Event::Finish { epoch, reason, .. } => {
                self.epoch = epoch;
                self.finish = Some(reason);
            }
        }
    }

    /// What the figure that decides is called: top-1, or the mean average precision where images bear several labels.
    pub fn figure_name(&self) -> &'static str {
        if self.is_multi_label { "mean average precision" } else { "top-1" }
    }

    /// The same as a heading.
    pub fn figure_title(&self) -> &'static str {
        if self.is_multi_label { "Mean average precision" } else { "Top-1" }
    }

    /// The split whose figure decides which checkpoint is the best: `val`, or else the first, and of it the average of the weights
    /// where there is one.
    pub fn decisive(&self) -> Option<&SplitCurves> {
        let named = |name: &str| self.splits.iter().find(|curves| curves.split == name);
        let measured = named("val").or(self.splits.first())?;
        named(&format!("{}{EMA_SUFFIX}", measured.split)).or(Some(measured))
    }

    /// Its best measurement, the first of equal ones.
    pub fn best(&self) -> Option<Best> {
        let curves = self.decisive()?;
        let better = |best: Option<Point>, point: &Point| match best {
            Some(best) if best.value >= point.value => Some(best),
            _ => Some(*point),
        };
        let best = curves.figure.iter().fold(None, better)?;
        Some(Best { epoch: best.epoch, figure: best.value, num_images: curves.num_images })
    }

    /// Whether all steps were taken, or the run was no longer getting better.
    pub fn is_complete(&self) -> bool {
        matches!(self.finish, Some(FinishReason::Completed | FinishReason::NoLongerBetter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: &[Event]) -> String {
        let line = |(index, event): (usize, &Event)| {
            let line = Line { event: event.clone(), seconds: index as f64 };
            serde_json::to_string(&line).expect("an event is representable in JSON") + "\n"
        };
        events.iter().enumerate().map(line).collect()
    }

    fn start(resumed: bool) -> Event {
        Event::Start { step: 0, epoch: 0.0, total_steps: 40, steps_per_epoch: 10, total_epochs: 4.0, resumed }
    }

    fn step(epoch: f64, loss: f64) -> Event {
        let step = (epoch * 10.0) as u64;
        Event::Step {
            step,
            epoch,
            loss,
            learning_rate: 0.1,
            images_per_second: 50.0,
            gradient_norm: None,
            loss_scale: None,
            skipped_steps: None,
        }
    }

    fn eval(epoch: f64, split: &str, top1: f64) -> Event {
        let step = (epoch * 10.0) as u64;
        Event::Eval {
            step,
            epoch,
            split: split.to_owned(),
            loss: 1.0 - top1,
            top1,
            top5: 1.0,
            mean_average_precision: None,
            num_images: 20,
        }
    }

    const FINISH: Event = Event::Finish { step: 40, epoch: 4.0, reason: FinishReason::Completed };

    #[test]
    fn a_log_becomes_curves_and_the_first_best_measurement_counts() {
        let events = [
            start(false),
            step(0.5, 2.0),
            eval(1.0, "val", 0.5),
            step(1.5, f64::NAN),
            eval(2.0, "val", 0.75),
            eval(3.0, "val", 0.75),
            eval(4.0, "val", 0.6),
            FINISH,
        ];
        let history = History::parse(&log(&events));
        assert_eq!(history.train_loss, [Point { epoch: 0.5, value: 2.0 }], "a loss that is no number is no point");
        assert_eq!(history.best(), Some(Best { epoch: 2.0, figure: 0.75, num_images: 20 }));
        assert_eq!((history.seconds, history.epoch, history.total_epochs), (7.0, 4.0, Some(4.0)));
        assert!(history.is_complete());
    }

    #[test]
    fn the_average_of_the_weights_decides_where_there_is_one() {
        let events = [eval(1.0, "train", 0.9), eval(1.0, "train_ema", 0.8), eval(1.0, "val", 0.7)];
        assert_eq!(History::parse(&log(&events)).best().map(|best| best.figure), Some(0.7));
        assert_eq!(History::parse(&log(&events[..2])).best().map(|best| best.figure), Some(0.8));
        assert_eq!(History::parse("").best(), None);
    }

    #[test]
    fn damaged_lines_are_counted_and_half_a_line_at_the_end_is_none() {
        let text = log(&[start(false), step(0.5, 2.0)]);
        let history = History::parse(&format!("{{\"event\":\n{text}{{\"event\":\"st"));
        assert_eq!((history.num_unreadable, history.train_loss.len()), (1, 1));
    }

    #[test]
    fn a_run_that_goes_on_after_its_end_has_not_ended() {
        assert!(!History::parse(&log(&[start(false), FINISH, start(true)])).is_complete());
    }
}

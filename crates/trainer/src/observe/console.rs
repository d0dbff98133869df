//! The run as a person at the console reads it.
//!
//! On a terminal: a bar for the run, a bar for the epoch, and one aligned row for each measurement. Anywhere else: the
//! same rows, and one for each step event besides; no bars, no carriage returns, no colour. What was done is told in the
//! past tense, a line each.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use imageset::source::counted;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Observer, Output};
use crate::event::{Event, FinishReason};

/// Rows after which the head of the table is shown again; fewer than fit on a small terminal.
const ROWS_PER_HEADER: usize = 20;

/// Shows a run on the console.
#[derive(Debug)]
pub struct ConsoleObserver {
    output: Output,
    quiet: bool,
    /// Whether step events are rows; on a terminal with bars they move the bars.
    step_rows: bool,
    bars: Option<Bars>,
    with_bars: bool,
    rows: usize,
    started: Instant,
    /// Of the last step event.
    learning_rate: Option<f64>,
    images_per_second: Option<f64>,
    /// Name and value, 0 to 1, of the figure that decides in the last measurement of `val`.
    decisive: Option<(&'static str, f64)>,
}

#[derive(Debug)]
struct Bars {
    run: ProgressBar,
    epoch: ProgressBar,
    steps_per_epoch: u64,
}

/// What stands in a row; a cell that is none is left blank.
struct Row<'a> {
    epoch: f64,
    step: u64,
    loss: f64,
    top1: Option<f64>,
    top5: Option<f64>,
    split: &'a str,
}

impl ConsoleObserver {
    /// Writes to something that is no terminal.
    pub fn with_writer(writer: impl Write + Send + 'static, verbosity: i8) -> Self {
        Self::with_output(Output::to(writer), verbosity, false)
    }

    /// Shares an output with others, so that their lines and the bars do not tear each other.
    ///
    /// `verbosity` is 0 by default; below it nothing is shown (errors are not the observer's), above it there are rows instead
    /// of bars. `progress` allows bars on a terminal.
    pub fn with_output(output: Output, verbosity: i8, progress: bool) -> Self {
        let with_bars = progress && verbosity == 0 && output.is_terminal();
        Self {
            output,
            quiet: verbosity < 0,
            step_rows: !with_bars,
            bars: None,
            with_bars,
            rows: 0,
            started: Instant::now(),
            learning_rate: None,
            images_per_second: None,
            decisive: None,
        }
    }

    /// Tells something that is no event.
    pub fn note(&self, note: &str) {
        if !self.quiet {
            self.output.line(note);
        }
    }

    fn row(&mut self, row: &Row<'_>) {
        if self.rows.is_multiple_of(ROWS_PER_HEADER) {
            let names = ["epoch", "step", "loss", "top-1", "top-5", "lr", "img/s", "time"].map(str::to_owned);
            self.output.line(&aligned(&names, ""));
        }
        self.rows += 1;
        let percent = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.1}", 100.0 * share));
        let cells = [
            epoch(row.epoch),
            grouped(row.step),
            format!("{:.3}", row.loss),
            percent(row.top1),
            percent(row.top5),
            self.learning_rate.map_or(String::new(), rate),
            self.images_per_second.map_or(String::new(), |speed| grouped(speed.round() as u64)),
            clock(self.started.elapsed()),
        ];
        self.output.line(&aligned(&cells, row.split));
    }

    fn checkpoint(&self, step: u64, best: bool) -> String {
        match self.decisive {
            Some((name, value)) if best => {
                format!("saved checkpoint at step {step} (best {name} {:.1} %)", 100.0 * value)
            }
            _ => format!("saved checkpoint at step {step}"),
        }
    }
}

impl Observer for ConsoleObserver {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        match event {
            Event::Start { step, total_steps, steps_per_epoch, resumed, .. } => {
                self.started = Instant::now();
                if *resumed {
                    self.output.line(&format!("resumed at step {step} of {total_steps}"));
                }
                if self.with_bars {
                    self.bars = Some(Bars::new(&self.output, *step, *total_steps, *steps_per_epoch));
                }
            }
            Event::Step { step, epoch, loss, learning_rate, images_per_second, .. } => {
                self.learning_rate = Some(*learning_rate);
                self.images_per_second = Some(*images_per_second);
                if let Some(bars) = &self.bars {
                    bars.advance(*step, *loss, *images_per_second);
                }
                if self.step_rows {
                    self.row(&Row { epoch: *epoch, step: *step, loss: *loss, top1: None, top5: None, split: "" });
                }
            }
            Event::Eval { step, epoch, split, loss, top1, top5, mean_average_precision, .. } => {
                // That of the average of the weights comes last, and is the one that counts.
                if split.starts_with("val") {
                    self.decisive = Some(mean_average_precision.map_or(("top-1", *top1), |mean| ("mAP", mean)));
                }
                let mean = mean_average_precision.map_or(String::new(), |mean| format!(", mAP {:.1}", 100.0 * mean));
                let split = &format!("{split}{mean}");
                self.row(&Row { epoch: *epoch, step: *step, loss: *loss, top1: Some(*top1), top5: Some(*top5), split });
            }
            Event::Skipped { num_images, names, .. } => self.output.line(&skipped(*num_images, names)),
            Event::Checkpoint { step, best, .. } => self.output.line(&self.checkpoint(*step, *best)),
            Event::Finish { step, reason, .. } => {
                if let Some(bars) = self.bars.take() {
                    bars.clear();
                }
                let time = clock(self.started.elapsed());
                self.output.line(&match reason {
                    FinishReason::Completed => format!("finished at step {step} in {time}"),
                    FinishReason::NoLongerBetter => {
                        format!("finished at step {step} in {time}: no longer better, see `eval.patience`")
                    }
                    FinishReason::Interrupted => {
                        format!("interrupted at step {step} and saved; the same command goes on from there")
                    }
                    FinishReason::Failed => format!("stopped at step {step} and saved"),
                    FinishReason::DeviceFault => format!("stopped at step {step}: the GPU cannot be trusted"),
                    FinishReason::NonFiniteLoss => {
                        format!("stopped at step {step}: the loss was no longer a finite number")
                    }
                });
            }
        }
        Ok(())
    }
}

impl Bars {
    fn new(output: &Output, step: u64, total_steps: u64, steps_per_epoch: u64) -> Self {
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let run = output.add(ProgressBar::new(total_steps).with_position(step)).with_prefix("run");
        run.set_style(style("{prefix:>6} {bar:32} {human_pos}/{human_len} steps, {eta} left"));
        // The steps before a resume took no time of this session.
        run.reset_eta();
        let epoch = output.add(ProgressBar::new(steps_per_epoch)).with_prefix("epoch");
        epoch.set_style(style("{prefix:>6} {bar:32} {pos}/{len} steps{msg}"));
        let bars = Self { run, epoch, steps_per_epoch };
        bars.epoch.set_position(bars.within_epoch(step));
        bars
    }

    fn advance(&self, step: u64, loss: f64, images_per_second: f64) {
        self.run.set_position(step);
        self.epoch.set_position(self.within_epoch(step));
        self.epoch.set_message(format!(", loss {loss:.3}, {} img/s", grouped(images_per_second.round() as u64)));
    }

    /// The steps of the epoch in which a step falls; its last step fills the bar.
    fn within_epoch(&self, step: u64) -> u64 {
        match step.checked_rem(self.steps_per_epoch) {
            Some(0) if step > 0 => self.steps_per_epoch,
            rest => rest.unwrap_or(0),
        }
    }

    fn clear(self) {
        self.epoch.finish_and_clear();
        self.run.finish_and_clear();
    }
}

/// The cells in columns, and a remark behind them.
fn aligned(cells: &[String; 8], remark: &str) -> String {
    const WIDTHS: [usize; 8] = [6, 8, 7, 6, 6, 8, 7, 8];
    let mut line: String = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$} ")).collect();
    line.push(' ');
    line.push_str(remark);
    line.truncate(line.trim_end().len());
    line
}

/// Completed epochs: `3`, or `3.25` within the fourth.
fn epoch(epoch: f64) -> String {
    if (epoch - epoch.round()).abs() < 1e-6 { format!("{epoch:.0}") } else { format!("{epoch:.2}") }
}

/// A learning rate with three digits: `0.391`, `4.0e-5`.
fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 1e-3 {
        format!("{rate:.1e}")
    } else {
        let digits = (2 - rate.log10().floor() as i32).max(0) as usize;
        format!("{rate:.digits$}")
    }
}

/// A whole number with a space between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Minutes and seconds, `12:41`, or hours too, `1:02:41`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn skipped(num_images: u64, names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = format!("skipped {} that could not be decoded", counted(num_images as usize, "file"));
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if !shown.is_empty() {
        text.push_str(": ");
        text.push_str(&shown.join(", "));
        match num_images.saturating_sub(shown.len() as u64) {
            0 => {}
            more => text.push_str(&format!(" and {more} more")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use insta::assert_snapshot;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics while it writes").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(verbosity: i8, events: &[Event]) -> String {
        let captured = Captured::default();
        let mut console = ConsoleObserver::with_writer(captured.clone(), verbosity);
        for event in events {
            console.observe(event).expect("memory does not fill up");
        }
        let bytes = captured.0.lock().expect("no test panics while it writes").clone();
        String::from_utf8(bytes).expect("text is UTF-8")
    }

    fn step(step: u64) -> Event {
        Event::Step {
            step,
            epoch: step as f64 / 1564.0,
            loss: 2.4567,
            learning_rate: 0.3912,
            images_per_second: 3912.4,
            gradient_norm: None,
            loss_scale: None,
            skipped_steps: None,
        }
    }

    fn eval(split: &str) -> Event {
        let split = split.to_owned();
        Event::Eval {
            step: 4692,
            epoch: 3.0,
            split,
            loss: 2.318,
            top1: 0.4812,
            top5: 0.736,
            mean_average_precision: None,
            num_images: 10_000,
        }
    }

    fn start(resumed: bool) -> Event {
        let step = if resumed { 4000 } else { 0 };
        let epoch = step as f64 / 1564.0;
        Event::Start { step, epoch, total_steps: 9384, steps_per_epoch: 1564, total_epochs: 6.0, resumed }
    }

    #[test]
    fn a_run_is_told_in_rows_and_lines() {
        let path = "checkpoints/step-004692".to_owned();
        let names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"].map(str::to_owned).to_vec();
        let events = [
            start(true),
            step(4100),
            Event::Skipped { step: 4100, epoch: 2.6, num_images: 9, names },
            step(4692),
            eval("train"),
            eval("val"),
            Event::Checkpoint { step: 4692, epoch: 3.0, path: path.clone(), best: true },
            Event::Checkpoint { step: 4692, epoch: 3.0, path, best: false },
            Event::Finish { step: 9384, epoch: 6.0, reason: FinishReason::Completed },
            Event::Finish { step: 4692, epoch: 3.0, reason: FinishReason::Interrupted },
            Event::Finish { step: 4692, epoch: 3.0, reason: FinishReason::NonFiniteLoss },
        ];
        assert_snapshot!(shown(0, &events), @r"
        resumed at step 4000 of 9384
         epoch     step    loss  top-1  top-5       lr   img/s     time
          2.62    4 100   2.457                  0.391   3 912     0:00
        skipped 9 files that could not be decoded: `a.jpg`, `b.jpg`, `c.jpg` and 6 more
             3    4 692   2.457                  0.391   3 912     0:00
             3    4 692   2.318   48.1   73.6    0.391   3 912     0:00  train
             3    4 692   2.318   48.1   73.6    0.391   3 912     0:00  val
        saved checkpoint at step 4692 (best top-1 48.1 %)
        saved checkpoint at step 4692
        finished at step 9384 in 0:00
        interrupted at step 4692 and saved; the same command goes on from there
        stopped at step 4692: the loss was no longer a finite number
        ");
    }

    #[test]
    fn the_head_of_the_table_comes_again_every_twenty_rows() {
        let rows: Vec<_> = (1..=41).map(step).collect();
        let text = shown(1, &rows);
        let heads: Vec<_> =
            text.lines().enumerate().filter(|(_, line)| line.contains("epoch")).map(|(index, _)| index).collect();
        assert_eq!(heads, [0, 21, 42]);
    }

    #[test]
    fn nothing_returns_the_carriage_or_colours_where_there_is_no_terminal() {
        let text = shown(0, &[start(false), step(20), eval("val")]);
        assert!(!text.contains(['\r', '\u{1b}']), "{text:?}");
    }

    #[test]
    fn a_quiet_console_shows_nothing() {
        assert_eq!(shown(-1, &[start(true), step(20), eval("val")]), "");
    }

    #[test]
    fn numbers_are_short_and_keep_their_columns() {
        assert_eq!(
            [0.0, 4e-5, 0.00312, 0.391, 1.5, 12.0].map(rate),
            ["0", "4.0e-5", "0.00312", "0.391", "1.50", "12.0"]
        );
        assert_eq!([0, 999, 4692, 750_600].map(grouped), ["0", "999", "4 692", "750 600"]);
        assert_eq!([3.0, 0.2046].map(epoch), ["3", "0.20"]);
        assert_eq!([41, 761, 3761].map(|seconds| clock(Duration::from_secs(seconds))), ["0:41", "12:41", "1:02:41"]);
    }

    #[test]
    fn one_skipped_file_is_named() {
        assert_eq!(skipped(1, &["a.jpg".to_owned()]), "skipped 1 file that could not be decoded: `a.jpg`");
        assert_eq!(skipped(2, &[]), "skipped 2 files that could not be decoded");
    }

    #[test]
    fn a_step_on_the_boundary_belongs_to_the_epoch_that_it_ends() {
        let bars = Bars::new(&Output::to(Vec::new()), 0, 100, 10);
        assert_eq!([0, 1, 10, 11, 20].map(|step| bars.within_epoch(step)), [0, 1, 10, 1, 10]);
    }
}

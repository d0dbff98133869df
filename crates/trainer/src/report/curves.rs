//! The curves of the page: one run with a line for each thing that was measured, or several with a line for each run.

use maud::{Markup, html};

use super::RunReport;
use super::chart::{Chart, Series, Unit};
use super::history::{History, Point};

/// What a split is called; the data's own word where it is none of ours.
fn split_name(split: &str) -> String {
    match split {
        "val" => "validation".to_string(),
        "val_ema" => "validation, averaged weights".to_string(),
        "train" => "training images".to_string(),
        "train_ema" => "training images, averaged weights".to_string(),
        other => other.to_string(),
    }
}

/// The charts of some runs, each called by its name.
pub(super) fn curves(runs: &[RunReport], names: &[String]) -> Markup {
    let charts: Vec<Chart> = match runs {
        [run] => charts_of_one(&run.history),
        runs => charts_of_several(runs, names),
    };
    let charts: Vec<Chart> = charts.into_iter().filter(|chart| !chart.is_empty()).collect();
    html! {
        @if !charts.is_empty() {
            h2 { "Curves" }
            div.grid { @for chart in &charts { (chart.render()) } }
        }
    }
}

fn series(label: impl Into<String>, look: usize, points: &[Point]) -> Series {
    Series { label: label.into(), look, points: points.to_vec(), mark: None }
}

/// The best of the split that decides.
fn mark(history: &History, split: &str) -> Option<Point> {
    history.decisive().filter(|curves| curves.split == split)?;
    history.best().map(|best| Point { epoch: best.epoch, value: best.figure })
}

/// Of one run: a line for each thing that was measured.
fn charts_of_one(history: &History) -> Vec<Chart> {
    let mut loss = vec![series("training", 0, &history.train_loss)];
    let mut figure = Vec::new();
    for (index, curves) in history.splits.iter().enumerate() {
        loss.push(series(split_name(&curves.split), index + 1, &curves.loss));
        let mark = mark(history, &curves.split);
        figure.push(Series { mark, ..series(split_name(&curves.split), index + 1, &curves.figure) });
    }
    let one = |points| vec![series("training", 0, points)];
    vec![
        Chart { title: "Loss", unit: Unit::Plain, from_zero: false, series: loss },
        Chart { title: history.figure_title(), unit: Unit::Percent, from_zero: false, series: figure },
        Chart { title: "Learning rate", unit: Unit::Plain, from_zero: true, series: one(&history.learning_rate) },
        Chart {
            title: "Training images per second",
            unit: Unit::Count,
            from_zero: true,
            series: one(&history.images_per_second),
        },
    ]
}

/// Of several runs: a line for each run.
fn charts_of_several(runs: &[RunReport], names: &[String]) -> Vec<Chart> {
    let lines = |points: fn(&History) -> &[Point]| -> Vec<Series> {
        let line =
            |(look, (run, name)): (usize, (&RunReport, &String))| series(name.as_str(), look, points(&run.history));
        runs.iter().zip(names).enumerate().map(line).collect()
    };
    let mut figure = lines(|history| history.decisive().map_or(&[], |curves| &curves.figure));
    for (series, run) in figure.iter_mut().zip(runs) {
        series.mark = run.history.best().map(|best| Point { epoch: best.epoch, value: best.figure });
    }
    let loss = lines(|history| history.decisive().map_or(&[], |curves| &curves.loss));
    let (plain, percent) = (Unit::Plain, Unit::Percent);
    let figure_title = runs.first().map_or("Top-1", |run| run.history.figure_title());
    vec![
        Chart { title: figure_title, unit: percent, from_zero: false, series: figure },
        Chart { title: "Loss on the images measured", unit: plain, from_zero: false, series: loss },
        Chart { title: "Training loss", unit: plain, from_zero: false, series: lines(|history| &history.train_loss) },
        Chart { title: "Learning rate", unit: plain, from_zero: true, series: lines(|history| &history.learning_rate) },
        Chart {
            title: "Training images per second",
            unit: Unit::Count,
            from_zero: true,
            series: lines(|history| &history.images_per_second),
        },
    ]
}

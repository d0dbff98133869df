//! The page: what is known of the runs, laid out. Everything it needs is in it; the content security policy in its head makes the
//! browser hold it to that.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Chart, Series, Unit, swatch};
use super::findings::{Known, findings};
use super::history::{History, Point};
use super::number::{count, counted, epoch, percent, percent_or_dash, time};
use super::{Augmented, Measured, Report, RunReport, ShownMistake};
use crate::evaluate::{ClassScore, Evaluation};
use crate::event::FinishReason;

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, nothing runs.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// Classes up to which the whole confusion matrix is shown.
const MAX_MATRIX_CLASSES: usize = 20;

/// Pairs of classes that are listed as mixed up.
const MAX_PAIRS: usize = 12;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let names = names(report);
    let title = match &names[..] {
        [name] => name.clone(),
        names => format!("{} runs", names.len()),
    };
    let is_one = names.len() == 1;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – GhostNet training report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header.top {
                    p.kind { "Training report" }
                    h1 { (title) }
                    @if let (true, [run]) = (is_one, &report.runs[..]) { p.lead { (lead(run)) } }
                }
                main {
                    @if !is_one { (overview(report, &names)) }
                    @if let (true, [run]) = (is_one, &report.runs[..]) {
                        (glance(run))
                        (curves(report, &names))
                        (details(run, 0))
                    } @else {
                        (curves(report, &names))
                        (differences(report, &names))
                        @for (index, (run, name)) in report.runs.iter().zip(&names).enumerate() {
                            section.run id=(format!("run-{index}")) {
                                h2 { (swatch(index)) (name) }
                                p.lead { (lead(run)) }
                                (glance(run))
                                (details(run, index))
                            }
                        }
                    }
                }
                footer { "Made by ghostnet " (env!("CARGO_PKG_VERSION")) ". This page is one file and loads nothing." }
            }
        }
    };
    page.into_string()
}

/// The last part of each run's path, or the whole path where that is not enough to tell them apart.
fn names(report: &Report) -> Vec<String> {
    let last = |path: &str| path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path).to_string();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for run in &report.runs {
        *times.entry(last(&run.name)).or_default() += 1;
    }
    let name = |run: &RunReport| {
        let short = last(&run.name);
        // `.` and `..` name nothing.
        if times[&short] > 1 || short.starts_with('.') { run.name.clone() } else { short }
    };
    report.runs.iter().map(name).collect()
}

/// What was trained on what, in a sentence.
fn lead(run: &RunReport) -> String {
    let mut text = format!("GhostNet {}×, {} px", run.recipe.model.width, run.recipe.data.image_size);
    if let Some(images) = &run.images {
        text.push_str(&format!(
            ", trained on {} and measured on {}: {}",
            counted(images.num_train as u64, "image"),
            count(images.num_val as u64),
            images.description
        ));
    }
    text
}

/// How a run ended, or where it is.
fn state(history: &History) -> &'static str {
    match history.finish {
        Some(FinishReason::Completed) => "complete",
        Some(FinishReason::NoLongerBetter) => "complete: no longer getting better",
        Some(FinishReason::Interrupted) => "interrupted",
        Some(FinishReason::NonFiniteLoss) => "stopped: the loss was no number",
        Some(FinishReason::Failed) => "stopped: an image could not be read",
        None => "not complete",
    }
}

fn top1(run: &RunReport) -> Option<f64> {
    let measured = run.measured.as_ref().map(|measured| measured.evaluation.top1);
    run.history.best().map(|best| best.top1).or(measured)
}

// ---- at a glance

fn glance(run: &RunReport) -> Markup {
    let history = &run.history;
    let evaluation = run.measured.as_ref().map(|measured| &measured.evaluation);
    let found = findings(Known { history, evaluation });
    html! {
        ul.stats {
            @if let Some(top1) = top1(run) {
                li.first {
                    b { (percent(top1)) }
                    span {
                        "best top-1"
                        @if let Some(best) = history.best() { ", epoch " (epoch(best.epoch)) }
                    }
                }
            }
            @if let Some(evaluation) = evaluation {
                @if evaluation.per_class.len() > 5 { (stat(&percent(evaluation.top5), "top-5")) }
                (stat(&percent(evaluation.macro_f1), "F1, mean of classes"))
                (stat(&count(evaluation.num_images), "images measured"))
                (stat(&count(evaluation.per_class.len() as u64), "classes"))
            }
            @if let Some(network) = &run.network { (stat(&count(network.parameters() as u64), "parameters")) }
            (stat(&time(history.seconds), &format!("training, {}", state(history))))
        }
        @if !found.is_empty() || !run.notes.is_empty() {
            div.card.words {
                @if !found.is_empty() {
                    h3 { "What the figures say" }
                    ul { @for sentence in &found { li { (with_code(sentence)) } } }
                }
                @for note in &run.notes { p.note { (with_code(note)) } }
            }
        }
    }
}

fn stat(value: &str, name: &str) -> Markup {
    html! { li { b { (value) } span { (name) } } }
}

/// A sentence with what stands between backticks as code.
fn with_code(sentence: &str) -> Markup {
    html! {
        @for (index, part) in sentence.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

// ---- several runs

fn overview(report: &Report, names: &[String]) -> Markup {
    html! {
        (scroll("The runs", html! {
            table {
                thead {
                    tr {
                        th scope="col" { "run" }
                        @for title in ["best top-1", "epoch", "images", "width", "parameters", "time"] {
                            th.number scope="col" { (title) }
                        }
                        th scope="col" { "state" }
                    }
                }
                tbody {
                    @for (index, (run, name)) in report.runs.iter().zip(names).enumerate() {
                        @let best = run.history.best();
                        tr {
                            th scope="row" { (swatch(index)) a href=(format!("#run-{index}")) { (name) } }
                            td.number { (percent_or_dash(top1(run))) }
                            td.number { (best.map_or("–".to_string(), |best| epoch(best.epoch))) }
                            td.number { (best.map_or("–".to_string(), |best| count(best.num_images))) }
                            td.number { (run.recipe.model.width) "×" }
                            td.number {
                                (run.network.as_ref().map_or("–".to_string(), |network| count(network.parameters() as u64)))
                            }
                            td.number { (time(run.history.seconds)) }
                            td { (state(&run.history)) }
                        }
                    }
                }
            }
        }))
    }
}

fn differences(report: &Report, names: &[String]) -> Markup {
    let Some((first, others)) = report.runs.split_first() else { return html! {} };
    html! {
        h2 { "What differs in the recipes" }
        div.card {
            @for (run, name) in others.iter().zip(&names[1..]) {
                @let lines = first.recipe.difference(&run.recipe);
                h3 { (names[0]) " → " (name) }
                @if lines.is_empty() {
                    p { "Nothing: the recipes are the same." }
                } @else {
                    ul.difference {
                        @for line in &lines {
                            @let (key, values) = line.split_once(": ").unwrap_or((line, ""));
                            li { code { b { (key) } " " (values) } }
                        }
                    }
                }
            }
        }
    }
}

// ---- curves

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

fn curves(report: &Report, names: &[String]) -> Markup {
    let charts: Vec<Chart> = match &report.runs[..] {
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
    history.best().map(|best| Point { epoch: best.epoch, value: best.top1 })
}

/// Of one run: a line for each thing that was measured.
fn charts_of_one(history: &History) -> Vec<Chart> {
    let mut loss = vec![series("training", 0, &history.train_loss)];
    let mut top1 = Vec::new();
    for (index, curves) in history.splits.iter().enumerate() {
        loss.push(series(split_name(&curves.split), index + 1, &curves.loss));
        let mark = mark(history, &curves.split);
        top1.push(Series { mark, ..series(split_name(&curves.split), index + 1, &curves.top1) });
    }
    let one = |points| vec![series("training", 0, points)];
    vec![
        Chart { title: "Loss", unit: Unit::Plain, from_zero: false, series: loss },
        Chart { title: "Top-1", unit: Unit::Percent, from_zero: false, series: top1 },
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
    let mut top1 = lines(|history| history.decisive().map_or(&[], |curves| &curves.top1));
    for (series, run) in top1.iter_mut().zip(runs) {
        series.mark = run.history.best().map(|best| Point { epoch: best.epoch, value: best.top1 });
    }
    let loss = lines(|history| history.decisive().map_or(&[], |curves| &curves.loss));
    let (plain, percent) = (Unit::Plain, Unit::Percent);
    vec![
        Chart { title: "Top-1", unit: percent, from_zero: false, series: top1 },
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

// ---- a run in detail

fn details(run: &RunReport, index: usize) -> Markup {
    html! {
        @if let Some(measured) = &run.measured {
            @let evaluation = &measured.evaluation;
            (mistakes(measured))
            (mixed_up(evaluation))
            (classes(&evaluation.per_class))
            (calibration(evaluation))
        }
        @if let Some(images) = &run.images { (augmented(&images.augmented)) }
        (recipe(run, index))
    }
}

/// A part that scrolls by itself where it is wider than the page.
fn scroll(name: &str, content: Markup) -> Markup {
    html! { div.card.scroll role="region" aria-label=(name) tabindex="0" { (content) } }
}

fn mistakes(measured: &Measured) -> Markup {
    let images = if measured.split == "train" { "training images" } else { "validation images" };
    html! {
        h2 { "Surest mistakes" }
        @if measured.mistakes.is_empty() {
            p { "None: every image was named right." }
        } @else {
            p.hint {
                "The " (images) " that the network was surest about, and wrong by their label. Some of the labels may be what is wrong."
            }
            ul.sheet { @for shown in &measured.mistakes { (mistake(shown)) } }
        }
    }
}

fn mistake(shown: &ShownMistake) -> Markup {
    let ShownMistake { mistake, picture } = shown;
    html! {
        li {
            figure {
                div.picture {
                    @if let Some(picture) = picture { img src=(picture) alt=(mistake.image) loading="lazy"; }
                    @else { span { "not readable" } }
                }
                figcaption {
                    span.truth { (mistake.class) }
                    span.taken { "taken for " b { (mistake.predicted) } }
                    span.sure { (percent(mistake.probability)) " sure" }
                    span.file title=(mistake.image) { bdi { (mistake.image) } }
                }
            }
        }
    }
}

/// The matrix where it fits, and the pairs that are mixed up most.
fn mixed_up(evaluation: &Evaluation) -> Markup {
    let pairs = pairs(evaluation);
    html! {
        h2 { "What it mixes up" }
        @if evaluation.per_class.len() <= MAX_MATRIX_CLASSES { (matrix(evaluation)) }
        @if pairs.is_empty() {
            p { "Nothing." }
        } @else {
            (scroll("Most mixed up classes", html! {
                table {
                    thead {
                        tr {
                            th scope="col" { "class" }
                            th scope="col" { "taken for" }
                            th.number scope="col" { "images" }
                            th.number scope="col" { "of the class" }
                            th aria-hidden="true" {}
                        }
                    }
                    tbody {
                        @for pair in &pairs {
                            tr {
                                th scope="row" { (pair.class) }
                                td { (pair.predicted) }
                                td.number { (count(pair.num_images)) }
                                td.number { (percent(pair.share)) }
                                td.wide { (bar(pair.share, "wrong")) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// One class taken for another.
struct Pair<'a> {
    class: &'a str,
    predicted: &'a str,
    num_images: u64,
    /// Of the images of the class.
    share: f64,
}

/// The pairs that are mixed up most, by their number of images.
fn pairs(evaluation: &Evaluation) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    for (label, row) in evaluation.confusion.iter().enumerate() {
        let score = &evaluation.per_class[label];
        for (predicted, &num_images) in row.iter().enumerate().filter(|(predicted, _)| *predicted != label) {
            if num_images > 0 {
                pairs.push(Pair {
                    class: &score.class,
                    predicted: &evaluation.per_class[predicted].class,
                    num_images,
                    share: num_images as f64 / score.num_images as f64,
                });
            }
        }
    }
    pairs.sort_by(|a, b| b.num_images.cmp(&a.num_images).then(b.share.total_cmp(&a.share)));
    pairs.truncate(MAX_PAIRS);
    pairs
}

fn matrix(evaluation: &Evaluation) -> Markup {
    let Evaluation { per_class, confusion, .. } = evaluation;
    // A few mistakes are to be seen beside many right answers: the tint grows with the square root.
    let tint = |number: u64, score: &ClassScore| {
        let share = number as f64 / score.num_images.max(1) as f64;
        format!("--tint:{:.2}", share.sqrt())
    };
    html! {
        (scroll("Confusion matrix", html! {
            table.matrix {
                caption { "Rows are the true classes, columns what they were taken for, in images." }
                thead {
                    tr {
                        td {}
                        @for score in per_class { th scope="col" { span { (score.class) } } }
                    }
                }
                tbody {
                    @for (label, (score, row)) in per_class.iter().zip(confusion).enumerate() {
                        tr {
                            th scope="row" { (score.class) }
                            @for (predicted, &number) in row.iter().enumerate() {
                                @if number == 0 {
                                    td.none { "·" }
                                } @else {
                                    td.good[predicted == label].bad[predicted != label] style=(tint(number, score))
                                        title=(format!("{} taken for {}: {number}", score.class, per_class[predicted].class)) {
                                        (count(number))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }))
    }
}

fn bar(share: f64, kind: &str) -> Markup {
    html! { span.bar.(kind) aria-hidden="true" { span style=(format!("width:{:.1}%", 100.0 * share.clamp(0.0, 1.0))) {} } }
}

fn classes(per_class: &[ClassScore]) -> Markup {
    let mut scores: Vec<&ClassScore> = per_class.iter().collect();
    // What nothing is known of comes last.
    let f1 = |score: &ClassScore| score.f1.unwrap_or(f64::INFINITY);
    scores.sort_by(|a, b| f1(a).total_cmp(&f1(b)));
    html! {
        h2 { "Class by class" }
        p.hint {
            "The hardest first. Recall: how much of the class is recognised. Precision: how much of what is called so is so. F1: both in \
             one figure."
        }
        (scroll("Figures of each class", html! {
            table.tall {
                thead {
                    tr {
                        th scope="col" { "class" }
                        @for title in ["images", "recall", "precision", "F1"] { th.number scope="col" { (title) } }
                        th aria-hidden="true" {}
                    }
                }
                tbody {
                    @for score in scores {
                        tr {
                            th scope="row" { (score.class) }
                            td.number { (count(score.num_images)) }
                            td.number { (percent_or_dash(score.recall)) }
                            td.number { (percent_or_dash(score.precision)) }
                            td.number { (percent_or_dash(score.f1)) }
                            td.wide { @if let Some(f1) = score.f1 { (bar(f1, "right")) } }
                        }
                    }
                }
            }
        }))
    }
}

fn calibration(evaluation: &Evaluation) -> Markup {
    html! {
        h2 { "Can its probabilities be believed?" }
        div.grid {
            figure.card.chart {
                figcaption { "How often it is right, by how sure it is" }
                (chart::reliability(&evaluation.calibration))
            }
            div.card.words {
                p.big { (percent(evaluation.calibration_error)) }
                p {
                    "expected calibration error: the mean distance between how sure the network is and how often it is right then \
                     (Guo et al., arXiv:1706.04599, 15 bins)."
                }
                p.hint {
                    span.key.right {} "right " span.key.gap {} "the distance. Bars that stay below the diagonal: it is surer than it should be."
                }
                details {
                    summary { "The same in figures" }
                    table {
                        thead {
                            tr { @for title in ["sure", "right", "images"] { th.number scope="col" { (title) } } }
                        }
                        tbody {
                            @for bin in evaluation.calibration.iter().filter(|bin| bin.num_images > 0) {
                                tr {
                                    td.number { (percent_or_dash(bin.confidence)) }
                                    td.number { (percent_or_dash(bin.accuracy)) }
                                    td.number { (count(bin.num_images)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn augmented(images: &[Augmented]) -> Markup {
    html! {
        @if !images.is_empty() {
            h2 { "What the network trains on" }
            p.hint {
                "Some training images, and what the recipe's " code { "data.train" } " made of each in the first epochs, before images are \
                 mixed with each other. Is the thing itself still to be seen?"
            }
            div.rows {
                @for image in images {
                    figure.row {
                        div.pictures {
                            img.original src=(image.original) alt=(image.image) loading="lazy";
                            @for (index, view) in image.views.iter().enumerate() {
                                img src=(view) alt=(format!("augmented, epoch {}", index + 1)) loading="lazy";
                            }
                        }
                        figcaption { b { (image.class) } " " span.file title=(image.image) { bdi { (image.image) } } }
                    }
                }
            }
        }
    }
}

fn recipe(run: &RunReport, index: usize) -> Markup {
    let environment = &run.environment;
    let threads = environment.threads.map(|threads| format!("{threads} threads"));
    let machine: Vec<String> = environment.device.iter().cloned().chain(threads).collect();
    html! {
        h2 id=(format!("recipe-{index}")) { "How it was made" }
        div.card.words {
            dl {
                dt { "run" } dd { code { (run.name) } }
                @if !machine.is_empty() { dt { "machine" } dd { (machine.join(", ")) } }
                @if let Some(version) = &environment.ghostnet { dt { "program" } dd { "ghostnet " (version) } }
                @if !environment.command.is_empty() { dt { "command" } dd { code { (environment.command.join(" ")) } } }
            }
            details {
                summary { "The recipe, with every default" }
                pre tabindex="0" { (run.recipe.to_toml().trim()) }
            }
        }
    }
}

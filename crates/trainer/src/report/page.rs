//! The page: what is known of the runs, laid out. Everything it needs is in it; the content security policy in its head makes the
//! browser hold it to that.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::swatch;
use super::curves::curves;
use super::findings::{Known, findings};
use super::history::History;
use super::measured::measured;
use super::number::{count, counted, epoch, percent, percent_or_dash, time};
use super::{Augmented, Report, RunReport};
use crate::evaluate::Evaluation;
use crate::event::FinishReason;

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, nothing runs.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// Differences between two recipes that are shown without being asked for.
const MAX_OPEN_DIFFERENCES: usize = 12;

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
                    @if let (true, [run]) = (is_one, &report.runs[..]) { p.lead { (with_code(&lead(run))) } }
                }
                main {
                    @if !is_one { (overview(report, &names)) }
                    @if let (true, [run]) = (is_one, &report.runs[..]) {
                        (glance(run))
                        (curves(&report.runs, &names))
                        (details(run, 0))
                    } @else {
                        (curves(&report.runs, &names))
                        (differences(report, &names))
                        @for (index, (run, name)) in report.runs.iter().zip(&names).enumerate() {
                            section.run id=(format!("run-{index}")) {
                                h1 { (swatch(index)) (name) }
                                p.lead { (with_code(&lead(run))) }
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
    let model = &run.recipe.model;
    let mut text = format!("{} {}×, {} px", model.variant.title(), model.width, run.recipe.data.image_size);
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
        Some(FinishReason::DeviceFault) => "stopped: the GPU could not be trusted",
        None => "not complete",
    }
}

/// The best of the figure that decides.
fn best_figure(run: &RunReport) -> Option<f64> {
    let measured = run.measured.as_ref().map(|measured| measured.evaluation.decisive());
    run.history.best().map(|best| best.figure).or(measured)
}

// ---- at a glance

fn glance(run: &RunReport) -> Markup {
    let history = &run.history;
    let evaluation = run.measured.as_ref().map(|measured| &measured.evaluation);
    let found = findings(Known { history, evaluation });
    html! {
        ul.stats {
            @if let Some(figure) = best_figure(run) {
                li.first {
                    b { (percent(figure)) }
                    span {
                        "best " (history.figure_name())
                        @if let Some(best) = history.best() { ", epoch\u{a0}" (epoch(best.epoch)) }
                    }
                }
            }
            @if let Some(evaluation) = evaluation {
                @if evaluation.per_class.len() > 5 { (stat(&percent(evaluation.top5), "top-5")) }
                (stat(&percent(evaluation.macro_f1), "F1, mean of classes"))
                (stat(&count(evaluation.num_images), &format!("images measured, of {}", classes_of(evaluation))))
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

fn classes_of(evaluation: &Evaluation) -> String {
    let number = evaluation.per_class.len() as u64;
    format!("{}\u{a0}class{}", count(number), if number == 1 { "" } else { "es" })
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
                        @let figure = report.runs.first().map_or("top-1", |run| run.history.figure_name());
                        @for title in [&format!("best {figure}"), "epoch", "images", "width", "parameters", "time"] {
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
                            td.number { (percent_or_dash(best_figure(run))) }
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
                } @else if lines.len() > MAX_OPEN_DIFFERENCES {
                    details {
                        summary { (counted(lines.len() as u64, "key")) }
                        (difference(&lines))
                    }
                } @else {
                    (difference(&lines))
                }
            }
        }
    }
}

fn difference(lines: &[String]) -> Markup {
    html! {
        ul.difference {
            @for line in lines {
                @let (key, values) = line.split_once(": ").unwrap_or((line, ""));
                li { code { b { (key) } " " (values) } }
            }
        }
    }
}

// ---- a run in detail

fn details(run: &RunReport, index: usize) -> Markup {
    html! {
        @if let Some(found) = &run.measured { (measured(found)) }
        @if let Some(images) = &run.images { (augmented(&images.augmented)) }
        (recipe(run, index))
    }
}

/// A part that scrolls by itself where it is wider than the page.
pub(super) fn scroll(name: &str, content: Markup) -> Markup {
    html! { div.card.scroll role="region" aria-label=(name) tabindex="0" { (content) } }
}

/// The file with its folder: what is in front of that is the same for all images.
pub(super) fn short_name(name: &str) -> &str {
    name.rmatch_indices(['/', '\\']).nth(1).map_or(name, |(place, _)| &name[place + 1..])
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
                        figcaption { b { (image.class) } " " span.file title=(image.image) { bdi { (short_name(&image.image)) } } }
                    }
                }
            }
        }
    }
}

fn recipe(run: &RunReport, index: usize) -> Markup {
    let environment = &run.environment;
    let threads = environment.threads.map(|threads| counted(threads as u64, "thread"));
    let machine: Vec<String> = environment.device.iter().cloned().chain(threads).collect();
    html! {
        h2 id=(format!("recipe-{index}")) { "How it was made" }
        div.card.words {
            dl {
                dt { "run" } dd { code { (run.name) } }
                @if let Some(measured) = &run.measured { dt { "measured" } dd { "checkpoint of step " (count(measured.step)) } }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_file_with_its_folder() {
        assert_eq!(short_name("/data/photos/val/cat/1.jpg"), "cat/1.jpg");
        assert_eq!(short_name("C:\\photos\\cat\\1.jpg"), "cat\\1.jpg");
        assert_eq!([short_name("cat/1.jpg"), short_name("1.jpg")], ["cat/1.jpg", "1.jpg"]);
    }

    #[test]
    fn what_stands_between_backticks_is_code_and_escaped() {
        let shown = with_code("see `a<b` and `c`").into_string();
        assert_eq!(shown, "see <code>a&lt;b</code> and <code>c</code>");
    }
}

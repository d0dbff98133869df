//! What the page shows of a measurement: the surest mistakes, what is mixed up, the figures of each class, the calibration.

use maud::{Markup, html};

use super::chart;
use super::number::{count, percent, percent_or_dash};
use super::page::{scroll, short_name};
use super::{Measured, ShownMistake};
use crate::evaluate::{ClassScore, Evaluation};

/// Classes up to which the whole confusion matrix is shown.
const MAX_MATRIX_CLASSES: usize = 20;

/// Pairs of classes that are listed as mixed up.
const MAX_PAIRS: usize = 12;

/// The sections on a measurement.
pub(super) fn measured(measured: &Measured) -> Markup {
    let evaluation = &measured.evaluation;
    html! {
        (mistakes(measured))
        // Where images bear several labels nothing is taken for something else.
        @if !evaluation.confusion.is_empty() { (mixed_up(evaluation)) }
        (classes(&evaluation.per_class))
        (calibration(evaluation))
    }
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
                    span.taken { "named " b { (mistake.predicted) } }
                    span.sure { (percent(mistake.probability)) " sure" }
                    span.file title=(mistake.image) { bdi { (short_name(&mistake.image)) } }
                }
            }
        }
    }
}

/// The matrix where it fits, and the pairs that are mixed up most.
fn mixed_up(evaluation: &Evaluation) -> Markup {
    let pairs = pairs(evaluation);
    let is_small = evaluation.per_class.len() <= MAX_MATRIX_CLASSES;
    html! {
        h2 { "What it mixes up" }
        @if pairs.is_empty() {
            p { "Nothing: every image was named right." }
        } @else {
            p.hint {
                @if is_small { "In the matrix rows are the true classes and columns what they were taken for, in images. " }
                "The pairs are those with the most images."
            }
        }
        div.side {
            @if is_small { (matrix(evaluation)) }
            @if !pairs.is_empty() { (pair_table(&pairs)) }
        }
    }
}

fn pair_table(pairs: &[Pair<'_>]) -> Markup {
    scroll(
        "Most mixed up classes",
        html! {
            table {
                thead {
                    tr {
                        th scope="col" { "class" }
                        th scope="col" { "taken for" }
                        th.number scope="col" { "images" }
                        th.number scope="col" { "of class" }
                        th.wide aria-hidden="true" {}
                    }
                }
                tbody {
                    @for pair in pairs {
                        tr {
                            th.name scope="row" title=(pair.class) { (pair.class) }
                            td.name title=(pair.predicted) { (pair.predicted) }
                            td.number { (count(pair.num_images)) }
                            td.number { (percent(pair.share)) }
                            td.wide { (bar(pair.share, "wrong")) }
                        }
                    }
                }
            }
        },
    )
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
                thead {
                    tr {
                        td {}
                        @for score in per_class { th scope="col" { span { (score.class) } } }
                    }
                }
                tbody {
                    @for (label, (score, row)) in per_class.iter().zip(confusion).enumerate() {
                        tr {
                            th scope="row" title=(score.class) { (score.class) }
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
                        th.wide aria-hidden="true" {}
                    }
                }
                tbody {
                    @for score in scores {
                        tr {
                            th.name scope="row" title=(score.class) { (score.class) }
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
                    span.key.right {} "right as often as it was sure, " span.key.surplus {} "more often, " span.key.missing {}
                    "less often: there it is surer than it should be. Below: how many images, by the square root."
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

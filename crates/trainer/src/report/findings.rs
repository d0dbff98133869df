//! What the figures say, in sentences: is it good, what does it mix up, are images mislabelled, is it worth training longer.
//!
//! The rules are rough on purpose, and the sentences say no more than the rules know.

use super::history::{History, Point};
use super::number::{count, counted, epoch, percent};
use crate::evaluate::Evaluation;

/// Measurements that a curve needs before anything is read from its shape.
const MIN_MEASUREMENTS: usize = 4;

/// Fewer images of a class than this, and one image more or less is several points.
const FEW_IMAGES: u64 = 20;

/// A mistake that the network was so sure of may be the label's.
const SUSPICIOUS: f64 = 0.9;

/// What is known of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its log.
    pub(super) history: &'a History,
    /// Its best checkpoint, measured.
    pub(super) evaluation: Option<&'a Evaluation>,
}

/// The sentences, the most important first.
pub(super) fn findings(known: Known<'_>) -> Vec<String> {
    let of_evaluation = known.evaluation.map(|evaluation| {
        [accuracy(evaluation), confusion(evaluation), hardest_class(evaluation), mislabelled(evaluation)]
            .into_iter()
            .chain([trust(evaluation), few_images(evaluation)])
    });
    let length = length(known.history);
    of_evaluation.into_iter().flatten().chain([length]).flatten().collect()
}

/// How many are right, how sure that figure is, and what is nothing worth.
fn accuracy(evaluation: &Evaluation) -> Option<String> {
    let num_images = evaluation.num_images;
    if let Some(mean) = evaluation.mean_average_precision {
        return Some(format!(
            "Its mean average precision is {}. The class that it is surest of is one of the labels for {} of {}.",
            percent(mean),
            count((evaluation.top1 * num_images as f64).round() as u64),
            counted(num_images, "image")
        ));
    }
    let right = (evaluation.top1 * num_images as f64).round() as u64;
    let (low, high) = wilson(evaluation.top1, num_images);
    let commonest = evaluation.per_class.iter().map(|score| score.num_images).max()? as f64 / num_images as f64;
    Some(format!(
        "It names {} of {} right. On other images like these expect between {} and {} (95\u{a0}% interval for so many images); \
         always naming the commonest class would give {}.",
        count(right),
        counted(num_images, "image"),
        percent(low),
        percent(high),
        percent(commonest)
    ))
}

/// The interval of a share of so many images that holds the true share 19 times out of 20: E. B. Wilson, JASA 22 (1927), 209.
fn wilson(share: f64, num_images: u64) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = num_images as f64;
    let center = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (center - half, center + half)
}

/// The pair of classes that is mixed up most often, both ways together.
fn confusion(evaluation: &Evaluation) -> Option<String> {
    let Evaluation { confusion, per_class, .. } = evaluation;
    let pairs = (0..confusion.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    let counted_pairs = pairs.map(|(a, b)| (confusion[a][b] + confusion[b][a], a, b));
    let (both, a, b) = counted_pairs.reduce(|most, pair| if pair.0 > most.0 { pair } else { most })?;
    let mistakes = evaluation.num_images - (0..confusion.len()).map(|class| confusion[class][class]).sum::<u64>();
    (both > 0).then(|| {
        format!(
            "It mixes up “{}” and “{}” most often: {} of its {}.",
            per_class[a].class,
            per_class[b].class,
            count(both),
            counted(mistakes, "mistake")
        )
    })
}

fn hardest_class(evaluation: &Evaluation) -> Option<String> {
    let with_images = evaluation.per_class.iter().filter(|score| score.num_images > 0);
    let hardest = with_images.min_by(|a, b| a.f1.unwrap_or(0.0).total_cmp(&b.f1.unwrap_or(0.0)))?;
    let f1 = hardest.f1.unwrap_or(0.0);
    (evaluation.per_class.len() > 2 && f1 < 1.0).then(|| {
        let class = &hardest.class;
        match (hardest.precision, hardest.recall.unwrap_or(0.0)) {
            (None, _) => format!("The hardest class is “{class}”: no image was taken for it."),
            (Some(_), 0.0) => format!("The hardest class is “{class}”: none of its images is recognised."),
            (Some(precision), recall) => format!(
                "The hardest class is “{class}”: {} of its images are recognised, and {} of what is called so is so.",
                percent(recall),
                percent(precision)
            ),
        }
    })
}

fn mislabelled(evaluation: &Evaluation) -> Option<String> {
    let sure = evaluation.surest_mistakes.iter().filter(|mistake| mistake.probability >= SUSPICIOUS).count() as u64;
    let shown = evaluation.surest_mistakes.len() as u64;
    (sure > 0).then(|| {
        let of_them = if sure == shown { counted(sure, "mistake") } else { format!("{sure} of the {shown} shown") };
        format!(
            "It was at least {:.0}\u{a0}% sure of some mistakes ({of_them}): look at these images below, the label may be the one that is \
             wrong.",
            100.0 * SUSPICIOUS
        )
    })
}

/// Whether the probabilities can be believed.
fn trust(evaluation: &Evaluation) -> Option<String> {
    if evaluation.mean_average_precision.is_some() {
        // Its bins hold an answer for each class, and no single one that could be right or wrong.
        return None;
    }
    let sum: f64 = evaluation.calibration.iter().filter_map(|bin| Some(bin.confidence? * bin.num_images as f64)).sum();
    let confidence = sum / evaluation.num_images as f64;
    let surplus = confidence - evaluation.top1;
    // What chance alone makes of a share of so many images, twice.
    let noise = 2.0 * (evaluation.top1 * (1.0 - evaluation.top1) / evaluation.num_images as f64).sqrt();
    let [sure, right] = [confidence, evaluation.top1].map(percent);
    Some(if surplus.abs() <= noise.max(0.02) {
        format!("Its probabilities can be believed: it is {sure} sure on average, and {right} are right.")
    } else if surplus > 0.0 {
        format!("It is surer than it should be: {sure} on average, where {right} are right.")
    } else {
        format!("It is better than it believes: {sure} sure on average, where {right} are right.")
    })
}

fn few_images(evaluation: &Evaluation) -> Option<String> {
    let counts = evaluation.per_class.iter().map(|score| score.num_images);
    let few = counts.clone().filter(|count| *count < FEW_IMAGES).count();
    let least = counts.min()?;
    (few > 0).then(|| {
        let classes = if few == 1 { "One class has".to_string() } else { format!("{few} classes have") };
        format!("{classes} few images to measure on (the smallest {least}): take figures of single classes as rough.")
    })
}

/// Whether a longer run is worth it.
fn length(history: &History) -> Option<String> {
    let total = history.total_epochs?;
    if !history.is_complete() {
        return Some(format!("The run is not complete: epoch {} of {}.", epoch(history.epoch), epoch(total)));
    }
    let curves = history.decisive()?;
    let best = history.best()?;
    if curves.figure.len() < MIN_MEASUREMENTS {
        return None;
    }
    if let Some(lowest) = overfits_since(&curves.loss, &history.train_loss) {
        return Some(format!(
            "The loss on images that it does not train on was lowest at epoch {} and has risen since, while the training loss fell: it \
             learns its images by heart. More images or stronger augmentation (`data.train`) will help more than a longer run.",
            epoch(lowest)
        ));
    }
    let (low, _) = wilson(best.figure, best.num_images);
    let earlier = curves.figure.iter().filter(|point| point.epoch < 0.75 * history.epoch).map(|point| point.value);
    let gained = best.figure - earlier.fold(0.0, f64::max);
    let when = format!("The best result came at epoch {} of {}", epoch(best.epoch), epoch(history.epoch));
    Some(if gained > (best.figure - low) / 2.0 {
        format!(
            "{when}, and the last quarter of the run still brought {:.1} points: a longer run (`train.total`) is worth a try.",
            100.0 * gained
        )
    } else {
        format!("{when}, and the last quarter of the run brought little: a longer run alone is unlikely to help much.")
    })
}

/// The epoch since which the measured loss has risen by a tenth or more while the training loss fell.
fn overfits_since(measured: &[Point], train: &[Point]) -> Option<f64> {
    let lowest = measured.iter().min_by(|a, b| a.value.total_cmp(&b.value))?;
    let last = measured.last()?;
    let train_then = train.iter().rfind(|point| point.epoch <= lowest.epoch)?;
    let train_last = train.last()?;
    let rose = last.value > 1.1 * lowest.value && lowest.epoch < 0.8 * last.epoch;
    (rose && train_last.value < train_then.value).then_some(lowest.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FinishReason;
    use crate::report::history::SplitCurves;

    fn curve(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(index, value)| Point { epoch: (index + 1) as f64, value: *value }).collect()
    }

    fn run(train_loss: &[f64], loss: &[f64], top1: &[f64]) -> History {
        let epochs = loss.len() as f64;
        History {
            train_loss: curve(train_loss),
            splits: vec![SplitCurves { split: "val".into(), loss: curve(loss), figure: curve(top1), num_images: 600 }],
            epoch: epochs,
            total_epochs: Some(epochs),
            finish: Some(FinishReason::Completed),
            ..History::default()
        }
    }

    #[test]
    fn a_loss_that_rises_while_the_other_falls_is_learning_by_heart() {
        let found = length(&run(&[2.0, 1.0, 0.5, 0.2, 0.1], &[1.5, 1.0, 1.2, 1.4, 1.6], &[0.4, 0.6, 0.6, 0.6, 0.61]));
        assert!(found.as_deref().is_some_and(|text| text.contains("lowest at epoch 2")), "{found:?}");
    }

    #[test]
    fn a_run_that_was_still_gaining_is_worth_a_longer_one() {
        let falling = [2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6];
        let gaining = length(&run(&falling, &falling, &[0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7]));
        assert!(gaining.as_deref().is_some_and(|text| text.contains("worth")), "{gaining:?}");
        let settled = length(&run(&falling, &falling, &[0.2, 0.5, 0.6, 0.69, 0.7, 0.7, 0.69, 0.7]));
        assert!(settled.as_deref().is_some_and(|text| text.contains("unlikely")), "{settled:?}");
    }

    #[test]
    fn a_run_that_is_not_complete_is_said_to_be_so() {
        let history = History { finish: None, total_epochs: Some(10.0), ..run(&[1.0], &[1.0], &[0.5]) };
        assert_eq!(length(&history).as_deref(), Some("The run is not complete: epoch 1 of 10."));
    }

    /// The interval is that of statsmodels 0.15, `proportion_confint(523, 600, method="wilson")`.
    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = wilson(523.0 / 600.0, 600);
        assert!((low - 0.842_521).abs() < 1e-5 && (high - 0.896_083).abs() < 1e-5, "{low} {high}");
    }
}

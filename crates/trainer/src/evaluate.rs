//! Evaluation: loss, top-1, top-5, precision and recall of each class, confusion matrix, calibration and the surest mistakes, exact
//! over every image of a split.
//!
//! What is kept while it runs does not grow with the number of images: sums, and the few mistakes that are shown.

use std::sync::Arc;

use anyhow::{Context, bail};
use burn::tensor::{Device, Tensor};
use ghostnet::FoldedGhostNet;
use imageset::source::counted;
use imageset::{Batch, ImageSource, Loader, LoaderConfig, OnCorrupt, Pipeline};
use serde::Serialize;

use crate::batch::{self, Normalization};
use crate::calibration::{Bin, Calibration};
use crate::multi_label::MultiLabelTally;
use crate::weights::ModelCard;

/// Scores of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// Name of the class.
    pub class: String,
    /// Images of it.
    pub num_images: u64,
    /// Share of them that were recognised; absent if there are none.
    pub top1: Option<f64>,
    /// Share of the images predicted to be of it that are; absent if none was predicted.
    pub precision: Option<f64>,
    /// The same as `top1`, by the name that goes with precision.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; absent if there are no images of it and none was predicted.
    pub f1: Option<f64>,
    /// How well the scores rank its images before all others; only where images bear several labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
}

/// An image that was taken for another class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// Name of the image.
    pub image: String,
    /// Its class.
    pub class: String,
    /// What it was taken for.
    pub predicted: String,
    /// Probability of the predicted class, 0 to 1.
    pub probability: f64,
    /// Place of the image in its split.
    #[serde(skip)]
    pub index: usize,
}

/// Names of damaged images that are kept for a message.
pub const MAX_NAMES: usize = 20;

/// Mistakes that are kept: about as many as a person looks through.
pub const MAX_MISTAKES: usize = 20;

/// Whether an image is also looked at in other ways, and the probabilities averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TestTimeAugmentation {
    /// Each image once
    #[default]
    None,
    /// Each image and its mirror image; the mean of their probabilities counts
    Flip,
}

/// A mistake before its names are looked up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Miss {
    index: usize,
    label: usize,
    predicted: usize,
    probability: f64,
}

/// Sums over the images seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    loss: f64,
    top5: u64,
    /// By true class, then predicted class.
    confusion: Vec<Vec<u64>>,
    calibration: Calibration,
    /// The surest first; at most [`MAX_MISTAKES`].
    misses: Vec<Miss>,
    /// Whether a probability is the sigmoid of its score rather than a share of all.
    independent_classes: bool,
}

/// Classes among which the right one counts for top-5; fewer classes than that make it 1.
pub(crate) const TOP_K: usize = 5;

impl Tally {
    /// Nothing seen.
    pub fn new(num_classes: usize) -> Self {
        Self {
            loss: 0.0,
            top5: 0,
            confusion: vec![vec![0; num_classes]; num_classes],
            calibration: Calibration::default(),
            misses: Vec::with_capacity(MAX_MISTAKES + 1),
            independent_classes: false,
        }
    }

    /// Adds image number `index` by its scores, which must be finite. Classes with equal scores rank in their order.
    pub fn add(&mut self, index: usize, logits: &[f32], label: usize) {
        let score = logits[label];
        let is_ahead = |(class, other): (usize, &f32)| *other > score || (*other == score && class < label);
        let rank = logits.iter().enumerate().filter(|&entry| is_ahead(entry)).count();
        self.top5 += u64::from(rank < TOP_K);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let predicted = logits.iter().position(|score| *score == max).unwrap_or(label);
        self.confusion[label][predicted] += 1;
        // In f64 on the host, so that the figure does not depend on how the images were batched.
        let sum: f64 = logits.iter().map(|score| f64::from(score - max).exp()).sum();
        self.loss += sum.ln() - f64::from(logits[label] - max);
        let probability = if self.independent_classes { 1.0 / (1.0 + (-f64::from(max)).exp()) } else { 1.0 / sum };
        self.calibration.add(probability, predicted == label);
        if predicted != label {
            let miss = Miss { index, label, predicted, probability };
            surest(&mut self.misses, miss, |miss| miss.probability);
        }
    }

    /// Images seen.
    pub fn num_images(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }
}

/// Adds a mistake to a list of the surest, the surest first, if it is among them; of equally sure ones the first.
pub(crate) fn surest<T>(mistakes: &mut Vec<T>, mistake: T, probability: fn(&T) -> f64) {
    let place = mistakes.partition_point(|other| probability(other) >= probability(&mistake));
    if place < MAX_MISTAKES {
        mistakes.insert(place, mistake);
        mistakes.truncate(MAX_MISTAKES);
    }
}

/// The figures of a split.
///
/// Where images bear several labels, each class is a question of its own: `loss` is the mean binary cross-entropy; a best score, or
/// one of the best five, counts if the image bears that label; precision and recall are those of the classes with a probability
/// above one half; calibration is that of all answers; and there is no confusion matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images evaluated.
    pub num_images: u64,
    /// Damaged images left out.
    pub num_skipped: u64,
    /// The first of them by name, with the reason.
    pub skipped: Vec<String>,
    /// Mean cross-entropy with hard targets.
    pub loss: f64,
    /// Share of images whose class has the highest score.
    pub top1: f64,
    /// Share of images whose class is among the five highest scores.
    pub top5: f64,
    /// Mean over the classes of their average precision; only where images bear several labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_average_precision: Option<f64>,
    /// Mean precision of the classes that have images; a class that was never predicted counts as 0.
    pub macro_precision: f64,
    /// Mean recall of the classes that have images.
    pub macro_recall: f64,
    /// Mean F1 of the classes that have images.
    pub macro_f1: f64,
    /// Expected calibration error, 0 to 1, over 15 bins (arXiv:1706.04599).
    pub calibration_error: f64,
    /// Confidence and accuracy by confidence.
    pub calibration: Vec<Bin>,
    /// By class.
    pub per_class: Vec<ClassScore>,
    /// Images by true class, then predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// The mistakes that the network was surest of, surest first.
    pub surest_mistakes: Vec<Mistake>,
}

/// Precision, recall and F1 of each class of a confusion matrix.
fn class_scores(confusion: &[Vec<u64>], classes: &[String]) -> Vec<ClassScore> {
    let share = |count: u64, of: u64| (of > 0).then(|| count as f64 / of as f64);
    let score = |(index, class): (usize, &String)| {
        let right = confusion[index][index];
        let num_images: u64 = confusion[index].iter().sum();
        let num_predicted: u64 = confusion.iter().map(|row| row[index]).sum();
        let recall = share(right, num_images);
        ClassScore {
            class: class.clone(),
            num_images,
            top1: recall,
            precision: share(right, num_predicted),
            recall,
            f1: share(2 * right, num_images + num_predicted),
            average_precision: None,
        }
    };
    classes.iter().enumerate().map(score).collect()
}

/// The mean of a figure over the classes that have images; 0 where it is absent.
pub(crate) fn macro_mean(per_class: &[ClassScore], value: fn(&ClassScore) -> Option<f64>) -> f64 {
    let present: Vec<&ClassScore> = per_class.iter().filter(|score| score.num_images > 0).collect();
    present.iter().map(|score| value(score).unwrap_or(0.0)).sum::<f64>() / present.len().max(1) as f64
}

impl Evaluation {
    /// The figure by which checkpoints are compared, 0 to 1: top-1, or the mean average precision where images bear several labels.
    pub fn decisive(&self) -> f64 {
        self.mean_average_precision.unwrap_or(self.top1)
    }

    /// Figures of a tally that has seen at least one image; `name` tells what an image is called.
    fn new(tally: Tally, classes: &[String], name: &dyn Fn(usize) -> String) -> Self {
        let num_images = tally.num_images();
        let share = |count: u64| count as f64 / num_images as f64;
        let correct = (0..classes.len()).map(|class| tally.confusion[class][class]).sum();
        let per_class = class_scores(&tally.confusion, classes);
        let mistake = |miss: &Miss| Mistake {
            image: name(miss.index),
            class: classes[miss.label].clone(),
            predicted: classes[miss.predicted].clone(),
            probability: miss.probability,
            index: miss.index,
        };
        Self {
            num_images,
            num_skipped: 0,
            skipped: Vec::new(),
            loss: tally.loss / num_images as f64,
            top1: share(correct),
            top5: share(tally.top5),
            mean_average_precision: None,
            macro_precision: macro_mean(&per_class, |score| score.precision),
            macro_recall: macro_mean(&per_class, |score| score.recall),
            macro_f1: macro_mean(&per_class, |score| score.f1),
            calibration_error: tally.calibration.error(),
            calibration: tally.calibration.bins(),
            surest_mistakes: tally.misses.iter().map(mistake).collect(),
            per_class,
            confusion: tally.confusion,
        }
    }
}

/// A network with one output cannot be measured on images that have one class each.
#[derive(Debug, thiserror::Error)]
#[error(
    "the network has one output, `{class}`, whose probability is the sigmoid of its logit; accuracy is defined only for two or more \
     classes\n\n\
     hint: `ghostnet predict --format json` gives the probability for each image"
)]
pub struct OneOutput {
    /// What the output is called.
    pub class: String,
}

/// Refuses to measure a network with one output, unless images bear any number of labels: then each image is a yes or a no.
pub fn refuse_one_output(classes: &[String], source: &dyn ImageSource) -> Result<(), OneOutput> {
    match classes {
        [class] if !source.is_multi_label() => Err(OneOutput { class: class.clone() }),
        _ => Ok(()),
    }
}

/// A loader that hands a split to a model as its card asks: in order, nothing dropped.
pub fn loader(
    source: Arc<dyn ImageSource>,
    card: &ModelCard,
    batch_size: usize,
    on_corrupt: OnCorrupt,
) -> anyhow::Result<Loader> {
    let config = LoaderConfig {
        batch_size,
        workers: std::thread::available_parallelism().map_or(1, usize::from).min(8),
        on_corrupt,
        ..LoaderConfig::default()
    };
    let pipeline = Pipeline::new(&card.transforms, card.image_size).context("the model's preprocessing")?;
    Ok(Loader::new(source, pipeline, config)?)
}

/// A split ready to be evaluated.
pub struct Evaluator<'a> {
    /// Unshuffled, nothing dropped.
    pub loader: &'a Loader,
    /// Normalisation of the bytes.
    pub normalization: Normalization,
    /// Class names in the order of the logits.
    pub classes: &'a [String],
    /// Whether a probability is the sigmoid of its score rather than a share of all.
    pub independent_classes: bool,
    /// Where to compute.
    pub device: &'a Device,
}

impl Evaluator<'_> {
    /// Evaluates a network. `None` if `stop` said so between two batches.
    pub fn run(&self, model: &FoldedGhostNet, stop: &dyn Fn() -> bool) -> anyhow::Result<Option<Evaluation>> {
        self.run_augmented(model, TestTimeAugmentation::None, stop)
    }

    /// Evaluates a network that sees each image in one or several ways. `None` if `stop` said so between two batches.
    pub fn run_augmented(
        &self,
        model: &FoldedGhostNet,
        augmentation: TestTimeAugmentation,
        stop: &dyn Fn() -> bool,
    ) -> anyhow::Result<Option<Evaluation>> {
        if self.loader.source().is_multi_label() && !self.independent_classes {
            bail!(
                "the images have several labels, and the network was trained to choose one class\n\n\
                 hint: train it on such images"
            );
        }
        refuse_one_output(self.classes, self.loader.source())?;
        let mut tally = Tally { independent_classes: self.independent_classes, ..Tally::new(self.classes.len()) };
        let mut multi_label = MultiLabelTally::default();
        let mut skipped: Vec<String> = Vec::new();
        for batch in self.loader.epoch(0, 0) {
            if stop() {
                return Ok(None);
            }
            let batch = batch?;
            skipped.extend(batch.skipped.iter().map(|(name, reason)| format!("{name}: {reason}")));
            if batch.labels.is_empty() {
                continue;
            }
            let (indices, labels, label_sets) = (batch.indices.clone(), batch.labels.clone(), batch.label_sets.clone());
            let logits = self.logits(model, augmentation, batch);
            if logits.iter().any(|score| !score.is_finite()) {
                bail!("the network's scores are not finite");
            }
            let rows = logits.chunks_exact(self.classes.len()).zip(indices);
            match label_sets {
                None => rows.zip(labels).for_each(|((row, index), label)| tally.add(index, row, label)),
                Some(sets) => rows.zip(sets).for_each(|((row, index), labels)| multi_label.add(index, row, &labels)),
            }
        }
        if tally.num_images() + multi_label.num_images() == 0 {
            bail!("none of {} can be decoded; the first is `{}`", counted(skipped.len(), "image"), skipped[0]);
        }
        let num_skipped = skipped.len() as u64;
        skipped.truncate(MAX_NAMES);
        let source = self.loader.source();
        let name = |index| source.name(index);
        let evaluation = if source.is_multi_label() {
            multi_label.evaluation(self.classes, &name)
        } else {
            Evaluation::new(tally, self.classes, &name)
        };
        Ok(Some(Evaluation { num_skipped, skipped, ..evaluation }))
    }

    /// Scores of a batch, row by row.
    fn logits(&self, model: &FoldedGhostNet, augmentation: TestTimeAugmentation, batch: Batch) -> Vec<f32> {
        let scores = |images: Tensor<4>| -> Vec<f32> {
            model.forward(images).into_data().iter::<f32>().collect() // waits for the device
        };
        let images = batch::images(batch, &self.normalization, self.device);
        match augmentation {
            TestTimeAugmentation::None => scores(images),
            TestTimeAugmentation::Flip => {
                let mirrored = scores(images.clone().flip([3])); // along the width
                let blend = if self.independent_classes { blend_independent } else { blend };
                let plain = scores(images);
                let [plain, mirrored] = [&plain, &mirrored].map(|scores| scores.chunks_exact(self.classes.len()));
                plain.zip(mirrored).flat_map(blend).collect()
            }
        }
    }
}

/// The mean of the probabilities of classes that are no alternatives, as scores again: the logarithm of their odds.
fn blend_independent((one, other): (&[f32], &[f32])) -> Vec<f32> {
    let sigmoid = |score: f32| 1.0 / (1.0 + (-f64::from(score)).exp());
    let odds = |probability: f64| (probability / (1.0 - probability)).clamp(f64::MIN_POSITIVE, f64::MAX);
    one.iter().zip(other).map(|(&one, &other)| odds(0.5 * (sigmoid(one) + sigmoid(other))).ln() as f32).collect()
}

/// The mean of the probabilities that two rows of scores stand for, as scores again: its logarithm.
fn blend((one, other): (&[f32], &[f32])) -> Vec<f32> {
    let [one, other] = [one, other].map(|row| {
        let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let exps: Vec<f64> = row.iter().map(|score| (f64::from(*score) - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(move |exp| exp / sum)
    });
    // A probability that is too small for a number is the smallest that is none of zero, whose logarithm is finite.
    one.zip(other).map(|(one, other)| (0.5 * (one + other)).max(f64::MIN_POSITIVE).ln() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(tally: Tally) -> Evaluation {
        let classes: Vec<String> = (0..tally.confusion.len()).map(|class| format!("class {class}")).collect();
        Evaluation::new(tally, &classes, &|index| format!("{index}.png"))
    }

    #[test]
    fn figures_are_those_of_a_hand_count() {
        let mut tally = Tally::new(3);
        tally.add(0, &[2.0, 1.0, 0.0], 0);
        tally.add(1, &[2.0, 1.0, 0.0], 1);
        tally.add(2, &[0.0, 0.0, 3.0], 2);
        let found = figures(tally);
        assert_eq!(found.num_images, 3);
        assert!((found.top1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.top5, 1.0, "with fewer than five classes every image is among the best five");
        assert_eq!(found.confusion, [[1, 0, 0], [1, 0, 0], [0, 0, 1]]);
        assert_eq!(found.per_class[1].top1, Some(0.0));
        // −log softmax by hand: 0.407606, 1.407606, 0.094923.
        assert!((found.loss - (0.407_606 + 1.407_606 + 0.094_923) / 3.0).abs() < 1e-5, "{}", found.loss);
    }

    #[test]
    fn the_fifth_best_counts_and_the_sixth_does_not() {
        let logits = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let top5 = |label| {
            let mut tally = Tally::new(6);
            tally.add(0, &logits, label);
            figures(tally).top5
        };
        assert_eq!((top5(4), top5(5)), (1.0, 0.0));
    }

    #[test]
    fn equal_scores_do_not_count_as_five_right_answers() {
        let mut tally = Tally::new(10);
        for label in 0..10 {
            tally.add(label, &[0.0; 10], label);
        }
        let found = figures(tally);
        assert_eq!((found.top1, found.top5), (0.1, 0.5));
    }

    #[test]
    fn precision_recall_and_f1_are_those_of_a_hand_count() {
        // Rows are true classes: the second is never predicted, the fourth has no images.
        let confusion = vec![vec![3, 0, 1, 0], vec![2, 0, 0, 0], vec![0, 0, 4, 1], vec![0; 4]];
        let tally = Tally { confusion, ..Tally::new(4) };
        let found = figures(tally);
        let of = |value: fn(&ClassScore) -> Option<f64>| found.per_class.iter().map(value).collect::<Vec<_>>();
        assert_eq!(of(|score| score.precision), [Some(0.6), None, Some(0.8), Some(0.0)]);
        assert_eq!(of(|score| score.recall), [Some(0.75), Some(0.0), Some(0.8), None]);
        assert_eq!(of(|score| score.f1), [Some(6.0 / 9.0), Some(0.0), Some(0.8), Some(0.0)]);
        assert!((found.macro_precision - (0.6 + 0.0 + 0.8) / 3.0).abs() < 1e-12);
        assert!((found.macro_recall - (0.75 + 0.0 + 0.8) / 3.0).abs() < 1e-12);
        assert!((found.macro_f1 - (6.0 / 9.0 + 0.0 + 0.8) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_surest_mistakes_are_kept_surest_first_and_no_more_than_are_shown() {
        let mut tally = Tally::new(2);
        for index in 0..50_u16 {
            tally.add(index.into(), &[f32::from(index) / 10.0, 0.0], 1);
        }
        tally.add(50, &[9.0, 0.0], 0);
        let found = figures(tally).surest_mistakes;
        let indices: Vec<usize> = found.iter().map(|mistake| mistake.index).collect();
        assert_eq!(indices, (30..50).rev().collect::<Vec<_>>());
        let probability = 1.0 / (1.0 + (-4.9_f64).exp());
        assert!((found[0].probability - probability).abs() < 1e-6);
        assert_eq!((&*found[0].image, &*found[0].class, &*found[0].predicted), ("49.png", "class 1", "class 0"));
    }

    #[test]
    fn of_equally_sure_mistakes_the_first_is_kept() {
        let mut tally = Tally::new(2);
        for index in 0..30 {
            tally.add(index, &[1.0, 0.0], 1);
        }
        let indices: Vec<usize> = figures(tally).surest_mistakes.iter().map(|mistake| mistake.index).collect();
        assert_eq!(indices, (0..MAX_MISTAKES).collect::<Vec<_>>());
    }

    #[test]
    fn two_views_count_by_the_mean_of_their_probabilities() {
        // 2:1 and 1:3 are probabilities of 2/3 and 1/4 for the first class.
        let blended = blend((&[2_f32.ln(), 0.0], &[0.0, 3_f32.ln()]));
        let expected = (2.0 / 3.0 + 0.25) / 2.0;
        assert!((f64::from(blended[0]).exp() - expected).abs() < 1e-6, "{blended:?}");
        assert!((f64::from(blended[1]).exp() - (1.0 - expected)).abs() < 1e-6, "{blended:?}");
        assert!(blend((&[0.0, 3000.0], &[0.0, 3000.0])).iter().all(|score| score.is_finite()));
    }
}

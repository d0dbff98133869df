//! Evaluation: loss, top-1, top-5, accuracy of each class and confusion matrix, exact over every image of a split.

use anyhow::bail;
use burn::tensor::Device;
use ghostnet::FoldedGhostNet;
use imageset::Loader;
use serde::Serialize;

use crate::batch::{self, Normalization};

/// Scores of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// Name of the class.
    pub class: String,
    /// Images of it.
    pub num_images: u64,
    /// Share of them that were recognised; absent if there are none.
    pub top1: Option<f64>,
}

/// Names of damaged images that are kept for a message.
pub const MAX_NAMES: usize = 20;

/// Sums over the images seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    loss: f64,
    top5: u64,
    /// By true class, then predicted class.
    confusion: Vec<Vec<u64>>,
}

/// Classes among which the right one counts for top-5; fewer classes than that make it 1.
const TOP_K: usize = 5;

impl Tally {
    /// Nothing seen.
    pub fn new(num_classes: usize) -> Self {
        Self { loss: 0.0, top5: 0, confusion: vec![vec![0; num_classes]; num_classes] }
    }

    /// Adds one image by its scores, which must be finite. Classes with equal scores rank in their order.
    pub fn add(&mut self, logits: &[f32], label: usize) {
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
    }

    /// Images seen.
    pub fn num_images(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }
}

/// The figures of a split.
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
    /// By class.
    pub per_class: Vec<ClassScore>,
    /// Images by true class, then predicted class.
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Figures of a tally that has seen at least one image.
    fn new(tally: Tally, classes: &[String]) -> Self {
        let num_images = tally.num_images();
        let share = |count: u64| count as f64 / num_images as f64;
        let correct = (0..classes.len()).map(|class| tally.confusion[class][class]).sum();
        let per_class = classes
            .iter()
            .zip(&tally.confusion)
            .enumerate()
            .map(|(index, (class, row))| {
                let num_images: u64 = row.iter().sum();
                let top1 = (num_images > 0).then(|| row[index] as f64 / num_images as f64);
                ClassScore { class: class.clone(), num_images, top1 }
            })
            .collect();
        Self {
            num_images,
            num_skipped: 0,
            skipped: Vec::new(),
            loss: tally.loss / num_images as f64,
            top1: share(correct),
            top5: share(tally.top5),
            per_class,
            confusion: tally.confusion,
        }
    }
}

/// A split ready to be evaluated.
pub struct Evaluator<'a> {
    /// Unshuffled, nothing dropped.
    pub loader: &'a Loader,
    /// Normalisation of the bytes.
    pub normalization: Normalization,
    /// Class names in the order of the logits.
    pub classes: &'a [String],
    /// Where to compute.
    pub device: &'a Device,
}

impl Evaluator<'_> {
    /// Evaluates a network. `None` if `stop` said so between two batches.
    pub fn run(&self, model: &FoldedGhostNet, stop: &dyn Fn() -> bool) -> anyhow::Result<Option<Evaluation>> {
        let mut tally = Tally::new(self.classes.len());
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
            let labels = batch.labels.clone();
            let logits = model.forward(batch::images(batch, &self.normalization, self.device));
            let logits: Vec<f32> = logits.into_data().iter::<f32>().collect(); // waits for the device
            if logits.iter().any(|score| !score.is_finite()) {
                bail!("the network's scores are not finite");
            }
            for (row, label) in logits.chunks_exact(self.classes.len()).zip(labels) {
                tally.add(row, label);
            }
        }
        if tally.num_images() == 0 {
            bail!("all {} images are damaged", skipped.len());
        }
        let num_skipped = skipped.len() as u64;
        skipped.truncate(MAX_NAMES);
        Ok(Some(Evaluation { num_skipped, skipped, ..Evaluation::new(tally, self.classes) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn figures_are_those_of_a_hand_count() {
        let mut tally = Tally::new(3);
        tally.add(&[2.0, 1.0, 0.0], 0);
        tally.add(&[2.0, 1.0, 0.0], 1);
        tally.add(&[0.0, 0.0, 3.0], 2);
        let found = Evaluation::new(tally, &names(3));
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
            tally.add(&logits, label);
            Evaluation::new(tally, &names(6)).top5
        };
        assert_eq!((top5(4), top5(5)), (1.0, 0.0));
    }

    #[test]
    fn equal_scores_do_not_count_as_five_right_answers() {
        let mut tally = Tally::new(10);
        for label in 0..10 {
            tally.add(&[0.0; 10], label);
        }
        let found = Evaluation::new(tally, &names(10));
        assert_eq!((found.top1, found.top5), (0.1, 0.5));
    }
}

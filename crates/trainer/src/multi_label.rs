//! Evaluation where an image may bear several labels: each class is a question of its own, answered by the sigmoid of its score.

use crate::average_precision::{average_precision, mean_average_precision};
use crate::calibration::Calibration;
use crate::evaluate::{ClassScore, Evaluation, Mistake, TOP_K, macro_mean, surest};

/// What was seen so far. It keeps all scores: to rank the images of a class, all of them must be there.
#[derive(Debug, Clone, Default)]
pub struct MultiLabelTally {
    loss: f64,
    top1: u64,
    top5: u64,
    /// `[images, num_classes]`
    scores: Vec<f32>,
    label_sets: Vec<Vec<usize>>,
    /// Places in the split.
    indices: Vec<usize>,
    calibration: Calibration,
    mistakes: Vec<Answer>,
}

/// A wrong answer, to be named later.
#[derive(Debug, Clone)]
struct Answer {
    /// Place among the images that were added.
    image: usize,
    class: usize,
    probability: f64,
}

/// `log(1 + exp(x))` in a form that no `x` makes overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl MultiLabelTally {
    /// Adds image number `index` by its scores, which must be finite, and the labels that it bears.
    pub fn add(&mut self, index: usize, scores: &[f32], labels: &[usize]) {
        let image = self.label_sets.len();
        let mut ranked: Vec<usize> = (0..scores.len()).collect();
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        self.top1 += u64::from(ranked.iter().take(1).any(|class| labels.contains(class)));
        self.top5 += u64::from(ranked.iter().take(TOP_K).any(|class| labels.contains(class)));
        let mut loss = 0.0;
        for (class, &score) in scores.iter().enumerate() {
            let (score, bears) = (f64::from(score), labels.contains(&class));
            // −log of the probability of the right answer.
            loss += softplus(if bears { -score } else { score });
            let (is_right, confidence) = ((score > 0.0) == bears, (-softplus(-score.abs())).exp());
            self.calibration.add(confidence, is_right);
            if !is_right {
                surest(&mut self.mistakes, Answer { image, class, probability: confidence }, |answer| {
                    answer.probability
                });
            }
        }
        self.loss += loss / scores.len() as f64;
        self.scores.extend_from_slice(scores);
        self.label_sets.push(labels.to_vec());
        self.indices.push(index);
    }

    /// Images seen.
    pub fn num_images(&self) -> u64 {
        self.label_sets.len() as u64
    }

    /// The figures of a tally that has seen at least one image; `name` tells what an image is called.
    pub fn evaluation(&self, classes: &[String], name: &dyn Fn(usize) -> String) -> Evaluation {
        let num_images = self.num_images();
        let share = |count: u64| count as f64 / num_images as f64;
        let per_class: Vec<ClassScore> =
            classes.iter().enumerate().map(|(class, name)| self.class_score(class, name, classes.len())).collect();
        let named = |labels: &[usize]| match labels {
            [] => "no class".to_string(),
            _ => labels.iter().map(|&label| classes[label].as_str()).collect::<Vec<_>>().join(", "),
        };
        let mistake = |answer: &Answer| {
            let labels = &self.label_sets[answer.image];
            let class = &classes[answer.class];
            let index = self.indices[answer.image];
            Mistake {
                image: name(index),
                class: named(labels),
                predicted: if labels.contains(&answer.class) { format!("not {class}") } else { class.clone() },
                probability: answer.probability,
                index,
            }
        };
        Evaluation {
            num_images,
            num_skipped: 0,
            skipped: Vec::new(),
            loss: self.loss / num_images as f64,
            top1: share(self.top1),
            top5: share(self.top5),
            mean_average_precision: mean_average_precision(&self.scores, &self.label_sets, classes.len()),
            macro_precision: macro_mean(&per_class, |score| score.precision),
            macro_recall: macro_mean(&per_class, |score| score.recall),
            macro_f1: macro_mean(&per_class, |score| score.f1),
            calibration_error: self.calibration.error(),
            calibration: self.calibration.bins(),
            surest_mistakes: self.mistakes.iter().map(mistake).collect(),
            per_class,
            confusion: Vec::new(),
        }
    }

    fn class_score(&self, class: usize, name: &str, num_classes: usize) -> ClassScore {
        let scored: Vec<(f32, bool)> = self
            .scores
            .chunks_exact(num_classes)
            .zip(&self.label_sets)
            .map(|(scores, labels)| (scores[class], labels.contains(&class)))
            .collect();
        let count =
            |is_counted: fn(&(f32, bool)) -> bool| scored.iter().filter(|image| is_counted(image)).count() as u64;
        let num_images = count(|(_, bears)| *bears);
        let num_predicted = count(|(score, _)| *score > 0.0);
        let right = count(|(score, bears)| *bears && *score > 0.0);
        let share = |count: u64, of: u64| (of > 0).then(|| count as f64 / of as f64);
        let recall = share(right, num_images);
        ClassScore {
            class: name.to_string(),
            num_images,
            top1: recall,
            precision: share(right, num_predicted),
            recall,
            f1: share(2 * right, num_images + num_predicted),
            average_precision: average_precision(&scored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_a_hand_count() {
        let classes = ["cat", "dog", "snow"].map(str::to_string);
        let mut tally = MultiLabelTally::default();
        tally.add(0, &[2.0, -1.0, 0.5], &[0, 2]);
        tally.add(1, &[-3.0, 1.0, 0.5], &[1]);
        tally.add(2, &[1.0, -2.0, -2.0], &[]);
        let found = tally.evaluation(&classes, &|index| format!("{index}.jpg"));
        assert_eq!(found.num_images, 3);
        assert!((found.top1 - 2.0 / 3.0).abs() < 1e-12, "an image without labels has no right answer");
        // Cat: found at 2.0 and, wrongly, at 1.0. Snow: found at 0.5, and as high where there is none.
        let scores = |class: usize| (found.per_class[class].precision, found.per_class[class].recall);
        assert_eq!(scores(0), (Some(0.5), Some(1.0)));
        assert_eq!(scores(1), (Some(1.0), Some(1.0)));
        assert_eq!(scores(2), (Some(0.5), Some(1.0)));
        assert_eq!(found.per_class[2].average_precision, Some(0.5));
        assert!((found.mean_average_precision.expect("labels") - (1.0 + 1.0 + 0.5) / 3.0).abs() < 1e-12);
        // The mean of the nine `log(1 + exp(±score))`, by hand.
        assert!((found.loss - 0.424_145_602).abs() < 1e-9, "{}", found.loss);
        let mistake = &found.surest_mistakes[0];
        assert_eq!(
            (mistake.image.as_str(), mistake.class.as_str(), mistake.predicted.as_str()),
            ("2.jpg", "no class", "cat")
        );
        assert!((mistake.probability - 0.731_058_578).abs() < 1e-6);
        assert!(found.confusion.is_empty());
    }
}

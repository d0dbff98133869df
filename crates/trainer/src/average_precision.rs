//! Average precision: how well the scores of a class rank its images before all others. The figure for images that bear several
//! labels, where no class is the one right answer.

/// The average precision of one class: the sum over the distinct scores, highest first, of (Rₙ − Rₙ₋₁) · Pₙ, with the recall R and
/// the precision P of the images whose score is at least the n-th (scikit-learn's `average_precision_score`).
///
/// Images with equal scores enter together, so their order does not matter. `None` if no image bears the label.
pub fn average_precision(scored: &[(f32, bool)]) -> Option<f64> {
    let num_positives = scored.iter().filter(|(_, bears)| *bears).count();
    if num_positives == 0 {
        return None;
    }
    let mut ranked = scored.to_vec();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut seen, mut found) = (0.0, 0, 0);
    for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
        let more = equal.iter().filter(|(_, bears)| *bears).count();
        seen += equal.len();
        found += more;
        let precision = found as f64 / seen as f64;
        sum += precision * more as f64 / num_positives as f64;
    }
    Some(sum)
}

/// The mean over the classes that some image bears of their [average precision](average_precision); `None` if no image bears any.
///
/// # Shapes
/// - `scores`: `[images, num_classes]`, row by row
/// - `label_sets`: `[images]`, the labels of each
///
/// # Panics
///
/// If the scores do not make a row for each image.
pub fn mean_average_precision(scores: &[f32], label_sets: &[Vec<usize>], num_classes: usize) -> Option<f64> {
    assert_eq!(scores.len(), label_sets.len() * num_classes, "one row of scores an image");
    let of_class = |class: usize| {
        let scored: Vec<(f32, bool)> = label_sets
            .iter()
            .enumerate()
            .map(|(image, labels)| (scores[image * num_classes + class], labels.contains(&class)))
            .collect();
        average_precision(&scored)
    };
    let found: Vec<f64> = (0..num_classes).filter_map(of_class).collect();
    (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f32], bears: &[bool]) -> Option<f64> {
        let scored: Vec<_> = scores.iter().copied().zip(bears.iter().copied()).collect();
        average_precision(&scored)
    }

    /// The first row is the example in scikit-learn's documentation; all are what `sklearn.metrics.average_precision_score` 1.9
    /// returns.
    #[test]
    fn average_precision_is_that_of_scikit_learn() {
        for (scores, bears, expected) in [
            (&[0.1, 0.4, 0.35, 0.8][..], &[false, false, true, true][..], 0.833_333_333_333),
            (&[0.5, 0.5, 0.5, 0.5], &[true, false, false, false], 0.25),
            (&[0.9, 0.5, 0.5, 0.1], &[false, true, false, true], 0.416_666_666_667),
            (&[3.0, 2.0, 1.0, -1.0, -2.0, -2.0], &[true, false, true, true, false, true], 0.770_833_333_333),
        ] {
            let found = of(scores, bears).expect("some image bears the label");
            assert!((found - expected).abs() < 1e-9, "{scores:?}: {found}");
        }
    }

    #[test]
    fn a_perfect_ranking_has_precision_one_and_no_label_has_none() {
        assert_eq!(of(&[3.0, 2.0, 1.0], &[true, true, false]), Some(1.0));
        assert_eq!(of(&[3.0, 2.0], &[false, false]), None);
    }

    #[test]
    fn the_mean_leaves_out_classes_that_no_image_bears() {
        // Class 0 is ranked perfectly, class 1 the wrong way round, class 2 is nobody's.
        let scores = [0.9, 0.1, 0.5, 0.2, 0.8, 0.5];
        let labels = [vec![0, 1], vec![]];
        assert_eq!(mean_average_precision(&scores, &labels, 3), Some(0.75));
        assert_eq!(mean_average_precision(&[], &[], 3), None);
    }
}

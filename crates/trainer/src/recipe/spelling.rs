//! The nearest of the known names to one that is not known.

/// The name that was most likely meant, if any is close enough to be worth saying.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: `magnitud` is a slip, `lr` for `learning_rate` is another word.
    let limit = written.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// The number of letters to insert, remove or replace, or of neighbours to swap (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // `rows[i][j]`: from the first i letters of a to the first j of b.
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["learning_rate", "momentum", "kind"];
        assert_eq!(nearest("learnig_rate", known), Some("learning_rate"));
        assert_eq!(nearest("lerning-rate", known), Some("learning_rate"));
        assert_eq!(nearest("sdg", ["adamw", "sgd"]), Some("sgd"));
        assert_eq!(nearest("lr", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn the_distance_counts_letters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("setps", "steps"), 1);
        assert_eq!(distance("größe", "grösse"), 2);
    }
}

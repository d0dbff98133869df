//! Taking a validation part from a data set that has none.
//!
//! Within each class the images are ordered by a hash of (seed, class name, image key) and the first ones are taken. So every
//! class keeps its share, and adding, removing or renumbering images moves few of the others between the parts: the hash of an
//! image depends on nothing but its own key.

use crate::source::shortened;

/// Divides the images of one class. `keys` are names that stay the same wherever the data set lies; returned are the
/// positions in `keys`, in ascending order, first those to train on, then those to validate on.
///
/// Of `n` images `n * fraction`, rounded, are for validation: at least one if there are two images and the fraction is not 0,
/// and never all.
pub(crate) fn split_class(class: &str, keys: &[&str], fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let num_val = if fraction == 0.0 || keys.len() < 2 {
        0
    } else {
        ((keys.len() as f64 * fraction).round() as usize).clamp(1, keys.len() - 1)
    };
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_cached_key(|&position| (key_hash(class, keys[position], seed), keys[position]));
    let (val, train) = order.split_at_mut(num_val);
    val.sort_unstable();
    train.sort_unstable();
    (train.to_vec(), val.to_vec())
}

fn key_hash(class: &str, key: &str, seed: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("imageset 2026 validation split");
    hasher.update(&seed.to_le_bytes());
    // The length keeps (`ab`, `c`) and (`a`, `bc`) apart.
    hasher.update(&(class.len() as u64).to_le_bytes());
    hasher.update(class.as_bytes());
    hasher.update(key.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What to say about classes of which nothing can be held back.
pub(crate) fn single_image_warning(classes: &[String]) -> Option<String> {
    match classes {
        [] => None,
        [class] => Some(format!(
            "the class `{class}` holds a single image: it is for training, and none is left for validation"
        )),
        classes => Some(format!(
            "{} classes hold a single image each: it is for training, and none is left for validation: {}",
            classes.len(),
            shortened(classes)
        )),
    }
}

/// The rule in words, for a data set's description.
pub(crate) fn split_rule(fraction: f64, seed: u64) -> String {
    if fraction == 0.0 {
        "all for training".to_owned()
    } else {
        format!("{fraction} of each class for validation, seed {seed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|i| format!("{i:04}.jpg")).collect()
    }

    fn val_names(names: &[String], fraction: f64, seed: u64) -> Vec<&str> {
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let (train, val) = split_class("cat", &keys, fraction, seed);
        assert_eq!(train.len() + val.len(), keys.len());
        val.into_iter().map(|position| keys[position]).collect()
    }

    #[test]
    fn a_class_keeps_its_share() {
        for (len, fraction, expected) in
            [(10, 0.2, 2), (100, 0.1, 10), (2, 0.1, 1), (3, 0.99, 2), (1, 0.5, 0), (7, 0.0, 0), (0, 0.5, 0)]
        {
            assert_eq!(val_names(&names(0..len), fraction, 0).len(), expected, "{len} {fraction}");
        }
    }

    #[test]
    fn the_split_does_not_depend_on_the_order_of_the_listing() {
        let forward = names(0..50);
        let backward: Vec<String> = forward.iter().rev().cloned().collect();
        let mut other = val_names(&backward, 0.2, 3);
        other.sort_unstable();
        assert_eq!(val_names(&forward, 0.2, 3), other);
    }

    #[test]
    fn new_images_hardly_move_the_old_ones() {
        let small = names(0..200);
        let large = names(0..220);
        let before = val_names(&small, 0.2, 0);
        let after = val_names(&large, 0.2, 0);
        let kept = before.iter().filter(|name| after.contains(name)).count();
        assert!(kept >= 36, "{kept} of {}", before.len());
    }

    #[test]
    fn many_classes_of_a_single_image_are_one_warning() {
        let names: Vec<String> = (0..10_000).map(|class| format!("c{class}")).collect();
        assert_eq!(
            single_image_warning(&names).unwrap(),
            "10000 classes hold a single image each: it is for training, and none is left for validation: `c0`, `c1`, `c2`, `c3`, \
             `c4`, …"
        );
        assert_eq!(single_image_warning(&[]), None);
    }

    #[test]
    fn the_seed_decides() {
        let names = names(0..50);
        assert_eq!(val_names(&names, 0.2, 1), val_names(&names, 0.2, 1));
        assert_ne!(val_names(&names, 0.2, 1), val_names(&names, 0.2, 2));
    }
}

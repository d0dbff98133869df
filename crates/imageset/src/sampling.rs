//! Which images an epoch shows, in which order, and how often each.
//!
//! An epoch always has as many places as the source has images, so its length does not depend on the sampling. What stands at a
//! place is a function of (seed, epoch), and the random choices for it of (seed, epoch, image, occurrence), where the
//! occurrence says how many places before it in the same epoch show the same image. Hence an epoch can start anywhere.

use serde::{Deserialize, Serialize};

use crate::random::{permutation, shuffle, stream};
use crate::source::ImageSource;

/// Which images a shuffled epoch shows, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Each image once, in a new order.
    #[default]
    Shuffled,
    /// Each class as often as any other, whatever its number of images.
    ///
    /// Classes take turns through the whole run: number the places of all epochs on end, and place `n` belongs to class
    /// `n mod classes`, counting the classes that have images. So in an epoch the classes differ by one place at most, and over
    /// the run as well. A class hands out its images in passes, each image once in a pass and each pass in an order of its own,
    /// and continues in the next epoch where it stopped: the images of a large class are all seen, those of a small class come
    /// several times in an epoch. Finally the places of an epoch are shuffled.
    Balanced,
    /// Repeated augmentation (arXiv:1902.05509): each image comes this many times in a row, augmented differently each time, so an
    /// epoch shows only a fraction of the images.
    ///
    /// The order is that of the sampler of DeiT and timm (`RASampler`, `RepeatAugSampler`) on one device: a shuffled order
    /// with each image repeated, cut off where the epoch is full. They spread the repetitions over devices; here they lie in
    /// the same batch, but for those that its end cuts apart. 1 is the same as `shuffled`.
    Repeated(usize),
}

/// The image at each place of an epoch.
pub(crate) struct EpochOrder {
    images: Vec<usize>,
    /// How often the image at a place came before. Empty if none comes twice.
    occurrences: Vec<u32>,
}

impl EpochOrder {
    /// All images in the source's own order.
    pub(crate) fn unshuffled(len: usize) -> Self {
        Self { images: (0..len).collect(), occurrences: Vec::new() }
    }

    /// The order of a shuffled epoch.
    pub(crate) fn shuffled(source: &dyn ImageSource, sampling: Sampling, seed: u64, epoch: u64) -> Self {
        let len = source.len();
        match sampling {
            Sampling::Shuffled | Sampling::Repeated(0 | 1) => {
                Self { images: permutation(seed, epoch, len), occurrences: Vec::new() }
            }
            Sampling::Repeated(times) => {
                let order = permutation(seed, epoch, len);
                Self::with_repetitions((0..len).map(|place| order[place / times]).collect())
            }
            Sampling::Balanced => Self::with_repetitions(balanced(source, seed, epoch)),
        }
    }

    fn with_repetitions(images: Vec<usize>) -> Self {
        let mut seen = vec![0; images.len()];
        let count = |&image: &usize| {
            let occurrence = seen[image];
            seen[image] += 1;
            occurrence
        };
        let occurrences = images.iter().map(count).collect();
        Self { images, occurrences }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// How many different images there are.
    pub(crate) fn num_images(&self) -> usize {
        let repeated = self.occurrences.iter().filter(|&&occurrence| occurrence > 0).count();
        self.images.len() - repeated
    }

    /// The image at a place.
    pub(crate) fn image(&self, place: usize) -> usize {
        self.images[place]
    }

    /// How many places before this one have the same image.
    pub(crate) fn occurrence(&self, place: usize) -> u32 {
        self.occurrences.get(place).copied().unwrap_or_default()
    }
}

/// The images of an epoch in which all classes come equally often.
fn balanced(source: &dyn ImageSource, seed: u64, epoch: u64) -> Vec<usize> {
    let len = source.len();
    let mut images_of_class: Vec<Vec<usize>> = Vec::new();
    for index in 0..len {
        let label = source.label(index);
        if images_of_class.len() <= label {
            images_of_class.resize_with(label + 1, Vec::new);
        }
        images_of_class[label].push(index);
    }
    images_of_class.retain(|images| !images.is_empty());
    let classes = images_of_class.len() as u128;
    // Of the places before `place`, those that belong to the class.
    let turns_before = |place: u128, class: u128| (place + classes - 1 - class) / classes;
    let first_place = u128::from(epoch) * len as u128;
    let mut order = Vec::with_capacity(len);
    for (class, images) in images_of_class.iter().enumerate() {
        let class = class as u128;
        let mut turns = turns_before(first_place, class)..turns_before(first_place + len as u128, class);
        while !turns.is_empty() {
            let (pass, first) = (turns.start / images.len() as u128, (turns.start % images.len() as u128) as usize);
            let mut pass_order = images.clone();
            let position = [seed, source.label(images[0]) as u64, pass as u64];
            shuffle(&mut stream("imageset 2026 balanced class pass", &position), &mut pass_order);
            let count = (turns.end - turns.start).min((images.len() - first) as u128);
            order.extend_from_slice(&pass_order[first..first + count as usize]);
            turns.start += count;
        }
    }
    shuffle(&mut stream("imageset 2026 balanced epoch order", &[seed, epoch]), &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{EncodedImage, SourceError};

    /// A source that is only its labels.
    struct Labels(Vec<usize>);

    impl ImageSource for Labels {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn label(&self, index: usize) -> usize {
            self.0[index]
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            Err(SourceError::Foreign { index, reason: "only labels".to_owned() })
        }
    }

    /// Classes of these sizes, one after the other.
    fn classes(sizes: &[usize]) -> Labels {
        Labels(sizes.iter().enumerate().flat_map(|(label, &size)| vec![label; size]).collect())
    }

    fn counts(values: impl Iterator<Item = usize>, len: usize) -> Vec<usize> {
        let mut counts = vec![0; len];
        values.for_each(|value| counts[value] += 1);
        counts
    }

    #[test]
    fn a_recipe_can_name_each_sampling() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Recipe {
            sampling: Sampling,
        }
        for (text, sampling) in [
            ("sampling = \"shuffled\"", Sampling::Shuffled),
            ("sampling = \"balanced\"", Sampling::Balanced),
            ("sampling = { repeated = 3 }", Sampling::Repeated(3)),
        ] {
            assert_eq!(toml::from_str::<Recipe>(text).unwrap(), Recipe { sampling });
            let written = toml::to_string(&Recipe { sampling }).unwrap();
            assert_eq!(toml::from_str::<Recipe>(&written).unwrap(), Recipe { sampling });
        }
    }

    #[test]
    fn balanced_classes_differ_by_one_place_in_an_epoch_and_in_a_run() {
        // A class without images, one with a single image, and 103 places for 4 classes.
        let source = classes(&[80, 0, 17, 5, 1]);
        let mut run = [0; 5];
        for epoch in 0..9 {
            let order = EpochOrder::shuffled(&source, Sampling::Balanced, 4, epoch);
            assert_eq!(order.len(), 103);
            let of_class = counts(order.images.iter().map(|&image| source.label(image)), 5);
            assert!([0, 2, 3, 4].iter().all(|&class| (25..=26).contains(&of_class[class])), "{of_class:?}");
            assert_eq!(of_class[1], 0);
            run.iter_mut().zip(of_class).for_each(|(sum, count)| *sum += count);
        }
        // 9 * 103 = 927 places for 4 classes.
        assert_eq!(run, [232, 0, 232, 232, 231]);
    }

    #[test]
    fn a_balanced_class_shows_all_its_images_before_one_comes_again() {
        let source = classes(&[80, 17, 5, 2]);
        let mut seen = vec![0; 104];
        for epoch in 0..12 {
            let order = EpochOrder::shuffled(&source, Sampling::Balanced, 0, epoch);
            order.images.iter().for_each(|&image| seen[image] += 1);
            for images in [0..80, 80..97, 97..102, 102..104] {
                let of_class: &[i32] = &seen[images];
                let [least, most] = [of_class.iter().min(), of_class.iter().max()].map(Option::unwrap);
                assert!(most - least <= 1, "{of_class:?}");
            }
        }
        // 12 epochs of 26 places: 312 = 3 passes of 80 and 72 more.
        assert_eq!(counts(seen[..80].iter().map(|&count| count as usize), 5), [0, 0, 0, 8, 72]);
    }

    #[test]
    fn balanced_classes_are_mixed_and_each_epoch_has_an_order_of_its_own() {
        let source = classes(&[90, 10]);
        let order = |seed, epoch| EpochOrder::shuffled(&source, Sampling::Balanced, seed, epoch).images;
        assert_eq!(order(1, 5), order(1, 5));
        assert_ne!(order(1, 5), order(1, 6));
        assert_ne!(order(1, 5), order(2, 5));
        let changes = order(1, 5).windows(2).filter(|pair| source.label(pair[0]) != source.label(pair[1])).count();
        // 49.5 are expected of a shuffled order, with a standard deviation of 5.
        assert!((30..70).contains(&changes), "{changes}");
    }

    #[test]
    fn repeated_images_lie_side_by_side_and_fill_an_epoch() {
        let source = classes(&[5, 5]);
        let order = EpochOrder::shuffled(&source, Sampling::Repeated(3), 7, 2);
        let shuffled = permutation(7, 2, 10);
        assert_eq!(order.images, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3].map(|place: usize| shuffled[place]));
        assert_eq!(order.occurrences, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        let once = EpochOrder::shuffled(&source, Sampling::Repeated(1), 7, 2);
        assert_eq!((once.occurrence(3), once.images), (0, shuffled));
    }

    #[test]
    fn thousands_of_classes_and_single_images_are_no_special_case() {
        let source = Labels((0..10_000).rev().collect());
        let order = EpochOrder::shuffled(&source, Sampling::Balanced, 0, 3);
        assert_eq!(counts(order.images.iter().copied(), 10_000), [1; 10_000]);
        // More classes than an epoch could show of one with a second image.
        let source = Labels((0..10_000).chain([3]).collect());
        let of_class = |epoch| {
            let order = EpochOrder::shuffled(&source, Sampling::Balanced, 0, epoch);
            counts(order.images.iter().map(|&image| source.label(image)), 10_000)
        };
        assert_eq!((of_class(0)[0], of_class(1)[1]), (2, 2));
        assert!(of_class(1).iter().all(|&count| count == 1 || count == 2));
    }

    /// A changed order would silently change every run that is resumed with a newer build.
    #[test]
    fn the_balanced_order_is_frozen() {
        let order = EpochOrder::shuffled(&classes(&[6, 2]), Sampling::Balanced, 0, 1);
        assert_eq!(order.images, FROZEN_ORDER);
    }

    const FROZEN_ORDER: [usize; 8] = [3, 6, 7, 0, 7, 5, 6, 4];
}

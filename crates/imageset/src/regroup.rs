//! Images that show the same picture belong on one side of a split: a picture that was trained on measures nothing.
//!
//! Only a split of our own is touched. It is taken by name, see `split.rs`, and this is the step after it, for whoever can afford
//! to decode every image once. The rules, for the groups of [`near_duplicate`](crate::near_duplicate):
//!
//! 1. A group with images on both sides trains.
//! 2. A class whose validation part has become smaller is filled up again with whole groups of its training images (most are of a
//!    single image), as far as they fit, in the order of the hash of their pixels.
//! 3. If a class had validation images and has none now, its smallest group validates that leaves as many images to train on.
//! 4. If there is no such group either, its images stay as they were, on both sides.
//!
//! The result depends on the split and on the pixels alone.

use std::sync::Arc;

use crate::check::{contradiction_warning, contradictions};
use crate::decode::DecodeLimits;
use crate::near_duplicate::{Look, groups, looks};
use crate::source::{DataSet, EncodedImage, ImageSource, SourceError, counted, shortened};

/// Images of more than these would take minutes to decode before a run can start, so they stay as they are.
pub const MAX_REGROUPED_IMAGES: usize = 5_000;

impl DataSet {
    /// Moves images between the parts so that those which show the same picture are on one side.
    ///
    /// Each image is decoded once, on `threads` threads, 0 for one per processor; `progress` is called with the number of images
    /// done, of both parts together. Images that cannot be decoded stay where they are. [`warnings`](Self::warnings) says what
    /// has moved, and which pictures are in several classes, also where nothing is held back for validation. A data set that
    /// [came with its split](Self::has_own_split) or has more than [`MAX_REGROUPED_IMAGES`] images is returned as it is.
    #[must_use]
    pub fn without_duplicates_across(mut self, threads: usize, progress: &dyn Fn(usize)) -> Self {
        let num_images = self.train.len() + self.val.len();
        let is_split = !self.train.is_empty() && !self.val.is_empty();
        if self.has_own_split || num_images == 0 || !is_split && num_images > MAX_REGROUPED_IMAGES {
            return self;
        }
        if num_images > MAX_REGROUPED_IMAGES {
            self.warnings.push(format!(
                "{num_images} images are too many to look for copies of the same picture before training \
                 (at most {MAX_REGROUPED_IMAGES}): some may be on both sides of the split"
            ));
            return self;
        }
        let parts = [Arc::clone(&self.train), Arc::clone(&self.val)];
        let all = Picked::all(parts.to_vec());
        let looks = looks(&all, threads, progress);
        self.known_readable = looks.iter().all(Option::is_some);
        let mut split = Split::new(&all, &looks);
        if is_split {
            split.regroup();
        }
        self.warnings.extend(split.warnings(&self.classes));
        let hashes = looks.iter().map(|look| Some(look.as_ref()?.exact));
        self.warnings.extend(contradiction_warning(&contradictions(&all, hashes, &self.classes)));
        if split.is_val != split.was_val {
            let side = |is_val| {
                let on_side = |was_val| {
                    let sides = split.was_val.iter().zip(&split.is_val);
                    let places = all.places.iter().zip(sides);
                    places.filter(move |(_, sides)| *sides == (&was_val, &is_val)).map(|(&place, _)| place)
                };
                // What stays comes first, in its order.
                Arc::new(Picked { parts: parts.to_vec(), places: on_side(is_val).chain(on_side(!is_val)).collect() })
            };
            (self.train, self.val) = (side(false), side(true));
        }
        self
    }
}

/// Images of several sources, in an order of their own.
pub(crate) struct Picked {
    parts: Vec<Arc<dyn ImageSource>>,
    /// The part, and the place in it, of each image.
    places: Vec<(usize, usize)>,
}

impl Picked {
    /// All images of the sources, one source after the other.
    pub(crate) fn all(parts: Vec<Arc<dyn ImageSource>>) -> Self {
        let places =
            parts.iter().enumerate().flat_map(|(part, images)| (0..images.len()).map(move |index| (part, index)));
        Self { places: places.collect(), parts }
    }

    fn place(&self, index: usize) -> (&dyn ImageSource, usize) {
        let (part, index) = self.places[index];
        (self.parts[part].as_ref(), index)
    }
}

impl ImageSource for Picked {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn label(&self, index: usize) -> usize {
        let (part, index) = self.place(index);
        part.label(index)
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        let (part, index) = self.place(index);
        part.labels(index)
    }

    fn is_multi_label(&self) -> bool {
        self.parts.iter().any(|part| part.is_multi_label())
    }

    fn name(&self, index: usize) -> String {
        let (part, index) = self.place(index);
        part.name(index)
    }

    fn limits(&self) -> DecodeLimits {
        // The parts of a data set have the same limits.
        self.parts.first().map_or_else(DecodeLimits::default, |part| part.limits())
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        let (part, index) = self.place(index);
        part.read(index)
    }
}

/// Which images validate, by their places in both parts together.
struct Split {
    /// The class of each image, if it has just one: others do not begin to validate, since they may be the last to train on one of
    /// their labels.
    labels: Vec<Option<usize>>,
    was_val: Vec<bool>,
    is_val: Vec<bool>,
    /// Images of the same picture, in the order of the hash of their pixels.
    groups: Vec<Vec<usize>>,
    /// Classes of rule 4, in ascending order.
    left_alone: Vec<usize>,
}

impl Split {
    fn new(all: &Picked, looks: &[Option<Look>]) -> Self {
        let was_val: Vec<bool> = all.places.iter().map(|&(part, _)| part == 1).collect();
        let mut grouped = groups(&looks.iter().map(Option::as_ref).collect::<Vec<_>>());
        let mut is_single = vec![true; looks.len()];
        grouped.iter().flatten().for_each(|&index| is_single[index] = false);
        grouped.extend((0..looks.len()).filter(|&index| is_single[index] && looks[index].is_some()).map(|i| vec![i]));
        // Equal images are in the same group, so no two groups have the same key.
        grouped.sort_by_cached_key(|group| group.iter().filter_map(|&i| Some(looks[i].as_ref()?.exact)).min());
        let only = |labels: Vec<usize>| if let [label] = labels[..] { Some(label) } else { None };
        let labels = (0..all.len()).map(|index| only(all.labels(index))).collect();
        Self { labels, is_val: was_val.clone(), was_val, groups: grouped, left_alone: Vec::new() }
    }

    fn regroup(&mut self) {
        for group in &self.groups {
            if group.iter().any(|&index| !self.was_val[index]) {
                group.iter().for_each(|&index| self.is_val[index] = false);
            }
        }
        let mut wanted = self.counts(&self.was_val);
        let [mut num_train, mut num_val] = [false, true].map(|side| self.counts_on(side));
        for (wanted, num_val) in wanted.iter_mut().zip(&num_val) {
            *wanted -= num_val;
        }
        for group in &self.groups {
            let Some(class) = self.trains_whole(group) else { continue };
            if group.len() <= wanted[class] && group.len() < num_train[class] {
                group.iter().for_each(|&index| self.is_val[index] = true);
                wanted[class] -= group.len();
                num_train[class] -= group.len();
                num_val[class] += group.len();
            }
        }
        let mut smallest: Vec<Option<&Vec<usize>>> = vec![None; num_val.len()];
        for group in &self.groups {
            if let Some(class) = self.trains_whole(group)
                && group.len() * 2 <= num_train[class]
                && smallest[class].is_none_or(|smallest| group.len() < smallest.len())
            {
                smallest[class] = Some(group);
            }
        }
        for (class, smallest) in smallest.iter().enumerate() {
            match smallest {
                _ if num_val[class] > 0 || wanted[class] == 0 => {}
                Some(group) => group.iter().for_each(|&index| self.is_val[index] = true),
                None => self.left_alone.push(class),
            }
        }
        for (index, label) in self.labels.iter().enumerate() {
            if label.is_some_and(|label| self.left_alone.binary_search(&label).is_ok()) {
                self.is_val[index] = self.was_val[index];
            }
        }
    }

    /// The class of a group, if all of its images train and have the same one.
    fn trains_whole(&self, group: &[usize]) -> Option<usize> {
        let class = self.labels[group[0]]?;
        group.iter().all(|&index| !self.is_val[index] && self.labels[index] == Some(class)).then_some(class)
    }

    /// Images of each class on one side.
    fn counts_on(&self, is_val: bool) -> Vec<usize> {
        self.counts(&self.is_val.iter().map(|&side| side == is_val).collect::<Vec<_>>())
    }

    /// Images of each class among some.
    fn counts(&self, counted: &[bool]) -> Vec<usize> {
        let mut counts = vec![0; self.labels.iter().flatten().max().map_or(0, |label| label + 1)];
        let counted = self.labels.iter().zip(counted).filter(|(_, counted)| **counted);
        counted.filter_map(|(label, _)| *label).for_each(|label| counts[label] += 1);
        counts
    }

    fn warnings(&self, classes: &[String]) -> Vec<String> {
        let moved = |to_val: bool| {
            self.was_val.iter().zip(&self.is_val).filter(|(was, is)| **was != to_val && **is == to_val).count()
        };
        let mut warnings = Vec::new();
        let (to_train, to_val) = (moved(false), moved(true));
        if to_train + to_val > 0 {
            warnings.push(format!(
                "images of the same picture are kept on one side of the split: {} moved from validation to training, {to_val} from \
                 training to validation",
                counted(to_train, "image")
            ));
        }
        if !self.left_alone.is_empty() {
            let names: Vec<&String> = self.left_alone.iter().map(|&class| &classes[class]).collect();
            warnings.push(format!(
                "in {} all images look too much alike to be kept on one side of the split, so those for validation resemble those \
                 for training: {}",
                if names.len() == 1 { "1 class".to_owned() } else { format!("{} classes", names.len()) },
                shortened(&names)
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::image::RgbImage;
    use crate::left_out::LeftOut;
    use crate::random::{stream, unit};
    use crate::source::{ImageSource, SourceError};

    /// Each image is a number of a picture and a label. The picture `u64::MAX` cannot be read.
    struct Pictures(Vec<(u64, usize)>);

    impl ImageSource for Pictures {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn label(&self, index: usize) -> usize {
            self.0[index].1
        }

        fn name(&self, index: usize) -> String {
            format!("{}-{index}", self.0[index].0)
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            let number = self.0[index].0;
            if number == u64::MAX {
                return Ok(EncodedImage::File(Vec::new()));
            }
            let mut rng = stream("test picture", &[number]);
            let gray: Vec<u8> = (0..8 * 8).map(|_| (unit(&mut rng) * 255.0) as u8).collect();
            Ok(EncodedImage::Rgb(RgbImage::from_gray(8, 8, &gray)))
        }
    }

    fn split(train: &[(u64, usize)], val: &[(u64, usize)]) -> DataSet {
        DataSet {
            classes: vec!["a".to_owned(), "b".to_owned()],
            train: Arc::new(Pictures(train.to_vec())),
            val: Arc::new(Pictures(val.to_vec())),
            description: String::new(),
            warnings: Vec::new(),
            left_out: LeftOut::default(),
            has_own_split: false,
            known_readable: false,
        }
    }

    fn regrouped(set: DataSet, threads: usize) -> DataSet {
        set.without_duplicates_across(threads, &|_| ())
    }

    /// Picture and label of each image.
    fn content(source: &dyn ImageSource) -> Vec<(u64, usize)> {
        let picture = |index| source.name(index).split_once('-').unwrap().0.parse().unwrap();
        (0..source.len()).map(|index| (picture(index), source.label(index))).collect()
    }

    fn pictures(source: &dyn ImageSource) -> Vec<u64> {
        content(source).into_iter().map(|(picture, _)| picture).collect()
    }

    #[test]
    fn a_split_without_copies_stays_as_it_is() {
        let set = split(&[(1, 0), (2, 0), (2, 0), (3, 1), (u64::MAX, 1)], &[(4, 0), (5, 1), (u64::MAX, 1)]);
        let train = Arc::clone(&set.train);
        let done = Cell::new(0);
        let set = set.without_duplicates_across(2, &|count| done.set(count));
        assert!(Arc::ptr_eq(&train, &set.train) && set.warnings.is_empty());
        assert!(!set.known_readable, "two images are not readable");
        assert!(regrouped(split(&[(1, 0), (2, 1)], &[(3, 0)]), 0).known_readable);
        assert_eq!(done.get(), 8);
    }

    #[test]
    fn copies_train_and_other_images_of_the_class_validate_in_their_place() {
        let mut train: Vec<(u64, usize)> = (0..20).map(|picture| (picture, 0)).collect();
        train.extend((100..120).map(|picture| (picture, 1)));
        // The pictures 0 and 1 are on both sides, and 2 in both classes.
        let val = [(0, 0), (20, 0), (1, 0), (1, 0), (120, 1), (2, 1)];
        let set = regrouped(split(&train, &val), 0);
        let [train, val] = [&set.train, &set.val].map(|part| pictures(part.as_ref()));
        assert!(val.iter().all(|picture| !train.contains(picture)), "{train:?} {val:?}");
        assert_eq!((train.len(), val.len()), (40, 6));
        let of_class = |class| content(set.val.as_ref()).iter().filter(|(_, label)| *label == class).count();
        assert_eq!((of_class(0), of_class(1)), (4, 2));
        assert_eq!(
            set.warnings,
            [
                "images of the same picture are kept on one side of the split: 4 images moved from validation to training, 4 from \
              training to validation",
                "1 picture is in more than one class, for instance `2-2` (a) and `2-5` (b): `ghostnet data check` lists all of them"
            ]
        );
        for threads in [1, 3] {
            let mut labels: Vec<(u64, usize)> = (0..20).map(|picture| (picture, 0)).collect();
            labels.extend((100..120).map(|picture| (picture, 1)));
            let again = regrouped(split(&labels, &[(0, 0), (20, 0), (1, 0), (1, 0), (120, 1), (2, 1)]), threads);
            assert_eq!(content(again.val.as_ref()), content(set.val.as_ref()));
            assert_eq!(DataSet::fingerprint(again.train.as_ref()), DataSet::fingerprint(set.train.as_ref()));
        }
    }

    #[test]
    fn where_every_picture_comes_twice_the_validation_part_keeps_its_size() {
        let images: Vec<(u64, usize)> =
            (0..200).flat_map(|picture| [(picture, usize::from(picture >= 100)); 2]).collect();
        // Every tenth image, so no pair is whole.
        let (val, train): (Vec<_>, Vec<_>) = images.iter().enumerate().partition(|(place, _)| place % 10 == 0);
        let [train, val] = [train, val].map(|part| part.into_iter().map(|(_, image)| *image).collect::<Vec<_>>());
        let set = regrouped(split(&train, &val), 0);
        assert_eq!((set.train.len(), set.val.len()), (360, 40));
        let [train, val] = [&set.train, &set.val].map(|part| pictures(part.as_ref()));
        assert!(val.iter().all(|picture| !train.contains(picture)));
    }

    #[test]
    fn a_class_of_pairs_with_a_single_place_to_validate_gives_it_a_pair() {
        let train = [(1, 0), (2, 0), (2, 0), (3, 0), (3, 0), (10, 1), (11, 1)];
        let set = regrouped(split(&train, &[(1, 0), (12, 1)]), 0);
        let val = pictures(set.val.as_ref());
        assert_eq!((val.len(), val[0]), (3, 12));
        assert_eq!(val[1], val[2]);
        assert!(!pictures(set.train.as_ref()).contains(&val[1]));
    }

    #[test]
    fn a_class_of_one_picture_stays_on_both_sides() {
        let set = regrouped(split(&[(1, 0), (1, 0), (1, 0), (10, 1), (11, 1)], &[(1, 0), (12, 1)]), 0);
        assert_eq!(pictures(set.val.as_ref()), [1, 12]);
        assert_eq!(
            set.warnings,
            [
                "in 1 class all images look too much alike to be kept on one side of the split, so those for validation resemble \
              those for training: `a`"
            ]
        );
    }

    #[test]
    fn a_split_that_came_with_the_data_is_left_alone() {
        let set = DataSet { has_own_split: true, ..split(&[(1, 0), (2, 1)], &[(1, 0), (2, 1)]) };
        let set = regrouped(set, 0);
        assert_eq!((set.train.len(), set.val.len(), set.warnings.len()), (2, 2, 0));
    }

    /// Pictures that each bear their own label and, every second one, a third label too.
    struct Several(Pictures);

    impl ImageSource for Several {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn label(&self, index: usize) -> usize {
            self.0.label(index)
        }

        fn labels(&self, index: usize) -> Vec<usize> {
            let label = self.label(index);
            if self.0.0[index].0.is_multiple_of(2) { vec![label, 2] } else { vec![label] }
        }

        fn is_multi_label(&self) -> bool {
            true
        }

        fn name(&self, index: usize) -> String {
            self.0.name(index)
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            self.0.read(index)
        }
    }

    #[test]
    fn an_image_with_several_labels_does_not_begin_to_validate() {
        let source = |pictures: &[(u64, usize)]| Arc::new(Several(Pictures(pictures.to_vec())));
        for number in [2, 3] {
            let set = DataSet {
                train: source(&[(1, 0), (number, 0), (5, 0), (7, 1)]),
                val: source(&[(1, 0), (9, 1)]),
                ..split(&[], &[])
            };
            // Picture 1 trains, and another of its class validates in its place, if that has no other label.
            let set = regrouped(set, 1);
            let moved = pictures(set.val.as_ref());
            assert!(moved.len() == 2 && !moved.contains(&1) && !moved.contains(&2), "{moved:?}");
        }
    }

    #[test]
    fn contradictions_are_told_where_nothing_is_held_back_too() {
        let set = regrouped(split(&[(1, 0), (1, 1), (2, 1)], &[]), 1);
        assert_eq!((set.train.len(), set.val.len(), set.warnings.len()), (3, 0, 1));
        assert!(set.warnings[0].starts_with("1 picture is in more than one class"), "{:?}", set.warnings);
        assert!(set.known_readable);
        assert!(regrouped(split(&[(1, 0), (1, 0), (2, 1)], &[]), 1).warnings.is_empty());
    }

    #[test]
    fn too_many_images_are_not_looked_at() {
        let train: Vec<(u64, usize)> = (0..MAX_REGROUPED_IMAGES as u64).map(|picture| (picture, 0)).collect();
        let set = regrouped(split(&train, &[(0, 0)]), 0);
        assert_eq!(set.val.len(), 1);
        assert_eq!(
            set.warnings,
            [
                "5001 images are too many to look for copies of the same picture before training (at most 5000): some may be on \
              both sides of the split"
            ]
        );
    }
}

//! Finding what is wrong with a data set before a long run does: damaged files and duplicates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::near_duplicate::{Look, exact_hash, groups};
use crate::regroup::Picked;
use crate::source::{DataSet, ImageSource, counted};
use crate::survey::{class_counts, survey};

/// More images than these are not compared for near duplicates: their looks alone would fill 85 MB, and the time grows with the
/// square of their number.
const MAX_COMPARED_IMAGES: usize = 100_000;

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorruptImage {
    /// Its name in the source.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// All images of the source, good and bad.
    pub num_images: usize,
    /// Images per class, by label.
    pub class_counts: Vec<usize>,
    /// Images that cannot be read or decoded, in the source's order.
    pub corrupt: Vec<CorruptImage>,
    /// Groups of images whose decoded pixels are identical, each in the source's order.
    pub duplicates: Vec<Vec<String>>,
    /// Those of the groups whose images have different labels.
    pub contradicting_duplicates: Vec<Vec<String>>,
    /// Groups of images that show the same picture, coded again, resized, brightened or trimmed a little, so that their pixels
    /// differ; what is equal to one of them is in its group too. Each in the source's order.
    pub near_duplicates: Vec<Vec<String>>,
    /// Whether near duplicates were looked for: not among more than 100,000 images.
    pub compared_near_duplicates: bool,
}

/// What [`check_parts`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartsReport {
    /// The images to learn from.
    pub train: CheckReport,
    /// The images to measure on.
    pub val: CheckReport,
    /// Groups of images that show the same picture, with images of both parts: a model would be measured on what it was trained on.
    ///
    /// Equal images and near duplicates, or equal ones only where near duplicates are not compared.
    pub across: Vec<Vec<String>>,
    /// Groups of images with identical pixels and different labels, whichever parts they are in.
    pub contradictions: Vec<Vec<ContradictingImage>>,
}

/// One of several images that are the same picture, and what it is said to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContradictingImage {
    /// Its name in the source.
    pub name: String,
    /// Its classes: a single one, unless the source is multi-label.
    pub classes: Vec<String>,
}

/// A sentence about contradicting labels, or None if there are none.
pub fn contradiction_warning(contradictions: &[Vec<ContradictingImage>]) -> Option<String> {
    const SHOWN: usize = 3;
    let first = contradictions.first()?;
    let image = |image: &ContradictingImage| {
        let classes = if image.classes.is_empty() { "no class".to_owned() } else { image.classes.join(", ") };
        format!("`{}` ({classes})", image.name)
    };
    let shown: Vec<String> = first.iter().take(SHOWN).map(image).collect();
    let more = if first.len() > SHOWN { " and others" } else { "" };
    let are = if contradictions.len() == 1 { "is" } else { "are" };
    Some(format!(
        "{} {are} in more than one class, for instance {}{more}: `ghostnet data check` lists all of them",
        counted(contradictions.len(), "picture"),
        shown.join(" and ")
    ))
}

/// The groups of equal hashes whose images have different labels.
pub(crate) fn contradictions(
    source: &dyn ImageSource,
    hashes: impl Iterator<Item = Option<[u8; 32]>>,
    classes: &[String],
) -> Vec<Vec<ContradictingImage>> {
    // The order of several labels does not matter.
    let labels = |index: usize| BTreeSet::from_iter(source.labels(index));
    let image = |&index: &usize| ContradictingImage {
        name: source.name(index),
        classes: source.labels(index).into_iter().filter_map(|label| classes.get(label).cloned()).collect(),
    };
    equal(hashes)
        .iter()
        .filter(|group| group.iter().any(|&index| labels(index) != labels(group[0])))
        .map(|group| group.iter().map(image).collect())
        .collect()
}

/// Decodes every image of a source.
///
/// `threads` of 0 means one per processor; `progress` is called with the number of images done.
pub fn check(source: &dyn ImageSource, threads: usize, progress: &dyn Fn(usize)) -> CheckReport {
    Examined::new(source, threads, progress, source.len() <= MAX_COMPARED_IMAGES).report()
}

/// Decodes every image of both parts of a data set, each once, and compares them across the parts too.
///
/// `threads` of 0 means one per processor; `progress` is called with the number of images done, of both parts together.
pub fn check_parts(data: &DataSet, threads: usize, progress: &dyn Fn(usize)) -> PartsReport {
    let num_train = data.train.len();
    let are_compared = num_train + data.val.len() <= MAX_COMPARED_IMAGES;
    let train = Examined::new(data.train.as_ref(), threads, progress, are_compared);
    let val = Examined::new(data.val.as_ref(), threads, &|done| progress(num_train + done), are_compared);
    let groups = if are_compared {
        groups(&train.looks().chain(val.looks()).collect::<Vec<_>>())
    } else {
        equal(train.hashes().chain(val.hashes()))
    };
    let is_across = |group: &&Vec<usize>| group[0] < num_train && group[group.len() - 1] >= num_train;
    let name = |&index: &usize| match index.checked_sub(num_train) {
        None => data.train.name(index),
        Some(index) => data.val.name(index),
    };
    let across = groups.iter().filter(is_across).map(|group| group.iter().map(name).collect()).collect();
    let all = Picked::all(vec![Arc::clone(&data.train), Arc::clone(&data.val)]);
    let contradictions = contradictions(&all, train.hashes().chain(val.hashes()), &data.classes);
    PartsReport { train: train.report(), val: val.report(), across, contradictions }
}

/// A source and what is known of each image.
struct Examined<'a> {
    source: &'a dyn ImageSource,
    /// What is known of each image, or why it cannot be used.
    images: Vec<Result<Seen, String>>,
    are_compared: bool,
}

struct Seen {
    /// See [`exact_hash`].
    hash: [u8; 32],
    /// Only if near duplicates are looked for.
    look: Option<Look>,
}

impl<'a> Examined<'a> {
    fn new(source: &'a dyn ImageSource, threads: usize, progress: &dyn Fn(usize), are_compared: bool) -> Self {
        let images = survey(source, threads, progress, |image| match image {
            Ok(image) if are_compared => {
                let look = Look::new(&image);
                Ok(Seen { hash: look.exact, look: Some(look) })
            }
            Ok(image) => Ok(Seen { hash: exact_hash(&image), look: None }),
            Err(error) => Err(error.to_string()),
        });
        Self { source, images, are_compared }
    }

    fn looks(&self) -> impl Iterator<Item = Option<&Look>> {
        self.images.iter().map(|image| image.as_ref().ok()?.look.as_ref())
    }

    fn hashes(&self) -> impl Iterator<Item = Option<[u8; 32]>> {
        self.images.iter().map(|image| Some(image.as_ref().ok()?.hash))
    }

    fn report(&self) -> CheckReport {
        let Self { source, images, are_compared } = self;
        let reason = |(index, image): (usize, &Result<_, String>)| {
            Some(CorruptImage { name: source.name(index), reason: image.as_ref().err()?.clone() })
        };
        let hashes: Vec<_> = self.hashes().collect();
        let equal = equal(hashes.iter().copied());
        let mut near = groups(&self.looks().collect::<Vec<_>>());
        near.retain(|group| group.iter().any(|&index| hashes[index] != hashes[group[0]]));
        let names = |group: &Vec<usize>| group.iter().map(|&index| source.name(index)).collect();
        // The order of several labels does not matter.
        let labels = |index| BTreeSet::from_iter(source.labels(index));
        let contradicts = |group: &&Vec<usize>| group.iter().any(|&index| labels(index) != labels(group[0]));
        CheckReport {
            num_images: source.len(),
            class_counts: class_counts(*source),
            corrupt: images.iter().enumerate().filter_map(reason).collect(),
            duplicates: equal.iter().map(names).collect(),
            contradicting_duplicates: equal.iter().filter(contradicts).map(names).collect(),
            near_duplicates: near.iter().map(names).collect(),
            compared_near_duplicates: *are_compared,
        }
    }
}

/// The groups of equal hashes: places in ascending order, and so are the groups.
fn equal(hashes: impl Iterator<Item = Option<[u8; 32]>>) -> Vec<Vec<usize>> {
    let mut alike: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (index, hash) in hashes.enumerate() {
        if let Some(hash) = hash {
            alike.entry(hash).or_default().push(index);
        }
    }
    let mut groups: Vec<Vec<usize>> = alike.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;
    use crate::left_out::LeftOut;
    use crate::source::{EncodedImage, SourceError};

    struct Five;

    impl ImageSource for Five {
        fn len(&self) -> usize {
            5
        }

        fn label(&self, index: usize) -> usize {
            index % 2
        }

        fn name(&self, index: usize) -> String {
            format!("{index}.png")
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            Ok(match index {
                0 | 2 | 3 => EncodedImage::Rgb(RgbImage::filled(2, 3, [1; 3])),
                // The same bytes in another shape.
                1 => EncodedImage::Rgb(RgbImage::filled(3, 2, [1; 3])),
                _ => EncodedImage::File(Vec::new()),
            })
        }
    }

    #[test]
    fn damaged_and_equal_images_are_found() {
        for threads in [0, 1, 3] {
            let done = std::cell::RefCell::new(Vec::new());
            let report = check(&Five, threads, &|count| done.borrow_mut().push(count));
            assert_eq!(done.into_inner(), [1, 2, 3, 4, 5]);
            assert_eq!(
                serde_json::to_value(&report).unwrap(),
                serde_json::json!({
                    "num_images": 5,
                    "class_counts": [3, 2],
                    "corrupt": [{ "name": "4.png", "reason": "the file is empty" }],
                    "duplicates": [["0.png", "2.png", "3.png"]],
                    "contradicting_duplicates": [["0.png", "2.png", "3.png"]],
                    "near_duplicates": [],
                    "compared_near_duplicates": true,
                })
            );
        }
    }

    /// A gray ramp, a copy with one level changed, the ramp again, and the ramp turned round.
    struct Ramps;

    impl ImageSource for Ramps {
        fn len(&self) -> usize {
            4
        }

        fn label(&self, _: usize) -> usize {
            0
        }

        fn name(&self, index: usize) -> String {
            format!("{index}.png")
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            let mut gray: Vec<u8> = (0..64 * 64).map(|place| (place % 64 * 4) as u8).collect();
            match index {
                1 => gray[0] = 1,
                3 => gray.reverse(),
                _ => {}
            }
            Ok(EncodedImage::Rgb(RgbImage::from_gray(64, 64, &gray)))
        }
    }

    #[test]
    fn near_duplicates_are_listed_with_what_is_equal_to_them() {
        let report = check(&Ramps, 2, &|_| ());
        assert_eq!(report.duplicates, [["0.png", "2.png"]]);
        assert_eq!(report.near_duplicates, [["0.png", "1.png", "2.png"]]);
    }

    #[test]
    fn copies_in_both_parts_are_listed() {
        let data = DataSet {
            classes: vec!["ramp".to_owned()],
            train: std::sync::Arc::new(Ramps),
            val: std::sync::Arc::new(Ramps),
            description: String::new(),
            warnings: Vec::new(),
            left_out: LeftOut::default(),
            has_own_split: true,
            known_readable: false,
        };
        let done = std::cell::Cell::new(0);
        let report = check_parts(&data, 0, &|count| done.set(count));
        assert_eq!(done.get(), 8);
        assert_eq!(report.train, check(&Ramps, 0, &|_| ()));
        assert_eq!(report.train, report.val);
        let group = |names: &[&str]| names.iter().map(|name| format!("{name}.png")).collect::<Vec<_>>();
        assert_eq!(report.across, [group(&["0", "1", "2", "0", "1", "2"]), group(&["3", "3"])]);
    }
}

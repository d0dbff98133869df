//! Finding what is wrong with a data set before a long run does: damaged files and duplicates.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::decode::DecodeLimits;
use crate::near_duplicate::{Look, exact_hash, groups};
use crate::source::ImageSource;
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

/// Decodes every image of a source.
///
/// `threads` of 0 means one per processor; `progress` is called with the number of images done.
pub fn check(source: &dyn ImageSource, limits: &DecodeLimits, threads: usize, progress: &dyn Fn(usize)) -> CheckReport {
    let compared = source.len() <= MAX_COMPARED_IMAGES;
    let looked = survey(source, limits, threads, progress, |image| match image {
        Ok(image) if compared => {
            let look = Look::new(&image);
            Ok((look.exact, Some(look)))
        }
        Ok(image) => Ok((exact_hash(&image), None)),
        Err(error) => Err(error.to_string()),
    });
    let mut corrupt = Vec::new();
    let mut alike: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    let mut looks = Vec::with_capacity(looked.len());
    for (index, result) in looked.into_iter().enumerate() {
        looks.push(match result {
            Ok((hash, look)) => {
                alike.entry(hash).or_default().push(index);
                look
            }
            Err(reason) => {
                corrupt.push(CorruptImage { name: source.name(index), reason });
                None
            }
        });
    }
    let mut equal: Vec<Vec<usize>> = alike.into_values().filter(|group| group.len() > 1).collect();
    equal.sort_unstable();
    let exact = |index: usize| looks[index].as_ref().map(|look: &Look| look.exact);
    let mut near = groups(&looks);
    near.retain(|group| group.iter().any(|&index| exact(index) != exact(group[0])));
    let names = |group: &Vec<usize>| group.iter().map(|&index| source.name(index)).collect();
    let contradicts = |group: &&Vec<usize>| group.iter().any(|&index| source.label(index) != source.label(group[0]));
    CheckReport {
        num_images: source.len(),
        class_counts: class_counts(source),
        corrupt,
        duplicates: equal.iter().map(names).collect(),
        contradicting_duplicates: equal.iter().filter(contradicts).map(names).collect(),
        near_duplicates: near.iter().map(names).collect(),
        compared_near_duplicates: compared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;
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
            let report = check(&Five, &DecodeLimits::default(), threads, &|count| done.borrow_mut().push(count));
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
        let report = check(&Ramps, &DecodeLimits::default(), 2, &|_| ());
        assert_eq!(report.duplicates, [["0.png", "2.png"]]);
        assert_eq!(report.near_duplicates, [["0.png", "1.png", "2.png"]]);
    }
}

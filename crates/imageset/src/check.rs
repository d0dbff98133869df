//! Finding what is wrong with a data set before a long run does: damaged files and duplicates.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::decode::DecodeLimits;
use crate::source::ImageSource;
use crate::survey::{class_counts, survey};

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
}

/// Decodes every image of a source.
///
/// `threads` of 0 means one per processor; `progress` is called with the number of images done.
pub fn check(source: &dyn ImageSource, limits: &DecodeLimits, threads: usize, progress: &dyn Fn(usize)) -> CheckReport {
    let looked = survey(source, limits, threads, progress, |image| match image {
        Ok(image) => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&image.width.to_le_bytes());
            hasher.update(&image.height.to_le_bytes());
            hasher.update(&image.pixels);
            Ok(*hasher.finalize().as_bytes())
        }
        Err(error) => Err(error.to_string()),
    });
    let mut corrupt = Vec::new();
    let mut alike: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (index, result) in looked.into_iter().enumerate() {
        match result {
            Ok(hash) => alike.entry(hash).or_default().push(index),
            Err(reason) => corrupt.push(CorruptImage { name: source.name(index), reason }),
        }
    }
    let mut groups: Vec<Vec<usize>> = alike.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    let names = |group: &Vec<usize>| group.iter().map(|&index| source.name(index)).collect();
    let contradicts = |group: &&Vec<usize>| group.iter().any(|&index| source.label(index) != source.label(group[0]));
    CheckReport {
        num_images: source.len(),
        class_counts: class_counts(source),
        corrupt,
        duplicates: groups.iter().map(names).collect(),
        contradicting_duplicates: groups.iter().filter(contradicts).map(names).collect(),
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
                })
            );
        }
    }
}

//! Describing a data set in numbers: sizes, classes, and the mean and spread of its pixels.

use serde::Serialize;

use crate::image::RgbImage;
use crate::source::ImageSource;
use crate::survey::{class_counts, survey};

/// The smallest, middle and largest of some lengths, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: u32,
    /// The one in the middle of the sorted list, the lower one of two.
    pub median: u32,
    /// Largest.
    pub max: u32,
}

/// What [`stats`] measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageStats {
    /// All images of the source.
    pub num_images: usize,
    /// Of these, the ones that could not be decoded: they are in no other number but `class_counts`.
    pub num_corrupt: usize,
    /// Of these, the ones with gray pixels only.
    pub num_gray: usize,
    /// Images per class, by label.
    pub class_counts: Vec<usize>,
    /// Mean of red, green and blue over all pixels, 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue over all pixels, 0 to 1.
    pub std: [f64; 3],
    /// Columns.
    pub width: Spread,
    /// Rows.
    pub height: Spread,
}

/// Sums over the pixels of one image. Exact: whole numbers.
struct Sums {
    width: u32,
    height: u32,
    is_gray: bool,
    sum: [u64; 3],
    sum_of_squares: [u64; 3],
}

impl Sums {
    fn of(image: &RgbImage) -> Self {
        let (mut sum, mut sum_of_squares) = ([0; 3], [0; 3]);
        for pixel in image.pixels.chunks_exact(3) {
            for channel in 0..3 {
                let level = u64::from(pixel[channel]);
                sum[channel] += level;
                sum_of_squares[channel] += level * level;
            }
        }
        let is_gray = image.is_gray();
        Self { width: image.width, height: image.height, is_gray, sum, sum_of_squares }
    }
}

/// Decodes and measures every image of a source. Images that cannot be decoded are counted and left out.
///
/// `threads` of 0 means one per processor; `progress` is called with the number of images done. The result does not depend on
/// the number of threads.
pub fn stats(source: &dyn ImageSource, threads: usize, progress: &dyn Fn(usize)) -> ImageStats {
    let looked = survey(source, threads, progress, |image| image.ok().as_ref().map(Sums::of));
    let num_images = looked.len();
    let good: Vec<Sums> = looked.into_iter().flatten().collect();
    let pixels: u64 = good.iter().map(|sums| u64::from(sums.width) * u64::from(sums.height)).sum();
    let count = pixels.max(1) as f64;
    let total = |channel: usize, of: fn(&Sums) -> [u64; 3]| -> f64 {
        good.iter().map(|sums| u128::from(of(sums)[channel])).sum::<u128>() as f64
    };
    let mean = [0, 1, 2].map(|channel| total(channel, |sums| sums.sum) / count);
    let std = [0, 1, 2].map(|channel| {
        let square = total(channel, |sums| sums.sum_of_squares) / count;
        (square - mean[channel] * mean[channel]).max(0.0).sqrt() / 255.0
    });
    ImageStats {
        num_images,
        num_corrupt: num_images - good.len(),
        num_gray: good.iter().filter(|sums| sums.is_gray).count(),
        class_counts: class_counts(source),
        mean: mean.map(|level| level / 255.0),
        std,
        width: spread(good.iter().map(|sums| sums.width).collect()),
        height: spread(good.iter().map(|sums| sums.height).collect()),
    }
}

fn spread(mut lengths: Vec<u32>) -> Spread {
    lengths.sort_unstable();
    match lengths.as_slice() {
        [] => Spread::default(),
        all => Spread { min: all[0], median: all[(all.len() - 1) / 2], max: all[all.len() - 1] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{DataSet, EncodedImage, OpenOptions, SourceError, SourceKind};

    struct Three;

    impl ImageSource for Three {
        fn len(&self) -> usize {
            3
        }

        fn label(&self, index: usize) -> usize {
            index
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
            Ok(match index {
                0 => EncodedImage::Rgb(RgbImage::filled(2, 4, [255, 0, 0])),
                1 => EncodedImage::Rgb(RgbImage::filled(8, 1, [0, 0, 0])),
                _ => EncodedImage::File(b"?".to_vec()),
            })
        }
    }

    #[test]
    fn numbers_are_over_all_pixels_of_the_good_images() {
        let stats = stats(&Three, 2, &|_| ());
        assert_eq!((stats.num_images, stats.num_corrupt, stats.num_gray), (3, 1, 1));
        assert_eq!((stats.mean, stats.std), ([0.5, 0.0, 0.0], [0.5, 0.0, 0.0]));
        assert_eq!(stats.width, Spread { min: 2, median: 2, max: 8 });
        assert_eq!(stats.height, Spread { min: 1, median: 1, max: 4 });
        assert_eq!(stats.class_counts, [1, 1, 1]);
    }

    /// The published values for the sample are 0.2863 and 0.3539.
    #[test]
    fn the_sample_has_its_known_mean_and_spread() {
        let options = OpenOptions { kind: SourceKind::FashionMnistSample, ..OpenOptions::default() };
        let sample = DataSet::open(&options).unwrap();
        let stats = stats(sample.train.as_ref(), 0, &|_| ());
        assert!((stats.mean[0] - 0.2863).abs() < 1e-4 && (stats.std[2] - 0.3539).abs() < 1e-4, "{stats:?}");
        assert_eq!((stats.num_gray, stats.class_counts), (3000, vec![300; 10]));
    }
}

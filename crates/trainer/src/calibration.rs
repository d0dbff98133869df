//! Calibration: whether a network that is 80 % sure is right four times out of five.
//!
//! Images are put into bins by the probability of the class that was predicted; the expected calibration error is the mean distance
//! of a bin's accuracy from its confidence, weighted by its images (Guo et al., arXiv:1706.04599, equation 3, 15 bins as there).

use serde::Serialize;

/// Bins of equal width between 0 and 1.
pub const NUM_BINS: usize = 15;

/// Sums over the images seen so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    bins: [Sums; NUM_BINS],
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    num_images: u64,
    num_right: u64,
    confidence: f64,
}

/// The images whose confidence is above `lower` and at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end, 0 to 1, which belongs to the bin below.
    pub lower: f64,
    /// Upper end, 0 to 1.
    pub upper: f64,
    /// Images in it.
    pub num_images: u64,
    /// Mean probability of the predicted class; absent if there are no images.
    pub confidence: Option<f64>,
    /// Share of them whose predicted class is the right one; absent if there are none.
    pub accuracy: Option<f64>,
}

impl Calibration {
    /// Adds an image by the probability of its predicted class, 0 to 1.
    pub fn add(&mut self, confidence: f64, is_right: bool) {
        let bin = (confidence * NUM_BINS as f64).ceil() as usize;
        let sums = &mut self.bins[bin.clamp(1, NUM_BINS) - 1];
        sums.num_images += 1;
        sums.num_right += u64::from(is_right);
        sums.confidence += confidence;
    }

    /// The expected calibration error, 0 to 1; of no images it is 0.
    pub fn error(&self) -> f64 {
        let num_images: u64 = self.bins.iter().map(|bin| bin.num_images).sum();
        let distance: f64 = self.bins.iter().map(|bin| (bin.confidence - bin.num_right as f64).abs()).sum();
        distance / num_images.max(1) as f64
    }

    /// The bins from 0 to 1.
    pub fn bins(&self) -> Vec<Bin> {
        let bin = |(index, sums): (usize, &Sums)| {
            let mean = |sum: f64| (sums.num_images > 0).then(|| sum / sums.num_images as f64);
            Bin {
                lower: index as f64 / NUM_BINS as f64,
                upper: (index + 1) as f64 / NUM_BINS as f64,
                num_images: sums.num_images,
                confidence: mean(sums.confidence),
                accuracy: mean(sums.num_right as f64),
            }
        };
        self.bins.iter().enumerate().map(bin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_a_count_by_hand() {
        let mut calibration = Calibration::default();
        for (confidence, is_right) in [(0.95, true), (0.97, true), (0.99, false), (0.5, true), (0.51, false)] {
            calibration.add(confidence, is_right);
        }
        // The last bin: confidence 0.97, accuracy 2/3, 3 images; the eighth: 0.505 and 1/2, 2 images.
        let expected = 3.0 / 5.0 * (0.97 - 2.0 / 3.0) + 2.0 / 5.0 * 0.005;
        assert!((calibration.error() - expected).abs() < 1e-12, "{}", calibration.error());
        let bins = calibration.bins();
        assert_eq!(bins.iter().map(|bin| bin.num_images).collect::<Vec<_>>()[6..], [0, 2, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bins[7].accuracy, Some(0.5));
        assert_eq!(bins[0].confidence, None);
    }

    #[test]
    fn a_bin_holds_its_upper_end_and_not_its_lower() {
        let mut calibration = Calibration::default();
        for confidence in [0.0, 0.2, 1.0] {
            calibration.add(confidence, true);
        }
        let counts: Vec<u64> = calibration.bins().iter().map(|bin| bin.num_images).collect();
        assert_eq!((counts[0], counts[2], counts[14]), (1, 1, 1), "{counts:?}");
    }

    #[test]
    fn of_nothing_there_is_no_error() {
        assert_eq!(Calibration::default().error(), 0.0);
    }
}

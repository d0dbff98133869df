//! Random erasing, arXiv:1708.04896, as timm does it (`timm.data.random_erasing`, version 1.0.31): a box of the *normalised* image is
//! painted over, so that 0 is the mean colour and noise is that of the standard normal distribution, whatever a recipe normalises with.
//!
//! Normalisation is not this crate's: it draws the box and its paint, and who normalises paints.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::random::{below, uniform, unit};

/// How often a box is erased, of what size and shape, and what is painted there.
///
/// Up to ten times an area and a shape are drawn; if none fits, nothing is erased. Draws: whether; per try area, logarithm of the
/// shape, and for the one that fits top, left, and its colours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// How often, 0 to 1.
    pub probability: f64,
    /// Smallest and largest part of the picture's area.
    pub area: [f64; 2],
    /// Smallest and largest height divided by width, drawn evenly in the logarithm.
    pub ratio: [f64; 2],
    /// What the box is filled with.
    pub mode: EraseMode,
}

impl Default for RandomErasing {
    /// Those of timm's training script but for the probability, which it leaves at 0, that is, off.
    fn default() -> Self {
        Self { probability: 0.25, area: [0.02, 1.0 / 3.0], ratio: [0.3, 1.0 / 0.3], mode: EraseMode::Const }
    }
}

/// What an erased box is filled with, by timm's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseMode {
    /// The mean colour.
    #[default]
    Const,
    /// One normally distributed colour.
    Rand,
    /// A normally distributed colour of its own for each pixel.
    Pixel,
}

/// A box of a normalised image and what is painted over it. Its numbers are pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasure {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Normalised colours: one for each pixel, row by row, or a single one for all of them.
    pub colors: Vec<[f32; 3]>,
}

impl Erasure {
    /// Colours from one row to the next, and from one column to the next, in [`colors`](Self::colors).
    pub fn strides(&self) -> [usize; 2] {
        if self.colors.len() == 1 { [0, 0] } else { [self.width as usize, 1] }
    }

    /// The colour in a row and a column of the box.
    pub fn color(&self, row: u32, column: u32) -> [f32; 3] {
        let [rows, columns] = self.strides();
        self.colors[row as usize * rows + column as usize * columns]
    }
}

/// Boxes that are tried before a picture is left as it is.
const TRIES: usize = 10;

impl RandomErasing {
    /// What becomes of one picture of `width` x `height` pixels.
    pub(crate) fn draw(&self, width: u32, height: u32, rng: &mut ChaCha8Rng) -> Option<Erasure> {
        if unit(rng) >= self.probability {
            return None;
        }
        let whole = f64::from(width) * f64::from(height);
        for _ in 0..TRIES {
            let target = whole * uniform(rng, self.area[0], self.area[1]);
            let aspect = uniform(rng, self.ratio[0].ln(), self.ratio[1].ln()).exp();
            // Python's round(): halves to the even number.
            let h = (target * aspect).sqrt().round_ties_even();
            let w = (target / aspect).sqrt().round_ties_even();
            if w >= f64::from(width) || h >= f64::from(height) {
                continue;
            }
            let (w, h) = (w as u32, h as u32);
            let top = below(rng, u64::from(height - h) + 1) as u32;
            let left = below(rng, u64::from(width - w) + 1) as u32;
            let colors = match self.mode {
                EraseMode::Const => vec![[0.0; 3]],
                EraseMode::Rand => vec![normal_color(rng)],
                EraseMode::Pixel => (0..w * h).map(|_| normal_color(rng)).collect(),
            };
            // A small part of a small picture may round to nothing.
            return (w * h > 0).then_some(Erasure { top, left, height: h, width: w, colors });
        }
        None
    }
}

/// By the ziggurat method: there are thousands of them in a picture, and [`normal`](crate::random::normal) takes two transcendental
/// functions for each number.
fn normal_color(rng: &mut ChaCha8Rng) -> [f32; 3] {
    std::array::from_fn(|_| StandardNormal.sample(rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    const ALWAYS: RandomErasing =
        RandomErasing { probability: 1.0, area: [0.02, 1.0 / 3.0], ratio: [0.3, 1.0 / 0.3], mode: EraseMode::Const };

    #[test]
    fn boxes_of_the_asked_size_and_shape_lie_anywhere_inside() {
        let mut places = std::collections::BTreeSet::new();
        for number in 0..200 {
            let erasure = ALWAYS.draw(60, 40, &mut stream("test", &[number])).unwrap();
            let Erasure { top, left, height, width, ref colors } = erasure;
            assert!(left + width <= 60 && top + height <= 40);
            assert_eq!(*colors, [[0.0; 3]], "the mean colour");
            let share = f64::from(width * height) / 2400.0;
            assert!((0.015..0.36).contains(&share), "{share}");
            assert!((0.25..4.0).contains(&(f64::from(height) / f64::from(width))));
            places.insert((left, top));
        }
        assert!(places.len() > 150, "boxes lie anywhere");
    }

    #[test]
    fn as_many_pictures_are_erased_as_are_asked_for() {
        let mut rng = stream("test", &[8]);
        let quarter = RandomErasing::default();
        let erased = (0..4000).filter(|_| quarter.draw(32, 32, &mut rng).is_some()).count();
        // Four standard deviations: 4 * sqrt(4000 * 1/4 * 3/4) = 110.
        assert!(erased.abs_diff(1000) < 110, "{erased}");
        let never = RandomErasing { probability: 0.0, ..ALWAYS };
        assert!((0..100).all(|_| never.draw(32, 32, &mut rng).is_none()));
    }

    #[test]
    fn noise_is_that_of_the_standard_normal_distribution() {
        let erasing = RandomErasing { mode: EraseMode::Pixel, area: [0.5, 0.5], ..ALWAYS };
        let erasure = erasing.draw(200, 200, &mut stream("test", &[1])).unwrap();
        assert_eq!(erasure.colors.len() as u32, erasure.width * erasure.height);
        let count = erasure.colors.len() as f64;
        for channel in 0..3 {
            let moment = |power: i32| {
                erasure.colors.iter().map(|color| f64::from(color[channel]).powi(power)).sum::<f64>() / count
            };
            // Five standard deviations of each mean: the variances of x, x² and x⁴ are 1, 2 and 96.
            for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0_f64)] {
                let found = moment(power);
                assert!((found - expected).abs() < 5.0 * (variance / count).sqrt(), "moment {power}: {found}");
            }
        }
        let first = erasure.color(0, 0);
        assert!(erasure.colors[1..].iter().all(|color| *color != first), "every pixel has a colour of its own");
        let erasing = RandomErasing { mode: EraseMode::Rand, ..erasing };
        let erasure = erasing.draw(200, 200, &mut stream("test", &[1])).unwrap();
        assert_eq!(erasure.colors.len(), 1);
        assert_ne!(erasure.color(3, 4), [0.0; 3]);
    }

    /// A changed stream would silently change every run that is resumed with a newer build.
    #[test]
    fn the_draws_are_frozen() {
        let erasing = RandomErasing { mode: EraseMode::Pixel, ..ALWAYS };
        let Erasure { top, left, height, width, colors } = erasing.draw(60, 40, &mut stream("test", &[3])).unwrap();
        assert_eq!([top, left, height, width], [0, 27, 18, 6]);
        assert_eq!(colors[0], [1.2017426, 0.27880484, 0.102592975]);
    }

    #[test]
    fn a_picture_that_no_box_fits_is_left_alone() {
        let erasing = RandomErasing { area: [0.5, 1.0], ratio: [1.0, 1.0], ..ALWAYS };
        assert_eq!(erasing.draw(1, 1, &mut stream("test", &[])), None);
    }
}

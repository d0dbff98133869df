//! 3-Augment, the simple augmentation of DeiT III, arXiv:2204.07118.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::blur::gaussian_blur;
use crate::augment::levels::solarize;
use crate::color_jitter::gray;
use crate::image::RgbImage;
use crate::random::{below, uniform};

/// One of three changes, each alike likely: gray, solarized, blurred.
///
/// timm's `3a`. The paper's colour jitter is a transform of its own that follows:
/// `{ three_augment = {} }, { color_jitter = { brightness = 0.3, contrast = 0.3, saturation = 0.3 } }`.
///
/// Draws: which; the radius of a blur.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreeAugment {
    /// The lowest level that is inverted, 0 to 255.
    pub solarize_threshold: u8,
    /// Smallest and largest radius of the blur: the Gaussian's standard deviation in pixels.
    pub blur_radius: [f64; 2],
}

impl Default for ThreeAugment {
    fn default() -> Self {
        Self { solarize_threshold: 128, blur_radius: [0.1, 2.0] }
    }
}

impl ThreeAugment {
    pub(crate) fn apply(&self, mut image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        match below(rng, 3) {
            0 => gray(&mut image),
            1 => solarize(&mut image, self.solarize_threshold.into()),
            _ => return gaussian_blur(&image, uniform(rng, self.blur_radius[0], self.blur_radius[1]) as f32),
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::picture;
    use crate::random::stream;

    #[test]
    fn a_third_of_the_pictures_is_gray_a_third_solarized_and_a_third_blurred() {
        let image = picture(16, 9);
        let mut solarized = image.clone();
        solarize(&mut solarized, 128.0);
        let mut rng = stream("test", &[15]);
        let mut counts = [0; 3];
        for _ in 0..900 {
            let changed = ThreeAugment::default().apply(image.clone(), &mut rng);
            let which = if changed.is_gray() { 0 } else { 1 + usize::from(changed != solarized) };
            counts[which] += 1;
        }
        // Four standard deviations: 4 * sqrt(900 * 1/3 * 2/3) = 57.
        assert!(counts.iter().all(|&count: &i32| (count - 300).abs() < 57), "{counts:?}");
    }
}

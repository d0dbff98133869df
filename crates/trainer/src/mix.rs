//! Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899), one draw for the whole batch, with timm's meaning: image `i` is
//! mixed with image `n − 1 − i`, and CutMix corrects its share by the area that the box really covers.

use burn::tensor::{Tensor, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

/// What may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixPolicy {
    /// Both parameters of Mixup's Beta distribution; 0 is no Mixup.
    pub mixup_alpha: f64,
    /// Both parameters of CutMix's Beta distribution; 0 is no CutMix.
    pub cutmix_alpha: f64,
    /// Probability that a batch is mixed at all.
    pub probability: f64,
    /// Probability of CutMix where both are on.
    pub switch_probability: f64,
}

/// A box of pixels, `top..bottom` by `left..right`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBox {
    /// First row.
    pub top: usize,
    /// Row after the last.
    pub bottom: usize,
    /// First column.
    pub left: usize,
    /// Column after the last.
    pub right: usize,
}

/// One draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Images stay as they are.
    None,
    /// `image · share + partner · (1 − share)`.
    Mixup {
        /// Share of the image itself.
        share: f64,
    },
    /// The partner's pixels in a box.
    CutMix {
        /// The box.
        pixels: PixelBox,
        /// Share of the image that the box leaves.
        share: f64,
    },
}

impl MixPolicy {
    /// Draws for a batch of images of `height`×`width` pixels.
    pub fn draw(&self, height: usize, width: usize, random: &mut ChaCha8Rng) -> Mix {
        if self.mixup_alpha <= 0.0 && self.cutmix_alpha <= 0.0 || random.random::<f64>() >= self.probability {
            return Mix::None;
        }
        let cut =
            self.cutmix_alpha > 0.0 && (self.mixup_alpha <= 0.0 || random.random::<f64>() < self.switch_probability);
        let alpha = if cut { self.cutmix_alpha } else { self.mixup_alpha };
        // The recipe's check keeps alpha finite and positive; a distribution that cannot be built mixes nothing.
        let share = Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(random));
        if !cut {
            return Mix::Mixup { share };
        }
        let ratio = (1.0 - share).sqrt();
        let (cut_height, cut_width) = ((height as f64 * ratio) as usize, (width as f64 * ratio) as usize);
        let (center_y, center_x) = (random.random_range(0..height), random.random_range(0..width));
        Mix::cut(
            PixelBox {
                top: center_y.saturating_sub(cut_height / 2),
                bottom: (center_y + cut_height / 2).min(height),
                left: center_x.saturating_sub(cut_width / 2),
                right: (center_x + cut_width / 2).min(width),
            },
            height,
            width,
        )
    }
}

impl Mix {
    /// CutMix of a box, with the share corrected to its area.
    pub fn cut(pixels: PixelBox, height: usize, width: usize) -> Self {
        let area = (pixels.bottom - pixels.top) * (pixels.right - pixels.left);
        Self::CutMix { pixels, share: 1.0 - area as f64 / (height * width) as f64 }
    }

    /// Mixes a batch with its reverse.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, output the same
    /// - `targets`: `[batch, num_classes]`, output the same
    pub fn apply(self, images: Tensor<4>, targets: Tensor<2>) -> (Tensor<4>, Tensor<2>) {
        let blend_targets = |share: f64| {
            let partner = targets.clone().flip([0]);
            targets.clone().mul_scalar(share) + partner.mul_scalar(1.0 - share)
        };
        match self {
            Self::None => (images, targets),
            Self::Mixup { share } => {
                let targets = blend_targets(share);
                let partner = images.clone().flip([0]);
                (images.mul_scalar(share) + partner.mul_scalar(1.0 - share), targets)
            }
            Self::CutMix { pixels: PixelBox { top, bottom, left, right }, share } => {
                let targets = blend_targets(share);
                if top == bottom || left == right {
                    return (images, targets);
                }
                let partner = images.clone().flip([0]).slice(s![.., .., top..bottom, left..right]);
                (images.slice_assign(s![.., .., top..bottom, left..right], partner), targets)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const BOTH: MixPolicy =
        MixPolicy { mixup_alpha: 0.8, cutmix_alpha: 1.0, probability: 0.9, switch_probability: 0.5 };

    #[test]
    fn draws_follow_the_probabilities_and_boxes_stay_inside() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let (mut none, mut mixup, mut cutmix) = (0, 0, 0);
        for _ in 0..10_000 {
            match BOTH.draw(24, 32, &mut random) {
                Mix::None => none += 1,
                Mix::Mixup { share } => {
                    assert!((0.0..=1.0).contains(&share));
                    mixup += 1;
                }
                Mix::CutMix { pixels, share } => {
                    assert!(pixels.top <= pixels.bottom && pixels.bottom <= 24);
                    assert!(pixels.left <= pixels.right && pixels.right <= 32);
                    assert!((0.0..=1.0).contains(&share));
                    cutmix += 1;
                }
            }
        }
        assert!((900..1100).contains(&none), "{none}");
        assert!((4300..4700).contains(&mixup), "{mixup}");
        assert!((4300..4700).contains(&cutmix), "{cutmix}");
    }

    #[test]
    fn one_of_the_two_alone_is_the_only_one_drawn() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..100 {
            let mixup = MixPolicy { cutmix_alpha: 0.0, probability: 1.0, ..BOTH };
            assert!(matches!(mixup.draw(8, 8, &mut random), Mix::Mixup { .. }));
            let cutmix = MixPolicy { mixup_alpha: 0.0, probability: 1.0, ..BOTH };
            assert!(matches!(cutmix.draw(8, 8, &mut random), Mix::CutMix { .. }));
            let neither = MixPolicy { mixup_alpha: 0.0, cutmix_alpha: 0.0, ..BOTH };
            assert_eq!(neither.draw(8, 8, &mut random), Mix::None);
        }
    }
}

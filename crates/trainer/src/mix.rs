//! Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899) with timm's meaning: image `i` is mixed with image `n − 1 − i`, by a draw
//! of the batch, of the pair or of its own, and CutMix corrects its share by the area that the box really covers.

use burn::tensor::{Device, Tensor, TensorData, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

/// What may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixPolicy {
    /// Both parameters of Mixup's Beta distribution; 0 is no Mixup.
    pub mixup_alpha: f64,
    /// Both parameters of CutMix's Beta distribution; 0 is no CutMix.
    pub cutmix_alpha: f64,
    /// Probability that what shares a draw is mixed at all.
    pub probability: f64,
    /// Probability of CutMix where both are on.
    pub switch_probability: f64,
    /// What shares a draw.
    pub mode: MixMode,
}

/// What shares a draw, by timm's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixMode {
    /// All images of a batch.
    #[default]
    Batch,
    /// An image and its partner.
    Pair,
    /// Nothing: each image has its own.
    Elem,
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

/// The draws of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchMix {
    /// One for all images.
    Whole(Mix),
    /// One for each image.
    Each(Vec<Mix>),
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
    /// Draws for `batch_size` images of `height`×`width` pixels.
    pub fn draw_batch(&self, batch_size: usize, height: usize, width: usize, random: &mut ChaCha8Rng) -> BatchMix {
        let mut draw = || self.draw(height, width, random);
        match self.mode {
            MixMode::Batch => BatchMix::Whole(draw()),
            MixMode::Elem => BatchMix::Each((0..batch_size).map(|_| draw()).collect()),
            MixMode::Pair => {
                let mut mixes: Vec<Mix> = (0..batch_size / 2).map(|_| draw()).collect();
                // The image in the middle of an odd number is its own partner.
                mixes.resize(batch_size - batch_size / 2, Mix::None);
                mixes.extend_from_within(..batch_size / 2);
                mixes[batch_size - batch_size / 2..].reverse();
                BatchMix::Each(mixes)
            }
        }
    }

    /// One draw for images of `height`×`width` pixels.
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

    /// Share of the image itself in its target.
    fn share(self) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Mixup { share } | Self::CutMix { share, .. } => share,
        }
    }

    /// Writes the share of the image itself in each of its pixels.
    ///
    /// # Shapes
    /// - `shares`: `[height, width]`, all 1 before
    fn write_shares(self, shares: &mut [f32], width: usize) {
        match self {
            Self::None => {}
            Self::Mixup { share } => shares.fill(share as f32),
            Self::CutMix { pixels: PixelBox { top, bottom, left, right }, .. } => {
                for row in shares.chunks_exact_mut(width).take(bottom).skip(top) {
                    row[left..right].fill(0.0);
                }
            }
        }
    }

    /// Mixes a batch with its reverse.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, output the same
    /// - `targets`: `[batch, num_classes]`, output the same
    fn apply(self, images: Tensor<4>, targets: Tensor<2>) -> (Tensor<4>, Tensor<2>) {
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

impl BatchMix {
    /// Mixes a batch with its reverse.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, output the same
    /// - `targets`: `[batch, num_classes]`, output the same
    pub fn apply(self, images: Tensor<4>, targets: Tensor<2>) -> (Tensor<4>, Tensor<2>) {
        let mixes = match self {
            Self::Whole(mix) => return mix.apply(images, targets),
            Self::Each(mixes) if mixes.iter().all(|mix| *mix == Mix::None) => return (images, targets),
            Self::Each(mixes) => mixes,
        };
        let [batch, _, height, width] = images.dims();
        let mut pixel_shares = vec![1.0; batch * height * width];
        for (shares, mix) in pixel_shares.chunks_exact_mut(height * width).zip(&mixes) {
            mix.write_shares(shares, width);
        }
        let device = images.device();
        let pixel_shares: Tensor<4> = upload(pixel_shares, [batch, 1, height, width], &device);
        let target_shares = mixes.iter().map(|mix| mix.share() as f32).collect();
        let target_shares: Tensor<2> = upload(target_shares, [batch, 1], &device);
        (blend(images, pixel_shares), blend(targets, target_shares))
    }
}

fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `own · share + partner · (1 − share)`; a share of 1 leaves a finite value as it is, to the bit.
fn blend<const D: usize>(own: Tensor<D>, share: Tensor<D>) -> Tensor<D> {
    let partner = own.clone().flip([0]);
    own * share.clone() + partner * (share.neg() + 1.0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const BOTH: MixPolicy = MixPolicy {
        mixup_alpha: 0.8,
        cutmix_alpha: 1.0,
        probability: 0.9,
        switch_probability: 0.5,
        mode: MixMode::Batch,
    };

    #[test]
    fn a_batch_a_pair_or_an_image_has_a_draw() {
        let draw = |mode, batch_size| {
            let mut random = ChaCha8Rng::seed_from_u64(0);
            MixPolicy { mode, probability: 1.0, ..BOTH }.draw_batch(batch_size, 16, 16, &mut random)
        };
        assert!(matches!(draw(MixMode::Batch, 6), BatchMix::Whole(_)));
        let BatchMix::Each(pairs) = draw(MixMode::Pair, 7) else { panic!("a draw for each image") };
        assert_eq!(pairs.len(), 7);
        assert!((0..3).all(|image| pairs[image] == pairs[6 - image] && pairs[image] != Mix::None));
        assert_eq!(pairs[3], Mix::None, "an image is not mixed with itself");
        assert_ne!(pairs[0], pairs[1]);
        let BatchMix::Each(elements) = draw(MixMode::Elem, 6) else { panic!("a draw for each image") };
        assert!((0..3).all(|image| elements[image] != elements[5 - image]));
    }

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

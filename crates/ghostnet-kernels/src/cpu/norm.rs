//! Batch norm in pieces: the sums that a layer gathers while its values are in cache, and what follows from them.

use std::ops::Range;

use crate::cpu::rows::{Affine, View, load, store};
use crate::cpu::simd::Simd;

/// Sums over the pixels of a group, for mean and variance.
///
/// Values are taken relative to the group's first pixel, which keeps the sum of squares small where a channel's mean is large.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    count: usize,
    pivot: Vec<f32>,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    pub(crate) fn new(channels: usize) -> Self {
        Self { count: 0, pivot: vec![0.0; channels], sum: vec![0.0; channels], squares: vec![0.0; channels] }
    }

    /// Adds `count` pixels from `first` on.
    ///
    /// # Safety
    /// The pixels exist and are not being written.
    #[inline(always)]
    pub(crate) unsafe fn add<S: Simd>(&mut self, z: View, first: usize, count: usize) {
        let channels = z.channels;
        assert!(channels == self.pivot.len() && S::LANES <= 16);
        let mut channel = 0;
        while channel < channels {
            let left = channels - channel;
            // SAFETY: pointers stay within a pixel's channels, and the arrays hold a vector.
            let (sum, squares) = unsafe {
                let from = z.pixel(first).add(channel);
                if self.count == 0 {
                    store::<S>(self.pivot.as_mut_ptr().add(channel), left, load::<S>(from, left));
                }
                let pivot = load::<S>(self.pivot.as_ptr().add(channel), left);
                // Two of each, for an addition not to wait for the one before.
                let mut sums = [S::splat(0.0); 2];
                let mut squares = [S::splat(0.0); 2];
                let mut pixel = 0;
                while pixel + 2 <= count {
                    for chain in 0..2 {
                        let value = S::sub(load::<S>(from.add((pixel + chain) * z.stride), left), pivot);
                        sums[chain] = S::add(sums[chain], value);
                        squares[chain] = S::mul_add(value, value, squares[chain]);
                    }
                    pixel += 2;
                }
                if pixel < count {
                    let value = S::sub(load::<S>(from.add(pixel * z.stride), left), pivot);
                    sums[0] = S::add(sums[0], value);
                    squares[0] = S::mul_add(value, value, squares[0]);
                }
                let mut out = [[0f32; 16]; 2];
                S::store(out[0].as_mut_ptr(), S::add(sums[0], sums[1]));
                S::store(out[1].as_mut_ptr(), S::add(squares[0], squares[1]));
                (out[0], out[1])
            };
            for lane in 0..left.min(S::LANES) {
                self.sum[channel + lane] += f64::from(sum[lane]);
                self.squares[channel + lane] += f64::from(squares[lane]);
            }
            channel += S::LANES;
        }
        self.count += count;
    }
}

/// Statistics of a map's channels, and the affine map that they make of its norm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Norm {
    pub(crate) mean: Vec<f32>,
    /// Biased.
    pub(crate) variance: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`.
    inverse: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// Whether the statistics are running ones, which do not depend on the map.
    fixed: Vec<bool>,
}

/// A map before its norm, and what stands between it and the reader: the norm, and a ReLU or none.
#[derive(Clone, Copy)]
pub(crate) struct Normed<'a> {
    pub(crate) z: View,
    pub(crate) mean: &'a [f32],
    pub(crate) affine: Affine<'a>,
    pub(crate) relu: bool,
}

impl Norm {
    pub(crate) fn new(channels: usize) -> Self {
        let zeros = || vec![0.0; channels];
        Self {
            mean: zeros(),
            variance: zeros(),
            inverse: zeros(),
            scale: zeros(),
            shift: zeros(),
            fixed: vec![false; channels],
        }
    }

    /// Sets the channels from `start` on by the sums of all groups.
    pub(crate) fn set(&mut self, start: usize, groups: &[Moments], parameters: &NormParameters) {
        for channel in 0..parameters.weight.len() {
            // Chan, Golub, LeVeque: sums about each group's own pivot to moments about the common mean.
            let (mut count, mut mean, mut deviations) = (0.0, 0.0, 0.0);
            for group in groups.iter().filter(|group| group.count > 0) {
                let group_count = group.count as f64;
                let offset = group.sum[channel] / group_count;
                let group_mean = f64::from(group.pivot[channel]) + offset;
                let group_deviations = group.squares[channel] - group.sum[channel] * offset;
                let delta = group_mean - mean;
                let total = count + group_count;
                mean += delta * group_count / total;
                deviations += group_deviations + delta * delta * count * group_count / total;
                count = total;
            }
            // Rounding can leave a constant channel a hair below zero; NaN stays NaN.
            let variance = deviations / count;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            self.set_channel(start + channel, mean, variance, channel, parameters);
        }
    }

    /// Sets all channels by running statistics.
    pub(crate) fn set_running(&mut self, start: usize, mean: &[f32], variance: &[f32], parameters: &NormParameters) {
        for channel in 0..parameters.weight.len() {
            let (mean, variance) = (f64::from(mean[channel]), f64::from(variance[channel]));
            self.set_channel(start + channel, mean, variance, channel, parameters);
            self.fixed[start + channel] = true;
        }
    }

    fn set_channel(&mut self, at: usize, mean: f64, variance: f64, channel: usize, parameters: &NormParameters) {
        let inverse = 1.0 / (variance + parameters.epsilon).sqrt();
        let scale = f64::from(parameters.weight[channel]) * inverse;
        self.mean[at] = mean as f32;
        self.variance[at] = variance as f32;
        self.inverse[at] = inverse as f32;
        self.scale[at] = scale as f32;
        self.shift[at] = (f64::from(parameters.bias[channel]) - mean * scale) as f32;
    }
}

/// Weight and bias of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormParameters<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f64,
}

/// Sums over the pixels of a group, for the gradient of a norm: with `g` the gradient behind the norm, the sums of `g` and of
/// `g · (z − mean)`.
#[derive(Clone, Debug)]
pub(crate) struct GradientSums {
    pub(crate) plain: Vec<f64>,
    pub(crate) weighted: Vec<f64>,
}

impl GradientSums {
    pub(crate) fn new(channels: usize) -> Self {
        Self { plain: vec![0.0; channels], weighted: vec![0.0; channels] }
    }

    /// Adds `count` pixels from `first` on of the gradient `dy` behind the activation.
    ///
    /// # Safety
    /// The pixels exist and are not being written.
    #[inline(always)]
    pub(crate) unsafe fn add<S: Simd>(&mut self, dy: View, map: &Normed, first: usize, count: usize) {
        let channels = map.z.channels;
        assert!(
            channels == self.plain.len() && dy.channels == channels && map.mean.len() == channels && S::LANES <= 16
        );
        let mut channel = 0;
        while channel < channels {
            let left = channels - channel;
            // SAFETY: pointers stay within a pixel's channels, and the arrays hold a vector.
            let (plain, weighted) = unsafe {
                let scale = load::<S>(map.affine.scale.as_ptr().add(channel), left);
                let shift = load::<S>(map.affine.shift.as_ptr().add(channel), left);
                let mean = load::<S>(map.mean.as_ptr().add(channel), left);
                let mut plain = S::splat(0.0);
                let mut weighted = S::splat(0.0);
                for pixel in first..first + count {
                    let z = load::<S>(map.z.pixel(pixel).add(channel), left);
                    let mut g = load::<S>(dy.pixel(pixel).add(channel), left);
                    if map.relu {
                        g = S::where_positive(S::mul_add(z, scale, shift), g);
                    }
                    plain = S::add(plain, g);
                    weighted = S::mul_add(g, S::sub(z, mean), weighted);
                }
                let mut out = [[0f32; 16]; 2];
                S::store(out[0].as_mut_ptr(), plain);
                S::store(out[1].as_mut_ptr(), weighted);
                (out[0], out[1])
            };
            for lane in 0..left.min(S::LANES) {
                self.plain[channel + lane] += f64::from(plain[lane]);
                self.weighted[channel + lane] += f64::from(weighted[lane]);
            }
            channel += S::LANES;
        }
    }

    /// Adds another group's.
    pub(crate) fn merge(&mut self, other: &Self) {
        for channel in 0..self.plain.len() {
            self.plain[channel] += other.plain[channel];
            self.weighted[channel] += other.weighted[channel];
        }
    }

    /// Some of the channels.
    pub(crate) fn narrow(&self, channels: Range<usize>) -> Self {
        Self { plain: self.plain[channels.clone()].to_vec(), weighted: self.weighted[channels].to_vec() }
    }
}

/// What the sums make of a norm's gradient.
#[derive(Clone, Debug)]
pub(crate) struct NormGradient {
    /// With `g` the gradient behind the norm, the one before it is `scale · g + slope · z + offset`.
    pub(crate) slope: Vec<f32>,
    pub(crate) offset: Vec<f32>,
    /// Of the norm's weight.
    pub(crate) weight: Vec<f32>,
    /// Of the norm's bias.
    pub(crate) bias: Vec<f32>,
}

impl Norm {
    /// The affine map of some channels.
    pub(crate) fn affine(&self, channels: Range<usize>) -> Affine<'_> {
        Affine { scale: &self.scale[channels.clone()], shift: &self.shift[channels] }
    }

    /// Some channels together with the map that they belong to.
    pub(crate) fn of(&self, z: View, channels: Range<usize>, relu: bool) -> Normed<'_> {
        Normed { z, mean: &self.mean[channels.clone()], affine: self.affine(channels), relu }
    }

    /// Gradient coefficients of the channels from `start` on, as many as `sums` has; `count` is the number of pixels.
    pub(crate) fn gradient(&self, start: usize, sums: &GradientSums, count: usize) -> NormGradient {
        let channels = sums.plain.len();
        let mut gradient = NormGradient {
            slope: Vec::with_capacity(channels),
            offset: Vec::with_capacity(channels),
            weight: Vec::with_capacity(channels),
            bias: Vec::with_capacity(channels),
        };
        let count = count as f64;
        for channel in 0..channels {
            let at = start + channel;
            let (scale, inverse) = (f64::from(self.scale[at]), f64::from(self.inverse[at]));
            let weight = inverse * sums.weighted[channel];
            // What the mean and the variance hand back, if the map made them.
            let (slope, offset) = if self.fixed[at] {
                (0.0, 0.0)
            } else {
                let slope = -scale * inverse * weight / count;
                (slope, -scale * sums.plain[channel] / count - slope * f64::from(self.mean[at]))
            };
            gradient.slope.push(slope as f32);
            gradient.offset.push(offset as f32);
            gradient.weight.push(weight as f32);
            gradient.bias.push(sums.plain[channel] as f32);
        }
        gradient
    }
}

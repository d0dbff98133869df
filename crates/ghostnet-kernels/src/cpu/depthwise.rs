//! Depthwise convolutions, row by row of an image: a few rows, normed and activated, lie in cache with a border of zeros, and
//! the kernel slides over them for a vector of channels at a time.

use std::ops::Range;

use crate::cpu::matmul::{BiasRelu, Finish};
use crate::cpu::norm::Moments;
use crate::cpu::parallel::{groups, map, with_scratch};
use crate::cpu::pointwise::{ConvGradients, Gathered, InputGradient, merge};
use crate::cpu::rows::{Gradient, Source, View, load, store};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// Pixels of a row that are worked on together.
const TILE: usize = 4;

/// A depthwise convolution with a square odd kernel, padded by half of it.
#[derive(Clone, Copy)]
pub(crate) struct Depthwise<'a> {
    pub(crate) set: InstructionSet,
    /// `[channels, kernel, kernel]`.
    pub(crate) weights: &'a [f32],
    pub(crate) channels: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) batch: usize,
    /// Height and width of the input.
    pub(crate) size: [usize; 2],
}

/// Weights `[channels, kernel, kernel]` as `[kernel · kernel, padded channels]`, channels rounded up to whole vectors of the widest
/// kind.
pub(crate) fn taps(weights: &[f32], channels: usize, kernel: usize) -> Vec<f32> {
    let (area, padded) = (kernel * kernel, channels.next_multiple_of(16));
    assert!(weights.len() == channels * area);
    let mut taps = vec![0.0; area * padded];
    for channel in 0..channels {
        for tap in 0..area {
            taps[tap * padded + channel] = weights[channel * area + tap];
        }
    }
    taps
}

impl Depthwise<'_> {
    /// Height and width of the output.
    pub(crate) fn out_size(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(self.stride))
    }

    fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Channels rounded up to whole vectors of the widest kind.
    fn padded_channels(&self) -> usize {
        self.channels.next_multiple_of(16)
    }

    /// Columns of a row with its border.
    fn padded_width(&self) -> usize {
        // The last tile may reach beyond the row.
        self.size[1] + 2 * self.padding() + TILE * self.stride
    }

    fn taps(&self) -> Vec<f32> {
        taps(self.weights, self.channels, self.kernel)
    }

    /// What the kernels rely on: rows in scratch memory are as wide as the convolution says.
    fn check(&self, input: &Source) {
        let gate = input.gate.map_or(self.batch * self.channels, <[f32]>::len);
        assert!(input.z.channels == self.channels);
        assert!(gate == self.batch * self.channels && self.kernel % 2 == 1 && self.stride > 0);
    }

    /// Rows of an image of which a group has at least so many that its border costs little.
    fn least_rows(&self) -> usize {
        4 * self.kernel
    }

    /// Writes the output and returns the sums for its norm, one for each group of rows.
    pub(crate) fn forward(&self, input: &Source, to: View) -> Vec<Moments> {
        let taps = self.taps();
        let taps = Taps { values: &taps, row: self.padded_channels() };
        let groups = groups(self.batch * self.out_size()[0], 1, self.least_rows(), 64);
        map(&groups, |rows| self.forward_rows(input, taps, (), rows, to))
    }

    /// Writes some rows of the output, counted over all images, and returns what the finish gathers over them.
    pub(crate) fn forward_rows<F: RowFinish>(
        &self,
        input: &Source,
        taps: Taps,
        finish: F,
        rows: Range<usize>,
        to: View,
    ) -> F::Gathered {
        self.check(input);
        let [height, _] = self.out_size();
        let padded = self.padded_channels();
        assert!(to.channels == self.channels && rows.end <= self.batch * height && padded <= taps.row);
        assert!(taps.values.len() >= (self.kernel * self.kernel - 1) * taps.row + padded);
        with_scratch([self.padded_width() * padded * (self.kernel + 1)], |[ring]| {
            dispatch(self.set, Forward { conv: self, input, taps, finish, to, first: rows.start, end: rows.end, ring })
        })
    }

    /// Gradients of the weights and, if it is wanted, of the input; `gradient` is that of the output.
    pub(crate) fn backward(&self, input: &Source, gradient: &Gradient, wanted: Option<InputGradient>) -> ConvGradients {
        self.check(input);
        let written = wanted.map_or(self.channels, |wanted| wanted.to.channels);
        assert!(gradient.z.channels == self.channels && written == self.channels);
        let taps = self.taps();
        let groups = groups(self.batch * self.size[0], 1, self.least_rows(), 64);
        let mut gradients = merge(map(&groups, |rows| {
            let row = self.padded_width() * self.padded_channels();
            with_scratch([row * (self.kernel + 1), row], |[ring, x]| {
                dispatch(
                    self.set,
                    Backward {
                        conv: self,
                        input,
                        gradient,
                        wanted,
                        taps: &taps,
                        first: rows.start,
                        end: rows.end,
                        ring,
                        x,
                    },
                )
            })
        }));
        // `[kernel · kernel, padded channels]` to the weights' own layout.
        let (area, padded) = (self.kernel * self.kernel, self.padded_channels());
        let by_tap = std::mem::take(&mut gradients.weights);
        gradients.weights = (0..self.channels * area).map(|at| by_tap[at % area * padded + at / area]).collect();
        gradients
    }
}

/// The last few rows of an image, and a row of zeros for those above and below it.
struct Ring {
    data: *mut f32,
    row: usize,
    slots: usize,
    /// Rows of the present image from here on are not loaded yet.
    next: usize,
}

impl Ring {
    /// Zeroes all of `data`, `slots` rows of `row` floats and one more.
    fn new(data: &mut [f32], slots: usize, row: usize) -> Self {
        assert!(data.len() >= (slots + 1) * row);
        data.fill(0.0);
        Self { data: data.as_mut_ptr(), row, slots, next: 0 }
    }

    fn slot(&self, row: usize) -> *mut f32 {
        self.data.wrapping_add(row % self.slots * self.row)
    }

    fn zeros(&self) -> *const f32 {
        self.data.wrapping_add(self.slots * self.row)
    }
}

/// Weights by tap and channel, `[kernel · kernel, row]`, from the first channel that is computed.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a> {
    pub(crate) values: &'a [f32],
    /// Floats from one tap to the next.
    pub(crate) row: usize,
}

/// What becomes of a row.
pub(crate) trait RowFinish: Finish + Send + Sync {
    /// Over rows.
    type Gathered: Send;
    fn start(channels: usize) -> Self::Gathered;

    /// Adds `count` pixels from `first` on.
    ///
    /// # Safety
    /// The pixels exist and are not being written.
    unsafe fn gather<S: Simd>(gathered: &mut Self::Gathered, to: View, first: usize, count: usize);
}

/// To be normed.
impl RowFinish for () {
    type Gathered = Moments;

    fn start(channels: usize) -> Moments {
        Moments::new(channels)
    }

    #[inline(always)]
    unsafe fn gather<S: Simd>(moments: &mut Moments, to: View, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe { moments.add::<S>(to, first, count) }
    }
}

impl RowFinish for BiasRelu {
    type Gathered = ();

    fn start(_: usize) {}

    #[inline(always)]
    unsafe fn gather<S: Simd>((): &mut (), _: View, _: usize, _: usize) {}
}

struct Forward<'a, F> {
    conv: &'a Depthwise<'a>,
    input: &'a Source<'a>,
    taps: Taps<'a>,
    finish: F,
    to: View,
    first: usize,
    end: usize,
    ring: &'a mut [f32],
}

impl<F: RowFinish> Task for Forward<'_, F> {
    type Output = F::Gathered;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> F::Gathered {
        let conv = self.conv;
        // SAFETY: the caller's.
        unsafe {
            match (conv.kernel, conv.stride) {
                (3, 1) => self.rows::<S, 3, 1>(),
                (3, 2) => self.rows::<S, 3, 2>(),
                (5, 1) => self.rows::<S, 5, 1>(),
                (5, 2) => self.rows::<S, 5, 2>(),
                _ => self.rows::<S, 0, 0>(),
            }
        }
    }
}

/// A constant where there is one: 0 stands for a value that is known at run time only.
#[inline(always)]
fn constant_or(constant: usize, value: usize) -> usize {
    if constant == 0 { value } else { constant }
}

impl<F: RowFinish> Forward<'_, F> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const KERNEL: usize, const STRIDE: usize>(self) -> F::Gathered {
        let conv = self.conv;
        let ([height, width], [out_height, out_width]) = (conv.size, conv.out_size());
        let (kernel, padding, channels) = (constant_or(KERNEL, conv.kernel), conv.padding(), conv.channels);
        let stride = constant_or(STRIDE, conv.stride);
        let padded = conv.padded_channels();
        let (taps, taps_row) = (self.taps.values.as_ptr(), self.taps.row);
        let mut ring = Ring::new(self.ring, kernel, conv.padded_width() * padded);
        let mut gathered = F::start(channels);
        let mut image = usize::MAX;
        let mut window = vec![std::ptr::null::<f32>(); kernel];
        for row in self.first..self.end {
            let y = row % out_height;
            let top = y * stride; // of the window, in a padded image
            if row / out_height != image {
                image = row / out_height;
                ring.next = top.saturating_sub(padding);
            }
            // SAFETY: rows are of this image, slots are large enough, and output rows are this task's alone.
            unsafe {
                while ring.next < (top + kernel - padding).min(height) {
                    let to = ring.slot(ring.next).add(padding * padded);
                    let pixel = (image * height + ring.next) * width;
                    self.input.load::<S>(pixel, width, height * width, to, padded);
                    ring.next += 1;
                }
                for (offset, window) in window.iter_mut().enumerate() {
                    let inside = (top + offset).checked_sub(padding).filter(|&y| y < height);
                    *window = inside.map_or(ring.zeros(), |y| ring.slot(y).cast_const());
                }
                let pixel = row * out_width;
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    let mut x = 0;
                    while x < out_width {
                        let mut sums = [S::splat(0.0); TILE];
                        for ky in 0..kernel {
                            let from = (*window.get_unchecked(ky)).add(x * stride * padded + channel);
                            for kx in 0..kernel {
                                let tap = S::load(taps.add((ky * kernel + kx) * taps_row + channel));
                                for tile in 0..TILE {
                                    let value = S::load(from.add((tile * stride + kx) * padded));
                                    sums[tile] = S::mul_add(value, tap, sums[tile]);
                                }
                            }
                        }
                        for tile in 0..TILE {
                            if x + tile < out_width {
                                let sum = self.finish.apply::<S>(channel, sums[tile]);
                                store::<S>(self.to.pixel(pixel + x + tile).add(channel), left, sum);
                            }
                        }
                        x += TILE;
                    }
                    channel += S::LANES;
                }
                F::gather::<S>(&mut gathered, self.to, pixel, out_width);
            }
        }
        gathered
    }
}

struct Backward<'a> {
    conv: &'a Depthwise<'a>,
    input: &'a Source<'a>,
    gradient: &'a Gradient<'a>,
    wanted: Option<InputGradient<'a>>,
    taps: &'a [f32],
    first: usize,
    end: usize,
    ring: &'a mut [f32],
    x: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ConvGradients;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ConvGradients {
        // SAFETY: the caller's.
        unsafe {
            match self.conv.kernel {
                3 => self.rows::<S, 3>(),
                5 => self.rows::<S, 5>(),
                _ => self.rows::<S, 0>(),
            }
        }
    }
}

impl Backward<'_> {
    /// Goes through the rows of the input. The rows of the output's gradient lie in the ring with their pixels `stride` apart
    /// and zeros between, which makes a strided convolution look like one that is not.
    #[inline(always)]
    unsafe fn rows<S: Simd, const KERNEL: usize>(self) -> ConvGradients {
        let conv = self.conv;
        let ([height, width], [out_height, out_width]) = (conv.size, conv.out_size());
        let (kernel, padding, channels, stride) =
            (constant_or(KERNEL, conv.kernel), conv.padding(), conv.channels, conv.stride);
        let padded = conv.padded_channels();
        let mut ring = Ring::new(self.ring, kernel, conv.padded_width() * padded);
        // The last tile may reach beyond the row: what it reads there must be zero.
        self.x.fill(0.0);
        let x = self.x.as_mut_ptr();
        let mut gradients = ConvGradients { weights: vec![0.0; kernel * kernel * padded], ..ConvGradients::default() };
        let weights = gradients.weights.as_mut_ptr();
        let mut gathered = self.wanted.map(|wanted| Gathered::new(wanted.sums, self.first * width, self.end * width));
        let mut image = usize::MAX;
        // Rows of the output that a row of the input went into, with the row of the kernel that took it there.
        let mut window = Vec::with_capacity(kernel);
        for row in self.first..self.end {
            let y = row % height;
            let bottom = y + padding;
            if row / height != image {
                image = row / height;
                ring.next = (bottom + 1).saturating_sub(kernel).div_ceil(stride);
            }
            let pixel = row * width;
            // SAFETY: rows are of this image, slots are large enough, and input rows are this task's alone.
            unsafe {
                while ring.next <= bottom / stride && ring.next < out_height {
                    let to = ring.slot(ring.next).add(padding * padded);
                    let pixel = (image * out_height + ring.next) * out_width;
                    self.gradient.load::<S>(pixel, out_width, out_height * out_width, to, stride * padded);
                    ring.next += 1;
                }
                self.input.load::<S>(pixel, width, height * width, x, padded);
                window.clear();
                for ky in 0..kernel {
                    if let Some(y) = bottom.checked_sub(ky)
                        && y % stride == 0
                        && y / stride < out_height
                    {
                        window.push((ky, ring.slot(y / stride).cast_const()));
                    }
                }
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    let mut column = 0;
                    while column < width {
                        let mut values = [S::splat(0.0); TILE];
                        for tile in 0..TILE {
                            values[tile] = S::load(x.add((column + tile) * padded + channel));
                        }
                        let mut sums = [S::splat(0.0); TILE];
                        for &(ky, dz) in &window {
                            // The gradient of pixel x holds that of output pixel x + padding - kx, which the border moves on
                            // by padding: from column + 2 * padding - kx.
                            let dz = dz.add((column + 2 * padding) * padded + channel);
                            let tap = ky * kernel * padded + channel;
                            for kx in 0..kernel {
                                let weight = weights.add(tap + kx * padded);
                                let tap = S::load(self.taps.as_ptr().add(tap + kx * padded));
                                let mut weight_sum = S::load(weight);
                                for tile in 0..TILE {
                                    let dz = S::load(dz.sub(kx * padded).add(tile * padded));
                                    sums[tile] = S::mul_add(dz, tap, sums[tile]);
                                    weight_sum = S::mul_add(dz, values[tile], weight_sum);
                                }
                                S::store(weight, weight_sum);
                            }
                        }
                        if let Some(wanted) = self.wanted {
                            for tile in 0..TILE {
                                if column + tile < width {
                                    let at = pixel + column + tile;
                                    let mut sum = sums[tile];
                                    if let Some(prior) = wanted.prior {
                                        let mut prior = load::<S>(prior.pixel(at).add(channel), left);
                                        if let Some((gate, add)) = wanted.prior_gated {
                                            let gate = load::<S>(gate.as_ptr().add(image * channels + channel), left);
                                            let add = load::<S>(add.as_ptr().add(image * channels + channel), left);
                                            prior = S::mul_add(prior, gate, add);
                                        }
                                        sum = S::add(sum, prior);
                                    }
                                    store::<S>(wanted.to.pixel(at).add(channel), left, sum);
                                }
                            }
                        }
                        column += TILE;
                    }
                    channel += S::LANES;
                }
                if let (Some(wanted), Some(gathered)) = (self.wanted, &mut gathered) {
                    gathered.add::<S>(wanted, pixel, width);
                }
            }
        }
        if let Some(gathered) = gathered {
            gathered.finish(&mut gradients);
        }
        gradients
    }
}

//! 1×1 convolutions, and any other whose input pixels are gathered into rows first: matrix products block by block of pixels.
//!
//! A block is small enough to stay in cache from the loading of its pixels, normed and activated, to the sums of its results.

use crate::cpu::matmul::{Pack, Product, Right, packed_len};
use crate::cpu::norm::{GradientSums, Moments, Normed};
use crate::cpu::parallel::{groups, map, with_scratch};
use crate::cpu::rows::{Affine, Gradient, Source, View, load, store};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// Where the pixels of a convolution's input come from.
pub(crate) trait Pixels: Sync {
    /// Values of a pixel.
    fn channels(&self) -> usize;

    /// The pixels themselves, if they can be used as they lie in memory.
    fn in_place(&self) -> Option<View>;

    /// Writes `count` pixels from `first` on to rows with distance `stride`.
    ///
    /// # Safety
    /// The pixels exist and are not being written; the rows are writable.
    unsafe fn load<S: Simd>(&self, first: usize, count: usize, to: *mut f32, stride: usize);

    /// `count` pixels from `first` on and the distance of their rows: as they lie in memory or, written to `scratch`, in rows with
    /// distance `stride`.
    ///
    /// # Safety
    /// As for [`load`](Self::load), if they cannot be used [in place](Self::in_place).
    #[inline(always)]
    unsafe fn rows<S: Simd>(
        &self,
        first: usize,
        count: usize,
        scratch: *mut f32,
        stride: usize,
    ) -> (*const f32, usize) {
        match self.in_place() {
            Some(view) => (view.pixel(first).cast_const(), view.stride),
            None => {
                // SAFETY: the caller's.
                unsafe { self.load::<S>(first, count, scratch, stride) };
                (scratch.cast_const(), stride)
            }
        }
    }
}

/// A map whose images have this many pixels.
#[derive(Clone, Copy)]
pub(crate) struct MapPixels<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) pixels_per_image: usize,
}

impl Pixels for MapPixels<'_> {
    fn channels(&self) -> usize {
        self.source.z.channels
    }

    fn in_place(&self) -> Option<View> {
        let Source { z, affine, relu, gate } = self.source;
        (affine.is_none() && !relu && gate.is_none()).then_some(z)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, first: usize, count: usize, to: *mut f32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { self.source.load::<S>(first, count, self.pixels_per_image, to, stride) }
    }
}

/// A 1×1 convolution.
#[derive(Clone, Copy)]
pub(crate) struct Pointwise<'a> {
    pub(crate) set: InstructionSet,
    /// `[out, in]`.
    pub(crate) weights: &'a [f32],
    pub(crate) out_channels: usize,
    /// Pixels of all images.
    pub(crate) pixels: usize,
}

/// What is to become of the gradient of a convolution's input.
#[derive(Clone, Copy)]
pub(crate) struct InputGradient<'a> {
    pub(crate) to: View,
    /// Added to it; may be `to` itself.
    pub(crate) prior: Option<View>,
    /// `gate` and `add`, `[batch, channels]` each: `gate · prior + add` is added instead. For depthwise convolutions only.
    pub(crate) prior_gated: Option<(&'a [f32], &'a [f32])>,
    pub(crate) sums: Sums<'a>,
}

/// Sums to gather over the gradient of a map, for the gradient of the map's own norm.
#[derive(Clone, Copy)]
pub(crate) enum Sums<'a> {
    /// None: the map has no norm.
    None,
    /// Over all images.
    All(Normed<'a>),
    /// For each image, of this many pixels: the map is gated, and the gate depends on the image.
    PerImage(Normed<'a>, usize),
}

/// Sums for each image of a gated map, `[batch, channels]` each: of the gradient `g` before the gate and zero where the
/// activation is, of `g · (z − mean)`, and of the same with 1 in place of `g`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageSums {
    pub(crate) plain: Vec<f32>,
    pub(crate) weighted: Vec<f32>,
    pub(crate) active: Vec<f32>,
    pub(crate) active_weighted: Vec<f32>,
}

/// Gradients of a convolution.
#[derive(Debug, Default)]
pub(crate) struct ConvGradients {
    /// As the weights.
    pub(crate) weights: Vec<f32>,
    /// If asked for.
    pub(crate) sums: Option<GradientSums>,
    /// If asked for.
    pub(crate) images: Option<ImageSums>,
}

/// Pixels in a block: its rows of `channels` floats together fill about a quarter of a core's second cache.
pub(crate) fn block_pixels(channels: usize) -> usize {
    (65_536 / channels).clamp(96, 1536) / 24 * 24
}

impl Pointwise<'_> {
    /// Writes the output and returns the sums for its norm, one for each group of pixels.
    pub(crate) fn forward(&self, input: &impl Pixels, to: View) -> Vec<Moments> {
        let (depth, columns) = (input.channels(), self.out_channels);
        assert!(self.weights.len() == depth * columns && to.channels == columns);
        let block = block_pixels(depth + columns);
        let groups = groups(self.pixels, block, block, 64);
        with_scratch([packed_len(16, depth, columns)], |[packed]| {
            Pack { from: self.weights, shape: [depth, columns], strides: [1, depth] }.run(self.set, packed);
            let packed = &*packed;
            map(&groups, |range| {
                let stride = depth.next_multiple_of(16);
                with_scratch([if input.in_place().is_some() { 0 } else { block * stride }], |[rows]| {
                    let task =
                        Forward { conv: self, input, packed, to, first: range.start, end: range.end, block, rows };
                    dispatch(self.set, task)
                })
            })
        })
    }

    /// Gradients of the weights and, if it is wanted, of the input; `gradient` is that of the output.
    pub(crate) fn backward(
        &self,
        input: &impl Pixels,
        gradient: &Gradient,
        pixels_per_image: usize,
        input_gradient: Option<InputGradient>,
    ) -> ConvGradients {
        let (depth, columns) = (input.channels(), self.out_channels);
        let written = input_gradient.map_or(depth, |wanted| wanted.to.channels);
        assert!(self.weights.len() == depth * columns && gradient.z.channels == columns && written == depth);
        assert!(input_gradient.is_none_or(|wanted| wanted.prior_gated.is_none()));
        let block = block_pixels(depth + columns);
        // Each group has weight gradients of its own: fewer where they are large.
        let most = if self.weights.len() > 65_536 { 4 } else { 8 };
        let unit = match input_gradient {
            Some(InputGradient { sums: Sums::PerImage(_, pixels), .. }) => pixels,
            _ => 1,
        };
        let groups = groups(self.pixels, unit, block, most);
        let packed_len = if input_gradient.is_some() { packed_len(16, columns, depth) } else { 0 };
        with_scratch([packed_len], |[packed]| {
            if input_gradient.is_some() {
                Pack { from: self.weights, shape: [columns, depth], strides: [depth, 1] }.run(self.set, packed);
            }
            let packed = &*packed;
            let parts = map(&groups, |range| {
                let strides = [depth.next_multiple_of(16), columns.next_multiple_of(16)];
                with_scratch(strides.map(|stride| block * stride), |[x, dz]| {
                    dispatch(
                        self.set,
                        Backward {
                            conv: self,
                            input,
                            gradient,
                            pixels_per_image,
                            input_gradient,
                            packed,
                            first: range.start,
                            end: range.end,
                            block,
                            x,
                            dz,
                        },
                    )
                })
            });
            merge(parts)
        })
    }
}

/// Adds up the parts in order.
pub(crate) fn merge(parts: Vec<ConvGradients>) -> ConvGradients {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        for (total, part) in total.weights.iter_mut().zip(&part.weights) {
            *total += part;
        }
        if let (Some(sums), Some(part)) = (&mut total.sums, &part.sums) {
            sums.merge(part);
        }
        if let (Some(images), Some(part)) = (&mut total.images, part.images) {
            images.plain.extend(part.plain);
            images.weighted.extend(part.weighted);
            images.active.extend(part.active);
            images.active_weighted.extend(part.active_weighted);
        }
    }
    total
}

struct Forward<'a, P> {
    conv: &'a Pointwise<'a>,
    input: &'a P,
    packed: &'a [f32],
    to: View,
    first: usize,
    end: usize,
    block: usize,
    rows: &'a mut [f32],
}

impl<P: Pixels> Task for Forward<'_, P> {
    type Output = Moments;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Moments {
        let (depth, columns) = (self.input.channels(), self.conv.out_channels);
        let stride = depth.next_multiple_of(16);
        let mut moments = Moments::new(columns);
        for first in (self.first..self.end).step_by(self.block) {
            let count = self.block.min(self.end - first);
            // SAFETY: the group's pixels of `to` are this task's alone; the scratch rows hold a block.
            unsafe {
                let (a, a_row) = self.input.rows::<S>(first, count, self.rows.as_mut_ptr(), stride);
                let product = Product {
                    rows: count,
                    depth,
                    columns,
                    a,
                    a_row,
                    a_depth: 1,
                    b: Right::Packed(self.packed.as_ptr()),
                    c: self.to.pixel(first),
                    c_row: self.to.stride,
                    accumulate: false,
                };
                product.run::<S>();
                moments.add::<S>(self.to, first, count);
            }
        }
        moments
    }
}

struct Backward<'a, P> {
    conv: &'a Pointwise<'a>,
    input: &'a P,
    gradient: &'a Gradient<'a>,
    pixels_per_image: usize,
    input_gradient: Option<InputGradient<'a>>,
    packed: &'a [f32],
    first: usize,
    end: usize,
    block: usize,
    x: &'a mut [f32],
    dz: &'a mut [f32],
}

impl<P: Pixels> Task for Backward<'_, P> {
    type Output = ConvGradients;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ConvGradients {
        let (depth, columns) = (self.input.channels(), self.conv.out_channels);
        let (x_stride, dz_stride) = (depth.next_multiple_of(16), columns.next_multiple_of(16));
        let mut gradients = ConvGradients { weights: vec![0.0; columns * depth], ..ConvGradients::default() };
        let mut gathered = self.input_gradient.map(|wanted| Gathered::new(wanted.sums, self.first, self.end));
        for first in (self.first..self.end).step_by(self.block) {
            let count = self.block.min(self.end - first);
            // SAFETY: the group's pixels of `to` are this task's alone; the scratch rows hold a block.
            unsafe {
                self.input.load::<S>(first, count, self.x.as_mut_ptr(), x_stride);
                self.gradient.load::<S>(first, count, self.pixels_per_image, self.dz.as_mut_ptr(), dz_stride);
                let weights = Product {
                    rows: columns,
                    depth: count,
                    columns: depth,
                    a: self.dz.as_ptr(),
                    a_row: 1,
                    a_depth: dz_stride,
                    b: Right::Rows(self.x.as_ptr(), x_stride),
                    c: gradients.weights.as_mut_ptr(),
                    c_row: depth,
                    accumulate: true,
                };
                weights.run::<S>();
                if let (Some(wanted), Some(gathered)) = (self.input_gradient, &mut gathered) {
                    if let Some(prior) = wanted.prior.filter(|prior| prior.pixel(0) != wanted.to.pixel(0)) {
                        Source::plain(prior).load::<S>(first, count, 1, wanted.to.pixel(first), wanted.to.stride);
                    }
                    let product = Product {
                        rows: count,
                        depth: columns,
                        columns: depth,
                        a: self.dz.as_ptr(),
                        a_row: dz_stride,
                        a_depth: 1,
                        b: Right::Packed(self.packed.as_ptr()),
                        c: wanted.to.pixel(first),
                        c_row: wanted.to.stride,
                        accumulate: wanted.prior.is_some(),
                    };
                    product.run::<S>();
                    gathered.add::<S>(wanted, first, count);
                }
            }
        }
        if let Some(gathered) = gathered {
            gathered.finish(&mut gradients);
        }
        gradients
    }
}

/// The sums that a task gathers over the gradient that it writes.
pub(crate) struct Gathered {
    sums: Option<GradientSums>,
    images: Option<(usize, ImageSums)>,
}

impl Gathered {
    /// For the pixels from `first` to `end`, whole images if the sums are for each.
    pub(crate) fn new(wanted: Sums, first: usize, end: usize) -> Self {
        match wanted {
            Sums::None => Self { sums: None, images: None },
            Sums::All(map) => Self { sums: Some(GradientSums::new(map.z.channels)), images: None },
            Sums::PerImage(map, pixels) => {
                let zeros = || vec![0.0; (end - first).div_ceil(pixels) * map.z.channels];
                let sums = ImageSums { plain: zeros(), weighted: zeros(), active: zeros(), active_weighted: zeros() };
                Self { sums: None, images: Some((first / pixels, sums)) }
            }
        }
    }

    /// Adds `count` pixels from `first` on of the gradient just written.
    ///
    /// # Safety
    /// The pixels exist and are not being written.
    #[inline(always)]
    pub(crate) unsafe fn add<S: Simd>(&mut self, wanted: InputGradient, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            match wanted.sums {
                Sums::None => {}
                Sums::All(map) => {
                    if let Some(sums) = &mut self.sums {
                        sums.add::<S>(wanted.to, &map, first, count);
                    }
                }
                Sums::PerImage(map, pixels) => {
                    let Some((first_image, sums)) = &mut self.images else { return };
                    let (mut pixel, end) = (first, first + count);
                    while pixel < end {
                        let stop = end.min((pixel / pixels + 1) * pixels);
                        sums.add::<S>(wanted.to, &map, pixel / pixels - *first_image, pixel, stop);
                        pixel = stop;
                    }
                }
            }
        }
    }

    pub(crate) fn finish(self, gradients: &mut ConvGradients) {
        gradients.sums = self.sums;
        gradients.images = self.images.map(|(_, sums)| sums);
    }
}

impl ImageSums {
    /// Adds the pixels from `first` to `end`, all of the image at `image`.
    #[inline(always)]
    unsafe fn add<S: Simd>(&mut self, dy: View, map: &Normed, image: usize, first: usize, end: usize) {
        let channels = map.z.channels;
        assert!((image + 1) * channels <= self.plain.len());
        let mut channel = 0;
        while channel < channels {
            let left = channels - channel;
            // SAFETY: the caller's, and pointers stay within a pixel's channels.
            unsafe {
                let Affine { scale, shift } = map.affine;
                let scale = load::<S>(scale.as_ptr().add(channel), left);
                let shift = load::<S>(shift.as_ptr().add(channel), left);
                let mean = load::<S>(map.mean.as_ptr().add(channel), left);
                let one = S::splat(1.0);
                let mut sums = [S::splat(0.0); 4];
                for pixel in first..end {
                    let z = load::<S>(map.z.pixel(pixel).add(channel), left);
                    let mut g = load::<S>(dy.pixel(pixel).add(channel), left);
                    let mut active = one;
                    if map.relu {
                        let y = S::mul_add(z, scale, shift);
                        g = S::where_positive(y, g);
                        active = S::where_positive(y, active);
                    }
                    let z = S::sub(z, mean);
                    sums[0] = S::add(sums[0], g);
                    sums[1] = S::mul_add(g, z, sums[1]);
                    sums[2] = S::add(sums[2], active);
                    sums[3] = S::mul_add(active, z, sums[3]);
                }
                let all = [&mut self.plain, &mut self.weighted, &mut self.active, &mut self.active_weighted];
                for (to, sum) in all.into_iter().zip(sums) {
                    let to = to.as_mut_ptr().add(image * channels + channel);
                    store::<S>(to, left, S::add(load::<S>(to, left), sum));
                }
            }
            channel += S::LANES;
        }
    }
}

//! Layers for inference: norms folded into the weights, and the weights laid out for the kernels once.
//!
//! Values of an image depend on no other image. Where there are enough of them, a few go through a whole block on one thread,
//! and what lies between the layers stays in that thread's cache; else all threads share each layer's pixels and channels.

use std::ops::Range;

use burn::backend::flex::FlexTensor;

use crate::Gate;
use crate::cpu::attention::{Gated, halve, halved, sigmoid_in_place};
use crate::cpu::block::{Images, add, means};
use crate::cpu::buffer::Buffer;
use crate::cpu::depthwise::{Depthwise, Taps, taps};
use crate::cpu::matmul::{BiasRelu, Pack, Product, Right, packed_len, panels};
use crate::cpu::operation::{MapIn, map_out, patches};
use crate::cpu::parallel::{groups, map, serially, with_scratch};
use crate::cpu::pointwise::{MapPixels, Pixels, block_pixels};
use crate::cpu::rows::{Source, View};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};
use crate::operations::check_halvable;

/// Multiply-adds that are worth a task of their own: some ten microseconds.
const TASK: usize = 400_000;

/// Weight and bias of a convolution, and what follows it.
pub(crate) struct ConvValues<'a> {
    /// `[out, in / groups, kernel, kernel]`.
    pub(crate) weight: &'a [f32],
    pub(crate) shape: [usize; 4],
    /// `[out]`.
    pub(crate) bias: &'a [f32],
    pub(crate) relu: bool,
    pub(crate) stride: usize,
}

/// Bias and activation, by channel.
#[derive(Debug)]
struct Ending {
    /// Padded to whole vectors.
    bias: Buffer,
    relu: bool,
}

impl Ending {
    fn new(conv: &ConvValues) -> Self {
        let mut bias = Buffer::new(conv.bias.len().next_multiple_of(16));
        bias.fill(0.0);
        bias[..conv.bias.len()].copy_from_slice(conv.bias);
        Self { bias, relu: conv.relu }
    }

    /// For the channels from `start` on.
    fn of(&self, start: usize) -> BiasRelu {
        BiasRelu { bias: self.bias[start..].as_ptr(), relu: self.relu }
    }
}

/// A convolution as a matrix product: 1×1, or of gathered patches.
#[derive(Debug)]
pub(crate) struct Dense {
    set: InstructionSet,
    packed: Buffer,
    /// Where each panel of columns starts, and its width.
    panels: Vec<(usize, usize)>,
    depth: usize,
    columns: usize,
    ending: Ending,
}

impl Dense {
    pub(crate) fn new(set: InstructionSet, conv: &ConvValues) -> Self {
        let [columns, in_channels, height, width] = conv.shape;
        let depth = in_channels * height * width;
        let mut packed = Buffer::new(packed_len(16, depth, columns));
        Pack { from: conv.weight, shape: [depth, columns], strides: [1, depth] }.run(set, &mut packed);
        Self { set, packed, panels: panels(set, columns), depth, columns, ending: Ending::new(conv) }
    }

    /// Writes the output, or adds it to what is there.
    fn forward(&self, input: &impl Pixels, pixels: usize, to: View, accumulate: bool) {
        assert!(input.channels() == self.depth && to.channels == self.columns);
        let tasks = (pixels * self.depth * self.columns / TASK).clamp(1, 64);
        let rows = groups(pixels, 24, 24, tasks);
        let columns = groups(self.panels.len(), 1, 1, tasks.div_ceil(rows.len()));
        let tasks = 0..rows.len() * columns.len();
        map(&groups(tasks.len(), 1, 1, tasks.len()), |task| {
            let (pixels, panels) = (&rows[task.start % rows.len()], &columns[task.start / rows.len()]);
            let block = block_pixels(self.depth + self.columns).min(pixels.len());
            let stride = self.depth.next_multiple_of(16);
            with_scratch([if input.in_place().is_some() { 0 } else { block * stride }], |[rows]| {
                let (pixels, panels) = (pixels.clone(), panels.clone());
                dispatch(self.set, DenseTask { dense: self, input, to, accumulate, pixels, panels, block, rows });
            });
        });
    }

    /// Rows of values for rows of values.
    fn rows(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.depth;
        let mut y = vec![0.0; rows * self.columns];
        let source = Source::plain(View::of(x, self.depth));
        self.forward(&MapPixels { source, pixels_per_image: 1 }, rows, View::of_mut(&mut y, self.columns), false);
        y
    }
}

struct DenseTask<'a, P> {
    dense: &'a Dense,
    input: &'a P,
    to: View,
    accumulate: bool,
    pixels: Range<usize>,
    panels: Range<usize>,
    block: usize,
    rows: &'a mut [f32],
}

impl<P: Pixels> Task for DenseTask<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Dense { packed, panels, depth, columns, ending, .. } = self.dense;
        let stride = depth.next_multiple_of(16);
        for first in self.pixels.clone().step_by(self.block) {
            let count = self.block.min(self.pixels.end - first);
            // SAFETY: these pixels and columns of `to` are this task's alone; the scratch rows hold a block.
            unsafe {
                let (a, a_row) = self.input.rows::<S>(first, count, self.rows.as_mut_ptr(), stride);
                for &(start, width) in &panels[self.panels.clone()] {
                    let product = Product {
                        rows: count,
                        depth: *depth,
                        columns: width.min(columns - start),
                        a,
                        a_row,
                        a_depth: 1,
                        b: Right::Packed(packed[depth * start..].as_ptr()),
                        c: self.to.pixel(first).add(start),
                        c_row: self.to.stride,
                        accumulate: self.accumulate,
                    };
                    product.finished::<S, _>(ending.of(start));
                }
            }
        }
    }
}

/// A depthwise convolution.
#[derive(Debug)]
pub(crate) struct DepthwiseConv {
    set: InstructionSet,
    taps: Vec<f32>,
    channels: usize,
    kernel: usize,
    stride: usize,
    ending: Ending,
}

impl DepthwiseConv {
    pub(crate) fn new(set: InstructionSet, conv: &ConvValues) -> Self {
        let [channels, _, kernel, _] = conv.shape;
        let stride = conv.stride;
        let taps = taps(conv.weight, channels, kernel);
        Self { set, taps, channels, kernel, stride, ending: Ending::new(conv) }
    }

    fn out_images(&self, images: Images) -> Images {
        Images { size: images.size.map(|size| size.div_ceil(self.stride)), ..images }
    }

    fn forward(&self, input: View, images: Images, to: View) {
        let out = self.out_images(images);
        // A vector of a tap does the work of many, but loads as many values as it multiplies.
        let tasks = (4 * out.pixels() * self.channels * self.kernel * self.kernel / TASK).clamp(1, 64);
        let rows = groups(out.batch * out.size[0], 1, 2 * self.kernel, tasks);
        let channels = groups(self.channels, 16, 16, tasks.div_ceil(rows.len()));
        let tasks = 0..rows.len() * channels.len();
        map(&groups(tasks.len(), 1, 1, tasks.len()), |task| {
            let (rows, channels) = (&rows[task.start % rows.len()], &channels[task.start / rows.len()]);
            let Images { batch, size } = images;
            let (kernel, stride) = (self.kernel, self.stride);
            let part = Depthwise { set: self.set, weights: &[], channels: channels.len(), kernel, stride, batch, size };
            let taps =
                Taps { values: &self.taps[channels.start..], row: self.taps.len() / (self.kernel * self.kernel) };
            part.forward_rows(
                &Source::plain(input.narrow(channels.start, channels.len())),
                taps,
                self.ending.of(channels.start),
                rows.clone(),
                to.narrow(channels.start, channels.len()),
            );
        });
    }
}

/// Any convolution that the kernels know.
#[derive(Debug)]
pub(crate) enum Conv {
    Pointwise(Dense),
    Depthwise(DepthwiseConv),
    Patches { dense: Dense, kernel: usize, stride: usize },
}

impl Conv {
    pub(crate) fn new(conv: &ConvValues, depthwise: bool) -> Self {
        let set = InstructionSet::current();
        let [_, _, kernel, _] = conv.shape;
        match (depthwise, kernel, conv.stride) {
            (true, ..) => Self::Depthwise(DepthwiseConv::new(set, conv)),
            (false, 1, 1) => Self::Pointwise(Dense::new(set, conv)),
            (false, _, stride) => Self::Patches { dense: Dense::new(set, conv), kernel, stride },
        }
    }

    pub(crate) fn forward(&self, x: FlexTensor) -> FlexTensor {
        match self {
            Self::Pointwise(dense) => {
                let x = MapIn::new(x);
                let pixels = x.images.pixels();
                map_out(x.images, dense.columns, |to| dense.forward(&x.pixels(), pixels, to, false))
            }
            Self::Depthwise(conv) => {
                let x = MapIn::new(x);
                map_out(conv.out_images(x.images), conv.channels, |to| conv.forward(x.view(), x.images, to))
            }
            Self::Patches { dense, kernel, stride } => {
                let patches = patches(&x, *kernel, *stride);
                let images = patches.out_images();
                map_out(images, dense.columns, |to| dense.forward(&patches, images.pixels(), to, false))
            }
        }
    }
}

/// A Ghost module of ratio 2.
#[derive(Debug)]
pub(crate) struct Ghost {
    pub(crate) primary: Dense,
    pub(crate) cheap: DepthwiseConv,
}

impl Ghost {
    fn channels(&self) -> usize {
        2 * self.cheap.channels
    }

    fn forward(&self, input: &impl Pixels, images: Images, to: View) {
        let half = self.cheap.channels;
        let primary = to.narrow(0, half);
        self.primary.forward(input, images.pixels(), primary, false);
        self.cheap.forward(primary, images, to.narrow(half, half));
    }
}

/// Attention of GhostNetV2.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) pointwise: Dense,
    pub(crate) horizontal: DepthwiseConv,
    pub(crate) vertical: DepthwiseConv,
}

impl Attention {
    /// Floats of the halved input, and of each of two maps behind it.
    fn lens(&self, images: Images) -> [usize; 2] {
        let pixels = halved(images).pixels();
        [pixels * self.pointwise.depth, pixels * self.pointwise.columns]
    }

    /// Multiplies `maps` by what the input of as many pixels says, with memory for what is between.
    fn forward(&self, x: View, images: Images, maps: View, [first, second, third]: [&mut [f32]; 3]) {
        check_halvable(images.size);
        let (set, channels, half) = (self.pointwise.set, self.pointwise.columns, halved(images));
        let small = View::of_mut(first, x.channels);
        let [one, other] = [View::of_mut(second, channels), View::of_mut(third, channels)];
        halve(set, x, images, small);
        self.pointwise.forward(&plain(small, half), half.pixels(), one, false);
        self.horizontal.forward(one, half, other);
        self.vertical.forward(other, half, one);
        sigmoid_in_place(one, half.pixels());
        Gated { maps, images, gate: one, gate_size: half.size, is_sigmoid: true }.forward(set, maps);
    }
}

/// A Ghost bottleneck.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    pub(crate) expand: Ghost,
    pub(crate) attention: Option<Attention>,
    pub(crate) depthwise: Option<DepthwiseConv>,
    /// The two layers of squeeze-and-excite, and what follows them.
    pub(crate) squeeze: Option<([Dense; 2], Gate)>,
    pub(crate) project: Ghost,
    /// `None` is the identity.
    pub(crate) shortcut: Option<(DepthwiseConv, Dense)>,
}

impl Bottleneck {
    pub(crate) fn forward(&self, x: FlexTensor) -> FlexTensor {
        let x = MapIn::new(x);
        let out = self.out_images(x.images);
        map_out(out, self.project.channels(), |to| {
            let threads = rayon::current_num_threads();
            if x.images.batch < 2 * threads {
                // Of all images at once: memory that may be large, and is given back when it is no longer wanted.
                let mut maps = self.lens(x.images, x.channels).map(Buffer::new);
                return self.images(x.view(), x.images, to, maps.each_mut().map(|map| &mut map[..]));
            }
            // At small maps one image is too little for the weights to be loaded for.
            let chunk = (200 / x.images.pixels_per_image()).clamp(1, x.images.batch / (2 * threads));
            map(&groups(x.images.batch, 1, chunk, x.images.batch), |images| {
                let part = Images { batch: images.len(), ..x.images };
                let from = x.view().from(images.start * x.images.pixels_per_image());
                let to = to.from(images.start * out.pixels_per_image());
                with_scratch(self.lens(part, x.channels), |maps| serially(|| self.images(from, part, to, maps)));
            });
        })
    }

    fn out_images(&self, images: Images) -> Images {
        self.depthwise.as_ref().map_or(images, |conv| conv.out_images(images))
    }

    /// Floats of the maps between the layers: three of the attention, the expanded one, the same behind its stride, and the
    /// shortcut's.
    fn lens(&self, images: Images, channels: usize) -> [usize; 6] {
        let out = self.out_images(images);
        let expanded = self.expand.channels();
        let [halved, gate] = self.attention.as_ref().map_or([0, 0], |attention| attention.lens(images));
        [
            halved,
            gate,
            gate,
            images.pixels() * expanded,
            if self.depthwise.is_some() { out.pixels() * expanded } else { 0 },
            if self.shortcut.is_some() { out.pixels() * channels } else { 0 },
        ]
    }

    /// Writes the output of some images, with memory for the maps between.
    fn images(&self, x: View, images: Images, to: View, [halved, gate, other, first, second, third]: [&mut [f32]; 6]) {
        let set = self.expand.primary.set;
        let out = self.out_images(images);
        let expanded = self.expand.channels();
        let mut middle = View::of_mut(first, expanded);
        self.expand.forward(&plain(x, images), images, middle);
        if let Some(attention) = &self.attention {
            attention.forward(x, images, middle, [halved, gate, other]);
        }
        if let Some(depthwise) = &self.depthwise {
            let strided = View::of_mut(second, expanded);
            depthwise.forward(middle, images, strided);
            middle = strided;
        }
        let gate = self.squeeze.as_ref().map(|([reduce, expand], gate)| {
            let mut values = expand.rows(&reduce.rows(&means(set, Source::plain(middle), out)));
            values.iter_mut().for_each(|value| *value = gate.value_and_slope(*value).0);
            values
        });
        let source = Source { gate: gate.as_deref(), ..Source::plain(middle) };
        let input = MapPixels { source, pixels_per_image: out.pixels_per_image() };
        self.project.forward(&input, out, to);
        match &self.shortcut {
            Some((depthwise, pointwise)) => {
                let strided = View::of_mut(third, x.channels);
                depthwise.forward(x, images, strided);
                pointwise.forward(&plain(strided, out), out.pixels(), to, true);
            }
            None => add(set, [Source::plain(to), Source::plain(x)], out.pixels(), to),
        }
    }
}

fn plain(view: View, images: Images) -> MapPixels<'static> {
    MapPixels { source: Source::plain(view), pixels_per_image: images.pixels_per_image() }
}

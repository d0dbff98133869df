//! What stands around the convolutions of attention: the mean of 2×2 pixels before them, and behind them the product of other maps
//! with their sigmoid, each value of which is repeated for the pixels that it stands for. Squeeze-and-excite is such a product too,
//! with one value for all pixels.

use std::ops::Range;

use crate::cpu::block::Images;
use crate::cpu::buffer::Buffer;
use crate::cpu::parallel::{groups, map};
use crate::cpu::rows::{View, load, store};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// Height and width of the mean of 2×2 pixels; an odd side loses its last row or column.
pub(crate) fn halved(images: Images) -> Images {
    Images { size: images.size.map(|side| side / 2), ..images }
}

/// The means of 2×2 pixels of `from`, or on the way back a quarter of each of its pixels at the four that it was made of.
struct Halve {
    from: View,
    to: View,
    /// The larger of the two.
    images: Images,
    /// Rows of the smaller one, over all images.
    rows: Range<usize>,
    backward: bool,
}

impl Task for Halve {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, to, images, rows, backward } = self;
        let [height, width] = images.size;
        let channels = from.channels;
        for row in rows {
            let (image, y) = (row / (height / 2), row % (height / 2));
            for x in 0..width / 2 {
                let small = row * (width / 2) + x;
                let large = (image * height + 2 * y) * width + 2 * x;
                let four = [large, large + 1, large + width, large + width + 1];
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    // SAFETY: both maps have these pixels, and the rows written are this task's alone.
                    unsafe {
                        let quarter = S::splat(0.25);
                        if backward {
                            let share = S::mul(load::<S>(from.pixel(small).add(channel), left), quarter);
                            for pixel in four {
                                store::<S>(to.pixel(pixel).add(channel), left, share);
                            }
                        } else {
                            let [a, b, c, d] = four.map(|pixel| load::<S>(from.pixel(pixel).add(channel), left));
                            let sum = S::add(S::add(a, b), S::add(c, d));
                            store::<S>(to.pixel(small).add(channel), left, S::mul(sum, quarter));
                        }
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}

/// Writes the means of 2×2 pixels.
pub(crate) fn halve(set: InstructionSet, from: View, images: Images, to: View) {
    let rows = images.batch * (images.size[0] / 2);
    map(&groups(rows, 1, 4, 64), |rows| {
        dispatch(set, Halve { from, to, images, rows, backward: false });
    });
}

/// Writes the gradient of the pixels of which the means were made; `images` are theirs.
pub(crate) fn halve_backward(set: InstructionSet, dy: View, images: Images, to: View) {
    let rows = images.batch * (images.size[0] / 2);
    // What is lost of an odd side has no gradient.
    if images.size.iter().any(|side| side % 2 == 1) {
        fill(set, to, images.pixels());
    }
    map(&groups(rows, 1, 4, 64), |rows| {
        dispatch(set, Halve { from: dy, to, images, rows, backward: true });
    });
}

fn fill(set: InstructionSet, to: View, pixels: usize) {
    struct Zero(View, Range<usize>);
    impl Task for Zero {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(to, pixels) = self;
            for pixel in pixels {
                let mut channel = 0;
                while channel < to.channels {
                    // SAFETY: the pixels are this task's alone.
                    unsafe { store::<S>(to.pixel(pixel).add(channel), to.channels - channel, S::splat(0.0)) };
                    channel += S::LANES;
                }
            }
        }
    }
    map(&groups(pixels, 1, 1024, 64), |pixels| dispatch(set, Zero(to, pixels)));
}

/// Maps and the gate that multiplies them.
#[derive(Clone, Copy)]
pub(crate) struct Gated {
    pub(crate) maps: View,
    pub(crate) images: Images,
    /// Of as many images and channels.
    pub(crate) gate: View,
    /// Height and width of the gate.
    pub(crate) gate_size: [usize; 2],
    /// Whether the gate is the sigmoid of other values.
    pub(crate) is_sigmoid: bool,
}

impl Gated {
    fn gate_rows(&self) -> Vec<Range<usize>> {
        groups(self.images.batch * self.gate_size[0], 1, 2, 64)
    }

    /// The pixels in one direction that value `at` of the gate stands for: those with `floor(pixel · gate size / size) == at`.
    fn pixels(&self, direction: usize, at: usize) -> Range<usize> {
        let (size, gate_size) = (self.images.size[direction], self.gate_size[direction]);
        (at * size).div_ceil(gate_size)..((at + 1) * size).div_ceil(gate_size)
    }

    /// Writes the maps times the gate.
    pub(crate) fn forward(self, set: InstructionSet, to: View) {
        map(&self.gate_rows(), |rows| dispatch(set, Multiply { gated: self, rows, to }));
    }

    /// Writes the gradients of the maps and of the gate, or of what the gate is the sigmoid of, for that of the product.
    pub(crate) fn backward(self, set: InstructionSet, dy: View, maps: View, gate: View) {
        map(&self.gate_rows(), |rows| dispatch(set, MultiplyBackward { gated: self, rows, dy, maps, gate }));
    }
}

struct Multiply {
    gated: Gated,
    /// Of the gate.
    rows: Range<usize>,
    to: View,
}

impl Task for Multiply {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { gated, rows, to } = self;
        let (channels, [height, width], [gate_height, gate_width]) = (to.channels, gated.images.size, gated.gate_size);
        for row in rows {
            let (image, gate_y) = (row / gate_height, row % gate_height);
            for y in gated.pixels(0, gate_y) {
                for gate_x in 0..gate_width {
                    let gate = gated.gate.pixel(row * gate_width + gate_x);
                    for x in gated.pixels(1, gate_x) {
                        let pixel = (image * height + y) * width + x;
                        let mut channel = 0;
                        while channel < channels {
                            let left = channels - channel;
                            // SAFETY: all maps have these pixels, and those written are this task's alone.
                            unsafe {
                                let value = load::<S>(gated.maps.pixel(pixel).add(channel), left);
                                let product = S::mul(value, load::<S>(gate.add(channel), left));
                                store::<S>(to.pixel(pixel).add(channel), left, product);
                            }
                            channel += S::LANES;
                        }
                    }
                }
            }
        }
    }
}

struct MultiplyBackward {
    gated: Gated,
    /// Of the gate.
    rows: Range<usize>,
    dy: View,
    maps: View,
    gate: View,
}

impl Task for MultiplyBackward {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { gated, rows, dy, maps, gate: to } = self;
        let (channels, [height, width], [gate_height, gate_width]) = (dy.channels, gated.images.size, gated.gate_size);
        for row in rows {
            let (image, gate_y) = (row / gate_height, row % gate_height);
            for gate_x in 0..gate_width {
                let at = row * gate_width + gate_x;
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    // SAFETY: all maps have these pixels, and those written are this task's alone.
                    unsafe {
                        let gate = load::<S>(gated.gate.pixel(at).add(channel), left);
                        let mut sum = S::splat(0.0);
                        for y in gated.pixels(0, gate_y) {
                            for x in gated.pixels(1, gate_x) {
                                let pixel = (image * height + y) * width + x;
                                let dy = load::<S>(dy.pixel(pixel).add(channel), left);
                                let value = load::<S>(gated.maps.pixel(pixel).add(channel), left);
                                sum = S::mul_add(dy, value, sum);
                                store::<S>(maps.pixel(pixel).add(channel), left, S::mul(dy, gate));
                            }
                        }
                        if gated.is_sigmoid {
                            sum = S::mul(sum, S::mul(gate, S::sub(S::splat(1.0), gate)));
                        }
                        store::<S>(to.pixel(at).add(channel), left, sum);
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}

/// `1 / (1 + exp(−x))` of every value.
pub(crate) fn sigmoid(values: &[f32]) -> Buffer {
    let mut gate = Buffer::new(values.len());
    gate.copy_from_slice(values);
    sigmoid_in_place(gate.view_mut(1), values.len());
    gate
}

/// The same of all values of a map whose pixels lie side by side.
pub(crate) fn sigmoid_in_place(values: View, pixels: usize) {
    let channels = values.channels;
    map(&groups(pixels, 1, 4096_usize.div_ceil(channels), 64), |pixels| {
        for pixel in pixels {
            for channel in 0..channels {
                // SAFETY: the pixels are this task's alone.
                unsafe {
                    let value = values.pixel(pixel).add(channel);
                    *value = 1.0 / (1.0 + (-*value).exp());
                }
            }
        }
    });
}

//! What an operation must give, in `f64` on the CPU: sums over its output channels with random signs, so that every element counts at a
//! fraction of the operation's own cost (Freivalds, "Probabilistic machines can use less running time", 1977).
//!
//! A batch repeats a few distinct images, so that only those are summed here while every image of the device's result is compared.

use ghostnet_kernels::gpu::border::{Convolution, Pass, Product};
use rayon::prelude::*;

/// Distinct images of a batch; a prime number, so that they do not fall on a device's tiles, whose sides are powers of two.
const DISTINCT_IMAGES: usize = 7;

/// Numbers that are drawn by their place, the same on every machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub(super) seed: u64,
    pub(super) numbers: Numbers,
}

/// What the numbers are like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers {
    /// Multiples of 1/64 of which the largest is this many: the products of two of them are multiples of 2⁻¹², and `f32` holds their sums
    /// exactly, in any order, as long as they are below 4,096.
    Coarse { largest: u64 },
    /// From −1 to 1 in so many steps of 1.
    Fine { steps: u64 },
}

impl Numbers {
    /// Coarse numbers of which sums of this many products, of random signs, stay below 4,096 with room to spare.
    pub(super) fn coarse(root_of_squared_terms: f64) -> Self {
        // The standard deviation of a product is a third of the square of the largest; six of them.
        let largest = (f64::from(1 << 24) / (2.0 * root_of_squared_terms)).sqrt();
        Self::Coarse { largest: (largest as u64).clamp(1, 63) }
    }
}

impl Drawn {
    /// The number at a place.
    fn at(self, place: usize) -> f32 {
        let bits = mixed(self.seed ^ (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match self.numbers {
            Numbers::Coarse { largest } => ((bits % (2 * largest + 1)) as f32 - largest as f32) / 64.0,
            Numbers::Fine { steps } => ((bits % (2 * steps + 1)) as f32 - steps as f32) / steps as f32,
        }
    }

    /// The first numbers.
    fn take(self, count: usize) -> Vec<f32> {
        (0..count).into_par_iter().map(|place| self.at(place)).collect()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Signs for the channels that are summed over, others for every seed, so that channels that are exchanged show in one of two draws.
fn signs(count: usize, seed: u64) -> Vec<f64> {
    (0..count).map(|place| if mixed(mixed(seed) ^ place as u64) & 1 == 0 { 1.0 } else { -1.0 }).collect()
}

/// An operand: distinct images, which its batch repeats, or a weight.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    /// Of the whole operand.
    pub(super) shape: [usize; 4],
    /// Of the distinct images, or of the weight.
    values: Vec<f32>,
}

impl Operand {
    /// Draws an operand whose first axis is a batch.
    fn batch(shape: [usize; 4], drawn: Drawn) -> Self {
        let [batch, channels, height, width] = shape;
        Self { shape, values: drawn.take(batch.min(DISTINCT_IMAGES) * channels * height * width) }
    }

    fn weight(shape: [usize; 4], drawn: Drawn) -> Self {
        Self { shape, values: drawn.take(shape.iter().product()) }
    }

    /// All values, `[batch, channels, height, width]`.
    pub(super) fn rows_first(&self) -> Vec<f32> {
        let count = self.shape.iter().product();
        self.values.iter().copied().cycle().take(count).collect()
    }

    /// All values, `[batch, height, width, channels]`.
    pub(super) fn channels_last(&self) -> Vec<f32> {
        let [batch, channels, height, width] = self.shape;
        let pixels = height * width;
        let distinct = self.values.len() / (channels * pixels).max(1);
        let mut turned = vec![0.0; self.values.len()];
        for image in 0..distinct {
            for channel in 0..channels {
                for pixel in 0..pixels {
                    let place = image * channels * pixels;
                    turned[place + pixel * channels + channel] = self.values[place + channel * pixels + pixel];
                }
            }
        }
        turned.into_iter().cycle().take(batch * channels * pixels).collect()
    }

    /// Of a matrix: all values, `[columns, rows]`.
    pub(super) fn transposed(&self) -> Vec<f32> {
        let [_, _, rows, columns] = self.shape;
        (0..rows * columns).map(|place| self.values[place % rows * columns + place / rows]).collect()
    }
}

/// Numbers for the pixels of images, from −1 to 1.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    Drawn { seed, numbers: Numbers::Fine { steps: 1 << 20 } }.take(count)
}

/// The operands of a convolution.
#[derive(Debug)]
pub(super) struct Operands {
    convolution: Convolution,
    seed: u64,
    pub(super) operands: [Operand; 2],
    /// Of the output's channels.
    pub(super) bias: Option<Vec<f32>>,
}

/// How often each of the distinct images comes in a batch.
fn repetitions(batch: usize) -> Vec<f64> {
    let distinct = batch.min(DISTINCT_IMAGES);
    (0..distinct).map(|image| ((batch - image).div_ceil(distinct)) as f64).collect()
}

/// The taps of a kernel along one axis.
struct Taps {
    count: usize,
    /// Those that meet the input: their place, start and end of the outputs where they do, and the input at the first one.
    ranges: Vec<(usize, usize, usize, usize)>,
}

impl Taps {
    fn new(side: usize, out_side: usize, kernel: usize, stride: usize) -> Self {
        let padding = kernel / 2;
        let range = |tap: usize| {
            let first = padding.saturating_sub(tap).div_ceil(stride);
            // The last output whose input is within the side.
            let end = (side + padding).checked_sub(tap + 1).map_or(0, |reach| reach / stride + 1).min(out_side);
            (first < end).then(|| (tap, first, end, first * stride + tap - padding))
        };
        Self { count: kernel, ranges: (0..kernel).filter_map(range).collect() }
    }
}

impl Operands {
    /// Draws the operands of a convolution. Their numbers depend on the seed alone.
    pub(super) fn draw(convolution: Convolution, seed: u64, numbers: Numbers) -> Self {
        let [first, second] = convolution.operand_shapes();
        let of = |number: u64| Drawn { seed: seed.wrapping_add(number), numbers };
        let operands = match convolution.pass {
            Pass::Forward | Pass::InputGradient => [Operand::batch(first, of(1)), Operand::weight(second, of(2))],
            Pass::WeightGradient => [Operand::batch(first, of(1)), Operand::batch(second, of(3))],
        };
        let bias = convolution.has_bias.then(|| of(4).take(convolution.channels[1]));
        Self { convolution, seed, operands, bias }
    }

    /// The root of the sum over the squares of how often each term of an output comes, for [`Numbers::coarse`].
    pub(super) fn root_of_squared_terms(convolution: &Convolution) -> f64 {
        let Convolution { channels: [from, to], kernel_size: [height, width], groups, pass, .. } = *convolution;
        let taps = (height * width) as f64;
        let squared = match pass {
            Pass::Forward => (from / groups) as f64 * taps,
            Pass::InputGradient => (to / groups) as f64 * taps,
            Pass::WeightGradient => {
                let [height, width] = convolution.out_size();
                let squares: f64 = repetitions(convolution.batch).iter().map(|count| count * count).sum();
                squares * (height * width) as f64
            }
        };
        squared.sqrt()
    }

    /// Channels whose elements are summed with random signs: those of a group.
    fn summed_channels(&self) -> usize {
        let Convolution { channels: [from, to], groups, pass, .. } = self.convolution;
        match pass {
            Pass::Forward | Pass::WeightGradient => to / groups,
            Pass::InputGradient => from / groups,
        }
    }

    fn taps(&self) -> [Taps; 2] {
        let Convolution { image_size, kernel_size, stride, .. } = self.convolution;
        let out_size = self.convolution.out_size();
        [0, 1].map(|axis| Taps::new(image_size[axis], out_size[axis], kernel_size[axis], stride))
    }

    /// What the sums must be, for the distinct images: `[images, groups, height, width]`, or of a weight `[groups, channels in a group,
    /// kernel height, kernel width]`.
    pub(super) fn expected(&self) -> Vec<f64> {
        match self.convolution.pass {
            Pass::Forward => self.forward(),
            Pass::InputGradient => self.input_gradient(),
            Pass::WeightGradient => self.weight_gradient(),
        }
    }

    fn forward(&self) -> Vec<f64> {
        let Convolution { channels: [from, to], image_size: [height, width], stride, groups, .. } = self.convolution;
        let [out_height, out_width] = self.convolution.out_size();
        let ([x, weight], [rows, columns]) = (&self.operands, self.taps());
        let (per_group, summed) = (from / groups, to / groups);
        let kernel = rows.count * columns.count;
        let signs = signs(summed, self.seed);
        let mut result = vec![0.0; x.values.len() / (from * height * width) * groups * out_height * out_width];
        let planes = result.par_chunks_mut(out_height * out_width).enumerate();
        planes.for_each(|(index, plane)| {
            let (image, group) = (index / groups, index % groups);
            if let Some(bias) = &self.bias {
                let bias = bias[group * summed..].iter().zip(&signs);
                plane.fill(bias.map(|(bias, sign)| f64::from(*bias) * sign).sum());
            }
            for channel in 0..per_group {
                let start = (image * from + group * per_group + channel) * height * width;
                let x = &x.values[start..start + height * width];
                for &(tap_y, first_y, end_y, in_y) in &rows.ranges {
                    for &(tap_x, first_x, end_x, in_x) in &columns.ranges {
                        let tap = tap_y * columns.count + tap_x;
                        let of = |out: usize| {
                            let place = ((group * summed + out) * per_group + channel) * kernel + tap;
                            f64::from(weight.values[place]) * signs[out]
                        };
                        let factor: f64 = (0..summed).map(of).sum();
                        for (step, out_y) in (first_y..end_y).enumerate() {
                            let row = &x[(in_y + step * stride) * width + in_x..];
                            let out = &mut plane[out_y * out_width + first_x..out_y * out_width + end_x];
                            out.iter_mut()
                                .zip(row.iter().step_by(stride))
                                .for_each(|(out, x)| *out += factor * f64::from(*x));
                        }
                    }
                }
            }
        });
        result
    }

    fn input_gradient(&self) -> Vec<f64> {
        let Convolution { channels: [from, to], image_size: [height, width], stride, groups, .. } = self.convolution;
        let [out_height, out_width] = self.convolution.out_size();
        let ([dy, weight], [rows, columns]) = (&self.operands, self.taps());
        let (summed, per_group) = (from / groups, to / groups);
        let kernel = rows.count * columns.count;
        let signs = signs(summed, self.seed);
        let mut result = vec![0.0; dy.values.len() / (to * out_height * out_width) * groups * height * width];
        let planes = result.par_chunks_mut(height * width).enumerate();
        planes.for_each(|(index, plane)| {
            let (image, group) = (index / groups, index % groups);
            for channel in 0..per_group {
                let out = group * per_group + channel;
                let start = (image * to + out) * out_height * out_width;
                let dy = &dy.values[start..start + out_height * out_width];
                for &(tap_y, first_y, end_y, in_y) in &rows.ranges {
                    for &(tap_x, first_x, end_x, in_x) in &columns.ranges {
                        let tap = tap_y * columns.count + tap_x;
                        let of =
                            |from: usize| f64::from(weight.values[(out * summed + from) * kernel + tap]) * signs[from];
                        let factor: f64 = (0..summed).map(of).sum();
                        for (step, out_y) in (first_y..end_y).enumerate() {
                            let row = &mut plane[(in_y + step * stride) * width + in_x..];
                            let dy = &dy[out_y * out_width + first_x..out_y * out_width + end_x];
                            row.iter_mut().step_by(stride).zip(dy).for_each(|(x, dy)| *x += factor * f64::from(*dy));
                        }
                    }
                }
            }
        });
        result
    }

    fn weight_gradient(&self) -> Vec<f64> {
        let Convolution { batch, channels: [from, to], image_size: [height, width], stride, groups, .. } =
            self.convolution;
        let [out_height, out_width] = self.convolution.out_size();
        let ([x, dy], [rows, columns]) = (&self.operands, self.taps());
        let (per_group, summed) = (from / groups, to / groups);
        let pixels = out_height * out_width;
        let signs = signs(summed, self.seed);
        let repetitions = repetitions(batch);
        // `[images, groups, height, width]`: the gradients of the output, summed.
        let mut sums = vec![0.0; repetitions.len() * groups * pixels];
        sums.par_chunks_mut(pixels).enumerate().for_each(|(index, plane)| {
            let (image, group) = (index / groups, index % groups);
            for (channel, sign) in signs.iter().enumerate() {
                let start = (image * to + group * summed + channel) * pixels;
                let factor = sign * repetitions[image];
                plane.iter_mut().zip(&dy.values[start..]).for_each(|(sum, dy)| *sum += factor * f64::from(*dy));
            }
        });
        let kernel = rows.count * columns.count;
        let mut result = vec![0.0; from * kernel];
        result.par_chunks_mut(kernel).enumerate().for_each(|(channel, taps)| {
            let group = channel / per_group;
            for image in 0..repetitions.len() {
                let start = (image * from + channel) * height * width;
                let x = &x.values[start..start + height * width];
                let dy = &sums[(image * groups + group) * pixels..][..pixels];
                for &(tap_y, first_y, end_y, in_y) in &rows.ranges {
                    for &(tap_x, first_x, end_x, in_x) in &columns.ranges {
                        let mut sum = 0.0;
                        for (step, out_y) in (first_y..end_y).enumerate() {
                            let row = &x[(in_y + step * stride) * width + in_x..];
                            let dy = &dy[out_y * out_width + first_x..out_y * out_width + end_x];
                            sum += row.iter().step_by(stride).zip(dy).map(|(x, dy)| f64::from(*x) * dy).sum::<f64>();
                        }
                        taps[tap_y * columns.count + tap_x] += sum;
                    }
                }
            }
        });
        result
    }

    /// Compares a device's result, all of it, with what it must be.
    ///
    /// # Shapes
    /// - `found`: `[batch, channels, height, width]`, or that of the weight
    pub(super) fn compare(&self, found: &[f32]) -> Difference {
        let Convolution { groups, channels: [_, to], kernel_size: [height, width], pass, .. } = self.convolution;
        let expected = self.expected();
        let summed = self.summed_channels();
        let signs = signs(summed, self.seed);
        // What lies behind a channel: pixels, or the rest of a weight.
        let behind = match pass {
            Pass::Forward => self.convolution.out_size().iter().product(),
            Pass::InputGradient => self.convolution.image_size.iter().product(),
            Pass::WeightGradient => found.len() / to.max(1),
        };
        let sums: Vec<f64> = found
            .par_chunks(summed * behind)
            .flat_map_iter(|channels| {
                let mut sums = vec![0.0; behind];
                for (channel, sign) in channels.chunks(behind).zip(&signs) {
                    sums.iter_mut().zip(channel).for_each(|(sum, value)| *sum += sign * f64::from(*value));
                }
                sums
            })
            .collect();
        let mut difference = Difference::of(&sums, &expected);
        difference.is_finite &= found.iter().all(|value| value.is_finite());
        let place = difference.worst;
        let (slice, rest) = (place / behind, place % behind);
        let (image, group) = (slice / groups, slice % groups);
        let among = if groups > 1 { format!(", group {group}") } else { String::new() };
        difference.place = match pass {
            Pass::WeightGradient => {
                let (channel, tap) = (rest / (height * width), rest % (height * width));
                format!(
                    "group {slice}, input channel {channel}, row {} and column {} of the kernel",
                    tap / width,
                    tap % width
                )
            }
            Pass::Forward | Pass::InputGradient => {
                let side =
                    if pass == Pass::Forward { self.convolution.out_size()[1] } else { self.convolution.image_size[1] };
                format!("image {image}{among}, row {}, column {}", rest / side, rest % side)
            }
        };
        difference
    }
}

/// The operands of a product.
#[derive(Debug)]
pub(super) struct Matrices {
    product: Product,
    seed: u64,
    /// `[rows, inner]` and `[inner, columns]`.
    pub(super) matrices: [Operand; 2],
}

impl Matrices {
    pub(super) fn draw(product: Product, seed: u64, numbers: Numbers) -> Self {
        let Product { rows, inner, columns } = product;
        let of = |shape, number| Operand::weight(shape, Drawn { seed: seed.wrapping_add(number), numbers });
        Self { product, seed, matrices: [of([1, 1, rows, inner], 1), of([1, 1, inner, columns], 2)] }
    }

    pub(super) fn root_of_squared_terms(product: &Product) -> f64 {
        (product.inner as f64).sqrt()
    }

    /// Compares a device's result, `[rows, columns]`, with what it must be.
    pub(super) fn compare(&self, found: &[f32]) -> Difference {
        let Product { inner, columns, .. } = self.product;
        let [lhs, rhs] = &self.matrices;
        let signs = signs(columns, self.seed);
        let signed =
            |row: &[f32]| -> f64 { row.iter().zip(&signs).map(|(value, sign)| f64::from(*value) * sign).sum() };
        let sums: Vec<f64> = rhs.values.par_chunks(columns).map(signed).collect(); // [inner]
        let expected: Vec<f64> = lhs
            .values
            .par_chunks(inner)
            .map(|row| row.iter().zip(&sums).map(|(value, sum)| f64::from(*value) * sum).sum())
            .collect();
        let mut difference = Difference::of(&found.par_chunks(columns).map(signed).collect::<Vec<_>>(), &expected);
        difference.is_finite &= found.iter().all(|value| value.is_finite());
        difference.place = format!("row {}", difference.worst);
        difference
    }
}

/// How far a device's sums are from what they must be.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    /// The length of the difference, as a share of that of what is expected.
    pub(super) share: f64,
    /// The largest difference, in root mean squares of what is expected.
    pub(super) largest: f64,
    /// The largest difference itself.
    pub(super) absolute: f64,
    /// Where it is.
    worst: usize,
    /// The same for people.
    pub(super) place: String,
    pub(super) is_finite: bool,
}

impl Difference {
    /// `expected` is of the distinct images, which `found` repeats.
    fn of(found: &[f64], expected: &[f64]) -> Self {
        let root_mean_square = |squares: f64, count: usize| (squares / count.max(1) as f64).sqrt();
        let size =
            root_mean_square(expected.iter().map(|value| value * value).sum(), expected.len()).max(f64::MIN_POSITIVE);
        let (mut squares, mut absolute, mut worst) = (0.0, 0.0, 0);
        let mut is_finite = true;
        for (place, (found, expected)) in found.iter().zip(expected.iter().cycle()).enumerate() {
            let difference = (found - expected).abs();
            is_finite &= difference.is_finite();
            squares += difference * difference;
            if difference > absolute || !difference.is_finite() {
                (absolute, worst) = (difference, place);
            }
        }
        let share = root_mean_square(squares, found.len()) / size;
        Self { share, largest: absolute / size, absolute, worst, place: String::new(), is_finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole result of a convolution, element by element, from its definition.
    fn direct(operands: &Operands) -> Vec<f32> {
        let convolution = operands.convolution;
        let Convolution {
            batch,
            channels: [from, to],
            image_size: [height, width],
            kernel_size: [rows, columns],
            stride,
            groups,
            pass,
            ..
        } = convolution;
        let [out_height, out_width] = convolution.out_size();
        let [first, second] = [0, 1].map(|index| operands.operands[index].rows_first());
        let shape = match pass {
            Pass::Forward => convolution.output_shape(),
            Pass::InputGradient => convolution.input_shape(),
            Pass::WeightGradient => convolution.weight_shape(),
        };
        let mut result = vec![0.0_f64; shape.iter().product()];
        if let (Pass::Forward, Some(bias)) = (pass, &operands.bias) {
            let pixels = out_height * out_width;
            result.iter_mut().enumerate().for_each(|(place, value)| *value = f64::from(bias[place / pixels % to]));
        }
        let (ins, outs) = (from / groups, to / groups);
        for image in 0..batch {
            for out in 0..to {
                for channel in 0..ins {
                    let from_channel = out / outs * ins + channel;
                    for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                            let (in_y, in_x) = (y * stride + row, x * stride + column);
                            let (Some(in_y), Some(in_x)) = (in_y.checked_sub(rows / 2), in_x.checked_sub(columns / 2))
                            else {
                                continue;
                            };
                            if in_y >= height || in_x >= width {
                                continue;
                            }
                            let input = ((image * from + from_channel) * height + in_y) * width + in_x;
                            let weight = ((out * ins + channel) * rows + row) * columns + column;
                            let output = ((image * to + out) * out_height + y) * out_width + x;
                            let (place, a, b) = match pass {
                                Pass::Forward => (output, input, weight),
                                Pass::InputGradient => (input, output, weight),
                                Pass::WeightGradient => (weight, input, output),
                            };
                            result[place] += f64::from(first[a]) * f64::from(second[b]);
                        }
                    }
                }
            }
        }
        result.into_iter().map(|value| value as f32).collect()
    }

    fn shapes() -> Vec<Convolution> {
        let base = Convolution {
            batch: 9,
            channels: [6, 4],
            image_size: [7, 5],
            kernel_size: [3, 3],
            stride: 1,
            groups: 1,
            has_bias: false,
            pass: Pass::Forward,
        };
        let each = [
            base,
            Convolution { kernel_size: [1, 1], has_bias: true, ..base },
            Convolution { channels: [6, 6], groups: 6, kernel_size: [5, 5], stride: 2, has_bias: true, ..base },
            Convolution { channels: [6, 12], groups: 6, image_size: [4, 6], ..base },
            Convolution { channels: [3, 8], image_size: [8, 9], stride: 2, batch: 2, ..base },
            Convolution { kernel_size: [1, 5], groups: 2, image_size: [1, 1], ..base },
            Convolution { kernel_size: [7, 1], stride: 3, image_size: [2, 2], ..base },
        ];
        let passes = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];
        each.into_iter().flat_map(|shape| passes.map(|pass| Convolution { pass, ..shape })).collect()
    }

    #[test]
    fn right_results_differ_by_nothing_and_each_wrong_element_is_found() {
        for convolution in shapes() {
            let numbers = Numbers::coarse(Operands::root_of_squared_terms(&convolution));
            let operands = Operands::draw(convolution, 5, numbers);
            let mut result = direct(&operands);
            let difference = operands.compare(&result);
            assert!(difference.is_finite && difference.absolute == 0.0, "{convolution}: {difference:?}");
            for place in 0..result.len() {
                let right = result[place];
                result[place] += 0.25;
                assert_eq!(operands.compare(&result).absolute, 0.25, "{convolution}, element {place}");
                result[place] = right;
            }
            result[0] = f32::NAN;
            assert!(!operands.compare(&result).is_finite);
        }
    }

    #[test]
    fn products_are_compared_as_convolutions_are() {
        let product = Product { rows: 5, inner: 7, columns: 3 };
        let matrices = Matrices::draw(product, 1, Numbers::coarse(Matrices::root_of_squared_terms(&product)));
        let [lhs, rhs] = [0, 1].map(|index| matrices.matrices[index].rows_first());
        let element =
            |row: usize, column: usize| (0..7).map(|inner| lhs[row * 7 + inner] * rhs[inner * 3 + column]).sum::<f32>();
        let mut result: Vec<f32> = (0..15).map(|place| element(place / 3, place % 3)).collect();
        assert_eq!(matrices.compare(&result).absolute, 0.0);
        result[14] += 0.5;
        let difference = matrices.compare(&result);
        assert_eq!((difference.absolute, difference.place.as_str()), (0.5, "row 4"));
    }

    #[test]
    fn an_operand_is_the_same_in_both_layouts() {
        let operand = Operand::batch([9, 3, 2, 4], Drawn { seed: 1, numbers: Numbers::Fine { steps: 1024 } });
        let (rows_first, channels_last) = (operand.rows_first(), operand.channels_last());
        for (image, channel, pixel) in (0..9).flat_map(|i| (0..3).flat_map(move |c| (0..8).map(move |p| (i, c, p)))) {
            assert_eq!(rows_first[(image * 3 + channel) * 8 + pixel], channels_last[(image * 8 + pixel) * 3 + channel]);
        }
    }
}

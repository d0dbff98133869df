//! Depthwise convolutions, forward and backward, each channel by threads of its own.

use cubecl::prelude::*;
use cubecl::std::FastDivmod;

use super::moments::{moments_of, write_part as write_moments};
use super::norm::{GradientSums, affine_of, passed, standardised, write_part as write_sums};
use super::sweep::{Columns, Extent, Lane, Number, Tile, lane_of, sum_over_lanes, sum_over_parts};

/// The kernel of a convolution that is padded by half of it. Known when a kernel is compiled: all loops over it are unrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    /// Odd.
    pub(super) height: usize,
    /// Odd.
    pub(super) width: usize,
    /// In both directions.
    pub(super) stride: usize,
}

impl Window {
    pub(super) fn taps(self) -> usize {
        self.height * self.width
    }
}

/// The sizes of a convolution's input and output, in pixels.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Sizes {
    pub(super) in_height: FastDivmod<usize>,
    pub(super) in_width: FastDivmod<usize>,
    pub(super) out_height: FastDivmod<usize>,
    pub(super) out_width: FastDivmod<usize>,
    pub(super) in_size: Size2,
    pub(super) out_size: Size2,
}

/// The same as plain numbers.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Size2 {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// The weights of a channel, from `[channels, 1, height, width]`.
#[cube]
fn weights_of(kernel: &[f32], channel: usize, #[comptime] window: Window) -> Array<f32> {
    let taps = comptime!(window.taps());
    let mut weights = Array::<f32>::new(taps);
    #[unroll]
    for tap in 0..taps {
        weights[tap] = kernel[channel * taps + tap];
    }
    weights
}

/// Convolves: writes `z`, contiguous, and the moments of its parts, `[parts, 4, channels]`.
#[cube(launch, address_type = "dynamic")]
pub(super) fn forward<E: Float>(
    x: &[E],
    kernel: &[f32],
    z: &mut [E],
    partials: &mut [f32],
    columns: Columns,
    sizes: Sizes,
    extent: Extent,
    #[comptime] window: Window,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let weights = weights_of(kernel, lane.channel, window);
    let stride = comptime!(window.stride);
    let (top, left) = comptime!((window.height / 2, window.width / 2));
    let mut base = 0.0f32;
    let mut count = 0.0f32;
    let mut sum = 0.0f32;
    let mut squares = 0.0f32;
    let mut row = lane.first;
    while row < lane.end {
        let (rest, out_x) = sizes.out_width.div_mod(row);
        let (image, out_y) = sizes.out_height.div_mod(rest);
        let mut value = 0.0f32;
        #[unroll]
        for tap_y in 0..comptime!(window.height) {
            // Shifted by the padding, so that it is never negative.
            let y = out_y * stride + tap_y;
            if y >= top && y < sizes.in_size.height + top {
                let line = (image * sizes.in_size.height + y - top) * sizes.in_size.width;
                #[unroll]
                for tap_x in 0..comptime!(window.width) {
                    let x_at = out_x * stride + tap_x;
                    if x_at >= left && x_at < sizes.in_size.width + left {
                        let at = (line + x_at - left) * columns.pitch + columns.start + lane.channel;
                        value += weights[comptime!(tap_y * window.width + tap_x)] * f32::cast_from(x[at]);
                    }
                }
            }
        }
        let written = E::cast_from(value);
        z[row * lane.channels + lane.channel] = written;
        // Of what is stored, which the norm will read.
        let value = f32::cast_from(written);
        if count == 0.0 {
            base = value;
        }
        let difference = value - base;
        count += 1.0;
        sum += difference;
        squares += difference * difference;
        row += tile.lanes as usize;
    }
    let own = moments_of(base, count, sum, squares);
    write_moments(own, partials, &lane, tile);
}

/// The gradient of one value of the input, from the contiguous gradient `dz` of the output.
#[cube]
fn gathered<E: Float>(
    dz: &[E],
    weights: &Array<f32>,
    sizes: &Sizes,
    row: usize,
    lane: &Lane,
    #[comptime] window: Window,
) -> f32 {
    let stride = comptime!(window.stride);
    let (top, left) = comptime!((window.height / 2, window.width / 2));
    let (rest, in_x) = sizes.in_width.div_mod(row);
    let (image, in_y) = sizes.in_height.div_mod(rest);
    let mut value = 0.0f32;
    #[unroll]
    for tap_y in 0..comptime!(window.height) {
        let y = in_y + top;
        if y >= tap_y && (y - tap_y) % stride == 0 {
            let out_y = (y - tap_y) / stride;
            if out_y < sizes.out_size.height {
                let line = (image * sizes.out_size.height + out_y) * sizes.out_size.width;
                #[unroll]
                for tap_x in 0..comptime!(window.width) {
                    let x = in_x + left;
                    if x >= tap_x && (x - tap_x) % stride == 0 {
                        let out_x = (x - tap_x) / stride;
                        if out_x < sizes.out_size.width {
                            let read = f32::cast_from(dz[(line + out_x) * lane.channels + lane.channel]);
                            value += weights[comptime!(tap_y * window.width + tap_x)] * read;
                        }
                    }
                }
            }
        }
    }
    value
}

/// The gradient of the input, contiguous, from the contiguous gradient `dz` of the output. The rows are the input's.
#[cube(launch, address_type = "dynamic")]
pub(super) fn input_gradient<E: Float>(
    dz: &[E],
    kernel: &[f32],
    dx: &mut [E],
    sizes: Sizes,
    extent: Extent,
    #[comptime] window: Window,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let weights = weights_of(kernel, lane.channel, window);
    let mut row = lane.first;
    while row < lane.end {
        let value = gathered(dz, &weights, &sizes, row, &lane, window);
        dx[row * lane.channels + lane.channel] = E::cast_from(value);
        row += tile.lanes as usize;
    }
}

/// The same in a Ghost module: plus `dy`, the gradient of the intrinsic maps in the output; through the primary's ReLU; and with
/// the sums that the primary's norm needs, `[parts, 2, channels]`. `x` is that norm's input.
#[cube(launch, address_type = "dynamic")]
pub(super) fn intrinsic_gradient<E: Float>(
    dz: &[E],
    kernel: &[f32],
    dy: &[E],
    x: &[E],
    coefficients: &[f32],
    gradient: &mut [E],
    partials: &mut [f32],
    dy_columns: Columns,
    x_columns: Columns,
    sizes: Sizes,
    extent: Extent,
    #[comptime] window: Window,
    #[comptime] relu: bool,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let weights = weights_of(kernel, lane.channel, window);
    let affine = affine_of(coefficients, &lane);
    let mut gradients = 0.0f32;
    let mut products = 0.0f32;
    let mut row = lane.first;
    while row < lane.end {
        let value = f32::cast_from(x[row * x_columns.pitch + x_columns.start + lane.channel]);
        let standard = standardised(&affine, value);
        let own = f32::cast_from(dy[row * dy_columns.pitch + dy_columns.start + lane.channel]);
        let other = gathered(dz, &weights, &sizes, row, &lane, window);
        let written = E::cast_from(passed(&affine, standard, own + other, relu));
        gradient[row * lane.channels + lane.channel] = written;
        // Of what is stored, so that the norm's gradient has exactly the mean that is taken off it.
        let read = f32::cast_from(written);
        gradients += read;
        products += read * standard;
        row += tile.lanes as usize;
    }
    write_sums(GradientSums { gradient: gradients, product: products }, partials, &lane, tile);
}

/// The weights' gradient of each part, `[parts, channels, taps]`, from the contiguous gradient `dz` of the output. The rows are
/// the output's.
#[cube(launch, address_type = "dynamic")]
pub(super) fn partial_weight_gradient<E: Float>(
    dz: &[E],
    x: &[E],
    partials: &mut [f32],
    columns: Columns,
    sizes: Sizes,
    extent: Extent,
    #[comptime] window: Window,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let stride = comptime!(window.stride);
    let (top, left) = comptime!((window.height / 2, window.width / 2));
    let taps = comptime!(window.taps());
    let mut sums = Array::<f32>::new(taps);
    #[unroll]
    for tap in 0..taps {
        sums[tap] = 0.0f32;
    }
    let mut row = lane.first;
    while row < lane.end {
        let (rest, out_x) = sizes.out_width.div_mod(row);
        let (image, out_y) = sizes.out_height.div_mod(rest);
        let gradient = f32::cast_from(dz[row * lane.channels + lane.channel]);
        #[unroll]
        for tap_y in 0..comptime!(window.height) {
            let y = out_y * stride + tap_y;
            if y >= top && y < sizes.in_size.height + top {
                let line = (image * sizes.in_size.height + y - top) * sizes.in_size.width;
                #[unroll]
                for tap_x in 0..comptime!(window.width) {
                    let x_at = out_x * stride + tap_x;
                    if x_at >= left && x_at < sizes.in_size.width + left {
                        let at = (line + x_at - left) * columns.pitch + columns.start + lane.channel;
                        sums[comptime!(tap_y * window.width + tap_x)] += gradient * f32::cast_from(x[at]);
                    }
                }
            }
        }
        row += tile.lanes as usize;
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!((tile.columns * tile.lanes) as usize));
    #[unroll]
    for tap in 0..taps {
        let sum = sum_over_lanes(&mut shared, sums[tap], tile);
        if UNIT_POS_Y == 0 && lane.is_active {
            partials[(CUBE_POS_Y as usize * lane.channels + lane.channel) * taps + tap] = sum;
        }
    }
}

/// Adds up the parts of `[parts, columns]`.
#[cube(launch, address_type = "dynamic")]
pub(super) fn finish_weight_gradient(partials: &[f32], gradient: &mut [f32], extent: Extent, #[comptime] tile: Tile) {
    let lane = lane_of(&extent, tile);
    let mut shared = Shared::<[f32]>::new_slice(comptime!((tile.columns * tile.lanes) as usize));
    let number = Number { pitch: lane.channels, start: lane.channel, parts: extent.rows };
    let sum = sum_over_parts(partials, &mut shared, number, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        gradient[lane.channel] = sum;
    }
}

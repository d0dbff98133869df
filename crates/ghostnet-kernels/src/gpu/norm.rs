//! Norm and ReLU, forward and backward.
//!
//! Where a ReLU let through is found from the norm's input, which has to be read anyway, rather than from its output: so the output
//! need not be read, nor kept for the way back.

use cubecl::prelude::*;

use super::sweep::{Columns, Extent, Lane, Number, Tile, lane_of, sum_over_lanes, sum_over_parts};

/// Of one channel: its mean, 1 / its standard deviation, and the norm's parameters.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Affine {
    mean: f32,
    inverse: f32,
    weight: f32,
    bias: f32,
}

/// Reads `[4, channels]`.
#[cube]
pub(super) fn affine_of(coefficients: &[f32], lane: &Lane) -> Affine {
    let (channel, channels) = (lane.channel, lane.channels);
    Affine {
        mean: coefficients[channel],
        inverse: coefficients[channels + channel],
        weight: coefficients[2 * channels + channel],
        bias: coefficients[3 * channels + channel],
    }
}

/// The value with mean 0 and variance 1.
#[cube]
pub(super) fn standardised(affine: &Affine, value: f32) -> f32 {
    (value - affine.mean) * affine.inverse
}

#[cube]
fn shifted(affine: &Affine, standard: f32) -> f32 {
    standard * affine.weight + affine.bias
}

/// What a ReLU lets through of `value`, which is its input or a gradient. What is not a number passes, as in burn's own.
#[cube]
fn where_positive(input: f32, value: f32, #[comptime] relu: bool) -> f32 {
    if comptime!(relu) { select(input <= 0.0, 0.0f32, value) } else { value }
}

/// The part of a gradient that the ReLU behind the norm lets through.
#[cube]
pub(super) fn passed(affine: &Affine, standard: f32, gradient: f32, #[comptime] relu: bool) -> f32 {
    where_positive(shifted(affine, standard), gradient, relu)
}

/// Normalises `x` and writes it, after the ReLU if there is one, into the columns `to` of `y`.
#[cube(launch, address_type = "dynamic")]
pub(super) fn normalise<E: Float>(
    x: &[E],
    coefficients: &[f32],
    y: &mut [E],
    from: Columns,
    to: Columns,
    extent: Extent,
    #[comptime] relu: bool,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let affine = affine_of(coefficients, &lane);
    let mut row = lane.first;
    while row < lane.end {
        let value = f32::cast_from(x[row * from.pitch + from.start + lane.channel]);
        let normed = shifted(&affine, standardised(&affine, value));
        y[row * to.pitch + to.start + lane.channel] = E::cast_from(where_positive(normed, normed, relu));
        row += tile.lanes as usize;
    }
}

/// How many numbers a part gives for a channel.
pub(super) const NUMBERS: usize = 2;

/// The sums of the gradient behind the norm, and of its products with the standardised values: of one lane.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct GradientSums {
    pub(super) gradient: f32,
    pub(super) product: f32,
}

/// Writes a part's sums, `[parts, 2, channels]`, from those of its lanes: of the products, then of the gradients.
#[cube]
pub(super) fn write_part(own: GradientSums, partials: &mut [f32], lane: &Lane, #[comptime] tile: Tile) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!((tile.columns * tile.lanes) as usize));
    let product = sum_over_lanes(&mut shared, own.product, tile);
    let gradient = sum_over_lanes(&mut shared, own.gradient, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        let at = CUBE_POS_Y as usize * comptime!(NUMBERS) * lane.channels + lane.channel;
        partials[at] = product;
        partials[at + lane.channels] = gradient;
    }
}

/// The sums of each part, `[parts, 2, channels]`, for the gradient `dy` behind norm and ReLU.
#[cube(launch, address_type = "dynamic")]
pub(super) fn partial_sums<E: Float>(
    dy: &[E],
    x: &[E],
    coefficients: &[f32],
    partials: &mut [f32],
    dy_columns: Columns,
    x_columns: Columns,
    extent: Extent,
    #[comptime] relu: bool,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let affine = affine_of(coefficients, &lane);
    let mut gradient = 0.0f32;
    let mut product = 0.0f32;
    let mut row = lane.first;
    while row < lane.end {
        let value = f32::cast_from(x[row * x_columns.pitch + x_columns.start + lane.channel]);
        let standard = standardised(&affine, value);
        let read = f32::cast_from(dy[row * dy_columns.pitch + dy_columns.start + lane.channel]);
        let read = passed(&affine, standard, read, relu);
        gradient += read;
        product += read * standard;
        row += tile.lanes as usize;
    }
    write_part(GradientSums { gradient, product }, partials, &lane, tile);
}

/// Adds up the parts: the gradients of the norm's weight and bias, `[channels]`.
#[cube(launch, address_type = "dynamic")]
pub(super) fn finish_sums(
    partials: &[f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    extent: Extent,
    #[comptime] tile: Tile,
) {
    let lane = lane_of(&extent, tile);
    let mut shared = Shared::<[f32]>::new_slice(comptime!((tile.columns * tile.lanes) as usize));
    let pitch = comptime!(NUMBERS) * lane.channels;
    let products = Number { pitch, start: lane.channel, parts: extent.rows };
    let gradients = Number { pitch, start: lane.channels + lane.channel, parts: extent.rows };
    let product = sum_over_parts(partials, &mut shared, products, tile);
    let gradient = sum_over_parts(partials, &mut shared, gradients, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        weight_gradient[lane.channel] = product;
        bias_gradient[lane.channel] = gradient;
    }
}

/// The gradient of the norm's input, contiguous, from that behind norm and ReLU and from the sums of it.
#[cube(launch, address_type = "dynamic")]
pub(super) fn input_gradient<E: Float>(
    dy: &[E],
    x: &[E],
    coefficients: &[f32],
    weight_gradient: &[f32],
    bias_gradient: &[f32],
    dx: &mut [E],
    dy_columns: Columns,
    x_columns: Columns,
    extent: Extent,
    #[comptime] relu: bool,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let affine = affine_of(coefficients, &lane);
    let share = 1.0 / f32::cast_from(extent.rows);
    let mean_product = weight_gradient[lane.channel] * share;
    let mean_gradient = bias_gradient[lane.channel] * share;
    let scale = affine.weight * affine.inverse;
    let mut row = lane.first;
    while row < lane.end {
        let value = f32::cast_from(x[row * x_columns.pitch + x_columns.start + lane.channel]);
        let standard = standardised(&affine, value);
        let read = f32::cast_from(dy[row * dy_columns.pitch + dy_columns.start + lane.channel]);
        let read = passed(&affine, standard, read, relu);
        let gradient = scale * (read - mean_gradient - standard * mean_product);
        dx[row * extent.channels + lane.channel] = E::cast_from(gradient);
        row += tile.lanes as usize;
    }
}

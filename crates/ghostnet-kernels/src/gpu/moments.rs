//! Mean and variance of every channel of a map.

use cubecl::prelude::*;

use super::sweep::{Columns, Extent, Lane, Tile, lane_of};

/// How many numbers a part gives for a channel.
pub(super) const NUMBERS: usize = 4;

/// Of some values: how many, their mean as one of them plus a difference, and the sum of the squared differences from it. So a
/// mean that is large beside the spread costs no digits; and two of these are merged without loss (Chan, Golub and LeVeque,
/// "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Moments {
    pub(super) count: f32,
    pub(super) base: f32,
    pub(super) offset: f32,
    pub(super) squares: f32,
}

#[cube]
fn merged(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    // Nothing has no base.
    let base = select(a.count > 0.0, a.base, b.base);
    let offset = select(a.count > 0.0, a.offset, b.offset);
    let difference = (b.base - base) + (b.offset - offset);
    Moments {
        count,
        base,
        offset: offset + difference * share,
        squares: a.squares + b.squares + difference * difference * (a.count * share),
    }
}

/// From sums of the values' differences from `base`, which is one of them.
#[cube]
pub(super) fn moments_of(base: f32, count: f32, sum: f32, squares: f32) -> Moments {
    let offset = sum / max(count, 1.0);
    let about_mean = squares - sum * offset;
    // Rounding must not make it negative; what is not a number stays so.
    Moments { count, base, offset, squares: select(about_mean < 0.0, 0.0f32, about_mean) }
}

/// The moments of all lanes together, in a tree. All threads of the workgroup must come here.
#[cube]
fn merge_over_lanes(own: Moments, #[comptime] tile: Tile) -> Moments {
    let threads = comptime!((tile.columns * tile.lanes) as usize);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(NUMBERS * threads));
    let at = UNIT_POS as usize;
    store(&mut shared, at, threads, own);
    sync_cube();
    #[unroll]
    for step in 0..comptime!(tile.lanes.ilog2()) {
        let half = comptime!(tile.lanes >> (step + 1));
        if UNIT_POS_Y < half {
            let other = at + comptime!((half * tile.columns) as usize);
            let both = merged(load(&shared, at, threads), load(&shared, other, threads));
            store(&mut shared, at, threads, both);
        }
        sync_cube();
    }
    load(&shared, UNIT_POS_X as usize, threads)
}

/// Reads what lies `pitch` apart.
#[cube]
fn load(from: &[f32], at: usize, pitch: usize) -> Moments {
    Moments { count: from[at], base: from[at + pitch], offset: from[at + 2 * pitch], squares: from[at + 3 * pitch] }
}

#[cube]
fn store(to: &mut [f32], at: usize, pitch: usize, moments: Moments) {
    to[at] = moments.count;
    to[at + pitch] = moments.base;
    to[at + 2 * pitch] = moments.offset;
    to[at + 3 * pitch] = moments.squares;
}

/// Writes a part's moments, `[parts, 4, channels]`, from those of its lanes.
#[cube]
pub(super) fn write_part(own: Moments, partials: &mut [f32], lane: &Lane, #[comptime] tile: Tile) {
    let all = merge_over_lanes(own, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        let at = CUBE_POS_Y as usize * comptime!(NUMBERS) * lane.channels + lane.channel;
        store(partials, at, lane.channels, all);
    }
}

/// First pass: the moments of each part of the rows, `[parts, 4, channels]`.
#[cube(launch, address_type = "dynamic")]
pub(super) fn partial_moments<E: Float>(
    x: &[E],
    partials: &mut [f32],
    columns: Columns,
    extent: Extent,
    #[comptime] tile: Tile,
    #[define(E)] _element: ElemType,
) {
    let lane = lane_of(&extent, tile);
    let mut row = lane.first;
    let mut base = 0.0f32;
    if row < lane.end {
        base = f32::cast_from(x[row * columns.pitch + columns.start + lane.channel]);
    }
    let mut count = 0.0f32;
    let mut sum = 0.0f32;
    let mut squares = 0.0f32;
    while row < lane.end {
        let difference = f32::cast_from(x[row * columns.pitch + columns.start + lane.channel]) - base;
        count += 1.0;
        sum += difference;
        squares += difference * difference;
        row += tile.lanes as usize;
    }
    let own = moments_of(base, count, sum, squares);
    write_part(own, partials, &lane, tile);
}

/// Second pass: mean and biased variance, `[channels]`, and what the norm needs, `[4, channels]`: see
/// [`Affine`](super::norm::Affine).
#[cube(launch, address_type = "dynamic")]
pub(super) fn finish_moments(
    partials: &[f32],
    weight: &[f32],
    bias: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
    coefficients: &mut [f32],
    epsilon: f32,
    extent: Extent,
    #[comptime] tile: Tile,
) {
    // The rows are the parts.
    let channels = extent.channels;
    let lane = lane_of(&extent, tile);
    let mut count = 0.0f32;
    let mut base = 0.0f32;
    let mut offset = 0.0f32;
    let mut squares = 0.0f32;
    let mut part = lane.first;
    while part < lane.end {
        let next = load(partials, part * comptime!(NUMBERS) * channels + lane.channel, channels);
        let both = merged(Moments { count, base, offset, squares }, next);
        count = both.count;
        base = both.base;
        offset = both.offset;
        squares = both.squares;
        part += tile.lanes as usize;
    }
    let all = merge_over_lanes(Moments { count, base, offset, squares }, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        let channel = lane.channel;
        let biased = all.squares / all.count;
        let value = all.base + all.offset;
        mean[channel] = value;
        variance[channel] = biased;
        coefficients[channel] = value;
        coefficients[channels + channel] = 1.0 / (biased + epsilon).sqrt();
        coefficients[2 * channels + channel] = weight[channel];
        coefficients[3 * channels + channel] = bias[channel];
    }
}

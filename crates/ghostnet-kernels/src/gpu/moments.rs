//! Mean and variance of every channel of a map.

use cubecl::prelude::*;

use super::sweep::{Columns, Extent, Lane, Tile, lane_of};

/// How many numbers a part gives for a channel.
pub(super) const NUMBERS: usize = 3;

/// Of some values: how many, their mean, and the sum of the squared differences from it. Two of them are merged without loss
/// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Moments {
    pub(super) count: f32,
    pub(super) mean: f32,
    pub(super) squares: f32,
}

#[cube]
fn merged(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    // Of nothing and nothing the mean is 0.
    let share = select(count > 0.0, b.count / max(count, 1.0), 0.0);
    let difference = b.mean - a.mean;
    Moments {
        count,
        mean: a.mean + difference * share,
        squares: a.squares + b.squares + difference * difference * (a.count * share),
    }
}

/// Sums of one thread, of the differences from its first value: so a mean that is large beside the spread costs no digits.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Shifted {
    pub(super) shift: f32,
    pub(super) count: f32,
    pub(super) sum: f32,
    pub(super) squares: f32,
}

#[cube]
pub(super) fn moments_of(shifted: Shifted) -> Moments {
    let mean = shifted.sum / max(shifted.count, 1.0);
    Moments {
        count: shifted.count,
        mean: shifted.shift + mean,
        squares: max(shifted.squares - shifted.sum * mean, 0.0),
    }
}

/// The moments of all lanes together, in a tree. All threads of the workgroup must come here.
#[cube]
fn merge_over_lanes(own: Moments, #[comptime] tile: Tile) -> Moments {
    let threads = comptime!((tile.columns * tile.lanes) as usize);
    let mut counts = Shared::<[f32]>::new_slice(threads);
    let mut means = Shared::<[f32]>::new_slice(threads);
    let mut squares = Shared::<[f32]>::new_slice(threads);
    let at = UNIT_POS as usize;
    counts[at] = own.count;
    means[at] = own.mean;
    squares[at] = own.squares;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(tile.lanes.ilog2()) {
        let half = comptime!(tile.lanes >> (step + 1));
        if UNIT_POS_Y < half {
            let other = at + comptime!((half * tile.columns) as usize);
            let both = merged(
                Moments { count: counts[at], mean: means[at], squares: squares[at] },
                Moments { count: counts[other], mean: means[other], squares: squares[other] },
            );
            counts[at] = both.count;
            means[at] = both.mean;
            squares[at] = both.squares;
        }
        sync_cube();
    }
    let first = UNIT_POS_X as usize;
    Moments { count: counts[first], mean: means[first], squares: squares[first] }
}

/// Writes a part's moments, `[parts, 3, channels]`, from those of its lanes.
#[cube]
pub(super) fn write_part(own: Moments, partials: &mut [f32], lane: &Lane, channels: usize, #[comptime] tile: Tile) {
    let all = merge_over_lanes(own, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        let at = CUBE_POS_Y as usize * comptime!(NUMBERS) * channels + lane.channel;
        partials[at] = all.count;
        partials[at + channels] = all.mean;
        partials[at + 2 * channels] = all.squares;
    }
}

/// First pass: the moments of each part of the rows, `[parts, 3, channels]`.
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
    let mut shift = 0.0f32;
    if row < lane.end {
        shift = f32::cast_from(x[row * columns.pitch + columns.start + lane.channel]);
    }
    let mut count = 0.0f32;
    let mut sum = 0.0f32;
    let mut squares = 0.0f32;
    while row < lane.end {
        let difference = f32::cast_from(x[row * columns.pitch + columns.start + lane.channel]) - shift;
        count += 1.0;
        sum += difference;
        squares += difference * difference;
        row += tile.lanes as usize;
    }
    let own = moments_of(Shifted { shift, count, sum, squares });
    write_part(own, partials, &lane, extent.channels, tile);
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
    let mut mean_so_far = 0.0f32;
    let mut squares = 0.0f32;
    let mut part = lane.first;
    while part < lane.end {
        let at = part * comptime!(NUMBERS) * channels + lane.channel;
        let own = Moments { count, mean: mean_so_far, squares };
        let next = Moments { count: partials[at], mean: partials[at + channels], squares: partials[at + 2 * channels] };
        let both = merged(own, next);
        count = both.count;
        mean_so_far = both.mean;
        squares = both.squares;
        part += tile.lanes as usize;
    }
    let all = merge_over_lanes(Moments { count, mean: mean_so_far, squares }, tile);
    if UNIT_POS_Y == 0 && lane.is_active {
        let channel = lane.channel;
        let biased = all.squares / all.count;
        mean[channel] = all.mean;
        variance[channel] = biased;
        coefficients[channel] = all.mean;
        coefficients[channels + channel] = 1.0 / (biased + epsilon).sqrt();
        coefficients[2 * channels + channel] = weight[channel];
        coefficients[3 * channels + channel] = bias[channel];
    }
}

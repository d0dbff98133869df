//! How a kernel goes over a map, and what its threads do together.
//!
//! A map lies in memory channels-last: as rows, one for each pixel, of channels. A workgroup has a few neighbouring channels, so
//! that its reads are of neighbouring addresses, times a number of lanes; each lane goes over every so many rows of the
//! workgroup's part of them. What is summed, every lane sums in one order, then a tree over the lanes, then a second kernel over
//! the parts: the result is the same each time, without atomics.

use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

/// The threads of a workgroup: those beside one another have neighbouring channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Channels, a power of two.
    pub(super) columns: u32,
    /// Rows at a time, a power of two.
    pub(super) lanes: u32,
}

impl Tile {
    /// The most threads that every adapter of WebGPU runs in a workgroup.
    const THREADS: u32 = 256;
    /// Channels side by side: as many as a subgroup has threads on most cards, or fewer where too many threads would have none.
    const COLUMNS: [u32; 3] = [32, 16, 8];

    fn new(client: &Client, channels: usize) -> Self {
        let limit = client.properties().hardware.max_units_per_cube.clamp(1, Self::THREADS);
        let threads = 1 << limit.ilog2();
        let fits = |columns: &u32| {
            let idle = channels.next_multiple_of(*columns as usize) - channels;
            idle <= channels / 8
        };
        let [.., fewest] = Self::COLUMNS;
        let few = channels.next_power_of_two().min(fewest as usize) as u32;
        let columns = Self::COLUMNS.into_iter().find(fits).unwrap_or(few).min(threads);
        Self { columns, lanes: threads / columns }
    }
}

/// What a kernel does with what it reads.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Writes a value for each.
    Map,
    /// Sums over rows, in parts.
    Sum,
}

/// The workgroups of a kernel over the rows and channels of a map.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) tile: Tile,
    /// Of the rows.
    pub(super) parts: usize,
    rows_per_part: usize,
}

impl Sweep {
    /// Of a kernel's grid, along each axis, on every adapter of WebGPU.
    const MAX_WORKGROUPS: usize = 65_535;
    /// As many workgroups as keep a large card busy; with more, adding up the parts would take longer.
    const SUMMING_WORKGROUPS: usize = 1024;

    /// # Panics
    /// If there are no rows or no channels.
    pub(super) fn new(client: &Client, [rows, channels]: [usize; 2], purpose: Purpose) -> Self {
        let tile = Tile::new(client, channels);
        let tiles = channels.div_ceil(tile.columns as usize);
        let (rows_per_lane, most) = match purpose {
            Purpose::Map => (8, Self::MAX_WORKGROUPS),
            Purpose::Sum => (16, (Self::SUMMING_WORKGROUPS / tiles).max(1)),
        };
        let parts = rows.div_ceil(rows_per_lane * tile.lanes as usize).min(most);
        let rows_per_part = rows.div_ceil(parts);
        Self { rows, channels, tile, parts: rows.div_ceil(rows_per_part), rows_per_part }
    }

    /// The same parts, of that many numbers each.
    pub(super) fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    pub(super) fn count(&self) -> CubeCount {
        let tiles = self.channels.div_ceil(self.tile.columns as usize);
        CubeCount::Static(tiles as u32, self.parts as u32, 1)
    }

    /// One workgroup for a tile of channels, for what the parts gave.
    pub(super) fn count_finish(&self) -> CubeCount {
        let tiles = self.channels.div_ceil(self.tile.columns as usize);
        CubeCount::Static(tiles as u32, 1, 1)
    }

    pub(super) fn dim(&self) -> CubeDim {
        CubeDim::new_2d(self.tile.columns, self.tile.lanes)
    }

    pub(super) fn extent(&self) -> ExtentLaunch {
        ExtentLaunch::new(self.rows, self.channels, self.rows_per_part)
    }

    /// Of what the parts gave: their number in place of the rows, in one part.
    pub(super) fn extent_finish(&self) -> ExtentLaunch {
        ExtentLaunch::new(self.parts, self.channels, self.parts)
    }
}

/// The type of index that all of these need.
pub(super) fn address_type(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

/// The size of a map and of a part.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) rows_per_part: usize,
}

/// Where a map lies in its buffer: the value of a row and channel is at `row · pitch + start + channel`.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Columns {
    pub(super) pitch: usize,
    pub(super) start: usize,
}

/// What one thread has to do: a channel and, from the first on, every so many rows.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Lane {
    /// A channel of the map, also where the thread has none and must only wait with the others.
    pub(super) channel: usize,
    /// Of the map.
    pub(super) channels: usize,
    pub(super) is_active: bool,
    pub(super) first: usize,
    pub(super) end: usize,
}

#[cube]
pub(super) fn lane_of(extent: &Extent, #[comptime] tile: Tile) -> Lane {
    let channel = CUBE_POS_X as usize * (tile.columns as usize) + UNIT_POS_X as usize;
    let is_active = channel < extent.channels;
    let start = CUBE_POS_Y as usize * extent.rows_per_part;
    let end = clamp_max(start + extent.rows_per_part, extent.rows);
    Lane {
        channel: clamp_max(channel, extent.channels - 1),
        channels: extent.channels,
        is_active,
        first: select(is_active, start + UNIT_POS_Y as usize, end),
        end,
    }
}

/// The sum over the lanes of each channel. All threads of the workgroup must come here together.
#[cube]
pub(super) fn sum_over_lanes(shared: &mut Shared<[f32]>, value: f32, #[comptime] tile: Tile) -> f32 {
    let at = UNIT_POS as usize;
    shared[at] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(tile.lanes.ilog2()) {
        let half = comptime!(tile.lanes >> (step + 1));
        if UNIT_POS_Y < half {
            let other = shared[at + comptime!((half * tile.columns) as usize)];
            shared[at] += other;
        }
        sync_cube();
    }
    let sum = shared[UNIT_POS_X as usize];
    sync_cube();
    sum
}

/// One number of what the parts gave: at `part · pitch + start`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Number {
    pub(super) pitch: usize,
    pub(super) start: usize,
    pub(super) parts: usize,
}

/// Adds it up over all parts, by the lanes of a workgroup.
#[cube]
pub(super) fn sum_over_parts(
    partials: &[f32],
    shared: &mut Shared<[f32]>,
    number: Number,
    #[comptime] tile: Tile,
) -> f32 {
    let mut sum = 0.0f32;
    let mut part = UNIT_POS_Y as usize;
    while part < number.parts {
        sum += partials[part * number.pitch + number.start];
        part += tile.lanes as usize;
    }
    sum_over_lanes(shared, sum, tile)
}

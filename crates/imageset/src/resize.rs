//! Resizing with the filters of Pillow, in 8-bit fixed-point arithmetic.
//!
//! Bilinear and bicubic (a = -0.5, Catmull-Rom) widen their filter when an image shrinks, which torchvision calls antialias.
//! The levels are those of `Image.resize` in Pillow 13.0, bit for bit; the tests hold them against it. The algorithm is that
//! of Pillow's [`Resample.c`](https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c): weights in double
//! precision, rounded to 22 bits behind the point, and two passes with levels rounded and clipped in between.
//!
//! Both passes add up [`LANES`] levels side by side, in loops that the compiler turns into vector instructions. To resize rows,
//! as many of them are transposed before and after.

use std::hint::black_box;
use std::ops::Range;

use crate::image::RgbImage;
use crate::transform::Interpolation;

/// The picture at another size, both sides at least 1.
pub(crate) fn resize(image: &RgbImage, width: u32, height: u32, interpolation: Interpolation) -> RgbImage {
    Resized { image, width, height, interpolation }.part(0..width, 0..height)
}

/// A picture at another size, both sides at least 1.
pub(crate) struct Resized<'a> {
    pub(crate) image: &'a RgbImage,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) interpolation: Interpolation,
}

impl Resized<'_> {
    /// Some columns and rows of it. In most cases, the others are not computed.
    pub(crate) fn part(&self, columns: Range<u32>, rows: Range<u32>) -> RgbImage {
        let &Self { image, width, height, interpolation } = self;
        let filter = match interpolation {
            Interpolation::Bilinear => &BILINEAR,
            Interpolation::Bicubic => &BICUBIC,
            Interpolation::Nearest => return nearest(self, columns, rows),
        };
        let across = |columns| Windows::new(image.width, width, columns, filter);
        let down = |rows| Windows::new(image.height, height, rows, filter);
        // A side that stays as it is is not filtered.
        let pixels = match (image.width != width, image.height != height) {
            (false, false) => image.pixels.clone(),
            (true, false) => resize_rows(&image.pixels, &across(0..width)),
            (false, true) => resize_columns(&image.pixels, width, &down(0..height)),
            (true, true) if self.are_columns_first() => {
                let pixels = resize_columns(&image.pixels, image.width, &down(0..height));
                resize_rows(&pixels, &across(0..width))
            }
            (true, true) => {
                let (width, height) = (columns.len() as u32, rows.len() as u32);
                let mut down = down(rows);
                let stride = image.width as usize * 3;
                let needed = down.crop();
                let pixels = &image.pixels[needed.start * stride..needed.end * stride];
                let pixels = resize_columns(&resize_rows(pixels, &across(columns)), width, &down);
                return RgbImage { width, height, pixels };
            }
        };
        let all = RgbImage { width, height, pixels };
        if columns == (0..width) && rows == (0..height) {
            return all;
        }
        all.window(columns.start.into(), rows.start.into(), columns.len() as u32, rows.len() as u32)
    }

    /// Pillow resizes rows first, unless many more rows than columns go away. The order decides how levels are rounded.
    ///
    /// The rule is that of Pillow 13.0 (<https://github.com/python-pillow/Pillow/pull/9549>). Up to 12.1 rows were always first,
    /// and in 12.2 and 12.3 they were, unless a picture more than 100 times as high as wide lost rows.
    fn are_columns_first(&self) -> bool {
        let fewer_columns = i64::from(self.image.width) - i64::from(self.width);
        let fewer_rows = i64::from(self.image.height) - i64::from(self.height);
        fewer_rows > 0 && fewer_rows > 2 * fewer_columns
    }
}

/// How much a source pixel counts, by its distance.
struct Filter {
    /// Beyond this distance it counts nothing.
    radius: f64,
    weight: fn(f64) -> f64,
}

/// A triangle.
const BILINEAR: Filter = Filter { radius: 1.0, weight: |distance| (1.0 - distance.abs()).max(0.0) };

/// Keys' cubic convolution.
const BICUBIC: Filter = Filter {
    radius: 2.0,
    weight: |distance| {
        const A: f64 = -0.5;
        // In the order in which Pillow multiplies and adds.
        match distance.abs() {
            x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    },
};

/// Bits of a weight behind the point: 32 less 8 of the level and 2 for sums out of its range.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// A weight of the fixed-point arithmetic is `high * 2^LOW_BITS + low`.
///
/// Not every processor multiplies vectors of 32-bit numbers (x86-64 as Rust assumes it does not), but all do 16-bit ones. The
/// two halves are added up apart and put together before anything is rounded, so nothing is lost.
#[derive(Clone, Copy)]
struct Weight {
    high: i16,
    low: i16,
}

const LOW_BITS: u32 = 11;

impl Weight {
    fn new(weight: f64) -> Self {
        // A cast truncates: halves are rounded away from zero. No weight reaches 2, so the high half has 13 bits at most.
        let half = if weight < 0.0 { -0.5 } else { 0.5 };
        let fixed = (weight * f64::from(1 << FRACTION_BITS) + half) as i32;
        Self { high: (fixed >> LOW_BITS) as i16, low: (fixed & ((1 << LOW_BITS) - 1)) as i16 }
    }
}

/// For each place of the result, the places of the source that it is a weighted mean of.
struct Windows {
    /// Places of the source.
    from: u32,
    /// The first place of the source, and which weights.
    places: Vec<(usize, Range<usize>)>,
    weights: Vec<Weight>,
}

impl Windows {
    /// Those of the places `part` of the result.
    fn new(from: u32, to: u32, part: Range<u32>, filter: &Filter) -> Self {
        let scale = f64::from(from) / f64::from(to);
        // A smaller result widens the filter, a larger one leaves it as it is.
        let filter_scale = scale.max(1.0);
        let radius = filter.radius * filter_scale;
        // Pillow multiplies by this; a division could round differently.
        let shrink = 1.0 / filter_scale;
        let mut windows = Self { from, places: Vec::with_capacity(part.len()), weights: Vec::new() };
        let mut exact = Vec::new();
        for place in part {
            let center = (f64::from(place) + 0.5) * scale;
            // A cast truncates, and takes negative numbers to 0.
            let first = (center - radius + 0.5) as usize;
            let end = ((center + radius + 0.5) as usize).min(from as usize);
            exact.clear();
            exact.extend((first..end).map(|at| (filter.weight)((at as f64 - center + 0.5) * shrink)));
            // One after the other, as Pillow adds them.
            let sum: f64 = exact.iter().fold(0.0, |sum, weight| sum + weight);
            let start = windows.weights.len();
            windows.weights.extend(exact.iter().map(|weight| Weight::new(weight / sum)));
            windows.places.push((first, start..windows.weights.len()));
        }
        windows
    }

    /// Counts the places of the source from the first one that is part of a window, and says which ones are.
    fn crop(&mut self) -> Range<usize> {
        let start = self.places.first().map_or(0, |(first, _)| *first);
        let end = self.places.last().map_or(0, |(first, weights)| first + weights.len());
        for (first, _) in &mut self.places {
            *first -= start;
        }
        self.from = (end - start) as u32;
        start..end
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[Weight])> {
        self.places.iter().map(|(first, range)| (*first, &self.weights[range.clone()]))
    }
}

/// Levels that are added up side by side: two sums of 32 bits for each fit the 16 vector registers of x86-64.
const LANES: usize = 16;

/// The weighted mean of samples of `N` levels each, clipped to 0 to 255.
///
/// A whole sum fits 32 bits, but with thousands of weights one of its halves may wrap around.
#[inline(always)]
fn mean<const N: usize>(samples: impl Iterator<Item = [u8; N]>, weights: &[Weight]) -> [u8; N] {
    let mut high = [0_i32; N];
    let mut low = [1_i32 << (FRACTION_BITS - 1); N];
    for (sample, &weight) in samples.zip(weights) {
        // The vectors are to be of levels. Left to itself, the compiler may make them of weights, which takes twice as long.
        let weight = black_box(weight);
        for ((high, low), level) in high.iter_mut().zip(&mut low).zip(sample) {
            *high = high.wrapping_add(i32::from(level) * i32::from(weight.high));
            *low = low.wrapping_add(i32::from(level) * i32::from(weight.low));
        }
    }
    let mut levels = [0; N];
    for ((level, high), low) in levels.iter_mut().zip(high).zip(low) {
        let sum = (high << LOW_BITS).wrapping_add(low);
        *level = (sum >> FRACTION_BITS).clamp(0, 255) as u8;
    }
    levels
}

/// Resizes every column; `width` is that of the picture.
fn resize_columns(pixels: &[u8], width: u32, windows: &Windows) -> Vec<u8> {
    let stride = width as usize * 3;
    let mut resized = vec![0; stride * windows.len()];
    for ((first, weights), row) in windows.iter().zip(resized.chunks_exact_mut(stride)) {
        let sources = pixels[first * stride..].chunks_exact(stride);
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        let done = chunks.len() * LANES;
        for (at, chunk) in chunks.iter_mut().enumerate() {
            *chunk = mean(sources.clone().map(|source| source.as_chunks().0[at]), weights);
        }
        for (at, level) in rest.iter_mut().enumerate() {
            [*level] = mean(sources.clone().map(|source| [source[done + at]]), weights);
        }
    }
    resized
}

/// Resizes every row.
fn resize_rows(pixels: &[u8], windows: &Windows) -> Vec<u8> {
    let (from, to) = (windows.from as usize * 3, windows.len() * 3);
    let mut resized = vec![0; pixels.len() / from * to];
    // The levels of one channel in one column, of as many rows as there are lanes. If only fewer rows are left, the other
    // lanes compute what nobody reads.
    let mut source = vec![[0; LANES]; from];
    let mut result = vec![[0; LANES]; to];
    for (pixels, resized) in pixels.chunks(from * LANES).zip(resized.chunks_mut(to * LANES)) {
        rows_to_columns(pixels, &mut source);
        for ((first, weights), column) in windows.iter().zip(result.chunks_exact_mut(3)) {
            let window = &source.as_chunks::<3>().0[first..];
            for (channel, levels) in column.iter_mut().enumerate() {
                *levels = mean(window.iter().map(|pixel| pixel[channel]), weights);
            }
        }
        columns_to_rows(&result, resized);
    }
    resized
}

/// Puts up to [`LANES`] rows side by side.
fn rows_to_columns(pixels: &[u8], columns: &mut [[u8; LANES]]) {
    let stride = columns.len();
    let last = pixels.len() / stride - 1;
    let mut rows: [&[[u8; 8]]; LANES] = [&[]; LANES];
    for (at, row) in rows.iter_mut().enumerate() {
        *row = pixels[at.min(last) * stride..][..stride].as_chunks().0;
    }
    let (tiles, rest) = columns.as_chunks_mut::<8>();
    let done = tiles.len() * 8;
    for (at, columns) in tiles.iter_mut().enumerate() {
        let mut tile = [[0; 2]; 8];
        for row in 0..8 {
            tile[row] = [u64::from_le_bytes(rows[row][at]), u64::from_le_bytes(rows[row + 8][at])];
        }
        for (column, [upper, lower]) in columns.iter_mut().zip(transposed(tile)) {
            column[..8].copy_from_slice(&upper.to_le_bytes());
            column[8..].copy_from_slice(&lower.to_le_bytes());
        }
    }
    for (row, levels) in pixels.chunks_exact(stride).enumerate() {
        for (column, &level) in rest.iter_mut().zip(&levels[done..]) {
            column[row] = level;
        }
    }
}

/// Undoes [`rows_to_columns`].
fn columns_to_rows(columns: &[[u8; LANES]], pixels: &mut [u8]) {
    let stride = columns.len();
    let (tiles, rest) = columns.as_chunks::<8>();
    let done = tiles.len() * 8;
    for (at, columns) in tiles.iter().enumerate() {
        let mut tile = [[0; 2]; 8];
        for (halves, column) in tile.iter_mut().zip(columns) {
            let column = u128::from_le_bytes(*column);
            *halves = [column as u64, (column >> 64) as u64];
        }
        let tile = transposed(tile);
        for (row, levels) in pixels.chunks_exact_mut(stride).enumerate() {
            levels.as_chunks_mut().0[at] = tile[row % 8][row / 8].to_le_bytes();
        }
    }
    for (row, levels) in pixels.chunks_exact_mut(stride).enumerate() {
        for (level, column) in levels[done..].iter_mut().zip(rest) {
            *level = column[row];
        }
    }
}

/// Transposes two tiles of 8 x 8 bytes at once, by swapping ever smaller squares across the diagonal
/// (Warren, Hacker's Delight, 7-3).
#[inline(always)]
fn transposed(mut tile: [[u64; 2]; 8]) -> [[u64; 2]; 8] {
    for (side, left) in [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for row in (0..8).filter(|row| row & side == 0) {
            let (first, second) = tile.split_at_mut(row + side);
            for (above, below) in first[row].iter_mut().zip(&mut second[0]) {
                let swap = ((*above >> (8 * side)) ^ *below) & left;
                *above ^= swap << (8 * side);
                *below ^= swap;
            }
        }
    }
    tile
}

fn nearest(resized: &Resized<'_>, columns: Range<u32>, rows: Range<u32>) -> RgbImage {
    let image = resized.image;
    let (width, height) = (columns.len() as u32, rows.len() as u32);
    let columns = &nearest_places(image.width, resized.width)[columns.start as usize..columns.end as usize];
    let rows = &nearest_places(image.height, resized.height)[rows.start as usize..rows.end as usize];
    let mut pixels = Vec::with_capacity(columns.len() * rows.len() * 3);
    for y in rows {
        let row = &image.pixels[y * image.width as usize * 3..][..image.width as usize * 3];
        for &x in columns {
            pixels.extend_from_slice(&row[x * 3..][..3]);
        }
    }
    RgbImage { width, height, pixels }
}

/// For each place of `to`, the one of `from` below its centre. Added up step by step, as Pillow does, rounding errors included.
fn nearest_places(from: u32, to: u32) -> Vec<usize> {
    let step = f64::from(from) / f64::from(to);
    let mut center = step * 0.5;
    let mut places = Vec::with_capacity(to as usize);
    for _ in 0..to {
        places.push((center as usize).min(from as usize - 1));
        center += step;
    }
    places
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;
    use crate::pillow::{picture, reference};

    #[test]
    fn resized_pictures_are_those_of_pillow() {
        for expected in reference().resized {
            let original = picture(expected.from[0], expected.from[1]);
            let ([width, height], interpolation) = (expected.to, expected.interpolation);
            let what = format!("{:?} to {:?} {interpolation:?}", expected.from, expected.to);
            let ours = resize(&original, width, height, interpolation);
            assert_eq!((ours.width, ours.height), (width, height), "{what}");
            let some: Vec<u8> = ours.pixels.iter().copied().step_by(expected.step).collect();
            assert_eq!(some, expected.levels, "{what}");
            let mut all = Crc::new();
            all.update(&ours.pixels);
            assert_eq!(all.sum(), expected.crc32, "{what}");
        }
    }

    #[test]
    fn a_picture_of_one_colour_keeps_it() {
        let gray = RgbImage::filled(33, 21, [7, 128, 255]);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Nearest] {
            assert_eq!(resize(&gray, 50, 9, interpolation), RgbImage::filled(50, 9, [7, 128, 255]));
        }
    }

    #[test]
    fn a_part_is_the_same_as_in_the_whole() {
        for (original, width, height) in
            [((97, 61), 40, 25), ((97, 61), 120, 150), ((97, 61), 97, 30), ((97, 61), 30, 61), ((60, 80), 60, 40)]
        {
            let image = &picture(original.0, original.1);
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Nearest] {
                let resized = Resized { image, width, height, interpolation };
                let whole = resize(image, width, height, interpolation);
                for (left, top, w, h) in [(0, 0, width, height), (5, 3, 24, 20), (width - 1, height - 1, 1, 1)] {
                    let part = resized.part(left..left + w, top..top + h);
                    assert!(part == whole.window(left.into(), top.into(), w, h), "{original:?} {width} x {height}");
                }
            }
        }
    }

    #[test]
    fn many_weights_do_not_overflow() {
        for (width, height) in [(100_000, 1), (1, 100_000)] {
            let long = RgbImage::filled(width, height, [255, 254, 1]);
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                assert_eq!(resize(&long, 1, 1, interpolation), RgbImage::filled(1, 1, [255, 254, 1]));
            }
        }
    }
}

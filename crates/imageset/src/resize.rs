//! Resizing with the filters of Pillow, in 8-bit fixed-point arithmetic.
//!
//! Bilinear and bicubic (a = -0.5, Catmull-Rom) widen their filter when an image shrinks, which torchvision calls antialias.
//! The levels are those of `Image.resize` in Pillow 13.0, bit for bit; the tests compare them. The algorithm is that
//! of Pillow's [`Resample.c`](https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c): weights in double
//! precision, rounded to 22 bits after the point, and two passes with levels rounded and clipped in between.
//!
//! Both passes add up [`LANES`] levels side by side, in loops that the compiler turns into vector instructions. To resize rows,
//! as many of them are transposed before and after.

use std::borrow::Cow;
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
    /// Some columns and rows of it, at least one of each. Only what they depend on is computed.
    pub(crate) fn part(&self, columns: Range<u32>, rows: Range<u32>) -> RgbImage {
        let filter = match self.interpolation {
            Interpolation::Bilinear => &BILINEAR,
            Interpolation::Bicubic => &BICUBIC,
            Interpolation::Nearest => return nearest(self, columns, rows),
        };
        if columns.len() <= MAX_COLUMNS {
            return self.filtered(columns, rows, filter);
        }
        let mut whole = RgbImage::filled(columns.len() as u32, rows.len() as u32, [0; 3]);
        for start in columns.clone().step_by(MAX_COLUMNS) {
            let end = columns.end.min(start.saturating_add(MAX_COLUMNS as u32));
            let part = self.filtered(start..end, rows.clone(), filter);
            let left = (start - columns.start) as usize * 3;
            let stride = part.width as usize * 3;
            let whole_rows = whole.pixels.chunks_exact_mut(columns.len() * 3);
            for (whole, part) in whole_rows.zip(part.pixels.chunks_exact(stride)) {
                whole[left..left + stride].copy_from_slice(part);
            }
        }
        whole
    }

    /// Some columns and rows, by a filter.
    fn filtered(&self, columns: Range<u32>, rows: Range<u32>, filter: &Filter) -> RgbImage {
        let &Self { image, width, height, .. } = self;
        let part = (columns.len() as u32, rows.len() as u32);
        let usizes = |range: &Range<u32>| range.start as usize..range.end as usize;
        let across = || Windows::new(image.width, width, columns.clone(), filter);
        let down = || Windows::new(image.height, height, rows.clone(), filter);
        // A side that stays as it is is not filtered.
        let pixels = match (image.width != width, image.height != height) {
            (false, false) => cut(image, usizes(&columns), usizes(&rows)).into_owned().pixels,
            (true, false) => resize_rows(rows_of(image, usizes(&rows)), image.width, across()),
            (false, true) => {
                let mut down = down();
                let needed = down.crop();
                resize_columns(&cut(image, usizes(&columns), needed).pixels, part.0, &down)
            }
            (true, true) if self.are_columns_first() => {
                let (mut across, mut down) = (across(), down());
                let needed = cut(image, across.crop(), down.crop());
                let pixels = resize_columns(&needed.pixels, needed.width, &down);
                resize_rows(&pixels, needed.width, across)
            }
            (true, true) => {
                let mut down = down();
                let needed = down.crop();
                resize_columns(&resize_rows(rows_of(image, needed), image.width, across()), part.0, &down)
            }
        };
        RgbImage { width: part.0, height: part.1, pixels }
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

/// Columns of a result that are computed at once. A picture of one row may be so wide that the weights and the transposed rows for
/// all of its columns do not fit in memory.
const MAX_COLUMNS: usize = 1024;

/// Some rows of a picture.
fn rows_of(image: &RgbImage, rows: Range<usize>) -> &[u8] {
    let stride = image.width as usize * 3;
    &image.pixels[rows.start * stride..rows.end * stride]
}

/// A part of a picture, copied only if it is not all of it.
fn cut(image: &RgbImage, columns: Range<usize>, rows: Range<usize>) -> Cow<'_, RgbImage> {
    if columns == (0..image.width as usize) && rows == (0..image.height as usize) {
        return Cow::Borrowed(image);
    }
    let (width, height) = (columns.len() as u32, rows.len() as u32);
    Cow::Owned(image.window(columns.start as i64, rows.start as i64, width, height))
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

/// Bits of a weight after the point: 32 less 8 of the level and 2 for sums out of its range.
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
        let mut windows = Self { places: Vec::with_capacity(part.len()), weights: Vec::new() };
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

/// Resizes every row; `width` is that of the picture.
fn resize_rows(pixels: &[u8], width: u32, mut windows: Windows) -> Vec<u8> {
    let (stride, to) = (width as usize * 3, windows.len() * 3);
    let needed = windows.crop();
    let mut resized = vec![0; pixels.len() / stride * to];
    // The levels of one channel in one column, of as many rows as there are lanes. If only fewer rows are left, the other
    // lanes compute what nobody reads.
    let mut source = vec![[0; LANES]; needed.len() * 3];
    let mut result = vec![[0; LANES]; to];
    for (pixels, resized) in pixels.chunks(stride * LANES).zip(resized.chunks_mut(to * LANES)) {
        rows_to_columns(pixels, stride, needed.start * 3, &mut source);
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

/// Puts up to [`LANES`] rows of `stride` levels side by side, those from level `start` on that there are columns for.
fn rows_to_columns(pixels: &[u8], stride: usize, start: usize, columns: &mut [[u8; LANES]]) {
    let length = columns.len();
    let last = pixels.len() / stride - 1;
    let mut rows: [&[[u8; 8]]; LANES] = [&[]; LANES];
    for (at, row) in rows.iter_mut().enumerate() {
        *row = pixels[at.min(last) * stride + start..][..length].as_chunks().0;
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
        for (column, &level) in rest.iter_mut().zip(&levels[start + done..]) {
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
    let columns = &nearest_places(image.width, resized.width, columns);
    let rows = nearest_places(image.height, resized.height, rows);
    let mut pixels = Vec::with_capacity(columns.len() * rows.len() * 3);
    for y in rows {
        let row = &image.pixels[y * image.width as usize * 3..][..image.width as usize * 3];
        for &x in columns {
            pixels.extend_from_slice(&row[x * 3..][..3]);
        }
    }
    RgbImage { width, height, pixels }
}

/// For each place of `part` of `to`, the one of `from` below its centre. Added up step by step, as Pillow does, rounding errors included.
fn nearest_places(from: u32, to: u32, part: Range<u32>) -> Vec<usize> {
    let step = f64::from(from) / f64::from(to);
    let mut center = after_steps(step * 0.5, step, part.start);
    let mut places = Vec::with_capacity(part.len());
    for _ in part {
        places.push((center as usize).min(from as usize - 1));
        center += step;
    }
    places
}

/// What a positive number becomes when a step is added to it so many times, with the rounding of each time.
///
/// Between two powers of two all numbers are multiples of one unit, so each sum is rounded by as much as the one before, but for a
/// step that ends in half a unit: halves are rounded to the even multiple, and from there on always in the same direction. So three sums
/// determine all others up to the next power of two.
fn after_steps(mut from: f64, step: f64, mut count: u32) -> f64 {
    while count > 0 {
        let first = from + step;
        let second = first + step;
        let third = second + step;
        let end = 2.0 * power_of_two_below(first);
        if count > 3 && third < end {
            // Exact: multiples of the unit, far fewer than 2^53. One step is left, because the sum after it may reach the end.
            let rounded = third - second;
            let jumps = (((end - third) / rounded) as u32).saturating_sub(1).min(count - 3);
            from = third + f64::from(jumps) * rounded;
            count -= 3 + jumps;
        } else {
            from = first;
            count -= 1;
        }
    }
    from
}

/// The largest power of two that is not above a positive number.
fn power_of_two_below(number: f64) -> f64 {
    f64::from_bits(number.to_bits() & 0x7ff0_0000_0000_0000)
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;
    use crate::pillow::{picture, reference};
    use crate::random::{below, stream};

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
    fn a_random_part_of_a_random_size_is_the_same_as_in_the_whole() {
        let mut rng = stream("test", &[3]);
        for _ in 0..300 {
            let mut side = |end: u64| 1 + below(&mut rng, end) as u32;
            let [from, to] = [0; 2].map(|_| (side(120), side(120)));
            // Often one side stays as it is.
            let to = match side(4) {
                1 => (from.0, to.1),
                2 => (to.0, from.1),
                _ => to,
            };
            let (w, h) = (side(to.0.into()), side(to.1.into()));
            let (left, top) = (side(u64::from(to.0 - w) + 1) - 1, side(u64::from(to.1 - h) + 1) - 1);
            let image = &picture(from.0, from.1);
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Nearest] {
                let resized = Resized { image, width: to.0, height: to.1, interpolation };
                let part = resized.part(left..left + w, top..top + h);
                let whole = resize(image, to.0, to.1, interpolation);
                let expected = whole.window(left.into(), top.into(), w, h);
                assert!(part == expected, "{from:?} to {to:?}, {w} x {h} at {left}, {top}: {interpolation:?}");
            }
        }
    }

    #[test]
    fn a_wide_result_has_no_seams() {
        let width = 2 * MAX_COLUMNS as u32 + 77;
        for image in [&picture(61, 9), &picture(61, 40), &picture(3000, 9)] {
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                let resized = Resized { image, width, height: 20, interpolation };
                let whole = resize(image, width, 20, interpolation);
                for left in (0..width - 90).step_by(45) {
                    let part = resized.part(left..left + 90, 0..20);
                    assert!(part == whole.window(left.into(), 0, 90, 20), "{left} {interpolation:?}");
                }
            }
        }
    }

    #[test]
    fn the_middle_of_a_very_long_picture_takes_no_time_or_memory() {
        let image = &RgbImage::filled(10_000_000, 1, [7, 128, 255]);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Nearest] {
            let resized = Resized { image, width: u32::MAX, height: 256, interpolation };
            let middle = resized.part(1 << 31..(1 << 31) + 224, 16..240);
            assert_eq!(middle, RgbImage::filled(224, 224, [7, 128, 255]));
        }
    }

    #[test]
    fn steps_are_rounded_as_if_taken_one_by_one() {
        let mut rng = stream("test", &[4]);
        for round in 0..2000 {
            let [from, to] = [0; 2].map(|_| 1 + below(&mut rng, if round % 2 == 0 { 100 } else { 1 << 20 }) as u32);
            let count = below(&mut rng, 5000) as u32;
            let step = f64::from(from) / f64::from(to);
            let one_by_one = (0..count).fold(step * 0.5, |center, _| center + step);
            assert_eq!(after_steps(step * 0.5, step, count), one_by_one, "{from} to {to}, {count} steps");
            // A step that ends in half a unit of the sums.
            let (start, step) = (1.0 + step.fract(), 0.125 + f64::EPSILON * (0.5 + (round % 4) as f64));
            let one_by_one = (0..count).fold(start, |center, _| center + step);
            assert_eq!(after_steps(start, step, count), one_by_one, "{start} and {step}, {count} steps");
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

//! Rotation, shear and shift: Pillow's `Image.rotate` and `Image.transform` with an affine matrix, bit for bit.
//!
//! The picture keeps its size; what comes from outside of it gets a fill colour. For the nearest pixel, positions are fixed-point
//! numbers that are added up, as in Pillow's `Geometry.c`. The other filters take positions in double precision; they do not
//! widen where a picture shrinks, unlike those of [resizing](crate::resize).

use std::ops::AddAssign;

use crate::image::RgbImage;
use crate::transform::Interpolation;

/// How the pixels of a moved picture are found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warp {
    /// Filter.
    pub(crate) interpolation: Interpolation,
    /// The colour of what lies outside of the picture.
    pub(crate) fill: [u8; 3],
}

/// Where a pixel comes from: the column is `m[0] x + m[1] y + m[2]`, the row `m[3] x + m[4] y + m[5]`.
pub(crate) type Matrix = [f64; 6];

/// The picture with each pixel taken from where the matrix says.
pub(crate) fn affine(image: &RgbImage, matrix: Matrix, warp: Warp) -> RgbImage {
    match warp.interpolation {
        Interpolation::Nearest => nearest(image, matrix, warp.fill),
        Interpolation::Bilinear => filtered(image, matrix, warp.fill, bilinear),
        Interpolation::Bicubic => filtered(image, matrix, warp.fill, bicubic),
    }
}

/// The picture turned counter-clockwise around its centre.
pub(crate) fn rotate(image: RgbImage, degrees: f64, warp: Warp) -> RgbImage {
    let degrees = degrees.rem_euclid(360.0);
    let is_square = image.width == image.height;
    // Quarters of a turn only move pixels, whatever the filter.
    match degrees {
        0.0 => return image,
        180.0 => return half_turn(image),
        90.0 if is_square => return quarter_turn(&image, |x, y, last| (last - y, x)),
        270.0 if is_square => return quarter_turn(&image, |x, y, last| (y, last - x)),
        _ => {}
    }
    let angle = -degrees.to_radians();
    let [sin, cos, negative_sin] = [angle.sin(), angle.cos(), -angle.sin()].map(round_to_15_places);
    let [center_x, center_y] = [image.width, image.height].map(|side| f64::from(side) / 2.0);
    let left = cos * -center_x + sin * -center_y + center_x;
    let top = negative_sin * -center_x + cos * -center_y + center_y;
    affine(&image, [cos, sin, left, negative_sin, cos, top], warp)
}

/// Python's `round(x, 15)`: to the nearest decimal number, found exactly.
fn round_to_15_places(x: f64) -> f64 {
    format!("{x:.15}").parse().unwrap_or(x)
}

fn half_turn(mut image: RgbImage) -> RgbImage {
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    pixels.reverse();
    image
}

/// `source` gives the pixel for a column and a row, both at most `last`.
fn quarter_turn(image: &RgbImage, source: impl Fn(usize, usize, usize) -> (usize, usize)) -> RgbImage {
    let side = image.width as usize;
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..side {
        for x in 0..side {
            let (from_x, from_y) = source(x, y, side - 1);
            let from = (from_y * side + from_x) * 3;
            pixels.extend_from_slice(&image.pixels[from..from + 3]);
        }
    }
    RgbImage { pixels, ..*image }
}

fn nearest(image: &RgbImage, m: Matrix, fill: [u8; 3]) -> RgbImage {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    let fits =
        |x: f64, y: f64| (x * m[0] + y * m[1] + m[2]).abs() < 32768.0 && (x * m[3] + y * m[4] + m[5]).abs() < 32768.0;
    let is_turned = m[1] != 0.0 || m[3] != 0.0;
    // Pillow's own rule for when it may use numbers with 16 bits before and 16 after the binary point.
    if is_turned && fits(0.0, 0.0) && fits(width, height) && fits(0.0, height) && fits(width, 0.0) {
        let fixed = |position: f64| (position * 65536.0 + 0.5).floor() as i64;
        let start = [fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), fixed(m[5] + m[3] * 0.5 + m[4] * 0.5)];
        let (right, down) = ([fixed(m[0]), fixed(m[3])], [fixed(m[1]), fixed(m[4])]);
        return walk(image, Walk { start, right, down }, |position| position >> 16, fill);
    }
    let start = [m[2] + m[1] * 0.5 + m[0] * 0.5, m[5] + m[4] * 0.5 + m[3] * 0.5];
    let whole = |position: f64| if position < 0.0 { -1 } else { position as i64 };
    walk(image, Walk { start, right: [m[0], m[3]], down: [m[1], m[4]] }, whole, fill)
}

/// Columns and rows that are added up from pixel to pixel.
struct Walk<T> {
    start: [T; 2],
    right: [T; 2],
    down: [T; 2],
}

fn walk<T: Copy + AddAssign>(image: &RgbImage, walk: Walk<T>, whole: impl Fn(T) -> i64, fill: [u8; 3]) -> RgbImage {
    let (width, height) = (image.width as usize, image.height as usize);
    let mut pixels = Vec::with_capacity(image.pixels.len());
    let [mut row_x, mut row_y] = walk.start;
    for _ in 0..height {
        let (mut x, mut y) = (row_x, row_y);
        for _ in 0..width {
            // Negative numbers become very large ones.
            let (from_x, from_y) = (whole(x) as usize, whole(y) as usize);
            if from_x < width && from_y < height {
                let from = (from_y * width + from_x) * 3;
                pixels.extend_from_slice(&image.pixels[from..from + 3]);
            } else {
                pixels.extend_from_slice(&fill);
            }
            x += walk.right[0];
            y += walk.right[1];
        }
        row_x += walk.down[0];
        row_y += walk.down[1];
    }
    RgbImage { pixels, ..*image }
}

/// A place in the picture: the pixel at its upper left and how far beyond that pixel's centre it lies, 0 to 1.
struct Place {
    x: isize,
    y: isize,
    dx: f64,
    dy: f64,
}

fn filtered(image: &RgbImage, m: Matrix, fill: [u8; 3], filter: impl Fn(&Bordered, &Place) -> Levels) -> RgbImage {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    let mut out = RgbImage::filled(image.width, image.height, fill);
    if out.pixels.is_empty() {
        return out;
    }
    let source = Bordered::of(image);
    for (y, row) in out.pixels.chunks_exact_mut(image.width as usize * 3).enumerate() {
        let y = y as f64 + 0.5;
        let (x_by_row, y_by_row) = (m[1] * y, m[4] * y);
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let x = x as f64 + 0.5;
            let (from_x, from_y) = (m[0] * x + x_by_row + m[2], m[3] * x + y_by_row + m[5]);
            if from_x < 0.0 || from_x >= width || from_y < 0.0 || from_y >= height {
                continue;
            }
            let (from_x, from_y) = (from_x - 0.5, from_y - 0.5);
            let [left, top] = [from_x, from_y].map(|at| if at < 0.0 { -1 } else { at as i32 });
            let (dx, dy) = (from_x - f64::from(left), from_y - f64::from(top));
            let [r, g, b, _] = filter(&source, &Place { x: left as isize, y: top as isize, dx, dy });
            // A cast truncates and clips.
            *pixel = [r as u8, g as u8, b as u8];
        }
    }
    out
}

/// Red, green, blue and nothing: four numbers fill vector registers.
type Levels = [f64; 4];

/// A picture of four bytes a pixel with a border that continues its edge, so that filters need not look where it ends.
struct Bordered {
    pixels: Vec<[u8; 4]>,
    stride: usize,
}

/// Around a place, no filter reaches further than this.
const BORDER: usize = 2;

impl Bordered {
    fn of(image: &RgbImage) -> Self {
        let (rows, stride) = (image.height as usize + 2 * BORDER, image.width as usize + 2 * BORDER);
        let mut pixels: Vec<[u8; 4]> = Vec::with_capacity(rows * stride);
        let (source, _) = image.pixels.as_chunks::<3>();
        for y in 0..rows {
            let y = y.saturating_sub(BORDER).min(image.height as usize - 1);
            let row = &source[y * image.width as usize..][..image.width as usize];
            let widened = |&[r, g, b]: &[u8; 3]| [r, g, b, 0];
            pixels.extend([widened(&row[0]); BORDER]);
            pixels.extend(row.iter().map(widened));
            pixels.extend([widened(&row[row.len() - 1]); BORDER]);
        }
        Self { pixels, stride }
    }

    /// `N` pixels of a row, from column `x` on.
    fn pixels<const N: usize>(&self, x: isize, y: isize) -> [Levels; N] {
        let from = (y + BORDER as isize) as usize * self.stride + (x + BORDER as isize) as usize;
        let mut pixels = [[0.0; 4]; N];
        for (to, from) in pixels.iter_mut().zip(&self.pixels[from..from + N]) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = f64::from(from);
            }
        }
        pixels
    }
}

fn bilinear(source: &Bordered, place: &Place) -> Levels {
    let blend = |a: Levels, b: Levels, part: f64| {
        let mut blended = a;
        for (a, b) in blended.iter_mut().zip(b) {
            *a += (b - *a) * part;
        }
        blended
    };
    let across = |y: isize| {
        let [a, b] = source.pixels(place.x, y);
        blend(a, b, place.dx)
    };
    if place.dy == 0.0 {
        return across(place.y);
    }
    blend(across(place.y), across(place.y + 1), place.dy)
}

fn bicubic(source: &Bordered, place: &Place) -> Levels {
    let across = |y: isize| {
        let [a, b, c, d] = source.pixels(place.x - 1, y);
        // At a pixel, as everywhere in a picture that only moves up or down, the curve meets it exactly.
        if place.dx == 0.0 { b } else { cubic([a, b, c, d], place.dx) }
    };
    if place.dy == 0.0 {
        return across(place.y);
    }
    cubic([-1, 0, 1, 2].map(|i| across(place.y + i)), place.dy)
}

/// The cubic curve through `b` and `c` (a = -1, not the -0.5 of resizing), at a part of the way.
fn cubic([a, b, c, d]: [Levels; 4], part: f64) -> Levels {
    let mut levels = b;
    for (i, level) in levels.iter_mut().enumerate() {
        let slope = -a[i] + c[i];
        let bend = 2.0 * (a[i] - b[i]) + c[i] - d[i];
        let twist = -a[i] + b[i] - c[i] + d[i];
        *level = b[i] + part * (slope + part * (bend + part * twist));
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::picture;

    const BICUBIC: Warp = Warp { interpolation: Interpolation::Bicubic, fill: [1, 2, 3] };

    #[test]
    fn four_quarters_of_a_turn_give_the_picture_back() {
        let image = picture(9, 9);
        let turned = (0..4).fold(image.clone(), |image, _| rotate(image, 90.0, BICUBIC));
        assert_eq!(turned, image);
        assert_eq!(rotate(rotate(image.clone(), -90.0, BICUBIC), -180.0, BICUBIC), rotate(image, 90.0, BICUBIC));
    }

    #[test]
    fn what_comes_from_outside_has_the_fill_colour() {
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            let warp = Warp { interpolation, ..BICUBIC };
            let moved = affine(&picture(8, 5), [1.0, 0.0, 3.0, 0.0, 1.0, 0.0], warp);
            assert_eq!(moved.window(0, 0, 5, 5), picture(8, 5).window(3, 0, 5, 5));
            assert_eq!(moved.window(5, 0, 3, 5), RgbImage::filled(3, 5, [1, 2, 3]));
        }
    }
}

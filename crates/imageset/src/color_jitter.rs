//! Brightness, contrast, saturation and hue, in the arithmetic of Pillow's `ImageEnhance` and its HSV mode.
//!
//! Brightness, contrast and saturation blend the picture with black, with its mean gray, and with its own gray version. The
//! rounding is Pillow's: single precision, truncated. torchvision's `ColorJitter` on PIL images computes the same.

use crate::image::RgbImage;

/// Blends towards black: 0 is black, 1 the picture itself.
pub(crate) fn brightness(image: &mut RgbImage, factor: f32) {
    map_levels(image, |level| blend(0, level, factor));
}

/// Blends towards the mean gray level of the picture.
pub(crate) fn contrast(image: &mut RgbImage, factor: f32) {
    let sum: u64 = image.pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel))).sum();
    let count = (image.pixels.len() / 3).max(1);
    let mean = (sum as f64 / count as f64 + 0.5) as u8;
    map_levels(image, |level| blend(mean, level, factor));
}

/// Blends towards the gray version of the picture.
pub(crate) fn saturation(image: &mut RgbImage, factor: f32) {
    for pixel in image.pixels.chunks_exact_mut(3) {
        let gray = luma(pixel);
        for level in pixel {
            *level = blend(gray, *level, factor);
        }
    }
}

/// The gray version of the picture.
pub(crate) fn gray(image: &mut RgbImage) {
    for pixel in image.pixels.chunks_exact_mut(3) {
        pixel.fill(luma(pixel));
    }
}

/// Turns the hue by `turn` of a full circle, -0.5 to 0.5, in steps of 1/256.
pub(crate) fn hue(image: &mut RgbImage, turn: f64) {
    // torchvision: np.int32(hue_factor * 255).astype(np.uint8), added with wrap-around.
    let steps = (turn * 255.0) as i32 as u8;
    for pixel in image.pixels.chunks_exact_mut(3) {
        let [h, s, v] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&to_rgb([h.wrapping_add(steps), s, v]));
    }
}

/// Gives each level another one, the same wherever it occurs: looking up is quicker than computing.
pub(crate) fn map_levels(image: &mut RgbImage, becomes: impl FnMut(u8) -> u8) {
    let table = level_table(becomes);
    for level in &mut image.pixels {
        *level = table[usize::from(*level)];
    }
}

/// What each of the 256 levels becomes; asked for in their order.
pub(crate) fn level_table(mut becomes: impl FnMut(u8) -> u8) -> [u8; 256] {
    let mut table = [0; 256];
    for level in 0..=255 {
        table[usize::from(level)] = becomes(level);
    }
    table
}

/// Pillow's `ImagingBlend` for one level. Between 0 and 1 nothing can leave the range, and beyond, it is clipped.
pub(crate) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    // A cast truncates and clips, as Pillow does by hand.
    (from + factor * (to - from)) as u8
}

/// Pillow's conversion to mode `L`: ITU-R 601-2 in 16-bit fixed point.
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// Pillow's `rgb2hsv`: hue, saturation and value of 0 to 255 each.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max - min);
    let saturation = range / f32::from(max);
    let [rc, gc, bc] = [r, g, b].map(|level| f32::from(max - level) / range);
    let hue = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
}

/// Pillow's `hsv2rgb`.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let saturation = (f64::from(s) / 255.0) as f32;
    let hue = (f64::from(h) * 6.0 / 255.0) as f32;
    let sector = hue.floor();
    let fraction = f64::from(hue - sector);
    let (value, saturation) = (f64::from(v), f64::from(saturation));
    let p = (value * (1.0 - saturation)).round() as u8;
    let q = (value * (1.0 - saturation * fraction)).round() as u8;
    let t = (value * (1.0 - saturation * (1.0 - fraction))).round() as u8;
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pillow::{picture, reference};

    #[test]
    fn recoloured_pictures_are_those_of_pillow() {
        for expected in reference().recoloured {
            let mut image = picture(16, 9);
            match expected.property.as_str() {
                "brightness" => brightness(&mut image, expected.factor as f32),
                "contrast" => contrast(&mut image, expected.factor as f32),
                "saturation" => saturation(&mut image, expected.factor as f32),
                _ => hue(&mut image, expected.factor),
            }
            assert_eq!(image.pixels, expected.levels, "{} {}", expected.property, expected.factor);
        }
    }
}

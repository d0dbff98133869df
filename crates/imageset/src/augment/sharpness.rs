//! Sharpness: the picture, blended away from or towards a smooth version of it (Pillow's `ImageEnhance.Sharpness`).

use crate::color_jitter::blend;
use crate::image::RgbImage;

/// The middle of Pillow's `SMOOTH` counts 5 parts of 13, the 8 pixels around it 1 each.
const MIDDLE: f32 = 5.0 / 13.0;
const AROUND: f32 = 1.0 / 13.0;

/// Blends away from a smooth version of the picture: 0 is that version, 1 the picture itself, 2 a sharper one.
///
/// Pixels at the edge stay as they are.
pub(crate) fn sharpness(image: &mut RgbImage, factor: f32) {
    if image.width < 3 || image.height < 3 {
        return;
    }
    let stride = image.width as usize * 3;
    // The rows above and at the one that is changed, as they were.
    let mut above = image.pixels[..stride].to_vec();
    let mut at = image.pixels[stride..2 * stride].to_vec();
    for y in 1..image.height as usize - 1 {
        let (until, below) = image.pixels.split_at_mut((y + 1) * stride);
        let (row, below) = (&mut until[y * stride..], &below[..stride]);
        smooth_row(row, [&above, &at, below], factor);
        std::mem::swap(&mut above, &mut at);
        at.copy_from_slice(below);
    }
}

/// Blends all but the first and the last pixel of a row.
fn smooth_row(row: &mut [u8], [above, at, below]: [&[u8]; 3], factor: f32) {
    let count = row.len() - 6;
    // What is left of each level, at it and right of it, all equally long, so that the loop needs no checks.
    let [above, at, below] = [above, at, below].map(|row| [&row[..count], &row[3..count + 3], &row[6..count + 6]]);
    for (i, level) in row[3..count + 3].iter_mut().enumerate() {
        let part = |[left, here, right]: [&[u8]; 3], middle: f32| {
            f32::from(left[i]) * AROUND + f32::from(here[i]) * middle + f32::from(right[i]) * AROUND
        };
        // In Pillow's order of additions: single precision rounds after each.
        let smooth = 0.5 + part(below, AROUND) + part(at, MIDDLE) + part(above, AROUND);
        *level = blend(smooth as u8, *level, factor);
    }
}

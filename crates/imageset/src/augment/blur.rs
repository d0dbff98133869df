//! Gaussian blur as Pillow approximates it (`ImageFilter.GaussianBlur`): three box blurs in each direction.
//!
//! The boxes' ends count in part, so that any radius is met: P. Gwosdek, S. Grewenig, A. Bruhn, J. Weickert, "Theoretical
//! Foundations of Gaussian Convolution by Extended Box Filtering", SSVM 2011.

use crate::image::RgbImage;

/// Box blurs in each direction.
const PASSES: usize = 3;

/// Blurs with a Gaussian whose standard deviation is `radius`, in pixels.
pub(crate) fn gaussian_blur(image: &RgbImage, radius: f32) -> RgbImage {
    let window = Window::of_gaussian(radius);
    // Across in the transposed picture, whose lines are the columns, then down. What lies side by side is summed side by side.
    let across = window.blurred_down(transposed(image));
    window.blurred_down(transposed(&across))
}

/// The weights of one box blur, in parts of 2^24.
struct Window {
    /// Pixels on either side that count fully.
    radius: usize,
    /// The weight of each pixel that counts fully.
    full: u32,
    /// The weight of the pixel beyond them on either side.
    far: u32,
}

impl Window {
    /// The box of which three passes make the Gaussian. Single precision where Pillow uses it: it shows in the last bit.
    fn of_gaussian(deviation: f32) -> Self {
        let variance = deviation * deviation / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let mut part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
        part /= 6.0 * (variance - (whole + 1.0) * (whole + 1.0));
        let radius = whole + part;

        let whole = radius as u32;
        let full = ((1 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let far = (1_u32 << 24).saturating_sub((whole * 2 + 1) * full) / 2;
        Self { radius: whole as usize, full, far }
    }

    /// All passes along the columns.
    fn blurred_down(&self, image: RgbImage) -> RgbImage {
        let stride = image.width as usize * 3;
        let mut pixels = image.pixels;
        let mut blurred = vec![0; pixels.len()];
        for _ in 0..PASSES {
            self.pass(&pixels, stride, &mut blurred);
            std::mem::swap(&mut pixels, &mut blurred);
        }
        RgbImage { pixels, ..image }
    }

    /// One pass along the columns. Beyond the edge the last pixel is repeated.
    fn pass(&self, pixels: &[u8], stride: usize, blurred: &mut [u8]) {
        let Some(last) = (pixels.len() / stride.max(1)).checked_sub(1) else { return };
        let row = |y: usize| &pixels[y.min(last) * stride..][..stride];
        // The sums of the rows that count fully, as they are before the first row: one further up.
        let mut sums: Vec<u32> = row(0).iter().map(|&level| u32::from(level) * (self.radius as u32 + 1)).collect();
        for y in 0..self.radius {
            for (sum, &level) in sums.iter_mut().zip(row(y)) {
                *sum += u32::from(level);
            }
        }
        for (y, out) in blurred.chunks_exact_mut(stride).enumerate() {
            let leaving = row(y.saturating_sub(self.radius + 1));
            let (entering, next) = (row(y + self.radius), row(y + self.radius + 1));
            for i in 0..stride {
                let sum = sums[i] + u32::from(entering[i]) - u32::from(leaving[i]);
                sums[i] = sum;
                // The row that left is the far one now.
                let ends = u32::from(leaving[i]) + u32::from(next[i]);
                out[i] = ((sum * self.full + ends * self.far + (1 << 23)) >> 24) as u8;
            }
        }
    }
}

/// The picture with columns for rows.
fn transposed(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width as usize, image.height as usize);
    let mut pixels = vec![0; image.pixels.len()];
    for y in 0..height {
        for x in 0..width {
            let (from, to) = ((y * width + x) * 3, (x * height + y) * 3);
            pixels[to..to + 3].copy_from_slice(&image.pixels[from..from + 3]);
        }
    }
    RgbImage { width: image.height, height: image.width, pixels }
}

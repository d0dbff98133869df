//! The input of an ordinary convolution, gathered into one row for each output pixel.

use std::ops::Range;

use crate::cpu::block::Images;
use crate::cpu::pointwise::Pixels;
use crate::cpu::rows::View;
use crate::cpu::simd::Simd;

/// Windows of images of any layout, as `[in_channels, kernel, kernel]`, the order of the weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches<'a> {
    pub(crate) data: &'a [f32],
    /// Floats from one image, channel, row and column to the next.
    pub(crate) strides: [isize; 4],
    /// Place of the first value.
    pub(crate) start: usize,
    pub(crate) in_channels: usize,
    pub(crate) images: Images,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
}

impl Patches<'_> {
    /// The images of the output.
    pub(crate) fn out_images(&self) -> Images {
        Images { size: self.images.size.map(|size| size.div_ceil(self.stride)), ..self.images }
    }

    /// Places in a window's direction that lie within the image, and where the window starts, `padding` before the image at 0.
    fn inside(&self, out: usize, size: usize) -> (Range<usize>, isize) {
        let start = (out * self.stride) as isize - (self.kernel / 2) as isize;
        let first = (-start).max(0) as usize;
        let end = (size as isize - start).clamp(0, self.kernel as isize) as usize;
        (first..end, start)
    }
}

impl Pixels for Patches<'_> {
    fn channels(&self) -> usize {
        self.in_channels * self.kernel * self.kernel
    }

    fn in_place(&self) -> Option<View> {
        None
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, first: usize, count: usize, to: *mut f32, stride: usize) {
        let [out_height, out_width] = self.out_images().size;
        let kernel = self.kernel;
        for pixel in 0..count {
            let at = first + pixel;
            let (column, row, image) = (at % out_width, at / out_width % out_height, at / out_width / out_height);
            let (ys, y0) = self.inside(row, self.images.size[0]);
            let (xs, x0) = self.inside(column, self.images.size[1]);
            // SAFETY: the caller's: a row holds a window.
            let window = unsafe { std::slice::from_raw_parts_mut(to.add(pixel * stride), self.channels()) };
            let image = self.start as isize + image as isize * self.strides[0];
            if ys.len() == kernel && xs.len() == kernel && self.strides[3] == 1 {
                // The window lies whole in the image, its rows as pieces of the image's.
                let corner = image + y0 * self.strides[2] + x0;
                for channel in 0..self.in_channels {
                    for y in 0..kernel {
                        let from =
                            (corner + channel as isize * self.strides[1] + y as isize * self.strides[2]) as usize;
                        let to = (channel * kernel + y) * kernel;
                        copy(&mut window[to..to + kernel], &self.data[from..from + kernel]);
                    }
                }
                continue;
            }
            window.fill(0.0);
            for channel in 0..self.in_channels {
                for y in ys.clone() {
                    let from = image + channel as isize * self.strides[1] + (y0 + y as isize) * self.strides[2];
                    let to = (channel * kernel + y) * kernel;
                    for x in xs.clone() {
                        window[to + x] = self.data[(from + (x0 + x as isize) * self.strides[3]) as usize];
                    }
                }
            }
        }
    }
}

/// A copy whose length is a constant where it is 3, the kernel of nearly all networks' first convolution.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (<&mut [f32; 3]>::try_from(&mut *to), <&[f32; 3]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

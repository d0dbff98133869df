//! The one picture type of the crate: 8-bit RGB, row by row.

/// An upright picture of 8-bit RGB pixels.
///
/// # Shapes
///
/// `pixels` is `[height, width, 3]`, row-major, so it holds `height * width * 3` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, color: [u8; 3]) -> Self {
        let pixels = color.repeat(width as usize * height as usize);
        Self { width, height, pixels }
    }

    /// A picture from gray levels `[height, width]`: each becomes red, green and blue.
    ///
    /// # Panics
    ///
    /// If `gray` does not hold `width * height` bytes.
    pub fn from_gray(width: u32, height: u32, gray: &[u8]) -> Self {
        assert_eq!(gray.len(), width as usize * height as usize, "gray levels must fill the picture");
        let pixels = gray.iter().flat_map(|&level| [level; 3]).collect();
        Self { width, height, pixels }
    }

    /// The pixel in column `x` of row `y`.
    ///
    /// # Panics
    ///
    /// If it lies outside of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "pixel {x},{y} lies outside of the picture");
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// Whether every pixel is a gray one: red, green and blue alike.
    pub fn is_gray(&self) -> bool {
        self.pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
    }

    /// The window of `width` x `height` pixels whose upper left corner is at (`left`, `top`); what lies outside of the
    /// picture is black, as torchvision pads.
    pub(crate) fn window(&self, left: i64, top: i64, width: u32, height: u32) -> Self {
        let mut out = Self::filled(width, height, [0; 3]);
        let first_x = left.clamp(0, i64::from(self.width));
        let last_x = (left + i64::from(width)).clamp(first_x, i64::from(self.width));
        let run = (last_x - first_x) as usize * 3;
        if run == 0 {
            return out;
        }
        for row in 0..i64::from(height) {
            let y = top + row;
            if y < 0 || y >= i64::from(self.height) {
                continue;
            }
            let from = (y as usize * self.width as usize + first_x as usize) * 3;
            let to = (row as usize * width as usize + (first_x - left) as usize) * 3;
            out.pixels[to..to + run].copy_from_slice(&self.pixels[from..from + run]);
        }
        out
    }

    /// The picture mirrored left to right.
    pub(crate) fn mirrored(mut self) -> Self {
        let width = self.width as usize;
        for row in self.pixels.chunks_exact_mut(width * 3) {
            for x in 0..width / 2 {
                let other = width - 1 - x;
                for channel in 0..3 {
                    row.swap(x * 3 + channel, other * 3 + channel);
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: u32, height: u32) -> RgbImage {
        let gray: Vec<u8> = (0..width * height).map(|i| i as u8).collect();
        RgbImage::from_gray(width, height, &gray)
    }

    #[test]
    fn a_window_inside_the_picture_is_a_copy() {
        let window = numbered(4, 3).window(1, 1, 2, 2);
        assert_eq!(window, RgbImage::from_gray(2, 2, &[5, 6, 9, 10]));
    }

    #[test]
    fn a_window_over_the_edge_is_black_outside() {
        let window = numbered(2, 2).window(-1, -1, 4, 3);
        let expected = [0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 3, 0];
        assert_eq!(window, RgbImage::from_gray(4, 3, &expected));
        assert_eq!(numbered(2, 2).window(5, 0, 2, 1), RgbImage::filled(2, 1, [0; 3]));
    }

    #[test]
    fn mirroring_twice_gives_the_picture_back() {
        let picture = numbered(3, 2);
        assert_eq!(picture.clone().mirrored(), RgbImage::from_gray(3, 2, &[2, 1, 0, 5, 4, 3]));
        assert_eq!(picture.clone().mirrored().mirrored(), picture);
    }
}

//! The first frame of a GIF file.
//!
//! The crate `gif` fills an interlaced frame row by row, and its decompressor gives up where a small row is ready before the
//! next byte is read (`weezl` 0.1.12), so small interlaced files are "truncated". Here the whole frame is decompressed at once,
//! in the order of the file, and the rows are put where they belong.

use gif::{ColorOutput, DecodeOptions};

use super::{DecodeError, DecodeLimits, check_memory, check_pixels, reason};
use crate::image::RgbImage;

/// Decodes the first frame, on the screen that the file declares. What is transparent, or outside of the frame, is white.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    let malformed = |reason: String| DecodeError::Malformed { format: "GIF", reason };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(bytes).map_err(|error| malformed(reason(&error)))?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    check_pixels((width as u64, height as u64), limits)?;
    let frame = decoder.next_frame_info().map_err(|error| malformed(reason(&error)))?;
    let frame = frame.ok_or_else(|| malformed("it holds no picture".to_owned()))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let (transparent, is_interlaced) = (frame.transparent, frame.interlaced);
    if frame_width == 0 || frame_height == 0 {
        return Err(malformed("its first frame has no pixels".to_owned()));
    }
    // A byte for each pixel of the frame, which may be larger than the screen, and the result.
    check_memory((frame_width * frame_height) as u64 + (width * height * 3) as u64, limits)?;
    let mut indices = vec![0; frame_width * frame_height];
    let is_whole = decoder.fill_buffer(&mut indices).map_err(|error| malformed(reason(&error)))?;
    if !is_whole {
        return Err(malformed("image truncated".to_owned()));
    }
    let palette = decoder.palette().map_err(|error| malformed(reason(&error)))?;
    let color = |index: u8| match palette.chunks_exact(3).nth(usize::from(index)) {
        Some(&[red, green, blue]) if transparent != Some(index) => [red, green, blue],
        _ => [255; 3],
    };
    let colors: Vec<[u8; 3]> = (0..=255).map(color).collect();
    let mut pixels = vec![255; width * height * 3];
    let visible = frame_width.min(width.saturating_sub(left));
    for (row, indices) in indices.chunks_exact(frame_width).enumerate() {
        let y = top + if is_interlaced { interlaced_row(row, frame_height) } else { row };
        if y >= height || visible == 0 {
            continue;
        }
        let out = &mut pixels[(y * width + left) * 3..][..visible * 3];
        for (pixel, &index) in out.chunks_exact_mut(3).zip(indices) {
            pixel.copy_from_slice(&colors[usize::from(index)]);
        }
    }
    Ok(RgbImage { width: width as u32, height: height as u32, pixels })
}

/// Where the `number`th row of an interlaced frame belongs (GIF89a, appendix E): every 8th row from 0 and from 4, every 4th
/// from 2, every second from 1.
fn interlaced_row(mut number: usize, height: usize) -> usize {
    for (start, step) in [(0, 8), (4, 8), (2, 4)] {
        let rows = height.saturating_sub(start).div_ceil(step);
        if number < rows {
            return start + number * step;
        }
        number -= rows;
    }
    1 + number * 2
}

#[cfg(test)]
mod tests {
    use gif::{Encoder, Frame};
    use image::{AnimationDecoder, ImageDecoder};

    use super::*;
    use crate::random::{below, stream};

    const PALETTE: [u8; 12] = [10, 20, 30, 200, 100, 0, 7, 255, 9, 0, 0, 0];

    /// A file of one frame on a screen of a given size.
    fn file(screen: (u16, u16), frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, screen.0, screen.1, &PALETTE).unwrap();
        encoder.write_frame(frame).unwrap();
        drop(encoder);
        bytes
    }

    fn frame(width: u16, height: u16, index: impl FnMut(usize) -> u8) -> Frame<'static> {
        let indices: Vec<u8> = (0..usize::from(width) * usize::from(height)).map(index).collect();
        Frame { width, height, buffer: indices.into(), ..Frame::default() }
    }

    /// The same rows in the order of interlacing.
    fn interlaced(frame: &Frame<'static>) -> Frame<'static> {
        let (width, height) = (usize::from(frame.width), usize::from(frame.height));
        let rows = (0..height).flat_map(|number| {
            let at = interlaced_row(number, height) * width;
            frame.buffer[at..at + width].to_vec()
        });
        Frame { interlaced: true, buffer: rows.collect::<Vec<u8>>().into(), ..frame.clone() }
    }

    fn decoded(bytes: &[u8]) -> RgbImage {
        decode(bytes, &DecodeLimits::default()).unwrap()
    }

    #[test]
    fn rows_come_in_the_order_of_the_specification() {
        let order = |height| (0..height).map(|number| interlaced_row(number, height)).collect::<Vec<_>>();
        assert_eq!(order(1), [0]);
        assert_eq!(order(3), [0, 2, 1]);
        assert_eq!(order(7), [0, 4, 2, 6, 1, 3, 5]);
        assert_eq!(order(11), [0, 8, 4, 2, 6, 10, 1, 3, 5, 7, 9]);
        for height in 0..50 {
            let mut rows = order(height);
            rows.sort_unstable();
            assert!(rows.into_iter().eq(0..height), "{height}");
        }
    }

    #[test]
    fn interlaced_frames_of_any_size_look_as_others() {
        let mut rng = stream("test", &[31]);
        for width in (1..20).chain([64, 200]) {
            for height in (1..20).chain([67]) {
                for colors in [1, 2, 4] {
                    let plain = frame(width, height, |_| below(&mut rng, colors) as u8);
                    let screen = (width, height);
                    let expected = decoded(&file(screen, &plain));
                    assert_eq!(decoded(&file(screen, &interlaced(&plain))), expected, "{width} x {height}, {colors}");
                }
            }
        }
    }

    /// The bytes that a program wrote, 9 x 9 pixels of one colour.
    #[test]
    fn a_small_flat_interlaced_file_is_whole() {
        let bytes =
            b"GIF89a\x09\0\x09\0\xf1\0\0\xd9\xa3\x82\x45\x4e\x0a\x13\x04\x2c\xd0\xa6\xe9\x2c\0\0\0\0\x09\0\x09\0\x40\
            \x02\x08\x84\x8f\xa9\xcb\xed\x0f\x4f\x01\0;";
        let image = decoded(bytes);
        assert_eq!((image.width, image.height), (9, 9));
        assert!(image.pixels.chunks_exact(3).all(|pixel| pixel == &image.pixels[..3]));
    }

    /// The crate `image` decodes frames that are not interlaced: larger and smaller than the screen, off it, transparent.
    #[test]
    fn frames_look_as_the_crate_image_has_them() {
        let mut rng = stream("test", &[32]);
        for round in 0..300 {
            let mut number = |end: u64| below(&mut rng, end) as u16;
            let screen = (1 + number(12), 1 + number(12));
            let (width, height) = (1 + number(15), 1 + number(15));
            let (left, top) = (number(8), number(8));
            let transparent = (number(2) == 0).then_some(number(4) as u8);
            let plain = frame(width, height, |_| number(4) as u8);
            let bytes = file(screen, &Frame { left, top, transparent, ..plain });
            let theirs = image::codecs::gif::GifDecoder::new(std::io::Cursor::new(&bytes)).unwrap();
            assert_eq!(theirs.dimensions(), (screen.0.into(), screen.1.into()));
            let theirs = image::DynamicImage::from_decoder(theirs).unwrap().into_rgba8();
            let theirs = theirs.pixels().flat_map(|pixel| match pixel.0 {
                [red, green, blue, 255] => [red, green, blue],
                _ => [255; 3],
            });
            assert!(theirs.eq(decoded(&bytes).pixels), "round {round}");
        }
    }

    #[test]
    fn only_the_first_frame_counts() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 3, 2, &PALETTE).unwrap();
        for index in [1, 2] {
            encoder.write_frame(&frame(3, 2, |_| index)).unwrap();
        }
        drop(encoder);
        assert_eq!(decoded(&bytes), RgbImage::filled(3, 2, [200, 100, 0]));
        let frames = image::codecs::gif::GifDecoder::new(std::io::Cursor::new(&bytes)).unwrap().into_frames();
        assert_eq!(frames.count(), 2);
    }

    #[test]
    fn faults_are_told() {
        let error = |bytes: &[u8]| decode(bytes, &DecodeLimits::default()).unwrap_err().to_string();
        let whole = file((40, 30), &frame(40, 30, |at| (at % 4) as u8));
        assert_eq!(error(&whole[..whole.len() - 20]), "damaged or unsupported GIF image: Unexpected End of File");
        let mut empty = whole.clone();
        // After the header, the screen, four colours and a control extension.
        let descriptor = 6 + 7 + 12 + 8;
        assert_eq!(empty[descriptor], b',');
        empty[descriptor + 5..descriptor + 9].fill(0);
        assert_eq!(error(&empty), "damaged or unsupported GIF image: its first frame has no pixels");
        let limits = DecodeLimits { max_bytes: 40 * 30 * 4 - 1, ..DecodeLimits::default() };
        assert_eq!(
            decode(&whole, &limits).unwrap_err().to_string(),
            "decoding needs 4800 bytes of memory, more than the limit of 4799 bytes"
        );
    }
}

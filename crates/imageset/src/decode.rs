//! From the bytes of an image file to an upright RGB picture, or a clear error.
//!
//! The format is read from the content, never from a name. The size is checked in the header, before memory for the pixels
//! is allocated. Transparent pixels are composited onto white, and the EXIF orientation is applied. A file that ends too early is an
//! error: a decoder that fills the missing part with gray would train the network on it.
//!
//! The header of a file decides which decoder is used. JPEG goes to `zune-jpeg` in its strict mode (the `image` crate uses the
//! same decoder in lenient mode), or is repaired or decoded here where `zune-jpeg` is wrong; GIF goes to the crate `gif`; the
//! other formats go through `image`.

mod exif;
mod gif;
mod jpeg;
mod jpeg_coefficients;
pub mod jpeg_header;
mod jpeg_planes;
mod kind;
#[cfg(test)]
mod made;
mod panics;
mod png;

use std::error::Error;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

pub use self::kind::FileKind;
pub(crate) use self::panics::panic_message;
pub use self::panics::quiet_decoder_panics;
use crate::image::RgbImage;
use crate::source::size;

/// What an image may ask for. Checked from its header, before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most pixels, width times height.
    pub max_pixels: u64,
    /// Most bytes of memory for the decoder's buffers and the picture together.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 178,956,970 pixels, where Pillow refuses a "decompression bomb", and 2 GiB, which is 12 bytes for each of so many
    /// pixels: enough to decode and turn any common kind of image.
    fn default() -> Self {
        Self { max_pixels: 178_956_970, max_bytes: 1 << 31 }
    }
}

impl DecodeLimits {
    /// These limits for images of up to so many pixels, with 12 bytes of memory for each if that is more than by default.
    pub fn with_max_pixels(max_pixels: u64) -> Self {
        let default = Self::default();
        Self { max_pixels, max_bytes: default.max_bytes.max(max_pixels.saturating_mul(12)) }
    }
}

/// Why bytes did not become a picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The content is in none of the formats that we read.
    #[error("{}", .kind.refusal())]
    OtherKind {
        /// What it is.
        kind: FileKind,
    },
    /// The image is of a format that we read, in a variant that we do not read.
    #[error("{what}: {next_step}")]
    Unsupported {
        /// What it is.
        what: String,
        /// What to do about it.
        next_step: &'static str,
    },
    /// The header declares more pixels than allowed.
    #[error(
        "{width} x {height} pixels are more than the limit of {max_pixels} pixels: raise the limit with `max_pixels`"
    )]
    TooManyPixels {
        /// Declared columns.
        width: u64,
        /// Declared rows.
        height: u64,
        /// [`DecodeLimits::max_pixels`].
        max_pixels: u64,
    },
    /// Decoding would need more memory than allowed.
    #[error("decoding needs {} of memory, more than the limit of {}", size(*bytes), size(*max_bytes))]
    TooMuchMemory {
        /// Estimated need.
        bytes: u64,
        /// [`DecodeLimits::max_bytes`].
        max_bytes: u64,
    },
    /// The image has no rows or no columns.
    #[error("the image has no pixels ({width} x {height})")]
    NoPixels {
        /// Declared columns.
        width: u64,
        /// Declared rows.
        height: u64,
    },
    /// The content is damaged, cut short, or uses a feature that no decoder here knows.
    #[error("damaged or unsupported {format} image: {reason}")]
    Malformed {
        /// Name of the format.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A decoder panicked: a bug in it, kept from ending the run.
    #[error("the decoder panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// Decodes one image file.
///
/// # Errors
///
/// See [`DecodeError`]. Never panics: a panic inside of a decoder becomes [`DecodeError::Panicked`].
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    panics::caught(|| match FileKind::of(bytes) {
        FileKind::Jpeg => jpeg::decode(bytes, limits),
        FileKind::Png => {
            png::check(bytes)?;
            decode_other(bytes, ImageFormat::Png, exif::of_png(bytes), limits)
        }
        FileKind::WebP => decode_other(bytes, ImageFormat::WebP, exif::of_webp(bytes), limits),
        FileKind::Bmp => decode_other(bytes, ImageFormat::Bmp, Orientation::NoTransforms, limits),
        FileKind::Gif => gif::decode(bytes, limits),
        FileKind::Empty => Err(DecodeError::Empty),
        kind => Err(DecodeError::OtherKind { kind }),
    })
    .unwrap_or_else(|message| Err(DecodeError::Panicked { message }))
}

fn check_pixels((width, height): (u64, u64), limits: &DecodeLimits) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::NoPixels { width, height });
    }
    if width.saturating_mul(height) > limits.max_pixels {
        return Err(DecodeError::TooManyPixels { width, height, max_pixels: limits.max_pixels });
    }
    Ok(())
}

fn check_memory(bytes: u64, limits: &DecodeLimits) -> Result<(), DecodeError> {
    if bytes > limits.max_bytes {
        return Err(DecodeError::TooMuchMemory { bytes, max_bytes: limits.max_bytes });
    }
    Ok(())
}

/// Decodes a PNG, WebP or BMP image.
fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    orientation: Orientation,
    limits: &DecodeLimits,
) -> Result<RgbImage, DecodeError> {
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        _ => "BMP",
    };
    let malformed = |error: ImageError| DecodeError::Malformed { format: name, reason: reason(&error) };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.max_bytes);
    reader.limits(decoder_limits);
    let decoder = reader.into_decoder().map_err(malformed)?;
    let (width, height) = decoder.dimensions();
    let size = (u64::from(width), u64::from(height));
    check_pixels(size, limits)?;
    // The decoder of WebP holds the picture once more: 4 bytes for a pixel without loss, 1.5 with.
    let own = if format == ImageFormat::WebP { 4 } else { 0 };
    let bytes_per_pixel = working_bytes_per_pixel(decoder.color_type(), exif::swaps_sides(orientation)) + own;
    check_memory(size.0.saturating_mul(size.1).saturating_mul(bytes_per_pixel), limits)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(malformed)?;
    Ok(upright(over_white(picture), orientation))
}

/// The memory that a decoded picture takes at its peak on the way to upright RGB, in bytes per pixel.
fn working_bytes_per_pixel(color: ColorType, swaps_sides: bool) -> u64 {
    let decoded = u64::from(color.bytes_per_pixel());
    let converted = match color {
        ColorType::Rgb8 => decoded,
        ColorType::Rgba8 => decoded + 3,
        // To 8 bits and four channels, and then onto white.
        _ if color.has_alpha() => (decoded + 4).max(4 + 3),
        _ => decoded + 3,
    };
    converted.max(if swaps_sides { 3 + 3 } else { 0 })
}

/// The decoder's words without the repetition of outer layers.
fn reason(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Composites transparent pixels onto white; an opaque picture is only converted.
fn over_white(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return DynamicImage::ImageRgb8(picture.into_rgb8());
    }
    let picture = picture.into_rgba8();
    let (width, height) = picture.dimensions();
    let mut opaque = image::RgbImage::new(width, height);
    for (out, pixel) in opaque.chunks_exact_mut(3).zip(picture.chunks_exact(4)) {
        let alpha = u32::from(pixel[3]);
        for (out, &color) in out.iter_mut().zip(pixel) {
            *out = ((u32::from(color) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    DynamicImage::ImageRgb8(opaque)
}

fn upright(mut picture: DynamicImage, orientation: Orientation) -> RgbImage {
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    RgbImage { width: picture.width(), height: picture.height(), pixels: picture.into_raw() }
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder};

    use super::made::{Made, MadeScan};
    use super::*;
    use crate::pillow::{decoded_files, file, largest_difference};
    use crate::random::{below, stream};

    fn decode_ok(bytes: &[u8]) -> RgbImage {
        decode(bytes, &DecodeLimits::default()).unwrap()
    }

    fn error(bytes: &[u8]) -> String {
        decode(bytes, &DecodeLimits::default()).unwrap_err().to_string()
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(width: u32, height: u32, color: ExtendedColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(data, width, height, color).unwrap();
        bytes
    }

    fn levels(image: &RgbImage) -> Vec<[u8; 3]> {
        image.pixels.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    fn noise(width: u32, height: u32) -> DynamicImage {
        let mut state = 1u32;
        DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |_, _| {
            image::Rgb([0; 3].map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }))
        }))
    }

    #[test]
    fn every_kind_of_jpeg_looks_as_in_pillow() {
        for (name, theirs) in decoded_files() {
            let ours = decode_ok(&file(&name));
            assert_eq!((ours.width, ours.height), (24, 16), "{name}");
            // Decoders may differ in the last bits of the cosine transform and in how they spread the colour.
            let difference = largest_difference(&ours.pixels, &theirs);
            assert!(difference <= 6, "{name}: {difference}");
        }
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        let picture = noise(13, 7);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            assert_eq!(decode_ok(&encoded(&picture, format)).pixels, picture.as_bytes(), "{format:?}");
        }
    }

    #[test]
    fn png_of_every_depth_becomes_8_bit_rgb() {
        let gray = png(2, 1, ExtendedColorType::L8, &[10, 200]);
        assert_eq!(levels(&decode_ok(&gray)), [[10; 3], [200; 3]]);
        let deep: Vec<u8> = [0u16, 257, 0x8080, 65535, 65535, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let rgb16 = png(2, 1, ExtendedColorType::Rgb16, &deep);
        assert_eq!(levels(&decode_ok(&rgb16)), [[0, 1, 128], [255, 255, 0]]);
    }

    #[test]
    fn transparency_is_laid_over_white() {
        let rgba = png(3, 1, ExtendedColorType::Rgba8, &[10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51]);
        assert_eq!(levels(&decode_ok(&rgba)), [[10, 20, 30], [255; 3], [204, 224, 244]]);
        let gray = png(2, 1, ExtendedColorType::La8, &[0, 0, 0, 255]);
        assert_eq!(levels(&decode_ok(&gray)), [[255; 3], [0; 3]]);
        let picture = image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([0, 0, 0, if x == 0 { 0 } else { 255 }]));
        for format in [ImageFormat::Gif, ImageFormat::WebP] {
            let bytes = encoded(&DynamicImage::ImageRgba8(picture.clone()), format);
            assert_eq!(levels(&decode_ok(&bytes)), [[255; 3], [0; 3]], "{format:?}");
        }
    }

    #[test]
    fn the_eight_orientations_look_alike() {
        let upright = decode_ok(&file("orientation_1.jpg"));
        for orientation in 2..=8 {
            let turned = decode_ok(&file(&format!("orientation_{orientation}.jpg")));
            assert_eq!((turned.width, turned.height), (24, 16), "{orientation}");
            // A turned JPEG has other blocks.
            let difference = largest_difference(&turned.pixels, &upright.pixels);
            assert!(difference <= 8, "{orientation}: {difference}");
        }
        let (png, webp) = (decode_ok(&file("orientation_6.png")), decode_ok(&file("orientation_6.webp")));
        assert_eq!(png, webp);
        assert!(largest_difference(&png.pixels, &upright.pixels) <= 40);
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error_at_any_length() {
        let png = encoded(&noise(40, 30), ImageFormat::Png);
        for (name, bytes, step) in [
            ("baseline.jpg", file("baseline.jpg"), 1),
            ("progressive.jpg", file("progressive.jpg"), 1),
            ("cmyk.jpg", file("cmyk.jpg"), 1),
            ("gray.jpg", file("gray.jpg"), 1),
            ("restart.jpg", file("restart.jpg"), 1),
            ("webp", encoded(&noise(40, 30), ImageFormat::WebP), 61),
            ("bmp", encoded(&noise(40, 30), ImageFormat::Bmp), 61),
            ("png", png[..png.len() - 16].to_vec(), 61),
        ] {
            for len in (0..bytes.len()).step_by(step) {
                assert!(decode(&bytes[..len], &DecodeLimits::default()).is_err(), "{name}: {len} bytes");
            }
        }
        let whole = file("baseline.jpg");
        assert_eq!(
            error(&whole[..whole.len() - 2]),
            "damaged or unsupported JPEG image: it is cut short: the end-of-image marker is missing"
        );
    }

    #[test]
    fn garbage_between_header_segments_is_passed_over() {
        let good = file("baseline.jpg");
        let second_segment = 4 + usize::from(u16::from_be_bytes([good[4], good[5]]));
        let mut odd = good.clone();
        odd.splice(second_segment..second_segment, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(decode_ok(&odd), decode_ok(&good));
        // Bytes after the end do no harm either.
        odd.extend_from_slice(b"trailer");
        assert_eq!(decode_ok(&odd), decode_ok(&good));
    }

    #[test]
    fn what_is_no_image_is_called_so() {
        assert_eq!(error(b""), "the file is empty");
        assert_eq!(error(b"\x01\x02\x03"), "the content is not a JPEG, PNG, WebP, BMP or GIF image");
        assert_eq!(
            error(b"these are words, whatever the name says"),
            "the file is text, not an image: put the image in its place, or remove the file"
        );
        assert_eq!(
            error(b"\x89PN"),
            "the file is cut short after the first bytes of an image: copy or download it again"
        );
        assert_eq!(
            error(b"II*\0\x08\0\0\0\0\0"),
            "the file is a TIFF image or a camera's raw photograph, which is not supported: convert it to PNG: `magick IN OUT.png`"
        );
    }

    #[test]
    fn a_huge_declared_size_is_refused_before_memory_is_asked_for() {
        let mut bmp = encoded(&noise(2, 2), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&30_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&30_000u32.to_le_bytes());
        assert_eq!(
            error(&bmp),
            "30000 x 30000 pixels are more than the limit of 178956970 pixels: raise the limit with `max_pixels`"
        );

        let mut gif = encoded(&noise(2, 2), ImageFormat::Gif);
        gif[6..10].copy_from_slice(&[0xff; 4]);
        assert_eq!(
            error(&gif),
            "65535 x 65535 pixels are more than the limit of 178956970 pixels: raise the limit with `max_pixels`"
        );

        let mut jpeg = file("baseline.jpg");
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        assert_eq!(
            error(&jpeg),
            "65535 x 65535 pixels are more than the limit of 178956970 pixels: raise the limit with `max_pixels`"
        );

        let limits = DecodeLimits { max_pixels: 1000, max_bytes: 1000 };
        let error = decode(&file("baseline.jpg"), &limits).unwrap_err().to_string();
        assert_eq!(error, "decoding needs 1152 bytes of memory, more than the limit of 1000 bytes");
    }

    #[test]
    fn memory_is_counted_by_channels() {
        for (color, upright, turned) in [
            (ColorType::L8, 4, 6),
            (ColorType::La8, 7, 7),
            (ColorType::Rgb8, 3, 6),
            (ColorType::Rgba8, 7, 7),
            (ColorType::L16, 5, 6),
            (ColorType::Rgb16, 9, 9),
            (ColorType::Rgba16, 12, 12),
        ] {
            assert_eq!(working_bytes_per_pixel(color, false), upright, "{color:?}");
            assert_eq!(working_bytes_per_pixel(color, true), turned, "{color:?}");
        }
        // The largest picture that is allowed fits into the memory that is allowed, whatever its kind.
        let limits = DecodeLimits::default();
        assert!(check_memory(limits.max_pixels * 12, &limits).is_ok());
    }

    /// Reaches further than random bytes: the files are good except for a few bytes.
    #[test]
    fn damaged_files_never_panic() {
        let picture = noise(24, 16);
        let mut files: Vec<Vec<u8>> = ["baseline", "progressive", "gray", "cmyk", "restart", "orientation_6"]
            .iter()
            .map(|name| file(&format!("{name}.jpg")))
            .collect();
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif] {
            files.push(encoded(&picture, format));
        }
        files.push(vec![0; 300]);
        // Those that are decoded here.
        let made = Made::new((24, 16), &[(2, 2), (1, 1), (1, 1)], 1);
        let separate = [0, 1, 2].map(|component| MadeScan::of(&[component])).to_vec();
        files.push(Made { scans: separate, restart_interval: 1, ..made }.bytes());
        let made = Made::new((24, 16), &[(1, 1), (2, 1), (1, 2)], 2);
        files.push(Made { scans: MadeScan::progression(3), is_progressive: true, ..made }.bytes());
        let limits = DecodeLimits { max_pixels: 1 << 20, max_bytes: 1 << 26 };
        let mut rng = stream("test", &[2]);
        for (number, file) in files.iter().enumerate() {
            for round in 0..200 {
                let mut bytes = file.clone();
                for _ in 0..=below(&mut rng, 4) {
                    let at = below(&mut rng, bytes.len() as u64) as usize;
                    bytes[at] = below(&mut rng, 256) as u8;
                }
                let result = decode(&bytes, &limits);
                let panicked = matches!(result, Err(DecodeError::Panicked { .. }));
                assert!(!panicked, "file {number}, round {round}: {result:?}");
            }
        }
    }
}

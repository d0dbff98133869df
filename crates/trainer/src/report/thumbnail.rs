//! Small pictures inside the page itself: `data:` addresses, so that the file needs nothing beside it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ImageEncoder, imageops};
use imageset::{ImageSource, RgbImage, load_image};

/// Longest side of a thumbnail, pixels: twice as many as it takes on the page, for dense screens.
const MAX_SIDE: u32 = 224;

/// Up to this longest side, in pixels, a picture is kept exactly: its few pixels are all seen.
const MAX_EXACT_SIDE: u32 = 64;

const JPEG_QUALITY: u8 = 82;

/// A picture of a source; none if it cannot be read.
pub(super) fn of(source: &dyn ImageSource, index: usize) -> Option<String> {
    let picture = load_image(source, index).ok()?;
    data_uri(picture).ok()
}

/// The picture as an address for `<img src>`; a large one is made smaller.
pub(super) fn data_uri(picture: RgbImage) -> Result<String, image::ImageError> {
    let RgbImage { width, height, pixels } = picture;
    let longest = width.max(height);
    let Some(picture) = image::RgbImage::from_raw(width, height, pixels) else {
        let kind = image::error::ParameterErrorKind::DimensionMismatch;
        return Err(image::ImageError::Parameter(image::error::ParameterError::from_kind(kind)));
    };
    let picture = if longest > MAX_SIDE {
        let side = |side: u32| (side * MAX_SIDE).div_ceil(longest).max(1);
        imageops::thumbnail(&picture, side(width), side(height))
    } else {
        picture
    };
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    let media = if longest <= MAX_EXACT_SIDE {
        PngEncoder::new(&mut bytes).write_image(&picture, width, height, ExtendedColorType::Rgb8)?;
        "png"
    } else {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        encoder.write_image(&picture, width, height, ExtendedColorType::Rgb8)?;
        "jpeg"
    };
    Ok(format!("data:image/{media};base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(uri: &str) -> image::RgbImage {
        let (_, data) = uri.split_once(";base64,").expect("a data address");
        image::load_from_memory(&STANDARD.decode(data).expect("base64")).expect("a picture").to_rgb8()
    }

    #[test]
    fn a_small_picture_is_kept_exactly() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).collect();
        let uri = data_uri(RgbImage { width: 5, height: 4, pixels: pixels.clone() }).expect("it is encoded");
        assert!(uri.starts_with("data:image/png;base64,"));
        assert_eq!(decoded(&uri).into_raw(), pixels);
    }

    #[test]
    fn a_large_picture_keeps_its_shape_and_its_colour() {
        let uri = data_uri(RgbImage::filled(1600, 400, [200, 60, 40])).expect("it is encoded");
        assert!(uri.starts_with("data:image/jpeg;base64,"));
        let picture = decoded(&uri);
        assert_eq!(picture.dimensions(), (224, 56));
        let pixel = picture.get_pixel(100, 20).0;
        assert!(pixel.iter().zip([200, 60, 40]).all(|(found, expected)| found.abs_diff(expected) < 6), "{pixel:?}");
        assert_eq!(decoded(&data_uri(RgbImage::filled(60_000, 1, [0; 3])).expect("encoded")).dimensions(), (224, 1));
    }
}

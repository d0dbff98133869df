//! The orientation of a picture: one reader of the EXIF orientation for all containers, by Pillow's rules.
//!
//! Checked against Pillow 13 (`Image.getexif`, `ImageOps.exif_transpose`): EXIF in several segments is joined; the tag may be a
//! SHORT or a LONG, signed or not, and is ignored as a BYTE; without the tag, `tiff:Orientation` in XMP counts. A picture
//! with damaged metadata is not refused, only not turned.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

use super::jpeg_header::JpegHeader;
use super::png;

/// The orientation in the metadata of a JPEG file.
pub(super) fn of_jpeg(header: &JpegHeader, bytes: &[u8]) -> Orientation {
    let segments: Vec<&[u8]> = header.exif.iter().filter_map(|range| bytes.get(range.clone())).collect();
    let exif = (!segments.is_empty()).then(|| segments.concat());
    let xmp = header.xmp.clone().and_then(|range| bytes.get(range));
    orientation(exif.as_deref(), xmp)
}

/// The orientation in the metadata of a PNG file: chunks may be anywhere, even after the pixels, and the last of several counts.
pub(super) fn of_png(bytes: &[u8]) -> Orientation {
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for (kind, data) in png::chunks(bytes) {
        match png_keyword(kind, data) {
            _ if kind == *b"eXIf" => exif = Some(Cow::Borrowed(data)),
            Some(b"Raw profile type exif") => profile = Some((kind, data)),
            Some(b"XML:com.adobe.xmp") => xmp = Some((kind, data)),
            _ => {}
        }
    }
    let profile = || profile.and_then(|(kind, data)| raw_profile(&png_text(kind, data)?)).map(Cow::Owned);
    let xmp = xmp.and_then(|(kind, data)| png_text(kind, data));
    orientation(exif.or_else(profile).as_deref(), xmp.as_deref())
}

/// The orientation in the metadata of a WebP file. Metadata count only where the header announces them, as in libwebp (demux.c).
pub(super) fn of_webp(bytes: &[u8]) -> Orientation {
    const ANNOUNCES_EXIF: u8 = 0x08;
    const ANNOUNCES_XMP: u8 = 0x04;
    let mut chunks = riff_chunks(bytes);
    let Some((b"VP8X", &[flags, ..])) = chunks.next() else { return Orientation::NoTransforms };
    let (mut exif, mut xmp) = (None, None);
    for (kind, data) in chunks {
        match kind {
            b"EXIF" if flags & ANNOUNCES_EXIF != 0 => exif = exif.or(Some(data)),
            b"XMP " if flags & ANNOUNCES_XMP != 0 => xmp = xmp.or(Some(data)),
            _ => {}
        }
    }
    orientation(exif, xmp)
}

/// Whether a picture's width becomes its height.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    exif.and_then(exif_value)
        .or_else(|| xmp.and_then(xmp_value))
        .and_then(|value| u8::try_from(value).ok())
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// The value of the orientation tag in the first directory of a TIFF file; 0 if it is there and has none of the usual types.
fn exif_value(mut exif: &[u8]) -> Option<u32> {
    const ORIENTATION: u32 = 0x0112;
    const ENTRY: usize = 12;
    // The identifier of JPEG's segments does not belong to the file, and is found in other containers as well.
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    let is_little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |at: usize, len: usize| -> Option<u32> {
        let bytes = exif.get(at..at.checked_add(len)?)?.iter();
        let add = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        Some(if is_little { bytes.rev().fold(0, add) } else { bytes.fold(0, add) })
    };
    let directory = number(4, 4)? as usize;
    for entry in 0..number(directory, 2)? as usize {
        let at = directory.checked_add(2 + ENTRY * entry)?;
        if number(at, 2)? != ORIENTATION {
            continue;
        }
        let (kind, count) = (number(at + 2, 2)?, number(at + 4, 4)?);
        let size = match kind {
            3 | 8 => 2, // SHORT, SSHORT
            4 | 9 => 4, // LONG, SLONG
            _ => return Some(0),
        };
        return match count {
            0 => Some(0),
            _ if count <= 4 / size => number(at + 8, size as usize),
            // Several values do not fit in the entry; the first one counts.
            _ => number(number(at + 8, 4)? as usize, size as usize),
        };
    }
    None
}

/// The value of `tiff:Orientation` as an attribute or an element.
fn xmp_value(xmp: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    let places = xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    places.map(|(at, _)| &xmp[at + NAME.len()..]).find_map(|rest| {
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        value.first().filter(|digit| digit.is_ascii_digit()).map(|digit| u32::from(digit - b'0'))
    })
}

/// The keyword of a PNG chunk, if it is one with text.
fn png_keyword(kind: [u8; 4], data: &[u8]) -> Option<&[u8]> {
    let has_text = matches!(&kind, b"tEXt" | b"zTXt" | b"iTXt");
    has_text.then(|| cut_at_zero(data).map(|(keyword, _)| keyword)).flatten()
}

/// The text of such a chunk.
fn png_text(kind: [u8; 4], data: &[u8]) -> Option<Vec<u8>> {
    let (_keyword, rest) = cut_at_zero(data)?;
    Some(match &kind {
        b"zTXt" => inflated(rest.get(1..)?),
        b"iTXt" => {
            let is_compressed = *rest.first()? == 1;
            let (_language, rest) = cut_at_zero(rest.get(2..)?)?;
            let (_translated, text) = cut_at_zero(rest)?;
            if is_compressed { inflated(text) } else { text.to_vec() }
        }
        _ => rest.to_vec(),
    })
}

fn cut_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|&byte| byte == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

/// Unpacked text, up to a length that no description of a picture has.
fn inflated(data: &[u8]) -> Vec<u8> {
    const MOST: u64 = 1 << 20;
    let mut text = Vec::new();
    // What comes before a fault may be enough.
    let _ = ZlibDecoder::new(data).take(MOST).read_to_end(&mut text);
    text
}

/// The bytes of a profile that is written in hexadecimal: an empty line, its name, its length, and then the digits.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Option<Vec<u32>> =
        digits.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|&byte| char::from(byte).to_digit(16)).collect();
    Some(digits?.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

/// The chunks of a RIFF file, up to one that is cut short.
fn riff_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, length) = (rest.get(..4)?, rest.get(4..8)?);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let data = rest.get(8..)?.get(..length)?;
        // Chunks begin at even places.
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
        Some((kind, data))
    })
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, chunk, segment, with_chunks};
    use super::super::{DecodeLimits, decode};
    use super::*;
    use crate::image::RgbImage;
    use crate::random::{below, stream};

    /// A TIFF file whose first directory lies at `directory` and has `others` entries before the orientation.
    fn tiff(is_little: bool, directory: u32, others: u16, kind: u16, value: u32) -> Vec<u8> {
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut bytes = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
        bytes.extend(short(42));
        bytes.extend(long(directory));
        bytes.resize(directory as usize, 0);
        bytes.extend(short(others + 1));
        for tag in 0..others {
            bytes.extend([short(0x0100 + tag), short(3)].concat());
            bytes.extend(long(1));
            bytes.extend([short(7), short(0)].concat());
        }
        bytes.extend([short(0x0112), short(kind)].concat());
        bytes.extend(long(1));
        match kind {
            1 => bytes.extend([value as u8, 0, 0, 0]),
            3 | 8 => bytes.extend([short(value as u16), short(0)].concat()),
            _ => bytes.extend(long(value)),
        }
        bytes.extend(long(0));
        bytes
    }

    fn exif_segment(content: &[u8]) -> Vec<u8> {
        segment(0xe1, &[b"Exif\0\0", content].concat())
    }

    fn xmp_segment(content: &[u8]) -> Vec<u8> {
        segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", content].concat())
    }

    fn picture(bytes: &[u8]) -> RgbImage {
        decode(bytes, &DecodeLimits::default()).unwrap()
    }

    fn jpeg(segments: Vec<u8>) -> RgbImage {
        let made = Made::new((16, 8), &[(1, 1)], 3);
        picture(&Made { front: segments, ..made }.bytes())
    }

    fn turned(image: &RgbImage, orientation: u8) -> RgbImage {
        let buffer = image::RgbImage::from_raw(image.width, image.height, image.pixels.clone()).unwrap();
        let mut dynamic = image::DynamicImage::ImageRgb8(buffer);
        dynamic.apply_orientation(Orientation::from_exif(orientation).unwrap());
        let buffer = dynamic.into_rgb8();
        RgbImage { width: buffer.width(), height: buffer.height(), pixels: buffer.into_raw() }
    }

    fn webp(chunks: &[(&[u8; 4], &[u8])]) -> RgbImage {
        let buffer = image::RgbImage::from_fn(16, 8, |x, y| image::Rgb([x as u8 * 9, y as u8 * 20, 50]));
        let mut simple = std::io::Cursor::new(Vec::new());
        buffer.write_to(&mut simple, image::ImageFormat::WebP).unwrap();
        let simple = simple.into_inner();
        // With metadata the file begins with a chunk of flags and size.
        let mut body = b"WEBP".to_vec();
        let mut put = |kind: &[u8], data: &[u8]| {
            body.extend(kind);
            body.extend((data.len() as u32).to_le_bytes());
            body.extend(data);
            body.resize(body.len().next_multiple_of(2), 0);
        };
        let flags = chunks.iter().fold(0, |flags, (kind, _)| flags | if *kind == b"EXIF" { 0x08 } else { 0x04 });
        put(b"VP8X", &[flags, 0, 0, 0, 15, 0, 0, 7, 0, 0]);
        for (kind, data) in riff_chunks(&simple) {
            put(kind, data);
        }
        for (kind, data) in chunks {
            put(*kind, data);
        }
        picture(&[b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat())
    }

    /// ImageMagick's form: name, length, and lines of digits.
    fn profile_text(content: &[u8]) -> Vec<u8> {
        let digits: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        let lines: Vec<&str> = digits.as_bytes().chunks(72).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("\nexif\n{:8}\n{}\n", content.len(), lines.join("\n")).into_bytes()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::read::ZlibEncoder::new(content, flate2::Compression::default());
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn every_container_and_form_of_the_tag_turns_the_picture() {
        let (plain_jpeg, plain_png, plain_webp) = (jpeg(vec![]), picture(&with_chunks(&[], &[])), webp(&[]));
        for orientation in 1..=8u8 {
            let (jpeg_expected, png_expected, webp_expected) =
                (turned(&plain_jpeg, orientation), turned(&plain_png, orientation), turned(&plain_webp, orientation));
            for is_little in [true, false] {
                for kind in [3, 4, 8, 9] {
                    for (directory, others) in [(8, 0), (8, 5), (9, 1), (31, 2)] {
                        let exif = tiff(is_little, directory, others, kind, orientation.into());
                        let prefixed = [b"Exif\0\0", exif.as_slice()].concat();
                        let case = format!("{orientation}, little {is_little}, type {kind}, at {directory}, {others}");
                        assert_eq!(jpeg(exif_segment(&exif)), jpeg_expected, "JPEG {case}");
                        for exif in [exif.as_slice(), &prefixed] {
                            assert_eq!(webp(&[(b"EXIF", exif)]), webp_expected, "WebP {case}");
                            let chunk = chunk(b"eXIf", exif);
                            assert_eq!(picture(&with_chunks(&chunk, &[])), png_expected, "PNG {case}");
                            assert_eq!(picture(&with_chunks(&[], &chunk)), png_expected, "PNG, late {case}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn raw_profiles_and_xmp_stand_in_for_exif() {
        let exif = tiff(true, 8, 1, 3, 6);
        let expected = turned(&picture(&with_chunks(&[], &[])), 6);
        for content in [exif.clone(), [b"Exif\0\0", exif.as_slice()].concat()] {
            let text = profile_text(&content);
            let keyword = b"Raw profile type exif\0".as_slice();
            for chunk in [
                chunk(b"tEXt", &[keyword, &text].concat()),
                chunk(b"zTXt", &[keyword, &[0], &zlib(&text)].concat()),
                chunk(b"iTXt", &[keyword, &[0, 0, 0, 0], &text].concat()),
                chunk(b"iTXt", &[keyword, &[1, 0, b'e', b'n', 0, 0], &zlib(&text)].concat()),
            ] {
                assert_eq!(picture(&with_chunks(&chunk, &[])), expected);
                assert_eq!(picture(&with_chunks(&[], &chunk)), expected);
            }
        }
        for xmp in [b"<x tiff:Orientation=\"6\"/>".as_slice(), b"<tiff:Orientation>6</tiff:Orientation>"] {
            let chunk = chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", xmp].concat());
            assert_eq!(picture(&with_chunks(&chunk, &[])), expected);
            assert_eq!(webp(&[(b"XMP ", xmp)]), turned(&webp(&[]), 6));
            assert_eq!(jpeg(xmp_segment(xmp)), turned(&jpeg(vec![]), 6));
        }
    }

    /// As Pillow 13 has it; see the module.
    #[test]
    fn the_first_tag_of_all_segments_together_counts() {
        let (six, three) = (tiff(true, 8, 0, 3, 6), tiff(true, 8, 0, 3, 3));
        let (plain, by_six) = (jpeg(vec![]), turned(&jpeg(vec![]), 6));
        assert_eq!(jpeg([exif_segment(&six), exif_segment(&three)].concat()), by_six);
        assert_eq!(jpeg([exif_segment(b""), exif_segment(&six)].concat()), by_six);
        assert_eq!(jpeg([exif_segment(b"no TIFF file"), exif_segment(&six)].concat()), plain);
        let (begin, end) = six.split_at(15);
        assert_eq!(jpeg([exif_segment(begin), exif_segment(end)].concat()), by_six);
        // XMP counts only where EXIF has no such tag.
        let xmp = xmp_segment(b"<x tiff:Orientation=\"3\"/>");
        assert_eq!(jpeg([exif_segment(&six), xmp.clone()].concat()), by_six);
        let other =
            [b"II*\0\x08\0\0\0\x01\0".as_slice(), &[0x0f, 1, 2, 0, 4, 0, 0, 0, b'a', 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(jpeg([exif_segment(&other), xmp.clone()].concat()), turned(&plain, 3));
        for value in [0, 9, 70_000] {
            assert_eq!(jpeg([exif_segment(&tiff(false, 8, 0, 4, value)), xmp.clone()].concat()), plain, "{value}");
        }
        assert_eq!(jpeg([exif_segment(&tiff(true, 8, 0, 1, 6)), xmp].concat()), plain, "a BYTE");
        // In PNG the last chunk counts, and a chunk before a profile.
        let [six, three] = [six, three].map(|exif| chunk(b"eXIf", &exif));
        let plain = picture(&with_chunks(&[], &[]));
        assert_eq!(picture(&with_chunks(&three, &six)), turned(&plain, 6));
        let profile = chunk(b"tEXt", &[b"Raw profile type exif\0", &*profile_text(&tiff(true, 8, 0, 3, 8))].concat());
        assert_eq!(picture(&with_chunks(&six, &profile)), turned(&plain, 6));
    }

    #[test]
    fn several_values_are_found_where_they_are() {
        let mut exif = tiff(true, 8, 0, 3, 6);
        exif[14] = 2;
        assert_eq!(exif_value(&exif), Some(6), "two fit in the entry");
        exif[14] = 3;
        exif[18..22].copy_from_slice(&26u32.to_le_bytes());
        exif.extend([8, 0, 1, 0, 1, 0]);
        assert_eq!(exif_value(&exif), Some(8), "three do not");
    }

    #[test]
    fn damaged_metadata_are_no_reason_to_panic() {
        let whole = tiff(false, 8, 3, 3, 6);
        for len in 0..whole.len() {
            exif_value(&whole[..len]);
        }
        let mut rng = stream("test", &[17]);
        for _ in 0..2000 {
            let mut exif = whole.clone();
            for _ in 0..=below(&mut rng, 3) {
                let at = below(&mut rng, exif.len() as u64) as usize;
                exif[at] = below(&mut rng, 256) as u8;
            }
            exif_value(&exif);
            xmp_value(&exif);
            raw_profile(&exif);
            of_png(&exif);
            of_webp(&exif);
        }
        assert_eq!(exif_value(b"II*\0\xff\xff\xff\xff"), None);
        assert_eq!(xmp_value(b"tiff:Orientation=\"x\" tiff:Orientation"), None);
        assert_eq!(raw_profile(b"\nexif\n 2\nxy"), None);
    }
}

//! Chooses how a JPEG file is decoded.
//!
//! `zune-jpeg` decodes usual photographs fast and correctly. Some legal variants it decodes to a wrong picture without an
//! error, so the header decides beforehand: the file goes to `zune-jpeg` as it is or with edits, or is decoded here with only
//! the cosine transform of `zune-jpeg`, or is refused with a message. What `zune-jpeg` refuses is tried in the second way. Newer
//! releases of `zune-jpeg` fix only some of this, so the rules depend on what a file is, not on the release.
//!
//! CMYK and YCCK follow Adobe's inverted convention, as in Pillow.

use std::ops::Range;

use image::DynamicImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_jpeg::JpegDecoder;

use super::jpeg_coefficients::{
    self, Layout, huffman_table_bit, huffman_tables_in, most_sampled, scans_to_decode, standard_huffman_table,
};
use super::jpeg_header::{AdobeSegment, Component, JpegHeader, Process, Scan, TableKind};
use super::jpeg_planes::{self, Color, decoder_options};
use super::{DecodeError, DecodeLimits, check_memory, check_pixels, exif, upright};
use crate::image::RgbImage;

/// Scans that a file may have. Each costs time for every block of the picture, however few bytes it has.
const MAX_SCANS: usize = 100;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    let header = JpegHeader::read(bytes).map_err(|fault| malformed(&fault))?;
    let (width, height) = (header.frame.width, header.frame.height);
    let refusal = Refusal::of(&header);
    // A height of 0 has a meaning, which the refusal explains.
    if refusal != Some(Refusal::HeightAfterScan) {
        check_pixels((u64::from(width), u64::from(height)), limits)?;
    }
    if let Some(refusal) = refusal {
        return Err(DecodeError::Unsupported { what: refusal.what(), next_step: refusal.next_step() });
    }
    let route = Route::of(&header, bytes);
    let orientation = exif::of_jpeg(&header, bytes);
    check_memory(working_bytes(&header, &route, exif::swaps_sides(orientation)), limits)?;
    let pixels = match route {
        Route::Kept => by_zune(bytes, &header, removals(&header.stray), limits)?,
        Route::Spliced(edits) => by_zune(bytes, &header, edits, limits)?,
        Route::Transcoded(color) => transcoded(bytes, &header, color)?,
    };
    let picture = image::RgbImage::from_raw(u32::from(width), u32::from(height), pixels)
        .ok_or_else(|| malformed(&"the decoder returned the wrong number of pixels"))?;
    Ok(upright(DynamicImage::ImageRgb8(picture), orientation))
}

fn malformed(reason: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Malformed { format: "JPEG", reason: reason.to_string() }
}

/// The pixels of a file with some edits, by `zune-jpeg`.
///
/// Where data end too early, `zune-jpeg` continues with zeros, as libjpeg and Pillow do, and the rest of the picture becomes gray or
/// striped. Therefore bits that are not a code of any table are inserted after the data of each scan, so that a decoder that needs more
/// data fails. They do not slow down the decoding of complete files.
///
/// Two cuts remain undetected: one within the last code of a scan, which the inserted bits may complete, and, in a scan that refines AC
/// coefficients, one after the last new coefficient, where only lowest bits are missing. A progressive file that ends between two scans
/// counts as complete.
fn by_zune(
    bytes: &[u8],
    header: &JpegHeader,
    mut edits: Vec<Edit>,
    limits: &DecodeLimits,
) -> Result<Vec<u8>, DecodeError> {
    let is_progressive = header.frame.process == Process::Progressive;
    // Any bit is valid where a DC coefficient is refined, and after the first of several scans `zune-jpeg` expects the next marker.
    // These scans are checked here instead.
    let is_guarded = |at: usize, scan: &Scan| !is_progressive || (at > 0 && scan.spectral_start > 0);
    if is_progressive {
        // Those have at most one code for a block, so this takes little time.
        jpeg_coefficients::check_lengths(bytes, header, |at, scan| !is_guarded(at, scan))
            .map_err(|fault| malformed(&fault))?;
    }
    let scans = scans_to_decode(header).iter().enumerate().filter(|&(at, scan)| is_guarded(at, scan));
    edits.extend(scans.map(|(_, scan)| Edit { range: scan.data.end..scan.data.end, with: guard(scan) }));
    in_order(&mut edits);
    let options = decoder_options().jpeg_set_out_colorspace(ColorSpace::RGB);
    // A phone may append a whole video.
    let edited = edited(bytes.get(..header.end + 2).unwrap_or(bytes), &edits);
    JpegDecoder::new_with_options(ZCursor::new(edited.as_slice()), options).decode().or_else(|error| {
        // Our own decoder says what is wrong, and may be able to read the file.
        let color = Color::of(header);
        let needed = working_bytes(header, &Route::Transcoded(color), false);
        if needed > limits.max_bytes { Err(malformed(&error)) } else { transcoded(bytes, header, color) }
    })
}

/// The pixels with no more than the cosine transform by `zune-jpeg`.
fn transcoded(bytes: &[u8], header: &JpegHeader, color: Color) -> Result<Vec<u8>, DecodeError> {
    let components = jpeg_coefficients::decode(bytes, header).map_err(|fault| malformed(&fault))?;
    jpeg_planes::to_rgb(header, color, components).map_err(|reason| malformed(&reason))
}

/// Data that a decoder cannot take for codes: ones, because no code consists of ones only (C.2), before and after a restart marker. A
/// decoder that expects a restart continues after the marker.
fn guard(scan: &Scan) -> Vec<u8> {
    // A cut code, its extra bits and another code have 47 bits, and `zune-jpeg` buffers up to 63. A code that refines may be preceded by
    // the correction bits of earlier blocks, of which libjpeg collects up to 1,000 (jcphuff.c).
    let num_bytes = if scan.high_bit > 0 { 144 } else { 8 };
    let ones = [0xff, 0x00].repeat(num_bytes);
    [ones.as_slice(), &[0xff, 0xd0], &ones].concat()
}

/// How a file is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// `zune-jpeg` decodes it as it is, but for bytes between header segments that belong to none.
    ///
    /// Every common decoder skips those; `zune-jpeg` refuses them in the strict mode that damaged files need.
    Kept,
    /// `zune-jpeg` decodes it with these edits.
    Spliced(Vec<Edit>),
    /// Only the cosine transform is `zune-jpeg`'s.
    Transcoded(Color),
}

impl Route {
    /// The route of a file that is not [refused](Refusal).
    fn of(header: &JpegHeader, bytes: &[u8]) -> Self {
        let color = Color::of(header);
        if !zune_decodes(header) {
            return Self::Transcoded(color);
        }
        let mut edits = removals(&header.stray);
        if zune_color(header, &header.adobe) != Some(color) {
            if zune_color(header, &[]) != Some(color) {
                return Self::Transcoded(color);
            }
            edits.extend(header.adobe.iter().map(|adobe| Edit::removal(adobe.segment.clone())));
        }
        let tables = missing_tables(header, bytes);
        if let Some(first) = header.scans.first().filter(|_| !tables.is_empty()) {
            edits.push(Edit { range: first.start..first.start, with: tables });
        }
        // What follows the only scan does not count (libjpeg, jdapimin.c), but `zune-jpeg` returns at its first marker, when rows of
        // blocks may still be in its buffer.
        if let Some(first) = header.scans.first().filter(|_| header.frame.process != Process::Progressive)
            && first.data.end < header.end
        {
            edits.push(Edit::removal(first.data.end..header.end));
        }
        if edits.len() == header.stray.len() {
            return Self::Kept;
        }
        in_order(&mut edits);
        Self::Spliced(edits)
    }
}

/// Whether `zune-jpeg` decodes this kind of file correctly, as found by reading its release 0.5.15 and by comparing
/// thousands of files with Pillow (`tests/pillow_differential.py`).
fn zune_decodes(header: &JpegHeader) -> bool {
    let Some(first) = header.scans.first() else { return false };
    let components = &header.frame.components;
    let is_progressive = header.frame.process == Process::Progressive;
    // Of a sequential file in several scans it loses rows of blocks, and takes the wrong number of them (zune-image #341, #419,
    // #422, #448).
    let is_whole = is_progressive || first.components.len() == components.len();
    // It takes all quantization tables at the first scan.
    let has_late_quantization = is_progressive
        && header.tables.iter().skip(first.tables_before).any(|table| table.kind == TableKind::Quantization);
    // It takes the first component that has the identifier.
    let has_unique_identifiers =
        components.iter().enumerate().all(|(at, one)| components[..at].iter().all(|other| other.id != one.id));
    // It counts the blocks of a gray picture with factors above 1 in 16 bits, and adds 7 to its sides for it.
    let fits = components.len() > 1 || header.frame.width.max(header.frame.height) <= u16::MAX - 7;
    // It interpolates between one or two columns, where libjpeg repeats them (jdsample.c).
    let most = most_sampled(components);
    let is_narrow = components
        .iter()
        .zip(Layout::of(header))
        .any(|(component, layout)| usize::from(component.horizontal) < most.0 && layout.width <= 2);
    // An Adobe segment between two scans changes its colour halfway.
    let has_late_adobe = is_progressive && header.has_late_adobe;
    is_whole
        && !has_late_quantization
        && has_unique_identifiers
        && fits
        && !is_narrow
        && !has_late_adobe
        && zune_upsamples(components)
}

/// Whether `zune-jpeg` upsamples these components correctly.
///
/// It expects the first component to be the most finely sampled one, and saves rows between two rows of blocks for components
/// with one row of blocks alone (`worker.rs`, `upsample`).
fn zune_upsamples(components: &[Component]) -> bool {
    let powers = [1, 2, 4];
    let most = most_sampled(components);
    let factors = |component: &Component| (usize::from(component.horizontal), usize::from(component.vertical));
    let Some((first, others)) = components.split_first() else { return false };
    if others.is_empty() {
        return powers.contains(&first.horizontal);
    }
    let are_usual = match others {
        [blue, red] => factors(blue) == factors(red),
        // The first and the last one full, the two of colour alike; or all alike.
        [blue, red, black] => factors(blue) == factors(red) && factors(black) == most,
        _ => false,
    };
    are_usual
        && factors(first) == most
        && components.iter().all(|component| {
            let (horizontal, vertical) = factors(component);
            if !powers.contains(&component.horizontal) || !powers.contains(&component.vertical) {
                return false;
            }
            match (most.0 / horizontal, most.1 / vertical) {
                (1 | 2, 1) => true,
                (1 | 2, 2) => vertical == 1,
                _ => (horizontal, vertical) == (1, 1) && components.len() == 3,
            }
        })
}

impl Color {
    /// By libjpeg's rule (jdapimin.c, `default_decompress_parms`), which Pillow follows.
    fn of(header: &JpegHeader) -> Self {
        // A segment that is too short to have a transform is not counted (jdmarker.c, `examine_app14`).
        let transform = header.adobe.iter().rev().find_map(|adobe| adobe.transform);
        let components = &header.frame.components;
        match (components.len(), transform) {
            (1, _) => Self::Gray,
            (4, None | Some(0)) => Self::Cmyk,
            (4, Some(_)) => Self::Ycck,
            _ if header.has_jfif => Self::YCbCr,
            (_, Some(0)) => Self::Rgb,
            (_, None) if is_named_rgb(components) => Self::Rgb,
            _ => Self::YCbCr,
        }
    }

    fn num_components(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk | Self::Ycck => 4,
        }
    }
}

/// Whether the identifiers of the components are the letters R, G and B.
fn is_named_rgb(components: &[Component]) -> bool {
    components.iter().map(|component| component.id).eq(*b"RGB")
}

/// The colour that `zune-jpeg` sees in a file with these Adobe segments (`headers.rs`, `decoder.rs`, `misc.rs`).
/// [`None`] if it refuses them.
fn zune_color(header: &JpegHeader, adobe: &[AdobeSegment]) -> Option<Color> {
    let components = &header.frame.components;
    let count = components.len();
    let mut color = Color::YCbCr;
    let of_transform = |adobe: &AdobeSegment| match adobe.transform? {
        0 => Some(Color::Cmyk),
        1 => Some(Color::YCbCr),
        2 => Some(Color::Ycck),
        _ => None,
    };
    for adobe in adobe.iter().filter(|adobe| adobe.segment.start < header.frame_start) {
        color = of_transform(adobe)?;
    }
    match count {
        1 => color = Color::Gray,
        4 if color == Color::YCbCr => color = Color::Cmyk,
        _ => {}
    }
    for adobe in adobe.iter().filter(|adobe| adobe.segment.start > header.frame_start) {
        color = of_transform(adobe)?;
    }
    if is_named_rgb(components) || (count == 3 && color == Color::Cmyk) {
        color = Color::Rgb;
    }
    if color.num_components() > count {
        return (color == Color::Ycck && count == 3).then_some(Color::YCbCr);
    }
    Some(color)
}

/// The standard Huffman tables that the first scan needs and the file leaves out, as segments.
///
/// Frames of Motion JPEG leave them out. libjpeg-turbo knows them for sequential files alone (jdhuff.c).
fn missing_tables(header: &JpegHeader, bytes: &[u8]) -> Vec<u8> {
    let Some(scan) = header.scans.first().filter(|_| header.frame.process != Process::Progressive) else {
        return Vec::new();
    };
    let mut defined = 0;
    for table in header.tables.iter().take(scan.tables_before).filter(|table| table.kind == TableKind::Huffman) {
        defined |= huffman_tables_in(bytes.get(table.payload.clone()).unwrap_or_default());
    }
    let mut segments: Vec<u8> = Vec::new();
    for component in &scan.components {
        for (class, number) in [(0, component.dc_table), (1, component.ac_table)] {
            let Some((counts, symbols)) = standard_huffman_table(class, number) else { continue };
            if defined & huffman_table_bit(class, number) == 0 {
                defined |= huffman_table_bit(class, number);
                let length = (2 + 1 + counts.len() + symbols.len()) as u16;
                segments.extend([0xff, 0xc4]);
                segments.extend(length.to_be_bytes());
                segments.push(class << 4 | number);
                segments.extend(counts);
                segments.extend(symbols);
            }
        }
    }
    segments
}

/// The memory that decoding takes at its peak, the pixels included.
fn working_bytes(header: &JpegHeader, route: &Route, swaps_sides: bool) -> u64 {
    let pixels = u64::from(header.frame.width) * u64::from(header.frame.height);
    let layouts = Layout::of(header);
    let coefficients = layouts.iter().map(|layout| layout.coefficients() as u64 * 2).sum::<u64>();
    let samples = coefficients / 2;
    let decoding = match route {
        Route::Transcoded(_) => (coefficients + samples).max(samples + pixels * 3),
        _ if header.frame.process == Process::Progressive => coefficients + pixels * 3,
        _ => pixels * 3,
    };
    // Coefficients and samples are gone when the picture is turned, which takes a second one.
    decoding.max(if swaps_sides { pixels * 6 } else { 0 })
}

/// Other bytes in place of some.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    with: Vec<u8>,
}

impl Edit {
    fn removal(range: Range<usize>) -> Self {
        Self { range, with: Vec::new() }
    }
}

fn removals(ranges: &[Range<usize>]) -> Vec<Edit> {
    ranges.iter().cloned().map(Edit::removal).collect()
}

/// Sorts edits. What is put before something comes before its removal.
fn in_order(edits: &mut [Edit]) {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
}

/// The file after edits in ascending order.
fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut result = Vec::with_capacity(bytes.len() + added);
    let mut from = 0;
    for edit in edits {
        result.extend_from_slice(bytes.get(from..edit.range.start).unwrap_or_default());
        result.extend_from_slice(&edit.with);
        from = edit.range.end;
    }
    result.extend_from_slice(bytes.get(from..).unwrap_or_default());
    result
}

/// Why a file that may be whole is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Lossless,
    Arithmetic,
    Hierarchical,
    Precision(u8),
    HeightAfterScan,
    Components(usize),
    FractionalSampling,
    TooManyScans(usize),
    NoScanOf(usize),
}

impl Refusal {
    fn of(header: &JpegHeader) -> Option<Self> {
        let frame = &header.frame;
        let num_components = frame.components.len();
        match frame.process {
            Process::Lossless => return Some(Self::Lossless),
            Process::Arithmetic => return Some(Self::Arithmetic),
            Process::Hierarchical => return Some(Self::Hierarchical),
            Process::Baseline | Process::ExtendedSequential | Process::Progressive => {}
        }
        if frame.precision != 8 {
            return Some(Self::Precision(frame.precision));
        }
        if frame.height == 0 {
            return Some(Self::HeightAfterScan);
        }
        if !matches!(num_components, 1 | 3 | 4) {
            return Some(Self::Components(num_components));
        }
        if !jpeg_planes::has_whole_ratios(&frame.components) {
            return Some(Self::FractionalSampling);
        }
        if header.scans.len() > MAX_SCANS {
            return Some(Self::TooManyScans(header.scans.len()));
        }
        // A component without its scan would be gray.
        let is_scanned = |index: usize| {
            let has_it = |scan: &Scan| scan.components.iter().any(|other| other.index == index);
            let is_first_part =
                |scan: &Scan| frame.process != Process::Progressive || (scan.spectral_start == 0 && scan.high_bit == 0);
            header.scans.iter().any(|scan| has_it(scan) && is_first_part(scan))
        };
        (0..num_components).find(|&index| !is_scanned(index)).map(|index| Self::NoScanOf(index + 1))
    }

    fn what(self) -> String {
        match self {
            Self::Lossless => "this JPEG image uses lossless coding (SOF3), which few programs read".to_owned(),
            Self::Arithmetic => "this JPEG image uses arithmetic coding".to_owned(),
            Self::Hierarchical => "this JPEG image is hierarchical: several frames refine each other".to_owned(),
            Self::Precision(bits) => format!("this JPEG image has {bits} bits per sample, but only 8 are supported"),
            Self::HeightAfterScan => "this JPEG image gives its height only after its data (DNL)".to_owned(),
            Self::Components(count) => {
                format!("this JPEG image has {count} components, but gray has 1, colour 3 and CMYK 4")
            }
            Self::FractionalSampling => {
                "the sampling factors of this JPEG image do not divide each other, so no common decoder reads it"
                    .to_owned()
            }
            Self::TooManyScans(count) => {
                format!("this JPEG image has {count} scans, but at most {MAX_SCANS} are supported")
            }
            Self::NoScanOf(component) => {
                format!("this JPEG image is damaged: the data of its component {component} are missing")
            }
        }
    }

    fn next_step(self) -> &'static str {
        match self {
            Self::Lossless => "convert it with libjpeg-turbo 3: `djpeg -bmp -outfile OUT.bmp IN.jpg`",
            Self::Precision(_) => "convert it to PNG with 8 bits per sample",
            Self::Arithmetic => "re-encode it losslessly: `jpegtran -copy all -optimize -outfile OUT.jpg IN.jpg`",
            Self::NoScanOf(_) => "copy or download it again",
            Self::Hierarchical
            | Self::HeightAfterScan
            | Self::Components(_)
            | Self::FractionalSampling
            | Self::TooManyScans(_) => "save it again with an image editor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, MadeScan, MadeTables, adobe, jfif, segment};
    use super::*;
    use crate::pillow::largest_difference;

    const GRAY: &[(u8, u8)] = &[(1, 1)];
    const FULL: &[(u8, u8)] = &[(1, 1), (1, 1), (1, 1)];
    const HALF: &[(u8, u8)] = &[(2, 1), (1, 1), (1, 1)];
    const QUARTER: &[(u8, u8)] = &[(2, 2), (1, 1), (1, 1)];
    const PRINT: &[(u8, u8)] = &[(1, 1), (1, 1), (1, 1), (1, 1)];

    /// Samplings that both decoders read.
    const KEPT: [&[(u8, u8)]; 14] = [
        GRAY,
        &[(2, 2)],
        FULL,
        HALF,
        QUARTER,
        &[(1, 2), (1, 1), (1, 1)],
        &[(4, 1), (1, 1), (1, 1)],
        &[(4, 2), (1, 1), (1, 1)],
        &[(1, 4), (1, 1), (1, 1)],
        &[(2, 2), (2, 1), (2, 1)],
        &[(2, 2), (1, 2), (1, 2)],
        &[(2, 1), (2, 1), (2, 1)],
        PRINT,
        &[(2, 2), (1, 1), (1, 1), (2, 2)],
    ];

    /// Samplings that only our decoder reads.
    const TRANSCODED: [&[(u8, u8)]; 9] = [
        &[(1, 1), (2, 2), (2, 2)],
        &[(1, 2), (2, 1), (2, 1)],
        &[(2, 2), (1, 1), (2, 1)],
        &[(1, 1), (1, 1), (2, 1)],
        &[(3, 1), (1, 1), (1, 1)],
        &[(1, 3), (1, 1), (1, 1)],
        &[(1, 4), (1, 2), (1, 2)],
        &[(2, 2), (1, 1), (1, 1), (1, 1)],
        &[(1, 1), (1, 1), (1, 1), (2, 1)],
    ];

    fn made(factors: &[(u8, u8)]) -> Made {
        Made::new((64, 32), factors, factors.len() as u64)
    }

    fn progressive(mut made: Made) -> Made {
        made.is_progressive = true;
        made.scans = MadeScan::progression(made.factors.len());
        made
    }

    fn separate(mut made: Made) -> Made {
        made.scans = (0..made.factors.len()).map(|component| MadeScan::of(&[component])).collect();
        made
    }

    fn route(made: &Made) -> Result<Route, Refusal> {
        let bytes = made.bytes();
        let header = JpegHeader::read(&bytes).unwrap();
        match Refusal::of(&header) {
            Some(refusal) => Err(refusal),
            None => Ok(Route::of(&header, &bytes)),
        }
    }

    fn pixels(made: &Made) -> Vec<u8> {
        decode(&made.bytes(), &DecodeLimits::default()).unwrap().pixels
    }

    /// The picture by `zune-jpeg` alone.
    fn plain(made: &Made) -> Vec<u8> {
        let options = decoder_options().jpeg_set_out_colorspace(ColorSpace::RGB);
        JpegDecoder::new_with_options(ZCursor::new(made.bytes()), options).decode().unwrap()
    }

    /// The picture by our decoder, whatever the header says.
    fn transcoded(made: &Made) -> Vec<u8> {
        let bytes = made.bytes();
        let header = JpegHeader::read(&bytes).unwrap();
        let components = jpeg_coefficients::decode(&bytes, &header).unwrap();
        jpeg_planes::to_rgb(&header, Color::of(&header), components).unwrap()
    }

    #[test]
    fn usual_files_are_left_to_the_decoder() {
        for factors in KEPT {
            let made = made(factors);
            assert_eq!(route(&made), Ok(Route::Kept), "{factors:?}");
            assert_eq!(route(&progressive(made.clone())), Ok(Route::Kept), "{factors:?}");
            let with_restarts = Made { restart_interval: 3, ..progressive(made) };
            assert_eq!(route(&with_restarts), Ok(Route::Kept), "{factors:?}");
        }
        let named = Made { ids: b"RGB".to_vec(), ..made(FULL) };
        assert_eq!(route(&named), Ok(Route::Kept));
        for transform in [0, 1] {
            for after in [false, true] {
                let (front, after_frame) = if after { (vec![], adobe(transform)) } else { (adobe(transform), vec![]) };
                let made = Made { front, after_frame, ..made(FULL) };
                assert_eq!(route(&made), Ok(Route::Kept), "{transform} {after}");
            }
        }
    }

    #[test]
    fn what_the_decoder_gets_wrong_is_decoded_here() {
        for factors in TRANSCODED {
            let route = route(&made(factors)).unwrap();
            assert!(matches!(route, Route::Transcoded(_)), "{factors:?}: {route:?}");
        }
        for factors in KEPT.iter().filter(|factors| factors.len() > 1) {
            let route = route(&separate(made(factors))).unwrap();
            assert!(matches!(route, Route::Transcoded(_)), "{factors:?}: {route:?}");
        }
        for factors in [HALF, QUARTER] {
            let narrow = route(&Made::new((4, 50), factors, 1)).unwrap();
            assert!(matches!(narrow, Route::Transcoded(_)), "{factors:?}: {narrow:?}");
            assert_eq!(route(&Made::new((5, 50), factors, 1)), Ok(Route::Kept), "{factors:?}");
        }
        // JFIF says YCbCr, whatever the components are called.
        let named = Made { ids: b"RGB".to_vec(), front: jfif(), ..made(FULL) };
        assert_eq!(route(&named), Ok(Route::Transcoded(Color::YCbCr)));
        let alike = Made { ids: vec![1; 3], ..made(FULL) };
        assert_eq!(route(&alike), Ok(Route::Transcoded(Color::YCbCr)));
        let odd = Made { front: adobe(1), ..made(PRINT) };
        assert_eq!(route(&odd), Ok(Route::Transcoded(Color::Ycck)));
    }

    /// Where the sampling is full both differ by the rounding of colours alone, and not at all in gray, RGB and CMYK. Where it is
    /// not, `zune-jpeg` rounds once more between rows and columns. The sides are whole units, because at an edge it upsamples from
    /// what lies outside of the picture.
    #[test]
    fn both_ways_give_the_same_picture() {
        for factors in KEPT {
            let made = made(factors);
            let is_full = factors.iter().all(|&one| one == factors[0]);
            let limit = match (is_full, factors.len()) {
                (true, 1 | 4) => 0,
                (true, _) => 1,
                _ => 4,
            };
            let difference = largest_difference(&pixels(&made), &transcoded(&made));
            assert!(difference <= limit, "{factors:?}: {difference}");
            // Of a progressive file it always takes the cosine transform for full blocks.
            for restart_interval in [0, 1, 5] {
                let made = Made { restart_interval, ..progressive(made.clone()) };
                let difference = largest_difference(&pixels(&made), &transcoded(&made));
                assert!(difference <= limit + 3, "progressive {factors:?}, {restart_interval}: {difference}");
            }
        }
        let named = Made { ids: b"RGB".to_vec(), ..made(FULL) };
        assert_eq!(pixels(&named), transcoded(&named));
    }

    #[test]
    fn scans_and_restarts_do_not_change_the_picture() {
        for factors in KEPT.iter().chain(&TRANSCODED).filter(|factors| factors.len() > 1) {
            for size in [(1, 1), (7, 50), (33, 17), (64, 32)] {
                let whole = Made::new(size, factors, 7);
                let expected = transcoded(&whole);
                assert_eq!(expected.len(), usize::from(size.0) * usize::from(size.1) * 3);
                let mut reversed = separate(whole.clone());
                reversed.scans.reverse();
                assert_eq!(pixels(&separate(whole.clone())), expected, "{factors:?} {size:?}");
                assert_eq!(pixels(&reversed), expected, "{factors:?} {size:?}");
                let restarted = Made { restart_interval: 2, ..separate(whole.clone()) };
                assert_eq!(pixels(&restarted), expected, "{factors:?} {size:?}");
                for made in [separate(whole.clone()), progressive(whole.clone())] {
                    let redefined = Made { redefines_quantization: true, ..made };
                    assert_eq!(pixels(&redefined), expected, "{factors:?} {size:?}");
                }
                let progressive = Made { restart_interval: 3, ..progressive(whole) };
                assert_eq!(transcoded(&progressive), expected, "{factors:?} {size:?}");
            }
        }
    }

    #[test]
    fn standard_tables_stand_in_for_those_left_out() {
        for factors in [GRAY, FULL, QUARTER, PRINT, TRANSCODED[0]] {
            let with_tables = Made { tables: MadeTables::Standard, ..made(factors) };
            let without = Made { tables: MadeTables::LeftOut, ..made(factors) };
            assert_eq!(pixels(&without), pixels(&with_tables), "{factors:?}");
            if factors != TRANSCODED[0] {
                assert!(matches!(route(&without), Ok(Route::Spliced(_))), "{factors:?}");
            }
            if factors.len() > 1 {
                assert_eq!(pixels(&separate(without)), pixels(&separate(with_tables)), "{factors:?}");
            }
        }
        // One of the four is there.
        let mut partly = Made { tables: MadeTables::LeftOut, ..made(FULL) };
        let (counts, symbols) = standard_huffman_table(1, 1).unwrap();
        partly.after_frame = segment(0xc4, &[&[0x11], counts.as_slice(), symbols].concat());
        let whole = Made { tables: MadeTables::Standard, ..made(FULL) };
        assert_eq!(pixels(&partly), pixels(&whole));
    }

    #[test]
    fn colours_follow_libjpegs_rule() {
        let plain = made(FULL);
        let (ycc, rgb) = (pixels(&plain), pixels(&Made { front: adobe(0), ..plain.clone() }));
        assert!(largest_difference(&ycc, &rgb) > 50);
        let of = |made: Made| pixels(&made);
        assert_eq!(of(Made { after_frame: adobe(0), ..plain.clone() }), rgb);
        assert_eq!(of(Made { front: adobe(1), ..plain.clone() }), ycc);
        assert_eq!(of(Made { front: adobe(2), ..plain.clone() }), ycc, "there is no fourth component");
        assert_eq!(of(Made { front: adobe(9), ..plain.clone() }), ycc, "an unknown transform");
        assert_eq!(of(Made { front: segment(0xee, b"Adobe\0"), ..plain.clone() }), ycc, "too short");
        assert_eq!(of(Made { front: [jfif(), adobe(0)].concat(), ..plain.clone() }), ycc, "JFIF comes first");
        assert_eq!(of(Made { ids: b"RGB".to_vec(), ..plain.clone() }), rgb);
        let named = of(Made { ids: b"RGB".to_vec(), front: jfif(), ..plain });
        assert!(largest_difference(&named, &ycc) <= 1);

        let gray = made(GRAY);
        for transform in 0..3 {
            let marked = Made { after_frame: adobe(transform), ..gray.clone() };
            assert_eq!(pixels(&marked), pixels(&gray), "{transform}");
        }

        let print = made(PRINT);
        let cmyk = pixels(&print);
        let ycck = pixels(&Made { front: adobe(2), ..print.clone() });
        assert!(largest_difference(&cmyk, &ycck) > 50);
        assert_eq!(pixels(&Made { front: adobe(0), ..print.clone() }), cmyk);
        let unknown = pixels(&Made { after_frame: adobe(1), ..print });
        assert!(largest_difference(&unknown, &ycck) <= 1);
    }

    #[test]
    fn a_refusal_names_the_next_step() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = made(FULL).bytes();
            change(&mut bytes);
            decode(&bytes, &DecodeLimits::default()).unwrap_err().to_string()
        };
        let frame = |bytes: &[u8]| bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        let with_marker = |code: u8| {
            refused(&|bytes| {
                let at = frame(bytes);
                bytes[at + 1] = code;
            })
        };
        assert_eq!(
            with_marker(0xc3),
            "this JPEG image uses lossless coding (SOF3), which few programs read: convert it with libjpeg-turbo 3: \
             `djpeg -bmp -outfile OUT.bmp IN.jpg`"
        );
        assert_eq!(
            with_marker(0xc9),
            "this JPEG image uses arithmetic coding: re-encode it losslessly: \
             `jpegtran -copy all -optimize -outfile OUT.jpg IN.jpg`"
        );
        assert!(with_marker(0xc5).starts_with("this JPEG image is hierarchical"));
        let precision = refused(&|bytes| {
            let at = frame(bytes);
            bytes[at + 4] = 12;
        });
        assert!(precision.starts_with("this JPEG image has 12 bits per sample"), "{precision}");
        let height = refused(&|bytes| {
            let at = frame(bytes);
            bytes[at + 5..at + 7].fill(0);
        });
        assert!(height.contains("gives its height only after its data"), "{height}");

        assert_eq!(route(&made(&[(1, 1), (1, 1)])), Err(Refusal::Components(2)));
        assert_eq!(route(&made(&[(3, 1), (2, 1), (1, 1)])), Err(Refusal::FractionalSampling));
        let mut incomplete = separate(made(FULL));
        incomplete.scans.remove(1);
        assert_eq!(route(&incomplete), Err(Refusal::NoScanOf(2)));
        let mut endless = progressive(made(GRAY));
        endless.scans = vec![endless.scans[1].clone(); MAX_SCANS + 1];
        assert_eq!(route(&endless), Err(Refusal::TooManyScans(MAX_SCANS + 1)));
    }

    #[test]
    fn memory_is_counted_as_it_is_used() {
        let bytes = |made: &Made, swaps_sides| {
            let bytes = made.bytes();
            let header = JpegHeader::read(&bytes).unwrap();
            working_bytes(&header, &Route::of(&header, &bytes), swaps_sides) as f64
        };
        // 64 x 32 pixels.
        let per_pixel = |made: &Made, swaps_sides| bytes(made, swaps_sides) / 2048.0;
        assert_eq!(per_pixel(&made(QUARTER), false), 3.0);
        assert_eq!(per_pixel(&made(QUARTER), true), 6.0);
        assert_eq!(per_pixel(&progressive(made(QUARTER)), true), 6.0);
        assert_eq!(per_pixel(&progressive(made(FULL)), true), 9.0);
        assert_eq!(per_pixel(&separate(made(FULL)), true), 9.0);
        assert_eq!(per_pixel(&separate(made(GRAY)), false), 3.0);
    }

    #[test]
    fn a_whole_file_is_decoded_as_by_the_decoder_alone() {
        for factors in KEPT {
            for size in [(9, 1), (16, 64), (33, 17), (64, 32), (70, 90)] {
                for restart_interval in [0, 1, 2, 5] {
                    let made = Made { restart_interval, ..Made::new(size, factors, u64::from(restart_interval)) };
                    assert_eq!(pixels(&made), plain(&made), "{factors:?} {size:?} {restart_interval}");
                    let made = progressive(made);
                    assert_eq!(pixels(&made), plain(&made), "progressive {factors:?} {size:?} {restart_interval}");
                }
            }
        }
    }

    #[test]
    fn what_follows_the_only_scan_does_not_count() {
        // Six bits for each of eight blocks: the decoder has them all in its buffer when it comes to the next marker.
        let flat = Made { tables: MadeTables::Standard, ..Made::new((8, 64), GRAY, 1) };
        let flat = Made { coefficients: vec![vec![0; 8 * 64]], ..flat };
        for whole in [flat, made(GRAY), made(FULL), made(QUARTER), Made { restart_interval: 4, ..made(HALF) }] {
            let expected = pixels(&whole);
            for after_scans in [
                segment(0xfe, b"hi"),
                segment(0xe1, b"Exif\0\0"),
                segment(0xdb, &[&[0], [99; 64].as_slice()].concat()),
                segment(0xdd, &[0, 1]),
                [segment(0xc4, &[]), adobe(0)].concat(),
                vec![0xff; 3],
            ] {
                let made = Made { after_scans, ..whole.clone() };
                assert!(matches!(route(&made), Ok(Route::Spliced(_))), "{made:?}");
                assert_eq!(pixels(&made), expected, "{made:?}");
            }
            let mut twice = whole.clone();
            twice.scans.push(MadeScan::of(&[0]));
            assert!(matches!(route(&twice), Ok(Route::Spliced(_))), "{twice:?}");
            assert_eq!(pixels(&twice), expected, "{twice:?}");
        }
    }

    #[test]
    fn what_the_decoder_refuses_is_tried_here() {
        // A segment of arithmetic coding, which counts nothing without it.
        let odd = Made { after_frame: segment(0xcc, &[0x00, 0x10]), ..made(QUARTER) };
        assert_eq!(route(&odd), Ok(Route::Kept));
        assert_eq!(pixels(&odd), transcoded(&made(QUARTER)));
        let limits = DecodeLimits { max_bytes: 64 * 32 * 4, ..DecodeLimits::default() };
        let error = decode(&odd.bytes(), &limits).unwrap_err().to_string();
        assert!(error.starts_with("damaged or unsupported JPEG image: "), "{error}");
    }

    /// Pillow reads such files, and makes gray or stripes of what is missing.
    #[test]
    fn a_cut_file_with_an_end_is_an_error() {
        for factors in KEPT {
            for restart_interval in [0, 3] {
                let made = Made { restart_interval, ..made(factors) };
                for made in [made.clone(), progressive(made)] {
                    let bytes = made.bytes();
                    let cut = |len: usize| {
                        let bytes = [&bytes[..len], &[0xff, 0xd9]].concat();
                        decode(&bytes, &DecodeLimits::default()).map_err(|error| error.to_string())
                    };
                    for (scan, number) in JpegHeader::read(&bytes).unwrap().scans.iter().zip(1..) {
                        let data = scan.data.clone();
                        let refines_ac = scan.high_bit > 0 && scan.spectral_start > 0;
                        // Four bytes are more than the last code, and after the last new coefficient nothing is missing that shows.
                        let last = if refines_ac { data.start + data.len() / 2 } else { data.end - 4 };
                        for len in (data.start..=last).step_by(7) {
                            let error = cut(len).expect_err("the data end too early");
                            let expected = format!("it is cut short: the data of scan {number} end too early");
                            assert!(error.ends_with(&expected), "{error}: {made:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_cut_file_is_an_error_on_every_route() {
        for made in [separate(made(QUARTER)), made(TRANSCODED[0]), progressive(made(TRANSCODED[2]))] {
            let bytes = made.bytes();
            for len in (0..bytes.len()).step_by(37) {
                assert!(decode(&bytes[..len], &DecodeLimits::default()).is_err(), "{len} bytes");
            }
            // The end is there, and a part of the last scan is not.
            let mut shortened = bytes[..bytes.len() - 10].to_vec();
            shortened.extend([0xff, 0xd9]);
            let error = decode(&shortened, &DecodeLimits::default()).unwrap_err().to_string();
            assert!(error.contains("it is cut short: the data of scan"), "{error}");
        }
    }
}

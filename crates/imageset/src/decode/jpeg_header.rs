//! What a JPEG file says of itself: its frame, its scans, and where its tables and its metadata are.
//!
//! Nothing is decoded here. The header is read before a decoder is chosen, because a decoder that does not know a variant of
//! JPEG often returns a wrong picture and no error. The whole file is scanned once, from marker to marker, as ITU T.81,
//! annex B, lays it out; numbers of sections below are those of T.81.

use std::ops::Range;

/// Everything in a JPEG file that decides how it is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JpegHeader {
    /// Size, coding process and components.
    pub frame: Frame,
    /// Where the marker of the frame header begins.
    pub frame_start: usize,
    /// All scans, in file order.
    pub scans: Vec<Scan>,
    /// Segments that change the state of a decoder, in file order; [`Scan::tables_before`] places the scans among them.
    pub tables: Vec<TableSegment>,
    /// Whether there is a JFIF segment before the first scan.
    pub has_jfif: bool,
    /// Adobe's segments before the first scan, in file order.
    pub adobe: Vec<AdobeSegment>,
    /// Whether one of Adobe's segments follows the first scan.
    pub has_late_adobe: bool,
    /// The payloads of the EXIF segments before the first scan, without the identifier, in file order.
    pub exif: Vec<Range<usize>>,
    /// The payload of the last XMP segment before the first scan, without the identifier.
    pub xmp: Option<Range<usize>>,
    /// Bytes before the first scan that belong to no segment, in ascending order.
    pub stray: Vec<Range<usize>>,
    /// Where the end-of-image marker begins.
    pub end: usize,
}

/// The frame header (B.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How the picture is coded.
    pub process: Process,
    /// Bits of a sample.
    pub precision: u8,
    /// Columns.
    pub width: u16,
    /// Rows; 0 if a segment after the first scan gives their number.
    pub height: u16,
    /// The components, in the order of the frame header.
    pub components: Vec<Component>,
}

/// A coding process, as far as the marker of the frame determines it (table B.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Baseline sequential DCT, Huffman coding (SOF0).
    Baseline,
    /// Extended sequential DCT, Huffman coding (SOF1).
    ExtendedSequential,
    /// Progressive DCT, Huffman coding (SOF2).
    Progressive,
    /// Lossless, Huffman or arithmetic coding (SOF3, SOF11).
    Lossless,
    /// Sequential or progressive DCT, arithmetic coding (SOF9, SOF10).
    Arithmetic,
    /// Hierarchical: several frames that refine each other (SOF5 to SOF7, SOF13 to SOF15).
    Hierarchical,
}

/// One component of a frame, such as luma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// The identifier by which scans name it.
    pub id: u8,
    /// Horizontal sampling factor, 1 to 4.
    pub horizontal: u8,
    /// Vertical sampling factor, 1 to 4.
    pub vertical: u8,
    /// Number of its quantization table, 0 to 3.
    pub quantization_table: u8,
}

/// A scan header (B.2.3) and where its data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Where the marker of the scan header begins.
    pub start: usize,
    /// The components of the scan, 1 to 4.
    pub components: Vec<ScanComponent>,
    /// First coefficient in zigzag order, 0 to 63 (Ss).
    pub spectral_start: u8,
    /// Last coefficient in zigzag order, 0 to 63 (Se).
    pub spectral_end: u8,
    /// Bit position of the previous scan of these coefficients, 0 for the first one (Ah).
    pub high_bit: u8,
    /// Bit position of this scan (Al).
    pub low_bit: u8,
    /// How many of [`JpegHeader::tables`] come before the scan.
    pub tables_before: usize,
    /// The entropy-coded data, restart markers included.
    pub data: Range<usize>,
}

/// A component in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanComponent {
    /// Its place in [`Frame::components`].
    pub index: usize,
    /// Number of its table for DC coefficients.
    pub dc_table: u8,
    /// Number of its table for AC coefficients.
    pub ac_table: u8,
}

/// A segment that changes the state of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSegment {
    /// What the segment defines.
    pub kind: TableKind,
    /// Its payload, without marker and length.
    pub payload: Range<usize>,
}

/// What a segment defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Quantization tables (DQT).
    Quantization,
    /// Huffman tables (DHT).
    Huffman,
    /// The restart interval (DRI).
    RestartInterval,
}

/// A segment APP14 that Adobe's programs write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdobeSegment {
    /// All of it, marker included.
    pub segment: Range<usize>,
    /// The colour transform: 0 for none, 1 for YCbCr, 2 for YCCK. [`None`] if the segment is too short to have one.
    pub transform: Option<u8>,
}

/// Why a JPEG file has no header that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The file ends too early.
    #[error("it is cut short: the end-of-image marker is missing")]
    CutShort,
    /// The end, or a scan, comes before a frame header.
    #[error("it has no frame header, which gives the size of the picture")]
    NoFrame,
    /// There is nothing after the frame header.
    #[error("it has no scan, which holds the picture")]
    NoScan,
    /// There are several frame headers.
    #[error("it has two frame headers")]
    TwoFrames,
    /// A second start-of-image marker.
    #[error("a second image begins within its header")]
    TwoStarts,
    /// A segment is shorter than its own length field.
    #[error("a segment of its header is shorter than its length field")]
    NoLength,
    /// More markers than any program writes.
    #[error("it has more than {} segments", MAX_SEGMENTS)]
    TooManySegments,
    /// A segment has a wrong length or impossible values.
    #[error("its {segment} is malformed")]
    Malformed {
        /// Which segment.
        segment: &'static str,
    },
}

/// Markers of a file, those within the data of scans apart. Something is kept of each, so a file of nothing but markers would take
/// many times its own size.
const MAX_SEGMENTS: usize = 1 << 16;

mod marker {
    //! Codes of markers (table B.1).
    pub(super) const TEMPORARY: u8 = 0x01;
    pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
    pub(super) const JPEG_EXTENSION: u8 = 0xc8;
    pub(super) const ARITHMETIC_CONDITIONING: u8 = 0xcc;
    pub(super) const FIRST_RESTART: u8 = 0xd0;
    pub(super) const LAST_RESTART: u8 = 0xd7;
    pub(super) const START_OF_IMAGE: u8 = 0xd8;
    pub(super) const END_OF_IMAGE: u8 = 0xd9;
    pub(super) const START_OF_SCAN: u8 = 0xda;
    pub(super) const QUANTIZATION_TABLES: u8 = 0xdb;
    pub(super) const RESTART_INTERVAL: u8 = 0xdd;
    pub(super) const APP0: u8 = 0xe0;
    pub(super) const APP1: u8 = 0xe1;
    pub(super) const APP14: u8 = 0xee;
}

impl JpegHeader {
    /// Reads the header of a file that begins with a start-of-image marker.
    ///
    /// # Errors
    ///
    /// [`HeaderFault`]. A file that ends before its end-of-image marker is refused, whatever is missing.
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut frame: Option<(usize, Frame)> = None;
        let mut header = Parts::default();
        let mut at = 2; // after the start-of-image marker
        let mut num_segments = 0;
        let end = loop {
            let (start, code) = next_marker(bytes, at).ok_or(HeaderFault::CutShort)?;
            num_segments += 1;
            if num_segments > MAX_SEGMENTS {
                return Err(HeaderFault::TooManySegments);
            }
            let is_before_scans = header.scans.is_empty();
            if start > at && is_before_scans {
                header.stray.push(at..start);
            }
            match code {
                marker::END_OF_IMAGE => break start,
                marker::START_OF_IMAGE => return Err(HeaderFault::TwoStarts),
                // These two have no length. Between segments they mean nothing.
                marker::TEMPORARY | marker::FIRST_RESTART..=marker::LAST_RESTART => {
                    at = start + 2;
                    if is_before_scans {
                        header.stray.push(start..at);
                    }
                    continue;
                }
                _ => {}
            }
            let length = bytes.get(start + 2..start + 4).ok_or(HeaderFault::CutShort)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if length < 2 {
                return Err(HeaderFault::NoLength);
            }
            let payload = start + 4..start + 2 + length;
            let content = bytes.get(payload.clone()).ok_or(HeaderFault::CutShort)?;
            at = payload.end;
            match code {
                marker::HUFFMAN_TABLES => header.add_tables(TableKind::Huffman, payload),
                marker::QUANTIZATION_TABLES => header.add_tables(TableKind::Quantization, payload),
                marker::RESTART_INTERVAL => {
                    if content.len() != 2 {
                        return Err(HeaderFault::Malformed { segment: "restart interval" });
                    }
                    header.add_tables(TableKind::RestartInterval, payload);
                }
                marker::JPEG_EXTENSION | marker::ARITHMETIC_CONDITIONING => {}
                0xc0..=0xcf => {
                    if frame.is_some() {
                        return Err(HeaderFault::TwoFrames);
                    }
                    frame = Some((start, Frame::read(code, content)?));
                }
                marker::START_OF_SCAN => {
                    let (_, frame) = frame.as_ref().ok_or(HeaderFault::NoFrame)?;
                    let data = scan_data(bytes, at).ok_or(HeaderFault::CutShort)?;
                    at = data.end;
                    let tables_before = header.tables.len();
                    header.scans.push(Scan { start, tables_before, data, ..Scan::read(frame, content)? });
                }
                // libjpeg (jdmarker.c) asks for the whole payload before it believes the identifier.
                marker::APP0 if is_before_scans => {
                    header.has_jfif |= content.len() >= 14 && content.starts_with(b"JFIF\0")
                }
                marker::APP1 if is_before_scans => header.add_metadata(content, payload),
                marker::APP14 if content.starts_with(b"Adobe") => {
                    header.has_late_adobe |= !is_before_scans;
                    if is_before_scans {
                        let transform = content.get(11).copied();
                        header.adobe.push(AdobeSegment { segment: start..payload.end, transform });
                    }
                }
                _ => {}
            }
        };
        let (frame_start, frame) = frame.ok_or(HeaderFault::NoFrame)?;
        if header.scans.is_empty() {
            return Err(HeaderFault::NoScan);
        }
        let Parts { scans, tables, has_jfif, adobe, has_late_adobe, exif, xmp, stray } = header;
        Ok(Self { frame, frame_start, scans, tables, has_jfif, adobe, has_late_adobe, exif, xmp, stray, end })
    }
}

/// A header without its frame, which may come late.
#[derive(Default)]
struct Parts {
    scans: Vec<Scan>,
    tables: Vec<TableSegment>,
    has_jfif: bool,
    adobe: Vec<AdobeSegment>,
    has_late_adobe: bool,
    exif: Vec<Range<usize>>,
    xmp: Option<Range<usize>>,
    stray: Vec<Range<usize>>,
}

impl Parts {
    fn add_tables(&mut self, kind: TableKind, payload: Range<usize>) {
        self.tables.push(TableSegment { kind, payload });
    }

    fn add_metadata(&mut self, content: &[u8], payload: Range<usize>) {
        const EXIF: &[u8] = b"Exif\0\0";
        const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
        if content.starts_with(EXIF) {
            self.exif.push(payload.start + EXIF.len()..payload.end);
        } else if content.starts_with(XMP) {
            self.xmp = Some(payload.start + XMP.len()..payload.end);
        }
    }
}

impl Frame {
    fn read(code: u8, content: &[u8]) -> Result<Self, HeaderFault> {
        const FAULT: HeaderFault = HeaderFault::Malformed { segment: "frame header" };
        let process = match code {
            0xc0 => Process::Baseline,
            0xc1 => Process::ExtendedSequential,
            0xc2 => Process::Progressive,
            0xc3 | 0xcb => Process::Lossless,
            0xc9 | 0xca => Process::Arithmetic,
            _ => Process::Hierarchical,
        };
        let &[precision, y0, y1, x0, x1, count, ref specifications @ ..] = content else { return Err(FAULT) };
        if count == 0 || specifications.len() != 3 * usize::from(count) {
            return Err(FAULT);
        }
        let components = specifications.chunks_exact(3).map(|specification| {
            let component = Component {
                id: specification[0],
                horizontal: specification[1] >> 4,
                vertical: specification[1] & 15,
                quantization_table: specification[2],
            };
            let factors = 1..=4;
            let is_valid = factors.contains(&component.horizontal)
                && factors.contains(&component.vertical)
                && component.quantization_table < 4;
            is_valid.then_some(component).ok_or(FAULT)
        });
        Ok(Self {
            process,
            precision,
            width: u16::from_be_bytes([x0, x1]),
            height: u16::from_be_bytes([y0, y1]),
            components: components.collect::<Result<_, _>>()?,
        })
    }
}

impl Scan {
    /// A scan that has no data yet.
    fn read(frame: &Frame, content: &[u8]) -> Result<Self, HeaderFault> {
        const FAULT: HeaderFault = HeaderFault::Malformed { segment: "scan header" };
        let (&count, rest) = content.split_first().ok_or(FAULT)?;
        let count = usize::from(count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return Err(FAULT);
        }
        let (selectors, parameters) = rest.split_at(2 * count);
        let mut components: Vec<ScanComponent> = Vec::with_capacity(count);
        for selector in selectors.chunks_exact(2) {
            // Some files give all components the same identifier: each component is then taken once, in the order of the frame.
            let index = frame.components.iter().enumerate().position(|(index, component)| {
                component.id == selector[0] && components.iter().all(|other| other.index != index)
            });
            components.push(ScanComponent {
                index: index.ok_or(FAULT)?,
                dc_table: selector[1] >> 4,
                ac_table: selector[1] & 15,
            });
        }
        let &[spectral_start, spectral_end, bits] = parameters else { return Err(FAULT) };
        Ok(Self {
            start: 0,
            components,
            spectral_start,
            spectral_end,
            high_bit: bits >> 4,
            low_bit: bits & 15,
            tables_before: 0,
            data: 0..0,
        })
    }
}

/// The next marker at or after `at`: where it begins, and its code.
///
/// A marker may follow any number of fill bytes 0xff (B.1.1.2), which do not belong to it. A byte 0xff before a zero is
/// compressed data (F.1.2.3), or garbage.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(usize, u8)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match *bytes.get(at + 1)? {
            0x00 => at += 2,
            0xff => at += 1,
            code => return Some((at, code)),
        }
    }
}

/// The entropy-coded data that begin at `from`: up to the next marker that is not a restart marker, without fill bytes.
fn scan_data(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    let mut end = loop {
        let (start, code) = next_marker(bytes, at)?;
        if !(marker::FIRST_RESTART..=marker::LAST_RESTART).contains(&code) {
            break start;
        }
        at = start + 2;
    };
    while end > from && bytes.get(end - 1) == Some(&0xff) {
        end -= 1;
    }
    Some(from..end)
}

#[cfg(test)]
mod tests {
    use super::super::made::{adobe, jfif, segment};
    use super::*;

    const FRAME: &[u8] = &[8, 0, 9, 0, 17, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1];
    const SCAN: &[u8] = &[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0];

    fn file(segments: &[Vec<u8>]) -> Vec<u8> {
        [&[0xff, 0xd8], segments.concat().as_slice(), &[0xff, 0xd9]].concat()
    }

    #[test]
    fn frame_and_scans_are_found_with_their_data() {
        let data = vec![1, 0xff, 0x00, 2, 0xff, 0xd0, 3];
        let bytes = file(&[
            segment(0xdb, &[0; 65]),
            segment(0xc0, FRAME),
            segment(0xda, SCAN),
            data.clone(),
            segment(0xdd, &[0, 7]),
            segment(0xda, &[1, 2, 0x11, 0, 63, 0]),
            vec![9, 0xff, 0xff],
        ]);
        let header = JpegHeader::read(&bytes).unwrap();
        assert_eq!((header.frame.width, header.frame.height, header.frame.process), (17, 9, Process::Baseline));
        let factors: Vec<_> = header.frame.components.iter().map(|c| (c.id, c.horizontal, c.vertical)).collect();
        assert_eq!(factors, [(1, 2, 2), (2, 1, 1), (3, 1, 1)]);
        assert_eq!(header.scans.len(), 2);
        assert_eq!(bytes[header.scans[0].data.clone()], data);
        assert_eq!(header.scans[0].components.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(bytes[header.scans[1].data.clone()], [9], "fill bytes are not data");
        assert_eq!(header.scans[1].components, [ScanComponent { index: 1, dc_table: 1, ac_table: 1 }]);
        assert_eq!(header.scans.iter().map(|scan| scan.tables_before).collect::<Vec<_>>(), [1, 2]);
        assert!(header.stray.is_empty());
        assert_eq!(header.end, bytes.len() - 2);
    }

    #[test]
    fn metadata_count_only_in_front_of_the_first_scan() {
        let exif = |text: &[u8]| segment(0xe1, &[b"Exif\0\0", text].concat());
        let bytes = file(&[
            exif(b"one"),
            jfif(),
            segment(0xc0, FRAME),
            adobe(2),
            segment(0xee, b"Adobe"),
            exif(b"two"),
            segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
            segment(0xda, SCAN),
            exif(b"three"),
            adobe(2),
        ]);
        let header = JpegHeader::read(&bytes).unwrap();
        let exif: Vec<&[u8]> = header.exif.iter().map(|range| &bytes[range.clone()]).collect();
        assert_eq!(exif, [b"one", b"two"]);
        assert_eq!(&bytes[header.xmp.unwrap()], b"<x/>");
        assert!(header.has_jfif && header.has_late_adobe);
        assert_eq!(header.adobe.iter().map(|adobe| adobe.transform).collect::<Vec<_>>(), [Some(2), None]);
        assert!(header.frame_start < header.adobe[0].segment.start);
    }

    #[test]
    fn bytes_between_header_segments_are_stray() {
        let bytes = file(&[
            vec![0, 1, 0xff, 0x00],
            segment(0xc0, FRAME),
            vec![0xff, 0xd3, 0xff],
            segment(0xda, SCAN),
            vec![5],
            segment(0xfe, b"words"),
            vec![6],
        ]);
        let header = JpegHeader::read(&bytes).unwrap();
        let frame_end = 2 + 4 + 2 + 2 + FRAME.len();
        assert_eq!(header.stray, [2..6, frame_end..frame_end + 2, frame_end + 2..frame_end + 3]);
    }

    #[test]
    fn components_that_share_an_identifier_are_meant_in_order() {
        let frame = [8, 0, 9, 0, 17, 2, 1, 0x11, 0, 1, 0x11, 0];
        let bytes = file(&[segment(0xc0, &frame), segment(0xda, &[2, 1, 0, 1, 0, 0, 63, 0])]);
        let header = JpegHeader::read(&bytes).unwrap();
        assert_eq!(header.scans[0].components.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn faults_are_told_apart() {
        let fault = |segments: &[Vec<u8>]| JpegHeader::read(&file(segments)).unwrap_err();
        let (frame, scan) = (segment(0xc0, FRAME), segment(0xda, SCAN));
        assert_eq!(fault(&[]), HeaderFault::NoFrame);
        assert_eq!(fault(std::slice::from_ref(&scan)), HeaderFault::NoFrame);
        assert_eq!(fault(std::slice::from_ref(&frame)), HeaderFault::NoScan);
        assert_eq!(fault(&[frame.clone(), frame.clone()]), HeaderFault::TwoFrames);
        assert_eq!(fault(&[vec![0xff, 0xd8]]), HeaderFault::TwoStarts);
        let malformed = |segments: &[Vec<u8>]| fault(segments).to_string();
        assert_eq!(malformed(&[segment(0xc0, &FRAME[..14])]), "its frame header is malformed");
        assert_eq!(malformed(&[frame.clone(), segment(0xda, &[1, 9, 0, 0, 63, 0])]), "its scan header is malformed");
        assert_eq!(malformed(&[segment(0xdd, &[0])]), "its restart interval is malformed");
        for markers in [segment(0xfe, &[]), vec![0xff, 0xd0], vec![0xff, 0xc4, 0, 2], scan.clone()] {
            let endless = [vec![frame.clone()], vec![markers; MAX_SEGMENTS]].concat();
            assert_eq!(fault(&endless), HeaderFault::TooManySegments);
        }
        let whole = file(&[frame, scan, vec![1, 2, 3]]);
        for len in 2..whole.len() {
            assert_eq!(JpegHeader::read(&whole[..len]), Err(HeaderFault::CutShort), "{len} bytes");
        }
    }
}

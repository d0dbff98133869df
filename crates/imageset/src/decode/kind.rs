//! The kind of a file by its content, whatever its name is, and what to do about a file that is not a readable picture.

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    // Pictures that are read.
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// GIF.
    Gif,

    // Other pictures.
    /// HEIF with HEVC, as iPhones take it.
    Heic,
    /// AVIF.
    Avif,
    /// JPEG XL.
    JpegXl,
    /// JPEG 2000.
    Jpeg2000,
    /// JPEG XR.
    JpegXr,
    /// TIFF, which many raw formats of cameras are as well.
    Tiff,
    /// A raw photograph in a form of its own.
    CameraRaw,
    /// Photoshop's document.
    Photoshop,
    /// Windows icon or cursor.
    Icon,
    /// Netpbm: PBM, PGM, PPM, PAM.
    Netpbm,
    /// OpenEXR or Radiance: high dynamic range.
    HighDynamicRange,
    /// DICOM, as hospitals keep it.
    Dicom,
    /// Scalable vector graphics.
    Svg,

    // Files that are not pictures.
    /// PDF.
    Pdf,
    /// PostScript.
    PostScript,
    /// A video or an animation in MP4, QuickTime, Matroska, WebM or AVI.
    Video,
    /// A web page.
    Html,
    /// The text that Git keeps in place of a large file.
    GitLfsPointer,
    /// JSON.
    Json,
    /// XML other than SVG.
    Xml,
    /// Other text.
    Text,
    /// A zip archive, which documents of offices and PyTorch's weights are as well.
    Zip,
    /// A tar archive.
    Tar,
    /// Something packed with gzip.
    Gzip,
    /// Something packed with another program: xz, Zstandard, bzip2, 7-Zip, RAR.
    Packed,
    /// An array of NumPy.
    NumPy,
    /// HDF5 or MATLAB.
    Hdf5,
    /// What macOS keeps beside a file on foreign disks.
    AppleDouble,

    // What is left of a file.
    /// Nothing at all.
    Empty,
    /// The beginning of a picture's first bytes, and no more.
    CutShort,
    /// Zero bytes and nothing else.
    Zeros,
    /// None of these.
    Unknown,
}

/// Enough of a file to know its kind.
const LOOKED_AT: usize = 1024;

impl FileKind {
    /// The kind of a file with these bytes. A few hundred at the beginning are enough.
    pub fn of(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(LOOKED_AT)];
        if start.is_empty() {
            return Self::Empty;
        }
        match start {
            [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] if form.starts_with(b"WEBP") => return Self::WebP,
            [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] if form.starts_with(b"AVI ") => return Self::Video,
            [b'R', b'I', b'F', b'F', ..] if start.len() < 12 => return Self::CutShort,
            [_, _, _, _, b'f', b't', b'y', b'p', brands @ ..] => return Self::of_brands(brands),
            [b'P', b'1'..=b'7', b'\n' | b' ' | b'\r' | b'\t', ..] => return Self::Netpbm,
            _ => {}
        }
        if let Some(&(_, kind)) = SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature)) {
            return kind;
        }
        if start.get(128..132) == Some(b"DICM".as_slice()) {
            return Self::Dicom;
        }
        if start.get(257..262) == Some(b"ustar".as_slice()) {
            return Self::Tar;
        }
        if start.iter().all(|&byte| byte == 0) {
            return Self::Zeros;
        }
        if start.len() > 1 && SIGNATURES.iter().any(|(signature, kind)| kind.is_read() && signature.starts_with(start))
        {
            return Self::CutShort;
        }
        Self::of_text(start)
    }

    /// A file of the ISO base media format, by its brands (ISO/IEC 14496-12): the main one, a version, and others.
    fn of_brands(brands: &[u8]) -> Self {
        const HEIC: [&[u8]; 8] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];
        const AVIF: [&[u8]; 2] = [b"avif", b"avis"];
        let is_among = |wanted: &[&[u8]]| brands.chunks_exact(4).take(12).any(|brand| wanted.contains(&brand));
        match brands.get(..4) {
            Some(b"crx ") => Self::CameraRaw,
            // The general brand of pictures, `mif1`, may stand first in either.
            _ if is_among(&AVIF) => Self::Avif,
            _ if is_among(&HEIC) => Self::Heic,
            _ => Self::Video,
        }
    }

    fn of_text(start: &[u8]) -> Self {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let is_cut = start.len() >= LOOKED_AT - 3;
        let text = match std::str::from_utf8(start) {
            Ok(text) => text,
            // The last letter may have been cut.
            Err(error) if is_cut && error.error_len().is_none() => {
                std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Self::Unknown,
        };
        if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
            return Self::Unknown;
        }
        let text = text.trim_start().to_ascii_lowercase();
        let begins_with = |beginnings: &[&str]| beginnings.iter().any(|beginning| text.starts_with(beginning));
        if begins_with(&["version https://git-lfs.github.com/spec/"]) {
            Self::GitLfsPointer
        } else if begins_with(&["<svg"]) || (begins_with(&["<?xml", "<!--", "<!doctype svg"]) && text.contains("<svg"))
        {
            Self::Svg
        } else if begins_with(&["<!doctype html", "<html", "<head", "<body"]) || text.contains("<html") {
            Self::Html
        } else if begins_with(&["<?xml"]) {
            Self::Xml
        } else if begins_with(&["{", "["]) {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// Whether files of this kind are decoded.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::WebP | Self::Bmp | Self::Gif)
    }

    /// Whether it is a picture, read or not.
    pub fn is_picture(self) -> bool {
        let others = [
            Self::Heic,
            Self::Avif,
            Self::JpegXl,
            Self::Jpeg2000,
            Self::JpegXr,
            Self::Tiff,
            Self::CameraRaw,
            Self::Photoshop,
            Self::Icon,
            Self::Netpbm,
            Self::HighDynamicRange,
            Self::Dicom,
            Self::Svg,
        ];
        self.is_read() || others.contains(&self)
    }

    /// What the file is, to follow "the file is".
    pub fn what(self) -> &'static str {
        match self {
            Self::Jpeg => "a JPEG image",
            Self::Png => "a PNG image",
            Self::WebP => "a WebP image",
            Self::Bmp => "a BMP image",
            Self::Gif => "a GIF image",
            Self::Heic => "a HEIC image (the photo format of iPhones)",
            Self::Avif => "an AVIF image",
            Self::JpegXl => "a JPEG XL image",
            Self::Jpeg2000 => "a JPEG 2000 image",
            Self::JpegXr => "a JPEG XR image",
            Self::Tiff => "a TIFF image or a camera's raw photograph",
            Self::CameraRaw => "a camera's raw photograph",
            Self::Photoshop => "a Photoshop document",
            Self::Icon => "a Windows icon",
            Self::Netpbm => "a Netpbm image (PBM, PGM, PPM or PAM)",
            Self::HighDynamicRange => "a high-dynamic-range image (OpenEXR or Radiance)",
            Self::Dicom => "a DICOM image (a medical format)",
            Self::Svg => "an SVG drawing",
            Self::Pdf => "a PDF document",
            Self::PostScript => "a PostScript document",
            Self::Video => "a video",
            Self::Html => "a web page",
            Self::GitLfsPointer => "a Git LFS pointer (the text in place of a file that was not downloaded)",
            Self::Json => "JSON text",
            Self::Xml => "XML text",
            Self::Text => "text",
            Self::Zip => "a zip archive",
            Self::Tar => "a tar archive",
            Self::Gzip => "compressed with gzip",
            Self::Packed => "compressed (xz, Zstandard, bzip2, 7-Zip or RAR)",
            Self::NumPy => "a NumPy array",
            Self::Hdf5 => "an HDF5 file",
            Self::AppleDouble => "an AppleDouble file, which macOS puts beside files on foreign disks",
            Self::Empty => "empty",
            Self::CutShort => "cut short after the first bytes of an image",
            Self::Zeros => "filled with zeros, as an interrupted copy or a damaged disk leaves it",
            Self::Unknown => "of an unknown kind",
        }
    }

    /// Why such a file is not decoded, and what to do about it, in one sentence.
    pub(super) fn refusal(self) -> String {
        let what = match self {
            Self::Unknown => return "the content is not a JPEG, PNG, WebP, BMP or GIF image".to_owned(),
            Self::Empty => return "the file is empty".to_owned(),
            Self::CutShort | Self::Zeros => self.what().to_owned(),
            _ if self.is_picture() => format!("{}, which is not supported", self.what()),
            _ => format!("{}, not an image", self.what()),
        };
        match self.next_step() {
            Some(next_step) => format!("the file is {what}: {next_step}"),
            None => format!("the file is {what}"),
        }
    }

    /// What to do about it, as a request. [`None`] for what is read, and for what nothing is known of.
    pub fn next_step(self) -> Option<&'static str> {
        Some(match self {
            Self::Jpeg | Self::Png | Self::WebP | Self::Bmp | Self::Gif | Self::Unknown => return None,
            Self::Heic => "convert it to JPEG: `heif-convert IN.heic OUT.jpg`",
            Self::Avif => "convert it to PNG: `avifdec IN.avif OUT.png`",
            Self::JpegXl => "convert it to PNG: `djxl IN.jxl OUT.png`",
            Self::Jpeg2000 => "convert it to PNG: `opj_decompress -i IN.jp2 -o OUT.png`",
            Self::CameraRaw => "develop it to JPEG with the camera's program, darktable or RawTherapee",
            Self::Dicom => "convert it to PNG: `dcmj2pnm --write-png IN.dcm OUT.png`",
            Self::Svg => "draw it as PNG: `rsvg-convert -o OUT.png IN.svg`",
            Self::Pdf | Self::PostScript => "extract its pages or images: `pdftoppm -png IN.pdf OUT`",
            Self::JpegXr | Self::Tiff | Self::Photoshop | Self::Icon | Self::Netpbm | Self::HighDynamicRange => {
                "convert it to PNG: `magick IN OUT.png`"
            }
            Self::Video => "extract frames as images: `ffmpeg -i IN OUT-%05d.jpg`",
            Self::Html => "download the image itself: a server sent this page in its place",
            Self::GitLfsPointer => "download the files: `git lfs pull`",
            Self::Zip | Self::Packed => "unpack it, and give the folder of the images",
            Self::Tar | Self::Gzip => "unpack it, or give the archive as the data set",
            Self::NumPy | Self::Hdf5 => "save each of its pictures as a PNG file",
            Self::AppleDouble => "remove it: it holds no picture",
            Self::Json | Self::Xml | Self::Text => "put the image in its place, or remove the file",
            Self::Empty | Self::CutShort | Self::Zeros => "copy or download it again",
        })
    }
}

/// First bytes of files. Where one is the beginning of another, the longer one comes first.
#[rustfmt::skip]
const SIGNATURES: [(&[u8], FileKind); 50] = [
    (b"\xff\xd8\xff", FileKind::Jpeg),
    (b"\x89PNG\r\n\x1a\n", FileKind::Png),
    (b"GIF87a", FileKind::Gif),
    (b"GIF89a", FileKind::Gif),
    (b"BM", FileKind::Bmp),
    (b"\xff\x0a", FileKind::JpegXl),
    (b"\0\0\0\x0cJXL \r\n\x87\n", FileKind::JpegXl),
    (b"\0\0\0\x0cjP  \r\n\x87\n", FileKind::Jpeg2000),
    (b"\xff\x4f\xff\x51", FileKind::Jpeg2000),
    (b"II\xbc\x01", FileKind::JpegXr),
    (b"II*\0", FileKind::Tiff),
    (b"MM\0*", FileKind::Tiff),
    (b"II+\0", FileKind::Tiff),
    (b"MM\0+", FileKind::Tiff),
    (b"IIU\0", FileKind::CameraRaw), // Panasonic
    (b"IIRO", FileKind::CameraRaw), // Olympus
    (b"IIRS", FileKind::CameraRaw), // Olympus
    (b"MMOR", FileKind::CameraRaw), // Olympus
    (b"FUJIFILMCCD-RAW", FileKind::CameraRaw),
    (b"FOVb", FileKind::CameraRaw), // Sigma
    (b"\0MRM", FileKind::CameraRaw), // Minolta
    (b"8BPS", FileKind::Photoshop),
    (b"\0\0\x01\0", FileKind::Icon),
    (b"\0\0\x02\0", FileKind::Icon),
    (b"\x76\x2f\x31\x01", FileKind::HighDynamicRange),
    (b"#?RADIANCE", FileKind::HighDynamicRange),
    (b"%PDF-", FileKind::Pdf),
    (b"%!PS", FileKind::PostScript),
    (b"\xc5\xd0\xd3\xc6", FileKind::PostScript),
    (b"\x1a\x45\xdf\xa3", FileKind::Video), // Matroska, WebM
    (b"\0\0\x01\xba", FileKind::Video), // MPEG
    (b"\0\0\x01\xb3", FileKind::Video), // MPEG
    (b"FLV\x01", FileKind::Video),
    (b"PK\x03\x04", FileKind::Zip),
    (b"PK\x05\x06", FileKind::Zip),
    (b"\x1f\x8b", FileKind::Gzip),
    (b"\xfd7zXZ\0", FileKind::Packed),
    (b"\x28\xb5\x2f\xfd", FileKind::Packed), // Zstandard
    (b"BZh", FileKind::Packed),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Packed),
    (b"Rar!\x1a\x07", FileKind::Packed),
    (b"\x93NUMPY", FileKind::NumPy),
    (b"\x89HDF\r\n\x1a\n", FileKind::Hdf5),
    (b"MATLAB 5.0 MAT-file", FileKind::Hdf5),
    (b"\0\x05\x16\x07", FileKind::AppleDouble),
    (b"\0\x05\x16\0", FileKind::AppleDouble),
    // UTF-16 text with a byte order mark.
    (b"\xff\xfe", FileKind::Text),
    (b"\xfe\xff", FileKind::Text),
    // Pointers and pages are recognised by their words; these have a mark of their own.
    (b"-----BEGIN ", FileKind::Text),
    (b"<<<<<<< ", FileKind::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_content() {
        let mut tar = vec![b'x'; 600];
        tar[257..262].copy_from_slice(b"ustar");
        let mut dicom = vec![0; 132];
        dicom[128..].copy_from_slice(b"DICM");
        let cases: [(&[u8], FileKind); 36] = [
            (b"\xff\xd8\xff\xe0", FileKind::Jpeg),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", FileKind::Png),
            (b"GIF89a\x01\0", FileKind::Gif),
            (b"BM\x36\0\0\0", FileKind::Bmp),
            (b"RIFF\x10\0\0\0WEBPVP8 ", FileKind::WebP),
            (b"RIFF\x10\0\0\0AVI LIST", FileKind::Video),
            (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", FileKind::Heic),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", FileKind::Heic),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", FileKind::Avif),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", FileKind::Avif),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", FileKind::CameraRaw),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", FileKind::Video),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", FileKind::Video),
            (b"\xff\x0a\xfa\x7f", FileKind::JpegXl),
            (b"\0\0\0\x0cjP  \r\n\x87\n\0\0", FileKind::Jpeg2000),
            (b"II*\0\x08\0\0\0\0\0", FileKind::Tiff),
            (b"P6\n3 2\n255\n", FileKind::Netpbm),
            (b"%PDF-1.7\n", FileKind::Pdf),
            (b"<!DOCTYPE html><html><body>404</body></html>", FileKind::Html),
            (b"\xef\xbb\xbf\n <HTML lang=\"en\">", FileKind::Html),
            (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"x\"/>", FileKind::Svg),
            (b"<svg/>", FileKind::Svg),
            (b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", FileKind::Xml),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", FileKind::GitLfsPointer),
            (b"{\"message\": \"Not Found\"}", FileKind::Json),
            (b"these are words, whatever the name says", FileKind::Text),
            ("große Wörter".as_bytes(), FileKind::Text),
            (b"\xff\xfew\0o\0r\0d\0", FileKind::Text),
            (b"PK\x03\x04\x14\0", FileKind::Zip),
            (b"\x1f\x8b\x08\0", FileKind::Gzip),
            (&tar, FileKind::Tar),
            (&dicom, FileKind::Dicom),
            (b"", FileKind::Empty),
            (&[0; 300], FileKind::Zeros),
            (b"\x89PN", FileKind::CutShort),
            (b"\x01\x02\x03\x04", FileKind::Unknown),
        ];
        for (bytes, kind) in cases {
            assert_eq!(FileKind::of(bytes), kind, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn refusals_are_sentences_with_the_next_step() {
        for (kind, sentence) in [
            (
                FileKind::Heic,
                "the file is a HEIC image (the photo format of iPhones), which is not supported: convert it to JPEG: \
                 `heif-convert IN.heic OUT.jpg`",
            ),
            (FileKind::Text, "the file is text, not an image: put the image in its place, or remove the file"),
            (
                FileKind::GitLfsPointer,
                "the file is a Git LFS pointer (the text in place of a file that was not downloaded), not an image: \
                 download the files: `git lfs pull`",
            ),
            (FileKind::CutShort, "the file is cut short after the first bytes of an image: copy or download it again"),
            (FileKind::Empty, "the file is empty"),
            (FileKind::Unknown, "the content is not a JPEG, PNG, WebP, BMP or GIF image"),
        ] {
            assert_eq!(kind.refusal(), sentence);
        }
    }

    #[test]
    fn long_text_is_text_wherever_its_beginning_is_cut() {
        for shift in 0..3 {
            let text = "a".repeat(shift) + &"ü€".repeat(1000);
            assert_eq!(FileKind::of(text.as_bytes()), FileKind::Text, "{shift}");
        }
        assert_eq!(FileKind::of("wörter".as_bytes().split_last().unwrap().1), FileKind::Text);
        assert_eq!(FileKind::of(b"w\xc3"), FileKind::Unknown, "a whole file that ends within a letter");
    }

    #[test]
    fn no_signature_hides_another() {
        for (place, (signature, kind)) in SIGNATURES.iter().enumerate() {
            let hidden = SIGNATURES[..place].iter().find(|(before, _)| signature.starts_with(before));
            assert_eq!(hidden, None, "{kind:?}");
        }
    }

    #[test]
    fn what_is_not_read_has_a_next_step() {
        for (_, kind) in SIGNATURES {
            assert_eq!(kind.next_step().is_none(), kind.is_read(), "{kind:?}");
            assert!(!kind.what().is_empty());
        }
    }
}

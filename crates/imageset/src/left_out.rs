//! The files and folders of a data set that were left out, with the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::decode::FileKind;
use crate::name::{matches, normal};
use crate::source::{SourceError, counted};

/// Why a file or folder was not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// An image that lies in no class folder.
    Loose,
    /// An image in a folder at the place of a class folder, by the folder, whose name is skipped.
    PassedOverClass(String),
    /// An image of a part or of a folder beside the parts, by the folder, that has no class folders.
    Unlabelled(String),
    /// An image of a part that is not used, by the name of its folder.
    OtherPart(String),
    /// An image in a folder beside archives that are read.
    BesideArchives,
    /// A file that is a picture by its content, by the ending of its name in lower case, which does not say so; empty if it has none.
    Picture(String),
    /// A file whose ending, in lower case, is not that of an image that can be read.
    Ending(String),
    /// A file without an ending.
    NoEnding,
    /// A link to nowhere or to outside of the archive.
    Link,
    /// A link to a folder that it lies in.
    Circle,
    /// An image that a later entry of the archive replaces with another one.
    Replaced,
    /// A file that a later entry of the archive repeats.
    Repeated,
    /// A pipe, socket or device.
    Special,
    /// A folder that cannot be read, by the words of the system.
    Unreadable(String),
    /// A name that begins with a dot.
    Hidden,
    /// What operating systems, storage devices and tools leave behind.
    System,
    /// A folder without a file.
    EmptyFolder,
    /// Named by [`OpenOptions::leave_out`](crate::OpenOptions::leave_out).
    Asked,
}

/// Endings of picture files that are not read: to leave these out is to lose images. Each row belongs to a kind that is known by its content
/// too; the last one has the kinds that have no mark of their own.
const UNREAD_IMAGE_ENDINGS: [(Option<FileKind>, &[&str]); 14] = [
    (Some(FileKind::Heic), &["heic", "heif", "hif"]),
    (Some(FileKind::Avif), &["avif"]),
    (Some(FileKind::JpegXl), &["jxl"]),
    (Some(FileKind::Jpeg2000), &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx"]),
    (Some(FileKind::JpegXr), &["jxr", "wdp", "hdp"]),
    (Some(FileKind::Tiff), &["tif", "tiff", "dng", "cr2", "nef", "arw"]),
    (Some(FileKind::CameraRaw), &["cr3", "orf", "rw2", "raf"]),
    (Some(FileKind::Photoshop), &["psd", "psb"]),
    (Some(FileKind::Icon), &["ico", "cur"]),
    (Some(FileKind::Netpbm), &["ppm", "pgm", "pbm", "pnm", "pam"]),
    (Some(FileKind::HighDynamicRange), &["exr", "hdr"]),
    (Some(FileKind::Dicom), &["dcm", "dicom"]),
    (Some(FileKind::Svg), &["svg"]),
    (None, &["tga", "pcx"]),
];

/// Endings of what data sets hold beside their images. Other files may be images that have lost their ending.
#[rustfmt::skip]
const OTHER_ENDINGS: [&str; 66] = [
    "7z", "arrow", "avi", "bat", "bz2", "cfg", "css", "csv", "db", "doc", "docx", "flac", "gz", "h5", "hdf5", "htm", "html",
    "ini", "ipynb", "js", "json", "jsonl", "lmdb", "lnk", "log", "m", "mat", "md", "mkv", "mov", "mp3", "mp4", "npy", "npz",
    "odt", "onnx", "parquet", "pdf", "pickle", "pkl", "ppt", "pptx", "pt", "pth", "py", "r", "rar", "rst", "safetensors", "sh",
    "sqlite", "tar", "tfrecord", "tgz", "toml", "tsv", "txt", "url", "wav", "webm", "xls", "xlsx", "xml", "xz", "yaml", "zip",
];

/// How many bytes of a file say whether it is a picture.
pub(crate) const FIRST_BYTES: u64 = 1024;

/// The ending of the name of a file, in lower case. Empty if it has none.
fn ending(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.rsplit_once('.').map_or_else(String::new, |(_, ending)| ending.to_lowercase())
}

/// Whether a file is a picture by the ending of its name, but one that is not read.
pub(crate) fn is_unread_image_name(path: &str) -> bool {
    is_unread_image_ending(&ending(path))
}

fn is_unread_image_ending(ending: &str) -> bool {
    UNREAD_IMAGE_ENDINGS.iter().any(|(_, endings)| endings.contains(&ending))
}

/// Whether the name of a file that is not taken does not say what the file is.
pub(crate) fn is_name_unknown(path: &str) -> bool {
    let ending = ending(path);
    !OTHER_ENDINGS.contains(&ending.as_str()) && !is_unread_image_ending(&ending)
}

/// Whether a file with these first bytes is a picture. The marks of two kinds are so short that a text may begin with them.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    match FileKind::of(bytes) {
        // Its header has four zeros here.
        FileKind::Bmp => bytes.get(6..10) == Some(&[0; 4]),
        // The width or a comment follows.
        FileKind::Netpbm => bytes.get(3).is_some_and(|byte| byte.is_ascii_digit() || *byte == b'#'),
        kind => kind.is_picture(),
    }
}

/// The share of the pictures that may be left out without being asked for.
const MAX_LOST_SHARE: f64 = 0.01;

/// What was not taken, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    paths: BTreeMap<Cause, BTreeSet<String>>,
}

/// One cause, as a report shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOutCount {
    /// In words, as a noun in the singular or plural: `2 files ending in .txt`.
    pub what: String,
    /// How many files or folders.
    pub count: usize,
    /// The first of them, in bytewise order.
    pub first: String,
}

impl LeftOut {
    fn add(&mut self, cause: Cause, path: impl Into<String>) {
        self.paths.entry(cause).or_default().insert(path.into());
    }

    pub(crate) fn add_loose(&mut self, path: impl Into<String>) {
        self.add(Cause::Loose, path);
    }

    /// An image in a folder at the place of a class folder whose name is skipped.
    pub(crate) fn add_passed_over_class(&mut self, folder: impl Into<String>, path: impl Into<String>) {
        self.add(Cause::PassedOverClass(folder.into()), path);
    }

    pub(crate) fn add_unlabelled(&mut self, folder: impl Into<String>, path: impl Into<String>) {
        self.add(Cause::Unlabelled(folder.into()), path);
    }

    pub(crate) fn add_other_part(&mut self, part: &str, path: impl Into<String>) {
        self.add(Cause::OtherPart(part.to_owned()), path);
    }

    pub(crate) fn add_beside_archives(&mut self, path: impl Into<String>) {
        self.add(Cause::BesideArchives, path);
    }

    /// A file that is a picture by its content alone.
    pub(crate) fn add_picture(&mut self, path: impl Into<String>) {
        let path = path.into();
        self.add(Cause::Picture(ending(&path)), path);
    }

    /// A file whose name is not that of an image.
    pub(crate) fn add_by_ending(&mut self, path: impl Into<String>) {
        let path = path.into();
        let ending = ending(&path);
        self.add(if ending.is_empty() { Cause::NoEnding } else { Cause::Ending(ending) }, path);
    }

    pub(crate) fn add_link(&mut self, path: impl Into<String>) {
        self.add(Cause::Link, path);
    }

    pub(crate) fn add_circle(&mut self, path: impl Into<String>) {
        self.add(Cause::Circle, path);
    }

    /// A file that a later one of the same name replaces; `is_lost` says that it was another image.
    pub(crate) fn add_replaced(&mut self, path: impl Into<String>, is_lost: bool) {
        self.add(if is_lost { Cause::Replaced } else { Cause::Repeated }, path);
    }

    pub(crate) fn add_special(&mut self, path: impl Into<String>) {
        self.add(Cause::Special, path);
    }

    /// A folder that cannot be read, with the words of the system.
    pub(crate) fn add_unreadable(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.add(Cause::Unreadable(reason.into()), path);
    }

    pub(crate) fn add_empty_folder(&mut self, path: impl Into<String>) {
        self.add(Cause::EmptyFolder, path);
    }

    pub(crate) fn add_asked(&mut self, path: impl Into<String>) {
        self.add(Cause::Asked, path);
    }

    /// Counts a path with a name that is always skipped, once for everything below that name. Returns the path up to the first such name,
    /// or None if there is none.
    pub(crate) fn add_passed_over<'a>(&mut self, path: &'a str) -> Option<&'a str> {
        let (cause, path) = first_passed_over(path)?;
        self.add(cause, path);
        Some(path)
    }

    /// Counts those as requested that were left out for another reason and were also asked for.
    pub(crate) fn ask(&mut self, is_asked: impl Fn(&str) -> bool) {
        let mut asked = BTreeSet::new();
        for paths in self.paths.values_mut() {
            let (meant, others): (BTreeSet<String>, BTreeSet<String>) =
                std::mem::take(paths).into_iter().partition(|path| is_asked(path));
            *paths = others;
            asked.extend(meant);
        }
        self.paths.retain(|_, paths| !paths.is_empty());
        asked.into_iter().for_each(|path| self.add_asked(path));
    }

    /// The same with other paths.
    pub(crate) fn renamed(self, name: impl Fn(String) -> String) -> Self {
        let paths = self.paths.into_iter();
        Self { paths: paths.map(|(cause, paths)| (cause, paths.into_iter().map(&name).collect())).collect() }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (cause, paths) in other.paths {
            self.paths.entry(cause).or_default().extend(paths);
        }
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Each cause with its number, images first.
    pub fn counts(&self) -> Vec<LeftOutCount> {
        let count = |(cause, paths): (&Cause, &BTreeSet<String>)| LeftOutCount {
            what: words(cause, paths.len()),
            count: paths.len(),
            first: paths.first().cloned().unwrap_or_default(),
        };
        self.paths.iter().map(count).collect()
    }

    /// All of it in one line, or None if nothing was left out.
    pub fn line(&self) -> Option<String> {
        let counts = self.counts();
        let (first, others) = counts.split_first()?;
        let mut line = format!("left out: {}", first.what);
        others.iter().for_each(|count| {
            let _ = write!(line, ", {}", count.what);
        });
        Some(line)
    }

    /// Fails if more than 1 % of the pictures or a whole class would be left out unasked. `taken` is the number of images that were taken,
    /// and `root` is what the data set is called.
    pub(crate) fn check(&self, root: &str, taken: usize) -> Result<(), SourceError> {
        let lost: Vec<(&Cause, &BTreeSet<String>)> = self.paths.iter().filter(|(cause, _)| is_loss(cause)).collect();
        let num_lost: usize = lost.iter().map(|(_, paths)| paths.len()).sum();
        let is_class_lost = lost.iter().any(|(cause, _)| matches!(cause, Cause::PassedOverClass(_)));
        if !is_class_lost && num_lost as f64 <= MAX_LOST_SHARE * (taken + num_lost) as f64 {
            return Ok(());
        }
        let patterns: BTreeSet<String> = lost.iter().flat_map(|(cause, paths)| patterns(cause, paths)).collect();
        Err(SourceError::TooMuchLeftOut {
            path: root.to_owned(),
            pictures: taken + num_lost,
            lost: num_lost,
            what: lost.iter().map(|(cause, paths)| words(cause, paths.len())).collect::<Vec<_>>().join(", ").into(),
            first: lost.first().and_then(|(_, paths)| paths.first().cloned()).unwrap_or_default().into(),
            patterns: advised(patterns).into(),
        })
    }
}

/// The first few entries of `data.leave_out`, as they are written there.
pub(crate) fn advised(patterns: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let mut patterns = patterns.into_iter();
    let shown: Vec<String> = patterns.by_ref().take(SHOWN).map(|pattern| format!("\"{pattern}\"")).collect();
    shown.join(", ") + if patterns.next().is_some() { ", …" } else { "" }
}

/// Whether pictures are lost that were probably meant to be taken.
fn is_loss(cause: &Cause) -> bool {
    match cause {
        Cause::Loose | Cause::PassedOverClass(_) | Cause::Picture(_) | Cause::Link | Cause::Replaced => true,
        Cause::Ending(ending) => is_unread_image_ending(ending),
        _ => false,
    }
}

/// Entries of `data.leave_out` that ask for these files to be left out.
fn patterns(cause: &Cause, paths: &BTreeSet<String>) -> Vec<String> {
    match cause {
        Cause::Ending(ending) => vec![format!("*.{ending}")],
        Cause::Picture(ending) if !ending.is_empty() => vec![format!("*.{ending}")],
        Cause::PassedOverClass(folder) => vec![format!("/{folder}")],
        Cause::Loose => {
            let pattern = |path: &String| {
                let (folder, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(folder, name)| (folder, name));
                let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
                let folder = if folder.is_empty() { String::new() } else { format!("/{folder}") };
                format!("{folder}/*.{ending}")
            };
            paths.iter().map(pattern).collect::<BTreeSet<_>>().into_iter().collect()
        }
        _ => paths.iter().map(|path| format!("/{path}")).collect(),
    }
}

fn words(cause: &Cause, count: usize) -> String {
    match cause {
        Cause::Loose => format!("{} outside of the class folders", counted(count, "image")),
        Cause::PassedOverClass(folder) => {
            format!("{} of `{folder}`, which has the name of a hidden or system folder", counted(count, "image"))
        }
        Cause::Unlabelled(folder) => format!("{} of `{folder}`, which has no class folders", counted(count, "image")),
        Cause::OtherPart(part) => format!("{} of `{part}`", counted(count, "image")),
        Cause::BesideArchives => format!("{} in folders beside the archives", counted(count, "image")),
        Cause::Picture(ending) if ending.is_empty() => {
            format!("{} whose name has no ending", counted(count, "picture"))
        }
        Cause::Picture(ending) => format!("{} whose name ends in `.{ending}`", counted(count, "picture")),
        Cause::Ending(ending) => format!("{} ending in `.{ending}`", counted(count, "file")),
        Cause::NoEnding => format!("{} without an ending", counted(count, "file")),
        Cause::Link => format!("{} that cannot be followed", counted(count, "link")),
        Cause::Circle => format!("{} to a folder that contains it", counted(count, "link")),
        Cause::Replaced => {
            format!("{} that a later entry of the archive replaces with other content", counted(count, "image"))
        }
        Cause::Repeated => format!("{} that a later entry of the archive repeats", counted(count, "file")),
        Cause::Special if count == 1 => "1 pipe, socket or device".to_owned(),
        Cause::Special => format!("{count} pipes, sockets or devices"),
        Cause::Unreadable(reason) => format!("{} that cannot be read ({reason})", counted(count, "folder")),
        Cause::Hidden if count == 1 => "1 hidden file or folder".to_owned(),
        Cause::Hidden => format!("{count} hidden files or folders"),
        Cause::System if count == 1 => "1 system file or folder".to_owned(),
        Cause::System => format!("{count} system files or folders"),
        Cause::EmptyFolder => counted(count, "empty folder"),
        Cause::Asked if count == 1 => "1 file or folder as requested".to_owned(),
        Cause::Asked => format!("{count} files or folders as requested"),
    }
}

/// Names, in lower case, of what systems create by themselves: Synology and QNAP storage, Windows, Linux volumes, macOS and Python.
const SYSTEM_NAMES: [&str; 16] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "recycler",
    "lost+found",
    "__macosx",
    "icon\r",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__pycache__",
];

/// Why a name is skipped, if it is.
fn passed_over(name: &str) -> Option<Cause> {
    if SYSTEM_NAMES.contains(&name.to_lowercase().as_str()) {
        Some(Cause::System)
    } else if name.starts_with('.') {
        Some(Cause::Hidden)
    } else {
        None
    }
}

/// Names, in lower case, of hidden and system folders whose images nobody put there: thumbnails, deleted files, earlier versions and copies
/// of systems and tools.
const FOLDERS_OF_COPIES: [&str; 22] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    ".@__thumb",
    ".appledouble",
    ".cache",
    ".documentrevisions-v100",
    ".git",
    ".ipynb_checkpoints",
    ".picasaoriginals",
    ".snapshot",
    ".spotlight-v100",
    ".temporaryitems",
    ".thumbnails",
    ".thumbs",
    ".trash",
    ".trashes",
];

/// Whether a folder whose name is skipped may be a class nevertheless.
pub(crate) fn may_be_class(folder: &str) -> bool {
    let name = folder.rsplit_once('/').map_or(folder, |(_, name)| name).to_lowercase();
    !FOLDERS_OF_COPIES.contains(&name.as_str()) && !name.starts_with(".trash-")
}

/// The path up to the first name that is skipped, and why, if there is one.
fn first_passed_over(path: &str) -> Option<(Cause, &str)> {
    let ends = path.match_indices('/').map(|(place, _)| place).chain([path.len()]);
    let mut start = 0;
    for end in ends {
        if let Some(cause) = passed_over(&path[start..end]) {
            return Some((cause, &path[..end]));
        }
        start = end + 1;
    }
    None
}

/// Whether the path has a name that is skipped.
pub(crate) fn is_passed_over(path: &str) -> bool {
    first_passed_over(path).is_some()
}

/// Whether a folder that is skipped may be a class or lie in one, so that its images are counted.
pub(crate) fn may_lie_in_class(folder: &str) -> bool {
    // The folders of the parts, and another one in each of them, may be above the classes.
    const MAX_NAMES: usize = 3;
    first_passed_over(folder).is_some_and(|(_, passed_over)| {
        let rest = folder[passed_over.len()..].trim_start_matches('/');
        passed_over.split('/').count() <= MAX_NAMES && may_be_class(passed_over) && !is_passed_over(rest)
    })
}

/// Whether a pattern matches a path, which has `/` between its names and none in front.
///
/// Patterns are those of `.gitignore` without `**` and `!`: `*` stands for any characters of one name and `?` for one; a pattern with
/// a `/` before its end starts at the root, and any other one matches a name at any depth. A match includes everything below it. Letters
/// with accents are the same however they are written.
pub(crate) fn is_meant(pattern: &str, path: &str) -> bool {
    if !pattern.is_ascii() || !path.is_ascii() {
        return is_meant_as_written(&normal(pattern), &normal(path));
    }
    is_meant_as_written(pattern, path)
}

fn is_meant_as_written(pattern: &str, path: &str) -> bool {
    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
    if pattern.is_empty() {
        return false;
    }
    if !pattern.contains('/') {
        return path.split('/').any(|name| matches(pattern, name));
    }
    let mut names = path.split('/');
    pattern.trim_start_matches('/').split('/').all(|pattern| names.next().is_some_and(|name| matches(pattern, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_gitignore() {
        for (pattern, meant, not_meant) in [
            ("*.txt", &["a.txt", "a/b.txt", "a.txt/c"][..], &["a.txt2", "txt"][..]),
            ("extra", &["extra/a.png", "a/extra/b.png"], &["extras/a.png", "a/b.png"]),
            ("/extra", &["extra/a.png", "extra"], &["a/extra/b.png"]),
            ("train/ol?/", &["train/old/a.png"], &["train/olden/a.png", "train/a.png", "a/train/old"]),
            ("/*.png", &["a.png"], &["b/a.png"]),
            ("a*b*c", &["abc", "a-b-b-c"], &["ab", "acb", "abcd"]),
            ("/caf\u{e9}", &["cafe\u{301}/1.png", "caf\u{e9}/1.png"], &["cafe/1.png"]),
            ("", &[], &["a", ""]),
        ] {
            for path in meant {
                assert!(is_meant(pattern, path), "{pattern} {path}");
            }
            for path in not_meant {
                assert!(!is_meant(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn what_is_left_out_is_told_in_one_line_by_cause() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.line(), None);
        for path in ["a/.x/1.png", "a/.x/2.png", "a/@eaDir/b/c.jpg", "Thumbs.db"] {
            assert!(left_out.add_passed_over(path).is_some());
        }
        assert!(left_out.add_passed_over("a/b.png").is_none());
        for path in ["a/1.TIF", "a/2.tif", "LICENSE", "b/notes.txt"] {
            left_out.add_by_ending(path);
        }
        left_out.add_loose("train/1.png");
        assert_eq!(
            left_out.line().unwrap(),
            "left out: 1 image outside of the class folders, 2 files ending in `.tif`, 1 file ending in `.txt`, 1 file without an \
             ending, 1 hidden file or folder, 2 system files or folders"
        );
        assert!(left_out.check("DIR", 297).is_ok());
    }

    #[test]
    fn more_than_one_picture_in_a_hundred_is_lost_only_if_asked() {
        let mut left_out = LeftOut::default();
        left_out.add_loose("train/1.png");
        left_out.add_by_ending("train/a/1.tif");
        left_out.add_by_ending("train/a/notes.txt");
        assert!(left_out.check("DIR", 198).is_ok());
        let error = left_out.check("DIR", 197).unwrap_err().to_string();
        assert_eq!(
            error,
            "2 of the 199 pictures in `DIR` would be left out: 1 image outside of the class folders, 1 file ending in `.tif`; the first \
             is `train/1.png`. Fix them, or leave them out with `data.leave_out = [\"*.tif\", \"/train/*.png\"]`"
        );
    }

    #[test]
    fn a_class_with_the_name_of_a_hidden_folder_is_lost_only_if_asked() {
        let mut left_out = LeftOut::default();
        left_out.add_passed_over_class("train/.net", "train/.net/1.png");
        let error = left_out.check("DIR", 100_000).unwrap_err().to_string();
        assert!(error.contains("1 image of `train/.net`, which has the name of a hidden or system folder"), "{error}");
        assert!(error.contains("data.leave_out = [\"/train/.net\"]"), "{error}");
        for (folder, expected) in
            [("train/.net", true), ("recycler", true), ("@eaDir", false), ("a/.Trash-1000", false)]
        {
            assert_eq!(may_be_class(folder), expected, "{folder}");
        }
    }

    #[test]
    fn a_long_list_of_patterns_is_cut() {
        let patterns = |count: usize| advised((0..count).map(|number| format!("/{number}")));
        assert_eq!(patterns(1), "\"/0\"");
        assert_eq!(patterns(6), "\"/0\", \"/1\", \"/2\", \"/3\", \"/4\", …");
    }

    #[test]
    fn what_was_left_out_for_another_reason_can_be_asked_for() {
        let mut left_out = LeftOut::default();
        left_out.add_link("a/1.png");
        left_out.add_link("a/2.png");
        left_out.ask(|path| path == "a/1.png");
        assert_eq!(left_out.line().unwrap(), "left out: 1 link that cannot be followed, 1 file or folder as requested");
    }

    #[test]
    fn pictures_are_known_by_their_content_and_text_is_not_taken_for_one() {
        for (bytes, expected) in [
            (&b"\xff\xd8\xff\xe0"[..], true),
            (b"BM\x36\0\0\0\0\0\0\0", true),
            (b"BMW and Audi", false),
            (b"P6\n3 2\n255\n", true),
            (b"P1 is the first part", false),
            (b"words", false),
            (b"", false),
        ] {
            assert_eq!(is_picture(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn every_kind_of_picture_that_is_not_read_has_endings() {
        for (kind, endings) in UNREAD_IMAGE_ENDINGS {
            assert!(kind.is_none_or(|kind| kind.is_picture() && !kind.is_read()), "{kind:?}");
            assert!(!endings.is_empty() && endings.iter().all(|ending| !OTHER_ENDINGS.contains(ending)), "{kind:?}");
        }
        assert!(OTHER_ENDINGS.is_sorted());
        assert!(is_name_unknown("a/README") && is_name_unknown("1.jpg_large") && !is_name_unknown("a.b/1.TIF"));
    }
}

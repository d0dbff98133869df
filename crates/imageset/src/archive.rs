//! Images in tar archives, with the same layouts as folders.
//!
//! The archive's entries are listed once; after that each image is one positional read, from any thread, without a lock and
//! without unpacking to disk. A compressed archive has no random access, so it is unpacked into memory. Beside one archive
//! with everything, a directory that holds `train.tar` and `val.tar` is understood.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::layout::{Labelled, Listing, VAL_NAMES};
use crate::source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError, is_tar_name};

/// A compressed archive may not unpack to more, since it is held in memory.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;
const BLOCK: u64 = 512;

/// Where the content of one file lies in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Path in the archive, with `/` between the names.
    pub path: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// First byte of the content.
    pub offset: u64,
    /// Bytes of the content.
    pub len: u64,
}

/// What is wrong with an archive, and where.
#[derive(Debug, thiserror::Error)]
#[error("damaged at byte {offset}: {reason}")]
pub struct TarError {
    /// Byte of the (unpacked) archive.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Lists the files and folders of an archive.
///
/// Links and devices are passed over.
///
/// # Errors
///
/// [`TarError`] if a header is damaged, or if the archive ends before its last file or without the end mark.
pub fn index(mut reader: impl Read + Seek) -> Result<Vec<TarEntry>, TarError> {
    let damaged = |offset: u64, reason: String| TarError { offset, reason: reason.trim().to_string() };
    let total = reader
        .seek(SeekFrom::End(0))
        .and_then(|total| reader.rewind().map(|()| total))
        .map_err(|error| damaged(0, error.to_string()))?;
    let mut archive = tar::Archive::new(&mut reader);
    let entries = archive.entries_with_seek().map_err(|error| damaged(0, error.to_string()))?;
    let mut found = Vec::new();
    let mut end = 0;
    for entry in entries {
        let entry = entry.map_err(|error| damaged(end, error.to_string()))?;
        let header = entry.raw_header_position();
        let (offset, len) = (entry.raw_file_position(), entry.size());
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if offset.checked_add(len).is_none_or(|last| last > total) {
            let reason =
                format!("the archive ends at byte {total}, in the middle of `{path}`, which needs {len} bytes");
            return Err(damaged(header, reason));
        }
        // Cannot overflow: the sum is at most the length of a file.
        end = offset + len.next_multiple_of(BLOCK);
        let kind = entry.header().entry_type();
        if kind.is_gnu_sparse() {
            return Err(damaged(header, format!("`{path}` is stored as a sparse file, which is not supported")));
        }
        if kind.is_file() || kind.is_contiguous() || kind.is_dir() {
            found.push(TarEntry { path, is_dir: kind.is_dir(), offset, len });
        }
    }
    // Every tar program ends with blocks of zeros. Without one, the file was cut exactly between two entries.
    if end + BLOCK > total {
        return Err(damaged(end.min(total), "the archive ends without its end mark: it was cut short".to_owned()));
    }
    Ok(found)
}

/// One part of a data set in archives.
#[derive(Debug)]
pub struct TarSource {
    archive: Arc<TarFile>,
    /// Entry and class number of each image.
    images: Vec<Labelled<TarEntry>>,
}

#[derive(Debug)]
struct TarFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(File),
    Memory(Vec<u8>),
}

impl ImageSource for TarSource {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1
    }

    fn name(&self, index: usize) -> String {
        format!("{}/{}", self.archive.path.display(), self.images[index].0.path)
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        let entry = &self.images[index].0;
        let bytes = self
            .archive
            .read_at(entry.offset, entry.len)
            .map_err(|error| SourceError::Read { path: PathBuf::from(self.name(index)), error })?;
        Ok(EncodedImage::File(bytes))
    }
}

impl TarFile {
    fn open(path: &Path, is_part: bool) -> Result<(Arc<Self>, Listing<TarEntry>), SourceError> {
        let read_error = |error| SourceError::read(path, error);
        let file = File::open(path).map_err(read_error)?;
        let damaged = |error: TarError| SourceError::DamagedTar {
            path: path.to_owned(),
            offset: error.offset,
            reason: error.reason,
        };
        let is_plain = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"));
        let (entries, content) = if is_plain {
            (index(&file).map_err(damaged)?, Content::File(file))
        } else {
            let mut bytes = Vec::new();
            MultiGzDecoder::new(io::BufReader::new(file))
                .take(MAX_UNPACKED_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| damaged(TarError { offset: bytes.len() as u64, reason: error.to_string() }))?;
            if bytes.len() as u64 > MAX_UNPACKED_BYTES {
                return Err(SourceError::UnpacksTooLarge { path: path.to_owned(), max_bytes: MAX_UNPACKED_BYTES });
            }
            (index(Cursor::new(bytes.as_slice())).map_err(damaged)?, Content::Memory(bytes))
        };
        let mut listing = Listing::new(path.display().to_string());
        for mut entry in entries {
            let names: Vec<&str> = entry.path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
            entry.path = names.join("/");
            let path = entry.path.clone();
            if entry.is_dir {
                listing.add_dir(&path);
            } else {
                listing.add_file(&path, entry);
            }
        }
        Ok((Arc::new(Self { path: path.to_owned(), content }), listing.without_common_top(is_part)))
    }

    fn read_at(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        // The index has checked that offset + len lies in the archive, which was no larger than memory or a file.
        match &self.content {
            Content::Memory(bytes) => {
                let from = offset as usize;
                Ok(bytes[from..from + len as usize].to_vec())
            }
            Content::File(file) => {
                let mut bytes = vec![0; len as usize];
                read_exact_at(file, &mut bytes, offset)?;
                Ok(bytes)
            }
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl TarSource {
    /// Whether a directory holds the parts of a data set as archives.
    pub(crate) fn is_tar_dir(dir: &Path) -> bool {
        find_part(dir, "train").is_some()
    }

    /// Opens an archive, or a directory of archives.
    pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
        if path.is_dir() {
            return Self::open_dir(path, options);
        }
        if !is_tar_name(path) {
            return Err(SourceError::NotADataSet { path: path.to_owned() });
        }
        let (archive, listing) = TarFile::open(path, false)?;
        let layout = listing.layout(options)?;
        let source = |images| -> Arc<dyn ImageSource> { Arc::new(Self { archive: Arc::clone(&archive), images }) };
        Ok(DataSet {
            train: source(layout.train),
            val: source(layout.val),
            description: format!("tar archive `{}`, {}", path.display(), layout.split),
            classes: layout.classes,
            warnings: layout.warnings,
            has_own_split: layout.has_own_split,
            known_readable: false,
        })
    }

    fn open_dir(dir: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
        let Some(train_path) = find_part(dir, "train") else {
            return Err(SourceError::NotFound { path: dir.join("train.tar") });
        };
        let Some(val_path) = VAL_NAMES.into_iter().find_map(|name| find_part(dir, name)) else {
            return Self::open(&train_path, options);
        };
        let (train_archive, train) = TarFile::open(&train_path, true)?;
        let (val_archive, val) = TarFile::open(&val_path, true)?;
        let layout = train.layout_with_val(&val)?;
        Ok(DataSet {
            train: Arc::new(Self { archive: train_archive, images: layout.train }),
            val: Arc::new(Self { archive: val_archive, images: layout.val }),
            description: format!("tar archives in `{}`, {}", dir.display(), layout.split),
            classes: layout.classes,
            warnings: layout.warnings,
            has_own_split: layout.has_own_split,
            known_readable: false,
        })
    }
}

fn find_part(dir: &Path, part: &str) -> Option<PathBuf> {
    ["tar", "tar.gz", "tgz"].into_iter().map(|ending| dir.join(format!("{part}.{ending}"))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// An archive whose files hold their own path.
    fn archive(paths: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for path in paths {
            let mut header = tar::Header::new_gnu();
            let is_dir = path.ends_with('/');
            header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
            header.set_size(if is_dir { 0 } else { path.len() as u64 });
            header.set_mode(0o644);
            let content = if is_dir { &[] } else { path.as_bytes() };
            builder.append_data(&mut header, path, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(name: &str, bytes: &[u8]) -> Result<DataSet, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let options = OpenOptions { path: Some(path), val_fraction: 0.5, ..OpenOptions::default() };
        DataSet::open(&options).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    fn content(source: &dyn ImageSource, index: usize) -> String {
        match source.read(index).unwrap() {
            EncodedImage::File(bytes) => String::from_utf8(bytes).unwrap(),
            EncodedImage::Rgb(_) => panic!("an archive holds files"),
        }
    }

    const PARTS: [&str; 5] = ["train/", "train/dog/1.png", "train/cat/2.png", "val/cat/3.png", "val/dog/notes.txt"];

    #[test]
    fn an_archive_has_the_layouts_of_a_folder() {
        let long = format!("train/cat/{}.png", "x".repeat(150));
        let paths = [&PARTS[..], &[long.as_str()]].concat();
        let set = open("set.tar", &archive(&paths)).unwrap();
        assert_eq!(set.classes, ["cat", "dog"]);
        assert_eq!((set.train.len(), set.val.len()), (3, 1));
        assert_eq!(content(set.train.as_ref(), 0), "train/cat/2.png");
        assert_eq!(content(set.train.as_ref(), 1), long);
        assert_eq!((set.train.label(2), content(set.train.as_ref(), 2)), (1, "train/dog/1.png".to_owned()));
        assert!(set.train.name(2).ends_with("/set.tar/train/dog/1.png"));
        assert!(set.warnings.iter().any(|warning| warning.contains("no images of 1 of 2 classes: `dog`")));
    }

    #[test]
    fn a_leading_point_and_a_common_top_folder_are_passed_over() {
        for top in ["./", "my-set/", "./my-set/"] {
            let paths: Vec<String> = PARTS.iter().map(|path| format!("{top}{path}")).collect();
            let set = open("set.tar", &archive(&paths.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
            assert_eq!((set.train.len(), set.val.len()), (2, 1), "{top}");
            let set = open(
                "set.tar",
                &archive(&[format!("{top}a/1.png").as_str(), &format!("{top}b/1.png"), &format!("{top}b/2.png")]),
            )
            .unwrap();
            assert_eq!((set.classes.len(), set.train.len(), set.val.len()), (2, 2, 1), "{top}");
        }
    }

    #[test]
    fn a_compressed_archive_holds_the_same() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&archive(&PARTS)).unwrap();
        let packed = encoder.finish().unwrap();
        for name in ["set.tar.gz", "set.tgz"] {
            let set = open(name, &packed).unwrap();
            assert_eq!(content(set.val.as_ref(), 0), "val/cat/3.png");
        }
        let error = open("set.tar.gz", &packed[..packed.len() / 2]).unwrap_err();
        assert!(error.starts_with("`DIR/set.tar.gz` is damaged at byte "), "{error}");
    }

    #[test]
    fn archives_of_the_parts_lie_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train.tar"), archive(&["train/a/1.png", "train/b/2.png"])).unwrap();
        let open = || {
            let path = Some(dir.path().to_owned());
            DataSet::open(&OpenOptions { path, val_fraction: 0.0, ..OpenOptions::default() }).unwrap()
        };
        assert_eq!((open().train.len(), open().val.len()), (2, 0));
        fs::write(dir.path().join("val.tar"), archive(&["a/3.png", "b/4.png"])).unwrap();
        let set = open();
        assert_eq!(set.classes, ["a", "b"]);
        assert_eq!(
            (content(set.train.as_ref(), 1), content(set.val.as_ref(), 0)),
            ("train/b/2.png".to_owned(), "a/3.png".to_owned())
        );
        assert!(set.description.contains("val.tar` for validation"), "{}", set.description);
    }

    #[test]
    fn a_damaged_archive_is_named_with_the_place() {
        let whole = archive(&PARTS);
        // The last entry's header is at 3584, its content at 4096, the end mark at 4608.
        let cut = |len: usize| open("set.tar", &whole[..len]).unwrap_err();
        assert_eq!(
            cut(4100),
            "`DIR/set.tar` is damaged at byte 3584: the archive ends at byte 4100, in the middle of `val/dog/notes.txt`, which needs 17 bytes"
        );
        assert_eq!(
            cut(4608),
            "`DIR/set.tar` is damaged at byte 4608: the archive ends without its end mark: it was cut short"
        );
        assert!(cut(4000).starts_with("`DIR/set.tar` is damaged at byte 3584: "), "{}", cut(4000));
        assert!(cut(0).starts_with("`DIR/set.tar` is damaged at byte 0: "));
        let mut flipped = whole.clone();
        flipped[3590] ^= 1;
        assert_eq!(
            open("set.tar", &flipped).unwrap_err(),
            "`DIR/set.tar` is damaged at byte 3584: archive header checksum mismatch"
        );
        let error = open("set.tar", b"these are words").unwrap_err();
        assert!(error.starts_with("`DIR/set.tar` is damaged at byte 0: "), "{error}");
    }

    #[test]
    fn many_threads_read_at_once() {
        let paths: Vec<String> = (0..200).map(|i| format!("{}/{i}.png", if i % 2 == 0 { "a" } else { "b" })).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar");
        fs::write(&path, archive(&paths.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        let set =
            DataSet::open(&OpenOptions { path: Some(path), val_fraction: 0.0, ..OpenOptions::default() }).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for index in 0..200 {
                        assert!(set.train.name(index).ends_with(&content(set.train.as_ref(), index)));
                    }
                });
            }
        });
    }
}

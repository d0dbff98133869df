//! Images in tar archives, with the same layouts as folders.
//!
//! The archive's entries are listed once; after that each image is one positional read, from any thread, without a lock and
//! without unpacking to disk. A compressed archive has no random access, so it is unpacked into memory. Beside one archive
//! with everything, a directory that holds `train.tar` and `val.tar` is understood, by any of the [names of parts](Part).

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::arrangement::NamedPart;
use crate::folder;
use crate::layout::{Labelled, Listing, entries_below, is_image_name};
use crate::left_out::{FIRST_BYTES, LeftOut, advised, is_meant};
use crate::measure::MeasuredSet;
use crate::name::{path_text, text};
use crate::part::Part;
use crate::source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError, shortened};

/// A compressed archive may not unpack to more, since it is held in memory.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;
const BLOCK: u64 = 512;

/// Symbolic links that lead to further links: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Links may stand for at most as many files as this and ten for each entry: a few links to folders of links could stand for any number.
const MAX_LINKED: usize = 10_000;
const MAX_LINKED_PER_ENTRY: usize = 10;

/// Files are compared in pieces of this size.
const COMPARED_BYTES: u64 = 1 << 16;

/// What an entry of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarKind {
    /// A file with content of its own.
    File,
    /// A folder.
    Dir,
    /// Another name of the file with this path in the archive.
    HardLink(String),
    /// A path relative to the folder of the entry.
    SymbolicLink(String),
    /// A pipe or a device.
    Special,
}

/// Where the content of one file lies in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Path in the archive, with `/` between the names.
    pub path: String,
    /// What it is.
    pub kind: TarKind,
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

/// Lists the entries of an archive, or of several that were joined one after the other.
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
    // Zeros end an archive, and `cat a.tar b.tar` puts another one after them.
    archive.set_ignore_zeros(true);
    let entries = archive.entries_with_seek().map_err(|error| damaged(0, error.to_string()))?;
    let mut found = Vec::new();
    let mut end = 0;
    for entry in entries {
        let entry = entry.map_err(|error| damaged(end, error.to_string()))?;
        let header = entry.raw_header_position();
        let (offset, len) = (entry.raw_file_position(), entry.size());
        let path = text(&entry.path_bytes());
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
        let target = || text(&entry.link_name_bytes().unwrap_or_default());
        let kind = match kind {
            kind if kind.is_file() || kind.is_contiguous() => TarKind::File,
            kind if kind.is_dir() => TarKind::Dir,
            kind if kind.is_hard_link() => TarKind::HardLink(target()),
            kind if kind.is_symlink() => TarKind::SymbolicLink(target()),
            kind if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() => TarKind::Special,
            // Volume labels and records of other programs.
            _ => continue,
        };
        found.push(TarEntry { path, kind, offset, len });
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
        format!("{}/{}", path_text(&self.archive.path), self.images[index].0.path)
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
    /// Opens an archive that holds a whole data set.
    fn open(path: &Path, options: &OpenOptions) -> Result<(Arc<Self>, Listing<TarEntry>), SourceError> {
        Self::open_as(path, false, options)
    }

    /// Opens an archive that holds one part of a data set. Messages and patterns name it as a folder of the data set.
    fn open_part(path: &Path, options: &OpenOptions) -> Result<(Arc<Self>, Listing<TarEntry>), SourceError> {
        Self::open_as(path, true, options)
    }

    fn open_as(
        path: &Path,
        is_part: bool,
        options: &OpenOptions,
    ) -> Result<(Arc<Self>, Listing<TarEntry>), SourceError> {
        let read_error = |error| SourceError::read(path, error);
        let file = File::open(path).map_err(read_error)?;
        let damaged = |error: TarError| SourceError::DamagedTar {
            path: path.to_owned(),
            offset: error.offset,
            reason: error.reason,
        };
        // An archive may have any name, so its content decides.
        let (entries, content) = if !is_gzip(&file).map_err(read_error)? {
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
        let archive = Self { path: path.to_owned(), content };
        let mut listing =
            list(entries, path_text(path), |one, other| archive.are_equal(one, other)).map_err(damaged)?;
        if is_part {
            listing.prefix = format!("{}/", file_name(path));
        }
        let first_bytes = |entry: &TarEntry| {
            let bytes = archive.read_at(entry.offset, entry.len.min(FIRST_BYTES));
            bytes.unwrap_or_default()
        };
        let listing = listing.without_linked(|entry| Some((entry.offset, entry.len)));
        let listing = listing.find_pictures(first_bytes).without_common_top(is_part).without(&options.leave_out);
        Ok((Arc::new(archive), listing))
    }

    /// Whether two entries have the same content.
    fn are_equal(&self, one: &TarEntry, other: &TarEntry) -> bool {
        let pieces = || (0..one.len).step_by(COMPARED_BYTES as usize);
        let piece =
            |entry: &TarEntry, from: u64| self.read_at(entry.offset + from, COMPARED_BYTES.min(entry.len - from)).ok();
        let are_equal = |from| piece(one, from).is_some_and(|bytes| piece(other, from) == Some(bytes));
        one.len == other.len && (one.offset == other.offset || pieces().all(are_equal))
    }

    fn read_at(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        // The index has checked that offset + len lies within the archive, whose size fits into memory or a file.
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

/// Whether a file begins like one of gzip.
fn is_gzip(mut file: &File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.take(2).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(magic == [0x1f, 0x8b])
}

/// A path without empty names and `.`, and with `..` resolved. None if it leads out of the archive.
fn inside(path: &str) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// The files and folders of an archive, with links followed to what is in it. `are_equal` compares the content of two files.
fn list(
    entries: Vec<TarEntry>,
    root: String,
    are_equal: impl Fn(&TarEntry, &TarEntry) -> bool,
) -> Result<Listing<TarEntry>, TarError> {
    let max_linked = MAX_LINKED + MAX_LINKED_PER_ENTRY * entries.len();
    let mut listing = Listing::new(root);
    let mut files: BTreeMap<String, TarEntry> = BTreeMap::new();
    let mut links: BTreeMap<String, TarEntry> = BTreeMap::new();
    for mut entry in entries {
        let Some(path) = inside(&entry.path).filter(|path| !path.is_empty()) else {
            if entry.kind != TarKind::Dir {
                listing.left_out.add_link(entry.path);
            }
            continue;
        };
        entry.path.clone_from(&path);
        // A hard link stands for what the file is at this place of the archive.
        if let TarKind::HardLink(target) = &entry.kind
            && let Some(file) = inside(target).and_then(|target| files.get(&target))
        {
            entry = TarEntry { path: path.clone(), ..file.clone() };
        }
        // Of two entries with the same path the later one counts, as if the archive was unpacked.
        let replaced = match &entry.kind {
            TarKind::Dir => {
                listing.add_dir(&path);
                None
            }
            TarKind::File => {
                links.remove(&path);
                let replaced = files.insert(path.clone(), entry.clone());
                replaced.map(|replaced| !are_equal(&replaced, &entry))
            }
            TarKind::HardLink(_) | TarKind::SymbolicLink(_) => {
                let replaced = files.remove(&path);
                links.insert(path.clone(), entry);
                replaced.map(|_| true)
            }
            TarKind::Special => {
                listing.left_out.add_special(path.as_str());
                files.remove(&path).map(|_| true)
            }
        };
        if let Some(is_other) = replaced
            && listing.left_out.add_passed_over(&path).is_none()
        {
            listing.left_out.add_replaced(path.as_str(), is_other && is_image_name(&path));
        }
    }
    let mut linked = Links { files: &files, links: &links, left: max_linked, through: Vec::new() };
    for path in links.keys() {
        linked.add(&mut listing, path, path)?;
    }
    for (path, file) in files {
        listing.add_file(&path, file);
    }
    Ok(listing)
}

/// The links of an archive and what they stand for.
struct Links<'a> {
    files: &'a BTreeMap<String, TarEntry>,
    links: &'a BTreeMap<String, TarEntry>,
    /// How many more files and links they may stand for.
    left: usize,
    /// The links that are being followed, one in the folder that the other stands for.
    through: Vec<String>,
}

impl Links<'_> {
    /// Adds to a listing, at the path `shown`, what a link stands for.
    fn add(&mut self, listing: &mut Listing<TarEntry>, shown: &str, link: &str) -> Result<(), TarError> {
        self.count(link)?;
        let (files, links) = (self.files, self.links);
        let Some(target) = follow(link, links) else {
            listing.add_link(shown);
            return Ok(());
        };
        if let Some(file) = files.get(&target) {
            listing.add_file(shown, TarEntry { path: shown.to_owned(), ..file.clone() });
            return Ok(());
        }
        // A link to a folder stands for all that lies in it. A link to a folder that contains it would have no end, and so would one to a
        // folder that contains a link on the way to it.
        let folder = format!("{target}/");
        self.through.push(link.to_owned());
        let is_circle = target.is_empty() || self.through.iter().any(|link| link.starts_with(&folder));
        if is_circle || self.through.len() > MAX_LINKS {
            listing.left_out.add_circle(shown);
        } else if entries_below(files, &folder).next().is_some() || entries_below(links, &folder).next().is_some() {
            for (rest, file) in entries_below(files, &folder) {
                self.count(link)?;
                let path = format!("{shown}/{rest}");
                listing.add_file(&path, TarEntry { path: path.clone(), ..file.clone() });
            }
            for (rest, _) in entries_below(links, &folder) {
                self.add(listing, &format!("{shown}/{rest}"), &format!("{folder}{rest}"))?;
            }
        } else if listing.dirs.contains(&target) {
            listing.add_dir(shown);
        } else {
            listing.add_link(shown);
        }
        self.through.pop();
        Ok(())
    }

    fn count(&mut self, link: &str) -> Result<(), TarError> {
        let too_many = || TarError {
            offset: self.links.get(link).map_or(0, |link| link.offset),
            reason: format!("the links to folders stand for too many files, for instance `{link}`: remove these links"),
        };
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}

/// Where a path leads if all links on the way are followed. None if it leads out of the archive or into a loop.
fn follow(path: &str, links: &BTreeMap<String, TarEntry>) -> Option<String> {
    let mut path = path.to_owned();
    let mut seen = HashSet::new();
    while seen.len() < MAX_LINKS && seen.insert(path.clone()) {
        // The first name of the path that is a link.
        let ends = path.match_indices('/').map(|(place, _)| place).chain([path.len()]);
        let Some((end, link)) = ends.into_iter().find_map(|end| Some((end, links.get(&path[..end])?))) else {
            return Some(path);
        };
        let rest = &path[end..];
        path = match &link.kind {
            TarKind::SymbolicLink(target) if !target.starts_with('/') => {
                let folder = path[..end].rsplit_once('/').map_or("", |(folder, _)| folder);
                inside(&format!("{folder}/{target}{rest}"))?
            }
            // The target of a hard link starts from the root of the archive.
            TarKind::HardLink(target) => inside(&format!("{target}{rest}"))?,
            _ => return None,
        };
    }
    None
}

impl TarSource {
    /// Whether a directory holds the parts of a data set as archives. Folders of images count for more, except beside a `train.tar`.
    pub(crate) fn is_tar_dir(dir: &Path, options: &OpenOptions) -> bool {
        let archives = Archives::find(dir, &options.leave_out);
        let is_train = |path: &Path| ["train.tar", "train.tar.gz", "train.tgz"].contains(&file_name(path).as_str());
        let holds_images = || {
            let listing = folder::list_readable(dir, options);
            listing.is_ok_and(|listing| listing.tops_below("").iter().any(|top| top.has_images))
        };
        !archives.parts.is_empty() && (archives.parts.iter().any(|(_, path)| is_train(path)) || !holds_images())
    }

    /// What to say about archives that are not read because folders of images lie beside them.
    pub(crate) fn not_read_warning(dir: &Path, options: &OpenOptions) -> Option<String> {
        let names: Vec<String> =
            Archives::find(dir, &options.leave_out).parts.iter().map(|(_, path)| file_name(path)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "`{}` holds archives beside the folders, and only the folders are read: {}",
                dir.display(),
                shortened(&names)
            )
        })
    }

    /// Opens an archive, or a directory of archives.
    pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
        if path.is_dir() {
            return Self::open_dir(path, options);
        }
        let (archive, listing) = TarFile::open(path, options)?;
        let layout = listing.layout(options)?;
        let source = |images| -> Arc<dyn ImageSource> { Arc::new(Self { archive: Arc::clone(&archive), images }) };
        Ok(DataSet {
            train: source(layout.train),
            val: source(layout.val),
            description: format!("tar archive `{}`, {}", path.display(), layout.split),
            classes: layout.classes,
            warnings: layout.warnings,
            left_out: layout.left_out,
            has_own_split: layout.has_own_split,
            known_readable: false,
        })
    }

    fn open_dir(dir: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
        let TarDir { parts, mut warnings, mut left_out } = TarDir::open(dir, options)?;
        let (train, held_out): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(part, _)| *part == Part::Train);
        let train = match train.as_slice() {
            [] => return Err(SourceError::NotFound { path: dir.join("train.tar") }),
            [(_, train)] => train,
            [(_, one), (_, other), ..] => {
                let names = [one, other].map(|path| file_name(path));
                return Err(SourceError::TwoTrainParts { path: path_text(dir), names });
            }
        };
        if held_out.is_empty() {
            let mut set = Self::open(train, options)?;
            set.warnings.extend(warnings);
            set.left_out.extend(left_out);
            set.left_out.check(&path_text(dir), set.train.len() + set.val.len())?;
            return Ok(set);
        }
        let (train_archive, train) = TarFile::open_part(train, options)?;
        let mut val: Option<(Part, Arc<TarFile>, Listing<TarEntry>)> = None;
        for (part, path) in held_out {
            if let Some((_, kept, listing)) = &val
                && !listing.images.is_empty()
            {
                let kept = file_name(&kept.path);
                warnings.push(format!("`{}` is not used because `{kept}` is there", path.display()));
                continue;
            }
            let (archive, listing) = TarFile::open_part(&path, options)?;
            if let Some((_, empty, _)) = val.replace((part, archive, listing)) {
                warnings.push(format!("`{}` holds no images and is skipped", empty.path.display()));
            }
        }
        let part = |part, listing: Listing<TarEntry>| NamedPart { part, name: listing.root.clone(), listing };
        let mut parts = vec![part(Part::Train, train)];
        let val_archive = val.map(|(of, archive, listing)| {
            parts.push(part(of, listing));
            archive
        });
        parts.iter().for_each(|part| left_out.extend(part.listing.left_out()));
        let layout = Listing::layout_of(parts, options, &path_text(dir), &mut left_out)?;
        left_out.check(&path_text(dir), layout.train.len() + layout.val.len())?;
        warnings.splice(0..0, layout.warnings);
        let val_archive = val_archive.unwrap_or_else(|| Arc::clone(&train_archive));
        Ok(DataSet {
            train: Arc::new(Self { archive: train_archive, images: layout.train }),
            val: Arc::new(Self { archive: val_archive, images: layout.val }),
            description: format!("tar archives in `{}`, {}", dir.display(), layout.split),
            classes: layout.classes,
            warnings,
            left_out,
            has_own_split: layout.has_own_split,
            known_readable: false,
        })
    }

    /// Opens an archive, or a directory of archives, to measure a model on.
    pub(crate) fn measure(path: &Path, options: &OpenOptions) -> Result<MeasuredSet, SourceError> {
        if !path.is_dir() {
            return Self::measure_archive(path, None, options);
        }
        let TarDir { parts: archives, warnings, left_out } = TarDir::open(path, options)?;
        if let [(part, archive)] = archives.as_slice() {
            let mut set = Self::measure_archive(archive, Some(*part), options)?;
            set.warnings.extend(warnings);
            set.left_out.extend(left_out);
            set.left_out.check(&path_text(path), set.images().len())?;
            return Ok(set);
        }
        let (mut sources, mut parts, mut left_out) = (Vec::new(), Vec::new(), left_out);
        for (part, path) in archives {
            let (archive, listing) = TarFile::open_part(&path, options)?;
            left_out.extend(listing.left_out());
            parts.push(NamedPart { part, name: listing.root.clone(), listing });
            sources.push(archive);
        }
        let measured = Listing::measured_parts(parts, warnings, &path_text(path), left_out)?;
        let description = format!("tar archives in `{}`", path.display());
        Ok(MeasuredSet::new(measured, description, |place, images| {
            Arc::new(Self { archive: Arc::clone(&sources[place]), images })
        }))
    }

    /// Opens an archive to measure a model on. `part` is the part that its name says, which counts if there are no parts in it.
    fn measure_archive(path: &Path, part: Option<Part>, options: &OpenOptions) -> Result<MeasuredSet, SourceError> {
        let (archive, listing) = TarFile::open(path, options)?;
        let mut measured = listing.measured()?;
        measured.parts.iter_mut().for_each(|(found, _)| *found = found.or(part));
        let description = format!("tar archive `{}`", path.display());
        Ok(MeasuredSet::new(measured, description, |_, images| {
            Arc::new(Self { archive: Arc::clone(&archive), images })
        }))
    }
}

/// The name of a file without its folder.
fn file_name(path: &Path) -> String {
    path_text(Path::new(path.file_name().unwrap_or_default()))
}

/// The name of an archive without its ending, and whether it is compressed. None if its name is not that of an archive.
fn stem(name: &str) -> Option<(&str, bool)> {
    let lower = name.to_ascii_lowercase();
    let ending = [".tar", ".tar.gz", ".tgz"].into_iter().find(|ending| lower.ends_with(ending))?;
    Some((&name[..name.len() - ending.len()], ending != ".tar"))
}

/// The archives in a directory, by their names.
struct Archives {
    /// Those that are called like parts of a data set, the preferred ones first.
    parts: Vec<(Part, PathBuf)>,
    /// Those that are not.
    others: Vec<PathBuf>,
    /// Compressed ones that lie beside others of the same name.
    packed: Vec<PathBuf>,
}

impl Archives {
    fn find(dir: &Path, leave_out: &[String]) -> Self {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort_unstable();
        let (mut stems, mut packed): (BTreeMap<String, PathBuf>, _) = (BTreeMap::new(), Vec::new());
        for path in paths {
            let name = file_name(&path);
            let Some((stem, is_packed)) = stem(&name) else { continue };
            let is_asked = leave_out.iter().any(|pattern| is_meant(pattern, &name));
            if is_asked || name.starts_with('.') || !path.is_file() {
                continue;
            }
            // The plain archive is the faster one.
            if is_packed && stems.contains_key(stem) {
                packed.push(path);
            } else {
                packed.extend(stems.insert(stem.to_owned(), path));
            }
        }
        let named = Part::among(stems.keys().map(String::as_str));
        let mut parts: Vec<NamedPart<()>> = named
            .iter()
            .map(|(&name, &part)| NamedPart { part, name: name.to_owned(), listing: Listing::new(String::new()) })
            .collect();
        NamedPart::sort(&mut parts);
        let parts = parts.into_iter().filter_map(|part| Some((part.part, stems.remove(&part.name)?))).collect();
        Self { parts, others: stems.into_values().collect(), packed }
    }
}

/// A data set whose parts are archives in a directory.
struct TarDir {
    /// The preferred ones first.
    parts: Vec<(Part, PathBuf)>,
    warnings: Vec<String>,
    /// What lies beside the archives.
    left_out: LeftOut,
}

impl TarDir {
    fn open(dir: &Path, options: &OpenOptions) -> Result<Self, SourceError> {
        let Archives { parts, others, packed } = Archives::find(dir, &options.leave_out);
        // An archive without images, such as one of annotations, is like any other file beside the parts.
        let holds_images =
            |path: &&PathBuf| TarFile::open(path, options).map_or(true, |(_, listing)| !listing.images.is_empty());
        let others: Vec<String> = others.iter().filter(holds_images).map(|path| file_name(path)).collect();
        if !parts.is_empty() && !others.is_empty() {
            return Err(SourceError::OtherArchives {
                path: path_text(dir),
                parts: shortened(&parts.iter().map(|(_, path)| file_name(path)).collect::<Vec<_>>()),
                others: shortened(&others).into(),
                patterns: advised(others.iter().map(|name| format!("/{name}"))).into(),
            });
        }
        let beside = folder::list_readable(dir, options)?;
        let read: HashSet<String> = parts.iter().map(|(_, path)| file_name(path)).collect();
        let mut warnings: Vec<String> = packed
            .iter()
            .map(|path| format!("`{}` is not used because an archive of the same name is there", path.display()))
            .collect();
        let folders: Vec<String> =
            beside.tops_below("").iter().filter(|top| top.has_images).map(|top| top.name.to_owned()).collect();
        if !folders.is_empty() {
            warnings.push(format!(
                "`{}` holds folders of images beside the archives, and only the archives are read: {}",
                dir.display(),
                shortened(&folders)
            ));
        }
        let mut left_out = LeftOut::default();
        for path in beside.images.keys() {
            if path.contains('/') {
                left_out.add_beside_archives(path.as_str());
            } else {
                left_out.add_loose(path.as_str());
            }
        }
        left_out.extend(beside.left_out_but(|path| read.contains(path)));
        Ok(Self { parts, warnings, left_out })
    }
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

    /// A file with its content, or a link.
    enum Made<'a> {
        File(&'a str),
        Hard(&'a str),
        Soft(&'a str),
    }
    use Made::{File as Plain, Hard, Soft};

    fn archive_of(entries: &[(&str, Made<'_>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, made) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            match made {
                Plain(content) => {
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, path, content.as_bytes()).unwrap();
                }
                Hard(target) => {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, path, target).unwrap();
                }
                Soft(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target).unwrap();
                }
            }
        }
        builder.into_inner().unwrap()
    }

    /// Path and content of each image of an archive, and what is left out.
    type Read = (Vec<(String, String)>, Option<String>);

    /// What an archive is read as, or the error. The patterns are those of `leave_out`.
    fn read(bytes: &[u8], leave_out: &[&str]) -> Result<Read, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar");
        fs::write(&path, bytes).unwrap();
        let leave_out = leave_out.iter().map(|&pattern| pattern.to_owned()).collect();
        let options = OpenOptions { path: Some(path.clone()), val_fraction: 0.0, leave_out, ..OpenOptions::default() };
        let set = DataSet::open(&options)
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))?;
        let prefix = format!("{}/", path.display());
        let image = |index| (set.train.name(index).replace(&prefix, ""), content(set.train.as_ref(), index));
        Ok(((0..set.train.len()).map(image).collect(), set.left_out.line()))
    }

    fn pairs(images: &[(&str, &str)]) -> Vec<(String, String)> {
        images.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn links_stand_for_the_files_and_folders_that_they_lead_to() {
        let set = archive_of(&[
            ("a/1.png", Plain("one")),
            ("a/2.png", Plain("two")),
            ("b/hard.png", Hard("a/1.png")),
            ("b/soft.png", Soft("../a/2.png")),
            ("b/chain.png", Soft("soft.png")),
            ("b/early.png", Hard("b/late.png")),
            ("b/late.png", Plain("late")),
            ("c", Soft("a")),
            ("d/through.png", Soft("../c/1.png")),
        ]);
        let (images, left_out) = read(&set, &[]).unwrap();
        assert_eq!(
            images,
            pairs(&[
                ("a/1.png", "one"),
                ("a/2.png", "two"),
                ("b/chain.png", "two"),
                ("b/early.png", "late"),
                ("b/hard.png", "one"),
                ("b/late.png", "late"),
                ("b/soft.png", "two"),
                ("c/1.png", "one"),
                ("c/2.png", "two"),
                ("d/through.png", "one"),
            ])
        );
        assert_eq!(left_out, None);
    }

    #[test]
    fn a_link_to_a_folder_stands_for_the_links_in_it_too() {
        let set = archive_of(&[
            ("a/1.png", Plain("one")),
            ("a/2.png", Soft("1.png")),
            ("a/more", Soft("../s")),
            ("s/3.png", Plain("three")),
            ("s/4.png", Hard("a/1.png")),
            ("c", Soft("./a/")),
        ]);
        let (images, left_out) = read(&set, &[]).unwrap();
        let images: Vec<String> = images.into_iter().map(|(path, content)| format!("{path} {content}")).collect();
        assert_eq!(
            images,
            [
                "a/1.png one",
                "a/2.png one",
                "a/more/3.png three",
                "a/more/4.png one",
                "c/1.png one",
                "c/2.png one",
                "c/more/3.png three",
                "c/more/4.png one",
                "s/3.png three",
                "s/4.png one"
            ]
        );
        assert_eq!(left_out, None);
    }

    #[test]
    fn a_hidden_folder_may_keep_what_the_classes_show() {
        let mut entries = vec![(".pool/1.png", Plain("one")), (".pool/2.png", Plain("two"))];
        entries.extend([("a/1.png", Hard(".pool/1.png")), ("b/2.png", Soft("../.pool/2.png"))]);
        let (images, left_out) = read(&archive_of(&entries), &[]).unwrap();
        assert_eq!(images, pairs(&[("a/1.png", "one"), ("b/2.png", "two")]));
        assert_eq!(left_out.unwrap(), "left out: 1 hidden file or folder");
        entries.push((".pool/3.png", Plain("three")));
        assert!(read(&archive_of(&entries), &[]).unwrap_err().contains("1 image of `.pool`"));
    }

    #[test]
    fn links_that_lead_round_in_a_circle_end() {
        let set = archive_of(&[
            ("a/1.png", Plain("one")),
            ("a/b", Soft("../b")),
            ("a/up", Soft("..")),
            ("b/2.png", Plain("two")),
            ("b/a", Soft("../a")),
        ]);
        let (images, left_out) = read(&set, &[]).unwrap();
        let paths: Vec<&str> = images.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a/1.png", "a/b/2.png", "b/2.png", "b/a/1.png"]);
        assert_eq!(left_out.unwrap(), "left out: 4 links to a folder that contains it");
    }

    #[test]
    fn links_that_cannot_be_followed_are_a_loss_unless_they_are_left_out() {
        let set = archive_of(&[
            ("a/1.png", Plain("one")),
            ("b/1.png", Plain("one")),
            ("b/out.png", Soft("../../out.png")),
            ("b/root.png", Soft("/etc/1.png")),
            ("b/x.png", Soft("y.png")),
            ("b/y.png", Soft("x.png")),
            ("b/none.png", Hard("b/nothing.png")),
        ]);
        assert_eq!(
            read(&set, &[]).unwrap_err(),
            "5 of the 7 pictures in `DIR/set.tar` would be left out: 5 links that cannot be followed; the first is `b/none.png`. Fix them, \
             or leave them out with `data.leave_out = [\"/b/none.png\", \"/b/out.png\", \"/b/root.png\", \"/b/x.png\", \"/b/y.png\"]`"
        );
        let patterns = ["/b/none.png", "/b/out.png", "/b/root.png", "/b/x.png", "/b/y.png"];
        let (images, left_out) = read(&set, &patterns).unwrap();
        assert_eq!((images.len(), left_out.unwrap().as_str()), (2, "left out: 5 files or folders as requested"));
    }

    #[test]
    fn a_few_links_cannot_stand_for_any_number_of_files() {
        let names: Vec<(String, String)> = (1..8)
            .flat_map(|level| (0..10).map(move |link| (format!("d{level}/{link}"), format!("../d{}", level - 1))))
            .collect();
        let mut entries = vec![("d0/1.png", Plain("one"))];
        entries.extend(names.iter().map(|(path, target)| (path.as_str(), Soft(target))));
        let error = read(&archive_of(&entries), &[]).unwrap_err();
        assert!(error.starts_with("`DIR/set.tar` is damaged at byte "), "{error}");
        assert!(error.contains("stand for too many files"), "{error}");
    }

    #[test]
    fn a_joined_archive_is_read_whole_and_what_it_replaces_is_a_loss() {
        let first = archive_of(&[("a/1.png", Plain("one")), ("b/2.png", Plain("two")), ("b/notes.txt", Plain("x"))]);
        let second = archive_of(&[("a/1.png", Plain("one")), ("a/3.png", Plain("three")), ("b/notes.txt", Plain("y"))]);
        let (images, left_out) = read(&[first.clone(), second].concat(), &[]).unwrap();
        assert_eq!(images, pairs(&[("a/1.png", "one"), ("a/3.png", "three"), ("b/2.png", "two")]));
        assert_eq!(
            left_out.unwrap(),
            "left out: 1 file ending in `.txt`, 2 files that a later entry of the archive repeats"
        );
        for other in ["eno", "longer"] {
            let error = read(&[first.clone(), archive_of(&[("a/1.png", Plain(other))])].concat(), &[]).unwrap_err();
            assert!(error.contains("1 image that a later entry of the archive replaces with other content"), "{error}");
        }
    }

    #[test]
    fn a_compressed_archive_is_known_by_its_content() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&archive(&PARTS)).unwrap();
        let packed = encoder.finish().unwrap();
        for name in ["set.tar", "set", "set.backup"] {
            assert_eq!(open(name, &packed).unwrap().train.len(), 2, "{name}");
        }
        assert_eq!(open("set", &archive(&PARTS)).unwrap().train.len(), 2);
    }

    #[test]
    fn pictures_without_an_ending_are_known_by_their_content() {
        let set = archive_of(&[
            ("a/1.png", Plain("one")),
            ("b/1.png", Plain("two")),
            ("b/photo", Plain("GIF89a and so on")),
            ("LICENSE", Plain("words")),
        ]);
        let error = read(&set, &[]).unwrap_err();
        assert!(error.contains("1 picture whose name has no ending"), "{error}");
        let (_, left_out) = read(&set, &["/b/photo"]).unwrap();
        assert_eq!(left_out.unwrap(), "left out: 1 file without an ending, 1 file or folder as requested");
    }

    #[test]
    fn what_lies_beside_the_only_folder_is_counted_and_patterns_know_both_roots() {
        let set = archive(&["my-set/a/1.png", "my-set/b/1.png", "my-set/b/1.tif", "README", "my-set/.x"]);
        let error = read(&set, &[]).unwrap_err();
        assert!(error.contains("1 file ending in `.tif`"), "{error}");
        for pattern in ["/my-set/b/1.tif", "/b/1.tif", "*.tif"] {
            let (images, left_out) = read(&set, &[pattern]).unwrap();
            assert_eq!(
                (images.len(), left_out.unwrap().as_str()),
                (2, "left out: 1 file without an ending, 1 hidden file or folder, 1 file or folder as requested")
            );
        }
    }

    /// A directory with these files.
    fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn options(dir: &tempfile::TempDir, leave_out: &[&str]) -> OpenOptions {
        let leave_out = leave_out.iter().map(|&pattern| pattern.to_owned()).collect();
        OpenOptions { path: Some(dir.path().to_owned()), val_fraction: 0.0, leave_out, ..OpenOptions::default() }
    }

    fn error(dir: &tempfile::TempDir) -> String {
        let error = DataSet::open(&options(dir, &[])).unwrap_err().to_string();
        let measured = MeasuredSet::open(&options(dir, &[])).err().map(|error| error.to_string());
        assert_eq!(measured.as_deref(), Some(error.as_str()), "training and measuring see the same");
        error.replace(&dir.path().display().to_string(), "DIR")
    }

    /// An archive with an image of each class.
    fn classes(names: &[&str]) -> Vec<u8> {
        let paths: Vec<String> = names.iter().map(|name| format!("{name}/1.png")).collect();
        archive(&paths.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn archives_are_parts_by_any_of_their_names() {
        for (train, held_out) in [
            ("Training.tar", "Testing.tar"),
            ("TRAIN.TAR", "dev.tar"),
            ("seg_train.tar", "seg_test.tar"),
            ("images_train.tar", "images_val.tar"),
            ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
        ] {
            let dir = directory(&[(train, classes(&["a", "b"])), (held_out, classes(&["a", "b"]))]);
            let set = DataSet::open(&options(&dir, &[])).unwrap();
            assert_eq!((set.train.len(), set.val.len()), (2, 2), "{train} {held_out}");
            let measured = MeasuredSet::open(&options(&dir, &[])).unwrap();
            assert_eq!((measured.images().len(), measured.parts.len()), (4, 2), "{train} {held_out}");
        }
    }

    #[test]
    fn archives_that_belong_to_no_part_are_an_error_that_names_them() {
        let shards = ["train-000.tar", "train-001.tar", "val-000.tar"].map(|name| (name, classes(&["a", "b"])));
        let dir = directory(&shards);
        assert_eq!(
            error(&dir),
            "`DIR` holds `train-000.tar`, `val-000.tar`, which are named like parts of a data set, beside `train-001.tar`: if the archives \
             belong together, join those of each part, as in `cat train-*.tar > train.tar`, and move the pieces away; otherwise leave them \
             out with `data.leave_out = [\"/train-001.tar\"]`"
        );
        let set = DataSet::open(&options(&dir, &["/train-001.tar"])).unwrap();
        assert_eq!(
            (set.train.len(), set.left_out.line().unwrap().as_str()),
            (2, "left out: 1 file or folder as requested")
        );
        // One without images is like any other file.
        let dir = directory(&[("train.tar", classes(&["a", "b"])), ("labels.tar", archive(&["1.json"]))]);
        let set = DataSet::open(&options(&dir, &[])).unwrap();
        assert_eq!(set.left_out.line().unwrap(), "left out: 1 file ending in `.tar`");
    }

    #[test]
    fn folders_of_images_count_for_more_than_archives_except_beside_a_train_tar() {
        let folders = || [("a/1.png", b"one".to_vec()), ("b/1.png", b"two".to_vec())];
        for (name, is_archive) in [("train.tar", true), ("Training.tar", false), ("test.tar", false)] {
            let mut files = folders().to_vec();
            files.push((name, classes(&["c", "d"])));
            let dir = directory(&files);
            let (set, measured) =
                (DataSet::open(&options(&dir, &[])).unwrap(), MeasuredSet::open(&options(&dir, &[])).unwrap());
            let expected = if is_archive { ["c", "d"] } else { ["a", "b"] };
            assert_eq!(
                (&set.classes[..], &measured.classes[..]),
                (&expected.map(str::to_owned)[..], &expected.map(str::to_owned)[..])
            );
            let words =
                if is_archive { "only the archives are read: `a`, `b`" } else { "only the folders are read: `" };
            for warnings in [&set.warnings, &measured.warnings] {
                assert!(warnings.iter().any(|warning| warning.contains(words)), "{name}: {warnings:?}");
            }
            let line = set.left_out.line().unwrap();
            let told = if is_archive { "2 images in folders beside the archives" } else { "1 file ending in `.tar`" };
            assert_eq!(line, format!("left out: {told}"));
        }
        // Folders without images do not.
        let dir = directory(&[("Training.tar", classes(&["a", "b"])), ("docs/notes.txt", b"words".to_vec())]);
        let set = DataSet::open(&options(&dir, &[])).unwrap();
        assert_eq!((set.train.len(), set.left_out.line().unwrap().as_str()), (2, "left out: 1 file ending in `.txt`"));
    }

    #[test]
    fn images_beside_archives_are_a_loss() {
        let dir = directory(&[
            ("train.tar", classes(&["a", "b"])),
            ("val.tar", classes(&["a", "b"])),
            ("1.png", b"one".to_vec()),
        ]);
        assert!(error(&dir).contains("1 of the 5 pictures in `DIR`"), "{}", error(&dir));
        let set = DataSet::open(&options(&dir, &["/1.png"])).unwrap();
        assert_eq!((set.train.len(), set.val.len()), (2, 2));
    }

    #[test]
    fn patterns_name_what_is_in_one_of_the_archives() {
        let dir = directory(&[
            ("train.tar", archive(&["a/1.png", "b/1.png", "b/1.tif"])),
            ("val.tar", archive(&["a/1.png", "b/1.png", "1.png"])),
        ]);
        let error = error(&dir);
        assert!(error.contains("data.leave_out = [\"*.tif\", \"/val.tar/*.png\"]"), "{error}");
        let set = DataSet::open(&options(&dir, &["*.tif", "/val.tar/*.png"])).unwrap();
        assert_eq!((set.train.len(), set.val.len()), (2, 2));
    }

    #[test]
    fn parts_in_an_archive_of_a_part_are_an_error() {
        let dir = directory(&[("train.tar", archive(&PARTS)), ("val.tar", classes(&["cat", "dog"]))]);
        assert!(
            error(&dir).starts_with("`DIR/train.tar` is a part of a data set but holds the folders"),
            "{}",
            error(&dir)
        );
        // Alone it is the whole data set, in measuring too.
        let dir = directory(&[("train.tar", archive(&PARTS))]);
        let (set, measured) =
            (DataSet::open(&options(&dir, &[])).unwrap(), MeasuredSet::open(&options(&dir, &[])).unwrap());
        assert_eq!((set.train.len(), set.val.len(), set.has_own_split), (2, 1, true));
        assert_eq!(measured.part(Part::Val).unwrap().len(), 1);
        let dir = directory(&[("test.tar", classes(&["cat"]))]);
        assert_eq!(MeasuredSet::open(&options(&dir, &[])).unwrap().part(Part::Test).unwrap().len(), 1);
    }

    #[test]
    fn an_archive_without_images_gives_way_to_another_one_of_its_side() {
        let dir = directory(&[
            ("train.tar", classes(&["a", "b"])),
            ("val.tar", archive(&["notes.txt"])),
            ("test.tar", classes(&["a", "b"])),
        ]);
        let set = DataSet::open(&options(&dir, &[])).unwrap();
        assert!(set.description.contains("test.tar` for validation"), "{}", set.description);
        let measured = MeasuredSet::open(&options(&dir, &[])).unwrap();
        assert_eq!((measured.images().len(), measured.parts.len()), (4, 2));
        for warnings in [set.warnings, measured.warnings] {
            assert!(warnings.iter().any(|warning| warning.ends_with("val.tar` holds no images and is skipped")));
        }
    }

    #[test]
    fn an_archive_measures_like_the_folder_that_it_was_made_of() {
        for paths in [
            &["cat/1.png", "cat/deep/2.png"][..],
            &["cat/deep/1.png"],
            &["test/cat/1.png"],
            &["val/a/1.png", "test/a/1.png"],
            &["a/1.png", "b/deep/2.png"],
        ] {
            let files: Vec<(&str, Vec<u8>)> = paths.iter().map(|&path| (path, path.as_bytes().to_vec())).collect();
            let [folder, packed] = [directory(&files), directory(&[("set.tar", archive(paths))])];
            let mut of_archive = options(&packed, &[]);
            of_archive.path = Some(packed.path().join("set.tar"));
            let read = |options: &OpenOptions| {
                let set = MeasuredSet::open(options).unwrap();
                let parts: Vec<(Option<Part>, usize)> =
                    set.parts.iter().map(|part| (part.part, part.images.len())).collect();
                (set.classes, parts)
            };
            assert_eq!(read(&options(&folder, &[])), read(&of_archive), "{paths:?}");
        }
    }
}

//! Where images come from: the trait that every source fulfils, and the door that opens them all.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive::TarSource;
use crate::class_list::ClassListError;
use crate::decode::{DecodeError, DecodeLimits, FileKind, decode};
use crate::image::RgbImage;
use crate::left_out::LeftOut;
use crate::list::ListFault;
use crate::regroup::Picked;
use crate::{folder, idx, list, sample};

/// One image as its source has it.
#[derive(Clone, Debug)]
pub enum EncodedImage {
    /// The bytes of an image file.
    File(Vec<u8>),
    /// Pixels that need no decoding.
    Rgb(RgbImage),
}

/// A fixed list of labelled images with random access from any thread.
pub trait ImageSource: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class number of image `index`: its place in [`DataSet::classes`].
    ///
    /// Where images have several labels this is the first one, and 0 for an image without any; [`labels`](Self::labels) has them
    /// all.
    fn label(&self, index: usize) -> usize;

    /// All class numbers of image `index`, each once: a single one, unless the source [is multi-label](Self::is_multi_label).
    fn labels(&self, index: usize) -> Vec<usize> {
        vec![self.label(index)]
    }

    /// Whether an image may have any number of labels.
    fn is_multi_label(&self) -> bool {
        false
    }

    /// A name for messages, usually the path of the file.
    fn name(&self, index: usize) -> String;

    /// What decoding an image may ask for.
    fn limits(&self) -> DecodeLimits {
        DecodeLimits::default()
    }

    /// The image itself.
    ///
    /// # Errors
    ///
    /// [`SourceError`] where the bytes cannot be had. Whether they are an image shows in decoding.
    fn read(&self, index: usize) -> Result<EncodedImage, SourceError>;
}

/// The kinds of data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Look at the path and decide.
    #[default]
    Auto,
    /// A folder of class folders, with or without `train` and `val` above them.
    Folder,
    /// Such a folder in a tar archive.
    Tar,
    /// A directory of IDX files, the format of MNIST.
    Idx,
    /// A CSV, TSV or JSON file that names each image with its label or labels.
    List,
    /// The 3,600 images that are built into the program.
    #[serde(rename = "fashion-mnist-sample")]
    FashionMnistSample,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Folder => "folder",
            Self::Tar => "tar",
            Self::Idx => "idx",
            Self::List => "list",
            Self::FashionMnistSample => "fashion-mnist-sample",
        })
    }
}

/// What to open, and how to split what has no validation part of its own.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The kind, or [`SourceKind::Auto`].
    pub kind: SourceKind,
    /// The folder, archive or list. None for the built-in sample.
    pub path: Option<PathBuf>,
    /// The part of each class that becomes validation where the data set has no split of its own, 0 to below 1.
    pub val_fraction: f64,
    /// Decides which images those are.
    pub seed: u64,
    /// Files and folders of a folder, an archive or a list that are not taken, as patterns of `.gitignore` without `**` and `!`.
    pub leave_out: Vec<String>,
    /// Maximum number of pixels of an image, width times height, in place of the default of [`DecodeLimits`].
    pub max_pixels: Option<u64>,
}

impl Default for OpenOptions {
    /// Look what it is; a tenth for validation.
    fn default() -> Self {
        Self { kind: SourceKind::Auto, path: None, val_fraction: 0.1, seed: 0, leave_out: Vec::new(), max_pixels: None }
    }
}

/// A data set with its two parts.
#[derive(Clone)]
pub struct DataSet {
    /// Names of the classes; a label is a place in this list.
    pub classes: Vec<String>,
    /// The images to learn from.
    pub train: Arc<dyn ImageSource>,
    /// The images to measure on.
    pub val: Arc<dyn ImageSource>,
    /// One line: kind, path and rule of the split.
    pub description: String,
    /// What the user may want to know, one sentence each.
    pub warnings: Vec<String>,
    /// The files and folders that were left out.
    pub left_out: LeftOut,
    /// Whether the two parts are those that the data set came with, rather than drawn from one.
    pub has_own_split: bool,
    /// Whether every image was decoded once and was good; false if nobody has looked.
    pub known_readable: bool,
}

impl fmt::Debug for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSet")
            .field("classes", &self.classes)
            .field("train", &self.train.len())
            .field("val", &self.val.len())
            .field("description", &self.description)
            .field("warnings", &self.warnings)
            .field("left_out", &self.left_out)
            .field("has_own_split", &self.has_own_split)
            .field("known_readable", &self.known_readable)
            .finish()
    }
}

impl DataSet {
    /// Opens a data set: lists its images and checks its structure. No image is decoded.
    ///
    /// # Errors
    ///
    /// [`SourceError`], with a sentence for the person who chose the path.
    pub fn open(options: &OpenOptions) -> Result<Self, SourceError> {
        let mut data = Self::open_within_default_limits(options)?;
        limit(&mut data.train, options);
        limit(&mut data.val, options);
        Ok(data)
    }

    fn open_within_default_limits(options: &OpenOptions) -> Result<Self, SourceError> {
        let fraction = options.val_fraction;
        if !(0.0..1.0).contains(&fraction) {
            return Err(SourceError::ValFraction { fraction });
        }
        if options.kind == SourceKind::FashionMnistSample {
            return match &options.path {
                Some(path) => Err(SourceError::SampleHasNoPath { path: path.clone() }),
                None => sample::open(),
            };
        }
        let (form, path) = Form::find(options)?;
        match form {
            Form::Folder => folder::open(path, options),
            Form::Tar => TarSource::open(path, options),
            Form::Idx => idx::open(path, options),
            Form::List => list::open(path, options),
        }
    }

    /// The images of both parts, those to train on first.
    pub fn images(&self) -> Arc<dyn ImageSource> {
        Arc::new(Picked::all(vec![Arc::clone(&self.train), Arc::clone(&self.val)]))
    }

    /// A checksum of what a split holds: BLAKE3 of names and labels, all of them, in order, in hexadecimal.
    ///
    /// It shows a resumed run that images were added, removed or moved to another class. The folders that all names have in common are
    /// left out, so a data set may move. Pixels are not checked, so it costs little.
    pub fn fingerprint(split: &dyn ImageSource) -> String {
        let names: Vec<String> = (0..split.len()).map(|index| split.name(index)).collect();
        let common = common_folders(&names);
        let mut hasher = blake3::Hasher::new();
        for (index, name) in names.iter().enumerate() {
            let name = &name.as_bytes()[common..];
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            if split.is_multi_label() {
                let labels = split.labels(index);
                hasher.update(&(labels.len() as u64).to_le_bytes());
                for label in labels {
                    hasher.update(&(label as u64).to_le_bytes());
                }
            } else {
                hasher.update(&(split.label(index) as u64).to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A source whose images may be larger than by default.
struct Limited {
    source: Arc<dyn ImageSource>,
    limits: DecodeLimits,
}

impl ImageSource for Limited {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn label(&self, index: usize) -> usize {
        self.source.label(index)
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.source.labels(index)
    }

    fn is_multi_label(&self) -> bool {
        self.source.is_multi_label()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn limits(&self) -> DecodeLimits {
        self.limits
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        self.source.read(index)
    }
}

/// Gives a source the limits of the options, if they name any.
pub(crate) fn limit(source: &mut Arc<dyn ImageSource>, options: &OpenOptions) {
    if let Some(max_pixels) = options.max_pixels {
        let limits = DecodeLimits::with_max_pixels(max_pixels);
        *source = Arc::new(Limited { source: Arc::clone(source), limits });
    }
}

/// How a data set lies on the disk.
pub(crate) enum Form {
    Folder,
    Tar,
    Idx,
    List,
}

impl Form {
    /// What lies at the path of the options, and the path.
    pub(crate) fn find(options: &OpenOptions) -> Result<(Self, &Path), SourceError> {
        let path = options.path.as_deref().ok_or(SourceError::NoPath { kind: options.kind })?;
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SourceError::NotFound { path: path.to_owned() });
            }
            Err(error) => return Err(SourceError::read(path, error)),
        };
        let is_dir = metadata.is_dir();
        let form = match options.kind {
            SourceKind::Folder | SourceKind::Idx if !is_dir => {
                return Err(SourceError::NotAFolder { path: path.to_owned() });
            }
            SourceKind::List if is_dir => return Err(SourceError::NotAList { path: path.to_owned() }),
            SourceKind::Folder => Self::Folder,
            SourceKind::Idx => Self::Idx,
            SourceKind::Tar => Self::Tar,
            SourceKind::List => Self::List,
            _ if !is_dir && list::is_list_name(path) => Self::List,
            _ if !is_dir && is_tar(path) => Self::Tar,
            _ if !is_dir => return Err(SourceError::NotADataSet { path: path.to_owned(), kind: kind_of(path) }),
            _ if idx::is_idx_dir(path) => Self::Idx,
            _ if TarSource::is_tar_dir(path, options) => Self::Tar,
            _ => Self::Folder,
        };
        Ok((form, path))
    }
}

/// A number with its noun: `1 image`, `2 images`, `3 classes`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", plural(count as u64, noun))
}

/// What the noun of so many things ends in. Knows nouns like `image`, `class` and `batch`.
pub fn plural(count: u64, noun: &str) -> &'static str {
    match count {
        1 => "",
        _ if noun.ends_with('s') || noun.ends_with("tch") => "es",
        _ => "s",
    }
}

/// A number of bytes as a person reads it: `850 bytes`, `1.2 GB`.
pub fn size(bytes: u64) -> String {
    // Below this, the exact number is short enough.
    const EXACT: u64 = 10_000;
    if bytes < EXACT {
        return counted(bytes as usize, "byte");
    }
    let (unit, name) = match bytes {
        0..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}

/// The first few of many names, in backticks.
pub(crate) fn shortened(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}

/// How many bytes at the start are the same folders in all names.
fn common_folders(names: &[String]) -> usize {
    let Some((first, others)) = names.split_first() else { return 0 };
    let alike = others.iter().fold(first.len(), |alike, name| {
        let pairs = first.bytes().zip(name.bytes()).take(alike);
        pairs.take_while(|(a, b)| a == b).count()
    });
    let is_separator = |byte: &u8| *byte == b'/' || *byte == b'\\';
    first.as_bytes()[..alike].iter().rposition(is_separator).map_or(0, |place| place + 1)
}

/// Whether a file is a tar archive that we read, by its name or its content.
fn is_tar(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|ending| name.ends_with(ending))
        || matches!(kind_of(path), FileKind::Tar | FileKind::Gzip)
}

/// What a file is, by its first bytes.
fn kind_of(path: &Path) -> FileKind {
    let mut start = Vec::new();
    match File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start)) {
        Ok(_) => FileKind::of(&start),
        Err(_) => FileKind::Unknown,
    }
}

/// Reads and decodes one image, within the source's [limits](ImageSource::limits).
///
/// # Errors
///
/// [`LoadError`]: the source or the decoder refused.
pub fn load_image(source: &dyn ImageSource, index: usize) -> Result<RgbImage, LoadError> {
    match source.read(index)? {
        EncodedImage::File(bytes) => Ok(decode(&bytes, &source.limits())?),
        EncodedImage::Rgb(image) => Ok(image),
    }
}

/// Why an image of a source could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bytes could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its bytes are not a good image.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a data set could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    // What was asked for.
    /// A kind that needs a path came without one.
    #[error(
        "no data set was named for source `{kind}`: give the path of a folder of class folders, a tar archive, a list of images \
         or a directory of IDX files, or choose `fashion-mnist-sample`, which is built in"
    )]
    NoPath {
        /// The kind asked for.
        kind: SourceKind,
    },
    /// The built-in sample came with a path.
    #[error(
        "the source `fashion-mnist-sample` is built in and takes no path, but `{path}` was given: set the source to `auto` to \
         use that path"
    )]
    SampleHasNoPath {
        /// The path given.
        path: PathBuf,
    },
    /// A split that is not one.
    #[error("the validation fraction is {fraction}, but it must be at least 0 and below 1")]
    ValFraction {
        /// The fraction given.
        fraction: f64,
    },
    /// Nothing is there.
    #[error("`{path}` does not exist")]
    NotFound {
        /// The path given.
        path: PathBuf,
    },
    /// A file where a folder is needed.
    #[error("`{path}` is a file, but this source is read from a folder")]
    NotAFolder {
        /// The path given.
        path: PathBuf,
    },
    /// A file that is neither an archive nor a list.
    #[error(
        "`{path}` is {}, not a data set: {}give a folder of class folders, a tar archive (`.tar`, `.tar.gz` or `.tgz`), or a list of \
         images (`.csv`, `.tsv`, `.json` or `.jsonl`)",
        .kind.what(), if matches!(kind, FileKind::Zip | FileKind::Packed) { "unpack it, or " } else { "" }
    )]
    NotADataSet {
        /// The path given.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// The system refused.
    #[error("cannot read `{path}`: {error}")]
    Read {
        /// File or folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A single file of a size that no image has.
    #[error("`{path}` has {}, and an image file may have at most {}", size(*bytes), size(*max_bytes))]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },

    // How the class folders lie.
    /// Images, but no class folders.
    #[error(
        "`{path}` holds {} but no class folders: put the images of each class into a folder with the name of the class",
        counted(*images, "image")
    )]
    NoClassFolders {
        /// The folder that should hold class folders.
        path: String,
        /// Images directly in it.
        images: usize,
    },
    /// Nothing of use.
    #[error(
        "`{path}` holds no class folders: a data set is a folder with one folder of images per class, or with `train` and `val` \
         that are such folders"
    )]
    Empty {
        /// The folder that should hold class folders.
        path: String,
    },
    /// Validation images only.
    #[error("`{path}` has a folder of validation images, but none called `train` beside it")]
    NoTrain {
        /// The folder that should hold both.
        path: String,
    },
    /// More than one folder to train on.
    #[error(
        "`{path}` holds two folders to train on, `{}` and `{}`: move the images of both into one, or leave one out with \
         `data.leave_out = [\"/{}\"]`",
        .names[0], .names[1], .names[1]
    )]
    TwoTrainParts {
        /// The folder that holds both.
        path: String,
        /// How they are called.
        names: [String; 2],
    },
    /// Folders of which some are called like parts and others like classes.
    #[error(
        "`{path}` holds {parts}, which {} of a data set, beside {others}: if all of them are classes, put their \
         images directly into them; if the others are neither classes nor parts, leave them out with \
         `data.leave_out = [{patterns}]`; if they are parts, call them `train`, `val` and `test`",
        if parts.contains(',') { "are named like parts" } else { "is named like a part" }
    )]
    CannotTellParts {
        /// The folder that holds them.
        path: String,
        /// Folders that are called like parts, in backticks.
        parts: String,
        /// The others, in backticks.
        others: Box<str>,
        /// What would leave the others out.
        patterns: Box<str>,
    },
    /// A part with parts in it.
    #[error(
        "`{path}` is a part of a data set but holds the folders {parts}, which are named like parts too: give `{path}` by itself if it is \
         the whole data set, or move its class folders out of them"
    )]
    PartsInPart {
        /// The folder or archive of the part.
        path: String,
        /// The parts in it, in backticks.
        parts: String,
    },
    /// Two names that look the same.
    #[error(
        "`{path}` holds two classes that are both called `{class}`, written in two Unicode forms, `{}` and `{}`: move the images of \
         both into one folder",
        .names[0], .names[1]
    )]
    AlikeClasses {
        /// The folder of class folders.
        path: String,
        /// How both look.
        class: Box<str>,
        /// Their characters, escaped.
        names: [String; 2],
    },
    /// The parts lie inside of the classes.
    #[error(
        "each class folder in `{path}` holds the folders {parts}: swap the two levels, so that the class folders are inside the \
         folders of the parts"
    )]
    PartsInClasses {
        /// The folder of class folders.
        path: String,
        /// The parts, in backticks.
        parts: String,
    },
    /// Numbered folders that hold the same folders.
    #[error(
        "`{path}` holds {folders}, and each of these holds the same folders {classes}: if the latter are the classes, call the \
         former `train`, `val` and `test`, or merge them"
    )]
    Folds {
        /// The folder that holds them.
        path: String,
        /// The numbered folders, in backticks.
        folders: String,
        /// What each of them holds, in backticks.
        classes: String,
    },
    /// Many pictures could not be taken.
    #[error(
        "{lost} of the {pictures} pictures in `{path}` would be left out: {what}; the first is `{first}`. Fix them, or leave them \
         out with `data.leave_out = [{patterns}]`"
    )]
    TooMuchLeftOut {
        /// The data set.
        path: String,
        /// Pictures, taken or not.
        pictures: usize,
        /// Those that were not taken.
        lost: usize,
        /// Why, with numbers.
        what: Box<str>,
        /// The first of them.
        first: Box<str>,
        /// What asks for it.
        patterns: Box<str>,
    },
    /// A class without images.
    #[error(
        "the class folder `{path}` holds no images ({}): add images (jpg, png, webp, bmp or gif) or remove the folder",
        counted(*ignored, "other file")
    )]
    EmptyClass {
        /// The class folder.
        path: String,
        /// Files in it whose names are not those of images.
        ignored: usize,
    },
    /// A single class, where a classifier needs two.
    #[error(
        "`{path}` holds only one class, `{class}`, but a classifier needs at least two: if the class folders lie inside of \
         `{class}`, give that folder"
    )]
    OneClass {
        /// The folder of class folders.
        path: String,
        /// The only class.
        class: String,
    },
    /// Validation knows a class that training does not.
    #[error(
        "`{path}` is a class of the validation images, but there is no such class to train on in `{train}`{}",
        .twin.as_ref().map_or_else(String::new, |twin| format!(", which calls it `{twin}`: rename one of the two folders"))
    )]
    UnknownClass {
        /// The class folder in the validation part.
        path: String,
        /// The training part.
        train: String,
        /// A class to train on whose name differs in case alone.
        twin: Option<String>,
    },
    /// A part of the split has no images.
    #[error("`{path}` holds no images")]
    EmptySplit {
        /// The part.
        path: String,
    },

    // Archives.
    /// The archive is cut short or not one.
    #[error("`{path}` is damaged at byte {offset}: {reason}")]
    DamagedTar {
        /// The archive.
        path: PathBuf,
        /// Where, in bytes of the unpacked archive.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A compressed file that unpacks to too much.
    #[error("`{path}` unpacks to more than {}: unpack it and give the result", size(*max_bytes))]
    UnpacksTooLarge {
        /// The compressed file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },

    /// Archives that belong to no part.
    #[error(
        "`{path}` holds {parts}, which {} of a data set, beside {others}: if the archives belong together, join those of each part, as in \
         `cat train-*.tar > train.tar`, and move the pieces away; otherwise leave them out with `data.leave_out = [{patterns}]`",
        if parts.contains(',') { "are named like parts" } else { "is named like a part" }
    )]
    OtherArchives {
        /// The directory.
        path: String,
        /// Archives that are called like parts, in backticks.
        parts: String,
        /// The others, in backticks.
        others: Box<str>,
        /// What would leave the others out.
        patterns: Box<str>,
    },

    // IDX files.
    /// There is no such pair of files.
    #[error(
        "`{path}` holds no IDX training files: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, each plain or as `.gz`, \
         are needed"
    )]
    NoIdxFiles {
        /// The directory.
        path: PathBuf,
    },
    /// Images without labels, or labels without images.
    #[error("`{path}` has no partner: `{partner}`, plain or as `.gz`, is missing beside it")]
    NoIdxPartner {
        /// The file that is there.
        path: PathBuf,
        /// The name of the one that is not.
        partner: String,
    },
    /// A file that is not what its name says.
    #[error("`{path}` is not a good IDX file: {reason}")]
    DamagedIdx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// As many labels as images are needed.
    #[error("`{images_path}` holds {images} images, but `{labels_path}` {labels} labels")]
    IdxCounts {
        /// The file of images.
        images_path: PathBuf,
        /// The file of labels.
        labels_path: PathBuf,
        /// Images.
        images: usize,
        /// Labels.
        labels: usize,
    },
    /// Files of more than one data set.
    #[error(
        "`{path}` holds IDX files of several data sets: {data_sets}: put the files of each into a folder of its own and give that folder"
    )]
    SeveralIdxSets {
        /// The directory.
        path: PathBuf,
        /// What the names of the files begin with, in backticks.
        data_sets: String,
    },
    /// A label of no class.
    #[error(
        "`{path}` gives image {index} the label {label}, but there are {classes} classes{}",
        if *first == 0 { String::new() } else { format!(", with the labels {first} to {}", first + classes - 1) }
    )]
    IdxLabel {
        /// The file of labels.
        path: PathBuf,
        /// The row.
        index: usize,
        /// Its label.
        label: usize,
        /// The label of the first class.
        first: usize,
        /// How many classes there are.
        classes: usize,
    },

    // Lists.
    /// Something other than a list.
    #[error(
        "`{path}` is not a list of images, whose name ends in `.csv`, `.tsv`, `.json` or `.jsonl`: set the source to `auto`"
    )]
    NotAList {
        /// The path given.
        path: PathBuf,
    },
    /// Another encoding, or no text at all.
    #[error("`{path}`, line {line}: this is not UTF-8 text: save the list in that encoding")]
    ListNotUtf8 {
        /// The list.
        path: PathBuf,
        /// The first such line.
        line: usize,
    },
    /// A file of class names.
    #[error(transparent)]
    ClassNames(#[from] ClassListError),
    /// A line that cannot be right.
    #[error("`{path}`, line {line}: {fault}")]
    List {
        /// The list.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: Box<ListFault>,
    },
    /// Images that are not there.
    #[error(
        "`{path}` names {} of {images} that {} not there: {}{}; paths start from the folder of the list",
        counted(*missing, "image"), if *missing == 1 { "is" } else { "are" }, .first.join("; "),
        if *missing > .first.len() { "; …" } else { "" }
    )]
    ListMissingFiles {
        /// The list.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// How many there should be.
        images: usize,
        /// Line and file of the first ones.
        first: Vec<String>,
    },
    /// Nothing is left to read.
    #[error(
        "`{path}` names no images but those that `data.leave_out` leaves out: remove the patterns that are too wide"
    )]
    ListAllLeftOut {
        /// The list.
        path: PathBuf,
    },
    /// Images to measure on only.
    #[error(
        "`{path}` has no images of the split `train`: give that split to the images to learn from, or leave the column out to have a \
         part of them held back"
    )]
    ListNoTrain {
        /// The list.
        path: PathBuf,
    },
    /// A list with a single class, or none, to train on.
    #[error(
        "`{path}` has {} to train on, but a classifier needs at least two classes: list images of another one",
        .class.as_ref().map_or_else(|| "no class".to_owned(), |class| format!("only the class `{class}`"))
    )]
    ListFewClasses {
        /// The list.
        path: PathBuf,
        /// The only class, if there is any.
        class: Option<String>,
    },

    /// A foreign source's own words.
    #[error("cannot get image {index}: {reason}")]
    Foreign {
        /// The image.
        index: usize,
        /// Why.
        reason: String,
    },
}

impl SourceError {
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        Self::Read { path: path.to_owned(), error }
    }
}

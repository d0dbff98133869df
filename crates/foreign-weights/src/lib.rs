//! Weight files of other programs: safetensors, in one file or in several, the zip files of PyTorch, its format before 1.6, and Paddle's
//! pickles of NumPy arrays. They are read without Python and without running anything that is in them; the result is names, shapes and
//! numbers, and sentences on what the file was and what was left out of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

mod archive;
mod element;
mod global;
mod legacy;
mod object;
mod pickle;
mod safetensors;
mod shards;
mod shown;
mod state_dict;
mod tensor;

pub use self::safetensors::SafetensorsError;
pub use archive::ArchiveError;
pub use legacy::LegacyError;
pub use pickle::PickleError;
pub use shards::{ShardIndex, ShardName, Shards, ShardsError};
pub use shown::{listed, shown};
pub use state_dict::StateDictError;
pub use tensor::TensorError;

use archive::Archive;
use element::{ByteOrder, Element};
use object::{Object, ObjectId, Objects};
use pickle::Arrays;
use tensor::{MAX_NUMBERS, Storage};

/// Bytes of a file. A checkpoint of the largest network here, with its average and the state of Adam, has 280 million.
const MAX_FILE: u64 = 4 << 30;

/// Numbers of a tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Of any floating-point type.
    F32(Vec<f32>),
    /// Of any integer type, or truth values.
    I64(Vec<i64>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::F32(values) => values.iter().all(|value| value.is_finite()),
            Self::I64(_) => true,
        }
    }
}

/// A tensor by name.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignTensor {
    /// Its name, without a prefix that all names had.
    pub name: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: Values,
}

/// What kind of file it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Safetensors.
    Safetensors,
    /// `torch.save` of PyTorch 1.6 and later.
    Zip,
    /// `torch.save` before 1.6.
    Legacy,
    /// A pickle of NumPy arrays: `paddle.save`.
    Arrays,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Safetensors => "a safetensors file",
            Self::Zip => "a file of PyTorch",
            Self::Legacy => "a file of PyTorch before 1.6",
            Self::Arrays => "a pickle of NumPy arrays, as Paddle writes them",
        })
    }
}

/// The weights of a file and what there is to say about it.
#[derive(Debug, Clone)]
pub struct ForeignWeights {
    /// The tensors in the order of the file; those of safetensors by name, for that format has no order.
    pub tensors: Vec<ForeignTensor>,
    /// What kind of file it was.
    pub format: Format,
    /// Key of the set that was read, where the file has one.
    pub key: Option<String>,
    /// Keys of other sets in it.
    pub other_keys: Vec<String>,
    /// Names of tensors with values that are not finite.
    pub not_finite: Vec<String>,
    /// Sentences for the user, beginning with what the file was.
    pub notes: Vec<String>,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file cannot be opened or read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// There is something wrong with what it holds.
    #[error("no weights can be read from `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Problem,
    },
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Something other than weights.
    #[error("it is {what}\n\nhint: {next}")]
    Other {
        /// What it is.
        what: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// Nothing that is recognised.
    #[error("it is neither a safetensors file nor one of PyTorch or Paddle")]
    Unknown,
    /// Too large.
    #[error("it has {bytes} bytes, and up to {MAX_FILE} are read")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The zip file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A zip file without weights.
    #[error(
        "it is a zip file without the `data.pkl` of PyTorch; its entries are {entries}\n\n\
         hint: save the weights with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    NoPickle {
        /// The first names, in backticks.
        entries: String,
    },
    /// The pickle of a zip file.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// The old format.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// The safetensors file.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// Where the weights are.
    #[error(transparent)]
    StateDict(#[from] StateDictError),
    /// No tensor is left.
    #[error("it is {format} that holds no tensors")]
    Empty {
        /// What kind of file it is.
        format: Format,
    },
    /// One of its tensors.
    #[error("tensor {name} cannot be read")]
    Tensor {
        /// The tensor, in backticks.
        name: String,
        /// Why.
        source: TensorError,
    },
}

/// Something under a name.
#[derive(Debug)]
struct Entry<T> {
    name: String,
    value: T,
}

/// A tensor as read, with the type that it had.
#[derive(Debug)]
struct Numbers {
    shape: Vec<usize>,
    element: &'static Element,
    values: Values,
}

impl ForeignWeights {
    /// Reads a file: the set under `key`, or the usual one if there is no key. A key is that of a dictionary in the file, or
    /// what the names of the tensors begin with, up to a dot.
    pub fn read(path: &Path, key: Option<&str>) -> Result<Self, ForeignError> {
        let mut file = fs_err::File::open(path)?;
        let size = file.metadata()?.len();
        if size > MAX_FILE {
            return Err(ForeignError::File { path: path.to_path_buf(), source: Problem::TooLarge { bytes: size } });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        Self::parse(path, &bytes, key)
    }

    /// Reads the bytes of a file; `path` is for messages. Whatever the bytes are, it does not panic.
    pub fn parse(path: &Path, bytes: &[u8], key: Option<&str>) -> Result<Self, ForeignError> {
        parse(bytes, key).map_err(|source| ForeignError::File { path: path.to_path_buf(), source })
    }

    /// The names of all tensors in a file, in whatever dictionary at most three deep, with the keys that lead to it in front, joined by
    /// dots. The beginning of any of them, up to a dot, is a key for [`parse`](Self::parse). No numbers are read.
    pub fn names(path: &Path, bytes: &[u8]) -> Result<Vec<String>, ForeignError> {
        names(bytes).map_err(|source| ForeignError::File { path: path.to_path_buf(), source })
    }
}

fn parse(bytes: &[u8], key: Option<&str>) -> Result<ForeignWeights, Problem> {
    if !safetensors::looks_like(bytes) {
        return load(bytes, |format, objects, root, source| weights(format, objects, root, source, key));
    }
    let entries = safetensors::parse(bytes, key)?;
    let Some(key) = key else { return describe(Format::Safetensors, entries, Vec::new()) };
    if entries.is_empty() {
        return Err(StateDictError::NoSuchKey { key: shown(key), choices: BEGINNING.to_string() }.into());
    }
    let notes = vec![format!("the weights are those whose names begin with {}", shown(&format!("{key}.")))];
    Ok(ForeignWeights { key: Some(key.to_string()), ..describe(Format::Safetensors, entries, notes)? })
}

/// The hint for a key that a file without dictionaries does not have.
const BEGINNING: &str =
    "\n\nhint: leave the key out, or give a prefix of the tensor names that ends before a dot, such as `model.encoder`";

fn names(bytes: &[u8]) -> Result<Vec<String>, Problem> {
    if safetensors::looks_like(bytes) {
        return Ok(safetensors::names(bytes)?);
    }
    load(bytes, |_, objects, root, _| Ok(state_dict::names(objects, root)))
}

/// Reads the objects of a file of PyTorch or Paddle, for `then` to look through.
fn load<T>(
    bytes: &[u8],
    then: impl FnOnce(Format, &Objects, ObjectId, Source<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => zip(bytes, then),
        [0x80, 0..=5, ..] => pickled(bytes, then),
        _ => Err(not_weights(bytes)),
    }
}

fn zip<T>(
    bytes: &[u8],
    then: impl FnOnce(Format, &Objects, ObjectId, Source<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let archive = Archive::open(bytes)?;
    // `NAME/data.pkl`, where the name is that of the file when it was saved; without it where somebody packed it again.
    let roots = archive.names().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = roots.filter(|root| root.is_empty() || root.ends_with('/')).min_by_key(|root| root.len());
    let Some(root) = root.map(str::to_string) else {
        return Err(Problem::NoPickle { entries: listed(&archive.names().collect::<Vec<_>>()) });
    };
    let pickle = archive.read(&format!("{root}data.pkl"))?.unwrap_or_default();
    if archive.names().any(|name| name.strip_prefix(&root).is_some_and(|name| name == "constants.pkl")) {
        return Err(Problem::Other {
            what: "a TorchScript file, a program together with its weights",
            next: "load it in Python with `torch.jit.load` and save its `state_dict()` with `torch.save`",
        });
    }
    let order = match archive.read(&format!("{root}byteorder"))?.as_deref() {
        Some(b"big") => ByteOrder::Big,
        // Files of before 2.1 do not say it.
        _ => ByteOrder::Little,
    };
    let pickle = pickle::load(&pickle, 0, Arrays::Leave)?;
    let source = Source { place: Place::Archive { archive, root }, order, whole: HashMap::new() };
    then(Format::Zip, &pickle.objects, pickle.root, source)
}

/// A file that begins with a pickle: of PyTorch before 1.6 if that is the magic number, and else of Paddle.
fn pickled<T>(
    bytes: &[u8],
    then: impl FnOnce(Format, &Objects, ObjectId, Source<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let first = pickle::load(bytes, 0, Arrays::Read)?;
    if !legacy::is_magic(&first) {
        if !first.objects.names_numpy() {
            return Err(LegacyError::NotTorch.into());
        }
        let place = Place::Pickle { bytes, objects: &first.objects };
        let source = Source { place, order: ByteOrder::Little, whole: HashMap::new() };
        return then(Format::Arrays, &first.objects, first.root, source);
    }
    let legacy = legacy::parse(bytes, first.end)?;
    let place = Place::Legacy { bytes, storages: legacy.storages };
    let source = Source { place, order: ByteOrder::Little, whole: HashMap::new() };
    then(Format::Legacy, &legacy.pickle.objects, legacy.pickle.root, source)
}

/// Where the storages are.
enum Place<'a> {
    Archive {
        archive: Archive<'a>,
        root: String,
    },
    Legacy {
        bytes: &'a [u8],
        storages: HashMap<String, Range<usize>>,
    },
    /// In the pickle itself; a storage's name is the number of the object that holds its bytes.
    Pickle {
        bytes: &'a [u8],
        objects: &'a Objects,
    },
}

struct Source<'a> {
    place: Place<'a>,
    order: ByteOrder,
    /// Storages that were read before: many tensors may share one.
    whole: HashMap<String, Cow<'a, [u8]>>,
}

impl<'a> Source<'a> {
    /// The bytes of a storage, checked against its checksum if there is one.
    fn whole(&mut self, key: &str) -> Result<Option<&[u8]>, ArchiveError> {
        if !self.whole.contains_key(key) {
            let bytes = match &self.place {
                Place::Archive { archive, root } => archive.read(&format!("{root}data/{key}"))?,
                Place::Legacy { bytes, storages } => {
                    storages.get(key).and_then(|range| bytes.get(range.clone())).map(Cow::Borrowed)
                }
                Place::Pickle { bytes, objects } => match key.parse().map(|number| objects.get(ObjectId(number))) {
                    Ok(Object::Bytes(range)) => bytes.get(range.clone()).map(Cow::Borrowed),
                    Ok(Object::Text(text)) => Some(text.chars().map(|character| character as u8).collect()),
                    _ => None,
                },
            };
            if let Some(bytes) = bytes {
                self.whole.insert(key.to_string(), bytes);
            }
        }
        Ok(self.whole.get(key).map(AsRef::as_ref))
    }

    fn bytes(&mut self, storage: &Storage, name: &str) -> Result<&[u8], Problem> {
        let wrong = |source| Problem::Tensor { name: shown(name), source };
        let missing = || wrong(TensorError::NoStorage { storage: shown(&storage.key) });
        let whole = self.whole(&storage.key)?.ok_or_else(missing)?;
        storage.part_of(whole).map_err(wrong)
    }
}

fn weights(
    format: Format,
    objects: &Objects,
    root: ObjectId,
    mut source: Source<'_>,
    key: Option<&str>,
) -> Result<ForeignWeights, Problem> {
    let chosen = state_dict::choose(objects, root, key)?;
    let mut notes = chosen.notes;
    let foreign = objects.foreign();
    if !foreign.is_empty() {
        notes.push(format!("objects of other programs were not read: {}", listed(&foreign)));
    }
    if source.order == ByteOrder::Big {
        notes.push("it was written on a machine with the other byte order".to_string());
    }
    let mut views = Vec::new();
    let mut left = MAX_NUMBERS;
    for Entry { name, value } in chosen.entries {
        let Object::Tensor(number) = objects.get(value) else { continue };
        let view = &objects.tensors[*number as usize];
        let wrong = |source| Problem::Tensor { name: shown(&name), source };
        left = left.checked_sub(view.numbers().map_err(wrong)?).ok_or_else(|| wrong(TensorError::TooLarge))?;
        views.push(Entry { name, value: view });
    }
    let mut entries = Vec::new();
    for Entry { name, value: view } in views {
        let storage = &objects.storages[view.storage as usize];
        let order = source.order;
        let bytes = source.bytes(storage, &name)?;
        let numbers = view.read(storage, bytes, order);
        let (shape, values) = numbers.map_err(|source| Problem::Tensor { name: shown(&name), source })?;
        entries.push(Entry { name, value: Numbers { shape, element: view.element, values } });
    }
    let mut weights = describe(format, entries, notes)?;
    weights.key = chosen.key;
    weights.other_keys = chosen.other_keys;
    Ok(weights)
}

/// Tidies the names and says what was converted and what is suspicious.
fn describe(format: Format, entries: Vec<Entry<Numbers>>, mut notes: Vec<String>) -> Result<ForeignWeights, Problem> {
    notes.insert(0, format!("it is {format}"));
    let entries = state_dict::tidy(entries, &mut notes);
    if entries.is_empty() {
        return Err(Problem::Empty { format });
    }
    let mut converted: BTreeMap<_, usize> = BTreeMap::new();
    for entry in &entries {
        if let Some(other) = entry.value.element.converted() {
            *converted.entry((entry.value.element.name, other)).or_default() += 1;
        }
    }
    for ((from, to), count) in converted {
        notes.push(format!("converted {count} tensors from {from} to {to}"));
    }
    let not_finite: Vec<_> =
        entries.iter().filter(|entry| !entry.value.values.is_finite()).map(|entry| entry.name.clone()).collect();
    if !not_finite.is_empty() {
        notes.push(format!("these tensors hold values that are not finite: {}", listed(&not_finite)));
    }
    let tensors = entries
        .into_iter()
        .map(|Entry { name, value }| ForeignTensor { name, shape: value.shape, values: value.values })
        .collect();
    Ok(ForeignWeights { tensors, format, key: None, other_keys: Vec::new(), not_finite, notes })
}

/// Names what people take for a file of weights.
fn not_weights(bytes: &[u8]) -> Problem {
    const RESAVE: &str = "save the weights with `torch.save(model.state_dict(), \"weights.pth\")` or as safetensors";
    const AGAIN: &str = "get the file itself and not the page about it";
    const SIGNS: &[(&[u8], &str, &str)] = &[
        (b"version https://git-lfs", "a pointer of git LFS and not the file that it points to", "run `git lfs pull`"),
        (b"<?xml", "an XML document, as servers send in place of a file", AGAIN),
        (b"\x89HDF", "an HDF5 file, as Keras writes them", RESAVE),
        (b"\x93NUMPY", "an array of NumPy", RESAVE),
        (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
        (b"BZh", "compressed with bzip2", "unpack it first"),
        (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
        (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
        (b"GGUF", "a GGUF file", RESAVE),
        (b"\xff\xd8\xff", "a JPEG image", "give the file of weights first, and the images after it"),
        (b"\x89PNG", "a PNG image", "give the file of weights first, and the images after it"),
        (b"{", "a JSON file, perhaps a description of weights", "name the file of weights itself"),
    ];
    if bytes.is_empty() {
        return Problem::Other { what: "empty", next: "get the file again" };
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Problem::Other {
            what: "a tar archive",
            next: "unpack it first; a file of PyTorch before 0.2 has to be saved again with a later version",
        };
    }
    // Editors put a byte order mark in front of a page, servers blank lines.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins_as = |sign: &&str| text.get(..sign.len()).is_some_and(|text| text.eq_ignore_ascii_case(sign.as_bytes()));
    if ["<!doctype", "<html", "<head", "<body"].iter().any(begins_as) {
        return Problem::Other { what: "a web page", next: AGAIN };
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Problem::Other { what: "a TensorFlow Lite file", next: RESAVE };
    }
    // The version of the format, field 1, and then any other field of a `ModelProto`.
    if let [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x2a | 0x3a | 0x42, ..] = bytes {
        return Problem::Other { what: "an ONNX file", next: RESAVE };
    }
    match SIGNS.iter().find(|(sign, ..)| bytes.starts_with(sign) || text.starts_with(sign)) {
        Some((_, what, next)) => Problem::Other { what, next },
        None => Problem::Unknown,
    }
}

//! Images in IDX files, the format of MNIST and its kin: one file of gray images, one of labels.
//!
//! A header of big-endian numbers (magic, count, rows, columns; magic, count), then one byte per pixel or label. A directory
//! holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and for validation the same with `val-`, `test-` or `t10k-`, or another
//! name of a [part](Part). Each file may be compressed (`.gz`), and may have a point in its name as in the older spelling
//! (`train-images.idx3-ubyte`). The labels of QMNIST are also read (`qmnist-train-labels-idx2-int`): eight 32-bit numbers for each image,
//! of which the first is the class.
//!
//! The name of a data set may come before that of the part, as in `emnist-letters-train-images-idx3-ubyte`. A directory with the files of
//! several such data sets is refused.
//!
//! A file `classes.txt` names the classes in label order, see [`ClassList`]; without it they are called by their numbers. Labels start at 0
//! or, as those of EMNIST letters do, at 1.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::class_list::ClassList;
use crate::image::RgbImage;
use crate::left_out::LeftOut;
use crate::measure::{MeasuredPart, MeasuredSet};
use crate::name::path_text;
use crate::part::Part;
use crate::source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError};
use crate::split::{single_image_warning, split_class, split_rule};

const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;
/// Rows of 32-bit numbers: the labels of QMNIST (github.com/facebookresearch/qmnist), whose first column is the class.
const WIDE_LABELS_MAGIC: u32 = 0x0000_0c02;
const IMAGES_HEADER: usize = 16;
const LABELS_HEADER: usize = 8;
const WIDE_LABELS_HEADER: usize = 12;

/// The files are held in memory. MNIST has 47 MB, EMNIST 550 MB.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;

/// The images of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// How many.
    pub count: usize,
    /// Columns of each.
    pub width: u32,
    /// Rows of each.
    pub height: u32,
    /// Gray levels.
    ///
    /// # Shapes
    ///
    /// `[count, height, width]`
    pub gray: Vec<u8>,
}

impl IdxImages {
    /// Reads the content of a file of images.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with it.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, String> {
        let header = header::<4>(&bytes, IMAGES_MAGIC, "images")?;
        let [_, count, height, width] = header;
        if width == 0 || height == 0 {
            return Err(format!("the header declares images of {width} x {height} pixels"));
        }
        check_len(
            &bytes,
            IMAGES_HEADER,
            &[count, height, width],
            &format!("{count} images of {width} x {height} pixels"),
        )?;
        bytes.drain(..IMAGES_HEADER);
        Ok(Self { count: count as usize, width, height, gray: bytes })
    }

    fn image(&self, row: usize) -> RgbImage {
        let len = self.width as usize * self.height as usize;
        RgbImage::from_gray(self.width, self.height, &self.gray[row * len..][..len])
    }
}

/// Reads the content of a file of labels.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub fn parse_labels(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.starts_with(&WIDE_LABELS_MAGIC.to_be_bytes()) {
        return parse_wide_labels(&bytes);
    }
    let [_, count] = header::<2>(&bytes, LABELS_MAGIC, "labels")?;
    check_len(&bytes, LABELS_HEADER, &[count], &format!("{count} labels"))?;
    bytes.drain(..LABELS_HEADER);
    Ok(bytes)
}

fn parse_wide_labels(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let [_, count, columns] = header::<3>(bytes, WIDE_LABELS_MAGIC, "labels")?;
    if columns == 0 {
        return Err("the header declares labels of no numbers".to_owned());
    }
    check_len(bytes, WIDE_LABELS_HEADER, &[count, columns, 4], &format!("{count} labels of {columns} numbers"))?;
    let rows = bytes[WIDE_LABELS_HEADER..].chunks_exact((columns as usize).saturating_mul(4)).enumerate();
    rows.map(|(row, numbers)| match numbers {
        [0, 0, 0, label, ..] => Ok(*label),
        [b0, b1, b2, b3, ..] => {
            let label = i32::from_be_bytes([*b0, *b1, *b2, *b3]);
            Err(format!("image {row} has the label {label}, which is not between 0 and 255"))
        }
        _ => Err(format!("image {row} has no label")),
    })
    .collect()
}

/// The first `N` numbers of a file, of which the first must be `magic`.
fn header<const N: usize>(bytes: &[u8], magic: u32, what: &str) -> Result<[u32; N], String> {
    let mut numbers = [0; N];
    for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    if bytes.len() < N * 4 {
        return Err(format!("it holds {} bytes, less than a header of {}", bytes.len(), N * 4));
    }
    if numbers[0] != magic {
        return Err(format!(
            "it starts with the magic number {:#010x}, but a file of {what} starts with {magic:#010x}",
            numbers[0]
        ));
    }
    Ok(numbers)
}

fn check_len(bytes: &[u8], header: usize, shape: &[u32], what: &str) -> Result<(), String> {
    let content = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(u64::from(size)));
    let found = (bytes.len() - header) as u64;
    match content {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => {
            let how = if found < expected { "is cut short" } else { "is too long" };
            Err(format!("it {how}: the header declares {what}, {expected} bytes, but {found} follow"))
        }
        None => Err(format!("the header declares {what}, more than any file holds")),
    }
}

/// A pair of IDX files and their names.
pub(crate) struct IdxPair {
    pub(crate) images_path: PathBuf,
    pub(crate) labels_path: PathBuf,
    pub(crate) images: Arc<IdxImages>,
    pub(crate) labels: Arc<Vec<u8>>,
    /// The label of the first class.
    first_label: u8,
}

impl IdxPair {
    /// Reads both files from their content, compressed where the name ends in `.gz`.
    pub(crate) fn read<'a>(
        (images_path, images): (PathBuf, impl Read + 'a),
        (labels_path, labels): (PathBuf, impl Read + 'a),
    ) -> Result<Self, SourceError> {
        let damaged = |path: &Path, reason| SourceError::DamagedIdx { path: path.to_owned(), reason };
        let images = IdxImages::parse(unpack(&images_path, images)?).map_err(|reason| damaged(&images_path, reason))?;
        let labels = parse_labels(unpack(&labels_path, labels)?).map_err(|reason| damaged(&labels_path, reason))?;
        if images.count != labels.len() {
            let (images, labels) = (images.count, labels.len());
            return Err(SourceError::IdxCounts { images_path, labels_path, images, labels });
        }
        Ok(Self { images_path, labels_path, images: Arc::new(images), labels: Arc::new(labels), first_label: 0 })
    }

    fn open(files: &Files) -> Result<Self, SourceError> {
        let open = |path: &Path| match File::open(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(error) => Err(SourceError::read(path, error)),
        };
        Self::read(open(&files.images)?, open(&files.labels)?)
    }

    fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn no_images(&self) -> SourceError {
        SourceError::EmptySplit { path: self.images_path.display().to_string() }
    }

    /// All images of the pair as a source.
    pub(crate) fn source(&self) -> Arc<dyn ImageSource> {
        self.rows((0..self.labels.len()).collect())
    }

    fn rows(&self, rows: Vec<usize>) -> Arc<dyn ImageSource> {
        Arc::new(IdxSource {
            path: self.images_path.clone(),
            images: Arc::clone(&self.images),
            labels: Arc::clone(&self.labels),
            first_label: self.first_label,
            rows,
        })
    }

    /// Refuses labels of no class.
    pub(crate) fn check_labels(&self, classes: usize) -> Result<(), SourceError> {
        let first = usize::from(self.first_label);
        match self.labels.iter().position(|&label| !(first..first + classes).contains(&usize::from(label))) {
            None => Ok(()),
            Some(index) => Err(SourceError::IdxLabel {
                path: self.labels_path.clone(),
                index,
                label: usize::from(self.labels[index]),
                first,
                classes,
            }),
        }
    }
}

fn unpack(path: &Path, reader: impl Read) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let is_packed = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
    let result = if is_packed {
        MultiGzDecoder::new(reader).take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut bytes)
    } else {
        reader.take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut bytes)
    };
    match result {
        Ok(_) if bytes.len() as u64 > MAX_UNPACKED_BYTES => {
            Err(SourceError::UnpacksTooLarge { path: path.to_owned(), max_bytes: MAX_UNPACKED_BYTES })
        }
        Ok(_) => Ok(bytes),
        Err(error) if is_packed => {
            let reason = format!("it cannot be unpacked: {error}");
            Err(SourceError::DamagedIdx { path: path.to_owned(), reason })
        }
        Err(error) => Err(SourceError::read(path, error)),
    }
}

/// Some rows of a pair of IDX files.
#[derive(Debug)]
struct IdxSource {
    path: PathBuf,
    images: Arc<IdxImages>,
    labels: Arc<Vec<u8>>,
    first_label: u8,
    rows: Vec<usize>,
}

impl ImageSource for IdxSource {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn label(&self, index: usize) -> usize {
        // `check_labels` refuses smaller ones.
        usize::from(self.labels[self.rows[index]].saturating_sub(self.first_label))
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{}", path_text(&self.path), self.rows[index])
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        Ok(EncodedImage::Rgb(self.images.image(self.rows[index])))
    }
}

/// The file with this beginning of its name in the first of these formats, plain or compressed, in either spelling.
fn find(dir: &Path, beginning: &str, formats: &[Format]) -> Option<PathBuf> {
    let names = formats.iter().flat_map(|(what, format)| {
        ["-", "."].into_iter().flat_map(move |separator| {
            ["", ".gz"].into_iter().map(move |ending| format!("{beginning}-{what}{separator}{format}{ending}"))
        })
    });
    names.map(|name| dir.join(name)).find(|path| path.is_file())
}

/// What a file holds and how, as its name says.
type Format = (&'static str, &'static str);

const IMAGES: [Format; 1] = [("images", "idx3-ubyte")];
/// The second is that of QMNIST.
const LABELS: [Format; 2] = [("labels", "idx1-ubyte"), ("labels", "idx2-int")];

/// Both files of a part. One without the other is an error.
fn find_pair(dir: &Path, part: Part, name: &str) -> Result<Option<Files>, SourceError> {
    let images = find(dir, name, &IMAGES);
    let labels = find(dir, name, &LABELS);
    let no_partner = |path, partner| Err(SourceError::NoIdxPartner { path, partner });
    match (images, labels) {
        (Some(images), Some(labels)) => Ok(Some(Files { part, images, labels })),
        (Some(path), None) => no_partner(path, format!("{name}-labels-idx1-ubyte")),
        (None, Some(path)) => no_partner(path, format!("{name}-images-idx3-ubyte")),
        (None, None) => Ok(None),
    }
}

/// The files of a part.
struct Files {
    part: Part,
    images: PathBuf,
    labels: PathBuf,
}

/// Names of parts in the order of preference, before all others.
const PREFERRED: [&str; 5] = ["train", "val", "valid", "validation", "t10k"];

/// How the names of IDX files in a directory begin, before `-images` and `-labels`.
fn beginnings(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let beginning = |name: String| {
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        IMAGES.iter().chain(&LABELS).find_map(|(what, format)| {
            let name = name.strip_suffix(format)?.strip_suffix(['-', '.'])?;
            name.strip_suffix(what)?.strip_suffix('-').map(str::to_owned)
        })
    };
    entries.filter_map(|entry| beginning(path_text(Path::new(&entry.file_name())))).collect()
}

/// The part that a name stands for, and the data set that it names, if any: `emnist-letters` of `emnist-letters-train`.
fn part_of(name: &str) -> Option<(Part, String)> {
    match name.strip_suffix("t10k") {
        // The ten thousand images of MNIST's test set.
        Some(data_set) => Part::with_rest(&format!("{data_set}test")),
        None => Part::with_rest(name),
    }
}

/// The parts of each data set that these names stand for, the preferred ones first. A name that says no data set belongs to the one without
/// a name.
fn data_sets(names: &BTreeSet<String>) -> BTreeMap<String, Vec<(Part, &str)>> {
    let mut data_sets: BTreeMap<String, Vec<(Part, &str)>> = BTreeMap::new();
    for name in names {
        if let Some((part, data_set)) = part_of(name) {
            data_sets.entry(data_set).or_default().push((part, name));
        }
    }
    for parts in data_sets.values_mut() {
        parts.sort_by_key(|(part, name)| {
            (*part, PREFERRED.iter().position(|preferred| preferred == name).unwrap_or(PREFERRED.len()), *name)
        });
    }
    data_sets
}

/// Whether a directory looks like a set of IDX files.
pub(crate) fn is_idx_dir(dir: &Path) -> bool {
    !data_sets(&beginnings(dir)).is_empty()
}

/// The files of each part, Train first, and a sentence about each pair that is not used.
fn find_files(dir: &Path) -> Result<(Vec<Files>, Vec<String>), SourceError> {
    let names = beginnings(dir);
    let data_sets = data_sets(&names);
    // Files that name no data set are those of the directory itself, and others lie beside them.
    let (data_set, parts) = match data_sets.first_key_value() {
        Some((name, _)) if !name.is_empty() && data_sets.len() > 1 => {
            let data_sets = data_sets.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(SourceError::SeveralIdxSets { path: dir.to_owned(), data_sets });
        }
        Some((name, parts)) => (name.as_str(), parts.as_slice()),
        None => ("", [].as_slice()),
    };
    let (mut found, mut warnings): (Vec<Files>, _) = (Vec::new(), Vec::new());
    for &(part, name) in parts {
        match found.iter().find(|files| files.part == part) {
            Some(used) => warnings.push(format!(
                "the files `{name}-images` and `{name}-labels` in `{}` are not used because `{}` is there",
                dir.display(),
                file_name(&used.images)
            )),
            None => found.extend(find_pair(dir, part, name)?),
        }
    }
    for name in names.iter().filter(|name| !parts.iter().any(|(_, known)| known == name)) {
        let why = match part_of(name) {
            Some((_, other)) => format!("they are of the data set `{other}`"),
            None => format!("`{name}` is not the name of a part"),
        };
        warnings.push(format!(
            "the files `{name}-images` and `{name}-labels` in `{}` are not used because {why}",
            dir.display()
        ));
    }
    if data_set == "emnist" || data_set.starts_with("emnist-") {
        warnings.push(format!(
            "EMNIST stores its images with rows and columns swapped, and those in `{}` are read as they are stored: a model that is \
             trained on them expects every other image in the same form",
            dir.display()
        ));
    }
    Ok((found, warnings))
}

fn file_name(path: &Path) -> String {
    path_text(Path::new(path.file_name().unwrap_or_default()))
}

/// The classes of some pairs of files.
struct Classes {
    names: Vec<String>,
    /// The label of the first one.
    first_label: u8,
    /// What the user may want to know.
    warning: Option<String>,
}

impl Classes {
    /// The classes that `classes.txt` names, or those of the labels up to the largest. Where no image has the label 0, but one has the label
    /// 1, as in EMNIST letters, they start at 1, unless `classes.txt` names more classes than that.
    fn of(dir: &Path, pairs: &[&IdxPair]) -> Result<Self, SourceError> {
        let labels = || pairs.iter().flat_map(|pair| pair.labels.iter()).copied();
        let (first, last) = (labels().min().unwrap_or_default(), labels().max().unwrap_or_default());
        let names_path = dir.join("classes.txt");
        let given = if names_path.is_file() {
            let bytes = std::fs::read(&names_path).map_err(|error| SourceError::read(&names_path, error))?;
            Some(ClassList::parse(&names_path, &bytes)?.into_names())
        } else {
            None
        };
        let starts_at_one = first == 1 && given.as_ref().is_none_or(|names| names.len() <= usize::from(last));
        let first_label = u8::from(starts_at_one);
        let names = given.unwrap_or_else(|| (first_label..=last).map(|label| label.to_string()).collect());
        let warning = (first == 1).then(|| {
            let what = if starts_at_one { "is that of label 1" } else { "has none" };
            format!("no image in `{}` has the label 0, so the first class, `{}`, {what}", dir.display(), names[0])
        });
        Ok(Self { names, first_label, warning })
    }
}

/// Opens IDX files to measure a model on.
pub(crate) fn measure(dir: &Path) -> Result<MeasuredSet, SourceError> {
    let (files, mut warnings) = find_files(dir)?;
    let mut pairs = Vec::new();
    for files in &files {
        let pair = IdxPair::open(files)?;
        if pair.is_empty() {
            warnings.push(format!("`{}` holds no images and is skipped", pair.images_path.display()));
        } else {
            pairs.push((files.part, pair));
        }
    }
    if files.is_empty() {
        return Err(SourceError::NoIdxFiles { path: dir.to_owned() });
    }
    if pairs.is_empty() {
        return Err(SourceError::EmptySplit { path: path_text(dir) });
    }
    let Classes { names, first_label, warning } =
        Classes::of(dir, &pairs.iter().map(|(_, pair)| pair).collect::<Vec<_>>())?;
    warnings.extend(warning);
    pairs.iter_mut().for_each(|(_, pair)| pair.first_label = first_label);
    pairs.iter().try_for_each(|(_, pair)| pair.check_labels(names.len()))?;
    let parts = pairs.iter().map(|(part, pair)| MeasuredPart { part: Some(*part), images: pair.source() }).collect();
    let what = format!("IDX files in `{}`", dir.display());
    Ok(MeasuredSet::from_parts(names, parts, &what, warnings, LeftOut::default()))
}

pub(crate) fn open(dir: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
    let (files, mut warnings) = find_files(dir)?;
    let Some(train) = files.iter().find(|files| files.part == Part::Train) else {
        return Err(SourceError::NoIdxFiles { path: dir.to_owned() });
    };
    let mut train = IdxPair::open(train)?;
    if train.is_empty() {
        return Err(train.no_images());
    }
    let mut val: Option<IdxPair> = None;
    for files in files.iter().filter(|files| files.part != Part::Train) {
        if let Some(kept) = &val
            && !kept.is_empty()
        {
            let kept = file_name(&kept.images_path);
            warnings.push(format!("`{}` is not used because `{kept}` is there", files.images.display()));
            continue;
        }
        if let Some(empty) = val.replace(IdxPair::open(files)?) {
            warnings.push(format!("`{}` holds no images and is skipped", empty.images_path.display()));
        }
    }
    if let Some(empty) = val.as_ref().filter(|val| val.is_empty()) {
        return Err(empty.no_images());
    }
    // The training labels say how many classes there are; a validation label beyond them is an error.
    let Classes { names: classes, first_label, warning } = Classes::of(dir, &[&train])?;
    warnings.extend(warning);
    train.first_label = first_label;
    val.iter_mut().for_each(|val| val.first_label = first_label);
    if let [class] = classes.as_slice() {
        return Err(SourceError::OneClass { path: dir.display().to_string(), class: class.clone() });
    }
    let mut set = build(classes, &train, val.as_ref(), &format!("IDX files in `{}`", dir.display()), options)?;
    set.warnings.extend(warnings);
    Ok(set)
}

/// A data set of one or two pairs.
pub(crate) fn build(
    classes: Vec<String>,
    train: &IdxPair,
    val: Option<&IdxPair>,
    what: &str,
    options: &OpenOptions,
) -> Result<DataSet, SourceError> {
    train.check_labels(classes.len())?;
    let mut rows_of_class: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
    for (row, &label) in train.labels.iter().enumerate() {
        rows_of_class[usize::from(label.saturating_sub(train.first_label))].push(row);
    }
    let mut warnings: Vec<String> = classes
        .iter()
        .zip(&rows_of_class)
        .filter(|(_, rows)| rows.is_empty())
        .map(|(class, _)| format!("the class `{class}` has no training images"))
        .collect();
    if let Some(val) = val {
        val.check_labels(classes.len())?;
        let file = file_name(&val.images_path);
        let description = format!("{what}, `{file}` for validation");
        let (train, val) = (train.source(), val.source());
        let left_out = LeftOut::default();
        let (has_own_split, known_readable) = (true, false);
        return Ok(DataSet { classes, train, val, description, warnings, left_out, has_own_split, known_readable });
    }
    let (mut train_rows, mut val_rows, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for (class, rows) in classes.iter().zip(&rows_of_class) {
        if rows.len() == 1 && options.val_fraction > 0.0 {
            single.push(class.clone());
        }
        let keys: Vec<String> = rows.iter().map(usize::to_string).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (for_train, for_val) = split_class(class, &keys, options.val_fraction, options.seed);
        train_rows.extend(for_train.into_iter().map(|position| rows[position]));
        val_rows.extend(for_val.into_iter().map(|position| rows[position]));
    }
    warnings.extend(single_image_warning(&single));
    let description = format!("{what}, {}", split_rule(options.val_fraction, options.seed));
    let (train, val) = (train.rows(train_rows), train.rows(val_rows));
    let (left_out, has_own_split, known_readable) = (LeftOut::default(), false, false);
    Ok(DataSet { classes, train, val, description, warnings, left_out, has_own_split, known_readable })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    fn content(numbers: &[u32], bytes: impl IntoIterator<Item = u8>) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).chain(bytes).collect()
    }

    /// `count` images of 3 x 2 pixels, and the labels 0, 1, 2, 0, 1, 2, …
    fn pair(count: u32) -> [Vec<u8>; 2] {
        let images = content(&[IMAGES_MAGIC, count, 2, 3], (0..count * 6).map(|i| i as u8));
        [images, content(&[LABELS_MAGIC, count], (0..count).map(|i| (i % 3) as u8))]
    }

    fn dir(files: &[(&str, &[u8])]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    fn open_dir(dir: &TempDir) -> Result<DataSet, String> {
        let path = Some(dir.path().to_owned());
        DataSet::open(&OpenOptions { path, val_fraction: 0.25, ..OpenOptions::default() })
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_parts_are_read_in_either_spelling() {
        let ([train, train_labels], [val, val_labels]) = (pair(6), pair(3));
        let dir = dir(&[
            ("train-images-idx3-ubyte", &train),
            ("train-labels.idx1-ubyte", &train_labels),
            ("t10k-images-idx3-ubyte.gz", &gz(&val)),
            ("t10k-labels-idx1-ubyte.gz", &gz(&val_labels)),
        ]);
        let set = open_dir(&dir).unwrap();
        assert_eq!(set.classes, ["0", "1", "2"]);
        assert_eq!((set.train.len(), set.val.len(), set.train.label(4)), (6, 3, 1));
        let EncodedImage::Rgb(image) = set.train.read(1).unwrap() else { panic!("pixels") };
        assert_eq!(image, RgbImage::from_gray(3, 2, &[6, 7, 8, 9, 10, 11]));
        assert!(set.description.ends_with("`t10k-images-idx3-ubyte.gz` for validation"), "{}", set.description);
        assert!(set.val.name(2).ends_with("t10k-images-idx3-ubyte.gz#2"));
    }

    #[test]
    fn training_files_alone_are_split_and_classes_have_names() {
        let [images, labels] = pair(24);
        let dir = dir(&[
            ("train-images-idx3-ubyte", &images),
            ("train-labels-idx1-ubyte", &labels),
            ("classes.txt", "red\ngrün\nblue\n\n".as_bytes()),
        ]);
        let set = open_dir(&dir).unwrap();
        assert_eq!(set.classes, ["red", "grün", "blue"]);
        assert_eq!((set.train.len(), set.val.len()), (18, 6));
        for label in 0..3 {
            assert_eq!((0..6).filter(|&index| set.val.label(index) == label).count(), 2);
        }
    }

    #[test]
    fn each_mistake_has_a_sentence_of_its_own() {
        let [images, labels] = pair(6);
        let error = |images: &[u8], labels: &[u8]| {
            open_dir(&dir(&[("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)])).unwrap_err()
        };
        let images_error = |images: &[u8]| {
            error(images, &labels).replace("`DIR/train-images-idx3-ubyte` is not a good IDX file: ", "")
        };
        assert_eq!(images_error(&labels), "it holds 14 bytes, less than a header of 16");
        assert_eq!(
            images_error(&[0; 16]),
            "it starts with the magic number 0x00000000, but a file of images starts with 0x00000803"
        );
        assert_eq!(
            images_error(&images[..50]),
            "it is cut short: the header declares 6 images of 3 x 2 pixels, 36 bytes, but 34 follow"
        );
        assert_eq!(
            images_error(&[&images[..], b"x"].concat()),
            "it is too long: the header declares 6 images of 3 x 2 pixels, 36 bytes, but 37 follow"
        );
        assert_eq!(
            images_error(&content(&[IMAGES_MAGIC, u32::MAX, u32::MAX, u32::MAX], [])),
            "the header declares 4294967295 images of 4294967295 x 4294967295 pixels, more than any file holds"
        );
        assert_eq!(images_error(&content(&[IMAGES_MAGIC, 6, 0, 3], [])), "the header declares images of 3 x 0 pixels");
        assert_eq!(
            error(&images, &pair(5)[1]),
            "`DIR/train-images-idx3-ubyte` holds 6 images, but `DIR/train-labels-idx1-ubyte` 5 labels"
        );
        assert_eq!(error(&pair(0)[0], &pair(0)[1]), "`DIR/train-images-idx3-ubyte` holds no images");
        assert_eq!(
            error(&images, &content(&[LABELS_MAGIC, 6], [0; 6])),
            "`DIR` holds only one class, `0`, but a classifier needs at least two: if the class folders lie inside of `0`, give that folder"
        );

        let alone = open_dir(&dir(&[("train-images-idx3-ubyte", &images)])).unwrap_err();
        assert_eq!(
            alone,
            "`DIR/train-images-idx3-ubyte` has no partner: `train-labels-idx1-ubyte`, plain or as `.gz`, is missing beside it"
        );
        let packed = open_dir(&dir(&[("train-images-idx3-ubyte.gz", &images), ("train-labels-idx1-ubyte", &labels)]))
            .unwrap_err();
        assert_eq!(
            packed,
            "`DIR/train-images-idx3-ubyte.gz` is not a good IDX file: it cannot be unpacked: invalid gzip header"
        );
        let few = dir(&[
            ("train-images-idx3-ubyte", &images),
            ("train-labels-idx1-ubyte", &labels),
            ("classes.txt", b"a\nb"),
        ]);
        assert_eq!(
            open_dir(&few).unwrap_err(),
            "`DIR/train-labels-idx1-ubyte` gives image 2 the label 2, but there are 2 classes"
        );
        let shifted = dir(&[
            ("train-images-idx3-ubyte", &images),
            ("train-labels-idx1-ubyte", &labels),
            ("classes.txt", b"a\n\nb\nc\n"),
        ]);
        assert_eq!(
            open_dir(&shifted).unwrap_err(),
            "`DIR/classes.txt`, line 2: the name is blank, but every class needs a name: write it, or remove the line if no class belongs \
             to it"
        );
        let empty = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            kind: crate::source::SourceKind::Idx,
            path: Some(empty.path().to_owned()),
            ..OpenOptions::default()
        };
        assert!(DataSet::open(&options).unwrap_err().to_string().contains("holds no IDX training files"));
    }

    #[test]
    fn pairs_of_files_that_are_not_used_are_told() {
        let [images, labels] = pair(6);
        let names = ["train", "Training", "t10k", "test", "val", "extra"];
        let files: Vec<(String, &Vec<u8>)> = names
            .iter()
            .flat_map(|name| {
                [(format!("{name}-images-idx3-ubyte"), &images), (format!("{name}-labels-idx1-ubyte"), &labels)]
            })
            .collect();
        let dir = dir(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
        let set = open_dir(&dir).unwrap();
        assert!(set.description.ends_with("`val-images-idx3-ubyte` for validation"), "{}", set.description);
        for (warning, words) in set.warnings.iter().zip([
            "the files `Training-images` and `Training-labels`",
            "the files `test-images` and `test-labels`",
            "the files `extra-images` and `extra-labels`",
            "`DIR/t10k-images-idx3-ubyte` is not used because `val-images-idx3-ubyte` is there",
        ]) {
            let warning = warning.replace(&dir.path().display().to_string(), "DIR");
            assert!(warning.starts_with(words), "{warning}");
        }
        assert_eq!(set.warnings.len(), 4, "{:?}", set.warnings);
        let measured =
            MeasuredSet::open(&OpenOptions { path: Some(dir.path().into()), ..OpenOptions::default() }).unwrap();
        assert_eq!((measured.parts.len(), measured.warnings.len()), (3, 3));
    }

    /// The same files under names that begin with that of a data set.
    fn named(data_set: &str, parts: &[(&str, &[Vec<u8>; 2])]) -> Vec<(String, Vec<u8>)> {
        parts
            .iter()
            .flat_map(|(part, [images, labels])| {
                [
                    (format!("{data_set}{part}-images-idx3-ubyte"), images.clone()),
                    (format!("{data_set}{part}-labels-idx1-ubyte.gz"), gz(labels)),
                ]
            })
            .collect()
    }

    fn dir_of(files: &[(String, Vec<u8>)]) -> TempDir {
        dir(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
    }

    fn measure_dir(dir: &TempDir) -> Result<MeasuredSet, String> {
        let options = OpenOptions { path: Some(dir.path().into()), ..OpenOptions::default() };
        MeasuredSet::open(&options).map_err(|error| error.to_string())
    }

    /// `count` images of 3 x 2 pixels with the labels 1 to 3 in turn.
    fn from_one(count: u32) -> [Vec<u8>; 2] {
        [pair(count)[0].clone(), content(&[LABELS_MAGIC, count], (0..count).map(|i| (i % 3) as u8 + 1))]
    }

    #[test]
    fn files_may_be_called_after_their_data_set() {
        for (data_set, test) in [("emnist-balanced-", "test"), ("kmnist-", "t10k"), ("QMNIST_", "test")] {
            let both = dir_of(&named(data_set, &[("train", &pair(6)), (test, &pair(3))]));
            let set = open_dir(&both).unwrap();
            assert_eq!((set.train.len(), set.val.len(), set.classes.len()), (6, 3, 3), "{data_set}");
            let is_transposed = set.warnings.iter().any(|warning| warning.contains("with rows and columns swapped"));
            assert_eq!(
                (is_transposed, set.warnings.len()),
                (data_set.starts_with("emnist"), usize::from(is_transposed))
            );
            let alone = dir_of(&named(data_set, &[("train", &pair(12))]));
            assert_eq!(open_dir(&alone).unwrap().train.len(), 9, "{data_set}");
            let measured = measure_dir(&dir_of(&named(data_set, &[(test, &pair(3))]))).unwrap();
            assert_eq!((measured.parts.len(), measured.parts[0].part), (1, Some(Part::Test)), "{data_set}");
        }
        let files = named("emnist-letters-", &[("train", &pair(6))]);
        let error = open_dir(&dir_of(&files[..1])).unwrap_err();
        assert!(error.contains("`emnist-letters-train-labels-idx1-ubyte`, plain or as `.gz`, is missing"), "{error}");
    }

    #[test]
    fn several_data_sets_in_a_folder_are_named_and_not_mixed() {
        let letters = named("emnist-letters-", &[("train", &pair(6)), ("test", &pair(3))]);
        let balanced = named("emnist-balanced-", &[("train", &pair(9))]);
        let both = dir_of(&[letters.clone(), balanced].concat());
        let path = both.path().display().to_string();
        for error in [open_dir(&both).unwrap_err().replace("DIR", &path), measure_dir(&both).err().unwrap()] {
            assert_eq!(
                error,
                format!(
                    "`{path}` holds IDX files of several data sets: `emnist-balanced`, `emnist-letters`: put the files of each into a \
                     folder of its own and give that folder"
                )
            );
        }
        // Files without the name of a data set are those of the folder.
        let beside = dir_of(&[letters, named("", &[("train", &pair(12)), ("t10k", &pair(3))])].concat());
        let set = open_dir(&beside).unwrap();
        assert_eq!((set.train.len(), set.val.len(), set.warnings.len()), (12, 3, 2));
        assert!(
            set.warnings.iter().all(|warning| warning.ends_with("because they are of the data set `emnist-letters`")),
            "{:?}",
            set.warnings
        );
    }

    #[test]
    fn labels_that_start_at_one_make_no_empty_class() {
        let files = named("letters-", &[("train", &from_one(12)), ("test", &from_one(6))]);
        let letters = dir_of(&files);
        let set = open_dir(&letters).unwrap();
        assert_eq!(set.classes, ["1", "2", "3"]);
        assert_eq!((0..3).map(|index| set.train.label(index)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((0..3).map(|index| set.val.label(index)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(set.warnings.len(), 1, "{:?}", set.warnings);
        assert!(set.warnings[0].ends_with("has the label 0, so the first class, `1`, is that of label 1"));
        let measured = measure_dir(&letters).unwrap();
        assert_eq!((measured.classes.as_slice(), measured.images().label(2)), (set.classes.as_slice(), 2));
        // Split here.
        assert_eq!(open_dir(&dir_of(&files[..2])).unwrap().classes, ["1", "2", "3"]);
        // With names for them, and with names for the label 0 too.
        for (names, classes, label) in
            [("a\nb\nc", vec!["a", "b", "c"], 0), ("-\na\nb\nc", vec!["-", "a", "b", "c"], 1)]
        {
            fs::write(letters.path().join("classes.txt"), names).unwrap();
            let set = open_dir(&letters).unwrap();
            assert_eq!(
                (set.classes, set.train.label(0)),
                (classes.iter().map(|name| (*name).to_owned()).collect(), label)
            );
        }
        // A label that does not occur in training.
        let files = named("letters-", &[("train", &from_one(12)), ("test", &pair(6))]);
        let error = open_dir(&dir_of(&files)).unwrap_err();
        assert_eq!(
            error,
            "`DIR/letters-test-labels-idx1-ubyte.gz` gives image 0 the label 0, but there are 3 classes, with the labels 1 to 3"
        );
        // More than the label 0 is missing: these are gaps.
        let gap = [pair(6)[0].clone(), content(&[LABELS_MAGIC, 6], [2, 3, 2, 3, 2, 3])];
        let set = open_dir(&dir_of(&named("", &[("train", &gap)]))).unwrap();
        assert_eq!((set.classes.len(), set.warnings.len()), (4, 2));
    }

    #[test]
    fn the_first_number_of_a_wide_label_is_the_class() {
        let wide = |labels: &[i32]| {
            let numbers = labels.iter().flat_map(|&label| [label as u32, 7, 8]);
            content(&[WIDE_LABELS_MAGIC, labels.len() as u32, 3], numbers.flat_map(u32::to_be_bytes))
        };
        let open = |labels: &[u8]| {
            open_dir(&dir(&[
                ("qmnist-train-images-idx3-ubyte", &pair(6)[0]),
                ("qmnist-train-labels-idx2-int.gz", &gz(labels)),
                ("qmnist-test-images-idx3-ubyte.gz", &gz(&pair(6)[0])),
                ("qmnist-test-labels-idx2-int", labels),
            ]))
        };
        let set = open(&wide(&[0, 1, 2, 2, 1, 0])).unwrap();
        assert_eq!((set.classes.len(), set.train.len(), set.val.len(), set.train.label(3)), (3, 6, 6, 2));
        let error = open(&wide(&[0, 1, 2, 2, 1, -1])).unwrap_err();
        assert!(error.ends_with("image 5 has the label -1, which is not between 0 and 255"), "{error}");
        let whole = wide(&[0, 1, 2, 2, 1, 0]);
        let error = open(&whole[..whole.len() - 1]).unwrap_err();
        assert!(error.ends_with("the header declares 6 labels of 3 numbers, 72 bytes, but 71 follow"), "{error}");
    }

    #[test]
    fn an_empty_pair_of_files_does_not_hide_the_others() {
        let ([images, labels], [no_images, no_labels]) = (pair(6), pair(0));
        let files: [(&str, &[u8]); 6] = [
            ("train-images-idx3-ubyte", &images),
            ("train-labels-idx1-ubyte", &labels),
            ("val-images-idx3-ubyte", &no_images),
            ("val-labels-idx1-ubyte", &no_labels),
            ("test-images-idx3-ubyte", &images),
            ("test-labels-idx1-ubyte", &labels),
        ];
        let all = dir(&files);
        let set = open_dir(&all).unwrap();
        assert!(set.description.ends_with("`test-images-idx3-ubyte` for validation"), "{}", set.description);
        assert!(set.warnings[0].ends_with("val-images-idx3-ubyte` holds no images and is skipped"));
        let measure =
            |dir: &TempDir| MeasuredSet::open(&OpenOptions { path: Some(dir.path().into()), ..OpenOptions::default() });
        assert_eq!(measure(&all).unwrap().images().len(), 12);
        let error = measure(&dir(&files[2..4])).err().unwrap().to_string();
        assert!(error.ends_with("holds no images"), "{error}");
        assert!(open_dir(&dir(&files[..4])).unwrap_err().ends_with("val-images-idx3-ubyte` holds no images"));
    }
}

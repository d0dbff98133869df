//! Images in IDX files, the format of MNIST and its kin: one file of gray images, one of labels.
//!
//! A header of big-endian numbers (magic, count, rows, columns; magic, count), then one byte per pixel or label. A directory
//! holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and for validation the same with `val-`, `test-` or `t10k-`, or another
//! name of a [part](Part); each may be compressed (`.gz`), and the older spelling with a point (`train-images.idx3-ubyte`) is known. A file `classes.txt`
//! names the classes in label order, see [`ClassList`]; without it they are called by their numbers.

use std::collections::BTreeSet;
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
const IMAGES_HEADER: usize = 16;
const LABELS_HEADER: usize = 8;

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
    let [_, count] = header::<2>(&bytes, LABELS_MAGIC, "labels")?;
    check_len(&bytes, LABELS_HEADER, &[count], &format!("{count} labels"))?;
    bytes.drain(..LABELS_HEADER);
    Ok(bytes)
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
        Ok(Self { images_path, labels_path, images: Arc::new(images), labels: Arc::new(labels) })
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
            rows,
        })
    }

    /// Refuses labels beyond the list of classes.
    pub(crate) fn check_labels(&self, classes: usize) -> Result<(), SourceError> {
        match self.labels.iter().position(|&label| usize::from(label) >= classes) {
            None => Ok(()),
            Some(index) => Err(SourceError::IdxLabel {
                path: self.labels_path.clone(),
                index,
                label: usize::from(self.labels[index]),
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
    rows: Vec<usize>,
}

impl ImageSource for IdxSource {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.labels[self.rows[index]])
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{}", path_text(&self.path), self.rows[index])
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        Ok(EncodedImage::Rgb(self.images.image(self.rows[index])))
    }
}

/// The file `{part}-{rest}`, plain or compressed, in either spelling.
fn find(dir: &Path, part: &str, what: &str, idx: &str) -> Option<PathBuf> {
    ["-", "."].into_iter().find_map(|separator| {
        ["", ".gz"]
            .into_iter()
            .map(|ending| dir.join(format!("{part}-{what}{separator}{idx}-ubyte{ending}")))
            .find(|path| path.is_file())
    })
}

/// Both files of a part. One without the other is an error.
fn find_pair(dir: &Path, part: Part, name: &str) -> Result<Option<Files>, SourceError> {
    let images = find(dir, name, "images", "idx3");
    let labels = find(dir, name, "labels", "idx1");
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
        let endings = ["-images-idx3-ubyte", "-images.idx3-ubyte", "-labels-idx1-ubyte", "-labels.idx1-ubyte"];
        endings.into_iter().find_map(|ending| name.strip_suffix(ending)).map(str::to_owned)
    };
    entries.filter_map(|entry| beginning(path_text(Path::new(&entry.file_name())))).collect()
}

/// The parts that these names stand for, the preferred ones first.
fn parts(names: &BTreeSet<String>) -> Vec<(Part, &str)> {
    let mut parts: Vec<(Part, &str)> =
        Part::among(names.iter().map(String::as_str)).into_iter().map(|(name, part)| (part, name)).collect();
    // The ten thousand images of MNIST's test set.
    parts.extend(names.get("t10k").map(|name| (Part::Test, name.as_str())));
    parts.sort_by_key(|(part, name)| {
        (*part, PREFERRED.iter().position(|preferred| preferred == name).unwrap_or(PREFERRED.len()), *name)
    });
    parts
}

/// Whether a directory looks like a set of IDX files.
pub(crate) fn is_idx_dir(dir: &Path) -> bool {
    !parts(&beginnings(dir)).is_empty()
}

/// The files of each part, Train first, and a sentence about each pair that is not used.
fn find_files(dir: &Path) -> Result<(Vec<Files>, Vec<String>), SourceError> {
    let names = beginnings(dir);
    let parts = parts(&names);
    let (mut found, mut warnings): (Vec<Files>, _) = (Vec::new(), Vec::new());
    for &(part, name) in &parts {
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
        warnings.push(format!(
            "the files `{name}-images` and `{name}-labels` in `{}` are not used because `{name}` is not the name of a part",
            dir.display()
        ));
    }
    Ok((found, warnings))
}

fn file_name(path: &Path) -> String {
    path_text(Path::new(path.file_name().unwrap_or_default()))
}

/// The names of the classes of these pairs: those of `classes.txt`, or the numbers up to the largest label.
fn classes(dir: &Path, pairs: &[&IdxPair]) -> Result<Vec<String>, SourceError> {
    let names_path = dir.join("classes.txt");
    if names_path.is_file() {
        let bytes = std::fs::read(&names_path).map_err(|error| SourceError::read(&names_path, error))?;
        return Ok(ClassList::parse(&names_path, &bytes)?.into_names());
    }
    let last = pairs.iter().flat_map(|pair| pair.labels.iter()).max().copied().unwrap_or_default();
    Ok((0..=last).map(|label| label.to_string()).collect())
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
    let classes = classes(dir, &pairs.iter().map(|(_, pair)| pair).collect::<Vec<_>>())?;
    pairs.iter().try_for_each(|(_, pair)| pair.check_labels(classes.len()))?;
    let parts = pairs.iter().map(|(part, pair)| MeasuredPart { part: Some(*part), images: pair.source() }).collect();
    let what = format!("IDX files in `{}`", dir.display());
    Ok(MeasuredSet::from_parts(classes, parts, &what, warnings, LeftOut::default()))
}

pub(crate) fn open(dir: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
    let (files, mut warnings) = find_files(dir)?;
    let Some(train) = files.iter().find(|files| files.part == Part::Train) else {
        return Err(SourceError::NoIdxFiles { path: dir.to_owned() });
    };
    let train = IdxPair::open(train)?;
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
    let classes = classes(dir, &[&train])?;
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
        rows_of_class[usize::from(label)].push(row);
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

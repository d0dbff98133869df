//! Images in IDX files, the format of MNIST and its kin: one file of gray images, one of labels.
//!
//! A header of big-endian numbers (magic, count, rows, columns; magic, count), then one byte per pixel or label. A directory
//! holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and for validation the same with `t10k-` or `val-`; each
//! may be compressed (`.gz`), and the older spelling with a point (`train-images.idx3-ubyte`) is known. A file `classes.txt`
//! names the classes, one a line in label order; without it they are called by their numbers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::image::RgbImage;
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
        if labels.is_empty() {
            return Err(SourceError::EmptySplit { path: images_path.display().to_string() });
        }
        Ok(Self { images_path, labels_path, images: Arc::new(images), labels: Arc::new(labels) })
    }

    fn open(files: (PathBuf, PathBuf)) -> Result<Self, SourceError> {
        let open = |path: PathBuf| match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(SourceError::Read { path, error }),
        };
        Self::read(open(files.0)?, open(files.1)?)
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
        format!("{}#{}", self.path.display(), self.rows[index])
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
fn find_pair(dir: &Path, part: &str) -> Result<Option<(PathBuf, PathBuf)>, SourceError> {
    let images = find(dir, part, "images", "idx3");
    let labels = find(dir, part, "labels", "idx1");
    let no_partner = |path, partner| Err(SourceError::NoIdxPartner { path, partner });
    match (images, labels) {
        (Some(images), Some(labels)) => Ok(Some((images, labels))),
        (Some(path), None) => no_partner(path, format!("{part}-labels-idx1-ubyte")),
        (None, Some(path)) => no_partner(path, format!("{part}-images-idx3-ubyte")),
        (None, None) => Ok(None),
    }
}

/// Whether a directory looks like a set of IDX files.
pub(crate) fn is_idx_dir(dir: &Path) -> bool {
    find(dir, "train", "images", "idx3").is_some() || find(dir, "train", "labels", "idx1").is_some()
}

/// The names in a `classes.txt`.
pub(crate) fn class_names(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn open(dir: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
    let Some(files) = find_pair(dir, "train")? else {
        return Err(SourceError::NoIdxFiles { path: dir.to_owned() });
    };
    let train = IdxPair::open(files)?;
    let mut val = None;
    for part in ["val", "t10k"] {
        if let Some(files) = find_pair(dir, part)? {
            val = Some(IdxPair::open(files)?);
            break;
        }
    }
    let names_path = dir.join("classes.txt");
    let classes: Vec<String> = if names_path.is_file() {
        let text =
            std::fs::read_to_string(&names_path).map_err(|error| SourceError::Read { path: names_path, error })?;
        class_names(&text)
    } else {
        // The training labels say how many classes there are; a validation label beyond them is an error.
        let last = train.labels.iter().max().copied().unwrap_or_default();
        (0..=last).map(|label| label.to_string()).collect()
    };
    if let [class] = classes.as_slice() {
        return Err(SourceError::OneClass { path: dir.display().to_string(), class: class.clone() });
    }
    build(classes, &train, val.as_ref(), &format!("IDX files in `{}`", dir.display()), options)
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
        let file = val.images_path.file_name().unwrap_or_default().to_string_lossy();
        let description = format!("{what}, `{file}` for validation");
        let (train, val) = (train.source(), val.source());
        return Ok(DataSet { classes, train, val, description, warnings, has_own_split: true, known_readable: false });
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
    Ok(DataSet { classes, train, val, description, warnings, has_own_split: false, known_readable: false })
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
            ("classes.txt", "red\ngrün\n\nblue\n".as_bytes()),
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
        let empty = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            kind: crate::source::SourceKind::Idx,
            path: Some(empty.path().to_owned()),
            ..OpenOptions::default()
        };
        assert!(DataSet::open(&options).unwrap_err().to_string().contains("holds no IDX training files"));
    }
}

//! Images in folders, one folder per class.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::TarSource;
use crate::layout::{Labelled, Listing};
use crate::left_out::{FIRST_BYTES, LeftOut, may_lie_in_class};
use crate::measure::MeasuredSet;
use crate::name::{path_text, text};
use crate::source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError};

/// Larger files are not photographs, and reading one would fill the memory.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// One part of a folder data set.
#[derive(Debug)]
struct FolderSource {
    /// Path and class number of each image.
    images: Vec<Labelled<PathBuf>>,
}

impl ImageSource for FolderSource {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1
    }

    fn name(&self, index: usize) -> String {
        path_text(&self.images[index].0)
    }

    fn read(&self, index: usize) -> Result<EncodedImage, SourceError> {
        read_file(&self.images[index].0)
    }
}

/// Reads an image file.
pub(crate) fn read_file(path: &Path) -> Result<EncodedImage, SourceError> {
    let bytes = fs::metadata(path).map_err(|error| SourceError::read(path, error))?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(SourceError::FileTooLarge { path: path.to_owned(), bytes, max_bytes: MAX_FILE_BYTES });
    }
    let bytes = fs::read(path).map_err(|error| SourceError::read(path, error))?;
    Ok(EncodedImage::File(bytes))
}

/// What lies in a folder.
fn list(root: &Path, options: &OpenOptions) -> Result<Listing<PathBuf>, SourceError> {
    Ok(walk(root, false)?.without(&options.leave_out).find_pictures(|path| first_bytes(path)))
}

/// What lies in a folder, without what cannot be read.
pub(crate) fn list_readable(root: &Path, options: &OpenOptions) -> Result<Listing<PathBuf>, SourceError> {
    Ok(walk(root, true)?.without(&options.leave_out).find_pictures(|path| first_bytes(path)))
}

fn walk(root: &Path, is_lenient: bool) -> Result<Listing<PathBuf>, SourceError> {
    let mut listing = Listing::new(path_text(root));
    let mut walk = Walk { listing: &mut listing, ancestors: HashSet::new(), is_lenient };
    walk.dir(root, "")?;
    Ok(listing.without_linked(|path| key(path)))
}

/// What is the same for two names of one file.
#[cfg(unix)]
fn key(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// What is the same for two names of one file.
#[cfg(not(unix))]
fn key(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// The beginning of a file, or nothing if it cannot be read: whoever takes the file gets the error.
fn first_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FIRST_BYTES).read_to_end(&mut bytes));
    read.map_or_else(|_| Vec::new(), |_| bytes)
}

/// All image files of a folder, at any depth, in bytewise order of their paths, and what else is there. A folder in it that cannot be read
/// is left out.
///
/// # Errors
///
/// [`SourceError::Read`] if the folder itself cannot be read.
pub fn image_files(root: &Path) -> Result<(Vec<PathBuf>, LeftOut), SourceError> {
    let listing = list_readable(root, &OpenOptions::default())?;
    let left_out = listing.left_out();
    Ok((listing.images.into_values().collect(), left_out))
}

fn source(images: Vec<Labelled<PathBuf>>) -> Arc<dyn ImageSource> {
    Arc::new(FolderSource { images })
}

/// Opens a folder to measure a model on.
pub(crate) fn measure(root: &Path, options: &OpenOptions) -> Result<MeasuredSet, SourceError> {
    let mut measured = list(root, options)?.measured()?;
    measured.warnings.extend(TarSource::not_read_warning(root, options));
    Ok(MeasuredSet::new(measured, format!("folder `{}`", root.display()), |_, images| source(images)))
}

pub(crate) fn open(root: &Path, options: &OpenOptions) -> Result<DataSet, SourceError> {
    let mut layout = list(root, options)?.layout(options)?;
    layout.warnings.extend(TarSource::not_read_warning(root, options));
    Ok(DataSet {
        train: source(layout.train),
        val: source(layout.val),
        description: format!("folder `{}`, {}", root.display(), layout.split),
        classes: layout.classes,
        warnings: layout.warnings,
        left_out: layout.left_out,
        has_own_split: layout.has_own_split,
        known_readable: false,
    })
}

struct Walk<'a> {
    listing: &'a mut Listing<PathBuf>,
    /// The folders that we are in, with links resolved: a link to one of them would never end.
    ancestors: HashSet<PathBuf>,
    /// Whether a folder that cannot be read is left out.
    is_lenient: bool,
}

impl Walk<'_> {
    fn dir(&mut self, dir: &Path, below_root: &str) -> Result<(), SourceError> {
        let real = fs::canonicalize(dir).map_err(|error| SourceError::read(dir, error))?;
        if !self.ancestors.insert(real.clone()) {
            self.listing.left_out.add_circle(below_root);
            return Ok(());
        }
        let result = self.entries(dir, below_root);
        self.ancestors.remove(&real);
        result
    }

    fn entries(&mut self, dir: &Path, below_root: &str) -> Result<(), SourceError> {
        let read_error = |error| SourceError::read(dir, error);
        for entry in fs::read_dir(dir).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let name = text(entry.file_name().as_encoded_bytes());
            let path = entry.path();
            let below = if below_root.is_empty() { name } else { format!("{below_root}/{name}") };
            let mut kind = entry.file_type().map_err(|error| SourceError::read(&path, error))?;
            if kind.is_symlink() {
                // A link to nowhere is listed as a file: reading it gives the error, with its name.
                if let Ok(metadata) = fs::metadata(&path) {
                    kind = metadata.file_type();
                }
            }
            if kind.is_dir() {
                self.inner_dir(&path, &below)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.listing.add_file(&below, path);
            } else {
                // Reading a pipe would wait for ever.
                self.listing.left_out.add_special(below);
            }
        }
        Ok(())
    }

    fn inner_dir(&mut self, path: &Path, below: &str) -> Result<(), SourceError> {
        let is_taken = self.listing.add_dir(below);
        if !is_taken && !may_lie_in_class(below) {
            return Ok(());
        }
        match self.dir(path, below) {
            // Other users' bins and the system's own folders are often closed.
            Err(_) if !is_taken => Ok(()),
            Err(SourceError::Read { error, .. }) if self.is_lenient => {
                self.listing.left_out.add_unreadable(below, error.to_string());
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tempfile::TempDir;

    use super::*;
    use crate::layout::is_image_name;
    use crate::loader::{Loader, LoaderConfig};
    use crate::sampling::Sampling;
    use crate::source::SourceKind;
    use crate::transform::{Pipeline, Transform};

    /// A small image file; `level` makes it one of its own.
    fn png(level: u8) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::GrayImage::from_pixel(3, 2, image::Luma([level])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// A folder of these files: images, and text where a name does not say that it is an image.
    fn folder(files: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (number, file) in files.iter().enumerate() {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = if is_image_name(file) { png(number as u8) } else { b"words".to_vec() };
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn open_auto(path: &Path) -> Result<DataSet, SourceError> {
        let path = Some(path.to_owned());
        DataSet::open(&OpenOptions { path, val_fraction: 0.25, ..OpenOptions::default() })
    }

    /// The error for a folder of these files, with the folder's own path as `DIR`.
    fn error(files: &[&str]) -> String {
        let dir = folder(files);
        let error = open_auto(dir.path()).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    }

    fn listed(dir: &TempDir, source: &dyn ImageSource) -> Vec<String> {
        let prefix = format!("{}/", dir.path().display());
        (0..source.len())
            .map(|index| format!("{} {}", source.label(index), source.name(index).replace(&prefix, "")))
            .collect()
    }

    #[test]
    fn train_and_val_folders_are_the_parts() {
        let dir = folder(&[
            "train/dog/b.PNG",
            "train/dog/a.JPEG",
            "train/cat/deep/er/c.jpg",
            "train/Ähre/x.gif",
            "val/dog/v.webp",
            "val/cat/v.bmp",
            "test/cat/t.jpe",
        ]);
        let set = open_auto(dir.path()).unwrap();
        assert_eq!(set.classes, ["cat", "dog", "Ähre"]);
        assert_eq!(
            listed(&dir, set.train.as_ref()),
            ["0 train/cat/deep/er/c.jpg", "1 train/dog/a.JPEG", "1 train/dog/b.PNG", "2 train/Ähre/x.gif"]
        );
        assert_eq!(listed(&dir, set.val.as_ref()), ["0 val/cat/v.bmp", "1 val/dog/v.webp"]);
        let dir_path = dir.path().display();
        assert_eq!(set.description, format!("folder `{dir_path}`, `val` for validation"));
        assert_eq!(set.warnings, [format!("`{dir_path}/val` holds no images of 1 of 3 classes: `Ähre`")]);
        assert_eq!(set.left_out.line().unwrap(), "left out: 1 image of `test`");
        assert!(matches!(set.train.read(0).unwrap(), EncodedImage::File(bytes) if bytes == png(2)));
    }

    #[test]
    fn gray_images_deep_in_folders_with_any_name_are_loaded() {
        let dir = folder(&["犬/été 2025/ü#1.png", "犬/2.png", "кот/a/b/c/3.png", "one image/4.png"]);
        let path = Some(dir.path().to_owned());
        let set = DataSet::open(&OpenOptions { path, val_fraction: 0.0, ..OpenOptions::default() }).unwrap();
        assert_eq!(set.classes, ["one image", "кот", "犬"]);
        for sampling in [Sampling::Shuffled, Sampling::Balanced, Sampling::Repeated(2)] {
            let pipeline = Pipeline::new(&[Transform::CenterCrop { size: None }], 2).unwrap();
            let config = LoaderConfig { shuffle: true, sampling, ..LoaderConfig::default() };
            let loader = Loader::new(Arc::clone(&set.train), pipeline, config).unwrap();
            let batch = loader.epoch(0, 0).next().unwrap().unwrap();
            for (place, &index) in batch.indices.iter().enumerate() {
                // The levels are the numbers of the files: sorted by class, they are 3, 2, 1, 0.
                assert_eq!(batch.pixels[place * 12..][..12], [3 - index as u8; 12]);
                assert_eq!(batch.labels[place], [0, 1, 2, 2][index]);
            }
        }
    }

    #[test]
    fn the_preferred_name_of_the_validation_folder_wins() {
        for (names, expected) in [
            (["test", "validation"], "validation"),
            (["validation", "valid"], "valid"),
            (["valid", "val"], "val"),
            (["test", "Dev set"], "Dev set"),
        ] {
            let mut files = vec!["train/a/1.png".to_owned(), "train/b/1.png".to_owned()];
            files.extend(names.iter().map(|name| format!("{name}/a/1.png")));
            let dir = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
            let set = open_auto(dir.path()).unwrap();
            assert!(set.val.name(0).ends_with(&format!("{expected}/a/1.png")), "{expected}");
        }
    }

    #[test]
    fn class_folders_alone_are_split_class_by_class() {
        let mut files: Vec<String> = (0..8).map(|i| format!("a/{i}.png")).collect();
        files.extend((0..4).map(|i| format!("b/{i}.png")));
        files.push("single/0.png".to_owned());
        let dir = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let set = open_auto(dir.path()).unwrap();
        let count =
            |source: &dyn ImageSource, label| (0..source.len()).filter(|&index| source.label(index) == label).count();
        assert_eq!([0, 1, 2].map(|label| count(set.train.as_ref(), label)), [6, 3, 1]);
        assert_eq!([0, 1, 2].map(|label| count(set.val.as_ref(), label)), [2, 1, 0]);
        assert_eq!(
            set.warnings,
            ["the class `single` holds a single image: it is for training, and none is left for validation"]
        );
        assert!(set.description.ends_with("0.25 of each class for validation, seed 0"));

        // The same below `train`, where no validation folder is beside it.
        let moved = tempfile::tempdir().unwrap();
        fs::rename(dir.path(), moved.path().join("train")).unwrap();
        let again = open_auto(moved.path()).unwrap();
        let names = |source: &dyn ImageSource| -> Vec<String> {
            (0..source.len())
                .map(|i| {
                    source.name(i).rsplit_once("/train/").map_or_else(
                        || source.name(i).replace(&format!("{}/", dir.path().display()), ""),
                        |(_, rest)| rest.to_owned(),
                    )
                })
                .collect()
        };
        assert_eq!(names(set.val.as_ref()), names(again.val.as_ref()));
    }

    #[test]
    fn hidden_and_foreign_files_are_left_out_and_counted() {
        let dir =
            folder(&["a/1.png", "a/.2.png", "a/notes.txt", "b/1.jfif", ".cache/x.png", "README", "b/@eaDir/1.jpg"]);
        let set = open_auto(dir.path()).unwrap();
        assert_eq!((set.classes.len(), set.train.len() + set.val.len()), (2, 2));
        assert_eq!(
            set.left_out.line().unwrap(),
            "left out: 1 file ending in `.txt`, 1 file without an ending, 2 hidden files or folders, 1 system file or folder"
        );
    }

    #[test]
    fn each_mistake_has_a_sentence_of_its_own() {
        assert_eq!(
            error(&["1.png", "2.png"]),
            "`DIR` holds 2 images but no class folders: put the images of each class into a folder with the name of the class"
        );
        assert_eq!(
            error(&["train/1.png", "val/2.png"]),
            "`DIR/train` holds 1 image but no class folders: put the images of each class into a folder with the name of the class"
        );
        assert_eq!(
            error(&[]),
            "`DIR` holds no class folders: a data set is a folder with one folder of images per class, or with `train` and `val` that are such folders"
        );
        assert_eq!(
            error(&["a/1.png", "b/x.txt"]),
            "the class folder `DIR/b` holds no images (1 other file): add images (jpg, png, webp, bmp or gif) or remove the folder"
        );
        assert_eq!(
            error(&["a/1.png"]),
            "`DIR` holds only one class, `a`, but a classifier needs at least two: if the class folders lie inside of `a`, give that folder"
        );
        assert_eq!(
            error(&["train/a/1.png", "train/b/1.png", "val/c/1.png"]),
            "`DIR/val/c` is a class of the validation images, but there is no such class to train on in `DIR/train`"
        );
        assert_eq!(error(&["train/a/1.png", "train/b/1.png", "val/a/x.txt"]), "`DIR/val` holds no images");
        assert_eq!(
            error(&["val/a/1.png", "val/b/1.png"]),
            "`DIR` has a folder of validation images, but none called `train` beside it"
        );

        let dir = folder(&["file.png"]);
        let (root, file) = (dir.path().display(), dir.path().join("file.png"));
        let missing = dir.path().join("missing");
        assert_eq!(open_auto(&missing).unwrap_err().to_string(), format!("`{root}/missing` does not exist"));
        assert_eq!(
            open_auto(&file).unwrap_err().to_string(),
            format!(
                "`{root}/file.png` is a PNG image, not a data set: give a folder of class folders, a tar archive (`.tar`, `.tar.gz` or `.tgz`), or a list of images (`.csv`, `.tsv`, `.json` or `.jsonl`)"
            )
        );
        let open = |kind, path: Option<&Path>, val_fraction| {
            let path = path.map(Path::to_owned);
            let options = OpenOptions { kind, path, val_fraction, ..OpenOptions::default() };
            DataSet::open(&options).unwrap_err().to_string()
        };
        assert_eq!(
            open(SourceKind::Folder, Some(&file), 0.1),
            format!("`{root}/file.png` is a file, but this source is read from a folder")
        );
        assert!(
            open(SourceKind::Auto, None, 0.1).starts_with("no data set was named for source `auto`: give the path")
        );
        assert!(
            open(SourceKind::FashionMnistSample, Some(&file), 0.1)
                .starts_with("the source `fashion-mnist-sample` is built in and takes no path")
        );
        assert_eq!(
            open(SourceKind::Folder, Some(dir.path()), 1.0),
            "the validation fraction is 1, but it must be at least 0 and below 1"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_count_and_cycles_end() {
        use std::os::unix::fs::symlink;
        let dir = folder(&["a/1.png", "b/1.png"]);
        symlink(dir.path().join("a/1.png"), dir.path().join("b/linked.png")).unwrap();
        symlink(dir.path(), dir.path().join("a/up")).unwrap();
        symlink(dir.path().join("nowhere.png"), dir.path().join("b/broken.png")).unwrap();
        let path = Some(dir.path().to_owned());
        let set = DataSet::open(&OpenOptions { path, val_fraction: 0.0, ..OpenOptions::default() }).unwrap();
        assert_eq!(listed(&dir, set.train.as_ref()), ["0 a/1.png", "1 b/1.png", "1 b/broken.png", "1 b/linked.png"]);
        assert!(set.train.read(3).is_ok());
        let error = set.train.read(2).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read `{}/b/broken.png`", dir.path().display())), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_hidden_folder_may_keep_what_the_classes_show() {
        use std::os::unix::fs::symlink;
        let dir = folder(&["a/0.png", "b/0.png", ".pool/1.png", ".pool/2.png"]);
        symlink("../.pool/1.png", dir.path().join("a/1.png")).unwrap();
        assert!(open_auto(dir.path()).unwrap_err().to_string().contains("1 image of `.pool`"));
        fs::hard_link(dir.path().join(".pool/2.png"), dir.path().join("b/2.png")).unwrap();
        let set = open_auto(dir.path()).unwrap();
        assert_eq!(set.train.len() + set.val.len(), 4);
        assert_eq!(set.left_out.line().unwrap(), "left out: 1 hidden file or folder");
    }

    #[test]
    fn the_fingerprint_sees_names_and_labels() {
        let dir = folder(&["a/1.png", "a/2.png", "b/1.png", "b/2.png"]);
        let print = || DataSet::fingerprint(open_auto(dir.path()).unwrap().train.as_ref());
        let before = print();
        assert_eq!(before, print());
        assert_eq!(before.len(), 64);
        fs::write(dir.path().join("a/0.png"), png(9)).unwrap();
        assert_ne!(before, print());
        fs::remove_file(dir.path().join("a/0.png")).unwrap();
        let moved = tempfile::tempdir().unwrap();
        fs::rename(dir.path(), moved.path().join("elsewhere")).unwrap();
        let again = open_auto(&moved.path().join("elsewhere")).unwrap();
        assert_eq!(before, DataSet::fingerprint(again.train.as_ref()));
    }

    #[test]
    fn pictures_that_have_lost_their_ending_are_a_loss() {
        let dir = folder(&["a/1.png", "b/1.png", "README"]);
        assert_eq!(open_auto(dir.path()).unwrap().left_out.line().unwrap(), "left out: 1 file without an ending");
        for (name, words) in [
            ("a/photo", "1 picture whose name has no ending"),
            ("b/1.jpg_large", "1 picture whose name ends in `.jpg_large`"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, png(9)).unwrap();
            let error = open_auto(dir.path()).unwrap_err().to_string();
            assert!(error.contains("1 of the 3 pictures") && error.contains(words), "{error}");
            let measured =
                crate::MeasuredSet::open(&OpenOptions { path: Some(dir.path().into()), ..OpenOptions::default() });
            assert!(measured.is_err_and(|error| error.to_string().contains(words)));
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_class_whose_pictures_cannot_be_read_is_an_error_in_measuring_too() {
        let mut files: Vec<String> = (0..300).map(|number| format!("a/{number}.png")).collect();
        files.extend(["b/1.tif".to_owned()]);
        let dir = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let measure = |leave_out: &[&str]| {
            let leave_out = leave_out.iter().map(|&pattern| pattern.to_owned()).collect();
            let options = OpenOptions { path: Some(dir.path().into()), leave_out, ..OpenOptions::default() };
            crate::MeasuredSet::open(&options).map_err(|error| error.to_string())
        };
        let error = measure(&[]).err().unwrap();
        assert!(error.contains("/b` holds no images (1 other file)"), "{error}");
        assert_eq!(measure(&["/b"]).unwrap().classes, ["a"]);
    }

    #[test]
    fn patterns_leave_out_hidden_classes_as_well() {
        let dir = folder(&["a/1.png", "b/1.png", ".net/1.png"]);
        let open = |leave_out: &[&str]| {
            let leave_out = leave_out.iter().map(|&pattern| pattern.to_owned()).collect();
            DataSet::open(&OpenOptions { path: Some(dir.path().into()), leave_out, ..OpenOptions::default() })
        };
        assert!(open(&[]).unwrap_err().to_string().contains("data.leave_out = [\"/.net\"]"));
        assert_eq!(open(&["/.net"]).unwrap().left_out.line().unwrap(), "left out: 1 file or folder as requested");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn classes_that_differ_in_case_are_told() {
        let set = open_auto(folder(&["Cat/1.png", "cat/1.png", "dog/1.png"]).path()).unwrap();
        assert!(set.warnings.iter().any(|warning| warning.contains("`Cat` and `cat` differ in case")), "{set:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_does_not_hide_the_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = folder(&["a/1.png", "b/1.png", "c/1.png"]);
        let closed = dir.path().join("b");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let is_open = fs::read_dir(&closed).is_ok();
        let (files, left_out) = image_files(dir.path()).unwrap();
        let error = open_auto(dir.path()).err();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
        // The administrator may read everything.
        if !is_open {
            assert_eq!(files.len(), 2);
            let line = left_out.line().unwrap();
            assert!(line.starts_with("left out: 1 folder that cannot be read ("), "{line}");
            assert!(error.unwrap().to_string().starts_with("cannot read `"));
        }
    }
}

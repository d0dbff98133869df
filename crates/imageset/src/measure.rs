//! Images to measure a model on. The rules for training do not apply here: any parts, any of the classes, and a single image are enough,
//! and nothing is held back or moved.

use std::sync::Arc;

use crate::archive::TarSource;
use crate::layout::{Labelled, Measured};
use crate::left_out::LeftOut;
use crate::part::Part;
use crate::regroup::Picked;
use crate::source::{DataSet, Form, ImageSource, OpenOptions, SourceError, SourceKind, counted, limit};
use crate::{folder, idx, list, sample};

/// Some of the images of a [`MeasuredSet`].
#[derive(Clone)]
pub struct MeasuredPart {
    /// The part, or None where the images came in none.
    pub part: Option<Part>,
    /// Its images.
    pub images: Arc<dyn ImageSource>,
}

/// Images to measure a model on, in the parts that they came in.
#[derive(Clone)]
pub struct MeasuredSet {
    /// Names of the classes; a label is a place in this list. Some may have no images.
    pub classes: Vec<String>,
    /// The parts that have images, in the order of [`Part`].
    pub parts: Vec<MeasuredPart>,
    /// One line: kind, path and parts.
    pub description: String,
    /// What the user may want to know, one sentence each.
    pub warnings: Vec<String>,
    /// The files and folders that were left out.
    pub left_out: LeftOut,
}

impl MeasuredSet {
    /// Opens the images at a path. `val_fraction` and `seed` of the options do not matter.
    ///
    /// # Errors
    ///
    /// [`SourceError`], with a sentence for the person who chose the path.
    pub fn open(options: &OpenOptions) -> Result<Self, SourceError> {
        if options.kind == SourceKind::FashionMnistSample {
            let set = match &options.path {
                Some(path) => return Err(SourceError::SampleHasNoPath { path: path.clone() }),
                None => sample::open()?,
            };
            let parts = [(Part::Train, set.train), (Part::Val, set.val)];
            let parts = parts.into_iter().map(|(part, images)| MeasuredPart { part: Some(part), images }).collect();
            return Ok(Self {
                classes: set.classes,
                parts,
                description: set.description,
                warnings: set.warnings,
                left_out: set.left_out,
            });
        }
        let (form, path) = Form::find(options)?;
        let mut set = match form {
            Form::Folder => folder::measure(path, options),
            Form::Tar => TarSource::measure(path, options),
            Form::Idx => idx::measure(path),
            Form::List => list::measure(path, options),
        }?;
        set.parts.iter_mut().for_each(|part| limit(&mut part.images, options));
        Ok(set)
    }

    /// Makes a source of the images of each part; `source` gets the place of the part too.
    pub(crate) fn new<F>(
        measured: Measured<F>,
        what: String,
        source: impl Fn(usize, Vec<Labelled<F>>) -> Arc<dyn ImageSource>,
    ) -> Self {
        let Measured { classes, parts, warnings, left_out } = measured;
        let parts: Vec<MeasuredPart> = parts
            .into_iter()
            .enumerate()
            .filter(|(_, (_, images))| !images.is_empty())
            .map(|(place, (part, images))| MeasuredPart { part, images: source(place, images) })
            .collect();
        Self::from_parts(classes, parts, &what, warnings, left_out)
    }

    pub(crate) fn from_parts(
        classes: Vec<String>,
        mut parts: Vec<MeasuredPart>,
        what: &str,
        warnings: Vec<String>,
        left_out: LeftOut,
    ) -> Self {
        parts.sort_by_key(|part| part.part);
        let named: Vec<String> = parts
            .iter()
            .filter_map(|part| Some(format!("{} of `{}`", counted(part.images.len(), "image"), part.part?)))
            .collect();
        let description = if named.is_empty() { what.to_owned() } else { format!("{what}: {}", named.join(", ")) };
        Self { classes, parts, description, warnings, left_out }
    }

    /// All images, part by part.
    pub fn images(&self) -> Arc<dyn ImageSource> {
        match self.parts.as_slice() {
            [part] => Arc::clone(&part.images),
            parts => Arc::new(Picked::all(parts.iter().map(|part| Arc::clone(&part.images)).collect())),
        }
    }

    /// The same as a data set that has nothing to train on.
    pub fn into_data_set(self) -> DataSet {
        let (train, val): (Arc<dyn ImageSource>, _) = (Arc::new(Picked::all(Vec::new())), self.images());
        let Self { classes, description, warnings, left_out, .. } = self;
        let (has_own_split, known_readable) = (true, false);
        DataSet { classes, train, val, description, warnings, left_out, has_own_split, known_readable }
    }

    /// The images of one part, if there is such a part.
    pub fn part(&self, part: Part) -> Option<Arc<dyn ImageSource>> {
        let images: Vec<Arc<dyn ImageSource>> =
            self.parts.iter().filter(|found| found.part == Some(part)).map(|found| Arc::clone(&found.images)).collect();
        match images.as_slice() {
            [] => None,
            [images] => Some(Arc::clone(images)),
            _ => Some(Arc::new(Picked::all(images))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn open(path: &Path) -> MeasuredSet {
        MeasuredSet::open(&OpenOptions { path: Some(path.to_owned()), ..OpenOptions::default() }).unwrap()
    }

    #[test]
    fn everything_with_a_label_is_measured() {
        for (files, classes, counts) in [
            (&["a/1.png", "a/2.png", "b/1.png"][..], &["a", "b"][..], &[(None, 3)][..]),
            (&["test/a/1.png"], &["a"], &[(Some(Part::Test), 1)]),
            (&["a/1.png"], &["a"], &[(None, 1)]),
            (
                &["train/a/1.png", "Test/b/1.png", "val/a/1.png", "val/a/2.png"],
                &["a", "b"],
                &[(Some(Part::Train), 1), (Some(Part::Val), 2), (Some(Part::Test), 1)],
            ),
        ] {
            let dir = folder(files);
            let set = open(dir.path());
            assert_eq!(set.classes, classes, "{files:?}");
            assert_eq!(
                set.parts.iter().map(|part| (part.part, part.images.len())).collect::<Vec<_>>(),
                counts,
                "{files:?}"
            );
            let images = set.images();
            let labels: Vec<&str> = (0..images.len()).map(|index| set.classes[images.label(index)].as_str()).collect();
            for (index, class) in labels.iter().enumerate() {
                assert!(images.name(index).contains(&format!("/{class}/")), "{files:?}");
            }
            assert_eq!(images.len(), files.len());
        }
    }

    #[test]
    fn lists_are_measured_with_any_classes_in_any_part() {
        let dir = folder(&["1.png", "2.png", "3.png"]);
        fs::write(dir.path().join("list.csv"), "path,label,split\n1.png,a,test\n2.png,b,Validation\n3.png,a,test\n")
            .unwrap();
        let set = open(&dir.path().join("list.csv"));
        assert_eq!((set.classes.len(), set.images().len(), set.part(Part::Test).unwrap().len()), (2, 3, 2));
        assert!(set.part(Part::Train).is_none());
        assert!(set.description.ends_with("1 image of `val`, 2 images of `test`"), "{}", set.description);
    }

    #[test]
    fn nothing_to_measure_is_an_error() {
        let dir = folder(&["a/notes.txt"]);
        let options = OpenOptions { path: Some(dir.path().to_owned()), ..OpenOptions::default() };
        let error = MeasuredSet::open(&options).err().unwrap().to_string();
        assert!(error.ends_with("holds no images"), "{error}");
    }
}

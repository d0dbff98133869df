//! From a list of paths to classes, labels and parts: the rules that folders and archives share.
//!
//! Known layouts, seen from the root: `train/` beside one of `val`, `valid`, `validation`, `test` (the first that is there),
//! each a folder of class folders; or class folders directly, of which a part is held back for validation. Images at any depth
//! below a class folder belong to that class. Class names are in bytewise order. Hidden names and files that are no images by
//! their ending are passed over and counted.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{OpenOptions, SourceError, counted, shortened};
use crate::split::{single_image_warning, split_class, split_rule};

/// Folders that may hold the validation part, the preferred one first.
pub(crate) const VAL_NAMES: [&str; 4] = ["val", "valid", "validation", "test"];

const IMAGE_ENDINGS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif"];

/// What lies below a root, as paths with `/` between the names and without a leading one.
#[derive(Debug)]
pub(crate) struct Listing<F> {
    /// How the root is called in messages.
    pub(crate) root: String,
    /// Folders.
    pub(crate) dirs: BTreeSet<String>,
    /// Image files, in bytewise order of their paths, and how to find each.
    pub(crate) images: BTreeMap<String, F>,
    /// Files that are no images by their name. Hidden files are not in it.
    pub(crate) ignored: BTreeSet<String>,
}

/// How to find an image, and its class number.
pub(crate) type Labelled<F> = (F, usize);

/// A listing, understood.
#[derive(Debug)]
pub(crate) struct Layout<F> {
    pub(crate) classes: Vec<String>,
    pub(crate) train: Vec<Labelled<F>>,
    pub(crate) val: Vec<Labelled<F>>,
    pub(crate) split: String,
    /// Whether the listing has both parts.
    pub(crate) has_own_split: bool,
    pub(crate) warnings: Vec<String>,
}

/// Whether one name of a path says "pass me over".
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Whether a file is an image by the ending of its name.
pub(crate) fn is_image_name(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| IMAGE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

impl<F: Clone> Listing<F> {
    /// An empty root, called `root` in messages.
    pub(crate) fn new(root: String) -> Self {
        Self { root, dirs: BTreeSet::new(), images: BTreeMap::new(), ignored: BTreeSet::new() }
    }

    /// Adds a file, if it counts, with the folders above it.
    pub(crate) fn add_file(&mut self, path: &str, file: F) {
        if path.split('/').any(is_hidden) {
            return;
        }
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.add_dir(dir);
        }
        if is_image_name(path) {
            self.images.insert(path.to_owned(), file);
        } else {
            self.ignored.insert(path.to_owned());
        }
    }

    /// Adds a folder with the folders above it.
    pub(crate) fn add_dir(&mut self, path: &str) {
        if path.is_empty() || path.split('/').any(is_hidden) {
            return;
        }
        let mut path = path;
        while self.dirs.insert(path.to_owned()) {
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
    }

    /// What lies in the folder `name`, with paths from there on.
    fn below(&self, name: &str) -> Self {
        let prefix = format!("{name}/");
        let strip = |path: &String| path.strip_prefix(&prefix).map(str::to_owned);
        Self {
            root: format!("{}/{name}", self.root),
            dirs: self.dirs.iter().filter_map(strip).collect(),
            images: self.images.iter().filter_map(|(path, file)| Some((strip(path)?, file.clone()))).collect(),
            ignored: self.ignored.iter().filter_map(strip).collect(),
        }
    }

    fn top_dirs(&self) -> impl Iterator<Item = &str> {
        self.dirs.iter().map(String::as_str).filter(|path| !path.contains('/'))
    }

    /// Archives are often made of one folder that holds everything: go into it. `is_part` says that the archive is one part
    /// of a data set, so that a folder `train` in it means nothing.
    pub(crate) fn without_common_top(self, is_part: bool) -> Self {
        let tops: Vec<&str> = self.top_dirs().collect();
        let holds_classes = self.images.keys().any(|path| path.split('/').count() >= 3);
        let loose_images = self.images.keys().any(|path| !path.contains('/'));
        let &[top] = tops.as_slice() else { return self };
        if (top == "train" && !is_part) || !holds_classes || loose_images {
            return self;
        }
        let root = self.root.clone();
        let mut inner = self.below(top);
        // Messages name the archive, not a place in it.
        inner.root = root;
        inner
    }

    /// Finds the parts and the classes.
    pub(crate) fn layout(&self, options: &OpenOptions) -> Result<Layout<F>, SourceError> {
        // A class may be called `train` (as in trains): it is a part only if it holds folders, or if there is nothing else
        // but such names.
        let only_parts = self.top_dirs().all(|top| top == "train" || VAL_NAMES.contains(&top));
        let has_train = self.dirs.contains("train");
        if only_parts && !has_train && !self.dirs.is_empty() {
            return Err(SourceError::NoTrain { path: self.root.clone() });
        }
        let has_parts = self.dirs.iter().any(|dir| dir.starts_with("train/"));
        if !(has_parts || only_parts && has_train) {
            let part = self.classes()?;
            return part.split(options, &self.root);
        }
        let train = self.below("train").classes()?;
        match VAL_NAMES.into_iter().find(|&name| self.dirs.contains(name)) {
            None => train.split(options, &format!("{}/train", self.root)),
            Some(name) => train.with_val(&self.below(name), &format!("`{name}`")),
        }
    }

    /// Reads this listing and another one as the two parts.
    pub(crate) fn layout_with_val(&self, val: &Self) -> Result<Layout<F>, SourceError> {
        self.classes()?.with_val(val, &format!("`{}`", val.root))
    }

    /// Reads the listing as a folder of class folders.
    fn classes(&self) -> Result<Part<F>, SourceError> {
        let names: Vec<String> = self.top_dirs().map(str::to_owned).collect();
        let loose = self.images.keys().filter(|path| !path.contains('/')).count();
        if names.is_empty() {
            return Err(if loose > 0 {
                SourceError::NoClassFolders { path: self.root.clone(), images: loose }
            } else {
                SourceError::Empty { path: self.root.clone() }
            });
        }
        let mut warnings = Vec::new();
        if loose > 0 {
            let images = counted(loose, "image");
            warnings.push(format!("left out of `{}`: {images} outside of the class folders", self.root));
        }
        if !self.ignored.is_empty() {
            let files = counted(self.ignored.len(), "file");
            warnings.push(format!("left out of `{}`: {files} without the ending of an image", self.root));
        }
        let mut images: BTreeMap<String, Vec<(String, F)>> = names.into_iter().map(|name| (name, Vec::new())).collect();
        for (path, file) in &self.images {
            if let Some((class, _)) = path.split_once('/')
                && let Some(of_class) = images.get_mut(class)
            {
                of_class.push((path.clone(), file.clone()));
            }
        }
        Ok(Part { root: self.root.clone(), images, warnings, ignored: self.ignored.clone() })
    }
}

/// A folder of class folders.
struct Part<F> {
    root: String,
    images: BTreeMap<String, Vec<(String, F)>>,
    warnings: Vec<String>,
    ignored: BTreeSet<String>,
}

impl<F: Clone> Part<F> {
    /// A training part needs two classes, each with an image.
    fn check(&self) -> Result<Vec<String>, SourceError> {
        for (class, images) in &self.images {
            if images.is_empty() {
                let prefix = format!("{class}/");
                return Err(SourceError::EmptyClass {
                    path: format!("{}/{class}", self.root),
                    ignored: self.ignored.iter().filter(|path| path.starts_with(&prefix)).count(),
                });
            }
        }
        let classes: Vec<String> = self.images.keys().cloned().collect();
        if let [class] = classes.as_slice() {
            return Err(SourceError::OneClass { path: self.root.clone(), class: class.clone() });
        }
        Ok(classes)
    }

    fn split(self, options: &OpenOptions, root: &str) -> Result<Layout<F>, SourceError> {
        let classes = self.check()?;
        let mut warnings = self.warnings;
        let (mut train, mut val, mut single) = (Vec::new(), Vec::new(), Vec::new());
        for (label, (class, images)) in self.images.into_iter().enumerate() {
            if images.len() == 1 && options.val_fraction > 0.0 {
                single.push(class.clone());
            }
            // Without the class folder's name, so that a class can be renamed by its class name alone.
            let keys: Vec<&str> = images.iter().map(|(path, _)| &path[class.len() + 1..]).collect();
            let (for_train, for_val) = split_class(&class, &keys, options.val_fraction, options.seed);
            let labelled = |position: usize| (images[position].1.clone(), label);
            train.extend(for_train.into_iter().map(labelled));
            val.extend(for_val.into_iter().map(labelled));
        }
        warnings.extend(single_image_warning(&single));
        if options.val_fraction == 0.0 {
            warnings.push(format!("`{root}` has no validation images, and none are held back"));
        }
        let split = split_rule(options.val_fraction, options.seed);
        Ok(Layout { classes, train, val, split, has_own_split: false, warnings })
    }

    fn with_val(self, val: &Listing<F>, val_name: &str) -> Result<Layout<F>, SourceError> {
        let classes = self.check()?;
        let mut warnings = self.warnings;
        let val = val.classes().map_err(|error| match error {
            SourceError::Empty { path } => SourceError::EmptySplit { path },
            other => other,
        })?;
        warnings.extend(val.warnings);
        for class in val.images.keys() {
            if !self.images.contains_key(class) {
                return Err(SourceError::UnknownClass { path: format!("{}/{class}", val.root), train: self.root });
            }
        }
        if val.images.values().all(Vec::is_empty) {
            return Err(SourceError::EmptySplit { path: val.root });
        }
        let missing: Vec<&String> =
            classes.iter().filter(|&class| val.images.get(class).is_none_or(Vec::is_empty)).collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "`{}` holds no images of {} of {} classes: {}",
                val.root,
                missing.len(),
                classes.len(),
                shortened(&missing)
            ));
        }
        let labelled = |images: BTreeMap<String, Vec<(String, F)>>| -> Vec<Labelled<F>> {
            images
                .into_iter()
                .flat_map(|(class, images)| {
                    let label = classes.binary_search(&class).unwrap_or_default();
                    images.into_iter().map(move |(_, file)| (file, label))
                })
                .collect()
        };
        let (train, val) = (labelled(self.images), labelled(val.images));
        let split = format!("{val_name} for validation");
        Ok(Layout { classes, train, val, split, has_own_split: true, warnings })
    }
}

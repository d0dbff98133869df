//! From a list of paths to classes, labels and parts: the rules that folders and archives share.
//!
//! Known layouts, seen from the root: the parts, each a folder of class folders, see [`arrangement`](crate::arrangement); or class
//! folders directly, of which a part is held back for validation. Images at any depth below a class folder belong to that class. Class
//! names are in bytewise order. What is not taken is kept with the reason, see [`LeftOut`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::arrangement::{Arrangement, NamedPart};
use crate::left_out::{
    LeftOut, is_meant, is_name_unknown, is_passed_over, is_picture, is_unread_image_name, may_be_class,
};
use crate::name::{case_warnings, normal};
use crate::part::Part;
use crate::source::{OpenOptions, SourceError, counted, shortened};
use crate::split::{single_image_warning, split_class, split_rule};

const IMAGE_ENDINGS: [&str; 11] = ["jpg", "jpeg", "jpe", "jfif", "jfi", "pjpeg", "pjp", "png", "webp", "bmp", "gif"];

/// What lies below a root, as paths with `/` between the names and without a leading one.
#[derive(Clone, Debug)]
pub(crate) struct Listing<F> {
    /// How the root is called in messages.
    pub(crate) root: String,
    /// Folders.
    pub(crate) dirs: BTreeSet<String>,
    /// Image files, in bytewise order of their paths, and how to find each.
    pub(crate) images: BTreeMap<String, F>,
    /// Files whose names are not those of images, and how to find each.
    pub(crate) ignored: BTreeMap<String, F>,
    /// Those of them that are pictures by their content.
    pictures: BTreeSet<String>,
    /// The images of each folder whose name is skipped but which may be a class.
    passed_over: BTreeMap<String, BTreeMap<String, F>>,
    /// What is in none of these, and why.
    pub(crate) left_out: LeftOut,
    /// What lies between the root of the data set and this one: empty, or with a `/` at its end.
    pub(crate) prefix: String,
    /// The folders of an archive that hold everything and are passed through: empty, or with a `/` at its end.
    top: String,
}

/// The entries below a folder, which ends in `/` or is empty, with the rest of their paths.
pub(crate) fn entries_below<'a, F>(
    entries: &'a BTreeMap<String, F>,
    folder: &str,
) -> impl Iterator<Item = (&'a str, &'a F)> {
    let entries = entries.range::<str, _>((Bound::Included(folder), Bound::Unbounded));
    entries.map_while(move |(path, entry)| Some((path.strip_prefix(folder)?, entry)))
}

/// The names below a folder, which ends in `/` or is empty, from there on.
pub(crate) fn names_below<'a>(names: &'a BTreeSet<String>, folder: &str) -> impl Iterator<Item = &'a str> {
    let names = names.range::<str, _>((Bound::Included(folder), Bound::Unbounded));
    names.map_while(move |path| path.strip_prefix(folder))
}

/// How to find an image, and its class number.
pub(crate) type Labelled<F> = (F, usize);

/// A listing, understood as a data set to train on.
#[derive(Debug)]
pub(crate) struct Layout<F> {
    pub(crate) classes: Vec<String>,
    pub(crate) train: Vec<Labelled<F>>,
    pub(crate) val: Vec<Labelled<F>>,
    pub(crate) split: String,
    /// Whether the listing has both parts.
    pub(crate) has_own_split: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) left_out: LeftOut,
}

/// A listing, understood as images to measure a model on.
#[derive(Debug)]
pub(crate) struct Measured<F> {
    pub(crate) classes: Vec<String>,
    /// The images of each part, the part being None where there are none.
    pub(crate) parts: Vec<(Option<Part>, Vec<Labelled<F>>)>,
    pub(crate) warnings: Vec<String>,
    pub(crate) left_out: LeftOut,
}

/// Whether a file is an image by the ending of its name.
pub(crate) fn is_image_name(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| IMAGE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

impl<F: Clone> Listing<F> {
    /// An empty root, called `root` in messages.
    pub(crate) fn new(root: String) -> Self {
        Self {
            root,
            dirs: BTreeSet::new(),
            images: BTreeMap::new(),
            ignored: BTreeMap::new(),
            pictures: BTreeSet::new(),
            passed_over: BTreeMap::new(),
            left_out: LeftOut::default(),
            prefix: String::new(),
            top: String::new(),
        }
    }

    /// Adds a file, if it counts, with the folders above it.
    pub(crate) fn add_file(&mut self, path: &str, file: F) {
        if let Some(passed_over) = self.left_out.add_passed_over(path) {
            // A class may be called `.net`, and its images must not vanish.
            let rest = path[passed_over.len()..].trim_start_matches('/');
            if !rest.is_empty() && may_be_class(passed_over) && is_image_name(path) && !is_passed_over(rest) {
                self.passed_over.entry(passed_over.to_owned()).or_default().insert(path.to_owned(), file);
            }
            return;
        }
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.add_dir(dir);
        }
        let is_image = is_image_name(path);
        let files = if is_image { &mut self.images } else { &mut self.ignored };
        if files.insert(path.to_owned(), file).is_some() {
            self.left_out.add_replaced(path, is_image);
        }
    }

    /// Counts a link that cannot be followed, unless its name is skipped anyway.
    pub(crate) fn add_link(&mut self, path: &str) {
        if self.left_out.add_passed_over(path).is_none() {
            self.left_out.add_link(path);
        }
    }

    /// Adds a folder with the folders above it. False if it is skipped.
    pub(crate) fn add_dir(&mut self, path: &str) -> bool {
        if self.left_out.add_passed_over(path).is_some() {
            return false;
        }
        let mut path = path;
        while !path.is_empty() && self.dirs.insert(path.to_owned()) {
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
        true
    }

    /// Leaves out what the patterns mean; see [`is_meant`]. Patterns that start at the root may start at that of the data set or of the
    /// archive as well.
    pub(crate) fn without(mut self, patterns: &[String]) -> Self {
        if patterns.is_empty() {
            return self;
        }
        let (prefix, top) = (self.prefix.clone(), self.top.clone());
        let is_below = |folder: &str, pattern: &String, path: &str| {
            !folder.is_empty() && is_meant(pattern, &format!("{folder}{path}"))
        };
        let is_asked = |path: &str| {
            patterns.iter().any(|pattern| {
                is_meant(pattern, path) || is_below(&prefix, pattern, path) || is_below(&top, pattern, path)
            })
        };
        self.left_out.ask(is_asked);
        self.dirs.retain(|path| !is_asked(path));
        let mut asked = LeftOut::default();
        let mut is_kept = |path: &String| {
            let is_asked = is_asked(path);
            if is_asked {
                asked.add_asked(path.as_str());
            }
            !is_asked
        };
        self.images.retain(|path, _| is_kept(path));
        self.ignored.retain(|path, _| is_kept(path));
        self.left_out.extend(asked);
        self.pictures.retain(|path| self.ignored.contains_key(path));
        self.passed_over.retain(|folder, images| {
            images.retain(|path, _| !is_asked(path));
            !is_asked(folder) && !images.is_empty()
        });
        self
    }

    /// Finds the pictures among the files whose names do not say what they are, by their first bytes.
    pub(crate) fn find_pictures(mut self, first_bytes: impl Fn(&F) -> Vec<u8>) -> Self {
        let unknown = self.ignored.iter().filter(|(path, _)| is_name_unknown(path));
        let pictures = unknown.filter(|(_, file)| is_picture(&first_bytes(file)));
        self.pictures = pictures.map(|(path, _)| path.clone()).collect();
        self
    }

    /// Forgets the images in folders that are skipped if links to them are taken: a folder `.pool` may keep what the classes show.
    /// Two files are the same if their keys are.
    pub(crate) fn without_linked<K: Ord>(mut self, key: impl Fn(&F) -> Option<K>) -> Self {
        if self.passed_over.is_empty() {
            return self;
        }
        let taken: BTreeSet<K> = self.images.values().filter_map(&key).collect();
        self.passed_over.retain(|_, images| {
            images.retain(|_, file| key(file).is_none_or(|key| !taken.contains(&key)));
            !images.is_empty()
        });
        self
    }

    /// Whether a file that is not taken is a picture.
    fn is_lost_picture(&self, path: &str) -> bool {
        is_unread_image_name(path) || self.pictures.contains(path)
    }

    /// What lies in a folder, with paths from there on.
    pub(crate) fn below(&self, name: &str) -> Self {
        let folder = format!("{name}/");
        let files = |files| entries_below(files, &folder).map(|(path, file): (_, &F)| (path.to_owned(), file.clone()));
        let names = |names| names_below(names, &folder).map(str::to_owned);
        let passed_over = entries_below(&self.passed_over, &folder);
        Self {
            root: format!("{}/{name}", self.root),
            dirs: names(&self.dirs).collect(),
            images: files(&self.images).collect(),
            ignored: files(&self.ignored).collect(),
            pictures: names(&self.pictures).collect(),
            passed_over: passed_over.map(|(path, images)| (path.to_owned(), files(images).collect())).collect(),
            left_out: LeftOut::default(),
            prefix: format!("{}{folder}", self.prefix),
            top: String::new(),
        }
    }

    pub(crate) fn top_dirs(&self) -> impl Iterator<Item = &str> {
        self.dirs.iter().map(String::as_str).filter(|path| !path.contains('/'))
    }

    /// Images that lie in no folder.
    pub(crate) fn loose_images(&self) -> impl Iterator<Item = &String> {
        self.images.keys().filter(|path| !path.contains('/'))
    }

    pub(crate) fn has_loose_images(&self) -> bool {
        self.loose_images().next().is_some()
    }

    /// Archives are often made of one folder that holds everything: go into it. `is_part` says that the archive is one part
    /// of a data set, so that a folder `train` in it means nothing; in any other archive a folder that is called like a part is one.
    pub(crate) fn without_common_top(self, is_part: bool) -> Self {
        let Some(top) = self.common_top(is_part) else { return self };
        let folder = format!("{top}/");
        let mut inner = self.below(&top);
        let name = |path: String| path.strip_prefix(&folder).map(str::to_owned).unwrap_or(path);
        inner.left_out = self.left_out.clone().renamed(name);
        for path in self.ignored.keys().filter(|path| !path.starts_with(&folder)) {
            if self.pictures.contains(path) {
                inner.left_out.add_picture(path.as_str());
            } else {
                inner.left_out.add_by_ending(path.as_str());
            }
        }
        // Messages name the archive, not a place in it.
        (inner.root, inner.prefix, inner.top) = (self.root, self.prefix, format!("{}{folder}", self.top));
        inner.without_common_top(is_part)
    }

    /// The folder that holds the class folders or the parts and is neither.
    fn common_top(&self, is_part: bool) -> Option<String> {
        let tops = self.tops_below("");
        let [top] = tops.as_slice() else { return None };
        let inner = self.tops_below(&format!("{}/", top.name));
        if self.has_loose_images() || !inner.iter().any(|inner| inner.has_images) {
            return None;
        }
        let is_common = match Part::of(top.name) {
            // A class that is called like a part holds images directly.
            Some(_) => is_part && !top.has_loose_images,
            // One folder in it may as well be a folder of the only class.
            None => {
                inner.iter().filter(|inner| inner.has_files).count() > 1
                    || inner.iter().any(|inner| Part::of(inner.name).is_some() && !inner.has_loose_images)
            }
        };
        is_common.then(|| top.name.to_owned())
    }

    /// What is outside of the class folders, and what is not an image.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out_but(|_| false)
    }

    /// The same without files that are used in another way.
    pub(crate) fn left_out_but(&self, is_used: impl Fn(&str) -> bool) -> LeftOut {
        let mut left_out = self.left_out.clone();
        for path in self.ignored.keys().filter(|path| !is_used(path)) {
            if self.pictures.contains(path) {
                left_out.add_picture(path.as_str());
            } else {
                left_out.add_by_ending(path.as_str());
            }
        }
        if self.prefix.is_empty() { left_out } else { left_out.renamed(|path| format!("{}{path}", self.prefix)) }
    }

    /// Leaves out what lies beside the class folders of the parts: images outside of them, and those of `unlabelled` folders.
    fn leave_out_beside(&self, unlabelled: &[String], left_out: &mut LeftOut) {
        self.loose_images().for_each(|path| left_out.add_loose(format!("{}{path}", self.prefix)));
        for name in unlabelled {
            let folder = format!("{name}/");
            for (path, _) in entries_below(&self.images, &folder) {
                left_out.add_unlabelled(name, format!("{}{folder}{path}", self.prefix));
            }
        }
    }

    /// Finds the parts and the classes of a data set to train on.
    pub(crate) fn layout(&self, options: &OpenOptions) -> Result<Layout<F>, SourceError> {
        let mut left_out = self.left_out();
        let (mut layout, warnings) = match self.arrangement()? {
            Arrangement::Classes { warnings } => (self.classes(&mut left_out)?.split(options, &self.root)?, warnings),
            Arrangement::Parts { parts, unlabelled, warnings } => {
                self.leave_out_beside(&unlabelled, &mut left_out);
                (Self::layout_of(parts, options, &self.root, &mut left_out)?, warnings)
            }
        };
        left_out.check(&self.root, layout.train.len() + layout.val.len())?;
        layout.warnings.splice(0..0, warnings);
        layout.left_out = left_out;
        Ok(layout)
    }

    /// Reads folders or archives of class folders as the parts of a data set to train on, the preferred ones first.
    pub(crate) fn layout_of(
        parts: Vec<NamedPart<F>>,
        options: &OpenOptions,
        root: &str,
        left_out: &mut LeftOut,
    ) -> Result<Layout<F>, SourceError> {
        parts.iter().try_for_each(|part| part.listing.check_holds_no_parts())?;
        let (train, held_out): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.part == Part::Train);
        let train = match train.as_slice() {
            [] => return Err(SourceError::NoTrain { path: root.to_owned() }),
            [train] => train,
            [train, other, ..] => {
                let names = [train.name.clone(), other.name.clone()];
                return Err(SourceError::TwoTrainParts { path: root.to_owned(), names });
            }
        };
        let mut held_out = held_out.into_iter();
        let classes = train.listing.classes(left_out)?;
        let layout = match held_out.next() {
            None => classes.split(options, &train.listing.root)?,
            Some(val) => classes.with_val(&val.listing, &format!("`{}`", val.name), left_out)?,
        };
        for NamedPart { name, listing, .. } in held_out {
            listing.images.keys().for_each(|path| left_out.add_other_part(&name, format!("{}{path}", listing.prefix)));
        }
        Ok(layout)
    }

    /// Finds the parts and the classes of images to measure a model on: any of either, and classes without images.
    pub(crate) fn measured(&self) -> Result<Measured<F>, SourceError> {
        let mut left_out = self.left_out();
        match self.arrangement()? {
            Arrangement::Classes { warnings } => {
                let classes = vec![(None, self.classes(&mut left_out)?)];
                Self::measured_of(classes, warnings, &self.root, left_out)
            }
            Arrangement::Parts { parts, unlabelled, warnings } => {
                self.leave_out_beside(&unlabelled, &mut left_out);
                Self::measured_parts(parts, warnings, &self.root, left_out)
            }
        }
    }

    /// Reads folders or archives of class folders as parts to measure a model on. A part without images has none in the result.
    pub(crate) fn measured_parts(
        parts: Vec<NamedPart<F>>,
        mut warnings: Vec<String>,
        root: &str,
        mut left_out: LeftOut,
    ) -> Result<Measured<F>, SourceError> {
        let mut found = Vec::new();
        for NamedPart { part, listing, .. } in parts {
            listing.check_holds_no_parts()?;
            let folders = if listing.images.is_empty() {
                warnings.push(format!("`{}` holds no images and is skipped", listing.root));
                ClassFolders::empty(listing.root)
            } else {
                listing.classes(&mut left_out)?
            };
            found.push((Some(part), folders));
        }
        Self::measured_of(found, warnings, root, left_out)
    }

    /// Reads folders of class folders as images to measure a model on.
    fn measured_of(
        parts: Vec<(Option<Part>, ClassFolders<F>)>,
        mut warnings: Vec<String>,
        root: &str,
        left_out: LeftOut,
    ) -> Result<Measured<F>, SourceError> {
        let mut parts = parts;
        parts.iter().try_for_each(|(_, part)| part.check_lost())?;
        // The first part that has a class says how it is written.
        let mut spellings: BTreeMap<String, String> = BTreeMap::new();
        for (_, part) in &mut parts {
            for class in part.images.keys() {
                spellings.entry(normal(class)).or_insert_with(|| class.clone());
            }
            part.spell(&spellings);
        }
        let mut classes: Vec<String> = spellings.into_values().collect();
        classes.sort_unstable();
        warnings.extend(case_warnings(&classes));
        let mut found = Vec::new();
        for (part, folders) in parts {
            warnings.extend(folders.warnings);
            found.push((part, labelled(folders.images, &classes)));
        }
        let num_images: usize = found.iter().map(|(_, images)| images.len()).sum();
        if num_images == 0 {
            return Err(SourceError::EmptySplit { path: root.to_owned() });
        }
        left_out.check(root, num_images)?;
        Ok(Measured { classes, parts: found, warnings, left_out })
    }

    /// Reads the listing as a folder of class folders.
    pub(crate) fn classes(&self, left_out: &mut LeftOut) -> Result<ClassFolders<F>, SourceError> {
        for (folder, images) in self.passed_over.iter().filter(|(folder, _)| !folder.contains('/')) {
            let folder = format!("{}{folder}", self.prefix);
            images.keys().for_each(|path| left_out.add_passed_over_class(&folder, format!("{}{path}", self.prefix)));
        }
        let loose: Vec<&String> = self.loose_images().collect();
        let top = |path: &String| path.split_once('/').map(|(top, _)| top.to_owned());
        let filled: BTreeSet<String> = self.images.keys().chain(self.ignored.keys()).filter_map(top).collect();
        let mut warnings = Vec::new();
        let empty: Vec<&str> = self.top_dirs().filter(|name| !filled.contains(*name)).collect();
        if filled.is_empty() {
            return Err(if loose.is_empty() {
                SourceError::Empty { path: self.root.clone() }
            } else {
                SourceError::NoClassFolders { path: self.root.clone(), images: loose.len() }
            });
        }
        if !empty.is_empty() {
            empty.iter().for_each(|name| left_out.add_empty_folder(format!("{}{name}", self.prefix)));
            let (folders, are) = (counted(empty.len(), "empty folder"), if empty.len() == 1 { "is" } else { "are" });
            let no_class = if empty.len() == 1 { "not a class" } else { "not classes" };
            warnings.push(format!("`{}` holds {folders}, which {are} {no_class}: {}", self.root, shortened(&empty)));
        }
        loose.iter().for_each(|path| left_out.add_loose(format!("{}{path}", self.prefix)));
        let mut images: BTreeMap<String, Vec<(String, F)>> =
            filled.into_iter().map(|name| (name, Vec::new())).collect();
        for (path, file) in &self.images {
            if let Some((class, _)) = path.split_once('/')
                && let Some(of_class) = images.get_mut(class)
            {
                of_class.push((path.clone(), file.clone()));
            }
        }
        let mut seen: BTreeMap<String, &String> = BTreeMap::new();
        for class in images.keys() {
            if let Some(twin) = seen.insert(normal(class), class) {
                let names = [twin, class].map(|name| name.escape_unicode().to_string());
                return Err(SourceError::AlikeClasses { path: self.root.clone(), class: class.as_str().into(), names });
            }
        }
        let mut others: BTreeMap<String, Others> = BTreeMap::new();
        for path in self.ignored.keys() {
            if let Some((class, _)) = path.split_once('/') {
                let others = others.entry(class.to_owned()).or_default();
                others.files += 1;
                others.has_pictures |= self.is_lost_picture(path);
            }
        }
        Ok(ClassFolders { root: self.root.clone(), images, warnings, others })
    }
}

/// A folder of class folders.
pub(crate) struct ClassFolders<F> {
    root: String,
    images: BTreeMap<String, Vec<(String, F)>>,
    warnings: Vec<String>,
    /// What else is in the folder of each class.
    others: BTreeMap<String, Others>,
}

/// Files of a class whose names are not those of images.
#[derive(Clone, Copy, Default)]
struct Others {
    files: usize,
    /// Whether there are pictures that are not read among them.
    has_pictures: bool,
}

/// All images, class by class, with their places in `classes`.
fn labelled<F>(images: BTreeMap<String, Vec<(String, F)>>, classes: &[String]) -> Vec<Labelled<F>> {
    images
        .into_iter()
        .flat_map(|(class, images)| {
            let label = classes.binary_search(&class).unwrap_or_default();
            images.into_iter().map(move |(_, file)| (file, label))
        })
        .collect()
}

impl<F: Clone> ClassFolders<F> {
    fn empty(root: String) -> Self {
        Self { root, images: BTreeMap::new(), warnings: Vec::new(), others: BTreeMap::new() }
    }

    fn no_images(&self, class: &str) -> SourceError {
        let ignored = self.others.get(class).map_or(0, |others| others.files);
        SourceError::EmptyClass { path: format!("{}/{class}", self.root), ignored }
    }

    /// A part may lack images of a class, but not because none of its pictures can be read.
    fn check_lost(&self) -> Result<(), SourceError> {
        let mut empty = self.images.iter().filter(|(_, images)| images.is_empty()).map(|(class, _)| class);
        let lost = empty.find(|class| self.others.get(*class).is_some_and(|others| others.has_pictures));
        lost.map_or(Ok(()), |class| Err(self.no_images(class)))
    }

    /// Writes the names of classes as others do that are the same in their normal form.
    fn spell(&mut self, spellings: &BTreeMap<String, String>) {
        let images = std::mem::take(&mut self.images);
        let spelt = |class: String| spellings.get(&normal(&class)).cloned().unwrap_or(class);
        self.images = images.into_iter().map(|(class, images)| (spelt(class), images)).collect();
    }

    /// A training part needs two classes, each with an image.
    fn check(&self) -> Result<Vec<String>, SourceError> {
        if let Some((class, _)) = self.images.iter().find(|(_, images)| images.is_empty()) {
            return Err(self.no_images(class));
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
        warnings.extend(case_warnings(&classes));
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
        Ok(Layout { classes, train, val, split, has_own_split: false, warnings, left_out: LeftOut::default() })
    }

    fn with_val(self, val: &Listing<F>, val_name: &str, left_out: &mut LeftOut) -> Result<Layout<F>, SourceError> {
        let classes = self.check()?;
        let mut warnings = self.warnings;
        warnings.extend(case_warnings(&classes));
        let mut val = val.classes(left_out).map_err(|error| match error {
            SourceError::Empty { path } => SourceError::EmptySplit { path },
            other => other,
        })?;
        val.check_lost()?;
        val.spell(&classes.iter().map(|class| (normal(class), class.clone())).collect());
        warnings.extend(val.warnings);
        for class in val.images.keys() {
            if !self.images.contains_key(class) {
                let twin = classes.iter().find(|known| known.to_lowercase() == class.to_lowercase()).cloned();
                let path = format!("{}/{class}", val.root);
                return Err(SourceError::UnknownClass { path, train: self.root, twin });
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
        let (train, val) = (labelled(self.images, &classes), labelled(val.images, &classes));
        let split = format!("{val_name} for validation");
        Ok(Layout { classes, train, val, split, has_own_split: true, warnings, left_out: LeftOut::default() })
    }
}

//! What the folders at the root of a data set are: classes, or parts with the class folders inside.
//!
//! A class may be called `train` (as in trains) or `test`, and a part may be called anything, so names alone do not decide. The rules:
//!
//! 1. Folders without images are neither.
//! 2. If no folder is [called like a part](Part::among), all are classes.
//! 3. If all are called like parts, they are parts. A validation or test part without class folders is left out, because
//!    the classes of its images are unknown, and so is a part without images if another one of its side, training or held out, has some.
//! 4. Otherwise, if those called like parts have images directly in them, as class folders do, all are classes.
//! 5. Otherwise, if there is one to train on and another part has some of the same classes, they are parts. A folder without
//!    class folders whose name says that its images have no labels, as `seg_pred` does, is left out. Any other folder beside them is an
//!    error that names it.
//! 6. Anything else is an error that names the folders.
//!
//! Class folders that each hold parts are an error too, and those that hold the same folders are reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{Listing, entries_below, names_below};
use crate::left_out::advised;
use crate::part::{Part, says_fold, says_unlabelled};
use crate::source::{SourceError, shortened};

/// Names of parts, the preferred ones first. Other spellings come after those of the same part.
const PREFERRED: [&str; 5] = ["train", "val", "valid", "validation", "test"];

/// Class folders are compared in pairs, and more than these would take long.
const MAX_COMPARED_FOLDERS: usize = 1000;

/// What the folders at the root are.
pub(crate) enum Arrangement<F> {
    /// Class folders.
    Classes {
        /// What the user may want to know.
        warnings: Vec<String>,
    },
    /// Parts, each with class folders.
    Parts {
        /// The preferred ones for validation first.
        parts: Vec<NamedPart<F>>,
        /// Folders with images of unknown classes.
        unlabelled: Vec<String>,
        /// What the user may want to know.
        warnings: Vec<String>,
    },
}

/// A part, and how its folder or archive is called.
pub(crate) struct NamedPart<F> {
    pub(crate) part: Part,
    pub(crate) name: String,
    pub(crate) listing: Listing<F>,
}

impl<F> NamedPart<F> {
    /// Sorts the parts in the order of preference.
    pub(crate) fn sort(parts: &mut [Self]) {
        let place = |part: &Self| {
            let preferred = PREFERRED.iter().position(|name| *name == part.name).unwrap_or(PREFERRED.len());
            (part.part, preferred, part.name.clone())
        };
        parts.sort_by_key(place);
    }

    /// Drops the parts without images where another part of the same side, training or held out, has some. Returns a sentence about each.
    fn drop_empty(parts: &mut Vec<Self>) -> Vec<String> {
        let is_filled = |part: &Self| !part.listing.images.is_empty();
        let is_train = |part: &Self| part.part == Part::Train;
        let has_filled = [false, true].map(|side| parts.iter().any(|part| is_train(part) == side && is_filled(part)));
        let mut warnings = Vec::new();
        parts.retain(|part| {
            let is_kept = is_filled(part) || !has_filled[usize::from(is_train(part))];
            if !is_kept {
                warnings.push(format!("`{}` holds no images and is skipped", part.listing.root));
            }
            is_kept
        });
        warnings
    }
}

/// A folder at the root, or in another folder.
pub(crate) struct Top<'a> {
    pub(crate) name: &'a str,
    /// Whether it holds images, at any depth.
    pub(crate) has_images: bool,
    /// Whether it holds a file.
    pub(crate) has_files: bool,
    /// Whether it holds images directly.
    pub(crate) has_loose_images: bool,
    /// Its folders that hold images.
    folders: BTreeSet<&'a str>,
}

impl<'a> Top<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, has_images: false, has_files: false, has_loose_images: false, folders: BTreeSet::new() }
    }
}

impl<F: Clone> Listing<F> {
    /// Finds out what the folders at the root are.
    pub(crate) fn arrangement(&self) -> Result<Arrangement<F>, SourceError> {
        let mut tops = self.tops_below("");
        // An empty folder has no say in what the other folders are.
        if tops.iter().any(|top| top.has_images && Part::of(top.name).is_none()) {
            tops.retain(|top| top.has_files);
        }
        let named = Part::among(tops.iter().map(|top| top.name));
        tops.retain(|top| top.has_images || named.contains_key(top.name));
        if named.is_empty() {
            return Ok(Arrangement::Classes { warnings: self.check_class_folders(&tops)? });
        }
        let mut parts: Vec<NamedPart<F>> = named
            .iter()
            .map(|(&name, &part)| NamedPart {
                part,
                name: name.to_owned(),
                listing: self.below(&self.part_folder(name)),
            })
            .collect();
        NamedPart::sort(&mut parts);
        let warnings = NamedPart::drop_empty(&mut parts);
        let others: Vec<&Top<'_>> = tops.iter().filter(|top| !named.contains_key(top.name)).collect();
        let classes = |part: &NamedPart<F>| -> BTreeSet<String> {
            let tops = part.listing.tops_below("");
            tops.iter().filter(|top| top.has_files).map(|top| top.name.to_owned()).collect()
        };
        let classes: BTreeMap<String, BTreeSet<String>> =
            parts.iter().map(|part| (part.name.clone(), classes(part))).collect();
        let mut unlabelled = Vec::new();
        if !others.is_empty() {
            if parts.iter().all(|part| part.listing.has_loose_images()) {
                let warning = |part: &NamedPart<F>| {
                    format!(
                        "`{}` is treated as a class because it holds images directly, as `{}` does",
                        part.name, others[0].name
                    )
                };
                return Ok(Arrangement::Classes { warnings: parts.iter().map(warning).collect() });
            }
            let train = parts.iter().find(|part| part.part == Part::Train).map(|part| &classes[&part.name]);
            let has_same = |part: &NamedPart<F>| {
                part.part != Part::Train && train.is_some_and(|train| !train.is_disjoint(&classes[&part.name]))
            };
            let is_certain = parts.iter().any(has_same);
            let is_unlabelled = |top: &Top<'_>| {
                let inner = self.tops_below(&format!("{}/", self.part_folder(top.name)));
                is_certain && says_unlabelled(top.name) && !inner.iter().any(|inner| inner.has_images)
            };
            let unplaced: Vec<&str> = others.iter().filter(|top| !is_unlabelled(top)).map(|top| top.name).collect();
            if !unplaced.is_empty() {
                return Err(SourceError::CannotTellParts {
                    path: self.root.clone(),
                    parts: shortened(&parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>()),
                    others: shortened(&unplaced).into(),
                    patterns: advised(unplaced.iter().map(|name| format!("/{name}"))).into(),
                });
            }
            unlabelled.extend(others.iter().map(|top| top.name.to_owned()));
        }
        if classes.values().any(|classes| !classes.is_empty()) {
            parts.retain(|part| {
                // Images without classes cannot be used; a folder without images is an error later on.
                let is_labelled =
                    part.part == Part::Train || !classes[&part.name].is_empty() || !part.listing.has_loose_images();
                if !is_labelled {
                    unlabelled.push(part.name.clone());
                }
                is_labelled
            });
        }
        Ok(Arrangement::Parts { parts, unlabelled, warnings })
    }

    /// The folders in a folder, which ends in `/` or is empty for the root, in bytewise order.
    pub(crate) fn tops_below<'a>(&'a self, folder: &str) -> Vec<Top<'a>> {
        let dirs = names_below(&self.dirs, folder).filter(|path| !path.is_empty() && !path.contains('/'));
        let mut tops: BTreeMap<&str, Top<'_>> = dirs.map(|name| (name, Top::new(name))).collect();
        for (path, _) in entries_below(&self.images, folder) {
            let Some((name, rest)) = path.split_once('/') else { continue };
            let Some(top) = tops.get_mut(name) else { continue };
            (top.has_images, top.has_files) = (true, true);
            match rest.split_once('/') {
                Some((folder, _)) => {
                    top.folders.insert(folder);
                }
                None => top.has_loose_images = true,
            }
        }
        for (path, _) in entries_below(&self.ignored, folder) {
            if let Some((name, _)) = path.split_once('/')
                && let Some(top) = tops.get_mut(name)
            {
                top.has_files = true;
            }
        }
        tops.into_values().collect()
    }

    /// The folder of a part that holds its class folders. Some archives hold each part in another folder of the same name.
    fn part_folder(&self, name: &str) -> String {
        let mut folder = name.to_owned();
        loop {
            let within = format!("{folder}/");
            let has_loose_images = entries_below(&self.images, &within).any(|(path, _)| !path.contains('/'));
            let tops = self.tops_below(&within);
            let [top] = tops.as_slice() else { return folder };
            let is_part = top.name == name
                || !top.has_loose_images && Part::of(top.name).is_some() && Part::of(top.name) == Part::of(name);
            if has_loose_images || !top.has_images || !is_part {
                return folder;
            }
            folder = format!("{folder}/{}", top.name);
        }
    }

    /// Refuses a part that holds parts itself.
    pub(crate) fn check_holds_no_parts(&self) -> Result<(), SourceError> {
        let mut tops = self.tops_below("");
        tops.retain(|top| top.has_images);
        let named = Part::among(tops.iter().map(|top| top.name));
        // A class that is called like a part holds images directly.
        let inner: Vec<&Top<'_>> =
            tops.iter().filter(|top| named.contains_key(top.name) && !top.has_loose_images).collect();
        let kinds: BTreeSet<Part> = inner.iter().map(|top| named[top.name]).collect();
        if inner.is_empty() || kinds.len() < 2 && inner.len() < tops.len() {
            return Ok(());
        }
        let parts = shortened(&inner.iter().map(|top| top.name).collect::<Vec<_>>());
        Err(SourceError::PartsInPart { path: self.root.clone(), parts })
    }

    /// Checks whether folders that are not named like parts are parts nevertheless, or classes that hold parts.
    fn check_class_folders(&self, tops: &[Top<'_>]) -> Result<Vec<String>, SourceError> {
        let [first, others @ ..] = tops else { return Ok(Vec::new()) };
        if others.is_empty() {
            return Ok(Vec::new());
        }
        if tops.iter().all(|top| !top.folders.is_empty()) {
            let inner: BTreeSet<&str> = tops.iter().flat_map(|top| top.folders.iter().copied()).collect();
            let parts = Part::among(inner);
            let kinds: BTreeSet<Part> = parts.values().copied().collect();
            let holds_part = |top: &Top<'_>| top.folders.iter().any(|folder| parts.contains_key(folder));
            if kinds.len() > 1 && tops.iter().all(holds_part) {
                let parts = shortened(&parts.keys().collect::<Vec<_>>());
                return Err(SourceError::PartsInClasses { path: self.root.clone(), parts });
            }
        }
        let without_numbers =
            |name: &str| -> String { name.chars().filter(|character| !character.is_numeric()).collect() };
        let is_fold = |top: &Top<'_>| {
            says_fold(top.name)
                && without_numbers(top.name) == without_numbers(first.name)
                && !top.has_loose_images
                && top.folders == first.folders
        };
        if first.folders.len() > 1 && tops.iter().all(is_fold) {
            return Err(SourceError::Folds {
                path: self.root.clone(),
                folders: shortened(&tops.iter().map(|top| top.name).collect::<Vec<_>>()),
                classes: shortened(&first.folders.iter().collect::<Vec<_>>()),
            });
        }
        Ok(shared_folders_warning(tops).into_iter().collect())
    }
}

/// A sentence about the first folders that hold two or more folders of the same names, as parts of a data set do.
fn shared_folders_warning(tops: &[Top<'_>]) -> Option<String> {
    let tops: Vec<&Top<'_>> = tops.iter().filter(|top| !top.has_loose_images && top.folders.len() > 1).collect();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    tops.iter().flat_map(|top| &top.folders).for_each(|folder| *times.entry(*folder).or_default() += 1);
    let is_shared = |folder: &&&str| times[**folder] > 1;
    let candidates: Vec<&&Top<'_>> =
        tops.iter().filter(|top| top.folders.iter().filter(is_shared).count() > 1).take(MAX_COMPARED_FOLDERS).collect();
    let shared = candidates.iter().enumerate().find_map(|(place, one)| {
        candidates[place + 1..].iter().find_map(|other| {
            let shared: BTreeSet<&str> = one.folders.intersection(&other.folders).copied().collect();
            (shared.len() > 1).then_some(shared)
        })
    })?;
    let holders: Vec<&str> = tops.iter().filter(|top| shared.is_subset(&top.folders)).map(|top| top.name).collect();
    Some(format!(
        "the classes {} hold the same folders {}: if the latter are the classes, move the images of each into one folder",
        shortened(&holders),
        shortened(&shared.iter().collect::<Vec<_>>())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::OpenOptions;

    /// The images of each part with their classes, and what is left out.
    type Read = (Vec<String>, Vec<String>, Option<String>);

    /// What a folder with these files is read as, or the error.
    fn read(files: &[&str]) -> Result<Read, String> {
        let mut listing = Listing::new("DIR".to_owned());
        files.iter().for_each(|file| match file.strip_suffix('/') {
            Some(dir) => {
                listing.add_dir(dir);
            }
            None => listing.add_file(file, (*file).to_owned()),
        });
        let options = OpenOptions { val_fraction: 0.5, ..OpenOptions::default() };
        let layout = listing.layout(&options).map_err(|error| error.to_string())?;
        let named = |images: Vec<(String, usize)>| -> Vec<String> {
            images.into_iter().map(|(path, label)| format!("{} {path}", layout.classes[label])).collect()
        };
        if layout.has_own_split {
            Ok((named(layout.train), named(layout.val), layout.left_out.line()))
        } else {
            let mut all = named(layout.train);
            all.extend(named(layout.val));
            all.sort();
            Ok((all, Vec::new(), layout.left_out.line()))
        }
    }

    fn parts(train: &str, val: &str) -> Vec<String> {
        let in_part = |part: &str| ["a", "b"].map(|class| format!("{part}/{class}/1.png"));
        [in_part(train), in_part(val)].concat()
    }

    #[test]
    fn parts_are_found_whatever_they_are_called() {
        for (train, val) in [
            ("Training", "Testing"),
            ("train", "Val"),
            ("train", "dev"),
            ("seg_train", "seg_test"),
            ("train2017", "val2017"),
            ("TRAIN_SET", "Evaluation"),
            ("Train Images", "Validation Images"),
        ] {
            let files = parts(train, val);
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let expected = |part: &str| ["a", "b"].map(|class| format!("{class} {part}/{class}/1.png")).to_vec();
            assert_eq!(read(&files).unwrap(), (expected(train), expected(val), None), "{train} {val}");
        }
    }

    #[test]
    fn parts_may_lie_in_another_folder_of_the_same_name() {
        let (train, val, left_out) = read(&[
            "seg_train/seg_train/a/1.png",
            "seg_train/seg_train/b/1.png",
            "seg_test/seg_test/a/1.png",
            "seg_pred/seg_pred/1.png",
        ])
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(train, ["a seg_train/seg_train/a/1.png", "b seg_train/seg_train/b/1.png"]);
        assert_eq!(val, ["a seg_test/seg_test/a/1.png"]);
        assert_eq!(left_out.unwrap(), "left out: 1 image of `seg_pred`, which has no class folders");
    }

    #[test]
    fn a_folder_that_is_called_like_a_part_and_looks_like_a_class_is_one() {
        let (all, val, _) = read(&["bus/1.png", "car/1.png", "train/1.png", "train/steam/2.png"]).unwrap();
        assert_eq!(all, ["bus bus/1.png", "car car/1.png", "train train/1.png", "train train/steam/2.png"]);
        assert!(val.is_empty());
    }

    #[test]
    fn images_without_classes_beside_the_parts_are_left_out_and_counted() {
        let (train, val, left_out) = read(&["train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png"]).unwrap();
        assert_eq!(
            (train.len() + val.len(), left_out.unwrap().as_str()),
            (2, "left out: 2 images of `test`, which has no class folders")
        );
        let (.., left_out) = read(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "unlabelled/1.png"]).unwrap();
        assert_eq!(left_out.unwrap(), "left out: 1 image of `unlabelled`, which has no class folders");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_an_error_that_names_it() {
        for (files, words) in [
            (&["train/a/1.png", "train/b/1.png", "val/a/1.png", "more/a/1.png"][..], "beside `more`"),
            (&["train/a/1.png", "train/b/1.png", "a/1.png", "c/1.png"], "beside `a`, `c`"),
            (&["a/1.png", "b/1.png", "test/a/1.png", "test/b/1.png"], "beside `a`, `b`"),
            (&["train/a/1.png", "train/b/1.png", "val/a/1.png", "new/1.png"], "data.leave_out = [\"/new\"]"),
            (&["train/train/a/1.png", "train/train/b/1.png", "train/val/a/1.png"], "holds the folders `train`, `val`"),
            (
                &["train/a/1.png", "train/b/1.png", "Training/a/1.png"],
                "two folders to train on, `train` and `Training`",
            ),
            (
                &["fold1/a/1.png", "fold1/b/1.png", "fold2/a/1.png", "fold2/b/1.png"],
                "each of these holds the same folders `a`, `b`",
            ),
            (&["a/train/1.png", "a/test/1.png", "b/train/1.png", "b/test/1.png"], "swap the two levels"),
            (&["a/train/1.png", "a/test/1.png", "b/train/1.png", "c/2.png", "c/Training/1.png"], "swap the two levels"),
        ] {
            let error = read(files).unwrap_err();
            assert!(error.contains(words), "{files:?}: {error}");
        }
    }

    #[test]
    fn empty_folders_are_no_classes_and_system_folders_are_nothing() {
        let (all, _, left_out) = read(&[
            "a/1.png",
            "b/1.png",
            "c/",
            "lost+found/",
            "@eaDir/a/1.jpg",
            "a/@eaDir/1.jpg",
            "$RECYCLE.BIN/x/2.png",
        ])
        .unwrap();
        assert_eq!(all, ["a a/1.png", "b b/1.png"]);
        assert_eq!(left_out.unwrap(), "left out: 4 system files or folders, 1 empty folder");
        let (train, val, _) = read(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/notes/"]).unwrap();
        assert_eq!((train.len(), val.len()), (2, 1));
    }

    #[test]
    fn images_at_the_root_beside_the_parts_are_a_loss() {
        let error = read(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "1.png", "2.png"]).unwrap_err();
        assert!(error.contains("2 of the 5 pictures"), "{error}");
        assert!(error.contains("2 images outside of the class folders"), "{error}");
        assert!(error.contains("data.leave_out = [\"/*.png\"]"), "{error}");
    }

    #[test]
    fn a_hidden_folder_at_the_place_of_a_class_is_a_loss() {
        for (files, folder) in [
            (&["a/1.png", "b/1.png", ".net/1.png"][..], ".net"),
            (&["train/a/1.png", "train/b/1.png", "val/a/1.png", "train/.net/deep/1.png"], "train/.net"),
            (&["a/1.png", "b/1.png", "lost+found/1.png"], "lost+found"),
        ] {
            let error = read(files).unwrap_err();
            assert!(error.contains(&format!("1 image of `{folder}`, which has the name of a hidden")), "{error}");
        }
        let (.., left_out) = read(&["a/1.png", "b/1.png", "a/.x/1.png", ".cache/1.png", ".git/2.png"]).unwrap();
        assert_eq!(left_out.unwrap(), "left out: 3 hidden files or folders");
    }

    #[test]
    fn a_part_without_images_gives_way_to_another_one_of_its_side() {
        let (train, val, _) = read(&["Training/", "train/a/1.png", "train/b/1.png", "val/", "test/a/1.png"]).unwrap();
        assert_eq!((train.len(), val), (2, vec!["a test/a/1.png".to_owned()]));
        let (train, ..) = read(&["train/notes.txt", "Training/a/1.png", "Training/b/1.png", "val/a/1.png"]).unwrap();
        assert_eq!(train, ["a Training/a/1.png", "b Training/b/1.png"]);
    }

    #[test]
    fn classes_that_hold_the_same_folders_are_told() {
        let warnings = |files: &[&str]| {
            let mut listing = Listing::new("DIR".to_owned());
            files.iter().for_each(|file| listing.add_file(file, ()));
            listing.layout(&OpenOptions::default()).unwrap().warnings
        };
        for names in [["day1", "day2"], ["indoor", "outdoor"]] {
            let [one, other] = names;
            let files = [one, other].map(|top| ["cat", "dog"].map(|class| format!("{top}/{class}/1.png"))).concat();
            let files: Vec<&str> = files.iter().map(String::as_str).chain(["c/1.png"]).collect();
            let expected = format!("the classes `{one}`, `{other}` hold the same folders `cat`, `dog`");
            assert!(warnings(&files).iter().any(|warning| warning.starts_with(&expected)), "{names:?}");
        }
        let files = ["a/left/1.png", "a/right/1.png", "a/1.png", "b/left/1.png", "b/right/1.png", "b/1.png"];
        assert!(!warnings(&files).iter().any(|warning| warning.contains("the same folders")));
    }
}

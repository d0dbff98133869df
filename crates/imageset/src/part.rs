//! Names of the parts of a data set, as people and programs write them: `train`, `Training`, `seg_test`, `val2017`, `Dev set`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The images to learn from.
    Train,
    /// The images to choose a model with.
    Val,
    /// The images to measure the chosen model with.
    Test,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// The words for each part, in lower case.
const WORDS: [(Part, &[&str]); 3] = [
    (Part::Train, &["train", "training", "trn", "trainval"]),
    (
        Part::Val,
        &["val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation", "holdout"],
    ),
    (Part::Test, &["test", "testing", "tst"]),
];

/// Words that say no more than that there are images.
const FILLERS: [&str; 17] = [
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "picture", "pictures", "photo",
    "photos", "split", "folder", "dir", "files",
];

/// Words that say that the classes of the images are unknown.
const UNLABELLED_WORDS: [&str; 8] =
    ["pred", "predict", "prediction", "predictions", "inference", "unlabeled", "unlabelled", "unsupervised"];

/// Words that say that something is one of several parts of equal standing.
const FOLD_WORDS: [&str; 9] = ["fold", "folds", "kfold", "split", "splits", "part", "parts", "cv", "crossval"];

/// Whether a name says that the classes of the images are unknown, as `seg_pred` and `unlabeled` do.
pub(crate) fn says_unlabelled(name: &str) -> bool {
    words(name).iter().any(|word| UNLABELLED_WORDS.contains(&word.as_str()))
}

/// Whether a name says that it stands for one of several parts of equal standing, as `fold3` does.
pub(crate) fn says_fold(name: &str) -> bool {
    words(name).iter().any(|word| FOLD_WORDS.contains(&word.as_str()))
}

impl Part {
    /// The part that a name stands for by itself: `Training` and `val_set`, but not `val_2`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        PartName::parse(name).filter(|name| name.rest.is_empty()).map(|name| name.part)
    }

    /// The part that a name says among other things: `PublicTest` and `val_2`.
    pub(crate) fn said_by(name: &str) -> Option<Self> {
        PartName::parse(name).map(|name| name.part)
    }

    /// The part that a name says, and its other words in lower case with a hyphen between them: `emnist-letters` of `emnist-letters-train`.
    pub(crate) fn with_rest(name: &str) -> Option<(Self, String)> {
        PartName::parse(name).map(|name| (name.part, name.rest.replace(' ', "-")))
    }

    /// Which of the names are parts. Besides the part, a name must say nothing, or the same as that of another part: `seg_train`
    /// and `seg_test` are parts, but `test` in `test_strips` among the classes of a drugstore is not.
    pub(crate) fn among<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, Self> {
        let mut by_rest: BTreeMap<String, Vec<(&str, Self)>> = BTreeMap::new();
        for name in names {
            if let Some(parsed) = PartName::parse(name) {
                by_rest.entry(parsed.rest).or_default().push((name, parsed.part));
            }
        }
        let are_parts = |rest: &str, named: &[(&str, Self)]| {
            rest.is_empty() || named.iter().map(|(_, part)| part).collect::<BTreeSet<_>>().len() > 1
        };
        by_rest.into_iter().filter(|(rest, named)| are_parts(rest, named)).flat_map(|(_, named)| named).collect()
    }

    fn of_word(word: &str) -> Option<Self> {
        let is_known = |word: &str| WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(part, _)| *part);
        // `trainset`, `testdata`.
        let without_filler = || FILLERS.iter().filter_map(|filler| word.strip_suffix(filler)).find_map(is_known);
        is_known(word).or_else(without_filler)
    }
}

/// A name that says one part, and what else it says.
struct PartName {
    part: Part,
    /// The other words, in lower case, with a space between them.
    rest: String,
}

impl PartName {
    fn parse(name: &str) -> Option<Self> {
        let mut part = None;
        let mut rest = Vec::new();
        for word in words(name) {
            match Part::of_word(&word) {
                // `train_test_split` says no single part.
                Some(_) if part.is_some() => return None,
                Some(found) => part = Some(found),
                None if FILLERS.contains(&word.as_str()) => {}
                None => rest.push(word),
            }
        }
        Some(Self { part: part?, rest: rest.join(" ") })
    }
}

/// The words and numbers of a name, in lower case: `TrainImages2017` is `train`, `images` and `2017`.
fn words(name: &str) -> Vec<String> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Lower,
        Upper,
        Digit,
        Other,
    }
    let kind = |character: char| match character {
        character if character.is_numeric() => Kind::Digit,
        character if character.is_uppercase() => Kind::Upper,
        character if character.is_alphabetic() => Kind::Lower,
        _ => Kind::Other,
    };
    let mut words: Vec<String> = Vec::new();
    let mut last = Kind::Other;
    for character in name.chars() {
        let this = kind(character);
        let goes_on = matches!(
            (last, this),
            (Kind::Lower, Kind::Lower) | (Kind::Upper, Kind::Upper | Kind::Lower) | (Kind::Digit, Kind::Digit)
        );
        if this != Kind::Other {
            match words.last_mut().filter(|_| goes_on) {
                Some(word) => word.extend(character.to_lowercase()),
                None => words.push(character.to_lowercase().collect()),
            }
        }
        last = this;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_in_any_case_and_by_the_usual_synonyms() {
        for (part, names) in [
            (Part::Train, &["train", "TRAIN", "Training", "train_set", "TrainSet", "trainset", "training images"][..]),
            (Part::Val, &["val", "Val", "valid", "Validation", "dev", "Dev set", "eval", "validation-data", "holdout"]),
            (Part::Test, &["test", "Testing", "TEST_DATA", "testset", "tst"]),
        ] {
            for name in names {
                assert_eq!(Part::of(name), Some(part), "{name}");
            }
        }
        for name in
            ["trains", "trainer", "test_strips", "contest", "val_2", "values", "device", "train_test", "", "évaluation"]
        {
            assert_eq!(Part::of(name), None, "{name}");
        }
    }

    #[test]
    fn what_else_a_name_says_must_be_the_same_for_two_parts() {
        let among = |names: &[&'static str]| Part::among(names.iter().copied()).into_iter().collect::<Vec<_>>();
        assert_eq!(
            among(&["seg_train", "seg_test", "seg_pred"]),
            [("seg_test", Part::Test), ("seg_train", Part::Train)]
        );
        assert_eq!(among(&["train2017", "val2017", "train2014"]), [("train2017", Part::Train), ("val2017", Part::Val)]);
        assert_eq!(among(&["test_strips", "syringes"]), []);
        assert_eq!(among(&["Training", "ILSVRC_val"]), [("Training", Part::Train)]);
    }

    #[test]
    fn folds_and_images_without_classes_are_known_by_whole_words() {
        for (name, fold, unlabelled) in [
            ("fold1", true, false),
            ("CV_2", true, false),
            ("part-3", true, false),
            ("apartment1", false, false),
            ("seg_pred", false, true),
            ("Unlabeled", false, true),
            ("predators", false, false),
        ] {
            assert_eq!((says_fold(name), says_unlabelled(name)), (fold, unlabelled), "{name}");
        }
        assert_eq!(
            [Part::said_by("PublicTest"), Part::said_by("Training"), Part::said_by("cat")],
            [Some(Part::Test), Some(Part::Train), None]
        );
    }
}

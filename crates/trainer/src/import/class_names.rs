//! The names of a network's classes: given, described, or numbers.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;
use imageset::name::normal;
use imageset::source::counted;

use super::description::Description;

/// The names that are given, or those of a description, or numbers.
pub(super) fn class_names(
    path: &Path,
    given: Option<Vec<String>>,
    description: Option<&Description>,
    num_classes: usize,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<String>> {
    if num_classes == 1 {
        notes.push(ONE_OUTPUT.to_string());
    }
    let described = description.and_then(|description| Some((description, description.classes.clone()?)));
    if let Some((description, classes)) = &described
        && given.is_none()
        && let Some(fault) = fault_of_names(classes)
    {
        notes.push(format!("`{}` {fault}, so its classes are numbered from 0", description.path().display()));
        return Ok(numbered(num_classes));
    }
    match (given, described) {
        (Some(classes), _) if classes.len() != num_classes => {
            bail!(
                "{} given in `--classes`, but the network in `{}` has {}",
                if classes.len() == 1 {
                    "one class name is".to_string()
                } else {
                    format!("{} class names are", classes.len())
                },
                path.display(),
                counted(num_classes, "class")
            )
        }
        (Some(classes), _) => Ok(classes),
        (None, Some((description, classes))) if classes.len() == num_classes => {
            notes.push(format!("the names of its classes are taken from `{}`", description.path().display()));
            Ok(classes)
        }
        (None, described) => {
            notes.push(match described {
                Some((description, classes)) => format!(
                    "`{}` names {}, but the network has {num_classes}, so they are numbered from 0",
                    description.path().display(),
                    counted(classes.len(), "class")
                ),
                None => "it does not say what its classes are called, so they are numbered from 0".to_string(),
            });
            Ok(numbered(num_classes))
        }
    }
}

/// Why names cannot be those of classes, if they cannot.
fn fault_of_names(names: &[String]) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.iter().find_map(|name| match normal(name) {
        name if name.trim().is_empty() => Some("has a class without a name".to_string()),
        name if seen.contains(&name) => Some(format!("has two classes called `{name}`")),
        name => {
            seen.insert(name);
            None
        }
    })
}

/// The names of classes that nobody has named: `class 0`, `class 1` …
fn numbered(num_classes: usize) -> Vec<String> {
    (0..num_classes).map(|class| format!("class {class}")).collect()
}

/// Whether the classes have only the names that [`numbered`] gives.
pub(crate) fn are_numbered(names: &[String]) -> bool {
    *names == numbered(names.len())
}

/// The softmax over a single logit is 1 whatever the logit is, so a network with one output can only have been trained with a sigmoid.
pub const ONE_OUTPUT: &str = "the network has one output, whose probability is the sigmoid of its logit";

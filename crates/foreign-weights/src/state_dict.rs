//! From the objects of a file to the tensors of one network: which dictionary holds them, and what does not belong to it.

use std::collections::HashMap;

use crate::Entry;
use crate::object::{Object, ObjectId, Objects};
use crate::shown::{listed, shown};

/// Keys under which programs keep the weights, the first that is there is read. Averages come first: they are what was
/// measured and published.
const KEYS: &[&str] = &[
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
];
/// How many of the keys above are averages.
const NUM_AVERAGES: usize = 6;

/// Put in front of every name by wrappers: distributed training, `torch.compile`, a module inside of a training class.
const PREFIXES: &[&str] = &["module.", "_orig_mod.", "model.", "net.", "network."];

/// Last parts of the names that a profiler adds.
const PROFILER: &[&str] = &["total_ops", "total_params"];
/// Counter of `torch.optim.swa_utils.AveragedModel`.
const AVERAGED: &str = "n_averaged";

/// What Paddle writes beside the tensors: other names of theirs.
const PADDLE_NAMES: &str = "StructuredToParameterName@@";

/// Last parts of names that are tensors of the networks here.
const TENSOR_NAMES: &[&str] = &["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

/// Dictionaries inside of each other that are looked into.
const MAX_NESTING: usize = 3;

/// Limits of the pairs that are searched for names and of the bytes of these names: dictionaries may hold each other many times. A file
/// of the largest network here, of its average and of Adam's state has 20,000 pairs.
const MAX_PAIRS: usize = 1 << 20;
const MAX_NAME_BYTES: usize = 64 << 20;

/// Why no weights were found.
#[derive(Debug, thiserror::Error)]
pub enum StateDictError {
    /// `torch.save(model)`.
    #[error(
        "it holds a whole object of the class {class}, which only its own Python code can open, and not its weights alone\n\n\
         hint: save them with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    WholeModule {
        /// The class, in backticks.
        class: String,
    },
    /// Anything but a dictionary.
    #[error(
        "it holds {what} and not a dictionary of tensors\n\n\
         hint: save the weights with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    NotADictionary {
        /// What there is.
        what: String,
    },
    /// A dictionary without any.
    #[error(
        "no dictionary of tensors is in it; its keys are {keys}\n\n\
         hint: save the weights with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    NoTensors {
        /// The keys, in backticks.
        keys: String,
    },
    /// More than one, under keys that say nothing.
    #[error("it holds several sets of tensors\n\nhint: name one of {keys} with `--key`")]
    Several {
        /// The keys, in backticks.
        keys: String,
    },
    /// The key that was asked for.
    #[error("it has no set of tensors under {key}{choices}")]
    NoSuchKey {
        /// The key, in backticks.
        key: String,
        /// A hint with those that there are.
        choices: String,
    },
    /// A tensor that only another program's code could make.
    #[error(
        "tensor {name} is made by {function}, which is not read\n\n\
         hint: save it in Python as an ordinary tensor"
    )]
    ForeignTensor {
        /// The tensor, in backticks.
        name: String,
        /// The function, in backticks.
        function: String,
    },
}

/// The dictionary that was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The keys that lead to it, joined by dots; `None` if the file is the dictionary.
    pub(crate) key: Option<String>,
    /// Keys of other sets of tensors.
    pub(crate) other_keys: Vec<String>,
    /// Its tensors in order.
    pub(crate) entries: Vec<Entry<ObjectId>>,
    /// Sentences on what was done.
    pub(crate) notes: Vec<String>,
}

/// Finds the weights below `root`, or below `key` of it.
pub(crate) fn choose(objects: &Objects, root: ObjectId, key: Option<&str>) -> Result<Chosen, StateDictError> {
    let mut search = Search { objects, holds: HashMap::new() };
    let top = search.sets(root);
    let mut path = Vec::new();
    let mut prefix = "";
    let place = match key {
        None => search.usual(root, &mut path)?,
        Some(key) => {
            let found = search.find(root, key).filter(|id| search.holds(*id, MAX_NESTING));
            let place = match found {
                Some(id) => search.usual(id, &mut path)?,
                None => {
                    let (id, rest) = search.find_names(root, key).ok_or_else(|| StateDictError::NoSuchKey {
                        key: shown(key),
                        choices: match top.as_slice() {
                            [] => String::new(),
                            sets => format!("\n\nhint: name one of {}", listed(&set_names(sets))),
                        },
                    })?;
                    prefix = rest;
                    id
                }
            };
            path.insert(0, key);
            place
        }
    };
    let first = path.first().copied();
    let other_keys: Vec<_> =
        top.iter().filter(|(name, _)| Some(*name) != first).map(|(name, _)| (*name).to_string()).collect();
    let mut notes = Vec::new();
    if let Some(first) = first {
        let kind = if KEYS[..NUM_AVERAGES].contains(&first) { ", an average of the weights" } else { "" };
        notes.push(format!("the weights are those under {}{kind}", shown(&path.join("."))));
    }
    if !other_keys.is_empty() {
        notes.push(format!("other sets of tensors in the file: {}", listed(&other_keys)));
    }
    let entries = entries(objects, place, prefix, &mut notes)?;
    let key = if path.is_empty() { None } else { Some(path.join(".")) };
    Ok(Chosen { key, other_keys, entries, notes })
}

struct Search<'o> {
    objects: &'o Objects,
    /// What was found out before, so that a dictionary that occurs a million times is looked into once.
    holds: HashMap<(ObjectId, usize), bool>,
}

fn set_names<'s>(sets: &[(&'s str, ObjectId)]) -> Vec<&'s str> {
    sets.iter().map(|(name, _)| *name).collect()
}

impl<'o> Search<'o> {
    /// The pairs of a dictionary whose keys are strings.
    fn named(&self, id: ObjectId) -> impl Iterator<Item = (&'o str, ObjectId)> + use<'o> {
        let objects = self.objects;
        let pairs = objects.pairs(id).unwrap_or_default();
        pairs.iter().filter_map(|(key, value)| Some((objects.text(*key)?, *value)))
    }

    fn has_tensors(&mut self, id: ObjectId) -> bool {
        self.holds(id, 0)
    }

    /// Whether it is a dictionary with tensors, or with such a dictionary under a known key at most `nesting` deeper.
    fn holds(&mut self, id: ObjectId, nesting: usize) -> bool {
        if let Some(known) = self.holds.get(&(id, nesting)) {
            return *known;
        }
        let objects = self.objects;
        let holds = self.named(id).any(|(key, value)| match objects.get(value) {
            Object::Tensor(_) | Object::Opaque { of_tensor: true, .. } => true,
            Object::Dict(_) => nesting > 0 && KEYS.contains(&key) && self.holds(value, nesting - 1),
            _ => false,
        });
        self.holds.insert((id, nesting), holds);
        holds
    }

    /// The sets of tensors right below, by name.
    fn sets(&mut self, id: ObjectId) -> Vec<(&'o str, ObjectId)> {
        let mut places = HashMap::new();
        let mut sets: Vec<(&str, ObjectId)> = Vec::new();
        for (name, value) in self.named(id) {
            if !self.holds(value, MAX_NESTING - 1) {
                continue;
            }
            match places.get(name) {
                Some(place) => sets[*place] = (name, value),
                None => {
                    places.insert(name, sets.len());
                    sets.push((name, value));
                }
            }
        }
        sets
    }

    /// The dictionary of tensors that is taken if nobody says which, from `place` on; the keys that lead to it are added to `path`.
    fn usual<'p>(&mut self, place: ObjectId, path: &mut Vec<&'p str>) -> Result<ObjectId, StateDictError>
    where
        'o: 'p,
    {
        let mut place = place;
        for _ in 0..MAX_NESTING {
            let sets = self.sets(place);
            let known = KEYS.iter().find_map(|key| sets.iter().find(|(name, _)| name == key));
            let (name, inside) = match (known, sets.as_slice()) {
                (Some(set), _) => *set,
                (None, _) if self.has_tensors(place) => break,
                (None, [only]) => *only,
                (None, []) => return Err(self.nothing(place)),
                (None, sets) => return Err(StateDictError::Several { keys: listed(&set_names(sets)) }),
            };
            path.push(name);
            place = inside;
        }
        if self.has_tensors(place) { Ok(place) } else { Err(self.nothing(place)) }
    }

    /// What is under `key`, or under its parts between dots.
    fn find(&self, root: ObjectId, key: &str) -> Option<ObjectId> {
        let last = |id, key: &str| self.named(id).filter(|(name, _)| *name == key).last().map(|(_, value)| value);
        last(root, key).or_else(|| {
            let parts: Vec<_> = key.split('.').take(MAX_NESTING + 1).collect();
            parts.iter().try_fold(root, |id, part| last(id, part))
        })
    }

    /// The dictionary in which names of tensors begin with the last parts of `key`, and those parts: below the keys that are its first
    /// parts, in the file's own dictionary, or in the one that is taken if nobody says which.
    fn find_names<'k>(&mut self, root: ObjectId, key: &'k str) -> Option<(ObjectId, &'k str)> {
        let mut places: Vec<(ObjectId, &str)> = Vec::new();
        let dots: Vec<usize> = key.match_indices('.').map(|(at, _)| at).take(MAX_NESTING).collect();
        for at in dots.into_iter().rev() {
            places.extend(self.find(root, &key[..at]).map(|id| (id, &key[at + 1..])));
        }
        places.push((root, key));
        places.extend(self.usual(root, &mut Vec::new()).ok().map(|id| (id, key)));
        let holds_names = |(id, rest): &(ObjectId, &str)| {
            self.named(*id).any(|(name, value)| {
                is_below(name, rest).is_some() && matches!(self.objects.get(value), Object::Tensor(_))
            })
        };
        places.into_iter().find(holds_names)
    }

    /// The reason why there is nothing below `id`.
    fn nothing(&self, id: ObjectId) -> StateDictError {
        let whole = |id| match self.objects.get(id) {
            Object::Opaque { made_by, state: Some(state), .. } => {
                let keys: Vec<_> = self.named(*state).map(|(name, _)| name).collect();
                let is_module = keys.contains(&"_modules") && keys.contains(&"_parameters");
                is_module.then(|| shown(&self.objects.global(*made_by).path))
            }
            _ => None,
        };
        if let Some(class) = whole(id).or_else(|| self.named(id).find_map(|(_, value)| whole(value))) {
            return StateDictError::WholeModule { class };
        }
        match self.objects.get(id) {
            Object::Dict(pairs) if pairs.is_empty() => {
                StateDictError::NotADictionary { what: "an empty dictionary".to_string() }
            }
            Object::Dict(_) => {
                let keys: Vec<_> = self.named(id).map(|(name, _)| name).collect();
                StateDictError::NoTensors {
                    keys: if keys.is_empty() { "no strings".to_string() } else { listed(&keys) },
                }
            }
            Object::Opaque { made_by, .. } => {
                let class = shown(&self.objects.global(*made_by).path);
                StateDictError::NotADictionary { what: format!("an object of {class}") }
            }
            other => StateDictError::NotADictionary { what: other.noun().to_string() },
        }
    }
}

/// What follows `prefix` and a dot; the whole name if there is no prefix.
fn is_below<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    if prefix.is_empty() {
        return Some(name);
    }
    name.strip_prefix(prefix)?.strip_prefix('.').filter(|rest| !rest.is_empty())
}

/// Names of the tensors in all dictionaries that are at most [`MAX_NESTING`] deep, with their keys in front, joined by dots.
pub(crate) fn names(objects: &Objects, root: ObjectId) -> Vec<String> {
    let mut names = Vec::new();
    let (mut pairs, mut bytes) = (0, 0);
    let mut open = vec![(root, String::new(), 0)];
    while let Some((id, keys, depth)) = open.pop() {
        for (key, value) in objects.pairs(id).unwrap_or_default() {
            pairs += 1;
            if pairs > MAX_PAIRS || bytes > MAX_NAME_BYTES {
                return names;
            }
            let Some(key) = objects.text(*key) else { continue };
            match objects.get(*value) {
                Object::Tensor(_) => names.push(format!("{keys}{key}")),
                Object::Dict(_) if depth < MAX_NESTING => open.push((*value, format!("{keys}{key}."), depth + 1)),
                _ => continue,
            }
            bytes += keys.len() + key.len() + 1;
        }
    }
    names
}

/// The tensors of a dictionary, with a prefix those whose names begin with it, without it; what else is in it is noted.
fn entries(
    objects: &Objects,
    id: ObjectId,
    prefix: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<Entry<ObjectId>>, StateDictError> {
    let mut places = HashMap::new();
    let mut all: Vec<(&str, ObjectId)> = Vec::new();
    let mut unnamed = 0;
    for (key, value) in objects.pairs(id).unwrap_or_default() {
        let Some(name) = objects.text(*key) else {
            unnamed += 1;
            continue;
        };
        let Some(name) = is_below(name, prefix) else { continue };
        // As in Python: the place of the first, the value of the last.
        match places.get(name) {
            Some(place) => all[*place] = (name, *value),
            None => {
                places.insert(name, all.len());
                all.push((name, *value));
            }
        }
    }
    let mut entries = Vec::new();
    let mut left_out = Vec::new();
    for (name, value) in all {
        match objects.get(value) {
            Object::Tensor(_) => entries.push(Entry { name: name.to_string(), value }),
            Object::Opaque { made_by, of_tensor, .. } => {
                let function = &objects.global(*made_by).path;
                let last = name.rsplit('.').next().unwrap_or(name);
                let of_arrays = ["torch.", "numpy."].iter().any(|package| function.starts_with(package));
                if *of_tensor || of_arrays || TENSOR_NAMES.contains(&last) {
                    return Err(StateDictError::ForeignTensor { name: shown(name), function: shown(function) });
                }
                left_out.push(name);
            }
            Object::Dict(_) if name == PADDLE_NAMES => {}
            _ => left_out.push(name),
        }
    }
    if unnamed > 0 {
        notes.push(format!("left out {unnamed} entries whose keys are not strings"));
    }
    if !left_out.is_empty() {
        notes.push(format!("left out {} entries that are not tensors: {}", left_out.len(), listed(&left_out)));
    }
    Ok(entries)
}

/// Drops what a profiler or an average has added, and the prefix that all names share.
pub(crate) fn tidy<T>(mut entries: Vec<Entry<T>>, notes: &mut Vec<String>) -> Vec<Entry<T>> {
    let before = entries.len();
    entries.retain(|entry| !PROFILER.contains(&entry.name.rsplit('.').next().unwrap_or_default()));
    if entries.len() < before {
        let count = before - entries.len();
        notes.push(format!("left out {count} counters of a profiler, `total_ops` and `total_params`"));
    }
    let before = entries.len();
    entries.retain(|entry| entry.name != AVERAGED);
    if entries.len() < before {
        notes.push(format!("left out `{AVERAGED}`, the counter of an averaged model"));
    }
    let mut taken = String::new();
    // Each pass shortens every name, so it ends.
    while let Some(prefix) = PREFIXES.iter().find(|prefix| {
        let has_prefix = |entry: &Entry<T>| entry.name.strip_prefix(**prefix).is_some_and(|rest| !rest.is_empty());
        !entries.is_empty() && entries.iter().all(has_prefix)
    }) {
        for entry in &mut entries {
            entry.name.drain(..prefix.len());
        }
        taken.push_str(prefix);
        if taken.len() > 64 {
            break;
        }
    }
    if !taken.is_empty() {
        notes.push(format!("took `{taken}` off the front of every name"));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let entries = names.iter().map(|name| Entry { name: (*name).to_string(), value: () }).collect();
        let mut notes = Vec::new();
        let names = tidy(entries, &mut notes).into_iter().map(|entry| entry.name).collect();
        (names, notes)
    }

    #[test]
    fn a_prefix_goes_only_if_all_names_have_it() {
        assert_eq!(tidied(&["module.a", "module.b"]).0, ["a", "b"]);
        assert_eq!(tidied(&["module.a", "b"]).0, ["module.a", "b"]);
        assert_eq!(tidied(&["module.", "module.b"]).0, ["module.", "module.b"]);
        assert_eq!(tidied(&["_orig_mod.module.a", "_orig_mod.module.b"]).0, ["a", "b"]);
        assert_eq!(tidied(&["moduleX", "module.b"]).0, ["moduleX", "module.b"]);
    }

    #[test]
    fn counters_of_profilers_and_averages_go_first() {
        let (names, notes) = tidied(&["n_averaged", "module.a", "module.total_ops", "total_params"]);
        assert_eq!(names, ["a"]);
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[test]
    fn averages_are_the_first_keys() {
        for (place, key) in KEYS.iter().enumerate() {
            assert_eq!(key.contains("ema"), place < NUM_AVERAGES, "{key}");
        }
    }
}

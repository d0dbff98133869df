//! Weights in several safetensors files, the way Hugging Face's libraries cut large models: `model-00001-of-00003.safetensors` and so on,
//! and beside them an index, `model.safetensors.index.json`, that names the file of each tensor.
//!
//! Source: `split_torch_state_dict_into_shards` and `save_torch_state_dict` in `huggingface_hub/serialization/_torch.py` at 0651877. The
//! index is `{"metadata": {…}, "weight_map": {"NAME OF A TENSOR": "FILE"}}`; a file's number counts from 1.
//!
//! Joined, they are the bytes of one safetensors file, so whatever reads one reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::TensorView;

use crate::shown::{listed, shown};
use crate::{ForeignError, MAX_FILE, Problem, not_weights, safetensors};

const ENDING: &str = ".safetensors";
/// How the name of an index ends, whatever it is an index of.
const INDEX_ENDING: &str = ".index.json";

/// Why the parts of a model cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The system refused; its message names the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The index is not one.
    #[error("`{path}` is not an index of weight files: {reason}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Files of another format.
    #[error(
        "`{path}` names {shard}, but only safetensors files can be joined\n\n\
         hint: load the model in Python, and save it in one file with `safetensors.torch.save_file(model.state_dict(), \
         \"model.safetensors\")`"
    )]
    Format {
        /// The index.
        path: PathBuf,
        /// The file, in backticks.
        shard: String,
    },
    /// A name that is not that of a file in the same folder.
    #[error("`{path}` names {shard}, which is not a file in the same folder")]
    Name {
        /// The index.
        path: PathBuf,
        /// The name, in backticks.
        shard: String,
    },
    /// Parts that are not there.
    #[error(
        "`{path}` needs all {count} parts of the model, but these are missing: {shards}\n\n\
         hint: download them into the same folder"
    )]
    Missing {
        /// The index, or the folder.
        path: PathBuf,
        /// The files, in backticks.
        shards: String,
        /// How many parts there should be.
        count: usize,
    },
    /// Parts of more than one model.
    #[error("the folder `{path}` has parts of several models: {choices}\n\nhint: name the index of one of them")]
    Several {
        /// The folder.
        path: PathBuf,
        /// The indexes, or the names that the parts begin with, in backticks.
        choices: String,
    },
    /// One of the parts.
    #[error(transparent)]
    Shard(#[from] ForeignError),
    /// Parts that overlap.
    #[error("tensor {tensor} is in {first} and in {second}: these are not parts of one model")]
    Twice {
        /// The tensor, in backticks.
        tensor: String,
        /// The part where it came first, in backticks.
        first: String,
        /// The other part, in backticks.
        second: String,
    },
    /// The index does not go with the parts.
    #[error("`{path}` says that tensor {tensor} is in {shard}, but it is not: the index belongs to other files")]
    Elsewhere {
        /// The index.
        path: PathBuf,
        /// The tensor, in backticks.
        tensor: String,
        /// The part, in backticks.
        shard: String,
    },
    /// More than is read.
    #[error("the parts in `{path}` have more than {MAX_FILE} bytes in total")]
    TooLarge {
        /// The index, or the folder.
        path: PathBuf,
    },
    /// They cannot be written as one.
    #[error("the parts in `{path}` cannot be joined: {reason}")]
    Join {
        /// The index, or the folder.
        path: PathBuf,
        /// What the writer said.
        reason: String,
    },
}

/// The parts of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// The file of each tensor, if there is an index.
    weight_map: BTreeMap<String, String>,
}

/// An index of weights in several safetensors files. The files need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    path: PathBuf,
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
    total_size: Option<u64>,
}

impl ShardIndex {
    /// Reads an index. Every file that it names must be a safetensors file in the folder of the index.
    pub fn read(path: &Path) -> Result<Self, ShardsError> {
        let wrong = |reason: String| ShardsError::Index { path: path.to_path_buf(), reason };
        let index: serde_json::Value =
            serde_json::from_slice(&fs_err::read(path)?).map_err(|error| wrong(error.to_string()))?;
        let map = index.get("weight_map").and_then(serde_json::Value::as_object);
        let map = map.ok_or_else(|| wrong("it has no object `weight_map`".to_string()))?;
        let weight_map: BTreeMap<String, String> = map
            .iter()
            .map(|(tensor, file)| {
                let file = file
                    .as_str()
                    .ok_or_else(|| wrong(format!("the file of tensor {} is not a string", shown(tensor))))?;
                Ok((tensor.clone(), file.to_string()))
            })
            .collect::<Result<_, ShardsError>>()?;
        if weight_map.is_empty() {
            return Err(wrong("its `weight_map` is empty".to_string()));
        }
        for name in weight_map.values().collect::<BTreeSet<_>>() {
            let (path, shard) = (path.to_path_buf(), shown(name));
            // The index is a stranger's: it must not lead out of its folder.
            if name.contains(['/', '\\']) || Path::new(name).file_name().is_none_or(|last| last != name.as_str()) {
                return Err(ShardsError::Name { path, shard });
            }
            if !has_ending(Path::new(name), ENDING) {
                return Err(ShardsError::Format { path, shard });
            }
        }
        let total_size = index.pointer("/metadata/total_size").and_then(serde_json::Value::as_u64);
        Ok(Self { path: path.to_path_buf(), weight_map, total_size })
    }

    /// The names of the files, each once.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Bytes of all tensors, as the index says.
    pub fn total_size(&self) -> Option<u64> {
        self.total_size
    }
}

/// The name of one part of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardName {
    /// What is in front of the number: `model`.
    pub stem: String,
    /// Which part it is, from 1 on.
    pub number: usize,
    /// How many parts there are.
    pub count: usize,
}

impl ShardName {
    /// Reads `model-00001-of-00003.safetensors`; `None` if the file's name is not of this form.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (name, ending) = name.split_at_checked(name.len().checked_sub(ENDING.len())?)?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !ending.eq_ignore_ascii_case(ENDING) || !is_number(number) || !is_number(count) {
            return None;
        }
        let (number, count) = (number.parse::<usize>().ok()?, count.parse::<usize>().ok()?);
        (1..=count).contains(&number).then(|| Self { stem: stem.to_string(), number, count })
    }
}

impl Shards {
    /// The parts that a path stands for: those that an index names, or, of a folder, those of the index in it, or those that are
    /// numbered. `None` if the path is neither an index nor a folder with parts. Whether the parts can be read is not checked.
    pub fn find(path: &Path) -> Result<Option<Self>, ShardsError> {
        if !path.is_dir() {
            let is_index = has_ending(path, INDEX_ENDING) && path.is_file();
            return is_index.then(|| Self::of_index(path)).transpose();
        }
        let mut indexes = Vec::new();
        let mut numbered: BTreeMap<(String, usize), BTreeMap<usize, PathBuf>> = BTreeMap::new();
        for entry in fs_err::read_dir(path)? {
            let file = entry?.path();
            if has_ending(&file, &format!("{ENDING}{INDEX_ENDING}"))
                || has_ending(&file, &format!(".bin{INDEX_ENDING}"))
            {
                indexes.push(file);
            } else if let Some(ShardName { stem, number, count }) = ShardName::of(&file) {
                numbered.entry((stem, count)).or_default().insert(number, file);
            }
        }
        // A folder may have the same weights once more as files of PyTorch.
        if indexes.iter().any(|index| has_ending(index, &format!("{ENDING}{INDEX_ENDING}"))) {
            indexes.retain(|index| has_ending(index, &format!("{ENDING}{INDEX_ENDING}")));
        }
        indexes.sort();
        let several =
            |choices: Vec<String>| ShardsError::Several { path: path.to_path_buf(), choices: listed(&choices) };
        match (indexes.as_slice(), numbered.len()) {
            ([index], _) => Self::of_index(index).map(Some),
            ([], 0) => Ok(None),
            ([], 1) => {
                let Some(((stem, count), files)) = numbered.pop_first() else { return Ok(None) };
                let name = |number: usize| format!("{stem}-{number:05}-of-{count:05}{ENDING}");
                let missing = (1..=count).filter(|number| !files.contains_key(number)).map(name);
                // A number out of a name can be any.
                let missing: Vec<String> = missing.take(MAX_NAMED).collect();
                if !missing.is_empty() {
                    return Err(ShardsError::Missing { path: path.to_path_buf(), shards: listed(&missing), count });
                }
                let files = files.into_values().collect();
                Ok(Some(Self { path: path.to_path_buf(), files, weight_map: BTreeMap::new() }))
            }
            ([], _) => Err(several(numbered.into_keys().map(|(stem, _)| stem).collect())),
            (indexes, _) => Err(several(indexes.iter().map(|index| file_name(index)).collect())),
        }
    }

    fn of_index(path: &Path) -> Result<Self, ShardsError> {
        let ShardIndex { path, weight_map, .. } = ShardIndex::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&String> = weight_map.values().collect();
        let (mut files, mut missing) = (Vec::new(), Vec::new());
        for name in &names {
            let file = folder.join(name);
            if file.is_file() { files.push(file) } else { missing.push((*name).clone()) }
        }
        if !missing.is_empty() {
            let (shards, count) = (listed(&missing), names.len());
            return Err(ShardsError::Missing { path, shards, count });
        }
        Ok(Self { path, files, weight_map })
    }

    /// The index, or the folder of parts without one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// The bytes of one safetensors file with all tensors. Each must be in one part only, and where the index says.
    pub fn join(&self) -> Result<Vec<u8>, ShardsError> {
        let too_large = || ShardsError::TooLarge { path: self.path.clone() };
        let mut left = MAX_FILE;
        let mut parts = Vec::new();
        for file in &self.files {
            left = left.checked_sub(fs_err::metadata(file)?.len()).ok_or_else(too_large)?;
            parts.push((file, fs_err::read(file)?));
        }
        let mut tensors: HashMap<String, (&Path, TensorView<'_>)> = HashMap::new();
        for (file, bytes) in &parts {
            let wrong = |source: Problem| ForeignError::File { path: file.to_path_buf(), source };
            if !safetensors::looks_like(bytes) {
                return Err(wrong(not_weights(bytes)).into());
            }
            for (name, view) in safetensors::open(bytes).map_err(|error| wrong(error.into()))?.tensors() {
                if let Some((first, _)) = tensors.get(&name) {
                    let (first, second) = (shown(&file_name(first)), shown(&file_name(file)));
                    return Err(ShardsError::Twice { tensor: shown(&name), first, second });
                }
                tensors.insert(name, (file.as_path(), view));
            }
        }
        for (tensor, shard) in &self.weight_map {
            if tensors.get(tensor).is_none_or(|(file, _)| file_name(file) != *shard) {
                let (path, tensor, shard) = (self.path.clone(), shown(tensor), shown(shard));
                return Err(ShardsError::Elsewhere { path, tensor, shard });
            }
        }
        let views = tensors.iter().map(|(name, (_, view))| (name.as_str(), view));
        ::safetensors::serialize(views, None)
            .map_err(|error| ShardsError::Join { path: self.path.clone(), reason: error.to_string() })
    }
}

/// Missing parts that are counted out; [`listed`] shows fewer and says that there are more.
const MAX_NAMED: usize = 1000;

fn has_ending(path: &Path, ending: &str) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let start = name.len().checked_sub(ending.len()).filter(|start| *start > 0);
    start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_part_is_in_its_name() {
        let name = |text: &str| ShardName::of(Path::new(text)).map(|name| (name.stem, name.number, name.count));
        assert_eq!(name("a/model-00001-of-00002.safetensors"), Some(("model".to_string(), 1, 2)));
        assert_eq!(name("my-model-2-of-3.SAFETENSORS"), Some(("my-model".to_string(), 2, 3)));
        for other in [
            "model.safetensors",
            "model-00003-of-00002.safetensors",
            "model-00000-of-00002.safetensors",
            "model-x-of-00002.safetensors",
            "model-00001-of-00002.bin",
            "-of-.safetensors",
            "ü",
            "",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}

//! Files of PyTorch before 1.6: a pickle with a magic number, one with the version, one with the sizes of C types, the one
//! with the objects, one with the names of the storages, then each storage as a count of eight bytes and its elements.
//! Counts and elements are little-endian on every machine.

use std::collections::HashMap;
use std::ops::Range;

use crate::element::Element;
use crate::object::{Object, Objects};
use crate::pickle::{self, Arrays, Pickle, PickleError};
use crate::shown::shown;

/// The magic number, lowest byte first.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The only version that there is.
const VERSION: i64 = 1001;

/// Why a file of that kind cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// One of its pickles.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Any other pickle.
    #[error(
        "it is a pickle and not a file of `torch.save` or `paddle.save`\n\n\
         hint: save the weights with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    NotTorch,
    /// A version that does not exist.
    #[error("it has version {version} of PyTorch's old file format, and only {VERSION} is known")]
    Version {
        /// The number.
        version: i64,
    },
    /// The names of the storages.
    #[error("the names of its storages cannot be read: {reason}; the file is damaged")]
    Names {
        /// What is wrong.
        reason: String,
    },
    /// The file ends before its storages do.
    #[error("storage {storage} reaches beyond the end of the file; it is cut short\n\nhint: get the file again")]
    CutShort {
        /// The storage, in backticks.
        storage: String,
    },
}

/// A file of that kind.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// What it holds.
    pub(crate) pickle: Pickle,
    /// Where each storage lies.
    pub(crate) storages: HashMap<String, Range<usize>>,
}

/// Whether the first pickle of a file, which it has read, is the magic number.
pub(crate) fn is_magic(first: &Pickle) -> bool {
    matches!(first.objects.get(first.root), Object::Long(magic) if magic[..] == MAGIC)
}

/// Reads everything except the numbers, from `end` on, where the magic number ends.
pub(crate) fn parse(bytes: &[u8], end: usize) -> Result<Legacy, LegacyError> {
    let version = pickle::load(bytes, end, Arrays::Leave)?;
    match version.objects.int(version.root) {
        Some(VERSION) => {}
        other => return Err(LegacyError::Version { version: other.unwrap_or(-1) }),
    }
    let sizes = pickle::load(bytes, version.end, Arrays::Leave)?;
    let pickle = pickle::load(bytes, sizes.end, Arrays::Leave)?;
    let names = pickle::load(bytes, pickle.end, Arrays::Leave)?;
    let storages = places(bytes, &pickle.objects, &names)?;
    Ok(Legacy { pickle, storages })
}

fn places(bytes: &[u8], objects: &Objects, names: &Pickle) -> Result<HashMap<String, Range<usize>>, LegacyError> {
    let wrong = |reason: String| LegacyError::Names { reason };
    let elements = elements(objects).map_err(wrong)?;
    let list = names.objects.items(names.root).ok_or_else(|| wrong("they are not a list".to_string()))?;
    let mut storages = HashMap::new();
    let mut at = names.end;
    for name in list {
        let name = names.objects.text(*name).ok_or_else(|| wrong("one is not a string".to_string()))?;
        let element = elements.get(name).ok_or_else(|| wrong(format!("no tensor has storage {}", shown(name))))?;
        let short = || LegacyError::CutShort { storage: shown(name) };
        let (count, _) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or_else(short)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| short())?;
        let start = at + 8;
        let end = count.checked_mul(element.bytes).and_then(|length| start.checked_add(length));
        let end = end.filter(|end| *end <= bytes.len()).ok_or_else(short)?;
        if storages.insert(name.to_string(), start..end).is_some() {
            return Err(wrong(format!("{} comes twice", shown(name))));
        }
        at = end;
    }
    Ok(storages)
}

/// The type of every storage, which says how long its elements are.
fn elements(objects: &Objects) -> Result<HashMap<&str, &'static Element>, String> {
    let mut elements = HashMap::new();
    for storage in &objects.storages {
        let before = elements.insert(storage.key.as_str(), storage.element);
        if before.is_some_and(|before: &Element| before != storage.element) {
            return Err(format!("storage {} has two types", shown(&storage.key)));
        }
    }
    Ok(elements)
}

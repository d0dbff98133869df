//! Safetensors files of other programs: any names, more types than our own have.

use safetensors::tensor::{Dtype, SafeTensors};

use crate::element::{ByteOrder, Element};
use crate::shown::shown;
use crate::tensor::{MAX_NUMBERS, MAX_RANK, TensorError};
use crate::{Entry, Numbers};

/// Bytes of the header. That of the largest network here has 300,000.
const MAX_HEADER: u64 = 16 << 20;

/// Why a safetensors file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The header is too long to be one.
    #[error("its header says that it has {bytes} bytes; no file of weights has more than {MAX_HEADER}")]
    Header {
        /// Bytes that it says it has.
        bytes: u64,
    },
    /// Cut short, or its header is wrong.
    #[error("it is not a whole safetensors file: {reason}\n\nhint: get the file again")]
    Damaged {
        /// What the reader said.
        reason: String,
    },
    /// One of its tensors.
    #[error("tensor {name} cannot be read")]
    Tensor {
        /// The tensor, in backticks.
        name: String,
        /// Why.
        source: TensorError,
    },
}

/// Whether the bytes begin as a header does.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    // The length of a header is far below 2^48, so its last two bytes are 0, and the header begins with a brace.
    bytes.get(8) == Some(&b'{') && bytes[6..8] == [0, 0]
}

fn damaged(error: safetensors::SafeTensorError) -> SafetensorsError {
    SafetensorsError::Damaged { reason: error.to_string() }
}

/// Reads the header and checks it against the bytes after it.
pub(crate) fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, SafetensorsError> {
    if let Some((length, _)) = bytes.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER {
            return Err(SafetensorsError::Header { bytes: length });
        }
    }
    SafeTensors::deserialize(bytes).map_err(damaged)
}

/// Names of all tensors, sorted.
pub(crate) fn names(bytes: &[u8]) -> Result<Vec<String>, SafetensorsError> {
    let file = open(bytes)?;
    let mut names: Vec<String> = file.names().into_iter().map(str::to_string).collect();
    names.sort_unstable();
    Ok(names)
}

/// All tensors, by name; with a key those whose names begin with it and a dot, without that beginning.
pub(crate) fn parse(bytes: &[u8], key: Option<&str>) -> Result<Vec<Entry<Numbers>>, SafetensorsError> {
    let file = open(bytes)?;
    let mut names = file.names();
    names.sort_unstable();
    let rest = |name: &'_ str| match key {
        None => Some(name.to_string()),
        Some(key) => name.strip_prefix(key)?.strip_prefix('.').filter(|rest| !rest.is_empty()).map(str::to_string),
    };
    let mut left = MAX_NUMBERS;
    names
        .into_iter()
        .filter_map(|name| Some((name, rest(name)?)))
        .map(|(name, rest)| {
            let view = file.tensor(name).map_err(damaged)?;
            let wrong = |source| SafetensorsError::Tensor { name: shown(name), source };
            if view.shape().len() > MAX_RANK {
                return Err(wrong(TensorError::Dimensions { count: view.shape().len() }));
            }
            let count: u64 = view.shape().iter().map(|length| *length as u64).product();
            left = left.checked_sub(count).ok_or_else(|| wrong(TensorError::TooLarge))?;
            let unread = || wrong(TensorError::Type { name: view.dtype().to_string() });
            let element = element(view.dtype()).ok_or_else(unread)?;
            let values = element.numbers(view.data(), ByteOrder::Little).ok_or_else(unread)?;
            Ok(Entry { name: rest, value: Numbers { shape: view.shape().to_vec(), element, values } })
        })
        .collect()
}

fn element(dtype: Dtype) -> Option<&'static Element> {
    Element::named(match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        Dtype::F64 => "float64",
        Dtype::I64 => "int64",
        Dtype::I32 => "int32",
        Dtype::I16 => "int16",
        Dtype::I8 => "int8",
        Dtype::U32 => "uint32",
        Dtype::U16 => "uint16",
        Dtype::U8 => "uint8",
        Dtype::BOOL => "bool",
        _ => return None,
    })
}

//! The objects of a pickle as plain data: one list in which they refer to each other by number, so that neither walking nor
//! dropping them depends on how deep they are nested, and a reference that occurs a million times costs four bytes each time.

use std::ops::Range;

use crate::element::Element;
use crate::global::Meaning;
use crate::tensor::{Storage, TensorView};

/// Number of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId(pub(crate) u32);

/// Number of a name in the list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GlobalId(pub(crate) u32);

/// An object.
#[derive(Debug)]
pub(crate) enum Object {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes, lowest byte first.
    Long(Box<[u8]>),
    Float,
    Text(Box<str>),
    /// Where they are in the file.
    Bytes(Range<usize>),
    /// Bytes that are written as text, a character for each.
    Latin1 {
        /// The text.
        text: ObjectId,
        /// How many bytes they are.
        length: usize,
    },
    List(Vec<ObjectId>),
    Tuple(Box<[ObjectId]>),
    Dict(Vec<(ObjectId, ObjectId)>),
    Set,
    /// A function or class.
    Global(GlobalId),
    /// Number of a storage.
    Storage(u32),
    /// Number of a tensor.
    Tensor(u32),
    /// Element type of NumPy, lowest byte first.
    Dtype {
        /// `numpy.dtype`.
        made_by: GlobalId,
        /// The type.
        element: &'static Element,
    },
    /// What a function or class that is not called would have made.
    Opaque {
        /// The function or class.
        made_by: GlobalId,
        /// What `BUILD` gave it.
        state: Option<ObjectId>,
        /// Whether a tensor went into it.
        of_tensor: bool,
    },
}

impl Object {
    /// What it is, for messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::None => "`None`",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Long(_) => "an integer",
            Self::Float => "a float",
            Self::Text(_) => "a string",
            Self::Bytes(_) | Self::Latin1 { .. } => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::Set => "a set",
            Self::Global(_) => "a function or class",
            Self::Dtype { .. } => "an element type",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque { .. } => "an object of another program",
        }
    }
}

/// A function or class that the pickle names.
#[derive(Debug)]
pub(crate) struct Global {
    /// `module.name`.
    pub(crate) path: String,
    /// What it stands for.
    pub(crate) meaning: Meaning,
}

impl Global {
    /// Whether it is NumPy's.
    pub(crate) fn is_of_numpy(&self) -> bool {
        self.path.starts_with("numpy.")
    }
}

/// Everything that a pickle holds.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) objects: Vec<Object>,
    pub(crate) globals: Vec<Global>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) tensors: Vec<TensorView>,
}

impl Objects {
    /// The object of that number.
    pub(crate) fn get(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }

    /// Its text, if it is one.
    pub(crate) fn text(&self, id: ObjectId) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its integer, if it is one.
    pub(crate) fn int(&self, id: ObjectId) -> Option<i64> {
        match self.get(id) {
            Object::Int(value) => Some(*value),
            Object::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub(crate) fn items(&self, id: ObjectId) -> Option<&[ObjectId]> {
        match self.get(id) {
            Object::List(items) => Some(items),
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a dictionary, in order; a key may come twice, and then the later pair holds.
    pub(crate) fn pairs(&self, id: ObjectId) -> Option<&[(ObjectId, ObjectId)]> {
        match self.get(id) {
            Object::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The name of that number.
    pub(crate) fn global(&self, id: GlobalId) -> &Global {
        &self.globals[id.0 as usize]
    }

    /// Whether it names anything of NumPy.
    pub(crate) fn names_numpy(&self) -> bool {
        self.globals.iter().any(|global| global.is_of_numpy())
    }

    /// Names of other programs' functions and classes, in the order in which they first came.
    pub(crate) fn foreign(&self) -> Vec<&str> {
        let foreign = self.globals.iter().filter(|global| global.meaning == Meaning::Foreign);
        foreign.map(|global| global.path.as_str()).collect()
    }
}

//! The pickle machine. A pickle is a program for a machine with a stack; this one runs it without Python: it knows all the
//! instructions of protocols 0 to 5, makes plain data, and never calls anything. What a function would have made is a
//! placeholder that knows the function's name (see `global.rs` for the few that are understood).
//!
//! Every instruction makes at most one object and moves only what instructions before it put on the stack, so memory and
//! time grow with the number of instructions, which is limited. What copies more than that is charged for it.

use std::collections::HashMap;

use crate::element::Element;
use crate::global::{Meaning, Refused, meaning};
use crate::object::{Global, GlobalId, Object, ObjectId, Objects};
use crate::shown::shown;
use crate::tensor::{MAX_RANK, Storage, TensorView};

mod numpy;

/// Instructions that a pickle may have. A training checkpoint of the largest network here has about 200,000.
const MAX_INSTRUCTIONS: u64 = 4_000_000;
/// Marks that may be open at once: how deep tuples and calls are nested.
const MAX_MARKS: usize = 1_000;
/// Objects on the stack at once. Python writes dictionaries in pieces of a thousand pairs.
const MAX_STACK: usize = 1_000_000;
/// Bytes of one string.
const MAX_TEXT: usize = 16 << 20;
/// Bytes of a module's name together with that of its function.
const MAX_PATH: usize = 512;
/// Bytes of a long integer. The one that begins old files of PyTorch has ten.
const MAX_LONG: usize = 256;
/// Bytes of the name of a storage; it is a number.
const MAX_KEY: usize = 64;
/// Instructions that a tensor or a storage counts as, for it takes more memory than other objects.
const TENSOR_CHARGE: usize = 8;
/// Functions and classes that a pickle may name.
const MAX_GLOBALS: usize = 100_000;

/// Why a pickle is not read.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    /// It ends in the middle of an instruction.
    #[error(
        "the pickle ends at byte {at} in the middle of an instruction; the file is cut short\n\nhint: get it again"
    )]
    CutShort {
        /// Where.
        at: usize,
    },
    /// Not an instruction.
    #[error("byte {at} of the pickle is {opcode:#04x}, which is not an instruction; the file is damaged")]
    UnknownInstruction {
        /// The byte.
        opcode: u8,
        /// Where.
        at: usize,
    },
    /// An instruction that weight files do not use.
    #[error("byte {at} of the pickle is the instruction `{name}`, which weight files do not use and which is not read")]
    Unsupported {
        /// Its name in Python.
        name: &'static str,
        /// Where.
        at: usize,
    },
    /// A protocol of the future.
    #[error("the pickle has protocol {protocol}; up to 5 are read")]
    Protocol {
        /// Its number.
        protocol: u8,
    },
    /// An instruction does not fit what came before it.
    #[error("the pickle makes no sense at byte {at}: {reason}; the file is damaged")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// More than any honest file has.
    #[error("the pickle goes beyond {limit} {what}; no file of weights does")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It names something that can run programs.
    #[error(
        "the pickle names {function}, which can run programs or load code; no file of weights has reason to\n\n\
         hint: nothing of it was run; do not open the file in Python, and tell whoever gave it to you"
    )]
    Dangerous {
        /// The function, in backticks.
        function: String,
    },
    /// Written by `pickle.dump`, each storage a torch file of its own.
    #[error(
        "the tensors were written with `pickle.dump`, which puts a whole file inside of the file for each\n\n\
         hint: save them with `torch.save(model.state_dict(), \"weights.pth\")`"
    )]
    NestedFile,
}

/// What becomes of the arrays of NumPy in a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrays {
    /// Tensors: the file is a dictionary of them.
    Read,
    /// Placeholders: they stand beside the tensors of PyTorch.
    Leave,
}

/// What a pickle holds.
#[derive(Debug)]
pub(crate) struct Pickle {
    /// Its objects.
    pub(crate) objects: Objects,
    /// The one that everything hangs on.
    pub(crate) root: ObjectId,
    /// Where the bytes after it begin.
    pub(crate) end: usize,
}

/// Runs the pickle that begins at `start`.
pub(crate) fn load(bytes: &[u8], start: usize, arrays: Arrays) -> Result<Pickle, PickleError> {
    let mut machine = Machine {
        bytes,
        arrays,
        latin1: HashMap::new(),
        at: start,
        instruction: start,
        charged: 0,
        objects: Objects::default(),
        global_ids: HashMap::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok(Pickle { objects: machine.objects, root, end: machine.at })
}

/// What a call gives.
enum Made {
    New(Object),
    /// One of its arguments.
    Same(ObjectId),
}

struct Machine<'a> {
    bytes: &'a [u8],
    arrays: Arrays,
    /// How many bytes a text stands for, if it does: found out once, however often it is used.
    latin1: HashMap<ObjectId, Option<usize>>,
    at: usize,
    /// Where the instruction that is being run begins.
    instruction: usize,
    /// Instructions run and objects copied.
    charged: u64,
    objects: Objects,
    /// Names that came before: module, end of line, function.
    global_ids: HashMap<String, GlobalId>,
    stack: Vec<ObjectId>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, ObjectId>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<ObjectId, PickleError> {
        loop {
            self.charge(1)?;
            self.instruction = self.at;
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let protocol = self.byte()?;
                    if protocol > 5 {
                        return Err(PickleError::Protocol { protocol });
                    }
                }
                // A frame only says how far to read ahead.
                0x95 => {
                    self.take(8)?;
                }
                b'(' => {
                    if self.marks.len() >= MAX_MARKS {
                        return Err(limit("nested marks", MAX_MARKS));
                    }
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }

                b'N' => self.push(Object::None)?,
                0x88 => self.push(Object::Bool(true))?,
                0x89 => self.push(Object::Bool(false))?,
                b'K' => {
                    let value = self.byte()?;
                    self.push(Object::Int(i64::from(value)))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Object::Int(i64::from(value)))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Object::Int(i64::from(value)))?;
                }
                0x8a => {
                    let length = self.byte()?;
                    self.long(u64::from(length))?;
                }
                0x8b => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.long(u64::from(length))?;
                }
                b'I' | b'L' => self.decimal(opcode)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Object::Float)?;
                }
                b'F' => {
                    self.line()?;
                    self.push(Object::Float)?;
                }

                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(u64::from(length))?;
                }
                0x8c => {
                    let length = self.byte()?;
                    self.text(u64::from(length))?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.text(length)?;
                }
                // Strings of Python 2, which the names of tensors are there.
                b'T' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(u64::from(length))?;
                }
                b'U' => {
                    let length = self.byte()?;
                    self.text(u64::from(length))?;
                }
                b'V' => {
                    let line = self.line()?;
                    let text = unescape(line, true);
                    self.push(Object::Text(text))?;
                }
                b'S' => {
                    let line = self.line()?;
                    let quoted = match line {
                        [b'\'', inside @ .., b'\''] | [b'"', inside @ .., b'"'] => inside,
                        _ => return Err(self.malformed("a string without quotes")),
                    };
                    let text = unescape(quoted, false);
                    self.push(Object::Text(text))?;
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.blob(u64::from(length))?;
                }
                b'C' => {
                    let length = self.byte()?;
                    self.blob(u64::from(length))?;
                }
                0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.blob(length)?;
                }

                b']' => self.push(Object::List(Vec::new()))?,
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(&items)?;
                }
                b')' => self.push(Object::Tuple(Box::default()))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::Tuple(items.into()))?;
                }
                0x85..=0x87 => {
                    let length = usize::from(opcode - 0x84);
                    if self.stack.len() < self.floor() + length {
                        return Err(self.malformed("the stack is empty"));
                    }
                    let items = self.stack.split_off(self.stack.len() - length);
                    self.push(Object::Tuple(items.into()))?;
                }
                b'}' => self.push(Object::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::Dict(Vec::new()))?;
                    self.set_items(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }
                0x8f => self.push(Object::Set)?,
                0x90 => {
                    self.pop_to_mark()?;
                    let top = self.top()?;
                    if !matches!(self.objects.get(top), Object::Set | Object::Opaque { .. }) {
                        return Err(self.malformed("items are added to something that is not a set"));
                    }
                }
                0x91 => {
                    self.pop_to_mark()?;
                    self.push(Object::Set)?;
                }

                b'p' => {
                    let number = self.line_number()?;
                    self.remember(number)?;
                }
                b'q' => {
                    let number = self.byte()?;
                    self.remember(u64::from(number))?;
                }
                b'r' => {
                    let number = u32::from_le_bytes(self.array()?);
                    self.remember(u64::from(number))?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                b'g' => {
                    let number = self.line_number()?;
                    self.recall(number)?;
                }
                b'h' => {
                    let number = self.byte()?;
                    self.recall(u64::from(number))?;
                }
                b'j' => {
                    let number = u32::from_le_bytes(self.array()?);
                    self.recall(u64::from(number))?;
                }

                b'c' => {
                    let (module, name) = self.line_names()?;
                    let global = self.global(&module, &name)?;
                    self.push(Object::Global(global))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let global = self.stack_global(module, name)?;
                    self.push(Object::Global(global))?;
                }
                b'R' => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    self.call(function, arguments)?;
                }
                0x81 => {
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    self.new_object(class, arguments)?;
                }
                0x92 => {
                    self.pop()?;
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    self.new_object(class, arguments)?;
                }
                b'i' => {
                    let (module, name) = self.line_names()?;
                    let global = self.global(&module, &name)?;
                    let arguments = self.pop_to_mark()?;
                    let class = self.make(Object::Global(global))?;
                    let arguments = self.make(Object::Tuple(arguments.into()))?;
                    self.new_object(class, arguments)?;
                }
                b'o' => {
                    let mut items = self.pop_to_mark()?.into_iter();
                    let class = items.next().ok_or_else(|| self.malformed("an object without a class"))?;
                    let arguments = self.make(Object::Tuple(items.collect()))?;
                    self.new_object(class, arguments)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    self.set_state(state)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.persistent(id)?;
                }

                b'P' => return Err(self.unsupported("PERSID")),
                0x82 => return Err(self.unsupported("EXT1")),
                0x83 => return Err(self.unsupported("EXT2")),
                0x84 => return Err(self.unsupported("EXT4")),
                0x97 => return Err(self.unsupported("NEXT_BUFFER")),
                0x98 => return Err(self.unsupported("READONLY_BUFFER")),
                _ => return Err(PickleError::UnknownInstruction { opcode, at: self.instruction }),
            }
        }
    }

    fn malformed(&self, reason: &'static str) -> PickleError {
        PickleError::Malformed { at: self.instruction, reason }
    }

    fn unsupported(&self, name: &'static str) -> PickleError {
        PickleError::Unsupported { name, at: self.instruction }
    }

    fn charge(&mut self, amount: usize) -> Result<(), PickleError> {
        self.charged += amount as u64;
        if self.charged > MAX_INSTRUCTIONS {
            return Err(PickleError::Limit { what: "instructions", limit: MAX_INSTRUCTIONS });
        }
        Ok(())
    }

    // Reading.

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PickleError::CutShort { at: self.bytes.len() })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The bytes up to the end of the line, which is stepped over.
    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let window = &rest[..rest.len().min(MAX_TEXT)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                self.at += length + 1;
                let line = &rest[..length];
                Ok(line.strip_suffix(b"\r").unwrap_or(line))
            }
            None if window.len() == rest.len() => Err(PickleError::CutShort { at: self.bytes.len() }),
            None => Err(limit("bytes in one string", MAX_TEXT)),
        }
    }

    fn line_number(&mut self) -> Result<u64, PickleError> {
        let line = self.line()?;
        let number = std::str::from_utf8(line).ok().and_then(|line| line.parse::<u64>().ok());
        number.ok_or_else(|| self.malformed("not a number"))
    }

    fn line_names(&mut self) -> Result<(String, String), PickleError> {
        let module = String::from_utf8_lossy(self.line()?).into_owned();
        let name = String::from_utf8_lossy(self.line()?).into_owned();
        Ok((module, name))
    }

    fn length(&self, length: u64) -> Result<usize, PickleError> {
        usize::try_from(length).map_err(|_| PickleError::CutShort { at: self.bytes.len() })
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let length = self.length(length)?;
        let bytes = self.take(length)?;
        if length > MAX_TEXT {
            return Err(limit("bytes in one string", MAX_TEXT));
        }
        self.push(Object::Text(String::from_utf8_lossy(bytes).into()))
    }

    fn blob(&mut self, length: u64) -> Result<(), PickleError> {
        let length = self.length(length)?;
        self.take(length)?;
        self.push(Object::Bytes(self.at - length..self.at))
    }

    fn long(&mut self, length: u64) -> Result<(), PickleError> {
        let length = self.length(length)?;
        let bytes = self.take(length)?;
        if length > MAX_LONG {
            return Err(limit("bytes in one integer", MAX_LONG));
        }
        if length > 8 {
            return self.push(Object::Long(bytes.into()));
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..length].copy_from_slice(bytes);
        self.push(Object::Int(i64::from_le_bytes(wide)))
    }

    fn decimal(&mut self, opcode: u8) -> Result<(), PickleError> {
        let line = self.line()?;
        let object = match line {
            b"00" if opcode == b'I' => Object::Bool(false),
            b"01" if opcode == b'I' => Object::Bool(true),
            _ => {
                let digits = line.strip_suffix(b"L").unwrap_or(line);
                let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                Object::Int(value.ok_or_else(|| self.malformed("not an integer of 64 bits"))?)
            }
        };
        self.push(object)
    }

    // The stack and the memo.

    fn make(&mut self, object: Object) -> Result<ObjectId, PickleError> {
        // The instructions are limited far below the range of the numbers.
        let id = u32::try_from(self.objects.objects.len()).map_err(|_| limit("objects", MAX_STACK))?;
        self.objects.objects.push(object);
        Ok(ObjectId(id))
    }

    fn push(&mut self, object: Object) -> Result<(), PickleError> {
        let id = self.make(object)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: ObjectId) -> Result<(), PickleError> {
        if self.stack.len() >= MAX_STACK {
            return Err(limit("objects on its stack", MAX_STACK));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Height below which nothing may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<ObjectId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.malformed("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn top(&self) -> Result<ObjectId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.malformed("the stack is empty"));
        }
        self.stack.last().copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ObjectId>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, number: u64) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Result<(), PickleError> {
        let id = self.memo.get(&number).copied();
        self.push_id(id.ok_or_else(|| self.malformed("it recalls what it never remembered"))?)
    }

    // Containers.

    fn append(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.objects.objects[top.0 as usize] {
            Object::List(list) => list.extend_from_slice(items),
            Object::Opaque { .. } => {}
            _ => return Err(self.malformed("items are appended to something that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        let top = self.top()?;
        match &mut self.objects.objects[top.0 as usize] {
            Object::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Object::Opaque { .. } => {}
            _ => return Err(self.malformed("items are set in something that is not a dictionary")),
        }
        Ok(())
    }

    // Names and what they would make.

    fn stack_global(&mut self, module: ObjectId, name: ObjectId) -> Result<GlobalId, PickleError> {
        let (Some(module), Some(name)) = (self.objects.text(module), self.objects.text(name)) else {
            return Err(self.malformed("the name of a function is not a string"));
        };
        if module.len() + name.len() > MAX_PATH {
            return Err(limit("bytes in the name of a function", MAX_PATH));
        }
        let (module, name) = (module.to_string(), name.to_string());
        self.global(&module, &name)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<GlobalId, PickleError> {
        if module.len() + name.len() > MAX_PATH {
            return Err(limit("bytes in the name of a function", MAX_PATH));
        }
        let names = format!("{module}\n{name}");
        if let Some(id) = self.global_ids.get(&names) {
            return Ok(*id);
        }
        let path = format!("{module}.{name}");
        let meaning = meaning(module, name).map_err(|refused| match refused {
            Refused::Dangerous => PickleError::Dangerous { function: shown(&path) },
            Refused::NestedFile => PickleError::NestedFile,
        })?;
        if self.objects.globals.len() >= MAX_GLOBALS {
            return Err(limit("functions and classes", MAX_GLOBALS));
        }
        let id = GlobalId(self.objects.globals.len() as u32);
        self.objects.globals.push(Global { path, meaning });
        self.global_ids.insert(names, id);
        Ok(id)
    }

    fn call(&mut self, function: ObjectId, arguments: ObjectId) -> Result<(), PickleError> {
        match self.result(function, arguments)? {
            Made::New(object) => self.push(object),
            Made::Same(id) => self.push_id(id),
        }
    }

    fn result(&mut self, function: ObjectId, arguments: ObjectId) -> Result<Made, PickleError> {
        let global = match self.objects.get(function) {
            Object::Global(global) => *global,
            Object::Opaque { made_by, .. } => return self.opaque(*made_by, arguments).map(Made::New),
            _ => return Err(self.malformed("it calls something that is not a function")),
        };
        let Object::Tuple(items) = self.objects.get(arguments) else {
            return Err(self.malformed("the arguments of a call are not a tuple"));
        };
        match self.objects.global(global).meaning {
            meaning @ (Meaning::RebuildTensor | Meaning::RebuildTensorV3) => {
                let items = items[..items.len().min(8)].to_vec();
                self.tensor(global, &items, meaning == Meaning::RebuildTensorV3).map(Made::New)
            }
            Meaning::RebuildParameter => {
                let tensor = items.first().ok_or_else(|| self.malformed("a parameter without a tensor"))?;
                Ok(Made::Same(*tensor))
            }
            Meaning::RebuildFromType => match items[..] {
                [function, class, arguments, ..] => self.typed(function, class, arguments),
                _ => Err(self.malformed("too few arguments to make a tensor")),
            },
            Meaning::Dictionary => self.dictionary(global, arguments).map(Made::New),
            Meaning::Tuple if self.arrays == Arrays::Read => match self.paddle_tensor(items) {
                Some(tensor) => Ok(Made::Same(tensor)),
                None => self.opaque(global, arguments).map(Made::New),
            },
            Meaning::NumpyArray | Meaning::NumpyDtype | Meaning::Encode if self.arrays == Arrays::Read => {
                let items = items[..items.len().min(3)].to_vec();
                match self.of_numpy(global, &items) {
                    Some(object) => Ok(Made::New(object)),
                    None => self.opaque(global, arguments).map(Made::New),
                }
            }
            _ => self.opaque(global, arguments).map(Made::New),
        }
    }

    fn new_object(&mut self, class: ObjectId, arguments: ObjectId) -> Result<(), PickleError> {
        let object = match self.objects.get(class) {
            Object::Global(global) => {
                let global = *global;
                match self.objects.global(global).meaning {
                    Meaning::Dictionary => self.dictionary(global, arguments)?,
                    _ => self.opaque(global, arguments)?,
                }
            }
            Object::Opaque { made_by, .. } => {
                let made_by = *made_by;
                self.opaque(made_by, arguments)?
            }
            _ => return Err(self.malformed("it makes an object of something that is not a class")),
        };
        self.push(object)
    }

    /// A placeholder for what `made_by` would have made.
    fn opaque(&mut self, made_by: GlobalId, arguments: ObjectId) -> Result<Object, PickleError> {
        let items = self.objects.items(arguments).map_or(0, <[ObjectId]>::len);
        self.charge(items)?;
        let from_tensor = self.objects.items(arguments).is_some_and(|items| items.iter().any(|id| self.is_tensor(*id)));
        let of_tensor = from_tensor || (self.arrays == Arrays::Read && self.objects.global(made_by).is_of_numpy());
        Ok(Object::Opaque { made_by, state: None, of_tensor })
    }

    fn is_tensor(&self, id: ObjectId) -> bool {
        matches!(self.objects.get(id), Object::Tensor(_) | Object::Storage(_) | Object::Opaque { of_tensor: true, .. })
    }

    /// `OrderedDict()`, `OrderedDict([(key, value), …])`, `defaultdict(function)`.
    fn dictionary(&mut self, global: GlobalId, arguments: ObjectId) -> Result<Object, PickleError> {
        let first = self.objects.items(arguments).and_then(|items| items.first().copied());
        let Some(first) = first else { return Ok(Object::Dict(Vec::new())) };
        let length = match self.objects.get(first) {
            Object::List(items) => items.len(),
            Object::Dict(pairs) => pairs.len(),
            Object::Global(_) | Object::None => return Ok(Object::Dict(Vec::new())),
            _ => return self.opaque(global, arguments),
        };
        self.charge(length)?;
        let pairs = match self.objects.get(first) {
            Object::Dict(pairs) => Some(pairs.clone()),
            Object::List(items) => items
                .iter()
                .map(|item| match self.objects.items(*item) {
                    Some([key, value]) => Some((*key, *value)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        pairs.map(Object::Dict).ok_or_else(|| self.malformed("a dictionary is made of items that are not pairs"))
    }

    /// `_rebuild_from_type_v2(function, class, arguments, state)`: a tensor with attributes.
    fn typed(&mut self, function: ObjectId, class: ObjectId, arguments: ObjectId) -> Result<Made, PickleError> {
        let (Object::Global(function_name), Object::Global(class)) =
            (self.objects.get(function), self.objects.get(class))
        else {
            return Err(self.malformed("a tensor has a type that is not a class"));
        };
        let (function_name, class) = (*function_name, *class);
        let known = matches!(
            self.objects.global(function_name).meaning,
            Meaning::RebuildTensor | Meaning::RebuildTensorV3 | Meaning::RebuildParameter
        );
        let made_by = match self.objects.global(class).meaning {
            Meaning::TensorClass if known => return self.result(function, arguments),
            Meaning::TensorClass => function_name,
            _ => class,
        };
        Ok(Made::New(Object::Opaque { made_by, state: None, of_tensor: true }))
    }

    /// A tensor out of `(storage, offset, shape, stride, requires gradient, hooks[, type][, flags])`.
    fn tensor(&mut self, global: GlobalId, items: &[ObjectId], has_type: bool) -> Result<Object, PickleError> {
        let [storage, offset, shape, stride, rest @ ..] = items else {
            return Err(self.malformed("too few arguments to make a tensor"));
        };
        // What another program would have made cannot be the ground of a tensor; who made it is named if it is needed.
        for id in [storage, offset, shape, stride] {
            if let Object::Opaque { made_by, .. } = self.objects.get(*id) {
                return Ok(Object::Opaque { made_by: *made_by, state: None, of_tensor: true });
            }
        }
        let Object::Storage(storage) = self.objects.get(*storage) else {
            return Err(self.malformed("a tensor without a storage"));
        };
        let storage = *storage;
        let element = if has_type {
            match rest.get(2).map(|id| self.objects.get(*id)) {
                Some(Object::Global(element)) => match self.objects.global(*element).meaning {
                    Meaning::ElementType(element) => element,
                    _ => return Ok(Object::Opaque { made_by: *element, state: None, of_tensor: true }),
                },
                _ => return Err(self.malformed("a tensor without a type")),
            }
        } else {
            self.objects.storages[storage as usize].element
        };
        // Flags say that the numbers stand for others: negated, or conjugated.
        let flags = rest.get(if has_type { 3 } else { 2 }).map(|id| self.objects.get(*id));
        let is_plain = match flags {
            None | Some(Object::None) => true,
            Some(Object::Dict(flags)) => flags.is_empty(),
            Some(_) => false,
        };
        if !is_plain {
            return Ok(Object::Opaque { made_by: global, state: None, of_tensor: true });
        }
        let offset = self.objects.int(*offset).ok_or_else(|| self.malformed("an offset is not an integer"))?;
        let shape = self.integers(*shape)?;
        let stride = self.integers(*stride)?;
        self.charge(TENSOR_CHARGE)?;
        let id = self.objects.tensors.len() as u32;
        self.objects.tensors.push(TensorView { storage, element, offset, shape, stride });
        Ok(Object::Tensor(id))
    }

    fn integers(&self, id: ObjectId) -> Result<Vec<i64>, PickleError> {
        let items = self.objects.items(id).ok_or_else(|| self.malformed("a shape is not a tuple"))?;
        if items.len() > MAX_RANK {
            return Err(limit("dimensions of a tensor", MAX_RANK));
        }
        let integers = items.iter().map(|item| self.objects.int(*item)).collect::<Option<_>>();
        integers.ok_or_else(|| self.malformed("a shape has sizes that are not integers"))
    }

    fn set_state(&mut self, state: ObjectId) -> Result<(), PickleError> {
        let top = self.top()?;
        if self.arrays == Arrays::Read
            && let Some(filled) = self.filled_by_numpy(top, state)?
        {
            self.objects.objects[top.0 as usize] = filled;
            return Ok(());
        }
        match &mut self.objects.objects[top.0 as usize] {
            Object::Opaque { state: kept, .. } => *kept = Some(state),
            // The attributes of a dictionary, such as `_metadata` of a state dict.
            Object::Dict(_) => {}
            // It could point the tensor at another storage.
            Object::Tensor(_) => {
                let made_by = match self.arrays {
                    Arrays::Read => self.global("numpy", "ndarray.__setstate__")?,
                    Arrays::Leave => self.global("torch", "Tensor.__setstate__")?,
                };
                self.objects.objects[top.0 as usize] = Object::Opaque { made_by, state: Some(state), of_tensor: true };
            }
            _ => return Err(self.malformed("state is set on something that is not an object")),
        }
        Ok(())
    }

    /// `('storage', class, key, place, number of elements[, part])`, or `('module', class, file, source)` of old files.
    fn persistent(&mut self, id: ObjectId) -> Result<(), PickleError> {
        let Some(&[tag, class, key, ref rest @ ..]) = self.objects.items(id) else {
            return Err(self.malformed("a reference that is not to a storage"));
        };
        match self.objects.text(tag) {
            Some("storage") => {}
            Some("module") => return self.push_id(class),
            _ => return Err(self.malformed("a reference that is not to a storage")),
        }
        let element: &'static Element = match self.objects.get(class) {
            Object::Global(class) => match self.objects.global(*class).meaning {
                Meaning::StorageClass(element) => element,
                _ => {
                    let opaque = Object::Opaque { made_by: *class, state: None, of_tensor: true };
                    return self.push(opaque);
                }
            },
            _ => return Err(self.malformed("a storage without a class")),
        };
        let key = self.objects.text(key).ok_or_else(|| self.malformed("a storage without a name"))?;
        if key.len() > MAX_KEY {
            return Err(limit("bytes in the name of a storage", MAX_KEY));
        }
        let size = |id: Option<&ObjectId>| {
            let value = id.and_then(|id| self.objects.int(*id)).and_then(|value| u64::try_from(value).ok());
            value.ok_or_else(|| self.malformed("a storage without a size"))
        };
        let num_elements = size(rest.get(1))?;
        let part = match rest.get(2).map(|part| (self.objects.get(*part), self.objects.items(*part))) {
            None | Some((Object::None, _)) => None,
            Some((_, Some([_, first, length]))) => Some((size(Some(first))?, size(Some(length))?)),
            Some(_) => return Err(self.malformed("a part of a storage without a place")),
        };
        let storage = Storage { key: key.to_string(), element, num_elements, part };
        self.charge(TENSOR_CHARGE)?;
        let id = self.objects.storages.len() as u32;
        self.objects.storages.push(storage);
        self.push(Object::Storage(id))
    }
}

fn limit(what: &'static str, limit: usize) -> PickleError {
    PickleError::Limit { what, limit: limit as u64 }
}

/// The text of a line of protocol 0: `\uXXXX` in both kinds, the other escapes of Python in strings of Python 2 only.
fn unescape(line: &[u8], unicode: bool) -> Box<str> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            match (unicode, first) {
                (true, 0x80..) => bytes.extend_from_slice(char::from(*first).encode_utf8(&mut [0; 4]).as_bytes()),
                _ => bytes.push(*first),
            }
            continue;
        }
        let digits = |count: usize| {
            let digits = std::str::from_utf8(after.get(1..=count)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (replacement, length) = match (unicode, after.first()) {
            (true, Some(b'u')) => (digits(4).and_then(char::from_u32), 5),
            (true, Some(b'U')) => (digits(8).and_then(char::from_u32), 9),
            (false, Some(b'x')) => (digits(2).and_then(char::from_u32), 3),
            (false, Some(b'n')) => (Some('\n'), 1),
            (false, Some(b't')) => (Some('\t'), 1),
            (false, Some(b'r')) => (Some('\r'), 1),
            (false, Some(quoted @ (b'\\' | b'\'' | b'"'))) => (Some(char::from(*quoted)), 1),
            _ => (None, 0),
        };
        match replacement {
            Some(character) => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[length..];
            }
            None => bytes.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(program: &[u8]) -> Result<String, PickleError> {
        load(program, 0, Arrays::Leave).map(|pickle| format!("{:?}", pickle.objects.get(pickle.root)))
    }

    #[test]
    fn integers_of_every_width_are_read() {
        for (program, value) in [
            (&b"K\xff."[..], 255),
            (b"M\xff\xff.", 65535),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8b\x08\0\0\0\0\0\0\0\0\0\0\x80.", i64::MIN),
            (b"I-12\n.", -12),
            (b"L7L\n.", 7),
        ] {
            assert_eq!(root(program).expect("an integer"), format!("Int({value})"));
        }
        assert_eq!(root(b"I01\n.").expect("a truth value"), "Bool(true)");
        assert!(root(b"I99999999999999999999\n.").is_err());
    }

    #[test]
    fn text_of_every_kind_is_read() {
        for program in [
            &b"X\x02\0\0\0\xc3\xa4."[..],
            b"\x8c\x02\xc3\xa4.",
            b"\x8d\x02\0\0\0\0\0\0\0\xc3\xa4.",
            b"U\x02\xc3\xa4.",
            b"T\x02\0\0\0\xc3\xa4.",
            b"V\\u00e4\n.",
            b"V\xe4\n.",
            b"S'\\xe4'\n.",
        ] {
            assert_eq!(root(program).expect("text"), "Text(\"\u{e4}\")", "{program:?}");
        }
        assert_eq!(root(b"S'a\\\\n\\n\\q'\n.").expect("text"), r#"Text("a\\n\n\\q")"#);
        assert!(root(b"Sa\n.").is_err());
    }

    #[test]
    fn what_is_remembered_is_recalled() {
        assert_eq!(root(b"K\x05q\x070Nr\0\0\x01\x000h\x07.").expect("an integer"), "Int(5)");
        assert_eq!(root(b"K\x05\x940K\x06\x940h\x01.").expect("an integer"), "Int(6)");
        assert_eq!(root(b"K\x05p3\n0g3\n.").expect("an integer"), "Int(5)");
    }

    #[test]
    fn the_end_of_the_pickle_is_known() {
        assert_eq!(load(b"xxN.yy", 2, Arrays::Leave).expect("a pickle").end, 4);
    }

    #[test]
    fn the_stack_below_a_mark_is_out_of_reach() {
        for program in [&b"N(\x85."[..], b"NN(R.", b"](Na.", b"N(.", b"N(2."] {
            assert!(matches!(root(program), Err(PickleError::Malformed { .. })), "{program:?}");
        }
        assert_eq!(root(b"N(KK1.").expect("None"), "None");
        assert_eq!(root(b"N(0.").expect("None"), "None");
    }
}

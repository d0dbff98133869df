//! Arrays of NumPy in a pickle: what its functions and `BUILD` would make of the arguments that NumPy itself writes.
//!
//! An array is `_reconstruct(ndarray, (0,), b'b')`, filled by `BUILD` with shape, type and bytes. Protocols before 3 have no bytes and
//! write them as `encode(text, 'latin1')`, a character for each. Paddle writes an array of a dictionary inside of another as
//! `tuple((name, array))`.

use super::{Machine, PickleError, TENSOR_CHARGE};
use crate::element::Element;
use crate::global::Meaning;
use crate::object::{GlobalId, Object, ObjectId};
use crate::tensor::{Storage, TensorView};

impl Machine<'_> {
    /// What NumPy's functions make of arguments as NumPy writes them; other arguments make nothing.
    pub(super) fn of_numpy(&mut self, global: GlobalId, items: &[ObjectId]) -> Option<Object> {
        match (self.objects.global(global).meaning, items) {
            // The shape and type that come with it are replaced before anybody sees them.
            (Meaning::NumpyArray, [class, _, _]) => match self.objects.get(*class) {
                Object::Global(class) if self.objects.global(*class).meaning == Meaning::NumpyArrayClass => {
                    Some(Object::Opaque { made_by: global, state: None, of_tensor: true })
                }
                Object::Global(class) => Some(Object::Opaque { made_by: *class, state: None, of_tensor: true }),
                _ => None,
            },
            (Meaning::NumpyDtype, [name, ..]) => {
                let element = Element::of_numpy(self.objects.text(*name)?)?;
                Some(Object::Dtype { made_by: global, element })
            }
            (Meaning::Encode, [text, encoding]) if self.objects.text(*encoding)? == "latin1" => {
                let found = self.objects.text(*text)?;
                let length = *self.latin1.entry(*text).or_insert_with(|| {
                    found.chars().try_fold(0, |length, character| (character <= '\u{ff}').then_some(length + 1))
                });
                Some(Object::Latin1 { text: *text, length: length? })
            }
            _ => None,
        }
    }

    /// The tensor of `tuple((name, tensor))`.
    pub(super) fn paddle_tensor(&self, items: &[ObjectId]) -> Option<ObjectId> {
        let [pair] = items else { return None };
        let [name, tensor] = self.objects.items(*pair)? else { return None };
        self.objects.text(*name)?;
        matches!(self.objects.get(*tensor), Object::Tensor(_)).then_some(*tensor)
    }

    /// What `BUILD` makes of an array or a type; `None` if the object is neither.
    pub(super) fn filled_by_numpy(&mut self, id: ObjectId, state: ObjectId) -> Result<Option<Object>, PickleError> {
        match self.objects.get(id) {
            Object::Dtype { made_by, element } => Ok(Some(self.dtype(*made_by, element, state))),
            Object::Opaque { made_by, state: None, .. } => {
                let made_by = *made_by;
                let is_array = self.objects.global(made_by).meaning == Meaning::NumpyArray;
                if is_array { self.numpy_array(made_by, state).map(Some) } else { Ok(None) }
            }
            _ => Ok(None),
        }
    }

    /// A type with the state `(version, byte order, subtype, names, fields, …)`: itself if the order is the usual one and the rest
    /// is empty.
    fn dtype(&self, made_by: GlobalId, element: &'static Element, state: ObjectId) -> Object {
        let is_none = |id: &ObjectId| matches!(self.objects.get(*id), Object::None);
        match self.objects.items(state) {
            Some([_, order, subtype, names, fields, ..])
                if matches!(self.objects.text(*order), Some("<" | "|"))
                    && [subtype, names, fields].into_iter().all(is_none) =>
            {
                Object::Dtype { made_by, element }
            }
            _ => Object::Opaque { made_by, state: Some(state), of_tensor: true },
        }
    }

    /// A tensor out of the state of an array, `(1, shape, type, whether the first index runs fastest, bytes)`. Where a part of it is
    /// what another program would have made, so is the tensor.
    fn numpy_array(&mut self, made_by: GlobalId, state: ObjectId) -> Result<Object, PickleError> {
        let Some(&[_, shape, dtype, is_fortran, data]) = self.objects.items(state) else {
            return Err(self.malformed("an array whose state is not that of NumPy"));
        };
        for id in [dtype, data] {
            if let Object::Opaque { made_by, .. } = self.objects.get(id) {
                return Ok(Object::Opaque { made_by: *made_by, state: None, of_tensor: true });
            }
        }
        let Object::Dtype { element, .. } = self.objects.get(dtype) else {
            return Err(self.malformed("an array without a type"));
        };
        let element = *element;
        let (data, length) = match self.objects.get(data) {
            Object::Bytes(range) => (data, range.len()),
            Object::Latin1 { text, length } => (*text, *length),
            // The elements of an array of objects.
            Object::List(_) => return Ok(Object::Opaque { made_by, state: None, of_tensor: true }),
            _ => return Err(self.malformed("an array without bytes")),
        };
        let is_fortran = self.objects.int(is_fortran).ok_or_else(|| self.malformed("an array without an order"))? != 0;
        let shape = self.integers(shape)?;
        let bytes = shape.iter().try_fold(element.bytes, |bytes, side| bytes.checked_mul(usize::try_from(*side).ok()?));
        if bytes != Some(length) {
            return Err(self.malformed("an array with more or fewer bytes than its shape has"));
        }
        let mut stride = vec![1i64; shape.len()];
        let mut step = 1i64;
        let mut place = |axis: usize| {
            stride[axis] = step;
            // Of an array with no numbers, whose other sides may be of any length, no stride is used.
            step = step.saturating_mul(shape[axis].max(1));
        };
        if is_fortran {
            (0..shape.len()).for_each(&mut place)
        } else {
            (0..shape.len()).rev().for_each(&mut place)
        }
        self.charge(2 * TENSOR_CHARGE)?;
        let storage = self.objects.storages.len() as u32;
        let num_elements = (length / element.bytes) as u64;
        self.objects.storages.push(Storage { key: data.0.to_string(), element, num_elements, part: None });
        let id = self.objects.tensors.len() as u32;
        self.objects.tensors.push(TensorView { storage, element, offset: 0, shape, stride });
        Ok(Object::Tensor(id))
    }
}

#[cfg(test)]
mod tests {
    use crate::pickle::{Arrays, load};

    /// `{"a": array}` of one float32 with what is given for its type's state, its order and its bytes.
    fn array(dtype_state: &[u8], is_fortran: &[u8], data: &[u8]) -> String {
        let parts: [&[u8]; 9] = [
            b"\x80\x02}X\x01\0\0\0acnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR(K\x01(K\x01t",
            b"cnumpy\ndtype\n(X\x02\0\0\0f4\x89\x88tR",
            dtype_state,
            is_fortran,
            data,
            b"t",
            b"b",
            b"s",
            b".",
        ];
        match load(&parts.concat(), 0, Arrays::Read) {
            Ok(pickle) => format!("{:?}", pickle.objects.objects),
            Err(error) => error.to_string(),
        }
    }

    const LITTLE: &[u8] = b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb";

    #[test]
    fn an_array_is_a_tensor_and_one_of_the_other_byte_order_is_not() {
        assert!(array(LITTLE, b"\x89", b"C\x04\0\0\x80?").contains("Tensor(0)"));
        let big = LITTLE.iter().map(|byte| if *byte == b'<' { b'>' } else { *byte }).collect::<Vec<_>>();
        let found = array(&big, b"\x89", b"C\x04?\x80\0\0");
        assert!(!found.contains("Tensor(") && found.contains("of_tensor: true"), "{found}");
    }

    #[test]
    fn an_array_has_as_many_bytes_as_its_shape() {
        for data in [&b"C\x03\0\0\x80"[..], b"C\x05\0\0\x80??", b"C\0"] {
            let found = array(LITTLE, b"\x89", data);
            assert!(found.contains("more or fewer bytes than its shape has"), "{found}");
        }
        assert!(array(LITTLE, b"N", b"C\x04\0\0\x80?").contains("an array without an order"));
        assert!(array(LITTLE, b"\x89", b"K\x01").contains("an array without bytes"));
    }

    #[test]
    fn bytes_that_are_written_as_text_are_bytes_if_every_character_is_one() {
        let encoded = |text: &str| {
            let length = u32::try_from(text.len()).expect("a short text").to_le_bytes();
            [&b"c_codecs\nencode\n(X"[..], &length, text.as_bytes(), b"X\x06\0\0\0latin1tR"].concat()
        };
        assert!(array(LITTLE, b"\x89", &encoded("\0\0\u{80}?")).contains("Tensor(0)"));
        let found = array(LITTLE, b"\x89", &encoded("\0\0\u{100}?"));
        assert!(!found.contains("Tensor("), "{found}");
    }
}

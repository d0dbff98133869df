//! Tensors as PyTorch saves them, a shape and strides on a range of a storage, and how they become rows of numbers.

use crate::Values;
use crate::element::{ByteOrder, Element, Kind};
use crate::shown::shown;

/// Dimensions that a tensor may have.
pub(crate) const MAX_RANK: usize = 16;

/// Numbers that all tensors together may have. The largest network here has 17 million; strides of zero can make any number
/// of them out of one byte.
pub(crate) const MAX_NUMBERS: u64 = 40_000_000;

/// Bytes of the file that tensors refer to.
#[derive(Debug)]
pub(crate) struct Storage {
    /// Its name in the file.
    pub(crate) key: String,
    /// Type that its elements were saved with.
    pub(crate) element: &'static Element,
    /// Elements that it says it has.
    pub(crate) num_elements: u64,
    /// First element and number of elements, where it is a part of the storage of that name.
    pub(crate) part: Option<(u64, u64)>,
}

/// A tensor before its numbers are read. The integers are as found, checked only in use.
#[derive(Debug)]
pub(crate) struct TensorView {
    /// Number of its storage.
    pub(crate) storage: u32,
    /// Type of its numbers.
    pub(crate) element: &'static Element,
    /// First element.
    pub(crate) offset: i64,
    /// Length of every dimension.
    pub(crate) shape: Vec<i64>,
    /// Elements between neighbours, for every dimension.
    pub(crate) stride: Vec<i64>,
}

/// Why a tensor cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// A type that no network here has.
    #[error("its type is `{name}`, which is not read\n\nhint: convert it in Python with `.float()` and save it again")]
    Type {
        /// The type in PyTorch.
        name: String,
    },
    /// A negative length, stride or offset.
    #[error("its {what} is {value}; the file is damaged or was made to do harm")]
    Negative {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// Shape and strides do not belong together.
    #[error("it has {shape} dimensions and {stride} strides; the file is damaged")]
    Rank {
        /// Number of dimensions.
        shape: usize,
        /// Number of strides.
        stride: usize,
    },
    /// More dimensions than any network has.
    #[error("it has {count} dimensions, and up to {MAX_RANK} are read")]
    Dimensions {
        /// How many.
        count: usize,
    },
    /// More numbers than can be counted.
    #[error("its shape {shape:?} has more numbers than can be counted; the file is damaged or was made to do harm")]
    Overflow {
        /// The shape.
        shape: Vec<i64>,
    },
    /// More numbers than any network here has.
    #[error("with it the file has more than {MAX_NUMBERS} numbers, more than any network here holds")]
    TooLarge,
    /// It reaches beyond its storage.
    #[error("it needs {needed} elements of storage {storage}, which has {present}; the file is damaged or cut short")]
    OutOfBounds {
        /// The storage, in backticks.
        storage: String,
        /// Elements up to its last one.
        needed: u64,
        /// Elements that there are.
        present: u64,
    },
    /// The storage is not in the file.
    #[error("storage {storage} is not in the file")]
    NoStorage {
        /// The storage, in backticks.
        storage: String,
    },
    /// The storage is shorter than the pickle says.
    #[error("storage {storage} should have {expected} bytes and has {present}; the file is damaged or cut short")]
    ShortStorage {
        /// The storage, in backticks.
        storage: String,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        present: u64,
    },
}

/// Where the numbers of a tensor lie.
struct Layout {
    shape: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
    numbers: usize,
    /// Elements up to the last one that is read.
    needed: u64,
}

impl Storage {
    /// The bytes of the part, given those of the whole storage.
    pub(crate) fn part_of<'b>(&self, whole: &'b [u8]) -> Result<&'b [u8], TensorError> {
        let size = self.element.bytes as u64;
        let short =
            |expected| TensorError::ShortStorage { storage: shown(&self.key), expected, present: whole.len() as u64 };
        let expected = self.num_elements.checked_mul(size).ok_or_else(|| short(u64::MAX))?;
        if expected > whole.len() as u64 {
            return Err(short(expected));
        }
        let whole = &whole[..expected as usize];
        let Some((first, length)) = self.part else { return Ok(whole) };
        let end = first.checked_add(length).and_then(|end| end.checked_mul(size)).unwrap_or(u64::MAX);
        if end > expected {
            return Err(short(end));
        }
        Ok(&whole[(first * size) as usize..end as usize])
    }
}

impl TensorView {
    /// How many numbers it has.
    pub(crate) fn numbers(&self) -> Result<u64, TensorError> {
        Ok(self.layout()?.numbers as u64)
    }

    fn layout(&self) -> Result<Layout, TensorError> {
        if self.shape.len() != self.stride.len() {
            return Err(TensorError::Rank { shape: self.shape.len(), stride: self.stride.len() });
        }
        let whole = |what, value: i64| usize::try_from(value).map_err(|_| TensorError::Negative { what, value });
        let overflow = || TensorError::Overflow { shape: self.shape.clone() };
        let offset = whole("offset", self.offset)?;
        let mut shape = Vec::with_capacity(self.shape.len());
        let mut stride = Vec::with_capacity(self.shape.len());
        // Of the lengths without zeros, so that whoever multiplies them in another order is safe as well.
        let mut product = 1usize;
        let mut last = offset;
        for (&length, &step) in self.shape.iter().zip(&self.stride) {
            let length = whole("length of a dimension", length)?;
            let step = whole("stride", step)?;
            product = product.checked_mul(length.max(1)).ok_or_else(overflow)?;
            let reach = length.saturating_sub(1).checked_mul(step).ok_or_else(overflow)?;
            last = last.checked_add(reach).ok_or_else(overflow)?;
            shape.push(length);
            stride.push(step);
        }
        let empty = shape.contains(&0);
        let needed = if empty { 0 } else { (last as u64).checked_add(1).ok_or_else(overflow)? };
        Ok(Layout { shape, stride, offset, numbers: if empty { 0 } else { product }, needed })
    }

    /// Its shape and its numbers in row-major order, out of the bytes of its storage.
    pub(crate) fn read(
        &self,
        storage: &Storage,
        bytes: &[u8],
        order: ByteOrder,
    ) -> Result<(Vec<usize>, Values), TensorError> {
        let unread = || TensorError::Type { name: format!("torch.{}", self.element.name) };
        if self.element.kind == Kind::Unread {
            return Err(unread());
        }
        let Layout { shape, stride, offset, numbers, needed } = self.layout()?;
        let size = self.element.bytes;
        let present = (bytes.len() / size) as u64;
        if needed > present {
            return Err(TensorError::OutOfBounds { storage: shown(&storage.key), needed, present });
        }
        if numbers == 0 {
            return Ok((shape, self.element.numbers(&[], order).ok_or_else(unread)?));
        }
        // From here on no sum or product can overflow: all of them are positions inside of `bytes`.
        let values = if is_row_major(&shape, &stride) {
            self.element.numbers(&bytes[offset * size..(offset + numbers) * size], order)
        } else {
            let mut gathered = Vec::with_capacity(numbers * size);
            let mut index = vec![0usize; shape.len()];
            let mut position = offset;
            for _ in 0..numbers {
                gathered.extend_from_slice(&bytes[position * size..(position + 1) * size]);
                for dimension in (0..shape.len()).rev() {
                    index[dimension] += 1;
                    position += stride[dimension];
                    if index[dimension] < shape[dimension] {
                        break;
                    }
                    position -= stride[dimension] * shape[dimension];
                    index[dimension] = 0;
                }
            }
            self.element.numbers(&gathered, order)
        };
        Ok((shape, values.ok_or_else(unread)?))
    }
}

/// Whether the numbers follow each other without gaps. The stride of a dimension of length one says nothing.
fn is_row_major(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1;
    for (&length, &step) in shape.iter().zip(stride).rev() {
        if length != 1 && step != expected {
            return false;
        }
        expected *= length;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: i64, shape: &[i64], stride: &[i64]) -> TensorView {
        let element = Element::named("float32").expect("it is in the table");
        TensorView { storage: 0, element, offset, shape: shape.to_vec(), stride: stride.to_vec() }
    }

    fn read(view: &TensorView, length: u16) -> Result<(Vec<usize>, Vec<f32>), TensorError> {
        let bytes: Vec<u8> = (0..length).flat_map(|value| f32::from(value).to_le_bytes()).collect();
        let storage =
            Storage { key: "0".to_string(), element: view.element, num_elements: u64::from(length), part: None };
        match view.read(&storage, &bytes, ByteOrder::Little)? {
            (shape, Values::F32(values)) => Ok((shape, values)),
            (_, other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_transposed_view_is_read_in_its_own_order() {
        let (shape, values) = read(&view(0, &[3, 2], &[1, 3]), 6).expect("it fits");
        assert_eq!((shape, values), (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    }

    #[test]
    fn a_slice_starts_at_its_offset() {
        assert_eq!(read(&view(2, &[2, 2], &[3, 1]), 7).expect("it fits").1, [2.0, 3.0, 5.0, 6.0]);
    }

    #[test]
    fn a_number_without_dimensions_is_one_number() {
        assert_eq!(read(&view(3, &[], &[]), 4).expect("it fits"), (vec![], vec![3.0]));
    }

    #[test]
    fn an_expanded_view_repeats_its_numbers() {
        assert_eq!(read(&view(0, &[2, 3], &[0, 1]), 3).expect("it fits").1, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn strides_of_dimensions_of_one_say_nothing() {
        assert_eq!(read(&view(0, &[1, 3, 1], &[77, 1, 9]), 3).expect("it fits").1, [0.0, 1.0, 2.0]);
    }

    #[test]
    fn nothing_needs_no_storage() {
        assert_eq!(read(&view(50, &[0, 3], &[3, 1]), 2).expect("it is empty"), (vec![0, 3], vec![]));
    }

    #[test]
    fn what_reaches_beyond_the_storage_is_refused() {
        for outside in [
            view(1, &[4], &[1]),
            view(0, &[2, 2], &[3, 1]),
            view(4, &[], &[]),
            view(i64::MAX, &[1], &[1]),
            view(0, &[2], &[i64::MAX]),
        ] {
            assert!(matches!(read(&outside, 4), Err(TensorError::OutOfBounds { .. })), "{outside:?}");
        }
    }

    #[test]
    fn negative_and_uncountable_views_are_refused() {
        assert!(matches!(read(&view(-1, &[1], &[1]), 4), Err(TensorError::Negative { what: "offset", .. })));
        assert!(matches!(read(&view(0, &[-1], &[1]), 4), Err(TensorError::Negative { .. })));
        assert!(matches!(read(&view(3, &[2], &[-1]), 4), Err(TensorError::Negative { what: "stride", .. })));
        assert!(matches!(read(&view(0, &[1 << 40, 1 << 40], &[0, 0]), 4), Err(TensorError::Overflow { .. })));
        assert!(matches!(read(&view(0, &[1 << 40, 1 << 40, 0], &[0, 0, 0]), 4), Err(TensorError::Overflow { .. })));
        assert!(matches!(read(&view(0, &[3, 3], &[i64::MAX, i64::MAX]), 4), Err(TensorError::Overflow { .. })));
        assert!(matches!(read(&view(0, &[3], &[]), 4), Err(TensorError::Rank { .. })));
    }

    #[test]
    fn a_part_of_a_storage_is_bounded_by_it() {
        let element = Element::named("int16").expect("it is in the table");
        let storage = |num_elements, part| Storage { key: "7".to_string(), element, num_elements, part };
        let whole = [1u8, 2, 3, 4, 5, 6];
        assert_eq!(storage(3, Some((1, 2))).part_of(&whole).expect("it fits"), [3, 4, 5, 6]);
        assert_eq!(storage(2, None).part_of(&whole).expect("it fits"), [1, 2, 3, 4]);
        for (num_elements, part) in [(4, None), (u64::MAX, None), (3, Some((2, 2))), (3, Some((u64::MAX, 2)))] {
            assert!(storage(num_elements, part).part_of(&whole).is_err());
        }
    }
}

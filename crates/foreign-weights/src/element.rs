//! Element types of tensors, under their names in PyTorch, and how their bytes become numbers.

use crate::Values;

/// How an element is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    Bool,
    /// Known, so that its bytes can be stepped over, but not read: no network here has it.
    Unread,
}

/// One row of the table of types.
#[derive(Debug, PartialEq)]
pub(crate) struct Element {
    /// `torch.NAME`.
    pub(crate) name: &'static str,
    /// Name of its typed storage; types of later versions have none.
    pub(crate) storage: Option<&'static str>,
    /// Bytes that one takes.
    pub(crate) bytes: usize,
    /// How it is read.
    pub(crate) kind: Kind,
}

const fn row(name: &'static str, storage: Option<&'static str>, bytes: usize, kind: Kind) -> Element {
    Element { name, storage, bytes, kind }
}

/// Bytes without a type, which each tensor on them brings.
pub(crate) const UNTYPED: &Element = &row("uint8", Some("UntypedStorage"), 1, Kind::U8);

const ELEMENTS: &[Element] = &[
    row("float32", Some("FloatStorage"), 4, Kind::F32),
    row("int64", Some("LongStorage"), 8, Kind::I64),
    row("float16", Some("HalfStorage"), 2, Kind::F16),
    row("bfloat16", Some("BFloat16Storage"), 2, Kind::Bf16),
    row("float64", Some("DoubleStorage"), 8, Kind::F64),
    row("int32", Some("IntStorage"), 4, Kind::I32),
    row("int16", Some("ShortStorage"), 2, Kind::I16),
    row("int8", Some("CharStorage"), 1, Kind::I8),
    row("uint8", Some("ByteStorage"), 1, Kind::U8),
    row("bool", Some("BoolStorage"), 1, Kind::Bool),
    row("uint16", None, 2, Kind::U16),
    row("uint32", None, 4, Kind::U32),
    row("uint64", None, 8, Kind::Unread),
    row("complex64", Some("ComplexFloatStorage"), 8, Kind::Unread),
    row("complex128", Some("ComplexDoubleStorage"), 16, Kind::Unread),
    row("qint8", Some("QInt8Storage"), 1, Kind::Unread),
    row("quint8", Some("QUInt8Storage"), 1, Kind::Unread),
    row("qint32", Some("QInt32Storage"), 4, Kind::Unread),
    row("float8_e4m3fn", None, 1, Kind::Unread),
    row("float8_e5m2", None, 1, Kind::Unread),
    row("float8_e4m3fnuz", None, 1, Kind::Unread),
    row("float8_e5m2fnuz", None, 1, Kind::Unread),
];

/// Names of the types in NumPy, without their byte order.
const NUMPY: &[(&str, &str)] = &[
    ("f4", "float32"),
    ("f2", "float16"),
    ("f8", "float64"),
    ("i1", "int8"),
    ("i2", "int16"),
    ("i4", "int32"),
    ("i8", "int64"),
    ("u1", "uint8"),
    ("u2", "uint16"),
    ("u4", "uint32"),
    ("u8", "uint64"),
    ("b1", "bool"),
    ("c8", "complex64"),
    ("c16", "complex128"),
];

/// Order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl Element {
    /// The row of `torch.NAME`.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ELEMENTS.iter().find(|element| element.name == name)
    }

    /// The row of `numpy.dtype(NAME)`.
    pub(crate) fn of_numpy(name: &str) -> Option<&'static Self> {
        NUMPY.iter().find(|(numpy, _)| *numpy == name).and_then(|(_, name)| Self::named(name))
    }

    /// The row of a class such as `FloatStorage`.
    pub(crate) fn of_storage(class: &str) -> Option<&'static Self> {
        if class == "UntypedStorage" {
            return Some(UNTYPED);
        }
        ELEMENTS.iter().find(|element| element.storage == Some(class))
    }

    /// What the numbers become, if that is another type.
    pub(crate) fn converted(&self) -> Option<&'static str> {
        match self.kind {
            Kind::F32 | Kind::I64 | Kind::Unread => None,
            Kind::F16 | Kind::Bf16 | Kind::F64 => Some("float32"),
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::U8 | Kind::U16 | Kind::U32 | Kind::Bool => Some("int64"),
        }
    }

    /// The numbers of whole elements that follow each other; `None` if the type is not read.
    pub(crate) fn numbers(&self, bytes: &[u8], order: ByteOrder) -> Option<Values> {
        Some(match self.kind {
            Kind::F16 => Values::F32(convert(bytes, order, |bytes| half_to_single(u16::from_le_bytes(bytes)))),
            Kind::Bf16 => Values::F32(convert(bytes, order, |[low, high]| f32::from_le_bytes([0, 0, low, high]))),
            Kind::F32 => Values::F32(convert(bytes, order, f32::from_le_bytes)),
            Kind::F64 => Values::F32(convert(bytes, order, |bytes| f64::from_le_bytes(bytes) as f32)),
            Kind::I8 => Values::I64(convert(bytes, order, |bytes| i64::from(i8::from_le_bytes(bytes)))),
            Kind::I16 => Values::I64(convert(bytes, order, |bytes| i64::from(i16::from_le_bytes(bytes)))),
            Kind::I32 => Values::I64(convert(bytes, order, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            Kind::I64 => Values::I64(convert(bytes, order, i64::from_le_bytes)),
            Kind::U8 => Values::I64(convert(bytes, order, |[byte]| i64::from(byte))),
            Kind::U16 => Values::I64(convert(bytes, order, |bytes| i64::from(u16::from_le_bytes(bytes)))),
            Kind::U32 => Values::I64(convert(bytes, order, |bytes| i64::from(u32::from_le_bytes(bytes)))),
            Kind::Bool => Values::I64(convert(bytes, order, |[byte]| i64::from(byte != 0))),
            Kind::Unread => return None,
        })
    }
}

/// `number` takes the bytes of one number, the lowest first.
fn convert<const N: usize, T>(bytes: &[u8], order: ByteOrder, number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let whole = bytes.as_chunks::<N>().0.iter().copied();
    match order {
        ByteOrder::Little => whole.map(number).collect(),
        ByteOrder::Big => whole
            .map(|mut bytes| {
                bytes.reverse();
                number(bytes)
            })
            .collect(),
    }
}

/// Every float16 is exactly a float32.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // Zero and the numbers below the smallest normal one count in steps of 2^-24.
        0 => {
            let value = fraction as f32 * 2f32.powi(-24);
            if sign == 0 { value } else { -value }
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(name: &str, bytes: &[u8], order: ByteOrder) -> Vec<f32> {
        match Element::named(name).and_then(|element| element.numbers(bytes, order)) {
            Some(Values::F32(values)) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        let cases: [(u16, f32); 9] = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_single(bits), value, "{bits:#06x}");
        }
        assert!(half_to_single(0x7e00).is_nan());
        assert_eq!(half_to_single(0x8000).to_bits(), (-0f32).to_bits());
    }

    #[test]
    fn every_half_comes_back_from_its_single() {
        for bits in 0..=u16::MAX {
            let value = half_to_single(bits);
            let exponent = (bits >> 10) & 0x1f;
            if exponent != 0 && exponent != 0x1f {
                let magnitude = f64::from(1024 + (bits & 0x3ff)) * 2f64.powi(i32::from(exponent) - 25);
                let expected = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
                assert_eq!(f64::from(value), expected, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn the_types_of_numpy_have_the_sizes_in_their_names() {
        for (numpy, name) in NUMPY {
            let element = Element::of_numpy(numpy).expect(name);
            assert_eq!(element.bytes.to_string(), numpy[1..], "{numpy}");
        }
    }

    #[test]
    fn both_byte_orders_are_read() {
        assert_eq!(floats("float32", &[0, 0, 0x80, 0x3f], ByteOrder::Little), [1.0]);
        assert_eq!(floats("float32", &[0x3f, 0x80, 0, 0], ByteOrder::Big), [1.0]);
        assert_eq!(floats("bfloat16", &[0x80, 0x3f], ByteOrder::Little), [1.0]);
        assert_eq!(floats("float64", &1.5f64.to_be_bytes(), ByteOrder::Big), [1.5]);
    }

    #[test]
    fn whole_numbers_become_int64() {
        let numbers = |name: &str, bytes: &[u8]| Element::named(name)?.numbers(bytes, ByteOrder::Little);
        assert_eq!(numbers("int8", &[0xff]), Some(Values::I64(vec![-1])));
        assert_eq!(numbers("uint8", &[0xff]), Some(Values::I64(vec![255])));
        assert_eq!(numbers("bool", &[2, 0]), Some(Values::I64(vec![1, 0])));
        assert_eq!(numbers("uint32", &[0xff; 4]), Some(Values::I64(vec![i64::from(u32::MAX)])));
        assert_eq!(numbers("complex64", &[0; 8]), None);
    }
}

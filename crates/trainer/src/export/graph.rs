//! A graph of ONNX as it grows: nodes that make one value each, named after what makes it, and constants.

use super::proto;

/// Codes of `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
}

/// Codes of `AttributeProto.AttributeType`.
#[derive(Clone, Copy)]
enum Kind {
    Float = 1,
    Int = 2,
    String = 3,
    Ints = 7,
}

fn attribute(name: &str, kind: Kind) -> proto::Attribute {
    proto::Attribute { name: name.to_string(), kind: kind as i32, ..proto::Attribute::default() }
}

pub(super) fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { float: Some(value), ..attribute(name, Kind::Float) }
}

pub(super) fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { int: Some(value), ..attribute(name, Kind::Int) }
}

pub(super) fn ints(name: &str, values: &[i64]) -> proto::Attribute {
    proto::Attribute { ints: values.to_vec(), ..attribute(name, Kind::Ints) }
}

pub(super) fn string(name: &str, value: &str) -> proto::Attribute {
    proto::Attribute { string: Some(value.as_bytes().to_vec()), ..attribute(name, Kind::String) }
}

/// A node to add.
pub(super) struct NodeSpec<'a> {
    /// Of the node, and of the value that it makes.
    pub(super) name: &'a str,
    pub(super) operator: &'a str,
    pub(super) inputs: &'a [&'a str],
    pub(super) attributes: Vec<proto::Attribute>,
}

/// Nodes in the order in which they run.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<proto::Node>,
    pub(super) initializers: Vec<proto::Tensor>,
}

impl Graph {
    /// Adds a node and gives the name of its value.
    pub(super) fn node(&mut self, spec: NodeSpec<'_>) -> String {
        let NodeSpec { name, operator, inputs, attributes } = spec;
        self.nodes.push(proto::Node {
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: vec![name.to_string()],
            name: name.to_string(),
            operator: operator.to_string(),
            attributes,
        });
        name.to_string()
    }

    /// Adds a node without attributes.
    pub(super) fn plain(&mut self, name: &str, operator: &str, inputs: &[&str]) -> String {
        self.node(NodeSpec { name, operator, inputs, attributes: Vec::new() })
    }

    /// Adds a constant and gives its name.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.constant(name, dims, Element::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Adds a vector of whole numbers and gives its name.
    pub(super) fn whole(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, &[values.len()], Element::I64, raw)
    }

    /// Adds a constant of little-endian bytes and gives its name.
    pub(super) fn constant(&mut self, name: &str, dims: &[usize], element: Element, raw: Vec<u8>) -> String {
        let dims = dims.iter().map(|&side| side as i64).collect();
        self.initializers.push(proto::Tensor { dims, element: element as i32, name: name.to_string(), raw });
        name.to_string()
    }
}

/// A side of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Fixed(usize),
    Named(&'static str),
}

/// A value that goes into the graph or comes out of it.
pub(super) fn value(name: &str, element: Element, shape: &[Side]) -> proto::Value {
    let dims = shape
        .iter()
        .map(|side| match side {
            Side::Fixed(value) => proto::Dimension { value: Some(*value as i64), name: None },
            Side::Named(name) => proto::Dimension { value: None, name: Some(name.to_string()) },
        })
        .collect();
    let tensor = proto::TensorType { element: element as i32, shape: Some(proto::Shape { dims }) };
    proto::Value { name: name.to_string(), r#type: Some(proto::Type { tensor: Some(tensor) }) }
}

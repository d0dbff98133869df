//! Post-training static quantisation: a graph whose weights and maps are whole numbers of 8 bits.
//!
//! Maps are unsigned with one scale and one zero point each, weights are signed with a scale for each output channel and no zero point,
//! biases have 32 bits. In the graph this is written as pairs of `QuantizeLinear` and `DequantizeLinear` around operators of 32-bit floating-point
//! numbers, from which runtimes make their own 8-bit operators. Squeeze-and-excite computes in floating point, with weights that are
//! kept in 8 bits: it is a third of the weights and a hundredth of the work, and its gate multiplies every map. So does the attention of
//! GhostNetV2.

use std::collections::{HashMap, HashSet};

use super::graph::{Element, Graph, NodeSpec, int};
use super::network::{IMAGES, LOGITS};
use super::proto;

/// Bins that the values of a map are counted in, to choose its range.
const NUM_BINS: usize = 2048;

/// Largest whole number of a bias, 2^30: sums of products are added to it.
const LARGEST_BIAS: f32 = 1_073_741_824.0;

/// Ranges that are tried, as parts of the whole one: what lies outside is clipped so that the rest has finer steps.
const CLIPS: [f32; 12] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];

/// Lowest and highest value of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    low: f32,
    high: f32,
}

impl Range {
    /// With zero in it, for zero is exact then: borders are padded with it.
    const ZERO: Self = Self { low: 0.0, high: 0.0 };

    fn scaled(self, factor: f32) -> Self {
        Self { low: self.low * factor, high: self.high * factor }
    }

    /// Distance between two whole numbers, and which of them is zero.
    fn grid(self) -> (f32, u8) {
        let scale = (self.high - self.low) / 255.0;
        // A map of zeros; any scale will do.
        let scale = if scale > f32::MIN_POSITIVE { scale } else { 1.0 };
        (scale, (-self.low / scale).round().clamp(0.0, 255.0) as u8)
    }
}

/// What is seen of a map while images pass.
pub(super) struct Observed {
    range: Range,
    counts: Vec<u64>,
}

impl Observed {
    pub(super) fn new() -> Self {
        Self { range: Range::ZERO, counts: vec![0; NUM_BINS] }
    }

    /// First all values of all images are seen for their range …
    pub(super) fn widen(&mut self, values: &[f32]) {
        for value in values {
            self.range = Range { low: self.range.low.min(*value), high: self.range.high.max(*value) };
        }
    }

    /// … then all of them again, for how many lie where.
    pub(super) fn count(&mut self, values: &[f32]) {
        let Range { low, high } = self.range;
        let width = (high - low) / NUM_BINS as f32;
        if width > f32::MIN_POSITIVE {
            for value in values {
                self.counts[(((value - low) / width) as usize).min(NUM_BINS - 1)] += 1;
            }
        }
    }

    /// The range that gives the smallest squared error.
    pub(super) fn best_range(&self) -> Range {
        let Range { low, high } = self.range;
        let width = (high - low) / NUM_BINS as f32;
        let error = |range: Range| -> f64 {
            // Rounding to a step errs by a twelfth of its square.
            let step = f64::from(range.high - range.low) / 255.0;
            let inside = step * step / 12.0;
            let of_bin = |(bin, count): (usize, &u64)| {
                let value = low + (bin as f32 + 0.5) * width;
                let clipped = f64::from(value - value.clamp(range.low, range.high));
                *count as f64 * (inside + clipped * clipped)
            };
            self.counts.iter().enumerate().map(of_bin).sum()
        };
        CLIPS
            .map(|factor| self.range.scaled(factor))
            .into_iter()
            .min_by(|a, b| error(*a).total_cmp(&error(*b)))
            .unwrap_or(self.range)
    }
}

/// The maps that become whole numbers, in the order in which they are made.
pub(super) fn maps(graph: &proto::Graph) -> Vec<String> {
    let activated: HashSet<&str> = graph
        .nodes
        .iter()
        .filter(|node| node.operator == "Relu")
        .filter_map(|node| node.inputs.first().map(String::as_str))
        .collect();
    let is_map = |node: &proto::Node| {
        let ends = matches!(
            node.operator.as_str(),
            "Conv" | "Relu" | "Concat" | "Add" | "Mul" | "GlobalAveragePool" | "Flatten"
        );
        ends && !is_gate(node) && node.name != LOGITS && !activated.contains(node.name.as_str())
    };
    let first = graph.nodes.iter().position(|node| node.name == IMAGES).map_or(0, |at| at + 1);
    let made = graph.nodes[first..].iter().filter(|node| is_map(node)).map(|node| node.name.clone());
    std::iter::once(IMAGES.to_string()).chain(made).collect()
}

/// Whether a node is a part of squeeze-and-excite or of attention, up to its gate.
fn is_gate(node: &proto::Node) -> bool {
    node.name.contains(".se.") || node.name.contains(".short_conv.")
}

/// The graph in whole numbers, by the ranges of its maps; without `depthwise`, depthwise convolutions keep their weights.
pub(super) fn quantize(graph: &proto::Graph, ranges: &HashMap<String, Range>, depthwise: bool) -> proto::Graph {
    let constants = graph.initializers.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut quantizer = Quantizer { graph: Graph::default(), constants, replaced: HashSet::new(), ranges };
    let made_in_graph = graph.nodes.iter().any(|node| node.name == IMAGES);
    if !made_in_graph {
        quantizer.add_pair(IMAGES);
    }
    for node in &graph.nodes {
        quantizer.add(node, depthwise);
    }
    let mut initializers: Vec<proto::Tensor> =
        graph.initializers.iter().filter(|tensor| !quantizer.replaced.contains(&tensor.name)).cloned().collect();
    initializers.append(&mut quantizer.graph.initializers);
    proto::Graph { nodes: quantizer.graph.nodes, initializers, ..graph.clone() }
}

struct Quantizer<'a> {
    graph: Graph,
    constants: HashMap<&'a str, &'a proto::Tensor>,
    /// Constants that are whole numbers now, under other names.
    replaced: HashSet<String>,
    ranges: &'a HashMap<String, Range>,
}

fn dequantized(value: &str) -> String {
    format!("{value}.dequantized")
}

fn floats(tensor: &proto::Tensor) -> Vec<f32> {
    tensor.raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

impl Quantizer<'_> {
    /// The value under its name, and behind it the pair that the others read.
    fn add_pair(&mut self, value: &str) {
        let Some(range) = self.ranges.get(value) else { return };
        let (scale, zero) = range.grid();
        let scale = self.graph.floats(&format!("{value}.scale"), &[], &[scale]);
        let zero = self.graph.constant(&format!("{value}.zero_point"), &[], Element::U8, vec![zero]);
        let quantized = self.graph.plain(&format!("{value}.quantized"), "QuantizeLinear", &[value, &scale, &zero]);
        self.graph.plain(&dequantized(value), "DequantizeLinear", &[&quantized, &scale, &zero]);
    }

    fn add(&mut self, node: &proto::Node, depthwise: bool) {
        let mut node = node.clone();
        let source = node.inputs.first().cloned().unwrap_or_default();
        let has_weights = matches!(node.operator.as_str(), "Conv" | "Gemm");
        let groups = node.attributes.iter().find(|attribute| attribute.name == "group").and_then(|group| group.int);
        if has_weights && (depthwise || groups.unwrap_or(1) == 1) {
            let (weight, bias) = (node.inputs[1].clone(), node.inputs.get(2).cloned());
            // Without whole numbers that come in, there is nothing that a bias of whole numbers could be added to.
            let bias = bias.zip(self.ranges.get(&source).filter(|_| !is_gate(&node)).map(|range| range.grid().0));
            let scales = self.add_weight(&weight, bias.as_ref());
            node.inputs[1] = dequantized(&weight);
            if let Some((bias, input_scale)) = bias {
                self.add_bias(&bias, &scales, input_scale);
                node.inputs[2] = dequantized(&bias);
            }
        }
        for input in &mut node.inputs {
            if self.ranges.contains_key(input.as_str()) {
                *input = dequantized(input);
            }
        }
        let name = node.name.clone();
        self.graph.nodes.push(node);
        self.add_pair(&name);
    }

    /// Weights `[out, …]` with a scale for each output, which are returned. With a bias and the scale of what comes in, no scale is so small
    /// that the bias would need more than 31 bits.
    fn add_weight(&mut self, name: &str, bias: Option<&(String, f32)>) -> Vec<f32> {
        let Some(tensor) = self.constants.get(name) else { return Vec::new() };
        let dims: Vec<usize> = tensor.dims.iter().map(|side| *side as usize).collect();
        let values = floats(tensor);
        let rows = values.chunks(values.len() / dims[0].max(1));
        let mut scales: Vec<f32> = rows
            .clone()
            .map(|row| row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 127.0)
            .map(|scale| if scale > f32::MIN_POSITIVE { scale } else { 1.0 })
            .collect();
        if let Some((bias, input_scale)) = bias
            && let Some(bias) = self.constants.get(bias.as_str())
        {
            for (scale, bias) in scales.iter_mut().zip(floats(bias)) {
                *scale = scale.max(bias.abs() / (LARGEST_BIAS * input_scale));
            }
        }
        let whole: Vec<u8> = rows
            .zip(&scales)
            .flat_map(|(row, scale)| row.iter().map(move |value| (value / scale).round() as i8 as u8))
            .collect();
        self.add_constant(name, &dims, Element::I8, whole, &scales);
        scales
    }

    fn add_bias(&mut self, name: &str, weight_scales: &[f32], input_scale: f32) {
        let Some(tensor) = self.constants.get(name) else { return };
        let scales: Vec<f32> = weight_scales.iter().map(|scale| scale * input_scale).collect();
        let whole = floats(tensor)
            .iter()
            .zip(&scales)
            .flat_map(|(value, scale)| ((value / scale).round() as i32).to_le_bytes())
            .collect();
        self.add_constant(name, &[scales.len()], Element::I32, whole, &scales);
    }

    /// A constant of whole numbers, and the node that makes it what it was.
    fn add_constant(&mut self, name: &str, dims: &[usize], element: Element, raw: Vec<u8>, scales: &[f32]) {
        let quantized = self.graph.constant(&format!("{name}.quantized"), dims, element, raw);
        let scale = self.graph.floats(&format!("{name}.scale"), &[scales.len()], scales);
        self.graph.node(NodeSpec {
            name: &dequantized(name),
            operator: "DequantizeLinear",
            inputs: &[&quantized, &scale],
            attributes: vec![int("axis", 0)],
        });
        self.replaced.insert(name.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_a_whole_number_of_every_grid() {
        for (low, high) in [(0.0, 6.0), (-1.0, 3.0), (-0.3, 0.0), (0.0, 0.0)] {
            let (scale, zero) = Range { low, high }.grid();
            let lowest = (0.0 - f32::from(zero)) * scale;
            assert!((lowest - low).abs() <= scale && scale > 0.0, "{low} {high}");
        }
    }

    #[test]
    fn a_lonely_far_value_is_clipped_and_an_even_spread_is_not() {
        let even: Vec<f32> = (0..10_000).map(|at| at as f32 / 10_000.0).collect();
        let mut lonely: Vec<f32> = (0..1_000_000).map(|at| at as f32 / 1e6).collect();
        lonely.push(5.0);
        let range = |values: &[f32]| {
            let mut observed = Observed::new();
            observed.widen(values);
            observed.count(values);
            observed.best_range()
        };
        assert!(range(&even).high > 0.99);
        assert!(range(&lonely).high < 4.0);
    }
}

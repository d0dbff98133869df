//! The gate of squeeze-and-excite: two small dense layers on the mean of every channel.

use crate::Gate;
use crate::cpu::dense::{DenseGradients, DenseLayer};
use crate::cpu::simd::InstructionSet;

/// Weights `[squeezed, channels]` and `[channels, squeezed]`, with biases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SqueezeParameters<'a> {
    pub(crate) reduce: &'a [f32],
    pub(crate) reduce_bias: &'a [f32],
    pub(crate) expand: &'a [f32],
    pub(crate) expand_bias: &'a [f32],
    pub(crate) gate: Gate,
}

/// What the gate's gradient needs again.
#[derive(Debug)]
pub(crate) struct Squeezed {
    /// `[batch, channels]`.
    mean: Vec<f32>,
    /// `[batch, squeezed]`, after the ReLU.
    squeezed: Vec<f32>,
    /// `[batch, channels]`: the gate, between 0 and 1.
    pub(crate) gate: Vec<f32>,
    /// `[batch, channels]`: its slope, which is 0 where it is clipped.
    slope: Vec<f32>,
}

/// Gradients of the parameters, and of the mean, `[batch, channels]`.
#[derive(Debug)]
pub(crate) struct SqueezeGradients {
    pub(crate) reduce: Vec<f32>,
    pub(crate) reduce_bias: Vec<f32>,
    pub(crate) expand: Vec<f32>,
    pub(crate) expand_bias: Vec<f32>,
    pub(crate) mean: Vec<f32>,
}

impl SqueezeParameters<'_> {
    fn layers(&self) -> [DenseLayer<'_>; 2] {
        let (channels, squeezed) = (self.expand_bias.len(), self.reduce_bias.len());
        let layer = |weight, channels, bias| DenseLayer { weight, weight_in_out: false, channels, bias: Some(bias) };
        [
            layer(self.reduce, [channels, squeezed], self.reduce_bias),
            layer(self.expand, [squeezed, channels], self.expand_bias),
        ]
    }

    /// The gates for the channels' means, `[batch, channels]`.
    pub(crate) fn forward(&self, set: InstructionSet, mean: Vec<f32>) -> Squeezed {
        let [reduce, expand] = self.layers();
        let mut squeezed = reduce.forward(set, &mean);
        squeezed.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
        let mut gate = expand.forward(set, &squeezed);
        let mut slope = vec![0.0; gate.len()];
        for (gate, slope) in gate.iter_mut().zip(&mut slope) {
            (*gate, *slope) = self.gate.value_and_slope(*gate);
        }
        Squeezed { mean, squeezed, gate, slope }
    }

    /// Gradients for that of the gates, `[batch, channels]`.
    pub(crate) fn backward(&self, set: InstructionSet, saved: &Squeezed, mut gate: Vec<f32>) -> SqueezeGradients {
        let [reduce, expand] = self.layers();
        gate.iter_mut().zip(&saved.slope).for_each(|(gradient, slope)| *gradient *= slope);
        let mut expand = expand.backward(set, &saved.squeezed, &gate);
        for (gradient, value) in expand.x.iter_mut().zip(&saved.squeezed) {
            if *value <= 0.0 {
                *gradient = 0.0;
            }
        }
        let DenseGradients { x, weight, bias } = reduce.backward(set, &saved.mean, &expand.x);
        SqueezeGradients { reduce: weight, reduce_bias: bias, expand: expand.weight, expand_bias: expand.bias, mean: x }
    }
}

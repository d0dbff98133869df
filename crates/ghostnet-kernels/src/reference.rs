//! The operations in burn's own: what every backend can run, and what the kernels are measured against.

use alloc::vec;
use alloc::vec::Vec;

#[cfg(any(feature = "cpu", feature = "gpu"))]
use burn::tensor::GradientCheckpointingStrategy;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::{avg_pool2d, batch_norm, batch_norm_train, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Tensor};

use crate::convolution::{convolution, product};
use crate::operations::check_halvable;
use crate::{
    ConvNormTensors, GhostBottleneckTensors, GhostModuleTensors, LinearTensors, NormTensors, Normed,
    ParallelConvTensors, ParallelGhostModuleTensors, SqueezeExciteTensors, Statistics,
};

/// The operations of this crate as compositions of burn's, on any backend and with burn's gradients.
///
/// They follow the number format of the map that they are given: with 16-bit maps, convolutions multiply 16-bit copies of the weights,
/// while norms, their statistics and means over images are taken in 32 bits, and gradients of parameters have the parameters' 32.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

impl Reference {
    /// See [`norm`](crate::norm).
    pub fn norm(self, x: Tensor<4>, norm: NormTensors) -> Normed {
        let NormTensors { weight, bias, running, epsilon } = norm;
        let (device, format) = (x.device(), x.dtype());
        let x = in_full(x);
        let (output, statistics) = match running {
            Some([mean, variance]) => {
                let (mean, variance) = (mean.to_device(&device), variance.to_device(&device));
                (batch_norm(x, weight, bias, mean, variance, epsilon), None)
            }
            None => {
                let [batch, _, height, width] = x.dims();
                let result = batch_norm_train(x, weight, bias, epsilon);
                let (mean, variance) = (result.mean.without_autodiff(), result.variance.without_autodiff());
                (result.output, Some(Statistics::new(mean, variance, [batch, height, width])))
            }
        };
        Normed { output: in_format(output, format), statistics: vec![statistics] }
    }

    /// See [`conv_norm`](crate::conv_norm).
    pub fn conv_norm(self, x: Tensor<4>, conv: ConvNormTensors, activate: bool) -> Normed {
        let ConvNormTensors { weight, norm, stride, groups } = conv;
        let weight = in_format(weight, x.dtype());
        let normed = self.norm(convolution(x, weight, None, stride, groups), norm);
        if activate { Normed { output: relu(normed.output), ..normed } } else { normed }
    }

    /// See [`ghost_module`](crate::ghost_module).
    pub fn ghost_module(self, x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
        let GhostModuleTensors { primary, cheap, relu, out_channels } = ghost;
        let primary = self.conv_norm(x, primary, relu); // [batch, primary, height, width]
        let cheap = self.conv_norm(primary.output.clone(), cheap, relu); // [batch, cheap, height, width]
        joined(primary, cheap, out_channels)
    }

    /// See [`parallel_conv`](crate::parallel_conv).
    pub fn parallel_conv(self, x: Tensor<4>, conv: ParallelConvTensors, activate: bool) -> Normed {
        let ParallelConvTensors { convs, scale, skip } = conv;
        let convs = convs.into_iter().chain(scale).map(|conv| self.conv_norm(x.clone(), conv, false));
        let skip = skip.map(|norm| self.norm(x.clone(), norm));
        let sum = convs.chain(skip).reduce(|sum, branch| Normed {
            output: plus(sum.output, branch.output),
            statistics: [sum.statistics, branch.statistics].concat(),
        });
        let Some(sum) = sum else { panic!("parallel convolutions need at least one") };
        if activate { Normed { output: relu(sum.output), ..sum } } else { sum }
    }

    /// See [`parallel_ghost_module`](crate::parallel_ghost_module).
    pub fn parallel_ghost_module(self, x: Tensor<4>, ghost: ParallelGhostModuleTensors) -> Normed {
        let ParallelGhostModuleTensors { primary, cheap, relu, out_channels } = ghost;
        let primary = self.parallel_conv(x, primary, relu); // [batch, primary, height, width]
        let cheap = self.parallel_conv(primary.output.clone(), cheap, relu); // [batch, cheap, height, width]
        joined(primary, cheap, out_channels)
    }

    /// See [`squeeze_excite`](crate::squeeze_excite).
    pub fn squeeze_excite(self, x: Tensor<4>, squeeze_excite: SqueezeExciteTensors) -> Tensor<4> {
        let SqueezeExciteTensors { reduce, reduce_bias, expand, expand_bias, gate } = squeeze_excite;
        let mean = self.global_average_pool(x.clone()); // [batch, channels, 1, 1]
        let squeezed = relu(convolution(mean, reduce, Some(reduce_bias), 1, 1)); // [batch, squeezed, 1, 1]
        let gate = gate.apply(convolution(squeezed, expand, Some(expand_bias), 1, 1)); // [batch, channels, 1, 1]
        let gate = in_format(gate, x.dtype());
        x * gate
    }

    /// See [`global_average_pool`](crate::global_average_pool).
    pub fn global_average_pool(self, x: Tensor<4>) -> Tensor<4> {
        in_full(x).mean_dim(3).mean_dim(2)
    }

    /// See [`halve`](crate::halve).
    pub fn halve(self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        check_halvable([height, width]);
        avg_pool2d(x, AvgPoolOptions::new([2; 2]))
    }

    /// See [`attend`](crate::attend).
    pub fn attend(self, maps: Tensor<4>, logits: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = maps.dims();
        let nearest = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([height, width]);
        maps * interpolate(sigmoid(logits), nearest)
    }

    /// See [`linear`](crate::linear).
    pub fn linear(self, x: Tensor<2>, linear: LinearTensors) -> Tensor<2> {
        let LinearTensors { weight, weight_in_out, bias } = linear;
        let y = product(x, if weight_in_out { weight } else { weight.transpose() });
        match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    }

    /// See [`ghost_bottleneck`](crate::ghost_bottleneck).
    pub fn ghost_bottleneck(self, x: Tensor<4>, block: GhostBottleneckTensors) -> Normed {
        composed_bottleneck(&self, x, block)
    }
}

/// A sum whose gradient needs nothing of it. Where activations are made anew on the way back, burn would keep both maps to be able to make
/// the sum anew: more than the sum itself, if they come from norms, which are not made anew.
pub(crate) fn plus(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    if let [Some(strategy), Some(_)] = [&a, &b].map(Tensor::gradient_checkpointing_strategy) {
        let kept = GradientCheckpointingStrategy::Disabled;
        let [a, b] = [a, b].map(|map| map.with_gradient_checkpointing_strategy(kept));
        return (a + b).with_gradient_checkpointing_strategy(strategy);
    }
    a + b
}

/// The same values as numbers of another format, if it is another.
pub(crate) fn in_format<const D: usize>(values: Tensor<D>, format: DType) -> Tensor<D> {
    if values.dtype() == format { values } else { values.cast(format) }
}

/// In a format that sums keep their digits in: 16-bit numbers as 32-bit ones.
fn in_full<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    match values.dtype() {
        DType::F16 | DType::BF16 => values.cast(DType::F32),
        _ => values,
    }
}

/// Who computes the layers of a Ghost bottleneck that is composed of them.
pub(crate) trait Layers {
    fn conv_norm(&self, x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed;

    fn ghost_module(&self, x: Tensor<4>, ghost: GhostModuleTensors) -> Normed;
}

impl Layers for Reference {
    fn conv_norm(&self, x: Tensor<4>, conv: ConvNormTensors, relu: bool) -> Normed {
        Self::conv_norm(*self, x, conv, relu)
    }

    fn ghost_module(&self, x: Tensor<4>, ghost: GhostModuleTensors) -> Normed {
        Self::ghost_module(*self, x, ghost)
    }
}

/// A Ghost bottleneck, layer by layer; what lies between the layers is burn's own.
pub(crate) fn composed_bottleneck(layers: &impl Layers, x: Tensor<4>, block: GhostBottleneckTensors) -> Normed {
    let mut statistics: Vec<Option<Statistics>> = Vec::new();
    let mut keep = |normed: Normed| {
        statistics.extend(normed.statistics);
        normed.output
    };
    let mut map = keep(layers.ghost_module(x.clone(), block.expand)); // [batch, expanded, height, width]
    if let Some(attention) = block.attention {
        let convs = attention.convs().into_iter();
        let logits = convs.fold(Reference.halve(x.clone()), |logits, conv| keep(layers.conv_norm(logits, conv, false)));
        map = Reference.attend(map, logits);
    }
    if let Some(depthwise) = block.depthwise {
        map = keep(layers.conv_norm(map, depthwise, false)); // [batch, expanded, height / stride, width / stride]
    }
    if let Some(squeeze_excite) = block.squeeze_excite {
        map = Reference.squeeze_excite(map, squeeze_excite);
    }
    let map = keep(layers.ghost_module(map, block.project)); // [batch, out, height / stride, width / stride]
    let shortcut = match block.shortcut {
        Some([depthwise, pointwise]) => {
            let map = keep(layers.conv_norm(x, depthwise, false));
            keep(layers.conv_norm(map, pointwise, false))
        }
        None => x,
    };
    Normed { output: plus(map, shortcut), statistics }
}

/// The output of a Ghost module.
fn joined(primary: Normed, cheap: Normed, out_channels: usize) -> Normed {
    let output = Tensor::cat(vec![primary.output, cheap.output], 1);
    // A slice costs a copy and stands in the way of export; at the published sizes it would cut nothing.
    let output = if output.dims()[1] == out_channels { output } else { output.narrow(1, 0, out_channels) };
    Normed { output, statistics: [primary.statistics, cheap.statistics].concat() }
}

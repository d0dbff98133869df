//! Convolutions of GhostNetV3 while it trains (arXiv:2404.11202): the sum of parallel branches, each with a norm of its own, which
//! merge into one convolution. What is trained is larger than what is used.

use alloc::vec::Vec;

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{ConvNormTensors, ConvTensors, ParallelConvTensors};

use crate::{BatchNorm, BatchNormConfig, ConvNorm, ConvNormConfig};

/// Branches of the same kind.
pub(crate) const BRANCHES: usize = 3;

/// What stands beside the three branches of a [`ParallelConv`].
pub(crate) struct Beside {
    /// A 1×1 convolution: where the kernel is larger.
    pub(crate) scale: Option<ConvNormConfig>,
    /// A norm of the input alone: where the kernel is larger, and as many channels and pixels come out as go in.
    pub(crate) skip: bool,
}

impl Beside {
    pub(crate) fn of(conv: &ConvNormConfig) -> Self {
        let is_larger = conv.kernel_size != [1, 1];
        Self {
            scale: is_larger.then(|| ConvNormConfig { kernel_size: [1, 1], ..conv.clone() }),
            skip: is_larger && conv.stride == 1 && conv.in_channels == conv.out_channels,
        }
    }
}

/// A sum of convolutions and norms.
#[derive(Module, Debug)]
pub struct ParallelConv {
    /// A norm of the input itself.
    pub skip: Option<BatchNorm>,
    /// Convolutions of one shape.
    pub convs: Vec<ConvNorm>,
    /// A 1×1 convolution with the stride and the groups of the others.
    pub scale: Option<ConvNorm>,
}

impl ParallelConv {
    fn new(conv: &ConvNormConfig, device: &Device) -> Self {
        let Beside { scale, skip } = Beside::of(conv);
        Self {
            skip: skip.then(|| BatchNormConfig::new(conv.in_channels).init(device)),
            convs: (0..BRANCHES).map(|_| conv.init(device)).collect(),
            scale: scale.map(|conv| conv.init(device)),
        }
    }

    fn branches(&self) -> impl Iterator<Item = &ConvNorm> {
        self.convs.iter().chain(&self.scale)
    }

    /// The sum, and a ReLU if it is wanted.
    ///
    /// # Shapes
    /// As of [`ConvNorm::forward`].
    pub fn forward(&self, x: Tensor<4>, activate: bool) -> Tensor<4> {
        let normed = ghostnet_kernels::parallel_conv(x.clone(), self.tensors(), activate);
        for (norm, statistics) in self.norms().zip(normed.statistics) {
            norm.update(statistics);
        }
        normed.output
    }

    /// What the kernels take.
    pub(crate) fn tensors(&self) -> ParallelConvTensors {
        ParallelConvTensors {
            convs: self.convs.iter().map(|conv| conv.tensors()).collect(),
            scale: self.scale.as_ref().map(|conv| conv.tensors()),
            skip: self.skip.as_ref().map(|norm| norm.tensors()),
        }
    }

    /// The one convolution that gives the same by the running statistics: kernels and biases of all branches added up, smaller
    /// kernels with zeros around them. At a stride of 2, too, a 1×1 kernel reads the pixel at the centre of the larger one.
    ///
    /// # Panics
    /// If there is no convolution.
    fn merge(&self) -> ConvNorm {
        let [ConvNorm { conv: first, .. }, ..] = &self.convs[..] else { panic!("there is no branch to merge") };
        let skip = self.skip.as_ref().map(|norm| {
            let [channels, per_group, ..] = first.weight.dims();
            let weight = Tensor::ones([channels, per_group, 1, 1], &first.weight.device());
            ConvNormTensors { weight, norm: norm.tensors(), stride: 1, groups: first.groups }
        });
        let convs = self.branches().map(|conv| conv.tensors()).chain(skip);
        let shape = first.weight.dims();
        let nothing = (first.weight.val().zeros_like(), Tensor::zeros([shape[0]], &first.weight.device()));
        let (weight, bias) = convs
            .map(|conv| ConvTensors::fold(conv, false))
            .fold(nothing, |(weight, bias), conv| (weight + centred(conv.weight, shape), bias + conv.bias));
        let conv = Conv2d { weight: Param::from_tensor(weight), ..first.clone() };
        ConvNorm { conv, norm: BatchNorm::adding(bias) }
    }

    /// In the kernels' order.
    fn norms(&self) -> impl Iterator<Item = &BatchNorm> {
        self.branches().map(|conv| &conv.norm).chain(&self.skip)
    }
}

/// A kernel in the middle of a larger one of zeros.
fn centred(weight: Tensor<4>, shape: [usize; 4]) -> Tensor<4> {
    let [_, _, from_height, from_width] = weight.dims();
    let [_, _, height, width] = shape;
    let (top, left) = ((height - from_height) / 2, (width - from_width) / 2);
    weight.pad((left, left, top, top), 0.0)
}

/// A convolution and its norm, or branches in its place.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has some seventy of them, each with tensors of its own")]
pub enum Convolution {
    /// One.
    Single(ConvNorm),
    /// Parallel ones.
    Parallel(ParallelConv),
}

impl Convolution {
    /// The convolution, or branches of its shape.
    pub fn new(conv: &ConvNormConfig, branches: bool, device: &Device) -> Self {
        match branches {
            false => Self::Single(conv.init(device)),
            true => Self::Parallel(ParallelConv::new(conv, device)),
        }
    }

    /// The sum of the branches, or the one, and a ReLU if it is wanted.
    ///
    /// # Shapes
    /// As of [`ConvNorm::forward`].
    pub fn forward(&self, x: Tensor<4>, activate: bool) -> Tensor<4> {
        match self {
            Self::Single(conv) => conv.forward_activated(x, activate),
            Self::Parallel(conv) => conv.forward(x, activate),
        }
    }

    /// The one convolution, if there are no branches.
    pub fn single(&self) -> Option<&ConvNorm> {
        match self {
            Self::Single(conv) => Some(conv),
            Self::Parallel(_) => None,
        }
    }

    /// The branches, if there are any.
    pub(crate) fn parallel(&self) -> Option<&ParallelConv> {
        match self {
            Self::Single(_) => None,
            Self::Parallel(conv) => Some(conv),
        }
    }

    pub(crate) fn merge(&mut self) {
        if let Self::Parallel(parallel) = self {
            *self = Self::Single(parallel.merge());
        }
    }

    pub(crate) fn norms(&self) -> Vec<&BatchNorm> {
        match self {
            Self::Single(conv) => Vec::from([&conv.norm]),
            Self::Parallel(conv) => conv.norms().collect(),
        }
    }
}

#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(feature = "cpu", feature = "gpu")), no_std)]

extern crate alloc;

mod convolution;
#[cfg(feature = "cpu")]
mod cpu;
mod folded;
mod gate;
#[cfg(feature = "gpu")]
pub mod gpu;
mod operations;
mod reference;
#[cfg(feature = "cpu")]
mod update;

#[cfg(feature = "cpu")]
pub use cpu::{InstructionSet, in_thread_pool, is_supported, layout_conversions, set_enabled};
pub use folded::{ConvTensors, FoldedConv, FoldedGhostBottleneck};
pub use gate::Gate;
pub use operations::{
    AttentionTensors, ConvNormTensors, GhostBottleneckTensors, GhostModuleTensors, LinearTensors, NormTensors, Normed,
    ParallelConvTensors, ParallelGhostModuleTensors, SqueezeExciteTensors, Statistics, add, attend, conv_norm,
    ghost_bottleneck, ghost_module, global_average_pool, halve, linear, norm, parallel_conv, parallel_ghost_module,
    squeeze_excite,
};
pub use reference::Reference;
#[cfg(feature = "cpu")]
pub use update::{AdamW, Lion, RmspropTf, Sgd, global_norm, global_norm_on_device};

/// Runs `work`, as it is where there are no kernels; see the feature `cpu`.
#[cfg(not(feature = "cpu"))]
pub fn in_thread_pool<T>(_: &burn::tensor::Device, work: impl FnOnce() -> T) -> T {
    work()
}

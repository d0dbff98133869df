#![doc = include_str!("../README.md")]
#![no_std]
#![recursion_limit = "256"]

extern crate alloc;

mod architecture;
mod batch_norm;
mod conv_norm;
mod count;
mod dfc_attention;
mod folded;
mod ghost_bottleneck;
mod ghost_module;
mod network;
mod parallel_conv;
mod squeeze_excite;
mod state;
mod variant;

pub use architecture::{Architecture, BlockSpec, make_divisible};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use conv_norm::{ConvNorm, ConvNormConfig};
pub use count::{LayerCount, LayerKind};
pub use dfc_attention::{DfcAttention, DfcAttentionConfig};
pub use folded::FoldedGhostNet;
pub use ghost_bottleneck::{GhostBottleneck, GhostBottleneckConfig, Shortcut};
pub use ghost_module::{GhostModule, GhostModuleConfig};
pub use ghostnet_kernels::Gate;
pub use network::{GhostNet, GhostNetConfig};
pub use parallel_conv::{Convolution, ParallelConv};
pub use squeeze_excite::{SqueezeExcite, SqueezeExciteConfig};
pub use state::{NamedTensor, StateError, parameter_names, read_now};
pub use variant::Variant;

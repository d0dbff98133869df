#![doc = include_str!("../README.md")]
#![no_std]
#![recursion_limit = "256"]

extern crate alloc;

mod architecture;
mod batch_norm;
mod conv_norm;
mod count;
mod folded;
mod ghost_bottleneck;
mod ghost_module;
mod lineage;
mod network;
mod squeeze_excite;
mod state;

pub use architecture::{Architecture, BlockSpec, make_divisible};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use conv_norm::{ConvNorm, ConvNormConfig};
pub use count::{LayerCount, LayerKind};
pub use folded::FoldedGhostNet;
pub use ghost_bottleneck::{GhostBottleneck, GhostBottleneckConfig, Shortcut};
pub use ghost_module::{GhostModule, GhostModuleConfig};
pub use ghostnet_kernels::Gate;
pub use lineage::Lineage;
pub use network::{GhostNet, GhostNetConfig};
pub use squeeze_excite::{SqueezeExcite, SqueezeExciteConfig};
pub use state::{NamedTensor, StateError, parameter_names};

//! The run: recipes, the exact loop, checkpoints, evaluation, prediction, and the command line `ghostnet` over them.
//!
//! The way of a run: [`recipe`] (what was written) → [`plan`] (everything resolved) → [`train`] (the loop) → [`event`] →
//! [`observe`] (console, metrics, TensorBoard). A [`step`] is forward, backward and update; [`checkpoint`] keeps it.

#![recursion_limit = "256"]

pub mod average;
pub mod average_precision;
pub mod batch;
pub mod bench;
pub mod calibration;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod device_check;
pub mod distill;
pub mod duration;
pub mod ema;
pub mod erase;
pub mod evaluate;
pub mod event;
pub mod export;
pub mod feed;
pub mod finetune;
pub mod fold;
pub mod hub;
pub mod import;
pub mod interrupt;
pub mod loss;
pub mod lr_find;
pub mod measured_data;
pub mod mix;
pub mod model_source;
pub mod multi_label;
pub mod observe;
mod onnx_runtime;
pub mod optimizer;
pub mod plan;
pub mod precision;
pub mod predict;
pub mod random;
pub mod recipe;
pub mod relabel;
pub mod report;
pub mod run_directory;
pub mod schedule;
pub mod step;
pub mod text_chart;
pub mod train;
pub mod verify;
pub mod weights;

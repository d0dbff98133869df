//! Labelled image sets, from the file on disk to the batch of bytes.
//!
//! The way of an image: a [`ImageSource`] hands out encoded files, [`decode`](decode::decode) turns one into an upright
//! [`RgbImage`], a [`Pipeline`] of [`Transform`]s brings it to the size that the network sees, and the [`Loader`] does that
//! for a whole epoch on several threads. The result depends on the seed, the epoch and the sample, never on the number of
//! threads or on timing, so a run can be stopped and continued at any batch.
//!
//! The crate knows nothing of tensors: a [`Batch`] is plain bytes, and what is to be painted over them once they are normalised.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that panics says what is wrong"))]

pub mod archive;
mod augment;
pub mod check;
mod color_jitter;
#[cfg(feature = "burn-dataset")]
pub mod dataset;
pub mod decode;
mod delimited;
pub mod folder;
pub mod idx;
pub mod image;
mod layout;
pub mod list;
pub mod loader;
mod near_duplicate;
#[cfg(test)]
mod pillow;
pub mod random;
mod random_erasing;
mod regroup;
mod resize;
pub mod sample;
mod sampling;
pub mod source;
mod split;
pub mod stats;
mod survey;
pub mod transform;

pub use augment::{
    AugMix, AugmentInterpolation, AutoAugment, AutoAugmentPolicy, RandAugment, ThreeAugment, TrivialAugment,
};
pub use check::{CheckReport, PartsReport, check, check_parts};
#[cfg(feature = "burn-dataset")]
pub use dataset::{BurnDataset, ImageItem, SourceDataset};
pub use decode::{DecodeError, DecodeLimits, decode};
pub use image::RgbImage;
pub use loader::{Batch, EpochIter, Loader, LoaderConfig, LoaderError, OnCorrupt};
pub use random_erasing::{EraseMode, Erasure, RandomErasing};
pub use regroup::MAX_REGROUPED_IMAGES;
pub use sampling::Sampling;
pub use source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError, SourceKind, load_image};
pub use stats::{ImageStats, stats};
pub use transform::{Interpolation, Pipeline, Transform, TransformError};

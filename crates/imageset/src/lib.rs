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
mod arrangement;
mod augment;
pub mod check;
pub mod class_list;
mod color_jitter;
#[cfg(feature = "burn-dataset")]
pub mod dataset;
pub mod decode;
mod delimited;
pub mod folder;
pub mod idx;
pub mod image;
mod layout;
mod left_out;
pub mod list;
pub mod loader;
pub mod measure;
pub mod name;
mod near_duplicate;
mod part;
#[cfg(test)]
mod pillow;
pub mod random;
mod random_erasing;
#[cfg(test)]
mod random_layouts;
mod regroup;
mod resize;
pub mod sample;
mod sampling;
pub mod source;
mod split;
pub mod stats;
mod survey;
mod text;
pub mod transform;

pub use augment::{
    AugMix, AugmentInterpolation, AutoAugment, AutoAugmentPolicy, RandAugment, ThreeAugment, TrivialAugment,
};
pub use check::{CheckReport, ContradictingImage, PartsReport, check, check_parts, contradiction_warning};
pub use class_list::{ClassList, ClassListError};
#[cfg(feature = "burn-dataset")]
pub use dataset::{BurnDataset, ImageItem, SourceDataset};
pub use decode::{DecodeError, DecodeLimits, FileKind, decode, quiet_decoder_panics};
pub use image::RgbImage;
pub use left_out::{LeftOut, LeftOutCount};
pub use loader::{Batch, EpochIter, Loader, LoaderConfig, LoaderError, OnCorrupt};
pub use measure::{MeasuredPart, MeasuredSet};
pub use part::Part;
pub use random_erasing::{EraseMode, Erasure, RandomErasing};
pub use regroup::MAX_REGROUPED_IMAGES;
pub use sampling::Sampling;
pub use source::{DataSet, EncodedImage, ImageSource, OpenOptions, SourceError, SourceKind, load_image};
pub use stats::{ImageStats, stats};
pub use transform::{Interpolation, Pipeline, Transform, TransformError};

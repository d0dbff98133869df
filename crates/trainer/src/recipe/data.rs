//! The section `[data]`: where images come from and what is done to them before the network sees them.

use std::path::PathBuf;

use imageset::{Interpolation, OnCorrupt, Pipeline, Sampling, SourceKind, Transform};
use serde::{Deserialize, Serialize, Serializer};

use super::is_default;
use super::violation::{Violation, require};

/// Where images come from and what is done to them. Required: `batch_size` and `image_size`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The kind of source; `auto` looks at what lies at the path.
    #[serde(default = "default::source")]
    pub source: SourceKind,
    /// The file or folder; the command line's `--data` goes before it. Not needed for a bundled source.
    #[serde(default, serialize_with = "readable_path")]
    pub path: Option<PathBuf>,
    /// Files and folders of the data that are not taken, as patterns of `.gitignore` without `**` and `!`: `"*.tif"`, `"/unsorted"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// Maximum number of pixels of an image, width times height; a larger image counts as damaged. Default: 178,956,970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// The share of the images kept for evaluation where the source has no split of its own.
    #[serde(default = "default::val_fraction")]
    pub val_fraction: f64,
    /// Images in a batch. Batch norm sees one batch at a time, whatever `train.accumulate` is.
    pub batch_size: usize,
    /// Which training images an epoch shows: each once (`shuffled`), as many of each class (`balanced`), or fewer of them several
    /// times (`{ repeated = 3 }`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// Threads that decode and transform images, 0 for the calling one; from the machine if absent. Does not change
    /// the result.
    pub workers: Option<usize>,
    /// The height and width, in pixels, of the images that the network is given.
    pub image_size: u32,
    /// What to do about a file that cannot be decoded.
    #[serde(default = "default::on_corrupt")]
    pub on_corrupt: OnCorrupt,
    /// Subtracted from red, green and blue, in units of 1 for a full channel. Default: ImageNet's.
    #[serde(default = "default::mean", serialize_with = "shortest")]
    pub mean: [f32; 3],
    /// Red, green and blue are divided by it after the mean is subtracted. Default: ImageNet's.
    #[serde(default = "default::std", serialize_with = "shortest")]
    pub std: [f32; 3],
    /// What is done to each training image, in order. Default: `random_resized_crop`, then `horizontal_flip`.
    #[serde(default = "default::train")]
    pub train: Vec<Transform>,
    /// What is done to each image under evaluation, in order. Default: `resize_center_crop`.
    #[serde(default = "default::val")]
    pub val: Vec<Transform>,
}

/// The defaults of the section.
mod default {
    use super::{Interpolation, OnCorrupt, SourceKind, Transform};

    pub(super) fn source() -> SourceKind {
        SourceKind::Auto
    }

    pub(super) fn val_fraction() -> f64 {
        0.2
    }

    pub(super) fn on_corrupt() -> OnCorrupt {
        OnCorrupt::Error
    }

    // Of ImageNet's training set, as timm and torchvision use them.
    pub(super) fn mean() -> [f32; 3] {
        [0.485, 0.456, 0.406]
    }

    pub(super) fn std() -> [f32; 3] {
        [0.229, 0.224, 0.225]
    }

    // The usual two for photographs: torchvision's and timm's crop, flipped every second time.
    pub(super) fn train() -> Vec<Transform> {
        vec![
            Transform::RandomResizedCrop {
                size: None,
                scale: [0.08, 1.0],
                ratio: [3.0 / 4.0, 4.0 / 3.0],
                interpolation: Interpolation::Bicubic,
            },
            Transform::HorizontalFlip { probability: 0.5 },
        ]
    }

    // 256 pixels, then the central 224, or whatever the image size is in that proportion.
    pub(super) fn val() -> Vec<Transform> {
        vec![Transform::ResizeCenterCrop { size: None, crop_pct: 0.875, interpolation: Interpolation::Bicubic }]
    }
}

/// Writes `0.485` rather than `0.48500001430511475`; either reads back as the same number.
fn shortest<S: Serializer>(values: &[f32; 3], serializer: S) -> Result<S::Ok, S::Error> {
    values.map(|value| value.to_string().parse().unwrap_or(f64::from(value))).serialize(serializer)
}

/// A path that is no Unicode can come from the command line only; it is no part of the recipe's identity, and writing
/// the recipe must not fail for it.
pub(super) fn readable_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

impl Data {
    pub(super) fn check(&self) -> Result<(), Violation> {
        require(self.val_fraction > 0.0 && self.val_fraction < 1.0, "data.val_fraction", || {
            format!("`val_fraction` must be between 0 and 1, but is {}", self.val_fraction)
        })?;
        require(self.sampling != Sampling::Repeated(0), "data.sampling", || {
            "each image must come once or more: `{ repeated = 3 }`".to_owned()
        })?;
        require(self.max_pixels != Some(0), "data.max_pixels", || "`max_pixels` must be 1 or more".to_owned())?;
        require(self.batch_size > 0, "data.batch_size", || "`batch_size` must be 1 or more".to_owned())?;
        // The network halves the image five times.
        require(self.image_size >= 32, "data.image_size", || {
            format!("`image_size` must be 32 pixels or more, but is {}", self.image_size)
        })?;
        require(self.mean.iter().all(|mean| mean.is_finite()), "data.mean", || {
            "`mean` must be three finite numbers".to_owned()
        })?;
        require(self.std.iter().all(|std| std.is_finite() && *std > 0.0), "data.std", || {
            "`std` must be three numbers above 0".to_owned()
        })?;
        for (transforms, key) in [(&self.train, "data.train"), (&self.val, "data.val")] {
            if let Err(error) = Pipeline::new(transforms, self.image_size).and_then(|pipeline| pipeline.check_cuts()) {
                return Err(Violation::of_value(key, error.to_string()));
            }
        }
        Ok(())
    }
}

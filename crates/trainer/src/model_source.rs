//! What a user names where a network is wanted: a run, a checkpoint, a model file, or weights that another program wrote.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use imageset::{DataSet, Interpolation, OpenOptions, SourceKind};

use crate::batch::Normalization;
use crate::checkpoint::find_model;
use crate::export::OnnxFile;
use crate::hub::config::{CropMode, Interpolation as Filter, PretrainedConfig};
use crate::import::{Hints, Imported, Preparation, import};
use crate::weights::{ModelCard, ModelFile, WeightsError};
use crate::{plan, run_directory};

/// The file that was meant, and its bytes.
#[derive(Debug)]
pub struct FoundModel {
    /// The file.
    pub path: PathBuf,
    bytes: Vec<u8>,
}

/// A network that can be used.
#[derive(Debug)]
pub struct OpenedModel {
    /// The network and its card.
    pub file: ModelFile,
    /// The file that it was in.
    pub path: PathBuf,
    /// Sentences on the weights of another program; none on a file that was written here.
    pub notes: Vec<String>,
}

/// Nobody said which images.
#[derive(Debug, thiserror::Error)]
#[error("`{model}` is not part of a run, so its images are not known\n\nhint: name them with `--data`")]
pub struct NoData {
    /// The file.
    pub model: PathBuf,
}

/// Options for weights of other programs were given for a file that says everything itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{model}` was written by this program and says how it is to be used\n\n\
     hint: leave out `--classes`, `--key`, `--interpolation`, `--crop-pct` and `--image-size`"
)]
pub struct NotForeign {
    /// The file.
    pub model: PathBuf,
}

/// Longer files are no weights of a network that is built here.
const MAX_BYTES: u64 = 4 << 30;

impl FoundModel {
    /// Finds and reads the file: of a run the best checkpoint, of a checkpoint the average of its weights, where there is one.
    pub fn read(name: &Path) -> anyhow::Result<Self> {
        let path = find_model(name)?;
        let length = fs_err::metadata(&path)?.len();
        if length > MAX_BYTES {
            bail!("`{}` has {length} bytes, and no file of weights has more than {MAX_BYTES}", path.display());
        }
        let bytes = fs_err::read(&path)?;
        Ok(Self { path, bytes })
    }

    /// What the file says of itself, if it is ONNX that was exported here.
    pub fn onnx(&self) -> Option<OnnxFile> {
        self.is_onnx().then(|| OnnxFile::parse(&self.bytes)).flatten()
    }

    fn is_onnx(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// BLAKE3 of the file.
    pub fn fingerprint(&self) -> String {
        blake3::hash(&self.bytes).to_hex().to_string()
    }

    /// Takes the file as one that was written here, or, with `hints`, as weights of another program.
    pub fn open(self, hints: Hints) -> anyhow::Result<OpenedModel> {
        if self.is_onnx() {
            bail!(
                "`{}` is an ONNX file, and {}",
                self.path.display(),
                match self.onnx() {
                    Some(_) => "only `predict` runs those",
                    None => "was not written by `ghostnet export`, or not by this version",
                }
            );
        }
        match ModelFile::parse(&self.path, &self.bytes) {
            Err(WeightsError::NoCard { .. } | WeightsError::Damaged { .. }) => self.import(hints),
            Ok(_) if !hints.is_empty() => Err(NotForeign { model: self.path }.into()),
            file => Ok(OpenedModel { file: file?, path: self.path, notes: Vec::new() }),
        }
    }

    /// Takes the file as weights of another program. What `hints` leave open is taken from timm's description, if it lies beside the file.
    pub fn import(self, hints: Hints) -> anyhow::Result<OpenedModel> {
        let Self { path, bytes } = self;
        if ModelFile::parse(&path, &bytes).is_ok() {
            bail!(
                "`{}` is a model file of this program already\n\nhint: use it as it is; `ghostnet export` makes other files of it",
                path.display()
            );
        }
        let description = path.with_file_name(DESCRIPTION);
        let described = described(&description)?;
        let is_described = described.is_some();
        let Imported { model, mut notes } = import(&path, &bytes, hints.or(described.unwrap_or_default()))?;
        if is_described {
            notes.push(format!(
                "its preprocessing is that of `{}`, where no option says otherwise",
                description.display()
            ));
        }
        Ok(OpenedModel { file: model, path, notes })
    }
}

/// timm's description of a model, beside its weights.
const DESCRIPTION: &str = "config.json";

/// What timm's description says, if there is one.
fn described(path: &Path) -> anyhow::Result<Option<Hints>> {
    let Ok(json) = fs_err::read(path) else { return Ok(None) };
    let config = match PretrainedConfig::parse(&json) {
        // Many programs call a file so.
        Ok(config) if config.architecture.is_none() => return Ok(None),
        Err(_) if !String::from_utf8_lossy(&json).contains("\"architecture\"") => return Ok(None),
        config => config.with_context(|| format!("`{}`", path.display()))?,
    };
    let unable = |what: String| {
        anyhow::anyhow!(
            "`{}` asks for {what}, which is not offered\n\n\
             hint: move it away, and say how images are prepared with `--interpolation`, `--crop-pct` and `--image-size`",
            path.display()
        )
    };
    let interpolation = match config.interpolation {
        None => None,
        Some(Filter::Bicubic) => Some(Interpolation::Bicubic),
        Some(Filter::Bilinear) => Some(Interpolation::Bilinear),
        Some(Filter::Nearest) => Some(Interpolation::Nearest),
        Some(other) => return Err(unable(format!("the filter {other:?}"))),
    };
    if let Some(mode @ (CropMode::Squash | CropMode::Border)) = config.crop_mode {
        return Err(unable(format!("the crop mode {mode:?}")));
    }
    let image_size = match config.input_size {
        Some([_, height, width]) if height != width => {
            return Err(unable(format!("images of {height} x {width} pixels")));
        }
        size => size.map(|[_, height, _]| height),
    };
    let normalization = config
        .mean
        .zip(config.std)
        .map(|(mean, std)| Normalization { mean: mean.map(|mean| mean as f32), std: std.map(|std| std as f32) });
    let preparation = Preparation { image_size, interpolation, crop_pct: config.crop_pct, normalization };
    Ok(Some(Hints { classes: config.label_names, preparation, ..Hints::default() }))
}

impl OpenedModel {
    /// The images of the run that the file lies in, or those in `data`.
    pub fn data(&self, data: Option<PathBuf>) -> anyhow::Result<DataSet> {
        let ModelCard { val_fraction, seed, .. } = self.file.card;
        match (self.run(), data) {
            (Some(run), data) => plan::open_data(&mut run_directory::read_recipe(run)?, data),
            (None, Some(path)) => {
                plan::open(&OpenOptions { kind: SourceKind::Auto, path: Some(path), val_fraction, seed })
            }
            (None, None) => Err(NoData { model: self.path.clone() }.into()),
        }
    }

    /// The run that the file lies in, if it lies in one: `RUN/checkpoints/step-N/model.safetensors`.
    fn run(&self) -> Option<&Path> {
        self.path.ancestors().nth(3).filter(|run| run_directory::recipe_file(run).is_file())
    }

    /// What a path stands for, with nothing known besides.
    pub fn read(name: &Path) -> anyhow::Result<Self> {
        FoundModel::read(name)?.open(Hints::default())
    }
}

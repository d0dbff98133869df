//! What a user names where a network is wanted: a run, a checkpoint, a model file, or weights that another program wrote.

use std::path::{Path, PathBuf};

use anyhow::bail;
use foreign_weights::{ShardName, Shards};
use imageset::{DataSet, OpenOptions};

use crate::checkpoint::find_model;
use crate::export::OnnxFile;
use crate::import::{Description, Hints, Imported, Need, import};
use crate::weights::{ModelCard, ModelFile, WeightsError};
use crate::{plan, run_directory};

/// The file that was meant, and its bytes.
#[derive(Debug)]
pub struct FoundModel {
    /// The file; for weights in several files, their index or their folder.
    pub path: PathBuf,
    /// The bytes of the file; for several files, those of a single file with the same tensors.
    bytes: Vec<u8>,
    /// Notes on how the file was read.
    notes: Vec<String>,
}

/// A network that can be used.
#[derive(Debug)]
pub struct OpenedModel {
    /// The network and its card.
    pub file: ModelFile,
    /// The file that it was in.
    pub path: PathBuf,
    /// Notes on weights of another program; empty for a file of this program.
    pub notes: Vec<String>,
    /// Names of tensors of the head that the weights of another program lack. There are none if the whole network was asked for.
    pub absent: Vec<String>,
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
        if let Some(shards) = Shards::find(&path)? {
            let notes = vec![format!("it is in {} files, which were joined", shards.count())];
            return Ok(Self { bytes: shards.join()?, path, notes });
        }
        if let Some(ShardName { number, count, .. }) = ShardName::of(&path).filter(|shard| shard.count > 1) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            bail!(
                "`{}` is part {number} of {count} of a model\n\n\
                 hint: name the folder with all parts, `{}`, or the index in it, whose name ends in `.safetensors.index.json`",
                path.display(),
                folder.display()
            );
        }
        let length = fs_err::metadata(&path)?.len();
        if length > MAX_BYTES {
            bail!("`{}` has {length} bytes, and no file of weights has more than {MAX_BYTES}", path.display());
        }
        let bytes = fs_err::read(&path)?;
        Ok(Self { path, bytes, notes: Vec::new() })
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
        self.open_for(hints, Need::Whole)
    }

    /// The same for a network to start another one from, which needs no classifier.
    pub fn open_trunk(self, key: Option<String>) -> anyhow::Result<OpenedModel> {
        self.open_for(Hints { key, ..Hints::default() }, Need::Trunk)
    }

    fn open_for(self, hints: Hints, need: Need) -> anyhow::Result<OpenedModel> {
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
            Err(WeightsError::NoCard { .. } | WeightsError::Damaged { .. }) => self.import_for(hints, need),
            Ok(_) if !hints.is_empty() => Err(NotForeign { model: self.path }.into()),
            file => Ok(OpenedModel { file: file?, path: self.path, notes: Vec::new(), absent: Vec::new() }),
        }
    }

    /// Takes the file as weights of another program. What `hints` leave open is taken from timm's description, if it lies beside the file.
    pub fn import(self, hints: Hints) -> anyhow::Result<OpenedModel> {
        if ModelFile::parse(&self.path, &self.bytes).is_ok() {
            bail!(
                "`{}` is a model file of this program already\n\nhint: use it as it is; `ghostnet export` makes other files of it",
                self.path.display()
            );
        }
        self.import_for(hints, Need::Whole)
    }

    fn import_for(self, hints: Hints, need: Need) -> anyhow::Result<OpenedModel> {
        let Self { path, bytes, notes: mut all_notes } = self;
        let description = Description::beside(&path);
        // Another network prepares its own images.
        if let Some(description) = description.as_ref().filter(|_| need == Need::Whole) {
            description.check(&hints.preparation)?;
        }
        let Imported { model, absent, notes } = import(&path, &bytes, hints, description.as_ref(), need)?;
        all_notes.extend(notes);
        Ok(OpenedModel { file: model, path, notes: all_notes, absent })
    }
}

/// What a command says of the data that a model is used on.
#[derive(Debug, Clone, Default)]
pub struct DataRequest {
    /// The data; those of the model's run if absent.
    pub path: Option<PathBuf>,
    /// Files and folders to leave out, besides those of the run's recipe.
    pub leave_out: Vec<String>,
    /// Most pixels of an image, in place of the recipe's.
    pub max_pixels: Option<u64>,
}

impl OpenedModel {
    /// The images of the run that the file lies in, or those at `request.path`, split as for training.
    pub fn data(&self, request: DataRequest) -> anyhow::Result<DataSet> {
        plan::open(&self.data_options(request)?)
    }

    /// Where these images are and how they are split and read.
    pub fn data_options(&self, request: DataRequest) -> anyhow::Result<OpenOptions> {
        let ModelCard { val_fraction, seed, .. } = self.file.card;
        let mut options = match (self.run(), request.path) {
            (Some(run), data) => plan::data_options(&mut run_directory::read_recipe(run)?, data),
            (None, Some(path)) => OpenOptions { path: Some(path), val_fraction, seed, ..OpenOptions::default() },
            (None, None) => return Err(NoData { model: self.path.clone() }.into()),
        };
        options.leave_out.extend(request.leave_out);
        options.max_pixels = request.max_pixels.or(options.max_pixels);
        Ok(options)
    }

    /// Whether these are the data of the run that the file lies in; no path stands for them.
    pub fn is_trained_on(&self, path: Option<&Path>) -> bool {
        let Some(recipe) = self.run().and_then(|run| run_directory::read_recipe(run).ok()) else { return false };
        let is_same = |path: &Path| {
            let own = recipe.data.path.as_deref().and_then(|own| own.canonicalize().ok());
            own.is_some() && own == path.canonicalize().ok()
        };
        path.is_none_or(is_same)
    }

    /// The run that the file lies in, if it lies in one: `RUN/checkpoints/step-N/model.safetensors`.
    fn run(&self) -> Option<&Path> {
        self.path.ancestors().nth(3).filter(|run| run_directory::recipe_file(run).is_file())
    }
}

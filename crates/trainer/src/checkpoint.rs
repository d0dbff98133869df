//! Checkpoints: directories that are there whole or not at all, checked by checksums, the last few and the best kept.
//!
//! `step-00000470/` holds `model.safetensors`, `optimizer.safetensors`, `state.json` and, if the recipe asks
//! for an average of the weights, `ema.safetensors`. It is written under a temporary name,
//! synced and renamed, so a kill or a full disk at any moment leaves the checkpoints before it as they were.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::Device;
use foreign_weights::Shards;
use serde::{Deserialize, Serialize};

use crate::ema::{Ema, EmaRule};
use crate::optimizer::Optimizer;
use crate::precision::LossScale;
use crate::run_directory::{self, sync_directory};
use crate::schedule::Plateau;
use crate::step::{Trainee, training_device};
use crate::weights::{self, ModelCard, ModelFile};

/// Version of `state.json` and of the directory's layout.
const FORMAT_VERSION: u32 = 1;
const MODEL: &str = "model.safetensors";
/// The average of the weights, where a run keeps one; a model file too.
const EMA: &str = "ema.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const TEMPORARY: &str = ".writing-";
const REPLACED: &str = ".replaced";

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Step at which it was.
    pub step: u64,
    /// Its top-1, or its mean average precision where images bear several labels.
    pub top1: f64,
}

/// Where a run is; together with the tensors, all that it needs to go on as if nothing had happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done. Epoch and position in it follow from this.
    pub step: u64,
    /// Whether the evaluation that is due at this step has been done.
    pub evaluated: bool,
    /// Best evaluation of the split that decides.
    pub best: Option<Best>,
    /// Evaluations since then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub evaluations_since_best: u64,
    /// Sum of the losses of the steps since the last line in the metrics.
    pub loss_sum: f64,
    /// Number of those steps.
    pub loss_steps: u64,
    /// How many of them changed no weight, since their gradients were out of the range of 16 bits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped_steps: u64,
    /// Damaged images skipped in this epoch.
    pub num_skipped: u64,
    /// The first of them by name, with the reason.
    pub skipped: Vec<String>,
    /// Length of `metrics.jsonl`, bytes; what is behind it was overtaken.
    pub metrics_bytes: u64,
    /// Time the run has taken, seconds, from its first start on.
    pub seconds: f64,
    /// Hash of the recipe.
    pub recipe_hash: String,
    /// Fingerprint of the images' names and labels.
    pub data_fingerprint: String,
    /// Fingerprint of the weights that it began with, if they were not random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_fingerprint: Option<String>,
    /// Fingerprint of the network that it learns from, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_fingerprint: Option<String>,
    /// What a plateau schedule has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<Plateau>,
    /// The most images in a micro-batch, where batches are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// What the run computes on.
    pub device: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize, Deserialize)]
struct StateFile {
    format_version: u32,
    epoch: u64,
    step_in_epoch: u64,
    optimizer_steps: u64,
    /// State of the loss scale, in mixed precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<[f32; 2]>,
    progress: Progress,
    /// blake3 of the other files, by name, and of this one without its own.
    checksums: BTreeMap<String, String>,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
    keep: usize,
    steps_per_epoch: u64,
}

/// What a checkpoint must be to be taken up.
#[derive(Debug)]
pub struct Expected {
    /// Of the network and the recipe.
    pub card: ModelCard,
    /// Without state.
    pub optimizer: Optimizer,
    /// If there is an average of the weights.
    pub ema: Option<EmaRule>,
    /// Of the device, see [`training_device`].
    pub checkpoint_activations: bool,
}

/// A checkpoint taken up again.
#[derive(Debug)]
pub struct Resumed {
    /// Network and optimizer.
    pub trainee: Trainee,
    /// Where the run was.
    pub progress: Progress,
    /// Checkpoints that could not be used, newest first, with the reason.
    pub damaged: Vec<String>,
}

/// Name of the directory of a step.
fn directory_name(step: u64) -> String {
    format!("step-{step:08}")
}

impl Checkpoints {
    /// The checkpoints in `path`, of which the last `keep` and the best stay.
    pub fn new(path: PathBuf, keep: usize, steps_per_epoch: u64) -> Self {
        Self { path, keep, steps_per_epoch }
    }

    /// Writes a checkpoint and removes those that are no longer kept. Returns its path.
    pub fn save(&self, trainee: &Trainee, card: &ModelCard, progress: &Progress) -> anyhow::Result<PathBuf> {
        let name = directory_name(progress.step);
        let temporary = self.path.join(format!("{TEMPORARY}{name}"));
        let write = || -> anyhow::Result<PathBuf> {
            remove_if_there(&temporary)?;
            fs_err::create_dir_all(&temporary)?;
            let model = weights::encode_model(&trainee.model, card).map_err(anyhow::Error::msg)?;
            let optimizer = weights::encode(&trainee.optimizer.state(), None).map_err(anyhow::Error::msg)?;
            let average = trainee.ema.as_ref().map(|ema| weights::encode_model(&ema.model, card)).transpose();
            let average = average.map_err(anyhow::Error::msg)?;
            let mut files = vec![(MODEL, model), (OPTIMIZER, optimizer)];
            files.extend(average.map(|average| (EMA, average)));
            let mut state = StateFile {
                format_version: FORMAT_VERSION,
                epoch: progress.step / self.steps_per_epoch,
                step_in_epoch: progress.step % self.steps_per_epoch,
                optimizer_steps: trainee.optimizer.steps(),
                loss_scale: trainee.loss_scale.as_ref().map(LossScale::state),
                progress: progress.clone(),
                checksums: files.iter().map(|(name, bytes)| (name.to_string(), checksum(bytes))).collect(),
            };
            state.checksums.insert(STATE.to_string(), checksum(&serde_json::to_vec(&state)?));
            files.push((STATE, serde_json::to_vec_pretty(&state)?));
            for (name, bytes) in files {
                let mut file = fs_err::File::create(temporary.join(name))?;
                file.write_all(&bytes)?;
                file.sync_all()?;
            }
            sync_directory(&temporary)?;
            let place = self.path.join(&name);
            // A checkpoint of this step may be there: damaged and passed over, or saved before the evaluation of this step was
            // done. It is set aside, where it still counts, until the new one is in its place.
            if place.exists() {
                let replaced = self.path.join(format!("{name}{REPLACED}"));
                remove_if_there(&replaced)?;
                fs_err::rename(&place, replaced)?;
            }
            fs_err::rename(&temporary, &place)?;
            sync_directory(&self.path)?;
            Ok(place)
        };
        let place = write()
            .inspect_err(|_| drop(remove_if_there(&temporary)))
            .with_context(|| format!("cannot save a checkpoint at step {}", progress.step))?;
        self.prune(progress)?;
        Ok(place)
    }

    /// Removes old checkpoints, those that the run has gone back behind, and leftovers of writes that were cut off.
    fn prune(&self, progress: &Progress) -> anyhow::Result<()> {
        let best = progress.best.map(|best| best.step);
        let mut kept = 0;
        for checkpoint in list(&self.path)?.into_iter().rev() {
            let is_of_the_run = checkpoint.step <= progress.step && !checkpoint.replaced;
            let is_recent = is_of_the_run && kept < self.keep;
            kept += usize::from(is_recent);
            let is_best = is_of_the_run && Some(checkpoint.step) == best;
            if !is_recent && !is_best {
                remove_if_there(&checkpoint.path)?;
            }
        }
        for entry in fs_err::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes up the newest checkpoint that is whole and what is expected. `None` if there are no checkpoints; an error if there are some and none can be used.
    pub fn resume(&self, expected: &Expected, device: &Device) -> anyhow::Result<Option<Resumed>> {
        let mut damaged = Vec::new();
        let checkpoints = list(&self.path)?;
        for Checkpoint { path, .. } in checkpoints.iter().rev() {
            match load(path, expected, device) {
                Ok((trainee, progress)) => return Ok(Some(Resumed { trainee, progress, damaged })),
                Err(error) => damaged.push(format!("`{}`: {error:#}", path.display())),
            }
        }
        if damaged.is_empty() {
            return Ok(None);
        }
        bail!(
            "no checkpoint of this run can be used:\n  {}\n\nhint: `--fresh` starts over and keeps what is there",
            damaged.join("\n  ")
        )
    }
}

fn load(path: &Path, expected: &Expected, device: &Device) -> anyhow::Result<(Trainee, Progress)> {
    let Expected { card, optimizer, ema, checkpoint_activations } = expected;
    let state = read_state(path)?;
    verify(path, &state)?;
    let file = ModelFile::read(&path.join(MODEL))?;
    if file.card.config() != card.config() || file.card.classes != card.classes {
        bail!("`{MODEL}` is a network of another shape or of other classes than the recipe and the data make");
    }
    if state.progress.recipe_hash != card.recipe_hash {
        bail!("it was written by a run of another recipe");
    }
    let (model, _) = file.into_model(&training_device(device, *checkpoint_activations))?;
    let slots_file = path.join(OPTIMIZER);
    let slots = weights::decode(&slots_file, &fs_err::read(&slots_file)?)?;
    let mut optimizer = optimizer.clone();
    optimizer
        .load_state(state.optimizer_steps, slots, device)
        .map_err(|name| anyhow::anyhow!("`{OPTIMIZER}` holds `{name}`, which is no optimizer state"))?;
    let mut trainee = Trainee::new(model, optimizer);
    trainee.loss_scale = state.loss_scale.map(|state| LossScale::from_state(state, device));
    if let Some(rule) = ema {
        let tensors = ModelFile::read(&path.join(EMA))?.into_tensors();
        let average = trainee.model.valid().load_state(tensors).with_context(|| format!("`{EMA}`"))?;
        trainee.ema = Some(Ema::new(average, *rule));
    }
    Ok((trainee, state.progress))
}

/// Compares the other files with their checksums.
fn verify(path: &Path, state: &StateFile) -> anyhow::Result<()> {
    for (name, expected) in &state.checksums {
        if checksum(&fs_err::read(path.join(name))?) != *expected {
            bail!("`{name}` is damaged: its checksum is not the one that was written");
        }
    }
    Ok(())
}

/// Reads the state and compares it with its own checksum.
fn read_state(path: &Path) -> anyhow::Result<StateFile> {
    let text = fs_err::read_to_string(path.join(STATE))?;
    let value: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("`{STATE}` is damaged"))?;
    let version = value.get("format_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(FORMAT_VERSION) {
        bail!("`{STATE}` has format version {version}; this program reads version {FORMAT_VERSION}");
    }
    let mut state: StateFile = serde_json::from_value(value).with_context(|| format!("`{STATE}` is damaged"))?;
    let expected = state.checksums.remove(STATE);
    if expected != Some(checksum(&serde_json::to_vec(&state)?)) {
        bail!("`{STATE}` is damaged: its checksum is not the one that was written");
    }
    Ok(state)
}

/// A checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checkpoint {
    step: u64,
    /// Another one of the same step was about to take its place.
    replaced: bool,
    path: PathBuf,
}

/// Checkpoints in a directory, oldest first.
fn list(path: &Path) -> anyhow::Result<Vec<Checkpoint>> {
    let mut found = Vec::new();
    if !path.exists() {
        return Ok(found);
    }
    for entry in fs_err::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix("step-")) else { continue };
        let (number, replaced) = name.strip_suffix(REPLACED).map_or((name, false), |number| (number, true));
        if let Ok(step) = number.parse() {
            found.push(Checkpoint { step, replaced, path: entry.path() });
        }
    }
    found.sort_unstable_by_key(|checkpoint| (checkpoint.step, !checkpoint.replaced));
    Ok(found)
}

/// The model file that a user means by a path: a model file itself, a checkpoint, or a run, whose best checkpoint it is. For a
/// checkpoint it is the average of the weights, if there is one; for a folder with weights in several files it is their index, or the
/// folder if the files are only numbered.
pub fn find_model(path: &Path) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    if !path.exists() {
        bail!("`{}` does not exist", path.display());
    }
    if !path.join(MODEL).is_file()
        && let Some(shards) = Shards::find(path)?
    {
        return Ok(shards.path().to_path_buf());
    }
    let checkpoint = if path.join(MODEL).is_file() { path.to_path_buf() } else { best_checkpoint(path)? };
    check_files(&checkpoint)?;
    let average = checkpoint.join(EMA);
    Ok(if average.is_file() { average } else { checkpoint.join(MODEL) })
}

/// The models of the last checkpoints of a run, oldest first: `count` of them, or as many as its recipe keeps; of a checkpoint or a
/// model file its own. The best checkpoint, which is kept besides and may be old, is not among them unless it is recent.
///
/// Not the averages that were kept beside them: those hold what came before already.
pub fn last_models(path: &Path, count: Option<usize>) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() || !path.join(MODEL).is_file() && Shards::find(path)?.is_some() {
        return Ok(vec![path.to_path_buf()]);
    }
    let checkpoints = if path.join(MODEL).is_file() {
        vec![path.to_path_buf()]
    } else {
        let mut checkpoints = list(&crate::run_directory::checkpoints(path))?;
        checkpoints.retain(|checkpoint| !checkpoint.replaced);
        if checkpoints.is_empty() {
            bail!("`{}` is neither a run with checkpoints, nor a checkpoint, nor a model file", path.display());
        }
        let keep = run_directory::read_recipe(path)?.checkpoint.keep;
        let count = count.unwrap_or(keep.min(checkpoints.len()));
        if count > keep.min(checkpoints.len()) {
            bail!(
                "`{}` keeps its last {} checkpoints, fewer than the {count} to average\n\n\
                 hint: train with `--set checkpoint.keep={count}`, or leave `--last` out",
                path.display(),
                keep.min(checkpoints.len())
            );
        }
        checkpoints.into_iter().rev().take(count).rev().map(|checkpoint| checkpoint.path).collect()
    };
    checkpoints
        .into_iter()
        .map(|checkpoint| {
            check_files(&checkpoint)?;
            Ok(checkpoint.join(MODEL))
        })
        .collect()
}

/// Compares the files of a checkpoint with their checksums, where it has them: a model file that was copied out of its checkpoint
/// has nothing to be compared with.
fn check_files(checkpoint: &Path) -> anyhow::Result<()> {
    if !checkpoint.join(STATE).is_file() {
        return Ok(());
    }
    read_state(checkpoint)
        .and_then(|state| verify(checkpoint, &state))
        .with_context(|| format!("the checkpoint `{}` cannot be used", checkpoint.display()))
}

/// The best checkpoint of a run, or its last.
fn best_checkpoint(run: &Path) -> anyhow::Result<PathBuf> {
    let checkpoints = list(&crate::run_directory::checkpoints(run))?;
    let Some(last) = checkpoints.last() else {
        bail!(
            "`{}` is neither a run, nor a checkpoint, nor a model file: it has no `{MODEL}` and no checkpoints",
            run.display()
        );
    };
    let state =
        read_state(&last.path).with_context(|| format!("the checkpoint `{}` cannot be used", last.path.display()))?;
    let best = state.progress.best.map(|best| best.step);
    let chosen = checkpoints.iter().rfind(|checkpoint| Some(checkpoint.step) == best);
    Ok(chosen.unwrap_or(last).path.clone())
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    if path.exists() { fs_err::remove_dir_all(path) } else { Ok(()) }
}

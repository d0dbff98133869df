//! A run's directory: `recipe.toml`, `environment.json`, `device-check.json` of a run on a GPU, `metrics.jsonl`, `tensorboard/`, `checkpoints/`, and the lock that
//! keeps a second run out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;

use crate::device::ChosenDevice;
use crate::recipe::{self, Recipe};

/// A locked run directory. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

/// How a recipe of the directory differs from the one given.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{path}` holds a run of another recipe:\n  {}\n\nhint: `--weights '{path}' --out ANOTHER` continues training from the weights of \
     this run, `--out ANOTHER` alone starts a new run, and `--fresh` starts over here (the old run is kept beside it)",
    .differences.join("\n  ")
)]
pub struct RecipeChanged {
    /// The directory.
    pub path: PathBuf,
    /// One line for each key: what the directory has, what was given.
    pub differences: Vec<String>,
}

impl RunDirectory {
    /// Opens or makes the directory and locks it. With `fresh`, a run that is already there is moved aside.
    pub fn open(path: &Path, fresh: bool) -> anyhow::Result<Self> {
        if path.exists() && !path.is_dir() {
            bail!("`{}` is a file; a run needs a directory\n\nhint: choose another place with `--out`", path.display());
        }
        fs_err::create_dir_all(path).context("cannot make the run directory")?;
        let held = lock(path)?;
        if !fresh || !path.join(RECIPE).exists() {
            return Ok(Self { path: path.to_path_buf(), _lock: held });
        }
        // Held until the run is away, so that no other program takes it up in between; but Windows renames no directory with an
        // open file in it.
        let held = (!cfg!(windows)).then_some(held);
        fs_err::rename(path, unused_name(path)).context("cannot move the old run aside")?;
        drop(held);
        Self::open(path, false)
    }

    /// Checks that the recipe that is there, if one is, gives the same run.
    pub fn check(&self, recipe: &Recipe) -> anyhow::Result<()> {
        check_recipe(&self.path, recipe)
    }

    /// Writes the recipe, and what the run computes on.
    pub fn keep(&self, recipe: &Recipe, device: &ChosenDevice) -> anyhow::Result<()> {
        fs_err::create_dir_all(self.checkpoints())?;
        // The recipe alone reproduces the run from any working directory.
        let mut recipe = recipe.clone();
        recipe.data.path = recipe.data.path.map(std::path::absolute).transpose()?;
        write_whole(&self.path.join(ENVIRONMENT), environment(device).to_string().as_bytes())?;
        write_whole(&self.path.join(RECIPE), recipe.to_toml().as_bytes())
    }

    /// Writes what is known about the device, in the form of a report to those who write its kernels and driver.
    pub fn keep_device_check(&self, record: &impl serde::Serialize) -> anyhow::Result<()> {
        write_whole(&self.path.join(DEVICE_CHECK), serde_json::to_string_pretty(record)?.as_bytes())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        checkpoints(&self.path)
    }

    /// The metrics, one JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        metrics_file(&self.path)
    }

    /// TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }
}

/// Where the checkpoints of a run lie.
pub fn checkpoints(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The recipe of a run, every default written out.
pub fn recipe_file(run: &Path) -> PathBuf {
    run.join(RECIPE)
}

/// The recipe that a run keeps.
pub fn read_recipe(run: &Path) -> anyhow::Result<Recipe> {
    let file = recipe_file(run);
    recipe::parse(&file.display().to_string(), &fs_err::read_to_string(&file)?, &[])
        .with_context(|| format!("the recipe of the run in `{}` cannot be read", run.display()))
}

/// Checks that the recipe of a directory, if one is there, gives the same run.
pub fn check_recipe(run: &Path, recipe: &Recipe) -> anyhow::Result<()> {
    if recipe_file(run).exists() {
        let differences = read_recipe(run)?.identity().difference(&recipe.identity());
        if !differences.is_empty() {
            return Err(RecipeChanged { path: run.to_path_buf(), differences }.into());
        }
    }
    Ok(())
}

/// The metrics of a run, one JSON object a line.
pub fn metrics_file(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// What a run was made on.
pub fn environment_file(run: &Path) -> PathBuf {
    run.join(ENVIRONMENT)
}

const RECIPE: &str = "recipe.toml";
const ENVIRONMENT: &str = "environment.json";
const DEVICE_CHECK: &str = "device-check.json";

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join("run.lock");
    let lock = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .context("cannot write to the run directory")?;
    let (lock, _) = lock.into_parts();
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another run is at work in `{}`\n\nhint: wait for it, or choose another place with `--out`",
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock `{}`", file.display())),
    }
}

/// `runs/a` → `runs/a.old-1`, or the next number that is free.
fn unused_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 1;
    loop {
        let candidate = path.with_file_name(format!("{name}.old-{number}"));
        if !candidate.exists() {
            return candidate;
        }
        number += 1;
    }
}

/// Writes a file of a run so that a reader, or a crash, finds the old or the new contents, never a part.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace(path, bytes).context("cannot write to the run directory")
}

/// Writes any file so that a reader, or a crash, finds the old or the new contents, never a part.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let write = || -> std::io::Result<()> {
        let mut file = fs_err::File::create(&temporary)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs_err::rename(&temporary, path)?;
        // The parent of a bare name is the empty path, which cannot be opened.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))
    };
    write().inspect_err(|_| drop(fs_err::remove_file(&temporary)))
}

/// Makes a rename or a new entry last. Directories can be synced on Unix only.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { fs_err::File::open(path)?.sync_all() } else { Ok(()) }
}

fn environment(device: &ChosenDevice) -> serde_json::Value {
    json!({
        "ghostnet": env!("CARGO_PKG_VERSION"),
        "burn": "0.22.1",
        "device": device.name,
        "device_check": device.check,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "command": std::env::args().collect::<Vec<_>>(),
    })
}

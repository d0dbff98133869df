//! `ghostnet import`

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use ghostnet::Variant;
use serde::Serialize;

use super::{FormatArgs, GlobalArgs, HintArgs, locate};
use crate::import::Hints;
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::run_directory;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Weights of other programs: safetensors, .pth, .pt or .pdparams (nothing in them is executed), a folder with safetensors in
    /// several parts, or hf:OWNER/NAME
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The model file to write [default: the name of FILE, as .safetensors in the current folder]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Take what fits: tensors that are missing or of another shape start random, unknown ones are left out
    #[arg(long)]
    partial: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Written {
    model: PathBuf,
    variant: Variant,
    width: f64,
    num_classes: usize,
    notes: Vec<String>,
}

/// The name of the file, or of the repository, in the current folder.
fn default_out(name: &Path) -> PathBuf {
    let last = name.file_name().unwrap_or(OsStr::new("weights")).to_string_lossy();
    match name.to_str().is_some_and(|name| name.starts_with("hf:")) {
        true => PathBuf::from(format!("{}.safetensors", last.split('@').next().unwrap_or_default())),
        // An index stands for the model whose parts it lists.
        false => Path::new(last.strip_suffix(".index.json").unwrap_or(&last)).with_extension("safetensors"),
    }
}

pub(super) fn run(args: ImportArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let name = args.file.clone();
    let file = locate(args.file, global, output)?;
    let imported = FoundModel::read(&file)?.import(Hints { partial: args.partial, ..args.hints.read()? })?;
    let out = match args.out {
        Some(out) => out,
        None => {
            let out = default_out(&name);
            if out.exists() {
                bail!("`{}` is there already\n\nhint: name it, or another, with `-o`", out.display());
            }
            out
        }
    };
    if out.exists() && out.canonicalize().ok() == file.canonicalize().ok() {
        bail!("the model file would take the place of `{}`\n\nhint: name another with `-o`", file.display());
    }
    let card = &imported.file.card;
    let (variant, width, num_classes) = (card.variant, card.width, card.classes.len());
    run_directory::replace(&out, &imported.file.encode()?)
        .with_context(|| format!("cannot write `{}`", out.display()))?;
    args.format.print(&Written { model: out, variant, width, num_classes, notes: imported.notes }, |written| {
        let mut text = written.model.display().to_string();
        for note in &written.notes {
            let _ = write!(text, "\n  {note}");
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

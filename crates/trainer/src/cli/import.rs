//! `ghostnet import`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use serde::Serialize;

use super::{FormatArgs, GlobalArgs, HintArgs, locate};
use crate::import::Hints;
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::recipe::Variant;
use crate::run_directory;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Weights of other programs: safetensors, .pth, .pt or .pdparams, nothing in which is executed, or hf:OWNER/NAME
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

pub(super) fn run(args: ImportArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let file = locate(args.file, global, output)?;
    let imported = FoundModel::read(&file)?.import(Hints { partial: args.partial, ..args.hints.read()? })?;
    let out = args.out.unwrap_or_else(|| {
        let name = file.file_name().map_or_else(|| PathBuf::from("weights"), PathBuf::from);
        name.with_extension("safetensors")
    });
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

//! `ghostnet import`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use serde::Serialize;

use super::FormatArgs;
use crate::import::{Hints, import};
use crate::recipe::Variant;
use crate::run_directory;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Weights of other programs: safetensors, .pth, .pt or .pdparams; nothing in it is executed
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The model file to write [default: the name of FILE, as .safetensors in the current folder]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// A text file with the names of the classes, one a line, in the order of the network's scores
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    classes: Option<PathBuf>,
    /// Which set of weights, where a file has several, for instance `state_dict`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
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

fn class_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs_err::read_to_string(path)?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    match names.iter().position(String::is_empty) {
        Some(line) => bail!("line {} of `{}` is empty, and each class needs a name", line + 1, path.display()),
        None => Ok(names),
    }
}

pub(super) fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let classes = args.classes.as_deref().map(class_names).transpose()?;
    let imported = import(&args.file, &fs_err::read(&args.file)?, Hints { key: args.key, classes })?;
    let out = args.out.unwrap_or_else(|| {
        let name = args.file.file_name().map_or_else(|| PathBuf::from("weights"), PathBuf::from);
        name.with_extension("safetensors")
    });
    if out.exists() && out.canonicalize().ok() == args.file.canonicalize().ok() {
        bail!("the model file would take the place of `{}`\n\nhint: name another with `-o`", args.file.display());
    }
    let card = &imported.model.card;
    let (variant, width, num_classes) = (card.variant, card.width, card.classes.len());
    run_directory::replace(&out, &imported.model.encode()?)
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

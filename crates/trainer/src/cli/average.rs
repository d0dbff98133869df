//! `ghostnet average`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};
use serde::Serialize;

use super::{FormatArgs, HintArgs, tell_notes};
use crate::average::average;
use crate::checkpoint::last_models;
use crate::observe::Output;
use crate::run_directory;

/// Arguments of `average`.
#[derive(Debug, Args)]
pub(super) struct AverageArgs {
    /// Runs (their last checkpoints), checkpoints, model files, or weights of timm or PyTorch
    #[arg(value_name = "RUN|CHECKPOINT", required = true, value_hint = ValueHint::AnyPath)]
    models: Vec<PathBuf>,
    /// How many checkpoints of a run [default: those that its `checkpoint.keep` keeps]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// The model file to write
    #[arg(short, long, value_name = "FILE", default_value = "average.safetensors", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Averaged {
    model: PathBuf,
    averaged: Vec<PathBuf>,
}

pub(super) fn run(args: AverageArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let mut averaged = Vec::new();
    for path in &args.models {
        averaged.extend(last_models(path, args.last.map(|last| last as usize))?);
    }
    let average = average(&averaged, &args.hints.read()?)?;
    tell_notes(&average, output);
    run_directory::replace(&args.out, &average.file.encode()?)
        .with_context(|| format!("cannot write `{}`", args.out.display()))?;
    args.format.print(&Averaged { model: args.out, averaged }, |averaged| {
        let mut text = format!("{}: the average of", averaged.model.display());
        for path in &averaged.averaged {
            let _ = write!(text, "\n  {}", path.display());
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

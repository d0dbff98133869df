//! `ghostnet eval`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum, ValueHint};
use imageset::{DataSet, DecodeLimits, Loader, LoaderConfig, OnCorrupt, OpenOptions, Pipeline, SourceKind};
use serde::Serialize;

use super::{DataArgs, DeviceArgs, FormatArgs, GlobalArgs, UsageError, interrupted};
use crate::checkpoint::find_model;
use crate::evaluate::{Evaluation, Evaluator};
use crate::interrupt::Interrupt;
use crate::observe::Output;
use crate::relabel::Relabelled;
use crate::weights::{ModelCard, ModelFile};
use crate::{device, plan, recipe, run_directory};

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// A run (its best checkpoint), a checkpoint, or a model file
    #[arg(value_name = "RUN|CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Which images
    #[arg(long, value_enum, default_value_t)]
    split: Split,
    /// Images in a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value_t)]
    on_corrupt: Corrupt,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Split {
    /// Images held out
    #[default]
    Val,
    /// Images trained on
    Train,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Corrupt {
    /// Stop and name it
    #[default]
    Error,
    /// Leave it out and count it
    Skip,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: PathBuf,
    step: u64,
    data: String,
    classes: Vec<String>,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// The run that a model file lies in, if it lies in one: `RUN/checkpoints/step-N/model.safetensors`.
fn run_of(model: &Path) -> Option<&Path> {
    model.ancestors().nth(3).filter(|run| run_directory::recipe_file(run).is_file())
}

fn open(model: &Path, card: &ModelCard, data: Option<PathBuf>) -> anyhow::Result<DataSet> {
    match (run_of(model), data) {
        (Some(run), data) => {
            let file = run_directory::recipe_file(run);
            let text = fs_err::read_to_string(&file)?;
            let mut recipe = recipe::parse(&file.display().to_string(), &text, &[])?;
            plan::open_data(&mut recipe, data)
        }
        (None, Some(path)) => {
            let (val_fraction, seed) = (card.val_fraction, card.seed);
            let options = OpenOptions { kind: SourceKind::Auto, path: Some(path), val_fraction, seed };
            DataSet::open(&options).context("cannot open the data")
        }
        (None, None) => Err(UsageError(format!(
            "`{}` is not part of a run, so its images are not known\n\nhint: name them with `--data`",
            model.display()
        ))
        .into()),
    }
}

pub(super) fn run(args: EvalArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let path = find_model(&args.model)?;
    let file = ModelFile::read(&path)?;
    let data = open(&path, &file.card, args.data.data)?;
    let device = device::choose(args.device.device)?;
    if let Some(note) = device.note.as_ref().filter(|_| !global.quiet) {
        output.line(note);
    }
    let (model, card) = file.into_model(&device.device)?;
    let split = match args.split {
        Split::Val => &data.val,
        Split::Train => &data.train,
    };
    let source = Relabelled::new(Arc::clone(split), &data.classes, &card.classes)?;
    let config = LoaderConfig {
        batch_size: args.batch_size as usize,
        workers: std::thread::available_parallelism().map_or(1, usize::from).min(8),
        on_corrupt: match args.on_corrupt {
            Corrupt::Error => OnCorrupt::Error,
            Corrupt::Skip => OnCorrupt::Skip,
        },
        limits: DecodeLimits::default(),
        ..LoaderConfig::default()
    };
    let pipeline = Pipeline::new(&card.transforms, card.image_size).context("the model's preprocessing")?;
    let loader = Loader::new(Arc::new(source), pipeline, config)?;
    let evaluator = Evaluator {
        loader: &loader,
        normalization: card.normalization,
        classes: &card.classes,
        device: &device.device,
    };
    let interrupt = Interrupt::listen()?;
    let Some(evaluation) = evaluator.run(&model.fold(), &|| interrupt.requested())? else {
        return Ok(interrupted());
    };
    let report = Report { model: path, step: card.step, data: data.description, classes: card.classes, evaluation };
    args.format.print(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Classes up to which the confusion matrix is printed; beyond, it does not fit a screen.
const MAX_PRINTED_CLASSES: usize = 20;

fn text(report: &Report) -> String {
    let Report { model, step, data, evaluation, .. } = report;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut text = format!(
        "model   {}, step {step}\ndata    {data}\nimages  {}\ntop-1   {}\ntop-5   {}\nloss    {:.4}",
        model.display(),
        evaluation.num_images,
        percent(evaluation.top1),
        percent(evaluation.top5),
        evaluation.loss
    );
    if evaluation.num_skipped > 0 {
        let _ = write!(text, "\nskipped {} damaged images", evaluation.num_skipped);
        for name in &evaluation.skipped {
            let _ = write!(text, "\n  {name}");
        }
    }
    let width = evaluation.per_class.iter().map(|score| score.class.chars().count()).max().unwrap_or(0).max(5);
    let _ = write!(text, "\n\n{:width$}  images    top-1", "class");
    for score in &evaluation.per_class {
        let top1 = score.top1.map_or("-".to_string(), percent);
        let _ = write!(text, "\n{:width$}  {:>6}  {top1:>8}", score.class, score.num_images);
    }
    if evaluation.per_class.len() <= MAX_PRINTED_CLASSES {
        let _ = write!(text, "\n\nconfusion: rows are true classes, columns predicted ones, in the order above");
        for (score, row) in evaluation.per_class.iter().zip(&evaluation.confusion) {
            let row: String = row.iter().map(|count| format!("{count:>6}")).collect();
            let _ = write!(text, "\n{:width$}{row}", score.class);
        }
    }
    text
}

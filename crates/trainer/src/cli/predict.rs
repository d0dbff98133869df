//! `ghostnet predict`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::{DeviceArgs, EXIT_FAILED, Format, FormatArgs, GlobalArgs, describe};
use crate::checkpoint::find_model;
use crate::device;
use crate::observe::Output;
use crate::predict::{Prediction, Predictor};
use crate::weights::ModelFile;

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// A run (its best checkpoint), a checkpoint, or a model file
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// Image files
    #[arg(value_name = "IMAGE", required = true, value_hint = ValueHint::FilePath)]
    images: Vec<PathBuf>,
    /// How many classes to print for each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Images that cannot be read are named on stderr; the others are classified all the same.
pub(super) fn run(args: PredictArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let path = find_model(&args.model)?;
    let device = device::choose(args.device.device)?;
    if let Some(note) = device.note.as_ref().filter(|_| !global.quiet) {
        output.line(note);
    }
    let (model, card) = ModelFile::read(&path)?.into_model(&device.device)?;
    let predictor = Predictor::new(&model, card, device.device)?;
    let mut predictions = Vec::new();
    for image in &args.images {
        match predictor.predict(image, args.top as usize) {
            Ok(prediction) => predictions.push(prediction),
            Err(error) => output.line(&describe(&error)),
        }
    }
    let failed = predictions.len() < args.images.len();
    if !predictions.is_empty() || args.format.format == Format::Json {
        args.format.print(&predictions, |predictions| text(predictions))?;
    }
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

fn text(predictions: &[Prediction]) -> String {
    let mut text = String::new();
    for prediction in predictions {
        let _ = writeln!(text, "{}", prediction.image.display());
        for guess in &prediction.guesses {
            let _ = writeln!(text, "  {:6.2} %  {}", guess.probability * 100.0, guess.class);
        }
    }
    text.trim_end().to_string()
}

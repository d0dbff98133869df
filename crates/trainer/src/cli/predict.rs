//! `ghostnet predict`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use imageset::RgbImage;

use super::{
    DeviceArgs, EXIT_FAILED, Format, FormatArgs, GlobalArgs, HintArgs, UsageError, describe, locate, tell_notes,
};
use crate::device::{self, DeviceChoice};
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::predict::{Prediction, Predictor};

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// A run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, hf:OWNER/NAME, or an
    /// exported ONNX file
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// Image files
    #[arg(value_name = "IMAGE", required = true, value_hint = ValueHint::FilePath)]
    images: Vec<PathBuf>,
    /// How many classes to print for each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Write what the network sees of each image into a folder, as PNG files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// Images that cannot be read are named on stderr; the others are classified all the same.
pub(super) fn run(args: PredictArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let found = FoundModel::read(&locate(args.model.clone(), global, output)?)?;
    if let Some(onnx) = found.onnx() {
        if !matches!(args.device.device, DeviceChoice::Auto | DeviceChoice::Cpu) {
            return Err(UsageError("ONNX files are run on the CPU: leave `--device` out".to_string()).into());
        }
        return classify(&Predictor::onnx(onnx, found.into_bytes())?, &args, output);
    }
    let opened = found.open(args.hints.read()?)?;
    tell_notes(&opened, global, output);
    let device = device::choose(args.device.device)?;
    if let Some(note) = device.note.as_ref().filter(|_| !global.quiet) {
        output.line(note);
    }
    device.run(|| {
        let (model, card) = opened.file.into_model(&device.device)?;
        classify(&Predictor::new(&model, card, device.device.clone())?, &args, output)
    })
}

fn classify(predictor: &Predictor, args: &PredictArgs, output: &Output) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.inputs {
        write_inputs(predictor, &args.images, folder, output)?;
    }
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

/// `FOLDER/00000-NAME.png` for each image that can be read, in their order.
fn write_inputs(predictor: &Predictor, images: &[PathBuf], folder: &Path, output: &Output) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder)?;
    for (at, path) in images.iter().enumerate() {
        // What cannot be read is told when it is to be classified.
        let Ok(RgbImage { width, height, pixels }) = predictor.prepare(path) else { continue };
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let file = folder.join(format!("{at:05}-{name}.png"));
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(&pixels, width, height, ExtendedColorType::Rgb8)?;
        fs_err::write(file, bytes)?;
    }
    output.line(&format!("{}: what the network sees of each image", folder.display()));
    Ok(())
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

//! `ghostnet predict`

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use imageset::RgbImage;
use imageset::name::path_text;

use super::{
    CheckedDeviceArgs, EXIT_FAILED, Format, FormatArgs, GlobalArgs, HintArgs, SizeArgs, UsageError, describe, locate,
    tell_notes,
};
use crate::device::DeviceChoice;
use crate::device_check::Workload;
use crate::import::ONE_OUTPUT;
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::predict::{self, Prediction, Predictor, inputs};
use crate::weights::ModelCard;

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// A run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, hf:OWNER/NAME, or an
    /// exported ONNX file
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// Image files, folders of them, lists of them (CSV, TSV, JSON, or text with a path in each line), or patterns such as 'photos/*.jpg'
    #[arg(value_name = "IMAGE", required = true, value_hint = ValueHint::AnyPath)]
    images: Vec<PathBuf>,
    /// How many classes to print for each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Write what the network sees of each image into a folder, as PNG files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    device: CheckedDeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    hints: HintArgs,
}

/// Images that cannot be read are named on stderr; the others are classified all the same.
pub(super) fn run(args: PredictArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let found = FoundModel::read(&locate(args.model.clone(), global, output)?)?;
    if let Some(onnx) = found.onnx() {
        if !matches!(args.device.choice.device, DeviceChoice::Auto | DeviceChoice::Cpu) {
            return Err(UsageError("ONNX files are run on the CPU: leave `--device` out".to_string()).into());
        }
        let predictor = Predictor::onnx(onnx, found.into_bytes())?;
        tell_one_output(predictor.card(), output);
        return classify(&predictor, &args, output);
    }
    let opened = found.open(args.hints.read()?)?;
    tell_notes(&opened, output);
    if !opened.notes.iter().any(|note| note == ONE_OUTPUT) {
        tell_one_output(&opened.file.card, output);
    }
    let device = args.device.open(output)?;
    let device = args.device.prove(device, Workload::of_model(&opened.file.card, vec![1]), output)?.device;
    device.run(|| {
        let (model, card) = opened.file.into_model(&device.device)?;
        classify(&Predictor::new(&model, card, device.device.clone())?, &args, output)
    })
}

fn tell_one_output(card: &ModelCard, output: &Output) {
    if card.classes.len() == 1 {
        output.line(&format!("note: {ONE_OUTPUT}"));
    }
}

fn classify(predictor: &Predictor, args: &PredictArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let mut answers = Answers::new(args.format.format);
    let mut failed = false;
    if let Some(folder) = &args.inputs {
        fs_err::create_dir_all(folder)?;
    }
    let limits = args.size.limits();
    let mut places = 0..;
    for argument in &args.images {
        let files = match inputs::expand(argument) {
            Ok(inputs) => {
                inputs.left_out.line().iter().for_each(|line| output.line(line));
                inputs.files
            }
            Err(error) => {
                output.error(&describe(&error));
                failed = true;
                continue;
            }
        };
        for (path, place) in files.into_iter().zip(&mut places) {
            let prediction = predict::decode(&path, &limits).and_then(|picture| {
                let input = args.inputs.as_ref().map(|folder| (predictor.prepared(picture.clone()), folder));
                Ok((predictor.predict(&path, picture, args.top as usize)?, input))
            });
            let written = match prediction {
                Ok((prediction, input)) => {
                    answers.print(&prediction)?;
                    input.map_or(Ok(()), |(input, folder)| write_input(&input, &path, place, folder))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                output.error(&describe(&error));
                failed = true;
            }
        }
    }
    answers.end()?;
    if let Some(folder) = args.inputs.as_ref() {
        output.line(&format!("{}: what the network sees of each image", folder.display()));
    }
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// Writes `FOLDER/00000-NAME.png`, the number being the place of the image among all.
fn write_input(input: &RgbImage, path: &Path, place: usize, folder: &Path) -> anyhow::Result<()> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = folder.join(format!("{place:05}-{name}.png"));
    let mut bytes = Vec::new();
    let RgbImage { width, height, pixels } = input;
    PngEncoder::new(&mut bytes).write_image(pixels, *width, *height, ExtendedColorType::Rgb8)?;
    Ok(fs_err::write(file, bytes)?)
}

/// Prints each answer as soon as it is there: as text, or as one JSON array.
struct Answers {
    format: Format,
    count: usize,
}

impl Answers {
    fn new(format: Format) -> Self {
        Self { format, count: 0 }
    }

    fn print(&mut self, prediction: &Prediction) -> anyhow::Result<()> {
        let answer = match self.format {
            Format::Text => format!("{}\n", text(prediction)),
            Format::Json => {
                let before = if self.count == 0 { "[" } else { "," };
                // No string holds a line break, so each one begins a line of the array.
                format!("{before}\n  {}", serde_json::to_string_pretty(prediction)?.replace('\n', "\n  "))
            }
        };
        self.count += 1;
        write(&answer)
    }

    fn end(self) -> anyhow::Result<()> {
        match (self.format, self.count) {
            (Format::Text, _) => Ok(()),
            (Format::Json, 0) => write("[]\n"),
            (Format::Json, _) => write("\n]\n"),
        }
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

fn text(prediction: &Prediction) -> String {
    // A line break in a name would look like another answer.
    let mut text = path_text(&prediction.image).replace('\n', "\\n").replace('\r', "\\r");
    for guess in &prediction.guesses {
        let _ = write!(text, "\n  {:6.2} %  {}", guess.probability * 100.0, guess.class);
    }
    text
}

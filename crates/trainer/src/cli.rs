//! The command line. Each command is a thin layer over the library; this file says what can be typed, what is printed where
//! and with which code the program ends: 0 done, 1 ran but failed, 2 usage or recipe error, 130 interrupted after saving.

mod average;
mod bench;
mod completions;
mod data;
mod devices;
mod eval;
mod export;
mod import;
mod inspect;
mod predict;
mod report;
mod train;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use imageset::{ClassList, DecodeLimits, Interpolation};

use crate::device::{self, ChosenDevice, DeviceChoice};
use crate::device_check::{self, Proven, Request, Workload};
use crate::hub::{Hub, HubError, Repository};
use crate::import::{Hints, Preparation};
use crate::interrupt::EXIT_INTERRUPTED;
use crate::model_source::{NoData, NotForeign, OpenedModel};
use crate::observe::Output;
use crate::plan::Unfit;
use crate::recipe::RecipeError;
use crate::run_directory::RecipeChanged;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Trains GhostNet image classifiers on any GPU or none, and applies them.
#[derive(Debug, Parser)]
#[command(name = "ghostnet", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::TrainArgs,
    #[command(flatten)]
    global: GlobalArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train, or go on with a run (the default command)
    Train(train::TrainArgs),
    /// Measure a model: top-1, top-5, loss, figures of each class, confusions, calibration, surest mistakes
    Eval(eval::EvalArgs),
    /// Write a model for other programs: safetensors or ONNX, checked before it is in place
    Export(export::ExportArgs),
    /// Make a model file of weights that timm or PyTorch wrote
    Import(import::ImportArgs),
    /// Compare a model with numbers that another program computed, stage by stage
    Verify(verify::VerifyArgs),
    /// Average the weights of checkpoints into one model file
    Average(average::AverageArgs),
    /// Classify image files
    Predict(predict::PredictArgs),
    /// Show what a recipe or a checkpoint holds: layers, parameters, multiply-adds, preprocessing
    Inspect(inspect::InspectArgs),
    /// Write a page on runs: curves, confusions, surest mistakes, images as trained on
    Report(report::ReportArgs),
    /// Look at a data set
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Time training steps, inference or loading on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// List what there is to compute on, what each can do, and which one `--device auto` takes
    Devices(devices::DevicesArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Options of every command.
#[derive(Debug, Clone, Copy, Args)]
struct GlobalArgs {
    /// Print results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Draw no progress bars
    #[arg(long, global = true)]
    no_progress: bool,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Args)]
struct DeviceArgs {
    /// `auto`, `cpu`, `wgpu`, `wgpu:N` or `ndarray`; `ghostnet devices` lists them
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

/// Where to compute, if it computes rightly.
#[derive(Debug, Clone, Copy, Args)]
struct CheckedDeviceArgs {
    #[command(flatten)]
    choice: DeviceArgs,
    /// Use a GPU without first checking that it computes what the CPU computes
    #[arg(long)]
    no_device_check: bool,
}

impl CheckedDeviceArgs {
    /// Opens the device, and tells what there is to tell about it.
    fn open(self, output: &Output) -> anyhow::Result<ChosenDevice> {
        let device = device::choose(self.choice.device)?;
        device.note.iter().for_each(|note| output.line(note));
        Ok(device)
    }

    /// Has the device checked for its work, unless it is the CPU; gives what takes its place if it is wrong.
    fn prove(self, device: ChosenDevice, workload: Workload, output: &Output) -> anyhow::Result<Proven> {
        let request = Request {
            workload,
            device,
            is_named: matches!(self.choice.device, DeviceChoice::Wgpu(_)),
            is_skipped: self.no_device_check,
            is_repeated: false,
        };
        device_check::prove(request, output)
    }
}

/// How figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object, for programs
    Json,
}

#[derive(Debug, Clone, Copy, Args)]
struct FormatArgs {
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl FormatArgs {
    /// Prints a result to stdout.
    fn print<T: serde::Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Text => print(&text(value)),
            Format::Json => print(&serde_json::to_string_pretty(value)?),
        }
    }
}

/// A data set in place of the recipe's.
#[derive(Debug, Clone, Args)]
struct DataArgs {
    /// Images to use: a folder of class folders, a tar file, a list (CSV, TSV, JSON), or a folder of IDX files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::AnyPath)]
    data: Option<PathBuf>,
}

/// How the images of a data set are read.
#[derive(Debug, Clone, Args)]
struct ReadingArgs {
    /// Files and folders of the data to leave out, as in `.gitignore`, such as `*.tif` or `/unsorted`; may be repeated
    #[arg(long, value_name = "PATTERN")]
    leave_out: Vec<String>,
    #[command(flatten)]
    size: SizeArgs,
}

/// How large images may be.
#[derive(Debug, Clone, Args)]
struct SizeArgs {
    /// Maximum number of pixels of an image, width times height [default: 178956970; for a run's own data, the value in its recipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,
}

impl SizeArgs {
    fn limits(&self) -> DecodeLimits {
        self.max_pixels.map_or_else(DecodeLimits::default, DecodeLimits::with_max_pixels)
    }
}

/// What weights of another program do not say of themselves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What weights of another program do not say")]
struct HintArgs {
    /// A file with the names of the classes in the order of the network's outputs: one per line, JSON, or a table with a header such as
    /// `id,name`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    classes: Option<PathBuf>,
    /// The set of weights to read from a file that holds several, for instance `state_dict`: the key of a dictionary, or a prefix of the
    /// tensor names that ends before a dot
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The filter that images were resized with; the official code has bilinear [default: bicubic, as
    /// timm has it; bilinear for networks of PaddleClas]
    #[arg(long, value_enum, value_name = "FILTER")]
    interpolation: Option<Filter>,
    /// The central square's side as a part of the resized image's shorter side [default: 0.875]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    crop_pct: Option<f64>,
    /// Height and width of that square, pixels [default: 224]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    image_size: Option<u32>,
}

/// How a resized pixel is computed from its neighbours.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Filter {
    Bicubic,
    Bilinear,
    Nearest,
}

impl From<Filter> for Interpolation {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Bicubic => Self::Bicubic,
            Filter::Bilinear => Self::Bilinear,
            Filter::Nearest => Self::Nearest,
        }
    }
}

/// Above 0, at most 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number".to_string())?;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("it must be above 0 and at most 1".to_string()) }
}

impl HintArgs {
    fn read(&self) -> anyhow::Result<Hints> {
        let preparation = Preparation {
            image_size: self.image_size,
            interpolation: self.interpolation.map(Interpolation::from),
            crop_pct: self.crop_pct,
            normalization: None,
        };
        let classes = self.classes.as_deref().map(class_names).transpose()?;
        Ok(Hints { key: self.key.clone(), classes, preparation, partial: false })
    }
}

fn class_names(path: &Path) -> anyhow::Result<Vec<String>> {
    Ok(ClassList::parse(path, &fs_err::read(path)?)?.into_names())
}

/// A path as it is; the weights of a repository of Hugging Face, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, where they lie in the
/// cache, after they were downloaded if need be, with their description beside them.
fn locate(name: PathBuf, global: GlobalArgs, output: &Output) -> anyhow::Result<PathBuf> {
    let Some(repository) = name.to_str().and_then(|name| name.strip_prefix("hf:")) else { return Ok(name) };
    let usage = |error: HubError| UsageError(error.to_string());
    let repository: Repository = repository.parse().map_err(usage)?;
    let hub = Hub::from_environment().map_err(usage)?;
    let bar = (!global.no_progress && !global.quiet).then(|| output.bytes_bar(&repository.to_string()));
    let weights = hub.weights(&repository, &mut |progress| {
        if let Some(bar) = &bar {
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let weights = weights?;
    // The description has to lie beside the weights; the code that uses the weights reports what it says.
    match hub.config(&repository.at(&weights)) {
        Ok(_) | Err(HubError::Config { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    weights.note.iter().for_each(|note| output.line(&format!("note: {note}")));
    output.line(&format!("note: {repository}, commit {:.7}, is in `{}`", weights.commit, weights.path.display()));
    Ok(weights.path)
}

/// Says what weights of another program were taken for.
fn tell_notes(opened: &OpenedModel, output: &Output) {
    opened.notes.iter().for_each(|note| output.line(&format!("note: {note}")));
}

/// Prints data to stdout. Everything else goes to stderr.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// A mistake in what was typed, for exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Parses the arguments, runs the command, reports what went wrong.
pub fn main() -> ExitCode {
    imageset::quiet_decoder_panics();
    let Cli { command, train, global } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, mistakes to stderr with code 2. Nobody is left to tell of a failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let output = Output::stderr(global.quiet);
    let result = match command.unwrap_or(Command::Train(train)) {
        Command::Train(args) => train::run(args, global, &output),
        Command::Eval(args) => eval::run(args, global, &output),
        Command::Export(args) => export::run(args, global, &output),
        Command::Import(args) => import::run(args, global, &output),
        Command::Verify(args) => verify::run(args, global, &output),
        Command::Average(args) => average::run(args, &output),
        Command::Predict(args) => predict::run(args, global, &output),
        Command::Inspect(args) => inspect::run(args, global, &output),
        Command::Report(args) => report::run(args, &output),
        Command::Data(command) => data::run(command, &output),
        Command::Bench(command) => bench::run(command, global, &output),
        Command::Devices(args) => devices::run(args, &output),
        Command::Completions(args) => completions::run(args),
    };
    match result {
        Ok(code) => code,
        #[cfg(feature = "wgpu")]
        Err(error) if error.is::<device_check::Restart>() => match device_check::restart(&error) {
            Ok(code) => code,
            Err(error) => {
                output.error(&describe(&error));
                ExitCode::from(EXIT_FAILED)
            }
        },
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&describe(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<UsageError>()
            || cause.is::<NoData>()
            || cause.is::<NotForeign>()
            || cause.is::<RecipeError>()
            || cause.is::<RecipeChanged>()
            || cause.is::<Unfit>()
    };
    if error.chain().any(usage) { EXIT_USAGE } else { EXIT_FAILED }
}

/// `error:`, the chain of causes one a line, and a hint, which any message may carry behind a blank line, at the end.
fn describe(error: &anyhow::Error) -> String {
    let mut hints = Vec::new();
    let mut lines = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = cause.to_string();
        let (message, hint) = message.split_once("\n\nhint: ").unwrap_or((&message, ""));
        if !hint.is_empty() {
            hints.push(format!("\nhint: {hint}"));
        }
        let title = if depth == 0 { "error" } else { "  cause" };
        let line = format!("{title}: {message}");
        if !lines.iter().any(|earlier: &String| earlier.ends_with(message)) {
            lines.push(line);
        }
    }
    lines.extend(hints.into_iter().take(1));
    lines.join("\n")
}

/// The code after an interrupt; a run has been saved.
fn interrupted() -> ExitCode {
    ExitCode::from(EXIT_INTERRUPTED)
}

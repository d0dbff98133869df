//! The command line. Each command is a thin layer over the library; this file says what can be typed, what is printed where
//! and with which code the program ends: 0 done, 1 ran but failed, 2 usage or recipe error, 130 interrupted after saving.

mod average;
mod bench;
mod completions;
mod data;
mod eval;
mod import;
mod inspect;
mod predict;
mod report;
mod train;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::device::DeviceChoice;
use crate::interrupt::EXIT_INTERRUPTED;
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
    /// Make a model file of weights that timm or PyTorch wrote
    Import(import::ImportArgs),
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
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Options of every command.
#[derive(Debug, Clone, Copy, Args)]
struct GlobalArgs {
    /// Print errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Draw no progress bars
    #[arg(long, global = true)]
    no_progress: bool,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Args)]
struct DeviceArgs {
    /// `auto`, `cpu`, `wgpu`, `wgpu:N` or `ndarray`
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
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
    let Cli { command, train, global } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, mistakes to stderr with code 2. Nobody is left to tell of a failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let output = Output::stderr();
    let result = match command.unwrap_or(Command::Train(train)) {
        Command::Train(args) => train::run(args, global, &output),
        Command::Eval(args) => eval::run(args, global, &output),
        Command::Import(args) => import::run(args),
        Command::Average(args) => average::run(args),
        Command::Predict(args) => predict::run(args, global, &output),
        Command::Inspect(args) => inspect::run(args),
        Command::Report(args) => report::run(args, global, &output),
        Command::Data(command) => data::run(command, global, &output),
        Command::Bench(command) => bench::run(command, global, &output),
        Command::Completions(args) => completions::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.line(&describe(&error));
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
        cause.is::<UsageError>() || cause.is::<RecipeError>() || cause.is::<RecipeChanged>() || cause.is::<Unfit>()
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

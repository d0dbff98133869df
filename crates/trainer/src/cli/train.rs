//! `ghostnet train`

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::{CheckedDeviceArgs, DataArgs, FormatArgs, GlobalArgs, interrupted, locate};
use crate::device_check::Workload;
use crate::interrupt::Interrupt;
use crate::lr_find::{STEPS, find_learning_rate};
use crate::observe::{ConsoleObserver, Output};
use crate::plan::{Inputs, Plan};
use crate::recipe;
use crate::run_directory::{self, RunDirectory};
use crate::train::{Outcome, Surroundings, check_device, train};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// The recipe: a path, a file in configs/, or a built-in name
    #[arg(long, value_name = "RECIPE", default_value = "ghostnet_1x.toml", value_hint = ValueHint::FilePath)]
    config: String,
    #[command(flatten)]
    data: DataArgs,
    /// Start from what was trained before: a run (its best checkpoint), a checkpoint, a model file, weights of timm or PyTorch, or
    /// hf:OWNER/NAME
    #[arg(long, value_name = "WEIGHTS", value_hint = ValueHint::AnyPath)]
    weights: Option<PathBuf>,
    /// The network to read from a file of another program in `--weights` that holds several, for instance `student`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Learn from another network too, one for the same classes: a run (its best checkpoint), a checkpoint, or a model file
    #[arg(long, value_name = "TEACHER", value_hint = ValueHint::AnyPath)]
    teacher: Option<PathBuf>,
    /// Where the run goes; a run that is there goes on [default: runs/RECIPE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Change a key of the recipe, for instance `optimizer.learning_rate=0.1`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: CheckedDeviceArgs,
    /// Start over; a run that is there is moved aside
    #[arg(long)]
    fresh: bool,
    /// Print the plan and the curve of the learning rate, and stop
    #[arg(long)]
    dry_run: bool,
    /// Try learning rates from low to high in a hundred steps, show the loss, and stop; nothing is written
    #[arg(long, conflicts_with_all = ["dry_run", "fresh"])]
    lr_find: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// `configs/imagenet/ghostnet_1x.toml` → `runs/imagenet/ghostnet_1x`, and with `--data photos/` `runs/imagenet/ghostnet_1x-photos`:
/// what differs gets a directory of its own.
fn default_directory(recipe: &str, data: Option<&Path>) -> PathBuf {
    let recipe = Path::new(recipe);
    let recipe = recipe.strip_prefix("configs").unwrap_or(recipe);
    let is_plain = recipe.components().all(|component| matches!(component, Component::Normal(_)));
    let folder = recipe.parent().filter(|_| is_plain).unwrap_or(Path::new(""));
    let mut name = recipe.file_stem().unwrap_or_default().to_os_string();
    if let Some(data) = data.and_then(Path::file_stem) {
        name.push("-");
        name.push(data);
    }
    Path::new("runs").join(folder).join(name)
}

pub(super) fn run(args: TrainArgs, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let loaded = recipe::load(&args.config, &args.set)?;
    let out = args.out.unwrap_or_else(|| default_directory(&loaded.name, args.data.data.as_deref()));
    let resumes =
        !args.fresh && run_directory::checkpoints(&out).read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let located = |name: Option<PathBuf>| {
        let Some(name) = name else { return Ok(None) };
        match locate(name.clone(), global, output) {
            // A run goes on without what it began with.
            Err(_) if resumes => Ok(Some(name)),
            located => located.map(Some),
        }
    };
    let (data, weights, teacher) = (args.data.data, located(args.weights)?, located(args.teacher)?);
    let mut plan = Plan::new(loaded.recipe, Inputs { data, weights, key: args.key, teacher, resumes })?;
    for warning in &plan.data.warnings {
        output.line(&format!("warning: {warning}"));
    }
    let pretrained = plan.pretrained.iter().flat_map(|pretrained| &pretrained.notes);
    for note in pretrained.chain(plan.teacher.iter().flat_map(|teacher| &teacher.notes)) {
        output.line(&format!("note: {note}"));
    }
    plan.data.left_out.line().iter().for_each(|line| output.line(line));
    if args.dry_run {
        let summary = plan.summary(args.device.choice.device.processor());
        args.format.print(&summary, |summary| format!("{summary}\n\n{}", summary.learning_rate_chart()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let device = args.device.open(output)?;
    check_device(&plan, &device)?;
    if !args.fresh && !args.lr_find {
        run_directory::check_recipe(&out, &plan.recipe)?;
    }
    if let Some(warning) = plan.check_images(&|_| ())? {
        output.line(&format!("warning: {warning}"));
    }
    let proven = args.device.prove(device, Workload::of_run(&plan), output)?;
    let device = proven.device;
    #[cfg(feature = "wgpu")]
    let device_check = proven.record;
    plan.precision = proven.precision;
    // From here on Ctrl-C means: save, then stop.
    let interrupt = Interrupt::listen()?;
    if args.lr_find {
        output.line(&format!("taking up to {STEPS} steps with a growing learning rate"));
        let found = device.run(|| find_learning_rate(&plan, &device.device, &|| interrupt.requested()))?;
        let Some(found) = found else { return Ok(interrupted()) };
        args.format.print(&found, ToString::to_string)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Nothing on disk is touched before all that can be wrong has been looked at.
    let directory = RunDirectory::open(&out, args.fresh)?;
    directory.check(&plan.recipe)?;
    #[cfg(feature = "wgpu")]
    device_check.iter().try_for_each(|record| directory.keep_device_check(record))?;
    output.line(&format!("recipe {}, device {device}, run in `{}`", loaded.name, out.display()));
    output.line(&plan.summary(device.processor()).to_string());
    let verbosity = if global.quiet { -1 } else { 0 };
    let outcome = train(
        &plan,
        Surroundings {
            directory: &directory,
            device: &device,
            console: ConsoleObserver::with_output(output.clone(), verbosity, !global.no_progress),
            output,
            interrupt: &interrupt,
        },
    )?;
    match outcome {
        Outcome::Interrupted => return Ok(interrupted()),
        Outcome::AlreadyCompleted => output.line(&format!(
            "the run in `{0}` is complete; `--weights '{0}' --out ANOTHER` continues from its weights with a new schedule, and `--fresh` \
             starts over",
            out.display()
        )),
        Outcome::Completed => {}
    }
    Ok(ExitCode::SUCCESS)
}

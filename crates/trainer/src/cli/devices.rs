//! `ghostnet devices`

use std::process::ExitCode;

use clap::{Args, ValueHint};
use imageset::source::counted;

use super::{CheckedDeviceArgs, DeviceArgs, FormatArgs};
use crate::device::{AdapterFacts, AdapterKind, CpuFacts, DeviceChoice, Facts, Survey, SurveyedDevice};
#[cfg(feature = "wgpu")]
use crate::device_check::{self, Attempt, Record};
use crate::device_check::{Request, Workload};
use crate::observe::Output;
use crate::recipe;

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Check that a GPU computes what the CPU computes: each operation of a recipe's network at its shapes, forward and backward, and a whole
    /// training pass
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "auto")]
    check: Option<DeviceChoice>,
    /// The recipe whose network, images and precision are checked
    #[arg(long, value_name = "RECIPE", default_value = "ghostnet_1x.toml", requires = "check", value_hint = ValueHint::FilePath)]
    config: String,
    /// Change a key of the recipe, for instance `data.batch_size=128`
    #[arg(long, value_name = "KEY=VALUE", requires = "check")]
    set: Vec<String>,
    /// Draw other weights, images and operands
    #[arg(long, value_name = "N", default_value_t = 0, requires = "check")]
    seed: u64,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn run(args: DevicesArgs, output: &Output) -> anyhow::Result<ExitCode> {
    match args.check {
        Some(choice) => check(choice, &args, output),
        None => {
            args.format.print(&Survey::new(), text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Classes where the recipe leaves them to its data: those of ImageNet.
const NUM_CLASSES: usize = 1000;

fn check(choice: DeviceChoice, args: &DevicesArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let recipe = recipe::load(&args.config, &args.set)?.recipe;
    let device = CheckedDeviceArgs { choice: DeviceArgs { device: choice }, no_device_check: false }.open(output)?;
    if !device.is_gpu() {
        output.line(&format!("`{device}` is what GPUs are compared with, so there is nothing to check"));
        return Ok(ExitCode::SUCCESS);
    }
    recipe.train.precision.check(&device.device)?;
    let network = recipe.model.network(recipe.model.num_classes.unwrap_or(NUM_CLASSES));
    let workload = Workload { seed: args.seed, ..Workload::of_recipe(&recipe, network) };
    checked(&Request { workload, device, is_named: true, is_skipped: false, is_repeated: true }, args.format, output)
}

#[cfg(feature = "wgpu")]
fn checked(request: &Request, format: FormatArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let record = device_check::examine(request, output)?;
    format.print(&record, record_text)?;
    Ok(if record.settings.cpu { ExitCode::from(super::EXIT_FAILED) } else { ExitCode::SUCCESS })
}

#[cfg(not(feature = "wgpu"))]
fn checked(_: &Request, _: FormatArgs, _: &Output) -> anyhow::Result<ExitCode> {
    unreachable!("a build without GPU support has no GPU")
}

#[cfg(feature = "wgpu")]
fn record_text(record: &Record) -> String {
    let mut lines = vec![record.device.lines().next().unwrap_or_default().to_string()];
    for Attempt { settings, result } in &record.attempts {
        let worst = result.operations.iter().max_by(|a, b| a.error.total_cmp(&b.error));
        let wrong = result.operations.iter().filter(|operation| operation.fault.is_some()).count();
        lines.push(format!("\nchecked with {settings}, {:.1} s", result.seconds));
        lines.push(format!("  operations         {}, {wrong} wrong", result.operations.len()));
        if let Some(worst) = worst {
            lines.push(format!("  largest error      {:.1e} of the result: {}", worst.error, worst.description));
        }
        for pass in &result.passes {
            lines.push(format!("  loss               {:.1e}", pass.loss_error));
            for (what, worst) in [("gradients", &pass.worst_gradient), ("running statistics", &pass.worst_statistic)] {
                lines.push(format!("  {what:18} {:.1e} at most, {}", worst.error, worst.name));
            }
        }
        for logits in &result.logits {
            lines.push(format!("  logits             {logits:.1e}"));
        }
        if let Some(update) = &result.update {
            lines.push(format!("  updates            {:.1e} at most, {}", update.worst.error, update.worst.name));
        }
        lines.extend(result.faults.iter().map(|fault| format!("  wrong              {fault}")));
    }
    lines.push(match record.settings.cpu {
        true => "\nThe device computes wrongly, and no way around it was found: use `--device cpu`.".to_string(),
        false if record.attempts.len() > 1 => {
            format!("\nThe device computes what the CPU computes, with {}.", record.settings)
        }
        false => "\nThe device computes what the CPU computes.".to_string(),
    });
    if let Some(path) = record.path() {
        lines.push(format!("all figures: {}", path.display()));
    }
    lines.join("\n")
}

fn text(survey: &Survey) -> String {
    let mut lines: Vec<String> = survey.devices.iter().map(device_text).collect();
    if !survey.gpu_support {
        lines.push("this build has no GPU support; `--features wgpu` adds it".to_string());
    } else if survey.devices.len() == 1 {
        lines.push("no adapter was found; is a graphics driver installed?".to_string());
    }
    lines.push(format!("`--device auto` takes `{}`", survey.auto));
    lines.join("\n\n")
}

fn device_text(device: &SurveyedDevice) -> String {
    let SurveyedDevice { device, reason, facts } = device;
    let lines = match facts {
        Facts::Cpu(CpuFacts { name, threads, kernels, .. }) => {
            vec![format!("{name}, {}", counted(*threads, "thread")), format!("kernels    {kernels}")]
        }
        Facts::Adapter(facts) => adapter_text(facts),
    };
    let rest = lines[1..].iter().map(|line| format!("\n        {line}")).collect::<String>();
    format!("{device:8}{}{rest}\n        auto       {reason}", lines[0])
}

fn adapter_text(facts: &AdapterFacts) -> Vec<String> {
    let kind = match facts.kind {
        AdapterKind::Discrete => "a card of its own",
        AdapterKind::Integrated => "integrated",
        AdapterKind::Virtual => "virtual",
        AdapterKind::Software => "software",
        AdapterKind::Other => "of unknown kind",
    };
    let features = [("f16", facts.f16), ("subgroups", facts.subgroups), ("timestamp queries", facts.timestamp_queries)];
    let of = |wanted: bool| {
        let names: Vec<_> = features.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect();
        if names.is_empty() { "none".to_string() } else { names.join(", ") }
    };
    vec![
        format!("{}, {kind}", facts.name),
        format!("driver     {}, {}; {}", facts.driver, facts.driver_version, facts.api),
        format!("supported  {}; not supported: {}", of(true), of(false)),
        format!("a tensor   at most {} MiB; wgpu does not tell how much memory there is", facts.max_buffer_bytes >> 20),
    ]
}

//! `ghostnet devices`

use std::process::ExitCode;

use clap::Args;
use imageset::source::counted;

use super::FormatArgs;
use crate::device::{AdapterFacts, AdapterKind, CpuFacts, Facts, Survey, SurveyedDevice};

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn run(args: DevicesArgs) -> anyhow::Result<ExitCode> {
    args.format.print(&Survey::new(), text)?;
    Ok(ExitCode::SUCCESS)
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

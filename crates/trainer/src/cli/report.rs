//! `ghostnet report`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueHint};
use serde::Serialize;

use super::{CheckedDeviceArgs, DataArgs, FormatArgs, UsageError};
use crate::device_check::Workload;
use crate::observe::Output;
use crate::report::{BATCH_SIZE, Report, RunReport, is_run};
use crate::run_directory;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Directories of runs; several are compared
    #[arg(value_name = "RUN", required = true, value_hint = ValueHint::DirPath)]
    runs: Vec<PathBuf>,
    /// The file to write: one HTML page that needs nothing beside it
    #[arg(short, long, value_name = "FILE", default_value = "report.html", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: CheckedDeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Written {
    report: PathBuf,
    runs: Vec<WrittenRun>,
}

/// A run in a few words.
#[derive(Debug, Serialize)]
struct WrittenRun {
    run: String,
    /// Best top-1 of the run, 0 to 1.
    top1: Option<f64>,
    /// The same where images bear several labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_average_precision: Option<f64>,
    /// Epoch at which it was.
    epoch: Option<f64>,
    /// Whether its best checkpoint was measured for the report.
    measured: bool,
    /// What could not be had and why.
    notes: Vec<String>,
}

impl From<RunReport> for WrittenRun {
    fn from(run: RunReport) -> Self {
        let best = run.history.best();
        let figure =
            |is_multi_label| best.filter(|_| run.history.is_multi_label == is_multi_label).map(|best| best.figure);
        Self {
            top1: figure(false),
            mean_average_precision: figure(true),
            epoch: best.map(|best| best.epoch),
            measured: run.measured.is_some(),
            run: run.name,
            notes: run.notes,
        }
    }
}

/// Looks at all that was typed before anything takes time.
fn check(runs: &[PathBuf], out: &Path) -> Result<(), UsageError> {
    for run in runs {
        let run_name = run.display();
        if !run.exists() {
            return Err(UsageError(format!("`{run_name}` does not exist")));
        }
        if !is_run(run) {
            return Err(UsageError(format!(
                "`{run_name}` is no run: it has no `recipe.toml`\n\n\
                 hint: name a directory that `ghostnet train` has written, for instance `runs/ghostnet_1x`"
            )));
        }
    }
    if out.is_dir() {
        let file = out.join("report.html");
        return Err(UsageError(format!(
            "`{}` is a directory, and the report is a file\n\nhint: `-o {}`",
            out.display(),
            file.display()
        )));
    }
    match out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        Some(folder) => Err(UsageError(format!("the folder `{}` for the report does not exist", folder.display()))),
        None => Ok(()),
    }
}

pub(super) fn run(args: ReportArgs, output: &Output) -> anyhow::Result<ExitCode> {
    check(&args.runs, &args.out)?;
    let mut device = args.device.open(output)?;
    let mut runs = Vec::new();
    for path in &args.runs {
        // Of a run without a readable checkpoint nothing is computed.
        if let Some(card) = RunReport::card(path) {
            device = args.device.prove(device, Workload::of_model(&card, vec![BATCH_SIZE]), output)?.device;
        }
        output.line(&format!("measuring the run in `{}` on {device}", path.display()));
        let run = device.run(|| RunReport::gather(path, args.data.data.clone(), &device.device))?;
        for note in &run.notes {
            output.line(&format!("note: {note}"));
        }
        runs.push(run);
    }
    let report = Report { runs };
    run_directory::replace(&args.out, report.page().as_bytes()).context("cannot write the report")?;
    let runs = report.runs.into_iter().map(WrittenRun::from).collect();
    args.format.print(&Written { report: args.out, runs }, |written| written.report.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

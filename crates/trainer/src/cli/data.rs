//! `ghostnet data check` and `ghostnet data stats`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueHint};
use imageset::{CheckReport, DataSet, DecodeLimits, ImageStats, OpenOptions, PartsReport, SourceKind};
use serde::Serialize;

use super::{EXIT_FAILED, FormatArgs, GlobalArgs};
use crate::observe::Output;

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// List damaged images, duplicates, and images per class
    Check(DataSetArgs),
    /// Count and measure: images per class, sizes, mean and standard deviation of each channel
    Stats(DataSetArgs),
}

#[derive(Debug, Args)]
pub(super) struct DataSetArgs {
    /// A folder of class folders, a tar file, a list (CSV, TSV, JSON), or a folder of IDX files
    #[arg(value_name = "DIR", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

/// Something about both splits.
#[derive(Debug, Serialize)]
struct Splits<T> {
    data: String,
    classes: Vec<String>,
    train: T,
    val: T,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    splits: Splits<CheckReport>,
    /// Groups of images that show the same picture, in both splits.
    across: Vec<Vec<String>>,
}

fn open(path: PathBuf) -> anyhow::Result<DataSet> {
    // As a recipe that says nothing of it splits.
    let options = OpenOptions { kind: SourceKind::Auto, path: Some(path), val_fraction: 0.2, ..OpenOptions::default() };
    DataSet::open(&options).context("cannot open the data")
}

pub(super) fn run(command: DataCommand, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let limits = DecodeLimits::default();
    let (DataCommand::Check(args) | DataCommand::Stats(args)) = &command;
    let data = open(args.path.clone())?;
    if !global.quiet {
        for warning in &data.warnings {
            output.line(&format!("warning: {warning}"));
        }
    }
    match &command {
        DataCommand::Check(args) => {
            let PartsReport { train, val, across } = imageset::check_parts(&data, &limits, 0, &|_| ());
            let DataSet { classes, description, has_own_split, .. } = data;
            // A split that is ours is mended before it is used.
            let across = if has_own_split { across } else { Vec::new() };
            let failed = !train.corrupt.is_empty() || !val.corrupt.is_empty();
            let splits = Splits { data: description, classes, train, val };
            args.format.print(&Checked { splits, across }, check_text)?;
            Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
        }
        DataCommand::Stats(args) => {
            let DataSet { classes, train, val, description, .. } = data;
            let [train, val] = [train, val].map(|split| imageset::stats(split.as_ref(), &limits, 0, &|_| ()));
            args.format.print(&Splits { data: description, classes, train, val }, stats_text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A line a class: images of it in both splits.
fn class_table(classes: &[String], train: &[usize], val: &[usize]) -> String {
    let width = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:width$}  train    val", "class");
    for ((class, train), val) in classes.iter().zip(train).zip(val) {
        let _ = write!(text, "\n{class:width$} {train:>6} {val:>6}");
    }
    text
}

fn check_text(Checked { splits, across }: &Checked) -> String {
    let Splits { data, classes, train, val } = splits;
    let table = class_table(classes, &train.class_counts, &val.class_counts);
    let mut text = format!("{data}\n\n{table}");
    for (name, split) in [("train", train), ("val", val)] {
        let CheckReport {
            num_images,
            class_counts: _,
            corrupt,
            duplicates,
            contradicting_duplicates,
            near_duplicates,
            compared_near_duplicates,
        } = split;
        let near = match compared_near_duplicates {
            true => format!("{} groups of near duplicates", near_duplicates.len()),
            false => "too many images to look for near duplicates".to_string(),
        };
        let _ = write!(
            text,
            "\n\n{name}: {num_images} images, {} damaged, {} groups of duplicates, {} of them across classes, {near}",
            corrupt.len(),
            duplicates.len(),
            contradicting_duplicates.len()
        );
        for image in corrupt {
            let _ = write!(text, "\n  damaged `{}`: {}", image.name, image.reason);
        }
        for group in duplicates {
            let across = if contradicting_duplicates.contains(group) { ", in different classes" } else { "" };
            let _ = write!(text, "\n  the same image `{}`{across}", group.join("`, `"));
        }
        for group in near_duplicates {
            let _ = write!(text, "\n  nearly the same image `{}`", group.join("`, `"));
        }
    }
    if !across.is_empty() {
        let _ = write!(text, "\n\n{} groups of images in both train and val", across.len());
    }
    for group in across {
        let _ = write!(text, "\n  nearly the same image `{}`", group.join("`, `"));
    }
    text
}

fn stats_text(report: &Splits<ImageStats>) -> String {
    let Splits { data, classes, train, val } = report;
    let table = class_table(classes, &train.class_counts, &val.class_counts);
    let mut text = format!("{data}\n\n{table}");
    for (name, split) in [("train", train), ("val", val)] {
        let ImageStats { num_images, num_corrupt, num_gray, mean, std, width, height, .. } = split;
        let channels = |values: &[f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
        let _ = write!(
            text,
            "\n\n{name}: {num_images} images, {num_corrupt} damaged, {num_gray} gray\n  mean    {}\n  std     {}\n  \
             width   {} to {} px, median {}\n  height  {} to {} px, median {}",
            channels(mean),
            channels(std),
            width.min,
            width.max,
            width.median,
            height.min,
            height.max,
            height.median
        );
    }
    text
}

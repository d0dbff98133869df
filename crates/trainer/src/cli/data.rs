//! `ghostnet data check` and `ghostnet data stats`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueHint};
use imageset::source::counted;
use imageset::{CheckReport, ContradictingImage, DataSet, ImageStats, LeftOutCount, OpenOptions, PartsReport};
use serde::{Serialize, Serializer};

use super::{EXIT_FAILED, FormatArgs, ReadingArgs};
use crate::measured_data::open_any;
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
    reading: ReadingArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A report on each split.
#[derive(Debug, Serialize)]
#[serde(bound = "T: Serialize")]
struct Splits<T> {
    data: String,
    classes: Vec<String>,
    left_out: Vec<LeftOutCount>,
    /// `train` and `val`; or `images` alone, where there is nothing to train on.
    #[serde(flatten, serialize_with = "as_map")]
    splits: Vec<(&'static str, T)>,
}

fn as_map<T: Serialize, S: Serializer>(splits: &[(&'static str, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(splits.iter().map(|(name, split)| (name, split)))
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    splits: Splits<CheckReport>,
    /// Groups of images that show the same picture, in both splits.
    across: Vec<Vec<String>>,
    /// Groups of images that are the same picture, in different classes.
    contradictions: Vec<Vec<ContradictingImage>>,
}

/// Opens the data with the default split of a recipe; a test set is opened as a whole.
fn open(DataSetArgs { path, reading, .. }: &DataSetArgs) -> anyhow::Result<(DataSet, Option<String>)> {
    let options = OpenOptions {
        path: Some(path.clone()),
        val_fraction: 0.2,
        leave_out: reading.leave_out.clone(),
        max_pixels: reading.size.max_pixels,
        ..OpenOptions::default()
    };
    open_any(&options, |options| DataSet::open(options).context("cannot open the data"))
}

/// Pairs the names of the splits of a data set with the report on each.
fn named<T>(is_trainable: bool, train: T, val: T) -> Vec<(&'static str, T)> {
    if is_trainable { vec![("train", train), ("val", val)] } else { vec![("images", val)] }
}

pub(super) fn run(command: DataCommand, output: &Output) -> anyhow::Result<ExitCode> {
    let (DataCommand::Check(args) | DataCommand::Stats(args)) = &command;
    let (data, note) = open(args)?;
    let is_trainable = note.is_none();
    note.iter().for_each(|note| output.line(&format!("note: {note}")));
    for warning in &data.warnings {
        output.line(&format!("warning: {warning}"));
    }
    data.left_out.line().iter().for_each(|line| output.line(line));
    match &command {
        DataCommand::Check(args) => {
            let PartsReport { train, val, across, contradictions } = imageset::check_parts(&data, 0, &|_| ());
            let DataSet { classes, description, left_out, has_own_split, .. } = data;
            // A split that is ours is mended before it is used.
            let across = if has_own_split { across } else { Vec::new() };
            let failed = !train.corrupt.is_empty() || !val.corrupt.is_empty() || !contradictions.is_empty();
            let splits = named(is_trainable, train, val);
            let splits = Splits { data: description, classes, left_out: left_out.counts(), splits };
            args.format.print(&Checked { splits, across, contradictions }, check_text)?;
            Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
        }
        DataCommand::Stats(args) => {
            let DataSet { classes, train, val, description, left_out, .. } = data;
            let [train, val] = [train, val].map(|split| imageset::stats(split.as_ref(), 0, &|_| ()));
            let splits = named(is_trainable, train, val);
            let splits = Splits { data: description, classes, left_out: left_out.counts(), splits };
            args.format.print(&splits, stats_text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A line for each class: images of it in each split.
fn class_table(classes: &[String], counts: &[(&'static str, &[usize])]) -> String {
    let width = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:width$}", "class");
    for (name, _) in counts {
        let _ = write!(text, " {name:>6}");
    }
    for (label, class) in classes.iter().enumerate() {
        let _ = write!(text, "\n{class:width$}");
        for (_, counts) in counts {
            let _ = write!(text, " {:>6}", counts[label]);
        }
    }
    text
}

fn check_text(Checked { splits, across, contradictions }: &Checked) -> String {
    let Splits { data, classes, splits, .. } = splits;
    let counts: Vec<_> = splits.iter().map(|(name, split)| (*name, &split.class_counts[..])).collect();
    let mut text = format!("{data}\n\n{}", class_table(classes, &counts));
    for (name, split) in splits {
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
            true => format!("{} of near duplicates", counted(near_duplicates.len(), "group")),
            false => "too many images to look for near duplicates".to_string(),
        };
        let _ = write!(
            text,
            "\n\n{name}: {}, {} damaged, {} of duplicates, {} of them across classes, {near}",
            counted(*num_images, "image"),
            corrupt.len(),
            counted(duplicates.len(), "group"),
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
        let _ = write!(text, "\n\n{} of images in both train and val", counted(across.len(), "group"));
    }
    for group in across {
        let _ = write!(text, "\n  nearly the same image `{}`", group.join("`, `"));
    }
    if !contradictions.is_empty() {
        let _ = write!(text, "\n\n{} in more than one class", counted(contradictions.len(), "picture"));
    }
    for group in contradictions {
        let image = |image: &ContradictingImage| format!("`{}` ({})", image.name, image.classes.join(", "));
        let _ = write!(text, "\n  {}", group.iter().map(image).collect::<Vec<_>>().join(", "));
    }
    text
}

fn stats_text(report: &Splits<ImageStats>) -> String {
    let Splits { data, classes, splits, .. } = report;
    let counts: Vec<_> = splits.iter().map(|(name, split)| (*name, &split.class_counts[..])).collect();
    let mut text = format!("{data}\n\n{}", class_table(classes, &counts));
    for (name, split) in splits {
        let ImageStats { num_images, num_corrupt, num_gray, mean, std, width, height, .. } = split;
        let channels = |values: &[f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
        let _ = write!(
            text,
            "\n\n{name}: {}, {num_corrupt} damaged, {num_gray} gray\n  mean    {}\n  std     {}\n  \
             width   {} to {} px, median {}\n  height  {} to {} px, median {}",
            counted(*num_images, "image"),
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

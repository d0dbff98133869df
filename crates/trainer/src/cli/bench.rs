//! `ghostnet bench step`, `ghostnet bench infer` and `ghostnet bench loader`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueHint};
use ghostnet::Variant;
use imageset::Transform;
use serde::Serialize;

use super::{DataArgs, DeviceArgs, FormatArgs, GlobalArgs, UsageError, locate, tell_notes};
use crate::batch::Normalization;
use crate::bench::{self, Floors, LayerTiming, Timing, Work};
use crate::import::Hints;
use crate::model_source::FoundModel;
use crate::observe::Output;
use crate::recipe::{self, Precision, Recipe};
use crate::weights::ModelCard;
use crate::{device, plan};

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Time whole training steps: forward, backward, update
    Step(NetworkArgs),
    /// Time inference
    Infer(NetworkArgs),
    /// Time the loading of images: reading, decoding, transforms
    Loader(LoaderArgs),
}

/// What to time and for how long.
#[derive(Debug, Args)]
struct WorkArgs {
    /// The recipe whose work is timed
    #[arg(long, value_name = "RECIPE", default_value = "imagenet/ghostnet_1x.toml", value_hint = ValueHint::FilePath)]
    config: String,
    /// Change a key of the recipe
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Height and width of the images, pixels [default: the recipe's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    image_size: Option<u32>,
    /// Images at a time [default: 32]
    #[arg(long, value_name = "IMAGES", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Seconds to measure, after a warm-up
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    #[command(flatten)]
    work: WorkArgs,
    /// Width of the network [default: the recipe's]
    #[arg(long)]
    width: Option<f64>,
    /// The network and image size of a run, a checkpoint, a model file, weights of timm or PyTorch, or
    /// hf:OWNER/NAME, in place of the recipe's
    #[arg(long, value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath, conflicts_with = "width")]
    weights: Option<PathBuf>,
    /// The set of weights to read from a file of another program that holds several
    #[arg(long, value_name = "KEY", requires = "weights")]
    key: Option<String>,
    /// Threads of the CPU [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Time the parts of the network too
    #[arg(long)]
    per_layer: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
pub(super) struct LoaderArgs {
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Threads that decode; 0 decodes in the main thread [default: the recipe's, or one for each core up to 8]
    #[arg(long)]
    workers: Option<u16>,
    /// Feed a device too, whose steps take this many milliseconds: is the loader as fast as it is alone?
    #[arg(long, value_name = "MILLISECONDS")]
    step_ms: Option<f64>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was timed and how it went.
#[derive(Debug, Serialize)]
struct NetworkReport {
    work: &'static str,
    device: String,
    kernels: String,
    threads: usize,
    variant: Variant,
    width: f64,
    image_size: usize,
    batch_size: usize,
    precision: Precision,
    #[serde(flatten)]
    timing: Timing,
    peak_memory_bytes: Option<u64>,
    device_memory_bytes: Option<u64>,
    #[serde(flatten)]
    floors: Floors,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<LayerTiming>>,
}

#[derive(Debug, Serialize)]
struct LoaderReport {
    work: &'static str,
    data: String,
    workers: usize,
    image_size: u32,
    batch_size: usize,
    #[serde(flatten)]
    timing: Timing,
    #[serde(skip_serializing_if = "Option::is_none")]
    fed: Option<FedReport>,
    peak_memory_bytes: Option<u64>,
}

/// A loader that feeds a device.
#[derive(Debug, Serialize)]
struct FedReport {
    device: String,
    step_ms: f64,
    images_per_second: f64,
    /// Of what the loader does alone.
    share: f64,
}

pub(super) fn run(command: BenchCommand, global: GlobalArgs, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Step(args) => network(&args, true, global, output)?,
        BenchCommand::Infer(args) => network(&args, false, global, output)?,
        BenchCommand::Loader(args) => loader(&args, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl WorkArgs {
    /// The recipe with what the flags change.
    fn recipe(&self) -> anyhow::Result<Recipe> {
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            return Err(
                UsageError(format!("`--seconds` is {}, and must be above 0 and at most 3600", self.seconds)).into()
            );
        }
        let mut recipe = recipe::load(&self.config, &self.set)?.recipe;
        recipe.data.batch_size = self.batch_size.unwrap_or(32) as usize;
        if let Some(image_size) = self.image_size {
            recipe.data.image_size = image_size;
            recipe.data.train.iter_mut().for_each(Transform::clear_size);
        }
        Ok(recipe)
    }
}

fn network(args: &NetworkArgs, training: bool, global: GlobalArgs, output: &Output) -> anyhow::Result<()> {
    let mut recipe = args.work.recipe()?;
    recipe.model.width = args.width.unwrap_or(recipe.model.width);
    if let Some(weights) = &args.weights {
        let hints = Hints { key: args.key.clone(), ..Hints::default() };
        let opened = FoundModel::read(&locate(weights.clone(), global, output)?)?.open(hints)?;
        tell_notes(&opened, output);
        let ModelCard { variant, width, stem_stride, classes, image_size, .. } = opened.file.card;
        let num_classes = Some(classes.len());
        recipe.model = recipe::Model { variant, width, stem_stride, num_classes, ..recipe.model };
        recipe.data.image_size = args.work.image_size.unwrap_or(image_size);
    }
    if !(recipe.model.width > 0.0 && recipe.model.width <= 10.0) {
        return Err(
            UsageError(format!("`--width` is {}, and must be above 0 and at most 10", recipe.model.width)).into()
        );
    }
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .context("cannot start the threads")?;
    }
    let chosen = device::choose(args.device.device)?;
    if let Some(note) = chosen.note.as_ref() {
        output.line(note);
    }
    let work = Work {
        network: recipe.model.network(recipe.model.num_classes.unwrap_or(1000)),
        image_size: recipe.data.image_size as usize,
        batch_size: recipe.data.batch_size,
        checkpoint_activations: recipe.train.checkpoint_activations,
        precision: recipe.train.precision,
    };
    let layers = work.network.layers(work.image_size, work.image_size);
    let least = work.network.least_image_side();
    if work.image_size < least {
        let message = format!("`--image-size` is {}, and must be {least} or more for this network", work.image_size);
        return Err(UsageError(message).into());
    }
    let normed = layers.iter().filter(|layer| layer.has_norm());
    let pixels = normed.map(|layer| layer.output[1] * layer.output[2]).min().unwrap_or(1);
    if training && work.batch_size * pixels < 2 {
        let message = "`--batch-size` is 1, and batch norm cannot train on one value for each channel";
        return Err(UsageError(message.to_string()).into());
    }
    let seconds = args.work.seconds;
    let report = chosen.run(|| {
        let timing = match training {
            true => work.step(plan::optimizer(&recipe.optimizer), &chosen.device, seconds)?,
            false => work.infer(&chosen.device, seconds),
        };
        // Before the floors, whose buffers are none of the network's.
        let (peak_memory_bytes, device_memory_bytes) = (bench::peak_memory_bytes(), chosen.memory_bytes());
        Ok(NetworkReport {
            work: if training { "step" } else { "infer" },
            kernels: device::kernels(&chosen.device),
            threads: rayon::current_num_threads(),
            variant: recipe.model.variant,
            width: recipe.model.width,
            image_size: work.image_size,
            batch_size: work.batch_size,
            precision: if training { work.precision } else { Precision::F32 },
            timing,
            peak_memory_bytes,
            device_memory_bytes,
            floors: work.floors(&chosen.device, training)?,
            layers: args.per_layer.then(|| work.layers(&chosen.device, training, seconds)).transpose()?,
            device: chosen.name.clone(),
        })
    })?;
    args.format.print(&report, network_text)
}

fn loader(args: &LoaderArgs, output: &Output) -> anyhow::Result<()> {
    if let Some(step_ms) = args.step_ms.filter(|step_ms| !(0.0..=60_000.0).contains(step_ms)) {
        return Err(UsageError(format!("`--step-ms` is {step_ms}, and must be between 0 and 60000")).into());
    }
    let mut recipe = args.work.recipe()?;
    if args.workers.is_some() {
        recipe.data.workers = args.workers.map(usize::from);
    }
    let data = plan::open_data(&mut recipe, args.data.data.clone())?;
    let workers = plan::workers(&recipe);
    let loader = plan::training_loader(&recipe, data.train)?;
    let (batch_size, seconds) = (recipe.data.batch_size, args.work.seconds);
    // A device that is not there is heard of before anything is timed.
    let chosen = args.step_ms.map(|_| device::choose(args.device.device)).transpose()?;
    let notes = chosen.iter().filter_map(|chosen| chosen.note.as_ref());
    notes.for_each(|note| output.line(note));
    let timing = bench::loader(&loader, batch_size, seconds, |_| Ok(()))?;
    let fed = match args.step_ms.zip(chosen) {
        Some((step_ms, chosen)) => {
            let (normalization, step) = (
                Normalization { mean: recipe.data.mean, std: recipe.data.std },
                Duration::from_secs_f64(step_ms / 1e3),
            );
            let work = |batch| bench::dummy_step(batch, &normalization, step, &chosen.device);
            let fed = chosen.run(|| bench::loader(&loader, batch_size, seconds, work))?;
            let (images_per_second, share) = (fed.images_per_second, fed.images_per_second / timing.images_per_second);
            Some(FedReport { device: chosen.name.clone(), step_ms, images_per_second, share })
        }
        None => None,
    };
    let report = LoaderReport {
        work: "loader",
        data: data.description,
        workers,
        image_size: recipe.data.image_size,
        batch_size,
        timing,
        fed,
        peak_memory_bytes: bench::peak_memory_bytes(),
    };
    args.format.print(&report, |report| {
        let LoaderReport { data, workers, image_size, batch_size, timing, fed, .. } = report;
        let Timing { images_per_second, repetitions, .. } = timing;
        let mut text = format!(
            "{images_per_second:.0} images/s: {data}, {image_size} x {image_size} pixels, {workers} workers; mean of \
             {repetitions} batches of {batch_size}"
        );
        if let Some(FedReport { device, step_ms, images_per_second, share }) = fed {
            let share = share * 100.0;
            let _ = write!(
                text,
                "\n{images_per_second:.0} images/s, {share:.0} % of that, into steps of {step_ms} ms on {device}"
            );
        }
        text
    })
}

fn network_text(report: &NetworkReport) -> String {
    let Timing { median_ms, min_ms, spread_ms, images_per_second, repetitions } = &report.timing;
    let Floors { gigaflops, gigabytes_per_second, arithmetic_floor_ms, bandwidth_floor_ms } = report.floors;
    let mut text = format!(
        "{}: {median_ms:.1} ms (quickest {min_ms:.1}, quartiles {spread_ms:.1} apart, {repetitions} repetitions), \
         {images_per_second:.1} images/s\n\
         {} {}x, {} images of {size} x {size} pixels, {}, {}, kernels {}, {} threads",
        report.work,
        report.variant.title(),
        report.width,
        report.batch_size,
        report.precision,
        report.device,
        report.kernels,
        report.threads,
        size = report.image_size,
    );
    if let Some(bytes) = report.peak_memory_bytes {
        let _ = write!(text, "\npeak memory {:.0} MB", bytes as f64 / 1e6);
    }
    if let Some(bytes) = report.device_memory_bytes {
        let _ = write!(text, "\ndevice memory {:.0} MB", bytes as f64 / 1e6);
    }
    let _ = write!(
        text,
        "\nfloors: arithmetic {arithmetic_floor_ms:.1} ms ({:.0} % of the time, at {gigaflops:.0} GFLOP/s), \
         bandwidth {bandwidth_floor_ms:.1} ms ({:.0} %, at {gigabytes_per_second:.0} GB/s)",
        arithmetic_floor_ms / median_ms * 100.0,
        bandwidth_floor_ms / median_ms * 100.0,
    );
    if let Some(layers) = &report.layers {
        let _ = write!(text, "\n\n{:12} {:>9} {:>9} {:>9} {:>11}", "part", "M madds", "MB", "forward", "backward ms");
        for LayerTiming { name, multiply_adds, bytes, forward_ms, backward_ms } in layers {
            let (madds, megabytes) = (*multiply_adds as f64 / 1e6, *bytes as f64 / 1e6);
            let backward = backward_ms.map(|ms| format!("{ms:.2}")).unwrap_or_default();
            let _ = write!(text, "\n{name:12} {madds:>9.1} {megabytes:>9.1} {forward_ms:>9.2} {backward:>11}");
        }
    }
    text
}

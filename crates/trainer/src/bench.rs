//! How fast this machine does the work: a training step, inference, loading images.
//!
//! A figure is a median over repetitions after a warm-up, with its spread. Beside it stand two floors measured in the same run:
//! the time that the multiply-adds take at the speed of a large matrix product, and the time that the activations take at the
//! speed of a copy if each is touched as few times as can be.

use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::{Device, Distribution, Tensor};
use ghostnet::{FoldedGhostNet, GhostBottleneck, GhostNet, GhostNetConfig, read_now};
use ghostnet_kernels::{FoldedGhostBottleneck, LinearTensors};
use imageset::{Batch, Loader};
use serde::Serialize;

use crate::batch::{self, Normalization};
use crate::device::is_cpu;
use crate::erase;
use crate::optimizer::Optimizer;
use crate::recipe::Precision;
use crate::step::{Measured, MicroBatch, StepSettings, Trainee, training_device};

/// Passes over the activations that a training step needs at least: each is written and read going forward; going back it is
/// read for its norm and for the weights' gradients, and its own gradient is written, and read for the norm, for the weights and
/// for what lies before. Inference writes and reads it.
const STEP_PASSES: f64 = 8.0;
const INFERENCE_PASSES: f64 = 2.0;

/// A network and what it is given.
#[derive(Debug, Clone)]
pub struct Work {
    /// The network.
    pub network: GhostNetConfig,
    /// Height and width, pixels.
    pub image_size: usize,
    /// Images at a time.
    pub batch_size: usize,
    /// Of training, see [`training_device`].
    pub checkpoint_activations: bool,
    /// Of training.
    pub precision: Precision,
}

/// Times of one repetition each; of training steps on a GPU, means of the few that it is given at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Half of the repetitions took less.
    pub median_ms: f64,
    /// The quickest.
    pub min_ms: f64,
    /// Between the first and the third quarter of the repetitions.
    pub spread_ms: f64,
    /// At the median.
    pub images_per_second: f64,
    /// How many were timed.
    pub repetitions: usize,
}

impl Timing {
    fn new(mut milliseconds: Vec<f64>, images: usize) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        let at = |share: f64| milliseconds[((milliseconds.len() - 1) as f64 * share).round() as usize];
        Self {
            median_ms: at(0.5),
            min_ms: at(0.0),
            spread_ms: at(0.75) - at(0.25),
            images_per_second: images as f64 / at(0.5) * 1e3,
            repetitions: milliseconds.len(),
        }
    }
}

/// What the machine does at its best.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Floors {
    /// Of a product of large matrices, in billions of multiplications and additions a second.
    pub gigaflops: f64,
    /// Read and written by a copy, in billions of bytes a second.
    pub gigabytes_per_second: f64,
    /// The work's multiply-adds at that speed.
    pub arithmetic_floor_ms: f64,
    /// The work's activations at that speed.
    pub bandwidth_floor_ms: f64,
}

/// A part of the network.
#[derive(Debug, Clone, Serialize)]
pub struct LayerTiming {
    /// As in `inspect`.
    pub name: String,
    /// Of the whole batch.
    pub multiply_adds: usize,
    /// Of the whole batch's activations.
    pub bytes: usize,
    /// Median.
    pub forward_ms: f64,
    /// Median; with the gradient of the output made of ones and brought into the kernels' layout. Absent in inference. On a GPU both times
    /// have in them what it takes to wait for it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backward_ms: Option<f64>,
}

/// Steps that a GPU is given between two looks at the clock: training does not wait for each either.
const STEPS_AT_A_TIME: usize = 5;

/// Where a step takes longer than this, waiting for each weighs nothing.
const LONG_STEP: Duration = Duration::from_secs(1);

/// Milliseconds of each repetition, for about `seconds` after a fifth of that as warm-up, and of at least five; of fewer if `work` says
/// `false`.
fn repeat(seconds: f64, mut work: impl FnMut() -> bool) -> Vec<f64> {
    let timed = |work: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        let goes_on = work();
        (start.elapsed().as_secs_f64() * 1e3, goes_on)
    };
    let start = Instant::now();
    let limit = |share: f64| Duration::from_secs_f64(seconds * share);
    for repetition in 0.. {
        if repetition >= 2 && start.elapsed() >= limit(0.2) {
            break;
        }
        timed(&mut work);
    }
    let mut milliseconds = Vec::new();
    let start = Instant::now();
    while milliseconds.len() < 5 || start.elapsed() < limit(1.0) {
        let (time, goes_on) = timed(&mut work);
        milliseconds.push(time);
        if !goes_on {
            break;
        }
    }
    milliseconds
}

impl Work {
    fn images(&self, device: &Device) -> Tensor<4> {
        let channels = self.network.in_channels;
        let dims = [self.batch_size, channels, self.image_size, self.image_size];
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), device)
    }

    /// Times whole training steps: forward, backward, gradient norm, update. `device` is without autodiff; a GPU is waited for once in
    /// some steps.
    pub fn step(&self, optimizer: Optimizer, device: &Device, seconds: f64) -> anyhow::Result<Timing> {
        self.precision.check(device)?;
        let is_waited_for = is_cpu(device);
        let device = training_device(device, self.checkpoint_activations);
        let trainee = Trainee::new(self.network.init(&device), optimizer).with_precision(self.precision);
        let mut trainee = Some(trainee);
        let images = self.images(&device);
        let targets =
            Tensor::full([self.batch_size, self.network.num_classes], 1.0 / self.network.num_classes as f64, &device);
        let mut failure = None;
        let mut some_steps = |steps: usize| {
            let taken = |mut trainee: Trainee| {
                let mut all = Vec::with_capacity(steps);
                for _ in 0..steps {
                    let batch = MicroBatch { images: images.clone(), targets: targets.clone(), teacher: None };
                    let settings = StepSettings { learning_rate: 1e-4, ..StepSettings::default() };
                    let (stepped, measured) = trainee.step(vec![batch], settings)?;
                    trainee = stepped;
                    all.push(measured);
                }
                Measured::read_all(all).map_err(|(_, error)| error).map(|_| trainee)
            };
            trainee = trainee.take().and_then(|trainee| match taken(trainee) {
                Ok(trainee) => Some(trainee),
                Err(error) => {
                    failure = Some(error);
                    None
                }
            });
            failure.is_none()
        };
        // The first one may compile and tune kernels.
        some_steps(1);
        let start = Instant::now();
        some_steps(1);
        let steps = if is_waited_for || start.elapsed() > LONG_STEP { 1 } else { STEPS_AT_A_TIME };
        let milliseconds = repeat(seconds, || some_steps(steps));
        match failure {
            Some(failure) => Err(failure).context("the network went astray on random images"),
            None => {
                let each = milliseconds.into_iter().map(|milliseconds| milliseconds / steps as f64).collect();
                Ok(Timing::new(each, self.batch_size))
            }
        }
    }

    /// Times inference, to the class scores in memory.
    pub fn infer(&self, device: &Device, seconds: f64) -> Timing {
        let model = self.network.init(device).fold();
        let images = self.images(device);
        let milliseconds = repeat(seconds, || {
            let _scores = read_now(model.forward(images.clone()));
            true
        });
        Timing::new(milliseconds, self.batch_size)
    }

    /// The floors of a training step, or of inference.
    ///
    /// # Errors
    /// If the device fails.
    pub fn floors(&self, device: &Device, training: bool) -> anyhow::Result<Floors> {
        let size = self.image_size;
        // Forward, and on the way back the gradients of inputs and of weights.
        let (products, passes) = if training { (3.0, STEP_PASSES) } else { (1.0, INFERENCE_PASSES) };
        let multiply_adds = (self.network.multiply_adds(size, size) * self.batch_size) as f64 * products;
        let values: usize =
            self.network.layers(size, size).iter().map(|layer| layer.output.iter().product::<usize>()).sum();
        let bytes = (values * self.batch_size * size_of::<f32>()) as f64 * passes;
        let (gigaflops, gigabytes_per_second) = (gigaflops(device)?, gigabytes_per_second(device)?);
        Ok(Floors {
            gigaflops,
            gigabytes_per_second,
            arithmetic_floor_ms: 2.0 * multiply_adds / gigaflops / 1e6,
            bandwidth_floor_ms: bytes / gigabytes_per_second / 1e6,
        })
    }

    /// Times the parts of the network one by one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn layers(&self, device: &Device, training: bool, seconds: f64) -> anyhow::Result<Vec<LayerTiming>> {
        let on_tape = if training { device.clone().autodiff() } else { device.clone() };
        let model: GhostNet = self.network.init(&on_tape);
        let parts = if training { training_parts(model) } else { folded_parts(model.fold()) };
        let counts = self.network.layers(self.image_size, self.image_size);
        let mut map = self.images(&on_tape);
        let share = seconds / parts.len() as f64;
        let mut timings = Vec::new();
        for Part { name, forward } in parts {
            // The images of the first part have no gradient, as in training.
            let input = if training && !timings.is_empty() { map.detach().require_grad() } else { map };
            let (mut forward_ms, mut backward_ms) = (Vec::new(), Vec::new());
            let start = Instant::now();
            let mut output = None;
            for repetition in 0.. {
                if repetition >= 5 && start.elapsed().as_secs_f64() > share {
                    break;
                }
                let at = Instant::now();
                let y = forward(input.clone());
                wait(device)?;
                let forward_time = at.elapsed().as_secs_f64() * 1e3;
                output = Some(y.clone());
                let at = Instant::now();
                if training {
                    let gradients = y.backward();
                    wait(device)?;
                    // Not before: what nobody holds need not be written by what runs fused.
                    drop(gradients);
                }
                // The first one warms up.
                if repetition > 0 {
                    forward_ms.push(forward_time);
                    backward_ms.push(at.elapsed().as_secs_f64() * 1e3);
                }
            }
            let of_part = || counts.iter().filter(|layer| layer.name.starts_with(&name));
            let values: usize = of_part().map(|layer| layer.output.iter().product::<usize>()).sum();
            timings.push(LayerTiming {
                multiply_adds: of_part().map(|layer| layer.multiply_adds).sum::<usize>() * self.batch_size,
                bytes: values * self.batch_size * size_of::<f32>(),
                forward_ms: Timing::new(forward_ms, 1).median_ms,
                backward_ms: training.then(|| Timing::new(backward_ms, 1).median_ms),
                name: name.trim_end_matches('.').to_string(),
            });
            map = match output {
                Some(output) => output,
                None => input,
            };
        }
        Ok(timings)
    }
}

/// A part of a network that takes a map and gives one.
struct Part {
    /// What the names of its layers start with.
    name: String,
    forward: Box<dyn Fn(Tensor<4>) -> Tensor<4>>,
}

impl Part {
    fn new(name: impl Into<String>, forward: impl Fn(Tensor<4>) -> Tensor<4> + 'static) -> Self {
        Self { name: name.into(), forward: Box::new(forward) }
    }

    /// The blocks of all stages.
    fn blocks<B: 'static>(
        stages: Vec<Vec<B>>,
        forward: impl Fn(&B, Tensor<4>) -> Tensor<4> + Copy + 'static,
    ) -> impl Iterator<Item = Self> {
        stages.into_iter().enumerate().flat_map(move |(stage, blocks)| {
            blocks
                .into_iter()
                .enumerate()
                .map(move |(index, block)| Self::new(format!("blocks.{stage}.{index}."), move |x| forward(&block, x)))
        })
    }
}

const STEM: &str = "conv_stem";
const LAST: &str = "blocks.9.0.";
/// With the pooling before it.
const HEAD: &str = "conv_head";
const CLASSIFIER: &str = "classifier";

fn training_parts(model: GhostNet) -> Vec<Part> {
    let mut parts = vec![Part::new(STEM, {
        let model = model.clone();
        move |x| model.forward_stem(x)
    })];
    parts.extend(Part::blocks(model.stages.clone(), GhostBottleneck::forward));
    let last = model.last.clone();
    parts.push(Part::new(LAST, move |x| last.forward_relu(x)));
    let head = model.clone();
    parts.push(Part::new(HEAD, move |x| head.forward_embedding(x).unsqueeze_dims(&[2, 3])));
    parts.push(Part::new(CLASSIFIER, move |x| model.forward_classifier(x.flatten(1, 3)).unsqueeze_dims(&[2, 3])));
    parts
}

fn folded_parts(model: FoldedGhostNet) -> Vec<Part> {
    let (stem, last, classifier) = (model.stem.clone(), model.last.clone(), model.classifier.clone());
    let mut parts = vec![Part::new(STEM, move |x| stem.forward(x))];
    parts.extend(Part::blocks(model.stages.clone(), FoldedGhostBottleneck::forward));
    parts.push(Part::new(LAST, move |x| last.forward(x)));
    parts.push(Part::new(HEAD, move |x| model.forward_embedding(x).unsqueeze_dims(&[2, 3])));
    parts.push(Part::new(CLASSIFIER, move |x| classifier.forward(x)));
    parts
}

/// Times whole epochs of a loader, batch by batch, with what is done to each.
pub fn loader(
    loader: &Loader,
    batch_size: usize,
    seconds: f64,
    mut work: impl FnMut(Batch) -> anyhow::Result<()>,
) -> anyhow::Result<Timing> {
    anyhow::ensure!(loader.batches_per_epoch() > 0, "there are fewer images than one batch has: {batch_size}");
    let mut milliseconds = Vec::new();
    let start = Instant::now();
    // The first two batches wait for the workers to start.
    let mut warm = 2;
    'epochs: for epoch in 0.. {
        let mut at = Instant::now();
        for batch in loader.epoch(epoch, 0) {
            let batch = batch?;
            let len = batch.len();
            work(batch)?;
            let elapsed = at.elapsed().as_secs_f64() * 1e3;
            at = Instant::now();
            if warm > 0 {
                warm -= 1;
            } else if len > 0 {
                milliseconds.push(elapsed * batch_size as f64 / len as f64);
            }
            if milliseconds.len() >= 5 && start.elapsed().as_secs_f64() >= seconds {
                break 'epochs;
            }
        }
    }
    // Batches come in bursts as workers finish them: only their mean says how many come in a second.
    let mean_ms = milliseconds.iter().sum::<f64>() / milliseconds.len() as f64;
    Ok(Timing { images_per_second: batch_size as f64 / mean_ms * 1e3, ..Timing::new(milliseconds, batch_size) })
}

/// Prepares a batch as for training, without mixing, and waits for a step that takes this long.
pub fn dummy_step(
    mut batch: Batch,
    normalization: &Normalization,
    step: Duration,
    device: &Device,
) -> anyhow::Result<()> {
    let erasures = std::mem::take(&mut batch.erasures);
    let images = erase::erase(batch::images(batch, normalization, device), &erasures);
    wait(device)?;
    std::thread::sleep(step);
    drop(images);
    Ok(())
}

fn wait(device: &Device) -> anyhow::Result<()> {
    device.sync().map_err(|error| anyhow::anyhow!("{error}")).context("the device did not finish its work")
}

/// The speed of a product of two matrices on the device, by the kernels where they are in use: of larger ones where a device is so quick
/// that smaller ones have fewer parts than it has units.
fn gigaflops(device: &Device) -> anyhow::Result<f64> {
    const LONG_MS: f64 = 5.0;
    let mut gigaflops: f64 = 0.0;
    for size in [1024_usize, 2048, 4096] {
        let matrix = || Tensor::<2>::random([size, size], Distribution::Normal(0.0, 1.0), device);
        let (x, weight) = (matrix(), matrix());
        let milliseconds = milliseconds_on_device(device, || {
            let linear = LinearTensors { weight: weight.clone(), weight_in_out: true, bias: None };
            ghostnet_kernels::linear(x.clone(), linear)
        })?;
        gigaflops = gigaflops.max(2.0 * (size * size * size) as f64 / milliseconds / 1e6);
        if milliseconds > LONG_MS {
            break;
        }
    }
    Ok(gigaflops)
}

/// The speed of a copy, read and write together, between buffers that no cache holds: by all threads, or by a GPU in its own memory.
fn gigabytes_per_second(device: &Device) -> anyhow::Result<f64> {
    const FLOATS: usize = 32 << 20;
    let milliseconds = if is_cpu(device) {
        let from = vec![1f32; FLOATS];
        let mut to = vec![0f32; FLOATS];
        let part = FLOATS.div_ceil(rayon::current_num_threads());
        let milliseconds = repeat(0.5, || {
            rayon::scope(|scope| {
                for (to, from) in to.chunks_mut(part).zip(from.chunks(part)) {
                    scope.spawn(|_| to.copy_from_slice(from));
                }
            });
            true
        });
        least(milliseconds)
    } else {
        let values = Tensor::<2>::ones([FLOATS >> 10, 1 << 10], device);
        milliseconds_on_device(device, || values.clone().add_scalar(1.0))?
    };
    Ok(2.0 * (FLOATS * size_of::<f32>()) as f64 / milliseconds / 1e6)
}

/// The least that an operation takes, where so many are handed to the device at a time that waiting for it weighs little.
fn milliseconds_on_device(device: &Device, operation: impl Fn() -> Tensor<2>) -> anyhow::Result<f64> {
    const MILLISECONDS_AT_A_TIME: f64 = 20.0;
    const MOST_AT_A_TIME: f64 = 200.0;
    // Of one operation among so many.
    let mean_ms = |count: usize| -> anyhow::Result<f64> {
        let start = Instant::now();
        for _ in 0..count {
            let result = operation();
            // Not held until it is on its way, it would be computed in one go with the next, and not be written.
            device.flush().map_err(|error| anyhow::anyhow!("{error}")).context("the device did not take its work")?;
            drop(result);
        }
        wait(device)?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / count as f64)
    };
    let fitting = |milliseconds: f64| (MILLISECONDS_AT_A_TIME / milliseconds).clamp(1.0, MOST_AT_A_TIME) as usize;
    // The first one may be compiled and tuned; the time of a single one is mostly waiting if it is short.
    mean_ms(1)?;
    let count = fitting(mean_ms(fitting(mean_ms(1)?))?);
    let mut failure = None;
    let milliseconds = repeat(0.5, || match mean_ms(count) {
        Ok(_) => true,
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    failure.map_or(Ok(least(milliseconds) / count as f64), Err)
}

fn least(milliseconds: Vec<f64>) -> f64 {
    milliseconds.into_iter().fold(f64::INFINITY, f64::min)
}

/// The most memory that the process has held, in bytes, where the system says so.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
